package sessions_test

import (
	"encoding/json"
	"go/parser"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func fileText(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// documents returns what people read of the whole repository, without blocks of
// code, by its path. What the README of a module says that module's tests hold.
func documents(t *testing.T) map[string]string {
	t.Helper()
	var names []string
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("got the documents %q and %v of %s, want some", found, err, pattern)
		}
		names = append(names, found...)
	}
	block := regexp.MustCompile("(?ms)^```.*?^```$")
	texts := make(map[string]string)
	for _, name := range append(names, "README.md", "CONTRIBUTING.md", "CHANGELOG.md") {
		texts[name] = block.ReplaceAllString(fileText(t, name), "")
	}
	return texts
}

// declared returns the tests, scenarios, fuzz targets and benchmarks of all modules,
// one a line, and the names of all Go files.
func declared(t *testing.T) (tests string, files map[string]bool) {
	t.Helper()
	files = make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git"):
			return fs.SkipDir // in a worktree .git is a file, and that would skip what comes after it
		case !strings.HasSuffix(path, ".go"):
			return nil
		}
		files[d.Name()] = true
		for _, match := range function.FindAllStringSubmatch(fileText(t, path), -1) {
			tests += match[1] + "\n"
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, sc := range scenarios(t) {
		tests += "TestScenarios/" + sc.name() + "\n"
	}
	return "\n" + tests, files
}

func TestDocumentsNameTestsAndFilesThatExist(t *testing.T) {
	tests, files := declared(t)
	named := regexp.MustCompile("\\b(?:Test|Fuzz|Benchmark)[A-Z]\\w+(?:/[\\w-]+)?|`[\\w/.]+\\.go`")
	for name, text := range documents(t) {
		for _, what := range named.FindAllString(text, -1) {
			if !strings.Contains(tests, "\n"+what+"\n") && !files[filepath.Base(strings.Trim(what, "`"))] {
				t.Errorf("%s names %s, which is nowhere", name, what)
			}
		}
	}
}

func TestLinksOfTheDocumentsLeadSomewhere(t *testing.T) {
	code := regexp.MustCompile("`[^`]*`")
	link := regexp.MustCompile(`\]\(([^)\s]+)\)|(?m)^\[[\w-]+\]: (\S+)$|(?:src|srcset)="([^"]+)"`)
	for name, text := range documents(t) {
		for _, match := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
			target := match[1] + match[2] + match[3]
			if strings.Contains(target, "://") {
				continue // a test that needs the network fails for others' reasons
			}
			path, anchor, _ := strings.Cut(target, "#")
			page := filepath.Join(filepath.Dir(name), path)
			if path == "" {
				page = name
			}
			if _, err := os.Stat(page); err != nil {
				t.Errorf("%s: the link %s leads nowhere: %v", name, target, err)
			} else if anchor != "" && !hasHeading(fileText(t, page), anchor) {
				t.Errorf("%s: there is no heading for the link %s", name, target)
			}
		}
	}
}

