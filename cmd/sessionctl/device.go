package main

import (
	"fmt"

	"github.com/typedsessions/sessions/internal/wire"
)

// The sizes of what package dbsc keeps of a device, see "Format" in docs/DBSC.md.
const (
	offeredSize = 1 + 5
	keySize     = offeredSize + 33
)

// deviceWords describes how far a session is bound to its device, and to which key.
func deviceWords(b []byte, now int64) (binding, key string) {
	var meaning string
	switch {
	case len(b) == offeredSize && b[0] == 1:
		return "offered " + at(wire.Time(b[1:]), now) + ": its browser was asked to bind it", ""
	case len(b) == keySize && b[0] == 2:
		binding, meaning = "registered ", ": its browser has made a key, and has not come with a bound cookie yet"
	case len(b) == keySize && b[0] == 3:
		binding, meaning = "bound ", ": it is worth nothing without a bound cookie"
	default:
		return fmt.Sprintf("%d bytes that are not known here: package dbsc refuses the session", len(b)), ""
	}
	return binding + at(wire.Time(b[1:]), now) + meaning, fmt.Sprintf("with the key %x", b[offeredSize:])
}

// isBoundCookie reports whether a token is a bound cookie of package dbsc.
func isBoundCookie(token []byte) bool { return len(token) == 42 && token[0] == 0x23 }
