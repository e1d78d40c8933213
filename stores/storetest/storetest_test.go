package storetest_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/storetest"
)

func TestMemoryStore(t *testing.T) {
	storetest.Run(t, func(testing.TB) sessions.Store { return new(sessions.MemoryStore) })
}

// A bound that is never reached must not change anything.
func TestMemoryStoreWithRoom(t *testing.T) {
	storetest.Run(t, func(testing.TB) sessions.Store { return &sessions.MemoryStore{Max: 100_000} })
}

// An unownedStore has no index of owners.
type unownedStore struct{ sessions.Store }

func TestAStoreWithoutOwnersPasses(t *testing.T) {
	storetest.Run(t, func(testing.TB) sessions.Store { return unownedStore{newPlainStore("")} })
}

// faultVariable names the environment variable with the fault of the store in
// a process that a test started.
const faultVariable = "STORETEST_FAULT"

// TestRun runs the suite on a store with the fault in faultVariable, if any.
func TestRun(t *testing.T) {
	f := fault(os.Getenv(faultVariable))
	storetest.Run(t, func(testing.TB) sessions.Store { return newPlainStore(f) })
}

// TestRunWithALimit runs the suite on a store with a limit, or with the fault in
// faultVariable.
func TestRunWithALimit(t *testing.T) {
	f, n := fault(os.Getenv(faultVariable)), largest
	switch f {
	case "":
		f = "large data is refused" // as it should be
	case "the limit is less than a cookie holds":
		n = 4095
	}
	storetest.Run(t, func(testing.TB) sessions.Store { return newPlainStore(f) }, storetest.MaxData(n))
}

func TestCut(t *testing.T) {
	f := fault(os.Getenv(faultVariable))
	s := newServer(t)
	storetest.RunCut(t, s.addr, func(_ testing.TB, addr string) sessions.Store {
		s.store.Store(new(sessions.MemoryStore)) // each subtest needs an empty store
		return &remoteStore{addr, f}
	})
}

func TestProcesses(t *testing.T) {
	f := fault(os.Getenv(faultVariable))
	where := os.Getenv("STORETEST_WHERE")
	if where == "" {
		where = newServer(t).addr
	}
	storetest.RunProcesses(t, where, func(_ testing.TB, where string) sessions.Store {
		if f == "every process has its own store" {
			return new(sessions.MemoryStore)
		}
		return &remoteStore{where, f}
	})
}

func TestCrash(t *testing.T) {
	f := fault(os.Getenv(faultVariable))
	for _, durable := range []bool{true, false} {
		t.Run(fmt.Sprintf("durable=%t", durable), func(t *testing.T) {
			s := newServer(t)
			s.volatile = !durable || f == "the server loses its data"
			storetest.RunCrash(t, s, durable, func(testing.TB) sessions.Store { return &remoteStore{s.addr, f} })
		})
	}
}

func TestCost(t *testing.T) {
	s := newServer(t)
	f := fault(os.Getenv(faultVariable))
	open := func(testing.TB) sessions.Store { return &remoteStore{s.addr, f} }
	storetest.RunCost(t, open, func() int { return int(s.commands.Load()) })
}

func TestEveryFaultIsFound(t *testing.T) {
	t.Parallel()
	if len(caught) < 20 {
		t.Fatalf("got %d faults, want at least 20", len(caught))
	}
	for f, subtests := range caught {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			for _, subtest := range subtests {
				mustFail(t, f, "TestRun", subtest)
			}
		})
	}
	const refusal = "data of more than 65535 bytes is refused and what was stored stays"
	for _, tt := range []struct {
		fault fault
		test  []string
	}{
		{"open panics", []string{"TestBroken"}},
		{"open returns nil", []string{"TestBroken", "Load returns the record that was created"}},
		{"there is no limit", []string{"TestRunWithALimit", refusal}},
		{"large data is a conflict", []string{"TestRunWithALimit", refusal}},
		{"large data is cut off", []string{"TestRunWithALimit", refusal}},
		{"large data is refused after the old record was deleted", []string{"TestRunWithALimit", refusal}},
		{"large data is refused after it was stored", []string{"TestRunWithALimit", refusal}},
		{"the limit is less than a cookie holds", []string{"TestRunWithALimit"}},
		{"an operation of unknown outcome is repeated", []string{"TestCut", "histories with cut connections are linearizable"}},
		{"a cut is reported as a conflict", []string{"TestCut", "histories with cut connections are linearizable"}},
		{"a cut is reported as absence", []string{"TestCut", "histories with cut connections are linearizable"}},
		{"a cut Update is reported as done", []string{"TestCut", "histories with cut connections are linearizable"}},
		{"the context is ignored", []string{"TestCut", "operations return when no bytes get through and their deadline passes"}},
		{"errors.Is does not find the error of the context", []string{"TestCut", "operations return when no bytes get through and their caller cancels"}},
		{"every process has its own store", []string{"TestProcesses", "two processes: 100 parallel Updates all count"}},
		{"every process has its own store", []string{"TestProcesses", "two processes: the sessions of an owner are listed, and revoked except for one"}},
		{"the server loses its data", []string{"TestCrash", "durable=true"}},
		{"it panics when there is no connection", []string{"TestCrash", "durable=false"}},
		{"Load asks twice", []string{"TestCost"}},
		{"Update asks twice", []string{"TestCost"}},
	} {
		t.Run(string(tt.fault)+", "+tt.test[0], func(t *testing.T) {
			t.Parallel()
			mustFail(t, tt.fault, tt.test...)
		})
	}
}

// mustFail runs a test in another process, with the fault. The test must fail, and
// not by a panic.
func mustFail(t *testing.T, f fault, test ...string) {
	t.Helper()
	var pattern []string
	for _, name := range test {
		pattern = append(pattern, "^"+regexp.QuoteMeta(strings.ReplaceAll(name, " ", "_"))+"$")
	}
	cmd := exec.Command(os.Args[0], "-test.run="+strings.Join(pattern, "/"), "-test.timeout=2m", "-rapid.nofailfile")
	cmd.Env = append(os.Environ(), faultVariable+"="+string(f), "TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Errorf("%q passes with the fault", test)
	} else if !strings.Contains(string(out), "--- FAIL: "+strings.ReplaceAll(strings.Join(test, "/"), " ", "_")) {
		t.Errorf("%q did not report a failure: %v\n%s", test, err, out)
	} else if processBroke.Match(out) {
		t.Errorf("%q failed by a panic of the process:\n%s", test, out)
	}
}

func TestTheStoreOfTheExampleKeepsItsPromises(t *testing.T) {
	storetest.Run(t, func(testing.TB) sessions.Store {
		return &mapStore{records: make(map[sessions.ID]sessions.Record)}
	})
}
