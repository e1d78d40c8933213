package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// become makes the session that of a user, as a sign-in does that forgets
// RegenerateID.
func become(user int) func(*session) {
	return func(s *session) { s.Data = AppSession{UserID: user} }
}

var passes = []struct {
	name          string
	before, after int // users, 0: nobody
}{
	{"from a visitor to a user", 0, 42},
	{"from one user to another", 42, 43},
	{"from a user to nobody", 42, 0},
}

func TestASessionThatPassesToAnotherOwnerGetsANewID(t *testing.T) {
	for _, tt := range passes {
		for name, verb := range map[string]func(*session){
			"":                             func(*session) {},
			", and RegenerateID is called": (*session).RegenerateID,
			", and RotateID is called":     (*session).RotateID,
			", by Update": func(s *session) {
				data := s.Data
				s.Data.UserID = tt.before
				s.Update(func(d *AppSession) { d.UserID = data.UserID })
			},
		} {
			t.Run(tt.name+name, func(t *testing.T) {
				eachOwnedMode(t, func(t *testing.T, m mode) {
					synctest.Test(t, func(t *testing.T) {
						s := newOwnedSite(t, m, nil)
						b := s.browser()
						b.do(func(s *session) { s.Data.UserID, s.Data.Name = tt.before, "Ada"; s.Flash("info", "waits") })
						old, oldID := b.clone(), idOf(b)
						time.Sleep(time.Hour)
						s.events.reset()
						res := b.do(func(s *session) { s.Data.UserID = tt.after; verb(s) })
						if res.StatusCode != 200 || len(res.setCookies()) != 1 || b.cookie() == old.cookie() {
							t.Errorf("got %d with %q, want 200 and another cookie", res.StatusCode, res.setCookies())
						}
						newID := idOf(b)
						if newID == oldID {
							t.Error("the id is the old one")
						}
						b.clone().do(func(s *session) {
							if s.Data.UserID != tt.after || s.Data.Name != "Ada" || len(s.Flashes()) != 1 {
								t.Errorf("got %+v, want the data and the messages kept", s.Data)
							}
							if now := time.Now(); !s.CreatedAt().Equal(now) || !s.ExpiresAt().Equal(now.Add(24*time.Hour)) {
								t.Errorf("got a session from %v to %v, want a lifetime from now, %v", s.CreatedAt(), s.ExpiresAt(), now)
							}
						})
						got := s.events.of(sessions.EventRenewed)
						if len(got) != 1 || got[0].ID != newID || got[0].Previous != oldID || got[0].Owner != ownerOf(tt.after) || got[0].PreviousOwner != ownerOf(tt.before) {
							t.Errorf("got the events %#v, want one of a new id, with both owners", got)
						}
						if !m.hasStore() {
							return
						}
						if _, reason := old.peek(); reason != sessions.ReasonReplaced {
							t.Errorf("got %q for the old id, want it replaced", reason)
						}
						if live := s.store.live(); len(live) != 1 || live[0].String() != newID {
							t.Errorf("got the records %v, want only %s", live, newID)
						}
						for _, user := range []int{tt.before, tt.after} {
							switch {
							case user == 0:
							case user == tt.after:
								wantListed(t, s, ownerOf(user), newID)
							default:
								wantListed(t, s, ownerOf(user))
							}
						}
					})
				})
			})
		}
	}
}

// ownerOf is the owner of the sessions of a user.
func ownerOf(user int) string { return ownerOfUser(&AppSession{UserID: user}) }

func TestASessionThatStaysWithItsOwnerKeepsItsID(t *testing.T) {
	for name, verb := range map[string]func(*session){
		"an edit":          func(s *session) { s.Data.Name = "Grace" },
		"the whole struct": func(s *session) { s.Data = AppSession{UserID: 42, N: 9} },
		"there and back":   func(s *session) { s.Data.UserID = 43; s.Data.UserID = 42; s.Data.N++ },
		"a message":        func(s *session) { s.Flash("info", "x") },
		"a SetLifetime":    func(s *session) { s.SetLifetime(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			eachOwnedMode(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, nil)
				b, id := signIn(s, 42)
				b.do(verb)
				if got := idOf(b); got != id {
					t.Errorf("got the id %s, want %s", got, id)
				}
				if n := len(s.events.of(sessions.EventRenewed)); n > 0 {
					t.Errorf("got %d events of a new id, want none", n)
				}
			})
		})
	}
}

