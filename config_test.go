package sessions_test

import (
	"context"
	"database/sql"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/big"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/go-playground/validator/v10"
	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/codec"
)

// A typedSite is a site whose sessions are of any type T, with one visitor.
type typedSite[T any] struct {
	t       testing.TB
	mgr     *sessions.Manager[T]
	store   *plainStore // nil unless the Config has one
	events  *events
	cookies map[string]string
	err     error // the last that ErrorHandler got
}

// newTypedSite makes one. The Config's keys, logger and ErrorHandler are filled in.
func newTypedSite[T any](t testing.TB, cfg sessions.Config[T]) *typedSite[T] {
	t.Helper()
	s := &typedSite[T]{t: t, events: new(events), cookies: map[string]string{}}
	cfg.Keys = newKeys(t)
	cfg.Logger = slog.New(slog.DiscardHandler)
	if onEvent := cfg.OnEvent; onEvent != nil {
		cfg.OnEvent = func(ctx context.Context, e sessions.Event) { s.events.add(ctx, e); onEvent(ctx, e) }
	} else {
		cfg.OnEvent = s.events.add
	}
	if cfg.ErrorHandler == nil {
		cfg.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
			s.err = err
			w.WriteHeader(http.StatusInternalServerError)
		}
	}
	s.store, _ = cfg.Store.(*plainStore)
	var err error
	if s.mgr, err = sessions.New(cfg); err != nil {
		t.Fatal(err)
	}
	return s
}

// do serves a request of the visitor, whose handler is f.
func (s *typedSite[T]) do(f func(*sessions.Session[T])) *reply {
	s.t.Helper()
	s.err = nil
	r := httptest.NewRequest("GET", "https://example.com/", nil)
	for name, value := range s.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	s.mgr.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		f(sessions.Get[T](r.Context()))
	})).ServeHTTP(w, r)
	res := w.Result()
	for _, c := range res.Cookies() {
		if c.MaxAge < 0 {
			delete(s.cookies, c.Name)
		} else {
			s.cookies[c.Name] = c.Value
		}
	}
	body, _ := io.ReadAll(res.Body)
	return &reply{Response: res, body: string(body)}
}

// set stores data as the visitor's session.
func (s *typedSite[T]) set(data T) {
	s.t.Helper()
	if res := s.do(func(x *sessions.Session[T]) { x.Data = data }); res.StatusCode != http.StatusOK {
		s.t.Fatalf("storing got status %d (%v), want 200", res.StatusCode, s.err)
	}
}

// get returns what the visitor's session holds.
func (s *typedSite[T]) get() (data T, reason sessions.Reason) {
	s.t.Helper()
	res := s.do(func(x *sessions.Session[T]) { data, reason = x.Data, x.Reason() })
	if res.StatusCode != http.StatusOK {
		s.t.Errorf("reading got status %d (%v), want 200", res.StatusCode, s.err)
	}
	return data, reason
}

// newOf returns the error that New has for a T. It analyzes the type as New does,
// without an instance of New, which takes the compiler a third of a second.
func newOf[T any](*testing.T) error {
	_, err := codec.Analyze(reflect.TypeFor[T](), codec.Options{})
	return err
}

func TestNewAnalyzesItsType(t *testing.T) {
	t.Parallel()
	type refusedType struct {
		C chan int
		N int `validate:"nosuch"`
	}
	_, err := sessions.New(sessions.Config[refusedType]{Keys: newKeys(t)})
	for line := range strings.Lines(newOf[refusedType](t).Error()) {
		refusedNaming(t, err, strings.TrimSpace(line))
	}
}

// namesAFix matches an error that says what to do.
var namesAFix = regexp.MustCompile(`\b(it begins with|use|add|shorten|needs?|tag it|leave|put|remove|rename|export|drop|set|choose|makes|keep|wrap|name|embed|store|give|correct|fix|raise|lower)\b`)

// refused checks the error of New: each of its lines names a fix, and the whole
// names every one of want.
func refused(t *testing.T, err error, want ...string) {
	t.Helper()
	refusedNaming(t, err, want...)
	for line := range strings.Lines(err.Error()) {
		if !namesAFix.MatchString(line) {
			t.Errorf("got %q, which names no fix", strings.TrimSpace(line))
		}
	}
}

func refusedNaming(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one that names %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want the text to name %q", err, w)
		}
	}
}

type (
	refusedList   struct{ Next *refusedList }
	refusedTree   struct{ Children []refusedTree }
	refusedGraph  struct{ Edges map[string]refusedGraph }
	refusedPing   struct{ Pong *refusedPong }
	refusedPong   struct{ Ping []refusedPing }
	refusedHolder struct{ Held refusedList }
	refusedMixin  struct{ Owner *refusedMixed }
	refusedMixed  struct{ refusedMixin }
	refusedP      *refusedP
	refusedID     int
	RefusedBase   struct{ N int }
	refusedBase   struct{ N int }
	refusedDeep   struct{ Mid []map[string]*refusedLeaf }
	refusedLeaf   struct{ Bad chan int }
	refusedOuter  struct{ refusedWithChan }
	RefusedIface  interface{ M() }

	refusedWithChan struct{ C chan int }

	onlyMarshals   struct{ N int }
	onlyUnmarshals struct{ N int }
	binarySession  struct{ N int }
	textSession    struct{ N int }
	clockSession   struct {
		time.Time
		N int
	}
)

func (onlyMarshals) MarshalText() ([]byte, error)    { return nil, nil }
func (*onlyUnmarshals) UnmarshalText([]byte) error   { return nil }
func (binarySession) MarshalBinary() ([]byte, error) { return nil, nil }
func (*binarySession) UnmarshalBinary([]byte) error  { return nil }
func (textSession) MarshalText() ([]byte, error)     { return nil, nil }

func TestNewRefusesATypeThatIsNotASession(t *testing.T) {
	for _, tt := range []struct {
		name string
		new  func(*testing.T) error
		want string
	}{
		{"int", newOf[int], "int"},
		{"string", newOf[string], "string"},
		{"bytes", newOf[[]byte], "[]uint8"},
		{"map", newOf[map[string]int], "map[string]int"},
		{"pointer to a struct", newOf[*AppSession], "*sessions_test.AppSession"},
		{"pointer to itself", newOf[refusedP], "refusedP"},
		{"interface", newOf[any], "interface {}"},
		{"error", newOf[error], "error"},
		{"function", newOf[func()], "func()"},
		{"time", newOf[time.Time], "time.Time"},
		{"struct with MarshalBinary", newOf[binarySession], "binarySession"},
		{"struct with MarshalText alone", newOf[textSession], "textSession"},
		{"struct with the codec of an embedded time", newOf[clockSession], "clockSession"},
		{"struct with a codec in the standard library", newOf[url.URL], "URL"},
	} {
		t.Run(tt.name, func(t *testing.T) { refused(t, tt.new(t), tt.want) })
	}
}

// A refusedMoney without an amount is empty to omitempty, whatever its currency.
type refusedMoney struct {
	Amount   int
	Currency string
}

func (m refusedMoney) IsZero() bool { return m.Amount == 0 }

