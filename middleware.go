package sessions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"

	"github.com/typedsessions/sessions/internal/wait"
)

// A Manager loads and stores the sessions of one type T under one cookie name.
// [New] makes it. It is safe for concurrent use, and prints its type and its
// cookie's name only.
type Manager[T any] struct {
	core *core
}

// Get returns the session of the request that ctx belongs to. In cookie mode the
// cookie is verified and decoded by the first Get of a request. It panics, with
// a text that says so, if no [Manager.Middleware] of T is around the handler.
func Get[T any](ctx context.Context) *Session[T] {
	s, ok := Lookup[T](ctx)
	if !ok {
		panic(fmt.Sprintf("sessions: no %v in the context, %s; is Manager[%v].Middleware around this handler?", reflect.TypeFor[T](), present(ctx), reflect.TypeFor[T]()))
	}
	return s
}

// present says of which types there are sessions in ctx.
func present(ctx context.Context) string {
	var names []string
	for x := around(ctx); x != nil; x = around(x.Context) {
		names = append(names, x.m.name)
	}
	if names == nil {
		return "nor a session of another type"
	}
	return "only " + strings.Join(names, " and ")
}

// Lookup is [Get] for code that also runs without the middleware: it reports
// whether there is a session of T.
func Lookup[T any](ctx context.Context) (*Session[T], bool) {
	x, ok := ctx.Value(typeKey[T]{}).(*exchange)
	if !ok {
		return nil, false
	}
	return x.session().self.(*Session[T]), true
}

// Middleware returns a handler that has the session of each request ready (see
// [Get]), calls next, and stores the session, if it changed, before the first
// byte of the response leaves: at WriteHeader, Write, ReadFrom, Flush or Hijack,
// or else when next returns. An unchanged session costs no write and sets no
// cookie; a request that never calls Get costs next to nothing in cookie mode,
// and one Load with a Store if it brings a session's cookie.
//
// With a Store the record is loaded before next runs. If that or the commit
// fails, Config.ErrorHandler answers in place of next. Mount the middleware
// around the routes that use sessions, so that others outlive a store's failure.
//
// A panic of next stores nothing and passes through, but a Destroy called before
// it is carried out. What recovers from panics and answers them belongs outside
// of the middleware: inside, its error page is a response like any other, which
// stores what the handler had done by then. [http.TimeoutHandler] belongs outside
// too: inside, its handler goes on editing Data while the response is written.
// A logger that wants the session belongs inside.
//
// The ResponseWriter that next gets has the methods of the one outside, but for
// the deprecated [http.CloseNotifier], and it cannot pass on the private one by
// which [http.MaxBytesReader] closes the connection: put [http.MaxBytesHandler]
// outside. Of the request that next gets, the multipart form and the Pattern are
// those of the one outside once next has returned.
//
// The same Manager twice in a chain is one session; two Managers of the same T
// or of the same cookie name panic on the first request.
//
// The handler may be shared by any number of goroutines.
func (m *Manager[T]) Middleware(next http.Handler) http.Handler {
	return &handler{m: m.core, next: next}
}

func (m Manager[T]) summary() string {
	if m.core == nil {
		return "Manager(none)"
	}
	return fmt.Sprintf("Manager(%s, cookie %s)", m.core.name, m.core.cookie.Name)
}

// Format prints T and the cookie's name, under every verb.
func (m Manager[T]) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, m.summary()) }

// LogValue logs T and the cookie's name.
func (m Manager[T]) LogValue() slog.Value { return slog.StringValue(m.summary()) }

// MarshalText, for JSON, gives T and the cookie's name.
func (m Manager[T]) MarshalText() ([]byte, error) { return []byte(m.summary()), nil }

// A typeKey finds the session of T in a context, and chainKey the innermost of
// any type.
type (
	typeKey[T any] struct{}
	chainKey       struct{}
)

type handler struct {
	m    *core
	next http.Handler
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for o := around(r.Context()); o != nil; o = around(o.Context) {
		if o.m == h.m {
			h.next.ServeHTTP(w, r)
			return
		}
		o.m.mustDiffer(h.m)
	}
	x := &exchange{Context: r.Context(), m: h.m, req: r}
	x.writer = writer{x: x, inner: w}
	x.writer.outside = contentOf(w.Header())
	if h.m.store != nil {
		if err := x.load(); err != nil {
			err = fmt.Errorf("sessions: %w", err)
			h.m.emit(r.Context(), Event{Kind: EventFailed, Err: err}, attrs(r)...)
			x.writer.fail(r, err)
			return
		}
	}
	x.inside = *r.WithContext(x)
	returned := false
	defer x.handBack()
	defer func() { x.finish(returned) }()
	h.next.ServeHTTP(x.wrapped(), &x.inside)
	returned = true
}

