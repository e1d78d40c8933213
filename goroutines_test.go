package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/vmihailenco/msgpack/v5"
)

// What several goroutines of one request do to its session, and what the
// application's code does to it from within a commit. A request that would hang
// is a deadlock of the bubble that it runs in.

var slowCodecHook func()

// A slowCodec runs the hook while it is encoded, once.
type slowCodec struct{}

func (slowCodec) EncodeMsgpack(e *msgpack.Encoder) error {
	if hook := slowCodecHook; hook != nil {
		slowCodecHook = nil
		hook()
	}
	return e.EncodeBool(true)
}

func (*slowCodec) DecodeMsgpack(d *msgpack.Decoder) error {
	_, err := d.DecodeBool()
	return err
}

type slowSession struct {
	N    int
	Slow slowCodec
}

func TestRegenerateIDWhileASaveReadsDataIsAllOrNothing(t *testing.T) {
	for name, verb := range map[string]func(*sessions.Session[slowSession]){
		"RegenerateID": (*sessions.Session[slowSession]).RegenerateID,
		"Reset":        func(s *sessions.Session[slowSession]) { s.Reset(); s.Flash("info", "x") },
	} {
		t.Run(name, func(t *testing.T) {
			store := newHookStore(new(sessions.MemoryStore))
			s := newTypedSite(t, sessions.Config[slowSession]{Store: store.asStore()})
			s.set(slowSession{N: 1})
			res := s.do(func(x *sessions.Session[slowSession]) {
				x.SetLifetime(time.Hour)
				done := make(chan bool)
				slowCodecHook = func() {
					go func() { verb(x); close(done) }()
					if name == "RegenerateID" { // Reset waits for the Save
						<-done
					}
				}
				if err := x.Save(context.Background()); err != nil {
					t.Error(err)
				}
				<-done
			})
			if res.StatusCode != http.StatusOK || len(store.live()) != 1 {
				t.Errorf("got %d and %d records, want one", res.StatusCode, len(store.live()))
			}
			if got, reason := s.get(); reason != sessions.ReasonNone || name == "RegenerateID" && got.N != 1 {
				t.Errorf("got %+v (%q), want the session", got, reason)
			}
		})
	}
}

func TestSaveBesideAWriteDoesNotTouchTheHeader(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		b.serve(func(w http.ResponseWriter, r *http.Request) {
			x := sessions.Get[AppSession](r.Context())
			begun, done := make(chan bool), make(chan bool)
			go func() {
				defer close(done)
				for i := range 50 {
					x.RegenerateID()
					_ = x.Save(context.Background())
					if i == 0 {
						close(begun)
					}
				}
			}()
			<-begun
			for range 50 {
				w.Header().Set("X-Own", "1")
			}
			_, _ = io.WriteString(w, "x")
			<-done
		})
		if live := s.store.live(); len(live) != 1 {
			t.Errorf("got %d records, want 1", len(live))
		}
		if _, reason := b.peek(); reason != sessions.ReasonNone {
			t.Errorf("got %q, want the session", reason)
		}
	})
}

func TestPanicWithinACommitPassesThroughAndLeavesNothingLocked(t *testing.T) {
	for name, fail := range map[string]func(){
		"panic": func() { panic("driver") },
		"exit":  runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t, m, nil)
					b := s.browser()
					b.do(func(s *session) { s.Data.N = 2 })
					s.store.hook(func(op string, _ sessions.ID) error {
						if op == "Update" {
							fail()
						}
						return nil
					}, nil)
					ended := make(chan bool)
					go func() {
						defer close(ended)
						defer func() { _ = recover() }()
						b.serve(func(w http.ResponseWriter, r *http.Request) {
							sessions.Get[AppSession](r.Context()).Data.N = 3
							_, _ = io.WriteString(w, "x")
						})
					}()
					<-ended
					s.store.hook(nil, nil)
					if d, _ := b.peek(); d.N != 2 {
						t.Errorf("got N=%d, want what was stored", d.N)
					}
				})
			})
		})
	}
}

