package sessions_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// attributes takes a Set-Cookie apart.
func attributes(line string) (name, value string, attrs []string) {
	parts := strings.Split(line, "; ")
	name, value, _ = strings.Cut(parts[0], "=")
	slices.Sort(parts[1:])
	return name, value, parts[1:]
}

// withCookie is a change of Config.Cookie.
func withCookie(c sessions.Cookie) func(*config) { return func(cfg *config) { cfg.Cookie = c } }

// cookieHeader serves one request within the process, with these lines of the
// Cookie header.
func cookieHeader(s *site, f func(*session), lines ...string) *http.Response {
	path := s.route(func(w http.ResponseWriter, r *http.Request) { f(sessions.Get[AppSession](r.Context())) })
	r := httptest.NewRequest("GET", path, nil)
	if len(lines) > 0 {
		r.Header["Cookie"] = lines
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w.Result()
}

// cookieRefused sends a Cookie header that must give a fresh session for the reason,
// without an answer that shows it and without a question to the store.
func cookieRefused(t testing.TB, s *site, want sessions.Reason, lines ...string) {
	t.Helper()
	if s.store != nil {
		s.store.resetCounts()
	}
	ran := false
	res := cookieHeader(s, func(sess *session) {
		ran = true
		if sess.Reason() != want || !sess.IsNew() || sess.Data.N != 0 {
			t.Errorf("got %q and N=%d for %.300q, want a fresh session: %s", sess.Reason(), sess.Data.N, lines, want)
		}
	}, lines...)
	if !ran || res.StatusCode != 200 || len(res.Header["Set-Cookie"]) > 0 {
		t.Errorf("got %d with %q for %.300q, want 200 and no cookie", res.StatusCode, res.Header["Set-Cookie"], lines)
	}
	if s.store != nil && len(s.store.counts) > 0 {
		t.Errorf("got the store calls %v for %.300q, want none", s.store.counts, lines)
	}
}

// storedCookie makes a session with N=n and returns its cookie's value.
func storedCookie(s *site, n int) string {
	b := s.browser()
	b.do(func(s *session) { s.Data.N = n })
	return b.cookie()
}

var cookieConfigs = []struct {
	name   string
	cookie sessions.Cookie
	want   string // of the cookie
	attrs  []string
}{
	{"the zero value", sessions.Cookie{}, "__Host-Http-session", []string{"HttpOnly", "Max-Age=86400", "Path=/", "SameSite=Lax", "Secure"}},
	{"Path /", sessions.Cookie{Path: "/"}, "__Host-Http-session", []string{"HttpOnly", "Max-Age=86400", "Path=/", "SameSite=Lax", "Secure"}},
	{"a Path", sessions.Cookie{Path: "/app"}, "__Secure-session", []string{"HttpOnly", "Max-Age=86400", "Path=/app", "SameSite=Lax", "Secure"}},
	{"a Domain", sessions.Cookie{Domain: "example.com"}, "__Secure-session", []string{"Domain=example.com", "HttpOnly", "Max-Age=86400", "Path=/", "SameSite=Lax", "Secure"}},
	{"a Domain with a dot", sessions.Cookie{Domain: ".example.com"}, "__Secure-session", []string{"Domain=example.com", "HttpOnly", "Max-Age=86400", "Path=/", "SameSite=Lax", "Secure"}},
	{"Insecure", sessions.Cookie{Insecure: true}, "session", []string{"HttpOnly", "Max-Age=86400", "Path=/", "SameSite=Lax"}},
	{"Insecure with Domain and Path", sessions.Cookie{Insecure: true, Domain: "example.com", Path: "/a"}, "session", []string{"Domain=example.com", "HttpOnly", "Max-Age=86400", "Path=/a", "SameSite=Lax"}},
	{"a Name", sessions.Cookie{Name: "my-session"}, "my-session", []string{"HttpOnly", "Max-Age=86400", "Path=/", "SameSite=Lax", "Secure"}},
	{"SameSite default", sessions.Cookie{SameSite: http.SameSiteDefaultMode}, "__Host-Http-session", []string{"HttpOnly", "Max-Age=86400", "Path=/", "SameSite=Lax", "Secure"}},
	{"SameSite strict", sessions.Cookie{SameSite: http.SameSiteStrictMode}, "__Host-Http-session", []string{"HttpOnly", "Max-Age=86400", "Path=/", "SameSite=Strict", "Secure"}},
	{"SameSite none", sessions.Cookie{SameSite: http.SameSiteNoneMode}, "__Host-Http-session", []string{"HttpOnly", "Max-Age=86400", "Path=/", "SameSite=None", "Secure"}},
	{"Partitioned", sessions.Cookie{Partitioned: true, SameSite: http.SameSiteNoneMode}, "__Host-Http-session", []string{"HttpOnly", "Max-Age=86400", "Partitioned", "Path=/", "SameSite=None", "Secure"}},
	{"BrowserSession", sessions.Cookie{BrowserSession: true}, "__Host-Http-session", []string{"HttpOnly", "Path=/", "SameSite=Lax", "Secure"}},
}

func TestCookieHasTheAttributesOfItsConfig(t *testing.T) {
	for _, tt := range cookieConfigs {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					b := newSite(t, m, withCookie(tt.cookie)).browser()
					res := b.do(func(s *session) { s.Data.N = 7 })
					lines := res.Header["Set-Cookie"]
					if len(lines) != 1 {
						t.Fatalf("got %q, want one cookie", lines)
					}
					name, value, attrs := attributes(lines[0])
					if name != tt.want || !slices.Equal(attrs, tt.attrs) {
						t.Errorf("got %s with %q, want %s with %q", name, attrs, tt.want, tt.attrs)
					}
					if value == "" || strings.Trim(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
						t.Errorf("got the value %q, want base64url", value)
					}
					if data, _ := b.peek(); data.N != 7 {
						t.Errorf("got N=%d, want 7", data.N)
					}
				})
			})
		})
	}
}

