package shape_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions/internal/shape"
	"github.com/vmihailenco/msgpack/v5"
)

type (
	user  struct{ A int8 }
	outer struct {
		In  user
		Ptr *user
	}
	Shared struct {
		S int8
		U user
	}
	// small is left out of an encoding where nothing in it is known.
	small struct {
		A  int8   `msgpack:",omitempty"`
		In small1 `msgpack:",omitempty"`
		P  *user  `msgpack:",omitempty"`
	}
	small1 struct {
		A int8 `msgpack:",omitempty"`
	}
	// opaque has a codec of its own, which keeps A alone.
	opaque struct{ A int8 }
)

func (o *opaque) EncodeMsgpack(e *msgpack.Encoder) error { return e.Encode(&user{o.A}) }

func (o *opaque) DecodeMsgpack(d *msgpack.Decoder) error {
	var u user
	err := d.Decode(&u)
	o.A = u.A
	return err
}

// packed is the encoding of a map of these names and values, in this order. A
// value that is raw stands for itself.
func packed(t testing.TB, namesAndValues ...any) raw {
	t.Helper()
	n := len(namesAndValues) / 2
	b := []byte{0xde, byte(n >> 8), byte(n)}
	if n < 16 {
		b = []byte{0x80 | byte(n)}
	}
	for _, v := range namesAndValues {
		b = append(b, encode(t, v)...)
	}
	return raw(b)
}

type raw string

func (r raw) EncodeMsgpack(e *msgpack.Encoder) error {
	_, err := e.Writer().Write([]byte(r))
	return err
}

// A time, and an extension of nobody's.
const (
	stamp   raw = "\xd6\xff\x00\x00\x00\x01"
	foreign raw = "\xc7\x03\x2afoo"
)

// carry decodes b as a T, changes that, and encodes it again with what b has and T
// does not know.
func carry[T any](t testing.TB, s *shape.Shape, b raw, change func(*T)) raw {
	t.Helper()
	found, err := s.CheckUnknown([]byte(b))
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	unknown, err := s.Unknown([]byte(b), nil)
	if err != nil || (unknown != nil) != found {
		t.Fatalf("%x: got the unknown fields %x, %v, want some: %t", b, unknown, err, found)
	}
	v := decode[T](t, []byte(b))
	if change != nil {
		change(v)
	}
	out, err := s.Carry([]byte("before"), s.Sort(encode(t, v)), unknown)
	if err != nil || !bytes.HasPrefix(out, []byte("before")) {
		t.Fatalf("%x: got %x, %v", b, out, err)
	}
	out = out[len("before"):]
	if err := s.Check(out); err != nil {
		t.Fatalf("%x became %x, which Check refuses: %v", b, out, err)
	}
	if again := decode[T](t, out); s.Hash(value(again)) != s.Hash(value(v)) {
		t.Errorf("%x became %x, which is %+v, want %+v", b, out, again, v)
	}
	return raw(out)
}

func carriedIs[T any](b raw, change func(*T), want raw) func(*testing.T) {
	return func(t *testing.T) {
		s := of[T](t)
		got := carry(t, s, b, change)
		if got != want {
			t.Fatalf("got  %x,\nwant %x", got, want)
		}
		if again := carry[T](t, s, got, nil); again != got {
			t.Errorf("got %x the second time, want the same as the first, %x", again, got)
		}
	}
}

