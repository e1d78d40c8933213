package txn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/phase"
	"github.com/typedsessions/sessions/internal/wait"
	"github.com/typedsessions/sessions/internal/wire"
)

// errDiscarded is the error of changes to a session that somebody else has ended
// or moved, or that this program cannot read.
type errDiscarded struct{ err error }

func (d *errDiscarded) Error() string { return d.err.Error() }
func (d *errDiscarded) Unwrap() error { return d.err }

// errAgain is the error of a step that met a new op, which changes the plan.
var errAgain = errors.New("plan again")

// Commit stores what changed, as far as it can still reach the browser. The
// outcome holds even if there is an error, since a Save may have stored before.
// The error is for Config.ErrorHandler: what the user does not see is an event.
func (t *Txn) Commit(r Reach) (Outcome, error) {
	if r == Whole && timedOut(t.req) {
		r = Overdue
	}
	defer t.Emit()
	t.shared.Gate.Lock()
	defer t.shared.Gate.Unlock()
	if !t.shared.Phase.Left() {
		t.shared.Phase.Set(phase.Sent) // verbs that came before are in this commit
	}
	if r == Header {
		return t.commitToHeader()
	}
	err := t.flush(t.lasting, r, false)
	if err == nil {
		return t.outcome(), nil
	}
	if t.dropExtension(err) {
		return t.outcome(), nil
	}
	shown := t.visible(err)
	if r == Overdue && errors.Is(err, ErrTooLate) {
		shown = fmt.Errorf("sessions: the request's deadline has passed: %w", err)
	}
	return t.outcome(), shown
}

// commitToHeader is Commit where the handler, or nobody, sends the header.
func (t *Txn) commitToHeader() (Outcome, error) {
	base, before, saved := t.currentBase(), t.cookie, t.savedAll()
	err := t.flush(t.lasting, Header, false)
	if err == nil && !saved && t.cookie != before && t.currentBase() != base { // one that a read has renewed is no loss
		t.event(Event{Kind: Late, Err: errors.New("the connection was hijacked: the session's cookie stands in the header for whoever still sends it")})
	}
	if err != nil && !t.dropExtension(err) {
		return t.outcome(), t.visible(err)
	}
	return t.outcome(), nil
}

// Abort carries out a Destroy, or that half of a Reset, of a request whose
// handler panicked. It stores nothing.
func (t *Txn) Abort(r Reach) Outcome {
	defer t.Emit()
	t.shared.Gate.Lock()
	defer t.shared.Gate.Unlock()
	t.mu.Lock()
	t.journal.seen = t.journal.End()
	t.mu.Unlock()
	ctx := t.lasting()
	t.deleteOrphans(ctx)
	if err := t.end(ctx, r); err != nil {
		_ = t.visible(err)
	}
	return t.outcome()
}

// Save is Session.Save.
func (t *Txn) Save(ctx context.Context) error {
	ctx, cancel := wait.Limit(ctx, Timeout) // also over a Store that never waits: an Update may run
	defer cancel()
	defer t.Emit()
	if err := t.save(ctx); err != nil {
		return fmt.Errorf("save session %s: %w", t.ID(), err)
	}
	return nil
}

// savedAll reports whether a Save has seen all that the request did, and a commit
// has yet to make the cookie: whoever calls Save before a handshake means to send
// that.
func (t *Txn) savedAll() bool {
	if t.rare == nil || t.rare.saved == 0 {
		return false
	}
	read := t.readData()
	return t.rare.saved == read.n+1 && t.rare.savedHash == read.hash
}

func (t *Txn) save(ctx context.Context) error {
	if err := t.enter(ctx, "Save"); err != nil {
		return err
	}
	defer t.shared.Gate.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	r := Whole
	switch {
	case t.shared.Phase.Left():
		r = Gone
	case timedOut(t.req):
		r = Overdue
	}
	if t.eng.Store == nil {
		if err := t.overInCookie(); err != nil {
			return err
		}
		if r == Whole {
			return t.rehearse()
		}
	}
	return t.flush(func() context.Context { return ctx }, r, true)
}

