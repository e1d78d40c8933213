package main

import (
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/internal/txn"
	"github.com/typedsessions/sessions/stores/redisstore"
)

// The tests of this file compare the simulation with the library. Where times matter
// they run in a bubble of testing/synctest, whose clock waits for nobody: the figures
// do not depend on the machine.

// The entropy source of FIPS 140-3 cannot start in such a bubble. What it has made
// before stays in a pool until the garbage collector has run twice.
func init() {
	if fips140.Enforced() {
		sessions.NewSecret()
		debug.SetGCPercent(-1)
		debug.SetMemoryLimit(1 << 30)
	}
}

type appSession struct {
	User  string `msgpack:"user"`
	Count int    `msgpack:"count"`
}

func newManager(tb testing.TB, config sessions.Config[appSession]) *sessions.Manager[appSession] {
	tb.Helper()
	if config.Keys == nil {
		config.Keys = newKeys(tb)
	}
	config.Logger = slog.New(slog.DiscardHandler)
	mgr, err := sessions.New(config)
	if err != nil {
		tb.Fatal(err)
	}
	return mgr
}

func newKeys(tb testing.TB) *sessions.Keyring {
	tb.Helper()
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

// application does what the path of a request says.
func application(mgr *sessions.Manager[appSession], check func()) http.Handler {
	return mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[appSession](r.Context())
		switch r.URL.Path {
		case "/login":
			check()
			sess.RegenerateID()
			sess.Data = appSession{User: r.URL.Query().Get("user")}
		case "/add":
			sess.Update(func(s *appSession) { s.Count++ })
		}
		fmt.Fprint(w, sess.Data.User)
	}))
}

// visit calls a handler with the cookie, and returns the answer and the cookie that
// the browser has now.
func visit(h http.Handler, path string, cookie *http.Cookie) (*httptest.ResponseRecorder, *http.Cookie) {
	r, w := httptest.NewRequest("GET", "https://shop.example"+path, nil), httptest.NewRecorder()
	if cookie != nil {
		r.AddCookie(cookie)
	}
	h.ServeHTTP(w, r)
	if set := w.Result().Cookies(); len(set) > 0 {
		cookie = set[0]
	}
	return w, cookie
}

// A distantStore is a Store in a server that has one thread, behind a network. It
// counts conflicts.
type distantStore struct {
	sessions.MemoryStore
	trip, took time.Duration
	thread     chan struct{} // of length 1, since a mutex would stop the clock of the bubble
	conflicts  atomic.Int64
}

func newDistantStore(h hotUser) *distantStore {
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	return &distantStore{trip: seconds(h.trip), took: seconds(h.redis), thread: make(chan struct{}, 1)}
}

func (d *distantStore) ask(do func()) {
	time.Sleep(d.trip / 2)
	d.thread <- struct{}{}
	time.Sleep(d.took)
	do()
	<-d.thread
	time.Sleep(d.trip / 2)
}

func (d *distantStore) Load(ctx context.Context, id sessions.ID) (rec sessions.Record, err error) {
	d.ask(func() { rec, err = d.MemoryStore.Load(ctx, id) })
	return rec, err
}

func (d *distantStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (version uint64, err error) {
	d.ask(func() { version, err = d.MemoryStore.Update(ctx, id, rec) })
	if errors.Is(err, sessions.ErrConflict) {
		d.conflicts.Add(1)
	}
	return version, err
}

func TestTheConstantsAreThoseOfTheLibrary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for try := range 12 {
			const n = 400
			var sum, most float64
			for range n {
				began := time.Now()
				if err := txn.BackOff(t.Context(), try, began); err != nil {
					t.Fatal(err)
				}
				took := time.Since(began).Seconds()
				sum, most = sum+took, max(most, took)
			}
			near(t, fmt.Sprint("the mean pause before try ", try), sum/n, meanPause(try), 0.15)
			near(t, fmt.Sprint("the longest pause before try ", try), most, mostPause(try), 0.1)
		}
		if got := txn.Timeout.Seconds(); got != commitTime {
			t.Errorf("a commit has %v s, the simulation takes %v", got, commitTime)
		}
	})
}

