package sessions

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/wire"
)

// A Session is the session of one visitor, as one request sees it. [Get] returns
// it; the Middleware stores it, if it changed, before the first byte of the
// response leaves.
//
// Its methods are safe for concurrent use. Data is the handler's, as any struct:
// goroutines that share it need a lock of their own, and nobody may edit it
// while the response is being written. A Session prints its public id and its
// state, never Data; fmt calls no method of a value in an unexported field of
// another struct, and prints Data there.
type Session[T any] struct {
	// Data is what the application keeps. Edit it in place, also through maps,
	// slices and pointers: changes are found by comparing what would be stored.
	//
	// Of a time the instant comes back, in time.Local, and not the zone, and of
	// a pointer to a nil slice, map or pointer a nil pointer. To set an empty slice
	// or map in place of nil is no change. A field tagged msgpack:"-" is not
	// stored: what is put there lasts for the request, also when a parallel change
	// is merged, but not in elements of a slice or a map.
	Data T

	handle
}

// ID returns the public id of the session: safe to log, to show and to give to
// [Manager.Revoke], and of no use as a credential. RegenerateID and Reset change
// it at once.
func (s *Session[T]) ID() string { return s.state.publicID() }

// IsNew reports whether the session began with this request, or with Reset.
// A new session that is left untouched is not stored and sends no cookie.
func (s *Session[T]) IsNew() bool { return s.Reason() != ReasonNone }

// Reason says why the session is new, ReasonNone if it is not.
func (s *Session[T]) Reason() Reason { return s.state.why() }

// CreatedAt returns when the session began, or its id was last regenerated, in
// whole seconds.
func (s *Session[T]) CreatedAt() time.Time {
	created, _ := s.state.times()
	return time.Unix(created, 0)
}

// ExpiresAt returns the absolute end of the session, in whole seconds. With
// Config.IdleTimeout it may end earlier.
func (s *Session[T]) ExpiresAt() time.Time {
	_, expires := s.state.times()
	return time.Unix(expires, 0)
}

// RegenerateID gives the session a new id and begins its absolute lifetime anew,
// with the same data. Call it whenever somebody signs in or gains rights: who
// knew the old id must not share the new rights (session fixation). With a
// Store the old id is dead once the response leaves; a cookie session cannot be
// recalled, there the old cookie stays valid until it expires.
//
// If the new id can no longer reach the browser, since the headers have left,
// the connection was hijacked or the request's deadline has passed, nothing of
// what the request did to a stored session is stored: rights that belong to a
// new id must not come to the old one. Save then returns ErrTooLate, and at the
// end of the request there is an event.
func (s *Session[T]) RegenerateID() { s.state.regenerate() }

// Destroy ends the session: its record is deleted and its cookie expires. Data
// becomes the zero T; what is done to the session afterwards is discarded,
// except by Reset. It happens even if the handler panics later. A cookie session
// cannot be recalled: a copy of the cookie is valid until it expires.
func (s *Session[T]) Destroy() { s.state.destroy(false) }

// Reset ends the session as Destroy does and begins a new one, with a new id and
// a zero Data. Unless something is put into it, nothing is stored. It is for
// signing out with a message:
//
//	sess.Reset()
//	sess.Flash("info", "You have signed out")
func (s *Session[T]) Reset() { s.state.destroy(true) }

// Update changes the session by a function that can be repeated: f is run on
// Data now, and again on the newest state if a parallel request changes the
// session before this one is stored. A counter needs it; edits of Data itself
// are merged by field, so that of two requests that both do Data.N++ one is
// lost. What f computes outside of the session may be computed twice.
//
// Update runs f under a lock: other Updates wait. f must not call Update or Save
// or write the response, and what it does besides changing its argument, such as
// a Flash, it does again when it is repeated. After Destroy it does not run f, and
// what f makes of its argument when it calls Destroy or Reset is lost. A panic of f
// passes through, and Data is then as it was before; a panic while it is
// repeated is an error of the commit.
func (s *Session[T]) Update(f func(*T)) {
	s.state.update(func(data any) { f(data.(*T)) })
}

