//go:build linux

// Package scale_test measures what docs/SCALE.md counts with: the bytes that
// a session takes in an engine, and the time and the traffic that a request costs the
// server of the engine and the application.
//
//	go test ./benchmarks/scale -bench Bytes -benchtime 1x -sessions 50000
//	go test ./benchmarks/scale -bench Requests -benchtime 30000x
package scale_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/benchmarks"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/redisstore"
	"github.com/typedsessions/sessions/stores/sqlstore"
)

// The default is small, so that all benchmarks run once within seconds.
var count = flag.Int("sessions", 1_000, "the `number` of sessions that BenchmarkBytes stores")

// clients is how many requests are under way at once.
const clients = 64

// A subject is a running engine with a store in it.
type subject struct {
	store sessions.Store
	held  func() int64                           // bytes of memory or of the disk that the sessions take
	spent func() (cpu time.Duration, wire int64) // by the server so far; nil if there is none
}

var subjects = map[string]func(tb testing.TB) subject{
	"memory":     func(testing.TB) subject { return subject{store: new(sessions.MemoryStore), held: heap} },
	"redis":      redis,
	"postgresql": postgresql,
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // the objects in a sync.Pool survive one collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func redis(tb testing.TB) subject {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{testserver.Redis(tb).Addr}, DisableRetry: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	info := func(section, name string) float64 {
		text, err := client.Do(context.Background(), client.B().Info().Section(section).Build()).ToString()
		if err != nil {
			tb.Fatal(err)
		}
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(line, name+":"); ok {
				n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if err != nil {
					tb.Fatal(err)
				}
				return n
			}
		}
		tb.Fatalf("INFO %s has no %s", section, name)
		return 0
	}
	return subject{
		store: redisstore.New(client, redisstore.Options{}),
		held:  func() int64 { return int64(info("memory", "used_memory") - info("memory", "mem_clients_normal")) },
		spent: func() (time.Duration, int64) {
			cpu := info("cpu", "used_cpu_sys") + info("cpu", "used_cpu_user")
			wire := info("stats", "total_net_input_bytes") + info("stats", "total_net_output_bytes")
			return time.Duration(cpu * float64(time.Second)), int64(wire)
		},
	}
}

func postgresql(tb testing.TB) subject {
	server := testserver.Postgres(tb, "synchronous_commit=off", fmt.Sprint("max_connections=", 2*clients))
	config, err := pgx.ParseConfig(server.PostgresURL())
	if err != nil {
		tb.Fatal(err)
	}
	var wire atomic.Int64
	config.DialFunc = countedDial(&wire)
	db := stdlib.OpenDB(*config)
	tb.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(clients)
	db.SetMaxIdleConns(clients)
	store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Options{Labels: true})
	if err != nil {
		tb.Fatal(err)
	}
	if err := store.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return subject{
		store: store,
		held: func() int64 {
			return query(tb, db, `SELECT pg_total_relation_size('sessions') + pg_total_relation_size('sessions_labels')`)
		},
		spent: func() (time.Duration, int64) { return cpuOfPostgres(tb, server.Dir), wire.Load() },
	}
}

func query(tb testing.TB, db *sql.DB, statement string) (n int64) {
	if err := db.QueryRow(statement).Scan(&n); err != nil {
		tb.Fatal(err)
	}
	return n
}

