package memcachestore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/typedsessions/sessions"
)

// A Store is a [sessions.Store] in memcached. It is safe for concurrent use by
// multiple goroutines, and its servers by multiple processes.
//
// The client does not support contexts. If the context of an operation can be
// canceled, the operation runs in a new goroutine, and the method returns when
// the context is done. A command that was already sent may still be carried out.
// The goroutine ends when its command does. The client's Timeout bounds that:
// connecting, and each part of the answer, may take as long.
//
// Set the client's Timeout (default half a second) to the longest time that an
// answer may take. Set MaxIdleConns (default 2) to the number of concurrent
// requests; each request above it opens a new connection.
type Store struct {
	client *memcache.Client
	prefix string
}

var _ sessions.Store = (*Store)(nil)

// maxPrefix is the length of a key in memcached, at most 250 bytes, less that of
// an ID.
const maxPrefix = 250 - 2*len(sessions.ID{})

// New returns a store whose keys consist of prefix and the ID in hexadecimal
// digits. Applications that share a memcached need different prefixes. New panics
// if prefix is longer than 186 bytes, or contains a space or control character,
// which memcached does not allow in keys.
func New(client *memcache.Client, prefix string) *Store {
	if len(prefix) > maxPrefix {
		panic(fmt.Sprintf("memcachestore: the prefix has %d bytes, need at most %d", len(prefix), maxPrefix))
	}
	for i := range len(prefix) {
		if c := prefix[i]; c <= ' ' || c == 0x7f {
			panic(fmt.Sprintf("memcachestore: the prefix %q has a space or control character", prefix))
		}
	}
	return &Store{client, prefix}
}

// Load implements [sessions.Store].
func (s *Store) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	return await(ctx, func() (sessions.Record, error) {
		found, err := s.getLive(id)
		return found.rec, err
	})
}

// Create implements [sessions.Store].
func (s *Store) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	item := s.item(id, &rec)
	return await(ctx, func() (uint64, error) {
		command := s.client.Add
		for range tries {
			err := s.store(command, item)
			if !errors.Is(err, errNotStored) {
				return rec.Version, err
			}
			// The key is taken, but its record may have expired.
			found, err := s.get(id)
			switch {
			case errors.Is(err, sessions.ErrNotFound):
				command = s.client.Add
			case err != nil:
				return 0, err
			case found.live():
				return 0, sessions.ErrExists
			default:
				command, item.CasID = s.client.CompareAndSwap, found.cas
			}
			if err := ctx.Err(); err != nil {
				return 0, err // the caller has returned: do not write
			}
		}
		return 0, errTries
	})
}

// Update implements [sessions.Store].
func (s *Store) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	loaded := rec.Version
	item := s.item(id, &rec)
	err := s.replace(ctx, id, func(found sessions.Record) (*memcache.Item, error) {
		if found.Version != loaded {
			return nil, sessions.ErrConflict
		}
		return item, nil
	})
	return rec.Version, err
}

// Touch implements [sessions.Store].
func (s *Store) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	return s.replace(ctx, id, func(found sessions.Record) (*memcache.Item, error) {
		if expires.UnixMilli() <= found.Expires.UnixMilli() {
			return nil, nil
		}
		found.Expires = expires
		return s.encode(id, found), nil
	})
}

// Delete implements [sessions.Store].
func (s *Store) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	if version == 0 {
		return s.deleteAny(ctx, id)
	}
	return s.replace(ctx, id, func(found sessions.Record) (*memcache.Item, error) {
		if found.Version != version {
			return nil, sessions.ErrConflict
		}
		return s.encode(id, sessions.Record{}), nil // a zero Expires: expired
	})
}

func (s *Store) deleteAny(ctx context.Context, id sessions.ID) error {
	_, err := await(ctx, func() (struct{}, error) {
		err := s.client.Delete(s.key(id))
		if errors.Is(err, memcache.ErrCacheMiss) {
			err = nil
		}
		return struct{}{}, wrap(err)
	})
	return err
}

