package sessiontest_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/sessiontest"
)

// AppSession, login and logout are part of the application to test.
type AppSession struct {
	UserID int    `msgpack:"uid" validate:"gte=0"`
	Theme  string `msgpack:"theme" validate:"omitempty,oneof=light dark"`
}

func login(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	if r.FormValue("password") != "1815" {
		sess.Flash("error", "Invalid username or password")
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return
	}
	sess.RegenerateID()
	sess.Data.UserID = 42
	sess.Flash("info", "Welcome")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func logout(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	sess.Reset()
	sess.Flash("info", "You have signed out")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func newManager(t *testing.T) *sessions.Manager[AppSession] {
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return mgr
}

// This test calls the handler through the middleware, with sessions in the cookie.
func TestLoginSignsIn(t *testing.T) {
	mgr := newManager(t)
	visitor := sessiontest.Cookie(t, mgr, AppSession{Theme: "dark"})

	r := httptest.NewRequest("POST", "/login?password=1815", nil)
	r.AddCookie(visitor)
	w := httptest.NewRecorder()
	mgr.Middleware(http.HandlerFunc(login)).ServeHTTP(w, r)

	data, flashes := sessiontest.Read(t, mgr, w.Result().Cookies()[0])
	if want := (AppSession{UserID: 42, Theme: "dark"}); data != want {
		t.Errorf("the session holds %+v, want %+v", data, want)
	}
	if len(flashes) != 1 || flashes[0].Message != "Welcome" {
		t.Errorf("got the messages %v, want a welcome", flashes)
	}
}

// This test calls the handler through the middleware, with sessions in memory. The
// response sets no cookie.
func TestFailedLoginLeavesAMessage(t *testing.T) {
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: keys, Store: new(sessions.MemoryStore)})
	if err != nil {
		t.Fatal(err)
	}
	visitor := sessiontest.Cookie(t, mgr, AppSession{Theme: "dark"})

	r := httptest.NewRequest("POST", "/login?password=1066", nil)
	r.AddCookie(visitor)
	mgr.Middleware(http.HandlerFunc(login)).ServeHTTP(httptest.NewRecorder(), r)

	data, flashes := sessiontest.Read(t, mgr, visitor) // the changes are in the store
	if data.UserID != 0 {
		t.Errorf("user %d is signed in, want nobody", data.UserID)
	}
	if len(flashes) != 1 || flashes[0].Kind != "error" {
		t.Errorf("got the messages %v, want an error", flashes)
	}
}

// This test uses a server and a client with a cookie jar, as a browser has.
func TestLogoutSignsOut(t *testing.T) {
	mgr := newManager(t)
	server := httptest.NewTLSServer(mgr.Middleware(http.HandlerFunc(logout)))
	defer server.Close()
	site, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	jar.SetCookies(site, []*http.Cookie{sessiontest.Cookie(t, mgr, AppSession{UserID: 42})})
	browser := server.Client()
	browser.Jar = jar
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

	res, err := browser.Post(server.URL+"/logout", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()

	data, flashes := sessiontest.Read(t, mgr, jar.Cookies(site)[0])
	if data != (AppSession{}) {
		t.Errorf("the session holds %+v, want nothing", data)
	}
	if len(flashes) != 1 {
		t.Errorf("got the messages %v, want one", flashes)
	}
}

// This test calls the handler without a Manager, keys and cookies.
func TestLoginAloneSignsIn(t *testing.T) {
	ctx := sessiontest.Context(t, AppSession{Theme: "dark"})

	login(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "POST", "/login?password=1815", nil))

	if got := sessions.Get[AppSession](ctx).Data.UserID; got != 42 {
		t.Errorf("user %d is signed in, want 42", got)
	}
}
