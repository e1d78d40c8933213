package shop

import (
	"fmt"
	"sync"
	"testing"

	"github.com/typedsessions/sessions"
)

func TestDebugPageKeepsTheLastEvents(t *testing.T) {
	t.Parallel()
	var l eventLog
	if got := l.last(); len(got) != 0 {
		t.Errorf("got %d events of an empty log", len(got))
	}
	var all sync.WaitGroup
	for range maxEvents {
		all.Go(func() { l.note(t.Context(), sessions.Event{ID: "early"}) })
	}
	all.Wait()
	for i := range maxEvents - 1 {
		l.note(t.Context(), sessions.Event{ID: fmt.Sprint(i)})
	}
	got := l.last()
	if len(got) != maxEvents {
		t.Fatalf("got %d events, want %d", len(got), maxEvents)
	}
	if first, last := got[0].ID, got[maxEvents-1].ID; first != fmt.Sprint(maxEvents-2) || last != "early" {
		t.Errorf("got events from %q back to %q", first, last)
	}
}
