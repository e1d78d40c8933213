package main

import (
	"context"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/typedsessions/sessions"
)

const (
	onLinux  = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
	onIPhone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 " +
		"(KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
)

func TestWrongPasswordShowsTheErrorOnce(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		b := s.browser(t, onLinux)
		for _, tt := range []struct{ name, password string }{
			{"ada", "wrong"}, {"ada", ""}, {"nobody", "analytical engine"}, {"", ""},
		} {
			b.post("/login", "username", tt.name, "password", tt.password).wantRedirect("/login")
			b.get("/login").wantText("Invalid username or password")
			b.get("/login").wantNoText("Invalid username or password")
		}
		b.get("/dashboard").wantRedirect("/login")
	})
}

func TestSignInPageSaysWhoMaySignIn(t *testing.T) {
	b := newSite(t, "cookie").browser(t, onLinux)
	b.get("/login").wantText(demoUser + " signs in with " + demoUsers[demoUser])
}

func TestErrorWaitsUntilAPageShowsIt(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		b := s.browser(t, onLinux)
		b.post("/login", "username", "ada", "password", "wrong").wantRedirect("/login")
		b.post("/cart/add", "item", "field").wantRedirect("/#field")
		b.get("/").wantText("Invalid username or password")
		b.get("/login").wantNoText("Invalid username or password")
	})
}

func TestSigningInSetsANewCookieAndOpensTheDashboard(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		b := s.browser(t, onLinux)
		b.post("/cart/add", "item", "field")
		before := b.cookie()

		a := b.signIn("ada")
		if a.cookie == nil || a.cookie.Value == before {
			t.Errorf("signing in kept the cookie of the anonymous visitor: %v", a.cookie)
		}
		b.get("/dashboard").wantStatus(http.StatusOK).wantText("Hello, ada")
		b.get("/login").wantRedirect("/dashboard")
	})
}

func TestAnonymousVisitorIsSentToTheLoginPage(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		for _, path := range []string{"/dashboard", "/sessions"} {
			b := s.browser(t, onLinux)
			b.get(path).wantRedirect("/login")
			b.get("/login").wantText("Please sign in first")
			b.get("/login").wantNoText("Please sign in first")
		}
	})
}

func TestSigningOutReplacesTheSession(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		b := s.browser(t, onLinux)
		b.post("/cart/add", "item", "ledger")
		b.signIn("ada")
		before := b.cookie()

		a := b.post("/logout")
		a.wantRedirect("/login")
		if a.cookie == nil || a.cookie.Value == before {
			t.Errorf("signing out left the cookie as it was: %v", a.cookie)
		}
		b.get("/login").wantText("You have signed out")
		b.get("/login").wantNoText("You have signed out")
		b.get("/dashboard").wantRedirect("/login")
		b.get("/").wantText("Nothing in it yet")
	})
}

func TestCookieOfASignedOutSessionIsRefused(t *testing.T) {
	s := newSite(t, "memory")
	b := s.browser(t, onLinux)
	b.signIn("ada")
	stolen := b.jarCookie()
	b.post("/logout").wantRedirect("/login")

	thief := s.browser(t, onIPhone)
	thief.client.Jar.SetCookies(thief.base, []*http.Cookie{stolen})
	thief.get("/dashboard").wantRedirect("/login")
}

func TestCookieFromBeforeSigningInIsRefused(t *testing.T) {
	s := newSite(t, "memory")
	b := s.browser(t, onLinux)
	b.post("/cart/add", "item", "field")
	planted := b.jarCookie()
	b.signIn("ada")

	attacker := s.browser(t, onIPhone)
	attacker.client.Jar.SetCookies(attacker.base, []*http.Cookie{planted})
	attacker.get("/dashboard").wantRedirect("/login")
	attacker.get("/").wantText("Nothing in it yet")
}

