// Package dbsc is experimental: it follows a draft of the W3C, and its names and
// formats may change with that.
//
// It binds sessions to the device that signed in (Device Bound Session
// Credentials, https://w3c.github.io/webappsec-dbsc/). The browser keeps a key
// that cannot be copied, and proves every few minutes that it has it. The proof
// gives it a second cookie, which lasts as long. Without that cookie a bound
// session is worth nothing, so that a stolen pair of cookies works for a few
// minutes. Browsers that know nothing of it keep an ordinary session.
//
//	devices, err := dbsc.New(mgr, dbsc.Options{})
//	handler := mgr.Middleware(devices.Middleware(mux))
//
//	func login(w http.ResponseWriter, r *http.Request) {
//		sess := sessions.Get[AppSession](r.Context())
//		...
//		sess.RegenerateID()
//		sess.Data.UserID = userID
//		dbsc.Offer(r.Context()) // other browsers ignore it
//		http.Redirect(w, r, "/", http.StatusSeeOther)
//	}
//
// # What it promises
//
// With a Store, a session that is bound answers nobody without a fresh bound
// cookie, whatever copies of its cookie exist.
//
// Without a Store the promise is weaker. The session is in the cookie, and so is
// its binding. A copy of the cookie from before the binding, such as the one that
// the login itself set, stays an unbound session until it expires. And if
// a parallel response overtakes the one that binds the session, the binding is
// undone; the browser is then asked again. Use a Store where you can choose.
//
// In either mode, malware that stays on the device can use the session there, and
// whoever has the cookie before the browser has registered its key can register
// another. docs/DBSC.md says more, and which browsers take part.
package dbsc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/cookie"
	"github.com/typedsessions/sessions/internal/seam"
)

// ReasonStale is the Session.Reason of the new session that a handler sees in
// place of a bound one whose request brought no good bound cookie (see
// [Options].Login).
const ReasonStale sessions.Reason = "stale"

// A State says how far a session is bound to its device.
type State int

const (
	// None: the session was not offered, or is withheld.
	None State = iota
	// Offered: the browser was asked to bind it and has not done so, or has not
	// come with its first bound cookie yet, or had not when this request began.
	Offered
	// Bound: the request has proved to be of the device that the session is bound
	// to, at most Options.Every ago.
	Bound
)

