package memcachestore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/memcachestore"
	"github.com/typedsessions/sessions/stores/storetest"
)

// The suite stores records of 1 MiB, which do not fit into memcached's default
// item size.
var largeItems = []string{"-I", "2m"}

func newClient(t testing.TB, addr string) *memcache.Client {
	c := memcache.New(addr)
	c.MaxIdleConns = 100
	c.Timeout = 10 * time.Second // long, for a busy machine
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// opener returns a function that opens empty stores, each with its own prefix.
func opener() func(t testing.TB, addr string) sessions.Store {
	var n atomic.Int64
	return func(t testing.TB, addr string) sessions.Store {
		return memcachestore.New(newClient(t, addr), fmt.Sprintf("%d:", n.Add(1)))
	}
}

func TestStoreKeepsItsPromises(t *testing.T) {
	server, open := testserver.Memcached(t, largeItems...), opener()
	storetest.Run(t, func(t testing.TB) sessions.Store { return open(t, server.Addr) })
}

func TestStoreKeepsItsPromisesWhenConnectionsBreak(t *testing.T) {
	server := testserver.Memcached(t, largeItems...)
	storetest.RunCut(t, server.Addr, opener())
}

func TestStoreKeepsItsPromisesToTwoProcesses(t *testing.T) {
	where, child := os.LookupEnv("STORETEST_WHERE")
	if !child {
		where = testserver.Memcached(t, largeItems...).Addr
	}
	storetest.RunProcesses(t, where, func(t testing.TB, addr string) sessions.Store {
		return memcachestore.New(newClient(t, addr), "")
	})
}

func TestApplicationGoesOnAfterMemcachedWasKilled(t *testing.T) {
	server, open := testserver.Memcached(t), opener()
	storetest.RunCrash(t, server, false, func(t testing.TB) sessions.Store { return open(t, server.Addr) })
}

// ask sends a command to memcached and returns the lines of the answer, up to
// the first one that begins with last.
func ask(t testing.TB, addr, command, last string) []string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for in := bufio.NewScanner(c); in.Scan(); {
		lines = append(lines, in.Text())
		if strings.HasPrefix(in.Text(), last) {
			return lines
		}
	}
	t.Fatalf("%s: got %q, want a line that begins with %q", command, lines, last)
	return nil
}

// stats returns the numbers of memcached's command stats.
func stats(t testing.TB, addr string) map[string]int {
	t.Helper()
	numbers := map[string]int{}
	for _, line := range ask(t, addr, "stats", "END") {
		if f := strings.Fields(line); len(f) == 3 {
			if n, err := strconv.Atoi(f[2]); err == nil {
				numbers[f[1]] = n
			}
		}
	}
	return numbers
}

// commands returns the number of commands on items that memcached has executed.
func commands(t testing.TB, addr string) int {
	s := stats(t, addr)
	return s["cmd_get"] + s["cmd_set"] + s["cmd_touch"] + s["delete_hits"] + s["delete_misses"]
}

func recordFor(d time.Duration, data string) sessions.Record {
	return sessions.Record{Data: []byte(data), Expires: time.Now().Add(d)}
}

func TestOperationsCostTheCommandsThatTheDocsSay(t *testing.T) {
	server := testserver.Memcached(t)
	client := newClient(t, server.Addr)
	store := memcachestore.New(client, "shop:")
	ctx := t.Context()
	rec := recordFor(time.Hour, "data")
	for i, tt := range []struct {
		operation string
		want      int
		prepare   time.Duration // time left of a record created before; 0: none
		do        func(id sessions.ID, version uint64) error
	}{
		{"Load", 1, time.Hour, func(id sessions.ID, _ uint64) error { _, err := store.Load(ctx, id); return err }},
		{"Create", 1, 0, func(id sessions.ID, _ uint64) error { _, err := store.Create(ctx, id, rec); return err }},
		{"Create over an expired record", 3, -time.Second, func(id sessions.ID, _ uint64) error { _, err := store.Create(ctx, id, rec); return err }},
		{"Update", 2, time.Hour, func(id sessions.ID, version uint64) error {
			rec := rec
			rec.Version = version
			_, err := store.Update(ctx, id, rec)
			return err
		}},
		{"Touch", 2, time.Hour, func(id sessions.ID, _ uint64) error { return store.Touch(ctx, id, time.Now().Add(2*time.Hour)) }},
		{"Touch that changes nothing", 1, time.Hour, func(id sessions.ID, _ uint64) error { return store.Touch(ctx, id, time.Now()) }},
		{"Delete", 1, time.Hour, func(id sessions.ID, _ uint64) error { return store.Delete(ctx, id, 0) }},
		{"Delete at a version", 2, time.Hour, func(id sessions.ID, version uint64) error { return store.Delete(ctx, id, version) }},
	} {
		id := sessions.ID{byte(i)}
		version := uint64(7)
		if tt.prepare != 0 {
			// Without an expiry memcached does not remove an expired record.
			prepared := recordFor(tt.prepare, "data")
			prepared.Version = version
			if err := client.Set(&memcache.Item{Key: "shop:" + id.String(), Value: memcachestore.Encode(prepared)}); err != nil {
				t.Fatal(err)
			}
		}
		before := commands(t, server.Addr)
		if err := tt.do(id, version); err != nil {
			t.Errorf("%s: %v", tt.operation, err)
		}
		if got := commands(t, server.Addr) - before; got != tt.want {
			t.Errorf("%s: got %d commands, want %d", tt.operation, got, tt.want)
		}
	}
}

