package storetest

import (
	"testing"

	"github.com/typedsessions/sessions"
)

// RunCost checks how many commands of the store's server a request costs:
// without a cookie or with a forged one 0, one that reads its session 1, one
// that leaves it unchanged 1, a change 2, one to load and one to store. What
// other verbs cost is in the log.
//
// commands returns how many commands the server has executed so far for this
// store, as the server counts them; its own questions to the server must not
// count.
func RunCost(t *testing.T, open func(t testing.TB) sessions.Store, commands func() int) {
	app := newApp(t, open(t))
	b := &browser{t: t, app: app.url}
	b.do("login", "value", "ada")
	stranger := &browser{t: t, app: app.url}
	for range 3 { // connections, prepared statements, loaded scripts
		for _, verb := range []string{"read", "add", "flash", "regenerate", "prolong"} {
			b.do(verb, "value", "x")
		}
		b.at(app.url).do("read")
	}
	// The last but one character: the last has bits that must be zero.
	forged := []byte(b.cookie)
	forged[len(forged)-2] ^= 'A' ^ 'B'
	for _, tt := range []struct {
		request string
		want    int // -1: as it is
		do      func()
	}{
		{"without a cookie", 0, func() { stranger.do("read") }},
		{"with a forged cookie", 0, func() { (&browser{t, app.url, string(forged)}).do("read") }},
		{"that does not ask for its session", 1, func() { b.do("ignore") }},
		{"that reads its session", 1, func() { b.do("read") }},
		{"that leaves it unchanged", 1, func() { b.do("same") }},
		{"that changes it", 2, func() { b.do("add") }},
		{"that flashes", 2, func() { b.do("flash", "value", "x") }},
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
