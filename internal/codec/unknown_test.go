package codec_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/vmihailenco/msgpack/v5"
)

func of[T any](t testing.TB) *codec.Codec {
	t.Helper()
	return analyzed(t, reflect.TypeFor[T]())
}

func analyzed(t testing.TB, typ reflect.Type) *codec.Codec {
	t.Helper()
	c, err := codec.Analyze(typ, codec.Options{})
	if err != nil {
		t.Fatalf("%v: %v", typ, err)
	}
	return c
}

// A program knows one type, and reads and writes sessions as such.
type program struct {
	testing.TB
	*codec.Codec
}

// read decodes b, which anybody may have written.
func (p program) read(b []byte) (data any, unknown []byte) {
	p.Helper()
	data = p.New()
	kept, unknown, err := p.Decode(data, 0, b, false)
	if err != nil {
		p.Fatalf("%T cannot read %x: %v", data, b, err)
	}
	if !bytes.Equal(kept, b) {
		p.Fatalf("got %x, want what was read, %x", kept, b)
	}
	return data, unknown
}

func (p program) write(data any, unknown []byte) []byte {
	p.Helper()
	const before = "something before"
	b, err := p.Append([]byte(before), data)
	if err == nil {
		b, err = p.Carry(b, len(before), unknown)
	}
	if err != nil || !bytes.HasPrefix(b, []byte(before)) {
		p.Fatalf("%+v: got %x, %v", data, b, err)
	}
	return b[len(before):]
}

// A layout is of a struct of which several programs know a part each.
type (
	layout []member
	member struct {
		name    string
		tag     reflect.StructTag
		typ     reflect.Type // nil for a struct
		in      layout
		ptrs    int // to the struct
		inlined bool
		known   [2]bool // to which of the old programs
	}
)

// newest is the program that knows all members.
const newest = 2

