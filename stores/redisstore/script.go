package redisstore

import (
	"context"
	"crypto/fips140"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
)

// A script runs in Redis by its name, the SHA-1 of its text. Each script uses only
// one key, so that a Redis Cluster can run it on the node of that key. rueidis never
// repeats a script that may have run; it only sends the text of one that Redis does
// not know.
type script struct {
	*rueidis.Lua
	text, name string
}

// The SHA-1 is no cryptography here, so it is also computed with
// GODEBUG=fips140=only.
func newScript(text string) (sc script) {
	fips140.WithoutEnforcement(func() {
		sum := sha1.Sum([]byte(text))
		sc = script{rueidis.NewLuaScript(text), text, hex.EncodeToString(sum[:])}
	})
	return sc
}

// onEach runs the script on each of the keys, with the same arguments, in one round
// trip, or two if Redis does not know the script. It returns the first error. It is
// used in place of ExecMulti of rueidis, which sends the text to every node before.
func (sc script) onEach(ctx context.Context, client rueidis.Client, keys, args []string) error {
	byName := make(rueidis.Commands, len(keys))
	for i, key := range keys {
		byName[i] = client.B().Evalsha().Sha1(sc.name).Numkeys(1).Key(key).Arg(args...).Build()
	}
	var byText rueidis.Commands
	for i, answer := range client.DoMulti(ctx, byName...) {
		err := answer.Error()
		if redisErr, ok := rueidis.IsRedisErr(err); ok && redisErr.IsNoScript() {
			byText = append(byText, client.B().Eval().Script(sc.text).Numkeys(1).Key(keys[i]).Arg(args...).Build())
		} else if err != nil {
			return err
		}
	}
	if byText == nil {
		return nil
	}
	for _, answer := range client.DoMulti(ctx, byText...) {
		if err := answer.Error(); err != nil {
			return err
		}
	}
	return nil
}

// The answers of the scripts; see outcome.
const (
	absent    = 0
	done      = 1
	conflict  = 2
	unindexed = 3
)

// errUnindexed means that the indexes of the owner and the labels must be written
// first.
var errUnindexed = errors.New("redisstore: an index has no entry")

// outcome returns the error for the answer of a script.
func outcome(n int64) error {
	switch n {
	case absent:
		return sessions.ErrNotFound
	case done:
		return nil
	case conflict:
		return sessions.ErrConflict
	case unindexed:
		return errUnindexed
	}
	return fmt.Errorf("redisstore: unexpected answer %d of a script", n)
}

func (s *Store) run(ctx context.Context, script script, id sessions.ID, args ...string) rueidis.RedisResult {
	return script.Exec(undated{ctx}, s.client, []string{s.key(id)}, args)
}

// The arguments of updateScript are:
//
//  1. the version that the record must have
//  2. the new value
//  3. the expiry for PXAT
//  4. the index of the last byte to read of the old value: that of the version
//     if there are no terms or their indexes were written just before, else that
//     of the terms
//  5. the beginning of the day of the new expiry
//
// In the latter case it returns unindexed if the terms have changed or the record
// is to expire on a later day. For speed, argument 4 is not computed in the
// script, since Lua would convert the number to a string for GETRANGE, and the
// old expiry is read from the value, since PEXPIRETIME is another command. Both
// are measurable in the time that Redis spends.
var updateScript = newScript(`
local old = redis.call('GETRANGE', KEYS[1], 0, ARGV[4])
if old == '' then return 0 end
if string.sub(old, 1, 8) ~= ARGV[1] then return 2 end
if ARGV[4] ~= '7' then
	local same = string.sub(old, 17) == string.sub(ARGV[2], 17, ARGV[4] + 1)
	if not same or struct.unpack('>I8', old, 9) <= tonumber(ARGV[5]) then return 3 end
end
redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
return 1`)

// The arguments of touchScript are:
//
//  1. the expiry for PEXPIREAT
//  2. the expiry as bytes of the value
//  3. the beginning of the day of the expiry
//  4. the terms whose indexes were written just before, or ""
//
// If the indexes of other terms must be written first, touchScript returns those
// terms. SETRANGE must come before PEXPIREAT: if Redis is out of memory, it
// refuses only SETRANGE.
var touchScript = newScript(`
local ends = redis.call('PEXPIRETIME', KEYS[1])
if ends == -2 then return 0 end
if ends >= tonumber(ARGV[1]) then return 1 end
if ends < tonumber(ARGV[3]) then
	local size = struct.unpack('>I4', redis.call('GETRANGE', KEYS[1], 16, 19))
	local terms = redis.call('GETRANGE', KEYS[1], 20, 19 + size)
	if terms ~= ARGV[4] then return terms end
end
redis.call('SETRANGE', KEYS[1], 8, ARGV[2])
redis.call('PEXPIREAT', KEYS[1], ARGV[1])
return 1`)

// The argument of deleteScript is the version that the record must have.
var deleteScript = newScript(`
local version = redis.call('GETRANGE', KEYS[1], 0, 7)
if version == '' then return 0 end
if version ~= ARGV[1] then return 2 end
redis.call('DEL', KEYS[1])
return 1`)
