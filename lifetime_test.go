package sessions_test

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// timed runs f in all modes, in a bubble where time passes at once.
func timed(t *testing.T, f func(t *testing.T, m mode)) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) { f(t, m) })
	})
}

// endReason is what a request finds when the session's own time is over: in a
// store it is just gone.
func endReason(m mode, inCookie sessions.Reason) sessions.Reason {
	if m.hasStore() && inCookie == sessions.ReasonIdle {
		return sessions.ReasonUnknown
	}
	return inCookie
}

func TestSessionEndsAtItsAbsoluteEndHoweverItIsUsed(t *testing.T) {
	timed(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.UserID = 42 })
		var end time.Time
		b.do(func(s *session) { end = s.ExpiresAt() })
		if want := time.Now().Add(24 * time.Hour); !end.Equal(want) {
			t.Fatalf("ends at %v, want %v", end, want)
		}
		thief := b.clone() // a client that ignores Max-Age
		for range 23 {
			time.Sleep(time.Hour)
			b.do(func(s *session) {
				s.Data.N++
				if !s.ExpiresAt().Equal(end) {
					t.Errorf("ends at %v after an edit, want %v as before", s.ExpiresAt(), end)
				}
			})
		}
		time.Sleep(time.Hour - time.Second)
		if _, reason := b.peek(); reason != sessions.ReasonNone {
			t.Errorf("a second before the end: got %q, want it alive", reason)
		}
		time.Sleep(time.Second)
		for _, b := range []*browser{b, thief} {
			if d, reason := b.peek(); d.UserID != 0 || reason != sessions.ReasonExpired {
				t.Errorf("at the end: got user %d, %q, want expired", d.UserID, reason)
			}
		}
	})
}

func TestIdleSessionEnds(t *testing.T) {
	timed(t, func(t *testing.T, m mode) {
		s := newSite(t, m, func(c *config) { c.IdleTimeout = 30 * time.Minute })
		b := s.browser()
		b.do(func(s *session) { s.Data.UserID = 42 })
		for range 6 {
			time.Sleep(29 * time.Minute)
			b.do(func(s *session) {
				if s.IsNew() {
					t.Fatalf("used every 29 minutes: got %q, want it alive", s.Reason())
				}
			})
		}
		stale := b.clone()
		time.Sleep(31 * time.Minute)
		if _, reason := stale.peek(); reason != endReason(m, sessions.ReasonIdle) {
			t.Errorf("after 31 idle minutes: got %q", reason)
		}
	})
}

func TestIdleTimeoutDoesNotReachBeyondTheAbsoluteEnd(t *testing.T) {
	timed(t, func(t *testing.T, m mode) {
		s := newSite(t, m, func(c *config) { c.Lifetime, c.IdleTimeout = time.Hour, 50*time.Minute })
		b := s.browser()
		b.do(func(s *session) { s.Data.UserID = 42 })
		for range 5 {
			time.Sleep(11 * time.Minute)
			b.do(func(s *session) { _ = s.Data })
		}
		time.Sleep(5*time.Minute - time.Second)
		if _, reason := b.peek(); reason != sessions.ReasonNone {
			t.Errorf("a second before the end: got %q, want it alive", reason)
		}
		time.Sleep(time.Second)
		if _, reason := b.peek(); reason == sessions.ReasonNone {
			t.Error("alive at the absolute end")
		}
	})
}

func TestUseIsNotedAtMostOncePerTenthOfTheIdleTimeout(t *testing.T) {
	timed(t, func(t *testing.T, m mode) {
		s := newSite(t, m, func(c *config) { c.IdleTimeout = 100 * time.Minute })
		b := s.browser()
		b.do(func(s *session) { s.Data.UserID = 42 })
		if m.hasStore() {
			s.store.resetCounts()
		}
		cookies := 0
		for range 600 { // ten requests a minute for an hour
			time.Sleep(6 * time.Second)
			cookies += len(b.do(func(s *session) { _ = s.Data }).setCookies())
		}
		if !m.hasStore() {
			if cookies != 6 {
				t.Errorf("got %d cookies in six tenths, want 6", cookies)
			}
			return
		}
		if n := s.store.count("Touch"); n != 6 || cookies != 0 {
			t.Errorf("got %d touches and %d cookies in six tenths, want 6 and 0", n, cookies)
		}
		if n := s.store.count("Update"); n != 0 {
			t.Errorf("got %d writes, want none", n)
		}
	})
}

