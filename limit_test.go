package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// limitedTo bounds the sessions of one owner.
func limitedTo(n int) func(*config) { return func(c *config) { c.MaxPerOwner = n } }

// login is a sign-in as README shows it.
func login(user int) func(*session) {
	return func(s *session) {
		s.RegenerateID()
		become(user)(s)
	}
}

// wantLive checks which of the browsers are signed in as a user.
func wantLive(t testing.TB, user int, browsers []*browser, live ...int) {
	t.Helper()
	for i, b := range browsers {
		d, _ := b.peek()
		if got, want := d.UserID == user, slices.Contains(live, i); got != want {
			t.Errorf("session %d: got signed in=%t, want %t", i, got, want)
		}
	}
}

func TestTheOldestSessionsOfAnOwnerEndBeyondTheLimit(t *testing.T) {
	for _, before := range []bool{false, true} { // the browser has a session of a visitor when it signs in
		t.Run(fmt.Sprintf("from a visitor=%t", before), func(t *testing.T) {
			eachOwnerStore(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newOwnedSite(t, m, limitedTo(3))
					other, _ := signIn(s, 43)
					var browsers []*browser
					var ids []string
					for range 6 {
						time.Sleep(time.Second)
						b := s.browser()
						if before {
							b.do(func(s *session) { s.Data.Name = "visitor" })
						}
						if res := b.do(login(42)); res.StatusCode != 200 || len(res.setCookies()) != 1 {
							t.Errorf("got %d with %q, want 200 and a cookie", res.StatusCode, res.setCookies())
						}
						browsers, ids = append(browsers, b), append(ids, idOf(b))
					}
					wantLive(t, 42, browsers, 3, 4, 5)
					wantListed(t, s, "42", ids[3:]...)
					wantUser(t, "somebody else", other, 43)
					ended := s.events.of(sessions.EventEnded)
					for i, e := range ended {
						if e.ID != ids[i] || e.Reason != sessions.ReasonLimit || e.Owner != "42" {
							t.Errorf("got %#v, want the end of session %d for the limit", e, i)
						}
					}
					if len(ended) != 3 {
						t.Errorf("got %d ends, want 3", len(ended))
					}
				})
			})
		})
	}
}

func TestManySignInsAtOnceLeaveNoMoreThanTheLimitAndAtLeastOne(t *testing.T) {
	for _, limit := range []int{1, 3} {
		for _, before := range []bool{false, true} {
			t.Run(fmt.Sprintf("limit %d, from a visitor=%t", limit, before), func(t *testing.T) {
				eachOwnerStore(t, func(t *testing.T, m mode) {
					s := newOwnedSite(t, m, limitedTo(limit))
					const n = 16
					browsers, replies := make([]*browser, n), make([]*reply, n)
					for i := range n {
						browsers[i] = s.browser()
						if before {
							browsers[i].do(func(s *session) { s.Data.Name = "visitor" })
						}
					}
					var all sync.WaitGroup
					for i := range n {
						all.Go(func() { replies[i] = browsers[i].do(login(42)) })
					}
					all.Wait()
					live := listed(s, "42")
					if len(live) < 1 || len(live) > limit {
						t.Errorf("got %d sessions, want 1 to %d", len(live), limit)
					}
					ended := map[string]bool{}
					for _, e := range s.events.of(sessions.EventEnded) {
						if e.Reason != sessions.ReasonLimit || e.Owner != "42" || ended[e.ID] {
							t.Errorf("got %#v, want each end once, for the limit", e)
						}
						ended[e.ID] = true
					}
					for i, b := range browsers {
						d, reason := b.peek()
						switch res := replies[i]; {
						case res.StatusCode == http.StatusOK && d.UserID == 42:
						case res.StatusCode == http.StatusOK: // signed in, and out again
							if reason == sessions.ReasonNone {
								t.Errorf("browser %d was answered 200 and has the session %+v", i, d)
							}
						case res.StatusCode == http.StatusConflict:
							if len(res.setCookies()) > 0 || d.UserID != 0 || before && d.Name != "visitor" {
								t.Errorf("browser %d lost, and got %q and %+v, want what it had", i, res.setCookies(), d)
							}
						default:
							t.Errorf("browser %d got %d", i, res.StatusCode)
						}
					}
					for _, id := range s.store.live() {
						rec, _ := s.store.Store.Load(bg, id)
						if _, there := live[id.String()]; rec.Owner == "42" && !there {
							t.Errorf("the record %v is left of a sign-in that was withdrawn", id)
						}
					}
				})
			})
		}
	}
}

