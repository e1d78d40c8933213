package txn

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/typedsessions/sessions/internal/wire"
)

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
	entries []byte // of the extensions
	foreign Foreign
	mark    []byte // of a record that is to take the place of another, for those who count sessions
}

// nothingIn reports whether nothing would be kept of a version.
func (t *Txn) nothingIn(v *version) bool {
	return len(v.flashes) == 0 && v.life.Lifetime == 0 && v.entries == nil && v.foreign.Unknown == nil && t.eng.Codec.IsZero(v.data)
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
		v.entries, v.foreign = base.Extensions, base.foreign()
	}
	v.entries = c.view.extend(v.entries)
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
func (t *Txn) flush(newCtx func() context.Context, r Reach, proof bool) error {
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
	ctx := newCtx()
	t.deleteOrphans(ctx)
	for {
		var c change // not on the heap: BenchmarkRequest/W, 350 bytes
		t.snapshot(&c, read, r, proof)
		t.see(c.n)
		if err := t.carryOut(ctx, &c); !errors.Is(err, errAgain) {
			return err
		}
		read = t.readData()
	}
}

// see notes that a commit has seen the ops before a number.
func (t *Txn) see(n int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.journal.seen = n
}

// idleLocked reports whether nothing has to be done for the session unless Data
// has changed: no verb was called, and no use has to be noted.
func (t *Txn) idleLocked(proof bool) bool {
	return len(t.journal.ops) == 0 && (t.rare == nil || t.rare.orphans == nil) &&
		(t.exists == Fresh || t.exists == Behind || t.exists == Loaded && !proof && !t.oldCookie && t.eng.Idle == 0)
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
	c.facts = Facts{
		Stored: t.eng.Store != nil, Exists: t.exists, Changed: c.hash != c.base.Hash, Owned: c.owner != "",
		Passed:    t.exists == Loaded && c.owner != c.base.Owner || t.rare != nil && t.rare.passed,
		OldCookie: t.oldCookie, Due: !proof && r != Gone && t.dueLocked(c.now), Proof: proof, Reach: r,
	}
	t.planLocked(c)
}

// planLocked plans a change anew, by the ops that it holds.
func (t *Txn) planLocked(c *change) {
	t.foldChangeLocked(c)
	v := &c.first
	v.flashes, v.dropped, c.facts.Beside = c.base.Flashes, 0, false
	if len(c.view.Added)+len(c.view.Consumed) > 0 {
		v.flashes, v.dropped = mergeFlashes(c.base.Flashes, c.view.Consumed, c.view.Added)
		c.facts.Beside = v.dropped > 0 || !slices.Equal(v.flashes, c.base.Flashes)
	}
	extensions := c.base.Extensions
	if c.view.Extensions != nil {
		extended := c.view.extend(extensions)
		c.facts.Beside = c.facts.Beside || !bytes.Equal(extended, extensions)
		extensions = extended
	}
	c.facts.Empty = c.zero && len(v.flashes) == 0 && (c.view.Anew || extensions == nil && c.base.foreign().Unknown == nil) && t.eng.lifeAfter(c, c.base, c.owner).Lifetime == 0
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

// foldChangeLocked takes the ops of a change and adds them up.
func (t *Txn) foldChangeLocked(c *change) {
	c.ops, c.view = t.journal.Ops(c.from, c.n), t.foldLocked(c.from, c.n)
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
