package sessions_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// spends are the ways to leave nothing in a session, begun by the fill beside
// them.
var spends = []struct {
	name  string
	fill  func(*session)
	spend func(*session)
}{
	{"the last message is taken", func(s *session) { s.Flash("info", "bye") }, func(s *session) { s.Flashes() }},
	{"Data becomes zero", func(s *session) { s.Data.N = 1 }, func(s *session) { s.Data = AppSession{} }},
	{"Data becomes zero by Update", func(s *session) { s.Data.N = 1 }, func(s *session) { s.Update(func(d *AppSession) { d.N = 0 }) }},
	{"both", func(s *session) { s.Data.N = 1; s.Flash("info", "bye") }, func(s *session) { s.Data.N = 0; s.Flashes("info") }},
	{"what is not stored stays", func(s *session) { s.Data.N = 1 }, func(s *session) { s.Data = AppSession{Local: "x"} }},
	{"SetLifetime asks for the default", func(s *session) { s.Data.N = 1 }, func(s *session) { s.Data.N = 0; s.SetLifetime(0) }},
	{"SetLifetime is taken back", func(s *session) { s.SetLifetime(time.Hour); s.Flash("info", "x") }, func(s *session) { s.SetLifetime(0); s.Flashes() }},
	{"under another id", func(s *session) { s.Data.N = 1 }, func(s *session) { s.RotateID(); s.Data.N = 0 }},
	{"with a new authentication", func(s *session) { s.Data.N = 1 }, func(s *session) { s.RegenerateID(); s.Data.N = 0 }},
	{"a message that is shown at once", func(s *session) { s.Flash("info", "x") }, func(s *session) { s.FlashNow("info", "y"); s.Flashes() }},
}

func TestASessionOfWhichNothingIsLeftEnds(t *testing.T) {
	for _, tt := range spends {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b := s.browser()
				b.do(tt.fill)
				id, old := idOf(b), b.clone()
				s.events.reset()
				res := b.do(tt.spend)
				if res.StatusCode != 200 || len(gone(res.setCookies(), "__Host-Http-session")) != 1 || len(res.setCookies()) != 1 {
					t.Errorf("got %d with %q, want 200 and the cookie expired", res.StatusCode, res.setCookies())
				}
				wantEnd(t, s, id, sessions.ReasonSpent, "")
				if n := len(s.events.all); n != 1 {
					t.Errorf("got %d events %v, want the end alone", n, s.events.all)
				}
				if m.hasStore() {
					if n := len(s.store.live()); n != 0 {
						t.Errorf("got %d records, want none", n)
					}
					if _, reason := old.peek(); reason != sessions.ReasonUnknown {
						t.Errorf("got %q for the old id, want unknown", reason)
					}
				}
				if res := b.do(func(s *session) { _ = s.Data.N }); len(res.Header["Set-Cookie"]) > 0 {
					t.Errorf("got %q by the next request, want no cookie", res.Header["Set-Cookie"])
				}
			})
		})
	}
}

func TestASessionOfWhichSomethingIsLeftStays(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fill  func(*session)
		leave func(*session)
	}{
		{"a message of another kind", func(s *session) { s.Flash("info", "a"); s.Flash("error", "b") }, func(s *session) { s.Flashes("info") }},
		{"a message that this request left", func(s *session) { s.Flash("info", "a") }, func(s *session) { s.Flashes(); s.Flash("info", "b") }},
		{"the same message again", func(s *session) { s.Flash("info", "a") }, func(s *session) { s.Flashes(); s.Flash("info", "a") }},
		{"Data", func(s *session) { s.Data.N = 1; s.Flash("info", "a") }, func(s *session) { s.Flashes() }},
		{"a length", func(s *session) { s.SetLifetime(time.Hour); s.Flash("info", "a") }, func(s *session) { s.Flashes() }},
		{"a length that is set now", func(s *session) { s.Data.N = 1 }, func(s *session) { s.SetLifetime(time.Hour); s.Data.N = 0 }},
		{"nothing that this request took", func(s *session) { s.Flash("info", "a") }, func(*session) {}},
		{"a message that nobody asked for", func(s *session) { s.Flash("info", "a") }, func(s *session) { s.Flashes("error") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b := s.browser()
				b.do(tt.fill)
				id := idOf(b)
				b.do(tt.leave)
				if _, reason := b.peek(); reason != sessions.ReasonNone || idOf(b) != id {
					t.Errorf("got %q, want the session", reason)
				}
				if n := len(s.events.of(sessions.EventEnded)); n > 0 {
					t.Errorf("got %d ends, want none", n)
				}
			})
		})
	}
}

