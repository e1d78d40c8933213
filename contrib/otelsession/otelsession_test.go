package otelsession_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/contrib/otelsession"
	"github.com/typedsessions/sessions/dbsc"
)

type AppSession struct {
	User string `msgpack:"user" validate:"max=32"`
	N    int    `msgpack:"n"`
}

// A site is a Manager with an Instrumentation.
type site struct {
	t      testing.TB
	mgr    *sessions.Manager[AppSession]
	reader *metric.ManualReader
	spans  *tracetest.SpanRecorder
	tracer *trace.TracerProvider
}

func newSite(t testing.TB, store sessions.Store) *site {
	t.Helper()
	s := &site{t: t, reader: metric.NewManualReader(), spans: tracetest.NewSpanRecorder()}
	inst, err := otelsession.New(metric.NewMeterProvider(metric.WithReader(s.reader)))
	if err != nil {
		t.Fatal(err)
	}
	s.tracer = trace.NewTracerProvider(trace.WithSpanProcessor(s.spans))
	s.mgr = newManager(t, inst.Store(store), inst.OnEvent)
	return s
}

func newManager(t testing.TB, store sessions.Store, onEvent func(context.Context, sessions.Event)) *sessions.Manager[AppSession] {
	t.Helper()
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	cfg := sessions.Config[AppSession]{Keys: keys, Store: store, OnEvent: onEvent, Logger: slog.New(slog.DiscardHandler)}
	if _, ok := store.(sessions.OwnerStore); ok {
		cfg.Owner = func(s *AppSession) string { return s.User }
	}
	mgr, err := sessions.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return mgr
}

// serve handles one request in a span and returns the response.
func (s *site) serve(handler http.HandlerFunc, cookies ...*http.Cookie) *http.Response {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	ctx, span := s.tracer.Tracer("test").Start(r.Context(), "request")
	defer span.End()
	w := httptest.NewRecorder()
	s.mgr.Middleware(handler).ServeHTTP(w, r.WithContext(ctx))
	return w.Result()
}

// signIn creates a session of ada.
func (s *site) signIn() *http.Cookie {
	s.t.Helper()
	cookies := s.serve(func(_ http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Data.User = "ada"
	}).Cookies()
	if len(cookies) != 1 {
		s.t.Fatalf("got %d cookies, want 1", len(cookies))
	}
	return cookies[0]
}

func edit(_ http.ResponseWriter, r *http.Request) { sessions.Get[AppSession](r.Context()).Data.N++ }
func read(_ http.ResponseWriter, r *http.Request) { sessions.Get[AppSession](r.Context()) }

// metrics returns the metrics of all instruments by name.
func (s *site) metrics() map[string]metricdata.Metrics {
	s.t.Helper()
	var all metricdata.ResourceMetrics
	if err := s.reader.Collect(context.Background(), &all); err != nil {
		s.t.Fatal(err)
	}
	byName := map[string]metricdata.Metrics{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			byName[m.Name] = m
		}
	}
	return byName
}

// counts returns the counts of an instrument by its attributes, which are spelled
// as in "session.event.kind=started session.event.reason=no_cookie".
func (s *site) counts(name string) map[string]int {
	s.t.Helper()
	counts := map[string]int{}
	switch data := s.metrics()[name].Data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			counts[spell(p.Attributes.ToSlice())] = int(p.Value)
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			counts[spell(p.Attributes.ToSlice())] = int(p.Count)
		}
	}
	return counts
}

