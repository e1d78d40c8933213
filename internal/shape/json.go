package shape

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// A JSON field, sessions.JSON[V], is a MessagePack string that holds V as JSON.
// The zero V is null, also where its own methods would not write it, so that T{}
// can always be stored.

const jsonZero = "null"

// jsonValue returns V if t is sessions.JSON[V] or a pointer to it, else nil.
func jsonValue(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Struct && t.PkgPath() == root && strings.HasPrefix(t.Name(), "JSON[") {
		return t.Field(0).Type
	}
	return nil
}

// IsJSON reports whether t is sessions.JSON[V].
func IsJSON(t reflect.Type) bool { return t.Kind() != reflect.Pointer && jsonValue(t) != nil }

// root is the path of package sessions, which this package cannot import.
var root = strings.TrimSuffix(reflect.TypeFor[Shape]().PkgPath(), "/internal/shape")

// WriteJSON returns the JSON of what v points to.
func WriteJSON(v reflect.Value) ([]byte, error) {
	if v.Elem().IsZero() {
		return []byte(jsonZero), nil
	}
	b, err := json.Marshal(v.Interface())
	if err != nil {
		return nil, err
	}
	if bytes.Equal(b, zeroJSON(v.Type())) {
		return []byte(jsonZero), nil
	}
	return b, nil
}

var errJSON = errors.New("not JSON")

var zeroTexts sync.Map // of []byte by the type of the pointer

// zeroJSON is what encoding/json writes of a zero value. A value with the same
// JSON comes back zero, so it has to count as zero.
func zeroJSON(t reflect.Type) []byte {
	if b, ok := zeroTexts.Load(t); ok {
		return b.([]byte)
	}
	b, err := json.Marshal(reflect.New(t.Elem()).Interface())
	if err != nil {
		b = []byte(jsonZero)
	}
	zeroTexts.Store(t, b)
	return b
}

// ReadJSON fills what v points to, which is zero.
func ReadJSON(v reflect.Value, b []byte) error {
	if string(b) == jsonZero {
		return nil
	}
	if !json.Valid(b) {
		return errJSON
	}
	if !affordable(b, v.Type().Elem()) {
		return ErrCost
	}
	return json.Unmarshal(b, v.Interface())
}

var (
	jsonMarshaler   = reflect.TypeFor[json.Marshaler]()
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textMarshaler   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

type jsonHalves struct{ writes, reads bool }

var jsonMethodsOf sync.Map // of jsonHalves by type

// jsonMethods reports whether t has methods by which encoding/json writes and
// reads it.
func jsonMethods(t reflect.Type) (writes, reads bool) {
	if h, ok := jsonMethodsOf.Load(t); ok {
		return h.(jsonHalves).writes, h.(jsonHalves).reads
	}
	for _, t := range []reflect.Type{t, reflect.PointerTo(t)} {
		writes = writes || t.Implements(jsonMarshaler) || t.Implements(textMarshaler)
		reads = reads || t.Implements(jsonUnmarshaler) || t.Implements(textUnmarshaler)
	}
	jsonMethodsOf.Store(t, jsonHalves{writes, reads})
	return writes, reads
}

// notJSON says why encoding/json cannot carry t both ways, "" if it can.
func notJSON(t reflect.Type) (problem string) {
	if problem := jsonProblem(t, map[reflect.Type]bool{}); problem != "" {
		return problem
	}
	defer func() {
		if p := recover(); p != nil {
			problem = fmt.Sprintf("a method of it panicked: %v", p)
		}
	}()
	// What the types do not tell, a value may.
	f := jsonFiller{open: map[reflect.Type]bool{}}
	v := reflect.New(t)
	if ok := f.fill(v.Elem()); f.broken != nil {
		return fmt.Sprintf("%v does not read the JSON that it writes", f.broken)
	} else if !ok {
		return ""
	}
	written, err := WriteJSON(v)
	if err != nil {
		return err.Error()
	}
	again := reflect.New(t)
	if err := ReadJSON(again, written); err != nil {
		return err.Error()
	}
	// By the text: what a type leaves out of it, such as a monotonic clock, its
	// author does not want to keep.
	if second, err := WriteJSON(again); err != nil || !bytes.Equal(written, second) {
		return "a value comes back changed"
	}
	return ""
}

// jsonProblem finds what encoding/json refuses or leaves out because of its type.
func jsonProblem(t reflect.Type, open map[reflect.Type]bool) string {
	if open[t] {
		return ""
	}
	open[t] = true
	if t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface {
		switch writes, reads := jsonMethods(t); {
		case writes && !reads:
			return fmt.Sprintf("%v has a method that writes JSON and none that reads it", t)
		case writes || reads:
			return ""
		}
	}
	switch t.Kind() {
	case reflect.Func, reflect.Chan, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return fmt.Sprintf("JSON has nothing for %v", t)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return fmt.Sprintf("%v is an interface with methods, which cannot be read", t)
		}
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return jsonProblem(t.Elem(), open)
	case reflect.Map:
		switch writes, _ := jsonMethods(t.Key()); {
		case writes:
			if problem := jsonProblem(t.Key(), open); problem != "" {
				return problem
			}
		case !slices.Contains(keyKinds, t.Key().Kind()):
			return fmt.Sprintf("JSON has no keys of type %v", t.Key())
		}
		return jsonProblem(t.Elem(), open)
	case reflect.Struct:
		seen := 0
		for i := range t.NumField() {
			f := t.Field(i)
			if !jsonField(f) {
				continue
			}
			seen++
			if f.Anonymous && !f.IsExported() && f.Type.Kind() == reflect.Pointer {
				return fmt.Sprintf("%s is an embedded pointer that cannot be set", f.Name)
			}
			if problem := jsonProblem(f.Type, open); problem != "" {
				return fmt.Sprintf("%s: %s", f.Name, problem)
			}
		}
		if seen == 0 && t.NumField() > 0 {
			return fmt.Sprintf("%v has no field that JSON sees", t)
		}
	}
	return ""
}

