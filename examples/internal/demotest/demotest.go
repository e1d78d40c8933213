// Package demotest holds the tests that every example for a web framework
// passes. It serves the handler of the program and sends requests to it over real
// connections, with sessions in cookies and with sessions in a store.
package demotest

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/internal/demo"
)

// A Serve runs the program on a port that the system chooses until the test ends,
// and returns its address, such as "http://127.0.0.1:1234".
type Serve func(t testing.TB, mgr *sessions.Manager[demo.AppSession], tick demo.Ticker) string

// HTTP returns the Serve of a program whose handler is one of net/http.
func HTTP(newHandler func(*sessions.Manager[demo.AppSession], demo.Ticker) http.Handler) Serve {
	return func(t testing.TB, mgr *sessions.Manager[demo.AppSession], tick demo.Ticker) string {
		srv := httptest.NewServer(newHandler(mgr, tick))
		t.Cleanup(srv.Close)
		return srv.URL
	}
}

// Get sends one GET request without cookies to h, over a real connection, and
// returns the response. Its body is closed.
func Get(t testing.TB, h http.Handler) *http.Response {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := srv.Client().Transport.RoundTrip(r) // RoundTrip follows no redirect
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res
}

// NewManager returns a Manager with a key of its own and a store in memory.
func NewManager(t testing.TB) *sessions.Manager[demo.AppSession] {
	t.Helper()
	return newManager(t, new(sessions.MemoryStore))
}

func newManager(t testing.TB, store sessions.Store) *sessions.Manager[demo.AppSession] {
	t.Helper()
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	mgr, err := demo.NewManager(keys, store, false)
	if err != nil {
		t.Fatal(err)
	}
	return mgr
}

// Run runs all tests on the program that serve starts.
func Run(t *testing.T, serve Serve) {
	for _, mode := range []struct {
		name  string
		store func() sessions.Store
	}{
		{"in cookies", func() sessions.Store { return nil }},
		{"in a store", func() sessions.Store { return new(sessions.MemoryStore) }},
	} {
		t.Run(mode.name, func(t *testing.T) {
			for _, tt := range []struct {
				claim string
				test  func(*testing.T, *site)
			}{
				{"a wrong password shows the error once", wrongPassword},
				{"signing in changes the cookie and opens the dashboard", signingIn},
				{"signing out replaces the session", signingOut},
				{"no page is kept in a cache", notStored},
				{"an anonymous visitor is sent to the login page", anonymous},
				{"a visit that changes nothing sets no cookie", unchanged},
				{"a stream and a WebSocket need a user", liveWithoutUser},
			} {
				t.Run(tt.claim, func(t *testing.T) { tt.test(t, newSite(t, serve, mode.store())) })
			}
		})
	}
	for _, tt := range []struct {
		claim string
		store sessions.Store
		test  func(*testing.T, *site)
	}{
		{"the cookies from before signing in and out are refused", new(sessions.MemoryStore), oldCookies},
		{"a stream arrives event by event and saves the session between the events", new(sessions.MemoryStore), streaming},
		{"a stream ends when its user signs out", new(sessions.MemoryStore), streamEnds},
		{"a WebSocket reads and saves the session while connected", new(sessions.MemoryStore), chatting},
		{"a WebSocket ends when its user signs out", new(sessions.MemoryStore), chatEnds},
		{"a sign-in keeps nothing of the session before it", new(sessions.MemoryStore), signingInAgain},
		{"a stream and a WebSocket read a session in a cookie, and cannot save it", nil, liveInCookies},
	} {
		t.Run(tt.claim, func(t *testing.T) { tt.test(t, newSite(t, serve, tt.store)) })
	}
}

func wrongPassword(t *testing.T, s *site) {
	b := s.browser(t)
	for _, password := range []string{"wrong", ""} {
		b.post("/login", "user", demo.User, "password", password).wantRedirect("/login")
		b.get("/login").wantText("Invalid name or password")
		b.get("/login").wantNoText("Invalid name or password")
	}
	b.get("/").wantRedirect("/login")
}

func signingIn(t *testing.T, s *site) {
	b := s.browser(t)
	b.post("/login", "user", demo.User, "password", "wrong")
	before := b.cookie()
	if before == nil {
		t.Fatal("a visitor with a message has no cookie")
	}
	b.signIn()
	if after := b.cookie(); after == nil || after.Value == before.Value {
		t.Errorf("got the cookie %v after signing in, want another one than before", after)
	}
	b.get("/").wantText("Hello, ada", "Welcome")
	b.get("/").wantText("Hello, ada").wantNoText("Welcome")
}

