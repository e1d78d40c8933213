package redisstore_test

import (
	"context"
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
