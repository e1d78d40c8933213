//go:build !sessions_slow

package codec

import (
	"bytes"
	"encoding/binary"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/typedsessions/sessions/internal/shape"
)

// A direct encodes and decodes a type without msgpack: the same bytes, and of
// those bytes the same values. It exists for types of plain kinds alone. Bytes in
// any other form are msgpack's to judge. A nil one does nothing.
//
// It is immutable and safe for concurrent use. To remove it, delete this file and
// its test, and the build tag of direct_off.go.
type direct struct {
	kind   directKind
	typ    reflect.Type
	bits   int           // of integers
	length int           // of arrays
	empty  reflect.Value // of slices
	key    *direct
	elem   *direct
	fields []directField
	header []byte // of a struct without omitempty
}

type directField struct {
	*direct
	index     int    // in the struct
	path      []int  // in place of index, for a field of an embedded struct
	name      string // encoded
	omitEmpty bool
}

type directKind uint8

const (
	directBool directKind = iota
	directInt
	directUint
	directFloat32
	directFloat64
	directString
	directBytes
	directByteArray
	directTime
	directInts    // []int
	directStrings // []string
	directSlice
	directArray
	directMap
	directPointer
	directStruct
)

// newDirect returns the direct of the plan's type, or nil if msgpack must do it.
// It compares both over the given values and some of its own: the application may
// have registered an encoder or a decoder with msgpack, which only msgpack knows.
func (p *plan) newDirect(values []any) *direct {
	plain := p.shape.Plain()
	if plain == nil {
		return nil
	}
	d := compile(plain, map[*shape.Plain]*direct{})
	if d == nil {
		return nil
	}
	for i := range 4 {
		data := p.New()
		d.vary(value(data), i)
		values = append(values, data)
	}
	for _, data := range values {
		if !p.agrees(d, data) {
			return nil
		}
	}
	return d
}

// agrees reports whether d does with data what msgpack does, which the plan still
// uses. Data that cannot be stored says nothing about either.
func (p *plan) agrees(d *direct, data any) (agree bool) {
	defer func() { agree = recover() == nil && agree }()
	want, err := p.Append(nil, data)
	if err != nil {
		return true
	}
	got, _ := d.append(nil, value(data))
	if !bytes.Equal(got, want) {
		return false
	}
	theirs, ours := p.New(), p.New()
	if p.decode(theirs, want) != nil || !d.decode(value(ours), want) {
		return false
	}
	return reflect.DeepEqual(ours, theirs)
}

// compile returns nil if p holds a kind that msgpack must do.
func compile(p *shape.Plain, done map[*shape.Plain]*direct) *direct {
	if d, ok := done[p]; ok {
		return d
	}
	d := &direct{typ: p.Type}
	if !d.setKind() || !d.compileParts(p, done) {
		d = nil
	}
	done[p] = d
	return d
}

func (d *direct) setKind() bool {
	switch d.typ {
	case reflect.TypeFor[time.Time]():
		d.kind = directTime
		return true
	case reflect.TypeFor[[]int]():
		d.kind = directInts
	case reflect.TypeFor[[]string]():
		d.kind = directStrings
	default:
		d.kind = directSlice
	}
	switch d.typ.Kind() {
	case reflect.Bool:
		d.kind = directBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		d.kind, d.bits = directInt, d.typ.Bits()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		d.kind, d.bits = directUint, d.typ.Bits()
	case reflect.Float32:
		d.kind = directFloat32
	case reflect.Float64:
		d.kind = directFloat64
	case reflect.String:
		d.kind = directString
	case reflect.Slice:
		d.empty = reflect.MakeSlice(d.typ, 0, 0)
		if d.typ.Elem().Kind() == reflect.Uint8 {
			d.kind = directBytes
		}
	case reflect.Array:
		d.kind, d.length = directArray, d.typ.Len()
		if d.typ.Elem().Kind() == reflect.Uint8 {
			d.kind = directByteArray
		}
	case reflect.Map:
		d.kind = directMap
	case reflect.Pointer:
		d.kind = directPointer
	case reflect.Struct:
		d.kind = directStruct
	default:
		return false
	}
	return true
}

