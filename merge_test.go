package sessions_test

import (
	"errors"
	"math/big"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// overlapping lets two requests of one session overlapping: both load it, then theirs is
// stored, then mine.
func overlapping[T any](s *typedSite[T], mine, theirs func(*sessions.Session[T])) (*reply, *sessions.Session[T]) {
	s.t.Helper()
	loaded, stored, done := make(chan struct{}), make(chan struct{}), make(chan *reply)
	other := &typedSite[T]{t: s.t, mgr: s.mgr, store: s.store, events: s.events, cookies: map[string]string{}}
	for name, value := range s.cookies {
		other.cookies[name] = value
	}
	var session *sessions.Session[T]
	go func() {
		done <- s.do(func(x *sessions.Session[T]) {
			session = x
			close(loaded)
			<-stored
			mine(x)
		})
	}()
	<-loaded
	if res := other.do(theirs); res.StatusCode != http.StatusOK {
		s.t.Errorf("the other request got status %d, want 200", res.StatusCode)
	}
	close(stored)
	return <-done, session
}

type (
	mergeAll struct {
		A, B int
		Role string
		In   mergeIn
		mergeEmbedded
		Counts map[string]int
		Items  map[string]mergeIn
		Deep   map[string]map[string]int
		ByKey  map[[2]int]string
		List   []string
		Arr    [2]int
		Bytes  []byte
		Ptr    *mergeIn
		At     time.Time
		Big    *big.Int
		Pair   pairCodec
		Local  string `msgpack:"-"`
	}
	mergeIn struct {
		X, Y int
		Sub  struct{ P, Q string }
	}
	mergeEmbedded struct {
		E1, E2 int
		Tags   map[string]bool
	}
)

func TestParallelEditsMergeByField(t *testing.T) {
	at, later, latest := time.Unix(1e9, 0), time.Unix(2e9, 0), time.Unix(3e9, 0)
	base := func() mergeAll {
		return mergeAll{
			A: 1, B: 1, Role: "user", In: mergeIn{X: 1, Y: 1}, mergeEmbedded: mergeEmbedded{E1: 1, E2: 1, Tags: map[string]bool{"t": true}},
			Counts: map[string]int{"a": 1, "b": 1, "c": 1}, Items: map[string]mergeIn{"i": {X: 1}}, Deep: map[string]map[string]int{"d": {"x": 1, "y": 1}},
			ByKey: map[[2]int]string{{1, 2}: "k"}, List: []string{"a", "b"}, Arr: [2]int{1, 1}, Bytes: []byte("ab"), Ptr: &mergeIn{X: 1, Y: 1}, At: at,
			Big: big.NewInt(1), Pair: pairCodec{1, 1},
		}
	}
	for _, tt := range []struct {
		name         string
		mine, theirs func(*mergeAll)
		want         func(*mergeAll) // of the base
	}{
		{"two fields", func(d *mergeAll) { d.A = 2 }, func(d *mergeAll) { d.B = 3 }, func(d *mergeAll) { d.A, d.B = 2, 3 }},
		{"the same field: the later commit wins", func(d *mergeAll) { d.A = 2 }, func(d *mergeAll) { d.A = 3 }, func(d *mergeAll) { d.A = 2 }},
		{"the same field to the same value", func(d *mergeAll) { d.A = 2 }, func(d *mergeAll) { d.A = 2 }, func(d *mergeAll) { d.A = 2 }},
		{"a field changed and changed back", func(d *mergeAll) { d.A = 2; d.A = 1; d.B = 4 }, func(d *mergeAll) { d.A = 3 }, func(d *mergeAll) { d.A, d.B = 3, 4 }},
		{"a field set to zero", func(d *mergeAll) { d.Role = "" }, func(d *mergeAll) { d.A = 3 }, func(d *mergeAll) { d.Role, d.A = "", 3 }},
		{"two fields of a nested struct", func(d *mergeAll) { d.In.X, d.In.Sub.P = 2, "p" }, func(d *mergeAll) { d.In.Y, d.In.Sub.Q = 3, "q" }, func(d *mergeAll) {
			d.In = mergeIn{X: 2, Y: 3, Sub: struct{ P, Q string }{"p", "q"}}
		}},
		{"two fields of an embedded struct", func(d *mergeAll) { d.E1 = 2; d.Tags["m"] = true }, func(d *mergeAll) { d.E2 = 3; d.Tags["o"] = true }, func(d *mergeAll) {
			d.E1, d.E2, d.Tags = 2, 3, map[string]bool{"t": true, "m": true, "o": true}
		}},
		{"two keys added", func(d *mergeAll) { d.Counts["m"] = 2 }, func(d *mergeAll) { d.Counts["o"] = 3 }, func(d *mergeAll) { d.Counts["m"], d.Counts["o"] = 2, 3 }},
		{"the same key added: the later commit wins", func(d *mergeAll) { d.Counts["n"] = 2 }, func(d *mergeAll) { d.Counts["n"] = 3 }, func(d *mergeAll) { d.Counts["n"] = 2 }},
		{"two keys changed", func(d *mergeAll) { d.Counts["a"] = 2 }, func(d *mergeAll) { d.Counts["b"] = 3 }, func(d *mergeAll) { d.Counts["a"], d.Counts["b"] = 2, 3 }},
		{"two keys deleted", func(d *mergeAll) { delete(d.Counts, "a") }, func(d *mergeAll) { delete(d.Counts, "b") }, func(d *mergeAll) { delete(d.Counts, "a"); delete(d.Counts, "b") }},
		{"a key deleted that they changed", func(d *mergeAll) { delete(d.Counts, "a") }, func(d *mergeAll) { d.Counts["a"] = 3 }, func(d *mergeAll) { delete(d.Counts, "a") }},
		{"a key changed that they deleted", func(d *mergeAll) { d.Counts["a"] = 2 }, func(d *mergeAll) { delete(d.Counts, "a") }, func(d *mergeAll) { d.Counts["a"] = 2 }},
		{"a key untouched that they deleted", func(d *mergeAll) { d.A = 2 }, func(d *mergeAll) { delete(d.Counts, "a") }, func(d *mergeAll) { d.A = 2; delete(d.Counts, "a") }},
		{"a key added where they cleared the map", func(d *mergeAll) { d.Counts["m"] = 2 }, func(d *mergeAll) { d.Counts = nil }, func(d *mergeAll) { d.Counts = map[string]int{"m": 2} }},
		{"the map cleared where they added a key", func(d *mergeAll) { clear(d.Counts) }, func(d *mergeAll) { d.Counts["o"] = 3 }, func(d *mergeAll) { d.Counts = map[string]int{"o": 3} }},
		{"the map dropped where they added a key", func(d *mergeAll) { d.Counts = nil }, func(d *mergeAll) { d.Counts["o"] = 3 }, func(d *mergeAll) { d.Counts = map[string]int{"o": 3} }},
		{"the map replaced", func(d *mergeAll) { d.Counts = map[string]int{"a": 1, "z": 9} }, func(d *mergeAll) { d.Counts["b"] = 3 }, func(d *mergeAll) { d.Counts = map[string]int{"a": 1, "z": 9} }},
		{"an element of a map whole", func(d *mergeAll) { d.Items["i"] = mergeIn{X: 2} }, func(d *mergeAll) { d.Items["i"] = mergeIn{X: 1, Y: 3}; d.Items["j"] = mergeIn{Y: 4} }, func(d *mergeAll) {
			d.Items = map[string]mergeIn{"i": {X: 2}, "j": {Y: 4}}
		}},
		{"a map in a map whole", func(d *mergeAll) { d.Deep["d"]["x"] = 2 }, func(d *mergeAll) { d.Deep["e"] = map[string]int{"z": 1} }, func(d *mergeAll) {
			d.Deep = map[string]map[string]int{"d": {"x": 2, "y": 1}, "e": {"z": 1}}
		}},
		{"keys that are arrays", func(d *mergeAll) { d.ByKey[[2]int{3, 4}] = "m" }, func(d *mergeAll) { delete(d.ByKey, [2]int{1, 2}) }, func(d *mergeAll) { d.ByKey = map[[2]int]string{{3, 4}: "m"} }},
		{"a slice whole", func(d *mergeAll) { d.List = append(d.List, "m") }, func(d *mergeAll) { d.List = append(d.List, "o"); d.A = 3 }, func(d *mergeAll) { d.List, d.A = []string{"a", "b", "m"}, 3 }},
		{"a slice that only they changed", func(d *mergeAll) { d.A = 2 }, func(d *mergeAll) { d.List[0] = "o" }, func(d *mergeAll) { d.A, d.List = 2, []string{"o", "b"} }},
		{"a slice emptied", func(d *mergeAll) { d.List = nil }, func(d *mergeAll) { d.A = 3 }, func(d *mergeAll) { d.List, d.A = nil, 3 }},
		{"an array whole", func(d *mergeAll) { d.Arr[0] = 2 }, func(d *mergeAll) { d.Arr[1] = 3 }, func(d *mergeAll) { d.Arr = [2]int{2, 1} }},
		{"bytes whole", func(d *mergeAll) { d.Bytes[0] = 'm' }, func(d *mergeAll) { d.Bytes[1] = 'o' }, func(d *mergeAll) { d.Bytes = []byte("mb") }},
		{"a pointer whole", func(d *mergeAll) { d.Ptr.X = 2 }, func(d *mergeAll) { d.Ptr.Y = 3 }, func(d *mergeAll) { d.Ptr = &mergeIn{X: 2, Y: 1} }},
		{"a pointer that only they changed", func(d *mergeAll) { d.A = 2 }, func(d *mergeAll) { d.Ptr.Y = 3 }, func(d *mergeAll) { d.A, d.Ptr.Y = 2, 3 }},
		{"a pointer set to nil", func(d *mergeAll) { d.Ptr = nil }, func(d *mergeAll) { d.Ptr.Y = 3 }, func(d *mergeAll) { d.Ptr = nil }},
		{"a pointer that they set to nil", func(d *mergeAll) { d.Ptr.X = 2 }, func(d *mergeAll) { d.Ptr = nil }, func(d *mergeAll) { d.Ptr = &mergeIn{X: 2, Y: 1} }},
		{"a time", func(d *mergeAll) { d.At = later }, func(d *mergeAll) { d.At = latest; d.A = 3 }, func(d *mergeAll) { d.At, d.A = later, 3 }},
		{"a time in another zone is no change", func(d *mergeAll) { d.At = d.At.In(time.FixedZone("X", 60)); d.A = 2 }, func(d *mergeAll) { d.At = latest }, func(d *mergeAll) { d.At, d.A = latest, 2 }},
		{"a slice that only they emptied", func(d *mergeAll) { d.A = 2 }, func(d *mergeAll) { d.List = []string{} }, func(d *mergeAll) { d.A, d.List = 2, []string{} }},
		{"types with codecs whole", func(d *mergeAll) { d.Big.SetInt64(2) }, func(d *mergeAll) { d.Pair.a = 3 }, func(d *mergeAll) { d.Big, d.Pair = big.NewInt(2), pairCodec{3, 1} }},
		{"a type with a codec on both sides", func(d *mergeAll) { d.Pair.b = 2 }, func(d *mergeAll) { d.Pair.a = 3 }, func(d *mergeAll) { d.Pair = pairCodec{1, 2} }},
		{"all of it by one assignment", func(d *mergeAll) { *d = mergeAll{A: 1, B: 2} }, func(d *mergeAll) { d.A, d.B, d.Role = 3, 3, "admin" }, func(d *mergeAll) {
			*d = mergeAll{A: 3, B: 2, mergeEmbedded: mergeEmbedded{Tags: map[string]bool{}}, Counts: map[string]int{}, Items: map[string]mergeIn{}, Deep: map[string]map[string]int{}, ByKey: map[[2]int]string{}}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, store := range []sessions.Store{new(sessions.MemoryStore), newPlainStore()} {
				s := newTypedSite(t, sessions.Config[mergeAll]{Store: store})
				s.set(base())
				res, x := overlapping(s, func(x *sessions.Session[mergeAll]) { tt.mine(&x.Data); x.Data.Local = "mine" }, func(x *sessions.Session[mergeAll]) { tt.theirs(&x.Data); x.Data.Local = "theirs" })
				if res.StatusCode != http.StatusOK {
					t.Fatalf("got status %d (%v), want 200", res.StatusCode, s.err)
				}
				want := base()
				tt.want(&want)
				got, _ := s.get()
				if !reflect.DeepEqual(got, want) {
					t.Errorf("got  %+v\nwant %+v", got, want)
				}
				want.Local = "mine"
				if !reflect.DeepEqual(x.Data, want) {
					t.Errorf("after the commit Data is %+v\nwant what was stored, and its own Local: %+v", x.Data, want)
				}
				if n := len(s.events.of(sessions.EventMerged)); n != 1 {
					t.Errorf("got %d events that tell of the merge, want 1", n)
				}
			}
		})
	}
}

func TestParallelFlashesMergeAsLists(t *testing.T) {
	s := newTypedSite(t, sessions.Config[mergeAll]{Store: new(sessions.MemoryStore)})
	s.do(func(x *sessions.Session[mergeAll]) { x.Data.A = 1; x.Flash("mine", "read by me"); x.Flash("k", "kept") })
	overlapping(s, func(x *sessions.Session[mergeAll]) {
		x.Data.A = 2
		x.Flash("k", "mine")
		x.Flashes("mine")
	}, func(x *sessions.Session[mergeAll]) { x.Data.B = 3; x.Flash("k", "theirs") })
	s.do(func(x *sessions.Session[mergeAll]) {
		var got []string
		for _, f := range x.Flashes() {
			got = append(got, f.Message)
		}
		if want := "kept,theirs,mine"; strings.Join(got, ",") != want || x.Data.A != 2 || x.Data.B != 3 {
			t.Errorf("got %q with A=%d B=%d, want %q with 2 and 3", got, x.Data.A, x.Data.B, want)
		}
	})
}

func TestUpdatesReplayInOrderBetweenTheEdits(t *testing.T) {
	s := newTypedSite(t, sessions.Config[mergeAll]{Store: new(sessions.MemoryStore)})
	s.set(mergeAll{A: 1, B: 1})
	overlapping(s, func(x *sessions.Session[mergeAll]) {
		x.Data.Role = "first"
		x.Update(func(d *mergeAll) { d.A++; d.Role += "+" })
		x.Data.List = append(x.Data.List, x.Data.Role)
		x.Update(func(d *mergeAll) { d.A *= 2 })
		x.Data.B = 5
	}, func(x *sessions.Session[mergeAll]) { x.Data.A, x.Data.B, x.Data.Role = 10, 9, "theirs" })
	if got, _ := s.get(); got.A != 22 || got.B != 5 || got.Role != "first+" || len(got.List) != 1 {
		t.Errorf("got A=%d B=%d Role=%q List=%q, want 22, 5, first+ and one", got.A, got.B, got.Role, got.List)
	}
}

func TestMergeOfTheConfigGetsTheThreeValues(t *testing.T) {
	var got [3]mergeAll
	calls := 0
	s := newTypedSite(t, sessions.Config[mergeAll]{
		Store: new(sessions.MemoryStore),
		Merge: func(base, mine, theirs mergeAll) (mergeAll, error) {
			calls++
			got = [3]mergeAll{base, mine, theirs}
			theirs.A += mine.A - base.A
			theirs.Role = "merged"
			return theirs, nil
		},
	})
	s.set(mergeAll{A: 1, B: 1, Counts: map[string]int{"a": 1}})
	_, x := overlapping(s, func(x *sessions.Session[mergeAll]) { x.Data.A = 11; x.Data.Local = "mine" }, func(x *sessions.Session[mergeAll]) { x.Data.A = 101; x.Data.Counts["o"] = 2 })
	if calls != 1 {
		t.Fatalf("Merge was called %d times, want once", calls)
	}
	if got[0].A != 1 || got[1].A != 11 || got[2].A != 101 || len(got[0].Counts) != 1 || len(got[1].Counts) != 1 || len(got[2].Counts) != 2 {
		t.Errorf("got base %+v, mine %+v, theirs %+v, want A of 1, 11 and 101", got[0], got[1], got[2])
	}
	stored, _ := s.get()
	if stored.A != 111 || stored.Role != "merged" || stored.Counts["o"] != 2 {
		t.Errorf("got %+v, want what Merge returned", stored)
	}
	if x.Data.A != 111 || x.Data.Local != "mine" {
		t.Errorf("after the commit Data is %+v, want what was stored, and its own Local", x.Data)
	}
	if res, _ := overlapping(s, func(*sessions.Session[mergeAll]) {}, func(x *sessions.Session[mergeAll]) { x.Data.B = 7 }); res.StatusCode != http.StatusOK || calls != 1 {
		t.Errorf("Merge was called for a request that changed nothing")
	}
}

func TestAMergeThatFailsStoresNothing(t *testing.T) {
	own := errors.New("cannot merge")
	type merger = func(base, mine, theirs mergeAll) (mergeAll, error)
	for _, tt := range []struct {
		name  string
		merge merger
		valid func(*mergeAll) error
		check func(error) bool
	}{
		{"with an error of Merge", func(_, _, _ mergeAll) (mergeAll, error) { return mergeAll{A: 99}, own }, nil, func(err error) bool { return errors.Is(err, own) }},
		{"with a panic of Merge", func(_, _, _ mergeAll) (mergeAll, error) { panic("hunter2") }, nil, func(err error) bool { return err != nil && !strings.Contains(err.Error(), "hunter2") }},
		{"with a result that is not valid", func(_, _, _ mergeAll) (mergeAll, error) { return mergeAll{A: 99}, nil },
			func(d *mergeAll) error {
				if d.A == 99 {
					return own
				}
				return nil
			}, func(err error) bool { return errors.Is(err, sessions.ErrInvalid) && errors.Is(err, own) }},
		{"with a result by field that is not valid", nil,
			func(d *mergeAll) error {
				if d.A == 2 && d.B == 3 {
					return own
				}
				return nil
			}, func(err error) bool { return errors.Is(err, sessions.ErrInvalid) && errors.Is(err, own) }},
		{"with a result that cannot be stored", func(_, _, _ mergeAll) (mergeAll, error) {
			return mergeAll{A: 99, At: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)}, nil
		}, nil, func(err error) bool { return err != nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTypedSite(t, sessions.Config[mergeAll]{Store: newPlainStore(), Merge: tt.merge, Validate: tt.valid})
			s.set(mergeAll{A: 1, B: 1})
			res, _ := overlapping(s, func(x *sessions.Session[mergeAll]) { x.Data.A = 2 }, func(x *sessions.Session[mergeAll]) { x.Data.B = 3 })
			if res.StatusCode != http.StatusInternalServerError || len(res.setCookies()) > 0 {
				t.Errorf("got status %d, cookies %q, want 500 and none", res.StatusCode, res.setCookies())
			}
			if !tt.check(s.err) {
				t.Errorf("got error %v", s.err)
			}
			if got, reason := s.get(); got.A != 1 || got.B != 3 || reason != sessions.ReasonNone {
				t.Errorf("got A=%d B=%d, %q, want what the other request stored, 1 and 3", got.A, got.B, reason)
			}
			if s.store.version != 2 {
				t.Errorf("got %d writes, want 2", s.store.version)
			}
		})
	}
	t.Run("but a Destroy happens", func(t *testing.T) {
		s := newTypedSite(t, sessions.Config[mergeAll]{Store: newPlainStore(), Merge: func(_, _, _ mergeAll) (mergeAll, error) { panic("hunter2") }})
		s.set(mergeAll{A: 1})
		overlapping(s, func(x *sessions.Session[mergeAll]) {
			x.Data.A = 2
			if err := x.Save(t.Context()); err == nil {
				t.Error("Save: got no error, want that of Merge")
			}
			x.Destroy()
		}, func(x *sessions.Session[mergeAll]) { x.Data.B = 3 })
		if len(s.store.records) > 0 || len(s.cookies) > 0 {
			t.Errorf("got %d records, cookies %v, want the session destroyed", len(s.store.records), s.cookies)
		}
	})
}

