package wire

import (
	"cmp"
	"encoding/binary"
	"errors"

	"github.com/typedsessions/sessions/internal/keys"
)

// A Body is a session as a cookie or a record has it.
type Body struct {
	Header
	ID         [16]byte // the first half of a record's id; random in a cookie
	Extensions []byte   // their entries
	Flashes    []Flash
	Data       []byte
}

// Append appends all of the body to b.
func (body *Body) Append(b []byte) []byte {
	return append(body.AppendHead(b), body.Data...)
}

// AppendHead appends all that comes before the data.
func (body *Body) AppendHead(b []byte) []byte {
	return AppendFlashes(AppendExtensions(body.Header.append(b, body.ID), body.Extensions), body.Flashes)
}

// ReadBody reads what Append wrote, at least HeaderSize bytes. The parts of the
// body are parts of b. After an error its header is valid.
func ReadBody(b []byte) (body Body, err error) {
	body.Header, body.ID = ParseHeader(b), BodyID(b)
	var newer error
	body.Extensions, b, newer = ReadExtensions(b[HeaderSize:])
	if newer != nil && newer != ErrNewer {
		return body, newer
	}
	body.Flashes, body.Data, err = ReadFlashes(b)
	return body, cmp.Or(newer, err)
}

// NewRecord returns the bytes of a record. With a signer they are sealed and
// bound to id.
func NewRecord(seal *keys.Signer, id []byte, body *Body) []byte {
	size := HeaderSize + binary.MaxVarintLen32 + len(body.Extensions) + FlashSize(body.Flashes) + len(body.Data)
	if seal == nil {
		return body.Append(append(make([]byte, 0, 1+size), Record))
	}
	c := seal.Scratch()
	defer seal.Put(c)
	c.Buf = body.Append(c.Buf[:0])
	sealed := make([]byte, 0, keys.PrefixSize+keys.NonceSize+len(c.Buf)+keys.TagSize)
	return seal.AppendSealed(seal.AppendPrefix(sealed, SealedRecord), c.Buf, id)
}

// OpenRecord returns the body in a record, which has at least HeaderSize bytes.
// With a signer the record must be sealed, without one it must not.
func OpenRecord(seal *keys.Signer, id, b []byte) (body []byte, err error) {
	switch {
	case seal == nil && len(b) >= leastRecord && b[0] == Record:
		return b[1:], nil
	case seal != nil && len(b) >= leastSealedRecord && b[0] == SealedRecord:
		if body, _, ok := seal.Open(nil, b, id); ok {
			return body, nil
		}
		return nil, errors.New("its seal is broken, or of a key that is not in the ring")
	}
	return nil, errors.New("it is no record of this kind of session; was Config.Encrypt changed?")
}

const tombstoneSize = 1 + 5

// NewTombstone returns the record of an id that another has replaced. It ends at
// a time in seconds since 1970.
func NewTombstone(end int64) []byte {
	return AppendTime(append(make([]byte, 0, tombstoneSize), Tombstone), end)
}

// ReadTombstone returns the end of a tombstone, and reports whether b is one.
func ReadTombstone(b []byte) (end int64, ok bool) {
	if len(b) != tombstoneSize || b[0] != Tombstone {
		return 0, false
	}
	return Time(b[1:]), true
}