func TestAHotUserOfTheLibraryHasTheConflictsOfTheSimulation(t *testing.T) {
	for _, tt := range []struct{ requests, processes int }{{64, 1}, {64, 2}, {200, 4}} {
		h := exampleHot
		h.requests, h.processes, h.work = tt.requests, tt.processes, 0 // the clock of a bubble stands still while the library works
		runs := 800 / h.requests
		var got, took, want, wantTook float64
		for run := range runs {
			keys := newKeys(t)
			synctest.Test(t, func(t *testing.T) {
				store := newDistantStore(h)
				apps := make([]http.Handler, h.processes)
				for i := range apps {
					apps[i] = application(newManager(t, sessions.Config[appSession]{Keys: keys, Store: store}), func() {})
				}
				_, cookie := visit(apps[0], "/login?user=ada", nil)
				began := time.Now()
				var wg sync.WaitGroup
				for i := range h.requests {
					wg.Go(func() {
						if w, _ := visit(apps[i%h.processes], "/add", cookie); w.Code != http.StatusOK {
							t.Errorf("status %d", w.Code)
						}
					})
				}
				wg.Wait()
				took += time.Since(began).Seconds()
				got += float64(store.conflicts.Load())
			})
			simulated := h.simulate(uint64(run))
			want, wantTook = want+float64(simulated.conflicts), wantTook+simulated.end
		}
		what := fmt.Sprintf(" of %d requests to %d processes", h.requests, h.processes)
		near(t, "failed compare-and-sets"+what, got/float64(runs), want/float64(runs), 0.15)
		near(t, "the time"+what, took/float64(runs), wantTook/float64(runs), 0.15)
	}
}

func TestARushOfLoginsOfTheLibraryIsThatOfTheSimulation(t *testing.T) {
	r := loginRush{users: 1000, back: 60, hash: 0.2, servers: 2}
	keys := newKeys(t)
	synctest.Test(t, func(t *testing.T) {
		store := new(sessions.MemoryStore)
		cpus := make(chan struct{}, r.servers)
		var waiting, queue atomic.Int64
		var mu sync.Mutex
		var longest time.Duration
		check := func() {
			began := time.Now()
			n := waiting.Add(1)
			cpus <- struct{}{}
			waiting.Add(-1)
			mu.Lock()
			longest = max(longest, time.Since(began))
			mu.Unlock()
			queue.Store(max(queue.Load(), n-1))
			time.Sleep(time.Duration(r.hash * float64(time.Second)))
			<-cpus
		}
		owner := func(s *appSession) string { return s.User }
		before := application(newManager(t, sessions.Config[appSession]{Keys: keys, Store: new(sessions.MemoryStore), Owner: owner}), func() {})
		after := application(newManager(t, sessions.Config[appSession]{Keys: keys, Store: store, Owner: owner}), check)
		random := rand.New(rand.NewPCG(1, 1))
		var wg sync.WaitGroup
		for i := range r.users {
			login := "/login?user=" + strconv.Itoa(i)
			_, cookie := visit(before, login, nil)
			back := time.Duration(random.ExpFloat64() * r.back * float64(time.Second))
			wg.Go(func() {
				time.Sleep(back)
				w, cookie := visit(after, "/", cookie)
				if w.Body.String() != "" {
					t.Error("a lost session is still there")
				}
				_, cookie = visit(after, login, cookie)
				if w, _ := visit(after, "/", cookie); w.Body.String() != strconv.Itoa(i) {
					t.Errorf("user %d is signed in as %q", i, w.Body)
				}
			})
		}
		wg.Wait()
		if store.Len() != r.users {
			t.Errorf("%d sessions of %d users", store.Len(), r.users)
		}
		want := r.simulate(1)
		near(t, "the longest queue", float64(queue.Load()), float64(want.queue), 0.15)
		near(t, "the longest wait", longest.Seconds(), want.wait, 0.15)
	})
}

func TestAFloodOfTheLibraryLeavesWhatLittlesLawSays(t *testing.T) {
	f := flood{rate: 10, keeps: 0.5, lifetime: 600, time: 1800}
	keys := newKeys(t)
	synctest.Test(t, func(t *testing.T) {
		store := new(sessions.MemoryStore)
		app := application(newManager(t, sessions.Config[appSession]{
			Keys: keys, Store: store, AnonymousLifetime: time.Duration(f.lifetime) * time.Second,
			Owner: func(*appSession) string { return "" },
		}), func() {})
		random := rand.New(rand.NewPCG(1, 1))
		var sum, counted float64
		for began := time.Now(); time.Since(began).Seconds() < f.time; {
			time.Sleep(time.Duration(random.ExpFloat64() / f.rate * float64(time.Second)))
			path := "/"
			if random.Float64() < f.keeps {
				path = "/add"
			}
			w, _ := visit(app, path, nil)
			if cookies := len(w.Result().Cookies()); path == "/" && cookies > 0 {
				t.Fatal("a visitor who only looked got a cookie")
			}
			if time.Since(began).Seconds() > 1.5*f.lifetime {
				sum, counted = sum+float64(store.Len()), counted+1
			}
		}
		live, _ := f.formula()
		// Records that are expired stay until their part of the store is used again.
		near(t, "live sessions", sum/counted, live, 0.1)
	})
}

