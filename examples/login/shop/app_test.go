package shop_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/internal/shoptest"
	"github.com/typedsessions/sessions/examples/login/shop"
)

func TestWrongPasswordShowsTheErrorOnce(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		b := s.Browser(t, shoptest.OnLinux)
		for _, tt := range []struct{ name, password string }{
			{"ada", "wrong"}, {"ada", ""}, {"nobody", "analytical engine"}, {"", ""},
		} {
			b.Post("/login", "username", tt.name, "password", tt.password).WantRedirect("/login")
			b.Get("/login").WantText("Invalid username or password")
			b.Get("/login").WantNoText("Invalid username or password")
		}
		b.Get("/dashboard").WantRedirect("/login")
	})
}

func TestSignInPageSaysWhoMaySignIn(t *testing.T) {
	b := newSite(t, "cookie").Browser(t, shoptest.OnLinux)
	b.Get("/login").WantText(shop.DemoUser + " signs in with " + shop.Passwords[shop.DemoUser])
}

func TestErrorWaitsUntilAPageShowsIt(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		b := s.Browser(t, shoptest.OnLinux)
		b.Post("/login", "username", "ada", "password", "wrong").WantRedirect("/login")
		b.Post("/cart/add", "item", "field").WantRedirect("/#field")
		b.Get("/").WantText("Invalid username or password")
		b.Get("/login").WantNoText("Invalid username or password")
	})
}

func TestSigningInSetsANewCookieAndOpensTheDashboard(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		b := s.Browser(t, shoptest.OnLinux)
		b.Post("/cart/add", "item", "field")
		before := b.Cookie().Value

		a := b.SignIn("ada")
		if a.Cookie == nil || a.Cookie.Value == before {
			t.Errorf("signing in kept the cookie of the anonymous visitor: %v", a.Cookie)
		}
		b.Get("/dashboard").WantStatus(http.StatusOK).WantText("Hello, ada")
		b.Get("/login").WantRedirect("/dashboard")
	})
}

func TestAnonymousVisitorIsSentToTheLoginPage(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		for _, path := range []string{"/dashboard", "/sessions"} {
			b := s.Browser(t, shoptest.OnLinux)
			b.Get(path).WantRedirect("/login")
			b.Get("/login").WantText("Please sign in first")
			b.Get("/login").WantNoText("Please sign in first")
		}
	})
}

func TestSigningOutReplacesTheSession(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		b := s.Browser(t, shoptest.OnLinux)
		b.Post("/cart/add", "item", "ledger")
		b.SignIn("ada")
		before := b.Cookie().Value

		a := b.Post("/logout")
		a.WantRedirect("/login")
		if a.Cookie == nil || a.Cookie.Value == "" || a.Cookie.Value == before || a.Cookie.MaxAge < 0 {
			t.Errorf("got the cookie %v, want another value, that of the session with the message", a.Cookie)
		}
		b.Get("/login").WantText("You have signed out")
		b.Get("/login").WantNoText("You have signed out")
		b.Get("/dashboard").WantRedirect("/login")
		b.Get("/").WantText("Nothing in it yet")
	})
}

func TestCookieOfASignedOutSessionIsRefused(t *testing.T) {
	s := newSite(t, "memory")
	b := s.Browser(t, shoptest.OnLinux)
	b.SignIn("ada")
	stolen := b.Cookie()
	b.Post("/logout").WantRedirect("/login")

	thief := s.Browser(t, shoptest.OnIPhone)
	thief.SetCookie(stolen)
	thief.Get("/dashboard").WantRedirect("/login")
}

func TestCookieFromBeforeSigningInIsRefused(t *testing.T) {
	s := newSite(t, "memory")
	b := s.Browser(t, shoptest.OnLinux)
	b.Post("/cart/add", "item", "field")
	planted := b.Cookie()
	b.SignIn("ada")

	attacker := s.Browser(t, shoptest.OnIPhone)
	attacker.SetCookie(planted)
	attacker.Get("/dashboard").WantRedirect("/login")
	attacker.Get("/").WantText("Nothing in it yet")
}

