package sessiontest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// Cookie stores a session with data and returns its cookie, as a response from
// m.Middleware would set it. Pass the cookie to http.Request.AddCookie or to
// a cookie jar. A jar sends it to a server with TLS, such as that of
// httptest.NewTLSServer, and since Go 1.26 also to a server without TLS on the
// local machine.
//
// The session is like any other session of m: it has the lifetimes and the owner
// that m gives it, and m calls OnEvent for it. A session is also stored if data is
// T{}: SetLifetime then gives it the lifetime that it has anyway, without which
// nothing would be left in it.
//
// If m cannot store data, because it breaks a rule or is too large, Cookie ends the
// test.
func Cookie[T any](t testing.TB, m *sessions.Manager[T], data T) *http.Cookie {
	t.Helper()
	c := stored(t, m, data)
	if c != nil {
		return c
	}
	// A session with T{} is kept only if it has something else: a lifetime, which is
	// stored with a message.
	c = visit(t, m, nil, func(s *sessions.Session[T]) {
		s.SetLifetime(time.Until(s.ExpiresAt()))
		s.Flash("info", "hello")
	})
	if again := visit(t, m, c, func(s *sessions.Session[T]) { s.Flashes() }); again != nil {
		c = again
	}
	return c
}

// stored stores a session with data and returns its cookie. It returns nil if there
// is nothing to store.
func stored[T any](t testing.TB, m *sessions.Manager[T], data T) *http.Cookie {
	t.Helper()
	return visit(t, m, nil, func(s *sessions.Session[T]) { s.Data = data })
}

// visit sends a request with the cookie, which may be nil. The handler calls f.
// visit returns the cookie that the response sets, or nil if it sets none.
func visit[T any](t testing.TB, m *sessions.Manager[T], c *http.Cookie, f func(*sessions.Session[T])) *http.Cookie {
	t.Helper()
	err := errors.New("the session could not be loaded; see the log or Config.OnEvent for the reason")
	w := httptest.NewRecorder()
	serve(context.Background(), w, m, c, func(ctx context.Context) {
		s := sessions.Get[T](ctx)
		f(s)
		if err = s.Save(ctx); err != nil {
			s.Destroy() // so that the middleware does not store it again and call ErrorHandler
		}
	})
	if err != nil {
		t.Fatalf("sessiontest: store a session of %v: %v", m, err)
	}
	for _, c := range w.Result().Cookies() {
		return c
	}
	return nil
}

// serve sends a request through m.Middleware to a handler.
func serve[T any](ctx context.Context, w http.ResponseWriter, m *sessions.Manager[T], c *http.Cookie, handle func(context.Context)) {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "https://example.com/", nil)
	if c != nil {
		r.Header.Set("Cookie", c.Name+"="+c.Value) // AddCookie would quote or change an invalid value
	}
	m.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { handle(r.Context()) })).ServeHTTP(w, r)
}

// Read returns the data of the session of a cookie and the flash messages that wait
// for the next page, as a request with that cookie would get them. Read does not
// change the session: it consumes no message, extends no lifetime and issues no
// cookie. If a response sets no cookie, because the cookie of the browser is still
// valid, pass the cookie that was sent.
//
// If the cookie has no session, Read ends the test. This is the case if the cookie
// was not issued by m, if it has expired, and if its session was destroyed or has
// a newer cookie.
func Read[T any](t testing.TB, m *sessions.Manager[T], c *http.Cookie) (T, []sessions.Flash) {
	t.Helper()
	switch {
	case c == nil:
		t.Fatalf("sessiontest.Read: the cookie is nil; if the response set none, pass the one that was sent")
	case c.Value == "" && c.MaxAge < 0:
		t.Fatalf("sessiontest.Read: the cookie %q is expired by the response, so its session was destroyed", c.Name)
	}
	var s *sessions.Session[T]
	var flashes []sessions.Flash
	w := httptest.NewRecorder()
	func() {
		defer func() {
			if p := recover(); p != nil && p != (leave{}) {
				panic(p)
			}
		}()
		serve(context.Background(), w, m, c, func(ctx context.Context) {
			s = sessions.Get[T](ctx)
			flashes = s.Flashes()
			panic(leave{})
		})
	}()
	if s == nil {
		t.Fatalf("sessiontest.Read: %v could not load the session of the cookie %q and answered with status %d; see the log or Config.OnEvent for the reason", m, c.Name, w.Code)
	}
	if reason := s.Reason(); reason != sessions.ReasonNone {
		t.Fatalf("sessiontest.Read: the cookie %q has no session of %v (%s): %s", c.Name, m, reason, advice[reason])
	}
	return s.Data, flashes
}