// Save stores the session now, for handlers that stream or live long; others
// need no Save, since the middleware stores what changed. Before the headers it
// stores at once, and the cookie goes with the headers; in cookie mode it reports
// what the commit would. After the headers it stores what needs no new cookie.
//
// It returns ErrNotFound once the session was destroyed or revoked elsewhere,
// also if there is nothing to store, ErrTooLate where a cookie would be needed
// and the headers are gone or the request has ended, ErrInvalid, ErrTooLarge, or
// an error of the Store. After that one it is unknown whether it was stored: the
// next try finds out, unless another request has changed the session since, in
// which case an Update may count twice. It obeys ctx and takes 5 seconds at most.
func (s *Session[T]) Save(ctx context.Context) error { return s.state.save(ctx) }

// SetLifetime sets the absolute end of the session to d from now, and the length
// that RegenerateID will give it again: "remember me". Zero or less means
// Config.Lifetime. Config.IdleTimeout still holds. Alone it does not make a new
// session stored. It has no effect once the headers have left (ErrTooLate).
func (s *Session[T]) SetLifetime(d time.Duration) { s.state.setLifetime(d) }

// A handle is what a Session embeds in place of its state. It has the printing
// methods, since methods of Session with a value receiver would copy Data to be
// called. It has no others: the compiler makes a wrapper of every promoted
// method for every T.
type handle struct{ state *state }

// Format prints the public id and the state of the session, under every verb.
func (h handle) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, h.state.summary()) }

// LogValue logs the public id and the state of the session.
func (h handle) LogValue() slog.Value { return slog.StringValue(h.state.summary()) }

// MarshalText, for JSON, gives the public id and the state of the session.
func (h handle) MarshalText() ([]byte, error) { return []byte(h.state.summary()), nil }

// A state is a session but for its type. Every request that asks for the session
// pays for its size, which is why the flags stand together.
type state struct {
	x    *exchange
	m    *core
	self interface{ data() any } // the *Session[T]

	reason Reason // of its beginning

	mu   sync.Mutex // guards all below; never held over a store or the application's code
	life life
	id   *identity // nil: that of base, or none drawn yet
	base *snapshot // what the cookie or the store has, core.none unless stored
	did  *deeds    // nil: nothing of these

	epoch    int32 // counts what makes a running commit stale: verbs that change the id, the end or all
	acts     int32 // counts every verb, and seen those that a commit has looked at
	seen     int32
	failedAt int32 // acts when a commit failed

	stored bool
	oldKey bool // its cookie was made with an older key
	came   bool // the request brought a cookie of our name

	// What this request did since, beside its deeds.
	moved     bool // RegenerateID
	prolonged bool // SetLifetime
	imported  bool
	destroyed bool
	ending    bool  // Destroy or Reset, not carried out yet
	updating  uint8 // whether an Update's function runs
	wipe      bool  // Data is to be cleared

	sent          bool // the headers
	ended         bool // the request
	gone          bool // the record, by somebody else's hand
	lateMove      bool // RegenerateID that cannot be carried out
	lateProlonged bool
	lateTold      bool // of the two above, there was an event

	// These are written under mu and read without.
	waiting   atomic.Bool // did has events
	restarted atomic.Bool // by Reset
}

// Whether an Update's function runs: one byte, since one more would make each
// session larger by 16.
const (
	resting   = iota
	running   // at the call
	repeating // in a commit, after a conflict
)

func (s *Session[T]) data() any { return &s.Data }

// data returns the session's *T.
func (s *state) data() any { return s.self.data() }

// deeds are the lists that few requests have anything in: apart, so that the
// others do not pay for the room, a fifth of what BenchmarkRequest/F/signed takes.
type deeds struct {
	visible         []wire.Flash // that came and are not consumed yet
	added, consumed []wire.Flash
	steps           []step
	doomed          []ID // what Destroy and Reset are to delete
	orphans         []ID // records that an unfinished Save has left
	tried           []*attempt
	events          []Event // that wait until no lock is held
}

// do returns the deeds, to add to them. mu is held.
func (s *state) do() *deeds {
	if s.did == nil {
		s.did = new(deeds)
	}
	return s.did
}

// done returns the deeds so far. mu is held.
func (s *state) done() deeds {
	if s.did == nil {
		return deeds{}
	}
	return *s.did
}

// A life is when a session began and ends, in seconds since 1970, and what
// SetLifetime gave. Zero until somebody asks.
type life struct {
	created, expires int64
	lifetime         uint32
}

