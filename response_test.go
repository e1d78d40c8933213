package sessions_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

var errDown = errors.New("the store is down")

// fails makes a hook that fails the named operations.
func fails(ops ...string) func(string, sessions.ID) error {
	return func(op string, _ sessions.ID) error {
		if slices.Contains(ops, op) {
			return errDown
		}
		return nil
	}
}

// protocols runs f with real servers of HTTP/1.1 and of HTTP/2.
func protocols(t *testing.T, f func(t *testing.T, http2 bool)) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP2=%t", http2), func(t *testing.T) { f(t, http2) })
	}
}

// A rawConn talks to a plain server of the site by hand.
type rawConn struct {
	t testing.TB
	net.Conn
	*bufio.Reader
}

func dialSite(t testing.TB, s *site) *rawConn {
	t.Helper()
	srv := httptest.NewUnstartedServer(s.handler)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.Start()
	t.Cleanup(srv.Close)
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &rawConn{t, conn, bufio.NewReader(conn)}
}

func (c *rawConn) say(format string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.Conn, format, args...); err != nil {
		c.t.Fatal(err)
	}
}

// head reads a status line and the header behind it.
func (c *rawConn) head() (status string, h http.Header) {
	c.t.Helper()
	r := textproto.NewReader(c.Reader)
	status, err := r.ReadLine()
	if err != nil {
		c.t.Fatalf("read a status line: %v", err)
	}
	m, err := r.ReadMIMEHeader()
	if err != nil {
		c.t.Fatalf("read a header: %v", err)
	}
	return status, http.Header(m)
}

// oneCookie reports whether exactly one Set-Cookie of the session is there.
func oneCookie(t testing.TB, lines []string) {
	t.Helper()
	n := 0
	for _, line := range lines {
		if strings.HasPrefix(line, "__Host-Http-session=") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("got %d cookies of the session in %q, want 1", n, lines)
	}
}

// logged returns a Logger of everything, and the text so far.
func logged() (*slog.Logger, func() string) {
	var mu sync.Mutex
	var b bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return b.Write(p)
	})
	text := func() string {
		mu.Lock()
		defer mu.Unlock()
		return b.String()
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})), text
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func edit(r *http.Request, n int) { sessions.Get[AppSession](r.Context()).Data.N = n }

func TestSessionIsStoredBeforeTheFirstByteLeaves(t *testing.T) {
	for _, way := range []struct {
		name   string
		leave  func(t *testing.T, w http.ResponseWriter, r *http.Request)
		status int
		body   string
	}{
		{"by WriteHeader", func(_ *testing.T, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }, 201, ""},
		{"by Write", func(_ *testing.T, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("body")) }, 200, "body"},
		{"by an empty Write", func(_ *testing.T, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(nil) }, 200, ""},
		{"by WriteString", func(_ *testing.T, w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "body") }, 200, "body"},
		{"by io.Copy", func(t *testing.T, w http.ResponseWriter, r *http.Request) {
			if _, ok := w.(io.ReaderFrom); ok != (r.ProtoMajor == 1) {
				t.Errorf("got ReaderFrom %t over HTTP/%d, want what net/http has", ok, r.ProtoMajor)
			}
			_, _ = io.Copy(w, struct{ io.Reader }{strings.NewReader("body")})
		}, 200, "body"},
		{"by Flush", func(_ *testing.T, w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() }, 200, ""},
		{"by FlushError", func(_ *testing.T, w http.ResponseWriter, _ *http.Request) {
			_ = w.(interface{ FlushError() error }).FlushError()
		}, 200, ""},
		{"by Flush of a ResponseController", func(t *testing.T, w http.ResponseWriter, _ *http.Request) {
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		}, 200, ""},
		{"by Redirect", func(_ *testing.T, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/", http.StatusSeeOther)
		}, http.StatusSeeOther, "<a href=\"/\">See Other</a>.\n\n"},
		{"by ServeContent", func(_ *testing.T, w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader("body"))
		}, 200, "body"},
	} {
		t.Run(way.name, func(t *testing.T) {
			protocols(t, func(t *testing.T, http2 bool) {
				eachMode(t, func(t *testing.T, m mode) {
					s := newSite(t, m, nil)
					b := s.online(http2)
					res := b.serve(func(w http.ResponseWriter, r *http.Request) {
						edit(r, 7)
						way.leave(t, w, r)
						oneCookie(t, w.Header()["Set-Cookie"])
						if s.store != nil && len(s.store.live()) != 1 {
							t.Errorf("got %d records when the header had left, want 1", len(s.store.live()))
						}
					})
					if res.StatusCode != way.status || res.body != way.body {
						t.Errorf("got %d %q, want %d %q", res.StatusCode, res.body, way.status, way.body)
					}
					oneCookie(t, res.Header["Set-Cookie"])
					if data, reason := b.peek(); data.N != 7 {
						t.Errorf("got N=%d (%s) in the next request, want 7", data.N, reason)
					}
				})
			})
		})
	}
}

func TestHandlerThatWritesNothingIsStored(t *testing.T) {
	protocols(t, func(t *testing.T, http2 bool) {
		eachMode(t, func(t *testing.T, m mode) {
			b := newSite(t, m, nil).online(http2)
			res := b.do(func(s *session) { s.Data.N = 7 })
			oneCookie(t, res.Header["Set-Cookie"])
			if data, _ := b.peek(); res.StatusCode != 200 || data.N != 7 {
				t.Errorf("got status %d and N=%d, want 200 and 7", res.StatusCode, data.N)
			}
		})
	})
}