func TestExpiredCookieRepeatsTheAttributes(t *testing.T) {
	for _, tt := range cookieConfigs {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				for name, verb := range map[string]func(*session){"Destroy": (*session).Destroy, "Reset": (*session).Reset} {
					b := newSite(t, m, withCookie(tt.cookie)).browser()
					b.do(func(s *session) { s.Data.N = 7 })
					lines := b.do(verb).Header["Set-Cookie"]
					if len(lines) == 0 || len(gone(lines, tt.want)) != len(lines) {
						t.Fatalf("%s: got %q, want deletions of our cookie alone", name, lines)
					}
					// Those before are for what former attributes may have left.
					got, value, attrs := attributes(lines[len(lines)-1])
					want := slices.DeleteFunc(slices.Clone(tt.attrs), func(a string) bool { return strings.HasPrefix(a, "Max-Age") })
					want = append(want, "Expires=Thu, 01 Jan 1970 00:00:00 GMT", "Max-Age=0")
					slices.Sort(want)
					if got != tt.want || value != "" || !slices.Equal(attrs, want) {
						t.Errorf("%s: got %s=%q with %q, want no value with %q", name, got, value, attrs, want)
					}
					if b.cookie() != "" {
						t.Errorf("%s: the browser still has a cookie", name)
					}
				}
			})
		})
	}
}

func TestCookieIsExpiredOnlyIfTheRequestBroughtOne(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, tt := range []struct {
			name   string
			cookie string
			do     func(*session)
			want   int // of expired cookies
		}{
			{"Destroy of nothing", "", (*session).Destroy, 0},
			{"Reset of nothing", "", (*session).Reset, 0},
			{"Destroy of a new session", "", func(s *session) { s.Data.N = 1; s.Destroy(); s.Data.N = 2 }, 0},
			{"Destroy after Save", "", func(s *session) { s.Data.N = 1; _ = s.Save(t.Context()); s.Destroy() }, 0},
			{"Destroy with another cookie", "other=1", (*session).Destroy, 0},
			{"Destroy with garbage", "__Host-Http-session=garbage", (*session).Destroy, 1},
			{"Destroy with an empty one", "__Host-Http-session=", (*session).Destroy, 1},
			{"Destroy twice", "__Host-Http-session=garbage", func(s *session) { s.Destroy(); s.Destroy(); s.Reset() }, 1},
			{"a read with garbage", "__Host-Http-session=garbage", func(s *session) { s.Flashes() }, 0},
		} {
			t.Run(tt.name, func(t *testing.T) {
				s := newSite(t, m, nil)
				var header []string
				if tt.cookie != "" {
					header = []string{tt.cookie}
				}
				lines := cookieHeader(s, tt.do, header...).Header["Set-Cookie"]
				if len(lines) != tt.want || tt.want == 1 && !strings.HasPrefix(lines[0], "__Host-Http-session=; ") {
					t.Errorf("got %q, want %d expired cookies", lines, tt.want)
				}
				if s.store != nil && len(s.store.live()) != 0 {
					t.Errorf("got %d records, want none", len(s.store.live()))
				}
			})
		}
	})
}

func TestResetAndAnEditSendOneCookie(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		old := b.cookie()
		res := b.do(func(s *session) { s.Reset(); s.Data.N = 2 })
		oneCookie(t, res.Header["Set-Cookie"])
		if data, _ := b.peek(); data.N != 2 || b.cookie() == old {
			t.Errorf("got N=%d, want 2 under a new cookie", data.N)
		}
	})
}

func TestUselessCookieIsLeftAloneUntilTheSessionIsWritten(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			time.Sleep(25 * time.Hour)
			cookie := b.cookie()
			if res := b.do(func(s *session) { s.Flashes() }); len(res.Header["Set-Cookie"]) > 0 || b.cookie() != cookie {
				t.Errorf("got %q for a read, want the cookie left alone", res.Header["Set-Cookie"])
			}
			res := b.clone().do(func(s *session) { s.Data.N = 2 })
			oneCookie(t, res.Header["Set-Cookie"])
			if res := b.do((*session).Destroy); len(res.setCookies()) != 1 || b.cookie() != "" {
				t.Errorf("got %q from Destroy, want it expired", res.setCookies())
			}
		})
	})
}

