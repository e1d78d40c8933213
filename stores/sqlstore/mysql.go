package sqlstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"reflect"
	"regexp"
	"strings"

	"github.com/typedsessions/sessions"
)

var mySQL = dialect{
	quote:    "`",
	prepared: true,
	later:    `GREATEST(expires, ?)`,

	// In MySQL an assignment sees the results of those before it, so expires must
	// come last. In some modes of MariaDB it does not, and the order is
	// irrelevant. The number of affected rows does not tell an inserted row from
	// one that was left unchanged. So for a live record the statement sets
	// LAST_INSERT_ID, which the server returns with the result.
	overExpired: `ON DUPLICATE KEY UPDATE` + overExpiredMySQL,
	nows:        5,
	created: func(res sql.Result) (bool, error) {
		kept, err := res.LastInsertId()
		return kept == 0, err
	},

	sweep:         sweepBy("id"),
	ranges:        keyRanges("id", []byte{}, bytes.Repeat([]byte{0xff}, len(sessions.ID{}))),
	check:         checkAutocommit,
	countsFound:   countsFoundMySQL,
	countsFoundOf: countsFoundOfMySQL,
	noSchema:      "for MySQL, name the database in the DSN",
	tables:        []table{mySQLTable},
	labels:        mySQLLabels,
	absent:        `does not exist, or this user has no privilege on it: call Migrate, or GRANT SELECT, INSERT, UPDATE, DELETE ON {table}`,
	resolve:       mySQLDatabase,
	inspect:       inspectMySQL,
	creating:      func(_ context.Context, db *sql.DB, _ names, f func(querier) error) error { return f(db) },
	rolledBack:    rolledBackMySQL,
}

const overExpiredMySQL = `
	version = IF(expires <= ?, VALUES(version), version),
	owner_hash = IF(expires <= ?, VALUES(owner_hash), owner_hash),
	owner = IF(expires <= ?, VALUES(owner), owner),
	data = IF(expires <= ?, VALUES(data), data),
	expires = IF(expires <= ?, VALUES(expires), LAST_INSERT_ID(expires))`

// Every index of InnoDB ends with the primary key, so Owned can page by id. There
// is no index on expires, since every use of a session changes it.
var mySQLTable = table{
	create: `CREATE TABLE IF NOT EXISTS {table} (
	id         BINARY(32) NOT NULL PRIMARY KEY,
	version    BIGINT     NOT NULL,
	expires    BIGINT     NOT NULL COMMENT 'milliseconds since 1970',
	owner_hash BIGINT,
	owner      LONGBLOB,
	data       LONGBLOB   NOT NULL,
	KEY {index_owner} (owner_hash)
) ENGINE=InnoDB`,
	columns: []column{
		{name: "id", typ: "binary(32)"},
		{name: "version", typ: "bigint"},
		{name: "expires", typ: "bigint"},
		{name: "owner_hash", typ: "bigint", null: true},
		{name: "owner", typ: "longblob", null: true},
		{name: "data", typ: "longblob"},
	},
	key: []string{"id"},
	indexes: []index{{
		suffix:  "_owner",
		create:  `CREATE INDEX {index_owner} ON {table} (owner_hash)`,
		columns: []string{"owner_hash"},
	}},
}

var mySQLLabels = labelDialect{
	column: column{name: "labels", typ: "longblob", null: true, add: `ALTER TABLE {table} ADD COLUMN labels LONGBLOB`},
	table: table{
		suffix: labelSuffix,
		create: `CREATE TABLE IF NOT EXISTS {table_labels} (
	label_hash BIGINT     NOT NULL,
	id         BINARY(32) NOT NULL,
	PRIMARY KEY (label_hash, id),
	KEY {index_labels_id} (id),
	FOREIGN KEY (id) REFERENCES {table} (id) ON DELETE CASCADE
) ENGINE=InnoDB`,
		columns: []column{{name: "label_hash", typ: "bigint"}, {name: "id", typ: "binary(32)"}},
		key:     []string{"label_hash", "id"},
		indexes: []index{{
			suffix:  "_labels_id",
			create:  `CREATE INDEX {index_labels_id} ON {table_labels} (id)`,
			columns: []string{"id"},
		}},
		follow: `DELETE l FROM {table_labels} l LEFT JOIN {table} s ON s.id = l.id WHERE s.id IS NULL;
ALTER TABLE {table_labels} ADD FOREIGN KEY (id) REFERENCES {table} (id) ON DELETE CASCADE`,
	},
	overExpired: `ON DUPLICATE KEY UPDATE labels = IF(expires <= ?, VALUES(labels), labels),` + overExpiredMySQL,
	nows:        6,
	same:        `labels <=> ?`,
	add:         `INSERT IGNORE INTO {table_labels} (label_hash, id)`,
}

