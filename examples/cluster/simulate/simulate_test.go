package main

import (
	"fmt"
	"math"
	"os"
	"testing"
)

// near fails the test if got is farther from want than a share of it.
func near(t *testing.T, what string, got, want, share float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > share*math.Abs(want) {
		t.Errorf("%s: got %.4g, want %.4g within %.0f %%", what, got, want, 100*share)
	}
}

func TestTheSameSeedGivesTheSameResult(t *testing.T) {
	h, f := exampleHot, exampleFlood
	h.requests, h.processes, f.time = 64, 4, f.lifetime+600
	for name, simulate := range map[string]func(seed uint64) any{
		"logins": func(seed uint64) any { return exampleRush.simulate(seed) },
		"hot":    func(seed uint64) any { return h.simulate(seed) },
		"flood":  func(seed uint64) any { return f.simulate(seed) },
	} {
		one, again, two := simulate(1), simulate(1), simulate(2)
		if one != again || one == two {
			t.Errorf("%s: got %+v and %+v with one seed, %+v with another", name, one, again, two)
		}
	}
}

func TestTheDocumentHasTheTables(t *testing.T) {
	const path = "../../../docs/SCALE.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := fillIn(string(text), tables(1))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if string(text) != want {
		t.Errorf("the tables of %s are not those of this program: run go run ./examples/cluster/simulate -write docs/SCALE.md", path)
	}
}

func TestQueuesWaitAsTheFormulasSay(t *testing.T) {
	const mean, jobs = 0.01, 100_000
	for _, tt := range []struct {
		name     string
		servers  int
		rate     float64
		constant bool // the service time; else it is exponentially distributed
		want     float64
	}{
		{"M/M/1", 1, 70, false, pollaczekKhinchine(70, mean, 1)},
		{"M/M/1 by Erlang's formula", 1, 70, false, erlangC(70, mean, 1)},
		{"M/D/1", 1, 70, true, pollaczekKhinchine(70, mean, 0)},
		{"M/M/4", 4, 320, false, erlangC(320, mean, 4)},
		{"M/M/16", 16, 1280, false, erlangC(1280, mean, 16)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSimulation(1)
			st := &station{simulation: s, servers: tt.servers}
			var waited float64
			arrived := 0
			var arrive func()
			arrive = func() {
				arrived++
				at := s.now
				st.serve(func() float64 {
					waited += s.now - at
					if tt.constant {
						return mean
					}
					return s.exponential(mean)
				}, func() {})
				if arrived < jobs {
					s.after(s.exponential(1/tt.rate), arrive)
				}
			}
			arrive()
			s.run()
			near(t, "the mean waiting time", waited/jobs, tt.want, 0.07)
		})
	}
}

// erlangC returns the mean waiting time in an M/M/c queue: arrivals at a rate, and
// servers that each take a mean time.
func erlangC(rate, mean float64, servers int) float64 {
	a := rate * mean
	b := 1.0 // Erlang B, by its recursion over the servers
	for n := 1; n <= servers; n++ {
		b = a * b / (float64(n) + a*b)
	}
	c := float64(servers)
	waits := b / (1 - a/c*(1-b)) // the probability that a job waits
	return waits * mean / (c - a)
}

// pollaczekKhinchine returns the mean waiting time in an M/G/1 queue whose service
// time has the given mean, and a standard deviation of cv times the mean.
func pollaczekKhinchine(rate, mean, cv float64) float64 {
	load := rate * mean
	return load * mean * (1 + cv*cv) / (2 * (1 - load))
}

func TestARushOfLoginsIsThatOfTheFormula(t *testing.T) {
	for _, r := range []loginRush{
		exampleRush,
		{users: 20_000, back: 30, hash: 0.1, servers: 40},
		{users: 3000, back: 20, hash: 0.5, servers: 30},
	} {
		got := r.simulate(1)
		queue, wait, end := r.formula()
		near(t, "the longest queue", float64(got.queue), queue, 0.1)
		near(t, "the longest wait", got.wait, wait, 0.1)
		near(t, "the end", got.end, end, 0.1)
	}
	small := exampleRush
	small.users = 2000
	if queue, _, _ := small.formula(); queue != 0 {
		t.Errorf("a queue of %v by the formula where the servers are enough", queue)
	}
}

// The table of the document says that a rush of users who give up does not end, and
// what ends it.
func TestARushOfUsersWhoGiveUpEndsIfNoWorkIsDoneForNobody(t *testing.T) {
	r := exampleRush
	all := r.simulate(1).signedIn
	r.patience = 10
	if got := r.simulate(1); got.signedIn > all/3 || got.end < horizon-1 {
		t.Errorf("%d of %d signed in, over after %.0f s; want less than a third, and no end", got.signedIn, all, got.end)
	}
	heeds, refuses := r, r
	heeds.heeds, refuses.refuses = true, true
	for name, r := range map[string]loginRush{"heeds": heeds, "refuses": refuses} {
		if got := r.simulate(1); got.signedIn < all*98/100 || got.end > horizon/2 || got.wasted > all/50 {
			t.Errorf("%s: %d of %d signed in, over after %.0f s, %d checked for nobody; want all, and an end", name, got.signedIn, all, got.end, got.wasted)
		}
	}
}

func TestConflictsAreThoseOfTheFormula(t *testing.T) {
	for _, tt := range []struct{ requests, processes int }{{64, 1}, {64, 2}, {250, 4}, {250, 16}, {1000, 4}} {
		h := exampleHot
		h.requests, h.processes, h.forever = tt.requests, tt.processes, 1
		got := h.simulate(1)
		failed, rate := h.conflicts()
		what := fmt.Sprintf(" of %d requests to %d processes", h.requests, h.processes)
		near(t, "failed for each that succeeds"+what, ratio(got.conflicts, got.stored), failed, 0.15)
		near(t, "successes in a second"+what, float64(got.stored)/got.end, rate, 0.15)
	}
}

func TestEveryRequestOfAHotUserEnds(t *testing.T) {
	for seed := range uint64(3) {
		h := exampleHot
		h.requests, h.processes = 1000, 4
		if got := h.simulate(seed); got.stored+got.failed != h.requests {
			t.Errorf("seed %d: %+v, want %d in all", seed, got, h.requests)
		}
		h.requests, h.trip = 50, 2 // three trips take longer than a commit has time for
		if got := h.simulate(seed); got.failed == 0 || got.stored+got.failed != h.requests {
			t.Errorf("seed %d, with a network that takes %v s: %+v, want some that fail", seed, h.trip, got)
		}
	}
}

func TestAFloodIsThatOfLittlesLaw(t *testing.T) {
	for _, f := range []flood{
		{rate: 20, keeps: 1, lifetime: 600, time: 3600},
		{rate: 20, keeps: 0.1, lifetime: 3600, time: 4 * 3600},
		{rate: 20, keeps: 1, lifetime: 3600, max: 5000, time: 3 * 3600},
	} {
		got := f.simulate(1)
		live, age := f.formula()
		near(t, "live sessions", got.live, live, 0.05)
		near(t, "the age of what gives way", got.age, age, 0.05)
		if f.max > 0 && got.most > f.max {
			t.Errorf("%d sessions where there is room for %d", got.most, f.max)
		}
	}
}