func TestAUserCausesTheTouchesOfTheFormula(t *testing.T) {
	keys := newKeys(t)
	synctest.Test(t, func(t *testing.T) {
		const between, day = 10.0, 24 * 3600.0
		store := &touchedStore{}
		app := application(newManager(t, sessions.Config[appSession]{
			Keys: keys, Store: store, IdleTimeout: time.Hour, Lifetime: 48 * time.Hour,
		}), func() {})
		_, cookie := visit(app, "/login?user=ada", nil)
		random := rand.New(rand.NewPCG(1, 1))
		for began := time.Now(); time.Since(began).Seconds() < day; {
			time.Sleep(time.Duration(random.ExpFloat64() * between * float64(time.Second)))
			if w, _ := visit(app, "/", cookie); w.Body.String() != "ada" {
				t.Fatal("the session is gone")
			}
		}
		near(t, "Touches in a day", float64(store.touched), day*touches(1/between, 3600), 0.05)
	})
}

type touchedStore struct {
	sessions.MemoryStore
	touched int
}

func (s *touchedStore) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	s.touched++
	return s.MemoryStore.Touch(ctx, id, expires)
}

// A countedStore counts conflicts.
type countedStore struct {
	*redisstore.Store
	conflicts *atomic.Int64
}

func (s countedStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	version, err := s.Store.Update(ctx, id, rec)
	if errors.Is(err, sessions.ErrConflict) {
		s.conflicts.Add(1)
	}
	return version, err
}

func connect(tb testing.TB, addr string) rueidis.Client {
	tb.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableRetry: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return client
}

