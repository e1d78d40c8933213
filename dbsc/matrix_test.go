package dbsc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions/dbsc"
)

// A fetch is a kind of request, by its method and Sec-Fetch headers.
type fetch struct{ method, site, mode, dest string }

// everyFetch yields all kinds, those too that no browser sends.
func everyFetch(yield func(fetch) bool) {
	for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS"} {
		for _, site := range []string{"", "none", "same-origin", "same-site", "cross-site"} {
			for _, mode := range []string{"", "navigate", "cors", "no-cors", "same-origin", "websocket"} {
				for _, dest := range []string{"", "document", "iframe", "frame", "object", "embed", "empty", "image", "script", "style", "font", "worker", "report"} {
					if !yield(fetch{method, site, mode, dest}) {
						return
					}
				}
			}
		}
	}
}

func (f fetch) headers() (lines []string) {
	for _, h := range [][2]string{{"Sec-Fetch-Site", f.site}, {"Sec-Fetch-Mode", f.mode}, {"Sec-Fetch-Dest", f.dest}} {
		if h[1] != "" {
			lines = append(lines, h[0]+": "+h[1])
		}
	}
	return lines
}

// answer returns what the table of docs/DBSC.md says of a stale session.
func (f fetch) answer(path string, skipped bool) string {
	read := f.method == "GET" || f.method == "HEAD"
	page := read && f.mode == "navigate" && slices.Contains([]string{"document", "iframe", "frame"}, f.dest)
	switch {
	case path == "static/x":
		return "handler"
	case f.method == "GET" && f.mode == "navigate" && f.dest == "document" && (f.site == "same-site" || f.site == "cross-site"):
		return "reload"
	case path == "login":
		return "handler"
	case skipped && page:
		return "later, with a page"
	case skipped:
		return "later"
	case page:
		return "page"
	}
	return "refused"
}

// answerIn returns what an answer is.
func answerIn(w *httptest.ResponseRecorder) string {
	h, text := w.Header(), w.Body.String()
	what := "something else"
	switch {
	case w.Code == 200 && strings.Contains(text, "user="):
		return "handler"
	case w.Code == 200 && text == "" && h.Get("Refresh") == "0":
		what = "reload"
	case w.Code == 503 && h.Get("Retry-After") != "" && text != "" && h.Get("Refresh") == "":
		what = "later, with a page"
	case w.Code == 503 && h.Get("Retry-After") != "" && h.Get("Content-Type")+h.Get("Refresh") == "":
		what = "later"
	case w.Code == 403 && text != "" && h.Get("Refresh") == "":
		what = "page"
	case w.Code == 403 && h.Get("Content-Type")+h.Get("Refresh") == "":
		what = "refused"
	}
	if h.Get("Cache-Control") != "no-store" || h.Get("Location") != "" || h.Get("Set-Cookie") != "" {
		what += ", with a header that it must not have"
	}
	return what
}

// TestTheGateForEveryKindOfRequest has a subtest for each kind of session and path,
// with and without Secure-Session-Skipped, and asks with every kind of request.
func TestTheGateForEveryKindOfRequest(t *testing.T) {
	for name, start := range map[string]func(*site) *browser{
		"none":    func(s *site) *browser { return newBrowser(s.t, nil) },
		"offered": func(s *site) *browser { return s.signIn(true) },
		"registered": func(s *site) *browser {
			b := s.signIn(true)
			b.run()
			b.drop("-bound")
			return b
		},
		"bound": (*site).bind,
		"stale": func(s *site) *browser {
			b := s.bind()
			b.drop("-bound")
			return b
		},
	} {
		for _, path := range []string{"page", "login", "static/x"} {
			for _, skipped := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, skipped %v", name, path, skipped), func(t *testing.T) {
					eachMode(t, func(t *testing.T, withStore bool) {
						s := newSite(t, withStore)
						b := start(s)
						s.handler = s.unprotected
						for f := range everyFetch {
							if path == "login" && f.method == "POST" {
								continue // begins another session
							}
							headers, want, user := f.headers(), "handler", "ada"
							if name == "stale" {
								want = f.answer(path, skipped)
							}
							if name == "stale" || name == "none" {
								user = ""
							}
							if skipped && len(b.bindings) > 0 {
								headers = append(headers, `Secure-Session-Skipped: unreachable;session_identifier="`+b.bindings[0].id+`"`)
							}
							w := s.ask(b, f.method, home+path, headers...)
							if got := answerIn(w); got != want {
								t.Errorf("%v: got %q (%d %v), want %q", f, got, w.Code, w.Header(), want)
							}
							if want == "handler" && !strings.Contains(w.Body.String(), "user="+user+" ") {
								t.Errorf("%v: got %q", f, w.Body)
							}
						}
					})
				})
			}
		}
	}
}

