package sessions_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

var bg = context.Background()

// storeID returns the n-th of the ids of a test: hashes, as real ones are.
func storeID(n int) sessions.ID { return sha256.Sum256(fmt.Append(nil, n)) }

// recordFor returns a record that lasts for d.
func recordFor(d time.Duration, data, owner string) sessions.Record {
	return sessions.Record{Data: []byte(data), Expires: time.Now().Add(d).Truncate(time.Millisecond), Owner: owner}
}

// A storeUnderTest fails the test where an operation does not do what it must.
type storeUnderTest struct {
	*testing.T
	sessions.OwnerStore
}

func (s storeUnderTest) create(id sessions.ID, rec sessions.Record) (version uint64) {
	s.Helper()
	version, err := s.Create(bg, id, rec)
	if err != nil || version == 0 {
		s.Fatalf("Create: got version %d, %v, want a version that is not 0", version, err)
	}
	return version
}

func (s storeUnderTest) update(id sessions.ID, version uint64, rec sessions.Record) (next uint64) {
	s.Helper()
	rec.Version = version
	next, err := s.Update(bg, id, rec)
	if err != nil || next == version || next == 0 {
		s.Fatalf("Update of version %d: got version %d, %v, want another one", version, next, err)
	}
	return next
}

func (s storeUnderTest) load(id sessions.ID) sessions.Record {
	s.Helper()
	rec, err := s.Load(bg, id)
	if err != nil {
		s.Fatalf("Load: got %v, want a record", err)
	}
	return rec
}

// holds fails unless the record of id is want, at that version.
func (s storeUnderTest) holds(id sessions.ID, version uint64, want sessions.Record) {
	s.Helper()
	got := s.load(id)
	if !bytes.Equal(got.Data, want.Data) {
		s.Errorf("got %d bytes of data, want the %d that were stored", len(got.Data), len(want.Data))
	}
	if got.Version != version {
		s.Errorf("got version %d, want %d", got.Version, version)
	}
	if end := want.Expires.Truncate(time.Millisecond); !got.Expires.Equal(end) {
		s.Errorf("got expiry %v, want %v", got.Expires, end)
	}
	if got.Owner != want.Owner {
		s.Errorf("got owner %q, want %q", got.Owner, want.Owner)
	}
}

func (s storeUnderTest) absent(id sessions.ID) {
	s.Helper()
	if rec, err := s.Load(bg, id); !errors.Is(err, sessions.ErrNotFound) {
		s.Errorf("Load: got %v, %v, want ErrNotFound", rec, err)
	}
}

