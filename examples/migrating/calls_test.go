package migrating_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// exported returns the exported names of a package: functions, types, constants,
// methods as Type.Method and fields as Type.Field. It leaves out the methods of
// interfaces, which only the author of a store implements.
func exported(t *testing.T, path string) []string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", path).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", path, err)
	}
	names, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	pkg, err := doc.NewFromFiles(fset, files, path)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	add := func(funcs []*doc.Func, prefix string) {
		for _, f := range funcs {
			all = append(all, prefix+f.Name)
		}
	}
	add(pkg.Funcs, "")
	for _, typ := range pkg.Types {
		all = append(all, typ.Name)
		add(typ.Funcs, "")
		add(typ.Methods, typ.Name+".")
		for _, c := range typ.Consts {
			all = append(all, c.Names...)
		}
		for _, spec := range typ.Decl.Specs {
			structure, ok := spec.(*ast.TypeSpec).Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, field := range structure.Fields.List {
				for _, name := range field.Names {
					if name.IsExported() {
						all = append(all, typ.Name+"."+name.Name)
					}
				}
			}
		}
	}
	return all
}

// leftCells returns the code in the first cells of the tables between two lines
// of the document, without what stands in quotes.
func leftCells(t *testing.T, from, to string) []string {
	t.Helper()
	_, section, ok := strings.Cut(read(t, document), "\n"+from+"\n")
	if !ok {
		t.Fatalf("%s has no line %q", document, from)
	}
	section, _, ok = strings.Cut(section, "\n"+to+"\n")
	if !ok {
		t.Fatalf("%s has no line %q after %q", document, to, from)
	}
	var code []string
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, span := range regexp.MustCompile("`[^`]*`").FindAllString(cells[1], -1) {
			code = append(code, regexp.MustCompile(`"[^"]*"`).ReplaceAllString(span, ""))
		}
	}
	return code
}

// A name that a newer version adds is a row that is missing, and a name in the
// table that the package does not have is a row that is wrong.
func TestEveryCallIsInTheTable(t *testing.T) {
	for _, tt := range []struct {
		path, from, to string
		short          map[string]string // how the table writes the names of a type
		foreign        []string          // names in the table of other packages
	}{
		{
			path: "github.com/alexedwards/scs/v2", from: "### Every call of scs", to: "### Stores of scs",
			short: map[string]string{"SessionManager.": "", "SessionCookie.": "Cookie.", "GobCodec.": "-"},
		},
		{
			path: "github.com/gorilla/sessions", from: "### Every call of gorilla/sessions", to: "### Stores and libraries around gorilla/sessions",
			foreign: []string{"Register", "T", "X"},
		},
	} {
		t.Run(tt.path, func(t *testing.T) {
			code := strings.Join(leftCells(t, tt.from, tt.to), " ")
			known := slices.Clone(tt.foreign)
			for _, name := range exported(t, tt.path) {
				for long, short := range tt.short {
					if rest, ok := strings.CutPrefix(name, long); ok {
						name = short + rest
					}
				}
				if strings.HasPrefix(name, "-") {
					continue
				}
				known = append(known, strings.Split(name, ".")...)
				if !regexp.MustCompile(`(^|[^\w.])` + regexp.QuoteMeta(name) + `($|\W)`).MatchString(code) {
					t.Errorf("%s has no row in the first column of the table", name)
				}
			}
			for _, name := range regexp.MustCompile(`\b[A-Z]\w*`).FindAllString(code, -1) {
				if !slices.Contains(known, name) {
					t.Errorf("the table has %s, which the package has not", name)
				}
			}
		})
	}
}
