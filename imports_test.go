package sessions_test

import (
	"go/build"
	"os"
	"slices"
	"strings"
	"testing"
)

// mayImport lists, for each package of the module that ships, the internal
// packages that it may import. Imports go down only. docs/architecture.svg is
// drawn from the imports themselves, by go test . -run Architecture -draw.
var mayImport = map[string][]string{
	".":                   {"codec", "cookie", "firstbyte", "keys", "phase", "seam", "txn", "wire"},
	"internal/txn":        {"codec", "cookie", "keys", "phase", "wait", "watch", "wire"},
	"internal/codec":      {"shape"},
	"internal/wire":       {"keys"},
	"internal/firstbyte":  {"phase"},
	"internal/keys":       {},
	"internal/cookie":     {},
	"internal/phase":      {},
	"internal/wait":       {},
	"internal/watch":      {},
	"internal/shape":      {},
	"internal/seam":       {"cookie", "keys"},
	"internal/testserver": {},
	"internal/testreadme": {},
	"sessiontest":         {},
	"dbsc":                {"cookie", "keys", "seam", "wire"},
	"cmd/sessionctl":      {"cookie", "keys", "wire"},
}

func TestImportsGoDownOnly(t *testing.T) {
	const module = "github.com/typedsessions/sessions"
	for dir, allowed := range mayImport {
		t.Run(dir, func(t *testing.T) {
			p, err := build.ImportDir(dir, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range p.Imports {
				name, ours := strings.CutPrefix(path, module+"/internal/")
				switch {
				case ours && !slices.Contains(allowed, name):
					t.Errorf("%s imports internal/%s, which it may not", dir, name)
				case path == module && strings.HasPrefix(dir, "internal/"):
					t.Errorf("%s imports the root", dir)
				case path == "net/http" && slices.Contains([]string{"internal/txn", "internal/codec", "internal/wire", "internal/keys", "internal/shape", "internal/watch"}, dir):
					t.Errorf("%s imports net/http: what it does has no HTTP in it", dir)
				case path == "testing" && !strings.HasPrefix(dir, "internal/test") && dir != "sessiontest":
					t.Errorf("%s imports testing, which is not for programs", dir)
				}
			}
		})
	}
}

func TestEveryInternalPackageHasARule(t *testing.T) {
	entries, err := os.ReadDir("internal")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := mayImport["internal/"+e.Name()]; !ok {
			t.Errorf("mayImport has no entry for internal/%s", e.Name())
		}
	}
}
