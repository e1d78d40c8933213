package main

import (
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/internal/demotest"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode) // prints no list of routes
	os.Exit(m.Run())
}

func TestProgram(t *testing.T) { demotest.Run(t, demotest.HTTP(newHandler)) }

// inside is the way that does not work: the handlers that follow write to
// c.Writer, which knows nothing about the session.
func inside(mgr *sessions.Manager[AppSession]) gin.HandlerFunc {
	return func(c *gin.Context) {
		mgr.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			c.Request = r
			c.Next()
		})).ServeHTTP(c.Writer, c.Request)
	}
}

func TestCookieComesWithTheAnswerOnlyFromAroundTheEngine(t *testing.T) {
	mgr := demotest.NewManager(t)
	for _, tt := range []struct {
		name            string
		answer          gin.HandlerFunc
		outside, inside bool // whether the response has the cookie
	}{
		{"with a body", func(c *gin.Context) { c.String(http.StatusOK, "hello") }, true, false},
		{"flushed", func(c *gin.Context) { c.Writer.Flush() }, true, false},
		{"as a redirect with a page", func(c *gin.Context) { c.Redirect(http.StatusFound, "/") }, true, false},
		{"with a status only, which gin sends last", func(c *gin.Context) { c.Status(http.StatusNoContent) }, true, true},
		{"aborted", func(c *gin.Context) { c.AbortWithStatus(http.StatusTeapot) }, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			change := func(c *gin.Context) { sessions.Get[AppSession](c.Request.Context()).Data.Messages = 1 }
			engine := gin.New()
			engine.GET("/", change, tt.answer)
			if got := len(demotest.Get(t, mgr.Middleware(engine)).Cookies()) > 0; got != tt.outside {
				t.Errorf("around the engine: got a cookie: %t, want %t", got, tt.outside)
			}
			engine = gin.New()
			engine.GET("/", inside(mgr), change, tt.answer)
			if got := len(demotest.Get(t, engine).Cookies()) > 0; got != tt.inside {
				t.Errorf("inside the engine: got a cookie: %t, want %t", got, tt.inside)
			}
		})
	}
}

func TestPanicThatRecoveryTurnsIntoAnAnswerIsStored(t *testing.T) {
	engine := gin.New()
	engine.Use(gin.RecoveryWithWriter(io.Discard))
	engine.GET("/", func(c *gin.Context) {
		sessions.Get[AppSession](c.Request.Context()).Data.Messages = 1
		panic("half done")
	})
	res := demotest.Get(t, demotest.NewManager(t).Middleware(engine))
	if res.StatusCode != http.StatusInternalServerError || len(res.Cookies()) == 0 {
		t.Errorf("got status %d and the cookies %v, want 500 and a session", res.StatusCode, res.Cookies())
	}
}

func TestContextStreamWantsADeprecatedInterface(t *testing.T) {
	engine := gin.New()
	engine.GET("/", func(c *gin.Context) {
		defer func() {
			if recover() == nil {
				t.Error("Context.Stream works: the comment of this program is outdated")
			}
			c.Status(http.StatusNoContent)
		}()
		c.Stream(func(io.Writer) bool { return false })
	})
	demotest.Get(t, demotest.NewManager(t).Middleware(engine))
}

func TestSessionIsInTheContextOfTheRequest(t *testing.T) {
	for _, fallback := range []bool{false, true} {
		engine := gin.New()
		engine.ContextWithFallback = fallback
		engine.GET("/", func(c *gin.Context) {
			if _, ok := sessions.Lookup[AppSession](c.Request.Context()); !ok {
				t.Error("the request's context has no session")
			}
			if _, ok := sessions.Lookup[AppSession](c); ok != fallback {
				t.Errorf("ContextWithFallback %t: gin's own context has a session: %t", fallback, ok)
			}
		})
		demotest.Get(t, demotest.NewManager(t).Middleware(engine))
	}
}
