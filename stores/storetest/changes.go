package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/typedsessions/sessions"
)

// A listener collects what a loop over Changes yields.
type listener struct {
	s      *subject
	cancel context.CancelFunc
	ended  chan struct{}

	mu    sync.Mutex
	times map[sessions.ID]int // how often each id was yielded; the zero ID too
	err   error
}

// waitForChanges is poll with the patience for Changes.
func (s *subject) waitForChanges(otherwise string, f func() bool) {
	s.Helper()
	w := s.patience.wait("Changes")
	if !s.within(w.Duration, f) {
		s.patience.failed(w, w.Duration)
		s.Fatalf("%s, after %v", otherwise, w)
	}
}

// listen starts a loop over Changes that calls each for what it yields, and returns
// when it is told of changes. It returns nil if the engine cannot tell, which Changes
// may answer. The id probe must not have been used.
func (s *subject) listen(probe sessions.ID, each ...func(id sessions.ID)) *listener {
	s.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	l := &listener{s: s, cancel: cancel, ended: make(chan struct{}), times: map[sessions.ID]int{}}
	s.start(1, func(int) {
		defer close(l.ended)
		for id, err := range s.Store.(sessions.Watcher).Changes(ctx) {
			l.mu.Lock()
			if l.err != nil {
				s.Errorf("Changes: got a pair after the error %v", l.err)
			}
			if l.err = err; err == nil {
				l.times[id]++
			}
			l.mu.Unlock()
			for _, f := range each {
				f(id)
			}
		}
	})
	// There is no sign that it has begun, except that it tells of changes.
	version := s.create(probe, recordFor(time.Hour, "probe", ""))
	s.waitForChanges("Changes does not yield the id of a record that is updated again and again", func() bool {
		version = s.update(probe, version, recordFor(time.Hour, "probe", ""))
		l.works()
		return l.count(probe) > 0 || l.cannot()
	})
	if l.cannot() {
		s.Logf("Changes: %v", l.err)
		return nil
	}
	return l
}

// cannot reports whether the loop was told that the engine cannot tell of changes.
func (l *listener) cannot() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Is(l.err, errors.ErrUnsupported)
}

