package redisstore

import (
	"context"
	"iter"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
)

// The index of an owner is a sorted set of ids with a slot of its own. An entry is
// written before its record and removed when no record can need it any more. Its
// score is the time of removal: two to three days after the beginning of the day
// (UTC) in which the record expires, and thus one to three days after the expiry.
// Touch may therefore move an expiry within its day without writing the index,
// and clocks may differ by a day. Entries are never removed earlier, and never
// moved to an earlier time, since the record may be about to be written.
//
// The time within the third day is random. Few entries then have the same score,
// so that a page of the index can begin with the score at which the last one
// ended.
const day = 24 * time.Hour

// dayOf returns the beginning of the day (UTC) in which a record expires.
func dayOf(expires time.Time) int64 {
	ms := millis(expires)
	return ms - ms%day.Milliseconds()
}

func (s *Store) ownerKey(owner string) string { return s.prefix + "@" + owner }

// The arguments of indexScript are the id, its score and the current time. ZADD
// must be the first write: if Redis is out of memory, it refuses a script only at
// the first write.
var indexScript = newScript(`
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if last[2] then redis.call('PEXPIREAT', KEYS[1], last[2]) end
return 1`)

func (s *Store) index(ctx context.Context, owner string, id sessions.ID, expires time.Time) error {
	score := dayOf(expires) + 2*day.Milliseconds() + rand.N(day.Milliseconds())
	return indexScript.Exec(undated{ctx}, s.client, []string{s.ownerKey(owner)},
		[]string{string(id[:]), decimal(score), decimal(time.Now().UnixMilli())}).Error()
}

// pageSize is the number of ids, and then of records, that Owned requests at
// once. A reply has about 30 kB, which does not delay other clients of Redis.
const pageSize = 500

// Owned implements [sessions.OwnerStore]. It takes two round trips for each 500
// ids of the index. It checks the ids of such a page together before it yields
// them. An id stays in the index until one to three days after the session would
// have expired.
func (s *Store) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		if owner == "" {
			return
		}
		seen := make(map[sessions.ID]struct{})
		from, size := "-inf", int64(pageSize)
		for {
			page, err := s.client.Do(undated{ctx}, s.client.B().Zrange().Key(s.ownerKey(owner)).
				Min(from).Max("+inf").Byscore().Limit(0, size).Withscores().Build()).AsZScores()
			if err != nil {
				yield(sessions.ID{}, err)
				return
			}
			var ids []sessions.ID
			for _, entry := range page {
				var id sessions.ID
				copy(id[:], entry.Member)
				if _, ok := seen[id]; !ok {
					seen[id] = struct{}{}
					ids = append(ids, id)
				}
			}
			if ids, err = s.live(ctx, ids, owner); err != nil {
				yield(sessions.ID{}, err)
				return
			}
			for _, id := range ids {
				s.forget(id) // the caller must not see an older record from the cache
				if !yield(id, nil) {
					return
				}
			}
			if len(page) < int(size) {
				return
			}
			last := strconv.FormatFloat(page[len(page)-1].Score, 'f', -1, 64)
			if last == from {
				size *= 2 // the page has entries of only one score
			}
			from = last
		}
	}
}

// live returns the ids whose records exist and belong to owner.
func (s *Store) live(ctx context.Context, ids []sessions.ID, owner string) ([]sessions.ID, error) {
	commands := make(rueidis.Commands, len(ids))
	for i, id := range ids {
		commands[i] = s.client.B().Getrange().Key(s.key(id)).Start(0).End(int64(headSize + len(owner) - 1)).Build()
	}
	var live []sessions.ID
	for i, answer := range s.client.DoMulti(undated{ctx}, commands...) {
		b, err := answer.AsBytes()
		if err != nil {
			return nil, err
		}
		if rec, err := decode(b); err == nil && rec.Owner == owner {
			live = append(live, ids[i])
		}
	}
	return live, nil
}
