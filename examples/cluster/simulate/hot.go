package main

import (
	"math/rand/v2"
	"time"
)

// These are as in internal/txn (Timeout, tries.go). The tests
// TestTheConstantsAreThoseOfTheLibrary and
// TestAHotUserOfTheLibraryHasTheConflictsOfTheSimulation compare them.
const (
	commitTime = 5.0 // how long a commit is tried
	maxTurn    = commitTime / 10
	maxChain   = 8
)

// mostPause returns the bound of the pause after a further conflict (BackOff), which
// is drawn uniformly.
func mostPause(try int) float64 { return (time.Millisecond << min(try, 5)).Seconds() }

func pause(try int, r *rand.Rand) float64 { return r.Float64() * mostPause(try) }

func meanPause(try int) float64 { return mostPause(try) / 2 }

// A hotUser is one session that many requests change at once, each by an Update: load
// the record, compare and set, and after a conflict try again on the newest record. Of
// the requests of a process that have met a conflict, one at a time tries again. It
// begins with what the one before has stored, unless that has been done maxChain times
// in a row.
type hotUser struct {
	requests  int
	processes int     // of the application, which get the requests in turn
	trip      float64 // the network there and back
	redis     float64 // the time of a command in the one thread of Redis
	work      float64 // of the application, between a load and the compare-and-set
	forever   float64 // each request that ends is followed by another, for so long
}

type hotResult struct {
	stored, failed, conflicts int
	end                       float64
}

func (h hotUser) simulate(seed uint64) hotResult {
	r := &hotRun{hotUser: h, simulation: newSimulation(seed)}
	r.server = &station{simulation: r.simulation, servers: 1}
	queues := make([]turnQueue, h.processes)
	for i := range h.requests {
		r.begin(&queues[i%h.processes])
	}
	r.run()
	return r.result
}

type hotRun struct {
	hotUser
	*simulation
	server  *station
	version int // of the record
	result  hotResult
}

// A turnQueue has the requests of a process that wait for their turn.
type turnQueue struct {
	held    bool
	waiting []func(handed)
}

// A handed is what a turn leaves to the next: the version that it has stored, 0 if
// none, and for how many turns nobody has loaded the record.
type handed struct{ version, chain int }

func (q *turnQueue) take(f func(handed)) {
	if q.held {
		q.waiting = append(q.waiting, f)
		return
	}
	q.held = true
	f(handed{})
}

func (q *turnQueue) end(left handed) {
	if q.held = len(q.waiting) > 0; q.held {
		next := q.waiting[0]
		q.waiting = q.waiting[1:]
		next(left)
	}
}

// An attempt is a request that tries to store its change.
type attempt struct {
	*hotRun
	queue         *turnQueue
	began         float64 // the commit
	loaded, tries int
	handed        handed
	inTurn        bool
}

func (r *hotRun) begin(q *turnQueue) {
	a := &attempt{hotRun: r, queue: q, began: r.now + r.trip + r.redis + r.work}
	a.load()
}

// command has Redis do something, and calls answered when the answer is there.
func (r *hotRun) command(do, answered func()) {
	r.after(r.trip/2, func() {
		r.server.serve(func() float64 { return r.redis }, func() { do(); r.after(r.trip/2, answered) })
	})
}

func (a *attempt) load() {
	a.command(func() { a.loaded = a.version }, func() { a.after(a.work, a.set) })
}

func (a *attempt) set() {
	stored := 0
	a.command(func() {
		if a.loaded == a.version {
			a.version++
			stored = a.version
		}
	}, func() {
		if stored == 0 {
			a.conflict()
			return
		}
		a.result.stored++
		a.over(handed{stored, a.handed.chain})
	})
}

func (a *attempt) conflict() {
	a.result.conflicts++
	a.handed = handed{}
	a.tries++
	if a.tries == 1 {
		a.queue.take(a.turn)
		return
	}
	wait := pause(a.tries-2, a.rand)
	if a.now+wait-a.began > commitTime {
		a.result.failed++
		a.over(handed{})
		return
	}
	a.after(wait, a.load)
}

// turn tries again, when it is the turn of the request.
func (a *attempt) turn(left handed) {
	a.inTurn = true
	if a.now-a.began > commitTime {
		a.result.failed++
		a.over(left)
		return
	}
	a.after(maxTurn, func() { a.endTurn(handed{}) })
	if left.version > 0 && left.chain < maxChain {
		a.loaded, a.handed = left.version, handed{left.version, left.chain + 1}
		a.after(a.work, a.set)
		return
	}
	a.load()
}

func (a *attempt) endTurn(left handed) {
	if a.inTurn {
		a.inTurn = false
		a.queue.end(left)
	}
}

func (a *attempt) over(left handed) {
	a.result.end = a.now
	a.endTurn(left)
	if a.now < a.forever {
		a.begin(a.queue)
	}
}
