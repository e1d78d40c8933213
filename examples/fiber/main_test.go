package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
	"github.com/gofiber/fiber/v3/middleware/recover"
	"github.com/valyala/fasthttp"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/internal/demo"
	"github.com/typedsessions/sessions/examples/internal/demotest"
)

func TestProgram(t *testing.T) {
	demotest.Run(t, func(t testing.TB, mgr *sessions.Manager[AppSession], tick demo.Ticker) string {
		return serve(t, newApp(mgr, tick))
	})
}

// serve runs app on a port of its own until the test ends.
func serve(t testing.TB, app *fiber.App) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- app.Listener(ln, fiber.ListenConfig{DisableStartupMessage: true}) }()
	t.Cleanup(func() {
		if err := app.ShutdownWithTimeout(10 * time.Second); err != nil {
			t.Errorf("shut down: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return "http://" + ln.Addr().String()
}

// get sends one request of a new visitor.
func get(t *testing.T, app *fiber.App) (*http.Response, string) {
	t.Helper()
	transport := &http.Transport{}
	base := serve(t, app)
	t.Cleanup(transport.CloseIdleConnections)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
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

func TestHTTPMiddlewareOfTheAdaptorBringsNoSession(t *testing.T) {
	app := fiber.New()
	app.Use(adaptor.HTTPMiddleware(demotest.NewManager(t).Middleware))
	app.Get("/", func(c fiber.Ctx) error {
		for _, ctx := range []context.Context{c, c.Context(), c.RequestCtx()} {
			if _, ok := sessions.Lookup[AppSession](ctx); ok {
				t.Errorf("%T has a session: the comment of this program is outdated", ctx)
			}
		}
		return nil
	})
	get(t, app)
}

func TestStreamOfFiberComesTooLateForTheSession(t *testing.T) {
	app := fiber.New()
	committed := make(chan struct{}) // fasthttp starts the stream's goroutine before the handler returns
	app.Use(func(c fiber.Ctx) error {
		defer close(committed)
		return c.Next()
	})
	app.Use(around(demotest.NewManager(t).Middleware))
	saved := make(chan error, 1)
	app.Get("/", func(c fiber.Ctx) error {
		sess := sessions.Get[AppSession](c.Context())
		sess.Data.User = demo.User
		return c.SendStreamWriter(func(w *bufio.Writer) {
			<-committed
			sess.Update(func(s *AppSession) { s.Seconds++ })
			saved <- sess.Save(context.Background())
			_, _ = w.WriteString("late")
		})
	})
	res, body := get(t, app)
	if len(res.Cookies()) == 0 || body != "late" {
		t.Errorf("got the cookies %v and %q, want a session and the stream", res.Cookies(), body)
	}
	if err := <-saved; !errors.Is(err, sessions.ErrTooLate) {
		t.Errorf("Save: got %v, want ErrTooLate", err)
	}
}

func TestAroundKeepsWhatTheHandlersSaid(t *testing.T) {
	app := fiber.New()
	app.Use(around(demotest.NewManager(t).Middleware))
	app.Get("/", func(c fiber.Ctx) error {
		sessions.Get[AppSession](c.Context()).Data.User = demo.User
		c.Cookie(&fiber.Cookie{Name: "theme", Value: "dark"})
		c.Vary("Accept")
		c.Set("Cache-Control", "public, max-age=60")
		return c.Status(fiber.StatusTeapot).SendString("short and stout")
	})
	res, body := get(t, app)
	if res.StatusCode != http.StatusTeapot || body != "short and stout" {
		t.Errorf("got status %d and %q", res.StatusCode, body)
	}
	if got := res.Cookies(); len(got) != 2 {
		t.Errorf("got the cookies %v, want theme and session", got)
	}
	// A shared cache must not keep a response that sets the cookie of one visitor.
	if got := res.Header.Values("Cache-Control"); len(got) != 1 || got[0] != "max-age=60, private" {
		t.Errorf("got Cache-Control %q", got)
	}
	if got := res.Header.Values("Vary"); len(got) != 2 {
		t.Errorf("got Vary %q, want Accept and Cookie", got)
	}
}

func TestAroundAnswersInPlaceOfTheHandlersIfTheSessionCannotBeStored(t *testing.T) {
	app := fiber.New()
	app.Use(around(demotest.NewManager(t).Middleware))
	app.Get("/", func(c fiber.Ctx) error {
		sessions.Get[AppSession](c.Context()).Data.User = "longer than the 32 bytes that the tag of User allows"
		c.Set("ETag", `"1"`)
		return c.SendString("page")
	})
	res, body := get(t, app)
	if res.StatusCode != http.StatusInternalServerError || body == "page" || res.Header.Get("ETag") != "" || len(res.Cookies()) > 0 {
		t.Errorf("got status %d, %q, %v; want the answer of ErrorHandler alone", res.StatusCode, body, res.Header)
	}
}

func TestPanicStoresNothing(t *testing.T) {
	app := fiber.New()
	app.Use(recover.New(), around(demotest.NewManager(t).Middleware))
	app.Get("/", func(c fiber.Ctx) error {
		sessions.Get[AppSession](c.Context()).Data.User = demo.User
		panic("half done")
	})
	if res, _ := get(t, app); res.StatusCode != http.StatusInternalServerError || len(res.Cookies()) > 0 {
		t.Errorf("got status %d and the cookies %v, want 500 and none", res.StatusCode, res.Cookies())
	}
}

// BenchmarkRead reads a session in a cookie in each of the ways, without a
// network.
func BenchmarkRead(b *testing.B) {
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		b.Fatal(err)
	}
	mgr, err := demo.NewManager(keys, nil, false)
	if err != nil {
		b.Fatal(err)
	}
	read := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, sessions.Get[AppSession](r.Context()).Data.User)
	})
	w := httptest.NewRecorder()
	mgr.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Data.User = demo.User
	})).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	cookie := w.Result().Cookies()[0]

	b.Run("net/http", func(b *testing.B) {
		h := mgr.Middleware(read)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.AddCookie(cookie)
		b.ReportAllocs()
		for b.Loop() {
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
	})
	for _, way := range []struct {
		name     string
		handlers []any
	}{
		{"fiber without a session", []any{func(c fiber.Ctx) error { return c.SendString(demo.User) }}},
		{"around", []any{around(mgr.Middleware), func(c fiber.Ctx) error {
			return c.SendString(sessions.Get[AppSession](c.Context()).Data.User)
		}}},
		{"HTTPHandler", []any{adaptor.HTTPHandler(mgr.Middleware(read))}},
		{"HTTPHandler without a session", []any{adaptor.HTTPHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, demo.User)
		}))}},
	} {
		b.Run(way.name, func(b *testing.B) {
			app := fiber.New()
			app.Get("/", way.handlers[0], way.handlers[1:]...)
			h := app.Handler()
			var ctx fasthttp.RequestCtx
			ctx.Init(&fasthttp.Request{}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil)
			ctx.Request.Header.SetCookie(cookie.Name, cookie.Value)
			ctx.Request.SetRequestURI("/")
			b.ReportAllocs()
			for b.Loop() {
				ctx.Response.Reset()
				h(&ctx)
			}
			if got := string(ctx.Response.Body()); got != demo.User {
				b.Fatalf("got %q", got)
			}
		})
	}
}
