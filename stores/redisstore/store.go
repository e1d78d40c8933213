// Package redisstore stores sessions in Redis 7 or later, Valkey, or a Redis
// Cluster.
package redisstore

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
)

// Options configure a [Store]. The zero value is valid.
type Options struct {
	// Prefix is the beginning of the names of all keys. The default is
	// "session". Each Manager that shares a database needs a Store with its own
	// prefix, and no prefix may be the beginning of another. In a Redis Cluster, a prefix
	// with braces puts all sessions on one node.
	Prefix string

	// LocalCache is how long Load may return a record from the memory of this
	// process after it asked Redis (client-side caching, CLIENT TRACKING). Zero
	// or less disables the cache, as does a client with AlwaysRESP2 or
	// DisableCache, or whose user may not send CLIENT CACHING.
	//
	// Redis invalidates the records that change, so that a change by another
	// process is seen one network latency later. If the connection breaks
	// without notice, it is seen after LocalCache at the latest; until then
	// a session that another process ended remains valid in this one. Changes
	// made through this Store are seen at once, and a Load after ErrConflict or
	// ErrNotFound asks Redis.
	LocalCache time.Duration
}

// A Store is a [sessions.LabelStore] in Redis. It is safe for concurrent use by
// multiple goroutines, and by multiple processes with the same Prefix.
//
// Records expire by the clock of Redis, to the millisecond. In a database that
// evicts keys (see maxmemory-policy), sessions may end before they expire.
//
// Operations return when their context is done. The exception is an operation
// that waits for a new connection, which may take until the client's
// Dialer.Timeout.
//
// An operation takes one round trip. An operation that sets or changes an owner or
// labels takes two, since it first writes the indexes of all of them together; an
// index thus never misses a live record. An operation that moves the expiry of
// a record with an owner or labels to a later day (UTC) takes up to two more.
type Store struct {
	client rueidis.Client
	prefix string

	lifetime     time.Duration // of entries in the local cache; 0: no cache
	epochs       []atomic.Uint32
	invalidation atomic.Int32 // whether Redis will invalidate them
}

var (
	_ sessions.LabelStore = (*Store)(nil)
	_ sessions.Watcher    = (*Store)(nil)
)

// New returns a Store that uses client. The caller remains responsible for
// closing the client.
//
// New cannot check the options of the client:
//
//   - DisableRetry should be set. Otherwise rueidis repeats a Load while Redis is
//     down, until the context is done. It never repeats a write of this Store.
//   - ConnLifetime must be zero. Otherwise rueidis repeats pending commands,
//     including writes, if Redis does not answer when the lifetime of
//     a connection ends.
//   - SendToReplicas must not select the keys of this Store. A replica may not
//     yet have a record that was just stored.
func New(client rueidis.Client, opt Options) *Store {
	s := &Store{client: client, prefix: opt.Prefix}
	if s.prefix == "" {
		s.prefix = "session"
	}
	if opt.LocalCache > 0 {
		s.lifetime, s.epochs = opt.LocalCache, make([]atomic.Uint32, stripes)
	}
	return s
}

// Load implements [sessions.Store].
func (s *Store) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	if err := ctx.Err(); err != nil {
		return sessions.Record{}, err
	}
	if s.lifetime > 0 && s.invalidates(ctx) {
		if rec, err := s.loadCached(ctx, id); err == nil || errors.Is(err, sessions.ErrNotFound) || ctx.Err() != nil {
			return rec, err
		}
		// Concurrent loads of a session share one request to Redis. It may have
		// failed because the context of another Load was canceled.
	}
	return s.loadStored(ctx, id)
}

// LoadNewest is Load that always asks Redis, never the local cache. The next Load
// of id in this process also asks Redis, so that it does not return an older record.
func (s *Store) LoadNewest(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	defer s.forget(id)
	return s.loadStored(ctx, id)
}

