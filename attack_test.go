package sessions_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// Attacks from the network that no other file has: docs/SECURITY-MODEL.md lists
// them all, with the tests that hold each line.

// Fixation: the attacker's own anonymous session, planted in the victim's
// browser before the victim signs in.
func TestPlantedCookieOfTheAttackersOwnSessionGainsNothing(t *testing.T) {
	protocols(t, func(t *testing.T, http2 bool) {
		eachMode(t, func(t *testing.T, m mode) {
			for name, signIn := range map[string]func(*session){
				"RegenerateID first": func(s *session) { s.RegenerateID(); s.Data.UserID = 42 },
				"RegenerateID last":  func(s *session) { s.Data.UserID = 42; s.RegenerateID() },
				"Reset":              func(s *session) { s.Reset(); s.Data.UserID = 42 },
			} {
				t.Run(name, func(t *testing.T) {
					s := newSite(t, m, nil)
					attacker := s.online(http2)
					attacker.do(func(s *session) { s.Data.Name = "bait" })
					planted := attacker.cookie()
					victim := attacker.clone()
					victim.do(signIn)
					if victim.cookie() == planted {
						t.Error("got the planted cookie after the login, want another")
					}
					data, reason := attacker.peek()
					if data.UserID != 0 {
						t.Errorf("the attacker got user %d", data.UserID)
					}
					dead := sessions.ReasonReplaced
					if name == "Reset" {
						dead = sessions.ReasonUnknown
					}
					if m.hasStore() && reason != dead {
						t.Errorf("got %q for the planted cookie, want %q: its id is dead", reason, dead)
					}
					if m.hasStore() && len(s.store.live()) != 1 {
						t.Errorf("got %d records, want the victim's alone", len(s.store.live()))
					}
					attacker.do(func(s *session) { s.Data.Role = "admin" }) // into whatever he has
					if data, _ := victim.peek(); data.UserID != 42 || data.Role != "" {
						t.Errorf("got user %d with role %q for the victim, want 42 and no role", data.UserID, data.Role)
					}
				})
			}
		})
	})
}

// Tossing: a sibling domain plants cookies of our name, which it can where the
// name has no __Host- prefix. Up to 15 of them, any number of copies, and any
// number behind the victim's, change nothing for a victim who signed in later.
// Sixteen different ones in front hide the victim's: he is then the visitor of the
// attacker's session, never somebody with a part of both.
func TestTossedCookiesNeverMixTwoSessions(t *testing.T) {
	mallory, ada := AppSession{UserID: 666, Name: "mallory", Role: "user"}, AppSession{UserID: 42, N: 7}
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, func(c *config) { c.Cookie.Domain = "example.com" })
			var tossed []string
			for range 16 {
				attacker := s.browser()
				attacker.do(func(s *session) { s.Data = mallory })
				tossed = append(tossed, "__Secure-session="+attacker.cookie())
			}
			victim := s.browser()
			time.Sleep(time.Second) // what is used, or created, last counts
			victim.do(func(s *session) { s.Data = ada })
			own := "__Secure-session=" + victim.cookie()
			toss := func(n, kinds int) (cookies []string) {
				for i := range n {
					cookies = append(cookies, tossed[i%kinds])
				}
				return cookies
			}
			for _, tt := range []struct {
				before, after, kinds int
				want                 AppSession
			}{
				{1, 0, 1, ada}, {0, 1, 1, ada}, {1, 1, 1, ada}, {15, 0, 15, ada}, {15, 100, 15, ada}, {0, 100, 16, ada},
				{16, 0, 1, ada}, {100, 0, 1, ada}, {100, 100, 15, ada},
				{16, 0, 16, mallory}, {100, 0, 16, mallory}, {100, 100, 16, mallory},
			} {
				line := slices.Concat(toss(tt.before, tt.kinds), []string{own}, toss(tt.after, tt.kinds))
				for _, lines := range [][]string{{strings.Join(line, "; ")}, line} {
					cookieHeader(s, func(s *session) {
						if got := s.Data; fmt.Sprint(got) != fmt.Sprint(tt.want) {
							t.Errorf("%d in front, %d behind, of %d kinds: got %+v, want %+v", tt.before, tt.after, tt.kinds, got, tt.want)
						}
					}, lines...)
				}
			}
		})
	})
}

