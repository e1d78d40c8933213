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
	"os"
	"runtime"
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
		if strings.HasPrefix(line, "__Host-session=") {
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
		c.say("GET %s HTTP/1.1\r\nHost: x\r\nCookie: __Host-session=%s\r\n\r\n", path, b.cookie())
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
		c.say("GET %s HTTP/1.1\r\nHost: x\r\nCookie: __Host-session=%s\r\n\r\n", path, b.cookie())
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
				got = slices.DeleteFunc(slices.Clone(got), func(l string) bool { return strings.HasPrefix(l, "__Host-session=") })
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

// An innerWriter notes what reaches it, and whether the session's cookie was in
// the header by then.
type innerWriter struct {
	header http.Header
	calls  []string
}

func newInnerWriter() *innerWriter { return &innerWriter{header: http.Header{}} }

func (i *innerWriter) call(name string) {
	if len(i.header["Set-Cookie"]) == 1 {
		name += " with the cookie"
	}
	i.calls = append(i.calls, name)
}

func (i *innerWriter) Header() http.Header         { return i.header }
func (i *innerWriter) WriteHeader(int)             { i.call("WriteHeader") }
func (i *innerWriter) Write(b []byte) (int, error) { i.call("Write"); return len(b), nil }

// What an inner writer may be able to do besides.
type (
	ableF struct{ to *innerWriter }
	ableE struct{ to *innerWriter } // FlushError without Flush
	ableH struct{ to *innerWriter }
	ableP struct{ to *innerWriter }
	ableR struct{ to *innerWriter }
	ableS struct{ to *innerWriter }
)

func (a ableF) Flush()            { a.to.call("Flush") }
func (a ableE) FlushError() error { a.to.call("FlushError"); return errDown }
func (a ableH) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a.to.call("Hijack")
	return nil, nil, errDown
}
func (a ableP) Push(string, *http.PushOptions) error { a.to.call("Push"); return errDown }
func (a ableR) ReadFrom(io.Reader) (int64, error)    { a.to.call("ReadFrom"); return 5, errDown }
func (a ableS) WriteString(string) (int, error)      { a.to.call("WriteString"); return 6, errDown }

// abilities says what w claims, as the bits of an index of innerWriters.
func abilities(w http.ResponseWriter) (bits int) {
	if _, ok := w.(http.Flusher); ok {
		bits |= 1
	}
	if _, ok := w.(http.Hijacker); ok {
		bits |= 2
	}
	if _, ok := w.(http.Pusher); ok {
		bits |= 4
	}
	if _, ok := w.(io.ReaderFrom); ok {
		bits |= 8
	}
	if _, ok := w.(io.StringWriter); ok {
		bits |= 16
	}
	return bits
}

