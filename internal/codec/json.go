package codec

import (
	"encoding/binary"
	"errors"
	"reflect"

	"github.com/typedsessions/sessions/internal/shape"
)

// EncodeJSON returns what v points to as a MessagePack string that holds JSON.
func EncodeJSON(v any) ([]byte, error) {
	text, err := shape.WriteJSON(reflect.ValueOf(v))
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(text)+5)
	switch n := len(text); {
	case n < 1<<5:
		b = append(b, 0xa0|byte(n))
	case n < 1<<8:
		b = append(b, 0xd9, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, text...), nil
}

var errNoString = errors.New("not a MessagePack string")

// DecodeJSON fills what v points to, which is zero, from a MessagePack string
// that holds JSON.
func DecodeJSON(v any, b []byte) error {
	head := 0
	switch {
	case len(b) == 0:
	case b[0]&0xe0 == 0xa0:
		head = 1
	case b[0] >= 0xd9 && b[0] <= 0xdb:
		head = 1 + 1<<(b[0]-0xd9)
	}
	if head == 0 || len(b) < head {
		return errNoString
	}
	return shape.ReadJSON(reflect.ValueOf(v), b[head:])
}
