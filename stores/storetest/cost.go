package storetest

import (
	"testing"

	"github.com/typedsessions/sessions"
)

// RunCost checks the number of commands that a request sends to the server of the
// store: 0 without a cookie or with a forged one, 1 if it reads its session or
// leaves it unchanged, and 2 if it changes it, one to load and one to store. It
// logs the numbers of other requests.
//
// The function commands returns the number of commands for this store that the
// server has executed so far, as counted by the server. Commands that are sent by
// the function itself must not be included.
func RunCost(t *testing.T, open func(t testing.TB) sessions.Store, commands func() int) {
	run(t, steady(), 0, func(t *tester) { checkCost(t, open(t.T), commands) })
}

func checkCost(t *tester, store sessions.Store, commands func() int) {
	app := newApp(t, store, false)
	b := &browser{t: t, app: app.url}
	b.do("login", "value", "ada")
	stranger := &browser{t: t, app: app.url}
	for range 3 { // open connections, prepare statements, load scripts
		for _, verb := range []string{"read", "add", "flash", "regenerate", "prolong"} {
			b.do(verb, "value", "x")
		}
		b.at(app.url).do("read")
	}
	// Change the last but one character, since some bits of the last must be zero.
	forged := []byte(b.cookie)
	forged[len(forged)-2] ^= 'A' ^ 'B'
	for _, tt := range []struct {
		request string
		want    int // -1: only logged
		do      func()
	}{
		{"without a cookie", 0, func() { stranger.do("read") }},
		{"with a forged cookie", 0, func() { (&browser{t, app.url, string(forged)}).do("read") }},
		{"that does not ask for its session", 1, func() { b.do("ignore") }},
		{"that reads its session", 1, func() { b.do("read") }},
		{"that leaves it unchanged", 1, func() { b.do("same") }},
		{"that changes it", 2, func() { b.do("add") }},
		{"that flashes", 2, func() { b.do("flash", "value", newName()) }}, // an equal message would change nothing
		{"that regenerates its id", -1, func() { b.do("regenerate") }},
		{"that signs in and out", -1, func() {
			b := &browser{t: t, app: app.url}
			b.do("login", "value", "ada")
			b.do("destroy")
		}},
	} {
		const n = 20
		before := commands()
		for range n {
			tt.do()
		}
		got := commands() - before
		t.Logf("a request %s: %.2f commands", tt.request, float64(got)/n)
		if tt.want >= 0 && got != n*tt.want {
			t.Errorf("%d requests %s: got %d commands, want %d", n, tt.request, got, n*tt.want)
		}
	}
}
