package sessions_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// The code of docs/IN-PRACTICE.md, and its tests.

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

// tenants gives the sites of several tenants in one program sessions of their own.
// It chooses by the host: one name for each, such as "__Host-acme".
func tenants(keys *sessions.Keyring, names map[string]string, next http.Handler) (http.Handler, error) {
	sites := make(map[string]http.Handler)
	for host, name := range names {
		mgr, err := sessions.New(sessions.Config[Tenant]{Keys: keys, Cookie: sessions.Cookie{Name: name}})
		if err != nil {
			return nil, err
		}
		sites[host] = mgr.Middleware(next)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if site, ok := sites[r.Host]; ok {
			site.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	}), nil
}

// LoginState is what is known of a visitor who is at the identity provider.
type LoginState struct {
	State string `msgpack:"state"`
	User  string `msgpack:"user"` // once the provider has named one
}

// formPost is for a provider that sends the visitor back with a form (form_post).
// Browsers send no Lax cookie with it, so that the state has a cookie of its own.
func formPost(keys *sessions.Keyring, mux *http.ServeMux, userOf func(*http.Request) string) (http.Handler, error) {
	states, err := sessions.New(sessions.Config[LoginState]{
		Keys:     keys,
		Lifetime: 10 * time.Minute,
		Cookie:   sessions.Cookie{Name: "__Host-login-state", SameSite: http.SameSiteNoneMode},
	})
	if err != nil {
		return nil, err
	}
	mux.HandleFunc("POST /callback", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[LoginState](r.Context())
		if sess.Data.State == "" || sess.Data.State != r.PostFormValue("state") {
			http.Error(w, "Please sign in again", http.StatusForbidden)
			return
		}
		sess.Data = LoginState{User: userOf(r)}
		http.Redirect(w, r, "/signed-in", http.StatusSeeOther) // there the Lax cookie is sent too
	})
	protection := http.NewCrossOriginProtection()
	protection.AddInsecureBypassPattern("POST /callback") // the state protects it
	return protection.Handler(states.Middleware(mux)), nil
}

func TestPracticeBearerTokens(t *testing.T) {
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

// Tenant is the session of a site with several tenants.
type Tenant struct {
	User string `msgpack:"user"`
}

func TestPracticeACookieOfOneTenantIsNoneOfAnother(t *testing.T) {
	handler, err := tenants(exampleKeys, map[string]string{"acme.example": "__Host-acme", "zoo.example": "__Host-zoo"},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sess := sessions.Get[Tenant](r.Context())
			if name := r.FormValue("user"); name != "" {
				sess.Data.User = name
			}
			fmt.Fprint(w, sess.Data.User)
		}))
	if err != nil {
		t.Fatal(err)
	}
	get := func(url string, cookies ...*http.Cookie) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", url, nil)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	given := get("https://acme.example/?user=ada").Result().Cookies()
	if len(given) != 1 {
		t.Fatalf("got the cookies %v, want one", given)
	}
	if got := get("https://acme.example/", given[0]).Body.String(); got != "ada" {
		t.Errorf("at the same tenant: got user %q, want ada", got)
	}
	renamed := &http.Cookie{Name: "__Host-zoo", Value: given[0].Value}
	if got := get("https://zoo.example/", given[0], renamed).Body.String(); got != "" {
		t.Errorf("at another tenant: got user %q, want nobody", got)
	}
	if got := get("https://other.example/", given[0]).Code; got != http.StatusNotFound {
		t.Errorf("at an unknown host: got status %d, want 404", got)
	}
}

