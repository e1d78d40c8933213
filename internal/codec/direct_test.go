//go:build !sessions_slow

package codec

import (
	"bytes"
	"fmt"
	"math"
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
	visit struct {
		UserID   int       `msgpack:"uid"`
		Name     string    `msgpack:"name"`
		Role     string    `msgpack:"role"`
		Cart     []int     `msgpack:"cart"`
		LastSeen time.Time `msgpack:"seen"`
	}
	small  int8
	letter byte
	label  string
	labels []string
	raw    []letter
	cents  float32
	Part   struct {
		X    small `msgpack:",omitempty"`
		Note label `msgpack:"n,omitempty"`
	}
	part struct {
		Hidden int `msgpack:"-"`
		Y, Z   uint16
	}
	Lazy struct {
		_msgpack struct{} `msgpack:",omitempty"` //lint:ignore U1000 msgpack reads its tag
		Seen     time.Time
		Inner    Part
		Some     [2]int
		None     [0]int
		Wait     time.Duration
		Score    float64
		On       bool
		Of       map[string]string
	}
	mixed struct {
		Part
		part
		Lazy  `msgpack:"lazy,noinline"`
		Maps  map[small]map[string][]bool
		Keys  map[[2]int8]Part
		Words map[label]label
		PP    **Part
		At    *time.Time
		Raw   raw
		Sum   [4]byte
		Other int `msgpack:"o,alias:other"`
	}
)

// leaves are the types that random ones are made of.
var leaves = []reflect.Type{
	reflect.TypeFor[bool](), reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[int16](), reflect.TypeFor[int32](), reflect.TypeFor[int64](),
	reflect.TypeFor[uint](), reflect.TypeFor[uint8](), reflect.TypeFor[uint16](), reflect.TypeFor[uint32](), reflect.TypeFor[uint64](),
	reflect.TypeFor[float32](), reflect.TypeFor[float64](), reflect.TypeFor[string](), reflect.TypeFor[[]byte](), reflect.TypeFor[[5]byte](),
	reflect.TypeFor[time.Time](), reflect.TypeFor[time.Duration](), reflect.TypeFor[small](), reflect.TypeFor[label](), reflect.TypeFor[labels](),
	reflect.TypeFor[raw](), reflect.TypeFor[cents](), reflect.TypeFor[[]int](), reflect.TypeFor[[]string](), reflect.TypeFor[*time.Time](),
	reflect.TypeFor[Part](), reflect.TypeFor[Lazy](), reflect.TypeFor[map[string]string](), reflect.TypeFor[map[string]bool](), reflect.TypeFor[mixed](),
}

func randomType(r *rand.Rand, depth int) reflect.Type {
	if depth == 0 {
		return leaves[r.IntN(len(leaves))]
	}
	switch r.IntN(8) {
	case 0:
		return reflect.SliceOf(randomType(r, depth-1))
	case 1:
		return reflect.ArrayOf(r.IntN(4), randomType(r, depth-1))
	case 2:
		for {
			if key := randomType(r, r.IntN(2)); key.Comparable() {
				return reflect.MapOf(key, randomType(r, depth-1))
			}
		}
	case 3:
		return reflect.PointerTo(randomType(r, depth-1))
	case 4:
		return randomStruct(r, depth-1)
	}
	return leaves[r.IntN(len(leaves))]
}

func randomStruct(r *rand.Rand, depth int) reflect.Type {
	var fields []reflect.StructField
	l := r.IntN(8)
	if r.IntN(16) == 0 {
		l += 16
	}
	for i := range l {
		f := reflect.StructField{Name: fmt.Sprint("F", i), Type: randomType(r, depth)}
		switch r.IntN(8) {
		case 0:
			f.Tag = `msgpack:"-"`
		case 1, 2, 3:
			f.Tag = `msgpack:",omitempty"`
		case 4:
			f.Tag = reflect.StructTag(fmt.Sprintf(`msgpack:"%s%d,omitempty"`, strings.Repeat("long", 10), i))
		case 5:
			f.Tag = reflect.StructTag(fmt.Sprintf(`msgpack:"%c,alias:alias%d"`, 'a'+i, i))
		}
		fields = append(fields, f)
	}
	if r.IntN(4) == 0 {
		f := reflect.StructField{Name: "Part", Type: reflect.TypeFor[Part](), Anonymous: true}
		if r.IntN(2) == 0 {
			f.Tag = `msgpack:"part,noinline,omitempty"`
		}
		fields = append(fields, f)
	}
	return reflect.StructOf(fields)
}

