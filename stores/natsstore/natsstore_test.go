package natsstore_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/natsstore"
	"github.com/typedsessions/sessions/stores/storetest"
)

// recommended is the configuration that the README recommends.
var recommended = jetstream.KeyValueConfig{LimitMarkerTTL: time.Hour}

func TestStoreKeepsItsPromises(t *testing.T) {
	for _, tt := range []struct {
		name      string
		cfg       jetstream.KeyValueConfig
		knowsConn bool
	}{
		{"as the README recommends", recommended, true},
		{"in memory, without a connection and a life of markers", jetstream.KeyValueConfig{Storage: jetstream.MemoryStorage}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := connect(t, start(t, largePayload).Addr)
			var opt natsstore.Options
			if tt.knowsConn {
				opt.Conn = conn
			}
			storetest.Run(t, func(t testing.TB) sessions.Store { return open(t, newBucket(t, conn, tt.cfg), opt) })
		})
	}
}

func TestConnectionsThatBreak(t *testing.T) {
	storetest.RunCut(t, start(t, largePayload).Addr, func(t testing.TB, addr string) sessions.Store {
		conn := connect(t, addr)
		return open(t, newBucket(t, conn, recommended), natsstore.Options{Conn: conn})
	})
}

func TestTwoProcesses(t *testing.T) {
	where, child := os.LookupEnv("STORETEST_WHERE")
	if !child {
		conn := connect(t, start(t, largePayload).Addr)
		where = conn.ConnectedAddr() + " " + newBucket(t, conn, recommended).Bucket()
	}
	storetest.RunProcesses(t, where, func(t testing.TB, where string) sessions.Store {
		addr, bucket, _ := strings.Cut(where, " ")
		conn := connect(t, addr)
		js, err := jetstream.New(conn)
		if err != nil {
			t.Fatal(err)
		}
		kv, err := js.KeyValue(t.Context(), bucket)
		if err != nil {
			t.Fatal(err)
		}
		return open(t, kv, natsstore.Options{Conn: conn})
	})
}

func TestServerThatCrashes(t *testing.T) {
	server := start(t, largePayload)
	conn := connect(t, server.Addr)
	storetest.RunCrash(t, server, true, func(t testing.TB) sessions.Store {
		return open(t, newBucket(t, conn, recommended), natsstore.Options{Conn: conn})
	})
}