// Downgrade: a value that is authentic under the keys of the very Manager, but
// of another format than the one it is configured for.
func TestOnlyTheConfiguredFormatOpensHoweverWellItIsSigned(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		format := byte(1)
		switch {
		case m.hasStore():
			format = 3
		case m.encrypt:
			format = 2
		}
		for f := range 256 {
			for _, mode := range []string{"cookie", "store"} {
				if byte(f) == format {
					continue
				}
				for _, layout := range []byte{1, 2, 3} {
					w := fuzzWire(layout, func(w *wire) { w.mode = mode })
					k := wireKeyOf(w.secret, w.mode, w.cookie)
					token := w.relabelled(byte(f), k)
					cookieRefused(t, s, sessions.ReasonForged, "__Host-Http-session="+canonicalValue(token))
				}
			}
		}
	})
}

// Replay: what a copy of an old cookie is worth after the session was ended, in
// each way and each mode.
func TestReplayedCookieIsWorthNothingWithAStoreAndEndsOnTimeWithout(t *testing.T) {
	for name, end := range map[string]func(s *site, b *browser, keys *sessions.Keyring){
		"Destroy":      func(_ *site, b *browser, _ *sessions.Keyring) { b.do((*session).Destroy) },
		"Reset":        func(_ *site, b *browser, _ *sessions.Keyring) { b.do((*session).Reset) },
		"RegenerateID": func(_ *site, b *browser, _ *sessions.Keyring) { b.do((*session).RegenerateID) },
		"re-issue": func(_ *site, b *browser, k *sessions.Keyring) {
			_ = k.Replace(ringSecrets(2, 1)...)
			b.do(func(*session) {})
		},
		"a dropped key": func(_ *site, _ *browser, k *sessions.Keyring) { _ = k.Replace(ringSecret(2)) },
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					keys := newKeys(t, ringSecret(1))
					s := newSite(t, m, func(c *config) { c.Keys, c.Lifetime = keys, time.Hour })
					b := s.browser()
					b.do(func(s *session) { s.Data.UserID = 42 })
					thief := b.clone()
					end(s, b, keys)
					data, reason := thief.peek()
					switch {
					case name == "a dropped key":
						if data.UserID != 0 || reason != sessions.ReasonForged {
							t.Errorf("got user %d (%q), want nobody: the key is gone", data.UserID, reason)
						}
						return
					case m.hasStore() && name != "re-issue":
						dead := sessions.ReasonUnknown
						if name == "RegenerateID" {
							dead = sessions.ReasonReplaced
						}
						if data.UserID != 0 || reason != dead {
							t.Errorf("got user %d (%q), want nobody (%q)", data.UserID, reason, dead)
						}
						return
					case data.UserID != 42:
						t.Errorf("got user %d (%q), want 42: a cookie cannot be recalled", data.UserID, reason)
					}
					time.Sleep(time.Hour - time.Nanosecond)
					if data, reason := thief.peek(); data.UserID != 42 {
						t.Errorf("got user %d (%q) just before the end, want 42", data.UserID, reason)
					}
					time.Sleep(time.Nanosecond)
					if data, reason := thief.peek(); data.UserID != 0 {
						t.Errorf("got user %d (%q) at the end, want nobody", data.UserID, reason)
					}
				})
			})
		})
	}
}

