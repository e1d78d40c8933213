package txn

// An Existence says what is known of the session where it is kept.
type Existence uint8

const (
	Fresh  Existence = iota // it is kept nowhere yet
	Loaded                  // it is kept as the base says
	Lost                    // it was kept, and somebody else has ended it or moved it to another id
	Ended                   // this request has destroyed it
)

// A Reach says what can still get to the browser.
type Reach uint8

const (
	Whole  Reach = iota // a cookie, also with a new id
	Header              // a cookie, if somebody sends the header: no new id
	Gone                // nothing: the headers have left
)

// Facts are what a plan depends on besides the ops.
type Facts struct {
	Stored  bool // in a Store; else in the cookie
	Exists  Existence
	Changed bool // Data is not as it is kept
	OldKey  bool // an older key than the newest has made the cookie
	Due     bool // the use of the session is to be noted
	Proof   bool // the caller wants to know whether the session still exists
	Reach   Reach
}

// A Step is what a commit does where the session is kept.
type Step uint8

const (
	Nothing Step = iota
	Touch        // note the use of an unchanged session, or ask whether it exists
	Reissue      // make the cookie of an unchanged session anew
	Seal         // put the session into the cookie
	Create       // store a new record
	Replace      // store a new version of the record
	Move         // store a new record, then end the old one
	Discard      // give the changes up: the session is lost
	Missing      // the same without changes
)

// A Lateness says what a commit cannot do any more.
type Lateness uint8

const (
	InTime Lateness = iota
	LateEnd
	LateMove
	LateProlong
	LateChange
)

// An Action is what a commit does. End comes first, then Step, then Cookie. Late
// is reported last.
type Action struct {
	End    bool // delete what Destroy and Reset ended, and expire the cookie
	Step   Step
	Cookie bool // set the cookie with the id
	Late   Lateness
}

// Plan decides what a commit does. It is a pure function, and the policy of a
// commit stands nowhere else.
func Plan(f Facts, v View) (a Action) {
	if v.End && !f.Stored && f.Reach == Gone {
		return Action{Late: LateEnd}
	}
	a.End = v.End
	if v.Destroyed || f.Exists == Ended {
		return a
	}
	changed := f.Changed || len(v.Added)+len(v.Consumed) > 0 || v.Move || v.Prolong || v.Imported
	switch {
	case f.Exists == Lost && changed:
		a.Step = Discard
		return a
	case f.Exists == Lost:
		a.Step = Missing
		return a
	case v.LateMove || v.Move && f.Reach != Whole:
		// Rights that belong to a new id must not come to the old one.
		a.Late = LateMove
		return a
	case changed && f.Reach == Gone && (!f.Stored || f.Exists == Fresh || v.Prolong):
		a.Late = LateChange
		return a
	case changed && !f.Stored:
		a.Step = Seal
	case changed && f.Exists == Fresh:
		a.Step, a.Cookie = Create, true
	case changed && v.Move:
		a.Step, a.Cookie = Move, true
	case changed:
		a.Step, a.Cookie = Replace, v.Prolong || f.OldKey && f.Reach != Gone
	case f.Exists == Fresh || v.LateProlong:
	case !f.Stored && f.Reach != Gone && (f.OldKey || f.Due):
		a.Step = Reissue
	case f.Stored:
		a.Cookie = f.OldKey && f.Reach == Whole
		if f.Due || f.Proof || a.Cookie {
			a.Step = Touch
		}
	}
	if v.LateProlong {
		a.Late = LateProlong
	}
	return a
}