func (d *direct) compileParts(p *shape.Plain, done map[*shape.Plain]*direct) bool {
	if p.Key != nil {
		if d.key = compile(p.Key, done); d.key == nil {
			return false
		}
	}
	if p.Elem != nil {
		if d.elem = compile(p.Elem, done); d.elem == nil {
			return false
		}
	}
	omits := false
	for _, f := range p.Fields {
		field := directField{direct: compile(f.Plain, done), index: f.Path[0], name: string(appendString(nil, f.Name)), omitEmpty: f.OmitEmpty}
		if field.direct == nil {
			return false
		}
		if len(f.Path) > 1 {
			field.path = f.Path
		}
		omits = omits || f.OmitEmpty
		d.fields = append(d.fields, field)
	}
	if d.kind == directStruct && !omits {
		d.header = appendCount(nil, 0x80, 0xde, len(d.fields))
	}
	return true
}

func (f *directField) of(v reflect.Value) reflect.Value {
	if f.path == nil {
		return v.Field(f.index)
	}
	for _, i := range f.path {
		v = v.Field(i)
	}
	return v
}

// append appends the encoding of v, which can be set. It reports whether it did.
func (d *direct) append(b []byte, v reflect.Value) ([]byte, bool) {
	if d == nil {
		return b, false
	}
	return d.appendValue(b, v), true
}

func (d *direct) appendValue(b []byte, v reflect.Value) []byte {
	switch d.kind {
	case directBool:
		if v.Bool() {
			return append(b, 0xc3)
		}
		return append(b, 0xc2)
	case directInt:
		return appendInt(b, v.Int())
	case directUint:
		return appendUint(b, v.Uint())
	case directFloat32:
		return binary.BigEndian.AppendUint32(append(b, 0xca), math.Float32bits(float32(v.Float())))
	case directFloat64:
		return binary.BigEndian.AppendUint64(append(b, 0xcb), math.Float64bits(v.Float()))
	case directString:
		return appendString(b, v.String())
	case directBytes:
		if v.IsNil() {
			return append(b, 0xc0)
		}
		return appendBytes(b, v.Bytes())
	case directByteArray:
		return appendBytes(b, v.Bytes())
	case directTime:
		return appendTime(b, *v.Addr().Interface().(*time.Time))
	case directInts:
		all := *v.Addr().Interface().(*[]int)
		if all == nil {
			return append(b, 0xc0)
		}
		b = appendCount(b, 0x90, 0xdc, len(all))
		for _, x := range all {
			b = appendInt(b, int64(x))
		}
		return b
	case directStrings:
		all := *v.Addr().Interface().(*[]string)
		if all == nil {
			return append(b, 0xc0)
		}
		b = appendCount(b, 0x90, 0xdc, len(all))
		for _, s := range all {
			b = appendString(b, s)
		}
		return b
	case directSlice, directArray:
		if d.kind == directSlice && v.IsNil() {
			return append(b, 0xc0)
		}
		l := v.Len()
		b = appendCount(b, 0x90, 0xdc, l)
		for i := range l {
			b = d.elem.appendValue(b, v.Index(i))
		}
		return b
	case directMap:
		return d.appendMap(b, v)
	case directPointer:
		if v.IsNil() {
			return append(b, 0xc0)
		}
		return d.elem.appendValue(b, v.Elem())
	default:
		return d.appendStruct(b, v)
	}
}

func (d *direct) appendStruct(b []byte, v reflect.Value) []byte {
	if d.header != nil {
		b = append(b, d.header...)
	} else {
		l := 0
		for i := range d.fields {
			if !d.fields[i].omits(v) {
				l++
			}
		}
		b = appendCount(b, 0x80, 0xde, l)
	}
	for i := range d.fields {
		f := &d.fields[i]
		if f.omits(v) {
			continue
		}
		b = append(b, f.name...)
		b = f.appendValue(b, f.of(v))
	}
	return b
}

func (f *directField) omits(v reflect.Value) bool { return f.omitEmpty && f.isEmpty(f.of(v)) }