func (s storeUnderTest) fails(what string, got, want error) {
	s.Helper()
	if !errors.Is(got, want) {
		s.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// owned returns how often Owned yields each id.
func (s storeUnderTest) owned(owner string) map[sessions.ID]int {
	s.Helper()
	ids := map[sessions.ID]int{}
	for id, err := range s.Owned(bg, owner) {
		if err != nil {
			s.Fatalf("Owned: %v", err)
		}
		ids[id]++
	}
	return ids
}

func (s storeUnderTest) lists(owner string, want ...sessions.ID) {
	s.Helper()
	got := s.owned(owner)
	for _, id := range want {
		if got[id] == 0 {
			s.Errorf("Owned(%q) does not yield %v", owner, id)
		}
		delete(got, id)
	}
	for id := range got {
		if rec, err := s.Load(bg, id); err == nil && rec.Owner != owner {
			s.Errorf("Owned(%q) yields %v, which is of %q", owner, id, rec.Owner)
		}
	}
}

// storeOps are the operations of a Store on one id, for what all must do.
var storeOps = []struct {
	name string
	run  func(s sessions.Store, ctx context.Context, id sessions.ID, version uint64) error
}{
	{"Load", func(s sessions.Store, ctx context.Context, id sessions.ID, _ uint64) error {
		_, err := s.Load(ctx, id)
		return err
	}},
	{"Create", func(s sessions.Store, ctx context.Context, id sessions.ID, _ uint64) error {
		_, err := s.Create(ctx, id, recordFor(time.Hour, "new", "ada"))
		return err
	}},
	{"Update", func(s sessions.Store, ctx context.Context, id sessions.ID, version uint64) error {
		rec := recordFor(time.Hour, "new", "ada")
		rec.Version = version
		_, err := s.Update(ctx, id, rec)
		return err
	}},
	{"Touch", func(s sessions.Store, ctx context.Context, id sessions.ID, _ uint64) error {
		return s.Touch(ctx, id, time.Now().Add(2*time.Hour))
	}},
	{"Delete", func(s sessions.Store, ctx context.Context, id sessions.ID, _ uint64) error {
		return s.Delete(ctx, id, 0)
	}},
	{"Delete at its version", func(s sessions.Store, ctx context.Context, id sessions.ID, version uint64) error {
		return s.Delete(ctx, id, version)
	}},
}

var (
	oneID, otherID = storeID(1), storeID(2)

	oddOwners = []string{
		"a", "Ada Lovelace", "ada@example.com", "*", "a*", "%", "_", "a:b", "{a}", "a/../b", "'; DROP TABLE sessions; --",
		"\x00", "a\x00b", "\xff\xfe", "é", "e\u0301", "ADA", "ada", " ada", "ada ", "🦫", strings.Repeat("o", 300),
	}
)

// storeClauses are the sentences of the comments of Store and OwnerStore. Each
// gets a fresh store, in a bubble of synctest.
var storeClauses = []struct {
	name  string
	holds func(s storeUnderTest)
}{
	{"Load returns the record", func(s storeUnderTest) {
		rec := recordFor(time.Hour, "data", "ada")
		s.holds(oneID, s.create(oneID, rec), rec)
	}},
	{"Load of an absent id is ErrNotFound", func(s storeUnderTest) {
		s.absent(oneID)
		s.create(otherID, recordFor(time.Hour, "", ""))
		s.absent(oneID)
	}},
	{"what Load returned is changed by nobody", func(s storeUnderTest) {
		version := s.create(oneID, recordFor(time.Hour, "first", "ada"))
		first := s.load(oneID)
		version = s.update(oneID, version, recordFor(2*time.Hour, "other", "bob"))
		second := s.load(oneID)
		if err := s.Touch(bg, oneID, time.Now().Add(3*time.Hour)); err != nil {
			s.Fatal(err)
		}
		s.fails("Delete", s.Delete(bg, oneID, version), nil)
		s.create(oneID, recordFor(time.Hour, "third", ""))
		if string(first.Data) != "first" || string(second.Data) != "other" {
			s.Errorf("got %q and %q, want what was loaded: first and other", first.Data, second.Data)
		}
	}},
	{"an expired record is absent, for every operation", func(s storeUnderTest) {
		for i, op := range storeOps {
			id := storeID(i)
			version := s.create(id, recordFor(time.Minute, "old", "ada"))
			time.Sleep(time.Minute)
			err := op.run(s, bg, id, version)
			switch op.name {
			case "Create":
				s.fails(op.name, err, nil)
				s.holds(id, s.load(id).Version, recordFor(time.Hour, "new", "ada"))
				if s.load(id).Version == version {
					s.Error("Create: the version of the expired record came back")
				}
			case "Delete":
				s.fails(op.name, err, nil)
				s.absent(id)
			default:
				s.fails(op.name, err, sessions.ErrNotFound)
				s.absent(id)
			}
		}
	}},
	{"a record is there until its expiry, to the millisecond", func(s storeUnderTest) {
		time.Sleep(1234567 * time.Nanosecond)
		rec := recordFor(time.Minute, "data", "")
		s.create(oneID, rec)
		time.Sleep(time.Until(rec.Expires) - time.Millisecond)
		s.load(oneID)
		time.Sleep(time.Millisecond)
		s.absent(oneID)
	}},
	{"an expiry keeps its milliseconds in any zone", func(s storeUnderTest) {
		rec := recordFor(time.Hour, "data", "")
		rec.Expires = rec.Expires.Add(123456789 * time.Nanosecond).In(time.FixedZone("far", 9*60*60))
		s.holds(oneID, s.create(oneID, rec), rec)
	}},

	{"Create of an id that is taken is ErrExists and writes nothing", func(s storeUnderTest) {
		rec := recordFor(time.Hour, "data", "ada")
		version := s.create(oneID, rec)
		_, err := s.Create(bg, oneID, recordFor(2*time.Hour, "other", "bob"))
		s.fails("Create", err, sessions.ErrExists)
		s.holds(oneID, version, rec)
		s.lists("ada", oneID)
	}},
	{"Create ignores the version it is given", func(s storeUnderTest) {
		for i, given := range []uint64{0, 1, 7, 1<<64 - 1} {
			rec := recordFor(time.Hour, "data", "")
			rec.Version = given
			s.holds(storeID(i), s.create(storeID(i), rec), rec)
		}
	}},
	{"Create does not keep the array of the data", func(s storeUnderTest) {
		rec := recordFor(time.Hour, "data", "")
		version := s.create(oneID, rec)
		copy(rec.Data, "XXXX")
		s.holds(oneID, version, recordFor(time.Hour, "data", ""))
	}},
	{"Create after Delete stores", func(s storeUnderTest) {
		s.create(oneID, recordFor(time.Hour, "old", "ada"))
		s.fails("Delete", s.Delete(bg, oneID, 0), nil)
		rec := recordFor(time.Minute, "new", "bob")
		s.holds(oneID, s.create(oneID, rec), rec)
	}},

	{"Update replaces all of the record", func(s storeUnderTest) {
		version := s.create(oneID, recordFor(time.Hour, "data", "ada"))
		rec := recordFor(2*time.Hour, "more data", "bob")
		s.holds(oneID, s.update(oneID, version, rec), rec)
	}},
	{"Update may bring the expiry nearer", func(s storeUnderTest) {
		version := s.create(oneID, recordFor(time.Hour, "data", ""))
		s.update(oneID, version, recordFor(time.Minute, "data", ""))
		time.Sleep(time.Minute)
		s.absent(oneID)
	}},
	{"Update of another version is ErrConflict and writes nothing", func(s storeUnderTest) {
		rec := recordFor(time.Hour, "data", "ada")
		first := s.create(oneID, rec)
		second := s.update(oneID, first, rec)
		for _, stale := range []uint64{0, first, second + 1, 1<<64 - 1} {
			late := recordFor(2*time.Hour, "late", "bob")
			late.Version = stale
			_, err := s.Update(bg, oneID, late)
			s.fails(fmt.Sprintf("Update of version %d instead of %d", stale, second), err, sessions.ErrConflict)
			s.holds(oneID, second, rec)
		}
		if len(s.owned("bob")) > 0 {
			s.Error("a refused Update is in the index of its owner")
		}
	}},
	{"Update of an absent id is ErrNotFound and writes nothing", func(s storeUnderTest) {
		version := s.create(oneID, recordFor(time.Hour, "data", ""))
		s.fails("Delete", s.Delete(bg, oneID, 0), nil)
		for _, v := range []uint64{0, version, version + 1} {
			rec := recordFor(time.Hour, "late", "ada")
			rec.Version = v
			_, err := s.Update(bg, oneID, rec)
			s.fails("Update", err, sessions.ErrNotFound)
			s.absent(oneID)
		}
	}},
	{"Update does not keep the array of the data", func(s storeUnderTest) {
		rec := recordFor(time.Hour, "data", "")
		version := s.update(oneID, s.create(oneID, rec), rec)
		copy(rec.Data, "XXXX")
		s.holds(oneID, version, recordFor(time.Hour, "data", ""))
	}},

	{"Touch moves the expiry and leaves everything else, also the version", func(s storeUnderTest) {
		rec := recordFor(time.Minute, "data", "ada")
		version := s.create(oneID, rec)
		rec.Expires = rec.Expires.Add(time.Hour)
		s.fails("Touch", s.Touch(bg, oneID, rec.Expires), nil)
		s.holds(oneID, version, rec)
		s.lists("ada", oneID)
		time.Sleep(time.Hour)
		s.load(oneID)
		time.Sleep(time.Minute)
		s.absent(oneID)
	}},
	{"an expiry that is not later changes nothing and is no error", func(s storeUnderTest) {
		rec := recordFor(time.Hour, "data", "")
		version := s.create(oneID, rec)
		for _, end := range []time.Time{rec.Expires, rec.Expires.Add(-time.Millisecond), time.Now(), time.Now().Add(-time.Hour), {}} {
			s.fails("Touch", s.Touch(bg, oneID, end), nil)
			s.holds(oneID, version, rec)
		}
	}},
	{"an Update of the version from before a Touch succeeds", func(s storeUnderTest) {
		version := s.create(oneID, recordFor(time.Minute, "data", ""))
		s.fails("Touch", s.Touch(bg, oneID, time.Now().Add(time.Hour)), nil)
		s.update(oneID, version, recordFor(time.Hour, "new", ""))
	}},
	{"Touch of an absent id is ErrNotFound and revives nothing", func(s storeUnderTest) {
		s.fails("Touch", s.Touch(bg, oneID, time.Now().Add(time.Hour)), sessions.ErrNotFound)
		s.create(oneID, recordFor(time.Hour, "data", "ada"))
		s.fails("Delete", s.Delete(bg, oneID, 0), nil)
		s.fails("Touch", s.Touch(bg, oneID, time.Now().Add(time.Hour)), sessions.ErrNotFound)
		s.absent(oneID)
	}},

	{"Delete of version 0 removes whatever is there", func(s storeUnderTest) {
		version := s.create(oneID, recordFor(time.Hour, "data", ""))
		s.update(oneID, version, recordFor(time.Hour, "new", ""))
		keep := s.create(otherID, recordFor(time.Hour, "other", ""))
		s.fails("Delete", s.Delete(bg, oneID, 0), nil)
		s.absent(oneID)
		s.holds(otherID, keep, recordFor(time.Hour, "other", ""))
	}},
	{"Delete of version 0 of an absent record is no error", func(s storeUnderTest) {
		s.fails("Delete", s.Delete(bg, oneID, 0), nil)
		s.create(oneID, recordFor(time.Hour, "data", ""))
		s.fails("Delete", s.Delete(bg, oneID, 0), nil)
		s.fails("Delete again", s.Delete(bg, oneID, 0), nil)
	}},
	{"Delete of a version removes that version only", func(s storeUnderTest) {
		rec := recordFor(time.Hour, "data", "ada")
		first := s.create(oneID, rec)
		second := s.update(oneID, first, rec)
		for _, stale := range []uint64{first, second + 1} {
			s.fails("Delete", s.Delete(bg, oneID, stale), sessions.ErrConflict)
			s.holds(oneID, second, rec)
		}
		s.fails("Delete", s.Delete(bg, oneID, second), nil)
		s.absent(oneID)
		s.fails("Delete again", s.Delete(bg, oneID, second), sessions.ErrNotFound)
		s.fails("Delete of what never was", s.Delete(bg, otherID, 1), sessions.ErrNotFound)
	}},

	{"versions change at every write and never come back under the id", func(s storeUnderTest) {
		seen := map[uint64]bool{0: true}
		note := func(what string, version uint64) {
			if seen[version] {
				s.Errorf("%s: version %d came back", what, version)
			}
			seen[version] = true
		}
		for range 20 {
			version := s.create(oneID, recordFor(time.Minute, "same", ""))
			note("Create", version)
			for range 3 {
				version = s.update(oneID, version, recordFor(time.Minute, "same", ""))
				note("Update", version)
			}
			if err := s.Delete(bg, oneID, version); err != nil {
				s.Fatal(err)
			}
			note("Create", s.create(oneID, recordFor(time.Minute, "same", "")))
			time.Sleep(time.Hour) // it expires
			note("Create", s.create(oneID, recordFor(time.Minute, "same", "")))
			if err := s.Delete(bg, oneID, 0); err != nil {
				s.Fatal(err)
			}
		}
	}},
	{"who loaded a record that was deleted and created again cannot touch the new one", func(s storeUnderTest) {
		old := s.create(oneID, recordFor(time.Hour, "old", ""))
		s.fails("Delete", s.Delete(bg, oneID, 0), nil)
		rec := recordFor(time.Hour, "new", "")
		version := s.create(oneID, rec)
		late := rec
		late.Version = old
		_, err := s.Update(bg, oneID, late)
		s.fails("Update", err, sessions.ErrConflict)
		s.fails("Delete", s.Delete(bg, oneID, old), sessions.ErrConflict)
		s.holds(oneID, version, rec)
	}},

	{"data of any bytes and any length comes back", func(s storeUnderTest) {
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		for i, data := range [][]byte{nil, {}, {0}, all, bytes.Repeat(all, 4096)} {
			rec := recordFor(time.Hour, string(data), "")
			id := storeID(i)
			version := s.create(id, rec)
			s.holds(id, version, rec)
			s.holds(id, s.update(id, version, rec), rec)
		}
	}},
	{"owners of any bytes come back and are no patterns", func(s storeUnderTest) {
		for i, owner := range oddOwners {
			rec := recordFor(time.Hour, "data", owner)
			s.holds(storeID(i), s.create(storeID(i), rec), rec)
		}
		for i, owner := range oddOwners {
			if got := s.owned(owner); len(got) != 1 || got[storeID(i)] == 0 {
				s.Errorf("Owned(%q): got %d ids, want the one that it has", owner, len(got))
			}
		}
	}},
	{"operations obey their context", func(s storeUnderTest) {
		canceled, cancel := context.WithCancel(bg)
		cancel()
		late, cancel := context.WithDeadline(bg, time.Now().Add(-time.Second))
		defer cancel()
		rec := recordFor(time.Hour, "data", "ada")
		version := s.create(oneID, rec)
		for _, op := range storeOps {
			s.fails(op.name, op.run(s, canceled, oneID, version), context.Canceled)
			s.fails(op.name, op.run(s, late, oneID, version), context.DeadlineExceeded)
			s.fails(op.name+" of an absent id", op.run(s, canceled, otherID, version), context.Canceled)
		}
		s.holds(oneID, version, rec)
		s.absent(otherID)
	}},

	{"Owned yields every id of the owner and of nobody else", func(s storeUnderTest) {
		s.create(storeID(0), recordFor(time.Hour, "", "ada"))
		s.create(storeID(1), recordFor(time.Hour, "", "bob"))
		s.create(storeID(2), recordFor(time.Hour, "", "ada"))
		s.create(storeID(3), recordFor(time.Hour, "", ""))
		s.lists("ada", storeID(0), storeID(2))
		s.lists("bob", storeID(1))
		for _, nobody := range []string{"carl", "ad", "adaa", "ADA"} {
			if n := len(s.owned(nobody)); n > 0 {
				s.Errorf("Owned(%q): got %d ids, want none", nobody, n)
			}
		}
	}},
	{"a record without an owner is not indexed", func(s storeUnderTest) {
		s.create(oneID, recordFor(time.Hour, "", ""))
		if n := len(s.owned("")); n > 0 {
			s.Errorf(`Owned(""): got %d ids, want none`, n)
		}
	}},
	{"Owned yields no id that moved to another owner", func(s storeUnderTest) {
		version := s.create(oneID, recordFor(time.Hour, "", "ada"))
		for _, owner := range []string{"bob", "", "ada", "bob"} {
			version = s.update(oneID, version, recordFor(time.Hour, "", owner))
			for _, other := range []string{"ada", "bob"} {
				if listed := s.owned(other)[oneID] > 0; listed != (other == owner) {
					s.Errorf("after the move to %q: listed for %q is %t", owner, other, listed)
				}
			}
		}
	}},
	{"an id that is created again under another owner is that owner's", func(s storeUnderTest) {
		s.create(oneID, recordFor(time.Minute, "", "ada"))
		s.fails("Delete", s.Delete(bg, oneID, 0), nil)
		s.create(oneID, recordFor(time.Minute, "", "bob"))
		s.lists("bob", oneID)
		s.lists("ada")
		time.Sleep(time.Minute)
		s.create(oneID, recordFor(time.Minute, "", "carl"))
		s.lists("carl", oneID)
		s.lists("ada")
		s.lists("bob")
	}},
	{"Owned yields an id that was touched beyond its first expiry", func(s storeUnderTest) {
		s.create(oneID, recordFor(time.Minute, "", "ada"))
		s.fails("Touch", s.Touch(bg, oneID, time.Now().Add(time.Hour)), nil)
		time.Sleep(30 * time.Minute)
		s.lists("ada", oneID)
	}},
	{"Owned yields none, one and a thousand", func(s storeUnderTest) {
		for _, n := range []int{0, 1, 1000} {
			owner := fmt.Sprint("owner of ", n)
			want := make([]sessions.ID, n)
			for i := range want {
				want[i] = storeID(10000*n + i)
				s.create(want[i], recordFor(time.Hour, "", owner))
			}
			if got := s.owned(owner); len(got) != n {
				s.Errorf("got %d ids, want %d", len(got), n)
			}
			s.lists(owner, want...)
		}
	}},
	{"Owned may be left early, and begun again", func(s storeUnderTest) {
		for i := range 100 {
			s.create(storeID(i), recordFor(time.Hour, "", "ada"))
		}
		all := s.Owned(bg, "ada")
		for range 3 {
			n := 0
			for id, err := range all {
				if err != nil {
					s.Fatal(err)
				}
				if err := s.Delete(bg, id, 0); err != nil { // no lock is held while it yields
					s.Fatal(err)
				}
				if n++; n == 10 {
					break
				}
			}
		}
		if n := len(s.owned("ada")); n != 70 {
			s.Errorf("got %d ids, want the 70 that were not deleted", n)
		}
	}},
	{"Owned yields the error of its context once, as the last pair", func(s storeUnderTest) {
		for i := range 100 {
			s.create(storeID(i), recordFor(time.Hour, "", "ada"))
		}
		ctx, cancel := context.WithCancel(bg)
		defer cancel()
		pairs, failed := 0, 0
		for _, err := range s.Owned(ctx, "ada") {
			if pairs++; pairs == 10 {
				cancel()
			}
			if failed > 0 {
				s.Error("a pair after the error")
			}
			if err != nil {
				failed++
				s.fails("Owned", err, context.Canceled)
			}
		}
		if failed != 1 {
			s.Errorf("got %d errors in %d pairs, want one", failed, pairs)
		}
	}},
	{"Owned of an owner of nothing obeys its context", func(s storeUnderTest) {
		ctx, cancel := context.WithCancel(bg)
		cancel()
		err := error(nil)
		for _, err = range s.Owned(ctx, "nobody") {
		}
		s.fails("Owned", err, context.Canceled)
	}},
}

func TestMemoryStoreKeepsEveryClauseOfStore(t *testing.T) {
	for _, clause := range storeClauses {
		t.Run(clause.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { clause.holds(storeUnderTest{t, new(sessions.MemoryStore)}) })
		})
	}
}