func TestNewRefusesCookiesThatBrowsersDrop(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cookie sessions.Cookie
		want   string // in the error
	}{
		{"a blank in the name", sessions.Cookie{Name: "a b"}, "Cookie.Name"},
		{"a semicolon in the name", sessions.Cookie{Name: "a;b"}, "Cookie.Name"},
		{"an equals sign in the name", sessions.Cookie{Name: "a=b"}, "Cookie.Name"},
		{"a comma in the name", sessions.Cookie{Name: "a,b"}, "Cookie.Name"},
		{"quotes in the name", sessions.Cookie{Name: `"a"`}, "Cookie.Name"},
		{"a letter beyond ASCII in the name", sessions.Cookie{Name: "é"}, "Cookie.Name"},
		{"a line break in the name", sessions.Cookie{Name: "a\r\n"}, "Cookie.Name"},
		{"a NUL in the name", sessions.Cookie{Name: "a\x00"}, "Cookie.Name"},
		{"a blank as name", sessions.Cookie{Name: " "}, "Cookie.Name"},
		{"__Host- with a Domain", sessions.Cookie{Name: "__Host-x", Domain: "example.com"}, "Domain"},
		{"__Host- with a Path", sessions.Cookie{Name: "__Host-x", Path: "/app"}, "Path"},
		{"__Host- with Insecure", sessions.Cookie{Name: "__Host-x", Insecure: true}, "Insecure"},
		{"__host- with a Domain", sessions.Cookie{Name: "__host-x", Domain: "example.com"}, "Domain"},
		{"__HOST- with a Path", sessions.Cookie{Name: "__HOST-x", Path: "/app"}, "Path"},
		{"__host- with Insecure", sessions.Cookie{Name: "__host-x", Insecure: true}, "Insecure"},
		{"__Secure- with Insecure", sessions.Cookie{Name: "__Secure-x", Insecure: true}, "Insecure"},
		{"__secure- with Insecure", sessions.Cookie{Name: "__secure-x", Insecure: true}, "Insecure"},
		{"__Host- alone with Insecure", sessions.Cookie{Name: "__Host-", Insecure: true}, "Insecure"},
		{"SameSite=None with Insecure", sessions.Cookie{SameSite: http.SameSiteNoneMode, Insecure: true}, "SameSite"},
		{"Partitioned with Insecure", sessions.Cookie{Partitioned: true, Insecure: true}, "Partitioned"},
		{"an unknown SameSite", sessions.Cookie{SameSite: 42}, "SameSite"},
		{"a negative SameSite", sessions.Cookie{SameSite: -1}, "SameSite"},
		{"a Path without slash", sessions.Cookie{Path: "x"}, "Cookie.Path"},
		{"a semicolon in the Path", sessions.Cookie{Path: "/a;b"}, "Cookie.Path"},
		{"a line break in the Path", sessions.Cookie{Path: "/\r\nX: y"}, "Cookie.Path"},
		{"a Path of 1025 bytes", sessions.Cookie{Path: "/" + strings.Repeat("p", 1024)}, "Cookie.Path"},
		{"a blank in the Domain", sessions.Cookie{Domain: "a b"}, "Cookie.Domain"},
		{"a dot as Domain", sessions.Cookie{Domain: "."}, "Cookie.Domain"},
		{"two dots as Domain", sessions.Cookie{Domain: ".."}, "Cookie.Domain"},
		{"a port in the Domain", sessions.Cookie{Domain: "localhost:80"}, "Cookie.Domain"},
		{"a semicolon in the Domain", sessions.Cookie{Domain: "a;b"}, "Cookie.Domain"},
		{"a line break in the Domain", sessions.Cookie{Domain: "a\r\nb"}, "Cookie.Domain"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := sessions.New(config{Keys: newKeys(t), Cookie: tt.cookie})
			if err == nil || m != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error that names %s", err, tt.want)
			}
		})
	}
}

func TestNewListsAllThatIsWrongWithTheCookie(t *testing.T) {
	_, err := sessions.New(config{Cookie: sessions.Cookie{Name: "__Host-x y", Path: "x", Domain: "a b", Insecure: true, SameSite: http.SameSiteNoneMode, Partitioned: true}})
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{"Name", "Path", "Domain", "SameSite", "Partitioned", "Insecure", "Keys"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s in it", err, want)
		}
	}
}

func TestNewTakesCookiesThatBrowsersTake(t *testing.T) {
	for _, c := range []sessions.Cookie{
		{Name: "__Host-x"},
		{Name: "__Host-x", Path: "/"},
		{Name: "__Secure-x", Path: "/app", Domain: "example.com"},
		{Name: "__Hos"},
		{Name: "_Host-x", Insecure: true},
		{Name: "!#$%&'*+-.^_`|~09azAZ"},
		{Path: "/" + strings.Repeat("p", 1023)},
		{Domain: "xn--bcher-kva.example"},
	} {
		if _, err := sessions.New(config{Keys: newKeys(t), Cookie: c}); err != nil {
			t.Errorf("got %v for %+v, want a Manager", err, c)
		}
	}
}

func TestCookieNameThatLeavesNoRoomIsAnErrorAndNotALostSession(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		cfg := config{Keys: newKeys(t), Encrypt: m.encrypt, Cookie: sessions.Cookie{Name: strings.Repeat("session", 585)}}
		if m.store != nil {
			cfg.Store = m.store()
		}
		if _, err := sessions.New(cfg); err != nil {
			return // it says so at once
		}
		s := newSite(t, m, withCookie(cfg.Cookie))
		res := cookieHeader(s, func(s *session) { s.Data.N = 7 })
		if res.StatusCode == 200 && len(res.Header["Set-Cookie"]) == 0 {
			t.Error("got 200 without a cookie for a changed session, want an error of New or of the commit")
		}
	})
}