// innerWriters make every combination of abilities.
var innerWriters = [32]func(*innerWriter) http.ResponseWriter{
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
		}{i}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
		}{i, ableF{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
		}{i, ableH{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
		}{i, ableF{i}, ableH{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableP
		}{i, ableP{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableP
		}{i, ableF{i}, ableP{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
			ableP
		}{i, ableH{i}, ableP{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
			ableP
		}{i, ableF{i}, ableH{i}, ableP{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableR
		}{i, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableR
		}{i, ableF{i}, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
			ableR
		}{i, ableH{i}, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
			ableR
		}{i, ableF{i}, ableH{i}, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableP
			ableR
		}{i, ableP{i}, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableP
			ableR
		}{i, ableF{i}, ableP{i}, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
			ableP
			ableR
		}{i, ableH{i}, ableP{i}, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
			ableP
			ableR
		}{i, ableF{i}, ableH{i}, ableP{i}, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableS
		}{i, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableS
		}{i, ableF{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
			ableS
		}{i, ableH{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
			ableS
		}{i, ableF{i}, ableH{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableP
			ableS
		}{i, ableP{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableP
			ableS
		}{i, ableF{i}, ableP{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
			ableP
			ableS
		}{i, ableH{i}, ableP{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
			ableP
			ableS
		}{i, ableF{i}, ableH{i}, ableP{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableR
			ableS
		}{i, ableR{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableR
			ableS
		}{i, ableF{i}, ableR{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
			ableR
			ableS
		}{i, ableH{i}, ableR{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
			ableR
			ableS
		}{i, ableF{i}, ableH{i}, ableR{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableP
			ableR
			ableS
		}{i, ableP{i}, ableR{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableP
			ableR
			ableS
		}{i, ableF{i}, ableP{i}, ableR{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
			ableP
			ableR
			ableS
		}{i, ableH{i}, ableP{i}, ableR{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
			ableP
			ableR
			ableS
		}{i, ableF{i}, ableH{i}, ableP{i}, ableR{i}, ableS{i}}
	},
}

// through serves one request, which edits the session and then does use, on
// an inner writer.
func through(s *site, inner http.ResponseWriter, use func(http.ResponseWriter)) {
	path := s.route(func(w http.ResponseWriter, r *http.Request) {
		edit(r, 7)
		use(w)
	})
	s.handler.ServeHTTP(inner, httptest.NewRequest("GET", path, nil))
}

func TestWriterClaimsExactlyWhatTheInnerOneHas(t *testing.T) {
	s := newSite(t, modes[0], nil)
	for bits, inner := range innerWriters {
		t.Run(fmt.Sprintf("%05b", bits), func(t *testing.T) {
			i := newInnerWriter()
			if got := abilities(inner(i)); got != bits {
				t.Fatalf("got %05b from the test's own writer, want %05b", got, bits)
			}
			through(s, inner(i), func(w http.ResponseWriter) {
				if got := abilities(w); got != bits {
					t.Errorf("got %05b, want %05b", got, bits)
				}
				if _, ok := w.(interface{ FlushError() error }); ok != (bits&1 != 0) {
					t.Errorf("got FlushError %t, want it beside Flush only", ok)
				}
			})
		})
	}
}

func TestEveryWayToTheInnerWriterCommits(t *testing.T) {
	s := newSite(t, modes[0], nil)
	type method struct {
		name string
		call func(w http.ResponseWriter) error
	}
	methods := []method{
		{"Flush", func(w http.ResponseWriter) error { w.(http.Flusher).Flush(); return nil }},
		{"Hijack", func(w http.ResponseWriter) error { _, _, err := w.(http.Hijacker).Hijack(); return err }},
		{"Push", func(w http.ResponseWriter) error { return w.(http.Pusher).Push("/x", nil) }},
		{"ReadFrom", func(w http.ResponseWriter) error {
			n, err := w.(io.ReaderFrom).ReadFrom(nil)
			if n != 5 {
				err = fmt.Errorf("got n=%d", n)
			}
			return err
		}},
		{"WriteString", func(w http.ResponseWriter) error {
			n, err := w.(io.StringWriter).WriteString("")
			if n != 6 {
				err = fmt.Errorf("got n=%d", n)
			}
			return err
		}},
	}
	for bits, inner := range innerWriters {
		for ability, m := range methods {
			if bits>>ability&1 == 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s of %05b", m.name, bits), func(t *testing.T) {
				i := newInnerWriter()
				through(s, inner(i), func(w http.ResponseWriter) {
					if err := m.call(w); m.name != "Flush" && err != errDown {
						t.Errorf("got %v, want the inner writer's result", err)
					}
				})
				want := m.name + " with the cookie"
				if m.name == "Push" {
					want = "Push" // of another response
				}
				if !slices.Equal(i.calls, []string{want}) {
					t.Errorf("got the calls %q, want %q", i.calls, want)
				}
				if len(i.header["Set-Cookie"]) != 1 {
					t.Errorf("got the cookies %q at the end, want one", i.header["Set-Cookie"])
				}
			})
		}
	}
}

// An unwrapping writer hides what another can do, but for Unwrap.
type unwrapping struct {
	*innerWriter
	under http.ResponseWriter
}

func (u unwrapping) Unwrap() http.ResponseWriter { return u.under }

func TestFlusherAndHijackerAreClaimedWhenOnlyUnwrapReachesThem(t *testing.T) {
	s := newSite(t, modes[0], nil)
	for bits, under := range innerWriters {
		t.Run(fmt.Sprintf("%05b", bits), func(t *testing.T) {
			i := newInnerWriter()
			through(s, unwrapping{i, unwrapping{i, under(i)}}, func(w http.ResponseWriter) {
				if got, want := abilities(w), bits&3; got != want {
					t.Errorf("got %05b, want %05b", got, want)
				}
				if err := http.NewResponseController(w).Flush(); (err == nil) != (bits&1 != 0) || err != nil && !errors.Is(err, http.ErrNotSupported) {
					t.Errorf("got %v from Flush, want it to work or ErrNotSupported", err)
				}
			})
			if bits&1 != 0 && !slices.Equal(i.calls, []string{"Flush with the cookie"}) {
				t.Errorf("got the calls %q, want one Flush with the cookie", i.calls)
			}
			i = newInnerWriter()
			through(s, unwrapping{i, under(i)}, func(w http.ResponseWriter) {
				_, _, err := http.NewResponseController(w).Hijack()
				if bits&2 != 0 && err != errDown || bits&2 == 0 && !errors.Is(err, http.ErrNotSupported) {
					t.Errorf("got %v from Hijack, want the inner result or ErrNotSupported", err)
				}
			})
			if bits&2 != 0 && !slices.Equal(i.calls, []string{"Hijack with the cookie"}) {
				t.Errorf("got the calls %q, want one Hijack with the cookie", i.calls)
			}
		})
	}
}

func TestFlushErrorOfTheInnerWriterComesThrough(t *testing.T) {
	s := newSite(t, modes[0], nil)
	i := newInnerWriter()
	inner := struct {
		*innerWriter
		ableE
	}{i, ableE{i}}
	through(s, inner, func(w http.ResponseWriter) {
		if err := http.NewResponseController(w).Flush(); err != errDown {
			t.Errorf("got %v, want the inner writer's error", err)
		}
	})
	if !slices.Equal(i.calls, []string{"FlushError with the cookie"}) {
		t.Errorf("got the calls %q, want FlushError with the cookie", i.calls)
	}
}

func TestWriterOfARealServerClaimsWhatNetHTTPDoes(t *testing.T) {
	protocols(t, func(t *testing.T, http2 bool) {
		s := newSite(t, modes[0], nil)
		next, want := s.handler, make(chan int, 1)
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			want <- abilities(w)
			next.ServeHTTP(w, r)
		})
		s.online(http2).serve(func(w http.ResponseWriter, r *http.Request) {
			if got, want := abilities(w), <-want; got != want {
				t.Errorf("got %05b, want %05b", got, want)
			}
		})
	})
}

func TestDeadlinesReachTheConnection(t *testing.T) {
	s := newSite(t, modes[0], nil)
	c := dialSite(t, s)
	path := s.route(func(w http.ResponseWriter, r *http.Request) {
		edit(r, 7)
		rc := http.NewResponseController(w)
		if err := rc.EnableFullDuplex(); err != nil {
			t.Errorf("EnableFullDuplex: %v", err)
		}
		if err := rc.SetWriteDeadline(time.Time{}); err != nil {
			t.Errorf("SetWriteDeadline: %v", err)
		}
		if err := rc.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Errorf("SetReadDeadline: %v", err)
		}
		if _, err := io.ReadAll(r.Body); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v from the body, want the deadline's error", err)
		}
		if len(w.Header()["Set-Cookie"]) > 0 {
			t.Error("got a commit, want none by a deadline")
		}
	})
	c.say("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", path)
	_, h := c.head()
	oneCookie(t, h["Set-Cookie"])
}

func TestFailedCommitIsAnsweredByErrorHandlerAlone(t *testing.T) {
	for _, way := range []struct {
		name string
		left func(w http.ResponseWriter) error // the handler's way, which must say that it failed
	}{
		{"at return", func(http.ResponseWriter) error { return errDown }},
		{"at WriteHeader", func(w http.ResponseWriter) error { w.WriteHeader(201); return errDown }},
		{"at Write", func(w http.ResponseWriter) error { _, err := w.Write([]byte("SECRET PAGE")); return err }},
		{"at WriteString", func(w http.ResponseWriter) error { _, err := io.WriteString(w, "SECRET PAGE"); return err }},
		{"at io.Copy", func(w http.ResponseWriter) error {
			_, err := io.Copy(w, struct{ io.Reader }{strings.NewReader("SECRET PAGE")})
			return err
		}},
		{"at Flush", func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() }},
		{"at Hijack", func(w http.ResponseWriter) error {
			if _, ok := w.(http.Hijacker); !ok {
				return errDown // HTTP/2
			}
			_, _, err := http.NewResponseController(w).Hijack()
			return err
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			protocols(t, func(t *testing.T, http2 bool) {
				eachStore(t, func(t *testing.T, m mode) {
					s := newSite(t, m, nil)
					s.store.hook(fails("Create"), nil)
					res := s.online(http2).serve(func(w http.ResponseWriter, r *http.Request) {
						edit(r, 7)
						if way.left(w) == nil {
							t.Error("got no error from what committed")
						}
						w.WriteHeader(202)
						for range 2 {
							if n, err := w.Write([]byte("SECRET PAGE")); err == nil || n != 0 {
								t.Errorf("got %d, %v from a later Write, want an error", n, err)
							}
							if n, err := io.WriteString(w, "SECRET PAGE"); err == nil || n != 0 {
								t.Errorf("got %d, %v from a later WriteString, want an error", n, err)
							}
							if n, err := io.Copy(w, struct{ io.Reader }{strings.NewReader("SECRET PAGE")}); err == nil || n != 0 {
								t.Errorf("got %d, %v from a later Copy, want an error", n, err)
							}
							if err := http.NewResponseController(w).Flush(); err == nil {
								t.Error("got no error from a later Flush")
							}
						}
						w.WriteHeader(103)
					})
					if res.StatusCode != 503 || res.body != "Service Unavailable\n" {
						t.Errorf("got %d %q, want 503 and its text alone", res.StatusCode, res.body)
					}
					if got := res.Header.Get("Cache-Control"); got != "no-store" {
						t.Errorf("got Cache-Control %q, want no-store", got)
					}
					if len(res.Header["Set-Cookie"]) > 0 || len(s.store.live()) > 0 {
						t.Errorf("got %q and %d records, want nothing of the session", res.Header["Set-Cookie"], len(s.store.live()))
					}
					if got := s.events.of(sessions.EventFailed); len(got) != 1 || !errors.Is(got[0].Err, errDown) {
						t.Errorf("got the events %v, want one failure with the store's error", got)
					}
				})
			})
		})
	}
}

func TestErrorPageHasNoneOfTheHandlersContentHeaders(t *testing.T) {
	own := map[string]string{
		"Content-Length": "5", "Content-Type": "image/png", "Content-Encoding": "gzip", "Content-Language": "tlh",
		"Content-Range": "bytes 0-4/5", "Content-Disposition": "attachment", "Content-Location": "/secret",
		"Etag": `"x"`, "Last-Modified": "Mon, 23 Nov 2026 10:00:00 GMT", "Accept-Ranges": "bytes", "Location": "/secret",
		"Refresh": "0; url=/secret", "Expires": "Mon, 23 Nov 2037 10:00:00 GMT", "Trailer": "X-Sum",
	}
	protocols(t, func(t *testing.T, http2 bool) {
		s := newSite(t, modes[2], func(c *config) {
			c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
				for name := range own {
					if got := w.Header()[name]; len(got) > 0 {
						t.Errorf("got %s: %q in ErrorHandler, want none", name, got)
					}
				}
				if got := w.Header().Get("Cache-Control"); got != "no-store" {
					t.Errorf("got Cache-Control %q in ErrorHandler, want no-store", got)
				}
				if !errors.Is(err, errDown) {
					t.Errorf("got %v, want the store's error", err)
				}
				if sess, ok := sessions.Lookup[AppSession](r.Context()); !ok || sess.Data.N != 7 {
					t.Error("got a request without the session")
				}
				w.WriteHeader(http.StatusTeapot)
				_, _ = io.WriteString(w, "a page longer than five bytes")
			}
		})
		s.store.hook(fails("Create"), nil)
		res := s.online(http2).serve(func(w http.ResponseWriter, r *http.Request) {
			edit(r, 7)
			for name, value := range own {
				w.Header().Set(name, value)
			}
			w.Header().Set("Cache-Control", "public, max-age=3600")
			w.Header().Set("X-Other", "stays")
			w.Header().Add("Set-Cookie", "a=1")
			w.Header().Add("Set-Cookie", "b=2")
			w.Header().Set(http.TrailerPrefix+"X-Late", "1")
			w.WriteHeader(201)
		})
		if res.StatusCode != http.StatusTeapot || res.body != "a page longer than five bytes" {
			t.Errorf("got %d %q, want ErrorHandler's answer whole", res.StatusCode, res.body)
		}
		if got := res.Header["Set-Cookie"]; !slices.Equal(got, []string{"a=1", "b=2"}) {
			t.Errorf("got the cookies %q, want the handler's two", got)
		}
		if res.Header.Get("X-Other") != "stays" || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("got %v, want X-Other kept and no-store", res.Header)
		}
		if len(res.Trailer) > 0 {
			t.Errorf("got the trailer %v, want none", res.Trailer)
		}
	})
}

func TestErrorPageKeepsWhatAMiddlewareOutsideSaidOfItsContent(t *testing.T) {
	for _, tt := range []struct {
		name string
		op   string
	}{{"when the commit fails", "Create"}, {"when the load fails", "Load"}} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, modes[2], nil)
			b := s.browser()
			if tt.op == "Load" {
				b.do(func(s *session) { s.Data.N = 1 })
			}
			s.store.hook(fails(tt.op), nil)
			s.handler = compressed(s.handler)
			b = &browser{s: s, cookies: b.cookies}
			res := b.do(func(s *session) { s.Data.N = 7 })
			if got := unzip(t, res); res.StatusCode != 503 || got != "Service Unavailable\n" {
				t.Errorf("got %d %q with Content-Encoding %q, want a 503 that the client can read", res.StatusCode, got, res.Header.Get("Content-Encoding"))
			}
		})
	}
}

func TestErrorsThatAreNotTheStoresGive500(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		res := s.online(false).serve(func(w http.ResponseWriter, r *http.Request) {
			sessions.Get[AppSession](r.Context()).Data.UserID = -1
			_, _ = io.WriteString(w, "SECRET PAGE")
		})
		if res.StatusCode != 500 || res.body != "Internal Server Error\n" || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("got %d %q (%s), want a bare 500 with no-store", res.StatusCode, res.body, res.Header.Get("Cache-Control"))
		}
		if len(res.Header["Set-Cookie"]) > 0 {
			t.Errorf("got %q, want no cookie", res.Header["Set-Cookie"])
		}
	})
}

func TestErrorHandlerThatWritesNothingGives500(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter)
		status int
		body   string
	}{
		{"nothing at all", func(http.ResponseWriter) {}, 500, "Internal Server Error\n"},
		{"only early hints", func(w http.ResponseWriter) { w.WriteHeader(103) }, 500, "Internal Server Error\n"},
		{"a status alone", func(w http.ResponseWriter) { w.WriteHeader(507) }, 507, ""},
		{"a flush alone", func(w http.ResponseWriter) { w.(http.Flusher).Flush() }, 200, ""},
		{"a body alone", func(w http.ResponseWriter) { _, _ = w.Write([]byte("sorry")) }, 200, "sorry"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, modes[2], func(c *config) {
				c.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { tt.answer(w) }
			})
			s.store.hook(fails("Create"), nil)
			res := s.online(false).serve(func(w http.ResponseWriter, r *http.Request) {
				edit(r, 7)
				_, _ = io.WriteString(w, "SECRET PAGE")
			})
			if res.StatusCode != tt.status || res.body != tt.body {
				t.Errorf("got %d %q, want %d %q", res.StatusCode, res.body, tt.status, tt.body)
			}
		})
	}
}