func TestASessionThatAlwaysHadNothingIsNotStored(t *testing.T) {
	for name, verb := range map[string]func(*session){
		"there and back":    func(s *session) { s.Data.N = 1; s.Data.N = 0 },
		"SetLifetime alone": func(s *session) { s.SetLifetime(time.Hour) },
		"RegenerateID":      (*session).RegenerateID,
		"RotateID":          (*session).RotateID,
		"FlashNow":          func(s *session) { s.FlashNow("info", "x") },
		"a zero Update":     func(s *session) { s.Update(func(*AppSession) {}) },
		"a Save":            func(s *session) { _ = s.Save(bg) },
		"Reset":             (*session).Reset,
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b := s.browser()
				if res := b.do(verb); len(res.Header["Set-Cookie"]) > 0 || len(s.events.all) > 0 || s.store != nil && len(s.store.created) > 0 {
					t.Errorf("got %q and the events %v, want nothing sent and nothing stored", res.Header["Set-Cookie"], s.events.all)
				}
			})
		})
	}
}

func TestALogoutWithAMessageLeavesNothingOnceItWasShown(t *testing.T) {
	eachOwnedMode(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b, _ := signIn(s, 42)
		b.do(func(s *session) { s.Reset(); s.Flash("info", "You have signed out") })
		s.events.reset()
		id := idOf(b)
		wantMessages(t, "after the logout", takeFlashes(b), "You have signed out")
		wantEnd(t, s, id, sessions.ReasonSpent, "")
		if b.cookie() != "" || m.hasStore() && len(s.store.live()) > 0 {
			t.Error("a cookie or a record of nothing is left")
		}
	})
}

func TestASaveThatSpendsASessionEndsItAtOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		id := idOf(b)
		res := b.do(func(x *session) {
			x.Data.N = 0
			if err := x.Save(bg); err != nil {
				t.Error(err)
			}
			if n := len(s.store.live()); n != 0 {
				t.Errorf("got %d records after the Save, want none", n)
			}
			if !x.IsNew() || x.Reason() != sessions.ReasonSpent {
				t.Errorf("got %q, want a new session in place of a spent one", x.Reason())
			}
			if err := x.Save(bg); err != nil {
				t.Errorf("Save of nothing: got %v, want nil", err)
			}
		})
		if len(res.setCookies()) != 1 || b.cookie() != "" {
			t.Errorf("got %q, want the cookie expired", res.setCookies())
		}
		wantEnd(t, s, id, sessions.ReasonSpent, "")
	})
}

func TestWhatASpentSessionGetsAfterASaveBeginsAnother(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		id, old := idOf(b), b.clone()
		res := b.do(func(s *session) {
			s.Data.N = 0
			_ = s.Save(bg)
			s.Data.N = 2
		})
		if len(res.setCookies()) != 1 {
			t.Errorf("got %q, want one cookie", res.setCookies())
		}
		if d, reason := b.peek(); d.N != 2 || reason != sessions.ReasonNone || idOf(b) == id {
			t.Errorf("got N=%d, %q, want another session", d.N, reason)
		}
		if _, reason := old.peek(); reason != sessions.ReasonUnknown {
			t.Errorf("got %q for the old id, want unknown", reason)
		}
		wantEnd(t, s, id, sessions.ReasonSpent, "")
		if started := s.events.of(sessions.EventStarted); len(started) != 2 || started[1].Reason != sessions.ReasonSpent {
			t.Errorf("got the starts %v, want another for the reason that one was spent", started)
		}
	})
}

func TestASessionThatIsSpentAfterTheHeadersEndsInTheStore(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		id := idOf(b)
		b.serve(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			sessions.Get[AppSession](r.Context()).Data.N = 0
		})
		if !m.hasStore() {
			if d, _ := b.peek(); d.N != 1 || len(s.events.of(sessions.EventLate)) != 1 {
				t.Errorf("got N=%d and the events %v, want the cookie as it was and an event", d.N, s.events.all)
			}
			return
		}
		wantEnd(t, s, id, sessions.ReasonSpent, "")
		if len(s.store.live()) > 0 || len(s.events.of(sessions.EventLate)) > 0 {
			t.Errorf("got %d records and the events %v, want the end alone: it needs no cookie", len(s.store.live()), s.events.all)
		}
	})
}

