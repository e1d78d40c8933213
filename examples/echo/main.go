// Echo is a login, a stream and a WebSocket with echo:
//
//	go run ./examples/echo
//
// The middleware is around the whole of echo: mgr.Middleware(e). Then all handlers
// have the session, and so does the HTTPErrorHandler, which echo calls after the
// last middleware of its own. echo.WrapMiddleware(mgr.Middleware) works too, for
// example for a group of routes. But then the session is stored before the
// HTTPErrorHandler runs, and the error page can neither change the session nor
// take flash messages.
//
// middleware.Recover, inside of echo, turns a panic into a response before the
// session middleware sees it, so that the changes of the handler until then are
// stored. This program does not use it. If you want a page for panics, recover
// outside of the session middleware.
package main

import (
	"fmt"
	"log"
	"net/http"

	"github.com/labstack/echo/v4"

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
	log.Fatal(demo.Serve(ln, newHandler(mgr, demo.EverySecond)))
}

func newHandler(mgr *sessions.Manager[AppSession], tick demo.Ticker) http.Handler {
	return http.NewCrossOriginProtection().Handler(mgr.Middleware(newEcho(tick)))
}

func newEcho(tick demo.Ticker) *echo.Echo {
	e := echo.New()
	e.GET("/login", loginForm)
	e.POST("/login", login)
	e.POST("/logout", logout)
	e.GET("/", dashboard, signedIn)
	e.GET("/events", events(tick))
	e.GET("/ws", echo.WrapHandler(http.HandlerFunc(demo.Chat)))
	return e
}

// signedIn calls next for signed-in visitors and sends the others to the login
// page.
func signedIn(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		sess := sessions.Get[AppSession](c.Request().Context())
		if sess.Data.User == "" {
			sess.Flash("error", "Please sign in first")
			return c.Redirect(http.StatusSeeOther, "/login")
		}
		return next(c)
	}
}

func loginForm(c echo.Context) error {
	sess := sessions.Get[AppSession](c.Request().Context())
	return html(c, demo.LoginPage(sess.Flashes()))
}

func login(c echo.Context) error {
	sess := sessions.Get[AppSession](c.Request().Context())
	user := c.FormValue("user")
	if !demo.Authenticate(user, c.FormValue("password")) {
		sess.Flash("error", "Invalid name or password")
		return c.Redirect(http.StatusSeeOther, "/login")
	}
	sess.RegenerateID()                // somebody may have planted the old id in this browser
	sess.Data = AppSession{User: user} // the whole struct: nothing of an earlier user is kept
	sess.Flash("info", "Welcome")
	return c.Redirect(http.StatusSeeOther, "/")
}

// logout gives the browser a cookie with another value, because of the message.
// After a click on Back, Chromium then asks the server; if the cookie were only
// expired, it would show a no-store page from its memory.
func logout(c echo.Context) error {
	sess := sessions.Get[AppSession](c.Request().Context())
	sess.Reset()
	sess.Flash("info", "You have signed out")
	return c.Redirect(http.StatusSeeOther, "/login")
}

func dashboard(c echo.Context) error {
	sess := sessions.Get[AppSession](c.Request().Context())
	return html(c, demo.DashboardPage(sess.Data, sess.Flashes()))
}

func events(tick demo.Ticker) echo.HandlerFunc {
	return func(c echo.Context) error {
		sess := sessions.Get[AppSession](c.Request().Context())
		if sess.Data.User == "" {
			return echo.NewHTTPError(http.StatusUnauthorized, "Please sign in first")
		}
		w := c.Response()
		w.Header().Set(echo.HeaderContentType, "text/event-stream")
		w.Header().Set(echo.HeaderCacheControl, "no-store")
		w.WriteHeader(http.StatusOK)
		w.Flush()
		demo.Count(c.Request().Context(), sess, tick(), func(event, data string) error {
			_, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data)
			w.Flush()
			return err
		})
		return nil
	}
}

func html(c echo.Context, page string) error {
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store") // no cache keeps a page of a signed-in user
	return c.HTML(http.StatusOK, page)
}