var leaves = []reflect.Type{
	reflect.TypeFor[*big.Int](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[*time.Time](),
	reflect.TypeFor[bool](), reflect.TypeFor[int8](), reflect.TypeFor[int64](), reflect.TypeFor[uint16](), reflect.TypeFor[uint64](),
	reflect.TypeFor[float32](), reflect.TypeFor[float64](), reflect.TypeFor[string](), reflect.TypeFor[[]byte](), reflect.TypeFor[[3]byte](),
	reflect.TypeFor[time.Time](), reflect.TypeFor[time.Duration](), reflect.TypeFor[[]int8](), reflect.TypeFor[[]string](),
	reflect.TypeFor[[2]int16](), reflect.TypeFor[map[string]int16](), reflect.TypeFor[map[int8][]time.Time](), reflect.TypeFor[**int8](),
	reflect.TypeFor[[]struct {
		A int8
		B map[string]time.Time
	}](),
}

func randomLayout(r *rand.Rand, names *int, depth int) (l layout) {
	n := r.IntN(5)
	if depth == 0 && r.IntN(8) == 0 {
		n = 18 // too many for the shortest header of a map
	}
	for range n {
		*names++
		m := member{name: fmt.Sprint("F", *names), known: [2]bool{r.IntN(3) > 0, r.IntN(3) > 0}}
		var options string
		if r.IntN(3) == 0 {
			options = ",omitempty"
		}
		if depth > 0 && r.IntN(3) == 0 {
			m.in = randomLayout(r, names, depth-1)
			switch r.IntN(6) {
			case 0, 1:
			case 2, 3:
				m.ptrs = 1
			case 4:
				m.ptrs = 2
			case 5:
				m.inlined = true
				options = ""
			}
		} else if m.typ = leaves[r.IntN(len(leaves))]; slices.Contains(leaves[:3], m.typ) {
			options = "" // New refuses it: they have other ideas of what is empty
		}
		if r.IntN(4) == 0 && !m.inlined {
			options = strings.Repeat("n", 1+r.IntN(40)) + m.name + options
		}
		m.tag = reflect.StructTag(fmt.Sprintf("msgpack:%q", options))
		l = append(l, m)
	}
	return l
}

// typeFor returns the struct as a program knows it.
func (l layout) typeFor(p int) reflect.Type {
	var fields []reflect.StructField
	for _, m := range l {
		if p != newest && !m.known[p] {
			continue
		}
		typ := m.typ
		if typ == nil {
			typ = m.in.typeFor(p)
		}
		for range m.ptrs {
			typ = reflect.PointerTo(typ)
		}
		fields = append(fields, reflect.StructField{Name: m.name, Type: typ, Tag: m.tag, Anonymous: m.inlined})
	}
	return reflect.StructOf(fields)
}

// bring brings what an old program has of a struct to what the newest has of it.
func bring(from, to reflect.Value) {
	for i := range from.NumField() {
		f := from.Field(i)
		at := to.FieldByName(from.Type().Field(i).Name)
		inner := f.Type()
		for inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() != reflect.Struct || at.Type() == f.Type() {
			at.Set(f)
			continue
		}
		for f.Kind() == reflect.Pointer && !f.IsNil() {
			if at.IsNil() {
				at.Set(reflect.New(at.Type().Elem()))
			}
			f, at = f.Elem(), at.Elem()
		}
		if f.Kind() == reflect.Pointer {
			at.SetZero()
			continue
		}
		bring(f, at)
	}
}

// change gives a field of a struct, or of a struct in it, another value.
func change(r *rand.Rand, v reflect.Value) {
	if v.NumField() == 0 {
		return
	}
	f := v.Field(r.IntN(v.NumField()))
	inner := f
	for inner.Kind() == reflect.Pointer && !inner.IsNil() {
		inner = inner.Elem()
	}
	if inner.Kind() == reflect.Struct && inner.Type().Name() == "" && r.IntN(3) > 0 {
		change(r, inner)
		return
	}
	f.SetZero()
	random(r, f)
}

func random(r *rand.Rand, v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix([]int64{0, 1, -1, 1 << 34, 5e9}[r.IntN(5)], int64(r.IntN(2)*7))
		return
	case **big.Int:
		*x = []*big.Int{nil, big.NewInt(-77), new(big.Int).Lsh(big.NewInt(3), 90)}[r.IntN(3)]
		return
	case *netip.Addr:
		*x = []netip.Addr{{}, netip.MustParseAddr("::1"), netip.MustParseAddr("10.0.0.1")}[r.IntN(3)]
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int64:
		v.SetInt([]int64{0, 1, -1, math.MinInt64 >> (64 - v.Type().Bits()), math.MaxInt64 >> (64 - v.Type().Bits())}[r.IntN(5)])
	case reflect.Uint8, reflect.Uint16, reflect.Uint64:
		v.SetUint([]uint64{0, 1, math.MaxUint64 >> (64 - v.Type().Bits())}[r.IntN(3)])
	case reflect.Float32, reflect.Float64:
		v.SetFloat([]float64{0, 1.5, math.Inf(1)}[r.IntN(3)])
	case reflect.String:
		v.SetString([]string{"", "a", strings.Repeat("long", 20)}[r.IntN(3)])
	case reflect.Slice:
		if n := r.IntN(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n-1, n+2))
		}
		for i := range v.Len() {
			random(r, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			random(r, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(4) {
			key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			random(r, key)
			random(r, elem)
			v.SetMapIndex(key, elem)
		}
	case reflect.Pointer:
		if r.IntN(3) > 0 {
			for v.Kind() == reflect.Pointer { // all the way: a pointer to nil is stored as nil
				v.Set(reflect.New(v.Type().Elem()))
				v = v.Elem()
			}
			random(r, v)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			random(r, v.Field(i))
		}
	}
}

// The programs that know a layout, made once: reflect forgets no type.
type programs struct {
	layout
	codecs [newest + 1]*codec.Codec
}

var made = map[uint16]*programs{}

func programsOf(t testing.TB, seed uint16) *programs {
	p := made[seed]
	if p == nil {
		names := 0
		p = &programs{layout: randomLayout(rand.New(rand.NewPCG(uint64(seed), 1)), &names, 3)}
		for i := range p.codecs {
			p.codecs[i] = analyzed(t, p.typeFor(i))
		}
		made[seed] = p
	}
	return p
}

// inTurn has two old programs change what the newest one stored, one after the
// other. It returns how often a program found unknown fields.
func inTurn(t testing.TB, p *programs, r *rand.Rand) (found int) {
	last := program{t, p.codecs[newest]}
	first := last.New()
	random(r, reflect.ValueOf(first).Elem())
	b := last.write(first, nil)
	want, _ := last.read(b)
	for round := range 6 {
		old := program{t, p.codecs[round%2]}
		data, unknown := old.read(b)
		if unknown != nil {
			found++
		}
		change(r, reflect.ValueOf(data).Elem())
		bring(reflect.ValueOf(data).Elem(), reflect.ValueOf(want).Elem())
		b = old.write(data, unknown)
		got, rest := last.read(b)
		if rest != nil {
			t.Fatalf("the newest program does not know %x", rest)
		}
		if last.Hash(got) != last.Hash(want) {
			t.Fatalf("round %d: got\n%+v, want\n%+v,\nof %x", round, got, want, b)
		}
		again, unknown := old.read(b)
		if same := old.write(again, unknown); !bytes.Equal(same, b) {
			t.Fatalf("round %d: unchanged, it became %x, want %x", round, same, b)
		}
		want = got // what both share is not changed twice
	}
	return found
}

func TestUnknownFieldsSurviveProgramsThatDoNotKnowThem(t *testing.T) {
	found := 0
	r := rand.New(rand.NewPCG(7, 8))
	for seed := range uint16(300) {
		p := programsOf(t, seed)
		for range 10 {
			found += inTurn(t, p, r)
		}
	}
	if found < 5_000 {
		t.Errorf("unknown fields were found %d times of 18,000; the test shows too little", found)
	}
}

func FuzzUnknownFieldsSurvive(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(uint16(seed), seed)
	}
	f.Fuzz(func(t *testing.T, types uint16, values uint64) {
		inTurn(t, programsOf(t, types%512), rand.New(rand.NewPCG(values, 2)))
	})
}

