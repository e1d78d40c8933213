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

	// In MySQL an assignment sees those before it, so that expires comes last; in
	// some modes of MariaDB it does not. What the server counts does not tell
	// a row inserted from one left alone, so a live record puts its expiry where
	// LAST_INSERT_ID comes back with the answer.
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

// The index ends with the primary key, as every one of InnoDB does. There is none
// on expires, which every use of a session moves.
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
	// CREATE TABLE asks for the right to create before it looks whether it has to.
	if _, err := db.ExecContext(ctx, n.in(`SELECT 1 FROM {table} LIMIT 0`)); err == nil {
		return nil
	}
	_, err := db.ExecContext(ctx, n.in(mySQLTable))
	return err
}

// checkMySQL refuses a connection that does not commit what it writes, and one
// that counts the rows an UPDATE changed, and not those it found: Touch would take
// a session whose expiry stays for one that is gone. Nothing but an UPDATE shows
// that, so there is a table for it which only this connection sees.
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
		return errors.New("the MySQL connection does not commit what it writes, need autocommit: take autocommit=0 out of its DSN, or out of init_connect and autocommit of the server")
	}
	if _, err := conn.ExecContext(ctx, "CREATE TEMPORARY TABLE IF NOT EXISTS "+table+" (n INT PRIMARY KEY)"); err != nil {
		return fmt.Errorf("need the privilege CREATE TEMPORARY TABLES, to see whether clientFoundRows is set: %w", err)
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
		return errors.New("the MySQL connection counts changed rows, need those found: add clientFoundRows=true to its DSN")
	}
	return nil
}