// With a bound that is never reached, everything must be as without.
func TestMemoryStoreWithRoomKeepsEveryClauseOfStore(t *testing.T) {
	for _, clause := range storeClauses {
		t.Run(clause.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { clause.holds(storeUnderTest{t, &sessions.MemoryStore{Max: 100_000}}) })
		})
	}
}

func TestZeroMemoryStoreIsReady(t *testing.T) {
	for _, op := range storeOps {
		t.Run(op.name, func(t *testing.T) {
			var m sessions.MemoryStore
			if err := op.run(&m, bg, oneID, 1); err != nil && !errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("got %v, want nil or ErrNotFound", err)
			}
		})
	}
	var m sessions.MemoryStore
	for range m.Owned(bg, "ada") {
		t.Error("Owned of an empty store yields something")
	}
}

// parallel runs f in n goroutines that begin together, and waits for them.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

func TestCompareAndSetOf64GoroutinesCountsRight(t *testing.T) {
	s := storeUnderTest{t, new(sessions.MemoryStore)}
	rec := recordFor(time.Hour, "", "ada")
	rec.Data = make([]byte, 1, 2)
	s.create(oneID, rec)
	parallel(64, func(int) {
		for done := 0; done < 3; {
			rec, err := s.Load(bg, oneID)
			if err != nil {
				t.Error(err)
				return
			}
			rec.Data = []byte{rec.Data[0] + 1}
			switch _, err := s.Update(bg, oneID, rec); {
			case err == nil:
				done++
			case !errors.Is(err, sessions.ErrConflict):
				t.Error(err)
				return
			}
		}
	})
	if got := s.load(oneID).Data[0]; got != 64*3 {
		t.Errorf("got a count of %d, want %d", got, 64*3)
	}
}

