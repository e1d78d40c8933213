package migrating_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	gorilla "github.com/gorilla/sessions"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/migrating/internal/migratetest"
	"github.com/typedsessions/sessions/sessiontest"
)

type visitor struct {
	UserID int    `msgpack:"uid"`
	Next   string `msgpack:"next"`
}

// client keeps the cookies of one visitor, over TLS.
type client struct {
	handler http.Handler
	cookies map[string]*http.Cookie
}

func (c *client) get(path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "https://example.com"+path, nil)
	for _, cookie := range c.cookies {
		r.AddCookie(cookie)
	}
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	for _, cookie := range w.Result().Cookies() {
		c.cookies[cookie.Name] = cookie
		if cookie.MaxAge < 0 {
			delete(c.cookies, cookie.Name)
		}
	}
	return w
}

func visit(h http.Handler) *client {
	return &client{handler: h, cookies: map[string]*http.Cookie{}}
}

// ours is a site with this library: each path has a handler.
func ours(t *testing.T, store sessions.Store, routes map[string]func(w http.ResponseWriter, sess *sessions.Session[visitor])) *client {
	t.Helper()
	mgr, err := sessions.New(sessions.Config[visitor]{
		Keys:   migratetest.Keys(t),
		Store:  store,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, f := range routes {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			f(w, sessions.Get[visitor](r.Context()))
		})
	}
	return visit(mgr.Middleware(mux))
}

// theirs is the same site with scs.
func theirs(t *testing.T, routes func(*scs.SessionManager) map[string]http.HandlerFunc) *client {
	t.Helper()
	old := scs.New()
	old.Store = memstore.NewWithCleanupInterval(0)
	mux := http.NewServeMux()
	for path, f := range routes(old) {
		mux.HandleFunc(path, f)
	}
	return visit(old.LoadAndSave(mux))
}

func wantBody(t *testing.T, w *httptest.ResponseRecorder, want string) {
	t.Helper()
	if got := w.Body.String(); got != want {
		t.Errorf("the page shows %q, want %q", got, want)
	}
}

func TestLateNewTokenLosesTheSessionOfScsOnly(t *testing.T) {
	before := theirs(t, func(old *scs.SessionManager) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{
			"/begin": func(w http.ResponseWriter, r *http.Request) { old.Put(r.Context(), "next", "/cart") },
			"/login": func(w http.ResponseWriter, r *http.Request) {
				http.Error(w, "wrong password", http.StatusUnauthorized)
				_ = old.RenewToken(r.Context())
			},
			"/show": func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, old.GetString(r.Context(), "next"))
			},
		}
	})
	after := ours(t, &sessions.MemoryStore{}, map[string]func(http.ResponseWriter, *sessions.Session[visitor]){
		"/begin": func(w http.ResponseWriter, sess *sessions.Session[visitor]) { sess.Data.Next = "/cart" },
		"/login": func(w http.ResponseWriter, sess *sessions.Session[visitor]) {
			http.Error(w, "wrong password", http.StatusUnauthorized)
			sess.RegenerateID()
		},
		"/show": func(w http.ResponseWriter, sess *sessions.Session[visitor]) { _, _ = io.WriteString(w, sess.Data.Next) },
	})
	for _, c := range []*client{before, after} {
		c.get("/begin")
		c.get("/login")
	}
	wantBody(t, before.get("/show"), "")
	wantBody(t, after.get("/show"), "/cart")
}

func TestClearKeepsTheTokenOfScsOnly(t *testing.T) {
	before := theirs(t, func(old *scs.SessionManager) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{
			"/begin": func(w http.ResponseWriter, r *http.Request) { old.Put(r.Context(), "next", "/cart") },
			"/clear": func(w http.ResponseWriter, r *http.Request) { _ = old.Clear(r.Context()) },
		}
	})
	after := ours(t, &sessions.MemoryStore{}, map[string]func(http.ResponseWriter, *sessions.Session[visitor]){
		"/begin": func(w http.ResponseWriter, sess *sessions.Session[visitor]) { sess.Data.Next = "/cart" },
		"/clear": func(w http.ResponseWriter, sess *sessions.Session[visitor]) { sess.Data = visitor{} },
	})
	for _, c := range []*client{before, after} {
		c.get("/begin")
		if len(c.cookies) != 1 {
			t.Fatalf("the visitor has the cookies %v, want one", c.cookies)
		}
		c.get("/clear")
	}
	if len(before.cookies) != 1 {
		t.Error("scs has taken the cookie of an empty session away")
	}
	if len(after.cookies) != 0 {
		t.Error("the cookie of an empty session is still there")
	}
}

