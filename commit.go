package sessions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/keys"
	"github.com/typedsessions/sessions/internal/wait"
	"github.com/typedsessions/sessions/internal/wire"
)

// A change is what a request did to its session since that was last stored, as
// it stands when a commit begins. The commit works on it while other goroutines
// of the request may go on.
type change struct {
	epoch           int32
	identity        *identity // that the session is to have; nil: that of base, a cookie
	life            life
	moved           bool
	prolonged       bool
	imported        bool
	gone            bool // as in state, the two below too
	lateMove        bool
	lateProlonged   bool
	added, consumed []wire.Flash
	steps           []step
	base            *snapshot
	stored          bool
	hash            uint64
	mine            []byte // Data, encoded
	first           version
	skip            landing
}

// A landing counts what of a change an earlier attempt turned out to have
// stored: it is no longer in the change's lists.
type landing struct{ added, consumed, steps int }

// done counts all of the change, with what landed before.
func (c *change) done() landing {
	return landing{c.skip.added + len(c.added), c.skip.consumed + len(c.consumed), c.skip.steps + len(c.steps)}
}

// A version is what a commit tries to store: at first this request's own view,
// after a conflict that replayed on what another request stored.
type version struct {
	data    any    // a *T: the session's own Data, or a merged copy
	encoded []byte // of it
	flashes []wire.Flash
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
	ctx, cancel := wait.Limit(ctx, storeTimeout) // also over MemoryStore: it may wait for an Update
	defer cancel()
	err := s.saveBefore(ctx)
	s.emit()
	if err != nil {
		return fmt.Errorf("sessions: save session %s: %w", s.publicID(), err)
	}
	return nil
}

func (s *state) saveBefore(ctx context.Context) error {
	if s.tooLateFor("Save") {
		return fmt.Errorf("%w: the request has ended", ErrTooLate)
	}
	if err := s.x.gate.LockBefore(ctx); err != nil {
		return err
	}
	defer s.x.gate.Unlock()
	if s.tooLateFor("Save") {
		return fmt.Errorf("%w: the request has ended", ErrTooLate)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	sendable := !s.hasLeft() && !s.x.timedOut()
	if s.m.store == nil && sendable {
		return s.rehearse()
	}
	within := func() (context.Context, context.CancelFunc) { return ctx, func() {} }
	return s.flush(within, flushing{sendable: sendable, pinned: !sendable, proof: true})
}

// rehearse reports what a commit in cookie mode would.
func (s *state) rehearse() error {
	now := time.Now()
	var c change
	s.take(&c, s.look(), now, false)
	if s.over() || !c.dirty() {
		return nil
	}
	_, _, err := s.cookieOf(s.own(&c), &c, now)
	return err
}

func (s *state) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.destroyed
}

// flushing says how a flush may go about it.
type flushing struct {
	leaving  bool // the headers are, or have left
	sendable bool // a cookie can still go with the headers
	pinned   bool // but no new id would reach the browser
	proof    bool // an unchanged session is asked for in the store
}

// flush brings the session to where it is kept, and readies its cookie. The gate
// is held. within gives the time that it has, for which a session that was only
// read needs no timer.
func (s *state) flush(within func() (context.Context, context.CancelFunc), how flushing) error {
	s.mu.Lock()
	s.clear()
	s.seen = s.acts
	s.sent = s.sent || how.leaving
	idle, kept, base, seen := s.idle(), s.keptAsIs(how), s.base, look{epoch: s.epoch}
	s.mu.Unlock()
	seen.hash = s.hashSince(base)
	same := idle && seen.hash == base.hash // as most are
	if same && kept {
		return nil
	}
	ctx, cancel := within()
	defer cancel()
	if same {
		return s.refresh(ctx, how)
	}
	if err := s.bury(ctx, how.sendable); err != nil || s.over() {
		return err
	}
	now := time.Now()
	var changed change // not on the heap: BenchmarkRequest/W, 350 bytes
	c := &changed
	s.take(c, seen, now, how.pinned)
	switch {
	case c.gone && c.dirty():
		return s.discard(c, ReasonUnknown, ErrNotFound)
	case c.gone:
		return &discarded{ErrNotFound}
	case c.lateMove:
		return fmt.Errorf("%w: RegenerateID when the new id cannot reach the browser; what the request changed is not stored", ErrTooLate)
	case !c.dirty() && !c.lateProlonged:
		return s.refresh(ctx, how)
	case !c.dirty():
	case !how.sendable && (s.m.store == nil || !c.stored || c.prolonged):
		return fmt.Errorf("%w: the session was changed when its cookie could not be sent any more", ErrTooLate)
	default:
		if err := s.write(ctx, c, now); err != nil {
			return err
		}
	}
	if c.lateProlonged {
		return fmt.Errorf("%w: SetLifetime after the headers had left", ErrTooLate)
	}
	// A function of an Update, repeated after a conflict, may have ended it.
	return s.bury(ctx, how.sendable)
}

