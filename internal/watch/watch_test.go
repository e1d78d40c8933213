package watch_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions/internal/watch"
)

var (
	bg = context.Background()

	errNotFound  = errors.New("not found")
	errRevoked   = fmt.Errorf("%w: revoked", errNotFound)
	errReplaced  = fmt.Errorf("%w: replaced by a new id", errNotFound)
	errIdle      = fmt.Errorf("%w: idle", errNotFound)
	errExpired   = fmt.Errorf("%w: expired", errNotFound)
	errElsewhere = fmt.Errorf("%w: ended elsewhere", errNotFound)

	errDown = errors.New("the store is down")
)

// idOf returns the n-th of the ids of a test.
func idOf(n int) watch.ID { return sha256.Sum256(fmt.Append(nil, n)) }

var one, two = idOf(1), idOf(2)

// A store holds sessions, and counts how often it is asked.
type store struct {
	mu     sync.Mutex
	states map[watch.ID]watch.State
	fails  func(id watch.ID) error // nil: it works
	hangs  bool
	behind time.Duration  // its clock
	feeds  map[*feed]bool // of the calls of Changes under way
	deaf   error          // of Changes

	loads   map[watch.ID]int
	asked   []time.Time // of each load, also of those that failed
	changes int         // calls of Changes
}

type feed struct {
	tell  func(watch.ID)
	fails chan error
}

func newStore() *store {
	return &store{states: map[watch.ID]watch.State{}, loads: map[watch.ID]int{}, feeds: map[*feed]bool{}}
}

// begin stores the n sessions from id 0 on, which last for a year.
func (s *store) begin(n int) {
	for i := range n {
		s.set(idOf(i), alive(365*24*time.Hour))
	}
}

func alive(d time.Duration) watch.State {
	return watch.State{Ends: time.Now().Add(d), Cause: errExpired}
}

// set stores a session without telling.
func (s *store) set(id watch.ID, st watch.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states[id] = st
}

// remove deletes a session without telling.
func (s *store) remove(id watch.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.states, id)
}

func (s *store) tell(id watch.ID) {
	s.mu.Lock()
	feeds := maps.Clone(s.feeds)
	s.mu.Unlock()
	for f := range feeds {
		f.tell(id)
	}
}

// deafen makes Changes fail, also the calls under way; nil: it works.
func (s *store) deafen(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = err
	for f := range s.feeds {
		if err != nil {
			delete(s.feeds, f)
			f.fails <- err
		}
	}
}

// fail makes Load fail; nil: it works.
func (s *store) fail(fails func(id watch.ID) error) { s.work(func() { s.fails = fails }) }

func (s *store) work(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// takeLoads returns how often the store was asked since the last time.
func (s *store) takeLoads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.asked)
	s.asked, s.loads = nil, map[watch.ID]int{}
	return n
}

func (s *store) Load(ctx context.Context, id watch.ID) (watch.State, error) {
	found, err := s.LoadMany(ctx, []watch.ID{id})
	if st, ok := found[id]; ok || err != nil {
		return st, err
	}
	return watch.State{Ended: true}, nil
}

func (s *store) LoadMany(ctx context.Context, ids []watch.ID) (map[watch.ID]watch.State, error) {
	s.mu.Lock()
	s.asked = append(s.asked, time.Now())
	hangs := s.hangs
	s.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[watch.ID]watch.State{}
	for _, id := range ids {
		s.loads[id]++
		if s.fails != nil {
			if err := s.fails(id); err != nil {
				return nil, err
			}
		}
		if st, ok := s.states[id]; ok && (st.Ended || st.Ends.After(time.Now().Add(-s.behind))) {
			found[id] = st
		}
	}
	return found, nil
}

func (s *store) Changes(ctx context.Context, tell func(watch.ID)) error {
	f := &feed{tell, make(chan error, 1)}
	s.mu.Lock()
	s.changes++
	err := s.deaf
	if err == nil {
		s.feeds[f] = true
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		s.work(func() { delete(s.feeds, f) })
		return ctx.Err()
	case err := <-f.fails:
		return err
	}
}

// A kind is how a Set may come to know.
type kind struct {
	name       string
	many, told bool
	within     time.Duration // until it knows what the store has, also what nobody tells
}

var (
	polls  = kind{name: "asks for each", within: 5*time.Second + 10*time.Millisecond}
	asks   = kind{name: "asks for many", many: true, within: 5*time.Second + 260*time.Millisecond}
	told   = kind{name: "is told", told: true}
	toldOf = kind{name: "is told, and asks for many", many: true, told: true}
	kinds  = []kind{polls, asks, told, toldOf}
)

func (k kind) set(s *store) *watch.Set {
	cfg := watch.Config{Load: s.Load, Elsewhere: errElsewhere}
	if k.many {
		cfg.Load, cfg.LoadMany = nil, s.LoadMany
	}
	if k.told {
		cfg.Changes = s.Changes
	}
	return watch.New(cfg)
}

