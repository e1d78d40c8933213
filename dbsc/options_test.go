package dbsc_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/dbsc"
)

func newManager(t testing.TB, cookie sessions.Cookie) *sessions.Manager[Account] {
	t.Helper()
	keys, err := sessions.NewKeyring(secret)
	if err != nil {
		t.Fatal(err)
	}
	mgr, err := sessions.New(config{Keys: keys, Cookie: cookie})
	if err != nil {
		t.Fatal(err)
	}
	return mgr
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for _, tt := range []struct {
		name    string
		cookie  sessions.Cookie
		options dbsc.Options
		want    []string
	}{
		{"a path without slashes", sessions.Cookie{}, dbsc.Options{Path: "dbsc"}, []string{"Options.Path", "begin and end with a slash"}},
		{"a path that a header cannot carry", sessions.Cookie{}, dbsc.Options{Path: `/a"b/`}, []string{"Options.Path"}},
		{"a path that browsers shorten", sessions.Cookie{}, dbsc.Options{Path: "/a/../dbsc/"}, []string{"Options.Path", "neither . nor .."}},
		{"a path with two slashes", sessions.Cookie{}, dbsc.Options{Path: "//dbsc/"}, []string{"Options.Path"}},
		{"the paths of the application", sessions.Cookie{}, dbsc.Options{Path: "/"}, []string{"Options.Path", "takes the paths"}},
		{"a short Every", sessions.Cookie{}, dbsc.Options{Every: time.Minute}, []string{"Options.Every", "at least 5m"}},
		{"a negative Every", sessions.Cookie{}, dbsc.Options{Every: -1}, []string{"Options.Every"}},
		{"a long Every", sessions.Cookie{}, dbsc.Options{Every: 25 * time.Hour}, []string{"Options.Every", "at most 24h"}},
		{"a fraction of a second", sessions.Cookie{}, dbsc.Options{Every: 10*time.Minute + 1}, []string{"Options.Every", "whole seconds"}},
		{"a Login path without a slash", sessions.Cookie{}, dbsc.Options{Login: []string{"login"}}, []string{"Options.Login"}},
		{"a Login path that routers shorten", sessions.Cookie{}, dbsc.Options{Login: []string{"/login/./"}}, []string{"Options.Login", "neither . nor .."}},
		{"an excluded path that is every page", sessions.Cookie{}, dbsc.Options{Exclude: []string{"/."}}, []string{"Options.Exclude"}},
		{"an excluded pattern", sessions.Cookie{}, dbsc.Options{Exclude: []string{"/static/*"}}, []string{"Options.Exclude"}},
		{"everything excluded", sessions.Cookie{}, dbsc.Options{Exclude: []string{"/"}}, []string{"Options.Exclude", "every page"}},
		{"an origin of http", sessions.Cookie{}, dbsc.Options{Origin: "http://app.test"}, []string{"Options.Origin"}},
		{"an origin with a path", sessions.Cookie{}, dbsc.Options{Origin: "https://app.test/"}, []string{"Options.Origin"}},
		{"an insecure cookie", sessions.Cookie{Insecure: true}, dbsc.Options{}, []string{"Insecure", "drop it"}},
		{"a partitioned cookie", sessions.Cookie{Partitioned: true}, dbsc.Options{}, []string{"Partitioned", "drop it"}},
		{"a domain", sessions.Cookie{Domain: "app.test"}, dbsc.Options{}, []string{"Domain", "leave it empty"}},
		{"a path of the cookie", sessions.Cookie{Path: "/app"}, dbsc.Options{}, []string{"Path", "leave it empty"}},
		{"all at once", sessions.Cookie{Insecure: true}, dbsc.Options{Path: "x", Every: 1}, []string{"Options.Path", "Options.Every", "Insecure"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := dbsc.New(newManager(t, tt.cookie), tt.options)
			if err == nil || !strings.HasPrefix(err.Error(), "dbsc: New: ") {
				t.Fatalf("got the error %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got the error %q, want %q in it", err, want)
				}
			}
		})
	}
	if _, err := dbsc.New[Account](nil, dbsc.Options{}); err == nil || !strings.Contains(err.Error(), "sessions.New") {
		t.Errorf("a nil Manager: %v", err)
	}
	mgr := newManager(t, sessions.Cookie{})
	for i := range 2 {
		if _, err := dbsc.New(mgr, dbsc.Options{}); (err != nil) != (i == 1) {
			t.Errorf("Devices number %d of a Manager: %v", i+1, err)
		}
	}
}

// See TestASignInIsBoundToItsDevice in examples/browser, which uses a browser.
func TestTheNameOfABoundCookieIsOneThatBrowsersBind(t *testing.T) {
	for name, want := range map[string]string{
		"":                    "__Host-session-bound",
		"__host-http-Session": "__Host-Session-bound",
		"__Http-session":      "__Http-session-bound",
		"__Host-session":      "__Host-session-bound",
		"__Secure-session":    "__Secure-session-bound",
		"session":             "session-bound",
	} {
		mgr := newManager(t, sessions.Cookie{Name: name})
		devices, err := dbsc.New(mgr, dbsc.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := devices.BoundCookie(); got != want {
			t.Errorf("beside %q: got %q, want %q", name, got, want)
		}
	}
}

func panicOf(f func()) (text string) {
	defer func() { text, _ = recover().(string) }()
	f()
	return ""
}

func TestWhatIsMountedWronglySaysSo(t *testing.T) {
	mgr, other := newManager(t, sessions.Cookie{}), newManager(t, sessions.Cookie{})
	devices, err := dbsc.New(mgr, dbsc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for name, h := range map[string]http.Handler{
		"without the Manager's Middleware": devices.Middleware(nothing),
		"within that of another Manager":   other.Middleware(devices.Middleware(nothing)),
		"around the Manager's Middleware":  devices.Middleware(mgr.Middleware(nothing)),
	} {
		if text := panicOf(func() { h.ServeHTTP(httptest.NewRecorder(), r) }); !strings.Contains(text, "put the Middleware of its Manager around") {
			t.Errorf("%s: got %q", name, text)
		}
	}
	if text := panicOf(func() { dbsc.Offer(context.Background()) }); !strings.Contains(text, "is Manager.Middleware") {
		t.Errorf("Offer: got %q", text)
	}
	if got := dbsc.StateOf(context.Background()); got != dbsc.None {
		t.Errorf("StateOf: got %v", got)
	}
	other.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if got := dbsc.StateOf(r.Context()); got != dbsc.None {
			t.Errorf("StateOf without Devices: got %v", got)
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
}

func TestAPanicOfOnEventUndoesNothing(t *testing.T) {
	logger := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	defer slog.SetDefault(logger)
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore, func(_ *config, o *dbsc.Options) { o.OnEvent = func(context.Context, dbsc.Event) { panic("x") } })
		b := s.signIn(false)
		expect(t, b.get(home), 200, boundText)
	})
}