// Users find themselves signed in where they were last, also if they were signed in
// elsewhere in the same second.
func TestSignInsOfOneSecondFollowEachOther(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, limitedTo(3))
			for i := range 12 {
				b := s.browser()
				began := time.Now()
				if res := b.do(login(42)); res.StatusCode != http.StatusOK || time.Since(began) > time.Second {
					t.Errorf("sign-in %d got %d after %v, want 200 within a second", i, res.StatusCode, time.Since(began))
				}
				wantUser(t, "who has signed in last", b, 42)
			}
			if n := len(listed(s, "42")); n != 3 {
				t.Errorf("got %d sessions, want 3", n)
			}
			if n := len(s.events.of(sessions.EventEnded)); n != 9 {
				t.Errorf("got %d ends, want 9", n)
			}
		})
	})
}

func TestASignInWaitsForTheNextSecondOnce(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, limitedTo(1))
			s.store.hook(func(string, sessions.ID) error { time.Sleep(10 * time.Millisecond); return nil }, nil)
			var waited atomic.Int64
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					began := time.Now()
					s.browser().do(login(42))
					took := time.Since(began)
					if took > 2*time.Second {
						t.Errorf("a sign-in took %v, want one second and its operations", took)
					}
					if took > time.Second/2 {
						waited.Add(1)
					}
				})
			}
			wg.Wait()
			if waited.Load() == 0 {
				t.Error("no sign-in has waited")
			}
		})
	})
}

// lateLogin signs in, and others do while its record is there and was not counted
// yet.
func lateLogin(s *site, b *browser, do func(*session), others int) *reply {
	once := true
	s.store.hook(nil, func(op string, _ sessions.ID) error {
		if op == "Create" && once {
			once = false
			for range others {
				time.Sleep(time.Second)
				signIn(s, 42)
			}
		}
		return nil
	})
	defer s.store.hook(nil, nil)
	return b.do(do)
}

func TestASignInThatLostTheLimitIsAnsweredAsSuchAndKeepsWhatItHad(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(*session)
	}{
		{"a new visitor", nil},
		{"a known visitor", func(s *session) { s.Data.Name = "visitor"; s.Flash("info", "waits") }},
		{"another user", become(43)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachOwnerStore(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					var failed error
					s := newOwnedSite(t, m, func(c *config) {
						c.MaxPerOwner = 3
						c.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
							failed = err
							w.WriteHeader(http.StatusTeapot)
						}
					})
					b := s.browser()
					if tt.before != nil {
						b.do(tt.before)
					}
					was, id, cookie := must(b.peek()), idOf(b), b.cookie()
					s.events.reset()
					res := lateLogin(s, b, login(42), 3)
					if res.StatusCode != http.StatusTeapot || len(res.setCookies()) > 0 || b.cookie() != cookie {
						t.Errorf("got %d with %q, want the error page without a cookie", res.StatusCode, res.setCookies())
					}
					if !errors.Is(failed, sessions.ErrLimit) {
						t.Errorf("got the error %v, want ErrLimit", failed)
					}
					if got := must(b.peek()); fmt.Sprint(got) != fmt.Sprint(was) || tt.before != nil && idOf(b) != id {
						t.Errorf("got %+v, want what it had, %+v", got, was)
					}
					if got := listed(s, "42"); len(got) != 3 {
						t.Errorf("got %d sessions, want the 3 newer ones", len(got))
					}
					// One of the others has ended its record, which it may tell.
					if started, renewed := s.events.of(sessions.EventStarted), s.events.of(sessions.EventRenewed); len(started) != 3 || len(renewed) > 0 {
						t.Errorf("got the starts %v and the new ids %v, want those of the three others", started, renewed)
					}
				})
			})
		})
	}
}

func TestTheStatusOfASignInThatLostTheLimitIs409(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, limitedTo(1))
			if res := lateLogin(s, s.browser(), login(42), 1); res.StatusCode != http.StatusConflict || res.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("got %d with Cache-Control %q, want 409 and no-store", res.StatusCode, res.Header.Get("Cache-Control"))
			}
		})
	})
}

