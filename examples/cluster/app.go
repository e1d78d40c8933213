package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/redisstore"
)

// The simulated users know these settings of the application.
const (
	maxPerOwner = 2
	idleTimeout = 3 * time.Minute
)

// AppSession is what the application keeps for a session.
type AppSession struct {
	User  string            `msgpack:"user"`
	Cart  map[string]string `msgpack:"cart"`  // changed by field
	Count int               `msgpack:"count"` // changed by Update
}

// Settings are the first line of the standard input of an application process, as
// JSON.
type settings struct {
	Connection connection
	Keys       string // of the key ring
	Break      string // mine, or the fault of a brokenStore
}

// A message is a line that an application process writes to its standard output.
type message struct {
	Addr string    `json:",omitempty"` // it serves there
	Keys bool      `json:",omitempty"` // it has replaced its key ring
	Kind string    `json:",omitempty"` // of an event of a session
	ID   string    `json:",omitempty"`
	Prev string    `json:",omitempty"`
	Why  string    `json:",omitempty"`
	Pid  int       `json:"-"`
	At   time.Time `json:"-"`
}

// crashed is the kind of a message about a process that ended and was not killed.
const crashed = "crashed"

// A view is the answer of every handler: the session as the handler left it.
type view struct {
	ID    string
	User  string
	Cart  map[string]string
	Count int
}

// runApp is the application process. It serves until its standard input ends, which
// happens when the parent ends. Each further line of the input is a new key ring.
func runApp() error {
	in := bufio.NewScanner(os.Stdin)
	if !in.Scan() {
		return errors.New("no settings on standard input")
	}
	var set settings
	if err := json.Unmarshal(in.Bytes(), &set); err != nil {
		return err
	}
	keys, err := sessions.ParseKeyring(set.Keys)
	if err != nil {
		return err
	}
	opened, closeStore, err := set.Connection.open(context.Background())
	if err != nil {
		return err
	}
	defer closeStore()
	store, err := breakStore(opened, set.Break)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	tell := func(m message) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(os.Stdout).Encode(m)
	}
	config := sessions.Config[AppSession]{
		Keys:        keys,
		Store:       store,
		Cookie:      sessions.Cookie{Insecure: true},
		IdleTimeout: idleTimeout,
		Owner:       func(s *AppSession) string { return s.User },
		MaxPerOwner: maxPerOwner,
		Logger:      slog.New(slog.DiscardHandler),
		OnEvent: func(_ context.Context, e sessions.Event) {
			switch e.Kind {
			case sessions.EventStarted, sessions.EventRenewed, sessions.EventEnded:
				tell(message{Kind: string(e.Kind), ID: e.ID, Prev: e.Previous, Why: string(e.Reason)})
			}
		},
	}
	if set.Break == "mine" {
		config.Merge = func(_, mine, _ AppSession) (AppSession, error) { return mine, nil }
	}
	mgr, err := sessions.New(config)
	if err != nil {
		return err
	}
	app := &app{mgr}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(listener, app.handler()) }()
	tell(message{Addr: listener.Addr().String()})
	for in.Scan() {
		var secrets [][]byte
		if err := json.Unmarshal(in.Bytes(), &secrets); err != nil {
			return err
		}
		if err := keys.Replace(secrets...); err != nil {
			return err
		}
		tell(message{Keys: true})
	}
	return in.Err()
}

