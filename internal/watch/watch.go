// Package watch tells when sessions end, wherever that happens. A Set asks a store
// for the sessions that are watched, or is told by the store. It only asks: that
// is no use of a session. The package knows no HTTP and no type of a session.
package watch

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// An ID is that of a session, in any of the types that other packages have for it.
type ID = [32]byte

// A State is what is known of a session.
type State struct {
	// Ends is when a live session ends unless something moves that: the earlier
	// of its idle end and its absolute end. Zero: no end is known.
	Ends time.Time

	// Ended says that the session is over.
	Ended bool

	// Cause is why a live session ends at Ends, and why another one has ended. Of
	// one that has ended it may be nil: nothing says why.
	Cause error
}

// A Config is how a Set knows of sessions. Its functions are called by any number
// of goroutines.
type Config struct {
	// Load asks for a session. It does not use the session. An error is that of
	// the store, and says nothing about the session. Without Load and LoadMany,
	// sessions end as their State says and as the Set is told.
	Load func(ctx context.Context, id ID) (State, error)

	// LoadMany asks for many sessions at once, in place of Load. An id that is not
	// in the result has ended.
	LoadMany func(ctx context.Context, ids []ID) (map[ID]State, error)

	// Changes calls tell with the id of each session that anybody has changed or
	// ended since the call, until ctx ends or it fails. The zero ID says that some
	// may have been missed. If it begins to listen later than a second after the
	// call, it tells the zero ID then. nil: the store cannot tell.
	Changes func(ctx context.Context, tell func(id ID)) error

	// Elsewhere is the cause where a session has ended and nothing says why.
	Elsewhere error

	// Failed is told of errors of the other functions, once a minute at most. The
	// Set goes on: it asks again. It may be nil.
	Failed func(err error)
}

// A Set watches sessions. It is safe for concurrent use. While it has watchers, it
// has one timer, one goroutine where the store can tell, and, for the time of
// a Load, a few that ask.
type Set struct {
	cfg   Config
	count atomic.Int32 // watchers; changed under mu

	mu       sync.Mutex
	sessions map[ID]*session
	queue    queue         // of sessions to ask for
	failing  queue         // of those for which that failed the last time
	clock    time.Time     // where the times in the queues begin
	timer    *time.Timer   // nil until something is due
	armed    time.Duration // when timer fires
	ctx      context.Context
	stop     context.CancelFunc // ends ctx, after the last watcher

	loaders  int           // goroutines that ask
	retrying int           // those of them that ask for failing sessions
	failures int           // of these, since one succeeded
	paused   time.Duration // until when nobody asks for failing sessions in an outage

	listening bool          // Changes runs
	since     time.Duration // and has since then

	told time.Time // when Failed was called
}

// New returns a Set without watchers.
func New(cfg Config) *Set { return &Set{cfg: cfg} }

// A Watcher is a context that ends with a session. It is safe for concurrent use.
type Watcher struct {
	set    *Set
	ctx    context.Context
	cancel context.CancelCauseFunc
	unbind func() bool // from the parent

	// Guarded by set.mu.
	at         *session // nil: it follows none
	prev, next *Watcher // of the same session
	over       bool
}

// Watch returns a Watcher that follows no session yet. It ends with ctx at the
// latest.
func (s *Set) Watch(ctx context.Context) *Watcher {
	w := &Watcher{set: s}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	s.mu.Lock()
	if s.count.Add(1) == 1 {
		s.startLocked()
	}
	s.mu.Unlock()
	w.unbind = func() bool { return true }
	if ctx.Done() != nil {
		w.unbind = context.AfterFunc(ctx, func() { w.leave() })
	}
	return w
}

// Context returns the context that ends when the session does. Its cause is that
// of the end.
func (w *Watcher) Context() context.Context { return w.ctx }

// Follow makes w end with the session of id from now on, and with no other. st is
// what the caller knows of the session, which lives. The store is asked for it
// soon, so that w also ends if the session had ended before.
func (w *Watcher) Follow(id ID, st State) {
	s := w.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.over {
		return
	}
	s.unlinkLocked(w)
	x := s.sessions[id]
	switch {
	case x == nil:
		x = &session{id: id, ends: st.Ends, cause: st.Cause, index: -1}
		s.sessions[id] = x
	case st.Ends.After(x.ends):
		x.ends, x.cause = st.Ends, st.Cause
	}
	w.at, w.next = x, x.watchers
	if w.next != nil {
		w.next.prev = w
	}
	x.watchers = w
	if s.asks() {
		s.askLocked(x, s.slot(s.now()))
		s.armLocked()
	} else {
		s.endAtLocked(x)
	}
}