func TestASaveReportsThatASignInHasLostTheLimit(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, limitedTo(1))
			b := s.browser()
			res := lateLogin(s, b, func(s *session) {
				login(42)(s)
				if err := s.Save(bg); !errors.Is(err, sessions.ErrLimit) {
					t.Errorf("Save: got %v, want ErrLimit", err)
				}
				s.Destroy() // or the commit tries again
			}, 1)
			if res.StatusCode != http.StatusOK || b.cookie() != "" || len(listed(s, "42")) != 1 {
				t.Errorf("got %d, the cookie %q and %d sessions, want the newer session alone", res.StatusCode, b.cookie(), len(listed(s, "42")))
			}
		})
	})
}

func TestAnImportThatLostTheLimitSendsNoCookieAndIsNoError(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, func(c *config) {
				c.MaxPerOwner = 2
				c.Import = func(*http.Request) (AppSession, bool) { return AppSession{UserID: 42}, true }
				c.ImportCookies = []http.Cookie{{Name: "legacy"}}
			})
			plain := newOwnedSite(t, m, func(c *config) { c.MaxPerOwner, c.Store = 2, s.store.asStore() })
			s.store.onceAfter("Create", func() {
				for range 2 {
					time.Sleep(time.Second)
					signIn(plain, 42)
				}
			})
			res := cookieHeader(s, func(s *session) {
				if s.Data.UserID != 42 || s.Reason() != sessions.ReasonImported {
					t.Errorf("got user %d, %q, want the imported session", s.Data.UserID, s.Reason())
				}
			}, "legacy=ada")
			s.store.hook(nil, nil)
			if res.StatusCode != 200 || len(res.Header["Set-Cookie"]) > 0 {
				t.Errorf("got %d with %q, want 200, and the foreign cookie left", res.StatusCode, res.Header["Set-Cookie"])
			}
			if got := s.events.of(sessions.EventDiscarded); len(got) != 1 || got[0].Reason != sessions.ReasonLimit || !errors.Is(got[0].Err, sessions.ErrLimit) {
				t.Errorf("got the events %v, want one of the limit", got)
			}
			if len(s.events.of(sessions.EventFailed)) > 0 || len(listed(s, "42")) != 2 {
				t.Errorf("got the events %v and %d sessions, want no failure and the 2 newer ones", s.events.all, len(listed(s, "42")))
			}
		})
	})
}

func TestWhatIsNoNewSessionOfTheOwnerEndsNone(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*session)
	}{
		{"a read", func(s *session) { _ = s.Data.UserID }},
		{"an edit", func(s *session) { s.Data.N++ }},
		{"a message", func(s *session) { s.Flash("info", "x") }},
		{"RotateID", (*session).RotateID},
		{"RotateID and an edit", func(s *session) { s.RotateID(); s.Data.N++ }},
		{"RegenerateID", (*session).RegenerateID},
		{"a sign-in again", login(42)},
		{"a Save of each", func(s *session) {
			for range 3 {
				s.RegenerateID()
				if err := s.Save(bg); err != nil {
					panic(err)
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachOwnerStore(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newOwnedSite(t, m, limitedTo(3))
					var browsers []*browser
					for range 3 {
						time.Sleep(time.Second)
						b, _ := signIn(s, 42)
						browsers = append(browsers, b)
					}
					for _, i := range []int{0, 2, 1, 0} {
						time.Sleep(time.Second)
						if res := browsers[i].do(tt.do); res.StatusCode != 200 {
							t.Errorf("session %d: got %d, want 200", i, res.StatusCode)
						}
					}
					wantLive(t, 42, browsers, 0, 1, 2)
					if n := len(s.events.of(sessions.EventEnded)); n > 0 {
						t.Errorf("got %d ends, want none", n)
					}
				})
			})
		})
	}
}

func TestRegenerateIDMakesASessionNewerAndRotateIDDoesNot(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*session)
		live []int
	}{
		{"RegenerateID", (*session).RegenerateID, []int{0, 2}},
		{"RotateID", (*session).RotateID, []int{1, 2}},
		{"an edit", func(s *session) { s.Data.N++ }, []int{1, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachOwnerStore(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newOwnedSite(t, m, limitedTo(2))
					var browsers []*browser
					for i := range 3 {
						time.Sleep(time.Second)
						if i == 2 {
							browsers[0].do(tt.do)
							time.Sleep(time.Second)
						}
						b, _ := signIn(s, 42)
						browsers = append(browsers, b)
					}
					wantLive(t, 42, browsers, tt.live...)
				})
			})
		})
	}
}