func TestMaxAgeIsTheWholeSecondsLeft(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name     string
		lifetime time.Duration
		do       func(*session)
	}{
		{"of a day", 0, func(*session) {}},
		{"of 1500 ms", 1500 * time.Millisecond, func(*session) {}},
		{"of a nanosecond", 1, func(*session) {}},
		{"of 400 days", 400 * day, func(*session) {}},
		{"of 401 days", 401 * day, func(*session) {}},
		{"of 290 years", 290 * 365 * day, func(*session) {}},
		{"by SetLifetime of an hour", 0, func(s *session) { s.SetLifetime(time.Hour) }},
		{"by SetLifetime of a nanosecond", 0, func(s *session) { s.SetLifetime(1) }},
		{"by SetLifetime of 1001 ms", 0, func(s *session) { s.SetLifetime(1001 * time.Millisecond) }},
		{"by SetLifetime of ten years", 0, func(s *session) { s.SetLifetime(3650 * day) }},
		{"by SetLifetime of zero", 0, func(s *session) { s.SetLifetime(0) }},
	} {
		for _, past := range []time.Duration{0, 1, 600 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s, %v past the second", tt.name, past), func(t *testing.T) {
				eachMode(t, func(t *testing.T, m mode) {
					synctest.Test(t, func(t *testing.T) {
						b := newSite(t, m, func(c *config) { c.Lifetime = tt.lifetime }).browser()
						time.Sleep(past)
						var left time.Duration
						res := b.do(func(s *session) {
							s.Data.N = 7
							tt.do(s)
							left = time.Until(s.ExpiresAt())
						})
						want := min(max(int(left/time.Second), 1), 400*24*60*60)
						if cookies := res.Cookies(); len(cookies) != 1 || cookies[0].MaxAge != want {
							t.Errorf("got %q with %v left, want Max-Age=%d", res.Header["Set-Cookie"], left, want)
						}
						if data, reason := b.peek(); data.N != 7 {
							t.Errorf("got N=%d (%s) at once, want 7", data.N, reason)
						}
					})
				})
			})
		}
	}
}

func TestBrowserSessionLastsUntilSetLifetimeMakesItLast(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			b := newSite(t, m, withCookie(sessions.Cookie{BrowserSession: true})).browser()
			maxAge := func(do func(*session)) string {
				t.Helper()
				lines := b.do(do).Header["Set-Cookie"]
				if len(lines) != 1 {
					t.Fatalf("got %q, want one cookie", lines)
				}
				_, _, attrs := attributes(lines[0])
				for _, a := range attrs {
					if strings.HasPrefix(a, "Expires") {
						t.Errorf("got %q, want no Expires", lines[0])
					}
					if strings.HasPrefix(a, "Max-Age") {
						return a
					}
				}
				return "none"
			}
			if got := maxAge(func(s *session) { s.Data.N = 1 }); got != "none" {
				t.Errorf("got %s, want none in a browser session", got)
			}
			if got := maxAge((*session).RegenerateID); got != "none" {
				t.Errorf("got %s after RegenerateID, want none", got)
			}
			if got := maxAge(func(s *session) { s.SetLifetime(30 * 24 * time.Hour) }); got != "Max-Age=2592000" {
				t.Errorf("got %s after SetLifetime, want 30 days", got)
			}
			time.Sleep(24 * time.Hour)
			if got := maxAge(func(s *session) { s.Data.N = 2; s.RegenerateID() }); got != "Max-Age=2592000" {
				t.Errorf("got %s in a later request, want 30 days again", got)
			}
			if data, _ := b.peek(); data.N != 2 {
				t.Errorf("got N=%d, want 2", data.N)
			}
		})
	})
}

func TestServerEndsABrowserSessionThatTheBrowserKeeps(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			b := newSite(t, m, withCookie(sessions.Cookie{BrowserSession: true})).browser()
			b.do(func(s *session) { s.Data.N = 1 })
			time.Sleep(24*time.Hour - time.Second)
			if data, _ := b.peek(); data.N != 1 {
				t.Errorf("got N=%d a second before the end, want 1", data.N)
			}
			time.Sleep(time.Second)
			if data, reason := b.peek(); data.N != 0 || reason != sessions.ReasonExpired {
				t.Errorf("got N=%d (%q) at the end, want it expired", data.N, reason)
			}
		})
	})
}

