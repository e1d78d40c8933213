package sessions

import (
	"context"
	"sync/atomic"
)

// A gate is a lock that may be held over the application's code and over
// a store: whoever waits for it waits on a channel. Hardly any request has
// anybody wait, so that it costs no more than two atomic operations.
type gate struct{ holder atomic.Pointer[holder] } // nil: free

// A holder is what stands in a gate that is not free.
type holder struct{ left chan struct{} } // closed when the gate is left

// alone is a holder for whom nobody waits.
var alone = new(holder)

func (g *gate) enter() { _ = g.enterBefore(context.Background()) }

// enterBefore gives up when ctx ends.
func (g *gate) enterBefore(ctx context.Context) error {
	for !g.holder.CompareAndSwap(nil, alone) {
		h := g.holder.Load()
		if h == alone {
			h = &holder{left: make(chan struct{})}
			if !g.holder.CompareAndSwap(alone, h) {
				continue
			}
		}
		if h == nil {
			continue
		}
		select {
		case <-h.left:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (g *gate) leave() {
	if h := g.holder.Swap(nil); h != alone {
		close(h.left)
	}
}
