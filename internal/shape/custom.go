package shape

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"reflect"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// What msgpack looks for, in its order: the method that encodes and the one
// that must stand beside it.
var codecs = []struct {
	enc, dec         string
	encType, decType reflect.Type
}{
	{"EncodeMsgpack", "DecodeMsgpack", reflect.TypeFor[msgpack.CustomEncoder](), reflect.TypeFor[msgpack.CustomDecoder]()},
	{"MarshalMsgpack", "UnmarshalMsgpack", reflect.TypeFor[msgpack.Marshaler](), reflect.TypeFor[msgpack.Unmarshaler]()},
	{"MarshalBinary", "UnmarshalBinary", reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler]()},
	{"MarshalText", "UnmarshalText", reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler]()},
}

var codecPairs = map[string]string{"": "", "EncodeMsgpack": "DecodeMsgpack", "MarshalMsgpack": "UnmarshalMsgpack", "MarshalBinary": "UnmarshalBinary", "MarshalText": "UnmarshalText"}

func codecHalf(dec string) string {
	for enc, d := range codecPairs {
		if d == dec {
			return enc
		}
	}
	return ""
}

// codecOf names the methods by which msgpack encodes and decodes t, "" for none.
func codecOf(t reflect.Type) (enc, dec string) {
	if t.Kind() == reflect.Pointer && !implementsAny(t) {
		return "", ""
	}
	if t.Kind() == reflect.Pointer && t.Elem() == timeType {
		return "", "" // registered by msgpack itself
	}
	for _, pick := range []func(reflect.Type) reflect.Type{func(t reflect.Type) reflect.Type { return t }, reflect.PointerTo} {
		at := pick(t)
		if t.Kind() == reflect.Pointer && at != t {
			break
		}
		for _, c := range codecs {
			if enc == "" && at.Implements(c.encType) {
				enc = c.enc
			}
			if dec == "" && at.Implements(c.decType) {
				dec = c.dec
			}
		}
	}
	return enc, dec
}

func implementsAny(t reflect.Type) bool {
	for _, c := range codecs {
		if t.Implements(c.encType) || t.Implements(c.decType) {
			return true
		}
	}
	return false
}

func hasCodec(t reflect.Type) bool {
	enc, dec := codecOf(t)
	return enc != "" || dec != ""
}

// needsAddress reports whether encoding t calls a method of *t: msgpack can do
// that in a field, but not in a map, whose elements have no address.
func needsAddress(t reflect.Type, depth int) bool {
	if t == timeType || depth > 32 {
		return false
	}
	if hasCodec(t) {
		for _, c := range codecs {
			if t.Implements(c.encType) {
				return false
			}
		}
		return true
	}
	switch t.Kind() {
	case reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return t.Elem() != reflect.TypeFor[byte]() // msgpack copies those that have no address, byte by byte only
		}
		return needsAddress(t.Elem(), depth+1)
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && f.Tag.Get("msgpack") != "-" && needsAddress(f.Type, depth+1) {
				return true
			}
		}
	}
	return false
}

func holdsPointer(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Chan, reflect.UnsafePointer:
		return true
	case reflect.Array:
		return holdsPointer(t.Elem())
	case reflect.Struct:
		if t == timeType {
			return true // its zone is a pointer: the same instant would be two keys
		}
		if v := jsonValue(t); v != nil {
			return holdsPointer(v)
		}
		if hasCodec(t) {
			return false // netip.Addr: what it means by equal is its own affair
		}
		for i := range t.NumField() {
			if holdsPointer(t.Field(i).Type) {
				return true
			}
		}
	}
	return false
}

