package sessions

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/typedsessions/sessions/internal/txn"
)

// Info is a stored session, as [Manager.Sessions] lists it.
type Info[T any] struct {
	// ID is the public id, that of Session.ID.
	ID   string
	Data T
	// CreatedAt is when the session began or its id was last regenerated.
	CreatedAt time.Time
	// LastUsedAt is when the session was last used, to a tenth of
	// Config.IdleTimeout. Without an IdleTimeout, and in its last stretch before
	// ExpiresAt, uses that changed nothing leave no trace.
	LastUsedAt time.Time
	// ExpiresAt is the absolute end; with an IdleTimeout it may end earlier.
	ExpiresAt time.Time
}

// Sessions yields the live sessions of an owner, in no particular order. A
// session that cannot be read, because a newer program stored it or because its
// data no longer fits T, is yielded as an error together with an Info that has
// its ID only, and the iteration goes on, so that it can be revoked; an error of
// the Store comes with a zero Info and ends the iteration.
//
// Without a Store that is an OwnerStore the error is errors.ErrUnsupported.
func (m *Manager[T]) Sessions(ctx context.Context, owner string) iter.Seq2[Info[T], error] {
	return func(yield func(Info[T], error) bool) {
		m.core.list(ctx, owner, func(l listed, err error) bool {
			info := Info[T]{ID: l.id, CreatedAt: l.created, LastUsedAt: l.used, ExpiresAt: l.expires}
			if data, ok := l.data.(*T); ok {
				info.Data = *data
			}
			return yield(info, err)
		})
	}
}

// A listed session is an Info but for its type.
type listed struct {
	id                     string
	data                   any // a *T, nil if it cannot be read
	created, used, expires time.Time
}

func (m *core) list(ctx context.Context, owner string, yield func(listed, error) bool) {
	if err := m.needsOwners("Sessions", owner); err != nil {
		yield(listed{}, err)
		return
	}
	for id, err := range m.owners.Owned(ctx, owner) {
		if err != nil {
			yield(listed{}, fmt.Errorf("sessions: list sessions: %w", err))
			return
		}
		rec, err := m.engine.Store.Load(ctx, txn.ID(id))
		if errors.Is(err, ErrNotFound) || err == nil && rec.Owner != owner {
			continue // the index may lag
		}
		if err != nil {
			yield(listed{}, fmt.Errorf("sessions: %w", &txn.StoreError{Op: "load", ID: txn.ID(id), Err: err}))
			return
		}
		l := listed{id: id.String()}
		now, data := time.Now(), m.engine.Codec.New()
		base, reason, err := m.engine.Read(txn.ID(id), rec, data, now)
		switch reason {
		case txn.NotNew:
			// A seal holds the data, not Record.Owner: who writes the store could
			// have one user's session listed for another.
			whose, failed := m.engine.OwnerOf(data)
			if failed != nil {
				err = fmt.Errorf("sessions: session %v: %w", id, failed)
				break
			}
			if m.engine.Owner != nil && whose != owner {
				continue
			}
			l.data = data
			l.created, l.used, l.expires = time.Unix(base.Created, 0), m.lastUse(base, now), time.Unix(base.Expires, 0)
		case txn.Expired:
			continue
		default:
			err = fmt.Errorf("sessions: session %v cannot be read (%v): %w", id, reason, err)
		}
		if !yield(l, err) {
			return
		}
	}
}

// lastUse returns the time of the last write, or of the last Touch if that is
// later. A time after now is no Touch: a record from before an IdleTimeout was set
// has its absolute end there.
func (m *core) lastUse(base *txn.Base, now time.Time) time.Time {
	used := time.Unix(base.Used, 0)
	if m.engine.Idle > 0 {
		if touched := time.UnixMilli(base.Ends).Add(-m.engine.Idle); touched.After(used) && !touched.After(now) {
			return touched
		}
	}
	return used
}

// Edit changes the stored session with the public id, for instance when an
// administrator takes a role away. The next request of the session has the
// change; requests under way merge theirs with it. f runs again if the session
// was changed meanwhile. Edit counts as a use.
//
// Edit returns ErrNotFound if there is no such session, ErrInvalid or
// ErrTooLarge if the result cannot be stored, an error if its data cannot be
// read, and errors.ErrUnsupported without a Store. It takes 5 seconds at most.
func (m *Manager[T]) Edit(ctx context.Context, id string, f func(*T)) error {
	return m.core.edit(ctx, id, func(data any) { f(data.(*T)) })
}

func (m *core) edit(ctx context.Context, id string, f func(any)) error {
	if err := m.needsStore("Edit"); err != nil {
		return err
	}
	at, err := parseID(id)
	if err != nil {
		return err
	}
	ctx, cancel := m.engine.Limit(ctx)
	defer cancel()
	if err := m.engine.Edit(ctx, txn.ID(at), f); err != nil {
		return fmt.Errorf("sessions: edit session %v: %w", at, err)
	}
	return nil
}

