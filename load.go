package sessions

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// maxCandidates bounds the work that cookies of one name cause: a browser sends
// one, or a few after a change of Domain or Path; an attacker sends thousands.
const maxCandidates = 16

// scratch holds cookies that are being read or made. What is put back is
// overwritten, so nothing may keep a part of it.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// candidates calls visit for each cookie of our name that may be authentic: of
// the right format, of least to most bytes and with the id of a key that we have.
// The token is scratch; visit may keep it. candidates returns whether there was
// any cookie of the name.
func (m *core) candidates(h http.Header, format byte, least, most int, visit func(token *[]byte) (kept bool)) (came bool) {
	keys := m.signing()
	var values [maxCandidates]string
	tried := values[:0]
	m.cookie.values(h, func(value string) bool {
		came = true
		if slices.Contains(tried, value) {
			return true // copies of one cookie do not hide another
		}
		if len(value) < canonical.EncodedLen(least) || len(value) > canonical.EncodedLen(most) {
			return true
		}
		var start [6]byte // a whole number of base64's groups, with the prefix in it
		if _, err := canonical.Decode(start[:], []byte(value[:8])); err != nil || start[0] != format || !keys.knows(start[:]) {
			return true
		}
		buf := scratch.Get().(*[]byte)
		var ok bool
		kept := false
		if *buf, ok = appendToken((*buf)[:0], value); ok {
			kept = visit(buf)
			tried = append(tried, value)
		}
		if !kept {
			scratch.Put(buf)
		}
		return len(tried) < maxCandidates
	})
	return came
}

// An arrival is what a request with cookies of our name brought, in store mode.
type arrival struct {
	ids       []ID // all authentic ones
	ambiguous bool
	reason    Reason // why there is no record
	found     *found
}

// A found record is that of the id in the cookie.
type found struct {
	idCookie
	record Record
}

// An idCookie is an authentic cookie with an id.
type idCookie struct {
	identity
	created, expires int64
	oldKey           bool
}

// What the cookies of each format take, in bytes. An id has its one size.
const (
	idSize      = prefixSize + 5 + 5 + 32 + macSize
	leastSigned = prefixSize + headerSize + 2 + macSize
	leastSealed = prefixSize + nonceSize + headerSize + 2 + tagSize
)

// mostData is the most that a cookie with a session in it takes.
var mostData = canonical.DecodedLen(maxCookieSize)

