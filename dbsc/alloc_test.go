//go:build !race

package dbsc_test

import (
	"net/http"
	"testing"
)

// sync.Pool drops at random under the race detector.
func TestABoundSessionAllocatesNoMoreInCookieMode(t *testing.T) {
	h := newBench(t, nil)
	allocs := func(cookie string) float64 {
		w, r := &benchWriter{http.Header{}}, page(cookie)
		return testing.AllocsPerRun(200, func() {
			clear(w.header)
			h.handler.ServeHTTP(w, r)
		})
	}
	if unbound, bound := allocs(h.unbound), allocs(h.bound); bound > unbound {
		t.Errorf("%v allocations of a bound session, %v of an unbound one", bound, unbound)
	}
}