// Hold makes w follow no session until the next Follow. A request holds its
// watchers while it moves its session to a new id, since the old one ends then.
func (w *Watcher) Hold() {
	w.set.mu.Lock()
	defer w.set.mu.Unlock()
	w.set.unlinkLocked(w)
}

// End ends w for a cause. It is for a session that was not stored yet: Ended ends
// the watchers of one that has an id.
func (w *Watcher) End(cause error) {
	if w.leave() {
		w.unbind()
	}
	w.cancel(cause)
}

// Cancel ends w and releases what it holds. It is a context.CancelFunc.
func (w *Watcher) Cancel() { w.End(nil) }

// leave takes w out of its set, and reports whether it was in there.
func (w *Watcher) leave() bool {
	s := w.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.over {
		return false
	}
	s.unlinkLocked(w)
	s.leftLocked(w)
	return true
}

// Ended says that a session has ended, for a cause. Its watchers end before Ended
// returns. A request that has moved its session to a new id calls Ended with the
// old one, after its own watchers follow the new one.
func (s *Set) Ended(id ID, cause error) {
	if s.count.Load() == 0 {
		return
	}
	s.mu.Lock()
	var ends []end
	if x := s.sessions[id]; x != nil {
		ends = s.endLocked(ends, x, cause)
	}
	s.mu.Unlock()
	finish(ends)
}

// Ending says that this process is about to end a session in the store, so that
// the cause is known to whoever finds it ended before Ended is called. The caller
// calls done in any case: with true it is Ended.
func (s *Set) Ending(id ID, cause error) (done func(ended bool)) {
	if s.count.Load() == 0 {
		return func(ended bool) {
			if ended {
				s.Ended(id, cause) // somebody may watch since
			}
		}
	}
	e := &ending{cause}
	s.mu.Lock()
	x := s.sessions[id]
	if x != nil {
		x.ending = e
	}
	s.mu.Unlock()
	return func(ended bool) {
		if ended {
			s.Ended(id, cause)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if x != nil && x.ending == e {
			x.ending = nil
		}
	}
}

// Renewed says that this process has moved the end of a session, which lives. That
// is needed where no store can be asked.
func (s *Set) Renewed(id ID, st State) {
	if s.count.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.sessions[id]
	if x == nil {
		return
	}
	x.ends, x.cause = st.Ends, st.Cause
	s.endAtLocked(x)
}

// startLocked readies s for its first watcher.
func (s *Set) startLocked() {
	s.sessions = make(map[ID]*session)
	s.clock, s.armed = time.Now(), never
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.timer = nil
	s.failures, s.paused, s.listening = 0, 0, false
	if s.cfg.Changes != nil {
		go s.listen(s.ctx)
	}
}

// leftLocked notes that a watcher has ended. The last one takes everything with it.
func (s *Set) leftLocked(w *Watcher) {
	w.over = true
	if s.count.Add(-1) > 0 {
		return
	}
	s.stop()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.sessions, s.queue, s.failing = nil, nil, nil
}

// unlinkLocked takes w away from its session, which is forgotten with its last
// watcher.
func (s *Set) unlinkLocked(w *Watcher) {
	x := w.at
	if x == nil {
		return
	}
	if w.next != nil {
		w.next.prev = w.prev
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		x.watchers = w.next
	}
	w.at, w.prev, w.next = nil, nil, nil
	if x.watchers == nil {
		s.forgetLocked(x)
	}
}

// An end is what is left to do about a watcher without the lock.
type end struct {
	w     *Watcher
	cause error
}

// endLocked ends a session, and appends its watchers to ends.
func (s *Set) endLocked(ends []end, x *session, cause error) []end {
	s.forgetLocked(x)
	for w := x.watchers; w != nil; {
		ends = append(ends, end{w, cause})
		next := w.next
		w.at, w.prev, w.next = nil, nil, nil
		s.leftLocked(w)
		w = next
	}
	x.watchers = nil
	return ends
}

func finish(ends []end) {
	for _, e := range ends {
		e.w.cancel(e.cause)
		e.w.unbind()
	}
}