func TestManyWritesAreOneCommit(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.online(false)
		res := b.serve(func(w http.ResponseWriter, r *http.Request) {
			edit(r, 7)
			w.WriteHeader(201)
			w.WriteHeader(202)
			for range 100 {
				_, _ = io.WriteString(w, "x")
				w.(http.Flusher).Flush()
			}
		})
		oneCookie(t, res.Header["Set-Cookie"])
		if res.StatusCode != 201 || len(res.body) != 100 {
			t.Errorf("got %d and %d bytes, want 201 and 100", res.StatusCode, len(res.body))
		}
		if s.store != nil && (s.store.count("Create") != 1 || s.store.count("Update") != 0) {
			t.Errorf("got %d Create and %d Update, want one write", s.store.count("Create"), s.store.count("Update"))
		}
	})
}

func TestInformationalResponsesCarryNoCookieAndDoNotCommit(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after func(s *session)
		stored        int // records, once the 1xx have left
	}{
		{"when the edit comes before", func(s *session) { s.Data.N = 7 }, func(*session) {}, 0},
		{"when the edit comes after", func(*session) {}, func(s *session) { s.Data.N = 7 }, 0},
		{"when Save has placed the cookie before", func(s *session) {
			s.Data.N = 7
			_ = s.Save(context.Background())
		}, func(*session) {}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			protocols(t, func(t *testing.T, http2 bool) {
				eachMode(t, func(t *testing.T, m mode) {
					s := newSite(t, m, nil)
					b := s.online(http2)
					var infos []int
					res := b.send(func(w http.ResponseWriter, r *http.Request) {
						sess := sessions.Get[AppSession](r.Context())
						w.Header().Set("Link", "</style.css>; rel=preload")
						tt.before(sess)
						for _, code := range []int{100, 102, 103, 199} {
							w.WriteHeader(code)
						}
						if s.store != nil && len(s.store.live()) != tt.stored {
							t.Errorf("got %d records after the 1xx, want %d", len(s.store.live()), tt.stored)
						}
						tt.after(sess)
						w.WriteHeader(200)
					}, func(r *http.Request) {
						trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
							infos = append(infos, code)
							if len(h["Set-Cookie"]) > 0 {
								t.Errorf("got a %d with %q, want no cookie", code, h["Set-Cookie"])
							}
							if code == 103 && len(h["Link"]) != 1 {
								t.Errorf("got a 103 with %v, want the handler's Link", h)
							}
							return nil
						}}
						*r = *r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
					})
					if !slices.Contains(infos, 103) || !slices.Contains(infos, 102) {
						t.Errorf("got the 1xx %v, want 102 and 103 among them", infos)
					}
					oneCookie(t, res.Header["Set-Cookie"])
					if data, _ := b.peek(); data.N != 7 {
						t.Errorf("got N=%d, want 7", data.N)
					}
				})
			})
		})
	}
}

func TestEarlyHintsCarryNoExpiredImportCookie(t *testing.T) {
	s := newSite(t, modes[3], func(c *config) {
		c.Import = func(r *http.Request) (AppSession, bool) { return AppSession{N: 7}, true }
		c.ImportCookies = []http.Cookie{{Name: "legacy", Path: "/"}}
	})
	c := dialSite(t, s)
	path := s.route(func(w http.ResponseWriter, r *http.Request) {
		if err := sessions.Get[AppSession](r.Context()).Save(r.Context()); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusEarlyHints)
	})
	c.say("GET %s HTTP/1.1\r\nHost: x\r\nCookie: legacy=1\r\n\r\n", path)
	if status, h := c.head(); !strings.Contains(status, "103") || len(h["Set-Cookie"]) > 0 {
		t.Errorf("got %s with %q, want a 103 without cookies", status, h["Set-Cookie"])
	}
	status, h := c.head()
	oneCookie(t, h["Set-Cookie"])
	if !strings.Contains(status, "200") || len(h["Set-Cookie"]) != 2 {
		t.Errorf("got %s with %q, want a 200 with our cookie and the expired one", status, h["Set-Cookie"])
	}
}

func TestSwitchingProtocolsByHandCommits(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		c := dialSite(t, s)
		path := s.route(func(w http.ResponseWriter, r *http.Request) {
			edit(r, 7)
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "echo")
			w.WriteHeader(http.StatusSwitchingProtocols)
			if s.store != nil && len(s.store.live()) != 1 {
				t.Errorf("got %d records when the 101 had left, want 1", len(s.store.live()))
			}
		})
		c.say("GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", path)
		status, h := c.head()
		if !strings.Contains(status, "101") {
			t.Errorf("got %q, want a 101", status)
		}
		oneCookie(t, h["Set-Cookie"])
	})
}

func TestHijackCommits(t *testing.T) {
	for _, way := range []struct {
		name   string
		hijack func(http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error)
	}{
		{"by assertion", func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) { return w.(http.Hijacker).Hijack() }},
		{"by ResponseController", func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
			return http.NewResponseController(w).Hijack()
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				outside := make(chan error, 1)
				next := s.handler
				s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					next.ServeHTTP(w, r)
					_, err := w.Write([]byte("x"))
					outside <- err
				})
				c := dialSite(t, s)
				path := s.route(func(w http.ResponseWriter, r *http.Request) {
					edit(r, 7)
					conn, brw, err := way.hijack(w)
					if err != nil {
						t.Error(err)
						return
					}
					defer func() { _ = conn.Close() }()
					if s.store != nil && len(s.store.live()) != 1 {
						t.Errorf("got %d records when Hijack returned, want 1", len(s.store.live()))
					}
					_, _ = io.WriteString(brw, "HTTP/1.1 101 Switching Protocols\r\n")
					_ = w.Header().Write(brw)
					_, _ = io.WriteString(brw, "\r\nhello")
					_ = brw.Flush()
				})
				c.say("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
				_, h := c.head()
				oneCookie(t, h["Set-Cookie"])
				rest, _ := io.ReadAll(c.Reader)
				if string(rest) != "hello" {
					t.Errorf("got %q behind the handshake, want only what the handler wrote", rest)
				}
				if err := <-outside; !errors.Is(err, http.ErrHijacked) {
					t.Errorf("got %v from a write outside, want ErrHijacked", err)
				}
				if n := len(s.events.of(sessions.EventLate)); n != 1 {
					t.Errorf("got %d events, want one that the cookie is left to the handshake", n)
				}
			})
		})
	}
}

