package sessions_test

import (
	"bytes"
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// An AppSession is the session of the tests.
type AppSession struct {
	UserID int               `msgpack:"uid" validate:"gte=0"`
	Name   string            `msgpack:"name"`
	Role   string            `msgpack:"role" validate:"omitempty,oneof=admin user"`
	N      int               `msgpack:"n"`
	Cart   map[string]int    `msgpack:"cart"`
	Tags   []string          `msgpack:"tags"`
	Extra  map[string]string `msgpack:"extra"`
	Seen   time.Time         `msgpack:"seen"`
	Local  string            `msgpack:"-"`
}

type (
	config  = sessions.Config[AppSession]
	session = sessions.Session[AppSession]
)

// The entropy source of FIPS 140-3 cannot start in a bubble of testing/synctest, whose
// clock stands still. What it has made before stays in a pool until the garbage collector
// has run twice, so that it should not run often.
func init() {
	if fips140.Enforced() {
		sessions.NewSecret()
		debug.SetGCPercent(-1)
		debug.SetMemoryLimit(1 << 30)
	}
}

// A mode is a way to keep sessions.
type mode struct {
	name    string
	store   func() sessions.Store
	encrypt bool
}

var modes = []mode{
	{"signed", nil, false},
	{"sealed", nil, true},
	{"plain store", func() sessions.Store { return newPlainStore() }, false},
	{"MemoryStore", func() sessions.Store { return new(sessions.MemoryStore) }, false},
	{"MemoryStore, encrypted", func() sessions.Store { return new(sessions.MemoryStore) }, true},
}

// indexModes are those of a Store with indexes that is no MemoryStore.
var indexModes = []mode{{"indexStore", openIndex, false}, {"indexStore, encrypted", openIndex, true}}

func openIndex() sessions.Store { return &indexStore{plainStore: newPlainStore()} }

func (m mode) hasStore() bool { return m.store != nil }

// eachMode runs f in all modes.
func eachMode(t *testing.T, f func(t *testing.T, m mode)) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) { f(t, m) })
	}
}

// eachStore runs f in the modes that have a store.
func eachStore(t *testing.T, f func(t *testing.T, m mode)) {
	for _, m := range modes {
		if m.hasStore() {
			t.Run(m.name, func(t *testing.T) { f(t, m) })
		}
	}
}

func ownerOfUser(data *AppSession) string {
	if data.UserID == 0 {
		return ""
	}
	return strconv.Itoa(data.UserID)
}

// labelsOf are the labels of the tests: the role, and each tag.
func labelsOf(d *AppSession) (labels []string) {
	if d.Role != "" {
		labels = append(labels, "role:"+d.Role)
	}
	for _, tag := range d.Tags {
		labels = append(labels, "tag:"+tag)
	}
	return labels
}

var (
	testSecret = []byte("0123456789abcdefghijklmnopqrstuv")
	bg         = context.Background()
	errLost    = errors.New("the answer is lost")
)

func newKeys(t testing.TB, secrets ...[]byte) *sessions.Keyring {
	t.Helper()
	if len(secrets) == 0 {
		secrets = [][]byte{testSecret}
	}
	keys, err := sessions.NewKeyring(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// A site is an application behind the middleware. Handlers are functions of the
// tests, one for each request.
type site struct {
	t       testing.TB
	mgr     *sessions.Manager[AppSession]
	store   *hookStore // nil in cookie mode
	events  *events
	handler http.Handler // the middleware around what the request names

	mu    sync.Mutex
	runs  map[string]http.HandlerFunc
	serve atomic.Int64
}

// newSite makes a site in a mode; change may alter the Config.
func newSite(t testing.TB, m mode, change func(*config)) *site {
	t.Helper()
	s := &site{t: t, events: new(events), runs: map[string]http.HandlerFunc{}}
	cfg := config{Keys: newKeys(t), Encrypt: m.encrypt, OnEvent: s.events.add, Logger: slog.New(slog.DiscardHandler)}
	if m.store != nil {
		s.store = newHookStore(m.store())
		cfg.Store = s.store.asStore()
	}
	if change != nil {
		change(&cfg)
	}
	mgr, err := sessions.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.mgr = mgr
	s.handler = mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		run := s.runs[r.URL.Path]
		s.mu.Unlock()
		run(w, r)
	}))
	return s
}

