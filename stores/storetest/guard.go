package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"time"

	"github.com/typedsessions/sessions"
)

// A guard is a Store that calls the operations of the store under test. An operation
// that panics or hangs is a failure of the test. After the test, the guard calls no
// operation.
type guard struct {
	t       *tester
	store   sessions.Store
	inApp   bool // a Manager calls the operations
	mayFail bool
}

// guarded returns a guard for the store. The guard implements the same interfaces
// of the package sessions as the store.
func guarded(t *tester, store sessions.Store) sessions.Store {
	return (&guard{t: t, store: store}).complete()
}

// guardedInApp returns the guard for a Manager. Its errors name the operation, since
// those of a Manager name what the Manager was doing. Unless the operations may fail,
// an error that the contract does not define is a failure of the test, even if the
// request succeeds.
//
// A MemoryStore needs no guard, and a Manager treats it in a way of its own, which
// should be tested.
func guardedInApp(t *tester, store sessions.Store, mayFail bool) sessions.Store {
	if _, ok := store.(*sessions.MemoryStore); ok {
		return store
	}
	return (&guard{t: t, store: store, inApp: true, mayFail: mayFail}).complete()
}

// complete adds the methods of the other interfaces that the store implements.
func (g *guard) complete() sessions.Store {
	owners, isOwner := g.store.(sessions.OwnerStore)
	labels, isLabel := g.store.(sessions.LabelStore)
	watcher, isWatcher := g.store.(sessions.Watcher)
	owned, watched := &ownerGuard{g, owners}, &changesGuard{g, watcher}
	switch labelled := (&labelGuard{owned, labels}); {
	case isLabel && isWatcher:
		return struct {
			*labelGuard
			*changesGuard
		}{labelled, watched}
	case isLabel:
		return labelled
	case isOwner && isWatcher:
		return struct {
			*ownerGuard
			*changesGuard
		}{owned, watched}
	case isOwner:
		return owned
	case isWatcher:
		return struct {
			*guard
			*changesGuard
		}{g, watched}
	}
	return g
}

func (g *guard) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	g.t.Helper()
	return operate(ctx, g, "Load", func(ctx context.Context) (sessions.Record, error) { return g.store.Load(ctx, id) })
}

// LoadNewest is what a Manager calls instead of Load where a record must not come
// from a cache of the store. It is Load for a store without this method.
func (g *guard) LoadNewest(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	g.t.Helper()
	newest, ok := g.store.(interface {
		LoadNewest(ctx context.Context, id sessions.ID) (sessions.Record, error)
	})
	if !ok {
		return g.Load(ctx, id)
	}
	return operate(ctx, g, "LoadNewest", func(ctx context.Context) (sessions.Record, error) { return newest.LoadNewest(ctx, id) })
}

func (g *guard) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	g.t.Helper()
	return operate(ctx, g, "Create", func(ctx context.Context) (uint64, error) { return g.store.Create(ctx, id, rec) })
}

func (g *guard) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	g.t.Helper()
	return operate(ctx, g, "Update", func(ctx context.Context) (uint64, error) { return g.store.Update(ctx, id, rec) })
}

func (g *guard) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	g.t.Helper()
	_, err := operate(ctx, g, "Touch", func(ctx context.Context) (struct{}, error) { return struct{}{}, g.store.Touch(ctx, id, expires) })
	return err
}

func (g *guard) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	g.t.Helper()
	_, err := operate(ctx, g, "Delete", func(ctx context.Context) (struct{}, error) { return struct{}{}, g.store.Delete(ctx, id, version) })
	return err
}

// operate calls an operation with a single answer.
func operate[R any](ctx context.Context, g *guard, op string, f func(ctx context.Context) (R, error)) (R, error) {
	g.t.Helper()
	got, err := call(ctx, g.t, op, f)
	return got, g.toApp(ctx, op, err)
}

// toApp returns the error of an operation for its caller.
func (g *guard) toApp(ctx context.Context, op string, err error) error {
	g.t.Helper()
	if !g.inApp || !unexpected(err) || errors.Is(err, errOver) {
		return err
	}
	if !g.mayFail && ctx.Err() == nil {
		g.t.Errorf("%s, called by a Manager: got error %v", op, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}

// An ownerGuard is a guard for an OwnerStore.
type ownerGuard struct {
	*guard
	owners sessions.OwnerStore
}

func (g *ownerGuard) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	return sequence(ctx, g.guard, "Owned", func(ctx context.Context) iter.Seq2[sessions.ID, error] { return g.owners.Owned(ctx, owner) })
}

// A labelGuard is a guard for a LabelStore.
type labelGuard struct {
	*ownerGuard
	labels sessions.LabelStore
}

func (g *labelGuard) Labelled(ctx context.Context, label string) iter.Seq2[sessions.ID, error] {
	return sequence(ctx, g.guard, "Labelled", func(ctx context.Context) iter.Seq2[sessions.ID, error] { return g.labels.Labelled(ctx, label) })
}

// A changesGuard is a guard for the method of a Watcher. It is not embedded
// together with the methods of a Store, which would be ambiguous.
type changesGuard struct {
	g       *guard
	watcher sessions.Watcher
}

// Changes has no bound of time, since it waits for changes. It ends with the test.
func (c *changesGuard) Changes(ctx context.Context) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		t := c.g.t
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(t.ctx, cancel)()
		if t.over() {
			return
		}
		left, yielding := false, false
		wrong := protect(t, "Changes", func() bool { return yielding }, func() {
			c.watcher.Changes(ctx)(func(id sessions.ID, err error) bool {
				if left {
					panic("a pair after the loop ended: the sequence ignores that yield returned false")
				}
				yielding = true
				left = !yield(id, err)
				yielding = false
				return !left
			})
		})
		if wrong != "" {
			t.lose("Changes: %s", wrong)
		}
	}
}

