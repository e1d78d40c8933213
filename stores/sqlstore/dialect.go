package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"strconv"
	"strings"
)

// A Dialect is the SQL of one kind of server.
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

// A dialect is where the servers differ. In its SQL, {table} and {index} stand
// for the quoted names, and every parameter is a question mark.
type dialect struct {
	quote    string
	numbered bool // parameters are $1, $2
	prepared bool // by the Store, since the driver would do it at each execution

	later string // the greater of expires and a parameter

	// overExpired ends the INSERT of Create: it replaces a record that is expired
	// at the time that each of its parameters is, and leaves any other alone.
	// nows is how many it has. created says from the result whether the record
	// was stored.
	overExpired string
	nows        int
	created     func(sql.Result) (bool, error)

	// sweep deletes what is expired, at the time of its last parameter, between
	// two places in the table: the first two. ranges are pairs of places, in
	// the order of the disk, so that between the two of a pair there is little
	// and all of them cover the table.
	sweep  string
	ranges func(ctx context.Context, db *sql.DB, n names) iter.Seq2[[2]any, error]

	// check refuses connections that this package cannot work with.
	check   func(context.Context, *sql.DB) error
	migrate func(context.Context, *sql.DB, names) error
}

// names are the identifiers of one Store.
type names struct {
	table       string // as in Options
	index       string
	quoted      string // table
	quotedIndex string
}

// maxTable leaves room for the name of the index in the 63 bytes that PostgreSQL
// gives to a name; it cuts longer ones.
const maxTable = 48

func (d dialect) names(table string) (names, error) {
	if table == "" {
		table = "sessions"
	}
	for i, c := range []byte(table) {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return names{}, fmt.Errorf("table name %q has %q at %d, need letters, digits and underscores, no digit first", table, c, i)
		}
	}
	if len(table) > maxTable {
		return names{}, fmt.Errorf("table name %q has %d bytes, need at most %d", table, len(table), maxTable)
	}
	index := table + "_owner"
	return names{table, index, d.quote + table + d.quote, d.quote + index + d.quote}, nil
}

// in returns SQL with these names in their places.
func (n names) in(sql string) string {
	return strings.NewReplacer("{table}", n.quoted, "{index}", n.quotedIndex).Replace(sql)
}

// text returns SQL with the parameters as the server takes them.
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

// storedOne is the created of engines that count a row that was left alone as none.
func storedOne(res sql.Result) (bool, error) {
	n, err := res.RowsAffected()
	return n == 1, err
}