func TestRememberMeKeepsTheCookieForThirtyDays(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		b := s.Browser(t, shoptest.OnLinux)
		cookie := b.SignIn("ada").Cookie
		if cookie == nil || cookie.MaxAge != 0 {
			t.Fatalf("got %v, want a cookie that goes with the browser", cookie)
		}
		b.Post("/logout")
		cookie = b.SignIn("ada", "remember", "yes").Cookie
		if cookie == nil {
			t.Fatal("got no cookie")
		}
		wantThirtyDays(t, cookie)
		if cookie = b.Post("/cart/add", "item", "field").Cookie; cookie != nil { // a store needs no new one
			wantThirtyDays(t, cookie)
		}
		if cookie = b.Post("/logout").Cookie; cookie == nil || cookie.MaxAge > 0 {
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
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		b := s.Browser(t, shoptest.OnLinux)
		b.Post("/cart/add", "item", "dotted").WantRedirect("/#dotted")
		b.Post("/cart/add", "item", "dotted")
		b.Post("/cart/add", "item", "staff")
		b.Get("/").WantText("€53.00")
		b.SignIn("ada")
		b.Get("/dashboard").WantText("Dot grid journal × 2", "Staff book × 1", "€53.00")
		b.Get("/").WantText("2 in your cart")
	})
}

func TestCartOfOneUserIsNotTheNextOnes(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		b := s.Browser(t, shoptest.OnLinux)
		b.SignIn("ada")
		b.Post("/cart/add", "item", "staff")
		b.SignIn("grace")
		b.Get("/dashboard").WantText("Hello, grace", "Nothing in it yet")
	})
}

func TestRememberMeOfOneUserIsNotTheNextOnes(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		b := s.Browser(t, shoptest.OnLinux)
		b.SignIn("ada", "remember", "yes")
		if cookie := b.SignIn("grace").Cookie; cookie == nil || cookie.MaxAge != 0 {
			t.Errorf("got %v, want a cookie that goes with the browser", cookie)
		}
	})
}

func TestRemovingTakesOneAway(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		b := s.Browser(t, shoptest.OnLinux)
		b.Post("/cart/remove", "item", "field").WantRedirect("/#cart") // of an empty cart
		b.Post("/cart/add", "item", "field")
		b.Post("/cart/add", "item", "field")
		b.Post("/cart/remove", "item", "field")
		b.Get("/").WantText("1 in your cart")
		b.Post("/cart/remove", "item", "field")
		b.Get("/").WantText("Nothing in it yet")
		b.Post("/cart/add", "item", "gold").WantStatus(http.StatusNotFound)
	})
}

func TestCartHoldsNoMoreThanItsBound(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		b := s.Browser(t, shoptest.OnLinux)
		for range 100 {
			b.Post("/cart/add", "item", "field").WantRedirect("/#field")
		}
		b.Get("/").WantText("99 in your cart")
	})
}

func TestParallelAddsAllCount(t *testing.T) {
	s := newSite(t, "memory")
	b := s.Browser(t, shoptest.OnLinux)
	b.Post("/cart/add", "item", "field")
	var adds sync.WaitGroup
	for range 20 {
		adds.Go(func() { b.Post("/cart/add", "item", "field") })
	}
	adds.Wait()
	b.Get("/").WantText("21 in your cart")
}

func TestSessionsPageListsThisUsersOwn(t *testing.T) {
	s := newSite(t, "memory")
	linux, phone, other := s.Browser(t, shoptest.OnLinux), s.Browser(t, shoptest.OnIPhone), s.Browser(t, shoptest.OnLinux)
	linux.SignIn("ada")
	phone.SignIn("ada")
	other.SignIn("grace")

	a := phone.Get("/sessions").WantText("Safari on iPhone This session", "Firefox on Linux", "Created", "Last used", "Expires")
	if ids := a.SessionIDs(); len(ids) != 2 {
		t.Errorf("got %d sessions, want ada's two", len(ids))
	}
	if n := strings.Count(a.Text, "This session"); n != 1 {
		t.Errorf("got %d sessions marked as this one, want 1", n)
	}
}

func TestRevokingAnotherSessionSignsItOut(t *testing.T) {
	s := newSite(t, "memory")
	linux, phone := s.Browser(t, shoptest.OnLinux), s.Browser(t, shoptest.OnIPhone)
	linux.SignIn("ada")
	phone.SignIn("ada")

	ids := phone.Get("/sessions").SessionIDs() // its own first
	if len(ids) != 2 {
		t.Fatalf("got %d sessions, want 2", len(ids))
	}
	phone.Post("/sessions/revoke", "id", ids[1]).WantRedirect("/sessions")
	phone.Get("/sessions").WantText("Signed out: Firefox on Linux")
	linux.Get("/dashboard").WantRedirect("/login")
	phone.Get("/dashboard").WantStatus(http.StatusOK)
}