// handBack tells those outside what became of the request, as if they had given
// the handler their own: net/http removes the files of its form, and an access
// log shows which route matched.
func (x *exchange) handBack() {
	in, out := &x.inside, x.req
	if in.MultipartForm != nil && out.MultipartForm == nil {
		out.Form, out.PostForm, out.MultipartForm = in.Form, in.PostForm, in.MultipartForm
	}
	if in.Pattern != out.Pattern {
		out.Pattern = in.Pattern
	}
}

func (m *core) mustDiffer(inner *core) {
	if m.key == inner.key {
		panic(fmt.Sprintf("sessions: two Managers of %s in one chain, with the cookies %q and %q; give one of them a type of its own", m.name, m.cookie.Name, inner.cookie.Name))
	}
	if m.cookie.Name == inner.cookie.Name {
		panic(fmt.Sprintf("sessions: the Managers of %s and %s in one chain share the cookie %q; give one of them another Config.Cookie.Name", m.name, inner.name, m.cookie.Name))
	}
}

// around returns the innermost exchange that ctx belongs to, nil if there is none.
func around(ctx context.Context) *exchange {
	x, _ := ctx.Value(chainKey{}).(*exchange)
	return x
}

// An exchange is a request on its way through the Middleware, and the context,
// the response writer and the request that the handler sees: one allocation for
// all of it, 95 ns less than with the request apart (BenchmarkRequest/F).
type exchange struct {
	context.Context
	writer writer

	m       *core
	req     *http.Request // as it came: the handler may change the one inside at any time
	inside  http.Request  // with this context
	sess    atomic.Pointer[state]
	gate    wait.Lock   // held while the session is opened, stored, or changed by an Update
	left    atomic.Bool // the headers, before there was a session: see opened
	ended   atomic.Bool // the request, before there was one
	arrived *arrival    // store mode, with a cookie of our name
	vary    [1]string   // for the header, without an allocation of its own

	// What is to go with the headers. The gate guards both.
	importsEnd bool   // the cookies that expire ImportCookies
	line       string // the Set-Cookie of the session
}

// Format prints no more than whose context it is, under every verb: the line
// above is a credential.
func (x *exchange) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, x.String()) }

// String is what package context prints of a parent.
func (x *exchange) String() string { return "sessions.Context(" + x.m.name + ")" }

// Value finds the session, or what the outer context has.
func (x *exchange) Value(key any) any {
	if key == x.m.key || key == (chainKey{}) {
		return x
	}
	return x.Context.Value(key)
}

func (x *exchange) wrapped() http.ResponseWriter { return x.writer.claim() }

func (x *exchange) emit(e Event) {
	if e.Kind == EventLate || e.Kind == EventFailed {
		x.m.emit(x, e, attrs(x.req)...)
		return
	}
	x.m.emit(x, e)
}

func attrs(r *http.Request) []slog.Attr {
	return []slog.Attr{slog.String("method", r.Method), slog.String("path", r.URL.Path)}
}

// session returns the state of the session, which the first call opens.
func (x *exchange) session() *state {
	if s := x.sess.Load(); s != nil {
		return s
	}
	s := x.opened()
	s.emit()
	return s
}

func (x *exchange) opened() *state {
	x.gate.Lock()
	defer x.gate.Unlock()
	s := x.sess.Load()
	if s == nil {
		s = x.open()
		s.sent = x.left.Load() // before another goroutine has it
		x.sess.Store(s)
		// A request that has no session commits and ends without looking
		// further: either it sees this one, or this sees what it has noted.
		if x.left.Load() {
			s.mu.Lock()
			s.sent = true
			s.mu.Unlock()
		}
		if x.ended.Load() {
			s.end(true)
		}
	}
	return s
}

// timedOut says that the request's deadline has passed: an http.TimeoutHandler
// outside has answered, and no cookie reaches the browser.
func (x *exchange) timedOut() bool { return errors.Is(x.Err(), context.DeadlineExceeded) }