func TestLargestCookieIsOf4096Bytes(t *testing.T) {
	for _, m := range modes[:2] {
		t.Run(m.name, func(t *testing.T) {
			exact := false
			for pad := range 4 {
				var failure error
				s := newSite(t, m, func(c *config) {
					c.Cookie.Path = "/" + strings.Repeat("p", pad+1)
					c.ErrorHandler = func(_ http.ResponseWriter, _ *http.Request, err error) { failure = err }
				})
				b := s.browser()
				b.do(func(s *session) { s.Data.N = 1 })
				// The length of a name that fits, by bisection.
				fits, over := 1000, 4096
				var line string
				for over-fits > 1 {
					n := (fits + over) / 2
					res := b.clone().do(func(s *session) { s.Data.Name = strings.Repeat("x", n) })
					if lines := res.setCookies(); len(lines) == 1 && res.StatusCode == 200 {
						fits, line = n, lines[0]
					} else {
						over = n
					}
				}
				if len(line) > 4096 || len(line) < 4093 {
					t.Errorf("got a largest cookie of %d bytes, want 4096 or up to three fewer", len(line))
				}
				exact = exact || len(line) == 4096
				_, value, _ := attributes(line)
				next := len(line) - len(value) + base64.RawURLEncoding.EncodedLen(base64.RawURLEncoding.DecodedLen(len(value))+1)

				failure = nil
				var rehearsed error
				res := b.do(func(s *session) {
					s.Data.Name = strings.Repeat("x", over)
					rehearsed = s.Save(t.Context())
				})
				for _, err := range []error{failure, rehearsed} {
					if !errors.Is(err, sessions.ErrTooLarge) || !strings.Contains(fmt.Sprint(err), "4096") || !strings.Contains(fmt.Sprint(err), strconv.Itoa(next)) || !strings.Contains(fmt.Sprint(err), "Store") {
						t.Errorf("got %v, want ErrTooLarge with %d, 4096 and the way out", err, next)
					}
				}
				if res.StatusCode != 500 || len(res.Header["Set-Cookie"]) > 0 {
					t.Errorf("got %d with %q, want 500 and no cookie", res.StatusCode, res.Header["Set-Cookie"])
				}
				if data, _ := b.peek(); data.N != 1 || data.Name != "" {
					t.Errorf("got %d, %d bytes of name, want the state before", data.N, len(data.Name))
				}
				// The largest that passes can be read again.
				b.do(func(s *session) { s.Data.Name = strings.Repeat("x", fits) })
				if data, _ := b.peek(); len(data.Name) != fits {
					t.Errorf("got %d bytes of name, want %d", len(data.Name), fits)
				}
			}
			if !exact {
				t.Error("no cookie had exactly 4096 bytes, want one that passes")
			}
		})
	}
}

func TestFlashThatDoesNotFitGivesWayToData(t *testing.T) {
	for _, m := range modes[:2] {
		t.Run(m.name, func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.Name = strings.Repeat("x", 2000) })
			if res := b.do(func(s *session) { s.Data.N = 1; s.Flash("info", strings.Repeat("y", 2000)) }); res.StatusCode != 200 || len(res.Header["Set-Cookie"]) != 1 {
				t.Errorf("got %d with %q, want 200 and a cookie", res.StatusCode, res.Header["Set-Cookie"])
			}
			b.do(func(s *session) {
				if got := s.Flashes(); len(s.Data.Name) != 2000 || s.Data.N != 1 || len(got) != 0 {
					t.Errorf("got %d bytes of name, N=%d and %d flashes, want the data alone", len(s.Data.Name), s.Data.N, len(got))
				}
			})
			if n := len(s.events.of(sessions.EventFlashDropped)); n != 1 {
				t.Errorf("got %d events of dropped messages, want 1", n)
			}
		})
	}
}

func TestStoreHoldsWhatACookieCannot(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		b.do(func(s *session) { s.Data.Name = strings.Repeat("x", 100_000) })
		if data, _ := b.peek(); len(data.Name) != 100_000 {
			t.Errorf("got %d bytes of name, want 100,000", len(data.Name))
		}
	})
}

// forge changes a character of the signature, which leaves format, key id and
// length as they are. Each n gives another value.
func forge(value string, n int) string {
	b := []byte(value)
	for i := range 2 {
		at := len(b) - 4 - i
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		b[at] = alphabet[(strings.IndexByte(alphabet, b[at])+1+n%62)%64]
		n /= 62
	}
	return string(b)
}

func TestOfSeveralCookiesTheAuthenticOneCounts(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		forged := func(good string, n int) (values []string) {
			for i := range n {
				values = append(values, forge(good, i))
			}
			return values
		}
		for _, tt := range []struct {
			name  string
			order func(good string) []string
			found bool
		}{
			{"bad, good", func(g string) []string { return []string{"bad", g} }, true},
			{"good, bad", func(g string) []string { return []string{g, "bad"} }, true},
			{"empty, good", func(g string) []string { return []string{"", g} }, true},
			{"forged, good", func(g string) []string { return append(forged(g, 1), g) }, true},
			{"good, forged", func(g string) []string { return append([]string{g}, forged(g, 1)...) }, true},
			{"15 forged, good", func(g string) []string { return append(forged(g, 15), g) }, true},
			{"16 forged, good", func(g string) []string { return append(forged(g, 16), g) }, false},
			{"good, 500 forged", func(g string) []string { return append([]string{g}, forged(g, 500)...) }, true},
			{"500 forged", func(g string) []string { return forged(g, 500) }, false},
			{"1000 of garbage, good", func(g string) []string {
				return append(slices.Repeat([]string{"garbage", strings.Repeat("A", len(g)), g[:len(g)-4] + "!!!!", g + "=="}, 250), g)
			}, true},
			{"good twice", func(g string) []string { return []string{g, g} }, true},
		} {
			t.Run(tt.name, func(t *testing.T) {
				s := newSite(t, m, nil)
				values := tt.order(storedCookie(s, 7))
				for i, v := range values {
					values[i] = "__Host-Http-session=" + v
				}
				s.events.reset()
				for _, lines := range [][]string{{strings.Join(values, "; ")}, values} {
					if !tt.found {
						cookieRefused(t, s, sessions.ReasonForged, lines...)
						continue
					}
					res := cookieHeader(s, func(sess *session) {
						if sess.Data.N != 7 {
							t.Errorf("got N=%d (%s), want 7", sess.Data.N, sess.Reason())
						}
					}, lines...)
					if len(res.Header["Set-Cookie"]) > 0 {
						t.Errorf("got %q, want no cookie", res.Header["Set-Cookie"])
					}
				}
				if got := s.events.of(sessions.EventAmbiguous); len(got) > 0 {
					t.Errorf("got %v, want no ambiguity: one was authentic", got)
				}
			})
		}
	})
}

