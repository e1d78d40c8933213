package benchmarks

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// A work is a kind of request to measure.
type work struct {
	name    string
	cookie  func(real string) string
	handler func(app) http.Handler
}

var works = []work{
	{"R", real, func(a app) http.Handler { return a.read(expect(true)) }},
	{"W", real, func(a app) http.Handler { return a.write(counter()) }},
	{"N", none, func(a app) http.Handler { return a.idle }},
	{"U", real, func(a app) http.Handler { return a.idle }},
	{"F", forged, func(a app) http.Handler { return a.read(expect(false)) }},
	{"L", none, func(a app) http.Handler { return a.login(newcomer()) }},
}

func real(cookie string) string { return cookie }
func none(string) string        { return "" }

// expect returns a function that uses the session, as a handler would.
func expect(want bool) func(Shop, bool) {
	return func(s Shop, ok bool) {
		if ok != want || ok && len(s.Cart) == 0 {
			panic("the session is not what it should be")
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, w := range works {
		for _, c := range shuffled(Contenders) {
			if c.Kind == NodePeer {
				continue // measured by node/bench.js
			}
			a := apps[c.Name](b)
			h := w.handler(a)
			if h == nil {
				continue
			}
			b.Run("work="+w.name+"/by="+c.Name, func(b *testing.B) {
				serve(b, h, request(w.cookie(signIn(b, a, visitor()))))
			})
		}
	}
}

// shuffled returns the contenders in random order, since the first one runs with cold
// caches and a growing heap.
func shuffled(c []Contender) []Contender {
	c = slices.Clone(c)
	rand.Shuffle(len(c), func(i, j int) { c[i], c[j] = c[j], c[i] })
	return c
}

// serve measures h. Each operation uses a new copy of the request, since gorilla
// stores the decoded session in the request.
func serve(b *testing.B, h http.Handler, fresh *http.Request) {
	w, r := &lightWriter{header: http.Header{}}, new(http.Request)
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		*r = *fresh
		h.ServeHTTP(w, r)
	}
}

func TestEveryContenderHasAnApp(t *testing.T) {
	want := 0
	for _, c := range Contenders {
		if c.Kind == NodePeer {
			continue
		}
		want++
		if apps[c.Name] == nil {
			t.Errorf("%s has no app", c.Name)
		}
	}
	if len(apps) != want {
		t.Errorf("got %d apps, want %d, one for each contender", len(apps), want)
	}
}

func TestHandlersDoTheirWork(t *testing.T) {
	for name, open := range apps {
		t.Run(name, func(t *testing.T) { wantWork(t, open(t)) })
	}
}

// wantWork fails the test if a handler of a does not do its work.
func wantWork(t *testing.T, a app) {
	t.Helper()
	cookie := signIn(t, a, visitor())
	wantShop(t, a, cookie, "R returns what the login stored", visitor(), true)
	if _, line := visit(a.read(expect(true)), cookie); line != "" {
		t.Errorf("R sets a cookie: %s", line)
	}

	written, _ := visit(a.write(func() int { return 7 }), cookie)
	changed := visitor()
	changed.UserID = 7
	wantShop(t, a, written, "W is visible to the next request", changed, true)

	if a.idle != nil {
		for work, cookie := range map[string]string{"N": "", "U": written} {
			if _, line := visit(a.idle, cookie); line != "" {
				t.Errorf("%s sets a cookie: %s", work, line)
			}
		}
	}

	wantShop(t, a, forged(written), "F is refused", Shop{}, false)

	again, line := visit(a.login(newcomer()), written)
	if again == written {
		t.Error("L leaves the cookie as it was")
	}
	for _, attribute := range []string{"Path=/", "Max-Age=86400", "HttpOnly", "Secure", "SameSite=Lax"} {
		if !strings.Contains(line, "; "+attribute) {
			t.Errorf("the cookie of L lacks %s: %s", attribute, line)
		}
	}
	var got Shop
	visit(a.read(func(s Shop, _ bool) { got = s }), again)
	if got.UserID != newcomer().UserID || got.Name != newcomer().Name {
		t.Errorf("after L: got %+v, want %+v", got, newcomer())
	}
	if a.forgets {
		wantShop(t, a, written, "the session before L is gone", Shop{}, false)
	}
}

func wantShop(t *testing.T, a app, cookie, claim string, want Shop, there bool) {
	t.Helper()
	var got Shop
	var ok, asked bool
	h := a.read(func(s Shop, found bool) { got, ok, asked = s, found, true })
	fits := func() bool { return asked && equal(got, want) && ok == there }
	visit(h, cookie)
	for deadline := time.Now().Add(10 * time.Second); a.lags && !fits() && time.Now().Before(deadline); {
		visit(h, cookie)
	}
	if !fits() {
		t.Errorf("%s: got %+v, %v (asked: %v), want %+v, %v", claim, got, ok, asked, want, there)
	}
}
