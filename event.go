package sessions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/txn"
)

// An Event tells Config.OnEvent what happened to a session. It holds no cookie,
// no secret and no value of the session but its owner. It prints without the
// owners, under every verb, in logs and in JSON.
type Event struct {
	Kind   EventKind
	Reason Reason // of EventStarted, EventEnded, EventRefused and EventDiscarded
	ID     string // the public id, "" where there is none

	// Previous is the public id that ID has replaced, of EventRenewed.
	Previous string

	// Owner is whose session it is by Config.Owner, of EventStarted and
	// EventRenewed, and whose it was, of EventEnded.
	Owner string

	// PreviousOwner is whose session it was before, of EventRenewed.
	PreviousOwner string

	Err error // more, for people
}

// An EventKind says what happened.
type EventKind string

const (
	// EventStarted: a new session was stored, or its cookie was made. Reason
	// says why it is new.
	EventStarted EventKind = "started"
	// EventRenewed: a session was stored under a new id, in place of Previous, by
	// RegenerateID, RotateID or a change of its owner.
	EventRenewed EventKind = "renewed"
	// EventEnded: a session was ended, for Reason. Exactly one process tells it:
	// the one that ended the session. No process does if the Store carried out the
	// end and its answer was lost, so that the operation failed. A session that
	// merely expires has no such event: the request that still brings its cookie is
	// an EventRefused.
	EventEnded EventKind = "ended"
	// EventRefused: a cookie came that gave no session, for Reason.
	EventRefused EventKind = "refused"
	// EventAmbiguous: more than one authentic cookie of the name came.
	EventAmbiguous EventKind = "ambiguous"
	// EventUpgraded: data of an older Config.Version went through Upgrades.
	EventUpgraded EventKind = "upgraded"
	// EventMerged: a parallel request had changed the session, and the changes
	// of both were put together. It is told at each conflict, also if the result
	// is not stored in the end.
	EventMerged EventKind = "merged"
	// EventDiscarded: changes were not stored, since the session was destroyed,
	// revoked or moved to another id meanwhile, or since its newest state cannot
	// be read by this program (Reason).
	EventDiscarded EventKind = "discarded"
	// EventLate: changes came when the cookie that they need could not be sent
	// any more. What the Store keeps without one is stored; Err says what is not.
	EventLate EventKind = "late"
	// EventFlashDropped: more flash messages than a session keeps; the oldest
	// were dropped.
	EventFlashDropped EventKind = "flash dropped"
	// EventFailed: an operation failed, with Err. Unless it was a Touch,
	// Config.ErrorHandler answered, if it still could.
	EventFailed EventKind = "failed"
)

// A Reason says why a session is new. Package dbsc has one more, dbsc.ReasonStale:
// a session that is bound to another device, or whose device has not proved itself.
type Reason string

const (
	// ReasonNone: the session is not new, it was loaded.
	ReasonNone Reason = ""
	// ReasonNoCookie: the request brought none.
	ReasonNoCookie Reason = "no cookie"
	// ReasonForged: nothing that came is authentic here: forged, truncated, of
	// an unknown key, of another cookie, mode or Manager.
	ReasonForged Reason = "forged"
	// ReasonExpired: its absolute end has passed.
	ReasonExpired Reason = "expired"
	// ReasonIdle: unused for IdleTimeout (cookie mode; a store only says unknown).
	ReasonIdle Reason = "idle"
	// ReasonUnknown: the store has no such record: it was idle, revoked,
	// destroyed, evicted or lost.
	ReasonUnknown Reason = "unknown"
	// ReasonUndecodable: the data does not fit T, or an upgrade of it failed.
	ReasonUndecodable Reason = "undecodable"
	// ReasonInvalid: the data breaks the validation rules of T.
	ReasonInvalid Reason = "invalid"
	// ReasonNewer: a newer version of the program stored it.
	ReasonNewer Reason = "newer"
	// ReasonReset: Session.Reset began it; of EventEnded: Session.Reset ended it.
	ReasonReset Reason = "reset"
	// ReasonImported: Config.Import gave it.
	ReasonImported Reason = "imported"
	// ReasonReplaced: the session has had another id for less than a minute. Such
	// a session sends no cookie, since that would take the place of the cookie
	// with the new id: what it changes is discarded, unless RegenerateID, Reset or
	// an owner begins a session of its own.
	ReasonReplaced Reason = "replaced"
	// ReasonDestroyed, of EventEnded: Session.Destroy ended it.
	ReasonDestroyed Reason = "destroyed"
	// ReasonRevoked, of EventEnded: a method of the Manager ended it.
	ReasonRevoked Reason = "revoked"
	// ReasonLimit, of EventEnded: newer sessions of its owner took its place, by
	// Config.MaxPerOwner.
	ReasonLimit Reason = "limit"
	// ReasonSpent, of EventEnded: nothing was left in it.
	ReasonSpent Reason = "spent"
)

