package main

import (
	"net/http"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
)

// around runs the handlers that follow inside of a middleware of net/http that
// sets headers or responds in their place, such as Manager.Middleware. Their
// c.Context() is the context that the middleware has made. The middleware does not
// see their status and body, and of their headers only Cache-Control and Vary.
func around(middleware func(http.Handler) http.Handler) fiber.Handler {
	return func(c fiber.Ctx) error {
		r, err := adaptor.ConvertRequest(c, true)
		if err != nil {
			return err
		}
		w := &answer{header: http.Header{}}
		defer w.copyTo(c) // also when a handler panics: the middleware may have expired a cookie
		middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			c.SetContext(r.Context())
			err = c.Next()
			for _, name := range []string{fiber.HeaderCacheControl, fiber.HeaderVary} {
				for _, line := range c.Response().Header.PeekAll(name) {
					w.header.Add(name, string(line))
				}
			}
		})).ServeHTTP(w, r.WithContext(c.Context()))
		return err
	}
}

// An answer holds the headers that a middleware adds to a response of fiber. If
// it has a status, it replaces the response.
type answer struct {
	header http.Header
	status int
	body   []byte
}

func (w *answer) Header() http.Header { return w.header }

func (w *answer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *answer) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body = append(w.body, b...)
	return len(b), nil
}

func (w *answer) copyTo(c fiber.Ctx) {
	res := c.Response()
	if w.status != 0 {
		res.Reset()
		res.SetStatusCode(w.status)
		res.SetBodyRaw(w.body)
	}
	for name, lines := range w.header {
		if name != fiber.HeaderSetCookie {
			res.Header.Del(name)
		}
		for _, line := range lines {
			res.Header.Add(name, line)
		}
	}
}