// Two requests of one visitor: the first takes the last message, which ends the
// session, while the other has it loaded.
func TestARequestThatFindsASpentSessionGoneBeginsItsOwnIfItHasSomethingToKeep(t *testing.T) {
	for _, tt := range []struct {
		name  string
		later func(*session)
		user  int
		n     int
		flash []string
	}{
		{"an edit", func(s *session) { s.Data.N = 7 }, 0, 7, nil},
		{"an Update", func(s *session) { s.Update(func(d *AppSession) { d.N += 7 }) }, 0, 7, nil},
		{"a message", func(s *session) { s.Flash("info", "late") }, 0, 0, []string{"late"}},
		{"a message like the one that was taken, and data", func(s *session) { s.Flash("info", "bye"); s.Data.N = 7 }, 0, 7, []string{"bye"}},
		{"an edit and a length", func(s *session) { s.Data.N = 7; s.SetLifetime(time.Hour) }, 0, 7, nil},
		{"an edit that is saved", func(s *session) { s.Data.N = 7; _ = s.Save(bg) }, 0, 7, nil},
		{"an edit after a Save of nothing", func(s *session) { s.Flash("info", "late"); s.Data.N = 7 }, 0, 7, []string{"late"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Flash("info", "bye") })
				first := b.clone()
				id := idOf(b)
				res := overlap(b, tt.later, func() { first.do(func(s *session) { s.Flashes() }) })
				if res.StatusCode != 200 || len(res.setCookies()) != 1 || b.cookie() == "" {
					t.Fatalf("got %d with %q, want 200 and a cookie", res.StatusCode, res.setCookies())
				}
				d, reason := b.peek()
				if d.UserID != tt.user || d.N != tt.n || reason != sessions.ReasonNone || idOf(b) == id {
					t.Errorf("got %+v, %q, want a session of its own", d, reason)
				}
				wantEnd(t, s, id, sessions.ReasonSpent, "")
				if n := len(s.events.of(sessions.EventDiscarded)); n > 0 {
					t.Errorf("got %d events of discarded changes, want none", n)
				}
				if n := len(s.store.live()); n != 1 {
					t.Errorf("got %d records, want 1", n)
				}
				wantMessages(t, "of the session", takeFlashes(b), tt.flash...)
			})
		})
	}
}

func TestARequestThatFindsASpentSessionGoneAndHasNothingToKeepSendsNothing(t *testing.T) {
	for name, later := range map[string]func(*session){
		"a read":                        func(s *session) { _ = s.Data.N },
		"messages that it took too":     func(s *session) { s.Flashes() },
		"an edit that is taken back":    func(s *session) { s.Data.N = 1; s.Data.N = 0 },
		"SetLifetime of zero":           func(s *session) { s.SetLifetime(0) },
		"a message that is shown alone": func(s *session) { s.FlashNow("info", "x"); s.Flashes() },
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Flash("info", "bye") })
				first, id := b.clone(), idOf(b)
				res := overlap(b, later, func() { first.do(func(s *session) { s.Flashes() }) })
				if lines := res.setCookies(); res.StatusCode != 200 || len(lines) != len(gone(lines, "__Host-Http-session")) {
					t.Errorf("got %d with %q, want 200 without a session", res.StatusCode, lines)
				}
				if n := len(s.store.live()); n != 0 {
					t.Errorf("got %d records, want none", n)
				}
				wantEnd(t, s, id, sessions.ReasonSpent, "")
			})
		})
	}
}

// The session had data when the other loaded it: then it was not spent by itself,
// and what is late is lost as after a Destroy.
func TestARequestThatLoadedDataDoesNotReviveASpentSession(t *testing.T) {
	for name, later := range map[string]func(*session){
		"an edit":        func(s *session) { s.Data.Name = "late" },
		"a message":      func(s *session) { s.Flash("info", "late") },
		"a sign-in":      func(s *session) { s.RegenerateID(); become(42)(s) },
		"an edit, saved": func(s *session) { s.Data.Name = "late"; _ = s.Save(bg) },
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Data.N = 1 })
				first := b.clone()
				res := overlap(b, later, func() { first.do(func(s *session) { s.Data.N = 0 }) })
				if len(res.setCookies()) > 0 || len(s.store.live()) > 0 {
					t.Errorf("got %q and %d records, want none", res.setCookies(), len(s.store.live()))
				}
				if got := s.events.of(sessions.EventDiscarded); len(got) != 1 || got[0].Reason != sessions.ReasonUnknown {
					t.Errorf("got the events %v, want one that changes were discarded", got)
				}
			})
		})
	}
}

