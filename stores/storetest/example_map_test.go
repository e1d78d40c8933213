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

// A mapStore is a minimal Store. A mutex makes each operation atomic. Unlike
// a store for production, it never removes expired records.
type mapStore struct {
	mu      sync.Mutex
	records map[sessions.ID]sessions.Record
	version uint64 // of the last write to any record, so that no version is used twice
}

// lock locks m and returns the record of id. The error is ErrNotFound if there is
// no live record, or the error of ctx.
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

func (m *mapStore) putLocked(id sessions.ID, rec sessions.Record) uint64 {
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
		return m.putLocked(id, rec), nil
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
	return m.putLocked(id, rec), nil
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

// This example is a complete store with its test.
func ExampleRun() {
	TestMapStore := func(t *testing.T) {
		storetest.Run(t, func(testing.TB) sessions.Store {
			return &mapStore{records: make(map[sessions.ID]sessions.Record)}
		})
	}
	_ = TestMapStore
}
