//go:build !race

package sessions_test

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/typedsessions/sessions"
)

// With the detector of races a million requests take minutes; flood_test.go has
// fewer of them.
func TestAMillionAnonymousVisitorsLeaveNoMemoryBehind(t *testing.T) {
	const visitors, bound = 1_000_000, 1000
	for _, tt := range []struct {
		name  string
		store *sessions.MemoryStore
		visit func(*session)
	}{
		{"who look around, without a store", nil, func(s *session) { _, _ = s.Data.N, s.Flashes() }},
		{"who look around", new(sessions.MemoryStore), func(s *session) { _, _ = s.Data.N, s.Flashes() }},
		{"who each store something", &sessions.MemoryStore{Max: bound}, func(s *session) { s.Data.N = 1 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, mode{}, func(c *config) {
				c.OnEvent = nil
				if tt.store != nil {
					c.Store = tt.store
				}
			})
			path := s.route(func(_ http.ResponseWriter, r *http.Request) { tt.visit(sessions.Get[AppSession](r.Context())) })
			r, w := httptest.NewRequest("GET", path, nil), discardWriter{http.Header{}}
			used := func(n int) uint64 {
				for range n {
					clear(w.header)
					s.handler.ServeHTTP(w, r)
				}
				runtime.GC()
				var mem runtime.MemStats
				runtime.ReadMemStats(&mem)
				return mem.HeapAlloc
			}
			before := used(2 * bound)
			if after := used(visitors); after > before+1<<20 {
				t.Errorf("got %d bytes in use after a million visitors, %d before, want no growth", after, before)
			}
			if tt.store != nil && tt.store.Len() > bound {
				t.Errorf("got %d records, want at most %d", tt.store.Len(), bound)
			}
		})
	}
}
