package sqlstore_test

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/sqlstore"
)

var engines = []struct {
	name  string
	start func(testing.TB) engine
}{
	{"PostgreSQL", postgreSQL},
	{"MariaDB", mariaDB},
	{"SQLite", sqLite},
}

// typical is the length of a record with a user, a role and eight items.
const typical = 250

func newRecord() (sessions.ID, sessions.Record) {
	var id sessions.ID
	_, _ = rand.Read(id[:])
	rec := sessions.Record{Data: make([]byte, typical), Expires: time.Now().Add(time.Hour), Owner: "user-" + id.String()[:8]}
	_, _ = rand.Read(rec.Data)
	return id, rec
}

// BenchmarkStore runs each operation in 16 goroutines. The servers are those of
// the tests, on loopback, with durable settings. The SQLite file has the settings
// of the README.
func BenchmarkStore(b *testing.B) {
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) {
			e := e.start(b)
			s := e.store(b, e.open(b, e.where), newTable())
			for _, op := range []struct {
				name string
				run  func(ctx context.Context, id sessions.ID, rec *sessions.Record) error
			}{
				{"Load", func(ctx context.Context, id sessions.ID, _ *sessions.Record) error {
					_, err := s.Load(ctx, id)
					return err
				}},
				{"Create", func(ctx context.Context, _ sessions.ID, _ *sessions.Record) error {
					id, rec := newRecord()
					_, err := s.Create(ctx, id, rec)
					return err
				}},
				{"Update", func(ctx context.Context, id sessions.ID, rec *sessions.Record) (err error) {
					rec.Version, err = s.Update(ctx, id, *rec)
					return err
				}},
				{"Touch", func(ctx context.Context, id sessions.ID, rec *sessions.Record) error {
					rec.Expires = rec.Expires.Add(time.Second)
					return s.Touch(ctx, id, rec.Expires)
				}},
			} {
				b.Run(op.name, func(b *testing.B) {
					b.ReportAllocs()
					b.SetParallelism(8) // 16 goroutines on 2 cores
					b.RunParallel(func(pb *testing.PB) {
						ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
						defer cancel()
						id, rec := newRecord()
						var err error
						if rec.Version, err = s.Create(ctx, id, rec); err != nil {
							b.Error(err)
							return
						}
						for pb.Next() {
							if err := op.run(ctx, id, &rec); err != nil {
								b.Error(err)
								return
							}
						}
					})
				})
			}
		})
	}
}

// BenchmarkSize reports the disk space, including the index, of a session with
// 250 bytes of data and an owner, after it was created and updated once.
func BenchmarkSize(b *testing.B) {
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) {
			e := e.start(b)
			db := e.open(b, e.where)
			table := newTable()
			s := e.store(b, db, table)
			n := 0
			for b.Loop() {
				n += fill(b, s)
			}
			if e.dialect == sqlstore.SQLite {
				run(b, db, "PRAGMA wal_checkpoint(TRUNCATE)")
			}
			var bytes float64
			get(b, db, &bytes, strings.ReplaceAll(e.size, "{table}", table))
			b.ReportMetric(bytes/float64(n), "bytes/session")
		})
	}
}

// fill creates sessions, updates each of them once, and returns their number.
func fill(b *testing.B, s sessions.Store) int {
	const clients, each = 8, 2000
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			ids := make([]sessions.ID, each)
			recs := make([]sessions.Record, each)
			var err error
			for i := range ids {
				ids[i], recs[i] = newRecord()
				if recs[i].Version, err = s.Create(b.Context(), ids[i], recs[i]); err != nil {
					b.Error(err)
					return
				}
			}
			for i, id := range ids {
				if _, err = s.Update(b.Context(), id, recs[i]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return clients * each
}
