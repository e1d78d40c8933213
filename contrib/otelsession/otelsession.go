// Package otelsession provides OpenTelemetry metrics and span events for package
// sessions. It counts the events of sessions and measures the operations of their
// store.
//
//	inst, err := otelsession.New(nil)
//	mgr, err := sessions.New(sessions.Config[AppSession]{
//		Keys:    keys,
//		Store:   inst.Store(store),
//		OnEvent: inst.OnEvent,
//	})
//
// The instruments, with their kind, unit and attributes, are:
//
//	session.events          counter    {event}  session.event.kind, session.event.reason, error.type
//	session.store.duration  histogram  s        session.store.operation, error.type
//
// Each event of a session is also added to the span in the context of the
// request. The name of the span event is "session." and the kind, for instance
// session.refused.
//
// A conflict is an update or delete whose error.type is conflict. Each conflict
// makes a commit try again, because a parallel request changed the session. The
// error.type is also set for errors that are normal answers of a store, such as
// not_found for a load.
//
// No attribute contains an id, an owner, the text of an error or other personal
// data, and each attribute has a fixed set of values. The log of Config.Logger
// contains the public ids of sessions.
package otelsession

import (
	"context"
	"errors"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/typedsessions/sessions"
)

// scope is the name of the meter.
const scope = "github.com/typedsessions/sessions/contrib/otelsession"

// An Instrumentation holds the instruments. Create it with [New]. It is safe for
// concurrent use by multiple goroutines. Several Managers may share one; their
// measurements are then added.
type Instrumentation struct {
	events   metric.Int64Counter
	duration metric.Float64Histogram
	outcomes map[outcome][]metric.RecordOption
}

// New creates the instruments with provider, or with the global provider if it is
// nil. It returns the error of the provider. Span events need no provider, since
// the spans are in the contexts of requests.
func New(provider metric.MeterProvider) (*Instrumentation, error) {
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	meter := provider.Meter(scope)
	events, err := meter.Int64Counter("session.events",
		metric.WithUnit("{event}"),
		metric.WithDescription("Events of sessions, by kind and reason."))
	if err != nil {
		return nil, err
	}
	duration, err := meter.Float64Histogram("session.store.duration",
		metric.WithUnit("s"),
		metric.WithDescription("Duration of the operations of the session store."),
		metric.WithExplicitBucketBoundaries(durations...))
	if err != nil {
		return nil, err
	}
	return &Instrumentation{events: events, duration: duration, outcomes: allOutcomes()}, nil
}

// OnEvent counts the event and adds it to the span in ctx if the span is
// recording. Assign it to Config.OnEvent, or call it from your own OnEvent
// function.
func (i *Instrumentation) OnEvent(ctx context.Context, e sessions.Event) {
	kind := snake(string(e.Kind))
	attrs := make([]attribute.KeyValue, 1, 3)
	attrs[0] = attribute.String("session.event.kind", kind)
	if e.Reason != sessions.ReasonNone {
		attrs = append(attrs, attribute.String("session.event.reason", snake(string(e.Reason))))
	}
	if e.Kind == sessions.EventFailed {
		attrs = append(attrs, attribute.String("error.type", errorType(e.Err)))
	}
	i.events.Add(ctx, 1, metric.WithAttributes(attrs...))
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.AddEvent("session."+kind, trace.WithAttributes(attrs[1:]...))
	}
}

// snake returns a kind or reason in the spelling of attribute values.
func snake(s string) string { return strings.ReplaceAll(s, " ", "_") }

// An errorClass is an error with its own value of error.type. The text of an error
// is not used as a value, since the number of texts is unlimited and a driver may
// put any data into them.
type errorClass struct {
	name string
	err  error
}

var errorClasses = []errorClass{
	{"not_found", sessions.ErrNotFound},
	{"conflict", sessions.ErrConflict},
	{"exists", sessions.ErrExists},
	{"too_large", sessions.ErrTooLarge},
	{"invalid", sessions.ErrInvalid},
	{"limit", sessions.ErrLimit},
	{"timeout", context.DeadlineExceeded},
	{"canceled", context.Canceled},
}

// otherError is the value of error.type for errors without a class, by the
// semantic conventions of OpenTelemetry.
const otherError = "_OTHER"

// errorType returns the value of error.type, or "" if err is nil.
func errorType(err error) string {
	if err == nil {
		return ""
	}
	for _, c := range errorClasses {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return otherError
}
