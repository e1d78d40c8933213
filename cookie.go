package sessions

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Cookie holds the attributes of the session's cookie that users change. Its
// zero value is the safe one: "__Host-session", Path=/, Secure, HttpOnly and
// SameSite=Lax. HttpOnly cannot be taken away.
//
// A name that begins with __Host- is a promise that browsers keep (RFC 6265bis,
// section 4.1.3): no other host, not even a subdomain, can plant a cookie of
// that name. Without it, whoever controls a sibling domain can send a visitor
// his own valid session in place of the visitor's.
type Cookie struct {
	// Name of the cookie. Zero: the strongest that fits, which is
	// "__Host-session", or "__Secure-session" with a Domain or a Path other
	// than "/", or "session" with Insecure.
	Name string
	// Path that the cookie is sent to. Zero: "/".
	Path string
	// Domain whose subdomains get the cookie too. Zero: this host alone.
	Domain string
	// SameSite, zero: Lax. None needs Secure.
	SameSite http.SameSite
	// Insecure leaves Secure out, for plain http on a developer's machine: all
	// browsers but Safari take a Secure cookie from http://localhost too, and
	// from any other address without TLS none does, without a word.
	Insecure bool
	// Partitioned gives each top-level site a cookie of its own (CHIPS), for
	// use in frames. It needs Secure.
	Partitioned bool
	// BrowserSession leaves Max-Age out: the cookie is gone when the browser
	// closes, until SetLifetime makes it last. Config.Lifetime holds all the same.
	BrowserSession bool
}

// Limits of browsers (RFC 6265bis, sections 5.5 and 5.6): a larger cookie is
// ignored, which leaves the old one in place; Max-Age counts for 400 days.
const (
	maxCookieSize = 4096
	maxMaxAge     = 400 * 24 * 60 * 60
	maxAttribute  = 1024
)

// A cookieSpec writes and finds one cookie.
type cookieSpec struct {
	name           string
	begin          string // name=
	path           string // "; Path=/; Domain=…"
	flags          string // "; HttpOnly; Secure; …"
	browserSession bool
}

// spec checks the attributes and joins all that is wrong with them.
func (c Cookie) spec() (cookieSpec, error) {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf("Config.Cookie."+format, args...)) }
	path := cmp.Or(c.Path, "/")
	name := c.Name
	switch {
	case name != "":
	case c.Insecure:
		name = "session"
	case c.Domain != "" || path != "/":
		name = "__Secure-session"
	default:
		name = "__Host-session"
	}
	if (&http.Cookie{Name: name, Value: "x"}).Valid() != nil {
		refuse("Name: %q is not a cookie name: letters, digits and !#$%%&'*+-.^_`|~ only (RFC 6265, section 4.1.1)", name)
	}
	if path[0] != '/' || len(path) > maxAttribute || (&http.Cookie{Name: "x", Value: "x", Path: path}).Valid() != nil {
		refuse("Path: %q is not a cookie path: it begins with /, has no semicolon and no control characters, and at most %d bytes", c.Path, maxAttribute)
	}
	if c.Domain != "" && (len(c.Domain) > maxAttribute || strings.Trim(c.Domain, ".") == "" || (&http.Cookie{Name: "x", Value: "x", Domain: c.Domain}).Valid() != nil) {
		refuse("Domain: %q is not a domain; leave it empty for this host alone", c.Domain)
	}
	errs = append(errs, c.prefixRules(name, path)...)
	if c.Insecure && c.SameSite == http.SameSiteNoneMode {
		refuse("SameSite: browsers refuse SameSite=None without Secure; drop Insecure")
	}
	if c.Insecure && c.Partitioned {
		refuse("Partitioned: browsers refuse it without Secure; drop Insecure")
	}
	s := cookieSpec{name: name, begin: name + "=", path: "; Path=" + path, flags: "; HttpOnly", browserSession: c.BrowserSession}
	if c.Domain != "" {
		s.path += "; Domain=" + strings.TrimPrefix(c.Domain, ".")
	}
	if !c.Insecure {
		s.flags += "; Secure"
	}
	switch c.SameSite {
	case 0, http.SameSiteDefaultMode, http.SameSiteLaxMode:
		s.flags += "; SameSite=Lax" // always said: browsers are laxer where it is not
	case http.SameSiteStrictMode:
		s.flags += "; SameSite=Strict"
	case http.SameSiteNoneMode:
		s.flags += "; SameSite=None"
	default:
		refuse("SameSite: %d is none of net/http's modes; leave it zero for Lax", c.SameSite)
	}
	if c.Partitioned {
		s.flags += "; Partitioned"
	}
	if size := len(name) + 1 + canonical.EncodedLen(idSize) + len(s.path) + len("; Max-Age=34560000") + len(s.flags); size > maxCookieSize {
		refuse("Name, Path and Domain leave no room: even the cookie of an id takes %d bytes, browsers take %d; shorten them", size, maxCookieSize)
	}
	return s, errors.Join(errs...)
}

