package codec

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-playground/validator/v10"
	"github.com/typedsessions/sessions/internal/shape"
)

// tagRules are the validate tags of a session type.
type tagRules struct {
	home    shape.Home
	own     bool // the application has rules of its own
	fields  []taggedField
	structs []visited                          // in which validator looks for rules
	jsons   []reflect.Type                     // of sessions.JSON with a value that is no struct
	reaches map[reflect.Type]bool              // whether validator may find something to check in it
	hidden  map[reflect.Type]map[string]string // for [validator.Validate.RegisterStructValidationMapRules]
}

type taggedField struct {
	path   string
	typ    reflect.Type // the struct
	index  int
	tag    string
	holder string // the path of the application's field that it is inside of, if it cannot change typ
}

type visited struct {
	path string
	typ  reflect.Type
}

// tagsOf returns what checks the tags of t, by the rules that register adds too.
// It is nil if there is nothing to check. The error names every tag that would
// panic some day, or never apply.
func tagsOf(t reflect.Type, register func(*validator.Validate) error) (*validator.Validate, error) {
	r := &tagRules{
		home: shape.HomeOf(t), own: register != nil,
		reaches: map[reflect.Type]bool{}, hidden: map[reflect.Type]map[string]string{},
	}
	r.visit(t, cmp.Or(t.Name(), "T"), "")
	if len(r.fields) == 0 && !r.own {
		return nil, nil
	}
	v := r.new()
	for t, rules := range r.hidden {
		v.RegisterStructValidationMapRules(rules, reflect.Zero(t).Interface())
	}
	if register != nil {
		if err := registered(v, register); err != nil {
			return v, err
		}
	}
	if err := r.probe(v); err != nil || !r.own {
		return v, err
	}
	return v, r.run(v)
}

func registered(v *validator.Validate, register func(*validator.Validate) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("Config.Rules panicked: %v; correct what it registers", p) // validator panics for a bad name
		}
	}()
	if err := register(v); err != nil {
		return fmt.Errorf("Config.Rules: %w", err)
	}
	return nil
}

// new returns a validator that has no rules but its own.
func (r *tagRules) new() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	for _, t := range r.jsons {
		v.RegisterCustomTypeFunc(func(json reflect.Value) any { return json.Field(0).Interface() }, reflect.Zero(t).Interface())
	}
	return v
}

// visit reports whether validator may find anything to check in a value of t.
// Holder is the path of the field that holds it, inside of a type that the
// application cannot change.
func (r *tagRules) visit(t reflect.Type, path, holder string) bool {
	if found, seen := r.reaches[t]; seen {
		return found
	}
	r.reaches[t] = true // as far as it is known: a type with a codec of its own may contain itself
	found := t.Implements(valuerType) || reflect.PointerTo(t).Implements(valuerType)
	switch t.Kind() {
	case reflect.Interface: // in a type with a codec of its own
		found = true
	case reflect.Pointer:
		found = r.visit(t.Elem(), path, holder) || found
	case reflect.Slice, reflect.Array:
		found = r.visit(t.Elem(), path+"[]", holder) || found
	case reflect.Map:
		found = r.visit(t.Key(), path+"[key]", holder) || found
		found = r.visit(t.Elem(), path+"[]", holder) || found
	case reflect.Struct:
		if t.ConvertibleTo(reflect.TypeFor[time.Time]()) {
			break
		}
		found = r.own || found // by a rule for the struct
		r.structs = append(r.structs, visited{path, t})
		switch {
		case !shape.IsJSON(t):
			if r.home.Foreign(t) {
				holder = cmp.Or(holder, path)
			}
		case indirect(t.Field(0).Type).Kind() != reflect.Struct:
			r.jsons = append(r.jsons, t)
		}
		for i := range t.NumField() {
			found = r.visitField(t, i, path, holder) || found
		}
	}
	r.reaches[t] = found
	return found
}