var sizes = []int{0, 0, 1, 1, 2, 3, 5, 15, 16, 17, 31, 32, 33, 255, 256, 257}

// A randomFill makes random values, of a few hundred parts at most.
type randomFill struct {
	*rand.Rand
	parts int
}

// set sets v, which is zero, or leaves it.
func (r *randomFill) set(v reflect.Value) {
	t := v.Type()
	if r.parts++; r.parts > 400 || r.IntN(5) == 0 {
		return
	}
	if t == reflect.TypeFor[time.Time]() {
		secs := []int64{0, 1, -1, math.MaxUint32, math.MaxUint32 + 1, 1<<34 - 1, 1 << 34, -62135596800, 253402300799, r.Int64N(1 << 33)}
		v.Set(reflect.ValueOf(time.Unix(secs[r.IntN(len(secs))], []int64{0, 0, 1, 999_999_999}[r.IntN(4)]).In(time.FixedZone("", r.IntN(9)*1800))))
		return
	}
	number := r.Uint64() >> r.IntN(64)
	if r.IntN(2) == 0 {
		number = 1<<r.IntN(65) - uint64(r.IntN(3))
	}
	size := sizes[r.IntN(len(sizes))]
	if r.parts > 40 && t.Kind() != reflect.String {
		size = min(size, r.IntN(4))
	}
	switch t.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		x := int64(number)
		if r.IntN(2) == 0 {
			x = -x
		}
		v.SetInt(x << (64 - t.Bits()) >> (64 - t.Bits()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(number << (64 - t.Bits()) >> (64 - t.Bits()))
	case reflect.Float32, reflect.Float64:
		v.SetFloat([]float64{math.Inf(1), math.Copysign(0, -1), math.NaN(), 0.1, float64(number)}[r.IntN(5)])
	case reflect.String:
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		v.SetString(string(b))
	case reflect.Slice:
		if r.IntN(200) == 0 && t.Elem().Size() == 1 {
			size = 1<<16 - r.IntN(2)
		}
		v.Set(reflect.MakeSlice(t, size, size))
		for i := range size {
			r.set(v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			r.set(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(t))
		for range size {
			key, elem := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
			r.set(key)
			r.set(elem)
			if key.Equal(key) { // no NaN, whose entries have no order
				v.SetMapIndex(key, elem)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		r.set(v.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); (f.IsExported() || f.Anonymous) && f.Tag.Get("msgpack") != "-" {
				r.set(v.Field(i))
			}
		}
	}
}

// same is reflect.DeepEqual, but for floats, which it compares by their bits.
func same(a, b reflect.Value) bool {
	if a.Type() == reflect.TypeFor[time.Time]() {
		return a.Interface() == b.Interface()
	}
	switch a.Kind() {
	case reflect.Float32, reflect.Float64:
		return math.Float64bits(a.Float()) == math.Float64bits(b.Float())
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() || a.Kind() == reflect.Slice && a.IsNil() != b.IsNil() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.Len() != b.Len() || a.IsNil() != b.IsNil() {
			return false
		}
		for it := a.MapRange(); it.Next(); {
			if !it.Key().Equal(it.Key()) {
				continue // NaN
			}
			if in := b.MapIndex(it.Key()); !in.IsValid() || !same(it.Value(), in) {
				return false
			}
		}
		return true
	case reflect.Pointer:
		return a.IsNil() == b.IsNil() && (a.IsNil() || same(a.Elem(), b.Elem()))
	case reflect.Struct:
		for i := range a.NumField() {
			if f := a.Type().Field(i); (f.IsExported() || f.Anonymous) && !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// both returns a plan that has the fast path and one that has not. It reports
// whether the type has one.
func bothWays(typ reflect.Type) (fast, slow *plan, ok bool) {
	s, err := shape.Of(typ)
	if err != nil {
		return nil, nil, false
	}
	slow = &plan{typ: typ, shape: s}
	fast = &plan{typ: typ, shape: s, direct: slow.newDirect(nil)}
	return fast, slow, fast.direct != nil
}

type counts struct{ types, values, checked, direct int }

// compare reports where the two paths differ: over a random type and value, and
// over what mutations make of its encoding.
func compareBoth(t *testing.T, seed uint64, mutations []byte, n *counts) {
	r := rand.New(rand.NewPCG(seed, 1))
	typ := randomStruct(r, 3)
	fast, slow, ok := bothWays(typ)
	if fast == nil {
		return // New refuses it
	}
	if !ok {
		t.Fatalf("seed %d: %v has no fast path", seed, typ)
	}
	n.types++
	for range 4 {
		data := fast.New()
		(&randomFill{Rand: r}).set(value(data))
		want, err := slow.Append([]byte("x"), data)
		got, fastErr := fast.Append([]byte("x"), data)
		if (err == nil) != (fastErr == nil) || !bytes.Equal(got, want) {
			t.Fatalf("seed %d: %v\ngot  %x %v\nwant %x %v", seed, typ, got, fastErr, want, err)
		}
		if err != nil {
			continue
		}
		n.values++
		if !fast.direct.decode(value(fast.New()), want[1:]) {
			t.Fatalf("seed %d: %v: the fast path refuses its own %x", seed, typ, want[1:])
		}
		decodeBoth(t, fast, slow, want[1:], n)
		decodeBoth(t, fast, slow, mutated(r, bytes.Clone(want[1:]), mutations), n)
		for range 8 {
			decodeBoth(t, fast, slow, mutated(r, bytes.Clone(want[1:]), nil), n)
		}
	}
}

func decodeBoth(t *testing.T, fast, slow *plan, b []byte, n *counts) {
	t.Helper()
	direct := fast.direct.decode(value(fast.New()), b)
	checked := fast.shape.Check(b) == nil
	if !direct && !checked {
		return // nobody decodes it
	}
	n.checked++
	if direct {
		n.direct++
	}
	got, want := fast.New(), slow.New()
	scratch := bytes.Clone(b)
	fastErr := fast.decode(got, scratch)
	clear(scratch)
	if err := slow.decode(want, b); (err == nil) != (fastErr == nil) {
		t.Fatalf("%v: %x: got %v, want %v", fast.typ, b, fastErr, err)
	}
	if !same(value(got), value(want)) {
		t.Fatalf("%v: %x:\ngot  %+v\nwant %+v", fast.typ, b, got, want)
	}
}

// mutated changes b in the given way, or in a random one.
func mutated(r *rand.Rand, b, how []byte) []byte {
	for i := 0; i == 0 || i+2 < len(how) && i < 30; i += 3 {
		at, op, c := r.IntN(len(b)+1), r.IntN(6), byte(r.Uint32())
		if i+2 < len(how) {
			at, op, c = int(how[i])%(len(b)+1), int(how[i+1])%6, how[i+2]
		}
		if at >= len(b) {
			b = append(b, c)
			continue
		}
		switch op {
		case 0:
			b[at] = c
		case 1:
			b[at] ^= 1 << (c & 7)
		case 2:
			b = append(b[:at], b[at+1:]...)
		case 3:
			b = append(b[:at], append([]byte{c}, b[at:]...)...)
		case 4: // a longer form of a small number or a size
			long := [][]byte{{0xcc, b[at]}, {0xd0, b[at]}, {0xcd, 0, b[at]}, {0xd3, 0, 0, 0, 0, 0, 0, 0, b[at]}, {0xd9, b[at] & 0x1f}, {0xda, 0, b[at] & 0x1f}, {0xdc, 0, b[at] & 0xf}, {0xde, 0, b[at] & 0xf}}
			b = append(b[:at], append(bytes.Clone(long[int(c)%len(long)]), b[at+1:]...)...)
		case 5:
			b[at] = []byte{0xc0, 0x80, 0x90, 0xa0, 0xc4, 0xd6, 0xd7, 0xc7}[c&7]
		}
	}
	return b
}

func TestTheFastPathDoesWhatMsgpackDoes(t *testing.T) {
	var n counts
	for seed := range uint64(200) {
		compareBoth(t, seed, nil, &n)
	}
	t.Logf("%+v", n)
	if n.types < 100 || n.direct < n.values || n.checked < 2*n.direct/3 {
		t.Errorf("got %+v, too few to tell", n)
	}
}

func FuzzDirect(f *testing.F) {
	f.Add(uint64(1), []byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, seed uint64, mutations []byte) { compareBoth(t, seed, mutations, new(counts)) })
}

func TestPlainTypesHaveAFastPath(t *testing.T) {
	for _, typ := range []reflect.Type{reflect.TypeFor[visit](), reflect.TypeFor[mixed](), reflect.TypeFor[struct{}]()} {
		c, err := Analyze(typ, Options{})
		if err != nil || c.direct == nil {
			t.Errorf("%v: got %v, %v", typ, c.direct, err)
		}
	}
}

type (
	quiet   string
	sealed  struct{ X int }
	counter uint16
)

// Encoders that only msgpack knows of must not be bypassed.
func TestWhatOnlyMsgpackKnowsIsLeftToIt(t *testing.T) {
	msgpack.Register(quiet(""),
		func(e *msgpack.Encoder, v reflect.Value) error { return e.EncodeString(strings.ToLower(v.String())) },
		func(d *msgpack.Decoder, v reflect.Value) error {
			s, err := d.DecodeString()
			v.SetString(s)
			return err
		})
	msgpack.Register(sealed{},
		func(e *msgpack.Encoder, v reflect.Value) error { return e.EncodeInt(v.Field(0).Int()) },
		func(d *msgpack.Decoder, v reflect.Value) error {
			x, err := d.DecodeInt64()
			v.Field(0).SetInt(x)
			return err
		})
	msgpack.Register(counter(0), nil, func(d *msgpack.Decoder, v reflect.Value) error {
		x, err := d.DecodeUint64()
		v.SetUint(min(x, 50))
		return err
	})
	for _, typ := range []reflect.Type{
		reflect.TypeFor[struct{ A quiet }](), reflect.TypeFor[struct{ A []quiet }](), reflect.TypeFor[struct{ A map[quiet]int }](),
		reflect.TypeFor[struct{ A *sealed }](), reflect.TypeFor[struct{ A [2]counter }](),
		reflect.TypeFor[struct{ A netip.Addr }](), reflect.TypeFor[struct{ A map[int]netip.Addr }](),
	} {
		if fast, _, ok := bothWays(typ); ok || fast == nil {
			t.Errorf("%v: got a fast path", typ)
		}
	}
}

func someVisit() *visit {
	return &visit{UserID: 123456, Name: "Ada Lovelace", Role: "user", Cart: []int{1, 22, 333, 4444, 55555, 6, 77, 888}, LastSeen: time.Unix(1_700_000_000, 0)}
}

func BenchmarkDirect(b *testing.B) {
	words := map[label]label{}
	for i := range 6 {
		words[label(fmt.Sprint("word ", i))] = "x"
	}
	for _, data := range []any{someVisit(), &mixed{Words: words, Maps: map[small]map[string][]bool{1: {"a": {true}}}, Part: Part{X: 1}}} {
		fast, slow, _ := bothWays(reflect.TypeOf(data).Elem())
		encoded, err := slow.Append(nil, data)
		if err != nil {
			b.Fatal(err)
		}
		buf := make([]byte, 0, 1024)
		for _, p := range []struct {
			name string
			*plan
		}{{"msgpack", slow}, {"direct", fast}} {
			name := "/type=" + fast.typ.Name() + "/by=" + p.name
			b.Run("Append"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_, _ = p.Append(buf, data)
				}
			})
			b.Run("decode"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_ = p.decode(p.New(), encoded)
				}
			})
		}
	}
}