// replace calls change with the live record of id and stores the item that it
// returns, unless that is nil. If the record was written meanwhile, replace
// starts again.
func (s *Store) replace(ctx context.Context, id sessions.ID, change func(sessions.Record) (*memcache.Item, error)) error {
	_, err := await(ctx, func() (struct{}, error) {
		for range tries {
			found, err := s.getLive(id)
			if err != nil {
				return struct{}{}, err
			}
			item, err := change(found.rec)
			if item == nil || err != nil {
				return struct{}{}, err
			}
			if err := ctx.Err(); err != nil {
				return struct{}{}, err // the caller has returned: do not write
			}
			item.CasID = found.cas
			err = s.store(s.client.CompareAndSwap, item)
			if !errors.Is(err, errNotStored) {
				return struct{}{}, err
			}
		}
		return struct{}{}, errTries
	})
	return err
}

// tries bounds how often an operation is repeated because its record was written
// meanwhile. A proxy that reads from one server and writes to another would
// otherwise repeat it forever.
const tries = 100

var errTries = fmt.Errorf("memcachestore: memcached refused a write %d times although its answers permit it: does a proxy read and write on different servers?", tries)

// errNotStored is returned for a command that memcached did not carry out, since
// the condition of its add or cas does not hold.
var errNotStored = errors.New("not stored")

// store runs a command that writes, and translates its errors.
func (s *Store) store(command func(*memcache.Item) error, item *memcache.Item) error {
	err := command(item)
	switch {
	case errors.Is(err, memcache.ErrNotStored), errors.Is(err, memcache.ErrCASConflict), errors.Is(err, memcache.ErrCacheMiss):
		return errNotStored
	case err != nil && strings.Contains(err.Error(), "object too large for cache"):
		return fmt.Errorf("memcachestore: %w: the item has %d bytes, start memcached with a higher -I", sessions.ErrTooLarge, len(item.Key)+len(item.Value))
	}
	return wrap(err)
}

// A stored record is a record in memcached, live or expired, with its cas value.
type stored struct {
	rec sessions.Record
	cas uint64
}

func (s stored) live() bool { return s.rec.Expires.UnixMilli() > time.Now().UnixMilli() }

func (s *Store) get(id sessions.ID) (stored, error) {
	item, err := s.client.Get(s.key(id))
	if errors.Is(err, memcache.ErrCacheMiss) {
		return stored{}, sessions.ErrNotFound
	}
	if err != nil {
		return stored{}, wrap(err)
	}
	if item.CasID == 0 {
		return stored{}, errors.New("memcachestore: memcached answers without cas, start it without -C")
	}
	rec, err := decode(item.Value)
	return stored{rec, item.CasID}, wrap(err)
}

func (s *Store) getLive(id sessions.ID) (stored, error) {
	found, err := s.get(id)
	if err == nil && !found.live() {
		return stored{}, sessions.ErrNotFound
	}
	return found, err
}

func (s *Store) key(id sessions.ID) string { return s.prefix + id.String() }

// item gives rec a new version and returns its item. The item has a copy of the
// data, since the caller may change the data when its context is done and the
// command still runs. Versions must not be used again after a Delete and
// a Create. A counter would have to outlive its record; a random number need not.
func (s *Store) item(id sessions.ID, rec *sessions.Record) *memcache.Item {
	rec.Version = 1 + rand.Uint64N(math.MaxUint64)
	return s.encode(id, *rec)
}

func (s *Store) encode(id sessions.ID, rec sessions.Record) *memcache.Item {
	return &memcache.Item{Key: s.key(id), Value: encode(rec), Expiration: exptime(rec.Expires, time.Now())}
}

// wrap adds the name of this package to an error of the client.
func wrap(err error) error {
	if err != nil {
		err = fmt.Errorf("memcachestore: %w", err)
	}
	return err
}

// await calls f and returns its result. When ctx is done first, it returns the
// error of ctx, and f goes on in its goroutine.
func await[R any](ctx context.Context, f func() (R, error)) (R, error) {
	var zero R
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	if ctx.Done() == nil {
		return f()
	}
	type result struct {
		value R
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}