var eventKinds = [...]EventKind{
	txn.Started:      EventStarted,
	txn.Refused:      EventRefused,
	txn.Ambiguous:    EventAmbiguous,
	txn.Upgraded:     EventUpgraded,
	txn.Merged:       EventMerged,
	txn.Discarded:    EventDiscarded,
	txn.Late:         EventLate,
	txn.FlashDropped: EventFlashDropped,
	txn.Failed:       EventFailed,
	txn.Renewed:      EventRenewed,
	txn.Finished:     EventEnded,
}

func eventOf(e txn.Event) Event {
	return Event{
		Kind: eventKinds[e.Kind], Reason: reasonOf(e.Reason), ID: e.ID, Previous: e.Previous,
		Owner: e.Owner, PreviousOwner: e.PreviousOwner, Err: e.Err,
	}
}

// summary is how an Event prints.
func (e Event) summary() string {
	s := fmt.Sprintf("Event(%s", e.Kind)
	for _, part := range []string{string(e.Reason), e.ID, e.Previous} {
		if part != "" {
			s += ", " + part
		}
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + ")"
}

// Format prints the event without its owners, under every verb.
func (e Event) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, e.summary()) }

// LogValue logs the event without its owners.
func (e Event) LogValue() slog.Value { return slog.StringValue(e.summary()) }

// MarshalText, for JSON, gives the event without its owners.
func (e Event) MarshalText() ([]byte, error) { return []byte(e.summary()), nil }

func reasonOf(r txn.Reason) Reason { return Reason(r.String()) }

// level returns the log level of an event. What anybody can cause by sending
// requests is below the usual level.
func (e Event) level(ctx context.Context) slog.Level {
	switch e.Kind {
	case EventFailed:
		// The client hung up while the session was loaded: the store did not fail.
		if ctx.Err() != nil && errors.Is(e.Err, context.Canceled) {
			return slog.LevelDebug
		}
		return slog.LevelError
	case EventLate:
		return slog.LevelError
	case EventFlashDropped:
		return slog.LevelWarn
	case EventDiscarded:
		return slog.LevelInfo
	case EventRefused:
		if e.Reason == ReasonUndecodable || e.Reason == ReasonInvalid || e.Reason == ReasonNewer {
			return slog.LevelWarn // a deployment's fault, not a visitor's
		}
	}
	return slog.LevelDebug
}

func (m *core) log() *slog.Logger {
	if m.logger != nil {
		return m.logger
	}
	return slog.Default()
}

// hears reports whether anybody listens to e. An event that nobody hears costs
// nothing.
func (m *core) hears(e Event) bool {
	return m.onEvent != nil || m.log().Enabled(context.Background(), e.level(context.Background()))
}

// emit logs the event and hands it to OnEvent, whose panic must not undo what
// happened.
func (m *core) emit(ctx context.Context, e Event, attrs ...slog.Attr) {
	logger := m.log()
	if level := e.level(ctx); logger.Enabled(ctx, level) {
		attrs = append(attrs, slog.String("session", e.ID))
		if e.Previous != "" {
			attrs = append(attrs, slog.String("previous", e.Previous))
		}
		if e.Reason != ReasonNone {
			attrs = append(attrs, slog.String("reason", string(e.Reason)))
		}
		if e.Err != nil {
			attrs = append(attrs, slog.String("error", e.Err.Error()))
		}
		logger.LogAttrs(ctx, level, "sessions: "+string(e.Kind), attrs...)
	}
	if m.onEvent == nil {
		return
	}
	var err error
	func() {
		defer codec.Caught(&err, "Config.OnEvent")
		m.onEvent(ctx, e)
	}()
	if err != nil {
		logger.LogAttrs(ctx, slog.LevelError, "sessions: event", slog.String("error", err.Error()))
	}
}
