package sessions_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// The session of a new program, and the same as an older program knows it.
type (
	newProfile struct {
		City  string    `msgpack:"city"`
		Since time.Time `msgpack:"since"`
	}
	newSession struct {
		UserID  int               `msgpack:"uid" validate:"required"`
		N       int               `msgpack:"n"`
		Plan    string            `msgpack:"plan"`
		Trial   time.Time         `msgpack:"trial"`
		Rights  map[string]bool   `msgpack:"rights"`
		Profile newProfile        `msgpack:"profile"`
		Other   *newProfile       `msgpack:"other"`
		Notes   map[string]string `msgpack:"notes"`
	}
	oldProfile struct {
		City string `msgpack:"city"`
	}
	oldSession struct {
		UserID  int               `msgpack:"uid" validate:"required"`
		N       int               `msgpack:"n"`
		Profile oldProfile        `msgpack:"profile"`
		Other   *oldProfile       `msgpack:"other"`
		Notes   map[string]string `msgpack:"notes"`
	}
)

// A deployment is two programs with the same keys and the same store.
type deployment struct {
	old     *sessions.Manager[oldSession]
	new     *sessions.Manager[newSession]
	cookies map[string]string
}

func deploy(t *testing.T, m mode, change func(*sessions.Config[oldSession])) *deployment {
	t.Helper()
	keys := newKeys(t)
	var store sessions.Store
	if m.hasStore() {
		store = new(sessions.MemoryStore)
	}
	o := sessions.Config[oldSession]{Keys: keys, Store: store, Encrypt: m.encrypt}
	if change != nil {
		change(&o)
	}
	older, err := sessions.New(o)
	if err != nil {
		t.Fatal(err)
	}
	newer, err := sessions.New(sessions.Config[newSession]{Keys: keys, Store: store, Encrypt: m.encrypt})
	if err != nil {
		t.Fatal(err)
	}
	return &deployment{older, newer, map[string]string{}}
}

func (d *deployment) do(h func(http.Handler) http.Handler, f func(ctx context.Context)) {
	r := httptest.NewRequest("GET", "https://example.com/", nil)
	for name, value := range d.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	h(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { f(r.Context()) })).ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if d.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(d.cookies, c.Name)
		}
	}
}

func (d *deployment) inOld(f func(s *sessions.Session[oldSession])) {
	d.do(d.old.Middleware, func(ctx context.Context) { f(sessions.Get[oldSession](ctx)) })
}

func (d *deployment) inNew(f func(s *sessions.Session[newSession])) {
	d.do(d.new.Middleware, func(ctx context.Context) { f(sessions.Get[newSession](ctx)) })
}

func fullSession() newSession {
	at := time.Unix(1_700_000_000, 123).UTC()
	return newSession{
		UserID: 42, N: 1, Plan: "gold", Trial: at, Rights: map[string]bool{"write": true},
		Profile: newProfile{"Bern", at}, Other: &newProfile{"Basel", at}, Notes: map[string]string{"a": "b"},
	}
}

func (d *deployment) want(t *testing.T, want newSession) {
	t.Helper()
	d.inNew(func(s *sessions.Session[newSession]) {
		got := s.Data
		got.Trial, got.Profile.Since = got.Trial.UTC(), got.Profile.Since.UTC()
		if got.Other != nil {
			other := *got.Other
			other.Since = other.Since.UTC()
			got.Other = &other
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v (%q), want %+v", got, s.Reason(), want)
		}
	})
}

func TestAnOlderProgramKeepsTheFieldsThatItDoesNotKnow(t *testing.T) {
	for _, tt := range []struct {
		name   string
		does   func(s *sessions.Session[oldSession])
		expect func(want *newSession)
	}{
		{"which only reads", func(*sessions.Session[oldSession]) {}, nil},
		{"which leaves a message", func(s *sessions.Session[oldSession]) { s.Flash("info", "hello") }, nil},
		{"which changes a field", func(s *sessions.Session[oldSession]) { s.Data.N++ }, func(w *newSession) { w.N++ }},
		{"which changes a field of a struct", func(s *sessions.Session[oldSession]) { s.Data.Profile.City = "Chur" }, func(w *newSession) { w.Profile.City = "Chur" }},
		{"which changes a struct behind a pointer", func(s *sessions.Session[oldSession]) { s.Data.Other.City = "Chur" }, func(w *newSession) { w.Other.City = "Chur" }},
		{"which takes a pointer away", func(s *sessions.Session[oldSession]) { s.Data.Other = nil }, func(w *newSession) { w.Other = nil }},
		{"which repeats an Update", func(s *sessions.Session[oldSession]) { s.Update(func(d *oldSession) { d.N += 2 }) }, func(w *newSession) { w.N += 2 }},
		{"which changes the lifetime", func(s *sessions.Session[oldSession]) { s.SetLifetime(time.Hour) }, nil},
		{"which rotates the id", func(s *sessions.Session[oldSession]) { s.RotateID(); s.Data.N++ }, func(w *newSession) { w.N++ }},
		{"in a new authentication, does not", func(s *sessions.Session[oldSession]) { s.RegenerateID() }, func(w *newSession) {
			*w = newSession{UserID: w.UserID, N: w.N, Profile: newProfile{City: w.Profile.City}, Other: &newProfile{City: w.Other.City}, Notes: w.Notes}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				d := deploy(t, m, nil)
				want := fullSession()
				d.inNew(func(s *sessions.Session[newSession]) { s.Data = want })
				for range 3 { // in turn: what the older has written is read again
					d.inOld(func(s *sessions.Session[oldSession]) {
						if s.Data.UserID != 42 {
							t.Fatalf("got user %d, %q in the older program", s.Data.UserID, s.Reason())
						}
					})
				}
				d.inOld(tt.does)
				d.inOld(func(*sessions.Session[oldSession]) {})
				if tt.expect != nil {
					tt.expect(&want)
				}
				d.want(t, want)
				d.inNew(func(s *sessions.Session[newSession]) { s.Data.N = 100 })
				want.N = 100
				d.want(t, want)
			})
		})
	}
}