func TestWhatDoesNotLiveDoesNotCount(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, limitedTo(2))
			lasting, _ := signIn(s, 42)
			short, _ := signIn(s, 42)
			short.do(func(s *session) { s.SetLifetime(time.Minute) })
			time.Sleep(2 * time.Minute) // past the end of the one
			lasting.do((*session).RotateID)
			second, _ := signIn(s, 42) // beside a tombstone, and what has expired
			wantUser(t, "the one that lasts", lasting, 42)
			wantUser(t, "the second", second, 42)
			second.do((*session).Destroy)
			time.Sleep(time.Second)
			third, _ := signIn(s, 42)
			wantUser(t, "the one that lasts", lasting, 42)
			wantUser(t, "the third", third, 42)
			if n := len(s.events.of(sessions.EventEnded)); n != 1 {
				t.Errorf("got %d ends, want that of the second alone", n)
			}
		})
	})
}

func TestASessionThatPassesToAnOwnerCountsAsANewOne(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, limitedTo(2))
			var browsers []*browser
			for _, user := range []int{43, 42, 42} {
				time.Sleep(time.Second)
				b, _ := signIn(s, user)
				browsers = append(browsers, b)
			}
			time.Sleep(time.Second)
			browsers[0].do(become(42)) // begun first, and now the newest of user 42
			wantLive(t, 42, browsers, 0, 2)
			wantListed(t, s, "43")
		})
	})
}

// ownedFails is a store whose index fails on order.
type ownedFails struct {
	sessions.OwnerStore
	err error
}

func (o *ownedFails) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	if o.err != nil {
		return func(yield func(sessions.ID, error) bool) { yield(sessions.ID{}, o.err) }
	}
	return o.OwnerStore.Owned(ctx, owner)
}

func TestASignInWhoseLimitCannotBeCheckedIsNoSignIn(t *testing.T) {
	down := errors.New("down")
	for _, tt := range []struct {
		name string
		fail func(s *site, index *ownedFails)
	}{
		{"since the index fails", func(_ *site, index *ownedFails) { index.err = down }},
		{"since a record cannot be loaded", func(s *site, _ *ownedFails) {
			loads := 0
			s.store.hook(func(op string, _ sessions.ID) error {
				if op == "Load" {
					if loads++; loads == 2 { // the first is that of the request
						return down
					}
				}
				return nil
			}, nil)
		}},
		{"since the oldest cannot be ended", func(s *site, _ *ownedFails) {
			s.store.hook(func(op string, id sessions.ID) error {
				if op == "Delete" && id == s.store.created[0] {
					return down
				}
				return nil
			}, nil)
		}},
	} {
		for _, saves := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, saved=%t", tt.name, saves), func(t *testing.T) {
				eachOwnerStore(t, func(t *testing.T, m mode) {
					synctest.Test(t, func(t *testing.T) {
						index := &ownedFails{OwnerStore: m.store().(sessions.OwnerStore)}
						m.store = func() sessions.Store { return index }
						s := newOwnedSite(t, m, limitedTo(2))
						var browsers []*browser
						for range 2 {
							b, _ := signIn(s, 42)
							browsers = append(browsers, b)
							time.Sleep(time.Second)
						}
						b := s.browser()
						b.do(func(s *session) { s.Data.Name = "visitor" })
						id := idOf(b)
						tt.fail(s, index)
						res := b.do(func(x *session) {
							login(42)(x)
							if saves {
								if err := x.Save(bg); !errors.Is(err, down) {
									t.Errorf("Save: got %v, want the error of the store", err)
								}
								tt.fail(s, index)
							}
						})
						s.store.hook(nil, nil)
						index.err = nil
						// The end of the oldest comes after the new id has replaced the old one.
						late := tt.name == "since the oldest cannot be ended"
						if res.StatusCode < 500 && !(late && saves) || len(res.setCookies()) > 0 {
							t.Errorf("got %d with %q, want an error page without a cookie", res.StatusCode, res.setCookies())
						}
						if d, _ := b.peek(); d.UserID == 42 || !late && (d.Name != "visitor" || idOf(b) != id) {
							t.Errorf("got %+v, want no sign-in", d)
						}
						wantLive(t, 42, browsers, 0, 1)
						if n := len(listed(s, "42")); n != 2 {
							t.Errorf("got %d sessions, want the 2 that were there", n)
						}
					})
				})
			})
		}
	}
}