type app struct{ mgr *sessions.Manager[AppSession] }

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /me", a.signedIn(func(*http.Request, *sessions.Session[AppSession]) {}))
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		sess.RegenerateID()
		sess.Data = AppSession{User: r.FormValue("user")}
		answer(w, sess)
	})
	mux.HandleFunc("POST /set", a.signedIn(func(r *http.Request, sess *sessions.Session[AppSession]) {
		if sess.Data.Cart == nil {
			sess.Data.Cart = make(map[string]string)
		}
		sess.Data.Cart[r.FormValue("field")] = r.FormValue("value")
	}))
	mux.HandleFunc("POST /add", a.signedIn(func(_ *http.Request, sess *sessions.Session[AppSession]) {
		sess.Update(func(s *AppSession) { s.Count++ })
	}))
	mux.HandleFunc("POST /rotate", a.signedIn(func(_ *http.Request, sess *sessions.Session[AppSession]) { sess.RotateID() }))
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		sess.Destroy()
		answer(w, sess)
	})
	mux.HandleFunc("POST /revoke-others", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if sess.Data.User == "" {
			http.Error(w, "not signed in", http.StatusUnauthorized)
			return
		}
		if _, err := a.mgr.RevokeOwner(r.Context(), sess.Data.User, sess.ID()); err != nil {
			http.Error(w, "cannot revoke", http.StatusServiceUnavailable)
			return
		}
		answer(w, sess)
	})
	mux.HandleFunc("GET /stream", stream)
	return a.mgr.Middleware(mux)
}

// signedIn returns a handler that calls f if a user is signed in. The parameter wait
// makes it take longer, so that it overlaps with another request.
func (a *app) signedIn(f func(*http.Request, *sessions.Session[AppSession])) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if sess.Data.User == "" {
			http.Error(w, "not signed in", http.StatusUnauthorized)
			return
		}
		if wait, err := time.ParseDuration(r.FormValue("wait")); err == nil {
			time.Sleep(wait)
		}
		f(r, sess)
		answer(w, sess)
	}
}

func answer(w http.ResponseWriter, sess *sessions.Session[AppSession]) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(view{ID: sess.ID(), User: sess.Data.User, Cart: sess.Data.Cart, Count: sess.Data.Count})
}

// streamEnded is a line that a stream sends when its session has ended.
const streamEnded = "event: ended"

// stream sends server-sent events for as long as the session lives.
func stream(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	if sess.Data.User == "" {
		http.Error(w, "not signed in", http.StatusUnauthorized)
		return
	}
	ctx, cancel := sess.Watch(r.Context())
	defer cancel()
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		fmt.Fprint(w, "data: alive\n\n")
		if out.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if cause := context.Cause(ctx); errors.Is(cause, sessions.ErrNotFound) {
				fmt.Fprintf(w, "%s\ndata: %s\n\n", streamEnded, strings.ReplaceAll(cause.Error(), "\n", " "))
			}
			return
		}
	}
}

// reason returns why a session ended, or "renewed" if it got a new id.
func (m message) reason() string {
	if m.Kind == string(sessions.EventRenewed) {
		return m.Kind
	}
	return m.Why
}

// A brokenStore has one of the faults that the checker must find:
//
//   - versions: an update does not look at the version of the record.
//   - revive: an update of a record that was deleted stores it again.
//   - deaf: nobody is told of changes.
type brokenStore struct {
	*redisstore.Store
	fault string
}

func breakStore(s sessions.Store, fault string) (sessions.Store, error) {
	redis, ok := s.(*redisstore.Store)
	switch fault {
	case "", "mine":
		return s, nil
	case "versions", "revive", "deaf":
		if !ok {
			return nil, fmt.Errorf("-break %s: it needs an engine of Redis", fault)
		}
		return brokenStore{redis, fault}, nil
	}
	return nil, fmt.Errorf("-break %s: want versions, revive, mine or deaf", fault)
}

func (s brokenStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	version, err := s.Store.Update(ctx, id, rec)
	switch {
	case s.fault == "versions" && errors.Is(err, sessions.ErrConflict):
		// With the newest version, whichever the caller has loaded, changes are lost.
		newest, err := s.Store.LoadNewest(ctx, id)
		if err != nil {
			return 0, err
		}
		rec.Version = newest.Version
		return s.Store.Update(ctx, id, rec)
	case s.fault == "revive" && errors.Is(err, sessions.ErrNotFound):
		return s.Store.Create(ctx, id, rec)
	}
	return version, err
}

func (s brokenStore) Changes(ctx context.Context) iter.Seq2[sessions.ID, error] {
	if s.fault != "deaf" {
		return s.Store.Changes(ctx)
	}
	return func(func(sessions.ID, error) bool) { <-ctx.Done() }
}
