package dbsc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/dbsc"
)

// Account is the session of the tests.
type Account struct {
	User  string `msgpack:"user"`
	Count int    `msgpack:"count"`
	Cart  string `msgpack:"cart"`
}

type (
	config  = sessions.Config[Account]
	session = sessions.Session[Account]
)

var secret = []byte("0123456789abcdefghijklmnopqrstuv")

const home = "https://app.test/"

// A site is an application that binds its sessions, behind TLS.
type site struct {
	t       testing.TB
	keys    *sessions.Keyring
	store   *faultyStore // nil in cookie mode
	devices *dbsc.Devices
	handler http.Handler

	mu     sync.Mutex
	events []dbsc.Event
	during map[string]func(*session) // what a path does to the session
	serves map[string]http.HandlerFunc

	unprotected http.Handler // without http.CrossOriginProtection

	manager func(*sessions.Manager[Account]) // is told the Manager that build makes
	ran     map[string]int                   // how often a path's handler was called
}

type change func(*config, *dbsc.Options)

// newSite makes a site with a handler for each path that the tests use.
func newSite(t testing.TB, withStore bool, changes ...change) *site {
	t.Helper()
	s := &site{t: t, during: map[string]func(*session){}, serves: map[string]http.HandlerFunc{}, ran: map[string]int{}}
	keys, err := sessions.NewKeyring(secret)
	if err != nil {
		t.Fatal(err)
	}
	s.keys = keys
	cfg := config{Keys: keys, Logger: slog.New(slog.DiscardHandler)}
	if withStore {
		s.store = &faultyStore{Store: new(sessions.MemoryStore)}
		cfg.Store = s.store
	}
	options := dbsc.Options{
		Exclude: []string{"/static"},
		OnEvent: func(_ context.Context, e dbsc.Event) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events = append(s.events, e)
		},
	}
	for _, change := range changes {
		change(&cfg, &options)
	}
	s.handler, s.devices = s.build(cfg, options)
	return s
}

// build makes a program that serves the site.
func (s *site) build(cfg config, options dbsc.Options) (http.Handler, *dbsc.Devices) {
	s.t.Helper()
	mgr, err := sessions.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.manager != nil {
		s.manager(mgr)
	}
	devices, err := dbsc.New(mgr, options)
	if err != nil {
		s.t.Fatal(err)
	}
	protection := http.NewCrossOriginProtection()
	s.unprotected = mgr.Middleware(devices.Middleware(http.HandlerFunc(s.serve)))
	return protection.Handler(s.unprotected), devices
}

func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[Account](r.Context())
	s.mu.Lock()
	during, serves := s.during[r.URL.Path], s.serves[r.URL.Path]
	s.ran[r.URL.Path]++
	s.mu.Unlock()
	if serves != nil {
		serves(w, r)
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "POST /login":
		sess.RegenerateID()
		sess.Data.User = r.FormValue("user")
		dbsc.Offer(r.Context())
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	case "POST /logout":
		sess.Reset()
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return
	}
	body, _ := io.ReadAll(r.Body)
	if during != nil {
		during(sess)
	}
	fmt.Fprintf(w, "%s user=%s state=%v reason=%s body=%s", r.Method, sess.Data.User, dbsc.StateOf(r.Context()), sess.Reason(), body)
}

// told returns the events since the last call.
func (s *site) told() (events []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		line := string(e.Kind)
		if e.Reason != "" {
			line += ": " + string(e.Reason)
		}
		events = append(events, line)
	}
	s.events = nil
	return events
}

func (s *site) storeOrNil() sessions.Store {
	if s.store == nil {
		return nil
	}
	return s.store
}

func (s *site) runs(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ran[path]
}

// on sets what a path does to the session.
func (s *site) on(path string, f func(*session)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.during[path] = f
}

// handle sets what serves a path.
func (s *site) handle(path string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serves[path] = h
}

// pipes is a network of one host.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu   sync.Mutex
	ends []net.Conn
}

