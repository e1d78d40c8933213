// Securecookie is a minimal login with github.com/gorilla/securecookie and JSON.
package main

import (
	"fmt"
	"log"
	"net/http"

	"github.com/gorilla/securecookie"
)

type session struct {
	UserID int `json:"uid"`
}

func main() {
	codec := securecookie.New(securecookie.GenerateRandomKey(32), nil).SetSerializer(securecookie.JSONEncoder{})
	http.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		value, err := codec.Encode("session", session{UserID: 42})
		if err != nil {
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "session", Value: value, Path: "/", MaxAge: 86400, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode})
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	http.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		var s session
		if c, err := r.Cookie("session"); err == nil && codec.Decode("session", c.Value, &s) != nil {
			s = session{}
		}
		fmt.Fprintf(w, "user %d\n", s.UserID)
	})
	log.Fatal(http.ListenAndServe("localhost:8080", nil))
}
