package redisstore

import (
	"context"
	"crypto/fips140"
	"errors"
	"fmt"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
)

// Each script works on one key, so that a Redis Cluster runs it wherever that is.
// One that Redis does not know was not run, and is sent again as a whole.
//
// rueidis repeats none of them. Their SHA-1 is a name and no protection, so it is
// computed with GODEBUG=fips140=only too.
func newScript(text string) (script *rueidis.Lua) {
	fips140.WithoutEnforcement(func() { script = rueidis.NewLuaScript(text) })
	return script
}

// What a script answers; see outcome.
const (
	absent    = 0
	done      = 1
	conflict  = 2
	unindexed = 3
)

// errUnindexed says that the owner's index must be written first.
var errUnindexed = errors.New("redisstore: unindexed")

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
	return fmt.Errorf("redisstore: a script answers %d", n)
}

func (s *Store) run(ctx context.Context, script *rueidis.Lua, id sessions.ID, args ...string) rueidis.RedisResult {
	return script.Exec(undated{ctx}, s.client, []string{s.key(id)}, args)
}

// updateScript takes the version that must be there, the new value, the expiry,
// the place of the last byte to read, which is that of the version or, where the
// index was not written just now, of the owner; and the day that the index must
// reach. A number computed here would be printed for GETRANGE, and PEXPIRETIME
// is a command more: both show in Redis's own time.
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

// touchScript takes the expiry, the same as it stands in the value, the day that
// the index must reach, and the owner whose index is written. If another one's
// must be written first, it answers that owner. SETRANGE comes before PEXPIREAT
// because only it can be refused for want of memory.
var touchScript = newScript(`
local ends = redis.call('PEXPIRETIME', KEYS[1])
if ends == -2 then return 0 end
if ends >= tonumber(ARGV[1]) then return 1 end
if ends < tonumber(ARGV[3]) then
	local size = struct.unpack('>I4', redis.call('GETRANGE', KEYS[1], 16, 19))
	local owner = redis.call('GETRANGE', KEYS[1], 20, 19 + size)
	if owner ~= ARGV[4] then return owner end
end
redis.call('SETRANGE', KEYS[1], 8, ARGV[2])
redis.call('PEXPIREAT', KEYS[1], ARGV[1])
return 1`)

// deleteScript takes the version that must be there.
var deleteScript = newScript(`
local version = redis.call('GETRANGE', KEYS[1], 0, 7)
if version == '' then return 0 end
if version ~= ARGV[1] then return 2 end
redis.call('DEL', KEYS[1])
return 1`)
