// Sessions is a minimal login with this library.
package main

import (
	"fmt"
	"log"
	"net/http"

	"github.com/typedsessions/sessions"
)

type session struct {
	UserID int `msgpack:"uid" validate:"gte=0"`
}

func main() {
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		log.Fatal(err)
	}
	m, err := sessions.New(sessions.Config[session]{Keys: keys})
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		s := sessions.Get[session](r.Context())
		s.RegenerateID()
		s.Data.UserID = 42
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	http.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "user %d\n", sessions.Get[session](r.Context()).Data.UserID)
	})
	log.Fatal(http.ListenAndServe("localhost:8080", m.Middleware(http.DefaultServeMux)))
}
