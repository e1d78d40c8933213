package wire

import (
	"errors"

	"github.com/typedsessions/sessions/internal/keys"
)

// AppendBody appends a body: header, messages, data.
func AppendBody(b []byte, h *Header, flashes []Flash, data []byte) []byte {
	return append(AppendFlashes(h.Append(b), flashes), data...)
}

// NewRecord returns the bytes of a record. With a signer they are sealed and
// bound to id.
func NewRecord(seal *keys.Signer, id []byte, h *Header, flashes []Flash, data []byte) []byte {
	size := HeaderSize + FlashSize(flashes) + len(data)
	if seal == nil {
		return AppendBody(append(make([]byte, 0, 1+size), Record), h, flashes, data)
	}
	c := seal.Scratch()
	defer seal.Put(c)
	c.Buf = AppendBody(c.Buf[:0], h, flashes, data)
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
