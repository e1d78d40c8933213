package sessions

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/typedsessions/sessions/internal/txn"
)

// A Session is the session of one visitor, as one request sees it. [Get] returns
// it; the Middleware stores it, if it changed, before the first byte of the
// response leaves.
//
// Its methods are safe for concurrent use. Data belongs to the handler, like any
// struct: goroutines that share it need a lock of their own, and nobody may edit
// it while the response is being written. A Session prints its public id and its
// state, never Data. But fmt calls no method of a value in an unexported field
// of another struct, and prints Data there.
type Session[T any] struct {
	// Data is what the application keeps. Edit it in place, also through maps,
	// slices and pointers: changes are found by comparing what would be stored.
	//
	// A time comes back as the same instant in time.Local: its zone is not stored.
	// A pointer to a nil slice, map or pointer comes back as a nil pointer, and so
	// does one to a value that its own codec writes as nothing, such as an empty
	// url.URL. A type with a text of its own comes back as that text has it:
	// a big.Float with 64 bits. An empty slice or map in place of a nil one is no change. A field tagged
	// msgpack:"-" is not stored: its value lasts for the request, also when
	// a parallel change is merged, but not in elements of a slice or a map.
	Data T

	handle
}

// ID returns the public id of the session: safe to log, to show and to give to
// [Manager.Revoke], and of no use as a credential. RegenerateID and Reset change
// it at once.
func (s *Session[T]) ID() string { return s.txn.ID() }

// IsNew reports whether the session began with this request, or with Reset.
// A new session that is left untouched is not stored and sends no cookie.
func (s *Session[T]) IsNew() bool { return s.Reason() != ReasonNone }

// Reason says why the session is new, ReasonNone if it is not.
func (s *Session[T]) Reason() Reason { return reasonOf(s.txn.Reason()) }

// CreatedAt returns when the session began, or its id was last regenerated, in
// whole seconds.
func (s *Session[T]) CreatedAt() time.Time {
	created, _ := s.txn.Times()
	return time.Unix(created, 0)
}

// ExpiresAt returns the absolute end of the session, in whole seconds. With
// Config.IdleTimeout it may end earlier.
func (s *Session[T]) ExpiresAt() time.Time {
	_, expires := s.txn.Times()
	return time.Unix(expires, 0)
}

// RegenerateID gives the session a new id and begins its absolute lifetime anew,
// with the same data. It marks a new authentication. Call it whenever somebody
// signs in or gains rights, so that nobody who knew the old id shares the new
// rights (session fixation). With a Store the old id is dead once the response
// leaves. A request that still comes with it, within a minute, gets a session
// that sends no cookie (ReasonReplaced), so that it cannot replace the new one. A
// cookie session cannot be recalled: its old cookie stays valid until it expires.
//
// If the Store fails while it replaces the old id, Config.ErrorHandler answers, and
// the session stays as it was. If the Store did replace it and its answer was lost,
// the session has ended.
//
// The new id cannot reach the browser if the headers have left, the connection
// was hijacked or the request's deadline has passed. Then nothing that the
// request did to a stored session is stored, since rights that belong to a new id
// must not come to the old one. Save returns ErrTooLate, and there is an event at
// the end of the request. If the deadline has passed and nothing was sent yet,
// Config.ErrorHandler answers with ErrTooLate.
func (s *Session[T]) RegenerateID() { s.txn.Regenerate(false) }

// RotateID gives the session a new id and leaves everything else, in particular
// its lifetime. Call it when the rights of a session change and its user stays
// the same: a confirmed password, another role, another organisation (OWASP ASVS
// 5.0, 7.2.4). What RegenerateID says of the old id, and of a new id that cannot
// reach the browser, holds for RotateID too.
func (s *Session[T]) RotateID() { s.txn.Regenerate(true) }

// Destroy ends the session: its record is deleted and its cookie expires. Data
// becomes the zero T. Later changes of the session are discarded, except those
// after a Reset. It happens even if the handler panics later. A cookie session
// cannot be recalled: a copy of the cookie is valid until it expires.
func (s *Session[T]) Destroy() { s.txn.Destroy(false) }

// Reset ends the session as Destroy does and begins a new one, with a new id and
// a zero Data. Nothing is stored unless something is put into it. Use it to sign
// out with a message:
//
//	sess.Reset()
//	sess.Flash("info", "You have signed out")
func (s *Session[T]) Reset() { s.txn.Destroy(true) }

