package sessions_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// moves are what gives a session another id.
var moves = []struct {
	name string
	move func(*session)
}{
	{"RegenerateID", (*session).RegenerateID},
	{"RotateID", (*session).RotateID},
	{"a new owner", become(42)},
}

// replaced returns a browser whose session has moved, and one that has the old
// cookie still.
func replaced(s *site, move func(*session)) (b, late *browser) {
	b = s.browser()
	b.do(func(s *session) { s.Data.N = 1; s.Flash("info", "waits") })
	late = b.clone()
	b.do(move)
	s.events.reset()
	return b, late
}

func TestALateRequestDoesNotReplaceTheCookieOfTheSignInThatOvertookIt(t *testing.T) {
	for _, move := range moves {
		for _, tt := range []struct {
			name string
			late func(*session)
			told int // events that changes were discarded
		}{
			{"which only reads", func(s *session) { s.Flashes() }, 0},
			{"which leaves a message", func(s *session) { s.Flash("error", "Please sign in") }, 1},
			{"which edits", func(s *session) { s.Data.N++ }, 1},
			{"which edits and takes a new id without a sign-in", func(s *session) { s.Data.N++; s.RotateID() }, 1},
			{"which edits by Update", func(s *session) { s.Update(func(d *AppSession) { d.N++ }) }, 1},
			{"which edits and sets a lifetime", func(s *session) { s.Data.N++; s.SetLifetime(time.Hour) }, 1},
			{"which sets a lifetime", func(s *session) { s.SetLifetime(time.Hour) }, 0},
			{"which takes a new id and has nothing to keep", (*session).RegenerateID, 0},
			{"which shows a message of its own", func(s *session) { s.FlashNow("error", "Please sign in"); s.Flashes() }, 0},
			{"which saves a message", func(s *session) {
				s.Flash("error", "Please sign in")
				if err := s.Save(bg); !errors.Is(err, sessions.ErrNotFound) {
					panic(fmt.Sprintf("Save: got %v, want ErrNotFound", err))
				}
			}, 1},
			{"which saves twice", func(s *session) {
				s.Data.N++
				_ = s.Save(bg)
				s.Data.N++
				_ = s.Save(bg)
			}, 2},
		} {
			t.Run(move.name+", and a request "+tt.name, func(t *testing.T) {
				eachOwnerStore(t, func(t *testing.T, m mode) {
					s := newOwnedSite(t, m, nil)
					b, late := replaced(s, move.move)
					records := len(s.store.live())
					res := late.do(func(s *session) {
						if s.Reason() != sessions.ReasonReplaced || !s.IsNew() || s.Data.N != 0 || s.Flashes() != nil {
							t.Errorf("got %q and %+v, want an empty session for a replaced id", s.Reason(), s.Data)
						}
						tt.late(s)
					})
					if res.StatusCode != 200 || len(res.Header["Set-Cookie"]) > 0 {
						t.Errorf("got %d with %q, want the answer without a cookie", res.StatusCode, res.Header["Set-Cookie"])
					}
					if n := len(s.store.live()); n != records {
						t.Errorf("got %d records, want %d", n, records)
					}
					got := s.events.of(sessions.EventDiscarded)
					if len(got) != tt.told || tt.told > 0 && got[0].Reason != sessions.ReasonReplaced {
						t.Errorf("got the events %v, want %d that changes were discarded", got, tt.told)
					}
					if refused := s.events.of(sessions.EventRefused); len(refused) != 1 || refused[0].Reason != sessions.ReasonReplaced {
						t.Errorf("got the events %v, want one that the cookie was refused", refused)
					}
					if n := len(s.events.of(sessions.EventStarted)) + len(s.events.of(sessions.EventEnded)); n > 0 {
						t.Errorf("got %d starts and ends, want none", n)
					}
					if _, reason := b.peek(); reason != sessions.ReasonNone {
						t.Errorf("got %q for the new id, want the session", reason)
					}
				})
			})
		}
	}
}

