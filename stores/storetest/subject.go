package storetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/typedsessions/sessions"
)

// A subject is a store under test. Its methods fail the test if the store does not
// behave as expected. Its operations are called by a guard.
type subject struct {
	*tester
	sessions.Store                // the guard
	bare           sessions.Store // the store
}

func newSubject(t *tester, store sessions.Store) *subject {
	t.Helper()
	if store == nil {
		t.Fatal("open returned nil")
	}
	return &subject{t, guarded(t, store), store}
}

// clockSkew bounds the difference between the clocks of the test and of the
// store's server. The comment of Run states the value.
const clockSkew = 50 * time.Millisecond

// idOf returns the n-th id of a test. It is a hash, as a real id is.
func idOf(n int) sessions.ID { return sha256.Sum256(fmt.Append(nil, n)) }

var oneID, otherID = idOf(-1), idOf(-2)

// recordFor returns a record that expires after d.
func recordFor(d time.Duration, data, owner string) sessions.Record {
	return sessions.Record{Data: []byte(data), Expires: time.Now().Add(d), Owner: owner}
}

func (s *subject) create(id sessions.ID, rec sessions.Record) (version uint64) {
	s.Helper()
	version, err := s.Create(s.ctx, id, rec)
	if err != nil || version == 0 {
		s.Fatalf("Create: got version %d, %v, want a version that is not 0", version, err)
	}
	return version
}

func (s *subject) update(id sessions.ID, version uint64, rec sessions.Record) (next uint64) {
	s.Helper()
	rec.Version = version
	next, err := s.Update(s.ctx, id, rec)
	if err != nil || next == version || next == 0 {
		s.Fatalf("Update of version %d: got version %d, %v, want another one", version, next, err)
	}
	return next
}

func (s *subject) touch(id sessions.ID, end time.Time) {
	s.Helper()
	if err := s.Touch(s.ctx, id, end); err != nil {
		s.Fatalf("Touch: got %v, want nil", err)
	}
}

func (s *subject) delete(id sessions.ID, version uint64) {
	s.Helper()
	if err := s.Delete(s.ctx, id, version); err != nil {
		s.Fatalf("Delete of version %d: got %v, want nil", version, err)
	}
}

func (s *subject) load(id sessions.ID) sessions.Record {
	s.Helper()
	rec, err := s.Load(s.ctx, id)
	if err != nil {
		s.Fatalf("Load: got %v, want a record", err)
	}
	return rec
}

// find returns the record of id and whether there is one.
func (s *subject) find(id sessions.ID) (sessions.Record, bool) {
	s.Helper()
	rec, err := s.Load(s.ctx, id)
	if err != nil {
		s.mustFail("Load", err, sessions.ErrNotFound)
	}
	return rec, err == nil
}

// holds fails the test unless the record of id is want with the given version.
func (s *subject) holds(id sessions.ID, version uint64, want sessions.Record) {
	s.Helper()
	got := s.load(id)
	if !bytes.Equal(got.Data, want.Data) {
		s.Errorf("got %d bytes of data, want the %d bytes that were stored: %s", len(got.Data), len(want.Data), difference(got.Data, want.Data))
	}
	if got.Version != version {
		s.Errorf("got version %d, want %d", got.Version, version)
	}
	if got.Expires.UnixMilli() != want.Expires.UnixMilli() {
		s.Errorf("got expiry %v, want %v, to the millisecond", got.Expires, want.Expires)
	}
	if got.Owner != want.Owner {
		s.Errorf("got owner %q, want %q", got.Owner, want.Owner)
	}
	if is[sessions.LabelStore](s.Store) && !sameLabels(got.Labels, want.Labels) {
		s.Errorf("got labels %.80q, want %.80q", got.Labels, want.Labels)
	}
}

func difference(got, want []byte) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("byte %d is %#x instead of %#x", i, got[i], want[i])
		}
	}
	return "one is a prefix of the other"
}

func (s *subject) absent(id sessions.ID) {
	s.Helper()
	rec, err := s.Load(s.ctx, id)
	s.fails("Load of an absent record", err, sessions.ErrNotFound)
	if err == nil {
		s.Errorf("got a record of %d bytes, version %d, which expires at %v", len(rec.Data), rec.Version, rec.Expires)
	}
}

func (s *subject) fails(what string, got, want error) {
	s.Helper()
	if !errors.Is(got, want) {
		s.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

// mustFail is like fails, but ends the test.
func (s *subject) mustFail(what string, got, want error) {
	s.Helper()
	if !errors.Is(got, want) {
		s.Fatalf("%s: got error %v, want %v", what, got, want)
	}
}

// beforeExpiry calls f with an id and an expiry in the near future. If f does not
// return before that time, beforeExpiry calls it again with another id and a later
// expiry, since the machine may be slow.
func (s *subject) beforeExpiry(f func(id sessions.ID, end time.Time) error) (sessions.ID, time.Time) {
	s.Helper()
	for n, d := 0, 200*time.Millisecond; ; n, d = n+1, 2*d {
		id, end := idOf(1000+n), time.Now().Add(d)
		err := f(id, end)
		switch inTime := time.Until(end) > clockSkew; {
		case inTime && err == nil:
			return id, end
		case inTime || unexpected(err) || d > recovery:
			s.Fatalf("%v", err)
		}
	}
}

// touched creates a record of ada that expires at end, and moves its expiry to
// a later time with Touch.
func (s *subject) touched(id sessions.ID, end time.Time) error {
	if _, err := s.Create(s.ctx, id, sessions.Record{Expires: end, Owner: "ada"}); err != nil {
		return fmt.Errorf("Create: got error %w, want nil", err)
	}
	if err := s.Touch(s.ctx, id, time.Now().Add(time.Hour)); err != nil {
		return fmt.Errorf("Touch: got error %w, want nil", err)
	}
	return nil
}

// updated is like touched, but uses Update.
func (s *subject) updated(id sessions.ID, end time.Time) (err error) {
	rec := recordFor(time.Hour, "data", "ada")
	if rec.Version, err = s.Create(s.ctx, id, sessions.Record{Expires: end, Owner: "ada"}); err != nil {
		return fmt.Errorf("Create: got error %w, want nil", err)
	}
	if _, err = s.Update(s.ctx, id, rec); err != nil {
		return fmt.Errorf("Update: got error %w, want nil", err)
	}
	return nil
}

// waitUntil returns when records that expire at end are absent. To find out, it
// polls another record of the same store that expires a millisecond later.
func (s *subject) waitUntil(end time.Time) {
	s.Helper()
	id := sha256.Sum256(fmt.Append(nil, "witness", end.UnixNano()))
	end = end.Add(time.Millisecond)
	s.create(id, sessions.Record{Expires: end})
	s.expires(id, end)
}

// expires returns when the record of id is absent, which must be at the time end.
func (s *subject) expires(id sessions.ID, end time.Time) {
	s.Helper()
	s.poll("a record still exists after its expiry", func() bool {
		began := time.Now()
		_, err := s.Load(s.ctx, id)
		if err == nil {
			if late := began.Sub(end); late > clockSkew {
				s.Fatalf("Load: got a record %v after its expiry", late)
			}
			return false
		}
		s.mustFail("Load", err, sessions.ErrNotFound)
		if early := time.Until(end); early > clockSkew {
			s.Errorf("Load: got %v, %v before the expiry of the record", err, early)
		}
		return true
	})
}
