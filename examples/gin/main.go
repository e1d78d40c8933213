// Gin is a login, a stream and a WebSocket with gin:
//
//	go run ./examples/gin
//
// The middleware is around the engine: mgr.Middleware(engine). gin's own writer
// then wraps the writer that stores the session. So every response passes through
// it, also the empty one that gin sends after the last handler. A handler of gin
// that calls Middleware with c.Writer and then c.Next does not work: the handlers
// after it write to c.Writer directly, and the cookie of the session comes too
// late.
//
// Three things to know:
//
//   - The session is in c.Request.Context(). c itself, which is a context too, has
//     it only with engine.ContextWithFallback.
//   - gin.Recovery, which gin.Default installs, turns a panic into a response
//     before the middleware sees it, so that the changes of the handler until then
//     are stored. This program does not use it. If you want a page for panics,
//     recover outside of the session middleware.
//   - Context.Stream needs http.CloseNotifier, which is deprecated and which no
//     wrapper but gin's has. Write, flush and check the context of the request
//     instead, as events does.
package main

import (
	"log"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/internal/demo"
)

// AppSession is what the application remembers of a visitor.
type AppSession = demo.AppSession

func main() {
	gin.SetMode(gin.ReleaseMode)
	mgr, ln, err := demo.Start()
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(demo.Serve(ln, newHandler(mgr, demo.EverySecond)))
}

func newHandler(mgr *sessions.Manager[AppSession], tick demo.Ticker) http.Handler {
	return http.NewCrossOriginProtection().Handler(mgr.Middleware(newEngine(tick)))
}

func newEngine(tick demo.Ticker) *gin.Engine {
	engine := gin.New()
	engine.GET("/login", loginForm)
	engine.POST("/login", login)
	engine.POST("/logout", logout)
	engine.GET("/", signedIn, dashboard)
	engine.GET("/events", events(tick))
	engine.GET("/ws", func(c *gin.Context) { demo.Chat(c.Writer, c.Request) })
	return engine
}

// signedIn sends visitors who are not signed in to the login page.
func signedIn(c *gin.Context) {
	sess := sessions.Get[AppSession](c.Request.Context())
	if sess.Data.User == "" {
		sess.Flash("error", "Please sign in first")
		c.Redirect(http.StatusSeeOther, "/login")
		c.Abort()
	}
}

func loginForm(c *gin.Context) {
	sess := sessions.Get[AppSession](c.Request.Context())
	html(c, demo.LoginPage(sess.Flashes()))
}

func login(c *gin.Context) {
	sess := sessions.Get[AppSession](c.Request.Context())
	user := c.PostForm("user")
	if !demo.Authenticate(user, c.PostForm("password")) {
		sess.Flash("error", "Invalid name or password")
		c.Redirect(http.StatusSeeOther, "/login")
		return
	}
	sess.RegenerateID()                // somebody may have planted the old id in this browser
	sess.Data = AppSession{User: user} // the whole struct: nothing of an earlier user is kept
	sess.Flash("info", "Welcome")
	c.Redirect(http.StatusSeeOther, "/")
}

// logout gives the browser a cookie with another value, because of the message.
// After a click on Back, Chromium then asks the server; if the cookie were only
// expired, it would show a no-store page from its memory.
func logout(c *gin.Context) {
	sess := sessions.Get[AppSession](c.Request.Context())
	sess.Reset()
	sess.Flash("info", "You have signed out")
	c.Redirect(http.StatusSeeOther, "/login")
}

func dashboard(c *gin.Context) {
	sess := sessions.Get[AppSession](c.Request.Context())
	html(c, demo.DashboardPage(sess.Data, sess.Flashes()))
}

func events(tick demo.Ticker) gin.HandlerFunc {
	return func(c *gin.Context) {
		sess := sessions.Get[AppSession](c.Request.Context())
		if sess.Data.User == "" {
			c.String(http.StatusUnauthorized, "Please sign in first")
			return
		}
		c.Header("Content-Type", "text/event-stream")
		c.Header("Cache-Control", "no-store")
		c.Writer.Flush()
		demo.Count(c.Request.Context(), sess, tick(), func(event, data string) error {
			c.SSEvent(event, data)
			c.Writer.Flush()
			if err := c.Errors.Last(); err != nil {
				return err
			}
			return nil
		})
	}
}

func html(c *gin.Context, page string) {
	c.Header("Cache-Control", "no-store") // no cache keeps a page of a signed-in user
	c.Data(http.StatusOK, "text/html; charset=utf-8", []byte(page))
}
