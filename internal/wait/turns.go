package wait

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Turns are queues, one for each key. Of the callers that wait for the same key, one
// at a time has its turn, in the order in which they came. It may leave a value to the
// next. The zero value has no queues. It is safe for concurrent use.
type Turns[K comparable, V any] struct {
	mu     sync.Mutex
	queues map[K][]*Turn[K, V] // none is empty; the first of each has its turn
}

// A Turn is a place in a queue.
type Turn[K comparable, V any] struct {
	turns *Turns[K, V]
	key   K
	d     time.Duration
	begun chan struct{} // closed when the turn begins
	limit *time.Timer   // set then
	got   V             // what the turn before has left
}

// Take waits for the turn of the caller. It returns what the turn before has left, the
// zero value if there was none. The turn ends when the caller calls End, or after d. So
// no turn keeps the others waiting for long, but it may not be the only one. If ctx ends
// first, Take returns its error.
func (t *Turns[K, V]) Take(ctx context.Context, key K, d time.Duration) (_ *Turn[K, V], left V, err error) {
	if err := ctx.Err(); err != nil {
		return nil, left, err
	}
	turn := &Turn[K, V]{turns: t, key: key, d: d, begun: make(chan struct{})}
	if t.enter(turn) {
		return turn, left, nil
	}
	select {
	case <-turn.begun:
		return turn, turn.got, nil
	case <-ctx.Done():
		turn.End(left)
		return nil, left, ctx.Err()
	}
}

// enter puts a turn into its queue. It reports whether the turn has begun, since the
// queue was empty.
func (t *Turns[K, V]) enter(turn *Turn[K, V]) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.queues == nil {
		t.queues = make(map[K][]*Turn[K, V])
	}
	queue := append(t.queues[turn.key], turn)
	t.queues[turn.key] = queue
	if len(queue) > 1 {
		return false
	}
	turn.beginLocked(*new(V))
	return true
}

func (t *Turn[K, V]) beginLocked(got V) {
	t.got = got
	t.limit = time.AfterFunc(t.d, func() { t.End(*new(V)) })
	close(t.begun)
}

// End ends the turn and leaves a value to the next, unless the turn is over.
func (t *Turn[K, V]) End(left V) {
	t.turns.mu.Lock()
	defer t.turns.mu.Unlock()
	queue := t.turns.queues[t.key]
	i := slices.Index(queue, t)
	if i < 0 {
		return
	}
	if t.limit != nil {
		t.limit.Stop()
	}
	switch queue = slices.Delete(queue, i, i+1); {
	case len(queue) == 0:
		delete(t.turns.queues, t.key)
		return
	case i == 0:
		queue[0].beginLocked(left)
	}
	t.turns.queues[t.key] = queue
}
