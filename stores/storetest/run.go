// Package storetest implements support for testing implementations of
// [sessions.Store]. A store for another engine implements the methods as
// documented by Store, and by OwnerStore, LabelStore and Watcher where it can, and
// has this test:
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
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// Run checks that a store implements its contract. It has a subtest for each
// clause in the comments of [sessions.Store], and of [sessions.OwnerStore],
// [sessions.LabelStore] and [sessions.Watcher] if the store implements them. It also
// checks random sequences and parallel histories of
// operations, and the promises of a Manager's sessions when requests run in
// parallel.
//
// The function open returns an empty store that shares no records with those it
// returned before, for instance with a prefix, table or folder of its own, and
// registers its cleanup with t.Cleanup. It is called once for each subtest and once
// more, never concurrently.
//
// An operation that fails, panics or hangs is a failure of the subtests that call
// it. The other subtests run as usual. Run waits 10 s for an operation and then
// reports where it hangs. In the subtests that follow it waits for a shorter time,
// so that it does not take minutes on such a store. An operation that never returns
// keeps its goroutine, and holds what it has locked during the cleanup. Run cannot
// recover a panic in a goroutine that the store has started.
//
// The clock of the store's server must not differ from that of the test by more
// than 50 ms.
func Run(t *testing.T, open func(t testing.TB) sessions.Store, opts ...Option) {
	o := newOptions(t, opts)
	p := newPatience(o.wait)
	var probe sessions.Store
	run(t, p, 0, func(*tester) { probe = open(t) })
	for _, g := range groups(o) {
		if g.fits != nil && !g.fits(probe) {
			continue
		}
		for _, c := range g.clauses {
			t.Run(g.prefix+c.name, func(t *testing.T) {
				run(t, p, testTimeout, func(s *tester) { c.check(newSubject(s, open(t))) })
			})
		}
	}
}

// testTimeout bounds a subtest.
const testTimeout = time.Minute

// A clause is a sentence of the contract, with its check.
type clause struct {
	name  string
	check func(s *subject)
}

// A group is a list of clauses for the stores that it fits.
type group struct {
	prefix  string                          // of the subtests' names
	fits    func(store sessions.Store) bool // nil: every store
	clauses []clause
}

// groups returns what Run checks, in this order. Each clause is checked on a new
// store.
func groups(o options) []group {
	return []group{
		{clauses: storeClauses},
		{clauses: dataClauses(o)},
		{clauses: ownerClauses, fits: is[sessions.OwnerStore]},
		{clauses: labelClauses, fits: is[sessions.LabelStore]},
		{clauses: changesClauses, fits: is[sessions.Watcher]},
		{clauses: randomClauses},
		{clauses: inOneApp(sessionClauses), prefix: "sessions: "},
		{clauses: inOneApp(watchedClauses), prefix: "sessions: ", fits: is[sessions.Watcher]},
	}
}

// is reports whether the store implements an interface.
func is[S sessions.Store](store sessions.Store) bool {
	_, ok := store.(S)
	return ok
}

// randomClauses are checks of many operations at random.
var randomClauses = []clause{
	{"any sequence of operations does what a map would do", checkSequences},
	{"parallel operations are linearizable", checkHistories},
}