// each runs a test for each kind, in a bubble.
func each(t *testing.T, f func(t *testing.T, k kind, s *store, set *watch.Set)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				f(t, k, s, k.set(s))
			})
		})
	}
}

// follow begins to watch a session that the store holds, until the test ends.
func follow(t testing.TB, set *watch.Set, s *store, id watch.ID) *watch.Watcher {
	w := set.Watch(bg)
	t.Cleanup(w.Cancel)
	s.mu.Lock()
	st := s.states[id]
	s.mu.Unlock()
	w.Follow(id, st)
	return w
}

func lives(t *testing.T, w *watch.Watcher) {
	t.Helper()
	synctest.Wait()
	if w.Context().Err() != nil {
		t.Fatalf("it ended: %v", context.Cause(w.Context()))
	}
}

func ended(t *testing.T, w *watch.Watcher, cause error) {
	t.Helper()
	synctest.Wait()
	if w.Context().Err() == nil {
		t.Fatalf("it goes on, want an end: %v", cause)
	}
	if got := context.Cause(w.Context()); got != cause || w.Context().Err() != context.Canceled {
		t.Fatalf("got %v with the cause %v, want %v", w.Context().Err(), got, cause)
	}
}

// Ends.

func TestAnEndInThisProcessIsToldAtOnce(t *testing.T) {
	each(t, func(t *testing.T, _ kind, s *store, set *watch.Set) {
		s.begin(3)
		w, same, other := follow(t, set, s, one), follow(t, set, s, one), follow(t, set, s, two)
		time.Sleep(time.Minute)
		set.Ended(one, errRevoked)
		if w.Context().Err() == nil {
			t.Error("it goes on when Ended has returned")
		}
		ended(t, w, errRevoked)
		ended(t, same, errRevoked)
		lives(t, other)
		set.Ended(one, errRevoked) // nobody watches
		time.Sleep(time.Hour)
		lives(t, other)
	})
}

func TestAnEndInAnotherProcessIsTold(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		s.begin(3)
		deleted, replaced, other := follow(t, set, s, one), follow(t, set, s, two), follow(t, set, s, idOf(0))
		time.Sleep(time.Minute + 100*time.Millisecond) // nobody asks at this moment
		s.remove(one)
		s.set(two, watch.State{Ended: true, Cause: errReplaced})
		if k.told {
			s.tell(one)
			s.tell(two)
		} else {
			lives(t, deleted)
			lives(t, replaced)
		}
		time.Sleep(k.within)
		ended(t, deleted, errElsewhere)
		ended(t, replaced, errReplaced)
		lives(t, other)
	})
}

func TestWhatEndedBeforeItWasWatchedIsTold(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		s.begin(2)
		other := follow(t, set, s, idOf(0))
		time.Sleep(time.Minute)
		s.mu.Lock()
		st := s.states[one]
		delete(s.states, one)
		s.mu.Unlock()
		w := set.Watch(bg)
		w.Follow(one, st)
		if k.many {
			time.Sleep(250 * time.Millisecond)
		}
		ended(t, w, errElsewhere)
		lives(t, other)
	})
}

func TestWhoJoinsAnotherWatcherHearsWhatEndedBefore(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		s.begin(2)
		first := follow(t, set, s, one)
		time.Sleep(time.Minute)
		s.mu.Lock()
		st := s.states[one]
		delete(s.states, one) // and nobody tells
		s.mu.Unlock()
		second := set.Watch(bg)
		second.Follow(one, st)
		time.Sleep(250 * time.Millisecond)
		ended(t, first, errElsewhere)
		ended(t, second, errElsewhere)
	})
}

func TestTheIdleEndIsToldWhenItComes(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		const idle = 15 * time.Minute
		s.set(one, watch.State{Ends: time.Now().Add(idle), Cause: errIdle})
		w := follow(t, set, s, one)
		// Used for an hour, which nobody tells.
		for range 12 {
			time.Sleep(5 * time.Minute)
			s.set(one, watch.State{Ends: time.Now().Add(idle), Cause: errIdle})
		}
		lives(t, w)
		// Nobody is there, and being watched is no use.
		time.Sleep(idle - time.Millisecond)
		lives(t, w)
		time.Sleep(time.Millisecond)
		ended(t, w, errIdle)
	})
}

func TestTheAbsoluteEndIsToldWhenItComes(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		s.set(one, alive(24*time.Hour))
		w := follow(t, set, s, one)
		time.Sleep(24*time.Hour - time.Nanosecond)
		lives(t, w)
		time.Sleep(time.Nanosecond)
		ended(t, w, errExpired)
	})
}

