package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// A cachedStore has a cache with an old record.
type cachedStore struct{ sessions.MemoryStore }

func (s *cachedStore) Load(context.Context, sessions.ID) (sessions.Record, error) {
	return sessions.Record{Data: []byte("old")}, nil
}

func (s *cachedStore) LoadNewest(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	return s.MemoryStore.Load(ctx, id)
}

func TestAManagerSeesPastTheCacheOfAStore(t *testing.T) {
	for _, tt := range []struct {
		name  string
		store sessions.Store
		want  string // from Load
	}{
		{"a store with a cache", new(cachedStore), "old"},
		{"a store without one", struct{ sessions.Store }{new(sessions.MemoryStore)}, "new"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, steady(), 0, func(s *tester) {
				store := guardedInApp(s, tt.store, false)
				if _, err := store.Create(s.ctx, oneID, recordFor(time.Hour, "new", "")); err != nil {
					s.Fatal(err)
				}
				newest, err := store.(interface {
					LoadNewest(ctx context.Context, id sessions.ID) (sessions.Record, error)
				}).LoadNewest(s.ctx, oneID)
				if err != nil || string(newest.Data) != "new" {
					s.Errorf("LoadNewest: got %q, %v, want the record as it is", newest.Data, err)
				}
				if rec, err := store.Load(s.ctx, oneID); err != nil || string(rec.Data) != tt.want {
					s.Errorf("Load: got %q, %v, want %q", rec.Data, err, tt.want)
				}
			})
		})
	}
}