// enter takes the gate for a call with a context. It returns an error, without the
// gate, if there is no time, or if the request is over.
func (t *Txn) enter(ctx context.Context, verb string) error {
	ended := fmt.Errorf("%w: the request has ended", ErrTooLate)
	if t.over(verb) {
		return ended
	}
	if err := t.shared.Gate.LockBefore(ctx); err != nil {
		return err
	}
	if t.over(verb) {
		t.shared.Gate.Unlock()
		return ended
	}
	return nil
}

// timedOut reports whether the deadline of a request has passed: an
// http.TimeoutHandler outside has answered, and no cookie reaches the browser.
func timedOut(req Request) bool { return errors.Is(req.Err(), context.DeadlineExceeded) }

// rehearse reports what a commit in cookie mode would.
func (t *Txn) rehearse() error {
	var c change
	t.snapshot(&c, t.readData(), Whole, true)
	if c.action.Step == Seal {
		v, err := t.own(&c)
		if err == nil {
			_, _, err = t.cookieOf(v, &c)
		}
		if err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.rareLocked()
	r.saved, r.savedHash = c.n+1, c.hash
	return nil
}

// overInCookie returns ErrNotFound if a session in a cookie has ended meanwhile.
func (t *Txn) overInCookie() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exists == Loaded && !t.journal.TurnedSince(0) {
		if reason := t.eng.over(&t.base.Header, time.Now()); reason != NotNew {
			return fmt.Errorf("%w: it is over (%v)", ErrNotFound, reason)
		}
	}
	return nil
}

// lasting returns the context of a commit. It goes on when the client has hung
// up, so that a logout is not lost with the connection, but not for ever.
func (t *Txn) lasting() context.Context {
	switch {
	case t.eng.Store == nil:
		return t.req
	case t.eng.NeverWait:
		return context.WithoutCancel(t.req)
	}
	return t.eng.commits.Limit(t.req, Timeout)
}

func (t *Txn) currentBase() *Base {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.base
}

// visible turns the errors that the user does not see into events, and returns
// the others.
func (t *Txn) visible(err error) error {
	var d *errDiscarded
	switch {
	case errors.As(err, &d):
		return nil // there was an event
	case errors.Is(err, ErrTooLate):
		t.mu.Lock()
		defer t.mu.Unlock()
		var late *lateError
		if errors.As(err, &late) {
			r := t.rareLocked()
			if r.told != nil && *r.told == *late {
				return nil
			}
			r.told = late
		}
		t.eventLocked(Event{Kind: Late, Err: err})
		return nil
	}
	err = fmt.Errorf("sessions: %w", err)
	t.event(Event{Kind: Failed, Err: err})
	return err
}

// carryOut does what was planned.
func (t *Txn) carryOut(ctx context.Context, c *change) (err error) {
	if c.action.End {
		if err := t.end(ctx, c.facts.Reach); err != nil {
			return err
		}
	}
	switch c.action.Step {
	case Nothing:
	case Touch:
		err = t.touch(ctx, c)
	case Spend:
		err = t.spend(ctx, c)
	case Reissue:
		t.reissue(c.base, c.now)
	case Seal:
		err = t.seal(c)
	case Create, Replace, Move:
		err = t.store(ctx, c)
	case Discard:
		reason := Unknown
		if c.facts.Exists == Behind {
			reason = Replaced
		}
		return t.discard(c, reason, ErrNotFound)
	case Missing:
		return &errDiscarded{ErrNotFound}
	}
	if err != nil {
		return err
	}
	if c.action.Late != InTime {
		return &lateError{c.action.Late, c.hash}
	}
	return t.end(ctx, c.facts.Reach) // by another goroutine, since the commit began
}

// A lateError says what came too late. It wraps ErrTooLate.
type lateError struct {
	what Lateness
	hash uint64 // of Data then
}

func (e *lateError) Error() string { return fmt.Sprintf("%v: %s", ErrTooLate, lateness[e.what]) }
func (e *lateError) Unwrap() error { return ErrTooLate }

var lateness = [...]string{
	LateEnd:     "Destroy or Reset after the headers had left",
	LateMove:    "RegenerateID, RotateID or a new owner when the new id cannot reach the browser; what the request changed is not stored",
	LateChange:  "the session was changed when its cookie could not be sent any more",
	LateProlong: "SetLifetime after the headers had left",
}

