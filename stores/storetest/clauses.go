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
		s.create(oneID, recordFor(time.Millisecond, "data", "ada"))
		poll(s.T, "the record still exists", func() bool {
			_, err := s.Load(s.ctx, oneID)
			return errors.Is(err, sessions.ErrNotFound)
		})
	}},
	{"a record exists until its expiry and not after", func(s *subject) {
		end := time.Now().Add(300 * time.Millisecond)
		if end.Nanosecond() < 4e8 {
			end = end.Add(4e8) // not near a whole second, the expiry with a coarser clock
		}
		s.create(oneID, sessions.Record{Data: []byte("data"), Expires: end})
		poll(s.T, "the record still exists", func() bool {
			began := time.Now()
			_, err := s.Load(s.ctx, oneID)
			switch early, late := time.Until(end), began.Sub(end); {
			case err != nil && early > clockSkew:
				s.Errorf("got %v, %v before the expiry", err, early)
			case err == nil && late > clockSkew:
				s.Errorf("got a record, %v after its expiry", late)
			}
			return err != nil || s.Failed()
		})
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
	{"Create does not retain the array of the data", func(s *subject) {
		rec := recordFor(time.Hour, "data", "")
		version := s.create(oneID, rec)
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
		id, end := s.beforeExpiry(func(id sessions.ID, end time.Time) error {
			rec := recordFor(time.Hour, "data", "ada")
			var err error
			if rec.Version, err = s.Create(s.ctx, id, sessions.Record{Expires: end, Owner: "ada"}); err == nil {
				_, err = s.Update(s.ctx, id, rec)
			}
			return err
		})
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
	{"Update does not retain the array of the data", func(s *subject) {
		rec := recordFor(time.Hour, "data", "")
		version := s.update(oneID, s.create(oneID, rec), rec)
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
		id, end := s.beforeExpiry(func(id sessions.ID, end time.Time) error {
			_, err := s.Create(s.ctx, id, sessions.Record{Expires: end, Owner: "ada"})
			if err == nil {
				err = s.Touch(s.ctx, id, time.Now().Add(time.Hour))
			}
			return err
		})
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
	{"data may have any length up to 1 MiB", func(s *subject) {
		data := make([]byte, 1<<20)
		for i := range data {
			data[i] = byte(i * i >> 7)
		}
		for i, n := range []int{1, 255, 256, 1023, 4096, 8191, 1<<16 - 1, 1 << 16, 1<<16 + 1, 1 << 18, 1<<20 - 1, 1 << 20} {
			rec := recordFor(time.Hour, string(data[:n]), "ada")
			id := idOf(i)
			version := s.create(id, rec)
			s.holds(id, version, rec)
			rec.Data = data[len(data)-n:]
			version = s.update(id, version, rec)
			s.touch(id, rec.Expires)
			s.holds(id, version, rec)
			version = s.update(id, version, recordFor(time.Hour, "short", "ada"))
			s.delete(id, version)
		}
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
		s.oneSucceeds(sessions.ErrExists, func(id sessions.ID, _ uint64, i int) error {
			_, err := s.Create(s.ctx, id, recordFor(time.Hour, fmt.Sprint(i), "bob"))
			return err
		}, func(id sessions.ID) uint64 { return 0 })
	}},
	{"one of several parallel Creates over an expired record succeeds", func(s *subject) {
		s.oneSucceeds(sessions.ErrExists, func(id sessions.ID, _ uint64, i int) error {
			_, err := s.Create(s.ctx, id, recordFor(time.Hour, fmt.Sprint(i), "bob"))
			return err
		}, func(id sessions.ID) uint64 { return s.create(id, recordFor(-time.Second, "old", "ada")) })
	}},
	{"one of several parallel Updates of a version succeeds", func(s *subject) {
		s.oneSucceeds(sessions.ErrConflict, func(id sessions.ID, version uint64, i int) error {
			rec := recordFor(time.Hour, fmt.Sprint(i), "bob")
			rec.Version = version
			_, err := s.Update(s.ctx, id, rec)
			return err
		}, func(id sessions.ID) uint64 { return s.create(id, recordFor(time.Hour, "", "ada")) })
	}},
	{"one of several parallel Deletes of a version succeeds", func(s *subject) {
		s.oneSucceeds(sessions.ErrNotFound, func(id sessions.ID, version uint64, _ int) error {
			return s.Delete(s.ctx, id, version)
		}, func(id sessions.ID) uint64 { return s.create(id, recordFor(time.Hour, "", "ada")) })
	}},
	{"parallel increments by Load and Update are all counted", func(s *subject) {
		const goroutines, each = 16, 5
		s.create(oneID, sessions.Record{Data: []byte{0}, Expires: time.Now().Add(time.Hour), Owner: "ada"})
		parallel(goroutines, func(int) {
			for done := 0; done < each; {
				rec, err := s.Load(s.ctx, oneID)
				if err != nil {
					s.Errorf("Load: %v", err)
					return
				}
				rec.Data = []byte{rec.Data[0] + 1}
				switch _, err := s.Update(s.ctx, oneID, rec); {
				case err == nil:
					done++
				case !errors.Is(err, sessions.ErrConflict):
					s.Errorf("Update: %v", err)
					return
				}
			}
		})
		if got := s.load(oneID).Data[0]; got != goroutines*each {
			s.Errorf("got a count of %d, want %d", got, goroutines*each)
		}
	}},
	{"a deletion wins over parallel Updates and Touches", func(s *subject) {
		for round := range 30 {
			id := idOf(round)
			s.create(id, recordFor(time.Hour, "", "ada"))
			var writers sync.WaitGroup
			var written atomic.Int64
			var deleted atomic.Bool
			begun := make(chan struct{}, 1)
			for i := range 6 {
				writers.Go(func() {
					var err error
					for late := false; !late && (err == nil || errors.Is(err, sessions.ErrConflict)); {
						late = deleted.Load()
						if i%3 == 0 {
							err = s.Touch(s.ctx, id, time.Now().Add(2*time.Hour))
						} else {
							var rec sessions.Record
							if rec, err = s.Load(s.ctx, id); err == nil {
								_, err = s.Update(s.ctx, id, rec)
							}
						}
						if written.Add(1) == 6 {
							begun <- struct{}{}
						}
					}
					s.fails("an Update or Touch after the Delete", err, sessions.ErrNotFound)
				})
			}
			<-begun
			s.delete(id, 0)
			deleted.Store(true)
			s.absent(id)
			writers.Wait()
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
func (s *subject) oneSucceeds(loss error, try func(id sessions.ID, version uint64, i int) error, prepare func(id sessions.ID) uint64) {
	s.Helper()
	const rounds, goroutines = 20, 16
	for round := range rounds {
		id := idOf(round)
		version := prepare(id)
		var won atomic.Int64
		parallel(goroutines, func(i int) {
			if err := try(id, version, i); err == nil {
				won.Add(1)
			} else {
				s.fails("another call", err, loss)
			}
		})
		if won.Load() != 1 {
			s.Fatalf("%d of %d calls succeeded, want 1", won.Load(), goroutines)
		}
	}
}