func TestFailedDestroyLeavesTheCookie(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		for name, verb := range map[string]func(*session){"Destroy": (*session).Destroy, "Reset": (*session).Reset} {
			t.Run(name, func(t *testing.T) {
				s := newSite(t, m, nil)
				b := s.online(false)
				b.do(func(s *session) { s.Data.N = 7 })
				s.store.hook(fails("Delete"), nil)
				res := b.serve(func(w http.ResponseWriter, r *http.Request) {
					verb(sessions.Get[AppSession](r.Context()))
					http.Redirect(w, r, "/", http.StatusSeeOther)
				})
				if res.StatusCode != 503 || len(res.Header["Set-Cookie"]) > 0 || res.Header.Get("Location") != "" {
					t.Errorf("got %d, %v, want 503 and the cookie left alone", res.StatusCode, res.Header)
				}
				s.store.hook(nil, nil)
				if data, _ := b.peek(); data.N != 7 {
					t.Errorf("got N=%d, want the session that could not be destroyed", data.N)
				}
			})
		}
	})
}

func TestDestroyAfterAFailedCommitIsCarriedOutOrReported(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.online(false)
		b.do(func(s *session) { s.Data.N = 1 })
		s.store.hook(fails("Update"), nil)
		var failed int
		b.serve(func(w http.ResponseWriter, r *http.Request) {
			sess := sessions.Get[AppSession](r.Context())
			sess.Data.N = 2
			_, _ = io.WriteString(w, "x")
			failed = len(s.events.all)
			sess.Destroy()
		})
		if len(s.store.live()) != 0 && len(s.events.all) == failed {
			t.Errorf("got %d live records and no event, want the record deleted or an event", len(s.store.live()))
		}
	})
}

