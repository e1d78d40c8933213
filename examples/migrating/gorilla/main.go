// Gorilla is a site that kept its sessions in the CookieStore of
// gorilla/sessions until now. Visitors who are signed in stay signed in: the first
// visit adopts their old cookie.
package main

import (
	"encoding/base64"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	gorilla "github.com/gorilla/sessions"

	"github.com/typedsessions/sessions"
)

// AppSession is what used to be session.Values["userID"] and so on.
type AppSession struct {
	UserID int      `msgpack:"uid" validate:"gte=0"`
	Name   string   `msgpack:"name" validate:"max=64"`
	Cart   []string `msgpack:"cart" validate:"max=100"`
}

// oldName is the name that store.Get was called with.
const oldName = "session"

func main() {
	keys, err := sessions.ParseKeyring(os.Getenv("SESSION_KEYS"))
	if err != nil {
		log.Fatal(err)
	}
	hashKey, err := base64.StdEncoding.DecodeString(os.Getenv("OLD_HASH_KEY"))
	if err != nil || len(hashKey) == 0 {
		log.Fatal("OLD_HASH_KEY: need the base64 of the key that signed the old cookies")
	}
	old := gorilla.NewCookieStore(hashKey) // all the keys that it had, in their order
	handler, err := newHandler(keys, old)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("localhost:8080", handler))
}

func newHandler(keys *sessions.Keyring, old *gorilla.CookieStore) (http.Handler, error) {
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:     keys,
		Lifetime: 30 * 24 * time.Hour, // as gorilla's, unless it was told otherwise
		Import:   func(r *http.Request) (AppSession, bool) { return adopt(r, old) },
		ImportCookies: []http.Cookie{{
			Name:        oldName,
			Path:        old.Options.Path,
			Domain:      old.Options.Domain,
			Secure:      old.Options.Secure,
			SameSite:    old.Options.SameSite,
			Partitioned: old.Options.Partitioned,
		}},
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", home)
	mux.HandleFunc("POST /logout", logout)
	return http.NewCrossOriginProtection().Handler(mgr.Middleware(mux)), nil
}

// adopt reads the old cookie. It calls New: Get would keep the session in the
// request, and replace what is in *r.
func adopt(r *http.Request, old *gorilla.CookieStore) (AppSession, bool) {
	session, err := old.New(r, oldName)
	if err != nil || session.IsNew {
		return AppSession{}, false // forged, too old, or not there
	}
	var data AppSession
	data.UserID, _ = session.Values["userID"].(int)
	data.Name, _ = session.Values["name"].(string)
	data.Cart, _ = session.Values["cart"].([]string)
	return data, true
}

func home(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	for _, flash := range sess.Flashes() {
		fmt.Fprintln(w, flash.Message)
	}
	if sess.Data.UserID == 0 {
		fmt.Fprintln(w, "You are not signed in")
		return
	}
	fmt.Fprintf(w, "You are %s, user %d, with %q in the cart\n", sess.Data.Name, sess.Data.UserID, sess.Data.Cart)
}

func logout(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	sess.Reset()
	sess.Flash("info", "You have signed out")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
