package sessiontest_test

import (
	"context"
	"errors"
	"fmt"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/sessiontest"
)

type config = sessions.Config[AppSession]

// A kind is a way to store sessions.
type kind struct {
	name   string
	change func(*config)
}

var kinds = []kind{
	{"signed", func(*config) {}},
	{"sealed", func(c *config) { c.Encrypt = true }},
	{"in memory", func(c *config) { c.Store = new(sessions.MemoryStore) }},
	{"in memory, sealed", func(c *config) { c.Store, c.Encrypt = new(sessions.MemoryStore), true }},
}

// manage returns a Manager for a Config that the functions have changed.
func manage(t testing.TB, changes ...func(*config)) *sessions.Manager[AppSession] {
	t.Helper()
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	c := config{Keys: keys, Logger: slog.New(slog.DiscardHandler)}
	for _, change := range changes {
		change(&c)
	}
	m, err := sessions.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// handle sends a request with the cookie to a handler behind the middleware, and
// returns the cookies that the response sets.
func handle(m *sessions.Manager[AppSession], c *http.Cookie, f func(*sessions.Session[AppSession])) []*http.Cookie {
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(c)
	w := httptest.NewRecorder()
	m.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		f(sessions.Get[AppSession](r.Context()))
	})).ServeHTTP(w, r)
	return w.Result().Cookies()
}

func TestHandlerGetsTheSessionThatCookieStored(t *testing.T) {
	for _, k := range kinds {
		for _, want := range []AppSession{{UserID: 42, Theme: "dark"}, {}} {
			t.Run(fmt.Sprintf("%s, %+v", k.name, want), func(t *testing.T) {
				t.Parallel()
				m := manage(t, k.change)
				c := sessiontest.Cookie(t, m, want)
				if !c.HttpOnly || !c.Secure || c.Name != "__Host-Http-session" || c.MaxAge <= 0 {
					t.Errorf("got the cookie %v, want the default attributes", c)
				}
				handle(m, c, func(s *sessions.Session[AppSession]) {
					if s.IsNew() {
						t.Errorf("the session is new (%s), want a loaded one", s.Reason())
					}
					if s.Data != want {
						t.Errorf("the session holds %+v, want %+v", s.Data, want)
					}
					if flashes := s.Flashes(); flashes != nil {
						t.Errorf("got the messages %v, want none", flashes)
					}
				})
			})
		}
	}
}

// A watched store counts its write operations.
type watched struct {
	sessions.Store
	writes int
}

func (w *watched) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	w.writes++
	return w.Store.Create(ctx, id, rec)
}

func (w *watched) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	w.writes++
	return w.Store.Update(ctx, id, rec)
}

func (w *watched) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	w.writes++
	return w.Store.Touch(ctx, id, expires)
}

func (w *watched) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	w.writes++
	return w.Store.Delete(ctx, id, version)
}

func TestReadLeavesTheSessionAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &watched{Store: new(sessions.MemoryStore)}
		secret := sessions.NewSecret()
		keys, err := sessions.NewKeyring(secret)
		if err != nil {
			t.Fatal(err)
		}
		var events []sessions.Event
		m := manage(t, func(c *config) {
			c.Keys, c.Store, c.IdleTimeout = keys, store, time.Hour
			c.OnEvent = func(_ context.Context, e sessions.Event) { events = append(events, e) }
		})
		c := sessiontest.Cookie(t, m, AppSession{UserID: 42})
		handle(m, c, func(s *sessions.Session[AppSession]) { s.Flash("info", "hello") })
		// A use of the session would now extend the idle timeout and re-issue the
		// cookie under the new key.
		if err := keys.Replace(sessions.NewSecret(), secret); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Minute)
		store.writes, events = 0, nil
		for range 2 {
			data, flashes := sessiontest.Read(t, m, c)
			if want := (AppSession{UserID: 42}); data != want {
				t.Errorf("got %+v, want %+v", data, want)
			}
			if want := []sessions.Flash{{Kind: "info", Message: "hello"}}; !slices.Equal(flashes, want) {
				t.Errorf("got the messages %v, want %v", flashes, want)
			}
		}
		if store.writes != 0 || len(events) != 0 {
			t.Errorf("got %d writes and the events %v, want none", store.writes, events)
		}
		time.Sleep(2 * time.Minute)
		handle(m, c, func(s *sessions.Session[AppSession]) {
			if s.Reason() != sessions.ReasonUnknown {
				t.Errorf("the session exists an hour after its last use (%q), so Read was a use", s.Reason())
			}
		})
	})
}