func TestRequestThatDoesNotAskForTheSessionIsNoUse(t *testing.T) {
	timed(t, func(t *testing.T, m mode) {
		s := newSite(t, m, func(c *config) { c.IdleTimeout = 30 * time.Minute })
		b := s.browser()
		b.do(func(s *session) { s.Data.UserID = 42 })
		for range 2 {
			time.Sleep(20 * time.Minute)
			res := b.serve(func(http.ResponseWriter, *http.Request) {})
			if len(res.Header["Set-Cookie"])+len(res.Header["Vary"]) > 0 {
				t.Errorf("got %v, want no header of ours", res.Header)
			}
		}
		if _, reason := b.peek(); reason != endReason(m, sessions.ReasonIdle) {
			t.Errorf("got %q, want it idle", reason)
		}
	})
}

func TestFailedTouchIsAnEventAndNoErrorPage(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, func(c *config) { c.IdleTimeout = 30 * time.Minute })
			b := s.browser()
			b.do(func(s *session) { s.Data.UserID = 42 })
			time.Sleep(10 * time.Minute)
			s.store.hook(func(op string, _ sessions.ID) error {
				if op == "Touch" {
					return http.ErrHandlerTimeout
				}
				return nil
			}, nil)
			if res := b.do(func(s *session) { _ = s.Data }); res.StatusCode != 200 {
				t.Errorf("got %d, want the handler's answer", res.StatusCode)
			}
			if n := len(s.events.of(sessions.EventFailed)); n != 1 {
				t.Errorf("got %d failed events, want 1", n)
			}
		})
	})
}

func TestSetLifetime(t *testing.T) {
	const month = 30 * 24 * time.Hour
	timed(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.UserID = 42 })
		time.Sleep(time.Hour)
		res := b.do(func(s *session) { s.SetLifetime(month) })
		if line := res.setCookies(); len(line) != 1 || !strings.Contains(line[0], "; Max-Age=2592000;") {
			t.Errorf("got %v, want Max-Age of 30 days", line)
		}
		end := time.Now().Add(month)
		check := func(when string) {
			t.Helper()
			b.clone().do(func(s *session) {
				if !s.ExpiresAt().Equal(end) {
					t.Errorf("%s: ends at %v, want %v", when, s.ExpiresAt(), end)
				}
			})
		}
		check("at once")
		time.Sleep(time.Hour)
		b.do(func(s *session) { s.Data.N++ })
		check("after an edit")
		b.do(func(s *session) { s.RegenerateID() })
		end = time.Now().Add(month)
		check("after RegenerateID")
		b.do(func(s *session) { s.SetLifetime(0) })
		end = time.Now().Add(24 * time.Hour)
		check("after SetLifetime(0)")
		b.do(func(s *session) { s.RegenerateID(); s.SetLifetime(time.Hour) })
		end = time.Now().Add(time.Hour)
		check("shortened")
		time.Sleep(time.Hour)
		if _, reason := b.peek(); reason == sessions.ReasonNone {
			t.Error("alive at its end")
		}
	})
}

func TestRegenerateIDStartsTheLifetimeAgain(t *testing.T) {
	timed(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		b.do(func(s *session) { s.Data.UserID = 42 })
		time.Sleep(20 * time.Hour)
		b.do(func(s *session) { s.RegenerateID() })
		now := time.Now()
		time.Sleep(10 * time.Hour)
		b.do(func(s *session) {
			if !s.CreatedAt().Equal(now) || !s.ExpiresAt().Equal(now.Add(24*time.Hour)) {
				t.Errorf("got %v to %v, want a day from %v", s.CreatedAt(), s.ExpiresAt(), now)
			}
		})
	})
}

func TestAClockThatStepsBackIsNoFault(t *testing.T) {
	// Bubbles begin at midnight of 2000-01-01: the second one is the past.
	var cookies map[string]string
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(5 * time.Minute)
		b := newSite(t, modes[0], func(c *config) { c.IdleTimeout = time.Hour }).browser()
		b.do(func(s *session) { s.Data.UserID = 42 })
		cookies = b.cookies
	})
	synctest.Test(t, func(t *testing.T) {
		b := newSite(t, modes[0], func(c *config) { c.IdleTimeout = time.Hour }).browser()
		b.cookies = cookies
		if d, reason := b.peek(); d.UserID != 42 {
			t.Errorf("created in the future: got %q, want it accepted", reason)
		}
	})
}

