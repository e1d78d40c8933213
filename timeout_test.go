package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// A hangingStore answers the named operations only when their context ends.
type hangingStore struct {
	sessions.Store
	mu  sync.Mutex
	ops []string
}

func (h *hangingStore) hang(ops ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = ops
}

func (h *hangingStore) wait(ctx context.Context, op string) error {
	h.mu.Lock()
	hangs := slices.Contains(h.ops, op)
	h.mu.Unlock()
	if !hangs {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (h *hangingStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	if err := h.wait(ctx, "Load"); err != nil {
		return sessions.Record{}, err
	}
	return h.Store.Load(ctx, id)
}

func (h *hangingStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	if err := h.wait(ctx, "Create"); err != nil {
		return 0, err
	}
	return h.Store.Create(ctx, id, rec)
}

func (h *hangingStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	op := "Update"
	if isTombstone(rec) {
		op = "Replace"
	}
	if err := h.wait(ctx, op); err != nil {
		return 0, err
	}
	return h.Store.Update(ctx, id, rec)
}

func (h *hangingStore) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	if err := h.wait(ctx, "Touch"); err != nil {
		return err
	}
	return h.Store.Touch(ctx, id, expires)
}

func (h *hangingStore) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	if err := h.wait(ctx, "Delete"); err != nil {
		return err
	}
	return h.Store.Delete(ctx, id, version)
}

func TestStoreThatHangsIsGivenUpAfterFiveSeconds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ops    []string
		loaded bool // the request brings a cookie
		do     func(*session)
		status int
	}{
		{"at Load", []string{"Load"}, true, func(*session) { panic("the handler must not run") }, 503},
		{"at Create", []string{"Create"}, false, func(s *session) { s.Data.N = 2 }, 503},
		{"at everything from Create on", []string{"Create", "Delete"}, false, func(s *session) { s.Data.N = 2 }, 503},
		{"at Update", []string{"Update"}, true, func(s *session) { s.Data.N = 2 }, 503},
		{"at Delete", []string{"Delete"}, true, (*session).Destroy, 503},
		{"at the tombstone of RegenerateID", []string{"Replace"}, true, (*session).RegenerateID, 503},
		{"at Touch", []string{"Touch"}, true, func(*session) {}, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &hangingStore{Store: newPlainStore()}
				s := newSite(t, modes[2], func(c *config) { c.Store = h; c.IdleTimeout = time.Hour })
				b := s.browser()
				if tt.loaded {
					b.do(func(s *session) { s.Data.N = 1 })
				}
				time.Sleep(30 * time.Minute) // in the bubble; a Touch is due
				h.hang(tt.ops...)
				start := time.Now()
				res := b.do(tt.do)
				if got := time.Since(start); got < 5*time.Second || got > 5*time.Second {
					t.Errorf("got an answer after %v, want 5s", got)
				}
				if res.StatusCode != tt.status || len(res.setCookies()) > 0 {
					t.Errorf("got %d with %q, want %d without a cookie", res.StatusCode, res.setCookies(), tt.status)
				}
				if got := s.events.of(sessions.EventFailed); len(got) != 1 || !errors.Is(got[0].Err, context.DeadlineExceeded) {
					t.Errorf("got the events %v, want one that the time is over", got)
				}
			})
		})
	}
}

// A watchingStore shows the context of each Load to a test.
type watchingStore struct {
	sessions.Store
	watch func(context.Context) error // an error is the result
}

func (w *watchingStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	if err := w.watch(ctx); err != nil {
		return sessions.Record{}, err
	}
	return w.Store.Load(ctx, id)
}