func TestUnknownFieldsStandBehindTheKnownOnesOfTheirStruct(t *testing.T) {
	p := func(v ...any) raw { return packed(t, v...) }
	at := func(v ...any) raw { return p(append([]any{"A", 1}, v...)...) } // a user
	for name, f := range map[string]func(*testing.T){
		"of the session itself": carriedIs(
			p("new", "x", "A", 1, "newer", 2), func(u *user) { u.A = 5 },
			p("A", 5, "new", "x", "newer", 2)),
		"in the order in which they came": carriedIs[user](
			p("z", 1, "y", 2, "A", 3, "x", 4), nil,
			p("A", 3, "z", 1, "y", 2, "x", 4)),
		"byte by byte": carriedIs[user](
			p("w", raw("\xdc\x00\x01\xd1\x00\x01"), "A", 1, raw("\xd9\x01v"), raw("\xdb\x00\x00\x00\x00")), nil,
			p("A", 1, "w", raw("\xdc\x00\x01\xd1\x00\x01"), raw("\xd9\x01v"), raw("\xdb\x00\x00\x00\x00"))),
		"of every kind": carriedIs[user](
			p("a", stamp, "b", foreign, "c", nil, "d", []any{stamp}, "e", p(1, foreign, raw("\xc4\x01k"), 2), "A", 1, "f", raw("\xc9\x00\x00\x00\x01\x05!"), "g", raw("\xd8\x0012345678abcdefgh")), nil,
			p("A", 1, "a", stamp, "b", foreign, "c", nil, "d", []any{stamp}, "e", p(1, foreign, raw("\xc4\x01k"), 2), "f", raw("\xc9\x00\x00\x00\x01\x05!"), "g", raw("\xd8\x0012345678abcdefgh"))),
		"where no field is known": carriedIs[user](
			p("x", 1), nil,
			p("A", 0, "x", 1)),
		"of more than 15 fields": carriedIs[user](
			p("A", 1, "a", 0, "b", 0, "c", 0, "d", 0, "e", 0, "f", 0, "g", 0, "h", 0, "i", 0, "j", 0, "k", 0, "l", 0, "m", 0, "n", 0, "o", 0), func(u *user) { u.A = 2 },
			p("A", 2, "a", 0, "b", 0, "c", 0, "d", 0, "e", 0, "f", 0, "g", 0, "h", 0, "i", 0, "j", 0, "k", 0, "l", 0, "m", 0, "n", 0, "o", 0)),
		"in structs in it, at every level": carriedIs(
			p("x", 1, "Ptr", at("p", stamp), "In", p("i", 2, "A", 1), "y", 3), func(o *outer) { o.In.A = 7 },
			p("In", p("A", 7, "i", 2), "Ptr", at("p", stamp), "x", 1, "y", 3)),
		"in a struct in a struct": carriedIs[struct{ O outer }](
			p("O", p("x", 1, "In", at("y", 2), "Ptr", nil)), nil,
			p("O", p("In", at("y", 2), "Ptr", nil, "x", 1))),
		"behind two pointers": carriedIs[struct{ P **user }](
			p("P", at("x", 1)), nil,
			p("P", at("x", 1))),
		"of an embedded struct, among those of the outer one": carriedIs(
			p("x", 1, "S", 2, "U", at("y", 2), "A", 1), func(v *struct {
				A int8
				Shared
			}) {
				v.S = 9
			},
			p("A", 1, "S", 9, "U", at("y", 2), "x", 1)),
		"of an embedded struct under its own name": carriedIs[struct {
			Shared `msgpack:",noinline"`
		}](
			p("Shared", p("x", 1, "S", 2, "U", at("y", 2)), "z", 3), nil,
			p("Shared", p("S", 2, "U", at("y", 2), "x", 1), "z", 3)),
		"under an alias": carriedIs[struct {
			U user `msgpack:"new,alias:old"`
		}](
			p("old", at("x", 1)), nil,
			p("new", at("x", 1))),
		"but not in a pointer that is nil now": carriedIs(
			p("In", at(), "Ptr", at("x", 1), "y", 2), func(o *outer) { o.Ptr = nil },
			p("In", at(), "Ptr", nil, "y", 2)),
		"but in a pointer to something else": carriedIs(
			p("In", at(), "Ptr", at("x", 1)), func(o *outer) { o.Ptr = &user{3} },
			p("In", at(), "Ptr", p("A", 3, "x", 1))),
		"but not where there was a pointer that was nil": carriedIs(
			p("In", at(), "Ptr", nil, "x", 1), func(o *outer) { o.Ptr = &user{3} },
			p("In", at(), "Ptr", p("A", 3), "x", 1)),
		"but not in elements of lists": carriedIs[struct{ L []user }](
			p("L", []any{at("x", 1)}, "y", 2), nil,
			p("L", []any{at()}, "y", 2)),
		"but not in elements of arrays": carriedIs[struct{ L [1]outer }](
			p("L", []any{p("In", at("x", 1), "Ptr", at("x", 1), "z", 1)}, "y", 2), nil,
			p("L", []any{p("In", at(), "Ptr", at())}, "y", 2)),
		"but not in elements of maps": carriedIs[struct{ M map[string]*user }](
			p("M", p("k", at("x", 1)), "y", 2), nil,
			p("M", p("k", at()), "y", 2)),
		"but not in types with codecs of their own": carriedIs[struct{ O opaque }](
			p("O", at("x", 1), "y", 2), nil,
			p("O", at(), "y", 2)),
		"of a struct that would be left out": carriedIs(
			p("B", 1, "S", p("x", 1, "In", p("y", 2), "P", at("z", 3)), "C", 2), func(v *struct {
				B int8
				S small `msgpack:",omitempty"`
				C int8
			}) {
				v.S.P = nil
			},
			p("B", 1, "S", p("In", p("y", 2), "x", 1), "C", 2)),
		"but none of a struct that is left out, with its pointers": carriedIs(
			p("S", p("P", at("z", 3)), "C", 2, "u", 4), func(v *struct {
				S small `msgpack:",omitempty"`
				C int8
			}) {
				v.S.P = nil
			},
			p("C", 2, "u", 4)),
		"of a struct that would be left out, at the end": carriedIs[struct {
			B int8
			S small1 `msgpack:"a_long_name_of_more_than_thirty_one_bytes,omitempty"`
		}](
			p("u", 4, "a_long_name_of_more_than_thirty_one_bytes", p("x", 1)), nil,
			p("B", 0, "a_long_name_of_more_than_thirty_one_bytes", p("x", 1), "u", 4)),
	} {
		t.Run(name, f)
	}
}

