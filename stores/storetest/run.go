// Package storetest implements support for testing implementations of
// [sessions.Store]. A store for another engine implements the methods as
// documented by Store and OwnerStore, and has this test:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t testing.TB) sessions.Store {
//			return mystore.New(client, rand.Text()) // a fresh prefix: an empty store
//		})
//	}
//
// Every store must pass [Run]. It has a subtest for each sentence of the contract,
// compares random sequences of operations with a map, checks that random parallel
// histories are linearizable, and checks the promises of sessions when requests
// overlap. The other functions are for stores with a server:
//
//   - [RunCut] breaks connections at random with a proxy, and holds up all bytes.
//   - [RunProcesses] serves sessions from two processes at once.
//   - [RunCrash] kills the server under load and starts it again.
//   - [RunCost] counts the commands of a request.
//
// The tests use only the store and real HTTP servers, poll instead of sleeping,
// and are independent of each other. A failure names the clause that is violated.
// A history that is not linearizable is written to a page in the folder for
// temporary files, and the failure names the file.
//
// The most common mistakes in a store are:
//
//   - one operation still finds an expired record
//   - versions start again when a record is deleted and created
//   - the check and the write of an operation are two statements
//   - the driver repeats a write after its connection broke
//   - a collation finds "ada" and "ADA " equal
//   - times are stored in seconds
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

// Run checks that a store implements its contract. It has a subtest for each
// clause in the comments of [sessions.Store], and of [sessions.OwnerStore] if the
// store implements it. It also checks random sequences and parallel histories of
// operations, and the promises of a Manager's sessions when requests run in
// parallel.
//
// The function open returns an empty store that shares no records with those it
// returned before, for instance with a prefix, table or folder of its own, and
// registers its cleanup with t.Cleanup. It is called once for each subtest and once
// more, never concurrently.
//
// The clock of the store's server must not differ from that of the test by more
// than 50 ms.
func Run(t *testing.T, open func(t testing.TB) sessions.Store) {
	hangs := false
	run := func(name string, check func(s *subject)) {
		t.Run(name, func(t *testing.T) {
			if hangs {
				t.Fatal("not run: the store did not finish an earlier subtest in time")
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
	run("parallel operations are linearizable", checkHistories)
	for _, c := range sessionClauses {
		run("sessions: "+c.name, func(s *subject) {
			app := newApp(s.T, s.Store)
			c.check(&visit{subject: s, apps: [2]string{app.url, app.url}})
		})
	}
}

// A clause is a sentence of the contract, with its check.
type clause struct {
	name  string
	check func(s *subject)
}

// clockSkew bounds the difference between the clocks of the test and of the
// store's server. The comment of Run states the value.
const clockSkew = 50 * time.Millisecond

// opTimeout bounds an operation that must succeed. Twice opTimeout bounds
// a subtest, so that it fails if the store hangs.
const opTimeout = 30 * time.Second

// patience bounds the wait for a condition.
const patience = 30 * time.Second

// A subject is a store under test. Its methods fail the test if the store does not
// behave as expected.
type subject struct {
	*testing.T
	sessions.Store
	ctx context.Context // for operations
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

// beforeExpiry calls f with an id and an expiry in the near future. If f does not
// return before that time, beforeExpiry calls it again with another id and a later
// expiry, since the machine may be slow.
func (s *subject) beforeExpiry(f func(id sessions.ID, end time.Time) error) (sessions.ID, time.Time) {
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

// waitUntil returns when records that expire at end are absent. To find out, it
// polls another record of the same store that expires a millisecond later.
func (s *subject) waitUntil(end time.Time) {
	s.Helper()
	id := sha256.Sum256(fmt.Append(nil, "witness", end.UnixNano()))
	s.create(id, sessions.Record{Expires: end.Add(time.Millisecond)})
	poll(s.T, "a record still exists after its expiry", func() bool {
		_, err := s.Load(s.ctx, id)
		if err != nil {
			s.fails("Load", err, sessions.ErrNotFound)
		}
		return err != nil
	})
	if early := time.Until(end); early > clockSkew {
		s.Errorf("a record was absent %v before its expiry", early)
	}
}

// poll calls f until it returns true. After patience it fails the test with the
// given text.
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

// parallel calls f in n goroutines that start together, and waits for them.
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
