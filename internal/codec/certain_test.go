//go:build !sessions_slow

package codec

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-playground/validator/v10"
	"github.com/typedsessions/sessions/internal/shape"
)

type (
	namedInt      int8
	namedText     string
	namedDuration time.Duration
	namedTime     time.Time
	namedList     []string

	// asked gives validator another value to look at.
	asked struct{ N int }
	// askedPtr does so only through a pointer.
	askedPtr struct{ N int }

	inner struct {
		N int `validate:"min=1"`
	}
	Outer struct {
		S string `validate:"required"`
	}
	cyclic struct {
		N    int `validate:"min=1"`
		Next *cyclic
	}
)

func (asked) ValidatorValue() any     { return 0 }
func (*askedPtr) ValidatorValue() any { return 0 }

// plainValidator makes a validator for t as tagsOf does, of tags that may be wrong.
func plainValidator(t reflect.Type) *validator.Validate {
	r := &tagRules{home: shape.HomeOf(t), reaches: map[reflect.Type]bool{}, hidden: map[reflect.Type]map[string]string{}}
	r.visit(t, cmp.Or(t.Name(), "T"), "")
	v := r.new()
	for t, rules := range r.hidden {
		v.RegisterStructValidationMapRules(rules, reflect.Zero(t).Interface())
	}
	return v
}

// accepts reports whether v takes data. A panic is a refusal.
func accepts(v *validator.Validate, data any) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return v.Struct(data) == nil
}

// What a walk is certain of is given for each value; "unknown" is a type without one.
const (
	certain   = "certain"
	uncertain = "not certain"
	unknown   = "unknown"
)

