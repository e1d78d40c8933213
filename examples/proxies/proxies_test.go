package proxies

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/internal/demo"
)

// patience is the timeout of every wait.
const patience = 20 * time.Second

// A Note is a session that can fill its cookie.
type Note struct {
	Text string `msgpack:"text"`
}

// newManager returns a Manager with sessions in cookies. An empty name is the
// default, with its prefix.
func newManager(t *testing.T, name string) *sessions.Manager[Note] {
	t.Helper()
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	mgr, err := sessions.New(sessions.Config[Note]{
		Keys:   keys,
		Cookie: sessions.Cookie{Name: name},
		Logger: slog.New(slog.DiscardHandler), // the search for the largest session causes errors
	})
	if err != nil {
		t.Fatal(err)
	}
	return mgr
}

func serve(t *testing.T, h http.Handler) (addr string) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// get sends a GET request with these cookies, and returns the response with its body.
func get(t *testing.T, url string, cookies ...*http.Cookie) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cookies {
		r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// notes is a program that fills its session with as many bytes as the query says,
// and answers with the number of bytes in its session.
func notes(mgr *sessions.Manager[Note]) http.Handler {
	return mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[Note](r.Context())
		if n, err := strconv.Atoi(r.URL.Query().Get("fill")); err == nil {
			sess.Data.Text = strings.Repeat("x", n)
		}
		fmt.Fprint(w, len(sess.Data.Text))
	}))
}

// fullest returns the largest number of bytes that notes can store in its cookie.
func fullest(t *testing.T, url string) int {
	t.Helper()
	fits, tooLarge := 1, 4096
	for tooLarge-fits > 1 {
		n := (fits + tooLarge) / 2
		if res, _ := get(t, fmt.Sprintf("%s?fill=%d", url, n)); res.StatusCode == http.StatusOK {
			fits = n
		} else {
			tooLarge = n
		}
	}
	return fits
}

func TestTheLargestCookiePassesAsDocumented(t *testing.T) {
	addr := serve(t, notes(newManager(t, "")))
	n := fullest(t, "http://"+addr)
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			url := p.start(t, "", addr)
			res, _ := get(t, fmt.Sprintf("%s?fill=%d", url, n))
			line := res.Header.Get("Set-Cookie")
			if res.StatusCode != http.StatusOK || len(line) < 4090 {
				t.Fatalf("got status %d and a Set-Cookie of %d bytes, want 200 and some 4,096", res.StatusCode, len(line))
			}
			if res, body := get(t, url, res.Cookies()...); res.StatusCode != http.StatusOK || body != strconv.Itoa(n) {
				t.Errorf("with the cookie: got status %d and %q, want the session of %d bytes", res.StatusCode, body, n)
			}
		})
	}
}

func TestTheLargestCookieWithoutConfiguration(t *testing.T) {
	addr := serve(t, notes(newManager(t, "")))
	n := fullest(t, "http://"+addr)
	for _, tt := range []struct {
		proxy
		status int
	}{
		{nginx, http.StatusBadGateway},
		{haproxy, http.StatusOK},
		{varnish, http.StatusOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := tt.start(t, tt.plain, addr)
			if res, _ := get(t, url+"?fill=2000"); res.StatusCode != http.StatusOK {
				t.Errorf("a session of 2,000 bytes: got status %d, want 200", res.StatusCode)
			}
			if res, _ := get(t, fmt.Sprintf("%s?fill=%d", url, n)); res.StatusCode != tt.status {
				t.Errorf("a session of %d bytes: got status %d, want %d", n, res.StatusCode, tt.status)
			}
		})
	}
}

