package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheCheckerFindsWrongAnswers(t *testing.T) {
	ended := make(chan struct{})
	close(ended)
	for name, tt := range map[string]struct {
		do   func(u *user, d *device)
		want string // "": no violation
	}{
		"of the session itself": {func(u *user, d *device) { u.see(d, answered("ada", "1", "ada-1")) }, ""},
		"of another user":       {func(u *user, d *device) { u.see(d, answered("bob", "2", "bob-1")) }, "another user"},
		"of another session":    {func(u *user, d *device) { u.see(d, answered("ada", "2", "ada-1")) }, "another session"},
		"with a foreign value":  {func(u *user, d *device) { u.see(d, answered("ada", "1", "bob-1")) }, "never written"},
		"with no session":       {func(u *user, d *device) { u.missing(d, release10) }, "nobody ended it"},
		"with no session, after an operation without an answer": {func(u *user, d *device) {
			u.doubt = true
			u.missing(d, release10)
		}, ""},
		"with no session, after a long time": {func(u *user, d *device) {
			d.used = d.used.Add(-idleTimeout)
			u.missing(d, release10)
		}, ""},
		"with no session, of an older release": {func(u *user, d *device) {
			d.upgraded = yes
			u.missing(d, release11)
		}, ""},
		"with no session, of the release that stored it": {func(u *user, d *device) {
			d.upgraded = yes
			u.missing(d, release20)
		}, "nobody ended it"},
		"of an older release, though the newest has stored it": {func(u *user, d *device) {
			d.upgraded = yes
			u.see(d, answered("ada", "1", "ada-1"))
		}, "release 1.0 shows a session that release 2.0 has stored"},
		"without the note that a newer release has acknowledged": {func(u *user, d *device) {
			d.note.wrote("ada-2", time.Now(), true)
			r := answered("ada", "1", "ada-1")
			r.release = release11
			u.see(d, r)
		}, `the note is "", want "ada-2": 1 acknowledged changes are lost`},
		"of an older release, which knows no note": {func(u *user, d *device) {
			d.note.wrote("ada-2", time.Now(), true)
			u.see(d, answered("ada", "1", "ada-1"))
		}, ""},
		"of a stream that tells the end of a session that lives": {func(u *user, d *device) {
			s := &openStream{device: d, done: ended}
			s.told.Store(true)
			u.streams = append(u.streams, s)
			u.checkStreams()
		}, "that lives"},
		"of a stream that ends": {func(u *user, d *device) {
			u.streams = append(u.streams, &openStream{device: d, opened: time.Now(), done: ended})
			u.checkStreams()
		}, "has ended without a fault"},
		"of a stream that ends in a deployment": {func(u *user, d *device) {
			u.streams = append(u.streams, &openStream{device: d, opened: time.Now(), done: ended})
			u.check.begin(fault{name: "deploy"})
			u.checkStreams()
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := &field{}
			f.wrote("ada-1", time.Now(), true)
			d := &device{name: "laptop", signedIn: true, id: "1", used: time.Now(), cart: map[string]*field{"left": f}}
			u := &user{name: "ada", check: newChecker(), devices: []*device{d}}
			tt.do(u, d)
			var got string
			for _, v := range u.check.violations {
				got += v.what + "\n"
			}
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// answered is an answer to GET /me.
func answered(user, id, value string) reply {
	now := time.Now()
	return reply{
		status: http.StatusOK, release: release10, begun: now, done: now,
		view: view{ID: id, User: user, Cart: map[string]string{"left": value}},
	}
}

// Which values a read may return, after which answers.
func TestWhatAFieldMayHold(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name   string
		writes string // a value each; with ? the answer was an error
		sees   string // values, each in a request of its own
		late   bool   // the requests begin when nothing can be under way any more
		lost   int
		wrong  bool
	}{
		{name: "what was acknowledged", writes: "a b", sees: "b"},
		{name: "nothing, before a write", sees: "-"},
		{name: "either, after a write without an answer", writes: "a b?", sees: "a b b"},
		{name: "a late write after a newer one", writes: "a b? c", sees: "c b"},
		{name: "not a write that was not done in time", writes: "a b?", sees: "a b", late: true, wrong: true},
		{name: "not an older value", writes: "a b c", sees: "a", lost: 2},
		{name: "not nothing", writes: "a", sees: "-", lost: 1},
		{name: "not the value of somebody else", writes: "a", sees: "x", wrong: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f field
			for _, w := range strings.Fields(tt.writes) {
				f.wrote(strings.TrimSuffix(w, "?"), now, !strings.HasSuffix(w, "?"))
			}
			at := now
			if tt.late {
				at = now.Add(2 * settleTime)
			}
			lost, wrong := 0, false
			for _, seen := range strings.Fields(tt.sees) {
				times, ok := f.see(strings.Trim(seen, "-"), at)
				lost, wrong = lost+len(times), wrong || !ok
			}
			if lost != tt.lost || wrong != tt.wrong {
				t.Errorf("got %d lost, wrong %v, want %d, %v", lost, wrong, tt.lost, tt.wrong)
			}
		})
	}
}

func TestWhatACounterMayHold(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name                  string
		acknowledged, unknown int
		sees                  []int
		late                  bool
		lost                  int
		wrong                 bool
	}{
		{name: "what was acknowledged", acknowledged: 3, sees: []int{3}},
		{name: "also what had no answer", acknowledged: 3, unknown: 2, sees: []int{3, 4, 5}},
		{name: "each at most once", acknowledged: 3, unknown: 2, sees: []int{6}, wrong: true},
		{name: "not too late", acknowledged: 3, unknown: 2, sees: []int{3, 4}, late: true, wrong: true},
		{name: "not less", acknowledged: 3, sees: []int{1}, lost: 2},
		{name: "not less than it had, without any answer", unknown: 2, sees: []int{2, 0}, lost: 2},
		{name: "not less than it had", acknowledged: 3, unknown: 1, sees: []int{4, 3}, lost: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var n counter
			for range tt.acknowledged {
				n.add(now, true)
			}
			for range tt.unknown {
				n.add(now, false)
			}
			at := now
			if tt.late {
				at = now.Add(2 * settleTime)
			}
			lost, wrong := 0, false
			for _, seen := range tt.sees {
				times, ok := n.see(seen, at)
				lost, wrong = lost+len(times), wrong || !ok
			}
			if lost != tt.lost || wrong != tt.wrong {
				t.Errorf("got %d lost, wrong %v, want %d, %v", lost, wrong, tt.lost, tt.wrong)
			}
		})
	}
}

