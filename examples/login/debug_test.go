package main

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/typedsessions/sessions"
)

func TestDebugPageIsOffByDefault(t *testing.T) {
	b := newSite(t, "memory").browser(t, onLinux)
	b.get("/debug/sessions").wantStatus(http.StatusNotFound)
	b.get("/").wantNoText("from inside")
}

func TestDebugPageShowsWhatThisSessionHolds(t *testing.T) {
	for _, store := range []string{"cookie", "memory"} {
		t.Run(store, func(t *testing.T) {
			b := newSiteWith(t, settings{store: store, debug: true}).browser(t, onLinux)
			b.get("/debug/sessions").wantStatus(http.StatusOK).wantText("new: no cookie", "None yet")
			b.post("/cart/add", "item", "field")
			b.signIn("ada")
			a := b.get("/debug/sessions")
			a.wantText("loaded", "Created", "Expires", `"User": "ada"`, `"Device": "Firefox on Linux"`, `"field": 1`)
			a.wantNoText(b.cookie())
		})
	}
}

func TestDebugPageSaysWhySomebodyWasSignedOut(t *testing.T) {
	s := newSiteWith(t, settings{store: "memory", debug: true})
	b, thief, forger := s.browser(t, onLinux), s.browser(t, onIPhone), s.browser(t, "")
	b.signIn("ada")
	stolen := b.jarCookie()
	b.post("/logout")
	thief.client.Jar.SetCookies(s.url, []*http.Cookie{stolen})
	thief.get("/dashboard").wantRedirect("/login")
	forger.client.Jar.SetCookies(s.url, []*http.Cookie{{Name: "session", Value: "nonsense"}})
	forger.get("/dashboard").wantRedirect("/login")

	a := b.get("/debug/sessions")
	a.wantText("started no cookie", "started reset", "refused unknown", "refused forged")
	a.wantNoText(stolen.Value)
}

func TestDebugPageKeepsTheLastEvents(t *testing.T) {
	t.Parallel()
	var l eventLog
	if got := l.last(); len(got) != 0 {
		t.Errorf("got %d events of an empty log", len(got))
	}
	var all sync.WaitGroup
	for range maxEvents {
		all.Go(func() { l.note(t.Context(), sessions.Event{ID: "early"}) })
	}
	all.Wait()
	for i := range maxEvents - 1 {
		l.note(t.Context(), sessions.Event{ID: fmt.Sprint(i)})
	}
	got := l.last()
	if len(got) != maxEvents {
		t.Fatalf("got %d events, want %d", len(got), maxEvents)
	}
	if first, last := got[0].ID, got[maxEvents-1].ID; first != fmt.Sprint(maxEvents-2) || last != "early" {
		t.Errorf("got events from %q back to %q", first, last)
	}
}
