package dbsc_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/dbsc"
)

// staleBrowser makes a browser whose session is bound, and which has lost its key and
// its bound cookie.
func (s *site) staleBrowser() *browser {
	b := s.bind()
	b.drop("-bound")
	b.bindings = nil
	return b
}

func TestABindingOutlivesWhatApplicationsDo(t *testing.T) {
	for name, do := range map[string]func(*session){
		"RotateID":                func(sess *session) { sess.RotateID() },
		"SetLifetime":             func(sess *session) { sess.SetLifetime(time.Hour) },
		"Flash":                   func(sess *session) { sess.Flash("info", "hello") },
		"Update":                  func(sess *session) { sess.Update(func(a *Account) { a.Count++ }) },
		"an edit":                 func(sess *session) { sess.Data.Cart = "book" },
		"the zero value":          func(sess *session) { sess.Data = Account{} },
		"Save":                    func(sess *session) { sess.Data.Count++; _ = sess.Save(context.Background()) },
		"a second Offer":          func(*session) {},
		"RotateID and a conflict": func(sess *session) { sess.RotateID(); sess.Update(func(a *Account) { a.Count++ }) },
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, withStore bool) {
				for _, encrypt := range []bool{false, true} {
					s := newSite(t, withStore, func(c *config, _ *dbsc.Options) { c.Encrypt = encrypt })
					b := s.bind()
					s.handle("/do", func(_ http.ResponseWriter, r *http.Request) {
						if name == "a second Offer" {
							dbsc.Offer(r.Context())
						}
						do(sessionOf(r))
					})
					if a := b.get(home + "do"); a.StatusCode != 200 || a.Header.Get("Secure-Session-Registration") != "" {
						t.Fatalf("got %d and an offer of %q", a.StatusCode, a.Header.Get("Secure-Session-Registration"))
					}
					for range 2 {
						pass(11 * time.Minute)
						if a := b.get(home); a.StatusCode != 200 || !strings.Contains(a.text, "state=bound") {
							t.Errorf("encrypted %v: got %d %q", encrypt, a.StatusCode, a.text)
						}
					}
					b.bindings = nil
					b.drop("-bound")
					if a := b.get(home); a.StatusCode != http.StatusForbidden {
						t.Errorf("encrypted %v: without the device: got %d %q", encrypt, a.StatusCode, a.text)
					}
				}
			})
		})
	}
}

func TestABindingOutlivesTheManagersVerbs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mgr *sessions.Manager[Account]
		s := newSite(t, true)
		s.manager = func(m *sessions.Manager[Account]) { mgr = m }
		s.handler, s.devices = s.build(config{Keys: s.keys, Store: s.store}, dbsc.Options{})
		b := s.bind()
		var id string
		s.handle("/id", func(_ http.ResponseWriter, r *http.Request) { id = sessionOf(r).ID() })
		b.get(home + "id")
		if err := mgr.Edit(t.Context(), id, func(a *Account) { a.Cart = "book" }); err != nil {
			t.Fatal(err)
		}
		if info, err := mgr.Find(t.Context(), id); err != nil || info.Data.Cart != "book" {
			t.Errorf("got %v, %v", info.Data, err)
		}
		pass(11 * time.Minute)
		expect(t, b.get(home), 200, boundText)
		b.bindings = nil
		b.drop("-bound")
		if a := b.get(home); a.StatusCode != http.StatusForbidden {
			t.Errorf("without the device: got %d %q", a.StatusCode, a.text)
		}
		if err := mgr.Revoke(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		expect(t, b.get(home), 200, "GET user= state=none reason=unknown body=")
	})
}

// Whatever the handler of an excluded path does to a session that is withheld, the
// session stays as it is.
func TestNothingReachesAWithheldSession(t *testing.T) {
	for name, do := range map[string]func(*testing.T, *session){
		"edits":       func(_ *testing.T, sess *session) { sess.Data.Cart = "book" },
		"Flash":       func(_ *testing.T, sess *session) { sess.Flash("info", "hello") },
		"RotateID":    func(_ *testing.T, sess *session) { sess.RotateID() },
		"SetLifetime": func(_ *testing.T, sess *session) { sess.SetLifetime(time.Minute) },
		"Update": func(_ *testing.T, sess *session) {
			sess.Update(func(a *Account) { a.Count = 9 })
		},
		"Save": func(_ *testing.T, sess *session) {
			sess.Data.Count = 9
			_ = sess.Save(context.Background())
		},
		"Reload": func(t *testing.T, sess *session) {
			if err := sess.Reload(context.Background()); err != nil || sess.Data != (Account{}) {
				t.Errorf("Reload shows %v, %v", sess.Data, err)
			}
		},
		"Flashes": func(t *testing.T, sess *session) {
			if got := sess.Flashes(); got != nil {
				t.Errorf("Flashes shows %v", got)
			}
		},
		"Watch": func(t *testing.T, sess *session) {
			ctx, cancel := sess.Watch(context.Background())
			defer cancel()
			if ctx.Err() != nil {
				t.Error("it has ended")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, withStore bool) {
				s := newSite(t, withStore)
				b := s.bind()
				s.on("/leave", func(sess *session) {
					sess.Flash("info", "waiting")
					sess.Data.Cart, sess.Data.Count = "pen", 1
				})
				b.get(home + "leave")
				binding := b.bindings
				b.bindings = nil
				b.drop("-bound")
				was := b.cookie("session")
				s.handle("/static/x", func(w http.ResponseWriter, r *http.Request) {
					sess := sessionOf(r)
					if got := dbsc.StateOf(r.Context()); sess.Reason() != dbsc.ReasonStale || got != dbsc.None {
						t.Errorf("got %v, %v", sess.Reason(), got)
					}
					do(t, sess)
				})
				if withStore {
					s.store.writes, s.store.touch = 0, 0
				}
				a := b.get(home + "static/x")
				if c := a.Header["Set-Cookie"]; a.StatusCode != 200 || c != nil {
					t.Errorf("got %d %v", a.StatusCode, c)
				}
				if withStore && s.store.writes+s.store.touch > 0 {
					t.Errorf("%d writes and %d touches", s.store.writes, s.store.touch)
				}
				// The owner, with the device.
				b.bindings = binding
				for _, c := range b.jar {
					if strings.HasSuffix(c.Name, "session") && c.Value != was {
						t.Error("the cookie is another")
					}
				}
				var flashes []sessions.Flash
				var data Account
				s.on("/see", func(sess *session) { flashes, data = sess.Flashes(), sess.Data })
				b.get(home + "see")
				if len(flashes) != 1 || data != (Account{"ada", 1, "pen"}) {
					t.Errorf("the session has %v and %v", data, flashes)
				}
			})
		})
	}
}

func TestALoginHealsWithinTheLimitOfAnOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, true, func(c *config, _ *dbsc.Options) {
			c.Store = new(sessions.MemoryStore)
			c.Owner = func(a *Account) string { return a.User }
			c.MaxPerOwner = 1
		})
		b := s.staleBrowser()
		thief := newBrowser(t, b.rt)
		thief.plain = true
		b.copyTo(thief)
		b.visit(visit{method: "POST", url: home + "login", from: "https://app.test", body: "user=ada", header: form})
		expect(t, b.get(home), 200, boundText)
		expect(t, thief.get(home), 200, "GET user= state=none reason=unknown body=") // of the session that was withheld
	})
}

