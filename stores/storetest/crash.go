package storetest

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// A Server is the server of a store. Kill ends it as a crash does and returns
// when it has ended; Restart starts it again, at the same address and with what
// it kept on disk, and returns when it answers.
type Server interface {
	Kill()
	Restart()
}

// RunCrash checks what an application does when the store's server is killed
// under load and started again: requests are answered by Config.ErrorHandler
// while it is away, in bounded time and without a panic, and sessions go on
// afterwards with the same store. If the server is durable (it has written to
// disk what it acknowledged) no acknowledged write may be lost; else sessions
// may be gone, or as they were earlier, but nothing may be made up.
//
// open returns an empty store of that server, and closes it by t.Cleanup.
func RunCrash(t *testing.T, server Server, durable bool, open func(t testing.TB) sessions.Store) {
	app := newApp(t, open(t))
	visitors := make([]*visitor, 8)
	stop := make(chan struct{})
	var running sync.WaitGroup
	for i := range visitors {
		v := &visitor{browser: browser{t: t, app: app.url}, durable: durable}
		v.add()
		visitors[i] = v
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					v.add()
				}
			}
		})
	}
	defer func() {
		close(stop)
		running.Wait()
	}()
	each := func(otherwise string, count func(v *visitor) int64, n int64) {
		t.Helper()
		var before []int64
		for _, v := range visitors {
			before = append(before, count(v))
		}
		poll(t, otherwise, func() bool {
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
		each("requests are not refused while the server is away", refused, 2)
		server.Restart()
		each("requests are not answered after the restart", answered, 20)
	}
	var all, lost int64
	for _, v := range visitors {
		all, lost = all+v.answered.Load(), lost+v.refused.Load()
	}
	t.Logf("%d requests were answered, %d refused; sessions that began afresh: %d", all, lost, fresh(visitors))
}

func fresh(visitors []*visitor) (n int64) {
	for _, v := range visitors {
		n += v.fresh.Load()
	}
	return n
}

// A visitor counts in a session and knows what it must hold.
type visitor struct {
	browser
	durable bool

	low, high                int // what N is: acknowledged, and with what may have been done
	answered, refused, fresh atomic.Int64
}

// requestTimeout is what a request may take whose store is away: a load and
// a commit of 5 s each, and some more on a machine that is busy.
const requestTimeout = 15 * time.Second

// add is one request: N grows by one, or perhaps if it is refused.
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
		v.t.Errorf("got status %d, want 200, or 503 from ErrorHandler", r.Status)
		return
	}
	v.answered.Add(1)
	if r.Reason != sessions.ReasonNone {
		if before != "" {
			v.fresh.Add(1)
		}
		if before != "" && v.durable {
			v.t.Errorf("a session of %d acknowledged changes is gone (%s)", v.low, r.Reason)
		}
		v.low, v.high = 0, 0
	}
	v.high++
	n := r.Account.N
	if v.durable && n <= v.low || n > v.high {
		v.t.Errorf("got N=%d, want %d to %d: acknowledged changes, and those of unknown outcome", n, v.low+1, v.high)
	}
	v.low, v.high = n, n
}
