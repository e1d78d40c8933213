package redisstore

import (
	"bytes"
	"context"
	"iter"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
)

// The index of an owner or of a label is a sorted set of ids with a slot of its
// own. An entry is written before its record and removed when no record can need
// it any more. Its score is the time of removal: two to three days after the
// beginning of the day (UTC) in which the record expires, and thus one to three
// days after the expiry. Touch may therefore move an expiry within its day without
// writing the index, and clocks may differ by a day. Entries are never removed
// earlier, and never moved to an earlier time, since the record may be about to be
// written. A record that lost the owner or the label is told from the others by
// its value.
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
func (s *Store) labelKey(label string) string { return s.prefix + "#" + label }

// The arguments of indexScript are the id, its score and the current time. ZADD
// must be the first write: if Redis is out of memory, it refuses a script only at
// the first write.
//
// The script removes about a thousand old entries at most, in a millisecond. After
// a quiet weekend a label may have 100,000 of them, whose removal at once would hold
// up all clients of Redis for a tenth of a second.
var indexScript = newScript(`
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
local old = redis.call('ZRANGE', KEYS[1], 1000, 1000, 'WITHSCORES')[2]
if not old or tonumber(old) > tonumber(ARGV[3]) then old = ARGV[3] end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', old)
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if last[2] then redis.call('PEXPIREAT', KEYS[1], last[2]) end
return 1`)

// index writes the entries of a record into the indexes of its owner and labels.
// It takes one round trip, or two if Redis does not know the script. In a cluster
// it asks all nodes concerned at the same time.
func (s *Store) index(ctx context.Context, id sessions.ID, owner string, labels []string, expires time.Time) error {
	if owner == "" && len(labels) == 0 {
		return nil
	}
	score := dayOf(expires) + 2*day.Milliseconds() + rand.N(day.Milliseconds())
	args := []string{string(id[:]), decimal(score), decimal(time.Now().UnixMilli())}
	var keys []string
	if owner != "" {
		keys = append(keys, s.ownerKey(owner))
	}
	for _, label := range labels {
		keys = append(keys, s.labelKey(label))
	}
	if len(keys) == 1 {
		return indexScript.Exec(undated{ctx}, s.client, keys, args).Error()
	}
	return indexScript.onEach(undated{ctx}, s.client, keys, args)
}

// pageSize is the number of ids, and then of records, that Owned and Labelled
// request at once. The replies about an owner have about 30 kB, those about a label
// up to 130 kB, which does not delay other clients of Redis.
const pageSize = 500

// Owned implements [sessions.OwnerStore]. It takes two round trips for each 500
// ids of the index. It checks the ids of such a page together before it yields
// them. An id stays in the index until one to three days after the session would
// have expired.
func (s *Store) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	if owner == "" {
		return nothing
	}
	first := appendTerm(nil, owner)
	return s.listed(ctx, s.ownerKey(owner), len(first), func(terms []byte, _ bool) (has, known bool) {
		return bytes.HasPrefix(terms, first), true
	})
}

// labelsPeek is how many bytes of owner and labels Labelled requests at first.
const labelsPeek = 256 - headSize

// Labelled implements [sessions.LabelStore], as Owned. It takes one more round trip
// for a page with a session whose owner and labels have more than 236 bytes
// together.
func (s *Store) Labelled(ctx context.Context, label string) iter.Seq2[sessions.ID, error] {
	if label == "" {
		return nothing
	}
	return s.listed(ctx, s.labelKey(label), labelsPeek, func(terms []byte, whole bool) (has, known bool) {
		has = hasLabel(terms, label)
		return has, has || whole
	})
}

func nothing(func(sessions.ID, error) bool) {}

// A matcher reports whether a record with these terms is to be listed. If whole is
// false, only the beginning of the terms is there, and known is false if that does
// not suffice.
type matcher func(terms []byte, whole bool) (has, known bool)

// listed yields the ids of an index whose records match. The parameter peek is the
// number of bytes of the terms that usually suffice.
func (s *Store) listed(ctx context.Context, key string, peek int, match matcher) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		seen := make(map[sessions.ID]struct{})
		from, size := "-inf", int64(pageSize)
		for {
			page, err := s.client.Do(undated{ctx}, s.client.B().Zrange().Key(key).
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
			if ids, err = s.live(ctx, ids, peek, match); err != nil {
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

// live returns the ids whose records exist and match.
func (s *Store) live(ctx context.Context, ids []sessions.ID, peek int, match matcher) (live []sessions.ID, err error) {
	sizes := make([]uint64, len(ids))
	for i := range sizes {
		sizes[i] = uint64(peek)
	}
	for len(ids) > 0 {
		commands := make(rueidis.Commands, len(ids))
		for i, id := range ids {
			commands[i] = s.client.B().Getrange().Key(s.key(id)).Start(0).End(int64(headSize + sizes[i] - 1)).Build()
		}
		// A record may have more labels when it is asked again.
		var longer []sessions.ID
		var sizesOfLonger []uint64
		for i, answer := range s.client.DoMulti(undated{ctx}, commands...) {
			b, err := answer.AsBytes()
			if err != nil {
				return nil, err
			}
			if len(b) < headSize {
				continue
			}
			n, terms := termsLen(b), b[headSize:]
			has, known := match(terms[:min(n, uint64(len(terms)))], n <= uint64(len(terms)))
			if has {
				live = append(live, ids[i])
			} else if !known && n > sizes[i] {
				longer, sizesOfLonger = append(longer, ids[i]), append(sizesOfLonger, n)
			}
		}
		ids, sizes = longer, sizesOfLonger
	}
	return live, nil
}
