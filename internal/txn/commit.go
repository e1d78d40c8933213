package txn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
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
		return t.outcome, nil
	}
	shown := t.visible(err)
	if r == Overdue && errors.Is(err, ErrTooLate) {
		shown = fmt.Errorf("sessions: the request's deadline has passed: %w", err)
	}
	return t.outcome, shown
}

// commitToHeader is Commit where the handler, or nobody, sends the header.
func (t *Txn) commitToHeader() (Outcome, error) {
	base, before, saved := t.currentBase(), t.outcome.Cookie, t.savedAll()
	err := t.flush(t.lasting, Header, false)
	if err == nil && !saved && t.outcome.Cookie != before && t.currentBase() != base { // one that a read has renewed is no loss
		t.event(Event{Kind: Late, Err: errors.New("the connection was hijacked: the session's cookie stands in the header for whoever still sends it")})
	}
	if err != nil {
		err = t.visible(err)
	}
	return t.outcome, err
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
	return t.outcome
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

// savedAll reports whether a Save has seen all that the request did: whoever
// calls it before a handshake means to send the cookie.
func (t *Txn) savedAll() bool {
	if t.rare == nil || t.rare.saved == 0 {
		return false
	}
	read := t.readData()
	return t.rare.saved == read.n+1 && t.rare.savedHash == read.hash
}

// noteSaved notes what a Save has seen. The gate is held.
func (t *Txn) noteSaved() {
	read := t.readData()
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.rareLocked()
	r.saved, r.savedHash = read.n+1, read.hash
}

func (t *Txn) save(ctx context.Context) (err error) {
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
	switch {
	case t.shared.Phase.Left():
		r = Gone
	case timedOut(t.req):
		r = Overdue
	}
	if t.eng.Store == nil {
		err = t.overInCookie()
	}
	switch {
	case err != nil:
	case t.eng.Store == nil && r == Whole:
		err = t.rehearse()
	default:
		err = t.flush(func() (context.Context, context.CancelFunc) { return ctx, func() {} }, r, true)
	}
	if err == nil {
		t.noteSaved()
	}
	return err
}

// timedOut reports whether the deadline of a request has passed: an
// http.TimeoutHandler outside has answered, and no cookie reaches the browser.
func timedOut(req Request) bool { return errors.Is(req.Err(), context.DeadlineExceeded) }

// rehearse reports what a commit in cookie mode would.
func (t *Txn) rehearse() error {
	var c change
	t.snapshot(&c, t.readData(), Whole, true)
	if c.action.Step != Seal {
		return nil
	}
	v, err := t.own(&c)
	if err == nil {
		_, _, err = t.cookieOf(v, &c)
	}
	return err
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

// A reading is what a commit reads in Data.
type reading struct {
	n     int32 // the number of the first op after it was read
	hash  uint64
	zero  bool
	owner string
	err   error // of Config.Owner
}

// A change is what a request did to its session since that was last stored, as
// it stands when a commit begins. The commit works on it while other goroutines
// of the request may go on.
type change struct {
	reading
	facts    Facts
	view     View
	action   Action
	from     int32 // the number of its first op
	ops      []Op
	base     *Base
	kept     []byte    // the encoded data that this request began with
	began    int64     // when a new session began
	identity *Identity // that the session is to have; nil: that of base, in a cookie
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
	owner   string
	life    Life
	foreign Foreign
	mark    []byte // of a record that is to take the place of another, for those who count sessions
}

// nothingIn reports whether nothing would be kept of a version.
func (t *Txn) nothingIn(v *version) bool {
	return len(v.flashes) == 0 && v.life.Lifetime == 0 && v.foreign.Extensions == nil && v.foreign.Unknown == nil && t.eng.Codec.IsZero(v.data)
}

// own returns the version that a commit tries first.
func (t *Txn) own(c *change) (*version, error) {
	v := &c.first
	v.data = t.data()
	if c.err != nil {
		return v, c.err
	}
	return v, t.dress(c, v, c.base)
}

// dress fills in what goes with the data of a version: its owner, its life, and
// what other programs have put into base, which it is to replace.
func (t *Txn) dress(c *change, v *version, base *Base) (err error) {
	v.owner = c.owner
	if v.data != t.data() { // merged
		if v.owner, err = t.eng.OwnerOf(v.data, base.Owner); err != nil {
			return err
		}
	}
	passed := base.kept() && v.owner != base.Owner
	v.life = t.eng.lifeAfter(c, base, v.owner)
	if !passed && !c.view.Anew {
		v.foreign = base.foreign()
	}
	v.foreign.Extensions = c.view.extend(v.foreign.Extensions)
	if v.foreign.Data != nil {
		hash := c.hash
		if v.data != t.data() {
			hash = t.eng.Codec.Hash(v.data)
		}
		if hash != base.Hash {
			v.foreign.Data = nil
		}
	}
	if t.eng.Labels == nil {
		return nil
	}
	var was any
	if base.Kept != nil && len(v.foreign.Labels) > 0 {
		if was, err = t.eng.Codec.With(t.eng.Codec.New(), base.Kept); err != nil {
			return err
		}
	}
	v.foreign.Labels, err = t.eng.labels(v.foreign.Labels, was, v.data)
	return err
}

// lifeAfter returns the life that a change gives the session that is kept as base
// says: that of base, but for what the request asked for. A session that passes
// to another owner begins a new one, without the length that SetLifetime gave the
// former owner.
func (e *Engine) lifeAfter(c *change, base *Base, owner string) Life {
	l := e.begin(c.began, 0, owner)
	if base.kept() {
		l = lifeOf(&base.Header)
		if owner != base.Owner {
			lifetime := l.Lifetime
			if base.Owner != "" {
				lifetime = 0
			}
			l = e.begin(c.now.UnixNano(), lifetime, owner)
		}
	}
	return e.after(l, owner, c.ops)
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
	read := reading{n: n}
	if read.hash, read.zero = t.hashSince(base); idle && read.hash == base.Hash { // as most are
		return nil
	}
	t.readOwner(&read, base)
	ctx, cancel := newCtx()
	defer cancel()
	t.deleteOrphans(ctx)
	for {
		var c change // not on the heap: BenchmarkRequest/W, 350 bytes
		t.snapshot(&c, read, r, proof)
		if err := t.carryOut(ctx, &c); !errors.Is(err, errAgain) {
			return err
		}
		read = t.readData()
	}
}

// idleLocked reports whether nothing has to be done for the session unless Data
// has changed: no verb was called, and no use has to be noted.
func (t *Txn) idleLocked(proof bool) bool {
	return len(t.journal.ops) == 0 && (t.rare == nil || t.rare.orphans == nil) &&
		(t.exists == Fresh || t.exists == Behind || t.exists == Loaded && !proof && !t.base.OldKey && t.eng.Idle == 0)
}

// readData reads Data anew.
func (t *Txn) readData() (read reading) {
	t.mu.Lock()
	t.clearLocked()
	n, base := t.journal.End(), t.base
	t.mu.Unlock()
	read.n = n
	read.hash, read.zero = t.hashSince(base)
	t.readOwner(&read, base)
	return read
}

// hashSince returns the hash of Data, and reports whether Data is zero. It need
// not be computed for a new session that nobody has put anything into.
func (t *Txn) hashSince(base *Base) (hash uint64, zero bool) {
	c := t.eng.Codec
	if base == t.eng.None && c.IsZero(t.data()) {
		return base.Hash, true
	}
	hash = c.Hash(t.data())
	return hash, hash == t.eng.None.Hash && c.IsZero(t.data())
}

// readOwner finds the owner of Data that has changed.
func (t *Txn) readOwner(read *reading, base *Base) {
	read.owner = base.Owner
	if read.hash != base.Hash {
		read.owner, read.err = t.eng.OwnerOf(t.data(), base.Owner)
	}
}

// snapshot captures what there is to store, all of it as of one moment. Data is
// read again if another goroutine has called a verb since that decides where Data
// belongs.
func (t *Txn) snapshot(c *change, read reading, r Reach, proof bool) {
	t.mu.Lock()
	for t.wipe || t.journal.TurnedSince(read.n) {
		t.mu.Unlock()
		read = t.readData()
		t.mu.Lock()
	}
	c.reading, c.now = read, time.Now()
	defer t.mu.Unlock()
	c.base, c.kept, c.n = t.base, t.base.Kept, t.journal.End()
	t.journal.seen = c.n
	c.facts = Facts{
		Stored: t.eng.Store != nil, Exists: t.exists, Changed: c.hash != c.base.Hash, Owned: c.owner != "",
		Passed: t.exists == Loaded && c.owner != c.base.Owner || t.rare != nil && t.rare.passed,
		OldKey: c.base.OldKey, Due: !proof && r != Gone && t.dueLocked(c.now), Proof: proof, Reach: r,
	}
	t.planLocked(c)
}

// planLocked plans a change anew, by the ops that it holds.
func (t *Txn) planLocked(c *change) {
	c.ops = t.journal.Ops(c.from, c.n)
	c.view = Fold(c.ops, t.exists == Loaded || t.exists == Lost)
	v := &c.first
	v.flashes, v.dropped, c.facts.Beside = c.base.Flashes, 0, false
	if len(c.view.Added)+len(c.view.Consumed) > 0 {
		v.flashes, v.dropped = mergeFlashes(c.base.Flashes, c.view.Consumed, c.view.Added)
		c.facts.Beside = v.dropped > 0 || !slices.Equal(v.flashes, c.base.Flashes)
	}
	foreign := c.base.foreign()
	extensions := foreign.Extensions
	if c.view.Extensions != nil {
		extended := c.view.extend(extensions)
		c.facts.Beside = c.facts.Beside || !bytes.Equal(extended, extensions)
		extensions = extended
	}
	c.facts.Empty = c.zero && len(v.flashes) == 0 && (c.view.Anew || extensions == nil && foreign.Unknown == nil) && t.eng.lifeAfter(c, c.base, c.owner).Lifetime == 0
	if t.rare != nil && t.rare.passed {
		c.facts.Empty = false // what was merged is not
	}
	c.action = Plan(c.facts, c.view)
	if c.action.Step >= Seal && c.action.Step <= Move {
		t.beginLocked(c.now)
		if c.facts.Passed && t.idLocked() == c.base.ID {
			t.id = t.eng.newIdentity()
		}
		t.idLocked()
	}
	c.identity, c.began = t.id, t.began
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
		return tooLate(c.action.Late)
	}
	return t.end(ctx, c.facts.Reach) // by another goroutine, since the commit began
}

func tooLate(l Lateness) error { return fmt.Errorf("%w: %s", ErrTooLate, lateness[l]) }

var lateness = [...]string{
	LateEnd:     "Destroy or Reset after the headers had left",
	LateMove:    "RegenerateID, RotateID or a new owner when the new id cannot reach the browser; what the request changed is not stored",
	LateChange:  "the session was changed when its cookie could not be sent any more",
	LateProlong: "SetLifetime after the headers had left",
}

// end ends what Destroy and Reset doomed, and then expires the cookie: if that
// fails, users must see that they are still signed in.
func (t *Txn) end(ctx context.Context, r Reach) error {
	t.mu.Lock()
	ending, n := t.journal.Ending(), t.journal.first+1
	var all []doomed
	if ending {
		all = t.rare.doomed
	}
	t.mu.Unlock()
	switch {
	case !ending:
		return nil
	case t.eng.Store == nil && r == Gone:
		return tooLate(LateEnd)
	}
	for _, d := range all {
		ended, err := t.eng.Finish(ctx, d.id, d.version)
		if err != nil {
			return err
		}
		if ended {
			t.tellEnd(d)
		}
	}
	t.mu.Lock()
	t.rare.doomed = t.rare.doomed[len(all):]
	t.journal.Settle(n)
	t.mu.Unlock()
	t.expireCookie()
	t.outcome.EndFormer = t.shared.HadCookie
	t.outcome.EndImports = true
	return nil
}

func (t *Txn) expireCookie() {
	t.outcome.Cookie = ""
	if t.shared.HadCookie {
		t.outcome.Cookie = t.eng.Cookie.Expire()
	}
}

// Finish ends the session with an id, whatever its version is now, and reports
// whether this call did. version is that which is probably stored, 0 if nothing
// is known. A tombstone stays.
func (e *Engine) Finish(ctx context.Context, id ID, version uint64) (ended bool, err error) {
	if e.Store == nil {
		return true, nil // its cookie expires
	}
	began := time.Now()
	for try := 0; ; try++ {
		if version == 0 {
			rec, err := e.Store.Newest(ctx, id)
			if errors.Is(err, ErrNotFound) {
				return false, nil
			}
			if err != nil {
				return false, &StoreError{"destroy", id, err}
			}
			if _, dead := wire.ReadTombstone(rec.Data); dead {
				return false, nil
			}
			version = rec.Version
		}
		err := e.Store.Delete(ctx, id, version)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, ErrNotFound):
			return false, nil
		case !errors.Is(err, ErrConflict):
			return false, &StoreError{"destroy", id, err}
		}
		version = 0
		if err := retry(ctx, try, began, "destroy", id); err != nil {
			return false, err
		}
	}
}

