package sessions

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
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
