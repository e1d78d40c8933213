package sessions

import (
	"errors"
	"slices"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// A Flash is a message for the next page. Message is plain text: escape it where
// it is shown, as html/template does.
type Flash struct {
	Kind    string // such as "error" or "info"
	Message string
}

// maxFlashes bounds what a session that nobody reads the messages of collects.
const maxFlashes = 32

// Flash leaves a message that [Session.Flashes] returns from the next request
// on, whichever request asks first, and then no more. It survives
// [Session.RegenerateID], but not [Session.Destroy]; after [Session.Reset] it is
// the first thing in the new session. A session keeps at most 32 messages: the
// oldest goes when there is one more, with an event. In cookie mode they are part
// of the cookie, and long ones are ErrTooLarge before there are 32.
func (s *Session[T]) Flash(kind, message string) {
	s.state.flash(Flash{Kind: kind, Message: message})
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
func (s *Session[T]) Flashes(kinds ...string) []Flash { return s.state.flashes(kinds) }

func (s *state) flash(f Flash) {
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

func (s *state) flashes(kinds []string) []Flash {
	if !s.lockFor("Flashes") {
		return nil
	}
	defer s.mu.Unlock()
	if s.destroyed || s.did == nil || len(s.did.visible) == 0 {
		return nil
	}
	d := s.did
	var taken, left []Flash
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
func mergeFlashes(stored, consumed, added []Flash) (flashes []Flash, dropped int) {
	flashes = slices.Clone(stored)
	for _, f := range consumed {
		if i := slices.Index(flashes, f); i >= 0 {
			flashes = slices.Delete(flashes, i, i+1)
		}
	}
	flashes = append(flashes, added...)
	dropped = max(0, len(flashes)-maxFlashes)
	return flashes[dropped:], dropped
}

// appendFlashes writes a msgpack array of strings: kind, message, kind, …
func appendFlashes(b []byte, flashes []Flash) []byte {
	if n := 2 * len(flashes); n < 16 {
		b = append(b, msgpcode.FixedArrayLow|byte(n))
	} else {
		b = append(b, msgpcode.Array16, 0, byte(n))
	}
	for _, f := range flashes {
		b = appendString(appendString(b, f.Kind), f.Message)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, msgpcode.FixedStrLow|byte(n))
	case n < 1<<8:
		b = append(b, msgpcode.Str8, byte(n))
	case n < 1<<16:
		b = append(b, msgpcode.Str16, byte(n>>8), byte(n))
	default:
		b = append(b, msgpcode.Str32, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, s...)
}

var errFlashes = errors.New("its flash messages cannot be read")

// readFlashes reads what appendFlashes wrote, in the one spelling that it
// writes, and returns what follows.
func readFlashes(b []byte) (flashes []Flash, rest []byte, err error) {
	n := 0
	switch {
	case len(b) == 0:
		return nil, nil, errFlashes
	case b[0]&0xf0 == msgpcode.FixedArrayLow:
		n, rest = int(b[0]&0x0f), b[1:]
	case b[0] == msgpcode.Array16 && len(b) >= 3 && b[1] == 0 && b[2] >= 16:
		n, rest = int(b[2]), b[3:]
	default:
		return nil, nil, errFlashes
	}
	if n == 0 {
		return nil, rest, nil
	}
	if n%2 != 0 || n/2 > maxFlashes {
		return nil, nil, errFlashes
	}
	flashes = make([]Flash, n/2)
	for i := range n {
		var s string
		var ok bool
		if s, rest, ok = readString(rest); !ok {
			return nil, nil, errFlashes
		}
		if i%2 == 0 {
			flashes[i/2].Kind = s
		} else {
			flashes[i/2].Message = s
		}
	}
	return flashes, rest, nil
}

func readString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) == 0 {
		return "", nil, false
	}
	n, head := 0, 1
	switch c := b[0]; {
	case c&0xe0 == msgpcode.FixedStrLow:
		n = int(c & 0x1f)
	case c == msgpcode.Str8:
		head = 2
	case c == msgpcode.Str16:
		head = 3
	case c == msgpcode.Str32:
		head = 5
	default:
		return "", nil, false
	}
	if len(b) < head {
		return "", nil, false
	}
	for _, c := range b[1:head] {
		n = n<<8 | int(c)
	}
	if n > len(b)-head {
		return "", nil, false
	}
	if least := [...]int{1: 0, 2: 32, 3: 1 << 8, 5: 1 << 16}[head]; n < least {
		return "", nil, false
	}
	return string(b[head : head+n]), b[head+n:], true
}