// Header injection: whatever bytes the session holds, the response has one
// Set-Cookie line of base64 and no header more.
func TestValuesInjectNoHeader(t *testing.T) {
	hostile := []string{
		"\r\nX-Injected: 1", "\nX-Injected: 1", "\rX-Injected: 1", "\r\n\r\n<script>", "; Domain=evil.example", ", x-injected=1; Path=/",
		"\u010d\u010aX-Injected: 1", "%0d%0aX-Injected: 1", "\x00", "\xff\xfe", "\"; Max-Age=0",
	}
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		for _, v := range hostile {
			c := dialSite(t, s)
			path := s.route(func(w http.ResponseWriter, r *http.Request) {
				sess := sessions.Get[AppSession](r.Context())
				sess.Data = AppSession{Name: v, Tags: []string{v}, Extra: map[string]string{v: v}, Cart: map[string]int{v: 1}}
				sess.Flash(v, v)
			})
			c.say("GET %s HTTP/1.0\r\n\r\n", path)
			raw, err := io.ReadAll(c.Reader)
			if err != nil {
				t.Fatal(err)
			}
			head, body, _ := strings.Cut(string(raw), "\r\n\r\n")
			names := map[string]int{}
			lines := strings.Split(head, "\r\n")
			for _, line := range lines[1:] {
				name, _, _ := strings.Cut(line, ":")
				names[name]++
			}
			if body != "" || len(names) != 5 || names["Set-Cookie"] != 1 || names["Vary"] != 1 || names["Cache-Control"] != 1 {
				t.Errorf("%q: got the headers %q and the body %q, want Set-Cookie, Vary, Cache-Control, Date and Content-Length once", v, head, body)
			}
			if !regexp.MustCompile(`(?m)^Set-Cookie: __Host-Http-session=[A-Za-z0-9_-]+; Path=/; Max-Age=\d+; HttpOnly; Secure; SameSite=Lax\r?$`).MatchString(head) {
				t.Errorf("%q: got %q, want the usual Set-Cookie", v, head)
			}
		}
	})
}

// Log injection: a visitor chooses the path, the cookies and much of what the
// session holds; a record of the log stays one line.
func TestOneLogRecordIsOneLine(t *testing.T) {
	const forgery = "x\r\ntime=2000 level=ERROR msg=forged\u2028\x1b[2J\x00\""
	eachMode(t, func(t *testing.T, m mode) {
		for name, handler := range map[string]func(io.Writer) slog.Handler{
			"text": func(w io.Writer) slog.Handler {
				return slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
			},
			"JSON": func(w io.Writer) slog.Handler {
				return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
			},
		} {
			t.Run(name, func(t *testing.T) {
				var log bytes.Buffer
				var mu sync.Mutex
				records := 0
				w := writerFunc(func(p []byte) (int, error) {
					mu.Lock()
					defer mu.Unlock()
					records++
					return log.Write(p)
				})
				s := newSite(t, m, func(c *config) { c.Logger = slog.New(handler(w)) })
				c := dialSite(t, s)
				s.mu.Lock()
				s.runs["/"+forgery] = func(w http.ResponseWriter, r *http.Request) {
					sess := sessions.Get[AppSession](r.Context())
					sess.Data.Extra = map[string]string{forgery: forgery}
					sess.Data.Role = forgery // breaks its rule
					sess.Flash(forgery, forgery)
				}
				s.mu.Unlock()
				c.say("GET /x%%0d%%0atime=2000%%20level=ERROR%%20msg=forged%%E2%%80%%A8%%1b%%5b2J%%00%%22 HTTP/1.0\r\nCookie: __Host-Http-session=level\xff; __Host-Http-session=\"x\"\r\n\r\n")
				if raw, _ := io.ReadAll(c.Reader); !bytes.HasPrefix(raw, []byte("HTTP/1.0 500")) {
					t.Errorf("got %q, want the path understood and the session refused", raw)
				}
				b := s.browser()
				b.do(func(s *session) { s.Data.N = 1 })
				if s.store != nil { // an error of the store that repeats what it was sent
					s.store.hook(func(op string, _ sessions.ID) error { return fmt.Errorf("%s: %s", op, forgery) }, nil)
					b.do(func(s *session) { s.Data.N = 2 })
					s.store.hook(nil, nil)
				}
				b.do(func(s *session) { s.Data.Name = strings.Repeat(forgery, 200) })
				text := log.String()
				if got := strings.Count(text, "\n"); got != records || records < 2 || strings.ContainsAny(text, "\r\x1b\x00") || strings.Contains(text, "\u2028") {
					t.Errorf("got %d lines of %d records:\n%q", got, records, text)
				}
			})
		}
	})
}

