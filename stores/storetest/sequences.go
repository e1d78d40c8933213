package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/typedsessions/sessions"
)

// checkSequences runs random sequences of operations on the store and on a map and
// compares the answers. If they differ, rapid minimizes the sequence.
func checkSequences(s *subject) {
	n := 0
	rapid.Check(s.T, func(t *rapid.T) {
		n++ // gives each sequence its own ids and owners
		q := &sequential{T: t, s: s, number: n, stored: map[int]sessions.Record{}, used: map[int][]uint64{}}
		q.run()
	})
}

// A sequential runs operations one after the other.
type sequential struct {
	*rapid.T
	s      *subject
	number int
	stored map[int]sessions.Record // the records that the store must have
	used   map[int][]uint64        // the versions that each id has had
}

func (q *sequential) run() {
	q.Repeat(map[string]func(*rapid.T){
		"Load":     func(t *rapid.T) { q.loads(q.drawID(t)) },
		"Create":   q.creates,
		"Update":   q.updates,
		"Touch":    q.touches,
		"Delete":   q.deletes,
		"Owned":    q.owned,
		"Labelled": q.labelled,
	})
}

func (q *sequential) drawID(t *rapid.T) int { return rapid.IntRange(0, 2).Draw(t, "id") }

func (q *sequential) id(n int) sessions.ID { return idOf(1000*q.number + n) }

func (q *sequential) drawRecord(t *rapid.T) sessions.Record {
	rec := sessions.Record{
		Data:    rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data"),
		Expires: q.drawEnd(t),
		Owner:   rapid.SampledFrom([]string{"", "ada", "ADA", "b\x00b"}).Draw(t, "owner"),
	}
	if rec.Owner != "" {
		rec.Owner = fmt.Sprintf("%d %s", q.number, rec.Owner)
	}
	if is[sessions.LabelStore](q.s.Store) {
		for _, label := range rapid.SampledFrom([][]string{nil, {"red"}, {"RED", "red"}, {"red", "r\x00d", "blue"}}).Draw(t, "labels") {
			rec.Labels = append(rec.Labels, fmt.Sprintf("%d %s", q.number, label))
		}
	}
	return rec
}

// drawEnd returns an expiry that does not pass while the test runs.
func (q *sequential) drawEnd(t *rapid.T) time.Time {
	return time.Now().Add(time.Duration(rapid.SampledFrom([]int{1, 2, 48, -1}).Draw(t, "hours")) * time.Hour)
}

// drawVersion returns the current version, an earlier one, 0, or one that was
// never used.
func (q *sequential) drawVersion(t *rapid.T, id int) uint64 {
	versions := []uint64{q.stored[id].Version, q.stored[id].Version, 0, 1<<63 - 1}
	if used := q.used[id]; len(used) > 0 {
		versions = append(versions, used[0], used[len(used)-1])
	}
	return rapid.SampledFrom(versions).Draw(t, "version")
}

func (q *sequential) wants(op string, got, want error) {
	q.Helper()
	switch {
	case unexpected(got):
		// There is nothing to minimize, which would take long if the error is rare.
		q.s.Fatalf("%s: got error %v, want %v", op, got, want)
	case !errors.Is(got, want):
		q.Fatalf("%s: got error %v, want %v", op, got, want)
	}
}

// wrote updates the map after a write.
func (q *sequential) wrote(id int, rec sessions.Record, version uint64) {
	if version == 0 || slices.Contains(q.used[id], version) {
		q.Fatalf("got version %d, which is 0 or was used before", version)
	}
	q.used[id] = append(q.used[id], version)
	rec.Version = version
	q.stored[id] = rec
	if !rec.Expires.After(time.Now()) {
		delete(q.stored, id)
	}
}