type (
	profile struct {
		ID    int8  `msgpack:"id"`
		Prefs prefs `msgpack:"prefs"`
		Plan  *plan `msgpack:"plan"`
		Embedded
		Rare prefs            `msgpack:"rare,omitempty"`
		List []prefs          `msgpack:"list"`
		Map  map[string]prefs `msgpack:"map"`
		Seen time.Time        `msgpack:"seen"`
	}
	prefs struct {
		Theme string `msgpack:"theme,omitempty"`
		Deep  *plan  `msgpack:"deep,omitempty"`
	}
	plan     struct{ Till time.Time }
	Embedded struct{ E int16 }
)

// A field is what there is under a name. Of a struct that profile knows it is
// those of its own.
type field struct {
	name string
	raw  string
	in   []field
}

// structure is what a map on the wire has that the structs of profile do not.
var structure = map[string]any{
	"id": nil, "list": nil, "map": nil, "seen": nil, "E": nil, "prefs": inPrefs, "rare": inPrefs, "plan": inPlan,
}
var (
	inPrefs = map[string]any{"theme": nil, "deep": inPlan}
	inPlan  = map[string]any{"Till": nil}
)

// unknownIn reads a struct by msgpack alone, and returns what it has that known
// does not.
func unknownIn(t testing.TB, b []byte, known map[string]any) (fields []field) {
	d := msgpack.NewDecoder(bytes.NewReader(b))
	n, err := d.DecodeMapLen()
	if err != nil {
		t.Fatal(err)
	}
	for range n { // none for nil
		name, err := d.DecodeString()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := d.DecodeRaw()
		if err != nil {
			t.Fatal(err)
		}
		of, isKnown := known[name]
		if !isKnown {
			fields = append(fields, field{name: name, raw: string(raw)})
		} else if in, ok := of.(map[string]any); ok {
			if unknown := unknownIn(t, raw, in); len(unknown) > 0 {
				fields = append(fields, field{name: name, in: unknown})
			}
		}
	}
	// Of structs with unknown fields the order does not matter.
	slices.SortStableFunc(fields, func(a, b field) int {
		if a.in == nil && b.in == nil {
			return 0
		}
		if a.in != nil && b.in != nil {
			return strings.Compare(a.name, b.name)
		}
		return map[bool]int{true: -1, false: 1}[a.in != nil]
	})
	return fields
}