// leave is the value with which the handler of Read panics. If a handler panics,
// the middleware stores nothing and consumes no message.
type leave struct{}

// advice says what to do about a cookie that has no session, by the reason.
var advice = map[sessions.Reason]string{
	sessions.ReasonNoCookie:    "it has another name; pass the cookie of this Manager, or the Manager of this cookie",
	sessions.ReasonImported:    "it has another name, and Config.Import adopted another session; pass the cookie that the response set",
	sessions.ReasonForged:      "it was changed, or made by a Manager with other keys or another mode; pass the Manager whose Middleware set it",
	sessions.ReasonExpired:     "its lifetime, from Config.Lifetime or SetLifetime, has passed; call Read earlier",
	sessions.ReasonIdle:        "its Config.IdleTimeout has passed; call Read earlier",
	sessions.ReasonUnknown:     "the Store has no such session: it was destroyed, revoked, idle, or has a newer id; pass the cookie of the last response that set one",
	sessions.ReasonReplaced:    "it has a newer id, from RegenerateID, RotateID or a new owner; pass the cookie of the response that set one",
	sessions.ReasonUndecodable: "the stored data does not fit the type; see the log or Config.OnEvent for the reason",
	sessions.ReasonInvalid:     "the stored data breaks the rules of the type; see the log or Config.OnEvent for the rule",
	sessions.ReasonNewer:       "a Manager with a higher Config.Version stored it; pass that Manager",
}

// Context returns a context with a session that holds data, for a handler that is
// called without the middleware. The context is derived from t.Context. The session
// is as in a request with the cookie of such a session. If data is T{}, it is as in
// the first request of a visitor, and its IsNew method returns true.
//
// The session is stored in a MemoryStore, so that Save, Update, RegenerateID, Reset,
// Destroy and Flash work as in a request. It is validated by the tags of T, but has
// no other Config. Since it has no response, use [Cookie] and [Read] to test cookies
// and the messages for the next request. A handler with its middleware, such as the
// router of a program, needs a Cookie too: its Manager would be a second one of T.
// So does a handler with sessions of two types.
//
// When the test ends, the session is stored, as the middleware does it when
// a handler returns. If that fails, for instance because data breaks a rule, the
// test fails, since a user of the handler would see an error page.
func Context[T any](t testing.TB, data T) context.Context {
	t.Helper()
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	var failure error
	m, err := sessions.New(sessions.Config[T]{
		Keys:         keys,
		Store:        new(sessions.MemoryStore),
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failure = err },
	})
	if err != nil {
		t.Fatalf("sessiontest.Context: %v", err)
	}
	c := stored(t, m, data)
	begun, end, ended := make(chan context.Context), make(chan struct{}), make(chan struct{})
	go func() { // a request that lasts as long as the test
		defer close(ended)
		serve(t.Context(), httptest.NewRecorder(), m, c, func(ctx context.Context) {
			begun <- ctx
			<-end
		})
	}()
	var ctx context.Context
	select {
	case ctx = <-begun:
	case <-ended:
		t.Fatalf("sessiontest.Context: the session cannot be loaded: %v", failure)
	}
	t.Cleanup(func() {
		close(end)
		<-ended
		if failure != nil {
			t.Errorf("sessiontest.Context: the session cannot be stored as the handler left it: %v", failure)
		}
	})
	return ctx
}
