package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// overlap sends a request that loads the session, waits until during has run,
// and then runs late.
func overlap(b *browser, late func(*session), during func()) *reply {
	loaded, goOn := make(chan bool), make(chan bool)
	replies := make(chan *reply)
	go func() {
		replies <- b.do(func(s *session) {
			close(loaded)
			<-goOn
			late(s)
		})
	}()
	<-loaded
	during()
	close(goOn)
	return <-replies
}

func TestRegenerateIDInAFullMemoryStoreKeepsTheSession(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(*session)
		user   int
	}{
		{"of a visitor, the one without an owner", func(s *session) { s.Flash("info", "welcome") }, 42},
		{"of a user, the nearest to its end", func(s *session) { s.Data.UserID = 42; s.SetLifetime(time.Hour) }, 42},
	} {
		for wrapped, wrap := range map[string]func(*sessions.MemoryStore) sessions.Store{
			"":          func(m *sessions.MemoryStore) sessions.Store { return m },
			", wrapped": func(m *sessions.MemoryStore) sessions.Store { return newHookStore(m).asStore() },
		} {
			t.Run(tt.name+wrapped, func(t *testing.T) {
				const bound = 3
				memory := &sessions.MemoryStore{Max: bound}
				s := newSite(t, modes[3], func(c *config) { c.Store, c.Owner = wrap(memory), ownerOfUser })
				var others []*browser
				for user := range bound - 1 {
					b, _ := signIn(s, 1+user)
					others = append(others, b)
				}
				b := s.browser()
				b.do(tt.before)
				b.do(func(s *session) { s.RegenerateID(); s.Data.UserID = tt.user })
				wantUser(t, "who signed in", b, tt.user)
				for user, other := range others {
					wantUser(t, "somebody else", other, 1+user)
				}
				if n := memory.Len(); n != bound+1 {
					t.Errorf("got %d records, want %d and the tombstone", n, bound)
				}
				signIn(s, 9)
				if n := memory.Len(); n != bound {
					t.Errorf("got %d records after one more, want %d", n, bound)
				}
			})
		}
	}
}

func TestEditOfASessionThatMovesStays(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b, old := signIn(s, 42)
		other := b.clone()
		edits := 0
		s.store.hook(func(op string, id sessions.ID) error {
			if op == "Replace" && id.String() == old && edits < 2 { // the new record is there, and the old one still
				edits++
				other.do(func(s *session) { s.Data.N++ })
				for info := range s.mgr.Sessions(bg, "42") {
					if info.ID != old {
						if err := s.mgr.Edit(bg, info.ID, func(d *AppSession) { d.Role = "admin" }); err != nil {
							t.Errorf("Edit: %v", err)
						}
					}
				}
			}
			return nil
		}, nil)
		res := b.do(func(s *session) { s.RegenerateID(); s.Data.Name = "Ada" })
		s.store.hook(nil, nil)
		if d, _ := b.peek(); res.StatusCode != 200 || d.Name != "Ada" || d.Role != "admin" || d.N != 2 || edits != 2 {
			t.Errorf("got %d and %+v after %d edits, want 200 and what all three have changed", res.StatusCode, d, edits)
		}
		wantUser(t, "under the old id", other, 0)
	})
}

func TestRegenerateIDInAnUpdateThatIsRepeatedIsDoneOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		for _, tt := range []struct {
			name string
			verb func(*session)
		}{
			{"RegenerateID", (*session).RegenerateID},
			{"SetLifetime", func(s *session) { s.SetLifetime(time.Hour) }},
		} {
			t.Run(tt.name, func(t *testing.T) {
				s := newSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Data.N = 1 })
				other := b.clone()
				res := b.serve(func(w http.ResponseWriter, r *http.Request) {
					sess := sessions.Get[AppSession](r.Context())
					other.do(func(s *session) { s.Data.N = 10 })
					sess.Update(func(d *AppSession) { tt.verb(sess); d.N++ })
					w.WriteHeader(http.StatusOK)
					sess.Data.Name = "streamed"
					if err := sess.Save(r.Context()); err != nil {
						t.Errorf("Save after the headers: %v", err)
					}
				})
				oneCookie(t, res.setCookies())
				if d, _ := b.peek(); d.N != 11 || d.Name != "streamed" {
					t.Errorf("got %+v, want 11, and what came after the headers", d)
				}
				if late := s.events.of(sessions.EventLate); len(late) > 0 {
					t.Errorf("got the events %v, want none that something was too late", late)
				}
			})
		}
	})
}

