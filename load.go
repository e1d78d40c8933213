package sessions

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/cookie"
	"github.com/typedsessions/sessions/internal/keys"
	"github.com/typedsessions/sessions/internal/wire"
)

// maxCandidates bounds the work that cookies of one name cause: a browser sends
// one, or a few after a change of Domain or Path; an attacker sends thousands.
const maxCandidates = 16

// candidates finds the cookies of our name that may be authentic: of a length
// that ours have, and begun as one of our keys begins them. Copies of one cookie
// do not hide another. came says whether there was any cookie of the name.
func (m *core) candidates(h http.Header, signer *keys.Signer, found *[maxCandidates]string) (values []string, came bool) {
	values = found[:0]
	for _, line := range h["Cookie"] {
		for len(values) < maxCandidates {
			value, rest, ok := m.cookie.Next(line)
			if !ok {
				break
			}
			came, line = true, rest
			if m.form.fits(value) && signer.HasKnownPrefix(value) && !slices.Contains(values, value) {
				values = append(values, value)
			}
		}
	}
	return values, came
}

// A form is what the cookies of one Manager have in common.
type form struct {
	format      byte
	least, most int // bytes of the token
}

func (f form) fits(value string) bool {
	return len(value) >= wire.EncodedSize(f.least) && len(value) <= wire.EncodedSize(f.most)
}

// mostData is the most bytes that a cookie with a session in it takes.
var mostData = wire.DecodedSize(cookie.MaxSize)

func (m *core) formOf() form {
	switch {
	case m.store != nil:
		return form{wire.SignedID, wire.IDSize, wire.IDSize}
	case m.encrypt:
		return form{wire.Sealed, wire.LeastSealed, mostData}
	}
	return form{wire.Signed, wire.LeastSigned, mostData}
}

// An arrival is what a request with cookies of our name brought, in store mode.
type arrival struct {
	claims []idCookie // all authentic ones
	one    [1]idCookie
	reason Reason // why there is no record
	found  *idCookie
	record Record // of found
}

// An idCookie is an authentic cookie with an id.
type idCookie struct {
	identity
	created, expires int64
	oldKey           bool
	asked            bool // the store was asked for it
}

// load looks for the session's id in the cookies and for its record in the
// store.
func (x *exchange) load() error {
	m := x.m
	signer := m.signing()
	var found [maxCandidates]string
	values, came := m.candidates(x.req.Header, signer, &found)
	if !came {
		return nil
	}
	a := &arrival{reason: ReasonForged}
	a.claims = a.one[:0]
	x.arrived = a
	sc := signer.Scratch()
	for _, value := range values {
		a.claim(signer, sc, value)
	}
	signer.Put(sc)
	if len(a.claims) == 0 {
		return nil
	}
	ctx, cancel := m.bounded(x.Context) // in which the session cannot be asked for yet
	defer cancel()
	now := time.Now().Unix()
	for c := a.newest(); c != nil; c = a.newest() {
		c.asked = true
		if c.expires <= now {
			if a.reason == ReasonForged {
				a.reason = ReasonExpired
			}
			continue
		}
		rec, err := m.store.Load(ctx, c.id)
		if errors.Is(err, ErrNotFound) {
			a.reason = ReasonUnknown
			continue
		}
		if err != nil {
			return &storeError{"load", c.id, err}
		}
		a.reason, a.found, a.record = ReasonNone, c, rec
		return nil
	}
	return nil
}

// claim notes the id in a cookie if it is authentic.
func (a *arrival) claim(signer *keys.Signer, sc *keys.Scratch, value string) {
	var ok bool
	if sc.Buf, ok = wire.AppendToken(sc.Buf[:0], value); !ok {
		return
	}
	body, old, ok := signer.Verify(sc, sc.Buf)
	if !ok {
		return
	}
	c := idCookie{created: wire.Time(body), expires: wire.Time(body[5:]), oldKey: old}
	copy(c.secret[:], body[10:])
	c.id = hashOf(c.secret)
	for i := range a.claims {
		if same := &a.claims[i]; same.id == c.id { // re-issued under another key, or with another end
			same.expires = max(same.expires, c.expires)
			same.oldKey = same.oldKey && old
			return
		}
	}
	a.claims = append(a.claims, c)
}