func (s *Store) loadStored(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	b, err := s.client.Do(undated{ctx}, s.client.B().Get().Key(s.key(id)).Build()).AsBytes()
	if rueidis.IsRedisNil(err) {
		return sessions.Record{}, sessions.ErrNotFound
	}
	if err != nil {
		return sessions.Record{}, err
	}
	return decode(b)
}

// Create implements [sessions.Store].
func (s *Store) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	defer s.forget(id)
	if err := s.index(ctx, id, rec.Owner, rec.Labels, rec.Expires); err != nil {
		return 0, err
	}
	value, version, _ := encode(rec)
	set := s.client.B().Set().Key(s.key(id)).Value(value).Nx().PxatMillisecondsTimestamp(lastMilli(rec.Expires)).Build()
	err := s.client.Do(undated{ctx}, set).Error()
	if rueidis.IsRedisNil(err) {
		return 0, sessions.ErrExists
	}
	if err != nil {
		return 0, err
	}
	return version, nil
}

// Update implements [sessions.Store].
func (s *Store) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	defer s.forget(id)
	value, version, terms := encode(rec)
	last := versionSize - 1
	if terms > 0 {
		if byte(version) == byte(rec.Version) {
			last = headSize + terms - 1
		} else if err := s.index(ctx, id, rec.Owner, rec.Labels, rec.Expires); err != nil {
			return 0, err
		}
	}
	err := s.swap(ctx, id, rec, value, last)
	if err == errUnindexed {
		if err = s.index(ctx, id, rec.Owner, rec.Labels, rec.Expires); err == nil {
			err = s.swap(ctx, id, rec, value, versionSize-1)
		}
	}
	if err != nil {
		return 0, err
	}
	return version, nil
}

// swap replaces the value of id. If an index may lack the entry that the record
// needs, swap writes nothing and returns errUnindexed. The
// parameter last is the index of the last byte that updateScript reads.
func (s *Store) swap(ctx context.Context, id sessions.ID, rec sessions.Record, value string, last int) error {
	n, err := s.run(ctx, updateScript, id, bytesOf(rec.Version), value,
		decimal(lastMilli(rec.Expires)), decimal(int64(last)), decimal(dayOf(rec.Expires))).AsInt64()
	if err != nil {
		return err
	}
	return outcome(n)
}

// Touch implements [sessions.Store].
func (s *Store) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	defer s.forget(id)
	indexed := ""
	for {
		answer, err := s.run(ctx, touchScript, id, decimal(lastMilli(expires)), bytesOf(uint64(millis(expires))),
			decimal(dayOf(expires)), indexed).ToMessage()
		if err != nil {
			return err
		}
		if answer.IsInt64() {
			n, err := answer.AsInt64()
			if err != nil {
				return err
			}
			return outcome(n)
		}
		if indexed, err = answer.ToString(); err != nil {
			return err
		}
		owner, labels, err := splitTerms([]byte(indexed))
		if err != nil {
			return err
		}
		if err := s.index(ctx, id, owner, labels, expires); err != nil {
			return err
		}
	}
}

// Delete implements [sessions.Store].
func (s *Store) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	defer s.forget(id)
	if version == 0 {
		return s.client.Do(undated{ctx}, s.client.B().Del().Key(s.key(id)).Build()).Error()
	}
	n, err := s.run(ctx, deleteScript, id, bytesOf(version)).AsInt64()
	if err != nil {
		return err
	}
	return outcome(n)
}

// key returns the key of the record of id. It contains the bytes of the ID, which
// take half the memory of hexadecimal digits.
func (s *Store) key(id sessions.ID) string { return s.prefix + ":" + string(id[:]) }

// An undated context hides the deadline of the inner context, but is done when
// the inner context is. If rueidis sees a deadline, it may not return on
// a cancellation, and it closes the connection at the deadline, which other
// requests share.
type undated struct{ context.Context }

func (undated) Deadline() (time.Time, bool) { return time.Time{}, false }
