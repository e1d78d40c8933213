package dbsc_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/dbsc"
)

// beside lets another request answer while the browser's first request to the
// refresh URL is on its way, with the cookies from before.
func (s *site) beside(b *browser, path string) {
	b.on = func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/refresh") {
			b.on = nil
			b.receive(s.ask(b, "GET", home+path).Result(), parse(s.t, home), visit{})
		}
	}
}

func TestARefreshBesideARotateIDEndsNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		s.on("/confirm", (*session).RotateID)
		pass(9 * time.Minute)
		s.beside(b, "confirm")
		expect(t, b.get(home), 200, boundText) // and refreshes beside it
		if b.on != nil {
			t.Fatal("the browser has not refreshed")
		}
		pass(10 * time.Minute)
		expect(t, b.get(home), 200, boundText)
		if i := slices.IndexFunc(b.took(), func(e string) bool { return strings.HasPrefix(e, "ended") }); i >= 0 {
			t.Error("the browser has ended the session")
		}
	})
}

// In a rolling deploy a process of the former release gets sessions that it cannot
// read.
func TestARefreshAtAProcessThatCannotReadTheSessionEndsNothing(t *testing.T) {
	for name, other := range map[string]change{
		"a former schema":             func(*config, *dbsc.Options) {},
		"rules that it does not keep": func(c *config, _ *dbsc.Options) { c.Version, c.Validate = 1, func(*Account) error { return errDown } },
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, withStore bool) {
				upgrades := sessions.From(0, func(a Account) (Account, error) { return a, nil })
				s := newSite(t, withStore, func(c *config, _ *dbsc.Options) { c.Version, c.Upgrades = 1, []sessions.Upgrade{upgrades} })
				former := newSite(t, withStore, func(c *config, o *dbsc.Options) {
					if other(c, o); c.Version == 1 {
						c.Upgrades = []sessions.Upgrade{upgrades}
					}
					if withStore {
						c.Store = s.store
					}
				})
				b := s.bind()
				pass(11 * time.Minute)
				b.rt = online(t, former.handler)
				b.get(home)
				expectEvents(t, "browser", b.took(), "refresh: 503", "skipped: server_error")
				expectEvents(t, "the former release", former.told(), "refused: no session")
				b.rt = online(t, s.handler)
				expect(t, b.get(home), 200, boundText)
			})
		})
	}
}

// A browser that signs in anew, for instance as somebody else, may refresh its
// former session meanwhile, and both have one identifier there.
func TestARefreshOfAFormerSessionDoesNotEndTheOneThatRegisters(t *testing.T) {
	for name, order := range map[string]func(b *browser, refresh func() string){
		"before the registration": func(b *browser, refresh func() string) {
			refresh()
			b.run()
		},
		"after it": func(b *browser, refresh func() string) {
			b.run()
			refresh()
		},
		"after the first bound cookie": func(b *browser, refresh func() string) {
			b.run()
			b.get(home)
			refresh()
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, withStore bool) {
				s := newSite(t, withStore)
				b := s.bind()
				former := b.bindings[0]
				b.hold = true
				b.visit(visit{method: "POST", url: home + "login", from: "https://app.test", body: "user=eve", header: form})
				order(b, func() string {
					was := former.gone
					defer func() { former.gone = was }()
					former.gone = false
					kept := b.cookie("-bound")
					bound := slices.Clone(b.jar)
					b.drop("-bound")
					why := b.refresh(former, visit{})
					if b.jar = bound; b.cookie("-bound") != kept {
						t.Error("the refresh has replaced the bound cookie")
					}
					return why
				})
				b.hold = false
				b.get(home)
				pass(11 * time.Minute)
				expect(t, b.get(home), 200, "GET user=eve state=bound reason= body=")
			})
		})
	}
}

func TestARefreshOfWhatANewerProgramHasBoundEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, true)
		b := s.bind()
		s.store.rewrite = func(rec *sessions.Record) { // tag, length and phase of docs/DBSC.md
			rec.Data = bytes.Replace(rec.Data, []byte{1, 39, 3}, []byte{1, 39, 9}, 1)
		}
		pass(11 * time.Minute)
		if a := b.get(home); a.StatusCode != http.StatusServiceUnavailable || strings.Contains(a.text, "ada") {
			t.Errorf("got %d %q", a.StatusCode, a.text)
		}
		expectEvents(t, "browser", b.took(), "refresh: 503", "skipped: server_error")
		s.store.rewrite = nil
		expect(t, b.get(home), 200, boundText)
	})
}

