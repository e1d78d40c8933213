package wait

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Limit returns a context that ends after d, or with ctx, as that of
// [context.WithTimeout] does. It sets its timer and watches ctx only when
// somebody first waits for it. A store that has the answer at hand never waits:
// with a LocalCache that saves 6 % of a request's processor time (benchmarks,
// BenchmarkStore/work=R/by=redis-ours-cached).
func Limit(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	l := &limit{Context: ctx, end: time.Now().Add(d)}
	return l, l.cancel
}

type limit struct {
	context.Context // the parent
	end             time.Time

	mu       sync.Mutex
	timed    context.Context // nil until somebody waits
	release  context.CancelFunc
	canceled bool
}

func (l *limit) cancel() {
	l.mu.Lock()
	l.canceled = true
	release := l.release
	l.mu.Unlock()
	if release != nil {
		release()
	}
}

// timedLocked returns the context with the timer.
func (l *limit) timedLocked() context.Context {
	switch {
	case l.timed != nil:
	case l.canceled: // whatever the parent and the clock have come to since
		l.timed, l.release = context.WithCancel(context.WithoutCancel(l.Context))
		l.release()
	default:
		l.timed, l.release = context.WithDeadline(l.Context, l.end)
	}
	return l.timed
}

func (l *limit) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.timedLocked().Done()
}

func (l *limit) Err() error {
	l.mu.Lock()
	if l.timed == nil && !l.canceled && time.Now().Before(l.end) {
		l.mu.Unlock()
		return l.Context.Err()
	}
	defer l.mu.Unlock()
	return l.timedLocked().Err()
}

// Value asks the context with the timer, if there is one, so that a context
// derived from l ends with it at once.
func (l *limit) Value(key any) any {
	l.mu.Lock()
	ctx := l.timed
	l.mu.Unlock()
	if ctx == nil {
		ctx = l.Context
	}
	return ctx.Value(key)
}

func (l *limit) Deadline() (time.Time, bool) {
	if end, ok := l.Context.Deadline(); ok && end.Before(l.end) {
		return end, true
	}
	return l.end, true
}

// String keeps fmt from reading the fields, which another goroutine may set.
func (l *limit) String() string { return fmt.Sprintf("%v.WithDeadline(%v)", l.Context, l.end) }

// A Shared is one time limit for many operations, which costs them no timer each.
// Its zero value is ready, and it is safe for concurrent use.
type Shared struct{ current atomic.Pointer[round] }

// A round is the limit of what begins within one period.
type round struct {
	began   time.Time
	ctx     context.Context
	release context.CancelFunc // called by nobody: others may wait for ctx until it ends
}

// Limit returns a context with the values of ctx and without its end. It ends
// after d, or up to a twentieth of that earlier.
func (s *Shared) Limit(ctx context.Context, d time.Duration) context.Context {
	now := time.Now()
	if now.Before(realTime) {
		return &limit{Context: context.WithoutCancel(ctx), end: now.Add(d)}
	}
	r := s.current.Load()
	if r == nil || now.Sub(r.began) >= d/20 || now.Before(r.began) {
		next := &round{began: now}
		next.ctx, next.release = context.WithDeadline(context.Background(), now.Add(d))
		s.current.Store(next) // of two at once, each may use its own
		r = next
	}
	return &shared{r.ctx, ctx}
}

// realTime is later than the clock in a bubble of testing/synctest, which begins in
// 2000: what waits in one bubble must not be used in another.
var realTime = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

type shared struct {
	context.Context // of the round
	values          context.Context
}

// Value asks the round first, which has no values, but always answers the question
// of package context for what ends: a context derived from s ends with the round,
// and not with that of the values.
func (s *shared) Value(key any) any {
	if v := s.Context.Value(key); v != nil {
		return v
	}
	return s.values.Value(key)
}

func (s *shared) String() string { return fmt.Sprintf("%v.WithValuesOf(%v)", s.Context, s.values) }