func signingOut(t *testing.T, s *site) {
	b := s.browser(t)
	b.signIn()
	before := b.cookie()
	b.post("/logout").wantRedirect("/login")
	// The message is in a session of its own, whose cookie makes Chromium ask the
	// server after a click on Back.
	if after := b.cookie(); after == nil || after.Value == before.Value {
		t.Errorf("got the cookie %v after signing out, want another value", after)
	}
	b.get("/login").wantText("You have signed out")
	b.get("/login").wantNoText("You have signed out")
	b.get("/").wantRedirect("/login")
}

func signingInAgain(t *testing.T, s *site) {
	b := s.browser(t)
	b.signIn()
	chat := b.mustDial()
	chat.say("hello")
	chat.hear()
	b.get("/").wantText(`<output id="messages">1</output>`)
	b.signIn()
	b.get("/").wantText(`<output id="messages">0</output>`)
}

func notStored(t *testing.T, s *site) {
	b := s.browser(t)
	b.get("/login").wantNoStore()
	b.signIn()
	b.get("/").wantNoStore()
}

func anonymous(t *testing.T, s *site) {
	b := s.browser(t)
	b.get("/").wantRedirect("/login")
	b.get("/login").wantText("Please sign in first")
	b.get("/login").wantNoText("Please sign in first")
}

func unchanged(t *testing.T, s *site) {
	b := s.browser(t)
	if a := b.get("/login"); len(a.header["Set-Cookie"]) > 0 {
		t.Errorf("a new visitor got %q, want no cookie", a.header["Set-Cookie"])
	}
	b.signIn()
	b.get("/") // takes the welcome
	if a := b.get("/"); len(a.header["Set-Cookie"]) > 0 {
		t.Errorf("a reading request got %q, want no cookie", a.header["Set-Cookie"])
	}
}

func liveWithoutUser(t *testing.T, s *site) {
	b := s.browser(t)
	if got := b.get("/events").status; got != http.StatusUnauthorized {
		t.Errorf("/events: got status %d, want 401", got)
	}
	if _, err := b.dial(); err == nil {
		t.Error("a WebSocket was opened without a user")
	}
}

func oldCookies(t *testing.T, s *site) {
	b, thief := s.browser(t), s.browser(t)
	b.post("/login", "user", demo.User, "password", "wrong")
	planted := b.cookie()
	b.signIn()
	thief.setCookie(planted)
	thief.get("/login").wantNoText("Invalid name or password")
	thief.get("/").wantRedirect("/login")

	stolen := b.cookie()
	b.post("/logout")
	thief.setCookie(stolen)
	thief.get("/").wantRedirect("/login")
}

func streaming(t *testing.T, s *site) {
	b := s.browser(t)
	b.signIn()
	stream := b.stream()
	for _, n := range []string{"1", "2", "3"} {
		// The handler waits for the next tick while the test reads this event.
		s.tick(t)
		stream.want("second", n)
		b.get("/").wantText(`<output id="seconds">` + n + `</output>`)
	}
	close(s.ticks)
	stream.wantEnd()
}

func streamEnds(t *testing.T, s *site) {
	b := s.browser(t)
	b.signIn()
	stream := b.stream()
	s.tick(t)
	stream.want("second", "1")
	b.post("/logout").wantRedirect("/login") // ends the stream, without a tick
	stream.want("end", "You have signed out")
	stream.wantEnd()
	b.get("/").wantRedirect("/login")
}

func chatting(t *testing.T, s *site) {
	b := s.browser(t)
	b.signIn()
	chat := b.mustDial()
	for _, tt := range []struct{ text, answer, count string }{
		{"good morning", "ada 1: good morning", "1"},
		{"good night", "ada 2: good night", "2"},
	} {
		chat.say(tt.text)
		if got := chat.hear(); got != tt.answer {
			t.Errorf("got %q, want %q", got, tt.answer)
		}
		b.get("/").wantText(`<output id="messages">` + tt.count + `</output>`)
	}
}

func chatEnds(t *testing.T, s *site) {
	b := s.browser(t)
	b.signIn()
	chat := b.mustDial()
	b.post("/logout").wantRedirect("/login") // closes the connection, without a message
	chat.wantClosed("You have signed out")
	b.get("/").wantRedirect("/login")
}

func liveInCookies(t *testing.T, s *site) {
	const late = "A session in a cookie cannot be saved in the middle of a response"
	b := s.browser(t)
	b.signIn()
	stream := b.stream()
	s.tick(t)
	stream.want("end", late)
	stream.wantEnd()
	chat := b.mustDial()
	chat.say("hello")
	chat.wantClosed(late)
	b.get("/").wantText(`<output id="messages">0</output>`)
}
