package sessions_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/big"
	"net/http"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/vmihailenco/msgpack/v5"
)

// Where a record without extensions has what: a format byte, a header, the length
// of the extensions, flashes, data.
const (
	recordHeader  = 1 + 41 + 1
	schemaInABody = 19
	shapeInABody  = 21
)

// one returns the id of the only record of the site.
func (s *typedSite[T]) one() sessions.ID {
	s.t.Helper()
	ids := slices.Collect(maps.Keys(s.store.records))
	if len(ids) != 1 {
		s.t.Fatalf("got %d records, want 1", len(ids))
	}
	return ids[0]
}

// record returns the bytes of the only record of the site.
func (s *typedSite[T]) record() []byte {
	s.t.Helper()
	return bytes.Clone(s.store.records[s.one()].Data)
}

// data returns the encoded T in the only record, which has no flashes.
func (s *typedSite[T]) data() []byte {
	s.t.Helper()
	b := s.record()
	if b[0] != 0x11 || b[recordHeader] != 0x90 {
		s.t.Fatalf("got a record of format %#x with flashes %#x, want 0x11 and none", b[0], b[recordHeader])
	}
	return b[recordHeader+1:]
}

// plant replaces the encoded T in the only record, and its schema version unless
// that is below 0. The shape in it is that of another type.
func (s *typedSite[T]) plant(schema int, data []byte) {
	s.t.Helper()
	id := s.one()
	rec := s.store.records[id]
	b := append(bytes.Clone(rec.Data[:recordHeader]), 0x90)
	if schema >= 0 {
		binary.BigEndian.PutUint16(b[1+schemaInABody:], uint16(schema))
	}
	b[1+shapeInABody] ^= 0xff
	rec.Data = append(b, data...)
	s.store.put(id, rec)
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	b, err := msgpack.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// planted makes a site over a plain store with a stored session, whose encoded T
// is data of a schema version.
func planted[T any](t testing.TB, cfg sessions.Config[T], first T, schema int, data []byte) *typedSite[T] {
	t.Helper()
	cfg.Store = newPlainStore()
	s := newTypedSite(t, cfg)
	s.set(first)
	s.plant(schema, data)
	return s
}

// succeed makes a site of another version of the program that takes over the
// store and the visitor.
func succeed[New, Old any](t testing.TB, old *typedSite[Old], cfg sessions.Config[New]) *typedSite[New] {
	t.Helper()
	if old.store != nil {
		cfg.Store = old.store
	}
	s := newTypedSite(t, cfg)
	s.cookies = maps.Clone(old.cookies)
	return s
}

type (
	looseAge  struct{ Age int }
	strictAge struct {
		Age int `validate:"gte=18"`
	}
)

func eachTypedMode(t *testing.T, f func(t *testing.T, store sessions.Store)) {
	t.Run("cookie", func(t *testing.T) { f(t, nil) })
	t.Run("store", func(t *testing.T) { f(t, newPlainStore()) })
}

func TestDataThatBreaksATightenedRuleIsSetAside(t *testing.T) {
	eachTypedMode(t, func(t *testing.T, store sessions.Store) {
		for name, cfg := range map[string]sessions.Config[strictAge]{"of a tag": {}, "of Config.Validate": {
			Validate: func(s *strictAge) error {
				if s.Age < 18 {
					return errors.New("too young")
				}
				return nil
			},
		}} {
			t.Run(name, func(t *testing.T) {
				old := newTypedSite(t, sessions.Config[looseAge]{Store: store})
				old.set(looseAge{17})
				s := succeed(t, old, cfg)
				var before []byte
				if old.store != nil {
					before = old.record()
				}
				got, reason := s.get()
				if reason != sessions.ReasonInvalid || got != (strictAge{}) {
					t.Errorf("got %+v, %q, want a new session, %q", got, reason, sessions.ReasonInvalid)
				}
				refusals := s.events.of(sessions.EventRefused)
				if len(refusals) != 1 || refusals[0].Reason != sessions.ReasonInvalid || !errors.Is(refusals[0].Err, sessions.ErrInvalid) {
					t.Fatalf("got events %v, want one that is refused as invalid", refusals)
				}
				if strings.Contains(refusals[0].Err.Error(), "17") {
					t.Errorf("the event shows the value: %v", refusals[0].Err)
				}
				if old.store != nil {
					if !bytes.Equal(before, old.record()) {
						t.Error("the old record changed, want it left alone")
					}
					s.set(strictAge{20}) // under a new id
					clear(old.store.records)
				}
			})
			if p, ok := store.(*plainStore); ok {
				clear(p.records)
			}
		}
	})
}

func TestTheRecordSetAsideSurvivesTheNewSession(t *testing.T) {
	old := newTypedSite(t, sessions.Config[looseAge]{Store: newPlainStore()})
	old.set(looseAge{17})
	id, before := old.one(), old.record()
	s := succeed(t, old, sessions.Config[strictAge]{})
	s.set(strictAge{20})
	if rec := old.store.records[id]; len(old.store.records) != 2 || !bytes.Equal(rec.Data, before) {
		t.Errorf("got %d records, want the old one as it was and a new one", len(old.store.records))
	}
	t.Run("and goes with a Destroy", func(t *testing.T) {
		s := succeed(t, old, sessions.Config[strictAge]{})
		s.do(func(x *sessions.Session[strictAge]) { x.Destroy() })
		if _, ok := old.store.records[id]; ok {
			t.Error("the record that the cookie names is still there after Destroy")
		}
	})
}

type ruled struct {
	Age    int               `msgpack:"a" validate:"gte=18"`
	Mail   string            `msgpack:"m" validate:"omitempty,email"`
	Labels map[string]string `msgpack:"l" validate:"dive,keys,max=40,endkeys,max=8"`
	List   []string          `msgpack:"s" validate:"dive,max=8"`
	In     struct {
		Zip string `validate:"omitempty,len=5|len=9"`
	} `msgpack:"i"`
}

func TestDataThatBreaksARuleIsNotStored(t *testing.T) {
	fine := ruled{Age: 20}
	secret := "hunter2-is-secret"
	for _, tt := range []struct {
		name string
		edit func(*ruled)
		want []string
	}{
		{"a number", func(r *ruled) { r.Age = 17 }, []string{"ruled.Age", "gte=18"}},
		{"a string", func(r *ruled) { r.Mail = secret }, []string{"ruled.Mail", "email"}},
		{"a value in a map", func(r *ruled) { r.Labels = map[string]string{"hunter2": secret} }, []string{"ruled.Labels[]", "max=8"}},
		{"a value under a key with a bracket", func(r *ruled) { r.Labels = map[string]string{"x]hunter2": secret} }, []string{"ruled.Labels[]", "max=8"}},
		{"a value under a key with brackets", func(r *ruled) { r.Labels = map[string]string{"[hunter2][hunter2]": secret} }, []string{"ruled.Labels[]", "max=8"}},
		{"a value under a key of lines", func(r *ruled) { r.Labels = map[string]string{"a\n]\nhunter2": secret} }, []string{"ruled.Labels[]", "max=8"}},
		{"a value under a long key", func(r *ruled) { r.Labels = map[string]string{strings.Repeat("k", 300) + "hunter2": secret} }, []string{"ruled.Labels[]"}},
		{"a key of a map", func(r *ruled) { r.Labels = map[string]string{secret + secret + secret: ""} }, []string{"ruled.Labels[]", "max=40"}},
		{"an element of a slice", func(r *ruled) { r.List = []string{"a", secret} }, []string{"ruled.List[]", "max=8"}},
		{"further in, of alternatives", func(r *ruled) { r.In.Zip = "hunter2" }, []string{"ruled.In.Zip", "len=5|len=9"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachTypedMode(t, func(t *testing.T, store sessions.Store) {
				s := newTypedSite(t, sessions.Config[ruled]{Store: store})
				s.set(fine)
				var before []byte
				if s.store != nil {
					before = s.record()
				}
				res := s.do(func(x *sessions.Session[ruled]) { tt.edit(&x.Data) })
				if res.StatusCode != http.StatusInternalServerError || len(res.setCookies()) > 0 {
					t.Errorf("got status %d and cookies %q, want 500 and none", res.StatusCode, res.setCookies())
				}
				if !errors.Is(s.err, sessions.ErrInvalid) {
					t.Fatalf("got %v, want ErrInvalid", s.err)
				}
				for _, want := range tt.want {
					if !strings.Contains(s.err.Error(), want) {
						t.Errorf("got %q, want it to name %q", s.err, want)
					}
				}
				if strings.Contains(s.err.Error(), "hunter2") {
					t.Errorf("got %q, which shows a value or a key", s.err)
				}
				if s.store != nil && !bytes.Equal(before, s.record()) {
					t.Error("the stored record changed")
				}
				if got, reason := s.get(); got.Age != 20 || reason != sessions.ReasonNone {
					t.Errorf("got %+v, %q, want what was stored before", got, reason)
				}
				err := error(nil)
				s.do(func(x *sessions.Session[ruled]) {
					tt.edit(&x.Data)
					err = x.Save(context.Background())
					x.Data = fine
				})
				if !errors.Is(err, sessions.ErrInvalid) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("Save: got %v, want ErrInvalid without a value", err)
				}
			})
		})
	}
}

type needy struct {
	UserID int    `validate:"required"`
	Name   string `validate:"required"`
	Cart   map[string]int
}

func TestTheZeroDataIsValidAndMayCarryAFlash(t *testing.T) {
	eachTypedMode(t, func(t *testing.T, store sessions.Store) {
		calls := 0
		s := newTypedSite(t, sessions.Config[needy]{Store: store, Validate: func(*needy) error { calls++; return errors.New("never valid") }})
		if res := s.do(func(x *sessions.Session[needy]) { x.Flash("info", "hello") }); res.StatusCode != http.StatusOK || len(res.setCookies()) != 1 {
			t.Fatalf("got status %d (%v), cookies %q, want 200 and one", res.StatusCode, s.err, res.setCookies())
		}
		s.do(func(x *sessions.Session[needy]) {
			if got := x.Flashes(); len(got) != 1 || got[0].Message != "hello" || x.Reason() != sessions.ReasonNone {
				t.Errorf("got %v, %q, want the message in a loaded session", got, x.Reason())
			}
		})
		if res := s.do(func(x *sessions.Session[needy]) { x.Data.UserID = 1 }); res.StatusCode != http.StatusInternalServerError {
			t.Errorf("once anything is set, got status %d, want 500", res.StatusCode)
		}
	})
}

// The visitor of whom nothing is known stays one when the type gets a field.
func TestTheZeroDataOfAnOlderTypeIsValid(t *testing.T) {
	type before struct{ UserID int }
	eachTypedMode(t, func(t *testing.T, store sessions.Store) {
		old := newTypedSite(t, sessions.Config[before]{Store: store})
		old.do(func(x *sessions.Session[before]) { x.Flash("info", "hello") })
		s := succeed(t, old, sessions.Config[needy]{})
		s.do(func(x *sessions.Session[needy]) {
			if got := x.Flashes(); len(got) != 1 || x.Reason() != sessions.ReasonNone {
				t.Errorf("got %v, %q (%v), want the message in a loaded session: its data encodes as that of T{}", got, x.Reason(), s.events.of(sessions.EventRefused))
			}
		})
	})
}

func TestValidateRunsAfterTheTagsAndNamesItsError(t *testing.T) {
	own := errors.New("quota exceeded")
	s := newTypedSite(t, sessions.Config[strictAge]{Validate: func(a *strictAge) error {
		if a.Age > 99 {
			return own
		}
		return nil
	}})
	s.set(strictAge{30})
	if res := s.do(func(x *sessions.Session[strictAge]) { x.Data.Age = 100 }); res.StatusCode != http.StatusInternalServerError {
		t.Errorf("got status %d, want 500", res.StatusCode)
	}
	if !errors.Is(s.err, sessions.ErrInvalid) || !errors.Is(s.err, own) {
		t.Errorf("got %v, want ErrInvalid and the error of Validate", s.err)
	}
}

