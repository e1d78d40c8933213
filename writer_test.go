package sessions_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A server's own writer may have methods that no other has.
type ownWriter struct{ *httptest.ResponseRecorder }

func (ownWriter) Own() {}

type owner interface{ Own() }

func TestOtherMethodsOfTheWriterAreReachedByUnwrapOnly(t *testing.T) {
	s := newSite(t, modes[0], nil)
	through(s, ownWriter{httptest.NewRecorder()}, func(w http.ResponseWriter) {
		if _, ok := w.(owner); ok {
			t.Error("the middleware's writer has a method of the server's, past the commit")
		}
		for {
			if _, ok := w.(owner); ok {
				return
			}
			inner, ok := w.(interface{ Unwrap() http.ResponseWriter })
			if !ok {
				t.Fatal("Unwrap does not lead to the server's writer")
			}
			w = inner.Unwrap()
		}
	})
}

func TestMaxBytesClosesTheConnectionFromOutsideOnly(t *testing.T) {
	read := func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err == nil {
			t.Error("a body that is too large was read")
		}
	}
	for name, tt := range map[string]struct {
		wrap   func(http.Handler) http.Handler
		handle http.HandlerFunc
		closes bool
	}{
		"MaxBytesHandler outside": {func(h http.Handler) http.Handler { return http.MaxBytesHandler(h, 1) }, read, true},
		"MaxBytesReader inside": {func(h http.Handler) http.Handler { return h }, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, 1)
			read(w, r)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, modes[0], nil)
			path := s.route(tt.handle)
			server := httptest.NewServer(tt.wrap(s.handler))
			defer server.Close()
			res, err := http.Post(server.URL+path, "text/plain", strings.NewReader("too large"))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.Close != tt.closes {
				t.Errorf("the server closes the connection: %v, want %v", res.Close, tt.closes)
			}
		})
	}
}
