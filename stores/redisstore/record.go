package redisstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
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
//	length of the terms         4
//	terms
//	data
//
// The terms are what the record is indexed by: the owner, and then the labels in
// ascending order. Each has its length before it, as a uvarint. A record without
// an owner and labels has no terms. The order makes equal sets equal bytes, so
// that the scripts can compare them.
const (
	versionSize = 8
	expiresSize = 8
	lengthSize  = 4
	headSize    = versionSize + expiresSize + lengthSize
)

// encode returns the value of a record under a new version, and the number of
// bytes of its terms.
func encode(rec sessions.Record) (value string, version uint64, terms int) {
	size := headSize + len(rec.Data)
	if rec.Owner != "" || len(rec.Labels) > 0 {
		size += len(rec.Owner) + binary.MaxVarintLen32
		for _, label := range rec.Labels {
			size += len(label) + binary.MaxVarintLen32
		}
	}
	b := make([]byte, headSize, size)
	b = appendTerms(b, rec.Owner, rec.Labels)
	terms = len(b) - headSize
	version = newVersion(tagOf(b[headSize:]))
	binary.BigEndian.PutUint64(b, version)
	binary.BigEndian.PutUint64(b[versionSize:], uint64(millis(rec.Expires)))
	binary.BigEndian.PutUint32(b[versionSize+expiresSize:], uint32(terms))
	return rueidis.BinaryString(append(b, rec.Data...)), version, terms
}

func decode(b []byte) (rec sessions.Record, err error) {
	if len(b) < headSize {
		return rec, fmt.Errorf("redisstore: value has %d bytes, a record has at least %d: does another application use this Prefix?", len(b), headSize)
	}
	rec.Version = binary.BigEndian.Uint64(b)
	rec.Expires = time.UnixMilli(int64(binary.BigEndian.Uint64(b[versionSize:])))
	n := termsLen(b)
	b = b[headSize:]
	if n > uint64(len(b)) {
		return sessions.Record{}, fmt.Errorf("redisstore: value has %d bytes of owner and labels but only %d bytes for these and the data: does another application use this Prefix?", n, len(b))
	}
	if rec.Owner, rec.Labels, err = splitTerms(b[:n]); err != nil {
		return sessions.Record{}, err
	}
	rec.Data = b[n:]
	return rec, nil
}

// termsLen returns the length of the terms of a value that has at least headSize
// bytes.
func termsLen(value []byte) uint64 {
	return uint64(binary.BigEndian.Uint32(value[versionSize+expiresSize:]))
}

func appendTerm(b []byte, term string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(term))), term...)
}

func appendTerms(b []byte, owner string, labels []string) []byte {
	if owner == "" && len(labels) == 0 {
		return b
	}
	b = appendTerm(b, owner)
	if !slices.IsSorted(labels) {
		labels = slices.Sorted(slices.Values(labels))
	}
	for _, label := range labels {
		b = appendTerm(b, label)
	}
	return b
}

// cutTerm returns the first of the terms and those after it. If there is none, or
// no whole one, ok is false.
func cutTerm(terms []byte) (term, rest []byte, ok bool) {
	n, size := binary.Uvarint(terms)
	if size <= 0 || n > uint64(len(terms)-size) {
		return nil, nil, false
	}
	return terms[size:][:n], terms[size:][n:], true
}

func splitTerms(terms []byte) (owner string, labels []string, err error) {
	for first := true; len(terms) > 0; first = false {
		term, rest, ok := cutTerm(terms)
		if !ok {
			return "", nil, fmt.Errorf("redisstore: the last %d bytes of owner and labels are not whole: does another application use this Prefix?", len(terms))
		}
		if first {
			owner = string(term)
		} else {
			labels = append(labels, string(term))
		}
		terms = rest
	}
	return owner, labels, nil
}

// hasLabel reports whether the label is among the terms.
func hasLabel(terms []byte, label string) bool {
	_, terms, ok := cutTerm(terms) // the owner
	for ok {
		var term []byte
		if term, terms, ok = cutTerm(terms); ok && string(term) == label {
			return true
		}
	}
	return false
}

// newVersion returns a version of 56 random bits, with the tag of the terms in the
// lowest byte. A version must not be used again under one ID. A counter in Redis
// would repeat versions after a fail-over to a replica that lacks the last writes.
// The version is not a secret, so math/rand is enough.
func newVersion(tag byte) uint64 {
	for {
		if v := rand.Uint64()&^0xff | uint64(tag); v > 0xff {
			return v
		}
	}
}

// tagOf returns the tag of the terms. Update compares it with the tag in the
// version that the caller loaded, and so detects a change of owner or labels
// without asking Redis. If both have the same tag, updateScript detects the
// change.
func tagOf(terms []byte) byte { return byte(crc32.ChecksumIEEE(terms)) }

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