func TestTheClockOfTheStoreDecides(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		s.behind = 3 * time.Second
		s.set(one, alive(time.Hour))
		w := follow(t, set, s, one)
		time.Sleep(time.Hour + s.behind - time.Millisecond)
		lives(t, w)
		time.Sleep(time.Second)
		ended(t, w, errExpired)
	})
}

func TestASessionWithoutAKnownEndGoesOn(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		s.set(one, watch.State{Ends: time.Now().AddDate(3000, 0, 0)})
		w := set.Watch(bg)
		defer w.Cancel()
		w.Follow(one, watch.State{})
		time.Sleep(24 * time.Hour)
		lives(t, w)
		set.Ended(one, errRevoked)
		ended(t, w, errRevoked)
	})
}

// Causes.

func TestTheCauseIsThisProcesssThoughTheStoreTellsFirst(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		s.begin(2)
		w := follow(t, set, s, one)
		time.Sleep(time.Minute)
		done := set.Ending(one, errRevoked)
		s.remove(one)
		s.tell(one)
		time.Sleep(k.within)
		ended(t, w, errRevoked)
		done(true)
		ended(t, w, errRevoked)
	})
}

func TestAnEndThatDidNotHappenIsNoCause(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		s.begin(2)
		w := follow(t, set, s, one)
		set.Ending(one, errRevoked)(false)
		time.Sleep(time.Minute)
		lives(t, w)
		s.remove(one)
		s.tell(one)
		time.Sleep(k.within)
		ended(t, w, errElsewhere)
	})
}

func TestWhoBeginsToWatchDuringAnEndHearsOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := watch.New(watch.Config{})
		done := set.Ending(one, errRevoked)
		w := set.Watch(bg)
		w.Follow(one, alive(time.Hour))
		done(true)
		ended(t, w, errRevoked)
	})
}

// Whom a watcher follows.

func TestAWatcherOfTheMovingRequestFollowsAndOthersEnd(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		s.begin(3)
		own, other := follow(t, set, s, one), follow(t, set, s, one)
		time.Sleep(time.Minute)
		own.Hold()
		s.set(two, alive(time.Hour))
		s.set(one, watch.State{Ended: true, Cause: errReplaced})
		s.tell(one)
		time.Sleep(k.within)
		ended(t, other, errReplaced)
		lives(t, own)
		own.Follow(two, alive(time.Hour))
		set.Ended(one, errReplaced)
		time.Sleep(time.Minute)
		lives(t, own)
		s.remove(two)
		s.tell(two)
		time.Sleep(k.within)
		ended(t, own, errElsewhere)
	})
}

func TestAWatcherThatIsHeldHearsOfTheEndWhenItFollowsAgain(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		s.begin(2)
		w := follow(t, set, s, one)
		time.Sleep(time.Minute)
		w.Hold()
		set.Ended(one, errRevoked)
		s.remove(one)
		time.Sleep(time.Minute)
		lives(t, w)
		w.Follow(one, alive(time.Hour)) // the move failed
		time.Sleep(250 * time.Millisecond)
		ended(t, w, errElsewhere)
	})
}

func TestAWatcherOfASessionThatIsNotStoredYetFollowsIt(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		w := set.Watch(bg)
		time.Sleep(time.Hour)
		lives(t, w)
		s.begin(2)
		w.Follow(one, alive(time.Hour))
		time.Sleep(time.Minute)
		lives(t, w)
		s.remove(one)
		s.tell(one)
		time.Sleep(k.within)
		ended(t, w, errElsewhere)
	})
}

func TestAWatcherCanEndBeforeItFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := watch.New(watch.Config{})
		w := set.Watch(bg)
		w.End(errRevoked)
		ended(t, w, errRevoked)
		w.Follow(one, alive(time.Hour))
		w.Hold()
		if sessions, _, watchers := set.Size(); sessions+watchers > 0 {
			t.Errorf("got %d sessions and %d watchers after the end, want none", sessions, watchers)
		}
	})
}

// Contexts.

func TestTheContextThatWasGivenBoundsAWatcher(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ctx   func() (context.Context, func())
		cause error
	}{
		{"that is canceled", func() (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(bg)
			return ctx, func() { cancel(errDown) }
		}, errDown},
		{"with a deadline", func() (context.Context, func()) {
			ctx, cancel := context.WithTimeout(bg, time.Hour)
			return ctx, func() { time.Sleep(time.Hour); synctest.Wait(); cancel() }
		}, context.DeadlineExceeded},
		{"that had ended before", func() (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(bg)
			cancel(errDown)
			return ctx, func() {}
		}, errDown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
				s.begin(2)
				type key struct{}
				ctx, end := tt.ctx()
				w := set.Watch(context.WithValue(ctx, key{}, "value"))
				w.Follow(one, alive(2*time.Hour))
				if w.Context().Value(key{}) != "value" {
					t.Error("it has not the values of the context that was given")
				}
				end()
				synctest.Wait()
				if got := context.Cause(w.Context()); got != tt.cause {
					t.Errorf("got the cause %v, want %v", got, tt.cause)
				}
				if sessions, queued, watchers := set.Size(); sessions+queued+watchers > 0 {
					t.Errorf("got %d sessions, %d in the queue and %d watchers after the end, want none", sessions, queued, watchers)
				}
			})
		})
	}
}

