package dbsc_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/typedsessions/sessions/dbsc"
)

// A browser is a simulated one that binds sessions as Chromium 156 does. Its
// clock is that of package time, which a synctest bubble moves on. Registrations
// and proactive refreshes run when a visit is over, unless hold is set: then run
// lets them.
type browser struct {
	t     testing.TB
	rt    http.RoundTripper
	plain bool // it knows nothing of the draft
	old   bool // it sends the headers with quotes, as the draft has them
	hold  bool

	// lose reports whether the answer to a request is lost on its way.
	lose func(*http.Request) bool
	// on sees every request before it is sent, and answer what came back.
	on     func(*http.Request)
	answer func(*http.Response)

	mu       sync.Mutex
	jar      []*kept
	bindings []*binding
	signed   []time.Time // when a key was used, for the quota
	pending  []func()
	events   []string
}

// kept is a cookie of the jar.
type kept struct {
	http.Cookie
	host string
	ends time.Time // zero: with the browser
}

// binding is a session of the draft.
type binding struct {
	id, site, refresh string // refresh is an absolute URL
	origin            string
	includeSite       bool
	rules             []scopeRule
	credentials       []*http.Cookie
	initiators        []string
	key               *ecdsa.PrivateKey

	turn      chan struct{} // one refresh at a time
	challenge string
	proof     string // that the server has not answered yet
	failures  int
	notBefore time.Time
	gone      bool
}

type scopeRule struct{ Type, Domain, Path string }

// A visit is a request that a page or a person causes.
type visit struct {
	method, url, body string
	from              string // the origin of the page that causes it; "": a person types it
	dest              string // "document" if empty; "empty" is fetch
	omit              bool   // fetch with credentials: "omit"
	frame             bool   // within a page of another site
	header            http.Header
}

type answer struct {
	*http.Response
	text string
	url  string
}

// The limits of Chromium.
const (
	quotaCount    = 6
	quotaTime     = 9 * time.Minute
	proactiveTime = 2 * time.Minute
	firstBackOff  = 500 * time.Millisecond
	mostBackOff   = 8 * time.Minute
	mostRedirects = 10
)

func newBrowser(t testing.TB, rt http.RoundTripper) *browser { return &browser{t: t, rt: rt} }

func (b *browser) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, fmt.Sprintf(format, args...))
}

// took returns the events since the last call.
func (b *browser) took() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	events := b.events
	b.events = nil
	return events
}

// get is a navigation that a person types.
func (b *browser) get(url string) *answer { return b.visit(visit{url: url}) }

// visit sends a request, waits for the refreshes that it needs, and follows
// redirects and a Refresh header.
func (b *browser) visit(v visit) *answer {
	b.t.Helper()
	for hops := 0; ; hops++ {
		if hops > mostRedirects {
			b.t.Fatalf("%s: too many redirects", v.url)
		}
		a := b.send(v)
		if !b.hold {
			b.run()
		}
		to := a.Header.Get("Location")
		switch {
		case a.StatusCode >= 300 && a.StatusCode < 400 && to != "":
			if a.StatusCode != http.StatusTemporaryRedirect && a.StatusCode != http.StatusPermanentRedirect {
				v.method, v.body = "GET", ""
			}
			v.url = resolve(b.t, v.url, to)
		case a.Header.Get("Refresh") == "0" && isPage(v):
			v.from = originOf(parse(b.t, v.url)) // the page itself causes it
		default:
			return a
		}
	}
}

// run does what waits for the end of a visit.
func (b *browser) run() {
	for {
		b.mu.Lock()
		todo := b.pending
		b.pending = nil
		b.mu.Unlock()
		if len(todo) == 0 {
			return
		}
		for _, f := range todo {
			f()
		}
	}
}

func isPage(v visit) bool { return v.dest == "" || v.dest == "document" }