// Panics of handlers: how they end, and what of it an outer recover sees.
var panics = []struct {
	name string
	end  func()
	want func(any) bool
}{
	{"a string", func() { panic("boom") }, func(v any) bool { return v == "boom" }},
	{"an error", func() { panic(errDown) }, func(v any) bool { return v == errDown }},
	{"http.ErrAbortHandler", func() { panic(http.ErrAbortHandler) }, func(v any) bool { return v == http.ErrAbortHandler }},
	{"nil", func() { panic(nil) }, func(v any) bool { _, ok := v.(*runtime.PanicNilError); return ok }}, //nolint:govet // on purpose
	{"Goexit", runtime.Goexit, func(v any) bool { return v == nil }},
	{"a panic of an Update", nil, func(v any) bool { return v == "boom" }},
}

// recovered puts a middleware around the site that recovers and answers 500.
// What it recovered arrives on the channel; the answer is written also when the
// goroutine exits.
func recovered(s *site) <-chan any {
	values := make(chan any, 1)
	next := s.handler
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() {
				values <- recover()
				w.WriteHeader(500)
			}()
			next.ServeHTTP(w, r)
		}()
		<-done
	})
	return values
}

func TestPanicStoresNothingAndPassesThrough(t *testing.T) {
	for _, p := range panics {
		t.Run(p.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				for _, verb := range []struct {
					name string
					do   func(*session)
				}{
					{"after an edit", func(s *session) { s.Data.N = 2 }},
					{"after a flash", func(s *session) { s.Flash("info", "x") }},
					{"after RegenerateID", func(s *session) { s.RegenerateID() }},
					{"after Flashes", func(s *session) { s.Flashes() }},
				} {
					t.Run(verb.name, func(t *testing.T) {
						s := newSite(t, m, nil)
						values := recovered(s)
						b := s.online(false)
						b.do(func(s *session) { s.Data.N = 1; s.Flash("info", "kept") })
						<-values
						res := b.do(func(s *session) {
							verb.do(s)
							if p.end == nil {
								s.Update(func(d *AppSession) { d.N = 9; panic("boom") })
							}
							p.end()
						})
						if v := <-values; !p.want(v) {
							t.Errorf("got %v outside, want the handler's own panic", v)
						}
						if res.StatusCode != 500 || len(res.Header["Set-Cookie"]) > 0 {
							t.Errorf("got %d with %q, want the outer answer without a cookie", res.StatusCode, res.Header["Set-Cookie"])
						}
						tab := b.clone()
						tab.do(func(s *session) {
							if got := s.Flashes(); s.Data.N != 1 || len(got) != 1 || got[0].Message != "kept" {
								t.Errorf("got N=%d and the flashes %v, want the stored state", s.Data.N, got)
							}
						})
						<-values
						if s.store != nil && len(s.store.live()) != 1 {
							t.Errorf("got %d records, want 1", len(s.store.live()))
						}
					})
				}
			})
		})
	}
}

