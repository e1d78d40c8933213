package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

func TestFindReturnsWhatSessionsLists(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, func(c *config) { c.IdleTimeout = time.Hour })
			began := time.Now()
			_, id := signIn(s, 42)
			signIn(s, 43)
			time.Sleep(10 * time.Minute)
			info, err := s.mgr.Find(bg, id)
			if err != nil || info.ID != id || info.Data.UserID != 42 || !info.CreatedAt.Equal(began) || !info.LastUsedAt.Equal(began) || !info.ExpiresAt.Equal(began.Add(24*time.Hour)) {
				t.Errorf("got %+v, %v, want the session", info, err)
			}
			if want := listed(s, "42")[id]; fmt.Sprint(info) != fmt.Sprint(want) {
				t.Errorf("got %+v, want what Sessions lists, %+v", info, want)
			}
		})
	})
}

func TestFindNeedsNoIndex(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 7 }) // of nobody
		if info, err := s.mgr.Find(bg, idOf(b)); err != nil || info.Data.N != 7 {
			t.Errorf("got %+v, %v, want the session", info, err)
		}
	})
}

func TestFindIsNoUse(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, func(c *config) { c.IdleTimeout = time.Hour })
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 7 })
			id := idOf(b)
			s.store.resetCounts()
			for range 4 {
				time.Sleep(14 * time.Minute)
				if _, err := s.mgr.Find(bg, id); err != nil {
					t.Error(err)
				}
			}
			if loads, all := s.store.count("Load"), len(s.store.counts); loads != 4 || all != 1 {
				t.Errorf("got the operations %v, want four Loads", s.store.counts)
			}
			time.Sleep(4 * time.Minute)
			if _, err := s.mgr.Find(bg, id); !errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("got %v after an hour, want ErrNotFound", err)
			}
		})
	})
}

func TestFindOfWhatDoesNotLive(t *testing.T) {
	for name, end := range map[string]func(s *site, b *browser, id string){
		"destroyed": func(_ *site, b *browser, _ string) { b.do((*session).Destroy) },
		"revoked":   func(s *site, _ *browser, id string) { _ = s.mgr.Revoke(bg, id) },
		"replaced":  func(_ *site, b *browser, _ string) { b.do((*session).RotateID) },
		"spent":     func(_ *site, b *browser, _ string) { b.do(func(s *session) { s.Data.N = 0 }) },
		"expired":   func(*site, *browser, string) { time.Sleep(24 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t, m, nil)
					b := s.browser()
					b.do(func(s *session) { s.Data.N = 7 })
					id := idOf(b)
					end(s, b, id)
					if info, err := s.mgr.Find(bg, id); !errors.Is(err, sessions.ErrNotFound) || info.ID != "" || info.Data.N != 0 {
						t.Errorf("got %+v, %v, want ErrNotFound and nothing", info, err)
					}
				})
			})
		})
	}
}

func TestFindOfWhatCannotBeReadGivesItsID(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		id := sessions.ID{1, 2, 3}
		if _, err := s.store.Create(bg, id, sessions.Record{Data: []byte{0xff, 1, 2}, Expires: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		info, err := s.mgr.Find(bg, id.String())
		if err == nil || errors.Is(err, sessions.ErrNotFound) || info.ID != id.String() || info.Data.N != 0 || !info.CreatedAt.IsZero() {
			t.Errorf("got %+v, %v, want an error and the ID, so that it can be revoked", info, err)
		}
		if err := s.mgr.Revoke(bg, info.ID); err != nil {
			t.Error(err)
		}
		if _, err := s.mgr.Find(bg, id.String()); !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	})
}

func TestFindThatCannotAsk(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		_, id := signIn(s, 42)
		if !m.hasStore() {
			if _, err := s.mgr.Find(bg, id); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("got %v, want ErrUnsupported: a cookie cannot be reached", err)
			}
			return
		}
		for _, id := range malformedIDs {
			if _, err := s.mgr.Find(bg, id); err == nil || errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("of %q: got %v, want an error that it is no id", id, err)
			}
		}
		s.store.hook(failing("Load", 1), nil)
		if info, err := s.mgr.Find(bg, id); !errors.Is(err, errLost) || errors.Is(err, sessions.ErrNotFound) || info.ID != "" {
			t.Errorf("got %+v, %v, want the error of the store", info, err)
		}
		s.store.hook(nil, nil)
		ctx, cancel := context.WithCancel(bg)
		cancel()
		if _, err := s.mgr.Find(ctx, id); !errors.Is(err, context.Canceled) && m.name != "plain store" { // which looks at no context
			t.Errorf("got %v, want the context's error", err)
		}
		if len(s.events.of(sessions.EventFailed)) > 0 {
			t.Errorf("got the events %v, want none: the caller has the error", s.events.all)
		}
	})
}

func TestFindGivesUpAfterFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hangingStore{Store: newPlainStore()}
		s := newSite(t, modes[2], func(c *config) { c.Store = h })
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		id := idOf(b)
		h.hang("Load")
		began := time.Now()
		if _, err := s.mgr.Find(bg, id); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 5*time.Second {
			t.Errorf("got %v after %v, want the end of the time after 5s", err, time.Since(began))
		}
	})
}

// Two requests that change the password at once spare only themselves: they must
// not end each other and leave the user without any session.
func TestRevokeOwnerEndsNothingWhereNoSessionOfExceptLives(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(s *site, b *browser)
	}{
		{"revoked", func(s *site, b *browser) { _ = s.mgr.Revoke(bg, idOf(b)) }},
		{"destroyed", func(_ *site, b *browser) { b.clone().do((*session).Destroy) }},
		{"moved to another id", func(_ *site, b *browser) { b.clone().do((*session).RotateID) }},
		{"expired", func(*site, *browser) { time.Sleep(24 * time.Hour) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachOwnerStore(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newOwnedSite(t, m, nil)
					b, id := signIn(s, 42)
					tt.end(s, b)
					other, otherID := signIn(s, 42)
					before := len(listed(s, "42"))
					s.events.reset()
					if n, err := s.mgr.RevokeOwner(bg, "42", id); n != 0 || !errors.Is(err, sessions.ErrNotFound) {
						t.Errorf("got %d, %v, want ErrNotFound", n, err)
					}
					wantUser(t, "the other session", other, 42)
					if n := len(listed(s, "42")); n != before || len(s.events.of(sessions.EventEnded)) > 0 {
						t.Errorf("got %d sessions, want all %d left", n, before)
					}
					// One of several is enough.
					if n, err := s.mgr.RevokeOwner(bg, "42", id, otherID); n != before-1 || err != nil {
						t.Errorf("with one that lives: got %d, %v, want %d", n, err, before-1)
					}
					wantUser(t, "the other session", other, 42)
				})
			})
		})
	}
}

func TestRevokeOwnerThatCannotAskForExceptEndsNothing(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		_, id := signIn(s, 42)
		other, _ := signIn(s, 42)
		s.store.hook(failing("Load", 1), nil)
		if n, err := s.mgr.RevokeOwner(bg, "42", id); n != 0 || !errors.Is(err, errLost) || errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("got %d, %v, want the error of the store", n, err)
		}
		s.store.hook(nil, nil)
		wantUser(t, "the other session", other, 42)
	})
}

func TestRevokeOwnerSparesTheSessionThatItsRequestIsMovingToANewID(t *testing.T) {
	for _, move := range []struct {
		name string
		do   func(*session)
	}{{"RegenerateID", (*session).RegenerateID}, {"RotateID", (*session).RotateID}} {
		for _, saves := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, saved=%t", move.name, saves), func(t *testing.T) {
				eachOwnerStore(t, func(t *testing.T, m mode) {
					s := newOwnedSite(t, m, nil)
					b, _ := signIn(s, 42)
					other, _ := signIn(s, 42)
					b.serve(handlerOf(func(ctx context.Context, x *session) {
						move.do(x)
						if saves {
							_ = x.Save(ctx)
						}
						if n, err := s.mgr.RevokeOwner(ctx, "42", x.ID()); n != 1 || err != nil {
							t.Errorf("got %d, %v, want 1", n, err)
						}
					}))
					wantUser(t, "the current session", b, 42)
					wantUser(t, "the other one", other, 0)
				})
			})
		}
	}
}

// handlerOf returns a handler that has the session and the context of its request.
func handlerOf(f func(ctx context.Context, s *session)) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) { f(r.Context(), sessions.Get[AppSession](r.Context())) }
}