// info returns a number of Redis's INFO.
func info(tb testing.TB, client rueidis.Client, section, name string) int {
	tb.Helper()
	text, err := client.Do(tb.Context(), client.B().Info().Section(section).Build()).ToString()
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name); ok {
			value, _, _ = strings.Cut(strings.TrimSpace(value), ",")
			n, err := strconv.Atoi(value)
			if err != nil {
				tb.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// commands returns how many of the commands of redisstore were sent.
func commands(tb testing.TB, client rueidis.Client) map[string]int {
	got := make(map[string]int)
	for _, name := range []string{"get", "set", "evalsha"} {
		got[name] = info(tb, client, "commandstats", "cmdstat_"+name+":calls=")
	}
	return got
}

func get(tb testing.TB, url string, cookie *http.Cookie) (body string, set *http.Cookie) {
	tb.Helper()
	r, err := http.NewRequestWithContext(tb.Context(), "GET", url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if cookie != nil {
		r.AddCookie(cookie)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		tb.Error(err)
		return "", cookie
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		tb.Errorf("%s: %s, %v", url, answer.Status, err)
	}
	if cookies := answer.Cookies(); len(cookies) > 0 {
		cookie = cookies[0]
	}
	return string(text), cookie
}

// However many conflicts there are, each costs one compare-and-set more, and one load
// at most, as in the simulation.
func TestAConflictInRedisCostsAtMostALoadAndACompareAndSet(t *testing.T) {
	addr := testserver.Redis(t).Addr
	keys, client := newKeys(t), connect(t, addr)
	var conflicts atomic.Int64
	var sites []string
	for range 2 {
		store := countedStore{redisstore.New(connect(t, addr), redisstore.Options{}), &conflicts}
		site := httptest.NewServer(application(newManager(t, sessions.Config[appSession]{Keys: keys, Store: store}), func() {}))
		t.Cleanup(site.Close)
		sites = append(sites, site.URL)
	}
	_, cookie := get(t, sites[0]+"/add", nil)
	for _, site := range sites {
		get(t, site+"/add", cookie) // loads the script
	}
	const n = 40
	before := commands(t, client)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { get(t, sites[i%2]+"/add", cookie) })
	}
	wg.Wait()
	after := commands(t, client)
	want := n + int(conflicts.Load())
	if got := after["get"] - before["get"]; got < n || got > want {
		t.Errorf("%d requests with %d conflicts loaded %d times, want at most %d", n, want-n, got, want)
	}
	if got := after["evalsha"] - before["evalsha"]; got != want {
		t.Errorf("%d requests with %d conflicts tried to store %d times, want %d", n, want-n, got, want)
	}
	t.Logf("%d failed for %d that succeeded", want-n, n)
}

// After a Redis without persistence has come back empty, each user costs a load that
// finds nothing, and then a login: a load, the index of the owner, and the record.
func TestAUserWhoseSessionIsLostCostsFourCommands(t *testing.T) {
	addr := testserver.Redis(t).Addr
	client := connect(t, addr)
	site := httptest.NewServer(application(newManager(t, sessions.Config[appSession]{
		Store: redisstore.New(client, redisstore.Options{}), Owner: func(s *appSession) string { return s.User },
	}), func() {}))
	t.Cleanup(site.Close)
	const users = 50
	var cookies [users]*http.Cookie
	for i := range users {
		_, cookies[i] = get(t, fmt.Sprintf("%s/login?user=%d", site.URL, i), nil)
	}
	if err := client.Do(t.Context(), client.B().Flushall().Build()).Error(); err != nil {
		t.Fatal(err)
	}
	before := commands(t, client)
	for i, cookie := range cookies {
		if got, _ := get(t, site.URL+"/", cookie); got != "" {
			t.Errorf("user %d is still signed in as %q", i, got)
		}
		get(t, fmt.Sprintf("%s/login?user=%d", site.URL, i), cookie)
	}
	after := commands(t, client)
	for name, each := range map[string]int{"get": 2, "set": 1, "evalsha": 1} {
		if got := after[name] - before[name]; got != each*users {
			t.Errorf("%s: got %d for %d users, want %d", name, got, users, each*users)
		}
	}
}

// The bytes of the table are measured with 50,000 sessions and more engines by
// go test ./benchmarks/scale.
func TestSessionsTakeTheBytesOfTheTable(t *testing.T) {
	client := connect(t, testserver.Redis(t).Addr)
	for _, tt := range []struct {
		engine engine
		store  func() sessions.Store
		held   func() int
	}{
		{memory, func() sessions.Store { return new(sessions.MemoryStore) }, func() int {
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int(m.HeapAlloc)
		}},
		{redis, func() sessions.Store { return redisstore.New(client, redisstore.Options{}) }, func() int {
			return info(t, client, "memory", "used_memory:") - info(t, client, "memory", "mem_clients_normal:")
		}},
	} {
		for _, owned := range []bool{false, true} {
			want, n := tt.engine.anonymous, 8_000
			if owned {
				want = tt.engine.owner
			}
			store := tt.store()
			create := func(first, n int) {
				var wg sync.WaitGroup
				for worker := range 16 {
					wg.Go(func() {
						for i := first + worker; i < first+n; i += 16 {
							id := sessions.ID{byte(i), byte(i >> 8), byte(i >> 16), byte(len(tt.engine.name)), 1}
							rec := sessions.Record{Data: make([]byte, 200), Expires: time.Now().Add(time.Hour)}
							if owned {
								id[5] = 1
								rec.Owner = fmt.Sprint("user ", 1_000_000+i)
							}
							if _, err := store.Create(t.Context(), id, rec); err != nil {
								t.Errorf("Create: %v", err)
								return
							}
						}
					})
				}
				wg.Wait()
			}
			create(1<<20, 32) // opens connections and loads scripts
			before := tt.held()
			create(0, n)
			near(t, fmt.Sprint("the bytes of a session in ", tt.engine.name, ", with an owner: ", owned), float64(tt.held()-before)/float64(n), want, 0.15)
			runtime.KeepAlive(store)
		}
	}
}

// The cookie is that of a session with as much data as the others of the document.
func TestACookieWithASessionHasTheBytesOfTheTable(t *testing.T) {
	app := application(newManager(t, sessions.Config[appSession]{}), func() {})
	w, _ := visit(app, "/login?user="+strings.Repeat("a", 139), nil)
	near(t, "Set-Cookie", float64(len("Set-Cookie: \r\n")+len(w.Header().Get("Set-Cookie"))), cookieBytes, 0.1)
}