// A sharedCache keeps answers as RFC 9111 allows a shared cache to, and more
// eagerly than most: for ever, and without asking for a method or a status.
type sharedCache struct {
	next http.Handler
	kept map[string]*http.Response
	body map[string]string
}

func (c *sharedCache) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.URL.Path
	if res, ok := c.kept[key]; ok {
		same := true
		for _, name := range res.Header["Vary"] {
			same = same && name != "*" && res.Request.Header.Get(name) == r.Header.Get(name)
		}
		if same {
			for name, lines := range res.Header {
				w.Header()[name] = lines
			}
			_, _ = io.WriteString(w, c.body[key])
			return
		}
	}
	tee := &teeWriter{ResponseWriter: w}
	c.next.ServeHTTP(tee, r)
	control := strings.ToLower(strings.Join(w.Header()["Cache-Control"], ", "))
	if !strings.Contains(control, "private") && !strings.Contains(control, "no-store") {
		c.kept[key] = &http.Response{Header: w.Header().Clone(), Request: r}
		c.body[key] = tee.body.String()
	}
}

type teeWriter struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (w *teeWriter) Write(b []byte) (int, error) { w.body.Write(b); return w.ResponseWriter.Write(b) }

// A cached Set-Cookie would sign the next visitor in as the first one.
func TestASharedCacheHandsNobodyAnothersSession(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, control := range []string{"", "public, max-age=3600", "s-maxage=3600", "max-age=3600", "public", "must-revalidate", `private="X-A", public`} {
			t.Run(control, func(t *testing.T) {
				s := newSite(t, m, nil)
				s.handler = &sharedCache{next: s.handler, kept: map[string]*http.Response{}, body: map[string]string{}}
				first := s.online(false)
				other := first.clone()
				page := func(w http.ResponseWriter, r *http.Request) {
					if control != "" {
						w.Header().Set("Cache-Control", control)
					}
					sess := sessions.Get[AppSession](r.Context())
					if sess.IsNew() {
						sess.Data.Name = r.Header.Get("X-Name")
					}
					_, _ = io.WriteString(w, sess.Data.Name)
				}
				at := s.route(page)
				visit := func(b *browser, name string) *reply {
					return b.send(page, func(r *http.Request) { r.URL.Path = at; r.Header.Set("X-Name", name) })
				}
				visit(first, "ada")
				if res := visit(other, "bob"); res.body != "bob" || other.cookie() == first.cookie() {
					t.Errorf("got the page of %q and, of both, the cookie %t, want bob's own", res.body, other.cookie() == first.cookie())
				}
				if res := visit(first, "eve"); res.body != "ada" {
					t.Errorf("got the page of %q, want ada's", res.body)
				}
			})
		}
	})
}

// The security model is worth what its tests are.
func TestEveryPromiseOfTheSecurityModelNamesItsTest(t *testing.T) {
	model, err := os.ReadFile(filepath.Join("docs", "SECURITY-MODEL.md"))
	if err != nil {
		t.Fatal(err)
	}
	// That they exist, TestDocumentsNameTestsAndFilesThatExist holds for all documents.
	named := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(string(model), -1)
	if len(named) < 80 {
		t.Errorf("got %d names of tests in docs/SECURITY-MODEL.md, want many", len(named))
	}
	// And each line of a table that promises something names one.
	for i, line := range strings.Split(string(model), "\n") {
		if strings.HasPrefix(line, "| ") && strings.HasSuffix(line, " |") && strings.Contains(line, "| held by") {
			columns := strings.Count(line, "|")
			for _, row := range strings.Split(string(model), "\n")[i+2:] {
				if !strings.HasPrefix(row, "|") {
					break
				}
				cells := strings.Split(strings.Trim(row, "| "), " | ")
				if last := cells[len(cells)-1]; strings.Count(row, "|") == columns && !regexp.MustCompile(`(Test|Fuzz)[A-Z]`).MatchString(last) {
					t.Errorf("docs/SECURITY-MODEL.md: no test holds %q", row)
				}
			}
		}
	}
}

