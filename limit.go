package sessions

import (
	"context"
	"sync"
	"time"
)

// outlive returns the context of a commit: it goes on when the client has hung
// up, so that a logout is not lost with the connection, but not for ever.
func (m *core) outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	if m.store == nil {
		return ctx, func() {}
	}
	return m.bounded(context.WithoutCancel(ctx))
}

// bounded gives a context the time of one load or commit. MemoryStore never
// waits and needs no limit.
func (m *core) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := m.store.(*MemoryStore); ok {
		return ctx, func() {}
	}
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

// wait returns the context with the timer. mu is held.
func (l *limit) wait() context.Context {
	if l.timed == nil {
		l.timed, l.release = context.WithDeadline(l.Context, l.end)
		if l.canceled {
			l.release()
		}
	}
	return l.timed
}

func (l *limit) cancel() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.canceled = true
	if l.timed != nil {
		l.release()
	}
}

func (l *limit) Deadline() (time.Time, bool) {
	if end, ok := l.Context.Deadline(); ok && end.Before(l.end) {
		return end, true
	}
	return l.end, true
}

func (l *limit) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wait().Done()
}

func (l *limit) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timed == nil && !l.canceled && time.Now().Before(l.end) {
		return l.Context.Err()
	}
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