func TestTheIDOfANewOwnerIsThatWhichTheRequestShowsAtTheEnd(t *testing.T) {
	eachOwnedMode(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.Name = "visitor" })
		var called, saved, after string
		b.do(func(s *session) {
			s.Data.UserID = 42
			s.RegenerateID()
			called = s.ID()
		})
		if got := idOf(b); got != called {
			t.Errorf("got the id %s, want that of RegenerateID, %s: a session moves once", got, called)
		}
		b.do(func(s *session) {
			s.Data.UserID = 43
			if err := s.Save(bg); err != nil {
				t.Error(err)
			}
			saved = s.ID()
			s.Data.N++
			if err := s.Save(bg); err != nil {
				t.Error(err)
			}
			s.Data.N++
			after = s.ID()
		})
		if got := idOf(b); m.hasStore() && (saved == called || after != saved || got != saved) || got == called {
			t.Errorf("got the ids %s, %s and %s, want one that is new", saved, after, got)
		}
		if d, _ := b.peek(); d.UserID != 43 || d.N != 2 {
			t.Errorf("got %+v, want what came after the Save too", d)
		}
		if n := len(s.events.of(sessions.EventRenewed)); n != 2 {
			t.Errorf("got %d events of a new id, want 2", n)
		}
	})
}

func TestTheLengthThatSetLifetimeGaveTheFormerOwnerIsNotInherited(t *testing.T) {
	const month = 30 * 24 * time.Hour
	for _, tt := range []struct {
		name   string
		before int
		login  func(*session)
		want   time.Duration
	}{
		{"without RegenerateID", 42, become(43), 24 * time.Hour},
		{"with RegenerateID before", 42, func(s *session) { s.RegenerateID(); become(43)(s) }, 24 * time.Hour},
		{"with RegenerateID after", 42, func(s *session) { become(43)(s); s.RegenerateID() }, 24 * time.Hour},
		{"with RotateID", 42, func(s *session) { s.RotateID(); become(43)(s) }, 24 * time.Hour},
		{"to nobody", 42, func(s *session) { s.Data = AppSession{Name: "visitor"} }, 24 * time.Hour},
		{"by Update", 42, func(s *session) { s.Update(func(d *AppSession) { d.UserID = 43 }) }, 24 * time.Hour},
		{"where the new owner asks for a length", 42, func(s *session) { s.SetLifetime(time.Hour); become(43)(s) }, time.Hour},
		{"where the new owner asks for the default", 42, func(s *session) { become(43)(s); s.SetLifetime(0) }, 24 * time.Hour},
		{"of one user, who signs in again", 42, func(s *session) { s.RegenerateID(); become(42)(s) }, month},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachOwnedMode(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newOwnedSite(t, m, nil)
					b := s.browser()
					b.do(func(s *session) { s.Data.UserID = tt.before; s.SetLifetime(month) })
					time.Sleep(time.Hour)
					res := b.do(tt.login)
					if age := res.Cookies()[0].MaxAge; age != int(tt.want/time.Second) {
						t.Errorf("got Max-Age=%d, want %v", age, tt.want)
					}
					b.do(func(s *session) {
						if left := time.Until(s.ExpiresAt()); left != tt.want {
							t.Errorf("got %v left, want %v", left, tt.want)
						}
						s.RegenerateID() // which shows the length that is kept
						if left := time.Until(s.ExpiresAt()); left != tt.want {
							t.Errorf("got %v after RegenerateID, want %v", left, tt.want)
						}
					})
				})
			})
		})
	}
}