func TestOneOf64GoroutinesWins(t *testing.T) {
	for _, tt := range []struct {
		name string
		loss error
		try  func(s sessions.Store, version uint64) error
	}{
		{"a Create", sessions.ErrExists, func(s sessions.Store, _ uint64) error {
			_, err := s.Create(bg, otherID, recordFor(time.Hour, "mine", "bob"))
			return err
		}},
		{"an Update of one version", sessions.ErrConflict, func(s sessions.Store, version uint64) error {
			rec := recordFor(time.Hour, "mine", "bob")
			rec.Version = version
			_, err := s.Update(bg, oneID, rec)
			return err
		}},
		{"a Delete of one version", sessions.ErrNotFound, func(s sessions.Store, version uint64) error {
			return s.Delete(bg, oneID, version)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 50 {
				s := storeUnderTest{t, new(sessions.MemoryStore)}
				version := s.create(oneID, recordFor(time.Hour, "", "ada"))
				var won atomic.Int64
				parallel(64, func(int) {
					if err := tt.try(s, version); err == nil {
						won.Add(1)
					} else if !errors.Is(err, tt.loss) {
						t.Errorf("got %v, want %v", err, tt.loss)
					}
				})
				if won.Load() != 1 {
					t.Fatalf("%d goroutines won, want 1", won.Load())
				}
			}
		})
	}
}