func TestPutReplacesAMessageAndFlashAddsOne(t *testing.T) {
	before := theirs(t, func(old *scs.SessionManager) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{
			"/one": func(w http.ResponseWriter, r *http.Request) { old.Put(r.Context(), "flash", "one") },
			"/two": func(w http.ResponseWriter, r *http.Request) { old.Put(r.Context(), "flash", "two") },
			"/show": func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, old.PopString(r.Context(), "flash"))
			},
		}
	})
	after := ours(t, nil, map[string]func(http.ResponseWriter, *sessions.Session[visitor]){
		"/one":  func(w http.ResponseWriter, sess *sessions.Session[visitor]) { sess.Flash("info", "one") },
		"/two":  func(w http.ResponseWriter, sess *sessions.Session[visitor]) { sess.Flash("info", "two") },
		"/show": show,
	})
	for _, c := range []*client{before, after} {
		c.get("/one")
		c.get("/two")
		c.get("/two")
	}
	wantBody(t, before.get("/show"), "two")
	wantBody(t, after.get("/show"), "one two")
}

func show(w http.ResponseWriter, sess *sessions.Session[visitor]) {
	var all []string
	for _, flash := range sess.Flashes("info") {
		all = append(all, flash.Message)
	}
	_, _ = io.WriteString(w, strings.Join(all, " "))
}

func TestGorillaShowsAMessageAgainWithoutSave(t *testing.T) {
	store := gorilla.NewCookieStore(make([]byte, 32))
	mux := http.NewServeMux()
	mux.HandleFunc("/add", func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		session.AddFlash("hello")
		_ = session.Save(r, w)
	})
	mux.HandleFunc("/show", func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		for _, flash := range session.Flashes() {
			_, _ = fmt.Fprint(w, flash)
		}
	})
	before := visit(mux)
	after := ours(t, nil, map[string]func(http.ResponseWriter, *sessions.Session[visitor]){
		"/add":  func(w http.ResponseWriter, sess *sessions.Session[visitor]) { sess.Flash("info", "hello") },
		"/show": show,
	})
	for _, c := range []*client{before, after} {
		c.get("/add")
		wantBody(t, c.get("/show"), "hello")
	}
	wantBody(t, before.get("/show"), "hello")
	wantBody(t, after.get("/show"), "")
}

func TestMessageOfThisResponse(t *testing.T) {
	store := gorilla.NewCookieStore(make([]byte, 32))
	before := visit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		if r.URL.Path == "/error" {
			session.AddFlash("wrong")
		}
		for _, flash := range session.Flashes() {
			_, _ = fmt.Fprint(w, flash)
		}
		_ = session.Save(r, w)
	}))
	after := ours(t, nil, map[string]func(http.ResponseWriter, *sessions.Session[visitor]){
		"/error": func(w http.ResponseWriter, sess *sessions.Session[visitor]) {
			sess.FlashNow("info", "wrong")
			show(w, sess)
		},
		"/late": func(w http.ResponseWriter, sess *sessions.Session[visitor]) {
			sess.Flash("info", "late")
			show(w, sess)
		},
		"/": show,
	})
	for _, c := range []*client{before, after} {
		wantBody(t, c.get("/error"), "wrong")
		wantBody(t, c.get("/"), "")
	}
	wantBody(t, after.get("/late"), "")
	wantBody(t, after.get("/"), "late")
}

func TestGorillaSetsACookieForAVisitorWithoutData(t *testing.T) {
	store := gorilla.NewCookieStore(make([]byte, 32))
	before := visit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		_ = session.Save(r, w)
	}))
	after := ours(t, nil, map[string]func(http.ResponseWriter, *sessions.Session[visitor]){"/": show})
	before.get("/")
	after.get("/")
	if len(before.cookies) != 1 || len(after.cookies) != 0 {
		t.Errorf("gorilla set %d cookies and this library %d, want 1 and 0", len(before.cookies), len(after.cookies))
	}
}

func TestLoadBeforeTheMiddlewareIsTheSessionOfScsOnly(t *testing.T) {
	old := scs.New()
	old.Store = memstore.NewWithCleanupInterval(0)
	ctx, err := old.Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	old.Put(ctx, "next", "/cart")
	w := httptest.NewRecorder()
	old.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, old.PopString(r.Context(), "next"))
	})).ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "https://example.com/", nil))
	wantBody(t, w, "/cart")
	if got := old.GetString(ctx, "next"); got != "" {
		t.Errorf("the test sees %q in the session of scs, want what the handler left", got)
	}

	mgr, err := sessions.New(sessions.Config[visitor]{Keys: migratetest.Keys(t)})
	if err != nil {
		t.Fatal(err)
	}
	handler := mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[visitor](r.Context())
		next := sess.Data.Next
		sess.Data.Next = "/paid"
		_, _ = io.WriteString(w, next)
	}))
	ctx = sessiontest.Context(t, visitor{Next: "/cart"})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the middleware took a session of sessiontest.Context, want a panic")
			}
		}()
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "https://example.com/", nil))
	}()

	r := httptest.NewRequest("GET", "https://example.com/", nil)
	r.AddCookie(sessiontest.Cookie(t, mgr, visitor{Next: "/cart"}))
	w = httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	wantBody(t, w, "/cart")
	if data, _ := sessiontest.Read(t, mgr, w.Result().Cookies()[0]); data.Next != "/paid" {
		t.Errorf("the test reads %q, want what the handler left", data.Next)
	}
}
