// Package storetest holds a [sessions.Store] to its promises. It is for the
// tests of whoever writes a store for another engine; no shipped code imports
// it. Write the store by the comments of Store and OwnerStore, and then:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t testing.TB) sessions.Store {
//			return mystore.New(client, rand.Text()) // a fresh prefix: an empty store
//		})
//	}
//
// [Run] is what every store must pass: a subtest for each sentence of the
// contract, random sequences compared with a map (and shortened when they
// differ), random parallel histories that must be linearizable, and what
// sessions promise when requests overlap. Where a store has a server:
//
//   - [RunCut] breaks its connections at random, by a proxy, and stops all bytes;
//   - [RunProcesses] serves sessions from two processes at once;
//   - [RunCrash] kills the server under load and starts it again;
//   - [RunCost] counts the commands that a request costs.
//
// They talk to the store and to real HTTP servers only, wait for what must come
// by polling, and need no order of tests. A history that cannot be explained is
// written to a page in the folder for temporary files, which the failure names.
//
// A failure names the clause. These are the mistakes that are made most often:
// an expired record that one operation still finds, a version that begins again
// when a record is deleted and created, a check and a write that are two
// statements, a driver that repeats a write after its connection broke,
// a collation that finds "ada" and "ADA " equal, and a time that is kept in
// seconds.
package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// Run checks a store that somebody has just written: a subtest for each clause
// of the comments of [sessions.Store], and of [sessions.OwnerStore] if the store
// is one, random histories that must be linearizable, and what sessions of
// a Manager promise when requests run in parallel.
//
// open returns an empty store, which shares no record with those it returned
// before: one under its own prefix, table or folder. It is called once for each
// subtest and once before all, never twice at a time, and closes what it opened
// by t.Cleanup. The clock of
// the store's server must agree with that of the test to [clockSkew].
func Run(t *testing.T, open func(t testing.TB) sessions.Store) {
	hangs := false
	run := func(name string, check func(s *subject)) {
		t.Run(name, func(t *testing.T) {
			if hangs {
				t.Fatal("not run: the store did not end an earlier subtest in its time")
			}
			s := newSubject(t, open(t))
			defer func() { hangs = s.ctx.Err() != nil }()
			check(s)
		})
	}
	for _, c := range storeClauses {
		run(c.name, c.check)
	}
	if _, ok := open(t).(sessions.OwnerStore); ok {
		for _, c := range ownerClauses {
			run(c.name, c.check)
		}
	}
	run("any sequence of operations does what a map would do", checkSequences)
	run("any parallel operations can be explained by some order of them", checkHistories)
	for _, c := range sessionClauses {
		run("sessions: "+c.name, func(s *subject) {
			app := newApp(s.T, s.Store)
			c.check(&visit{subject: s, apps: [2]string{app.url, app.url}})
		})
	}
}

// A clause is a sentence that a store keeps, and how to see that.
type clause struct {
	name  string
	check func(s *subject)
}

// clockSkew is how far the clock of a store's server may be from the test's.
const clockSkew = 50 * time.Millisecond

// opTimeout bounds an operation of which the test expects an answer, and twice
// that bounds all of a subtest: a store that hangs fails it.
const opTimeout = 30 * time.Second

// patience bounds the wait for what must come true.
const patience = 30 * time.Second

// A subject is a store under test. Its methods fail the test where the store
// does not do what it must.
type subject struct {
	*testing.T
	sessions.Store
	ctx context.Context // of the operations
}

func newSubject(t *testing.T, store sessions.Store) *subject {
	t.Helper()
	if store == nil {
		t.Fatal("open returned nil")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*opTimeout)
	t.Cleanup(cancel)
	return &subject{T: t, Store: store, ctx: ctx}
}

// idOf returns the n-th id of a test: a hash, as real ones are.
func idOf(n int) sessions.ID { return sha256.Sum256(fmt.Append(nil, n)) }

var oneID, otherID = idOf(-1), idOf(-2)

// recordFor returns a record that lasts for d.
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

// holds fails unless the record of id is want, at that version.
func (s *subject) holds(id sessions.ID, version uint64, want sessions.Record) {
	s.Helper()
	got := s.load(id)
	if !bytes.Equal(got.Data, want.Data) {
		s.Errorf("got %d bytes of data, want the %d that were stored: %s", len(got.Data), len(want.Data), difference(got.Data, want.Data))
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
}

func difference(got, want []byte) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("byte %d is %#x instead of %#x", i, got[i], want[i])
		}
	}
	return "one is the beginning of the other"
}

func (s *subject) absent(id sessions.ID) {
	s.Helper()
	rec, err := s.Load(s.ctx, id)
	s.fails("Load of what must be absent", err, sessions.ErrNotFound)
	if err == nil {
		s.Errorf("it has %d bytes at version %d, which expire at %v", len(rec.Data), rec.Version, rec.Expires)
	}
}

func (s *subject) fails(what string, got, want error) {
	s.Helper()
	if !errors.Is(got, want) {
		s.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

// within calls f with an end that is near, and again with one that is further
// away if f was not through by then: machines are slow at times.
func (s *subject) within(f func(id sessions.ID, end time.Time) error) (sessions.ID, time.Time) {
	s.Helper()
	for n, d := 0, 200*time.Millisecond; ; n, d = n+1, 2*d {
		id, end := idOf(1000+n), time.Now().Add(d)
		err := f(id, end)
		switch {
		case time.Until(end) > clockSkew && err == nil:
			return id, end
		case time.Until(end) > clockSkew || d > patience:
			s.Fatalf("got %v, want nil", err)
		}
	}
}

// pass returns when records that expired until the end are absent, judged by
// a record of the same store that nobody else uses.
func (s *subject) pass(end time.Time) {
	s.Helper()
	id := sha256.Sum256(fmt.Append(nil, "witness", end.UnixNano()))
	s.create(id, sessions.Record{Expires: end.Add(time.Millisecond)})
	poll(s.T, "a record is there beyond its expiry", func() bool {
		_, err := s.Load(s.ctx, id)
		if err != nil {
			s.fails("Load", err, sessions.ErrNotFound)
		}
		return err != nil
	})
	if early := time.Until(end); early > clockSkew {
		s.Errorf("a record went %v before its expiry", early)
	}
}

// poll calls f until it is true, and fails the test with the text if that does
// not come.
func poll(t testing.TB, otherwise string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s, after %v", otherwise, patience)
		}
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
