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

// An app is a program that stores a Shop per visitor with one contender.
type app struct {
	read  func(got func(s Shop, ok bool)) http.Handler // ok: the session exists and is authentic
	write func(next func() int) http.Handler           // sets UserID
	login func(Shop) http.Handler                      // with a new id, if the contender has ids
	idle  http.Handler                                 // does not ask for the session; nil if that runs no code of the contender

	// download sets UserID and then calls the body. It is nil for an app with
	// a framework.
	download func(next func() int, body http.Handler) http.Handler

	// forgets means that the cookie from before a login is refused. This is not
	// possible if the whole session is in the cookie.
	forgets bool

	// lags means that a read may return an earlier state from a cache.
	lags bool
}

// newApp returns an app with handlers whose argument is a value of the framework.
func newApp[C any](serve func(func(C)) http.Handler, read func(C) (Shop, bool), write func(C, int), login func(C, Shop)) app {
	return app{
		read:  func(got func(Shop, bool)) http.Handler { return serve(func(c C) { got(read(c)) }) },
		write: func(next func() int) http.Handler { return serve(func(c C) { write(c, next()) }) },
		login: func(s Shop) http.Handler { return serve(func(c C) { login(c, s) }) },
		idle:  serve(func(C) {}),
	}
}

// newHTTPApp returns an app without a framework.
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

// An exchange holds the arguments of an http.Handler.
type exchange struct {
	w http.ResponseWriter
	r *http.Request
}

func serveHTTP(h func(exchange)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h(exchange{w, r}) })
}

// The configuration of every contender.
const (
	cookieName = "__Host-Http-session"
	lifetime   = 24 * time.Hour
)

var (
	secret        = []byte("0123456789abcdefghijklmnopqrstuv")
	encryptionKey = []byte("vutsrqponmlkjihgfedcba9876543210")
)

// visitor returns the session of a visitor who has signed in and filled a cart.
func visitor() Shop {
	return Shop{
		UserID: 123456, Name: "Ada Lovelace", Role: "user",
		Cart:     []int{101, 2002, 30003, 404, 5005, 60006, 707, 8008},
		LastSeen: time.Unix(1_790_000_000, 0),
	}
}

// newcomer returns the session of a visitor who has just signed in.
func newcomer() Shop { return Shop{UserID: 123456, Name: "Ada Lovelace", Role: "user"} }

func equal(a, b Shop) bool {
	same := a.LastSeen.Equal(b.LastSeen)
	a.LastSeen, b.LastSeen = time.Time{}, time.Time{}
	return same && reflect.DeepEqual(a, b)
}

// counter returns a function that returns a different number at each call.
func counter() func() int {
	var n atomic.Int64
	return func() int { return int(n.Add(1)) }
}

// request returns a request as from a browser, with the cookie between others.
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

// visit sends a request with a cookie. It returns the cookie that a browser has
// after the response, and the Set-Cookie line, if any.
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

// forged returns the cookie with one character near its end changed.
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

// A lightWriter is a ResponseWriter that does no work.
type lightWriter struct{ header http.Header }

func (w *lightWriter) Header() http.Header         { return w.header }
func (w *lightWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *lightWriter) WriteHeader(int)             {}
