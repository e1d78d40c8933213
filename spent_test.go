package sessions_test

import (
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
