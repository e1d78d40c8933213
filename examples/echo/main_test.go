package main

import (
	"io"
	"net/http"
	"testing"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/internal/demo"
	"github.com/typedsessions/sessions/examples/internal/demotest"
)

func TestProgram(t *testing.T) { demotest.Run(t, demotest.HTTP(newHandler)) }

func TestProgramWithTheMiddlewareInsideOfEcho(t *testing.T) {
	demotest.Run(t, demotest.HTTP(func(mgr *sessions.Manager[AppSession], tick demo.Ticker) http.Handler {
		e := newEcho(tick)
		e.Use(echo.WrapMiddleware(mgr.Middleware))
		return e
	}))
}

// placements are the two places of the middleware.
var placements = []struct {
	name   string
	around bool
	handle func(*sessions.Manager[AppSession], *echo.Echo) http.Handler
}{
	{"around", true, func(mgr *sessions.Manager[AppSession], e *echo.Echo) http.Handler {
		return mgr.Middleware(e)
	}},
	{"inside", false, func(mgr *sessions.Manager[AppSession], e *echo.Echo) http.Handler {
		e.Use(echo.WrapMiddleware(mgr.Middleware))
		return e
	}},
}

func TestErrorPageCanChangeTheSessionOnlyFromAroundEcho(t *testing.T) {
	for _, tt := range placements {
		t.Run(tt.name, func(t *testing.T) {
			e := echo.New()
			e.GET("/", func(echo.Context) error { return echo.ErrTeapot })
			e.HTTPErrorHandler = func(_ error, c echo.Context) {
				sessions.Get[AppSession](c.Request().Context()).Flash("error", "That went wrong")
				_ = c.String(http.StatusTeapot, "no coffee")
			}
			res := demotest.Get(t, tt.handle(demotest.NewManager(t), e))
			if stored := len(res.Cookies()) > 0; res.StatusCode != http.StatusTeapot || stored != tt.around {
				t.Errorf("got status %d and stored: %t, want 418 and %t", res.StatusCode, stored, tt.around)
			}
		})
	}
}

func TestHooksOfTheResponseRunBeforeTheSessionIsStored(t *testing.T) {
	for _, tt := range placements {
		t.Run(tt.name, func(t *testing.T) {
			e := echo.New()
			e.GET("/", func(c echo.Context) error {
				c.Response().Before(func() { sessions.Get[AppSession](c.Request().Context()).Data.Messages = 1 })
				return c.NoContent(http.StatusNoContent)
			})
			res := demotest.Get(t, tt.handle(demotest.NewManager(t), e))
			if len(res.Cookies()) == 0 {
				t.Error("got no cookie: what the hook changed is lost")
			}
		})
	}
}

func TestPanicThatRecoverTurnsIntoAnAnswerIsStored(t *testing.T) {
	e := echo.New()
	e.Logger.SetOutput(io.Discard)
	e.Use(middleware.Recover())
	e.GET("/", func(c echo.Context) error {
		sessions.Get[AppSession](c.Request().Context()).Data.Messages = 1
		panic("half done")
	})
	res := demotest.Get(t, demotest.NewManager(t).Middleware(e))
	if res.StatusCode != http.StatusInternalServerError || len(res.Cookies()) == 0 {
		t.Errorf("got status %d and the cookies %v, want 500 and a session", res.StatusCode, res.Cookies())
	}
}