func (s *site) route(f http.HandlerFunc) (path string) {
	path = fmt.Sprintf("/%d", s.serve.Add(1))
	s.mu.Lock()
	s.runs[path] = f
	s.mu.Unlock()
	return path
}

// A browser keeps the cookies of one site as browsers do.
type browser struct {
	s      *site
	client *http.Client // nil: requests are served in the process
	url    string

	mu      sync.Mutex
	cookies map[string]string
}

// browser returns one that calls the site within the process, as synctest
// needs it.
func (s *site) browser() *browser { return &browser{s: s, cookies: map[string]string{}} }

// online starts a real server, of HTTP/2 if that is true, and returns a browser
// that talks to it by TLS.
func (s *site) online(http2 bool) *browser {
	srv := httptest.NewUnstartedServer(s.handler)
	srv.EnableHTTP2 = http2
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	s.t.Cleanup(srv.Close)
	client := srv.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &browser{s: s, client: client, url: srv.URL, cookies: map[string]string{}}
}

// A pipeListener is a network within a bubble.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeListener) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (p *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// piped starts a real server, and returns a browser that talks to it over a network
// within the bubble of the test.
func (s *site) piped() *browser {
	network := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	srv := &httptest.Server{Listener: network, Config: &http.Server{Handler: s.handler}}
	srv.Start()
	s.t.Cleanup(srv.Close)
	client := &http.Client{Transport: &http.Transport{DialContext: network.dial, DisableKeepAlives: true}}
	return &browser{s: s, client: client, url: srv.URL, cookies: map[string]string{}}
}

// A reply is a response that was read to its end.
type reply struct {
	*http.Response
	body string
}

// setCookies returns the cookies of the session's name that the reply sets.
func (r *reply) setCookies() (lines []string) {
	for _, line := range r.Header["Set-Cookie"] {
		if strings.Contains(strings.SplitN(line, "=", 2)[0], "session") {
			lines = append(lines, line)
		}
	}
	return lines
}

// do sends a request whose handler is f.
func (b *browser) do(f func(s *session)) *reply {
	b.s.t.Helper()
	return b.serve(func(w http.ResponseWriter, r *http.Request) { f(sessions.Get[AppSession](r.Context())) })
}

// serve sends a request whose handler is f.
func (b *browser) serve(f http.HandlerFunc) *reply {
	b.s.t.Helper()
	return b.send(f, nil)
}

// send sends a request whose handler is f, after change has altered it.
func (b *browser) send(f http.HandlerFunc, change func(*http.Request)) *reply {
	b.s.t.Helper()
	r := b.request(f)
	if change != nil {
		change(r)
	}
	var res *http.Response
	if b.client == nil {
		w := httptest.NewRecorder()
		b.s.handler.ServeHTTP(w, r)
		res = w.Result()
	} else {
		var err error
		if res, err = b.client.Do(r); err != nil {
			b.s.t.Error(err)
			return &reply{Response: &http.Response{Header: http.Header{}}}
		}
	}
	body, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	b.keep(res)
	return &reply{Response: res, body: string(body)}
}