func TestCertainRulesKnowTheTraps(t *testing.T) {
	zero, one, empty := 0, 1, ""
	zeroPtr := &zero
	for _, tt := range []struct {
		name, want string
		data       any
	}{
		{"runes, not bytes: max", certain, &struct {
			S string `validate:"max=3"`
		}{"日本語"}},
		{"runes, not bytes: min", uncertain, &struct {
			S string `validate:"min=4"`
		}{"日本語"}},
		{"each byte that is no UTF-8 is a rune", certain, &struct {
			S string `validate:"len=3"`
		}{"\xff\xfe\xfd"}},
		{"eq of a string is its text", certain, &struct {
			S string `validate:"eq=3"`
		}{"3"}},
		{"ne of a string is its text", certain, &struct {
			S string `validate:"ne=3"`
		}{"abc"}},

		{"required nil list", uncertain, &struct {
			L []int `validate:"required"`
		}{}},
		{"required empty list", certain, &struct {
			L []int `validate:"required"`
		}{[]int{}}},
		{"required nil map", uncertain, &struct {
			M map[string]int `validate:"required"`
		}{}},
		{"required empty map", certain, &struct {
			M map[string]int `validate:"required"`
		}{map[string]int{}}},
		{"required zero array", uncertain, &struct {
			A [2]int `validate:"required"`
		}{}},
		{"required zero number", uncertain, &struct {
			N int `validate:"required"`
		}{}},
		{"required false", uncertain, &struct {
			B bool `validate:"required"`
		}{}},
		{"required zero struct", uncertain, &struct {
			S struct{ N int } `validate:"required"`
		}{}},
		{"required zero time", uncertain, &struct {
			T time.Time `validate:"required"`
		}{}},
		{"required time", certain, &struct {
			T time.Time `validate:"required"`
		}{time.Unix(1, 0)}},
		{"required time of a named type", certain, &struct {
			T namedTime `validate:"required"`
		}{namedTime(time.Unix(1, 0))}},
		{"omitempty passes a zero struct whose fields break rules", certain, &struct {
			S inner `validate:"omitempty"`
		}{}},
		{"omitempty does not pass an empty list", uncertain, &struct {
			L []int `validate:"omitempty,min=1"`
		}{[]int{}}},
		{"omitempty passes a nil list", certain, &struct {
			L []int `validate:"omitempty,min=1"`
		}{}},
		{"omitempty in the middle", uncertain, &struct {
			N int `validate:"ne=0,omitempty,max=3"`
		}{}},

		{"nil pointer with omitempty", certain, &struct {
			P *int `validate:"omitempty,min=1"`
		}{}},
		{"nil pointer without omitempty", uncertain, &struct {
			P *int `validate:"max=5"`
		}{}},
		{"nil pointer, omitempty too late", uncertain, &struct {
			P *int `validate:"max=5,omitempty"`
		}{}},
		{"required pointer to zero", certain, &struct {
			P *int `validate:"required"`
		}{&zero}},
		{"omitempty of a pointer to zero goes on", uncertain, &struct {
			P *string `validate:"omitempty,min=1"`
		}{&empty}},
		{"pointer to a pointer", certain, &struct {
			P **int `validate:"required,eq=0"`
		}{&zeroPtr}},
		{"required pointer to a nil list", uncertain, &struct {
			P *[]int `validate:"required"`
		}{new([]int)}},
		{"nil pointer to a struct without a tag", certain, &struct{ P *inner }{}},
		{"pointer to a struct that breaks a rule", uncertain, &struct{ P *inner }{&inner{}}},
		{"pointer to a zero struct with omitempty", uncertain, &struct {
			P *inner `validate:"omitempty"`
		}{&inner{}}},
		{"pointer in a list", certain, &struct {
			L []*int `validate:"dive,required,min=1"`
		}{[]*int{&one}}},
		{"nil pointer in a list", uncertain, &struct {
			L []*int `validate:"dive,required"`
		}{[]*int{nil}}},
		{"nil pointer in a list without rules for it", certain, &struct {
			L []*inner `validate:"dive"`
		}{[]*inner{nil, {1}}}},

		{"a duration's parameter is a text", uncertain, &struct {
			D time.Duration `validate:"min=1s"`
		}{time.Second - 1}},
		{"a duration's parameter is a number", certain, &struct {
			D time.Duration `validate:"max=1000"`
		}{1000}},
		{"a type of a duration's kind takes a number", certain, &struct {
			D namedDuration `validate:"min=1000"`
		}{1000}},
		{"a type of a duration's kind takes no text", unknown, &struct {
			D namedDuration `validate:"min=1s"`
		}{}},
		{"named kinds", certain, &struct {
			N namedInt  `validate:"gt=-1,lt=0x10"`
			S namedText `validate:"oneof=a 'b c'"`
			L namedList `validate:"len=1,dive,max=1"`
		}{0, "b c", namedList{"é"}}},

		{"gt at the limit", uncertain, &struct {
			N int64 `validate:"gt=9223372036854775807"`
		}{math.MaxInt64}},
		{"lt at the limit", uncertain, &struct {
			N uint64 `validate:"lt=0"`
		}{}},
		{"a parameter above the kind", certain, &struct {
			N int8 `validate:"lt=128"`
		}{127}},
		{"a parameter that is no number", unknown, &struct {
			N int `validate:"min=a"`
		}{}},
		{"a rule without its parameter", unknown, &struct {
			N int `validate:"min"`
		}{}},
		{"NaN", uncertain, &struct {
			F float64 `validate:"gte=0"`
		}{math.NaN()}},
		{"NaN, which validator takes", uncertain, &struct {
			F float64 `validate:"ne=0"`
		}{math.NaN()}},
		{"float32 rounds its parameter", certain, &struct {
			F float32 `validate:"eq=0.1"`
		}{0.1}},
		{"oneof number in another spelling", uncertain, &struct {
			N int `validate:"oneof=07 +7"`
		}{7}},
		{"oneof unsigned", certain, &struct {
			N uint8 `validate:"oneof=-7 7"`
		}{7}},
		{"oneof of no words", uncertain, &struct {
			S string `validate:"oneof="`
		}{}},

		{"gt without a parameter on a time", unknown, &struct {
			T time.Time `validate:"gt"`
		}{time.Now().Add(time.Hour)}},
		{"Valuer", unknown, &struct {
			A asked `validate:"required"`
		}{asked{1}}},
		{"Valuer without a tag", unknown, &struct{ A asked }{asked{1}}},
		{"Valuer of a pointer", unknown, &struct {
			A *askedPtr `validate:"required"`
		}{&askedPtr{1}}},
		{"interface", unknown, &struct {
			A any `validate:"required"`
		}{1}},
		{"type in itself", unknown, &cyclic{N: 1}},
		{"embedded struct", uncertain, &struct{ Outer }{}},
		{"embedded struct of an unexported type", uncertain, &struct{ inner }{}},
		{"embedded struct of an unexported type, valid", certain, &struct{ inner }{inner{1}}},
		{"embedded number of an unexported type", unknown, &struct {
			namedInt `validate:"min=1"`
		}{1}},
		{"unexported field", certain, &struct {
			n int `validate:"required"`
			N int `validate:"min=0"`
		}{n: 0}},
		{"field that validator skips", certain, &struct {
			A inner `validate:"-"`
			N int   `validate:"min=0"`
		}{}},
		{"field that is not stored", certain, &struct {
			A inner `msgpack:"-"`
			B int   `msg:"-" validate:"email"`
			N int   `validate:"min=0"`
		}{}},
		{"rules in a list without dive", certain, &struct {
			L []inner
			N int `validate:"min=0"`
		}{L: []inner{{}}}},
		{"rules in a map", uncertain, &struct {
			M map[string]inner `validate:"dive"`
		}{map[string]inner{"a": {1}, "b": {0}}}},
		{"rules in a map, valid", certain, &struct {
			M map[string][2]uint `validate:"max=2,dive,dive,max=2"`
		}{map[string][2]uint{"a": {1, 2}, "b": {0}}}},
		{"keys that cannot be looked up", unknown, &struct {
			M map[float64]int `validate:"dive,omitempty,min=0"`
		}{map[float64]int{math.NaN(): 1}}},

		{"structonly", unknown, &struct {
			A inner `validate:"structonly"`
		}{}},
		{"nostructlevel", unknown, &struct {
			A inner `validate:"nostructlevel"`
		}{}},
		{"omitnil", unknown, &struct {
			P *int `validate:"omitnil,min=1"`
		}{}},
		{"omitzero", unknown, &struct {
			N int `validate:"omitzero,min=1"`
		}{}},
		{"isdefault", unknown, &struct {
			N int `validate:"isdefault"`
		}{}},
		{"keys", unknown, &struct {
			M map[string]int `validate:"dive,keys,max=3,endkeys,min=1"`
		}{}},
		{"alias", unknown, &struct {
			S string `validate:"iscolor"`
		}{"#fff"}},
		{"alternatives", unknown, &struct {
			N int `validate:"eq=1|eq=2"`
		}{2}},
		{"escaped comma", unknown, &struct {
			S string `validate:"oneof=a0x2Cb"`
		}{"a,b"}},
		{"escaped bar", unknown, &struct {
			S string `validate:"eq=a0x7Cb"`
		}{"a|b"}},
		{"another rule", unknown, &struct {
			S string `validate:"omitempty,email"`
		}{}},
		{"another rule of an element", unknown, &struct {
			L []string `validate:"omitempty,dive,email"`
		}{}},
		{"rule of another field", unknown, &struct {
			A, B int `validate:"gtefield=A"`
		}{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			typ := reflect.TypeOf(tt.data).Elem()
			walk := certainOf(typ, false)
			got := unknown
			switch {
			case walk != nil && walk(value(tt.data)):
				got = certain
			case walk != nil:
				got = uncertain
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if got == certain && !accepts(plainValidator(typ), tt.data) {
				t.Error("validator refuses it")
			}
		})
	}
}

func TestTheApplicationsOwnRulesReplaceCertainOnes(t *testing.T) {
	type data struct {
		N int `validate:"min=1"`
	}
	c, err := Analyze(reflect.TypeFor[data](), Options{Rules: func(v *validator.Validate) error {
		return v.RegisterValidation("min", func(fl validator.FieldLevel) bool { return fl.Field().Int() == 5 })
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(&data{2}, nil); err == nil {
		t.Error("got no error for 2, want that of the application's min")
	}
	if err := c.Check(&data{5}, nil); err != nil {
		t.Errorf("got %v for 5", err)
	}
}

// A maker makes types, tags and values from one source of chance.
type maker struct {
	*rand.Rand
	wild bool // also tags that are not plain or do not fit, types that are left to validator, and NaN
}

func pick[E any](m *maker, from ...E) E { return from[m.IntN(len(from))] }

func (m *maker) scalar() reflect.Type {
	if m.wild && m.IntN(10) == 0 {
		return pick(m, reflect.TypeFor[asked](), reflect.TypeFor[*askedPtr](), reflect.TypeFor[any](), reflect.TypeFor[uintptr](),
			reflect.TypeFor[complex64](), reflect.TypeFor[cyclic](), reflect.TypeFor[map[float64]int]())
	}
	return pick(m, reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[int64](), reflect.TypeFor[uint](), reflect.TypeFor[uint8](),
		reflect.TypeFor[uint64](), reflect.TypeFor[float32](), reflect.TypeFor[float64](), reflect.TypeFor[string](), reflect.TypeFor[string](),
		reflect.TypeFor[bool](), reflect.TypeFor[time.Duration](), reflect.TypeFor[time.Time](), reflect.TypeFor[namedInt](),
		reflect.TypeFor[namedText](), reflect.TypeFor[namedDuration](), reflect.TypeFor[namedTime](), reflect.TypeFor[namedList](),
		reflect.TypeFor[inner](), reflect.TypeFor[Outer]())
}

func (m *maker) typ(depth int) reflect.Type {
	if depth == 0 {
		return m.scalar()
	}
	switch m.IntN(9) {
	case 0:
		return reflect.SliceOf(m.typ(depth - 1))
	case 1:
		return reflect.ArrayOf(m.IntN(3), m.typ(depth-1))
	case 2:
		return reflect.MapOf(pick(m, reflect.TypeFor[string](), reflect.TypeFor[int8](), reflect.TypeFor[bool]()), m.typ(depth-1))
	case 3:
		return reflect.PointerTo(m.typ(depth - 1))
	case 4:
		return m.record(depth - 1)
	}
	return m.scalar()
}

func (m *maker) record(depth int) reflect.Type {
	var fields []reflect.StructField
	for i := range 1 + m.IntN(3) {
		f := reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: m.typ(depth)}
		if tag := m.tag(f.Type); tag != "" {
			f.Tag = reflect.StructTag(fmt.Sprintf("validate:%q", tag))
		}
		if m.wild && m.IntN(20) == 0 {
			f.Tag += ` msgpack:"-"`
		}
		fields = append(fields, f)
	}
	return reflect.StructOf(fields)
}

func (m *maker) tag(t reflect.Type) string {
	var rules []string
	t = indirect(t)
	for range m.IntN(4) {
		if rule := m.rule(t); rule != "" {
			rules = append(rules, rule)
		}
	}
	if kind := t.Kind(); kind == reflect.Slice || kind == reflect.Array || kind == reflect.Map {
		if m.IntN(3) > 0 {
			rules = append(rules, "dive")
			if inner := m.tag(t.Elem()); inner != "" {
				rules = append(rules, inner)
			}
		}
	}
	return strings.Join(rules, ",")
}

func (m *maker) rule(t reflect.Type) string {
	if m.wild && m.IntN(12) == 0 {
		return pick(m, "omitnil", "omitzero", "isdefault", "structonly", "nostructlevel", "email", "iscolor", "eq=1|eq=2", "gt", "min=x",
			"oneof=a0x2Cb", "dive", "dive,keys,max=2,endkeys", "required=1", "omitempty=1", "", "unique", "ne", "eq=0x7C", "min=1.5", "-",
			"len", "oneof=1 2|min=3", "eqfield=F0", "required_with=F1", " max=3", "max= 3", "max=99999999999999999999", "eq=NaN", "min=1s")
	}
	switch m.IntN(5) {
	case 0:
		return "omitempty"
	case 1:
		return "required"
	}
	order := pick(m, "min", "max", "len", "gt", "gte", "lt", "lte", "eq", "ne", "min", "max", "gte", "lte", "ne")
	number := pick(m, "0", "1", "2", "3", "5", "0x3", "0b1")
	switch kind := t.Kind(); {
	case kind == reflect.Bool:
		return pick(m, "eq=true", "eq=false", "ne=1", "ne=F")
	case kind == reflect.Struct:
		return ""
	case t == reflect.TypeFor[time.Duration]():
		return order + "=" + pick(m, "1s", "1h2m", "-1s", "0", "5", "2ns", "9223372036854775807")
	case kind == reflect.String:
		if m.IntN(3) == 0 {
			return pick(m, "oneof=red 'a b' é", "oneof=red", "oneof='' red blue", "eq=red", "ne=red", "eq=", "ne=")
		}
	case kind >= reflect.Int && kind <= reflect.Uint64:
		if m.IntN(4) == 0 {
			return pick(m, "oneof=1 2 3", "oneof=01 0 -1", "oneof=127 255 18446744073709551615 -9223372036854775808")
		}
		if kind <= reflect.Int64 {
			number = pick(m, number, number, "-1", "-0x80", "127", "9223372036854775807", "-9223372036854775808")
		} else {
			number = pick(m, number, number, "255", "18446744073709551615")
		}
	case kind == reflect.Float32, kind == reflect.Float64:
		number = pick(m, number[:1], "0.1", "-1", "1e300", "Inf", "-Inf", "0x1p-2", "-0")
		if kind == reflect.Float32 && number == "1e300" {
			number = "1e30"
		}
	}
	return order + "=" + number
}

// fill gives v values at the limits of the rules above.
func (m *maker) fill(v reflect.Value) {
	switch kind := v.Kind(); kind {
	case reflect.Bool:
		v.SetBool(m.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n := pick(m, 0, 1, 2, 3, 4, 5, 6, -1, -2, 127, 128, -128, math.MaxInt64, math.MinInt64, int64(time.Second), int64(time.Second)-1, int64(time.Hour+2*time.Minute))
		v.SetInt(n) // cut to the size of the kind
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(pick[uint64](m, 0, 1, 2, 3, 4, 5, 6, 127, 255, math.MaxInt64, math.MaxUint64, math.MaxUint64-1))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(pick(m, 0, math.Copysign(0, -1), 1, 2, 0.1, float64(float32(0.1)), 3, 5, -1, 1e30, 1e300, math.Inf(1), math.Inf(-1), 0.25))
		if m.wild && m.IntN(8) == 0 {
			v.SetFloat(math.NaN())
		}
	case reflect.String:
		v.SetString(pick(m, "", "a", "é", "日本", "日本語", "red", "blue", "a b", "héllo", "\xff\xfe", "🙂🙂🙂🙂🙂", "abcdef", "a,b", "a|b"))
	case reflect.Slice:
		if n := m.IntN(5); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n-1, n))
		}
		for i := range v.Len() {
			m.fill(v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			m.fill(v.Index(i))
		}
	case reflect.Map:
		n := m.IntN(5)
		if n > 0 {
			v.Set(reflect.MakeMap(v.Type()))
		}
		for range n - 1 {
			key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			m.fill(key)
			m.fill(elem)
			v.SetMapIndex(key, elem)
		}
	case reflect.Pointer:
		if m.IntN(4) > 0 && v.Type() != reflect.TypeFor[*cyclic]() {
			v.Set(reflect.New(v.Type().Elem()))
			m.fill(v.Elem())
		}
	case reflect.Interface:
		v.Set(pick(m, reflect.Zero(v.Type()), reflect.ValueOf(0), reflect.ValueOf(Outer{}), reflect.ValueOf([]int{1})))
	case reflect.Struct:
		if v.Type().ConvertibleTo(timeType) {
			v.Set(reflect.ValueOf(pick(m, time.Time{}, time.Unix(0, 0), time.Unix(1<<40, 0))).Convert(v.Type()))
			return
		}
		for i := range v.NumField() {
			m.fill(v.Field(i))
		}
	}
}

// A tally counts values of random types.
type tally struct{ types, walks, values, accepted, certain int }

// compareWith validates values of one random type by both.
func (n *tally) compareWith(t *testing.T, m *maker) {
	typ := m.record(3)
	walk := certainOf(typ, false)
	if n.types++; walk == nil {
		if !m.wild {
			t.Errorf("%v: has plain rules only, and is left to validator", typ)
		}
		return
	}
	n.walks++
	v := plainValidator(typ)
	for range 24 {
		data := reflect.New(typ)
		m.fill(data.Elem())
		accepted, isCertain := accepts(v, data.Interface()), walk(data.Elem())
		if isCertain && !accepted {
			t.Fatalf("%v: %+v: certain, but validator says %v", typ, data.Elem(), v.Struct(data.Interface()))
		}
		if accepted && !isCertain && !m.wild {
			t.Errorf("%v: %+v: valid by plain rules, but not certain", typ, data.Elem())
		}
		n.values++
		if accepted {
			n.accepted++
		}
		if isCertain {
			n.certain++
		}
	}
}

// shareWithWorkers logs n in the end. The workers of go test -fuzz are processes
// whose output is lost, so each leaves its tally in a folder.
func (n *tally) shareWithWorkers(f *testing.F) {
	const name = "CODEC_TEST_TALLIES"
	if dir, ok := os.LookupEnv(name); ok {
		f.Cleanup(func() {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(os.Getpid())), fmt.Append(nil, n.types, n.walks, n.values, n.accepted, n.certain), 0o600); err != nil {
				f.Error(err)
			}
		})
		return
	}
	dir := f.TempDir()
	f.Setenv(name, dir)
	f.Cleanup(func() {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			var w tally
			if _, err := fmt.Sscan(string(b), &w.types, &w.walks, &w.values, &w.accepted, &w.certain); err != nil {
				f.Fatal(err)
			}
			n.types, n.walks, n.values = n.types+w.types, n.walks+w.walks, n.values+w.values
			n.accepted, n.certain = n.accepted+w.accepted, n.certain+w.certain
		}
		f.Log(n)
	})
}