func TestNewRefusesAFieldThatCannotComeBack(t *testing.T) {
	for _, tt := range []struct {
		name string
		new  func(*testing.T) error
		path string
	}{
		{"chan", newOf[struct{ C chan int }], "T.C"},
		{"func", newOf[struct{ F func() }], "T.F"},
		{"complex64", newOf[struct{ C complex64 }], "T.C"},
		{"complex128", newOf[struct{ C complex128 }], "T.C"},
		{"uintptr", newOf[struct{ P uintptr }], "T.P"},
		{"unsafe.Pointer", newOf[struct{ P unsafe.Pointer }], "T.P"},
		{"any", newOf[struct{ A any }], "T.A"},
		{"error", newOf[struct{ E error }], "T.E"},
		{"interface with methods", newOf[struct{ S fmt.Stringer }], "T.S"},
		{"named interface", newOf[struct{ I RefusedIface }], "T.I"},
		{"interface that is a codec", newOf[struct{ B encoding.BinaryMarshaler }], "T.B"},
		{"any in a slice", newOf[struct{ S []any }], "T.S[]"},
		{"any in an array", newOf[struct{ S [2]any }], "T.S[]"},
		{"any in a map", newOf[struct{ M map[string]any }], "T.M[]"},
		{"any as a key", newOf[struct{ M map[any]int }], "T.M"},
		{"any behind a pointer", newOf[struct{ P *any }], "T.P"},
		{"chan in a struct of a map of a slice", newOf[refusedDeep], "refusedDeep.Mid[][].Bad"},
		{"chan in an embedded struct", newOf[refusedOuter], "refusedOuter.refusedWithChan.C"},
		{"chan in an anonymous struct", newOf[struct{ In struct{ C chan int } }], "T.In.C"},
		{"chan in two fields of one type", newOf[struct{ A, B refusedWithChan }], "T.B.C"},
		{"pointer as a key", newOf[struct{ M map[*int]string }], "T.M"},
		{"JSON of a pointer as a key", newOf[struct {
			M map[sessions.JSON[*int]]string
		}], "T.M"},
		{"time as a key", newOf[struct{ M map[time.Time]string }], "T.M"},
		{"struct with a pointer as a key", newOf[struct{ M map[struct{ P *int }]string }], "T.M"},
		{"unexported field", newOf[struct {
			N    int
			lost int
		}], "T.lost"},
		{"struct of nothing but unexported fields", newOf[struct{ Mu sync.Mutex }], "T.Mu"},
		{"atomic", newOf[struct{ N atomic.Int64 }], "T.N"},
		{"time.Location", newOf[struct{ L *time.Location }], "T.L"},
		{"embedded pointer", newOf[struct{ *RefusedBase }], "T.RefusedBase"},
		{"embedded pointer to an unexported struct", newOf[struct{ *refusedBase }], "T.refusedBase"},
		{"embedded unexported number", newOf[struct{ refusedID }], "T.refusedID"},
		{"list", newOf[refusedList], "refusedList.Next"},
		{"tree by a slice", newOf[refusedTree], "refusedTree.Children[]"},
		{"graph by a map", newOf[refusedGraph], "refusedGraph.Edges[]"},
		{"cycle of two types", newOf[refusedPing], "refusedPing.Pong.Ping[]"},
		{"list further in", newOf[refusedHolder], "refusedHolder.Held.Next"},
		{"cycle through an embedded struct", newOf[refusedMixed], "refusedMixed.refusedMixin.Owner"},
		{"pointer to itself", newOf[struct{ P refusedP }], "T.P"},
		{"one name twice", newOf[struct {
			A int `msgpack:"n"`
			B int `msgpack:"n"`
		}], "T.B"},
		{"name of another field", newOf[struct {
			A int
			B int `msgpack:"A"`
		}], "T.B"},
		{"alias of another field", newOf[struct {
			A int
			B int `msgpack:"b,alias:A"`
		}], "T.B"},
		{"name of a promoted field", newOf[struct {
			RefusedBase
			N int
		}], "T.N"},
		{"promoted field of an earlier name", newOf[struct {
			N int
			RefusedBase
		}], "T.RefusedBase.N"},
		{"promoted field of two embedded structs", newOf[struct {
			RefusedBase
			refusedBase
		}], "T.refusedBase.N"},
		{"name of an embedded struct", newOf[struct {
			RefusedBase
			X int `msgpack:"RefusedBase"`
		}], "T.X"},
		{"omitempty of a struct with a codec", newOf[struct {
			A netip.Addr `msgpack:",omitempty"`
		}], "T.A"},
		{"omitempty with a value", newOf[struct {
			A netip.Addr `msgpack:",omitempty:1"`
		}], "T.A"},
		{"omitempty of a big.Int", newOf[struct {
			A big.Int `msgpack:",omitempty"`
		}], "T.A"},
		{"omitempty where IsZero looks behind a pointer", newOf[struct {
			A *time.Time `msgpack:",omitempty"`
		}], "T.A"},
		{"omitempty where IsZero looks at a part", newOf[struct {
			A refusedMoney `msgpack:",omitempty"`
		}], "T.A"},
		{"omitempty of all fields", newOf[struct {
			_msgpack struct{} `msgpack:",omitempty"`
			N        int
			A        netip.Addr
		}], "T.A"},
		{"option intern", newOf[struct {
			S string `msgpack:",intern"`
		}], "T.S"},
		{"option as_array", newOf[struct {
			_msgpack struct{} `msgpack:",as_array"` //nolint:unused
			N        int
		}], "T._msgpack"},
		{"only the encoding half of a codec", newOf[struct{ H onlyMarshals }], "T.H"},
		{"only the decoding half of a codec", newOf[struct{ H onlyUnmarshals }], "T.H"},
		{"codec of an embedded time beside another field", newOf[struct{ C clockSession }], "T.C"},
		{"pointer codec as an element of a map", newOf[struct{ M map[string]big.Int }], "T.M"},
		{"pointer codec in a struct in a map", newOf[struct {
			M map[string]struct{ I big.Int }
		}], "T.M"},
	} {
		t.Run(tt.name, func(t *testing.T) { refused(t, tt.new(t), tt.path) })
	}
}

// Types of other modules: those of the standard library stand for them.
type (
	ownType     struct{ hidden int }
	ownHolder   struct{ Own ownType }
	embedsOther struct{ net.OpError }
)

func TestNewNamesTheFieldThatTheApplicationCanChange(t *testing.T) {
	_ = ownType{hidden: 0}
	for _, tt := range []struct {
		name  string
		new   func(*testing.T) error
		lines []string // how each begins
		fixes []string // in each
	}{
		{"a type of seven fields that would be lost", newOf[struct{ L *time.Location }], []string{"T.L: time.Location cannot be stored (its field name is not exported"}, []string{"leave it out with `msgpack:\"-\"`"}},
		{"a mutex", newOf[struct{ Mu sync.Mutex }], []string{"T.Mu: sync.Mutex "}, []string{"`msgpack:\"-\"`"}},
		{"in a list in a map", newOf[struct{ M map[string][]*http.Request }], []string{"T.M[][]: http.Request cannot be stored (its field Body: io.ReadCloser "}, []string{"`msgpack:\"-\"`"}},
		{"embedded", newOf[embedsOther], []string{"embedsOther.OpError: net.OpError "}, []string{"`msgpack:\"-\"`"}},
		{"a type made from it", newOf[struct{ T madeFromOther }], []string{"T.T: sessions_test.madeFromOther cannot be stored (its field "}, []string{"`msgpack:\"-\"`"}},
		{"one that JSON can carry", newOf[struct{ T []multipart.FileHeader }], []string{"T.T[]: multipart.FileHeader "}, []string{"or give it the type sessions.JSON[[]multipart.FileHeader]"}},
		{"one of its own, by the field in it", newOf[ownHolder], []string{"ownHolder.Own.hidden: is not exported"}, []string{"export it, or tag it `msgpack:\"-\"`"}},
		{"several, each once", newOf[struct {
			A, B *time.Location
			C    map[string]any
		}], []string{"T.A: ", "T.B: ", "T.C[]: "}, []string{"leave it out", "leave it out", "use a concrete type"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.new(t)
			refused(t, err)
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.lines) {
				t.Fatalf("got %d lines, want %d:\n%v", len(lines), len(tt.lines), err)
			}
			for i, line := range lines {
				if !strings.HasPrefix(line, tt.lines[i]) || !strings.Contains(line, tt.fixes[i]) {
					t.Errorf("got %q, want it to begin with %q and to have %q", line, tt.lines[i], tt.fixes[i])
				}
			}
		})
	}
	t.Run("and offers JSON only where it can carry the value", func(t *testing.T) {
		for _, err := range []error{newOf[struct{ Mu sync.Mutex }](t), newOf[struct{ N *atomic.Int64 }](t), newOf[struct{ R *http.Request }](t), newOf[struct{ L *time.Location }](t)} {
			if strings.Contains(err.Error(), "JSON") {
				t.Errorf("got %q, want no JSON of what JSON loses", err)
			}
		}
	})
	t.Run("and the fixes work", func(t *testing.T) {
		for name, err := range map[string]error{
			"tag": newOf[struct {
				L *time.Location `msgpack:"-"`
			}](t),
			"JSON": newOf[struct {
				T sessions.JSON[[]multipart.FileHeader]
			}](t),
		} {
			if err != nil {
				t.Errorf("%s: got %v, want no error", name, err)
			}
		}
	})
}

type madeFromOther multipart.FileHeader

func TestNewRefusesAJSONThatLosesItsValue(t *testing.T) {
	type unseen struct {
		N  int
		Mu sync.Mutex
	}
	type oneWay struct{ W writesOnly }
	for _, tt := range []struct {
		name string
		new  func(*testing.T) error
		want []string
	}{
		{"func", newOf[struct{ J sessions.JSON[func()] }], []string{"T.J: ", "func()"}},
		{"chan in a struct", newOf[struct {
			J sessions.JSON[struct{ C chan int }]
		}], []string{"T.J: ", "C: JSON has nothing for chan int"}},
		{"complex in a map", newOf[struct {
			J sessions.JSON[map[string]complex64]
		}], []string{"T.J: ", "complex64"}},
		{"interface with methods", newOf[struct{ J sessions.JSON[fmt.Stringer] }], []string{"T.J: ", "fmt.Stringer"}},
		{"fields that are not exported", newOf[struct{ J sessions.JSON[ownType] }], []string{"T.J: ", "ownType has no field that JSON sees"}},
		{"a mutex", newOf[struct{ J sessions.JSON[sync.Mutex] }], []string{"T.J: ", "sync.Mutex"}},
		{"a mutex beside others", newOf[struct{ J sessions.JSON[unseen] }], []string{"T.J: ", "Mu: sync.Mutex"}},
		{"an atomic behind a pointer", newOf[struct{ J sessions.JSON[*atomic.Int64] }], []string{"T.J: ", "atomic.Int64"}},
		{"keys that JSON has not", newOf[struct {
			J sessions.JSON[map[[2]int]string]
		}], []string{"T.J: ", "[2]int"}},
		{"a method that writes and none that reads", newOf[struct{ J sessions.JSON[oneWay] }], []string{"T.J: ", "W: sessions_test.writesOnly"}},
		{"methods that do not fit each other", newOf[struct{ J sessions.JSON[misfits] }], []string{"T.J: ", "misfits does not read the JSON that it writes"}},
		{"an embedded pointer that cannot be set", newOf[struct {
			J sessions.JSON[struct{ *refusedBase }]
		}], []string{"T.J: ", "refusedBase"}},
		{"in a list", newOf[struct{ L []sessions.JSON[func()] }], []string{"T.L[]: ", "func()"}},
		{"in a map", newOf[struct {
			M map[string]*sessions.JSON[func()]
		}], []string{"T.M[]: ", "func()"}},
		{"embedded", newOf[struct{ sessions.JSON[int] }], []string{"T: ", "wrap the type in a field"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refused(t, tt.new(t), tt.want...)
			if n := strings.Count(tt.new(t).Error(), "\n"); n > 0 {
				t.Errorf("got %d lines, want one", n+1)
			}
		})
	}
}

type (
	writesOnly struct{ N int }
	misfits    struct{ N int }
)

func (writesOnly) MarshalJSON() ([]byte, error) { return []byte(`"***"`), nil }
func (misfits) MarshalJSON() ([]byte, error)    { return []byte(`"x"`), nil }
func (m *misfits) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &m.N) }

