package redisstore_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/redisstore"
)

// untracked returns a store with a local cache whose client gets no
// invalidations: an entry stays in the cache until the store itself drops it.
func untracked(t testing.TB, addr string, lifetime time.Duration) *redisstore.Store {
	client := connect(t, rueidis.ClientOption{
		InitAddress:           []string{addr},
		ClientTrackingOptions: []string{"BCAST", "PREFIX", "of another application"},
	})
	return redisstore.New(client, redisstore.Options{LocalCache: lifetime})
}

func TestLoadFromTheLocalCacheDoesNotAskRedis(t *testing.T) {
	server := testserver.Redis(t)
	direct := connectTo(t, server.Addr)
	store := redisstore.New(connectTo(t, server.Addr), redisstore.Options{LocalCache: time.Hour})
	version := create(t, store, idOf(1), recordOf("data", ""))
	for range 100 {
		loads(t, "again", store, idOf(1), version)
	}
	if got := calls(t, direct)["getrange"]; got != 1 {
		t.Errorf("100 loads sent %d GETRANGE, want 1", got)
	}
	if got := calls(t, direct)["get"]; got != 0 {
		t.Errorf("100 loads sent %d GET, want 0", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Load(ctx, idOf(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Load with a canceled context: got %v, want context.Canceled", err)
	}
}

func TestRedisInvalidatesTheLocalCacheOnAChange(t *testing.T) {
	server := testserver.Redis(t)
	here := redisstore.New(connectTo(t, server.Addr), redisstore.Options{LocalCache: time.Hour})
	there := redisstore.New(connectTo(t, server.Addr), redisstore.Options{})
	version := create(t, there, idOf(1), recordOf("data", ""))
	loads(t, "into the cache", here, idOf(1), version)
	version = update(t, there, idOf(1), version, recordOf("new", ""))
	eventually(t, "the cache still has the old record", func() bool {
		rec, err := here.Load(t.Context(), idOf(1))
		return err == nil && rec.Version == version
	})
	if err := there.Delete(t.Context(), idOf(1), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cache still has the deleted record", func() bool {
		_, err := here.Load(t.Context(), idOf(1))
		return errors.Is(err, sessions.ErrNotFound)
	})
}

func TestOwnChangesAreSeenAtOnceDespiteALocalCache(t *testing.T) {
	store := untracked(t, testserver.Redis(t).Addr, time.Hour)
	id := idOf(1)
	loads(t, "before", store, id, 0)
	version := create(t, store, id, recordOf("data", ""))
	loads(t, "after Create", store, id, version)
	version = update(t, store, id, version, recordOf("new", ""))
	loads(t, "after Update", store, id, version)
	later := time.Now().Add(2 * time.Hour).Truncate(time.Millisecond)
	if err := store.Touch(t.Context(), id, later); err != nil {
		t.Fatal(err)
	}
	if rec, err := store.Load(t.Context(), id); err != nil || !rec.Expires.Equal(later) {
		t.Errorf("Load after Touch: got %v, %v, want %v", rec.Expires, err, later)
	}
	if err := store.Delete(t.Context(), id, version); err != nil {
		t.Fatal(err)
	}
	loads(t, "after Delete", store, id, 0)
}

func TestLoadAsksRedisAfterAnOperationThatShowsTheLocalCacheIsStale(t *testing.T) {
	addr := testserver.Redis(t).Addr
	there := redisstore.New(connectTo(t, addr), redisstore.Options{})
	for i, tt := range []struct {
		name string
		gone bool // the record was deleted elsewhere, not only changed
		see  func(here *redisstore.Store, id sessions.ID, old uint64) error
		want error
	}{
		{"Update meets another version", false, func(here *redisstore.Store, id sessions.ID, old uint64) error {
			rec := recordOf("mine", "")
			rec.Version = old
			_, err := here.Update(t.Context(), id, rec)
			return err
		}, sessions.ErrConflict},
		{"Update meets nothing", true, func(here *redisstore.Store, id sessions.ID, old uint64) error {
			rec := recordOf("mine", "")
			rec.Version = old
			_, err := here.Update(t.Context(), id, rec)
			return err
		}, sessions.ErrNotFound},
		{"Delete meets another version", false, func(here *redisstore.Store, id sessions.ID, old uint64) error {
			return here.Delete(t.Context(), id, old)
		}, sessions.ErrConflict},
		{"Touch meets nothing", true, func(here *redisstore.Store, id sessions.ID, old uint64) error {
			return here.Touch(t.Context(), id, time.Now().Add(2*time.Hour))
		}, sessions.ErrNotFound},
		{"Owned lists it", false, func(here *redisstore.Store, id sessions.ID, old uint64) error {
			for _, err := range here.Owned(t.Context(), "ada") {
				return err
			}
			return sessions.ErrNotFound
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			here, id := untracked(t, addr, time.Hour), idOf(i)
			old := create(t, there, id, recordOf("data", ""))
			loads(t, "into the cache", here, id, old)
			version := update(t, there, id, old, recordOf("theirs", "ada"))
			if tt.gone {
				version = 0
				if err := there.Delete(t.Context(), id, 0); err != nil {
					t.Fatal(err)
				}
			}
			loads(t, "from the cache", here, id, old) // the cache must be stale for this test
			if err := tt.see(here, id, old); err != tt.want {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			loads(t, "after that", here, id, version)
			if err := there.Delete(t.Context(), id, 0); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestLocalCacheDoesNotHideWhatIsCreatedElsewhere(t *testing.T) {
	addr := testserver.Redis(t).Addr
	here := untracked(t, addr, time.Hour)
	there := redisstore.New(connectTo(t, addr), redisstore.Options{})
	loads(t, "before", here, idOf(1), 0)
	version := create(t, there, idOf(1), recordOf("data", ""))
	loads(t, "after Create", here, idOf(1), version)
}

func TestHundredParallelUpdatesAllCountWithTwoLocalCaches(t *testing.T) {
	addr := testserver.Redis(t).Addr
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	type counter struct{ N int }
	var handlers [2]http.Handler
	for i := range handlers {
		mgr, err := sessions.New(sessions.Config[counter]{Keys: keys, Store: untracked(t, addr, time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		handlers[i] = mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sessions.Get[counter](r.Context()).Update(func(c *counter) { c.N++ })
		}))
	}
	request := func(i int, cookies []*http.Cookie) *http.Response {
		r := httptest.NewRequest("GET", "https://example.com/", nil)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		w := httptest.NewRecorder()
		handlers[i%2].ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Errorf("got status %d", w.Code)
		}
		return w.Result()
	}
	cookies := request(0, nil).Cookies()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() { request(i, cookies) })
	}
	wg.Wait()
	mgr, err := sessions.New(sessions.Config[counter]{Keys: keys, Store: redisstore.New(connectTo(t, addr), redisstore.Options{})})
	if err != nil {
		t.Fatal(err)
	}
	if got := dataOf(t, mgr, cookies); got.N != 101 {
		t.Errorf("got N=%d, want 101", got.N)
	}
}

// dataOf returns what the session of the cookies holds.
func dataOf[T any](t *testing.T, mgr *sessions.Manager[T], cookies []*http.Cookie) (data T) {
	r := httptest.NewRequest("GET", "https://example.com/", nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data = sessions.Get[T](r.Context()).Data
	})).ServeHTTP(httptest.NewRecorder(), r)
	return data
}

func TestLocalCacheDropsARecordInTime(t *testing.T) {
	addr := testserver.Redis(t).Addr
	there := redisstore.New(connectTo(t, addr), redisstore.Options{})
	t.Run("after LocalCache", func(t *testing.T) {
		here := untracked(t, addr, 50*time.Millisecond)
		version := create(t, there, idOf(1), recordOf("data", ""))
		loads(t, "into the cache", here, idOf(1), version)
		version = update(t, there, idOf(1), version, recordOf("new", ""))
		eventually(t, "the change is never seen", func() bool {
			rec, err := here.Load(t.Context(), idOf(1))
			return err == nil && rec.Version == version
		})
	})
	t.Run("a record that was touched elsewhere is live after its cached expiry", func(t *testing.T) {
		here := untracked(t, addr, time.Hour)
		rec := recordOf("data", "")
		rec.Expires = time.Now().Add(300 * time.Millisecond).Truncate(time.Millisecond)
		version := create(t, there, idOf(3), rec)
		loads(t, "into the cache", here, idOf(3), version)
		if err := there.Touch(t.Context(), idOf(3), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		for time.Now().Before(rec.Expires.Add(50 * time.Millisecond)) {
			loads(t, "around the first expiry", here, idOf(3), version)
		}
	})
	t.Run("when the record expires", func(t *testing.T) {
		here := untracked(t, addr, time.Hour)
		rec := recordOf("data", "")
		rec.Expires = time.Now().Add(300 * time.Millisecond).Truncate(time.Millisecond)
		create(t, there, idOf(2), rec)
		for {
			_, err := here.Load(t.Context(), idOf(2))
			if errors.Is(err, sessions.ErrNotFound) && time.Now().After(rec.Expires) {
				return
			}
			if err != nil {
				t.Fatalf("Load %v before the expiry: %v", time.Until(rec.Expires), err)
			}
			if late := time.Since(rec.Expires); late > 10*time.Second {
				t.Fatalf("Load still returns the record %v after its expiry", late)
			}
		}
	})
}

func TestLoadSurvivesTheCancellationOfAnotherThatItWaitedFor(t *testing.T) {
	server := testserver.Redis(t)
	p := newProxy(t, server.Addr)
	store := redisstore.New(connect(t, rueidis.ClientOption{InitAddress: []string{p.addr}, PipelineMultiplex: -1}), redisstore.Options{LocalCache: time.Hour})
	version := create(t, store, idOf(1), recordOf("data", ""))

	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	hold := func([]byte) bool {
		once.Do(func() { close(held) })
		<-release
		return true
	}
	p.answers.Store(&hold)
	first, cancel := context.WithCancel(t.Context())
	var one, other sync.WaitGroup
	one.Go(func() {
		if _, err := store.Load(first, idOf(1)); !errors.Is(err, context.Canceled) {
			t.Errorf("the canceled Load: got %v, want context.Canceled", err)
		}
	})
	<-held
	for range 8 {
		other.Go(func() { loads(t, "that waited for another", store, idOf(1), version) })
	}
	cancel()
	one.Wait()
	close(release)
	other.Wait()
}

func TestLoadNewestSeesPastTheLocalCache(t *testing.T) {
	addr := testserver.Redis(t).Addr
	there := redisstore.New(connectTo(t, addr), redisstore.Options{})
	here := untracked(t, addr, time.Hour)
	old := create(t, there, idOf(1), recordOf("data", ""))
	loads(t, "into the cache", here, idOf(1), old)
	rec := recordOf("theirs", "ada")
	rec.Labels = []string{"tenant:a"}
	version := update(t, there, idOf(1), old, rec)
	loads(t, "from the cache", here, idOf(1), old) // the cache must be stale for this test

	got, err := here.LoadNewest(t.Context(), idOf(1))
	if err != nil || got.Version != version || string(got.Data) != "theirs" || got.Owner != "ada" || len(got.Labels) != 1 {
		t.Errorf("LoadNewest: got %v with %q of %q, %v, want the record as it is", got, got.Labels, got.Owner, err)
	}
	loads(t, "after LoadNewest", here, idOf(1), version) // never an older one than before

	if err := there.Delete(t.Context(), idOf(1), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := here.LoadNewest(t.Context(), idOf(1)); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("LoadNewest of a deleted record: got %v, want ErrNotFound", err)
	}
	loads(t, "after LoadNewest found nothing", here, idOf(1), 0)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := here.LoadNewest(ctx, idOf(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("LoadNewest with a canceled context: got %v, want context.Canceled", err)
	}
}