func TestRememberMeKeepsTheCookieForThirtyDays(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		b := s.browser(t, onLinux)
		cookie := b.signIn("ada").cookie
		if cookie == nil || cookie.MaxAge != 0 {
			t.Fatalf("got %v, want a cookie that goes with the browser", cookie)
		}
		b.post("/logout")
		cookie = b.signIn("ada", "remember", "yes").cookie
		if cookie == nil {
			t.Fatal("got no cookie")
		}
		wantThirtyDays(t, cookie)
		if cookie = b.post("/cart/add", "item", "field").cookie; cookie != nil { // a store needs no new one
			wantThirtyDays(t, cookie)
		}
		if cookie = b.post("/logout").cookie; cookie == nil || cookie.MaxAge > 0 {
			t.Errorf("after signing out: got %v, want a cookie that goes with the browser", cookie)
		}
	})
}

func wantThirtyDays(t *testing.T, cookie *http.Cookie) {
	t.Helper()
	got, want := time.Duration(cookie.MaxAge)*time.Second, 30*24*time.Hour
	if got > want || got < want-time.Minute {
		t.Errorf("got a Max-Age of %v, want %v", got, want)
	}
}

func TestCartSurvivesSigningIn(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		b := s.browser(t, onLinux)
		b.post("/cart/add", "item", "dotted").wantRedirect("/#dotted")
		b.post("/cart/add", "item", "dotted")
		b.post("/cart/add", "item", "staff")
		b.get("/").wantText("€53.00")
		b.signIn("ada")
		b.get("/dashboard").wantText("Dot grid journal × 2", "Staff book × 1", "€53.00")
		b.get("/").wantText("2 in your cart")
	})
}

func TestCartOfOneUserIsNotTheNextOnes(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		b := s.browser(t, onLinux)
		b.signIn("ada")
		b.post("/cart/add", "item", "staff")
		b.signIn("grace")
		b.get("/dashboard").wantText("Hello, grace", "Nothing in it yet")
	})
}

func TestRemovingTakesOneAway(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		b := s.browser(t, onLinux)
		b.post("/cart/remove", "item", "field").wantRedirect("/#cart") // of an empty cart
		b.post("/cart/add", "item", "field")
		b.post("/cart/add", "item", "field")
		b.post("/cart/remove", "item", "field")
		b.get("/").wantText("1 in your cart")
		b.post("/cart/remove", "item", "field")
		b.get("/").wantText("Nothing in it yet")
		b.post("/cart/add", "item", "gold").wantStatus(http.StatusNotFound)
	})
}

func TestCartHoldsNoMoreThanItsBound(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		b := s.browser(t, onLinux)
		for range maxPerProduct + 1 {
			b.post("/cart/add", "item", "field").wantRedirect("/#field")
		}
		b.get("/").wantText("99 in your cart")
	})
}

func TestParallelAddsAllCount(t *testing.T) {
	s := newSite(t, "memory")
	b := s.browser(t, onLinux)
	b.post("/cart/add", "item", "field")
	var adds sync.WaitGroup
	for range 20 {
		adds.Go(func() { b.post("/cart/add", "item", "field") })
	}
	adds.Wait()
	b.get("/").wantText("21 in your cart")
}

func TestSessionsPageListsThisUsersOwn(t *testing.T) {
	s := newSite(t, "memory")
	linux, phone, other := s.browser(t, onLinux), s.browser(t, onIPhone), s.browser(t, onLinux)
	linux.signIn("ada")
	phone.signIn("ada")
	other.signIn("grace")

	a := phone.get("/sessions").wantText("Safari on iPhone This session", "Firefox on Linux", "Created", "Last used", "Expires")
	if ids := a.sessionIDs(); len(ids) != 2 {
		t.Errorf("got %d sessions, want ada's two", len(ids))
	}
	if n := strings.Count(a.text, "This session"); n != 1 {
		t.Errorf("got %d sessions marked as this one, want 1", n)
	}
}

