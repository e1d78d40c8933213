package txn

import (
	"context"
	"errors"
	"fmt"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/wait"
)

// Reload is Session.Reload.
func (t *Txn) Reload(ctx context.Context) error {
	ctx, cancel := wait.Limit(ctx, Timeout)
	defer cancel()
	defer t.Emit()
	if err := t.reload(ctx); err != nil {
		return fmt.Errorf("reload session %s: %w", t.ID(), err)
	}
	return nil
}

func (t *Txn) reload(ctx context.Context) error {
	if err := t.enter(ctx, "Reload"); err != nil {
		return err
	}
	defer t.shared.Gate.Unlock()
	var c change
	t.snapshot(&c, t.readData(), Gone, true)
	switch {
	case c.facts.Exists == Ended || c.facts.Exists == Lost:
		return ErrNotFound
	case c.facts.Exists != Loaded:
		return nil // nothing is stored
	case t.eng.Store == nil:
		return t.overInCookie()
	}
	theirs, err := t.stored(ctx, &c)
	if err != nil || theirs.Version == c.base.Version {
		return err
	}
	return t.adoptNewest(&c, theirs)
}

// stored loads what is stored of the session now.
func (t *Txn) stored(ctx context.Context, c *change) (*Base, error) {
	id := c.base.ID
	rec, err := t.eng.Store.Newest(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, t.lose(Unknown, err)
	case err != nil:
		return nil, &StoreError{"load", id, err}
	}
	theirs, reason, err := t.eng.Read(id, rec, t.eng.Codec.New(), c.now)
	switch {
	case reason.Gone():
		return nil, t.lose(reason, ErrNotFound)
	case reason != NotNew:
		return nil, fmt.Errorf("the newest state cannot be read (%v): %w", reason, err)
	}
	if c.mine, err = t.eng.Codec.Append(nil, t.data()); err != nil {
		return nil, err
	}
	t.wasStored(c, rec.Data)
	return theirs, nil
}

// adoptNewest makes what another request has stored the base of this one. Its
// changes are then changes of that.
func (t *Txn) adoptNewest(c *change, theirs *Base) error {
	type around struct{ before, after []byte }
	runs := make(map[*Run]*around)
	data, err := t.onto(c, theirs, func(run *Run, data any) error {
		b, err := t.eng.Codec.Append(nil, data)
		if seen := runs[run]; seen != nil {
			seen.after = b
		} else {
			runs[run] = &around{before: b}
		}
		return err
	})
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.journal.Ending() { // by a repeated function, or another goroutine
		return ErrNotFound
	}
	for run, seen := range runs {
		run.Before, run.After = seen.before, seen.after
	}
	codec.Set(t.data(), data)
	if c.from > 0 {
		t.settleLocked(c.from) // a lost answer has stored these
	}
	t.base = theirs
	r := t.rareLocked()
	r.attempts, r.came = nil, theirs.Flashes
	return nil
}