func TestRequestsCostTheCommandsThatTheREADMESays(t *testing.T) {
	type visits struct{ N int }
	server := testserver.Memcached(t)
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	mgr, err := sessions.New(sessions.Config[visits]{Keys: keys, Store: memcachestore.New(newClient(t, server.Addr), "shop:")})
	if err != nil {
		t.Fatal(err)
	}
	var cookie *http.Cookie
	request := func(do func(*sessions.Session[visits])) {
		t.Helper()
		r, w := httptest.NewRequest("GET", "https://example.com/", nil), httptest.NewRecorder()
		if cookie != nil {
			r.AddCookie(cookie)
		}
		mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			do(sessions.Get[visits](r.Context()))
		})).ServeHTTP(w, r)
		for _, c := range w.Result().Cookies() {
			cookie = c
		}
		if w.Code != http.StatusOK {
			t.Errorf("got status %d", w.Code)
		}
	}
	for _, tt := range []struct {
		name string
		want int
		do   func(*sessions.Session[visits])
	}{
		{"begins a session", 1, func(s *sessions.Session[visits]) { s.Data.N = 1 }},
		{"reads it", 1, func(s *sessions.Session[visits]) { _ = s.Data.N }},
		{"leaves it unchanged", 1, func(s *sessions.Session[visits]) { s.Data.N = 1 }},
		{"changes it", 3, func(s *sessions.Session[visits]) { s.Data.N = 2 }},
		{"gives it a new id", 4, func(s *sessions.Session[visits]) { s.RegenerateID() }},
		{"ends it", 3, func(s *sessions.Session[visits]) { s.Destroy() }},
	} {
		before := commands(t, server.Addr)
		request(tt.do)
		if got := commands(t, server.Addr) - before; got != tt.want {
			t.Errorf("a request that %s: got %d commands, want %d", tt.name, got, tt.want)
		}
	}
	request(func(s *sessions.Session[visits]) { s.Data.N = 1 })
	cookie.Value = cookie.Value[:len(cookie.Value)-6] + "AAAAAA"
	before := commands(t, server.Addr)
	request(func(s *sessions.Session[visits]) { _ = s.Data.N })
	if got := commands(t, server.Addr) - before; got != 0 {
		t.Errorf("a request with a forged cookie: got %d commands, want none", got)
	}
}