func TestWhereAllIsKnownNothingIsUnknown(t *testing.T) {
	property[all](func(t *testing.T, s *shape.Shape, r *rand.Rand) {
		b := encode(t, randomOf[all](r))
		found, err := s.CheckUnknown(b)
		unknown, err2 := s.Unknown(b, nil)
		if found || err != nil || unknown != nil || err2 != nil {
			t.Errorf("%x: got %t, %v and %x, %v, want nothing", b, found, err, unknown, err2)
		}
	})(t)
	s := of[struct {
		L []user
		M map[string][]outer
	}](t)
	inElements := packed(t, "L", []any{packed(t, "x", 1)}, "M", packed(t, "k", []any{packed(t, "In", packed(t, "x", 1))}))
	if found, err := s.CheckUnknown([]byte(inElements)); found || err != nil {
		t.Errorf("got %t, %v, want nothing of what is in lists and maps", found, err)
	}
}

func TestUnknownSharesNoMemory(t *testing.T) {
	s := of[outer](t)
	b := []byte(packed(t, "In", packed(t, "x", 1), "y", foreign))
	unknown, err := s.Unknown(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(unknown)
	clear(b)
	if !bytes.Equal(unknown, before) {
		t.Error("the unknown fields changed with the bytes that they came in")
	}
}

// In each struct a name stands once, also in elements of lists and maps.
func TestCheckRefusesANameTwice(t *testing.T) {
	type house struct {
		In    user
		Ptr   *user
		L     []user
		M     map[string]user
		Two   [2]user
		Ren   int8 `msgpack:"new,alias:old"`
		Deep  struct{ Deeper outer }
		Plain int8
	}
	s := of[house](t)
	p := func(v ...any) raw { return packed(t, v...) }
	for name, twice := range map[string]raw{
		"known":            p("A", 1, "A", 1),
		"unknown":          p("x", 1, "x", 1),
		"unknown, apart":   p("x", 1, "A", 2, "y", 3, "x", nil),
		"spelled in two":   p("x", 1, raw("\xd9\x01x"), 1),
		"the empty name":   p("", 1, "", 1),
		"among many":       p("a", 0, "b", 0, "c", 0, "d", 0, "e", 0, "f", 0, "g", 0, "h", 0, "i", 0, "j", 0, "k", 0, "l", 0, "m", 0, "n", 0, "o", 0, "p", 0, "f", 0),
		"after one inside": p("x", 1, "y", p("x", 1), "x", 2),
	} {
		for where, b := range map[string]raw{
			"in it":     p("In", twice),
			"a pointer": p("Ptr", twice),
			"a list":    p("L", []any{p("A", 1), twice}),
			"a map":     p("M", p("k", twice)),
			"an array":  p("Two", []any{twice}),
			"deep":      p("x", 1, "Deep", p("x", 1, "Deeper", p("x", 1, "Ptr", twice))),
		} {
			if err := s.Check([]byte(b)); err == nil || !strings.HasSuffix(err.Error(), "a field twice") {
				t.Errorf("%s, %s: got %v, want %q", name, where, err, "a field twice")
			}
		}
	}
	if s.Check([]byte(p("new", 1, "old", 1))) == nil {
		t.Error("got no error for a name and its alias")
	}
	for name, once := range map[string]raw{
		"one name in several structs": p("x", 1, "In", p("x", 1), "Ptr", p("x", 1), "L", []any{p("x", 1), p("x", 1)}, "y", 1),
		"inside of what is unknown":   p("x", p("y", 1, "y", 2)),
	} {
		if err := s.Check([]byte(once)); err != nil {
			t.Errorf("%s: got %v, want none", name, err)
		}
	}
}

func TestCheckRefusesANameThatIsNoString(t *testing.T) {
	for name, key := range map[string]raw{"bytes": "\xc4\x01A", "a number": "\x01", "nil": "\xc0", "a list": "\x91\x01", "a time": stamp} {
		for where, b := range map[string]raw{
			"the session":     packed(t, key, 1),
			"a struct in it":  packed(t, "In", packed(t, key, 1)),
			"behind others":   packed(t, "In", packed(t, "x", 1, key, 1)),
			"a struct behind": packed(t, "Ptr", packed(t, key, 1)),
			"out of step":     "\x82\xa2In\x81" + key + "\xa1x\x05",
		} {
			for kind, s := range map[string]*shape.Shape{"reflected": of[outer](t), "generated": of[generated](t)} {
				if err := s.Check([]byte(b)); err == nil {
					t.Errorf("%s in %s, %s: got no error", name, where, kind)
				}
			}
		}
	}
}

// What is known is held to its kind, whatever is unknown may be.
func TestCheckTakesExtensionsWhereNothingIsKnown(t *testing.T) {
	type house struct {
		N   int
		M   map[string]int
		At  time.Time
		Own opaque
		L   []user
	}
	s := of[house](t)
	for name, tt := range map[string]struct {
		b    raw
		want bool
	}{
		"a field":              {packed(t, "x", foreign), true},
		"in a field":           {packed(t, "x", []any{foreign, packed(t, foreign, stamp)}), true},
		"a field in a list":    {packed(t, "L", []any{packed(t, "x", foreign)}), true},
		"a number":             {packed(t, "N", foreign), false},
		"a map":                {packed(t, "M", stamp), false},
		"in front of a map":    {packed(t, "M", raw("\xc7\x00\x05\x81\xa1b\x01")), false},
		"for a time":           {packed(t, "At", foreign), false},
		"in a codec's own":     {packed(t, "Own", packed(t, "x", foreign)), false},
		"for a codec's own":    {packed(t, "Own", stamp), false},
		"the reserved code":    {packed(t, "x", raw("\xc1")), false},
		"the same in a list":   {packed(t, "x", []any{raw("\xc1")}), false},
		"longer than the rest": {packed(t, "x", raw("\xc8\x00\x09\x05abc")), false},
	} {
		if err := s.Check([]byte(tt.b)); (err == nil) != tt.want {
			t.Errorf("%s: got %v, want it taken: %t", name, err, tt.want)
		}
	}
}

func TestCheckBoundsTheNestingOfWhatIsUnknown(t *testing.T) {
	s := of[outer](t)
	nested := func(unit string, n int) raw {
		return packed(t, "In", packed(t, "x", raw(strings.Repeat(unit, n)+"\x00")))
	}
	for _, unit := range []string{"\x91", "\x81\xa1k"} {
		if err := s.Check([]byte(nested(unit, 100))); err != nil {
			t.Errorf("%x: got %v for 100 levels, want none", unit, err)
		}
		if s.Check([]byte(nested(unit, 101))) == nil {
			t.Errorf("%x: got no error for 101 levels", unit)
		}
	}
	// The levels of the session itself do not count.
	if got := carry[outer](t, s, nested("\x91", 100), nil); !strings.HasSuffix(string(got), "\x91\x91\x00\xa3Ptr\xc0") {
		t.Errorf("got %x, want all levels carried", got)
	}
}

// Whatever is unknown is taken, and costs what the budget allows, with what
// Unknown makes of it.
func TestUnknownFieldsCostWhatTheBudgetAllows(t *testing.T) {
	const many = 30_000
	entries := func(name, value func(i int) string) raw {
		b := binary.BigEndian.AppendUint32([]byte{0xdf}, many)
		for i := range many {
			b = append(b, name(i)+value(i)...)
		}
		return raw(b)
	}
	shortest := func(i int) string { // three letters
		return string([]byte{0xa3, byte(i), byte(i >> 8), byte(i >> 16)})
	}
	same := func(s string) func(int) string { return func(int) string { return s } }
	long := func(i int) string { return fmt.Sprintf("\xd9\x40%064d", i) }
	blob := func(head string, n int) raw { return raw(head + strings.Repeat("x", n)) }
	for name, b := range map[string]raw{
		"many short names":     entries(shortest, same("\x00")),
		"many names alike":     entries(long, same("\xc0")),
		"many lists":           entries(shortest, same("\x91\x90")),
		"a long list":          packed(t, "x", raw("\xdd\x00\x03\x0d\x40"+strings.Repeat("\x00", 200_000))),
		"a long list of lists": packed(t, "x", raw("\xdd\x00\x03\x0d\x40"+strings.Repeat("\x90", 200_000))),
		"a long string":        packed(t, "x", blob("\xdb\x00\x1e\x84\x80", 2_000_000)),
		"a long extension":     packed(t, "x", blob("\xc9\x00\x1e\x84\x80\x07", 2_000_000)),
		"a long name":          packed(t, blob("\xdb\x00\x1e\x84\x80", 2_000_000), 1),
	} {
		for where, b := range map[string]raw{"in the session": b, "in a struct in it": packed(t, "In", b)} {
			t.Run(name+" "+where, func(t *testing.T) {
				s := of[outer](t)
				v := new(outer)
				d := msgpack.NewDecoder(nil)
				in := []byte(b)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				found, err := s.CheckUnknown(in)
				if err != nil || !found {
					t.Fatalf("got %t, %v, want it taken", found, err)
				}
				d.Reset(bytes.NewReader(in))
				if err := d.Decode(v); err != nil {
					t.Fatal(err)
				}
				unknown, err := s.Unknown(in, nil)
				runtime.ReadMemStats(&after)
				if err != nil || len(unknown) < len(in)/2 {
					t.Fatalf("got %d bytes, %v, want all of it", len(unknown), err)
				}
				if cost := int64(after.TotalAlloc - before.TotalAlloc); cost > shape.Budget(len(in)) {
					t.Errorf("got %d bytes allocated for %d, want at most %d", cost, len(in), shape.Budget(len(in)))
				}
			})
		}
	}
}

// The dearest of what is known, as much of it as passes, beside many unknown
// fields: Check charges for these too.
func TestUnknownFieldsLeaveTheBudgetToWhatIsKnown(t *testing.T) {
	const many = 30_000
	for name, tt := range map[string]struct {
		typ  reflect.Type
		elem byte
	}{"pointers": {typ[[]*kib](), 0x80}, "large arrays": {typ[[]*[4096]int](), 0x90}} {
		s, err := shape.Of(tt.typ)
		if err != nil {
			t.Fatal(err)
		}
		make1 := func(n int) []byte {
			b := binary.BigEndian.AppendUint32([]byte{0xdf}, many+1)
			b = binary.BigEndian.AppendUint32(append(b, 0xa1, 'a', 0xdd), uint32(n))
			b = append(b, bytes.Repeat([]byte{tt.elem}, n)...)
			for i := range many {
				b = append(b, 0xa3, byte(i), byte(i>>8), byte(i>>16), 0)
			}
			return b
		}
		low, high := 0, 1<<16
		for low < high {
			if mid := (low + high + 1) / 2; s.Check(make1(mid)) == nil {
				low = mid
			} else {
				high = mid - 1
			}
		}
		in := make1(low)
		v := reflect.New(tt.typ)
		d := msgpack.NewDecoder(nil)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err = s.Check(in)
		d.Reset(bytes.NewReader(in))
		if err == nil {
			err = d.Decode(v.Interface())
		}
		if err == nil {
			_, err = s.Unknown(in, nil)
		}
		runtime.ReadMemStats(&after)
		if err != nil || low == 0 {
			t.Fatalf("%s: %d of them: %v", name, low, err)
		}
		if cost := int64(after.TotalAlloc - before.TotalAlloc); cost > shape.Budget(len(in)) {
			t.Errorf("%d %s: got %d bytes allocated, want at most %d", low, name, cost, shape.Budget(len(in)))
		}
	}
}

func TestCarryWritesTheShortestHeader(t *testing.T) {
	s := of[user](t)
	for _, n := range []int{2, 15, 16, math.MaxUint16, math.MaxUint16 + 1} {
		entries := make([]any, 0, 2*n)
		for i := range n - 1 {
			entries = append(entries, fmt.Sprint(i), i%100)
		}
		var want bytes.Buffer
		if err := msgpack.NewEncoder(&want).EncodeMapLen(n); err != nil {
			t.Fatal(err)
		}
		in := binary.BigEndian.AppendUint32([]byte{0xdf}, uint32(n-1))
		for _, v := range entries {
			in = append(in, encode(t, v)...)
		}
		if got := carry[user](t, s, raw(in), nil); !strings.HasPrefix(string(got), want.String()+"\xa1A") {
			t.Errorf("%d fields: got the header %x, want %x", n, got[:5], want.Bytes())
		}
	}
}

// A length in front of a long name is not one of a short one.
func TestANameIsReadToItsEnd(t *testing.T) {
	type house struct {
		N int8 `msgpack:"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"` // 32 bytes: 0xa0|32 is 0xa0, an empty string
	}
	s := of[house](t)
	if s.Check([]byte("\x81\xa0"+strings.Repeat("n", 32)+"\x05")) == nil {
		t.Error("got no error for a name without its length")
	}
	if err := s.Check(encode(t, &house{5})); err != nil {
		t.Errorf("got %v, want none", err)
	}
}

func TestSortMovesNothingThatIsUnknown(t *testing.T) {
	type house struct {
		M map[string]int8
		S map[string]map[string]int8
	}
	s := of[house](t)
	p := func(v ...any) raw { return packed(t, v...) }
	got := raw(s.Sort([]byte(p("x", p("b", 1, "a", 2), "M", p("b", 1, "a", 2), "S", p("y", p("d", 1, "c", 2), "a", p()), "z", stamp))))
	want := p("x", p("b", 1, "a", 2), "M", p("a", 2, "b", 1), "S", p("a", p(), "y", p("c", 2, "d", 1)), "z", stamp)
	if got != want {
		t.Errorf("got  %x,\nwant %x", got, want)
	}
}

// A generated is a type with msgp's methods. What they do is for the test to say.
type generated struct {
	N    int8 `msg:"n"`
	In   user
	Ptr  *user
	Made struct{ A int8 }
}

func (*generated) MarshalMsg(b []byte) ([]byte, error)   { return b, nil }
func (*generated) UnmarshalMsg(b []byte) ([]byte, error) { return b, nil }

func TestCarryKeepsUnknownFieldsBesideWhatACodecWrote(t *testing.T) {
	s := of[generated](t)
	p := func(v ...any) raw { return packed(t, v...) }
	for name, tt := range map[string]struct{ came, written, now, want raw }{
		"as its fields are": {
			p("x", stamp, "n", 1, "In", p("A", 1, "y", foreign)), p("n", 1, "In", p("A", 1), "Ptr", nil),
			p("n", 2, "In", p("A", 3), "Ptr", nil),
			p("n", 2, "In", p("A", 3, "y", foreign), "Ptr", nil, "x", stamp),
		},
		"in an order of its own": {
			p("n", 1, "In", p("A", 1, "y", 1), "Ptr", p("A", 2, "z", 2)), p("Ptr", p("A", 2), "In", p("A", 1), "n", 1),
			p("Ptr", p("A", 2), "In", p("A", 1), "n", 5),
			p("Ptr", p("A", 2, "z", 2), "In", p("A", 1, "y", 1), "n", 5),
		},
		"with names of its own": {
			p("uid", foreign, "x", 2, "In", p("own", foreign, "y", 2)), p("uid", foreign, "In", p("own", foreign)),
			p("uid", foreign, "In", p("own", foreign)),
			p("uid", foreign, "In", p("own", foreign, "y", 2), "x", 2),
		},
		"with names of its own that it leaves out now": {
			p("uid", 1, "x", 2, "In", p("own", 1, "y", 2)), p("uid", 1, "In", p("own", 1)),
			p("n", 0),
			p("n", 0, "In", p("y", 2), "x", 2),
		},
		"with names of its own that it left out before": {
			p("uid", 0, "x", 2), p("n", 0),
			p("n", 0, "uid", 7),
			p("n", 0, "uid", 7, "x", 2),
		},
		"with a struct as a list": {
			p("n", 1, "In", p("A", 1, "y", 2), "x", 3), p("n", 1, "In", raw("\x91\x01")),
			p("n", 1, "In", raw("\x91\x02")),
			p("n", 1, "In", raw("\x91\x02"), "x", 3),
		},
		"as a list": {
			p("n", 1, "x", 3), p("n", 1),
			raw("\x91\x02"),
			raw("\x91\x02"),
		},
		"left out where it is zero": {
			p("Made", p("y", 2), "Ptr", p("z", 2)), p(),
			p("n", 1),
			p("n", 1, "Made", p("y", 2)),
		},
		"with headers of its own": {
			p("In", p("A", 1, "y", 2)), p("In", p("A", 1)),
			raw("\xdf\x00\x00\x00\x01\xa2In\xde\x00\x01\xa1A\xd0\x01"),
			p("In", p("A", raw("\xd0\x01"), "y", 2)),
		},
		"where its encoding cannot be read": {
			p("x", 1, "n", 1), raw("\x82\xa1n"),
			p("n", 2),
			p("n", 2, "x", 1),
		},
		"where it has none": {
			p("x", 1, "n", 1), "",
			p("n", 2),
			p("n", 2, "x", 1),
		},
	} {
		t.Run(name, func(t *testing.T) {
			unknown, err := s.Unknown([]byte(tt.came), []byte(tt.written))
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Carry(nil, []byte(tt.now), unknown)
			if err != nil || raw(got) != tt.want {
				t.Errorf("got  %x, %v,\nwant %x", got, err, tt.want)
			}
		})
	}
	if unknown, err := s.Unknown([]byte(p("uid", 1, "In", p("own", 2))), []byte(p("In", p("own", 1), "uid", 3))); unknown != nil || err != nil {
		t.Errorf("got %x, %v, want nothing: the codec knows it all", unknown, err)
	}
}

// Carry is for what a codec wrote, and a codec may have written anything.
func TestCarryTakesAnyBytes(t *testing.T) {
	unknown, err := of[generated](t).Unknown([]byte(packed(t, "x", stamp, "In", packed(t, "y", foreign), "Ptr", packed(t, "z", 1))), nil)
	if err != nil {
		t.Fatal(err)
	}
	whole := packed(t, "n", 1, "In", packed(t, "A", 1), "Ptr", packed(t, "A", 2), "own", []any{1, "x", stamp}, "Made", packed(t))
	r := rand.New(rand.NewPCG(5, 6))
	for _, typ := range []reflect.Type{reflect.TypeFor[generated](), reflect.TypeFor[outer]()} {
		s, err := shape.Of(typ)
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(whole) {
			_, _ = s.Carry(nil, []byte(whole[:n]), unknown)
		}
		for range 5_000 {
			b := []byte(whole)
			for range 1 + r.IntN(4) {
				b[r.IntN(len(b))] = byte(r.IntN(256))
			}
			_, _ = s.Carry(nil, b, unknown)
			_, _ = s.Unknown(b, b)
		}
	}
}
