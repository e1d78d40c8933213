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
	noSchema:    "for SQLite, open another file, or set Options.Table",

	tables:        []table{sqLiteTable},
	labels:        sqLiteLabels,
	absent:        `does not exist: call Migrate`,
	beforeMigrate: writeAhead,
	resolve:       func(_ context.Context, _ querier, n names) (names, error) { return n, nil },
	inspect:       inspectSQLite,
	creating:      creatingSQLite,
}

// The entries are deleted by a trigger, since SQLite obeys a foreign key only on
// connections with a setting.
var sqLiteLabels = labelDialect{
	column: column{name: "labels", typ: "BLOB", null: true, add: `ALTER TABLE {table} ADD COLUMN labels BLOB`},
	table: table{
		suffix: labelSuffix,
		create: `CREATE TABLE IF NOT EXISTS {table_labels} (
	label_hash INTEGER NOT NULL,
	id         BLOB    NOT NULL,
	PRIMARY KEY (label_hash, id)
) STRICT, WITHOUT ROWID;
` + deleteEntries,
		columns: []column{{name: "label_hash", typ: "INTEGER"}, {name: "id", typ: "BLOB"}},
		key:     []string{"label_hash", "id"},
		indexes: []index{{
			suffix:  "_labels_id",
			create:  `CREATE INDEX IF NOT EXISTS {index_labels_id} ON {table_labels} (id)`,
			columns: []string{"id"},
		}},
		follow: `DELETE FROM {table_labels} WHERE id NOT IN (SELECT id FROM {table});
` + deleteEntries,
	},
	overExpired: onConflictLabels,
	nows:        1,
	same:        `labels IS ?`,
	add:         `INSERT OR IGNORE INTO {table_labels} (label_hash, id)`,
}

const deleteEntries = `CREATE TRIGGER IF NOT EXISTS {index_labels_delete} AFTER DELETE ON {table} BEGIN
	DELETE FROM {table_labels} WHERE id = OLD.id; END`

// creatingSQLite calls f in a transaction that begins as a writer, so that it waits
// for another one.
func creatingSQLite(ctx context.Context, db *sql.DB, _ names, f func(querier) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	if err == nil {
		err = f(conn)
	}
	if err == nil {
		_, err = conn.ExecContext(ctx, "COMMIT")
	}
	// A BEGIN that has run returns an error too, if the context has ended meanwhile.
	if err != nil {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	}
	return err
}

// The table has a rowid. Without it, a session larger than a quarter of a page
// takes twice the space. There is no index on expires, since every use of
// a session changes it.
var sqLiteTable = table{
	create: `CREATE TABLE IF NOT EXISTS {table} (
	id         BLOB    NOT NULL PRIMARY KEY,
	version    INTEGER NOT NULL,
	expires    INTEGER NOT NULL, -- milliseconds since 1970
	owner_hash INTEGER,
	owner      BLOB,
	data       BLOB    NOT NULL
) STRICT`,
	columns: []column{
		{name: "id", typ: "BLOB"},
		{name: "version", typ: "INTEGER"},
		{name: "expires", typ: "INTEGER"},
		{name: "owner_hash", typ: "INTEGER", null: true},
		{name: "owner", typ: "BLOB", null: true},
		{name: "data", typ: "BLOB"},
	},
	key: []string{"id"},
	indexes: []index{{
		suffix:  "_owner",
		create:  `CREATE INDEX IF NOT EXISTS {index_owner} ON {table} (owner_hash, id) WHERE owner_hash IS NOT NULL`,
		columns: []string{"owner_hash", "id"},
	}},
}

// inspectSQLite reads the schema of the file. SQLite compares names without case.
func inspectSQLite(ctx context.Context, q querier, n names, t table) (found, error) {
	got := found{indexes: map[string]foundIndex{}, taken: map[string]string{}}
	name := n.table + t.suffix
	err := each(ctx, q, `SELECT type, wr FROM pragma_table_list WHERE schema = 'main' AND name = ? COLLATE NOCASE`, []any{name}, func(scan func(...any) error) error {
		var withoutRowid bool
		err := scan(&got.kind, &withoutRowid)
		if withoutRowid && t.suffix == "" { // Sweep needs it
			got.kind = "table WITHOUT ROWID"
		}
		return err
	})
	if err != nil {
		return got, err
	}
	err = each(ctx, q, `SELECT lower(name), upper(type), NOT "notnull", "notnull" AND dflt_value IS NULL AND hidden = 0, pk
		FROM pragma_table_xinfo(?, 'main') ORDER BY pk`, []any{name}, func(scan func(...any) error) error {
		var c foundColumn
		var key int
		err := scan(&c.name, &c.typ, &c.null, &c.required, &key)
		got.columns = append(got.columns, c)
		if key > 0 {
			got.key = append(got.key, c.name)
		}
		return err
	})
	if err != nil {
		return got, err
	}
	err = each(ctx, q, `SELECT l.name, coalesce(lower(i.name), '') FROM pragma_index_list(?, 'main') l, pragma_index_info(l.name, 'main') i ORDER BY l.name, i.seqno`,
		[]any{name}, func(scan func(...any) error) error {
			var name, column string
			err := scan(&name, &column)
			got.indexes[name] = foundIndex{columns: append(got.indexes[name].columns, column)}
			return err
		})
	if err != nil {
		return got, err
	}
	if t.follow != "" {
		err := each(ctx, q, `SELECT tbl_name FROM sqlite_master WHERE type = 'trigger' AND name = ? COLLATE NOCASE`, []any{name + "_delete"}, func(scan func(...any) error) error {
			var other string
			err := scan(&other)
			got.setFollows(other, n)
			return err
		})
		if err != nil {
			return got, err
		}
	}
	for _, i := range t.indexes {
		name := n.table + i.suffix
		err := each(ctx, q, `SELECT type, tbl_name FROM sqlite_master WHERE name = ? COLLATE NOCASE`, []any{name}, func(scan func(...any) error) error {
			var kind, of string
			err := scan(&kind, &of)
			got.setTaken(name, kind, of, n.table+t.suffix)
			return err
		})
		if err != nil {
			return got, err
		}
	}
	return got, nil
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
