package sessions

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A change is what a request did to its session since that was last stored, as
// it stands when a commit begins. The commit works on it while other goroutines
// of the request may go on.
type change struct {
	epoch           int
	id              identity // that the session is to have
	life            life
	moved           bool
	prolonged       bool
	imported        bool
	added, consumed []Flash
	steps           []step
	base            snapshot
	stored          bool
	hash            uint64
	mine            []byte // Data, encoded
}

// A version is what a commit tries to store: at first this request's own view,
// after a conflict that replayed on what another request stored.
type version struct {
	data    any    // a *T: the session's own Data, or a merged copy
	encoded []byte // of it
	flashes []Flash
	dropped int
	life    life
}

// discarded is the error of changes that met a session which was destroyed,
// revoked or moved meanwhile, or which this program cannot read.
type discarded struct{ err error }

func (d *discarded) Error() string { return d.err.Error() }
func (d *discarded) Unwrap() error { return d.err }

// save is Session.Save.
func (s *state) save(ctx context.Context) error {
	if s.tooLateFor("Save") {
		return fmt.Errorf("sessions: save session %s: %w: the request has ended", s.publicID(), ErrTooLate)
	}
	ctx, cancel := s.m.bounded(ctx)
	defer cancel()
	x := s.x
	x.gate.enter()
	var err error
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case s.m.store == nil && x.writer.phase == open:
		err = s.rehearse()
	case x.writer.phase == open:
		h := x.writer.inner.Header()
		addVary(h)
		err = s.flush(ctx, h, false)
	default:
		err = s.flush(ctx, nil, true)
	}
	x.gate.leave()
	s.emit()
	if err != nil {
		return fmt.Errorf("sessions: save session %s: %w", s.publicID(), err)
	}
	return nil
}

// rehearse reports what a commit in cookie mode would.
func (s *state) rehearse() error {
	now := time.Now()
	c := s.change(now)
	if s.over() || !c.dirty() {
		return nil
	}
	v, err := s.own(c)
	if err != nil {
		return err
	}
	_, err = s.cookieOf(c, v, now)
	return err
}

func (s *state) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.destroyed
}

// flush brings the session to where it is kept. h is the response's header, nil
// once that has left; pinned says that a new id could not reach the browser.
// The gate is held.
func (s *state) flush(ctx context.Context, h http.Header, pinned bool) error {
	now := time.Now()
	if err := s.bury(ctx, h); err != nil || s.over() {
		return err
	}
	if s.untouched() {
		s.refresh(ctx, h, now)
		return nil
	}
	c := s.change(now)
	s.mu.Lock()
	gone, lateProlonged := s.gone, s.lateProlonged
	if c.moved && pinned {
		s.lateMove = true
	}
	lateMove := s.lateMove
	s.mu.Unlock()
	switch {
	case lateMove:
		return fmt.Errorf("%w: RegenerateID when the new id cannot reach the browser; what the request changed is not stored", ErrTooLate)
	case gone && c.dirty():
		return s.discard(c, ReasonUnknown, ErrNotFound)
	case gone:
		return &discarded{ErrNotFound}
	case !c.dirty():
	case h == nil && (s.m.store == nil || !c.stored):
		return fmt.Errorf("%w: the session was changed after the headers had left", ErrTooLate)
	default:
		v, err := s.own(c)
		if err != nil {
			return err
		}
		if s.m.store == nil {
			err = s.storeInCookie(h, c, v, now)
		} else {
			err = s.storeRecord(ctx, h, c, v)
		}
		if err != nil {
			return err
		}
	}
	if lateProlonged {
		return fmt.Errorf("%w: SetLifetime after the headers had left", ErrTooLate)
	}
	return nil
}

// untouched says that a request did nothing to the session, as most do not.
func (s *state) untouched() bool {
	s.mu.Lock()
	acted := len(s.added)+len(s.consumed) > 0 || s.moved || s.prolonged || s.imported || s.gone || s.lateMove || s.lateProlonged
	hash := s.base.hash
	s.mu.Unlock()
	return !acted && s.m.codec.hash(s.data) == hash
}

