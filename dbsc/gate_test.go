package dbsc_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions/dbsc"
)

// ask sends one request with the cookies of b and the given headers, each
// "Name: value". Nothing refreshes before it.
func (s *site) ask(b *browser, method, url string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, url, nil)
	b.mu.Lock()
	var pairs []string
	for _, c := range b.jar {
		if c.ends.IsZero() || c.ends.After(time.Now()) {
			pairs = append(pairs, c.Name+"="+c.Value)
		}
	}
	b.mu.Unlock()
	if pairs != nil {
		r.Header.Set("Cookie", strings.Join(pairs, "; "))
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

func navigation(site string) []string {
	return []string{"Sec-Fetch-Site: " + site, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}
}

// TestTheGate has the table of docs/DBSC.md as its names.
func TestTheGate(t *testing.T) {
	const shown = "GET user=ada state=bound reason= body="
	fetch := []string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"}
	registered := func(s *site) *browser {
		b := s.signIn(true)
		b.run()
		s.told()
		return b
	}
	stale := func(s *site) *browser {
		b := s.bind()
		b.drop("-bound")
		return b
	}
	for _, tt := range []struct {
		name    string
		browser func(s *site) *browser
		method  string // GET if empty
		path    string // "page" if empty
		headers []string
		change  change

		status  int
		text    string            // "page": any
		header  map[string]string // that the answer has; "": that it has not
		event   string            // of the site, "" for none
		called  bool              // the handler
		fatally bool              // the session has ended
	}{
		{name: "no cookie: passes", browser: func(s *site) *browser { return newBrowser(s.t, nil) },
			status: 200, text: "GET user= state=none reason=no cookie body=", called: true},
		{name: "offered: passes", browser: func(s *site) *browser { return s.signIn(true) }, headers: navigation("none"),
			status: 200, text: "GET user=ada state=offered reason= body=", header: map[string]string{"Secure-Session-Registration": ""}, called: true},
		{name: "offered ten minutes ago, a document: passes, and asks again", browser: func(s *site) *browser { b := s.signIn(true); pass(10 * time.Minute); return b }, headers: navigation("none"),
			status: 200, text: "GET user=ada state=offered reason= body=", header: map[string]string{"Secure-Session-Registration": "(ES256)"}, called: true},
		{name: "offered ten minutes ago, a fetch: passes", browser: func(s *site) *browser { b := s.signIn(true); pass(10 * time.Minute); return b }, headers: fetch,
			status: 200, text: "GET user=ada state=offered reason= body=", header: map[string]string{"Secure-Session-Registration": ""}, called: true},
		{name: "registered, no good bound cookie seen yet: passes", browser: func(s *site) *browser { b := registered(s); b.drop("-bound"); return b }, headers: navigation("none"),
			status: 200, text: "GET user=ada state=offered reason= body=", called: true},
		{name: "registered, its first good bound cookie: passes, and is bound from now on", browser: registered, headers: navigation("none"),
			status: 200, text: shown, event: "bound", called: true},
		{name: "bound, cookie good: passes", browser: (*site).bind, headers: navigation("none"),
			status: 200, text: shown, called: true},
		{name: "bound, cookie good, a fetch: passes", browser: (*site).bind, headers: fetch,
			status: 200, text: shown, called: true},
		{name: "stale, a document from another site: comes again", browser: stale, headers: navigation("cross-site"),
			status: 200, header: map[string]string{"Refresh": "0", "Cache-Control": "no-store", "Location": ""}, event: "reloaded"},
		{name: "stale, a document from a sibling domain: comes again", browser: stale, headers: navigation("same-site"),
			status: 200, header: map[string]string{"Refresh": "0", "Cache-Control": "no-store"}, event: "reloaded"},
		{name: "stale, a document from another site, NoReload: OnStale", browser: stale, headers: navigation("cross-site"), change: func(_ *config, o *dbsc.Options) { o.NoReload = true },
			status: 403, text: "page", header: map[string]string{"Refresh": ""}, event: "refused: no bound cookie"},
		{name: "stale, a document that is posted from another site: refused without a word", browser: stale, method: "POST", headers: navigation("none"),
			status: 403, header: map[string]string{"Refresh": "", "Location": ""}, event: "refused: no bound cookie"},
		{name: "stale, a frame in another site: OnStale, and does not come again", browser: stale, headers: []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"},
			status: 403, text: "page", header: map[string]string{"Refresh": ""}, event: "refused: no bound cookie"},
		{name: "stale, an image in another site: refused without a word", browser: stale, headers: []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"},
			status: 403, header: map[string]string{"Refresh": "", "Location": ""}, event: "refused: no bound cookie"},
		{name: "stale, Skipped names us, a document: try later", browser: stale, headers: append(navigation("none"), "Secure-Session-Skipped: ID"),
			status: 503, text: "page", header: map[string]string{"Retry-After": "60"}, event: "refused: skipped"},
		{name: "stale, Skipped names us, a fetch: try later", browser: stale, headers: append(fetch, "Secure-Session-Skipped: ID"),
			status: 503, header: map[string]string{"Retry-After": "60", "Location": ""}, event: "refused: skipped"},
		{name: "stale, Skipped names another session: OnStale", browser: stale, headers: append(navigation("none"), `Secure-Session-Skipped: unreachable;session_identifier="x"`),
			status: 403, text: "page", event: "refused: no bound cookie"},
		{name: "stale, a document that a person types: OnStale", browser: stale, headers: navigation("none"),
			status: 403, text: "page", header: map[string]string{"Refresh": ""}, event: "refused: no bound cookie"},
		{name: "stale, a document from this site: OnStale, and does not come again", browser: stale, headers: navigation("same-origin"),
			status: 403, text: "page", header: map[string]string{"Refresh": ""}, event: "refused: no bound cookie"},
		{name: "stale, a document of an old browser: OnStale", browser: stale, headers: []string{"Accept: text/html,*/*"},
			status: 403, text: "page", event: "refused: no bound cookie"},
		{name: "stale, OnStale of the application: shown a new session, whose changes are discarded", browser: stale, headers: navigation("none"),
			change: func(_ *config, o *dbsc.Options) {
				o.OnStale = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					sess := sessionOf(r)
					sess.Flash("info", "hello")
					sess.Data.Count++
					w.WriteHeader(403)
					_, _ = w.Write([]byte("user=" + sess.Data.User + " reason=" + string(sess.Reason()) + " state=" + dbsc.StateOf(r.Context()).String()))
				})
			},
			status: 403, text: "user= reason=stale state=none", header: map[string]string{"Set-Cookie": ""}, event: "refused: no bound cookie"},
		{name: "stale, a Login path: shown as a new session", browser: stale, path: "login", headers: navigation("none"),
			status: 200, text: "GET user= state=none reason=stale body=", header: map[string]string{"Set-Cookie": ""}, event: "refused: no bound cookie", called: true},
		{name: "stale, a Login path from another site: comes again first", browser: stale, path: "login", headers: navigation("cross-site"),
			status: 200, header: map[string]string{"Refresh": "0"}, event: "reloaded"},
		{name: "stale, a Login path, Skipped names us: shown as a new session", browser: stale, path: "login", headers: append(navigation("none"), "Secure-Session-Skipped: ID"),
			status: 200, text: "GET user= state=none reason=stale body=", event: "refused: no bound cookie", called: true},
		{name: "stale, a logout: passes, and ends the session", browser: stale, method: "POST", path: "logout", headers: navigation("same-origin"),
			status: 303, text: "page", event: "refused: no bound cookie", called: true, fatally: true},
		{name: "stale, an excluded path: shown as a new session", browser: stale, path: "static/x", headers: navigation("none"),
			status: 200, text: "GET user= state=none reason=stale body=", header: map[string]string{"Set-Cookie": ""}, called: true},
		{name: "stale, a fetch: refused without a word", browser: stale, headers: fetch,
			status: 403, header: map[string]string{"Location": "", "Refresh": "", "Content-Type": ""}, event: "refused: no bound cookie"},
		{name: "stale, a POST: refused without a word", browser: stale, method: "POST", headers: fetch,
			status: 403, header: map[string]string{"Location": "", "Refresh": "", "Content-Type": ""}, event: "refused: no bound cookie"},
		{name: "stale, a client without any header: refused without a word", browser: stale,
			status: 403, header: map[string]string{"Location": "", "Refresh": ""}, event: "refused: no bound cookie"},
		{name: "bound, the bound cookie of another device: refused", browser: func(s *site) *browser {
			b, other := s.bind(), s.bind()
			b.drop("-bound")
			other.drop("session")
			other.copyTo(b)
			return b
		}, headers: fetch, status: 403, event: "refused: foreign bound cookie"},
		{name: "bound, a bound cookie that has ended: refused", browser: func(s *site) *browser {
			b := s.bind()
			for _, c := range b.jar {
				c.ends = time.Time{}
			}
			pass(10*time.Minute + 30*time.Second)
			return b
		}, headers: fetch, status: 403, event: "refused: ended bound cookie"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, withStore bool) {
				var changes []change
				if tt.change != nil {
					changes = append(changes, tt.change)
				}
				s := newSite(t, withStore, changes...)
				b := tt.browser(s)
				path := "/" + cmpOr(tt.path, "page")
				was := s.runs(path)
				var headers []string
				for _, h := range tt.headers {
					if strings.HasSuffix(h, ": ID") && len(b.bindings) > 0 {
						h = strings.Replace(h, "ID", `server_error;session_identifier="`+b.bindings[0].id+`"`, 1)
					}
					headers = append(headers, h)
				}
				w := s.ask(b, cmpOr(tt.method, "GET"), "https://app.test"+path, headers...)
				if w.Code != tt.status {
					t.Errorf("got the status %d, want %d", w.Code, tt.status)
				}
				if text := w.Body.String(); tt.text != "page" && text != tt.text || tt.text == "page" && strings.Contains(text, "ada") {
					t.Errorf("got %q, want %q", text, tt.text)
				}
				for name, want := range tt.header {
					if got := w.Header().Get(name); want == "" && got != "" || !strings.Contains(got, want) {
						t.Errorf("got %s: %q, want %q", name, got, want)
					}
				}
				var want []string
				if tt.event != "" {
					want = append(want, tt.event)
				}
				expectEvents(t, "site", s.told(), want...)
				if called := s.runs(path) > was; called != tt.called {
					t.Errorf("the handler was called: %v", called)
				}
				// Whatever the answer was, the session stays as it is.
				if b.bindings == nil {
					return
				}
				b.drop("-bound")
				b.rt = online(t, s.handler)
				a := b.get(home)
				if tt.fatally && withStore { // a cookie cannot be recalled
					expect(t, a, 200, "GET user= state=none reason=unknown body=")
				} else if !strings.Contains(a.text, "user=ada") {
					t.Errorf("the session is lost: %q", a.text)
				}
			})
		})
	}
}