// discard gives up the changes of a request whose session is lost, and all that
// it may make later.
func (t *Txn) discard(c *change, reason Reason, err error) error {
	t.mu.Lock()
	if !t.journal.Ending() {
		given := *t.base
		given.Hash = c.hash // these changes need no second event
		t.base = &given
		t.settleLocked(c.n)
	}
	t.mu.Unlock()
	return t.lose(reason, err)
}

// vanished is discard for a record that is not there any more. A session in which
// there was nothing has ended with its last message: what this request has to keep
// begins another.
func (t *Txn) vanished(c *change, err error) error {
	t.mu.Lock()
	if c.wasEmpty(t.eng) && !t.journal.Ending() {
		t.restartLocked()
		t.mu.Unlock()
		return errAgain
	}
	t.mu.Unlock()
	return t.discard(c, Unknown, err)
}

// wasEmpty reports whether the session was loaded without data.
func (c *change) wasEmpty(e *Engine) bool { return c.base.Hash == e.None.Hash && c.base.Owner == "" }

// lose notes that somebody else has ended the session, moved it, or stored what
// this program cannot read.
func (t *Txn) lose(reason Reason, err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.eventLocked(Event{Kind: Discarded, Reason: reason, Err: err})
	if !t.journal.Ending() { // what a Reset has begun is not lost
		if t.exists != Behind {
			t.exists = Lost
		}
		t.cookie = "" // that of a Save, for an id that is dead now
		if cause := causes[reason]; cause != nil && t.base.kept() {
			t.eng.Watches.Ended(t.base.ID, cause)
		}
	}
	return &errDiscarded{err}
}

// settleLocked removes the ops before a number from the journal.
func (t *Txn) settleLocked(n int32) {
	if t.rare != nil && len(t.rare.came) > 0 {
		t.rare.came = without(t.rare.came, t.foldLocked(0, n).Consumed)
	}
	t.journal.Settle(n)
}

// deleteOrphans deletes records that an unfinished Save has left. Nobody has
// a cookie for them.
func (t *Txn) deleteOrphans(ctx context.Context) {
	t.mu.Lock()
	var orphans []ID
	if t.rare != nil {
		orphans, t.rare.orphans = t.rare.orphans, nil
	}
	t.mu.Unlock()
	for _, id := range orphans {
		_ = t.eng.Store.Delete(ctx, id, 0)
	}
}

func droppedEvent(v *version) Event {
	return Event{Kind: FlashDropped, Err: fmt.Errorf("%d of the oldest: more than %d were waiting, or the cookie has no room", v.dropped, wire.MaxFlashes)}
}

// settle notes that a version was stored as base.
func (t *Txn) settle(c *change, v *version, base *Base) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v.dropped > 0 {
		t.eventLocked(droppedEvent(v))
	}
	switch {
	case !c.base.kept():
		t.tellLocked(Event{Kind: Started, Reason: t.reason, Owner: v.owner}, base.ID, ID{})
	case base.ID != c.base.ID:
		t.tellLocked(Event{Kind: Renewed, Owner: v.owner, PreviousOwner: c.base.Owner}, base.ID, c.base.ID)
	}
	if t.journal.Ending() { // since the commit began
		t.rare.doomed = append(t.rare.doomed, doomed{base.ID, base.Version, v.owner, t.rare.why})
		return
	}
	base.Hash = c.hash
	if v.data != t.data() { // merged
		codec.Set(t.data(), v.data)
		base.Hash = t.eng.Codec.Hash(t.data())
	}
	t.endImports = t.endImports || c.view.Imported
	former := t.base.ID
	t.base, t.exists, t.oldCookie = base, Loaded, false
	if base.ID != former {
		t.followLocked()
	}
	if t.eng.Store == nil {
		if base.ID != former {
			t.eng.Watches.Ended(former, causes[Replaced])
		}
		t.eng.Watches.Renewed(base.ID, t.eng.stateOfBase(base))
	}
	if t.rare != nil {
		t.rare.attempts, t.rare.passed = nil, false
	}
	if !t.journal.TurnedSince(c.n) {
		t.id = c.identity
	}
	t.settleLocked(c.n)
	if c.view.LateProlong && c.facts.Proof {
		t.journal.Append(Op{Verb: SetLifetime, Late: true}, nil) // the commit reports it too
	}
}
