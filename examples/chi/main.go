// Chi is a login, a stream and a WebSocket with chi:
//
//	go run ./examples/chi
//
// chi speaks net/http, so the sessions' middleware is one like any other, for
// the whole router or for a group of routes. Its place among the others matters
// once: inside of middleware.Recoverer, so that a handler that panics stores
// nothing. The wrappers of chi's own middleware, such as Logger and Compress,
// may stand on either side of it.
package main

import (
	"io"
	"log"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/internal/demo"
)

// AppSession is what the application remembers of a visitor.
type AppSession = demo.AppSession

func main() {
	mgr, ln, err := demo.Start()
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(demo.Serve(ln, newHandler(mgr, demo.EverySecond)))
}

func newHandler(mgr *sessions.Manager[AppSession], tick demo.Ticker) http.Handler {
	router := chi.NewRouter()
	router.Use(middleware.Recoverer, http.NewCrossOriginProtection().Handler)
	router.Group(func(r chi.Router) {
		r.Use(mgr.Middleware) // routes outside of the group outlive a store's failure
		r.Get("/login", loginForm)
		r.Post("/login", login)
		r.Post("/logout", logout)
		r.With(signedIn).Get("/", dashboard)
		r.Get("/events", demo.Events(tick))
		r.Get("/ws", demo.Chat)
	})
	return router
}

// signedIn lets only those through to next who have signed in.
func signedIn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if sess.Data.User == "" {
			sess.Flash("error", "Please sign in first")
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func loginForm(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	html(w, demo.LoginPage(sess.Flashes()))
}

func login(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	user := r.PostFormValue("user")
	if !demo.Authenticate(user, r.PostFormValue("password")) {
		sess.Flash("error", "Invalid name or password")
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return
	}
	sess.RegenerateID()                // somebody may have planted the old id in this browser
	sess.Data = AppSession{User: user} // the whole struct: nothing of an earlier user is kept
	sess.Flash("info", "Welcome")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// logout gives the browser a cookie with another value, because of the message.
// After a click on Back, Chromium then asks the server; if the cookie were only
// expired, it would show a no-store page from its memory.
func logout(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	sess.Reset()
	sess.Flash("info", "You have signed out")
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func dashboard(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	html(w, demo.DashboardPage(sess.Data, sess.Flashes()))
}

func html(w http.ResponseWriter, page string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store") // no cache keeps a page of a signed-in user
	_, _ = io.WriteString(w, page)
}
