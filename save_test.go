package sessions_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

func TestASaveOfAnUnchangedSessionAsksAndWritesNothing(t *testing.T) {
	for _, late := range []bool{false, true} { // after the headers
		eachStore(t, func(t *testing.T, m mode) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, m, func(c *config) { c.IdleTimeout = time.Hour })
				b := s.browser()
				b.do(func(s *session) { s.Data = AppSession{N: 1, Local: "x"} })
				time.Sleep(10 * time.Minute) // its use is to be noted
				b.serve(func(w http.ResponseWriter, r *http.Request) {
					x := sessions.Get[AppSession](r.Context())
					if late {
						w.WriteHeader(200)
					}
					x.Data.Local = "of this request"
					s.store.resetCounts()
					for range 3 {
						if err := x.Save(r.Context()); err != nil {
							t.Error(err)
						}
					}
					if loads, all := s.store.count("Load"), len(s.store.counts); loads != 3 || all != 1 {
						t.Errorf("late=%t: got the operations %v, want three Loads", late, s.store.counts)
					}
					if x.Data.N != 1 || x.Data.Local != "of this request" {
						t.Errorf("got %+v, want Data left", x.Data)
					}
				})
			})
		})
	}
}

// A stream that calls Save to notice its end, with nobody before the screen.
func TestAStreamThatSavesDoesNotKeepAnIdleSessionAlive(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, func(c *config) { c.IdleTimeout = 15 * time.Minute })
			b := s.browser()
			b.do(func(s *session) { s.Data.UserID = 42 })
			began := time.Now()
			b.serve(func(w http.ResponseWriter, r *http.Request) {
				x := sessions.Get[AppSession](r.Context())
				_, _ = w.Write([]byte("begins"))
				for {
					time.Sleep(time.Minute)
					err := x.Save(r.Context())
					if errors.Is(err, sessions.ErrNotFound) {
						break
					}
					if err != nil || time.Since(began) > time.Hour {
						t.Errorf("got %v after %v, want ErrNotFound once it was idle", err, time.Since(began))
						break
					}
				}
			})
			if took := time.Since(began); took < 14*time.Minute || took > 16*time.Minute {
				t.Errorf("the stream ended after %v, want 15m", took)
			}
			if d, _ := b.peek(); d.UserID != 0 {
				t.Errorf("got user %d, want nobody", d.UserID)
			}
		})
	})
}

func TestASaveOfACookieSessionSaysThatItsEndHasCome(t *testing.T) {
	for _, m := range modes[:2] {
		t.Run(m.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, m, func(c *config) { c.Lifetime = time.Hour })
				b := s.browser()
				b.do(func(s *session) { s.Data.N = 1 })
				b.do(func(x *session) {
					if err := x.Save(bg); err != nil {
						t.Errorf("at once: got %v, want nil", err)
					}
					time.Sleep(time.Hour)
					if err := x.Save(bg); !errors.Is(err, sessions.ErrNotFound) || !strings.Contains(err.Error(), x.ID()) {
						t.Errorf("at its end: got %v, want ErrNotFound, naming the session", err)
					}
				})
			})
		})
	}
}

func TestASaveOfAChangeIsAUse(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, func(c *config) { c.IdleTimeout = 15 * time.Minute })
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			b.serve(func(w http.ResponseWriter, r *http.Request) {
				x := sessions.Get[AppSession](r.Context())
				_, _ = w.Write([]byte("begins"))
				for range 60 {
					time.Sleep(time.Minute)
					x.Data.N++
					if err := x.Save(r.Context()); err != nil {
						t.Fatal(err)
					}
				}
			})
			if d, _ := b.peek(); d.N != 61 {
				t.Errorf("got N=%d, want 61", d.N)
			}
		})
	})
}

func TestASaveThatCannotAskSaysSo(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		res := b.do(func(x *session) {
			s.store.hook(failing("Load", 1), nil)
			if err := x.Save(bg); !errors.Is(err, errLost) {
				t.Errorf("got %v, want the error of the store", err)
			}
			if err := x.Save(bg); err != nil {
				t.Errorf("the second: got %v, want nil: a store that fails is no end", err)
			}
		})
		if res.StatusCode != 200 || len(s.store.live()) != 1 {
			t.Errorf("got %d and %d records, want 200 and the session", res.StatusCode, len(s.store.live()))
		}
	})
}

func TestASaveOfAnUnchangedNewSessionAsksNobody(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		res := s.browser().do(func(x *session) {
			if err := x.Save(bg); err != nil {
				t.Errorf("got %v, want nil", err)
			}
		})
		if len(res.Header["Set-Cookie"]) > 0 || s.store != nil && len(s.store.counts) > 0 {
			t.Errorf("got %q, want nothing sent and nothing asked", res.Header["Set-Cookie"])
		}
	})
}
