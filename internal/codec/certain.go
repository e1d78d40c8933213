//go:build !sessions_slow

package codec

import (
	"cmp"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/typedsessions/sessions/internal/shape"
)

// A test reports whether a value is certain to be valid. What it refuses may still
// be valid: validator decides that, and makes the error. A nil test is of a type in
// which validator checks nothing.
type test func(reflect.Value) bool

// certainOf compiles the validate tags of the struct type t. It returns nil if
// they hold anything but plain rules of known kinds. It also does if the application
// has rules of its own, since those may replace plain ones.
func certainOf(t reflect.Type, own bool) func(reflect.Value) bool {
	if own || t.Kind() != reflect.Struct {
		return nil
	}
	c := &compiler{
		rules: &tagRules{
			home:    shape.HomeOf(t),
			reaches: map[reflect.Type]bool{}, hidden: map[reflect.Type]map[string]string{},
		},
		done: map[reflect.Type]test{}, open: map[reflect.Type]bool{},
	}
	c.rules.visit(t, cmp.Or(t.Name(), "T"), "")
	valid, ok := c.structOf(t)
	switch {
	case !ok:
		return nil
	case valid == nil: // such as omitempty alone
		return func(reflect.Value) bool { return true }
	}
	return valid
}

type compiler struct {
	rules *tagRules // for the fields that validator does not look at
	done  map[reflect.Type]test
	open  map[reflect.Type]bool // the structs around the present one
}

// structOf compiles the fields of a struct. Like every method of a compiler that
// returns a test, it reports whether all of the rules are known.
func (c *compiler) structOf(t reflect.Type) (test, bool) {
	if valid, ok := c.done[t]; ok {
		return valid, true
	}
	if c.open[t] {
		return nil, false
	}
	c.open[t] = true
	defer delete(c.open, t)
	type fieldTest struct {
		index int
		valid test
	}
	var fields []fieldTest
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("validate")
		if !f.IsExported() && !f.Anonymous || tag == "-" || c.rules.hidden[t][f.Name] == "-" {
			continue
		}
		if !f.IsExported() && f.Type.Kind() != reflect.Struct {
			return nil, false // reflect may refuse to read what is inside of it
		}
		var rules []string
		if tag != "" {
			rules = strings.Split(tag, ",")
		}
		valid, ok := c.value(f.Type, rules)
		if !ok {
			return nil, false
		}
		if valid != nil {
			fields = append(fields, fieldTest{i, valid})
		}
	}
	var valid test
	if len(fields) > 0 {
		valid = func(v reflect.Value) bool {
			for i := range fields {
				if f := &fields[i]; !f.valid(v.Field(f.index)) {
					return false
				}
			}
			return true
		}
	}
	c.done[t] = valid
	return valid, true
}

var timeType = reflect.TypeFor[time.Time]()

// value compiles the rules of a value of type t, through pointers.
func (c *compiler) value(t reflect.Type, rules []string) (test, bool) {
	depth := 0
	for ; t.Kind() == reflect.Pointer; t = t.Elem() {
		if t.Implements(valuerType) {
			return nil, false
		}
		depth++
	}
	switch {
	case t.Implements(valuerType), reflect.PointerTo(t).Implements(valuerType), t.Kind() == reflect.Interface:
		return nil, false
	case shape.IsJSON(t) && indirect(t.Field(0).Type).Kind() != reflect.Struct:
		// validator looks at V in its place.
		if inner, ok := c.value(t.Field(0).Type, nil); !ok || inner != nil || len(rules) > 0 {
			return nil, false
		}
		return nil, true
	}
	valid, ok := c.sequence(t, rules, depth > 0)
	if !ok || depth == 0 || valid == nil && len(rules) == 0 {
		return valid, ok
	}
	nilIsValid := len(rules) == 0 || rules[0] == "omitempty"
	return func(v reflect.Value) bool {
		for range depth {
			if v.IsNil() {
				return nilIsValid
			}
			v = v.Elem()
		}
		return valid == nil || valid(v)
	}, true
}

