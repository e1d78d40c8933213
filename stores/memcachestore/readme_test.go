package memcachestore_test

import (
	"os"
	"strings"
	"testing"
)

func TestREADMEShowsTheProgramThatIsCompiled(t *testing.T) {
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	program := strings.NewReplacer("package memcachestore_test", "package main", "func Example()", "func main()").Replace(string(source))
	if !strings.Contains(string(readme), "```go\n"+program+"```\n") {
		t.Errorf("README.md does not show, as one block of go:\n%s", program)
	}
}
