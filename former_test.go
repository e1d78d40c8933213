package sessions_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// jarVisit sends a request of a browser whose cookies net/http/cookiejar keeps, with
// all their attributes.
func jarVisit(jar http.CookieJar, s *site, at string, f func(*session)) *http.Response {
	u, _ := url.Parse(at)
	path := s.route(func(_ http.ResponseWriter, r *http.Request) { f(sessions.Get[AppSession](r.Context())) })
	r := httptest.NewRequest("GET", at, nil)
	r.URL.Path = path
	for _, c := range jar.Cookies(u) {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	jar.SetCookies(u, w.Result().Cookies())
	return w.Result()
}

// A program is deployed with other attributes while browsers hold the cookie that
// it set before.
func TestALogoutAlsoEndsWhatFormerAttributesHaveLeft(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after sessions.Cookie
	}{
		{"Domain is new", sessions.Cookie{Name: "sid"}, sessions.Cookie{Name: "sid", Domain: "example.com"}},
		{"Path is new", sessions.Cookie{Name: "sid"}, sessions.Cookie{Name: "sid", Path: "/app"}},
		{"both are new", sessions.Cookie{Name: "sid"}, sessions.Cookie{Name: "sid", Domain: "example.com", Path: "/app"}},
		{"Path is new beside a Domain", sessions.Cookie{Name: "sid", Domain: "example.com"}, sessions.Cookie{Name: "sid", Domain: "example.com", Path: "/app"}},
		{"Domain is new beside a Path", sessions.Cookie{Name: "sid", Path: "/app"}, sessions.Cookie{Name: "sid", Domain: "example.com", Path: "/app"}},
		{"nothing is new", sessions.Cookie{Name: "sid"}, sessions.Cookie{Name: "sid"}},
		{"SameSite is new", sessions.Cookie{Name: "sid"}, sessions.Cookie{Name: "sid", SameSite: http.SameSiteStrictMode}},
	} {
		for name, verb := range map[string]func(*session){
			"Destroy":                (*session).Destroy,
			"Reset":                  (*session).Reset,
			"SetLifetime below zero": func(s *session) { s.SetLifetime(-1) },
			"Reset and a message":    func(s *session) { s.Reset(); s.Flash("info", "You have signed out") },
		} {
			for _, again := range []bool{false, true} { // a session under the new attributes is there too
				t.Run(tt.name+", "+name, func(t *testing.T) {
					eachMode(t, func(t *testing.T, m mode) {
						const at = "https://www.example.com/app/page"
						jar, _ := cookiejar.New(nil)
						var store sessions.Store
						if m.hasStore() {
							store = m.store()
						}
						same := func(c sessions.Cookie) func(*config) {
							return func(cfg *config) { cfg.Cookie, cfg.Store = c, store }
						}
						before, after := newSite(t, m, same(tt.before)), newSite(t, m, same(tt.after))
						jarVisit(jar, before, at, func(s *session) { s.Data.UserID = 7 })
						if again {
							jarVisit(jar, after, at, func(s *session) { s.Data.N++; s.RegenerateID() })
						}
						jarVisit(jar, after, at, verb)
						jarVisit(jar, after, at, func(s *session) {
							if s.Data.UserID != 0 {
								t.Errorf("got user %d after the logout, want nobody", s.Data.UserID)
							}
						})
						u, _ := url.Parse(at)
						if left := len(jar.Cookies(u)); left > 1 || left == 1 && name != "Reset and a message" {
							t.Errorf("the browser holds %v, want no former cookie", jar.Cookies(u))
						}
					})
				})
			}
		}
	}
}