// sequence compiles rules that apply one after the other. Behind a pointer every
// value counts as present, except for nil lists and maps.
func (c *compiler) sequence(t reflect.Type, rules []string, pointer bool) (test, bool) {
	kind := t.Kind()
	isTime := kind == reflect.Struct && t.ConvertibleTo(timeType)
	if len(rules) == 0 {
		if kind == reflect.Struct && !isTime {
			return c.structOf(t)
		}
		return nil, true
	}
	if rules[0] == "dive" {
		return c.dive(t, rules[1:])
	}
	rest, ok := c.sequence(t, rules[1:], pointer)
	if !ok {
		return nil, false
	}
	name, param, hasParam := strings.Cut(rules[0], "=")
	if name != "omitempty" && name != "required" {
		valid := compare(t, name, param)
		return both(valid, rest), valid != nil
	}
	present := presence(kind, pointer)
	switch {
	case hasParam || present == nil:
		return nil, false
	case name == "required":
		return both(present, rest), true
	case rest == nil:
		return nil, true
	}
	return func(v reflect.Value) bool { return !present(v) || rest(v) }, true
}

func both(first, rest test) test {
	if rest == nil {
		return first
	}
	return func(v reflect.Value) bool { return first(v) && rest(v) }
}

// presence returns what validator means by required: an empty list is
// present, and a nil one is not. It returns nil for a kind that is not known.
func presence(kind reflect.Kind, pointer bool) test {
	switch {
	case kind == reflect.Slice, kind == reflect.Map:
		return func(v reflect.Value) bool { return !v.IsNil() }
	case !isNumber(kind) && kind != reflect.Bool && kind != reflect.String && kind != reflect.Array && kind != reflect.Struct:
		return nil
	case pointer:
		return func(reflect.Value) bool { return true }
	case kind == reflect.String:
		return func(v reflect.Value) bool { return v.Len() > 0 }
	}
	return func(v reflect.Value) bool { return !v.IsZero() }
}

// isNumber reports whether kind is that of a number which msgpack can store.
func isNumber(kind reflect.Kind) bool {
	return kind >= reflect.Int && kind <= reflect.Float64 && kind != reflect.Uintptr
}

// dive compiles the rules of the elements of a list or a map.
func (c *compiler) dive(t reflect.Type, rules []string) (test, bool) {
	kind := t.Kind()
	switch kind {
	case reflect.Slice, reflect.Array:
	case reflect.Map:
		// validator looks up each key, and finds no NaN.
		if key := t.Key().Kind(); key != reflect.String && key != reflect.Bool && (!isNumber(key) || key >= reflect.Float32) {
			return nil, false
		}
	default:
		return nil, false
	}
	valid, ok := c.value(t.Elem(), rules)
	if !ok || valid == nil {
		return nil, ok
	}
	if kind != reflect.Map {
		return func(v reflect.Value) bool {
			for i := range v.Len() {
				if !valid(v.Index(i)) {
					return false
				}
			}
			return true
		}, true
	}
	elem := t.Elem()
	return func(v reflect.Value) bool {
		if v.Len() == 0 {
			return true
		}
		value := reflect.New(elem).Elem() // one for all: MapIter.Value allocates each
		for iter := v.MapRange(); iter.Next(); {
			value.SetIterValue(iter)
			if !valid(value) {
				return false
			}
		}
		return true
	}, true
}

// compare compiles a rule that compares with a parameter. It returns nil if the
// rule or the parameter is not known for t.
func compare(t reflect.Type, name, param string) test {
	kind := t.Kind()
	switch {
	case strings.Contains(param, "|"), strings.Contains(param, "0x2C"), strings.Contains(param, "0x7C"):
		return nil // alternatives, and validator's escapes for a comma and a bar
	case name == "oneof":
		return oneOf(kind, param)
	case kind == reflect.Slice, kind == reflect.Array, kind == reflect.Map:
		return lengths(name, param)
	case kind == reflect.String:
		return texts(name, param)
	case kind == reflect.Bool:
		return booleans(name, param)
	case !isNumber(kind):
		return nil
	case kind >= reflect.Float32:
		return floats(name, param, t.Bits())
	case kind >= reflect.Uint:
		return unsigneds(name, param)
	default:
		return signeds(t, name, param)
	}
}

