package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/typedsessions/sessions"
)

// operations are the operations of a Store on one id, for clauses about all of
// them.
var operations = []struct {
	name string
	run  func(ctx context.Context, s sessions.Store, id sessions.ID, version uint64) error
	gone error // the error for an absent record
}{
	{"Load", func(ctx context.Context, s sessions.Store, id sessions.ID, _ uint64) error {
		_, err := s.Load(ctx, id)
		return err
	}, sessions.ErrNotFound},
	{"Create", func(ctx context.Context, s sessions.Store, id sessions.ID, _ uint64) error {
		_, err := s.Create(ctx, id, recordFor(time.Hour, "new", "ada"))
		return err
	}, nil},
	{"Update", func(ctx context.Context, s sessions.Store, id sessions.ID, version uint64) error {
		rec := recordFor(time.Hour, "new", "ada")
		rec.Version = version
		_, err := s.Update(ctx, id, rec)
		return err
	}, sessions.ErrNotFound},
	{"Touch", func(ctx context.Context, s sessions.Store, id sessions.ID, _ uint64) error {
		return s.Touch(ctx, id, time.Now().Add(2*time.Hour))
	}, sessions.ErrNotFound},
	{"Delete of version 0", func(ctx context.Context, s sessions.Store, id sessions.ID, _ uint64) error {
		return s.Delete(ctx, id, 0)
	}, nil},
	{"Delete of a version", func(ctx context.Context, s sessions.Store, id sessions.ID, version uint64) error {
		return s.Delete(ctx, id, max(version, 1))
	}, sessions.ErrNotFound},
}

// allAbsent runs each operation on its own id, whose record must be absent. The
// versions are those that the records had.
func (s *subject) allAbsent(versions []uint64) {
	s.Helper()
	for i, op := range operations {
		err := op.run(s.ctx, s.Store, idOf(i), versions[i])
		s.fails(op.name, err, op.gone)
		if op.name != "Create" {
			s.absent(idOf(i))
			continue
		}
		rec := s.load(idOf(i))
		if string(rec.Data) != "new" || rec.Owner != "ada" || rec.Version == versions[i] || rec.Version == 0 {
			s.Errorf("Create: got %q of %q at version %d, want the new record at an unused version", rec.Data, rec.Owner, rec.Version)
		}
	}
}

// createEach creates a record for each operation.
func (s *subject) createEach(rec sessions.Record) (versions []uint64) {
	s.Helper()
	for i := range operations {
		versions = append(versions, s.create(idOf(i), rec))
	}
	return versions
}

