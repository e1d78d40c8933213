package sessions

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// outlive returns the context of a commit: it goes on when the client has hung
// up, so that a logout is not lost with the connection, but not for ever.
func (s *state) outlive() (context.Context, context.CancelFunc) {
	if s.m.store == nil {
		return s.x, func() {}
	}
	return s.m.bounded(context.WithoutCancel(s.x))
}

// bounded gives a context the time of one load or commit. MemoryStore never
// waits and needs no limit.
func (m *core) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := m.store.(*MemoryStore); ok {
		return ctx, func() {}
	}
	return limited(ctx)
}

func limited(ctx context.Context) (context.Context, context.CancelFunc) {
	l := &limit{Context: ctx, end: time.Now().Add(storeTimeout)}
	return l, l.cancel
}

// A limit is what [context.WithDeadline] returns, but that its timer is set and
// its parent watched when somebody first waits for it. A store that has the
// answer at hand does not: with a LocalCache, 6 % of a request's processor time
// (benchmarks, BenchmarkStore/work=R/by=redis-ours-cached).
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

// wait returns the context with the timer. mu is held.
func (l *limit) wait() context.Context {
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
	return l.wait().Done()
}

func (l *limit) Err() error {
	l.mu.Lock()
	if l.timed == nil && !l.canceled && time.Now().Before(l.end) {
		l.mu.Unlock()
		return l.Context.Err()
	}
	defer l.mu.Unlock()
	return l.wait().Err()
}

// Value asks the context with the timer, if there is one, so that what is derived
// from it ends with it at once.
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
