package migrating_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const document = "../../docs/MIGRATING.md"

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDocumentHoldsEveryProgram(t *testing.T) {
	doc := read(t, document)
	programs, err := filepath.Glob("*/main.go")
	if err != nil || len(programs) != 3 {
		t.Fatalf("got the programs %q and %v, want 3", programs, err)
	}
	for _, name := range programs {
		if !strings.Contains(doc, "```go\n"+read(t, name)+"```\n") {
			t.Errorf("%s is not in %s as it is; copy it", name, document)
		}
	}
}

func TestEveryBlockOfTheDocumentIsTestedCode(t *testing.T) {
	files, err := filepath.Glob("*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, name := range files {
		code.WriteString(read(t, name))
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```\n").FindAllStringSubmatch(read(t, document), -1)
	if len(blocks) < 4 {
		t.Errorf("got %d blocks of code, want at least 4", len(blocks))
	}
	for _, block := range blocks {
		if !strings.Contains(code.String(), block[1]) {
			t.Errorf("this block is in no file here:\n%s", block[1])
		}
	}
}

func TestLinksOfTheDocumentLeadSomewhere(t *testing.T) {
	for _, link := range regexp.MustCompile(`\]\((\.\.?/[^)#]+)`).FindAllStringSubmatch(read(t, document), -1) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(document), link[1])); err != nil {
			t.Errorf("a link leads nowhere: %v", err)
		}
	}
}
