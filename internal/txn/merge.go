package txn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/wire"
)

// rebase loads what another request stored and replays this one's changes on it,
// always from this one's own beginning. It returns the version to expect too.
func (t *Txn) rebase(ctx context.Context, c *change, tries *Tries) (*version, uint64, error) {
	rec, theirs, err := t.newest(ctx, c, tries)
	if err != nil {
		return nil, 0, err
	}
	if t.wasStored(c, rec.Data) {
		v, err := t.replay(c, c.base)
		return v, rec.Version, err
	}
	v, err := t.replay(c, theirs)
	switch {
	case err == nil:
		t.event(Event{Kind: Merged})
	case !errors.Is(err, errAgain) && tries.forget():
		return t.rebase(ctx, c, tries)
	}
	return v, rec.Version, err
}

// newest loads what another request or an Edit stored.
func (t *Txn) newest(ctx context.Context, c *change, tries *Tries) (Record, *Base, error) {
	id := tries.id
	rec, err := tries.newest(ctx)
	if errors.Is(err, ErrNotFound) {
		return rec, nil, t.vanished(c, err)
	}
	if err != nil {
		return rec, nil, &StoreError{"load", id, err}
	}
	theirs, reason, err := t.eng.Read(id, rec, t.eng.Codec.New(), time.Now())
	switch {
	case reason == NotNew:
	case tries.forget():
		return t.newest(ctx, c, tries)
	case reason.Gone():
		return rec, nil, t.discard(c, reason, ErrNotFound)
	default:
		return rec, nil, t.discard(c, reason, fmt.Errorf("%w: the newest state cannot be read (%v): %v", ErrConflict, reason, err))
	}
	return rec, theirs, nil
}

// wasStored reports whether a record is that of an attempt whose answer was lost.
// The change then begins after it: what is stored must not be replayed on itself.
func (t *Txn) wasStored(c *change, rec []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rare == nil {
		return false
	}
	for _, a := range t.rare.attempts {
		if bytes.Equal(rec, a.sent) {
			c.base, c.kept, c.from = a.base, a.mine, a.n
			t.foldChangeLocked(c)
			return true
		}
	}
	return false
}

// replay makes the version that this request's changes give on what another
// request stored.
func (t *Txn) replay(c *change, theirs *Base) (*version, error) {
	cur, err := t.onto(c, theirs, func(*Run, any) error { return nil })
	if err != nil {
		return nil, err
	}
	if len(c.view.Runs) > 0 && t.replanned(c) {
		return nil, errAgain
	}
	v := &version{data: cur}
	v.flashes, v.dropped = mergeFlashes(theirs.Flashes, c.view.Consumed, c.view.Added)
	if err := t.dress(c, v, theirs); err != nil {
		return nil, err
	}
	stays := c.action.Step == Replace || c.action.Step == Spend && !t.nothingIn(v)
	if stays && v.owner != theirs.Owner {
		t.mu.Lock()
		t.rareLocked().passed = true
		t.mu.Unlock()
		return nil, errAgain
	}
	if v.encoded, err = t.eng.Codec.Encode(nil, cur); err != nil {
		return nil, fmt.Errorf("merged with a parallel change: %w", err)
	}
	return v, nil
}

// onto returns a copy of the data that another request stored, with this
// request's changes on it. around is called before and after the function of each
// Update runs again.
func (t *Txn) onto(c *change, theirs *Base, around func(run *Run, data any) error) (any, error) {
	cur, err := t.eng.Codec.With(t.data(), theirs.Kept)
	if err != nil {
		return nil, err
	}
	from := c.kept
	for _, run := range c.view.Runs {
		after := run.After // around may change it
		if err := t.eng.Codec.MergeInto(cur, from, run.Before); err != nil {
			return nil, err
		}
		if err := around(run, cur); err != nil {
			return nil, err
		}
		if err := t.repeat(c, run, cur); err != nil {
			return nil, err
		}
		if err := around(run, cur); err != nil {
			return nil, err
		}
		from = after
	}
	return cur, t.eng.Codec.MergeInto(cur, from, c.mine)
}

// repeat runs the function of an Update again. What its last run did besides
// changing its argument is taken back first.
func (t *Txn) repeat(c *change, run *Run, data any) (err error) {
	t.mu.Lock()
	r := t.rareLocked()
	r.now = without(r.now, run.now)
	run.Ops, run.now, run.repeated = nil, nil, true
	r.run, r.reach, r.moving = run, c.facts.Reach, c.action.Step == Move
	t.mu.Unlock()
	defer t.endRun()
	defer codec.Caught(&err, "the function of an Update, repeated after a conflict,")
	run.F(data)
	return nil
}

// replanned takes the verbs of repeated functions into the change. It reports
// whether they need another action, such as a move to a new id.
func (t *Txn) replanned(c *change) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.journal.Ending() {
		return true
	}
	planned, identity := c.action, c.identity
	c.facts.Changed = true // what a repeated function changes is known after the merge only
	t.planLocked(c)
	if planned.Step == Move && c.action.Step == Replace {
		c.action = planned // to move on does no harm
	}
	c.identity = identity
	c.action.Cookie = c.action.Cookie || planned.Cookie // of a new end that a lost answer has stored
	return c.action.Step != planned.Step
}

// mergeFlashes returns stored without consumed and with added, and how many of
// the oldest had to go. A message that is equal to a waiting one does not wait
// twice.
func mergeFlashes(stored, consumed, added []wire.Flash) (flashes []wire.Flash, dropped int) {
	flashes = without(stored, consumed)
	for _, f := range added {
		if !slices.Contains(flashes, f) {
			flashes = append(flashes, f)
		}
	}
	dropped = max(0, len(flashes)-wire.MaxFlashes)
	return flashes[dropped:], dropped
}

// without returns a copy of all that lacks each of some once.
func without(all, some []wire.Flash) []wire.Flash {
	all = slices.Clone(all)
	for _, f := range some {
		if i := slices.Index(all, f); i >= 0 {
			all = slices.Delete(all, i, i+1)
		}
	}
	return all
}
