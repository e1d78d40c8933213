package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/gorilla/securecookie"
	gorilla "github.com/gorilla/sessions"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/migrating/internal/migratetest"
)

var (
	hashKey  = bytes.Repeat([]byte("h"), 64)
	blockKey = bytes.Repeat([]byte("b"), 32)
	otherKey = bytes.Repeat([]byte("o"), 64)
)

// before is the site as it was.
func before(old *gorilla.CookieStore) http.Handler {
	mux := http.NewServeMux()
	save := func(w http.ResponseWriter, r *http.Request, session *gorilla.Session) {
		if err := session.Save(r, w); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		session, _ := old.Get(r, oldName)
		session.Values["userID"] = 42
		session.Values["name"] = "Ada Løvelace"
		session.Values["cart"] = []string{"tea", "😀"}
		session.AddFlash("Welcome")
		save(w, r, session)
	})
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		session, _ := old.Get(r, oldName)
		session.Options.MaxAge = -1
		save(w, r, session)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		page := migratetest.SignedOut
		if session, _ := old.Get(r, oldName); session.Values["userID"] == 42 {
			page = migratetest.SignedIn
		}
		_, _ = w.Write([]byte(page))
	})
	return mux
}

func after(t testing.TB, old *gorilla.CookieStore) http.Handler {
	t.Helper()
	h, err := newHandler(migratetest.Keys(t), old)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// signIn visits the site as it was.
func signIn(old *gorilla.CookieStore) func(testing.TB, *migratetest.Browser, string) {
	return func(t testing.TB, b *migratetest.Browser, _ string) {
		b.Post(migratetest.Serve(t, before(old)) + "/login")
	}
}

func TestNobodyIsSignedOut(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after *gorilla.CookieStore
	}{
		{"signed", gorilla.NewCookieStore(hashKey), gorilla.NewCookieStore(hashKey)},
		{"signed and encrypted", gorilla.NewCookieStore(hashKey, blockKey), gorilla.NewCookieStore(hashKey, blockKey)},
		{"signed with an older key", gorilla.NewCookieStore(hashKey), gorilla.NewCookieStore(otherKey, nil, hashKey)},
		{"with the keys as codecs", store(securecookie.New(hashKey, blockKey)), gorilla.NewCookieStore(hashKey, blockKey)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			migratetest.Run(t, migratetest.Peer{
				Cookie: oldName,
				Site:   after(t, tt.after),
				SignIn: signIn(tt.before),
			})
		})
	}
}

func store(codecs ...securecookie.Codec) *gorilla.CookieStore {
	s := gorilla.NewCookieStore(hashKey)
	s.Codecs = codecs
	return s
}

func TestCookieOfAnotherKeyIsNotAdopted(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after *gorilla.CookieStore
	}{
		{"of another hash key", gorilla.NewCookieStore(otherKey), gorilla.NewCookieStore(hashKey)},
		{"of another block key", gorilla.NewCookieStore(hashKey, otherKey[:32]), gorilla.NewCookieStore(hashKey, blockKey)},
		{"signed where encrypted is asked for", gorilla.NewCookieStore(hashKey), gorilla.NewCookieStore(hashKey, blockKey)},
		{"of a program without a key", gorilla.NewCookieStore(hashKey), gorilla.NewCookieStore(nil)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := migratetest.Serve(t, after(t, tt.after))
			b := migratetest.NewBrowser(t)
			signIn(tt.before)(t, b, address)
			migratetest.WantText(t, b.Get(address), migratetest.SignedOut)
		})
	}
}

func TestCookieOlderThanMaxAgeIsNotAdopted(t *testing.T) {
	var cookie *http.Cookie
	synctest.Test(t, func(*testing.T) { // where it is the year 2000
		w := httptest.NewRecorder()
		before(gorilla.NewCookieStore(hashKey)).ServeHTTP(w, httptest.NewRequest("POST", "https://example.com/login", nil))
		cookie = w.Result().Cookies()[0]
	})
	for _, tt := range []struct {
		name   string
		maxAge int
		want   string
	}{
		{"30 days", 30 * 24 * 60 * 60, migratetest.SignedOut},
		{"no limit", 0, migratetest.SignedIn},
	} {
		t.Run(tt.name, func(t *testing.T) {
			old := gorilla.NewCookieStore(hashKey)
			old.MaxAge(tt.maxAge)
			address := migratetest.Serve(t, after(t, old))
			b := migratetest.NewBrowser(t)
			b.SetCookie(address, &http.Cookie{Name: oldName, Value: cookie.Value, Path: "/"})
			migratetest.WantText(t, b.Get(address), tt.want)
		})
	}
}

// As docs/MIGRATING.md says about old and new programs side by side.
func TestOldProgramKnowsNobodyWhoVisitedTheNewOne(t *testing.T) {
	old := gorilla.NewCookieStore(hashKey)
	was, is := migratetest.Serve(t, before(old)), migratetest.Serve(t, after(t, old))
	b := migratetest.NewBrowser(t)
	b.Post(was + "/login")
	migratetest.WantText(t, b.Get(is), migratetest.SignedIn)
	migratetest.WantText(t, b.Get(was), migratetest.SignedOut)
	b.Post(was + "/login")
	b.Post(was + "/logout")
	migratetest.WantText(t, b.Get(was), migratetest.SignedOut)
	migratetest.WantText(t, b.Get(is), migratetest.SignedIn) // its own session is still there
}

// trial is newHandler for as long as the way back must stay open.
func trial(keys *sessions.Keyring, old *gorilla.CookieStore) (http.Handler, error) {
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:          keys,
		Import:        func(r *http.Request) (AppSession, bool) { return adopt(r, old) },
		ImportCookies: []http.Cookie{{Name: "none-yet"}}, // the old one stays
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", home)
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: oldName, Path: "/", Secure: true, MaxAge: -1}) // or it signs in again
		logout(w, r)
	})
	return http.NewCrossOriginProtection().Handler(mgr.Middleware(mux)), nil
}

func TestTrialLeavesTheWayBackOpen(t *testing.T) {
	old := gorilla.NewCookieStore(hashKey)
	h, err := trial(migratetest.Keys(t), old)
	if err != nil {
		t.Fatal(err)
	}
	was, is := migratetest.Serve(t, before(old)), migratetest.Serve(t, h)
	b := migratetest.NewBrowser(t)
	b.Post(was + "/login")
	migratetest.WantText(t, b.Get(is), migratetest.SignedIn)
	migratetest.WantText(t, b.Get(was), migratetest.SignedIn)
	migratetest.WantText(t, b.Post(is+"/logout"), "You have signed out")
	for _, address := range []string{is, was, is} {
		migratetest.WantText(t, b.Get(address), migratetest.SignedOut)
	}
}
