package migratetest

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// patience is the timeout of every request. Nothing here waits for more than the
// loopback network.
const patience = 20 * time.Second

// Serve serves h over TLS on a port that the system chooses until the test ends,
// and returns its address. All such addresses share their cookies, which have no
// port (RFC 6265, section 8.5): the old program and the new one are one host.
func Serve(t testing.TB, h http.Handler) string {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// A Browser keeps cookies and follows redirects.
type Browser struct {
	t      testing.TB
	client *http.Client
}

// NewBrowser returns a browser without cookies.
func NewBrowser(t testing.TB) *Browser {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	srv.StartTLS() // its client trusts the certificate of every such server
	srv.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := srv.Client().Transport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	return &Browser{t, &http.Client{Jar: jar, Transport: transport, Timeout: patience}}
}

// Get returns the page at address.
func (b *Browser) Get(address string) string {
	b.t.Helper()
	return b.visit(http.MethodGet, address)
}

// Post sends an empty form and returns the page after the redirect.
func (b *Browser) Post(address string) string {
	b.t.Helper()
	return b.visit(http.MethodPost, address)
}

func (b *Browser) visit(method, address string) string {
	b.t.Helper()
	r, err := http.NewRequest(method, address, http.NoBody)
	if err != nil {
		b.t.Fatal(err)
	}
	res, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		b.t.Fatalf("%s %s: got status %d\n%s", method, address, res.StatusCode, body)
	}
	return string(body)
}

// Cookie returns the cookie of that name that the browser would send to address,
// nil if there is none.
func (b *Browser) Cookie(address, name string) *http.Cookie {
	b.t.Helper()
	for _, c := range b.client.Jar.Cookies(b.parse(address)) {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// SetCookie stores a cookie as if address had set it.
func (b *Browser) SetCookie(address string, c *http.Cookie) {
	b.t.Helper()
	b.client.Jar.SetCookies(b.parse(address), []*http.Cookie{c})
}

func (b *Browser) parse(address string) *url.URL {
	b.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		b.t.Fatal(err)
	}
	return u
}

// WantText fails the test unless page has text.
func WantText(t testing.TB, page, text string) {
	t.Helper()
	if !strings.Contains(page, text) {
		t.Errorf("got the page\n%swant %q in it", page, text)
	}
}
