package redisstore_test

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
	program := strings.NewReplacer("package redisstore_test", "package main", "// It has no output to check: it needs a Redis at localhost:6379.\n", "",
		"func Example()", "func main()").Replace(string(source))
	if !strings.Contains(string(readme), "```go\n"+program+"```\n") {
		t.Errorf("README.md does not show, as one block of go:\n%s", program)
	}
}
