package dbsc_test

import (
	"log"
	"net/http"
	"os"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/dbsc"
)

func Example() {
	keys, err := sessions.ParseKeyring(os.Getenv("SESSION_KEYS"))
	if err != nil {
		log.Fatal(err)
	}
	mgr, err := sessions.New(sessions.Config[Account]{Keys: keys, Store: new(sessions.MemoryStore)})
	if err != nil {
		log.Fatal(err)
	}
	devices, err := dbsc.New(mgr, dbsc.Options{Login: []string{"/login", "/logout"}, Exclude: []string{"/static"}})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[Account](r.Context())
		// Here the password is checked.
		sess.RegenerateID()
		sess.Data.User = r.FormValue("user")
		dbsc.Offer(r.Context())
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	log.Fatal(http.ListenAndServeTLS(":443", "cert.pem", "key.pem", mgr.Middleware(devices.Middleware(mux))))
}

// For some pages an ordinary session is not enough.
func ExampleStateOf() {
	boundOnly := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if dbsc.StateOf(r.Context()) != dbsc.Bound {
				http.Error(w, "Sign in with a browser that binds its session to your device.", http.StatusForbidden)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	http.Handle("/admin/", boundOnly(http.NotFoundHandler()))
}