func TestHijackOfAnUnchangedSessionIsNoEvent(t *testing.T) {
	s := newSite(t, modes[3], nil)
	c := dialSite(t, s)
	path := s.route(func(w http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Flashes()
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close()
	})
	c.say("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	if rest, _ := io.ReadAll(c.Reader); len(rest) > 0 || len(s.events.all) > 0 || len(s.store.live()) > 0 {
		t.Errorf("got %q, events %v and %d records, want nothing", rest, s.events.all, len(s.store.live()))
	}
}

func TestHijackByAHandlerThatOnlyReadIsNoEvent(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			keys := newKeys(t, ringSecret(1))
			s := newSite(t, m, func(c *config) { c.IdleTimeout, c.Keys = time.Hour, keys })
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			if err := keys.Replace(ringSecret(2), ringSecret(1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Minute) // a use is to be noted
			r := httptest.NewRequest("GET", s.route(func(w http.ResponseWriter, r *http.Request) {
				_ = sessions.Get[AppSession](r.Context()).Data.N
				_, _, _ = http.NewResponseController(w).Hijack()
				// Who answers by hand may send it: the use is written down in it.
				if lines := w.Header()["Set-Cookie"]; len(lines) != map[bool]int{false: 1}[m.hasStore()] {
					t.Errorf("got %q in the header, want the renewed session without a store", lines)
				}
			}), nil)
			r.AddCookie(&http.Cookie{Name: "__Host-Http-session", Value: b.cookie()})
			s.handler.ServeHTTP(hijackable{httptest.NewRecorder()}, r)
			if late := s.events.of(sessions.EventLate); len(late) > 0 {
				t.Errorf("got the events %v, want none: nothing is lost", late)
			}
			time.Sleep(20 * time.Minute)
			if lines := b.do(func(*session) {}).setCookies(); len(lines) != 1 {
				t.Errorf("got %q from the next request, want the cookie of the newest key", lines)
			}
		})
	})
}

type hijackable struct{ *httptest.ResponseRecorder }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, nil }

func TestInvalidStatusStoresNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, code := range []int{-1, 0, 99, 1000} {
			s := newSite(t, m, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			v := panicOf(func() {
				b.serve(func(w http.ResponseWriter, r *http.Request) {
					sess := sessions.Get[AppSession](r.Context())
					sess.RegenerateID()
					sess.Data.N = 2
					w.WriteHeader(code)
				})
			})
			if d, reason := b.peek(); v == nil || d.N != 1 {
				t.Errorf("%d: got %v, then N=%d (%q), want a panic that stores nothing", code, v, d.N, reason)
			}
		}
	})
}

func TestRegenerateIDIsNotCarriedOutByHijack(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.online(false)
		b.do(func(s *session) { s.Data.N = 1 })
		done := make(chan struct{})
		next := s.handler
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(done)
			next.ServeHTTP(w, r)
		})
		c := dialSite(t, s)
		path := s.route(func(w http.ResponseWriter, r *http.Request) {
			sess := sessions.Get[AppSession](r.Context())
			sess.RegenerateID()
			sess.Data.N = 2
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			if lines := w.Header()["Set-Cookie"]; len(lines) > 0 {
				t.Errorf("got %q in the header, want no cookie with a new id", lines)
			}
			_ = conn.Close()
		})
		c.say("GET %s HTTP/1.1\r\nHost: x\r\nCookie: __Host-Http-session=%s\r\n\r\n", path, b.cookie())
		<-done
		if data, reason := b.peek(); reason != sessions.ReasonNone || data.N != 1 {
			t.Errorf("got N=%d (%s) under the old id, want what was there", data.N, reason)
		}
		if n := len(s.events.of(sessions.EventLate)); n != 1 {
			t.Errorf("got %d late events, want 1", n)
		}
		if s.store != nil && len(s.store.live()) != 1 {
			t.Errorf("got %d records, want 1", len(s.store.live()))
		}
	})
}

func TestEditAfterHijackIsStoredOrReported(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.online(false)
		b.do(func(s *session) { s.Data.N = 1 })
		s.events.reset()
		done := make(chan struct{})
		next := s.handler
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(done)
			next.ServeHTTP(w, r)
		})
		c := dialSite(t, s)
		path := s.route(func(w http.ResponseWriter, r *http.Request) {
			sess := sessions.Get[AppSession](r.Context())
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			sess.Data.N = 2
			_ = conn.Close()
		})
		c.say("GET %s HTTP/1.1\r\nHost: x\r\nCookie: __Host-Http-session=%s\r\n\r\n", path, b.cookie())
		<-done
		s.handler = next
		data, _ := b.clone().peek()
		late := len(s.events.of(sessions.EventLate))
		if m.hasStore() && (data.N != 2 || late != 0) || !m.hasStore() && (data.N != 1 || late != 1) {
			t.Errorf("got N=%d and %d late events, want it stored by a store, else reported once", data.N, late)
		}
	})
}