func TestDestroyBeforeAPanicStillHappens(t *testing.T) {
	for _, p := range panics[:5] {
		t.Run(p.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				for name, verb := range map[string]func(*session){
					"Destroy":                    (*session).Destroy,
					"Reset":                      func(s *session) { s.Reset(); s.Data.N = 3; s.Flash("info", "x") },
					"Destroy after RegenerateID": func(s *session) { s.RegenerateID(); s.Data.N = 3; s.Destroy() },
				} {
					t.Run(name, func(t *testing.T) {
						s := newSite(t, m, nil)
						values := recovered(s)
						b := s.online(false)
						b.do(func(s *session) { s.Data.N = 1 })
						<-values
						old := b.clone()
						res := b.do(func(s *session) { verb(s); p.end() })
						if v := <-values; !p.want(v) {
							t.Errorf("got %v outside, want the handler's own panic", v)
						}
						if got := res.setCookies(); res.StatusCode != 500 || len(got) != 1 || !strings.HasPrefix(got[0], "__Host-session=;") {
							t.Errorf("got %d with %q, want the outer answer with the expired cookie", res.StatusCode, got)
						}
						if s.store != nil {
							if n := len(s.store.live()); n != 0 {
								t.Errorf("got %d records, want none", n)
							}
							if _, reason := old.peek(); reason != sessions.ReasonUnknown {
								t.Errorf("got %q for the old cookie, want unknown", reason)
							}
						}
					})
				}
			})
		})
	}
}

