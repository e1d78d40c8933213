package sessions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-playground/validator/v10"
	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/cookie"
	"github.com/typedsessions/sessions/internal/firstbyte"
	"github.com/typedsessions/sessions/internal/seam"
	"github.com/typedsessions/sessions/internal/txn"
	"github.com/typedsessions/sessions/internal/wire"
)

// A Config says how [New] makes a Manager. Keys is required; every other field
// has a zero value that is safe. A Config prints no field that could be secret.
type Config[T any] struct {
	// Keys sign, or seal, what is sent to browsers. Required.
	Keys *Keyring

	// Store keeps the sessions; the cookie then carries a signed id only. Nil:
	// the whole session travels in the cookie. A session in a cookie needs no
	// server. It holds at most about 2,900 bytes and cannot be listed or revoked.
	// After Destroy a copy of the cookie is valid until it expires. Of two parallel
	// responses the one that arrives last stands. A read re-issues the cookie at
	// times (see IdleTimeout), which may cross a parallel change in the same way.
	// A change from one to the other starts everybody afresh.
	Store Store

	// Cookie holds the attributes of the cookie; zero: safe ones.
	Cookie Cookie

	// Encrypt seals the session, so that its visitor cannot read it: the cookie,
	// or with a Store the records (the cookie with the id stays signed). Turning
	// it on or off starts everybody afresh.
	Encrypt bool

	// Lifetime ends a session this long after its creation, its last
	// RegenerateID or SetLifetime, however it is used. Zero: 24 hours (NIST SP
	// 800-63B-4, section 2.2.3, for AAL2). It is counted in seconds, rounded up.
	Lifetime time.Duration

	// IdleTimeout ends a session that was not used for this long, give or take
	// a tenth: use is written down at most once in a tenth of it. Without a Store
	// it is counted in seconds, and may end a second early. Zero: no limit. It
	// holds for every session, also for one that SetLifetime made last. NIST SP
	// 800-63B-4 asks for an hour at most at AAL2.
	IdleTimeout time.Duration

	// Version is the schema version of T, 0 to 65535. Raise it when a change of T
	// needs code to carry old data over, and add that code to Upgrades. Fields
	// that are merely added or removed need none, unless a field grants something:
	// a program that does not know a field keeps it in the session.
	Version int

	// Upgrades lead from older versions to Version, one from each to the next,
	// in any order. Data older than the first starts afresh.
	Upgrades []Upgrade

	// Validate checks a session beyond the struct tags, whenever it is loaded
	// and before it is saved. It is not asked about the zero T: a visitor without
	// data is always valid. A visitor with a cart who did not sign in must satisfy
	// all rules. Validate must not keep or change its argument.
	Validate func(*T) error

	// Rules adds the application's own rules to those of the validate tags:
	//
	//	Rules: func(v *validator.Validate) error {
	//		return v.RegisterValidation("phone_kz", isPhone)
	//	}
	//
	// Aliases and rules for whole structs are added in the same way. New calls
	// Rules once, and its error is New's. New also applies the rules to zero and
	// to made-up values, and refuses one that panics. Rules is not to keep the
	// Validate, nor to change its tag name.
	Rules func(*validator.Validate) error

	// Merge replaces the merge by field where a parallel request has changed the
	// session: base is what this request began with, mine what it made of it,
	// theirs what is stored now. It must not keep or change its arguments; an
	// error goes to ErrorHandler. It needs a Store.
	Merge func(base, mine, theirs T) (T, error)

	// Owner returns the owner of a session, "" for none. A session whose owner
	// changes gets a new id and begins its lifetime anew, whether or not the
	// handler calls RegenerateID: what SetLifetime gave the former owner does not
	// pass on. Set the owner after the last factor of a login, not after the
	// password: with MaxPerOwner, a password alone would end sessions of its user.
	//
	// With a Store, which must be an OwnerStore then, Sessions and RevokeOwner find
	// sessions by their owner. Owner must not keep or change its argument.
	Owner func(*T) string

	// Labels returns further keys that a session is found by, for Labelled and
	// RevokeLabelled: at most 8, none empty. Give each kind a prefix of its own,
	// such as "tenant:" or "sid:", or one kind can end sessions of another. Labels
	// that another program has given to a session stay, until RegenerateID, Reset
	// or a new owner. Labels must not keep or change its argument. It needs
	// a Store that is a LabelStore.
	Labels func(*T) []string

	// MaxPerOwner is how many sessions of one owner live (OWASP ASVS 5.0, 7.1.2):
	// a login beyond it ends the oldest by CreatedAt. After any number of logins at
	// the same moment, the newest live. A login that is not among them gets
	// ErrLimit; if it lost to logins of the same second, it is tried once more in the
	// next one, so that a form that is sent twice is no error. It needs Owner, and
	// a Store that is an OwnerStore. Zero: no bound.
	MaxPerOwner int

	// AnonymousLifetime takes the place of Lifetime for sessions whose owner is "",
	// unless SetLifetime was called. It needs Owner. Zero: Lifetime.
	AnonymousLifetime time.Duration

	// Import adopts a session of another library: it is called when the session
	// of a request that brought no cookie of ours is asked for, and what it
	// returns with true becomes a new session. The zero T becomes none, and leaves
	// the old cookie alone. The request is the one the middleware got. Import must
	// verify what it brings: a signature, or the other library's store. A copy of
	// the old cookie can be imported again until the old library's own end.
	Import func(*http.Request) (T, bool)

	// ImportCookies are the cookies that Import reads, with the Path, Domain,
	// Secure and Partitioned that they were set with. They are expired once the
	// session is adopted, and by Destroy and Reset. Required with Import.
	ImportCookies []http.Cookie

	// ErrorHandler answers in place of the handler when the session could not be
	// loaded or stored. Cache-Control: no-store is set before. If it writes
	// nothing, status 500 is sent. Nil: 503 for an error of the Store, and where the
	// request's deadline has passed before a new cookie was sent (ErrTooLate), 409
	// for ErrLimit, 500 for others, with no details.
	ErrorHandler func(http.ResponseWriter, *http.Request, error)

	// OnEvent is told what happens to sessions. It is called on the goroutine of
	// the request, which waits for it; a panic of it is caught.
	OnEvent func(context.Context, Event)

	// Logger gets the same events, those that anybody can cause at Debug. Nil:
	// slog.Default.
	Logger *slog.Logger
}