func TestOtherCookiesKeepTheirOrder(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, tt := range []struct {
			name   string
			handle func(w http.ResponseWriter, s *session)
			want   []string // before ours
		}{
			{"two that were added", func(w http.ResponseWriter, s *session) {
				w.Header().Add("Set-Cookie", "a=1")
				w.Header().Add("Set-Cookie", "b=2")
			}, []string{"a=1", "b=2"}},
			{"those of a replaced header", func(w http.ResponseWriter, s *session) {
				w.Header().Add("Set-Cookie", "a=1")
				w.Header()["Set-Cookie"] = []string{"c=3", "a=4"}
			}, []string{"c=3", "a=4"}},
			{"a header replaced after Save", func(w http.ResponseWriter, s *session) {
				w.Header().Add("Set-Cookie", "a=1")
				if err := s.Save(context.Background()); err != nil {
					t.Error(err)
				}
				w.Header()["Set-Cookie"] = []string{"c=3"}
			}, []string{"c=3"}},
			{"a header deleted after Save", func(w http.ResponseWriter, s *session) {
				_ = s.Save(context.Background())
				w.Header().Del("Set-Cookie")
			}, nil},
			{"a cookie added after Save", func(w http.ResponseWriter, s *session) {
				_ = s.Save(context.Background())
				w.Header().Add("Set-Cookie", "a=1")
			}, []string{"a=1"}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				b := newSite(t, m, nil).online(false)
				res := b.serve(func(w http.ResponseWriter, r *http.Request) {
					s := sessions.Get[AppSession](r.Context())
					s.Data.N = 7
					tt.handle(w, s)
				})
				got := res.Header["Set-Cookie"]
				oneCookie(t, got)
				got = slices.DeleteFunc(slices.Clone(got), func(l string) bool { return strings.HasPrefix(l, "__Host-Http-session=") })
				if !slices.Equal(got, tt.want) {
					t.Errorf("got the other cookies %q, want %q", got, tt.want)
				}
				if data, _ := b.peek(); data.N != 7 {
					t.Errorf("got N=%d, want 7", data.N)
				}
			})
		}
	})
}

func TestSaveAndLaterEditsAreOneCookie(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.online(false)
		res := b.serve(func(w http.ResponseWriter, r *http.Request) {
			sess := sessions.Get[AppSession](r.Context())
			for n := range 3 {
				sess.Data.N = n + 1
				if n == 1 {
					sess.RegenerateID()
				}
				if err := sess.Save(r.Context()); err != nil {
					t.Error(err)
				}
			}
			sess.Data.N = 7
		})
		oneCookie(t, res.Header["Set-Cookie"])
		if data, _ := b.peek(); data.N != 7 {
			t.Errorf("got N=%d, want 7", data.N)
		}
		if s.store != nil && len(s.store.live()) != 1 {
			t.Errorf("got %d records, want 1", len(s.store.live()))
		}
	})
}

func TestChangesAfterTheHeadersAreStoredOrReported(t *testing.T) {
	type outcome struct{ stored, told bool }
	for _, tt := range []struct {
		name  string
		late  func(*session)
		here  func(*session) bool // whether the change is there in the next request
		store outcome
	}{
		{"an edit", func(s *session) { s.Data.N = 2 }, func(s *session) bool { return s.Data.N == 2 }, outcome{true, false}},
		{"an Update", func(s *session) { s.Update(func(d *AppSession) { d.N = 2 }) }, func(s *session) bool { return s.Data.N == 2 }, outcome{true, false}},
		{"a flash", func(s *session) { s.Flash("info", "x") }, func(s *session) bool { return len(s.Flashes()) == 2 }, outcome{true, false}},
		{"flashes read", func(s *session) { s.Flashes() }, func(s *session) bool { return len(s.Flashes()) == 0 }, outcome{true, false}},
		{"RegenerateID", func(s *session) { s.RegenerateID() }, func(s *session) bool { return false }, outcome{false, true}},
		{"RegenerateID and an edit", func(s *session) { s.RegenerateID(); s.Data.N = 2 }, func(s *session) bool { return s.Data.N == 2 }, outcome{false, true}},
		{"SetLifetime", func(s *session) { s.SetLifetime(time.Hour) }, func(s *session) bool { return time.Until(s.ExpiresAt()) < 2*time.Hour }, outcome{false, true}},
		{"Destroy", func(s *session) { s.Destroy() }, func(s *session) bool { return s.Reason() == sessions.ReasonUnknown }, outcome{true, false}},
		{"Reset", func(s *session) { s.Reset() }, func(s *session) bool { return s.Reason() == sessions.ReasonUnknown }, outcome{true, false}},
		{"Reset and an edit", func(s *session) { s.Reset(); s.Data.N = 3 }, func(s *session) bool { return s.Reason() == sessions.ReasonUnknown }, outcome{true, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, first := range []string{"asked for before", "asked for after"} {
				t.Run(first, func(t *testing.T) {
					eachMode(t, func(t *testing.T, m mode) {
						logger, text := logged()
						s := newSite(t, m, func(c *config) { c.Logger = logger })
						done := make(chan struct{}, 1)
						next := s.handler
						s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							defer func() { done <- struct{}{} }()
							next.ServeHTTP(w, r)
						})
						b := s.online(false)
						b.do(func(s *session) { s.Data.N = 1; s.Flash("info", "first") })
						<-done
						cookie := b.cookie()
						var path string
						res := b.serve(func(w http.ResponseWriter, r *http.Request) {
							path = r.URL.Path
							if first == "asked for before" {
								sessions.Get[AppSession](r.Context())
							}
							_, _ = io.WriteString(w, "x")
							w.(http.Flusher).Flush()
							tt.late(sessions.Get[AppSession](r.Context()))
						})
						<-done
						if got := res.setCookies(); len(got) > 0 || res.StatusCode != 200 || res.body != "x" {
							t.Errorf("got %d %q with %q, want the handler's answer and no cookie", res.StatusCode, res.body, got)
						}
						want := outcome{false, true}
						if m.hasStore() {
							want = tt.store
						}
						if b.cookie() != cookie {
							t.Error("the browser's cookie changed")
						}
						b.clone().do(func(s *session) {
							if got := tt.here(s); got != want.stored {
								t.Errorf("got stored %t, want %t (N=%d, %q)", got, want.stored, s.Data.N, s.Reason())
							}
						})
						<-done
						late := s.events.of(sessions.EventLate)
						if told := len(late) > 0; told != want.told || len(late) > 1 {
							t.Errorf("got the events %v, want told %t, once", late, want.told)
						}
						if want.told {
							line := ""
							for l := range strings.Lines(text()) {
								if strings.Contains(l, "sessions: late") {
									line = l
								}
							}
							if !strings.Contains(line, "method=GET") || !strings.Contains(line, "path="+path) || !strings.Contains(line, "level=WARN") && !strings.Contains(line, "level=ERROR") {
								t.Errorf("got the log line %q, want a warning with method and path", line)
							}
							if len(late) > 0 && !errors.Is(late[0].Err, sessions.ErrTooLate) {
								t.Errorf("got the event's error %v, want ErrTooLate", late[0].Err)
							}
						}
					})
				})
			}
		})
	}
}

