package wait

import (
	"context"
	"sync"
	"time"
)

// Turns are queues, one for each key. Of the callers that wait for the same key, one
// at a time has its turn, in the order in which they came. It may leave a value to the
// next. The zero value has no queues. It is safe for concurrent use.
type Turns[K comparable, V any] struct {
	mu   sync.Mutex
	last map[K]*Turn[K, V]
}

// A Turn is a place in a queue.
type Turn[K comparable, V any] struct {
	turns *Turns[K, V]
	key   K
	once  sync.Once
	over  chan struct{} // closed at the end of the turn
	left  V
	limit *time.Timer
}

// Take waits for the turn of the caller. It returns what the turn before has left, the
// zero value if there was none. The turn ends when the caller calls End, or after d. So
// no turn keeps the others waiting for long, but it may not be the only one. If ctx ends
// first, Take returns its error.
func (t *Turns[K, V]) Take(ctx context.Context, key K, d time.Duration) (_ *Turn[K, V], left V, err error) {
	turn := &Turn[K, V]{turns: t, key: key, over: make(chan struct{})}
	t.mu.Lock()
	before := t.last[key]
	if t.last == nil {
		t.last = make(map[K]*Turn[K, V])
	}
	t.last[key] = turn
	t.mu.Unlock()
	if before != nil {
		select {
		case <-before.over:
			left = before.left
		case <-ctx.Done():
			go func() {
				<-before.over
				turn.end(before.left)
			}()
			return nil, left, ctx.Err()
		}
	}
	turn.limit = time.AfterFunc(d, func() { turn.end(*new(V)) })
	return turn, left, nil
}

// End ends the turn and leaves a value to the next, unless the turn is over.
func (t *Turn[K, V]) End(left V) {
	t.limit.Stop()
	t.end(left)
}

func (t *Turn[K, V]) end(left V) {
	t.once.Do(func() {
		t.turns.mu.Lock()
		if t.turns.last[t.key] == t {
			delete(t.turns.last, t.key)
		}
		t.turns.mu.Unlock()
		t.left = left
		close(t.over)
	})
}
