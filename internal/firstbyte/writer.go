// Package firstbyte commits something before the first byte of a response leaves.
// It buffers nothing, and knows nothing of sessions.
package firstbyte

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"

	"github.com/typedsessions/sessions/internal/phase"
)

// errDiscarded is what a handler's writes return after the commit failed and
// Config.ErrorHandler has answered.
var errDiscarded = errors.New("sessions: the session could not be stored, so the response was answered by Config.ErrorHandler")

// A Response is what a Writer asks.
type Response interface {
	// Commit is called once, before the final headers leave, which it may change.
	// hijack means that the connection is taken over in their place. Commit moves
	// the phase on to Sent. If it fails, Answer follows.
	Commit(h http.Header, hijack bool) error

	// Answer answers the request in place of the handler.
	Answer(w http.ResponseWriter, err error)
}

// A Writer is the http.ResponseWriter of a handler. Claim returns it.
type Writer struct {
	response Response
	phase    *phase.Phase
	cache    *Cache
	inner    http.ResponseWriter
	outside  http.Header // what a handler further out said of the content
	wrote    bool        // a final header, while answering
}

// Init makes w pass on to inner, in the given phase.
func (w *Writer) Init(inner http.ResponseWriter, response Response, p *phase.Phase, cache *Cache) {
	w.inner, w.response, w.phase, w.cache = inner, response, p, cache
	w.outside = contentOf(inner.Header())
}

// Ready commits if nothing has left yet. It returns an error if the caller's
// bytes must not pass.
func (w *Writer) Ready(hijack bool) error {
	switch {
	case w.phase.Is(phase.Open):
		w.phase.Set(phase.Committing)
		if err := w.response.Commit(w.inner.Header(), hijack); err != nil {
			w.Fail(err)
			return errDiscarded
		}
	case w.phase.Is(phase.Failed):
		return errDiscarded
	}
	return nil
}

// Fail answers the request with an error, on a header without what the handler
// said of its own content.
func (w *Writer) Fail(err error) {
	h := w.inner.Header()
	for name := range h {
		if aboutContent(name) {
			delete(h, name)
		}
	}
	maps.Copy(h, w.outside)
	h["Cache-Control"] = []string{"no-store"}
	w.phase.Set(phase.Answering)
	defer w.phase.Set(phase.Failed)
	w.response.Answer(w.Claim(), err)
	if !w.wrote {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
}

func (w *Writer) Header() http.Header { return w.inner.Header() }

func (w *Writer) WriteHeader(code int) {
	if code < 100 || code > 999 { // as net/http does, but before anything is stored
		panic(fmt.Sprintf("sessions: invalid WriteHeader code %d", code))
	}
	if code <= 199 && code != http.StatusSwitchingProtocols {
		if !w.phase.Is(phase.Failed) {
			w.inner.WriteHeader(code)
		}
		return
	}
	if w.Ready(false) != nil {
		return
	}
	w.wrote = true
	w.inner.WriteHeader(code)
}

func (w *Writer) Write(b []byte) (int, error) {
	if err := w.Ready(false); err != nil {
		return 0, err
	}
	w.wrote = true
	return w.inner.Write(b)
}

// Unwrap is for [http.ResponseController], which reaches deadlines through it.
// Whatever commits is claimed by the writer itself, so that it does not walk on.
func (w *Writer) Unwrap() http.ResponseWriter { return w.inner }

func (w *Writer) flush() error {
	if err := w.Ready(false); err != nil {
		return err
	}
	w.wrote = true
	return http.NewResponseController(w.inner).Flush()
}

func (w *Writer) hijack() (net.Conn, *bufio.ReadWriter, error) {
	if err := w.Ready(true); err != nil {
		return nil, nil, err
	}
	w.wrote = true
	return http.NewResponseController(w.inner).Hijack()
}

func (w *Writer) push(target string, opts *http.PushOptions) error {
	return w.inner.(http.Pusher).Push(target, opts)
}

func (w *Writer) readFrom(src io.Reader) (int64, error) {
	if err := w.Ready(false); err != nil {
		return 0, err
	}
	w.wrote = true
	return w.inner.(io.ReaderFrom).ReadFrom(src)
}

func (w *Writer) writeString(s string) (int, error) {
	if err := w.Ready(false); err != nil {
		return 0, err
	}
	w.wrote = true
	return io.WriteString(w.inner, s)
}
