package shape_test

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions/internal/shape"
	"github.com/vmihailenco/msgpack/v5"
)

type (
	plain struct {
		ID   int    `msgpack:"uid"`
		Name string `msgpack:"name"`
		Cart []int  `msgpack:"cart"`
		Seen time.Time
	}
	inner struct {
		X    int8
		Note string `msgpack:",omitempty"`
		Kept string `msgpack:"-"`
	}
	key struct {
		X    int8
		Note string
	}
	Base struct {
		B1 int
		B2 map[string]bool
	}
	all struct {
		Base
		I8   int8
		I64  int64
		U8   uint8
		U64  uint64
		F32  float32
		F64  float64
		Bool bool
		S    string
		Raw  []byte
		Arr  [3]byte
		Ints [2]int16
		L    []string
		LL   [][]int8
		M    map[string]int
		Deep map[int8]map[string][]bool
		Keys map[[2]int8]inner
		P    *inner
		PP   **int8
		In   inner
		List []inner
		Ptrs []*inner
		At   time.Time
		PAt  *time.Time
		D    time.Duration
		Big  *big.Int
		Addr netip.Addr
		Adds map[netip.Addr]bool
		Here string `msgpack:"-"`
	}
	maps struct {
		A map[string]string
		B map[uint16]map[string]uint8
		C map[bool][]map[string]*inner
		D map[float64]int
		E map[key]int
	}
)

