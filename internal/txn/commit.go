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
	if err != nil {
		err = t.visible(err)
	}
	return Outcome{t.cookie, t.endImports}, err
}

// commitToHeader is Commit where the handler, or nobody, sends the header.
func (t *Txn) commitToHeader() (Outcome, error) {
	saved, base := t.cookie != "", t.currentBase()
	err := t.flush(t.lasting, Header, false)
	if err == nil && t.cookie != "" && (saved || t.currentBase() != base) { // one that a read has renewed is no loss
		t.event(Event{Kind: Late, Err: errors.New("the connection was hijacked, or the request's deadline has passed: the session's cookie stands in the header for whoever still sends it")})
	}
	if err != nil {
		err = t.visible(err)
	}
	return Outcome{t.cookie, t.endImports}, err
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
	ctx, cancel := t.lasting()
	defer cancel()
	t.deleteOrphans(ctx)
	if err := t.end(ctx, r); err != nil {
		_ = t.visible(err)
	}
	return Outcome{t.cookie, t.endImports}
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

func (t *Txn) save(ctx context.Context) error {
	ended := fmt.Errorf("%w: the request has ended", ErrTooLate)
	if t.over("Save") {
		return ended
	}
	if err := t.shared.Gate.LockBefore(ctx); err != nil {
		return err
	}
	defer t.shared.Gate.Unlock()
	if t.over("Save") {
		return ended
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r := Whole
	if t.shared.Phase.Left() || TimedOut(t.req) {
		r = Gone
	}
	if t.eng.Store == nil && r == Whole {
		return t.rehearse()
	}
	return t.flush(func() (context.Context, context.CancelFunc) { return ctx, func() {} }, r, true)
}

// TimedOut reports whether the deadline of a request has passed: an
// http.TimeoutHandler outside has answered, and no cookie reaches the browser.
func TimedOut(req Request) bool { return errors.Is(req.Err(), context.DeadlineExceeded) }

// rehearse reports what a commit in cookie mode would.
func (t *Txn) rehearse() error {
	var c change
	n, hash := t.readData()
	t.snapshot(&c, n, hash, Whole, false)
	if c.action.Step != Seal {
		return nil
	}
	_, _, err := t.cookieOf(c.own(t.data()), &c)
	return err
}

// lasting returns the context of a commit. It goes on when the client has hung
// up, so that a logout is not lost with the connection, but not for ever.
func (t *Txn) lasting() (context.Context, context.CancelFunc) {
	if t.eng.Store == nil {
		return t.req, func() {}
	}
	return t.eng.Limit(context.WithoutCancel(t.req))
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
		if r := t.rareLocked(); !r.told {
			t.eventLocked(Event{Kind: Late, Err: err})
			v := t.foldLocked(0, t.journal.End())
			r.told = v.LateMove || v.Move || v.LateProlong
		}
		return nil
	}
	err = fmt.Errorf("sessions: %w", err)
	t.event(Event{Kind: Failed, Err: err})
	return err
}

// A change is what a request did to its session since that was last stored, as
// it stands when a commit begins. The commit works on it while other goroutines
// of the request may go on.
type change struct {
	facts    Facts
	view     View
	action   Action
	from, n  int32 // the numbers of its first op and of the first op after it
	base     *Base
	kept     []byte    // the encoded data that this request began with
	identity *Identity // that the session is to have; nil: that of base, in a cookie
	life     Life
	hash     uint64 // of Data
	now      time.Time
	mine     []byte // Data, encoded
	first    version
}

func (c *change) id() ID {
	if c.identity == nil {
		return c.base.ID
	}
	return c.identity.ID
}

// A version is what a commit tries to store: at first this request's own view,
// after a conflict its changes on what another request stored.
type version struct {
	data    any
	encoded []byte
	flashes []wire.Flash
	dropped int
	life    Life
	foreign Foreign
}

// own returns the version that a commit tries first.
func (c *change) own(data any) *version {
	v := &c.first
	v.data, v.life, v.foreign = data, c.life, c.base.foreign()
	if c.view.Move { // what this program does not know may be rights
		v.foreign = Foreign{}
	}
	v.flashes, v.dropped = mergeFlashes(c.base.Flashes, c.view.Consumed, c.view.Added)
	return v
}

// flush brings the session to where it is kept, and readies its cookie. The gate
// is held. newCtx returns the context of the store's operations; a session that
// was only read needs none. proof asks whether an unchanged session still exists.
func (t *Txn) flush(newCtx func() (context.Context, context.CancelFunc), r Reach, proof bool) error {
	t.mu.Lock()
	t.clearLocked()
	n, base := t.journal.End(), t.base
	t.journal.seen = n
	idle := t.idleLocked(proof)
	t.mu.Unlock()
	hash := t.hashSince(base)
	if idle && hash == base.Hash { // as most are
		return nil
	}
	ctx, cancel := newCtx()
	defer cancel()
	t.deleteOrphans(ctx)
	for {
		var c change // not on the heap: BenchmarkRequest/W, 350 bytes
		t.snapshot(&c, n, hash, r, proof)
		if err := t.carryOut(ctx, &c); !errors.Is(err, errAgain) {
			return err
		}
		n, hash = t.readData()
	}
}

// idleLocked reports whether nothing has to be done for the session unless Data
// has changed: no verb was called, and no use has to be noted.
func (t *Txn) idleLocked(proof bool) bool {
	return len(t.journal.ops) == 0 && (t.rare == nil || t.rare.orphans == nil) &&
		(t.exists == Fresh || t.exists == Loaded && !proof && !t.base.OldKey && t.eng.Idle == 0)
}

// readData returns the hash of Data, and the number of the first op after it was
// read.
func (t *Txn) readData() (n int32, hash uint64) {
	t.mu.Lock()
	t.clearLocked()
	n, base := t.journal.End(), t.base
	t.mu.Unlock()
	return n, t.hashSince(base)
}

// hashSince returns the hash of Data. It need not be computed for a new session
// that nobody has put anything into.
func (t *Txn) hashSince(base *Base) uint64 {
	if base == t.eng.None && t.eng.Codec.IsZero(t.data()) {
		return base.Hash
	}
	return t.eng.Codec.Hash(t.data())
}

// snapshot captures what there is to store, all of it as of one moment. hash is
// that of Data when the next op had the number n: Data is read again if another
// goroutine has called a verb since that decides where Data belongs.
func (t *Txn) snapshot(c *change, n int32, hash uint64, r Reach, proof bool) {
	t.mu.Lock()
	for t.wipe || t.journal.TurnedSince(n) {
		t.mu.Unlock()
		n, hash = t.readData()
		t.mu.Lock()
	}
	c.hash, c.now = hash, time.Now()
	defer t.mu.Unlock()
	c.base, c.kept, c.n = t.base, t.base.Kept, t.journal.End()
	t.journal.seen = c.n
	c.facts = Facts{
		Stored: t.eng.Store != nil, Exists: t.exists, Changed: c.hash != c.base.Hash,
		OldKey: c.base.OldKey, Due: t.dueLocked(c.now), Proof: proof, Reach: r,
	}
	t.planLocked(c)
}

// planLocked plans a change anew, by the ops that it holds.
func (t *Txn) planLocked(c *change) {
	c.view = t.foldLocked(c.from, c.n)
	c.action = Plan(c.facts, c.view)
	if c.action.Step >= Seal && c.action.Step <= Move {
		t.beginLocked(c.now)
		t.idLocked()
	}
	c.identity, c.life = t.id, t.life
}

// foldLocked adds up the ops from number from up to number n.
func (t *Txn) foldLocked(from, n int32) View {
	return Fold(t.journal.Ops(from, n), t.exists == Loaded || t.exists == Lost)
}

// dueLocked reports whether the use of a session is to be noted: at most once in
// a tenth of the idle timeout.
func (t *Txn) dueLocked(now time.Time) bool {
	if t.eng.Idle == 0 || t.exists != Loaded {
		return false
	}
	used := time.Unix(t.base.Used, 0)
	if t.eng.Store != nil {
		used = time.UnixMilli(t.base.Ends).Add(-t.eng.Idle)
	}
	return now.Sub(used) >= t.eng.Idle/10
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
	case Reissue:
		t.reissue(c.base, c.now)
	case Seal:
		err = t.seal(c)
	case Create, Replace, Move:
		err = t.store(ctx, c)
	case Discard:
		return t.discard(c, Unknown, ErrNotFound)
	case Missing:
		return &errDiscarded{ErrNotFound}
	}
	if err != nil {
		return err
	}
	if c.action.Late != InTime {
		return tooLate(c.action.Late)
	}
	return t.end(ctx, c.facts.Reach) // by another goroutine, since the commit began
}