// Cookie holds the attributes of the session's cookie that users change. Its
// zero value is the safe one: "__Host-Http-session", Path=/, Secure, HttpOnly and
// SameSite=Lax. HttpOnly cannot be taken away.
//
// A name that begins with __Host- is a promise that browsers keep (RFC 6265bis,
// section 4.1.3): no other host, not even a subdomain, can plant a cookie of
// that name. Without it, somebody who controls a sibling domain can give
// a visitor's browser a valid session of their own.
type Cookie struct {
	// Name of the cookie. Zero: the strongest that fits, which is
	// "__Host-Http-session", or "__Secure-session" with a Domain or a Path other
	// than "/", or "session" with Insecure.
	Name string
	// Path that the cookie is sent to. Zero: "/".
	Path string
	// Domain whose subdomains get the cookie too. Zero: this host alone.
	Domain string
	// SameSite, zero: Lax. None needs Secure.
	SameSite http.SameSite
	// Insecure leaves Secure out, for plain http on a developer's machine: all
	// browsers but Safari take a Secure cookie from http://localhost too. From any
	// other address without TLS, browsers ignore a Secure cookie silently.
	Insecure bool
	// Partitioned gives each top-level site a cookie of its own (CHIPS), for
	// use in frames. It needs Secure.
	Partitioned bool
	// BrowserSession leaves Max-Age out: the cookie is gone when the browser
	// closes, until SetLifetime makes it last. Config.Lifetime holds all the same.
	BrowserSession bool
}

// summary is how a Config prints: with a Store, a function or a header in it,
// anything may be secret.
func (c Config[T]) summary() string {
	store := "cookie"
	if c.Store != nil {
		store = reflect.TypeOf(c.Store).String()
	}
	keys := "none"
	if c.Keys != nil {
		keys = c.Keys.summary()
	}
	return fmt.Sprintf("Config(%v, keys %s, store %s)", reflect.TypeFor[T](), keys, store)
}

// Format prints the type, the keys' ids and the kind of store, under every verb.
func (c Config[T]) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.summary()) }

// LogValue logs the type, the keys' ids and the kind of store.
func (c Config[T]) LogValue() slog.Value { return slog.StringValue(c.summary()) }

// MarshalText, for JSON, gives the type, the keys' ids and the kind of store.
func (c Config[T]) MarshalText() ([]byte, error) { return []byte(c.summary()), nil }

const defaultLifetime = 24 * time.Hour

