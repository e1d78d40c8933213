package shop

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
	"github.com/typedsessions/sessions/dbsc"
)

// AppSession is all that the application remembers of a visitor. The zero
// value is a visitor who has not done anything yet.
type AppSession struct {
	User   string         `msgpack:"user" validate:"max=32"` // "" until the visitor signs in
	Device string         `msgpack:"device" validate:"max=64"`
	SeenAt time.Time      `msgpack:"seen"` // to the precision of seenEvery
	Cart   map[string]int `msgpack:"cart" validate:"max=50,dive,keys,max=32,endkeys,min=1,max=99"`
	Bound  bool           `msgpack:"bound"` // to its device, for the list of sessions
}

// seenEvery is the precision of SeenAt: each change of it is a write to the
// store. Info.LastUsedAt would cost less, but it needs an IdleTimeout, which
// would end a sign-in that is to be remembered for 30 days.
const seenEvery = 5 * time.Minute

const (
	rememberFor = 30 * 24 * time.Hour
	maxForm     = 16 << 10 // bytes
)

// An App is the shop.
type App struct {
	Sessions *sessions.Manager[AppSession]
	devices  *dbsc.Devices // nil without Settings.Bind
	users    *users
	pages    map[string]*template.Template
	lists    bool      // whether the store can list the sessions of a user
	events   *eventLog // nil without Settings.Debug
	stopping chan struct{}
}

// Stop ends the streams, so that the program can stop.
func (a *App) Stop() { close(a.stopping) }

// New returns the shop with its sessions in store, or in cookies if store is
// nil. The passwords of its users are hashed with bcrypt of the given cost.
func New(keys *sessions.Keyring, store sessions.Store, cost int, s Settings) (*App, error) {
	config := sessions.Config[AppSession]{
		Keys:  keys,
		Store: store,
		// The cookie goes when the browser closes, unless "remember me" was ticked.
		Cookie: sessions.Cookie{Insecure: !s.Secure && !s.Bind, BrowserSession: true},
	}
	_, lists := store.(sessions.OwnerStore)
	if lists {
		config.Owner = func(s *AppSession) string { return s.User }
	}
	var events *eventLog
	if s.Debug {
		events = new(eventLog)
		config.OnEvent = events.note
	}
	mgr, err := sessions.New(config)
	if err != nil {
		return nil, err
	}
	var devices *dbsc.Devices
	if s.Bind {
		options := dbsc.Options{Login: []string{"/login", "/logout"}}
		if s.Debug {
			options.OnEvent = events.noteDevice
		}
		if devices, err = dbsc.New(mgr, options); err != nil {
			return nil, err
		}
	}
	people, err := newUsers(Passwords, cost)
	if err != nil {
		return nil, err
	}
	pages, err := parsePages()
	if err != nil {
		return nil, err
	}
	return &App{
		Sessions: mgr, devices: devices, users: people, pages: pages,
		lists: lists, events: events, stopping: make(chan struct{}),
	}, nil
}

// Handler returns the handler of all paths of the shop. The session middleware
// is around the pages and nothing else: a stylesheet or a health check needs no
// session and should not wait for one.
func (a *App) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /static/{file}", static)
	mux.HandleFunc("GET /healthz", healthz)

	crossOrigin := http.NewCrossOriginProtection()
	page := func(pattern string, h http.HandlerFunc) {
		mux.Handle(pattern, crossOrigin.Handler(http.MaxBytesHandler(a.Sessions.Middleware(a.bound(h)), maxForm)))
	}
	page("GET /{$}", a.shop)
	page("POST /cart/add", a.addToCart)
	page("POST /cart/remove", a.removeFromCart)
	page("GET /login", a.loginForm)
	page("POST /login", a.login)
	page("POST /logout", a.logout)
	page("GET /dashboard", a.signedIn(a.dashboard))
	page("GET /sessions", a.signedIn(a.listSessions))
	page("GET /sessions/end", a.signedIn(a.sessionEnd))
	page("POST /sessions/revoke", a.signedIn(a.revokeSession))
	page("POST /sessions/revoke-others", a.signedIn(a.revokeOthers))
	if a.devices != nil {
		page("POST /dbsc/", http.NotFound) // which a.devices answers
	}
	if a.events != nil {
		page("GET /debug/sessions", a.debug)
	}
	return secureHeaders(mux)
}

// bound returns a handler that calls next for a session that is bound to its
// device only if the request comes from that device.
func (a *App) bound(next http.Handler) http.Handler {
	if a.devices == nil {
		return next
	}
	return a.devices.Middleware(next)
}

// signedIn calls next for signed-in visitors and sends the others to the login
// page.
func (a *App) signedIn(next http.HandlerFunc) http.HandlerFunc {
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
		sess.Data.Bound = dbsc.StateOf(r.Context()) == dbsc.Bound
		next(w, r)
	}
}

// Signing in and out.

func (a *App) loginForm(w http.ResponseWriter, r *http.Request) {
	if sessions.Get[AppSession](r.Context()).Data.User != "" {
		seeOther(w, r, "/dashboard")
		return
	}
	a.render(w, r, "login", "Sign in", struct{ Name, Password string }{DemoUser, Passwords[DemoUser]})
}