// Several Managers with sessions in cookies make a long Cookie header.
func TestSeveralFullCookiesInARequest(t *testing.T) {
	const defaultName = "__Host-Http-session"
	names := []string{defaultName, "__Host-two", "__Host-three", "__Host-four"}
	var full []*http.Cookie
	var handler http.Handler
	var n int
	for _, name := range names {
		program := notes(newManager(t, name))
		addr := serve(t, program)
		if name == defaultName {
			handler, n = program, fullest(t, "http://"+addr)
		}
		res, _ := get(t, fmt.Sprintf("http://%s?fill=%d", addr, n))
		full = append(full, res.Cookies()...)
	}
	if len(full) != len(names) {
		t.Fatalf("got %d cookies, want %d", len(full), len(names))
	}
	addr := serve(t, handler)
	for _, tt := range []struct {
		proxy
		plain []int // the status for one cookie, two, …, with nothing configured
	}{
		{nginx, []int{200, 200, 400, 400}},
		{haproxy, []int{200, 200, 200, 400}},
		{varnish, []int{200, 200, 400, 400}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plain, documented := tt.start(t, tt.proxy.plain, addr), tt.start(t, "", addr)
			for i, want := range tt.plain {
				if res, _ := get(t, plain, full[:i+1]...); res.StatusCode != want {
					t.Errorf("%d cookies, nothing configured: got status %d, want %d", i+1, res.StatusCode, want)
				}
			}
			if res, body := get(t, documented, full[:3]...); res.StatusCode != http.StatusOK || body != strconv.Itoa(n) {
				t.Errorf("3 cookies, as documented: got status %d and %q, want the session of %d bytes", res.StatusCode, body, n)
			}
		})
	}
}

func TestEarlyHintsAsDocumented(t *testing.T) {
	mgr := newManager(t, "")
	addr := serve(t, mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		sess := sessions.Get[Note](r.Context())
		sess.Data.Text = "after the hint"
	})))
	for _, tt := range []struct {
		proxy
		status, cookies int
	}{
		{nginx, http.StatusOK, 1},
		{haproxy, http.StatusOK, 1},
		{varnish, http.StatusServiceUnavailable, 0}, // it takes the 103 for a broken response
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, _ := get(t, tt.start(t, "", addr))
			if res.StatusCode != tt.status || len(res.Cookies()) != tt.cookies {
				t.Errorf("got status %d and the cookies %v, want %d and %d", res.StatusCode, res.Cookies(), tt.status, tt.cookies)
			}
		})
	}
}

// A site counts the requests that reach it.
type site struct {
	handler  http.Handler
	requests atomic.Int64
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	s.handler.ServeHTTP(w, r)
}

// newCached returns a program whose handlers ask every cache to keep their pages.
func newCached(t *testing.T) *site {
	t.Helper()
	mgr := newManager(t, "")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /new", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[Note](r.Context())
		sess.Data.Text = r.URL.Query().Get("name")
		w.Header().Set("Cache-Control", "public, max-age=60, s-maxage=60")
		fmt.Fprint(w, sess.Data.Text)
	})
	mux.HandleFunc("GET /read", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[Note](r.Context())
		w.Header().Set("Cache-Control", "public, max-age=60, s-maxage=60")
		fmt.Fprint(w, sess.Data.Text)
	})
	mux.HandleFunc("GET /static", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60, s-maxage=60")
		fmt.Fprint(w, "the same for everybody")
	})
	return &site{handler: mgr.Middleware(mux)}
}

func TestNoCacheKeepsASessionsCookie(t *testing.T) {
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			program := newCached(t)
			url := p.start(t, p.caching, serve(t, program))

			get(t, url+"/static")
			before := program.requests.Load()
			if get(t, url+"/static"); program.requests.Load() != before {
				t.Fatal("a page without a session was not kept, so that this test shows nothing")
			}

			given := make(map[string]bool)
			for range 3 {
				res, _ := get(t, url+"/new?name=ada")
				cookies := res.Cookies()
				if len(cookies) != 1 || given[cookies[0].Value] {
					t.Fatalf("got the cookies %q again, want one that nobody has", res.Header["Set-Cookie"])
				}
				given[cookies[0].Value] = true
			}
		})
	}
}

