package shop_test

import (
	"net/http"
	"testing"

	"github.com/typedsessions/sessions/examples/internal/shoptest"
	"github.com/typedsessions/sessions/examples/login/shop"
)

func TestDebugPageIsOffByDefault(t *testing.T) {
	b := newSite(t, "memory").Browser(t, shoptest.OnLinux)
	b.Get("/debug/sessions").WantStatus(http.StatusNotFound)
	b.Get("/").WantNoText("from inside")
}

func TestDebugPageShowsWhatThisSessionHolds(t *testing.T) {
	for _, store := range []string{"cookie", "memory"} {
		t.Run(store, func(t *testing.T) {
			b := newSiteWith(t, store, shop.Settings{Debug: true}).Browser(t, shoptest.OnLinux)
			b.Get("/debug/sessions").WantStatus(http.StatusOK).WantText("new: no cookie", "None yet")
			b.Post("/cart/add", "item", "field")
			b.SignIn("ada")
			a := b.Get("/debug/sessions")
			a.WantText("loaded", "Created", "Expires", `"User": "ada"`, `"Device": "Firefox on Linux"`, `"field": 1`)
			a.WantNoText(b.Cookie().Value)
		})
	}
}

func TestDebugPageSaysWhySomebodyWasSignedOut(t *testing.T) {
	s := newSiteWith(t, "memory", shop.Settings{Debug: true})
	b, thief, forger := s.Browser(t, shoptest.OnLinux), s.Browser(t, shoptest.OnIPhone), s.Browser(t, "")
	b.SignIn("ada")
	stolen := b.Cookie()
	b.Post("/logout")
	thief.SetCookie(stolen)
	thief.Get("/dashboard").WantRedirect("/login")
	forger.SetCookie(&http.Cookie{Name: "session", Value: "nonsense"})
	forger.Get("/dashboard").WantRedirect("/login")

	a := b.Get("/debug/sessions")
	a.WantText("started no cookie", "started reset", "refused unknown", "refused forged")
	a.WantNoText(stolen.Value)
}
