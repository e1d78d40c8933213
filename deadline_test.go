package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// overdue sends a request whose deadline passes before f runs, as behind echo's
// and chi's timeouts, which leave the answer to the handler.
func overdue(b *browser, f http.HandlerFunc) *reply {
	return b.send(func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		f(w, r)
	}, func(r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		time.AfterFunc(time.Minute, cancel)
		*r = *r.WithContext(ctx)
	})
}

func redirect(to string, f func(*session)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f(sessions.Get[AppSession](r.Context()))
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
}

func TestASignInThatIsTooLateToBeStoredIsNotAnsweredAsOne(t *testing.T) {
	for name, signIn := range map[string]func(*session){
		"RegenerateID": login(42),
		"a new owner":  become(42),
		"Reset":        func(s *session) { s.Reset(); become(42)(s) },
		"RotateID":     func(s *session) { s.RotateID(); s.Data.Role = "admin" },
	} {
		for _, before := range []bool{false, true} {
			if name == "RotateID" && !before {
				continue // it only draws an id
			}
			t.Run(fmt.Sprintf("%s, known before=%t", name, before), func(t *testing.T) {
				eachOwnedMode(t, func(t *testing.T, m mode) {
					synctest.Test(t, func(t *testing.T) {
						var failed error
						s := newOwnedSite(t, m, func(c *config) {
							c.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
								failed = err
								http.Error(w, "Please try again", http.StatusServiceUnavailable)
							}
						})
						b := s.browser()
						if before {
							b.do(func(s *session) { s.Data.Name = "visitor" })
						}
						cookie := b.cookie()
						res := overdue(b, redirect("/home", signIn))
						if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Location") != "" || !strings.Contains(res.body, "try again") || res.Header.Get("Cache-Control") != "no-store" {
							t.Errorf("got %d to %q, want the page of ErrorHandler", res.StatusCode, res.Header.Get("Location"))
						}
						if !errors.Is(failed, sessions.ErrTooLate) {
							t.Errorf("got the error %v, want ErrTooLate", failed)
						}
						if name != "Reset" && b.cookie() != cookie {
							t.Errorf("got %q, want the cookie that it had", res.setCookies())
						}
						if d, _ := b.peek(); d.UserID != 0 || d.Role != "" || name != "Reset" && before && d.Name != "visitor" {
							t.Errorf("got %+v, want no sign-in", d)
						}
					})
				})
			})
		}
	}
}

func TestTheAnswerToWhatIsTooLateIs503(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			res := overdue(s.browser(), redirect("/", func(s *session) { s.Data.N = 1 }))
			if res.StatusCode != http.StatusServiceUnavailable || len(res.Header["Set-Cookie"]) > 0 {
				t.Errorf("got %d with %q, want 503 and no cookie", res.StatusCode, res.Header["Set-Cookie"])
			}
			if s.store != nil && len(s.store.live()) > 0 {
				t.Errorf("got %d records, want none", len(s.store.live()))
			}
			if n := len(s.events.of(sessions.EventLate)); n != 1 {
				t.Errorf("got %d late events, want 1", n)
			}
		})
	})
}

func TestWhatNeedsNoCookieIsStoredAfterTheDeadline(t *testing.T) {
	for name, change := range map[string]func(*session){
		"an edit":   func(s *session) { s.Data.N = 2 },
		"an Update": func(s *session) { s.Update(func(d *AppSession) { d.N++ }) },
		"a message": func(s *session) { s.Flash("info", "x"); s.Data.N = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t, m, nil)
					b := s.browser()
					b.do(func(s *session) { s.Data.N = 1 })
					res := overdue(b, redirect("/home", change))
					if res.StatusCode != http.StatusSeeOther || len(res.Header["Set-Cookie"]) > 0 {
						t.Errorf("got %d with %q, want the handler's answer", res.StatusCode, res.Header["Set-Cookie"])
					}
					if d, _ := b.peek(); d.N != 2 {
						t.Errorf("got N=%d, want 2", d.N)
					}
					if n := len(s.events.of(sessions.EventLate)); n > 0 {
						t.Errorf("got %d late events, want none", n)
					}
				})
			})
		})
	}
}

