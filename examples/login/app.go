package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"time"

	"github.com/typedsessions/sessions"
)

// AppSession is all that the application remembers of a visitor. The zero
// value is a visitor of whom nothing is known.
type AppSession struct {
	User   string         `msgpack:"user" validate:"max=32"` // "" until he signs in
	Device string         `msgpack:"device" validate:"max=64"`
	SeenAt time.Time      `msgpack:"seen"` // to seenEvery
	Cart   map[string]int `msgpack:"cart" validate:"max=50,dive,keys,max=32,endkeys,min=1,max=99"`
}

// seenEvery is how exactly SeenAt is kept: each note of it is a write to the
// store. Info.LastUsedAt would cost less, but follows an IdleTimeout, and here
// there is none: it would end a sign-in that is to be remembered for 30 days.
const seenEvery = 5 * time.Minute

const (
	rememberFor = 30 * 24 * time.Hour
	maxForm     = 16 << 10 // bytes
)

type app struct {
	sessions *sessions.Manager[AppSession]
	users    *users
	pages    map[string]*template.Template
	lists    bool      // whether the store can list a person's sessions
	events   *eventLog // nil: nobody is debugging
}

// newApp makes the application on a store, or on cookies alone if it is nil.
func newApp(keys *sessions.Keyring, store sessions.Store, people *users, s settings) (*app, error) {
	config := sessions.Config[AppSession]{
		Keys:  keys,
		Store: store,
		// The cookie goes when the browser closes, unless "remember me" was ticked.
		Cookie: sessions.Cookie{Insecure: !s.secure, BrowserSession: true},
	}
	_, lists := store.(sessions.OwnerStore)
	if lists {
		config.Owner = func(s *AppSession) string { return s.User }
	}
	var events *eventLog
	if s.debug {
		events = new(eventLog)
		config.OnEvent = events.note
	}
	mgr, err := sessions.New(config)
	if err != nil {
		return nil, err
	}
	pages, err := parsePages()
	if err != nil {
		return nil, err
	}
	return &app{sessions: mgr, users: people, pages: pages, lists: lists, events: events}, nil
}

// routes puts the session middleware around the pages and nothing else: a
// stylesheet or a health check needs no session and should not wait for one.
func (a *app) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /static/{file}", static)
	mux.HandleFunc("GET /healthz", healthz)

	crossOrigin := http.NewCrossOriginProtection()
	page := func(pattern string, h http.HandlerFunc) {
		mux.Handle(pattern, crossOrigin.Handler(http.MaxBytesHandler(a.sessions.Middleware(h), maxForm)))
	}
	page("GET /{$}", a.shop)
	page("POST /cart/add", a.addToCart)
	page("POST /cart/remove", a.removeFromCart)
	page("GET /login", a.loginForm)
	page("POST /login", a.login)
	page("POST /logout", a.logout)
	page("GET /dashboard", a.signedIn(a.dashboard))
	page("GET /sessions", a.signedIn(a.listSessions))
	page("POST /sessions/revoke", a.signedIn(a.revokeSession))
	page("POST /sessions/revoke-others", a.signedIn(a.revokeOthers))
	if a.events != nil {
		page("GET /debug/sessions", a.debug)
	}
	return secureHeaders(mux)
}

// signedIn lets only those through to next who have signed in.
func (a *app) signedIn(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if sess.Data.User == "" {
			sess.Flash("error", "Please sign in first")
			seeOther(w, r, "/login")
			return
		}
		if now := time.Now(); a.lists && now.Sub(sess.Data.SeenAt) >= seenEvery {
			sess.Data.SeenAt = now
		}
		next(w, r)
	}
}

// Signing in and out.

func (a *app) loginForm(w http.ResponseWriter, r *http.Request) {
	if sessions.Get[AppSession](r.Context()).Data.User != "" {
		seeOther(w, r, "/dashboard")
		return
	}
	a.render(w, r, "login", "Sign in", struct{ Name, Password string }{demoUser, demoUsers[demoUser]})
}

func (a *app) login(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	name := r.PostFormValue("username")
	if !a.users.check(name, r.PostFormValue("password")) {
		sess.Flash("error", "Invalid username or password")
		seeOther(w, r, "/login")
		return
	}
	if other := sess.Data.User; other != "" && other != name {
		sess.Reset() // what is in his cart is no business of the next one's
	}
	sess.RegenerateID() // an id that somebody planted in this browser is worth nothing now
	sess.Data.User = name
	sess.Data.Device = deviceLabel(r.UserAgent())
	sess.Data.SeenAt = time.Now()
	if r.PostFormValue("remember") != "" {
		sess.SetLifetime(rememberFor)
	}
	seeOther(w, r, "/dashboard")
}

