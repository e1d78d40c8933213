package sessions_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// A StaffSession is the session of a second Manager.
type StaffSession struct {
	Level int    `msgpack:"level"`
	Desk  string `msgpack:"desk"`
}

func newStaff(t testing.TB, change func(*sessions.Config[StaffSession])) *sessions.Manager[StaffSession] {
	t.Helper()
	cfg := sessions.Config[StaffSession]{Keys: newKeys(t), Cookie: sessions.Cookie{Name: "__Host-staff-session"}, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	m, err := sessions.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// panicOf returns what f panics with, nil if it does not.
func panicOf(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

func TestFilesOfAnUploadAreRemovedAfterTheRequest(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for _, tt := range []struct {
		name string
		then func()
	}{
		{"that is answered", func() {}},
		{"that panics", func() { panic(http.ErrAbortHandler) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, modes[0], nil)
			held := 0
			ended := make(chan struct{})
			path := s.route(func(_ http.ResponseWriter, r *http.Request) {
				if err := r.ParseMultipartForm(1 << 10); err != nil {
					t.Error(err)
				}
				files, _ := os.ReadDir(os.TempDir())
				held = len(files)
				tt.then()
			})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(ended)
				defer func() { _ = recover() }() // after which net/http removes them as well
				s.handler.ServeHTTP(w, r)
			}))
			var body bytes.Buffer
			form := multipart.NewWriter(&body)
			file, _ := form.CreateFormFile("file", "file")
			_, _ = file.Write(make([]byte, 12<<20))
			_ = form.Close()
			res, err := http.Post(server.URL+path, form.FormDataContentType(), &body)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			<-ended
			server.Close() // waits for the request's end
			if files, _ := os.ReadDir(os.TempDir()); held != 1 || len(files) != 0 {
				t.Errorf("got %d files in the request and %d after it, want 1 and none", held, len(files))
			}
		})
	}
}

func TestTheRouteIsSeenOutsideOfTheMiddleware(t *testing.T) {
	s := newSite(t, modes[0], nil)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /items/{id}", func(http.ResponseWriter, *http.Request) {})
	r := httptest.NewRequest("GET", "/items/7", nil)
	s.mgr.Middleware(mux).ServeHTTP(httptest.NewRecorder(), r)
	if r.Pattern != "GET /items/{id}" {
		t.Errorf("got the pattern %q, want that of the mux inside", r.Pattern)
	}
}

func TestGetWithoutTheMiddlewarePanicsWithTheCure(t *testing.T) {
	s := newSite(t, modes[0], nil)
	for present, ctx := range map[string]context.Context{
		"nor a session of another type": context.Background(),
		"only sessions_test.AppSession": contextOf(s),
	} {
		t.Run(present, func(t *testing.T) {
			v := fmt.Sprint(panicOf(func() { sessions.Get[StaffSession](ctx) }))
			for _, want := range []string{"sessions: ", "sessions_test.StaffSession", present, "Middleware"} {
				if !strings.Contains(v, want) {
					t.Errorf("got %q, want %q in it", v, want)
				}
			}
			if sess, ok := sessions.Lookup[StaffSession](ctx); ok || sess != nil {
				t.Errorf("got %v, %t from Lookup, want nil, false", sess, ok)
			}
		})
	}
}

// contextOf returns the context of a request to the site, which has ended.
func contextOf(s *site) (ctx context.Context) {
	path := s.route(func(_ http.ResponseWriter, r *http.Request) { ctx = r.Context() })
	s.handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	return ctx
}

func TestGetAndLookupAreTheSameSessionInEveryDerivedContext(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		type key struct{}
		s := newSite(t, m, nil)
		b := s.browser()
		b.serve(func(w http.ResponseWriter, r *http.Request) {
			want := sessions.Get[AppSession](r.Context())
			cancelled, cancel := context.WithCancel(r.Context())
			cancel()
			for i, ctx := range []context.Context{
				r.Context(), r.WithContext(context.WithValue(r.Context(), key{}, 1)).Context(), cancelled,
				context.WithoutCancel(r.Context()), r.Clone(cancelled).Context(),
			} {
				if got, ok := sessions.Lookup[AppSession](ctx); !ok || got != want || sessions.Get[AppSession](ctx) != want {
					t.Errorf("got another session in context %d", i)
				}
			}
			sessions.Get[AppSession](context.WithValue(r.Context(), key{}, 1)).Data.N = 7
		})
		if data, _ := b.peek(); data.N != 7 {
			t.Errorf("got N=%d, want 7", data.N)
		}
	})
}

func TestContextOfTheRequestIsKept(t *testing.T) {
	type key struct{}
	s := newSite(t, modes[0], nil)
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "outer"), time.Hour)
	defer cancel()
	path := s.route(func(_ http.ResponseWriter, r *http.Request) {
		want, _ := ctx.Deadline()
		if got, ok := r.Context().Deadline(); !ok || got != want || r.Context().Value(key{}) != "outer" || r.Context().Err() != nil {
			t.Errorf("got the deadline %v and the value %v, want those of outside", got, r.Context().Value(key{}))
		}
		cancel()
		<-r.Context().Done()
		if !errors.Is(r.Context().Err(), context.Canceled) {
			t.Errorf("got %v, want the cancellation of outside", r.Context().Err())
		}
	})
	s.handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil).WithContext(ctx))
}

// An adapter may use one http.Request for all, or hand the inner one on in its place.
func TestContextStaysWhenTheOuterRequestIsOverwritten(t *testing.T) {
	type key struct{}
	s := newSite(t, modes[0], nil)
	var outer *http.Request
	path := s.route(func(_ http.ResponseWriter, r *http.Request) {
		for _, other := range []*http.Request{httptest.NewRequest("GET", "/another", nil), r} {
			*outer = *other
			if got := r.Context().Value(key{}); got != "outer" || r.Context().Err() != nil {
				t.Errorf("got the value %v and %v, want those of the request as it came", got, r.Context().Err())
			}
		}
	})
	outer = httptest.NewRequest("GET", path, nil)
	outer = outer.WithContext(context.WithValue(outer.Context(), key{}, "outer"))
	s.handler.ServeHTTP(httptest.NewRecorder(), outer)
}