func indirect(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func (r *tagRules) visitField(t reflect.Type, i int, path, holder string) (found bool) {
	f := t.Field(i)
	tag := f.Tag.Get("validate")
	path += "." + f.Name
	switch {
	case !f.IsExported() && !f.Anonymous, tag == "-":
		return false
	case f.Tag.Get("msgpack") == "-" || f.Tag.Get("msg") == "-":
		// What is not stored is zero in every loaded session, which must not
		// break a rule.
	case tag != "":
		r.fields = append(r.fields, taggedField{path, t, i, tag, holder})
		r.visit(f.Type, path, holder)
		return true
	case r.visit(f.Type, path, holder):
		return true
	}
	// And what has no rule, validator need not look at: it takes an allocation
	// for each such field.
	if r.hidden[t] == nil {
		r.hidden[t] = map[string]string{}
	}
	r.hidden[t][f.Name] = "-"
	return false
}

var valuerType = reflect.TypeFor[validator.Valuer]()

// probe finds the tags that would panic some day, or never apply. validator
// finds a bad rule only when a value comes to it, and a rule hides behind every
// one before it that fails; so each is tried alone, on a field that is not zero.
func (r *tagRules) probe(v *validator.Validate) error {
	var errs []error
	plain := r.new()
	told := map[string]bool{} // of the application's fields
	for _, f := range r.fields {
		faults, unknown := r.faults(f, v, plain)
		if len(faults) == 0 || f.holder != "" && told[f.holder] {
			continue
		}
		told[f.holder] = true
		fix := "correct the tag"
		if unknown {
			fix = "correct it, or register the rule in Config.Rules"
		}
		at := f.path
		if f.holder != "" {
			at = fmt.Sprintf("%s: the field %s of %v", f.holder, f.typ.Field(f.index).Name, f.typ)
			fix = "tag the field that holds it `validate:\"-\"`"
			if unknown {
				fix += ", or register the rule in Config.Rules"
			}
		}
		errs = append(errs, fmt.Errorf("%s: validate:%q: %s; %s", at, f.tag, strings.Join(faults, ", "), fix))
	}
	return errors.Join(errs...)
}

// faults says what is wrong with the tag of a field, by each rule, and whether
// there is a rule that nobody has registered.
func (r *tagRules) faults(f taggedField, v, plain *validator.Validate) (faults []string, unknown bool) {
	own := false
	for _, rule := range singleRules(f.tag) {
		name := nameOf(rule)
		if name == "" {
			faults = append(faults, "a rule has no name")
			continue
		}
		if !knows(plain, name) {
			own = true
			if !knows(v, name) {
				faults, unknown = append(faults, fmt.Sprintf("there is no rule %q", name)), true
			}
			continue
		}
		err := fieldsExist(rule, f.typ)
		if err == nil {
			err = r.try(f, rule)
			if err != nil && r.own && passes(v, f, rule) {
				err = nil // a function of the application stands for the plain one
			}
		}
		if err != nil {
			faults = append(faults, err.Error())
		}
	}
	if len(faults) == 0 && !own {
		if err := r.try(f, f.tag); err != nil {
			faults = append(faults, err.Error())
		}
	}
	return faults, unknown
}

// nameOf returns the name of a rule that stands alone.
func nameOf(rule string) string {
	rule = strings.TrimSuffix(rule, ",endkeys")
	name, _, _ := strings.Cut(rule[strings.LastIndex(rule, ",")+1:], "=")
	return name
}

// knows reports whether v has a rule of this name. No value comes to it.
func knows(v *validator.Validate, name string) (known bool) {
	defer func() { known = recover() == nil }()
	_ = v.Var("", "omitempty,"+name)
	return true
}

// passes reports whether v applies a rule without a panic.
func passes(v *validator.Validate, f taggedField, rule string) (ok bool) {
	defer func() { ok = recover() == nil }()
	data := reflect.New(f.typ).Elem()
	shape.FillAll(data)
	_ = v.VarWithValue(data.Field(f.index).Interface(), data.Interface(), rule)
	return true
}

// try runs a rule on a filled value of the field's struct, in which no other
// field has one.
func (r *tagRules) try(f taggedField, rule string) (err error) {
	if keys, end := strings.Count(rule, "keys"), strings.Count(rule, "endkeys"); keys != 2*end {
		return fmt.Errorf("%q has keys without endkeys, or endkeys without keys", rule)
	}
	v := r.new()
	for _, s := range r.structs {
		rules := map[string]string{}
		for i := range s.typ.NumField() {
			rules[s.typ.Field(i).Name] = "-"
		}
		if s.typ == f.typ {
			rules[f.typ.Field(f.index).Name] = rule
		}
		v.RegisterStructValidationMapRules(rules, reflect.Zero(s.typ).Interface())
	}
	data := reflect.New(f.typ)
	shape.FillAll(data.Elem())
	defer func() {
		if p := recover(); p != nil {
			// The panic's text is about the tag: the values are ours.
			err = fmt.Errorf("%q does not fit %v (%v)", rule, f.typ.Field(f.index).Type, p)
		}
	}()
	_ = v.Struct(data.Interface()) // whether the values pass is of no interest
	return nil
}

// run applies the application's own rules, as the tags have them, to zero and to
// filled values: a session may hold either, and a panic is no answer.
func (r *tagRules) run(v *validator.Validate) error {
	var errs []error
	for _, s := range r.structs {
		errs = append(errs, r.runOn(v, s.typ, "", func(value string, p any) error {
			return fmt.Errorf("%s: the rule that Config.Rules registers for %v panics on %s (%v); correct the function", s.path, s.typ, value, p)
		}))
	}
	if errors.Join(errs...) != nil {
		return errors.Join(errs...)
	}
	for _, f := range r.fields {
		errs = append(errs, r.runOn(v, f.typ, f.typ.Field(f.index).Name, func(value string, p any) error {
			return fmt.Errorf("%s: validate:%q: a rule of Config.Rules panics on %s (%v); correct its function", cmp.Or(f.holder, f.path), f.tag, value, p)
		}))
	}
	return errors.Join(errs...)
}

// runOn applies the rules of one field of t, or with no field those for all of t.
func (r *tagRules) runOn(v *validator.Validate, t reflect.Type, field string, failed func(value string, p any) error) error {
	only := field
	if t.Name() != "" {
		only = t.Name() + "." + field
	}
	apply := func(data reflect.Value, value string) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = failed(value, p)
			}
		}()
		_ = v.StructFiltered(data.Interface(), func(name []byte) bool { return field == "" || string(name) != only })
		return nil
	}
	data := reflect.New(t)
	if err := apply(data, "a zero value"); err != nil {
		return err
	}
	shape.FillAll(data.Elem())
	return apply(data, "a value that is not zero")
}