func TestRegenerateIDThatOnlyARepeatedUpdateCallsMovesTheSession(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		for _, save := range []bool{false, true} {
			t.Run(fmt.Sprintf("Save=%t", save), func(t *testing.T) {
				s := newSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Data.N = 1 })
				other := b.clone()
				res := b.serve(func(w http.ResponseWriter, r *http.Request) {
					sess := sessions.Get[AppSession](r.Context())
					other.do(func(s *session) { s.Data.Name = "pending" })
					sess.Update(func(d *AppSession) {
						if d.Name == "pending" {
							sess.RegenerateID()
							d.Role = "admin"
						}
						d.N++
					})
					if save {
						if err := sess.Save(r.Context()); err != nil {
							t.Errorf("Save: %v", err)
						}
					}
				})
				if d, reason := other.peek(); d.Role != "" || reason == sessions.ReasonNone {
					t.Errorf("got the role %q (%q) under the old id, want no session", d.Role, reason)
				}
				if res.StatusCode != 200 {
					t.Errorf("got %d, want 200", res.StatusCode)
				}
				if d, _ := b.peek(); d.Role != "admin" || d.N != 2 {
					t.Errorf("got %+v under the new id, want admin and 2", d)
				}
				if n := len(s.store.live()); n != 1 {
					t.Errorf("got %d records, want one", n)
				}
			})
		}
	})
}

func TestSetLifetimeOfARepeatedUpdateIsThatOfTheNewestState(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			b := newSite(t, m, nil).browser()
			b.do(func(s *session) { s.Data.N = 1 })
			other := b.clone()
			overlap(b, func(s *session) {
				s.Update(func(d *AppSession) {
					if d.Name == "remember" {
						s.SetLifetime(30 * 24 * time.Hour)
					} else {
						s.SetLifetime(time.Hour)
					}
				})
				if err := s.Save(context.Background()); err != nil {
					t.Errorf("Save: %v", err)
				}
			}, func() { other.do(func(s *session) { s.Data.Name = "remember" }) })
			time.Sleep(20 * 24 * time.Hour)
			if d, reason := b.peek(); d.Name != "remember" {
				t.Errorf("got %+v (%q) after 20 days, want the session", d, reason)
			}
		})
	})
}

func TestRevokeOfTheNewIDWhileASessionMovesEndsIt(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		other := b.clone()
		shown, once := "", false
		s.store.hook(func(op string, id sessions.ID) error {
			if op == "Replace" && !once {
				once = true
				other.do(func(s *session) { s.Data.N++ })
				if err := s.mgr.Revoke(bg, shown); err != nil {
					t.Errorf("Revoke: %v", err)
				}
			}
			return nil
		}, nil)
		b.do(func(s *session) {
			s.RegenerateID()
			s.Data.Name, shown = "Ada", s.ID()
		})
		for name, b := range map[string]*browser{"new": b, "old": other} {
			if d, reason := b.peek(); reason == sessions.ReasonNone {
				t.Errorf("under the %s id: got %+v, want no session", name, d)
			}
		}
		if n := len(s.store.live()); n != 0 {
			t.Errorf("got %d records, want none", n)
		}
	})
}

func TestHundredParallelUpdatesAllCount(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP2=%t", http2), func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b := s.online(http2)
				b.do(func(s *session) { s.Data.Name = "start" })
				var wg sync.WaitGroup
				for range 100 {
					wg.Go(func() {
						res := b.do(func(s *session) { s.Update(func(d *AppSession) { d.N++ }) })
						if res.StatusCode != http.StatusOK {
							t.Errorf("got status %d", res.StatusCode)
						}
					})
				}
				wg.Wait()
				if d, _ := b.peek(); d.N != 100 {
					t.Errorf("got N=%d, want exactly 100", d.N)
				}
			})
		})
	}
}

