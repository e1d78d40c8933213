//go:build !race

package sessions

import (
	"net/http"
	"testing"

	"github.com/typedsessions/sessions/internal/cookie"
	"github.com/typedsessions/sessions/internal/wire"
)

// wantAllocs fails if a run of f allocates more than want times. It must not run
// beside parallel tests.
func wantAllocs(t *testing.T, want float64, f func()) {
	t.Helper()
	f() // fill the pools
	if got := testing.AllocsPerRun(200, f); got > want {
		t.Errorf("got %v allocations, want at most %v", got, want)
	}
}

func TestRequestsThatNeedNoSessionAllocateOnce(t *testing.T) {
	m := newBench(t, nil)
	cookie := cookieOf(t, m, func(s *Session[benchSession]) { s.Data = benchData() })
	for name, cookie := range map[string]string{"N, no cookie": "", "U, a cookie that nobody asks for": cookie} {
		t.Run(name, func(t *testing.T) {
			w, r := &benchWriter{header: http.Header{}}, request(cookie)
			h := m.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			wantAllocs(t, 1, func() { h.ServeHTTP(w, r) }) // the exchange, with the copy of the request in it
		})
	}
}

func TestAForgedCookieAllocatesNoMoreThanANewSession(t *testing.T) {
	m := newBench(t, nil)
	cookie := forged(cookieOf(t, m, func(s *Session[benchSession]) { s.Data = benchData() }))
	w, r := &benchWriter{header: http.Header{}}, request(cookie)
	h := m.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { Get[benchSession](r.Context()) }))
	// The exchange, and the session with its state.
	wantAllocs(t, 2, func() { clear(w.header); h.ServeHTTP(w, r) })
}

func TestTheTimeLimitOfAStoreThatNeedNotWaitAllocatesTwice(t *testing.T) {
	read := func(store Store) float64 {
		m := newBench(t, func(c *Config[benchSession]) { c.Store = store })
		cookie := cookieOf(t, m, func(s *Session[benchSession]) { s.Data = benchData() })
		w, r := &benchWriter{header: http.Header{}}, request(cookie)
		h := m.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { Get[benchSession](r.Context()) }))
		return testing.AllocsPerRun(200, func() { clear(w.header); h.ServeHTTP(w, r) })
	}
	unlimited := read(&MemoryStore{})
	// The context, and the function that ends it.
	if limited := read(struct{ Store }{&MemoryStore{}}); limited > unlimited+2 {
		t.Errorf("got %v allocations, want at most 2 more than the %v without a limit", limited, unlimited)
	}
}

func TestSigningAndOpeningAllocateNothing(t *testing.T) {
	s := newBench(t, nil).core.engine.Signer()
	sc := s.Scratch()
	buf := make([]byte, 0, 1024)
	body := make([]byte, 200)
	var signed []byte
	sign := func() { signed = s.AppendMAC(sc, append(s.AppendPrefix(buf[:0], wire.Signed), body...)) }
	t.Run("sign", func(t *testing.T) { wantAllocs(t, 0, sign) })
	t.Run("open", func(t *testing.T) {
		wantAllocs(t, 0, func() {
			if _, _, ok := s.Verify(sc, signed); !ok {
				t.Fatal("not authentic")
			}
		})
	})
}

func TestFindingTheCookieAllocatesNothing(t *testing.T) {
	m := newBench(t, nil).core
	h := request(cookieOf(t, newBench(t, nil), func(s *Session[benchSession]) { s.Data = benchData() })).Header
	wantAllocs(t, 0, func() {
		var found [cookie.MaxCandidates]string
		if values, _ := m.candidates(h, found[:0]); len(values) != 1 {
			t.Fatal("not found")
		}
	})
}