func TestANewOwnerWhoseIDCannotReachTheBrowserIsNotStored(t *testing.T) {
	for _, tt := range []struct {
		name string
		pass http.HandlerFunc
	}{
		{"after the headers", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			sess := sessions.Get[AppSession](r.Context())
			sess.Data = AppSession{UserID: 43, Name: "Grace"}
			if err := sess.Save(r.Context()); !errors.Is(err, sessions.ErrTooLate) {
				panic(fmt.Sprintf("Save: got %v, want ErrTooLate", err))
			}
		}},
		{"after the headers, without a Save", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			sessions.Get[AppSession](r.Context()).Data = AppSession{UserID: 43, Name: "Grace"}
		}},
		{"after the headers, by Update", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			sessions.Get[AppSession](r.Context()).Update(func(d *AppSession) { d.UserID = 43 })
		}},
		{"before a hijack", func(w http.ResponseWriter, r *http.Request) {
			sessions.Get[AppSession](r.Context()).Data = AppSession{UserID: 43, Name: "Grace"}
			_, _, _ = http.NewResponseController(w).Hijack()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachOwnedMode(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, nil)
				b, id := signIn(s, 42)
				s.events.reset()
				w := hijackable{httptest.NewRecorder()}
				s.handler.ServeHTTP(w, b.request(tt.pass))
				if lines := w.Header()["Set-Cookie"]; len(lines) > 0 {
					t.Errorf("got %q, want no cookie", lines)
				}
				if n := len(s.events.of(sessions.EventLate)); n == 0 {
					t.Error("got no late event, want one")
				}
				if d, _ := b.peek(); d.UserID != 42 || d.Name != "" || idOf(b) != id {
					t.Errorf("got %+v under the id %s, want what was stored", d, idOf(b))
				}
				if m.hasStore() {
					wantListed(t, s, "42", id)
					wantListed(t, s, "43")
				}
			})
		})
	}
}

func TestAnEditDoesNotChangeTheOwner(t *testing.T) {
	for name, edit := range map[string]func(*AppSession){
		"to another user": func(d *AppSession) { d.UserID, d.Name = 43, "Grace" },
		"to nobody":       func(d *AppSession) { *d = AppSession{Name: "Grace"} },
	} {
		t.Run(name, func(t *testing.T) {
			eachOwnerStore(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, nil)
				b, id := signIn(s, 42)
				s.events.reset()
				err := s.mgr.Edit(bg, id, edit)
				if !errors.Is(err, sessions.ErrInvalid) || strings.Contains(err.Error(), "Grace") {
					t.Errorf("got %v, want ErrInvalid without a value", err)
				}
				if d, _ := b.peek(); d.UserID != 42 || d.Name != "" {
					t.Errorf("got %+v, want what was stored", d)
				}
				if len(s.events.all) > 0 {
					t.Errorf("got the events %v, want none", s.events.all)
				}
				wantListed(t, s, "42", id)
				wantListed(t, s, "43")
			})
		})
	}
}

func TestAnUpdateThatPassesTheSessionOnTooLateStoresNothing(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b, id := signIn(s, 42)
		b.serve(func(w http.ResponseWriter, r *http.Request) {
			x := sessions.Get[AppSession](r.Context())
			w.WriteHeader(200)
			x.Update(func(d *AppSession) {
				if d.Role == "admin" {
					d.UserID = 43
				}
				d.N++
			})
			if err := s.mgr.Edit(bg, id, func(d *AppSession) { d.Role = "admin" }); err != nil {
				t.Error(err)
			}
		})
		if d, _ := b.peek(); d.UserID != 42 || d.N != 0 || idOf(b) != id {
			t.Errorf("got %+v, want the Edit alone: the rights of another must not come to the old id", d)
		}
		if n := len(s.events.of(sessions.EventLate)); n != 1 {
			t.Errorf("got %d late events, want 1", n)
		}
	})
}

func TestTheOwnerOfALoadedSessionIsWhatConfigOwnerSaysNow(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		store := m.store()
		same := func(c *config) { c.Store = store }
		before := newSite(t, m, same) // a program without Owner
		b := before.browser()
		b.do(become(42))
		id := idOf(b)
		s := newOwnedSite(t, m, same)
		wantListed(t, s, "42")
		b.s = s
		b.do(func(s *session) { s.Data.N++ })
		if got := idOf(b); got != id {
			t.Errorf("got the id %s, want %s: the session was that of user 42 all along", got, id)
		}
		wantListed(t, s, "42", id) // the next write has indexed it
		if n := len(s.events.of(sessions.EventRenewed)); n > 0 {
			t.Errorf("got %d events of a new id, want none", n)
		}
	})
}

