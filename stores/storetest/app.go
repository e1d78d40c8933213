package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/typedsessions/sessions"
)

// An account is the session type of the test application.
type account struct {
	User string         `msgpack:"user"` // the owner
	N    int            `msgpack:"n"`
	Name string         `msgpack:"name"`
	Role string         `msgpack:"role"`
	City string         `msgpack:"city"`
	Cart map[string]int `msgpack:"cart"`
}

type session = sessions.Session[account]

// verbs are the operations that a request can apply to its session. With "ignore",
// the request does not ask for its session.
var verbs = map[string]func(s *session, q url.Values){
	"ignore": nil,
	"read":   func(*session, url.Values) {},
	"add":    func(s *session, _ url.Values) { s.Update(func(a *account) { a.N++ }) },
	"same":   func(s *session, _ url.Values) { s.Data.N += 0; s.Data.Name = strings.Clone(s.Data.Name) },
	"name":   func(s *session, q url.Values) { s.Data.Name = q.Get("value") },
	"role":   func(s *session, q url.Values) { s.Data.Role = q.Get("value") },
	"city":   func(s *session, q url.Values) { s.Data.City = q.Get("value") },
	"cart": func(s *session, q url.Values) {
		if s.Data.Cart == nil {
			s.Data.Cart = map[string]int{}
		}
		s.Data.Cart[q.Get("value")]++
	},
	"flash":      func(s *session, q url.Values) { s.Flash("info", q.Get("value")) },
	"flashes":    func(s *session, _ url.Values) { s.Flashes() },
	"regenerate": func(s *session, _ url.Values) { s.RegenerateID() },
	"login":      func(s *session, q url.Values) { s.RegenerateID(); s.Data.User = q.Get("value") },
	"prolong":    func(s *session, _ url.Values) { s.SetLifetime(100 * time.Hour) },
	"destroy":    func(s *session, _ url.Values) { s.Destroy() },
	"reset":      func(s *session, _ url.Values) { s.Reset() },
}

// A reply is the application's description of a session after the verb.
type reply struct {
	ID      string
	Reason  sessions.Reason // why the session was new
	Account account

	Status int           `json:"-"`
	Text   string        `json:"-"` // of an error
	Took   time.Duration `json:"-"`
}

// failure says what is wrong with the reply to a request that should succeed.
func (r reply) failure() string {
	if r.Status == 0 {
		return r.Text
	}
	return fmt.Sprintf("got status %d, want 200: %s", r.Status, r.Text)
}

// An app is an application with a Manager on a real HTTP server. It is controlled
// only by requests, so it may run in another process.
type app struct {
	url       string
	manager   *sessions.Manager[account]
	conflicts atomic.Int64
	gates     sync.Map      // of slow requests, by name
	over      chan struct{} // closed at the end of the test
}

// A gate stops a request between the load of its session and the verb.
type gate struct{ loaded, open chan struct{} }

// limitedPath is where an app has at most maxPerOwner sessions of a user.
const (
	limitedPath = "/limited"
	maxPerOwner = 3
)

// newApp starts an app that serves until the test ends. The test fails if
// a handler panics, or if an operation of the store fails that may not fail.
func newApp(t *tester, store sessions.Store, mayFail bool) *app {
	t.Helper()
	keys, err := sessions.NewKeyring([]byte("a test secret that all processes of a test share"))
	if err != nil {
		t.Fatal(err)
	}
	a := &app{over: make(chan struct{})}
	config := sessions.Config[account]{
		Keys:   keys,
		Store:  guardedInApp(t, store, mayFail),
		Cookie: sessions.Cookie{Insecure: true},
		Logger: slog.New(slog.DiscardHandler),
		OnEvent: func(_ context.Context, e sessions.Event) {
			if e.Kind == sessions.EventMerged {
				a.conflicts.Add(1)
			}
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			status := http.StatusServiceUnavailable
			if errors.Is(err, sessions.ErrLimit) {
				status = http.StatusConflict
			}
			http.Error(w, err.Error(), status)
		},
	}
	if _, ok := store.(sessions.OwnerStore); ok {
		config.Owner = func(a *account) string { return a.User }
	}
	manager, err := sessions.New(config)
	if err != nil {
		t.Fatal(err)
	}
	a.manager = manager
	mux := http.NewServeMux()
	mux.Handle("POST /session/{verb}", manager.Middleware(http.HandlerFunc(a.serve)))
	if config.Owner != nil {
		config.MaxPerOwner = maxPerOwner
		limited, err := sessions.New(config)
		if err != nil {
			t.Fatal(err)
		}
		mux.Handle("POST "+limitedPath+"/session/{verb}", limited.Middleware(http.HandlerFunc(a.serve)))
	}
	mux.HandleFunc("POST /gate/{name}/{step}", func(_ http.ResponseWriter, r *http.Request) {
		if g := a.gate(r.PathValue("name")); r.PathValue("step") == "loaded" {
			a.await(r, g.loaded)
		} else {
			close(g.open)
		}
	})
	mux.HandleFunc("POST /revoke", func(w http.ResponseWriter, r *http.Request) {
		respond(w, nil, manager.Revoke(r.Context(), r.FormValue("value")))
	})
	mux.HandleFunc("POST /revokeowner", func(w http.ResponseWriter, r *http.Request) {
		n, err := manager.RevokeOwner(r.Context(), r.FormValue("value"), r.Form["except"]...)
		respond(w, n, err)
	})
	mux.HandleFunc("POST /conflicts", func(w http.ResponseWriter, _ *http.Request) { respond(w, a.conflicts.Load(), nil) })
	mux.HandleFunc("POST /sessions", func(w http.ResponseWriter, r *http.Request) {
		var ids []string
		var failed error
		for info, err := range manager.Sessions(r.Context(), r.FormValue("value")) {
			ids = append(ids, info.ID)
			if err != nil {
				failed = err
			}
		}
		respond(w, ids, failed)
	})
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = log.New(panics{t}, "", 0)
	server.Start()
	t.Cleanup(func() {
		close(a.over)
		closed := make(chan struct{})
		go func() { server.Close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(t.patience.grace()): // a handler hangs in the store
		}
	})
	a.url = server.URL
	return a
}