func TestMemcachedKeepsARecordUntilItsExpiryAtLeast(t *testing.T) {
	server := testserver.Memcached(t)
	store := memcachestore.New(newClient(t, server.Addr), "shop:")
	day := 24 * time.Hour
	for i, tt := range []struct {
		name  string
		d     time.Duration
		never bool
	}{
		{"a second", time.Second, false},
		{"a second and a bit", 1001 * time.Millisecond, false},
		{"nearly 30 days", 30*day - time.Second, false},
		{"30 days", 30 * day, false},
		{"a bit more than 30 days", 30*day + time.Second, false},
		{"a year", 365 * day, false},
		{"as long as the client can say", time.Until(time.Unix(1<<31-3, 0)), false},
		{"longer", time.Until(time.Unix(1<<31+1, 0)), true},
		{"a hundred years", 36525 * day, true},
	} {
		id := sessions.ID{byte(i)}
		rec := recordFor(tt.d, "data")
		if _, err := store.Create(t.Context(), id, rec); err != nil {
			t.Fatal(err)
		}
		// "HD t123" means that the item expires in 123 seconds, "HD t-1" never.
		answer := ask(t, server.Addr, "mg shop:"+id.String()+" t", "HD ")[0]
		left, err := strconv.Atoi(strings.TrimPrefix(answer, "HD t"))
		need := int(time.Until(rec.Expires) / time.Second)
		switch {
		case err != nil:
			t.Errorf("%s: memcached answers %q", tt.name, answer)
		case tt.never && left != -1:
			t.Errorf("%s: memcached keeps it for %d s, want forever", tt.name, left)
		case !tt.never && (left < need || left > need+10):
			t.Errorf("%s: memcached keeps it for %d s, want %d or a little more", tt.name, left, need)
		}
		if err := store.Touch(t.Context(), id, rec.Expires.Add(time.Second)); err != nil {
			t.Errorf("%s: Touch: %v", tt.name, err)
		}
		if _, err := store.Load(t.Context(), id); err != nil && tt.d > time.Minute {
			t.Errorf("%s: Load after Touch: %v", tt.name, err)
		}
	}
}

// memcached counts the seconds from the last tick of its clock, which was up to
// a second ago.
func TestRelativeExpiryAllowsForTheTickOfMemcachedsClock(t *testing.T) {
	now := time.Unix(2_000_000_000, 0)
	for _, fraction := range []time.Duration{0, 1, 500, 999} {
		now := now.Add(fraction * time.Millisecond)
		for _, left := range []time.Duration{1, 999, 1000, 1001, 1999, 2000, 3_600_500} {
			left *= time.Millisecond
			got := time.Duration(memcachestore.Exptime(now.Add(left), now)) * time.Second
			if surely := got - time.Second; surely < left || surely > left+2*time.Second {
				t.Errorf("for %v from %v on: memcached keeps it for at least %v, want at most 2 s more", left, now, surely)
			}
		}
	}
	if got := memcachestore.Exptime(time.Time{}, now); got != 1 {
		t.Errorf("for an expired record: got %d, want 1, since 0 means never", got)
	}
}

func TestADeletionLeavesNothingInMemcached(t *testing.T) {
	server := testserver.Memcached(t)
	store := memcachestore.New(newClient(t, server.Addr), "shop:")
	var id sessions.ID
	version, err := store.Create(t.Context(), id, recordFor(time.Hour, "data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), id, version); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		if ask(t, server.Addr, "mg shop:"+id.String()+" t", "")[0] == "EN" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the key still exists after a minute")
		}
	}
}

func TestAnItemThatIsTooLargeIsRefusedAndTheOldOneStays(t *testing.T) {
	server := testserver.Memcached(t) // default item size, 1 MiB
	store := memcachestore.New(newClient(t, server.Addr), "shop:")
	var id sessions.ID
	large := recordFor(time.Hour, strings.Repeat("x", 1<<20))
	if _, err := store.Create(t.Context(), id, large); !errors.Is(err, sessions.ErrTooLarge) {
		t.Errorf("Create: got %v, want ErrTooLarge", err)
	}
	version, err := store.Create(t.Context(), id, recordFor(time.Hour, "old"))
	if err != nil {
		t.Fatal(err)
	}
	large.Version = version
	if _, err = store.Update(t.Context(), id, large); !errors.Is(err, sessions.ErrTooLarge) {
		t.Errorf("Update: got %v, want ErrTooLarge", err)
	} else if !strings.Contains(err.Error(), "-I") {
		t.Errorf("the error does not name the option to set: %v", err)
	}
	rec, err := store.Load(t.Context(), id)
	if err != nil || string(rec.Data) != "old" || rec.Version != version {
		t.Errorf("after the refusal: got %q at version %d, %v, want the old record", rec.Data, rec.Version, err)
	}
}