func TestOfTwoAuthenticCookiesTheNewestCounts(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			short := s.browser()
			short.do(func(s *session) { s.Data.N = 1; s.SetLifetime(time.Hour) })
			older := "__Host-Http-session=" + storedCookie(s, 2)
			time.Sleep(2 * time.Hour) // the first ends
			expired := "__Host-Http-session=" + short.cookie()
			newer := "__Host-Http-session=" + storedCookie(s, 3)
			equal := "__Host-Http-session=" + storedCookie(s, 4)
			gone := s.browser()
			gone.do(func(s *session) { s.Data.N = 5 })
			unknown := "__Host-Http-session=" + gone.cookie()
			if m.hasStore() {
				gone.do((*session).Destroy)
			}
			for _, tt := range []struct {
				name    string
				lines   []string
				want    int
				loads   int
				cookies bool // only where there is no store, or only where there is
				stores  bool
			}{
				{"older, newer", []string{older, newer}, 3, 1, true, true},
				{"newer, older", []string{newer, older}, 3, 1, true, true},
				{"expired, good", []string{expired, older}, 2, 1, true, true},
				{"good, expired", []string{older, expired}, 2, 1, true, true},
				{"a tie", []string{newer, equal}, 3, 1, true, true},
				{"the same tie the other way round", []string{equal, newer}, 4, 1, true, true},
				{"three", []string{older, expired, newer}, 3, 1, true, true},
				{"unknown, older", []string{unknown, older}, 2, 2, false, true},
				{"older, unknown", []string{older, unknown}, 2, 2, false, true},
			} {
				if m.hasStore() && !tt.stores || !m.hasStore() && !tt.cookies {
					continue
				}
				s.events.reset()
				if s.store != nil {
					s.store.resetCounts()
				}
				res := cookieHeader(s, func(s *session) {
					if s.Data.N != tt.want {
						t.Errorf("%s: got N=%d (%s), want %d", tt.name, s.Data.N, s.Reason(), tt.want)
					}
				}, strings.Join(tt.lines, "; "))
				if n := len(s.events.of(sessions.EventAmbiguous)); n != 1 {
					t.Errorf("%s: got %d events, want one that it is ambiguous", tt.name, n)
				}
				if s.store != nil && s.store.count("Load") != tt.loads {
					t.Errorf("%s: got %d loads, want %d", tt.name, s.store.count("Load"), tt.loads)
				}
				if res.StatusCode != 200 || len(res.Header["Set-Cookie"]) > 0 {
					t.Errorf("%s: got %d with %q, want nothing sent", tt.name, res.StatusCode, res.Header["Set-Cookie"])
				}
			}
		})
	})
}

func TestDestroyEndsEverySessionThatTheRequestNamed(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		a, b := storedCookie(s, 1), storedCookie(s, 2)
		res := cookieHeader(s, (*session).Destroy, "__Host-Http-session="+a+"; __Host-Http-session="+b)
		if lines := res.Header["Set-Cookie"]; len(lines) != 1 || len(s.store.live()) != 0 {
			t.Errorf("got %q and %d records, want one expired cookie and none", lines, len(s.store.live()))
		}
	})
}

func TestChangedCookieIsNeverAccepted(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		good := storedCookie(s, 7)
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		send := func(t *testing.T, value string) {
			t.Helper()
			cookieRefused(t, s, sessions.ReasonForged, "__Host-Http-session="+value)
		}
		t.Run("by a bit of its text", func(t *testing.T) {
			for i := range len(good) {
				for bit := range 8 {
					b := []byte(good)
					b[i] ^= 1 << bit
					send(t, string(b))
				}
			}
		})
		token, err := base64.RawURLEncoding.DecodeString(good)
		if err != nil {
			t.Fatal(err)
		}
		t.Run("by a bit of its bytes", func(t *testing.T) {
			for i := range len(token) {
				for bit := range 8 {
					b := slices.Clone(token)
					b[i] ^= 1 << bit
					send(t, base64.RawURLEncoding.EncodeToString(b))
				}
			}
		})
		t.Run("by a cut", func(t *testing.T) {
			for i := range len(good) {
				send(t, good[:i])
				send(t, good[i+1:])
			}
			for i := range len(token) {
				send(t, base64.RawURLEncoding.EncodeToString(token[:i]))
				send(t, base64.RawURLEncoding.EncodeToString(token[i+1:]))
			}
		})
		t.Run("by more", func(t *testing.T) {
			for _, c := range alphabet {
				send(t, good+string(c))
				send(t, string(c)+good)
			}
			send(t, good+good)
			send(t, base64.RawURLEncoding.EncodeToString(append(slices.Clone(token), 0)))
			send(t, base64.RawURLEncoding.EncodeToString(append([]byte{0}, token...)))
		})
		t.Run("by another spelling", func(t *testing.T) {
			for _, c := range alphabet {
				if last := good[len(good)-1]; byte(c) != last {
					send(t, good[:len(good)-1]+string(c))
				}
			}
			for _, pad := range []string{"=", "==", "===", "%3D", ".", "\x00", "é"} {
				send(t, good+pad)
			}
			send(t, `"`+good+`"`)
			send(t, `"`+good)
			send(t, good+`"`)
			send(t, "="+good)
			send(t, " "+good)
			send(t, "\t"+good)
			for i := range len(good) {
				for _, space := range []string{" ", "\t", "\n", "\r", "\r\n", "=", "%", ",", "\\", "\u2000"} {
					if i > 0 {
						send(t, good[:i]+space+good[i:])
					}
				}
				send(t, good[:i]+fmt.Sprintf("%%%02X", good[i])+good[i+1:])
			}
			for _, end := range []string{"\n", "\r", "\r\n", "\n\n\n\n"} {
				send(t, good+end)
				send(t, end+good)
			}
		})
		if data := cookieData(s, good); data.N != 7 {
			t.Errorf("got N=%d for the cookie itself, want 7", data.N)
		}
	})
}

