package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/redisstore"
)

// A watch counts what Changes yields.
type watch struct {
	store *redisstore.Store
	stop  func() // waits until Changes has ended

	mu    sync.Mutex
	times map[sessions.ID]int // the zero ID too
	err   error               // of the last pair
}

func watching(t testing.TB, store *redisstore.Store) *watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{store: store, times: make(map[sessions.ID]int)}
	var running sync.WaitGroup
	running.Go(func() {
		for id, err := range store.Changes(ctx) {
			w.mu.Lock()
			if err != nil {
				w.err = err
			} else {
				w.times[id]++
			}
			w.mu.Unlock()
		}
	})
	w.stop = func() { cancel(); running.Wait() }
	t.Cleanup(w.stop)
	return w
}

// startWatching also waits until Changes listens.
func startWatching(t testing.TB, store *redisstore.Store) *watch {
	t.Helper()
	w := watching(t, store)
	w.waits(t, "the first pair", 0, sessions.ID{})
	return w
}

func (w *watch) told(id sessions.ID) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.times[id]
}

// waits waits until Changes has yielded the id more than this many times.
func (w *watch) waits(t testing.TB, what string, before int, id sessions.ID) {
	t.Helper()
	eventually(t, fmt.Sprintf("Changes does not tell of %s", what), func() bool { return w.told(id) > before })
}

// tells fails the test unless Changes yields the id after f.
func (w *watch) tells(t testing.TB, what string, id sessions.ID, f func()) {
	t.Helper()
	before := w.told(id)
	f()
	w.waits(t, what, before, id)
}

// tellsOrMissed fails the test unless Changes yields the id or the zero ID after f.
func (w *watch) tellsOrMissed(t testing.TB, what string, id sessions.ID, f func()) {
	t.Helper()
	before := w.told(id) + w.told(sessions.ID{})
	f()
	eventually(t, fmt.Sprintf("Changes tells neither of %s nor that it missed any", what), func() bool { return w.told(id)+w.told(sessions.ID{}) > before })
}

// toldOnly fails the test if Changes yielded another id.
func (w *watch) toldOnly(t testing.TB, only sessions.ID) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.times {
		if id != only && id != (sessions.ID{}) {
			t.Errorf("Changes yields %v, which is not the id of a record of this store", id)
		}
	}
}

func (w *watch) noErrors(t testing.TB) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		t.Errorf("Changes yields the error %v", w.err)
	}
}

func deletes(t testing.TB, store sessions.Store, id sessions.ID, version uint64) {
	t.Helper()
	if err := store.Delete(t.Context(), id, version); err != nil {
		t.Fatalf("Delete: %v", err)
	}
}

// listeners returns the connections that get the changes of all keys of a prefix.
func listeners(t testing.TB, server *testserver.Server) (ids []string) {
	t.Helper()
	for line := range strings.Lines(ask(t, server, "CLIENT", "LIST")) {
		if _, flags, _ := strings.Cut(line, " flags="); strings.Contains(flags[:strings.Index(flags, " ")], "B") {
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
			ids = append(ids, id)
		}
	}
	return ids
}

// connections returns the number of connections to a server but that of ask.
func connections(t testing.TB, server *testserver.Server) int {
	t.Helper()
	return strings.Count(ask(t, server, "CLIENT", "LIST"), "id=") - 1
}

func ask(t testing.TB, server *testserver.Server, command ...string) string {
	t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr}, ForceSingleClient: true, DisableCache: true, PipelineMultiplex: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	answer := client.Do(context.Background(), client.B().Arbitrary(command...).Build())
	if err := answer.Error(); err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	s, _ := answer.ToString()
	return s
}

func TestChangesTellsOfWhatOthersUpdateAndDelete(t *testing.T) {
	for _, tt := range []struct {
		name string
		opt  rueidis.ClientOption
		of   redisstore.Options
	}{
		{"with the defaults", rueidis.ClientOption{}, redisstore.Options{}},
		{"without rueidis's cache", rueidis.ClientOption{DisableCache: true}, redisstore.Options{}},
		{"with a local cache", rueidis.ClientOption{}, redisstore.Options{LocalCache: time.Hour}},
		{"without pipelining", rueidis.ClientOption{DisableAutoPipelining: true}, redisstore.Options{}},
		{"with other tracking options", rueidis.ClientOption{ClientTrackingOptions: []string{"BCAST", "PREFIX", "of another application"}}, redisstore.Options{}},
		{"with another prefix", rueidis.ClientOption{}, redisstore.Options{Prefix: "{shop}: the sessions"}},
		{"in another database", rueidis.ClientOption{SelectDB: 3}, redisstore.Options{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.opt.InitAddress = []string{testserver.Redis(t).Addr}
			w := startWatching(t, redisstore.New(connect(t, tt.opt), tt.of))
			there := redisstore.New(connect(t, tt.opt), tt.of)
			id, rec := idOf(1), with(recordOf("data", "ada"), "tenant:a")
			version := create(t, there, id, rec)
			w.tells(t, "an Update", id, func() { version = update(t, there, id, version, rec) })
			w.tells(t, "a Delete of a version", id, func() { deletes(t, there, id, version) })
			create(t, there, id, rec)
			w.tells(t, "a Delete", id, func() { deletes(t, there, id, 0) })
			version = create(t, w.store, id, rec)
			w.tells(t, "an Update by itself", id, func() { version = update(t, w.store, id, version, rec) })
			w.tells(t, "a Delete by itself", id, func() { deletes(t, w.store, id, version) })
			w.noErrors(t)
			w.toldOnly(t, id)
		})
	}
}

