package sessions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/keys"
	"github.com/typedsessions/sessions/internal/wire"
)

// storeRecord stores a version in the Store: by Create for a new session, by
// Update for one that has a record, and by both for one whose id is new.
func (s *state) storeRecord(ctx context.Context, c *change, v *version) error {
	var snap *snapshot
	var err error
	needsCookie := !c.stored || c.moved || c.prolonged || s.oldKey
	switch {
	case !c.stored:
		snap, err = s.create(ctx, c, v)
	case c.moved:
		snap, v, err = s.move(ctx, c, v)
	default:
		snap, v, err = s.replace(ctx, c, v)
	}
	if err != nil {
		return err
	}
	s.settle(c, v, snap)
	if needsCookie {
		return s.readyID(c.identity, v.life, time.Now())
	}
	return nil
}

// recordOf makes what the Store keeps of a version.
func (m *core) recordOf(id ID, v *version, now time.Time) (rec Record, snap *snapshot, err error) {
	rec.Expires = m.recordEnd(v.life.expires, now)
	if rec.Owner, err = m.ownerOf(v.data); err != nil {
		return rec, snap, err
	}
	snap = &snapshot{Header: m.headerOf(id, v.life, now), ID: id, ends: rec.Expires, kept: v.encoded, flashes: v.flashes}
	rec.Data = wire.NewRecord(m.sealing(), id[:], &snap.Header, v.flashes, v.encoded)
	return rec, snap, nil
}

// sealing returns the signer that seals records, nil if they are not sealed.
func (m *core) sealing() *keys.Signer {
	if !m.encrypt {
		return nil
	}
	return m.signing()
}

func (m *core) ownerOf(data any) (owner string, err error) {
	if m.owner == nil {
		return "", nil
	}
	defer codec.Caught(&err, "Config.Owner")
	return m.owner(data), nil
}

// maxDraws bounds the ids that are drawn for one session: a store that has the
// first already is not believed for ever.
const maxDraws = 3

// create stores a record under the id of c, and under another if that is taken.
func (s *state) create(ctx context.Context, c *change, v *version) (*snapshot, error) {
	for draws := 1; ; draws++ {
		rec, snap, err := s.m.recordOf(c.id(), v, time.Now())
		if err != nil {
			return snap, err
		}
		snap.version, err = s.m.store.Create(ctx, c.id(), rec)
		switch {
		case err == nil:
			return snap, nil
		case errors.Is(err, ErrExists) && draws < maxDraws:
			c.identity = s.m.newIdentity()
			continue
		case !errors.Is(err, ErrExists):
			s.undo(ctx, c.id()) // it may have been stored all the same
		}
		return snap, &storeError{"create", c.id(), err}
	}
}

// undo deletes a record that must not stay, as far as the time allows; one that
// a Save had no time for, the commit deletes. What is left after all is of no
// use to anybody, since no cookie with its id was sent, and expires.
func (s *state) undo(ctx context.Context, id ID) {
	if s.m.store.Delete(ctx, id, 0) != nil {
		s.mu.Lock()
		d := s.do()
		d.orphans = append(d.orphans, id)
		s.mu.Unlock()
	}
}

// replace updates the record, on the newest state if another request was faster.
func (s *state) replace(ctx context.Context, c *change, v *version) (*snapshot, *version, error) {
	id, expected, began := c.base.ID, c.base.version, time.Now()
	for try := 0; ; try++ {
		rec, snap, err := s.m.recordOf(c.id(), v, time.Now())
		if err != nil {
			return snap, v, err
		}
		rec.Version = expected
		snap.version, err = s.m.store.Update(ctx, id, rec)
		switch {
		case err == nil:
			return snap, v, nil
		case errors.Is(err, ErrNotFound):
			return snap, v, s.discard(c, ReasonUnknown, err)
		case !errors.Is(err, ErrConflict):
			s.mu.Lock()
			d := s.do()
			d.tried = append(d.tried, &attempt{sent: rec.Data, c: *c, snap: snap})
			s.mu.Unlock()
			return snap, v, &storeError{"update", id, err}
		}
		if err := backOff(ctx, try, began); err != nil {
			return snap, v, &storeError{"update", id, fmt.Errorf("%w: %w", ErrConflict, err)}
		}
		if v, expected, err = s.rebase(ctx, c, id); err != nil {
			return snap, v, err
		}
	}
}