func TestAnUpgradeIsNoChangeOfTheOwner(t *testing.T) {
	type oldUser struct {
		User string `msgpack:"user"`
	}
	eachOwnerStore(t, func(t *testing.T, m mode) {
		store := m.store()
		before := newTypedSite(t, sessions.Config[oldUser]{Store: store, Encrypt: m.encrypt, Owner: func(d *oldUser) string { return d.User }})
		before.do(func(s *sessions.Session[oldUser]) { s.Data.User = "ada" })
		s := newSite(t, m, func(c *config) {
			c.Store, c.Owner, c.Version = store, ownerOfUser, 1
			c.Upgrades = []sessions.Upgrade{sessions.From(0, func(o oldUser) (AppSession, error) { return AppSession{UserID: 42}, nil })}
		})
		b := s.browser()
		for name, value := range before.cookies {
			b.cookies[name] = value
		}
		id := idOf(b)
		b.do(func(s *session) { s.Data.N++ })
		if d, _ := b.peek(); d.UserID != 42 || d.N != 1 || idOf(b) != id {
			t.Errorf("got %+v under %s, want the upgraded session under its id %s", d, idOf(b), id)
		}
		wantListed(t, s, "42", id)
	})
}

func TestASignInWithoutRegenerateIDIsNoFixation(t *testing.T) {
	protocols(t, func(t *testing.T, http2 bool) {
		eachOwnerStore(t, func(t *testing.T, m mode) {
			s := newOwnedSite(t, m, nil)
			attacker := s.online(http2)
			attacker.do(func(s *session) { s.Data.Name = "bait" })
			victim := attacker.clone()
			victim.do(become(42))
			wantUser(t, "the victim", victim, 42)
			wantUser(t, "the attacker", attacker, 0)
			attacker.do(func(s *session) { s.Data.Role = "admin" })
			if d, _ := victim.peek(); d.Role != "" {
				t.Errorf("got the role %q for the victim, want none", d.Role)
			}
		})
	})
}

func TestOwnerThatPanicsIsAnErrorAndDestroyStillHappens(t *testing.T) {
	eachOwnedMode(t, func(t *testing.T, m mode) {
		broken := false
		s := newSite(t, m, func(c *config) {
			c.Owner = func(d *AppSession) string {
				if broken && d.UserID == 43 {
					panic("Owner is broken")
				}
				return ownerOfUser(d)
			}
		})
		b, id := signIn(s, 42)
		broken = true
		if res := b.do(become(43)); res.StatusCode != http.StatusInternalServerError || len(res.setCookies()) > 0 {
			t.Errorf("got %d with %q, want 500 without a cookie", res.StatusCode, res.setCookies())
		}
		if d, _ := b.peek(); d.UserID != 42 || idOf(b) != id {
			t.Errorf("got %+v, want what was stored", d)
		}
		b.do(func(s *session) { become(43)(s); s.Destroy() })
		if b.cookie() != "" || m.hasStore() && len(s.store.live()) > 0 {
			t.Error("the session was not destroyed")
		}
	})
}

// In cookie mode too an owner bounds what is kept for visitors, and events tell
// whose sessions they are.
func TestOwnersOfCookieSessionsAreInEvents(t *testing.T) {
	for _, m := range modes[:2] {
		t.Run(m.name, func(t *testing.T) {
			s := newOwnedSite(t, m, nil)
			b, id := signIn(s, 42)
			b.do((*session).Destroy)
			started, ended := s.events.of(sessions.EventStarted), s.events.of(sessions.EventEnded)
			if len(started) != 1 || started[0].Owner != "42" || len(ended) != 1 || ended[0].Owner != "42" || ended[0].ID != id {
				t.Errorf("got the events %#v, want a start and an end of user 42", s.events.all)
			}
			for _, err := range []error{
				s.mgr.Revoke(context.Background(), strings.Repeat("0", 64)),
				func() error { _, err := s.mgr.RevokeOwner(bg, "42"); return err }(),
			} {
				if !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("got %v, want ErrUnsupported: a cookie cannot be recalled", err)
				}
			}
		})
	}
}
