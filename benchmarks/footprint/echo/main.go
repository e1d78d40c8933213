// Echo is a minimal login with github.com/labstack/echo-contrib/session.
package main

import (
	"fmt"
	"log"
	"net/http"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"github.com/labstack/echo-contrib/session"
	"github.com/labstack/echo/v4"
)

func main() {
	store := sessions.NewCookieStore(securecookie.GenerateRandomKey(32))
	store.Options.HttpOnly, store.Options.Secure, store.Options.SameSite = true, true, http.SameSiteLaxMode
	e := echo.New()
	e.Use(session.Middleware(store))
	e.POST("/login", func(c echo.Context) error {
		s, err := session.Get("session", c)
		if err != nil {
			return err
		}
		s.Values["uid"] = 42
		if err := s.Save(c.Request(), c.Response()); err != nil {
			return err
		}
		return c.Redirect(http.StatusSeeOther, "/")
	})
	e.GET("/", func(c echo.Context) error {
		s, _ := session.Get("session", c)
		uid, _ := s.Values["uid"].(int)
		return c.String(http.StatusOK, fmt.Sprintf("user %d\n", uid))
	})
	log.Fatal(e.Start("localhost:8080"))
}
