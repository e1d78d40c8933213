package natsstore_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/natsstore"
)

// natsServer builds the server that go.mod has as a tool, since the packages of
// distributions are older, and returns its path. Unlike a server in the process of the
// test, it can be killed, and is not slowed down by the race detector.
var natsServer = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "tool", "-n", "nats-server").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go tool -n nats-server: %w\n%s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
})

// start starts a NATS server with JetStream and this configuration.
func start(t testing.TB, config string) *testserver.Server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := natsServer()
	if err != nil {
		t.Fatal(err)
	}
	return testserver.Program(t, program,
		"--addr", "{host}", "--port", "{port}", "--jetstream", "--store_dir", "{dir}", "--config", path)
}

// largePayload lets the suite store records of 1 MiB.
const largePayload = "max_payload: 2MB\n"

func connect(t testing.TB, addr string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	opts = append([]nats.Option{
		nats.ReconnectWait(10 * time.Millisecond),
		nats.MaxReconnects(-1),
		nats.Timeout(10 * time.Second), // long, for a busy machine
	}, opts...)
	conn, err := nats.Connect("nats://"+addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

var buckets atomic.Int64

// newBucket creates a bucket of its own for the test.
func newBucket(t testing.TB, conn *nats.Conn, cfg jetstream.KeyValueConfig) jetstream.KeyValue {
	t.Helper()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Bucket == "" {
		cfg.Bucket = fmt.Sprintf("sessions-%d-%d", os.Getpid(), buckets.Add(1))
	}
	kv, err := js.CreateKeyValue(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func open(t testing.TB, kv jetstream.KeyValue, opt natsstore.Options) *natsstore.Store {
	t.Helper()
	s, err := natsstore.New(kv, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fresh returns a store in a bucket of its own on a server of its own.
func fresh(t testing.TB, cfg jetstream.KeyValueConfig) (*natsstore.Store, jetstream.KeyValue, *nats.Conn) {
	t.Helper()
	conn := connect(t, start(t, largePayload).Addr)
	kv := newBucket(t, conn, cfg)
	return open(t, kv, natsstore.Options{Conn: conn}), kv, conn
}

// idOf returns the n-th id of a test. It is a hash, as a real id is.
func idOf(n int) sessions.ID { return sha256.Sum256(fmt.Append(nil, n)) }

func recordFor(d time.Duration, data, owner string, labels ...string) sessions.Record {
	return sessions.Record{Data: []byte(data), Expires: time.Now().Add(d), Owner: owner, Labels: labels}
}

func create(t testing.TB, s *natsstore.Store, id sessions.ID, rec sessions.Record) (version uint64) {
	t.Helper()
	version, err := s.Create(t.Context(), id, rec)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	return version
}

func update(t testing.TB, s *natsstore.Store, id sessions.ID, version uint64, rec sessions.Record) (next uint64) {
	t.Helper()
	rec.Version = version
	next, err := s.Update(t.Context(), id, rec)
	if err != nil {
		t.Fatalf("Update: %v", err)
	}
	return next
}

func collect(t testing.TB, listed iter.Seq2[sessions.ID, error]) map[sessions.ID]bool {
	t.Helper()
	ids := map[sessions.ID]bool{}
	for id, err := range listed {
		if err != nil {
			t.Fatal(err)
		}
		ids[id] = true
	}
	return ids
}

func eventually(t testing.TB, otherwise string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal(otherwise)
		}
	}
}

// isOtherError reports whether err is an error other than those that the Store interface
// documents.
func isOtherError(err error) bool {
	return err != nil && !errors.Is(err, sessions.ErrNotFound) && !errors.Is(err, sessions.ErrExists) && !errors.Is(err, sessions.ErrConflict)
}