// newest returns the claim that was created last of those that the store was not
// asked for yet; of equals the first, which browsers send first since its path
// is the longest. It returns nil if there is none.
func (a *arrival) newest() (best *idCookie) {
	for i := range a.claims {
		if c := &a.claims[i]; !c.asked && (best == nil || c.created > best.created) {
			best = c
		}
	}
	return best
}

// known returns every id that the request's cookies named.
func (x *exchange) known() (ids []ID) {
	if x.arrived != nil {
		for i := range x.arrived.claims {
			ids = append(ids, x.arrived.claims[i].id)
		}
	}
	return ids
}

// open makes the session of the request: the one that the cookie or the store
// holds, or a new one. The gate is held.
func (x *exchange) open() *state {
	m := x.m
	s := m.newSession()
	s.x, s.m, s.base = x, m, m.none
	var err error
	if m.store != nil {
		s.reason, err = s.openRecord(x.arrived)
	} else {
		s.reason, err = s.openCookie()
	}
	if s.reason == ReasonNone {
		s.stored = true
		s.life = lifeOf(&s.base.Header)
		if len(s.base.flashes) > 0 {
			s.do().visible = s.base.flashes
		}
		return s
	}
	if s.reason != ReasonNoCookie {
		s.event(Event{Kind: EventRefused, Reason: s.reason, Err: err})
	} else if m.importer != nil {
		s.adopt()
		return s
	}
	if err != nil {
		codec.Clear(s.data()) // a decoder may have filled half of it
	}
	// The id is left to what was refused: a newer program may read it.
	s.base, s.id = m.none, nil
	return s
}

func (s *state) openRecord(a *arrival) (Reason, error) {
	if a == nil {
		return ReasonNoCookie, nil
	}
	s.came = true
	if len(a.claims) > 1 {
		s.event(Event{Kind: EventAmbiguous})
	}
	if a.found == nil {
		if len(a.claims) > 0 {
			s.id = &a.claims[0].identity
		}
		return a.reason, nil
	}
	s.id, s.oldKey = &a.found.identity, a.found.oldKey
	snap, reason, err := s.m.read(s.id.id, a.record, s.data(), time.Now())
	if reason != ReasonNone {
		return reason, err
	}
	s.base = snap
	s.noteUpgrade()
	return ReasonNone, nil
}

func (s *state) noteUpgrade() {
	if int(s.base.Schema) < s.m.codec.Version {
		s.event(Event{Kind: EventUpgraded, Err: fmt.Errorf("from schema version %d to %d", s.base.Schema, s.m.codec.Version)})
	}
}

// read opens the record of an id and fills data, a pointer to a zero T.
func (m *core) read(id ID, rec Record, data any, now time.Time) (*snapshot, Reason, error) {
	snap := &snapshot{ID: id, version: rec.Version, ends: rec.Expires}
	body, err := wire.OpenRecord(m.sealing(), id[:], rec.Data)
	if err != nil {
		return snap, ReasonUndecodable, err
	}
	snap.Header = wire.ParseHeader(body)
	switch {
	case snap.Header.ID != id.half():
		return snap, ReasonUndecodable, errors.New("it is the record of another session")
	case snap.Expires <= now.Unix():
		return snap, ReasonExpired, nil
	}
	reason, err := m.readBody(snap, body, data, m.encrypt)
	return snap, reason, err
}