// serve starts a server whose answer to each command is answer's. Its arguments
// are the words of the command and the value after it, if it has one.
func serve(t *testing.T, answer func(words []string, value []byte) string) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		conns.Wait()
	})
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { // ends when the client closes its connection
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					line, err := in.ReadString('\n')
					words := strings.Fields(line)
					if err != nil || len(words) < 2 {
						return
					}
					var value []byte
					if len(words) > 4 { // <command> <key> <flags> <expiry> <bytes>
						n, _ := strconv.Atoi(words[4])
						value = make([]byte, n+len("\r\n"))
						if _, err := io.ReadFull(in, value); err != nil {
							return
						}
						value = value[:n]
					}
					if _, err := io.WriteString(c, answer(words, value)); err != nil {
						return
					}
				}
			})
		}
	})
	return l.Addr().String()
}

// A proxy can read from one server and write to another.
func TestAnOperationEndsWhenReadsAndWritesDisagree(t *testing.T) {
	var value atomic.Value // what the reads find; nil: nothing
	addr := serve(t, func(words []string, v []byte) string {
		switch words[0] {
		case "add":
			if value.CompareAndSwap(nil, v) {
				return "STORED\r\n"
			}
			return "NOT_STORED\r\n"
		case "cas":
			return "EXISTS\r\n"
		}
		if words[1] != (sessions.ID{}).String() {
			return "END\r\n"
		}
		found := value.Load().([]byte)
		return fmt.Sprintf("VALUE %s 0 %d 7\r\n%s\r\nEND\r\n", words[1], len(found), found)
	})
	store := memcachestore.New(newClient(t, addr), "")
	version, err := store.Create(t.Context(), sessions.ID{}, recordFor(time.Hour, "data"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Create", "Update", "Touch", "Delete at a version"} {
		if err := operations[name](context.Background(), store, sessions.ID{}, version); err == nil || !strings.Contains(err.Error(), "proxy") {
			t.Errorf("%s: got %v, want an error that names the likely cause", name, err)
		}
	}
}

func TestTheRestOfALateAnswerIsNotTakenForTheNext(t *testing.T) {
	late, next := sessions.ID{1}, sessions.ID{2}
	answerTo := func(id string) string {
		value := memcachestore.Encode(recordFor(time.Hour, "data of "+id))
		return fmt.Sprintf("VALUE %s 0 %d 1\r\n%s\r\nEND\r\n", id, len(value), value)
	}
	whole := len(answerTo(late.String()))
	for _, sent := range []int{0, 10, whole - 50, whole - len("END\r\n"), whole - 1} {
		addr := serve(t, func(words []string, _ []byte) string {
			if words[1] == late.String() {
				return answerTo(words[1])[:sent]
			}
			return answerTo(words[1])
		})
		client := newClient(t, addr)
		store := memcachestore.New(client, "")
		client.Timeout = 20 * time.Millisecond
		if _, err := store.Load(t.Context(), late); err == nil || errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("after %d bytes of the answer: got %v, want an error of the network", sent, err)
		}
		client.Timeout = time.Minute
		if rec, err := store.Load(t.Context(), next); err != nil || string(rec.Data) != "data of "+next.String() {
			t.Errorf("after %d bytes of the answer before: got the data %q, %v", sent, rec.Data, err)
		}
	}
}

// A context whose end no goroutine waits for: the operation runs in that of the
// caller.
type polledContext struct {
	context.Context
	ended atomic.Bool
}

func (c *polledContext) Err() error {
	if c.ended.Load() {
		return context.Canceled
	}
	return nil
}

func TestNoWriteIsSentOnceTheContextHasEnded(t *testing.T) {
	const version = 7
	for name, d := range map[string]time.Duration{"Create": -time.Second, "Update": time.Hour, "Touch": time.Hour, "Delete at a version": time.Hour} {
		ctx := &polledContext{Context: context.Background()}
		addr := serve(t, func(words []string, _ []byte) string {
			switch words[0] {
			case "add":
				return "NOT_STORED\r\n"
			case "gets":
				ctx.ended.Store(true)
				rec := recordFor(d, "data")
				rec.Version = version
				value := memcachestore.Encode(rec)
				return fmt.Sprintf("VALUE %s 0 %d 1\r\n%s\r\nEND\r\n", words[1], len(value), value)
			}
			t.Errorf("%s: got the command %s after the context had ended", name, words[0])
			return "STORED\r\n"
		})
		store := memcachestore.New(newClient(t, addr), "")
		if err := operations[name](ctx, store, sessions.ID{}, version); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want the error of the context", name, err)
		}
	}
}

