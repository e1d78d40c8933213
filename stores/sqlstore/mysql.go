package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

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
	overExpired: `ON DUPLICATE KEY UPDATE
	version = IF(expires <= ?, VALUES(version), version),
	owner_hash = IF(expires <= ?, VALUES(owner_hash), owner_hash),
	owner = IF(expires <= ?, VALUES(owner), owner),
	data = IF(expires <= ?, VALUES(data), data),
	expires = IF(expires <= ?, VALUES(expires), LAST_INSERT_ID(expires))`,
	nows: 5,
	created: func(res sql.Result) (bool, error) {
		kept, err := res.LastInsertId()
		return kept == 0, err
	},

	sweep:   sweepBy("id"),
	ranges:  keyRanges("id", []byte{}, bytes.Repeat([]byte{0xff}, len(sessions.ID{}))),
	check:   checkMySQL,
	migrate: migrateMySQL,
}

// Every index of InnoDB ends with the primary key, so Owned can page by id. There
// is no index on expires, since every use of a session changes it.
const mySQLTable = `CREATE TABLE IF NOT EXISTS {table} (
	id         BINARY(32) NOT NULL PRIMARY KEY,
	version    BIGINT     NOT NULL,
	expires    BIGINT     NOT NULL COMMENT 'milliseconds since 1970',
	owner_hash BIGINT,
	owner      LONGBLOB,
	data       LONGBLOB   NOT NULL,
	KEY {index} (owner_hash)
) ENGINE=InnoDB`

func migrateMySQL(ctx context.Context, db *sql.DB, n names) error {
	// CREATE TABLE IF NOT EXISTS needs the privilege even if the table exists.
	if _, err := db.ExecContext(ctx, n.in(`SELECT 1 FROM {table} LIMIT 0`)); err == nil {
		return nil
	}
	_, err := db.ExecContext(ctx, n.in(mySQLTable))
	return err
}

// checkMySQL returns an error for a connection without autocommit, and for one on
// which RowsAffected is the number of changed rows instead of found rows. On the
// latter, Touch would return ErrNotFound for a session whose expiry does not
// change. Only an UPDATE shows this, so checkMySQL runs one on a temporary table.
func checkMySQL(ctx context.Context, db *sql.DB) error {
	const table = "`sqlstore_check`"
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var autocommit bool
	if err := conn.QueryRowContext(ctx, "SELECT @@autocommit").Scan(&autocommit); err != nil {
		return err
	}
	if !autocommit {
		return errors.New("the MySQL connection has autocommit off, need it on: remove autocommit=0 from the DSN, or from init_connect and autocommit of the server")
	}
	if _, err := conn.ExecContext(ctx, "CREATE TEMPORARY TABLE IF NOT EXISTS "+table+" (n INT PRIMARY KEY)"); err != nil {
		return fmt.Errorf("check clientFoundRows with a temporary table, need the privilege CREATE TEMPORARY TABLES: %w", err)
	}
	defer func() { _, _ = conn.ExecContext(ctx, "DROP TEMPORARY TABLE "+table) }()
	if _, err := conn.ExecContext(ctx, "REPLACE INTO "+table+" VALUES (1)"); err != nil {
		return err
	}
	res, err := conn.ExecContext(ctx, "UPDATE "+table+" SET n = 1")
	if err != nil {
		return err
	}
	found, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if found == 0 {
		return errors.New("the MySQL connection counts changed rows, need the number of found rows: add clientFoundRows=true to the DSN")
	}
	return nil
}
