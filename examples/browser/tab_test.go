package browser

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// A tab is one tab of the browser, in which a page of the shop is open.
type tab struct {
	t        *testing.T
	ctx      context.Context
	shop     string
	pictures string // the folder for them
}

// visitor opens a tab with its own cookies, as on another device.
func (s *shop) visitor() *tab {
	s.t.Helper()
	return openTab(s.t, shared.browser, s.url, chromedp.WithNewBrowserContext())
}

// beside opens a tab next to this one, with the same cookies.
func (b *tab) beside() *tab {
	b.t.Helper()
	return openTab(b.t, b.ctx, b.shop)
}

func openTab(t *testing.T, parent context.Context, shop string, options ...chromedp.ContextOption) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent, options...)
	t.Cleanup(cancel)
	b := &tab{t, ctx, shop, cmp.Or(os.Getenv("SCREENSHOTS"), t.ArtifactDir())}
	if err := chromedp.Do(ctx); err != nil { // a deadline here would be that of the tab
		t.Fatal(err)
	}
	// Every tab behaves as if it were in front. Otherwise only the last one would get
	// the keys.
	run(b, command(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}))
	b.screen(1280, "light")
	t.Cleanup(func() {
		if t.Failed() {
			b.picture("failed-" + strings.ReplaceAll(t.Name(), "/", "-"))
		}
	})
	return b
}

// run runs an action in the tab.
func run[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[R] {
	return func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, c, params) }
}

// eval evaluates an expression in the page, as the developer console does: neither
// the policy of the page nor disabled scripts forbid that.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	return run(b, chromedp.Evaluate[T](expression))
}

func (b *tab) visit(path string) {
	b.t.Helper()
	run(b, chromedp.Navigate(b.shop+path))
}

// leads runs an action that makes the browser load another page, and waits for the
// page.
func (b *tab) leads(what chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, what); err != nil {
		b.t.Fatal(err)
	}
}

// click presses the button or follows the link with exactly this text.
func (b *tab) click(text string) {
	b.t.Helper()
	path := fmt.Sprintf(`//*[self::a or self::button][normalize-space(.)=%q]`, text)
	b.leads(chromedp.Click(path, chromedp.NodeVisible))
}

func (b *tab) signIn(name, password string) {
	b.t.Helper()
	b.visit("/login")
	b.fill(name, password)
	b.click("Sign in")
	b.wantPath("/dashboard")
}

func (b *tab) fill(name, password string) {
	b.t.Helper()
	run(b, chromedp.SendKeys(chromedp.CSS("#username"), name))
	run(b, chromedp.SendKeys(chromedp.CSS("#password"), password))
}

func (b *tab) press(keys string) {
	b.t.Helper()
	run(b, chromedp.KeyEvent(keys))
}

func (b *tab) wantPath(want string) {
	b.t.Helper()
	if got := eval[string](b, "location.pathname"); got != want {
		b.t.Fatalf("got the page %s, want %s; it says:\n%s", got, want, b.text())
	}
}

func (b *tab) text() string {
	b.t.Helper()
	return eval[string](b, "document.body.innerText")
}

func (b *tab) wantText(want string) {
	b.t.Helper()
	if got := b.text(); !strings.Contains(got, want) {
		b.t.Errorf("got a page without %q:\n%s", want, got)
	}
}

func (b *tab) wantNoText(text string) {
	b.t.Helper()
	if got := b.text(); strings.Contains(got, text) {
		b.t.Errorf("got a page that says %q:\n%s", text, got)
	}
}

// cookie returns the session cookie as the browser keeps it.
func (b *tab) cookie() *network.Cookie {
	b.t.Helper()
	for _, c := range run(b, command(network.GetCookies, network.GetCookiesParams{URLs: []string{b.shop}})).Cookies {
		if c.Name == "session" {
			return c
		}
	}
	b.t.Fatal("the browser has no session cookie")
	return nil
}

func (b *tab) setCookie(value string) {
	b.t.Helper()
	run(b, command(network.SetCookie, network.SetCookieParams{Name: "session", Value: value, URL: b.shop}))
}

// screen sets the width of the window and the preferred scheme, "light" or "dark".
func (b *tab) screen(width int, scheme string) {
	b.t.Helper()
	height, options := int64(800), []chromedp.EmulateViewportOption(nil)
	if width < 600 {
		height, options = 844, append(options, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait)
	}
	run(b, chromedp.EmulateViewport(int64(width), height, options...))
	features := []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme},
		{Name: "prefers-reduced-motion", Value: "reduce"}, // a click must not miss an element that moves
	}
	run(b, command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features}))
}

// picture saves the content of the window.
func (b *tab) picture(name string) {
	b.t.Helper()
	b.save(name, run(b, chromedp.CaptureScreenshot()))
}

func (b *tab) save(name string, png []byte) {
	b.t.Helper()
	if err := os.MkdirAll(b.pictures, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.pictures, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// A strip is a picture of several moments, from left to right.
type strip []image.Image

// take adds the upper part of the content of the window.
func (s *strip) take(b *tab) {
	b.t.Helper()
	frame, err := png.Decode(bytes.NewReader(run(b, chromedp.CaptureScreenshot())))
	if err != nil {
		b.t.Fatal(err)
	}
	*s = append(*s, frame)
}

// save saves the strip among the pictures of b.
func (s strip) save(b *tab, name string) {
	b.t.Helper()
	const height, gap = 820, 20
	width := -gap
	for _, frame := range s {
		width += frame.Bounds().Dx() + gap
	}
	all := image.NewNRGBA(image.Rect(0, 0, width, height)) // transparent between the frames
	x := 0
	for _, frame := range s {
		draw.Draw(all, image.Rect(x, 0, x+frame.Bounds().Dx(), height), frame, frame.Bounds().Min, draw.Src)
		x += frame.Bounds().Dx() + gap
	}
	var out bytes.Buffer
	if err := png.Encode(&out, all); err != nil {
		b.t.Fatal(err)
	}
	b.save(name, out.Bytes())
}

// back clicks on Back. A page from the memory of the browser fires no load event,
// so back waits until there is another document.
func (b *tab) back() {
	b.t.Helper()
	// Not before the answer, which would be lost with the page.
	eval[bool](b, "document.documentElement.dataset.left = true; setTimeout(() => history.back()); true")
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	there := chromedp.Evaluate[bool](`!document.documentElement.dataset.left && document.readyState === "complete"`)
	for ok := false; !ok; ok, _ = chromedp.Run(ctx, there) { // an error occurs between two documents
		if ctx.Err() != nil {
			b.t.Fatal("the button leads nowhere")
		}
	}
}