func TestSameManagerTwiceIsOneSession(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		var outside *session
		inner := s.handler
		s.handler = s.mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			outside = sessions.Get[AppSession](r.Context())
			s.mgr.Middleware(inner).ServeHTTP(w, r)
		}))
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		if s.store != nil {
			s.store.resetCounts()
		}
		res := b.do(func(s *session) {
			if s != outside {
				t.Error("got two sessions, want one")
			}
			s.RegenerateID()
			s.Data.N = 7
		})
		oneCookie(t, res.Header["Set-Cookie"])
		if got := strings.Join(res.Header["Vary"], ", "); got != "Cookie" {
			t.Errorf("got Vary %q, want Cookie once", got)
		}
		if s.store != nil && (s.store.count("Load") != 1 || s.store.count("Create") != 1) {
			t.Errorf("got the store calls %v, want one Load and one Create", s.store.counts)
		}
		if data, _ := b.peek(); data.N != 7 {
			t.Errorf("got N=%d, want 7", data.N)
		}
	})
}

func TestManagersOfDifferentTypesLiveInOneChain(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, staffOutside := range []bool{false, true} {
			t.Run(fmt.Sprintf("staff outside=%t", staffOutside), func(t *testing.T) {
				s := newSite(t, m, nil)
				staff := newStaff(t, func(c *sessions.Config[StaffSession]) {
					c.Encrypt = m.encrypt
					if m.hasStore() {
						c.Store = m.store()
					}
				})
				inner := s.handler
				if staffOutside {
					s.handler = staff.Middleware(inner)
				} else {
					run := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						s.mu.Lock()
						f := s.runs[r.URL.Path]
						s.mu.Unlock()
						f(w, r)
					})
					s.handler = s.mgr.Middleware(staff.Middleware(run))
				}
				b := s.online(false)
				res := b.serve(func(w http.ResponseWriter, r *http.Request) {
					sessions.Get[AppSession](r.Context()).Data.N = 1
					sessions.Get[StaffSession](r.Context()).Data.Level = 2
					_, _ = io.WriteString(w, "x")
				})
				if lines := res.setCookies(); len(lines) != 2 {
					t.Errorf("got %q, want a cookie of each", lines)
				}
				res = b.serve(func(w http.ResponseWriter, r *http.Request) {
					if n, l := sessions.Get[AppSession](r.Context()).Data.N, sessions.Get[StaffSession](r.Context()).Data.Level; n != 1 || l != 2 {
						t.Errorf("got N=%d and Level=%d, want 1 and 2", n, l)
					}
					sessions.Get[StaffSession](r.Context()).Destroy()
				})
				if lines := res.setCookies(); len(lines) != 1 || !strings.HasPrefix(lines[0], "__Host-staff-session=; ") {
					t.Errorf("got %q, want the staff's cookie expired and nothing else", lines)
				}
				b.serve(func(w http.ResponseWriter, r *http.Request) {
					if n, l := sessions.Get[AppSession](r.Context()).Data.N, sessions.Get[StaffSession](r.Context()).Data.Level; n != 1 || l != 0 {
						t.Errorf("got N=%d and Level=%d, want 1 and 0", n, l)
					}
				})
				res = b.serve(func(w http.ResponseWriter, r *http.Request) {
					sessions.Get[AppSession](r.Context()).Data.UserID = -1 // cannot be stored
					sessions.Get[StaffSession](r.Context()).Data.Level = 3
					w.WriteHeader(204)
				})
				if res.StatusCode != 500 || staffOutside && len(res.setCookies()) != 1 {
					t.Errorf("got %d with %q, want 500, and the outer session stored with it", res.StatusCode, res.setCookies())
				}
				if data, _ := b.peek(); data.N != 1 {
					t.Errorf("got N=%d, want 1", data.N)
				}
			})
		}
	})
}