// send sends one request, after the refreshes that it waits for.
func (b *browser) send(v visit) *answer {
	b.t.Helper()
	u := parse(b.t, v.url)
	r, err := http.NewRequest(cmpOr(v.method, "GET"), v.url, strings.NewReader(v.body))
	if err != nil {
		b.t.Fatal(err)
	}
	for name, lines := range v.header {
		r.Header[name] = lines
	}
	r.Header.Set("Sec-Fetch-Dest", cmpOr(v.dest, "document"))
	r.Header.Set("Sec-Fetch-Site", relation(v.from, u))
	switch v.dest {
	case "", "document":
		r.Header.Set("Sec-Fetch-Mode", "navigate")
		r.Header.Set("Accept", "text/html")
	case "empty":
		r.Header.Set("Sec-Fetch-Mode", "cors")
	default:
		r.Header.Set("Sec-Fetch-Mode", "no-cors")
	}
	if r.Method != "GET" {
		r.Header.Set("Origin", cmpOr(v.from, originOf(u)))
	}
	if !v.omit {
		for _, s := range b.concerned(v, u) {
			b.before(s, r, v, u)
		}
		b.addCookies(r, u, v)
	}
	resp, text, err := b.roundTrip(r)
	if err != nil {
		b.t.Fatalf("%s %s: %v", r.Method, v.url, err)
	}
	if !v.omit {
		b.receive(resp, u, v)
	}
	return &answer{resp, text, v.url}
}

// concerned returns the sessions whose cookies a request waits for.
func (b *browser) concerned(v visit, u *url.URL) (all []*binding) {
	if u.Scheme != "https" || b.plain {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.bindings {
		if !s.gone && s.covers(u) && s.mayBeCausedBy(v.from) {
			all = append(all, s)
		}
	}
	return all
}

// covers reports whether a URL is in the scope of the session.
func (s *binding) covers(u *url.URL) bool {
	switch {
	case u.String() == s.refresh:
		return false
	case s.includeSite && siteOf(u.Host) != s.site:
		return false
	case !s.includeSite && originOf(u) != s.origin:
		return false
	}
	for _, rule := range slices.Backward(s.rules) {
		if hostMatches(rule.Domain, u.Hostname()) && pathMatches(rule.Path, u.Path) {
			return rule.Type == "include"
		}
	}
	return true
}

func (s *binding) mayBeCausedBy(from string) bool {
	if from == "" || from == s.origin || s.includeSite && siteOf(hostOf(from)) == s.site {
		return true
	}
	for _, pattern := range s.initiators {
		if hostMatches(pattern, strings.Split(hostOf(from), ":")[0]) {
			return true
		}
	}
	return false
}

// before refreshes a session if a request needs that.
func (b *browser) before(s *binding, r *http.Request, v visit, u *url.URL) {
	left := b.left(s, u)
	switch {
	case left <= 0:
		if why := b.refresh(s, v); why != "" {
			r.Header.Add("Secure-Session-Skipped", why+`;session_identifier="`+s.id+`"`)
			b.note("skipped: %s", why)
		}
	case left <= proactiveTime:
		b.mu.Lock()
		b.pending = append(b.pending, func() {
			if b.left(s, u) <= proactiveTime {
				b.note("proactive")
				b.refresh(s, v)
			}
		})
		b.mu.Unlock()
	}
}

// left returns how long all bound cookies of a session last, 0 if one is missing.
func (b *browser) left(s *binding, u *url.URL) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	least := 400 * 24 * time.Hour
	for _, want := range s.credentials {
		i := slices.IndexFunc(b.jar, func(c *kept) bool {
			return c.Name == want.Name && c.goesTo(u) && alike(&c.Cookie, want)
		})
		if i < 0 {
			return 0
		}
		if c := b.jar[i]; !c.ends.IsZero() {
			least = min(least, time.Until(c.ends))
		}
	}
	return least
}

// alike reports whether a cookie has the attributes that a session asks for.
// Those of its end do not count.
func alike(c, want *http.Cookie) bool {
	return c.Domain == want.Domain && c.Path == want.Path && c.Secure == want.Secure && c.HttpOnly == want.HttpOnly &&
		c.SameSite == want.SameSite && !c.Partitioned && !want.Partitioned
}

