package sessions

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/typedsessions/sessions/internal/cookie"
	"github.com/typedsessions/sessions/internal/txn"
	"github.com/typedsessions/sessions/internal/wire"
)

// candidates appends the values of the cookies of our name that may be authentic:
// of a length that ours have, with the prefix of one of our keys, none twice. It
// reports whether there was any cookie of the name.
func (m *core) candidates(h http.Header, values []string) (_ []string, hadCookie bool) {
	signer := m.engine.Signer()
	for _, line := range h["Cookie"] {
		for len(values) < cookie.MaxCandidates {
			value, rest, ok := m.engine.Cookie.Next(line)
			if !ok {
				break
			}
			hadCookie, line = true, rest
			if m.least <= len(value) && len(value) <= m.most && signer.HasKnownPrefix(value) && !slices.Contains(values, value) {
				values = append(values, value)
			}
		}
	}
	return values, hadCookie
}

// sizes returns how many characters the values of a Manager's cookies have.
func sizes(f wire.Format) (least, most int) {
	switch f {
	case wire.Signed:
		return wire.EncodedSize(wire.LeastSigned), cookie.MaxSize
	case wire.Sealed:
		return wire.EncodedSize(wire.LeastSealed), cookie.MaxSize
	}
	return wire.EncodedSize(wire.IDSize), wire.EncodedSize(wire.IDSize)
}

// load loads the record that the request's cookies name, before the handler
// runs.
func (x *exchange) load() error {
	var room [cookie.MaxCandidates]string
	values, hadCookie := x.m.candidates(x.req.Header, room[:0])
	if !hadCookie {
		return nil
	}
	found, err := x.m.engine.Find(x.Context, values) // in which the session cannot be asked for yet
	if err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	x.shared.HadCookie, x.shared.Found = true, found
	return nil
}

// open makes the session of the request. The gate is held.
func (x *exchange) open() {
	m := x.m
	var room [cookie.MaxCandidates]string
	values := room[:0]
	if m.engine.Store == nil {
		values, x.shared.HadCookie = m.candidates(x.req.Header, values)
	}
	var importer txn.Importer
	if m.importer != nil {
		importer = func() (any, bool) { return m.importer(x.req) }
	}
	session, t := m.newSession()
	t.Open(&m.engine, x, &x.shared, session, values, importer)
	x.txn.Store(t)
}