func TestFormerAttributesThatALogoutExpires(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cookie sessions.Cookie
		want   []string // of each line, what tells it from others
	}{
		{"the zero value", sessions.Cookie{}, []string{"Path=/"}},
		{"a Name", sessions.Cookie{Name: "sid"}, []string{"Path=/"}},
		{"a Domain", sessions.Cookie{Domain: "example.com"}, []string{"Path=/", "Path=/ Domain=example.com"}},
		{"a Path", sessions.Cookie{Path: "/app"}, []string{"Path=/", "Path=/app"}},
		{"Partitioned", sessions.Cookie{Partitioned: true, SameSite: http.SameSiteNoneMode}, []string{"Path=/", "Path=/ Partitioned"}},
		{"a Domain and a Path", sessions.Cookie{Domain: "example.com", Path: "/app"}, []string{
			"Path=/", "Path=/ Domain=example.com", "Path=/app", "Path=/app Domain=example.com",
		}},
		{"all three", sessions.Cookie{Domain: "example.com", Path: "/app", Partitioned: true}, []string{
			"Path=/", "Path=/ Domain=example.com", "Path=/ Domain=example.com Partitioned", "Path=/ Partitioned",
			"Path=/app", "Path=/app Domain=example.com", "Path=/app Domain=example.com Partitioned", "Path=/app Partitioned",
		}},
		{"Insecure", sessions.Cookie{Insecure: true, Path: "/app"}, []string{"Path=/", "Path=/app"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				s := newSite(t, m, withCookie(tt.cookie))
				b := s.browser()
				b.do(func(s *session) { s.Data.N = 1 })
				lines := b.do((*session).Destroy).Header["Set-Cookie"]
				var got []string
				for _, line := range lines {
					_, value, attrs := attributes(line)
					if value != "" || !slices.Contains(attrs, "Max-Age=0") || slices.Contains(attrs, "Secure") == tt.cookie.Insecure || !slices.Contains(attrs, "HttpOnly") {
						t.Errorf("got %q, want an expired cookie with the flags", line)
					}
					var tell []string
					for _, part := range strings.Split(line, "; ")[1:] {
						if strings.HasPrefix(part, "Path=") || strings.HasPrefix(part, "Domain=") || part == "Partitioned" {
							tell = append(tell, part)
						}
					}
					got = append(got, strings.Join(tell, " "))
				}
				last := got[len(got)-1]
				slices.Sort(got)
				if !slices.Equal(got, tt.want) || last != tt.want[len(tt.want)-1] && tt.name != "all three" {
					t.Errorf("got %q with the present one last=%q, want %q", got, last, tt.want)
				}
			})
		})
	}
}

func TestWhatIsNoLogoutLeavesFormerCookies(t *testing.T) {
	for name, do := range map[string]func(*session){
		"a read":         func(s *session) { _ = s.Data.N },
		"an edit":        func(s *session) { s.Data.N++ },
		"RegenerateID":   func(s *session) { s.RegenerateID(); s.Data.N++ },
		"a new lifetime": func(s *session) { s.SetLifetime(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				b := newSite(t, m, withCookie(sessions.Cookie{Domain: "example.com", Path: "/app"})).browser()
				b.do(func(s *session) { s.Data.N = 1 })
				if lines := b.do(do).Header["Set-Cookie"]; len(lines) > 1 {
					t.Errorf("got %q, want at most the present cookie", lines)
				}
			})
		})
	}
}

func TestALogoutOfABrowserWithoutOurCookieExpiresNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for name, verb := range map[string]func(*session){"Destroy": (*session).Destroy, "Reset": (*session).Reset} {
			b := newSite(t, m, withCookie(sessions.Cookie{Domain: "example.com", Path: "/app"})).browser()
			if lines := b.do(verb).Header["Set-Cookie"]; len(lines) > 0 {
				t.Errorf("%s: got %q, want none: the request brought none", name, lines)
			}
		}
	})
}

// Of what the browser sends, Reset keeps the cookie of the session that it begins.
func TestTheCookieOfASessionAfterResetComesAfterTheExpiredOnes(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, withCookie(sessions.Cookie{Name: "session", Path: "/app"})).browser()
		b.do(func(s *session) { s.Data.N = 1 })
		lines := b.do(func(s *session) { s.Reset(); s.Data.N = 2 }).Header["Set-Cookie"]
		if len(lines) != 2 || !strings.Contains(lines[0], "Max-Age=0") || strings.Contains(lines[1], "Max-Age=0") {
			t.Errorf("got %q, want the former cookie expired, then the new one", lines)
		}
		if d, _ := b.peek(); d.N != 2 {
			t.Errorf("got N=%d, want 2", d.N)
		}
	})
}