// change takes down what there is to store.
func (s *state) change(now time.Time) *change {
	s.mu.Lock()
	c := &change{
		epoch: s.epoch, moved: s.moved, prolonged: s.prolonged && s.stored, imported: s.imported,
		added: slices.Clip(s.added), consumed: slices.Clip(s.consumed), steps: slices.Clip(s.steps),
		base: s.base, stored: s.stored,
	}
	s.mu.Unlock()
	c.hash = s.m.codec.hash(s.data)
	if c.dirty() {
		s.mu.Lock()
		s.draw()
		s.begin(now)
		c.id, c.life = s.id, s.life
		s.mu.Unlock()
	}
	return c
}

func (c *change) dirty() bool {
	return c.hash != c.base.hash || len(c.added)+len(c.consumed) > 0 || c.moved || c.prolonged || c.imported
}

// own is the version that a commit tries first.
func (s *state) own(c *change) (*version, error) {
	var err error
	if c.mine, err = s.m.codec.encode(nil, s.data); err != nil {
		return nil, err
	}
	v := &version{data: s.data, encoded: c.mine, life: c.life}
	v.flashes, v.dropped = mergeFlashes(c.base.flashes, c.consumed, c.added)
	return v, nil
}

// bury deletes the records that Destroy and Reset ended, and then expires the
// cookie: a user must see that he is still signed in if that failed.
func (s *state) bury(ctx context.Context, h http.Header) error {
	s.mu.Lock()
	ending, doomed := s.ending, s.doomed
	s.mu.Unlock()
	if !ending {
		return nil
	}
	if s.m.store == nil && h == nil {
		s.buried(0)
		return fmt.Errorf("%w: Destroy or Reset after the headers had left", ErrTooLate)
	}
	for _, id := range doomed {
		if err := s.m.store.Delete(ctx, id, 0); err != nil {
			return &storeError{"destroy", id, err}
		}
	}
	s.buried(len(doomed))
	if h != nil {
		line := ""
		if s.came {
			line = s.m.cookie.expire()
		}
		s.x.place(h, line)
		s.x.expireImports(h)
	}
	return nil
}

func (s *state) buried(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doomed = s.doomed[n:]
	s.ending = len(s.doomed) > 0
}

// refresh notes the use of an unchanged session, at most once in a tenth of the
// idle timeout, and re-issues a cookie that an older key signed. What fails here
// is an event, and no new cookie.
func (s *state) refresh(ctx context.Context, h http.Header, now time.Time) {
	idle := s.m.idle
	s.mu.Lock()
	if !s.stored || idle == 0 && !s.oldKey {
		s.mu.Unlock()
		return
	}
	base, oldKey, id := s.base, s.oldKey, s.id
	s.mu.Unlock()
	if s.m.store == nil {
		if h == nil || !oldKey && now.Sub(time.Unix(base.used, 0)) < idle/10 || base.body == nil {
			return
		}
		body := slices.Clone(base.body)
		appendTime(body[5:5], now.Unix())
		line, err := s.m.dataCookie(body, &base.header, now)
		if err != nil {
			s.queue(Event{Kind: EventFailed, Err: err})
			return
		}
		s.x.place(h, line)
		return
	}
	reissue := oldKey && h != nil
	ends := base.ends
	if last := ends.Add(-idle); idle > 0 && now.Sub(last) >= idle/10 {
		if later := s.m.recordEnd(base.expires, now); later.After(ends) {
			ends = later
		}
	}
	if !reissue && ends.Equal(base.ends) {
		return
	}
	switch err := s.m.store.Touch(ctx, base.ID, ends); {
	case errors.Is(err, ErrNotFound):
		_ = s.discard(nil, ReasonUnknown, err)
	case err != nil:
		s.queue(Event{Kind: EventFailed, Err: &storeError{"touch", base.ID, err}})
	default:
		s.mu.Lock()
		s.base.ends = ends
		s.oldKey = oldKey && !reissue
		s.mu.Unlock()
		if reissue {
			s.placeID(h, id, life{created: base.created, expires: base.expires, lifetime: base.lifetime}, now)
		}
	}
}