// A core is a Manager but for its type.
type core struct {
	name         string // of T
	key          any    // typeKey[T]{}
	newSession   func() (session any, t *txn.Txn)
	engine       txn.Engine
	owners       OwnerStore // the Store, if it is one
	labels       LabelStore // the same
	least, most  int        // characters of a cookie's value
	writers      firstbyte.Cache
	site         atomic.Pointer[seam.Site] // what package dbsc sees; nil until it asks
	importer     func(*http.Request) (any, bool)
	importGone   []http.Cookie // what expires the imported cookies
	errorHandler func(http.ResponseWriter, *http.Request, error)
	onEvent      func(context.Context, Event)
	logger       *slog.Logger
}

// New makes a Manager. It refuses a Config that could fail later: a T with a field
// that would be lost or cannot come back, a validate tag that would panic, an
// upgrade chain with a gap, a cookie that browsers would drop. Its error lists
// everything that is wrong, with the path of the field and how to fix it.
//
// An encoder or a decoder that the application registers with msgpack must be
// registered before New, which compares its own encoding of a few values with that
// of msgpack, and leaves T to msgpack if they differ.
func New[T any](config Config[T]) (*Manager[T], error) {
	m := &core{
		name: reflect.TypeFor[T]().String(),
		key:  typeKey[T]{},
		newSession: func() (any, *txn.Txn) {
			// One allocation: both live as long as the request.
			s := new(struct {
				session Session[T]
				txn     txn.Txn
			})
			s.session.txn = &s.txn
			return &s.session, &s.txn
		},
		engine: txn.Engine{
			Encrypt:  config.Encrypt,
			Lifetime: config.Lifetime, Anonymous: config.AnonymousLifetime,
			Idle:        config.IdleTimeout,
			MaxPerOwner: config.MaxPerOwner,
			Data:        func(session any) any { return &session.(*Session[T]).Data },
		},
		errorHandler: config.ErrorHandler,
		onEvent:      config.OnEvent,
		logger:       config.Logger,
	}
	data := codec.Options{Version: config.Version, Rules: config.Rules}
	if f := config.Validate; f != nil {
		data.Validate = func(data any) error { return f(data.(*T)) }
	}
	if f := config.Merge; f != nil {
		data.Merge = func(base, mine, theirs any) (any, error) {
			merged, err := f(*base.(*T), *mine.(*T), *theirs.(*T))
			return &merged, err
		}
	}
	if f := config.Owner; f != nil {
		m.engine.Owner = func(data any) string { return f(data.(*T)) }
	}
	if f := config.Labels; f != nil {
		m.engine.Labels = func(data any) []string { return f(data.(*T)) }
	}
	if f := config.Import; f != nil {
		m.importer = func(r *http.Request) (any, bool) {
			data, ok := f(r)
			return &data, ok
		}
	}
	for _, u := range config.Upgrades {
		data.Upgrades = append(data.Upgrades, u.upgrade)
	}
	if err := m.complete(reflect.TypeFor[T](), data, config.Keys, config.Store, config.Cookie, config.ImportCookies); err != nil {
		return nil, fmt.Errorf("sessions: New[%s]: %w", m.name, err)
	}
	return &Manager[T]{core: m}, nil
}

