package benchmarks

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/pgxstore"
	"github.com/alexedwards/scs/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/redisstore"
	"github.com/typedsessions/sessions/stores/sqlstore"
	"github.com/vmihailenco/msgpack/v5"
)

// cacheTime is the lifetime of entries in the caches in the process.
const cacheTime = time.Minute

// storedApps are the apps of Stored.
var storedApps = map[string]func(testing.TB, *engine) app{
	"redis-ours": func(tb testing.TB, e *engine) app {
		return oursStored(tb, redisstore.New(e.rueidis(tb), redisstore.Options{}))
	},
	"redis-ours-unruled": func(tb testing.TB, e *engine) app {
		return oursUnruled(tb, sessions.Config[FreeShop]{Store: redisstore.New(e.rueidis(tb), redisstore.Options{})})
	},
	"redis-ours-cached": func(tb testing.TB, e *engine) app {
		return oursStored(tb, redisstore.New(e.rueidis(tb), redisstore.Options{LocalCache: cacheTime}))
	},
	"redis-floor": func(tb testing.TB, e *engine) app {
		return shelfApp(redisShelf{client: e.rueidis(tb)})
	},
	"redis-floor-cached": func(tb testing.TB, e *engine) app {
		a := shelfApp(redisShelf{client: e.rueidis(tb), cache: cacheTime})
		a.lags = true
		return a
	},
	"redis-scs": func(tb testing.TB, e *engine) app {
		client := redis.NewClient(&redis.Options{Addr: e.server.Addr, PoolSize: connections})
		tb.Cleanup(func() { _ = client.Close() })
		m := scs.New()
		m.Store = goredisstore.New(client)
		return scsApp(m)
	},
	"postgres-ours": func(tb testing.TB, e *engine) app { return oursStored(tb, e.sqlStore(tb, connections)) },
	"postgres-ours-unruled": func(tb testing.TB, e *engine) app {
		return oursUnruled(tb, sessions.Config[FreeShop]{Store: e.sqlStore(tb, connections)})
	},
	"postgres-floor": func(tb testing.TB, e *engine) app {
		pool := e.pool(tb, `CREATE TABLE IF NOT EXISTS shelf (id text PRIMARY KEY, version bigint NOT NULL, data bytea NOT NULL, expires timestamptz NOT NULL)`)
		return shelfApp(postgresShelf{pool})
	},
	"postgres-scs": func(tb testing.TB, e *engine) app {
		// The schema from the README of pgxstore.
		pool := e.pool(tb,
			`CREATE TABLE IF NOT EXISTS sessions (token TEXT PRIMARY KEY, data BYTEA NOT NULL, expiry TIMESTAMPTZ NOT NULL)`,
			`CREATE INDEX IF NOT EXISTS sessions_expiry_idx ON sessions (expiry)`)
		m := scs.New()
		m.Store = pgxstore.NewWithCleanupInterval(pool, 0) // StopCleanup races with the goroutine that New starts
		return scsApp(m)
	},
}

// oursStored returns an app of this library with a Store.
func oursStored(tb testing.TB, store sessions.Store) app {
	return oursPlain(tb, sessions.Config[Shop]{Store: store})
}

func (e *engine) sqlStore(tb testing.TB, pool int) *sqlstore.Store {
	tb.Helper()
	db := stdlib.OpenDB(*e.pgx(tb).ConnConfig)
	tb.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(pool)
	db.SetMaxIdleConns(pool)
	store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Options{Table: "ours"})
	if err != nil {
		tb.Fatal(err)
	}
	if err := store.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return store
}

func (e *engine) pool(tb testing.TB, schema ...string) *pgxpool.Pool {
	tb.Helper()
	pool, err := pgxpool.NewWithConfig(tb.Context(), e.pgx(tb))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(pool.Close)
	for _, statement := range schema {
		if _, err := pool.Exec(tb.Context(), statement); err != nil {
			tb.Fatal(err)
		}
	}
	return pool
}

// A shelf has the minimal operations of a server for sessions: load a record, create
// one, and replace it if its version is the one that was loaded.
type shelf interface {
	// load returns nil data if there is no record. If fresh is true, it does not
	// use a cache.
	load(ctx context.Context, id string, fresh bool) (version int64, data []byte, err error)
	create(ctx context.Context, id string, data []byte) error
	update(ctx context.Context, id string, version int64, data []byte) error
	remove(ctx context.Context, id string) error
}

