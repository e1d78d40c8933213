package sessions

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
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
	case s.m.store == nil && !x.sent.Load():
		err = s.rehearse()
	case !x.sent.Load():
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
	ending, doomed, orphans := s.ending, s.doomed, s.orphans
	s.orphans = nil
	s.mu.Unlock()
	for _, id := range orphans {
		_ = s.m.store.Delete(ctx, id, 0) // nobody has a cookie for it
	}
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
	err := s.m.store.Touch(ctx, base.ID, ends)
	s.mu.Lock()
	s.base.ends = ends // also if that failed: once in a request is enough
	s.oldKey = oldKey && !reissue
	s.mu.Unlock()
	switch {
	case errors.Is(err, ErrNotFound):
		_ = s.discard(nil, ReasonUnknown, err)
	case err != nil:
		s.queue(Event{Kind: EventFailed, Err: &storeError{"touch", base.ID, err}})
	default:
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
