package main

import (
	"container/heap"
	"math/rand/v2"
)

// A simulation has a clock, in seconds, and what is to happen. Events of the same
// time happen in the order in which they were added.
type simulation struct {
	now    float64
	events eventHeap
	added  int
	rand   *rand.Rand
}

func newSimulation(seed uint64) *simulation {
	return &simulation{rand: rand.New(rand.NewPCG(seed, 0))}
}

// after has f called after a delay.
func (s *simulation) after(delay float64, f func()) {
	s.added++
	heap.Push(&s.events, event{s.now + delay, s.added, f})
}

// run goes on until nothing is left to happen.
func (s *simulation) run() {
	for len(s.events) > 0 {
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		e.f()
	}
}

// exponential returns an exponentially distributed time.
func (s *simulation) exponential(mean float64) float64 { return s.rand.ExpFloat64() * mean }

type event struct {
	at    float64
	order int
	f     func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].order < h[j].order
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = event{}
	*h = (*h)[:last]
	return e
}

// A station has servers that serve jobs in the order of their arrival, such as the
// processors of an application or the one thread of Redis.
type station struct {
	*simulation
	servers, busy int
	queue         []job
	peak          int // the longest queue
}

type job struct {
	service func() float64
	done    func()
}

// serve has a job served, and then calls done. It calls service when the job begins,
// which returns how long the job takes.
func (st *station) serve(service func() float64, done func()) {
	st.queue = append(st.queue, job{service, done})
	st.next()
	st.peak = max(st.peak, len(st.queue))
}

func (st *station) next() {
	for st.busy < st.servers && len(st.queue) > 0 {
		j := st.queue[0]
		st.queue = st.queue[1:]
		st.busy++
		st.after(j.service(), func() {
			st.busy--
			st.next()
			j.done()
		})
	}
}
