package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// RunCut checks a store while its connections break: before the server at addr
// receives a request, after it has executed the request, and in the middle of its
// answer. An operation with an error that the contract does not define may have
// been carried out, or may be carried out later. With this exception, histories
// must be linearizable. RunCut also checks that operations return when their
// context is done while no bytes get through, and that the store recovers by
// itself.
//
// The function open returns an empty store whose client connects to the given
// address, and registers its cleanup with t.Cleanup. It is called for each
// subtest.
func RunCut(t *testing.T, addr string, open func(t testing.TB, addr string) sessions.Store) {
	check := func(name string, f func(s *subject, p *proxy)) {
		t.Run(name, func(t *testing.T) {
			run(t, steady(), 0, func(s *tester) {
				p := newProxy(t, addr)
				f(newSubject(s, open(t, p.addr)), p)
			})
		})
	}
	check("histories with cut connections are linearizable", checkCuts)
	for _, end := range []struct {
		name string
		err  error
	}{{"deadline passes", context.DeadlineExceeded}, {"caller cancels", context.Canceled}} {
		check("operations return when no bytes get through and their "+end.name, func(s *subject, p *proxy) { checkHold(s, p, end.err) })
	}
}

// cutSlack is how long an operation may run after its context is done. It allows
// for closing a connection and for a busy machine.
const cutSlack = 2 * time.Second

func checkCuts(s *subject, p *proxy) {
	s.absent(oneID) // the connection works
	l := load{clients: 8, ids: 3, calls: 30, timeout: 2 * time.Second, cut: true}
	const rounds = 12 // 240 calls each
	known, unknown := 0, 0
	for round := range rounds {
		p.cutting.Store(true)
		h := l.record(s, round*l.ids)
		p.cutting.Store(false)
		s.answersAgain()
		h.check(s.tester)
		if h.overtime > cutSlack {
			s.Errorf("an operation returned %v after its context was done", h.overtime)
		}
		known, unknown = known+h.known, unknown+h.unknown
		if s.Failed() {
			return
		}
	}
	cuts := [3]int64{p.cuts[0].Load(), p.cuts[1].Load(), p.cuts[2].Load()}
	s.Logf("%d calls, %d of them with an unknown outcome; connections cut: %d before the request, %d before the answer, %d in the answer",
		known+unknown, unknown, cuts[0], cuts[1], cuts[2])
	// Without both kinds of outcome and all kinds of cut, the histories prove little.
	if known < unknown || unknown < 10 || min(cuts[0], cuts[1], cuts[2]) == 0 {
		s.Errorf("got %d answers and %d calls with an unknown outcome, with cuts %v; want mostly answers and some cuts of each kind", known, unknown, cuts)
	}
}

// answersAgain waits until the store answers again.
func (s *subject) answersAgain() {
	s.Helper()
	s.poll("the store does not recover", func() bool {
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
	if labels, ok := s.Store.(sessions.LabelStore); ok {
		all = append(all, operation{"Labelled", func(ctx context.Context) (err error) {
			for _, err = range labels.Labelled(ctx, "red") {
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
		wait := s.start(1, func(int) { ended <- op.run(ctx) })
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
			s.Errorf("%s still runs %v after its context was done", op.name, cutSlack)
		}
		cancel()
		p.release()
		wait()
		s.answersAgain()
	}
	s.holds(oneID, version, rec)
}