func (s *state) write(ctx context.Context, c *change, now time.Time) (err error) {
	v := s.own(c)
	if s.m.store == nil {
		return s.storeInCookie(c, v, now)
	}
	if c.mine, err = s.m.codec.Encode(nil, s.data()); err != nil {
		return err
	}
	v.encoded = c.mine
	return s.storeRecord(ctx, c, v)
}

// idle says that the request called no verb that a commit has to do with. mu is
// held.
func (s *state) idle() bool {
	d := s.did
	return (d == nil || len(d.added)+len(d.consumed)+len(d.orphans) == 0) && !s.moved && !s.prolonged && !s.imported &&
		!s.ending && !s.destroyed && !s.gone && !s.lateMove && !s.lateProlonged
}

// A look is what Data was like before the verbs that make it stale.
type look struct {
	epoch int32
	hash  uint64
}

func (s *state) look() look {
	s.mu.Lock()
	s.clear()
	epoch, base := s.epoch, s.base
	s.mu.Unlock()
	return look{epoch, s.hashSince(base)}
}

// hashSince is the hash of Data, which for a new session that nobody has put
// anything into need not be computed.
func (s *state) hashSince(base *snapshot) uint64 {
	if base == s.m.none && s.m.codec.IsZero(s.data()) {
		return base.hash
	}
	return s.m.codec.Hash(s.data())
}

