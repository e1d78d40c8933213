package sessions

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
)

// A Keyring signs and seals sessions with the newest of its secrets and accepts
// those made with any of them, so that a secret can be replaced without signing
// anybody out. It is safe for concurrent use, also with Replace; its copies are
// the same ring. It prints the ids of its keys, never a secret.
//
// One ring may serve any number of Managers. Each derives keys of its own from
// it, by the mode and the cookie's name, and refuses a value that was made for
// another. Give each Manager a Config.Cookie.Name of its own: T is not part of
// a key, and two of the same name and mode take each other's cookies for their
// own, even if one is for administrators and the other for everybody.
type Keyring struct {
	current *atomic.Pointer[ring] // one step away, so that no copy of a Keyring can print it
}

// Limits of a ring.
const (
	minSecret  = 32 // bytes; HMAC-SHA-256 and AES-256 keys are derived from it
	maxSecrets = 16
	minVariety = 8 // different byte values in a secret: random ones have about 30
)

// makeSecret is the mend where a secret is not one.
const makeSecret = `NewSecret or "openssl rand -base64 32" makes one`

// NewKeyring makes a ring of secrets, the newest first, such as [NewSecret]
// returns. It copies them. It refuses fewer than one or more than 16, one of
// fewer than 32 bytes, one that is plainly not random, and the same twice.
func NewKeyring(secrets ...[]byte) (*Keyring, error) {
	r, err := newRing(secrets)
	if err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	k := &Keyring{current: new(atomic.Pointer[ring])}
	k.current.Store(r)
	return k, nil
}

// ParseKeyring makes a ring of a comma-separated list of secrets in base64, the
// newest first, as fits an environment variable; "openssl rand -base64 32" prints
// one. Both alphabets of base64 are understood, padded or not, with blanks
// around the commas. Its errors are those of [NewKeyring]; none shows a secret.
func ParseKeyring(s string) (*Keyring, error) {
	if strings.TrimSpace(s) == "" {
		return nil, errors.New("sessions: the list of secrets is empty; " + makeSecret)
	}
	var secrets [][]byte
	for i, part := range strings.Split(s, ",") {
		part = strings.TrimRight(strings.TrimSpace(part), "=")
		part = strings.NewReplacer("-", "+", "_", "/").Replace(part)
		secret, err := base64.RawStdEncoding.DecodeString(part)
		if err != nil || strings.ContainsAny(part, "\r\n") {
			return nil, fmt.Errorf("sessions: secret %d of the list is not base64; %s", i+1, makeSecret)
		}
		secrets = append(secrets, secret)
	}
	return NewKeyring(secrets...)
}

// Replace puts new secrets in the place of the old ones, the newest first, for
// every Manager that uses the ring, from the next request on. If it returns an
// error (see [NewKeyring]) the old ones stay in force.
//
// To introduce a secret where several processes share sessions, first add it
// behind the current one everywhere, then move it to the front, and drop the old
// one after Config.Lifetime, or the longest that SetLifetime gave.
func (k *Keyring) Replace(secrets ...[]byte) error {
	if k == nil || k.current == nil {
		return errors.New("sessions: Replace of a Keyring that NewKeyring did not make")
	}
	r, err := newRing(secrets)
	if err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	k.current.Store(r)
	return nil
}

// NewSecret returns 32 bytes from crypto/rand.
func NewSecret() []byte {
	secret := make([]byte, minSecret)
	_, _ = rand.Read(secret) // never fails: it ends the process instead
	return secret
}

func (k Keyring) ring() *ring {
	if k.current == nil {
		return nil
	}
	return k.current.Load()
}

func (k Keyring) summary() string {
	r := k.ring()
	if r == nil {
		return "Keyring(empty)"
	}
	ids := make([]string, len(r.secrets))
	for i, s := range r.secrets {
		ids[i] = hex.EncodeToString(s.id[:])
	}
	return fmt.Sprintf("Keyring(%s)", strings.Join(ids, " "))
}

// Format prints the ids of the keys, newest first, under every verb.
func (k Keyring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.summary()) }

// LogValue logs the ids of the keys.
func (k Keyring) LogValue() slog.Value { return slog.StringValue(k.summary()) }

// MarshalText, for JSON, gives the ids of the keys.
func (k Keyring) MarshalText() ([]byte, error) { return []byte(k.summary()), nil }

// A ring is one state of a Keyring. It is immutable.
type ring struct {
	secrets []ringSecret // newest first
}

