package sessions_test

import (
	"context"
	"errors"
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
				slowCodecHook = func() {
					done := make(chan bool)
					go func() { verb(x); close(done) }()
					if name == "RegenerateID" { // Reset waits for the Save
						<-done
					}
				}
				if err := x.Save(context.Background()); err != nil {
					t.Error(err)
				}
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

func TestDestroyWithinAnUpdateThatIsRepeatedEndsTheSession(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 2 })
			b.do(func(x *session) {
				b.clone().do(func(y *session) { y.Update(func(d *AppSession) { d.N++ }) })
				x.Update(func(d *AppSession) {
					if d.N++; d.N > 3 { // too many tries
						x.Destroy()
					}
				})
			})
			if live := s.store.live(); len(live) != 0 || b.cookie() != "" {
				t.Errorf("got records %v and cookie %q, want neither", live, b.cookie())
			}
		})
	})
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

func TestSaveProvesThatAnUnchangedSessionIsAlive(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		b.do(func(s *session) { s.Data.N = 1 })
		overlap(b.clone(), func(s *session) {
			if err := s.Save(context.Background()); !errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("got %v, want ErrNotFound", err)
			}
		}, func() { b.do(func(s *session) { s.Destroy() }) })
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

func TestUpdateIsNotRepeatedOnASaveWhoseAnswerWasLost(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.Name = "Ada" })
		b.do(func(x *session) {
			s.store.hook(nil, func(op string, _ sessions.ID) error {
				if op == "Update" {
					s.store.hook(nil, nil)
					return errors.New("connection lost")
				}
				return nil
			})
			x.Update(func(d *AppSession) { d.N++ })
			x.Flash("info", "once")
			if err := x.Save(context.Background()); err == nil {
				t.Error("got no error from the Save")
			}
			x.Update(func(d *AppSession) { d.N += 10 })
		})
		b.do(func(s *session) {
			if f := s.Flashes(); s.Data.N != 11 || len(f) != 1 {
				t.Errorf("got N=%d and %v, want 11 and one message", s.Data.N, f)
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
			httptest.NewRecorder().Body.WriteString(sprint(s))
		}
		<-done
	})
}