func TestParallelRequestsKeepEachOthersFieldsAndMapKeys(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.online(false)
		b.do(func(s *session) { s.Data.N = 1 })
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				b.do(func(s *session) {
					switch i {
					case 0:
						s.Data.Name = "Ada"
					case 1:
						s.Data.Role = "admin"
					default:
						if s.Data.Cart == nil {
							s.Data.Cart = map[string]int{}
						}
						s.Data.Cart[fmt.Sprint(i)] = i
					}
				})
			})
		}
		wg.Wait()
		d, _ := b.peek()
		if d.Name != "Ada" || d.Role != "admin" || d.N != 1 || len(d.Cart) != 18 {
			t.Errorf("got %+v, want all of the 20 changes", d)
		}
	})
}

// lateVerbs is what a slow request may do to a session that ended meanwhile.
var lateVerbs = map[string]func(*session){
	"only reads it":             func(s *session) { _ = s.Data },
	"edits it":                  func(s *session) { s.Data.UserID = 7 },
	"updates it":                func(s *session) { s.Update(func(d *AppSession) { d.UserID = 7 }) },
	"flashes":                   func(s *session) { s.Flash("info", "late") },
	"consumes flashes":          func(s *session) { s.Flashes() },
	"regenerates its id":        func(s *session) { s.RegenerateID() },
	"rotates its id":            func(s *session) { s.RotateID() },
	"clears it":                 func(s *session) { s.Data = AppSession{}; s.Flashes() },
	"signs in":                  func(s *session) { s.RegenerateID(); s.Data.UserID = 7 },
	"prolongs it":               func(s *session) { s.SetLifetime(100 * time.Hour) },
	"saves it":                  func(s *session) { s.Data.UserID = 7; _ = s.Save(context.Background()) },
	"saves it under a new id":   func(s *session) { s.RegenerateID(); _ = s.Save(context.Background()) },
	"edits it after the header": nil, // replaced below
}

func TestDestroyedSessionStaysDestroyed(t *testing.T) {
	ends := map[string]func(s *site, other *browser, id string){
		"by a logout": func(_ *site, other *browser, _ string) { other.do(func(s *session) { s.Destroy() }) },
		"by a reset":  func(_ *site, other *browser, _ string) { other.do(func(s *session) { s.Reset() }) },
		"by Revoke": func(s *site, _ *browser, id string) {
			if err := s.mgr.Revoke(context.Background(), id); err != nil {
				s.t.Error(err)
			}
		},
	}
	for end, destroy := range ends {
		for verb, late := range lateVerbs {
			t.Run(end+" when a slow request "+verb, func(t *testing.T) {
				eachStore(t, func(t *testing.T, m mode) {
					synctest.Test(t, func(t *testing.T) {
						s := newSite(t, m, func(c *config) { c.IdleTimeout = time.Hour })
						b := s.browser()
						var id string
						b.do(func(s *session) { s.Data.UserID = 42; id = s.ID(); s.Flash("info", "x") })
						slow, thief := b.clone(), b.clone()
						time.Sleep(20 * time.Minute) // a touch is due
						var res *reply
						if late == nil {
							res = lateAfterHeader(slow, func() { destroy(s, b, id) })
						} else {
							res = overlap(slow, late, func() { destroy(s, b, id) })
						}
						if res.StatusCode != http.StatusOK {
							t.Errorf("got status %d, want the handler's answer", res.StatusCode)
						}
						if lines := res.setCookies(); len(lines) > 0 {
							t.Errorf("got %v, want no cookie", lines)
						}
						if live := s.store.live(); len(live) > 0 {
							t.Errorf("got live records %v, want none", live)
						}
						if d, reason := thief.peek(); reason != sessions.ReasonUnknown || d.UserID != 0 {
							t.Errorf("the old cookie got user %d (%q), want an unknown session", d.UserID, reason)
						}
						if verb != "only reads it" && len(s.events.of(sessions.EventDiscarded)) != 1 {
							t.Errorf("got events %v, want one that says discarded", s.events.all)
						}
						if n := len(s.events.of(sessions.EventFailed)); n > 0 {
							t.Errorf("got %d failures", n)
						}
					})
				})
			})
		}
	}
}

func lateAfterHeader(b *browser, during func()) *reply {
	return b.serve(func(w http.ResponseWriter, r *http.Request) {
		s := sessions.Get[AppSession](r.Context())
		w.WriteHeader(200)
		during()
		s.Data.UserID = 7
	})
}

