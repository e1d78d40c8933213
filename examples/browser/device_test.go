package browser

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// The cookies of the shop with the flag -dbsc.
const (
	sessionCookie = "__Host-Http-session"
	boundCookie   = "__Host-session-bound"
)

// binding starts a browser that binds sessions, with its profile in a folder. It
// runs until stop is called, at the latest until the test ends.
func (s *shop) binding(dir string) (browser context.Context, stop func()) {
	s.t.Helper()
	browser, stop, err := startBrowser(
		chromedp.UserDataDir(dir),
		chromedp.Flag("enable-features", "DeviceBoundSessions,EnableBoundSessionCredentialsSoftwareKeysForManualTesting"),
		chromedp.Flag("ignore-certificate-errors-spki-list", s.trust),
	)
	s.t.Cleanup(stop)
	if err != nil {
		s.t.Fatal(err)
	}
	return browser, stop
}

// profile returns an empty folder. Unlike that of t.TempDir, it may still be
// written to by a process of the browser when the test ends.
func profile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "login-profile-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A device is a tab that hears what the browser does about bound sessions.
type device struct {
	*tab
	events chan network.EventDeviceBoundSessionEventOccurred
}

// device opens a tab of its own device: other cookies, other keys.
func (s *shop) device(t *testing.T, browser context.Context) *device {
	t.Helper()
	return listen(openTab(t, browser, s.url, chromedp.WithNewBrowserContext()))
}

func listen(b *tab) *device {
	b.t.Helper()
	d := &device{b, make(chan network.EventDeviceBoundSessionEventOccurred, 100)}
	heard := chromedp.Events(d.ctx, network.DeviceBoundSessionEventOccurred)
	go func() { // until the tab is closed
		for e, err := range heard {
			if err == nil {
				d.events <- e
			}
		}
	}()
	run(b, command(network.EnableDeviceBoundSessions, network.EnableDeviceBoundSessionsParams{Enable: true}))
	return d
}

// outcome says what an event is, and how it went.
func outcome(e network.EventDeviceBoundSessionEventOccurred) string {
	switch {
	case e.CreationEventDetails != nil:
		return "registration: " + string(e.CreationEventDetails.FetchResult)
	case e.RefreshEventDetails != nil:
		if f := e.RefreshEventDetails.FetchResult; f != "" && f != network.DeviceBoundSessionFetchResultSuccess {
			return "refresh: " + string(f)
		}
		return "refresh: " + string(e.RefreshEventDetails.RefreshResult)
	case e.TerminationEventDetails != nil:
		return "end: " + string(e.TerminationEventDetails.DeletionReason)
	}
	return "challenge"
}

const (
	registered = "registration: Success"
	refreshed  = "refresh: Refreshed"
	refused    = "refresh: ServerRequestedTermination"
	forgotten  = "end: ServerRequested"
	replaced   = "end: Replaced"
)

// wantOutcome waits until the browser tells an outcome. Before it come only such
// as say nothing new.
func (d *device) wantOutcome(want string) {
	d.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e := <-d.events:
			switch got := outcome(e); got {
			case want:
				return
			case "challenge", "refresh: InitializedService", "refresh: InScopeRefreshNotYetNeeded", "refresh: RefreshedAsWaiter":
			default:
				d.t.Fatalf("got %q, want %q", got, want)
			}
		case <-timeout:
			d.t.Fatalf("nothing more happened, want %q", want)
		}
	}
}

// signInBound signs in, and waits until the browser has registered its key.
func (d *device) signInBound() {
	d.t.Helper()
	d.signIn(ada, password)
	d.wantOutcome(registered)
	d.visit("/sessions")
	d.wantText("Bound to its device")
}

