package natsstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/natsstore"
)

// keys returns the keys of a bucket.
func keys(t testing.TB, kv jetstream.KeyValue) []string {
	t.Helper()
	all, err := kv.Keys(t.Context())
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		t.Fatal(err)
	}
	return all
}

// values returns the number of values in a bucket, including markers.
func values(t testing.TB, kv jetstream.KeyValue) uint64 {
	t.Helper()
	status, err := kv.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.Values()
}

func TestSweepRemovesWhatHasEndedAndNothingElse(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  jetstream.KeyValueConfig
		life time.Duration // of markers
	}{
		{"where markers expire", recommended, time.Second},
		{"where markers stay", jetstream.KeyValueConfig{}, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			natsstore.SetMarkerLifetime(t, tt.life)
			natsstore.SetGrace(t, 0)
			s, kv, _ := fresh(t, tt.cfg)
			live, moved, expired, deleted := idOf(1), idOf(2), idOf(3), idOf(4)
			create(t, s, live, recordFor(time.Hour, "", "ada", "red"))
			update(t, s, moved, create(t, s, moved, recordFor(time.Hour, "", "ada", "red")), recordFor(time.Hour, "", "bob", "blue"))
			create(t, s, expired, recordFor(-time.Second, "", "ada", "red"))
			if err := s.Delete(t.Context(), deleted, create(t, s, deleted, recordFor(time.Hour, "", "ada", "red"))); err != nil {
				t.Fatal(err)
			}
			collect(t, s.Owned(t.Context(), "ada")) // writes a key of its own
			if n, err := s.Sweep(t.Context()); n != 1 || err != nil {
				t.Errorf("got %d removed, %v, want 1", n, err)
			}
			// A live session keeps its old entries.
			want := map[string]bool{
				natsstore.RecordKey(live): true, natsstore.OwnerEntry("ada", live): true, natsstore.LabelEntry("red", live): true,
				natsstore.RecordKey(moved): true, natsstore.OwnerEntry("ada", moved): true, natsstore.LabelEntry("red", moved): true,
				natsstore.OwnerEntry("bob", moved): true, natsstore.LabelEntry("blue", moved): true,
			}
			for _, key := range keys(t, kv) {
				if !want[key] {
					t.Errorf("the key %s is left", key)
				}
				delete(want, key)
			}
			for key := range want {
				t.Errorf("the key %s was removed", key)
			}
			for _, id := range []sessions.ID{live, moved} {
				if _, err := s.Load(t.Context(), id); err != nil {
					t.Errorf("Load: %v", err)
				}
			}
			if !collect(t, s.Owned(t.Context(), "ada"))[live] || !collect(t, s.Labelled(t.Context(), "blue"))[moved] {
				t.Error("a live session is not listed")
			}
			for _, id := range []sessions.ID{live, moved} {
				if err := s.Delete(t.Context(), id, 0); err != nil {
					t.Fatal(err)
				}
			}
			if n, err := s.Sweep(t.Context()); n != 0 || err != nil {
				t.Errorf("second Sweep: got %d, %v, want 0, nil", n, err)
			}
			eventually(t, "the bucket is not empty", func() bool { return values(t, kv) == 0 })
		})
	}
}

func TestSweepLeavesTheEntryOfARecordThatIsBeingWritten(t *testing.T) {
	s, kv, _ := fresh(t, recommended)
	for _, key := range []string{natsstore.OwnerEntry("ada", idOf(1)), natsstore.LabelEntry("red", idOf(1))} {
		if _, err := kv.Put(t.Context(), key, nil); err != nil { // as Create does first
			t.Fatal(err)
		}
	}
	if _, err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(keys(t, kv)); n != 2 {
		t.Errorf("%d keys are left, want 2", n)
	}
}