func TestAMergeKeepsTheNewestUnknownFields(t *testing.T) {
	for _, m := range modes[2:] {
		t.Run(m.name, func(t *testing.T) {
			d := deploy(t, m, nil)
			want := fullSession()
			d.inNew(func(s *sessions.Session[newSession]) { s.Data = want })
			d.inOld(func(s *sessions.Session[oldSession]) {
				s.Data.N = 7
				d.inNew(func(s *sessions.Session[newSession]) {
					s.Data.Plan, s.Data.Profile.Since, s.Data.Notes["c"] = "silver", time.Unix(5, 0), "d"
				})
			})
			want.N, want.Plan, want.Profile.Since, want.Notes["c"] = 7, "silver", time.Unix(5, 0).UTC(), "d"
			d.want(t, want)
			// An Edit of the older program keeps them too.
			var id string
			d.inOld(func(s *sessions.Session[oldSession]) { id = s.ID() })
			if err := d.old.Edit(bg, id, func(s *oldSession) { s.N = 8 }); err != nil {
				t.Fatal(err)
			}
			want.N = 8
			d.want(t, want)
		})
	}
}

func TestUnknownFieldsCountTowardsTheSize(t *testing.T) {
	d := deploy(t, modes[0], func(c *sessions.Config[oldSession]) {
		c.ErrorHandler = func(_ http.ResponseWriter, _ *http.Request, err error) { panic(err) }
	})
	d.inNew(func(s *sessions.Session[newSession]) {
		s.Data = newSession{UserID: 1, Plan: string(make([]byte, 2000))}
	})
	defer func() {
		if err := recover(); err == nil {
			t.Error("got no error, want ErrTooLarge")
		}
	}()
	d.inOld(func(s *sessions.Session[oldSession]) {
		s.Data.Notes = map[string]string{"x": string(make([]byte, 1000))}
	})
}

func TestAnUnknownFieldAloneKeepsASession(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		d := deploy(t, m, nil)
		d.inNew(func(s *sessions.Session[newSession]) { s.Data = newSession{UserID: 42, Plan: "gold"} })
		d.inOld(func(s *sessions.Session[oldSession]) { s.Flash("info", "bye"); s.Data = oldSession{} })
		d.inOld(func(s *sessions.Session[oldSession]) {
			if got := s.Flashes(); len(got) != 1 || s.IsNew() {
				t.Errorf("got %v, %q, want the message", got, s.Reason())
			}
		})
		d.inOld(func(s *sessions.Session[oldSession]) {
			if s.IsNew() {
				t.Errorf("got a new session (%s), want the one that holds a field of the newer program", s.Reason())
			}
		})
	})
}

func TestARollingDeploymentLosesNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		d := deploy(t, m, nil)
		want := fullSession()
		d.inNew(func(s *sessions.Session[newSession]) { s.Data = want })
		for i := range 300 {
			switch i % 5 {
			case 0:
				d.inOld(func(s *sessions.Session[oldSession]) { s.Data.N = i })
				want.N = i
			case 1:
				d.inNew(func(s *sessions.Session[newSession]) { s.Data.Plan = fmt.Sprint("plan ", i) })
				want.Plan = fmt.Sprint("plan ", i)
			case 2:
				d.inOld(func(s *sessions.Session[oldSession]) { s.Flash("info", fmt.Sprint(i)) })
			case 3:
				d.inNew(func(s *sessions.Session[newSession]) {
					if got := s.Flashes(); len(got) != 1 || got[0].Message != fmt.Sprint(i-1) {
						t.Fatalf("got %v, want the message of before", got)
					}
				})
			case 4:
				d.inOld(func(s *sessions.Session[oldSession]) { s.Data.Other.City = fmt.Sprint(i) })
				want.Other.City = fmt.Sprint(i)
			}
		}
		d.want(t, want)
	})
}