func TestNoCacheGivesAPageToAnotherVisitor(t *testing.T) {
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			url := p.start(t, p.caching, serve(t, newCached(t)))
			visitors := map[string]*http.Cookie{"": {Name: "other", Value: "1"}}
			for _, name := range []string{"ada", "grace"} {
				res, _ := get(t, url+"/new?name="+name)
				visitors[name] = res.Cookies()[0]
			}
			for range 2 {
				for name, cookie := range visitors {
					if _, body := get(t, url+"/read", cookie); body != name {
						t.Errorf("the visitor %q got the page of %q", name, body)
					}
				}
				if _, body := get(t, url+"/read"); body != "" {
					t.Errorf("a visitor without cookies got the page of %q", body)
				}
			}
		})
	}
}

// live is a program with a stream and a WebSocket, and a login without questions.
func live(t *testing.T, ticks <-chan time.Time) http.Handler {
	t.Helper()
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	mgr, err := demo.NewManager(keys, new(sessions.MemoryStore), true)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[demo.AppSession](r.Context())
		sess.RegenerateID()
		sess.Data = demo.AppSession{User: demo.User}
	})
	mux.HandleFunc("GET /logout", func(w http.ResponseWriter, r *http.Request) {
		sessions.Get[demo.AppSession](r.Context()).Destroy()
	})
	mux.HandleFunc("GET /events", demo.Events(func() <-chan time.Time { return ticks }))
	mux.HandleFunc("GET /ws", demo.Chat)
	return mgr.Middleware(mux)
}

func TestStreamsPassEventByEventAndEndWithTheSession(t *testing.T) {
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			ticks := make(chan time.Time)
			url := p.start(t, "", serve(t, live(t, ticks)))
			res, _ := get(t, url+"/login")
			cookie := res.Cookies()[0]

			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/events", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value})
			res, err = http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			lines := bufio.NewScanner(res.Body)
			event := func(want string) {
				t.Helper()
				var got []string
				for lines.Scan() && lines.Text() != "" {
					got = append(got, lines.Text())
				}
				if strings.Join(got, "\n") != want {
					t.Fatalf("got the event %q and %v, want %q", got, lines.Err(), want)
				}
			}
			for _, n := range []string{"1", "2"} {
				select { // the next tick is sent when the event before it has been read
				case ticks <- time.Time{}:
				case <-ctx.Done():
					t.Fatal("no stream waits for the clock")
				}
				event("event: second\ndata: " + n)
			}
			get(t, url+"/logout", cookie)
			event("event: end\ndata: You have signed out")
		})
	}
}

func TestWebSocketsPassAndEndWithTheSession(t *testing.T) {
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			url := p.start(t, "", serve(t, live(t, nil)))
			res, _ := get(t, url+"/login")
			cookie := res.Cookies()[0]

			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			conn, _, err := websocket.Dial(ctx, url+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{
				"Cookie": {cookie.Name + "=" + cookie.Value},
				"Origin": {url}, // Chat accepts only that of its own host
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.CloseNow()
			if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, answer, err := conn.Read(ctx); err != nil || string(answer) != "ada 1: hello" {
				t.Fatalf("got %q and %v, want an answer", answer, err)
			}
			get(t, url+"/logout", cookie)
			if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
				t.Errorf("after the logout: got %v, want the connection closed with status 1008", err)
			}
		})
	}
}

func TestWebSocketsWithoutConfiguration(t *testing.T) {
	for _, tt := range []struct {
		proxy
		opens bool
	}{{nginx, false}, {haproxy, true}, {varnish, false}} {
		t.Run(tt.name, func(t *testing.T) {
			url := tt.start(t, tt.plain, serve(t, live(t, nil)))
			res, _ := get(t, url+"/login")
			cookie := res.Cookies()[0]
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			conn, _, err := websocket.Dial(ctx, url+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{
				"Cookie": {cookie.Name + "=" + cookie.Value},
			}})
			if err == nil {
				conn.CloseNow()
			}
			if opens := err == nil; opens != tt.opens {
				t.Errorf("got %v, want a WebSocket that opens: %t", err, tt.opens)
			}
		})
	}
}
