package dbsc

import (
	"time"

	"github.com/typedsessions/sessions/internal/seam"
	"github.com/typedsessions/sessions/internal/wire"
)

// A phase is how far the binding of a session is.
type phase byte

const (
	none       phase = iota
	offered          // the browser was asked to register a key
	registered       // it has, and has not come with a good bound cookie yet
	bound            // the session is worth nothing without one
)

// A state is what a session holds of its device: phase 1 ‖ since 5, and from the
// registration on the key, 33.
type state struct {
	phase phase
	since int64 // the last offer, or the last change of the phase, in seconds since 1970
	key   publicKey
}

const (
	offeredSize = 1 + 5
	keySize     = offeredSize + len(publicKey{})
)

func stateOf(s seam.Session) state {
	extension, _ := s.Extension()
	return readState(extension)
}

// unknown reports whether the state is one that this program cannot read.
func (s *state) unknown() bool { return s.phase == bound && s.key == (publicKey{}) }

// mayRegister reports whether the answer to a registration may still be on its way
// to the browser. Browsers know a session by its identifier alone, which is that of
// the former session too (Chromium, session_service_impl.cc): what ends the one
// ends the other.
func (s *state) mayRegister(now time.Time) bool {
	age := now.Sub(time.Unix(s.since, 0))
	return age < registerWithin && age > -registerWithin
}

// readState reads an extension. What it cannot read is a session that no cookie
// opens: a newer program may have bound it in a way of its own.
func readState(b []byte) (s state) {
	switch {
	case len(b) == 0:
		return state{}
	case len(b) == offeredSize && phase(b[0]) == offered:
	case len(b) == keySize && (phase(b[0]) == registered || phase(b[0]) == bound):
		copy(s.key[:], b[offeredSize:])
	default:
		return state{phase: bound}
	}
	s.phase, s.since = phase(b[0]), wire.Time(b[1:])
	return s
}

func (s *state) append(b []byte) []byte {
	b = wire.AppendTime(append(b, byte(s.phase)), s.since)
	if s.phase > offered {
		b = append(b, s.key[:]...)
	}
	return b
}

// The changes of a state. Each may run again on what a parallel request has
// stored: what is further on stays.

// offer notes that the browser is asked at a time.
func offer(at int64) func([]byte) []byte {
	return func(now []byte) []byte {
		s := readState(now)
		if s.phase == bound {
			return now
		}
		s.phase, s.since = max(s.phase, offered), at
		return s.append(nil)
	}
}

// register notes the key of the browser.
func register(key *publicKey, at int64) func([]byte) []byte {
	return func(now []byte) []byte {
		if s := readState(now); s.phase == bound {
			return now
		}
		return (&state{registered, at, *key}).append(nil)
	}
}

// bind makes the binding hold, once the holder of the key has shown a good cookie.
func bind(key publicKey, at int64) func([]byte) []byte {
	return func(now []byte) []byte {
		s := readState(now)
		if s.phase != registered || s.key != key {
			return now
		}
		s.phase, s.since = bound, at
		return s.append(nil)
	}
}

// offerAgain is the least time between two offers to a browser that does not
// answer.
const offerAgain = 10 * time.Minute

// toBeOffered reports whether the browser is to be asked again.
func (s *state) toBeOffered(now time.Time) bool {
	return (s.phase == offered || s.phase == registered) && now.Sub(time.Unix(s.since, 0)) >= offerAgain
}
