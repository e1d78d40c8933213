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
func (t *Txn) admit(ctx context.Context, c *change, v *version) (*Base, [][]rival, error) {
	limited := t.eng.MaxPerOwner > 0 && v.owner != ""
	stays := c.base.kept() && v.owner == c.base.Owner // with its owner
	if limited && stays {
		// Others, which count meanwhile, must not count both records.
		half := c.base.ID.half()
		v.mark = half[:]
	}
	for try := 0; ; try++ {
		base, err := t.create(ctx, c, v)
		if err != nil || !limited || stays && !c.view.Anew {
			return base, nil, err
		}
		surplus, err := t.eng.surplus(ctx, v.owner, base, c.base.ID)
		if err == nil {
			return base, surplus, nil
		}
		t.undo(ctx, base.ID)
		var lost *limitError
		if try == 0 && errors.As(err, &lost) && lost.tied && v.nextSecond(ctx) {
			c.identity = t.eng.newIdentity()
			continue
		}
		if lost != nil && c.view.Imported {
			return base, nil, t.discard(c, OverLimit, err)
		}
		return base, nil, err
	}
}

// nextSecond lets a session that is not stored begin in the next second, and waits
// for that. It reports false if there is no time.
func (v *version) nextSecond(ctx context.Context) bool {
	select {
	case <-time.After(min(time.Until(time.Unix(v.life.Created+1, 0)), time.Second)):
	case <-ctx.Done():
		return false
	}
	later := max(time.Now().Unix(), v.life.Created+1) - v.life.Created
	v.life.Created += later
	v.life.Expires += later
	return true
}

// A limitError is ErrLimit for a login. tied: it has lost by its id alone to one that
// began in the same second, as when a form is sent twice.
type limitError struct {
	live, admitted int
	tied           bool
}

func (e *limitError) Error() string {
	return fmt.Sprintf("%v: %d live, Config.MaxPerOwner admits %d", ErrLimit, e.live, e.admitted)
}

func (e *limitError) Unwrap() error { return ErrLimit }

// A rival is a record of an owner who has a limit.
type rival struct {
	doomed
	created  int64
	replaces []byte // the first half of the id whose place it takes, if any
	moves    int    // since the first id that is known of the session
}

// surplus returns the records of an owner's sessions that are beyond the limit,
// session by session. mine is one that was created just now, in place of the record
// with the id old.
func (e *Engine) surplus(ctx context.Context, owner string, mine *Base, old ID) ([][]rival, error) {
	rivals, err := e.rivals(ctx, owner, mine, old)
	if err != nil {
		return nil, err
	}
	sessions := append(sessionsOf(rivals, old), []rival{{doomed: doomed{id: mine.ID}, created: mine.Created}})
	slices.SortFunc(sessions, func(a, b []rival) int { // the newest first
		return cmp.Or(cmp.Compare(b[0].created, a[0].created), bytes.Compare(b[0].id[:], a[0].id[:]))
	})
	surplus := sessions[min(e.MaxPerOwner, len(sessions)):]
	for i, records := range surplus {
		if records[0].id == mine.ID {
			last := sessions[e.MaxPerOwner-1] // of those that stay
			return nil, &limitError{e.MaxPerOwner + i, e.MaxPerOwner, last[0].created == mine.Created}
		}
	}
	return surplus, nil
}

