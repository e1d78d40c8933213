package txn

import (
	"math"
	"time"

	"github.com/typedsessions/sessions/internal/wire"
)

// A Verb is what a request did to its session, besides editing Data.
type Verb uint8

const (
	Flash       Verb = iota + 1 // leave a message
	Consume                     // take messages
	Update                      // run a function that can be repeated
	SetLifetime                 // change the absolute end
	Regenerate                  // take a new id and begin the lifetime anew
	Rotate                      // take a new id
	Extend                      // change an extension of the session
	Import                      // adopt the data of another library's session
	Destroy                     // end the session
	Reset                       // end the session and begin another
)

// An Op is one call of a verb.
type Op struct {
	Verb    Verb
	Late    bool          // the call came when its effect could not reach the browser any more
	At      int64         // when Regenerate and SetLifetime were called, in nanoseconds since 1970
	Length  time.Duration // of SetLifetime, 0 for the default
	Flashes []wire.Flash  // the messages of Flash and Consume
	Run     *Run          // of Update
	Extend  *Extension
}

// An Extension is a change of what a package of this module keeps in a session,
// beside Data.
type Extension struct {
	Tag    byte
	Change func(now []byte) []byte // may run again, on what another request has stored; nil is none
}

// A Run is the function of an Update and what it did.
type Run struct {
	F             func(data any) // nil: it cannot or need not be repeated
	Before, After []byte         // the encoded data around the first run
	Ops           []Op           // the verbs that the function called

	now      []wire.Flash // the messages of FlashNow
	repeated bool         // it runs again, after a conflict
	void     bool         // it called Destroy or Reset
}

// A Journal holds the ops of a request that are not stored yet, in their order.
// Each op has a number that no other op of the request has.
type Journal struct {
	ops   []Op
	first int32 // the number of ops[0]
	seen  int32 // a commit has seen the ops before this number
}

// End returns the number that the next op will have.
func (j *Journal) End() int32 { return j.first + int32(len(j.ops)) }

// Ops returns the ops from number from up to, and not including, number to. Ops
// that are settled are left out.
func (j *Journal) Ops(from, to int32) []Op {
	from, to = max(from-j.first, 0), max(to-j.first, 0)
	return j.ops[from:to:to]
}

// Append adds an op. It uses room for the first one, if there is any.
func (j *Journal) Append(op Op, room []Op) {
	if j.ops == nil {
		j.ops = room[:0:len(room)]
	}
	j.ops = append(j.ops, op)
}

// Restart replaces all ops by one that ends the session.
func (j *Journal) Restart(op Op) {
	j.first = j.End()
	j.ops = []Op{op}
}

// Absorb drops the op of a run that ended the journal and left nothing to store
// or repeat, if another such op before it says the same to the next commit. So
// a handler may call Update without end.
func (j *Journal) Absorb(run *Run) {
	n := len(j.ops)
	if n >= 2 && j.ops[n-1].Run == run && run.empty() && j.ops[n-2].Run.empty() && j.End()-2 >= j.seen {
		j.ops = j.ops[:n-1]
	}
}

// empty reports whether there is nothing to store or repeat of an Update.
func (r *Run) empty() bool { return r != nil && r.F == nil && len(r.Ops) == 0 }

// Settle removes the ops before a number: they are stored, or given up.
func (j *Journal) Settle(n int32) {
	if n > j.first {
		j.ops = j.ops[n-j.first:]
		j.first = n
	}
}

// Ending reports whether a Destroy or Reset is not carried out yet. It is the
// first op, since it replaces all others.
func (j *Journal) Ending() bool {
	return len(j.ops) > 0 && (j.ops[0].Verb == Destroy || j.ops[0].Verb == Reset)
}

// TurnedSince reports whether an op from number n on changes the id or the
// lifetime, or ends the session.
func (j *Journal) TurnedSince(n int32) bool { return turn(j.Ops(n, j.End())) }