func TestNewSessionAfterTheHeadersIsReportedAndNotStored(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.online(false)
		var saved error
		res := b.serve(func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			sess := sessions.Get[AppSession](r.Context())
			sess.Data.N = 7
			saved = sess.Save(r.Context())
		})
		if len(res.setCookies()) > 0 || s.store != nil && len(s.store.live()) > 0 {
			t.Errorf("got %q, want no cookie and no record that nobody can reach", res.setCookies())
		}
		if !errors.Is(saved, sessions.ErrTooLate) || len(s.events.of(sessions.EventLate)) != 1 {
			t.Errorf("got %v from Save and %d late events, want ErrTooLate and one", saved, len(s.events.of(sessions.EventLate)))
		}
	})
}

func TestVerbsAfterTheHeadersAreTooLateForSave(t *testing.T) {
	for name, verb := range map[string]func(*session){
		"RegenerateID": (*session).RegenerateID,
		"SetLifetime":  func(s *session) { s.SetLifetime(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b := s.online(false)
				b.do(func(s *session) { s.Data.N = 1 })
				b.serve(func(w http.ResponseWriter, r *http.Request) {
					sess := sessions.Get[AppSession](r.Context())
					w.(http.Flusher).Flush()
					verb(sess)
					if err := sess.Save(r.Context()); !errors.Is(err, sessions.ErrTooLate) {
						t.Errorf("got %v, want ErrTooLate", err)
					}
				})
			})
		})
	}
}

func TestClientThatHungUpDoesNotStopTheCommit(t *testing.T) {
	protocols(t, func(t *testing.T, http2 bool) {
		eachStore(t, func(t *testing.T, m mode) {
			for _, tt := range []struct {
				name string
				do   func(*session)
				want func(AppSession, sessions.Reason) bool
			}{
				{"an edit", func(s *session) { s.Data.N = 2 }, func(d AppSession, _ sessions.Reason) bool { return d.N == 2 }},
				{"a Destroy", (*session).Destroy, func(_ AppSession, r sessions.Reason) bool { return r == sessions.ReasonUnknown }},
			} {
				t.Run(tt.name, func(t *testing.T) {
					s := newSite(t, m, nil)
					done := make(chan struct{}, 1)
					next := s.handler
					s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						defer func() { done <- struct{}{} }()
						next.ServeHTTP(w, r)
					})
					b := s.online(http2)
					b.do(func(s *session) { s.Data.N = 1 })
					<-done
					ctx, hangUp := context.WithCancel(context.Background())
					defer hangUp()
					req, err := http.NewRequestWithContext(ctx, "GET", b.url+s.route(func(w http.ResponseWriter, r *http.Request) {
						sess := sessions.Get[AppSession](r.Context())
						hangUp()
						<-r.Context().Done()
						tt.do(sess)
					}), nil)
					if err != nil {
						t.Fatal(err)
					}
					req.AddCookie(&http.Cookie{Name: "__Host-Http-session", Value: b.cookie()})
					// Whether the client still sees an answer is a race of its own.
					if res, err := b.client.Do(req); err == nil {
						_ = res.Body.Close()
					}
					<-done
					if data, reason := b.peek(); !tt.want(data, reason) {
						t.Errorf("got N=%d (%s), want the change stored", data.N, reason)
					}
				})
			}
		})
	})
}

// compressed is a middleware as gzip ones are: it announces gzip at once and
// writes through a gzip.Writer.
func compressed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Add("Vary", "Accept-Encoding")
		zip := gzip.NewWriter(w)
		next.ServeHTTP(gzipWriter{w, zip}, r)
		_ = zip.Close()
	})
}

type gzipWriter struct {
	http.ResponseWriter
	zip *gzip.Writer
}

func (g gzipWriter) Write(b []byte) (int, error) { return g.zip.Write(b) }
func (g gzipWriter) Unwrap() http.ResponseWriter { return g.ResponseWriter }
func (g gzipWriter) FlushError() error {
	_ = g.zip.Flush()
	return http.NewResponseController(g.ResponseWriter).Flush()
}

// unzip reads a reply as its Content-Encoding says.
func unzip(t testing.TB, res *reply) string {
	t.Helper()
	if res.Header.Get("Content-Encoding") != "gzip" {
		return res.body
	}
	r, err := gzip.NewReader(strings.NewReader(res.body))
	if err != nil {
		t.Error(err)
		return ""
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestCompressionWorksInsideAndOutside(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		page := func(w http.ResponseWriter, r *http.Request) {
			edit(r, 7)
			_, _ = io.WriteString(w, "page")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, " one")
		}
		for _, tt := range []struct {
			name    string
			outside func(http.Handler) http.Handler
			handler http.Handler
		}{
			{"outside", compressed, http.HandlerFunc(page)},
			{"inside", func(h http.Handler) http.Handler { return h }, compressed(http.HandlerFunc(page))},
		} {
			t.Run(tt.name, func(t *testing.T) {
				s := newSite(t, m, nil)
				s.handler = tt.outside(s.handler)
				b := s.online(false)
				b.client.Transport.(*http.Transport).DisableCompression = true
				res := b.serve(tt.handler.ServeHTTP)
				if got := unzip(t, res); got != "page one" || res.Header.Get("Content-Encoding") != "gzip" {
					t.Errorf("got %q by %q, want the page by gzip", got, res.Header.Get("Content-Encoding"))
				}
				oneCookie(t, res.Header["Set-Cookie"])
				if got := strings.Join(res.Header["Vary"], ", "); got != "Accept-Encoding, Cookie" {
					t.Errorf("got Vary %q, want both", got)
				}
				if data, _ := b.peek(); data.N != 7 {
					t.Errorf("got N=%d, want 7", data.N)
				}
			})
		}
	})
}

