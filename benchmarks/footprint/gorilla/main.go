// Gorilla is a minimal login with github.com/gorilla/sessions.
package main

import (
	"fmt"
	"log"
	"net/http"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
)

func main() {
	store := sessions.NewCookieStore(securecookie.GenerateRandomKey(32))
	store.Options.HttpOnly, store.Options.Secure, store.Options.SameSite = true, true, http.SameSiteLaxMode
	http.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		s, _ := store.Get(r, "session")
		s.Values["uid"] = 42
		if err := s.Save(r, w); err != nil {
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	http.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		s, _ := store.Get(r, "session")
		uid, _ := s.Values["uid"].(int)
		fmt.Fprintf(w, "user %d\n", uid)
	})
	log.Fatal(http.ListenAndServe("localhost:8080", nil))
}
