// Package inspect is how cmd/sessionctl opens cookies with the code that serves
// requests, and without a type of the session. Package sessions fills it in when
// it is initialized, so that it exports nothing for this.
package inspect

// Open makes keys of a list of secrets, as sessions.ParseKeyring reads it,
// newest first.
var Open func(secrets string) ([]Key, error)

// Formats are those of cookies.
var Formats []Format

// Canonical returns the bytes of a cookie's value, and whether the value is the
// one spelling of them that is accepted.
var Canonical func(value string) (token []byte, ok bool)

// Unverified reads the session in the token of a format that is only signed,
// without asking whether it is authentic. The token has at least Format.Least
// bytes.
var Unverified func(token []byte) Session

// A Format is one of docs/FORMAT.md.
type Format struct {
	First       byte
	Least, Most int // bytes
}

// A Key is one of the ring.
type Key struct {
	ID [4]byte

	// Verify returns the session in a token of the format, if this key made it
	// for a cookie of the name.
	Verify func(f Format, name string, token []byte) (Session, bool)
}

// A Session is what a cookie says of one. Of a cookie with an id that is
// Created, Expires and ID. Times are seconds since 1970.
type Session struct {
	Created, Used, Expires int64

	Lifetime uint32 // seconds, of SetLifetime; 0: none
	Schema   uint16
	ID       string // the public one

	Content []byte      // flashes and data
	Flashes [][2]string // kind and message
	Data    []byte      // msgpack; nil if the flashes cannot be read
	Err     error       // why not
}