func TestErrorPageIsReadableThroughCompressionInside(t *testing.T) {
	s := newSite(t, modes[2], nil)
	s.store.hook(fails("Create"), nil)
	b := s.online(false)
	b.client.Transport.(*http.Transport).DisableCompression = true
	res := b.serve(compressed(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		edit(r, 7)
		_, _ = io.WriteString(w, "SECRET PAGE")
	})).ServeHTTP)
	if res.StatusCode != 503 || res.body != "Service Unavailable\n" || res.Header.Get("Content-Encoding") != "" {
		t.Errorf("got %d %q by %q, want a plain 503", res.StatusCode, res.body, res.Header.Get("Content-Encoding"))
	}
}

func proxyTo(t testing.TB, upstream http.HandlerFunc) *httputil.ReverseProxy {
	t.Helper()
	srv := httptest.NewServer(upstream)
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(u) },
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
}

func TestReverseProxyAsHandlerKeepsItsCookiesAndHints(t *testing.T) {
	for _, save := range []bool{false, true} {
		t.Run(fmt.Sprintf("Save=%t", save), func(t *testing.T) {
			protocols(t, func(t *testing.T, http2 bool) {
				eachMode(t, func(t *testing.T, m mode) {
					proxy := proxyTo(t, func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Link", "</style.css>; rel=preload")
						w.WriteHeader(103)
						w.Header().Add("Set-Cookie", "up=1")
						_, _ = io.WriteString(w, "upstream")
					})
					b := newSite(t, m, nil).online(http2)
					hints := 0
					res := b.send(func(w http.ResponseWriter, r *http.Request) {
						edit(r, 7)
						if save {
							if err := sessions.Get[AppSession](r.Context()).Save(r.Context()); err != nil {
								t.Error(err)
							}
						}
						proxy.ServeHTTP(w, r)
					}, func(r *http.Request) {
						*r = *r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
							if hints++; len(h["Set-Cookie"]) > 0 {
								t.Errorf("got %q in the %d, want no cookie", h["Set-Cookie"], code)
							}
							return nil
						}}))
					})
					oneCookie(t, res.Header["Set-Cookie"])
					if hints != 1 || res.body != "upstream" || !slices.Contains(res.Header["Set-Cookie"], "up=1") || len(res.Header["Set-Cookie"]) != 2 {
						t.Errorf("got %d hints, %q and %q, want all of upstream's", hints, res.body, res.Header["Set-Cookie"])
					}
					if data, _ := b.peek(); data.N != 7 {
						t.Errorf("got N=%d, want 7", data.N)
					}
				})
			})
		})
	}
}

func TestReverseProxyUpgradeCarriesTheCookie(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		proxy := proxyTo(t, func(w http.ResponseWriter, r *http.Request) {
			conn, brw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(brw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
			_ = brw.Flush()
		})
		s := newSite(t, m, nil)
		c := dialSite(t, s)
		path := s.route(func(w http.ResponseWriter, r *http.Request) {
			edit(r, 7)
			proxy.ServeHTTP(w, r)
		})
		c.say("GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", path)
		status, h := c.head()
		oneCookie(t, h["Set-Cookie"])
		word := make([]byte, 5)
		if _, err := io.ReadFull(c.Reader, word); err != nil || string(word) != "hello" || !strings.Contains(status, "101") {
			t.Errorf("got %s and %q (%v), want a 101 and upstream's bytes", status, word, err)
		}
	})
}

func TestFirstBytesArriveBeforeTheHandlerEnds(t *testing.T) {
	protocols(t, func(t *testing.T, http2 bool) {
		eachMode(t, func(t *testing.T, m mode) {
			s := newSite(t, m, nil)
			b := s.online(http2)
			seen := make(chan struct{})
			chunk := strings.Repeat("x", 1024)
			res, err := b.client.Get(b.url + s.route(func(w http.ResponseWriter, r *http.Request) {
				edit(r, 7)
				for i := range 1024 {
					_, _ = io.WriteString(w, chunk)
					if i == 0 {
						if err := http.NewResponseController(w).Flush(); err != nil {
							t.Error(err)
						}
						<-seen
					}
				}
			}))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			first := make([]byte, 1024)
			if _, err := io.ReadFull(res.Body, first); err != nil {
				t.Fatal(err)
			}
			oneCookie(t, res.Header["Set-Cookie"])
			close(seen)
			if n, err := io.Copy(io.Discard, res.Body); err != nil || n != 1023*1024 {
				t.Errorf("got %d more bytes (%v), want the rest of 1 MiB", n, err)
			}
		})
	})
}

func TestServerSentEventsArriveWhileTheHandlerRuns(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.online(false)
		b.do(func(s *session) { s.Data.N = 1 })
		s.events.reset()
		next := make(chan struct{})
		done := make(chan struct{})
		inner := s.handler
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inner.ServeHTTP(w, r)
			close(done)
		})
		c := dialSite(t, s)
		path := s.route(func(w http.ResponseWriter, r *http.Request) {
			sess := sessions.Get[AppSession](r.Context())
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 3 {
				_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
				w.(http.Flusher).Flush()
				sess.Data.N = 10 + i
				<-next
			}
		})
		c.say("GET %s HTTP/1.0\r\nCookie: __Host-Http-session=%s\r\n\r\n", path, b.cookie())
		if _, h := c.head(); len(h["Set-Cookie"]) > 0 {
			t.Errorf("got %q, want no cookie for a session that was not changed yet", h["Set-Cookie"])
		}
		for i := range 3 {
			if line, err := c.ReadString('\n'); line != "data: "+strconv.Itoa(i)+"\n" {
				t.Fatalf("got %q (%v), want event %d", line, err, i)
			}
			_, _ = c.ReadString('\n')
			next <- struct{}{}
		}
		<-done
		s.handler = inner
		data, _ := b.clone().peek()
		if late := len(s.events.of(sessions.EventLate)); m.hasStore() && (data.N != 12 || late != 0) || !m.hasStore() && (data.N != 1 || late != 1) {
			t.Errorf("got N=%d and %d late events, want it stored by a store, else reported once", data.N, late)
		}
	})
}

