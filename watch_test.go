package sessions_test

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// watched runs a request that watches its session and lets the test go on, in
// a bubble. It returns when the context of Watch has ended.
func watched(t *testing.T, s *site, b *browser, meanwhile func(x *session, ctx context.Context)) (after time.Duration, cause error) {
	t.Helper()
	b.do(func(x *session) {
		ctx, cancel := x.Watch(bg)
		defer cancel()
		began := time.Now()
		synctest.Wait()
		meanwhile(x, ctx)
		select {
		case <-ctx.Done():
		case <-time.After(30 * 24 * time.Hour):
			t.Fatal("the context has not ended")
		}
		cause, after = context.Cause(ctx), time.Since(began)
	})
	return after, cause
}

func TestAWatchedSessionEndsWhereverItEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		ends func(s *site, other *browser, x *session)
		says string // the cause, where this process knows it
		here bool   // also without a store
	}{
		{"Destroy in another request", func(_ *site, other *browser, _ *session) { other.do((*session).Destroy) }, "destroyed", true},
		{"Reset in another request", func(_ *site, other *browser, _ *session) { other.do((*session).Reset) }, "reset", true},
		{"RegenerateID in another request", func(_ *site, other *browser, _ *session) { other.do((*session).RegenerateID) }, "new id", true},
		{"RotateID in another request", func(_ *site, other *browser, _ *session) { other.do((*session).RotateID) }, "new id", true},
		{"SetLifetime below zero", func(_ *site, other *browser, _ *session) {
			other.do(func(x *session) { x.SetLifetime(-1) })
		}, "expired", true},
		{"nothing that is left in it", func(_ *site, other *browser, _ *session) { other.do(func(x *session) { x.Data = AppSession{} }) }, "spent", true},
		{"Revoke", func(s *site, _ *browser, x *session) { _ = s.mgr.Revoke(bg, x.ID()) }, "", false},
		{"a process that this one knows nothing of", func(s *site, _ *browser, x *session) {
			for _, id := range s.store.live() {
				_ = s.store.Delete(bg, id, 0)
			}
		}, "elsewhere", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			each := eachStore
			if tt.here {
				each = eachMode
			}
			each(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t, m, nil)
					b := s.browser()
					b.do(func(x *session) { x.Data.N = 1 })
					other := b.clone()
					after, cause := watched(t, s, b, func(x *session, ctx context.Context) {
						if ctx.Err() != nil {
							t.Fatalf("it ended before: %v", context.Cause(ctx))
						}
						tt.ends(s, other, x)
					})
					if !errors.Is(cause, sessions.ErrNotFound) || !strings.Contains(cause.Error(), tt.says) {
						t.Errorf("got the cause %v, want ErrNotFound and %q", cause, tt.says)
					}
					if after > 10*time.Second {
						t.Errorf("it took %v, want some five seconds at most", after)
					}
				})
			})
		})
	}
}

func TestAWatchedSessionThatNobodyUsesEndsByItsIdleTimeout(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, func(c *config) { c.IdleTimeout = 15 * time.Minute })
			b := s.browser()
			b.do(func(x *session) { x.Data.N = 1 })
			after, cause := watched(t, s, b, func(x *session, ctx context.Context) {
				for range 8 { // asking is no use
					time.Sleep(time.Minute)
					if err := errors.Join(x.Save(bg), x.Reload(bg)); err != nil {
						t.Fatal(err)
					}
				}
			})
			if !errors.Is(cause, sessions.ErrNotFound) || after > 15*time.Minute+10*time.Second || after < 14*time.Minute {
				t.Errorf("got %v after %v, want the idle end after 15 minutes", cause, after)
			}
		})
	})
}

func TestAWatchedSessionThatIsUsedLivesOn(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, func(c *config) { c.IdleTimeout = 15 * time.Minute })
			b := s.browser()
			b.do(func(x *session) { x.Data.N = 1 })
			other := b.clone()
			after, _ := watched(t, s, b, func(_ *session, ctx context.Context) {
				for range 12 {
					time.Sleep(10 * time.Minute)
					other.peek()
					if ctx.Err() != nil {
						t.Fatalf("it ended though it was used: %v", context.Cause(ctx))
					}
				}
			})
			if after < 2*time.Hour+14*time.Minute || after > 2*time.Hour+16*time.Minute {
				t.Errorf("it ended after %v, want 15 minutes after the last use", after)
			}
		})
	})
}