// FuzzCarry holds what Decode takes, whoever wrote it, against msgpack's own
// reading of the bytes.
func FuzzCarry(f *testing.F) {
	for _, b := range []string{
		"\x80", "\x81\xa1x\xd6\xff\x00\x00\x00\x01", "\x82\xa1x\x01\xa2id\x05",
		"\x83\xa5prefs\x82\xa1y\xc7\x03\x2afoo\xa5theme\xa1d\xa4plan\x82\xa4Till\xd6\xff\x00\x00\x00\x01\xa1z\xc0\xa1x\x93\x01\x02\x03",
		"\x81\xa4rare\x82\xa1y\x01\xa4deep\x81\xa1z\x02", "\x82\xa1x\x01\xa1x\x01", "\x81\xa4list\x91\x81\xa1x\x01",
		"\x82\xa1E\xd1\x01\x00\xa3map\x81\xa1k\x82\xa1x\xc0\xa5theme\xa1t", "\xde\x00\x02\xd9\x02id\xd0\x07\xd9\x01x\xdb\x00\x00\x00\x01!",
	} {
		f.Add([]byte(b))
	}
	c := of[profile](f)
	f.Fuzz(func(t *testing.T, b []byte) {
		data := c.New()
		_, unknown, err := c.Decode(data, 0, b, false)
		if err != nil {
			return
		}
		p := program{t, c}
		if _, err := c.Append(nil, data); errors.Is(err, codec.ErrTooLarge) {
			return // it takes more room in our own form
		}
		carried := p.write(data, unknown)
		if got, want := unknownIn(t, carried, structure), unknownIn(t, b, structure); !reflect.DeepEqual(got, want) {
			t.Fatalf("%x became %x, with the unknown fields %q, want %q", b, carried, got, want)
		}
		again, rest := p.read(carried)
		if c.Hash(again) != c.Hash(data) {
			t.Errorf("%x became %x, which is %+v, want %+v", b, carried, again, data)
		}
		if same := p.write(again, rest); !bytes.Equal(same, carried) {
			t.Errorf("%x became %x, and then %x", b, carried, same)
		}
	})
}

// newProfile is what a newer program makes of profile.
type newProfile struct {
	Locale string `msgpack:"locale"`
	ID     int8   `msgpack:"id"`
	Prefs  struct {
		Font  string    `msgpack:"font"`
		Theme string    `msgpack:"theme"`
		Since time.Time `msgpack:"since"`
	} `msgpack:"prefs"`
	Plan *struct {
		Till  time.Time
		Seats int16
	} `msgpack:"plan"`
	E     int16
	Scope map[string]time.Time `msgpack:"scope"`
	Seen  time.Time            `msgpack:"seen"`
}

func someProfile() *newProfile {
	n := &newProfile{Locale: "de", ID: 1, E: 2, Scope: map[string]time.Time{"b": time.Unix(2, 0), "a": time.Unix(1, 0)}, Seen: time.Unix(3, 0)}
	n.Prefs.Font, n.Prefs.Theme, n.Prefs.Since = "mono", "dark", time.Unix(4, 5)
	n.Plan = &struct {
		Till  time.Time
		Seats int16
	}{time.Unix(6, 0), 700}
	return n
}