// operations holds all operations of a Store, on the record of an id.
var operations = map[string]func(ctx context.Context, s sessions.Store, id sessions.ID, version uint64) error{
	"Load": func(ctx context.Context, s sessions.Store, id sessions.ID, _ uint64) error {
		_, err := s.Load(ctx, id)
		return err
	},
	"Create": func(ctx context.Context, s sessions.Store, id sessions.ID, _ uint64) error {
		id[0]++
		_, err := s.Create(ctx, id, recordFor(time.Hour, "data"))
		return err
	},
	"Update": func(ctx context.Context, s sessions.Store, id sessions.ID, version uint64) error {
		rec := recordFor(time.Hour, "data")
		rec.Version = version
		_, err := s.Update(ctx, id, rec)
		return err
	},
	"Touch": func(ctx context.Context, s sessions.Store, id sessions.ID, _ uint64) error {
		return s.Touch(ctx, id, time.Now().Add(2*time.Hour))
	},
	"Delete at a version": func(ctx context.Context, s sessions.Store, id sessions.ID, version uint64) error {
		return s.Delete(ctx, id, version)
	},
	"Delete": func(ctx context.Context, s sessions.Store, id sessions.ID, _ uint64) error {
		return s.Delete(ctx, id, 0)
	},
}

func TestOperationsEndWithTheirContextWhileMemcachedHangs(t *testing.T) {
	server := testserver.Memcached(t)
	client := newClient(t, server.Addr)
	client.Timeout = time.Hour
	store := memcachestore.New(client, "")
	var id sessions.ID
	version, err := store.Create(t.Context(), id, recordFor(time.Hour, "data"))
	if err != nil {
		t.Fatal(err)
	}
	server.Pause()
	defer server.Continue()
	for name, operation := range operations {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := operation(ctx, store, id, version); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want the deadline's error", name, err)
		}
		cancel()
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		if err := operation(ctx, store, id, version); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want the error of a canceled context", name, err)
		}
	}
}

func TestWithoutADeadlineTheClientsTimeoutEndsAnOperation(t *testing.T) {
	server := testserver.Memcached(t)
	client := newClient(t, server.Addr)
	client.Timeout = 20 * time.Millisecond
	store := memcachestore.New(client, "")
	server.Pause()
	defer server.Continue()
	for name, operation := range operations {
		err := operation(context.Background(), store, sessions.ID{}, 1)
		if err == nil || errors.Is(err, sessions.ErrNotFound) || !strings.HasPrefix(err.Error(), "memcachestore: ") {
			t.Errorf("%s: got %v, want an error of the network", name, err)
		}
	}
}

func TestAnEvictedSessionIsAbsent(t *testing.T) {
	server := testserver.Memcached(t, "-m", "4")
	store := memcachestore.New(newClient(t, server.Addr), "")
	var victim sessions.ID
	version, err := store.Create(t.Context(), victim, recordFor(time.Hour, strings.Repeat("x", 10_000)))
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; stats(t, server.Addr)["evictions"] == 0; i++ {
		if i == 10_000 {
			t.Fatal("no evictions after 100 MB in a memcached of 4 MiB")
		}
		if _, err := store.Create(t.Context(), sessions.ID{byte(i >> 8), byte(i), 1}, recordFor(time.Hour, strings.Repeat("x", 10_000))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"Load", "Update", "Touch", "Delete at a version"} {
		if err := operations[name](t.Context(), store, victim, version); !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", name, err)
		}
	}
}

func TestAFullMemcachedThatDoesNotEvictRefusesWrites(t *testing.T) {
	server := testserver.Memcached(t, "-m", "4", "-M")
	store := memcachestore.New(newClient(t, server.Addr), "")
	versions := map[sessions.ID]uint64{}
	for i := 0; ; i++ {
		id := sessions.ID{byte(i >> 8), byte(i)}
		version, err := store.Create(t.Context(), id, recordFor(time.Hour, "data"))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "memcachestore: ") || !strings.Contains(err.Error(), "out of memory") {
				t.Errorf("Create: got %v, want the error of memcached", err)
			}
			break
		}
		if versions[id] = version; i == 50_000 {
			t.Fatal("50,000 sessions fit into a memcached of 4 MiB")
		}
	}
	for id, version := range versions {
		for _, name := range []string{"Update", "Touch", "Delete at a version"} {
			if err := operations[name](t.Context(), store, id, version); err == nil || errors.Is(err, sessions.ErrNotFound) || errors.Is(err, sessions.ErrConflict) {
				t.Errorf("%s: got %v, want the error of memcached", name, err)
			}
		}
		if rec, err := store.Load(t.Context(), id); err != nil || rec.Version != version {
			t.Errorf("after the refusal: got %v, %v, want the old record", rec, err)
		}
		if err := store.Delete(t.Context(), id, 0); err != nil {
			t.Errorf("Delete: %v", err)
		}
		break
	}
}

