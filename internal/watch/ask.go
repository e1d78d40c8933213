package watch

import (
	"container/heap"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

const (
	// pollEvery is how often a session is asked for where the store cannot tell.
	pollEvery = 5 * time.Second

	// trustFor is how often it is asked for all the same where the store can tell:
	// a connection may be dead without anybody's knowing. For 10,000 sessions that
	// is 6 loads per second.
	trustFor = 30 * time.Minute

	// settle is how long Changes has to run until it is trusted: it may take
	// a moment to begin.
	settle = time.Second

	// askAllWithin spreads the loads after a change that may have been missed.
	askAllWithin = 2 * time.Second

	// loadTime bounds a load, and failTime follows one that failed. Together they
	// leave time to ask for ten thousand sessions within ten seconds after a store
	// is back.
	loadTime = 3 * time.Second
	failTime = time.Second

	// outage is how many loads of failing sessions in a row have to fail until one
	// of them tries at a time, a second after the last.
	outage = 16

	// maxLoaders is how many ask at the same time. They ask for 10,000 sessions
	// every five seconds if a load takes 4 ms. maxRetrying leaves some of them to
	// sessions whose part of a cluster works.
	maxLoaders  = 8
	maxRetrying = 4

	// Where sessions are asked for together, they are when the time is a multiple of
	// batchEvery.
	batchEvery = 250 * time.Millisecond
	batchSize  = 500

	// never is later than every time in the queues.
	never = time.Duration(math.MaxInt64)
)

// A session is one that is watched. Set.mu guards it, but for its id.
type session struct {
	id       ID
	watchers *Watcher // the first; never nil while the session is in the set
	ends     time.Time
	cause    error
	ending   *ending // this process is about to end it

	due    time.Duration // when it is asked for
	index  int           // in its queue, -1: not in there
	asked  bool          // somebody asks for it now,
	again  bool          // and has to ask again: something happened since
	known  bool          // it was asked for before
	failed bool          // it is for the queue of failing ones
}

type ending struct{ cause error }

// work asks for the sessions that are due. The timer calls it.
func (s *Set) work() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = never
	for s.count.Load() > 0 {
		if !s.asks() {
			s.expireLocked()
			break
		}
		q, due := s.nextLocked()
		if due > s.now() {
			break
		}
		retries := q == &s.failing
		s.countLocked(retries, 1)
		batch := s.takeLocked(q)
		s.armLocked() // another loader for what else is due
		ctx, began := s.ctx, s.now()
		s.mu.Unlock()
		states, err := s.load(ctx, batch)
		s.mu.Lock()
		s.countLocked(retries, -1)
		if ctx.Err() == nil {
			s.applyLocked(batch, states, err, began, retries)
		}
	}
	s.armLocked()
}

func (s *Set) countLocked(retries bool, n int) {
	s.loaders += n
	if retries {
		s.retrying += n
	}
}

// takeLocked takes what is due out of a queue, in which something is.
func (s *Set) takeLocked(q *queue) (batch []*session) {
	now, most := s.now(), 1
	if s.cfg.LoadMany != nil {
		most = batchSize
	}
	for len(*q) > 0 && (*q)[0].due <= now && len(batch) < most {
		x := heap.Pop(q).(*session)
		x.asked, x.again = true, false
		batch = append(batch, x)
	}
	return batch
}

// nextLocked returns when to ask next, and for whom.
func (s *Set) nextLocked() (q *queue, due time.Duration) {
	due = never
	if s.loaders >= maxLoaders {
		return nil, due
	}
	if len(s.queue) > 0 {
		q, due = &s.queue, s.queue[0].due
	}
	if len(s.failing) > 0 {
		again, most := s.failing[0].due, maxRetrying
		if s.failures >= outage {
			again, most = max(again, s.paused), 1
		}
		if s.retrying < most && again < due {
			q, due = &s.failing, again
		}
	}
	return q, due
}

// armLocked sets the timer. One that fires too early does no harm.
func (s *Set) armLocked() {
	if _, next := s.nextLocked(); next < s.armed {
		s.armed = next
		wait := max(next-s.now(), 0)
		if s.timer == nil {
			s.timer = time.AfterFunc(wait, s.work)
		} else {
			s.timer.Reset(wait)
		}
	}
}

// load asks for the sessions of a batch.
func (s *Set) load(ctx context.Context, batch []*session) (states []State, err error) {
	// A panic in the middle of a request ends the request. Here it would end the
	// program.
	defer caught(&err)
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	states = make([]State, len(batch))
	if s.cfg.LoadMany == nil {
		states[0], err = s.cfg.Load(ctx, batch[0].id)
		return states, err
	}
	ids := make([]ID, len(batch))
	for i, x := range batch {
		ids[i] = x.id
	}
	found, err := s.cfg.LoadMany(ctx, ids)
	for i, id := range ids {
		st, ok := found[id]
		st.Ended = st.Ended || !ok
		states[i] = st
	}
	return states, err
}

func caught(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("panic: %v", r)
	}
}