func TestNewAcceptsAJSONThatKeepsItsValue(t *testing.T) {
	type tree struct {
		Name     string
		Children []*tree
	}
	for name, err := range map[string]error{
		"a tree":               newOf[struct{ J sessions.JSON[tree] }](t),
		"an interface without": newOf[struct{ J sessions.JSON[any] }](t),
		"maps of interfaces":   newOf[struct{ J sessions.JSON[map[string]any] }](t),
		"an enum that begins at one": newOf[struct {
			J sessions.JSON[struct{ P fromOne }]
		}](t),
		"a list of such": newOf[struct{ J sessions.JSON[[]fromOne] }](t),
		"numbers":        newOf[struct{ J sessions.JSON[json.Number] }](t),
		"raw JSON": newOf[struct {
			J sessions.JSON[json.RawMessage]
		}](t),
		"times and bytes": newOf[struct {
			J sessions.JSON[struct {
				T *time.Time
				B []byte
				D time.Duration
			}]
		}](t),
		"keys with texts": newOf[struct {
			J sessions.JSON[map[netip.Addr]int]
		}](t),
		"large arrays": newOf[struct {
			J sessions.JSON[[]struct{ Big [4096]byte }]
		}](t),
		"embedded ones": newOf[struct {
			J sessions.JSON[struct{ refusedBase }]
		}](t),
	} {
		if err != nil {
			t.Errorf("%s: got %v, want no error", name, err)
		}
	}
}

// Enums that begin at one have no text for zero.

type (
	fromOneBinary struct{ n byte }
	fromOneTen    int
	fromOneText   string
)

func (f fromOneBinary) MarshalBinary() ([]byte, error) { return []byte{f.n}, nil }
func (f *fromOneBinary) UnmarshalBinary(b []byte) error {
	if f.n = b[0]; f.n == 0 {
		return errUnread
	}
	return nil
}

// MarshalText is as stringer makes it: it has a text for every number.
func (f fromOneTen) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "fromOneTen(%d)", f), nil }
func (f *fromOneTen) UnmarshalText(b []byte) error {
	if *f = 1000; string(b) != "fromOneTen(1000)" {
		return errUnread
	}
	return nil
}

func (f fromOneText) MarshalText() ([]byte, error) { return []byte(f), nil }
func (f *fromOneText) UnmarshalText(b []byte) error {
	if *f = "known"; string(b) != "known" {
		return errUnread
	}
	return nil
}

func TestNewRefusesAZeroThatHasNoText(t *testing.T) {
	for _, tt := range []struct {
		name string
		new  func(*testing.T) error
		want []string
	}{
		{"that cannot be written", newOf[struct{ Plan fromOne }], []string{"T.Plan: ", "MarshalText", "`msgpack:\",omitempty\"`, or give zero a text"}},
		{"that cannot be read", newOf[struct {
			Plan fromOneTen `msgpack:"plan"`
		}], []string{"T.Plan: ", "UnmarshalText", "`msgpack:\"plan,omitempty\"`"}},
		{"with an option", newOf[struct {
			Plan fromOneText `msgpack:"plan,alias:p"`
		}], []string{"T.Plan: ", "`msgpack:\"plan,alias:p,omitempty\"`"}},
		{"in a struct", newOf[struct{ In struct{ Plan fromOne } }], []string{"T.In.Plan: ", "omitempty"}},
		{"in an embedded struct", newOf[struct{ embedsFromOne }], []string{"T.embedsFromOne.Plan: ", "omitempty"}},
		{"of a struct", newOf[struct{ Plan fromOneBinary }], []string{"T.Plan: ", "use a pointer, or give zero a text"}},
		{"in an array", newOf[struct{ Plans [2]fromOne }], []string{"T.Plans: ", "use a slice, or give zero a text"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.new(t)
			refused(t, err, tt.want...)
			if n := strings.Count(err.Error(), "\n"); n > 0 {
				t.Errorf("got %d lines, want one: %v", n+1, err)
			}
		})
	}
	t.Run("each field once", func(t *testing.T) {
		err := newOf[struct{ A, B fromOne }](t)
		refused(t, err, "T.A: ", "T.B: ")
		if n := strings.Count(err.Error(), "\n"); n != 1 {
			t.Errorf("got %d lines, want two", n+1)
		}
	})
}

type embedsFromOne struct{ Plan fromOne }

func TestAnEnumThatBeginsAtOneIsStored(t *testing.T) {
	type order struct{ Plan fromOne }
	type plans struct {
		N      int
		Plan   fromOne `msgpack:"plan,omitempty"`
		List   []fromOne
		Ptrs   []*fromOne
		Map    map[string]fromOne
		Keys   map[fromOne]int
		Orders []order
		Order  *order
		Ptr    *fromOneBinary
		Ten    []fromOneTen
		Text   map[fromOneText]fromOneText
		JSON   sessions.JSON[fromOne]
	}
	two := fromOne(2)
	t.Run("zero", comesBack(plans{N: 1}))
	t.Run("full", comesBack(plans{
		Plan: 1, List: []fromOne{1, 2}, Ptrs: []*fromOne{&two, nil}, Map: map[string]fromOne{"a": 3}, Keys: map[fromOne]int{1: 1},
		Orders: []order{{1}}, Order: &order{2}, Ptr: &fromOneBinary{1}, Ten: []fromOneTen{1000}, Text: map[fromOneText]fromOneText{"known": "known"},
		JSON: sessions.JSON[fromOne]{V: 2},
	}))
	t.Run("but not one without a name", func(t *testing.T) {
		for path, edit := range map[string]func(*plans){
			"plans.Plan":          func(p *plans) { p.Plan = 9 },
			"plans.List[]":        func(p *plans) { p.List = []fromOne{1, 0} },
			"plans.Ptrs[]":        func(p *plans) { p.Ptrs = []*fromOne{new(fromOne)} },
			"plans.Map[]":         func(p *plans) { p.Map = map[string]fromOne{"": 0} },
			"plans.Keys[key]":     func(p *plans) { p.Keys = map[fromOne]int{0: 1} },
			"plans.Orders[].Plan": func(p *plans) { p.Orders = []order{{}} },
			"plans.Order.Plan":    func(p *plans) { p.Order = new(order) },
			"plans.JSON":          func(p *plans) { p.JSON.V = 9 },
		} {
			s := newTypedSite(t, sessions.Config[plans]{})
			s.do(func(x *sessions.Session[plans]) { edit(&x.Data) })
			if !errors.Is(s.err, sessions.ErrInvalid) || !strings.Contains(s.err.Error(), path+": ") {
				t.Errorf("got %v, want ErrInvalid that names %s", s.err, path)
			}
		}
	})
}

// Types that say whether they are valid, as those of database/sql do.

type (
	forgetful struct { // as null.String of guregu/null and of volatiletech/null
		String string
		Valid  bool
	}
	forgetfulJSON struct{ sql.NullString } // the same, with JSON that tells
	blankIsNull   struct{ sql.NullString } // as zero.String: it says that the two are one
	remembers     struct{ sql.NullString }
)

func (f forgetful) MarshalText() ([]byte, error) { return []byte(f.String), nil }
func (f *forgetful) UnmarshalText(b []byte) error {
	f.String, f.Valid = string(b), len(b) > 0
	return nil
}

func (f forgetfulJSON) MarshalText() ([]byte, error) { return []byte(f.String), nil }
func (f *forgetfulJSON) UnmarshalText(b []byte) error {
	f.String, f.Valid = string(b), len(b) > 0
	return nil
}
func (f forgetfulJSON) MarshalJSON() ([]byte, error) {
	if !f.Valid {
		return []byte("null"), nil
	}
	return json.Marshal(f.String)
}
func (f *forgetfulJSON) UnmarshalJSON(b []byte) error {
	f.Valid = string(b) != "null"
	return json.Unmarshal(b, &f.String)
}
func (f forgetfulJSON) IsZero() bool { return !f.Valid }

func (f blankIsNull) MarshalText() ([]byte, error) { return []byte(f.String), nil }
func (f *blankIsNull) UnmarshalText(b []byte) error {
	f.String, f.Valid = string(b), len(b) > 0
	return nil
}
func (f blankIsNull) IsZero() bool { return !f.Valid || f.String == "" }

func (f remembers) MarshalText() ([]byte, error) {
	if !f.Valid {
		return nil, nil
	}
	return []byte("=" + f.String), nil
}
func (f *remembers) UnmarshalText(b []byte) error {
	f.String, f.Valid = strings.CutPrefix(string(b), "=")
	return nil
}

func TestNewRefusesATextThatCannotTellEmptyFromInvalid(t *testing.T) {
	refused(t, newOf[struct{ Name forgetful }](t), "T.Name: sessions_test.forgetful writes a valid empty value as", "MarshalText")
	refused(t, newOf[struct{ Name *forgetful }](t), "T.Name: ")
	refused(t, newOf[struct{ Names []forgetfulJSON }](t), "T.Names[]: ", "sessions.JSON[sessions_test.forgetfulJSON]")
	if err := newOf[struct {
		A blankIsNull
		B remembers
		C sql.NullString
	}](t); err != nil {
		t.Errorf("got %v, want no error", err)
	}
	t.Run("and the fix works", func(t *testing.T) {
		var data holds[sessions.JSON[forgetfulJSON]]
		data.V.V.Valid = true
		comesBack(data)(t)
	})
}

// The application's own rules.

func phoneRules(v *validator.Validate) error {
	v.RegisterAlias("shortname", "min=1,max=5")
	v.RegisterStructValidation(func(sl validator.StructLevel) {
		if r := sl.Current().Interface().(rangeOf); r.From > r.To {
			sl.ReportError(r.To, "To", "To", "after", "From")
		}
	}, rangeOf{})
	return v.RegisterValidation("phone_kz", func(fl validator.FieldLevel) bool {
		return strings.HasPrefix(fl.Field().String(), "+7")
	})
}

type (
	rangeOf  struct{ From, To int }
	ownRules struct {
		N      int
		Phone  string            `validate:"omitempty,phone_kz,len=12"`
		Or     string            `validate:"omitempty,email|phone_kz"`
		List   []string          `validate:"dive,phone_kz"`
		Keys   map[string]string `validate:"dive,keys,phone_kz,endkeys,shortname"`
		Range  rangeOf
		Ranges []rangeOf `validate:"dive"`
		Alias  string    `validate:"omitempty,shortname"`
		JSON   sessions.JSON[struct {
			Phone string `validate:"omitempty,phone_kz"`
		}]
		Gone string `msgpack:"-" validate:"required,phone_kz"`
	}
)

