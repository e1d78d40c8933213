package memcachestore

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/typedsessions/sessions"
)

// The value of a record has these fields, with their sizes in bytes. All numbers
// are big-endian.
//
//	format                      1
//	version                     8
//	expires, Unix milliseconds  8
//	length of the owner         4
//	owner
//	data
const (
	format     = 1
	headerSize = 1 + 8 + 8 + 4
)

func encode(rec sessions.Record) []byte {
	b := make([]byte, 0, headerSize+len(rec.Owner)+len(rec.Data))
	b = append(b, format)
	b = binary.BigEndian.AppendUint64(b, rec.Version)
	b = binary.BigEndian.AppendUint64(b, uint64(rec.Expires.UnixMilli()))
	b = binary.BigEndian.AppendUint32(b, uint32(len(rec.Owner)))
	b = append(b, rec.Owner...)
	return append(b, rec.Data...)
}

func decode(b []byte) (rec sessions.Record, err error) {
	if len(b) < headerSize {
		return rec, fmt.Errorf("value has %d bytes, a record has at least %d: does another program use this prefix?", len(b), headerSize)
	}
	if b[0] != format {
		return rec, fmt.Errorf("value has format %d, need %d: does another program use this prefix?", b[0], format)
	}
	owner := binary.BigEndian.Uint32(b[17:])
	rest := b[headerSize:]
	if uint64(owner) > uint64(len(rest)) {
		return rec, fmt.Errorf("value of %d bytes has an owner of %d bytes: does another program use this prefix?", len(b), owner)
	}
	return sessions.Record{
		Data:    rest[owner:],
		Version: binary.BigEndian.Uint64(b[1:]),
		Expires: time.UnixMilli(int64(binary.BigEndian.Uint64(b[9:]))),
		Owner:   string(rest[:owner]),
	}, nil
}

// maxRelative is the largest expiry that memcached reads as seconds from now. It
// reads a larger one as a Unix time (protocol.txt, "Expiration times").
const maxRelative = 30 * 24 * 60 * 60

// exptime returns the expiry for memcached, which must not be earlier than the
// one in the value. Where possible it is relative, so that the clock of memcached
// need not agree with that of the application. memcached counts from the last
// tick of its clock, up to a second ago, so exptime adds a second. It returns 1
// for an expiry in the past, since 0 means never.
func exptime(expires, now time.Time) int32 {
	left := expires.Unix() - now.Unix() + 2 // 1 for the tick, 1 since both times are rounded down
	switch {
	case left < 1:
		return 1
	case left <= maxRelative:
		return int32(left)
	case expires.Unix()+2 <= math.MaxInt32:
		return int32(expires.Unix() + 2)
	}
	// The client's int32 ends in 2038. The item stays until memcached evicts it.
	return 0
}
