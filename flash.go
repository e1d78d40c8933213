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

// Flash leaves a message for the next request that calls [Session.Flashes]. It is
// returned once. It survives [Session.RegenerateID], but not [Session.Destroy].
// After [Session.Reset] it is part of the new session. A message that is equal to
// a waiting one does not wait twice; if another request shows the waiting one at
// the same moment, that was it. A session keeps at most 32 messages: one more drops
// the oldest, with an event. In cookie mode messages are part of the cookie: where
// they have no room, the oldest are dropped, with the same event.
func (s *Session[T]) Flash(kind, message string) {
	s.txn.Flash(wire.Flash{Kind: kind, Message: message})
}

// FlashNow adds a message for this response alone: Flashes of this request returns
// it, and nothing stores it. Use it where a page is shown without a redirect, such
// as a form with an error.
func (s *Session[T]) FlashNow(kind, message string) {
	s.txn.FlashNow(wire.Flash{Kind: kind, Message: message})
}

// Flashes returns the messages of the given kinds, or all if none is given, in
// the order in which they were added, and removes them from the session. Messages
// that this request added are for the next one and stay, except those of
// [Session.FlashNow], which come last. A request that does not
// call Flashes, such as one for an image, removes nothing. Two requests at the
// same time may both get a message. A request that panics removes none.
//
// Call it before the first byte of the response is written. In cookie mode
// a message that is taken later, as by a template that writes first, is shown
// again.
func (s *Session[T]) Flashes(kinds ...string) []Flash {
	var flashes []Flash
	for _, f := range s.txn.Flashes(kinds) {
		flashes = append(flashes, Flash(f))
	}
	return flashes
}
