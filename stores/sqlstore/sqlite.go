package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"
)

var sqLite = dialect{
	quote:       `"`,
	prepared:    true,
	later:       `max(expires, ?)`,
	overExpired: onConflict,
	nows:        1,
	created:     storedOne,
	sweep:       sweepBy("rowid"),
	ranges:      keyRanges("rowid", int64(math.MinInt64), int64(math.MaxInt64)),
	check:       checkBusyTimeout,
	migrate:     migrateSQLite,
}

// The table has a rowid. Without it, a session larger than a quarter of a page
// takes twice the space. There is no index on expires, since every use of
// a session changes it.
var sqLiteSchema = []string{
	`CREATE TABLE IF NOT EXISTS {table} (
	id         BLOB    NOT NULL PRIMARY KEY,
	version    INTEGER NOT NULL,
	expires    INTEGER NOT NULL, -- milliseconds since 1970
	owner_hash INTEGER,
	owner      BLOB,
	data       BLOB    NOT NULL
) STRICT`,
	`CREATE INDEX IF NOT EXISTS {index} ON {table} (owner_hash, id) WHERE owner_hash IS NOT NULL`,
}

// checkBusyTimeout returns an error for a connection without a busy timeout. On
// such a connection, a write fails while another connection writes.
func checkBusyTimeout(ctx context.Context, db *sql.DB) error {
	var milliseconds int
	if err := db.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&milliseconds); err != nil {
		return err
	}
	if milliseconds <= 0 {
		return errors.New("the SQLite connection has no busy timeout, need one to wait for other writers: " +
			"add _pragma=busy_timeout(5000) to the DSN of modernc.org/sqlite, or _busy_timeout=5000 to that of mattn/go-sqlite3")
	}
	return nil
}

func migrateSQLite(ctx context.Context, db *sql.DB, n names) error {
	if err := writeAhead(ctx, db); err != nil {
		return err
	}
	for _, text := range sqLiteSchema {
		if _, err := db.ExecContext(ctx, n.in(text)); err != nil {
			return err
		}
	}
	return nil
}

// writeAhead switches the file to write-ahead logging, in which readers and
// a writer do not wait for each other. The mode is stored in the file.
func writeAhead(ctx context.Context, db *sql.DB) error {
	var mode string
	var err error
	// If several processes switch the mode at once, all but one fail, whatever
	// the busy timeout: SQLite does not wait if that could be a deadlock.
	for try := range 100 {
		if err = db.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode); err == nil {
			break
		}
		select {
		case <-time.After(time.Duration(try) * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
	if err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("the journal mode of SQLite is %q, need wal: use a file on a local disk", mode)
	}
	return nil
}