func (n *tally) String() string {
	return fmt.Sprintf("%d types, %d with a walk; %d values, %d valid, %d of them certain (%.2f %%)",
		n.types, n.walks, n.values, n.accepted, n.certain, 100*float64(n.certain)/float64(max(n.accepted, 1)))
}

func TestPlainRulesAreCertainWhereValidatorAccepts(t *testing.T) {
	n := &tally{}
	for seed := range uint64(600) {
		n.compareWith(t, &maker{Rand: rand.New(rand.NewPCG(seed, 1))})
	}
	t.Log(n)
	if n.accepted < 1000 {
		t.Errorf("got %d valid values, want at least 1,000: the test shows nothing", n.accepted)
	}
	if n.certain*100 < n.accepted*99 {
		t.Errorf("got %d certain of %d valid values, want 99 %%", n.certain, n.accepted)
	}
}

// FuzzCertain checks that no value is certain which validator refuses. With -v it
// prints how often it was certain.
func FuzzCertain(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed, seed%4 != 0)
	}
	n := &tally{}
	n.shareWithWorkers(f)
	f.Fuzz(func(t *testing.T, seed uint64, wild bool) {
		n.compareWith(t, &maker{rand.New(rand.NewPCG(seed, 2)), wild})
	})
}

// shop is what a shop keeps of a visitor.
type shop struct {
	UserID   int    `validate:"gte=0"`
	Name     string `validate:"max=100"`
	Role     string `validate:"omitempty,oneof=admin user"`
	Cart     []int  `validate:"max=100,dive,gt=0"`
	LastSeen time.Time
	Address  *struct {
		City string `validate:"required,max=60"`
	}
	Wait time.Duration `validate:"min=0s,max=1h"`
}

func someShop() *shop {
	s := &shop{UserID: 123456, Name: "Ada Lovelace", Role: "user", Cart: []int{101, 2002, 30003, 404, 5005, 60006, 707, 8008}, Wait: time.Minute}
	s.Address = &struct {
		City string `validate:"required,max=60"`
	}{"København"}
	return s
}

func shopCodec(t testing.TB) *Codec {
	c, err := Analyze(reflect.TypeFor[shop](), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertainDataIsCheckedWithoutAllocation(t *testing.T) {
	c, s := shopCodec(t), someShop()
	if n := testing.AllocsPerRun(100, func() {
		if err := c.Check(s, nil); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	c, s := shopCodec(b), someShop()
	slow := *c
	slow.certain = nil
	for _, by := range []struct {
		name string
		*Codec
	}{{"by=walk", c}, {"by=validator", &slow}} {
		b.Run(by.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := by.Check(s, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
