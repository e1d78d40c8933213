// Gin is a minimal login with github.com/gin-contrib/sessions.
package main

import (
	"crypto/rand"
	"log"
	"net/http"

	"github.com/gin-contrib/sessions"
	"github.com/gin-contrib/sessions/cookie"
	"github.com/gin-gonic/gin"
)

func main() {
	store := cookie.NewStore([]byte(rand.Text() + rand.Text()))
	store.Options(sessions.Options{Path: "/", MaxAge: 86400, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode})
	e := gin.New()
	e.Use(sessions.Sessions("session", store))
	e.POST("/login", func(c *gin.Context) {
		s := sessions.Default(c)
		s.Set("uid", 42)
		if err := s.Save(); err != nil {
			c.Status(http.StatusInternalServerError)
			return
		}
		c.Redirect(http.StatusSeeOther, "/")
	})
	e.GET("/", func(c *gin.Context) {
		uid, _ := sessions.Default(c).Get("uid").(int)
		c.String(http.StatusOK, "user %d\n", uid)
	})
	log.Fatal(e.Run("localhost:8080"))
}
