package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
)

// Statements are not prepared here: pgx keeps those it has seen on each
// connection, and how it does that is set in its URL, as PgBouncer may need.
var postgreSQL = dialect{
	quote:       `"`,
	numbered:    true,
	later:       `GREATEST(expires, ?)`,
	overExpired: onConflict,
	nows:        1,
	created:     storedOne,
	sweep:       `DELETE FROM {table} WHERE ctid >= CAST(CAST(? AS text) AS tid) AND ctid < CAST(CAST(? AS text) AS tid) AND expires <= ?`,
	ranges:      postgreSQLRanges,
	check:       func(context.Context, *sql.DB) error { return nil },
	migrate:     migratePostgreSQL,
}

// onConflict is the overExpired of PostgreSQL and SQLite.
const onConflict = `ON CONFLICT (id) DO UPDATE SET version = excluded.version, expires = excluded.expires,
	owner_hash = excluded.owner_hash, owner = excluded.owner, data = excluded.data
	WHERE {table}.expires <= ?`

// There is no index on expires: every use of a session moves it, and PostgreSQL
// updates a row whose indexed columns stay within its page, without a new entry
// in any index (a heap-only tuple), if there is room, which the fillfactor
// leaves. Of 120,000 random updates of 50,000 rows with 800 bytes of data, 99 %
// found it at 80, 65 % at 90 and 66 % at 100; with such an index none did, they
// wrote 2.7 times as much log, and there were 0.36 times as many a second.
//
// What Sweep leaves is vacuumed from a fiftieth of the table on, not a fifth.
const postgreSQLTable = `CREATE TABLE IF NOT EXISTS {table} (
	id         bytea  PRIMARY KEY,
	version    bigint NOT NULL,
	expires    bigint NOT NULL, -- milliseconds since 1970
	owner_hash bigint,
	owner      bytea,
	data       bytea  NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02)`

const postgreSQLIndex = `CREATE INDEX IF NOT EXISTS {index} ON {table} (owner_hash, id) WHERE owner_hash IS NOT NULL`

func migratePostgreSQL(ctx context.Context, db *sql.DB, n names) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	// IF NOT EXISTS looks before it creates: of two that run at once, one would
	// fail on the server's catalogue.
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext($1))`, n.quoted); err != nil {
		return err
	}
	// CREATE INDEX waits for all writers of the table before it finds that there
	// is nothing to do, and new ones wait for it meanwhile.
	var there bool
	if err := tx.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, n.quotedIndex).Scan(&there); err != nil || there {
		return err
	}
	for _, text := range []string{postgreSQLTable, postgreSQLIndex} {
		if _, err := tx.ExecContext(ctx, n.in(text)); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// sweepPages is how many pages of PostgreSQL a statement of Sweep looks at: 1 MiB.
const sweepPages = 128

// postgreSQLRanges goes by pages, since the order of ids is not that of the disk.
func postgreSQLRanges(ctx context.Context, db *sql.DB, n names) iter.Seq2[[2]any, error] {
	return func(yield func([2]any, error) bool) {
		var pages int64
		err := db.QueryRowContext(ctx, `SELECT pg_relation_size(CAST(CAST($1 AS text) AS regclass)) / CAST(current_setting('block_size') AS bigint)`, n.quoted).Scan(&pages)
		if err != nil {
			yield([2]any{}, err)
			return
		}
		place := func(page int64) string { return fmt.Sprintf("(%d,0)", page) }
		for page := int64(0); page < pages; page += sweepPages {
			if !yield([2]any{place(page), place(page + sweepPages)}, nil) {
				return
			}
		}
	}
}