func TestVaryAndCacheControl(t *testing.T) {
	edits := func(r *http.Request) { edit(r, 7) }
	reads := func(r *http.Request) { _ = sessions.Get[AppSession](r.Context()).Data.N }
	destroys := func(r *http.Request) { sessions.Get[AppSession](r.Context()).Destroy() }
	nothing := func(*http.Request) {}
	for _, tt := range []struct {
		name        string
		do          func(*http.Request)
		cache, vary []string // what the handler sets
		wantCache   string
		wantVary    string
	}{
		{"nobody asked", nothing, nil, nil, "", ""},
		{"nobody asked, public", nothing, []string{"public, max-age=60"}, []string{"Accept"}, "public, max-age=60", "Accept"},
		{"read", reads, nil, nil, "", "Cookie"},
		{"read, public", reads, []string{"public, max-age=60"}, nil, "public, max-age=60", "Cookie"},
		{"edited", edits, nil, nil, "private", "Cookie"},
		{"destroyed", destroys, nil, nil, "private", "Cookie"},
		{"edited, empty", edits, []string{""}, nil, "private", "Cookie"},
		{"edited, public", edits, []string{"public, max-age=60"}, nil, "max-age=60, private", "Cookie"},
		{"edited, Public alone", edits, []string{"Public"}, nil, "private", "Cookie"},
		{"edited, s-maxage", edits, []string{"s-maxage=60, max-age=5"}, nil, "max-age=5, private", "Cookie"},
		{"edited, max-age", edits, []string{"max-age=60"}, nil, "max-age=60, private", "Cookie"},
		{"edited, no-cache", edits, []string{"no-cache"}, nil, "no-cache, private", "Cookie"},
		{"edited, private", edits, []string{"private, max-age=60"}, nil, "private, max-age=60", "Cookie"},
		{"edited, PRIVATE", edits, []string{"PRIVATE"}, nil, "PRIVATE", "Cookie"},
		{"edited, private of one field", edits, []string{`private="X-A", public`}, nil, `private="X-A", private`, "Cookie"},
		{"edited, no-store", edits, []string{"no-store"}, nil, "no-store", "Cookie"},
		{"edited, no-store and public", edits, []string{"no-store, public"}, nil, "no-store", "Cookie"},
		{"edited, two lines", edits, []string{"public", "max-age=60"}, nil, "max-age=60, private", "Cookie"},
		{"edited, other Vary", edits, nil, []string{"Accept, Origin"}, "private", "Accept, Origin|Cookie"},
		{"edited, Vary has it", edits, nil, []string{"Accept, cookie"}, "private", "Accept, cookie"},
		{"edited, Vary *", edits, nil, []string{"*"}, "private", "*"},
		{"edited, Vary Cookie2", edits, nil, []string{"X-Cookie"}, "private", "X-Cookie|Cookie"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				b := newSite(t, m, nil).online(false)
				b.do(func(s *session) { s.Data.N = 1 })
				res := b.serve(func(w http.ResponseWriter, r *http.Request) {
					tt.do(r)
					for _, line := range tt.cache {
						w.Header().Add("Cache-Control", line)
					}
					for _, line := range tt.vary {
						w.Header().Add("Vary", line)
					}
				})
				sets := m.hasStore() && tt.wantCache != ""
				wantCache := tt.wantCache
				if sets && !strings.HasPrefix(tt.name, "destroyed") {
					// A loaded session that is edited in a store needs no new cookie.
					wantCache = strings.Join(tt.cache, "|")
				}
				if got := strings.Join(res.Header["Cache-Control"], "|"); got != wantCache {
					t.Errorf("got Cache-Control %q, want %q", got, wantCache)
				}
				if got := strings.Join(res.Header["Vary"], "|"); got != tt.wantVary {
					t.Errorf("got Vary %q, want %q", got, tt.wantVary)
				}
				fresh := b.clone()
				fresh.cookies = map[string]string{}
				if strings.HasPrefix(tt.name, "edited") {
					res := fresh.serve(func(w http.ResponseWriter, r *http.Request) {
						for _, line := range tt.cache {
							w.Header().Add("Cache-Control", line)
						}
						tt.do(r)
					})
					if got := strings.Join(res.Header["Cache-Control"], "|"); got != tt.wantCache {
						t.Errorf("got Cache-Control %q beside a new cookie, want %q", got, tt.wantCache)
					}
				}
			})
		})
	}
}

func TestWordsWithinAQuotedDirectiveChooseNothing(t *testing.T) {
	for _, line := range []string{`public, x="a, no-store, b"`, `no-cache="A, private, B"`} {
		b := newSite(t, modes[0], nil).browser()
		res := b.serve(func(w http.ResponseWriter, r *http.Request) {
			edit(r, 7)
			w.Header().Set("Cache-Control", line)
		})
		if got := res.Header.Get("Cache-Control"); !strings.HasSuffix(got, ", private") || strings.Contains(got, "public") {
			t.Errorf("got Cache-Control %q for %q, want private added", got, line)
		}
	}
}