func TestSessionOfANewerReleaseCanBeRevoked(t *testing.T) {
	s := newSite(t, "memory")
	newer, err := sessions.New(sessions.Config[shop.AppSession]{
		Keys:     s.Keys,
		Store:    s.Store,
		Owner:    func(data *shop.AppSession) string { return data.User },
		Version:  1,
		Upgrades: []sessions.Upgrade{sessions.From(0, func(old shop.AppSession) (shop.AppSession, error) { return old, nil })},
	})
	if err != nil {
		t.Fatal(err)
	}
	newer.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sessions.Get[shop.AppSession](r.Context()).Data.User = "ada"
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))

	b := s.Browser(t, shoptest.OnLinux)
	b.SignIn("ada")
	ids := b.Get("/sessions").WantText("Unknown device", "cannot read").SessionIDs()
	if len(ids) != 2 {
		t.Fatalf("got %d sessions, want 2", len(ids))
	}
	b.Post("/sessions/revoke", "id", ids[1]).WantRedirect("/sessions")
	b.Get("/sessions").WantText("Signed out: Unknown device")
	if ids = b.Get("/sessions").SessionIDs(); len(ids) != 1 {
		t.Errorf("got %d sessions, want 1", len(ids))
	}
}

func TestRevokingThisSessionIsSigningOut(t *testing.T) {
	s := newSite(t, "memory")
	b := s.Browser(t, shoptest.OnLinux)
	b.SignIn("ada")
	b.Post("/sessions/revoke", "id", b.Get("/sessions").SessionIDs()[0]).WantRedirect("/login")
	b.Get("/login").WantText("You have signed out")
	b.Get("/dashboard").WantRedirect("/login")
}

func TestUserCannotRevokeSomeoneElsesSession(t *testing.T) {
	s := newSite(t, "memory")
	ada, grace := s.Browser(t, shoptest.OnLinux), s.Browser(t, shoptest.OnIPhone)
	ada.SignIn("ada")
	grace.SignIn("grace")
	of := ada.Get("/sessions").SessionIDs()[0]

	for _, id := range []string{of, "", "nonsense"} {
		grace.Post("/sessions/revoke", "id", id).WantRedirect("/sessions")
		grace.Get("/sessions").WantText("not one of your sessions")
	}
	ada.Get("/dashboard").WantStatus(http.StatusOK)
}

func TestSigningOutEverywhereElseKeepsThisSession(t *testing.T) {
	s := newSite(t, "memory")
	here, there, elsewhere, other := s.Browser(t, shoptest.OnLinux), s.Browser(t, shoptest.OnIPhone), s.Browser(t, ""), s.Browser(t, shoptest.OnLinux)
	for _, b := range []*shoptest.Browser{here, there, elsewhere} {
		b.SignIn("ada")
	}
	other.SignIn("grace")

	here.Post("/sessions/revoke-others").WantRedirect("/sessions")
	here.Get("/sessions").WantText("Signed out everywhere else (2)")
	there.Get("/dashboard").WantRedirect("/login")
	elsewhere.Get("/dashboard").WantRedirect("/login")
	other.Get("/dashboard").WantStatus(http.StatusOK)
}

func TestWithoutAStoreThePageSaysWhyItCannotList(t *testing.T) {
	s := newSite(t, "cookie")
	b := s.Browser(t, shoptest.OnLinux)
	b.SignIn("ada")
	b.Get("/sessions").WantStatus(http.StatusOK).WantText("This cannot be listed here", "travels in a cookie")
	b.Post("/sessions/revoke", "id", "any").WantStatus(http.StatusNotImplemented)
	b.Post("/sessions/revoke-others").WantStatus(http.StatusNotImplemented)
}

func TestFormsOfAnotherSiteAreRefused(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		b := s.Browser(t, shoptest.OnLinux)
		b.SignIn("ada")
		for _, header := range [][2]string{
			{"Origin", "https://elsewhere.example"},
			{"Sec-Fetch-Site", "cross-site"},
		} {
			b.Header = header
			b.Post("/logout").WantStatus(http.StatusForbidden)
			b.Post("/cart/add", "item", "field").WantStatus(http.StatusForbidden)
		}
		b.Get("/dashboard").WantStatus(http.StatusOK).WantText("Nothing in it yet")
	})
}