func TestLifetimeIsRoundedUpToSeconds(t *testing.T) {
	timed(t, func(t *testing.T, m mode) {
		b := newSite(t, m, func(c *config) { c.Lifetime = 1500 * time.Millisecond }).browser()
		time.Sleep(300 * time.Millisecond)
		res := b.do(func(s *session) { s.Data.UserID = 42 })
		if !strings.Contains(res.setCookies()[0], "; Max-Age=1;") {
			t.Errorf("got %v, want the whole seconds that are left", res.setCookies())
		}
		time.Sleep(1600 * time.Millisecond)
		if _, reason := b.peek(); reason != sessions.ReasonNone {
			t.Errorf("got %q, want it alive until the full second", reason)
		}
		time.Sleep(100 * time.Millisecond)
		if _, reason := b.peek(); reason != sessions.ReasonExpired {
			t.Errorf("got %q, want it expired", reason)
		}
	})
}

func TestALengthBelowZeroEndsTheSession(t *testing.T) {
	for _, below := range []time.Duration{-1, -time.Second, -time.Hour, math.MinInt64} {
		for name, do := range map[string]func(*session){
			"of a session":              func(s *session) { s.SetLifetime(below) },
			"with a sign-in":            func(s *session) { s.RegenerateID(); s.Data.UserID = 42; s.SetLifetime(below) },
			"and changes after it":      func(s *session) { s.SetLifetime(below); s.Data.N++; s.SetLifetime(time.Hour); s.RegenerateID() },
			"by Update":                 func(s *session) { s.Update(func(*AppSession) { s.SetLifetime(below) }) },
			"in place of one before it": func(s *session) { s.SetLifetime(time.Hour); s.SetLifetime(below) },
		} {
			t.Run(fmt.Sprintf("%s, %d", name, below), func(t *testing.T) {
				timed(t, func(t *testing.T, m mode) {
					s := newSite(t, m, nil)
					b := s.browser()
					b.do(func(s *session) { s.Data.UserID = 42; s.Flash("info", "x") })
					id := idOf(b)
					res := b.do(func(s *session) {
						do(s)
						if s.Data.UserID != 0 && name == "of a session" {
							t.Errorf("got user %d at once, want the zero T", s.Data.UserID)
						}
					})
					if b.cookie() != "" || len(gone(res.setCookies(), "__Host-Http-session")) != 1 {
						t.Errorf("got %q, want the cookie expired", res.setCookies())
					}
					if s.store != nil && len(s.store.live()) > 0 {
						t.Errorf("got %d records, want none", len(s.store.live()))
					}
					wantEnd(t, s, id, sessions.ReasonExpired, "")
				})
			})
		}
	}
}

func TestASignInWhoseTokenHasEndedIsNone(t *testing.T) {
	timed(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		expiry := time.Now().Add(-time.Second) // of a token
		res := b.do(func(s *session) {
			s.RegenerateID()
			s.Data = AppSession{UserID: 42}
			s.SetLifetime(time.Until(expiry))
		})
		if len(res.Header["Set-Cookie"]) > 0 || s.store != nil && len(s.store.created) > 0 || len(s.events.all) > 0 {
			t.Errorf("got %q and the events %v, want nothing sent and nothing stored", res.Header["Set-Cookie"], s.events.all)
		}
	})
}

// Browsers keep a cookie for 400 days at most, and a session may live longer.
func TestACookieThatEndsBeforeItsSessionIsSentAnewAfterHalfOfItsTime(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name    string
		change  func(*config)
		renewed bool
	}{
		{"as a rule", nil, true},
		{"with an idle timeout of a year", func(c *config) { c.Lifetime, c.IdleTimeout = 3650*day, 365*day }, true},
		{"of the browser's session", func(c *config) { c.Lifetime, c.Cookie.BrowserSession = 3650*day, true }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t, m, tt.change)
					b := s.browser()
					b.do(func(s *session) {
						s.Data.N = 1
						if tt.renewed {
							s.SetLifetime(3650 * day)
						}
					})
					read := func(s *session) { _ = s.Data.N }
					for range 3 {
						b.do(read) // an idle timeout may send it, also in cookies
						time.Sleep(199 * day)
						if tt.change == nil {
							if lines := b.do(read).setCookies(); len(lines) != 0 {
								t.Errorf("got %q before half of it, want none", lines)
							}
						}
						time.Sleep(2 * day)
						lines := b.do(read).setCookies()
						if tt.renewed && len(lines) != 1 || !tt.renewed && len(lines) != 0 {
							t.Errorf("got %q after half of it", lines)
						}
						for _, line := range lines {
							if c, err := http.ParseSetCookie(line); err != nil || c.MaxAge != 400*24*60*60 {
								t.Errorf("got %q, want a Max-Age of 400 days", line)
							}
						}
					}
					if d, _ := b.peek(); d.N != 1 {
						t.Errorf("got N=%d after 600 days, want 1", d.N)
					}
				})
			})
		})
	}
}