func TestSessionThatWasOnlyReadSendsAndStoresNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.online(false)
		if res := b.do(func(s *session) { s.Flashes(); _ = s.ID() }); len(res.Header["Set-Cookie"]) > 0 {
			t.Errorf("got %q for a visitor, want no cookie", res.Header["Set-Cookie"])
		}
		if s.store != nil && len(s.store.counts) > 0 {
			t.Errorf("got the store calls %v for a visitor, want none", s.store.counts)
		}
		b.do(func(s *session) { s.Data = AppSession{N: 1, Cart: map[string]int{"a": 1, "b": 2}, Tags: []string{}} })
		if s.store != nil {
			s.store.resetCounts()
		}
		res := b.do(func(s *session) {
			s.Data.N, s.Data.Name = 2, "x"
			s.Data.Cart["a"]++
			s.Data.N, s.Data.Name = 1, ""
			s.Data.Cart["a"]--
			s.Data.Tags, s.Data.Local = nil, "not stored"
			s.Data.Tags = []string{}
		})
		if len(res.Header["Set-Cookie"]) > 0 {
			t.Errorf("got %q for a session set back to what it was, want no cookie", res.Header["Set-Cookie"])
		}
		if s.store != nil && (len(s.store.counts) != 1 || s.store.count("Load") != 1) {
			t.Errorf("got the store calls %v, want one Load", s.store.counts)
		}
	})
}

func TestResponsesWithoutABodyCarryTheCookie(t *testing.T) {
	protocols(t, func(t *testing.T, http2 bool) {
		eachMode(t, func(t *testing.T, m mode) {
			for _, tt := range []struct {
				method string
				status int
			}{{"HEAD", 200}, {"GET", 204}, {"GET", 304}, {"POST", 205}} {
				t.Run(fmt.Sprintf("%s %d", tt.method, tt.status), func(t *testing.T) {
					b := newSite(t, m, nil).online(http2)
					res := b.send(func(w http.ResponseWriter, r *http.Request) {
						edit(r, 7)
						w.WriteHeader(tt.status)
						if tt.status == 200 {
							_, _ = io.WriteString(w, "body")
						}
					}, func(r *http.Request) { r.Method = tt.method })
					oneCookie(t, res.Header["Set-Cookie"])
					if data, _ := b.peek(); res.StatusCode != tt.status || res.body != "" || data.N != 7 {
						t.Errorf("got %d %q and N=%d, want %d without a body, and 7", res.StatusCode, res.body, data.N, tt.status)
					}
				})
			}
		})
	})
}

func TestTrailersAreKept(t *testing.T) {
	protocols(t, func(t *testing.T, http2 bool) {
		eachMode(t, func(t *testing.T, m mode) {
			res := newSite(t, m, nil).online(http2).serve(func(w http.ResponseWriter, r *http.Request) {
				edit(r, 7)
				w.Header().Set("Trailer", "X-Sum")
				_, _ = io.WriteString(w, "body")
				w.(http.Flusher).Flush()
				w.Header().Set("X-Sum", "4")
				w.Header().Set(http.TrailerPrefix+"X-Late", "5")
			})
			oneCookie(t, res.Header["Set-Cookie"])
			if res.Trailer.Get("X-Sum") != "4" || res.Trailer.Get("X-Late") != "5" || len(res.Trailer) != 2 {
				t.Errorf("got the trailer %v, want both and no more", res.Trailer)
			}
		})
	})
}

func TestClientThatFollowsARedirectAtOnceFindsTheFlash(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			s.store.hook(func(op string, _ sessions.ID) error {
				if op == "Create" {
					time.Sleep(50 * time.Millisecond) // in the bubble: a slow store
				}
				return nil
			}, nil)
			rec := httptest.NewRecorder()
			path := s.route(func(w http.ResponseWriter, r *http.Request) {
				sessions.Get[AppSession](r.Context()).Flash("info", "saved")
				http.Redirect(headerWatch{w, func() {
					if len(s.store.live()) != 1 {
						t.Errorf("got %d records when the redirect had left, want 1", len(s.store.live()))
					}
				}}, r, "/", http.StatusSeeOther)
			})
			s.handler.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
			oneCookie(t, rec.Result().Header["Set-Cookie"])
		})
	})
}

// A headerWatch calls a function when the header has left.
type headerWatch struct {
	http.ResponseWriter
	left func()
}

func (h headerWatch) WriteHeader(code int) {
	h.ResponseWriter.WriteHeader(code)
	h.left()
}

func TestOldClientsAreServed(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		c := dialSite(t, s)
		path := s.route(func(w http.ResponseWriter, r *http.Request) {
			edit(r, 7)
			_, _ = io.WriteString(w, "body")
		})
		c.say("GET %s HTTP/1.0\r\n\r\n", path)
		status, h := c.head()
		oneCookie(t, h["Set-Cookie"])
		if rest, err := io.ReadAll(c.Reader); !strings.Contains(status, "200") || err != nil || string(rest) != "body" {
			t.Errorf("got %s %q (%v), want 200, the body and the end", status, rest, err)
		}
	})
}

func TestGoroutinesOfAHandlerThatReturned(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.online(false)
		b.do(func(s *session) { s.Data.N = 1 })
		go2, done := make(chan struct{}), make(chan struct{})
		b.do(func(sess *session) {
			var wg sync.WaitGroup
			wg.Go(func() {
				close(go2)
				for range 50 {
					sess.Flash("info", "x")
					sess.Update(func(d *AppSession) { d.Extra = map[string]string{"a": "b"} })
					_ = sess.ID()
				}
			})
			<-go2
			go func() {
				wg.Wait()
				close(done)
			}()
		})
		<-done
		if data, reason := b.peek(); reason != sessions.ReasonNone || data.N != 1 {
			t.Errorf("got N=%d (%q), want the session alive", data.N, reason)
		}
	})
}

func TestSetCookieTakesAwayWhatOtherCachesObey(t *testing.T) {
	s := newSite(t, modes[0], nil)
	for _, name := range []string{"CDN-Cache-Control", "Surrogate-Control"} {
		for _, edit := range []bool{true, false} {
			res := s.browser().serve(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set(name, "max-age=60")
				if sess := sessions.Get[AppSession](r.Context()); edit {
					sess.Data.N = 1
				}
			})
			if kept := res.Header.Get(name) != ""; kept == edit {
				t.Errorf("%s with a cookie %t: kept %t", name, edit, kept)
			}
		}
	}
}