func TestDestroyBeforeALatePanicStillHappens(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		values := recovered(s)
		b := s.online(false)
		b.do(func(s *session) { s.Data.N = 1 })
		<-values
		b.serve(func(w http.ResponseWriter, r *http.Request) {
			sess := sessions.Get[AppSession](r.Context())
			w.(http.Flusher).Flush()
			sess.Destroy()
			panic("boom")
		})
		if v := <-values; v != "boom" {
			t.Errorf("got %v outside, want the handler's own panic", v)
		}
		late := len(s.events.of(sessions.EventLate))
		if s.store != nil && (len(s.store.live()) != 0 || late != 0) {
			t.Errorf("got %d records and %d late events, want neither", len(s.store.live()), late)
		}
		if s.store == nil && late != 1 {
			t.Errorf("got %d late events, want one: the cookie cannot be expired any more", late)
		}
	})
}

func TestPanicWithoutARecoverAbortsTheConnection(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		done := make(chan struct{})
		next := s.handler
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(done)
			next.ServeHTTP(w, r)
		})
		c := dialSite(t, s)
		path := s.route(func(w http.ResponseWriter, r *http.Request) {
			edit(r, 7)
			panic(http.ErrAbortHandler)
		})
		c.say("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		if rest, _ := io.ReadAll(c.Reader); len(rest) > 0 {
			t.Errorf("got %q, want an aborted connection", rest)
		}
		<-done
		if s.store != nil && len(s.store.live()) != 0 {
			t.Errorf("got %d records, want none", len(s.store.live()))
		}
	})
}

