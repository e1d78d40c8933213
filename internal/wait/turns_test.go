package wait

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurnsComeInTheOrderOfTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns Turns[string, int]
		var wg sync.WaitGroup
		var got []int // no two turns at once
		for i := range 10 {
			wg.Go(func() {
				turn, left, err := turns.Take(t.Context(), "a", time.Second)
				if err != nil {
					t.Error(err)
				}
				got = append(got, left)
				time.Sleep(time.Millisecond)
				turn.End(i + 1)
				turn.End(100) // it is over
			})
			synctest.Wait()
		}
		wg.Wait()
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}; !slices.Equal(got, want) {
			t.Errorf("the turns got %v, want %v", got, want)
		}
		if len(turns.queues) != 0 {
			t.Errorf("got %d queues at the end, want none", len(turns.queues))
		}
	})
}

func TestCallerWhoseContextEndsLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns Turns[string, int]
		first, _, err := turns.Take(t.Context(), "a", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		before := runtime.NumGoroutine()
		ctx, cancel := context.WithCancel(t.Context())
		var gaveUp, others sync.WaitGroup
		for i := range 20 {
			if i%2 == 0 {
				gaveUp.Go(func() {
					if _, _, err := turns.Take(ctx, "a", time.Hour); !errors.Is(err, context.Canceled) {
						t.Errorf("got %v, want Canceled", err)
					}
				})
			} else {
				others.Go(func() {
					turn, left, err := turns.Take(t.Context(), "a", time.Hour)
					if err != nil || left != i/2+1 {
						t.Errorf("turn %d: got %d, %v, want %d", i, left, err, i/2+1)
					}
					turn.End(left + 1)
				})
			}
			synctest.Wait()
		}
		cancel()
		gaveUp.Wait()
		synctest.Wait()
		if got := runtime.NumGoroutine(); got != before+10 {
			t.Errorf("got %d goroutines besides the 10 that wait, want %d", got-10, before)
		}
		if _, _, err := turns.Take(ctx, "b", time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("Take of a turn that nobody has, with a context that has ended: got %v, want Canceled", err)
		}
		first.End(1)
		others.Wait()
		if len(turns.queues) != 0 {
			t.Errorf("got %d queues at the end, want none", len(turns.queues))
		}
	})
}
