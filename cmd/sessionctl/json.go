package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

var (
	errShort = errors.New("it is incomplete")
	errLong  = errors.New("there are bytes after it")
	errKey   = errors.New("a map key contains a key that is an array or a map, which no Go type has")
)

// maxDepth is the nesting depth up to which the library skips data.
const maxDepth = 100

// dataJSON returns a MessagePack map as JSON, with its fields in their order. Bytes
// are base64, times RFC 3339, and keys strings. It allocates in proportion to the
// length of b, whatever lengths b claims.
func dataJSON(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, errShort
	}
	if b[0]&0xf0 != 0x80 && b[0] != 0xde && b[0] != 0xdf {
		return nil, errors.New("it is not a map")
	}
	return wholeJSON(b)
}

func wholeJSON(b []byte) ([]byte, error) {
	r := &reader{in: b}
	r.value(0)
	switch {
	case r.err != nil:
		return nil, r.err
	case len(r.in) > 0:
		return nil, errLong
	}
	return r.out, nil
}

// A reader converts MessagePack to JSON.
type reader struct {
	in, out []byte
	inKey   bool
	err     error
}

// take returns the next n bytes. If there are fewer, it sets r.err and returns up
// to 8 zero bytes.
func (r *reader) take(n uint64) []byte {
	if r.err == nil && n > uint64(len(r.in)) {
		r.err = errShort
	}
	if r.err != nil {
		return make([]byte, min(n, 8))
	}
	b := r.in[:n]
	r.in = r.in[n:]
	return b
}

// number reads n bytes, at most 8.
func (r *reader) number(n int) uint64 {
	var b [8]byte
	copy(b[8-n:], r.take(uint64(n)))
	return binary.BigEndian.Uint64(b[:])
}

func (r *reader) value(depth int) {
	if depth > maxDepth {
		r.err = fmt.Errorf("it is nested more than %d levels deep", maxDepth)
	}
	c := byte(r.number(1))
	if r.err != nil {
		return
	}
	switch {
	case c <= 0x7f:
		r.out = strconv.AppendUint(r.out, uint64(c), 10)
	case c <= 0x8f:
		r.mapping(uint64(c&0x0f), depth)
	case c <= 0x9f:
		r.list(uint64(c&0x0f), depth)
	case c <= 0xbf:
		r.str(r.take(uint64(c & 0x1f)))
	case c >= 0xe0:
		r.out = strconv.AppendInt(r.out, int64(int8(c)), 10)
	case c == 0xc0:
		r.out = append(r.out, "null"...)
	case c == 0xc2, c == 0xc3:
		r.out = strconv.AppendBool(r.out, c == 0xc3)
	case c >= 0xc4 && c <= 0xc6:
		r.bytes(r.take(r.number(1 << (c - 0xc4))))
	case c >= 0xc7 && c <= 0xc9:
		r.extension(r.number(1 << (c - 0xc7)))
	case c == 0xca:
		r.float(float64(math.Float32frombits(uint32(r.number(4)))), 32)
	case c == 0xcb:
		r.float(math.Float64frombits(r.number(8)), 64)
	case c >= 0xcc && c <= 0xcf:
		r.out = strconv.AppendUint(r.out, r.number(1<<(c-0xcc)), 10)
	case c >= 0xd0 && c <= 0xd3:
		size := 1 << (c - 0xd0)
		shift := 64 - 8*size
		r.out = strconv.AppendInt(r.out, int64(r.number(size)<<shift)>>shift, 10)
	case c >= 0xd4 && c <= 0xd8:
		r.extension(1 << (c - 0xd4))
	case c >= 0xd9 && c <= 0xdb:
		r.str(r.take(r.number(1 << (c - 0xd9))))
	case c == 0xdc, c == 0xdd:
		r.list(r.number(2<<(c-0xdc)), depth)
	case c == 0xde, c == 0xdf:
		r.mapping(r.number(2<<(c-0xde)), depth)
	default:
		r.err = errors.New("it is not MessagePack")
	}
}

func (r *reader) list(n uint64, depth int) {
	r.out = append(r.out, '[')
	for i := uint64(0); i < n && r.err == nil; i++ {
		if i > 0 {
			r.out = append(r.out, ',')
		}
		r.value(depth + 1)
	}
	r.out = append(r.out, ']')
}

func (r *reader) mapping(n uint64, depth int) {
	r.out = append(r.out, '{')
	for i := uint64(0); i < n && r.err == nil; i++ {
		if i > 0 {
			r.out = append(r.out, ',')
		}
		r.key(depth + 1)
		r.out = append(r.out, ':')
		r.value(depth + 1)
	}
	r.out = append(r.out, '}')
}

// key writes a key, which is a string in JSON. Each level of strings in strings
// doubles the escapes, so that 300 bytes of maps as keys of maps would fill the
// memory. A key in a key must therefore be a plain value.
func (r *reader) key(depth int) {
	start, outermost := len(r.out), !r.inKey
	r.inKey = true
	r.value(depth)
	if outermost {
		r.inKey = false
	}
	key := string(r.out[start:])
	if r.err != nil || key[0] == '"' {
		return
	}
	if !outermost && (key[0] == '{' || key[0] == '[') {
		r.err = errKey
		return
	}
	r.out = appendString(r.out[:start], key)
}

func (r *reader) str(b []byte) { r.out = appendString(r.out, string(b)) }

func (r *reader) bytes(b []byte) { r.str([]byte(base64.StdEncoding.EncodeToString(b))) }

func (r *reader) float(f float64, bits int) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		r.out = strconv.AppendQuote(r.out, fmt.Sprint(f))
		return
	}
	r.out = strconv.AppendFloat(r.out, f, 'g', -1, bits)
}

func (r *reader) extension(n uint64) {
	kind := int8(r.number(1))
	b := r.take(n)
	if r.err != nil {
		return
	}
	if kind == -1 {
		if at, ok := instant(b); ok {
			r.str([]byte(at.UTC().Format(time.RFC3339Nano)))
			return
		}
	}
	r.out = fmt.Appendf(r.out, `{"extension":%d,"bytes":`, kind)
	r.bytes(b)
	r.out = append(r.out, '}')
}

// instant decodes the timestamp extension of MessagePack.
func instant(b []byte) (time.Time, bool) {
	switch len(b) {
	case 4:
		return time.Unix(int64(binary.BigEndian.Uint32(b)), 0), true
	case 8:
		n := binary.BigEndian.Uint64(b)
		return time.Unix(int64(n&(1<<34-1)), int64(n>>34)), true
	case 12:
		return time.Unix(int64(binary.BigEndian.Uint64(b[4:])), int64(binary.BigEndian.Uint32(b))), true
	}
	return time.Time{}, false
}

// appendString appends s as a JSON string. It escapes all characters that are not
// printable, since they could control the terminal.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c == '\n':
			b = append(b, `\n`...)
		case unicode.IsPrint(c):
			b = utf8.AppendRune(b, c)
		case c > 0xffff:
			high, low := utf16.EncodeRune(c)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, c)
		}
	}
	return append(b, '"')
}

// indented returns JSON in several lines. All lines except the first begin with
// margin.
func indented(b []byte, margin string) string {
	var out bytes.Buffer
	if err := json.Indent(&out, b, margin, "  "); err != nil {
		return string(b)
	}
	return out.String()
}