// works fails the test if the loop has ended, unless the engine cannot tell.
func (l *listener) works() {
	l.s.Helper()
	select {
	case <-l.ended:
		if l.cannot() {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.s.Fatalf("Changes ended with the error %v, want none until its context is done", l.err)
	default:
	}
}

// count returns how often the loop was told of id, or that it has missed some.
func (l *listener) count(id sessions.ID) int {
	told, missed := l.counts(id)
	return told + missed
}

func (l *listener) counts(id sessions.ID) (told, missed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.times[id], l.times[sessions.ID{}]
}

// told waits until the loop is told of id after a change, which f makes.
func (l *listener) told(what string, id sessions.ID, f func()) {
	l.s.Helper()
	before := l.count(id)
	f()
	l.s.waitForChanges(what+": Changes does not yield the id, nor the zero ID", func() bool {
		l.works()
		return l.count(id) > before
	})
}

// ends waits until the loop has ended.
func (l *listener) ends() {
	l.s.Helper()
	l.s.waitForChanges("Changes does not end with its context", func() bool {
		select {
		case <-l.ended:
			return true
		default:
			return false
		}
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil && !errors.Is(l.err, context.Canceled) {
		l.s.Errorf("Changes: got the error %v, want none or that of its context", l.err)
	}
}

// changesClauses are the clauses of the comment of Watcher. A loop that is told of the
// zero ID asks for all, so the zero ID is a right answer to each change.
var changesClauses = []clause{
	{"Changes yields the id of a record that is updated or deleted", func(s *subject) {
		versions := []uint64{
			s.create(idOf(0), recordFor(time.Hour, "data", "ada")),
			s.create(idOf(1), recordFor(time.Hour, "data", "")),
			s.create(idOf(2), recordFor(time.Hour, "data", "ada")),
		}
		l := s.listen(idOf(-3))
		if l == nil {
			return
		}
		for range 3 {
			l.told("an Update", idOf(0), func() { versions[0] = s.update(idOf(0), versions[0], recordFor(time.Hour, "new", "ada")) })
		}
		l.told("an Update that changes the owner", idOf(0), func() { versions[0] = s.update(idOf(0), versions[0], recordFor(time.Hour, "new", "bob")) })
		l.told("an Update that changes nothing", idOf(1), func() { s.update(idOf(1), versions[1], recordFor(time.Hour, "data", "")) })
		l.told("a Delete of version 0", idOf(1), func() { s.delete(idOf(1), 0) })
		l.told("a Delete of a version", idOf(2), func() { s.delete(idOf(2), versions[2]) })
		l.told("a Delete after Updates", idOf(0), func() { s.delete(idOf(0), versions[0]) })
		version := s.create(idOf(1), recordFor(time.Hour, "again", ""))
		l.told("an Update after it was created again", idOf(1), func() { s.update(idOf(1), version, recordFor(time.Hour, "new", "")) })
	}},
	{"whoever reads the record of each id that Changes yields ends with the newest", func(s *subject) {
		const n = 50
		versions := map[sessions.ID]uint64{}
		for i := range n {
			versions[idOf(i)] = s.create(idOf(i), recordFor(time.Hour, "old", ""))
		}
		newest := s.Store.(interface {
			LoadNewest(ctx context.Context, id sessions.ID) (sessions.Record, error)
		})
		var mu sync.Mutex
		read := map[sessions.ID]string{} // the data
		l := s.listen(idOf(-3), func(yielded sessions.ID) {
			for id := range versions {
				if id != yielded && yielded != (sessions.ID{}) {
					continue
				}
				rec, err := newest.LoadNewest(s.ctx, id)
				if err != nil && !errors.Is(err, errOver) {
					s.Errorf("LoadNewest, after Changes had yielded the id: got %v", err)
				}
				mu.Lock()
				read[id] = string(rec.Data)
				mu.Unlock()
			}
		})
		if l == nil {
			return
		}
		for id, version := range versions {
			s.update(id, version, recordFor(time.Hour, "new", ""))
			s.waitForChanges("a LoadNewest for each id that Changes yields has not read what an Update has stored", func() bool {
				l.works()
				mu.Lock()
				defer mu.Unlock()
				return read[id] == "new"
			})
		}
	}},
	{"Changes ends with its context", func(s *subject) {
		l := s.listen(idOf(-3))
		if l == nil {
			return
		}
		l.cancel()
		l.ends()
		ctx, cancel := context.WithCancel(s.ctx)
		cancel()
		for id, err := range s.Store.(sessions.Watcher).Changes(ctx) {
			if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errors.ErrUnsupported) {
				s.Errorf("with a context that is done: got %v, %v, want no error but that of the context", id, err)
			}
		}
	}},
	{"a loop over Changes may break and start again", func(s *subject) {
		version := s.create(oneID, recordFor(time.Hour, "data", ""))
		for range 3 {
			ctx, cancel := context.WithCancel(s.ctx)
			wait := s.start(1, func(int) {
				for id, err := range s.Store.(sessions.Watcher).Changes(ctx) {
					if err != nil && !errors.Is(err, errors.ErrUnsupported) {
						s.Errorf("Changes: got error %v", err)
					}
					if id == oneID || err != nil {
						break
					}
				}
				cancel()
			})
			s.waitForChanges("Changes does not yield the id of a record that is updated again and again, or its loop does not end after break", func() bool {
				version = s.update(oneID, version, recordFor(time.Hour, "data", ""))
				return ctx.Err() != nil
			})
			wait()
		}
	}},
	{"several loops over Changes are all told", func(s *subject) {
		version := s.create(oneID, recordFor(time.Hour, "data", ""))
		loops := []*listener{s.listen(idOf(-3)), s.listen(idOf(-4)), s.listen(idOf(-5))}
		if slices.Contains(loops, nil) {
			return
		}
		for i, l := range loops {
			for _, other := range loops[i:] {
				other.told("with several loops, an Update", oneID, func() { version = s.update(oneID, version, recordFor(time.Hour, "data", "")) })
			}
			l.cancel() // which does not end the others
			l.ends()
		}
	}},
	{"Changes tells of each of thousands of changes, or that some were missed", func(s *subject) {
		const n = 3000
		versions := make([]uint64, n)
		s.parallel(8, func(g int) {
			for i := g; i < n; i += 8 {
				versions[i] = s.create(idOf(i), recordFor(time.Hour, "data", ""))
			}
		})
		l := s.listen(idOf(-3))
		if l == nil {
			return
		}
		before := make([]int, n)
		s.parallel(8, func(g int) {
			for i := g; i < n; i += 8 {
				before[i] = l.count(idOf(i))
				if i%2 == 0 {
					s.delete(idOf(i), versions[i])
				} else {
					s.update(idOf(i), versions[i], recordFor(time.Hour, "new", ""))
				}
			}
		})
		s.waitForChanges("Changes does not yield each id, nor the zero ID after it has changed", func() bool {
			l.works()
			for i := range n {
				if l.count(idOf(i)) == before[i] {
					return false
				}
			}
			return true
		})
	}},
}