// storeClauses are the clauses of the comment of Store. Each is checked on a new
// store.
var storeClauses = []clause{
	{"Load returns the record that was created", func(s *subject) {
		rec := recordFor(time.Hour, "data", "ada")
		s.holds(oneID, s.create(oneID, rec), rec)
	}},
	{"Load of an absent id is ErrNotFound", func(s *subject) {
		s.absent(oneID)
		s.create(otherID, recordFor(time.Hour, "", ""))
		s.absent(oneID)
	}},
	{"ids that differ in one bit are different", func(s *subject) {
		var ids []sessions.ID
		for bit := range 8 * len(oneID) {
			id := oneID
			id[bit/8] ^= 1 << (bit % 8)
			ids = append(ids, id)
		}
		ids = append(ids, sessions.ID{}, oneID, sessions.ID(bytes.Repeat([]byte{0xff}, len(oneID))))
		versions := make([]uint64, len(ids))
		for i, id := range ids {
			versions[i] = s.create(id, recordFor(time.Hour, fmt.Sprint(i), ""))
		}
		for i, id := range ids {
			if rec := s.load(id); string(rec.Data) != fmt.Sprint(i) || rec.Version != versions[i] {
				s.Fatalf("id %v has the record of another id", id)
			}
		}
	}},
	{"the store does not change data that Load returned", func(s *subject) {
		version := s.create(oneID, recordFor(time.Hour, "first", "ada"))
		first, same := s.load(oneID), s.load(oneID)
		version = s.update(oneID, version, recordFor(2*time.Hour, "other", "bob"))
		second := s.load(oneID)
		s.touch(oneID, time.Now().Add(3*time.Hour))
		s.delete(oneID, version)
		s.create(oneID, recordFor(time.Hour, "third", ""))
		if string(first.Data) != "first" || string(same.Data) != "first" || string(second.Data) != "other" {
			s.Errorf("got %q, %q and %q, want the data as loaded: first, first and other", first.Data, same.Data, second.Data)
		}
	}},
	{"a record that never existed is absent for every operation", func(s *subject) {
		s.allAbsent(make([]uint64, len(operations)))
	}},
	{"a deleted record is absent for every operation", func(s *subject) {
		versions := s.createEach(recordFor(time.Hour, "old", "bob"))
		for i := range operations {
			s.delete(idOf(i), versions[i]*uint64(i%2)) // any version, or this one
		}
		s.allAbsent(versions)
	}},
	{"an expired record is absent for every operation", func(s *subject) {
		end := time.Now().Add(100 * time.Millisecond)
		versions := s.createEach(sessions.Record{Data: []byte("old"), Expires: end, Owner: "bob"})
		s.waitUntil(end)
		s.allAbsent(versions)
	}},
	{"a record that is created with an expiry in the past is absent for every operation", func(s *subject) {
		for _, end := range []time.Time{time.Now().Add(-time.Millisecond), time.Now().Add(-time.Hour), time.UnixMilli(1), {}} {
			s.allAbsent(s.createEach(sessions.Record{Data: []byte("old"), Expires: end, Owner: "bob"}))
			for i := range operations {
				s.delete(idOf(i), 0)
			}
		}
	}},
	{"an Update to an expiry in the past makes the record absent for every operation", func(s *subject) {
		versions := s.createEach(recordFor(time.Hour, "old", "bob"))
		for i := range versions {
			versions[i] = s.update(idOf(i), versions[i], recordFor(-time.Second, "old", "bob"))
		}
		s.allAbsent(versions)
	}},
	{"a record expires in a millisecond", func(s *subject) {
		rec := recordFor(time.Millisecond, "data", "ada")
		s.create(oneID, rec)
		s.expires(oneID, rec.Expires)
	}},
	{"a record exists until its expiry and not after", func(s *subject) {
		end := time.Now().Add(300 * time.Millisecond)
		if end.Nanosecond() < 4e8 {
			end = end.Add(4e8) // not near a whole second, the expiry with a coarser clock
		}
		s.create(oneID, sessions.Record{Data: []byte("data"), Expires: end})
		s.expires(oneID, end)
	}},
	{"an expiry keeps its milliseconds in any time zone", func(s *subject) {
		base := time.Now().Add(time.Hour).Truncate(time.Second)
		for i, zone := range []*time.Location{time.UTC, time.Local, time.FixedZone("east", 14*60*60), time.FixedZone("west", -11*60*60-30*60)} {
			for _, part := range []time.Duration{0, time.Millisecond, 123456789, 999 * time.Millisecond, 999999999} {
				rec := sessions.Record{Data: []byte("data"), Expires: base.Add(part).In(zone)}
				id := idOf(100*i + int(part%97))
				version := s.create(id, rec)
				s.holds(id, version, rec)
				rec.Expires = rec.Expires.Add(time.Minute)
				version = s.update(id, version, rec)
				s.holds(id, version, rec)
				rec.Expires = rec.Expires.Add(time.Minute)
				s.touch(id, rec.Expires)
				s.holds(id, version, rec)
				s.delete(id, version)
			}
		}
	}},
	{"an expiry may be in a hundred years", func(s *subject) {
		for i, years := range []int{1, 13, 30, 100} {
			rec := sessions.Record{Data: []byte("data"), Expires: time.Now().AddDate(years, 0, 0), Owner: "ada"}
			id := idOf(i)
			version := s.create(id, rec)
			s.holds(id, version, rec)
			version = s.update(id, version, recordFor(time.Hour, "data", "ada"))
			s.touch(id, rec.Expires)
			s.holds(id, version, rec)
			version = s.update(id, version, rec)
			s.holds(id, version, rec)
		}
	}},

	{"Create of an id that is taken is ErrExists and writes nothing", func(s *subject) {
		rec := recordFor(time.Hour, "data", "ada")
		version := s.create(oneID, rec)
		for _, given := range []uint64{0, version} {
			late := recordFor(2*time.Hour, "other", "bob")
			late.Version = given
			_, err := s.Create(s.ctx, oneID, late)
			s.fails("Create", err, sessions.ErrExists)
			s.holds(oneID, version, rec)
		}
	}},
	{"Create ignores the version it is given", func(s *subject) {
		for i, given := range []uint64{0, 1, 7, 1<<63 | rand.Uint64(), 1<<64 - 1} {
			rec := recordFor(time.Hour, "data", "")
			rec.Version = given
			version := s.create(idOf(i), rec)
			s.holds(idOf(i), version, rec)
			if given > 7 && version == given {
				s.Errorf("got version %d, which it was given", version)
			}
		}
	}},
	{"Create neither retains nor changes the array of the data", func(s *subject) {
		rec := recordFor(time.Hour, "data", "")
		version := s.create(oneID, rec)
		if string(rec.Data) != "data" {
			s.Errorf("Create changed the data that it was given to %q", rec.Data)
		}
		copy(rec.Data, "XXXX")
		s.holds(oneID, version, sessions.Record{Data: []byte("data"), Expires: rec.Expires})
	}},
	{"Create after Delete stores", func(s *subject) {
		s.create(oneID, recordFor(time.Hour, "old", "ada"))
		s.delete(oneID, 0)
		rec := recordFor(time.Minute, "new", "bob")
		version := s.create(oneID, rec)
		s.holds(oneID, version, rec)
		s.delete(oneID, version)
		s.holds(oneID, s.create(oneID, rec), rec)
	}},

	{"Update replaces the whole record", func(s *subject) {
		version := s.create(oneID, recordFor(time.Hour, "data", "ada"))
		for _, rec := range []sessions.Record{recordFor(2*time.Hour, "more data", "bob"), recordFor(time.Minute, "", "")} {
			version = s.update(oneID, version, rec)
			s.holds(oneID, version, rec)
		}
	}},
	{"an Update that changes nothing still changes the version", func(s *subject) {
		rec := recordFor(time.Hour, "data", "ada")
		version := s.create(oneID, rec)
		for range 3 {
			version = s.update(oneID, version, rec)
			s.holds(oneID, version, rec)
		}
	}},
	{"Update may move the expiry to an earlier time", func(s *subject) {
		version := s.create(oneID, recordFor(time.Hour, "data", ""))
		end := time.Now().Add(100 * time.Millisecond)
		s.update(oneID, version, sessions.Record{Data: []byte("data"), Expires: end})
		s.waitUntil(end)
		s.absent(oneID)
	}},
	{"Update may move the expiry to a later time", func(s *subject) {
		id, end := s.beforeExpiry(s.updated)
		s.waitUntil(end)
		s.load(id)
	}},
	{"Update of another version is ErrConflict and writes nothing", func(s *subject) {
		rec := recordFor(time.Hour, "data", "ada")
		first := s.create(oneID, rec)
		second := s.update(oneID, first, rec)
		for _, stale := range []uint64{0, first, second + 1, 1<<63 - 1, 1<<64 - 1} {
			late := recordFor(2*time.Hour, "late", "bob")
			late.Version = stale
			_, err := s.Update(s.ctx, oneID, late)
			s.fails(fmt.Sprintf("Update of version %d instead of %d", stale, second), err, sessions.ErrConflict)
			s.holds(oneID, second, rec)
		}
	}},
	{"Update of an absent id is ErrNotFound and writes nothing", func(s *subject) {
		version := s.create(oneID, recordFor(time.Hour, "data", ""))
		s.delete(oneID, 0)
		for _, v := range []uint64{0, version, version + 1} {
			rec := recordFor(time.Hour, "late", "ada")
			rec.Version = v
			_, err := s.Update(s.ctx, oneID, rec)
			s.fails("Update", err, sessions.ErrNotFound)
			s.absent(oneID)
		}
	}},
	{"Update neither retains nor changes the array of the data", func(s *subject) {
		rec := recordFor(time.Hour, "data", "")
		version := s.update(oneID, s.create(oneID, rec), rec)
		if string(rec.Data) != "data" {
			s.Errorf("Update changed the data that it was given to %q", rec.Data)
		}
		copy(rec.Data, "XXXX")
		s.holds(oneID, version, sessions.Record{Data: []byte("data"), Expires: rec.Expires})
	}},

	{"Touch moves the expiry and changes nothing else, including the version", func(s *subject) {
		rec := recordFor(time.Minute, "data", "ada")
		version := s.create(oneID, rec)
		for range 3 {
			rec.Expires = rec.Expires.Add(time.Hour + time.Millisecond)
			s.touch(oneID, rec.Expires)
			s.holds(oneID, version, rec)
		}
	}},
	{"a touched record outlives its first expiry", func(s *subject) {
		id, end := s.beforeExpiry(s.touched)
		s.waitUntil(end)
		s.load(id)
	}},
	{"Touch to an expiry that is not later changes nothing and is no error", func(s *subject) {
		rec := recordFor(time.Hour, "data", "ada")
		version := s.create(oneID, rec)
		for _, end := range []time.Time{rec.Expires, rec.Expires.Add(-time.Millisecond), time.Now(), time.Now().Add(-time.Hour), time.UnixMilli(1), {}} {
			s.touch(oneID, end)
			s.holds(oneID, version, rec)
		}
	}},
	{"an Update or Delete of the version before a Touch succeeds", func(s *subject) {
		version := s.create(oneID, recordFor(time.Minute, "data", ""))
		s.touch(oneID, time.Now().Add(time.Hour))
		version = s.update(oneID, version, recordFor(time.Minute, "new", ""))
		s.touch(oneID, time.Now().Add(time.Hour))
		s.delete(oneID, version)
	}},
	{"Touch does not revive a deleted or expired record", func(s *subject) {
		version := s.create(oneID, recordFor(time.Hour, "data", "ada"))
		s.delete(oneID, version)
		s.create(otherID, recordFor(-time.Second, "data", "ada"))
		for _, id := range []sessions.ID{oneID, otherID} {
			for range 2 {
				s.fails("Touch", s.Touch(s.ctx, id, time.Now().Add(time.Hour)), sessions.ErrNotFound)
				s.absent(id)
			}
		}
	}},

	{"Delete of version 0 removes any version of the record and no other record", func(s *subject) {
		version := s.create(oneID, recordFor(time.Hour, "data", ""))
		s.update(oneID, version, recordFor(time.Hour, "new", ""))
		rec := recordFor(time.Hour, "other", "")
		keep := s.create(otherID, rec)
		s.delete(oneID, 0)
		s.absent(oneID)
		s.holds(otherID, keep, rec)
		s.delete(oneID, 0) // an absent record is no error
	}},
	{"Delete of a version removes that version only", func(s *subject) {
		rec := recordFor(time.Hour, "data", "ada")
		first := s.create(oneID, rec)
		second := s.update(oneID, first, rec)
		for _, stale := range []uint64{first, second + 1, 1<<63 - 1, 1<<64 - 1} {
			s.fails(fmt.Sprintf("Delete of version %d instead of %d", stale, second), s.Delete(s.ctx, oneID, stale), sessions.ErrConflict)
			s.holds(oneID, second, rec)
		}
		s.delete(oneID, second)
		s.absent(oneID)
		s.fails("second Delete", s.Delete(s.ctx, oneID, second), sessions.ErrNotFound)
		s.fails("Delete of a record that never existed", s.Delete(s.ctx, otherID, 1), sessions.ErrNotFound)
	}},

	{"versions change at every write and are not used again under the id", func(s *subject) {
		seen := map[uint64]string{0: "none"}
		note := func(what string, version uint64) {
			if before, ok := seen[version]; ok {
				s.Errorf("%s: got version %d again, which was that of %s", what, version, before)
			}
			seen[version] = what
		}
		rec := recordFor(time.Hour, "same", "")
		for i := range 10 {
			version := s.create(oneID, rec)
			note(fmt.Sprintf("Create %d", i), version)
			for range 3 {
				version = s.update(oneID, version, rec)
				note(fmt.Sprintf("an Update after Create %d", i), version)
			}
			s.delete(oneID, version)
			note(fmt.Sprintf("a Create after the Delete of a version, %d", i), s.create(oneID, rec))
			s.delete(oneID, 0)
			note(fmt.Sprintf("a Create after the Delete of version 0, %d", i), s.create(oneID, recordFor(-time.Second, "same", "")))
		}
	}},
	{"versions are not used again after an expiry", func(s *subject) {
		seen := map[uint64]bool{0: true}
		for range 3 {
			end := time.Now().Add(30 * time.Millisecond)
			version := s.create(oneID, sessions.Record{Data: []byte("same"), Expires: end})
			if seen[version] {
				s.Errorf("got version %d again", version)
			}
			seen[version] = true
			s.waitUntil(end)
		}
	}},
	{"Update and Delete with the version of a deleted record fail on a record created later", func(s *subject) {
		for i, end := range []func(id sessions.ID, version uint64) uint64{
			func(id sessions.ID, version uint64) uint64 { s.delete(id, 0); return version },
			func(id sessions.ID, version uint64) uint64 { s.delete(id, version); return version },
			func(id sessions.ID, version uint64) uint64 {
				return s.update(id, version, recordFor(-time.Second, "old", ""))
			},
		} {
			id := idOf(i)
			old := end(id, s.create(id, recordFor(time.Hour, "old", "")))
			rec := recordFor(time.Hour, "new", "")
			version := s.create(id, rec)
			late := recordFor(time.Hour, "late", "")
			late.Version = old
			_, err := s.Update(s.ctx, id, late)
			s.fails("Update", err, sessions.ErrConflict)
			s.fails("Delete", s.Delete(s.ctx, id, old), sessions.ErrConflict)
			s.holds(id, version, rec)
		}
	}},

	{"data may contain any bytes", func(s *subject) {
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		for i, data := range []string{"", "\x00", "\x00\x00", "a\x00b", "\xff\xfe\xfd", "\r\n", " padded ", "'\"\\`;--%_{}", "NULL", "é\U0001f9ab", string(all), strings.Repeat("\x00", 1000)} {
			rec := recordFor(time.Hour, data, "")
			id := idOf(i)
			version := s.create(id, rec)
			s.holds(id, version, rec)
			version = s.update(id, version, recordFor(time.Hour, "between", ""))
			s.holds(id, s.update(id, version, rec), rec)
		}
		rec := sessions.Record{Expires: time.Now().Add(time.Hour)} // nil
		version := s.create(oneID, rec)
		s.holds(oneID, version, rec)
		s.holds(oneID, s.update(oneID, version, rec), rec)
	}},
	{"owners may contain any bytes", func(s *subject) {
		for i, owner := range oddOwners {
			rec := recordFor(time.Hour, "data", owner)
			version := s.create(idOf(i), rec)
			s.holds(idOf(i), version, rec)
			s.holds(idOf(i), s.update(idOf(i), version, rec), rec)
		}
	}},

	{"operations return the error of a canceled context", func(s *subject) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.obeys(ctx, context.Canceled)
	}},
	{"operations return the error of a context whose deadline has passed", func(s *subject) {
		ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
		defer cancel()
		s.obeys(ctx, context.DeadlineExceeded)
	}},

	{"one of several parallel Creates of an id succeeds", func(s *subject) {
		s.oneSucceeds("Create", sessions.ErrExists, func(id sessions.ID, _ uint64, i int) error {
			_, err := s.Create(s.ctx, id, recordFor(time.Hour, fmt.Sprint(i), "bob"))
			return err
		}, func(id sessions.ID) uint64 { return 0 })
	}},
	{"one of several parallel Creates over an expired record succeeds", func(s *subject) {
		s.oneSucceeds("Create", sessions.ErrExists, func(id sessions.ID, _ uint64, i int) error {
			_, err := s.Create(s.ctx, id, recordFor(time.Hour, fmt.Sprint(i), "bob"))
			return err
		}, func(id sessions.ID) uint64 { return s.create(id, recordFor(-time.Second, "old", "ada")) })
	}},
	{"one of several parallel Updates of a version succeeds", func(s *subject) {
		s.oneSucceeds("Update", sessions.ErrConflict, func(id sessions.ID, version uint64, i int) error {
			rec := recordFor(time.Hour, fmt.Sprint(i), "bob")
			rec.Version = version
			_, err := s.Update(s.ctx, id, rec)
			return err
		}, func(id sessions.ID) uint64 { return s.create(id, recordFor(time.Hour, "", "ada")) })
	}},
	{"one of several parallel Deletes of a version succeeds", func(s *subject) {
		s.oneSucceeds("Delete", sessions.ErrNotFound, func(id sessions.ID, version uint64, _ int) error {
			return s.Delete(s.ctx, id, version)
		}, func(id sessions.ID) uint64 { return s.create(id, recordFor(time.Hour, "", "ada")) })
	}},
	{"parallel increments by Load and Update are all counted", func(s *subject) {
		const goroutines, each = 16, 5
		s.create(oneID, sessions.Record{Data: []byte{0}, Expires: time.Now().Add(time.Hour), Owner: "ada"})
		load := func() sessions.Record {
			s.Helper()
			rec := s.load(oneID)
			if len(rec.Data) != 1 {
				s.Fatalf("Load: got %d bytes of data, want the one that was stored", len(rec.Data))
			}
			return rec
		}
		// Of several Updates that conflict, another one has succeeded.
		var mu sync.Mutex
		conflicts, success := 0, time.Now()
		ended := func(err error) {
			s.Helper()
			mu.Lock()
			defer mu.Unlock()
			switch conflicts++; {
			case err == nil:
				conflicts, success = 0, time.Now()
			case !errors.Is(err, sessions.ErrConflict):
				s.Fatalf("Update: got error %v, want nil or %v", err, sessions.ErrConflict)
			case conflicts > 1000 && time.Since(success) > time.Second:
				s.Fatalf("Update: got %v %d times in all goroutines without a success between them", err, conflicts)
			}
		}
		s.parallel(goroutines, func(int) {
			for done := 0; done < each; {
				rec := load()
				rec.Data = []byte{rec.Data[0] + 1}
				_, err := s.Update(s.ctx, oneID, rec)
				ended(err)
				if err == nil {
					done++
				}
			}
		})
		if got := load().Data[0]; got != goroutines*each {
			s.Errorf("got a count of %d, want %d", got, goroutines*each)
		}
	}},
	{"a deletion wins over parallel Updates and Touches", func(s *subject) {
		for round := range 30 {
			id := idOf(round)
			s.create(id, recordFor(time.Hour, "", "ada"))
			const writers = 6
			var written atomic.Int64
			var deleting, deleted atomic.Bool
			begun := make(chan struct{})
			wait := s.start(writers, func(i int) {
				write := func() (op string, err error) {
					if i%3 == 0 {
						return "Touch", s.Touch(s.ctx, id, time.Now().Add(2*time.Hour))
					}
					rec, err := s.Load(s.ctx, id)
					if err != nil {
						return "Load", err
					}
					_, err = s.Update(s.ctx, id, rec)
					return "Update", err
				}
				for {
					late := deleted.Load()
					op, err := write()
					if written.Add(1) == writers {
						close(begun)
					}
					switch {
					case errors.Is(err, sessions.ErrNotFound) && deleting.Load():
						return
					case late:
						s.Fatalf("%s after the Delete: got error %v, want %v", op, err, sessions.ErrNotFound)
					case err != nil && !errors.Is(err, sessions.ErrConflict):
						s.Fatalf("%s: got error %v before the Delete", op, err)
					}
				}
			})
			s.await(begun)
			deleting.Store(true)
			s.delete(id, 0)
			deleted.Store(true)
			s.absent(id)
			wait()
			s.absent(id)
			if s.Failed() {
				return
			}
		}
	}},
}

