package sessions

import (
	"bufio"
	"errors"
	"io"
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
	x     *exchange
	inner http.ResponseWriter
	phase uint8
	wrote bool // a final header, while answering
}

// ready commits what is to be committed, and says whether the caller's bytes
// may pass.
func (w *writer) ready(hijack bool) error {
	switch w.phase {
	case open:
		w.phase = sent
		if err := w.x.commit(hijack); err != nil {
			w.fail(err)
			return errDiscarded
		}
	case failed:
		return errDiscarded
	}
	return nil
}

// fail lets Config.ErrorHandler answer, on a header without what the handler
// said of its own content.
func (w *writer) fail(err error) {
	h := w.inner.Header()
	for name := range h {
		if strings.HasPrefix(name, "Content-") && !strings.HasPrefix(name, "Content-Security-Policy") || strings.HasPrefix(name, http.TrailerPrefix) {
			delete(h, name)
		}
	}
	for _, name := range []string{"Etag", "Last-Modified", "Accept-Ranges", "Location", "Refresh", "Trailer", "Expires"} {
		h.Del(name)
	}
	h.Set("Cache-Control", "no-store")
	w.phase = answering
	defer func() { w.phase = failed }()
	w.x.m.errorHandler(w.x.wrapped(), w.x.request(), err)
	if !w.wrote {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
}

func (w *writer) Header() http.Header { return w.inner.Header() }

func (w *writer) WriteHeader(code int) {
	if code >= 100 && code <= 199 && code != http.StatusSwitchingProtocols {
		if w.phase != failed {
			w.x.withoutCookie(func() { w.inner.WriteHeader(code) })
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

// place makes line the one Set-Cookie of ours in the header, "" for none. It
// knows its own line only: a cookie that the handler set stays.
func (x *exchange) place(h http.Header, line string) {
	if x.line != "" {
		x.remove(h)
	}
	x.line = line
	if line != "" {
		h["Set-Cookie"] = append(h["Set-Cookie"], line)
		keepPrivate(h)
	}
}

func (x *exchange) remove(h http.Header) {
	lines := slices.DeleteFunc(h["Set-Cookie"], func(l string) bool { return l == x.line })
	if len(lines) == 0 {
		delete(h, "Set-Cookie")
	} else {
		h["Set-Cookie"] = lines
	}
}

// placeAgain makes sure, when the headers leave, of a line that a Save placed
// before.
func (x *exchange) placeAgain(h http.Header) {
	if x.line != "" {
		x.place(h, x.line)
	}
}

// withoutCookie calls f, which sends an informational response: the cookie
// belongs into the final one.
func (x *exchange) withoutCookie(f func()) {
	if x.line == "" {
		f()
		return
	}
	h := x.writer.inner.Header()
	x.remove(h)
	f()
	x.placeAgain(h)
}

// expireImports expires the cookies of the library that came before, if the
// request brought them.
func (x *exchange) expireImports(h http.Header) {
	if x.imported {
		return
	}
	x.imported = true
	for _, c := range x.m.importGone {
		if _, err := x.req.Cookie(c.Name); err == nil {
			h.Add("Set-Cookie", c.String())
			keepPrivate(h)
		}
	}
}

// addVary tells caches that the response depends on the cookie.
func addVary(h http.Header) {
	for _, line := range h["Vary"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name == "*" || strings.EqualFold(name, "Cookie") {
				return
			}
		}
	}
	h["Vary"] = append(h["Vary"], "Cookie")
}

// keepPrivate keeps shared caches away from a response with Set-Cookie, which by
// itself does not (RFC 9111, section 7.3). What the handler said stays, but for
// what would hand one visitor's cookie to another.
func keepPrivate(h http.Header) {
	lines := h["Cache-Control"]
	if len(lines) == 0 {
		h["Cache-Control"] = []string{"private"}
		return
	}
	var kept []string
	done := false
	for _, line := range lines {
		for directive := range strings.SplitSeq(line, ",") {
			directive = strings.TrimSpace(directive)
			name, _, _ := strings.Cut(directive, "=")
			switch strings.ToLower(name) {
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
