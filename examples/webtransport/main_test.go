package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"
	"github.com/typedsessions/sessions"
)

func TestMain(m *testing.M) {
	// The kernel may give less than quic-go asks for, which it would log.
	_ = os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	os.Exit(m.Run())
}

// A site is the application, served on loopback, and a client that keeps its cookie.
type site struct {
	testing.TB
	mgr    *sessions.Manager[AppSession]
	store  *faultyStore
	client http.Client
	wt     webtransport.Transport
	url    string
	cookie string
}

// A faultyStore fails to store what exists, once it is told to.
type faultyStore struct {
	sessions.MemoryStore
	fails atomic.Bool
}

func (s *faultyStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	if s.fails.Load() {
		return 0, errors.New("out of order")
	}
	return s.MemoryStore.Update(ctx, id, rec)
}

// newSite serves the application. If cookieMode is true, the whole session is in the
// cookie. wrap, if not nil, returns the handler in place of the application's.
func newSite(t *testing.T, cookieMode bool, wrap func(*app, *sessions.Manager[AppSession]) http.Handler) *site {
	t.Helper()
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	s := &site{TB: t, store: new(faultyStore)}
	config := sessions.Config[AppSession]{Keys: keys, Store: s.store, Logger: slog.New(slog.DiscardHandler)}
	if cookieMode {
		config.Store = nil
	}
	if s.mgr, err = sessions.New(config); err != nil {
		t.Fatal(err)
	}
	cert, err := newCertificate()
	if err != nil {
		t.Fatal(err)
	}
	a := newApp(s.mgr, cert)
	if wrap != nil {
		a.wt.H3.Handler = wrap(a, s.mgr)
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- a.wt.Serve(udp) }()
	t.Cleanup(func() {
		_ = a.wt.Close()
		<-served
		_ = udp.Close()
	})
	s.url = "https://" + udp.LocalAddr().String()
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	s.wt.TLSClientConfig = &tls.Config{RootCAs: roots}
	h3 := &http3.Transport{TLSClientConfig: s.wt.TLSClientConfig}
	s.client = http.Client{
		Transport:     h3,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() { _, _ = s.wt.Close(), h3.Close() })
	return s
}

// keep keeps the cookie of a response and reports whether there was one.
func (s *site) keep(res *http.Response) bool {
	for _, c := range res.Cookies() {
		s.cookie = c.Name + "=" + c.Value
	}
	return len(res.Cookies()) > 0
}

func (s *site) post(path string) string {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), "POST", s.url+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	if s.cookie != "" {
		r.Header.Set("Cookie", s.cookie)
	}
	res, err := s.client.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 400 {
		s.Fatalf("POST %s: %s, %v", path, res.Status, err)
	}
	s.keep(res)
	return string(body)
}

// dial opens a WebTransport session.
func (s *site) dial(path, cookie string) (*http.Response, *webtransport.Session, error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
	defer cancel()
	header := http.Header{}
	if cookie != "" {
		header.Set("Cookie", cookie)
	}
	res, conn, err := s.wt.Dial(ctx, s.url+path, header)
	if err == nil {
		s.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	}
	return res, conn, err
}

func (s *site) mustDial(path, cookie string) (*http.Response, *webtransport.Session) {
	s.Helper()
	res, conn, err := s.dial(path, cookie)
	if err != nil {
		s.Fatalf("%s: %v", path, err)
	}
	return res, conn
}

// greeting reads the stream that the server opens.
func (s *site) greeting(conn *webtransport.Session) string {
	s.Helper()
	stream, err := conn.AcceptUniStream(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	b, err := io.ReadAll(stream)
	if err != nil {
		s.Fatal(err)
	}
	return string(b)
}

// ends fails the test unless the server closes conn since its session has ended.
func (s *site) ends(conn *webtransport.Session) {
	s.Helper()
	select {
	case <-conn.Context().Done():
	case <-time.After(20 * time.Second):
		s.Fatal("the WebTransport session outlived the session")
	}
	if _, err := conn.AcceptStream(s.Context()); !errors.Is(err, &webtransport.SessionError{Remote: true, ErrorCode: endedCode, Message: "the session has ended"}) {
		s.Errorf("the client was told %v", err)
	}
}

// answers fails the test unless the server echoes what is sent on a stream.
func (s *site) answers(conn *webtransport.Session) {
	s.Helper()
	stream, err := conn.OpenStream()
	if err != nil {
		s.Fatal(err)
	}
	if _, err := io.WriteString(stream, "ping"); err != nil {
		s.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		s.Fatal(err)
	}
	if b, err := io.ReadAll(stream); err != nil || string(b) != "ping" {
		s.Fatalf("got %q, %v, want what was sent", b, err)
	}
}

// stored returns the session of the user "ada", of which there must be one.
func (s *site) stored() sessions.Info[AppSession] {
	s.Helper()
	var info sessions.Info[AppSession]
	h := s.mgr.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		info = sessions.Info[AppSession]{ID: sess.ID(), Data: sess.Data}
	}))
	r, err := http.NewRequestWithContext(s.Context(), "GET", s.url, nil)
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Cookie", s.cookie)
	h.ServeHTTP(discard{http.Header{}}, r)
	return info
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

