// Nethttp is a login, a stream and a WebSocket with net/http alone:
//
//	go run ./examples/nethttp
//
// All handlers reach the session in the same way: by [sessions.Get] with the
// context of the request. The changes of a handler are stored before its response
// is sent. Only streams and WebSockets, which go on after the first byte, call
// Save.
package main

import (
	"io"
	"log"
	"net/http"

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

// newHandler puts the middleware around the whole mux. If some routes need no
// session, such as static files, give them another mux outside of it.
func newHandler(mgr *sessions.Manager[AppSession], tick demo.Ticker) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", loginForm)
	mux.HandleFunc("POST /login", login)
	mux.HandleFunc("POST /logout", logout)
	mux.HandleFunc("GET /{$}", signedIn(dashboard))
	mux.HandleFunc("GET /events", demo.Events(tick))
	mux.HandleFunc("GET /ws", demo.Chat)
	return http.NewCrossOriginProtection().Handler(mgr.Middleware(mux))
}

// signedIn calls next for signed-in visitors and sends the others to the login
// page.
func signedIn(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if sess.Data.User == "" {
			sess.Flash("error", "Please sign in first")
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		next(w, r)
	}
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

// logout ends the session and begins another one for the message. Since the response
// sets a cookie, Chromium asks the server after a click on Back: it would show
// a no-store page from its memory otherwise.
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
