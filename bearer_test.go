package sessions_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/typedsessions/sessions"
)

// bearer is for clients that keep no cookies. They send the session's token as
// "Authorization: Bearer …", and take a new token from Set-Cookie. It goes around
// the middleware of a Manager with this cookie name.
func bearer(name string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Authorization")
		r.Header.Del("Cookie") // what a browser sends by itself does not count here
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			r.Header.Set("Cookie", name+"="+token)
		}
		next.ServeHTTP(w, r)
	})
}

// A client without cookies sends the token in a header.
func ExampleManager_Middleware_header() {
	type AppSession struct {
		UserID int `msgpack:"uid"`
	}
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:   exampleKeys,
		Cookie: sessions.Cookie{Name: "__Host-api"},
	})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		sess.RegenerateID()
		sess.Data = AppSession{UserID: 42}
	})
	mux.HandleFunc("GET /me", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		fmt.Fprintf(w, `{"user":%d}`, sess.Data.UserID)
	})
	// The protection is for browsers: other clients send none of its headers.
	api := http.NewCrossOriginProtection().Handler(bearer("__Host-api", mgr.Middleware(mux)))

	// The client.
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequest("POST", "https://example.com/login", nil))
	cookie, err := http.ParseSetCookie(w.Header().Get("Set-Cookie"))
	if err != nil {
		panic(err)
	}
	token := cookie.Value // empty after a logout

	r := httptest.NewRequest("GET", "https://example.com/me", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w = httptest.NewRecorder()
	api.ServeHTTP(w, r)
	fmt.Println(w.Body)
	// Output: {"user":42}
}

func TestBearerTokens(t *testing.T) {
	type AppSession struct {
		UserID int `msgpack:"uid"`
	}
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:   exampleKeys,
		Cookie: sessions.Cookie{Name: "__Host-api"},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Data.UserID = 42
	})
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Destroy()
	})
	mux.HandleFunc("GET /me", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, sessions.Get[AppSession](r.Context()).Data.UserID)
	})
	api := http.NewCrossOriginProtection().Handler(bearer("__Host-api", mgr.Middleware(mux)))
	send := func(target string, header ...string) *http.Response {
		method, path, _ := strings.Cut(target, " ")
		r := httptest.NewRequest(method, "https://example.com"+path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		return w.Result()
	}
	user := func(header ...string) string {
		res := send("GET /me", header...)
		if got := strings.Join(res.Header["Vary"], ", "); got != "Authorization, Cookie" {
			t.Errorf("got Vary: %s, want both headers", got)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	token := send("POST /login").Cookies()[0].Value

	for _, tt := range []struct {
		name   string
		header []string
		want   string
	}{
		{"the token in the header", []string{"Authorization", "Bearer " + token}, "42"},
		{"nothing", nil, "0"},
		{"the token as a cookie, which another site can make a browser send", []string{"Cookie", "__Host-api=" + token}, "0"},
		{"a cookie beside a token", []string{"Cookie", "__Host-api=" + token, "Authorization", "Bearer x"}, "0"},
		{"another scheme", []string{"Authorization", "Basic " + token}, "0"},
	} {
		if got := user(tt.header...); got != tt.want {
			t.Errorf("%s: got user %s, want %s", tt.name, got, tt.want)
		}
	}

	if gone := send("POST /logout", "Authorization", "Bearer "+token).Cookies(); len(gone) != 1 || gone[0].Value != "" {
		t.Errorf("a logout gave %v, want one empty cookie", gone)
	}
	if res := send("POST /login", "Sec-Fetch-Site", "cross-site"); res.StatusCode != http.StatusForbidden {
		t.Errorf("a login sent by another site got status %d, want 403: it would give the browser a cookie", res.StatusCode)
	}
}
