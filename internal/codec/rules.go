package codec

import (
	"cmp"
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
	fields  []taggedField
	reaches map[reflect.Type]bool              // whether validator may find something to check in it
	hidden  map[reflect.Type]map[string]string // for [validator.Validate.RegisterStructValidationMapRules]
}

type taggedField struct {
	path  string
	typ   reflect.Type // the struct
	index int
	tag   string
}

// rulesOf collects the tags of t and of every struct that it reaches.
func rulesOf(t reflect.Type) *tagRules {
	r := &tagRules{reaches: map[reflect.Type]bool{}, hidden: map[reflect.Type]map[string]string{}}
	r.visit(t, cmp.Or(t.Name(), "T"))
	return r
}

// visit reports whether validator may find anything to check in a value of t.
func (r *tagRules) visit(t reflect.Type, path string) bool {
	if found, seen := r.reaches[t]; seen {
		return found
	}
	r.reaches[t] = true // as far as it is known: a type with a codec of its own may contain itself
	found := t.Implements(valuerType) || reflect.PointerTo(t).Implements(valuerType)
	switch t.Kind() {
	case reflect.Interface: // in a type with a codec of its own
		found = true
	case reflect.Pointer:
		found = r.visit(t.Elem(), path) || found
	case reflect.Slice, reflect.Array:
		found = r.visit(t.Elem(), path+"[]") || found
	case reflect.Map:
		found = r.visit(t.Key(), path+"[key]") || found
		found = r.visit(t.Elem(), path+"[]") || found
	case reflect.Struct:
		if t.ConvertibleTo(reflect.TypeFor[time.Time]()) {
			break
		}
		for i := range t.NumField() {
			found = r.visitField(t, i, path) || found
		}
	}
	r.reaches[t] = found
	return found
}

func (r *tagRules) visitField(t reflect.Type, i int, path string) (found bool) {
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
		r.fields = append(r.fields, taggedField{path, t, i, tag})
		r.visit(f.Type, path)
		return true
	case r.visit(f.Type, path):
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

// validator returns what checks the tags, nil if there are none.
func (r *tagRules) validator() *validator.Validate {
	if len(r.fields) == 0 {
		return nil
	}
	v := validator.New(validator.WithRequiredStructEnabled())
	for t, rules := range r.hidden {
		v.RegisterStructValidationMapRules(rules, reflect.Zero(t).Interface())
	}
	return v
}

// probe finds the tags that would panic some day, or never apply. validator
// finds a bad rule only when a value comes to it, and a rule hides behind every
// one before it that fails; so each is tried alone, on a field that is not zero.
func (r *tagRules) probe() (errs []error) {
	for _, f := range r.fields {
		err := f.probe(f.tag)
		for _, rule := range singleRules(f.tag) {
			if err != nil {
				break
			}
			if err = fieldsExist(rule, f.typ); err == nil {
				err = f.probe(rule)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: the validate tag %w; correct the tag", f.path, err))
		}
	}
	return errs
}

// probe runs a rule on a filled value of the field's struct, in which no other
// field has one.
func (f taggedField) probe(rule string) (err error) {
	if keys, end := strings.Count(rule, "keys"), strings.Count(rule, "endkeys"); keys != 2*end {
		return fmt.Errorf("%q has keys without endkeys, or endkeys without keys", rule)
	}
	rules := map[string]string{}
	for i := range f.typ.NumField() {
		rules[f.typ.Field(i).Name] = "-"
	}
	rules[f.typ.Field(f.index).Name] = rule
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterStructValidationMapRules(rules, reflect.Zero(f.typ).Interface())
	data := reflect.New(f.typ)
	shape.FillAll(data.Elem())
	defer func() {
		if p := recover(); p != nil {
			// The panic's text is about the tag: the values are ours.
			err = fmt.Errorf("%q does not exist or does not fit a %v (%v)", rule, f.typ.Field(f.index).Type, p)
		}
	}()
	_ = v.Struct(data.Interface()) // whether the values pass is of no interest
	return nil
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
