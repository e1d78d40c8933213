package benchmarks

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// An app is a program that keeps a Shop for its visitors with one contender.
type app struct {
	read  func(got func(s Shop, ok bool)) http.Handler // ok: the session is there and authentic
	write func(next func() int) http.Handler           // sets UserID
	login func(Shop) http.Handler                      // under a new id, where there are ids
	idle  http.Handler                                 // asks for nothing; nil if that runs none of the contender's code

	// download sets UserID and then lets the body answer; nil where a framework
	// stands between.
	download func(next func() int, body http.Handler) http.Handler

	// forgets says that what a session was before a login is not accepted any
	// more: of cookies that hold it all, nobody can say so.
	forgets bool

	// lags says that a read may still answer from a cache what was there a moment
	// ago.
	lags bool
}

// newApp makes an app of handlers whose argument is what the framework gives
// them.
func newApp[C any](serve func(func(C)) http.Handler, read func(C) (Shop, bool), write func(C, int), login func(C, Shop)) app {
	return app{
		read:  func(got func(Shop, bool)) http.Handler { return serve(func(c C) { got(read(c)) }) },
		write: func(next func() int) http.Handler { return serve(func(c C) { write(c, next()) }) },
		login: func(s Shop) http.Handler { return serve(func(c C) { login(c, s) }) },
		idle:  serve(func(C) {}),
	}
}

// newHTTPApp makes an app without a framework.
func newHTTPApp(serve func(func(exchange)) http.Handler, read func(exchange) (Shop, bool), write func(exchange, int), login func(exchange, Shop)) app {
	a := newApp(serve, read, write, login)
	a.download = func(next func() int, body http.Handler) http.Handler {
		return serve(func(x exchange) {
			write(x, next())
			body.ServeHTTP(x.w, x.r)
		})
	}
	return a
}

// An exchange is what net/http gives a handler.
type exchange struct {
	w http.ResponseWriter
	r *http.Request
}

func serveHTTP(h func(exchange)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h(exchange{w, r}) })
}

// What every contender is configured with.
const (
	cookieName = "__Host-session"
	lifetime   = 24 * time.Hour
)

var (
	secret        = []byte("0123456789abcdefghijklmnopqrstuv")
	encryptionKey = []byte("vutsrqponmlkjihgfedcba9876543210")
)

// visitor is one who has signed in and filled a cart.
func visitor() Shop {
	return Shop{
		UserID: 123456, Name: "Ada Lovelace", Role: "user",
		Cart:     []int{101, 2002, 30003, 404, 5005, 60006, 707, 8008},
		LastSeen: time.Unix(1_790_000_000, 0),
	}
}

// newcomer is one who signs in.
func newcomer() Shop { return Shop{UserID: 123456, Name: "Ada Lovelace", Role: "user"} }

func equal(a, b Shop) bool {
	same := a.LastSeen.Equal(b.LastSeen)
	a.LastSeen, b.LastSeen = time.Time{}, time.Time{}
	return same && reflect.DeepEqual(a, b)
}

// counter returns a function that gives another number at every call.
func counter() func() int {
	var n atomic.Int64
	return func() int { return int(n.Add(1)) }
}

// request is that of a browser with other cookies around that of the session.
func request(cookie string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)")
	if cookie != "" {
		r.Header.Set("Cookie", around(cookie))
	}
	return r
}

func around(cookie string) string { return "theme=dark; " + cookie + "; lang=en" }

// signIn returns the cookie of a new session that holds s.
func signIn(tb testing.TB, a app, s Shop) string {
	tb.Helper()
	cookie, line := visit(a.login(s), "")
	if line == "" {
		tb.Fatal("a login sets no cookie")
	}
	return cookie
}

// visit sends a request with a cookie, and returns the one that the browser has
// then and the Set-Cookie line, if any.
func visit(h http.Handler, cookie string) (after, line string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(cookie))
	line = w.Header().Get("Set-Cookie")
	if line == "" {
		return cookie, ""
	}
	after, _, _ = strings.Cut(line, ";")
	return after, line
}

// forged changes a character near the end of a cookie.
func forged(cookie string) string {
	b := []byte(cookie)
	at := len(b) - 10
	if b[at] == 'A' {
		b[at] = 'B'
	} else {
		b[at] = 'A'
	}
	return string(b)
}

// A lightWriter is a ResponseWriter that costs nothing.
type lightWriter struct{ header http.Header }

func (w *lightWriter) Header() http.Header         { return w.header }
func (w *lightWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *lightWriter) WriteHeader(int)             {}