func tooLate(l Lateness) error { return fmt.Errorf("%w: %s", ErrTooLate, lateness[l]) }

var lateness = [...]string{
	LateEnd:     "Destroy or Reset after the headers had left",
	LateMove:    "RegenerateID when the new id cannot reach the browser; what the request changed is not stored",
	LateChange:  "the session was changed when its cookie could not be sent any more",
	LateProlong: "SetLifetime after the headers had left",
}

// end deletes the records that Destroy and Reset ended, and then expires the
// cookie: if the deletion fails, users must see that they are still signed in.
func (t *Txn) end(ctx context.Context, r Reach) error {
	t.mu.Lock()
	ending, n := t.journal.Ending(), t.journal.first+1
	var ids []ID
	if ending {
		ids = t.rare.doomed
	}
	t.mu.Unlock()
	switch {
	case !ending:
		return nil
	case t.eng.Store == nil && r == Gone:
		return tooLate(LateEnd)
	}
	for _, id := range ids {
		if err := t.eng.Store.Delete(ctx, id, 0); err != nil {
			return &StoreError{"destroy", id, err}
		}
	}
	t.mu.Lock()
	t.rare.doomed = t.rare.doomed[len(ids):]
	t.journal.Settle(n)
	t.mu.Unlock()
	t.cookie = ""
	if t.shared.HadCookie {
		t.cookie = t.eng.Cookie.Expire()
	}
	t.endImports = true
	return nil
}