// Update changes the session by a function that can be repeated: f is run on
// Data now, and again on the newest state if a parallel request changes the
// session before this one is stored. A counter needs it: edits of Data itself are
// merged by field, so that two requests that both do Data.N++ may count one.
// What f computes outside of the session may be computed twice.
//
// Update runs f under a lock: other Updates wait. f must not call Update or Save
// or write the response. If f calls Flash, Flashes, SetLifetime or RegenerateID,
// the effects of its last run stand: those of an earlier run are taken back when
// f runs again. Calls by other goroutines while f runs count as calls by f. If f
// calls Destroy or Reset, its changes of the argument are lost. After Destroy,
// Update does not run f. A panic of f passes through, and Data is then as it was
// before. A panic while f is repeated is an error of the commit.
func (s *Session[T]) Update(f func(*T)) {
	s.txn.Update(func(data any) { f(data.(*T)) })
}

// Save stores the session now. It is for handlers that stream or live long.
// Others need no Save, since the middleware stores what changed. Before the
// headers Save stores at once, and the cookie goes with the headers. In cookie
// mode it reports the error that the commit would have. After the headers it
// stores what needs no new cookie.
//
// Save returns ErrNotFound once the session was destroyed or revoked elsewhere,
// also if there is nothing to store. A Save with nothing to store is no use of the
// session, and leaves Data as it is: see Reload. It returns ErrTooLate where a cookie would
// be needed and the headers have left or the request has ended. It returns
// ErrInvalid, ErrTooLarge, or an error of the Store. After an error of the Store
// it is unknown whether the session was stored. The next try finds out, unless
// another request has changed the session since: then an Update may count twice.
// If that request has stored equal data within the same second, and Config.Encrypt is
// off, the next try takes them for its own, and an Update does not count.
// Save obeys ctx and takes 5 seconds at most.
func (s *Session[T]) Save(ctx context.Context) error {
	if err := s.txn.Save(ctx); err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	return nil
}

// Reload makes Data the newest stored state, with the changes of this request on
// it, as a commit would after a conflict. It stores nothing, and it is no use of
// the session. It is for handlers that stream or live long, and for those that
// must see what another request has stored since this one began, under a lock of
// the application's own.
//
// Reload returns ErrNotFound once the session has ended, an error of the Store, or
// an error if the newest state cannot be read by this program. Without a Store
// there is no newer state than that of the request. Reload obeys ctx and takes 5
// seconds at most.
func (s *Session[T]) Reload(ctx context.Context) error {
	if err := s.txn.Reload(ctx); err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	return nil
}

// Watch returns a context that ends when the session does, wherever that happens:
// by Destroy, Reset or a new id in another request, by a method of the Manager in
// this process or another one, by the limit of its owner, and at its absolute or
// idle end. Its context.Cause is an error that is ErrNotFound, whose text says which.
// It is for streams and WebSockets: do what they do with this context.
//
//	ctx, cancel := sess.Watch(r.Context())
//	defer cancel()
//
// The context ends with ctx at the latest, not when the handler returns. If this
// request stores the session or gives it a new id, it follows that. Watching is no
// use of the session: it does not keep it from being idle. What another process ends
// is known at once if the Store is a [Watcher], else within some five seconds. An
// error of the Store ends nothing. Without a Store it ends with the session's own
// ends, and with what this process does. cancel releases what the watching takes.
func (s *Session[T]) Watch(ctx context.Context) (watched context.Context, cancel context.CancelFunc) {
	return s.txn.Watch(ctx)
}

// SetLifetime sets the absolute end of the session to d from now, and the length
// that RegenerateID will give it again: "remember me". Zero means
// Config.Lifetime. Less than zero ends the session, as Destroy does: so
// SetLifetime(time.Until(token.Expiry)) never makes a session outlive a token.
// Config.IdleTimeout still holds. SetLifetime alone does not make a new session
// stored. It has no effect once the headers have left (ErrTooLate).
func (s *Session[T]) SetLifetime(d time.Duration) { s.txn.SetLifetime(d) }

// A handle is what a Session embeds in place of its state. It has the printing
// methods, since methods of Session with a value receiver would copy Data to be
// called. It has no others: the compiler makes a wrapper of every promoted
// method for every T.
type handle struct{ txn *txn.Txn }

// Format prints the public id and the state of the session, under every verb.
func (h handle) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, h.txn.String()) }

// LogValue logs the public id and the state of the session.
func (h handle) LogValue() slog.Value { return slog.StringValue(h.txn.String()) }

// MarshalText, for JSON, gives the public id and the state of the session.
func (h handle) MarshalText() ([]byte, error) { return []byte(h.txn.String()), nil }