func TestAWebTransportSessionIsOneOfItsLogin(t *testing.T) {
	for name, cookieMode := range map[string]bool{"in a store": false, "in the cookie": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, cookieMode, nil)
			s.post("/login")
			for n := 1; n <= 2; n++ {
				res, conn := s.mustDial("/live", s.cookie)
				if got := s.keep(res); got != cookieMode {
					t.Errorf("the response had a cookie: %v, want %v", got, cookieMode)
				}
				if got := s.stored().Data; got != (AppSession{"ada", n}) {
					t.Errorf("got %+v, want the change from before the upgrade, number %d", got, n)
				}
				if got := s.greeting(conn); got != "hello ada" {
					t.Errorf("got %q, want the user of the session", got)
				}
				s.answers(conn)
			}
		})
	}
}

func TestTheCookieOfANewIdLeavesWithTheUpgrade(t *testing.T) {
	s := newSite(t, false, func(a *app, mgr *sessions.Manager[AppSession]) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("POST /login", a.wt.H3.Handler)
		mux.Handle("CONNECT /renew", mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sess := sessions.Get[AppSession](r.Context())
			sess.RegenerateID()
			conn, err := upgrade(a.wt, w, r)
			if err != nil {
				t.Error(err)
				return
			}
			serve(conn.Context(), conn, sess.Data.User)
		})))
		return mux
	})
	s.post("/login")
	before, id := s.cookie, s.stored().ID
	res, conn := s.mustDial("/renew", s.cookie)
	if !s.keep(res) || s.cookie == before {
		t.Fatal("no new cookie left with the response")
	}
	if now := s.stored(); now.ID == id || now.Data.User != "ada" {
		t.Errorf("got session %s of %q, want a new id of ada's", now.ID, now.Data.User)
	}
	if got := s.greeting(conn); got != "hello ada" {
		t.Errorf("got %q, want the user of the session", got)
	}
}

func TestAWebTransportSessionEndsWithItsLogin(t *testing.T) {
	for name, end := range map[string]func(s *site) error{
		"revoked": func(s *site) error { return s.mgr.Revoke(s.Context(), s.stored().ID) },
		"signed out": func(s *site) error {
			s.post("/logout")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, false, nil)
			s.post("/login")
			_, byCookie := s.mustDial("/live", s.cookie)
			_, byTicket := s.mustDial("/live/"+s.post("/ticket"), "")
			ticket := s.post("/ticket")
			s.answers(byCookie)
			s.answers(byTicket)
			if err := end(s); err != nil {
				t.Fatal(err)
			}
			s.ends(byCookie)
			s.ends(byTicket)
			// The upgrade itself may be overtaken by the end, and then fails.
			if _, conn, err := s.dial("/live/"+ticket, ""); err == nil {
				s.ends(conn)
			}
		})
	}
}

func TestATicketIsGoodOnce(t *testing.T) {
	s := newSite(t, false, nil)
	s.post("/login")
	ticket := s.post("/ticket")
	_, conn := s.mustDial("/live/"+ticket, "")
	if got := s.greeting(conn); got != "hello ada" {
		t.Errorf("got %q, want the user of the session", got)
	}
	if res, _, err := s.dial("/live/"+ticket, ""); err == nil || res == nil || res.StatusCode != http.StatusUnauthorized {
		t.Errorf("the same ticket again: got %v, %v, want 401", res, err)
	}
}

func TestWithoutALoginThereIsNoUpgrade(t *testing.T) {
	s := newSite(t, false, nil)
	if res, _, err := s.dial("/live", ""); err == nil || res == nil || res.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %v, %v, want 401", res, err)
	}
}

func TestASessionThatCannotBeStoredIsNoUpgrade(t *testing.T) {
	upgraded := make(chan error, 1)
	s := newSite(t, false, func(a *app, mgr *sessions.Manager[AppSession]) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("POST /login", a.wt.H3.Handler)
		mux.Handle("CONNECT /live", mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sessions.Get[AppSession](r.Context()).Data.Connections++
			_, err := upgrade(a.wt, w, r)
			upgraded <- err
		})))
		return mux
	})
	s.post("/login")
	s.store.fails.Store(true)
	res, _, err := s.dial("/live", s.cookie)
	if err == nil || res == nil || res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the client got %v, %v, want 503", res, err)
	}
	if err := <-upgraded; err == nil || !strings.HasPrefix(err.Error(), "upgrade to WebTransport: sessions: ") {
		t.Errorf("upgrade returned %v, want an error", err)
	}
}

// If this test fails, upgrade.go may have become unnecessary.
func TestUpgradeAloneNeedsTheWriterOfHTTP3(t *testing.T) {
	panicked := make(chan any, 1)
	s := newSite(t, false, func(a *app, mgr *sessions.Manager[AppSession]) http.Handler {
		return mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() { panicked <- recover() }()
			_, _ = a.wt.Upgrade(w, r)
		}))
	})
	_, _, _ = s.dial("/live", "")
	if got, ok := (<-panicked).(error); !ok || !strings.Contains(got.Error(), "http3.Settingser") {
		t.Errorf("got %v, want a panic for want of http3.Settingser", got)
	}
}

func TestWhatIsNotHTTP3IsRefused(t *testing.T) {
	if _, err := upgrade(new(webtransport.Server), discard{}, nil); err == nil {
		t.Error("no error")
	}
}
