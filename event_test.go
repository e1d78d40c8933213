package sessions_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// wantEnd checks that exactly one end was told: of the session with the id, for
// the reason, with the owner.
func wantEnd(t testing.TB, s *site, id string, reason sessions.Reason, owner string) {
	t.Helper()
	got := s.events.of(sessions.EventEnded)
	if len(got) != 1 || got[0].ID != id || got[0].Reason != reason || got[0].Owner != owner || got[0].Err != nil {
		t.Errorf("got the ends %#v, want one of %s (%s) of %q", got, id, reason, owner)
	}
}

// ends are the verbs that end the session of a request.
var ends = []struct {
	name   string
	end    func(*session)
	reason sessions.Reason
}{
	{"Destroy", (*session).Destroy, sessions.ReasonDestroyed},
	{"Destroy twice", func(s *session) { s.Destroy(); s.Destroy() }, sessions.ReasonDestroyed},
	{"Reset", (*session).Reset, sessions.ReasonReset},
	{"Reset twice", func(s *session) { s.Reset(); s.Reset() }, sessions.ReasonReset},
	{"Reset and a message", func(s *session) { s.Reset(); s.Flash("info", "bye") }, sessions.ReasonReset},
	{"Reset and Destroy", func(s *session) { s.Reset(); s.Destroy() }, sessions.ReasonReset},
	{"SetLifetime below zero", func(s *session) { s.SetLifetime(-time.Second) }, sessions.ReasonExpired},
	{"Destroy by Update", func(s *session) { s.Update(func(*AppSession) { s.Destroy() }) }, sessions.ReasonDestroyed},
	{"Destroy after other changes", func(s *session) { s.Data.UserID = 43; s.RegenerateID(); s.Destroy() }, sessions.ReasonDestroyed},
	{"Destroy and a Save", func(s *session) { s.Destroy(); _ = s.Save(bg) }, sessions.ReasonDestroyed},
	{"Reset and a Save of another", func(s *session) { s.Reset(); s.Data.N = 1; _ = s.Save(bg) }, sessions.ReasonReset},
}

func TestTheEndOfASessionIsToldOnceWithTheOwnerThatItWasLoadedWith(t *testing.T) {
	for _, tt := range ends {
		t.Run(tt.name, func(t *testing.T) {
			eachOwnedMode(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, nil)
				b, id := signIn(s, 42)
				b.do(tt.end)
				wantEnd(t, s, id, tt.reason, "42")
				if n := len(s.events.of(sessions.EventRenewed)); n > 0 {
					t.Errorf("got %d events of a new id, want none", n)
				}
			})
		})
	}
}

func TestTheEndOfASessionOfNobodyIsToldToo(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		id := idOf(b)
		b.do((*session).Destroy)
		wantEnd(t, s, id, sessions.ReasonDestroyed, "")
	})
}

func TestWhatWasNeverStoredHasNoEnd(t *testing.T) {
	for _, tt := range ends {
		t.Run(tt.name, func(t *testing.T) {
			eachOwnedMode(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Data.N = 1; tt.end(s) })
				if got := s.events.of(sessions.EventEnded); len(got) > 0 {
					t.Errorf("got the ends %v, want none", got)
				}
			})
		})
	}
}

func TestASaveThatDestroyFollowsIsABeginningAndAnEnd(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b := s.browser()
		var id string
		b.do(func(s *session) {
			s.Data.UserID = 42
			if err := s.Save(bg); err != nil {
				t.Error(err)
			}
			id = s.ID()
			s.Destroy()
		})
		if got := s.events.of(sessions.EventStarted); len(got) != 1 || got[0].ID != id || got[0].Owner != "42" {
			t.Errorf("got the starts %#v, want one", got)
		}
		wantEnd(t, s, id, sessions.ReasonDestroyed, "42")
	})
}

func TestTheManagersEndsAreToldOnce(t *testing.T) {
	for name, end := range map[string]func(s *site, id string) error{
		"Revoke":       func(s *site, id string) error { return s.mgr.Revoke(bg, id) },
		"Revoke twice": func(s *site, id string) error { return errors.Join(s.mgr.Revoke(bg, id), s.mgr.Revoke(bg, id)) },
		"RevokeOwner":  func(s *site, _ string) error { _, err := s.mgr.RevokeOwner(bg, "42"); return err },
		"RevokeOwner, then Revoke": func(s *site, id string) error {
			_, err := s.mgr.RevokeOwner(bg, "42")
			return errors.Join(err, s.mgr.Revoke(bg, id))
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachOwnerStore(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, nil)
				b, id := signIn(s, 42)
				if err := end(s, id); err != nil {
					t.Fatal(err)
				}
				wantEnd(t, s, id, sessions.ReasonRevoked, "42")
				// The request that meets it tells that its cookie was refused, and ends nothing.
				b.do((*session).Destroy)
				wantEnd(t, s, id, sessions.ReasonRevoked, "42")
			})
		})
	}
}