var errConflict = errors.New("conflict")

func shelfApp(s shelf) app {
	load := func(r *http.Request, fresh bool) (id string, version int64, shop Shop, ok bool) {
		if id = find(r); id == "" {
			return
		}
		version, data, err := s.load(r.Context(), id, fresh)
		must(err)
		if data != nil {
			must(msgpack.Unmarshal(data, &shop))
		}
		return id, version, shop, data != nil
	}
	encode := func(shop Shop) []byte {
		b, err := msgpack.Marshal(&shop)
		must(err)
		return b
	}
	a := newHTTPApp(serveHTTP,
		func(x exchange) (Shop, bool) {
			addVary(x.w)
			_, _, shop, ok := load(x.r, false)
			return shop, ok
		},
		func(x exchange, n int) {
			addVary(x.w)
			err := errConflict
			// The cache may not have the change of the previous request yet.
			for try := 0; errors.Is(err, errConflict) && try < 2; try++ {
				id, version, shop, _ := load(x.r, try > 0)
				shop.UserID = n
				err = s.update(x.r.Context(), id, version, encode(shop))
			}
			must(err)
		},
		func(x exchange, shop Shop) {
			addVary(x.w)
			if old := find(x.r); old != "" {
				must(s.remove(x.r.Context(), old))
			}
			id := rand.Text()
			must(s.create(x.r.Context(), id, encode(shop)))
			x.w.Header()["Set-Cookie"] = []string{cookieName + "=" + id + "; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"}
		})
	a.forgets = true
	return a
}

// A redisShelf stores the version in the first eight bytes of a value.
type redisShelf struct {
	client rueidis.Client
	cache  time.Duration
}

var replace = rueidis.NewLuaScript(`
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1`)

func (s redisShelf) load(ctx context.Context, id string, fresh bool) (int64, []byte, error) {
	get := s.client.B().Get().Key(id)
	var b []byte
	var err error
	if s.cache > 0 && !fresh {
		b, err = s.client.DoCache(ctx, get.Cache(), s.cache).AsBytes()
	} else {
		b, err = s.client.Do(ctx, get.Build()).AsBytes()
	}
	if rueidis.IsRedisNil(err) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	return int64(binary.BigEndian.Uint64(b)), b[8:], nil
}

func (s redisShelf) create(ctx context.Context, id string, data []byte) error {
	return s.client.Do(ctx, s.client.B().Set().Key(id).Value(versioned(1, data)).Nx().Ex(lifetime).Build()).Error()
}

func (s redisShelf) update(ctx context.Context, id string, version int64, data []byte) error {
	n, err := replace.Exec(ctx, s.client, []string{id}, []string{versioned(version, nil), versioned(version+1, data)}).AsInt64()
	if err == nil && n == 0 {
		err = errConflict
	}
	return err
}

func (s redisShelf) remove(ctx context.Context, id string) error {
	return s.client.Do(ctx, s.client.B().Del().Key(id).Build()).Error()
}

func versioned(version int64, data []byte) string {
	return string(append(binary.BigEndian.AppendUint64(nil, uint64(version)), data...))
}

type postgresShelf struct{ pool *pgxpool.Pool }

func (s postgresShelf) load(ctx context.Context, id string, _ bool) (version int64, data []byte, err error) {
	err = s.pool.QueryRow(ctx, `SELECT version, data FROM shelf WHERE id = $1 AND expires > now()`, id).Scan(&version, &data)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return version, data, err
}

func (s postgresShelf) create(ctx context.Context, id string, data []byte) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO shelf VALUES ($1, 1, $2, now() + interval '1 day')`, id, data)
	return err
}

func (s postgresShelf) update(ctx context.Context, id string, version int64, data []byte) error {
	tag, err := s.pool.Exec(ctx, `UPDATE shelf SET version = version + 1, data = $3 WHERE id = $1 AND version = $2`, id, version, data)
	if err == nil && tag.RowsAffected() == 0 {
		err = errConflict
	}
	return err
}

func (s postgresShelf) remove(ctx context.Context, id string) error {
	_, err := s.pool.Exec(ctx, `DELETE FROM shelf WHERE id = $1`, id)
	return err
}