func TestAMergeThatBecomesTheZeroDataIsValid(t *testing.T) {
	s := newTypedSite(t, sessions.Config[needy]{Store: newPlainStore()})
	s.set(needy{UserID: 1, Name: "Ada"})
	res, _ := overlapping(s, func(x *sessions.Session[needy]) { x.Data = needy{} }, func(x *sessions.Session[needy]) { x.Flash("a", "b") })
	if res.StatusCode != http.StatusOK {
		t.Errorf("got status %d (%v), want 200", res.StatusCode, s.err)
	}
}

func TestLifetimesAreThoseOfTheNewest(t *testing.T) {
	for _, tt := range []struct {
		name         string
		mine, theirs func(*sessions.Session[mergeAll])
		want         time.Duration
	}{
		{"which they prolonged", func(x *sessions.Session[mergeAll]) { x.Data.A = 2 }, func(x *sessions.Session[mergeAll]) { x.SetLifetime(72 * time.Hour); x.Data.B = 3 }, 72 * time.Hour},
		{"which they shortened", func(x *sessions.Session[mergeAll]) { x.Data.A = 2 }, func(x *sessions.Session[mergeAll]) { x.SetLifetime(2 * time.Hour); x.Data.B = 3 }, 2 * time.Hour},
		{"but for what this request asked", func(x *sessions.Session[mergeAll]) { x.Data.A = 2; x.SetLifetime(48 * time.Hour) }, func(x *sessions.Session[mergeAll]) { x.SetLifetime(72 * time.Hour); x.Data.B = 3 }, 48 * time.Hour},
		{"and for a new id, with the length that they gave", func(x *sessions.Session[mergeAll]) { x.Data.A = 2; x.RegenerateID() }, func(x *sessions.Session[mergeAll]) { x.SetLifetime(72 * time.Hour); x.Data.B = 3 }, 72 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTypedSite(t, sessions.Config[mergeAll]{Store: newPlainStore()})
			s.set(mergeAll{A: 1, B: 1})
			if res, _ := overlapping(s, tt.mine, tt.theirs); res.StatusCode != http.StatusOK {
				t.Fatalf("got status %d (%v), want 200", res.StatusCode, s.err)
			}
			s.do(func(x *sessions.Session[mergeAll]) {
				if x.Data.A != 2 || x.Data.B != 3 {
					t.Errorf("got A=%d B=%d, want 2 and 3", x.Data.A, x.Data.B)
				}
				if got := x.ExpiresAt().Sub(x.CreatedAt()).Round(time.Minute); got != tt.want {
					t.Errorf("got a lifetime of %v, want %v", got, tt.want)
				}
			})
		})
	}
}