// An identity is the secret in the cookie and its hash; without a Store it is
// the first half of the hash alone, at random. It is never changed.
type identity struct {
	secret [32]byte
	id     ID
}

// A snapshot is a session as the cookie or the store has it. It is shared: to
// change one, copy it.
type snapshot struct {
	wire.Header
	ID      ID
	version uint64
	ends    time.Time // Record.Expires
	flashes []wire.Flash
	kept    []byte // with a Store the data as today's schema encodes it; else a body that may be re-issued
	hash    uint64 // of the data
}

// A step is an Update: what was there before and after it.
type step struct {
	before, after []byte
	f             func(any)
}

func (m *core) newIdentity() *identity {
	i := new(identity)
	if m.store == nil {
		_, _ = rand.Read(i.id[:16]) // never fails: it ends the process instead
		return i
	}
	_, _ = rand.Read(i.secret[:])
	i.id = hashOf(i.secret)
	return i
}

func lifeOf(h *wire.Header) life {
	return life{created: h.Created, expires: h.Expires, lifetime: h.Lifetime}
}

func hashOf(secret [32]byte) ID { return sha256.Sum256(secret[:]) }

// half is what a body holds of the id.
func (id ID) half() [16]byte { return [16]byte(id[:16]) }

func (s *state) publicID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.public()
}

// public returns the id of today, drawing one if nobody asked before. mu is held.
func (s *state) public() string {
	id := s.draw()
	if s.m.store == nil {
		return hex.EncodeToString(id[:16])
	}
	return id.String()
}

// draw returns the id of today, a new one if there is none. mu is held.
func (s *state) draw() ID {
	if s.id == nil && s.base != s.m.none {
		return s.base.ID
	}
	if s.id == nil {
		s.id = s.m.newIdentity()
	}
	return s.id.id
}

func (s *state) why() Reason {
	if s.restarted.Load() {
		return ReasonReset
	}
	return s.reason
}

func (s *state) times() (created, expires int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin(time.Now())
	return s.life.created, s.life.expires
}

// begin starts the lifetime of a new session, once. mu is held.
func (s *state) begin(now time.Time) {
	if s.life.expires == 0 {
		s.life.created, s.life.expires = now.Unix(), wire.EndOf(now, s.m.lengthOf(s.life.lifetime))
	}
}

// lengthOf is the absolute lifetime of a session, given what SetLifetime said.
func (m *core) lengthOf(lifetime uint32) time.Duration {
	if lifetime == 0 {
		return m.lifetime
	}
	return time.Duration(lifetime) * time.Second
}