type (
	upToNine struct {
		N int `validate:"max=9"`
	}
	RuledBase struct {
		B int `validate:"max=9"`
	}
	valued          struct{ N int }
	ruledEverywhere struct {
		Free string
		Seen time.Time
		Own  int `validate:"max=9"`
		In   struct {
			Deep struct {
				N int `validate:"max=9"`
			}
		}
		First  upToNine
		Second upToNine
		To     *upToNine
		List   []upToNine          `validate:"dive"`
		Map    map[string]upToNine `validate:"dive"`
		Valued valued
		RuledBase
	}
)

func (v valued) ValidatorValue() any { return upToNine(v) }

// validator is told of the fields in which there is nothing to check.
func TestRulesHoldWhereverTheyStand(t *testing.T) {
	for name, edit := range map[string]func(*ruledEverywhere){
		"in the struct":            func(x *ruledEverywhere) { x.Own = 10 },
		"two structs further in":   func(x *ruledEverywhere) { x.In.Deep.N = 10 },
		"in a struct's field":      func(x *ruledEverywhere) { x.First.N = 10 },
		"in a second one":          func(x *ruledEverywhere) { x.Second.N = 10 },
		"behind a pointer":         func(x *ruledEverywhere) { x.To = &upToNine{10} },
		"in a list":                func(x *ruledEverywhere) { x.List = []upToNine{{1}, {10}} },
		"in a map":                 func(x *ruledEverywhere) { x.Map = map[string]upToNine{"a": {10}} },
		"of what a Valuer returns": func(x *ruledEverywhere) { x.Valued.N = 10 },
		"in an embedded struct":    func(x *ruledEverywhere) { x.B = 10 },
	} {
		t.Run(name, func(t *testing.T) {
			s := newTypedSite(t, sessions.Config[ruledEverywhere]{})
			s.set(ruledEverywhere{Free: "anything", Seen: time.Now(), Own: 9})
			if res := s.do(func(x *sessions.Session[ruledEverywhere]) { edit(&x.Data) }); res.StatusCode != http.StatusInternalServerError || !errors.Is(s.err, sessions.ErrInvalid) {
				t.Errorf("got %d, %v, want 500 for ErrInvalid", res.StatusCode, s.err)
			}
		})
	}
}

type (
	even    int
	spelled struct{ S string }
	pointed struct {
		N       even `validate:"omitempty,validateFn=IsEven"`
		spelled `validate:"omitempty,uuid"`
	}
)

func (e *even) IsEven() bool { return *e%2 == 0 }

func (s spelled) String() string { return s.S }

// Of a copy of the struct, validator finds neither the methods with a pointer
// receiver nor those of an embedded struct that is not exported.
func TestRulesCallTheMethodsOfFields(t *testing.T) {
	const uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	s := newTypedSite(t, sessions.Config[pointed]{})
	fine := pointed{N: 2, spelled: spelled{uuid}}
	s.set(fine)
	if got, reason := s.get(); got != fine || reason != sessions.ReasonNone {
		t.Errorf("got %+v, %q, want what was stored", got, reason)
	}
	for field, edit := range map[string]func(*pointed){
		"pointed.N":       func(x *pointed) { x.N = 3 },
		"pointed.spelled": func(x *pointed) { x.S = "none" },
	} {
		res := s.do(func(x *sessions.Session[pointed]) { edit(&x.Data) })
		if res.StatusCode != http.StatusInternalServerError || !errors.Is(s.err, sessions.ErrInvalid) || !strings.Contains(s.err.Error(), field) {
			t.Errorf("%s: got %d, %v, want 500 for ErrInvalid that names it", field, res.StatusCode, s.err)
		}
	}
}

// Panics of the application's code.

type (
	fragile struct {
		N      int
		Binary fragileBinary
		Pack   fragilePack
	}
	fragileBinary struct{ mode byte } // 'e' panics when it is encoded, 'd' when decoded
	fragilePack   struct{ mode string }
)

func (f fragileBinary) MarshalBinary() ([]byte, error) {
	if f.mode == 'e' {
		panic("hunter2 in MarshalBinary")
	}
	return []byte{f.mode}, nil
}

func (f *fragileBinary) UnmarshalBinary(b []byte) error {
	if len(b) == 1 && b[0] == 'd' {
		panic("hunter2 in UnmarshalBinary")
	}
	if len(b) == 1 {
		f.mode = b[0]
	}
	return nil
}

func (f fragilePack) EncodeMsgpack(e *msgpack.Encoder) error {
	if f.mode == "e" {
		panic(errors.New("hunter2 in EncodeMsgpack"))
	}
	return e.EncodeString(f.mode)
}

func (f *fragilePack) DecodeMsgpack(d *msgpack.Decoder) (err error) {
	if f.mode, err = d.DecodeString(); f.mode == "d" {
		var none []int
		_ = none[len("hunter2")] // a runtime error
	}
	return err
}

func TestAPanicOnSaveIsAnError(t *testing.T) {
	boom := func(when int, n int) {
		if n == when {
			panic(fmt.Sprintf("hunter2 at %d", n))
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*sessions.Config[fragile])
		edit   func(*fragile)
	}{
		{"of Validate", func(c *sessions.Config[fragile]) { c.Validate = func(f *fragile) error { boom(66, f.N); return nil } }, func(f *fragile) { f.N = 66 }},
		{"of Owner", func(c *sessions.Config[fragile]) { c.Owner = func(f *fragile) string { boom(66, f.N); return "" } }, func(f *fragile) { f.N = 66 }},
		{"of MarshalBinary", nil, func(f *fragile) { f.Binary.mode = 'e' }},
		{"of EncodeMsgpack", nil, func(f *fragile) { f.Pack.mode = "e" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, store := range []sessions.Store{nil, new(sessions.MemoryStore)} {
				cfg := sessions.Config[fragile]{Store: store}
				if tt.change != nil {
					tt.change(&cfg)
				}
				if cfg.Owner != nil && store == nil {
					continue
				}
				s := newTypedSite(t, cfg)
				s.set(fragile{N: 1})
				res := s.do(func(x *sessions.Session[fragile]) { tt.edit(&x.Data) })
				if res.StatusCode != http.StatusInternalServerError || len(res.setCookies()) > 0 {
					t.Errorf("got status %d, cookies %q, want 500 and none", res.StatusCode, res.setCookies())
				}
				if s.err == nil || strings.Contains(s.err.Error(), "hunter2") {
					t.Errorf("got %v, want an error without what the panic said", s.err)
				}
				if got, reason := s.get(); got.N != 1 || reason != sessions.ReasonNone {
					t.Errorf("got %+v, %q, want what was stored before", got, reason)
				}
				s.do(func(x *sessions.Session[fragile]) {
					tt.edit(&x.Data)
					x.Update(func(*fragile) {})
					if err := x.Save(context.Background()); err == nil {
						t.Error("Save: got no error")
					}
					x.Destroy()
				})
				if len(s.cookies) > 0 || s.err != nil {
					t.Errorf("got cookies %v, error %v, want the session destroyed all the same", s.cookies, s.err)
				}
			}
		})
	}
}

func TestAPanicOnLoadSetsTheSessionAside(t *testing.T) {
	data := func(n int, binary, pack string) []byte {
		return encoded(t, map[string]any{"N": n, "Binary": []byte(binary), "Pack": pack})
	}
	panics := func(f *fragile) error {
		if f.N == 66 {
			panic("hunter2")
		}
		return nil
	}
	for _, tt := range []struct {
		name   string
		cfg    sessions.Config[fragile]
		schema int
		data   []byte
		want   sessions.Reason
	}{
		{"of Validate", sessions.Config[fragile]{Validate: panics}, 0, data(66, "x", "x"), sessions.ReasonInvalid},
		{"of UnmarshalBinary", sessions.Config[fragile]{}, 0, data(1, "d", "x"), sessions.ReasonUndecodable},
		{"of DecodeMsgpack", sessions.Config[fragile]{}, 0, data(1, "x", "d"), sessions.ReasonUndecodable},
		{"of an upgrade", sessions.Config[fragile]{Version: 1, Upgrades: []sessions.Upgrade{sessions.From(0, func(f fragile) (fragile, error) { return f, panics(&f) })}}, 0, data(66, "x", "x"), sessions.ReasonUndecodable},
		{"of the decoder of an old type", sessions.Config[fragile]{Version: 1, Upgrades: []sessions.Upgrade{sessions.From(0, func(f fragile) (fragile, error) { return f, nil })}}, 0, data(1, "d", "x"), sessions.ReasonUndecodable},
		{"of the encoder after an upgrade", sessions.Config[fragile]{Version: 1, Upgrades: []sessions.Upgrade{sessions.From(0, func(f fragile) (fragile, error) {
			f.Binary.mode = 'e'
			return f, nil
		})}}, 0, data(1, "x", "x"), sessions.ReasonUndecodable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := planted(t, tt.cfg, fragile{N: 1}, tt.schema, tt.data)
			before := s.record()
			got, reason := s.get()
			if reason != tt.want || got != (fragile{}) {
				t.Errorf("got %+v, %q, want a new session, %q", got, reason, tt.want)
			}
			if !bytes.Equal(before, s.record()) {
				t.Error("the record changed, want it left alone")
			}
			for _, e := range s.events.of(sessions.EventRefused) {
				if strings.Contains(e.Err.Error(), "hunter2") {
					t.Errorf("the event shows what the panic said: %v", e.Err)
				}
			}
			s.do(func(x *sessions.Session[fragile]) { x.Destroy() })
			if len(s.store.records) > 0 {
				t.Error("the record is still there after Destroy")
			}
		})
	}
}

// A value that decodes but whose encoder panics is what only a new version of
// the codec can make. To read it is no save.
func TestReadingWhatCannotBeEncodedAnyMoreIsNoError(t *testing.T) {
	s := planted(t, sessions.Config[fragile]{}, fragile{N: 1}, 0, encoded(t, map[string]any{"N": 2, "Binary": []byte("e")}))
	before := s.record()
	if res := s.do(func(*sessions.Session[fragile]) {}); res.StatusCode != http.StatusOK {
		t.Errorf("got status %d (%v), want 200: nothing was changed", res.StatusCode, s.err)
	}
	if !bytes.Equal(before, s.record()) {
		t.Error("the record changed")
	}
}

func TestAPanicOfImportIsNoSession(t *testing.T) {
	s := newTypedSite(t, sessions.Config[fragile]{
		Import:        func(*http.Request) (fragile, bool) { panic("hunter2") },
		ImportCookies: []http.Cookie{{Name: "old"}},
	})
	if got, reason := s.get(); got != (fragile{}) || reason != sessions.ReasonNoCookie {
		t.Errorf("got %+v, %q, want a new session", got, reason)
	}
	for _, e := range s.events.of(sessions.EventRefused) {
		if strings.Contains(e.Err.Error(), "hunter2") {
			t.Errorf("the event shows what the panic said: %v", e.Err)
		}
	}
}

func TestAPanicOfOnEventUndoesNothing(t *testing.T) {
	eachTypedMode(t, func(t *testing.T, store sessions.Store) {
		s := newTypedSite(t, sessions.Config[looseAge]{Store: store, OnEvent: func(context.Context, sessions.Event) { panic("hunter2") }})
		s.set(looseAge{1})
		if got, _ := s.get(); got.Age != 1 {
			t.Errorf("got %+v, want what was stored", got)
		}
		s.do(func(x *sessions.Session[looseAge]) { x.Destroy() })
		if len(s.cookies) > 0 {
			t.Error("the cookie is still there after Destroy")
		}
	})
}

