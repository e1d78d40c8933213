package redisstore_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/redisstore"
)

type streamSession struct {
	UserID int `msgpack:"uid"`
}

func streamManager(t testing.TB, store sessions.Store) *sessions.Manager[streamSession] {
	t.Helper()
	keys, err := sessions.NewKeyring([]byte("0123456789abcdefghijklmnopqrstuv"))
	if err != nil {
		t.Fatal(err)
	}
	mgr, err := sessions.New(sessions.Config[streamSession]{Keys: keys, Store: store, OnEvent: func(context.Context, sessions.Event) {}})
	if err != nil {
		t.Fatal(err)
	}
	return mgr
}

// A stream is a response that goes on until its session ends.
type stream struct {
	id    string
	ended chan time.Time // one
	ctx   context.Context
}

// openStreams opens n streams, each of a session of its own.
func openStreams(t testing.TB, mgr *sessions.Manager[streamSession], n int) []*stream {
	t.Helper()
	streams := make([]*stream, n)
	handler := mgr.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[streamSession](r.Context())
		sess.Data.UserID = 1
		s := r.Context().Value(streamKey{}).(*stream)
		s.id = sess.ID()
		var cancel context.CancelFunc
		s.ctx, cancel = sess.Watch(context.Background())
		t.Cleanup(cancel)
		context.AfterFunc(s.ctx, func() { s.ended <- time.Now() })
	}))
	var workers sync.WaitGroup
	for w := range 64 {
		workers.Go(func() {
			for i := w; i < n; i += 64 {
				streams[i] = &stream{ended: make(chan time.Time, 1)}
				r := httptest.NewRequest("GET", "https://shop.example/stream", nil)
				handler.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithValue(r.Context(), streamKey{}, streams[i])))
			}
		})
	}
	workers.Wait()
	return streams
}

type streamKey struct{}

// silentStore hides that the store can tell of changes.
type silentStore struct{ sessions.LabelStore }

// BenchmarkStreams measures what 10,000 streams in a process cost, and how long it
// takes from a Revoke in another process until a stream ends.
func BenchmarkStreams(b *testing.B) {
	const n, revoked, rest = 10_000, 500, 5 * time.Second
	for _, by := range []string{"changes", "asking"} {
		b.Run("by="+by, func(b *testing.B) {
			server := testserver.Redis(b)
			client := connectTo(b, server.Addr)
			var store sessions.Store = redisstore.New(connectTo(b, server.Addr), redisstore.Options{})
			if by == "asking" {
				store = silentStore{store.(sessions.LabelStore)}
			}
			there := streamManager(b, redisstore.New(client, redisstore.Options{}))
			for b.Loop() {
				b.StopTimer()
				mgr := streamManager(b, store)
				openStreams(b, mgr, 1)
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				streams := openStreams(b, mgr, n)
				runtime.GC()
				runtime.ReadMemStats(&after)
				time.Sleep(8 * time.Second) // what is opened is asked for until Changes is trusted
				commands := commandsOf(b, server)
				time.Sleep(rest)
				commands = commandsOf(b, server) - commands
				b.StartTimer()
				took := make([]time.Duration, revoked)
				var ends sync.WaitGroup
				for i := range took {
					s := streams[i*n/revoked]
					began := time.Now()
					if err := there.Revoke(context.Background(), s.id); err != nil {
						b.Fatal(err)
					}
					ends.Go(func() { took[i] = (<-s.ended).Sub(began) })
				}
				ends.Wait()
				slices.Sort(took)
				b.ReportMetric(float64(took[revoked/2].Microseconds())/1e3, "p50-ms")
				b.ReportMetric(float64(took[revoked*99/100].Microseconds())/1e3, "p99-ms")
				b.ReportMetric(float64(commands)/rest.Seconds(), "commands/s")
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "heap-B/stream")
			}
		})
	}
}

// A Redis that restarts ends no stream, and holds up none that has to end.
func TestStreamsEndWithTheirSessionsAcrossARestartOfRedis(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
	streams := openStreams(t, streamManager(t, redisstore.New(connectTo(t, server.Addr), redisstore.Options{})), 1000)
	there := streamManager(t, redisstore.New(connectTo(t, server.Addr), redisstore.Options{}))
	revoked := map[*stream]bool{}
	revoke := func(s *stream) {
		if err := there.Revoke(t.Context(), s.id); err == nil {
			revoked[s] = true
		}
	}
	for _, s := range streams[:100] {
		revoke(s)
	}
	server.Kill()
	server.Restart()
	eventually(t, "no session can be revoked after the restart", func() bool { revoke(streams[100]); return revoked[streams[100]] })
	for _, s := range streams[101:200] {
		revoke(s)
	}
	late := time.After(10 * time.Second)
	for s := range revoked {
		select {
		case <-s.ended:
		case <-late:
			t.Fatal("a stream goes on ten seconds after Redis is back, though its session has ended")
		}
	}
	if len(revoked) != 200 {
		t.Errorf("revoked %d sessions, want 200", len(revoked))
	}
	for _, s := range streams {
		if !revoked[s] && s.ctx.Err() != nil {
			t.Fatalf("a stream has ended: %v", context.Cause(s.ctx))
		}
	}
}

// commandsOf returns how many commands a server has executed.
func commandsOf(t testing.TB, server *testserver.Server) (n int) {
	t.Helper()
	for _, m := range regexp.MustCompile(`total_commands_processed:(\d+)`).FindAllStringSubmatch(ask(t, server, "INFO", "stats"), -1) {
		n, _ = strconv.Atoi(m[1])
	}
	return n
}
