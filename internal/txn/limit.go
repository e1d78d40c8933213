package txn

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/typedsessions/sessions/internal/wire"
)

// admit creates the record of a session, and counts the sessions of its owner if
// there is a limit. It returns the sessions that have to end for the new one, or
// ErrLimit if as many newer ones live.
func (t *Txn) admit(ctx context.Context, c *change, v *version) (*Base, []doomed, error) {
	limited := t.eng.MaxPerOwner > 0 && v.owner != ""
	if limited && c.base.kept() && v.owner == c.base.Owner {
		// Others, which count meanwhile, must not count both records.
		half := c.base.ID.half()
		v.mark = half[:]
	}
	base, err := t.create(ctx, c, v)
	if err != nil || !limited || c.base.kept() && !c.view.Anew && v.owner == c.base.Owner {
		return base, nil, err
	}
	surplus, err := t.eng.surplus(ctx, v.owner, base, c.base.ID)
	if err == nil {
		return base, surplus, nil
	}
	t.undo(ctx, base.ID)
	if errors.Is(err, ErrLimit) && c.view.Imported {
		return base, nil, t.discard(c, OverLimit, err)
	}
	return base, nil, err
}

// surplus returns the sessions of an owner that are beyond the limit. mine is one
// that was created just now, in place of the record with the id old.
func (e *Engine) surplus(ctx context.Context, owner string, mine *Base, old ID) ([]doomed, error) {
	type rival struct {
		doomed
		created int64
	}
	var rivals []rival
	var moving [][]byte // the first halves of ids that others are about to replace
	now := time.Now()
	for id, err := range e.Owned(ctx, owner) {
		if err != nil {
			return nil, fmt.Errorf("count the sessions of the owner: %w", err)
		}
		if id == old || id == mine.ID {
			continue
		}
		rec, err := e.Store.Newest(ctx, id)
		life := Life{Expires: wire.MaxTime}
		body, reason := e.gone(id, rec, err, now, &life)
		switch {
		case reason != NotNew || err == nil && rec.Owner != owner:
			continue
		case err != nil:
			return nil, &StoreError{"load", id, err}
		}
		rivals = append(rivals, rival{doomed{id, rec.Version, owner, OverLimit}, life.Created})
		if body == nil {
			continue
		}
		if b, err := wire.ReadBody(body); err == nil {
			if half := wire.Extension(b.Extensions, wire.ReplacesTag); half != nil {
				moving = append(moving, bytes.Clone(half))
			}
		}
	}
	rivals = slices.DeleteFunc(rivals, func(r rival) bool {
		return slices.ContainsFunc(moving, func(half []byte) bool { return bytes.Equal(half, r.id[:16]) })
	})
	rivals = append(rivals, rival{doomed{id: mine.ID}, mine.Created})
	slices.SortFunc(rivals, func(a, b rival) int { // the newest first
		return cmp.Or(cmp.Compare(b.created, a.created), bytes.Compare(b.id[:], a.id[:]))
	})
	var surplus []doomed
	for i := e.MaxPerOwner; i < len(rivals); i++ {
		if rivals[i].id == mine.ID {
			return nil, fmt.Errorf("%w: %d live, Config.MaxPerOwner admits %d", ErrLimit, i, e.MaxPerOwner)
		}
		surplus = append(surplus, rivals[i].doomed)
	}
	return surplus, nil
}

// endSurplus ends what a login has left beyond the limit. If that fails, the login
// does too: base is deleted.
func (t *Txn) endSurplus(ctx context.Context, base *Base, surplus []doomed) error {
	for _, d := range surplus {
		if err := t.finish(ctx, d); err != nil {
			t.undo(ctx, base.ID)
			return err
		}
	}
	return nil
}
