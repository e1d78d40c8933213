package browser

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

const (
	ada      = "ada"
	password = "analytical engine"
)

func TestLoginErrorIsShownOnce(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shop) {
		b := s.visitor()
		b.visit("/login")
		b.fill(ada, "difference engine")
		b.click("Sign in")
		b.wantPath("/login")
		b.wantText("Invalid username or password")
		run(b, chromedp.Reload())
		b.wantNoText("Invalid username or password")
		b.fill(ada, password)
		b.click("Sign in")
		b.wantText("Hello, ada")
	})
}

func TestTwoTabsShareTheSession(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shop) {
		one := s.visitor()
		one.visit("/")
		other := one.beside()
		other.visit("/login")

		one.click("Add Field notebook to cart")
		one.signIn(ada, password)
		other.visit("/dashboard")
		other.wantText("Hello, ada")
		other.wantText("Field notebook × 1")

		other.click("Sign out")
		other.wantText("You have signed out")
		one.click("Where you are signed in")
		one.wantPath("/login")
		one.wantText("Please sign in first")
	})
}

func TestAddsInParallelTabsAllCount(t *testing.T) {
	s := open(t, "-store", "file:"+t.TempDir()) // slow enough for requests to overlap
	one := s.visitor()
	one.visit("/")
	one.click("Add Ledger to cart") // the session that they share
	tabs := []*tab{one, one.beside()}
	for _, b := range tabs {
		// The policy of the page forbids scripts, but only a script is fast enough
		// to send requests that overlap.
		run(b, command(page.SetBypassCSP, page.SetBypassCSPParams{Enabled: true}))
		b.visit("/")
	}
	for _, b := range tabs {
		eval[bool](b, `var adds = Promise.all(Array.from({length: 30}, () =>
			fetch("/cart/add", {method: "POST", body: new URLSearchParams({item: "ledger"})}))); true`)
	}
	for _, b := range tabs {
		if !run(b, chromedp.Evaluate[bool](`adds.then(all => all.every(a => a.ok))`, chromedp.EvalAwaitPromise)) {
			t.Error("not every add was answered well")
		}
	}
	one.visit("/")
	one.wantText("61 in your cart")
}

func TestRememberMeOutlivesTheBrowser(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shop) {
		b := s.visitor()
		b.signIn(ada, password)
		if c := b.cookie(); !c.Session || !c.HTTPOnly || c.SameSite != network.CookieSameSiteLax {
			t.Errorf("got a cookie with Session %v, HttpOnly %v, SameSite %v, want one that goes with the browser, HttpOnly and Lax",
				c.Session, c.HTTPOnly, c.SameSite)
		}
		b.click("Sign out")
		b.fill(ada, password)
		run(b, chromedp.Click(chromedp.CSS("#remember")))
		b.click("Sign in")
		c := b.cookie()
		left := time.Until(time.Unix(int64(c.Expires), 0))
		if off := left - 30*24*time.Hour; c.Session || math.Abs(off.Minutes()) > 5 {
			t.Errorf("got a cookie that expires in %v, want 30 days", left)
		}
	})
}

// The README says so to users who try the zero Config on their own machine.
func TestSecureCookieIsKeptOnLocalhostWithoutTLS(t *testing.T) {
	b := open(t, "-secure").visitor()
	b.signIn(ada, password)
	b.visit("/dashboard")
	b.wantText("Hello, ada")
}

func TestRevokedDeviceIsSignedOutAtItsNextClick(t *testing.T) {
	s := open(t, "-store", "memory")
	desktop, phone := s.visitor(), s.visitor()
	phone.becomePhone()
	desktop.signIn(ada, password)
	phone.signIn(ada, password)

	desktop.visit("/sessions")
	desktop.wantText("Chrome on Linux")
	desktop.click("Revoke Safari on iPhone")
	desktop.wantText("Signed out: Safari on iPhone")
	phone.click("Sessions")
	phone.wantPath("/login")
	phone.wantText("Please sign in first")

	phone.signIn(ada, password)
	phone.click("Sessions")
	phone.click("Sign out everywhere else")
	phone.wantText("Signed out everywhere else (1)")
	desktop.click("Dashboard")
	desktop.wantPath("/login")

	phone.click("Sign out Safari on iPhone") // its own session, which is not another device
	phone.wantText("You have signed out")
}

func TestOpenPageOfARevokedDeviceSaysSo(t *testing.T) {
	s := open(t, "-store", "memory")
	desktop, phone := s.visitor(), s.visitor()
	phone.becomePhone()
	desktop.signIn(ada, password)
	phone.signIn(ada, password)
	phone.visit("/dashboard")

	var frames strip
	desktop.screen(390, "light")
	desktop.visit("/sessions")
	frames.take(desktop)
	desktop.click("Revoke Safari on iPhone")
	desktop.wantText("Signed out: Safari on iPhone")
	frames.take(desktop)
	phone.wantText("This device has been signed out") // without a click
	frames.take(phone)
	frames.save(phone, "revoked-elsewhere")

	desktop.wantNoText("This device has been signed out")
}

const iPhone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 " +
	"(KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"

func (b *tab) becomePhone() {
	b.t.Helper()
	run(b, command(emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: iPhone}))
	b.screen(390, "light")
}

func TestBackButtonShowsNothingPrivateAfterSigningOut(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shop) {
		b := s.visitor()
		b.signIn(ada, password)
		b.click("Sessions")
		b.click("Dashboard")
		b.click("Sign out")
		b.wantPath("/login")
		for range 3 {
			b.back()
			b.wantPath("/login")
			b.wantNoText("Hello, ada")
		}
	})
}

func TestCookieOfASignedOutSessionOpensNothing(t *testing.T) {
	s := open(t, "-store", "memory")
	b := s.visitor()
	b.signIn(ada, password)
	old := b.cookie().Value
	b.click("Sign out")

	thief := s.visitor()
	for _, b := range []*tab{b, thief} {
		b.setCookie(old)
		b.visit("/dashboard")
		b.wantPath("/login")
	}
}

func TestShopNeedsNoScript(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shop) {
		b := s.visitor()
		run(b, command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
		run(b, chromedp.Navigate("data:text/html,<title>off</title><script>document.title='on'</script>"))
		if title := run(b, chromedp.Title()); title != "off" {
			t.Fatalf("scripts run: title %q", title)
		}
		b.visit("/login")
		b.fill(ada, "wrong")
		b.click("Sign in")
		b.wantText("Invalid username or password")
		b.visit("/")
		b.click("Add Staff book to cart")
		b.wantText("1 in your cart")
		b.click("Remove one Staff book")
		b.wantText("Nothing in it yet")
		b.signIn(ada, password)
		b.click("Sign out")
		b.wantText("You have signed out")
		if page := eval[string](b, "document.documentElement.outerHTML"); strings.Contains(page, "<script") {
			t.Error("there is a script on the page")
		}
	})
}
