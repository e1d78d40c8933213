package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
)

// The Store does not prepare statements for PostgreSQL. pgx caches them per
// connection, and PgBouncer may need another mode, which is set in the URL.
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

// There is no index on expires, since every use of a session changes it. If no
// indexed column changes and the page has room, PostgreSQL updates a row within
// its page and writes no index entry (a heap-only tuple). The fillfactor leaves
// that room. Of 120,000 random updates of 50,000 rows with 800 bytes of data, 99 %
// were heap-only at fillfactor 80, 65 % at 90 and 66 % at 100. With an index on
// expires none were, the updates wrote 2.7 times as much log, and there were 0.36
// times as many per second.
//
// With autovacuum_vacuum_scale_factor at 0.02, vacuum runs when 1/50 of the rows
// are dead, for instance after Sweep; the default is 1/5.
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
	// CREATE … IF NOT EXISTS is not atomic. Without the lock, one of two concurrent
	// calls could fail with a duplicate key in the catalog.
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext($1))`, n.quoted); err != nil {
		return err
	}
	// CREATE INDEX IF NOT EXISTS waits for all writers of the table even if the
	// index exists, and new writers wait for it meanwhile.
	var exists bool
	if err := tx.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, n.quotedIndex).Scan(&exists); err != nil || exists {
		return err
	}
	for _, text := range []string{postgreSQLTable, postgreSQLIndex} {
		if _, err := tx.ExecContext(ctx, n.in(text)); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// sweepPages is the number of pages that a statement of Sweep reads, 1 MiB.
const sweepPages = 128

// postgreSQLRanges yields ranges of pages. Rows are not stored in the order of
// their ids.
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