// request returns a request with the browser's cookies, whose handler is f.
func (b *browser) request(f http.HandlerFunc) *http.Request {
	b.s.t.Helper()
	r := httptest.NewRequest("GET", "https://example.com"+b.s.route(f), nil)
	if b.client != nil {
		var err error
		if r, err = http.NewRequest("GET", b.url+r.URL.Path, nil); err != nil {
			b.s.t.Fatal(err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	return r
}

func (b *browser) keep(res *http.Response) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, line := range res.Header["Set-Cookie"] {
		if len(line) > 4096 {
			b.s.t.Errorf("a Set-Cookie of %d bytes, which browsers ignore", len(line))
		}
	}
	for _, c := range res.Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
}

// cookie returns the session's cookie, "" for none.
func (b *browser) cookie() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, value := range b.cookies {
		if strings.Contains(name, "session") {
			return value
		}
	}
	return ""
}

// clone returns a browser with the same cookies: another tab, or a thief.
func (b *browser) clone() *browser {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &browser{s: b.s, client: b.client, url: b.url, cookies: map[string]string{}}
	for name, value := range b.cookies {
		c.cookies[name] = value
	}
	return c
}

// peek returns what the session of the browser's cookie holds, without changing
// the browser's cookies.
func (b *browser) peek() (data AppSession, reason sessions.Reason) {
	b.s.t.Helper()
	b.clone().do(func(s *session) { data, reason = s.Data, s.Reason() })
	return data, reason
}

// idOf returns the public id of the session of the browser's cookie.
func idOf(b *browser) (id string) {
	b.s.t.Helper()
	b.clone().do(func(s *session) { id = s.ID() })
	return id
}

// listed returns the sessions of an owner by their ids.
func listed(s *site, owner string) map[string]sessions.Info[AppSession] {
	s.t.Helper()
	found := map[string]sessions.Info[AppSession]{}
	for info, err := range s.mgr.Sessions(bg, owner) {
		if err != nil {
			s.t.Errorf("Sessions: %v", err)
			continue
		}
		if _, twice := found[info.ID]; twice {
			s.t.Errorf("Sessions yields %s twice", info.ID)
		}
		found[info.ID] = info
	}
	return found
}

// events collects what OnEvent hears.
type events struct {
	mu  sync.Mutex
	all []sessions.Event
}

func (e *events) add(_ context.Context, ev sessions.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

func (e *events) of(kind sessions.EventKind) (found []sessions.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.all {
		if ev.Kind == kind {
			found = append(found, ev)
		}
	}
	return found
}

func (e *events) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = nil
}

// A plainStore is a Store, and no more than that, in a map.
type plainStore struct {
	mu      sync.Mutex
	records map[sessions.ID]sessions.Record
	version uint64
}

func newPlainStore() *plainStore {
	return &plainStore{records: map[sessions.ID]sessions.Record{}}
}

func (p *plainStore) live(id sessions.ID) (sessions.Record, bool) {
	rec, ok := p.records[id]
	return rec, ok && time.Now().Before(rec.Expires)
}

func (p *plainStore) put(id sessions.ID, rec sessions.Record) uint64 {
	p.version++
	rec.Data, rec.Version = bytes.Clone(rec.Data), p.version
	p.records[id] = rec
	return p.version
}

func (p *plainStore) Load(_ context.Context, id sessions.ID) (sessions.Record, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rec, ok := p.live(id); ok {
		return rec, nil
	}
	return sessions.Record{}, sessions.ErrNotFound
}

func (p *plainStore) Create(_ context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.live(id); ok {
		return 0, sessions.ErrExists
	}
	return p.put(id, rec), nil
}

func (p *plainStore) Update(_ context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch old, ok := p.live(id); {
	case !ok:
		return 0, sessions.ErrNotFound
	case old.Version != rec.Version:
		return 0, sessions.ErrConflict
	}
	return p.put(id, rec), nil
}

func (p *plainStore) Touch(_ context.Context, id sessions.ID, expires time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	rec, ok := p.live(id)
	if !ok {
		return sessions.ErrNotFound
	}
	if expires.After(rec.Expires) {
		rec.Expires = expires
		p.records[id] = rec
	}
	return nil
}

func (p *plainStore) Delete(_ context.Context, id sessions.ID, version uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch old, ok := p.live(id); {
	case !ok && version == 0:
		return nil
	case !ok:
		return sessions.ErrNotFound
	case version != 0 && old.Version != version:
		return sessions.ErrConflict
	}
	delete(p.records, id)
	return nil
}

// A hookStore counts the operations of the store behind it, keeps the ids that
// were created, and lets a test hold or fail any operation.
type hookStore struct {
	sessions.Store
	mu      sync.Mutex
	counts  map[string]int
	created []sessions.ID
	before  func(op string, id sessions.ID) error // an error is the result; the store is not asked
	after   func(op string, id sessions.ID) error // an error is the result though the store has done it
}

// isTombstone reports whether a record stands for an id that another has
// replaced.
func isTombstone(rec sessions.Record) bool { return len(rec.Data) == 6 && rec.Data[0] == 0x13 }

func newHookStore(s sessions.Store) *hookStore { return &hookStore{Store: s, counts: map[string]int{}} }

// ownerHookStore adds the index where the store behind has one.
type ownerHookStore struct {
	*hookStore
	sessions.OwnerStore
}

func (h ownerHookStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	return h.hookStore.Load(ctx, id)
}

func (h ownerHookStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	return h.hookStore.Create(ctx, id, rec)
}

func (h ownerHookStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	return h.hookStore.Update(ctx, id, rec)
}

func (h ownerHookStore) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	return h.hookStore.Touch(ctx, id, expires)
}