// String returns "none", "offered" or "bound".
func (s State) String() string {
	switch s {
	case None:
		return "none"
	case Offered:
		return "offered"
	case Bound:
		return "bound"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// Options say how [New] makes Devices. The zero value is ready, if people sign in
// and out at /login and /logout.
type Options struct {
	// Path of the two addresses that browsers send their proofs to. It begins and
	// ends with a slash. The Devices' Middleware must get the requests to it.
	// Zero: "/dbsc/".
	Path string

	// Every is how often a browser proves that it has the key, and so how long
	// a stolen pair of cookies works at most, give or take half a minute. At least
	// 5 minutes: browsers sign six times in nine minutes for one site, and no more.
	// Whole seconds. Zero: 10 minutes.
	Every time.Duration

	// Login are the paths by which people sign in and out. A path that ends with
	// a slash stands for all below it. A bound session whose request brought no
	// good bound cookie is shown there as a new one, for [ReasonStale], so that a
	// login heals it, and that Destroy and Reset end it. On other paths its handler
	// is not called: where Login is not the path by which they sign in, users whose
	// browser has lost its key are refused there too, until the session ends. Nil:
	// "/login" and "/logout".
	Login []string

	// Exclude are paths whose requests browsers send without waiting for a proof,
	// such as those of static files. A path that ends with a slash stands for all
	// below it, and one that does not, too. A bound session is shown there as a new
	// one whose changes are discarded, unless its bound cookie is good.
	Exclude []string

	// OnStale answers the navigation to a page with a bound session and without
	// a good bound cookie. The session is shown as a new one. Nil: a short page
	// with status 403, which offers to try again. It is not asked about other
	// requests, which get status 403 and nothing else.
	OnStale http.Handler

	// NoReload turns off that a navigation from another site is answered by an
	// empty page that loads itself again. Browsers do not send a proof before
	// such a navigation, but do before the second one, which comes from this site
	// itself. So a link from an e-mail works after ten minutes. But it turns
	// a cross-site GET into a same-origin one, which matters to handlers that
	// look at Sec-Fetch-Site of a GET.
	NoReload bool

	// Origin of the site, such as "https://example.com", where a proxy changes the
	// Host of requests. It tells sessions of different sites apart. Zero: https and
	// the Host of the request.
	Origin string

	// OnEvent is told what happens to devices. It is called on the goroutine of
	// the request, which waits for it; a panic of it is caught and logged.
	OnEvent func(context.Context, Event)
}

// Devices bind the sessions of one Manager. [New] makes them. They are safe for
// concurrent use.
type Devices struct {
	options           Options
	site              *seam.Site
	mint              mint
	cookie            cookie.Spec // of the bound cookie
	register, refresh string      // paths
	maxAge            int64
}

// What a token lasts. Those of a challenge are short, since a challenge can be
// answered more than once.
const (
	registerWithin = 5 * time.Minute
	refreshWithin  = 2 * time.Minute
	grace          = 30 * time.Second // that the server gives a bound cookie beyond its Max-Age
)

// New makes the Devices of a Manager. A Manager has one. The error lists
// everything that is wrong with the options, and with the Manager's cookie, and
// how to fix it.
func New[T any](mgr *sessions.Manager[T], options Options) (*Devices, error) {
	if mgr == nil {
		return nil, errors.New("dbsc: New: the Manager is nil; sessions.New makes one")
	}
	d, err := newDevices(mgr.Middleware(nil).(seam.Handler).Site(), options)
	if err != nil {
		return nil, fmt.Errorf("dbsc: New: %w", err)
	}
	return d, nil
}

func newDevices(site *seam.Site, options Options) (*Devices, error) {
	d := &Devices{options: options, site: site, mint: mint{site: site}, cookie: beside(site.Cookie)}
	o := &d.options
	o.Login, o.Exclude = slices.Clone(o.Login), slices.Clone(o.Exclude)
	if o.Path == "" {
		o.Path = "/dbsc/"
	}
	if o.Login == nil {
		o.Login = []string{"/login", "/logout"}
	}
	if o.Every == 0 {
		o.Every = 10 * time.Minute
	}
	if o.OnStale == nil {
		o.OnStale = http.HandlerFunc(stalePage)
	}
	d.register, d.refresh, d.maxAge = o.Path+"register", o.Path+"refresh", int64(o.Every/time.Second)
	if err := errors.Join(o.check(), checkCookie(site)); err != nil {
		return nil, err
	}
	o.Origin = strings.ToLower(o.Origin)
	if !site.Attach(d) {
		return nil, errors.New("the Manager has Devices already; use those, or make a second Manager with a Config.Cookie.Name of its own")
	}
	return d, nil
}

// beside returns the spec of the bound cookie. Chromium 156 binds no cookie whose
// name begins with __Host-Http- (InvalidCredentialsCookie), so this one has __Host-
// in its place. A script could then set it, but cannot make a good one.
func beside(session cookie.Spec) cookie.Spec {
	const refused, taken = "__Host-Http-", "__Host-"
	if n := len(refused); len(session.Name) >= n && strings.EqualFold(session.Name[:n], refused) {
		session.Name = taken + session.Name[n:]
	}
	return session.Beside("-bound")
}

func (o *Options) check() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf("Options."+format, args...)) }
	switch {
	case !isPath(o.Path) || !strings.HasSuffix(o.Path, "/"):
		refuse("Path: %q must begin and end with a slash, and hold letters, digits and -._~/ only, and neither . nor .. between slashes", o.Path)
	case o.Path == "/":
		refuse(`Path: "/" takes the paths /register and /refresh from the application; leave it empty for "/dbsc/"`)
	}
	switch {
	case o.Every < 5*time.Minute:
		refuse("Every: %v, need at least 5m: browsers sign six times in nine minutes for one site, and no more", o.Every)
	case o.Every > 24*time.Hour:
		refuse("Every: %v, need at most 24h: it is how long a stolen pair of cookies works", o.Every)
	case o.Every%time.Second != 0:
		refuse("Every: %v, need whole seconds: Max-Age counts them", o.Every)
	}
	for _, list := range []struct {
		field string
		paths []string
	}{{"Login", o.Login}, {"Exclude", o.Exclude}} {
		for _, p := range list.paths {
			if !isPath(p) {
				refuse("%s: %q must begin with a slash, and hold letters, digits and -._~/ only, and neither . nor .. between slashes", list.field, p)
			}
		}
	}
	if slices.Contains(o.Exclude, "/") {
		refuse(`Exclude: "/" is every page; name the paths of static files`)
	}
	if o.Origin != "" {
		u, err := url.Parse(o.Origin)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.Scheme+"://"+u.Host != o.Origin {
			refuse("Origin: %q, need https:// and a host, and nothing after it", o.Origin)
		}
	}
	return errors.Join(errs...)
}