// complete checks everything and fills in what is derived.
func (m *core) complete(t reflect.Type, data codec.Options, keys *Keyring, store Store, attributes Cookie, importCookies []http.Cookie) error {
	var errs []error
	refuse := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	e := &m.engine
	var err error
	e.Codec, err = codec.Analyze(t, data)
	refuse(err)
	e.None = &txn.Base{Hash: e.Codec.ZeroHash()}
	e.Hears = func(event txn.Event) bool { return m.hears(eventOf(event)) }
	e.Cookie, err = cookie.Attributes(attributes).Spec(wire.EncodedSize(wire.IDSize))
	refuse(err)
	if keys == nil || keys.ring() == nil {
		refuse(errors.New("Config.Keys is missing; NewKeyring or ParseKeyring makes one"))
	} else {
		e.Ring = keys.current
	}
	switch {
	case e.Lifetime < 0:
		refuse(fmt.Errorf("Config.Lifetime: %v is negative; leave it zero for 24 hours", e.Lifetime))
	case e.Lifetime == 0:
		e.Lifetime = defaultLifetime
	}
	if e.Idle < 0 {
		refuse(fmt.Errorf("Config.IdleTimeout: %v is negative; leave it zero for no limit", e.Idle))
	}
	if store == nil && e.Idle > 0 && e.Idle < time.Second {
		refuse(fmt.Errorf("Config.IdleTimeout: %v, need at least 1s without a Config.Store: a cookie counts whole seconds", e.Idle))
	}
	if e.Lifetime > 0 && e.Idle > e.Lifetime {
		refuse(fmt.Errorf("Config.IdleTimeout: %v is above Config.Lifetime, %v, which would come first; shorten it", e.Idle, e.Lifetime))
	}
	if store != nil {
		e.Store = engineStore{store}
		_, e.NeverWait = store.(*MemoryStore)
		m.owners, _ = store.(OwnerStore)
		m.labels, _ = store.(LabelStore)
	}
	if m.owners != nil {
		e.Owned = func(ctx context.Context, owner string) iter.Seq2[txn.ID, error] {
			return engineIDs(m.owners.Owned(ctx, owner))
		}
	}
	if many, ok := store.(manyLoader); ok {
		e.LoadMany = engineLoadMany(many)
	}
	if e.Owner != nil && store != nil && m.owners == nil {
		refuse(errors.New("Config.Owner needs a Config.Store that is an OwnerStore"))
	}
	if e.Labels != nil && m.labels == nil {
		refuse(errors.New("Config.Labels needs a Config.Store that is a LabelStore"))
	}
	refuse(m.checkLimits())
	if data.Merge != nil && store == nil {
		refuse(errors.New("Config.Merge needs a Config.Store; a cookie has no second writer"))
	}
	var changes func(context.Context) iter.Seq2[txn.ID, error]
	if w, ok := store.(Watcher); ok {
		changes = func(ctx context.Context) iter.Seq2[txn.ID, error] { return engineIDs(w.Changes(ctx)) }
	}
	e.Watches = e.NewWatches(changes, func(err error) {
		m.emit(context.Background(), Event{Kind: EventFailed, Err: fmt.Errorf("sessions: watch sessions: %w", err)})
	})
	m.least, m.most = sizes(e.Format())
	refuse(m.setImportCookies(importCookies))
	if m.errorHandler == nil {
		m.errorHandler = defaultErrorHandler
	}
	return errors.Join(errs...)
}

func (m *core) checkLimits() error {
	var errs []error
	e := &m.engine
	for _, l := range []struct {
		field string
		value int64
	}{{"Config.MaxPerOwner", int64(e.MaxPerOwner)}, {"Config.AnonymousLifetime", int64(e.Anonymous)}} {
		switch {
		case l.value < 0:
			errs = append(errs, fmt.Errorf("%s is negative; leave it zero for no limit", l.field))
		case l.value > 0 && e.Owner == nil:
			errs = append(errs, fmt.Errorf("%s needs Config.Owner, without which no session has an owner", l.field))
		}
	}
	if e.MaxPerOwner > 0 && m.owners == nil {
		errs = append(errs, errors.New("Config.MaxPerOwner needs a Config.Store that is an OwnerStore"))
	}
	return errors.Join(errs...)
}

func (m *core) setImportCookies(cookies []http.Cookie) error {
	if m.importer != nil && len(cookies) == 0 {
		return errors.New("Config.Import needs ImportCookies, the cookies that it reads, or they would bring the session back after Destroy")
	}
	var errs []error
	for _, c := range slices.Clone(cookies) {
		gone := http.Cookie{Name: c.Name, Path: c.Path, Domain: c.Domain, Secure: c.Secure, HttpOnly: c.HttpOnly, SameSite: c.SameSite, Partitioned: c.Partitioned, MaxAge: -1, Expires: time.Unix(1, 0)}
		if err := gone.Valid(); err != nil {
			errs = append(errs, fmt.Errorf("Config.ImportCookies: %q: %v", c.Name, err))
		}
		if c.Name == m.engine.Cookie.Name {
			errs = append(errs, fmt.Errorf("Config.ImportCookies: %q is the name of our own cookie; choose another Config.Cookie.Name", c.Name))
		}
		m.importGone = append(m.importGone, gone)
	}
	return errors.Join(errs...)
}

func defaultErrorHandler(w http.ResponseWriter, _ *http.Request, err error) {
	status := http.StatusInternalServerError
	var fromStore *txn.StoreError
	switch {
	case errors.Is(err, ErrLimit):
		status = http.StatusConflict
	case errors.As(err, &fromStore), errors.Is(err, ErrTooLate):
		status = http.StatusServiceUnavailable
	}
	http.Error(w, http.StatusText(status), status)
}
