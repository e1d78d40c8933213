package main

import (
	"fmt"
	"net/http"

	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"
)

// upgrade is s.Upgrade for a handler behind sessions.Manager.Middleware. The
// session is stored before the response leaves, and its cookie leaves with the
// response. If the session cannot be stored, Config.ErrorHandler answers the
// client, and upgrade returns an error. After an error the handler may answer as
// usual: what it writes is discarded if a response has left already.
//
// s.Upgrade itself panics with the writer of the middleware, or of any other: it
// needs methods that only the writer of package http3 has. This function finds
// that writer by Unwrap and lends these methods to w.
func upgrade(s *webtransport.Server, w http.ResponseWriter, r *http.Request) (*webtransport.Session, error) {
	stream, err := findStream(w)
	if err != nil {
		return nil, err
	}
	u := &upgrader{ResponseWriter: w, Settingser: stream, stream: stream}
	conn, err := s.Upgrade(u, r)
	if u.err != nil {
		if err == nil {
			_ = conn.CloseWithError(0, "")
		}
		return nil, u.err
	}
	return conn, err
}

// A streamWriter is what s.Upgrade needs besides http.ResponseWriter and
// http.Flusher.
type streamWriter interface {
	http3.Settingser
	http3.HTTPStreamer
}

func findStream(w http.ResponseWriter) (streamWriter, error) {
	for {
		if s, ok := w.(streamWriter); ok {
			return s, nil
		}
		inner, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil, fmt.Errorf("upgrade to WebTransport: %T has no HTTP/3 stream", w)
		}
		w = inner.Unwrap()
	}
}

// An upgrader has the methods of package http3's writer, and passes the header to
// the writer that the handler got.
type upgrader struct {
	http.ResponseWriter
	http3.Settingser
	stream http3.HTTPStreamer
	err    error
}

// HTTPStream hands out the stream, and sends the header before it does. So the
// header has to go through the middleware first: s.Upgrade calls WriteHeader only
// after HTTPStream, which is too late for a cookie.
func (u *upgrader) HTTPStream() *http3.Stream {
	u.WriteHeader(http.StatusOK)
	// After a failed commit the middleware discards what is written, with an error.
	if _, err := u.Write(nil); err != nil {
		u.err = fmt.Errorf("upgrade to WebTransport: %w", err)
	}
	return u.stream.HTTPStream()
}

// Flush is for s.Upgrade, which calls it last.
func (u *upgrader) Flush() {
	_ = http.NewResponseController(u.ResponseWriter).Flush()
}
