package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/typedsessions/sessions"
)

// A call is one operation on one id as its caller saw it.
type call struct {
	op    string
	id    int
	given sessions.Record // Create's and Update's, Touch's Expires; Delete's and Update's Version
}

// An answer is what the caller got.
type answer struct {
	got     sessions.Record // Load's; the Version of Create and Update
	err     error
	unknown bool // the call may have been carried out, or may be later
}

// A slot is what a store has under one id.
type slot struct {
	present bool
	version uint64 // 0: written by a call of unknown outcome, and not seen since
	data    string // another one for every write
	expires int64
	owner   string
}

// follows returns the slot after the call, and whether the answer is right for
// the slot before it.
//
// A call of unknown outcome has no end in the history, so that there is always
// an order in which it comes last and does no harm: that it was never carried
// out needs no branch of its own.
func (s slot) follows(c call, a answer) (bool, slot) {
	written := slot{present: true, version: a.got.Version, data: string(c.given.Data), expires: c.given.Expires.UnixMilli(), owner: c.given.Owner}
	// Nobody can have named a version that nobody has seen.
	same := s.present && s.version != 0 && s.version == c.given.Version
	var want error
	next := s
	switch c.op {
	case "Load":
		if !s.present {
			want = sessions.ErrNotFound
			break
		}
		next = slot{present: true, version: a.got.Version, data: string(a.got.Data), expires: a.got.Expires.UnixMilli(), owner: a.got.Owner}
		if s.version == 0 {
			s.version = next.version // seen now
		}
		return a.err == nil && next == s, next
	case "Create":
		if want = sessions.ErrExists; !s.present {
			want, next = nil, written
		}
	case "Update":
		switch {
		case !s.present:
			want = sessions.ErrNotFound
		case !same:
			want = sessions.ErrConflict
		default:
			next = written
		}
	case "Touch":
		if !s.present {
			want = sessions.ErrNotFound
			break
		}
		next.expires = max(s.expires, c.given.Expires.UnixMilli())
	case "Delete":
		switch {
		case c.given.Version == 0, same:
			next = slot{}
		case !s.present:
			want = sessions.ErrNotFound
		default:
			want = sessions.ErrConflict
		}
	}
	if a.unknown {
		return true, next
	}
	if want == nil {
		return a.err == nil, next
	}
	return errors.Is(a.err, want), next
}

var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byID := map[int][]porcupine.Operation{}
		for _, o := range history {
			id := o.Input.(call).id
			byID[id] = append(byID[id], o)
		}
		var parts [][]porcupine.Operation
		for _, part := range byID {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return slot{} },
	Step: func(state, input, output any) (bool, any) {
		return state.(slot).follows(input.(call), output.(answer))
	},
	DescribeOperation: func(input, output any) string {
		c, a := input.(call), output.(answer)
		return fmt.Sprintf("%s(%s, version %d, owner %q) = version %d, %q, %v", c.op, c.given.Data, c.given.Version, c.given.Owner, a.got.Version, a.got.Data, a.err)
	},
}

// A load says how clients use a store while a history is taken.
type load struct {
	clients, ids, calls int           // calls of each client
	timeout             time.Duration // of each call
	cut                 bool          // calls may fail
}

// A history is what clients did and got.
type history struct {
	calls    []porcupine.Operation
	known    int // calls whose outcome is known
	unknown  int
	overtime time.Duration // by how much a call outlasted its timeout, at most
}