func TestASessionIntoWhichAnotherPutsSomethingMeanwhileIsNotSpent(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first func(s *site, b *browser)
		n     int
		flash []string
	}{
		{"an edit", func(_ *site, b *browser) { b.do(func(s *session) { s.Data.N = 7 }) }, 7, nil},
		{"a message", func(_ *site, b *browser) { b.do(func(s *session) { s.Flash("info", "new") }) }, 0, []string{"new"}},
		{"an Edit", func(s *site, b *browser) {
			if err := s.mgr.Edit(bg, idOf(b), func(d *AppSession) { d.N = 7 }); err != nil {
				s.t.Error(err)
			}
		}, 7, nil},
		{"a length", func(_ *site, b *browser) { b.do(func(s *session) { s.SetLifetime(time.Hour) }) }, 0, nil},
	} {
		for _, when := range []string{"before the commit", "at the Delete"} {
			t.Run(tt.name+", "+when, func(t *testing.T) {
				eachStore(t, func(t *testing.T, m mode) {
					s := newSite(t, m, nil)
					b := s.browser()
					b.do(func(s *session) { s.Flash("info", "bye") })
					id, first := idOf(b), b.clone()
					var res *reply
					if when == "before the commit" {
						res = overlap(b, func(s *session) { s.Flashes() }, func() { tt.first(s, first) })
					} else {
						s.store.onceBefore("Delete", func() {
							tt.first(s, first)
						})
						res = b.do(func(s *session) { s.Flashes() })
						s.store.hook(nil, nil)
					}
					if res.StatusCode != 200 || len(gone(res.setCookies(), "__Host-Http-session")) > 0 {
						t.Errorf("got %d with %q, want 200 and the cookie left", res.StatusCode, res.setCookies())
					}
					if d, reason := b.peek(); d.N != tt.n || reason != sessions.ReasonNone || idOf(b) != id {
						t.Errorf("got N=%d, %q, want the session with what the other put into it", d.N, reason)
					}
					if n := len(s.events.of(sessions.EventEnded)); n > 0 {
						t.Errorf("got %d ends, want none", n)
					}
					wantMessages(t, "left", takeFlashes(b), tt.flash...)
				})
			})
		}
	}
}

func TestTwoThatSpendASessionAtOnceTellOneEnd(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Flash("info", "bye") })
		id, first := idOf(b), b.clone()
		res := overlap(b, func(s *session) { s.Flashes() }, func() { first.do(func(s *session) { s.Flashes() }) })
		wantEnd(t, s, id, sessions.ReasonSpent, "")
		if res.StatusCode != 200 || len(s.store.live()) > 0 {
			t.Errorf("got %d and %d records, want 200 and none", res.StatusCode, len(s.store.live()))
		}
	})
}

func TestASessionThatMovedMeanwhileIsNotSpent(t *testing.T) {
	for _, move := range moves {
		t.Run(move.name, func(t *testing.T) {
			eachOwnerStore(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Flash("info", "bye") })
				late := b.clone()
				res := overlap(late, func(s *session) { s.Flashes(); s.Data.Name = "late" }, func() { b.do(func(s *session) { s.Data.N = 1; move.move(s) }) })
				if len(res.Header["Set-Cookie"]) > 0 {
					t.Errorf("got %q, want none: the new id's cookie is the good one", res.Header["Set-Cookie"])
				}
				if got := s.events.of(sessions.EventDiscarded); len(got) != 1 || got[0].Reason != sessions.ReasonReplaced {
					t.Errorf("got the events %v, want one that the id was replaced", got)
				}
				if _, reason := b.peek(); reason != sessions.ReasonNone || len(s.store.live()) != 1 {
					t.Errorf("got %q and %d records, want the session that moved", reason, len(s.store.live()))
				}
				if n := len(s.events.of(sessions.EventEnded)); n > 0 {
					t.Errorf("got %d ends, want none", n)
				}
			})
		})
	}
}

func TestASessionThatCannotBeSpentStaysAsItWas(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1; s.Flash("info", "bye") })
		s.store.hook(failing("Delete", 1), nil)
		res := b.do(func(s *session) { s.Data.N = 0; s.Flashes() })
		s.store.hook(nil, nil)
		if res.StatusCode != http.StatusServiceUnavailable || len(res.setCookies()) > 0 {
			t.Errorf("got %d with %q, want 503 without a cookie", res.StatusCode, res.setCookies())
		}
		if d, _ := b.peek(); d.N != 1 {
			t.Errorf("got N=%d, want 1", d.N)
		}
		wantMessages(t, "left", takeFlashes(b), "bye")
	})
}

