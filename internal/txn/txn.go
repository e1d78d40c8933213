package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/phase"
	"github.com/typedsessions/sessions/internal/wait"
	"github.com/typedsessions/sessions/internal/watch"
	"github.com/typedsessions/sessions/internal/wire"
)

// A Request is the request that a session belongs to. It is a context of the
// handler too.
type Request interface {
	context.Context
	Emit(Event)
}

// Shared is what a request has before its session is opened.
type Shared struct {
	// Gate is held while the session is opened, committed or changed by an
	// Update. Data belongs to its holder then. It is taken before a Txn's mu.
	Gate wait.Lock

	Found     *Found // with a Store and a cookie
	Phase     phase.Phase
	HadCookie bool // the request brought a cookie of our name
}

// A Txn is the session of one request, but for its type. Every request that asks
// for its session pays for the size of a Txn.
type Txn struct {
	eng     *Engine
	req     Request
	shared  *Shared
	session any // *sessions.Session[T]

	mu      sync.Mutex // guards what follows; never held while a store or the application's code runs
	base    *Base      // what is kept, Engine.None unless something is
	id      *Identity  // nil: that of base, or none drawn yet
	began   int64      // when the session was opened, or a new one began, in nanoseconds since 1970; 0: nobody asked yet
	journal Journal
	rare    *rare
	exists  Existence
	reason  Reason
	wipe    bool // Data is to be cleared

	// oldCookie: an older key than the newest has made the cookie, or it ends before
	// the session, and half of its time has passed.
	oldCookie bool

	announced bool // the response is to tell something about the session

	// The parts of an Outcome, which the gate guards.
	endImports, endFormer bool
	cookie                string
}

// rare is what few requests need, apart so that the others do not pay for it.
type rare struct {
	came      []wire.Flash // that the request found, but for those whose consumption is stored
	now       []wire.Flash // of FlashNow, that no Flashes has returned yet
	doomed    []doomed     // what Destroy and Reset are to end
	why       Reason       // of the last of them
	orphans   []ID         // records that an unfinished Save has left
	attempts  []attempt
	run       *Run // of the Update that runs now
	reach     Reach
	moving    bool       // the commit that repeats it moves the session
	passed    bool       // what a commit has merged has another owner: the session is to move
	saved     int32      // after the last Save, the number of the next op plus one
	savedHash uint64     // and the hash of Data
	told      *lateError // what the last event of lateness was about
	events    []Event    // that wait until no lock is held
	watchers  []*watch.Watcher
}

// An Outcome is what goes with the headers of the response.
type Outcome struct {
	Cookie     string // the Set-Cookie of the session
	EndImports bool   // the cookies of the imported session are to be expired
	EndFormer  bool   // those that the browser may hold under former attributes too
}

func (t *Txn) outcome() Outcome { return Outcome{t.cookie, t.endImports, t.endFormer} }

// Session returns the *sessions.Session[T].
func (t *Txn) Session() any { return t.session }

func (t *Txn) data() any { return t.eng.Data(t.session) }

// rareLocked returns the rare parts, to change them.
func (t *Txn) rareLocked() *rare {
	if t.rare == nil {
		t.rare = new(rare)
	}
	return t.rare
}

// ID returns the public id.
func (t *Txn) ID() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.publicLocked()
}

func (t *Txn) publicLocked() string { return t.eng.PublicID(t.idLocked()) }

// idLocked returns the present id. It draws one if there is none.
func (t *Txn) idLocked() ID {
	if t.id == nil && t.base.kept() {
		return t.base.ID
	}
	if t.id == nil {
		t.id = t.eng.newIdentity()
	}
	return t.id.ID
}

// Reason returns why the session is new, NotNew if it is not.
func (t *Txn) Reason() Reason {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reason
}

// Times returns when the session began and ends.
func (t *Txn) Times() (created, expires int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.beginLocked(time.Now())
	l := t.eng.after(t.lifeLocked(t.base.Owner), t.base.Owner, t.journal.ops)
	return l.Created, l.Expires
}

// beginLocked starts the lifetime of a new session, once.
func (t *Txn) beginLocked(now time.Time) {
	if t.began == 0 {
		t.began = now.UnixNano()
	}
}

