package storetest_test

import (
	"crypto/rand"
	"testing"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/storetest"
)

// newStore is a placeholder for the constructor of your store.
func newStore(addr, prefix string) sessions.Store { return new(sessions.MemoryStore) }

// This example has the tests of a store with a server. Each is a test function in
// your package.
func Example() {
	const addr = "127.0.0.1:6379"
	fresh := func(testing.TB) sessions.Store { return newStore(addr, rand.Text()) }

	TestStore := func(t *testing.T) { storetest.Run(t, fresh) }

	TestCutConnections := func(t *testing.T) {
		storetest.RunCut(t, addr, func(_ testing.TB, addr string) sessions.Store {
			return newStore(addr, rand.Text()) // this addr is that of the proxy
		})
	}

	TestTwoProcesses := func(t *testing.T) {
		storetest.RunProcesses(t, "a prefix", func(_ testing.TB, where string) sessions.Store {
			return newStore(addr, where) // the same records in every process
		})
	}

	_, _, _ = TestStore, TestCutConnections, TestTwoProcesses
}