// cut ends all connections. Else TLS writes to say goodbye, for five seconds of a
// clock that stands still while another goroutine waits for the lock that
// httptest.Server holds meanwhile.
func (p *pipes) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.ends {
		_ = c.Close()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	p.mu.Lock()
	p.ends = append(p.ends, near, far)
	p.mu.Unlock()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// online serves a handler by TLS within the bubble of a test, for every host,
// and returns the way there. Plain http has the same handler.
func online(t testing.TB, h http.Handler) http.RoundTripper {
	t.Helper()
	p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	server := &httptest.Server{Listener: p, Config: &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}}
	server.StartTLS()
	transport := &http.Transport{DialContext: p.dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(func() {
		p.cut()
		transport.CloseIdleConnections()
		server.Close()
	})
	return network{transport, h}
}

// network carries plain http without a network.
type network struct {
	https http.RoundTripper
	http  http.Handler
}

func (n network) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "https" {
		return n.https.RoundTrip(r)
	}
	w := httptest.NewRecorder()
	n.http.ServeHTTP(w, r)
	return w.Result(), nil
}

// eachMode runs f in cookie mode and in store mode, in a bubble of its own.
func eachMode(t *testing.T, f func(t *testing.T, withStore bool)) {
	for _, mode := range []struct {
		name  string
		store bool
	}{{"cookie", false}, {"store", true}} {
		t.Run(mode.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, mode.store) })
		})
	}
}

// signIn makes a browser whose session is offered, and which has not registered
// yet if hold is set.
func (s *site) signIn(hold bool) *browser {
	b := newBrowser(s.t, online(s.t, s.handler))
	b.hold = hold
	b.visit(visit{method: "POST", url: home + "login", from: "https://app.test", body: "user=ada", header: form})
	return b
}

var form = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}

// bind makes a browser whose session is bound.
func (s *site) bind() *browser {
	s.t.Helper()
	b := s.signIn(false)
	if a := b.get(home); a.text != "GET user=ada state=bound reason= body=" {
		s.t.Fatalf("the session is not bound: %s; the browser: %q; the site: %q", a.text, b.took(), s.told())
	}
	b.took()
	s.told()
	return b
}

// pass lets time pass, so that bound cookies end.
func pass(d time.Duration) {
	time.Sleep(d) // of the bubble: nobody waits
	synctest.Wait()
}

// expect compares what an answer is.
func expect(t testing.TB, a *answer, status int, text string) {
	t.Helper()
	if a.StatusCode != status || a.text != text {
		t.Errorf("%s: got %d %q, want %d %q", a.url, a.StatusCode, a.text, status, text)
	}
}

func expectEvents(t testing.TB, who string, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %q, want %q", who, got, want)
	}
}

var errDown = errors.New("the store is down")

// A faultyStore is a MemoryStore that fails on order and counts.
type faultyStore struct {
	sessions.Store
	mu     sync.Mutex
	fail   string // an operation, or all
	touch  int
	writes int
	before func(op string)

	rewrite func(*sessions.Record) // changes what Load returns
}

func (s *faultyStore) ask(op string) error {
	s.mu.Lock()
	before, down := s.before, s.fail == "all" || s.fail == op
	switch op {
	case "touch":
		s.touch++
	case "create", "update", "delete":
		s.writes++
	}
	s.mu.Unlock()
	if before != nil {
		before(op)
	}
	if down {
		return errDown
	}
	return nil
}

// set makes an operation fail, or all, or none.
func (s *faultyStore) set(op string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = op
}

func (s *faultyStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	if err := s.ask("load"); err != nil {
		return sessions.Record{}, err
	}
	rec, err := s.Store.Load(ctx, id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.rewrite != nil {
		s.rewrite(&rec)
	}
	return rec, err
}

func (s *faultyStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	if err := s.ask("create"); err != nil {
		return 0, err
	}
	return s.Store.Create(ctx, id, rec)
}

func (s *faultyStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	if err := s.ask("update"); err != nil {
		return 0, err
	}
	return s.Store.Update(ctx, id, rec)
}

func (s *faultyStore) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	if err := s.ask("touch"); err != nil {
		return err
	}
	return s.Store.Touch(ctx, id, expires)
}

func (s *faultyStore) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	if err := s.ask("delete"); err != nil {
		return err
	}
	return s.Store.Delete(ctx, id, version)
}

func sessionOf(r *http.Request) *session { return sessions.Get[Account](r.Context()) }