// cpuOfPostgres returns the processor time of a server and its children, which live
// as long as their connections.
func cpuOfPostgres(tb testing.TB, dir string) time.Duration {
	pid, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		tb.Fatal(err)
	}
	postmaster, _, _ := strings.Cut(string(pid), "\n")
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		tb.Fatal(err)
	}
	var ticks int64
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// proc(5): the name, in parentheses, may contain spaces.
		_, after, _ := strings.Cut(string(stat), ") ")
		field := strings.Fields(after) // from the third one on
		if filepath.Base(filepath.Dir(path)) != postmaster && field[1] != postmaster {
			continue
		}
		for _, f := range field[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.ParseInt(f, 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * (time.Second / 100)
}

// cpu returns the processor time of this process.
func cpu() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return 0
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// dataSize is close to that of the session of the other benchmarks, a Shop.
const dataSize = 200

// BenchmarkBytes reports the bytes of a session with dataSize bytes of data that was
// created and then updated once: without an owner, with an owner who has no other,
// and with a label besides that no other has.
func BenchmarkBytes(b *testing.B) {
	for name, start := range subjects {
		for _, mark := range []string{"anonymous", "owner", "label"} {
			b.Run("by="+name+"/with="+mark, func(b *testing.B) {
				s := start(b)
				fill(b, s.store, 0, 16, mark) // opens connections, and loads scripts
				for b.Loop() {
					before := s.held()
					fill(b, s.store, 1_000_000, *count, mark)
					b.ReportMetric(float64(s.held()-before)/float64(*count), "B/session")
					runtime.KeepAlive(s)
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// fill stores n sessions, whose owners and labels are numbered from first, and then
// updates each of them.
func fill(tb testing.TB, store sessions.Store, first, n int, mark string) {
	ids, versions := make([]sessions.ID, n), make([]uint64, n)
	each(tb, n, func(i int) (err error) {
		_, _ = rand.Read(ids[i][:])
		versions[i], err = store.Create(tb.Context(), ids[i], record(first+i, mark))
		return err
	})
	each(tb, n, func(i int) error {
		rec := record(first+i, mark)
		rec.Version = versions[i]
		_, err := store.Update(tb.Context(), ids[i], rec)
		return err
	})
}

func record(n int, mark string) sessions.Record {
	rec := sessions.Record{Data: make([]byte, dataSize), Expires: time.Now().Add(time.Hour)}
	_, _ = rand.Read(rec.Data) // nothing can compress it
	if mark != "anonymous" {
		rec.Owner = fmt.Sprint("user ", n)
	}
	if mark == "label" {
		rec.Labels = []string{fmt.Sprint("login ", n)}
	}
	return rec
}

// each calls f with the numbers from 0 on, from all clients at once.
func each(tb testing.TB, n int, f func(i int) error) {
	tb.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// live is how many sessions the requests of BenchmarkRequests use in turn.
const live = 50 * clients

// BenchmarkRequests reports the processor time and the bytes on the network of
// a request whose session has an owner: one that reads it, one that changes a field,
// one that signs in a visitor without a session, and of a Touch alone.
func BenchmarkRequests(b *testing.B) {
	for name, start := range subjects {
		s := start(b)
		mgr := manager(b, s.store)
		b.Run("work=read/by="+name, func(b *testing.B) { requests(b, s, mgr, func(*session, int) {}) })
		b.Run("work=write/by="+name, func(b *testing.B) {
			requests(b, s, mgr, func(sess *session, n int) { sess.Data.LastSeen = time.Unix(int64(n), 0) })
		})
		b.Run("work=login/by="+name, func(b *testing.B) { requests(b, s, mgr, login) })
		b.Run("work=touch/by="+name, func(b *testing.B) {
			ids := make([]sessions.ID, live)
			each(b, live, func(i int) error {
				_, _ = rand.Read(ids[i][:])
				_, err := s.store.Create(b.Context(), ids[i], record(i, "owner"))
				return err
			})
			end := time.Now().Add(time.Hour)
			measure(b, s, func(n int) error {
				return s.store.Touch(b.Context(), ids[n%live], end.Add(time.Duration(n)*time.Millisecond))
			})
		})
	}
}

type session = sessions.Session[benchmarks.Shop]

func manager(tb testing.TB, store sessions.Store) *sessions.Manager[benchmarks.Shop] {
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		tb.Fatal(err)
	}
	mgr, err := sessions.New(sessions.Config[benchmarks.Shop]{
		Keys: keys, Store: store, Logger: slog.New(slog.DiscardHandler),
		Owner: func(s *benchmarks.Shop) string { return strconv.Itoa(s.UserID) },
	})
	if err != nil {
		tb.Fatal(err)
	}
	return mgr
}

func login(sess *session, n int) {
	sess.RegenerateID()
	sess.Data = benchmarks.Shop{
		UserID: n + 1, Name: "Ada Lovelace", Role: "admin", LastSeen: time.Unix(int64(n), 0),
		Cart: []int{1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008},
	}
}

type numberKey struct{}

// requests measures requests that each do f. One that signs in comes without
// a cookie.
func requests(b *testing.B, s subject, mgr *sessions.Manager[benchmarks.Shop], f func(*session, int)) {
	serve := func(do func(*session, int)) func(r *http.Request, n int) *httptest.ResponseRecorder {
		h := mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _ := r.Context().Value(numberKey{}).(int)
			do(sessions.Get[benchmarks.Shop](r.Context()), n)
			w.WriteHeader(http.StatusNoContent)
		}))
		return func(r *http.Request, n int) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r.WithContext(context.WithValue(b.Context(), numberKey{}, n)))
			return w
		}
	}
	fresh := httptest.NewRequest("GET", "https://shop.example/", nil)
	all := make([]*http.Request, live)
	signIn := serve(login)
	each(b, live, func(i int) error {
		all[i] = fresh.Clone(b.Context())
		if !strings.Contains(b.Name(), "login") {
			all[i].AddCookie(signIn(fresh, i).Result().Cookies()[0])
		}
		return nil
	})
	do := serve(f)
	measure(b, s, func(n int) error {
		if w := do(all[n%live], n); w.Code != http.StatusNoContent {
			return fmt.Errorf("status %d", w.Code)
		}
		return nil
	})
}

// measure calls f b.N times, and reports what that costs this process and the
// server of the engine.
func measure(b *testing.B, s subject, f func(n int) error) {
	spent := func() (d time.Duration, wire int64) {
		if s.spent != nil {
			d, wire = s.spent()
		}
		return d, wire
	}
	const warmUp = 8 * clients // opens connections, prepares statements, and loads scripts
	each(b, warmUp, func(i int) error { return f(live + i) })
	server, wire := spent()
	own := cpu()
	b.ResetTimer()
	each(b, b.N, func(i int) error { return f(2*live + i) })
	b.StopTimer()
	ownAfter := cpu()
	serverAfter, wireAfter := spent()
	n := float64(b.N)
	b.ReportMetric(float64((serverAfter-server).Nanoseconds())/1000/n, "server-µs/req")
	b.ReportMetric(float64((ownAfter-own).Nanoseconds())/1000/n, "own-µs/req")
	b.ReportMetric(float64(wireAfter-wire)/n, "wire-B/req")
}

// countedDial returns a dialer whose connections count the bytes that they carry.
func countedDial(n *atomic.Int64) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &countedConn{c, n}, err
	}
}

type countedConn struct {
	net.Conn
	n *atomic.Int64
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.n.Add(int64(n))
	return n, err
}