// Schema versions.

type (
	userV0 struct{ Name string }
	userV1 struct{ First, Last string }
	userV2 struct {
		First, Last string
		Words       int
	}
	userV3 struct {
		Full  string `validate:"max=30"`
		Words int
	}
)

var userUpgrades = []sessions.Upgrade{
	sessions.From(2, func(u userV2) (userV3, error) {
		if u.First == "fail" {
			return userV3{}, errors.New("cannot upgrade")
		}
		return userV3{Full: u.First + " " + u.Last, Words: u.Words}, nil
	}),
	sessions.From(0, func(u userV0) (userV1, error) {
		first, last, _ := strings.Cut(u.Name, " ")
		return userV1{first, last}, nil
	}),
	sessions.From(1, func(u userV1) (userV2, error) { return userV2{u.First, u.Last, 2}, nil }),
}

func TestOlderDataGoesThroughTheUpgrades(t *testing.T) {
	for i, upgrades := range [][]sessions.Upgrade{userUpgrades, {userUpgrades[1], userUpgrades[2], userUpgrades[0]}, {userUpgrades[2], userUpgrades[0], userUpgrades[1]}} {
		cfg := sessions.Config[userV3]{Version: 3, Upgrades: upgrades}
		eachTypedMode(t, func(t *testing.T, store sessions.Store) {
			check := func(s *typedSite[userV3], version int) {
				t.Helper()
				if got, reason := s.get(); reason != sessions.ReasonNone || got != (userV3{"Ada Lovelace", 2}) {
					t.Errorf("order %d, from version %d: got %+v, %q (%v), want it upgraded", i, version, got, reason, s.events.of(sessions.EventRefused))
				}
				if n := len(s.events.of(sessions.EventUpgraded)); n != 1 {
					t.Errorf("order %d, from version %d: got %d events that tell of it, want 1", i, version, n)
				}
			}
			v0 := newTypedSite(t, sessions.Config[userV0]{Store: store})
			v0.set(userV0{"Ada Lovelace"})
			check(succeed(t, v0, cfg), 0)
			v1 := newTypedSite(t, sessions.Config[userV1]{Store: store, Version: 1})
			v1.set(userV1{"Ada", "Lovelace"})
			check(succeed(t, v1, cfg), 1)
			v2 := newTypedSite(t, sessions.Config[userV2]{Store: store, Version: 2})
			v2.set(userV2{"Ada", "Lovelace", 2})
			check(succeed(t, v2, cfg), 2)
		})
	}
}

func TestAnUpgradedValueIsStoredWithTheNextChange(t *testing.T) {
	old := newTypedSite(t, sessions.Config[userV0]{Store: newPlainStore()})
	old.set(userV0{"Ada Lovelace"})
	s := succeed(t, old, sessions.Config[userV3]{Version: 3, Upgrades: userUpgrades})
	before, version := s.record(), s.store.records[s.one()].Version
	for range 3 {
		s.get()
	}
	if !bytes.Equal(before, s.record()) || s.store.records[s.one()].Version != version {
		t.Error("a read stored the upgraded value")
	}
	s.do(func(x *sessions.Session[userV3]) { x.Data.Words++ })
	b := s.record()
	if v := binary.BigEndian.Uint16(b[1+schemaInABody:]); v != 3 {
		t.Errorf("got a record of version %d after a change, want 3", v)
	}
	s.events.reset()
	if got, _ := s.get(); got != (userV3{"Ada Lovelace", 3}) {
		t.Errorf("got %+v, want the upgraded value with the change", got)
	}
	if e := s.events.of(sessions.EventUpgraded); len(e) > 0 {
		t.Errorf("got %v, want no upgrade any more", e)
	}
}

func TestAnUpgradeMergesWithAChangeOfTheOldProgram(t *testing.T) {
	old := newTypedSite(t, sessions.Config[userV0]{Store: newPlainStore()})
	old.set(userV0{"Ada Lovelace"})
	s := succeed(t, old, sessions.Config[userV3]{Version: 3, Upgrades: userUpgrades})
	s.do(func(x *sessions.Session[userV3]) {
		old.set(userV0{"Ada Byron"})
		x.Data.Words = 9
	})
	if got, reason := s.get(); got != (userV3{"Ada Byron", 9}) {
		t.Errorf("got %+v, %q, want both changes", got, reason)
	}
}

func TestDataThatCannotBeUpgradedIsSetAside(t *testing.T) {
	for _, tt := range []struct {
		name string
		data any
		want sessions.Reason
	}{
		{"when the upgrade fails", userV0{"fail now"}, sessions.ReasonUndecodable},
		{"when the old data does not fit the old type", map[string]any{"Name": 5}, sessions.ReasonUndecodable},
		{"when the result breaks a rule", userV0{strings.Repeat("x", 31)}, sessions.ReasonInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := planted(t, sessions.Config[userV3]{Version: 3, Upgrades: userUpgrades}, userV3{Words: 1}, 0, encoded(t, tt.data))
			before := s.record()
			if got, reason := s.get(); reason != tt.want || got != (userV3{}) {
				t.Errorf("got %+v, %q, want a new session, %q", got, reason, tt.want)
			}
			if !bytes.Equal(before, s.record()) {
				t.Error("the record changed, want it left alone")
			}
		})
	}
	t.Run("when it is older than the first upgrade", func(t *testing.T) {
		s := planted(t, sessions.Config[userV3]{Version: 3, Upgrades: userUpgrades[:1]}, userV3{Words: 1}, 1, encoded(t, userV1{"a", "b"}))
		if _, reason := s.get(); reason != sessions.ReasonUndecodable {
			t.Errorf("got %q, want %q", reason, sessions.ReasonUndecodable)
		}
	})
	t.Run("when there are no upgrades", func(t *testing.T) {
		s := planted(t, sessions.Config[userV3]{Version: 3}, userV3{Words: 1}, 1, encoded(t, userV3{Words: 2}))
		if _, reason := s.get(); reason != sessions.ReasonUndecodable {
			t.Errorf("got %q, want %q", reason, sessions.ReasonUndecodable)
		}
	})
}

func TestNewerDataIsLeftAlone(t *testing.T) {
	eachTypedMode(t, func(t *testing.T, store sessions.Store) {
		for name, use := range map[string]func(*sessions.Session[looseAge]){
			"by a read":         func(*sessions.Session[looseAge]) {},
			"by a write":        func(x *sessions.Session[looseAge]) { x.Data.Age = 5 },
			"by a new id":       func(x *sessions.Session[looseAge]) { x.RegenerateID() },
			"by a longer life":  func(x *sessions.Session[looseAge]) { x.SetLifetime(48 * time.Hour) },
			"by a flash":        func(x *sessions.Session[looseAge]) { x.Flash("a", "b") },
			"by an Update":      func(x *sessions.Session[looseAge]) { x.Update(func(d *looseAge) { d.Age = 5 }) },
			"by a Save":         func(x *sessions.Session[looseAge]) { x.Data.Age = 5; _ = x.Save(context.Background()) },
			"by a look at time": func(x *sessions.Session[looseAge]) { _ = x.ExpiresAt(); _ = x.ID() },
		} {
			t.Run(name, func(t *testing.T) {
				if p, ok := store.(*plainStore); ok {
					clear(p.records)
				}
				newer := newTypedSite(t, sessions.Config[userV3]{Store: store, Version: 7})
				newer.set(userV3{Full: "Ada"})
				var id sessions.ID
				var before sessions.Record
				if newer.store != nil {
					id = newer.one()
					before = newer.store.records[id]
				}
				s := succeed(t, newer, sessions.Config[looseAge]{Version: 6})
				s.do(func(x *sessions.Session[looseAge]) {
					if x.Reason() != sessions.ReasonNewer || x.Data != (looseAge{}) {
						t.Errorf("got %+v, %q, want a new session, %q", x.Data, x.Reason(), sessions.ReasonNewer)
					}
					use(x)
				})
				if newer.store != nil {
					after := newer.store.records[id]
					if !bytes.Equal(before.Data, after.Data) || before.Version != after.Version || !before.Expires.Equal(after.Expires) {
						t.Error("the newer record changed, want it left alone")
					}
					if got, _ := newer.get(); got.Full != "Ada" {
						t.Errorf("the newer program got %+v, want its data", got)
					}
				}
			})
		}
	})
}

func TestFieldsComeAndGo(t *testing.T) {
	type before struct {
		Kept    int
		Removed map[string][]int
		Renamed string `msgpack:"old"`
		Retyped int
	}
	eachTypedMode(t, func(t *testing.T, store sessions.Store) {
		old := newTypedSite(t, sessions.Config[before]{Store: store})
		old.set(before{Kept: 7, Removed: map[string][]int{"a": {1}}, Renamed: "x", Retyped: 1})
		t.Run("unknown ones are ignored and missing ones are zero", func(t *testing.T) {
			type after struct {
				Added   []string
				Kept    int
				Renamed string
				Alias   string `msgpack:"new,alias:old"`
			}
			if got, reason := succeed(t, old, sessions.Config[after]{}).get(); reason != sessions.ReasonNone || got.Kept != 7 || got.Added != nil || got.Renamed != "" || got.Alias != "x" {
				t.Errorf("got %+v, %q, want Kept=7 and Alias=x", got, reason)
			}
		})
		t.Run("one of another kind sets the session aside", func(t *testing.T) {
			type after struct {
				Kept    int
				Retyped string
			}
			if got, reason := succeed(t, old, sessions.Config[after]{}).get(); reason != sessions.ReasonUndecodable || got != (after{}) {
				t.Errorf("got %+v, %q, want a new session, %q", got, reason, sessions.ReasonUndecodable)
			}
		})
		t.Run("one that widens keeps its value", func(t *testing.T) {
			type after struct {
				Kept    int64
				Retyped float64
			}
			if got, reason := succeed(t, old, sessions.Config[after]{}).get(); reason != sessions.ReasonNone || got != (after{7, 1}) {
				t.Errorf("got %+v, %q, want 7 and 1", got, reason)
			}
		})
		t.Run("a pointer of the same kind keeps its value", func(t *testing.T) {
			type after struct{ Kept *int }
			if got, reason := succeed(t, old, sessions.Config[after]{}).get(); reason != sessions.ReasonNone || got.Kept == nil || *got.Kept != 7 {
				t.Errorf("got %+v, %q, want 7", got, reason)
			}
		})
	})
	t.Run("a nil time where there was a pointer to one", func(t *testing.T) {
		type before struct {
			N  int
			At *time.Time
		}
		type after struct {
			N  int
			At time.Time
		}
		eachTypedMode(t, func(t *testing.T, store sessions.Store) {
			old := newTypedSite(t, sessions.Config[before]{Store: store})
			old.set(before{N: 1})
			s := succeed(t, old, sessions.Config[after]{})
			if _, reason := s.get(); reason != sessions.ReasonUndecodable {
				t.Errorf("got %q, want %q: a decoder panics there", reason, sessions.ReasonUndecodable)
			}
		})
	})
}