// A failing is a testing.TB that records the failure of a test.
type failing struct {
	testing.TB
	text     string
	cleanups []func()
}

func (f *failing) Fatalf(format string, args ...any) {
	f.text = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (f *failing) Errorf(format string, args ...any) { f.text = fmt.Sprintf(format, args...) }
func (f *failing) Cleanup(cleanup func())            { f.cleanups = append(f.cleanups, cleanup) }

// failureOf returns the failure of f, or of its cleanup functions.
func failureOf(t *testing.T, f func(testing.TB)) string {
	t.Helper()
	tb := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(tb)
	}()
	<-done
	for _, cleanup := range slices.Backward(tb.cleanups) {
		cleanup()
	}
	return tb.text
}

// A down store returns errors.
type down struct{ sessions.Store }

func (down) Load(context.Context, sessions.ID) (sessions.Record, error) {
	return sessions.Record{}, errors.New("it is down")
}

func (down) Create(context.Context, sessions.ID, sessions.Record) (uint64, error) {
	return 0, errors.New("it is down")
}

func (down) Delete(context.Context, sessions.ID, uint64) error { return errors.New("it is down") }

func TestFailuresSayWhatToDo(t *testing.T) {
	signed := manage(t)
	inMemory := manage(t, func(c *config) { c.Store = new(sessions.MemoryStore) })
	inHour := manage(t, func(c *config) { c.Lifetime = time.Hour })
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	up := manage(t, func(c *config) { c.Keys, c.Store = keys, new(sessions.MemoryStore) })
	broken := manage(t, func(c *config) { c.Keys, c.Store = keys, down{} })
	cookie := func(m *sessions.Manager[AppSession]) *http.Cookie {
		return sessiontest.Cookie(t, m, AppSession{UserID: 42})
	}
	changed := func(c *http.Cookie, change func(*http.Cookie)) *http.Cookie {
		change(c)
		return c
	}
	read := func(m *sessions.Manager[AppSession], c *http.Cookie) func(testing.TB) {
		return func(tb testing.TB) { sessiontest.Read(tb, m, c) }
	}
	for _, tt := range []struct {
		name string
		do   func(testing.TB)
		want []string
	}{
		{"data that breaks a rule", func(tb testing.TB) { sessiontest.Cookie(tb, signed, AppSession{Theme: "pink"}) }, []string{"Theme", "oneof"}},
		{"data that breaks a rule, in memory", func(tb testing.TB) { sessiontest.Cookie(tb, inMemory, AppSession{UserID: -1}) }, []string{"UserID", "gte"}},
		{"data that breaks a rule, without a Manager", func(tb testing.TB) { sessiontest.Context(tb, AppSession{UserID: -1}) }, []string{"UserID", "gte"}},
		{"data above the size of a cookie", func(tb testing.TB) {
			type large struct{ S string }
			m, err := sessions.New(sessions.Config[large]{Keys: keys})
			if err != nil {
				t.Error(err)
			}
			sessiontest.Cookie(tb, m, large{strings.Repeat("s", 5000)})
		}, []string{"4096", "Config.Store"}},
		{"a type that cannot be stored", func(tb testing.TB) { sessiontest.Context(tb, struct{ F func() }{}) }, []string{"F", "func()"}},
		{"a store that is down", func(tb testing.TB) { sessiontest.Cookie(tb, broken, AppSession{UserID: 42}) }, []string{"it is down"}},
		{"a handler that breaks a rule", func(tb testing.TB) {
			sessions.Get[AppSession](sessiontest.Context(tb, AppSession{UserID: 42})).Data.Theme = "pink"
		}, []string{"as the handler left it", "Theme", "oneof"}},
		{"no cookie", read(signed, nil), []string{"nil", "the one that was sent"}},
		{"a cookie that ends the session", read(signed, handle(signed, cookie(signed), (*sessions.Session[AppSession]).Destroy)[0]), []string{"destroyed"}},
		{"a cookie of another name", read(signed, &http.Cookie{Name: "theme", Value: "dark"}), []string{`"theme"`, "cookie __Host-Http-session", "another name"}},
		{"a cookie of another Manager", read(signed, cookie(inHour)), []string{"forged", "other keys"}},
		{"a cookie of another mode", read(signed, cookie(inMemory)), []string{"forged", "another mode"}},
		{"a forged cookie", read(signed, changed(cookie(signed), func(c *http.Cookie) { c.Value = c.Value[:20] + "x" + c.Value[21:] })), []string{"forged", "changed"}},
		{"a value in quotes", read(signed, changed(cookie(signed), func(c *http.Cookie) { c.Value = `"` + c.Value + `"` })), []string{"forged"}},
		{"a destroyed session", func(tb testing.TB) {
			c := cookie(inMemory)
			handle(inMemory, c, (*sessions.Session[AppSession]).Destroy)
			sessiontest.Read(tb, inMemory, c)
		}, []string{"unknown", "destroyed", "last response"}},
		{"a store that is down when the session is read", read(broken, cookie(up)), []string{"status 503", "log"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := failureOf(t, tt.do)
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("got %q, want %q in it", got, want)
				}
			}
		})
	}
}

