package browser

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// What docs/IN-PRACTICE.md says of browsers. The site here sets cookies with
// net/http alone, since these are rules of the browser.

// A plainSite sets a cookie for each kind of SameSite, and shows which come back.
type plainSite struct {
	local  string      // its URL on the host localhost
	number string      // its URL on the host 127.0.0.1, which is another site
	asked  chan string // the Sec-Purpose of each request for /asked, and its cookies

	private atomic.Int64 // requests for /private
}

func openSite(t *testing.T) *plainSite {
	t.Helper()
	if chromium() == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is missing; Debian's package chromium brings it")
		}
		t.Skip("chromium is missing; Debian's package chromium brings it")
	}
	if err := prepare(); err != nil {
		t.Fatal(err)
	}
	s := &plainSite{asked: make(chan string, 10)}
	mux := http.NewServeMux()
	page := func(path, html string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<!doctype html><body>"+strings.ReplaceAll(html, "LOCAL", s.local))
		})
	}
	set := func(path string, lines ...string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			for _, line := range lines {
				w.Header().Add("Set-Cookie", line)
			}
			w.Header().Set("Cache-Control", "no-store")
			fmt.Fprint(w, "set")
		})
	}
	sameSite := []string{"lax=1; Path=/; SameSite=Lax", "strict=1; Path=/; SameSite=Strict", "none=1; Path=/; SameSite=None; Secure", "unnamed=1; Path=/"}
	set("/set", sameSite...)
	mux.HandleFunc("/cookies", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, names(r)) })
	mux.HandleFunc("/asked", func(w http.ResponseWriter, r *http.Request) {
		s.asked <- r.Header.Get("Sec-Purpose") + " " + names(r)
	})
	mux.HandleFunc("/callback", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, s.local+"/cookies", http.StatusFound)
	})
	page("/link", `<a href="LOCAL/cookies">go</a>`)
	page("/redirected", `<a href="/callback">go</a>`)
	page("/form", `<form method="post" action="LOCAL/cookies"><button>go</button></form>`)
	page("/form-redirected", `<form method="post" action="LOCAL/callback"><button>go</button></form>`)
	page("/frame", `<iframe src="LOCAL/asked"></iframe>`)
	page("/setting-frame", `<iframe src="LOCAL/set-in-frame"></iframe>`)
	mux.HandleFunc("/set-in-frame", func(w http.ResponseWriter, r *http.Request) {
		for _, line := range append(sameSite, "partitioned=1; Path=/; SameSite=None; Secure; Partitioned") {
			w.Header().Add("Set-Cookie", line)
		}
		http.Redirect(w, r, "/asked", http.StatusSeeOther)
	})
	set("/signin", "session=1; Path=/; HttpOnly; SameSite=Lax")
	mux.HandleFunc("/private", func(w http.ResponseWriter, r *http.Request) {
		s.private.Add(1)
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprint(w, `<!doctype html><body><a href="/expire">expire</a> <a href="/change">change</a> <a href="/nothing">nothing</a>`)
	})
	set("/nothing")
	set("/expire", "session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax")
	set("/change", "session=2; Path=/; HttpOnly; SameSite=Lax")
	page("/prefetch", `<script type="speculationrules">{"prefetch": [{"urls": ["/asked"], "eagerness": "immediate"}]}</script>`)

	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s.local, s.number = "http://localhost:"+port, srv.URL
	return s
}

// names returns the names of the cookies of a request.
func names(r *http.Request) string {
	var all []string
	for _, c := range r.Cookies() {
		all = append(all, c.Name)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestSiteWhichCookiesComeBackFromAnotherSite(t *testing.T) {
	s := openSite(t)
	for _, tt := range []struct{ page, want string }{
		{"/link", "lax none unnamed"},
		{"/redirected", "lax none unnamed"}, // the callback of OAuth by GET
		{"/form", "none unnamed"},           // form_post
		{"/form-redirected", "lax none unnamed"},
	} {
		t.Run(tt.page, func(t *testing.T) {
			b := openTab(t, shared.browser, s.local, chromedp.WithNewBrowserContext())
			b.visit("/set")
			run(b, chromedp.Navigate(s.number+tt.page))
			b.click("go")
			if got := b.text(); got != tt.want {
				t.Errorf("got the cookies %q, want %q", got, tt.want)
			}
		})
	}
}

// wantAsked waits for a request for /asked.
func (s *plainSite) wantAsked(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-s.asked:
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatal("nothing was fetched")
	}
}

func TestSitePrefetchSendsTheCookie(t *testing.T) {
	s := openSite(t)
	b := openTab(t, shared.browser, s.local, chromedp.WithNewBrowserContext())
	b.visit("/set")
	b.visit("/prefetch")
	s.wantAsked(t, "prefetch lax none strict unnamed")
}

func TestSiteInAFrameOnlyPartitionedCookiesComeBack(t *testing.T) {
	s := openSite(t)
	b := openTab(t, shared.browser, s.local, chromedp.WithNewBrowserContext())
	b.visit("/set")
	run(b, chromedp.Navigate(s.number+"/frame"))
	s.wantAsked(t, " ")
	run(b, chromedp.Navigate(s.number+"/setting-frame"))
	s.wantAsked(t, " partitioned")
}

func TestSitePortsDoNotSeparateCookies(t *testing.T) {
	one, two := openSite(t), openSite(t)
	b := openTab(t, shared.browser, one.local, chromedp.WithNewBrowserContext())
	b.visit("/set")
	run(b, chromedp.Navigate(two.local+"/cookies"))
	if got, want := b.text(), "lax none strict unnamed"; got != want {
		t.Errorf("at another port: got the cookies %q, want %q", got, want)
	}
}

// Chromium keeps also no-store pages in its memory, for the Back button.
func TestSiteBackAsksTheServerOnlyIfTheCookieChanged(t *testing.T) {
	for _, tt := range []struct {
		click    string
		requests int64
	}{{"nothing", 1}, {"expire", 2}, {"change", 2}} {
		t.Run(tt.click, func(t *testing.T) {
			s := openSite(t)
			b := openTab(t, shared.browser, s.local, chromedp.WithNewBrowserContext())
			b.visit("/signin")
			b.visit("/private")
			b.click(tt.click)
			b.back()
			b.wantPath("/private")
			if got := s.private.Load(); got != tt.requests {
				t.Errorf("got %d requests for the page, want %d", got, tt.requests)
			}
		})
	}
}