func TestPanicRecoveredWithinTheHandlerIsNoPanic(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).online(false)
		res := b.serve(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				_ = recover()
				w.WriteHeader(500)
			}()
			edit(r, 7)
			panic("boom")
		})
		if data, _ := b.peek(); res.StatusCode != 500 || data.N != 7 {
			t.Errorf("got %d and N=%d, want the handler's 500 and the edit stored", res.StatusCode, data.N)
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
					req.AddCookie(&http.Cookie{Name: "__Host-session", Value: b.cookie()})
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

// A hangingStore answers the named operations only when their context ends.
type hangingStore struct {
	sessions.Store
	mu  sync.Mutex
	ops []string
}

func (h *hangingStore) hang(ops ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = ops
}

func (h *hangingStore) wait(ctx context.Context, op string) error {
	h.mu.Lock()
	hangs := slices.Contains(h.ops, op)
	h.mu.Unlock()
	if !hangs {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (h *hangingStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	if err := h.wait(ctx, "Load"); err != nil {
		return sessions.Record{}, err
	}
	return h.Store.Load(ctx, id)
}

func (h *hangingStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	if err := h.wait(ctx, "Create"); err != nil {
		return 0, err
	}
	return h.Store.Create(ctx, id, rec)
}

func (h *hangingStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	if err := h.wait(ctx, "Update"); err != nil {
		return 0, err
	}
	return h.Store.Update(ctx, id, rec)
}

func (h *hangingStore) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	if err := h.wait(ctx, "Touch"); err != nil {
		return err
	}
	return h.Store.Touch(ctx, id, expires)
}

func (h *hangingStore) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	if err := h.wait(ctx, "Delete"); err != nil {
		return err
	}
	return h.Store.Delete(ctx, id, version)
}

func TestStoreThatHangsIsGivenUpAfterFiveSeconds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ops    []string
		loaded bool // the request brings a cookie
		do     func(*session)
		status int
	}{
		{"at Load", []string{"Load"}, true, func(*session) { panic("the handler must not run") }, 503},
		{"at Create", []string{"Create"}, false, func(s *session) { s.Data.N = 2 }, 503},
		{"at everything from Create on", []string{"Create", "Delete"}, false, func(s *session) { s.Data.N = 2 }, 503},
		{"at Update", []string{"Update"}, true, func(s *session) { s.Data.N = 2 }, 503},
		{"at Delete", []string{"Delete"}, true, (*session).Destroy, 503},
		{"at the Delete of RegenerateID", []string{"Delete"}, true, (*session).RegenerateID, 503},
		{"at Touch", []string{"Touch"}, true, func(*session) {}, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &hangingStore{Store: newPlainStore()}
				s := newSite(t, modes[2], func(c *config) { c.Store = h; c.IdleTimeout = time.Hour })
				b := s.browser()
				if tt.loaded {
					b.do(func(s *session) { s.Data.N = 1 })
				}
				time.Sleep(30 * time.Minute) // in the bubble; a Touch is due
				h.hang(tt.ops...)
				start := time.Now()
				res := b.do(tt.do)
				if got := time.Since(start); got < 5*time.Second || got > 5*time.Second {
					t.Errorf("got an answer after %v, want 5s", got)
				}
				if res.StatusCode != tt.status || len(res.setCookies()) > 0 {
					t.Errorf("got %d with %q, want %d without a cookie", res.StatusCode, res.setCookies(), tt.status)
				}
				if got := s.events.of(sessions.EventFailed); len(got) != 1 || !errors.Is(got[0].Err, context.DeadlineExceeded) {
					t.Errorf("got the events %v, want one that the time is over", got)
				}
			})
		})
	}
}

