package proxies

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/login/shop"
)

// TestVisitInTwoBrowsers visits the demo behind each proxy, with the cookie for TLS
// and with the one for development. Both browsers accept the first one from
// http://localhost too.
func TestVisitInTwoBrowsers(t *testing.T) {
	for _, b := range []browser{chromium, firefox} {
		t.Run(b.name, func(t *testing.T) {
			newTab := b.start(t)
			for _, p := range proxies {
				for _, want := range []cookie{
					{Name: "__Host-Http-session", Domain: "localhost", Path: "/", SameSite: "lax", Secure: true, HTTPOnly: true},
					{Name: "session", Domain: "localhost", Path: "/", SameSite: "lax", HTTPOnly: true},
				} {
					t.Run(p.name+"/"+want.Name, func(t *testing.T) {
						app := newShop(t, want.Secure)
						addr := serve(t, app.Handler())
						t.Cleanup(app.Stop)
						site := strings.Replace(p.start(t, "", addr), "127.0.0.1", "localhost", 1)
						tab, err := newTab()
						if err != nil {
							t.Fatal(err)
						}
						t.Cleanup(func() {
							if err := tab.close(); err != nil {
								t.Error(err)
							}
						})
						v := &visitor{T: t, tab: tab, site: site}
						v.visitTheShop(b.label, want)
					})
				}
			}
		})
	}
}

func newShop(t *testing.T, secure bool) *shop.App {
	t.Helper()
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	app, err := shop.New(keys, new(sessions.MemoryStore), bcrypt.MinCost, shop.Settings{Secure: secure})
	if err != nil {
		t.Fatal(err)
	}
	return app
}

func (v *visitor) visitTheShop(device string, want cookie) {
	v.visit("/login")
	v.signIn("difference engine")
	v.wantPage("/login", "Invalid username or password", "")
	v.leave("location.reload()")
	v.wantPage("/login", "Sign in", "Invalid username or password")

	v.signIn(shop.Passwords[shop.DemoUser])
	v.wantPage("/dashboard", "Hello, ada", "")
	v.wantCookie(want)
	v.leave("location.reload()")
	v.wantPage("/dashboard", "Hello, ada", "")
	v.click("Sessions")
	v.wantPage("/sessions", device, "")

	v.click("Sign out")
	v.wantPage("/login", "You have signed out", "Hello, ada")
	v.leave("location.reload()")
	v.wantPage("/login", "Sign in", "You have signed out")
	for range 2 { // the list of sessions, and the dashboard
		v.leave("history.back()")
		v.wantPage("/login", "Please sign in first", "")
	}
}

// A visitor uses the demo with one tab of a browser.
type visitor struct {
	*testing.T
	tab  tab
	site string // the URL of the proxy
	left int    // how many documents were left
}

func (v *visitor) visit(path string) {
	v.Helper()
	v.leave(fmt.Sprintf("location.href = %q", v.site+path))
}

func (v *visitor) signIn(password string) {
	v.Helper()
	v.evaluate(fmt.Sprintf("document.getElementById('username').value = %q", shop.DemoUser))
	v.evaluate(fmt.Sprintf("document.getElementById('password').value = %q", password))
	v.click("Sign in")
}

// click presses the button or follows the link with this text in the page.
func (v *visitor) click(text string) {
	v.Helper()
	v.leave(fmt.Sprintf("[...document.querySelectorAll('a, button')].find(e => e.textContent.trim() === %q).click()", text))
}

// leave evaluates an expression that makes the browser show another page of the
// site, and waits for that. A page from the memory of the browser fires no load
// event, and on the way to a page Firefox may show an empty document.
func (v *visitor) leave(expression string) {
	v.Helper()
	v.left++
	v.evaluate(fmt.Sprintf("document.documentElement.dataset.left = %d", v.left))
	v.evaluate(expression)
	try := time.NewTicker(10 * time.Millisecond)
	defer try.Stop()
	late := time.After(browserPatience)
	there := fmt.Sprintf("location.origin === %q && document.documentElement.dataset.left !== '%d' && document.readyState", v.site, v.left)
	for {
		got, err := v.tab.evaluate(there) // an error occurs between two documents
		if err == nil && got == "complete" {
			return
		}
		select {
		case <-try.C:
		case <-late:
			v.Fatalf("%s leads nowhere: %v", expression, err)
		}
	}
}

func (v *visitor) evaluate(expression string) string {
	v.Helper()
	got, err := v.tab.evaluate(expression)
	if err != nil {
		v.Fatal(err)
	}
	return got
}

func (v *visitor) wantPage(path, text, noText string) {
	v.Helper()
	gotPath, gotText := v.evaluate("location.pathname"), v.evaluate("document.body.innerText")
	if gotPath != path || !strings.Contains(gotText, text) || noText != "" && strings.Contains(gotText, noText) {
		v.Fatalf("got the page %s, want %s with %q and without %q:\n%s", gotPath, path, text, noText, gotText)
	}
}

// wantCookie checks the only cookie that the browser keeps.
func (v *visitor) wantCookie(want cookie) {
	v.Helper()
	got, err := v.tab.cookies()
	if err != nil {
		v.Fatal(err)
	}
	for i := range got {
		got[i].SameSite = strings.ToLower(got[i].SameSite) // Chromium writes Lax
	}
	if !slices.Equal(got, []cookie{want}) {
		v.Fatalf("got the cookies %+v, want %+v", got, want)
	}
}