// signInWithoutBinding signs in as a browser does that does not take part.
func (s *shop) signInWithoutBinding(t *testing.T) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.url+"/login", strings.NewReader(url.Values{"username": {ada}, "password": {password}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("User-Agent", iPhone)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if got := answer.Header.Get("Location"); got != "/dashboard" {
		t.Fatalf("got status %d and Location %q, want /dashboard", answer.StatusCode, got)
	}
}

// expire does what the end of the bound cookie does, ten minutes early.
func (d *device) expire() {
	d.t.Helper()
	run(d.tab, command(network.DeleteCookies, network.DeleteCookiesParams{Name: boundCookie, URL: d.shop}))
}

// jar returns the cookies by their names.
func (d *device) jar() map[string]*network.Cookie {
	d.t.Helper()
	jar := make(map[string]*network.Cookie)
	for _, c := range run(d.tab, command(network.GetCookies, network.GetCookiesParams{URLs: []string{d.shop}})).Cookies {
		jar[c.Name] = c
	}
	return jar
}

// told returns how often the server has told an event of this session.
func (d *device) told(event string) int {
	d.t.Helper()
	d.visit("/debug/sessions")
	return eval[int](d.tab, fmt.Sprintf(`[...document.querySelectorAll(".events li")].filter(li =>
		li.querySelector("strong").textContent === %q && li.querySelector(".badge")).length`, event))
}

// Chromium signs six times in nine minutes for a site, so every test has a device
// of its own.
func TestBoundSessionsInABrowser(t *testing.T) {
	s := open(t, "-dbsc", "-debug")
	browser, _ := s.binding(profile(t))

	t.Run("a sign-in is bound to its device", func(t *testing.T) {
		s.signInWithoutBinding(t)
		d := s.device(t, browser)
		d.signInBound()
		if got := eval[string](d.tab, `[...document.querySelectorAll(".place .head")].map(e => e.innerText.replace(/\s+/g, " ")).join("; ")`); got !=
			"Chrome on Linux This session Bound to its device; Safari on iPhone" {
			t.Errorf("got the list %q", got)
		}
		d.everyScreen("sessions-bound")
		bound := d.jar()[boundCookie]
		left := time.Until(time.Unix(int64(bound.Expires), 0))
		if !bound.HTTPOnly || !bound.Secure || left > 10*time.Minute || left < 8*time.Minute {
			t.Errorf("got a bound cookie with HttpOnly %v and Secure %v that lasts %v", bound.HTTPOnly, bound.Secure, left)
		}
	})

	t.Run("a page after the end of the bound cookie waits for another one", func(t *testing.T) {
		d := s.device(t, browser)
		d.signInBound()
		d.expire()
		d.visit("/dashboard")
		d.wantText("Hello, ada")
		d.wantOutcome(refreshed)
		if d.jar()[boundCookie] == nil {
			t.Error("the browser has no bound cookie")
		}
	})

	t.Run("a form after the end of the bound cookie keeps what was filled in", func(t *testing.T) {
		d := s.device(t, browser)
		d.signInBound()
		d.visit("/")
		d.expire()
		d.click("Add Field notebook to cart")
		d.wantText("1 in your cart")
		d.wantOutcome(refreshed)
	})

	t.Run("two tabs share one refresh", func(t *testing.T) {
		d := s.device(t, browser)
		d.signInBound()
		tabs := []*tab{d.tab, d.beside()}
		tabs[1].visit("/dashboard")
		d.expire()
		for _, b := range tabs {
			eval[bool](b, `var statuses = Promise.all([1, 2, 3].map(() => fetch("/dashboard").then(a => a.status))); true`)
		}
		for _, b := range tabs {
			if got := run(b, chromedp.Evaluate[string](`statuses.then(String)`, chromedp.EvalAwaitPromise)); got != "200,200,200" {
				t.Errorf("got the statuses %s, want 200 each", got)
			}
		}
		d.wantOutcome(refreshed)
		if got := d.told("device refreshed"); got != 1 {
			t.Errorf("got %d refreshes, want 1", got)
		}
	})

	t.Run("a link from another site comes through", func(t *testing.T) {
		d := s.device(t, browser)
		d.signInBound()
		elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `<!doctype html><title>mail</title><a href="%s/dashboard">Your orders</a>`, s.url)
		}))
		defer elsewhere.Close()
		run(d.tab, chromedp.Navigate(elsewhere.URL))
		d.expire()
		d.click("Your orders")
		d.wantOutcome(refreshed)
		run(d.tab, chromedp.WaitReady("//h1[contains(., 'Hello, ada')]"))
		if got := d.told("device reloaded"); got != 1 {
			t.Errorf("the server has asked %d times to load again, want once", got)
		}
	})

	t.Run("a copied pair of cookies is refused after the end of the bound one", func(t *testing.T) {
		d, thief := s.device(t, browser), s.device(t, browser)
		d.signInBound()
		yes := true
		for _, c := range d.jar() {
			run(thief.tab, command(network.SetCookie, network.SetCookieParams{Name: c.Name, Value: c.Value, URL: d.shop,
				Path: "/", Secure: &yes, HTTPOnly: &yes, SameSite: c.SameSite}))
		}
		thief.visit("/dashboard")
		thief.wantText("Hello, ada") // for ten minutes
		thief.expire()
		for _, path := range []string{"/dashboard", "/sessions", "/"} {
			thief.visit(path)
			thief.wantText("This session belongs to another device")
			thief.wantNoText("ada")
		}
		if got := run(thief.tab, chromedp.Evaluate[int](`fetch("/cart/add", {method: "POST", body: new URLSearchParams({item: "field"})}).then(a => a.status)`,
			chromedp.EvalAwaitPromise)); got != http.StatusForbidden {
			t.Errorf("a form of the thief: got status %d, want 403", got)
		}
		thief.visit("/login")
		thief.wantText("Sign in")

		d.expire()
		d.visit("/")
		d.wantOutcome(refreshed)
		d.wantText("Nothing in it yet")
		d.visit("/dashboard")
		d.wantText("Hello, ada")
	})

	t.Run("after signing out, the browser forgets the session and binds the next one", func(t *testing.T) {
		d := s.device(t, browser)
		d.signInBound()
		d.click("Sign out")
		d.wantText("You have signed out")
		d.expire()
		d.visit("/")
		d.wantOutcome(refused)
		d.wantOutcome(forgotten)
		d.signInBound()
	})

	t.Run("a second sign-in replaces the first", func(t *testing.T) {
		d := s.device(t, browser)
		d.signInBound()
		d.click("Sign out")
		d.fill(ada, password)
		d.click("Sign in")
		d.wantOutcome(replaced)
		d.wantOutcome(registered)
		d.visit("/sessions")
		d.wantText("Bound to its device")
	})
}