func (h ownerHookStore) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	return h.hookStore.Delete(ctx, id, version)
}

// labelHookStore adds the index of labels too.
type labelHookStore struct {
	ownerHookStore
	labels sessions.LabelStore
}

func (h labelHookStore) Labelled(ctx context.Context, label string) iter.Seq2[sessions.ID, error] {
	return h.labels.Labelled(ctx, label)
}

func (h *hookStore) asStore() sessions.Store {
	if l, ok := h.Store.(sessions.LabelStore); ok {
		return labelHookStore{ownerHookStore{h, l}, l}
	}
	if o, ok := h.Store.(sessions.OwnerStore); ok {
		return ownerHookStore{h, o}
	}
	return h
}

// hook replaces the functions called before and after each operation.
func (h *hookStore) hook(before, after func(op string, id sessions.ID) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before, h.after = before, after
}

// onceBefore has f called before the next operation of a name, and onceAfter after
// it.
func (h *hookStore) onceBefore(op string, f func()) { h.hook(once(op, f), nil) }
func (h *hookStore) onceAfter(op string, f func())  { h.hook(nil, once(op, f)) }

func once(name string, f func()) func(string, sessions.ID) error {
	var called atomic.Bool // f may use the store itself
	return func(op string, _ sessions.ID) error {
		if op == name && called.CompareAndSwap(false, true) {
			f()
		}
		return nil
	}
}

func (h *hookStore) count(op string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counts[op]
}

func (h *hookStore) resetCounts() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts = map[string]int{}
}

// live lists the created ids that have a record now.
func (h *hookStore) live() (ids []sessions.ID) {
	h.mu.Lock()
	created := h.created
	h.mu.Unlock()
	for _, id := range created {
		if slices.Contains(ids, id) {
			continue // created again after a failure
		}
		if rec, err := h.Store.Load(context.Background(), id); err == nil && !isTombstone(rec) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (h *hookStore) run(op string, id sessions.ID, f func() error) error {
	h.mu.Lock()
	h.counts[op]++
	before, after := h.before, h.after
	h.mu.Unlock()
	if before != nil {
		if err := before(op, id); err != nil {
			return err
		}
	}
	err := f()
	if after != nil {
		if failed := after(op, id); failed != nil {
			return failed
		}
	}
	return err
}

func (h *hookStore) Load(ctx context.Context, id sessions.ID) (rec sessions.Record, err error) {
	err = h.run("Load", id, func() error { rec, err = h.Store.Load(ctx, id); return err })
	return rec, err
}

func (h *hookStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (version uint64, err error) {
	err = h.run("Create", id, func() error {
		version, err = h.Store.Create(ctx, id, rec)
		h.mu.Lock()
		h.created = append(h.created, id)
		h.mu.Unlock()
		return err
	})
	return version, err
}

func (h *hookStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (version uint64, err error) {
	op := "Update"
	if isTombstone(rec) {
		op = "Replace" // of an old id, by a tombstone
	}
	err = h.run(op, id, func() error { version, err = h.Store.Update(ctx, id, rec); return err })
	return version, err
}

func (h *hookStore) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	return h.run("Touch", id, func() error { return h.Store.Touch(ctx, id, expires) })
}

func (h *hookStore) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	return h.run("Delete", id, func() error { return h.Store.Delete(ctx, id, version) })
}

// An indexStore is a plainStore that looks for owners and labels record by
// record. lags are ids that its indexes list for everything.
type indexStore struct {
	*plainStore
	lags []sessions.ID
}

func (x *indexStore) find(has func(sessions.Record) bool) iter.Seq2[sessions.ID, error] {
	x.mu.Lock()
	ids := slices.Clone(x.lags)
	for id := range x.records {
		if rec, ok := x.live(id); ok && has(rec) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	x.mu.Unlock()
	return func(yield func(sessions.ID, error) bool) {
		for _, id := range ids {
			if !yield(id, nil) {
				return
			}
		}
	}
}

func (x *indexStore) Owned(_ context.Context, owner string) iter.Seq2[sessions.ID, error] {
	return x.find(func(rec sessions.Record) bool { return rec.Owner == owner })
}

func (x *indexStore) Labelled(_ context.Context, label string) iter.Seq2[sessions.ID, error] {
	return x.find(func(rec sessions.Record) bool { return slices.Contains(rec.Labels, label) })
}