func TestPracticeFormPostNeedsItsState(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /start", func(w http.ResponseWriter, r *http.Request) {
		sessions.Get[LoginState](r.Context()).Data.State = "state of ada"
	})
	mux.HandleFunc("GET /signed-in", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, sessions.Get[LoginState](r.Context()).Data.User)
	})
	mux.HandleFunc("POST /other", func(http.ResponseWriter, *http.Request) {})
	handler, err := formPost(exampleKeys, mux, func(*http.Request) string { return "ada" })
	if err != nil {
		t.Fatal(err)
	}
	send := func(method, path, form string, cookies ...*http.Cookie) *http.Response {
		r := httptest.NewRequest(method, "https://example.com"+path, strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if method == "POST" {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
		}
		for _, c := range cookies {
			r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Result()
	}
	cookies := send("GET", "/start", "").Cookies()
	if len(cookies) != 1 || cookies[0].SameSite != http.SameSiteNoneMode || !cookies[0].Secure {
		t.Fatalf("got the cookies %v, want one that is sent from other sites", cookies)
	}
	if got := send("POST", "/callback", "state=another", cookies...).StatusCode; got != http.StatusForbidden {
		t.Errorf("another state: got status %d, want 403", got)
	}
	if got := send("POST", "/callback", "state=state+of+ada").StatusCode; got != http.StatusForbidden {
		t.Errorf("no cookie: got status %d, want 403", got)
	}
	if got := send("POST", "/other", "", cookies...).StatusCode; got != http.StatusForbidden {
		t.Errorf("another form of another site: got status %d, want 403", got)
	}
	res := send("POST", "/callback", "state=state+of+ada", cookies...)
	if res.StatusCode != http.StatusSeeOther {
		t.Fatalf("got status %d, want 303", res.StatusCode)
	}
	body, err := io.ReadAll(send("GET", "/signed-in", "", res.Cookies()...).Body)
	if err != nil || string(body) != "ada" {
		t.Errorf("got user %q and %v, want ada", body, err)
	}
}

func TestPracticeAPrefetchTakesNoMessages(t *testing.T) {
	mgr, err := sessions.New(sessions.Config[Tenant]{Keys: exampleKeys})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /flash", func(_ http.ResponseWriter, r *http.Request) {
		sessions.Get[Tenant](r.Context()).Flash("info", "hello")
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[Tenant](r.Context())
		if !strings.HasPrefix(r.Header.Get("Sec-Purpose"), "prefetch") {
			for _, flash := range sess.Flashes() {
				fmt.Fprintln(w, flash.Message)
			}
		}
	})
	h := mgr.Middleware(mux)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "https://example.com/flash", nil))
	cookie := w.Result().Cookies()[0]
	for _, tt := range []struct{ purpose, want string }{{"prefetch", ""}, {"prefetch;prerender", ""}, {"", "hello\n"}} {
		r := httptest.NewRequest("GET", "https://example.com/", nil)
		r.Header.Set("Sec-Purpose", tt.purpose)
		r.AddCookie(cookie)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Body.String(); got != tt.want || tt.want == "" && w.Header().Get("Set-Cookie") != "" {
			t.Errorf("Sec-Purpose %q: got %q and Set-Cookie %q, want %q", tt.purpose, got, w.Header()["Set-Cookie"], tt.want)
		}
	}
}

func TestPracticeEveryBlockOfThePageIsTestedCode(t *testing.T) {
	var code strings.Builder
	for _, name := range []string{
		"practice_test.go", "examples/proxies/nginx.conf", "examples/proxies/haproxy.cfg", "examples/proxies/varnish.vcl",
	} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(b)
	}
	// A block may leave out indentation, and lines between its own.
	all := regexp.MustCompile(`(?m)^[ \t]+`).ReplaceAllString(code.String(), "")
	blocks := regexp.MustCompile("(?s)```(\\w+)\n(.*?)```\n").FindAllStringSubmatch(fileText(t, "docs/IN-PRACTICE.md"), -1)
	tested := 0
	for _, block := range blocks {
		if block[1] == "sh" {
			continue
		}
		tested++
		for line := range strings.Lines(block[2]) {
			if !strings.Contains(all, strings.TrimLeft(line, " \t")) {
				t.Errorf("this line is in no file that is tested: %s", line)
			}
		}
	}
	if tested < 6 {
		t.Errorf("got %d blocks of code, want at least 6", tested)
	}
}

func TestPracticeCommandsRunTestsThatExist(t *testing.T) {
	tests, _ := declared(t)
	commands := regexp.MustCompile("`go test (?:-run (\\w+) )?([^`]+)`").FindAllStringSubmatch(fileText(t, "docs/IN-PRACTICE.md"), -1)
	if len(commands) < 4 {
		t.Errorf("got the commands %q, want more", commands)
	}
	for _, command := range commands {
		if !strings.Contains(tests, "\nTest"+command[1]) {
			t.Errorf("%s: no test has this name", command[0])
		}
		for dir := range strings.FieldsSeq(command[2]) {
			if _, err := os.Stat(dir); err != nil {
				t.Errorf("%s: %v", command[0], err)
			}
		}
	}
}