func TestWhatAnOlderReleaseDiscardsIsTold(t *testing.T) {
	at := time.Now()
	changes := []change{{"POST /set", "left", "ada-1", at}, {"POST /note", "right", "ada-2", at}, {"POST /add", "", "", at}}
	for _, tt := range []struct {
		name    string
		cart    string
		note    string
		pending bool // the addition did not count
		told    int
		want    int // violations
	}{
		{name: "all are stored", cart: "ada-1", note: "ada-2"},
		{name: "one is not, and told", cart: "ada-0", note: "ada-2", told: 1},
		{name: "one is not, in silence", cart: "ada-1", note: "ada-0", want: 1},
		{name: "none is", pending: true, told: 3},
		{name: "none is, and one told", pending: true, told: 1, want: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &device{name: "laptop", signedIn: true, id: "1"}
			if tt.pending {
				d.count.add(at, false)
			}
			u := &user{name: "ada", check: newChecker(), devices: []*device{d}}
			r := answered("ada", "1", tt.cart)
			r.release, r.view.Note = release20, tt.note
			for range tt.told {
				u.check.heard(message{Kind: "discarded", ID: "1", Why: "newer"})
			}
			u.checkDiscarded(d, changes, r)
			u.check.checkDiscards()
			if got := len(u.check.violations); got != tt.want {
				t.Errorf("got %v, want %d violations", u.check.violations, tt.want)
			}
		})
	}
}

func TestEveryEndIsToldOnce(t *testing.T) {
	now := time.Now()
	// The fail-over had lost another session, so that the limit did not end this one.
	late := message{Kind: "ended", ID: "1", Why: "revoked", At: now.Add(time.Minute)}
	ended := func(id, why string) message { return message{Kind: "ended", ID: id, Why: why, At: now} }
	for _, tt := range []struct {
		name     string
		told     []message
		failover bool
		want     int // violations
	}{
		{name: "as expected", told: []message{ended("1", "destroyed")}},
		{name: "by nobody", want: 1},
		{name: "twice", told: []message{ended("1", "destroyed"), ended("1", "destroyed")}, want: 1},
		{name: "for another reason", told: []message{ended("1", "limit")}, want: 1},
		{name: "also one that nobody expects, twice", told: []message{ended("1", "destroyed"), ended("2", "limit"), ended("2", "revoked")}, want: 1},
		{name: "as a new id", told: []message{ended("1", "destroyed"), {Kind: "renewed", ID: "3", Prev: "2", At: now}}},
		{name: "by nobody in a fail-over", failover: true},
		{name: "later, after a fail-over", told: []message{late}, failover: true},
		{name: "for another reason, later", told: []message{late}, want: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newChecker()
			if tt.failover {
				c.end(c.begin(fault{name: "master", loses: true}), "")
			}
			c.expectEnd(expectedEnd{user: &user{name: "ada"}, id: "1", reason: "destroyed", stored: now.Add(-time.Hour), at: now})
			for _, m := range tt.told {
				c.heard(m)
			}
			c.checkEnds()
			if len(c.violations) != tt.want {
				t.Errorf("got %v, want %d violations", c.violations, tt.want)
			}
		})
	}
}

func TestAFailOverExcusesOnlyItsOwnTime(t *testing.T) {
	c := newChecker()
	before := time.Now().Add(-replicationLag - time.Second)
	f := c.begin(fault{name: "master", loses: true, engine: true})
	c.end(f, "")
	after := f.back.Add(settleTime + time.Second)
	if got := []bool{c.mayBeLost(before), c.mayBeLost(f.at), c.mayBeLost(after)}; !slices.Equal(got, []bool{false, true, false}) {
		t.Errorf("before, during and after: got %v", got)
	}
}
