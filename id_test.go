package sessions_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

func TestRotateIDChangesTheIDAndNothingElse(t *testing.T) {
	const month = 30 * 24 * time.Hour
	for _, lasting := range []bool{false, true} { // by SetLifetime
		for name, rotate := range map[string]func(*session){
			"RotateID":       (*session).RotateID,
			"twice":          func(s *session) { s.RotateID(); s.RotateID() },
			"by Update":      func(s *session) { s.Update(func(*AppSession) { s.RotateID() }) },
			"saved":          func(s *session) { s.RotateID(); _ = s.Save(bg) },
			"and a sign-in":  func(s *session) { s.RotateID(); s.Data.Role = "admin" },
			"and a message":  func(s *session) { s.RotateID(); s.Flash("info", "more") },
			"after a change": func(s *session) { s.Data.N++; s.RotateID() },
		} {
			t.Run(fmt.Sprintf("%s, lasting=%t", name, lasting), func(t *testing.T) {
				eachOwnedMode(t, func(t *testing.T, m mode) {
					synctest.Test(t, func(t *testing.T) {
						s := newOwnedSite(t, m, func(c *config) { c.Cookie.BrowserSession = true })
						b := s.browser()
						length := 24 * time.Hour
						b.do(func(s *session) {
							s.Data = AppSession{UserID: 42, Name: "Ada"}
							s.Flash("info", "waits")
							if lasting {
								length = month
								s.SetLifetime(month)
							}
						})
						began, old, oldID := time.Now(), b.clone(), idOf(b)
						time.Sleep(11 * time.Hour)
						var shown string
						res := b.do(func(s *session) { rotate(s); shown = s.ID() })
						if res.StatusCode != 200 || len(res.setCookies()) != 1 || idOf(b) == oldID || m.hasStore() && idOf(b) != shown {
							t.Errorf("got %d with %q and the id %s, want a cookie with a new one", res.StatusCode, res.setCookies(), idOf(b))
						}
						if has := strings.Contains(res.setCookies()[0], "Max-Age"); has != lasting {
							t.Errorf("got %q, want Max-Age=%t: the kind of cookie stays", res.setCookies()[0], lasting)
						}
						b.clone().do(func(s *session) {
							if !s.CreatedAt().Equal(began) || !s.ExpiresAt().Equal(began.Add(length)) {
								t.Errorf("got a session from %v to %v, want from %v, %v long", s.CreatedAt(), s.ExpiresAt(), began, length)
							}
							if s.Data.UserID != 42 || s.Data.Name != "Ada" || len(s.Flashes()) == 0 {
								t.Errorf("got %+v, want the data and the messages", s.Data)
							}
						})
						if m.hasStore() {
							if _, reason := old.peek(); reason != sessions.ReasonReplaced {
								t.Errorf("got %q for the old id, want it replaced", reason)
							}
							wantListed(t, s, "42", idOf(b))
						}
						// The length that SetLifetime gave is there for the next authentication.
						b.do((*session).RegenerateID)
						b.clone().do(func(s *session) {
							if !s.ExpiresAt().Equal(time.Now().Add(length)) {
								t.Errorf("got an end in %v after RegenerateID, want %v", time.Until(s.ExpiresAt()), length)
							}
						})
					})
				})
			})
		}
	}
}

func TestRotateIDShowsTheNewIDAtOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		b.do(func(s *session) { s.Data.N = 1 })
		var before, after string
		b.do(func(s *session) {
			before, _ = s.ID(), s.CreatedAt()
			s.RotateID()
			after = s.ID()
			if s.IsNew() || s.Data.N != 1 {
				t.Errorf("got new=%t and N=%d, want the session as it was", s.IsNew(), s.Data.N)
			}
		})
		if got := idOf(b); before == after || got != after {
			t.Errorf("got %s, then %s, then %s, want the new one at once", before, after, got)
		}
	})
}

// A session that must end after twelve hours does so, however often its id is
// changed.
func TestASessionDoesNotOutliveItsEndByRotateID(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			b := newSite(t, m, func(c *config) { c.Lifetime = 12 * time.Hour }).browser()
			b.do(func(s *session) { s.Data.N = 1 })
			for range 11 {
				time.Sleep(time.Hour)
				b.do((*session).RotateID)
			}
			if d, _ := b.peek(); d.N != 1 {
				t.Errorf("got N=%d after eleven hours, want 1", d.N)
			}
			time.Sleep(time.Hour)
			if _, reason := b.peek(); reason == sessions.ReasonNone {
				t.Error("the session goes on after twelve hours")
			}
		})
	})
}

