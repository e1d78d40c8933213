package firstbyte

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"reflect"
	"sync/atomic"
)

const (
	canFlush = 1 << iota
	canHijack
	canPush
	canReadFrom
	canWriteString
)

// Claim returns w under a type that claims exactly what the inner writer has,
// or for Flusher and Hijacker reaches through Unwrap. Each of the 32 types
// embeds one with a capability less and adds that capability's method. All have
// the size of a pointer, so that the choice allocates nothing.
func (w *Writer) Claim() http.ResponseWriter {
	p := plain{w}
	switch w.cache.of(w.inner) {
	case 0:
		return p
	case canFlush:
		return wF{p}
	case canHijack:
		return wH{p}
	case canFlush | canHijack:
		return wFH{wF{p}}
	case canPush:
		return wP{p}
	case canFlush | canPush:
		return wFP{wF{p}}
	case canHijack | canPush:
		return wHP{wH{p}}
	case canFlush | canHijack | canPush:
		return wFHP{wFH{wF{p}}}
	case canReadFrom:
		return wR{p}
	case canFlush | canReadFrom:
		return wFR{wF{p}}
	case canHijack | canReadFrom:
		return wHR{wH{p}}
	case canFlush | canHijack | canReadFrom:
		return wFHR{wFH{wF{p}}}
	case canPush | canReadFrom:
		return wPR{wP{p}}
	case canFlush | canPush | canReadFrom:
		return wFPR{wFP{wF{p}}}
	case canHijack | canPush | canReadFrom:
		return wHPR{wHP{wH{p}}}
	case canFlush | canHijack | canPush | canReadFrom:
		return wFHPR{wFHP{wFH{wF{p}}}}
	case canWriteString:
		return wS{p}
	case canFlush | canWriteString:
		return wFS{wF{p}}
	case canHijack | canWriteString:
		return wHS{wH{p}}
	case canFlush | canHijack | canWriteString:
		return wFHS{wFH{wF{p}}}
	case canPush | canWriteString:
		return wPS{wP{p}}
	case canFlush | canPush | canWriteString:
		return wFPS{wFP{wF{p}}}
	case canHijack | canPush | canWriteString:
		return wHPS{wHP{wH{p}}}
	case canFlush | canHijack | canPush | canWriteString:
		return wFHPS{wFHP{wFH{wF{p}}}}
	case canReadFrom | canWriteString:
		return wRS{wR{p}}
	case canFlush | canReadFrom | canWriteString:
		return wFRS{wFR{wF{p}}}
	case canHijack | canReadFrom | canWriteString:
		return wHRS{wHR{wH{p}}}
	case canFlush | canHijack | canReadFrom | canWriteString:
		return wFHRS{wFHR{wFH{wF{p}}}}
	case canPush | canReadFrom | canWriteString:
		return wPRS{wPR{wP{p}}}
	case canFlush | canPush | canReadFrom | canWriteString:
		return wFPRS{wFPR{wFP{wF{p}}}}
	case canHijack | canPush | canReadFrom | canWriteString:
		return wHPRS{wHPR{wHP{wH{p}}}}
	default:
		return wFHPRS{wFHPR{wFHP{wFH{wF{p}}}}}
	}
}

// A Cache remembers what the types of writers can do, since to find out takes
// five type assertions: a server has one type for each version of HTTP. It is
// safe for concurrent use, and its zero value is empty.
type Cache [4]atomic.Pointer[knownWriter]

type knownWriter struct {
	typ  reflect.Type
	caps int
}

func (c *Cache) of(w http.ResponseWriter) int {
	typ := reflect.TypeOf(w)
	for i := range c {
		known := c[i].Load()
		if known == nil {
			known = &knownWriter{typ, capabilities(w)}
			// Only without Unwrap does the type say it all.
			if _, ok := w.(unwrapper); !ok {
				c[i].Store(known)
			}
		}
		if known.typ == typ {
			return known.caps
		}
	}
	return capabilities(w)
}

type unwrapper interface{ Unwrap() http.ResponseWriter }

func capabilities(w http.ResponseWriter) (caps int) {
	if reaches(w, flushes) {
		caps |= canFlush
	}
	if reaches(w, hijacks) {
		caps |= canHijack
	}
	if _, ok := w.(http.Pusher); ok {
		caps |= canPush
	}
	if _, ok := w.(io.ReaderFrom); ok {
		caps |= canReadFrom
	}
	if _, ok := w.(io.StringWriter); ok {
		caps |= canWriteString
	}
	return caps
}

func flushes(w http.ResponseWriter) bool {
	switch w.(type) {
	case http.Flusher, interface{ FlushError() error }:
		return true
	}
	return false
}

