// Chi is a login, a stream and a WebSocket with chi:
//
//	go run ./examples/chi
//
// chi uses the handlers of net/http, so mgr.Middleware is a middleware like any
// other, for the whole router or for a group of routes. It must be inside of
// middleware.Recoverer, so that a handler that panics stores nothing. The other
// middleware of chi, such as Logger and Compress, may be outside or inside of it.
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
		r.Use(mgr.Middleware) // routes outside of the group work even if the store fails
		r.Get("/login", loginForm)
		r.Post("/login", login)
		r.Post("/logout", logout)
		r.With(signedIn).Get("/", dashboard)
		r.Get("/events", demo.Events(tick))
		r.Get("/ws", demo.Chat)
	})
	return router
}

// signedIn calls next for signed-in visitors and sends the others to the login
// page.
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