func TestAWatchFollowsItsOwnRequest(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			_, cause := watched(t, s, b, func(x *session, ctx context.Context) {
				for _, verb := range []func(){func() {}, x.RegenerateID, x.RotateID} {
					verb()
					x.Data.N++
					if err := x.Save(bg); err != nil { // stored only now, or moved
						t.Fatal(err)
					}
					time.Sleep(time.Minute)
					if ctx.Err() != nil {
						t.Fatalf("it ended though its own request has stored it: %v", context.Cause(ctx))
					}
				}
				if err := s.mgr.Revoke(bg, x.ID()); err != nil {
					t.Fatal(err)
				}
			})
			if !errors.Is(cause, sessions.ErrNotFound) {
				t.Errorf("got %v, want ErrNotFound", cause)
			}
		})
	})
}

func TestAStoreThatFailsEndsNoWatchedSession(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			b.do(func(x *session) { x.Data.N = 1 })
			after, cause := watched(t, s, b, func(x *session, ctx context.Context) {
				s.store.hook(func(string, sessions.ID) error { return errors.New("down") }, nil)
				time.Sleep(10 * time.Minute)
				if ctx.Err() != nil {
					t.Fatalf("it ended while the store was down: %v", context.Cause(ctx))
				}
				s.store.hook(nil, nil)
				_ = s.store.Store.Delete(bg, s.store.live()[0], 0)
			})
			if !errors.Is(cause, sessions.ErrNotFound) || after > 10*time.Minute+15*time.Second {
				t.Errorf("got %v after %v, want the end within ten seconds after the store is back", cause, after)
			}
		})
	})
}

func TestAWatchOutlivesItsHandlerAndNotItsContext(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			outer, end := context.WithCancel(bg)
			var watch context.Context
			b.serve(func(_ http.ResponseWriter, r *http.Request) {
				x := sessions.Get[AppSession](r.Context())
				x.Data.N = 1
				watch, _ = x.Watch(outer)
			})
			time.Sleep(time.Minute)
			if watch.Err() != nil {
				t.Errorf("it ended with the handler: %v", context.Cause(watch))
			}
			end()
			synctest.Wait()
			if watch.Err() == nil {
				t.Error("it outlives the context that it was given")
			}
		})
	})
}

// A manyStore loads many records by one command.
type manyStore struct {
	*plainStore
	mu    sync.Mutex
	down  bool
	asked []int // the ids of each LoadMany
}

func (m *manyStore) LoadMany(ctx context.Context, ids []sessions.ID) (map[sessions.ID]sessions.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, len(ids))
	if m.down {
		return nil, errors.New("down")
	}
	found := map[sessions.ID]sessions.Record{}
	for _, id := range ids {
		if rec, err := m.Load(ctx, id); err == nil {
			found[id] = rec
		}
	}
	return found, nil
}

