// Package cookie writes and finds the one cookie of a session. It knows
// browsers' rules for cookies and nothing of what the value means.
package cookie

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Attributes are those of a cookie that users choose.
type Attributes struct {
	Name, Path, Domain string
	SameSite           http.SameSite
	Insecure           bool
	Partitioned        bool
	BrowserSession     bool
}

// Limits of browsers (RFC 6265bis, sections 5.5 and 5.6): a larger cookie is
// ignored, which leaves the old one in place; Max-Age counts for 400 days.
const (
	MaxSize      = 4096
	MaxAge       = 400 * 24 * 60 * 60
	maxAttribute = 1024
)

// MaxCandidates bounds the work that cookies of one name cause: a browser sends
// one, or a few after a change of Domain or Path; an attacker sends thousands.
const MaxCandidates = 16

// A Spec writes and finds one cookie. It is immutable.
type Spec struct {
	Name string

	begin          string // name=
	path           string // "; Path=/; Domain=…"
	flags          string // "; HttpOnly; Secure; …"
	former         []string
	browserSession bool
}

// Spec checks the attributes. Its error joins everything that is wrong with
// them. least is the size of the shortest value, in characters.
func (a Attributes) Spec(least int) (Spec, error) {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf("Config.Cookie."+format, args...)) }
	path := cmp.Or(a.Path, "/")
	name := a.Name
	switch {
	case name != "":
	case a.Insecure:
		name = "session"
	case a.Domain != "" || path != "/":
		name = "__Secure-session"
	default:
		name = "__Host-Http-session"
	}
	if (&http.Cookie{Name: name, Value: "x"}).Valid() != nil {
		refuse("Name: %q is not a cookie name: letters, digits and !#$%%&'*+-.^_`|~ only (RFC 6265, section 4.1.1)", name)
	}
	if path[0] != '/' || len(path) > maxAttribute || (&http.Cookie{Name: "x", Value: "x", Path: path}).Valid() != nil {
		refuse("Path: %q is not a cookie path: it begins with /, has no semicolon and no control characters, and at most %d bytes", a.Path, maxAttribute)
	}
	if a.Domain != "" && (len(a.Domain) > maxAttribute || strings.Trim(a.Domain, ".") == "" || (&http.Cookie{Name: "x", Value: "x", Domain: a.Domain}).Valid() != nil) {
		refuse("Domain: %q is not a domain; leave it empty for this host alone", a.Domain)
	}
	errs = append(errs, a.checkPrefix(name, path)...)
	if a.Insecure && a.SameSite == http.SameSiteNoneMode {
		refuse("SameSite: browsers refuse SameSite=None without Secure; drop Insecure")
	}
	if a.Insecure && a.Partitioned {
		refuse("Partitioned: browsers refuse it without Secure; drop Insecure")
	}
	s := Spec{Name: name, begin: name + "=", path: "; Path=" + path, flags: "; HttpOnly", browserSession: a.BrowserSession}
	if a.Domain != "" {
		s.path += "; Domain=" + strings.TrimPrefix(a.Domain, ".")
	}
	if !a.Insecure {
		s.flags += "; Secure"
	}
	switch a.SameSite {
	case 0, http.SameSiteDefaultMode, http.SameSiteLaxMode:
		s.flags += "; SameSite=Lax" // always written: browsers are laxer where it is missing
	case http.SameSiteStrictMode:
		s.flags += "; SameSite=Strict"
	case http.SameSiteNoneMode:
		s.flags += "; SameSite=None"
	default:
		refuse("SameSite: %d is none of net/http's modes; leave it zero for Lax", a.SameSite)
	}
	if a.Partitioned {
		s.flags += "; Partitioned"
	}
	s.former = a.formerLines(&s, path)
	if size := len(name) + 1 + least + len(s.path) + len("; Max-Age=34560000") + len(s.flags); size > MaxSize {
		refuse("Name, Path and Domain leave no room: even the cookie of an id takes %d bytes, browsers take %d; shorten them", size, MaxSize)
	}
	return s, errors.Join(errs...)
}

// Beside returns the spec of another cookie, whose name has a suffix and whose
// attributes are the same, but for BrowserSession.
func (s *Spec) Beside(suffix string) Spec {
	name := s.Name + suffix
	return Spec{Name: name, begin: name + "=", path: s.path, flags: s.flags}
}

// Attributes returns the attributes as Set-Cookie has them, but for Max-Age.
func (s *Spec) Attributes() string { return strings.TrimPrefix(s.path+s.flags, "; ") }