// Without a store, the binding is in the cookie that the registration sets.
func TestASessionInACookieIsBoundToo(t *testing.T) {
	s := open(t, "-dbsc", "-debug", "-store", "cookie")
	browser, _ := s.binding(profile(t))
	d := s.device(t, browser)
	d.signIn(ada, password)
	d.wantOutcome(registered)
	d.visit("/dashboard")
	d.visit("/debug/sessions")
	d.wantText(`"Bound": true`)
	d.expire()
	d.visit("/dashboard")
	d.wantText("Hello, ada")
	d.wantOutcome(refreshed)
}

// The browser keeps its key and its cookies in the profile.
func TestABoundSessionOutlivesTheBrowser(t *testing.T) {
	s := open(t, "-dbsc", "-debug")
	dir := profile(t)
	browser, stop := s.binding(dir)
	d := listen(openTab(t, browser, s.url))
	d.visit("/login")
	d.fill(ada, password)
	run(d.tab, chromedp.Click(chromedp.CSS("#remember")))
	d.click("Sign in")
	d.wantOutcome(registered)
	d.visit("/sessions")
	d.wantText("Bound to its device")
	stop()

	browser, _ = s.binding(dir)
	d = listen(openTab(t, browser, s.url))
	d.expire()
	d.visit("/dashboard")
	d.wantText("Hello, ada")
	d.wantOutcome(refreshed)
	if got := d.told("device registered"); got != 1 {
		t.Errorf("the browser has registered %d times, want once, before it was restarted", got)
	}
}