// Revoke ends the stored session with the public id. Its next request begins
// a new session, and requests under way store nothing any more. An absent session
// is no error. A malformed id is an error. Without a Store the error is
// errors.ErrUnsupported, since a cookie cannot be recalled.
func (m *Manager[T]) Revoke(ctx context.Context, id string) error { return m.core.revoke(ctx, id) }

func (m *core) revoke(ctx context.Context, id string) error {
	if err := m.needsStore("Revoke"); err != nil {
		return err
	}
	at, err := parseID(id)
	if err != nil {
		return err
	}
	ctx, cancel := m.engine.Limit(ctx)
	defer cancel()
	if err := m.engine.Store.Delete(ctx, txn.ID(at), 0); err != nil {
		return fmt.Errorf("sessions: %w", &txn.StoreError{Op: "revoke", ID: txn.ID(at), Err: err})
	}
	return nil
}

// RevokeOwner ends all sessions of an owner except those whose public ids are in
// except, and returns how many it ended. It is for a change of password, or "sign
// out everywhere else". It lists and deletes until it finds none, so that sessions
// that sign in meanwhile end too. If an id in except is malformed, nothing is
// ended. Without a Store that is an OwnerStore the error is
// errors.ErrUnsupported.
func (m *Manager[T]) RevokeOwner(ctx context.Context, owner string, except ...string) (int, error) {
	return m.core.revokeOwner(ctx, owner, except)
}

func (m *core) revokeOwner(ctx context.Context, owner string, except []string) (int, error) {
	if err := m.needsOwners("RevokeOwner", owner); err != nil {
		return 0, err
	}
	spared := make([]ID, len(except))
	for i, id := range except {
		var err error
		if spared[i], err = parseID(id); err != nil {
			return 0, err
		}
	}
	if x, ok := ctx.Value(m.key).(*exchange); ok {
		spared = append(spared, x.sparedWith(spared)...)
	}
	revoked := 0
	gone := make(map[ID]bool)
	for try := 0; ; try++ {
		n, again, err := m.revokePass(ctx, owner, spared, gone)
		revoked += n
		if err != nil {
			return revoked, fmt.Errorf("sessions: revoke sessions: %w", err)
		}
		if n == 0 && !again {
			return revoked, nil
		}
		if n == 0 {
			if err := txn.BackOff(ctx, try, time.Now()); err != nil {
				return revoked, fmt.Errorf("sessions: revoke sessions: %w", err)
			}
		}
	}
}

// sparedWith returns the id that the request's session is still stored under, if
// the id that RegenerateID gave it is among spared.
func (x *exchange) sparedWith(spared []ID) (old []ID) {
	t := x.txn.Load()
	if t == nil {
		return nil
	}
	for _, id := range spared {
		if at, ok := t.StoredAs(txn.ID(id)); ok {
			old = append(old, ID(at))
		}
	}
	return old
}

// revokePass deletes what the index lists, each record at the version whose
// owner it has seen. again says that some changed at that moment, or were gone,
// maybe to another id that the index had not when it was read; gone has those
// that were gone in an earlier pass, as an index may list them for ever.
func (m *core) revokePass(ctx context.Context, owner string, spared []ID, gone map[ID]bool) (revoked int, again bool, err error) {
	for id, err := range m.owners.Owned(ctx, owner) {
		if err != nil {
			return revoked, again, err
		}
		if slices.Contains(spared, id) {
			continue
		}
		rec, err := m.engine.Store.Load(ctx, txn.ID(id))
		if err == nil && rec.Owner != owner {
			continue
		}
		if err == nil {
			err = m.engine.Store.Delete(ctx, txn.ID(id), rec.Version)
		}
		switch {
		case err == nil:
			revoked++
		case errors.Is(err, ErrConflict):
			again = true
		case errors.Is(err, ErrNotFound):
			again = again || !gone[id]
			gone[id] = true
		default:
			return revoked, again, &txn.StoreError{Op: "revoke", ID: txn.ID(id), Err: err}
		}
	}
	return revoked, again, nil
}

func (m *core) needsStore(what string) error {
	if m.engine.Store == nil {
		return fmt.Errorf("sessions: %s needs a Config.Store, a cookie cannot be reached from here: %w", what, errors.ErrUnsupported)
	}
	return nil
}

func (m *core) needsOwners(what, owner string) error {
	if err := m.needsStore(what); err != nil {
		return err
	}
	if m.owners == nil {
		return fmt.Errorf("sessions: %s needs a Config.Store that is an OwnerStore: %w", what, errors.ErrUnsupported)
	}
	if m.engine.Owner == nil {
		return fmt.Errorf("sessions: %s needs Config.Owner, without which no session of this Manager has an owner: %w", what, errors.ErrUnsupported)
	}
	if owner == "" {
		return fmt.Errorf("sessions: %s of the owner \"\": sessions without an owner are not indexed", what)
	}
	return nil
}
