package sessions_test

import (
	"bytes"
	"flag"
	"go/ast"
	"go/doc"
	"go/format"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

var listAPI = flag.Bool("api", false, "write api/sessions.txt")

// TestTheAPIIsThatOfItsListing keeps a change of an exported name from going
// unseen: it is a line in the difference of api/sessions.txt.
func TestTheAPIIsThatOfItsListing(t *testing.T) {
	const path = "api/sessions.txt"
	got := strings.Join(exported(t), "\n") + "\n"
	if *listAPI {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	for line := range strings.Lines(got) {
		if !strings.Contains("\n"+string(want), "\n"+line) {
			t.Errorf("not in %s: %s", path, line)
		}
	}
	for line := range strings.Lines(string(want)) {
		if !strings.Contains("\n"+got, "\n"+line) {
			t.Errorf("in %s, and not in the code: %s", path, line)
		}
	}
	t.Error("if the change is meant: go test . -run API -api")
}

// exported lists the exported names of the root package, one a line, sorted.
func exported(t *testing.T) (lines []string) {
	t.Helper()
	p := packageDoc(t)
	text := func(n any) string {
		var b bytes.Buffer
		if err := format.Node(&b, token.NewFileSet(), n); err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(b.String()), " ")
	}
	add := func(parts ...string) { lines = append(lines, strings.Join(parts, "")) }
	values := func(kind string, all []*doc.Value) {
		for _, v := range all {
			for _, name := range v.Names {
				add(kind, name)
			}
		}
	}
	functions := func(all []*doc.Func) {
		for _, f := range all {
			f.Decl.Body = nil
			add(text(f.Decl))
		}
	}
	values("const ", p.Consts)
	values("var ", p.Vars)
	functions(p.Funcs)
	for _, typ := range p.Types {
		values("const ", typ.Consts)
		values("var ", typ.Vars)
		functions(typ.Funcs)
		functions(typ.Methods)
		spec := typ.Decl.Specs[0].(*ast.TypeSpec)
		members := func(kind string, list *ast.FieldList) {
			add("type ", typ.Name, " ", kind)
			for _, f := range list.List {
				for _, name := range f.Names {
					if name.IsExported() {
						add("type ", typ.Name, " ", kind, ", ", name.Name, " ", text(f.Type))
					}
				}
				if f.Names == nil && ast.IsExported(strings.TrimLeft(text(f.Type), "*")) {
					add("type ", typ.Name, " ", kind, ", ", text(f.Type))
				}
			}
		}
		switch s := spec.Type.(type) {
		case *ast.StructType:
			members("struct", s.Fields)
		case *ast.InterfaceType:
			members("interface", s.Methods)
		default:
			add("type ", typ.Name, " ", text(spec.Type))
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}