func TestOwnedIsRightBesideParallelWrites(t *testing.T) {
	s := storeUnderTest{t, new(sessions.MemoryStore)}
	const lasting = 200
	for i := range lasting {
		s.create(storeID(i), recordFor(time.Hour, "", "ada"))
	}
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id := storeID(1000 + 1000*w + i%100)
				version, err := s.Create(bg, id, recordFor(time.Hour, "", "ada"))
				if err == nil && i%2 == 0 {
					rec := recordFor(time.Hour, "", "bob")
					rec.Version = version
					_, err = s.Update(bg, id, rec)
				}
				if err == nil {
					err = s.Delete(bg, id, 0)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 50 {
		got := s.owned("ada")
		for i := range lasting {
			if got[storeID(i)] != 1 {
				t.Fatalf("an id that was there all the time is yielded %d times, want once", got[storeID(i)])
			}
		}
	}
	close(stop)
	writers.Wait()
	if a, b := len(s.owned("ada")), len(s.owned("bob")); a != lasting || b != 0 {
		t.Errorf("got %d and %d ids in the end, want %d and none", a, b, lasting)
	}
}

// The bound.

func TestAtMaxTheRightRecordGoes(t *testing.T) {
	type rec struct {
		ends  time.Duration
		owner string
	}
	for _, tt := range []struct {
		name string
		have []rec // before two minutes pass
		add  rec
		gone int
	}{
		{"the expired one first, whatever its owner", []rec{{time.Hour, ""}, {time.Minute, "ada"}, {2 * time.Hour, ""}}, rec{time.Hour, ""}, 1},
		{"else the one without an owner", []rec{{time.Hour, "ada"}, {10 * time.Hour, ""}, {2 * time.Hour, "bob"}}, rec{time.Hour, ""}, 1},
		{"of those without an owner the nearest to its expiry", []rec{{9 * time.Hour, ""}, {8 * time.Hour, ""}, {3 * time.Hour, "ada"}}, rec{time.Hour, "bob"}, 1},
		{"else the nearest to its expiry", []rec{{9 * time.Hour, "ada"}, {8 * time.Hour, "bob"}, {7 * time.Hour, "carl"}}, rec{time.Hour, "dora"}, 2},
		{"also for one without an owner", []rec{{7 * time.Hour, "ada"}, {8 * time.Hour, "bob"}, {9 * time.Hour, "carl"}}, rec{time.Hour, ""}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// The ids decide where the records lie, which must not matter.
			for shift := range 20 {
				synctest.Test(t, func(t *testing.T) {
					s := storeUnderTest{t, &sessions.MemoryStore{Max: 3}}
					for i, r := range tt.have {
						s.create(storeID(10*shift+i), recordFor(r.ends, "", r.owner))
					}
					time.Sleep(2 * time.Minute)
					s.create(storeID(10*shift+9), recordFor(tt.add.ends, "", tt.add.owner))
					for i := range tt.have {
						if i == tt.gone {
							s.absent(storeID(10*shift + i))
						} else {
							s.load(storeID(10*shift + i))
						}
					}
					s.load(storeID(10*shift + 9))
				})
			}
		})
	}
}

func TestAtMaxTouchAndUpdateCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storeUnderTest{t, &sessions.MemoryStore{Max: 3}}
		var versions [3]uint64
		for i := range versions {
			versions[i] = s.create(storeID(i), recordFor(time.Duration(i+1)*time.Hour, "", ""))
		}
		s.fails("Touch", s.Touch(bg, storeID(0), time.Now().Add(9*time.Hour)), nil)
		s.update(storeID(1), versions[1], recordFor(time.Hour, "", "ada")) // signed in: worth more now
		s.create(storeID(3), recordFor(8*time.Hour, "", ""))
		s.absent(storeID(2))
		s.create(storeID(4), recordFor(8*time.Hour, "", ""))
		s.absent(storeID(3))
		s.load(storeID(0))
		s.load(storeID(1))
	})
}

func TestAtMaxACreateThatFailsEvictsNothing(t *testing.T) {
	s := storeUnderTest{t, &sessions.MemoryStore{Max: 2}}
	rec := recordFor(time.Hour, "data", "")
	other := recordFor(2*time.Hour, "other", "")
	version, otherVersion := s.create(oneID, rec), s.create(otherID, other)
	for _, id := range []sessions.ID{oneID, otherID} {
		_, err := s.Create(bg, id, recordFor(3*time.Hour, "late", ""))
		s.fails("Create of an id that is taken", err, sessions.ErrExists)
	}
	canceled, cancel := context.WithCancel(bg)
	cancel()
	_, err := s.Create(canceled, storeID(3), recordFor(3*time.Hour, "late", ""))
	s.fails("Create", err, context.Canceled)
	s.holds(oneID, version, rec)
	s.holds(otherID, otherVersion, other)
}

func TestOwnedSessionsSurviveTenThousandAnonymousOnes(t *testing.T) {
	for _, goroutines := range []int{1, 64} {
		t.Run(fmt.Sprintf("of %d goroutines", goroutines), func(t *testing.T) {
			const bound, owned, anonymous = 100, 99, 10_000
			s := storeUnderTest{t, &sessions.MemoryStore{Max: bound}}
			for i := range owned {
				s.create(storeID(-1-i), recordFor(time.Hour, "", "ada"))
			}
			var next atomic.Int64
			parallel(goroutines, func(int) {
				for i := int(next.Add(1)); i <= anonymous; i = int(next.Add(1)) {
					if _, err := s.Create(bg, storeID(i), recordFor(24*time.Hour, "", "")); err != nil {
						t.Error(err)
					}
				}
			})
			left := 0
			for i := range owned {
				if _, err := s.Load(bg, storeID(-1-i)); err == nil {
					left++
				}
			}
			if left != owned {
				t.Errorf("%d of %d sessions with an owner are left, want all: there was always one without to evict", left, owned)
			}
		})
	}
}

func TestThereAreNeverMoreThanMax(t *testing.T) {
	for _, bound := range []int{1, 10, 100} {
		t.Run(fmt.Sprint(bound), func(t *testing.T) {
			m := &sessions.MemoryStore{Max: bound}
			s := storeUnderTest{t, m}
			// All of one owner, so that Owned tells how many there are at a moment.
			most := 0
			stop, watched := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(watched)
				for {
					n := 0
					for range m.Owned(bg, "ada") {
						n++
					}
					most = max(most, n)
					select {
					case <-stop:
						return
					default:
					}
				}
			}()
			parallel(64, func(g int) {
				for i := range 100 {
					if _, err := m.Create(bg, storeID(1000*g+i), recordFor(time.Hour, "", "ada")); err != nil {
						t.Error(err)
					}
				}
			})
			close(stop)
			<-watched
			if most > bound {
				t.Errorf("got %d records at one moment, want at most %d", most, bound)
			}
			if n := len(s.owned("ada")); n > bound || m.Len() > bound {
				t.Errorf("got %d records and Len %d in the end, want at most %d", n, m.Len(), bound)
			}
			// And what is there stays: nothing is evicted below the bound.
			if n := len(s.owned("ada")); n < bound {
				t.Errorf("got %d records in the end, want %d: there was room", n, bound)
			}
		})
	}
}

// The sweep.

func TestExpiredRecordsGoAwayAsTheStoreIsUsed(t *testing.T) {
	for _, owner := range []string{"", "ada"} {
		t.Run(fmt.Sprintf("owner %q", owner), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // which would find a goroutine left behind
				const expired = 100_000
				m := new(sessions.MemoryStore)
				s := storeUnderTest{t, m}
				rec := recordFor(time.Minute, "", owner)
				for i := range expired {
					s.create(storeID(i), rec)
				}
				time.Sleep(time.Hour)
				if m.Len() != expired {
					t.Fatalf("got %d records before any use, want %d", m.Len(), expired)
				}
				used := 0
				for ; m.Len() > used && used < expired; used++ {
					s.create(storeID(-1-used), recordFor(time.Hour, "", ""))
				}
				if m.Len() > used {
					t.Errorf("%d expired records are left after %d new ones", m.Len()-used, used)
				}
				if n := len(s.owned("ada")); n > 0 {
					t.Errorf("%d expired records are left in the index of owners", n)
				}
			})
		})
	}
}