func TestDataThatCannotBeStoredIsNotTriedTwice(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			m := manage(t, k.change, func(c *config) {
				c.ErrorHandler = func(_ http.ResponseWriter, _ *http.Request, err error) {
					t.Errorf("the application's ErrorHandler got %v, want it left alone", err)
				}
			})
			failureOf(t, func(tb testing.TB) { sessiontest.Cookie(tb, m, AppSession{UserID: -1}) })
		})
	}
}

func TestReadSaysThatASessionIsOver(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*config)
		want   string
	}{
		{"expired", func(c *config) { c.Lifetime = time.Hour }, "(expired)"},
		{"idle", func(c *config) { c.IdleTimeout = time.Hour }, "(idle)"},
		{"expired in memory", func(c *config) { c.Lifetime, c.Store = time.Hour, new(sessions.MemoryStore) }, "(expired)"},
		{"idle in memory", func(c *config) { c.IdleTimeout, c.Store = time.Hour, new(sessions.MemoryStore) }, "(unknown)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := manage(t, tt.change)
				c := sessiontest.Cookie(t, m, AppSession{UserID: 42})
				time.Sleep(time.Hour)
				if got := failureOf(t, func(tb testing.TB) { sessiontest.Read(tb, m, c) }); !strings.Contains(got, tt.want) {
					t.Errorf("got %q, want %q in it", got, tt.want)
				}
			})
		})
	}
}

func TestReadHasAdviceForEveryReason(t *testing.T) {
	for _, reason := range []sessions.Reason{
		sessions.ReasonNoCookie, sessions.ReasonForged, sessions.ReasonExpired, sessions.ReasonIdle, sessions.ReasonUnknown,
		sessions.ReasonUndecodable, sessions.ReasonInvalid, sessions.ReasonNewer, sessions.ReasonImported, sessions.ReasonReplaced,
	} {
		if sessiontest.Advice[reason] == "" {
			t.Errorf("Read has no advice for the reason %q", reason)
		}
	}
}

func TestReadExplainsACookieFromBeforeALogin(t *testing.T) {
	m := manage(t, func(c *sessions.Config[AppSession]) { c.Store = new(sessions.MemoryStore) })
	c := sessiontest.Cookie(t, m, AppSession{Theme: "dark"})
	r := httptest.NewRequest(http.MethodPost, "/login?password=1815", nil)
	r.AddCookie(c)
	m.Middleware(http.HandlerFunc(login)).ServeHTTP(httptest.NewRecorder(), r)
	if got, want := failureOf(t, func(tb testing.TB) { sessiontest.Read(tb, m, c) }), "(replaced): it has a newer id"; !strings.Contains(got, want) {
		t.Errorf("got %q, want %q in it", got, want)
	}
}

func TestSessionsOfTwoTypesPassOneHandler(t *testing.T) {
	type Admin struct {
		Name string `msgpack:"name"`
	}
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	admins, err := sessions.New(sessions.Config[Admin]{Keys: keys, Cookie: sessions.Cookie{Name: "__Host-Http-admin"}})
	if err != nil {
		t.Fatal(err)
	}
	m := manage(t, func(c *sessions.Config[AppSession]) { c.Store = new(sessions.MemoryStore) })
	visitor, admin := sessiontest.Cookie(t, m, AppSession{UserID: 42}), sessiontest.Cookie(t, admins, Admin{"Ada"})
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(visitor)
	r.AddCookie(admin)
	w := httptest.NewRecorder()
	m.Middleware(admins.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Data.Theme = "dark"
		sessions.Get[Admin](r.Context()).Data.Name = "Grace"
	}))).ServeHTTP(w, r)
	got, _ := sessiontest.Read(t, m, visitor) // it is in the store
	set := w.Result().Cookies()
	if len(set) != 1 || got != (AppSession{UserID: 42, Theme: "dark"}) {
		t.Fatalf("got %+v and the cookies %v, want the theme and one cookie", got, set)
	}
	if got, _ := sessiontest.Read(t, admins, set[0]); got.Name != "Grace" {
		t.Errorf("got %+v, want Grace", got)
	}
}

