package sessions

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"

	"github.com/typedsessions/sessions/internal/firstbyte"
	"github.com/typedsessions/sessions/internal/phase"
	"github.com/typedsessions/sessions/internal/seam"
	"github.com/typedsessions/sessions/internal/txn"
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
	return x.session().Session().(*Session[T]), true
}

// Middleware returns a handler that has the session of each request ready (see
// [Get]), calls next, and stores the session, if it changed, before the first
// byte of the response leaves: at WriteHeader, Write, ReadFrom, Flush or Hijack,
// or else when next returns. An unchanged session costs no write and sets no
// cookie. A request that never calls Get costs one allocation in cookie mode, and
// one Load with a Store if it brings a session's cookie.
//
// With a Store the record is loaded before next runs. If that or the commit
// fails, Config.ErrorHandler answers in place of next. Mount the middleware
// around the routes that use sessions only, so that other routes do not depend on
// the Store.
//
// A panic of next stores nothing and passes through. A Destroy that was called
// before the panic is carried out. A handler that recovers from panics belongs
// outside of the middleware: inside, its error page is a response like any other,
// and the session is stored with it. [http.TimeoutHandler] belongs outside too:
// inside, its handler goes on editing Data while the response is written.
// A logger that needs the session belongs inside.
//
// The ResponseWriter that next gets is one of the middleware's own. It has:
//
//   - [http.Flusher] and [http.Hijacker], if the outer one has them or unwraps to
//     one that does,
//   - [http.Pusher], [io.ReaderFrom] and [io.StringWriter], if the outer one has
//     them,
//   - Unwrap, so that [http.ResponseController] works: it flushes and hijacks
//     through the middleware, and reaches the deadlines and EnableFullDuplex of
//     the outer one.
//
// Every other method of the outer one is reached by Unwrap only. These are
// [http.CloseNotifier], which is deprecated, the HTTP/3 stream that WebTransport
// takes over (docs/OPERATIONS.md has the way to do that), and the private method
// by which [http.MaxBytesReader] closes the connection: put [http.MaxBytesHandler]
// outside. A response that is written to an unwrapped writer leaves without the
// session's cookie.
//
// Once next has returned, the outer request has the multipart form and the Pattern
// of the request that next got.
//
// The same Manager twice in a chain is one session. Two Managers of the same T
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
	return fmt.Sprintf("Manager(%s, cookie %s)", m.core.name, m.core.engine.Cookie.Name)
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
	x.writer.Init(w, x, &x.shared.Phase, &h.m.writers)
	if h.m.engine.Store != nil {
		if err := x.load(); err != nil {
			h.m.emit(r.Context(), Event{Kind: EventFailed, ID: h.m.engine.IDIn(err), Err: err}, attrs(r)...)
			x.inside = *r
			defer x.handBack()
			x.writer.Fail(err)
			return
		}
	}
	x.inside = *r.WithContext(x)
	returned := false
	defer x.handBack()
	defer func() { x.finish(returned) }()
	h.next.ServeHTTP(x.writer.Claim(), &x.inside)
	returned = true
}

// handBack gives the outer request what net/http or a logger looks for there: the
// form, whose files net/http removes, and the route that matched.
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
		panic(fmt.Sprintf("sessions: two Managers of %s in one chain, with the cookies %q and %q; give one of them a type of its own, or use sessiontest.Cookie in place of sessiontest.Context", m.name, m.engine.Cookie.Name, inner.engine.Cookie.Name))
	}
	if m.engine.Cookie.Name == inner.engine.Cookie.Name {
		panic(fmt.Sprintf("sessions: the Managers of %s and %s in one chain share the cookie %q; give one of them another Config.Cookie.Name", m.name, inner.name, m.engine.Cookie.Name))
	}
}

// around returns the innermost exchange that ctx belongs to, nil if there is none.
func around(ctx context.Context) *exchange {
	x, _ := ctx.Value(chainKey{}).(*exchange)
	return x
}

// An exchange is a request on its way through the Middleware. It is the context,
// and it holds the response writer and the request that the handler sees: one
// allocation for all of it, 95 ns less than with the request apart
// (BenchmarkRequest/F).
type exchange struct {
	context.Context
	writer firstbyte.Writer

	m      *core
	req    *http.Request // as it came: the handler may change the one inside at any time
	inside http.Request  // with this context
	shared txn.Shared
	txn    atomic.Pointer[txn.Txn] // nil until somebody asks for the session
	vary   [1]string               // for the header, without an allocation of its own
}