func TestVisitorsHaveTheAnonymousLifetime(t *testing.T) {
	const anonymous, day = time.Hour, 24 * time.Hour
	for _, tt := range []struct {
		name string
		do   []func(*session)
		want time.Duration
	}{
		{"a visitor", []func(*session){func(s *session) { s.Data.N = 1 }}, anonymous},
		{"a visitor with a message", []func(*session){func(s *session) { s.Flash("info", "x") }}, anonymous},
		{"a user", []func(*session){login(42)}, day},
		{"a user from the start", []func(*session){become(42)}, day},
		{"a visitor who signs in", []func(*session){func(s *session) { s.Data.N = 1 }, login(42)}, day},
		{"a visitor who signs in without RegenerateID", []func(*session){func(s *session) { s.Data.N = 1 }, become(42)}, day},
		{"a user who becomes a visitor", []func(*session){login(42), func(s *session) { s.Data = AppSession{N: 1} }}, anonymous},
		{"after Reset", []func(*session){login(42), func(s *session) { s.Reset(); s.Flash("info", "bye") }}, anonymous},
		{"a visitor who asks for more", []func(*session){func(s *session) { s.Data.N = 1; s.SetLifetime(2 * day) }}, 2 * day},
		{"a visitor who asks for less", []func(*session){func(s *session) { s.SetLifetime(time.Minute); s.Data.N = 1 }}, time.Minute},
		{"a visitor who has a new id", []func(*session){func(s *session) { s.Data.N = 1 }, (*session).RegenerateID}, anonymous},
		{"a visitor who asks for the default", []func(*session){func(s *session) { s.Data.N = 1; s.SetLifetime(time.Minute) }, func(s *session) { s.SetLifetime(0) }}, anonymous},
		{"a user who asks for the default", []func(*session){login(42), func(s *session) { s.SetLifetime(0) }}, day},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachOwnedMode(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newOwnedSite(t, m, func(c *config) { c.AnonymousLifetime = anonymous })
					b := s.browser()
					var shown time.Time
					var age int
					for _, do := range tt.do {
						for _, c := range b.do(func(s *session) { do(s) }).Cookies() {
							age = c.MaxAge
						}
					}
					b.clone().do(func(s *session) { shown = s.ExpiresAt() })
					if left := time.Until(shown); left != tt.want || age != int(tt.want/time.Second) {
						t.Errorf("got %v left and Max-Age=%d, want %v", left, age, tt.want)
					}
					user := must(b.peek()).UserID
					time.Sleep(tt.want - time.Second)
					if _, reason := b.peek(); reason != sessions.ReasonNone {
						t.Errorf("got %q just before the end", reason)
					}
					time.Sleep(time.Second)
					if d, reason := b.peek(); reason == sessions.ReasonNone {
						t.Errorf("got %+v of user %d at the end, want nothing", d, user)
					}
				})
			})
		})
	}
}

func TestAnEditOfAVisitorsSessionLeavesItsEnd(t *testing.T) {
	eachOwnedMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, func(c *config) { c.AnonymousLifetime = time.Hour })
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			for range 3 {
				time.Sleep(15 * time.Minute)
				b.do(func(s *session) { s.Data.N++ })
			}
			time.Sleep(15 * time.Minute)
			if _, reason := b.peek(); reason == sessions.ReasonNone {
				t.Error("the session goes on after its hour")
			}
		})
	})
}

func TestAStoreThatCannotCheckTheLimitGives503(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		index := &ownedFails{OwnerStore: m.store().(sessions.OwnerStore), err: errors.New("down")}
		m.store = func() sessions.Store { return index }
		s := newOwnedSite(t, m, limitedTo(2))
		if res := s.browser().do(login(42)); res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("got %d, want 503", res.StatusCode)
		}
	})
}