func TestSessionOfAContextIsReal(t *testing.T) {
	ctx := sessiontest.Context(t, AppSession{UserID: 42})
	s := sessions.Get[AppSession](ctx)
	if s.IsNew() || s.Data.UserID != 42 {
		t.Fatalf("got %v with %+v, want a loaded session of user 42", s, s.Data)
	}
	if again := sessions.Get[AppSession](context.WithoutCancel(ctx)); again != s {
		t.Error("a context from this one has another session")
	}

	was := s.ID()
	s.RegenerateID()
	s.Update(func(d *AppSession) { d.UserID++ })
	s.Flash("info", "hello")
	if err := s.Save(ctx); err != nil {
		t.Fatal(err)
	}
	if s.ID() == was || s.Data.UserID != 43 {
		t.Errorf("got the id %s and user %d, want another id and user 43", s.ID(), s.Data.UserID)
	}

	s.Data.Theme = "pink"
	if err := s.Save(ctx); !errors.Is(err, sessions.ErrInvalid) {
		t.Errorf("Save of an invalid session: got %v, want ErrInvalid", err)
	}

	s.Reset()
	if s.Reason() != sessions.ReasonReset || s.Data != (AppSession{}) {
		t.Errorf("after Reset: got %v with %+v, want a new session with zero data", s, s.Data)
	}
	s.Data.UserID = 7
	if err := s.Save(ctx); err != nil {
		t.Fatal(err)
	}

	s.Destroy()
	if s.Data != (AppSession{}) {
		t.Errorf("after Destroy: got %+v, want zero data", s.Data)
	}
}

func TestContextWithZeroDataIsAFirstVisit(t *testing.T) {
	s := sessions.Get[AppSession](sessiontest.Context(t, AppSession{}))
	if s.Reason() != sessions.ReasonNoCookie {
		t.Errorf("got the reason %q, want %q", s.Reason(), sessions.ReasonNoCookie)
	}
}

func TestContextEndsWithItsTest(t *testing.T) {
	var ctx context.Context
	t.Run("a test", func(t *testing.T) {
		ctx = sessiontest.Context(t, AppSession{UserID: 42})
		if err := ctx.Err(); err != nil {
			t.Errorf("got %v during the test", err)
		}
	})
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("got %v after the test, want context.Canceled", ctx.Err())
	}
	if err := sessions.Get[AppSession](ctx).Save(context.Background()); !errors.Is(err, sessions.ErrTooLate) {
		t.Errorf("Save after the test: got %v, want ErrTooLate", err)
	}
}

func TestContextWorksInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sessions.Get[AppSession](sessiontest.Context(t, AppSession{UserID: 42}))
		time.Sleep(time.Hour)
		synctest.Wait()
		if age := time.Since(s.CreatedAt()); age < time.Hour {
			t.Errorf("the session is %v old, want an hour", age)
		}
		s.Data.UserID++
	})
}

func TestContextsOfParallelTestsHaveDifferentSessions(t *testing.T) {
	var mu sync.Mutex
	ids := map[string]bool{}
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			ctx := sessiontest.Context(t, AppSession{UserID: i + 1})
			login(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "POST", "/login?password=1066", nil))
			s := sessions.Get[AppSession](ctx)
			if s.Data.UserID != i+1 {
				t.Errorf("got user %d, want %d", s.Data.UserID, i+1)
			}
			mu.Lock()
			defer mu.Unlock()
			if ids[s.ID()] {
				t.Error("two tests have the same session")
			}
			ids[s.ID()] = true
		})
	}
}

func TestPackageCommentShowsTestsThatRun(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, block := range new(comment.Parser).Parse(f.Doc.Text()).Content {
		code, ok := block.(*comment.Code)
		if !ok {
			continue
		}
		shown++
		if !strings.Contains(string(example), code.Text) {
			t.Errorf("example_test.go lacks code of the package comment:\n%s", code.Text)
		}
	}
	if shown != 2 {
		t.Errorf("the package comment shows %d tests, want 2", shown)
	}
}
