package sessiontest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/typedsessions/sessions"
)

// Cookie stores a session with data and returns its cookie, as a response of m's
// Middleware would set it: ready for http.Request.AddCookie, or for a cookie jar,
// which sends it to a server with TLS, such as httptest.NewTLSServer starts, and
// since Go 1.26 also to one without on the own machine. The session is as any
// other of m: it has m's lifetimes and owner, and OnEvent hears of it. One whose
// data is T{} is stored too, as that of a visitor whose messages were all read.
//
// Data that m cannot store, for its rules or its size, ends the test.
func Cookie[T any](t testing.TB, m *sessions.Manager[T], data T) *http.Cookie {
	t.Helper()
	c := stored(t, m, data)
	if c != nil {
		return c
	}
	// Nothing is stored of a T{} unless there is more to the session.
	c = visit(t, m, nil, func(s *sessions.Session[T]) { s.Flash("info", "hello") })
	if again := visit(t, m, c, func(s *sessions.Session[T]) { s.Flashes() }); again != nil {
		c = again
	}
	return c
}

// stored stores a session with data. It returns nil if there is nothing to store.
func stored[T any](t testing.TB, m *sessions.Manager[T], data T) *http.Cookie {
	t.Helper()
	return visit(t, m, nil, func(s *sessions.Session[T]) { s.Data = data })
}

// visit sends a request, with a cookie or none, whose handler does f. It returns
// the cookie that the response sets, nil if none.
func visit[T any](t testing.TB, m *sessions.Manager[T], c *http.Cookie, f func(*sessions.Session[T])) *http.Cookie {
	t.Helper()
	err := errors.New("it could not be loaded; the log and Config.OnEvent say why")
	w := httptest.NewRecorder()
	serve(context.Background(), w, m, c, func(ctx context.Context) {
		s := sessions.Get[T](ctx)
		f(s)
		if err = s.Save(ctx); err != nil {
			s.Destroy() // or it would be tried again, for ErrorHandler
		}
	})
	if err != nil {
		t.Fatalf("sessiontest: the data cannot be a session of %v: %v", m, err)
	}
	for _, c := range w.Result().Cookies() {
		return c
	}
	return nil
}

// serve sends a request through m's Middleware to a handler.
func serve[T any](ctx context.Context, w http.ResponseWriter, m *sessions.Manager[T], c *http.Cookie, handle func(context.Context)) {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "https://example.com/", nil)
	if c != nil {
		r.Header.Set("Cookie", c.Name+"="+c.Value) // AddCookie would mend a value that is none of ours
	}
	m.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { handle(r.Context()) })).ServeHTTP(w, r)
}

// Read returns what the session of a cookie holds now, and the messages that
// wait for its next page, as a request with that cookie would find them. The
// session stays as it is: no message is taken, no lifetime moves, no cookie is
// issued again. Of a response that sets no cookie, since the browser's own is
// still good, read the cookie that was sent.
//
// A cookie that gives no session, since it is not of m, expired, or its session
// was destroyed or has a newer cookie, ends the test.
func Read[T any](t testing.TB, m *sessions.Manager[T], c *http.Cookie) (T, []sessions.Flash) {
	t.Helper()
	switch {
	case c == nil:
		t.Fatalf("sessiontest.Read: the cookie is nil; if the response set none, read the one that was sent")
	case c.Value == "" && c.MaxAge < 0:
		t.Fatalf("sessiontest.Read: this cookie %q removes the browser's: the session was destroyed", c.Name)
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
		t.Fatalf("sessiontest.Read: %v could not load the session of the cookie %q and answered with status %d; its log and Config.OnEvent say why", m, c.Name, w.Code)
	}
	if reason := s.Reason(); reason != sessions.ReasonNone {
		t.Fatalf("sessiontest.Read: the cookie %q gives no session of %v (%s): %s", c.Name, m, reason, mends[reason])
	}
	return s.Data, flashes
}

// A leave is what a handler panics with to leave the session as it is: of
// a request that panics nothing is stored, and no message is taken.
type leave struct{}

// mends say what to do about a cookie that gives no session.
var mends = map[sessions.Reason]string{
	sessions.ReasonNoCookie:    "it has another name; give the cookie of this Manager, or the Manager of this cookie",
	sessions.ReasonImported:    "it has another name, and Config.Import adopted what came with it; read the cookie that the response set",
	sessions.ReasonForged:      "it was changed, or made by a Manager with other keys or another mode; give the Manager whose Middleware set it",
	sessions.ReasonExpired:     "its Config.Lifetime, or what SetLifetime gave, is over; read it earlier",
	sessions.ReasonIdle:        "its Config.IdleTimeout has passed; read it earlier",
	sessions.ReasonUnknown:     "the Store has no such session: it was destroyed, revoked, idle, or has a newer id; read the cookie of the last response that set one",
	sessions.ReasonUndecodable: "what is stored does not fit the type; the log and Config.OnEvent say why",
	sessions.ReasonInvalid:     "what is stored breaks the rules of the type; the log and Config.OnEvent say which",
	sessions.ReasonNewer:       "a Manager with a higher Config.Version stored it; give that one",
}

// Context returns a context with a session that holds data, for a handler that
// is called without the middleware. It is as in a request that brought the cookie
// of such a session, or, if data is T{}, in the first request of a visitor: its
// IsNew is true then. It is derived from t.Context.
//
// The session is a real one, in a Store in memory: Save, Update, RegenerateID,
// Reset, Destroy and Flash do what they always do. It knows the validate tags of
// T but no Config, and since no response belongs to it, cookies and messages for
// the next request are tested with [Cookie] and [Read].
//
// When the test ends, the session is stored as by the middleware when a handler
// returns. If that fails, since data breaks its rules for instance, the test
// fails: the handler's visitors would see an error page.
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
