// Package testreadme holds the README of a module to the example that its tests
// compile.
package testreadme

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

var packageClause = regexp.MustCompile(`(?m)^package \w+_test$`)

// ShowsExample fails unless README.md, in the directory of the test, shows the
// whole of example_test.go as a program, without the lines that are left out.
func ShowsExample(t *testing.T, leftOut ...string) {
	t.Helper()
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	program := packageClause.ReplaceAllString(string(source), "package main")
	program = strings.ReplaceAll(program, "func Example()", "func main()")
	for _, line := range leftOut {
		program = strings.ReplaceAll(program, line+"\n", "")
	}
	if !strings.Contains(string(readme), "```go\n"+program+"```\n") {
		t.Errorf("README.md does not show, as one block of go:\n%s", program)
	}
}
