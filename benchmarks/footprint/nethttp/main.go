// Nethttp is the program without sessions, with which the others are compared.
package main

import (
	"fmt"
	"log"
	"net/http"
)

func main() {
	http.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	http.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "user %d\n", 0)
	})
	log.Fatal(http.ListenAndServe("localhost:8080", nil))
}
