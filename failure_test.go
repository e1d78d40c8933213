package sessions_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/typedsessions/sessions"
)

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
						if got := res.setCookies(); res.StatusCode != 500 || len(got) != 1 || !strings.HasPrefix(got[0], "__Host-Http-session=;") {
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

func TestAnErrorPageWrittenThroughOurWriterAfterAPanicStoresNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(sess *session) { sess.Data.N = 1 })
		// As frameworks do: the writer that the middleware hands on is the one
		// that their recover answers with.
		var ours http.ResponseWriter
		inside := s.handler
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if recover() != nil {
					ours.WriteHeader(http.StatusInternalServerError)
				}
			}()
			inside.ServeHTTP(w, r)
		})
		res := b.serve(func(w http.ResponseWriter, r *http.Request) {
			ours = w
			sess := sessions.Get[AppSession](r.Context())
			sess.Data.N = 2
			sess.RegenerateID()
			panic("in the handler")
		})
		if res.StatusCode != http.StatusInternalServerError || len(res.setCookies()) > 0 {
			t.Errorf("got status %d and cookies %q, want 500 and none", res.StatusCode, res.setCookies())
		}
		s.handler = inside
		b.do(func(sess *session) {
			if sess.Data.N != 1 {
				t.Errorf("got N=%d, want 1: a panic stores nothing", sess.Data.N)
			}
		})
	})
}

func TestAVisitorWhoHangsUpFillsNoErrorLog(t *testing.T) {
	for _, tt := range []struct {
		name       string
		err        error
		gone, want bool
	}{
		{"hangs up", context.Canceled, true, false},
		{"stays, and the store gives up", context.Canceled, false, true},
		{"meets a store that is down", errDown, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log strings.Builder
			s := newSite(t, modes[2], func(c *config) {
				c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo}))
			})
			b := s.browser()
			b.do(func(sess *session) { sess.Data.N = 1 })
			s.store.hook(func(string, sessions.ID) error { return tt.err }, nil)
			b.send(func(http.ResponseWriter, *http.Request) {}, func(r *http.Request) {
				if tt.gone {
					ctx, hangUp := context.WithCancel(r.Context())
					hangUp()
					*r = *r.WithContext(ctx)
				}
			})
			if logged := log.Len() > 0; logged != tt.want {
				t.Errorf("got the log %q, want one: %t", log.String(), tt.want)
			}
		})
	}
}