func TestANumberThatDoesNotFitIsSetAside(t *testing.T) {
	type wide struct{ A int64 }
	type wideUnsigned struct{ A uint64 }
	check := func(t *testing.T, reason sessions.Reason, got any, bad bool) {
		t.Helper()
		if want := map[bool]sessions.Reason{true: sessions.ReasonUndecodable}[bad]; reason != want {
			t.Errorf("got %v, %q, want %q", got, reason, want)
		}
	}
	eachTypedMode(t, func(t *testing.T, store sessions.Store) {
		for _, a := range []int64{-1, 1, 127, 128, -128, -129, 255, 256, 300, 32767, 32768, -32769, 65535, 65536, math.MaxInt32, math.MaxInt32 + 1, math.MinInt32 - 1, math.MaxUint32, math.MaxUint32 + 1, math.MaxInt64, math.MinInt64} {
			old := newTypedSite(t, sessions.Config[wide]{Store: store})
			old.set(wide{a})
			i8, reason := succeed(t, old, sessions.Config[holdsA[int8]]{}).get()
			check(t, reason, i8, int64(int8(a)) != a)
			u8, reason := succeed(t, old, sessions.Config[holdsA[uint8]]{}).get()
			check(t, reason, u8, int64(uint8(a)) != a)
			i16, reason := succeed(t, old, sessions.Config[holdsA[int16]]{}).get()
			check(t, reason, i16, int64(int16(a)) != a)
			u16, reason := succeed(t, old, sessions.Config[holdsA[uint16]]{}).get()
			check(t, reason, u16, int64(uint16(a)) != a)
			i32, reason := succeed(t, old, sessions.Config[holdsA[int32]]{}).get()
			check(t, reason, i32, int64(int32(a)) != a)
			u32, reason := succeed(t, old, sessions.Config[holdsA[uint32]]{}).get()
			check(t, reason, u32, int64(uint32(a)) != a)
			u64, reason := succeed(t, old, sessions.Config[holdsA[uint64]]{}).get()
			check(t, reason, u64, a < 0)
		}
		old := newTypedSite(t, sessions.Config[wideUnsigned]{Store: store})
		old.set(wideUnsigned{math.MaxUint64})
		i64, reason := succeed(t, old, sessions.Config[wide]{}).get()
		check(t, reason, i64, true)
	})
}

type holdsA[V any] struct{ A V }

// The encoding.

func TestReadingManyMapsNeverWrites(t *testing.T) {
	type item struct{ Tags map[string]bool }
	type mapped struct {
		Counts map[string]int
		Names  map[int]string
		Roles  map[[2]int]map[string]item
	}
	data := mapped{map[string]int{}, map[int]string{}, map[[2]int]map[string]item{}}
	for i := range 25 {
		k := fmt.Sprint("key", i)
		data.Counts[k], data.Names[i*i] = i, k
		data.Roles[[2]int{i, -i}] = map[string]item{k: {map[string]bool{"a": true, "b": false, k: true}}, "x" + k: {}}
	}
	for name, cfg := range map[string]sessions.Config[mapped]{"MemoryStore": {Store: new(sessions.MemoryStore)}, "encrypted": {Store: newPlainStore(), Encrypt: true}} {
		t.Run(name, func(t *testing.T) {
			hook := newHookStore(cfg.Store)
			cfg.Store = hook
			s := newTypedSite(t, cfg)
			s.set(data)
			hook.resetCounts()
			for range 100 {
				res := s.do(func(x *sessions.Session[mapped]) {
					x.Data.Counts = maps.Clone(x.Data.Counts) // another order, the same content
					x.Data.Names = maps.Clone(x.Data.Names)
				})
				if len(res.setCookies()) > 0 {
					t.Fatal("a read set a cookie")
				}
			}
			if n := hook.count("Update") + hook.count("Create") + hook.count("Delete"); n > 0 {
				t.Errorf("100 reads wrote %d times, want 0", n)
			}
		})
	}
	t.Run("cookie", func(t *testing.T) {
		type small struct{ Counts map[string]int }
		s := newTypedSite(t, sessions.Config[small]{})
		m := map[string]int{}
		for i := range 100 {
			m[fmt.Sprint(i)] = i
		}
		s.set(small{m})
		for range 100 {
			if res := s.do(func(*sessions.Session[small]) {}); len(res.setCookies()) > 0 {
				t.Fatal("a read set a cookie")
			}
		}
	})
}

func TestEqualValuesHaveEqualBytes(t *testing.T) {
	type item struct{ Tags map[string]bool }
	type mapped struct {
		Counts map[string]int
		Flags  map[string]bool
		Names  map[int16]string
		Roles  map[[2]int]map[string]item
		List   []map[uint8]*item
	}
	make1 := func(order []int) mapped {
		m := mapped{map[string]int{}, map[string]bool{}, map[int16]string{}, map[[2]int]map[string]item{}, []map[uint8]*item{{}}}
		for _, i := range order {
			k := strings.Repeat("k", i)
			m.Counts[k], m.Flags[k], m.Names[int16(i*1000-9000)] = i, i%2 == 0, k
			m.Roles[[2]int{-i, i}] = map[string]item{k: {map[string]bool{"b": true, "a": false}}}
			m.List[0][uint8(i*10)] = &item{map[string]bool{k: true, "z": false}}
		}
		return m
	}
	var orders [2][]int
	for i := range 20 {
		orders[0], orders[1] = append(orders[0], i), append([]int{i}, orders[1]...)
	}
	var want []byte
	for range 10 {
		for _, order := range orders {
			s := newTypedSite(t, sessions.Config[mapped]{Store: newPlainStore()})
			s.set(make1(order))
			if got := s.data(); want == nil {
				want = got
			} else if !bytes.Equal(got, want) {
				t.Fatalf("got %x, want %x", got, want)
			}
		}
	}
}

func TestWhatIsOnlyReadIsNoChange(t *testing.T) {
	type odd struct {
		N        int
		Nil      []string
		Empty    []string
		NilMap   map[string]int
		EmptyMap map[string]int
		Bytes    []byte
		NaN      float64
		NaNs     map[float64]int
		NegZero  float64
		At       time.Time
		Zone     time.Time
		Zero     time.Time
		Ptr      **int
		Small    []string `msgpack:",omitempty"`
		None     chan int `msgpack:"-"`
		lock     func()   `msgpack:"-"`
	}
	zone := time.FixedZone("X", 3600)
	eachTypedMode(t, func(t *testing.T, store sessions.Store) {
		s := newTypedSite(t, sessions.Config[odd]{Store: store})
		s.set(odd{
			N: 1, Empty: []string{}, EmptyMap: map[string]int{}, Bytes: []byte{}, NaN: math.NaN(), NaNs: map[float64]int{math.NaN(): 1},
			NegZero: math.Copysign(0, -1), At: time.Now(), Zone: time.Unix(1e9, 0).In(zone), Small: []string{},
		})
		for name, use := range map[string]func(*odd){
			"a read":                  func(*odd) {},
			"nil for empty":           func(o *odd) { o.Empty, o.EmptyMap, o.Bytes = nil, nil, nil },
			"empty for nil":           func(o *odd) { o.Nil, o.NilMap = []string{}, map[string]int{} },
			"another zone":            func(o *odd) { o.At, o.Zone = o.At.In(zone), o.Zone.UTC() },
			"another NaN of the sort": func(o *odd) { o.NaN = math.NaN() },
			"fields that stay here":   func(o *odd) { o.None, o.lock = make(chan int), func() {} },
			"a change undone":         func(o *odd) { o.N++; o.N-- },
			"a copy":                  func(o *odd) { o.NaNs = maps.Clone(o.NaNs) },
		} {
			if res := s.do(func(x *sessions.Session[odd]) {
				if x.Reason() != sessions.ReasonNone || !math.IsNaN(x.Data.NaN) || !math.Signbit(x.Data.NegZero) {
					t.Errorf("got %+v, %q, want what was stored", x.Data, x.Reason())
				}
				use(&x.Data)
			}); len(res.setCookies()) > 0 {
				t.Errorf("%s: set a cookie", name)
			}
		}
		if s.store != nil && s.store.version != 1 {
			t.Errorf("got %d writes, want 1", s.store.version)
		}
		if res := s.do(func(x *sessions.Session[odd]) { x.Data.NegZero = 0 }); s.store == nil && len(res.setCookies()) != 1 {
			t.Error("0 for -0 is no change, want one: it is stored as other bytes")
		}
		_ = odd{}.lock
	})
	t.Run("a time now keeps no monotonic clock", func(t *testing.T) {
		store := new(sessions.MemoryStore)
		s := newTypedSite(t, sessions.Config[holds[time.Time]]{Store: store})
		now := time.Now()
		s.do(func(x *sessions.Session[holds[time.Time]]) { x.Data.V = now })
		if got, _ := s.get(); !got.V.Equal(now) {
			t.Errorf("got %v, want %v", got.V, now)
		}
	})
}

// Hostile and odd bytes.

type fullHouse struct {
	N    int
	U8   uint8
	I    []int
	B    []byte
	S    string
	M    map[string]int
	At   time.Time
	P    *fullHouseIn
	F    bool
	Ints [2]int
}
type fullHouseIn struct{ X []string }

func TestBytesThatNobodyEncodedAreSetAside(t *testing.T) {
	for name, data := range map[string]string{
		"nothing":                  "",
		"nil":                      "\xc0",
		"an array":                 "\x91\x05",
		"an array of no fields":    "\x90",
		"trailing bytes":           "\x81\xa1N\x05\xde\xad",
		"cut off":                  "\x82\xa1N\x05",
		"a field twice":            "\x82\xa1N\x01\xa1N\x02",
		"nil as a name":            "\x81\xc0\x05",
		"bytes as a name":          "\x81\xc4\x01N\x05",
		"a number as a name":       "\x81\x01\x05",
		"the reserved code":        "\x81\xa1N\xc1",
		"a long array":             "\x81\xa1I\xdd\xff\xff\xff\xff",
		"a long map":               "\x81\xa1M\xdf\xff\xff\xff\xff",
		"long bytes":               "\x81\xa1B\xc6\xff\xff\xff\xff",
		"a long string":            "\x81\xa1S\xdb\xff\xff\xff\xff",
		"300 in a uint8":           "\x81\xa2U8\xcd\x01\x2c",
		"-1 in a uint8":            "\x81\xa2U8\xff",
		"a nil time":               "\x81\xa2At\xc0",
		"a time as a string":       "\x81\xa2At\xa1x",
		"a time of too many ns":    "\x81\xa2At\xd7\xff\xff\xff\xff\xff\x00\x00\x00\x00",
		"a year out of range":      "\x81\xa2At\xc7\x0c\xff\x00\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00",
		"an unknown field twice":   "\x82\xa1x\x01\xa1x\x02",
		"an extension and a map":   "\x81\xa1M\xd7\xff\xdf\xff\xff\xff\xff\x00\x00\x00",
		"an empty extension first": "\x81\xa1M\xc7\x00\x05\x81\xa1b\x01",
		"too many in an array":     "\x81\xa4Ints\x93\x01\x02\x03",
		"a string for a bool":      "\x81\xa1F\xa1x",
		"deep":                     "\x81\xa1x" + strings.Repeat("\x91", 5_000_000) + "\x00",
	} {
		t.Run(name, func(t *testing.T) {
			s := planted(t, sessions.Config[fullHouse]{}, fullHouse{N: 1}, -1, []byte(data))
			before := s.record()
			got, reason := s.get()
			if reason != sessions.ReasonUndecodable || got.N != 0 || got.I != nil || got.M != nil {
				t.Errorf("got %+v, %q, want a new session, %q", got, reason, sessions.ReasonUndecodable)
			}
			if !bytes.Equal(before, s.record()) {
				t.Error("the record changed, want it left alone")
			}
		})
	}
	t.Run("a record of no length", func(t *testing.T) {
		s := planted(t, sessions.Config[fullHouse]{}, fullHouse{N: 1}, -1, nil)
		for n := range recordHeader + 2 {
			rec := s.store.records[s.one()]
			rec.Data = rec.Data[:min(n, len(rec.Data))]
			full := s.store.records[s.one()]
			s.store.put(s.one(), rec)
			if _, reason := s.get(); reason != sessions.ReasonUndecodable {
				t.Errorf("%d bytes: got %q, want %q", n, reason, sessions.ReasonUndecodable)
			}
			s.store.put(s.one(), full)
		}
	})
	t.Run("every single byte changed", func(t *testing.T) {
		at := time.Unix(1e9, 5)
		s := planted(t, sessions.Config[fullHouse]{}, fullHouse{N: 1}, -1,
			encoded(t, fullHouse{N: 300, U8: 200, I: []int{1, -1000}, B: []byte("xy"), S: "abc", M: map[string]int{"k": 9}, At: at, P: &fullHouseIn{[]string{"q"}}}))
		good := s.store.records[s.one()]
		for i := recordHeader; i < len(good.Data); i++ {
			for _, x := range []byte{1, 0x80, 0xff, 0x40} {
				bad := good
				bad.Data = bytes.Clone(good.Data)
				bad.Data[i] ^= x
				s.store.put(s.one(), bad)
				if _, reason := s.get(); reason != sessions.ReasonNone && reason != sessions.ReasonUndecodable {
					t.Errorf("byte %d ^ %#x: got %q", i, x, reason)
				}
			}
		}
	})
}

