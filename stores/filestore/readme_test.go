package filestore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/filestore"
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
	program := strings.NewReplacer("package filestore_test", "package main", "func Example()", "func main()").Replace(string(source))
	if !strings.Contains(string(readme), "```go\n"+program+"```\n") {
		t.Errorf("README.md does not show, as one block of go:\n%s", program)
	}
}

func ExampleStore_Sweep() {
	dir, _ := os.MkdirTemp("", "sessions-")
	defer os.RemoveAll(dir)
	store, err := filestore.New(dir)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	_, _ = store.Create(ctx, sessions.ID{1}, sessions.Record{Expires: time.Now().Add(-time.Second)})
	_, _ = store.Create(ctx, sessions.ID{2}, sessions.Record{Expires: time.Now().Add(time.Hour)})
	n, err := store.Sweep(ctx)
	fmt.Println(n, err)
	// Output: 1 <nil>
}