func TestOwnRulesAreAppliedAsTheOthers(t *testing.T) {
	calls := 0
	cfg := sessions.Config[ownRules]{Rules: func(v *validator.Validate) error { calls++; return phoneRules(v) }}
	s := newTypedSite(t, cfg)
	s.set(ownRules{N: 1, Phone: "+77012345678", Or: "+7", List: []string{"+7"}, Keys: map[string]string{"+7": "Ada"}, Range: rangeOf{1, 2}, Alias: "Ada"})
	if calls != 1 {
		t.Errorf("got %d calls of Rules, want 1", calls)
	}
	for path, edit := range map[string]func(*ownRules){
		"ownRules.Phone breaks the rule phone_kz":         func(r *ownRules) { r.Phone = "+49" },
		"ownRules.Phone breaks the rule len=12":           func(r *ownRules) { r.Phone = "+7" },
		"ownRules.Or breaks the rule email|phone_kz":      func(r *ownRules) { r.Or = "x" },
		"ownRules.List[] breaks the rule phone_kz":        func(r *ownRules) { r.List = []string{"x"} },
		"ownRules.Keys[] breaks the rule phone_kz":        func(r *ownRules) { r.Keys = map[string]string{"x": "Ada"} },
		"ownRules.Range.To breaks the rule after=From":    func(r *ownRules) { r.Range = rangeOf{2, 1} },
		"ownRules.Ranges[].To breaks the rule after=From": func(r *ownRules) { r.Ranges = []rangeOf{{1, 2}, {2, 1}} },
		"ownRules.Alias breaks the rule shortname":        func(r *ownRules) { r.Alias = "Ada Lovelace" },
		"ownRules.JSON.V.Phone breaks the rule phone_kz":  func(r *ownRules) { r.JSON.V.Phone = "x" },
	} {
		s.do(func(x *sessions.Session[ownRules]) { edit(&x.Data) })
		if !errors.Is(s.err, sessions.ErrInvalid) || !strings.Contains(s.err.Error(), path) {
			t.Errorf("got %v, want ErrInvalid: %s", s.err, path)
		}
	}
	if calls != 1 {
		t.Errorf("got %d calls of Rules after requests, want 1", calls)
	}
	t.Run("when a session is loaded", func(t *testing.T) {
		type looser struct{ Phone string }
		old := newTypedSite(t, sessions.Config[looser]{})
		old.set(looser{"+49"})
		if _, reason := succeed(t, old, cfg).get(); reason != sessions.ReasonInvalid {
			t.Errorf("got %q, want %q", reason, sessions.ReasonInvalid)
		}
	})
	t.Run("without tags", func(t *testing.T) {
		type plainRange struct{ R rangeOf }
		s := newTypedSite(t, sessions.Config[plainRange]{Rules: phoneRules})
		s.do(func(x *sessions.Session[plainRange]) { x.Data.R.From = 1 })
		if !errors.Is(s.err, sessions.ErrInvalid) {
			t.Errorf("got %v, want ErrInvalid", s.err)
		}
	})
}

func TestNewRefusesRulesThatDoNotWork(t *testing.T) {
	type phone struct {
		Phone string `validate:"omitempty,phone_kz"`
		First string `validate:"first"`
	}
	own := errors.New("no table of countries")
	first := func(v *validator.Validate) error {
		_ = phoneRules(v)
		return v.RegisterValidation("first", func(fl validator.FieldLevel) bool { return fl.Field().String()[0] == 'x' })
	}
	newWith := func(rules func(*validator.Validate) error) error {
		_, err := codec.Analyze(reflect.TypeFor[phone](), codec.Options{Rules: rules})
		return err
	}
	refused(t, newWith(nil), "phone.Phone: ", `there is no rule "phone_kz"`, "register the rule in Config.Rules", "phone.First: ")
	refusedNaming(t, newWith(func(*validator.Validate) error { return own }), "Config.Rules: no table of countries")
	if err := newWith(func(*validator.Validate) error { return own }); !errors.Is(err, own) {
		t.Errorf("got %v, want the error of Rules", err)
	}
	refused(t, newWith(func(v *validator.Validate) error {
		return v.RegisterValidation("a=b", func(validator.FieldLevel) bool { return true })
	}), "Config.Rules panicked", "a=b")
	refused(t, newWith(first), `phone.First: validate:"first": `, "panics on a zero value")
	if err := newWith(first); strings.Contains(err.Error(), "phone.Phone") {
		t.Errorf("got %v, want nothing of the rule that works", err)
	}
	t.Run("for a struct", func(t *testing.T) {
		type held struct{ R rangeOf }
		_, err := codec.Analyze(reflect.TypeFor[held](), codec.Options{Rules: func(v *validator.Validate) error {
			v.RegisterStructValidation(func(sl validator.StructLevel) { _ = []int{}[sl.Current().NumField()] }, rangeOf{})
			return nil
		}})
		refused(t, err, "held.R: ", "rangeOf", "panics on a zero value")
	})
	t.Run("and takes one that stands for a plain one", func(t *testing.T) {
		type years struct {
			Years []int `validate:"gte=3"`
			Email int   `validate:"email"`
		}
		rules := func(v *validator.Validate) error {
			return v.RegisterValidation("email", func(fl validator.FieldLevel) bool { return fl.Field().Int() >= 0 })
		}
		if _, err := codec.Analyze(reflect.TypeFor[years](), codec.Options{Rules: rules}); err != nil {
			t.Errorf("got %v, want no error", err)
		}
	})
}

type upgradeA struct{ A int }
type upgradeB struct{ B int }
type upgradeC struct{ C chan int }

func TestNewRefusesAConfigThatCannotWork(t *testing.T) {
	up := func(version int) sessions.Upgrade {
		return sessions.From(version, func(a upgradeA) (upgradeA, error) { return a, nil })
	}
	last := func(version int) sessions.Upgrade {
		return sessions.From(version, func(upgradeA) (AppSession, error) { return AppSession{}, nil })
	}
	for _, tt := range []struct {
		name   string
		change func(*config)
		want   []string
	}{
		{"no keys", func(c *config) { c.Keys = nil }, []string{"Config.Keys"}},
		{"a zero key ring", func(c *config) { c.Keys = new(sessions.Keyring) }, []string{"Config.Keys"}},
		{"version below 0", func(c *config) { c.Version = -1 }, []string{"Config.Version", "-1"}},
		{"version above 65535", func(c *config) { c.Version = 65536 }, []string{"Config.Version", "65536"}},
		{"gap in the upgrades", func(c *config) { c.Version, c.Upgrades = 3, []sessions.Upgrade{up(0), last(2)} }, []string{"Config.Upgrades", "version 1"}},
		{"gap before the newest version", func(c *config) { c.Version, c.Upgrades = 3, []sessions.Upgrade{up(0), up(1)} }, []string{"Config.Upgrades", "version 2"}},
		{"two upgrades from one version", func(c *config) { c.Version, c.Upgrades = 1, []sessions.Upgrade{last(0), last(0)} }, []string{"Config.Upgrades", "two", "version 0"}},
		{"upgrade from the newest version", func(c *config) { c.Version, c.Upgrades = 1, []sessions.Upgrade{last(0), last(1)} }, []string{"Config.Upgrades", "version 1"}},
		{"upgrade from below 0", func(c *config) { c.Version, c.Upgrades = 1, []sessions.Upgrade{last(0), last(-1)} }, []string{"Config.Upgrades", "version -1"}},
		{"upgrades that end in another type", func(c *config) { c.Version, c.Upgrades = 1, []sessions.Upgrade{up(0)} }, []string{"Config.Upgrades", "upgradeA", "AppSession"}},
		{"upgrades whose types do not meet", func(c *config) {
			c.Version, c.Upgrades = 2, []sessions.Upgrade{last(1), sessions.From(0, func(upgradeB) (upgradeB, error) { return upgradeB{}, nil })}
		}, []string{"Config.Upgrades", "upgradeB", "upgradeA"}},
		{"upgrade not made by From", func(c *config) { c.Version, c.Upgrades = 1, []sessions.Upgrade{{}, last(0)} }, []string{"Config.Upgrades", "From"}},
		{"upgrade from what was never stored", func(c *config) {
			c.Version, c.Upgrades = 1, []sessions.Upgrade{sessions.From(0, func(upgradeC) (AppSession, error) { return AppSession{}, nil })}
		}, []string{"Config.Upgrades", "upgradeC.C"}},
		{"SameSite=None with Insecure", func(c *config) { c.Cookie.SameSite, c.Cookie.Insecure = http.SameSiteNoneMode, true }, []string{"Config.Cookie.SameSite"}},
		{"SameSite of no meaning", func(c *config) { c.Cookie.SameSite = 77 }, []string{"Config.Cookie.SameSite"}},
		{"Partitioned with Insecure", func(c *config) { c.Cookie.Partitioned, c.Cookie.Insecure = true, true }, []string{"Config.Cookie.Partitioned"}},
		{"__Host- with a path", func(c *config) { c.Cookie.Name, c.Cookie.Path = "__Host-a", "/app" }, []string{"Config.Cookie", "/app"}},
		{"__Host- with a domain", func(c *config) { c.Cookie.Name, c.Cookie.Domain = "__Host-a", "example.com" }, []string{"Config.Cookie", "Domain"}},
		{"__Host- with Insecure", func(c *config) { c.Cookie.Name, c.Cookie.Insecure = "__Host-a", true }, []string{"Config.Cookie", "Insecure"}},
		{"__hOsT- in other letters", func(c *config) { c.Cookie.Name, c.Cookie.Path = "__hOsT-a", "/app" }, []string{"Config.Cookie", "/app"}},
		{"__Secure- with Insecure", func(c *config) { c.Cookie.Name, c.Cookie.Insecure = "__Secure-a", true }, []string{"Config.Cookie", "Insecure"}},
		{"name with a space", func(c *config) { c.Cookie.Name = "my session" }, []string{"Config.Cookie.Name", "my session"}},
		{"name with an equals sign", func(c *config) { c.Cookie.Name = "a=b" }, []string{"Config.Cookie.Name"}},
		{"name with a letter that is not ASCII", func(c *config) { c.Cookie.Name = "séance" }, []string{"Config.Cookie.Name"}},
		{"path that does not begin with a slash", func(c *config) { c.Cookie.Path = "app" }, []string{"Config.Cookie.Path"}},
		{"path with a semicolon", func(c *config) { c.Cookie.Path = "/a;b" }, []string{"Config.Cookie.Path"}},
		{"path with a line break", func(c *config) { c.Cookie.Path = "/a\nb" }, []string{"Config.Cookie.Path"}},
		{"path that browsers ignore for its length", func(c *config) { c.Cookie.Path = "/" + strings.Repeat("a", 1024) }, []string{"Config.Cookie.Path"}},
		{"domain with a space", func(c *config) { c.Cookie.Domain = "exam ple.com" }, []string{"Config.Cookie.Domain"}},
		{"domain with a port", func(c *config) { c.Cookie.Domain = "example.com:8080" }, []string{"Config.Cookie.Domain"}},
		{"domain of dots", func(c *config) { c.Cookie.Domain = "." }, []string{"Config.Cookie.Domain"}},
		{"negative lifetime", func(c *config) { c.Lifetime = -time.Second }, []string{"Config.Lifetime"}},
		{"negative idle timeout", func(c *config) { c.IdleTimeout = -time.Second }, []string{"Config.IdleTimeout"}},
		{"idle timeout above the lifetime", func(c *config) { c.Lifetime, c.IdleTimeout = time.Hour, 2*time.Hour }, []string{"Config.IdleTimeout", "Config.Lifetime"}},
		{"idle timeout above the lifetime of a day that zero means", func(c *config) { c.IdleTimeout = 25 * time.Hour }, []string{"Config.IdleTimeout", "Config.Lifetime"}},
		{"Owner with a Store that has no index", func(c *config) {
			c.Owner, c.Store = func(*AppSession) string { return "" }, newPlainStore()
		}, []string{"Config.Owner", "OwnerStore"}},
		{"Labels without a Store", func(c *config) { c.Labels = func(*AppSession) []string { return nil } }, []string{"Config.Labels", "LabelStore"}},
		{"Labels with a Store that has no index of them", func(c *config) {
			c.Labels, c.Store = func(*AppSession) []string { return nil }, newPlainStore()
		}, []string{"Config.Labels", "LabelStore"}},
		{"MaxPerOwner below 0", func(c *config) { c.Owner, c.MaxPerOwner, c.Store = ownerOfUser, -1, new(sessions.MemoryStore) }, []string{"Config.MaxPerOwner", "negative"}},
		{"MaxPerOwner without Owner", func(c *config) { c.MaxPerOwner, c.Store = 3, new(sessions.MemoryStore) }, []string{"Config.MaxPerOwner", "Config.Owner"}},
		{"MaxPerOwner without a Store", func(c *config) { c.Owner, c.MaxPerOwner = ownerOfUser, 3 }, []string{"Config.MaxPerOwner", "OwnerStore"}},
		{"AnonymousLifetime below 0", func(c *config) { c.Owner, c.AnonymousLifetime = ownerOfUser, -1 }, []string{"Config.AnonymousLifetime", "negative"}},
		{"AnonymousLifetime without Owner", func(c *config) { c.AnonymousLifetime = time.Hour }, []string{"Config.AnonymousLifetime", "Config.Owner"}},
		{"Merge without a Store", func(c *config) { c.Merge = func(_, mine, _ AppSession) (AppSession, error) { return mine, nil } }, []string{"Config.Merge", "Store"}},
		{"Import without ImportCookies", func(c *config) {
			c.Import = func(*http.Request) (AppSession, bool) { return AppSession{}, false }
		}, []string{"Config.Import", "ImportCookies"}},
		{"ImportCookies that cannot be set", func(c *config) {
			c.Import = func(*http.Request) (AppSession, bool) { return AppSession{}, false }
			c.ImportCookies = []http.Cookie{{Name: "bad name"}}
		}, []string{"Config.ImportCookies", "bad name"}},
		{"ImportCookies with our own cookie", func(c *config) {
			c.Import = func(*http.Request) (AppSession, bool) { return AppSession{}, false }
			c.ImportCookies = []http.Cookie{{Name: "__Host-Http-session"}}
		}, []string{"Config.ImportCookies", "__Host-Http-session"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config{Keys: newKeys(t)}
			tt.change(&cfg)
			_, err := sessions.New(cfg)
			refused(t, err, tt.want...)
		})
	}
}

