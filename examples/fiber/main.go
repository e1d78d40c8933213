// Fiber is a login, a stream and a WebSocket with fiber, which is built on
// fasthttp and not on net/http:
//
//	go run ./examples/fiber
//
// A middleware of net/http reaches it through package adaptor, and there are
// three ways to do that:
//
//   - adaptor.HTTPMiddleware(mgr.Middleware) does not work: the handlers of fiber
//     run after the middleware has returned, and their context has no session.
//   - around, in this program, runs the middleware around the handlers of fiber,
//     which call sessions.Get with c.Context(). fiber keeps a response in memory
//     until its handlers have returned, so it is early enough to store the session
//     then. A function for SendStreamWriter runs later and in another goroutine:
//     it can neither change nor save the session, and must not use it.
//   - adaptor.HTTPHandler(mgr.Middleware(h)) takes a handler of net/http. It is
//     for streams with Save, and for WebSockets together with upgrading, since the
//     adaptor does not send the response to an upgrade. Both last longer than the
//     context of fasthttp, so lasting gives them another one.
//
// fasthttp does not tell when a client has disconnected: the context of a request
// is done when the server shuts down, and a stream notices the disconnect at its
// next write. Strings of a request are valid until its handler returns. Those in a
// session are encoded before that.
//
// The costs, by go test -bench . ./examples/fiber on an AMD EPYC, for a request
// that reads a session in a cookie, without the network: 6 µs with around, as much
// as in net/http, and 26 allocations instead of 19, since the request is
// converted; about 16 µs with HTTPHandler, which starts a goroutine for each
// request, whose small stack has to grow every time. A handler that needs no
// session takes 0.1 µs in fiber, and 4 µs behind HTTPHandler. So use around only
// for the routes with sessions.
package main

import (
	"log"
	"net/http"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
	"github.com/gofiber/fiber/v3/middleware/recover"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/internal/demo"
)

// AppSession is what the application remembers of a visitor.
type AppSession = demo.AppSession

func main() {
	mgr, ln, err := demo.Start()
	if err != nil {
		log.Fatal(err)
	}
	app := newApp(mgr, demo.EverySecond)
	log.Fatal(app.Listener(ln, fiber.ListenConfig{DisableStartupMessage: true}))
}

func newApp(mgr *sessions.Manager[AppSession], tick demo.Ticker) *fiber.App {
	protected := func(next http.Handler) http.Handler {
		return http.NewCrossOriginProtection().Handler(mgr.Middleware(next))
	}
	app := fiber.New()
	app.Use(recover.New()) // outside: a panic stores nothing, and fasthttp would end the process
	app.Get("/events", adaptor.HTTPHandler(lasting(protected(demo.Events(tick)))))
	app.Get("/ws", adaptor.HTTPHandler(lasting(upgrading(protected(http.HandlerFunc(demo.Chat))))))

	pages := app.Group("/", around(protected))
	pages.Get("/login", loginForm)
	pages.Post("/login", login)
	pages.Post("/logout", logout)
	pages.Get("/", signedIn, dashboard)
	return app
}

// signedIn sends visitors who are not signed in to the login page.
func signedIn(c fiber.Ctx) error {
	sess := sessions.Get[AppSession](c.Context())
	if sess.Data.User == "" {
		sess.Flash("error", "Please sign in first")
		return c.Redirect().Status(fiber.StatusSeeOther).To("/login")
	}
	return c.Next()
}

func loginForm(c fiber.Ctx) error {
	sess := sessions.Get[AppSession](c.Context())
	return html(c, demo.LoginPage(sess.Flashes()))
}

func login(c fiber.Ctx) error {
	sess := sessions.Get[AppSession](c.Context())
	user := c.FormValue("user")
	if !demo.Authenticate(user, c.FormValue("password")) {
		sess.Flash("error", "Invalid name or password")
		return c.Redirect().Status(fiber.StatusSeeOther).To("/login")
	}
	sess.RegenerateID()                // somebody may have planted the old id in this browser
	sess.Data = AppSession{User: user} // the whole struct: nothing of an earlier user is kept
	sess.Flash("info", "Welcome")
	return c.Redirect().Status(fiber.StatusSeeOther).To("/")
}

// logout gives the browser a cookie with another value, because of the message.
// After a click on Back, Chromium then asks the server; if the cookie were only
// expired, it would show a no-store page from its memory.
func logout(c fiber.Ctx) error {
	sess := sessions.Get[AppSession](c.Context())
	sess.Reset()
	sess.Flash("info", "You have signed out")
	return c.Redirect().Status(fiber.StatusSeeOther).To("/login")
}

func dashboard(c fiber.Ctx) error {
	sess := sessions.Get[AppSession](c.Context())
	return html(c, demo.DashboardPage(sess.Data, sess.Flashes()))
}

func html(c fiber.Ctx, page string) error {
	c.Set(fiber.HeaderCacheControl, "no-store") // no cache keeps a page of a signed-in user
	return c.Type("html", "utf-8").SendString(page)
}
