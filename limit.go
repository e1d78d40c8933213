package sessions

import (
	"context"

	"github.com/typedsessions/sessions/internal/wait"
)

// outlive returns the context of a commit. It goes on when the client has hung
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
	return wait.Limit(ctx, storeTimeout)
}