func TestHTMLInAFlashIsEscaped(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		b := s.Browser(t, shoptest.OnLinux)
		b.Get("/test/flash?message=" + url.QueryEscape(`<script>alert("x")</script>`))
		a := b.Get("/login")
		if strings.Contains(a.Body, "<script") || !strings.Contains(a.Body, "&lt;script&gt;alert(") {
			t.Errorf("the message is not on the page, or not as text:\n%s", a.Body)
		}
	})
}

func TestStaticFilesAndHealthNeedNoSession(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		b := s.Browser(t, shoptest.OnLinux)
		b.SignIn("ada")
		for path, kind := range map[string]string{
			"/static/style.css": "text/css; charset=utf-8",
			"/static/icon.svg":  "image/svg+xml",
			"/static/end.js":    "text/javascript; charset=utf-8",
			"/healthz":          "text/plain; charset=utf-8",
		} {
			a := b.Get(path).WantStatus(http.StatusOK)
			if got := a.Header.Get("Content-Type"); got != kind {
				t.Errorf("%s: got Content-Type %q, want %q", path, got, kind)
			}
			if a.Header.Get("Vary") != "" || a.Cookie != nil {
				t.Errorf("%s: got Vary %q and cookie %v, want neither", path, a.Header.Get("Vary"), a.Cookie)
			}
		}
		b.Get("/static/").WantStatus(http.StatusNotFound)
	})
}

func TestVisitWithoutAChangeSetsNoCookie(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		if c := s.Browser(t, shoptest.OnLinux).Get("/").WantStatus(http.StatusOK).Cookie; c != nil {
			t.Errorf("got %v, want no cookie", c)
		}
	})
}

func TestPagesAllowNothingFromElsewhere(t *testing.T) {
	a := newSite(t, "cookie").Browser(t, shoptest.OnLinux).Get("/login")
	policy := a.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("got Content-Security-Policy %q", policy)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("got %s %q, want %q", name, got, want)
		}
	}
}

func TestPagesOfASignedInUserAreNotStored(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shoptest.Site) {
		b := s.Browser(t, shoptest.OnLinux)
		b.SignIn("ada")
		for _, path := range []string{"/", "/dashboard", "/sessions"} {
			if got := b.Get(path).WantStatus(http.StatusOK).Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("%s: got Cache-Control %q, want no-store", path, got)
			}
		}
	})
}

func newSite(t *testing.T, storeName string) *shoptest.Site {
	t.Helper()
	return newSiteWith(t, storeName, shop.Settings{})
}

func newSiteWith(t *testing.T, storeName string, settings shop.Settings) *shoptest.Site {
	t.Helper()
	t.Parallel()
	store, err := shop.OpenStore(t.Context(), storeName)
	if err != nil {
		t.Fatal(err)
	}
	return shoptest.NewSite(t, store, settings)
}

// everyStore runs the test on a site with sessions in cookies, and on one with a
// store.
func everyStore(t *testing.T, test func(*testing.T, *shoptest.Site)) {
	t.Parallel()
	for _, name := range []string{"cookie", "memory"} {
		t.Run(name, func(t *testing.T) { test(t, newSite(t, name)) })
	}
}

// The browser tests have the rest.
func TestOnlyASignInAsksTheBrowserToBind(t *testing.T) {
	for _, tt := range []struct {
		bind bool
		post string
		want bool
	}{
		{true, "username=ada&password=analytical+engine", true},
		{true, "username=ada&password=wrong", false},
		{false, "username=ada&password=analytical+engine", false},
	} {
		keys, err := sessions.NewKeyring(sessions.NewSecret())
		if err != nil {
			t.Fatal(err)
		}
		a, err := shop.New(keys, new(sessions.MemoryStore), bcrypt.MinCost, shop.Settings{Bind: tt.bind})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, "https://localhost/login", strings.NewReader(tt.post))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, r)
		if got := w.Header().Get("Secure-Session-Registration"); (got != "") != tt.want {
			t.Errorf("-dbsc %v, %s: got Secure-Session-Registration %q", tt.bind, tt.post, got)
		}
	}
}
