// Package msgp has the functions of github.com/tinylib/msgp/msgp that the generated
// code of the rolling deployment calls. So this module does not require another one
// for a test.
package msgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// The most bytes that a value takes, without those of a string.
const (
	IntSize          = 9
	StringPrefixSize = 5
	TimeSize         = 15
)

var errMalformed = errors.New("malformed MessagePack")

// WrapError adds the path of a field to err.
func WrapError(err error, path ...any) error { return fmt.Errorf("%v: %w", path, err) }

// Require makes room for n bytes.
func Require(b []byte, n int) []byte {
	return append(b, make([]byte, n)...)[:len(b)]
}

// AppendInt appends an integer.
func AppendInt(b []byte, n int) []byte {
	if n >= 0 && n < 128 {
		return append(b, byte(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(n))
}

// AppendString appends a string of less than 32 bytes.
func AppendString(b []byte, s string) []byte {
	return append(append(b, 0xa0|byte(len(s))), s...)
}

// AppendTime appends a time as the extension 5 of msgp.
func AppendTime(b []byte, t time.Time) []byte {
	b = binary.BigEndian.AppendUint64(append(b, 0xc7, 12, 5), uint64(t.Unix()))
	return binary.BigEndian.AppendUint32(b, uint32(t.Nanosecond()))
}

// cut splits b after n bytes.
func cut(b []byte, n int) (head, rest []byte, err error) {
	if len(b) < n {
		return nil, b, errMalformed
	}
	return b[:n], b[n:], nil
}

// ReadMapHeaderBytes reads the size of a map of less than 16 pairs.
func ReadMapHeaderBytes(b []byte) (n uint32, rest []byte, err error) {
	head, rest, err := cut(b, 1)
	if err != nil || head[0]&0xf0 != 0x80 {
		return 0, b, errMalformed
	}
	return uint32(head[0] & 0x0f), rest, nil
}

// ReadMapKeyZC reads a string of less than 32 bytes, without a copy.
func ReadMapKeyZC(b []byte) (key, rest []byte, err error) {
	head, rest, err := cut(b, 1)
	if err != nil || head[0]&0xe0 != 0xa0 {
		return nil, b, errMalformed
	}
	return cut(rest, int(head[0]&0x1f))
}

// UnsafeString returns b as a string.
func UnsafeString(b []byte) string { return string(b) }

// ReadStringBytes reads a string of less than 32 bytes.
func ReadStringBytes(b []byte) (s string, rest []byte, err error) {
	key, rest, err := ReadMapKeyZC(b)
	return string(key), rest, err
}

// ReadIntBytes reads an integer.
func ReadIntBytes(b []byte) (n int, rest []byte, err error) {
	head, rest, err := cut(b, 1)
	if err != nil {
		return 0, b, err
	}
	if head[0] < 128 {
		return int(head[0]), rest, nil
	}
	if head[0] != 0xd3 {
		return 0, b, errMalformed
	}
	head, rest, err = cut(rest, 8)
	if err != nil {
		return 0, b, err
	}
	return int(binary.BigEndian.Uint64(head)), rest, nil
}

// ReadTimeBytes reads a time.
func ReadTimeBytes(b []byte) (t time.Time, rest []byte, err error) {
	head, rest, err := cut(b, TimeSize)
	if err != nil || head[0] != 0xc7 || head[1] != 12 || head[2] != 5 {
		return time.Time{}, b, errMalformed
	}
	return time.Unix(int64(binary.BigEndian.Uint64(head[3:])), int64(binary.BigEndian.Uint32(head[11:]))), rest, nil
}

// Skip skips a value of those that this package writes.
func Skip(b []byte) (rest []byte, err error) {
	switch {
	case len(b) == 0:
		return b, errMalformed
	case b[0] == 0xc7:
		_, rest, err = cut(b, TimeSize)
	case b[0]&0xe0 == 0xa0:
		_, rest, err = ReadMapKeyZC(b)
	default:
		_, rest, err = ReadIntBytes(b)
	}
	return rest, err
}