func TestVerbsOfAGoroutineDuringTheLastCommitAreStoredOrReported(t *testing.T) {
	for name, tt := range map[string]struct {
		verb func(*session)
		kept func(AppSession, sessions.Reason) bool
	}{
		"Flash":   {func(s *session) { s.Flash("info", "late") }, nil},
		"Update":  {func(s *session) { s.Update(func(d *AppSession) { d.Name = "late" }) }, func(d AppSession, _ sessions.Reason) bool { return d.Name == "late" }},
		"Destroy": {func(s *session) { s.Destroy() }, func(_ AppSession, r sessions.Reason) bool { return r != sessions.ReasonNone }},
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t, m, nil)
					b := s.browser()
					b.do(func(s *session) { s.Data.N = 2 })
					var x *session
					s.store.hook(func(op string, _ sessions.ID) error {
						if op == "Update" {
							s.store.hook(nil, nil)
							go tt.verb(x)
							time.Sleep(time.Millisecond) // it has begun, or waits
						}
						return nil
					}, nil)
					b.do(func(y *session) { x = y; y.Data.N = 3 })
					synctest.Wait()
					told := len(s.events.of(sessions.EventLate)) > 0
					d, reason := b.peek()
					kept := tt.kept != nil && tt.kept(d, reason)
					if tt.kept == nil {
						b.do(func(s *session) { kept = len(s.Flashes()) == 1 })
					}
					if told == kept {
						t.Errorf("got stored %t and reported %t, want one of them", kept, told)
					}
				})
			})
		})
	}
}

func TestSaveGivesUpWithItsContextWhileAnUpdateRuns(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			b := newSite(t, m, nil).browser()
			b.do(func(s *session) { s.Data.N = 1 })
			b.do(func(s *session) {
				running, done := make(chan bool), make(chan bool)
				go func() {
					s.Update(func(d *AppSession) { close(running); time.Sleep(time.Minute) })
					close(done)
				}()
				<-running
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				start := time.Now()
				if err := s.Save(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
					t.Errorf("got %v after %v, want the context's error after 1s", err, time.Since(start))
				}
				<-done
			})
		})
	})
}

func TestSaveInsideAnUpdateGivesUpAfterFiveSeconds(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			b := newSite(t, m, nil).browser()
			b.do(func(s *session) {
				start := time.Now()
				s.Update(func(*AppSession) {
					if err := s.Save(context.Background()); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
						t.Errorf("got %v after %v, want the end of its time after 5s", err, time.Since(start))
					}
				})
			})
		})
	})
}

func TestSaveAfterTheRequestsDeadlineDoesNotMoveTheSession(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 2 })
			inner, done := s.handler, make(chan bool)
			s.handler = http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(done)
				inner.ServeHTTP(w, r)
			}), time.Second, "late")
			res := b.do(func(x *session) {
				x.RegenerateID()
				time.Sleep(2 * time.Second)
				if err := x.Save(context.Background()); !errors.Is(err, sessions.ErrTooLate) {
					t.Errorf("got %v, want ErrTooLate", err)
				}
			})
			<-done
			s.handler = inner
			if res.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("got %d, want TimeoutHandler's answer", res.StatusCode)
			}
			if _, reason := b.peek(); reason != sessions.ReasonNone {
				t.Errorf("got %q, want the visitor still signed in", reason)
			}
		})
	})
}

func TestDestroyInErrorHandlerIsCarriedOut(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, func(c *config) {
			c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, _ error) {
				sessions.Get[AppSession](r.Context()).Destroy()
				http.Error(w, "bad", http.StatusInternalServerError)
			}
		})
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 2 })
		b.do(func(s *session) { s.Data.Role = "bogus" })
		if live := s.store.live(); len(live) != 0 {
			t.Errorf("got %d records, want none", len(live))
		}
	})
}

func TestPrintingASessionReadsNoData(t *testing.T) {
	// Under the race detector: fmt must not copy Data while an Update edits it.
	b := newSite(t, modes[0], nil).browser()
	b.do(func(s *session) {
		done := make(chan bool)
		go func() {
			defer close(done)
			for range 100 {
				s.Update(func(d *AppSession) { d.N++ })
			}
		}()
		for range 100 {
			_ = s.LogValue()
			_, _ = s.MarshalText()
			httptest.NewRecorder().Body.WriteString(fmt.Sprint(s))
		}
		<-done
	})
}

// failing returns a hook that fails the nth operation of a kind.
func failing(op string, nth int) func(string, sessions.ID) error {
	n := 0
	return func(o string, _ sessions.ID) error {
		if o == op {
			if n++; n == nth {
				return errLost
			}
		}
		return nil
	}
}

func TestDestroyDuringACommitInCookieMode(t *testing.T) {
	for name, verb := range map[string]func(*session){"Destroy": (*session).Destroy, "Reset": (*session).Reset} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var x *session
				during := false
				s := newSite(t, modes[0], func(c *config) {
					c.Validate = func(*AppSession) error {
						if during {
							during = false
							go verb(x)
							time.Sleep(time.Millisecond)
						}
						return nil
					}
				})
				b := s.browser()
				b.do(func(s *session) { s.Data.UserID = 42 })
				b.do(func(y *session) { x, during = y, true; x.Data.N = 2 })
				synctest.Wait()
				if d, _ := b.peek(); d.UserID != 0 {
					t.Errorf("got user %d, want the visitor signed out", d.UserID)
				}
			})
		})
	}
}