func TestNewAcceptsWhatIsJustWithinTheRules(t *testing.T) {
	chain := func(version int) sessions.Upgrade {
		return sessions.From(version, func(a upgradeA) (upgradeA, error) { return a, nil })
	}
	for _, tt := range []struct {
		name   string
		change func(*config)
	}{
		{"version 65535", func(c *config) { c.Version = 65535 }},
		{"idle timeout of the whole lifetime", func(c *config) { c.Lifetime, c.IdleTimeout = time.Hour, time.Hour }},
		{"no upgrades from the oldest versions", func(c *config) {
			c.Version = 7
			c.Upgrades = []sessions.Upgrade{sessions.From(6, func(upgradeA) (AppSession, error) { return AppSession{}, nil })}
		}},
		{"upgrades in any order", func(c *config) {
			c.Version = 3
			c.Upgrades = []sessions.Upgrade{chain(1), sessions.From(2, func(upgradeA) (AppSession, error) { return AppSession{}, nil }), chain(0)}
		}},
		{"SameSite=None that is secure", func(c *config) { c.Cookie.SameSite, c.Cookie.Partitioned = http.SameSiteNoneMode, true }},
		{"a domain with a leading dot", func(c *config) { c.Cookie.Domain = ".example.com" }},
		{"__Secure- with domain and path", func(c *config) {
			c.Cookie = sessions.Cookie{Name: "__Secure-a", Domain: "example.com", Path: "/app"}
		}},
		{"plain http", func(c *config) { c.Cookie.Insecure = true }},
		{"Owner with MemoryStore", func(c *config) {
			c.Owner, c.Store = func(*AppSession) string { return "" }, new(sessions.MemoryStore)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config{Keys: newKeys(t)}
			tt.change(&cfg)
			if _, err := sessions.New(cfg); err != nil {
				t.Errorf("got %v, want no error", err)
			}
		})
	}
}

type tenMistakes struct {
	One   chan int
	Two   func()
	Three any
	four  int
	*RefusedBase
	Six1  int    `msgpack:"six"`
	Six2  int    `msgpack:"six"`
	Seven string `msgpack:",intern"`
	Eight map[*int]string
	Nine  []complex64
	Ten   onlyMarshals
	Fine  string
}

func TestNewReportsAllMistakesAtOnce(t *testing.T) {
	_ = tenMistakes{four: 4}
	refused(t, newOf[tenMistakes](t), "tenMistakes.One", "tenMistakes.Two", "tenMistakes.Three", "tenMistakes.four", "tenMistakes.RefusedBase",
		"tenMistakes.Six2", "tenMistakes.Seven", "tenMistakes.Eight", "tenMistakes.Nine", "tenMistakes.Ten")

	t.Run("those of the Config with them", func(t *testing.T) {
		_, err := sessions.New(sessions.Config[tenMistakes]{
			Cookie: sessions.Cookie{Name: "a b", Path: "x", Insecure: true, Partitioned: true}, Lifetime: -1, IdleTimeout: -1,
			Upgrades: []sessions.Upgrade{{}}, Owner: func(*tenMistakes) string { return "" }, Store: newPlainStore(), AnonymousLifetime: -1, MaxPerOwner: -1,
			Labels: func(*tenMistakes) []string { return nil },
			Import: func(*http.Request) (tenMistakes, bool) { return tenMistakes{}, false },
		})
		refused(t, err, "tenMistakes.One", "tenMistakes.Ten", "Config.Keys", "Cookie.Name", "Cookie.Path", "Cookie.Partitioned", "Config.Lifetime",
			"Config.IdleTimeout", "Config.Upgrades", "Config.Owner", "Config.Labels", "Config.MaxPerOwner", "Config.AnonymousLifetime", "Config.Import")
	})
	t.Run("those of the validate tags with them", func(t *testing.T) {
		type both struct {
			C chan int
			A int  `validate:"nosuch"`
			B bool `validate:"gte=1"`
		}
		refusedNaming(t, newOf[both](t), "both.C", "both.A", "both.B")
	})
	t.Run("all validate tags of one field and of several", func(t *testing.T) {
		type several struct {
			A int  `validate:"nosuch,gte=abc"`
			B bool `validate:"gte=1"`
		}
		refusedNaming(t, newOf[several](t), "several.A", "nosuch", "gte=abc", "several.B")
	})
	t.Run("the upgrades beside a version out of range", func(t *testing.T) {
		_, err := sessions.New(config{Keys: newKeys(t), Version: 70_000, Upgrades: []sessions.Upgrade{{}}})
		refused(t, err, "Config.Version", "Config.Upgrades")
	})
}

