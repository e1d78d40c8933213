package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/typedsessions/sessions"
)

// The releases of the application, from the oldest to the newest. They differ in what
// they keep for a session.
const (
	release10 = "1.0"
	release11 = "1.1" // has one more field, with the same schema version
	release20 = "2.0" // keeps the count elsewhere, with a new schema version and an upgrade
)

// Session10 is what release 1.0 keeps for a session.
type Session10 struct {
	User  string            `msgpack:"user"`
	Cart  map[string]string `msgpack:"cart"`  // changed by field
	Count int               `msgpack:"count"` // changed by Update
}

// Session11 has the fields of Session10 and one more.
type Session11 struct {
	User  string            `msgpack:"user"`
	Cart  map[string]string `msgpack:"cart"`
	Count int               `msgpack:"count"`
	Note  string            `msgpack:"note"`
}

// Session20 holds the same as Session11 in another way.
type Session20 struct {
	User  string            `msgpack:"user"`
	Cart  map[string]string `msgpack:"cart"`
	Order struct {
		Count int    `msgpack:"count"`
		Note  string `msgpack:"note"`
	} `msgpack:"order"`
}

func upgrade(old Session11) (Session20, error) {
	s := Session20{User: old.User, Cart: old.Cart}
	s.Order.Count, s.Order.Note = old.Count, old.Note
	return s, nil
}

// Parts are what the handlers use of a session, whatever the release.
type parts struct {
	user  *string
	cart  *map[string]string
	count *int
	note  *string // nil: the release has none
}

// A session is a pointer to the session of a release.
type session[T any] interface {
	*T
	parts() parts
}

func (s *Session10) parts() parts { return parts{&s.User, &s.Cart, &s.Count, nil} }
func (s *Session11) parts() parts { return parts{&s.User, &s.Cart, &s.Count, &s.Note} }
func (s *Session20) parts() parts { return parts{&s.User, &s.Cart, &s.Order.Count, &s.Order.Note} }

// A release is what an application process needs besides the type of its session.
type release struct {
	set   settings
	keys  *sessions.Keyring
	store sessions.Store
	tell  func(message)
	stop  <-chan struct{}
}

// newRelease returns the handler of the release that the settings name.
func newRelease(r release) (http.Handler, error) {
	switch r.set.Release {
	case release10:
		return newApp(r, sessions.Config[Session10]{})
	case release11:
		return newApp(r, sessions.Config[Session11]{})
	case release20:
		if r.set.Break == "schema" {
			return newApp(r, sessions.Config[Session20]{})
		}
		return newApp(r, sessions.Config[Session20]{Version: 1, Upgrades: []sessions.Upgrade{sessions.From(0, upgrade)}})
	}
	return nil, fmt.Errorf("there is no release %q", r.set.Release)
}

func newApp[T any, P session[T]](r release, c sessions.Config[T]) (http.Handler, error) {
	c.Keys, c.Store, c.Cookie, c.IdleTimeout = r.keys, r.store, sessions.Cookie{Insecure: true}, idleTimeout
	c.Owner = func(s *T) string { return *P(s).parts().user }
	c.MaxPerOwner = maxPerOwner
	c.Logger = slog.New(slog.DiscardHandler)
	c.OnEvent = func(_ context.Context, e sessions.Event) {
		switch e.Kind {
		case sessions.EventRenewed, sessions.EventEnded, sessions.EventDiscarded:
			r.tell(message{Kind: string(e.Kind), ID: e.ID, Prev: e.Previous, Why: string(e.Reason)})
		}
	}
	breakConfig(&c, r.set.Break)
	mgr, err := sessions.New(c)
	if err != nil {
		return nil, err
	}
	handler := breakHandler((&app[T, P]{mgr, r.stop}).handler(), r.set.Break)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set(releaseHeader, r.set.Release)
		if req.URL.Path == alivePath {
			return
		}
		handler.ServeHTTP(w, req)
	}), nil
}

// alivePath is answered without a session.
const alivePath = "/alive"
