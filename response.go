package sessions

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
)

// errDiscarded is what a handler's writes return after the commit failed and
// Config.ErrorHandler has answered.
var errDiscarded = errors.New("sessions: the session could not be stored, so the response was answered by Config.ErrorHandler")

// The phases of a response.
const (
	open      = iota // nothing has left
	sent             // the session is stored and the handler's headers may leave
	answering        // Config.ErrorHandler writes
	failed           // and has written; what the handler writes is discarded
)

// A writer commits the session before the first byte of the final response
// passes through it. It buffers nothing.
type writer struct {
	x       *exchange
	inner   http.ResponseWriter
	outside http.Header // what a handler further out said of the content
	phase   uint8
	wrote   bool // a final header, while answering
}

// ready commits what is to be committed, and says whether the caller's bytes
// may pass.
func (w *writer) ready(hijack bool) error {
	switch w.phase {
	case open:
		w.phase = sent
		if err := w.x.commit(hijack); err != nil {
			w.fail(&w.x.inside, err)
			return errDiscarded
		}
	case failed:
		return errDiscarded
	}
	return nil
}

// fail lets Config.ErrorHandler answer, on a header without what the handler
// said of its own content.
func (w *writer) fail(r *http.Request, err error) {
	h := w.inner.Header()
	for name := range h {
		if aboutContent(name) {
			delete(h, name)
		}
	}
	maps.Copy(h, w.outside)
	h["Cache-Control"] = []string{"no-store"}
	w.phase = answering
	defer func() { w.phase = failed }()
	w.x.m.errorHandler(w.x.wrapped(), r, err)
	if !w.wrote {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
}

// aboutContent says whether a header is about the page that a handler sends,
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

func (w *writer) Header() http.Header { return w.inner.Header() }

func (w *writer) WriteHeader(code int) {
	if code < 100 || code > 999 { // as net/http does, but before anything is stored
		panic(fmt.Sprintf("sessions: invalid WriteHeader code %d", code))
	}
	if code <= 199 && code != http.StatusSwitchingProtocols {
		if w.phase != failed {
			w.inner.WriteHeader(code)
		}
		return
	}
	if w.ready(false) != nil {
		return
	}
	w.wrote = true
	w.inner.WriteHeader(code)
}

func (w *writer) Write(b []byte) (int, error) {
	if err := w.ready(false); err != nil {
		return 0, err
	}
	w.wrote = true
	return w.inner.Write(b)
}

// Unwrap is for [http.ResponseController], which reaches deadlines through it.
// Whatever commits is claimed by the writer itself, so that it does not walk on.
func (w *writer) Unwrap() http.ResponseWriter { return w.inner }

func (w *writer) flush() error {
	if err := w.ready(false); err != nil {
		return err
	}
	w.wrote = true
	return http.NewResponseController(w.inner).Flush()
}

func (w *writer) hijack() (net.Conn, *bufio.ReadWriter, error) {
	if err := w.ready(true); err != nil {
		return nil, nil, err
	}
	w.wrote = true
	return http.NewResponseController(w.inner).Hijack()
}

func (w *writer) push(target string, opts *http.PushOptions) error {
	return w.inner.(http.Pusher).Push(target, opts)
}

func (w *writer) readFrom(src io.Reader) (int64, error) {
	if err := w.ready(false); err != nil {
		return 0, err
	}
	w.wrote = true
	return w.inner.(io.ReaderFrom).ReadFrom(src)
}

func (w *writer) writeString(s string) (int, error) {
	if err := w.ready(false); err != nil {
		return 0, err
	}
	w.wrote = true
	return io.WriteString(w.inner, s)
}

// place puts the cookies that a commit or a Save has readied into the header,
// when nothing but the headers' leaving can follow. Others stay.
func (x *exchange) place(h http.Header) {
	placed := false
	put := func(line string) {
		h["Set-Cookie"] = append(h["Set-Cookie"], line)
		placed = true
	}
	if x.importsEnd {
		for _, c := range x.m.importGone {
			if _, err := x.req.Cookie(c.Name); err == nil {
				put(c.String())
			}
		}
	}
	if x.line != "" {
		put(x.line)
	}
	if placed {
		keepPrivate(h)
	}
}

// addVary tells caches that the response depends on the cookie.
func (x *exchange) addVary(h http.Header) {
	lines := h["Vary"]
	if len(lines) == 0 {
		x.vary[0] = "Cookie"
		h["Vary"] = x.vary[:]
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

// keepPrivate keeps shared caches away from a response with Set-Cookie, which by
// itself does not (RFC 9111, section 7.3). What the handler said stays, but for
// what would hand one visitor's cookie to another.
func keepPrivate(h http.Header) {
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