func TestSaveReportsASessionThatWasDestroyedElsewhere(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.UserID = 42 })
		overlap(b.clone(), func(s *session) {
			for range 2 {
				s.Data.N++
				if err := s.Save(context.Background()); !errors.Is(err, sessions.ErrNotFound) {
					t.Errorf("got %v, want ErrNotFound", err)
				}
			}
		}, func() { b.do(func(s *session) { s.Destroy() }) })
	})
}

func TestDestroyWinsInTheBrowserWhateverWasInFlight(t *testing.T) {
	for _, tt := range []struct {
		name  string
		other func(*session)
		dead  sessions.Reason
	}{
		{"an edit", func(s *session) { s.Data.N = 1 }, sessions.ReasonUnknown},
		{"another destroy", func(s *session) { s.Destroy() }, sessions.ReasonUnknown},
		{"a regenerated id", func(s *session) { s.RegenerateID() }, sessions.ReasonReplaced},
		{"a rotated id", func(s *session) { s.RotateID() }, sessions.ReasonReplaced},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Data.UserID = 42 })
				old := b.clone()
				res := overlap(b, func(s *session) { s.Destroy() }, func() { b.clone().do(tt.other) })
				if b.cookie() != "" || len(res.setCookies()) != 1 {
					t.Errorf("got %v, want the cookie expired", res.setCookies())
				}
				if _, reason := old.peek(); reason != tt.dead {
					t.Errorf("the old cookie got %q, want it dead (%q)", reason, tt.dead)
				}
			})
		})
	}
}

func TestTwoRegenerationsAtOnceLeaveOneLiveSession(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		t.Run("one after the other's commit", func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			first, second := b.clone(), b.clone()
			res := overlap(second, func(s *session) { s.RegenerateID(); s.Data.UserID = 2 }, func() {
				first.do(func(s *session) { s.RegenerateID(); s.Data.UserID = 1 })
			})
			wantOneSession(t, s, first, 1)
			if len(res.setCookies()) > 0 {
				t.Error("the loser got a cookie")
			}
		})
		t.Run("between the other's create and replacement", func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			first, second := b.clone(), b.clone()
			done := false
			s.store.hook(func(op string, _ sessions.ID) error {
				if op == "Replace" && !done {
					done = true
					second.do(func(s *session) { s.RegenerateID(); s.Data.UserID = 2 })
				}
				return nil
			}, nil)
			res := first.do(func(s *session) { s.RegenerateID(); s.Data.UserID = 1 })
			s.store.hook(nil, nil)
			wantOneSession(t, s, second, 2)
			if len(res.setCookies()) > 0 {
				t.Error("the loser got a cookie")
			}
		})
	})
}

func wantOneSession(t *testing.T, s *site, winner *browser, user int) {
	t.Helper()
	if live := s.store.live(); len(live) != 1 {
		t.Errorf("got %d live records, want 1", len(live))
	}
	if d, reason := winner.peek(); d.UserID != user || d.N != 1 {
		t.Errorf("the winner has %+v (%q), want user %d", d, reason, user)
	}
}

func TestSlowLoginDoesNotOutliveALogout(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		login := b.clone()
		// The login has created its new record when the logout comes.
		s.store.hook(func(op string, _ sessions.ID) error {
			if op == "Replace" && s.store.count("Create") == 2 && s.store.count("Replace") == 1 {
				b.do(func(s *session) { s.Destroy() })
			}
			return nil
		}, nil)
		res := login.do(func(s *session) { s.RegenerateID(); s.Data.UserID = 42 })
		if len(res.setCookies()) > 0 || res.StatusCode != 200 {
			t.Errorf("got %d with %v, want the answer without a cookie", res.StatusCode, res.setCookies())
		}
		if live := s.store.live(); len(live) > 0 {
			t.Errorf("got live records %v, want none", live)
		}
		if n := len(s.events.of(sessions.EventDiscarded)); n != 1 {
			t.Errorf("got %d discarded events, want 1", n)
		}
	})
}

