// Package redisstore keeps sessions in Redis 7, in Valkey or in a Redis Cluster.
package redisstore

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
)

// Options are what users change; the zero value is fine.
type Options struct {
	// Prefix begins the names of all keys; empty means "session". Applications
	// that share a database need one each, none the beginning of another. In a
	// Redis Cluster a prefix with braces would put all sessions on one node.
	Prefix string

	// LocalCache lets Load answer from the memory of this process for this long
	// after it asked Redis (client-side caching, CLIENT TRACKING). Redis takes
	// back what changes, so that other processes' changes are seen after one
	// more trip of the network; LocalCache is the bound if the connection breaks
	// without notice: so long a session that another process ended may go on
	// here. What was done through this Store it sees at once, and a Load after an
	// ErrConflict or ErrNotFound asks Redis. Zero or less means no cache, and so
	// does a client with AlwaysRESP2 or DisableCache.
	LocalCache time.Duration
}

// A Store is a [sessions.OwnerStore] in Redis. It may be used by any number of
// goroutines, and by any number of processes with the same Prefix.
//
// Redis's clock decides what is expired, to the millisecond. In a database that
// evicts (see maxmemory-policy), sessions may end before they expire.
//
// Operations obey their context, but while a connection is made the client waits
// for up to its Dialer.Timeout.
//
// An operation takes one round trip. One that sets or changes an owner takes two:
// the owner's index is written first, so that it never misses what lives. One
// that moves the expiry of a record with an owner to a later day (UTC) takes up
// to two more.
type Store struct {
	client rueidis.Client
	prefix string

	lifetime time.Duration // of what is in the local cache
	epochs   []atomic.Uint32
}

var _ sessions.OwnerStore = (*Store)(nil)

// New returns a Store. The client is the caller's, who closes it in the end. It
// should be made with DisableRetry, for answers in time while Redis is down:
// otherwise rueidis repeats a Load until its context ends. It repeats no write
// of this Store, with one exception that New cannot see: ConnLifetime must be
// zero, because rueidis repeats whatever was under way, also writes, if Redis is
// silent when a connection's lifetime ends. SendToReplicas must leave the keys
// of this Store alone: a replica does not know yet what was just stored.
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
	if s.lifetime > 0 {
		if rec, err := s.loadCached(ctx, id); err == nil || errors.Is(err, sessions.ErrNotFound) || ctx.Err() != nil {
			return rec, err
		}
		// The one question that loads of the same session share may have ended
		// with the context of another of them.
	}
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
	if rec.Owner != "" {
		if err := s.index(ctx, rec.Owner, id, rec.Expires); err != nil {
			return 0, err
		}
	}
	version := newVersion(rec.Owner)
	set := s.client.B().Set().Key(s.key(id)).Value(encode(version, rec)).Nx().PxatMillisecondsTimestamp(lastMilli(rec.Expires)).Build()
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
	version := newVersion(rec.Owner)
	value := encode(version, rec)
	last := versionSize - 1
	if rec.Owner != "" {
		last = headSize + len(rec.Owner) - 1
		if ownerTag(rec.Owner) != byte(rec.Version) {
			if err := s.index(ctx, rec.Owner, id, rec.Expires); err != nil {
				return 0, err
			}
			last = versionSize - 1
		}
	}
	err := s.swap(ctx, id, rec, value, last)
	if err == errUnindexed {
		if err = s.index(ctx, rec.Owner, id, rec.Expires); err == nil {
			err = s.swap(ctx, id, rec, value, versionSize-1)
		}
	}
	if err != nil {
		return 0, err
	}
	return version, nil
}

// swap replaces the value of id. It returns errUnindexed, and writes nothing, if
// the index is not known to have what the record needs; last is as updateScript
// takes it.
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
		if err := s.index(ctx, indexed, id, expires); err != nil {
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

// key names the record of an id: its bytes as they are, which take half of what
// hexadecimal digits would.
func (s *Store) key(id sessions.ID) string { return s.prefix + ":" + string(id[:]) }

// An undated context ends when the inner one does, but shows no deadline. When it
// sees one, rueidis may wait for an answer without listening to a cancellation,
// and close the connection, which other requests share, once the time is over.
type undated struct{ context.Context }

func (undated) Deadline() (time.Time, bool) { return time.Time{}, false }
