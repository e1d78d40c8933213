package dbsc

import (
	"net/http"
	"strings"
)

// Headers of the draft. Browsers also took other names until October 2025, which
// nothing that was shipped sends any more.
const (
	registrationHeader = "Secure-Session-Registration"
	challengeHeader    = "Secure-Session-Challenge"
	responseHeader     = "Secure-Session-Response"
	idHeader           = "Sec-Secure-Session-Id"
	skippedHeader      = "Secure-Session-Skipped"
)

// maxHeader bounds the small headers that are read, in characters.
const maxHeader = 1024

// value returns the value of a header that the draft has as a string of RFC 9651
// and that Chromium sends bare: "abc" or abc. It reports whether there is one
// header of the name, of at most limit characters, and nothing odd in it.
func value(h http.Header, name string, limit int) (v string, ok bool) {
	lines := h[name]
	if len(lines) != 1 || len(lines[0]) > limit+len(`""`) {
		return "", false
	}
	v = strings.Trim(lines[0], " \t")
	if v != "" && v[0] == '"' {
		if len(v) < 2 || v[len(v)-1] != '"' {
			return "", false
		}
		v = v[1 : len(v)-1]
	}
	// Neither a JWT nor an identifier of ours needs an escape, a list or a
	// parameter.
	if v == "" || len(v) > limit || strings.ContainsAny(v, "\"\\,; \t") {
		return "", false
	}
	return v, true
}

// skipped returns why a browser did not refresh the session with an identifier
// before it sent the request, "" if it does not say so. Any client can send the
// header.
func skipped(h http.Header, identifier string) (why string) {
	total := 0
	for _, line := range h[skippedHeader] {
		if total += len(line); total > maxHeader {
			return ""
		}
		for item := range strings.SplitSeq(line, ",") { // no string of ours has a comma in it
			reason, rest, _ := strings.Cut(item, ";")
			for parameter := range strings.SplitSeq(rest, ";") {
				name, id, _ := strings.Cut(strings.Trim(parameter, " \t"), "=")
				if name == "session_identifier" && strings.Trim(id, `"`) == identifier {
					return skipReason(strings.Trim(reason, " \t"))
				}
			}
		}
	}
	return ""
}

// skipReason returns a reason of the draft as a text of this program.
func skipReason(reason string) string {
	switch reason {
	case "unreachable", "server_error", "quota_exceeded":
		return reason
	}
	return "for a reason that is not known here"
}

// isDocument reports whether the answer is shown as a page, in a window or in
// a frame.
func isDocument(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	if dest := first(r.Header["Sec-Fetch-Dest"]); dest != "" {
		return first(r.Header["Sec-Fetch-Mode"]) == "navigate" && (dest == "document" || dest == "iframe" || dest == "frame")
	}
	// Before Safari 16.4 (March 2023) no such headers came.
	return strings.Contains(first(r.Header["Accept"]), "text/html")
}

// comesFromOutside reports whether a request is the navigation of a window that
// another site has caused: the browser does not refresh before such a one.
func comesFromOutside(r *http.Request) bool {
	if r.Method != http.MethodGet || first(r.Header["Sec-Fetch-Mode"]) != "navigate" || first(r.Header["Sec-Fetch-Dest"]) != "document" {
		return false
	}
	site := first(r.Header["Sec-Fetch-Site"])
	return site == "cross-site" || site == "same-site"
}

func first(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return lines[0]
}