// rivals returns the records of an owner that live, but for mine and old. A session
// that gets a new id between the list and its Load may be in neither, so the list is
// read again, once for each such id.
func (e *Engine) rivals(ctx context.Context, owner string, mine *Base, old ID) (rivals []rival, err error) {
	moved := map[ID]bool{}
	for again := true; again; {
		rivals, again = nil, false
		now := time.Now()
		for id, err := range e.Owned(ctx, owner) {
			if err != nil {
				return nil, &StoreError{"count the other sessions of the owner of", mine.ID, err}
			}
			if id == old || id == mine.ID || moved[id] {
				continue
			}
			rec, err := e.Store.Newest(ctx, id)
			life := Life{Expires: wire.MaxTime}
			body, reason := e.gone(id, rec, err, now, &life)
			switch {
			case reason == Replaced:
				moved[id], again = true, true
				continue
			case reason != NotNew || err == nil && rec.Owner != owner:
				continue
			case err != nil:
				return nil, &StoreError{"load", id, err}
			}
			r := rival{doomed: doomed{id, rec.Version, owner, OverLimit}, created: life.Created}
			r.replaces = replacedBy(body)
			rivals = append(rivals, r)
		}
	}
	return rivals, nil
}

// replacedBy returns the first half of the id whose place a session takes, nil if it
// takes none. body may be nil.
func replacedBy(body []byte) []byte {
	if body == nil {
		return nil
	}
	b, err := wire.ReadBody(body)
	if err != nil {
		return nil
	}
	return bytes.Clone(wire.Extension(b.Extensions, wire.ReplacesTag))
}

// sessionsOf groups records by session, but for that of the id old. A session has
// several while it moves to a new id, and also after a move that failed, if nothing
// could delete the new record. Of each session the last id comes first.
func sessionsOf(rivals []rival, old ID) (sessions [][]rival) {
	// trace finds the half of the first id that is known of the session.
	trace := func(r rival) (origin []byte, moves int) {
		for moves < len(rivals) && r.replaces != nil { // ends also if records that nobody signs name each other
			i := slices.IndexFunc(rivals, func(x rival) bool { return bytes.Equal(x.id[:16], r.replaces) })
			if i < 0 {
				break
			}
			r, moves = rivals[i], moves+1
		}
		if r.replaces != nil {
			return r.replaces, moves
		}
		return r.id[:16], moves
	}
	at := map[string]int{}
	for _, r := range rivals {
		var origin []byte
		origin, r.moves = trace(r)
		if bytes.Equal(origin, old[:16]) {
			continue
		}
		i, ok := at[string(origin)]
		if !ok {
			i = len(sessions)
			at[string(origin)] = i
			sessions = append(sessions, nil)
		}
		sessions[i] = append(sessions[i], r)
	}
	for _, records := range sessions {
		slices.SortFunc(records, func(a, b rival) int {
			return cmp.Or(cmp.Compare(b.moves, a.moves), cmp.Compare(b.created, a.created), bytes.Compare(b.id[:], a.id[:]))
		})
	}
	return sessions
}

// endSurplus ends what a login has left beyond the limit, and tells each session
// once. If that fails, the login does too: base is deleted.
func (t *Txn) endSurplus(ctx context.Context, base *Base, surplus [][]rival) error {
	for began, try := time.Now(), 0; ; try++ {
		moved, err := t.endAll(ctx, surplus)
		if err == nil && moved {
			// What had moved to a new id lives on under it.
			if err = BackOff(ctx, try, began); err != nil {
				err = &StoreError{"count the other sessions of the owner of", base.ID, err}
			} else {
				surplus, err = t.eng.surplus(ctx, base.Owner, base, base.ID)
			}
			if errors.Is(err, ErrLimit) {
				return nil // newer ones have counted this one, and end it
			}
		}
		if err != nil {
			t.undo(ctx, base.ID)
		}
		if err != nil || !moved {
			return err
		}
	}
}

// endAll ends sessions, and reports whether one was at another id by then.
func (t *Txn) endAll(ctx context.Context, sessions [][]rival) (moved bool, err error) {
	for _, records := range sessions {
		told := false
		for _, r := range slices.Backward(records) {
			gone, err := t.eng.finish(ctx, r.doomed)
			switch {
			case err != nil:
				return false, err
			case gone == NotNew && !told:
				told = true
				t.tellEnd(r.doomed)
			}
			moved = moved || gone == Replaced
		}
	}
	return moved, nil
}
