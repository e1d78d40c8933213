package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/typedsessions/sessions"
)

// A command is a call of an operation on one id. A call of Labelled is one on each
// id.
type command struct {
	op    string
	id    int
	given sessions.Record // the record for Create and Update; Expires for Touch; Version for Delete
	label string          // for Labelled
}

// An answer is the result of a call.
type answer struct {
	got     sessions.Record // the record from Load; the Version from Create and Update
	err     error
	unknown bool // the call may have been carried out, or may be carried out later
	listed  bool // Labelled has yielded the id
}

// A slot is the state of a store for one id.
type slot struct {
	present bool
	version uint64 // 0: the unknown version of a write with an unknown outcome
	data    string // different for every write
	expires int64
	owner   string
	labels  string // as labelSet returns them
}

func slotOf(rec sessions.Record) slot {
	return slot{present: true, version: rec.Version, data: string(rec.Data), expires: rec.Expires.UnixMilli(), owner: rec.Owner, labels: labelSet(rec.Labels)}
}

// follows reports whether the answer to the call is correct in state s, and returns
// the state after the call.
//
// A call with an unknown outcome has no end in the history, so it can always be
// ordered last, where it has no effect. This covers the case that it was never
// carried out.
func (s slot) follows(c command, a answer) (bool, slot) {
	written := slotOf(c.given)
	written.version = a.got.Version
	// No client can have passed a version that no client has seen.
	same := s.present && s.version != 0 && s.version == c.given.Version
	var want error
	next := s
	switch c.op {
	case "Load":
		if !s.present {
			want = sessions.ErrNotFound
			break
		}
		next = slotOf(a.got)
		if s.version == 0 {
			s.version = next.version // the unknown version is known now
		}
		return a.err == nil && next == s, next
	case "Labelled":
		// An id that is gone may be listed.
		has := strings.Contains(s.labels, strconv.Quote(c.label))
		return a.err == nil && (!s.present || a.listed == has), s
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
			id := o.Input.(command).id
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
		return state.(slot).follows(input.(command), output.(answer))
	},
	DescribeOperation: func(input, output any) string {
		c, a := input.(command), output.(answer)
		if c.op == "Labelled" {
			return fmt.Sprintf("Labelled(%q) = %t, %v", c.label, a.listed, a.err)
		}
		return fmt.Sprintf("%s(%s, version %d, owner %q, labels %q) = version %d, %q, %q, %v",
			c.op, c.given.Data, c.given.Version, c.given.Owner, c.given.Labels, a.got.Version, a.got.Data, a.got.Labels, a.err)
	},
}

// A load describes how clients use a store while a history is recorded.
type load struct {
	clients, ids, calls int           // calls per client
	timeout             time.Duration // per call
	cut                 bool          // connections are cut, so that calls may fail
}

// A history is a record of the calls of all clients and their answers.
type history struct {
	calls    []porcupine.Operation
	known    int // number of calls with a known outcome
	unknown  int
	overtime time.Duration // the longest time that a call took beyond its timeout
}