// load looks for the session's id in the cookies and for its record in the
// store.
func (x *exchange) load() error {
	m := x.m
	var claims []idCookie
	keys := m.signing()
	came := m.candidates(x.req.Header, formatID, idSize, idSize, func(token *[]byte) (kept bool) {
		body, old, ok := keys.verify(*token)
		if !ok {
			return false
		}
		c := idCookie{created: readTime(body), expires: readTime(body[5:]), oldKey: old}
		copy(c.secret[:], body[10:])
		c.id = hashOf(c.secret)
		for i := range claims {
			if claims[i].id == c.id {
				return false // the same cookie twice, or re-issued under another key
			}
		}
		claims = append(claims, c)
		return false
	})
	if !came {
		return nil
	}
	a := &arrival{reason: ReasonForged, ambiguous: len(claims) > 1}
	x.arrived = a
	for _, c := range claims {
		a.ids = append(a.ids, c.id)
	}
	ctx, cancel := m.bounded(x.Context) // in which the session cannot be asked for yet
	defer cancel()
	now := time.Now()
	for len(claims) > 0 {
		c := takeNewest(&claims)
		if c.expires <= now.Unix() {
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
		a.found = &found{idCookie: c, record: rec}
		return nil
	}
	return nil
}

// takeNewest removes from claims the one that was created last; of equals the
// first, which browsers send first since its path is the longest.
func takeNewest(claims *[]idCookie) idCookie {
	best := 0
	for i, c := range *claims {
		if c.created > (*claims)[best].created {
			best = i
		}
	}
	c := (*claims)[best]
	*claims = append((*claims)[:best], (*claims)[best+1:]...)
	return c
}

// known returns every id that the request's cookies named.
func (x *exchange) known() []ID {
	if x.arrived == nil {
		return nil
	}
	return x.arrived.ids
}

// open makes the session of the request: the one that the cookie or the store
// holds, or a new one. The gate is held.
func (x *exchange) open() *state {
	m := x.m
	s := m.newSession()
	s.x, s.m, s.base = x, m, m.none
	s.sent, s.ended = x.sent.Load(), x.ended.Load()
	var err error
	if m.store != nil {
		s.reason, err = s.openRecord(x.arrived)
	} else {
		s.reason, err = s.openCookie()
	}
	if s.reason == ReasonNone {
		s.stored = true
		s.life = life{created: s.base.created, expires: s.base.expires, lifetime: s.base.lifetime}
		s.visible = s.base.flashes
		return s
	}
	if s.reason != ReasonNoCookie {
		s.event(Event{Kind: EventRefused, Reason: s.reason, Err: err})
	} else if m.importer != nil {
		s.adopt()
		return s
	}
	if err != nil {
		value(s.data).SetZero() // a decoder may have filled half of it
	}
	// The id is left to what was refused: a newer program may read it.
	s.base, s.id = m.none, identity{}
	return s
}

func (s *state) openRecord(a *arrival) (Reason, error) {
	if a == nil {
		return ReasonNoCookie, nil
	}
	s.came = true
	if a.ambiguous {
		s.event(Event{Kind: EventAmbiguous})
	}
	if a.found == nil {
		if len(a.ids) > 0 {
			s.id.id = a.ids[0]
		}
		return a.reason, nil
	}
	s.id, s.oldKey = a.found.identity, a.found.oldKey
	snap, reason, err := s.m.read(s.id.id, a.found.record, s.data, time.Now())
	if reason != ReasonNone {
		return reason, err
	}
	s.base = snap
	s.noteUpgrade()
	return ReasonNone, nil
}

func (s *state) noteUpgrade() {
	if int(s.base.schema) < s.m.codec.version {
		s.event(Event{Kind: EventUpgraded, Err: fmt.Errorf("from schema version %d to %d", s.base.schema, s.m.codec.version)})
	}
}

// read opens the record of an id and fills data, a pointer to a zero T.
func (m *core) read(id ID, rec Record, data any, now time.Time) (*snapshot, Reason, error) {
	snap := &snapshot{ID: id, version: rec.Version, ends: rec.Expires}
	body, authentic, err := m.openBody(id, rec.Data)
	if err != nil {
		return snap, ReasonUndecodable, err
	}
	snap.header = parseHeader(body)
	switch {
	case snap.id != (identity{id: id}).halfID():
		return snap, ReasonUndecodable, errors.New("it is the record of another session")
	case snap.expires <= now.Unix():
		return snap, ReasonExpired, nil
	}
	reason, err := m.readBody(snap, body, data, authentic)
	return snap, reason, err
}

// openBody takes a record out of its envelope.
func (m *core) openBody(id ID, b []byte) (body []byte, authentic bool, err error) {
	switch {
	case !m.encrypt && len(b) > headerSize && b[0] == formatRecord:
		return b[1:], false, nil
	case m.encrypt && len(b) > prefixSize+nonceSize+headerSize+tagSize && b[0] == formatSealedRecord:
		if body, _, ok := m.signing().open(b, id[:]); ok {
			return body, true, nil
		}
		return nil, false, errors.New("its seal is broken, or of a key that is not in the ring")
	}
	return nil, false, errors.New("it is no record of this kind of session; was Config.Encrypt changed?")
}

// readBody reads what follows the header, which snap has already.
func (m *core) readBody(snap *snapshot, body []byte, data any, authentic bool) (reason Reason, err error) {
	if int(snap.schema) > m.codec.version {
		return ReasonNewer, fmt.Errorf("it has schema version %d, this program %d", snap.schema, m.codec.version)
	}
	flashes, rest, err := readFlashes(body[headerSize:])
	if err != nil {
		return ReasonUndecodable, err
	}
	snap.flashes = flashes
	if snap.data, reason, err = m.codec.load(data, snap.header, rest, authentic); err == nil {
		snap.hash = m.codec.hash(data)
	}
	return reason, err
}

// openCookie verifies and decodes the session in the cookie: of several that are
// authentic, the one that was used last.
func (s *state) openCookie() (Reason, error) {
	m := s.m
	format, least := byte(formatSigned), leastSigned
	if m.encrypt {
		format, least = formatSealed, leastSealed
	}
	keys := m.signing()
	reason := ReasonForged
	var best *snapshot
	var held *[]byte // that best.body is a part of
	ambiguous := false
	s.came = m.candidates(s.x.req.Header, format, least, mostData, func(token *[]byte) (kept bool) {
		var body []byte
		var old, ok bool
		if m.encrypt {
			body, old, ok = keys.open(*token, nil)
		} else {
			body, old, ok = keys.verify(*token)
		}
		if !ok {
			return false
		}
		h := parseHeader(body)
		r := m.ended(h, time.Now())
		ambiguous = ambiguous || best != nil
		if best != nil && (r != ReasonNone || reason == ReasonNone && h.used <= best.used) {
			return false
		}
		best, held = &snapshot{header: h, body: body}, token
		reason, s.oldKey = r, old
		return true
	})
	if ambiguous {
		s.event(Event{Kind: EventAmbiguous})
	}
	switch {
	case !s.came:
		return ReasonNoCookie, nil
	case reason == ReasonForged:
		return reason, nil
	}
	s.base = best
	copy(s.id.id[:], best.id[:])
	if reason != ReasonNone {
		return reason, nil
	}
	reason, err := m.readBody(best, best.body, s.data, true)
	best.data = nil // of no use: nobody else changes a cookie
	if m.idle > 0 || s.oldKey {
		best.body = bytes.Clone(best.body) // it may be re-issued
	} else {
		best.body = nil
	}
	scratch.Put(held)
	if reason != ReasonNone {
		return reason, err
	}
	s.noteUpgrade()
	return ReasonNone, nil
}

// ended says whether a session in a cookie is over.
func (m *core) ended(h header, now time.Time) Reason {
	switch {
	case h.expires <= now.Unix():
		return ReasonExpired
	case m.idle > 0 && now.Sub(time.Unix(h.used, 0)) >= m.idle:
		return ReasonIdle
	}
	return ReasonNone
}

// adopt makes a new session of what Config.Import gives.
func (s *state) adopt() {
	var data any
	ok, err := false, error(nil)
	func() {
		defer caught(&err, "Config.Import")
		data, ok = s.m.importer(s.x.req)
	}()
	if err != nil {
		s.event(Event{Kind: EventRefused, Reason: ReasonUndecodable, Err: err})
		return
	}
	if !ok {
		return
	}
	if _, err := s.m.codec.encode(nil, data); err != nil {
		reason := ReasonUndecodable
		if errors.Is(err, ErrInvalid) {
			reason = ReasonInvalid
		}
		s.event(Event{Kind: EventRefused, Reason: reason, Err: fmt.Errorf("imported session: %w", err)})
		return
	}
	value(s.data).Set(value(data))
	s.imported, s.reason = true, ReasonImported
}
