package txn

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/typedsessions/sessions/internal/wire"
)

// store stores a session in the Store as planned, and readies its cookie.
func (t *Txn) store(ctx context.Context, c *change) error {
	v, err := t.own(c)
	if err != nil {
		return err
	}
	if c.mine, err = t.eng.Codec.Encode(nil, v.data); err != nil {
		return err
	}
	v.encoded = c.mine
	var base *Base
	var surplus [][]rival
	switch c.action.Step {
	case Create:
		base, surplus, err = t.admit(ctx, c, v)
	case Move:
		base, v, surplus, err = t.move(ctx, c, v)
	default:
		base, v, err = t.replace(ctx, c, v, c.base.Version)
	}
	if err == nil {
		err = t.endSurplus(ctx, base, surplus)
	}
	if err != nil {
		return err
	}
	t.settle(c, v, base)
	if c.action.Cookie {
		return t.readyID(c.identity, v.life, time.Now())
	}
	return nil
}

// maxDraws bounds the ids that are drawn for one session: a store that has the
// first already is not believed for ever.
const maxDraws = 3

// create stores a record under the id of c, or under another if that is taken.
func (t *Txn) create(ctx context.Context, c *change, v *version) (*Base, error) {
	if t.orphaned(c.id()) {
		c.identity = t.eng.newIdentity()
	}
	for draws := 1; ; draws++ {
		rec, base, err := t.eng.record(c.id(), v, time.Now())
		if err != nil {
			return base, err
		}
		base.Version, err = t.eng.Store.Create(ctx, c.id(), rec)
		switch {
		case err == nil:
			return base, nil
		case errors.Is(err, ErrExists) && draws < maxDraws:
			c.identity = t.eng.newIdentity()
			continue
		case !errors.Is(err, ErrExists):
			t.undo(ctx, c.id()) // it may have been stored all the same
		}
		return base, &StoreError{"create", c.id(), err}
	}
}

// undo deletes a record that must not stay, as far as the time allows. The commit
// deletes what a Save had no time for. What is left after all is of no use to
// anybody, since no cookie with its id was sent, and expires.
func (t *Txn) undo(ctx context.Context, id ID) {
	if t.eng.Store.Delete(ctx, id, 0) != nil {
		t.mu.Lock()
		r := t.rareLocked()
		r.orphans = append(r.orphans, id)
		t.mu.Unlock()
	}
}

// orphaned reports whether a record of an id is still to be deleted: a Delete of it
// may even be on its way.
func (t *Txn) orphaned(id ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rare != nil && slices.Contains(t.rare.orphans, id)
}

// An attempt is an Update of the Store whose answer was lost.
type attempt struct {
	sent []byte
	n    int32  // the number of the first op that is not in it
	mine []byte // this request's data in it
	base *Base
}

// replace updates the record, on the newest state if another request was faster.
func (t *Txn) replace(ctx context.Context, c *change, v *version, expected uint64) (*Base, *version, error) {
	id := c.base.ID
	tries := t.eng.Try(id)
	defer tries.End()
	for {
		rec, base, err := t.eng.record(id, v, time.Now())
		if err != nil {
			return base, v, err
		}
		rec.Version = expected
		base.Version, err = t.eng.Store.Update(ctx, id, rec)
		switch {
		case err == nil:
			tries.handOn(rec, base.Version)
			return base, v, nil
		case errors.Is(err, ErrNotFound):
			return base, v, t.vanished(c, err)
		case !errors.Is(err, ErrConflict):
			t.mu.Lock()
			r := t.rareLocked()
			r.attempts = append(r.attempts, attempt{sent: rec.Data, n: c.n, mine: c.mine, base: base})
			t.mu.Unlock()
			return base, v, &StoreError{"update", id, err}
		}
		if err := tries.again(ctx); err != nil {
			return base, v, &StoreError{"update", id, err}
		}
		if v, expected, err = t.rebase(ctx, c, &tries); err != nil {
			return base, v, err
		}
	}
}

// afterlife is how long a tombstone stands for an id that was replaced: longer
// than a response is on its way to a browser.
const afterlife = time.Minute

func tombstone(version uint64) Record {
	end := wire.EndOf(time.Now(), afterlife)
	return Record{Data: wire.NewTombstone(end), Version: version, Expires: time.Unix(end, 0)}
}

// move stores the session under its new id and replaces the old record, at the
// version that it knows, by a tombstone, so that of two requests that move it one
// succeeds and a logout is never outlived. There are never two records that stay.
func (t *Txn) move(ctx context.Context, c *change, v *version) (base *Base, _ *version, surplus [][]rival, err error) {
	old, expected := c.base.ID, c.base.Version
	tries := t.eng.Try(old)
	defer tries.End()
	base, surplus, err = t.admit(context.WithValue(ctx, movingKey{}, true), c, v)
	if err != nil {
		return base, v, nil, err
	}
	t.holdWatchers()
	moved, done := false, t.eng.Ending(old, Replaced)
	defer func() {
		if done(moved); !moved {
			t.follow()
		}
	}()
	var edits []edit
	owner := v.owner
	for {
		_, err := t.eng.Store.Update(ctx, old, tombstone(expected))
		switch {
		case err == nil:
			moved = true
			return base, v, surplus, nil
		case errors.Is(err, ErrNotFound):
			err = t.vanished(c, err)
		case !errors.Is(err, ErrConflict):
			err = &StoreError{"replace", old, err}
		default:
			if err = tries.again(ctx); err != nil {
				err = &StoreError{"replace", old, err}
			} else {
				mark := v.mark
				v, expected, err = t.rebase(ctx, c, &tries)
				if err == nil {
					v.mark = mark
				}
			}
			if err == nil {
				base, v, err = t.overwrite(ctx, c, v, base, &edits)
			}
			if err == nil && v.owner != owner && v.owner != "" && t.eng.MaxPerOwner > 0 {
				surplus, err = t.eng.surplus(ctx, v.owner, base, old)
				owner = v.owner
			}
			if err == nil {
				continue
			}
		}
		t.undo(ctx, c.id())
		return base, v, nil, err
	}
}

// movingKey marks the context of a Create whose record takes the place of
// another.
type movingKey struct{}

// IsMoving reports whether ctx is that of a Create whose record takes the place
// of another.
func IsMoving(ctx context.Context) bool { return ctx.Value(movingKey{}) != nil }