// protect calls f and returns what is wrong if it panics, otherwise "". If own
// reports true, the panic is one of this package and continues.
func protect(t *tester, op string, own func() bool, f func()) (wrong string) {
	returned := false
	defer func() {
		if returned || own() {
			return
		}
		if p := recover(); p != nil {
			wrong = fmt.Sprintf("panic: %v\n%s", p, ofStore(debug.Stack()))
		} else {
			t.lose("%s: it ended its goroutine, as runtime.Goexit and t.Fatal do, instead of returning", op)
		}
	}()
	f()
	returned = true
	return ""
}

// call calls an operation of the store. If the operation panics or hangs, the test
// is lost and the error is errOver.
func call[R any](ctx context.Context, t *tester, op string, f func(ctx context.Context) (R, error)) (got R, err error) {
	t.Helper()
	var none R
	if t.over() {
		return none, errOver
	}
	w, began := t.patience.wait(op), time.Now()
	ctx, cancel := context.WithDeadline(ctx, began.Add(w.Duration))
	defer cancel()
	a := watchCall(t, w, began, cancel)
	wrong := protect(t, op, func() bool { return false }, func() { got, err = f(ctx) })
	if late := a.end(err); wrong == "" {
		wrong = late
	}
	if wrong != "" {
		t.lose("%s: %s", op, wrong)
	}
	if t.over() {
		return none, errOver
	}
	return got, err
}

// unexpected reports whether err is not one that the contract defines for an
// operation.
func unexpected(err error) bool {
	return err != nil && !errors.Is(err, sessions.ErrNotFound) && !errors.Is(err, sessions.ErrExists) && !errors.Is(err, sessions.ErrConflict)
}

// sequence calls an operation that returns a sequence. If the operation or an
// iteration panics, hangs or does not end, the test is lost and the last pair has
// the error errOver.
func sequence(ctx context.Context, g *guard, op string, f func(ctx context.Context) iter.Seq2[sessions.ID, error]) iter.Seq2[sessions.ID, error] {
	g.t.Helper()
	parent := ctx
	ctx, cancel := context.WithCancel(ctx) // until the end of the test, since the sequence may be used again
	context.AfterFunc(g.t.ctx, cancel)
	pairs, err := call(ctx, g.t, op, func(context.Context) (iter.Seq2[sessions.ID, error], error) { return f(ctx), nil })
	return func(yield func(sessions.ID, error) bool) {
		g.t.Helper()
		going := true
		each := func(id sessions.ID, err error) bool {
			going = yield(id, g.toApp(parent, op, err))
			return going
		}
		if err == nil {
			iterate(g.t, op, cancel, pairs, each)
		}
		if going && g.t.over() {
			yield(sessions.ID{}, errOver)
		}
	}
}

// mostPairs is more than any sequence in this package has.
const mostPairs = 100_000

// iterate yields the pairs of a sequence. If the sequence panics, hangs or does not
// end, the test is lost.
func iterate(t *tester, op string, cancel func(), pairs iter.Seq2[sessions.ID, error], yield func(sessions.ID, error) bool) {
	t.Helper()
	if t.over() {
		return
	}
	a := watchCall(t, t.patience.wait(op), time.Now(), cancel)
	n, left, yielding := 0, false, false
	wrong := protect(t, op, func() bool { return yielding }, func() {
		pairs(func(id sessions.ID, err error) bool {
			if left {
				panic("a pair after the loop ended: the sequence ignores that yield returned false")
			}
			late := a.end(err)
			if n++; n > mostPairs {
				late = fmt.Sprintf("got more than %d pairs; does the sequence end?", mostPairs)
			}
			if late != "" {
				t.lose("%s: %s", op, late)
			}
			if left = t.over(); !left {
				yielding = true
				left = !yield(id, err)
				yielding = false
			}
			a.begin()
			return !left
		})
	})
	if late := a.end(nil); wrong == "" {
		wrong = late
	}
	if wrong != "" {
		t.lose("%s: %s", op, wrong)
	}
}