func TestAWatcherThatEndedLeavesNothingInTheContextThatWasGiven(t *testing.T) {
	ctx, cancel := context.WithCancel(bg)
	defer cancel()
	set := watch.New(watch.Config{})
	used := func(watchers int) int {
		for i := range watchers {
			w := set.Watch(ctx)
			w.Follow(one, alive(time.Hour))
			if i%2 == 0 {
				w.Cancel()
			} else {
				set.Ended(one, errRevoked)
			}
		}
		return heap()
	}
	before := used(10)
	if after := used(20_000); after > before+1<<20 {
		t.Errorf("got %d bytes in use after 20,000 watchers, %d before, want no growth", after, before)
	}
	runtime.KeepAlive(ctx)
}

func TestCancelReleasesAWatcherAndNoOther(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		s.begin(2)
		ctx, cancel := context.WithCancel(bg)
		defer cancel()
		var all []*watch.Watcher
		for range 5 {
			w := set.Watch(ctx)
			w.Follow(one, alive(time.Hour))
			all = append(all, w)
		}
		for _, i := range []int{2, 0, 4} { // in the middle, the last that came, the first
			all[i].Cancel()
			all[i].Cancel()
			ended(t, all[i], context.Canceled)
		}
		lives(t, all[1])
		lives(t, all[3])
		set.Ended(one, errRevoked)
		ended(t, all[1], errRevoked)
		ended(t, all[3], errRevoked)
	})
}

func TestTheLastWatcherTakesEverythingWithIt(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		s.begin(1000)
		before := runtime.NumGoroutine()
		for range 3 { // and the next one brings it back
			var all []*watch.Watcher
			for i := range 1000 {
				all = append(all, follow(t, set, s, idOf(i)))
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			s.takeLoads()
			if n := runtime.NumGoroutine() - before; n > 10 { // the runtime may have some more
				t.Errorf("got %d goroutines for 1,000 watchers at rest, want at most one", n)
			}
			s.remove(one)
			s.tell(one)
			time.Sleep(k.within)
			ended(t, all[1], errElsewhere)
			s.begin(2)
			for _, w := range all {
				w.Cancel()
			}
			synctest.Wait() // synctest fails a test that leaves a goroutine behind
			s.takeLoads()
			time.Sleep(time.Hour)
			if n := s.takeLoads(); n > 0 {
				t.Errorf("got %d loads without watchers, want none", n)
			}
			if sessions, queued, watchers := set.Size(); sessions+queued+watchers > 0 {
				t.Errorf("got %d sessions, %d in the queue, %d watchers, want none", sessions, queued, watchers)
			}
		}
	})
}

// Loads.

func TestASessionIsAskedForEveryFiveSecondsHoweverManyWatch(t *testing.T) {
	for _, k := range []kind{polls, asks} {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				s.begin(2)
				set := k.set(s)
				for range 100 {
					follow(t, set, s, one)
				}
				time.Sleep(time.Minute)
				if n := s.takeLoads(); n < 12 || n > 15 {
					t.Errorf("got %d loads in a minute, want about 13", n)
				}
				time.Sleep(10 * time.Minute)
				if n := s.takeLoads(); n < 110 || n > 121 {
					t.Errorf("got %d loads in ten minutes, want about 120", n)
				}
			})
		})
	}
}

func TestLoadsAreSpreadEvenly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 10_000
		s := newStore()
		s.begin(n)
		set := polls.set(s)
		for i := range n {
			follow(t, set, s, idOf(i)) // all at one moment
		}
		time.Sleep(10 * time.Second)
		s.takeLoads()
		begin := time.Now()
		time.Sleep(20 * time.Second)
		var bins [200]int // of 100 ms
		s.mu.Lock()
		for _, at := range s.asked {
			bins[min(at.Sub(begin)/(100*time.Millisecond), 199)]++
		}
		for id, loads := range s.loads {
			if loads < 3 || loads > 5 {
				t.Fatalf("got %d loads of %x in 20 seconds, want 4", loads, id[:4])
			}
		}
		s.mu.Unlock()
		for i, loads := range bins {
			if loads < 100 || loads > 300 {
				t.Fatalf("got %d loads in the %d-th tenth of a second, want about 200", loads, i)
			}
		}
	})
}