// Format prints no more than whose context it is, under every verb: what the
// session has readied for the header is a credential.
func (x *exchange) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, x.String()) }

// String is what package context prints of a parent.
func (x *exchange) String() string { return "sessions.Context(" + x.m.name + ")" }

// Value finds the session, or what the outer context has.
func (x *exchange) Value(key any) any {
	if key == x.m.key || key == (chainKey{}) {
		return x
	}
	if k, ok := key.(seam.Key); ok && x.found(k) {
		return deviceSession{x}
	}
	return x.Context.Value(key)
}

// Emit implements [txn.Request].
func (x *exchange) Emit(event txn.Event) {
	e := eventOf(event)
	if e.Kind == EventLate || e.Kind == EventFailed {
		x.m.emit(x, e, attrs(x.req)...)
		return
	}
	x.m.emit(x, e)
}

func attrs(r *http.Request) []slog.Attr {
	return []slog.Attr{slog.String("method", r.Method), slog.String("path", r.URL.Path)}
}

// session returns the session, which the first call opens.
func (x *exchange) session() *txn.Txn {
	if t := x.txn.Load(); t != nil {
		return t
	}
	x.shared.Gate.Lock()
	if x.txn.Load() == nil {
		x.open()
	}
	x.shared.Gate.Unlock()
	t := x.txn.Load()
	t.Emit()
	return t
}

// Commit implements [firstbyte.Response].
func (x *exchange) Commit(h http.Header, hijack bool) error {
	t := x.txn.Load()
	if t == nil {
		x.shared.Phase.Set(phase.Sent)
		if t = x.txn.Load(); t == nil {
			return nil // a session that is opened from now on sees the phase
		}
	}
	reach := txn.Whole
	if hijack {
		reach = txn.Header
	}
	firstbyte.AddVary(h, &x.vary)
	out, err := t.Commit(reach)
	x.place(h, out)
	if d := x.m.site.Load().Device(); d != nil && err == nil && t.Announced() {
		d.Announce(deviceSession{x}, h)
	}
	return err
}

// Answer implements [firstbyte.Response].
func (x *exchange) Answer(w http.ResponseWriter, err error) {
	x.m.errorHandler(w, &x.inside, err)
}

// place puts the cookies of an outcome into the header, when nothing but the
// headers' leaving can follow. Others stay.
func (x *exchange) place(h http.Header, out txn.Outcome) {
	placed := false
	put := func(line string) {
		h["Set-Cookie"] = append(h["Set-Cookie"], line)
		placed = true
	}
	if out.EndImports {
		for _, c := range x.m.importGone {
			if _, err := x.req.Cookie(c.Name); err == nil {
				put(c.String())
			}
		}
	}
	if out.EndFormer {
		for _, line := range x.m.engine.Cookie.ExpireFormer() {
			put(line)
		}
	}
	if out.Cookie != "" {
		put(out.Cookie)
	}
	if placed {
		firstbyte.KeepPrivate(h)
	}
}

// finish is what happens when the handler has returned, or has panicked.
func (x *exchange) finish(returned bool) {
	p := &x.shared.Phase
	if returned && !p.Left() {
		_ = x.writer.Ready(false)
	} else if returned && p.Is(phase.Sent) {
		x.late()
	}
	t := x.txn.Load()
	switch {
	case t == nil:
		p.Close() // a session that is opened from now on sees it
		if t = x.txn.Load(); t == nil {
			return
		}
		t.Close(true)
	case !returned, p.Is(phase.Failed) && t.EndedSince():
		x.abort(t)
		t.Close(true)
	case p.Is(phase.Sent):
		// Goroutines of the handler may have gone on while this was stored.
		for more := 0; !t.Close(more == maxMore); more++ {
			x.late()
		}
	default:
		t.Close(true)
	}
	t.Emit()
}

// maxMore bounds how long a goroutine that does not stop holds up a request.
const maxMore = 3

// late stores what the handler changed after the headers had left, or reports
// that it cannot.
func (x *exchange) late() {
	if t := x.txn.Load(); t != nil {
		_, _ = t.Commit(txn.Gone)
	}
}

// abort carries out a Destroy, or that half of a Reset, after a panic. What
// a Save has stored before gets its cookie.
func (x *exchange) abort(t *txn.Txn) {
	if x.shared.Phase.Left() {
		t.Abort(txn.Gone)
		return
	}
	x.shared.Phase.Set(phase.Sent)
	h := x.writer.Header()
	firstbyte.AddVary(h, &x.vary)
	x.place(h, t.Abort(txn.Whole))
}