func TestAValueOfSomethingElseIsAnError(t *testing.T) {
	server := testserver.Memcached(t)
	client := newClient(t, server.Addr)
	store := memcachestore.New(client, "shop:")
	var id sessions.ID
	for _, value := range []string{"", "{}", strings.Repeat("\x02", 100), "\x01" + strings.Repeat("\xff", 20)} {
		if err := client.Set(&memcache.Item{Key: "shop:" + id.String(), Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Load", "Update", "Touch", "Delete at a version"} {
			if err := operations[name](t.Context(), store, id, 1); err == nil || errors.Is(err, sessions.ErrNotFound) || errors.Is(err, sessions.ErrConflict) {
				t.Errorf("%s of %q: got %v, want an error about the value", name, value, err)
			}
		}
	}
	if err := store.Delete(t.Context(), id, 0); err != nil {
		t.Errorf("Delete: got %v, want nil: it removes whatever is there", err)
	}
}

func TestStoresOfDifferentPrefixesDoNotMeet(t *testing.T) {
	server := testserver.Memcached(t)
	client := newClient(t, server.Addr)
	longest := strings.Repeat("p", 186)
	for _, prefix := range []string{"", "shop:", "ütf-8:", longest} {
		store := memcachestore.New(client, prefix)
		if _, err := store.Create(t.Context(), sessions.ID{}, recordFor(time.Hour, prefix)); err != nil {
			t.Errorf("prefix %q: %v", prefix, err)
		}
		if rec, err := store.Load(t.Context(), sessions.ID{}); err != nil || string(rec.Data) != prefix {
			t.Errorf("prefix %q: got the data %q, %v", prefix, rec.Data, err)
		}
	}
}

func TestNewPanicsOnAPrefixThatNoKeyMayHave(t *testing.T) {
	for _, prefix := range []string{" ", "a b", "a\n", "\x00", "\x7f", "a\r\nflush_all\r\n", strings.Repeat("p", 187)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("New took the prefix %q", prefix)
				}
			}()
			memcachestore.New(memcache.New("127.0.0.1:1"), prefix)
		}()
	}
}

func TestTheCallersDataMayChangeWhenItsContextHasEnded(t *testing.T) {
	server := testserver.Memcached(t)
	store := memcachestore.New(newClient(t, server.Addr), "")
	data := bytes.Repeat([]byte{1}, 100_000)
	server.Pause()
	var late sync.WaitGroup
	for i := range 4 {
		late.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			_, _ = store.Create(ctx, sessions.ID{byte(i)}, sessions.Record{Data: data, Expires: time.Now().Add(time.Hour)})
		})
	}
	late.Wait()
	for i := range data {
		data[i] = 2 // the race detector reports a concurrent read
	}
	server.Continue()
	if _, err := store.Create(t.Context(), sessions.ID{9}, recordFor(time.Hour, "")); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if rec, err := store.Load(t.Context(), sessions.ID{byte(i)}); err == nil && bytes.Contains(rec.Data, []byte{2}) {
			t.Error("a change of the caller's data after the call was stored")
		}
	}
}

func TestAMemcachedWithoutCasIsAnErrorThatSaysHowToStartIt(t *testing.T) {
	s := opener()(t, testserver.Memcached(t, "-C").Addr)
	id := sessions.ID{1}
	rec := sessions.Record{Data: []byte("data"), Expires: time.Now().Add(time.Hour)}
	var err error
	if rec.Version, err = s.Create(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	_, loadErr := s.Load(t.Context(), id)
	_, updateErr := s.Update(t.Context(), id, rec)
	for what, err := range map[string]error{"Load": loadErr, "Update": updateErr, "Touch": s.Touch(t.Context(), id, time.Now().Add(2*time.Hour))} {
		if err == nil || !strings.Contains(err.Error(), "without -C") {
			t.Errorf("%s: got %v, want an error that says how to start memcached", what, err)
		}
	}
}