func TestRevokingAnotherSessionSignsItOut(t *testing.T) {
	s := newSite(t, "memory")
	linux, phone := s.browser(t, onLinux), s.browser(t, onIPhone)
	linux.signIn("ada")
	phone.signIn("ada")

	ids := phone.get("/sessions").sessionIDs() // its own first
	if len(ids) != 2 {
		t.Fatalf("got %d sessions, want 2", len(ids))
	}
	phone.post("/sessions/revoke", "id", ids[1]).wantRedirect("/sessions")
	phone.get("/sessions").wantText("Signed out: Firefox on Linux")
	linux.get("/dashboard").wantRedirect("/login")
	phone.get("/dashboard").wantStatus(http.StatusOK)
}

func TestSessionOfANewerReleaseCanBeRevoked(t *testing.T) {
	s := newSite(t, "memory")
	newer, err := sessions.New(sessions.Config[AppSession]{
		Keys:     s.keys,
		Store:    s.store,
		Owner:    func(data *AppSession) string { return data.User },
		Version:  1,
		Upgrades: []sessions.Upgrade{sessions.From(0, func(old AppSession) (AppSession, error) { return old, nil })},
	})
	if err != nil {
		t.Fatal(err)
	}
	newer.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Data.User = "ada"
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))

	b := s.browser(t, onLinux)
	b.signIn("ada")
	ids := b.get("/sessions").wantText("Unknown device", "cannot read").sessionIDs()
	if len(ids) != 2 {
		t.Fatalf("got %d sessions, want 2", len(ids))
	}
	b.post("/sessions/revoke", "id", ids[1]).wantRedirect("/sessions")
	b.get("/sessions").wantText("Signed out: Unknown device")
	if ids = b.get("/sessions").sessionIDs(); len(ids) != 1 {
		t.Errorf("got %d sessions, want 1", len(ids))
	}
}

func TestRevokingThisSessionIsSigningOut(t *testing.T) {
	s := newSite(t, "memory")
	b := s.browser(t, onLinux)
	b.signIn("ada")
	b.post("/sessions/revoke", "id", b.get("/sessions").sessionIDs()[0]).wantRedirect("/login")
	b.get("/login").wantText("You have signed out")
	b.get("/dashboard").wantRedirect("/login")
}

func TestUserCannotRevokeSomeoneElsesSession(t *testing.T) {
	s := newSite(t, "memory")
	ada, grace := s.browser(t, onLinux), s.browser(t, onIPhone)
	ada.signIn("ada")
	grace.signIn("grace")
	of := ada.get("/sessions").sessionIDs()[0]

	for _, id := range []string{of, "", "nonsense"} {
		grace.post("/sessions/revoke", "id", id).wantRedirect("/sessions")
		grace.get("/sessions").wantText("not one of your sessions")
	}
	ada.get("/dashboard").wantStatus(http.StatusOK)
}

func TestSigningOutEverywhereElseKeepsThisSession(t *testing.T) {
	s := newSite(t, "memory")
	here, there, elsewhere, other := s.browser(t, onLinux), s.browser(t, onIPhone), s.browser(t, ""), s.browser(t, onLinux)
	for _, b := range []*browser{here, there, elsewhere} {
		b.signIn("ada")
	}
	other.signIn("grace")

	here.post("/sessions/revoke-others").wantRedirect("/sessions")
	here.get("/sessions").wantText("Signed out everywhere else (2)")
	there.get("/dashboard").wantRedirect("/login")
	elsewhere.get("/dashboard").wantRedirect("/login")
	other.get("/dashboard").wantStatus(http.StatusOK)
}

func TestWithoutAStoreThePageSaysWhyItCannotList(t *testing.T) {
	s := newSite(t, "cookie")
	b := s.browser(t, onLinux)
	b.signIn("ada")
	b.get("/sessions").wantStatus(http.StatusOK).wantText("This cannot be listed here", "travels in a cookie")
	b.post("/sessions/revoke", "id", "any").wantStatus(http.StatusNotImplemented)
	b.post("/sessions/revoke-others").wantStatus(http.StatusNotImplemented)
}

