package watch

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// maxRestart bounds the time between two calls of Changes. The sessions are asked
// for meanwhile.
const maxRestart = 30 * time.Second

// listen calls Changes, and again where that ends, as long as anybody watches.
func (s *Set) listen(ctx context.Context) {
	for wait := time.Second; ; wait = min(2*wait, maxRestart) {
		began := time.Now()
		if !s.setListening(ctx, true, nil) {
			return
		}
		err := s.hear(ctx)
		if !s.setListening(ctx, false, err) {
			return
		}
		if errors.Is(err, errors.ErrUnsupported) { // as set up, this store never can
			return
		}
		if time.Since(began) > settle {
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + s.spread(wait)/2):
		}
	}
}

func (s *Set) hear(ctx context.Context) (err error) {
	defer caught(&err)
	err = s.cfg.Changes(ctx, s.tell)
	if err == nil {
		err = errors.New("no more of them")
	}
	return err
}

// tell has a session asked for that was changed, if it is watched.
func (s *Set) tell(id ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == (ID{}) {
		s.askAllLocked(askAllWithin)
	} else if x := s.sessions[id]; x != nil {
		s.askLocked(x, 0) // before all that is due by the clock
		s.armLocked()
	}
}

// setListening notes whether Changes runs. It reports whether anybody still watches
// for whom it was called.
func (s *Set) setListening(ctx context.Context, on bool, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	s.listening, s.since = on, s.now()
	if !on {
		s.askAllLocked(pollEvery) // which goes on every five seconds
		if !errors.Is(err, errors.ErrUnsupported) {
			s.failedLocked(fmt.Errorf("watch for changes: %w", err))
		}
	}
	return true
}
