package browser

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
)

// pages are all pages except the sign-in form, with the names of their pictures.
var pages = []struct{ name, path string }{
	{"shop", "/"}, {"dashboard", "/dashboard"}, {"sessions", "/sessions"}, {"debug", "/debug/sessions"},
}

// TestPagesLookRightEverywhere also saves the pictures.
func TestPagesLookRightEverywhere(t *testing.T) {
	s := open(t, "-store", "memory", "-debug")
	phone := s.visitor()
	phone.becomePhone()
	phone.signIn(ada, password)
	thief := s.visitor() // for the list of events
	thief.signIn("grace", "nanosecond wire")
	old := thief.cookie().Value
	thief.click("Sign out")
	thief.setCookie(old)
	thief.visit("/dashboard")

	b := s.visitor()
	b.visit("/login")
	b.fill(ada, "wrong")
	b.click("Sign in")
	b.everyScreen("login-error")
	b.visit("/")
	b.click("Add Dot grid journal to cart")
	b.click("Add Dot grid journal to cart")
	b.click("Add Staff book to cart")
	b.visit("/login")
	b.everyScreen("login")
	b.signIn(ada, password)
	for _, p := range pages {
		b.visit(p.path)
		b.everyScreen(p.name)
		b.screen(320, "light") // which is 1280 at a zoom of 400 %
		b.wantFit(320)
	}
	without := open(t).visitor()
	without.visit("/")
	without.everyScreen("shop-empty")
	without.signIn(ada, password)
	without.visit("/sessions")
	without.everyScreen("sessions-cookie")
}

// everyScreen checks the open page on every kind of screen.
func (b *tab) everyScreen(name string) {
	b.t.Helper()
	b.wantAccessible()
	for _, width := range []int{1280, 390} {
		for _, scheme := range []string{"light", "dark"} {
			b.screen(width, scheme)
			b.wantFit(width)
			b.wantContrast()
			b.picture(fmt.Sprintf("%s-%d-%s", name, width, scheme))
		}
	}
}

// wantFit checks that the page needs no horizontal scrolling, and that no control is
// too small to hit. It does not use innerWidth, which grows with the page on a
// phone.
func (b *tab) wantFit(width int) {
	b.t.Helper()
	if got := eval[int](b, "document.documentElement.scrollWidth"); got > width {
		b.t.Errorf("%s is %d pixels wide on a screen of %d", eval[string](b, "location.pathname"), got, width)
	}
	// 24 CSS pixels, WCAG 2.2, success criterion 2.5.8.
	small := eval[[]string](b, nameOf+`[...document.querySelectorAll("button, input:not([type=hidden]), nav a")]
		.filter(e => { const r = e.getBoundingClientRect(); return r.width < 24 || r.height < 24 }).map(nameOf)`)
	if len(small) > 0 {
		b.t.Errorf("too small to hit with a finger: %q", small)
	}
}

// colours defines functions for the relative luminance of WCAG 2.2 and for the
// background of an element.
const colours = `
	var parse = s => { const [r, g, b, a = 1] = s.match(/[\d.]+/g).map(Number); return [r, g, b, a] };
	var over = (f, b) => [0, 1, 2].map(i => f[i] * f[3] + b[i] * (1 - f[3])).concat(1);
	var behind = e => {
		const layers = [];
		for (; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
		return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
	};
	var luminance = c => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
		const v = c[i] / 255;
		return sum + weight * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
	}, 0);
	var contrast = (a, b) => {
		const [x, y] = [luminance(over(a, b)), luminance(b)];
		return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
	};
`

// wantContrast checks the contrast of all texts, at least 4.5, or 3 if large, and of
// the edges of all fields, at least 3 (WCAG 2.2, success criteria 1.4.3 and 1.4.11).
func (b *tab) wantContrast() {
	b.t.Helper()
	for _, faint := range eval[[]string](b, colours+`(() => {
		const faint = [], note = (what, got, want) => { if (got < want) faint.push(what + " " + got.toFixed(2)) };
		const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		for (let n; n = texts.nextNode();) {
			if (!n.data.trim()) continue;
			const e = n.parentElement, style = getComputedStyle(e), px = parseFloat(style.fontSize);
			const large = px >= 24 || px >= 18.66 && style.fontWeight >= 700;
			note(n.data.trim(), contrast(parse(style.color), behind(e)), large ? 3 : 4.5);
		}
		for (const e of document.querySelectorAll("input:not([type=hidden]):not([type=checkbox])"))
			if (e !== document.activeElement) // that one has an outline
				note("#" + e.id, contrast(parse(getComputedStyle(e).borderTopColor), behind(e)), 3);
		return faint;
	})()`) {
		b.t.Errorf("%s: too faint: %s", eval[string](b, "location.pathname"), faint)
	}
}

// wantAccessible checks the page as a screen reader gets it.
func (b *tab) wantAccessible() {
	b.t.Helper()
	path := eval[string](b, "location.pathname")
	count := make(map[string]int)
	for _, n := range run(b, command(accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})).Nodes {
		if n.Ignored {
			continue
		}
		role, name := valueOf(n.Role), strings.TrimSpace(valueOf(n.Name))
		count[role]++
		switch role {
		case "textbox", "checkbox", "button", "link", "heading", "navigation", "region", "image", "columnheader":
			if name == "" {
				b.t.Errorf("%s: a %s has no name", path, role)
			}
		case "RootWebArea":
			if title, site, ok := strings.Cut(name, " · "); !ok || title == "" || site != "Marginalia" {
				b.t.Errorf("%s: got the title %q", path, name)
			}
		}
	}
	for _, role := range []string{"banner", "navigation", "main", "contentinfo"} {
		if count[role] != 1 {
			b.t.Errorf("%s: got %d landmarks %s, want 1", path, count[role], role)
		}
	}
	if lang := eval[string](b, "document.documentElement.lang"); lang != "en" {
		b.t.Errorf("%s: got the language %q, want en", path, lang)
	}
	levels := eval[[]int](b, `[...document.querySelectorAll("h1, h2, h3, h4")].map(e => +e.tagName[1])`)
	for i, level := range levels {
		if i == 0 && level != 1 || i > 0 && (level == 1 || level > levels[i-1]+1) {
			b.t.Errorf("%s: got headings of levels %v, want one h1, first, and none left out", path, levels)
		}
	}
	inputs := eval[[]string](b, `[...document.querySelectorAll("input:not([type=hidden])")].filter(e => !e.labels.length).map(e => e.name)`)
	if len(inputs) > 0 {
		b.t.Errorf("%s: inputs without a label: %q", path, inputs)
	}
}

func valueOf(v *accessibility.Value) string {
	var s string
	if v != nil {
		json.Unmarshal(v.Value, &s) // of another type: ""
	}
	return s
}
