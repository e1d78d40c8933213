package natsstore_test

import (
	"os"
	"strings"
	"testing"

	"github.com/typedsessions/sessions/internal/testreadme"
)

func TestREADMEShowsTheProgramThatIsCompiled(t *testing.T) { testreadme.ShowsExample(t) }

func TestREADMEShowsHowReadsGoToTheLeader(t *testing.T) {
	source, err := os.ReadFile("cluster_test.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(source), "// withoutDirectReads ")
	function, _, ok := strings.Cut(body, "\n}\n")
	_, function, _ = strings.Cut(function, "\n")
	if !ok || !strings.Contains(string(readme), "```go\n"+function+"\n}\n```\n") {
		t.Errorf("README.md does not show, as one block of go:\n%s\n}", function)
	}
}

func TestREADMEListsTheRightsOfTheTest(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```\n"+rights+"```\n") {
		t.Errorf("README.md does not show:\n%s", rights)
	}
}