func TestRegenerationTakesParallelEditsAlong(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1; s.Flash("info", "first") })
		login, other := b.clone(), b.clone()
		overlap(login, func(s *session) { s.RegenerateID(); s.Data.UserID = 42 }, func() {
			other.do(func(s *session) { s.Data.Name = "Ada"; s.SetLifetime(100 * time.Hour); s.Flash("info", "second") })
		})
		if live := s.store.live(); len(live) != 1 {
			t.Errorf("got %d live records, want 1", len(live))
		}
		login.do(func(s *session) {
			if f := s.Flashes(); s.Data.UserID != 42 || s.Data.Name != "Ada" || s.Data.N != 1 || len(f) != 2 {
				t.Errorf("got %+v and %v, want the changes of both", s.Data, f)
			}
			if left := time.Until(s.ExpiresAt()); left < 99*time.Hour {
				t.Errorf("ends in %v, want the length that the other request set", left)
			}
		})
		if n := len(s.events.of(sessions.EventMerged)); n != 1 {
			t.Errorf("got %d merged events, want 1", n)
		}
	})
}

func TestSlowReadDuringKeyRotationDoesNotOverwriteALogin(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		keys := newKeys(t)
		s := newSite(t, m, func(c *config) { c.Keys = keys })
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		if err := keys.Replace(sessions.NewSecret(), testSecret); err != nil {
			t.Fatal(err)
		}
		slow := b.clone()
		res := overlap(slow, func(s *session) { _ = s.Data }, func() {
			b.do(func(s *session) { s.RegenerateID(); s.Data.UserID = 42 })
		})
		if len(res.setCookies()) > 0 {
			t.Errorf("the read re-issued %v over the login's cookie", res.setCookies())
		}
		if d, _ := b.peek(); d.UserID != 42 {
			t.Errorf("got %+v, want the login", d)
		}
	})
}

func TestRegenerationWhoseStoreFails(t *testing.T) {
	errDown := errors.New("down")
	for _, unknown := range []bool{false, true} { // the operation was carried out, but the answer is lost
		for _, op := range []string{"Create", "Replace"} {
			t.Run(fmt.Sprintf("at %s, carried out: %t", op, unknown), func(t *testing.T) {
				eachStore(t, func(t *testing.T, m mode) {
					s := newSite(t, m, nil)
					b := s.browser()
					b.do(func(s *session) { s.Data.N = 1 })
					first := s.store.live()[0]
					failed := false
					hook := func(o string, id sessions.ID) error {
						if o == op && !failed {
							failed = true
							return errDown
						}
						return nil
					}
					if unknown {
						s.store.hook(nil, hook)
					} else {
						s.store.hook(hook, nil)
					}
					res := b.do(func(s *session) { s.RegenerateID(); s.Data.UserID = 42 })
					s.store.hook(nil, nil)
					if res.StatusCode != http.StatusServiceUnavailable || len(res.setCookies()) > 0 {
						t.Errorf("got %d with %v, want 503 without a cookie", res.StatusCode, res.setCookies())
					}
					live := s.store.live()
					if unknown && op == "Replace" {
						if len(live) != 0 {
							t.Errorf("got %v, want no record: the old one is gone and nobody has the new id", live)
						}
						return
					}
					if len(live) != 1 || live[0] != first {
						t.Errorf("got %v, want only the old record %v", live, first)
					}
					if d, _ := b.peek(); d.UserID != 0 || d.N != 1 {
						t.Errorf("got %+v, want the old state", d)
					}
				})
			})
		}
	}
}

func TestRegenerationWhoseMergeFails(t *testing.T) {
	for _, op := range []string{"Load", "Update"} {
		t.Run("at "+op, func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Data.N = 1 })
				slow := b.clone()
				res := overlap(slow, func(sess *session) {
					sess.RegenerateID()
					s.store.hook(func(o string, _ sessions.ID) error {
						if o == op {
							return errors.New("down")
						}
						return nil
					}, nil)
				}, func() { b.do(func(s *session) { s.Data.Name = "Ada" }) })
				s.store.hook(nil, nil)
				if res.StatusCode != http.StatusServiceUnavailable || len(res.setCookies()) > 0 {
					t.Errorf("got %d with %v, want 503 without a cookie", res.StatusCode, res.setCookies())
				}
				if live := s.store.live(); len(live) != 1 {
					t.Errorf("got %d records, want the old one", len(live))
				}
				if d, _ := b.peek(); d.Name != "Ada" {
					t.Errorf("got %+v, want the other request's state", d)
				}
			})
		})
	}
}

