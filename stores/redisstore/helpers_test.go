package redisstore_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
)

// idOf returns the n-th id of a test. It is a hash, as a real id is.
func idOf(n int) sessions.ID { return sha256.Sum256(fmt.Append(nil, n)) }

func recordOf(data, owner string) sessions.Record {
	return sessions.Record{Data: []byte(data), Owner: owner, Expires: time.Now().Add(time.Hour).Truncate(time.Millisecond)}
}

func create(t testing.TB, store sessions.Store, id sessions.ID, rec sessions.Record) (version uint64) {
	t.Helper()
	version, err := store.Create(t.Context(), id, rec)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	return version
}

func update(t testing.TB, store sessions.Store, id sessions.ID, version uint64, rec sessions.Record) (next uint64) {
	t.Helper()
	rec.Version = version
	next, err := store.Update(t.Context(), id, rec)
	if err != nil {
		t.Fatalf("Update: %v", err)
	}
	return next
}

// loads fails the test unless Load returns a record with the wanted version. If
// want is 0, there must be no record.
func loads(t testing.TB, when string, store sessions.Store, id sessions.ID, want uint64) {
	t.Helper()
	rec, err := store.Load(t.Context(), id)
	if err != nil && (want != 0 || err != sessions.ErrNotFound) || rec.Version != want {
		t.Errorf("Load %s: got version %d, %v; want %d", when, rec.Version, err, want)
	}
}

func eventually(t testing.TB, otherwise string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal(otherwise)
		}
	}
}

// calls returns how often the server has executed each command.
func calls(t testing.TB, client rueidis.Client) map[string]int {
	t.Helper()
	stats, err := client.Do(context.Background(), client.B().Info().Section("commandstats").Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for _, m := range regexp.MustCompile(`cmdstat_(\S+):calls=(\d+)`).FindAllStringSubmatch(stats, -1) {
		counts[m[1]], _ = strconv.Atoi(m[2])
	}
	return counts
}

// A proxy forwards connections to a server.
type proxy struct {
	addr string
	// answers, if set, is called with the bytes that the server sends. They are
	// forwarded if it returns true; otherwise the connection is closed.
	answers atomic.Pointer[func(b []byte) bool]
}

func newProxy(t testing.TB, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String()}
	var open sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	closed := false
	open.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, client, upstream)
			if closed {
				_, _ = client.Close(), upstream.Close()
			}
			mu.Unlock()
			open.Go(func() { forward(upstream, client, nil) })
			open.Go(func() { forward(client, upstream, &p.answers) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		closed = true
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		open.Wait()
	})
	return p
}

func forward(to, from net.Conn, check *atomic.Pointer[func(b []byte) bool]) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if check != nil {
			if f := check.Load(); f != nil && !(*f)(b[:n]) {
				return
			}
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}
