// Scs is a site that kept its sessions with scs v2 until now. Visitors who are
// signed in stay signed in: the first visit adopts their scs session.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/typedsessions/sessions"
)

// AppSession is what used to be old.Put(ctx, "userID", 42) and so on.
type AppSession struct {
	UserID int      `msgpack:"uid" validate:"gte=0"`
	Name   string   `msgpack:"name" validate:"max=64"`
	Cart   []string `msgpack:"cart" validate:"max=100"`
}

func main() {
	keys, err := sessions.ParseKeyring(os.Getenv("SESSION_KEYS"))
	if err != nil {
		log.Fatal(err)
	}
	old := scs.New() // configured as it was: with its Store, Codec and Cookie
	old.Cookie.Secure = true
	handler, err := newHandler(keys, old)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("localhost:8080", handler))
}

func newHandler(keys *sessions.Keyring, old *scs.SessionManager) (http.Handler, error) {
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:     keys,
		Store:    &sessions.MemoryStore{}, // or one that outlives the process
		Lifetime: old.Lifetime,
		Import:   func(r *http.Request) (AppSession, bool) { return adopt(r.Context(), old) },
		ImportCookies: []http.Cookie{{
			Name:        old.Cookie.Name,
			Path:        old.Cookie.Path,
			Domain:      old.Cookie.Domain,
			Secure:      old.Cookie.Secure,
			Partitioned: old.Cookie.Partitioned,
		}},
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", home)
	mux.HandleFunc("POST /logout", logout)
	return http.NewCrossOriginProtection().Handler(load(old, mgr.Middleware(mux))), nil
}

// load takes the place of old.LoadAndSave, and saves nothing. It runs before
// our middleware, so that a failure of the old store is an error page: an Import
// that finds nothing means a visitor who is signed out.
func load(old *scs.SessionManager, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var token string // without one, scs asks no store
		if cookie, err := r.Cookie(old.Cookie.Name); err == nil {
			token = cookie.Value
		}
		ctx, err := old.Load(r.Context(), token)
		if err != nil {
			log.Print(err)
			http.Error(w, "Please try again in a moment", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// adopt reads the scs session that load has put into ctx.
func adopt(ctx context.Context, old *scs.SessionManager) (AppSession, bool) {
	if old.Token(ctx) == "" {
		return AppSession{}, false // no cookie, or scs does not know it, or no longer
	}
	// A copy of the old cookie must not sign in anybody after a logout. The
	// minute is for requests that the browser has sent at the same time.
	if end := time.Now().Add(time.Minute); old.Deadline(ctx).After(end) {
		old.SetDeadline(ctx, end)
		if _, _, err := old.Commit(ctx); err != nil {
			log.Print(err)
		}
	}
	cart, _ := old.Get(ctx, "cart").([]string)
	return AppSession{
		UserID: old.GetInt(ctx, "userID"),
		Name:   old.GetString(ctx, "name"),
		Cart:   cart,
	}, true
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
