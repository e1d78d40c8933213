package txn

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/typedsessions/sessions/internal/watch"
)

// causes are what context.Cause says of a context of Watch.
var causes = map[Reason]error{}

func init() {
	for reason, text := range map[Reason]string{
		Destroyed: "was destroyed", WasReset: "was reset", Revoked: "was revoked", OverLimit: "was ended by the limit of its owner",
		Spent: "was spent: nothing was left in it", Replaced: "has moved to a new id", Expired: "has expired", IdleTooLong: "was idle",
		Unknown: "has ended elsewhere",
	} {
		causes[reason] = fmt.Errorf("sessions: the session %s: %w", text, ErrNotFound)
	}
}

// NewWatches returns the set of those who watch the engine's sessions. changes may
// be nil.
func (e *Engine) NewWatches(changes func(context.Context) iter.Seq2[ID, error], failed func(error)) *watch.Set {
	cfg := watch.Config{Elsewhere: causes[Unknown], Failed: failed}
	switch {
	case e.LoadMany != nil:
		cfg.LoadMany = e.statesOf
	case e.Store != nil:
		cfg.Load = e.stateOf
	}
	if changes != nil {
		cfg.Changes = func(ctx context.Context, tell func(watch.ID)) error {
			for id, err := range changes(ctx) {
				if err != nil {
					return err
				}
				tell(watch.ID(id))
			}
			return ctx.Err()
		}
	}
	return watch.New(cfg)
}

// stateOf asks the store for a session. It is no use of it.
func (e *Engine) stateOf(ctx context.Context, id watch.ID) (st watch.State, err error) {
	ctx, cancel := e.Limit(ctx)
	defer cancel()
	rec, err := e.Store.Newest(ctx, ID(id))
	return e.stateIn(ID(id), rec, err)
}

// statesOf asks the store for many sessions.
func (e *Engine) statesOf(ctx context.Context, ids []watch.ID) (map[watch.ID]watch.State, error) {
	ctx, cancel := e.Limit(ctx)
	defer cancel()
	asked := make([]ID, len(ids))
	for i, id := range ids {
		asked[i] = ID(id)
	}
	records, err := e.LoadMany(ctx, asked)
	if err != nil {
		return nil, err
	}
	states := make(map[watch.ID]watch.State, len(ids))
	for _, id := range asked {
		rec, ok := records[id]
		if !ok {
			// A Store around one that has LoadMany has it too, without knowing.
			rec, err = e.Store.Newest(ctx, id)
		}
		if states[watch.ID(id)], err = e.stateIn(id, rec, err); err != nil {
			return nil, err
		}
	}
	return states, nil
}

// stateIn returns the state of a session by what a Load returned.
func (e *Engine) stateIn(id ID, rec Record, err error) (st watch.State, _ error) {
	life := Life{Expires: rec.Expires.Unix() + 1} // of a record that this program cannot read
	switch _, reason := e.gone(id, rec, err, time.Now(), &life); {
	case reason == Unknown:
		return watch.State{Ended: true}, nil
	case reason != NotNew:
		return watch.State{Ended: true, Cause: causes[reason]}, nil
	case err != nil:
		return st, err
	}
	return stateAt(rec.Expires, life.Expires), nil
}

// stateAt returns the state of a session that ends at a time, and at the latest at
// its absolute end.
func stateAt(ends time.Time, expires int64) watch.State {
	st := watch.State{Ends: ends, Cause: causes[IdleTooLong]}
	if !ends.Before(time.Unix(expires, 0)) {
		st.Cause = causes[Expired]
	}
	return st
}

// stateOfBase returns what is known of a session that is kept.
func (e *Engine) stateOfBase(b *Base) watch.State {
	ends := time.UnixMilli(b.Ends)
	if e.Store == nil {
		ends = time.Unix(b.Expires, 0)
		if idle := time.Unix(b.Used, 0).Add(e.Idle); e.Idle > 0 && idle.Before(ends) {
			ends = idle
		}
	}
	return stateAt(ends, b.Expires)
}

// Watch is Session.Watch.
func (t *Txn) Watch(ctx context.Context) (context.Context, context.CancelFunc) {
	w := t.eng.Watches.Watch(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.exists {
	case Ended:
		w.End(causes[t.rareLocked().why])
	case Lost:
		w.End(causes[Unknown])
	default:
		if t.base.kept() {
			w.Follow(t.base.ID, t.eng.stateOfBase(t.base))
		}
		r := t.rareLocked()
		r.watchers = append(r.watchers, w)
	}
	return w.Context(), w.Cancel
}

// holdWatchers lets this request's watchers follow no session, while it moves.
func (t *Txn) holdWatchers() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rare != nil {
		for _, w := range t.rare.watchers {
			w.Hold()
		}
	}
}

// follow lets this request's watchers follow the session that is kept.
func (t *Txn) follow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.followLocked()
}

func (t *Txn) followLocked() {
	if t.rare == nil || !t.base.kept() {
		return
	}
	for _, w := range t.rare.watchers {
		w.Follow(t.base.ID, t.eng.stateOfBase(t.base))
	}
}

// Ending says that this process is about to end a session, and returns what to call
// afterwards.
func (e *Engine) Ending(id ID, why Reason) (done func(ended bool)) {
	return e.Watches.Ending(watch.ID(id), causes[why])
}