func TestEveryUseSweeps(t *testing.T) {
	for _, op := range storeOps[:4] {
		for _, found := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, found %t", op.name, found), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const expired, live, uses = 2000, 500, 20_000
					m := new(sessions.MemoryStore)
					s := storeUnderTest{t, m}
					for i := range expired {
						s.create(storeID(i), recordFor(time.Minute, "", ""))
					}
					time.Sleep(time.Hour)
					before := m.Len()
					versions := map[sessions.ID]uint64{}
					for i := range live {
						versions[storeID(-1-i)] = s.create(storeID(-1-i), recordFor(time.Hour, "", ""))
					}
					if m.Len() >= before+live {
						t.Fatal("Create swept nothing")
					}
					for i := range uses {
						id := storeID(-1 - i%live)
						if !found {
							id = storeID(-10_000 - i)
						}
						_ = op.run(m, bg, id, versions[id])
						if op.name == "Update" && found {
							versions[id] = s.load(id).Version
						}
						if op.name == "Create" && !found {
							_ = m.Delete(bg, id, 0)
						}
					}
					if m.Len() != live {
						t.Errorf("got %d records after %d uses, want the %d live ones", m.Len(), uses, live)
					}
				})
			})
		}
	}
}

func TestAStreamOfShortSessionsStaysSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(sessions.MemoryStore)
		s := storeUnderTest{t, m}
		most := 0
		for i := range 50_000 { // 1,000 are alive at a time
			s.create(storeID(i), recordFor(time.Second, "", ""))
			most = max(most, m.Len())
			time.Sleep(time.Millisecond)
		}
		if most > 1500 {
			t.Errorf("got %d records at a time, want about the 1,000 live ones", most)
		}
	})
}

// Linearizability: a history of parallel calls must be explained by some order
// of them, one at a time, that keeps every call between its beginning and its
// end. Ids do not depend on each other, so each is checked alone.

// A storeCall is one operation on one id as its caller saw it.
type storeCall struct {
	op            string
	given         sessions.Record // Create's and Update's, Touch's Expires; Delete's and Update's Version
	got           sessions.Record // Load's; the Version of Create and Update
	err           error
	began, ended  int64
	goroutine, id int
}

// A recordState is what a store has under one id; version 0: nothing.
type recordState struct {
	version uint64
	data    string
	expires int64
}

// follows returns the state after the call, and whether the call's result is
// right in the state before.
func (c *storeCall) follows(s recordState) (recordState, bool) {
	present := s.version != 0
	written := recordState{c.got.Version, string(c.given.Data), c.given.Expires.UnixMilli()}
	outcome := func(want error) bool { return want != nil && errors.Is(c.err, want) || want == nil && c.err == nil }
	switch c.op {
	case "Load":
		if !present {
			return s, outcome(sessions.ErrNotFound)
		}
		return s, outcome(nil) && s == recordState{c.got.Version, string(c.got.Data), c.got.Expires.UnixMilli()}
	case "Create":
		if present {
			return s, outcome(sessions.ErrExists)
		}
		return written, outcome(nil)
	case "Update":
		switch {
		case !present:
			return s, outcome(sessions.ErrNotFound)
		case s.version != c.given.Version:
			return s, outcome(sessions.ErrConflict)
		}
		return written, outcome(nil)
	case "Touch":
		if !present {
			return s, outcome(sessions.ErrNotFound)
		}
		s.expires = max(s.expires, c.given.Expires.UnixMilli())
		return s, outcome(nil)
	default: // Delete
		switch {
		case c.given.Version == 0 || present && s.version == c.given.Version:
			return recordState{}, outcome(nil)
		case !present:
			return s, outcome(sessions.ErrNotFound)
		}
		return s, outcome(sessions.ErrConflict)
	}
}

// linearizable searches an order of at most 64 calls on one id that explains
// them all (Wing and Gong, with the states that led nowhere remembered).
func linearizable(calls []storeCall) bool {
	type place struct {
		done  uint64
		state recordState
	}
	deadEnds := map[place]bool{}
	var search func(p place) bool
	search = func(p place) bool {
		if p.done == 1<<len(calls)-1 {
			return true
		}
		if deadEnds[p] {
			return false
		}
		firstEnd := int64(1<<63 - 1)
		for i, c := range calls {
			if p.done>>i&1 == 0 {
				firstEnd = min(firstEnd, c.ended)
			}
		}
		for i, c := range calls {
			if p.done>>i&1 == 1 || c.began > firstEnd {
				continue // another call had ended before this one began
			}
			if next, ok := c.follows(p.state); ok && search(place{p.done | 1<<i, next}) {
				return true
			}
		}
		deadEnds[p] = true
		return false
	}
	return search(place{})
}

func TestParallelCallsCanBeExplainedOneByOne(t *testing.T) {
	const goroutines, ids, callsPerID, rounds = 8, 3, 8, 100
	for round := range rounds {
		m := new(sessions.MemoryStore)
		var clock atomic.Int64
		var lists [goroutines][]storeCall
		parallel(goroutines, func(g int) {
			random := rand.New(rand.NewPCG(uint64(round), uint64(g)))
			var known [ids]uint64 // the version of each that this goroutine saw last
			for n := range ids * callsPerID {
				c := storeCall{op: []string{"Load", "Load", "Create", "Create", "Update", "Update", "Touch", "Delete"}[random.IntN(8)], goroutine: g, id: n % ids}
				c.given = recordFor(time.Hour+time.Duration(random.IntN(3))*time.Minute, fmt.Sprintf("%d of %d", n, g), "ada")
				if c.op == "Update" || c.op == "Delete" && random.IntN(2) == 0 {
					c.given.Version = known[c.id]
				}
				id := storeID(c.id)
				c.began = clock.Add(1)
				switch c.op {
				case "Load":
					c.got, c.err = m.Load(bg, id)
				case "Create":
					c.got.Version, c.err = m.Create(bg, id, c.given)
				case "Update":
					c.got.Version, c.err = m.Update(bg, id, c.given)
				case "Touch":
					c.err = m.Touch(bg, id, c.given.Expires)
				case "Delete":
					c.err = m.Delete(bg, id, c.given.Version)
				}
				c.ended = clock.Add(1)
				if c.got.Version != 0 {
					known[c.id] = c.got.Version
				}
				lists[g] = append(lists[g], c)
			}
		})
		for id := range ids {
			var calls []storeCall
			written := map[uint64]bool{}
			for _, list := range lists {
				for _, c := range list {
					if c.id != id {
						continue
					}
					calls = append(calls, c)
					if v := c.got.Version; c.op != "Load" && c.err == nil && v != 0 {
						if written[v] {
							t.Fatalf("round %d: version %d was given twice", round, v)
						}
						written[v] = true
					}
				}
			}
			if !linearizable(calls) {
				for _, c := range calls {
					t.Logf("%4d to %4d, goroutine %d: %s(version %d) = version %d, %v", c.began, c.ended, c.goroutine, c.op, c.given.Version, c.got.Version, c.err)
				}
				t.Fatalf("round %d, id %d: no order of the calls explains their results", round, id)
			}
		}
	}
}