// The gate's own notes are no reason to fail a page that is only read, as a use is
// none that a Store does not note.
func TestAPageIsServedWhereTheStoreCannotNoteAnOfferOrABinding(t *testing.T) {
	for name, start := range map[string]func(*site) *browser{
		"an offer": func(s *site) *browser {
			b := s.signIn(true)
			b.plain = true
			pass(10 * time.Minute)
			return b
		},
		"a binding": func(s *site) *browser {
			b := s.signIn(true)
			b.run()
			b.hold = false
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var failed []sessions.Event
				s := newSite(t, true, func(c *config, _ *dbsc.Options) {
					c.OnEvent = func(_ context.Context, e sessions.Event) {
						if e.Kind == sessions.EventFailed {
							failed = append(failed, e)
						}
					}
				})
				b := start(s)
				s.store.set("update")
				s.store.writes = 0
				a := b.get(home)
				if a.StatusCode != 200 || !strings.Contains(a.text, "user=ada") || a.Header.Get("Secure-Session-Registration") != "" {
					t.Errorf("got %d %q and an offer of %q", a.StatusCode, a.text, a.Header.Get("Secure-Session-Registration"))
				}
				if s.store.writes != 1 || len(failed) != 1 || !errors.Is(failed[0].Err, errDown) {
					t.Errorf("%d writes, and the events %v", s.store.writes, failed)
				}
				s.on("/cart", func(sess *session) { sess.Data.Cart = "book" })
				if a := b.get(home + "cart"); a.StatusCode != http.StatusServiceUnavailable {
					t.Errorf("an edit that is lost: got %d", a.StatusCode)
				}
				s.store.set("")
				b.plain, b.hold = false, false
				b.get(home)
				expect(t, b.get(home), 200, boundText)
			})
		})
	}
}

func TestAPageAfterItsDeadlineIsServedWhateverTheGateNotes(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.signIn(true)
		b.plain = true
		pass(10 * time.Minute)
		s.handle("/slow", func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			_, _ = w.Write([]byte(sessionOf(r).Data.User))
		})
		within := s.handler
		b.rt = online(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), time.Second)
			defer cancel()
			within.ServeHTTP(w, r.WithContext(ctx))
		}))
		expect(t, b.get(home+"slow"), 200, "ada")
	})
}

// docs/DBSC.md says how to do without the Middleware for a while.
func TestTheMiddlewareIsTakenOutAndPutBack(t *testing.T) {
	for name, tt := range map[string]struct {
		status  int
		browser []string
		after   int
	}{
		"503 at its addresses keeps the sessions": {503, []string{"refresh: 503", "skipped: server_error"}, 200},
		"404 ends them in the browser":            {404, []string{"ended: 404"}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, withStore bool) {
				s := newSite(t, withStore)
				b := s.bind()
				mgr, err := sessions.New(config{Keys: s.keys, Store: s.storeOrNil()})
				if err != nil {
					t.Fatal(err)
				}
				without := http.NewServeMux()
				without.HandleFunc("/dbsc/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(tt.status) })
				without.Handle("/", mgr.Middleware(http.HandlerFunc(s.serve)))
				pass(11 * time.Minute)
				b.rt = online(t, without)
				expect(t, b.get(home), 200, "GET user=ada state=none reason= body=")
				s.on("/rotate", func(sess *session) { sess.RotateID(); sess.Data.Cart = "book" })
				pass(time.Minute)
				b.get(home + "rotate")
				if got := b.took(); !slices.Equal(got[:len(tt.browser)], tt.browser) {
					t.Errorf("the browser: %q", got)
				}
				b.rt = online(t, s.handler)
				pass(10 * time.Minute)
				if a := b.get(home); a.StatusCode != tt.after {
					t.Errorf("got %d %q", a.StatusCode, a.text)
				}
			})
		})
	}
}

func TestOtherOptionsThanThoseOfTheRegistration(t *testing.T) {
	for name, next := range map[string]change{
		"another Path":   func(_ *config, o *dbsc.Options) { o.Path = "/devices/" },
		"another Origin": func(_ *config, o *dbsc.Options) { o.Origin = "https://www.app.test" },
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, withStore bool) {
				s := newSite(t, withStore)
				b := s.bind()
				after := newSite(t, withStore, next, func(c *config, _ *dbsc.Options) { c.Store = s.storeOrNil() })
				pass(11 * time.Minute)
				b.rt = online(t, after.handler)
				if a := b.get(home); a.StatusCode != http.StatusForbidden {
					t.Errorf("got %d %q", a.StatusCode, a.text)
				}
				b.visit(visit{method: "POST", url: home + "login", from: "https://app.test", body: "user=ada", header: form})
				pass(11 * time.Minute)
				expect(t, b.get(home), 200, boundText)
			})
		})
	}
}

// A browser that thinks that its bound cookie is good does not refresh. The answer
// to the first request takes the cookie away.
func TestABoundCookieThatIsNotGoodIsTakenAway(t *testing.T) {
	for name, spoil := range map[string]func(*site, *browser){
		"the clock of the browser was set back": func(_ *site, b *browser) {
			for _, c := range b.jar {
				c.ends = c.ends.Add(time.Hour)
			}
			pass(11 * time.Minute)
		},
		"the secret of the cookie was removed": func(s *site, b *browser) {
			next := []byte("fedcba9876543210fedcba9876543210")
			if err := s.keys.Replace(next, secret); err != nil {
				t.Fatal(err)
			}
			b.get(home) // the cookie of the session is made anew
			if err := s.keys.Replace(next); err != nil {
				t.Fatal(err)
			}
		},
		"it is that of another device": func(s *site, b *browser) {
			other := s.bind()
			other.drop("Http-session")
			b.drop("-bound")
			other.copyTo(b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, withStore bool) {
				s := newSite(t, withStore)
				b := s.bind()
				spoil(s, b)
				expect(t, b.visit(visit{url: home, dest: "empty", from: "https://app.test"}), 403, "")
				expect(t, b.visit(visit{url: home, dest: "empty", from: "https://app.test"}), 200, boundText)

				b = s.bind()
				spoil(s, b)
				expect(t, b.visit(visit{url: home, from: "https://webmail.example"}), 200, boundText)
			})
		})
	}
}