func TestChangesTellsNothingOfOtherPrefixes(t *testing.T) {
	addr := testserver.Redis(t).Addr
	w := startWatching(t, redisstore.New(connectTo(t, addr), redisstore.Options{}))
	other := redisstore.New(connectTo(t, addr), redisstore.Options{Prefix: "another"})
	update(t, other, idOf(1), create(t, other, idOf(1), recordOf("", "ada")), recordOf("", "eve"))
	client := connectTo(t, addr)
	if err := client.Do(t.Context(), client.B().Set().Key("session:not an id").Value("").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	create(t, w.store, idOf(2), recordOf("", ""))
	w.tells(t, "a Delete", idOf(2), func() { deletes(t, w.store, idOf(2), 0) })
	w.toldOnly(t, idOf(2))
}

func TestChangesTellsThatItMayHaveMissedSome(t *testing.T) {
	for _, tt := range []struct {
		name string
		lose func(t *testing.T, server *testserver.Server)
	}{
		{"after its connection was killed", func(t *testing.T, server *testserver.Server) {
			ask(t, server, "CLIENT", "KILL", "ID", listeners(t, server)[0])
		}},
		{"after all connections were killed", func(t *testing.T, server *testserver.Server) {
			ask(t, server, "CLIENT", "KILL", "TYPE", "normal")
		}},
		{"after Redis was killed", func(_ *testing.T, server *testserver.Server) {
			server.Kill()
			server.Restart()
		}},
		{"after Redis dropped everything", func(t *testing.T, server *testserver.Server) { ask(t, server, "FLUSHALL") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := testserver.Redis(t)
			w := startWatching(t, redisstore.New(connectTo(t, server.Addr), redisstore.Options{}))
			for range 3 {
				w.tells(t, "a loss", sessions.ID{}, func() { tt.lose(t, server) })
				// A listener that is gone is not counted twice.
				eventually(t, "not one connection listens", func() bool { return len(listeners(t, server)) == 1 })
			}
			there := redisstore.New(connectTo(t, server.Addr), redisstore.Options{})
			version := create(t, there, idOf(1), recordOf("", ""))
			w.tells(t, "an Update", idOf(1), func() { update(t, there, idOf(1), version, recordOf("", "")) })
			w.noErrors(t)
		})
	}
}

func TestChangesTellsAgainAfterRedisWasSilent(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	w := startWatching(t, redisstore.New(connectTo(t, server.Addr), redisstore.Options{}))
	w.tells(t, "the silence", sessions.ID{}, func() {
		lost := listeners(t, server)[0]
		server.Pause()
		zero := w.told(sessions.ID{})
		eventually(t, "Changes does not tell that it may miss some while Redis is silent", func() bool { return w.told(sessions.ID{}) > zero })
		server.Continue()
		eventually(t, "the silent connection still listens", func() bool {
			now := listeners(t, server)
			return len(now) == 1 && now[0] != lost
		})
	})
	there := redisstore.New(connectTo(t, server.Addr), redisstore.Options{})
	version := create(t, there, idOf(1), recordOf("", ""))
	w.tells(t, "an Update", idOf(1), func() { update(t, there, idOf(1), version, recordOf("", "")) })
	w.noErrors(t)
}

func TestChangesWaitsForARedisThatIsDown(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	store := redisstore.New(connectTo(t, server.Addr), redisstore.Options{})
	server.Kill()
	w := watching(t, store)
	w.waits(t, "what it may miss meanwhile", 0, sessions.ID{})
	server.Restart()
	eventually(t, "no connection listens", func() bool { return len(listeners(t, server)) == 1 })
	w.tellsOrMissed(t, "an Update", idOf(1), func() {
		update(t, store, idOf(1), create(t, store, idOf(1), recordOf("", "")), recordOf("", ""))
	})
	w.noErrors(t)
}

func TestChangesLosesNothingWhileItsCallerIsSlow(t *testing.T) {
	const n = 70_000 // more than may wait
	addr := testserver.Redis(t).Addr
	store := redisstore.New(connectTo(t, addr), redisstore.Options{})
	client := connectTo(t, addr)
	seen, begun := make(map[sessions.ID]bool), false
	last := idOf(n)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for id, err := range store.Changes(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if !begun {
			begun = true
			for from := 0; from < n; from += 1000 {
				set := client.B().Mset().KeyValue()
				for i := from; i < from+1000; i++ {
					id := idOf(i)
					set = set.KeyValue("session:"+string(id[:]), "")
				}
				if err := client.Do(t.Context(), set.Build()).Error(); err != nil {
					t.Fatal(err)
				}
			}
			if err := client.Do(t.Context(), client.B().Set().Key("session:"+string(last[:])).Value("").Build()).Error(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if id == (sessions.ID{}) {
			return
		}
		if seen[id] = true; len(seen) == n+1 {
			return
		}
	}
	t.Errorf("Changes yields %d of %d ids, and not that it missed any", len(seen), n+1)
}

func TestChangesLeavesNothingBehind(t *testing.T) {
	server := testserver.Redis(t)
	// One connection for all operations, so that these open no others.
	client := connect(t, rueidis.ClientOption{InitAddress: []string{server.Addr}, PipelineMultiplex: -1})
	store := redisstore.New(client, redisstore.Options{})
	loads(t, "before", store, idOf(1), 0)
	before, goroutines := connections(t, server), runtime.NumGoroutine()
	run := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			const times = 5 // other tests may have left a few goroutines that come later
			for range times {
				f(t)
			}
			eventually(t, "a connection is left", func() bool { return connections(t, server) <= before })
			eventually(t, "a goroutine is left each time", func() bool { return runtime.NumGoroutine() < goroutines+times })
		})
	}
	run("when the context ends", func(t *testing.T) {
		w := startWatching(t, store)
		if got := len(listeners(t, server)); got != 1 {
			t.Errorf("%d connections listen, want 1", got)
		}
		w.stop()
		w.noErrors(t)
	})
	run("when the caller breaks off", func(t *testing.T) {
		for range store.Changes(t.Context()) {
			break
		}
	})
	run("when the caller panics", func(t *testing.T) {
		func() {
			defer func() { _ = recover() }()
			for range store.Changes(t.Context()) {
				panic("in the loop")
			}
		}()
	})
	run("when the context ended before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for id, err := range store.Changes(ctx) {
			t.Errorf("Changes yields %v, %v", id, err)
		}
	})
	run("when Redis does not answer", func(t *testing.T) {
		w := startWatching(t, store)
		server.Pause()
		w.stop()
		server.Continue()
	})
	run("when two of three end", func(t *testing.T) {
		w := startWatching(t, store)
		startWatching(t, store).stop()
		startWatching(t, store).stop()
		eventually(t, "not one connection listens", func() bool { return len(listeners(t, server)) == 1 })
		create(t, store, idOf(1), recordOf("", ""))
		w.tells(t, "a Delete", idOf(1), func() { deletes(t, store, idOf(1), 0) })
		w.stop()
	})
}