func mySQLDatabase(ctx context.Context, q querier, n names) (names, error) {
	var database sql.Null[string]
	err := q.QueryRowContext(ctx, "SELECT DATABASE()").Scan(&database)
	if err == nil && !database.Valid {
		err = errors.New("the MySQL connection has no database, need one in the DSN")
	}
	return n, err
}

// cascadeMySQL matches a foreign key in the result of SHOW CREATE TABLE, whose names
// are quoted as the connection is set. A foreign key follows a table that is renamed,
// and an INSERT IGNORE skips what it refuses.
var cascadeMySQL = regexp.MustCompile("FOREIGN KEY \\([`\"]?id[`\"]?\\) REFERENCES ([^(]+) \\([`\"]?id[`\"]?\\) ON DELETE CASCADE")

// inspectMySQL reads the information schema, which shows the columns of a table
// only to a user with a privilege on them. It compares names without case, except
// where the second condition holds.
func inspectMySQL(ctx context.Context, q querier, n names, t table) (found, error) {
	const named = ` WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND (BINARY TABLE_NAME = ? OR @@lower_case_table_names <> 0)`
	got := found{indexes: map[string]foundIndex{}}
	where := []any{n.table + t.suffix, n.table + t.suffix}
	err := each(ctx, q, `SELECT TABLE_TYPE FROM information_schema.TABLES`+named, where, func(scan func(...any) error) error {
		err := scan(&got.kind)
		if got.kind = strings.ToLower(got.kind); got.kind == "base table" {
			got.kind = "table"
		}
		return err
	})
	if err != nil || got.kind == "" {
		return got, err
	}
	err = each(ctx, q, `SELECT LOWER(COLUMN_NAME), LOWER(COLUMN_TYPE), IS_NULLABLE = 'YES',
			IS_NULLABLE = 'NO' AND COLUMN_DEFAULT IS NULL AND EXTRA NOT LIKE '%auto_increment%' AND EXTRA NOT LIKE '%GENERATED%'
		FROM information_schema.COLUMNS`+named, where, func(scan func(...any) error) error {
		var c foundColumn
		err := scan(&c.name, &c.typ, &c.null, &c.required)
		// The display width has no meaning, and MySQL 8 no longer shows it.
		if strings.HasPrefix(c.typ, "bigint(") {
			_, unsigned, _ := strings.Cut(c.typ, ")")
			c.typ = "bigint" + unsigned
		}
		got.columns = append(got.columns, c)
		return err
	})
	if err != nil {
		return got, err
	}
	got.hidden = len(got.columns) == 0
	err = each(ctx, q, `SELECT INDEX_NAME, LOWER(COALESCE(COLUMN_NAME, '')) FROM information_schema.STATISTICS`+named+` ORDER BY INDEX_NAME, SEQ_IN_INDEX`,
		where, func(scan func(...any) error) error {
			var name, column string
			if err := scan(&name, &column); err != nil {
				return err
			}
			if name == "PRIMARY" {
				got.key = append(got.key, column)
			}
			got.indexes[name] = foundIndex{columns: append(got.indexes[name].columns, column)}
			return nil
		})
	if err != nil || t.follow == "" || got.hidden || got.kind != "table" {
		return got, err
	}
	// The information schema shows foreign keys only to a user who may change them.
	var name, text string
	if err := q.QueryRowContext(ctx, n.in("SHOW CREATE TABLE {table"+t.suffix+"}")).Scan(&name, &text); err != nil {
		return got, err
	}
	for _, key := range cascadeMySQL.FindAllStringSubmatch(text, -1) {
		got.setFollows(strings.NewReplacer("`", "", `"`, "").Replace(key[1]), n)
	}
	return got, nil
}

// rolledBackMySQL reports whether err has the number of a deadlock, or of a row
// that changed after the transaction began (MariaDB, innodb_snapshot_isolation).
// The field is that of *mysql.MySQLError. This package imports no driver.
func rolledBackMySQL(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		v := reflect.Indirect(reflect.ValueOf(err))
		if v.Kind() != reflect.Struct {
			continue
		}
		if number := v.FieldByName("Number"); number.IsValid() && number.CanUint() {
			return number.Uint() == 1213 || number.Uint() == 1020
		}
	}
	return false
}