// refresh gets new bound cookies. It returns the reason if the request has to go
// without them, for Secure-Session-Skipped.
func (b *browser) refresh(s *binding, v visit) (skip string) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.gone || b.left(s, parse(b.t, s.refresh)) > proactiveTime { // the one before has done it
		return ""
	}
	if time.Now().Before(s.notBefore) {
		return "unreachable"
	}
	stubborn := 0
	for {
		if s.challenge != "" {
			if !b.maySign() {
				return "quota_exceeded"
			}
			s.proof = dbsc.Sign(s.key, false, s.challenge, "")
			s.challenge = ""
		}
		resp, body, err := b.post(s.refresh, v, map[string]string{"Sec-Secure-Session-Id": s.id, "Secure-Session-Response": s.proof})
		switch {
		case err != nil:
			b.note("refresh: unreachable")
			b.fail(s)
			return "unreachable"
		case resp.StatusCode >= 500:
			b.note("refresh: %d", resp.StatusCode)
			b.fail(s)
			return "server_error"
		}
		s.failures, s.notBefore = 0, time.Time{}
		s.take(parseList(b.t, resp.Header["Secure-Session-Challenge"])) // also if another has taken its place
		switch {
		case resp.StatusCode == http.StatusForbidden && s.challenge != "":
			continue
		case resp.StatusCode == http.StatusForbidden && stubborn < 4:
			stubborn++
		case resp.StatusCode == http.StatusForbidden:
			b.end(s, "TooManyChallenges")
			return ""
		case resp.StatusCode >= 200 && resp.StatusCode < 300:
			s.proof = ""
			b.refreshed(s, body)
			return ""
		default:
			b.end(s, fmt.Sprint(resp.StatusCode))
			return ""
		}
	}
}

// take notes the challenge for the session, if there is one.
func (s *binding) take(challenges []item) {
	for _, c := range challenges {
		if c.params["id"] == s.id {
			s.challenge = c.value
		}
	}
}

// fail notes a transient error. After three, the browser waits.
func (b *browser) fail(s *binding) {
	if s.failures++; s.failures < 3 {
		return
	}
	wait := firstBackOff
	for range s.failures - 3 {
		wait = min(wait*3/2, mostBackOff)
	}
	s.notBefore = time.Now().Add(wait)
}

// maySign counts the use of a key.
func (b *browser) maySign() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.signed = slices.DeleteFunc(b.signed, func(at time.Time) bool { return time.Since(at) >= quotaTime })
	if len(b.signed) >= quotaCount {
		return false
	}
	b.signed = append(b.signed, time.Now())
	return true
}

// end ends a session, and what has taken its place: Chromium finds it by site and
// identifier.
func (b *browser) end(s *binding, why string) {
	b.mu.Lock()
	s.gone = true
	b.bindings = slices.DeleteFunc(b.bindings, func(other *binding) bool {
		same := other.site == s.site && other.id == s.id
		other.gone = other.gone || same
		return same
	})
	b.mu.Unlock()
	b.note("ended: %s", why)
}

// refreshed handles the body of an answer to a refresh.
func (b *browser) refreshed(s *binding, body string) {
	if body == "" {
		b.note("refreshed")
		return
	}
	next, ends, err := b.configure(body, s.refresh)
	switch {
	case ends:
		b.end(s, "continue: false")
	case err != nil || next.id != s.id:
		b.end(s, "InvalidConfig")
	default:
		b.mu.Lock()
		s.refresh, s.origin, s.includeSite, s.rules = next.refresh, next.origin, next.includeSite, next.rules
		s.credentials, s.initiators = next.credentials, next.initiators
		b.mu.Unlock()
		b.note("refreshed")
	}
}

