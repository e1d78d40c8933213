package redisstore

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
)

// Redis sends the invalidation of a key after its answer to the command that
// changed the key. In between, the cache of a process would hide the process's
// own writes. So each operation except Load increments the epoch of its id,
// whatever the outcome. The epoch is part of the command by which the cache
// stores an answer, so Load does not find the answers of earlier epochs.
//
// Ids that agree in their first two bytes share an epoch, so that the epochs take
// 256 KiB for any number of sessions. A write thus also invalidates one in 65,536
// of the other sessions.
const stripes = 1 << 16

func (s *Store) epoch(id sessions.ID) uint32 { return s.epochs[binary.BigEndian.Uint16(id[:])].Load() }

// forget makes the next Load of id ask Redis.
func (s *Store) forget(id sessions.ID) {
	if s.lifetime > 0 {
		s.epochs[binary.BigEndian.Uint16(id[:])].Add(1)
	}
}

// Redis invalidates what it sent after CLIENT CACHING. If the user may not send that,
// rueidis takes no notice and caches all the same, so that a session that another
// process ended would remain valid for LocalCache.
const (
	invalidationUnknown = iota
	invalidationGranted
	invalidationDenied
)

// invalidates reports whether Redis will invalidate what the local cache holds. The
// first call asks Redis.
func (s *Store) invalidates(ctx context.Context) bool {
	if state := s.invalidation.Load(); state != invalidationUnknown {
		return state == invalidationGranted
	}
	err := s.client.Do(undated{ctx}, s.client.B().ClientCaching().Yes().Build()).Error()
	_, answered := rueidis.IsRedisErr(err)
	switch {
	case err == nil || answered && !hasCode(err, "NOPERM"): // another error tells of another mode of tracking
		s.invalidation.Store(invalidationGranted)
		return true
	case answered:
		s.invalidation.Store(invalidationDenied)
	}
	return false
}

// errCacheExpired is returned for a record in the cache that has expired by the
// clock of this process. Load must ask Redis whether it has.
var errCacheExpired = errors.New("redisstore: the cached record has expired")

// maxValue is larger than any value: Redis allows 512 MiB.
const maxValue = 1 << 32

// loadCached returns a record from the local cache, or loads it into the cache
// with one round trip. The epoch is encoded in the end of the requested range,
// which is always larger than the value. The cached answer does not have the
// expiry of the key, so the clock of this process decides when to ask Redis again.
func (s *Store) loadCached(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	get := s.client.B().Getrange().Key(s.key(id)).Start(0).End(maxValue + int64(s.epoch(id))).Cache().ToStaticTTL()
	b, err := s.client.DoCache(undated{ctx}, get, s.lifetime).AsBytes()
	if err != nil {
		return sessions.Record{}, err
	}
	if len(b) == 0 {
		s.forget(id) // do not cache the absence: another process may create the record at any time
		return sessions.Record{}, sessions.ErrNotFound
	}
	rec, err := decode(b)
	if err == nil && !rec.Expires.After(time.Now()) {
		return sessions.Record{}, errCacheExpired
	}
	return rec, err
}