func TestRevokeOwnerTellsEachEndOnce(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		want := map[string]bool{}
		for range 5 {
			_, id := signIn(s, 42)
			want[id] = true
		}
		_, spared := signIn(s, 42)
		signIn(s, 43)
		if n, err := s.mgr.RevokeOwner(bg, "42", spared); n != 5 || err != nil {
			t.Fatalf("got %d, %v, want 5", n, err)
		}
		for _, e := range s.events.of(sessions.EventEnded) {
			if !want[e.ID] || e.Owner != "42" || e.Reason != sessions.ReasonRevoked {
				t.Errorf("got %#v, want the end of one of the five, once", e)
			}
			delete(want, e.ID)
		}
		if len(want) > 0 {
			t.Errorf("%d ends were not told", len(want))
		}
	})
}

func TestANewIDIsToldWithTheOldOne(t *testing.T) {
	for _, tt := range []struct {
		name   string
		move   func(*session)
		before int
		after  int
	}{
		{"RegenerateID of a visitor", (*session).RegenerateID, 0, 0},
		{"RotateID of a visitor", (*session).RotateID, 0, 0},
		{"RegenerateID", (*session).RegenerateID, 42, 42},
		{"RotateID", (*session).RotateID, 42, 42},
		{"both", func(s *session) { s.RotateID(); s.RegenerateID() }, 42, 42},
		{"RegenerateID and a Save", func(s *session) { s.RegenerateID(); _ = s.Save(bg); s.Data.N++ }, 42, 42},
		{"a sign-in", func(s *session) { s.RegenerateID(); s.Data.UserID = 42 }, 0, 42},
		{"a sign-in of another", func(s *session) { s.RegenerateID(); s.Data.UserID = 43 }, 42, 43},
		{"by Update", func(s *session) { s.Update(func(d *AppSession) { d.N++; s.RotateID() }) }, 42, 42},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachOwnedMode(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Data.UserID, s.Data.N = tt.before, 1 })
				old := idOf(b)
				s.events.reset()
				b.do(tt.move)
				got := s.events.of(sessions.EventRenewed)
				if len(got) != 1 || got[0].ID != idOf(b) || got[0].Previous != old || got[0].Owner != ownerOf(tt.after) || got[0].PreviousOwner != ownerOf(tt.before) {
					t.Errorf("got the events %#v, want one of %s in place of %s", got, idOf(b), old)
				}
				if n := len(s.events.of(sessions.EventStarted)) + len(s.events.of(sessions.EventEnded)); n > 0 {
					t.Errorf("got %d starts and ends, want none: the session goes on", n)
				}
			})
		})
	}
}

func TestANewIDOfWhatWasNeverStoredIsAStart(t *testing.T) {
	eachOwnedMode(t, func(t *testing.T, m mode) {
		for _, move := range moves {
			s := newOwnedSite(t, m, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1; move.move(s); s.Data.N = 2 })
			if got := s.events.of(sessions.EventStarted); len(got) != 1 || got[0].ID != idOf(b) || got[0].Previous != "" || got[0].Owner != ownerOf(must(b.peek()).UserID) {
				t.Errorf("%s: got the events %#v, want one start", move.name, s.events.all)
			}
			if n := len(s.events.of(sessions.EventRenewed)); n > 0 {
				t.Errorf("%s: got %d events of a new id, want none", move.name, n)
			}
		}
	})
}

func must(d AppSession, _ sessions.Reason) AppSession { return d }

func TestASessionThatMovesBesideOthersIsToldOnce(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b, id := signIn(s, 42)
		first := b.clone()
		overlap(b, (*session).RegenerateID, func() { first.do((*session).RegenerateID) })
		if got := s.events.of(sessions.EventRenewed); len(got) != 1 || got[0].Previous != id {
			t.Errorf("got the events %v, want that of the winner", got)
		}
		if got := s.events.of(sessions.EventEnded); len(got) > 0 {
			t.Errorf("got the ends %v, want none", got)
		}
	})
}

// An end that nobody carries out is told by the request that meets it.
func TestASessionThatExpiresHasNoEndButARefusal(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, func(c *config) { c.Lifetime = time.Hour })
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			time.Sleep(2 * time.Hour)
			b.do(func(s *session) { s.Data.N++ })
			if got := s.events.of(sessions.EventEnded); len(got) > 0 {
				t.Errorf("got the ends %v, want none", got)
			}
			if got := s.events.of(sessions.EventRefused); len(got) != 1 || got[0].Reason != sessions.ReasonExpired {
				t.Errorf("got the events %v, want one refusal", got)
			}
		})
	})
}

func TestAPanicThatDestroyCameBeforeTellsTheEnd(t *testing.T) {
	eachOwnedMode(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b, id := signIn(s, 42)
		func() {
			defer func() { _ = recover() }()
			b.do(func(s *session) { s.Destroy(); panic("boom") })
		}()
		wantEnd(t, s, id, sessions.ReasonDestroyed, "42")
	})
}

