package wire

import (
	"errors"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// A Flash is a message for the next page.
type Flash struct{ Kind, Message string }

// MaxFlashes bounds the messages of a session, so that one whose messages nobody
// reads does not grow for ever.
const MaxFlashes = 32

// AppendFlashes appends a MessagePack array of strings: kind, message, kind, …
func AppendFlashes(b []byte, flashes []Flash) []byte {
	if n := 2 * len(flashes); n < 16 {
		b = append(b, msgpcode.FixedArrayLow|byte(n))
	} else {
		b = append(b, msgpcode.Array16, 0, byte(n))
	}
	for _, f := range flashes {
		b = appendString(appendString(b, f.Kind), f.Message)
	}
	return b
}

// FlashSize returns at least the bytes that AppendFlashes appends.
func FlashSize(flashes []Flash) int {
	n := 3
	for _, f := range flashes {
		n += 10 + len(f.Kind) + len(f.Message)
	}
	return n
}

func appendString(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, msgpcode.FixedStrLow|byte(n))
	case n < 1<<8:
		b = append(b, msgpcode.Str8, byte(n))
	case n < 1<<16:
		b = append(b, msgpcode.Str16, byte(n>>8), byte(n))
	default:
		b = append(b, msgpcode.Str32, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, s...)
}

var errFlashes = errors.New("its flash messages cannot be read")

// ReadFlashes reads what AppendFlashes wrote, in the one spelling that it
// writes, and returns what follows.
func ReadFlashes(b []byte) (flashes []Flash, rest []byte, err error) {
	n := 0
	switch {
	case len(b) == 0:
		return nil, nil, errFlashes
	case b[0]&0xf0 == msgpcode.FixedArrayLow:
		n, rest = int(b[0]&0x0f), b[1:]
	case b[0] == msgpcode.Array16 && len(b) >= 3 && b[1] == 0 && b[2] >= 16:
		n, rest = int(b[2]), b[3:]
	default:
		return nil, nil, errFlashes
	}
	if n == 0 {
		return nil, rest, nil
	}
	if n%2 != 0 || n/2 > MaxFlashes {
		return nil, nil, errFlashes
	}
	flashes = make([]Flash, n/2)
	for i := range n {
		var s string
		var ok bool
		if s, rest, ok = readString(rest); !ok {
			return nil, nil, errFlashes
		}
		if i%2 == 0 {
			flashes[i/2].Kind = s
		} else {
			flashes[i/2].Message = s
		}
	}
	return flashes, rest, nil
}

func readString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) == 0 {
		return "", nil, false
	}
	n, head := 0, 1
	switch c := b[0]; {
	case c&0xe0 == msgpcode.FixedStrLow:
		n = int(c & 0x1f)
	case c == msgpcode.Str8:
		head = 2
	case c == msgpcode.Str16:
		head = 3
	case c == msgpcode.Str32:
		head = 5
	default:
		return "", nil, false
	}
	if len(b) < head {
		return "", nil, false
	}
	for _, c := range b[1:head] {
		n = n<<8 | int(c)
	}
	if n > len(b)-head {
		return "", nil, false
	}
	if least := [...]int{1: 0, 2: 32, 3: 1 << 8, 5: 1 << 16}[head]; n < least {
		return "", nil, false
	}
	return string(b[head : head+n]), b[head+n:], true
}