func TestOffers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		do     func(http.ResponseWriter, *http.Request)
		offers int
	}{
		{"twice", func(_ http.ResponseWriter, r *http.Request) { dbsc.Offer(r.Context()); dbsc.Offer(r.Context()) }, 1},
		{"before RegenerateID", func(_ http.ResponseWriter, r *http.Request) { dbsc.Offer(r.Context()); sessionOf(r).RegenerateID() }, 1},
		{"before RotateID", func(_ http.ResponseWriter, r *http.Request) { dbsc.Offer(r.Context()); sessionOf(r).RotateID() }, 1},
		{"and Save", func(_ http.ResponseWriter, r *http.Request) {
			dbsc.Offer(r.Context())
			_ = sessionOf(r).Save(r.Context())
		}, 1},
		{"before Destroy", func(_ http.ResponseWriter, r *http.Request) { dbsc.Offer(r.Context()); sessionOf(r).Destroy() }, 0},
		{"after Destroy", func(_ http.ResponseWriter, r *http.Request) { sessionOf(r).Destroy(); dbsc.Offer(r.Context()) }, 0},
		{"before Reset", func(_ http.ResponseWriter, r *http.Request) { dbsc.Offer(r.Context()); sessionOf(r).Reset() }, 0},
		{"before Reset and a new beginning", func(_ http.ResponseWriter, r *http.Request) {
			dbsc.Offer(r.Context())
			sessionOf(r).Reset()
			sessionOf(r).Data.User = "ada"
		}, 0},
		{"after Reset", func(_ http.ResponseWriter, r *http.Request) {
			sessionOf(r).Reset()
			sessionOf(r).Data.User = "ada"
			dbsc.Offer(r.Context())
		}, 1},
		{"and Flush", func(w http.ResponseWriter, r *http.Request) {
			dbsc.Offer(r.Context())
			w.(http.Flusher).Flush()
			_, _ = w.Write([]byte("x"))
		}, 1},
		{"after Flush", func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			dbsc.Offer(r.Context())
		}, 0},
		{"with another status", func(w http.ResponseWriter, r *http.Request) { dbsc.Offer(r.Context()); w.WriteHeader(404) }, 1},
		{"and a panic", func(_ http.ResponseWriter, r *http.Request) { dbsc.Offer(r.Context()); panic(http.ErrAbortHandler) }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, withStore bool) {
				s := newSite(t, withStore)
				b := newBrowser(t, online(t, s.handler))
				s.on("/begin", func(sess *session) { sess.Data.User = "ada" })
				b.get(home + "begin")
				s.handle("/do", tt.do)
				var w *httptest.ResponseRecorder
				func() {
					defer func() { _ = recover() }()
					w = s.ask(b, "GET", home+"do", navigation("none")...)
				}()
				if w == nil {
					w = httptest.NewRecorder()
				}
				if got := w.Header()["Secure-Session-Registration"]; len(got) != tt.offers {
					t.Fatalf("got the offers %q", got)
				}
				b.receive(w.Result(), parse(t, home+"do"), visit{})
				b.run()
				if tt.offers == 0 {
					return
				}
				for range 2 {
					if a := b.get(home); a.StatusCode != 200 || !strings.Contains(a.text, "user=ada state=bound") {
						t.Errorf("got %d %q; the browser %q", a.StatusCode, a.text, b.took())
					}
					pass(11 * time.Minute)
				}
			})
		})
	}
}

// The gate asks when a request begins.
func TestALongRequestOutlivesItsBoundCookie(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		s.handle("/upload", func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			if state := dbsc.StateOf(r.Context()); err != nil || state != dbsc.Bound {
				t.Errorf("after %d bytes: got %v, %v", n, state, err)
			}
			sessionOf(r).Data.Count = int(n)
		})
		body, in := io.Pipe()
		go func() {
			for range 4 {
				time.Sleep(5 * time.Minute)
				_, _ = in.Write(make([]byte, 1000))
			}
			_ = in.Close()
		}()
		r, err := http.NewRequest("POST", home+"upload", body)
		if err != nil {
			t.Fatal(err)
		}
		b.addCookies(r, parse(t, home), visit{})
		resp, err := b.rt.RoundTrip(r)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("got %v, %v", resp, err)
		}
		b.receive(resp, r.URL, visit{})
		_ = resp.Body.Close()
		var count int
		s.on("/see", func(sess *session) { count = sess.Data.Count })
		b.get(home + "see")
		if count != 4000 {
			t.Errorf("got %d", count)
		}
	})
}

func TestAStreamThatBeganWithAGoodPairGoesOnAndEndsWithTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, true)
		b := s.bind()
		ended := make(chan error, 1)
		s.handle("/events", func(w http.ResponseWriter, r *http.Request) {
			ctx, stop := sessionOf(r).Watch(r.Context())
			defer stop()
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			<-ctx.Done()
			ended <- context.Cause(ctx)
		})
		go s.ask(b, "GET", home+"events", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Sec-Fetch-Site: same-origin")
		pass(30 * time.Minute)
		select {
		case err := <-ended:
			t.Fatalf("the stream has ended: %v", err)
		default:
		}
		b.visit(visit{method: "POST", url: home + "logout", from: "https://app.test"})
		if err := <-ended; err == nil {
			t.Error("the stream ended without a cause")
		}
	})
}

