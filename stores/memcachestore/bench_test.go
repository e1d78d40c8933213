package memcachestore_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/memcachestore"
)

// benchData has the size of a shop's session: some numbers, a name and a cart.
var benchData = make([]byte, 200)

func randomID() (id sessions.ID) {
	_, _ = rand.Read(id[:])
	return id
}

func benchStore(b *testing.B, args ...string) (store *memcachestore.Store, addr string) {
	addr = testserver.Memcached(b, args...).Addr
	return memcachestore.New(newClient(b, addr), "shop:"), addr
}

// benchRecord stores a record and returns it with its id.
func benchRecord(b *testing.B, s *memcachestore.Store) (sessions.ID, sessions.Record) {
	id, rec := randomID(), recordFor(time.Hour, string(benchData))
	var err error
	if rec.Version, err = s.Create(b.Context(), id, rec); err != nil {
		b.Fatal(err)
	}
	return id, rec
}

func BenchmarkLoad(b *testing.B) {
	s, _ := benchStore(b)
	id, _ := benchRecord(b, s)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Load(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCreate(b *testing.B) {
	s, _ := benchStore(b)
	b.ReportAllocs()
	for b.Loop() {
		benchRecord(b, s)
	}
}

func BenchmarkUpdate(b *testing.B) {
	s, _ := benchStore(b)
	id, rec := benchRecord(b, s)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if rec.Version, err = s.Update(b.Context(), id, rec); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTouch(b *testing.B) {
	s, _ := benchStore(b)
	id, rec := benchRecord(b, s)
	b.ReportAllocs()
	for b.Loop() {
		rec.Expires = rec.Expires.Add(time.Second)
		if err := s.Touch(b.Context(), id, rec.Expires); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSize reports the memory of a session of 200 bytes in a memcached of
// 16 MiB: the size of its item, as counted by memcached, and all memory divided
// by the number of sessions when evictions begin. Run it with -benchtime 1x.
func BenchmarkSize(b *testing.B) {
	for b.Loop() {
		s, addr := benchStore(b, "-m", "16")
		for stats(b, addr)["evictions"] == 0 {
			for range 1000 {
				benchRecord(b, s)
			}
		}
		n := stats(b, addr)
		b.ReportMetric(float64(n["bytes"])/float64(n["curr_items"]), "item-B/session")
		b.ReportMetric(16<<20/float64(n["curr_items"]), "B/session")
	}
	b.ReportMetric(0, "ns/op")
}