// isEmpty reports whether msgpack takes v for empty: an array only if it has no
// elements, a struct if omitempty leaves out all of its fields.
func (d *direct) isEmpty(v reflect.Value) bool {
	switch d.kind {
	case directBool:
		return !v.Bool()
	case directInt:
		return v.Int() == 0
	case directUint:
		return v.Uint() == 0
	case directFloat32, directFloat64:
		return v.Float() == 0
	case directTime:
		return v.Addr().Interface().(*time.Time).IsZero()
	case directPointer:
		return v.IsNil()
	case directStruct:
		for i := range d.fields {
			if !d.fields[i].omits(v) {
				return false
			}
		}
		return true
	default:
		return v.Len() == 0
	}
}

// appendMap appends the entries in ascending order of their encoded keys, as
// shape.Sort has them.
func (d *direct) appendMap(b []byte, v reflect.Value) []byte {
	if v.IsNil() {
		return append(b, 0xc0)
	}
	l := v.Len()
	b = appendCount(b, 0x80, 0xde, l)
	if l == 0 {
		return b
	}
	type entry struct{ start, value, end int }
	var few [8]entry
	entries := few[:0]
	first := len(b)
	// One key and one value for all entries: they have addresses, and it.Key and
	// it.Value make new ones each time.
	key, elem := reflect.New(d.key.typ).Elem(), reflect.New(d.elem.typ).Elem()
	for it := v.MapRange(); it.Next(); {
		key.SetIterKey(it)
		elem.SetIterValue(it)
		e := entry{start: len(b)}
		b = d.key.appendValue(b, key)
		e.value = len(b)
		b = d.elem.appendValue(b, elem)
		e.end = len(b)
		entries = append(entries, e)
	}
	byKey := func(x, y entry) int { return bytes.Compare(b[x.start:x.value], b[y.start:y.value]) }
	if slices.IsSortedFunc(entries, byKey) {
		return b
	}
	slices.SortFunc(entries, byKey)
	last := len(b)
	for _, e := range entries {
		b = append(b, b[e.start:e.end]...)
	}
	return b[:first+copy(b[first:], b[last:])]
}

func appendInt(b []byte, x int64) []byte {
	switch {
	case x >= 0:
		return appendUint(b, uint64(x))
	case x >= -32:
		return append(b, byte(x))
	case x >= math.MinInt8:
		return append(b, 0xd0, byte(x))
	case x >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(b, 0xd1), uint16(x))
	case x >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(x))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(x))
}

func appendUint(b []byte, x uint64) []byte {
	switch {
	case x <= math.MaxInt8:
		return append(b, byte(x))
	case x <= math.MaxUint8:
		return append(b, 0xcc, byte(x))
	case x <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(x))
	case x <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(x))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), x)
}

func appendString(b []byte, s string) []byte {
	if len(s) < 32 {
		b = append(b, 0xa0|byte(len(s)))
	} else {
		b = appendSize(b, 0xd9, len(s))
	}
	return append(b, s...)
}

func appendBytes(b, content []byte) []byte {
	return append(appendSize(b, 0xc4, len(content)), content...)
}

// appendSize appends the size of a string or of bytes. code is that of sizes of one byte.
func appendSize(b []byte, code byte, l int) []byte {
	switch {
	case l <= math.MaxUint8:
		return append(b, code, byte(l))
	case l <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, code+1), uint16(l))
	}
	return binary.BigEndian.AppendUint32(append(b, code+2), uint32(l))
}

// appendCount appends the header of an array (fix 0x90, wide 0xdc) or a map (0x80, 0xde).
func appendCount(b []byte, fix, wide byte, l int) []byte {
	switch {
	case l < 16:
		return append(b, fix|byte(l))
	case l <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, wide), uint16(l))
	}
	return binary.BigEndian.AppendUint32(append(b, wide+1), uint32(l))
}

func appendTime(b []byte, t time.Time) []byte {
	secs, nanos := uint64(t.Unix()), uint64(t.Nanosecond())
	switch {
	case secs>>32 == 0 && nanos == 0:
		return binary.BigEndian.AppendUint32(append(b, 0xd6, 0xff), uint32(secs))
	case secs>>34 == 0:
		return binary.BigEndian.AppendUint64(append(b, 0xd7, 0xff), nanos<<34|secs)
	}
	b = binary.BigEndian.AppendUint32(append(b, 0xc7, 12, 0xff), uint32(nanos))
	return binary.BigEndian.AppendUint64(b, secs)
}