// isPath reports whether p can stand in a quoted string of a header and in
// a scope rule as it is, and is a path that a browser sends as it is.
func isPath(p string) bool {
	for _, c := range []byte(p) {
		if !strings.ContainsRune("-._~/", rune(c)) && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return strings.HasPrefix(p, "/") && path.Clean(p) == cmp.Or(strings.TrimSuffix(p, "/"), "/")
}

// checkCookie refuses a session whose cookie goes where its bound cookie or the
// browser's refresh does not.
func checkCookie(site *seam.Site) error {
	var errs []error
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("the Manager's Config.Cookie."+format, args...))
	}
	attributes := strings.Split(site.Cookie.Attributes(), "; ")
	if !slices.Contains(attributes, "Secure") {
		refuse("Insecure: browsers bind sessions over https only; drop it, also on a developer's machine")
	}
	if slices.Contains(attributes, "Partitioned") {
		refuse("Partitioned: the draft forbids it in a bound cookie; drop it")
	}
	if !slices.Contains(attributes, "Path=/") {
		refuse("Path: a session is bound for a whole origin; leave it empty")
	}
	for _, a := range attributes {
		if strings.HasPrefix(a, "Domain=") {
			refuse("Domain: a session is bound for one origin, and other hosts would refuse it; leave it empty")
		}
	}
	return errors.Join(errs...)
}

// Offer asks the browser to bind the session that ctx belongs to. Call it at
// login, when the session has its user. The response carries the request, and the
// session notes it, so that pages ask again, at most once in ten minutes, while
// the browser does not answer. A session that is bound already stays as it is,
// until RegenerateID or another owner begins a new one: call Offer then.
//
// It panics if no [Devices.Middleware] has the request. With several, the
// innermost is meant.
func Offer(ctx context.Context) {
	s, ok := ctx.Value(seam.Key{}).(seam.Session)
	if !ok {
		panic("dbsc: Offer: no Devices in the context; is Manager.Middleware(Devices.Middleware(...)) around this handler?")
	}
	askToRegister(s)
}

// StateOf returns how far the session that ctx belongs to is bound, None if no
// [Devices.Middleware] has the request.
func StateOf(ctx context.Context) State {
	s, ok := ctx.Value(seam.Key{}).(seam.Session)
	if !ok {
		return None
	}
	extension, opened := s.Extension()
	st := readState(extension)
	switch {
	case st.phase == none:
		return None
	case st.phase == bound && s.Site().Device().(*Devices).verdict(s.Header(), &st.key, opened) == good:
		return Bound
	}
	return Offered // or a parallel request has bound it since this one began
}

func askToRegister(s seam.Session) {
	s.Extend(offer(time.Now().Unix()))
	s.Announce()
}

// Announce implements [seam.Device].
func (d *Devices) Announce(s seam.Session, h http.Header) {
	if st := stateOf(s); st.phase != offered && st.phase != registered {
		return // a parallel request has bound it
	}
	challenge := d.mint.challenge(registerChallenge, registerWithin, []byte(s.ID()))
	h[registrationHeader] = append(h[registrationHeader], `(ES256);path="`+d.register+`";challenge="`+challenge+`"`)
}