func TestChangesEndsWithAnErrorWhereRedisCannotTell(t *testing.T) {
	server := testserver.Redis(t)
	ask(t, server, "ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-client|tracking")
	for _, tt := range []struct {
		name string
		opt  rueidis.ClientOption
		word string
	}{
		{"to a client with RESP2", rueidis.ClientOption{AlwaysRESP2: true, DisableCache: true}, "AlwaysRESP2"},
		{"to a user without the right", rueidis.ClientOption{Username: "app", Password: "pw", DisableCache: true}, "+client|tracking"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.opt.InitAddress = []string{server.Addr}
			client := connect(t, tt.opt)
			store := redisstore.New(client, redisstore.Options{})
			loads(t, "before", store, idOf(1), 0)
			before := connections(t, server)
			pairs := 0
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			for id, err := range store.Changes(ctx) {
				if pairs++; !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), tt.word) || id != (sessions.ID{}) {
					t.Errorf("Changes yields %v, %v, want errors.ErrUnsupported that names %s", id, err, tt.word)
				}
			}
			if pairs != 1 {
				t.Errorf("Changes yields %d pairs, want 1", pairs)
			}
			eventually(t, "a connection is left", func() bool { return connections(t, server) <= before })
			loads(t, "after", store, idOf(1), 0)
		})
	}
}

// A server without HELLO, such as an old proxy, has RESP2 only.
func TestChangesEndsWithAnErrorOverAServerWithoutHELLO(t *testing.T) {
	server := testserver.Redis(t, "--rename-command", "HELLO", "")
	store := redisstore.New(connect(t, rueidis.ClientOption{InitAddress: []string{server.Addr}, DisableCache: true}), redisstore.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var last error
	for _, err := range store.Changes(ctx) {
		last = err
	}
	if !errors.Is(last, errors.ErrUnsupported) {
		t.Errorf("Changes ends with %v, want errors.ErrUnsupported", last)
	}
}