func TestContextOfAnOperationIsAsContextsAre(t *testing.T) {
	type key struct{}
	end := func(ctx context.Context) error {
		time.Sleep(5 * time.Second) // in the bubble
		return ctx.Err()
	}
	wait := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	quit := func(ctx context.Context) error {
		ctx.Value(key{}).(func())()
		return ctx.Err()
	}
	for _, tt := range []struct {
		name  string
		watch func(context.Context) error
		after time.Duration
		want  error
	}{
		{"the deadline is told", func(ctx context.Context) error {
			if end, ok := ctx.Deadline(); !ok || time.Until(end) != 5*time.Second {
				t.Errorf("got the deadline %v, %v, want one in 5s", end, ok)
			}
			return ctx.Err()
		}, 0, nil},
		{"a store that prints it", func(ctx context.Context) error {
			printed := make(chan struct{})
			go func() {
				defer close(printed)
				_ = fmt.Sprintf("%v %+v", ctx, ctx)
			}()
			ctx.Done()
			<-printed
			return ctx.Err()
		}, 0, nil},
		{"a store that asks later", end, 5 * time.Second, context.DeadlineExceeded},
		{"a store that asks before and later", func(ctx context.Context) error {
			return errors.Join(ctx.Err(), end(ctx))
		}, 5 * time.Second, context.DeadlineExceeded},
		{"a store that waits", wait, 5 * time.Second, context.DeadlineExceeded},
		{"a derived context", func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			return wait(ctx)
		}, 5 * time.Second, context.DeadlineExceeded},
		{"a derived context with an earlier end", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return wait(ctx)
		}, time.Second, context.DeadlineExceeded},
		{"a function to be called at the end", func(ctx context.Context) error {
			called := make(chan struct{})
			context.AfterFunc(ctx, func() { close(called) })
			<-called
			return context.Cause(ctx)
		}, 5 * time.Second, context.DeadlineExceeded},
		{"the request is canceled", quit, 0, context.Canceled},
		{"the request is canceled while the store waits", func(ctx context.Context) error {
			go func() {
				time.Sleep(time.Second)
				_ = quit(ctx)
			}()
			return wait(ctx)
		}, time.Second, context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &watchingStore{Store: newPlainStore(), watch: func(context.Context) error { return nil }}
				s := newSite(t, modes[2], func(c *config) { c.Store = h })
				b := s.browser()
				b.do(func(s *session) { s.Data.N = 1 })
				var used context.Context
				var got error
				h.watch = func(ctx context.Context) error {
					used, got = ctx, tt.watch(ctx)
					return got
				}
				start := time.Now()
				b.send(func(http.ResponseWriter, *http.Request) {}, func(r *http.Request) {
					ctx, cancel := context.WithCancel(r.Context())
					*r = *r.WithContext(context.WithValue(ctx, key{}, func() { cancel() }))
				})
				if after := time.Since(start); !errors.Is(got, tt.want) || after != tt.after {
					t.Errorf("got %v after %v, want %v after %v", got, after, tt.want, tt.after)
				}
				time.Sleep(time.Minute)
				if err := used.Err(); err == nil || tt.want == nil && err != context.Canceled {
					t.Errorf("got %v from the context after the operation", err)
				}
				select {
				case <-used.Done():
				default:
					t.Error("the context goes on after the operation")
				}
			})
		})
	}
}

func TestSaveObeysItsContext(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ops    []string
		loaded bool
	}{
		{"at Update", []string{"Update"}, true},
		{"at Create", []string{"Create", "Delete"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &hangingStore{Store: newPlainStore()}
				s := newSite(t, modes[2], func(c *config) { c.Store = h })
				b := s.browser()
				if tt.loaded {
					b.do(func(s *session) { s.Data.N = 1 })
				}
				b.serve(func(w http.ResponseWriter, r *http.Request) {
					sess := sessions.Get[AppSession](r.Context())
					sess.Data.N = 2
					h.hang(tt.ops...)
					ctx, cancel := context.WithTimeout(r.Context(), 10*time.Millisecond)
					defer cancel()
					start := time.Now()
					err := sess.Save(ctx)
					if got := time.Since(start); got > 10*time.Millisecond || !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("got %v after %v, want the context's error after 10ms", err, got)
					}
					h.hang()
				})
				if data, _ := b.peek(); data.N != 2 {
					t.Errorf("got N=%d, want 2 by the commit that followed", data.N)
				}
			})
		})
	}
}

func TestFailedTouchIsTriedAndToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hangingStore{Store: newPlainStore()}
		s := newSite(t, modes[2], func(c *config) { c.Store = h; c.IdleTimeout = time.Hour })
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		time.Sleep(30 * time.Minute)
		h.hang("Touch")
		start := time.Now()
		res := b.serve(func(w http.ResponseWriter, r *http.Request) {
			sessions.Get[AppSession](r.Context())
			_, _ = io.WriteString(w, "page") // the commit; nothing is left to do at return
		})
		if got := time.Since(start); res.StatusCode != 200 || res.body != "page" || got != 5*time.Second {
			t.Errorf("got %d %q after %v, want the page after 5s", res.StatusCode, res.body, got)
		}
		if got := s.events.of(sessions.EventFailed); len(got) != 1 || !errors.Is(got[0].Err, context.DeadlineExceeded) {
			t.Errorf("got the events %v, want one failure", got)
		}
	})
}

func TestTimeoutHandlerOutsideIsSafe(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, tt := range []struct {
			name string
			do   func(*session)
			late bool
			n    int // in the next request, with a store
		}{
			{"with an edit", func(s *session) { s.Data.N = 2 }, false, 2},
			{"with a RegenerateID", func(s *session) { s.Data.N = 2; s.RegenerateID() }, true, 1},
		} {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t, m, nil)
					b := s.browser()
					b.do(func(s *session) { s.Data.N = 1 })
					done := make(chan struct{}, 1)
					next := s.handler
					s.handler = http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						defer func() { done <- struct{}{} }()
						next.ServeHTTP(w, r)
					}), time.Second, "timeout")
					res := b.serve(func(w http.ResponseWriter, r *http.Request) {
						sess := sessions.Get[AppSession](r.Context())
						<-r.Context().Done()
						tt.do(sess)
						_, _ = io.WriteString(w, "too late")
					})
					<-done
					if res.StatusCode != 503 || res.body != "timeout" || len(res.setCookies()) > 0 {
						t.Errorf("got %d %q with %q, want the timeout's answer", res.StatusCode, res.body, res.setCookies())
					}
					data, reason := b.peek()
					<-done
					want := 1
					if m.hasStore() {
						want = tt.n
					}
					if data.N != want || reason != sessions.ReasonNone {
						t.Errorf("got N=%d (%q), want %d in a live session", data.N, reason, want)
					}
					if late := len(s.events.of(sessions.EventLate)) > 0; tt.late && !late {
						t.Error("got no event for a RegenerateID that was not carried out")
					}
					if s.store != nil && len(s.store.live()) != 1 {
						t.Errorf("got %d records, want 1", len(s.store.live()))
					}
				})
			})
		}
	})
}

func TestTimeoutHandlerOutsideInTimeChangesNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		s.handler = http.TimeoutHandler(s.handler, time.Hour, "timeout")
		b := s.online(false)
		res := b.do(func(s *session) { s.Data.N = 7 })
		oneCookie(t, res.Header["Set-Cookie"])
		if data, _ := b.peek(); data.N != 7 {
			t.Errorf("got N=%d, want 7", data.N)
		}
	})
}

// A createContext shows the context of each Create to a test.
type createContext struct {
	sessions.Store
	watch func(context.Context)
}

func (c *createContext) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	c.watch(ctx)
	return c.Store.Create(ctx, id, rec)
}

// sharedLimits is how long a bubble has to sleep until commits share time limits: its
// clock begins in 2000.
const sharedLimits = 25 * 365 * 24 * time.Hour