// It was under way, with the session loaded, when the other moved it.
func TestARequestUnderWayDoesNotReplaceTheCookieEither(t *testing.T) {
	for _, move := range moves {
		for name, late := range map[string]func(*session){
			"which edits":                  func(s *session) { s.Data.N++ },
			"which leaves a message":       func(s *session) { s.Flash("error", "late") },
			"which signs in":               func(s *session) { s.RegenerateID(); become(43)(s) },
			"which is to have another end": func(s *session) { s.SetLifetime(time.Hour) },
			"which clears what it loaded":  func(s *session) { s.Data = AppSession{}; s.Flashes() },
			"which saves":                  func(s *session) { s.Data.N++; _ = s.Save(bg) },
		} {
			t.Run(move.name+", and a request "+name, func(t *testing.T) {
				eachOwnerStore(t, func(t *testing.T, m mode) {
					s := newOwnedSite(t, m, nil)
					b := s.browser()
					b.do(func(s *session) { s.Data.N = 1 })
					res := overlap(b.clone(), late, func() { b.do(move.move) })
					if res.StatusCode != 200 || len(res.Header["Set-Cookie"]) > 0 || len(s.store.live()) != 1 {
						t.Errorf("got %d with %q and %d records, want 200 without a cookie and one record", res.StatusCode, res.Header["Set-Cookie"], len(s.store.live()))
					}
					if got := s.events.of(sessions.EventDiscarded); len(got) != 1 || got[0].Reason != sessions.ReasonReplaced {
						t.Errorf("got the events %v, want one that the id was replaced", got)
					}
					if _, reason := b.peek(); reason != sessions.ReasonNone {
						t.Errorf("got %q for the new id, want the session", reason)
					}
				})
			})
		}
	}
}

func TestASignInWithAReplacedIDIsNotLost(t *testing.T) {
	for _, move := range moves {
		for _, tt := range []struct {
			name  string
			login func(*session)
			user  int
		}{
			{"RegenerateID", func(s *session) { s.RegenerateID(); become(42)(s) }, 42},
			{"RegenerateID, after", func(s *session) { become(42)(s); s.RegenerateID() }, 42},
			{"an owner alone", become(42), 42},
			{"an owner by Update", func(s *session) { s.Update(func(d *AppSession) { d.UserID = 42 }) }, 42},
			{"a Save", func(s *session) { s.RegenerateID(); become(42)(s); _ = s.Save(bg) }, 42},
			{"RegenerateID of a visitor", func(s *session) { s.RegenerateID(); s.Data.N = 7 }, 0},
			{"Reset", func(s *session) { s.Reset(); s.Data.N = 7 }, 0},
			{"Reset with a message", func(s *session) { s.Reset(); s.Flash("info", "You have signed out") }, 0},
		} {
			t.Run(move.name+" before, now "+tt.name, func(t *testing.T) {
				eachOwnerStore(t, func(t *testing.T, m mode) {
					s := newOwnedSite(t, m, nil)
					b, late := replaced(s, move.move)
					res := late.do(tt.login)
					if res.StatusCode != 200 || len(res.setCookies()) != 1 {
						t.Fatalf("got %d with %q, want 200 and a cookie", res.StatusCode, res.setCookies())
					}
					if d, reason := late.peek(); d.UserID != tt.user || reason != sessions.ReasonNone {
						t.Errorf("got user %d, %q, want user %d", d.UserID, reason, tt.user)
					}
					if d, reason := b.peek(); d.N != 1 && d.UserID != 42 || reason != sessions.ReasonNone {
						t.Errorf("got %+v, %q for the session that overtook it, want it alive", d, reason)
					}
					if n := len(s.store.live()); n != 2 {
						t.Errorf("got %d records, want 2", n)
					}
					if n := len(s.events.of(sessions.EventDiscarded)); n > 0 {
						t.Errorf("got %d events of discarded changes, want none", n)
					}
				})
			})
		}
	}
}

func TestDestroyWithAReplacedIDExpiresTheCookieAndEndsNothing(t *testing.T) {
	for name, verb := range map[string]func(*session){
		"Destroy":                (*session).Destroy,
		"Reset":                  (*session).Reset,
		"SetLifetime below zero": func(s *session) { s.SetLifetime(-1) },
	} {
		t.Run(name, func(t *testing.T) {
			eachOwnerStore(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, nil)
				b, late := replaced(s, (*session).RegenerateID)
				old := late.clone()
				late.do(verb)
				if late.cookie() != "" {
					t.Error("the cookie was not expired")
				}
				if _, reason := old.peek(); reason != sessions.ReasonReplaced {
					t.Errorf("got %q for the old id, want the tombstone to stay", reason)
				}
				if d, reason := b.peek(); d.N != 1 || reason != sessions.ReasonNone {
					t.Errorf("got %+v, %q for the new id, want the session: it is out of reach", d, reason)
				}
				if n := len(s.events.of(sessions.EventEnded)); n > 0 {
					t.Errorf("got %d ends, want none", n)
				}
			})
		})
	}
}