func TestFormsOfAnotherSiteAreRefused(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		b := s.browser(t, onLinux)
		b.signIn("ada")
		for _, header := range [][2]string{
			{"Origin", "https://elsewhere.example"},
			{"Sec-Fetch-Site", "cross-site"},
		} {
			b.header = header
			b.post("/logout").wantStatus(http.StatusForbidden)
			b.post("/cart/add", "item", "field").wantStatus(http.StatusForbidden)
		}
		b.get("/dashboard").wantStatus(http.StatusOK).wantText("Nothing in it yet")
	})
}

func TestHTMLInAFlashIsEscaped(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		b := s.browser(t, onLinux)
		b.get("/test/flash?message=" + url.QueryEscape(`<script>alert("x")</script>`))
		a := b.get("/login")
		if strings.Contains(a.body, "<script") || !strings.Contains(a.body, "&lt;script&gt;alert(") {
			t.Errorf("the message is not on the page, or not as text:\n%s", a.body)
		}
	})
}

func TestStaticFilesAndHealthNeedNoSession(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		b := s.browser(t, onLinux)
		b.signIn("ada")
		for path, kind := range map[string]string{
			"/static/style.css": "text/css; charset=utf-8",
			"/static/icon.svg":  "image/svg+xml",
			"/healthz":          "text/plain; charset=utf-8",
		} {
			a := b.get(path).wantStatus(http.StatusOK)
			if got := a.header.Get("Content-Type"); got != kind {
				t.Errorf("%s: got Content-Type %q, want %q", path, got, kind)
			}
			if a.header.Get("Vary") != "" || a.cookie != nil {
				t.Errorf("%s: got Vary %q and cookie %v, want neither", path, a.header.Get("Vary"), a.cookie)
			}
		}
		b.get("/static/").wantStatus(http.StatusNotFound)
	})
}

func TestVisitWithoutAChangeSetsNoCookie(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		if c := s.browser(t, onLinux).get("/").wantStatus(http.StatusOK).cookie; c != nil {
			t.Errorf("got %v, want no cookie", c)
		}
	})
}

func TestPagesAllowNothingFromElsewhere(t *testing.T) {
	a := newSite(t, "cookie").browser(t, onLinux).get("/login")
	policy := a.header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("got Content-Security-Policy %q", policy)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
		if got := a.header.Get(name); got != want {
			t.Errorf("got %s %q, want %q", name, got, want)
		}
	}
}

func TestDeviceLabelNamesBrowserAndSystem(t *testing.T) {
	const chrome = " AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 "
	for agent, want := range map[string]string{
		onLinux:  "Firefox on Linux",
		onIPhone: "Safari on iPhone",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64)" + chrome + "Safari/537.36 Edg/142.0.0.0": "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)" + chrome + "Safari/537.36":         "Chrome on macOS",
		"Mozilla/5.0 (Linux; Android 10; K)" + chrome + "Mobile Safari/537.36":               "Chrome on Android",
		"curl/8.9.1":               "curl",
		"<b>" + onLinux[:30]:       "A browser on Linux",
		"":                         "A browser",
		strings.Repeat("x", 1<<16): "A browser",
	} {
		if got := deviceLabel(agent); got != want {
			t.Errorf("%.60q: got %q, want %q", agent, got, want)
		}
	}
}

func TestProgramStopsWhenItIsTold(t *testing.T) {
	t.Setenv("SESSION_KEYS", "")
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := run(ctx, settings{addr: "localhost:0", store: "memory", debug: true}); err != nil {
		t.Error(err)
	}
}

// A site is the application on a server, and one more page that flashes what
// it is told.
type site struct {
	url   *url.URL
	keys  *sessions.Keyring
	store sessions.Store
}

func newSite(t *testing.T, storeName string) *site { return newSiteWith(t, settings{store: storeName}) }

func newSiteWith(t *testing.T, set settings) *site {
	t.Parallel()
	store, err := openStore(t.Context(), set.store)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	people, err := newUsers(demoUsers, bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newApp(keys, store, people, set)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", a.routes())
	mux.Handle("GET /test/flash", a.sessions.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Flash("info", r.FormValue("message"))
	})))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	base, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &site{base, keys, store}
}