// hasHeading reports whether a heading of the page gets this anchor from GitHub.
func hasHeading(page, anchor string) bool {
	dropped := regexp.MustCompile(`[^\w -]`)
	for _, match := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(page, -1) {
		if strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}

// What the blocks refer to.
const aroundTheBlocks = `package readme

import (
	"net/http"

	"github.com/typedsessions/sessions"
)

type AppSession struct {
	UserID int
	Role   string
}

type AppSessionV1 AppSession

var keys *sessions.Keyring

func authenticate(*http.Request) (userID int, ok bool) { panic(0) }
`

func TestEveryGoBlockOfTheREADMECompiles(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(fileText(t, "README.md"), -1)
	if len(blocks) < 2 {
		t.Fatalf("got %d blocks of go in README.md, want more", len(blocks))
	}
	dir := t.TempDir()
	// The compiler sees these files as a package of the module; none is written
	// into the tree.
	var overlay struct{ Replace map[string]string }
	overlay.Replace = make(map[string]string)
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace["internal/readme/"+name] = file
		return file
	}
	write("around.go", aroundTheBlocks)
	for i, block := range blocks {
		code := strings.ReplaceAll(block[1], "{ … }", "{ panic(0) }")
		if _, err := parser.ParseExpr(code); err == nil {
			code = "_ = " + code
		} else {
			code += "_, _ = mgr, err\n"
		}
		imports := "import \"github.com/typedsessions/sessions\"\n"
		for _, name := range []string{"fmt", "log", "net/http", "os", "time"} {
			if strings.Contains(code, filepath.Base(name)+".") {
				imports += "import \"" + name + "\"\n"
			}
		}
		write(string(rune('a'+i))+".go", "package readme\n\n"+imports+"\nfunc _() {\n"+code+"}\n")
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "build", "-overlay", write("overlay.json", string(list)), "./internal/readme").CombinedOutput()
	if err != nil {
		t.Errorf("a block of README.md does not compile: %v\n%s", err, out)
	}
}

func TestCommandsOfTheDocumentsRunWhatExists(t *testing.T) {
	tests, _ := declared(t)
	command := regexp.MustCompile("(?m)(?:^|^[A-Z]+=\\S+ |`)((?:go (?:run|test|install|get) |script/)[^`#\n]+)")
	for _, name := range []string{"README.md", "CONTRIBUTING.md"} {
		commands := command.FindAllStringSubmatch(fileText(t, name), -1)
		if len(commands) < 4 {
			t.Errorf("got the commands %q of %s, want more", commands, name)
		}
		for _, match := range commands {
			words := strings.Fields(match[1])
			for i, word := range words {
				if i > 0 && (words[i-1] == "-run" || words[i-1] == "-bench") {
					if !strings.Contains(tests, "\n"+word) && !strings.Contains(tests, "\nBenchmark"+word) {
						t.Errorf("%s: %q matches no test", name, words)
					}
				}
				if module, ours := strings.CutPrefix(word, "github.com/typedsessions/sessions"); ours {
					module, _, _ = strings.Cut(module, "@")
					word = "." + module
				}
				if strings.HasPrefix(word, "./") || strings.HasPrefix(word, "script/") {
					if _, err := os.Stat(word); err != nil {
						t.Errorf("%s: %q needs what is not there: %v", name, words, err)
					}
				}
			}
		}
	}
}

func TestEveryCellOfTheComparisonHasATestOrASource(t *testing.T) {
	text := fileText(t, "docs/COMPARISON.md")
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| |") {
			continue
		}
		for i, cell := range strings.Split(strings.Trim(line, "|\n"), "|")[1:] {
			if i == 0 && !strings.Contains(cell, "`Test") || i > 0 && strings.TrimSpace(cell) != "" && !strings.Contains(cell, "][") {
				t.Errorf("docs/COMPARISON.md: nothing holds %q", cell)
			}
		}
	}
	for _, match := range regexp.MustCompile(`\]\[([\w-]+)\]`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(text, "\n["+match[1]+"]: ") {
			t.Errorf("docs/COMPARISON.md has no source named %s", match[1])
		}
	}
	run := fileText(t, "benchmarks/go.mod") + fileText(t, "benchmarks/node/package-lock.json")
	first, _, _ := strings.Cut(text, "A cell is empty")
	read := regexp.MustCompile(`\d+\.\d+\.\d+`).FindAllString(first, -1)
	for _, match := range regexp.MustCompile(`(?:/blob/|@)v?(\d+\.\d+\.\d+)`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(run, " v"+match[1]+"\n") && !strings.Contains(run, `"version": "`+match[1]+`"`) && !slices.Contains(read, match[1]) {
			t.Errorf("docs/COMPARISON.md speaks of a version %s, which the benchmarks do not run and its first paragraph does not name", match[1])
		}
	}
}
