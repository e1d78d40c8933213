package sessions

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/typedsessions/sessions/internal/txn"
	"github.com/typedsessions/sessions/internal/wire"
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
	return infos[T](func(yield func(listed, error) bool) {
		if err := m.core.needsOwners("Sessions", owner); err != nil {
			yield(listed{}, err)
			return
		}
		m.core.list(ctx, m.core.owners.Owned(ctx, owner), index{owner: owner}, yield)
	})
}

// Labelled is Sessions for the sessions that have a label by Config.Labels, of
// this program or another one with the same Store. Without a Store that is
// a LabelStore the error is errors.ErrUnsupported.
func (m *Manager[T]) Labelled(ctx context.Context, label string) iter.Seq2[Info[T], error] {
	return infos[T](func(yield func(listed, error) bool) {
		if err := m.core.needsLabels("Labelled", label); err != nil {
			yield(listed{}, err)
			return
		}
		m.core.list(ctx, m.core.labels.Labelled(ctx, label), index{label: label}, yield)
	})
}

// Find returns the session with the public id. It is no use of the session, and
// sees past a cache of the Store. It returns ErrNotFound if there is no such
// session, an error together with an Info that has its ID only if the session
// cannot be read, and errors.ErrUnsupported without a Store. It takes 5 seconds at
// most.
func (m *Manager[T]) Find(ctx context.Context, id string) (Info[T], error) {
	l, err := m.core.find(ctx, id)
	return infoOf[T](l), err
}

func infos[T any](seq iter.Seq2[listed, error]) iter.Seq2[Info[T], error] {
	return func(yield func(Info[T], error) bool) {
		seq(func(l listed, err error) bool { return yield(infoOf[T](l), err) })
	}
}

func infoOf[T any](l listed) Info[T] {
	info := Info[T]{ID: l.id, CreatedAt: l.created, LastUsedAt: l.used, ExpiresAt: l.expires}
	if data, ok := l.data.(*T); ok {
		info.Data = *data
	}
	return info
}

// A listed session is an Info but for its type.
type listed struct {
	id                     string
	data                   any // a *T, nil if it cannot be read
	created, used, expires time.Time
}

// An index is what a record must have to be listed: an index of the Store may lag.
type index struct{ owner, label string }

func (x index) has(rec txn.Record) bool {
	if x.label != "" {
		return slices.Contains(rec.Labels, x.label)
	}
	return rec.Owner == x.owner
}

func (m *core) list(ctx context.Context, ids iter.Seq2[ID, error], x index, yield func(listed, error) bool) {
	for id, err := range ids {
		if err != nil {
			yield(listed{}, fmt.Errorf("sessions: list sessions: %w", err))
			return
		}
		rec, err := m.engine.Store.Load(ctx, txn.ID(id))
		if errors.Is(err, ErrNotFound) || err == nil && !x.has(rec) {
			continue
		}
		if err != nil {
			yield(listed{}, fmt.Errorf("sessions: %w", &txn.StoreError{Op: "load", ID: txn.ID(id), Err: err}))
			return
		}
		l, owner, err := m.read(id, rec)
		// A seal holds the data, not Record.Owner: who writes the store could
		// have one user's session listed for another.
		if errors.Is(err, ErrNotFound) || err == nil && x.owner != "" && owner != x.owner {
			continue
		}
		if !yield(l, err) {
			return
		}
	}
}

// read reads a record. It returns ErrNotFound for one that is over.
func (m *core) read(id ID, rec txn.Record) (l listed, owner string, err error) {
	l.id = id.String()
	now, data := time.Now(), m.engine.Codec.New()
	base, reason, err := m.engine.Read(txn.ID(id), rec, data, now)
	switch {
	case reason == txn.NotNew:
		l.data = data
		l.created, l.used, l.expires = time.Unix(base.Created, 0), m.lastUse(base, now), time.Unix(base.Expires, 0)
		return l, base.Owner, nil
	case reason.Gone():
		return listed{}, "", ErrNotFound
	}
	return l, "", fmt.Errorf("sessions: session %v cannot be read (%v): %w", id, reason, err)
}

func (m *core) find(ctx context.Context, id string) (listed, error) {
	if err := m.needsStore("Find"); err != nil {
		return listed{}, err
	}
	at, err := parseID(id)
	if err != nil {
		return listed{}, err
	}
	ctx, cancel := m.engine.Limit(ctx)
	defer cancel()
	rec, err := m.engine.Store.Newest(ctx, txn.ID(at))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return listed{}, fmt.Errorf("sessions: %w", &txn.StoreError{Op: "load", ID: txn.ID(at), Err: err})
	}
	var l listed
	if err == nil {
		l, _, err = m.read(at, rec)
	}
	if errors.Is(err, ErrNotFound) {
		return listed{}, fmt.Errorf("sessions: find session %v: %w", at, ErrNotFound)
	}
	return l, err
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
// is no error. An id that comes from a form must be checked against its owner
// before, by [Manager.Find] or [Manager.Sessions]. A malformed id is an error.
// Without a Store the error is errors.ErrUnsupported, since a cookie cannot be
// recalled.
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
	for began, try := time.Now(), 0; ; try++ {
		rec, err := m.engine.Store.Newest(ctx, txn.ID(at))
		if err == nil {
			err = m.revokeAt(ctx, at, rec)
		}
		if errors.Is(err, ErrConflict) {
			if err = txn.BackOff(ctx, try, began); err == nil {
				continue
			}
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return m.failed(ctx, at, err)
		}
		return nil
	}
}