func TestASpentSessionThatASaveCouldNotEndIsEndedByTheCommit(t *testing.T) {
	for _, done := range []bool{false, true} {
		eachStore(t, func(t *testing.T, m mode) {
			s := newSite(t, m, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			b.do(func(x *session) {
				if done {
					s.store.hook(nil, failing("Delete", 1))
				} else {
					s.store.hook(failing("Delete", 1), nil)
				}
				x.Data.N = 0
				if err := x.Save(bg); !errors.Is(err, errLost) {
					t.Errorf("Save: got %v, want the error of the store", err)
				}
			})
			if len(s.store.live()) > 0 {
				t.Errorf("done=%t: got %d records, want none", done, len(s.store.live()))
			}
			if _, reason := b.peek(); reason == sessions.ReasonNone {
				t.Errorf("done=%t: the session lives", done)
			}
		})
	}
}

func TestALoggedOutBrowserHasNoCookieAndNoRecordAfterManyVisits(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, nil)
			b := s.browser()
			for range 5 {
				b.do(func(s *session) { s.Flash("error", "Please sign in") })
				b.do(func(s *session) { s.Flashes(); s.RegenerateID(); become(42)(s) })
				b.do(func(s *session) { s.Reset(); s.Flash("info", "bye") })
				b.do(func(s *session) { s.Flashes() })
			}
			time.Sleep(2 * time.Minute) // past the tombstones
			for _, id := range s.store.created {
				if rec, err := s.store.Store.Load(bg, id); err == nil {
					t.Errorf("got a record of %d bytes, want none", len(rec.Data))
				}
			}
			if b.cookie() != "" {
				t.Error("got a cookie, want none")
			}
			started, ended := s.events.of(sessions.EventStarted), s.events.of(sessions.EventEnded)
			if len(started) != 10 || len(ended) != 10 {
				t.Errorf("got %d starts and %d ends, want 10 of each", len(started), len(ended))
			}
		})
	})
}

// A sign-out that clears Data in place of Destroy.
func TestASessionThatAnOwnerLeavesWithNothingInItEnds(t *testing.T) {
	for name, before := range map[string]func(*session){
		"":                         func(*session) {},
		", with a length":          func(s *session) { s.SetLifetime(30 * 24 * time.Hour) },
		", under another id":       (*session).RotateID,
		", after a message to all": func(s *session) { s.Flash("info", "x"); s.Flashes() },
	} {
		t.Run("by clearing it"+name, func(t *testing.T) {
			eachOwnedMode(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, func(c *config) {
					if m.hasStore() {
						c.MaxPerOwner = 3
					}
				})
				b, _ := signIn(s, 42)
				b.do(before)
				takeFlashes(b)
				id := idOf(b)
				b.do(func(s *session) { s.Data = AppSession{} })
				wantEnd(t, s, id, sessions.ReasonSpent, "42")
				if b.cookie() != "" || s.store != nil && len(s.store.live()) > 0 {
					t.Error("a cookie or a record of nothing is left")
				}
			})
		})
	}
}

// What a request with a session that another has spent begins is a session of its own.
func TestAMoveOfASpentSessionShowsNoMessageTwice(t *testing.T) {
	for name, later := range map[string]func(*session){
		"a sign-in":                func(s *session) { s.RegenerateID(); become(42)(s) },
		"a sign-in without a verb": become(42),
		"an edit under another id": func(s *session) { s.RotateID(); s.Data.N = 7 },
	} {
		t.Run(name, func(t *testing.T) {
			eachOwnerStore(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Flash("info", "bye") })
				first, id := b.clone(), idOf(b)
				s.events.reset()
				res := overlap(b, later, func() { first.do(func(s *session) { s.Flashes() }) })
				if len(res.setCookies()) != 1 || b.cookie() == "" || len(s.store.live()) != 1 {
					t.Errorf("got %q, want a cookie", res.setCookies())
				}
				wantMessages(t, "of the session", takeFlashes(b))
				for _, e := range s.events.of(sessions.EventRenewed) {
					if e.Previous == id {
						t.Errorf("got %#v of a session that has ended, want a start", e)
					}
				}
			})
		})
	}
}