// recordEnd is Record.Expires: the absolute end, or the idle end if that is
// earlier, to the millisecond.
func (m *core) recordEnd(expires int64, now time.Time) time.Time {
	end := time.Unix(expires, 0)
	if idle := now.Add(m.idle).Truncate(time.Millisecond); m.idle > 0 && idle.Before(end) {
		return idle
	}
	return end
}

// discard gives up the changes of a request whose session is gone, and all that
// it may make later.
func (s *state) discard(c *change, reason Reason, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	s.event(Event{Kind: EventDiscarded, Reason: reason, Err: err})
	if c != nil && s.epoch == c.epoch {
		s.base.hash = c.hash // these need no second event
		s.moved, s.prolonged = false, false
		s.added, s.consumed = s.added[len(c.added):], s.consumed[len(c.consumed):]
	}
	return &discarded{err}
}

// headerOf is that of a body for the session.
func (m *core) headerOf(id identity, l life, now time.Time) header {
	return header{
		created: l.created, used: now.Unix(), expires: l.expires, lifetime: l.lifetime,
		schema: uint16(m.codec.version), shape: m.codec.shape.Fingerprint(), id: id.halfID(),
	}
}

func (v *version) appendBody(b []byte, h header) []byte {
	return append(appendFlashes(h.append(b), v.flashes), v.encoded...)
}

// flashSize is at least what appendFlashes needs for the messages.
func (v *version) flashSize() (n int) {
	for _, f := range v.flashes {
		n += 10 + len(f.Kind) + len(f.Message)
	}
	return n
}

// dataCookie returns the Set-Cookie of a body, whose header is h.
func (m *core) dataCookie(body []byte, h *header, now time.Time) (string, error) {
	keys := m.signing()
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	if m.encrypt {
		*buf = keys.appendSealed(keys.appendPrefix((*buf)[:0], formatSealed), body, nil)
	} else {
		*buf = keys.appendMAC(append(keys.appendPrefix((*buf)[:0], formatSigned), body...))
	}
	return m.cookie.line(*buf, secondsTo(h.expires, now), h.lifetime != 0)
}

// idCookie returns the Set-Cookie of an id.
func (m *core) idCookie(id identity, l life, now time.Time) (string, error) {
	keys := m.signing()
	b := appendTime(keys.appendPrefix(make([]byte, 0, idSize), formatID), l.created)
	b = keys.appendMAC(append(appendTime(b, l.expires), id.secret[:]...))
	return m.cookie.line(b, secondsTo(l.expires, now), l.lifetime != 0)
}

func (s *state) cookieOf(c *change, v *version, now time.Time) (string, error) {
	h := s.m.headerOf(c.id, v.life, now)
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	*buf = v.appendBody((*buf)[:0], h)
	return s.m.dataCookie(*buf, &h, now)
}

func (s *state) storeInCookie(h http.Header, c *change, v *version, now time.Time) error {
	line, err := s.cookieOf(c, v, now)
	if err != nil {
		return err
	}
	s.x.place(h, line)
	s.settle(h, c, v, snapshot{header: s.m.headerOf(c.id, v.life, now), data: v.encoded, flashes: v.flashes})
	return nil
}

// placeID puts the cookie with the id into the header.
func (s *state) placeID(h http.Header, id identity, l life, now time.Time) {
	// An id does not grow, so that New has seen all that could be too large.
	line, err := s.m.idCookie(id, l, now)
	if err != nil {
		s.queue(Event{Kind: EventFailed, Err: err})
		return
	}
	s.x.place(h, line)
}

// storeRecord stores a version in the Store: by Create for a new session, by
// Update for one that has a record, and by both for one whose id is new.
func (s *state) storeRecord(ctx context.Context, h http.Header, c *change, v *version) error {
	var snap snapshot
	var err error
	switch {
	case !c.stored:
		snap, err = s.create(ctx, c, v)
	case c.moved:
		snap, v, err = s.move(ctx, c, v)
	default:
		snap, v, err = s.replace(ctx, c, v)
	}
	if err != nil {
		return err
	}
	if h != nil && (!c.stored || c.moved || c.prolonged || s.oldKey) {
		s.placeID(h, c.id, v.life, time.Now())
	}
	s.settle(h, c, v, snap)
	return nil
}