func TestATimeoutHandlerAroundLosesNoSession(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.signIn(true)
		b.run()
		b.hold = false
		within := s.handler
		b.rt = online(t, http.TimeoutHandler(within, time.Second, ""))
		s.handle("/slow", func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(2 * time.Second)
			_, _ = w.Write([]byte("late"))
		})
		for range 2 { // of which the first is the first with a good bound cookie
			if a := b.get(home + "slow"); a.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("got %d %q", a.StatusCode, a.text)
			}
			pass(time.Minute)
		}
		expect(t, b.get(home), 200, boundText)
		pass(11 * time.Minute)
		expect(t, b.get(home), 200, boundText)
	})
}

// What the path of a request looks like decides which answer a stale request gets,
// and never whether it is shown the session.
func TestNoSpellingOfAPathShowsAStaleSession(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore, func(_ *config, o *dbsc.Options) { o.Login = []string{"/login", "/auth/"} })
		b := s.staleBrowser()
		for _, path := range []string{
			"/", "//", "/page", "//page", "/login", "//login", "/login/", "/LOGIN", "/login/../page", "/login%2f..%2fpage", "/login;x", "/login%00", "/loginx",
			"/auth", "/auth/", "/auth/x", "/auth/../page", "/auth/%2e%2e/page", "/static", "/static/../page", "/static%2fx", "/Static/x", "/staticx",
			"/dbsc/", "/dbsc/register/", "//dbsc/refresh", "/dbsc/./refresh", "/dbsc/REFRESH", "/dbsc%2frefresh",
		} {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} {
				w := s.ask(b, method, "https://app.test"+path, navigation("none")...)
				if strings.Contains(w.Body.String(), "ada") || w.Header().Get("Set-Cookie") != "" {
					t.Errorf("%s %s: got %d %q %v", method, path, w.Code, w.Body, w.Header())
				}
			}
		}
	})
}

func TestTheTwoAddressesTakePOSTAlone(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		for _, path := range []string{"dbsc/register", "dbsc/refresh"} {
			for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post"} {
				w := s.ask(b, method, home+path)
				if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST" || w.Body.Len() > 0 || w.Header().Get("Set-Cookie") != "" {
					t.Errorf("%s %s: got %d %v", method, path, w.Code, w.Header())
				}
			}
		}
		expect(t, b.get(home), 200, boundText)
	})
}

func TestHugeHeadersAreRefusedAndReadOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.staleBrowser()
		huge := strings.Repeat(`unreachable;session_identifier="x", `, 30_000)
		for _, header := range []string{"Secure-Session-Skipped: " + huge, "Sec-Fetch-Site: " + huge, "Accept: " + huge, "Cookie: " + strings.Repeat("__Host-session-bound=x; ", 40_000)} {
			if w := s.ask(b, "GET", home, header); w.Code != http.StatusForbidden || w.Body.Len() > 0 {
				t.Errorf("%.30s: got %d", header, w.Code)
			}
		}
		for _, header := range []string{"Sec-Secure-Session-Id: " + huge, "Secure-Session-Response: " + huge} {
			for _, path := range []string{"dbsc/register", "dbsc/refresh"} {
				if w := s.ask(b, "POST", home+path, header); w.Code != http.StatusBadRequest {
					t.Errorf("%.30s: got %d", header, w.Code)
				}
			}
		}
	})
}

func TestABoundCookieIsFoundAmongMany(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		session, bound := "__Host-Http-session="+b.cookie("Http-session"), "__Host-session-bound="+b.cookie("-bound")
		other := s.bind()
		theirs := "__Host-session-bound=" + other.cookie("-bound")
		fifteen := slices.Repeat([]string{theirs}, 15)
		for name, tt := range map[string]struct {
			lines  []string
			status int
		}{
			"one line":                         {[]string{session + "; " + bound}, 200},
			"a line each, as HTTP/2 has them":  {[]string{bound, "a=b", session}, 200},
			"without blanks":                   {[]string{session + ";" + bound}, 200},
			"behind fifteen of another device": {append(fifteen, bound, session), 200},
			"behind junk":                      {[]string{";;;=; =x; __Host-session-bound", session, bound}, 200},
			"in quotes":                        {[]string{session, strings.Replace(bound, "=", `="`, 1) + `"`}, 403},
			"under a longer name":              {[]string{session, "x" + bound}, 403},
			"in another case":                  {[]string{session, strings.ToLower(bound[:20]) + bound[20:]}, 403},
			"of another device":                {[]string{session, theirs}, 403},
		} {
			r := httptest.NewRequest("GET", home, nil)
			r.Header["Cookie"] = tt.lines
			w := httptest.NewRecorder()
			s.handler.ServeHTTP(w, r)
			if w.Code != tt.status {
				t.Errorf("%s: got %d, want %d", name, w.Code, tt.status)
			}
		}
	})
}

