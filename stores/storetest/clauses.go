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

// operations are those of a Store on one id, for what all of them must do.
var operations = []struct {
	name string
	run  func(ctx context.Context, s sessions.Store, id sessions.ID, version uint64) error
	gone error // of an absent record
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

// goneAll runs every operation on an id of its own, whose record lay prepares
// and is absent by now.
func (s *subject) goneAll(versions []uint64) {
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
			s.Errorf("Create: got %q of %q at version %d, want the new record at a version that never was", rec.Data, rec.Owner, rec.Version)
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

// storeClauses are the sentences of the comment of Store. Each gets a store of
// its own.
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
				s.Fatalf("id %v has the record of another", id)
			}
		}
	}},
	{"what Load returned is changed by nobody", func(s *subject) {
		version := s.create(oneID, recordFor(time.Hour, "first", "ada"))
		first, same := s.load(oneID), s.load(oneID)
		version = s.update(oneID, version, recordFor(2*time.Hour, "other", "bob"))
		second := s.load(oneID)
		s.touch(oneID, time.Now().Add(3*time.Hour))
		s.delete(oneID, version)
		s.create(oneID, recordFor(time.Hour, "third", ""))
		if string(first.Data) != "first" || string(same.Data) != "first" || string(second.Data) != "other" {
			s.Errorf("got %q, %q and %q, want what was loaded: first, first and other", first.Data, same.Data, second.Data)
		}
	}},
	{"a record that was never there is absent for every operation", func(s *subject) {
		s.goneAll(make([]uint64, len(operations)))
	}},
	{"a deleted record is absent for every operation", func(s *subject) {
		versions := s.createEach(recordFor(time.Hour, "old", "bob"))
		for i := range operations {
			s.delete(idOf(i), versions[i]*uint64(i%2)) // whatever is there, or that version
		}
		s.goneAll(versions)
	}},
	{"an expired record is absent for every operation", func(s *subject) {
		end := time.Now().Add(100 * time.Millisecond)
		versions := s.createEach(sessions.Record{Data: []byte("old"), Expires: end, Owner: "bob"})
		s.pass(end)
		s.goneAll(versions)
	}},
	{"a record that is created with an expiry in the past is absent for every operation", func(s *subject) {
		for _, end := range []time.Time{time.Now().Add(-time.Millisecond), time.Now().Add(-time.Hour), time.UnixMilli(1), {}} {
			s.goneAll(s.createEach(sessions.Record{Data: []byte("old"), Expires: end, Owner: "bob"}))
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
		s.goneAll(versions)
	}},
	{"a record expires in a millisecond", func(s *subject) {
		s.create(oneID, recordFor(time.Millisecond, "data", "ada"))
		poll(s.T, "it is still there", func() bool {
			_, err := s.Load(s.ctx, oneID)
			return errors.Is(err, sessions.ErrNotFound)
		})
	}},
	{"a record is there until its expiry and not after", func(s *subject) {
		end := time.Now().Add(300 * time.Millisecond)
		if end.Nanosecond() < 4e8 {
			end = end.Add(4e8) // far from a whole second, at which a coarser clock would end it
		}
		s.create(oneID, sessions.Record{Data: []byte("data"), Expires: end})
		poll(s.T, "it is still there", func() bool {
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
	{"an expiry keeps its milliseconds in any zone", func(s *subject) {
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
	{"an expiry may be a hundred years away", func(s *subject) {
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
	{"Create does not keep the array of the data", func(s *subject) {
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

	{"Update replaces all of the record", func(s *subject) {
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
	{"Update may bring the expiry nearer", func(s *subject) {
		version := s.create(oneID, recordFor(time.Hour, "data", ""))
		end := time.Now().Add(100 * time.Millisecond)
		s.update(oneID, version, sessions.Record{Data: []byte("data"), Expires: end})
		s.pass(end)
		s.absent(oneID)
	}},
	{"Update moves the expiry away", func(s *subject) {
		id, end := s.within(func(id sessions.ID, end time.Time) error {
			rec := recordFor(time.Hour, "data", "ada")
			var err error
			if rec.Version, err = s.Create(s.ctx, id, sessions.Record{Expires: end, Owner: "ada"}); err == nil {
				_, err = s.Update(s.ctx, id, rec)
			}
			return err
		})
		s.pass(end)
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
	{"Update does not keep the array of the data", func(s *subject) {
		rec := recordFor(time.Hour, "data", "")
		version := s.update(oneID, s.create(oneID, rec), rec)
		copy(rec.Data, "XXXX")
		s.holds(oneID, version, sessions.Record{Data: []byte("data"), Expires: rec.Expires})
	}},

	{"Touch moves the expiry and leaves everything else, also the version", func(s *subject) {
		rec := recordFor(time.Minute, "data", "ada")
		version := s.create(oneID, rec)
		for range 3 {
			rec.Expires = rec.Expires.Add(time.Hour + time.Millisecond)
			s.touch(oneID, rec.Expires)
			s.holds(oneID, version, rec)
		}
	}},
	{"a touched record outlives its first expiry", func(s *subject) {
		id, end := s.within(func(id sessions.ID, end time.Time) error {
			_, err := s.Create(s.ctx, id, sessions.Record{Expires: end, Owner: "ada"})
			if err == nil {
				err = s.Touch(s.ctx, id, time.Now().Add(time.Hour))
			}
			return err
		})
		s.pass(end)
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
	{"an Update or Delete of the version from before a Touch succeeds", func(s *subject) {
		version := s.create(oneID, recordFor(time.Minute, "data", ""))
		s.touch(oneID, time.Now().Add(time.Hour))
		version = s.update(oneID, version, recordFor(time.Minute, "new", ""))
		s.touch(oneID, time.Now().Add(time.Hour))
		s.delete(oneID, version)
	}},
	{"Touch of a deleted or expired id revives nothing", func(s *subject) {
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

	{"Delete of version 0 removes whatever is there and nothing else", func(s *subject) {
		version := s.create(oneID, recordFor(time.Hour, "data", ""))
		s.update(oneID, version, recordFor(time.Hour, "new", ""))
		rec := recordFor(time.Hour, "other", "")
		keep := s.create(otherID, rec)
		s.delete(oneID, 0)
		s.absent(oneID)
		s.holds(otherID, keep, rec)
		s.delete(oneID, 0) // no error where nothing is
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
		s.fails("Delete again", s.Delete(s.ctx, oneID, second), sessions.ErrNotFound)
		s.fails("Delete of what never was", s.Delete(s.ctx, otherID, 1), sessions.ErrNotFound)
	}},

	{"versions change at every write and never come back under the id", func(s *subject) {
		seen := map[uint64]string{0: "none"}
		note := func(what string, version uint64) {
			if before, ok := seen[version]; ok {
				s.Errorf("%s: version %d came back, which was that of %s", what, version, before)
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
	{"versions never come back after an expiry", func(s *subject) {
		seen := map[uint64]bool{0: true}
		for range 3 {
			end := time.Now().Add(30 * time.Millisecond)
			version := s.create(oneID, sessions.Record{Data: []byte("same"), Expires: end})
			if seen[version] {
				s.Errorf("version %d came back", version)
			}
			seen[version] = true
			s.pass(end)
		}
	}},
	{"who loaded a record that was deleted and created again cannot change the new one", func(s *subject) {
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

	{"data of any bytes comes back", func(s *subject) {
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
	{"data of any length up to 1 MiB comes back", func(s *subject) {
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
	{"owners of any bytes come back", func(s *subject) {
		for i, owner := range oddOwners {
			rec := recordFor(time.Hour, "data", owner)
			version := s.create(idOf(i), rec)
			s.holds(idOf(i), version, rec)
			s.holds(idOf(i), s.update(idOf(i), version, rec), rec)
		}
	}},

	{"operations obey a context that is cancelled", func(s *subject) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.obeys(ctx, context.Canceled)
	}},
	{"operations obey a context whose time is over", func(s *subject) {
		ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
		defer cancel()
		s.obeys(ctx, context.DeadlineExceeded)
	}},

	{"of parallel Creates of an id one wins", func(s *subject) {
		s.oneWins(sessions.ErrExists, func(id sessions.ID, _ uint64, i int) error {
			_, err := s.Create(s.ctx, id, recordFor(time.Hour, fmt.Sprint(i), "bob"))
			return err
		}, func(id sessions.ID) uint64 { return 0 })
	}},
	{"of parallel Creates over an expired record one wins", func(s *subject) {
		s.oneWins(sessions.ErrExists, func(id sessions.ID, _ uint64, i int) error {
			_, err := s.Create(s.ctx, id, recordFor(time.Hour, fmt.Sprint(i), "bob"))
			return err
		}, func(id sessions.ID) uint64 { return s.create(id, recordFor(-time.Second, "old", "ada")) })
	}},
	{"of parallel Updates of a version one wins", func(s *subject) {
		s.oneWins(sessions.ErrConflict, func(id sessions.ID, version uint64, i int) error {
			rec := recordFor(time.Hour, fmt.Sprint(i), "bob")
			rec.Version = version
			_, err := s.Update(s.ctx, id, rec)
			return err
		}, func(id sessions.ID) uint64 { return s.create(id, recordFor(time.Hour, "", "ada")) })
	}},
	{"of parallel Deletes of a version one wins", func(s *subject) {
		s.oneWins(sessions.ErrNotFound, func(id sessions.ID, version uint64, _ int) error {
			return s.Delete(s.ctx, id, version)
		}, func(id sessions.ID) uint64 { return s.create(id, recordFor(time.Hour, "", "ada")) })
	}},
	{"compare-and-set of parallel goroutines counts right", func(s *subject) {
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

// obeys runs every operation, on a record and on none, under a context that has
// ended, and sees that nothing was written.
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

// oneWins runs try in parallel, round after round, and wants one to succeed and
// the others to fail with loss.
func (s *subject) oneWins(loss error, try func(id sessions.ID, version uint64, i int) error, prepare func(id sessions.ID) uint64) {
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
				s.fails("what lost", err, loss)
			}
		})
		if won.Load() != 1 {
			s.Fatalf("%d of %d won, want 1", won.Load(), goroutines)
		}
	}
}