// configure reads what a server says of a session. base is the URL that served it.
func (b *browser) configure(body, base string) (s *binding, ends bool, err error) {
	var c struct {
		Identifier string `json:"session_identifier"`
		RefreshURL string `json:"refresh_url"`
		Continue   *bool  `json:"continue"`
		Scope      *struct {
			IncludeSite *bool       `json:"include_site"`
			Origin      string      `json:"origin"`
			Rules       []scopeRule `json:"scope_specification"`
		} `json:"scope"`
		Credentials []struct{ Type, Name, Attributes string } `json:"credentials"`
		Initiators  []string                                  `json:"allowed_refresh_initiators"`
	}
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		return nil, false, err
	}
	if c.Continue != nil && !*c.Continue {
		return nil, true, nil
	}
	if c.Identifier == "" || c.Scope == nil || c.Scope.IncludeSite == nil || len(c.Credentials) == 0 {
		return nil, false, errors.New("incomplete")
	}
	u := parse(b.t, base)
	s = &binding{id: c.Identifier, site: siteOf(u.Host), refresh: base, origin: originOf(u), includeSite: *c.Scope.IncludeSite, rules: c.Scope.Rules, initiators: c.Initiators}
	if c.RefreshURL != "" {
		s.refresh = resolve(b.t, base, c.RefreshURL)
	}
	if c.Scope.Origin != "" {
		s.origin = c.Scope.Origin
	}
	refresh := parse(b.t, s.refresh)
	if refresh.Scheme != "https" || siteOf(refresh.Host) != s.site || siteOf(hostOf(s.origin)) != s.site {
		return nil, false, errors.New("another site")
	}
	if s.includeSite && hostOf(s.origin) != s.site {
		return nil, false, errors.New("include_site from a subdomain")
	}
	for _, want := range c.Credentials {
		line := want.Name + "=x"
		if want.Attributes != "" {
			line += "; " + want.Attributes
		}
		cookie, err := http.ParseSetCookie(line)
		if err != nil || want.Type != "cookie" || cookie.Partitioned {
			return nil, false, errors.New("credential")
		}
		if strings.HasPrefix(cookie.Name, "__Host-") && originOf(u) != s.origin {
			return nil, false, errors.New("InvalidCredentialsCookiePrefix")
		}
		if strings.HasPrefix(strings.ToLower(cookie.Name), "__host-http-") {
			return nil, false, errors.New("InvalidCredentialsCookie") // Chromium 156
		}
		cookie.Path = cmpOr(cookie.Path, defaultPath(u))
		s.credentials = append(s.credentials, cookie)
	}
	return s, false, nil
}

