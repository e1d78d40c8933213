package sessions

import (
	"github.com/typedsessions/sessions/internal/wire"
)

// A Flash is a message for the next page. Message is plain text: escape it where
// it is shown, as html/template does.
type Flash struct {
	Kind    string // such as "error" or "info"
	Message string
}

// Flash leaves a message that [Session.Flashes] returns from the next request
// on, whichever request asks first, and then no more. It survives
// [Session.RegenerateID], but not [Session.Destroy]; after [Session.Reset] it is
// the first thing in the new session. A session keeps at most 32 messages: the
// oldest goes when there is one more, with an event. In cookie mode they are part
// of the cookie, and long ones are ErrTooLarge before there are 32.
func (s *Session[T]) Flash(kind, message string) {
	s.txn.Flash(wire.Flash{Kind: kind, Message: message})
}

// Flashes returns the messages of the given kinds, or all if none is given, in
// the order of their adding, and removes them from the session. Messages that
// this request added are for the next one and stay. Other requests that come in
// between, such as for an image, remove nothing. Two requests that ask at the
// same time may both get a message, and a request that panics removes none.
//
// Call it before the first byte of the response is written: what is removed
// later, as by a template that writes while it asks, is shown again in cookie
// mode.
func (s *Session[T]) Flashes(kinds ...string) []Flash {
	var flashes []Flash
	for _, f := range s.txn.Flashes(kinds) {
		flashes = append(flashes, Flash(f))
	}
	return flashes
}