// decode fills v, which is zero and can be set, from b. It reports whether it did.
// If it did not, b is not in the form that append writes, and v is as it was.
//
// It reads b twice. The first time makes nothing: memory for what b holds is
// taken once, by msgpack or here, whoever has made b.
func (d *direct) decode(v reflect.Value, b []byte) bool {
	if d == nil {
		return false
	}
	r := directReader{b: b}
	if !r.read(d, reflect.Value{}, false) || r.i != len(b) {
		return false
	}
	r.i = 0
	return r.read(d, v, true)
}

type directReader struct {
	b []byte
	i int
}

// read reads a value of d, and if store is set, fills v with it. It reports
// whether the value is in the form that append writes.
func (r *directReader) read(d *direct, v reflect.Value, store bool) bool {
	if r.i >= len(r.b) {
		return false
	}
	switch c := r.b[r.i]; d.kind {
	case directBool:
		if c != 0xc2 && c != 0xc3 {
			return false
		}
		r.i++
		if store {
			v.SetBool(c == 0xc3)
		}
		return true
	case directInt:
		x, ok := r.int(d.bits)
		if ok && store {
			v.SetInt(x)
		}
		return ok
	case directUint:
		x, negative, ok := r.integer()
		if !ok || negative || d.bits < 64 && x>>d.bits != 0 {
			return false
		}
		if store {
			v.SetUint(x)
		}
		return true
	case directFloat32:
		if c != 0xca || len(r.b)-r.i < 5 {
			return false
		}
		if store {
			v.SetFloat(float64(math.Float32frombits(binary.BigEndian.Uint32(r.b[r.i+1:]))))
		}
		r.i += 5
		return true
	case directFloat64:
		if c != 0xcb || len(r.b)-r.i < 9 {
			return false
		}
		if store {
			v.SetFloat(math.Float64frombits(binary.BigEndian.Uint64(r.b[r.i+1:])))
		}
		r.i += 9
		return true
	case directString:
		s, ok := r.string()
		if ok && store {
			v.SetString(string(s))
		}
		return ok
	case directTime:
		t, ok := r.time()
		if ok && store {
			*v.Addr().Interface().(*time.Time) = t
		}
		return ok
	case directByteArray:
		content, ok := r.bytes()
		if !ok || len(content) != d.length {
			return false
		}
		if store {
			copy(v.Bytes(), content)
		}
		return true
	case directArray:
		if l, ok := r.count(0x90, 0xdc); !ok || l != d.length {
			return false
		}
		return r.elements(d, v, d.length, store)
	case directStruct:
		return r.fields(d, v, store)
	default: // what may be nil
		if c == 0xc0 {
			r.i++
			return true
		}
		return r.nillable(d, v, store)
	}
}

func (r *directReader) nillable(d *direct, v reflect.Value, store bool) bool {
	switch d.kind {
	case directBytes:
		content, ok := r.bytes()
		if ok && store {
			v.SetBytes(bytes.Clone(content))
		}
		return ok
	case directPointer:
		if store {
			p := reflect.New(d.elem.typ)
			v.Set(p)
			v = p.Elem()
		}
		return r.read(d.elem, v, store)
	case directMap:
		return r.entries(d, v, store)
	}
	l, ok := r.count(0x90, 0xdc)
	if !ok {
		return false
	}
	switch d.kind { // without reflection for each element
	case directInts:
		var all []int
		if store {
			all = make([]int, l)
			*v.Addr().Interface().(*[]int) = all
		}
		for i := range l {
			x, ok := r.int(strconv.IntSize)
			if !ok {
				return false
			}
			if store {
				all[i] = int(x)
			}
		}
		return true
	case directStrings:
		var all []string
		if store {
			all = make([]string, l)
			*v.Addr().Interface().(*[]string) = all
		}
		for i := range l {
			s, ok := r.string()
			if !ok {
				return false
			}
			if store {
				all[i] = string(s)
			}
		}
		return true
	}
	if !store {
		return r.elements(d, v, l, false)
	}
	if l == 0 {
		v.Set(d.empty)
		return true
	}
	v.Grow(l)
	v.SetLen(l)
	return r.elements(d, v, l, true)
}

func (r *directReader) elements(d *direct, v reflect.Value, l int, store bool) bool {
	var elem reflect.Value
	for i := range l {
		if store {
			elem = v.Index(i)
		}
		if !r.read(d.elem, elem, store) {
			return false
		}
	}
	return true
}

