package sessions_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"time"
)

// An innerWriter notes what reaches it, and whether the session's cookie was in
// the header by then.
type innerWriter struct {
	header http.Header
	calls  []string
}

func newInnerWriter() *innerWriter { return &innerWriter{header: http.Header{}} }

func (i *innerWriter) call(name string) {
	if len(i.header["Set-Cookie"]) == 1 {
		name += " with the cookie"
	}
	i.calls = append(i.calls, name)
}

func (i *innerWriter) Header() http.Header         { return i.header }
func (i *innerWriter) WriteHeader(int)             { i.call("WriteHeader") }
func (i *innerWriter) Write(b []byte) (int, error) { i.call("Write"); return len(b), nil }

// What an inner writer may be able to do besides.
type (
	ableF struct{ to *innerWriter }
	ableE struct{ to *innerWriter } // FlushError without Flush
	ableH struct{ to *innerWriter }
	ableP struct{ to *innerWriter }
	ableR struct{ to *innerWriter }
	ableS struct{ to *innerWriter }
)

func (a ableF) Flush()            { a.to.call("Flush") }
func (a ableE) FlushError() error { a.to.call("FlushError"); return errDown }
func (a ableH) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a.to.call("Hijack")
	return nil, nil, errDown
}
func (a ableP) Push(string, *http.PushOptions) error { a.to.call("Push"); return errDown }
func (a ableR) ReadFrom(io.Reader) (int64, error)    { a.to.call("ReadFrom"); return 5, errDown }
func (a ableS) WriteString(string) (int, error)      { a.to.call("WriteString"); return 6, errDown }

// abilities says what w claims, as the bits of an index of innerWriters.
func abilities(w http.ResponseWriter) (bits int) {
	if _, ok := w.(http.Flusher); ok {
		bits |= 1
	}
	if _, ok := w.(http.Hijacker); ok {
		bits |= 2
	}
	if _, ok := w.(http.Pusher); ok {
		bits |= 4
	}
	if _, ok := w.(io.ReaderFrom); ok {
		bits |= 8
	}
	if _, ok := w.(io.StringWriter); ok {
		bits |= 16
	}
	return bits
}