func spell(attrs []attribute.KeyValue) string {
	var words []string
	for _, a := range attrs {
		words = append(words, string(a.Key)+"="+a.Value.AsString())
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func (s *site) wantCount(name, attributes string, want int) {
	s.t.Helper()
	if counts := s.counts(name); counts[attributes] != want {
		s.t.Errorf("%s: got count %d for %q, want %d; all counts: %v", name, counts[attributes], attributes, want, counts)
	}
}

func TestEventsAreCountedByKindAndReason(t *testing.T) {
	s := newSite(t, new(sessions.MemoryStore))
	cookie := s.signIn()
	s.signIn()
	s.serve(read, &http.Cookie{Name: cookie.Name, Value: cookie.Value[:len(cookie.Value)-1]})
	s.serve(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		for i := range 33 {
			sess.Flash("info", fmt.Sprintf("message %d", i))
		}
	}, cookie)
	s.wantCount("session.events", "session.event.kind=started session.event.reason=no_cookie", 2)
	s.wantCount("session.events", "session.event.kind=refused session.event.reason=forged", 1)
	s.wantCount("session.events", "session.event.kind=flash_dropped", 1)
}

func TestFailuresAreCountedByTheirClass(t *testing.T) {
	for _, tt := range []struct {
		class  string
		err    error
		status int
	}{
		{"_OTHER", errors.New("no route to ada's host"), 503},
		{"timeout", fmt.Errorf("dial: %w", context.DeadlineExceeded), 503},
		{"canceled", context.Canceled, 503},
		{"limit", fmt.Errorf("sign in: %w", sessions.ErrLimit), 409},
	} {
		t.Run(tt.class, func(t *testing.T) {
			store := &hookStore{MemoryStore: new(sessions.MemoryStore)}
			s := newSite(t, store)
			cookie := s.signIn()
			store.beforeLoad = func() error { return tt.err }
			if res := s.serve(read, cookie); res.StatusCode != tt.status {
				t.Errorf("got status %d, want %d", res.StatusCode, tt.status)
			}
			s.wantCount("session.events", "error.type="+tt.class+" session.event.kind=failed", 1)
			s.wantCount("session.store.duration", "error.type="+tt.class+" session.store.operation=load", 1)
		})
	}
}

func TestEveryOperationIsMeasured(t *testing.T) {
	store := &hookStore{MemoryStore: new(sessions.MemoryStore)}
	s := newSite(t, store)
	cookie := s.signIn()
	s.serve(edit, cookie)
	s.serve(func(_ http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Destroy()
	}, cookie)
	s.serve(read, cookie) // the session does not exist any more
	for _, err := range s.mgr.Sessions(context.Background(), "ada") {
		t.Errorf("got a session or error %v, want neither", err)
	}
	for attributes, want := range map[string]int{
		"session.store.operation=create":                    1,
		"session.store.operation=load":                      2,
		"error.type=not_found session.store.operation=load": 1,
		"session.store.operation=update":                    1,
		"session.store.operation=delete":                    1,
		"session.store.operation=owned":                     1,
	} {
		s.wantCount("session.store.duration", attributes, want)
	}
}

func TestDurationIsTheStoresAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &hookStore{MemoryStore: new(sessions.MemoryStore)}
		s := newSite(t, store)
		cookie := s.signIn()
		store.beforeLoad = func() error { time.Sleep(time.Second); return nil }
		s.serve(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Minute) }, cookie)
		store.beforeOwned = func() { time.Sleep(2 * time.Second) }
		for range s.mgr.Sessions(t.Context(), "ada") {
			time.Sleep(time.Minute)
		}
		m := s.metrics()["session.store.duration"]
		if m.Unit != "s" {
			t.Errorf("got unit %q, want s", m.Unit)
		}
		sums := map[string]float64{}
		for _, p := range m.Data.(metricdata.Histogram[float64]).DataPoints {
			sums[spell(p.Attributes.ToSlice())] = p.Sum
		}
		if got := sums["session.store.operation=load"]; got != 2 { // one load by the request, one by the listing
			t.Errorf("load: got %vs, want 2s", got)
		}
		if got := sums["session.store.operation=owned"]; got != 2 {
			t.Errorf("owned: got %vs, want 2s", got)
		}
	})
}

func TestConflictsAreVisible(t *testing.T) {
	store := &hookStore{MemoryStore: new(sessions.MemoryStore)}
	s := newSite(t, store)
	cookie := s.signIn()
	s.serve(func(w http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Update(func(a *AppSession) { a.N++ })
		s.serve(edit, cookie) // commits first
	}, cookie)
	s.wantCount("session.store.duration", "error.type=conflict session.store.operation=update", 1)
	s.wantCount("session.store.duration", "session.store.operation=update", 2)
	s.wantCount("session.events", "session.event.kind=merged", 1)
}

