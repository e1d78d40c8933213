package redisstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
)

// The value of a record has these fields, with their sizes in bytes. All numbers
// are big-endian.
//
//	version                     8
//	expires, Unix milliseconds  8
//	length of the owner         4
//	owner
//	data
const (
	versionSize = 8
	expiresSize = 8
	ownerSize   = 4
	headSize    = versionSize + expiresSize + ownerSize
)

func encode(version uint64, rec sessions.Record) string {
	b := make([]byte, 0, headSize+len(rec.Owner)+len(rec.Data))
	b = binary.BigEndian.AppendUint64(b, version)
	b = binary.BigEndian.AppendUint64(b, uint64(millis(rec.Expires)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(rec.Owner)))
	b = append(append(b, rec.Owner...), rec.Data...)
	return rueidis.BinaryString(b)
}

func decode(b []byte) (rec sessions.Record, err error) {
	if len(b) < headSize {
		return rec, fmt.Errorf("redisstore: value has %d bytes, a record has at least %d: does another application use this Prefix?", len(b), headSize)
	}
	rec.Version = binary.BigEndian.Uint64(b)
	rec.Expires = time.UnixMilli(int64(binary.BigEndian.Uint64(b[versionSize:])))
	n := uint64(binary.BigEndian.Uint32(b[versionSize+expiresSize:]))
	b = b[headSize:]
	if n > uint64(len(b)) {
		return sessions.Record{}, fmt.Errorf("redisstore: value has an owner of %d bytes but only %d bytes for owner and data: does another application use this Prefix?", n, len(b))
	}
	rec.Owner, rec.Data = string(b[:n]), b[n:]
	return rec, nil
}

// newVersion returns a version of 56 random bits, with the tag of the owner in the
// lowest byte. A version must not be used again under one ID. A counter in Redis
// would repeat versions after a fail-over to a replica that lacks the last writes.
// The version is not a secret, so math/rand is enough.
func newVersion(owner string) uint64 {
	for {
		if v := rand.Uint64()&^0xff | uint64(ownerTag(owner)); v > 0xff {
			return v
		}
	}
}

// ownerTag returns the tag of owner. Update compares it with the tag in the
// version that the caller loaded, and so detects a change of owner without asking
// Redis. If both owners have the same tag, updateScript detects the change.
func ownerTag(owner string) byte { return byte(crc32.ChecksumIEEE([]byte(owner))) }

// maxMillis is the end of the year 9999.
const maxMillis = 253_402_300_799_999

func millis(t time.Time) int64 { return min(max(t.UnixMilli(), 1), maxMillis) }

// lastMilli returns the last millisecond in which a record is live, for PXAT and
// PEXPIREAT. Redis keeps a key until the end of the given millisecond.
func lastMilli(expires time.Time) int64 { return max(millis(expires)-1, 1) }

func bytesOf(n uint64) string {
	return rueidis.BinaryString(binary.BigEndian.AppendUint64(nil, n))
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
