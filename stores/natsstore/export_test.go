package natsstore

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
)

// SetGrace sets the age at which Sweep may remove an index entry.
func SetGrace(t testing.TB, d time.Duration) {
	old := grace
	grace = d
	t.Cleanup(func() { grace = old })
}

// SetMarkerLifetime sets how long the markers of deletions stay.
func SetMarkerLifetime(t testing.TB, d time.Duration) {
	old := markerLifetime
	markerLifetime = d
	t.Cleanup(func() { markerLifetime = old })
}

// SetBucketCheck sets how often Changes asks whether the bucket is still the same.
func SetBucketCheck(t testing.TB, d time.Duration) {
	old := bucketCheck
	bucketCheck = d
	t.Cleanup(func() { bucketCheck = old })
}

// RecordKey returns the key of the record of id.
func RecordKey(id sessions.ID) string { return recordKey(id) }

// OwnerEntry and LabelEntry return the keys of entries in the index.
func OwnerEntry(owner string, id sessions.ID) string { return ownerTerm(owner).entry(id) }
func LabelEntry(label string, id sessions.ID) string { return labelTerm(label).entry(id) }

// IsNews reports whether a reader of the changes that has seen all revisions up to
// seen is told of the entry.
func IsNews(entry jetstream.KeyValueEntry, seen uint64) (sessions.ID, bool) {
	return isNews(entry, seen)
}

// Encode returns the value of a record, and Recode that of the record of an entry.
func Encode(rec sessions.Record) []byte { return encode(stored{Record: rec}) }

func Recode(entry jetstream.KeyValueEntry) ([]byte, error) {
	found, err := decode(entry)
	return encode(found), err
}

// Recalls reports whether the store knows the revision of the record with that version.
func Recalls(s *Store, id sessions.ID, version uint64) bool {
	_, ok := s.recall(id, version)
	return ok
}

// Remove removes the given revision of a record without a marker.
func Remove(ctx context.Context, s *Store, id sessions.ID, revision uint64) error {
	return s.api.remove(ctx, recordKey(id), revision)
}
