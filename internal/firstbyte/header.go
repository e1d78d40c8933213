package firstbyte

import (
	"iter"
	"net/http"
	"slices"
	"strings"
)

// aboutContent reports whether a header is about the page that a handler sends,
// and must not stand on another one. A policy is not.
func aboutContent(name string) bool {
	name = http.CanonicalHeaderKey(name)
	switch name {
	case "Etag", "Last-Modified", "Accept-Ranges", "Location", "Refresh", "Trailer", "Expires":
		return true
	case "Content-Security-Policy", "Content-Security-Policy-Report-Only":
		return false
	}
	return strings.HasPrefix(name, "Content-") || strings.HasPrefix(name, http.TrailerPrefix)
}

// contentOf returns what h says of the content, nil if nothing.
func contentOf(h http.Header) (content http.Header) {
	if len(h) == 0 { // as it mostly is before the handler: even a loop over nothing shows
		return nil
	}
	for name, lines := range h {
		if aboutContent(name) {
			if content == nil {
				content = http.Header{}
			}
			content[name] = slices.Clone(lines)
		}
	}
	return content
}

// AddVary tells caches that the response depends on the cookie. It uses room for
// the header's value, to allocate nothing.
func AddVary(h http.Header, room *[1]string) {
	lines := h["Vary"]
	if len(lines) == 0 {
		room[0] = "Cookie"
		h["Vary"] = room[:]
		return
	}
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name == "*" || strings.EqualFold(name, "Cookie") {
				return
			}
		}
	}
	h["Vary"] = append(lines, "Cookie")
}

// KeepPrivate keeps shared caches away from a response with Set-Cookie, which by
// itself does not (RFC 9111, section 7.3). What the handler said stays, but for
// what would hand one visitor's cookie to another.
func KeepPrivate(h http.Header) {
	// What caches of other people's networks obey in place of it (RFC 9213).
	delete(h, "Cdn-Cache-Control")
	delete(h, "Surrogate-Control")
	lines := h["Cache-Control"]
	if len(lines) == 0 {
		h["Cache-Control"] = []string{"private"}
		return
	}
	var kept []string
	done := false
	for _, line := range lines {
		for directive := range directives(line) {
			name, _, _ := strings.Cut(directive, "=")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "", "public", "s-maxage":
				continue
			case "no-store":
				done = true
			case "private":
				done = done || directive == name // private="X" is about one header
			}
			kept = append(kept, directive)
		}
	}
	if !done {
		kept = append(kept, "private")
	}
	h["Cache-Control"] = []string{strings.Join(kept, ", ")}
}

// directives splits a Cache-Control at the commas that stand outside of quotes.
func directives(line string) iter.Seq[string] {
	return func(yield func(string) bool) {
		start, quoted := 0, false
		for i := 0; i <= len(line); i++ {
			switch {
			case i < len(line) && quoted && line[i] == '\\':
				i++
			case i < len(line) && line[i] == '"':
				quoted = !quoted
			case i >= len(line) || line[i] == ',' && !quoted:
				if !yield(strings.TrimSpace(line[start:min(i, len(line))])) {
					return
				}
				start = i + 1
			}
		}
	}
}
