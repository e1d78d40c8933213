// Dghubble is a minimal login with github.com/dghubble/sessions.
package main

import (
	"crypto/rand"
	"fmt"
	"log"
	"net/http"

	"github.com/dghubble/sessions"
)

func main() {
	store := sessions.NewCookieStore[int](sessions.DefaultCookieConfig, []byte(rand.Text()+rand.Text()))
	http.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		s := store.New("session")
		s.Set("uid", 42)
		if err := s.Save(w); err != nil {
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	http.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		uid := 0
		if s, err := store.Get(r, "session"); err == nil {
			uid = s.Get("uid")
		}
		fmt.Fprintf(w, "user %d\n", uid)
	})
	log.Fatal(http.ListenAndServe("localhost:8080", nil))
}