func TestALinkFromAnotherSiteWorksAfterTenMinutes(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		pass(11 * time.Minute)
		a := b.visit(visit{url: home + "mail?x=1", from: "https://webmail.example"})
		expect(t, a, 200, "GET user=ada state=bound reason= body=")
		expectEvents(t, "browser", b.took(), "refreshed")
		expectEvents(t, "site", s.told(), "reloaded", "refreshed")
		if s.runs("/mail") != 1 {
			t.Errorf("the handler ran %d times", s.runs("/mail"))
		}
	})
}

func TestALoginHealsAStaleSession(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		b.bindings = nil // the browser has lost its key
		b.drop("-bound")
		if a := b.get(home); a.StatusCode != http.StatusForbidden {
			t.Fatalf("got %d %q", a.StatusCode, a.text)
		}
		a := b.visit(visit{method: "POST", url: home + "login", from: "https://app.test", body: "user=eve", header: form})
		if a.StatusCode != 200 || !strings.Contains(a.text, "user=eve") {
			t.Errorf("got %d %q", a.StatusCode, a.text)
		}
		expect(t, b.get(home), 200, "GET user=eve state=bound reason= body=")
	})
}

func TestASignInInSeveralStepsHealsAStaleSession(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		b.bindings = nil
		b.drop("-bound")
		s.on("/login", func(sess *session) { sess.Data.Cart = "state of the identity provider" })
		b.get(home + "login")
		var cart string
		s.on("/login", func(sess *session) { cart = sess.Data.Cart })
		b.get(home + "login")
		if cart == "" {
			t.Error("the session of the login was not stored")
		}
	})
}

func TestPagesAskAgainAtMostOnceInTenMinutes(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.signIn(true)
		b.plain = true
		asked := 0
		b.answer = func(resp *http.Response) { asked += len(resp.Header["Secure-Session-Registration"]) }
		for range 61 {
			b.get(home)
			pass(time.Minute)
		}
		if asked != 6 {
			t.Errorf("asked %d times in an hour, want 6", asked)
		}
	})
}
