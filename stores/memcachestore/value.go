package memcachestore

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/typedsessions/sessions"
)

// A record's value, all numbers big-endian:
//
//	format 1 ‖ version 8 ‖ expires, Unix milliseconds 8 ‖ length of the owner 4 ‖ owner ‖ data
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
		return rec, fmt.Errorf("a value of %d bytes is no record, need at least %d: does something else use this prefix?", len(b), headerSize)
	}
	if b[0] != format {
		return rec, fmt.Errorf("a value of format %d, need %d: does something else use this prefix?", b[0], format)
	}
	owner := binary.BigEndian.Uint32(b[17:])
	rest := b[headerSize:]
	if uint64(owner) > uint64(len(rest)) {
		return rec, fmt.Errorf("an owner of %d bytes in a value of %d is no record", owner, len(b))
	}
	return sessions.Record{
		Data:    rest[owner:],
		Version: binary.BigEndian.Uint64(b[1:]),
		Expires: time.UnixMilli(int64(binary.BigEndian.Uint64(b[9:]))),
		Owner:   string(rest[:owner]),
	}, nil
}

// maxRelative is up to where memcached takes an expiry for seconds from now;
// what is larger is a Unix time (protocol.txt, "Expiration times").
const maxRelative = 30 * 24 * 60 * 60

// exptime returns the expiry for memcached, which must not be earlier than that
// inside of the value. Seconds from now, where they fit, need no agreement of
// the clocks. memcached counts from the last tick of its clock, up to a second
// ago: so one more. What is past gets the least, since 0 stands for never.
func exptime(expires, now time.Time) int32 {
	left := expires.Unix() - now.Unix() + 2 // as both are rounded down, at least one more
	switch {
	case left < 1:
		return 1
	case left <= maxRelative:
		return int32(left)
	case expires.Unix()+2 <= math.MaxInt32:
		return int32(expires.Unix() + 2)
	}
	// The client's numbers end in 2038: until memcached evicts it.
	return 0
}
