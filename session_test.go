package sessions_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

func TestDataComesBackInTheNextRequest(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP2=%t", http2), func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				b := newSite(t, m, nil).online(http2)
				seen := time.Date(2026, 11, 23, 10, 20, 30, 400, time.UTC)
				b.serve(func(w http.ResponseWriter, r *http.Request) {
					if want := map[bool]int{false: 1, true: 2}[http2]; r.ProtoMajor != want {
						t.Errorf("got HTTP/%d, want %d", r.ProtoMajor, want)
					}
					s := sessions.Get[AppSession](r.Context())
					if !s.IsNew() || s.Reason() != sessions.ReasonNoCookie {
						t.Errorf("got new %v, %q, want a new session without a cookie", s.IsNew(), s.Reason())
					}
					s.Data = AppSession{UserID: 42, Name: "Ada", Role: "admin", Cart: map[string]int{"tea": 2}, Tags: []string{"a", "b"}, Seen: seen}
				})
				b.do(func(s *session) {
					if s.IsNew() {
						t.Errorf("got a new session (%s), want the stored one", s.Reason())
					}
					if d := s.Data; d.UserID != 42 || d.Name != "Ada" || d.Role != "admin" || d.Cart["tea"] != 2 || len(d.Tags) != 2 || !d.Seen.Equal(seen) {
						t.Errorf("got %+v, want what was stored", d)
					}
				})
			})
		})
	}
}

func TestNewSessionLeftUntouchedSendsNothingAndStoresNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		res := s.browser().do(func(s *session) {
			_, _, _, _ = s.ID(), s.CreatedAt(), s.ExpiresAt(), s.Flashes()
			s.SetLifetime(time.Hour)
			s.RegenerateID()
		})
		if lines := res.Header["Set-Cookie"]; len(lines) > 0 {
			t.Errorf("got %v, want no Set-Cookie", lines)
		}
		if m.hasStore() && s.store.count("Create")+s.store.count("Load") > 0 {
			t.Error("the store was asked")
		}
	})
}

func TestUnchangedSessionIsNotWritten(t *testing.T) {
	for name, handler := range map[string]func(*session){
		"read":               func(s *session) { _ = s.Data.Cart["tea"] },
		"set and set back":   func(s *session) { s.Data.N++; s.Data.N-- },
		"set to the same":    func(s *session) { s.Data.Cart["tea"] = 2 },
		"nil to empty":       func(s *session) { s.Data.Tags = []string{} },
		"another zone":       func(s *session) { s.Data.Seen = s.Data.Seen.In(time.FixedZone("x", 3600)) },
		"what is not stored": func(s *session) { s.Data.Local = "changed" },
		"rebuilt map": func(s *session) {
			cart := map[string]int{}
			for k, v := range s.Data.Cart {
				cart[k] = v
			}
			s.Data.Cart = cart
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) {
					s.Data = AppSession{N: 1, Seen: time.Now(), Cart: map[string]int{"tea": 2, "milk": 1, "bread": 7}}
				})
				if m.hasStore() {
					s.store.resetCounts()
				}
				if res := b.do(handler); len(res.Header["Set-Cookie"]) > 0 {
					t.Errorf("got %v, want no Set-Cookie", res.Header["Set-Cookie"])
				}
				if m.hasStore() && (s.store.count("Load") != 1 || s.store.count("Update")+s.store.count("Touch") > 0) {
					t.Errorf("got operations %v, want one Load", s.store.counts)
				}
			})
		})
	}
}