func TestWhatNobodyTellsIsKnownWithinSixSeconds(t *testing.T) {
	for _, k := range []kind{polls, asks} {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 10_000
				s := newStore()
				s.begin(n)
				set := k.set(s)
				all := make([]*watch.Watcher, n)
				for i := range n {
					all[i] = follow(t, set, s, idOf(i))
				}
				time.Sleep(time.Minute)
				var mu sync.Mutex
				var took []time.Duration
				for i := range n / 10 {
					s.remove(idOf(i))
					began := time.Now()
					context.AfterFunc(all[i].Context(), func() {
						mu.Lock()
						defer mu.Unlock()
						took = append(took, time.Since(began))
					})
					time.Sleep(10 * time.Millisecond)
				}
				time.Sleep(6 * time.Second)
				synctest.Wait()
				if len(took) != n/10 {
					t.Fatalf("%d of %d ends are known", len(took), n/10)
				}
				slices.Sort(took)
				t.Logf("median %v, 99 %% within %v, all within %v", took[n/20], took[n/10*99/100], took[n/10-1])
				if last := took[n/10-1]; last > 5300*time.Millisecond {
					t.Errorf("got the last after %v, want at most about five seconds", last)
				}
			})
		})
	}
}

func TestManyAreAskedForAtOnceWhereTheStoreCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 10_000
		s := newStore()
		s.begin(n)
		set := asks.set(s)
		for i := range n {
			follow(t, set, s, idOf(i))
		}
		time.Sleep(10 * time.Second)
		s.takeLoads()
		time.Sleep(20 * time.Second)
		s.mu.Lock()
		for id, loads := range s.loads {
			if loads < 3 || loads > 5 {
				t.Fatalf("%x was asked for %d times in 20 seconds, want 4 times", id[:4], loads)
			}
		}
		s.mu.Unlock()
		if loads := s.takeLoads(); loads > 200 {
			t.Errorf("got %d loads in 20 seconds, want at most 10 in a second", loads)
		}
	})
}

func TestAtRestTheStoreIsHardlyAskedWhereItTells(t *testing.T) {
	for _, k := range []kind{told, toldOf} {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 10_000
				s := newStore()
				s.begin(n)
				set := k.set(s)
				for i := range n {
					follow(t, set, s, idOf(i))
				}
				time.Sleep(10 * time.Second)
				if loads := s.takeLoads(); loads > 3*n {
					t.Errorf("got %d loads in the first ten seconds, want at most three for each session", loads)
				}
				time.Sleep(time.Hour)
				loads := s.takeLoads()
				t.Logf("%d loads in an hour at rest", loads)
				if loads > 3600*n/1000 {
					t.Errorf("got %d loads in an hour, want at most one in a second for a thousand sessions", loads)
				}
				// But a connection that is dead without anybody's knowing is noticed.
				time.Sleep(time.Hour)
				s.mu.Lock()
				defer s.mu.Unlock()
				if len(s.loads) != n {
					t.Errorf("got loads of %d sessions in an hour, want all %d", len(s.loads), n)
				}
			})
		})
	}
}

func TestAChangeIsOneLoadOfAWatchedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		s.begin(100)
		set := told.set(s)
		for range 100 {
			follow(t, set, s, one)
		}
		w := follow(t, set, s, two)
		time.Sleep(time.Minute)
		s.takeLoads()
		s.tell(one)
		synctest.Wait()
		if s.loads[one] != 1 || len(s.asked) != 1 {
			t.Errorf("got %d loads, %d of the changed session, want one", len(s.asked), s.loads[one])
		}
		s.takeLoads()
		for i := range 100 {
			if i > 2 {
				s.tell(idOf(i)) // nobody watches those
			}
		}
		synctest.Wait()
		if n := s.takeLoads(); n > 0 {
			t.Errorf("got %d loads for changes that nobody watches, want none", n)
		}
		lives(t, w)
	})
}

func TestAChangeDuringALoadIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		s.begin(2)
		set := told.set(s)
		w := follow(t, set, s, one)
		time.Sleep(time.Minute)
		s.takeLoads()
		// The load finds the session alive, which ends before the answer arrives.
		s.fail(func(watch.ID) error {
			s.fails = nil
			s.mu.Unlock()
			defer s.mu.Lock()
			for range 10 {
				s.tell(one)
			}
			return nil
		})
		s.tell(one)
		synctest.Wait()
		if n := s.takeLoads(); n != 2 {
			t.Errorf("got %d loads, want two", n)
		}
		lives(t, w)
	})
}