// commit stores the session before the headers leave. hijack, and a deadline
// that has passed, mean that no new id can reach the browser any more.
func (x *exchange) commit(hijack bool) error {
	s := x.sess.Load()
	if s == nil {
		x.left.Store(true)
		if s = x.sess.Load(); s == nil {
			return nil
		}
	}
	pinned := hijack || x.timedOut()
	h := x.writer.inner.Header()
	x.addVary(h)
	err := s.run(func() error {
		saved, base := x.line != "", s.newestStored()
		// What a Save has stored before needs its cookie whatever comes of this.
		defer x.place(h)
		err := s.flush(s.outlive, flushing{leaving: true, sendable: true, pinned: pinned})
		// One that a read has renewed is no loss.
		if pinned && err == nil && x.line != "" && (saved || s.newestStored() != base) {
			s.queue(Event{Kind: EventLate, Err: errors.New("the connection was hijacked, or the request's deadline has passed: the session's cookie stands in the header for whoever still sends it")})
		}
		return err
	})
	if err != nil {
		s.mu.Lock()
		s.failedAt = s.seen
		s.mu.Unlock()
	}
	return err
}

// late stores what the handler changed after the headers had left, or says that
// it cannot.
func (x *exchange) late(s *state) {
	_ = s.run(func() error { return s.flush(s.outlive, flushing{leaving: true, pinned: true}) })
}

// abort carries out a Destroy, or that half of a Reset, after a panic, and what
// a Save has stored before gets its cookie.
func (x *exchange) abort(s *state) {
	_ = s.run(func() error {
		s.mu.Lock()
		s.sent = true
		s.seen = s.acts
		s.mu.Unlock()
		ctx, cancel := s.outlive()
		defer cancel()
		if x.writer.phase != open {
			return s.bury(ctx, false)
		}
		h := x.writer.inner.Header()
		x.addVary(h)
		defer x.place(h)
		return s.bury(ctx, true)
	})
}

// run calls f under the gate, and tells what comes of it. It returns what
// ErrorHandler must answer.
func (s *state) run(f func() error) error {
	defer s.emit()
	s.x.gate.Lock()
	defer s.x.gate.Unlock()
	return s.outcome(f())
}

// newestStored returns what this request knows to be stored.
func (s *state) newestStored() *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.base
}

// outcome turns the errors that the visitor does not see into events, and
// returns those that ErrorHandler answers.
func (s *state) outcome(err error) error {
	if err == nil {
		return nil
	}
	var d *discarded
	switch {
	case errors.As(err, &d):
		return nil // flush has said so
	case errors.Is(err, ErrTooLate):
		s.mu.Lock()
		if !s.lateTold {
			s.event(Event{Kind: EventLate, Err: err})
		}
		s.lateTold = s.lateMove || s.lateProlonged
		s.mu.Unlock()
		return nil
	}
	err = fmt.Errorf("sessions: %w", err)
	s.queue(Event{Kind: EventFailed, Err: err})
	return err
}

// finish is what happens when the handler has returned, or has panicked.
func (x *exchange) finish(returned bool) {
	if returned && x.writer.phase == open {
		_ = x.writer.ready(false)
	} else if s := x.sess.Load(); s != nil && returned && x.writer.phase == sent {
		x.late(s)
	}
	s := x.sess.Load()
	switch {
	case s == nil:
		x.ended.Store(true) // see opened
		if s = x.sess.Load(); s != nil {
			s.end(true)
		}
	case !returned, x.writer.phase == failed && s.destroyedSince():
		x.abort(s)
		s.end(true)
	case x.writer.phase == sent:
		// Goroutines of the handler may have gone on while this was stored.
		for more := 0; !s.end(more == maxMore); more++ {
			x.late(s)
		}
	default:
		s.end(true)
	}
	if s != nil {
		s.emit()
	}
	if x.writer.phase == open {
		x.writer.phase = sent // after a panic: who recovers it may write through this writer, and stores nothing
	}
}

// maxMore bounds how long a goroutine that will not stop holds up a request.
const maxMore = 3

// destroyedSince says whether Destroy or Reset was called after the commit
// failed: one before it has failed with it, and the visitor was told.
func (s *state) destroyedSince() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending && s.acts != s.failedAt
}

// hasLeft says whether the headers have.
func (s *state) hasLeft() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// end closes the session to verbs, but unless forced to not if there were some
// that no commit has looked at. Those it reports.
func (s *state) end(forced bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended && forced && s.acts != s.seen {
		s.event(Event{Kind: EventLate, Err: errors.New("the session was changed when nothing could be stored any more")})
	}
	s.ended = s.ended || forced || s.acts == s.seen
	return s.ended
}