func TestAMiddlewareTwiceAroundAHandlerIsOne(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		mgr, err := sessions.New(config{Keys: s.keys, Store: s.storeOrNil()})
		if err != nil {
			t.Fatal(err)
		}
		devices, err := dbsc.New(mgr, dbsc.Options{Login: []string{"/login"}})
		if err != nil {
			t.Fatal(err)
		}
		s.handler = mgr.Middleware(devices.Middleware(devices.Middleware(http.HandlerFunc(s.serve))))
		b := s.bind()
		pass(11 * time.Minute)
		expect(t, b.get(home), 200, boundText)
		b.bindings = nil
		b.drop("-bound")
		if a := b.get(home); a.StatusCode != 403 {
			t.Errorf("got %d", a.StatusCode)
		}
		expect(t, b.get(home+"login"), 200, "GET user= state=none reason=stale body=")
	})
}

func TestHowAHostIsSpelledMakesNoOtherSession(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		id := "Sec-Secure-Session-Id: " + b.bindings[0].id
		for url, status := range map[string]int{
			home: 403, "https://APP.test/": 403, "https://app.test:443/": 403,
			"https://app.test:8443/": 200, "https://www.app.test/": 200, // where it is none
		} {
			if w := s.ask(b, "POST", url+"dbsc/refresh", id); w.Code != status {
				t.Errorf("%s: got %d, want %d", url, w.Code, status)
			}
		}
		same := newSite(t, withStore, func(_ *config, o *dbsc.Options) { o.Origin = "https://APP.test" }).bind()
		if got := same.bindings[0].id; got != b.bindings[0].id {
			t.Errorf("Options.Origin in capitals: got %s", got)
		}
	})
}

func TestOptionsAreCopied(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		login, exclude := []string{"/static/login"}, []string{"/static"}
		s := newSite(t, withStore, func(_ *config, o *dbsc.Options) { o.Login, o.Exclude = login, exclude })
		login[0], exclude[0] = "/page", "/page"
		b := s.staleBrowser()
		if a := b.get(home + "page"); a.StatusCode != http.StatusForbidden {
			t.Errorf("got %d %q", a.StatusCode, a.text)
		}
		// A path that is in both is one of Login: what begins there is stored.
		s.on("/static/login", func(sess *session) { sess.Data.Cart = "state of the identity provider" })
		if a := b.get(home + "static/login"); len(a.Header["Set-Cookie"]) != 1 {
			t.Errorf("got %d %v", a.StatusCode, a.Header)
		}
	})
}

func TestAnOfferOfAHijackedResponseStandsInItsHeader(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := newBrowser(t, online(t, s.handler))
		s.on("/begin", func(sess *session) { sess.Data.User = "ada" })
		b.get(home + "begin")
		s.handle("/socket", func(w http.ResponseWriter, r *http.Request) {
			dbsc.Offer(r.Context())
			conn, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = rw.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n")
			_ = w.Header().Write(rw)
			_, _ = rw.WriteString("\r\n")
			_ = rw.Flush()
		})
		b.get(home + "socket")
		expectEvents(t, "browser", b.took(), "registered")
		expect(t, b.get(home), 200, boundText)
	})
}

// A request that has a cookie of ours imports nothing, whatever else it brings.
func TestAStaleRequestImportsNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore, func(c *config, _ *dbsc.Options) {
			c.Import = func(*http.Request) (Account, bool) { return Account{User: "ada"}, true }
			c.ImportCookies = []http.Cookie{{Name: "former", Path: "/"}}
		})
		b := s.staleBrowser()
		b.jar = append(b.jar, &kept{Cookie: http.Cookie{Name: "former", Value: "x", Path: "/"}, host: "app.test"})
		for _, path := range []string{"login", "static/x"} {
			expect(t, b.get(home+path), 200, "GET user= state=none reason=stale body=")
		}
		if a := b.get(home); a.StatusCode != http.StatusForbidden || strings.Contains(a.text, "ada") {
			t.Errorf("got %d %q", a.StatusCode, a.text)
		}
	})
}