// Whatever else the sessions of an owner do meanwhile, and however the store fails:
// there are never more of them that somebody has a cookie for than the limit
// admits, and whoever was answered with a cookie was signed in with it.
func TestSignInsAtOnceOnAFailingStoreStayWithinTheLimit(t *testing.T) {
	for seed := range seeds() {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { limitedChaos(t, seed) })
		})
	}
}

func limitedChaos(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 3))
	limit := 1 + random.IntN(3)
	store := &chaosStore{OwnerStore: new(sessions.MemoryStore), random: rand.New(rand.NewPCG(seed, 4)), calm: true}
	s := newSite(t, mode{}, func(c *config) {
		c.Store, c.Encrypt, c.Owner, c.MaxPerOwner = store, seed%2 == 0, ownerOfUser, limit
	})
	var browsers []*browser
	for range limit {
		b, _ := signIn(s, 42)
		browsers = append(browsers, b)
		time.Sleep(time.Second)
	}
	verbs := []func(*session){
		login(42), login(42), login(42), become(42),
		(*session).RotateID,
		(*session).RegenerateID,
		func(s *session) { login(42)(s); _ = s.Save(context.Background()); s.Data.N++ },
		func(s *session) { s.Data.N++ },
		(*session).Destroy,
	}
	store.setCalm(false)
	var wg sync.WaitGroup
	for i := range 2 + random.IntN(6) {
		verb := verbs[random.IntN(len(verbs))]
		start := time.Duration(random.IntN(60)) * time.Millisecond
		b := s.browser()
		if i < limit && random.IntN(2) == 0 {
			b = browsers[i]
		} else {
			browsers = append(browsers, b)
		}
		wg.Go(func() {
			time.Sleep(start)
			b.do(verb)
		})
	}
	wg.Wait()
	time.Sleep(time.Second)
	store.setCalm(true)
	live := 0
	for _, b := range browsers {
		if data, _ := b.peek(); data.UserID == 42 {
			live++
		}
	}
	if live > limit {
		t.Errorf("got %d sessions that somebody has a cookie for, want %d", live, limit)
	}
}

func TestTheLimitCountsNoSessionOfAnotherOwnerThatAnIndexStillLists(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted %t", encrypt), func(t *testing.T) {
			lagging := &laggingStore{OwnerStore: new(sessions.MemoryStore)}
			s := newOwnedSite(t, mode{"lagging", func() sessions.Store { return lagging }, encrypt}, limitedTo(1))
			bob, _ := signIn(s, 43)
			lagging.extra = s.store.live()
			ada, _ := signIn(s, 42)
			wantUser(t, "of another owner", bob, 43)
			wantUser(t, "who has signed in", ada, 42)
		})
	}
}

func TestAnOwnerThatAMergeGivesIsCounted(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, func(c *config) {
				c.MaxPerOwner = 1
				c.Owner = func(d *AppSession) string { // both steps of a sign-in
					if d.UserID == 0 || d.Role == "" {
						return ""
					}
					return strconv.Itoa(d.UserID)
				}
			})
			first := s.browser()
			first.do(func(s *session) { s.Data.UserID, s.Data.Role = 42, "user" })
			time.Sleep(time.Second)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			other := b.clone()
			s.store.onceBefore("Replace", func() { other.do(func(s *session) { s.Data.Role = "user" }) })
			b.do(func(s *session) { s.RegenerateID(); s.Data.UserID = 42 })
			s.store.hook(nil, nil)
			if n := len(listed(s, "42")); n > 1 {
				t.Errorf("got %d sessions of one owner, want 1", n)
			}
		})
	})
}

// Of two sign-ins in one second, the browser shows the answer to the second.
func TestAFormSentTwiceIsASignInAtALimitOfOne(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, limitedTo(1))
			lost := 0
			for user := range 16 {
				b := s.browser()
				b.do(func(s *session) { s.Data.Name = "visitor" })
				second := b.clone() // the first answer does not reach the browser
				b.do(login(user + 1))
				if res := second.do(login(user + 1)); res.StatusCode == http.StatusConflict {
					lost++
				}
			}
			if lost > 0 {
				t.Errorf("%d of 16 forms that were sent twice were answered 409", lost)
			}
		})
	})
}

