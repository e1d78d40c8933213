package sessions_test

import (
	"encoding/binary"
	"errors"
	"fmt"
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
