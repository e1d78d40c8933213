package dbsc

import (
	"encoding/base64"
	"sync/atomic"
	"time"

	"github.com/typedsessions/sessions/internal/keys"
	"github.com/typedsessions/sessions/internal/seam"
	"github.com/typedsessions/sessions/internal/wire"
)

// A kind is the first byte of a token, which says what it is for.
type kind byte

const (
	registerChallenge kind = 0x21 // for the session with an id
	refreshChallenge  kind = 0x22 // for the holder of a key
	boundCookie       kind = 0x23 // the same
)

// A token is kind 1 ‖ key id 4 ‖ end 5 ‖ HMAC-SHA-256 over these and the subject,
// which is not a part of it: the id or the key that the token is for.
const (
	tokenHead = keys.PrefixSize + 5
	tokenSize = tokenHead + keys.MACSize
)

// A verdict says what a token is worth.
type verdict uint8

const (
	missing verdict = iota // there is none
	foreign                // it is not authentic, or for another subject
	ended
	good
)

// A mint makes and checks tokens. It keeps none, so that any process with the
// ring checks those of all others. It is safe for concurrent use.
type mint struct {
	site   *seam.Site
	signer atomic.Pointer[keys.Signer]
}

func (m *mint) current() *keys.Signer {
	ring := m.site.Ring.Load()
	s := m.signer.Load()
	if s == nil || s.Ring != ring {
		s = ring.DeviceSigner(m.site.Mode, m.site.Cookie.Name)
		m.signer.Store(s)
	}
	return s
}

// make returns the bytes of a token.
func (m *mint) make(k kind, end time.Time, subject []byte) []byte {
	signer := m.current()
	c := signer.Scratch()
	defer signer.Put(c)
	c.Buf = wire.AppendTime(signer.AppendPrefix(c.Buf[:0], byte(k)), wire.EndOf(end, 0))
	head := len(c.Buf)
	c.Buf = signer.AppendMAC(c, append(c.Buf, subject...))
	return append(append(make([]byte, 0, tokenSize), c.Buf[:head]...), c.Buf[head+len(subject):]...)
}

// challenge returns a token as it is sent.
func (m *mint) challenge(k kind, lasting time.Duration, subject []byte) string {
	return base64.RawURLEncoding.EncodeToString(m.make(k, time.Now().Add(lasting), subject))
}

// check says what the token is worth that value spells. It allocates nothing
// (BenchmarkBound).
func (m *mint) check(k kind, value string, subject []byte, now time.Time) verdict {
	if len(value) != base64.RawURLEncoding.EncodedLen(tokenSize) {
		return foreign
	}
	signer := m.current()
	c := signer.Scratch()
	defer signer.Put(c)
	b, ok := wire.AppendToken(c.Buf[:0], value)
	if c.Buf = b; !ok || kind(b[0]) != k {
		return foreign
	}
	var mac [keys.MACSize]byte
	copy(mac[:], b[tokenHead:])
	c.Buf = append(append(b[:tokenHead], subject...), mac[:]...)
	body, _, ok := signer.Verify(c, c.Buf)
	switch {
	case !ok:
		return foreign
	case wire.Time(body) <= now.Unix():
		return ended
	}
	return good
}