func everyStore(t *testing.T, test func(*testing.T, *site)) {
	t.Parallel()
	for _, name := range []string{"cookie", "memory"} {
		t.Run(name, func(t *testing.T) { test(t, newSite(t, name)) })
	}
}

// A browser keeps cookies and follows no redirect by itself.
type browser struct {
	t      *testing.T
	client *http.Client
	base   *url.URL
	agent  string
	header [2]string // one more header to send
}

func (s *site) browser(t *testing.T, agent string) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &browser{t: t, client: client, base: s.url, agent: agent}
}

func (b *browser) get(path string) *answer {
	b.t.Helper()
	return b.do(http.MethodGet, path, nil)
}

// post sends a form of names and values, by turns.
func (b *browser) post(path string, form ...string) *answer {
	b.t.Helper()
	values := url.Values{}
	for pair := range slices.Chunk(form, 2) {
		values.Set(pair[0], pair[1])
	}
	return b.do(http.MethodPost, path, strings.NewReader(values.Encode()))
}

func (b *browser) signIn(name string, form ...string) *answer {
	b.t.Helper()
	a := b.post("/login", append(form, "username", name, "password", demoUsers[name])...)
	return a.wantRedirect("/dashboard")
}

func (b *browser) do(method, path string, body io.Reader) *answer {
	b.t.Helper()
	req, err := http.NewRequest(method, b.base.String()+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("User-Agent", b.agent)
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if b.header[0] != "" && method == http.MethodPost {
		req.Header.Set(b.header[0], b.header[1])
	}
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	a := &answer{t: b.t, status: resp.StatusCode, header: resp.Header, body: string(page), text: textOf(string(page))}
	for _, c := range resp.Cookies() {
		if c.Name == "session" {
			a.cookie = c
		}
	}
	return a
}

func (b *browser) jarCookie() *http.Cookie {
	b.t.Helper()
	for _, c := range b.client.Jar.Cookies(b.base) {
		if c.Name == "session" {
			return c
		}
	}
	b.t.Fatal("the browser has no session cookie")
	return nil
}

func (b *browser) cookie() string {
	b.t.Helper()
	return b.jarCookie().Value
}

type answer struct {
	t      *testing.T
	status int
	header http.Header
	cookie *http.Cookie // of the session, if it was set
	body   string
	text   string // of body, without the markup
}

func (a *answer) wantStatus(want int) *answer {
	a.t.Helper()
	if a.status != want {
		a.t.Errorf("got status %d, want %d", a.status, want)
	}
	return a
}

func (a *answer) wantRedirect(want string) *answer {
	a.t.Helper()
	a.wantStatus(http.StatusSeeOther)
	if got := a.header.Get("Location"); got != want {
		a.t.Errorf("got Location %q, want %q", got, want)
	}
	return a
}

func (a *answer) wantText(texts ...string) *answer {
	a.t.Helper()
	for _, want := range texts {
		if !strings.Contains(a.text, want) {
			a.t.Errorf("got status %d and a page without %q:\n%s", a.status, want, a.text)
		}
	}
	return a
}

func (a *answer) wantNoText(text string) *answer {
	a.t.Helper()
	if strings.Contains(a.text, text) {
		a.t.Errorf("got a page that says %q:\n%s", text, a.text)
	}
	return a
}

func (a *answer) sessionIDs() (ids []string) {
	for _, m := range regexp.MustCompile(`name="id" value="([^"]+)"`).FindAllStringSubmatch(a.body, -1) {
		ids = append(ids, html.UnescapeString(m[1]))
	}
	return ids
}

func textOf(page string) string {
	bare := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " ")
	return strings.Join(strings.Fields(html.UnescapeString(bare)), " ")
}

func TestTakenAddressIsRefusedWithTheMend(t *testing.T) {
	t.Setenv("SESSION_KEYS", "")
	taken, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = run(t.Context(), settings{addr: taken.Addr().String(), store: "memory"})
	if err == nil || !strings.Contains(err.Error(), "-addr") {
		t.Errorf("got %v, want an error that names the flag", err)
	}
}