// lostBeside names a field of t that its codec would not store, where that is
// not t's own but promoted from an embedded field: then both make the same of
// the same value.
func lostBeside(t reflect.Type, enc string) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return ""
	}
	outer := reflect.New(t)
	from := -1
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.Anonymous {
			continue
		}
		inner := reflect.New(f.Type)
		if f.IsExported() { // others compare by their zero value
			FillAll(inner.Elem())
			outer.Elem().Field(i).Set(inner.Elem())
		}
		if b, ok := encodedBy(enc, outer); ok {
			if c, ok := encodedBy(enc, inner); ok && bytes.Equal(b, c) {
				from = i
			}
		}
	}
	if from < 0 {
		return ""
	}
	for i := range t.NumField() {
		if f := t.Field(i); i != from && f.Name != "_" && f.Tag.Get("msgpack") != "-" && f.Type.Size() > 0 {
			return f.Name
		}
	}
	return ""
}

// encodedBy calls the method enc of v, a pointer, if it has it and it works.
func encodedBy(enc string, v reflect.Value) (b []byte, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	var err error
	switch x := v.Interface(); enc {
	case "EncodeMsgpack":
		var buf bytes.Buffer
		err = x.(msgpack.CustomEncoder).EncodeMsgpack(msgpack.NewEncoder(&buf))
		b = buf.Bytes()
	case "MarshalMsgpack":
		b, err = x.(msgpack.Marshaler).MarshalMsgpack()
	case "MarshalBinary":
		b, err = x.(encoding.BinaryMarshaler).MarshalBinary()
	case "MarshalText":
		b, err = x.(encoding.TextMarshaler).MarshalText()
	}
	return b, err == nil
}

// isValidEmptyLost reports whether values of t, which say whether they are valid
// by a field as those of database/sql do, forget it where the rest is zero, since
// t writes no difference. A type that calls such a value zero does not count.
func isValidEmptyLost(t reflect.Type) bool {
	v := reflect.New(t).Elem()
	if t.Kind() == reflect.Pointer {
		v.Set(reflect.New(t.Elem()))
	}
	valid := validOf(v)
	if !valid.IsValid() {
		return false
	}
	valid.SetBool(true)
	if z, ok := v.Interface().(interface{ IsZero() bool }); ok && z.IsZero() {
		return false
	}
	got, ok := comesBack(v)
	if !ok {
		return false
	}
	valid = validOf(got)
	return !valid.IsValid() || !valid.Bool()
}

// validOf returns the field Valid of a struct, or of what a pointer points to.
func validOf(v reflect.Value) reflect.Value {
	if v = reflect.Indirect(v); v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	f, ok := v.Type().FieldByName("Valid")
	if !ok || f.Type.Kind() != reflect.Bool {
		return reflect.Value{}
	}
	valid, err := v.FieldByIndexErr(f.Index)
	if err != nil || !valid.CanSet() {
		return reflect.Value{}
	}
	return valid
}

// keepsValidEmpty is the fix for such a type.
func keepsValidEmpty(t reflect.Type) string {
	v := reflect.New(t).Elem()
	if t.Kind() == reflect.Pointer {
		v.Set(reflect.New(t.Elem()))
	}
	validOf(v).SetBool(true)
	if b, err := json.Marshal(v.Interface()); err == nil {
		if got := reflect.New(t); json.Unmarshal(b, got.Interface()) == nil && notJSON(t) == "" {
			if valid := validOf(got.Elem()); valid.IsValid() && valid.Bool() {
				return fmt.Sprintf("give it the type sessions.JSON[%v]", t)
			}
		}
	}
	return "use a type of database/sql, such as sql.Null, or a pointer"
}

// comesBack writes v, which can be set, and returns what is read of it.
func comesBack(v reflect.Value) (got reflect.Value, ok bool) {
	defer func() { ok = recover() == nil && ok }()
	var x trial
	b, err := x.write(v)
	if err != nil {
		return got, false
	}
	got = reflect.New(v.Type()).Elem()
	return got, x.read(got, bytes.Clone(b)) == nil
}

// Fill sets v to a value in which nothing is zero that can be otherwise:
// pointers point, slices and maps have an element, numbers are 1, strings "x".
// Of types with codecs of their own it takes a value that comes back, and leaves
// out what would hold one if it finds none: only those know their rules.
func Fill(v reflect.Value) { filler{}.fill(v) }

// FillLimits is Fill with the least or the largest number that fits each field.
func FillLimits(v reflect.Value) { filler{limits: true}.fill(v) }

