package redisstore

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/typedsessions/sessions"
)

// Redis tells a client that a key changed after it has answered the command that
// changed it, so what a process wrote itself could be hidden from it by its own
// cache for a moment. So each operation but Load begins a new epoch for its id,
// whatever came of it, and the epoch is part of the question that the cache
// knows an answer by: what was asked before is not an answer any more.
//
// Ids share epochs, by their first two bytes, so that they need no more memory
// with more sessions (256 KiB): a write makes Load ask again for one in 65,536
// of the others too.
const stripes = 1 << 16

func (s *Store) epoch(id sessions.ID) uint32 { return s.epochs[binary.BigEndian.Uint16(id[:])].Load() }

// forget makes the next Load of id ask Redis.
func (s *Store) forget(id sessions.ID) {
	if s.lifetime > 0 {
		s.epochs[binary.BigEndian.Uint16(id[:])].Add(1)
	}
}

// errEnded says that a record in the cache is over by this process's clock, and
// that Redis must say whether it is.
var errEnded = errors.New("redisstore: ended")

// longest is more than any value has: Redis allows 512 MiB.
const longest = 1 << 32

// loadCached loads a record from the local cache, or with one round trip into
// it. The epoch is in the end of a range that is always longer than the value.
// Since Redis does not say when what is in the cache expires, this process's
// clock decides here when to ask Redis again.
func (s *Store) loadCached(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	get := s.client.B().Getrange().Key(s.key(id)).Start(0).End(longest + int64(s.epoch(id))).Cache().ToStaticTTL()
	b, err := s.client.DoCache(undated{ctx}, get, s.lifetime).AsBytes()
	if err != nil {
		return sessions.Record{}, err
	}
	if len(b) == 0 {
		s.forget(id) // absence is not kept: another process may create the record at any time
		return sessions.Record{}, sessions.ErrNotFound
	}
	rec, err := decode(b)
	if err == nil && !rec.Expires.After(time.Now()) {
		return sessions.Record{}, errEnded
	}
	return rec, err
}