type ringSecret struct {
	id  keyID
	prk []byte // HKDF-Extract of the secret, which itself is not kept
}

// A keyID tells a verifier which keys to try, so that the cost of a forged
// cookie does not grow with the ring. It is no secret.
type keyID [4]byte

func newRing(secrets [][]byte) (*ring, error) {
	if len(secrets) == 0 {
		return nil, errors.New("a key ring needs at least one secret; NewSecret makes one")
	}
	if len(secrets) > maxSecrets {
		return nil, fmt.Errorf("a key ring of %d secrets, need at most %d; drop the oldest", len(secrets), maxSecrets)
	}
	r := &ring{}
	for i, secret := range secrets {
		if len(secret) < minSecret {
			return nil, fmt.Errorf("secret %d has %d bytes, need at least %d; %s", i+1, len(secret), minSecret, makeSecret)
		}
		var seen [256]bool
		variety := 0
		for _, c := range secret {
			if !seen[c] {
				seen[c] = true
				variety++
			}
		}
		if variety < minVariety {
			return nil, fmt.Errorf("secret %d has only %d different bytes, which no random one has; %s", i+1, variety, makeSecret)
		}
		for j := range i {
			if bytes.Equal(secret, secrets[j]) {
				return nil, fmt.Errorf("secrets %d and %d are the same", j+1, i+1)
			}
		}
		prk, err := hkdf.Extract(sha256.New, secret, nil)
		if err != nil {
			return nil, fmt.Errorf("secret %d: %v", i+1, err)
		}
		r.secrets = append(r.secrets, ringSecret{id: keyID(expand(prk, "key id", len(keyID{}))), prk: prk})
	}
	return r, nil
}

// expand derives a key for one purpose (RFC 5869). Its errors are those of
// lengths that no caller asks for.
func expand(prk []byte, info string, length int) []byte {
	key, err := hkdf.Expand(sha256.New, prk, "typedsessions v1\x00"+info, length)
	if err != nil {
		panic(err)
	}
	return key
}

// The first byte of what is signed or sealed.
const (
	formatSigned       = 0x01 // the session in the cookie, signed
	formatSealed       = 0x02 // the session in the cookie, sealed
	formatID           = 0x03 // the id of a session in a Store, signed
	formatRecord       = 0x11 // a record as it is
	formatSealedRecord = 0x12
)

const (
	prefixSize = 1 + len(keyID{}) // format and key id
	macSize    = sha256.Size
	nonceSize  = 24
	tagSize    = 16
)

// A signer holds the keys that one Manager derived from one ring.
type signer struct {
	ring   *ring
	macs   []macKey   // for signed cookies and ids
	aead   []*sealKey // for sealed cookies, or sealed records
	starts []string   // how the values of cookies begin, by key
	pool   sync.Pool  // of *scratch
}

// A scratch is what it takes to read or to make one value: room for its bytes,
// and an HMAC of each key of the ring. To set one up costs two blocks of
// SHA-256, as much as signing itself (BenchmarkLayers/sign).
type scratch struct {
	buf  []byte
	macs []hash.Hash // nil until it is needed
	sum  [macSize]byte
}

// scratch returns one from the pool. Nothing may keep a part of it that is put
// back: the next one who has it overwrites it.
func (s *signer) scratch() *scratch {
	if c, ok := s.pool.Get().(*scratch); ok {
		return c
	}
	return &scratch{macs: make([]hash.Hash, len(s.macs))}
}

func (s *signer) put(c *scratch) {
	if cap(c.buf) <= maxPooled {
		s.pool.Put(c)
	}
}

// newSigner derives the keys for a cookie name, whose values have the format,
// and a mode, which is "cookie" or "store". NUL cannot occur in a cookie's name,
// so the infos are unambiguous.
func newSigner(r *ring, mode, cookie string, format byte) *signer {
	s := &signer{ring: r}
	for _, secret := range r.secrets {
		s.macs = append(s.macs, macKey{secret.id, expand(secret.prk, "sign\x00"+mode+"\x00"+cookie, 32)})
		s.aead = append(s.aead, newSealKey(secret.id, expand(secret.prk, "seal\x00"+mode+"\x00"+cookie, 32)))
		start := canonical.EncodeToString(append([]byte{format}, secret.id[:]...))
		s.starts = append(s.starts, start[:prefixSize*8/6]) // the characters that the prefix alone decides
	}
	return s
}

// begins says whether a cookie's value begins as one of ours: before anything is
// decoded, the cost of what others have planted is that of a comparison.
func (s *signer) begins(value string) bool {
	for _, start := range s.starts {
		if strings.HasPrefix(value, start) {
			return true
		}
	}
	return false
}