// failed tells that it is unknown whether a session has ended.
func (m *core) failed(ctx context.Context, id ID, err error) error {
	err = fmt.Errorf("sessions: %w", &txn.StoreError{Op: "revoke", ID: txn.ID(id), Err: err})
	m.emit(ctx, Event{Kind: EventFailed, ID: id.String(), Err: err})
	return err
}

// RevokeOwner ends all sessions of an owner except those whose public ids are in
// except, and returns how many it ended. It is for a change of password, or "sign
// out everywhere else". It lists and deletes until it finds none, so that sessions
// that sign in meanwhile end too. If an id in except is malformed, nothing is
// ended. If except names sessions and none of them lives, nothing is ended, and
// the error is ErrNotFound: two requests that spare only themselves must not end
// each other before that. To bound the sessions of an owner, use
// Config.MaxPerOwner. Without a Store that is an OwnerStore the error is
// errors.ErrUnsupported.
func (m *Manager[T]) RevokeOwner(ctx context.Context, owner string, except ...string) (int, error) {
	if err := m.core.needsOwners("RevokeOwner", owner); err != nil {
		return 0, err
	}
	return m.core.revokeAll(ctx, func() iter.Seq2[ID, error] { return m.core.owners.Owned(ctx, owner) }, index{owner: owner}, except)
}

// RevokeLabelled is RevokeOwner for the sessions that have a label, whoever they
// belong to. Without a Store that is a LabelStore the error is
// errors.ErrUnsupported.
func (m *Manager[T]) RevokeLabelled(ctx context.Context, label string, except ...string) (int, error) {
	if err := m.core.needsLabels("RevokeLabelled", label); err != nil {
		return 0, err
	}
	return m.core.revokeAll(ctx, func() iter.Seq2[ID, error] { return m.core.labels.Labelled(ctx, label) }, index{label: label}, except)
}

func (m *core) revokeAll(ctx context.Context, ids func() iter.Seq2[ID, error], x index, except []string) (int, error) {
	spared := make([]ID, len(except))
	for i, id := range except {
		var err error
		if spared[i], err = parseID(id); err != nil {
			return 0, err
		}
	}
	if r, ok := ctx.Value(m.key).(*exchange); ok {
		spared = append(spared, r.sparedWith(spared)...)
	}
	if err := m.anyLives(ctx, spared); err != nil {
		return 0, fmt.Errorf("sessions: revoke sessions: %w", err)
	}
	revoked := 0
	gone := make(map[ID]bool)
	for try := 0; ; try++ {
		n, again, err := m.revokePass(ctx, ids(), x, spared, gone)
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

// anyLives returns nil if one of the sessions lives, or if there is none to ask
// for.
func (m *core) anyLives(ctx context.Context, ids []ID) error {
	for _, id := range ids {
		rec, err := m.engine.Store.Newest(ctx, txn.ID(id))
		if err == nil {
			if _, _, err = m.read(id, rec); !errors.Is(err, ErrNotFound) {
				return nil
			}
		}
		if !errors.Is(err, ErrNotFound) {
			return &txn.StoreError{Op: "load", ID: txn.ID(id), Err: err}
		}
	}
	if len(ids) > 0 {
		return fmt.Errorf("%w: no session that except names lives, so that none was ended", ErrNotFound)
	}
	return nil
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

// revokePass ends what an index lists, each record at the version in which it has
// the owner or the label. again says that some changed at that moment, or were
// gone, maybe to another id that the index had not when it was read; gone has those
// that were gone in an earlier pass, as an index may list them for ever.
func (m *core) revokePass(ctx context.Context, ids iter.Seq2[ID, error], x index, spared []ID, gone map[ID]bool) (revoked int, again bool, err error) {
	for id, err := range ids {
		if err != nil {
			return revoked, again, err
		}
		if slices.Contains(spared, id) {
			continue
		}
		rec, err := m.engine.Store.Newest(ctx, txn.ID(id))
		if _, moved := wire.ReadTombstone(rec.Data); err == nil && !moved && !x.has(rec) {
			continue
		}
		if err == nil {
			err = m.revokeAt(ctx, id, rec)
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
			return revoked, again, m.failed(ctx, id, err)
		}
	}
	return revoked, again, nil
}

// revokeAt ends a session at the version of rec, and tells it. A tombstone is no
// session: it stays.
func (m *core) revokeAt(ctx context.Context, id ID, rec txn.Record) error {
	owner := rec.Owner
	switch base, reason, _ := m.engine.Read(txn.ID(id), rec, m.engine.Codec.New(), time.Now()); reason {
	case txn.NotNew:
		owner = base.Owner
	case txn.Replaced, txn.Unknown:
		return ErrNotFound
	}
	done := m.engine.Ending(txn.ID(id), txn.Revoked)
	err := m.engine.Store.Delete(ctx, txn.ID(id), rec.Version)
	done(err == nil)
	if err == nil {
		m.emit(ctx, Event{Kind: EventEnded, Reason: ReasonRevoked, ID: id.String(), Owner: owner})
	}
	return err
}

func (m *core) needsStore(what string) error {
	if m.engine.Store == nil {
		return fmt.Errorf("sessions: %s needs a Config.Store, a cookie cannot be reached from here: %w", what, errors.ErrUnsupported)
	}
	return nil
}

func (m *core) needsLabels(what, label string) error {
	if err := m.needsStore(what); err != nil {
		return err
	}
	if m.labels == nil {
		return fmt.Errorf("sessions: %s needs a Config.Store that is a LabelStore: %w", what, errors.ErrUnsupported)
	}
	if label == "" {
		return fmt.Errorf("sessions: %s of the label \"\": there are no empty labels", what)
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
