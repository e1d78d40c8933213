package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
)

// upgrading lets a handler of net/http behind adaptor.HTTPHandler hijack the
// connection as websocket.Accept does: by WriteHeader(101), which net/http sends,
// and Hijack. The adaptor only records the status, and the client would wait
// forever. upgrading is outside of the session middleware, so that the response
// has the cookie of the session.
func upgrading(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&upgrader{ResponseWriter: w}, r)
	})
}

type upgrader struct {
	http.ResponseWriter
	switching bool
}

func (w *upgrader) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols {
		w.switching = true
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *upgrader) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil || !w.switching {
		return conn, rw, err
	}
	fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\n")
	_ = w.Header().Write(rw)
	fmt.Fprint(rw, "\r\n")
	if err := rw.Flush(); err != nil { // or the error of one of the writes before
		conn.Close()
		return nil, nil, err
	}
	return conn, rw, nil
}

func (w *upgrader) Unwrap() http.ResponseWriter { return w.ResponseWriter }