func TestAnAnswerThatComesLateIsNotForWhoCameSince(t *testing.T) {
	for _, tt := range []struct {
		name  string
		state watch.State
		err   error
	}{
		{"an end", watch.State{Ended: true}, nil},
		{"a failure", watch.State{}, errDown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				late, calls := make(chan struct{}), 0
				set := watch.New(watch.Config{Load: func(context.Context, watch.ID) (watch.State, error) {
					if calls++; calls == 1 {
						<-late
						return tt.state, tt.err
					}
					return alive(time.Hour), nil
				}})
				w := set.Watch(bg)
				defer w.Cancel()
				w.Follow(one, alive(time.Hour))
				synctest.Wait()
				w.Hold()
				w.Follow(one, alive(time.Hour)) // which is alive again
				synctest.Wait()
				close(late)
				synctest.Wait()
				if sessions, queued, _ := set.Size(); sessions != 1 || queued != 1 {
					t.Errorf("got %d sessions and %d in the queue, want one", sessions, queued)
				}
				time.Sleep(time.Minute)
				lives(t, w)
				set.Ended(one, errRevoked)
				ended(t, w, errRevoked)
			})
		})
	}
}

func TestAfterMissedChangesAllAreAskedForOnce(t *testing.T) {
	for _, k := range []kind{told, toldOf} {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 1000
				s := newStore()
				s.begin(n)
				set := k.set(s)
				var all []*watch.Watcher
				for i := range n {
					all = append(all, follow(t, set, s, idOf(i)))
				}
				time.Sleep(time.Minute)
				s.takeLoads()
				s.remove(one)
				for range 10 {
					s.tell(watch.ID{})
				}
				time.Sleep(2250 * time.Millisecond)
				ended(t, all[1], errElsewhere)
				lives(t, all[2])
				s.mu.Lock()
				defer s.mu.Unlock()
				if len(s.loads) != n {
					t.Errorf("got loads of %d sessions, want all %d", len(s.loads), n)
				}
				for id, loads := range s.loads {
					if loads != 1 {
						t.Fatalf("got %d loads of %x, want one", loads, id[:4])
					}
				}
			})
		})
	}
}

// Failures.

func TestAStoreThatFailsIsNoEnd(t *testing.T) {
	down := func(watch.ID) error { return errDown }
	for _, tt := range []struct {
		name    string
		begin   func(s *store)
		restore func(s *store)
		allows  int // loads in a minute of failure, after the first
	}{
		{"with an error", func(s *store) { s.fail(down) }, func(s *store) { s.fail(nil) }, 70},
		{"by a panic", func(s *store) { s.fail(func(watch.ID) error { panic("down") }) }, func(s *store) { s.fail(nil) }, 70},
		{"by hanging", func(s *store) { s.work(func() { s.hangs = true }) }, func(s *store) { s.work(func() { s.hangs = false }) }, 160},
		{"and deaf", func(s *store) { s.fail(down); s.deafen(errDown) }, func(s *store) { s.fail(nil); s.deafen(nil) }, 70},
	} {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
				const n = 2000
				s.begin(n)
				s.set(idOf(3), watch.State{Ends: time.Now().Add(5 * time.Minute), Cause: errIdle})
				s.set(idOf(4), watch.State{Ends: time.Now().Add(5 * time.Minute), Cause: errIdle})
				all := make([]*watch.Watcher, n)
				for i := range n {
					all[i] = follow(t, set, s, idOf(i))
				}
				time.Sleep(time.Minute)
				tt.begin(s)
				s.remove(one) // by what does not reach this process
				for i := range n {
					s.tell(idOf(i))
				}
				time.Sleep(time.Minute)
				s.takeLoads()
				time.Sleep(10 * time.Minute)
				if loads := s.takeLoads() / 10; loads > tt.allows {
					t.Errorf("got %d loads in a minute of a store that fails, want at most %d", loads, tt.allows)
				}
				for _, w := range all {
					lives(t, w)
				}
				s.set(idOf(4), alive(time.Hour)) // it was used
				tt.restore(s)
				time.Sleep(10 * time.Second)
				ended(t, all[1], errElsewhere)
				ended(t, all[3], errIdle)
				for i, w := range all {
					if i != 1 && i != 3 {
						lives(t, w)
					}
				}
			})
		})
	}
}

func TestAPartOfTheStoreThatFailsDoesNotKeepTheRestFromBeingAsked(t *testing.T) {
	for _, k := range []kind{polls, told} {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 1000
				s := newStore()
				s.begin(n)
				set := k.set(s)
				all := make([]*watch.Watcher, n)
				for i := range n {
					all[i] = follow(t, set, s, idOf(i))
				}
				down := true
				s.fail(func(id watch.ID) error {
					if down && id[0]%3 == 0 {
						return errDown
					}
					return nil
				})
				time.Sleep(time.Minute)
				for i := range n {
					if i%10 == 0 {
						s.remove(idOf(i))
						s.tell(idOf(i))
					}
				}
				time.Sleep(10 * time.Second)
				for i, w := range all {
					if id := idOf(i); i%10 == 0 && id[0]%3 != 0 {
						ended(t, w, errElsewhere)
					} else {
						lives(t, w)
					}
				}
				s.work(func() { down = false })
				time.Sleep(10 * time.Second)
				for i, w := range all {
					if i%10 == 0 {
						ended(t, w, errElsewhere)
					}
				}
			})
		})
	}
}

