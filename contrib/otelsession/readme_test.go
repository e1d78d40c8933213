package otelsession_test

import (
	"os"
	"strings"
	"testing"
)

func TestProgramOfTheReadmeIsTheExample(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	program := strings.NewReplacer("package otelsession_test", "package main", "func Example()", "func main()").Replace(string(example))
	if !strings.Contains(string(readme), "```go\n"+program+"```\n") {
		t.Error("README.md does not show the program of example_test.go")
	}
}
