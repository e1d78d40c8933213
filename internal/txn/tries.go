package txn

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/typedsessions/sessions/internal/wait"
)

// Tries are those of one operation that changes a record at its newest version.
type Tries struct {
	engine *Engine
	id     ID
	began  time.Time
	n      int // the number of conflicts
	turn   *wait.Turn[ID, *handed]
	handed *handed
}

// A handed is a record as the turn before has stored it.
type handed struct {
	rec   Record
	turns int // that have changed it since one has loaded it
}

const (
	maxTurn   = Timeout / 10 // for one turn: the others do not wait for one that hangs
	maxWait   = Timeout / 2  // for the turns before: nor for many that do; then all try at once
	maxHanded = 8            // turns in a row without a Load: other processes get in between
)

// Try begins an operation on the record of an id. The caller must call End.
func (e *Engine) Try(id ID) Tries { return Tries{engine: e, id: id, began: time.Now()} }

// again waits before the next try after a conflict, or returns ErrConflict if there is
// no time for one. Of the operations of this process that change one session and have
// met a conflict, one at a time tries again, so that it competes with other processes
// only. After a further conflict it waits a random time, to find a gap between them.
func (t *Tries) again(ctx context.Context) (err error) {
	t.n++
	if t.n > 1 {
		t.handed = nil
		return BackOff(ctx, t.n-2, t.began)
	}
	waiting, cancel := wait.Limit(ctx, maxWait)
	defer cancel()
	t.turn, t.handed, err = t.engine.turns.Take(waiting, t.id, maxTurn)
	if err != nil && ctx.Err() != nil {
		return noTime(ctx.Err())
	}
	return nil
}

// newest returns the record to try again with. That of the turn before need not be
// loaded, which halves the time of a turn.
func (t *Tries) newest(ctx context.Context) (Record, error) {
	if t.handed != nil {
		return t.handed.rec, nil
	}
	return t.engine.Store.Newest(ctx, t.id)
}

// forget drops the record that the turn before has handed on, and reports whether
// there was one. It may not be the newest any more, which the Store finds out if the
// try succeeds, but nobody if it does not.
func (t *Tries) forget() bool {
	forgot := t.handed != nil
	t.handed = nil
	return forgot
}

// handOn ends the turn and hands the record that it has stored to the next.
func (t *Tries) handOn(rec Record, version uint64) {
	if t.turn == nil {
		return
	}
	rec.Version = version
	next := &handed{rec, 1}
	if t.handed != nil {
		next.turns += t.handed.turns
	}
	if next.turns > maxHanded {
		next = nil
	}
	t.turn.End(next)
}

// End ends the tries.
func (t *Tries) End() {
	if t.turn != nil {
		t.turn.End(nil)
	}
}

// BackOff waits before the next try, up to 1 ms at first and up to 32 ms later, or
// returns ErrConflict if there is no time for one.
func BackOff(ctx context.Context, try int, began time.Time) error {
	if time.Since(began) > Timeout {
		return noTime(context.DeadlineExceeded)
	}
	timer := time.NewTimer(rand.N(time.Millisecond << min(try, 5)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return noTime(ctx.Err())
	}
}

func noTime(err error) error { return fmt.Errorf("%w: %w", ErrConflict, err) }
