package natsstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/natsstore"
)

func TestAnOwnerAndALabelOfTheSameNameAreDifferent(t *testing.T) {
	s, _, _ := fresh(t, recommended)
	create(t, s, idOf(1), recordFor(time.Hour, "", "ada"))
	create(t, s, idOf(2), recordFor(time.Hour, "", "", "ada"))
	if got := collect(t, s.Owned(t.Context(), "ada")); !maps.Equal(got, map[sessions.ID]bool{idOf(1): true}) {
		t.Errorf("Owned yields %v, want the session of the owner", got)
	}
	if got := collect(t, s.Labelled(t.Context(), "ada")); !maps.Equal(got, map[sessions.ID]bool{idOf(2): true}) {
		t.Errorf("Labelled yields %v, want the session with the label", got)
	}
}

func TestLabelledYieldsTheSessionsThatHaveTheLabelNow(t *testing.T) {
	s, _, _ := fresh(t, recommended)
	id := idOf(1)
	all := []string{"red", "blue", "green", "re", "RED", "red ", "*", ">", "\xff", "\x00", strings.Repeat("l", 1024)}
	rec := recordFor(time.Hour, "", "ada")
	rec.Version = create(t, s, id, rec)
	check := func(when string, want ...string) {
		t.Helper()
		for _, label := range all {
			if got := collect(t, s.Labelled(t.Context(), label))[id]; got != slices.Contains(want, label) {
				t.Errorf("%s: listed for %.8q is %t", when, label, got)
			}
		}
	}
	check("without labels")
	for _, labels := range [][]string{{"red"}, {"blue", "red"}, {"red", "blue"}, {"green"}, {}, all, {"RED", "red "}, nil, {"red"}} {
		rec.Labels = labels
		rec.Version = update(t, s, id, rec.Version, rec)
		check(fmt.Sprintf("after an Update to %.8q", labels), labels...)
		got, err := s.Load(t.Context(), id)
		if err != nil || !slices.Equal(got.Labels, labels) {
			t.Errorf("Load: got labels %.8q, %v, want %.8q", got.Labels, err, labels)
		}
	}
	stale := recordFor(time.Hour, "", "", "blue")
	stale.Version = rec.Version + 1
	if _, err := s.Update(t.Context(), id, stale); !errors.Is(err, sessions.ErrConflict) {
		t.Errorf("Update of another version: got %v, want ErrConflict", err)
	}
	if err := s.Touch(t.Context(), id, rec.Expires.Add(time.Hour)); err != nil {
		t.Error(err)
	}
	check("after a refused Update and a Touch", "red")
	if err := s.Delete(t.Context(), id, rec.Version); err != nil {
		t.Error(err)
	}
	check("after a Delete")
	create(t, s, id, recordFor(-time.Second, "", "", "red"))
	check("with a session that has expired")
	create(t, s, id, recordFor(time.Hour, "", "", "blue"))
	check("with a session that was created over an expired one", "blue")
	if n := len(collect(t, s.Labelled(t.Context(), ""))); n != 0 {
		t.Errorf(`Labelled(""): got %d ids, want none`, n)
	}
}

func TestALabelThatTheCallerPutsInPlaceOfAnotherIsIndexed(t *testing.T) {
	s, _, _ := fresh(t, recommended)
	rec := recordFor(time.Hour, "", "", "red")
	rec.Version = create(t, s, idOf(1), rec)
	for _, label := range []string{"blue", "green"} {
		rec.Labels[0] = label
		rec.Version = update(t, s, idOf(1), rec.Version, rec)
		if !collect(t, s.Labelled(t.Context(), label))[idOf(1)] {
			t.Errorf("the session is not listed for %s", label)
		}
		loaded, err := s.Load(t.Context(), idOf(1))
		if err != nil {
			t.Fatal(err)
		}
		rec = loaded
	}
}

func TestSessionsAreListedForTheTermsOfTheLastOfParallelUpdates(t *testing.T) {
	s, _, _ := fresh(t, recommended)
	names := []string{"red", "blue", "green"}
	for round := range 20 {
		id := idOf(round)
		create(t, s, id, recordFor(time.Hour, "", ""))
		var writers sync.WaitGroup
		for i := range 6 {
			writers.Go(func() {
				rec, err := s.Load(t.Context(), id)
				if err == nil {
					rec.Owner, rec.Labels = names[i%3], []string{names[(i+1)%3]}
					_, err = s.Update(t.Context(), id, rec)
				}
				if err != nil && !errors.Is(err, sessions.ErrConflict) {
					t.Errorf("Update: %v", err)
				}
			})
		}
		writers.Wait()
		rec, err := s.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if got := collect(t, s.Owned(t.Context(), name))[id]; got != (rec.Owner == name) {
				t.Errorf("the session of %q is listed for the owner %q: %t", rec.Owner, name, got)
			}
			if got := collect(t, s.Labelled(t.Context(), name))[id]; got != slices.Contains(rec.Labels, name) {
				t.Errorf("the session with %q is listed for the label %q: %t", rec.Labels, name, got)
			}
		}
	}
}