func TestALateDestroyIsToldWhereItIsCarriedOut(t *testing.T) {
	eachOwnedMode(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b, id := signIn(s, 42)
		b.serve(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			sessions.Get[AppSession](r.Context()).Destroy()
		})
		if m.hasStore() {
			wantEnd(t, s, id, sessions.ReasonDestroyed, "42")
		} else if n := len(s.events.of(sessions.EventEnded)); n > 0 {
			t.Errorf("got %d ends, want none: the cookie is valid still", n)
		}
	})
}

func TestNoPrintOfAnEventShowsItsOwners(t *testing.T) {
	const before, after = "ada@example.com", "grace@example.com"
	var log strings.Builder
	eachOwnedMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, func(c *config) {
			c.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			c.Owner = func(d *AppSession) string { return d.Name }
		})
		b := s.browser()
		for _, name := range []string{before, after} {
			b.do(func(s *session) { s.Data.Name = name })
		}
		b.do((*session).Destroy)
		shown := false
		for _, e := range s.events.all {
			shown = shown || e.Owner == after && e.PreviousOwner == before
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			var logged strings.Builder
			slog.New(slog.NewTextHandler(&logged, nil)).Info("event", "event", e, "pointer", &e)
			for _, printed := range []string{fmt.Sprintf("%v %+v %#v %s %q %x", e, e, e, e, e, e), fmt.Sprintf("%v %+v", &e, []sessions.Event{e}), string(text), logged.String(), log.String()} {
				for _, owner := range []string{before, after, fmt.Sprintf("%x", before), fmt.Sprintf("%x", after)} {
					if strings.Contains(printed, owner) {
						t.Errorf("got %s, which shows an owner", printed)
					}
				}
			}
		}
		if !shown {
			t.Error("no event has both owners for OnEvent")
		}
	})
	if !strings.Contains(log.String(), "renewed") || !strings.Contains(log.String(), "ended") {
		t.Errorf("got the log %s, want the events", log.String())
	}
}

// OnEvent alone is enough for an audit log: who began, who moved where, who ended.
func TestTheEventsOfAStoreAreAnAuditLog(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.Name = "visitor" })
		for i := range 3 {
			b.do(moves[i].move)
			b.do(func(s *session) { s.Data.N++ })
		}
		other, _ := signIn(s, 42)
		b.do((*session).Reset)
		b.do(func(s *session) { s.Flash("info", "bye") })
		b.do(func(s *session) { s.Flashes() })
		if _, err := s.mgr.RevokeOwner(bg, "42"); err != nil {
			t.Fatal(err)
		}
		other.do(func(s *session) { s.Data.N++ })
		living := map[string]string{} // the owner by id
		for _, e := range s.events.all {
			owner, lives := living[e.Previous]
			switch e.Kind {
			case sessions.EventStarted:
				living[e.ID] = e.Owner
			case sessions.EventRenewed:
				if !lives || owner != e.PreviousOwner {
					t.Errorf("%#v of a session that does not live", e)
				}
				delete(living, e.Previous)
				living[e.ID] = e.Owner
			case sessions.EventEnded:
				if owner, lives := living[e.ID]; !lives || owner != e.Owner {
					t.Errorf("%#v of a session that does not live", e)
				}
				delete(living, e.ID)
			}
		}
		for _, id := range s.store.live() {
			if _, there := living[id.String()]; !there {
				t.Errorf("%s lives, and no event says so", id)
			}
			delete(living, id.String())
		}
		if len(living) > 0 {
			t.Errorf("%v live by the events, and not in the store", living)
		}
	})
}

func TestASessionThatASaveHasMovedEndsUnderItsNewID(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b, old := signIn(s, 42)
		var id string
		b.do(func(s *session) {
			s.RegenerateID()
			if err := s.Save(bg); err != nil {
				t.Error(err)
			}
			id = s.ID()
			s.Destroy()
		})
		wantEnd(t, s, id, sessions.ReasonDestroyed, "42")
		if got := s.events.of(sessions.EventRenewed); len(got) != 1 || got[0].Previous != old || got[0].ID != id {
			t.Errorf("got the events %v, want that of the new id", got)
		}
		if n := len(s.store.live()); n != 0 || b.cookie() != "" {
			t.Errorf("got %d records, want none", n)
		}
	})
}

// An audit log is made of OnEvent alone, so the failure of an end names the session
// that lives on, and not the one that the Reset began.
func TestTheFailureOfAResetNamesTheSession(t *testing.T) {
	s := newSite(t, modes[3], nil)
	b, id := signIn(s, 42)
	s.store.hook(failing("Delete", 1), nil)
	b.do((*session).Reset)
	if got := s.events.of(sessions.EventFailed); len(got) != 1 || got[0].ID != id {
		t.Errorf("got the events %#v, want one of %s", got, id)
	}
}

func TestTheFailureOfALoadNamesTheSession(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		id := idOf(b)
		s.store.hook(func(op string, _ sessions.ID) error { return errors.New("down") }, nil)
		b.do(func(*session) {})
		failed := s.events.of(sessions.EventFailed)
		if len(failed) != 1 || failed[0].ID != id {
			t.Errorf("got %v, want a failure of %s", failed, id)
		}
	})
}