// move stores the session under its new id and deletes the old record at the
// version that it knows, so that of two requests that move it one succeeds and
// a logout is never outlived. There are never two records that stay.
func (s *state) move(ctx context.Context, c *change, v *version) (*snapshot, *version, error) {
	old, expected, began := c.base.ID, c.base.version, time.Now()
	snap, err := s.create(context.WithValue(ctx, movingKey{}, true), c, v)
	if err != nil {
		return snap, v, err
	}
	var edits []edit
	for try := 0; ; try++ {
		err := s.m.store.Delete(ctx, old, expected)
		if err == nil {
			return snap, v, nil
		}
		if errors.Is(err, ErrConflict) {
			if err = backOff(ctx, try, began); err == nil {
				v, expected, err = s.rebase(ctx, c, old)
			} else {
				err = &storeError{"delete", old, fmt.Errorf("%w: %w", ErrConflict, err)}
			}
			if err == nil {
				snap, v, err = s.overwrite(ctx, c, v, snap, &edits)
			}
			if err == nil {
				continue
			}
		} else if errors.Is(err, ErrNotFound) {
			err = s.discard(c, ReasonUnknown, err)
		} else {
			err = &storeError{"delete", old, err}
		}
		s.undo(ctx, c.id())
		return snap, v, err
	}
}

// movingKey tells [MemoryStore.Create] that a new record takes the place of another.
type movingKey struct{}

// An edit is what [Manager.Edit] made of the new record of a move.
type edit struct{ before, after []byte }

// overwrite brings a merged version to the new record, which is now as in snap.
// Nobody else has a cookie for it, but an Edit may find it: that stays. If it was
// revoked already, the session is gone.
func (s *state) overwrite(ctx context.Context, c *change, merged *version, snap *snapshot, edits *[]edit) (*snapshot, *version, error) {
	id, began := c.id(), time.Now()
	for try := 0; ; try++ {
		v, err := s.edited(merged, *edits)
		if err != nil {
			return snap, v, err
		}
		rec, next, err := s.m.recordOf(id, v, time.Now())
		if err != nil {
			return snap, v, err
		}
		rec.Version = snap.version
		next.version, err = s.m.store.Update(ctx, id, rec)
		switch {
		case err == nil:
			return next, v, nil
		case errors.Is(err, ErrNotFound):
			s.undo(ctx, c.base.ID) // it was revoked, by the only id that s shows
			return snap, v, s.discard(c, ReasonUnknown, err)
		case !errors.Is(err, ErrConflict):
			return snap, v, &storeError{"update", id, err}
		}
		if err := backOff(ctx, try, began); err != nil {
			return snap, v, &storeError{"update", id, fmt.Errorf("%w: %w", ErrConflict, err)}
		}
		_, theirs, err := s.newest(ctx, c, id)
		if err != nil {
			return snap, v, err
		}
		*edits = append(*edits, edit{snap.kept, theirs.kept})
		snap = theirs
	}
}

// edited returns v with the edits.
func (s *state) edited(v *version, edits []edit) (*version, error) {
	if len(edits) == 0 {
		return v, nil
	}
	with := *v
	var err error
	if with.data, err = s.m.codec.With(v.data, v.encoded); err != nil {
		return v, err
	}
	for _, e := range edits {
		if err := s.m.codec.MergeInto(with.data, e.before, e.after); err != nil {
			return v, err
		}
	}
	with.encoded, err = s.m.codec.Encode(nil, with.data)
	return &with, err
}

// rebase loads what another request stored and replays this one's changes on
// it, always from this one's own beginning.
func (s *state) rebase(ctx context.Context, c *change, id ID) (*version, uint64, error) {
	rec, theirs, err := s.newest(ctx, c, id)
	if err != nil {
		return nil, 0, err
	}
	s.mu.Lock()
	tried := s.done().tried
	s.mu.Unlock()
	for _, t := range tried {
		if bytes.Equal(rec.Data, t.sent) {
			v, err := s.landed(c, t)
			return v, rec.Version, err
		}
	}
	v, err := s.replay(c, theirs)
	if err != nil {
		return nil, 0, err
	}
	s.queue(Event{Kind: EventMerged})
	return v, rec.Version, nil
}