func TestSaveObeysItsContext(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ops    []string
		loaded bool
	}{
		{"at Update", []string{"Update"}, true},
		{"at Create", []string{"Create", "Delete"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &hangingStore{Store: newPlainStore()}
				s := newSite(t, modes[2], func(c *config) { c.Store = h })
				b := s.browser()
				if tt.loaded {
					b.do(func(s *session) { s.Data.N = 1 })
				}
				b.serve(func(w http.ResponseWriter, r *http.Request) {
					sess := sessions.Get[AppSession](r.Context())
					sess.Data.N = 2
					h.hang(tt.ops...)
					ctx, cancel := context.WithTimeout(r.Context(), 10*time.Millisecond)
					defer cancel()
					start := time.Now()
					err := sess.Save(ctx)
					if got := time.Since(start); got > 10*time.Millisecond || !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("got %v after %v, want the context's error after 10ms", err, got)
					}
					h.hang()
				})
				if data, _ := b.peek(); data.N != 2 {
					t.Errorf("got N=%d, want 2 by the commit that followed", data.N)
				}
			})
		})
	}
}

func TestFailedTouchIsTriedAndToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hangingStore{Store: newPlainStore()}
		s := newSite(t, modes[2], func(c *config) { c.Store = h; c.IdleTimeout = time.Hour })
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		time.Sleep(30 * time.Minute)
		h.hang("Touch")
		start := time.Now()
		res := b.serve(func(w http.ResponseWriter, r *http.Request) {
			sessions.Get[AppSession](r.Context())
			_, _ = io.WriteString(w, "page") // the commit; nothing is left to do at return
		})
		if got := time.Since(start); res.StatusCode != 200 || res.body != "page" || got != 5*time.Second {
			t.Errorf("got %d %q after %v, want the page after 5s", res.StatusCode, res.body, got)
		}
		if got := s.events.of(sessions.EventFailed); len(got) != 1 || !errors.Is(got[0].Err, context.DeadlineExceeded) {
			t.Errorf("got the events %v, want one failure", got)
		}
	})
}

func TestTimeoutHandlerOutsideIsSafe(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, tt := range []struct {
			name string
			do   func(*session)
			late bool
			n    int // in the next request, with a store
		}{
			{"with an edit", func(s *session) { s.Data.N = 2 }, false, 2},
			{"with a RegenerateID", func(s *session) { s.Data.N = 2; s.RegenerateID() }, true, 1},
		} {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t, m, nil)
					b := s.browser()
					b.do(func(s *session) { s.Data.N = 1 })
					done := make(chan struct{}, 1)
					next := s.handler
					s.handler = http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						defer func() { done <- struct{}{} }()
						next.ServeHTTP(w, r)
					}), time.Second, "timeout")
					res := b.serve(func(w http.ResponseWriter, r *http.Request) {
						sess := sessions.Get[AppSession](r.Context())
						<-r.Context().Done()
						tt.do(sess)
						_, _ = io.WriteString(w, "too late")
					})
					<-done
					if res.StatusCode != 503 || res.body != "timeout" || len(res.setCookies()) > 0 {
						t.Errorf("got %d %q with %q, want the timeout's answer", res.StatusCode, res.body, res.setCookies())
					}
					data, reason := b.peek()
					<-done
					want := 1
					if m.hasStore() {
						want = tt.n
					}
					if data.N != want || reason != sessions.ReasonNone {
						t.Errorf("got N=%d (%q), want %d in a live session", data.N, reason, want)
					}
					if late := len(s.events.of(sessions.EventLate)) > 0; tt.late && !late {
						t.Error("got no event for a RegenerateID that was not carried out")
					}
					if s.store != nil && len(s.store.live()) != 1 {
						t.Errorf("got %d records, want 1", len(s.store.live()))
					}
				})
			})
		}
	})
}

func TestTimeoutHandlerOutsideInTimeChangesNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		s.handler = http.TimeoutHandler(s.handler, time.Hour, "timeout")
		b := s.online(false)
		res := b.do(func(s *session) { s.Data.N = 7 })
		oneCookie(t, res.Header["Set-Cookie"])
		if data, _ := b.peek(); data.N != 7 {
			t.Errorf("got N=%d, want 7", data.N)
		}
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
		c.say("GET %s HTTP/1.0\r\nCookie: __Host-session=%s\r\n\r\n", path, b.cookie())
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