func TestManagersThatShareATypeOrANamePanicNamingBoth(t *testing.T) {
	ran := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") })
	app := func(name string) *sessions.Manager[AppSession] {
		m, err := sessions.New(config{Keys: newKeys(t), Cookie: sessions.Cookie{Name: name}})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	between := newStaff(t, func(c *sessions.Config[StaffSession]) { c.Cookie.Name = "__Host-between" })
	same := newStaff(t, func(c *sessions.Config[StaffSession]) { c.Cookie.Name = "__Host-one" })
	for _, tt := range []struct {
		name    string
		handler http.Handler
		want    []string
	}{
		{"the same T", app("__Host-one").Middleware(app("__Host-two").Middleware(ran)), []string{"sessions_test.AppSession", `"__Host-one"`, `"__Host-two"`}},
		{"the same T, with another between", app("__Host-one").Middleware(between.Middleware(app("__Host-two").Middleware(ran))), []string{"sessions_test.AppSession", `"__Host-one"`, `"__Host-two"`}},
		{"the same name", app("__Host-one").Middleware(same.Middleware(ran)), []string{"sessions_test.AppSession", "sessions_test.StaffSession", `"__Host-one"`}},
		{"the same name the other way round", same.Middleware(app("__Host-one").Middleware(ran)), []string{"sessions_test.AppSession", "sessions_test.StaffSession", `"__Host-one"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := fmt.Sprint(panicOf(func() {
				tt.handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
			}))
			for _, want := range tt.want {
				if !strings.Contains(v, want) {
					t.Errorf("got the panic %q, want %s in it", v, want)
				}
			}
		})
	}
}

func TestUseAfterTheResponseIsReported(t *testing.T) {
	verbs := map[string]func(*session){
		"Update":       func(s *session) { s.Update(func(d *AppSession) { d.N = 9 }) },
		"Flash":        func(s *session) { s.Flash("info", "x") },
		"Flashes":      func(s *session) { s.Flashes() },
		"RegenerateID": (*session).RegenerateID,
		"SetLifetime":  func(s *session) { s.SetLifetime(time.Hour) },
		"Destroy":      (*session).Destroy,
		"Reset":        (*session).Reset,
		"Save": func(s *session) {
			s.Data.N = 9
			_ = s.Save(context.Background())
		},
	}
	for name, verb := range verbs {
		t.Run(name, func(t *testing.T) {
			for _, asked := range []bool{true, false} {
				t.Run(fmt.Sprintf("asked for before=%t", asked), func(t *testing.T) {
					eachMode(t, func(t *testing.T, m mode) {
						s := newSite(t, m, nil)
						b := s.browser()
						b.do(func(s *session) { s.Data.N = 1; s.Flash("info", "waits") })
						var ctx context.Context
						b.serve(func(_ http.ResponseWriter, r *http.Request) {
							ctx = context.WithoutCancel(r.Context())
							if asked {
								sessions.Get[AppSession](ctx)
							}
						})
						s.events.reset()
						if s.store != nil {
							s.store.resetCounts()
						}
						sess := sessions.Get[AppSession](ctx)
						_, _, _, _ = sess.ID(), sess.Reason(), sess.ExpiresAt(), sess.Data.N // a look is allowed
						verb(sess)
						if late := s.events.of(sessions.EventLate); len(late) != 1 {
							t.Errorf("got the events %v, want one that it is late", s.events.all)
						}
						if s.store != nil && len(s.store.counts) > 0 {
							t.Errorf("got the store calls %v, want none", s.store.counts)
						}
						if data, _ := b.peek(); data.N != 1 {
							t.Errorf("got N=%d, want 1", data.N)
						}
					})
				})
			}
		})
	}
}

func TestSaveAfterTheResponseIsTooLate(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		var kept *session
		b.do(func(s *session) { kept = s; s.Data.N = 1 })
		kept.Data.N = 2
		if err := kept.Save(t.Context()); !errors.Is(err, sessions.ErrTooLate) {
			t.Errorf("got %v, want ErrTooLate", err)
		}
	})
}

func TestLoadThatFailsIsAnsweredByErrorHandlerInPlaceOfTheHandler(t *testing.T) {
	protocols(t, func(t *testing.T, http2 bool) {
		eachStore(t, func(t *testing.T, m mode) {
			for _, own := range []bool{false, true} {
				t.Run(fmt.Sprintf("own ErrorHandler=%t", own), func(t *testing.T) {
					s := newSite(t, m, func(c *config) {
						if own {
							c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
								if !errors.Is(err, errDown) || r.Method != "GET" {
									t.Errorf("got %v for a %s, want the store's error", err, r.Method)
								}
								w.WriteHeader(http.StatusTeapot)
							}
						}
					})
					b := s.online(http2)
					b.do(func(s *session) { s.Data.N = 7 })
					cookie := b.cookie()
					s.events.reset()
					s.store.hook(fails("Load"), nil)
					res := b.serve(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") })
					wantStatus, wantBody := 503, "Service Unavailable\n"
					if own {
						wantStatus, wantBody = http.StatusTeapot, ""
					}
					if res.StatusCode != wantStatus || res.body != wantBody || res.Header.Get("Cache-Control") != "no-store" {
						t.Errorf("got %d %q (%s), want %d %q and no-store", res.StatusCode, res.body, res.Header.Get("Cache-Control"), wantStatus, wantBody)
					}
					if len(res.Header["Set-Cookie"]) > 0 || b.cookie() != cookie {
						t.Errorf("got %q, want the cookie left alone", res.Header["Set-Cookie"])
					}
					if got := s.events.of(sessions.EventFailed); len(got) != 1 || !errors.Is(got[0].Err, errDown) {
						t.Errorf("got the events %v, want one failure", s.events.all)
					}
					visitor := b.clone()
					visitor.cookies = map[string]string{"__Host-Http-session": "garbage"}
					if res := visitor.do(func(*session) {}); res.StatusCode != 200 {
						t.Errorf("got %d for a visitor, want 200: his session needs no store", res.StatusCode)
					}
					s.store.hook(nil, nil)
					if data, _ := b.peek(); data.N != 7 {
						t.Errorf("got N=%d when the store is back, want 7", data.N)
					}
				})
			}
		})
	})
}

func TestCancelledLoadShinesThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hangingStore{Store: newPlainStore()}
		var failure error
		s := newSite(t, modes[2], func(c *config) {
			c.Store = h
			c.ErrorHandler = func(_ http.ResponseWriter, _ *http.Request, err error) { failure = err }
		})
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		h.hang("Load")
		start := time.Now()
		b.send(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") }, func(r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), time.Second)
			t.Cleanup(cancel)
			*r = *r.WithContext(ctx)
		})
		if got := time.Since(start); got != time.Second || !errors.Is(failure, context.DeadlineExceeded) {
			t.Errorf("got %v after %v, want the request's own deadline", failure, got)
		}
	})
}

func TestRequestThatDoesNotAskCostsNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, func(c *config) { c.IdleTimeout = time.Hour })
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			time.Sleep(30 * time.Minute)
			s.events.reset()
			if s.store != nil {
				s.store.resetCounts()
			}
			res := b.serve(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "asset") })
			for _, name := range []string{"Set-Cookie", "Vary", "Cache-Control"} {
				if got := res.Header[name]; len(got) > 0 {
					t.Errorf("got %s: %q, want none", name, got)
				}
			}
			if s.store != nil && (len(s.store.counts) != 1 || s.store.count("Load") != 1) || len(s.events.all) > 0 {
				t.Errorf("got events %v, want none, and one Load of a store", s.events.all)
			}
		})
	})
}

func TestEachReasonIsToldOnce(t *testing.T) {
	keys := newKeys(t)
	type strict struct {
		UserID string `msgpack:"uid"`
	}
	for _, tt := range []struct {
		name   string
		modes  func(mode) bool
		make   func(*config) // of the manager that stores
		read   func(*config) // of the manager that reads
		do     func(*session)
		wait   time.Duration
		cookie func(string) string
		want   sessions.Reason
	}{
		{name: "no cookie", cookie: func(string) string { return "" }, want: sessions.ReasonNoCookie},
		{name: "forged", cookie: func(v string) string { return forge(v, 1) }, want: sessions.ReasonForged},
		{name: "expired", wait: 24 * time.Hour, want: sessions.ReasonExpired},
		{name: "idle", modes: func(m mode) bool { return !m.hasStore() }, make: func(c *config) { c.IdleTimeout = time.Hour }, wait: time.Hour, want: sessions.ReasonIdle},
		{name: "idle in a store", modes: mode.hasStore, make: func(c *config) { c.IdleTimeout = time.Hour }, wait: time.Hour, want: sessions.ReasonUnknown},
		{name: "invalid", read: func(c *config) { c.Validate = func(d *AppSession) error { return errors.New("no more") } }, want: sessions.ReasonInvalid},
		{name: "a panic of Validate", read: func(c *config) { c.Validate = func(d *AppSession) error { panic(d.Name) } }, want: sessions.ReasonInvalid},
		{name: "newer", make: func(c *config) { c.Version = 2 }, want: sessions.ReasonNewer},
		{name: "undecodable", read: func(c *config) {
			c.Version = 1
			c.Upgrades = []sessions.Upgrade{sessions.From(0, func(strict) (AppSession, error) { return AppSession{}, nil })}
		}, want: sessions.ReasonUndecodable},
		{name: "an upgrade that fails", read: func(c *config) {
			c.Version = 1
			c.Upgrades = []sessions.Upgrade{sessions.From(0, func(AppSession) (AppSession, error) { return AppSession{N: 9}, errDown })}
		}, want: sessions.ReasonUndecodable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				if tt.modes != nil && !tt.modes(m) {
					return // of another mode
				}
				synctest.Test(t, func(t *testing.T) {
					var store sessions.Store
					if m.hasStore() {
						store = m.store()
					}
					with := func(change func(*config)) func(*config) {
						return func(c *config) {
							c.Keys = keys
							if store != nil {
								c.Store = store
							}
							if tt.make != nil {
								tt.make(c)
								c.Version = 0
							}
							if change != nil {
								change(c)
							}
						}
					}
					writer := newSite(t, m, with(tt.make))
					first := writer.browser()
					first.do(func(s *session) { s.Data.N, s.Data.UserID = 7, 42 })
					time.Sleep(tt.wait)
					value := first.cookie()
					if tt.cookie != nil {
						value = tt.cookie(value)
					}
					s := newSite(t, m, with(tt.read))
					b := s.browser()
					if value != "" {
						b.cookies["__Host-Http-session"] = value
					}
					res := b.do(func(s *session) {
						if s.Reason() != tt.want || !s.IsNew() || s.Data.N != 0 || s.Data.UserID != 0 {
							t.Errorf("got %q and %d, want a fresh session: %s", s.Reason(), s.Data.N, tt.want)
						}
					})
					if res.StatusCode != 200 || len(res.Header["Set-Cookie"]) > 0 {
						t.Errorf("got %d with %q, want 200 and the cookie left alone", res.StatusCode, res.Header["Set-Cookie"])
					}
					got := s.events.of(sessions.EventRefused)
					switch {
					case tt.want == sessions.ReasonNoCookie:
						if len(s.events.all) > 0 {
							t.Errorf("got the events %v, want none", s.events.all)
						}
					case len(got) != 1 || got[0].Reason != tt.want || len(s.events.all) != 1:
						t.Errorf("got the events %v, want one refusal: %s", s.events.all, tt.want)
					}
					s.events.reset()
					res = b.do(func(s *session) { s.Data.N = 8 })
					if tt.name == "a panic of Validate" || tt.name == "invalid" {
						return // it refuses this one too
					}
					oneCookie(t, res.Header["Set-Cookie"])
					if got := s.events.of(sessions.EventStarted); len(got) != 1 || got[0].Reason != tt.want || got[0].ID == "" {
						t.Errorf("got the events %v, want one start with an id: %s", s.events.all, tt.want)
					}
				})
			})
		})
	}
}

func TestResetIsAReasonAndNoRefusal(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		s.events.reset()
		b.do(func(s *session) {
			s.Reset()
			if s.Reason() != sessions.ReasonReset || !s.IsNew() {
				t.Errorf("got %q, want reset", s.Reason())
			}
			s.Data.N = 2
		})
		got := s.events.all
		if len(got) != 2 || got[0].Kind != sessions.EventEnded || got[0].Reason != sessions.ReasonReset || got[1].Kind != sessions.EventStarted || got[1].Reason != sessions.ReasonReset {
			t.Errorf("got the events %v, want the end of one session and the start of another", got)
		}
	})
}

// The words that nothing may show, in a session and around it.
const (
	secretName  = "Grace-Hopper-marker"
	secretFlash = "flash-marker"
	secretOwner = "owner-marker"
)

// hidden fails if a text shows a secret, a cookie or a value of a session.
func hidden(t testing.TB, what, text string, cookies ...string) {
	t.Helper()
	words := []string{secretName, secretFlash, secretOwner, "8675309", string(testSecret), hex.EncodeToString(testSecret), base64.RawStdEncoding.EncodeToString(testSecret), "48 49 50 51 52 53 54 55", "0x30, 0x31, 0x32, 0x33"}
	for _, w := range words[:4] {
		words = append(words, hex.EncodeToString([]byte(w)), strings.ToUpper(hex.EncodeToString([]byte(w))), base64.StdEncoding.EncodeToString([]byte(w)))
	}
	for _, c := range cookies {
		if len(c) < 20 {
			continue
		}
		words = append(words, c, c[len(c)-20:])
		if token, err := base64.RawURLEncoding.DecodeString(c); err == nil && len(token) > 64 {
			words = append(words, hex.EncodeToString(token[15:47]))
		}
	}
	for _, w := range words {
		if strings.Contains(text, w) {
			t.Errorf("%s shows %.40q: %.200q", what, w, text)
			return
		}
	}
}

func fillSecrets(s *session) {
	s.Data = AppSession{UserID: 8675309, Name: secretName, Extra: map[string]string{secretOwner: secretName}, Tags: []string{secretName}}
	s.Flash("info", secretFlash)
}

func TestEventsAndLogsHoldNoCookieNoSecretAndNoValue(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			logger, text := logged()
			var cookies []string
			s := newSite(t, m, func(c *config) {
				c.Logger = logger
				c.IdleTimeout = time.Hour
				if _, ok := c.Store.(sessions.OwnerStore); ok {
					c.Owner = func(d *AppSession) string { return secretOwner }
				}
				c.Import = func(r *http.Request) (AppSession, bool) {
					if r.Header.Get("Panic") != "" {
						panic(secretName)
					}
					return AppSession{Role: secretName}, true
				}
				c.ImportCookies = []http.Cookie{{Name: "legacy"}}
			})
			b := s.browser()
			do := func(f func(*session)) {
				b.do(f)
				if c := b.cookie(); c != "" {
					cookies = append(cookies, c)
				}
			}
			do(fillSecrets)
			do(func(s *session) { s.Data.Role = secretName })      // invalid
			do(func(s *session) { s.Data.UserID = -8675309 })      // invalid
			do(func(s *session) { s.RegenerateID(); s.Data.N++ })  // moved
			b.serve(func(w http.ResponseWriter, r *http.Request) { // late
				sess := sessions.Get[AppSession](r.Context())
				w.(http.Flusher).Flush()
				sess.Data.Name = secretName + "!"
				sess.RegenerateID()
			})
			do(func(s *session) {
				for range 40 {
					s.Flash("info", secretFlash)
				}
			})
			do(func(s *session) { s.Data.Name = strings.Repeat(secretName, 300) })
			if s.store != nil {
				s.store.hook(fails("Update", "Delete"), nil)
				do(func(s *session) { s.Data.Name = secretName + "?" })
				do((*session).Destroy)
				s.store.hook(nil, nil)
				old := b.clone()
				b.clone().do((*session).Destroy)
				old.do(func(s *session) { s.Data.Name = secretName })
			}
			for _, v := range []string{"garbage", forge(b.cookie(), 3), b.cookie() + "; __Host-Http-session=" + cookies[0]} {
				cookieHeader(s, func(s *session) { s.Flashes() }, "__Host-Http-session="+v)
			}
			time.Sleep(2 * time.Hour)
			do(fillSecrets)
			fresh := s.browser()
			fresh.do(func(*session) {})
			fresh.send(func(_ http.ResponseWriter, r *http.Request) { sessions.Get[AppSession](r.Context()) }, func(r *http.Request) { r.Header.Set("Panic", "1") })
			hidden(t, "the log", text(), cookies...)
			for _, e := range s.events.all {
				hidden(t, "an event", fmt.Sprintf("%v %+v %#v", e, e, e), cookies...)
				if e.ID != "" && !slices.Contains([]int{32, 64}, len(e.ID)) {
					t.Errorf("got the id %q in an event, want a public one", e.ID)
				}
			}
			if len(s.events.all) < 10 || len(text()) == 0 {
				t.Errorf("got %d events, want many", len(s.events.all))
			}
		})
	})
}

func TestHealthyRequestsAreSilentAtInfo(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		var b strings.Builder
		s := newSite(t, m, func(c *config) { c.Logger = slog.New(slog.NewTextHandler(&b, nil)) })
		browser := s.browser()
		browser.do(func(s *session) { s.Data.N = 1; s.Flash("info", "x") })
		browser.do(func(s *session) { s.RegenerateID(); s.Flashes() })
		browser.do(func(s *session) { s.Reset() })
		cookieHeader(s, func(s *session) { s.Flashes() }, "__Host-Http-session=forged")
		if b.Len() > 0 {
			t.Errorf("got the log %q, want nothing", b.String())
		}
	})
}

func TestPanicOfOnEventIsCaught(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		logger, text := logged()
		told := 0
		s := newSite(t, m, func(c *config) {
			c.Logger = logger
			c.OnEvent = func(context.Context, sessions.Event) { told++; panic(secretName) }
		})
		b := s.browser()
		b.cookies["__Host-Http-session"] = "garbage"
		res := b.do(func(s *session) { s.Data.N = 7 })
		oneCookie(t, res.Header["Set-Cookie"])
		if data, _ := b.peek(); res.StatusCode != 200 || data.N != 7 || told != 2 {
			t.Errorf("got %d, N=%d and %d events, want a healthy request with two", res.StatusCode, data.N, told)
		}
		if got := text(); !strings.Contains(got, "OnEvent panicked") || strings.Contains(got, secretName) {
			t.Errorf("got the log %q, want the panic without its value", got)
		}
	})
}

func TestOnEventHearsTheContextOfTheRequest(t *testing.T) {
	type key struct{}
	var got any
	s := newSite(t, modes[0], func(c *config) {
		c.OnEvent = func(ctx context.Context, e sessions.Event) {
			got = ctx.Value(key{})
			if sess, ok := sessions.Lookup[AppSession](ctx); !ok || sess.ID() != e.ID {
				t.Errorf("got %v, %t from Lookup, want the session of the event", sess, ok)
			}
		}
	})
	s.browser().send(func(_ http.ResponseWriter, r *http.Request) { edit(r, 7) }, func(r *http.Request) {
		*r = *r.WithContext(context.WithValue(r.Context(), key{}, "outer"))
	})
	if got != "outer" {
		t.Errorf("got %v, want the value of the request's context", got)
	}
}

func TestNothingPrintsASecretOrData(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		keys := newKeys(t)
		var cfg config
		s := newSite(t, m, func(c *config) {
			c.Keys = keys
			c.Cookie.Name = "__Host-Http-session"
			c.ImportCookies = []http.Cookie{{Name: "legacy", Value: secretName}}
			cfg = *c
		})
		b := s.browser()
		b.do(fillSecrets)
		record := sessions.Record{Data: []byte(secretName), Version: 8675, Owner: secretOwner, Expires: time.Now()}
		b.do(func(sess *session) {
			if sess.Data.Name != secretName {
				t.Fatal("the session has no data to hide")
			}
			copied := *sess
			type group struct {
				Keys    *sessions.Keyring
				Ring    sessions.Keyring
				Manager *sessions.Manager[AppSession]
				Config  config
				Session *session
				Copy    session
				Record  sessions.Record
			}
			g := group{keys, *keys, s.mgr, cfg, sess, copied, record}
			for name, v := range map[string]any{
				"*Keyring": keys, "Keyring": *keys, "**Keyring": &keys,
				"*Manager": s.mgr, "Manager": *s.mgr,
				"*Config": &cfg, "Config": cfg,
				"*Session": sess, "Session": copied, "*Session of a copy": &copied,
				"*Record": &record, "Record": record,
				"[]Record": []sessions.Record{record}, "map of Session": map[string]session{"a": copied}, "[]any": []any{sess, cfg, keys, record},
				"a struct of all": g, "a pointer to it": &g,
				"an unexported Keyring": struct{ k sessions.Keyring }{*keys},
				"an unexported Manager": struct{ m sessions.Manager[AppSession] }{*s.mgr},
			} {
				for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%X", "% x", "%s", "%q", "%d", "%o", "%b", "%c", "%t", "%e", "%g", "%U", "%10v", "%-10.3v", "%!"} {
					hidden(t, name+" under "+verb, fmt.Sprintf(verb, v), b.cookie())
				}
				hidden(t, name+" in Sprint", fmt.Sprint(v)+fmt.Sprintln(v), b.cookie())
				text, err := json.Marshal(v)
				if err != nil {
					t.Errorf("%s: JSON: %v", name, err)
				}
				hidden(t, name+" in JSON", string(text), b.cookie())
				var log bytes.Buffer
				slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v, slog.Group("g", "v", v))
				slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v, slog.Group("g", "v", v))
				hidden(t, name+" in slog", log.String(), b.cookie())
			}
			for _, tt := range []struct{ got, want string }{
				{fmt.Sprint(sess), sess.ID()},
				{fmt.Sprintf("%x", copied), sess.ID()},
				{fmt.Sprint(s.mgr), "AppSession"},
				{fmt.Sprint(cfg), "AppSession"},
				{fmt.Sprint(record), "19 bytes"},
			} {
				if !strings.Contains(tt.got, tt.want) {
					t.Errorf("got %q, want %q in it: a print should tell which it is", tt.got, tt.want)
				}
			}
		})
	})
}

func TestZeroValuesPrintWithoutAPanic(t *testing.T) {
	for _, v := range []any{
		sessions.Keyring{}, &sessions.Keyring{}, (*sessions.Keyring)(nil), sessions.Manager[AppSession]{}, (*sessions.Manager[AppSession])(nil),
		config{}, &config{}, session{}, &session{}, (*session)(nil), sessions.Record{},
	} {
		if got := fmt.Sprintf("%v", v); strings.Contains(got, "PANIC") || got == "" {
			t.Errorf("got %q for a %T", got, v)
		}
		if _, err := json.Marshal(v); err != nil {
			t.Errorf("got %v for a %T", err, v)
		}
	}
}

func TestContextOfARequestPrintsNoCookie(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		var printed string
		b.serve(func(w http.ResponseWriter, r *http.Request) {
			sess := sessions.Get[AppSession](r.Context())
			fillSecrets(sess)
			_ = sess.Save(r.Context())
			w.WriteHeader(200)
			for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
				printed += fmt.Sprintf(verb, r.Context()) + fmt.Sprintf(verb, context.WithValue(r.Context(), textKey{}, "v"))
			}
		})
		if b.cookie() == "" {
			t.Fatal("the browser got no cookie")
		}
		hidden(t, "the context", printed, b.cookie())
	})
}

func TestErrorsHoldNoData(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		var failures []error
		s := newSite(t, m, func(c *config) {
			c.ErrorHandler = func(_ http.ResponseWriter, _ *http.Request, err error) { failures = append(failures, err) }
		})
		b := s.browser()
		b.do(fillSecrets)
		b.do(func(s *session) { s.Data.Role = secretName })
		if !m.hasStore() {
			b.do(func(s *session) { s.Data.Name = strings.Repeat(secretName, 300) })
		} else {
			s.store.hook(fails("Update"), nil)
			b.do(func(s *session) { s.Data.Name = secretName + "?" })
		}
		if len(failures) != 2 || !errors.Is(failures[0], sessions.ErrInvalid) || !strings.Contains(failures[0].Error(), "Role") || !strings.Contains(failures[0].Error(), "oneof") {
			t.Fatalf("got %v, want ErrInvalid naming Role and its rule, and one more", failures)
		}
		for _, err := range failures {
			hidden(t, "an error", fmt.Sprintf("%v %+v", err, err), b.cookie())
		}
	})
}

// importing makes a site that adopts the sessions of an older library, whose
// cookies are legacy and legacy.sig. calls counts.
func importing(t testing.TB, m mode, calls *int, f func(*http.Request) (AppSession, bool)) *site {
	t.Helper()
	return newSite(t, m, func(c *config) {
		c.Import = func(r *http.Request) (AppSession, bool) {
			*calls++
			return f(r)
		}
		c.ImportCookies = []http.Cookie{{Name: "legacy", Path: "/old", Domain: "example.com", Secure: true}, {Name: "legacy.sig", Path: "/"}}
	})
}

func fromLegacy(r *http.Request) (AppSession, bool) {
	c, err := r.Cookie("legacy")
	return AppSession{UserID: 42, Name: "Ada"}, err == nil && c.Value == "ada"
}

// gone picks the lines that expire a cookie.
func gone(lines []string, name string) (found []string) {
	for _, l := range lines {
		if strings.HasPrefix(l, name+"=; ") && strings.Contains(l, "Max-Age=0") && strings.Contains(l, "Expires=Thu, 01 Jan 1970") {
			found = append(found, l)
		}
	}
	return found
}

func TestImportAdoptsASessionOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		calls := 0
		s := importing(t, m, &calls, fromLegacy)
		b := s.browser()
		b.cookies["legacy"], b.cookies["legacy.sig"], b.cookies["other"] = "ada", "sig", "1"
		res := b.serve(func(w http.ResponseWriter, r *http.Request) {
			for range 3 {
				sess := sessions.Get[AppSession](r.Context())
				if sess.Reason() != sessions.ReasonImported || !sess.IsNew() || sess.Data.UserID != 42 {
					t.Errorf("got %q and user %d, want the imported session", sess.Reason(), sess.Data.UserID)
				}
			}
		})
		lines := res.Header["Set-Cookie"]
		oneCookie(t, lines)
		if len(lines) != 3 || len(gone(lines, "legacy")) != 1 || len(gone(lines, "legacy.sig")) != 1 {
			t.Errorf("got %q, want ours, and both old ones expired", lines)
		}
		for _, l := range gone(lines, "legacy") {
			if !strings.Contains(l, "Path=/old") || !strings.Contains(l, "Domain=example.com") || !strings.Contains(l, "Secure") {
				t.Errorf("got %q, want the attributes that it was set with", l)
			}
		}
		if res.Header.Get("Cache-Control") != "private" {
			t.Errorf("got Cache-Control %q, want private", res.Header.Get("Cache-Control"))
		}
		if got := s.events.all; len(got) != 1 || got[0].Kind != sessions.EventStarted || got[0].Reason != sessions.ReasonImported {
			t.Errorf("got the events %v, want one start", got)
		}
		b.cookies["legacy"] = "ada" // it came back
		res = b.do(func(s *session) {
			if s.IsNew() || s.Data.UserID != 42 {
				t.Errorf("got %q and user %d, want the stored session", s.Reason(), s.Data.UserID)
			}
		})
		if calls != 1 || len(res.Header["Set-Cookie"]) > 0 {
			t.Errorf("got %d calls of Import and %q, want one call", calls, res.Header["Set-Cookie"])
		}
	})
}

func TestImportOfAnEmptySessionAdoptsNothing(t *testing.T) {
	for name, empty := range map[string]AppSession{
		"the zero T":                    {},
		"only what would not be stored": {Local: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				calls := 0
				s := importing(t, m, &calls, func(*http.Request) (AppSession, bool) { return empty, true })
				res := cookieHeader(s, func(s *session) {
					if s.Reason() != sessions.ReasonNoCookie || fmt.Sprint(s.Data) != fmt.Sprint(AppSession{}) {
						t.Errorf("got %q and %+v, want an ordinary visitor", s.Reason(), s.Data)
					}
				}, "legacy=ada")
				if len(res.Header["Set-Cookie"]) > 0 || len(s.events.all) > 0 || calls != 1 {
					t.Errorf("got %q, the events %v and %d calls, want one call and nothing else: the foreign cookie stays", res.Header["Set-Cookie"], s.events.all, calls)
				}
				if s.store != nil && len(s.store.live()) > 0 {
					t.Errorf("got %d records, want none", len(s.store.live()))
				}
				// What the visitor does is a session of its own, beside the foreign one.
				res = cookieHeader(s, func(s *session) { s.Flash("info", "x") }, "legacy=ada")
				if lines := res.Header["Set-Cookie"]; len(lines) != 1 || len(gone(lines, "legacy")) != 0 {
					t.Errorf("got %q, want our cookie alone", lines)
				}
			})
		})
	}
}

func TestImportIsNotCalled(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			s := importing(t, m, &calls, fromLegacy)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			good := b.cookie()
			before := calls
			for _, v := range []string{good, "", "garbage", forge(good, 1)} {
				res := cookieHeader(s, func(s *session) {
					if s.Data.UserID != 0 {
						t.Errorf("got user %d beside our cookie %.10q, want ours to count", s.Data.UserID, v)
					}
				}, "__Host-Http-session="+v+"; legacy=ada")
				if len(res.Header["Set-Cookie"]) > 0 {
					t.Errorf("got %q, want the old cookies left alone", res.Header["Set-Cookie"])
				}
			}
			time.Sleep(24 * time.Hour)
			cookieHeader(s, func(s *session) {
				if s.Reason() != sessions.ReasonExpired {
					t.Errorf("got %q, want expired", s.Reason())
				}
			}, "__Host-Http-session="+good+"; legacy=ada")
			b = s.browser()
			b.cookies["legacy"] = "ada"
			res := b.serve(func(http.ResponseWriter, *http.Request) {}) // nobody asks
			if calls != before || len(res.Header["Set-Cookie"]) > 0 {
				t.Errorf("got %d calls and %q, want none", calls-before, res.Header["Set-Cookie"])
			}
		})
	})
}

func TestImportThatFindsNothingGivesAnOrdinaryVisitor(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		calls := 0
		s := importing(t, m, &calls, fromLegacy)
		b := s.browser()
		b.cookies["legacy"] = "somebody else"
		res := b.do(func(s *session) {
			if s.Reason() != sessions.ReasonNoCookie || s.Data.UserID != 0 || s.Data.Name != "" {
				t.Errorf("got %q and %+v, want an empty session", s.Reason(), s.Data)
			}
		})
		if len(res.Header["Set-Cookie"]) > 0 || len(s.events.all) > 0 || calls != 1 {
			t.Errorf("got %q, events %v and %d calls, want one call and nothing else", res.Header["Set-Cookie"], s.events.all, calls)
		}
	})
}

func TestImportCookiesAreExpiredByDestroyAndReset(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for name, verb := range map[string]func(*session){"Destroy": (*session).Destroy, "Reset": (*session).Reset} {
			for _, tt := range []struct {
				name   string
				ours   string // "": none, "good": a stored session
				legacy string
				want   int // lines of ours
			}{
				{"of an imported session", "", "ada", 0},
				{"beside what Import did not take", "", "somebody else", 0},
				{"beside our session", "good", "ada", 1},
				{"beside a useless cookie of ours", "garbage", "ada", 1},
			} {
				t.Run(name+" "+tt.name, func(t *testing.T) {
					calls := 0
					s := importing(t, m, &calls, fromLegacy)
					header := "legacy=" + tt.legacy
					switch tt.ours {
					case "good":
						header += "; __Host-Http-session=" + storedCookie(s, 1)
					case "garbage":
						header += "; __Host-Http-session=garbage"
					}
					lines := cookieHeader(s, verb, header).Header["Set-Cookie"]
					if len(lines) != 1+tt.want || len(gone(lines, "legacy")) != 1 || len(gone(lines, "__Host-Http-session")) != tt.want {
						t.Errorf("got %q, want the old cookie expired, and %d of ours", lines, tt.want)
					}
					if s.store != nil && len(s.store.live()) != 0 {
						t.Errorf("got %d records, want none", len(s.store.live()))
					}
				})
			}
			t.Run(name+" before a panic", func(t *testing.T) {
				calls := 0
				s := importing(t, m, &calls, fromLegacy)
				rec := httptest.NewRecorder()
				r := httptest.NewRequest("GET", s.route(func(_ http.ResponseWriter, r *http.Request) {
					verb(sessions.Get[AppSession](r.Context()))
					panic("boom")
				}), nil)
				r.Header.Set("Cookie", "legacy=ada")
				if v := panicOf(func() { s.handler.ServeHTTP(rec, r) }); v != "boom" {
					t.Errorf("got %v, want the handler's panic", v)
				}
				if lines := rec.Header()["Set-Cookie"]; len(lines) != 1 || len(gone(lines, "legacy")) != 1 {
					t.Errorf("got %q, want the old cookie expired", lines)
				}
			})
		}
	})
}

func TestImportCookiesStayWhenTheAdoptionFails(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		calls := 0
		s := importing(t, m, &calls, fromLegacy)
		s.store.hook(fails("Create"), nil)
		res := cookieHeader(s, func(*session) {}, "legacy=ada")
		if res.StatusCode != 503 || len(res.Header["Set-Cookie"]) > 0 {
			t.Errorf("got %d with %q, want 503 and the old cookie left alone", res.StatusCode, res.Header["Set-Cookie"])
		}
	})
}

func TestImportedSessionThatPanicsIsNotAdopted(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		calls := 0
		s := importing(t, m, &calls, fromLegacy)
		values := recovered(s)
		b := s.browser()
		b.cookies["legacy"] = "ada"
		res := b.do(func(*session) { panic("boom") })
		if v := <-values; v != "boom" || len(res.Header["Set-Cookie"]) > 0 {
			t.Errorf("got %v and %q, want the panic and nothing sent", v, res.Header["Set-Cookie"])
		}
	})
}

func TestImportThatIsOfNoUseIsSetAside(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    func(*http.Request) (AppSession, bool)
		want sessions.Reason
	}{
		{"invalid by a tag", func(*http.Request) (AppSession, bool) { return AppSession{Name: secretName, Role: "emperor"}, true }, sessions.ReasonInvalid},
		{"a panic", func(*http.Request) (AppSession, bool) { panic(secretName) }, sessions.ReasonUndecodable},
		{"a panic of nil", func(*http.Request) (AppSession, bool) { panic(nil) }, sessions.ReasonUndecodable}, //nolint:govet // on purpose
		{"a Get within", func(r *http.Request) (AppSession, bool) { return sessions.Get[AppSession](r.Context()).Data, true }, sessions.ReasonUndecodable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				calls := 0
				s := importing(t, m, &calls, tt.f)
				b := s.browser()
				b.cookies["legacy"] = "ada"
				res := b.do(func(s *session) {
					if !s.IsNew() || s.Reason() == sessions.ReasonImported || s.Data.Name != "" || s.Data.Role != "" {
						t.Errorf("got %q and %+v, want an empty session", s.Reason(), s.Data)
					}
				})
				if res.StatusCode != 200 || len(res.Header["Set-Cookie"]) > 0 {
					t.Errorf("got %d with %q, want 200 and nothing sent", res.StatusCode, res.Header["Set-Cookie"])
				}
				got := s.events.of(sessions.EventRefused)
				if len(got) != 1 || got[0].Reason != tt.want {
					t.Fatalf("got the events %v, want one refusal: %s", s.events.all, tt.want)
				}
				hidden(t, "the event", fmt.Sprint(got[0].Err))
				res = b.do(func(s *session) { s.Data.N = 7 })
				oneCookie(t, res.Header["Set-Cookie"])
			})
		})
	}
}

func TestLateImportIsReported(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		calls := 0
		s := importing(t, m, &calls, fromLegacy)
		b := s.browser()
		b.cookies["legacy"] = "ada"
		res := b.serve(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			sessions.Get[AppSession](r.Context())
		})
		if late := s.events.of(sessions.EventLate); len(late) != 1 || len(res.Header["Set-Cookie"]) > 0 {
			t.Errorf("got the events %v and %q, want one that it is late", s.events.all, res.Header["Set-Cookie"])
		}
		if b.cookies["legacy"] != "ada" || s.store != nil && len(s.store.live()) > 0 {
			t.Error("want the old cookie kept and nothing stored")
		}
	})
}

func TestImportedSessionMayBeChangedAndMovedAtOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		calls := 0
		s := importing(t, m, &calls, fromLegacy)
		b := s.browser()
		b.cookies["legacy"] = "ada"
		res := b.do(func(s *session) {
			s.RegenerateID()
			s.Data.N = 7
			s.Flash("info", "welcome back")
			if err := s.Save(t.Context()); err != nil {
				t.Error(err)
			}
		})
		lines := res.Header["Set-Cookie"]
		oneCookie(t, lines)
		if len(lines) != 2 || len(gone(lines, "legacy")) != 1 {
			t.Errorf("got %q, want ours and the old one expired", lines)
		}
		b.do(func(s *session) {
			if s.Data.UserID != 42 || s.Data.N != 7 || len(s.Flashes()) != 1 {
				t.Errorf("got %+v, want all of it", s.Data)
			}
		})
	})
}

func TestNewRefusesImportCookiesThatCannotWork(t *testing.T) {
	adopt := func(*http.Request) (AppSession, bool) { return AppSession{}, false }
	for _, tt := range []struct {
		name    string
		imports func(*http.Request) (AppSession, bool)
		cookies []http.Cookie
	}{
		{"none", adopt, nil},
		{"a bad name", adopt, []http.Cookie{{Name: "a b"}}},
		{"no name", adopt, []http.Cookie{{}}},
		{"a bad path", adopt, []http.Cookie{{Name: "a", Path: "/;b"}}},
		{"a bad domain", adopt, []http.Cookie{{Name: "a", Domain: "a b"}}},
		{"our own name", adopt, []http.Cookie{{Name: "ok"}, {Name: "__Host-Http-session"}}},
		{"a bad name without Import", nil, []http.Cookie{{Name: "a b"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := sessions.New(config{Keys: newKeys(t), Import: tt.imports, ImportCookies: tt.cookies})
			if err == nil || !strings.Contains(err.Error(), "ImportCookies") {
				t.Errorf("got %v, want an error about ImportCookies", err)
			}
		})
	}
}

func TestConfigMayBeUsedAgain(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		calls := 0
		legacy := []http.Cookie{{Name: "legacy", Path: "/"}}
		s := newSite(t, m, func(c *config) {
			c.ImportCookies = legacy
			c.Import = func(*http.Request) (AppSession, bool) { calls++; return AppSession{N: 1}, true }
		})
		legacy[0].Name = "changed later"
		lines := cookieHeader(s, func(*session) {}, "legacy=1").Header["Set-Cookie"]
		if calls != 1 || len(gone(lines, "legacy")) != 1 {
			t.Errorf("got %q, want the Config as New got it", lines)
		}
	})
}

type textKey struct{}

func TestWhatAHandlerMakesOfItsRequestChangesNoSession(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		calls := 0
		s := importing(t, m, &calls, fromLegacy)
		stripped := func(user int) http.HandlerFunc {
			return func(_ http.ResponseWriter, r *http.Request) {
				r.Header = http.Header{} // such as for a request to another server
				if got := sessions.Get[AppSession](r.Context()).Data.UserID; got != user {
					t.Errorf("got user %d, want %d, whose cookie came", got, user)
				}
			}
		}
		b := s.browser()
		b.cookies["legacy"] = "ada"
		res := b.serve(stripped(42))
		if len(gone(res.Header["Set-Cookie"], "legacy")) != 1 {
			t.Errorf("got %q, want the old cookie expired", res.Header["Set-Cookie"])
		}
		b.serve(stripped(42))
	})
}

func TestASessionMayBeAskedForWhileTheHandlerReadsAForm(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) { // for the race detector
		calls := 0
		s := importing(t, m, &calls, fromLegacy)
		b := s.browser()
		b.cookies["legacy"] = "ada"
		b.serve(func(_ http.ResponseWriter, r *http.Request) {
			ctx, done := r.Context(), make(chan bool)
			go func() { sessions.Get[AppSession](ctx); close(done) }()
			_ = r.FormValue("q")
			r.Body = http.NoBody
			<-done
		})
	})
}
