// Package wait has what a request waits for: a lock that can be held for long,
// its turn among others, and the time limit of a store's operations.
package wait

import (
	"context"
	"sync/atomic"
)

// A Lock is a mutex that may be held while the application's code or a store
// runs, since a waiter can give up. Its zero value is unlocked. Hardly any
// request has a waiter, so an uncontended lock costs two atomic operations.
type Lock struct{ holder atomic.Pointer[holder] } // nil: unlocked

// A holder stands in a lock that is held.
type holder struct{ released chan struct{} } // closed when the lock is released

// uncontended is a holder that nobody waits for.
var uncontended = new(holder)

// Lock locks l. It waits as long as it takes.
func (l *Lock) Lock() { _ = l.LockBefore(context.Background()) }

// LockBefore locks l, or returns the error of ctx if that ends first.
func (l *Lock) LockBefore(ctx context.Context) error {
	for !l.holder.CompareAndSwap(nil, uncontended) {
		h := l.holder.Load()
		if h == uncontended {
			h = &holder{released: make(chan struct{})}
			if !l.holder.CompareAndSwap(uncontended, h) {
				continue
			}
		}
		if h == nil {
			continue
		}
		select {
		case <-h.released:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Unlock unlocks l and wakes its waiters.
func (l *Lock) Unlock() {
	if h := l.holder.Swap(nil); h != uncontended {
		close(h.released)
	}
}
