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

// The index of an owner is a sorted set of ids, in a slot of its own. An entry is
// written before its record, and is removed once no record can need it: its
// score is a time that lies one to three days after the record's expiry,
// counted from the beginning of the day (UTC) of that expiry. So Touch may move
// an expiry within its day without the index, and clocks may differ by a day.
// Nothing else removes an entry, and none is moved to an earlier time: a record
// that is not there, or ends earlier, may be about to change.
//
// The score's place within these two days is random, so that pages of the index
// can begin with the score where the last one ended.
const day = 24 * time.Hour

// dayOf is the beginning of the last day of a record.
func dayOf(expires time.Time) int64 {
	ms := millis(expires)
	return ms - ms%day.Milliseconds()
}

func (s *Store) ownerKey(owner string) string { return s.prefix + "@" + owner }

// indexScript takes the id, its score and now. ZADD comes first: Redis refuses
// a script for want of memory at its first write only.
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

// pageSize is how many ids Owned asks for at once, and then for their records:
// a reply of about 30 kB, which does not hold up Redis.
const pageSize = 500

// Owned implements [sessions.OwnerStore]. Its ids lived and were the owner's when
// they were yielded, or at most 500 ids before. It takes two round trips for
// each 500 ids of the index, in which an id stays until one to three days after
// the session would have expired.
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
			if ids, err = s.living(ctx, ids, owner); err != nil {
				yield(sessions.ID{}, err)
				return
			}
			for _, id := range ids {
				s.forget(id) // who asks whose sessions live is not told by a cache
				if !yield(id, nil) {
					return
				}
			}
			if len(page) < int(size) {
				return
			}
			last := strconv.FormatFloat(page[len(page)-1].Score, 'f', -1, 64)
			if last == from {
				size *= 2 // more entries of one millisecond than fit
			}
			from = last
		}
	}
}

// living returns those of ids whose records are there and are the owner's.
func (s *Store) living(ctx context.Context, ids []sessions.ID, owner string) ([]sessions.ID, error) {
	asked := make(rueidis.Commands, len(ids))
	for i, id := range ids {
		asked[i] = s.client.B().Getrange().Key(s.key(id)).Start(0).End(int64(headSize + len(owner) - 1)).Build()
	}
	var live []sessions.ID
	for i, answer := range s.client.DoMulti(undated{ctx}, asked...) {
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
