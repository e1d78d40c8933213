package redisstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/redisstore"
)

// The sizes in README.md are from this test: go test -run BytesPerSession -v
func TestBytesPerSession(t *testing.T) {
	client := connectTo(t, testserver.Redis(t).Addr)
	// used returns the allocated memory without that of connections.
	used := func() int64 {
		t.Helper()
		stats, err := client.Do(t.Context(), client.B().Arbitrary("MEMORY", "STATS").Build()).AsMap()
		if err != nil {
			t.Fatal(err)
		}
		all, clients := stats["total.allocated"], stats["clients.normal"]
		total, err := all.AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		ours, err := clients.AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		return total - ours
	}
	store := redisstore.New(client, redisstore.Options{})
	const n = 8_000
	fill := func(size int, owned bool) {
		var wg sync.WaitGroup
		for worker := range 16 {
			wg.Go(func() {
				for i := worker; i < n; i += 16 {
					rec := sessions.Record{Data: make([]byte, size), Expires: time.Now().Add(time.Hour)}
					if owned {
						rec.Owner = fmt.Sprint("user ", 1_000_000+i)
					}
					if _, err := store.Create(context.Background(), idOf(i), rec); err != nil {
						t.Errorf("Create: %v", err)
					}
				}
			})
		}
		wg.Wait()
	}
	clear := func() {
		t.Helper()
		if err := client.Do(t.Context(), client.B().Flushall().Sync().Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	fill(0, true) // opens connections and loads the scripts
	for _, size := range []int{100, 500, 2000} {
		var per [2]int64
		for i, owned := range []bool{false, true} {
			clear()
			before := used()
			fill(size, owned)
			per[i] = (used() - before) / n
		}
		t.Logf("%4d bytes of data: %4d bytes of Redis's memory per session, %4d with an owner", size, per[0], per[1])
		if per[0] < int64(size) || per[0] > int64(size+size/4+300) {
			t.Errorf("a session with %d bytes of data takes %d bytes", size, per[0])
		}
	}
}
