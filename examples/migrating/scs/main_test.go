package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"

	"github.com/typedsessions/sessions/examples/migrating/internal/migratetest"
)

// newOld is scs as the site had it.
func newOld() *scs.SessionManager {
	old := scs.New()
	old.Store = memstore.NewWithCleanupInterval(0)
	old.Cookie.Secure = true
	return old
}

// before is the site as it was.
func before(old *scs.SessionManager) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if err := old.RenewToken(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		old.Put(r.Context(), "userID", 42)
		old.Put(r.Context(), "name", "Ada Løvelace")
		old.Put(r.Context(), "cart", []string{"tea", "😀"})
	})
	return old.LoadAndSave(mux)
}

func after(t testing.TB, old *scs.SessionManager) http.Handler {
	t.Helper()
	h, err := newHandler(migratetest.Keys(t), old)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func peer(t testing.TB, old *scs.SessionManager) migratetest.Peer {
	t.Helper()
	return migratetest.Peer{
		Cookie: old.Cookie.Name,
		Site:   after(t, old),
		SignIn: func(t testing.TB, b *migratetest.Browser, _ string) {
			b.Post(migratetest.Serve(t, before(old)) + "/login")
		},
	}
}

func TestNobodyIsSignedOut(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(*scs.SessionManager)
	}{
		{"by default", func(*scs.SessionManager) {}},
		{"with an idle timeout", func(old *scs.SessionManager) { old.IdleTimeout = time.Hour }},
		{"with hashed tokens", func(old *scs.SessionManager) { old.HashTokenInStore = true }},
		{"with a cookie of another name", func(old *scs.SessionManager) { old.Cookie.Name = "sid" }},
		{"with cookies that end with the browser", func(old *scs.SessionManager) { old.Cookie.Persist = false }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			old := newOld()
			tt.set(old)
			migratetest.Run(t, peer(t, old))
		})
	}
}

func TestSessionPastItsDeadlineIsNotAdopted(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(*scs.SessionManager)
		want string
	}{
		{"lifetime over", func(old *scs.SessionManager) { old.Lifetime = time.Nanosecond }, migratetest.SignedOut},
		{"idle for too long", func(old *scs.SessionManager) { old.IdleTimeout = time.Nanosecond }, migratetest.SignedOut},
		{"not yet", func(*scs.SessionManager) {}, migratetest.SignedIn},
	} {
		t.Run(tt.name, func(t *testing.T) {
			old := newOld()
			old.Cookie.Persist = false // otherwise the browser may drop it first
			p := peer(t, old)
			address := migratetest.Serve(t, p.Site)
			b := migratetest.NewBrowser(t)
			tt.set(old)
			p.SignIn(t, b, address)
			cookie := b.Cookie(address, p.Cookie)
			thief := migratetest.NewBrowser(t) // this browser ignores Max-Age
			thief.SetCookie(address, &http.Cookie{Name: p.Cookie, Value: cookie.Value, Path: "/"})
			migratetest.WantText(t, thief.Get(address), tt.want)
		})
	}
}

func TestCopyOfTheOldCookieIsWorthlessAMinuteLater(t *testing.T) {
	old := newOld()
	site := after(t, old)
	synctest.Test(t, func(t *testing.T) {
		w := httptest.NewRecorder()
		before(old).ServeHTTP(w, httptest.NewRequest("POST", "https://example.com/login", nil))
		cookie := w.Result().Cookies()[0]
		visit := func() string {
			r := httptest.NewRequest("GET", "https://example.com/", nil)
			r.AddCookie(cookie)
			w := httptest.NewRecorder()
			site.ServeHTTP(w, r)
			return w.Body.String()
		}
		time.Sleep(time.Hour)
		for range 2 {
			migratetest.WantText(t, visit(), migratetest.SignedIn)
			time.Sleep(40 * time.Second)
		}
		migratetest.WantText(t, visit(), migratetest.SignedOut)
	})
}

// A failing store cannot reach its server.
type failing struct{ scs.Store }

func (failing) Find(string) ([]byte, bool, error) { return nil, false, errors.New("no route to host") }

func TestFailureOfTheOldStoreSignsNobodyOut(t *testing.T) {
	old := newOld()
	p := peer(t, old)
	w := httptest.NewRecorder()
	before(old).ServeHTTP(w, httptest.NewRequest("POST", "https://example.com/login", nil))
	r := httptest.NewRequest("GET", "https://example.com/", nil)
	r.AddCookie(w.Result().Cookies()[0])
	healthy := old.Store
	old.Store = failing{healthy}
	w = httptest.NewRecorder()
	p.Site.ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable || w.Header()["Set-Cookie"] != nil {
		t.Errorf("got status %d and the cookies %q, want 503 and none", w.Code, w.Header()["Set-Cookie"])
	}
	old.Store = healthy
	w = httptest.NewRecorder()
	p.Site.ServeHTTP(w, r)
	migratetest.WantText(t, w.Body.String(), migratetest.SignedIn)
}