// touch notes the use of an unchanged session, or asks whether it exists. With
// Cookie it makes the cookie anew. What fails is an event, unless somebody asks.
func (t *Txn) touch(ctx context.Context, c *change) error {
	base := c.base
	ends := base.Ends
	if c.facts.Due {
		ends = max(ends, t.eng.recordEnd(base.Expires, c.now).UnixMilli())
	}
	if !c.action.Cookie && !c.facts.Proof && ends == base.Ends {
		return nil
	}
	err := t.eng.Store.Touch(ctx, base.ID, time.UnixMilli(ends))
	t.mu.Lock()
	if t.base == base { // no Destroy or Reset came in between
		touched := *base
		touched.Ends = ends // also if that failed: once in a request is enough
		touched.OldKey = base.OldKey && !c.action.Cookie
		t.base = &touched
	}
	t.mu.Unlock()
	switch {
	case errors.Is(err, ErrNotFound):
		return t.lose(Unknown, err)
	case err != nil && c.facts.Proof:
		return &StoreError{"touch", base.ID, err}
	case err != nil:
		t.event(Event{Kind: Failed, Err: &StoreError{"touch", base.ID, err}})
	case c.action.Cookie:
		return t.reissueID(ctx, c)
	}
	return nil
}

// reissueID renews a cookie with an id, until the end that the session has now:
// a parallel SetLifetime may have changed it since it was loaded.
func (t *Txn) reissueID(ctx context.Context, c *change) error {
	life := lifeOf(&c.base.Header)
	rec, err := t.eng.Store.Load(ctx, c.base.ID)
	if errors.Is(err, ErrNotFound) {
		return t.lose(Unknown, err)
	}
	if err == nil {
		if body, err := wire.OpenRecord(t.eng.sealer(), c.base.ID[:], rec.Data); err == nil {
			h := wire.ParseHeader(body)
			life = lifeOf(&h)
		}
	}
	return t.readyID(c.identity, life, c.now)
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

// lose notes that somebody else has ended the session, moved it, or stored what
// this program cannot read.
func (t *Txn) lose(reason Reason, err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.eventLocked(Event{Kind: Discarded, Reason: reason, Err: err})
	if !t.journal.Ending() { // what a Reset has begun is not lost
		t.exists = Lost
		t.cookie = "" // that of a Save, for an id that is dead now
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

// settle notes that a version was stored as base.
func (t *Txn) settle(c *change, v *version, base *Base) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v.dropped > 0 {
		t.eventLocked(Event{Kind: FlashDropped, Err: fmt.Errorf("%d of the oldest, more than %d were waiting", v.dropped, wire.MaxFlashes)})
	}
	if t.journal.Ending() { // since the commit began
		if t.eng.Store != nil {
			t.rare.doomed = append(t.rare.doomed, base.ID)
		}
		return
	}
	base.Hash = c.hash
	if v.data != t.data() { // merged
		codec.Set(t.data(), v.data)
		base.Hash = t.eng.Codec.Hash(t.data())
	}
	t.endImports = t.endImports || c.view.Imported
	existed := t.exists == Loaded
	t.base, t.exists = base, Loaded
	if t.rare != nil {
		t.rare.attempts = nil
	}
	if !t.journal.TurnedSince(c.n) {
		t.id, t.life = c.identity, v.life
	}
	t.settleLocked(c.n)
	if c.view.LateProlong && c.facts.Proof {
		t.journal.Append(Op{Verb: SetLifetime, Late: true}, nil) // the commit reports it too
	}
	if !existed {
		t.eventLocked(Event{Kind: Started, Reason: t.reason})
	}
}
