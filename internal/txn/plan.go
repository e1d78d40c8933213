package txn

// An Existence says what is known of the session where it is kept.
type Existence uint8

const (
	Fresh  Existence = iota // it is kept nowhere yet
	Behind                  // the same, and the request came with an id that another has just replaced
	Loaded                  // it is kept as the base says
	Lost                    // it was kept, and somebody else has ended it or moved it to another id
	Ended                   // this request has destroyed it
)

// A Reach says what can still get to the browser.
type Reach uint8

const (
	Whole   Reach = iota // a cookie, also with a new id
	Header               // a cookie, if somebody sends the header: no new id
	Overdue              // the end of a cookie: the request's deadline has passed, and somebody outside may have answered
	Gone                 // nothing: the headers have left
)

// Facts are what a plan depends on besides the ops.
type Facts struct {
	Stored    bool // in a Store; else in the cookie
	Exists    Existence
	Changed   bool // Data is not as it is kept
	Beside    bool // what is kept beside Data is not as it is kept: messages, extensions
	Owned     bool // the session has an owner
	Passed    bool // to another owner than the one that it was loaded with
	Empty     bool // nothing would be kept
	OldCookie bool // the cookie is to be made anew: Base.OldCookie
	Due       bool // the use of the session is to be noted
	Proof     bool // the caller wants to know whether the session still exists
	Reach     Reach
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
	Spend        // end a session of which nothing is left
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
	move := v.Move || f.Passed
	changed := f.Changed || f.Beside || move || v.Prolong || v.Imported
	fresh := f.Exists == Fresh || f.Exists == Behind
	switch {
	case f.Exists == Lost && changed:
		a.Step = Discard
		return a
	case f.Exists == Lost:
		a.Step = Missing
		return a
	case f.Exists == Behind && changed && !v.Anew && !f.Owned && !f.Empty:
		// Its cookie would take the place of the one with the new id.
		a.Step = Discard
		return a
	case v.LateMove || move && f.Reach != Whole:
		// Rights that belong to a new id must not come to the old one.
		a.Late = LateMove
		return a
	case changed && fresh && f.Empty:
	case changed && f.Reach >= Overdue && (!f.Stored || fresh || v.Prolong):
		a.Late = LateChange
		return a
	case changed && f.Empty:
		a.Step = Spend
	case changed && !f.Stored:
		a.Step = Seal
	case changed && fresh:
		a.Step, a.Cookie = Create, true
	case changed && move:
		a.Step, a.Cookie = Move, true
	case changed:
		a.Step, a.Cookie = Replace, v.Prolong || f.OldCookie && f.Reach < Overdue
	case fresh || v.LateProlong:
	case !f.Stored && f.Reach < Overdue && (f.OldCookie || f.Due):
		a.Step = Reissue
	case f.Stored:
		a.Cookie = f.OldCookie && f.Reach == Whole
		if f.Due || f.Proof || a.Cookie {
			a.Step = Touch
		}
	}
	if v.LateProlong {
		a.Late = LateProlong
	}
	return a
}