func TestAPartOfTheStoreThatHangsDoesNotKeepTheRestFromBeingToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hanging, n = 20, 320
		s := newStore()
		s.begin(n)
		hangs := map[watch.ID]bool{}
		for i := range hanging {
			hangs[idOf(i)] = true
		}
		var down atomic.Bool
		set := watch.New(watch.Config{Changes: s.Changes, Elsewhere: errElsewhere, Load: func(ctx context.Context, id watch.ID) (watch.State, error) {
			if down.Load() && hangs[id] {
				<-ctx.Done()
				return watch.State{}, ctx.Err()
			}
			return s.Load(ctx, id)
		}})
		all := make([]*watch.Watcher, n)
		for i := range n {
			all[i] = follow(t, set, s, idOf(i))
		}
		time.Sleep(time.Minute)
		down.Store(true)
		for i := range hanging {
			s.tell(idOf(i))
		}
		time.Sleep(10 * time.Second) // until all of those have failed once
		for i := hanging; i < n; i++ {
			s.remove(idOf(i))
			s.tell(idOf(i))
			ended(t, all[i], errElsewhere)
			time.Sleep(100 * time.Millisecond)
		}
	})
}

func TestChangesThatFailIsCalledAgainAndTheStoreIsAskedMeanwhile(t *testing.T) {
	for _, k := range []kind{told, toldOf} {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 100
				s := newStore()
				s.begin(n)
				set := k.set(s)
				all := make([]*watch.Watcher, n)
				for i := range n {
					all[i] = follow(t, set, s, idOf(i))
				}
				time.Sleep(time.Minute)
				s.takeLoads()
				s.deafen(errDown)
				s.remove(idOf(0)) // before anybody knows that nobody tells
				time.Sleep(time.Minute)
				ended(t, all[0], errElsewhere)
				for i := 1; i < 10; i++ {
					s.remove(idOf(i))
					time.Sleep(5250 * time.Millisecond)
					ended(t, all[i], errElsewhere)
				}
				time.Sleep(time.Hour)
				s.mu.Lock()
				if s.changes < 60 || s.changes > 400 {
					t.Errorf("Changes was called %d times in an hour, want about twice a minute", s.changes)
				}
				s.mu.Unlock()
				s.deafen(nil)
				s.remove(idOf(20)) // while nobody tells
				time.Sleep(10 * time.Second)
				ended(t, all[20], errElsewhere)
				time.Sleep(time.Minute)
				s.takeLoads()
				time.Sleep(10 * time.Minute)
				if loads := s.takeLoads(); loads > n {
					t.Errorf("got %d loads in ten minutes, want hardly any: the store tells again", loads)
				}
				s.remove(idOf(30))
				s.tell(idOf(30))
				ended(t, all[30], errElsewhere)
			})
		})
	}
}

func TestASessionThatEndsAsChangesBeginsIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		s.begin(3)
		set := watch.New(watch.Config{Load: s.Load, Elsewhere: errElsewhere, Changes: func(ctx context.Context, tell func(watch.ID)) error {
			time.Sleep(900 * time.Millisecond) // to subscribe
			return s.Changes(ctx, tell)
		}})
		follow(t, set, s, two)
		time.Sleep(10 * time.Millisecond)
		w := follow(t, set, s, one)
		time.Sleep(800 * time.Millisecond)
		s.remove(one)
		s.tell(one)
		time.Sleep(5 * time.Second)
		ended(t, w, errElsewhere)
	})
}

func TestAFailureIsToldOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		s.begin(100)
		var failures []error
		set := watch.New(watch.Config{Load: s.Load, Changes: s.Changes, Elsewhere: errElsewhere, Failed: func(err error) { failures = append(failures, err) }})
		for i := range 100 {
			follow(t, set, s, idOf(i))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(failures) > 0 {
			t.Errorf("got %v before anything failed", failures)
		}
		s.fail(func(watch.ID) error { return errDown })
		s.deafen(errDown)
		time.Sleep(10*time.Minute - time.Second)
		synctest.Wait()
		if len(failures) < 9 || len(failures) > 10 {
			t.Errorf("got %d failures in ten minutes, want ten", len(failures))
		}
		for _, err := range failures {
			if !errors.Is(err, errDown) {
				t.Errorf("got %v, want %v", err, errDown)
			}
		}
	})
}

// Without a store.