// checkAutocommit returns an error for a connection without autocommit.
func checkAutocommit(ctx context.Context, db *sql.DB) error {
	var autocommit bool
	if err := db.QueryRowContext(ctx, "SELECT @@autocommit").Scan(&autocommit); err != nil {
		return err
	}
	if !autocommit {
		return errors.New("the MySQL connection has autocommit off, need it on: remove autocommit=0 from the DSN, or from init_connect and autocommit of the server")
	}
	return nil
}

// errCountsChanged is the error for a connection on which RowsAffected is the
// number of changed rows. There, Touch would return ErrNotFound for a session
// whose expiry does not change.
var errCountsChanged = errors.New("the MySQL connection counts changed rows, need the number of found rows: add clientFoundRows=true to the DSN")

// countsFoundMySQL runs an UPDATE that changes nothing, since only that shows what
// the connection counts: on a row of the table, in a transaction that it rolls
// back, or on a temporary table if there is no table of ours yet. It does not wait
// for the locks of others. It ignores errors, such as those of a user without the
// privilege, since operations get them too.
func countsFoundMySQL(ctx context.Context, db *sql.DB, n names) (bool, error) {
	var err error
	if got, inspectErr := inspectMySQL(ctx, db, n, mySQLTable); inspectErr == nil && got.kind != "" && mySQLTable.differs(n, got) == nil {
		err = inRollback(ctx, db, func(tx *sql.Tx) error { return countsFoundInTable(ctx, tx, n) })
	} else {
		err = countsFoundInTemporaryTable(ctx, db)
	}
	if errors.Is(err, errCountsChanged) {
		return false, err
	}
	return err == nil, nil
}

// countsFoundOfMySQL does the same with the row of a session. It waits for the
// row, as the operation for which it is called did.
func countsFoundOfMySQL(ctx context.Context, db *sql.DB, n names, id sessions.ID) error {
	return inRollback(ctx, db, func(tx *sql.Tx) error {
		var one int
		err := tx.QueryRowContext(ctx, n.in("SELECT 1 FROM {table} WHERE id = ? AND expires > ? FOR UPDATE"), id[:], now()).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return countsFoundInRow(ctx, tx, n, id[:])
	})
}

func countsFoundInTable(ctx context.Context, tx *sql.Tx, n names) error {
	id := make([]byte, len(sessions.ID{}))
	err := tx.QueryRowContext(ctx, n.in("SELECT id FROM {table} ORDER BY id LIMIT 1")).Scan(&id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		_, _ = rand.Read(id)
		_, err = tx.ExecContext(ctx, n.in("INSERT INTO {table} (id, version, expires, data) VALUES (?, 1, 0, '')"), id)
	case err == nil:
		err = tx.QueryRowContext(ctx, n.in("SELECT id FROM {table} ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED")).Scan(&id)
	}
	if err != nil {
		return err
	}
	return countsFoundInRow(ctx, tx, n, id)
}

func countsFoundInRow(ctx context.Context, tx *sql.Tx, n names, id []byte) error {
	return countsFoundBy(tx.ExecContext(ctx, n.in("UPDATE {table} SET version = version WHERE id = ?"), id))
}

func countsFoundInTemporaryTable(ctx context.Context, db *sql.DB) error {
	const table = "`sqlstore_check`"
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "CREATE TEMPORARY TABLE IF NOT EXISTS "+table+" (n INT PRIMARY KEY)"); err != nil {
		return err
	}
	defer func() { _, _ = conn.ExecContext(ctx, "DROP TEMPORARY TABLE "+table) }()
	if _, err := conn.ExecContext(ctx, "REPLACE INTO "+table+" VALUES (1)"); err != nil {
		return err
	}
	return countsFoundBy(conn.ExecContext(ctx, "UPDATE "+table+" SET n = 1"))
}

// countsFoundBy takes the result of an UPDATE that found a row and did not change it.
func countsFoundBy(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	found, err := res.RowsAffected()
	if err == nil && found == 0 {
		err = errCountsChanged
	}
	return err
}

// inRollback calls f with a transaction, which it rolls back.
func inRollback(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	return f(tx)
}