// A browser that keeps to Max-Age and comes back each tenth day loses no session before
// its own end, and gets at most one cookie in 190 days.
func TestBrowsersThatComeBackKeepTheirSessions(t *testing.T) {
	const day = 24 * time.Hour
	for _, length := range []int{1, 100, 399, 400, 401, 500, 799, 801, 1300} {
		for _, idle := range []time.Duration{0, 20 * day} {
			for _, byVerb := range []bool{false, true} {
				for _, browserSession := range []bool{false, true} {
					if idle > time.Duration(length)*day || idle > 0 && byVerb {
						continue
					}
					t.Run(fmt.Sprintf("%d days, idle %v, verb %t, browser %t", length, idle, byVerb, browserSession), func(t *testing.T) {
						eachMode(t, func(t *testing.T, m mode) {
							synctest.Test(t, func(t *testing.T) {
								time.Sleep(300 * time.Millisecond)
								s := newSite(t, m, func(c *config) {
									c.Cookie.BrowserSession = browserSession
									if !byVerb {
										c.Lifetime, c.IdleTimeout = time.Duration(length)*day, idle
									}
								})
								b := s.browser()
								var drops time.Time
								sent := 0
								take := func(r *reply) {
									for _, line := range r.setCookies() {
										c, err := http.ParseSetCookie(line)
										if err != nil {
											t.Fatal(err)
										}
										sent++
										drops = time.Now().Add(time.Duration(c.MaxAge) * time.Second)
										if c.MaxAge == 0 {
											drops = time.Now().Add(10000 * day)
										}
									}
								}
								began := time.Now()
								take(b.do(func(s *session) {
									s.Data.N = 1
									if byVerb {
										s.SetLifetime(time.Duration(length) * day)
									}
								}))
								visits := []time.Duration{}
								for at := 10 * day; at < time.Duration(length)*day; at += 10 * day {
									visits = append(visits, at)
								}
								visits = append(visits, time.Duration(length)*day-2*time.Second)
								for _, at := range visits {
									time.Sleep(time.Until(began.Add(at)))
									if time.Now().After(drops) {
										t.Fatalf("the browser dropped the cookie before day %v", at/day)
									}
									for range 3 {
										take(b.serve(func(w http.ResponseWriter, r *http.Request) {
											x := sessions.Get[AppSession](r.Context())
											if x.Data.N != 1 {
												t.Fatalf("lost at day %v: %q", at/day, x.Reason())
											}
										}))
									}
								}
								most := 1 + length/190
								if idle > 0 && !m.hasStore() {
									most = 1 + len(visits)
								}
								if sent > most {
									t.Errorf("got %d cookies, want at most %d", sent, most)
								}
								time.Sleep(4 * time.Second)
								if _, reason := b.peek(); reason == sessions.ReasonNone {
									t.Error("it lives on after its end")
								}
							})
						})
					})
				}
			}
		}
	}
}

// A parallel request may give the session another end meanwhile.
func TestACookieThatIsMadeAnewHasTheNewestEnd(t *testing.T) {
	const day = 24 * time.Hour
	for _, length := range []time.Duration{day, 100 * day, 500 * day, 1000 * day} {
		for _, op := range []string{"Load", "Update"} {
			t.Run(fmt.Sprint(length, op), func(t *testing.T) {
				eachStore(t, func(t *testing.T, m mode) {
					synctest.Test(t, func(t *testing.T) {
						s := newSite(t, m, nil)
						b := s.browser()
						b.do(func(s *session) { s.Data.N = 1; s.SetLifetime(600 * day) })
						time.Sleep(201 * day)
						other := b.clone()
						var ends time.Time
						loads := 0
						s.store.hook(func(name string, _ sessions.ID) error {
							if name == "Load" {
								loads++
							}
							if name == op && (op != "Load" && loads == 1 || op == "Load" && loads == 2) {
								s.store.hook(nil, nil)
								other.do(func(s *session) { s.SetLifetime(length); ends = s.ExpiresAt() })
							}
							return nil
						}, nil)
						res := b.do(func(s *session) {
							if op == "Update" {
								s.Data.N++
							}
						})
						s.store.hook(nil, nil)
						lines := res.setCookies()
						if len(lines) != 1 {
							t.Fatalf("got %q, want a cookie", lines)
						}
						c, _ := http.ParseSetCookie(lines[0])
						want := min(int(time.Until(ends)/time.Second), 400*24*60*60)
						if c.MaxAge != want {
							t.Errorf("got Max-Age=%d, want %d", c.MaxAge, want)
						}
						for range 3 {
							if lines := b.do(func(s *session) { _ = s.Data }).setCookies(); len(lines) > 0 {
								t.Errorf("a read sends %q again", lines)
							}
						}
					})
				})
			})
		}
	}
}