func turn(ops []Op) bool {
	for i := range ops {
		if v := ops[i].Verb; v == SetLifetime || v == Regenerate || v == Rotate || v == Destroy || v == Reset {
			return true
		}
		if run := ops[i].Run; run != nil && turn(run.Ops) {
			return true
		}
	}
	return false
}

// A View is what ops amount to.
type View struct {
	End       bool // what was there before ends
	Destroyed bool // and nothing follows
	Move      bool // to a new id
	Anew      bool // a new authentication
	Prolong   bool // a stored session has a new end

	LateMove    bool // the same two, when they cannot reach the browser
	LateProlong bool

	Imported        bool
	Added, Consumed []wire.Flash
	Extensions      []*Extension
	Runs            []*Run // of Update, those that can be repeated
}

// Fold adds up the ops of a request. It is the one place where that is done.
// present is whether the session is stored before them: RegenerateID and
// SetLifetime of a session that is not stored are part of its beginning.
func Fold(ops []Op, present bool) (v View) {
	fold(ops, &present, &v)
	return v
}

func fold(ops []Op, present *bool, v *View) {
	for i := range ops {
		op := &ops[i]
		switch op.Verb {
		case Destroy, Reset:
			*v = View{End: true, Destroyed: op.Verb == Destroy}
			*present = false
			continue
		}
		if v.Destroyed {
			continue
		}
		switch op.Verb {
		case Flash:
			v.Added = append(v.Added, op.Flashes...)
		case Consume:
			v.Consumed = append(v.Consumed, op.Flashes...)
		case Update:
			if op.Run.F != nil && *present {
				v.Runs = append(v.Runs, op.Run)
			}
			fold(op.Run.Ops, present, v)
		case SetLifetime:
			v.LateProlong = v.LateProlong || op.Late
			v.Prolong = v.Prolong || *present && !op.Late
		case Regenerate:
			v.LateMove = v.LateMove || op.Late
			v.Move = v.Move || *present && !op.Late
			v.Anew = v.Anew || !op.Late
		case Rotate:
			v.LateMove = v.LateMove || op.Late
			v.Move = v.Move || *present && !op.Late
		case Extend:
			v.Extensions = append(v.Extensions, op.Extend)
		case Import:
			v.Imported = true
		}
	}
}

// after returns what ops make of a life. owner is whose session it is after them.
func (e *Engine) after(l Life, owner string, ops []Op) Life {
	for i := range ops {
		op := &ops[i]
		switch {
		case op.Verb == Update:
			l = e.after(l, owner, op.Run.Ops)
		case op.Late:
		case op.Verb == Regenerate:
			l = e.begin(op.At, l.Lifetime, owner)
		case op.Verb == SetLifetime:
			l.Lifetime = uint32(min((op.Length+time.Second-1)/time.Second, math.MaxUint32))
			l.Expires = e.begin(op.At, 0, owner).Expires
			if op.Length > 0 {
				l.Expires = wire.EndOf(time.Unix(0, op.At), op.Length)
			}
		}
	}
	return l
}

// begin returns a life that begins at a time in nanoseconds since 1970. lifetime
// is the length that SetLifetime gave, 0 for none.
func (e *Engine) begin(at int64, lifetime uint32, owner string) Life {
	now, length := time.Unix(0, at), e.Lifetime
	switch {
	case lifetime > 0:
		length = time.Duration(lifetime) * time.Second
	case owner == "" && e.Anonymous > 0:
		length = e.Anonymous
	}
	return Life{now.Unix(), wire.EndOf(now, length), lifetime}
}

// extend returns the entries of extensions with the changes of a view.
func (v *View) extend(entries []byte) []byte {
	for _, x := range v.Extensions {
		entries = wire.WithExtension(entries, x.Tag, x.Change(wire.Extension(entries, x.Tag)))
	}
	return entries
}
