package filestore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testreadme"
	"github.com/typedsessions/sessions/stores/filestore"
)

func TestREADMEShowsTheProgramThatIsCompiled(t *testing.T) { testreadme.ShowsExample(t) }

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