// spend ends a session of which nothing is left.
func (t *Txn) spend(ctx context.Context, c *change) error {
	if c.facts.Stored {
		ended, err := t.spendRecord(ctx, c)
		if err != nil {
			return err
		}
		if !ended {
			return nil // what another request has stored is kept
		}
	}
	t.spent(c)
	return nil
}

// spendRecord deletes the record, unless another request has put something into
// it.
func (t *Txn) spendRecord(ctx context.Context, c *change) (ended bool, err error) {
	id, expected, began := c.base.ID, c.base.Version, time.Now()
	for try := 0; ; try++ {
		err := t.eng.Store.Delete(ctx, id, expected)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, ErrNotFound):
			return false, t.vanished(c, err)
		case !errors.Is(err, ErrConflict):
			return false, &StoreError{"delete", id, err}
		}
		if err := retry(ctx, try, began, "delete", id); err != nil {
			return false, err
		}
		if c.mine, err = t.eng.Codec.Encode(nil, t.data()); err != nil {
			return false, err
		}
		v, version, err := t.rebase(ctx, c, id)
		if err != nil {
			return false, err
		}
		if expected = version; t.nothingIn(v) {
			continue
		}
		base, v, err := t.replace(ctx, c, v, expected)
		if err == nil {
			t.settle(c, v, base)
		}
		return false, err
	}
}