func hijacks(w http.ResponseWriter) bool {
	_, ok := w.(http.Hijacker)
	return ok
}

// reaches reports whether has is true of w or of a writer that w unwraps to, as
// [http.ResponseController] would find it.
func reaches(w http.ResponseWriter, has func(http.ResponseWriter) bool) bool {
	for {
		if has(w) {
			return true
		}
		u, ok := w.(unwrapper)
		if !ok {
			return false
		}
		w = u.Unwrap()
	}
}

// plain claims nothing; the letters of the others are Flusher, Hijacker, Pusher,
// ReaderFrom and StringWriter.
type plain struct{ *Writer }

type (
	wF     struct{ plain }
	wH     struct{ plain }
	wFH    struct{ wF }
	wP     struct{ plain }
	wFP    struct{ wF }
	wHP    struct{ wH }
	wFHP   struct{ wFH }
	wR     struct{ plain }
	wFR    struct{ wF }
	wHR    struct{ wH }
	wFHR   struct{ wFH }
	wPR    struct{ wP }
	wFPR   struct{ wFP }
	wHPR   struct{ wHP }
	wFHPR  struct{ wFHP }
	wS     struct{ plain }
	wFS    struct{ wF }
	wHS    struct{ wH }
	wFHS   struct{ wFH }
	wPS    struct{ wP }
	wFPS   struct{ wFP }
	wHPS   struct{ wHP }
	wFHPS  struct{ wFHP }
	wRS    struct{ wR }
	wFRS   struct{ wFR }
	wHRS   struct{ wHR }
	wFHRS  struct{ wFHR }
	wPRS   struct{ wPR }
	wFPRS  struct{ wFPR }
	wHPRS  struct{ wHPR }
	wFHPRS struct{ wFHPR }
)

func (w wF) Flush()            { _ = w.flush() }
func (w wF) FlushError() error { return w.flush() }

func (w wH) Hijack() (net.Conn, *bufio.ReadWriter, error)  { return w.hijack() }
func (w wFH) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.hijack() }

func (w wP) Push(t string, o *http.PushOptions) error   { return w.push(t, o) }
func (w wFP) Push(t string, o *http.PushOptions) error  { return w.push(t, o) }
func (w wHP) Push(t string, o *http.PushOptions) error  { return w.push(t, o) }
func (w wFHP) Push(t string, o *http.PushOptions) error { return w.push(t, o) }

func (w wR) ReadFrom(r io.Reader) (int64, error)    { return w.readFrom(r) }
func (w wFR) ReadFrom(r io.Reader) (int64, error)   { return w.readFrom(r) }
func (w wHR) ReadFrom(r io.Reader) (int64, error)   { return w.readFrom(r) }
func (w wFHR) ReadFrom(r io.Reader) (int64, error)  { return w.readFrom(r) }
func (w wPR) ReadFrom(r io.Reader) (int64, error)   { return w.readFrom(r) }
func (w wFPR) ReadFrom(r io.Reader) (int64, error)  { return w.readFrom(r) }
func (w wHPR) ReadFrom(r io.Reader) (int64, error)  { return w.readFrom(r) }
func (w wFHPR) ReadFrom(r io.Reader) (int64, error) { return w.readFrom(r) }

func (w wS) WriteString(s string) (int, error)     { return w.writeString(s) }
func (w wFS) WriteString(s string) (int, error)    { return w.writeString(s) }
func (w wHS) WriteString(s string) (int, error)    { return w.writeString(s) }
func (w wFHS) WriteString(s string) (int, error)   { return w.writeString(s) }
func (w wPS) WriteString(s string) (int, error)    { return w.writeString(s) }
func (w wFPS) WriteString(s string) (int, error)   { return w.writeString(s) }
func (w wHPS) WriteString(s string) (int, error)   { return w.writeString(s) }
func (w wFHPS) WriteString(s string) (int, error)  { return w.writeString(s) }
func (w wRS) WriteString(s string) (int, error)    { return w.writeString(s) }
func (w wFRS) WriteString(s string) (int, error)   { return w.writeString(s) }
func (w wHRS) WriteString(s string) (int, error)   { return w.writeString(s) }
func (w wFHRS) WriteString(s string) (int, error)  { return w.writeString(s) }
func (w wPRS) WriteString(s string) (int, error)   { return w.writeString(s) }
func (w wFPRS) WriteString(s string) (int, error)  { return w.writeString(s) }
func (w wHPRS) WriteString(s string) (int, error)  { return w.writeString(s) }
func (w wFHPRS) WriteString(s string) (int, error) { return w.writeString(s) }
