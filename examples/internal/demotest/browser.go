package demotest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/internal/demo"
)

// patience is the timeout of every wait. Nothing here waits for more than the
// loopback network.
const patience = 20 * time.Second

// A site is the running program under test.
type site struct {
	url   *url.URL
	ticks chan time.Time
}

func newSite(t *testing.T, serve Serve, store sessions.Store) *site {
	t.Helper()
	s := &site{ticks: make(chan time.Time)}
	base, err := url.Parse(serve(t, newManager(t, store), func() <-chan time.Time { return s.ticks }))
	if err != nil {
		t.Fatal(err)
	}
	s.url = base
	return s
}

// tick sends one tick to the one open stream.
func (s *site) tick(t *testing.T) {
	t.Helper()
	select {
	case s.ticks <- time.Time{}:
	case <-time.After(patience):
		t.Fatal("no stream waits for the clock")
	}
}

// A browser keeps cookies and follows no redirect by itself.
type browser struct {
	t      *testing.T
	site   *site
	client *http.Client
}

func (s *site) browser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{t, s, &http.Client{
		Jar:           jar,
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// cookie returns the session cookie, nil if there is none.
func (b *browser) cookie() *http.Cookie {
	for _, c := range b.client.Jar.Cookies(b.site.url) {
		if c.Name == "session" {
			return c
		}
	}
	return nil
}

func (b *browser) setCookie(c *http.Cookie) {
	b.client.Jar.SetCookies(b.site.url, []*http.Cookie{{Name: c.Name, Value: c.Value, Path: "/"}})
}

// send sends a request. It ends with the test, or after patience.
func (b *browser) send(method, path string, body io.Reader) *http.Response {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	b.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, b.site.url.String()+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { res.Body.Close() })
	return res
}

func (b *browser) get(path string) *answer {
	b.t.Helper()
	return b.answer(http.MethodGet, path, nil)
}

// post sends a form. The fields are names and values in turn.
func (b *browser) post(path string, form ...string) *answer {
	b.t.Helper()
	values := url.Values{}
	for i := 0; i < len(form); i += 2 {
		values.Set(form[i], form[i+1])
	}
	return b.answer(http.MethodPost, path, strings.NewReader(values.Encode()))
}

func (b *browser) signIn() {
	b.t.Helper()
	b.post("/login", "user", demo.User, "password", demo.Password).wantRedirect("/")
}

// An answer is a response with its body.
type answer struct {
	t      *testing.T
	path   string
	status int
	header http.Header
	body   string
}

func (b *browser) answer(method, path string, form io.Reader) *answer {
	b.t.Helper()
	res := b.send(method, path, form)
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	return &answer{b.t, path, res.StatusCode, res.Header, string(body)}
}

func (a *answer) wantRedirect(path string) {
	a.t.Helper()
	if got := a.header.Get("Location"); a.status != http.StatusSeeOther || got != path {
		a.t.Fatalf("%s: got status %d and Location %q, want 303 and %q", a.path, a.status, got, path)
	}
}

func (a *answer) wantText(texts ...string) *answer {
	a.t.Helper()
	for _, text := range texts {
		if a.status != http.StatusOK || !strings.Contains(a.body, text) {
			a.t.Fatalf("%s: got status %d and no %q in\n%s", a.path, a.status, text, a.body)
		}
	}
	return a
}

func (a *answer) wantNoText(text string) {
	a.t.Helper()
	if a.status != http.StatusOK || strings.Contains(a.body, text) {
		a.t.Fatalf("%s: got status %d, want 200 without %q in\n%s", a.path, a.status, text, a.body)
	}
}

func (a *answer) wantNoStore() {
	a.t.Helper()
	if got := a.header.Get("Cache-Control"); a.status != http.StatusOK || got != "no-store" {
		a.t.Errorf("%s: got status %d and Cache-Control %q, want 200 and no-store", a.path, a.status, got)
	}
}

// A stream reads server-sent events as they arrive.
type stream struct {
	t     *testing.T
	lines *bufio.Scanner
}

// stream opens /events and waits for the header of the response.
func (b *browser) stream() *stream {
	b.t.Helper()
	res := b.send(http.MethodGet, "/events", nil)
	if got := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || !strings.HasPrefix(got, "text/event-stream") {
		b.t.Fatalf("/events: got status %d and Content-Type %q", res.StatusCode, got)
	}
	return &stream{b.t, bufio.NewScanner(res.Body)}
}

func (s *stream) want(event, data string) {
	s.t.Helper()
	got := map[string]string{}
	for s.lines.Scan() && s.lines.Text() != "" {
		// The space after the colon may be left out.
		name, value, _ := strings.Cut(s.lines.Text(), ":")
		got[name] = strings.TrimPrefix(value, " ")
	}
	if got["event"] != event || got["data"] != data {
		s.t.Fatalf("got the event %v, want %s with %q (%v)", got, event, data, s.lines.Err())
	}
}

func (s *stream) wantEnd() {
	s.t.Helper()
	if s.lines.Scan() || s.lines.Err() != nil {
		s.t.Fatalf("got %q and %v, want the end of the stream", s.lines.Text(), s.lines.Err())
	}
}

// A chat is an open WebSocket.
type chat struct {
	t    *testing.T
	ctx  context.Context
	conn *websocket.Conn
}

func (b *browser) dial() (*chat, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	b.t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, b.site.url.String()+"/ws", &websocket.DialOptions{HTTPClient: b.client})
	if err != nil {
		return nil, err
	}
	b.t.Cleanup(func() { conn.CloseNow() })
	return &chat{b.t, ctx, conn}, nil
}

func (b *browser) mustDial() *chat {
	b.t.Helper()
	c, err := b.dial()
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (c *chat) say(text string) {
	c.t.Helper()
	if err := c.conn.Write(c.ctx, websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *chat) hear() string {
	c.t.Helper()
	_, text, err := c.conn.Read(c.ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

func (c *chat) wantClosed(reason string) {
	c.t.Helper()
	_, _, err := c.conn.Read(c.ctx)
	var closed websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != websocket.StatusPolicyViolation || closed.Reason != reason {
		c.t.Fatalf("got %v, want it closed for the reason %q", err, reason)
	}
}