// Sweep may remove an old entry at any time, so it is written again.
func TestAnOldEntryIsWrittenAgainWithItsRecord(t *testing.T) {
	natsstore.SetGrace(t, 0)
	s, kv, _ := fresh(t, recommended)
	key := natsstore.OwnerEntry("ada", idOf(1))
	old, err := kv.Put(t.Context(), key, nil)
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, idOf(1), recordFor(time.Hour, "", "ada"))
	if entry, err := kv.Get(t.Context(), key); err != nil || entry.Revision() <= old {
		t.Errorf("got %v, %v, want a new revision", entry, err)
	}
	if !collect(t, s.Owned(t.Context(), "ada"))[idOf(1)] {
		t.Error("Owned does not yield the session")
	}
}

func TestAnEntryThatSweepHasRemovedCanBeWrittenAgain(t *testing.T) {
	natsstore.SetGrace(t, 0)
	s, _, _ := fresh(t, recommended)
	if err := s.Delete(t.Context(), idOf(1), create(t, s, idOf(1), recordFor(time.Hour, "", "ada"))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	create(t, s, idOf(1), recordFor(time.Hour, "", "ada"))
	if !collect(t, s.Owned(t.Context(), "ada"))[idOf(1)] {
		t.Error("Owned does not yield the session")
	}
}

func TestSweepGoesOnAfterAValueThatItCannotRead(t *testing.T) {
	s, kv, _ := fresh(t, recommended)
	broken := natsstore.RecordKey(idOf(1))
	if _, err := kv.PutString(t.Context(), broken, "something else"); err != nil {
		t.Fatal(err)
	}
	create(t, s, idOf(2), recordFor(-time.Second, "", ""))
	n, err := s.Sweep(t.Context())
	if n != 1 || err == nil || !strings.Contains(err.Error(), broken) {
		t.Errorf("got %d removed, %v, want 1 and an error that names the key", n, err)
	}
	if _, err := s.Load(t.Context(), idOf(1)); err == nil || errors.Is(err, sessions.ErrNotFound) || !strings.HasPrefix(err.Error(), "natsstore: load ") {
		t.Errorf("Load: got %v, want an error about the value", err)
	}
	if err := s.Delete(t.Context(), idOf(1), 0); err != nil {
		t.Errorf("Delete: got %v, want nil: it removes whatever is there", err)
	}
	if _, err := s.Sweep(t.Context()); err != nil {
		t.Errorf("Sweep after that: %v", err)
	}
}

func TestSweepEndsWithItsContext(t *testing.T) {
	s, _, _ := fresh(t, recommended)
	create(t, s, idOf(1), recordFor(-time.Second, "", "ada"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := s.Sweep(ctx); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("got %d, %v, want the error of the context", n, err)
	}
}

// A bucket in which somebody writes a value over each marker that Sweep is about to see.
type rewritten struct {
	jetstream.KeyValue
	t testing.TB
}

type rewrittenEntries struct {
	jetstream.KeyWatcher
	entries chan jetstream.KeyValueEntry
}

func (r rewrittenEntries) Updates() <-chan jetstream.KeyValueEntry { return r.entries }

func (r rewritten) Watch(ctx context.Context, keys string, opts ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	watcher, err := r.KeyValue.Watch(ctx, keys, opts...)
	if err != nil {
		return nil, err
	}
	entries := make(chan jetstream.KeyValueEntry)
	go func() {
		defer close(entries)
		for entry := range watcher.Updates() {
			if entry != nil && entry.Operation() != jetstream.KeyValuePut {
				if _, err := r.Put(context.Background(), entry.Key(), nil); err != nil {
					r.t.Error(err)
				}
			}
			entries <- entry
		}
	}()
	return rewrittenEntries{watcher, entries}, nil
}

// A list of the sessions of an owner waits for a key that it writes, and which Sweep has
// removed before.
func TestSweepLeavesAValueThatIsWrittenOverAMarker(t *testing.T) {
	natsstore.SetMarkerLifetime(t, -1)
	_, kv, conn := fresh(t, jetstream.KeyValueConfig{})
	const key = "o.owner.last"
	if err := kv.Purge(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	s := open(t, rewritten{kv, t}, natsstore.Options{Conn: conn})
	if n, err := s.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("Sweep: got %d, %v, want 0", n, err)
	}
	if _, err := kv.Get(t.Context(), key); err != nil {
		t.Errorf("the value that was written: %v", err)
	}
}