func of[T any](t testing.TB) *shape.Shape {
	t.Helper()
	s, err := shape.Of(reflect.TypeFor[T]())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	var buf bytes.Buffer
	e := msgpack.NewEncoder(&buf)
	e.UseCompactInts(true)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func decode[T any](t testing.TB, b []byte) *T {
	t.Helper()
	v := new(T)
	if err := msgpack.Unmarshal(b, v); err != nil {
		t.Fatalf("decode %x: %v", b, err)
	}
	return v
}

func value(p any) reflect.Value { return reflect.ValueOf(p).Elem() }

// random fills v from a small set of values, so that two of them are often equal
// in some field, and nil and empty both occur.
func random(r *rand.Rand, v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = []time.Time{{}, time.Unix(1, 0), time.Unix(1<<34, 1).UTC(), time.Unix(-1, 999), time.Unix(5e9, 7)}[r.IntN(5)]
		return
	case **big.Int:
		*x = []*big.Int{nil, big.NewInt(0), big.NewInt(-77), new(big.Int).Lsh(big.NewInt(3), 90)}[r.IntN(4)]
		return
	case *netip.Addr:
		*x = []netip.Addr{{}, netip.MustParseAddr("::1"), netip.MustParseAddr("10.0.0.1")}[r.IntN(3)]
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt([]int64{0, 1, -1, 127, -128, 32767, -32768, 1 << 31, math.MinInt64, math.MaxInt64, r.Int64()}[r.IntN(11)] >> (64 - v.Type().Bits()) << (64 - v.Type().Bits()) >> (64 - v.Type().Bits()))
		if v.Type().Bits() < 64 || r.IntN(2) == 0 {
			v.SetInt(int64(int8(r.IntN(5) * 60)))
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint([]uint64{0, 1, 128, 255}[r.IntN(4)])
		if v.Type().Bits() == 64 && r.IntN(2) == 0 {
			v.SetUint(math.MaxUint64 - uint64(r.IntN(2)))
		}
	case reflect.Float32, reflect.Float64:
		v.SetFloat([]float64{0, math.Copysign(0, -1), 1.5, math.Inf(1), 1e300}[r.IntN(5)])
	case reflect.String:
		v.SetString([]string{"", "a", "b", "\xff\x00", strings.Repeat("long", 20)}[r.IntN(5)])
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
		n := r.IntN(5)
		if n > 0 {
			v.Set(reflect.MakeMap(v.Type()))
		}
		for range n - 1 {
			key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			random(r, key)
			random(r, elem)
			v.SetMapIndex(key, elem)
		}
	case reflect.Pointer:
		if r.IntN(2) == 0 {
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

// likeNil replaces what is empty by nil, and clears what is not stored.
func likeNil(v reflect.Value) {
	if _, ok := v.Interface().(time.Time); ok {
		return
	}
	switch v.Kind() {
	case reflect.Slice:
		if v.Len() == 0 {
			v.SetZero()
		}
		for i := range v.Len() {
			likeNil(v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			likeNil(v.Index(i))
		}
	case reflect.Map:
		if v.Len() == 0 {
			v.SetZero()
		}
		for it := v.MapRange(); it.Next(); {
			c := reflect.New(v.Type().Elem()).Elem()
			c.Set(it.Value())
			likeNil(c)
			v.SetMapIndex(it.Key(), c)
		}
	case reflect.Pointer:
		if _, ok := v.Interface().(*big.Int); !ok && !v.IsNil() {
			likeNil(v.Elem())
		}
	case reflect.Struct:
		if _, ok := v.Interface().(netip.Addr); ok {
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Tag.Get("msgpack") == "-" {
				v.Field(i).SetZero()
			} else {
				likeNil(v.Field(i))
			}
		}
	}
}

// canonical is the sorted encoding of p with nil and empty alike.
func canonical[T any](t testing.TB, s *shape.Shape, p *T) []byte {
	t.Helper()
	c := decode[T](t, encode(t, p))
	likeNil(value(c))
	return s.Sort(encode(t, c))
}

const rounds = 1500

func property[T any](f func(t *testing.T, s *shape.Shape, r *rand.Rand)) func(*testing.T) {
	return func(t *testing.T) {
		s := of[T](t)
		r := rand.New(rand.NewPCG(1, 2))
		for range rounds {
			f(t, s, r)
			if t.Failed() {
				return
			}
		}
	}
}

func randomOf[T any](r *rand.Rand) *T {
	p := new(T)
	random(r, value(p))
	return p
}

func TestCheckTakesEveryEncoding(t *testing.T) {
	t.Run("plain", property[plain](checkTakes[plain]))
	t.Run("all", property[all](checkTakes[all]))
	t.Run("maps", property[maps](checkTakes[maps]))
}

func checkTakes[T any](t *testing.T, s *shape.Shape, r *rand.Rand) {
	p := randomOf[T](r)
	b := encode(t, p)
	if err := s.Check(b); err != nil {
		t.Errorf("got %v for the encoding %x of %+v, want none", err, b, p)
	}
	if usual, err := msgpack.Marshal(p); err != nil || s.Check(usual) != nil {
		t.Errorf("got %v for the encoding without compact integers, want none", s.Check(usual))
	}
	for range 5 { // no prefix, and nothing behind it
		if cut := b[:r.IntN(len(b))]; s.Check(cut) == nil {
			t.Errorf("got no error for the part %x of %x", cut, b)
		}
	}
	if s.Check(append(bytes.Clone(b), byte(r.IntN(256)))) == nil {
		t.Error("got no error for one byte more")
	}
}

// What Check lets through, a decoder takes without a panic and as it was meant:
// to encode it again and decode that gives the same value.
func TestWhatCheckTakesDecodes(t *testing.T) {
	passed := 0
	property[all](func(t *testing.T, s *shape.Shape, r *rand.Rand) {
		b := encode(t, randomOf[all](r))
		for range 20 {
			bad := bytes.Clone(b)
			for range 1 + r.IntN(3) {
				bad[r.IntN(len(bad))] ^= byte(1 << r.IntN(8))
			}
			if s.Check(bad) != nil {
				continue
			}
			v := new(all)
			if err := msgpack.Unmarshal(bad, v); err != nil {
				continue // such as an address of three bytes: its own codec says so
			}
			passed++
			if again := decode[all](t, encode(t, v)); s.Hash(value(again)) != s.Hash(value(v)) {
				t.Errorf("%x: got %+v, then %+v", bad, v, again)
			}
		}
	})(t)
	if passed == 0 {
		t.Error("Check let nothing through; the test shows nothing")
	}
}

func TestSortGivesEqualValuesEqualBytes(t *testing.T) {
	t.Run("all", property[all](sortIsStable[all]))
	t.Run("maps", property[maps](sortIsStable[maps]))
}

func sortIsStable[T any](t *testing.T, s *shape.Shape, r *rand.Rand) {
	p := randomOf[T](r)
	b := encode(t, p)
	before := bytes.Clone(b)
	sorted := s.Sort(b)
	switch {
	case !bytes.Equal(b, before):
		t.Error("Sort changed its argument")
	case len(sorted) != len(b):
		t.Errorf("got %d bytes of %d", len(sorted), len(b))
	case s.Check(sorted) != nil:
		t.Errorf("Check of sorted bytes: %v", s.Check(sorted))
	case !bytes.Equal(s.Sort(sorted), sorted):
		t.Error("to sort twice gave other bytes")
	case !bytes.Equal(s.Sort(encode(t, p)), sorted):
		t.Error("a second encoding of the same value gave other bytes")
	case s.Hash(value(decode[T](t, sorted))) != s.Hash(value(p)):
		t.Errorf("sorted bytes decode to another value than %+v", p)
	}
}

// A listed has a codec of its own that writes a list.
type listed struct{ a, b int8 }

func (l *listed) EncodeMsgpack(e *msgpack.Encoder) error {
	return errors.Join(e.EncodeArrayLen(2), e.EncodeInt8(l.a), e.EncodeInt8(l.b))
}

func (l *listed) DecodeMsgpack(d *msgpack.Decoder) error {
	_, err := d.DecodeArrayLen()
	if err == nil {
		l.a, err = d.DecodeInt8()
	}
	if err == nil {
		l.b, err = d.DecodeInt8()
	}
	return err
}

func TestSortCopiesWhatATypesOwnCodecWrote(t *testing.T) {
	type mixed struct {
		One  listed
		M    map[string]int8
		Many []listed
		Last string
	}
	s := of[mixed](t)
	v := &mixed{listed{1, 2}, map[string]int8{"b": 1, "a": 2}, []listed{{3, 4}, {5, 6}}, "last"}
	if got := decode[mixed](t, s.Sort(encode(t, v))); !reflect.DeepEqual(got, v) {
		t.Errorf("got %+v, want %+v", got, v)
	}
}

func TestHashIsEqualForEqualValuesOnly(t *testing.T) {
	same := 0
	check := func(t *testing.T, s *shape.Shape, a, b *all) {
		t.Helper()
		equal := bytes.Equal(canonical(t, s, a), canonical(t, s, b))
		if got := s.Hash(value(a)) == s.Hash(value(b)); got != equal {
			t.Errorf("got equal hashes %t, want %t, for\n%+v\n%+v", got, equal, a, b)
		}
		if equal {
			same++
		}
	}
	property[all](func(t *testing.T, s *shape.Shape, r *rand.Rand) {
		a := randomOf[all](r)
		b := decode[all](t, encode(t, a))
		check(t, s, a, b)
		f := value(b).Field(r.IntN(value(b).NumField()))
		f.SetZero()
		random(r, f)
		check(t, s, a, b)
	})(t)
	if same < rounds || same == 2*rounds {
		t.Errorf("%d of %d pairs were equal; the test shows too little", same, 2*rounds)
	}
}

func TestHashTellsValuesApartThatLookAlike(t *testing.T) {
	type pair struct {
		A, B []string
		M    map[string]string
		P, Q *int
		N    map[string]map[string]int
		F    float64
	}
	s := of[pair](t)
	one, zero := 1, 0
	values := map[string]pair{
		"zero":              {},
		"element first":     {A: []string{"x"}},
		"element second":    {B: []string{"x"}},
		"empty element":     {A: []string{""}},
		"two empty":         {A: []string{"", ""}},
		"joined":            {A: []string{"xy"}},
		"apart":             {A: []string{"x", "y"}},
		"other order":       {A: []string{"y", "x"}},
		"map":               {M: map[string]string{"a": "b", "c": "d"}},
		"map crossed":       {M: map[string]string{"a": "d", "c": "b"}},
		"map swapped":       {M: map[string]string{"b": "a", "d": "c"}},
		"map of empty":      {M: map[string]string{"": ""}},
		"pointer to zero":   {P: &zero},
		"other pointer":     {Q: &zero},
		"pointer to one":    {P: &one},
		"nested":            {N: map[string]map[string]int{"a": {"x": 1}, "b": {"y": 1}}},
		"nested crossed":    {N: map[string]map[string]int{"a": {"y": 1}, "b": {"x": 1}}},
		"nested with empty": {N: map[string]map[string]int{"a": nil}},
		"-0":                {F: math.Copysign(0, -1)},
		"NaN":               {F: math.NaN()},
		"another NaN":       {F: math.Float64frombits(0x7ff8000000000002)},
	}
	seen := map[uint64]string{}
	for name, v := range values {
		h := s.Hash(value(&v))
		if other, ok := seen[h]; ok {
			t.Errorf("%q and %q have one hash", name, other)
		}
		seen[h] = name
	}
	at := time.Unix(1e9, 5)
	times := of[struct{ At time.Time }](t)
	a, b := struct{ At time.Time }{at}, struct{ At time.Time }{at.In(time.FixedZone("X", 3600))}
	if times.Hash(value(&a)) != times.Hash(value(&b)) {
		t.Error("a zone changed the hash of a time")
	}
}

func TestMergeKeepsTheChangesOfBothSides(t *testing.T) {
	property[all](func(t *testing.T, s *shape.Shape, r *rand.Rand) {
		base := randomOf[all](r)
		copyOf := func(p *all) *all { return decode[all](t, encode(t, p)) }
		merge := func(base, mine, theirs *all) uint64 {
			to := copyOf(theirs)
			s.Merge(value(copyOf(base)), value(copyOf(mine)), value(to))
			return s.Hash(value(to))
		}
		mine, theirs := copyOf(base), copyOf(base)
		i := r.IntN(value(base).NumField() - 1)
		j := r.IntN(value(base).NumField() - 1)
		value(mine).Field(i).SetZero()
		random(r, value(mine).Field(i))
		value(theirs).Field(j).SetZero()
		random(r, value(theirs).Field(j))
		if got := merge(base, base, theirs); got != s.Hash(value(theirs)) {
			t.Error("without changes of mine, theirs changed")
		}
		if got := merge(base, mine, base); got != s.Hash(value(mine)) {
			t.Errorf("without changes of theirs, the result is not mine:\nbase %+v\nmine %+v", base, mine)
		}
		if got := merge(base, mine, mine); got != s.Hash(value(mine)) {
			t.Error("the same change on both sides gave something else")
		}
		if i != j {
			both := copyOf(theirs)
			value(both).Field(i).Set(value(mine).Field(i))
			if got := merge(base, mine, theirs); got != s.Hash(value(both)) {
				t.Errorf("changes of the fields %d and %d gave something else:\nbase   %+v\nmine   %+v\ntheirs %+v", i, j, base, mine, theirs)
			}
		}
	})(t)
}

func TestAdoptTakesWhatIsStoredAndKeepsTheRest(t *testing.T) {
	property[all](func(t *testing.T, s *shape.Shape, r *rand.Rand) {
		to, from := randomOf[all](r), decode[all](t, encode(t, randomOf[all](r)))
		to.Here, to.In.Kept = "here", "inside"
		if to.P == nil {
			to.P = new(inner)
		}
		to.P.Kept = "behind a pointer"
		target, before := to.P, *to.P
		hadPointer := from.P != nil
		s.Adopt(value(to), value(from))
		if s.Hash(value(to)) != s.Hash(value(from)) {
			t.Errorf("got %+v, want what is stored of %+v", to, from)
		}
		if to.Here != "here" || to.In.Kept != "inside" || hadPointer && to.P.Kept != "behind a pointer" {
			t.Errorf("got %q, %q, %+v, want what is not stored kept", to.Here, to.In.Kept, to.P)
		}
		if *target != before {
			t.Errorf("got %+v behind the old pointer, want %+v: it is somebody else's", *target, before)
		}
	})(t)
}

func TestFingerprintTellsShapesApart(t *testing.T) {
	type a struct{ N int }
	type b struct{ N int }
	prints := map[string]uint32{
		"int":          of[struct{ N int }](t).Fingerprint(),
		"int32":        of[struct{ N int32 }](t).Fingerprint(),
		"uint":         of[struct{ N uint }](t).Fingerprint(),
		"pointer":      of[struct{ N *int }](t).Fingerprint(),
		"slice":        of[struct{ N []int }](t).Fingerprint(),
		"array":        of[struct{ N [1]int }](t).Fingerprint(),
		"longer array": of[struct{ N [2]int }](t).Fingerprint(),
		"float32":      of[struct{ N float32 }](t).Fingerprint(),
		"float64":      of[struct{ N float64 }](t).Fingerprint(),
		"string":       of[struct{ N string }](t).Fingerprint(),
		"bytes":        of[struct{ N []byte }](t).Fingerprint(),
		"other name":   of[struct{ M int }](t).Fingerprint(),
		"two":          of[struct{ N, M int }](t).Fingerprint(),
		"nested":       of[struct{ N struct{ M int } }](t).Fingerprint(),
		"map":          of[struct{ N map[string]int }](t).Fingerprint(),
		"map by int":   of[struct{ N map[int]int }](t).Fingerprint(),
		"time":         of[struct{ N time.Time }](t).Fingerprint(),
		"big.Int":      of[struct{ N *big.Int }](t).Fingerprint(),
		"none":         of[struct{}](t).Fingerprint(),
	}
	seen := map[uint32]string{}
	for name, p := range prints {
		if other, ok := seen[p]; ok {
			t.Errorf("%q and %q have one fingerprint", name, other)
		}
		seen[p] = name
	}
	if of[a](t).Fingerprint() != of[b](t).Fingerprint() {
		t.Error("two types of the same fields have two fingerprints")
	}
}

func TestOfNamesEveryField(t *testing.T) {
	type bad struct {
		A chan int
		B struct{ C []any }
		D map[string]func()
	}
	_, err := shape.Of(reflect.TypeFor[bad]())
	for _, want := range []string{"bad.A:", "bad.B.C[]:", "bad.D[]:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}

func TestCheckBoundsTheCost(t *testing.T) {
	type wide struct{ A [128]int64 }
	type list struct{ A []wide }
	s := of[list](t)
	b := append([]byte("\x81\xa1A\xdc\x04\x00"), bytes.Repeat([]byte{0x80}, 1024)...)
	if err := s.Check(b); !errors.Is(err, shape.ErrCost) {
		t.Errorf("got %v for 1024 elements of a KiB each from %d bytes, want ErrCost", err, len(b))
	}
	few := append([]byte("\x81\xa1A\xdc\x01\x00"), bytes.Repeat([]byte{0x80}, 256)...)
	if err := s.Check(few); err != nil {
		t.Errorf("got %v for 256 elements, want none", err)
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	s := of[all](t)
	b := encode(t, randomOf[all](rand.New(rand.NewPCG(3, 4))))
	if n := testing.AllocsPerRun(100, func() {
		if err := s.Check(b); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	benchmarks(b, func(s *shape.Shape, _ any, enc []byte) { _ = s.Check(enc) })
}

func BenchmarkHash(b *testing.B) {
	benchmarks(b, func(s *shape.Shape, p any, _ []byte) { s.Hash(value(p)) })
}

func BenchmarkSort(b *testing.B) {
	benchmarks(b, func(s *shape.Shape, _ any, enc []byte) { s.Sort(enc) })
}

// BenchmarkEncode is the measure of the others.
func BenchmarkEncode(b *testing.B) {
	var buf bytes.Buffer
	e := msgpack.NewEncoder(&buf)
	benchmarks(b, func(_ *shape.Shape, p any, _ []byte) {
		buf.Reset()
		e.Reset(&buf)
		e.UseCompactInts(true)
		_ = e.Encode(p)
	})
}

func benchmarks(b *testing.B, f func(s *shape.Shape, p any, enc []byte)) {
	p := &plain{42, "Ada Lovelace", []int{1, 2, 3, 4, 5, 6, 7, 8}, time.Unix(1.7e9, 0)}
	m := &maps{A: map[string]string{}}
	for i := range 100 {
		m.A[strings.Repeat("k", i)] = "v"
	}
	for name, run := range map[string]struct {
		s *shape.Shape
		p any
	}{"plain": {of[plain](b), p}, "maps": {of[maps](b), m}} {
		enc := encode(b, run.p)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f(run.s, run.p, enc)
			}
		})
	}
}
