package main

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/redisstore"
)

// breaks are the faults of the application that the flag -break makes.
var breaks = append([]string{"mine", "schema"}, storeBreaks...)

// storeBreaks are those of a brokenStore:
//
//   - versions: an update does not compare the version of the record.
//   - revive: an update of a record that was deleted stores it again.
//   - touch: the use of a record that was deleted stores it again.
//   - deaf: the store tells Watch nothing.
var storeBreaks = []string{"versions", "revive", "touch", "deaf"}

// A brokenStore has one of the storeBreaks.
type brokenStore struct {
	*redisstore.Store
	fault  string
	loaded *sync.Map // records by id
}

// breakStore returns the store with a fault of storeBreaks, and else the store itself.
func breakStore(s sessions.Store, fault string) sessions.Store {
	if redis, ok := s.(*redisstore.Store); ok && slices.Contains(storeBreaks, fault) {
		return brokenStore{redis, fault, new(sync.Map)}
	}
	return s
}

func (s brokenStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	version, err := s.Store.Update(ctx, id, rec)
	switch {
	case s.fault == "versions" && errors.Is(err, sessions.ErrConflict):
		// With the newest version, whichever the caller has loaded, changes are lost.
		newest, err := s.Store.LoadNewest(ctx, id)
		if err != nil {
			return 0, err
		}
		rec.Version = newest.Version
		return s.Store.Update(ctx, id, rec)
	case s.fault == "revive" && errors.Is(err, sessions.ErrNotFound):
		return s.Store.Create(ctx, id, rec)
	}
	return version, err
}

func (s brokenStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	rec, err := s.Store.Load(ctx, id)
	if err == nil && s.fault == "touch" {
		s.loaded.Store(id, rec)
	}
	return rec, err
}

func (s brokenStore) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	err := s.Store.Touch(ctx, id, expires)
	if rec, ok := s.loaded.Load(id); ok && errors.Is(err, sessions.ErrNotFound) {
		_, err = s.Create(ctx, id, rec.(sessions.Record))
	}
	return err
}

func (s brokenStore) Changes(ctx context.Context) iter.Seq2[sessions.ID, error] {
	if s.fault != "deaf" {
		return s.Store.Changes(ctx)
	}
	return func(func(sessions.ID, error) bool) { <-ctx.Done() }
}