// recordOf makes what the Store keeps of a version.
func (m *core) recordOf(id identity, v *version, now time.Time) (rec Record, snap snapshot, err error) {
	rec.Expires = m.recordEnd(v.life.expires, now)
	if rec.Owner, err = m.ownerOf(v.data); err != nil {
		return rec, snap, err
	}
	snap = snapshot{header: m.headerOf(id, v.life, now), ID: id.id, ends: rec.Expires, data: v.encoded, flashes: v.flashes}
	rec.Data = m.sealRecord(id.id, v, snap.header)
	return rec, snap, nil
}

// sealRecord puts a body into the envelope of a record.
func (m *core) sealRecord(id ID, v *version, h header) []byte {
	if !m.encrypt {
		b := make([]byte, 0, 1+headerSize+3+len(v.encoded)+v.flashSize())
		return v.appendBody(append(b, formatRecord), h)
	}
	keys := m.signing()
	return keys.appendSealed(keys.appendPrefix(nil, formatSealedRecord), v.appendBody(nil, h), id[:])
}

func (m *core) ownerOf(data any) (owner string, err error) {
	if m.owner == nil {
		return "", nil
	}
	defer caught(&err, "Config.Owner")
	return m.owner(data), nil
}

// maxDraws bounds the ids that are drawn for one session: a store that has the
// first already is not believed for ever.
const maxDraws = 3

// create stores a record under c.id, and under another id if that is taken.
func (s *state) create(ctx context.Context, c *change, v *version) (snapshot, error) {
	for draws := 1; ; draws++ {
		rec, snap, err := s.m.recordOf(c.id, v, time.Now())
		if err != nil {
			return snap, err
		}
		snap.version, err = s.m.store.Create(ctx, c.id.id, rec)
		switch {
		case err == nil:
			return snap, nil
		case errors.Is(err, ErrExists) && draws < maxDraws:
			c.id = newIdentity()
			continue
		case !errors.Is(err, ErrExists):
			s.undo(ctx, c.id.id) // it may have been stored all the same
		}
		return snap, &storeError{"create", c.id.id, err}
	}
}

// undo deletes a record that must not stay, as far as that is possible.
func (s *state) undo(ctx context.Context, id ID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	_ = s.m.store.Delete(ctx, id, 0) // the error that led here is the one to report
}

// undoTimeout comes on top of storeTimeout, which may be over by then.
const undoTimeout = time.Second

// replace updates the record, on the newest state if another request was faster.
func (s *state) replace(ctx context.Context, c *change, v *version) (snapshot, *version, error) {
	id, expected := c.base.ID, c.base.version
	for try := 0; ; try++ {
		rec, snap, err := s.m.recordOf(c.id, v, time.Now())
		if err != nil {
			return snap, v, err
		}
		rec.Version = expected
		snap.version, err = s.m.store.Update(ctx, id, rec)
		switch {
		case err == nil:
			return snap, v, nil
		case errors.Is(err, ErrNotFound):
			return snap, v, s.discard(c, ReasonUnknown, err)
		case !errors.Is(err, ErrConflict):
			return snap, v, &storeError{"update", id, err}
		}
		if err := backOff(ctx, try); err != nil {
			return snap, v, &storeError{"update", id, fmt.Errorf("%w: %w", ErrConflict, err)}
		}
		if v, expected, err = s.rebase(ctx, c, id); err != nil {
			return snap, v, err
		}
	}
}