func TestWhatCouldNotBeLoadedAgainIsTooLarge(t *testing.T) {
	type sparse struct {
		A, B, C, D, E, F, G, H, I, J string `msgpack:",omitempty"`
		K, L, M, N, O, P, Q, R, S, T string `msgpack:",omitempty"`
	}
	type wide struct {
		N    int
		List []sparse
	}
	eachStoreOf := func(f func(t *testing.T, cfg sessions.Config[wide])) {
		t.Run("store", func(t *testing.T) { f(t, sessions.Config[wide]{Store: newPlainStore()}) })
		t.Run("cookie", func(t *testing.T) { f(t, sessions.Config[wide]{}) })
	}
	eachStoreOf(func(t *testing.T, cfg sessions.Config[wide]) {
		s := newTypedSite(t, cfg)
		s.set(wide{N: 1, List: make([]sparse, 500)})
		res := s.do(func(x *sessions.Session[wide]) { x.Data.List = make([]sparse, 3000) })
		if res.StatusCode != http.StatusInternalServerError || !errors.Is(s.err, sessions.ErrTooLarge) {
			t.Fatalf("got status %d, %v, want 500 and ErrTooLarge", res.StatusCode, s.err)
		}
		if got, reason := s.get(); got.N != 1 || len(got.List) != 500 || reason != sessions.ReasonNone {
			t.Errorf("got %d elements, %q, want what was stored before", len(got.List), reason)
		}
	})
	t.Run("a time that no decoder takes", func(t *testing.T) {
		s := newTypedSite(t, sessions.Config[holds[time.Time]]{})
		if res := s.do(func(x *sessions.Session[holds[time.Time]]) {
			x.Data.V = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
		}); res.StatusCode != http.StatusInternalServerError || len(res.setCookies()) > 0 {
			t.Errorf("got status %d, cookies %q, want 500 and none", res.StatusCode, res.setCookies())
		}
	})
	t.Run("all that is saved can be loaded", func(t *testing.T) {
		s := newTypedSite(t, sessions.Config[wide]{Store: newPlainStore()})
		for n := 100; n < 1200; n += 100 {
			res := s.do(func(x *sessions.Session[wide]) { x.Data = wide{N: n, List: make([]sparse, n)} })
			if res.StatusCode != http.StatusOK {
				break
			}
			if got, reason := s.get(); reason != sessions.ReasonNone || len(got.List) != n {
				t.Fatalf("%d elements: got %d, %q, want what was saved", n, len(got.List), reason)
			}
		}
	})
}

// A generated codec: what github.com/tinylib/msgp writes for genSession.

type genSession struct {
	UserID int            `msg:"uid" validate:"gte=0"`
	Name   string         `msg:"name"`
	Seen   time.Time      `msg:"seen"`
	Counts map[string]int `msg:"counts"`
	Tags   []string       `msg:"tags"`
	Local  string         `msg:"-"`
}

var genMarshals, genUnmarshals atomic.Int64

func genAppendString(o []byte, s string) []byte {
	if len(s) < 32 {
		return append(append(o, 0xa0|byte(len(s))), s...)
	}
	return append(append(o, 0xda, byte(len(s)>>8), byte(len(s))), s...)
}

func genAppendInt(o []byte, i int) []byte {
	if i >= 0 && i < 128 {
		return append(o, byte(i))
	}
	return binary.BigEndian.AppendUint64(append(o, 0xd3), uint64(i))
}

// genAppendTime is msgp.AppendTime: extension 5, 8 bytes of seconds and 4 of
// nanoseconds.
func genAppendTime(o []byte, t time.Time) []byte {
	t = t.UTC()
	o = binary.BigEndian.AppendUint64(append(o, 0xc7, 12, 5), uint64(t.Unix()))
	return binary.BigEndian.AppendUint32(o, uint32(t.Nanosecond()))
}

func (z *genSession) MarshalMsg(b []byte) (o []byte, err error) {
	genMarshals.Add(1)
	o = append(b, 0x85)
	o = genAppendInt(genAppendString(o, "uid"), z.UserID)
	o = genAppendString(genAppendString(o, "name"), z.Name)
	o = genAppendTime(genAppendString(o, "seen"), z.Seen)
	o = genAppendString(o, "counts")
	o = binary.BigEndian.AppendUint32(append(o, 0xdf), uint32(len(z.Counts)))
	for k, v := range z.Counts {
		o = genAppendInt(genAppendString(o, k), v)
	}
	o = genAppendString(o, "tags")
	o = binary.BigEndian.AppendUint32(append(o, 0xdd), uint32(len(z.Tags)))
	for _, v := range z.Tags {
		o = genAppendString(o, v)
	}
	return o, nil
}

var errGen = errors.New("msgp: too few bytes left to read object, or of another type")

func genReadLen(b []byte, fix, wide byte) (n int, o []byte, err error) {
	switch {
	case len(b) > 0 && b[0]&0xf0 == fix:
		return int(b[0] & 0x0f), b[1:], nil
	case len(b) > 2 && b[0] == wide:
		return int(binary.BigEndian.Uint16(b[1:])), b[3:], nil
	case len(b) > 4 && b[0] == wide+1:
		return int(binary.BigEndian.Uint32(b[1:])), b[5:], nil
	}
	return 0, b, errGen
}

func genReadString(b []byte) (s string, o []byte, err error) {
	n, head := 0, 1
	switch {
	case len(b) > 0 && b[0]&0xe0 == 0xa0:
		n = int(b[0] & 0x1f)
	case len(b) > 1 && b[0] == 0xd9:
		n, head = int(b[1]), 2
	case len(b) > 2 && b[0] == 0xda:
		n, head = int(binary.BigEndian.Uint16(b[1:])), 3
	default:
		return "", b, errGen
	}
	if len(b) < head+n {
		return "", b, errGen
	}
	return string(b[head : head+n]), b[head+n:], nil
}

func genReadInt(b []byte) (i int, o []byte, err error) {
	switch {
	case len(b) > 0 && b[0] < 0x80:
		return int(b[0]), b[1:], nil
	case len(b) > 8 && (b[0] == 0xd3 || b[0] == 0xcf):
		return int(binary.BigEndian.Uint64(b[1:])), b[9:], nil
	}
	return 0, b, errGen
}

func (z *genSession) UnmarshalMsg(bts []byte) (o []byte, err error) {
	genUnmarshals.Add(1)
	n, bts, err := genReadLen(bts, 0x80, 0xde)
	if err != nil {
		return nil, err
	}
	for ; n > 0; n-- {
		var name string
		if name, bts, err = genReadString(bts); err != nil {
			return nil, err
		}
		var l int
		switch name {
		case "uid":
			z.UserID, bts, err = genReadInt(bts)
		case "name":
			z.Name, bts, err = genReadString(bts)
		case "seen":
			if len(bts) < 15 || !bytes.Equal(bts[:3], []byte{0xc7, 12, 5}) {
				return nil, errGen
			}
			z.Seen = time.Unix(int64(binary.BigEndian.Uint64(bts[3:])), int64(binary.BigEndian.Uint32(bts[11:]))).Local()
			bts = bts[15:]
		case "counts":
			if l, bts, err = genReadLen(bts, 0x80, 0xde); err != nil {
				return nil, err
			}
			z.Counts = make(map[string]int, l)
			for ; l > 0 && err == nil; l-- {
				var k string
				if k, bts, err = genReadString(bts); err == nil {
					z.Counts[k], bts, err = genReadInt(bts)
				}
			}
		case "tags":
			if l, bts, err = genReadLen(bts, 0x90, 0xdc); err != nil {
				return nil, err
			}
			z.Tags = make([]string, l)
			for i := range z.Tags {
				if z.Tags[i], bts, err = genReadString(bts); err != nil {
					return nil, err
				}
			}
		default:
			return nil, errGen
		}
		if err != nil {
			return nil, err
		}
	}
	return bts, nil
}

func TestAGeneratedCodecIsUsed(t *testing.T) {
	if err := newOf[genSession](t); err != nil {
		t.Fatalf("got %v, want the type accepted", err)
	}
	seen := time.Unix(1_700_000_000, 5)
	data := genSession{UserID: 300, Name: "Ada", Seen: seen, Counts: map[string]int{"a": 1, "b": -2, "c": 3}, Tags: []string{"x", ""}, Local: "here"}
	for name, cfg := range map[string]sessions.Config[genSession]{"cookie": {}, "sealed": {Encrypt: true}, "store": {Store: newPlainStore()}, "MemoryStore": {Store: new(sessions.MemoryStore)}} {
		t.Run(name, func(t *testing.T) {
			s := newTypedSite(t, cfg)
			marshals := genMarshals.Load()
			s.set(data)
			if genMarshals.Load() == marshals {
				t.Error("MarshalMsg was not called")
			}
			unmarshals := genUnmarshals.Load()
			got, reason := s.get()
			if genUnmarshals.Load() == unmarshals {
				t.Error("UnmarshalMsg was not called")
			}
			if reason != sessions.ReasonNone || got.UserID != 300 || got.Name != "Ada" || !got.Seen.Equal(seen) || !maps.Equal(got.Counts, data.Counts) || !slices.Equal(got.Tags, data.Tags) || got.Local != "" {
				t.Errorf("got %+v, %q, want %+v without Local", got, reason, data)
			}
			for range 50 { // its maps come in any order
				if res := s.do(func(x *sessions.Session[genSession]) { x.Data.Local = "changed" }); len(res.setCookies()) > 0 {
					t.Fatal("a read set a cookie")
				}
			}
			if s.store != nil && s.store.version != 1 {
				t.Errorf("got %d writes, want 1", s.store.version)
			}
			if res := s.do(func(x *sessions.Session[genSession]) { x.Data.UserID = -5 }); res.StatusCode != http.StatusInternalServerError || !errors.Is(s.err, sessions.ErrInvalid) {
				t.Errorf("got status %d, %v, want its tags checked", res.StatusCode, s.err)
			}
		})
	}
}

// A genPlain has a generated codec and no maps; reflected is what it was before
// its code was generated.
type (
	genPlain struct {
		UserID int    `msg:"uid"`
		Name   string `msg:"name"`
	}
	reflected struct {
		UserID int    `msgpack:"uid"`
		Name   string `msgpack:"name"`
	}
)