// The commits of a Manager share time limits, so that none of them sets a timer.
func TestCommitsHaveAtMostFiveSecondsAndAlmostAsManyAtLeast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(sharedLimits)
		var ends []time.Duration
		s := newSite(t, modes[2], func(c *config) {
			c.Store = &createContext{newPlainStore(), func(ctx context.Context) {
				end, ok := ctx.Deadline()
				if !ok {
					t.Error("got no deadline")
				}
				ends = append(ends, time.Until(end))
			}}
		})
		for range 100 {
			s.browser().do(func(s *session) { s.Data.N = 1 })
			time.Sleep(70 * time.Millisecond)
		}
		if low, high := slices.Min(ends), slices.Max(ends); low < 4750*time.Millisecond || high != 5*time.Second {
			t.Errorf("got %v to %v, want 4.75s to 5s", low, high)
		}
	})
}

func TestContextOfACommitIsAsContextsAre(t *testing.T) {
	type key struct{}
	for name, watch := range map[string]func(ctx context.Context){
		"a store that waits": func(ctx context.Context) { <-ctx.Done() },
		"a derived context": func(ctx context.Context) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			<-ctx.Done()
		},
		"a function to be called at the end": func(ctx context.Context) {
			called := make(chan struct{})
			context.AfterFunc(ctx, func() { close(called) })
			<-called
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(sharedLimits)
				var got any
				var err error
				s := newSite(t, modes[2], func(c *config) {
					c.Store = &createContext{newPlainStore(), func(ctx context.Context) {
						got = ctx.Value(key{})
						watch(ctx)
						err = ctx.Err()
					}}
				})
				ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, 7))
				r := s.browser().request(func(_ http.ResponseWriter, r *http.Request) {
					sessions.Get[AppSession](r.Context()).Data.N = 1
					cancel(errors.New("the client has hung up"))
				}).WithContext(ctx)
				start := time.Now()
				s.handler.ServeHTTP(discardWriter{http.Header{}}, r)
				if after := time.Since(start); got != 7 || !errors.Is(err, context.DeadlineExceeded) || after != 5*time.Second {
					t.Errorf("got the value %v and %v after %v, want 7, and the deadline after 5s", got, err, after)
				}
			})
		})
	}
}

// A waitingStore waits for each Create as for a network, or until its context ends.
type waitingStore struct{ *plainStore }

func (w waitingStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(time.Millisecond):
	}
	return w.plainStore.Create(ctx, id, rec)
}

// A context of one bubble is fatal in another, so that another process shows it.
func TestAManagerMayBeUsedInSeveralBubbles(t *testing.T) {
	if os.Getenv("SEVERAL_BUBBLES") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAManagerMayBeUsedInSeveralBubbles$")
		cmd.Env = append(os.Environ(), "SEVERAL_BUBBLES=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %.200s", err, out)
		}
		return
	}
	s := newSite(t, mode{}, func(c *config) { c.Store = waitingStore{newPlainStore()} })
	sessions.NewSecret() // the entropy source of FIPS 140-3 cannot start in a bubble
	for range 2 {
		synctest.Test(t, func(t *testing.T) { s.browser().do(func(s *session) { s.Data.N = 1 }) })
	}
}

func TestAHundredThousandCommitsLeaveNothing(t *testing.T) {
	s := newSite(t, modes[2], nil)
	before := runtime.NumGoroutine()
	var m0, m1 runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m0)
	h := s.mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := sessions.Get[AppSession](r.Context())
		x.Data.N++
	}))
	b := s.browser()
	b.do(func(s *session) { s.Data.N = 1 })
	r := b.request(nil)
	for range 100_000 {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	runtime.GC()
	runtime.ReadMemStats(&m1)
	t.Logf("%d goroutines before, %d after; heap %d before, %d after", before, runtime.NumGoroutine(), m0.HeapAlloc, m1.HeapAlloc)
	if n := runtime.NumGoroutine(); n > before+100 { // earlier tests may still end some
		t.Errorf("got %d goroutines more", n-before)
	}
	if grown := int64(m1.HeapAlloc) - int64(m0.HeapAlloc); grown > 4<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
}
