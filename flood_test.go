package sessions_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/typedsessions/sessions"
)

// Floods: what visitors cost who have no session, or pretend to.

// costOf returns how many bytes and objects a request with these cookies
// allocates, on average.
func costOf(s *site, cookies ...string) (size, objects uint64) {
	const rounds = 200
	path := s.route(func(_ http.ResponseWriter, r *http.Request) { _ = sessions.Get[AppSession](r.Context()).Data.N })
	r := httptest.NewRequest("GET", path, nil)
	r.Header["Cookie"] = cookies
	w := discardWriter{http.Header{}}
	serve := func() { clear(w.header); s.handler.ServeHTTP(w, r) }
	s.events.reset()
	serve() // fills the pools
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		serve()
		s.events.all = s.events.all[:0]
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / rounds, (after.Mallocs - before.Mallocs) / rounds
}

func TestForgedRequestsCostLessThanAuthenticOnes(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) {
			s.Data = AppSession{UserID: 1, Name: "ada", Tags: []string{"a", "b"}, Cart: map[string]int{"x": 1}}
		})
		name := "__Host-Http-session="
		size, objects := costOf(s, name+b.cookie())
		for what, cookies := range map[string][]string{
			"one forged":                      {name + forge(b.cookie(), 1)},
			"one of garbage":                  {name + "garbage"},
			"one of an unknown key":           {name + canonicalValue(slices.Repeat([]byte{1}, 100))},
			"one of 4096 bytes":               {name + b.cookie()[:8] + strings.Repeat("A", 4088)},
			"a thousand forged in one line":   {strings.Repeat(name+forge(b.cookie(), 1)+"; ", 1000)},
			"a thousand forged, line by line": slices.Repeat([]string{name + forge(b.cookie(), 1)}, 1000),
		} {
			gotSize, gotObjects := costOf(s, cookies...)
			// The detector of races empties pools at random, so that a little is
			// allocated anew now and then.
			times := uint64(1)
			if strings.HasPrefix(what, "a thousand") {
				times = 16 // which are tried; opening a seal allocates, a signature only without a pool
			}
			if gotSize > times*size+8192 || gotObjects > times*objects {
				t.Errorf("%s: got %d bytes in %d objects, want at most %d times the %d in %d of an authentic cookie", what, gotSize, gotObjects, times, size, objects)
			}
		}
		t.Logf("an authentic cookie costs %d bytes in %d objects", size, objects)
	})
}

func TestVisitorsWhoWriteNothingStoreNothing(t *testing.T) {
	const visitors = 3_000
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		b.clone().do((*session).Destroy)
		values := []string{"", "__Host-Http-session=garbage", "__Host-Http-session=" + forge(b.cookie(), 2)}
		if m.hasStore() {
			values = append(values, "__Host-Http-session="+b.cookie()) // authentic, and gone
			s.store.resetCounts()
		}
		h := s.handler
		path := s.route(func(_ http.ResponseWriter, r *http.Request) {
			sess := sessions.Get[AppSession](r.Context())
			_, _ = sess.Flashes(), sess.ID()
		})
		for i := range visitors {
			r := httptest.NewRequest("GET", path, nil)
			if v := values[i%len(values)]; v != "" {
				r.Header.Set("Cookie", v)
			}
			w := discardWriter{http.Header{}}
			h.ServeHTTP(w, r)
			if len(w.header["Set-Cookie"]) > 0 {
				t.Fatalf("visitor %d got %q, want no cookie", i, w.header["Set-Cookie"])
			}
			s.events.reset()
		}
		if s.store == nil {
			return
		}
		if s.store.count("Create")+s.store.count("Update")+s.store.count("Touch") > 0 || len(s.store.live()) > 0 {
			t.Errorf("got the store calls %v and %d records, want no write", s.store.counts, len(s.store.live()))
		}
	})
}

// Visitors who do store something, each a session of his own, take the place of
// each other: the memory of a store with a bound does not grow, and those who
// have signed in stay.
func TestAFloodOfAnonymousSessionsStaysWithinTheBound(t *testing.T) {
	const bound, visitors = 500, 10_000
	store := &sessions.MemoryStore{Max: bound}
	s := newSite(t, mode{}, func(c *config) {
		c.Store = store
		c.OnEvent = nil
		c.Owner = func(d *AppSession) string {
			if d.UserID == 0 {
				return ""
			}
			return fmt.Sprint(d.UserID)
		}
	})
	user := s.browser()
	user.do(func(s *session) { s.Data.UserID = 42 })
	path := s.route(func(_ http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Flash("info", strings.Repeat("x", 500))
	})
	flood := func(n int) uint64 {
		for range n {
			s.handler.ServeHTTP(discardWriter{http.Header{}}, httptest.NewRequest("GET", path, nil))
			if store.Len() > bound {
				t.Fatalf("got %d records, want at most %d", store.Len(), bound)
			}
		}
		runtime.GC()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		return mem.HeapAlloc
	}
	full := flood(2 * bound)
	if after := flood(visitors); after > full+1<<20 {
		t.Errorf("got %d bytes in use after %d visitors more, %d before, want no growth", after, visitors, full)
	}
	if data, reason := user.peek(); data.UserID != 42 {
		t.Errorf("got user %d (%q), want the one who signed in before the flood", data.UserID, reason)
	}
}
