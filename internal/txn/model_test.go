package txn

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/cookie"
	"github.com/typedsessions/sessions/internal/keys"
	"github.com/typedsessions/sessions/internal/phase"
	"github.com/typedsessions/sessions/internal/wire"
)

func flash(messages ...string) (flashes []wire.Flash) {
	for _, m := range messages {
		flashes = append(flashes, wire.Flash{Kind: "info", Message: m})
	}
	return flashes
}

// A shop is the data of the model's sessions.
type shop struct {
	A, B int
	N    int // changed by Update only
	Cart map[string]int
}

type shopSession struct{ data shop }

// A modelStore is a Store that lets other requests run, or fails, before and
// after each operation.
type modelStore struct {
	records map[ID]Record
	version uint64
	between func()             // before each operation
	fail    func() (int, bool) // 0: before the operation, 1: after it
}

var errStore = errors.New("the connection is cut")

func (s *modelStore) run(f func() error) error {
	s.between()
	when, failed := s.fail()
	if failed && when == 0 {
		return errStore
	}
	err := f()
	if failed {
		return errStore
	}
	return err
}

func (s *modelStore) Load(_ context.Context, id ID) (rec Record, err error) {
	s.between()
	rec, ok := s.records[id]
	if !ok {
		err = ErrNotFound
	}
	return rec, err
}

func (s *modelStore) Newest(ctx context.Context, id ID) (Record, error) { return s.Load(ctx, id) }

func (s *modelStore) put(id ID, rec Record) uint64 {
	s.version++
	rec.Version = s.version
	s.records[id] = rec
	return rec.Version
}

func (s *modelStore) Create(_ context.Context, id ID, rec Record) (v uint64, err error) {
	err = s.run(func() error { v = s.put(id, rec); return nil })
	return v, err
}

func (s *modelStore) check(id ID, version uint64) error {
	switch rec, ok := s.records[id]; {
	case !ok:
		return ErrNotFound
	case rec.Version != version:
		return ErrConflict
	}
	return nil
}

func (s *modelStore) Update(_ context.Context, id ID, rec Record) (v uint64, err error) {
	err = s.run(func() error {
		if err := s.check(id, rec.Version); err != nil {
			return err
		}
		v = s.put(id, rec)
		return nil
	})
	return v, err
}

func (s *modelStore) Touch(_ context.Context, id ID, _ time.Time) error {
	_, err := s.Load(context.Background(), id)
	return err
}

func (s *modelStore) Delete(_ context.Context, id ID, version uint64) error {
	return s.run(func() error {
		if version != 0 {
			if err := s.check(id, version); err != nil {
				return err
			}
		}
		delete(s.records, id)
		return nil
	})
}

