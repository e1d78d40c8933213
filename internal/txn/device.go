package txn

import (
	"errors"
	"fmt"

	"github.com/typedsessions/sessions/internal/codec"
)

// Announce notes that the response is to tell something about the session that
// depends on its id.
func (t *Txn) Announce() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.announced = t.exists != Ended
}

// Announced reports whether Announce was called for a session that is kept.
func (t *Txn) Announced() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.announced && t.exists == Loaded
}

// dropExtension gives up a change of the extensions if that is all that err is
// about: the Store has not taken it, or the request's deadline has passed. It reports
// whether it did. The handler's answer does not depend on the change, so that this is
// an event, as is a use that the Store does not note.
func (t *Txn) dropExtension(err error) bool {
	var failed *StoreError
	late := errors.Is(err, ErrTooLate)
	if !errors.As(err, &failed) && !late {
		return false
	}
	hash, _ := t.hashSince(t.currentBase())
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exists != Loaded || hash != t.base.Hash || len(t.journal.ops) == 0 {
		return false
	}
	for i := range t.journal.ops {
		if t.journal.ops[i].Verb != Extend {
			return false
		}
	}
	e := Event{Kind: Failed, Err: fmt.Errorf("sessions: %w", err)}
	if late {
		e.Kind = Late
	}
	t.eventLocked(e)
	t.journal.Settle(t.journal.seen)
	t.rareLocked().attempts, t.announced = nil, false
	return true
}

// Withhold shows a new session in place of the one that was found, which stays as
// it is. Without begin the new one is stored only if it has an id of its own, as
// one is that came with a replaced id.
func (t *Txn) Withhold(begin bool) {
	t.shared.Gate.Lock()
	defer t.shared.Gate.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exists != Loaded {
		return
	}
	t.base, t.id, t.began = t.eng.None, nil, 0
	t.journal.Settle(t.journal.End())
	t.journal.seen = t.journal.End()
	t.announced, t.reason, t.exists = false, Stale, Behind
	if begin {
		t.exists = Fresh
	}
	if r := t.rare; r != nil {
		r.forget()
	}
	codec.Clear(t.data())
}