// The answers of the two addresses are about one session at one time.
func TestNoCacheKeepsAnAnswerOfTheTwoAddresses(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.signIn(true)
		answers := 0
		b.answer = func(resp *http.Response) {
			if strings.HasPrefix(resp.Request.URL.Path, "/dbsc/") {
				answers++
				if got := resp.Header.Get("Cache-Control"); got != "no-store" {
					t.Errorf("%s %d: got Cache-Control %q", resp.Request.URL.Path, resp.StatusCode, got)
				}
			}
		}
		b.run()
		b.hold = false
		b.get(home)
		pass(11 * time.Minute)
		b.get(home)
		b.visit(visit{method: "POST", url: home + "logout", from: "https://app.test"})
		pass(11 * time.Minute)
		b.get(home)
		if answers != 4 { // registration, challenge, refresh, end
			t.Errorf("%d answers", answers)
		}
		for _, path := range []string{"dbsc/register", "dbsc/refresh"} {
			for _, method := range []string{"GET", "POST"} {
				if got := s.ask(b, method, home+path, "Secure-Session-Response: x").Header().Get("Cache-Control"); got != "no-store" {
					t.Errorf("%s %s: got Cache-Control %q", method, path, got)
				}
			}
		}
	})
}

func TestABrowserDoesNotRefreshForWhatIsExcluded(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		pass(11 * time.Minute)
		for _, path := range []string{"static", "static/", "static/a.css", "static/deep/b.js"} {
			expect(t, b.visit(visit{url: home + path, dest: "style", from: "https://app.test"}), 200, "GET user= state=none reason=stale body=")
		}
		expectEvents(t, "browser", b.took())
		expect(t, b.visit(visit{url: home + "statics", dest: "style", from: "https://app.test"}), 200, boundText)
		expectEvents(t, "browser", b.took(), "refreshed")
	})
}

func TestNoRequestToTheTwoAddressesIsAUse(t *testing.T) {
	for _, session := range []string{"offered", "bound"} {
		t.Run(session, func(t *testing.T) {
			eachMode(t, func(t *testing.T, withStore bool) {
				s := newSite(t, withStore, func(c *config, _ *dbsc.Options) { c.IdleTimeout = time.Hour })
				b := s.signIn(true)
				if session == "bound" {
					b = s.bind()
				}
				key := newKey(t)
				if session == "bound" {
					key = b.bindings[0].key
				}
				late := dbsc.Sign(key, session == "offered", "a challenge of nobody", "")
				pass(20 * time.Minute)
				if withStore {
					s.store.touch, s.store.writes = 0, 0
				}
				for _, path := range []string{"dbsc/register", "dbsc/refresh"} {
					for _, headers := range [][]string{
						nil,
						{"Secure-Session-Response: x"},
						{"Sec-Secure-Session-Id: former"},
						{"Sec-Fetch-Mode: cors"},
						{"Secure-Session-Response: " + late},
					} {
						for _, method := range []string{"POST", "GET"} {
							if w := s.ask(b, method, home+path, headers...); w.Header().Get("Set-Cookie") != "" {
								t.Errorf("%s %s %.40v: got %d %v", method, path, headers, w.Code, w.Header())
							}
						}
					}
				}
				if withStore && s.store.touch+s.store.writes > 0 {
					t.Errorf("%d touches and %d writes", s.store.touch, s.store.writes)
				}
			})
		})
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