// move stores the session under its new id and deletes the old record at the
// version that it knows, so that of two requests that move it one succeeds and
// a logout is never outlived. There are never two records that stay.
func (s *state) move(ctx context.Context, c *change, v *version) (snapshot, *version, error) {
	snap, err := s.create(ctx, c, v)
	if err != nil {
		return snap, v, err
	}
	old, expected := c.base.ID, c.base.version
	for try := 0; ; try++ {
		err := s.m.store.Delete(ctx, old, expected)
		if err == nil {
			return snap, v, nil
		}
		if errors.Is(err, ErrConflict) {
			if err = backOff(ctx, try); err == nil {
				v, expected, err = s.rebase(ctx, c, old)
			} else {
				err = &storeError{"delete", old, fmt.Errorf("%w: %w", ErrConflict, err)}
			}
			if err == nil {
				snap, err = s.overwrite(ctx, c, v, snap.version)
			}
			if err == nil {
				continue
			}
		} else if errors.Is(err, ErrNotFound) {
			err = s.discard(c, ReasonUnknown, err)
		} else {
			err = &storeError{"delete", old, err}
		}
		s.undo(ctx, c.id.id)
		return snap, v, err
	}
}

// overwrite brings a merged version to the new record, which nobody else has a
// cookie for; if it was revoked already, the session is gone.
func (s *state) overwrite(ctx context.Context, c *change, v *version, expected uint64) (snapshot, error) {
	id := c.id
	rec, snap, err := s.m.recordOf(id, v, time.Now())
	if err != nil {
		return snap, err
	}
	rec.Version = expected
	snap.version, err = s.m.store.Update(ctx, id.id, rec)
	switch {
	case err == nil:
		return snap, nil
	case errors.Is(err, ErrNotFound):
		return snap, s.discard(c, ReasonUnknown, err)
	}
	return snap, &storeError{"update", id.id, err}
}

// rebase loads what another request stored and replays this one's changes on
// it, always from this one's own beginning.
func (s *state) rebase(ctx context.Context, c *change, id ID) (*version, uint64, error) {
	rec, err := s.m.store.Load(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return nil, 0, s.discard(c, ReasonUnknown, err)
	}
	if err != nil {
		return nil, 0, &storeError{"load", id, err}
	}
	theirs, reason, err := s.m.read(id, rec, s.m.codec.new(), time.Now())
	if reason != ReasonNone {
		return nil, 0, s.discard(c, reason, fmt.Errorf("%w: the newest state cannot be read (%s): %v", ErrConflict, reason, err))
	}
	v, err := s.replay(c, &theirs)
	if err != nil {
		return nil, 0, err
	}
	s.queue(Event{Kind: EventMerged})
	return v, rec.Version, nil
}

func (s *state) replay(c *change, theirs *snapshot) (*version, error) {
	codec := &s.m.codec
	cur, err := codec.onto(s.data, theirs.data)
	if err != nil {
		return nil, err
	}
	from := c.base.data
	for _, step := range c.steps {
		if err := codec.mergeInto(cur, from, step.before); err != nil {
			return nil, err
		}
		if err := repeat(step.f, cur); err != nil {
			return nil, err
		}
		from = step.after
	}
	if err := codec.mergeInto(cur, from, c.mine); err != nil {
		return nil, err
	}
	v := &version{data: cur, life: s.lifeAfter(c, theirs)}
	if v.encoded, err = codec.encode(nil, cur); err != nil {
		return nil, fmt.Errorf("merged with a parallel change: %w", err)
	}
	v.flashes, v.dropped = mergeFlashes(theirs.flashes, c.consumed, c.added)
	return v, nil
}

func repeat(f func(any), data any) (err error) {
	defer caught(&err, "the function of an Update, repeated after a conflict,")
	f(data)
	return nil
}

// lifeAfter is the newest record's, but for what this request asked for.
func (s *state) lifeAfter(c *change, theirs *snapshot) life {
	l := life{created: theirs.created, expires: theirs.expires, lifetime: theirs.lifetime}
	if c.moved {
		l.created = c.life.created
		l.expires = endOf(time.Unix(c.life.created, 0), s.m.lengthOf(theirs.lifetime))
	}
	if c.prolonged {
		l.expires, l.lifetime = c.life.expires, c.life.lifetime
	}
	return l
}