func TestTheSearchFindsWhatIsNotLinearizable(t *testing.T) {
	end := time.UnixMilli(1000)
	stored := func(op string, version, expected uint64, began, ended int64) storeCall {
		return storeCall{op: op, given: sessions.Record{Data: []byte(op), Version: expected, Expires: end}, got: sessions.Record{Version: version}, began: began, ended: ended}
	}
	loaded := func(data string, version uint64, began, ended int64) storeCall {
		return storeCall{op: "Load", got: sessions.Record{Data: []byte(data), Version: version, Expires: end}, began: began, ended: ended}
	}
	for _, tt := range []struct {
		name  string
		calls []storeCall
		want  bool
	}{
		{"a Load beside the Update may see the old", []storeCall{stored("Create", 1, 0, 1, 2), stored("Update", 2, 1, 3, 6), loaded("Create", 1, 4, 5)}, true},
		{"a Load beside the Update may see the new", []storeCall{stored("Create", 1, 0, 1, 2), stored("Update", 2, 1, 3, 6), loaded("Update", 2, 4, 5)}, true},
		{"a Load after the Update may not see the old", []storeCall{stored("Create", 1, 0, 1, 2), stored("Update", 2, 1, 3, 4), loaded("Create", 1, 5, 6)}, false},
		{"not the new and then the old", []storeCall{stored("Create", 1, 0, 1, 2), stored("Update", 2, 1, 3, 8), loaded("Update", 2, 4, 5), loaded("Create", 1, 6, 7)}, false},
		{"not two Updates of one version", []storeCall{stored("Create", 1, 0, 1, 2), stored("Update", 2, 1, 3, 5), stored("Update", 3, 1, 4, 6)}, false},
		{"not an Update after the Delete", []storeCall{stored("Create", 1, 0, 1, 2), stored("Delete", 0, 0, 3, 4), stored("Update", 2, 1, 5, 6)}, false},
		{"not a Delete of nothing at a version", []storeCall{stored("Delete", 0, 1, 1, 2)}, false},
		{"not two Creates", []storeCall{stored("Create", 1, 0, 1, 3), stored("Create", 2, 0, 2, 4)}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := linearizable(tt.calls); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

// The cost of an operation must not grow with the number of records.
func BenchmarkMemoryStore(b *testing.B) {
	for _, n := range []int{1_000, 200_000} {
		for _, bound := range []int{0, n} {
			m := &sessions.MemoryStore{Max: bound}
			ids := make([]sessions.ID, n)
			versions, owners := make([]uint64, n), make([]string, n)
			data := string(make([]byte, 200))
			for i := range ids {
				ids[i], owners[i] = storeID(i), fmt.Sprint(i/3)
				versions[i], _ = m.Create(bg, ids[i], recordFor(time.Hour+time.Duration(i)*time.Millisecond, data, owners[i]))
			}
			name := fmt.Sprintf("%d records", n)
			if bound > 0 {
				name += " at Max"
				fresh := n
				b.Run(name+"/Create", func(b *testing.B) {
					b.ReportAllocs()
					rec := recordFor(time.Hour, data, "")
					for b.Loop() {
						fresh++
						_, _ = m.Create(bg, storeID(fresh), rec)
					}
				})
				continue
			}
			i := 0
			next := func() int { i = (i + 7919) % n; return i }
			b.Run(name+"/Load", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := m.Load(bg, ids[next()]); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+"/Load of an absent id", func(b *testing.B) {
				b.ReportAllocs()
				absent := storeID(-1)
				for b.Loop() {
					_, _ = m.Load(bg, absent)
				}
			})
			b.Run(name+"/Update", func(b *testing.B) {
				b.ReportAllocs()
				rec := recordFor(3*time.Hour, data, "")
				for b.Loop() {
					i := next()
					rec.Owner, rec.Version, rec.Expires = owners[i], versions[i], rec.Expires.Add(time.Millisecond)
					var err error
					if versions[i], err = m.Update(bg, ids[i], rec); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+"/Touch", func(b *testing.B) {
				b.ReportAllocs()
				end := time.Now().Add(30 * 24 * time.Hour)
				for b.Loop() {
					end = end.Add(time.Millisecond)
					if err := m.Touch(bg, ids[next()], end); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+"/Create and Delete", func(b *testing.B) {
				b.ReportAllocs()
				rec, id := recordFor(time.Hour, data, "bob"), storeID(-1)
				for b.Loop() {
					version, _ := m.Create(bg, id, rec)
					if err := m.Delete(bg, id, version); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+"/Load in parallel", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for i := 0; pb.Next(); i = (i + 7919) % n {
						_, _ = m.Load(bg, ids[i])
					}
				})
			})
		}
	}
}
