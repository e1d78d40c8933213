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

// The value of a record's key, which one GET brings:
//
//	version 8 ‖ expires 8 (Unix milliseconds) ‖ length of owner 4 ‖ owner ‖ data
//
// Numbers are big-endian.
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
		return rec, fmt.Errorf("redisstore: a value of %d bytes is not a session's, need at least %d: is the Prefix another application's?", len(b), headSize)
	}
	rec.Version = binary.BigEndian.Uint64(b)
	rec.Expires = time.UnixMilli(int64(binary.BigEndian.Uint64(b[versionSize:])))
	n := uint64(binary.BigEndian.Uint32(b[versionSize+expiresSize:]))
	b = b[headSize:]
	if n > uint64(len(b)) {
		return sessions.Record{}, fmt.Errorf("redisstore: a value with an owner of %d bytes in %d is not a session's: is the Prefix another application's?", n, len(b))
	}
	rec.Owner, rec.Data = string(b[:n]), b[n:]
	return rec, nil
}

// newVersion draws a version: 56 random bits, so that none comes back under one
// ID, also after a fail-over to a Redis that has lost the last writes. A counter
// in Redis would. Nobody gains by guessing it. The lowest byte is the owner's
// tag.
func newVersion(owner string) uint64 {
	for {
		if v := rand.Uint64()&^0xff | uint64(ownerTag(owner)); v > 0xff {
			return v
		}
	}
}

// ownerTag tells Update, which knows the version that the caller loaded, when
// the owner has changed: then the index is written first, without a question to
// Redis. If two owners have the same tag, the script finds out.
func ownerTag(owner string) byte { return byte(crc32.ChecksumIEEE([]byte(owner))) }

// maxMillis is the end of the year 9999.
const maxMillis = 253_402_300_799_999

func millis(t time.Time) int64 { return min(max(t.UnixMilli(), 1), maxMillis) }

// lastMilli is the last millisecond of a record's life, for PXAT and PEXPIREAT:
// Redis keeps a key through the millisecond that it is given.
func lastMilli(expires time.Time) int64 { return max(millis(expires)-1, 1) }

func bytesOf(n uint64) string {
	return rueidis.BinaryString(binary.BigEndian.AppendUint64(nil, n))
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