func TestChangesInPlaceAreStored(t *testing.T) {
	for name, handler := range map[string]func(*session){
		"map entry": func(s *session) { s.Data.Cart["tea"] = 9 },
		"append":    func(s *session) { s.Data.Tags = append(s.Data.Tags, "c") },
		"element":   func(s *session) { s.Data.Tags[0] = "z" },
		"deletion":  func(s *session) { delete(s.Data.Cart, "tea") },
		"all of it": func(s *session) { s.Data = AppSession{N: 2} },
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				b := newSite(t, m, nil).browser()
				b.do(func(s *session) {
					s.Data = AppSession{N: 1, Tags: []string{"a", "b"}, Cart: map[string]int{"tea": 2}}
				})
				var want string
				b.do(func(s *session) { handler(s); want = fmt.Sprint(s.Data) })
				if got, reason := b.peek(); fmt.Sprint(got) != want || reason != sessions.ReasonNone {
					t.Errorf("got %v (%s), want %v", got, reason, want)
				}
			})
		})
	}
}

func TestDataOfOneRequestIsNotSharedWithAnother(t *testing.T) {
	b := newSite(t, modes[3], nil).browser()
	var kept map[string]int
	b.do(func(s *session) { s.Data.Cart = map[string]int{"tea": 1}; kept = s.Data.Cart })
	kept["tea"] = 99
	if got, _ := b.peek(); got.Cart["tea"] != 1 {
		t.Errorf("got %d, want the 1 that was stored", got.Cart["tea"])
	}
}

func TestRegenerateID(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.Name = "planted"; s.Flash("info", "hello") })
		thief := b.clone()
		var before, after string
		b.do(func(s *session) {
			before = s.ID()
			s.RegenerateID()
			s.Data.UserID = 42
			if after = s.ID(); after == before {
				t.Error("the id is the old one, want the new one at once")
			}
		})
		t.Run("keeps data and flashes under the new id", func(t *testing.T) {
			b.clone().do(func(s *session) {
				if s.ID() != after || s.Data.UserID != 42 || s.Data.Name != "planted" || len(s.Flashes()) != 1 {
					t.Errorf("got %s %+v, want id %s and the same data", s.ID(), s.Data, after)
				}
			})
		})
		got, reason := thief.peek()
		if m.hasStore() {
			if reason != sessions.ReasonReplaced || got.UserID != 0 {
				t.Errorf("old id: got %q and user %d, want it dead", reason, got.UserID)
			}
			if live := s.store.live(); len(live) != 1 || live[0].String() != after {
				t.Errorf("got records %v, want only %s", live, after)
			}
		} else if got.UserID != 0 {
			t.Errorf("the old cookie has user %d, want what it had", got.UserID)
		}
	})
}

func TestRegenerateIDTwiceLeavesOneRecord(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		b.do(func(s *session) { s.RegenerateID(); s.RegenerateID() })
		if live := s.store.live(); len(live) != 1 {
			t.Errorf("got %d records, want 1", len(live))
		}
		if d, _ := b.peek(); d.N != 1 {
			t.Errorf("got N=%d, want 1", d.N)
		}
	})
}

func TestDestroy(t *testing.T) {
	for name, then := range map[string]func(*session){
		"alone":            func(*session) {},
		"then edited":      func(s *session) { s.Data.UserID = 7 },
		"then flashed":     func(s *session) { s.Flash("info", "x") },
		"then regenerated": func(s *session) { s.RegenerateID() },
		"then updated":     func(s *session) { s.Update(func(d *AppSession) { t.Error("the function ran") }) },
		"twice":            func(s *session) { s.Destroy() },
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Data.UserID = 42 })
				thief := b.clone()
				res := b.do(func(s *session) {
					s.Destroy()
					if s.Data.UserID != 0 {
						t.Error("Data is not the zero value")
					}
					then(s)
				})
				if b.cookie() != "" || len(res.setCookies()) != 1 {
					t.Errorf("got Set-Cookie %v, want one that expires the cookie", res.setCookies())
				}
				if m.hasStore() {
					if live := s.store.live(); len(live) != 0 {
						t.Errorf("got records %v, want none", live)
					}
					if _, reason := thief.peek(); reason != sessions.ReasonUnknown {
						t.Errorf("old cookie: got %q, want it dead", reason)
					}
				}
			})
		})
	}
}