func cookieData(s *site, value string) (data AppSession) {
	cookieHeader(s, func(s *session) { data = s.Data }, "__Host-Http-session="+value)
	return data
}

func TestStandardAlphabetIsNotAccepted(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		tried := 0
		for n := 1; tried < 5; n++ {
			good := storedCookie(s, n)
			if other := strings.NewReplacer("-", "+", "_", "/").Replace(good); other != good {
				tried++
				cookieRefused(t, s, sessions.ReasonForged, "__Host-Http-session="+other)
			}
		}
	})
}

func TestOnlyTheExactNameCounts(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		good := storedCookie(s, 7)
		for _, header := range []string{
			"session=" + good,
			"__host-session=" + good,
			"__HOST-SESSION=" + good,
			"__Host-sessio=" + good,
			"__Host-Http-session2=" + good,
			"x__Host-Http-session=" + good,
			"__Host-Http-session =" + good,
			"__Host-Http-session\u2000=" + good,
			"\u2000__Host-Http-session=" + good,
			"\x85__Host-Http-session=" + good,
			"%5f%5fHost-session=" + good,
			`"__Host-Http-session"=` + good,
			"$__Host-Http-session=" + good,
			"=__Host-Http-session=" + good,
			"a=__Host-Http-session=" + good,
			"a,__Host-Http-session=" + good,
			"__Host-Http-session",
			"__Host-Http-session" + good,
			good,
			"",
			";;; ;",
		} {
			cookieRefused(t, s, sessions.ReasonNoCookie, header)
		}
		for _, header := range []string{
			"__Host-Http-session=" + good,
			" __Host-Http-session=" + good,
			"a=1;__Host-Http-session=" + good + ";b=2",
			"a=1; __Host-Http-session=" + good + "; b=2",
			"; ; __Host-Http-session=" + good,
			"$Version=1; __Host-Http-session=" + good + "; $Path=/",
			`q="; __Host-Http-session=` + good,
		} {
			cookieHeader(s, func(s *session) {
				if s.Data.N != 7 {
					t.Errorf("got N=%d for %.60q, want 7", s.Data.N, header)
				}
			}, header)
		}
	})
}

func TestCookieMadeForAnotherUseIsRefused(t *testing.T) {
	other := []byte("vutsrqponmlkjihgfedcba9876543210")
	type maker struct {
		name string
		mode mode
		with func(*config)
	}
	var makers []maker
	for _, m := range []mode{modes[0], modes[1], modes[2], modes[4]} {
		makers = append(makers,
			maker{m.name, m, func(*config) {}},
			maker{m.name + ", another name", m, func(c *config) { c.Cookie.Name = "__Host-another-session" }},
			maker{m.name + ", other keys", m, func(c *config) { c.Keys = newKeys(t, other) }},
		)
	}
	kind := func(m maker) string { // what a cookie depends on
		kind, _, _ := strings.Cut(m.name, ",")
		if m.mode.hasStore() {
			kind = "store"
		}
		_, rest, _ := strings.Cut(strings.TrimPrefix(m.name, "MemoryStore, encrypted"), ", ")
		return kind + rest
	}
	for _, from := range makers {
		s := newSite(t, from.mode, from.with)
		value := storedCookie(s, 7)
		for _, to := range makers {
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				s := newSite(t, to.mode, to.with)
				name := "__Host-Http-session="
				if strings.HasSuffix(to.name, "another name") {
					name = "__Host-another-session="
				}
				if kind(from) != kind(to) {
					cookieRefused(t, s, sessions.ReasonForged, name+value)
					return
				}
				cookieHeader(s, func(s *session) {
					if m := to.mode; m.hasStore() && s.Reason() != sessions.ReasonUnknown || !m.hasStore() && s.Data.N != 7 {
						t.Errorf("got N=%d (%q), want an authentic cookie", s.Data.N, s.Reason())
					}
				}, name+value)
			})
		}
	}
}

func TestHugeValuesAreRefused(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		good := storedCookie(s, 7)
		for _, size := range []int{4096, 4097, 8 << 10, 1 << 20} {
			cookieRefused(t, s, sessions.ReasonForged, "__Host-Http-session="+strings.Repeat("A", size))
			cookieRefused(t, s, sessions.ReasonForged, "__Host-Http-session="+good+strings.Repeat("A", size-len(good)))
		}
		c := dialSite(t, s)
		path := s.route(func(w http.ResponseWriter, r *http.Request) {
			if got := sessions.Get[AppSession](r.Context()).Reason(); got != sessions.ReasonForged {
				t.Errorf("got %q, want forged", got)
			}
		})
		c.say("GET %s HTTP/1.1\r\nHost: x\r\nCookie: __Host-Http-session=%s\r\n\r\n", path, strings.Repeat("A", 8<<10))
		if status, _ := c.head(); !strings.Contains(status, "200") {
			t.Errorf("got %s, want 200", status)
		}
	})
}

