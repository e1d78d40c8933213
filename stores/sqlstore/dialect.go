package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"strconv"
	"strings"
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

// A dialect holds the differences between the servers. In its SQL, {table} and
// {index} stand for the quoted names, and every parameter is a question mark.
type dialect struct {
	quote    string
	numbered bool // parameters are $1, $2
	prepared bool // the Store prepares statements, since the driver would do it at each execution

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
	check   func(context.Context, *sql.DB) error
	migrate func(context.Context, *sql.DB, names) error
}

// names holds the identifiers of a Store.
type names struct {
	table       string // as in Options
	index       string
	quoted      string // table
	quotedIndex string
}

// maxTable leaves room for the name of the index: PostgreSQL truncates names to
// 63 bytes.
const maxTable = 48

func (d dialect) names(table string) (names, error) {
	if table == "" {
		table = "sessions"
	}
	for i, c := range []byte(table) {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return names{}, fmt.Errorf("table name %q has %q at index %d, need ASCII letters, digits and underscores, not beginning with a digit", table, c, i)
		}
	}
	if len(table) > maxTable {
		return names{}, fmt.Errorf("table name %q has %d bytes, need at most %d", table, len(table), maxTable)
	}
	index := table + "_owner"
	return names{table, index, d.quote + table + d.quote, d.quote + index + d.quote}, nil
}

// in returns sql with {table} and {index} replaced by the names.
func (n names) in(sql string) string {
	return strings.NewReplacer("{table}", n.quoted, "{index}", n.quotedIndex).Replace(sql)
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