// readBody reads what follows the header, which snap has already.
func (m *core) readBody(snap *snapshot, body []byte, data any, authentic bool) (reason Reason, err error) {
	if int(snap.Schema) > m.codec.Version {
		return ReasonNewer, fmt.Errorf("it has schema version %d, this program %d", snap.Schema, m.codec.Version)
	}
	flashes, rest, err := wire.ReadFlashes(body[wire.HeaderSize:])
	if err != nil {
		return ReasonUndecodable, err
	}
	snap.flashes = flashes
	trusted := authentic && snap.Shape == m.codec.Fingerprint() // if it is of today's schema
	if snap.kept, err = m.codec.Decode(data, int(snap.Schema), rest, trusted); err != nil {
		return ReasonUndecodable, err
	}
	if err := m.codec.Check(data, snap.kept); err != nil {
		return ReasonInvalid, err
	}
	snap.hash = m.codec.Hash(data)
	return ReasonNone, nil
}

// openCookie verifies and decodes the session in the cookie: of several that are
// authentic, the one that was used last.
func (s *state) openCookie() (Reason, error) {
	m := s.m
	signer := m.signing()
	var found [maxCandidates]string
	values, came := m.candidates(s.x.req.Header, signer, &found)
	if s.came = came; !came {
		return ReasonNoCookie, nil
	}
	reason := ReasonForged
	var best wire.Header
	var body []byte
	ambiguous := false
	sc := signer.Scratch()
	defer signer.Put(sc)
	for _, value := range values {
		b, old, ok := m.openToken(signer, sc, value)
		if !ok {
			continue
		}
		h := wire.ParseHeader(b)
		r := m.ended(h, time.Now())
		if body != nil {
			ambiguous = true
			if r != ReasonNone || reason == ReasonNone && h.Used <= best.Used {
				continue
			}
		}
		reason, best, body, s.oldKey = r, h, b, old
		if len(values) > 1 {
			body = bytes.Clone(body) // the next one is opened in its place
		}
	}
	if ambiguous {
		s.event(Event{Kind: EventAmbiguous})
	}
	if reason == ReasonForged {
		return reason, nil
	}
	s.base = &snapshot{Header: best}
	copy(s.base.ID[:], best.ID[:])
	if reason != ReasonNone {
		return reason, nil
	}
	reason, err := m.readBody(s.base, body, s.data(), true)
	s.base.kept = nil // a part of sc
	if reason != ReasonNone {
		return reason, err
	}
	if m.idle > 0 || s.oldKey {
		s.base.kept = bytes.Clone(body) // it may be re-issued
	}
	s.noteUpgrade()
	return ReasonNone, nil
}

// openToken returns the body in a cookie's value if that is authentic. It is
// a part of sc.
func (m *core) openToken(signer *keys.Signer, sc *keys.Scratch, value string) (body []byte, old, ok bool) {
	if sc.Buf, ok = wire.AppendToken(sc.Buf[:0], value); !ok {
		return nil, false, false
	}
	if !m.encrypt {
		return signer.Verify(sc, sc.Buf)
	}
	sc.Buf = slices.Grow(sc.Buf, len(sc.Buf)) // the body stands behind the token
	return signer.Open(sc.Buf, sc.Buf, nil)
}

// ended says whether a session in a cookie is over.
func (m *core) ended(h wire.Header, now time.Time) Reason {
	switch {
	case h.Expires <= now.Unix():
		return ReasonExpired
	case m.idle > 0 && now.Sub(time.Unix(h.Used, 0)) >= m.idle:
		return ReasonIdle
	}
	return ReasonNone
}

// adopt makes a new session of what Config.Import gives.
func (s *state) adopt() {
	var data any
	ok, err := false, error(nil)
	func() {
		defer codec.Caught(&err, "Config.Import")
		data, ok = s.m.importer(s.x.req)
	}()
	if err != nil {
		s.event(Event{Kind: EventRefused, Reason: ReasonUndecodable, Err: err})
		return
	}
	if !ok {
		return
	}
	if _, err := s.m.codec.Encode(nil, data); err != nil {
		reason := ReasonUndecodable
		if errors.Is(err, ErrInvalid) {
			reason = ReasonInvalid
		}
		s.event(Event{Kind: EventRefused, Reason: reason, Err: fmt.Errorf("imported session: %w", err)})
		return
	}
	codec.Set(s.data(), data)
	s.imported, s.reason = true, ReasonImported
}
