package otelsession

import (
	"context"
	"iter"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/typedsessions/sessions"
)

// durations are the bounds of the histogram's buckets, in seconds. The upper
// bounds are those of OpenTelemetry's conventions for databases. The lower bounds
// separate a cache from a local server. A Manager gives up after 5 seconds.
var durations = []float64{0.00001, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}

// Store returns a store that measures the operations of inner. It implements
// [sessions.OwnerStore] if inner does, but no other methods of inner. It returns
// the errors of inner unchanged and never repeats an operation. Store returns nil
// if inner is nil, as in a Config for sessions in the cookie.
//
// For every store other than a bare [sessions.MemoryStore], a Manager starts
// a timer per request. Measuring a MemoryStore adds the cost of this timer.
func (i *Instrumentation) Store(inner sessions.Store) sessions.Store {
	if inner == nil {
		return nil
	}
	s := store{inner, i}
	if owners, ok := inner.(sessions.OwnerStore); ok {
		return ownerStore{s, owners}
	}
	return s
}

type store struct {
	inner sessions.Store
	inst  *Instrumentation
}

func (s store) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	start := time.Now()
	rec, err := s.inner.Load(ctx, id)
	s.inst.record(ctx, "load", time.Since(start), err)
	return rec, err
}

func (s store) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	start := time.Now()
	version, err := s.inner.Create(ctx, id, rec)
	s.inst.record(ctx, "create", time.Since(start), err)
	return version, err
}

func (s store) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	start := time.Now()
	version, err := s.inner.Update(ctx, id, rec)
	s.inst.record(ctx, "update", time.Since(start), err)
	return version, err
}

func (s store) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	start := time.Now()
	err := s.inner.Touch(ctx, id, expires)
	s.inst.record(ctx, "touch", time.Since(start), err)
	return err
}

func (s store) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	start := time.Now()
	err := s.inner.Delete(ctx, id, version)
	s.inst.record(ctx, "delete", time.Since(start), err)
	return err
}

type ownerStore struct {
	store
	owners sessions.OwnerStore
}

// Owned measures the whole listing, without the time that the caller spends
// between the ids.
func (s ownerStore) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		var spent time.Duration
		var failed error
		start := time.Now()
		for id, err := range s.owners.Owned(ctx, owner) {
			spent += time.Since(start)
			failed = err
			more := yield(id, err)
			start = time.Now()
			if !more {
				break
			}
		}
		s.inst.record(ctx, "owned", spent+time.Since(start), failed)
	}
}

// An outcome is an operation with the class of its error, "" if it succeeded.
type outcome struct{ operation, errorType string }

// allOutcomes returns the attributes of all outcomes. They are made only once,
// since every request records an outcome.
func allOutcomes() map[outcome][]metric.RecordOption {
	errorTypes := []string{"", otherError}
	for _, c := range errorClasses {
		errorTypes = append(errorTypes, c.name)
	}
	all := map[outcome][]metric.RecordOption{}
	for _, operation := range []string{"load", "create", "update", "touch", "delete", "owned"} {
		for _, errorType := range errorTypes {
			attrs := []attribute.KeyValue{attribute.String("session.store.operation", operation)}
			if errorType != "" {
				attrs = append(attrs, attribute.String("error.type", errorType))
			}
			all[outcome{operation, errorType}] = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attrs...))}
		}
	}
	return all
}

func (i *Instrumentation) record(ctx context.Context, operation string, spent time.Duration, err error) {
	i.duration.Record(ctx, spent.Seconds(), i.outcomes[outcome{operation, errorType(err)}]...)
}