func TestRegenerateIDBesideRotateIDBeginsAnew(t *testing.T) {
	for name, verbs := range map[string]func(*session){
		"RotateID first":     func(s *session) { s.RotateID(); s.RegenerateID() },
		"RegenerateID first": func(s *session) { s.RegenerateID(); s.RotateID() },
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					b := newSite(t, m, nil).browser()
					b.do(func(s *session) { s.Data.N = 1 })
					time.Sleep(time.Hour)
					b.do(verbs)
					b.do(func(s *session) {
						if now := time.Now(); !s.CreatedAt().Equal(now) || !s.ExpiresAt().Equal(now.Add(24*time.Hour)) {
							t.Errorf("got a session from %v to %v, want a day from now", s.CreatedAt(), s.ExpiresAt())
						}
					})
				})
			})
		})
	}
}

func TestRotateIDThatCannotReachTheBrowserStoresNothing(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"after the headers": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			sess := sessions.Get[AppSession](r.Context())
			sess.RotateID()
			sess.Data.Role = "admin"
			if err := sess.Save(r.Context()); !errors.Is(err, sessions.ErrTooLate) {
				panic(fmt.Sprintf("Save: got %v, want ErrTooLate", err))
			}
		},
		"called before the headers, and a right after": func(w http.ResponseWriter, r *http.Request) {
			sess := sessions.Get[AppSession](r.Context())
			w.WriteHeader(200)
			sess.Data.Role = "admin"
			sess.RotateID()
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b, id := signIn(s, 42)
				b.serve(handler)
				if d, _ := b.peek(); d.UserID != 42 || d.Role != "" || idOf(b) != id {
					t.Errorf("got %+v, want what was stored", d)
				}
				if n := len(s.events.of(sessions.EventLate)); n != 1 {
					t.Errorf("got %d late events, want 1", n)
				}
			})
		})
	}
}

func TestRotateIDAfterADestroyDoesNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		b.do(func(s *session) { s.Destroy(); s.RotateID() })
		if b.cookie() != "" || len(s.events.of(sessions.EventRenewed)) > 0 {
			t.Errorf("got the cookie %q and the events %v, want an end", b.cookie(), s.events.all)
		}
	})
}

func TestUnknownFieldsGoWithTheIDAndNotToANewAuthentication(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*sessions.Session[oldSession])
		plan string
	}{
		{"RotateID", (*sessions.Session[oldSession]).RotateID, "gold"},
		{"RotateID and an edit", func(s *sessions.Session[oldSession]) { s.RotateID(); s.Data.N++ }, "gold"},
		{"RegenerateID", (*sessions.Session[oldSession]).RegenerateID, ""},
		{"RegenerateID and RotateID", func(s *sessions.Session[oldSession]) { s.RegenerateID(); s.RotateID() }, ""},
		{"another owner", func(s *sessions.Session[oldSession]) { s.Data.UserID = 43 }, ""},
		{"another owner and RotateID", func(s *sessions.Session[oldSession]) { s.RotateID(); s.Data.UserID = 43 }, ""},
		{"Reset", func(s *sessions.Session[oldSession]) { s.Reset(); s.Data.UserID = 43 }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachOwnedMode(t, func(t *testing.T, m mode) {
				d := deploy(t, m, func(c *sessions.Config[oldSession]) {
					c.Owner = func(d *oldSession) string { return ownerOf(d.UserID) }
				})
				d.inNew(func(s *sessions.Session[newSession]) { s.Data = fullSession() })
				d.inOld(tt.do)
				d.inNew(func(s *sessions.Session[newSession]) {
					if s.Data.Plan != tt.plan || s.Data.Rights["write"] != (tt.plan != "") || s.Data.UserID == 0 {
						t.Errorf("got the plan %q and the rights %v, want %q", s.Data.Plan, s.Data.Rights, tt.plan)
					}
				})
			})
		})
	}
}
