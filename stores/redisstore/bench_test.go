package redisstore_test

import (
	"context"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/redisstore"
)

// benchmark runs op in 64 goroutines per core, as in a busy server. The reported
// time is the total time divided by the number of operations. BenchmarkOneByOne
// measures the latency of an operation.
func benchmark(b *testing.B, opt redisstore.Options, op func(ctx context.Context, store *redisstore.Store, n int) error) {
	store := redisstore.New(connectTo(b, testserver.Redis(b).Addr), opt)
	for i := range live {
		if _, err := store.Create(b.Context(), idOf(-i), benchRecord); err != nil {
			b.Fatal(err)
		}
	}
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		for pb.Next() {
			if err := op(ctx, store, int(n.Add(1))); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

const live = 1000

var benchRecord = sessions.Record{Data: make([]byte, 150), Expires: time.Now().Add(24 * time.Hour)}

func load(ctx context.Context, store *redisstore.Store, n int) error {
	_, err := store.Load(ctx, idOf(-n%live))
	return err
}

func BenchmarkLoad(b *testing.B) { benchmark(b, redisstore.Options{}, load) }

func BenchmarkLoadWithLocalCache(b *testing.B) {
	benchmark(b, redisstore.Options{LocalCache: time.Hour}, load)
}

func BenchmarkCreate(b *testing.B) {
	benchmark(b, redisstore.Options{}, func(ctx context.Context, store *redisstore.Store, n int) error {
		_, err := store.Create(ctx, idOf(n), benchRecord)
		return err
	})
}

func BenchmarkCreateWithOwner(b *testing.B) {
	benchmark(b, redisstore.Options{}, func(ctx context.Context, store *redisstore.Store, n int) error {
		rec := benchRecord
		id := idOf(n)
		rec.Owner = string(id[:8])
		_, err := store.Create(ctx, id, rec)
		return err
	})
}

// An operation is a Load and an Update, as in a request that changes its session.
func BenchmarkLoadAndUpdate(b *testing.B) {
	benchmark(b, redisstore.Options{}, func(ctx context.Context, store *redisstore.Store, n int) error {
		id := idOf(-n % live)
		rec, err := store.Load(ctx, id)
		if err == nil {
			_, err = store.Update(ctx, id, rec)
		}
		if err == sessions.ErrConflict {
			return nil
		}
		return err
	})
}

func BenchmarkCreateWithOwnerAndThreeLabels(b *testing.B) {
	benchmark(b, redisstore.Options{}, func(ctx context.Context, store *redisstore.Store, n int) error {
		rec := benchRecord
		id := idOf(n)
		rec.Owner = string(id[:8])
		rec.Labels = []string{"sid:" + string(id[8:16]), "tenant:" + string(id[16:17]), "by:" + string(id[17:19])}
		_, err := store.Create(ctx, id, rec)
		return err
	})
}

// BenchmarkUpdateWatched measures what callers of Changes cost the writers. With the
// time of the processor that Redis took, in microseconds, one run on a loaded machine
// gave these medians, over one server and, with a caller, over three masters with
// a replica each:
//
//	                                 callers: 0     1     4    16   cluster
//	server-assisted invalidation           4.4   5.2   5.5   6.1   11.7 (9.9 without)
//	PUBLISH by the scripts                 4.4   4.9   5.8   7.4   23.1, also without
//	SPUBLISH by the scripts                                        13.7, also without
//
// In a cluster, Redis sends each published message to every node, or with SPUBLISH to
// the replicas, in addition to the write itself. For SPUBLISH, a listener needs
// a channel in each of the 16,384 slots.
func BenchmarkUpdateWatched(b *testing.B) {
	for _, callers := range []int{0, 1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			server := testserver.Redis(b)
			store := redisstore.New(connectTo(b, server.Addr), redisstore.Options{})
			versions := make([]uint64, live)
			for i := range live {
				versions[i] = create(b, store, idOf(-i), benchRecord)
			}
			for range callers {
				startWatching(b, redisstore.New(connectTo(b, server.Addr), redisstore.Options{}))
			}
			var worker atomic.Int64
			before := processorTime(b, server)
			b.ResetTimer()
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				i := worker.Add(1)
				for pb.Next() {
					rec := benchRecord
					rec.Version = versions[i]
					var err error
					if versions[i], err = store.Update(context.Background(), idOf(int(-i)), rec); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.StopTimer()
			b.ReportMetric((processorTime(b, server)-before).Seconds()*1e6/float64(b.N), "redis-µs/op")
		})
	}
}

// BenchmarkChangeUntilItIsTold measures the time from a Delete by one client until
// Changes yields it to another.
func BenchmarkChangeUntilItIsTold(b *testing.B) {
	addr := testserver.Redis(b).Addr
	there := redisstore.New(connectTo(b, addr), redisstore.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	told := make(chan sessions.ID, 16)
	var running sync.WaitGroup
	running.Go(func() {
		for id := range redisstore.New(connectTo(b, addr), redisstore.Options{}).Changes(ctx) {
			told <- id
		}
	})
	b.Cleanup(func() { cancel(); running.Wait() })
	<-told // the zero ID
	n := 0
	for b.Loop() {
		b.StopTimer()
		n++
		create(b, there, idOf(n), benchRecord)
		<-told
		b.StartTimer()
		if err := there.Delete(context.Background(), idOf(n), 0); err != nil {
			b.Fatal(err)
		}
		<-told
	}
}

func processorTime(t testing.TB, server *testserver.Server) (sum time.Duration) {
	t.Helper()
	for _, m := range regexp.MustCompile(`used_cpu_(?:user|sys):([0-9.]+)`).FindAllStringSubmatch(ask(t, server, "INFO", "cpu"), -1) {
		d, err := time.ParseDuration(m[1] + "s")
		if err != nil {
			t.Fatal(err)
		}
		sum += d
	}
	return sum
}

func BenchmarkTouch(b *testing.B) {
	benchmark(b, redisstore.Options{}, func(ctx context.Context, store *redisstore.Store, n int) error {
		return store.Touch(ctx, idOf(-n%live), benchRecord.Expires.Add(time.Duration(n)*time.Millisecond))
	})
}

func BenchmarkDelete(b *testing.B) {
	benchmark(b, redisstore.Options{}, func(ctx context.Context, store *redisstore.Store, n int) error {
		return store.Delete(ctx, idOf(n), 0)
	})
}

func BenchmarkOneByOne(b *testing.B) {
	store := redisstore.New(connectTo(b, testserver.Redis(b).Addr), redisstore.Options{})
	id := idOf(1)
	version, err := store.Create(b.Context(), id, benchRecord)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := store.Load(b.Context(), id); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Update", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			rec := benchRecord
			rec.Version = version
			if version, err = store.Update(b.Context(), id, rec); err != nil {
				b.Fatal(err)
			}
		}
	})
}