func modelEngine(t *testing.T, store Store) *Engine {
	t.Helper()
	c, err := codec.Analyze(reflect.TypeFor[shop](), codec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keys.NewRing([][]byte{[]byte("0123456789abcdefghijklmnopqrstuv")})
	if err != nil {
		t.Fatal(err)
	}
	spec, err := cookie.Attributes{}.Spec(wire.EncodedSize(wire.IDSize))
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{
		Codec: c, Store: store, NeverWait: true, Ring: new(atomic.Pointer[keys.Ring]), Cookie: spec, Lifetime: 24 * time.Hour,
		Data: func(s any) any { return &s.(*shopSession).data }, Hears: func(Event) bool { return true },
		None: &Base{Hash: c.ZeroHash()},
	}
	e.Watches = e.NewWatches(nil, nil)
	e.Ring.Store(ring)
	return e
}

// A modelRequest is one request, and what it did as the model knows it.
type modelRequest struct {
	context.Context
	name    string
	shared  Shared
	txn     Txn
	session shopSession
	script  []func()

	part   effect   // since its last Save
	parts  []effect // in their order
	cookie string
}

func (r *modelRequest) Emit(Event) {}

// An effect is what one atomic step does to the session.
type effect struct {
	by       *modelRequest
	set      map[string]int // fields and keys of the cart, by name
	updates  int
	added    []string
	consumed []string
	move     bool
	end      Verb // 0, Destroy, Reset
	err      error
	maybe    bool // the outcome is unknown
}

// A modelState is what is stored: sessions by the name of who began or moved
// them.
type modelState map[string]stored

type stored struct {
	data    shop
	flashes []string
}

func (r *modelRequest) begin(e *Engine, value string) error {
	found, err := e.Find(r, []string{value})
	if err != nil {
		return err
	}
	r.shared.HadCookie, r.shared.Found = true, found
	r.txn.Open(e, r, &r.shared, &r.session, nil, nil)
	r.part = effect{by: r, set: map[string]int{}}
	return nil
}

// act does one random thing.
func (r *modelRequest) act(rnd *rand.Rand, unique int) {
	if r.part.end == Destroy {
		return
	}
	d := &r.session.data
	switch rnd.IntN(10) {
	case 0, 1:
		d.A, r.part.set["A"] = unique, unique
	case 2:
		d.B, r.part.set["B"] = unique, unique
	case 3:
		if d.Cart == nil {
			d.Cart = map[string]int{}
		}
		key := string(rune('a' + rnd.IntN(2)))
		d.Cart[key], r.part.set["cart."+key] = unique, unique
	case 4, 5:
		r.txn.Update(func(data any) { data.(*shop).N++ })
		r.part.updates++
	case 6:
		m := fmt.Sprint("message ", unique)
		r.txn.Flash(wire.Flash{Kind: "info", Message: m})
		r.part.added = append(r.part.added, m)
	case 7:
		for _, f := range r.txn.Flashes(nil) {
			r.part.consumed = append(r.part.consumed, f.Message)
		}
	case 8:
		r.txn.Regenerate(rnd.IntN(2) == 0)
		r.part.move = true
	case 9:
		if rnd.IntN(3) > 0 {
			return
		}
		verb := Destroy + Verb(rnd.IntN(2))
		r.txn.Destroy(verb == Reset)
		r.part = effect{by: r, set: map[string]int{}, end: verb}
	}
}

func (r *modelRequest) save() {
	err := r.txn.Save(r)
	r.done(err)
}

func (r *modelRequest) commit() {
	r.shared.Phase.Set(phase.Sent)
	out, err := r.txn.Commit(Whole)
	r.cookie = out.Cookie
	r.done(err)
}

func (r *modelRequest) done(err error) {
	r.part.err = err
	r.part.maybe = err != nil && errors.Is(err, errStore)
	r.parts = append(r.parts, r.part)
	r.part = effect{by: r, set: map[string]int{}}
}

// apply makes of a state what one atomic step makes of it. at tells under which
// name a request's session is stored now.
func (e effect) apply(s modelState, at map[*modelRequest]string) {
	name := at[e.by]
	now, live := s[name]
	fresh := name == "fresh"
	if e.end != 0 {
		delete(s, name)
		at[e.by] = "gone"
		if e.end == Destroy {
			return
		}
		fresh = true
	}
	if fresh {
		now, live, name = stored{}, true, e.by.name
	}
	if !live {
		at[e.by] = "gone"
		return
	}
	changed := len(e.set) > 0 || e.updates > 0 || len(e.added)+len(e.consumed) > 0
	if fresh && !changed {
		at[e.by] = "fresh"
		return
	}
	now.data.Cart = maps.Clone(now.data.Cart)
	for k, v := range e.set {
		switch key, inCart := strings.CutPrefix(k, "cart."); {
		case inCart:
			if now.data.Cart == nil {
				now.data.Cart = map[string]int{}
			}
			now.data.Cart[key] = v
		case k == "A":
			now.data.A = v
		default:
			now.data.B = v
		}
	}
	now.data.N += e.updates
	now.flashes = slices.DeleteFunc(slices.Clone(now.flashes), func(m string) bool { return slices.Contains(e.consumed, m) })
	now.flashes = append(now.flashes, e.added...)
	if e.move && !fresh {
		delete(s, name)
		name = e.by.name
	}
	s[name], at[e.by] = now, name
}

func (s modelState) String() string {
	var lines []string
	for name, st := range s {
		slices.Sort(st.flashes)
		lines = append(lines, fmt.Sprintf("%s: %+v %q", name, st.data, st.flashes))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// outcomes yields every state that some order of the requests' steps, each as
// one atomic step, leads to. A step whose outcome is unknown may have happened,
// or not, or have ended a session that it was to move.
func outcomes(rest [][]effect, s modelState, at map[*modelRequest]string, yield func(modelState)) {
	done := true
	for i, steps := range rest {
		if len(steps) == 0 {
			continue
		}
		done = false
		next := slices.Clone(rest)
		next[i] = steps[1:]
		e := steps[0]
		happened := e.err == nil || e.maybe
		if happened {
			s2, at2 := maps.Clone(s), maps.Clone(at)
			e.apply(s2, at2)
			outcomes(next, s2, at2, yield)
		}
		if e.err != nil {
			outcomes(next, maps.Clone(s), maps.Clone(at), yield)
		}
		if e.maybe && (e.move || e.end != 0) {
			s2, at2 := maps.Clone(s), maps.Clone(at)
			delete(s2, at2[e.by])
			at2[e.by] = "gone"
			outcomes(next, s2, at2, yield)
		}
	}
	if done {
		yield(s)
	}
}

// TestRequestsAreAtomic runs random requests of one session, whose commits begin
// inside of each other's operations of the store, and compares what is stored
// with every order of the requests as single atomic steps.
func TestRequestsAreAtomic(t *testing.T) {
	const scenarios = 4000
	met := map[string]int{}
	for seed := range uint64(scenarios) {
		var failure string
		// With GODEBUG=fips140=only, the generator gathers its first entropy by the
		// clock, which stands still in a bubble.
		_, _ = crand.Read(make([]byte, 1))
		synctest.Test(t, func(t *testing.T) { failure = modelScenario(t, seed, met) })
		if failure != "" {
			t.Fatalf("seed %d: %s", seed, failure)
		}
	}
	t.Logf("%d scenarios: %v", scenarios, met)
	for _, what := range []string{"merged", "lost", "moved", "ended", "failed", "saved"} {
		if met[what] == 0 {
			t.Errorf("no scenario in which a session was %s", what)
		}
	}
}

func modelScenario(t *testing.T, seed uint64, met map[string]int) (failure string) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	store := &modelStore{records: map[ID]Record{}, between: func() {}, fail: func() (int, bool) { return 0, false }}
	e := modelEngine(t, store)
	first := &modelRequest{Context: t.Context(), name: "first"}
	first.txn.Open(e, first, &first.shared, &first.session, nil, nil)
	first.part = effect{by: first, set: map[string]int{}}
	first.session.data = shop{A: -1, Cart: map[string]int{"a": -1}}
	first.txn.Flash(flash("waiting")[0])
	first.commit()
	name, _, _ := strings.Cut(first.cookie, ";")
	_, value, _ := strings.Cut(name, "=")
	initial := modelState{"first": {data: first.session.data, flashes: []string{"waiting"}}}

	// Each request is a script of steps; the schedule interleaves them, also in
	// the middle of a commit.
	failing := rnd.IntN(4) == 0
	var all []*modelRequest
	at := map[*modelRequest]string{}
	unique := 0
	for i := range 2 + rnd.IntN(2) {
		r := &modelRequest{Context: t.Context(), name: fmt.Sprint("request ", i)}
		all = append(all, r)
		at[r] = "first"
		begun := false
		r.script = append(r.script, func() { begun = r.begin(e, value) == nil && r.txn.exists == Loaded })
		for range 1 + rnd.IntN(4) {
			r.script = append(r.script, func() {
				if begun {
					unique++
					r.act(rnd, unique)
				}
			})
		}
		if rnd.IntN(4) == 0 && !failing {
			r.script = append(r.script, func() {
				if begun {
					r.save()
					met["saved"]++
				}
			})
			r.script = append(r.script, func() {
				if begun {
					unique++
					r.act(rnd, unique)
				}
			})
		}
		r.script = append(r.script, func() {
			if begun {
				r.commit()
			}
		})
	}
	busy := map[*modelRequest]bool{}
	step := func() bool {
		var ready []*modelRequest
		for _, r := range all {
			if len(r.script) > 0 && !busy[r] {
				ready = append(ready, r)
			}
		}
		if len(ready) == 0 {
			return false
		}
		r := ready[rnd.IntN(len(ready))]
		f := r.script[0]
		r.script = r.script[1:]
		busy[r] = true
		f()
		busy[r] = false
		return true
	}
	store.between = func() {
		for rnd.IntN(3) == 0 && step() {
		}
	}
	if failing {
		store.fail = func() (int, bool) { return rnd.IntN(2), rnd.IntN(8) == 0 }
	}
	for step() {
	}

	// What is stored now, by the names of the model.
	store.between, store.fail = func() {}, func() (int, bool) { return 0, false }
	names := map[ID]string{first.txn.idLocked(): "first"}
	got := modelState{}
	var steps [][]effect
	for _, r := range all {
		if r.txn.eng == nil {
			continue
		}
		if id := r.txn.idLocked(); names[id] == "" {
			names[id] = r.name
		}
		steps = append(steps, r.parts)
		for _, p := range r.parts {
			met["failed"] += count(p.err != nil)
			met["ended"] += count(p.end != 0)
			met["moved"] += count(p.move)
			met["lost"] += count(r.txn.exists == Lost)
		}
	}
	for id, rec := range store.records {
		if _, dead := wire.ReadTombstone(rec.Data); dead {
			continue
		}
		var s shopSession
		base, reason, err := e.Read(id, rec, &s.data, time.Now())
		if reason != NotNew {
			return fmt.Sprintf("a record cannot be read: %v, %v", reason, err)
		}
		st := stored{data: s.data}
		for _, f := range base.Flashes {
			st.flashes = append(st.flashes, f.Message)
		}
		got[names[id]] = st
	}
	for _, r := range all {
		// The store would not delete it: a record that nobody has a cookie for.
		if failing && (r.cookie == "" || strings.Contains(r.cookie, "Max-Age=0")) {
			delete(got, r.name)
		}
	}
	if len(all) > 1 {
		met["merged"] += count(len(got) == 1)
	}
	found := false
	var possible []string
	outcomes(steps, initial, at, func(s modelState) {
		if s.String() == got.String() {
			found = true
		} else if text := s.String(); len(possible) < 6 && !slices.Contains(possible, text) {
			possible = append(possible, text)
		}
	})
	if !found {
		var did []string
		for _, r := range all {
			did = append(did, fmt.Sprintf("%s did %+v", r.name, r.parts))
		}
		return fmt.Sprintf("stored:\n%v\nwhich no order of the requests gives, only for instance:\n%s\n%s", got, strings.Join(possible, "\nor\n"), strings.Join(did, "\n"))
	}
	return ""
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestUpdatesThatNobodyCanRepeatDoNotPileUp(t *testing.T) {
	for name, store := range map[string]Store{"in a cookie": nil, "of a new session": new(modelStore)} {
		t.Run(name, func(t *testing.T) { updateOften(t, modelEngine(t, store)) })
	}
}

func updateOften(t *testing.T, e *Engine) {
	r := &modelRequest{Context: t.Context()}
	r.txn.Open(e, r, &r.shared, &r.session, nil, nil)
	for range 1000 {
		r.txn.Update(func(data any) { data.(*shop).N++ })
	}
	if n := len(r.txn.journal.ops); n != 1 || r.session.data.N != 1000 {
		t.Errorf("got %d ops for N=%d, want 1 for 1000", n, r.session.data.N)
	}
	if r.txn.Close(false) {
		t.Error("the request ended with a change that no commit has seen")
	}
}