// Middleware returns a handler that answers the browsers' proofs and lets
// requests of bound sessions pass to next only if they bring a good bound cookie.
// It goes inside of the Manager's Middleware and around all routes that use the
// session:
//
//	handler := mgr.Middleware(devices.Middleware(mux))
//
// Unlike the Manager's Middleware alone, it opens the session of every request
// that brings a cookie of it. The handler panics if the Manager's Middleware is
// not around it. It may be shared by any number of goroutines.
func (d *Devices) Middleware(next http.Handler) http.Handler { return &handler{d, next} }

type handler struct {
	*Devices
	next http.Handler
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, ok := r.Context().Value(seam.Key{Of: h.site}).(seam.Session)
	if !ok {
		panic(fmt.Sprintf("dbsc: no session of the cookie %q in the context; put the Middleware of its Manager around that of its Devices", h.site.Cookie.Name))
	}
	switch r.URL.Path {
	case h.register:
		h.serveRegister(w, r, s)
	case h.refresh:
		h.serveRefresh(w, r, s)
	default:
		if h.admits(w, r, s) {
			h.next.ServeHTTP(w, r)
		}
	}
}

// An Event tells Options.OnEvent what happened to a device. It holds no cookie,
// no key and no proof.
type Event struct {
	Kind   EventKind
	Reason Reason // of EventRefused
	ID     string // the public id of the session, "" where there is none
	Err    error  // more, for people
}

// An EventKind says what happened.
type EventKind string

const (
	// EventRegistered: a browser has registered a key. The binding holds from its
	// first request with a good bound cookie on.
	EventRegistered EventKind = "registered"
	// EventBound: that request has come. Parallel ones may each tell it.
	EventBound EventKind = "bound"
	// EventRefreshed: a browser has proved that it has the key, and has got a new
	// bound cookie.
	EventRefreshed EventKind = "refreshed"
	// EventReloaded: a navigation from another site was asked to come again.
	EventReloaded EventKind = "reloaded"
	// EventRefused: a request was refused, or its session was withheld, for
	// Reason.
	EventRefused EventKind = "refused"
)

// A Reason says why a request was refused.
type Reason string

const (
	// ReasonMissing: a bound session came without a bound cookie: from a browser
	// that could not or would not refresh it, or from a thief.
	ReasonMissing Reason = "no bound cookie"
	// ReasonEnded: its bound cookie has ended. Browsers drop it a little before
	// that, so it is a copy, or a clock is wrong.
	ReasonEnded Reason = "ended bound cookie"
	// ReasonForeign: its bound cookie is not authentic, or of another device.
	ReasonForeign Reason = "foreign bound cookie"
	// ReasonSkipped: the browser says that it could not refresh.
	ReasonSkipped Reason = "skipped"
	// ReasonProof: a proof is malformed, or another key has signed it.
	ReasonProof Reason = "proof"
	// ReasonChallenge: a proof answers a challenge that has ended, or that is not
	// of this session. A refresh gets another one.
	ReasonChallenge Reason = "challenge"
	// ReasonSession: there is no session to register or refresh, or none that is
	// bound. The browser is told to forget it, or, if that is not certain (Err says
	// so), to come again.
	ReasonSession Reason = "no session"
	// ReasonBound: a key came for a session that is bound already.
	ReasonBound Reason = "already bound"
	// ReasonRequest: a request to one of the two addresses that no browser sends
	// by itself.
	ReasonRequest Reason = "request"
	// ReasonStore: the session could not be stored.
	ReasonStore Reason = "store"
)

// String returns the event as one line.
func (e Event) String() string {
	s := "Event(" + string(e.Kind)
	for _, part := range []string{string(e.Reason), e.ID} {
		if part != "" {
			s += ", " + part
		}
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + ")"
}

func (d *Devices) tell(ctx context.Context, e Event) {
	if d.options.OnEvent == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			slog.ErrorContext(ctx, "dbsc: Options.OnEvent panicked", slog.String("panic", fmt.Sprintf("%T", v)))
		}
	}()
	d.options.OnEvent(ctx, e)
}
