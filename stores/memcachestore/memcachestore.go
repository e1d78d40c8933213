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

// A Store is a [sessions.Store] in memcached. It may be shared by any number of
// goroutines, and its servers by any number of processes.
//
// The client knows no contexts. So an operation runs in a goroutine of its own
// if its context can end, and returns when it ends. What was sent then may still
// be carried out, and the goroutine ends with its command, after the client's
// Timeout at the latest. Set that (it is half a second unless set) for the
// slowest answer that is worth waiting for, and MaxIdleConns (2) to the number
// of requests that run at once: each above it opens a connection of its own.
type Store struct {
	client *memcache.Client
	prefix string
}

var _ sessions.Store = (*Store)(nil)

// maxPrefix is what memcached's 250 bytes of key leave beside an ID.
const maxPrefix = 250 - 2*len(sessions.ID{})

// New returns the store whose keys are the prefix and the ID, in hexadecimal
// digits. The prefix tells applications apart that share a memcached. New panics
// if the prefix has more than 186 bytes, or a space or control character, which
// cannot be in a key.
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
	return within(ctx, func() (sessions.Record, error) {
		found, err := s.getLive(id)
		return found.rec, err
	})
}

// Create implements [sessions.Store].
func (s *Store) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	item := s.item(id, &rec)
	return within(ctx, func() (uint64, error) {
		for {
			err := s.store(s.client.Add, item)
			if !errors.Is(err, errMoved) {
				return rec.Version, err
			}
			// There is something, which may be a record that has expired.
			found, err := s.get(id)
			switch {
			case err != nil && !errors.Is(err, sessions.ErrNotFound):
				return 0, err
			case err == nil && found.live():
				return 0, sessions.ErrExists
			case err == nil:
				item.CasID = found.cas
				err = s.store(s.client.CompareAndSwap, item)
				if !errors.Is(err, errMoved) {
					return rec.Version, err
				}
			}
			if err := ctx.Err(); err != nil {
				return 0, err
			}
		}
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
		return s.encode(id, sessions.Record{}), nil // expired since ever
	})
}

func (s *Store) deleteAny(ctx context.Context, id sessions.ID) error {
	_, err := within(ctx, func() (struct{}, error) {
		err := s.client.Delete(s.key(id))
		if errors.Is(err, memcache.ErrCacheMiss) {
			err = nil
		}
		return struct{}{}, mark(err)
	})
	return err
}

// replace stores what change makes of the live record of id, unless that is nil.
// If another was faster, it asks change again.
func (s *Store) replace(ctx context.Context, id sessions.ID, change func(sessions.Record) (*memcache.Item, error)) error {
	_, err := within(ctx, func() (struct{}, error) {
		for {
			found, err := s.getLive(id)
			if err != nil {
				return struct{}{}, err
			}
			item, err := change(found.rec)
			if item == nil || err != nil {
				return struct{}{}, err
			}
			if err := ctx.Err(); err != nil {
				return struct{}{}, err // rather than write for nobody
			}
			item.CasID = found.cas
			err = s.store(s.client.CompareAndSwap, item)
			if !errors.Is(err, errMoved) {
				return struct{}{}, err
			}
		}
	})
	return err
}

// errMoved says that a write was not carried out, since what it presumes is no
// longer so.
var errMoved = errors.New("not stored")

// store runs a command that writes.
func (s *Store) store(command func(*memcache.Item) error, item *memcache.Item) error {
	err := command(item)
	switch {
	case errors.Is(err, memcache.ErrNotStored), errors.Is(err, memcache.ErrCASConflict), errors.Is(err, memcache.ErrCacheMiss):
		return errMoved
	case err != nil && strings.Contains(err.Error(), "object too large for cache"):
		return fmt.Errorf("memcachestore: %w: an item of %d bytes, need a higher -I of memcached", sessions.ErrTooLarge, len(item.Key)+len(item.Value))
	}
	return mark(err)
}

// A held record is one that memcached has, live or not.
type held struct {
	rec sessions.Record
	cas uint64
}

func (h held) live() bool { return h.rec.Expires.UnixMilli() > time.Now().UnixMilli() }

func (s *Store) get(id sessions.ID) (held, error) {
	item, err := s.client.Get(s.key(id))
	if errors.Is(err, memcache.ErrCacheMiss) {
		return held{}, sessions.ErrNotFound
	}
	if err != nil {
		return held{}, mark(err)
	}
	if item.CasID == 0 {
		return held{}, errors.New("memcachestore: memcached answers without cas, start it without -C")
	}
	rec, err := decode(item.Value)
	return held{rec, item.CasID}, mark(err)
}

func (s *Store) getLive(id sessions.ID) (held, error) {
	found, err := s.get(id)
	if err == nil && !found.live() {
		return held{}, sessions.ErrNotFound
	}
	return found, err
}

func (s *Store) key(id sessions.ID) string { return s.prefix + id.String() }

// item gives rec a new version, and encodes it: it copies the data, which the
// caller may change as soon as his context has ended. Versions are random, so
// that none comes back without a counter that outlives its record.
func (s *Store) item(id sessions.ID, rec *sessions.Record) *memcache.Item {
	rec.Version = 1 + rand.Uint64N(math.MaxUint64)
	return s.encode(id, *rec)
}

func (s *Store) encode(id sessions.ID, rec sessions.Record) *memcache.Item {
	return &memcache.Item{Key: s.key(id), Value: encode(rec), Expiration: exptime(rec.Expires, time.Now())}
}

// mark adds the package's name to an error of the client.
func mark(err error) error {
	if err != nil {
		err = fmt.Errorf("memcachestore: %w", err)
	}
	return err
}

// within returns the result of f, or the error of ctx as soon as that has ended.
func within[R any](ctx context.Context, f func() (R, error)) (R, error) {
	var none R
	if err := ctx.Err(); err != nil {
		return none, err
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
		return none, ctx.Err()
	}
}
