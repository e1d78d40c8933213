package sessions_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

func TestWhatARepeatedRunChangesIsStoredAlsoIfTheFirstRunOnlyCalledAVerb(t *testing.T) {
	for name, verb := range map[string]func(*session){
		"Flash":        func(s *session) { s.Flash("info", "first") },
		"SetLifetime":  func(s *session) { s.SetLifetime(time.Hour) },
		"RegenerateID": func(s *session) { s.RegenerateID() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, modes[2], nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.Name = "x" })
			other := b.clone()
			b.do(func(sess *session) {
				sess.Update(func(d *AppSession) {
					if d.N == 0 {
						verb(sess)
					} else {
						d.UserID = 7
					}
				})
				other.do(func(o *session) { o.Data.N = 1 })
			})
			if data, reason := b.peek(); data.UserID != 7 || data.N != 1 {
				t.Errorf("got user %d, N=%d (%q), want 7, 1", data.UserID, data.N, reason)
			}
		})
	}
}

func TestASessionThatIsNotMovedAfterAllKeepsItsID(t *testing.T) {
	s := newSite(t, modes[2], nil)
	b := s.browser()
	b.do(func(s *session) { s.Data.Name = "x" })
	other := b.clone()
	b.do(func(sess *session) {
		sess.Update(func(d *AppSession) {
			if d.N == 0 {
				sess.RegenerateID()
			}
		})
		other.do(func(o *session) { o.Data.N = 1 })
		if err := sess.Save(t.Context()); err != nil {
			t.Error(err)
		}
		live := s.store.live()
		if len(live) != 1 || live[0].String() != sess.ID() {
			t.Errorf("got the id %s, stored are %v", sess.ID(), live)
		}
		sess.SetLifetime(100 * time.Hour)
	})
	if data, reason := b.peek(); data.Name != "x" {
		t.Errorf("the session is lost: %q", reason)
	}
}

func TestTheLastSetLifetimeCountsAlsoAfterARepeatedUpdate(t *testing.T) {
	s := newSite(t, modes[2], nil)
	b := s.browser()
	b.do(func(s *session) { s.Data.N = 1 })
	other := b.clone()
	b.do(func(sess *session) {
		sess.Update(func(d *AppSession) { d.N++; sess.SetLifetime(time.Hour) })
		sess.SetLifetime(100 * time.Hour)
		other.do(func(o *session) { o.Data.Name = "other" })
	})
	b.do(func(sess *session) {
		if left := time.Until(sess.ExpiresAt()); left < 99*time.Hour {
			t.Errorf("the session ends in %v, want 100h", left)
		}
	})
}

func TestSetLifetimeAfterTheHeadersIsAnEventAtReturnAlsoAfterASave(t *testing.T) {
	s := newSite(t, modes[2], nil)
	b := s.browser()
	b.do(func(s *session) { s.Data.N = 1 })
	b.serve(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		sess := sessions.Get[AppSession](r.Context())
		sess.SetLifetime(100 * time.Hour)
		sess.Data.N = 2
		if err := sess.Save(r.Context()); !errors.Is(err, sessions.ErrTooLate) {
			t.Errorf("got %v, want ErrTooLate", err)
		}
	})
	if n := len(s.events.of(sessions.EventLate)); n != 1 {
		t.Errorf("got %d events at return, want 1", n)
	}
}

func TestRecordThatASaveHasLeftBehindGoesWithAPanicToo(t *testing.T) {
	s := newSite(t, modes[2], nil)
	b := s.browser()
	down := errors.New("down")
	func() {
		defer func() { _ = recover() }()
		b.do(func(sess *session) {
			sess.Data.N = 2
			s.store.hook(
				func(op string, _ sessions.ID) error {
					if op == "Delete" {
						return down
					}
					return nil
				},
				func(op string, _ sessions.ID) error {
					if op == "Create" {
						return down
					}
					return nil
				})
			if err := sess.Save(t.Context()); !errors.Is(err, down) {
				t.Errorf("got %v", err)
			}
			s.store.hook(nil, nil)
			panic("x")
		})
	}()
	if n := len(s.store.live()); n != 0 {
		t.Errorf("got %d records, want 0", n)
	}
}

// askedContext tells when it is asked whether it has ended.
type askedContext struct {
	context.Context
	asked func()
}

func (c askedContext) Err() error {
	c.asked()
	return c.Context.Err()
}

