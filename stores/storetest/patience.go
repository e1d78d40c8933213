package storetest

import (
	"fmt"
	"sync"
	"time"
)

// patience is how long a test waits for an operation of a store, and for a request
// to an app. If it shrinks, a call that fails only after a long time makes the next
// wait for the same operation a quarter as long: otherwise an operation that always
// hangs would take minutes, since most clauses call it.
type patience struct {
	first   time.Duration
	shrinks bool

	mu     sync.Mutex
	shrunk map[string]int // by operation: how often
}

// opTimeout is the first wait for an operation. A Manager waits for 5 s.
const opTimeout = 10 * time.Second

func newPatience(first time.Duration) *patience {
	return &patience{first: first, shrinks: true, shrunk: map[string]int{}}
}

// steady returns a patience that does not shrink, for tests in which operations
// fail late because their connections do.
func steady() *patience { return &patience{first: opTimeout} }

// A wait is the patience for one call.
type wait struct {
	time.Duration
	op   string
	step int
}

const (
	aRequest      = "a request" // to an app, as a name of an operation
	aRequestTakes = 3           // times as long as an operation: it loads, stores, and may repeat that
	maxSteps      = 4           // how often a wait shrinks at most: to a 256th
)

// wait returns the patience for the next call of op.
func (p *patience) wait(op string) wait {
	p.mu.Lock()
	defer p.mu.Unlock()
	step, first := p.shrunk[op], p.first
	if op == aRequest {
		first *= aRequestTakes
	} else {
		// The more operations hang, the more likely is it that this one does too.
		others := len(p.shrunk)
		if _, ok := p.shrunk[aRequest]; ok {
			others--
		}
		step = max(step, others)
	}
	step = min(step, maxSteps)
	return wait{first >> (2 * step), op, step}
}

// grace is how long the goroutines of a test may take to end after the test is lost.
func (p *patience) grace() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	step := 0
	for _, n := range p.shrunk {
		step = max(step, min(n, maxSteps))
	}
	return wait{Duration: p.first >> (2 * step)}.grace()
}

// failed notes that a call failed after d. It is long if it is a quarter of the wait.
func (p *patience) failed(w wait, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := w.Duration / 4
	if w.op == aRequest {
		limit /= aRequestTakes
	}
	if p.shrinks && d > limit {
		p.shrunk[w.op] = max(p.shrunk[w.op], w.step+1)
	}
}

// grace is how long an operation may take to return after its context has ended.
func (w wait) grace() time.Duration { return w.Duration / 10 }

// String returns the length of the wait for a failure's text, and why it is short.
func (w wait) String() string {
	if w.step == 0 {
		return w.Duration.String()
	}
	return fmt.Sprintf("%v (less than at first, since an operation took too long in an earlier test)", w.Duration)
}

// err is the error of a call that took longer.
func (w wait) err() error { return fmt.Errorf("no answer within %v", w) }
