package storetest_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/storetest"
)

// A mapStore is the shortest Store that keeps every promise: a lock makes each
// operation atomic. It never removes what has expired, as a store for use must.
type mapStore struct {
	mu      sync.Mutex
	records map[sessions.ID]sessions.Record
	version uint64 // the last that any record got, so that none comes back
}

// lock returns the record of id, and what every operation returns if there is
// none, or if it was given up.
func (m *mapStore) lock(ctx context.Context, id sessions.ID) (rec sessions.Record, unlock func(), err error) {
	m.mu.Lock()
	rec, ok := m.records[id]
	if !ok || !time.Now().Before(rec.Expires) {
		rec, err = sessions.Record{}, sessions.ErrNotFound
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return rec, m.mu.Unlock, err
}

func (m *mapStore) put(id sessions.ID, rec sessions.Record) uint64 {
	m.version++
	m.records[id] = sessions.Record{
		Data: bytes.Clone(rec.Data), Version: m.version, Expires: rec.Expires.Truncate(time.Millisecond), Owner: rec.Owner}
	return m.version
}

func (m *mapStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	rec, unlock, err := m.lock(ctx, id)
	defer unlock()
	return rec, err
}

func (m *mapStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	_, unlock, err := m.lock(ctx, id)
	defer unlock()
	switch err {
	case nil:
		return 0, sessions.ErrExists
	case sessions.ErrNotFound:
		return m.put(id, rec), nil
	}
	return 0, err
}

func (m *mapStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	stored, unlock, err := m.lock(ctx, id)
	defer unlock()
	if err == nil && stored.Version != rec.Version {
		err = sessions.ErrConflict
	}
	if err != nil {
		return 0, err
	}
	return m.put(id, rec), nil
}

func (m *mapStore) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	rec, unlock, err := m.lock(ctx, id)
	defer unlock()
	if err == nil && expires.After(rec.Expires) {
		rec.Expires = expires.Truncate(time.Millisecond)
		m.records[id] = rec
	}
	return err
}

func (m *mapStore) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	rec, unlock, err := m.lock(ctx, id)
	defer unlock()
	switch {
	case err == sessions.ErrNotFound && version == 0:
		return nil
	case err == nil && version != 0 && version != rec.Version:
		return sessions.ErrConflict
	case err == nil:
		delete(m.records, id)
	}
	return err
}

// A whole store, and the test that holds it to the promises of sessions.Store.
func ExampleRun() {
	TestMapStore := func(t *testing.T) {
		storetest.Run(t, func(testing.TB) sessions.Store {
			return &mapStore{records: make(map[sessions.ID]sessions.Record)}
		})
	}
	_ = TestMapStore
}
