package dbsc_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A fake is a server of the draft that does whatever a test wants, to see that
// the simulated browser does what web-platform-tests claim of browsers, and what
// Chromium 156 was seen to do.
type fake struct {
	offers  []string // Secure-Session-Registration of /login
	config  string
	cookies []string
	refresh http.HandlerFunc // nil: 403 with a challenge, then 200
	page    http.HandlerFunc // what else a page sends

	mu        sync.Mutex
	refreshes int
	proofs    []string
	initiated []string // Cookie of each refresh
}

const (
	boundAttributes = "Path=/; Secure; HttpOnly; SameSite=Lax"
	plainConfig     = `{"session_identifier":"s-1","refresh_url":"/refresh","scope":{"include_site":false},"credentials":[{"type":"cookie","name":"__Host-bound","attributes":"` + boundAttributes + `"}]}`
	plainOffer      = `(ES256);path="/register";challenge="cv";authorization="ac"`
)

func newFake() *fake {
	return &fake{offers: []string{plainOffer}, config: plainConfig, cookies: []string{"__Host-bound=1; Max-Age=600; " + boundAttributes}}
}

func (f *fake) setCookies(w http.ResponseWriter) {
	for _, c := range f.cookies {
		w.Header().Add("Set-Cookie", c)
	}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/login":
		w.Header()["Secure-Session-Registration"] = f.offers
	case "/register", "/two":
		f.mu.Lock()
		f.proofs = append(f.proofs, r.Header.Get("Secure-Session-Response"))
		f.mu.Unlock()
		f.setCookies(w)
		_, _ = w.Write([]byte(strings.Replace(f.config, "s-1", map[string]string{"/register": "s-1", "/two": "s-2"}[r.URL.Path], 1)))
	case "/refresh":
		f.mu.Lock()
		f.refreshes++
		f.initiated = append(f.initiated, r.Header.Get("Cookie"))
		f.mu.Unlock()
		if f.refresh != nil {
			f.refresh(w, r)
			return
		}
		if r.Header.Get("Secure-Session-Response") == "" {
			w.Header().Set("Secure-Session-Challenge", `"rv";id="`+r.Header.Get("Sec-Secure-Session-Id")+`"`)
			w.WriteHeader(http.StatusForbidden)
			return
		}
		f.setCookies(w)
	default:
		if f.page != nil {
			f.page(w, r)
		}
		fmt.Fprintf(w, "%s|%s", r.Header.Get("Cookie"), r.Header.Get("Secure-Session-Skipped"))
	}
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refreshes
}

