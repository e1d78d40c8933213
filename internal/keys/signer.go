package keys

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"strings"
	"sync"
)

// Sizes of the parts of a value, in bytes.
const (
	PrefixSize = 1 + len(ID{}) // format and key id
	MACSize    = sha256.Size
	NonceSize  = 24
	TagSize    = 16
)

// A Mode tells the keys of values that carry a session from those of values
// that carry the id of one in a store.
type Mode string

const (
	CookieMode Mode = "cookie"
	StoreMode  Mode = "store"
)

// A Signer has the keys that were derived from a ring for one mode and one
// cookie name. It is safe for concurrent use.
type Signer struct {
	Ring *Ring

	macs     []macKey   // for signed values
	seals    []*sealKey // for sealed values
	prefixes []string   // the characters that values of each key begin with
	pool     sync.Pool  // of *Scratch
}

// A macKey signs with HMAC-SHA-256.
type macKey struct {
	id  ID
	key []byte
}

// Signer derives the keys for a mode and a cookie name, for values of the given
// format. NUL cannot occur in a cookie's name, so the infos are unambiguous.
func (r *Ring) Signer(mode Mode, cookie string, format byte) *Signer {
	s := &Signer{Ring: r}
	use := "\x00" + string(mode) + "\x00" + cookie
	for _, secret := range r.secrets {
		s.macs = append(s.macs, macKey{secret.id, expand(secret.prk, "sign"+use, 32)})
		s.seals = append(s.seals, newSealKey(secret.id, expand(secret.prk, "seal"+use, 32)))
		prefix := base64.RawURLEncoding.EncodeToString(append([]byte{format}, secret.id[:]...))
		s.prefixes = append(s.prefixes, prefix[:PrefixSize*8/6]) // the characters that the prefix alone decides
	}
	return s
}

// DeviceSigner derives the keys of package dbsc for a mode and a cookie name. The
// signer signs only: it cannot seal, and knows no prefixes.
func (r *Ring) DeviceSigner(mode Mode, cookie string) *Signer {
	s := &Signer{Ring: r}
	for _, secret := range r.secrets {
		s.macs = append(s.macs, macKey{secret.id, expand(secret.prk, "dbsc\x00"+string(mode)+"\x00"+cookie, 32)})
	}
	return s
}

// HasKnownPrefix reports whether a value begins as a key of the ring begins its
// values. A value that a stranger has planted costs no more than a comparison,
// since nothing is decoded before.
func (s *Signer) HasKnownPrefix(value string) bool {
	for _, prefix := range s.prefixes {
		if strings.HasPrefix(value, prefix) {
			return true
		}
	}
	return false
}

// A Scratch is what it takes to read or to make one value: room for its bytes,
// and an HMAC of each key of the ring. To set one up costs two blocks of
// SHA-256, as much as signing itself (BenchmarkLayers/sign).
type Scratch struct {
	Buf []byte

	macs []hash.Hash // nil until it is needed
	sum  [MACSize]byte
}

// maxPooled keeps one large value from holding its memory for ever.
const maxPooled = 64 << 10

// Scratch returns a Scratch from the pool. Give it back by Put. Nothing may keep
// a part of one that was given back: the next user overwrites it.
func (s *Signer) Scratch() *Scratch {
	if c, ok := s.pool.Get().(*Scratch); ok {
		return c
	}
	return &Scratch{macs: make([]hash.Hash, len(s.macs))}
}

// Put gives c back to the pool.
func (s *Signer) Put(c *Scratch) {
	if cap(c.Buf) <= maxPooled {
		s.pool.Put(c)
	}
}

// AppendPrefix begins a value of the format under the newest key.
func (s *Signer) AppendPrefix(b []byte, format byte) []byte {
	return append(append(b, format), s.macs[0].id[:]...)
}

// AppendMAC signs all of b with the newest key.
func (s *Signer) AppendMAC(c *Scratch, b []byte) []byte { return append(b, s.mac(c, 0, b)...) }

// Verify returns the signed part of b, without prefix and MAC. It reports whether
// b is authentic, and whether a key older than the newest has signed it. b has the
// format and at least the length of a signed value.
func (s *Signer) Verify(c *Scratch, b []byte) (body []byte, old, ok bool) {
	signed, mac := b[:len(b)-MACSize], b[len(b)-MACSize:]
	id := ID(b[1:])
	for i := range s.macs {
		// Two secrets may share an id, once in four billion pairs: both are tried.
		if s.macs[i].id == id && hmac.Equal(s.mac(c, i, signed), mac) {
			return signed[PrefixSize:], i > 0, true
		}
	}
	return nil, false, false
}

// mac returns the MAC of b under a key of the ring. It is a part of c.
func (s *Signer) mac(c *Scratch, key int, b []byte) []byte {
	h := c.macs[key]
	if h == nil {
		h = hmac.New(sha256.New, s.macs[key].key)
		c.macs[key] = h
	}
	h.Reset()
	_, _ = h.Write(b) // never fails
	return h.Sum(c.sum[:0])
}

// AppendSealed appends to b, which ends with the prefix of the value, the sealed
// form of body. It binds the value to id, which is nil for a cookie.
func (s *Signer) AppendSealed(b, body, id []byte) []byte {
	bound := boundTo(b[len(b)-PrefixSize:], id)
	start := len(b)
	b = append(b, make([]byte, NonceSize/2)...)
	n := b[start:]
	_, _ = rand.Read(n) // never fails
	return s.seals[0].message(n).Seal(b, nil, body, bound)
}

// Open appends to dst the body that b seals, and returns the body alone. It
// reports whether b is authentic, and whether a key older than the newest has
// sealed it. b has the format and at least the length of a sealed value.
func (s *Signer) Open(dst, b, id []byte) (body []byte, old, ok bool) {
	kid := ID(b[1:])
	for i, k := range s.seals {
		if k.id != kid {
			continue
		}
		n, sealed := b[PrefixSize:PrefixSize+NonceSize/2], b[PrefixSize+NonceSize/2:]
		all, err := k.message(n).Open(dst, nil, sealed, boundTo(b[:PrefixSize], id))
		if err == nil {
			return all[len(dst):], i > 0, true
		}
	}
	return nil, false, false
}

// boundTo returns what is authenticated with a sealed body.
func boundTo(prefix, id []byte) []byte {
	if id == nil {
		return prefix
	}
	return append(append(make([]byte, 0, len(prefix)+len(id)), prefix...), id...)
}