// lifeLocked returns the life before the ops of the request. owner is whose
// session a new one is.
func (t *Txn) lifeLocked(owner string) Life {
	if t.base.kept() {
		return lifeOf(&t.base.Header)
	}
	return t.eng.begin(t.began, 0, owner)
}

// String returns the public id and the state. It shows no data.
func (t *Txn) String() string {
	if t == nil {
		return "Session(none)"
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	what := "loaded"
	switch {
	case t.exists == Ended:
		what = "destroyed"
	case t.reason == Replaced:
		what = "replaced"
	case t.reason != NotNew:
		what = "new: " + t.reason.String()
	}
	return fmt.Sprintf("Session(%s, %s)", t.publicLocked(), what)
}

// lockFor locks mu for a verb. It reports false, with mu unlocked, once the
// request is over, which is an event.
func (t *Txn) lockFor(verb string) bool {
	t.mu.Lock()
	if !t.shared.Phase.Closed() {
		return true
	}
	t.eventLocked(Event{Kind: Late, Err: fmt.Errorf("%s after the request has ended", verb)})
	t.mu.Unlock()
	t.Emit()
	return false
}

// over is lockFor without the lock.
func (t *Txn) over(verb string) bool {
	if !t.lockFor(verb) {
		return true
	}
	t.mu.Unlock()
	return false
}

// eventLocked queues an event until no lock is held, if anybody listens.
func (t *Txn) eventLocked(e Event) {
	if !t.eng.Hears(e) {
		return
	}
	if e.ID == "" {
		e.ID = t.eng.IDIn(e.Err)
	}
	if e.ID == "" && (t.id != nil || t.base.kept()) {
		e.ID = t.publicLocked()
	}
	r := t.rareLocked()
	r.events = append(r.events, e)
}

// tellLocked queues an event about the session with an id, and previous if there
// is one.
func (t *Txn) tellLocked(e Event, id, previous ID) {
	if !t.eng.Hears(e) {
		return
	}
	e.ID = t.eng.PublicID(id)
	if previous != (ID{}) {
		e.Previous = t.eng.PublicID(previous)
	}
	t.eventLocked(e)
}

func (t *Txn) event(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.eventLocked(e)
}

// Emit tells the queued events. No lock is held.
func (t *Txn) Emit() {
	t.mu.Lock()
	if t.rare == nil || len(t.rare.events) == 0 {
		t.mu.Unlock()
		return
	}
	events := t.rare.events
	t.rare.events = nil
	t.mu.Unlock()
	for _, e := range events {
		t.req.Emit(e)
	}
}

// noteLocked records an op, as one of an Update's function while that runs.
func (t *Txn) noteLocked(op Op, room []Op) {
	if run := t.runLocked(); run != nil && !run.void {
		run.Ops = append(run.Ops, op)
		return
	}
	t.journal.Append(op, room)
}

// runLocked returns the run of an Update's function, nil if none runs.
func (t *Txn) runLocked() *Run {
	if t.rare == nil {
		return nil
	}
	return t.rare.run
}

// lateLocked reports whether what needs at least the given reach comes too late.
// A function that a commit repeats has the reach of that commit.
func (t *Txn) lateLocked(need Reach) bool {
	if run := t.runLocked(); run != nil && run.repeated {
		return t.rare.reach > need
	}
	return t.shared.Phase.Left()
}

// Regenerate is Session.RegenerateID, and with rotate Session.RotateID.
func (t *Txn) Regenerate(rotate bool) {
	op := Op{Verb: Regenerate, At: time.Now().UnixNano()}
	if rotate {
		op.Verb = Rotate
	}
	if !t.lockFor("RegenerateID or RotateID") {
		return
	}
	defer t.mu.Unlock()
	if t.exists == Ended {
		return
	}
	if op.Late = t.lateLocked(Whole); op.Late {
		t.noteLocked(op, nil)
		return
	}
	if run := t.runLocked(); run != nil && run.repeated && t.rare.moving {
		t.noteLocked(op, nil) // the commit has a new id for it
		return
	}
	// One allocation for the id and the op (BenchmarkRequest/L).
	fresh := new(struct {
		Identity
		room [1]Op
	})
	t.id = &fresh.Identity
	t.eng.draw(t.id)
	t.noteLocked(op, fresh.room[:])
}

// SetLifetime is Session.SetLifetime.
func (t *Txn) SetLifetime(d time.Duration) {
	if d < 0 {
		t.destroy(false, Expired)
		return
	}
	if !t.lockFor("SetLifetime") {
		return
	}
	defer t.mu.Unlock()
	if t.exists == Ended {
		return
	}
	now := time.Now()
	t.beginLocked(now)
	t.noteLocked(Op{Verb: SetLifetime, Late: t.lateLocked(Header), At: now.UnixNano(), Length: d}, nil)
}

// Destroy is Session.Destroy, and with restart Session.Reset.
func (t *Txn) Destroy(restart bool) {
	if restart {
		t.destroy(true, WasReset)
	} else {
		t.destroy(false, Destroyed)
	}
}

// A doomed session is one that Destroy or Reset has ended. A commit carries it
// out.
type doomed struct {
	id      ID
	version uint64 // 0: the store has to be asked
	owner   string
	reason  Reason
}

func (t *Txn) destroy(restart bool, why Reason) {
	if !t.lockFor("Destroy or Reset") {
		return
	}
	if t.exists == Ended && !restart {
		t.mu.Unlock()
		return
	}
	r := t.rareLocked()
	if t.base.kept() {
		r.doom(doomed{t.base.ID, t.base.Version, t.base.Owner, why})
	}
	for _, d := range t.shared.Found.all() {
		d.reason = why
		r.doom(d)
	}
	if t.id == nil && t.base.kept() {
		t.id = &Identity{ID: t.base.ID} // that it goes on showing
	}
	if !t.base.kept() {
		for _, w := range r.watchers {
			w.End(causes[why])
		}
	}
	r.watchers = nil // they end when the session does
	r.forget()
	r.why = why
	t.base, t.began = t.eng.None, 0
	if restart {
		t.journal.Restart(Op{Verb: Reset})
		t.exists, t.reason = Fresh, WasReset
		t.id = nil
	} else {
		t.journal.Restart(Op{Verb: Destroy})
		t.exists = Ended
	}
	t.wipe = true
	run := r.run
	if run != nil {
		run.void = true
	}
	t.mu.Unlock()
	if run == nil {
		// Data belongs to whoever holds the gate, which may be a commit that is
		// about to read it.
		t.shared.Gate.Lock()
		defer t.shared.Gate.Unlock()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.clearLocked()
	}
}

// forget drops what belongs to a session that is the request's no more.
func (r *rare) forget() { r.came, r.now, r.attempts, r.passed = nil, nil, nil, false }

func (r *rare) doom(d doomed) {
	for _, other := range r.doomed {
		if other.id == d.id {
			return
		}
	}
	r.doomed = append(r.doomed, d)
}

// clearLocked clears Data after a Destroy or Reset. The gate is held.
func (t *Txn) clearLocked() {
	if t.wipe {
		t.wipe = false
		codec.Clear(t.data())
	}
}

// Extend changes the extension with a tag, if change returns something else than
// it gets.
func (t *Txn) Extend(tag byte, change func(now []byte) []byte) {
	if !t.lockFor("a change of an extension") {
		return
	}
	defer t.mu.Unlock()
	if t.exists != Ended {
		t.noteLocked(Op{Verb: Extend, Extend: &Extension{tag, change}}, nil)
	}
}

// Extension returns the extension with a tag, as this request sees it, nil if
// there is none, and when the request opened the session, now if that is new.
func (t *Txn) Extension(tag byte) (value []byte, opened time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.base.kept() {
		return t.extensionLocked(tag), time.Now()
	}
	return t.extensionLocked(tag), time.Unix(0, t.began)
}

func (t *Txn) extensionLocked(tag byte) []byte {
	if t.exists == Ended {
		return nil
	}
	if len(t.journal.ops) == 0 { // as mostly: a View is on the heap
		return wire.Extension(t.base.Extensions, tag)
	}
	v := t.foldLocked(0, t.journal.End())
	entries := t.base.Extensions
	if v.Anew {
		entries = nil
	}
	return wire.Extension(v.extend(entries), tag)
}

// Flash is Session.Flash.
func (t *Txn) Flash(f wire.Flash) {
	if !t.lockFor("Flash") {
		return
	}
	defer t.mu.Unlock()
	if t.exists != Ended {
		t.noteLocked(Op{Verb: Flash, Flashes: []wire.Flash{f}}, nil)
	}
}

// FlashNow is Session.FlashNow.
func (t *Txn) FlashNow(f wire.Flash) {
	if !t.lockFor("FlashNow") {
		return
	}
	defer t.mu.Unlock()
	if t.exists == Ended {
		return
	}
	r := t.rareLocked()
	r.now = append(r.now, f)
	if r.run != nil {
		r.run.now = append(r.run.now, f)
	}
}

// Flashes is Session.Flashes.
func (t *Txn) Flashes(kinds []string) []wire.Flash {
	if !t.lockFor("Flashes") {
		return nil
	}
	defer t.mu.Unlock()
	if t.exists == Ended || t.rare == nil {
		return nil
	}
	wanted := func(f wire.Flash) bool { return len(kinds) == 0 || slices.Contains(kinds, f.Kind) }
	var taken []wire.Flash
	if len(t.rare.came) > 0 {
		for _, f := range without(t.rare.came, t.foldLocked(0, t.journal.End()).Consumed) {
			if wanted(f) {
				taken = append(taken, f)
			}
		}
	}
	if taken != nil {
		t.noteLocked(Op{Verb: Consume, Flashes: taken}, nil)
	}
	for _, f := range t.rare.now {
		if wanted(f) {
			taken = append(taken, f)
		}
	}
	t.rare.now = slices.DeleteFunc(t.rare.now, wanted)
	return taken
}

// Update is Session.Update.
func (t *Txn) Update(f func(data any)) {
	if t.over("Update") {
		return
	}
	t.shared.Gate.Lock()
	defer t.shared.Gate.Unlock()
	if !t.lockFor("Update") {
		return
	}
	if t.exists == Ended {
		t.mu.Unlock()
		return
	}
	t.clearLocked()
	run := new(Run)
	r := t.rareLocked()
	t.journal.Append(Op{Verb: Update, Run: run}, nil)
	r.run = run
	t.mu.Unlock()
	defer t.endRun()
	c := t.eng.Codec
	before, failed := c.Append(nil, t.data())
	unstored := c.New()
	codec.Set(unstored, t.data())
	done := false
	defer func() {
		if !done && failed == nil {
			if was, err := c.With(unstored, before); err == nil {
				codec.Set(t.data(), was)
			}
		}
	}()
	f(t.data())
	done = true
	if t.eng.Store == nil {
		return // nobody else changes it
	}
	after, err := c.Append(nil, t.data())
	if failed != nil || err != nil {
		return // the commit cannot encode it either, and says why
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exists == Loaded {
		run.F, run.Before, run.After = f, before, after
	}
}

// endRun ends the run of an Update's function.
func (t *Txn) endRun() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.journal.Absorb(t.rare.run)
	t.rare.run = nil
	t.clearLocked()
}

// StoredAs returns the id that the session is still stored under, if RegenerateID
// gave it the given one.
func (t *Txn) StoredAs(id ID) (stored ID, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ok = t.exists == Loaded && t.id != nil && t.id.ID == id && id != t.base.ID
	return t.base.ID, ok
}

// Close ends the request, after which verbs do nothing. Unless it is forced to,
// it does not if there are ops that no commit has seen, and reports that. Ops that
// nothing can store any more are an event.
func (t *Txn) Close(forced bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.journal.End() != t.journal.seen {
		if !forced {
			return false
		}
		t.eventLocked(Event{Kind: Late, Err: errors.New("the session was changed when nothing could be stored any more")})
	}
	t.shared.Phase.Close()
	return true
}

// EndedSince reports whether Destroy or Reset was called after the last commit
// began: an end that came before has failed with the commit, and the user was
// told.
func (t *Txn) EndedSince() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.journal.Ending() && t.journal.first >= t.journal.seen
}
