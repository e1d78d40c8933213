package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/typedsessions/sessions"
)

const (
	// settleTime is how long a write may take effect after its request failed. A commit
	// takes 5 seconds at most.
	settleTime = 6 * time.Second

	// streamTime is how long a stream may outlive its session.
	streamTime = 15 * time.Second

	// replicationLag is how long before a master is killed a write may be acknowledged
	// and yet be lost.
	replicationLag = 2 * time.Second
)

// A checker collects what the users and the processes report, and the violations.
type checker struct {
	wrong func() // is called at each violation; may be nil

	mu         sync.Mutex
	begun      time.Time
	lasts      time.Duration // until the users finish
	faults     []*fault
	unprovoked fault // has the failures that no fault explains
	requests   map[string]*tally
	series     series
	samples    []sample // in the order of time
	violations []violation
	releases   map[string]bool
	users      map[string]*user     // by the ids of their sessions
	ends       map[string][]message // of sessions, by id, as the processes reported them
	expected   []expectedEnd
	discarded  map[string]int // by the ids of sessions: changes that processes reported as discarded
	unstored   []discard
}

type tally struct {
	sent, failed int
	slowest      time.Duration
}

type violation struct {
	user    string
	what    string
	history []string
}

// An expectedEnd is an end of a session that a process must have reported.
type expectedEnd struct {
	user       *user
	id         string
	reason     string // of EventEnded; "renewed" of EventRenewed
	stored, at time.Time
}

func newChecker() *checker {
	return &checker{
		begun: time.Now(), requests: make(map[string]*tally), releases: make(map[string]bool),
		users: make(map[string]*user), ends: make(map[string][]message), discarded: make(map[string]int),
	}
}

// begin notes that a fault begins.
func (c *checker) begin(f fault) *fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.at = time.Now()
	c.faults = append(c.faults, &f)
	return &f
}

// end notes that a fault is over.
func (c *checker) end(f *fault, note string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.back, f.note = time.Now(), note
}

// heard notes what a process reported of itself or of a session.
func (c *checker) heard(m message) {
	if m.Kind == crashed {
		c.violate(nil, "application process %d ended, and nobody killed it", m.Pid)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case m.Usage != nil:
		c.samples = append(c.samples, sample{m.Pid, m.At, *m.Usage})
	case m.Kind == string(sessions.EventRenewed):
		c.ends[m.Prev] = append(c.ends[m.Prev], m)
	case m.Kind == string(sessions.EventEnded):
		c.ends[m.ID] = append(c.ends[m.ID], m)
	case m.Kind == string(sessions.EventDiscarded) && m.Why == string(sessions.ReasonNewer):
		c.discarded[m.ID]++
	}
}

// request notes a request, and its status if there was an answer.
func (c *checker) request(op string, begun time.Time, status int, failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.requests[op]
	if t == nil {
		t = &tally{}
		c.requests[op] = t
	}
	t.sent++
	t.slowest = max(t.slowest, time.Since(begun))
	c.series.add(time.Since(c.begun), failed)
	if failed {
		t.failed++
		c.blameLocked(begun, fmt.Sprintf("%s: %d", op, status))
	}
}

// mayBeLost reports whether the engine may have lost a write that was acknowledged at
// that time.
func (c *checker) mayBeLost(at time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mayBeLostLocked(at)
}

func (c *checker) mayBeLostLocked(at time.Time) bool {
	return slices.ContainsFunc(c.faults, func(f *fault) bool {
		// The answer may come some time after the write.
		return f.loses && at.After(f.at.Add(-replicationLag)) && (f.back.IsZero() || at.Before(f.back.Add(settleTime)))
	})
}

// losing reports whether the engine may be losing acknowledged writes now.
func (c *checker) losing() bool { return c.mayBeLost(time.Now()) }

// streamsEndBy returns the time by which a stream must have ended, if its session ended
// at the given time. While a fault of the engine lasts, ok is false.
func (c *checker) streamsEndBy(ended time.Time) (by time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.faults {
		if f.engine && f.back.IsZero() {
			return time.Time{}, false
		}
		if f.engine && f.back.After(ended) {
			ended = f.back
		}
	}
	return ended.Add(streamTime), true
}

func (c *checker) violate(u *user, format string, args ...any) {
	v := violation{user: "no user", what: fmt.Sprintf(format, args...)}
	if u != nil {
		v.user, v.history = u.name, slices.Clone(u.history)
	}
	c.add(v)
}

func (c *checker) add(v violation) {
	c.mu.Lock()
	c.violations = append(c.violations, v)
	c.mu.Unlock()
	if c.wrong != nil {
		c.wrong()
	}
}