func TestZeroConfigIsTheStrictOne(t *testing.T) {
	mgr, err := sessions.New(config{Keys: newKeys(t)})
	if err != nil {
		t.Fatal(err)
	}
	var w *httptest.ResponseRecorder
	handle := func(r *http.Request, f func(*session)) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mgr.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { f(sessions.Get[AppSession](r.Context())) })).ServeHTTP(w, r)
		return w
	}
	var left time.Duration
	w = handle(httptest.NewRequest("GET", "http://example.com/app", nil), func(s *session) {
		s.Data.UserID = 1
		left = s.ExpiresAt().Sub(s.CreatedAt())
	})
	lines := w.Result().Header["Set-Cookie"]
	if len(lines) != 1 {
		t.Fatalf("got %d cookies, want 1", len(lines))
	}
	for _, want := range []string{"__Host-Http-session=", "; Path=/;", "; Max-Age=86", "; HttpOnly", "; Secure", "; SameSite=Lax"} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("got cookie %q, want it to have %q", lines[0], want)
		}
	}
	for _, never := range []string{"Domain", "Partitioned", "SameSite=None"} {
		if strings.Contains(lines[0], never) {
			t.Errorf("got cookie %q, want it without %q", lines[0], never)
		}
	}
	if left < 24*time.Hour || left > 24*time.Hour+time.Second {
		t.Errorf("got a lifetime of %v, want 24 hours", left)
	}
	t.Run("tags are checked and the error shows no details", func(t *testing.T) {
		w := handle(httptest.NewRequest("GET", "http://example.com/", nil), func(s *session) { s.Data.Role = "superuser" })
		if w.Code != http.StatusInternalServerError || w.Header()["Set-Cookie"] != nil {
			t.Errorf("got status %d and cookies %q, want 500 and none", w.Code, w.Header()["Set-Cookie"])
		}
		if body := w.Body.String(); strings.Contains(body, "Role") || strings.Contains(body, "superuser") {
			t.Errorf("got body %q, want no details", body)
		}
	})
	t.Run("a store's failure is 503 without details", func(t *testing.T) {
		store := newHookStore(newPlainStore())
		store.hook(func(string, sessions.ID) error { return errors.New("password of the database") }, nil)
		mgr, err := sessions.New(config{Keys: newKeys(t), Store: store, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		mgr.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			sessions.Get[AppSession](r.Context()).Data.UserID = 1
		})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "password") {
			t.Errorf("got %d %q, want 503 and no details", w.Code, w.Body)
		}
	})
	t.Run("nothing is adopted and nobody owns it", func(t *testing.T) {
		handle(httptest.NewRequest("GET", "/", nil), func(s *session) {
			if s.Reason() != sessions.ReasonNoCookie {
				t.Errorf("got %q, want %q", s.Reason(), sessions.ReasonNoCookie)
			}
		})
		if err := mgr.Revoke(t.Context(), strings.Repeat("0", 64)); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Revoke without a Store: got %v, want errors.ErrUnsupported", err)
		}
	})
}

// Types that come back as they were.
type (
	holds[V any]  struct{ V V }
	pageOf[I any] struct {
		Items []I
		Next  *I
	}
	shopItem struct {
		Name  string `msgpack:"n"`
		Price int64  `msgpack:"p,omitempty"`
	}
	kept struct {
		At    time.Time
		Until *time.Time
	}
	keptOuter struct {
		kept
		shopItem
		N int
	}
	shopRole   string
	shopBytes  []byte
	shopByte   uint8
	shopTable  map[shopRole][]shopItem
	shopStamp  struct{ time.Time }
	shopNested struct {
		Deep struct {
			Deeper map[int8]struct{ A, B []uint16 }
		}
		Skipped chan int `msgpack:"-"`
		skipped func()   `msgpack:"-"`
	}
	shopAlias = pageOf[shopItem]
	pairCodec struct{ a, b int }
)

func (p pairCodec) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%d/%d", p.a, p.b), nil }
func (p *pairCodec) UnmarshalText(b []byte) error {
	_, err := fmt.Sscanf(string(b), "%d/%d", &p.a, &p.b)
	return err
}

// comesBack encodes data as a save does, decodes it as a load does, from a record
// that anybody can write and from one that is sealed, and expects no change.
func comesBack[T any](data T) func(*testing.T) {
	return func(t *testing.T) { roundTrip(t, &data, reflect.DeepEqual) }
}

func comesBackBy[T any](data T, equal func(a, b T) bool) func(*testing.T) {
	return func(t *testing.T) {
		roundTrip(t, &data, func(a, b any) bool { return equal(*a.(*T), *b.(*T)) })
	}
}