// FillAll also fills types with codecs of their own, as far as their fields are
// exported: good enough for a validator, not for an encoder.
func FillAll(v reflect.Value) { filler{opaque: true, open: map[reflect.Type]bool{}}.fill(v) }

type filler struct {
	opaque bool
	limits bool
	open   map[reflect.Type]bool // types on the way here: one that contains itself must end
}

// fill reports whether v can be stored now.
func (f filler) fill(v reflect.Value) bool {
	t := v.Type()
	switch {
	case !v.CanSet():
		return true
	case t == timeType:
		v.Set(reflect.ValueOf(time.Unix(1, 0).UTC()))
		return true
	case f.open[t]:
		return true
	case !f.opaque && hasCodec(t):
		return choose(v)
	}
	if f.open != nil {
		f.open[t] = true
		defer delete(f.open, t)
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
		if f.limits {
			v.SetInt(math.MinInt64 >> (64 - t.Bits()))
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
		if f.limits {
			v.SetUint(math.MaxUint64 >> (64 - t.Bits()))
		}
	case reflect.Float32, reflect.Float64:
		v.SetFloat(1)
	case reflect.String:
		v.SetString("x")
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return fillElems(v, f.open, f.fill)
	case reflect.Struct:
		ok := true
		for i := range v.NumField() {
			tag := t.Field(i).Tag
			if tag.Get("msgpack") == "-" || tag.Get("msg") == "-" {
				continue
			}
			if !f.fill(v.Field(i)) && !parseTag(tag.Get("msgpack")).has("omitempty") && !omitsAll(t, i) {
				ok = false
			}
		}
		return ok
	}
	return true
}

// fillElems fills a pointer, a slice, an array or a map by means of fill. It leaves
// a pointer to an open type nil, since such a type contains itself, and all nil
// that fill cannot fill. It reports false if an array stays incomplete.
func fillElems(v reflect.Value, open map[reflect.Type]bool, fill func(reflect.Value) bool) bool {
	t := v.Type()
	switch t.Kind() {
	case reflect.Pointer:
		if p := reflect.New(t.Elem()); !open[t.Elem()] && fill(p.Elem()) {
			v.Set(p)
		}
	case reflect.Slice:
		if s := reflect.MakeSlice(t, 1, 1); fill(s.Index(0)) {
			v.Set(s)
		}
	case reflect.Array:
		for i := range v.Len() {
			if !fill(v.Index(i)) {
				return false
			}
		}
	case reflect.Map:
		key, elem := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		if !fill(key) || !fill(elem) {
			break
		}
		v.Set(reflect.MakeMap(t))
		if t.Key().Comparable() && key.Comparable() {
			v.SetMapIndex(key, elem)
		}
	}
	return true
}

// choose sets v, which has a codec of its own, to the first candidate that comes
// back as it was.
func choose(v reflect.Value) bool {
	n := &node{kind: custom, typ: v.Type(), nilOK: true, json: jsonValue(v.Type()) != nil}
	for candidate := range candidates(v.Type()) {
		if reread(n, candidate.Elem(), false) != nil {
			continue
		}
		got, ok := comesBack(candidate.Elem())
		if ok && encodedHash(got) == encodedHash(candidate.Elem()) {
			v.Set(candidate.Elem())
			return true
		}
	}
	return false
}

// candidates yields pointers to values of t: zero, one in which nothing is zero,
// and small numbers, which may have names.
func candidates(t reflect.Type) iter.Seq[reflect.Value] {
	return func(yield func(reflect.Value) bool) {
		for i := range 256 {
			v := reflect.New(t)
			switch e := v.Elem(); {
			case i == 0:
			case i == 1:
				FillAll(e)
			case e.CanInt() && !e.OverflowInt(int64(i)):
				e.SetInt(int64(i))
			case e.CanUint() && !e.OverflowUint(uint64(i)):
				e.SetUint(uint64(i))
			default:
				return
			}
			if !yield(v) {
				return
			}
		}
	}
}