// prefixRules are those of names that browsers take as promises. They compare
// without case.
func (c Cookie) prefixRules(name, path string) (errs []error) {
	has := func(prefix string) bool {
		return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
	}
	host, secure := has("__Host-"), has("__Host-") || has("__Secure-") || has("__Http-")
	if secure && c.Insecure {
		errs = append(errs, fmt.Errorf("Config.Cookie.Name: browsers refuse %q without Secure; drop Insecure or the prefix", name))
	}
	if host && path != "/" {
		errs = append(errs, fmt.Errorf("Config.Cookie.Name: browsers refuse %q with Path %q; leave Path empty or drop the prefix", name, path))
	}
	if host && c.Domain != "" {
		errs = append(errs, fmt.Errorf("Config.Cookie.Name: browsers refuse %q with a Domain; leave Domain empty or drop the prefix", name))
	}
	return errs
}

// line returns the value of the Set-Cookie header for the token that begins at
// start and ends buf, which is scratch. maxAge counts seconds; lasting overrules
// BrowserSession.
func (s *cookieSpec) line(buf *[]byte, start int, maxAge int64, lasting bool) (string, error) {
	token, n := (*buf)[start:], len(*buf)
	b := canonical.AppendEncode(append(*buf, s.begin...), token)
	b = append(b, s.path...)
	if !s.browserSession || lasting {
		b = append(b, "; Max-Age="...)
		b = strconv.AppendInt(b, min(max(maxAge, 1), maxMaxAge), 10)
	}
	*buf = append(b, s.flags...)
	line := (*buf)[n:]
	if len(line) > maxCookieSize {
		return "", fmt.Errorf("%w: the cookie takes %d bytes with its name and attributes, browsers take %d; keep less in the session, or set Config.Store", ErrTooLarge, len(line), maxCookieSize)
	}
	return string(line), nil
}

// expire returns the Set-Cookie value that removes the cookie.
func (s *cookieSpec) expire() string {
	return s.begin + s.path + "; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0" + s.flags
}

// next returns the value of the first cookie of the name in a line of the Cookie
// header, and what follows it. Only exact names count. Unlike Request.Cookies it
// allocates nothing, reads ours among any number of others, and shows values
// that net/http drops, so that they count as forged.
func (s *cookieSpec) next(line string) (value, rest string, ok bool) {
	for at := 0; ; at += len(s.begin) {
		i := strings.Index(line[at:], s.begin)
		if i < 0 {
			return "", "", false
		}
		at += i
		if before := trimEnd(line[:at]); before == "" || before[len(before)-1] == ';' {
			value, rest, _ = strings.Cut(line[at+len(s.begin):], ";")
			return trimEnd(value), rest, true
		}
	}
}

// trimEnd is strings.TrimRight(s, " \t"), without the set that that makes at each
// call. A line break is no blank: what has one is forged.
func trimEnd(s string) string {
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// appendToken appends what a cookie's value encodes, if it is the canonical
// spelling: base64url without padding, no stray bits, no line breaks.
func appendToken(b []byte, value string) ([]byte, bool) {
	start := len(b)
	b, err := canonical.AppendDecode(b, []byte(value))
	return b, err == nil && canonical.EncodedLen(len(b)-start) == len(value)
}

var canonical = base64.RawURLEncoding.Strict()