// take takes down what there is to store, all of it as of one moment: it looks
// at Data again if another goroutine's verb came in between.
func (s *state) take(c *change, seen look, now time.Time, pinned bool) {
	s.mu.Lock()
	for s.epoch != seen.epoch {
		s.mu.Unlock()
		seen = s.look()
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	did := s.done()
	s.lateMove = s.lateMove || s.moved && pinned
	*c = change{
		gone: s.gone, lateMove: s.lateMove, lateProlonged: s.lateProlonged,
		epoch: seen.epoch, moved: s.moved, prolonged: s.prolonged && s.stored, imported: s.imported,
		added: slices.Clip(did.added), consumed: slices.Clip(did.consumed), steps: slices.Clip(did.steps),
		base: s.base, stored: s.stored, hash: seen.hash,
	}
	if c.dirty() {
		s.begin(now)
		s.draw()
		c.identity, c.life = s.id, s.life
	}
}

func (c *change) id() ID {
	if c.identity == nil {
		return c.base.ID
	}
	return c.identity.id
}

func (c *change) dirty() bool {
	return c.hash != c.base.hash || len(c.added)+len(c.consumed) > 0 || c.moved || c.prolonged || c.imported
}

// own is the version that a commit tries first.
func (s *state) own(c *change) *version {
	v := &c.first
	v.data, v.life = s.data(), c.life
	v.flashes, v.dropped = mergeFlashes(c.base.flashes, c.consumed, c.added)
	return v
}

// bury deletes the records that Destroy and Reset ended, and then expires the
// cookie: a user must see that he is still signed in if that failed.
func (s *state) bury(ctx context.Context, sendable bool) error {
	s.mu.Lock()
	if s.did == nil { // as in most requests, and so in none that ends the session
		s.mu.Unlock()
		return nil
	}
	ending, doomed, orphans := s.ending, s.did.doomed, s.did.orphans
	s.did.orphans = nil
	s.mu.Unlock()
	for _, id := range orphans {
		_ = s.m.store.Delete(ctx, id, 0) // nobody has a cookie for it
	}
	if !ending {
		return nil
	}
	if s.m.store == nil && !sendable {
		return fmt.Errorf("%w: Destroy or Reset after the headers had left", ErrTooLate)
	}
	for _, id := range doomed {
		if err := s.m.store.Delete(ctx, id, 0); err != nil {
			return &storeError{"destroy", id, err}
		}
	}
	s.buried(len(doomed))
	s.x.line = ""
	if s.came {
		s.x.line = s.m.cookie.Expire()
	}
	s.x.importsEnd = true
	return nil
}

func (s *state) buried(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.do()
	d.doomed = d.doomed[n:]
	s.ending = len(d.doomed) > 0
}

// refresh notes the use of an unchanged session, at most once in a tenth of the
// idle timeout, and re-issues a cookie that an older key signed. What fails here
// is an event, and no new cookie.
func (s *state) refresh(ctx context.Context, how flushing) error {
	idle := s.m.idle
	s.mu.Lock()
	kept, base, oldKey, id := s.keptAsIs(how), s.base, s.oldKey, s.id
	s.mu.Unlock()
	if kept {
		return nil
	}
	now := time.Now()
	if s.m.store == nil {
		return s.reissue(base, oldKey, how, now)
	}
	reissue := oldKey && how.sendable && !how.pinned
	ends := base.ends
	if last := ends.Add(-idle); idle > 0 && now.Sub(last) >= idle/10 {
		if later := s.m.recordEnd(base.Expires, now); later.After(ends) {
			ends = later
		}
	}
	if !reissue && !how.proof && ends.Equal(base.ends) {
		return nil
	}
	err := s.m.store.Touch(ctx, base.ID, ends)
	s.mu.Lock()
	if s.base == base { // no Destroy or Reset came in between
		touched := *base
		touched.ends = ends // also if that failed: once in a request is enough
		s.base = &touched
		s.oldKey = oldKey && !reissue
	}
	s.mu.Unlock()
	switch {
	case errors.Is(err, ErrNotFound):
		return s.discard(nil, ReasonUnknown, err)
	case err != nil && how.proof:
		return &storeError{"touch", base.ID, err}
	case err != nil:
		s.queue(Event{Kind: EventFailed, Err: &storeError{"touch", base.ID, err}})
	case reissue:
		return s.reissueID(ctx, id, base, now)
	}
	return nil
}

// reissueID renews a cookie that holds an id, until the end that the session has
// now: a parallel SetLifetime may have changed it since it was loaded.
func (s *state) reissueID(ctx context.Context, id *identity, base *snapshot, now time.Time) error {
	h := base.Header
	rec, err := s.m.store.Load(ctx, base.ID)
	if errors.Is(err, ErrNotFound) {
		return s.discard(nil, ReasonUnknown, err)
	}
	if err == nil {
		if body, err := wire.OpenRecord(s.m.sealing(), base.ID[:], rec.Data); err == nil {
			h = wire.ParseHeader(body)
		}
	}
	return s.readyID(id, lifeOf(&h), now)
}

// keptAsIs says that nothing has to be noted of a session that did not change.
// mu is held.
func (s *state) keptAsIs(how flushing) bool {
	return !s.stored || s.m.idle == 0 && !s.oldKey && !how.proof
}

// reissue renews a cookie that holds the session.
func (s *state) reissue(base *snapshot, oldKey bool, how flushing, now time.Time) error {
	due := s.m.idle > 0 && now.Sub(time.Unix(base.Used, 0)) >= s.m.idle/10
	if !how.sendable || !oldKey && !due || base.kept == nil {
		return nil
	}
	signer := s.m.signing()
	sc := signer.Scratch()
	defer signer.Put(sc)
	sc.Buf = append(signer.AppendPrefix(sc.Buf[:0], s.m.form.format), base.kept...)
	wire.SetUsed(sc.Buf[keys.PrefixSize:], now.Unix())
	line, err := s.m.dataCookie(signer, sc, &base.Header, now)
	if err != nil {
		s.queue(Event{Kind: EventFailed, Err: err})
		return nil
	}
	s.x.line = line
	return nil
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
	s.event(Event{Kind: EventDiscarded, Reason: reason, Err: err})
	if s.ending { // since this began; what a Reset has begun is not gone
		return &discarded{err}
	}
	s.gone = true
	s.x.line = "" // that of a Save, for an id that is dead now
	if c != nil && s.epoch == c.epoch {
		given := *s.base
		given.hash = c.hash // these need no second event
		s.base = &given
		s.moved, s.prolonged = false, false
		s.forget(c)
	}
	return &discarded{err}
}

// forget takes what a commit has dealt with off the lists of what is to be
// stored; verbs since it began stay. mu is held.
func (s *state) forget(c *change) {
	if d := s.did; d != nil {
		done := c.done()
		d.added, d.consumed, d.steps = d.added[done.added:], d.consumed[done.consumed:], d.steps[done.steps:]
	}
}

// headerOf returns the header of a body for the session.
func (m *core) headerOf(id ID, l life, now time.Time) wire.Header {
	return wire.Header{
		Created: l.created, Used: now.Unix(), Expires: l.expires, Lifetime: l.lifetime,
		Schema: uint16(m.codec.Version), Shape: m.codec.Fingerprint(), ID: id.half(),
	}
}

// secondsTo counts the whole seconds from now until then.
func secondsTo(then int64, now time.Time) int64 {
	left := then - now.Unix()
	if now.Nanosecond() > 0 {
		left--
	}
	return left
}

// dataCookie returns the Set-Cookie of a session. sc holds the prefix of the
// value and the body, whose header is h.
func (m *core) dataCookie(signer *keys.Signer, sc *keys.Scratch, h *wire.Header, now time.Time) (string, error) {
	start := 0
	if m.encrypt {
		body := sc.Buf[keys.PrefixSize:]
		start = len(sc.Buf)
		sc.Buf = signer.AppendSealed(append(sc.Buf, sc.Buf[:keys.PrefixSize]...), body, nil)
	} else {
		sc.Buf = signer.AppendMAC(sc, sc.Buf)
	}
	line, err := m.cookie.Line(&sc.Buf, start, secondsTo(h.Expires, now), h.Lifetime != 0)
	if err != nil {
		return "", fmt.Errorf("%w: %v; keep less in the session, or set Config.Store", ErrTooLarge, err)
	}
	return line, nil
}

// idCookie returns the Set-Cookie of an id.
func (m *core) idCookie(id *identity, l life, now time.Time) (string, error) {
	signer := m.signing()
	sc := signer.Scratch()
	defer signer.Put(sc)
	b := wire.AppendTime(signer.AppendPrefix(sc.Buf[:0], wire.SignedID), l.created)
	sc.Buf = signer.AppendMAC(sc, append(wire.AppendTime(b, l.expires), id.secret[:]...))
	return m.cookie.Line(&sc.Buf, 0, secondsTo(l.expires, now), l.lifetime != 0)
}

// cookieOf returns the Set-Cookie of a version that stays in it.
func (s *state) cookieOf(v *version, c *change, now time.Time) (line string, h wire.Header, err error) {
	h = s.m.headerOf(c.id(), v.life, now)
	signer := s.m.signing()
	sc := signer.Scratch()
	defer signer.Put(sc)
	b := wire.AppendFlashes(h.Append(signer.AppendPrefix(sc.Buf[:0], s.m.form.format)), v.flashes)
	if sc.Buf, err = s.m.codec.Encode(b, v.data); err != nil {
		sc.Buf = b
		return "", h, err
	}
	line, err = s.m.dataCookie(signer, sc, &h, now)
	return line, h, err
}

func (s *state) storeInCookie(c *change, v *version, now time.Time) error {
	line, h, err := s.cookieOf(v, c, now)
	if err != nil {
		return err
	}
	s.x.line = line
	s.settle(c, v, &snapshot{Header: h, ID: c.id(), flashes: v.flashes})
	return nil
}

// readyID readies the cookie with the id.
func (s *state) readyID(id *identity, l life, now time.Time) error {
	line, err := s.m.idCookie(id, l, now)
	if err == nil {
		s.x.line = line
	}
	return err
}

// settle notes that a version was stored.
func (s *state) settle(c *change, v *version, snap *snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.dropped > 0 {
		s.event(Event{Kind: EventFlashDropped, Err: fmt.Errorf("%d of the oldest, more than %d were waiting", v.dropped, wire.MaxFlashes)})
	}
	if s.ending { // since this began
		if s.m.store != nil {
			d := s.do()
			d.doomed = append(d.doomed, snap.ID)
		}
		return
	}
	snap.hash = c.hash
	if v.data != s.data() { // merged
		codec.Set(s.data(), v.data)
		snap.hash = s.m.codec.Hash(s.data())
	}
	s.x.importsEnd = s.x.importsEnd || c.imported
	s.base, s.stored = snap, true
	s.forget(c)
	s.imported = false
	s.oldKey = false
	if s.did != nil {
		s.did.tried = nil
	}
	if s.epoch == c.epoch {
		s.moved, s.prolonged = false, false
		s.id, s.life = c.identity, v.life
	} else if s.id != c.identity {
		s.moved = true
	}
	if !c.stored {
		s.event(Event{Kind: EventStarted, Reason: s.why()})
	}
}
