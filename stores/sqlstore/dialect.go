package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/typedsessions/sessions"
)

// A Dialect is the SQL dialect of a database server.
type Dialect int

const (
	PostgreSQL Dialect = iota + 1 // 14 or later
	MySQL                         // 8.0 or later, and MariaDB 10.6 or later
	SQLite                        // 3.37 or later
)

var dialects = map[Dialect]dialect{
	PostgreSQL: postgreSQL,
	MySQL:      mySQL,
	SQLite:     sqLite,
}

// String returns the name of the constant.
func (d Dialect) String() string {
	switch d {
	case PostgreSQL:
		return "PostgreSQL"
	case MySQL:
		return "MySQL"
	case SQLite:
		return "SQLite"
	}
	return fmt.Sprintf("Dialect(%d)", int(d))
}

// A dialect holds the differences between the servers. In its SQL, the names of
// tables and indexes are in braces, as [names.in] replaces them, and every
// parameter is a question mark.
type dialect struct {
	quote    string
	numbered bool   // parameters are $1, $2
	prepared bool   // the Store prepares statements, since the driver would do it at each execution
	noSchema string // for a server without schemas: what to do instead

	later string // an expression for the later of expires and a parameter

	// overExpired is the end of the INSERT in Create. It replaces an expired
	// record and does not change a live one. It has nows parameters, all of them
	// the current time. created reports whether the record was stored.
	overExpired string
	nows        int
	created     func(sql.Result) (bool, error)

	// sweep deletes the expired records in one range of the table. Its
	// parameters are the bounds of the range and the current time. ranges yields
	// small ranges that together cover the table, in the order of the disk.
	sweep  string
	ranges func(ctx context.Context, db *sql.DB, n names) iter.Seq2[[2]any, error]

	// check returns an error if this package cannot work with the connections of
	// the database.
	check func(context.Context, *sql.DB) error

	// For a server on which RowsAffected may be the number of changed rows
	// instead of found rows, countsFound reports whether it is known to be the
	// latter, and returns errCountsChanged if it is the former. It may fail to
	// tell. countsFoundOf returns errCountsChanged, or an error if it cannot
	// tell, unless there is no such session. They are nil for other servers.
	countsFound   func(context.Context, *sql.DB, names) (bool, error)
	countsFoundOf func(context.Context, *sql.DB, names, sessions.ID) error

	// tables are created in this order. beforeMigrate may be nil.
	tables        []table
	labels        labelDialect
	absent        string // what to do if a table does not exist
	beforeMigrate func(context.Context, *sql.DB) error
	resolve       func(context.Context, querier, names) (names, error) // completes the names
	inspect       func(context.Context, querier, names, table) (found, error)
	creating      func(context.Context, *sql.DB, names, func(querier) error) error // calls a function that creates tables

	// rolledBack reports whether err says that the server rolled a statement
	// back because of a concurrent one. It may be nil.
	rolledBack func(err error) bool
}

// maxTable leaves room for the suffixes of names: PostgreSQL truncates names to
// maxName bytes.
const (
	maxTable = 48
	maxName  = 63
)

func (d dialect) names(opt Options) (names, error) {
	if opt.Table == "" {
		opt.Table = "sessions"
	}
	if err := checkName("table", opt.Table, maxTable); err != nil {
		return names{}, err
	}
	if opt.Schema != "" {
		if d.noSchema != "" {
			return names{}, fmt.Errorf("Options.Schema is for PostgreSQL: %s", d.noSchema)
		}
		if err := checkName("schema", opt.Schema, maxName); err != nil {
			return names{}, err
		}
	}
	return names{quote: d.quote, schema: opt.Schema, table: opt.Table}, nil
}

func checkName(what, name string, most int) error {
	for i, c := range []byte(name) {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return fmt.Errorf("%s name %q has %q at index %d, need ASCII letters, digits and underscores, not beginning with a digit", what, name, c, i)
		}
	}
	if len(name) > most {
		return fmt.Errorf("%s name %q has %d bytes, need at most %d", what, name, len(name), most)
	}
	return nil
}

// text returns sql with its parameters in the syntax of the server.
func (d dialect) text(sql string) string {
	if !d.numbered {
		return sql
	}
	parts := strings.Split(sql, "?")
	for i := range parts[1:] {
		parts[i] += "$" + strconv.Itoa(i+1)
	}
	return strings.Join(parts, "")
}

// storedOne implements dialect.created for engines that do not count a row that
// was left unchanged.
func storedOne(res sql.Result) (bool, error) {
	n, err := res.RowsAffected()
	return n == 1, err
}