// belongs notes whose session has an id, for violations that name the id only.
func (c *checker) belongs(id string, u *user) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users[id] = u
}

func (c *checker) expectEnd(e expectedEnd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expected = append(c.expected, e)
}

// A discard is an acknowledged change that was not stored.
type discard struct {
	user *user
	id   string
}

// expectDiscard notes that a process must have reported a change as discarded, since a newer
// release had stored the session.
func (c *checker) expectDiscard(u *user, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unstored = append(c.unstored, discard{u, id})
}

// checkDiscards checks that every change that was discarded was reported. The users and
// the processes have stopped.
func (c *checker) checkDiscards() {
	for _, d := range c.unstored {
		if c.discarded[d.id]--; c.discarded[d.id] < 0 {
			c.violate(d.user, "an acknowledged change of session %s is lost, want a process that reports that it discarded it", d.id)
		}
	}
}

// checkEnds checks the events of all processes. The users and the processes have
// stopped.
func (c *checker) checkEnds() {
	reasons := make(map[string]string)
	for _, e := range c.expected {
		if c.mayBeLost(e.at) || c.mayBeLost(e.stored) {
			continue // if another session of the user was lost, the limit did not end this one
		}
		reasons[e.id] = e.reason
		if len(c.ends[e.id]) == 0 {
			c.violate(e.user, "no process reported the end of session %s, want one that reports %q", e.id, e.reason)
		}
	}
	for id, told := range c.ends {
		excused := slices.ContainsFunc(told, func(m message) bool { return c.mayBeLost(m.At) })
		if want, ok := reasons[id]; ok && !excused && told[0].reason() != want {
			c.violate(c.users[id], "the end of session %s was reported as %q, want %q", id, told[0].reason(), want)
		}
		// A session that ended may end again if the engine lost its end.
		if len(told) > 1 && !excused {
			c.violate(c.users[id], "the end of session %s was reported %d times, want once: %+v", id, len(told), told)
		}
	}
}

// progress returns a line about the run so far.
func (c *checker) progress() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	sent, failed := 0, 0
	for _, t := range c.requests {
		sent, failed = sent+t.sent, failed+t.failed
	}
	return fmt.Sprintf("%3.0f s: %d requests, %d failed, %d violations", time.Since(c.begun).Seconds(), sent, failed, len(c.violations))
}

// report prints what happened, and returns the number of violations.
func (c *checker) report(w io.Writer) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	since := func(t time.Time) string { return fmt.Sprintf("%.1f s", t.Sub(c.begun).Seconds()) }
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\nrequest\tsent\tfailed\tslowest\t")
	for _, op := range slices.Sorted(maps.Keys(c.requests)) {
		r := c.requests[op]
		fmt.Fprintf(t, "%s\t%d\t%d\t%d ms\t\n", op, r.sent, r.failed, r.slowest.Milliseconds())
	}
	_ = t.Flush()
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nfault\tat\tlasted\tfailed\tfor\tlast after\tlost by the engine\thidden\tmay cost\tnote")
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
	for _, f := range c.faults {
		lasted, failing, last := "until the end", "-", "-"
		if !f.back.IsZero() {
			lasted = seconds(f.back.Sub(f.at))
		}
		if f.failed > 0 {
			failing, last = seconds(f.lastFailed.Sub(f.firstFailed)), seconds(f.lastFailed.Sub(f.at))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\t%s\n", f.name, since(f.at), lasted, f.failed, failing, last,
			f.losses(), f.hidden, f.cost().text, f.note)
	}
	if c.unprovoked.failed > 0 {
		fmt.Fprintf(t, "none\t\t\t%d\t\t\t\t\tno request\tthe last at %s\n", c.unprovoked.failed, since(c.unprovoked.lastFailed))
	}
	_ = t.Flush()
	c.reportUsage(w)
	told := 0
	for _, e := range c.ends {
		told += len(e)
	}
	fmt.Fprintf(w, "\nends of sessions that the processes reported: %d, of which the users expected %d\n", told, len(c.expected))
	if len(c.unstored) > 0 {
		fmt.Fprintf(w, "changes that an older release discarded, since the newest had stored the session meanwhile: %d\n", len(c.unstored))
	}
	fmt.Fprintf(w, "violations: %d\n", len(c.violations))
	for i, v := range c.violations {
		if i == 5 {
			fmt.Fprintf(w, "and %d more\n", len(c.violations)-i)
			break
		}
		fmt.Fprintf(w, "\n%s: %s\n", v.user, v.what)
		for _, line := range v.history {
			fmt.Fprintf(w, "    %s\n", line)
		}
	}
	return len(c.violations)
}
