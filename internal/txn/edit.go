package txn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/wire"
)

// Edit changes the record of an id by a function. It runs f again if somebody
// else was faster.
func (e *Engine) Edit(ctx context.Context, id ID, f func(data any)) error {
	tries := e.Try(id)
	defer tries.End()
	for {
		rec, err := e.Store.Newest(ctx, id)
		if err != nil {
			return err
		}
		now := time.Now()
		data := e.Codec.New()
		base, reason, err := e.Read(id, rec, data, now)
		switch {
		case reason == NotNew:
		case reason.Gone():
			return ErrNotFound
		default:
			return fmt.Errorf("it cannot be read (%v): %w", reason, err)
		}
		was, err := e.Codec.With(e.Codec.New(), base.Kept)
		if err != nil {
			return err
		}
		f(data)
		v := &version{data: data, flashes: base.Flashes, life: lifeOf(&base.Header), entries: base.Extensions, foreign: base.foreign()}
		if v.owner, err = e.OwnerOf(data, base.Owner); err != nil {
			return err
		}
		if v.owner != base.Owner {
			return fmt.Errorf("%w: the result belongs to another owner; a session passes to another owner by a request that signs in, which gets a new id", codec.ErrInvalid)
		}
		if body, err := wire.OpenRecord(e.sealer(), id[:], rec.Data); err == nil {
			v.mark = replacedBy(body) // it may be on its way to this id
		}
		if v.foreign.Labels, err = e.labels(v.foreign.Labels, was, data); err != nil {
			return err
		}
		if e.Codec.Hash(data) != base.Hash {
			v.foreign.Data = nil
		}
		if v.encoded, err = e.Codec.Encode(nil, data); err != nil {
			return err
		}
		rec, _, err = e.record(id, v, now)
		if err != nil {
			return err
		}
		rec.Version = base.Version
		if _, err = e.Store.Update(ctx, id, rec); !errors.Is(err, ErrConflict) {
			return err
		}
		if err := tries.again(ctx); err != nil {
			return err
		}
	}
}

// An edit is what Manager.Edit made of the new record of a move.
type edit struct{ before, after []byte }

// overwrite brings a merged version to the new record, which is now as base says.
// Nobody else has a cookie for it, but an Edit may find it: the edit stays. If
// somebody has revoked it, the session is lost.
func (t *Txn) overwrite(ctx context.Context, c *change, merged *version, base *Base, edits *[]edit) (*Base, *version, error) {
	id := c.id()
	tries := t.eng.Try(id)
	defer tries.End()
	for {
		v, err := t.edited(merged, *edits)
		if err != nil {
			return base, v, err
		}
		rec, next, err := t.eng.record(id, v, time.Now())
		if err != nil {
			return base, v, err
		}
		rec.Version = base.Version
		next.Version, err = t.eng.Store.Update(ctx, id, rec)
		switch {
		case err == nil:
			return next, v, nil
		case errors.Is(err, ErrNotFound):
			t.undo(ctx, c.base.ID) // it was revoked, by the only id that the session shows
			return base, v, t.discard(c, Unknown, err)
		case !errors.Is(err, ErrConflict):
			return base, v, &StoreError{"update", id, err}
		}
		if err := tries.again(ctx); err != nil {
			return base, v, &StoreError{"update", id, err}
		}
		_, theirs, err := t.newest(ctx, c, &tries)
		if err != nil {
			return base, v, err
		}
		*edits = append(*edits, edit{base.Kept, theirs.Kept})
		base = theirs
	}
}

// edited returns v with the edits.
func (t *Txn) edited(v *version, edits []edit) (*version, error) {
	if len(edits) == 0 {
		return v, nil
	}
	with := *v
	var err error
	if with.data, err = t.eng.Codec.With(v.data, v.encoded); err != nil {
		return v, err
	}
	for _, e := range edits {
		if err := t.eng.Codec.MergeInto(with.data, e.before, e.after); err != nil {
			return v, err
		}
	}
	with.encoded, err = t.eng.Codec.Encode(nil, with.data)
	return &with, err
}