func TestDestroyAfterRegenerateIDDeletesTheLoadedRecord(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		b.do(func(s *session) { s.RegenerateID(); s.Destroy() })
		if live := s.store.live(); len(live) != 0 {
			t.Errorf("got records %v, want none", live)
		}
	})
}

func TestReset(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data = AppSession{UserID: 42, Name: "Ada"}; s.SetLifetime(time.Hour) })
		old := b.clone()
		var before string
		b.do(func(s *session) {
			before = s.ID()
			s.Reset()
			if s.Data.UserID != 0 || s.Reason() != sessions.ReasonReset || s.ID() == before {
				t.Errorf("got %+v, %q, want a new session", s.Data, s.Reason())
			}
			s.Flash("info", "You have signed out")
		})
		if m.hasStore() {
			if _, reason := old.peek(); reason != sessions.ReasonUnknown {
				t.Errorf("old cookie: got %q, want it dead", reason)
			}
		}
		b.do(func(s *session) {
			if f := s.Flashes(); len(f) != 1 || s.Data.UserID != 0 || s.Data.Name != "" {
				t.Errorf("got %v and %+v, want the message and no data", f, s.Data)
			}
			if left := time.Until(s.ExpiresAt()); left < 23*time.Hour {
				t.Errorf("ends in %v, want Config.Lifetime", left)
			}
		})
	})
}

func TestResetWithoutAChangeOnlyExpiresTheCookie(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.UserID = 42 })
		b.do(func(s *session) { s.Reset() })
		if b.cookie() != "" {
			t.Error("the browser still has a cookie")
		}
		if m.hasStore() && len(s.store.live()) != 0 {
			t.Error("a record is left")
		}
		res := s.browser().do(func(s *session) { s.Reset(); s.Destroy() })
		if len(res.Header["Set-Cookie"]) > 0 {
			t.Errorf("got %v for a visitor without a cookie, want nothing", res.Header["Set-Cookie"])
		}
	})
}

func TestUpdateRunsOnDataAtOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		b.do(func(s *session) { s.Data.N = 1 })
		b.do(func(s *session) {
			s.Data.N = 5
			s.Update(func(d *AppSession) { d.N++ })
			if s.Data.N != 6 {
				t.Errorf("got %d, want 6", s.Data.N)
			}
			s.Data.N *= 2
		})
		if d, _ := b.peek(); d.N != 12 {
			t.Errorf("got %d, want 12", d.N)
		}
	})
}

func TestUpdateThatPanicsLeavesDataAsItWas(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		b.do(func(s *session) { s.Data.Cart = map[string]int{"tea": 1} })
		b.do(func(s *session) {
			s.Data.Local = "kept"
			func() {
				defer func() {
					if p := recover(); p != "boom" {
						t.Errorf("got panic %v, want the function's own", p)
					}
				}()
				s.Update(func(d *AppSession) { d.Cart["tea"] = 2; d.N = 9; panic("boom") })
			}()
			if s.Data.Cart["tea"] != 1 || s.Data.N != 0 || s.Data.Local != "kept" {
				t.Errorf("got %+v, want what was there", s.Data)
			}
			s.Update(func(d *AppSession) { d.Cart["tea"] = 3 }) // the lock is free
		})
		if d, _ := b.peek(); d.Cart["tea"] != 3 {
			t.Errorf("got %v, want the last Update", d.Cart)
		}
	})
}

func TestSaveStoresAtOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		res := b.serve(func(w http.ResponseWriter, r *http.Request) {
			sess := sessions.Get[AppSession](r.Context())
			sess.Data.N = 1
			if err := sess.Save(r.Context()); err != nil {
				t.Error(err)
			}
			if len(s.store.live()) != 1 {
				t.Error("no record after Save")
			}
			sess.Data.N = 2
			if err := sess.Save(r.Context()); err != nil {
				t.Error(err)
			}
			_, _ = w.Write([]byte("x"))
			sess.Data.N = 3
			if err := sess.Save(r.Context()); err != nil {
				t.Error(err)
			}
			sess.Data.N = 4 // stored at return
		})
		if n := len(res.setCookies()); n != 1 {
			t.Errorf("got %d session cookies, want 1", n)
		}
		if d, _ := b.peek(); d.N != 4 {
			t.Errorf("got N=%d, want 4", d.N)
		}
		if n := len(s.events.of(sessions.EventLate)); n != 0 {
			t.Errorf("got %d late events, want none", n)
		}
	})
}

