package otelsession

import (
	"context"
	"errors"
	"fmt"
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
// [sessions.OwnerStore] and [sessions.LabelStore] if inner does, and passes on the
// changes of a [sessions.Watcher] and the methods LoadNewest and LoadMany. It
// returns the errors of inner unchanged and never repeats an operation. Store
// returns nil if inner is nil, as in a Config for sessions in the cookie.
//
// For every store other than a bare [sessions.MemoryStore], a Manager starts
// a timer per request. Measuring a MemoryStore adds the cost of this timer.
func (i *Instrumentation) Store(inner sessions.Store) sessions.Store {
	if inner == nil {
		return nil
	}
	s := store{inner, i}
	owners, owned := inner.(sessions.OwnerStore)
	labels, labelled := inner.(sessions.LabelStore)
	many, batched := inner.(manyLoader)
	o, m := ownerStore{s, owners}, manyStore{many, i}
	l := labelStore{o, labels}
	switch {
	case labelled && batched:
		return struct {
			labelStore
			manyStore
		}{l, m}
	case labelled:
		return l
	case owned && batched:
		return struct {
			ownerStore
			manyStore
		}{o, m}
	case owned:
		return o
	case batched:
		return struct {
			store
			manyStore
		}{s, m}
	}
	return s
}

// The methods that a sessions.Store may have, see its Load.
type (
	newestLoader interface {
		LoadNewest(ctx context.Context, id sessions.ID) (sessions.Record, error)
	}
	manyLoader interface {
		LoadMany(ctx context.Context, ids []sessions.ID) (map[sessions.ID]sessions.Record, error)
	}
)

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

// LoadNewest is Load if inner has no LoadNewest.
func (s store) LoadNewest(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	newest, ok := s.inner.(newestLoader)
	if !ok {
		return s.Load(ctx, id)
	}
	start := time.Now()
	rec, err := newest.LoadNewest(ctx, id)
	s.inst.record(ctx, "load", time.Since(start), err)
	return rec, err
}

// Changes passes on what inner tells. It is not measured, since it lasts as long as
// the program.
func (s store) Changes(ctx context.Context) iter.Seq2[sessions.ID, error] {
	if w, ok := s.inner.(sessions.Watcher); ok {
		return w.Changes(ctx)
	}
	return func(yield func(sessions.ID, error) bool) {
		yield(sessions.ID{}, fmt.Errorf("otelsession: %T is not a sessions.Watcher: %w", s.inner, errors.ErrUnsupported))
	}
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

func (s ownerStore) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	return s.inst.list(ctx, "owned", s.owners.Owned, owner)
}

type labelStore struct {
	ownerStore
	labels sessions.LabelStore
}

func (s labelStore) Labelled(ctx context.Context, label string) iter.Seq2[sessions.ID, error] {
	return s.inst.list(ctx, "labelled", s.labels.Labelled, label)
}

// list measures a whole listing, without the time that the caller spends between
// the ids.
func (i *Instrumentation) list(ctx context.Context, operation string, ids func(context.Context, string) iter.Seq2[sessions.ID, error], key string) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		var spent time.Duration
		var failed error
		start := time.Now()
		for id, err := range ids(ctx, key) {
			spent += time.Since(start)
			failed = err
			more := yield(id, err)
			start = time.Now()
			if !more {
				break
			}
		}
		i.record(ctx, operation, spent+time.Since(start), failed)
	}
}

type manyStore struct {
	many manyLoader
	inst *Instrumentation
}

func (s manyStore) LoadMany(ctx context.Context, ids []sessions.ID) (map[sessions.ID]sessions.Record, error) {
	start := time.Now()
	records, err := s.many.LoadMany(ctx, ids)
	s.inst.record(ctx, "load_many", time.Since(start), err)
	return records, err
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
	for _, operation := range []string{"load", "create", "update", "touch", "delete", "owned", "labelled", "load_many"} {
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