func TestEventsAreOnTheSpanOfTheRequest(t *testing.T) {
	s := newSite(t, new(sessions.MemoryStore))
	s.serve(read, &http.Cookie{Name: "__Host-Http-session", Value: "nonsense"})
	s.serve(func(_ http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Data.User = strings.Repeat("a", 33)
	})
	var got []string
	for _, span := range s.spans.Ended() {
		for _, e := range span.Events() {
			got = append(got, e.Name+" "+spell(e.Attributes))
		}
	}
	want := []string{"session.refused session.event.reason=forged", "session.failed error.type=invalid"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRequestWithoutASpanIsMeasured(t *testing.T) {
	s := newSite(t, new(sessions.MemoryStore))
	w := httptest.NewRecorder()
	s.mgr.Middleware(http.HandlerFunc(edit)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	s.wantCount("session.events", "session.event.kind=started session.event.reason=no_cookie", 1)
}

// The exported data must not contain an id, an owner or the text of an error.
func TestNothingPersonalIsExported(t *testing.T) {
	store := &hookStore{MemoryStore: new(sessions.MemoryStore)}
	s := newSite(t, store)
	cookie := s.signIn()
	var id string
	s.serve(func(_ http.ResponseWriter, r *http.Request) { id = sessions.Get[AppSession](r.Context()).ID() }, cookie)
	store.beforeLoad = func() error { return errors.New("ada's record is broken") }
	s.serve(read, cookie)
	for range s.mgr.Sessions(context.Background(), "ada") {
		break
	}
	var all strings.Builder
	for _, m := range s.metrics() {
		fmt.Fprintf(&all, "%+v\n", m)
		for attributes := range s.counts(m.Name) {
			fmt.Fprintln(&all, attributes)
		}
	}
	for _, span := range s.spans.Ended() {
		for _, e := range span.Events() {
			fmt.Fprintln(&all, e.Name, spell(e.Attributes))
		}
	}
	for _, secret := range []string{id, cookie.Value, "ada", "broken"} {
		if strings.Contains(all.String(), secret) {
			t.Errorf("%q is exported:\n%s", secret, all.String())
		}
	}
	if !strings.Contains(all.String(), "session.failed") {
		t.Errorf("the failure is not exported:\n%s", all.String())
	}
}

// A fullStore has all methods that a store may have, and lists nothing.
type fullStore struct{ sessions.OwnerStore }

func (fullStore) LoadNewest(context.Context, sessions.ID) (sessions.Record, error) {
	return sessions.Record{Version: 7}, nil
}

func (fullStore) LoadMany(context.Context, []sessions.ID) (map[sessions.ID]sessions.Record, error) {
	return map[sessions.ID]sessions.Record{{1}: {}}, nil
}

func (fullStore) Labelled(context.Context, string) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) { yield(sessions.ID{2}, nil) }
}

func (fullStore) Changes(context.Context) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) { yield(sessions.ID{3}, nil) }
}

type loaders interface {
	LoadNewest(context.Context, sessions.ID) (sessions.Record, error)
	LoadMany(context.Context, []sessions.ID) (map[sessions.ID]sessions.Record, error)
}

func TestStoreHasTheMethodsOfTheInnerOne(t *testing.T) {
	inst, err := otelsession.New(noopmetric.NewMeterProvider())
	if err != nil {
		t.Fatal(err)
	}
	full := fullStore{new(sessions.MemoryStore)}
	for _, tt := range []struct {
		name                string
		inner               sessions.Store
		owner, label, batch bool
	}{
		{"plain", struct{ sessions.Store }{full}, false, false, false},
		{"with LoadMany", struct {
			sessions.Store
			loaders
		}{full, full}, false, false, true},
		{"an OwnerStore", struct{ sessions.OwnerStore }{full}, true, false, false},
		{"an OwnerStore with LoadMany", struct {
			sessions.OwnerStore
			loaders
		}{full, full}, true, false, true},
		{"a LabelStore", struct{ sessions.LabelStore }{full}, true, true, false},
		{"a LabelStore with LoadMany", full, true, true, true},
	} {
		s := inst.Store(tt.inner)
		_, owner := s.(sessions.OwnerStore)
		_, label := s.(sessions.LabelStore)
		_, batch := s.(loaders)
		if owner != tt.owner || label != tt.label || batch != tt.batch {
			t.Errorf("%s: got an OwnerStore %t, a LabelStore %t, LoadMany %t", tt.name, owner, label, batch)
		}
	}
	if inst.Store(nil) != nil {
		t.Error("Store(nil) is not nil")
	}
}

func TestOptionalMethodsReachTheInnerStore(t *testing.T) {
	s := &site{t: t, reader: metric.NewManualReader()}
	inst, err := otelsession.New(metric.NewMeterProvider(metric.WithReader(s.reader)))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	full := inst.Store(fullStore{new(sessions.MemoryStore)})
	if rec, err := full.(loaders).LoadNewest(ctx, sessions.ID{}); rec.Version != 7 || err != nil {
		t.Errorf("LoadNewest: got %v, %v, want version 7", rec, err)
	}
	if records, err := full.(loaders).LoadMany(ctx, nil); len(records) != 1 || err != nil {
		t.Errorf("LoadMany: got %v, %v, want one record", records, err)
	}
	for id, err := range full.(sessions.LabelStore).Labelled(ctx, "") {
		if id != (sessions.ID{2}) || err != nil {
			t.Errorf("Labelled: got %v, %v", id, err)
		}
	}
	for id, err := range full.(sessions.Watcher).Changes(ctx) {
		if id != (sessions.ID{3}) || err != nil {
			t.Errorf("Changes: got %v, %v", id, err)
		}
	}
	for _, operation := range []string{"load", "load_many", "labelled"} {
		s.wantCount("session.store.duration", "session.store.operation="+operation, 1)
	}

	plain := inst.Store(struct{ sessions.Store }{new(sessions.MemoryStore)})
	if _, err := plain.(interface {
		LoadNewest(context.Context, sessions.ID) (sessions.Record, error)
	}).LoadNewest(ctx, sessions.ID{}); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("LoadNewest of a plain store: got %v, want what Load returns, ErrNotFound", err)
	}
	for _, err := range plain.(sessions.Watcher).Changes(ctx) {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Changes of a plain store: got %v, want ErrUnsupported", err)
		}
	}
}