// formerLines returns the Set-Cookie values that remove the cookies of the name
// that a browser may hold beside ours, from before Domain, Path or Partitioned
// were set: a browser sends all of them.
func (a Attributes) formerLines(s *Spec, path string) (lines []string) {
	domains, paths, flags := []string{""}, []string{"; Path=/"}, []string{s.flags}
	if _, domain, ok := strings.Cut(s.path, "; Domain="); ok {
		domains = append(domains, "; Domain="+domain)
	}
	if path != "/" {
		paths = append(paths, "; Path="+path)
	}
	if a.Partitioned {
		flags = append(flags, strings.TrimSuffix(s.flags, "; Partitioned"))
	}
	for _, p := range paths {
		for _, d := range domains {
			for _, f := range flags {
				if p+d != s.path || f != s.flags {
					lines = append(lines, s.begin+p+d+expired+f)
				}
			}
		}
	}
	return lines
}

// expired are the attributes that remove a cookie.
const expired = "; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0"

// checkPrefix checks the rules of names that browsers take as promises. They
// compare without case.
func (a Attributes) checkPrefix(name, path string) (errs []error) {
	has := func(prefix string) bool {
		return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
	}
	host, secure := has("__Host-"), has("__Host-") || has("__Secure-") || has("__Http-")
	if secure && a.Insecure {
		errs = append(errs, fmt.Errorf("Config.Cookie.Name: browsers refuse %q without Secure; drop Insecure or the prefix", name))
	}
	if host && path != "/" {
		errs = append(errs, fmt.Errorf("Config.Cookie.Name: browsers refuse %q with Path %q; leave Path empty or drop the prefix", name, path))
	}
	if host && a.Domain != "" {
		errs = append(errs, fmt.Errorf("Config.Cookie.Name: browsers refuse %q with a Domain; leave Domain empty or drop the prefix", name))
	}
	return errs
}

// A SizeError is the error of a cookie that browsers would ignore.
type SizeError struct{ Size int }

func (e *SizeError) Error() string {
	return fmt.Sprintf("the cookie takes %d bytes with its name and attributes, browsers take %d", e.Size, MaxSize)
}

// Line returns the value of the Set-Cookie header for a token. It uses the room
// behind the token, which ends buf and begins at start. maxAge counts seconds;
// lasting overrules BrowserSession. The error is a [*SizeError].
func (s *Spec) Line(buf *[]byte, start int, maxAge int64, lasting bool) (string, error) {
	token, n := (*buf)[start:], len(*buf)
	b := base64.RawURLEncoding.AppendEncode(append(*buf, s.begin...), token)
	b = append(b, s.path...)
	if !s.browserSession || lasting {
		b = append(b, "; Max-Age="...)
		b = strconv.AppendInt(b, min(max(maxAge, 1), MaxAge), 10)
	}
	*buf = append(b, s.flags...)
	line := (*buf)[n:]
	if len(line) > MaxSize {
		return "", &SizeError{len(line)}
	}
	return string(line), nil
}

// Ends returns when a browser drops the cookie of a session that ends at expires,
// if Line makes it now, both in seconds since 1970. A cookie without Max-Age has no
// end before that of its session.
func (s *Spec) Ends(expires, now int64, lasting bool) int64 {
	if s.browserSession && !lasting {
		return expires
	}
	return min(expires, now+MaxAge)
}

// Expire returns the Set-Cookie value that removes the cookie.
func (s *Spec) Expire() string {
	return s.begin + s.path + expired + s.flags
}

// ExpireFormer returns the Set-Cookie values that remove what the browser may hold
// of the name under attributes that the present ones have replaced.
func (s *Spec) ExpireFormer() []string { return s.former }

// Next returns the value of the first cookie of the name in a line of the Cookie
// header, and the rest of the line. Only exact names count. Unlike
// Request.Cookies it allocates nothing, finds the cookie among any number of
// others, and returns values that net/http drops, so that they count as forged.
func (s *Spec) Next(line string) (value, rest string, ok bool) {
	for more := true; more; {
		var pair string
		pair, line, more = strings.Cut(line, ";")
		if pair = trimStart(pair); strings.HasPrefix(pair, s.begin) {
			return trimEnd(pair[len(s.begin):]), line, true
		}
	}
	return "", "", false
}

// trimEnd is strings.TrimRight(s, " \t") without the set that strings makes at
// each call. A line break is not trimmed: a value with one is forged.
func trimEnd(s string) string {
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

func trimStart(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	return s
}