// post sends a request of the browser itself.
func (b *browser) post(to string, v visit, header map[string]string) (*http.Response, string, error) {
	u := parse(b.t, to)
	for hops := 0; ; hops++ {
		r, err := http.NewRequestWithContext(context.Background(), "POST", u.String(), nil)
		if err != nil {
			b.t.Fatal(err)
		}
		r.Header.Set("Origin", originOf(u))
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Sec-Fetch-Mode", "no-cors")
		r.Header.Set("Sec-Fetch-Dest", "empty")
		for name, value := range header {
			if value != "" && b.old {
				value = `"` + value + `"`
			}
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		b.addCookies(r, u, v)
		resp, text, err := b.roundTrip(r)
		if err != nil {
			return nil, "", err
		}
		b.receive(resp, u, v)
		if to := resp.Header.Get("Location"); resp.StatusCode >= 300 && resp.StatusCode < 400 && to != "" && hops < mostRedirects {
			u = parse(b.t, resolve(b.t, u.String(), to))
			continue
		}
		return resp, text, nil
	}
}

var errLost = errors.New("the answer was lost")

func (b *browser) roundTrip(r *http.Request) (*http.Response, string, error) {
	if b.on != nil {
		b.on(r)
	}
	resp, err := b.rt.RoundTrip(r)
	if err != nil {
		return nil, "", err
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, "", err
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	if b.lose != nil && b.lose(r) {
		return nil, "", errLost
	}
	if b.answer != nil {
		b.answer(resp)
	}
	return resp, string(text), nil
}

// receive takes in the headers of an answer.
func (b *browser) receive(resp *http.Response, u *url.URL, v visit) {
	for _, c := range resp.Cookies() {
		b.keep(c, u)
	}
	for _, what := range strings.Split(resp.Header.Get("Clear-Site-Data"), ",") {
		if what = strings.Trim(what, ` "`); what == "cookies" || what == "storage" {
			b.clear(siteOf(u.Host), what == "cookies")
		}
	}
	if b.plain || u.Scheme != "https" || v.frame {
		return
	}
	for _, s := range slices.Clone(b.bindings) {
		if s.site == siteOf(u.Host) {
			s.take(parseList(b.t, resp.Header["Secure-Session-Challenge"]))
		}
	}
	for _, item := range parseList(b.t, resp.Header["Secure-Session-Registration"]) {
		b.mu.Lock()
		b.pending = append(b.pending, func() { b.register(item, u, v) })
		b.mu.Unlock()
	}
}

// register makes a key and sends it.
func (b *browser) register(item item, from *url.URL, v visit) {
	to := resolve(b.t, from.String(), item.params["path"])
	u := parse(b.t, to)
	if !slices.Contains(item.inner, "ES256") || item.params["challenge"] == "" || u.Scheme != "https" || siteOf(u.Host) != siteOf(from.Host) {
		b.note("no registration")
		return
	}
	if !b.maySign() {
		b.note("registration: quota_exceeded")
		return
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	resp, body, err := b.post(to, v, map[string]string{"Secure-Session-Response": dbsc.Sign(key, true, item.params["challenge"], item.params["authorization"])})
	switch {
	case err != nil:
		b.note("registration: %v", err)
		return
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		b.note("registration: %d", resp.StatusCode)
		return
	}
	s, ends, err := b.configure(body, to)
	if ends || err != nil {
		b.note("registration: InvalidConfig")
		return
	}
	s.key, s.turn = key, make(chan struct{}, 1)
	b.mu.Lock()
	b.bindings = slices.DeleteFunc(b.bindings, func(other *binding) bool {
		other.gone = other.gone || other.site == s.site && other.id == s.id
		return other.site == s.site && other.id == s.id
	})
	b.bindings = append(b.bindings, s)
	b.mu.Unlock()
	s.take(parseList(b.t, resp.Header["Secure-Session-Challenge"]))
	b.note("registered")
}

func (b *browser) clear(site string, cookies bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cookies {
		b.jar = slices.DeleteFunc(b.jar, func(c *kept) bool { return siteOf(c.host) == site })
	}
	b.bindings = slices.DeleteFunc(b.bindings, func(s *binding) bool {
		s.gone = s.gone || s.site == site
		return s.site == site
	})
}

// keep puts a cookie into the jar.
func (b *browser) keep(c *http.Cookie, u *url.URL) {
	k := &kept{Cookie: *c, host: u.Hostname()}
	if c.Domain != "" {
		k.host = c.Domain
	}
	k.Path = cmpOr(c.Path, defaultPath(u))
	if strings.HasPrefix(c.Name, "__Host-") && (!c.Secure || c.Domain != "" || c.Path != "/") || c.Secure && u.Scheme != "https" {
		b.note("cookie refused: %s", c.Name)
		return
	}
	switch {
	case c.MaxAge != 0:
		k.ends = time.Now().Add(time.Duration(c.MaxAge) * time.Second)
	case !c.Expires.IsZero():
		k.ends = c.Expires
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jar = slices.DeleteFunc(b.jar, func(other *kept) bool {
		return other.Name == k.Name && other.host == k.host && other.Path == k.Path
	})
	if k.ends.IsZero() || k.ends.After(time.Now()) {
		b.jar = append(b.jar, k)
	}
}

func (c *kept) goesTo(u *url.URL) bool {
	if !c.ends.IsZero() && !c.ends.After(time.Now()) {
		return false
	}
	host := u.Hostname()
	return (host == c.host || c.Domain != "" && strings.HasSuffix(host, "."+c.host)) &&
		(!c.Secure || u.Scheme == "https") && (u.Path == c.Path || strings.HasPrefix(u.Path, strings.TrimSuffix(c.Path, "/")+"/"))
}

// addCookies adds the cookies that a request may have.
func (b *browser) addCookies(r *http.Request, u *url.URL, v visit) {
	where := relation(v.from, u)
	strict := where != "cross-site" && !v.frame
	lax := strict || isPage(v) && cmpOr(v.method, "GET") == "GET" && !v.frame && r.Header.Get("Sec-Fetch-Dest") == "document"
	b.mu.Lock()
	defer b.mu.Unlock()
	var pairs []string
	for _, c := range b.jar {
		if !c.goesTo(u) || c.SameSite == http.SameSiteStrictMode && !strict || c.SameSite != http.SameSiteNoneMode && !lax {
			continue
		}
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	if pairs != nil {
		r.Header.Set("Cookie", strings.Join(pairs, "; "))
	}
}

// cookie returns the value of a cookie whose name ends with a suffix, "" if there
// is none.
func (b *browser) cookie(suffix string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.jar {
		if strings.HasSuffix(c.Name, suffix) && (c.ends.IsZero() || c.ends.After(time.Now())) {
			return c.Value
		}
	}
	return ""
}

// drop removes the cookies whose name ends with a suffix.
func (b *browser) drop(suffix string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jar = slices.DeleteFunc(b.jar, func(c *kept) bool { return strings.HasSuffix(c.Name, suffix) })
}

// shorten lets the cookies whose name ends with a suffix end after d, if they last
// longer.
func (b *browser) shorten(suffix string, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.jar {
		if end := time.Now().Add(d); strings.HasSuffix(c.Name, suffix) && c.ends.After(end) {
			c.ends = end
		}
	}
}

// copyTo gives another browser all cookies, as a thief takes them.
func (b *browser) copyTo(thief *browser) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.jar {
		stolen := *c
		thief.jar = append(thief.jar, &stolen)
	}
}

// item is one of a list of RFC 9651.
type item struct {
	value  string
	inner  []string
	params map[string]string
}

// parseList reads lists of strings and of inner lists of tokens, with parameters.
func parseList(t testing.TB, lines []string) (items []item) {
	s := strings.Join(lines, ",")
	skip := func() { s = strings.TrimLeft(s, " \t") }
	text := func() string {
		end := strings.IndexByte(s[1:], '"')
		if s[0] != '"' || end < 0 {
			t.Fatalf("no string: %q", s)
		}
		v := s[1 : 1+end]
		s = s[end+2:]
		return v
	}
	for skip(); s != ""; skip() {
		it := item{params: map[string]string{}}
		if s[0] == '(' {
			inner, rest, ok := strings.Cut(s[1:], ")")
			if !ok {
				t.Fatalf("no inner list: %q", s)
			}
			it.inner, s = strings.Fields(inner), rest
		} else {
			it.value = text()
		}
		for strings.HasPrefix(s, ";") {
			name, rest, _ := strings.Cut(s[1:], "=")
			s = rest
			it.params[strings.TrimSpace(name)] = text()
		}
		items = append(items, it)
		if skip(); s == "" {
			break
		}
		if s[0] != ',' {
			t.Fatalf("no list: %q", s)
		}
		s = s[1:]
	}
	return items
}

func parse(t testing.TB, s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func resolve(t testing.TB, base, to string) string {
	return parse(t, base).ResolveReference(parse(t, to)).String()
}

func originOf(u *url.URL) string { return u.Scheme + "://" + u.Host }

func hostOf(origin string) string {
	_, host, _ := strings.Cut(origin, "://")
	return host
}

// siteOf returns the registrable domain: here the last two labels.
func siteOf(host string) string {
	labels := strings.Split(strings.Split(host, ":")[0], ".")
	return strings.Join(labels[max(0, len(labels)-2):], ".")
}

func relation(from string, u *url.URL) string {
	switch {
	case from == "":
		return "none"
	case from == originOf(u):
		return "same-origin"
	case siteOf(hostOf(from)) == siteOf(u.Host):
		return "same-site"
	}
	return "cross-site"
}

func hostMatches(pattern, host string) bool {
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasSuffix(host, suffix)
	}
	return pattern == "" || pattern == host
}

func pathMatches(pattern, path string) bool {
	return pattern == "" || path == pattern || strings.HasPrefix(path, strings.TrimSuffix(pattern, "/")+"/")
}

func defaultPath(u *url.URL) string {
	if i := strings.LastIndexByte(u.Path, '/'); i > 0 {
		return u.Path[:i]
	}
	return "/"
}

func cmpOr(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
