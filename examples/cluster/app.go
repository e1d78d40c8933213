package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/typedsessions/sessions"
)

// The simulated users know these settings of the application.
const (
	maxPerOwner = 2
	idleTimeout = 20 * time.Second
)

// Settings are the first line of the standard input of an application process, as
// JSON.
type settings struct {
	Connection connection
	Keys       string // what ParseKeyring reads
	Release    string
	Break      string // one of breaks, or ""
}

// A message is a line that an application process writes to its standard output.
type message struct {
	Addr  string    `json:",omitempty"` // at which it serves
	Keys  bool      `json:",omitempty"` // it has replaced its key ring
	Kind  string    `json:",omitempty"` // of an event of a session
	ID    string    `json:",omitempty"`
	Prev  string    `json:",omitempty"`
	Why   string    `json:",omitempty"`
	Usage *usage    `json:",omitempty"` // what the process uses
	Pid   int       `json:"-"`
	At    time.Time `json:"-"`
}

// crashed is the kind of a message about a process that ended and was not killed.
const crashed = "crashed"

// A view is the answer of every handler: the session as the handler left it.
type view struct {
	ID    string
	User  string
	Cart  map[string]string
	Count int
	Note  string
}

// releaseHeader names the release of the process that answers.
const releaseHeader = "Release"

// runApp is the application process. Each line of its standard input after the first
// is a new key ring. When the input ends, which also happens when the parent ends, it
// answers the requests that it has, and ends.
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
	store, closeStore, err := set.Connection.open(context.Background())
	if err != nil {
		return err
	}
	defer closeStore()
	var mu sync.Mutex
	tell := func(m message) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(os.Stdout).Encode(m)
	}
	stop := make(chan struct{})
	handler, err := newRelease(release{set: set, keys: keys, store: breakStore(store, set.Break), tell: tell, stop: stop})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler}
	server.RegisterOnShutdown(func() { close(stop) })
	go func() { _ = server.Serve(listener) }()
	tell(message{Addr: listener.Addr().String()})
	running, end := context.WithCancel(context.Background())
	defer end()
	go reportUsage(running, tell)
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
	if err := in.Err(); err != nil {
		return err
	}
	if set.Break == "abrupt" {
		return server.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}

// An app is the application, whose session is a T.
type app[T any, P session[T]] struct {
	mgr  *sessions.Manager[T]
	stop <-chan struct{} // is closed when the process is to end
}

func (a *app[T, P]) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /me", a.signedIn(func(*http.Request, *sessions.Session[T]) {}))
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[T](r.Context())
		sess.RegenerateID()
		var signedIn T
		*P(&signedIn).parts().user = r.FormValue("user")
		sess.Data = signedIn
		a.answer(w, sess)
	})
	mux.HandleFunc("POST /set", a.signedIn(func(r *http.Request, sess *sessions.Session[T]) {
		cart := P(&sess.Data).parts().cart
		if *cart == nil {
			*cart = make(map[string]string)
		}
		(*cart)[r.FormValue("field")] = r.FormValue("value")
	}))
	mux.HandleFunc("POST /add", a.signedIn(func(_ *http.Request, sess *sessions.Session[T]) {
		sess.Update(func(s *T) { *P(s).parts().count++ })
	}))
	mux.HandleFunc("POST /note", a.signedIn(func(r *http.Request, sess *sessions.Session[T]) {
		if note := P(&sess.Data).parts().note; note != nil {
			*note = r.FormValue("value")
		}
	}))
	mux.HandleFunc("POST /rotate", a.signedIn(func(_ *http.Request, sess *sessions.Session[T]) { sess.RotateID() }))
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[T](r.Context())
		sess.Destroy()
		a.answer(w, sess)
	})
	mux.HandleFunc("POST /revoke-others", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[T](r.Context())
		user := *P(&sess.Data).parts().user
		if user == "" {
			http.Error(w, "not signed in", http.StatusUnauthorized)
			return
		}
		if _, err := a.mgr.RevokeOwner(r.Context(), user, sess.ID()); err != nil {
			http.Error(w, "cannot revoke", http.StatusServiceUnavailable)
			return
		}
		a.answer(w, sess)
	})
	mux.HandleFunc("GET /stream", a.stream)
	return a.mgr.Middleware(mux)
}

// signedIn returns a handler that calls f if a user is signed in, and answers with the
// session. The parameter wait makes it take longer, so that it overlaps with another
// request.
func (a *app[T, P]) signedIn(f func(*http.Request, *sessions.Session[T])) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[T](r.Context())
		if *P(&sess.Data).parts().user == "" {
			http.Error(w, "not signed in", http.StatusUnauthorized)
			return
		}
		if wait, err := time.ParseDuration(r.FormValue("wait")); err == nil {
			time.Sleep(wait)
		}
		f(r, sess)
		a.answer(w, sess)
	}
}

func (a *app[T, P]) answer(w http.ResponseWriter, sess *sessions.Session[T]) {
	w.Header().Set("Content-Type", "application/json")
	has := P(&sess.Data).parts()
	v := view{ID: sess.ID(), User: *has.user, Cart: *has.cart, Count: *has.count}
	if has.note != nil {
		v.Note = *has.note
	}
	_ = json.NewEncoder(w).Encode(v)
}

// streamEnded is a line that a stream sends when its session has ended.
const streamEnded = "event: ended"

// stream sends server-sent events for as long as the session lives.
func (a *app[T, P]) stream(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[T](r.Context())
	if *P(&sess.Data).parts().user == "" {
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
		case <-a.stop:
			return
		case <-ctx.Done():
			if cause := context.Cause(ctx); errors.Is(cause, sessions.ErrNotFound) {
				fmt.Fprintf(w, "%s\ndata: %s\n\n", streamEnded, strings.ReplaceAll(cause.Error(), "\n", " "))
			}
			return
		}
	}
}

// reason returns the reason for which a session ended, or "renewed" if it got a new id.
func (m message) reason() string {
	if m.Kind == string(sessions.EventRenewed) {
		return m.Kind
	}
	return m.Why
}