func TestWithoutAStoreASessionEndsByItsTimeAndAsThisProcessSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := watch.New(watch.Config{})
		watching := func(id watch.ID, d time.Duration, cause error) *watch.Watcher {
			w := set.Watch(bg)
			t.Cleanup(w.Cancel)
			w.Follow(id, watch.State{Ends: time.Now().Add(d), Cause: cause})
			return w
		}
		idle, absolute, destroyed := watching(one, time.Hour, errIdle), watching(two, 2*time.Hour, errExpired), watching(idOf(3), time.Hour, errIdle)
		renewed := watching(idOf(4), time.Hour, errIdle)
		shortened := watching(idOf(5), time.Hour, errIdle)
		time.Sleep(30 * time.Minute)
		set.Ended(idOf(3), errRevoked)
		ended(t, destroyed, errRevoked)
		set.Renewed(idOf(4), watch.State{Ends: time.Now().Add(time.Hour), Cause: errIdle})
		set.Renewed(idOf(5), watch.State{Ends: time.Now().Add(time.Minute), Cause: errExpired})
		set.Renewed(idOf(6), alive(time.Hour)) // nobody watches
		time.Sleep(time.Minute)
		ended(t, shortened, errExpired)
		time.Sleep(29*time.Minute - time.Nanosecond)
		lives(t, idle)
		time.Sleep(time.Nanosecond)
		ended(t, idle, errIdle)
		lives(t, renewed)
		// A later request brings a later end.
		joined := watching(two, 3*time.Hour, errIdle)
		time.Sleep(30 * time.Minute)
		ended(t, renewed, errIdle)
		time.Sleep(time.Hour)
		lives(t, absolute)
		time.Sleep(90 * time.Minute)
		ended(t, absolute, errIdle)
		ended(t, joined, errIdle)
	})
}

func TestAnEndThatThisProcessMovesIsAskedForThen(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		s.begin(2)
		w := follow(t, set, s, one)
		time.Sleep(time.Minute)
		st := watch.State{Ends: time.Now().Add(time.Minute), Cause: errExpired}
		s.set(one, st)
		set.Renewed(one, st)
		time.Sleep(time.Minute)
		ended(t, w, errExpired)
	})
}

// All at once.

func TestAnyNumberOfGoroutinesMayWatchAndEnd(t *testing.T) {
	each(t, func(t *testing.T, k kind, s *store, set *watch.Set) {
		const ids = 20
		s.begin(ids)
		var wg sync.WaitGroup
		for g := range 16 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(1, uint64(g)))
				var mine []*watch.Watcher
				for range 500 {
					id := idOf(r.IntN(ids))
					switch r.IntN(10) {
					case 0, 1, 2:
						ctx, cancel := context.WithTimeout(bg, upTo(r, 10*time.Second))
						t.Cleanup(cancel)
						w := set.Watch(ctx)
						w.Follow(id, alive(upTo(r, 20*time.Second)))
						mine = append(mine, w)
					case 3:
						set.Ended(id, errRevoked)
					case 4:
						set.Ending(id, errRevoked)(r.IntN(2) == 0)
					case 5:
						set.Renewed(id, alive(upTo(r, 20*time.Second)))
					case 6:
						s.tell(id)
					case 7:
						time.Sleep(upTo(r, 2*time.Second))
					default:
						if len(mine) == 0 {
							break
						}
						switch w := mine[r.IntN(len(mine))]; r.IntN(3) {
						case 0:
							w.Hold()
						case 1:
							w.Follow(id, alive(time.Hour))
						case 2:
							w.Cancel()
						}
					}
				}
				for _, w := range mine {
					w.Cancel()
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if sessions, queued, watchers := set.Size(); sessions+queued+watchers > 0 {
			t.Errorf("got %d sessions, %d in the queue, %d watchers in the end, want none", sessions, queued, watchers)
		}
	})
}

func TestAWatcherTakesAtMostAKilobyte(t *testing.T) {
	const n = 10_000
	s := newStore()
	s.begin(n)
	for _, tt := range []struct {
		name   string
		parent func() (context.Context, context.CancelFunc)
	}{
		{"of a context that never ends", func() (context.Context, context.CancelFunc) { return bg, func() {} }},
		{"of a request", func() (context.Context, context.CancelFunc) { return context.WithCancel(bg) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parents := make([]context.Context, n)
			cancels := make([]context.CancelFunc, n)
			all := make([]*watch.Watcher, n)
			for i := range n {
				parents[i], cancels[i] = tt.parent()
				parents[i].Done()
			}
			set := watch.New(watch.Config{Elsewhere: errElsewhere})
			before := heap()
			for i := range n {
				all[i] = set.Watch(parents[i])
				all[i].Follow(idOf(i), alive(time.Hour))
				all[i].Context().Done()
			}
			bytes := (heap() - before) / n
			t.Logf("%d bytes", bytes)
			if bytes > 1000 {
				t.Errorf("got %d bytes for each watcher, want at most 1,000", bytes)
			}
			for i := range n {
				all[i].Cancel()
				cancels[i]()
			}
		})
	}
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func upTo(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }
