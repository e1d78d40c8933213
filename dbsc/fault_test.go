package dbsc_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/dbsc"
)

const boundText = "GET user=ada state=bound reason= body="

func TestTheAnswerOfARegistrationIsLost(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.signIn(true)
		b.lose = func(r *http.Request) bool { return r.URL.Path == "/dbsc/register" }
		b.run()
		expectEvents(t, "browser", b.took(), "registration: the answer was lost")
		b.lose, b.hold = nil, false
		expect(t, b.get(home), 200, "GET user=ada state=offered reason= body=") // nobody is locked out
		pass(10 * time.Minute)
		b.get(home) // asks again
		expectEvents(t, "browser", b.took(), "registered")
		expect(t, b.get(home), 200, boundText)
	})
}

func TestTheAnswerOfARefreshIsLost(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		pass(11 * time.Minute)
		b.lose = func(r *http.Request) bool { return r.Header.Get("Secure-Session-Response") != "" }
		if a := b.get(home); a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("got %d %q", a.StatusCode, a.text)
		}
		expectEvents(t, "browser", b.took(), "refresh: unreachable", "skipped: unreachable")
		b.lose = nil
		expect(t, b.get(home), 200, boundText) // by the same proof again
		expectEvents(t, "browser", b.took(), "refreshed")
	})
}

// A race is what another request does to the session while a registration is in
// flight: after the browser got the offer, before its key arrives.
func TestARegistrationBesideAnotherRequest(t *testing.T) {
	for _, tt := range []struct {
		name    string
		other   func(*session)
		offered bool // the browser can bind the session without another login
	}{
		{"a page that reads", func(*session) {}, true},
		{"a page that edits", func(s *session) { s.Data.Cart = "book" }, true},
		{"Update", func(s *session) { s.Update(func(a *Account) { a.Count++ }) }, true},
		{"RotateID", (*session).RotateID, true},
		{"RegenerateID", (*session).RegenerateID, false},
		{"Reset", (*session).Reset, false},
		{"Destroy", (*session).Destroy, false},
	} {
		for _, order := range []string{"before it", "while it is stored", "after it"} {
			t.Run(tt.name+" "+order, func(t *testing.T) {
				eachMode(t, func(t *testing.T, withStore bool) {
					if order == "while it is stored" && !withStore {
						return
					}
					s := newSite(t, withStore)
					b := s.signIn(true)
					s.on("/other", tt.other)
					other := func() { b.get(home + "other") }
					switch order {
					case "before it":
						other()
						b.run()
					case "after it":
						b.run()
						other()
					default:
						once := false
						s.store.before = func(op string) {
							if op == "update" && !once {
								once = true
								s.store.before = nil
								other()
							}
						}
						b.run()
					}
					b.hold = false
					ended := tt.name == "Reset" || tt.name == "Destroy"
					for range 2 {
						a := b.get(home)
						if ended && strings.Contains(a.text, "ada") && withStore {
							t.Errorf("the session is back: %s", a.text)
						}
						if !ended && (a.StatusCode != 200 || !strings.Contains(a.text, "user=ada")) {
							t.Errorf("the user is locked out: %d %s", a.StatusCode, a.text)
						}
					}
					pass(10 * time.Minute)
					b.get(home)
					a := b.get(home)
					if want := map[bool]string{true: boundText, false: "GET user=ada state=none reason= body="}[tt.offered]; !ended && a.text != want {
						t.Errorf("in the end: got %q, want %q; %q", a.text, want, b.took())
					}
					if s.store == nil {
						return // the response that arrives last wins
					}
					want := map[string]Account{"a page that edits": {Cart: "book"}, "Update": {Count: 1}}[tt.name]
					s.on("/other", func(sess *session) {
						if got := (Account{Cart: sess.Data.Cart, Count: sess.Data.Count}); got != want {
							t.Errorf("got the edits %+v, want %+v", got, want)
						}
					})
					b.get(home + "other")
				})
			})
		}
	}
}

func TestTwoTabsRegisterAndRefreshAtOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.signIn(true)
		pass(10 * time.Minute)
		b.get(home) // a second offer, before the first was answered: both register
		b.hold = false
		b.run()
		for i := 0; i < 3; i++ {
			if a := b.get(home); a.StatusCode != 200 {
				t.Fatalf("got %d %q", a.StatusCode, a.text)
			}
		}
		expect(t, b.get(home), 200, boundText)
		pass(11 * time.Minute)
		b.took()
		s.told()
		answers := make([]*answer, 8)
		var wait sync.WaitGroup
		for i := range answers {
			wait.Go(func() { answers[i] = b.send(visit{url: home + fmt.Sprint(i), dest: "empty", from: "https://app.test"}) })
		}
		wait.Wait()
		for _, a := range answers {
			expect(t, a, 200, boundText)
		}
		expectEvents(t, "browser", b.took(), "refreshed")
		expectEvents(t, "site", s.told(), "refreshed")
	})
}

func TestTheStoreIsDownAtARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, true)
		b := s.bind()
		pass(11 * time.Minute)
		s.store.set("all")
		for range 5 {
			if a := b.get(home); a.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("got %d %q", a.StatusCode, a.text)
			}
			pass(time.Second)
		}
		if len(b.bindings) != 1 {
			t.Fatalf("the browser has ended the session: %q", b.took())
		}
		s.store.set("")
		pass(10 * time.Minute)
		expect(t, b.get(home), 200, boundText)
	})
}

func TestTheStoreIsDownAtARegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, true)
		b := s.signIn(true)
		s.store.set("update")
		b.run()
		expectEvents(t, "browser", b.took(), "registration: 503")
		expectEvents(t, "site", s.told(), "refused: store")
		s.store.set("")
		expect(t, b.get(home), 200, "GET user=ada state=offered reason= body=")
	})
}

func TestARefreshIsNoUse(t *testing.T) {
	for _, withStore := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, withStore, func(c *config, _ *dbsc.Options) { c.IdleTimeout = time.Hour })
			b := s.bind()
			began := b.cookie("session")
			for range 5 { // of ten minutes each
				pass(10 * time.Minute)
				if withStore {
					s.store.touch, s.store.writes = 0, 0
				}
				if why := b.refresh(b.bindings[0], visit{}); why != "" || b.cookie("-bound") == "" {
					t.Fatalf("no refresh: %s", why)
				}
				if withStore && s.store.touch+s.store.writes > 0 {
					t.Errorf("a refresh touched the session %d times and wrote it %d times", s.store.touch, s.store.writes)
				}
			}
			if b.cookie("session") != began {
				t.Error("a refresh has re-issued the cookie")
			}
			pass(15 * time.Minute)
			if a := b.get(home); !strings.Contains(a.text, "user= ") {
				t.Errorf("the session was idle for 65 minutes and lives: %s", a.text)
			}
		})
	}
}

func TestARefreshOfAnotherIdentifierEndsThatOne(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		for header, want := range map[string]string{
			"Sec-Secure-Session-Id: former":   `{"session_identifier":"former","continue":false}`,
			`Sec-Secure-Session-Id: "former"`: `{"session_identifier":"former","continue":false}`,
			`Sec-Secure-Session-Id: a"b`:      "",
		} {
			w := s.ask(b, "POST", home+"dbsc/refresh", header)
			if got := w.Body.String(); got != want || (w.Code == 200) != (want != "") {
				t.Errorf("%s: got %d %s", header, w.Code, got)
			}
		}
		// As one without a session.
		nobody := newBrowser(t, nil)
		id := b.bindings[0].id
		if w := s.ask(nobody, "POST", home+"dbsc/refresh", "Sec-Secure-Session-Id: "+id); w.Body.String() != `{"session_identifier":"`+id+`","continue":false}` {
			t.Errorf("without a session: got %d %s", w.Code, w.Body)
		}
		expect(t, b.get(home), 200, boundText)
	})
}

// What a handler between the two Middlewares has done to a session that is then
// withheld is not stored.
func TestAStaleRequestStoresNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		keys, err := sessions.NewKeyring(secret)
		if err != nil {
			t.Fatal(err)
		}
		cfg := config{Keys: keys}
		if withStore {
			cfg.Store = s.store
		}
		mgr, err := sessions.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		devices, err := dbsc.New(mgr, dbsc.Options{Login: []string{"/login"}})
		if err != nil {
			t.Fatal(err)
		}
		b := s.bind()
		b.drop("-bound")
		s.handler = mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sess := sessionOf(r)
			sess.Flash("info", "hello")
			sess.Data.Count++
			devices.Middleware(http.HandlerFunc(s.serve)).ServeHTTP(w, r)
		}))
		for _, path := range []string{"page", "login"} {
			w := s.ask(b, "GET", home+path, navigation("none")...)
			if cookies := w.Header()["Set-Cookie"]; cookies != nil || strings.Contains(w.Body.String(), "ada") {
				t.Errorf("%s: got %v, %s", path, cookies, w.Body)
			}
		}
	})
}

func TestAStaleRequestIsNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, true, func(c *config, _ *dbsc.Options) { c.IdleTimeout = time.Hour })
		b := s.bind()
		thief := newBrowser(t, b.rt)
		thief.plain = true
		b.copyTo(thief)
		thief.drop("-bound")
		for range 3 {
			pass(20 * time.Minute)
			s.store.touch = 0
			thief.get(home)
			thief.get(home + "login")
			thief.get(home + "static/x")
			if s.store.touch > 0 {
				t.Error("a thief keeps the session from becoming idle")
			}
		}
	})
}

func TestTheKeyRingIsRotated(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		next := bytes.Repeat([]byte("fedcba98"), 4)
		b := s.signIn(true)
		if err := s.keys.Replace(next, secret); err != nil {
			t.Fatal(err)
		}
		b.run() // answers a challenge of the old secret
		expectEvents(t, "browser", b.took(), "registered")
		expect(t, b.get(home), 200, boundText)
		pass(11 * time.Minute)
		b.on = func(r *http.Request) {
			if r.Header.Get("Secure-Session-Response") != "" { // between the challenge and its answer
				b.on = nil
				if err := s.keys.Replace(next, bytes.Repeat([]byte("01234567"), 4), secret); err != nil {
					t.Fatal(err)
				}
			}
		}
		expect(t, b.get(home), 200, boundText)
		expectEvents(t, "browser", b.took(), "refreshed")
	})
}

func TestAChallengeOfARemovedSecretIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, true)
		b := s.bind()
		next := bytes.Repeat([]byte("fedcba98"), 4)
		if err := s.keys.Replace(next, secret); err != nil {
			t.Fatal(err)
		}
		expect(t, b.get(home), 200, boundText) // its cookie is re-issued
		pass(11 * time.Minute)
		s.told()
		b.on = func(r *http.Request) {
			if r.Header.Get("Secure-Session-Response") != "" {
				b.on = nil
				// The session's cookie is of the new secret, the challenge of none.
				if err := s.keys.Replace(next); err != nil {
					t.Fatal(err)
				}
				b.bindings[0].proof = "" // it was sent
				r.Header.Set("Secure-Session-Response", dbsc.Sign(b.bindings[0].key, false, "of-a-removed-secret", ""))
			}
		}
		expect(t, b.get(home), 200, boundText)
		expectEvents(t, "site", s.told(), "refused: challenge", "refreshed")
	})
}

func TestTwoManagersInOneProgram(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		inner := newSite(t, withStore)
		outer := newSite(t, withStore, func(c *config, o *dbsc.Options) {
			c.Cookie.Name = "__Host-admin"
			o.Path = "/admin/dbsc/"
		})
		mux := http.NewServeMux()
		mux.Handle("/admin/", http.StripPrefix("", outer.handler))
		mux.Handle("/", inner.handler)
		outer.on("/admin/", func(sess *session) {})
		b := newBrowser(t, online(t, mux))
		b.visit(visit{method: "POST", url: home + "login", from: "https://app.test", body: "user=ada", header: form})
		expect(t, b.get(home), 200, boundText)
		// The other one signs in too, by its own path.
		login := http.NewServeMux()
		login.Handle("/", mux)
		login.HandleFunc("POST /admin/login", func(w http.ResponseWriter, r *http.Request) {
			r.URL.Path = "/login"
			outer.handler.ServeHTTP(w, r)
		})
		b.rt = online(t, login)
		b.visit(visit{method: "POST", url: home + "admin/login", from: "https://app.test", body: "user=root", header: form})
		expect(t, b.get(home+"admin/"), 200, "GET user=root state=bound reason= body=")
		expect(t, b.get(home), 200, boundText)
		if len(b.bindings) != 2 || b.bindings[0].id == b.bindings[1].id {
			t.Errorf("the browser has %d sessions", len(b.bindings))
		}
		pass(11 * time.Minute)
		expect(t, b.get(home), 200, boundText)
		expect(t, b.get(home+"admin/"), 200, "GET user=root state=bound reason= body=")
		// A bound cookie of the one is none of the other.
		r := httptest.NewRequest("GET", home, nil)
		r.Header.Set("Cookie", "__Host-Http-session="+b.cookie("Http-session")+"; __Host-session-bound="+b.cookie("admin-bound"))
		w := httptest.NewRecorder()
		inner.handler.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("the bound cookie of another Manager: got %d", w.Code)
		}
	})
}

func TestTwoProgramsOfOneSite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newSite(t, true), newSite(t, false)
		b := newBrowser(t, online(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Host == "one.app.test" {
				one.handler.ServeHTTP(w, r)
				return
			}
			two.handler.ServeHTTP(w, r)
		})))
		for _, host := range []string{"https://one.app.test", "https://two.app.test"} {
			b.visit(visit{method: "POST", url: host + "/login", from: host, body: "user=ada", header: form})
		}
		pass(11 * time.Minute)
		for _, host := range []string{"https://one.app.test/", "https://two.app.test/"} {
			expect(t, b.get(host), 200, boundText)
		}
		expectEvents(t, "browser", b.took(), "registered", "registered", "refreshed", "refreshed")
	})
}

func TestTwoProcessesShareASite(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		one := newSite(t, withStore)
		two := newSite(t, withStore, func(c *config, _ *dbsc.Options) {
			if withStore {
				c.Store = one.store
			}
		})
		turn := 0
		b := newBrowser(t, online(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			turn++
			[]*site{one, two}[turn%2].handler.ServeHTTP(w, r)
		})))
		b.visit(visit{method: "POST", url: home + "login", from: "https://app.test", body: "user=ada", header: form})
		for range 5 {
			pass(11 * time.Minute)
			expect(t, b.get(home), 200, boundText)
		}
	})
}

func TestProofsOfARefresh(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b, other := s.bind(), s.bind()
		pass(5 * time.Minute) // no registration is under way any more
		mine, theirs := b.bindings[0], other.bindings[0]
		challengeOf := func(b *browser) string {
			w := s.ask(b, "POST", home+"dbsc/refresh")
			return strings.Split(w.Header().Get("Secure-Session-Challenge"), `"`)[1]
		}
		refresh := func(b *browser, proof string) int {
			return s.ask(b, "POST", home+"dbsc/refresh", "Sec-Secure-Session-Id: "+mine.id, "Secure-Session-Response: "+proof).Code
		}
		header := map[string]any{"alg": "ES256", "typ": "dbsc+jwt"}
		jti := func(c string) map[string]any { return map[string]any{"jti": c} }
		good := dbsc.Sign(mine.key, false, challengeOf(b), "")
		for _, tt := range []struct {
			name, proof string
			status      int
		}{
			{"good", good, 200},
			{"replayed within two minutes, to the holder of the session alone", good, 200},
			{"quoted", `"` + good + `"`, 200},
			{"for the challenge of another session", dbsc.Sign(mine.key, false, challengeOf(other), ""), 403},
			{"of the key of another session", dbsc.Sign(theirs.key, false, challengeOf(b), ""), 400},
			{"that was sent for another session", dbsc.Sign(theirs.key, false, challengeOf(other), ""), 400},
			{"for a challenge that nobody has made", dbsc.Sign(mine.key, false, "x", ""), 403},
			{"for a challenge that is cut", dbsc.Sign(mine.key, false, challengeOf(b)[:55], ""), 403},
			{"cut", good[:len(good)-1], 400},
			{"of two parts", good[:strings.LastIndex(good, ".")], 400},
			{"alg none", dbsc.SignParts(mine.key, map[string]any{"alg": "none", "typ": "dbsc+jwt"}, jti(challengeOf(b))), 400},
			{"alg RS256", dbsc.SignParts(mine.key, map[string]any{"alg": "RS256", "typ": "dbsc+jwt"}, jti(challengeOf(b))), 400},
			{"with a key of its own", dbsc.SignParts(theirs.key, map[string]any{"alg": "ES256", "typ": "dbsc+jwt", "jwk": dbsc.JWK(theirs.key)}, jti(challengeOf(b))), 400},
			{"with a private key", dbsc.SignParts(mine.key, map[string]any{"alg": "ES256", "typ": "dbsc+jwt", "jwk": map[string]any{"kty": "EC", "crv": "P-256", "d": "x"}}, jti(challengeOf(b))), 400},
			{"with claims that are not known", dbsc.SignParts(mine.key, header, map[string]any{"jti": challengeOf(b), "aud": "x", "iat": 1}), 200},
			{"of a megabyte", strings.Repeat("a", 1<<20), 400},
			{"a bound cookie in place of a challenge", dbsc.Sign(mine.key, false, b.cookie("-bound"), ""), 403},
		} {
			if got := refresh(b, tt.proof); got != tt.status {
				t.Errorf("%s: got %d, want %d", tt.name, got, tt.status)
			}
		}
		if got := refresh(other, good); got != 400 {
			t.Errorf("replayed to another session: got %d", got)
		}
		pass(2*time.Minute + time.Second)
		if got := refresh(b, good); got != 403 {
			t.Errorf("replayed after its end: got %d", got)
		}
		expect(t, b.get(home), 200, boundText) // the session lives through all of it
	})
}