func TestAnOlderProgramKeepsWhatANewerOneStored(t *testing.T) {
	older, newer := program{t, of[profile](t)}, program{t, of[newProfile](t)}
	data, unknown := older.read(newer.write(someProfile(), nil))
	p := data.(*profile)
	if p.ID != 1 || p.Prefs.Theme != "dark" || p.Plan == nil || p.Plan.Till != time.Unix(6, 0) || p.E != 2 {
		t.Errorf("got %+v, want what it knows", p)
	}
	p.ID, p.Prefs.Theme, p.E = 9, "", -300
	got, _ := newer.read(older.write(p, unknown))
	want := someProfile()
	want.ID, want.Prefs.Theme, want.E = 9, "", -300
	if newer.Hash(got) != newer.Hash(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestTrustedBytesAndOlderVersionsHaveNoUnknownFields(t *testing.T) {
	newer := program{t, of[newProfile](t)}
	b := newer.write(someProfile(), nil)
	if _, unknown, err := newer.Decode(newer.New(), 0, b, true); unknown != nil || err != nil {
		t.Errorf("got %x, %v of trusted bytes, want nothing", unknown, err)
	}
	upgrade := codec.Upgrade{Version: 0, Old: reflect.TypeFor[profile](), Next: reflect.TypeFor[profile](), Apply: func(old any) (any, error) { return old, nil }}
	upgraded, err := codec.Analyze(reflect.TypeFor[profile](), codec.Options{Version: 1, Upgrades: []codec.Upgrade{upgrade}})
	if err != nil {
		t.Fatal(err)
	}
	data := upgraded.New()
	kept, unknown, err := upgraded.Decode(data, 0, b, false)
	if unknown != nil || err != nil || data.(*profile).ID != 1 {
		t.Errorf("got %x, %v, %+v of an older version, want the data alone", unknown, err, data)
	}
	if want := (program{t, upgraded}).write(data, nil); !bytes.Equal(kept, want) {
		t.Errorf("got %x, want the encoding of what was upgraded, %x", kept, want)
	}
}

func TestUnknownFieldsOutliveTheirBytes(t *testing.T) {
	older, newer := program{t, of[profile](t)}, program{t, of[newProfile](t)}
	b := newer.write(someProfile(), nil)
	data, unknown := older.read(b)
	want := bytes.Clone(unknown)
	clear(b)
	older.write(data, unknown)
	if !bytes.Equal(unknown, want) {
		t.Error("they changed with the bytes that they came in, or were written from")
	}
}

func TestMergesAndHashesSeeNoUnknownFields(t *testing.T) {
	older, newer := program{t, of[profile](t)}, program{t, of[newProfile](t)}
	b := newer.write(someProfile(), nil)
	base, unknown := older.read(b)
	bare := older.write(base, nil)
	known, none := older.read(bare)
	if none != nil || older.Hash(base) != older.Hash(known) {
		t.Errorf("got the hash of %+v, want that of %+v", base, known)
	}
	mine, _ := older.read(b)
	mine.(*profile).ID = 9
	changed := older.write(mine, unknown)
	for name, from := range map[string][]byte{"with unknown fields": b, "without": bare} {
		cur, err := older.With(older.New(), from)
		if err == nil {
			err = older.MergeInto(cur, from, changed)
		}
		if err != nil || older.Hash(cur) != older.Hash(mine) {
			t.Errorf("%s: got %+v, %v, want %+v", name, cur, err, mine)
		}
	}
}

// A generated has msgp's methods, which write as msgpack does and forget what
// they do not know, or refuse it.
type (
	generated struct {
		ID    int8              `msg:"id" msgpack:"id"`
		Prefs generatedPrefs    `msg:"prefs" msgpack:"prefs"`
		Plan  *generatedPlan    `msg:"plan" msgpack:"plan"`
		Hide  int8              `msg:"-" msgpack:"-"`
		Tags  map[string]string `msg:"tags,omitempty" msgpack:"tags,omitempty"`
	}
	generatedPrefs struct {
		Theme string `msg:"theme,omitempty" msgpack:"theme,omitempty"`
	}
	generatedPlan struct {
		Till int64
	}
	withoutMethods generated
)

func (g *generated) MarshalMsg(b []byte) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	err := msgpack.NewEncoder(buf).Encode((*withoutMethods)(g))
	return buf.Bytes(), err
}

func (g *generated) UnmarshalMsg(b []byte) ([]byte, error) {
	r := bytes.NewReader(b)
	err := msgpack.NewDecoder(r).Decode((*withoutMethods)(g))
	return b[len(b)-r.Len():], err
}

func TestAGeneratedCodecKeepsWhatItDoesNotKnow(t *testing.T) {
	type newerPlan struct {
		Till  int64
		Seats []time.Time
	}
	type newer struct {
		New   time.Time `msgpack:"new"`
		ID    int8      `msgpack:"id"`
		Prefs struct {
			Font  string `msgpack:"font"`
			Theme string `msgpack:"theme"`
		} `msgpack:"prefs"`
		Plan *newerPlan        `msgpack:"plan"`
		Tags map[string]string `msgpack:"tags"`
	}
	old, young := program{t, of[generated](t)}, program{t, of[newer](t)}
	want := &newer{New: time.Unix(1, 2), ID: 1, Plan: &newerPlan{3, []time.Time{time.Unix(4, 0)}}}
	want.Prefs.Font, want.Prefs.Theme = "mono", "dark"
	b := young.write(want, nil)
	data, unknown := old.read(b)
	g := data.(*generated)
	g.ID, g.Prefs.Theme, g.Plan.Till, g.Tags = 9, "", 5, map[string]string{"a": "b"}
	want.ID, want.Prefs.Theme, want.Plan.Till, want.Tags = 9, "", 5, g.Tags
	b = old.write(g, unknown)
	if got, _ := young.read(b); young.Hash(got) != young.Hash(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	data, unknown = old.read(b)
	g = data.(*generated)
	g.Plan, want.Plan = nil, nil
	if got, _ := young.read(old.write(g, unknown)); young.Hash(got) != young.Hash(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A renamed has a codec that writes other names than those of its fields, and
// leaves out what is zero.
type renamed struct{ ID, Level int8 }

type asRenamed struct {
	ID    int8 `msgpack:"uid,omitempty"`
	Level int8 `msgpack:"level,omitempty"`
}

func (m *renamed) MarshalMsg(b []byte) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	err := msgpack.NewEncoder(buf).Encode(&asRenamed{m.ID, m.Level})
	return buf.Bytes(), err
}

func (m *renamed) UnmarshalMsg(b []byte) ([]byte, error) {
	var as asRenamed
	r := bytes.NewReader(b)
	err := msgpack.NewDecoder(r).Decode(&as)
	m.ID, m.Level = as.ID, as.Level
	return b[len(b)-r.Len():], err
}

// What a codec has written before must not come back when it is zero: it may be
// who is signed in.
func TestWhatACodecKnowsUnderOtherNamesIsNotKept(t *testing.T) {
	p := program{t, of[renamed](t)}
	b := p.write(&renamed{ID: 7, Level: 2}, nil)
	if _, unknown := p.read(b); unknown != nil {
		t.Errorf("got %x, want nothing: it is all known", unknown)
	}
	data, unknown := p.read(append([]byte{b[0] + 1}, append(b[1:len(b):len(b)], "\xa1x\xc0"...)...))
	*data.(*renamed) = renamed{Level: 3}
	b = p.write(data, unknown)
	if got, _ := p.read(b); *got.(*renamed) != (renamed{Level: 3}) || !bytes.HasSuffix(b, []byte("\xa1x\xc0")) {
		t.Errorf("got %x, %+v, want no uid, and x", b, got)
	}
}

func BenchmarkDecode(b *testing.B) {
	older, newer := program{b, of[profile](b)}, program{b, of[newProfile](b)}
	ours := older.write(&profile{ID: 1, Plan: new(plan), Seen: time.Unix(3, 0)}, nil)
	theirs := newer.write(someProfile(), nil)
	for _, bb := range []struct {
		name    string
		bytes   []byte
		trusted bool
	}{{"trusted", ours, true}, {"known", ours, false}, {"unknown", theirs, false}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = older.Decode(older.New(), 0, bb.bytes, bb.trusted)
			}
		})
	}
}

func BenchmarkCarry(b *testing.B) {
	older, newer := program{b, of[profile](b)}, program{b, of[newProfile](b)}
	data, unknown := older.read(newer.write(someProfile(), nil))
	for name, unknown := range map[string][]byte{"none": nil, "some": unknown} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				buf, _ = older.Append(buf[:0], data)
				buf, _ = older.Carry(buf, 0, unknown)
			}
		})
	}
}