// settle notes that a version was stored.
func (s *state) settle(h http.Header, c *change, v *version, snap snapshot) {
	merged := v.data != s.data
	if merged {
		value(s.data).Set(value(v.data))
	}
	snap.hash = c.hash
	if merged {
		snap.hash = s.m.codec.hash(s.data)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.dropped > 0 {
		s.event(Event{Kind: EventFlashDropped, Err: fmt.Errorf("%d of the oldest, more than %d were waiting", v.dropped, maxFlashes)})
	}
	if s.ending { // since this began
		s.doomed = append(s.doomed, snap.ID)
		return
	}
	if c.imported && h != nil {
		s.x.expireImports(h)
	}
	s.base, s.stored = snap, true
	s.added, s.consumed, s.steps = s.added[len(c.added):], s.consumed[len(c.consumed):], s.steps[len(c.steps):]
	s.imported = false
	s.oldKey = s.oldKey && h == nil
	if s.epoch == c.epoch {
		s.moved, s.prolonged = false, false
		s.id, s.life = c.id, v.life
	} else if s.id != c.id {
		s.moved = true
	}
	if !c.stored {
		s.event(Event{Kind: EventStarted, Reason: s.reason})
	}
}

// backOff waits a little before the next try, so that requests that conflict
// find a gap: up to 1 ms at first, up to 32 ms later.
func backOff(ctx context.Context, try int) error {
	t := time.NewTimer(rand.N(time.Millisecond << min(try, 5)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// place makes line the one Set-Cookie of ours in the header, "" for none. It
// knows its own line only: a cookie that the handler set stays.
func (x *exchange) place(h http.Header, line string) {
	if x.line != "" {
		x.remove(h)
	}
	x.line = line
	if line != "" {
		h["Set-Cookie"] = append(h["Set-Cookie"], line)
		keepPrivate(h)
	}
}

func (x *exchange) remove(h http.Header) {
	lines := slices.DeleteFunc(h["Set-Cookie"], func(l string) bool { return l == x.line })
	if len(lines) == 0 {
		delete(h, "Set-Cookie")
	} else {
		h["Set-Cookie"] = lines
	}
}

// placeAgain makes sure, when the headers leave, of a line that a Save placed
// before.
func (x *exchange) placeAgain(h http.Header) {
	if x.line != "" {
		x.place(h, x.line)
	}
}

// withoutCookie calls f, which sends an informational response: the cookie
// belongs into the final one.
func (x *exchange) withoutCookie(f func()) {
	if x.line == "" {
		f()
		return
	}
	h := x.writer.inner.Header()
	x.remove(h)
	f()
	x.placeAgain(h)
}

// expireImports expires the cookies of the library that came before, if the
// request brought them.
func (x *exchange) expireImports(h http.Header) {
	if x.imported {
		return
	}
	x.imported = true
	for _, c := range x.m.importGone {
		if _, err := x.req.Cookie(c.Name); err == nil {
			h.Add("Set-Cookie", c.String())
			keepPrivate(h)
		}
	}
}

// addVary tells caches that the response depends on the cookie.
func addVary(h http.Header) {
	for _, line := range h["Vary"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name == "*" || strings.EqualFold(name, "Cookie") {
				return
			}
		}
	}
	h["Vary"] = append(h["Vary"], "Cookie")
}

// keepPrivate keeps shared caches away from a response with Set-Cookie, which by
// itself does not (RFC 9111, section 7.3). What the handler said stays, but for
// what would hand one visitor's cookie to another.
func keepPrivate(h http.Header) {
	lines := h["Cache-Control"]
	if len(lines) == 0 {
		h["Cache-Control"] = []string{"private"}
		return
	}
	var kept []string
	done := false
	for _, line := range lines {
		for directive := range strings.SplitSeq(line, ",") {
			directive = strings.TrimSpace(directive)
			name, _, _ := strings.Cut(directive, "=")
			switch strings.ToLower(name) {
			case "", "public", "s-maxage":
				continue
			case "no-store":
				done = true
			case "private":
				done = done || directive == name // private="X" is about one header
			}
			kept = append(kept, directive)
		}
	}
	if !done {
		kept = append(kept, "private")
	}
	h["Cache-Control"] = []string{strings.Join(kept, ", ")}
}