func (a *app) logout(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	sess.Reset()
	sess.Flash("info", "You have signed out")
	seeOther(w, r, "/login")
}

// The shop.

func (a *app) shop(w http.ResponseWriter, r *http.Request) {
	cart := sessions.Get[AppSession](r.Context()).Data.Cart
	lines, total := cartLines(cart)
	a.render(w, r, "shop", "Shop", struct {
		Catalogue []product
		InCart    map[string]int
		Cart      []cartLine
		Total     cents
	}{catalogue, cart, lines, total})
}

func (a *app) addToCart(w http.ResponseWriter, r *http.Request) {
	item, ok := productByID(r.PostFormValue("item"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	// Update runs again if another tab changed the cart meanwhile: both count.
	sessions.Get[AppSession](r.Context()).Update(func(s *AppSession) {
		if s.Cart == nil {
			s.Cart = make(map[string]int)
		}
		s.Cart[item.ID] = min(s.Cart[item.ID]+1, maxPerProduct)
	})
	seeOther(w, r, "/#"+item.ID)
}

func (a *app) removeFromCart(w http.ResponseWriter, r *http.Request) {
	id := r.PostFormValue("item")
	sessions.Get[AppSession](r.Context()).Update(func(s *AppSession) {
		if s.Cart[id] > 1 {
			s.Cart[id]--
		} else {
			delete(s.Cart, id)
		}
	})
	seeOther(w, r, "/#cart")
}

// Pages for those who are signed in.

func (a *app) dashboard(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	lines, total := cartLines(sess.Data.Cart)
	a.render(w, r, "dashboard", "Dashboard", struct {
		Session *sessions.Session[AppSession]
		Cart    []cartLine
		Total   cents
	}{sess, lines, total})
}

// A place is where a person is signed in.
type place struct {
	sessions.Info[AppSession]
	Current bool
}

func (p place) Device() string { return cmp.Or(p.Data.Device, "Unknown device") }

func (a *app) listSessions(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	places, err := a.places(r.Context(), sess)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		fail(w, r, err)
		return
	}
	a.render(w, r, "sessions", "Where you are signed in", struct {
		Listed bool
		Places []place
	}{err == nil, places})
}

// places lists the sessions of the user of sess: this one, then the others by
// their last use. Without a store that can list them, the error is
// [errors.ErrUnsupported].
func (a *app) places(ctx context.Context, sess *sessions.Session[AppSession]) ([]place, error) {
	var places []place
	for info, err := range a.sessions.Sessions(ctx, sess.Data.User) {
		if err != nil && info.ID == "" {
			return nil, err
		}
		// One that a newer release stored has an id and an error: enough to revoke it.
		places = append(places, place{info, info.ID == sess.ID()})
	}
	slices.SortFunc(places, func(a, b place) int {
		switch {
		case a.Current:
			return -1
		case b.Current:
			return 1
		}
		return b.Data.SeenAt.Compare(a.Data.SeenAt)
	})
	return places, nil
}

// revokeSession ends one of the user's own sessions. Whoever asks for the id of
// another's learns no more than that it is none of his.
func (a *app) revokeSession(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	id := r.PostFormValue("id")
	if id == sess.ID() {
		a.logout(w, r)
		return
	}
	places, err := a.places(r.Context(), sess)
	if err != nil {
		fail(w, r, err)
		return
	}
	i := slices.IndexFunc(places, func(p place) bool { return p.ID == id })
	if i < 0 {
		sess.Flash("error", "That is not one of your sessions, or it has ended")
		seeOther(w, r, "/sessions")
		return
	}
	if err := a.sessions.Revoke(r.Context(), id); err != nil {
		fail(w, r, err)
		return
	}
	sess.Flash("info", "Signed out: "+places[i].Device())
	seeOther(w, r, "/sessions")
}

func (a *app) revokeOthers(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	n, err := a.sessions.RevokeOwner(r.Context(), sess.Data.User, sess.ID())
	if err != nil {
		fail(w, r, err)
		return
	}
	sess.Flash("info", fmt.Sprintf("Signed out everywhere else (%d)", n))
	seeOther(w, r, "/sessions")
}
