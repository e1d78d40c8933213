package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A fault is something that the schedule does to the site.
type fault struct {
	name   string
	engine bool // it concerns the engine
	loses  bool // the engine may lose acknowledged writes
	note   string

	at, back                time.Time // back: zero while it lasts
	failed                  int
	firstFailed, lastFailed time.Time
	failures                []string       // the first few
	lost                    map[string]int // by the engine, which may lose it; by what it is
	hidden                  int            // answers of older releases that did not show a session of the newest one
}

// A cost is what the documentation says that a fault costs.
type cost struct {
	fails   bool // requests may fail
	streams bool // streams may end
	text    string
}

// costs has the cost of each fault. The sources are docs/OPERATIONS.md and the pages
// of the stores.
var costs = map[string]cost{
	"process":  {true, true, "the requests under way, and streams"},
	"slots":    {false, false, "no request"},
	"master":   {true, false, "requests until the replica takes over; its last acknowledged writes"},
	"lag":      {true, false, "requests until the replica takes over; acknowledged writes that it lacks"},
	"restart":  {true, false, "requests meanwhile"},
	"slow":     {false, false, "no request"},
	"cut":      {true, false, "requests that take 5 seconds"},
	"requests": {true, false, "requests that take 5 seconds"},
	"answers":  {true, false, "requests that take 5 seconds"},
	"full":     {true, false, "requests that write"},
	"primary":  {true, false, "requests until the standby is promoted"},
	"async":    {true, false, "requests until the standby is promoted; the last acknowledged writes"},
	"keys":     {false, false, "no request"},
	"deploy":   {false, true, "no request, but streams; an older release shows no session of a newer schema"},
	"clocks":   {false, true, "no request, but streams"},
}

// cost returns what a fault may cost.
func (f *fault) cost() cost {
	if c, ok := costs[f.name]; ok {
		return c
	}
	return cost{true, true, "requests meanwhile"}
}

// overlaps reports whether a request that began at a time, and ends now, may have met
// the fault or what it left behind.
func (f *fault) overlaps(begun time.Time) bool {
	return f.back.IsZero() || begun.Before(f.back.Add(settleTime))
}

// usesMayBeLost reports whether the engine may have refused a write since a time.
func (c *checker) usesMayBeLost(since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.faults, func(f *fault) bool {
		return f.engine && f.cost().fails && (f.back.IsZero() || since.Before(f.back))
	})
}

// mayEndStreams reports whether a stream that was opened at a time may have met a fault
// that ends it.
func (c *checker) mayEndStreams(opened time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.faults, func(f *fault) bool {
		return f.cost().streams && (f.back.IsZero() || opened.Before(f.back))
	})
}

// blameLocked notes a failed request. The cause is the last fault that may cost it, or
// else the last one that may not, or else unprovoked. The mutex is held.
func (c *checker) blameLocked(begun time.Time, what string) {
	f := &c.unprovoked
	for _, met := range c.faults {
		if met.overlaps(begun) && (met.cost().fails || !f.cost().fails || f == &c.unprovoked) {
			f = met
		}
	}
	if f.failed++; f.failed == 1 {
		f.firstFailed = time.Now()
	}
	f.lastFailed = time.Now()
	if len(f.failures) < 10 {
		f.failures = append(f.failures, fmt.Sprintf("%s %s after %d ms", f.lastFailed.Format("15:04:05.000"), what, time.Since(begun).Milliseconds()))
	}
}

// checkCosts checks that requests failed only in faults that may cost some.
func (c *checker) checkCosts() {
	for _, f := range c.faults {
		if f.failed > 0 && !f.cost().fails {
			c.add(violation{"no user", fmt.Sprintf("%d requests failed in the fault %s, want none", f.failed, f.name), f.failures})
		}
	}
	if f := &c.unprovoked; f.failed > 0 {
		c.add(violation{"no user", fmt.Sprintf("%d requests failed without a fault, want none", f.failed), f.failures})
	}
}

// What the engine may lose.
const (
	lostChange  = "acknowledged changes"
	lostSession = "sessions"
	lostEnd     = "ends of sessions"
)

// countLost counts losses by the engine that are allowed, which the last fault has
// caused that may.
func (c *checker) countLost(what string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range slices.Backward(c.faults) {
		if f.loses {
			if f.lost == nil {
				f.lost = make(map[string]int)
			}
			f.lost[what] += n
			return
		}
	}
}

// losses returns what the engine has lost in a fault.
func (f *fault) losses() string {
	var all []string
	for _, what := range slices.Sorted(maps.Keys(f.lost)) {
		all = append(all, fmt.Sprintf("%d %s", f.lost[what], what))
	}
	if all == nil {
		return "-"
	}
	return strings.Join(all, ", ")
}

// hid counts an answer of an older release that does not show a session of the newest
// one.
func (c *checker) hid() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range slices.Backward(c.faults) {
		if f.name == "deploy" {
			f.hidden++
			return
		}
	}
}

// release notes that processes of a release are going to be started.
func (c *checker) release(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.releases[name] = true
}

// isReleased reports whether a process of a release was ever started.
func (c *checker) isReleased(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.releases[name]
}

// skew returns how far apart the clocks of two processes may have been lately.
func (c *checker) skew() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.faults {
		if f.name == "clocks" && (f.back.IsZero() || time.Since(f.back) < 2*clockSkew) {
			return clockSkew
		}
	}
	return 0
}