func (z *genPlain) MarshalMsg(b []byte) ([]byte, error) {
	o := genAppendInt(genAppendString(append(b, 0x82), "uid"), z.UserID)
	return genAppendString(genAppendString(o, "name"), z.Name), nil
}

func (z *genPlain) UnmarshalMsg(b []byte) (o []byte, err error) {
	var s genSession
	o, err = s.UnmarshalMsg(b)
	z.UserID, z.Name = s.UserID, s.Name
	return o, err
}

func TestASessionFromBeforeItsCodecWasGeneratedIsNotRewrittenByARead(t *testing.T) {
	for name, store := range map[string]sessions.Store{"cookie": nil, "store": newPlainStore()} {
		for _, encrypt := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " encrypted ", encrypt), func(t *testing.T) {
				old := newTypedSite(t, sessions.Config[reflected]{Store: store, Encrypt: encrypt})
				old.set(reflected{UserID: 1 << 40, Name: strings.Repeat("long", 10)})
				s := succeed(t, old, sessions.Config[genPlain]{Encrypt: encrypt})
				writes := uint64(0)
				if s.store != nil {
					writes = s.store.version
				}
				res := s.do(func(x *sessions.Session[genPlain]) {
					if x.Data.UserID != 1<<40 || x.IsNew() {
						t.Errorf("got %+v, %q, want the session", x.Data, x.Reason())
					}
				})
				if len(res.setCookies()) > 0 || s.store != nil && s.store.version != writes {
					t.Errorf("got %q, want no write by a read", res.setCookies())
				}
			})
		}
	}
}

func TestAGeneratedCodecMergesByField(t *testing.T) {
	s := newTypedSite(t, sessions.Config[genSession]{Store: newPlainStore()})
	s.set(genSession{UserID: 1, Counts: map[string]int{"a": 1}})
	tab := succeed(t, s, sessions.Config[genSession]{})
	s.do(func(x *sessions.Session[genSession]) {
		tab.do(func(y *sessions.Session[genSession]) { y.Data.Name = "theirs"; y.Data.Counts["b"] = 2 })
		x.Data.UserID, x.Data.Counts["c"], x.Data.Local = 9, 3, "mine"
	})
	if got, _ := s.get(); got.UserID != 9 || got.Name != "theirs" || !maps.Equal(got.Counts, map[string]int{"a": 1, "b": 2, "c": 3}) {
		t.Errorf("got %+v, want both changes", got)
	}
}

func TestHostileBytesForAGeneratedCodecCostLittle(t *testing.T) {
	for name, data := range map[string]string{
		"a long map":            "\x81\xa6counts\xdf\xff\xff\xff\xff",
		"a long array":          "\x81\xa4tags\xdd\xff\xff\xff\xff",
		"a long array of 2^28":  "\x81\xa4tags\xdd\x10\x00\x00\x00",
		"a long string":         "\x81\xa4name\xdb\xff\xff\xff\xff",
		"a long extension":      "\x81\xa4seen\xc9\xff\xff\xff\xff\x05",
		"a foreign extension":   "\x81\xa4name\xd6\x07\x00\x00\x00\x01",
		"trailing bytes":        "\x81\xa3uid\x05\x00",
		"a short extension 5":   "\x81\xa4seen\xc7\x04\x05\x00\x00\x00\x00",
		"an array for a number": "\x81\xa3uid\xdd\x00\x00\x00\x01\x00",
		"nothing":               "",
		"deep":                  "\x81\xa3uid" + strings.Repeat("\x91", 1_000_000) + "\x00",
		"many short strings":    "\x81\xa4tags\xdd\x00\x07\xa1\x20" + strings.Repeat("\xc0", 500_000),
	} {
		t.Run(name, func(t *testing.T) {
			s := planted(t, sessions.Config[genSession]{}, genSession{UserID: 1}, -1, []byte(data))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, reason := s.get()
			runtime.ReadMemStats(&after)
			if reason != sessions.ReasonUndecodable || got.UserID != 0 || got.Tags != nil {
				t.Errorf("got %+v, %q, want a new session, %q", got, reason, sessions.ReasonUndecodable)
			}
			limit := uint64(1<<20 + 64*len(data) + 1<<18) // and a request
			if cost := after.TotalAlloc - before.TotalAlloc; cost > limit {
				t.Errorf("got %d bytes allocated for %d, want at most %d", cost, len(data), limit)
			}
		})
	}
}

func TestACodecErrorShowsNoData(t *testing.T) {
	var log bytes.Buffer
	cfg := sessions.Config[fullHouse]{Store: newPlainStore()}
	s := newTypedSite(t, cfg)
	s.set(fullHouse{N: 1})
	s.plant(-1, []byte("\x82\xa1S\xa7hunter2\xa1N\xa7hunter2"))
	var err error
	cfg.OnEvent = func(_ context.Context, e sessions.Event) { err = e.Err }
	mgr, newErr := sessions.New(sessions.Config[fullHouse]{Keys: newKeys(t), Store: s.store, OnEvent: cfg.OnEvent, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if newErr != nil {
		t.Fatal(newErr)
	}
	s.mgr = mgr
	if _, reason := s.get(); reason != sessions.ReasonUndecodable || err == nil {
		t.Fatalf("got %q, %v, want it undecodable with an event", reason, err)
	}
	if strings.Contains(err.Error()+log.String(), "hunter2") {
		t.Errorf("got %q and log %q, which show data", err, log.String())
	}
	if !strings.Contains(err.Error(), "N") {
		t.Errorf("got %q, want the field named", err)
	}
}

type tenths int8

func TestNewTriesTheLimitsOfARegisteredEncoder(t *testing.T) {
	msgpack.Register(tenths(0),
		func(e *msgpack.Encoder, v reflect.Value) error { return e.EncodeInt(v.Int() * 10) },
		func(d *msgpack.Decoder, v reflect.Value) error {
			n, err := d.DecodeInt64()
			v.SetInt(n / 10)
			return err
		})
	type temperature struct{ C tenths }
	_, err := sessions.New(sessions.Config[temperature]{Keys: newKeys(t)})
	if err == nil || !strings.Contains(err.Error(), "C: a number that does not fit its field") {
		t.Errorf("got %v, want New to refuse what would be lost for large values", err)
	}
}

// Codecs that do not read what they write.

// An unread has a number that its methods write and do not read: 66 and above.
type (
	unreadText    int
	unreadBinary  struct{ n byte }
	unreadMsgpack struct{ n int }
	unreadRaw     struct{ n byte }
	unreadPanics  struct{ n byte }
	unreadShort   struct{ n int }
	unreadOther   int
	unreadNothing struct{ n byte }
	unreadNil     int
	unreadKey     string
)

var errUnread = errors.New("hunter2")

func (u unreadText) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "number(%d)", int(u)), nil }
func (u *unreadText) UnmarshalText(b []byte) error {
	if _, err := fmt.Sscanf(string(b), "number(%d)", (*int)(u)); err != nil || *u >= 66 {
		return errUnread
	}
	return nil
}

func (u unreadBinary) MarshalBinary() ([]byte, error) { return []byte{u.n}, nil }
func (u *unreadBinary) UnmarshalBinary(b []byte) error {
	if len(b) != 1 || b[0] >= 66 {
		return errUnread
	}
	u.n = b[0]
	return nil
}

func (u unreadMsgpack) EncodeMsgpack(e *msgpack.Encoder) error { return e.EncodeInt(int64(u.n)) }
func (u *unreadMsgpack) DecodeMsgpack(d *msgpack.Decoder) (err error) {
	if u.n, err = d.DecodeInt(); u.n >= 66 {
		return errUnread
	}
	return err
}

func (u unreadRaw) MarshalMsgpack() ([]byte, error) { return []byte{u.n & 0x7f}, nil }
func (u *unreadRaw) UnmarshalMsgpack(b []byte) error {
	if u.n = b[0]; u.n >= 66 {
		return errUnread
	}
	return nil
}

func (u unreadPanics) MarshalBinary() ([]byte, error) { return []byte{u.n}, nil }
func (u *unreadPanics) UnmarshalBinary(b []byte) error {
	if u.n = b[0]; u.n >= 66 {
		panic(errUnread)
	}
	return nil
}

func (u unreadShort) EncodeMsgpack(e *msgpack.Encoder) error { return e.EncodeMulti(u.n, u.n) }
func (u *unreadShort) DecodeMsgpack(d *msgpack.Decoder) (err error) {
	if u.n, err = d.DecodeInt(); u.n < 66 {
		return d.Skip()
	}
	return err
}

func (u unreadOther) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%d", int(u)), nil }
func (u *unreadOther) UnmarshalText(b []byte) error {
	if _, err := fmt.Sscanf(string(b), "%d", (*int)(u)); err != nil || *u >= 66 {
		*u = 1 // the default
	}
	return nil
}

func (u unreadNothing) MarshalBinary() ([]byte, error) { return []byte{u.n}, nil }
func (u *unreadNothing) UnmarshalBinary(b []byte) error {
	if b[0] < 66 {
		u.n = b[0]
	}
	return nil
}

func (u unreadNil) MarshalText() ([]byte, error) {
	return map[unreadNil][]byte{0: []byte("none"), 65: []byte("some")}[u], nil
}

func (u *unreadNil) UnmarshalText(b []byte) error {
	if string(b) == "some" {
		*u = 65
	}
	return nil
}

func (u unreadKey) MarshalText() ([]byte, error) { return []byte(u), nil }
func (u *unreadKey) UnmarshalText(b []byte) error {
	*u = unreadKey(strings.ToLower(string(b)))
	return nil
}

type unreadHost struct {
	N       int
	Text    unreadText
	Binary  unreadBinary
	Msgpack unreadMsgpack
	Raw     unreadRaw
	Panics  unreadPanics
	Other   unreadOther
	Nothing unreadNothing
	Nil     unreadNil
	Back    *url.URL
	Link    url.URL
	In      struct{ Deep struct{ Text unreadText } }
	To      *struct{ Text unreadText }
	List    []unreadText
	Array   [2]unreadBinary
	Map     map[string]unreadRaw
	Keys    map[unreadText]int
	Lower   map[unreadKey]int
	Many    []map[int8]struct{ B unreadBinary }
	unreadBase
	Set sessions.JSON[map[string]any]
	Bad sessions.JSON[unreadText]
}
type unreadBase struct{ Promoted unreadText }

