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
func (i *innerWriter) hijack() (net.Conn, *bufio.ReadWriter, error) {
	i.call("Hijack")
	return nil, nil, errDown
}
func (i *innerWriter) push() error               { i.call("Push"); return errDown }
func (i *innerWriter) readFrom() (int64, error)  { i.call("ReadFrom"); return 5, errDown }
func (i *innerWriter) writeString() (int, error) { i.call("WriteString"); return 6, errDown }

// Types for every combination: each adds to another the method of its last letter.
type (
	canF     struct{ *innerWriter }
	canH     struct{ *innerWriter }
	canFH    struct{ canF }
	canP     struct{ *innerWriter }
	canFP    struct{ canF }
	canHP    struct{ canH }
	canFHP   struct{ canFH }
	canR     struct{ *innerWriter }
	canFR    struct{ canF }
	canHR    struct{ canH }
	canFHR   struct{ canFH }
	canPR    struct{ canP }
	canFPR   struct{ canFP }
	canHPR   struct{ canHP }
	canFHPR  struct{ canFHP }
	canS     struct{ *innerWriter }
	canFS    struct{ canF }
	canHS    struct{ canH }
	canFHS   struct{ canFH }
	canPS    struct{ canP }
	canFPS   struct{ canFP }
	canHPS   struct{ canHP }
	canFHPS  struct{ canFHP }
	canRS    struct{ canR }
	canFRS   struct{ canFR }
	canHRS   struct{ canHR }
	canFHRS  struct{ canFHR }
	canPRS   struct{ canPR }
	canFPRS  struct{ canFPR }
	canHPRS  struct{ canHPR }
	canFHPRS struct{ canFHPR }
)

func (i canF) Flush()                                        { i.call("Flush") }
func (i canH) Hijack() (net.Conn, *bufio.ReadWriter, error)  { return i.hijack() }
func (i canFH) Hijack() (net.Conn, *bufio.ReadWriter, error) { return i.hijack() }
func (i canP) Push(string, *http.PushOptions) error          { return i.push() }
func (i canFP) Push(string, *http.PushOptions) error         { return i.push() }
func (i canHP) Push(string, *http.PushOptions) error         { return i.push() }
func (i canFHP) Push(string, *http.PushOptions) error        { return i.push() }
func (i canR) ReadFrom(io.Reader) (int64, error)             { return i.readFrom() }
func (i canFR) ReadFrom(io.Reader) (int64, error)            { return i.readFrom() }
func (i canHR) ReadFrom(io.Reader) (int64, error)            { return i.readFrom() }
func (i canFHR) ReadFrom(io.Reader) (int64, error)           { return i.readFrom() }
func (i canPR) ReadFrom(io.Reader) (int64, error)            { return i.readFrom() }
func (i canFPR) ReadFrom(io.Reader) (int64, error)           { return i.readFrom() }
func (i canHPR) ReadFrom(io.Reader) (int64, error)           { return i.readFrom() }
func (i canFHPR) ReadFrom(io.Reader) (int64, error)          { return i.readFrom() }
func (i canS) WriteString(string) (int, error)               { return i.writeString() }
func (i canFS) WriteString(string) (int, error)              { return i.writeString() }
func (i canHS) WriteString(string) (int, error)              { return i.writeString() }
func (i canFHS) WriteString(string) (int, error)             { return i.writeString() }
func (i canPS) WriteString(string) (int, error)              { return i.writeString() }
func (i canFPS) WriteString(string) (int, error)             { return i.writeString() }
func (i canHPS) WriteString(string) (int, error)             { return i.writeString() }
func (i canFHPS) WriteString(string) (int, error)            { return i.writeString() }
func (i canRS) WriteString(string) (int, error)              { return i.writeString() }
func (i canFRS) WriteString(string) (int, error)             { return i.writeString() }
func (i canHRS) WriteString(string) (int, error)             { return i.writeString() }
func (i canFHRS) WriteString(string) (int, error)            { return i.writeString() }
func (i canPRS) WriteString(string) (int, error)             { return i.writeString() }
func (i canFPRS) WriteString(string) (int, error)            { return i.writeString() }
func (i canHPRS) WriteString(string) (int, error)            { return i.writeString() }
func (i canFHPRS) WriteString(string) (int, error)           { return i.writeString() }

// canE has FlushError without Flush.
type canE struct{ *innerWriter }

func (i canE) FlushError() error { i.call("FlushError"); return errDown }

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
	func(i *innerWriter) http.ResponseWriter { return i },
	func(i *innerWriter) http.ResponseWriter { return canF{i} },
	func(i *innerWriter) http.ResponseWriter { return canH{i} },
	func(i *innerWriter) http.ResponseWriter { return canFH{canF{i}} },
	func(i *innerWriter) http.ResponseWriter { return canP{i} },
	func(i *innerWriter) http.ResponseWriter { return canFP{canF{i}} },
	func(i *innerWriter) http.ResponseWriter { return canHP{canH{i}} },
	func(i *innerWriter) http.ResponseWriter { return canFHP{canFH{canF{i}}} },
	func(i *innerWriter) http.ResponseWriter { return canR{i} },
	func(i *innerWriter) http.ResponseWriter { return canFR{canF{i}} },
	func(i *innerWriter) http.ResponseWriter { return canHR{canH{i}} },
	func(i *innerWriter) http.ResponseWriter { return canFHR{canFH{canF{i}}} },
	func(i *innerWriter) http.ResponseWriter { return canPR{canP{i}} },
	func(i *innerWriter) http.ResponseWriter { return canFPR{canFP{canF{i}}} },
	func(i *innerWriter) http.ResponseWriter { return canHPR{canHP{canH{i}}} },
	func(i *innerWriter) http.ResponseWriter { return canFHPR{canFHP{canFH{canF{i}}}} },
	func(i *innerWriter) http.ResponseWriter { return canS{i} },
	func(i *innerWriter) http.ResponseWriter { return canFS{canF{i}} },
	func(i *innerWriter) http.ResponseWriter { return canHS{canH{i}} },
	func(i *innerWriter) http.ResponseWriter { return canFHS{canFH{canF{i}}} },
	func(i *innerWriter) http.ResponseWriter { return canPS{canP{i}} },
	func(i *innerWriter) http.ResponseWriter { return canFPS{canFP{canF{i}}} },
	func(i *innerWriter) http.ResponseWriter { return canHPS{canHP{canH{i}}} },
	func(i *innerWriter) http.ResponseWriter { return canFHPS{canFHP{canFH{canF{i}}}} },
	func(i *innerWriter) http.ResponseWriter { return canRS{canR{i}} },
	func(i *innerWriter) http.ResponseWriter { return canFRS{canFR{canF{i}}} },
	func(i *innerWriter) http.ResponseWriter { return canHRS{canHR{canH{i}}} },
	func(i *innerWriter) http.ResponseWriter { return canFHRS{canFHR{canFH{canF{i}}}} },
	func(i *innerWriter) http.ResponseWriter { return canPRS{canPR{canP{i}}} },
	func(i *innerWriter) http.ResponseWriter { return canFPRS{canFPR{canFP{canF{i}}}} },
	func(i *innerWriter) http.ResponseWriter { return canHPRS{canHPR{canHP{canH{i}}}} },
	func(i *innerWriter) http.ResponseWriter { return canFHPRS{canFHPR{canFHP{canFH{canF{i}}}}} },
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
	through(s, canE{i}, func(w http.ResponseWriter) {
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