// A slowStore takes a random time before and after each operation.
type slowStore struct {
	sessions.OwnerStore
	mu     sync.Mutex
	random *rand.Rand
}

func (s *slowStore) wait() {
	s.mu.Lock()
	d := time.Duration(s.random.IntN(4)) * time.Millisecond
	s.mu.Unlock()
	time.Sleep(d)
}

func (s *slowStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	s.wait()
	defer s.wait()
	return s.OwnerStore.Load(ctx, id)
}

func (s *slowStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	s.wait()
	defer s.wait()
	return s.OwnerStore.Create(ctx, id, rec)
}

func (s *slowStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	s.wait()
	defer s.wait()
	return s.OwnerStore.Update(ctx, id, rec)
}

func (s *slowStore) Delete(ctx context.Context, id sessions.ID, v uint64) error {
	s.wait()
	defer s.wait()
	return s.OwnerStore.Delete(ctx, id, v)
}

// Whatever the sessions of an owner do at once: one lives, no more than the limit do, and
// each that is gone has one end. SEEDS sets how many histories are tried.
func TestWhatTheLimitEndsIsToldOnceWhateverMovesMeanwhile(t *testing.T) {
	for seed := range seeds() {
		t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 9))
				limit := 1 + random.IntN(3)
				store := &slowStore{OwnerStore: new(sessions.MemoryStore), random: rand.New(rand.NewPCG(seed, 10))}
				s := newSite(t, mode{}, func(c *config) { c.Store, c.Owner, c.MaxPerOwner = store, ownerOfUser, limit })
				var browsers []*browser
				for range limit {
					b, _ := signIn(s, 42)
					browsers = append(browsers, b)
					time.Sleep(time.Second)
				}
				verbs := []func(*session){login(42), login(42), become(42), (*session).RotateID, (*session).RegenerateID, func(s *session) { s.Data.N++ }}
				var wg sync.WaitGroup
				var did []string
				for i := range 3 + random.IntN(6) {
					n, start := random.IntN(len(verbs)), time.Duration(random.IntN(30))*time.Millisecond
					verb := verbs[n]
					did = append(did, fmt.Sprintf("%d at %v", n, start))
					b := s.browser()
					if i < limit {
						b = browsers[i]
					} else {
						browsers = append(browsers, b)
					}
					wg.Go(func() { time.Sleep(start); b.do(verb) })
				}
				wg.Wait()
				time.Sleep(2 * time.Minute) // no tombstone is left
				live := listed(s, "42")
				if len(live) < 1 || len(live) > limit {
					t.Errorf("seed %d: got %d sessions, want 1 to %d", seed, len(live), limit)
				}
				signedIn := 0
				for _, b := range browsers {
					if d, _ := b.peek(); d.UserID == 42 {
						signedIn++
					}
				}
				if signedIn != len(live) {
					t.Errorf("seed %d: %d sessions live, and %d browsers are signed in", seed, len(live), signedIn)
				}
				ended, begun := map[string]int{}, map[string]bool{}
				for _, e := range s.events.of(sessions.EventEnded) {
					ended[e.ID]++
				}
				for _, e := range s.events.of(sessions.EventStarted) {
					begun[e.ID] = e.Owner == "42"
				}
				renewed := s.events.of(sessions.EventRenewed)
				for _, e := range renewed {
					begun[e.ID] = e.Owner == "42"
				}
				for _, e := range renewed {
					if ended[e.Previous] > 0 {
						t.Errorf("seed %d: %s was renewed, and has an end", seed, e.Previous)
					}
					delete(begun, e.Previous)
				}
				for id, is := range begun {
					if _, lives := live[id]; is && !lives && ended[id] != 1 {
						t.Errorf("seed %d: session %s is gone, and got %d ends", seed, id, ended[id])
						t.Logf("limit %d, what the requests did: %v", limit, did)
						for _, e := range s.events.all {
							t.Logf("%s %s %.6s from %.6s %v", e.Kind, e.Reason, e.ID, e.Previous, e.Err)
						}
					} else if lives && ended[id] > 0 {
						t.Errorf("seed %d: session %s lives, and got an end", seed, id)
					}
				}
				for id, n := range ended {
					if n > 1 {
						t.Errorf("seed %d: %d ends of %s", seed, n, id)
					}
				}
			})
		})
	}
}
