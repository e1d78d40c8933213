// Package wire has the bytes of cookies and records, which docs/FORMAT.md
// describes. It deals with their layout only: package keys authenticates them,
// and package codec reads the data in them.
package wire

import (
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/typedsessions/sessions/internal/keys"
)

// A Format is the first byte of a value or a record.
type Format = byte

const (
	Signed       Format = 0x01 // the session in the cookie, signed
	Sealed       Format = 0x02 // the session in the cookie, sealed
	SignedID     Format = 0x03 // the id of a session in a store, signed
	Record       Format = 0x11 // a record as it is
	SealedRecord Format = 0x12
	Tombstone    Format = 0x13 // of an id that another has replaced
)

// Sizes, in bytes.
const (
	HeaderSize = 5 + 5 + 5 + 4 + 2 + 4 + 16
	IDSize     = keys.PrefixSize + 5 + 5 + 32 + keys.MACSize // of a signed id
)

// The least bytes of a value of each format: no extensions, the empty list of
// messages and an empty map follow the header.
const (
	LeastSigned       = keys.PrefixSize + HeaderSize + 3 + keys.MACSize
	LeastSealed       = keys.PrefixSize + keys.NonceSize + HeaderSize + 3 + keys.TagSize
	leastRecord       = 1 + HeaderSize
	leastSealedRecord = keys.PrefixSize + keys.NonceSize + HeaderSize + keys.TagSize
)

// MaxTime is the latest time that five bytes hold: the year 36812.
const MaxTime = 1<<40 - 1

// A Header is the fixed part of a body, but for the id. Times are seconds since
// 1970.
type Header struct {
	Created  int64
	Used     int64
	Expires  int64
	Lifetime uint32 // that SetLifetime gave, in seconds; 0 if it was never called
	Shape    uint32
	Schema   uint16
}

// append appends the header to b.
func (h *Header) append(b []byte, id [16]byte) []byte {
	b = AppendTime(AppendTime(AppendTime(b, h.Created), h.Used), h.Expires)
	b = binary.BigEndian.AppendUint32(b, h.Lifetime)
	b = binary.BigEndian.AppendUint16(b, h.Schema)
	b = binary.BigEndian.AppendUint32(b, h.Shape)
	return append(b, id[:]...)
}

// ParseHeader reads the header of a body of at least HeaderSize bytes.
func ParseHeader(b []byte) Header {
	return Header{
		Created:  Time(b),
		Used:     Time(b[5:]),
		Expires:  Time(b[10:]),
		Lifetime: binary.BigEndian.Uint32(b[15:]),
		Schema:   binary.BigEndian.Uint16(b[19:]),
		Shape:    binary.BigEndian.Uint32(b[21:]),
	}
}

// BodyID returns the id in a body of at least HeaderSize bytes.
func BodyID(b []byte) [16]byte { return [16]byte(b[25:]) }

// SetUsed changes the time of the last use in the header that begins at b.
func SetUsed(b []byte, t int64) { AppendTime(b[5:5], t) }

// AppendTime appends a time in five bytes. A time out of their range is clamped.
func AppendTime(b []byte, t int64) []byte {
	t = min(max(t, 0), MaxTime)
	return append(b, byte(t>>32), byte(t>>24), byte(t>>16), byte(t>>8), byte(t))
}

// Time reads what AppendTime wrote.
func Time(b []byte) int64 { return int64(b[0])<<32 | int64(binary.BigEndian.Uint32(b[1:])) }

// EndOf returns the second in which something that lasts d from now ends,
// rounded up.
func EndOf(now time.Time, d time.Duration) int64 {
	end := now.Add(d)
	seconds := end.Unix()
	if end.Nanosecond() > 0 {
		seconds++
	}
	return min(seconds, MaxTime)
}

var token = base64.RawURLEncoding.Strict()

// EncodedSize returns how many characters a token of n bytes takes in a cookie.
func EncodedSize(n int) int { return token.EncodedLen(n) }

// DecodedSize returns the most bytes that n characters of a cookie hold.
func DecodedSize(n int) int { return token.DecodedLen(n) }

// AppendToken appends the bytes that a cookie's value encodes. It reports whether
// the value is their canonical spelling: base64url without padding, stray bits
// and line breaks.
func AppendToken(b []byte, value string) ([]byte, bool) {
	start := len(b)
	b, err := token.AppendDecode(b, []byte(value))
	return b, err == nil && token.EncodedLen(len(b)-start) == len(value)
}