// obeys runs every operation with a context that is done, on an existing and on
// an absent record, and checks its error and that it wrote nothing.
func (s *subject) obeys(ctx context.Context, want error) {
	s.Helper()
	rec := recordFor(time.Hour, "data", "bob")
	version := s.create(oneID, rec)
	for _, op := range operations {
		s.fails(op.name, op.run(ctx, s.Store, oneID, version), want)
		s.fails(op.name+" of an absent id", op.run(ctx, s.Store, otherID, version), want)
	}
	s.holds(oneID, version, rec)
	s.absent(otherID)
}

// oneSucceeds calls try in parallel, in several rounds. In each round one call must
// succeed and the others must return loss.
func (s *subject) oneSucceeds(op string, loss error, try func(id sessions.ID, version uint64, i int) error, prepare func(id sessions.ID) uint64) {
	s.Helper()
	const rounds, goroutines = 20, 16
	for round := range rounds {
		id := idOf(round)
		version := prepare(id)
		var won atomic.Int64
		s.parallel(goroutines, func(i int) {
			if err := try(id, version, i); err == nil {
				won.Add(1)
			} else {
				s.mustFail(op+" after another one", err, loss)
			}
		})
		if won.Load() != 1 {
			s.Fatalf("%s: %d of %d calls succeeded, want 1", op, won.Load(), goroutines)
		}
	}
}
