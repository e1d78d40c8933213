package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

// A tester is a testing.T for tests that wait for several goroutines and for the
// store, which may never return. No goroutine that uses it is that of the test:
// a fatal failure in any of them ends the context, on which the others wait, and
// then the test ends without those that hang in the store.
type tester struct {
	*testing.T
	ctx      context.Context
	stop     context.CancelFunc
	patience *patience
	running  sync.WaitGroup // the goroutines of the test

	mu      sync.Mutex
	silent  bool              // nothing is reported any more
	hanging map[string]string // the stacks of operations that hang, by name
}

// run calls f with a tester for t. It returns when f and the goroutines that f
// started have ended, or after a fatal failure, and ends the calling goroutine
// unless f has returned. If f does not end within limit, the test fails; zero means
// no limit.
func run(t *testing.T, p *patience, limit time.Duration, f func(t *tester)) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	s := &tester{T: t, ctx: ctx, stop: stop, patience: p}
	t.Cleanup(s.silence) // the last one, after those of the store and of the app
	if limit > 0 {
		timer := time.AfterFunc(limit, func() { s.lose("the test did not end within %v", limit) })
		defer timer.Stop()
	}
	returned, done := false, make(chan struct{})
	s.running.Go(func() {
		defer close(done)
		defer s.recovers()
		f(s)
		returned = true
	})
	select {
	case <-done:
	case <-ctx.Done():
	}
	grace := recovery
	if s.over() {
		grace = p.grace()
	}
	stop()
	ended := make(chan struct{})
	go func() { s.running.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(grace):
		t.FailNow()
	}
	switch {
	case returned:
	case t.Skipped():
		t.SkipNow()
	default:
		t.FailNow()
	}
}

func (t *tester) silence() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.silent = true
}

// Errorf is that of testing.T, except that it may be called after the test: an
// operation that hangs may return at any time.
func (t *tester) Errorf(format string, args ...any) {
	t.Helper()
	t.report(false, format, args...)
}

// Fatalf is like Errorf and ends the test.
func (t *tester) Fatalf(format string, args ...any) {
	t.Helper()
	t.lose(format, args...)
	runtime.Goexit()
}

// Error is like Errorf.
func (t *tester) Error(args ...any) {
	t.Helper()
	t.report(false, "%s", fmt.Sprint(args...))
}

// Fatal is like Fatalf.
func (t *tester) Fatal(args ...any) {
	t.Helper()
	t.Fatalf("%s", fmt.Sprint(args...))
}

// Logf is that of testing.T, except that it may be called after the test.
func (t *tester) Logf(format string, args ...any) {
	t.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.silent {
		t.T.Logf(format, args...)
	}
}

// lose reports a failure after which the test must not continue. Unlike Fatalf it
// returns, for callers in goroutines of others.
func (t *tester) lose(format string, args ...any) {
	t.Helper()
	t.report(true, format, args...)
	t.stop()
}

// report reports a failure. What follows the last one is its consequence and is
// not reported.
func (t *tester) report(last bool, format string, args ...any) {
	t.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.silent {
		t.T.Errorf(format, args...)
		t.silent = last
	}
}

// recovers, when deferred, turns a panic into a failure: a panic in a goroutine
// would end the process without the results of the other tests.
func (t *tester) recovers() {
	if p := recover(); p != nil {
		t.lose("panic: %v\n\n%s", p, debug.Stack())
	}
}

// errOver is returned to goroutines that use a store or an app after the test has
// failed or ended.
var errOver = errors.New("storetest: the test is over")

// over reports whether the test has failed for good, or has ended.
func (t *tester) over() bool { return t.ctx.Err() != nil }

// exit ends the calling goroutine if the test is over.
func (t *tester) exit() {
	if t.over() {
		runtime.Goexit()
	}
}

// start calls f(0) to f(n-1) in goroutines. The function that it returns waits for
// them, and ends the calling goroutine if the test is over.
func (t *tester) start(n int, f func(i int)) (wait func()) {
	var all sync.WaitGroup
	for i := range n {
		all.Add(1)
		t.running.Go(func() {
			defer all.Done()
			defer t.recovers()
			f(i)
		})
	}
	return func() {
		all.Wait()
		t.exit()
	}
}

// parallel calls f in n goroutines that start together, and waits for them.
func (t *tester) parallel(n int, f func(i int)) {
	ready := make(chan struct{})
	wait := t.start(n, func(i int) {
		<-ready
		f(i)
	})
	close(ready)
	wait()
}

// await waits for ch. It ends the calling goroutine if the test is over.
func (t *tester) await(ch <-chan struct{}) {
	select {
	case <-ch:
	case <-t.ctx.Done():
		t.exit()
	}
}

// recovery bounds the wait for a condition.
const recovery = 30 * time.Second

// poll calls f until it returns true. If that does not happen in time, poll fails
// the test with the given text.
func (t *tester) poll(otherwise string, f func() bool) {
	t.Helper()
	if !t.within(recovery, f) {
		t.Fatalf("%s, after %v", otherwise, recovery)
	}
}

// within calls f until it returns true, and reports whether it did so in time.
func (t *tester) within(limit time.Duration, f func() bool) bool {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); !f(); {
		if time.Now().After(deadline) {
			return false
		}
		select {
		case <-tick.C:
		case <-t.ctx.Done():
			t.exit()
		}
	}
	return true
}
