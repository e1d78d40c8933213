// Package shoptest serves the shop of examples/login with a store, and sends
// requests to it as a browser does.
package shoptest

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/login/shop"
)

// User-Agent headers of Firefox on Linux and of Safari on iPhone.
const (
	OnLinux  = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
	OnIPhone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 " +
		"(KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
)

// A Site is the shop on a server.
type Site struct {
	URL   *url.URL
	Keys  *sessions.Keyring
	Store sessions.Store // nil: cookies
}

// NewSite serves the shop until the test ends. It has one more page,
// /test/flash, which adds the query's message as a flash message.
func NewSite(t *testing.T, store sessions.Store, settings shop.Settings) *Site {
	t.Helper()
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	a, err := shop.New(keys, store, bcrypt.MinCost, settings)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", a.Handler())
	mux.Handle("GET /test/flash", a.Sessions.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sessions.Get[shop.AppSession](r.Context()).Flash("info", r.FormValue("message"))
	})))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	base, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &Site{base, keys, store}
}

// A Browser keeps cookies and follows no redirect by itself.
type Browser struct {
	Header [2]string // name and value of one more header, for forms

	t      *testing.T
	client *http.Client
	base   *url.URL
	agent  string
}

// Browser returns a browser without cookies that sends this User-Agent header.
func (s *Site) Browser(t *testing.T, agent string) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Browser{t: t, client: client, base: s.URL, agent: agent}
}

// Get requests a page.
func (b *Browser) Get(path string) *Answer {
	b.t.Helper()
	return b.do(http.MethodGet, path, nil)
}

// Post sends a form. The fields are names and values in turn.
func (b *Browser) Post(path string, fields ...string) *Answer {
	b.t.Helper()
	values := url.Values{}
	for pair := range slices.Chunk(fields, 2) {
		values.Set(pair[0], pair[1])
	}
	return b.do(http.MethodPost, path, strings.NewReader(values.Encode()))
}

// SignIn signs in as one of the users of the demo, with more fields of the form
// if given.
func (b *Browser) SignIn(name string, fields ...string) *Answer {
	b.t.Helper()
	a := b.Post("/login", append(fields, "username", name, "password", shop.Passwords[name])...)
	return a.WantRedirect("/dashboard")
}

func (b *Browser) do(method, path string, body io.Reader) *Answer {
	b.t.Helper()
	req, err := http.NewRequest(method, b.base.String()+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("User-Agent", b.agent)
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if b.Header[0] != "" && method == http.MethodPost {
		req.Header.Set(b.Header[0], b.Header[1])
	}
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	a := &Answer{t: b.t, Status: resp.StatusCode, Header: resp.Header, Body: string(page), Text: textOf(string(page))}
	for _, c := range resp.Cookies() {
		if c.Name == "session" {
			a.Cookie = c
		}
	}
	return a
}

// Cookie returns the session cookie that the browser keeps.
func (b *Browser) Cookie() *http.Cookie {
	b.t.Helper()
	for _, c := range b.client.Jar.Cookies(b.base) {
		if c.Name == "session" {
			return c
		}
	}
	b.t.Fatal("the browser has no session cookie")
	return nil
}

// SetCookie stores a cookie as if the site had set it.
func (b *Browser) SetCookie(c *http.Cookie) { b.client.Jar.SetCookies(b.base, []*http.Cookie{c}) }

// An Answer is a response.
type Answer struct {
	Status int
	Header http.Header
	Cookie *http.Cookie // of the session, nil if the response sets none
	Body   string
	Text   string // the Body without the markup

	t *testing.T
}

// WantStatus reports an error unless the response has this status.
func (a *Answer) WantStatus(want int) *Answer {
	a.t.Helper()
	if a.Status != want {
		a.t.Errorf("got status %d, want %d", a.Status, want)
	}
	return a
}

// WantRedirect reports an error unless the response leads to this path.
func (a *Answer) WantRedirect(path string) *Answer {
	a.t.Helper()
	a.WantStatus(http.StatusSeeOther)
	if got := a.Header.Get("Location"); got != path {
		a.t.Errorf("got Location %q, want %q", got, path)
	}
	return a
}

// WantText reports an error unless the page has all these texts.
func (a *Answer) WantText(texts ...string) *Answer {
	a.t.Helper()
	for _, want := range texts {
		if !strings.Contains(a.Text, want) {
			a.t.Errorf("got status %d and a page without %q:\n%s", a.Status, want, a.Text)
		}
	}
	return a
}

// WantNoText reports an error if the page has this text.
func (a *Answer) WantNoText(text string) *Answer {
	a.t.Helper()
	if strings.Contains(a.Text, text) {
		a.t.Errorf("got a page with %q:\n%s", text, a.Text)
	}
	return a
}

// SessionIDs returns the ids of the sessions that the page lists.
func (a *Answer) SessionIDs() (ids []string) {
	for _, m := range regexp.MustCompile(`name="id" value="([^"]+)"`).FindAllStringSubmatch(a.Body, -1) {
		ids = append(ids, html.UnescapeString(m[1]))
	}
	return ids
}

func textOf(page string) string {
	bare := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " ")
	return strings.Join(strings.Fields(html.UnescapeString(bare)), " ")
}