// entries reads a map whose keys ascend: no key is there twice.
func (r *directReader) entries(d *direct, v reflect.Value, store bool) bool {
	l, ok := r.count(0x80, 0xde)
	if !ok {
		return false
	}
	var key, elem reflect.Value
	if store {
		v.Set(reflect.MakeMapWithSize(d.typ, l))
		if l > 0 {
			key, elem = reflect.New(d.key.typ).Elem(), reflect.New(d.elem.typ).Elem()
		}
	}
	var previous []byte
	for range l {
		if store {
			key.SetZero()
			elem.SetZero()
		}
		start := r.i
		if !r.read(d.key, key, store) {
			return false
		}
		encoded := r.b[start:r.i]
		if bytes.Compare(previous, encoded) >= 0 {
			return false
		}
		previous = encoded
		if !r.read(d.elem, elem, store) {
			return false
		}
		if store {
			v.SetMapIndex(key, elem)
		}
	}
	return true
}

func (r *directReader) fields(d *direct, v reflect.Value, store bool) bool {
	l, ok := r.count(0x80, 0xde)
	if !ok {
		return false
	}
	var field reflect.Value
	for i := range d.fields {
		f := &d.fields[i]
		end := r.i + len(f.name)
		if l == 0 || end > len(r.b) || string(r.b[r.i:end]) != f.name {
			if f.omitEmpty {
				continue
			}
			return false
		}
		r.i = end
		l--
		if store {
			field = f.of(v)
		}
		if !r.read(f.direct, field, store) {
			return false
		}
	}
	return l == 0
}

// int reads a signed integer of this many bits.
func (r *directReader) int(bits int) (int64, bool) {
	x, negative, ok := r.integer()
	if !ok || !negative && x>>(bits-1) != 0 || negative && int64(x) < -1<<(bits-1) {
		return 0, false
	}
	return int64(x), true
}

// integer reads an integer in its shortest form.
func (r *directReader) integer() (x uint64, negative, ok bool) {
	b := r.b[r.i:]
	if len(b) == 0 {
		return 0, false, false
	}
	c := b[0]
	switch {
	case c <= 0x7f:
		r.i++
		return uint64(c), false, true
	case c >= 0xe0:
		r.i++
		return uint64(int64(int8(c))), true, true
	case c < 0xcc || c > 0xd3:
		return 0, false, false
	}
	size := 1 << ((c - 0xcc) & 3)
	if len(b) <= size {
		return 0, false, false
	}
	x = number(b[1:], size)
	r.i += 1 + size
	if c >= 0xd0 {
		shift := 64 - 8*size
		signed := int64(x<<shift) >> shift
		if size == 1 {
			return uint64(signed), true, signed < -32
		}
		return uint64(signed), true, signed < -1<<(4*size-1)
	}
	if size == 1 {
		return x, false, x > 0x7f
	}
	return x, false, x>>(4*size) != 0
}

// number is the big-endian one that b begins with.
func number(b []byte, size int) uint64 {
	switch size {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	}
	return binary.BigEndian.Uint64(b)
}

// string returns the content of a string, which is a part of r.b.
func (r *directReader) string() ([]byte, bool) {
	if r.i < len(r.b) && r.b[r.i]&0xe0 == 0xa0 {
		l := int(r.b[r.i] & 0x1f)
		r.i++
		return r.take(l)
	}
	return r.sized(0xd9, 32)
}

// bytes is string for bytes.
func (r *directReader) bytes() ([]byte, bool) { return r.sized(0xc4, 0) }

// sized reads what appendSize has written the size of, which is not less than least.
func (r *directReader) sized(code byte, least uint64) ([]byte, bool) {
	b := r.b[r.i:]
	if len(b) == 0 || b[0] < code || b[0] > code+2 {
		return nil, false
	}
	size := 1 << (b[0] - code)
	if len(b) <= size {
		return nil, false
	}
	l := number(b[1:], size)
	if size > 1 {
		least = 1 << (4 * size)
	}
	if l < least || l > uint64(len(b)) {
		return nil, false
	}
	r.i += 1 + size
	return r.take(int(l))
}