func TestResetIsNotOvertakenByACommit(t *testing.T) {
	for _, m := range []mode{modes[0], modes[3]} {
		t.Run(m.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slow := false
				s := newSite(t, m, func(c *config) {
					c.Validate = func(*AppSession) error {
						if slow {
							slow = false
							time.Sleep(time.Second)
						}
						return nil
					}
				})
				b := s.browser()
				b.do(func(s *session) { s.Data.UserID = 7 })
				b.serve(func(w http.ResponseWriter, r *http.Request) {
					x := sessions.Get[AppSession](r.Context())
					x.Data.N, slow = 1, true
					go func() { _ = x.Save(context.Background()) }()
					time.Sleep(time.Millisecond)
					go func() { time.Sleep(time.Millisecond); x.Reset() }()
					_, _ = io.WriteString(w, "x") // waits for the Save, as Reset does
				})
				synctest.Wait()
				if d, _ := b.peek(); d.UserID != 0 {
					t.Errorf("got user %d, want the visitor signed out", d.UserID)
				}
			})
		})
	}
}

// A curiousStore asks for the session while it loads it, as a driver's log does.
type curiousStore struct{ sessions.Store }

func (c curiousStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	if s, ok := sessions.Lookup[AppSession](ctx); ok {
		_ = s.ID()
	}
	return c.Store.Load(ctx, id)
}

func TestStoreThatAsksForTheSessionOfItsContext(t *testing.T) {
	s := newSite(t, modes[3], func(c *config) { c.Store = curiousStore{c.Store} })
	b := s.browser()
	b.do(func(s *session) { s.Data.N = 5 })
	if d, reason := b.peek(); d.N != 5 {
		t.Errorf("got N=%d (%q), want 5", d.N, reason)
	}
}

func TestVerbsThatNeverStopAreReported(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		var x *session
		n := 0
		s.store.hook(nil, func(op string, _ sessions.ID) error {
			if op == "Update" {
				n++
				x.Flash("info", fmt.Sprint(n))
			}
			return nil
		})
		b.do(func(y *session) { x = y; x.Data.N = 2 })
		if n := len(s.events.of(sessions.EventLate)); n != 1 {
			t.Errorf("got %d late events, want 1 for the last message", n)
		}
	})
}

type (
	codecBase struct{ A int }
	lostField struct {
		codecBase
		Count int
	}
)

func (b codecBase) EncodeMsgpack(e *msgpack.Encoder) error { return e.EncodeInt(int64(b.A)) }
func (b *codecBase) DecodeMsgpack(d *msgpack.Decoder) (err error) {
	b.A, err = d.DecodeInt()
	return err
}

func TestCodecPromotedFromAnUnexportedFieldIsRefused(t *testing.T) {
	type holder struct{ F lostField }
	refused(t, newOf[holder](t), "holder.F", "Count")
}

func TestFirstGetsAfterTheHeadersHaveLeftAreAllTooLate(t *testing.T) {
	b := newSite(t, modes[0], nil).browser()
	alone := runtime.GOMAXPROCS(0) == 1
	for range 5000 {
		b.serve(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNoContent)
			late := make(chan error)
			go func() {
				for !sessions.Opened(r.Context()) { // as fast as can be: the gap is of some nanoseconds
					if alone {
						runtime.Gosched()
					}
				}
				x := sessions.Get[AppSession](r.Context())
				x.SetLifetime(time.Hour)
				late <- x.Save(r.Context())
			}()
			for range 20 {
				runtime.Gosched()
			}
			sessions.Get[AppSession](r.Context())
			if err := <-late; !errors.Is(err, sessions.ErrTooLate) {
				t.Errorf("got %v from Save, want ErrTooLate for the SetLifetime", err)
			}
		})
	}
}

func TestVerbThatRacesWithTheEndIsSentOrReported(t *testing.T) {
	for name, verb := range map[string]func(*session){
		"Flash":        func(x *session) { x.Flash("info", "x") },
		"Update":       func(x *session) { x.Update(func(d *AppSession) { d.N++ }) },
		"RegenerateID": (*session).RegenerateID,
		"SetLifetime":  func(x *session) { x.SetLifetime(time.Hour) },
		"Destroy":      (*session).Destroy,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, modes[0], nil)
			cookie := "__Host-Http-session=" + storedCookie(s, 7)
			for i := range 4000 {
				s.events.reset()
				done := make(chan struct{})
				res := cookieHeader(s, func(x *session) {
					go func() {
						defer close(done)
						for range i % 40 {
							runtime.Gosched()
						}
						verb(x)
					}()
					for range i % 7 {
						runtime.Gosched()
					}
				}, cookie)
				<-done
				if len(res.Header["Set-Cookie"]) == 0 && len(s.events.of(sessions.EventLate)) == 0 {
					t.Fatal("it is lost without a word")
				}
			}
		})
	}
}