// A refusing bucket refuses to write some keys.
type refusing struct {
	jetstream.KeyValue
	prefix string
}

var errRefused = errors.New("refused")

func (kv refusing) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if strings.HasPrefix(key, kv.prefix) {
		return 0, errRefused
	}
	return kv.KeyValue.Update(ctx, key, value, revision)
}

// The index entries must be written first, since the index must never miss a live
// record.
func TestWithoutItsEntriesInTheIndexNoRecordIsWritten(t *testing.T) {
	_, kv, _ := fresh(t, recommended)
	for i, prefix := range []string{"o.", "l."} {
		s := open(t, refusing{kv, prefix}, natsstore.Options{})
		id, other := idOf(2*i), idOf(2*i+1)
		rec := recordFor(time.Hour, "", "")
		rec.Version = create(t, s, id, rec)
		rec.Owner, rec.Labels = "ada", []string{"red", "blue"}
		_, createErr := s.Create(t.Context(), other, rec)
		_, updateErr := s.Update(t.Context(), id, rec)
		for name, err := range map[string]error{"Create": createErr, "Update": updateErr} {
			if !errors.Is(err, errRefused) {
				t.Errorf("without %s: %s: got %v, want an error about the index", prefix, name, err)
			}
		}
		if _, err := s.Load(t.Context(), other); !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("without %s: after Create, Load: got %v, want ErrNotFound", prefix, err)
		}
		if got, err := s.Load(t.Context(), id); err != nil || got.Version != rec.Version || got.Owner != "" || len(got.Labels) > 0 {
			t.Errorf("without %s: after Update: got %v of %q, %v, want the record as it was", prefix, got, got.Owner, err)
		}
	}
}

// An early bucket reports the end of a list before its first value, as a replica that
// is behind would.
type early struct{ jetstream.KeyValue }

type earlyWatcher struct {
	jetstream.KeyWatcher
	updates chan jetstream.KeyValueEntry
}

func (w earlyWatcher) Updates() <-chan jetstream.KeyValueEntry { return w.updates }

func (kv early) Watch(ctx context.Context, keys string, opts ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	inner, err := kv.KeyValue.Watch(ctx, keys, opts...)
	if err != nil {
		return nil, err
	}
	w := earlyWatcher{inner, make(chan jetstream.KeyValueEntry)}
	go func() {
		defer close(w.updates)
		w.updates <- nil
		for entry := range inner.Updates() {
			w.updates <- entry
		}
	}()
	return w, nil
}

func TestAListIsWholeAlsoOnAReplicaThatIsBehind(t *testing.T) {
	_, kv, _ := fresh(t, recommended)
	s := open(t, early{kv}, natsstore.Options{})
	for i := range 100 {
		create(t, s, idOf(i), recordFor(time.Hour, "", "ada", "red"))
	}
	if n := len(collect(t, s.Owned(t.Context(), "ada"))); n != 100 {
		t.Errorf("Owned yields %d ids, want 100", n)
	}
	if n := len(collect(t, s.Labelled(t.Context(), "red"))); n != 100 {
		t.Errorf("Labelled yields %d ids, want 100", n)
	}
}

// A list that is being read has the entries that were there when it began. One that
// is written again could be behind the last of them.
func TestAnEntryOfALiveSessionIsNotWrittenAgain(t *testing.T) {
	s, kv, _ := fresh(t, recommended)
	id := idOf(1)
	rec := recordFor(time.Hour, "", "ada", "red")
	rec.Version = create(t, s, id, rec)
	revisions := func() (all [2]uint64) {
		t.Helper()
		for i, key := range []string{natsstore.OwnerEntry("ada", id), natsstore.LabelEntry("red", id)} {
			entry, err := kv.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			all[i] = entry.Revision()
		}
		return all
	}
	before := revisions()
	rec.Labels = []string{"red", "blue"}
	rec.Version = update(t, s, id, rec.Version, rec)
	rec.Labels = nil
	rec.Version = update(t, s, id, rec.Version, rec)
	rec.Labels = []string{"red"} // the entry is still there
	update(t, s, id, rec.Version, rec)
	if _, err := s.Create(t.Context(), id, rec); !errors.Is(err, sessions.ErrExists) {
		t.Errorf("Create: got %v, want ErrExists", err)
	}
	if after := revisions(); after != before {
		t.Errorf("the entries have revisions %d, want %d as before", after, before)
	}
}
