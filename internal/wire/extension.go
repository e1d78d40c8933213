package wire

import (
	"encoding/binary"
	"errors"
)

// FirstRequired is the first tag of the extensions that a reader must know. It
// ignores and keeps those below that it does not know.
const FirstRequired = 0x80

// Errors of ReadExtensions.
var (
	ErrNewer      = errors.New("it has an extension that this program does not know")
	errExtensions = errors.New("its extensions cannot be read")
)

// AppendExtensions appends the extensions of a body: the length of their entries,
// then the entries. Few sessions have any.
func AppendExtensions(b, entries []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(entries))), entries...)
}

// ReadExtensions reads what AppendExtensions wrote, and returns the entries, nil
// if there are none, and what follows. Each entry is a tag, a length and as many
// bytes; tags ascend. The error is ErrNewer if an entry must be known.
func ReadExtensions(b []byte) (entries, rest []byte, err error) {
	if len(b) > 0 && b[0] == 0 {
		return nil, b[1:], nil
	}
	entries, rest, ok := readBytes(b)
	if !ok {
		return nil, nil, errExtensions
	}
	for last, left := -1, entries; len(left) > 0; {
		if int(left[0]) <= last {
			return nil, nil, errExtensions
		}
		last = int(left[0])
		if _, left, ok = readBytes(left[1:]); !ok {
			return nil, nil, errExtensions
		}
		if last >= FirstRequired {
			err = ErrNewer
		}
	}
	return entries, rest, err
}

// NextExtension returns the first of the entries that ReadExtensions returned,
// and the others.
func NextExtension(entries []byte) (tag byte, value, rest []byte) {
	value, rest, _ = readBytes(entries[1:])
	return entries[0], value, rest
}

// readBytes reads a length, in the shortest spelling, and as many bytes.
func readBytes(b []byte) (value, rest []byte, ok bool) {
	if len(b) > 0 && b[0] < 0x80 && int(b[0]) < len(b) { // as mostly
		end := 1 + int(b[0])
		return b[1:end:end], b[end:], true
	}
	n, size := binary.Uvarint(b)
	if size <= 0 || size > 1 && b[size-1] == 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	end := size + int(n)
	return b[size:end:end], b[end:], true
}

// Tags of extensions.
const (
	DeviceTag   = 0x01 // of package dbsc
	ReplacesTag = 0x02 // the first half of the id that the session is about to replace
)

// Extension returns the value of a tag, nil if the entries have none.
func Extension(entries []byte, tag byte) []byte {
	for len(entries) > 0 {
		t, value, rest := NextExtension(entries)
		if t == tag {
			return value
		}
		entries = rest
	}
	return nil
}

// AppendWithout appends the entries but for that of a tag to b, which is empty. It
// returns nil if there are none.
func AppendWithout(b, entries []byte, tag byte) []byte {
	for len(entries) > 0 {
		t, _, rest := NextExtension(entries)
		if t != tag {
			b = append(b, entries[:len(entries)-len(rest)]...)
		}
		entries = rest
	}
	if len(b) == 0 {
		return nil
	}
	return b
}

// WithExtension returns a copy of the entries with another value of a tag, without
// the tag if value is nil.
func WithExtension(entries []byte, tag byte, value []byte) []byte {
	var with []byte
	add := func(tag byte, value []byte) {
		with = append(binary.AppendUvarint(append(with, tag), uint64(len(value))), value...)
	}
	for len(entries) > 0 {
		t, v, rest := NextExtension(entries)
		if t > tag && value != nil {
			add(tag, value)
			value = nil
		}
		if t != tag {
			add(t, v)
		}
		entries = rest
	}
	if value != nil {
		add(tag, value)
	}
	return with
}
