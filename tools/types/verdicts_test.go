package types

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/typedsessions/sessions/internal/codec"
)

var write = flag.Bool("write", false, "write testdata/verdicts.md")

// TestTheVerdictsAreThoseOfTheTable runs New's analysis on each type, stores and
// loads its values, and compares the table.
func TestTheVerdictsAreThoseOfTheTable(t *testing.T) {
	const path = "testdata/verdicts.md"
	var table bytes.Buffer
	fmt.Fprint(&table, "| type | module | verdict | fix that New names |\n|---|---|---|---|\n")
	for _, r := range rows {
		t.Run(r.typ.String(), func(t *testing.T) {
			verdict, fix := r.verdict(t)
			fmt.Fprintf(&table, "| `%v` | %s | %s | %s |\n", r.typ, moduleOf(t, r.typ), verdict, strings.ReplaceAll(fix, "|", `\|`))
		})
	}
	if *write {
		if err := os.WriteFile(path, table.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(table.Bytes(), want) {
		t.Errorf("%s is not what New says; if the change is meant: go test -C tools/types . -write\n%s", path, table.Bytes())
	}
}

// verdict returns what becomes of a field of the type, and checks it.
func (r row) verdict(t *testing.T) (verdict, fix string) {
	c, err := analyze(r.typ)
	if err == nil {
		for _, v := range r.values {
			if got := stored(t, c, v); !equal(got, v) {
				t.Errorf("got %+v, want %+v", got, v)
			}
		}
		if r.keeps != "" {
			return r.keeps, ""
		}
		return "comes back", ""
	}
	t.Log(err)
	text := err.Error()
	if !strings.HasPrefix(text, "T.Field") || strings.Contains(text, "\n") {
		t.Errorf("got %q, want one line that names T.Field", text)
	}
	fix = text[strings.LastIndex(text, "; ")+2:]
	c, err = analyze(r.json)
	if offered := strings.Contains(fix, fmt.Sprintf("sessions.JSON[%v]", r.typ)); offered != (err == nil) {
		t.Errorf("got the fix %q, and of sessions.JSON the verdict %v", fix, err)
	}
	if err != nil {
		return "refused", fix
	}
	for _, v := range r.values {
		field := reflect.New(r.json).Elem()
		field.Field(0).Set(v)
		if got := stored(t, c, field).Field(0); asJSON(t, got) != asJSON(t, v) {
			t.Errorf("got %s, want %s", asJSON(t, got), asJSON(t, v))
		}
	}
	return "refused; as JSON it comes back", fix
}

// analyze is what New does with a session that has one field of a type.
func analyze(t reflect.Type) (*codec.Codec, error) {
	return codec.Analyze(reflect.StructOf([]reflect.StructField{{Name: "Field", Type: t}}), codec.Options{})
}

// stored returns what becomes of the field when the session is stored and loaded.
func stored(t *testing.T, c *codec.Codec, v reflect.Value) reflect.Value {
	t.Helper()
	data := c.New()
	reflect.ValueOf(data).Elem().Field(0).Set(v)
	b, err := c.Encode(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	got := c.New()
	if _, _, err := c.Decode(got, 0, b, false); err != nil {
		t.Fatal(err)
	}
	if c.Hash(got) != c.Hash(data) {
		t.Error("to read it is a change")
	}
	return reflect.ValueOf(got).Elem().Field(0)
}

func equal(a, b reflect.Value) bool { return reflect.DeepEqual(a.Interface(), b.Interface()) }

func asJSON(t *testing.T, v reflect.Value) string {
	t.Helper()
	b, err := json.Marshal(v.Addr().Interface())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// moduleOf returns the module of a type, with the version of go.mod.
func moduleOf(t *testing.T, typ reflect.Type) (module string) {
	t.Helper()
	for typ.PkgPath() == "" && typ.Kind() != reflect.Interface {
		if typ.Kind() == reflect.Map && typ.Key().PkgPath() != "" {
			typ = typ.Key()
		} else {
			typ = typ.Elem()
		}
	}
	required, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	module = "standard library"
	longest := 0
	for line := range strings.Lines(string(required)) {
		path, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		if path != "" && strings.HasPrefix(typ.PkgPath()+"/", path+"/") && len(path) > longest {
			module, longest = path+" "+version, len(path)
		}
	}
	return module
}