func TestTheSimulatedBrowser(t *testing.T) {
	const fresh = "__Host-bound=1|"
	config := func(old, new string) func(*fake) {
		return func(f *fake) { f.config = strings.Replace(f.config, old, new, 1) }
	}
	cookie := func(attributes string) func(*fake) {
		return func(f *fake) { f.cookies = []string{"bound=1; " + attributes} }
	}
	named := config("__Host-bound", "bound")
	both := func(all ...func(*fake)) func(*fake) {
		return func(f *fake) {
			for _, c := range all {
				c(f)
			}
		}
	}
	stale := func(t *testing.T, b *browser) { b.drop("bound") }
	refreshes := func(n int) func(*testing.T, *browser, *fake) {
		return func(t *testing.T, b *browser, f *fake) {
			was := f.count()
			b.get(home)
			if got := f.count() - was; got != n {
				t.Errorf("%d requests to the refresh URL, want %d; %q", got, n, b.took())
			}
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*fake)
		plain  bool // the login is over http
		check  func(t *testing.T, b *browser, f *fake)
	}{
		{name: "has the bound cookie after the login", check: func(t *testing.T, b *browser, f *fake) { expect(t, b.get(home), 200, fresh) }},
		{name: "sends no request while the cookie lasts", check: refreshes(0)},
		{name: "refreshes after the expiry", check: func(t *testing.T, b *browser, f *fake) {
			pass(10 * time.Minute)
			expect(t, b.get(home), 200, fresh)
			expectEvents(t, "browser", b.took(), "registered", "refreshed")
		}},
		{name: "does not compare Max-Age", change: config("SameSite=Lax\"", "SameSite=Lax; Max-Age=1\""), check: refreshes(0)},
		{name: "does not compare Expires", change: config("SameSite=Lax\"", "SameSite=Lax; Expires=Thu, 01 Jan 1970 00:00:00 GMT\""), check: refreshes(0)},
		{name: "compares SameSite: a mismatch refreshes before every request", change: config("SameSite=Lax", "SameSite=Strict"), check: refreshes(2)},
		{name: "compares HttpOnly", change: config("HttpOnly; ", ""), check: refreshes(2)},
		{name: "compares Secure", change: both(named, config("Secure; ", ""), cookie("Path=/; Secure; HttpOnly; SameSite=Lax")), check: refreshes(2)},
		{name: "compares Path", change: both(named, config("Path=/;", "Path=/x;"), cookie(boundAttributes)), check: refreshes(2)},
		{name: "compares Partitioned", change: both(named, cookie(boundAttributes+"; Partitioned")), check: refreshes(2)},
		{name: "takes a config without attributes", change: both(named, config(boundAttributes, ""), cookie("Path=/")), check: refreshes(0)},
		{name: "refreshes all of several credentials if one is missing",
			change: both(config(`"credentials":[`, `"credentials":[{"type":"cookie","name":"two","attributes":"Path=/"},`), func(f *fake) { f.cookies = append(f.cookies, "two=2; Path=/") }),
			check: func(t *testing.T, b *browser, f *fake) {
				b.drop("two")
				expect(t, b.get(home), 200, "__Host-bound=1; two=2|")
			}},
		{name: "registers several sessions of one header", change: func(f *fake) { f.offers = []string{plainOffer + `, (RS256 ES256);path="two";challenge="x"`} },
			check: func(t *testing.T, b *browser, f *fake) {
				expectEvents(t, "browser", b.took(), "registered", "registered")
			}},
		{name: "registers several sessions of two headers", change: func(f *fake) { f.offers = []string{plainOffer, `(ES256);path="https://app.test/two";challenge="x"`} },
			check: func(t *testing.T, b *browser, f *fake) {
				expectEvents(t, "browser", b.took(), "registered", "registered")
			}},
		{name: "registers nothing without a challenge", change: func(f *fake) { f.offers = []string{`(ES256);path="/register"`} },
			check: func(t *testing.T, b *browser, f *fake) { expectEvents(t, "browser", b.took(), "no registration") }},
		{name: "registers nothing without an algorithm that it has", change: func(f *fake) { f.offers = []string{`(none);path="/register";challenge="x"`} },
			check: func(t *testing.T, b *browser, f *fake) { expectEvents(t, "browser", b.took(), "no registration") }},
		{name: "registers nothing at another site", change: func(f *fake) { f.offers = []string{`(ES256);path="https://other.example/register";challenge="x"`} },
			check: func(t *testing.T, b *browser, f *fake) { expectEvents(t, "browser", b.took(), "no registration") }},
		{name: "registers nothing over http", plain: true,
			check: func(t *testing.T, b *browser, f *fake) { expectEvents(t, "browser", b.took()) }},
		{name: "registers nothing for a config without include_site", change: func(f *fake) { f.config = strings.Replace(plainConfig, `"include_site":false`, ``, 1) },
			check: func(t *testing.T, b *browser, f *fake) {
				expectEvents(t, "browser", b.took(), "registration: InvalidConfig")
			}},
		{name: "registers nothing with a Partitioned credential", change: config("SameSite=Lax", "SameSite=Lax; Partitioned"),
			check: func(t *testing.T, b *browser, f *fake) {
				expectEvents(t, "browser", b.took(), "registration: InvalidConfig")
			}},
		{name: "replaces the session of the same identifier", check: func(t *testing.T, b *browser, f *fake) {
			key := b.bindings[0].key
			b.get(home + "login")
			if len(b.bindings) != 1 || b.bindings[0].key == key {
				t.Error("the session is the former one")
			}
		}},
		{name: "copies the authorization", check: func(t *testing.T, b *browser, f *fake) {
			claims, _ := base64.RawURLEncoding.DecodeString(strings.Split(f.proofs[0], ".")[1])
			if string(claims) != `{"authorization":"ac","jti":"cv"}` {
				t.Errorf("got %s", claims)
			}
		}},
		{name: "is content with a refresh that asks for nothing", change: func(f *fake) { f.refresh = func(w http.ResponseWriter, _ *http.Request) { f.setCookies(w) } },
			check: func(t *testing.T, b *browser, f *fake) {
				stale(t, b)
				expect(t, b.get(home), 200, fresh)
				if f.count() != 1 {
					t.Errorf("%d requests", f.count())
				}
			}},
		{name: "goes on without a cookie if a refresh sets none", change: func(f *fake) { f.refresh = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) } },
			check: func(t *testing.T, b *browser, f *fake) {
				stale(t, b)
				expect(t, b.get(home), 200, "|")
			}},
		{name: "answers an early challenge in its first request", change: func(f *fake) {
			f.page = func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Secure-Session-Challenge"] = []string{`"early";id="s-1", "x";id="s-9"`, `"y"`}
			}
		}, check: func(t *testing.T, b *browser, f *fake) {
			b.get(home)
			stale(t, b)
			expect(t, b.get(home), 200, fresh)
			if f.count() != 1 {
				t.Errorf("%d requests", f.count())
			}
		}},
		{name: "replaces the config at a refresh", change: func(f *fake) {
			f.refresh = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Add("Set-Cookie", "next=1; Path=/")
				_, _ = w.Write([]byte(strings.NewReplacer("__Host-bound", "next", boundAttributes, "Path=/").Replace(plainConfig)))
			}
		}, check: func(t *testing.T, b *browser, f *fake) {
			stale(t, b)
			expect(t, b.get(home), 200, "next=1|")
			expect(t, b.get(home), 200, "next=1|")
			if f.count() != 1 {
				t.Errorf("%d requests", f.count())
			}
		}},
		{name: "ends the session for continue: false", change: func(f *fake) {
			f.refresh = func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(`{"session_identifier":"s-1","continue":false}`))
			}
		}, check: func(t *testing.T, b *browser, f *fake) {
			stale(t, b)
			expect(t, b.get(home), 200, "|")
			expectEvents(t, "browser", b.took(), "registered", "ended: continue: false")
		}},
		{name: "ends the session for a page of HTML", change: func(f *fake) {
			f.refresh = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`<p>Sign in`)) }
		}, check: func(t *testing.T, b *browser, f *fake) {
			stale(t, b)
			b.get(home)
			expectEvents(t, "browser", b.took(), "registered", "ended: InvalidConfig")
		}},
		{name: "ends the session for a redirect to a login page", change: func(f *fake) {
			f.refresh = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/signin", http.StatusSeeOther) }
		}, check: func(t *testing.T, b *browser, f *fake) {
			stale(t, b)
			b.get(home)
			expectEvents(t, "browser", b.took(), "registered", "ended: InvalidConfig")
		}},
		{name: "ends the session for 401", change: func(f *fake) { f.refresh = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) } },
			check: func(t *testing.T, b *browser, f *fake) {
				stale(t, b)
				b.get(home)
				expectEvents(t, "browser", b.took(), "registered", "ended: 401")
			}},
		{name: "ends the session for 429", change: func(f *fake) { f.refresh = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) } },
			check: func(t *testing.T, b *browser, f *fake) {
				stale(t, b)
				b.get(home)
				expectEvents(t, "browser", b.took(), "registered", "ended: 429")
			}},
		{name: "ends the session for 403 without a challenge, after four more tries", change: func(f *fake) { f.refresh = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) } },
			check: func(t *testing.T, b *browser, f *fake) {
				stale(t, b)
				b.get(home)
				if f.count() != 5 {
					t.Errorf("%d requests", f.count())
				}
				expectEvents(t, "browser", b.took(), "registered", "ended: TooManyChallenges")
			}},
		{name: "says server_error after 500, and tries again", change: func(f *fake) { f.refresh = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) } },
			check: func(t *testing.T, b *browser, f *fake) {
				stale(t, b)
				expect(t, b.get(home), 200, `|server_error;session_identifier="s-1"`)
				f.refresh = nil
				expect(t, b.get(home), 200, fresh)
			}},
		{name: "backs off after three errors", change: func(f *fake) { f.refresh = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) } },
			check: func(t *testing.T, b *browser, f *fake) {
				stale(t, b)
				for range 10 {
					b.get(home)
				}
				if f.count() != 3 {
					t.Errorf("%d requests", f.count())
				}
				pass(firstBackOff)
				b.get(home)
				if f.count() != 4 {
					t.Errorf("%d requests after the wait", f.count())
				}
			}},
		{name: "signs six times in nine minutes, its registration included", check: func(t *testing.T, b *browser, f *fake) {
			for i := range 7 {
				stale(t, b)
				want := fresh
				if i >= 5 {
					want = `|quota_exceeded;session_identifier="s-1"`
				}
				expect(t, b.get(home), 200, want)
			}
			pass(quotaTime)
			expect(t, b.get(home), 200, fresh)
		}},
		{name: "refreshes beside a request in the last two minutes", check: func(t *testing.T, b *browser, f *fake) {
			pass(8*time.Minute + time.Second)
			expect(t, b.get(home), 200, fresh)
			expectEvents(t, "browser", b.took(), "registered", "proactive", "refreshed")
			pass(5 * time.Minute)
			expect(t, b.get(home), 200, fresh) // that would have ended
		}},
		{name: "refreshes once for many requests", check: func(t *testing.T, b *browser, f *fake) {
			stale(t, b)
			var wait sync.WaitGroup
			for range 8 {
				wait.Go(func() { expect(t, b.send(visit{url: home, dest: "empty", from: "https://app.test"}), 200, fresh) })
			}
			wait.Wait()
			if f.count() != 2 {
				t.Errorf("%d requests", f.count())
			}
		}},
		{name: "refreshes within its origin only", check: func(t *testing.T, b *browser, f *fake) {
			stale(t, b)
			expect(t, b.visit(visit{url: "https://www.app.test/"}), 200, "|")
			expect(t, b.visit(visit{url: "https://other.example/"}), 200, "|")
			expect(t, b.visit(visit{url: "http://app.test/"}), 200, "|")
			if f.count() != 0 {
				t.Errorf("%d requests", f.count())
			}
		}},
		{name: "refreshes for all origins of a site if it is included", change: both(named, config(`"include_site":false`, `"include_site":true`), config(boundAttributes, boundAttributes+"; Domain=app.test"), cookie(boundAttributes+"; Domain=app.test")),
			check: func(t *testing.T, b *browser, f *fake) {
				stale(t, b)
				expect(t, b.visit(visit{url: "https://www.app.test/", from: "https://app.test"}), 200, "bound=1|")
			}},
		{name: "takes the last rule that matches",
			change: config(`"include_site":false`, `"include_site":false,"scope_specification":[{"type":"exclude","domain":"*","path":"/static"},{"type":"include","domain":"app.test","path":"/static/mine"}]`),
			check: func(t *testing.T, b *browser, f *fake) {
				stale(t, b)
				expect(t, b.get(home+"static"), 200, "|")
				expect(t, b.get(home+"static/x"), 200, "|")
				if f.count() != 0 {
					t.Errorf("%d requests", f.count())
				}
				expect(t, b.get(home+"statics"), 200, fresh)
				stale(t, b)
				expect(t, b.get(home+"static/mine/x"), 200, fresh)
			}},
		{name: "does not refresh for a link from another site", check: func(t *testing.T, b *browser, f *fake) {
			stale(t, b)
			expect(t, b.send(visit{url: home, from: "https://webmail.example"}), 200, "|")
			if f.count() != 0 {
				t.Errorf("%d requests", f.count())
			}
		}},
		{name: "refreshes for a link from a listed host, without the cookies of the site", change: config(`"credentials"`, `"allowed_refresh_initiators":["*.example"],"credentials"`),
			check: func(t *testing.T, b *browser, f *fake) {
				f.cookies = append(f.cookies, "lax=1; Path=/; SameSite=Lax")
				b.get(home + "login")
				stale(t, b)
				if a := b.send(visit{url: home, from: "https://webmail.example"}); !strings.Contains(a.text, "__Host-bound=1") {
					t.Errorf("got %q", a.text)
				}
				if f.initiated[0] != "" {
					t.Errorf("the refresh had the cookies %q", f.initiated[0])
				}
			}},
		{name: "does not refresh for a request without credentials", check: func(t *testing.T, b *browser, f *fake) {
			stale(t, b)
			expect(t, b.visit(visit{url: home, dest: "empty", from: "https://app.test", omit: true}), 200, "|")
			if f.count() != 0 {
				t.Errorf("%d requests", f.count())
			}
		}},
		{name: "registers nothing within a page of another site", check: func(t *testing.T, b *browser, f *fake) {
			b.bindings = nil
			b.took()
			b.visit(visit{url: home + "login", frame: true, from: "https://other.example"})
			expectEvents(t, "browser", b.took())
		}},
		{name: "takes no challenge within a page of another site", change: func(f *fake) {
			f.page = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Secure-Session-Challenge", `"early";id="s-1"`)
			}
		}, check: func(t *testing.T, b *browser, f *fake) {
			b.visit(visit{url: home, frame: true, from: "https://other.example"})
			stale(t, b)
			expect(t, b.get(home), 200, fresh)
			if f.count() != 2 {
				t.Errorf("%d requests", f.count())
			}
		}},
		{name: "ends the session for Clear-Site-Data: cookies", check: func(t *testing.T, b *browser, f *fake) {
			f.page = func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Clear-Site-Data", `"cookies"`) }
			b.get(home)
			if len(b.bindings)+len(b.jar) > 0 {
				t.Error("something is left")
			}
		}},
		{name: "ends the session for Clear-Site-Data: storage", check: func(t *testing.T, b *browser, f *fake) {
			f.page = func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Clear-Site-Data", `"cache", "storage"`) }
			b.get(home)
			if len(b.bindings) > 0 {
				t.Error("the session is left")
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				if tt.change != nil {
					tt.change(f)
				}
				b := newBrowser(t, online(t, f))
				login := home + "login"
				if tt.plain {
					login = strings.Replace(login, "https", "http", 1)
				}
				b.get(login)
				tt.check(t, b, f)
			})
		})
	}
}