// spent notes that a session of which nothing is left has ended. What the request
// puts into it from now on begins another one.
func (t *Txn) spent(c *change) {
	t.expireCookie()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.journal.Ending() { // since the commit began
		return
	}
	t.tellLocked(Event{Kind: Finished, Reason: Spent, Owner: c.base.Owner}, c.base.ID, ID{})
	t.settleLocked(c.n)
	t.restartLocked()
}

// restartLocked makes the session one that is kept nowhere.
func (t *Txn) restartLocked() {
	if t.id != nil && t.id.ID == t.base.ID { // else it has been drawn, and shown, for what comes now
		t.id = nil
	}
	t.base, t.exists, t.reason, t.began = t.eng.None, Fresh, Spent, 0
}

// touch notes the use of an unchanged session, or asks whether it exists. With
// Cookie it makes the cookie anew. What fails is an event, unless somebody asks.
func (t *Txn) touch(ctx context.Context, c *change) error {
	base := c.base
	if ends := max(base.Ends, t.eng.recordEnd(base.Expires, c.now).UnixMilli()); c.facts.Due && ends != base.Ends {
		err := t.eng.Store.Touch(ctx, base.ID, time.UnixMilli(ends))
		t.changeBase(base, func(b *Base) { b.Ends = ends }) // also if that failed: once in a request is enough
		switch {
		case errors.Is(err, ErrNotFound):
			return t.lose(Unknown, err)
		case err != nil:
			t.event(Event{Kind: Failed, Err: &StoreError{"touch", base.ID, err}})
			return nil
		}
	}
	if c.action.Cookie || c.facts.Proof {
		return t.ask(ctx, c)
	}
	return nil
}