func (r *directReader) take(l int) ([]byte, bool) {
	if l > len(r.b)-r.i {
		return nil, false
	}
	r.i += l
	return r.b[r.i-l : r.i], true
}

// count reads what appendCount has written. It is not more than there are bytes
// left, since each element takes one.
func (r *directReader) count(fix, wide byte) (int, bool) {
	b := r.b[r.i:]
	if len(b) == 0 {
		return 0, false
	}
	size, l, least := 0, uint64(b[0]&0x0f), uint64(0)
	switch {
	case b[0]&0xf0 == fix:
	case b[0] == wide:
		size, least = 2, 16
	case b[0] == wide+1:
		size, least = 4, 1<<16
	default:
		return 0, false
	}
	if len(b) <= size {
		return 0, false
	}
	if size > 0 {
		l = number(b[1:], size)
	}
	r.i += 1 + size
	return int(l), l >= least && l <= uint64(len(r.b)-r.i)
}

// time reads a timestamp, in the zone that msgpack gives it.
func (r *directReader) time() (t time.Time, ok bool) {
	b := r.b[r.i:]
	var secs, nanos uint64
	switch {
	case len(b) >= 6 && b[0] == 0xd6 && b[1] == 0xff:
		secs = number(b[2:], 4)
		r.i += 6
	case len(b) >= 10 && b[0] == 0xd7 && b[1] == 0xff:
		both := number(b[2:], 8)
		secs, nanos = both&(1<<34-1), both>>34
		if both>>32 == 0 {
			return t, false
		}
		r.i += 10
	case len(b) >= 15 && b[0] == 0xc7 && b[1] == 12 && b[2] == 0xff:
		nanos, secs = number(b[3:], 4), number(b[7:], 8)
		if secs>>34 == 0 {
			return t, false
		}
		r.i += 15
	default:
		return t, false
	}
	if nanos > 999_999_999 {
		return t, false
	}
	if t = time.Unix(int64(secs), int64(nanos)); t.IsZero() {
		t = t.UTC()
	}
	return t, true
}

// vary sets v to one of a few values that differ in size, sign and case, other
// than shape.Fill does: what an encoder of the application's own would change.
func (d *direct) vary(v reflect.Value, i int) {
	switch d.kind {
	case directBool:
		v.SetBool(i&1 == 0)
	case directInt:
		v.SetInt([]int64{-7, math.MaxInt64 >> (64 - d.bits), -40, 100}[i])
	case directUint:
		v.SetUint([]uint64{7, 200, 77, 100}[i])
	case directFloat32, directFloat64:
		v.SetFloat([]float64{-1.25, 1e9, 0.5, -3}[i])
	case directString:
		v.SetString([]string{"Ab c@Example.org ", "é\x00\xff日", "A string that is longer than thirty-two bytes", "-12.50"}[i])
	case directBytes:
		v.SetBytes([]byte{0, byte(i), 0xff})
	case directByteArray:
		for k := range d.length {
			v.Index(k).SetUint(uint64(k*7+i) & 0xff)
		}
	case directTime:
		v.Set(reflect.ValueOf([]time.Time{time.Unix(-1e9, 5), time.Unix(1e9, 123456789), time.Unix(1e9, 0), time.Unix(1e10, 0)}[i]))
	case directInts, directStrings, directSlice:
		v.Set(reflect.MakeSlice(d.typ, i, i))
		for k := range i {
			d.elem.vary(v.Index(k), (i+k)&3)
		}
	case directArray:
		for k := range d.length {
			d.elem.vary(v.Index(k), (i+k)&3)
		}
	case directMap:
		v.Set(reflect.MakeMap(d.typ))
		key, elem := reflect.New(d.key.typ).Elem(), reflect.New(d.elem.typ).Elem()
		for k := range i {
			key.SetZero()
			elem.SetZero()
			d.key.vary(key, (i+k)&3)
			d.elem.vary(elem, (i+k)&3)
			v.SetMapIndex(key, elem)
		}
	case directPointer:
		if i > 0 {
			p := reflect.New(d.elem.typ)
			d.elem.vary(p.Elem(), i)
			v.Set(p)
		}
	case directStruct:
		for k := range d.fields {
			d.fields[k].vary(d.fields[k].of(v), (i+k)&3)
		}
	}
}