// record calls random operations of a store in several clients and returns their
// history. The ids, numbered from base, must not have been used before.
func (l load) record(s *subject, base int) *history {
	s.Helper()
	h := new(history)
	var mu sync.Mutex
	var clock atomic.Int64
	end := time.Now().Add(time.Hour).Truncate(time.Minute)
	labels := is[sessions.LabelStore](s.bare)
	label := fmt.Sprintf("red %d", base)
	s.parallel(l.clients, func(client int) {
		random := rand.New(rand.NewPCG(rand.Uint64(), uint64(client)))
		seen := make([][2]uint64, l.ids) // the last two versions of each id that this client saw
		for n := range l.calls {
			c := command{op: randomOperation(random), id: base + random.IntN(l.ids), label: label}
			seen := &seen[c.id-base]
			c.given = sessions.Record{
				Data:    fmt.Appendf(nil, "%d of %d", n, client),
				Expires: end.Add(time.Duration(random.IntN(5)) * time.Minute),
				Owner:   []string{"", "ada", "bob"}[random.IntN(3)],
			}
			if c.op == "Update" || c.op == "Delete" && random.IntN(3) > 0 {
				c.given.Version = seen[min(1, random.IntN(4))]
			}
			if labels {
				c.given.Labels = [][]string{nil, {label}, {"blue"}, {label, "blue"}}[random.IntN(4)]
				if random.IntN(8) == 0 {
					c.op = "Labelled"
				}
			}
			runtime.Gosched() // without it, the clients of a fast store run one after the other
			ctx, cancel := context.WithTimeout(s.ctx, l.timeout)
			// The guard's own time is not part of the call.
			type timed struct {
				answer
				ids          map[sessions.ID]bool // of Labelled
				began, ended int64
				took         time.Duration
			}
			a, err := call(ctx, s.tester, c.op, func(ctx context.Context) (a timed, err error) {
				a.began = clock.Add(1)
				start := time.Now()
				a.answer, a.ids = c.run(ctx, s.bare)
				a.took = time.Since(start)
				a.ended = clock.Add(1)
				return a, a.err
			})
			cancel()
			switch {
			case errors.Is(err, errOver):
				s.exit()
			case !a.unknown:
			case l.cut:
				a.ended = math.MaxInt64
			default:
				s.Fatalf("%s: got error %v, want nil, ErrNotFound, ErrExists or ErrConflict", c.op, a.err)
			}
			if v := a.got.Version; a.err == nil && v != 0 && v != seen[1] {
				*seen = [2]uint64{seen[1], v}
			}
			mu.Lock()
			h.overtime = max(h.overtime, a.took-l.timeout)
			if a.unknown {
				h.unknown++
			} else {
				h.known++
			}
			if c.op == "Labelled" && !a.unknown {
				for c.id = base; c.id < base+l.ids; c.id++ {
					a.listed = a.ids[idOf(c.id)]
					h.calls = append(h.calls, porcupine.Operation{ClientId: client, Input: c, Call: a.began, Output: a.answer, Return: a.ended})
				}
			} else if !a.unknown || c.op != "Load" && c.op != "Labelled" {
				h.calls = append(h.calls, porcupine.Operation{ClientId: client, Input: c, Call: a.began, Output: a.answer, Return: a.ended})
			}
			mu.Unlock()
		}
	})
	return h
}

func randomOperation(random *rand.Rand) string {
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

func (c command) run(ctx context.Context, store sessions.Store) (a answer, ids map[sessions.ID]bool) {
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
	case "Labelled":
		ids = map[sessions.ID]bool{}
		for id, err := range store.(sessions.LabelStore).Labelled(ctx, c.label) {
			if a.err = err; err != nil {
				break
			}
			ids[id] = true
		}
	}
	a.unknown = unexpected(a.err)
	return a, ids
}

// checkTimeout bounds the check of one history.
const checkTimeout = 30 * time.Second

// check fails the test if the history is not linearizable, or if a version was used
// twice for an id.
func (h *history) check(t testing.TB) {
	t.Helper()
	type key struct {
		id      int
		version uint64
	}
	written := map[key]bool{}
	for _, o := range h.calls {
		c, a := o.Input.(command), o.Output.(answer)
		if a.err != nil || c.op != "Create" && c.op != "Update" {
			continue
		}
		if a.got.Version == 0 || written[key{c.id, a.got.Version}] {
			t.Errorf("%s: got version %d, which is 0 or was used before", c.op, a.got.Version)
		}
		written[key{c.id, a.got.Version}] = true
	}
	if t.Failed() {
		return // what else is wrong may take long to find
	}
	result, info := porcupine.CheckOperationsVerbose(model, h.calls, checkTimeout)
	switch result {
	case porcupine.Ok:
	case porcupine.Unknown:
		t.Errorf("could not check a history of %d calls, %d of them with an unknown outcome, within %v", len(h.calls), h.unknown, checkTimeout)
	default:
		t.Errorf("a history of %d calls is not linearizable: no order of the calls gives these answers; %s", len(h.calls), picture(info))
	}
}

// checkHistories records random histories and checks that they are linearizable.
func checkHistories(s *subject) {
	l := load{clients: 8, ids: 3, calls: 40, timeout: opTimeout}
	const rounds = 16 // 320 calls each
	calls := 0
	for round := range rounds {
		h := l.record(s, round*l.ids)
		h.check(s.tester)
		calls += len(h.calls)
		if s.Failed() {
			return
		}
	}
	s.Logf("%d calls of %d clients in %d histories, all linearizable", calls, l.clients, rounds)
}