func TestWhatItsCodecCannotReadIsNotStored(t *testing.T) {
	for _, tt := range []struct {
		path string
		edit func(*unreadHost)
	}{
		{".Text", func(h *unreadHost) { h.Text = 66 }},
		{".Binary", func(h *unreadHost) { h.Binary.n = 66 }},
		{".Msgpack", func(h *unreadHost) { h.Msgpack.n = 66 }},
		{".Raw", func(h *unreadHost) { h.Raw.n = 66 }},
		{".Panics", func(h *unreadHost) { h.Panics.n = 66 }},
		{".Other", func(h *unreadHost) { h.Other = 66 }},
		{".Nothing", func(h *unreadHost) { h.Nothing.n = 66 }},
		{".Nil", func(h *unreadHost) { h.Nil = 66 }},
		{".Back", func(h *unreadHost) { h.Back = &url.URL{Scheme: "https", Host: "hunter2 .example"} }},
		{".Link", func(h *unreadHost) { h.Link = url.URL{Host: "hunter2\x7f"} }},
		{".In.Deep.Text", func(h *unreadHost) { h.In.Deep.Text = 66 }},
		{".To.Text", func(h *unreadHost) { h.To = &struct{ Text unreadText }{66} }},
		{".List[]", func(h *unreadHost) { h.List = []unreadText{1, 66} }},
		{".Array[]", func(h *unreadHost) { h.Array[1].n = 66 }},
		{".Map[]", func(h *unreadHost) { h.Map = map[string]unreadRaw{"hunter2": {66}} }},
		{".Keys[key]", func(h *unreadHost) { h.Keys = map[unreadText]int{66: 1} }},
		{".Lower[key]", func(h *unreadHost) { h.Lower = map[unreadKey]int{"Hunter2": 1, "hunter2": 2} }},
		{".Many[][].B", func(h *unreadHost) { h.Many = []map[int8]struct{ B unreadBinary }{{1: {unreadBinary{66}}}} }},
		{".unreadBase.Promoted", func(h *unreadHost) { h.Promoted = 66 }},
		{".Set", func(h *unreadHost) { h.Set.V = map[string]any{"hunter2": int64(1<<53 + 1)} }},
		{".Bad", func(h *unreadHost) { h.Bad.V = 66 }},
	} {
		t.Run(tt.path, func(t *testing.T) {
			eachTypedMode(t, func(t *testing.T, store sessions.Store) {
				s := newTypedSite(t, sessions.Config[unreadHost]{Store: store})
				s.set(unreadHost{N: 1, Text: 65, Other: 65, List: []unreadText{65}})
				res := s.do(func(x *sessions.Session[unreadHost]) { tt.edit(&x.Data) })
				if res.StatusCode != http.StatusInternalServerError || len(res.setCookies()) > 0 {
					t.Errorf("got status %d, cookies %q, want 500 and none", res.StatusCode, res.setCookies())
				}
				if !errors.Is(s.err, sessions.ErrInvalid) || !strings.Contains(s.err.Error(), "unreadHost"+tt.path+": ") {
					t.Errorf("got %v, want ErrInvalid that names %s", s.err, tt.path)
				}
				if text := strings.ToLower(fmt.Sprint(s.err)); strings.Contains(text, "hunter2") || strings.Contains(text, "66") {
					t.Errorf("got %q, which shows a value", text)
				}
				if got, reason := s.get(); got.N != 1 || got.Text != 65 || reason != sessions.ReasonNone {
					t.Errorf("got %+v, %q, want what was stored before", got, reason)
				}
			})
		})
	}
	t.Run("by a codec that reads half of it", func(t *testing.T) {
		s := newTypedSite(t, sessions.Config[holdsA[unreadText]]{})
		s.set(holdsA[unreadText]{1})
		if err := newOf[struct{ S unreadShort }](t); err == nil || !strings.Contains(err.Error(), "T.S: ") {
			t.Errorf("got %v, want New to refuse a type that writes two values", err)
		}
	})
	t.Run("by an Edit", func(t *testing.T) {
		s := newTypedSite(t, sessions.Config[holdsA[unreadText]]{Store: new(sessions.MemoryStore)})
		var id string
		s.do(func(x *sessions.Session[holdsA[unreadText]]) { x.Data.A, id = 1, x.ID() })
		if err := s.mgr.Edit(t.Context(), id, func(h *holdsA[unreadText]) { h.A = 66 }); !errors.Is(err, sessions.ErrInvalid) {
			t.Errorf("got %v, want ErrInvalid", err)
		}
		if got, reason := s.get(); got.A != 1 {
			t.Errorf("got %v, %q, want what was stored before", got, reason)
		}
	})
	t.Run("by an Update that is replayed", func(t *testing.T) {
		s := newTypedSite(t, sessions.Config[holdsA[unreadText]]{Store: newPlainStore()})
		s.set(holdsA[unreadText]{1})
		tab := succeed(t, s, sessions.Config[holdsA[unreadText]]{})
		s.do(func(x *sessions.Session[holdsA[unreadText]]) {
			tab.set(holdsA[unreadText]{60})
			x.Update(func(h *holdsA[unreadText]) { h.A += 6 })
		})
		if !errors.Is(s.err, sessions.ErrInvalid) {
			t.Errorf("got %v, want ErrInvalid", s.err)
		}
		if got, reason := s.get(); got.A != 60 {
			t.Errorf("got %v, %q, want what was stored before", got, reason)
		}
	})
}

// A type may keep less than its value: its text is what it wants to keep.
func TestWhatItsTextDoesNotKeepIsStored(t *testing.T) {
	type texts struct {
		Name unreadLower
		Big  big.Float
		URL  *url.URL
	}
	s := newTypedSite(t, sessions.Config[texts]{})
	data := texts{Name: "ADA", URL: &url.URL{Scheme: "HTTPS", Host: "example.com"}}
	data.Big.SetPrec(200).Quo(big.NewFloat(1), big.NewFloat(3))
	s.set(data)
	if got, _ := s.get(); got.Name != "ada" || got.URL.Scheme != "https" || got.Big.Sign() == 0 {
		t.Errorf("got %+v, want what the texts keep", got)
	}
}

type unreadLower string

func (u unreadLower) MarshalText() ([]byte, error) { return []byte(u), nil }
func (u *unreadLower) UnmarshalText(b []byte) error {
	*u = unreadLower(strings.ToLower(string(b)))
	return nil
}

// genLimited is generated with a limit, as by the directive msgp:limit, which is
// held when it is read.
type genLimited struct {
	genPlain `msg:"-"`
	UserID   int    `msg:"uid"`
	Name     string `msg:"name"`
}

func (z *genLimited) MarshalMsg(b []byte) ([]byte, error) {
	return (&genPlain{z.UserID, z.Name}).MarshalMsg(b)
}

func (z *genLimited) UnmarshalMsg(b []byte) ([]byte, error) {
	var p genPlain
	rest, err := p.UnmarshalMsg(b)
	if err == nil && len(p.Name) > 8 {
		err = errUnread
	}
	z.UserID, z.Name = p.UserID, p.Name
	return rest, err
}

func TestWhatAGeneratedCodecCannotReadIsNotStored(t *testing.T) {
	eachTypedMode(t, func(t *testing.T, store sessions.Store) {
		s := newTypedSite(t, sessions.Config[genLimited]{Store: store})
		s.set(genLimited{UserID: 1, Name: "Ada"})
		res := s.do(func(x *sessions.Session[genLimited]) { x.Data.Name = "hunter2 is too long" })
		if res.StatusCode != http.StatusInternalServerError || !errors.Is(s.err, sessions.ErrInvalid) {
			t.Fatalf("got status %d, %v, want 500 and ErrInvalid", res.StatusCode, s.err)
		}
		if text := s.err.Error(); !strings.Contains(text, "genLimited.Name: ") || strings.Contains(text, "hunter2") {
			t.Errorf("got %q, want it to name the field and no value", text)
		}
		if got, reason := s.get(); got.Name != "Ada" || reason != sessions.ReasonNone {
			t.Errorf("got %+v, %q, want what was stored before", got, reason)
		}
	})
}

// Fields that are kept as JSON.

// A foreignToken is as oauth2.Token is: a field of it is not exported.
type (
	foreignToken struct {
		Access  string            `json:"access_token" validate:"omitempty,min=3"`
		Refresh string            `json:"refresh_token,omitempty"`
		Expiry  time.Time         `json:"expiry,omitzero"`
		Scopes  map[string]*int   `json:"scopes,omitempty"`
		Raw     map[string]any    `json:"raw,omitempty"`
		Next    *foreignToken     `json:"next,omitempty"`
		Self    map[string]string `json:"-"`
		raw     any
	}
	jsonEverywhere struct {
		N      int
		Token  sessions.JSON[foreignToken]
		Ptr    sessions.JSON[*foreignToken]
		To     *sessions.JSON[foreignToken]
		Map    map[string]sessions.JSON[foreignToken]
		List   []sessions.JSON[foreignToken]
		In     struct{ Token sessions.JSON[foreignToken] }
		Slice  sessions.JSON[[]foreignToken]
		Text   sessions.JSON[string]
		Any    sessions.JSON[any]
		Nested sessions.JSON[map[string][]foreignToken]
	}
)

func jsonFull() jsonEverywhere {
	one := 1
	token := foreignToken{
		Access: "abc", Expiry: time.Date(2030, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)), Scopes: map[string]*int{"a": &one, "b": nil},
		Raw: map[string]any{"id": 1.5, "list": []any{"x", true, nil}}, Next: &foreignToken{Access: "next"},
	}
	var full jsonEverywhere
	full.N = 1
	full.Token.V, full.In.Token.V = token, token
	full.Ptr.V, full.To = &token, &sessions.JSON[foreignToken]{V: token}
	full.Map = map[string]sessions.JSON[foreignToken]{"a": {token}, "zero": {}}
	full.List = []sessions.JSON[foreignToken]{{token}, {}}
	full.Slice.V = []foreignToken{token, {}}
	full.Text.V, full.Any.V = "<text>", map[string]any{"a": []any{1.0}}
	full.Nested.V = map[string][]foreignToken{"a": {token}, "b": nil, "c": {}}
	return full
}

func TestJSONComesBack(t *testing.T) {
	equal := func(a, b jsonEverywhere) bool { return encodedJSON(t, a) == encodedJSON(t, b) }
	t.Run("zero", comesBack(jsonEverywhere{}))
	t.Run("full", comesBackBy(jsonFull(), equal))
	t.Run("a pointer to zero", comesBack(holds[sessions.JSON[*foreignToken]]{sessions.JSON[*foreignToken]{V: &foreignToken{}}}))
	t.Run("an empty map and a nil one", comesBack(holds[[2]sessions.JSON[map[string]int]]{[2]sessions.JSON[map[string]int]{{V: map[string]int{}}, {}}}))
	t.Run("a key of a map", comesBack(holds[map[sessions.JSON[[2]int]]int]{map[sessions.JSON[[2]int]]int{{V: [2]int{1, 2}}: 3, {}: 4}}))
	t.Run("an enum that begins at one", comesBack(struct {
		A, B sessions.JSON[fromOne]
		C    sessions.JSON[struct{ D fromOne }]
	}{A: sessions.JSON[fromOne]{V: 2}}))
}

func encodedJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestJSONIsOneStringOnTheWire(t *testing.T) {
	s := newTypedSite(t, sessions.Config[holds[sessions.JSON[foreignToken]]]{Store: newPlainStore()})
	var data holds[sessions.JSON[foreignToken]]
	data.V.V.Access = "abc"
	s.set(data)
	if got, want := s.data(), encoded(t, map[string]string{"V": `{"access_token":"abc"}`}); !bytes.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestChangesWithinJSONAreFound(t *testing.T) {
	for name, edit := range map[string]func(*jsonEverywhere){
		"of a field":                 func(d *jsonEverywhere) { d.Token.V.Access = "changed" },
		"through a pointer":          func(d *jsonEverywhere) { d.Ptr.V.Access = "changed" },
		"through two":                func(d *jsonEverywhere) { d.Token.V.Next.Access = "changed" },
		"through a pointer to JSON":  func(d *jsonEverywhere) { d.To.V.Access = "changed" },
		"in a map of it":             func(d *jsonEverywhere) { *d.Token.V.Scopes["a"] = 2 },
		"of a key":                   func(d *jsonEverywhere) { delete(d.Token.V.Scopes, "b") },
		"in a map in an interface":   func(d *jsonEverywhere) { d.Any.V.(map[string]any)["a"] = "changed" },
		"in a list in an interface":  func(d *jsonEverywhere) { d.Token.V.Raw["list"].([]any)[0] = "changed" },
		"of an element":              func(d *jsonEverywhere) { d.Slice.V[1].Access = "changed" },
		"of an element that is JSON": func(d *jsonEverywhere) { d.List[1].V.Access = "changed" },
		"to zero":                    func(d *jsonEverywhere) { d.Token.V = foreignToken{} },
		"to nil":                     func(d *jsonEverywhere) { d.Ptr.V = nil },
		"from nil to empty in it":    func(d *jsonEverywhere) { d.Nested.V["b"] = []foreignToken{} },
		"in a struct":                func(d *jsonEverywhere) { d.In.Token.V.Refresh = "changed" },
	} {
		t.Run(name, func(t *testing.T) {
			eachTypedMode(t, func(t *testing.T, store sessions.Store) {
				s := newTypedSite(t, sessions.Config[jsonEverywhere]{Store: store})
				s.set(jsonFull())
				if res := s.do(func(*sessions.Session[jsonEverywhere]) {}); len(res.setCookies()) > 0 || s.store != nil && s.store.version != 1 {
					t.Error("a read wrote")
				}
				var want string
				s.do(func(x *sessions.Session[jsonEverywhere]) {
					edit(&x.Data)
					want = encodedJSON(t, x.Data)
				})
				got, reason := s.get()
				if encodedJSON(t, got) != want {
					t.Errorf("got %s, %q (%v), want %s", encodedJSON(t, got), reason, s.err, want)
				}
			})
		})
	}
	t.Run("not where it is not kept", func(t *testing.T) {
		s := newTypedSite(t, sessions.Config[jsonEverywhere]{})
		s.set(jsonFull())
		if res := s.do(func(x *sessions.Session[jsonEverywhere]) {
			x.Data.Token.V.raw, x.Data.Token.V.Self = 1, map[string]string{"a": "b"}
		}); len(res.setCookies()) > 0 {
			t.Error("a field that JSON leaves out counted as a change")
		}
	})
}

func TestJSONIsMergedWhole(t *testing.T) {
	s := newTypedSite(t, sessions.Config[jsonEverywhere]{Store: newPlainStore()})
	s.set(jsonFull())
	tab := succeed(t, s, sessions.Config[jsonEverywhere]{})
	s.do(func(x *sessions.Session[jsonEverywhere]) {
		tab.do(func(y *sessions.Session[jsonEverywhere]) {
			y.Data.N = 5
			y.Data.Token.V.Refresh = "theirs"
			y.Data.In.Token.V.Refresh = "theirs"
			y.Data.Map["a"] = sessions.JSON[foreignToken]{}
		})
		x.Data.Token.V.Access = "mine"
		x.Data.Map["zero"] = sessions.JSON[foreignToken]{V: foreignToken{Access: "mine"}}
		x.Update(func(d *jsonEverywhere) { d.Text.V += d.In.Token.V.Refresh })
	})
	got, _ := s.get()
	if v := got.Token.V; got.N != 5 || v.Access != "mine" || v.Refresh != "" {
		t.Errorf("got N=%d and %+v, want the number of one and the whole token of the other", got.N, v)
	}
	if got.In.Token.V.Refresh != "theirs" || got.Map["a"].V.Access != "" || got.Map["zero"].V.Access != "mine" {
		t.Errorf("got %+v, %+v, want both changes", got.In.Token.V, got.Map)
	}
	if got.Text.V != "<text>theirs" {
		t.Errorf("got %q, want the Update to run on what the other stored", got.Text.V)
	}
}

func TestTheZeroJSONIsZero(t *testing.T) {
	type strict struct {
		Token sessions.JSON[foreignToken] `validate:"required"`
		Plan  sessions.JSON[fromOne]
	}
	eachTypedMode(t, func(t *testing.T, store sessions.Store) {
		s := newTypedSite(t, sessions.Config[strict]{Store: store})
		for name, token := range map[string]foreignToken{"zero": {}, "zero to JSON": {raw: 1, Self: map[string]string{"a": "b"}}} {
			if res := s.do(func(x *sessions.Session[strict]) {
				x.Data.Token.V = token
				x.Flash("info", "hello")
			}); res.StatusCode != http.StatusOK {
				t.Errorf("%s: got status %d (%v), want 200: it is the zero T that carries a flash", name, res.StatusCode, s.err)
			}
		}
		if res := s.do(func(x *sessions.Session[strict]) { x.Data.Plan.V = 2 }); res.StatusCode != http.StatusInternalServerError || !errors.Is(s.err, sessions.ErrInvalid) {
			t.Errorf("got %d, %v, want ErrInvalid for the missing token", res.StatusCode, s.err)
		}
	})
}

func TestJSONIsValidated(t *testing.T) {
	type item struct {
		N int `validate:"max=9"`
	}
	type ruled struct {
		N     int
		Token sessions.JSON[foreignToken]
		Ptr   sessions.JSON[*foreignToken]
		Items sessions.JSON[[]item]            `validate:"max=2,dive"`
		ByKey sessions.JSON[map[string]item]   `validate:"dive,keys,alpha,endkeys"`
		Mail  sessions.JSON[string]            `validate:"omitempty,email"`
		List  []sessions.JSON[map[string]item] `validate:"dive,dive"`
	}
	for path, edit := range map[string]func(*ruled){
		"ruled.Token.V.Access": func(r *ruled) { r.Token.V.Access = "ab" },
		"ruled.Ptr.V.Access":   func(r *ruled) { r.Ptr.V = &foreignToken{Access: "ab"} },
		"ruled.Items[].N":      func(r *ruled) { r.Items.V = []item{{10}} },
		"ruled.Items":          func(r *ruled) { r.Items.V = make([]item, 3) },
		"ruled.ByKey[].N":      func(r *ruled) { r.ByKey.V = map[string]item{"a": {10}} },
		"ruled.ByKey[]":        func(r *ruled) { r.ByKey.V = map[string]item{"1": {1}} },
		"ruled.Mail":           func(r *ruled) { r.Mail.V = "nobody" },
		"ruled.List[].N":       func(r *ruled) { r.List = []sessions.JSON[map[string]item]{{V: map[string]item{"a": {10}}}} },
	} {
		t.Run(path, func(t *testing.T) {
			s := newTypedSite(t, sessions.Config[ruled]{})
			fine := ruled{N: 1}
			fine.Items.V, fine.Mail.V = []item{{9}}, "a@example.com"
			s.set(fine)
			if res := s.do(func(x *sessions.Session[ruled]) { edit(&x.Data) }); res.StatusCode != http.StatusInternalServerError || !errors.Is(s.err, sessions.ErrInvalid) {
				t.Fatalf("got %d, %v, want 500 for ErrInvalid", res.StatusCode, s.err)
			}
			if !strings.Contains(s.err.Error(), path+" breaks") {
				t.Errorf("got %q, want it to name %s", s.err, path)
			}
		})
	}
	t.Run("when it is loaded", func(t *testing.T) {
		s := planted(t, sessions.Config[ruled]{}, ruled{N: 1}, -1, encoded(t, map[string]any{"N": 1, "Token": `{"access_token":"ab"}`}))
		if _, reason := s.get(); reason != sessions.ReasonInvalid {
			t.Errorf("got %q, want %q", reason, sessions.ReasonInvalid)
		}
	})
}

func TestJSONOfOtherBytesIsSetAside(t *testing.T) {
	type jsons struct {
		N int
		A sessions.JSON[[]struct{ Big [4096]byte }]
		B sessions.JSON[map[string]*struct{ Big [4096]byte }]
		C sessions.JSON[any]
		D sessions.JSON[foreignToken]
	}
	for name, data := range map[string]any{
		"a number":                      map[string]any{"N": 1, "D": 5},
		"no JSON":                       map[string]any{"N": 1, "D": "hunter2"},
		"nothing":                       map[string]any{"N": 1, "D": ""},
		"JSON of another kind":          map[string]any{"N": 1, "D": `[1]`},
		"two values":                    map[string]any{"N": 1, "D": `{}{}`},
		"many large elements":           map[string]any{"N": 1, "A": "[" + strings.Repeat("{},", 10_000) + "{}]"},
		"many large elements, not text": map[string]any{"N": 1, "A": "[" + strings.Repeat("null,", 6_000) + "null]"},
		"many large entries":            map[string]any{"N": 1, "B": `{"":{}` + strings.Repeat(`,"":{}`, 5_000) + `}`},
		"deep":                          map[string]any{"N": 1, "C": strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000)},
		"more than a field may have":    map[string]any{"N": 1, "C": `"` + strings.Repeat("x", 40_000) + `"`},
	} {
		t.Run(name, func(t *testing.T) {
			b := encoded(t, data)
			s := planted(t, sessions.Config[jsons]{}, jsons{N: 1}, -1, b)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, reason := s.get()
			runtime.ReadMemStats(&after)
			if reason != sessions.ReasonUndecodable || got.N != 0 {
				t.Errorf("got N=%d, %q, want a new session, %q", got.N, reason, sessions.ReasonUndecodable)
			}
			if limit, cost := uint64(1<<20+64*len(b)+1<<18), after.TotalAlloc-before.TotalAlloc; cost > limit {
				t.Errorf("got %d bytes allocated for %d, want at most %d", cost, len(b), limit)
			}
			for _, e := range s.events.of(sessions.EventRefused) {
				if strings.Contains(e.Err.Error(), "hunter2") {
					t.Errorf("the event shows data: %v", e.Err)
				}
			}
		})
	}
	t.Run("and what would be is too large to be stored", func(t *testing.T) {
		s := newTypedSite(t, sessions.Config[jsons]{Store: newPlainStore()})
		s.set(jsons{N: 1})
		for _, edit := range []func(*jsons){
			func(j *jsons) { j.C.V = strings.Repeat("x", 40_000) },
			func(j *jsons) { j.D.V.Scopes = map[string]*int{strings.Repeat("x", 40_000): nil} },
		} {
			s.do(func(x *sessions.Session[jsons]) { edit(&x.Data) })
			if !errors.Is(s.err, sessions.ErrTooLarge) {
				t.Errorf("got %v, want ErrTooLarge", s.err)
			}
		}
	})
}

// Amounts of memory that hold for interfaces too: what they hold is not known.
func TestJSONInInterfacesCostsLittle(t *testing.T) {
	for name, text := range map[string]string{
		"empty objects": "[" + strings.Repeat("{},", 10_000) + "{}]",
		"empty lists":   "[" + strings.Repeat("[],", 10_000) + "[]]",
		"numbers":       "[" + strings.Repeat("1,", 16_000) + "1]",
		"short strings": "[" + strings.Repeat(`"",`, 10_000) + `""]`,
		"nested":        strings.Repeat(`[{"":`, 4_000) + "1" + strings.Repeat("}]", 4_000),
		"members":       `{"a":1` + strings.Repeat(`,"a":1`, 5_000) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			b := encoded(t, map[string]any{"V": text})
			s := planted(t, sessions.Config[holds[sessions.JSON[any]]]{}, holds[sessions.JSON[any]]{sessions.JSON[any]{V: "x"}}, -1, b)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, reason := s.get()
			runtime.ReadMemStats(&after)
			// Once more than one reading: the session is encoded to see whether it changed.
			if limit, cost := uint64(2*(1<<20+64*len(b))+1<<18), after.TotalAlloc-before.TotalAlloc; cost > limit {
				t.Errorf("%q: got %d bytes allocated for %d, want at most %d", reason, cost, len(b), limit)
			}
		})
	}
}

type fromOne int // has names from 1 to 3

var fromOneNames = []string{1: "one", 2: "two", 3: "three"}

func (p fromOne) MarshalText() ([]byte, error) {
	if p < 1 || int(p) >= len(fromOneNames) {
		return nil, fmt.Errorf("no name for %d", int(p))
	}
	return []byte(fromOneNames[p]), nil
}

func (p *fromOne) UnmarshalText(b []byte) error {
	i := slices.Index(fromOneNames, string(b))
	if i < 1 {
		return fmt.Errorf("%q is no name", b)
	}
	*p = fromOne(i)
	return nil
}
