package sessions

import (
	"slices"

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
	s.state.flash(wire.Flash{Kind: kind, Message: message})
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
	for _, f := range s.state.flashes(kinds) {
		flashes = append(flashes, Flash(f))
	}
	return flashes
}

func (s *state) flash(f wire.Flash) {
	if !s.lockFor("Flash") {
		return
	}
	defer s.mu.Unlock()
	if !s.destroyed {
		s.acts++
		d := s.do()
		d.added = append(d.added, f)
	}
}

func (s *state) flashes(kinds []string) []wire.Flash {
	if !s.lockFor("Flashes") {
		return nil
	}
	defer s.mu.Unlock()
	if s.destroyed || s.did == nil || len(s.did.visible) == 0 {
		return nil
	}
	d := s.did
	var taken, left []wire.Flash
	for _, f := range d.visible {
		if len(kinds) == 0 || slices.Contains(kinds, f.Kind) {
			taken = append(taken, f)
		} else {
			left = append(left, f)
		}
	}
	s.acts++
	d.visible = left
	d.consumed = append(d.consumed, taken...)
	return taken
}

// mergeFlashes returns stored without consumed and with added, and how many of
// the oldest had to go.
func mergeFlashes(stored, consumed, added []wire.Flash) (flashes []wire.Flash, dropped int) {
	flashes = slices.Clone(stored)
	for _, f := range consumed {
		if i := slices.Index(flashes, f); i >= 0 {
			flashes = slices.Delete(flashes, i, i+1)
		}
	}
	flashes = append(flashes, added...)
	dropped = max(0, len(flashes)-wire.MaxFlashes)
	return flashes[dropped:], dropped
}
