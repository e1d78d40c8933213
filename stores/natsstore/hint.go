package natsstore

import (
	"context"
	"encoding/binary"
	"slices"
	"sync/atomic"

	"github.com/typedsessions/sessions"
)

// Hints are the revisions of records that this process has loaded or written, so that an
// Update or Delete that follows need not ask for them. A hint stays true, since a revision
// has one value. If the key has another revision meanwhile, the server refuses the write,
// and the operation starts again without the hint. Only a server that has lost its last
// writes may use a revision again, and then the connection broke: hints end with it.
type hints [hintSlots]atomic.Pointer[hint]

// hintSlots is more than the requests that a process serves at the same time. Of two
// records with the same slot, the later one is remembered.
const hintSlots = 1024

type hint struct {
	id     sessions.ID
	found  stored          // without data
	intact context.Context // of the connection
}

func (h *hints) slot(id sessions.ID) *atomic.Pointer[hint] {
	return &h[binary.BigEndian.Uint16(id[:])%hintSlots]
}

// remember keeps the record of id without its data.
func (s *Store) remember(id sessions.ID, found stored) {
	found.Data, found.Labels = nil, slices.Clone(found.Labels) // the caller has both
	s.hints.slot(id).Store(&hint{id, found, s.conn.current()})
}

// recall returns the record of id, without its data, if its version is known and it has
// not expired.
func (s *Store) recall(id sessions.ID, version uint64) (stored, bool) {
	h := s.hints.slot(id).Load()
	if h == nil || h.id != id || h.found.Version != version || h.found.expired() || h.intact != s.conn.current() {
		return stored{}, false
	}
	return h.found, true
}
