package sessions

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/go-playground/validator/v10"
	"github.com/typedsessions/sessions/internal/shape"
)

// invalid turns validator's error into one that names fields and rules and
// shows no value. Keys of maps are values too.
func invalid(err error) error {
	var fields validator.ValidationErrors
	if !errors.As(err, &fields) {
		return fmt.Errorf("%w: validator: %T", ErrInvalid, err)
	}
	var broken []string
	for _, f := range fields {
		rule := f.Tag()
		if f.Param() != "" {
			rule += "=" + f.Param()
		}
		broken = append(broken, fmt.Sprintf("%s breaks the rule %s", indexes.ReplaceAllString(f.Namespace(), "[]"), rule))
	}
	return fmt.Errorf("%w: %s", ErrInvalid, strings.Join(broken, ", "))
}

var indexes = regexp.MustCompile(`\[[^\]]*\]`)

func newValidator() *validator.Validate { return validator.New(validator.WithRequiredStructEnabled()) }

// probeTags finds the validate tags of t, and of every struct type it reaches,
// that would panic some day. validator finds a bad tag only when a value comes
// to it, and a tag hides behind every one before it that fails; so each is tried
// alone, on a field that is not zero. It says whether there are tags at all.
func probeTags(s *shape.Shape) (tagged bool, errs []error) {
	for _, t := range s.Types() {
		for i := range t.NumField() {
			f := t.Field(i)
			rules := f.Tag.Get("validate")
			if rules == "" || rules == "-" || !f.IsExported() {
				continue
			}
			tagged = true
			for _, rule := range singleRules(rules) {
				if err := probe(t, i, rule); err != nil {
					errs = append(errs, fmt.Errorf("%s.%s: the validate tag %q %w", t.Name(), f.Name, rule, err))
				}
			}
		}
	}
	return tagged, errs
}

// singleRules splits a tag into its rules, each with the dives that lead to it.
func singleRules(tag string) (rules []string) {
	lead, keys := "", ""
	for _, part := range strings.Split(tag, ",") {
		switch part {
		case "dive":
			lead += "dive,"
			rules = append(rules, strings.TrimSuffix(lead, ","))
		case "keys":
			keys = lead + "keys,"
		case "endkeys":
			keys = ""
		default:
			for _, alternative := range strings.Split(part, "|") {
				switch {
				case keys != "":
					rules = append(rules, keys+alternative+",endkeys")
				default:
					rules = append(rules, lead+alternative)
				}
			}
		}
	}
	return slices.Compact(rules)
}

// probe runs one rule on the i-th field of t, with the other fields beside it
// for rules that look at them.
func probe(t reflect.Type, i int, rule string) (err error) {
	fields := make([]reflect.StructField, 0, t.NumField())
	for j := range t.NumField() {
		f := t.Field(j)
		if !f.IsExported() {
			continue
		}
		f = reflect.StructField{Name: f.Name, Type: f.Type}
		if j == i {
			f.Tag = reflect.StructTag(fmt.Sprintf("validate:%q", rule))
		} else {
			f.Tag = `validate:"-"`
		}
		fields = append(fields, f)
	}
	v := reflect.New(reflect.StructOf(fields))
	shape.Fill(v.Elem())
	if err := fieldsExist(rule, fields); err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			// The panic's text is about the tag: the values are ours.
			err = fmt.Errorf("does not exist or does not fit a %v (%v)", t.Field(i).Type, p)
		}
	}()
	_ = newValidator().Struct(v.Interface()) // whether the values pass is of no interest
	return nil
}

// Rules that name other fields of the struct; of a missing one, validator says
// nothing and never applies the rule.
var (
	oneField   = []string{"eqfield", "nefield", "gtfield", "gtefield", "ltfield", "ltefield", "fieldcontains", "fieldexcludes"}
	fieldList  = []string{"required_with", "required_with_all", "required_without", "required_without_all", "excluded_with", "excluded_with_all", "excluded_without", "excluded_without_all"}
	fieldPairs = []string{"required_if", "required_unless", "excluded_if", "excluded_unless", "skip_unless"}
)

func fieldsExist(rule string, fields []reflect.StructField) error {
	name, param, _ := strings.Cut(rule[strings.LastIndex(rule, ",")+1:], "=")
	words := strings.Fields(param)
	switch {
	case slices.Contains(oneField, name), slices.Contains(fieldList, name):
	case slices.Contains(fieldPairs, name):
		if len(words)%2 != 0 || len(words) == 0 {
			return errors.New("needs pairs of a field and a value")
		}
		for i := 1; i <= len(words)/2; i++ {
			words = slices.Delete(words, i, i+1)
		}
	default:
		return nil
	}
	if len(words) == 0 {
		return errors.New("needs the name of a field")
	}
	for _, w := range words {
		first, _, _ := strings.Cut(w, ".")
		if !slices.ContainsFunc(fields, func(f reflect.StructField) bool { return f.Name == first }) {
			return fmt.Errorf("names %s, which is no field beside it", first)
		}
	}
	return nil
}