// relabelled is the token of w with another first byte, authentic all the same.
func (w *wire) relabelled(format byte, k wireKey) []byte {
	switch w.format {
	case 1, 3:
		token := w.bytes()
		token = token[:len(token)-32]
		token[0] = format
		return appendHMAC(token, k.mac)
	default:
		prefix := append([]byte{format}, k.id...)
		n := []byte("twelve bytes")
		return xaes(k.seal, n).Seal(slices.Concat(prefix, n), nil, w.body(), prefix)
	}
}

func canonicalValue(token []byte) string { return base64.RawURLEncoding.EncodeToString(token) }

func appendHMAC(b, key []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(b)
	return mac.Sum(b)
}

// Tossing with cookies that were once good, or another site's: those of keys that
// are not in the ring do not count among the 16 that are tried.
func TestCookiesOfUnknownKeysHideNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s, other := newSite(t, m, nil), newSite(t, m, func(c *config) { c.Keys = newKeys(t, ringSecret(1)) })
		b := s.browser()
		b.do(func(s *session) { s.Data.UserID = 42 })
		var lines []string
		for n := range 20 {
			stranger := other.browser()
			stranger.do(func(s *session) { s.Data.N = n + 1 })
			lines = append(lines, "__Host-Http-session="+stranger.cookie())
		}
		cookieHeader(s, func(s *session) {
			if s.Data.UserID != 42 {
				t.Errorf("got user %d (%q) behind %d cookies of an unknown key, want 42", s.Data.UserID, s.Reason(), len(lines))
			}
		}, append(lines, "__Host-Http-session="+b.cookie())...)
	})
}

// Fixation by a cookie of another library: the id of an adopted session is drawn
// as any other, so that who knows the foreign cookie, or has planted his own, does
// not know the id, and cannot adopt his way into the same session.
func TestAdoptedSessionHasAnIDThatTheForeignCookieDoesNotGive(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		calls := 0
		s := importing(t, m, &calls, fromLegacy)
		adopt := func() (b *browser, id string) {
			b = s.browser()
			b.cookies["legacy"] = "ada"
			b.do(func(s *session) { id = s.ID() })
			return b, id
		}
		victim, first := adopt()
		attacker, second := adopt()
		if first == second || victim.cookie() == attacker.cookie() {
			t.Error("got one session of two adoptions, want two")
		}
		victim.do(func(s *session) { s.Data.Role = "admin" })
		if data, _ := attacker.peek(); data.UserID != 42 || data.Role != "" {
			t.Errorf("got %+v in the other session, want nothing of the first", data)
		}
	})
}

// A store that is written to by somebody else: Record.Owner is not sealed, so
// he can name himself there, and would read in his own list what he cannot open.
func TestASealedSessionIsListedForItsOwnOwnerAlone(t *testing.T) {
	store := new(sessions.MemoryStore)
	s := newSite(t, mode{encrypt: true}, func(c *config) {
		c.Store = store
		c.Owner = func(d *AppSession) string { return d.Name }
	})
	b := s.browser()
	var id sessions.ID
	b.do(func(s *session) { s.Data = AppSession{Name: "ada", Extra: map[string]string{"from": "Paris"}} })
	for at := range store.Owned(t.Context(), "ada") {
		id = at
	}
	rec, err := store.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	rec.Owner = "mallory"
	if _, err := store.Update(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	for info, err := range s.mgr.Sessions(t.Context(), "mallory") {
		t.Errorf("got %+v and %v in mallory's list, want nothing", info.Data, err)
	}
}