func roundTrip(t *testing.T, data any, equal func(a, b any) bool) {
	t.Helper()
	c, err := codec.Analyze(reflect.TypeOf(data).Elem(), codec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := c.Encode(nil, data)
	if err != nil {
		t.Fatalf("storing: %v", err)
	}
	for _, trusted := range []bool{false, true} {
		got := c.New()
		kept, _, err := c.Decode(got, 0, encoded, trusted)
		if err == nil {
			err = c.Check(got, kept)
		}
		if err != nil {
			t.Fatalf("trusted=%t: got %v, want the stored session", trusted, err)
		}
		if !equal(got, data) {
			t.Errorf("trusted=%t: got %+v, want %+v", trusted, got, data)
		}
		if c.Hash(got) != c.Hash(data) {
			t.Errorf("trusted=%t: reading it is a change", trusted)
		}
	}
}

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

func TestWhatNewAcceptsComesBack(t *testing.T) {
	at := time.Unix(1_700_000_000, 123456789)
	before := time.Unix(-5_000_000_000, 1)
	far := time.Unix(253402300799, 999_999_999)
	seven := 7
	seventh := &seven
	_ = shopNested{skipped: nil}
	for name, f := range map[string]func(*testing.T){
		"bool":                comesBack(holds[bool]{true}),
		"int64 least":         comesBack(holds[int64]{math.MinInt64}),
		"uint64 most":         comesBack(holds[uint64]{math.MaxUint64}),
		"int8 least":          comesBack(holds[int8]{-128}),
		"uint8 most":          comesBack(holds[uint8]{255}),
		"float32":             comesBack(holds[float32]{math.SmallestNonzeroFloat32}),
		"float64 infinity":    comesBack(holds[float64]{math.Inf(-1)}),
		"string of bad UTF-8": comesBack(holds[string]{"a\xff\x00\r\nb"}),
		"long string":         comesBack(holds[string]{strings.Repeat("ab", 900)}),
		"rune":                comesBack(holds[rune]{'ß'}),
		"bytes":               comesBack(holds[[]byte]{[]byte{0, 1, 255}}),
		"empty bytes": comesBack(struct {
			A, B []byte
			N    int
		}{A: []byte{}, N: 1}),
		"named bytes":         comesBack(holds[shopBytes]{shopBytes("x")}),
		"slice of named byte": comesBack(holds[[]shopByte]{[]shopByte{1, 200}}),
		"byte array":          comesBack(holds[[16]byte]{[16]byte{1, 2, 15: 255}}),
		"array":               comesBack(holds[[3]int]{[3]int{1, -2, 3}}),
		"array of structs":    comesBack(holds[[2]shopItem]{[2]shopItem{{"a", 1}, {"b", 0}}}),
		"time":                comesBack(holds[time.Time]{at}),
		"time before 1970":    comesBack(holds[time.Time]{before}),
		"time of year 9999":   comesBack(holds[time.Time]{far}),
		"zero time":           comesBack(struct{ A, B *time.Time }{B: new(time.Time)}),
		"pointer to a time":   comesBack(holds[*time.Time]{&at}),
		"slice of times":      comesBack(holds[[]time.Time]{[]time.Time{at, {}}}),
		"map of times":        comesBack(holds[map[string]time.Time]{map[string]time.Time{"x": at}}),
		"struct of a time":    comesBackBy(holds[shopStamp]{shopStamp{at}}, func(a, b holds[shopStamp]) bool { return a.V.Equal(b.V.Time) }),
		"duration":            comesBack(holds[time.Duration]{-time.Hour}),
		"month":               comesBack(holds[time.Month]{time.May}),
		"netip.Addr v4":       comesBack(holds[netip.Addr]{netip.MustParseAddr("192.0.2.1")}),
		"netip.Addr v6 zone":  comesBack(holds[netip.Addr]{netip.MustParseAddr("fe80::1%eth0")}),
		"netip.Addr as a key": comesBack(holds[map[netip.Addr]int]{map[netip.Addr]int{netip.MustParseAddr("::1"): 3, {}: 4}}),
		"netip.Prefix":        comesBack(holds[netip.Prefix]{netip.MustParsePrefix("10.0.0.0/8")}),
		"net.IP":              comesBack(struct{ A, B net.IP }{A: net.IPv4(1, 2, 3, 4)}),
		"*big.Int":            comesBack(struct{ A, B *big.Int }{A: new(big.Int).Lsh(big.NewInt(-7), 200)}),
		"big.Int": comesBackBy(holds[big.Int]{*big.NewInt(-5)}, func(a, b holds[big.Int]) bool {
			return a.V.Cmp(&b.V) == 0
		}),
		"slice of big.Int": comesBackBy(holds[[]big.Int]{[]big.Int{*big.NewInt(1), {}}}, func(a, b holds[[]big.Int]) bool {
			return len(a.V) == 2 && a.V[0].Cmp(&b.V[0]) == 0
		}),
		"map of *big.Int":     comesBack(holds[map[string]*big.Int]{map[string]*big.Int{"a": big.NewInt(9), "b": nil}}),
		"*url.URL":            comesBack(struct{ A, B *url.URL }{A: mustURL("https://a:b@example.com/x?y=1#z")}),
		"url.URL":             comesBack(holds[url.URL]{*mustURL("/x?y=1")}),
		"url.Values":          comesBack(holds[url.Values]{url.Values{"a": {"1", "2"}, "b": nil}}),
		"regexp":              comesBackBy(holds[*regexp.Regexp]{regexp.MustCompile("a+")}, func(a, b holds[*regexp.Regexp]) bool { return a.V.String() == b.V.String() }),
		"slog.Level":          comesBack(holds[slog.Level]{slog.LevelWarn}),
		"sql.NullString":      comesBack(struct{ A, B sql.NullString }{B: sql.NullString{String: "x", Valid: true}}),
		"sql.NullTime":        comesBack(holds[sql.NullTime]{sql.NullTime{Time: at, Valid: true}}),
		"sql.Null":            comesBack(holds[sql.Null[shopItem]]{sql.Null[shopItem]{V: shopItem{"x", 1}, Valid: true}}),
		"own codec":           comesBack(holds[pairCodec]{pairCodec{3, -4}}),
		"own codec, pointer":  comesBack(struct{ A, B *pairCodec }{A: &pairCodec{1, 2}}),
		"own codec in a map":  comesBack(holds[map[string]pairCodec]{map[string]pairCodec{"x": {1, 2}}}),
		"own codec as a key":  comesBack(holds[map[pairCodec]bool]{map[pairCodec]bool{{1, 2}: true}}),
		"named string":        comesBack(holds[shopRole]{"admin"}),
		"named map of slices": comesBack(holds[shopTable]{shopTable{"a": {{"x", 1}}, "b": nil, "c": {}}}),
		"map[int]string":      comesBack(holds[map[int]string]{map[int]string{-1: "a", 1 << 40: "b"}}),
		"map[bool]int":        comesBack(holds[map[bool]int]{map[bool]int{true: 1, false: 0}}),
		"map[float64]int":     comesBack(holds[map[float64]int]{map[float64]int{math.Inf(1): 1, -0.5: 2}}),
		"map[[2]int]string":   comesBack(holds[map[[2]int]string]{map[[2]int]string{{1, 2}: "a", {-1, 0}: "b"}}),
		"map[[4]byte]string":  comesBack(holds[map[[4]byte]string]{map[[4]byte]string{{1}: "a", {2}: "b"}}),
		"map by a struct":     comesBack(holds[map[shopItem]int]{map[shopItem]int{{"a", 1}: 1, {"b", 0}: 2}}),
		"set":                 comesBack(holds[map[string]struct{}]{map[string]struct{}{"a": {}, "b": {}}}),
		"map of maps":         comesBack(holds[map[string]map[string]int]{map[string]map[string]int{"a": {"b": 1}, "c": nil}}),
		"map of strings":      comesBack(holds[map[string]string]{map[string]string{"a": "b"}}),
		"map of bools":        comesBack(holds[map[string]bool]{map[string]bool{"a": true, "b": false}}),
		"map of pointers":     comesBack(holds[map[string]*shopItem]{map[string]*shopItem{"a": {"x", 1}, "b": nil}}),
		"map of byte arrays":  comesBack(holds[map[string][4]byte]{map[string][4]byte{"a": {1, 2, 3, 4}}}),
		"nil slice": comesBack(struct {
			A, B []string
			N    int
		}{B: []string{}, N: 1}),
		"nil map": comesBack(struct {
			A, B map[string]int
			N    int
		}{B: map[string]int{}, N: 1}),
		"pointer":            comesBack(struct{ A, B *int }{A: new(int)}),
		"pointer to pointer": comesBack(struct{ A, B **int }{A: &seventh}),
		"pointer to struct":  comesBack(struct{ A, B *shopItem }{A: &shopItem{"x", 1}}),
		"pointer to slice":   comesBack(struct{ A, B *[]int }{A: &[]int{1}}),
		"pointer to array":   comesBack(struct{ A, B *[2]bool }{A: &[2]bool{true, false}}),
		"slice of pointers":  comesBack(holds[[]*int]{[]*int{&seven, nil}}),
		"slice of slices":    comesBack(holds[[][]string]{[][]string{{"a"}, nil, {}}}),
		"empty struct": comesBack(struct {
			E struct{}
			N int
		}{N: 1}),
		"generic":            comesBack(pageOf[shopItem]{Items: []shopItem{{"a", 1}}, Next: &shopItem{"b", 2}}),
		"generic of generic": comesBack(pageOf[pageOf[time.Duration]]{Items: []pageOf[time.Duration]{{Items: []time.Duration{1}}}}),
		"alias":              comesBack(shopAlias{Items: []shopItem{{"a", 1}}}),
		"anonymous structs": comesBack(shopNested{Deep: struct {
			Deeper map[int8]struct{ A, B []uint16 }
		}{map[int8]struct{ A, B []uint16 }{-3: {A: []uint16{1}}}}}),
		"anonymous T":      comesBack(struct{ A, B int }{1, 2}),
		"embedded structs": comesBack(keptOuter{kept: kept{At: at, Until: &far}, shopItem: shopItem{"a", 1}, N: 3}),
		"embedded noinline": comesBack(struct {
			RefusedBase `msgpack:",noinline"`
			N           int
		}{RefusedBase{1}, 2}),
		"more than 64 fields": comesBack(manyFields{A0: 1, C9: 2, G9: "last"}),
	} {
		t.Run(name, f)
	}
	if err := newOf[struct{}](t); err != nil {
		t.Errorf("a struct without fields: got %v, want no error: it may carry flashes", err)
	}
}

type manyFields struct {
	A0, A1, A2, A3, A4, A5, A6, A7, A8, A9 int
	B0, B1, B2, B3, B4, B5, B6, B7, B8, B9 int
	C0, C1, C2, C3, C4, C5, C6, C7, C8, C9 int
	D0, D1, D2, D3, D4, D5, D6, D7, D8, D9 bool
	E0, E1, E2, E3, E4, E5, E6, E7, E8, E9 bool
	F0, F1, F2, F3, F4, F5, F6, F7, F8, F9 *int
	G0, G1, G2, G3, G4, G5, G6, G7, G8, G9 string
}

// Validate tags.

type (
	badTagLeaf struct {
		X int `validate:"nosuch"`
	}
	badTagMid     struct{ badTagLeaf }
	badTagCodec   struct{ badTagLeaf }
	goodTagBase   struct{ Password string }
	goodTagAddr   struct{ City, Street string }
	badTagElement struct{ C int }
)

func (badTagCodec) MarshalText() ([]byte, error) { return []byte("x"), nil }
func (*badTagCodec) UnmarshalText([]byte) error  { return nil }

func TestNewRefusesAValidateTagThatWouldFailSomeDay(t *testing.T) {
	for _, tt := range []struct {
		name string
		new  func(*testing.T) error
		want []string
	}{
		{"unknown", newOf[struct {
			A int `validate:"nosuch"`
		}], []string{"A", "nosuch"}},
		{"unknown under omitempty", newOf[struct {
			A string `validate:"omitempty,nosuch"`
		}], []string{"A", "nosuch"}},
		{"unknown behind a nil pointer", newOf[struct{ P *badTagLeaf }], []string{"X", "nosuch"}},
		{"unknown in an element without dive", newOf[struct{ S []badTagLeaf }], []string{"X", "nosuch"}},
		{"unknown in an element behind dive", newOf[struct {
			S []badTagLeaf `validate:"dive"`
		}], []string{"X", "nosuch"}},
		{"unknown in an element of a map", newOf[struct {
			M map[string]*badTagLeaf `validate:"dive"`
		}], []string{"X", "nosuch"}},
		{"unknown in a key of a map", newOf[struct {
			M map[badTagLeaf]string `validate:"dive,keys,required,endkeys"`
		}], []string{"X", "nosuch"}},
		{"unknown behind dive", newOf[struct {
			S []string `validate:"dive,nosuch"`
		}], []string{"S", "nosuch"}},
		{"unknown behind two dives", newOf[struct {
			S [][]string `validate:"omitempty,dive,min=1,dive,nosuch"`
		}], []string{"S", "nosuch"}},
		{"unknown for keys", newOf[struct {
			M map[string]int `validate:"dive,keys,nosuch,endkeys,required"`
		}], []string{"M", "nosuch"}},
		{"unknown as an alternative", newOf[struct {
			S string `validate:"email|nosuch"`
		}], []string{"S", "nosuch"}},
		{"unknown in an embedded struct", newOf[badTagMid], []string{"X", "nosuch"}},
		{"unknown in a struct embedded in an embedded struct", newOf[struct{ badTagMid }], []string{"X", "nosuch"}},
		{"unknown in a struct with a codec of its own", newOf[struct {
			A int `validate:"gte=0"`
			C badTagCodec
		}], []string{"X", "nosuch"}},
		{"a number that is none", newOf[struct {
			A int `validate:"gte=abc"`
		}], []string{"A", "gte=abc"}},
		{"a number that is none, hidden behind a rule that fails first", newOf[struct {
			A string `validate:"len=5,gte=abc"`
		}], []string{"A", "gte=abc"}},
		{"a number that is too large", newOf[struct {
			A int `validate:"gte=99999999999999999999"`
		}], []string{"A", "gte=9"}},
		{"gte on a bool", newOf[struct {
			A bool `validate:"omitempty,gte=1"`
		}], []string{"A", "gte=1"}},
		{"oneof on a float", newOf[struct {
			A float64 `validate:"omitempty,oneof=1 2"`
		}], []string{"A", "oneof"}},
		{"email on a number is refused or never right", newOf[struct {
			A int `validate:"min="`
		}], []string{"A", "min="}},
		{"dive on a string", newOf[struct {
			A string `validate:"dive,required"`
		}], []string{"A", "dive"}},
		{"dive on a nil pointer to a string", newOf[struct {
			A *string `validate:"dive,required"`
		}], []string{"A", "dive"}},
		{"keys without dive", newOf[struct {
			M map[string]int `validate:"keys,alpha,endkeys"`
		}], []string{"M", "keys"}},
		{"endkeys without keys", newOf[struct {
			M map[string]int `validate:"dive,endkeys,required"`
		}], []string{"M", "keys"}},
		{"a comma too many", newOf[struct {
			A int `validate:"required,"`
		}], []string{"A", "required,"}},
		{"two commas", newOf[struct {
			A int `validate:"required,,gte=1"`
		}], []string{"A"}},
		{"a bar too many", newOf[struct {
			A string `validate:"email|"`
		}], []string{"A"}},
		{"omitempty as an alternative", newOf[struct {
			A string `validate:"omitempty|email"`
		}], []string{"A", "omitempty"}},
		{"a blank in front", newOf[struct {
			A int `validate:"required, gte=1"`
		}], []string{"A", "gte=1"}},
		{"unique elements that cannot be compared", newOf[struct {
			A []map[string]int `validate:"unique"`
		}], []string{"A", "unique"}},
		{"unique by a field that does not exist", newOf[struct {
			A []badTagElement `validate:"unique=Missing"`
		}], []string{"A", "unique"}},
		{"required_if with an odd number of words", newOf[struct {
			A string `validate:"required_if=B"`
			B string
		}], []string{"A", "required_if=B"}},
		{"required_if with a field that does not exist", newOf[struct {
			A string `validate:"required_if=Missing x"`
		}], []string{"A", "Missing"}},
		{"required_if with a field further in that does not exist", newOf[struct {
			A string `validate:"required_if=B.Missing x"`
			B goodTagAddr
		}], []string{"A", "Missing"}},
		{"required_if with a second field that does not exist", newOf[struct {
			A string `validate:"required_if=B x Missing y"`
			B string
		}], []string{"A", "Missing"}},
		{"required_if with a value that is no number", newOf[struct {
			A string `validate:"required_if=B abc"`
			B int
		}], []string{"A", "required_if=B abc"}},
		{"required_if with a bad value behind a pair that does not match", newOf[struct {
			A string `validate:"required_if=B admin C abc"`
			B string
			C int
		}], []string{"A", "required_if"}},
		{"required_with a field that does not exist", newOf[struct {
			A string `validate:"required_with=Missing"`
		}], []string{"A", "Missing"}},
		{"required_without a second field that does not exist", newOf[struct {
			A string `validate:"required_without=B Missing"`
			B string
		}], []string{"A", "Missing"}},
		{"eqfield without a field", newOf[struct {
			A string `validate:"eqfield"`
		}], []string{"A", "eqfield"}},
		{"eqfield of a field that does not exist", newOf[struct {
			A string `validate:"eqfield=Missing"`
		}], []string{"A", "Missing"}},
		{"eqcsfield of a field that does not exist", newOf[struct {
			A string `validate:"eqcsfield=B.Missing"`
			B goodTagAddr
		}], []string{"A", "Missing"}},
		{"gt on a pointer to a type with a codec", newOf[struct {
			A *big.Int `validate:"omitempty,gt=0"`
		}], []string{"A", "gt=0"}},
		{"gt on a type with a codec", newOf[struct {
			A big.Int `validate:"omitempty,gt=0"`
		}], []string{"A", "gt=0"}},
		{"len on elements with a codec", newOf[struct {
			A []*url.URL `validate:"dive,len=3"`
		}], []string{"A", "len=3"}},
		{"datetime on a number", newOf[struct {
			A int `validate:"datetime=2006"`
		}], []string{"A", "datetime"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refusedNaming(t, tt.new(t), tt.want...)
		})
	}
}

func TestNewNamesThePathToABadValidateTagAndTheMend(t *testing.T) {
	type order struct {
		Items []struct {
			N int `validate:"nosuch"`
		}
	}
	refused(t, newOf[order](t), "order.Items", "N")
	refused(t, newOf[struct {
		A int `validate:"nosuch"`
	}](t), "T.A")
}

// stores expects that New takes T and that data can be stored in it, so that its
// tags are not only accepted but right.
func stores[T any](data T) func(*testing.T) {
	return func(t *testing.T) { roundTrip(t, &data, func(_, _ any) bool { return true }) }
}

func TestNewAcceptsValidateTagsThatAreRight(t *testing.T) {
	one := 1
	for name, f := range map[string]func(*testing.T){
		"required": stores(struct {
			A int `validate:"required"`
		}{1}),
		"email": stores(struct {
			A string `validate:"required,email"`
		}{"a@example.com"}),
		"omitempty,email": stores(struct {
			A string `validate:"omitempty,email"`
			B int
		}{"", 1}),
		"uuid": stores(struct {
			A string `validate:"uuid"`
		}{"123e4567-e89b-42d3-a456-426614174000"}),
		"uuid4|ulid": stores(struct {
			A string `validate:"uuid4|ulid"`
		}{"123e4567-e89b-42d3-a456-426614174000"}),
		"oneof": stores(struct {
			A string `validate:"oneof=admin user 'super user'"`
		}{"super user"}),
		"oneof of numbers": stores(struct {
			A int `validate:"oneof=1 2 3"`
		}{2}),
		"unique": stores(struct {
			A []string `validate:"unique"`
		}{[]string{"a", "b"}}),
		"unique by field": stores(struct {
			A []goodTagAddr `validate:"unique=City"`
		}{[]goodTagAddr{{City: "a"}, {City: "b"}}}),
		"unique in a map": stores(struct {
			A map[string]int `validate:"unique"`
		}{map[string]int{"a": 1, "b": 2}}),
		"datetime": stores(struct {
			A string `validate:"datetime=2006-01-02"`
		}{"2026-11-23"}),
		"min and max of a slice, dive": stores(struct {
			A []string `validate:"min=1,max=3,dive,required,max=5"`
		}{[]string{"a"}}),
		"dive into dive": stores(struct {
			A [][]int `validate:"dive,len=2,dive,gte=1"`
		}{[][]int{{1, 2}}}),
		"keys and values": stores(struct {
			A map[string]int `validate:"omitempty,dive,keys,alpha,max=3,endkeys,gte=1"`
		}{map[string]int{"a": 1}}),
		"keys that are arrays": stores(struct {
			A map[[2]int]string `validate:"dive,keys,dive,gte=0,endkeys,required"`
		}{map[[2]int]string{{1, 2}: "x"}}),
		"keys, then values that are slices": stores(struct {
			A map[string][]string `validate:"dive,keys,alpha,endkeys,min=1,dive,required"`
		}{map[string][]string{"a": {"x"}}}),
		"dive into structs": stores(struct {
			A []struct {
				N int `validate:"gt=0"`
			} `validate:"dive"`
		}{[]struct {
			N int `validate:"gt=0"`
		}{{1}}}),
		"or with parameters": stores(struct {
			A string `validate:"len=3|len=5|eq=none"`
		}{"abcde"}),
		"alias iscolor": stores(struct {
			A string `validate:"iscolor"`
		}{"#ff0000"}),
		"alias country_code": stores(struct {
			A string `validate:"country_code"`
		}{"FR"}),
		"required_with": stores(struct {
			A string `validate:"required_with=B"`
			B string
		}{"a", "b"}),
		"required_without_all": stores(struct {
			A    string `validate:"required_without_all=B C"`
			B, C string
		}{"", "b", ""}),
		"required_if": stores(struct {
			A string `validate:"required_if=B admin C 1"`
			B string
			C int
		}{"a", "admin", 1}),
		"required_if with a value in quotes": stores(struct {
			A string `validate:"required_if=B 'super admin'"`
			B string
		}{"a", "super admin"}),
		"required_if further in": stores(struct {
			A string `validate:"required_if=B.City Bonn"`
			B goodTagAddr
		}{"a", goodTagAddr{City: "Bonn"}}),
		"required_unless": stores(struct {
			A string `validate:"required_unless=B x"`
			B string
		}{"", "x"}),
		"excluded_unless": stores(struct {
			A string `validate:"excluded_unless=B x"`
			B string
		}{"a", "x"}),
		"excluded_with": stores(struct {
			A string `validate:"excluded_with=B"`
			B string
		}{"a", ""}),
		"skip_unless": stores(struct {
			A string `validate:"skip_unless=B x"`
			B string
		}{"", "y"}),
		"eqfield": stores(struct {
			A string `validate:"eqfield=B"`
			B string
		}{"a", "a"}),
		"eqfield of a promoted field": stores(struct {
			goodTagBase
			Again string `validate:"eqfield=Password"`
		}{goodTagBase{"x"}, "x"}),
		"required_with a promoted field": stores(struct {
			goodTagBase
			Again string `validate:"required_with=Password"`
		}{goodTagBase{"x"}, "x"}),
		"gtfield of times": stores(struct {
			A time.Time
			B time.Time `validate:"gtfield=A"`
		}{time.Unix(1, 0), time.Unix(2, 0)}),
		"eqcsfield": stores(struct {
			A string `validate:"eqcsfield=B.City"`
			B goodTagAddr
		}{"x", goodTagAddr{City: "x"}}),
		"nefield of pointers": stores(struct {
			A *int `validate:"omitnil,nefield=B"`
			B *int
		}{&one, nil}),
		"pointer": stores(struct {
			A *int `validate:"omitnil,gte=1"`
		}{&one}),
		"pointer to a struct": stores(struct {
			A *goodTagAddr `validate:"required"`
		}{&goodTagAddr{}}),
		"duration": stores(struct {
			A time.Duration `validate:"min=1s,max=1h"`
		}{time.Minute}),
		"time in the past": stores(struct {
			A time.Time `validate:"lte"`
		}{time.Unix(1, 0)}),
		"structonly": stores(struct {
			A goodTagAddr `validate:"structonly"`
			B int
		}{goodTagAddr{}, 1}),
		"comma in a parameter": stores(struct {
			A string `validate:"excludesall=0x2C0x7C"`
		}{"a"}),
		"netip as a string": stores(struct {
			A string `validate:"ip|cidr|hostname_rfc1123"`
		}{"::1"}),
		"required on a codec": stores(struct {
			A *url.URL   `validate:"required"`
			B netip.Addr `validate:"required"`
		}{mustURL("/"), netip.MustParseAddr("::1")}),
		"omitempty on a codec": stores(struct {
			A *url.URL `validate:"omitempty"`
			B int
		}{nil, 1}),
		"isdefault": stores(struct {
			A int `validate:"isdefault|gt=10"`
		}{11}),
		"bool": stores(struct {
			A bool `validate:"eq=true"`
		}{true}),
		"byte array": stores(struct {
			A [4]byte `validate:"required"`
		}{[4]byte{1}}),
	} {
		t.Run(name, f)
	}
}

func TestFieldsThatAreNotStoredAreNotLookedAt(t *testing.T) {
	type unseen struct {
		N    int
		Ch   chan int     `msgpack:"-"`
		Any  any          `msgpack:"-"`
		mu   sync.Mutex   `msgpack:"-"`
		Self *refusedList `msgpack:"-"`
		Name string       `msgpack:"-" validate:"required"`
		Twin string       `msgpack:"-"`
	}
	u := newTypedSite(t, sessions.Config[unseen]{})
	u.do(func(x *sessions.Session[unseen]) {
		x.Data.mu.Lock()
		x.Data.N, x.Data.Name, x.Data.Any = 1, "here", 2
		x.Data.mu.Unlock()
	})
	if got, reason := u.get(); reason != sessions.ReasonNone || got.N != 1 {
		t.Errorf("got N=%d, %q (%v), want what was stored: a rule of a field that is never stored cannot be broken by its absence", got.N, reason, u.events.of(sessions.EventRefused))
	}
	if res := u.do(func(x *sessions.Session[unseen]) { x.Data.Any, x.Data.Ch = 3, make(chan int) }); len(res.setCookies()) > 0 {
		t.Error("a field that is not stored counted as a change")
	}
}
