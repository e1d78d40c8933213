package shape

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
)

// A problem is what New says of one field: why it cannot be stored, and one way
// to change that.
type problem struct {
	path, reason, fix string
	held              bool // the fix is about the field that holds the type, not about the type
}

func (p problem) Error() string { return p.path + ": " + p.reason + "; " + p.fix }

func joined(problems []problem) error {
	var errs []error
	for _, p := range problems {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// outside makes one problem of those found inside of t, which the application
// cannot change. Its fix is about the field that holds t, of the given type.
func outside(found []problem, t, field reflect.Type, path string) problem {
	if found[0].held && found[0].path == path {
		return found[0]
	}
	p := problem{path: path, reason: found[0].reason, fix: "leave it out with `msgpack:\"-\"`"}
	if inner := strings.TrimPrefix(found[0].path, path); inner != "" {
		colon := ":"
		if strings.HasPrefix(p.reason, "is ") {
			colon = ""
		}
		p.reason = fmt.Sprintf("%v cannot be stored (its field %s%s %s)", t, strings.TrimPrefix(inner, "."), colon, p.reason)
	}
	p.fix += orJSON(field)
	return p
}

// orJSON is a fix for a field of type t, "" if encoding/json cannot carry it.
func orJSON(t reflect.Type) string {
	if notJSON(t) != "" {
		return ""
	}
	return fmt.Sprintf(", or give it the type sessions.JSON[%v]", t)
}

// A Home holds the paths of the modules whose types the application can change.
type Home []string

// HomeOf returns the Home of a program whose session is a t.
func HomeOf(t reflect.Type) Home {
	h := append(Home{"main"}, modules().developed...)
	if pkg := packageOf(t.PkgPath()); pkg != "" {
		h = append(h, cmp.Or(moduleOf(pkg), prefixOf(pkg)))
	}
	return h
}

// Foreign reports whether the application cannot change t.
func (h Home) Foreign(t reflect.Type) bool {
	if t.PkgPath() != "" && !h.has(t.PkgPath()) {
		return true
	}
	if t.Kind() == reflect.Struct {
		for i := range t.NumField() { // type Token oauth2.Token
			if pkg := t.Field(i).PkgPath; pkg != "" {
				return !h.has(pkg)
			}
		}
	}
	return false
}

func (h Home) has(pkg string) bool {
	return slices.ContainsFunc(h, func(module string) bool { return within(packageOf(pkg), module) })
}

// packageOf returns the path of the package that an external test belongs to, or
// path itself.
func packageOf(path string) string { return strings.TrimSuffix(path, "_test") }

func within(pkg, module string) bool {
	rest, ok := strings.CutPrefix(pkg, module)
	return ok && (rest == "" || rest[0] == '/')
}

// modules lists the modules of the program: all, and those that are developed
// with it, which are the main one and those of its workspace.
var modules = sync.OnceValue(func() (m struct{ all, developed []string }) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return m
	}
	for _, dep := range append(info.Deps, &info.Main) {
		if dep.Path == "" { // of a program that was named by its files
			continue
		}
		m.all = append(m.all, dep.Path)
		if dep == &info.Main || dep.Version == "(devel)" {
			m.developed = append(m.developed, dep.Path)
		}
	}
	return m
})

// moduleOf returns the module of a package, "" if it has none that is known.
func moduleOf(pkg string) (found string) {
	for _, module := range modules().all {
		if within(pkg, module) && len(module) > len(found) {
			found = module
		}
	}
	return found
}

// prefixOf returns the first two elements of a path, which stand for a module
// where the program does not tell its modules.
func prefixOf(pkg string) string {
	parts := strings.SplitN(pkg, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}