// changeBase changes a copy of base, unless Destroy or Reset came in between.
func (t *Txn) changeBase(base *Base, f func(b *Base)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.base.ID == base.ID {
		changed := *t.base
		f(&changed)
		t.base = &changed
	}
}

// ask finds out whether a session still exists. A cookie that is made anew ends
// when the session does now: a parallel SetLifetime may have changed that.
func (t *Txn) ask(ctx context.Context, c *change) error {
	rec, err := t.eng.Store.Newest(ctx, c.base.ID)
	life := lifeOf(&c.base.Header)
	switch reason := t.eng.gone(c.base.ID, rec, err, c.now, &life); {
	case reason != NotNew:
		return t.lose(reason, ErrNotFound)
	case err != nil && c.facts.Proof:
		return &StoreError{"load", c.base.ID, err}
	case err != nil:
		t.event(Event{Kind: Failed, Err: &StoreError{"load", c.base.ID, err}})
		return nil
	case c.action.Cookie:
		t.changeBase(c.base, func(b *Base) { b.OldKey = false })
		return t.readyID(c.identity, life, c.now)
	}
	return nil
}

// gone returns why a session does not exist any more, by what a Load returned,
// NotNew if it may exist. It changes life to that in the record, if that can be
// read.
func (e *Engine) gone(id ID, rec Record, err error, now time.Time, life *Life) Reason {
	if errors.Is(err, ErrNotFound) {
		return Unknown
	}
	if end, dead := wire.ReadTombstone(rec.Data); dead && end > now.Unix() {
		return Replaced
	} else if dead {
		return Unknown
	}
	if body, err := wire.OpenRecord(e.sealer(), id[:], rec.Data); err == nil {
		h := wire.ParseHeader(body)
		*life = lifeOf(&h)
	}
	if life.Expires <= now.Unix() {
		return Expired
	}
	return NotNew
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
		t.outcome.Cookie = "" // that of a Save, for an id that is dead now
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
	t.outcome.EndImports = t.outcome.EndImports || c.view.Imported
	t.base, t.exists = base, Loaded
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