func TestProofsOfARegistration(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		offerOf := func() (*browser, string) {
			b := newBrowser(t, online(t, s.handler))
			b.hold = true
			var c string
			b.answer = func(resp *http.Response) {
				for _, item := range parseList(t, resp.Header["Secure-Session-Registration"]) {
					c = item.params["challenge"]
				}
			}
			b.visit(visit{method: "POST", url: home + "login", from: "https://app.test", body: "user=ada", header: form})
			return b, c
		}
		register := func(b *browser, headers ...string) int {
			return s.ask(b, "POST", home+"dbsc/register", headers...).Code
		}
		b, c := offerOf()
		_, theirs := offerOf()
		proof := func(p string) string { return "Secure-Session-Response: " + p }
		good := dbsc.Sign(key, true, c, "")
		off := dbsc.JWK(key)
		off["x"] = off["y"]
		for _, tt := range []struct {
			name    string
			headers []string
		}{
			{"no proof", nil},
			{"without a key", []string{proof(dbsc.Sign(key, false, c, ""))}},
			{"for the offer to another session", []string{proof(dbsc.Sign(key, true, theirs, ""))}},
			{"for a challenge that nobody has made", []string{proof(dbsc.Sign(key, true, "x", ""))}},
			{"a point off the curve", []string{proof(dbsc.SignParts(key, map[string]any{"alg": "ES256", "typ": "dbsc+jwt", "jwk": off}, map[string]any{"jti": c}))}},
			{"cut", []string{proof(good[:len(good)-2])}},
			{"changed", []string{proof(strings.Replace(good, good[len(good)-20:len(good)-10], "AAAAAAAAAA", 1))}},
			{"twice", []string{proof(good), proof(good)}},
			{"from a script", []string{proof(good), "Sec-Fetch-Mode: cors"}},
			{"from a form", []string{proof(good), "Sec-Fetch-Mode: navigate"}},
		} {
			if got := register(b, tt.headers...); got != 400 {
				t.Errorf("%s: got %d, want 400", tt.name, got)
			}
		}
		if got := register(newBrowser(t, nil), proof(good)); got != 400 {
			t.Errorf("without a session: got %d", got)
		}
		if w := s.ask(b, "GET", home+"dbsc/register", proof(good)); w.Code != 405 {
			t.Errorf("GET: got %d", w.Code)
		}
		late, old := offerOf()
		pass(5*time.Minute + time.Second)
		if got := register(late, proof(dbsc.Sign(key, true, old, ""))); got != 400 {
			t.Errorf("after five minutes: got %d", got)
		}
		bound := s.bind()
		s.told()
		if got := register(bound, proof(dbsc.Sign(key, true, theirs, ""))); got != 400 {
			t.Errorf("of a bound session: got %d", got)
		}
		expect(t, bound.get(home), 200, boundText)
	})
}

func TestASecondKeyForABoundSessionIsRefused(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := newBrowser(t, online(t, s.handler))
		var c string
		b.answer = func(resp *http.Response) {
			for _, item := range parseList(t, resp.Header["Secure-Session-Registration"]) {
				c = item.params["challenge"]
			}
		}
		b.visit(visit{method: "POST", url: home + "login", from: "https://app.test", body: "user=ada", header: form})
		expect(t, b.get(home), 200, boundText)
		s.told()
		thief, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if w := s.ask(b, "POST", home+"dbsc/register", "Secure-Session-Response: "+dbsc.Sign(thief, true, c, "")); w.Code != 400 || len(w.Header()["Set-Cookie"]) > 0 {
			t.Errorf("got %d %v", w.Code, w.Header())
		}
		expectEvents(t, "site", s.told(), "refused: already bound")
		pass(11 * time.Minute)
		expect(t, b.get(home), 200, boundText)
	})
}

