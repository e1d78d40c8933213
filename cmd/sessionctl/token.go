package main

import (
	"crypto/sha256"
	"encoding/hex"

	cookies "github.com/typedsessions/sessions/internal/cookie"
	"github.com/typedsessions/sessions/internal/keys"
	"github.com/typedsessions/sessions/internal/wire"
)

// A format is a format of cookies in docs/FORMAT.md, with the bounds of its size.
type format struct {
	first       wire.Format
	least, most int // bytes
}

var formats = []format{
	{wire.Signed, wire.LeastSigned, wire.DecodedSize(cookies.MaxSize)},
	{wire.Sealed, wire.LeastSealed, wire.DecodedSize(cookies.MaxSize)},
	{wire.SignedID, wire.IDSize, wire.IDSize},
}

func formatOf(token []byte) (format, bool) {
	for _, f := range formats {
		if len(token) > 0 && token[0] == f.first {
			return f, true
		}
	}
	return format{}, false
}

// A session is the content of a cookie. In store mode, a cookie has only Created,
// Expires and the id.
type session struct {
	wire.Body
	id string // the public id

	content []byte // extensions, flashes and data
	err     error  // why these cannot be read
}

// verify returns the session in a token of the format if the token was made with
// the only key of the ring for a cookie with the name.
func (f format) verify(ring *keys.Ring, name string, token []byte) (*session, bool) {
	mode := keys.CookieMode
	if f.first == wire.SignedID {
		mode = keys.StoreMode
	}
	signer := ring.Signer(mode, name, f.first)
	var body []byte
	var ok bool
	if f.first == wire.Sealed {
		body, _, ok = signer.Open(nil, token, nil)
	} else {
		body, _, ok = signer.Verify(signer.Scratch(), token)
	}
	switch {
	case !ok:
		return nil, false
	case f.first == wire.SignedID:
		id := sha256.Sum256(body[10:])
		s := &session{id: hex.EncodeToString(id[:])}
		s.Created, s.Expires = wire.Time(body), wire.Time(body[5:])
		return s, true
	}
	return readSession(body), true
}

// unverified returns the session in a signed token without verifying the token.
func unverified(token []byte) *session {
	return readSession(token[keys.PrefixSize : len(token)-keys.MACSize])
}

func readSession(body []byte) *session {
	b, err := wire.ReadBody(body)
	s := &session{Body: b, content: body[wire.HeaderSize:], err: err}
	s.id = hex.EncodeToString(s.Body.ID[:])
	return s
}