func TestWatchAsksForManySessionsAtOnceWhereTheStoreCan(t *testing.T) {
	const watched = 2000
	synctest.Test(t, func(t *testing.T) {
		store := &manyStore{plainStore: newPlainStore()}
		s := newSite(t, mode{}, func(c *config) { c.Store = store })
		ctxs, ids := map[*browser]context.Context{}, map[*browser]sessions.ID{}
		for range watched {
			b := s.browser()
			b.do(func(x *session) { x.Data.N = 1 })
			b.do(func(x *session) {
				ctx, cancel := x.Watch(bg)
				t.Cleanup(cancel)
				ctxs[b] = ctx
				id, _ := hex.DecodeString(x.ID())
				ids[b] = sessions.ID(id)
			})
		}
		time.Sleep(time.Minute)
		store.mu.Lock()
		store.asked = nil
		store.mu.Unlock()
		time.Sleep(time.Minute)
		store.mu.Lock()
		calls, asked := len(store.asked), 0
		for _, n := range store.asked {
			asked += n
		}
		store.down = true
		store.mu.Unlock()
		if calls > 5*60 || asked < watched*11 || asked > watched*13 {
			t.Errorf("got %d calls for %d ids in a minute, want at most five a second, and each id twelve times", calls, asked)
		}
		time.Sleep(time.Minute)
		gone := map[*browser]bool{}
		for b, ctx := range ctxs {
			if ctx.Err() != nil {
				t.Fatalf("a session ended while the store was down: %v", context.Cause(ctx))
			}
			if len(gone) < watched/2 {
				gone[b] = true
				if err := store.Delete(bg, ids[b], 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		store.mu.Lock()
		store.down = false
		store.mu.Unlock()
		time.Sleep(15 * time.Second)
		for b, ctx := range ctxs {
			if (ctx.Err() != nil) != gone[b] {
				t.Fatalf("got the end %v of a session that is gone: %v", context.Cause(ctx), gone[b])
			}
		}
	})
}

// A poisonedStore cannot load one record, and so none of a LoadMany with it.
type poisonedStore struct {
	*manyStore
	poison string
}

func (p *poisonedStore) LoadMany(ctx context.Context, ids []sessions.ID) (map[sessions.ID]sessions.Record, error) {
	p.mu.Lock()
	poison := p.poison
	p.mu.Unlock()
	for _, id := range ids {
		if id.String() == poison {
			return nil, errors.New("column data is damaged")
		}
	}
	return p.manyStore.LoadMany(ctx, ids)
}

func TestOneRecordThatCannotBeLoadedDoesNotHideTheEndsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &poisonedStore{manyStore: &manyStore{plainStore: newPlainStore()}}
		s := newSite(t, mode{}, func(c *config) { c.Store = store })
		ctxs, ids := map[string]context.Context{}, []string{}
		for range 1000 {
			b := s.browser()
			b.do(func(x *session) { x.Data.N = 1 })
			b.do(func(x *session) {
				ctx, cancel := x.Watch(bg)
				t.Cleanup(cancel)
				ctxs[x.ID()] = ctx
				ids = append(ids, x.ID())
			})
		}
		store.mu.Lock()
		store.poison = ids[0]
		store.mu.Unlock()
		time.Sleep(time.Minute)
		for _, id := range ids[1:] {
			raw, _ := hex.DecodeString(id)
			if err := store.Delete(bg, sessions.ID(raw), 0); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Minute)
		open := 0
		for _, id := range ids[1:] {
			if ctxs[id].Err() == nil {
				open++
			}
		}
		if open > 0 {
			t.Errorf("%d of 999 sessions that are gone for ten minutes have not ended", open)
		}
	})
}

// A tenantStore keeps the records of a tenant under ids of its own. It is written by
// the methods of Store, around one that can do more than that.
type tenantStore struct{ *manyStore }

func tenantID(id sessions.ID) sessions.ID { id[31] ^= 0xff; return id }

func (s tenantStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	return s.manyStore.Load(ctx, tenantID(id))
}

func (s tenantStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	return s.manyStore.Create(ctx, tenantID(id), rec)
}

func (s tenantStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	return s.manyStore.Update(ctx, tenantID(id), rec)
}

func (s tenantStore) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	return s.manyStore.Touch(ctx, tenantID(id), expires)
}

func (s tenantStore) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	return s.manyStore.Delete(ctx, tenantID(id), version)
}

// A type that embeds a store has its LoadMany without knowing.
func TestASessionThatLoadFindsHasNotEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := tenantStore{&manyStore{plainStore: newPlainStore()}}
		s := newSite(t, mode{}, func(c *config) { c.Store = store })
		b := s.browser()
		b.do(func(x *session) { x.Data.N = 1 })
		var watch context.Context
		b.do(func(x *session) {
			var cancel context.CancelFunc
			watch, cancel = x.Watch(bg)
			t.Cleanup(cancel)
		})
		time.Sleep(time.Minute)
		if d, _ := b.peek(); d.N == 1 && watch.Err() != nil {
			t.Errorf("the session lives, and Watch says: %v", context.Cause(watch))
		}
	})
}