func TestRevokeOwnerReachesThroughTheStore(t *testing.T) {
	s := newSite(t, new(sessions.MemoryStore))
	s.signIn()
	s.signIn()
	if n, err := s.mgr.RevokeOwner(t.Context(), "ada"); n != 2 || err != nil {
		t.Errorf("got %d and %v, want 2", n, err)
	}
}

func TestNilMeansTheGlobalProvider(t *testing.T) {
	reader := metric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	defer otel.SetMeterProvider(before)
	inst, err := otelsession.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, reader: reader}
	inst.OnEvent(context.Background(), sessions.Event{Kind: sessions.EventMerged})
	s.wantCount("session.events", "session.event.kind=merged", 1)
}

func TestReadmeListsEveryKindAndReason(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	words := []string{string(dbsc.ReasonStale)}
	for _, kind := range []sessions.EventKind{
		sessions.EventStarted, sessions.EventRenewed, sessions.EventEnded, sessions.EventRefused, sessions.EventAmbiguous, sessions.EventUpgraded,
		sessions.EventMerged, sessions.EventDiscarded, sessions.EventLate, sessions.EventFlashDropped, sessions.EventFailed,
	} {
		words = append(words, string(kind))
	}
	for _, reason := range []sessions.Reason{
		sessions.ReasonNoCookie, sessions.ReasonForged, sessions.ReasonExpired, sessions.ReasonIdle, sessions.ReasonUnknown, sessions.ReasonUndecodable,
		sessions.ReasonInvalid, sessions.ReasonNewer, sessions.ReasonReset, sessions.ReasonImported, sessions.ReasonReplaced, sessions.ReasonDestroyed,
		sessions.ReasonRevoked, sessions.ReasonLimit, sessions.ReasonSpent,
	} {
		words = append(words, string(reason))
	}
	for _, word := range words {
		if value := "`" + strings.ReplaceAll(word, " ", "_") + "`"; !strings.Contains(string(readme), value) {
			t.Errorf("README.md lacks %s", value)
		}
	}
}

// A hookStore calls functions of a test before its operations.
type hookStore struct {
	*sessions.MemoryStore
	beforeLoad  func() error
	beforeOwned func()
}

func (h *hookStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	if h.beforeLoad != nil {
		if err := h.beforeLoad(); err != nil {
			return sessions.Record{}, err
		}
	}
	return h.MemoryStore.Load(ctx, id)
}

func (h *hookStore) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	if h.beforeOwned != nil {
		h.beforeOwned()
	}
	return h.MemoryStore.Owned(ctx, owner)
}

// BenchmarkRequest reads and writes a session in memory, with and without
// measuring.
func BenchmarkRequest(b *testing.B) {
	noop, err := otelsession.New(noopmetric.NewMeterProvider())
	if err != nil {
		b.Fatal(err)
	}
	sdk, err := otelsession.New(metric.NewMeterProvider(metric.WithReader(metric.NewManualReader())))
	if err != nil {
		b.Fatal(err)
	}
	for _, work := range []struct {
		name    string
		handler http.HandlerFunc
	}{{"read", read}, {"write", edit}} {
		for _, way := range []struct {
			name string
			mgr  *sessions.Manager[AppSession]
		}{
			{"bare", newManager(b, new(sessions.MemoryStore), nil)},
			{"wrapped", newManager(b, struct{ sessions.OwnerStore }{new(sessions.MemoryStore)}, nil)},
			{"without an SDK", newManager(b, noop.Store(new(sessions.MemoryStore)), noop.OnEvent)},
			{"measured", newManager(b, sdk.Store(new(sessions.MemoryStore)), sdk.OnEvent)},
		} {
			b.Run(work.name+"/"+way.name, func(b *testing.B) {
				w := httptest.NewRecorder()
				way.mgr.Middleware(http.HandlerFunc(edit)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				r.AddCookie(w.Result().Cookies()[0])
				h := way.mgr.Middleware(work.handler)
				b.ReportAllocs()
				for b.Loop() {
					h.ServeHTTP(discard{http.Header{}}, r)
				}
			})
		}
	}
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return io.Discard.Write(b) }
func (d discard) WriteHeader(int)             {}