// singleRules splits a tag into its rules, each with what leads to it.
func singleRules(tag string) (rules []string) {
	before, after, outside := "", "", ""
	for _, part := range strings.Split(tag, ",") {
		switch part {
		case "dive":
			rules = append(rules, before+"dive"+after)
			before += "dive,"
		case "keys":
			outside, before, after = before, before+"keys,", ",endkeys"
		case "endkeys":
			before, after = outside, ""
		default:
			for _, alternative := range strings.Split(part, "|") {
				for _, rule := range singlePairs(alternative) {
					rules = append(rules, before+rule+after)
				}
			}
		}
	}
	return rules
}

// singlePairs splits a rule of several fields and values, of which the second
// is looked at only if the first one matches.
func singlePairs(rule string) (rules []string) {
	name, param, _ := strings.Cut(rule, "=")
	words := params.FindAllString(param, -1)
	if !slices.Contains(namesPairs, name) || len(words)%2 != 0 {
		return []string{rule}
	}
	for pair := range slices.Chunk(words, 2) {
		rules = append(rules, name+"="+strings.Join(pair, " "))
	}
	return rules
}

// Rules that name other fields of the struct; of a missing one, validator says
// nothing and never applies the rule.
var (
	namesField = []string{
		"eqfield", "nefield", "gtfield", "gtefield", "ltfield", "ltefield", "fieldcontains", "fieldexcludes",
		"eqcsfield", "necsfield", "gtcsfield", "gtecsfield", "ltcsfield", "ltecsfield",
		"required_with", "required_with_all", "required_without", "required_without_all",
		"excluded_with", "excluded_with_all", "excluded_without", "excluded_without_all",
	}
	namesPairs = []string{"required_if", "required_unless", "excluded_if", "excluded_unless", "skip_unless"}
	// params is how validator splits a parameter into words.
	params = regexp.MustCompile(`'[^']*'|\S+`)
)

func fieldsExist(rule string, t reflect.Type) error {
	rule = strings.TrimSuffix(rule, ",endkeys")
	name, param, _ := strings.Cut(rule[strings.LastIndex(rule, ",")+1:], "=")
	words := params.FindAllString(param, -1)
	step := 1
	switch {
	case slices.Contains(namesField, name):
	case slices.Contains(namesPairs, name):
		step = 2
	default:
		return nil
	}
	if len(words) == 0 || len(words)%step != 0 {
		return fmt.Errorf("%q needs the name of a field, or pairs of a name and a value", rule)
	}
	for i := 0; i < len(words); i += step {
		if !hasField(t, words[i]) {
			return fmt.Errorf("%q names %s, which is no field of %v", rule, words[i], t)
		}
	}
	return nil
}

// hasField follows a path of field names, as far as types tell.
func hasField(t reflect.Type, path string) bool {
	for part := range strings.SplitSeq(path, ".") {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return false
		}
		name, _, indexed := strings.Cut(part, "[")
		f, ok := t.FieldByName(name)
		if !ok {
			return false
		}
		t = f.Type
		if indexed {
			if k := t.Kind(); k != reflect.Slice && k != reflect.Array && k != reflect.Map {
				return false
			}
			t = t.Elem()
		}
	}
	return true
}