func TestSaveAfterTheHeadersIsTooLateForACookie(t *testing.T) {
	for name, verb := range map[string]func(*session){
		"of a new session": func(s *session) { s.Data.N = 1 },
		"of a new id":      func(s *session) { s.RegenerateID() },
		"of a lifetime":    func(s *session) { s.SetLifetime(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b := s.browser()
				if name != "of a new session" {
					b.do(func(s *session) { s.Data.N = 7 })
				}
				before := b.cookie()
				b.serve(func(w http.ResponseWriter, r *http.Request) {
					sess := sessions.Get[AppSession](r.Context())
					w.WriteHeader(200)
					verb(sess)
					if err := sess.Save(r.Context()); !errors.Is(err, sessions.ErrTooLate) {
						t.Errorf("got %v, want ErrTooLate", err)
					}
				})
				if n := len(s.events.of(sessions.EventLate)); n != 1 {
					t.Errorf("got %d late events, want 1", n)
				}
				if before != "" {
					if d, _ := b.peek(); d.N != 7 || b.cookie() != before {
						t.Error("the session changed, want it as it was")
					}
				}
			})
		})
	}
}

func TestSaveInCookieModeReportsWhatTheCommitWould(t *testing.T) {
	s := newSite(t, modes[0], nil)
	b := s.browser()
	b.serve(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		sess.Data.Role = "emperor"
		if err := sess.Save(r.Context()); !errors.Is(err, sessions.ErrInvalid) {
			t.Errorf("got %v, want ErrInvalid", err)
		}
		sess.Data.Role = "user"
		sess.Data.Name = string(make([]byte, 5000))
		if err := sess.Save(r.Context()); !errors.Is(err, sessions.ErrTooLarge) {
			t.Errorf("got %v, want ErrTooLarge", err)
		}
		sess.Data.Name = "fits"
		if err := sess.Save(r.Context()); err != nil {
			t.Error(err)
		}
		if len(w.Header()["Set-Cookie"]) > 0 {
			t.Error("Save set the cookie, want the commit to")
		}
	})
	if d, _ := b.peek(); d.Name != "fits" {
		t.Errorf("got %q, want what was there at the end", d.Name)
	}
}

func TestIDIsNoCredential(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		var id string
		b.do(func(s *session) { s.Data.UserID = 42; id = s.ID() })
		b.do(func(s *session) {
			if s.ID() != id {
				t.Errorf("got id %s, want %s again", s.ID(), id)
			}
		})
		thief := b.clone()
		for name := range thief.cookies {
			thief.cookies[name] = id
		}
		if d, reason := thief.peek(); d.UserID != 0 || reason != sessions.ReasonForged {
			t.Errorf("got user %d (%q), want a forged cookie", d.UserID, reason)
		}
	})
}

func TestMethodsMayBeCalledFromManyGoroutines(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		b.serve(func(w http.ResponseWriter, r *http.Request) {
			done := make(chan bool)
			for i := range 16 {
				go func() {
					defer func() { done <- true }()
					sess := sessions.Get[AppSession](r.Context())
					sess.Update(func(d *AppSession) { d.N++ })
					sess.Flash("info", "x")
					_, _, _, _ = sess.Flashes(), sess.ID(), sess.CreatedAt(), fmt.Sprint(sess)
					if i%4 == 0 {
						sess.RegenerateID()
						_ = sess.Save(r.Context())
					}
				}()
			}
			for range 16 {
				<-done
			}
		})
		if d, _ := b.peek(); d.N != 17 {
			t.Errorf("got N=%d, want 17", d.N)
		}
	})
}