func TestIDThatIsTakenIsDrawnAgain(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		once := true
		s.store.hook(func(op string, _ sessions.ID) error {
			if op == "Create" && once {
				once = false
				return sessions.ErrExists
			}
			return nil
		}, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		if d, _ := b.peek(); d.N != 1 {
			t.Errorf("got %+v, want the session under another id", d)
		}
	})
}

func TestReplayOfDirectEditsAndUpdatesKeepsTheirOrder(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 10; s.Data.Tags = []string{"a"} })
		runs := 0
		overlap(b.clone(), func(s *session) {
			s.Data.Name = "before"
			s.Update(func(d *AppSession) { runs++; d.N++; d.Extra = map[string]string{"name": d.Name} })
			s.Data.Name = "after"
			s.Update(func(d *AppSession) { d.N *= 2 })
			s.Data.Local = "mine"
		}, func() {
			b.do(func(s *session) { s.Data.N = 100; s.Data.Tags = append(s.Data.Tags, "b") })
		})
		d, _ := b.peek()
		if d.N != 202 || d.Name != "after" || d.Extra["name"] != "before" || len(d.Tags) != 2 || runs != 2 {
			t.Errorf("got %+v after %d runs, want (100+1)*2 and both names in order", d, runs)
		}
	})
}

func TestDataAfterASaveIsWhatWasStored(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		overlap(b.clone(), func(s *session) {
			s.Data.Role, s.Data.Local = "user", "mine"
			if err := s.Save(context.Background()); err != nil {
				t.Error(err)
			}
			if s.Data.Name != "Ada" || s.Data.Role != "user" || s.Data.Local != "mine" {
				t.Errorf("got %+v, want both requests' changes and what is not stored", s.Data)
			}
			s.Data.N = 3 // from here, against the merged state
		}, func() { b.do(func(s *session) { s.Data.Name = "Ada" }) })
		if d, _ := b.peek(); d.N != 3 || d.Name != "Ada" || d.Role != "user" {
			t.Errorf("got %+v", d)
		}
	})
}

func TestConflictsEndWithTheTimeOfTheCommit(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			s.store.hook(func(op string, _ sessions.ID) error {
				if op == "Update" {
					return sessions.ErrConflict
				}
				return nil
			}, nil)
			start := time.Now()
			res := b.do(func(s *session) { s.Data.N = 2 })
			if res.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("got %d, want 503", res.StatusCode)
			}
			if took := time.Since(start); took != 5*time.Second {
				t.Errorf("took %v, want 5s", took)
			}
			if n := s.store.count("Update"); n < 100 || n > 2000 {
				t.Errorf("got %d tries, want some hundred", n)
			}
		})
	})
}

func TestDestroyThatTheStoreCouldNotCarryOutLeavesTheCookie(t *testing.T) {
	for name, verb := range map[string]func(*session){
		"Destroy": func(s *session) { s.Destroy() },
		"Reset":   func(s *session) { s.Reset(); s.Flash("info", "bye") },
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Data.UserID = 42 })
				s.store.hook(func(op string, _ sessions.ID) error {
					if op == "Delete" {
						return errors.New("down")
					}
					return nil
				}, nil)
				res := b.do(verb)
				s.store.hook(nil, nil)
				if res.StatusCode != http.StatusServiceUnavailable || len(res.setCookies()) > 0 {
					t.Errorf("got %d with %v, want 503 and the cookie untouched", res.StatusCode, res.setCookies())
				}
				if d, _ := b.peek(); d.UserID != 42 {
					t.Errorf("got %+v, want the session alive", d)
				}
			})
		})
	}
}

func TestReadOfAnUnknownSessionDoesNotClearTheCookieOfAParallelLogin(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		stale := b.clone()
		b.do(func(s *session) { s.RegenerateID() })
		if res := stale.do(func(s *session) { _ = s.Data }); len(res.Header["Set-Cookie"]) > 0 {
			t.Errorf("got %v, want no cookie at all", res.Header["Set-Cookie"])
		}
	})
}

func TestParallelFlashesAreKeptAndConsumedOnesStayConsumed(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1; s.Flash("info", "one") })
		overlap(b.clone(), func(s *session) { s.Flash("info", "two") }, func() {
			b.do(func(s *session) { s.Flashes() })
		})
		b.do(func(s *session) {
			if f := s.Flashes(); len(f) != 1 || f[0].Message != "two" {
				t.Errorf("got %v, want the added one only", f)
			}
		})
	})
}
