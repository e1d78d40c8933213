package storetest

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// A Server is the server of a store.
type Server interface {
	// Kill ends the server as a crash does. It returns when the server has ended.
	Kill()

	// Restart starts the server again, at the same address and with its data on
	// disk. It returns when the server answers.
	Restart()
}

// RunCrash kills the server of a store under load, starts it again, and checks the
// application. While the server is down, Config.ErrorHandler must answer requests,
// in bounded time and without a panic. After the restart, sessions must continue
// with the same Store.
//
// If durable is true, the server writes to disk before it acknowledges, and no
// acknowledged write may be lost. Otherwise a session may be lost or have an
// earlier state, but no state that it never had.
//
// The function open returns an empty store of that server and registers its
// cleanup with t.Cleanup.
func RunCrash(t *testing.T, server Server, durable bool, open func(t testing.TB) sessions.Store) {
	run(t, steady(), 0, func(t *tester) { checkCrash(t, server, durable, open(t.T)) })
}

func checkCrash(t *tester, server Server, durable bool, store sessions.Store) {
	app := newApp(t, store, true)
	visitors := make([]*visitor, 8)
	for i := range visitors {
		visitors[i] = &visitor{browser: browser{t: t, app: app.url}, durable: durable}
		visitors[i].add()
	}
	var enough atomic.Bool
	wait := t.start(len(visitors), func(i int) {
		for !enough.Load() && !t.over() {
			visitors[i].add()
		}
	})
	each := func(otherwise string, count func(v *visitor) int64, n int64) {
		t.Helper()
		var before []int64
		for _, v := range visitors {
			before = append(before, count(v))
		}
		t.poll(otherwise, func() bool {
			for i, v := range visitors {
				if count(v) < before[i]+n {
					return false
				}
			}
			return true
		})
	}
	answered := func(v *visitor) int64 { return v.answered.Load() }
	refused := func(v *visitor) int64 { return v.refused.Load() }
	for range 2 {
		each("requests are not answered", answered, 20)
		server.Kill()
		each("requests are not refused while the server is down", refused, 2)
		server.Restart()
		each("requests are not answered after the restart", answered, 20)
	}
	enough.Store(true)
	wait()
	var all, lost int64
	for _, v := range visitors {
		all, lost = all+v.answered.Load(), lost+v.refused.Load()
	}
	t.Logf("%d requests were answered, %d refused; sessions that started again: %d", all, lost, fresh(visitors))
}

func fresh(visitors []*visitor) (n int64) {
	for _, v := range visitors {
		n += v.fresh.Load()
	}
	return n
}

// A visitor increments a counter in a session and knows its possible values.
type visitor struct {
	browser
	durable bool

	low, high                int // bounds of N: acknowledged changes, and all that may have been made
	answered, refused, fresh atomic.Int64
}

// requestTimeout bounds a request while the server is down: 5 s for the load, 5 s
// for the commit, and a margin for a busy machine.
const requestTimeout = 15 * time.Second

// add sends a request that increments N. If the request is refused, N may have
// been incremented.
func (v *visitor) add() {
	before := v.cookie
	r := v.try("add")
	if r.Took > requestTimeout {
		v.t.Errorf("a request took %v, want at most %v", r.Took, requestTimeout)
	}
	switch r.Status {
	case http.StatusServiceUnavailable:
		v.refused.Add(1)
		v.high++
		return
	case http.StatusOK:
	default:
		v.t.Errorf("got status %d, want 200, or 503 from ErrorHandler: %s", r.Status, r.Text)
		return
	}
	v.answered.Add(1)
	if r.Reason != sessions.ReasonNone {
		if before != "" {
			v.fresh.Add(1)
		}
		if before != "" && v.durable {
			v.t.Errorf("a session with %d acknowledged changes is lost (%s)", v.low, r.Reason)
		}
		v.low, v.high = 0, 0
	}
	v.high++
	n := r.Account.N
	if v.durable && n <= v.low || n > v.high {
		v.t.Errorf("got N=%d, want at least the acknowledged changes, %d, and at most %d", n, v.low+1, v.high)
	}
	v.low, v.high = n, n
}
