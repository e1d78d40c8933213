// Package migratetest holds the tests that every program of docs/MIGRATING.md
// passes, for each library that a site may migrate from.
package migratetest

import (
	"net/http"
	"sync"
	"testing"

	"github.com/typedsessions/sessions"
)

// Texts of the pages of the programs.
const (
	SignedIn  = `You are Ada Løvelace, user 42, with ["tea" "😀"] in the cart`
	SignedOut = "You are not signed in"
)

// ours is the cookie of the new session.
const ours = "__Host-Http-session"

// A Peer is the library that a program migrates from.
type Peer struct {
	// Cookie is the name of its cookie.
	Cookie string
	// Site is the program, after the migration.
	Site http.Handler
	// SignIn gives the browser a session that the library itself has made, and for
	// which the page of Site has the text SignedIn. The site is at address.
	SignIn func(t testing.TB, b *Browser, address string)
}

// Keys returns a new key ring.
func Keys(t testing.TB) *sessions.Keyring {
	t.Helper()
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// Run runs all tests on a migration.
func Run(t *testing.T, p Peer) {
	address := Serve(t, p.Site)
	for _, tt := range []struct {
		claim string
		check func(t *testing.T, p Peer, b *Browser, address string)
	}{
		{"nobody is signed out", stays},
		{"the old cookie is gone once adopted", retires},
		{"the second visit uses the new session", usesOurs},
		{"pages at once all know the visitor", atOnce},
		{"a visitor who signs out stays signed out", signsOut},
		{"the first visit may be the one that signs out", signsOutFirst},
		{"the new session wins over an old one", oursWins},
		{"a forged old cookie is not adopted", refusesForged},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			b := NewBrowser(t)
			p.SignIn(t, b, address)
			if b.Cookie(address, p.Cookie) == nil {
				t.Fatalf("the old library has set no cookie %q", p.Cookie)
			}
			tt.check(t, p, b, address)
		})
	}
}

func stays(t *testing.T, _ Peer, b *Browser, address string) {
	WantText(t, b.Get(address), SignedIn)
	WantText(t, b.Get(address), SignedIn)
}

func retires(t *testing.T, p Peer, b *Browser, address string) {
	b.Get(address)
	wantNoCookie(t, b, address, p.Cookie)
	if b.Cookie(address, ours) == nil {
		t.Errorf("got no cookie %q", ours)
	}
}

func usesOurs(t *testing.T, _ Peer, b *Browser, address string) {
	b.Get(address)
	cookie := b.Cookie(address, ours)
	fresh := NewBrowser(t)
	fresh.SetCookie(address, &http.Cookie{Name: ours, Value: cookie.Value, Path: "/", Secure: true})
	WantText(t, fresh.Get(address), SignedIn)
	if got := fresh.Cookie(address, ours); got.Value != cookie.Value {
		t.Error("the session was not loaded but made again")
	}
}

func atOnce(t *testing.T, _ Peer, b *Browser, address string) {
	const n = 8
	var wg sync.WaitGroup
	pages := make([]string, n)
	for i := range pages {
		wg.Go(func() { pages[i] = b.Get(address) })
	}
	wg.Wait()
	for _, page := range append(pages, b.Get(address)) {
		WantText(t, page, SignedIn)
	}
}

func signsOut(t *testing.T, p Peer, b *Browser, address string) {
	b.Get(address)
	WantText(t, b.Post(address+"/logout"), "You have signed out")
	WantText(t, b.Get(address), SignedOut)
	wantNoCookie(t, b, address, p.Cookie)
}

func signsOutFirst(t *testing.T, p Peer, b *Browser, address string) {
	WantText(t, b.Post(address+"/logout"), SignedOut)
	wantNoCookie(t, b, address, p.Cookie)
	WantText(t, b.Get(address), SignedOut)
}

// oursWins is about a browser that gets an old cookie again, from a program that
// has not been replaced yet.
func oursWins(t *testing.T, p Peer, b *Browser, address string) {
	old := b.Cookie(address, p.Cookie)
	b.Get(address)
	mine := b.Cookie(address, ours)
	if mine == nil {
		t.Fatal("the visitor has no session of ours")
	}
	b.SetCookie(address, &http.Cookie{Name: p.Cookie, Value: old.Value, Path: "/", Secure: true})
	WantText(t, b.Get(address), SignedIn)
	if now := b.Cookie(address, ours); now == nil || now.Value != mine.Value || b.Cookie(address, p.Cookie) == nil {
		t.Error("the old session was adopted over the new one")
	}
}

// refusesForged changes each character of the cookie except the last four, since
// base64 may ignore a part of them.
func refusesForged(t *testing.T, p Peer, b *Browser, address string) {
	value := b.Cookie(address, p.Cookie).Value
	b = NewBrowser(t)
	for i := range len(value) - 4 {
		forged := []byte(value)
		forged[i] = 'A'
		if value[i] == 'A' {
			forged[i] = 'B'
		}
		b.SetCookie(address, &http.Cookie{Name: p.Cookie, Value: string(forged), Path: "/", Secure: true})
		WantText(t, b.Get(address), SignedOut)
		if b.Cookie(address, ours) != nil {
			t.Fatalf("a cookie that was changed at %d made a session", i)
		}
	}
}

func wantNoCookie(t *testing.T, b *Browser, address, name string) {
	t.Helper()
	if b.Cookie(address, name) != nil {
		t.Errorf("the old cookie %q is still there", name)
	}
}
