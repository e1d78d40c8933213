// Package otelsession measures sessions with OpenTelemetry: what happens to them,
// how long their store takes, and what of it belongs to a request's span.
//
//	inst, err := otelsession.New(nil)
//	mgr, err := sessions.New(sessions.Config[AppSession]{
//		Keys:    keys,
//		Store:   inst.Store(store),
//		OnEvent: inst.OnEvent,
//	})
//
// The instruments are
//
//	session.events          counter     {event}  what happened: session.event.kind, session.event.reason, error.type
//	session.store.duration  histogram   s        session.store.operation, error.type
//
// and an event of a session is also one of the span in the request's context,
// under the name session and its kind, such as session.refused.
//
// Conflicts are the updates and deletes whose error.type is conflict: each is
// one round that a commit went through because a parallel request was faster.
// The error.type of an operation is also set where the error is an ordinary
// answer, as not_found is of a load.
//
// No attribute holds an id, an owner, a text of an error or anything else that
// is about a person, and each has a fixed set of values. The log of
// Config.Logger has the public ids.
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

// An Instrumentation has the instruments. [New] makes it. It is safe for
// concurrent use, also by several Managers, whose measurements then add up.
type Instrumentation struct {
	events   metric.Int64Counter
	duration metric.Float64Histogram
	outcomes map[outcome][]metric.RecordOption
}

// New makes the instruments with a provider, or with the global one if it is
// nil. The error is the provider's. Spans come with the contexts of requests,
// and need no provider here.
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

// OnEvent is for Config.OnEvent. It counts the event, and adds it to the span in
// ctx if that is recorded. Where you listen yourself, call it from there.
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

// snake spells a kind or a reason as values of attributes are spelled.
func snake(s string) string { return strings.ReplaceAll(s, " ", "_") }

// An errorClass is an error that is told apart from others. The texts of errors
// are not: they have no bound, and a driver may put anything into them.
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
	{"timeout", context.DeadlineExceeded},
	{"canceled", context.Canceled},
}

// otherError is what OpenTelemetry's conventions call an error without a class.
const otherError = "_OTHER"

// errorType is the value of error.type, "" for none.
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
