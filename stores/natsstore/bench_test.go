package natsstore_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/natsstore"
)

// benchData has the size of a shop's session: some numbers, a name and a cart.
var benchData = string(make([]byte, 200))

const live = 1000

// benchmark runs an operation in 64 goroutines for each core, on a store with live
// sessions, whose ids are idOf(-live+1) to idOf(0).
func benchmark(b *testing.B, op func(ctx context.Context, s *natsstore.Store, n int) error) {
	s, _, _ := fresh(b, recommended)
	for i := range live {
		create(b, s, idOf(-i), recordFor(time.Hour, benchData, ""))
	}
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(64)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second) // a deadline, as a Manager's has
		defer cancel()
		for pb.Next() {
			if err := op(ctx, s, int(n.Add(1))); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	benchmark(b, func(ctx context.Context, s *natsstore.Store, n int) error {
		_, err := s.Load(ctx, idOf(-n%live))
		return err
	})
}

func BenchmarkCreate(b *testing.B) {
	benchmark(b, func(ctx context.Context, s *natsstore.Store, n int) error {
		_, err := s.Create(ctx, idOf(n), recordFor(time.Hour, benchData, ""))
		return err
	})
}

func BenchmarkCreateWithOwner(b *testing.B) {
	benchmark(b, func(ctx context.Context, s *natsstore.Store, n int) error {
		_, err := s.Create(ctx, idOf(n), recordFor(time.Hour, benchData, strconv.Itoa(n)))
		return err
	})
}

// An operation is a Load and an Update, as in a request that changes its session.
func BenchmarkLoadAndUpdate(b *testing.B) {
	benchmark(b, func(ctx context.Context, s *natsstore.Store, n int) error {
		id := idOf(-n % live)
		rec, err := s.Load(ctx, id)
		if err == nil {
			_, err = s.Update(ctx, id, rec)
		}
		if err == sessions.ErrConflict {
			return nil
		}
		return err
	})
}

func BenchmarkTouch(b *testing.B) {
	benchmark(b, func(ctx context.Context, s *natsstore.Store, n int) error {
		return s.Touch(ctx, idOf(-n%live), time.Now().Add(time.Hour+time.Duration(n)*time.Millisecond))
	})
}

func BenchmarkOneByOne(b *testing.B) {
	s, _, _ := fresh(b, recommended)
	rec := recordFor(time.Hour, benchData, "ada")
	for i := range 10 {
		rec.Version = create(b, s, idOf(i), rec)
	}
	b.Run("Load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Load(b.Context(), idOf(9)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Update", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			rec.Version = update(b, s, idOf(9), rec.Version, rec)
		}
	})
	b.Run("OwnedOf10", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if n := len(collect(b, s.Owned(b.Context(), "ada"))); n != 10 {
				b.Fatalf("got %d ids, want 10", n)
			}
		}
	})
}

// BenchmarkSize reports the bytes, as counted by the server, of a session of 200 bytes,
// without an owner and with an owner of its own, and of the marker that its deletion
// leaves. Run it with -benchtime 1x.
func BenchmarkSize(b *testing.B) {
	const n = 2000
	for name, ownerOf := range map[string]func(i int) string{
		"anonymous": func(int) string { return "" },
		"owned":     func(i int) string { return strconv.Itoa(1_000_000 + i) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s, kv, _ := fresh(b, recommended)
				for i := range n {
					create(b, s, idOf(i), recordFor(time.Hour, benchData, ownerOf(i)))
				}
				b.ReportMetric(float64(size(b, kv))/n, "B/session")
				for i := range n {
					if err := s.Delete(b.Context(), idOf(i), 0); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(size(b, kv))/n, "B/deleted")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func size(b *testing.B, kv jetstream.KeyValue) uint64 {
	b.Helper()
	status, err := kv.Status(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return status.Bytes()
}
