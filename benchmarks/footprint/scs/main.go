// Scs is a minimal login with github.com/alexedwards/scs.
package main

import (
	"fmt"
	"log"
	"net/http"

	"github.com/alexedwards/scs/v2"
)

func main() {
	m := scs.New()
	m.Cookie.Secure = true
	http.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if err := m.RenewToken(r.Context()); err != nil {
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
			return
		}
		m.Put(r.Context(), "uid", 42)
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	http.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "user %d\n", m.GetInt(r.Context(), "uid"))
	})
	log.Fatal(http.ListenAndServe("localhost:8080", m.LoadAndSave(http.DefaultServeMux)))
}