func TestATombstoneStandsForAMinute(t *testing.T) {
	for _, touched := range []bool{false, true} { // by whoever has an old program, or a Touch under way
		t.Run(fmt.Sprintf("touched=%t", touched), func(t *testing.T) {
			eachOwnerStore(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newOwnedSite(t, m, func(c *config) { c.IdleTimeout = time.Hour })
					b, late := replaced(s, (*session).RegenerateID)
					old := s.store.created[0]
					rec, err := s.store.Store.Load(bg, old)
					if err != nil || len(rec.Data) != 6 || rec.Data[0] != 0x13 || rec.Owner != "" || len(rec.Labels) > 0 {
						t.Fatalf("got %x, %v, want a tombstone of nobody", rec.Data, err)
					}
					end := int64(binary.BigEndian.Uint64(append([]byte{0, 0, 0}, rec.Data[1:]...)))
					if want := time.Now().Add(time.Minute); end != want.Unix() || !rec.Expires.Equal(want) {
						t.Errorf("got one that ends at %v in a record until %v, want %v", time.Unix(end, 0), rec.Expires, want)
					}
					if touched {
						if err := s.store.Store.Touch(bg, old, time.Now().Add(time.Hour)); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(time.Minute - 1)
					if _, reason := late.peek(); reason != sessions.ReasonReplaced {
						t.Errorf("got %q just before its end, want replaced", reason)
					}
					time.Sleep(time.Nanosecond)
					if _, reason := late.peek(); reason != sessions.ReasonUnknown {
						t.Errorf("got %q at its end, want unknown", reason)
					}
					if _, err := s.mgr.Find(bg, old.String()); !errors.Is(err, sessions.ErrNotFound) {
						t.Errorf("Find: got %v, want ErrNotFound", err)
					}
					if err := s.mgr.Edit(bg, old.String(), func(d *AppSession) { d.N++ }); !errors.Is(err, sessions.ErrNotFound) {
						t.Errorf("Edit: got %v, want ErrNotFound", err)
					}
					if res := late.do(func(s *session) { s.Flash("error", "Please sign in") }); len(res.setCookies()) != 1 {
						t.Errorf("got %q, want a session of its own: nothing is on its way any more", res.setCookies())
					}
					if d, _ := b.peek(); d.N != 1 {
						t.Errorf("got %+v for the new id, want the session", d)
					}
				})
			})
		})
	}
}

func TestAReplacedIDIsAsDeadAsADeletedOne(t *testing.T) {
	for _, move := range moves {
		t.Run(move.name, func(t *testing.T) {
			eachOwnerStore(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Data.UserID, s.Data.N = 41, 1 })
				other, otherID := signIn(s, 42)
				old := idOf(b)
				b.do(move.move)
				s.events.reset()
				if _, err := s.mgr.Find(bg, old); !errors.Is(err, sessions.ErrNotFound) {
					t.Errorf("Find: got %v, want ErrNotFound", err)
				}
				ran := false
				if err := s.mgr.Edit(bg, old, func(*AppSession) { ran = true }); !errors.Is(err, sessions.ErrNotFound) || ran {
					t.Errorf("Edit: got %v, want ErrNotFound", err)
				}
				if err := s.mgr.Revoke(bg, old); err != nil {
					t.Errorf("Revoke: got %v, want nil as of an absent one", err)
				}
				if n, err := s.mgr.RevokeOwner(bg, "42", old); n != 0 || !errors.Is(err, sessions.ErrNotFound) {
					t.Errorf("RevokeOwner but the replaced one: got %d, %v, want ErrNotFound: none of except lives", n, err)
				}
				for _, owner := range []string{"41", "42"} {
					if _, there := listed(s, owner)[old]; there {
						t.Errorf("Sessions lists the replaced id of %s", owner)
					}
				}
				if len(s.events.all) > 0 {
					t.Errorf("got the events %v, want none", s.events.all)
				}
				wantUser(t, "somebody else", other, 42)
				if _, there := listed(s, "42")[otherID]; !there {
					t.Error("somebody else is not listed")
				}
				if _, reason := b.peek(); reason != sessions.ReasonNone {
					t.Errorf("got %q for the new id, want the session", reason)
				}
			})
		})
	}
}

func TestARequestUnderWayIsToldThatItsIDWasReplaced(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		for name, ask := range map[string]func(*session) error{
			"Save":                func(s *session) error { return s.Save(bg) },
			"Save of a change":    func(s *session) error { s.Data.N++; return s.Save(bg) },
			"Save of a new id":    func(s *session) error { s.RegenerateID(); return s.Save(bg) },
			"Reload":              func(s *session) error { return s.Reload(bg) },
			"Reload with changes": func(s *session) error { s.Data.N++; return s.Reload(bg) },
		} {
			t.Run(name, func(t *testing.T) {
				s := newOwnedSite(t, m, nil)
				b, _ := signIn(s, 42)
				overlap(b.clone(), func(s *session) {
					if err := ask(s); !errors.Is(err, sessions.ErrNotFound) {
						t.Errorf("got %v, want ErrNotFound", err)
					}
				}, func() { b.do((*session).RotateID) })
				wantUser(t, "under the new id", b, 42)
			})
		}
	})
}