var keyKinds = []reflect.Kind{
	reflect.String, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
	reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr,
}

// jsonField reports whether encoding/json looks at f.
func jsonField(f reflect.StructField) bool {
	if f.Tag.Get("json") == "-" {
		return false
	}
	t := f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return f.IsExported() || f.Anonymous && t.Kind() == reflect.Struct
}

// A jsonFiller makes a value for a trial, in which nothing is zero that can be
// otherwise.
type jsonFiller struct {
	open   map[reflect.Type]bool // one that contains itself must end
	broken reflect.Type          // its methods do not fit each other
}

// fill reports whether v can be written; of a type with methods of its own only
// those know.
func (f *jsonFiller) fill(v reflect.Value) bool {
	t := v.Type()
	if f.open[t] {
		return true
	}
	f.open[t] = true
	defer delete(f.open, t)
	if t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface {
		if writes, reads := jsonMethods(t); writes || reads {
			return f.choose(v)
		}
	}
	switch t.Kind() {
	case reflect.Interface:
		v.Set(reflect.ValueOf("x"))
	case reflect.String:
		v.SetString("x")
		if t == reflect.TypeFor[json.Number]() {
			v.SetString("1")
		}
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return fillElems(v, f.open, f.fill)
	case reflect.Struct:
		for i := range t.NumField() {
			sf := t.Field(i)
			if !jsonField(sf) || !sf.IsExported() && sf.Type.Kind() == reflect.Pointer {
				continue
			}
			if !f.fill(v.Field(i)) && !strings.Contains(sf.Tag.Get("json"), ",omit") {
				return false
			}
		}
	default:
		FillAll(v)
	}
	return true
}

// choose sets v, which has JSON methods, to a value that comes back as it was.
func (f *jsonFiller) choose(v reflect.Value) bool {
	written := false
	for candidate := range candidates(v.Type()) {
		b, err := json.Marshal(candidate.Interface())
		if err != nil {
			continue
		}
		written = true
		again := reflect.New(v.Type())
		if json.Unmarshal(b, again.Interface()) != nil {
			continue
		}
		if second, err := json.Marshal(again.Interface()); err == nil && bytes.Equal(b, second) {
			v.Set(candidate.Elem())
			return true
		}
	}
	switch v.Kind() { // another kind may stand for a few names, of which none was found
	case reflect.Struct, reflect.Slice, reflect.Map, reflect.Array:
		if written {
			f.broken = v.Type()
		}
	}
	return false
}
