package natsstore_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
	"github.com/typedsessions/sessions/stores/storetest"
)

// startCluster starts a cluster of three servers, which end with the test.
func startCluster(t testing.TB) (servers []*testserver.Server) {
	t.Helper()
	var routes [3]string
	for i := range routes {
		routes[i] = testserver.FreeAddr(t)
	}
	for i, route := range routes {
		config := fmt.Sprintf("%sserver_name: n%d\ncluster { name: c, listen: %q, routes: [nats-route://%s] }\n",
			largePayload, i, route, strings.Join(routes[:], ", nats-route://"))
		servers = append(servers, start(t, config))
	}
	return servers
}

// newReplicatedBucket creates a bucket with three replicas, as the README does.
func newReplicatedBucket(t testing.TB, conn *nats.Conn, cfg jetstream.KeyValueConfig) jetstream.KeyValue {
	t.Helper()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Replicas = 3
	var kv jetstream.KeyValue
	eventually(t, "the cluster does not create a bucket", func() bool {
		cfg.Bucket = fmt.Sprintf("replicated-%d", buckets.Add(1))
		kv, err = js.CreateKeyValue(t.Context(), cfg)
		return err == nil
	})
	if _, err := natsstore.New(kv, natsstore.Options{}); err == nil || !strings.Contains(err.Error(), "allow_direct") {
		t.Fatalf("New: got %v, want an error about reads from replicas that are behind", err)
	}
	if kv, err = withoutDirectReads(t.Context(), js, cfg.Bucket); err != nil {
		t.Fatal(err)
	}
	return kv
}

// withoutDirectReads makes the leader answer all reads of a bucket.
func withoutDirectReads(ctx context.Context, js jetstream.JetStream, bucket string) (jetstream.KeyValue, error) {
	stream, err := js.Stream(ctx, "KV_"+bucket)
	if err != nil {
		return nil, err
	}
	cfg := stream.CachedInfo().Config
	cfg.AllowDirect = false
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		return nil, err
	}
	return js.KeyValue(ctx, bucket)
}

func TestCluster(t *testing.T) {
	servers := startCluster(t)
	conn := connect(t, servers[0].Addr)
	storetest.Run(t, func(t testing.TB) sessions.Store {
		return open(t, newReplicatedBucket(t, conn, recommended), natsstore.Options{Conn: conn})
	})
}

func TestAClusterThatLosesItsLeaderLosesNoAcknowledgedWrite(t *testing.T) {
	servers := startCluster(t)
	urls := make([]string, len(servers))
	for i, server := range servers {
		urls[i] = "nats://" + server.Addr
	}
	conn := connect(t, strings.TrimPrefix(strings.Join(urls, ","), "nats://"))
	kv := newReplicatedBucket(t, conn, recommended)
	s := open(t, kv, natsstore.Options{Conn: conn})
	f := changesOf(t, s)
	go func() {
		for {
			select {
			case <-f.ids:
			case <-f.err:
				return
			}
		}
	}()

	// Each session counts the Updates of one writer, which has seen the answers of some.
	const writers = 8
	var acknowledged, tried [writers]atomic.Int64
	var failed atomic.Int64
	stop := make(chan struct{})
	var writing sync.WaitGroup
	for i := range writers {
		create(t, s, idOf(i), recordFor(time.Hour, "0", "ada", "red"))
		writing.Go(func() {
			for n := int64(1); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				rec, err := s.Load(ctx, idOf(i))
				if err == nil {
					tried[i].Store(n)
					rec.Data = strconv.AppendInt(nil, n, 10)
					_, err = s.Update(ctx, idOf(i), rec)
				}
				cancel()
				switch {
				case err == nil:
					acknowledged[i].Store(n)
				case !isOtherError(err) && !errors.Is(err, sessions.ErrConflict): // a conflict with an earlier Update whose outcome is unknown
					t.Errorf("writer %d: %v", i, err)
					return
				default:
					failed.Add(1)
				}
			}
		})
	}
	progress := func() {
		t.Helper()
		var before [writers]int64
		for i := range writers {
			before[i] = acknowledged[i].Load()
		}
		eventually(t, "there is a writer whose Updates fail", func() bool {
			for i := range writers {
				if acknowledged[i].Load() < before[i]+10 {
					return false
				}
			}
			return true
		})
	}
	progress()
	status, err := kv.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leader := status.(*jetstream.KeyValueBucketStatus).StreamInfo().Cluster.Leader
	servers[leader[1]-'0'].Kill()
	progress()
	close(stop)
	writing.Wait()
	for i := range writers {
		var rec sessions.Record
		eventually(t, "a session cannot be loaded", func() (ok bool) { // the servers may still agree on a leader
			rec, err = s.Load(t.Context(), idOf(i))
			return err == nil
		})
		n, _ := strconv.ParseInt(string(rec.Data), 10, 64)
		if low, high := acknowledged[i].Load(), tried[i].Load(); n < low || n > high {
			t.Errorf("writer %d: the session has the Update %d, want one from %d, which was acknowledged, to %d, the last one", i, n, low, high)
		}
	}
	n := 0
	eventually(t, "the sessions cannot be listed", func() bool {
		n = 0
		for _, err := range s.Owned(t.Context(), "ada") {
			if err != nil {
				return false
			}
			n++
		}
		return true
	})
	if n != writers {
		t.Errorf("Owned yields %d ids, want %d", n, writers)
	}
	t.Logf("the leader was %s; %d operations failed", leader, failed.Load())
}