func TestARequestThatChangesNothingIsAnsweredAsUsualAfterItsDeadline(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			for name, read := range map[string]func(*session){
				"a read": func(s *session) { _ = s.Data.N }, "FlashNow": func(s *session) { s.FlashNow("info", "x"); s.Flashes() },
			} {
				if res := overdue(b, redirect("/home", read)); res.StatusCode != http.StatusSeeOther {
					t.Errorf("%s: got %d, want the handler's answer", name, res.StatusCode)
				}
				if res := overdue(s.browser(), redirect("/home", read)); res.StatusCode != http.StatusSeeOther {
					t.Errorf("%s by a new visitor: got %d, want the handler's answer", name, res.StatusCode)
				}
			}
			if n := len(s.events.all); n != 1 {
				t.Errorf("got the events %v, want the start alone", s.events.all)
			}
		})
	})
}

func TestALogoutHappensAfterTheDeadlineToo(t *testing.T) {
	eachOwnedMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, nil)
			b, id := signIn(s, 42)
			res := overdue(b, redirect("/", (*session).Destroy))
			if res.StatusCode != http.StatusSeeOther || b.cookie() != "" {
				t.Errorf("got %d with %q, want the answer and the cookie expired", res.StatusCode, res.setCookies())
			}
			if s.store != nil && len(s.store.live()) > 0 {
				t.Errorf("got %d records, want none", len(s.store.live()))
			}
			wantEnd(t, s, id, sessions.ReasonDestroyed, "42")
		})
	})
}

func TestASaveAfterTheDeadlineSaysThatItIsTooLate(t *testing.T) {
	for name, change := range map[string]func(*session){
		"a sign-in":             login(42),
		"a new owner":           become(42),
		"another end":           func(s *session) { s.SetLifetime(time.Hour) },
		"a session that is new": func(s *session) { s.Reset(); s.Data.N = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			eachOwnedMode(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newOwnedSite(t, m, nil)
					b := s.browser()
					b.do(func(s *session) { s.Data.Name = "visitor" })
					overdue(b, func(_ http.ResponseWriter, r *http.Request) {
						x := sessions.Get[AppSession](r.Context())
						change(x)
						if err := x.Save(bg); !errors.Is(err, sessions.ErrTooLate) {
							t.Errorf("got %v, want ErrTooLate", err)
						}
					})
				})
			})
		})
	}
}

func TestADeadlineThatPassesAfterTheHeadersIsNoError(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			res := b.send(func(w http.ResponseWriter, r *http.Request) {
				sessions.Get[AppSession](r.Context()).Data.N = 1
				w.WriteHeader(http.StatusAccepted)
				<-r.Context().Done()
			}, func(r *http.Request) {
				ctx, cancel := context.WithTimeout(r.Context(), time.Second)
				time.AfterFunc(time.Minute, cancel)
				*r = *r.WithContext(ctx)
			})
			if d, _ := b.peek(); res.StatusCode != http.StatusAccepted || d.N != 1 {
				t.Errorf("got %d and N=%d, want 202 and 1", res.StatusCode, d.N)
			}
		})
	})
}

// A client who hung up is no deadline: the session is stored, though nobody reads
// the answer.
func TestAClientWhoHangsUpDoesNotUndoASignIn(t *testing.T) {
	eachOwnedMode(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b := s.browser()
		ctx, cancel := context.WithCancel(bg)
		res := b.send(func(w http.ResponseWriter, r *http.Request) {
			cancel()
			redirect("/home", login(42))(w, r)
		}, func(r *http.Request) { *r = *r.WithContext(ctx) })
		if d, _ := b.peek(); res.StatusCode != http.StatusSeeOther || d.UserID != 42 {
			t.Errorf("got %d and user %d, want 303 and 42", res.StatusCode, d.UserID)
		}
	})
}