// A macKey signs with HMAC-SHA-256.
type macKey struct {
	id  keyID
	key []byte
}

// mac returns the MAC of b under a key of the ring. It is a part of c.
func (s *signer) mac(c *scratch, key int, b []byte) []byte {
	h := c.macs[key]
	if h == nil {
		h = hmac.New(sha256.New, s.macs[key].key)
		c.macs[key] = h
	}
	h.Reset()
	_, _ = h.Write(b) // never fails
	return h.Sum(c.sum[:0])
}

// appendPrefix starts a value of the given format under the newest key.
func (s *signer) appendPrefix(b []byte, format byte) []byte {
	return append(append(b, format), s.macs[0].id[:]...)
}

// appendMAC signs all of b with the newest key.
func (s *signer) appendMAC(c *scratch, b []byte) []byte { return append(b, s.mac(c, 0, b)...) }

// verify returns what of b is signed, without prefix and MAC, and whether an
// older key than the newest did it. b has the right format and length.
func (s *signer) verify(c *scratch, b []byte) (body []byte, old, ok bool) {
	signed, mac := b[:len(b)-macSize], b[len(b)-macSize:]
	id := keyID(b[1:])
	for i := range s.macs {
		// Two secrets may share an id, once in four billion pairs: both are tried.
		if s.macs[i].id == id && hmac.Equal(s.mac(c, i, signed), mac) {
			return signed[prefixSize:], i > 0, true
		}
	}
	return nil, false, false
}

// A sealKey seals with XAES-256-GCM (https://c2sp.org/XAES-256-GCM): half of
// a nonce of 24 random bytes derives a key for this one message, the other half
// is the nonce under it. So 2^80 messages are safe under one secret, where
// AES-GCM alone allows 2^32 random nonces (NIST SP 800-38D, section 8.3).
type sealKey struct {
	id    keyID
	block cipher.Block
	k1    [aes.BlockSize]byte // the subkey of CMAC (NIST SP 800-38B)
}

func newSealKey(id keyID, key []byte) *sealKey {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the length is ours
	}
	k := &sealKey{id: id, block: block}
	block.Encrypt(k.k1[:], k.k1[:])
	msb := k.k1[0] >> 7
	for i := range k.k1 {
		k.k1[i] <<= 1
		if i+1 < len(k.k1) {
			k.k1[i] |= k.k1[i+1] >> 7
		}
	}
	k.k1[len(k.k1)-1] ^= msb * 0x87
	return k
}

// message returns the AEAD of the message whose nonce starts with n. It draws
// and prefixes the rest of the nonce itself, which is also the only way to use
// AES-GCM that FIPS 140-3 approves.
func (k *sealKey) message(n []byte) cipher.AEAD {
	var key [32]byte
	for i := range 2 {
		half := key[i*aes.BlockSize : (i+1)*aes.BlockSize]
		copy(half, []byte{0, byte(i + 1), 'X', 0})
		copy(half[4:], n)
		for j := range half {
			half[j] ^= k.k1[j]
		}
		k.block.Encrypt(half, half)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// appendSealed appends to b, whose end is the prefix of the value, the sealed
// form of body; id is bound to a record, nil for a cookie.
func (s *signer) appendSealed(b, body, id []byte) []byte {
	bound := boundTo(b[len(b)-prefixSize:], id)
	start := len(b)
	b = append(b, make([]byte, nonceSize/2)...)
	n := b[start:]
	_, _ = rand.Read(n) // never fails
	return s.aead[0].message(n).Seal(b, nil, body, bound)
}

// open appends to dst the body that b seals, and returns that alone. b has the
// right format and length.
func (s *signer) open(dst, b, id []byte) (body []byte, old, ok bool) {
	kid := keyID(b[1:])
	for i, k := range s.aead {
		if k.id != kid {
			continue
		}
		n, sealed := b[prefixSize:prefixSize+nonceSize/2], b[prefixSize+nonceSize/2:]
		all, err := k.message(n).Open(dst, nil, sealed, boundTo(b[:prefixSize], id))
		if err == nil {
			return all[len(dst):], i > 0, true
		}
	}
	return nil, false, false
}

// boundTo is what is authenticated with a sealed body.
func boundTo(prefix, id []byte) []byte {
	if id == nil {
		return prefix
	}
	return append(append(make([]byte, 0, prefixSize+len(ID{})), prefix...), id...)
}