// take lets clients call a fresh store's operations at random. base numbers the
// ids, which nobody has used.
func (l load) take(t testing.TB, store sessions.Store, base int) *history {
	t.Helper()
	h := new(history)
	var mu sync.Mutex
	var clock atomic.Int64
	end := time.Now().Add(time.Hour).Truncate(time.Minute)
	parallel(l.clients, func(client int) {
		random := rand.New(rand.NewPCG(rand.Uint64(), uint64(client)))
		seen := make([][2]uint64, l.ids) // the versions of each that this client saw last
		for n := range l.calls {
			c := call{op: operationAt(random), id: base + random.IntN(l.ids)}
			seen := &seen[c.id-base]
			c.given = sessions.Record{
				Data:    fmt.Appendf(nil, "%d of %d", n, client),
				Expires: end.Add(time.Duration(random.IntN(5)) * time.Minute),
				Owner:   []string{"", "ada", "bob"}[random.IntN(3)],
			}
			if c.op == "Update" || c.op == "Delete" && random.IntN(3) > 0 {
				c.given.Version = seen[min(1, random.IntN(4))]
			}
			runtime.Gosched() // or a fast store sees one client after the other
			ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
			began := clock.Add(1)
			start := time.Now()
			a := c.run(ctx, store)
			took := time.Since(start)
			ended := clock.Add(1)
			cancel()
			if a.unknown {
				ended = math.MaxInt64
			}
			if v := a.got.Version; a.err == nil && v != 0 && v != seen[1] {
				*seen = [2]uint64{seen[1], v}
			}
			mu.Lock()
			h.overtime = max(h.overtime, took-l.timeout)
			if a.unknown {
				h.unknown++
				if !l.cut {
					t.Errorf("%s: got %v, want nil or one of the contract's errors", c.op, a.err)
				}
			} else {
				h.known++
			}
			if !a.unknown || c.op != "Load" {
				h.calls = append(h.calls, porcupine.Operation{ClientId: client, Input: c, Call: began, Output: a, Return: ended})
			}
			mu.Unlock()
		}
	})
	return h
}

func operationAt(random *rand.Rand) string {
	switch n := random.IntN(16); {
	case n < 5:
		return "Load"
	case n < 8:
		return "Create"
	case n < 13:
		return "Update"
	case n < 14:
		return "Touch"
	}
	return "Delete"
}

func (c call) run(ctx context.Context, store sessions.Store) (a answer) {
	id := idOf(c.id)
	switch c.op {
	case "Load":
		a.got, a.err = store.Load(ctx, id)
	case "Create":
		a.got.Version, a.err = store.Create(ctx, id, c.given)
	case "Update":
		a.got.Version, a.err = store.Update(ctx, id, c.given)
	case "Touch":
		a.err = store.Touch(ctx, id, c.given.Expires)
	case "Delete":
		a.err = store.Delete(ctx, id, c.given.Version)
	}
	a.unknown = a.err != nil && !errors.Is(a.err, sessions.ErrNotFound) && !errors.Is(a.err, sessions.ErrExists) && !errors.Is(a.err, sessions.ErrConflict)
	return a
}

// checkTimeout bounds the search for an order of one history.
const checkTimeout = 30 * time.Second

// explain fails the test if no order of the calls explains their answers, or if
// a version came back.
func (h *history) explain(t testing.TB) {
	t.Helper()
	type place struct {
		id      int
		version uint64
	}
	written := map[place]bool{}
	for _, o := range h.calls {
		c, a := o.Input.(call), o.Output.(answer)
		if a.err != nil || c.op != "Create" && c.op != "Update" {
			continue
		}
		if a.got.Version == 0 || written[place{c.id, a.got.Version}] {
			t.Errorf("%s: version %d of an id was given twice, or is 0", c.op, a.got.Version)
		}
		written[place{c.id, a.got.Version}] = true
	}
	result, info := porcupine.CheckOperationsVerbose(model, h.calls, checkTimeout)
	switch result {
	case porcupine.Ok:
	case porcupine.Unknown:
		t.Errorf("no order of %d calls, %d of them of unknown outcome, was found within %v", len(h.calls), h.unknown, checkTimeout)
	default:
		t.Errorf("no order of %d calls, one at a time, explains their answers; %s", len(h.calls), picture(info))
	}
}

// checkHistories takes random histories and has them explained.
func checkHistories(s *subject) {
	l := load{clients: 8, ids: 3, calls: 40, timeout: opTimeout}
	const rounds = 16 // of 320 calls
	calls := 0
	for round := range rounds {
		h := l.take(s.T, s.Store, round*l.ids)
		h.explain(s.T)
		calls += len(h.calls)
		if s.Failed() {
			return
		}
	}
	s.Logf("%d calls of %d clients in %d histories, all explained", calls, l.clients, rounds)
}
