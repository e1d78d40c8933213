package natsstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
)

// Sweep removes records that have expired and returns how many it removed. It also
// removes the index entries of sessions that are gone, an hour after they were
// written, and the markers of deletions if the server does not do that. Call it
// regularly, for instance hourly: nothing else frees the space of sessions that are
// no longer used.
//
// Sweep may run concurrently with all other operations, and in several processes at
// once. The server sends it the whole bucket, one value after the other. It continues
// after a value that it cannot read or remove, and returns all such errors joined.
func (s *Store) Sweep(ctx context.Context) (int, error) {
	removed, err := s.sweepRecords(ctx)
	// After the records, so that the entries of those that have expired go too.
	errs := []error{err, s.sweepIndex(ctx, ownerPrefix), s.sweepIndex(ctx, labelPrefix)}
	if s.markerOpts == nil {
		errs = append(errs, s.sweepMarkers(ctx))
	}
	if err := ctx.Err(); err != nil {
		return removed, fmt.Errorf("natsstore: sweep: %w", err) // instead of the same error for each value
	}
	if err := errors.Join(errs...); err != nil {
		return removed, fmt.Errorf("natsstore: sweep: %w", err)
	}
	return removed, nil
}

// sweepAll calls f with each value whose key matches a pattern.
func (s *Store) sweepAll(ctx context.Context, keys string, f func(context.Context, jetstream.KeyValueEntry) error, opts ...jetstream.WatchOpt) error {
	var errs []error
	err := s.read(ctx, keys, func(entry jetstream.KeyValueEntry) (more bool) {
		if entry == nil {
			return false
		}
		op, end := s.begin(ctx)
		defer end()
		if err := f(op, entry); err != nil && err != errMoved { // errMoved: it has changed, and stays
			errs = append(errs, fmt.Errorf("%s: %w", entry.Key(), cause(op, err)))
		}
		return ctx.Err() == nil
	}, opts...)
	return errors.Join(append(errs, err)...)
}

func (s *Store) sweepRecords(ctx context.Context) (removed int, err error) {
	err = s.sweepAll(ctx, recordKeys, func(ctx context.Context, entry jetstream.KeyValueEntry) error {
		found, err := decode(entry)
		if err != nil || !found.expired() {
			return err
		}
		err = s.purge(ctx, entry.Key(), found.revision)
		if err == nil {
			removed++
		}
		return err
	}, jetstream.IgnoreDeletes())
	return removed, err
}

// sweepIndex removes the entries without a record. It does not remove that of a record
// which has expired, by the clock of this process: by another one it may be live.
func (s *Store) sweepIndex(ctx context.Context, prefix string) error {
	return s.sweepAll(ctx, prefix+"*.*", func(ctx context.Context, entry jetstream.KeyValueEntry) error {
		if time.Since(entry.Created()) < grace {
			return nil
		}
		key := entry.Key()
		id, ok := parseID(key[strings.LastIndexByte(key, '.')+1:])
		if ok { // and not lastEntry
			if _, err := s.get(ctx, id); err != sessions.ErrNotFound {
				return err
			}
		}
		return s.purge(ctx, key, entry.Revision())
	}, jetstream.IgnoreDeletes(), jetstream.MetaOnly())
}

// sweepMarkers removes the markers of deletions that are older than markerLifetime.
func (s *Store) sweepMarkers(ctx context.Context) error {
	if s.api == nil {
		// It also removes a value that is written over such a marker meanwhile. No session has
		// the id of one that ended an hour ago, but a list waits for the key that it writes.
		ctx, end := context.WithCancel(ctx)
		defer end()
		return s.kv.PurgeDeletes(ctx, jetstream.DeleteMarkersOlderThan(markerLifetime))
	}
	return s.sweepAll(ctx, ">", func(ctx context.Context, entry jetstream.KeyValueEntry) error {
		if entry.Operation() == jetstream.KeyValuePut || time.Since(entry.Created()) < markerLifetime {
			return nil
		}
		return s.api.remove(ctx, entry.Key(), entry.Revision())
	}, jetstream.MetaOnly())
}