func (a *App) login(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	name := r.PostFormValue("username")
	if !a.users.check(name, r.PostFormValue("password")) {
		sess.Flash("error", "Invalid username or password")
		seeOther(w, r, "/login")
		return
	}
	if other := sess.Data.User; other != "" && other != name {
		sess.Reset() // the cart, the messages and the lifetime belong to the other user
	}
	// A new id: somebody may have planted the old one in this browser.
	sess.RegenerateID()
	// The whole struct is assigned. What is to be kept is named here, so that a
	// field that is added later, such as a role, cannot pass to another user.
	sess.Data = AppSession{
		User:   name,
		Device: deviceLabel(r.UserAgent()),
		SeenAt: time.Now(),
		Cart:   sess.Data.Cart,
	}
	if r.PostFormValue("remember") != "" {
		sess.SetLifetime(rememberFor)
	}
	if a.devices != nil {
		dbsc.Offer(r.Context())
	}
	seeOther(w, r, "/dashboard")
}

// logout ends the session. Chromium keeps no-store pages in its memory, for a click
// on Back. Since the cookie has changed, it asks the server for them again.
func (a *App) logout(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	sess.Reset()
	sess.Flash("info", "You have signed out")
	seeOther(w, r, "/login")
}

// The shop.

func (a *App) shop(w http.ResponseWriter, r *http.Request) {
	cart := sessions.Get[AppSession](r.Context()).Data.Cart
	lines, total := cartLines(cart)
	a.render(w, r, "shop", "Shop", struct {
		Catalogue []product
		InCart    map[string]int
		Cart      []cartLine
		Total     cents
	}{catalogue, cart, lines, total})
}

func (a *App) addToCart(w http.ResponseWriter, r *http.Request) {
	item, ok := productByID(r.PostFormValue("item"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	// Update runs again if another tab has changed the cart in the meantime, so
	// that both changes count.
	sessions.Get[AppSession](r.Context()).Update(func(s *AppSession) {
		if s.Cart == nil {
			s.Cart = make(map[string]int)
		}
		s.Cart[item.ID] = min(s.Cart[item.ID]+1, maxPerProduct)
	})
	seeOther(w, r, "/#"+item.ID)
}

func (a *App) removeFromCart(w http.ResponseWriter, r *http.Request) {
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

// Pages for signed-in visitors.

func (a *App) dashboard(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	lines, total := cartLines(sess.Data.Cart)
	a.render(w, r, "dashboard", "Dashboard", struct {
		Session *sessions.Session[AppSession]
		Cart    []cartLine
		Total   cents
	}{sess, lines, total})
}

// A place is a session of the user, for the list of them.
type place struct {
	sessions.Info[AppSession]
	Current bool
}

func (p place) Device() string { return cmp.Or(p.Data.Device, "Unknown device") }

func (a *App) listSessions(w http.ResponseWriter, r *http.Request) {
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

// places returns the sessions of the user of sess: this one first, then the
// others by their last use, the latest first. Without a store that can list
// them, the error is [errors.ErrUnsupported].
func (a *App) places(ctx context.Context, sess *sessions.Session[AppSession]) ([]place, error) {
	var places []place
	for info, err := range a.Sessions.Sessions(ctx, sess.Data.User) {
		if err != nil && info.ID == "" {
			return nil, err
		}
		// A session that a newer release has stored comes with its id and an error.
		// The id is enough to revoke it.
		p := place{info, info.ID == sess.ID()}
		if p.Current {
			p.Data = sess.Data // what this request has changed is not stored yet
		}
		places = append(places, p)
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

// sessionEnd is a stream of server-sent events with one event, when the session
// ends, so that a page that is open says it. Watching is no use of the session.
func (a *App) sessionEnd(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := sessions.Get[AppSession](r.Context()).Watch(r.Context())
	defer cancel()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	if out.Flush() != nil {
		return
	}
	select {
	case <-ctx.Done():
	case <-a.stopping:
		return // the page connects again when the next program runs
	}
	if errors.Is(context.Cause(ctx), sessions.ErrNotFound) {
		fmt.Fprint(w, "event: end\ndata: This device has been signed out\n\n")
	}
}

// revokeSession ends one of the user's own sessions. For the id of another
// user's session the answer is the same as for an id that does not exist.
func (a *App) revokeSession(w http.ResponseWriter, r *http.Request) {
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
	if err := a.Sessions.Revoke(r.Context(), id); err != nil {
		fail(w, r, err)
		return
	}
	sess.Flash("info", "Signed out: "+places[i].Device())
	seeOther(w, r, "/sessions")
}

func (a *App) revokeOthers(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	n, err := a.Sessions.RevokeOwner(r.Context(), sess.Data.User, sess.ID())
	if err != nil {
		fail(w, r, err)
		return
	}
	sess.Flash("info", fmt.Sprintf("Signed out everywhere else (%d)", n))
	seeOther(w, r, "/sessions")
}