// innerWriters make every combination of abilities.
var innerWriters = [32]func(*innerWriter) http.ResponseWriter{
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
		}{i}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
		}{i, ableF{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
		}{i, ableH{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
		}{i, ableF{i}, ableH{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableP
		}{i, ableP{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableP
		}{i, ableF{i}, ableP{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
			ableP
		}{i, ableH{i}, ableP{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
			ableP
		}{i, ableF{i}, ableH{i}, ableP{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableR
		}{i, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableR
		}{i, ableF{i}, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
			ableR
		}{i, ableH{i}, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
			ableR
		}{i, ableF{i}, ableH{i}, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableP
			ableR
		}{i, ableP{i}, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableP
			ableR
		}{i, ableF{i}, ableP{i}, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
			ableP
			ableR
		}{i, ableH{i}, ableP{i}, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
			ableP
			ableR
		}{i, ableF{i}, ableH{i}, ableP{i}, ableR{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableS
		}{i, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableS
		}{i, ableF{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
			ableS
		}{i, ableH{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
			ableS
		}{i, ableF{i}, ableH{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableP
			ableS
		}{i, ableP{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableP
			ableS
		}{i, ableF{i}, ableP{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
			ableP
			ableS
		}{i, ableH{i}, ableP{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
			ableP
			ableS
		}{i, ableF{i}, ableH{i}, ableP{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableR
			ableS
		}{i, ableR{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableR
			ableS
		}{i, ableF{i}, ableR{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
			ableR
			ableS
		}{i, ableH{i}, ableR{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
			ableR
			ableS
		}{i, ableF{i}, ableH{i}, ableR{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableP
			ableR
			ableS
		}{i, ableP{i}, ableR{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableP
			ableR
			ableS
		}{i, ableF{i}, ableP{i}, ableR{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableH
			ableP
			ableR
			ableS
		}{i, ableH{i}, ableP{i}, ableR{i}, ableS{i}}
	},
	func(i *innerWriter) http.ResponseWriter {
		return struct {
			*innerWriter
			ableF
			ableH
			ableP
			ableR
			ableS
		}{i, ableF{i}, ableH{i}, ableP{i}, ableR{i}, ableS{i}}
	},
}

// through serves one request, which edits the session and then does use, on
// an inner writer.
func through(s *site, inner http.ResponseWriter, use func(http.ResponseWriter)) {
	path := s.route(func(w http.ResponseWriter, r *http.Request) {
		edit(r, 7)
		use(w)
	})
	s.handler.ServeHTTP(inner, httptest.NewRequest("GET", path, nil))
}

func TestWriterClaimsExactlyWhatTheInnerOneHas(t *testing.T) {
	s := newSite(t, modes[0], nil)
	for bits, inner := range innerWriters {
		t.Run(fmt.Sprintf("%05b", bits), func(t *testing.T) {
			i := newInnerWriter()
			if got := abilities(inner(i)); got != bits {
				t.Fatalf("got %05b from the test's own writer, want %05b", got, bits)
			}
			through(s, inner(i), func(w http.ResponseWriter) {
				if got := abilities(w); got != bits {
					t.Errorf("got %05b, want %05b", got, bits)
				}
				if _, ok := w.(interface{ FlushError() error }); ok != (bits&1 != 0) {
					t.Errorf("got FlushError %t, want it beside Flush only", ok)
				}
			})
		})
	}
}

func TestEveryWayToTheInnerWriterCommits(t *testing.T) {
	s := newSite(t, modes[0], nil)
	type method struct {
		name string
		call func(w http.ResponseWriter) error
	}
	methods := []method{
		{"Flush", func(w http.ResponseWriter) error { w.(http.Flusher).Flush(); return nil }},
		{"Hijack", func(w http.ResponseWriter) error { _, _, err := w.(http.Hijacker).Hijack(); return err }},
		{"Push", func(w http.ResponseWriter) error { return w.(http.Pusher).Push("/x", nil) }},
		{"ReadFrom", func(w http.ResponseWriter) error {
			n, err := w.(io.ReaderFrom).ReadFrom(nil)
			if n != 5 {
				err = fmt.Errorf("got n=%d", n)
			}
			return err
		}},
		{"WriteString", func(w http.ResponseWriter) error {
			n, err := w.(io.StringWriter).WriteString("")
			if n != 6 {
				err = fmt.Errorf("got n=%d", n)
			}
			return err
		}},
	}
	for bits, inner := range innerWriters {
		for ability, m := range methods {
			if bits>>ability&1 == 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s of %05b", m.name, bits), func(t *testing.T) {
				i := newInnerWriter()
				through(s, inner(i), func(w http.ResponseWriter) {
					if err := m.call(w); m.name != "Flush" && err != errDown {
						t.Errorf("got %v, want the inner writer's result", err)
					}
				})
				want := m.name + " with the cookie"
				if m.name == "Push" {
					want = "Push" // of another response
				}
				if !slices.Equal(i.calls, []string{want}) {
					t.Errorf("got the calls %q, want %q", i.calls, want)
				}
				if len(i.header["Set-Cookie"]) != 1 {
					t.Errorf("got the cookies %q at the end, want one", i.header["Set-Cookie"])
				}
			})
		}
	}
}

// An unwrapping writer hides what another can do, but for Unwrap.
type unwrapping struct {
	*innerWriter
	under http.ResponseWriter
}

func (u unwrapping) Unwrap() http.ResponseWriter { return u.under }

func TestFlusherAndHijackerAreClaimedWhenOnlyUnwrapReachesThem(t *testing.T) {
	s := newSite(t, modes[0], nil)
	for bits, under := range innerWriters {
		t.Run(fmt.Sprintf("%05b", bits), func(t *testing.T) {
			i := newInnerWriter()
			through(s, unwrapping{i, unwrapping{i, under(i)}}, func(w http.ResponseWriter) {
				if got, want := abilities(w), bits&3; got != want {
					t.Errorf("got %05b, want %05b", got, want)
				}
				if err := http.NewResponseController(w).Flush(); (err == nil) != (bits&1 != 0) || err != nil && !errors.Is(err, http.ErrNotSupported) {
					t.Errorf("got %v from Flush, want it to work or ErrNotSupported", err)
				}
			})
			if bits&1 != 0 && !slices.Equal(i.calls, []string{"Flush with the cookie"}) {
				t.Errorf("got the calls %q, want one Flush with the cookie", i.calls)
			}
			i = newInnerWriter()
			through(s, unwrapping{i, under(i)}, func(w http.ResponseWriter) {
				_, _, err := http.NewResponseController(w).Hijack()
				if bits&2 != 0 && err != errDown || bits&2 == 0 && !errors.Is(err, http.ErrNotSupported) {
					t.Errorf("got %v from Hijack, want the inner result or ErrNotSupported", err)
				}
			})
			if bits&2 != 0 && !slices.Equal(i.calls, []string{"Hijack with the cookie"}) {
				t.Errorf("got the calls %q, want one Hijack with the cookie", i.calls)
			}
		})
	}
}

func TestFlushErrorOfTheInnerWriterComesThrough(t *testing.T) {
	s := newSite(t, modes[0], nil)
	i := newInnerWriter()
	inner := struct {
		*innerWriter
		ableE
	}{i, ableE{i}}
	through(s, inner, func(w http.ResponseWriter) {
		if err := http.NewResponseController(w).Flush(); err != errDown {
			t.Errorf("got %v, want the inner writer's error", err)
		}
	})
	if !slices.Equal(i.calls, []string{"FlushError with the cookie"}) {
		t.Errorf("got the calls %q, want FlushError with the cookie", i.calls)
	}
}

func TestWriterOfARealServerClaimsWhatNetHTTPDoes(t *testing.T) {
	protocols(t, func(t *testing.T, http2 bool) {
		s := newSite(t, modes[0], nil)
		next, want := s.handler, make(chan int, 1)
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			want <- abilities(w)
			next.ServeHTTP(w, r)
		})
		s.online(http2).serve(func(w http.ResponseWriter, r *http.Request) {
			if got, want := abilities(w), <-want; got != want {
				t.Errorf("got %05b, want %05b", got, want)
			}
		})
	})
}

func TestDeadlinesReachTheConnection(t *testing.T) {
	s := newSite(t, modes[0], nil)
	c := dialSite(t, s)
	path := s.route(func(w http.ResponseWriter, r *http.Request) {
		edit(r, 7)
		rc := http.NewResponseController(w)
		if err := rc.EnableFullDuplex(); err != nil {
			t.Errorf("EnableFullDuplex: %v", err)
		}
		if err := rc.SetWriteDeadline(time.Time{}); err != nil {
			t.Errorf("SetWriteDeadline: %v", err)
		}
		if err := rc.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Errorf("SetReadDeadline: %v", err)
		}
		if _, err := io.ReadAll(r.Body); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v from the body, want the deadline's error", err)
		}
		if len(w.Header()["Set-Cookie"]) > 0 {
			t.Error("got a commit, want none by a deadline")
		}
	})
	c.say("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", path)
	_, h := c.head()
	oneCookie(t, h["Set-Cookie"])
}