// oneOf compares texts, also those of numbers, as validator does: 007 is no number.
func oneOf(kind reflect.Kind, param string) test {
	words := params.FindAllString(param, -1)
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], "'", "")
	}
	switch {
	case kind == reflect.String:
		return func(v reflect.Value) bool { return slices.Contains(words, v.String()) }
	case !isNumber(kind) || kind >= reflect.Float32:
		return nil
	case kind >= reflect.Uint:
		var numbers []uint64
		for _, word := range words {
			if n, err := strconv.ParseUint(word, 10, 64); err == nil && strconv.FormatUint(n, 10) == word {
				numbers = append(numbers, n)
			}
		}
		return func(v reflect.Value) bool { return slices.Contains(numbers, v.Uint()) }
	}
	var numbers []int64
	for _, word := range words {
		if n, err := strconv.ParseInt(word, 10, 64); err == nil && strconv.FormatInt(n, 10) == word {
			numbers = append(numbers, n)
		}
	}
	return func(v reflect.Value) bool { return slices.Contains(numbers, v.Int()) }
}

// A span is all integers from lo to hi, or all others.
type span[N int64 | uint64] struct {
	lo, hi  N
	outside bool
}

func (s span[N]) has(n N) bool { return (s.lo <= n && n <= s.hi) != s.outside }

// spanOf returns which of the integers from least to most fulfil a rule with the
// parameter p.
func spanOf[N int64 | uint64](name string, p, least, most N) (s span[N], known bool) {
	none := span[N]{least, most, true}
	switch name {
	case "len", "eq":
		return span[N]{p, p, false}, true
	case "ne":
		return span[N]{p, p, true}, true
	case "min", "gte":
		return span[N]{p, most, false}, true
	case "max", "lte":
		return span[N]{least, p, false}, true
	case "gt":
		if p == most {
			return none, true
		}
		return span[N]{p + 1, most, false}, true
	case "lt":
		if p == least {
			return none, true
		}
		return span[N]{least, p - 1, false}, true
	}
	return none, false
}

// signedSpan is spanOf of a parameter in validator's notation of an integer.
func signedSpan(name, param string) (span[int64], bool) {
	p, err := strconv.ParseInt(param, 0, 64)
	if err != nil {
		return span[int64]{}, false
	}
	return spanOf(name, p, math.MinInt64, math.MaxInt64)
}

func signeds(t reflect.Type, name, param string) test {
	if t == reflect.TypeFor[time.Duration]() { // and no other type of its kind
		if d, err := time.ParseDuration(param); err == nil {
			param = strconv.FormatInt(int64(d), 10)
		}
	}
	s, known := signedSpan(name, param)
	if !known {
		return nil
	}
	return func(v reflect.Value) bool { return s.has(v.Int()) }
}

func unsigneds(name, param string) test {
	p, err := strconv.ParseUint(param, 0, 64)
	if err != nil {
		return nil
	}
	s, known := spanOf(name, p, 0, math.MaxUint64)
	if !known {
		return nil
	}
	return func(v reflect.Value) bool { return s.has(v.Uint()) }
}

// floats are never certain of NaN.
func floats(name, param string, bits int) test {
	p, err := strconv.ParseFloat(param, bits)
	if err != nil || math.IsNaN(p) {
		return nil
	}
	switch name {
	case "len", "eq":
		return func(v reflect.Value) bool { return v.Float() == p }
	case "ne":
		return func(v reflect.Value) bool { f := v.Float(); return f < p || f > p }
	case "min", "gte":
		return func(v reflect.Value) bool { return v.Float() >= p }
	case "max", "lte":
		return func(v reflect.Value) bool { return v.Float() <= p }
	case "gt":
		return func(v reflect.Value) bool { return v.Float() > p }
	case "lt":
		return func(v reflect.Value) bool { return v.Float() < p }
	}
	return nil
}

// texts compares a string itself for eq and ne, and the number of its runes for
// all other rules.
func texts(name, param string) test {
	switch name {
	case "eq":
		return func(v reflect.Value) bool { return v.String() == param }
	case "ne":
		return func(v reflect.Value) bool { return v.String() != param }
	}
	s, known := signedSpan(name, param)
	if !known {
		return nil
	}
	return func(v reflect.Value) bool {
		text := v.String()
		if s.lo <= 0 && int64(len(text)) <= s.hi && !s.outside {
			return true // there are never more runes than bytes
		}
		return s.has(int64(utf8.RuneCountInString(text)))
	}
}

func lengths(name, param string) test {
	s, known := signedSpan(name, param)
	if !known {
		return nil
	}
	return func(v reflect.Value) bool { return s.has(int64(v.Len())) }
}

func booleans(name, param string) test {
	p, err := strconv.ParseBool(param)
	if err != nil || name != "eq" && name != "ne" {
		return nil
	}
	want := p == (name == "eq")
	return func(v reflect.Value) bool { return v.Bool() == want }
}