func TestRegenerateIDInAnUpdateThatTheCommitWaitsForIsInTime(t *testing.T) {
	s := newSite(t, modes[2], nil)
	b := s.browser()
	b.do(func(s *session) { s.Data.Name = "x" })
	before := s.store.live()[0]
	committing := make(chan struct{})
	var once sync.Once
	running := make(chan struct{})
	var watch bool
	b.send(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			sess.Update(func(d *AppSession) {
				close(running)
				<-committing
				sess.RegenerateID()
				d.UserID = 42
			})
		})
		<-running
		watch = true
		w.WriteHeader(200)
		wg.Wait()
	}, func(r *http.Request) {
		*r = *r.WithContext(askedContext{r.Context(), func() {
			if watch {
				once.Do(func() { close(committing) })
			}
		}})
	})
	if data, _ := b.peek(); data.UserID != 42 {
		t.Errorf("got user %d, want 42; events %v", data.UserID, s.events.of(sessions.EventLate))
	}
	if live := s.store.live(); len(live) != 1 || live[0] == before {
		t.Errorf("the session has not moved: %v", live)
	}
}

func TestRegenerateIDOfALostSessionIsAnEvent(t *testing.T) {
	s := newSite(t, modes[2], nil)
	b := s.browser()
	b.do(func(s *session) { s.Data.N = 1 })
	b.do(func(sess *session) {
		if err := s.mgr.Revoke(t.Context(), sess.ID()); err != nil {
			t.Error(err)
		}
		if err := sess.Save(t.Context()); !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		s.events.reset()
		sess.RegenerateID()
	})
	if n := len(s.events.of(sessions.EventDiscarded)); n != 1 {
		t.Errorf("got %d events, want 1", n)
	}
}

// unsure makes the next Update of the store succeed and answer with an error.
func unsure(t *testing.T, s *site, sess *session) {
	t.Helper()
	down := errors.New("down")
	s.store.hook(nil, func(op string, _ sessions.ID) error {
		if op == "Update" {
			return down
		}
		return nil
	})
	if err := sess.Save(t.Context()); !errors.Is(err, down) {
		t.Errorf("got %v", err)
	}
	s.store.hook(nil, nil)
}

func TestACookieWithANewEndIsSentAlsoIfAnUnsureSaveHasStoredTheEnd(t *testing.T) {
	s := newSite(t, modes[2], nil)
	b := s.browser()
	b.do(func(s *session) { s.Data.N = 1 })
	r := b.do(func(sess *session) {
		sess.SetLifetime(100 * time.Hour)
		unsure(t, s, sess)
		sess.Update(func(d *AppSession) { d.N++ })
	})
	if c := r.setCookies(); len(c) != 1 || !strings.Contains(c[0], "Max-Age=3") {
		t.Errorf("got the cookies %v, want one of 100 hours", c)
	}
}

func TestAnUnsureSaveAndAnUpdateThatChangesNothingEnd(t *testing.T) {
	for name, verb := range map[string]func(*session){
		"Flash":       func(s *session) { s.Flash("info", "new") },
		"Flashes":     func(s *session) { s.Flashes() },
		"SetLifetime": func(s *session) { s.SetLifetime(100 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, modes[2], nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1; s.Flash("info", "old") })
			var n int
			r := b.do(func(sess *session) {
				verb(sess)
				unsure(t, s, sess)
				s.store.resetCounts()
				sess.Update(func(d *AppSession) { n++ })
			})
			if r.StatusCode != 200 || s.store.count("Update") > 3 {
				t.Errorf("got status %d, %d updates and %d runs", r.StatusCode, s.store.count("Update"), n)
			}
		})
	}
}

func TestFormOfARequestThatCouldNotBeLoadedIsSeenOutside(t *testing.T) {
	s := newSite(t, modes[2], func(c *config) {
		c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
			_ = r.ParseMultipartForm(1)
			w.WriteHeader(503)
		}
	})
	b := s.browser()
	b.do(func(s *session) { s.Data.N = 1 })
	s.store.hook(func(string, sessions.ID) error { return errors.New("down") }, nil)
	body := "--x\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n" + strings.Repeat("a", 100) + "\r\n--x--\r\n"
	r := httptest.NewRequest("POST", "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	r.Header.Set("Cookie", "__Host-Http-session="+b.cookie())
	s.handler.ServeHTTP(httptest.NewRecorder(), r)
	if r.MultipartForm == nil {
		t.Error("net/http has no form to remove the files of")
	}
}
