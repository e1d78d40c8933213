package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// RunCut checks what a store does when its connections break: before the server
// at addr got a request, after it carried it out, and amid its answer. An
// operation that returns an error which is none of the contract's may have been
// carried out, then or later; everything else must be what some order of the
// operations explains. It also checks that operations obey their context when
// nothing comes through any more, and that the store recovers by itself.
//
// open returns an empty store whose client reaches the server under the address
// that it is given, and closes it by t.Cleanup. It is called for each subtest.
func RunCut(t *testing.T, addr string, open func(t testing.TB, addr string) sessions.Store) {
	t.Run("histories with cut connections can be explained", func(t *testing.T) {
		p := newProxy(t, addr)
		checkCuts(newSubject(t, open(t, p.addr)), p)
	})
	for _, end := range []struct {
		name string
		err  error
	}{{"time is over", context.DeadlineExceeded}, {"caller cancels", context.Canceled}} {
		t.Run("operations end when nothing comes through and their "+end.name, func(t *testing.T) {
			p := newProxy(t, addr)
			checkHold(newSubject(t, open(t, p.addr)), p, end.err)
		})
	}
}

// cutSlack is by how much an operation may outlast its context: for closing
// a connection, and for a machine that is busy.
const cutSlack = 2 * time.Second

func checkCuts(s *subject, p *proxy) {
	s.absent(oneID) // the connection works
	l := load{clients: 8, ids: 3, calls: 30, timeout: 2 * time.Second, cut: true}
	const rounds = 12 // of 240 calls
	known, unknown := 0, 0
	for round := range rounds {
		p.cutting.Store(true)
		h := l.take(s.T, s.Store, round*l.ids)
		p.cutting.Store(false)
		s.recovers()
		h.explain(s.T)
		if h.overtime > cutSlack {
			s.Errorf("an operation ended %v after its context", h.overtime)
		}
		known, unknown = known+h.known, unknown+h.unknown
		if s.Failed() {
			return
		}
	}
	cuts := [3]int64{p.cuts[0].Load(), p.cuts[1].Load(), p.cuts[2].Load()}
	s.Logf("%d calls, %d of them of unknown outcome; connections cut: %d before the request, %d before the answer, %d amid it",
		known+unknown, unknown, cuts[0], cuts[1], cuts[2])
	// Or the histories would show nothing.
	if known < unknown || unknown < 10 || min(cuts[0], cuts[1], cuts[2]) == 0 {
		s.Errorf("got %d answers and %d calls of unknown outcome, with cuts %v; want most answered and some of each cut", known, unknown, cuts)
	}
}

// recovers waits until the store answers again.
func (s *subject) recovers() {
	s.Helper()
	poll(s.T, "the store does not recover", func() bool {
		ctx, cancel := context.WithTimeout(s.ctx, cutSlack)
		defer cancel()
		_, err := s.Load(ctx, oneID)
		return err == nil || errors.Is(err, sessions.ErrNotFound)
	})
}

func checkHold(s *subject, p *proxy, want error) {
	rec := recordFor(time.Hour, "data", "ada")
	version := s.create(oneID, rec)
	type operation struct {
		name string
		run  func(ctx context.Context) error
	}
	var all []operation
	for _, op := range operations {
		all = append(all, operation{op.name, func(ctx context.Context) error { return op.run(ctx, s.Store, otherID, version) }})
	}
	if owners, ok := s.Store.(sessions.OwnerStore); ok {
		all = append(all, operation{"Owned", func(ctx context.Context) (err error) {
			for _, err = range owners.Owned(ctx, "ada") {
				if err != nil {
					return err
				}
			}
			return nil
		}})
	}
	for _, op := range all {
		p.hold()
		ctx, cancel := context.WithCancel(s.ctx)
		if want == context.DeadlineExceeded {
			ctx, cancel = context.WithTimeout(s.ctx, 300*time.Millisecond)
		}
		ended := make(chan error, 1)
		go func() { ended <- op.run(ctx) }()
		select {
		case <-p.waits:
		case err := <-ended:
			ended <- err
		}
		if want == context.Canceled {
			cancel()
		}
		select {
		case err := <-ended:
			s.fails(op.name, err, want)
		case <-time.After(300*time.Millisecond + cutSlack):
			s.Errorf("%s still runs %v after its context ended", op.name, cutSlack)
		}
		cancel()
		p.release()
		s.recovers()
	}
	s.holds(oneID, version, rec)
}
