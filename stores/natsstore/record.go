package natsstore

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
)

// The value of a record has these fields, with their sizes in bytes. All numbers
// are big-endian.
//
//	format                      1
//	version                     8
//	expires, Unix milliseconds  8
//	news                        8
//	number of labels            4
//	owner
//	labels
//	data
//
// The owner and each label is a string: its length, 4 bytes, and its bytes.
const (
	format     = 1
	headerSize = 1 + 8 + 8 + 8 + 4
	lengthSize = 4
)

// A stored record is a record in the bucket, live or expired.
type stored struct {
	sessions.Record

	// news is a revision: Changes tells of this value if it has not seen that one.
	news uint64

	revision uint64 // of the bucket; not part of the value
}

// Values of news. The third one is the revision that a Touch replaces: a reader that
// has seen it knows all of the record that Changes tells. One that has not may have
// missed it, since the bucket keeps only the last value.
const (
	newsToNobody  = 0              // a new id
	newsToReaders = math.MaxUint64 // an update
)

func (s stored) expired() bool { return s.Expires.UnixMilli() <= time.Now().UnixMilli() }

func encode(s stored) []byte {
	size := headerSize + lengthSize + len(s.Owner) + len(s.Data)
	for _, label := range s.Labels {
		size += lengthSize + len(label)
	}
	b := append(make([]byte, 0, size), format)
	b = binary.BigEndian.AppendUint64(b, s.Version)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Expires.UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, s.news)
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.Labels)))
	b = appendString(b, s.Owner)
	for _, label := range s.Labels {
		b = appendString(b, label)
	}
	return append(b, s.Data...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// cutString returns the string that b begins with and the bytes after it.
func cutString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) < lengthSize {
		return "", nil, false
	}
	n := binary.BigEndian.Uint32(b)
	b = b[lengthSize:]
	if uint64(n) > uint64(len(b)) {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}

// decode returns the record of an entry. Its data shares the memory of the entry.
func decode(entry jetstream.KeyValueEntry) (stored, error) {
	b := entry.Value()
	if len(b) < headerSize || b[0] != format {
		return stored{}, fmt.Errorf("the value of %d bytes is not a record of this version of natsstore, need a bucket of its own, or remove the key %s", len(b), entry.Key())
	}
	s := stored{revision: entry.Revision()}
	s.Version = binary.BigEndian.Uint64(b[1:])
	s.Expires = time.UnixMilli(int64(binary.BigEndian.Uint64(b[9:])))
	s.news = binary.BigEndian.Uint64(b[17:])
	owner, rest, ok := cutString(b[headerSize:])
	s.Owner = owner
	for n := binary.BigEndian.Uint32(b[25:]); n > 0 && ok; n-- {
		var label string
		label, rest, ok = cutString(rest)
		s.Labels = append(s.Labels, label)
	}
	if !ok {
		return stored{}, fmt.Errorf("the value of %d bytes is not a whole record, remove the key %s", len(b), entry.Key())
	}
	s.Data = rest
	return s, nil
}

// Keys. A key of NATS is a subject, whose tokens have few characters. Base64 is
// shorter than hexadecimal digits, and the server keeps all keys in memory.
const (
	recordPrefix = "r."
	recordKeys   = recordPrefix + "*"
)

var idEncoding = base64.RawURLEncoding.Strict()

func recordKey(id sessions.ID) string { return recordPrefix + idEncoding.EncodeToString(id[:]) }

func parseID(s string) (id sessions.ID, ok bool) {
	b, err := idEncoding.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, false
	}
	return sessions.ID(b), true
}
