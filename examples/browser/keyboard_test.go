package browser

import (
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func TestShopWorksByKeyboardAlone(t *testing.T) {
	everyStore(t, func(t *testing.T, s *shop) {
		b := s.visitor()
		b.visit("/login") // the username has autofocus
		run(b, chromedp.WaitReady(chromedp.CSS("#username:focus")))
		b.press(ada + kb.Tab + password + kb.Tab + " " + kb.Tab)
		if !eval[bool](b, `document.querySelector("#remember").checked`) {
			t.Error("the space key did not tick remember me")
		}
		b.leads(chromedp.KeyEvent(kb.Enter))
		b.wantText("Hello, ada")
		if b.cookie().Session {
			t.Error("got a cookie that goes with the browser")
		}

		b.visit("/")
		b.tabTo("Add Dot grid journal to cart")
		b.leads(chromedp.KeyEvent(kb.Enter))
		b.wantText("1 in your cart")
		b.visit("/")
		b.tabTo("Sign out")
		b.leads(chromedp.KeyEvent(" "))
		b.wantText("You have signed out")
	})
}

func TestSkipLinkLeadsPastTheHeader(t *testing.T) {
	b := open(t).visitor()
	b.visit("/")
	b.press(kb.Tab)
	f := b.focused()
	if f.Name != "Skip to the content" || !f.Seen {
		t.Errorf("the first Tab reaches %+v, want the skip link, seen", f)
	}
	b.press(kb.Enter + kb.Tab)
	if got, want := b.focused().Name, "Add Field notebook to cart"; got != want {
		t.Errorf("the next Tab reaches %q, want %q", got, want)
	}
}

func TestTabReachesEverythingInOrderAndShowsWhereItIs(t *testing.T) {
	s := open(t, "-store", "memory", "-debug")
	b, other := s.visitor(), s.visitor()
	b.visit("/login")
	b.walk(t)
	other.signIn(ada, password)
	b.signIn(ada, password)
	b.visit("/")
	b.click("Add Ledger to cart")
	for _, path := range []string{"/", "/dashboard", "/sessions", "/debug/sessions"} {
		for _, scheme := range []string{"light", "dark"} {
			b.screen(1280, scheme)
			b.visit(path)
			b.walk(t)
		}
	}
}

// walk moves through the page from its top with the Tab key.
func (b *tab) walk(t *testing.T) {
	t.Helper()
	const inOrder = `[...document.querySelectorAll("a[href], button, input:not([type=hidden])")].map(nameOf)`
	want := eval[[]string](b, nameOf+inOrder)
	for eval[bool](b, "document.activeElement !== document.body") { // past the element with autofocus
		b.press(kb.Tab)
	}
	var got []string
	for range want {
		b.press(kb.Tab)
		f := b.focused()
		got = append(got, f.Name)
		if !f.Seen || f.Outline < 2 || f.Contrast < 3 {
			t.Errorf("%s: the focus on %q: in view %v, outline %v px, contrast %.1f; want it seen, 2 and 3",
				eval[string](b, "location.pathname"), f.Name, f.Seen, f.Outline, f.Contrast)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("Tab goes to\n%q, want\n%q", got, want)
	}
}

// tabTo presses Tab until the control with this name has the focus.
func (b *tab) tabTo(name string) {
	b.t.Helper()
	for range 50 {
		b.press(kb.Tab)
		if b.focused().Name == name {
			return
		}
	}
	b.t.Fatalf("no Tab reaches %q", name)
}

// A focus is the control that has the focus, and how visible that is.
type focus struct {
	Name     string
	Seen     bool    // inside the window
	Outline  float64 // its width in pixels, 0 if there is none
	Contrast float64 // of the outline against what is behind it
}

func (b *tab) focused() focus {
	b.t.Helper()
	return eval[focus](b, nameOf+colours+`(() => {
		const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
		return {
			Name: nameOf(e),
			Seen: box.top > -1 && box.left > -1 && box.bottom < innerHeight + 1 && box.right < innerWidth + 1 && box.height > 1,
			Outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
			Contrast: contrast(parse(style.outlineColor), behind(e.parentElement)),
		};
	})()`)
}

// nameOf defines a function that returns the name of a control.
const nameOf = `
	var nameOf = e => (e.labels?.[0] ?? e).textContent.replace(/\s+/g, " ").trim();
`