func TestAValueAbove4096BytesIsRefusedEvenIfAuthentic(t *testing.T) {
	s := newSite(t, modes[0], nil)
	for size := 3000; size > 2900; size-- { // around the limit
		value := s.mgr.Padded(size)
		want := sessions.ReasonForged
		if len(value) <= 4096 {
			want = sessions.ReasonNone
		}
		got := s.browser()
		got.cookies["__Host-Http-session"] = value
		got.do(func(sess *session) {
			if sess.Reason() != want {
				t.Errorf("a value of %d bytes: got reason %q, want %q", len(value), sess.Reason(), want)
			}
		})
	}
}

func TestSeveralCookieHeaderLinesAreRead(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		good := storedCookie(s, 7)
		for _, lines := range []string{
			"Cookie: a=1\r\nCookie: __Host-Http-session=" + good + "\r\nCookie: b=2\r\n",
			"cookie: __Host-Http-session=" + good + "\r\nCookie: __Host-Http-session=bad\r\n",
		} {
			c := dialSite(t, s)
			path := s.route(func(w http.ResponseWriter, r *http.Request) {
				_, _ = fmt.Fprint(w, sessions.Get[AppSession](r.Context()).Data.N)
			})
			c.say("GET %s HTTP/1.0\r\n%s\r\n", path, lines)
			c.head()
			if body, _ := io.ReadAll(c.Reader); string(body) != "7" {
				t.Errorf("got N=%s, want 7", body)
			}
		}
		b := s.online(true)
		res := b.send(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, r.ProtoMajor, sessions.Get[AppSession](r.Context()).Data.N)
		}, func(r *http.Request) { r.Header["Cookie"] = []string{"a=1", "__Host-Http-session=" + good, "b=2"} })
		if res.body != "2 7" {
			t.Errorf("got %q over HTTP/2, want N=7", res.body)
		}
	})
}

func TestThreeThousandForeignCookiesHideNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		good := storedCookie(s, 7)
		foreign := strings.Repeat("foreign=1; ", 3000)
		c := dialSite(t, s)
		path := s.route(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, sessions.Get[AppSession](r.Context()).Data.N)
		})
		c.say("GET %s HTTP/1.0\r\nCookie: %s__Host-Http-session=%s\r\n\r\n", path, foreign, good)
		c.head()
		if body, _ := io.ReadAll(c.Reader); string(body) != "7" {
			t.Errorf("got N=%s behind 3000 others, want 7", body)
		}
	})
}

func TestForgedCookiesAskTheStoreNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		token, err := base64.RawURLEncoding.DecodeString(storedCookie(s, 7))
		if err != nil {
			t.Fatal(err)
		}
		s.store.resetCounts()
		random := rand.NewChaCha8([32]byte{1})
		for i := range 1000 {
			b := make([]byte, 1+i%200)
			if i%2 == 0 {
				b = make([]byte, len(token)) // as a real one
			}
			_, _ = random.Read(b)
			if i%2 == 0 {
				copy(b, token[:5+i%10]) // format, key id, and the first of the rest
			}
			res := cookieHeader(s, func(s *session) {
				if s.Reason() != sessions.ReasonForged {
					t.Errorf("got %q, want forged", s.Reason())
				}
			}, "__Host-Http-session="+base64.RawURLEncoding.EncodeToString(b))
			if res.StatusCode != 200 || len(res.Header["Set-Cookie"]) > 0 {
				t.Errorf("got %d with %q, want 200 and no cookie", res.StatusCode, res.Header["Set-Cookie"])
			}
		}
		if len(s.store.counts) > 0 {
			t.Errorf("got the store calls %v, want none", s.store.counts)
		}
	})
}

func TestInventedIDIsNotAdopted(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			b.clone().do((*session).Destroy)
			old := b.cookie()
			res := b.do(func(s *session) { s.Data.N = 2 }) // authentic, but gone
			oneCookie(t, res.Header["Set-Cookie"])
			if b.cookie() == old || len(s.store.live()) != 1 || len(s.store.created) != 2 || s.store.created[0] == s.store.created[1] {
				t.Errorf("got the ids %v, want a fresh one", s.store.created)
			}
		})
	})
}

func TestAnswerDoesNotSayWhyACookieWasRefused(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1; s.SetLifetime(time.Hour) })
			expired := b.cookie()
			time.Sleep(time.Hour)
			b = s.browser()
			b.do(func(s *session) { s.Data.N = 2 })
			gone := b.cookie()
			values := []string{"garbage", forge(gone, 1), expired}
			if m.hasStore() {
				b.do((*session).Destroy)
				values = append(values, gone)
			}
			var first string
			for i, v := range values {
				res := cookieHeader(s, func(s *session) { s.Flashes() }, "__Host-Http-session="+v)
				got := fmt.Sprint(res.StatusCode, res.Header)
				if i == 0 {
					first = got
				}
				if got != first || res.StatusCode != 200 {
					t.Errorf("got %s for cookie %d, want %s as for the first", got, i, first)
				}
			}
		})
	})
}