func (s *state) summary() string {
	if s == nil {
		return "Session(none)"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	what, why := "loaded", s.why()
	switch {
	case s.destroyed:
		what = "destroyed"
	case why != ReasonNone:
		what = "new: " + string(why)
	}
	return fmt.Sprintf("Session(%s, %s)", s.public(), what)
}

// lockFor locks mu for a verb, unless the request has ended: that it reports.
func (s *state) lockFor(verb string) bool {
	s.mu.Lock()
	if !s.ended {
		return true
	}
	s.event(Event{Kind: EventLate, Err: fmt.Errorf("%s after the request has ended", verb)})
	s.mu.Unlock()
	s.emit()
	return false
}

// tooLateFor reports the use of a session whose request has ended.
func (s *state) tooLateFor(verb string) bool {
	if !s.lockFor(verb) {
		return true
	}
	s.mu.Unlock()
	return false
}

// event queues an event until no lock is held, if anybody listens. mu is held,
// or nobody has s yet.
func (s *state) event(e Event) {
	if !s.m.hears(e) {
		return
	}
	if s.id != nil || s.base != s.m.none {
		e.ID = s.public()
	}
	d := s.do()
	d.events = append(d.events, e)
	s.waiting.Store(true)
}

func (s *state) queue(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.event(e)
}

func (s *state) emit() {
	if !s.waiting.Load() {
		return
	}
	s.mu.Lock()
	s.waiting.Store(false)
	events := s.did.events
	s.did.events = nil
	s.mu.Unlock()
	for _, e := range events {
		s.x.emit(e)
	}
}

func (s *state) regenerate() {
	if !s.lockFor("RegenerateID") {
		return
	}
	defer s.mu.Unlock()
	if s.destroyed {
		return
	}
	if s.updating == repeating && s.moved {
		return // the commit that repeats it moves the session
	}
	s.acts++
	if s.sent {
		s.lateMove = true
		return
	}
	now := time.Now()
	s.epoch++
	s.id = s.m.newIdentity()
	s.moved = s.stored
	s.life.created, s.life.expires = now.Unix(), wire.EndOf(now, s.m.lengthOf(s.life.lifetime))
}

func (s *state) setLifetime(d time.Duration) {
	if !s.lockFor("SetLifetime") {
		return
	}
	defer s.mu.Unlock()
	if s.destroyed {
		return
	}
	var lifetime uint32
	if d > 0 {
		lifetime = uint32(min((d-1)/time.Second+1, math.MaxUint32))
	} else {
		d = s.m.lifetime
	}
	if s.updating == repeating && s.prolonged && lifetime == s.life.lifetime {
		return // the commit that repeats it stores that
	}
	s.acts++
	if s.sent {
		s.lateProlonged = true
		return
	}
	now := time.Now()
	s.begin(now)
	s.epoch++
	s.prolonged = true
	s.life.lifetime, s.life.expires = lifetime, wire.EndOf(now, d)
}

// destroy ends the session, and with restart begins another.
func (s *state) destroy(restart bool) {
	if !s.lockFor("Destroy or Reset") {
		return
	}
	if s.destroyed && !restart {
		s.mu.Unlock()
		return
	}
	s.epoch++
	s.acts++
	d := s.do()
	if s.m.store != nil {
		for _, id := range append(slices.Clip(s.x.known()), s.base.ID) {
			if id != (ID{}) && !slices.Contains(d.doomed, id) {
				d.doomed = append(d.doomed, id)
			}
		}
	}
	if s.id == nil && s.base != s.m.none {
		s.id = &identity{id: s.base.ID} // which it goes on showing
	}
	s.destroyed = !restart
	s.ending = true
	s.stored, s.base = false, s.m.none
	d.visible, d.added, d.consumed, d.steps, d.tried = nil, nil, nil, nil, nil
	s.moved, s.prolonged, s.imported, s.gone, s.lateMove, s.lateProlonged = false, false, false, false, false, false
	if restart {
		s.restarted.Store(true)
		s.id, s.life = nil, life{}
	}
	// Data belongs to whoever holds the gate, which may be a commit that is
	// about to read it.
	s.wipe = true
	wait := s.updating == resting
	s.mu.Unlock()
	if wait {
		s.x.gate.Lock()
		defer s.x.gate.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.clear()
	}
}

// clear carries out the wipe that a Destroy or Reset asked for. mu and the gate
// are held.
func (s *state) clear() {
	if s.wipe {
		s.wipe = false
		codec.Clear(s.data())
	}
}

func (s *state) update(f func(any)) {
	if s.tooLateFor("Update") {
		return
	}
	s.x.gate.Lock()
	defer s.x.gate.Unlock()
	if !s.lockFor("Update") {
		return
	}
	begun := s.beginUpdate(running)
	if begun {
		s.acts++
	}
	s.mu.Unlock()
	if !begun {
		return
	}
	defer s.endUpdate()
	c := s.m.codec
	before, failed := c.Append(nil, s.data())
	unstored := c.New()
	codec.Set(unstored, s.data())
	done := false
	defer func() {
		if !done && failed == nil {
			if was, err := c.With(unstored, before); err == nil {
				codec.Set(s.data(), was)
			}
		}
	}()
	f(s.data())
	done = true
	if s.m.store == nil {
		return // nobody else changes it
	}
	after, err := c.Append(nil, s.data())
	if failed != nil || err != nil {
		return // the commit cannot encode it either, and says why
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stored {
		d := s.do()
		d.steps = append(d.steps, step{before: before, after: after, f: f})
	}
}

// beginUpdate notes that a function of Update runs, so that a Destroy in it does
// not wait for it to end. mu is held.
func (s *state) beginUpdate(run uint8) bool {
	if s.destroyed {
		return false
	}
	s.clear()
	s.updating = run
	return true
}

func (s *state) endUpdate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.updating = resting
	s.clear()
}
