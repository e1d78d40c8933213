package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/sqlstore"
	_ "modernc.org/sqlite"
)

// An engine is a database that tests share, and the way to open it.
type engine struct {
	dialect sqlstore.Dialect
	driver  string
	dsn     func(where string) string
	where   string             // host:port, or a file name
	server  *testserver.Server // nil for SQLite

	// commands returns a function that returns the number of commands that the
	// server has executed, not counting those of commands itself.
	commands func(t testing.TB, db *sql.DB) func() int

	// idType, intType and blobType are the SQL types of the columns.
	idType, intType, blobType string

	// size is a query for the size of a table and its index, in bytes.
	size string
}

// inChild reports whether a test started this process, and returns the location
// of the parent's database, which it uses.
func inChild() (where string, ok bool) { return os.LookupEnv("STORETEST_WHERE") }

// The time zone of the servers differs from UTC, and not by whole hours.
func postgreSQL(t testing.TB) engine {
	e := engine{
		dialect: sqlstore.PostgreSQL,
		driver:  "pgx",
		dsn:     func(addr string) string { return "postgres://postgres@" + addr + "/postgres?sslmode=disable" },
		commands: func(t testing.TB, db *sql.DB) func() int {
			run(t, db, `CREATE EXTENSION pg_stat_statements`)
			return func() (n int) {
				get(t, db, &n, `SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE toplevel AND query NOT LIKE '%pg_stat_statements%'`)
				return n
			}
		},
		idType: "bytea", intType: "bigint", blobType: "bytea",
		size: `SELECT pg_total_relation_size('{table}')`,
	}
	if _, ok := inChild(); !ok {
		e.server = testserver.Postgres(t, "timezone=Asia/Kathmandu", "shared_preload_libraries=pg_stat_statements")
		e.where = e.server.Addr
	}
	return e
}

func mariaDB(t testing.TB) engine {
	e := engine{
		dialect: sqlstore.MySQL,
		driver:  "mysql",
		dsn:     func(addr string) string { return "root@tcp(" + addr + ")/app?clientFoundRows=true" },
		commands: func(t testing.TB, db *sql.DB) func() int {
			asked := 0
			return func() (n int) {
				get(t, db, &n, `SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'Questions'`)
				asked++
				return n - asked
			}
		},
		idType: "BINARY(32)", intType: "BIGINT", blobType: "LONGBLOB",
		size: `SELECT SUM(FILE_SIZE) FROM information_schema.INNODB_SYS_TABLESPACES WHERE NAME = 'app/{table}'`,
	}
	if _, ok := inChild(); !ok {
		e.server = testserver.MariaDB(t, "--default-time-zone=+05:45")
		e.where = e.server.Addr
		db := open(t, "mysql", "root@tcp("+e.where+")/")
		run(t, db, "CREATE DATABASE app")
	}
	return e
}

func sqLite(t testing.TB) engine {
	return engine{
		dialect: sqlstore.SQLite,
		driver:  "sqlite",
		dsn: func(file string) string {
			return "file:" + file + "?_pragma=busy_timeout(5000)&_pragma=synchronous(NORMAL)"
		},
		where:  filepath.Join(t.TempDir(), "sessions.db"),
		idType: "BLOB", intType: "INTEGER", blobType: "BLOB",
		size: `SELECT page_count * page_size FROM pragma_page_count, pragma_page_size`,
	}
}

// open opens the database at where, which may be the address of a proxy, with the
// settings of the README.
func (e engine) open(t testing.TB, where string) *sql.DB {
	t.Helper()
	db := open(t, e.driver, e.dsn(where))
	if e.dialect == sqlstore.SQLite {
		db.SetMaxOpenConns(2)
	}
	return db
}

func open(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

var tables atomic.Int64

// newTable returns the name of a table that does not exist yet.
func newTable() string { return fmt.Sprintf("sessions_%d", tables.Add(1)) }

// store opens a Store in a table, and creates the table if it does not exist.
func (e engine) store(t testing.TB, db *sql.DB, table string) *sqlstore.Store {
	t.Helper()
	return e.storeWith(t, db, sqlstore.Options{Table: table})
}

func (e engine) storeWith(t testing.TB, db *sql.DB, opt sqlstore.Options) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.New(db, e.dialect, opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// fresh opens an empty Store with its own connections.
func (e engine) fresh(t testing.TB) sessions.Store {
	t.Helper()
	return e.store(t, e.open(t, e.where), newTable())
}

// freshWithLabels is fresh with Options.Labels.
func (e engine) freshWithLabels(t testing.TB) sessions.Store {
	t.Helper()
	return e.storeWith(t, e.open(t, e.where), sqlstore.Options{Table: newTable(), Labels: true})
}

func run(t testing.TB, db *sql.DB, text string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), text, args...); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// get scans one value into dest.
func get(t testing.TB, db *sql.DB, dest any, text string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := db.QueryRowContext(ctx, text, args...).Scan(dest); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}