// Without a Store a parallel response that arrives last can undo the binding. The
// browser is asked again.
func TestAParallelResponseUndoesABindingInCookieModeAndIsHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, false)
		b := s.signIn(true)
		before := slices.Clone(b.jar)
		b.run()
		expect(t, b.get(home), 200, boundText)
		b.jar = before // the response of a request that began before the registration
		if a := b.get(home); a.StatusCode != 200 {
			t.Errorf("got %d", a.StatusCode)
		}
		b.hold = false
		pass(11 * time.Minute)
		b.get(home)
		b.get(home)
		expect(t, b.get(home), 200, boundText)
		expectEvents(t, "browser", b.took(), "registered", "refresh: 503", "skipped: server_error", "ended: continue: false", "registered")
	})
}

func TestALogoutEndsTheBindingWithTheSession(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		b.visit(visit{method: "POST", url: home + "logout", from: "https://app.test"})
		pass(11 * time.Minute)
		expect(t, b.get(home), 200, "GET user= state=none reason=no cookie body=")
		expectEvents(t, "browser", b.took(), "ended: continue: false")
		if len(b.bindings) != 0 {
			t.Error("the browser keeps the session")
		}
	})
}

func TestANewLoginBindsAnew(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		first := b.bindings[0].key
		b.visit(visit{method: "POST", url: home + "login", from: "https://app.test", body: "user=eve", header: form})
		expect(t, b.get(home), 200, "GET user=eve state=bound reason= body=")
		if len(b.bindings) != 1 || b.bindings[0].key == first {
			t.Error("the key is that of the former login")
		}
	})
}

func TestAnOfferFollowsTheIDThatAChangeOfOwnerGives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, true, func(c *config, _ *dbsc.Options) {
			c.Store = new(sessions.MemoryStore)
			c.Owner = func(a *Account) string { return a.User }
		})
		b := newBrowser(t, online(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) })))
		s.on("/cart", func(sess *session) { sess.Data.Cart = "book" })
		b.get(home + "cart")
		b.visit(visit{method: "POST", url: home + "login", from: "https://app.test", body: "user=ada", header: form})
		expect(t, b.get(home), 200, boundText)
	})
}

func TestDocumentsFromBehindAProxyHaveTheOriginOfTheOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, true, func(_ *config, o *dbsc.Options) { o.Origin = "https://app.test" })
		b := newBrowser(t, online(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Host, r.TLS = "10.0.0.7:8080", nil
			s.handler.ServeHTTP(w, r)
		})))
		b.visit(visit{method: "POST", url: home + "login", from: "https://app.test", body: "user=ada", header: form})
		pass(11 * time.Minute)
		expect(t, b.get(home), 200, boundText)
		direct := newSite(t, true).bind()
		if direct.bindings[0].id != b.bindings[0].id {
			t.Error("the identifier depends on the proxy")
		}
	})
}

func TestARealServer(t *testing.T) {
	for _, withStore := range []bool{false, true} {
		s := newSite(t, withStore)
		server := httptest.NewTLSServer(s.handler)
		b := newBrowser(t, server.Client().Transport)
		b.visit(visit{method: "POST", url: server.URL + "/login", from: server.URL, body: "user=ada", header: form})
		expect(t, b.get(server.URL+"/"), 200, boundText)
		b.drop("-bound") // ten minutes pass
		expect(t, b.get(server.URL+"/"), 200, boundText)
		expectEvents(t, "browser", b.took(), "registered", "refreshed")
		server.Close()
	}
}

func TestOfTwoDevicesAroundAHandlerTheInnerOneIsMeant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type Other struct {
			Theme string `msgpack:"theme"`
		}
		s := newSite(t, true)
		keys, err := sessions.NewKeyring(secret)
		if err != nil {
			t.Fatal(err)
		}
		mgr, err := sessions.New(sessions.Config[Other]{Keys: keys, Cookie: sessions.Cookie{Name: "__Host-theme"}})
		if err != nil {
			t.Fatal(err)
		}
		outer, err := dbsc.New(mgr, dbsc.Options{Path: "/theme/dbsc/"})
		if err != nil {
			t.Fatal(err)
		}
		b := newBrowser(t, online(t, mgr.Middleware(outer.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sessions.Get[Other](r.Context()).Data.Theme = "dark"
			s.handler.ServeHTTP(w, r)
		})))))
		b.visit(visit{method: "POST", url: home + "login", from: "https://app.test", body: "user=ada", header: form})
		expect(t, b.get(home), 200, boundText)
		if len(b.bindings) != 1 || b.bindings[0].refresh != home+"dbsc/refresh" {
			t.Errorf("the browser has %d sessions: %q", len(b.bindings), b.took())
		}
	})
}