func (a *app) serve(w http.ResponseWriter, r *http.Request) {
	verb, query := verbs[r.PathValue("verb")], r.URL.Query()
	if verb == nil {
		respond(w, reply{}, nil)
		return
	}
	s := sessions.Get[account](r.Context())
	if name := query.Get("gate"); name != "" {
		g := a.gate(name)
		close(g.loaded)
		if !a.await(r, g.open) {
			return
		}
	}
	verb(s, query)
	respond(w, reply{ID: s.ID(), Reason: s.Reason(), Account: s.Data}, nil)
}

func (a *app) gate(name string) *gate {
	g, _ := a.gates.LoadOrStore(name, &gate{make(chan struct{}), make(chan struct{})})
	return g.(*gate)
}

// await waits for ch. It reports false if the client has gone or the test is over.
func (a *app) await(r *http.Request, ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	case <-r.Context().Done():
	case <-a.over:
	}
	return false
}

func respond(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_ = json.NewEncoder(w).Encode(v)
}

// panics is a log writer that fails the test when net/http logs a panic.
type panics struct{ *tester }

func (t panics) Write(line []byte) (int, error) {
	if strings.Contains(string(line), "panic") {
		t.Errorf("%s", line)
	}
	return len(line), nil
}

// client keeps enough idle connections for the parallel requests of the tests.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}

// A response is what a test needs of an http.Response.
type response struct {
	status int
	header http.Header
	text   string // of an error
}

// post sends a request. If v is not nil, it decodes the answer into v.
func post(ctx context.Context, target, cookie string, v any) (r response, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return r, err
	}
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	res, err := client.Do(req)
	if err != nil && ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	if err != nil {
		return r, err
	}
	defer res.Body.Close()
	r = response{status: res.StatusCode, header: res.Header}
	switch {
	case r.status != http.StatusOK:
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
		r.text = string(bytes.TrimSpace(text))
	case v != nil:
		if err := json.NewDecoder(res.Body).Decode(v); err != nil {
			return r, fmt.Errorf("%s: %w", target, err)
		}
	}
	return r, nil
}

// A browser holds the cookie of a session. It is not safe for concurrent use.
type browser struct {
	t      *tester
	app    string // URL of the app
	cookie string
}

// at returns a browser with the same cookie that sends its requests to app.
func (b *browser) at(app string) *browser { return &browser{b.t, app, b.cookie} }

// try sends a request with the verb and stores the cookie of the response. Without
// a response, the status is 0.
func (b *browser) try(verb string, query ...string) reply {
	w := b.t.patience.wait(aRequest)
	ctx, cancel := context.WithTimeoutCause(b.t.ctx, w.Duration, w.err())
	defer cancel()
	return b.send(ctx, verb, query...)
}

// send is like try, but waits until ctx ends.
func (b *browser) send(ctx context.Context, verb string, query ...string) reply {
	q := url.Values{}
	for i := 0; i < len(query); i += 2 {
		q.Set(query[i], query[i+1])
	}
	var r reply
	began := time.Now()
	res, err := post(ctx, b.app+"/session/"+verb+"?"+q.Encode(), b.cookie, &r)
	if err != nil {
		res = response{text: err.Error()}
	}
	r.Status, r.Text, r.Took = res.status, res.text, time.Since(began)
	for _, line := range res.header.Values("Set-Cookie") {
		if c, err := http.ParseSetCookie(line); err == nil && c.MaxAge < 0 {
			b.cookie = ""
		} else if err == nil {
			b.cookie = c.Name + "=" + c.Value
		}
	}
	return r
}

// do is like try, but ends the test if the status is not 200.
func (b *browser) do(verb string, query ...string) reply {
	b.t.Helper()
	r := b.try(verb, query...)
	b.succeeds(verb, r)
	return r
}

// succeeds ends the test if the status of the reply is not 200.
func (b *browser) succeeds(verb string, r reply) {
	b.t.Helper()
	if r.Status != http.StatusOK {
		if !b.t.over() {
			b.t.patience.failed(b.t.patience.wait(aRequest), r.Took)
		}
		b.t.Fatalf("the request %s: %s", verb, r.failure())
	}
}

// slow sends a request with the verb, and calls during after the request has
// loaded its session and before it applies the verb.
func (b *browser) slow(during func(), verb string, query ...string) reply {
	b.t.Helper()
	name := newName()
	ctx, cancel := context.WithCancelCause(b.t.ctx)
	defer cancel(nil)
	var r reply
	wait := b.t.start(1, func(int) {
		r = b.send(ctx, verb, append(query, "gate", name)...)
		b.succeeds(verb, r)
	})
	b.gate(name, "loaded")
	during()
	b.gate(name, "open")
	w := b.t.patience.wait(aRequest)
	defer time.AfterFunc(w.Duration, func() { cancel(w.err()) }).Stop()
	wait()
	return r
}

// gate waits until a slow request has loaded its session (step "loaded"), or lets
// the request continue (step "open").
func (b *browser) gate(name, step string) {
	b.t.Helper()
	if _, err := post(b.t.ctx, b.app+"/gate/"+url.PathEscape(name)+"/"+step, "", nil); err != nil {
		b.t.Fatalf("gate: %v", err)
	}
}