// newest loads what another request or an Edit stored.
func (s *state) newest(ctx context.Context, c *change, id ID) (Record, *snapshot, error) {
	rec, err := s.m.store.Load(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return rec, nil, s.discard(c, ReasonUnknown, err)
	}
	if err != nil {
		return rec, nil, &storeError{"load", id, err}
	}
	theirs, reason, err := s.m.read(id, rec, s.m.codec.New(), time.Now())
	if reason != ReasonNone {
		return rec, nil, s.discard(c, reason, fmt.Errorf("%w: the newest state cannot be read (%s): %v", ErrConflict, reason, err))
	}
	return rec, theirs, nil
}

// An attempt is an Update of the store whose answer was lost.
type attempt struct {
	sent []byte
	c    change
	snap *snapshot
}

// landed goes on from an attempt that turns out to have been carried out: what
// it stored must not be replayed on itself, only what came after it.
func (s *state) landed(c *change, t *attempt) (*version, error) {
	stored := t.c.done()
	c.added, c.consumed, c.steps = c.added[stored.added-c.skip.added:], c.consumed[stored.consumed-c.skip.consumed:], c.steps[stored.steps-c.skip.steps:]
	c.skip = stored
	mine := *c.base
	mine.kept = t.c.mine // this request's side of what was stored
	c.base = &mine
	return s.replay(c, t.snap)
}

func (s *state) replay(c *change, theirs *snapshot) (*version, error) {
	cur, err := s.m.codec.With(s.data(), theirs.kept)
	if err != nil {
		return nil, err
	}
	from := c.base.kept
	for _, step := range c.steps {
		if err := s.m.codec.MergeInto(cur, from, step.before); err != nil {
			return nil, err
		}
		if err := s.repeat(step.f, cur); err != nil {
			return nil, err
		}
		from = step.after
	}
	if s.movesSince(c) {
		// Rights that belong to a new id must not come to the old one.
		return nil, fmt.Errorf("%w: a function of Update called RegenerateID only when it was repeated; nothing is stored", ErrConflict)
	}
	if err := s.m.codec.MergeInto(cur, from, c.mine); err != nil {
		return nil, err
	}
	v := &version{data: cur, life: s.lifeAfter(c, theirs)}
	if v.encoded, err = s.m.codec.Encode(nil, cur); err != nil {
		return nil, fmt.Errorf("merged with a parallel change: %w", err)
	}
	v.flashes, v.dropped = mergeFlashes(theirs.flashes, c.consumed, c.added)
	return v, nil
}

// movesSince says whether RegenerateID was called after c was taken down.
func (s *state) movesSince(c *change) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moved && !c.moved || s.lateMove && !c.lateMove
}

func (s *state) repeat(f func(any), data any) (err error) {
	s.mu.Lock()
	s.beginUpdate(repeating)
	s.mu.Unlock()
	defer s.endUpdate()
	defer codec.Caught(&err, "the function of an Update, repeated after a conflict,")
	f(data)
	return nil
}

// lifeAfter is the newest record's, but for what this request asked for.
func (s *state) lifeAfter(c *change, theirs *snapshot) life {
	l := lifeOf(&theirs.Header)
	if c.moved {
		l.created = c.life.created
		l.expires = wire.EndOf(time.Unix(c.life.created, 0), s.m.lengthOf(theirs.Lifetime))
	}
	if c.prolonged {
		l.expires, l.lifetime = c.life.expires, c.life.lifetime
	}
	return l
}

// backOff waits a little before the next try, so that requests that conflict
// find a gap: up to 1 ms at first, up to 32 ms later, and no more once the time
// since it began is over.
func backOff(ctx context.Context, try int, began time.Time) error {
	if time.Since(began) > storeTimeout {
		return context.DeadlineExceeded
	}
	t := time.NewTimer(rand.N(time.Millisecond << min(try, 5)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