func TestOfTwoCookiesTheOneThatLivesIsTaken(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, nil)
			lives := storedCookie(s, 7)
			time.Sleep(time.Second)
			b, late := replaced(s, (*session).RotateID) // of an id that was created later
			for name, lines := range map[string][]string{
				"the old one first": {late.cookie(), lives}, "the old one last": {lives, late.cookie()}, "the old and the new one": {late.cookie(), b.cookie()},
			} {
				cookieHeader(s, func(s *session) {
					if s.Reason() != sessions.ReasonNone || s.Data.N == 0 {
						t.Errorf("%s: got %q and N=%d, want a session", name, s.Reason(), s.Data.N)
					}
				}, "__Host-Http-session="+lines[0]+"; __Host-Http-session="+lines[1])
			}
			gone := s.browser()
			gone.do(func(s *session) { s.Data.N = 1 })
			unknown := gone.cookie()
			gone.do((*session).Destroy)
			for _, lines := range [][]string{{late.cookie(), unknown}, {unknown, late.cookie()}} {
				res := cookieHeader(s, func(s *session) {
					if s.Reason() != sessions.ReasonReplaced {
						t.Errorf("beside a dead one: got %q, want replaced", s.Reason())
					}
					s.Flash("error", "late")
				}, "__Host-Http-session="+lines[0]+"; __Host-Http-session="+lines[1])
				if len(res.Header["Set-Cookie"]) > 0 {
					t.Errorf("beside a dead one: got %q, want no cookie", res.Header["Set-Cookie"])
				}
			}
		})
	})
}

func TestACookieOfAnOlderKeyIsNotReissuedForAReplacedID(t *testing.T) {
	for _, idle := range []time.Duration{0, 5 * time.Hour} {
		t.Run(fmt.Sprintf("IdleTimeout %v", idle), func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s, b, _, _ := rotated(t, m, func(c *config) { c.IdleTimeout = idle })
					res := overlap(b.clone(), func(s *session) { _ = s.Data.UserID }, func() { b.do((*session).RotateID) })
					if len(res.Header["Set-Cookie"]) > 0 {
						t.Errorf("got %q, want no cookie: it would replace the one with the new id", res.Header["Set-Cookie"])
					}
					if got := s.events.of(sessions.EventDiscarded); len(got) != 1 || got[0].Reason != sessions.ReasonReplaced {
						t.Errorf("got the events %v, want one that the id was replaced", got)
					}
					wantUser(t, "under the new id", b, 42)
				})
			})
		})
	}
}

func TestATouchOfAReplacedIDRevivesNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, func(c *config) { c.IdleTimeout = time.Hour })
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			late := b.clone()
			time.Sleep(30 * time.Minute) // its use is to be noted
			overlap(late, func(s *session) { _ = s.Data.N }, func() { b.do((*session).RegenerateID) })
			time.Sleep(2 * time.Minute)
			if _, reason := late.peek(); reason != sessions.ReasonUnknown {
				t.Errorf("got %q, want the tombstone gone after its minute", reason)
			}
		})
	})
}

func TestASessionOfAReplacedIDPrintsThat(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		_, late := replaced(s, (*session).RegenerateID)
		id := s.store.created[0].String()
		late.do(func(s *session) {
			if got, want := fmt.Sprintf("%v", s), "Session("+s.ID()+", replaced)"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if s.ID() == id {
				t.Error("a session that it may begin has the id that was replaced")
			}
		})
	})
}

func TestAChainOfNewIDsLeavesOneSession(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b, _ := signIn(s, 42)
		var olds []*browser
		for i := range 5 {
			olds = append(olds, b.clone())
			b.do(moves[i%2].move)
		}
		for i, old := range olds {
			if _, reason := old.peek(); reason != sessions.ReasonReplaced {
				t.Errorf("got %q for id %d, want replaced", reason, i)
			}
		}
		wantUser(t, "under the last id", b, 42)
		wantListed(t, s, "42", idOf(b))
		if n, err := s.mgr.RevokeOwner(bg, "42"); n != 1 || err != nil {
			t.Errorf("RevokeOwner: got %d, %v, want 1", n, err)
		}
		if n := len(s.store.live()); n != 0 {
			t.Errorf("got %d records, want none", n)
		}
	})
}

func TestWhatARequestOfAReplacedIDChangesAfterTheHeadersIsDiscarded(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		_, late := replaced(s, (*session).RegenerateID)
		res := late.serve(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			sessions.Get[AppSession](r.Context()).Data.N++
		})
		if len(res.Header["Set-Cookie"]) > 0 || len(s.store.live()) != 1 {
			t.Errorf("got %q and %d records, want nothing new", res.Header["Set-Cookie"], len(s.store.live()))
		}
		if n := len(s.events.of(sessions.EventDiscarded)); n != 1 {
			t.Errorf("got %d events of discarded changes, want 1", n)
		}
	})
}