// applyLocked does what follows from the answers, which were asked for at began.
// It unlocks s for a time.
func (s *Set) applyLocked(batch []*session, states []State, err error, began time.Duration, retries bool) {
	now := s.now()
	if retries {
		s.failures++
		s.paused = now + failTime
	}
	if err != nil {
		for _, x := range batch {
			if s.sessions[x.id] == x {
				x.asked, x.failed = false, true
				s.planLocked(x, now+failTime+s.spread(failTime))
			}
		}
		s.failedLocked(fmt.Errorf("ask for watched sessions: %w", err))
		return
	}
	if retries {
		s.failures = 0
	}
	var ends []end
	for i, x := range batch {
		if s.sessions[x.id] != x { // nobody watches it any more, or again
			continue
		}
		st := states[i]
		if st.Ended {
			ends = s.endLocked(ends, x, s.causeOf(x, st.Cause))
			continue
		}
		x.ends, x.cause = st.Ends, st.Cause
		x.asked, x.failed = false, false
		s.planLocked(x, s.dueAfterLocked(x, began, now))
		x.known = true
	}
	if ends != nil {
		s.mu.Unlock()
		finish(ends)
		s.mu.Lock()
	}
}

// causeOf returns why a session has ended that was found to. The clock of the store
// may be a little ahead.
func (s *Set) causeOf(x *session, found error) error {
	switch {
	case found != nil:
		return found
	case x.ending != nil:
		return x.ending.cause
	case x.cause != nil && !x.ends.IsZero() && time.Until(x.ends) < time.Second:
		return x.cause
	}
	return s.cfg.Elsewhere
}

// dueAfterLocked returns when a live session that was asked for at began has to be
// asked for again.
func (s *Set) dueAfterLocked(x *session, began, now time.Duration) (due time.Duration) {
	switch {
	case x.again:
		return now
	case s.listening && began >= s.since+settle:
		due = now + trustFor*3/4 + s.spread(trustFor/2)
	case x.known:
		due = s.slot(began + pollEvery)
	default: // what began to be watched at one moment is spread from here on
		due = s.slot(began + s.spread(pollEvery))
	}
	end := s.endOf(x)
	if end <= now { // by our clock, or to the millisecond: the store's decides
		end = now + min(max(now-end, 10*time.Millisecond), time.Second)
	}
	return min(due, end)
}

// expireLocked ends the sessions whose time is over, where nobody can be asked. It
// unlocks s for a time.
func (s *Set) expireLocked() {
	var ends []end
	for now := s.now(); len(s.queue) > 0 && s.queue[0].due <= now; {
		x := s.queue[0]
		if at := s.endOf(x); at > now { // the wall clock was set
			s.planLocked(x, at)
			continue
		}
		ends = s.endLocked(ends, x, s.causeOf(x, x.cause))
	}
	s.mu.Unlock()
	finish(ends)
	s.mu.Lock()
}

// askLocked has a session asked for at a time, or earlier if it is due before. If
// somebody asks for it now, the answer may be too old.
func (s *Set) askLocked(x *session, at time.Duration) {
	if x.asked {
		x.again = true
	} else if x.index < 0 || at < x.due {
		s.planLocked(x, at)
	}
}

// endAtLocked takes a new end of a session into account.
func (s *Set) endAtLocked(x *session) {
	if at := s.endOf(x); s.asks() {
		s.askLocked(x, at)
	} else {
		s.planLocked(x, at)
	}
	s.armLocked()
}

// askAllLocked has all sessions asked for within a time.
func (s *Set) askAllLocked(within time.Duration) {
	now := s.now()
	for _, x := range s.sessions {
		if x.asked {
			x.again = true
		} else {
			x.due = min(x.due, s.slot(now+s.spread(within)))
		}
	}
	heap.Init(&s.queue)
	heap.Init(&s.failing)
	s.armLocked()
}

// planLocked sets when a session is due.
func (s *Set) planLocked(x *session, due time.Duration) {
	x.due = due
	if x.index < 0 {
		heap.Push(s.queueOf(x), x)
	} else {
		heap.Fix(s.queueOf(x), x.index)
	}
}

func (s *Set) forgetLocked(x *session) {
	delete(s.sessions, x.id)
	if x.index >= 0 {
		heap.Remove(s.queueOf(x), x.index)
	}
}

func (s *Set) queueOf(x *session) *queue {
	if x.failed {
		return &s.failing
	}
	return &s.queue
}

// asks reports whether there is a store to ask.
func (s *Set) asks() bool { return s.cfg.Load != nil || s.cfg.LoadMany != nil }

// now returns the time as the queues have it: no change of the wall clock moves it.
func (s *Set) now() time.Duration { return time.Since(s.clock) }

// endOf returns when a session ends, as the queues have it.
func (s *Set) endOf(x *session) time.Duration {
	if x.ends.IsZero() {
		return never
	}
	now, left := s.now(), time.Until(x.ends)
	if left > never-now {
		return never
	}
	return now + left
}

// spread returns a part of d, so that not all are asked for at once.
func (s *Set) spread(d time.Duration) time.Duration { return rand.N(d) }

// slot returns a time to ask at, or a little later, together with others.
func (s *Set) slot(at time.Duration) time.Duration {
	if s.cfg.LoadMany == nil {
		return at
	}
	return (at + batchEvery - 1) / batchEvery * batchEvery
}

// failedLocked tells of an error. It unlocks s for that time.
func (s *Set) failedLocked(err error) {
	if s.cfg.Failed == nil || !s.told.IsZero() && time.Since(s.told) < time.Minute {
		return
	}
	s.told = time.Now()
	s.mu.Unlock()
	s.cfg.Failed(err)
	s.mu.Lock()
}

// A queue is a container/heap of sessions, the first to be due first.
type queue []*session

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due < q[j].due }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(v any) {
	x := v.(*session)
	x.index = len(*q)
	*q = append(*q, x)
}

func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*q, x.index = old[:len(old)-1], -1
	return x
}