func (q *sequential) loads(id int) {
	q.Helper()
	want, present := q.stored[id]
	got, err := q.s.Load(q.s.ctx, q.id(id))
	if !present {
		q.wants("Load", err, sessions.ErrNotFound)
		return
	}
	q.wants("Load", err, nil)
	if !bytes.Equal(got.Data, want.Data) || got.Version != want.Version || got.Owner != want.Owner || got.Expires.UnixMilli() != want.Expires.UnixMilli() || !sameLabels(got.Labels, want.Labels) {
		q.Fatalf("Load: got %v of %q with %q, want %v of %q with %q", got, got.Owner, got.Labels, want, want.Owner, want.Labels)
	}
}

func (q *sequential) creates(t *rapid.T) {
	id, rec := q.drawID(t), q.drawRecord(t)
	version, err := q.s.Create(q.s.ctx, q.id(id), rec)
	if _, present := q.stored[id]; present {
		q.wants("Create", err, sessions.ErrExists)
	} else {
		q.wants("Create", err, nil)
		q.wrote(id, rec, version)
	}
	q.loads(id)
}

func (q *sequential) updates(t *rapid.T) {
	id, rec := q.drawID(t), q.drawRecord(t)
	rec.Version = q.drawVersion(t, id)
	version, err := q.s.Update(q.s.ctx, q.id(id), rec)
	switch old, present := q.stored[id]; {
	case !present:
		q.wants("Update", err, sessions.ErrNotFound)
	case old.Version != rec.Version:
		q.wants("Update", err, sessions.ErrConflict)
	default:
		q.wants("Update", err, nil)
		q.wrote(id, rec, version)
	}
	q.loads(id)
}

func (q *sequential) touches(t *rapid.T) {
	id, end := q.drawID(t), q.drawEnd(t)
	err := q.s.Touch(q.s.ctx, q.id(id), end)
	if rec, present := q.stored[id]; present {
		q.wants("Touch", err, nil)
		if end.After(rec.Expires) {
			rec.Expires = end
			q.stored[id] = rec
		}
	} else {
		q.wants("Touch", err, sessions.ErrNotFound)
	}
	q.loads(id)
}

func (q *sequential) deletes(t *rapid.T) {
	id := q.drawID(t)
	version := q.drawVersion(t, id)
	err := q.s.Delete(q.s.ctx, q.id(id), version)
	switch old, present := q.stored[id]; {
	case version == 0, present && old.Version == version:
		q.wants("Delete", err, nil)
		delete(q.stored, id)
	case present:
		q.wants("Delete", err, sessions.ErrConflict)
	default:
		q.wants("Delete", err, sessions.ErrNotFound)
	}
	q.loads(id)
}

func (q *sequential) owned(t *rapid.T) {
	owners, ok := q.s.Store.(sessions.OwnerStore)
	if !ok {
		return
	}
	owner := q.drawRecord(t).Owner
	got := map[sessions.ID]bool{}
	for id, err := range owners.Owned(q.s.ctx, owner) {
		q.wants("Owned", err, nil)
		got[id] = true
	}
	for id, rec := range q.stored {
		if want := owner != "" && rec.Owner == owner; got[q.id(id)] != want {
			q.Fatalf("Owned(%q): yields id %d of %q is %t, want %t", owner, id, rec.Owner, !want, want)
		}
	}
}

func (q *sequential) labelled(t *rapid.T) {
	labels, ok := q.s.Store.(sessions.LabelStore)
	if !ok {
		return
	}
	label := fmt.Sprintf("%d %s", q.number, rapid.SampledFrom([]string{"red", "RED", "blue", "r\x00d", "r"}).Draw(t, "label"))
	got := map[sessions.ID]bool{}
	for id, err := range labels.Labelled(q.s.ctx, label) {
		q.wants("Labelled", err, nil)
		got[id] = true
	}
	for id, rec := range q.stored {
		if want := slices.Contains(rec.Labels, label); got[q.id(id)] != want {
			q.Fatalf("Labelled(%q): yields id %d with %q is %t, want %t", label, id, rec.Labels, !want, want)
		}
	}
}
