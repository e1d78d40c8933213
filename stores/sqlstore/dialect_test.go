package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/sqlstore"
)

func refused(t *testing.T, driver, dsn string, d sqlstore.Dialect, remedy string) {
	t.Helper()
	_, err := sqlstore.New(open(t, driver, dsn), d, sqlstore.Options{})
	if err == nil || !strings.Contains(err.Error(), remedy) {
		t.Errorf("got %v, want an error that contains %q", err, remedy)
	}
}

func TestMySQLDialect(t *testing.T) {
	t.Parallel()
	e := mariaDB(t)
	t.Run("a connection without clientFoundRows is refused", func(t *testing.T) {
		refused(t, "mysql", "root@tcp("+e.where+")/app", sqlstore.MySQL, "clientFoundRows=true")
	})
	t.Run("a connection without autocommit is refused", func(t *testing.T) {
		refused(t, "mysql", "root@tcp("+e.where+")/app?clientFoundRows=true&autocommit=0", sqlstore.MySQL, "autocommit")
	})
	t.Run("the table of labels is known however the server quotes names", func(t *testing.T) {
		for _, set := range []string{"sql_mode=%27ANSI_QUOTES%27", "sql_quote_show_create=0"} {
			db := open(t, "mysql", e.dsn(e.where)+"&"+set)
			opt := sqlstore.Options{Table: newTable(), Labels: true}
			for range 2 {
				worksWithLabels(t, e.storeWith(t, db, opt))
			}
			worksWithLabels(t, e.unmigrated(t, db, opt))
		}
	})
	t.Run("a user with the privileges of operations gets the error about clientFoundRows too", func(t *testing.T) { testCountsChanged(t, e) })
	t.Run("the privileges in the README are enough, and none can be left out", func(t *testing.T) {
		testPrivileges(t, e, "MySQL and MariaDB", func(user string) string { return user + "@tcp(" + e.where + ")/app?clientFoundRows=true" })
	})
	t.Run("Migrate of an existing table needs no privilege to create and does not wait for writers", func(t *testing.T) {
		root := e.open(t, e.where)
		create(t, e.store(t, root, "there"), sessions.ID{}, nil, time.Hour)
		run(t, root, "CREATE USER reader")
		run(t, root, "GRANT SELECT, INSERT, UPDATE, DELETE ON app.* TO reader")
		tx, err := root.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(t.Context(), "UPDATE there SET version = version + 1"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		s, err := sqlstore.New(open(t, "mysql", "reader@tcp("+e.where+")/app?clientFoundRows=true"), sqlstore.MySQL, sqlstore.Options{Table: "there"})
		if err == nil {
			err = s.Migrate(ctx)
		}
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("a table with shorter data or unsigned numbers is refused", func(t *testing.T) {
		db := e.open(t, e.where)
		for _, change := range [][2]string{{"data {blob}", "data MEDIUMBLOB"}, {"owner {blob}", "owner BLOB"}, {"owner_hash {int}", "owner_hash {int} UNSIGNED"}, {"id {id}", "id BINARY(16)"}} {
			table := newTable()
			run(t, db, e.in(strings.Replace(ownTable, change[0], change[1], 1), table))
			e.refuses(t, db, table, "Options.Table", "column "+strings.Fields(change[0])[0]+" has type")
		}
	})
	t.Run("a table whose name differs in case is another one", func(t *testing.T) {
		db := e.open(t, e.where)
		run(t, db, "CREATE TABLE CASED (token CHAR(43) PRIMARY KEY, data LONGBLOB NOT NULL)")
		works(t, e.store(t, db, "cased"))
		e.refuses(t, db, "CASED", "Options.Table")
	})
	t.Run("a connection without a database is refused", func(t *testing.T) {
		err := e.unmigrated(t, open(t, "mysql", "root@tcp("+e.where+")/?clientFoundRows=true"), sqlstore.Options{}).Migrate(t.Context())
		if err == nil || !strings.Contains(err.Error(), "DSN") {
			t.Errorf("got %v, want an error that names the DSN", err)
		}
	})
	t.Run("a schema is refused", func(t *testing.T) { refusesSchema(t, e, "DSN") })
	t.Run("an operation is prepared once for each connection", func(t *testing.T) {
		root, db := e.open(t, e.where), e.open(t, e.where)
		db.SetMaxOpenConns(1)
		s := e.store(t, db, newTable())
		prepared := func() (n int) {
			get(t, root, &n, "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'Com_stmt_prepare'")
			return n
		}
		before := prepared()
		for i := range 20 {
			create(t, s, sessions.ID{byte(i)}, nil, time.Hour)
			if _, err := s.Load(t.Context(), sessions.ID{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		if got := prepared() - before; got != 2 {
			t.Errorf("20 Creates and 20 Loads prepared %d statements, want 2", got)
		}
	})
	t.Run("Create replaces an expired record whatever the mode of the server", func(t *testing.T) {
		for _, mode := range []string{"", "ANSI,TRADITIONAL", "SIMULTANEOUS_ASSIGNMENT,STRICT_ALL_TABLES", "ORACLE"} {
			db := open(t, "mysql", "root@tcp("+e.where+")/app?clientFoundRows=true&sql_mode=%27"+mode+"%27")
			s := e.store(t, db, newTable())
			id := sessions.ID{1}
			create(t, s, id, []byte("old"), -time.Hour)
			version, err := s.Create(t.Context(), id, sessions.Record{Data: []byte("new"), Expires: time.Now().Add(time.Hour)})
			rec, loadErr := s.Load(t.Context(), id)
			if err != nil || loadErr != nil || string(rec.Data) != "new" || rec.Owner != "" || rec.Version != version {
				t.Errorf("mode %q: got %v, %q, %v, %v", mode, rec, rec.Data, err, loadErr)
			}
		}
	})
}

func TestPostgreSQLDialect(t *testing.T) {
	t.Parallel()
	e := postgreSQL(t)
	e.store(t, e.open(t, e.where), "")
	// Some settings of PgBouncer need a mode other than the default.
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run("it works in pgx's mode "+mode, func(t *testing.T) {
			db := open(t, "pgx", e.dsn(e.where)+"&default_query_exec_mode="+mode)
			s := e.store(t, db, "")
			id := sessions.ID{1}
			create(t, s, id, []byte{0, 0xff}, -time.Hour)
			create(t, s, id, []byte{0, 0xff}, time.Hour)
			rec, err := s.Load(t.Context(), id)
			if err != nil || len(rec.Data) != 2 || rec.Owner != "ada" {
				t.Errorf("Load: got %v, %v", rec, err)
			}
			if rec.Version, err = s.Update(t.Context(), id, rec); err != nil {
				t.Errorf("Update: %v", err)
			}
			if err := s.Touch(t.Context(), id, rec.Expires); err != nil {
				t.Errorf("Touch: %v", err)
			}
			for got, err := range s.Owned(t.Context(), "ada") {
				if err != nil || got != id {
					t.Errorf("Owned: got %v, %v", got, err)
				}
			}
			if n, err := s.Sweep(t.Context()); n != 0 || err != nil {
				t.Errorf("Sweep: got %d, %v", n, err)
			}
			if err := s.Delete(t.Context(), id, rec.Version); err != nil {
				t.Errorf("Delete: %v", err)
			}
			worksWithLabels(t, e.storeWith(t, db, sqlstore.Options{Table: "labelled", Labels: true}))
		})
	}
	t.Run("the privileges in the README are enough, and none can be left out", func(t *testing.T) {
		testPrivileges(t, e, "PostgreSQL", func(user string) string { return "postgres://" + user + "@" + e.where + "/app?sslmode=disable" })
	})
	t.Run("bytea_output = escape can be read where the README says so", func(t *testing.T) {
		for mode, reads := range map[string]bool{"cache_statement": true, "cache_describe": true, "describe_exec": true, "exec": false, "simple_protocol": false} {
			s := e.store(t, open(t, "pgx", e.dsn(e.where)+"&bytea_output=escape&default_query_exec_mode="+mode), newTable())
			create(t, s, sessions.ID{1}, []byte{0, 0xff}, time.Hour)
			if rec, err := s.Load(t.Context(), sessions.ID{1}); (err == nil && len(rec.Data) == 2) != reads {
				t.Errorf("%s: Load got %v, %v, want that it reads: %v", mode, rec, err, reads)
			}
		}
	})
	t.Run("a table that cannot be swept or written is refused", func(t *testing.T) {
		db := e.open(t, e.where)
		for create, problem := range map[string]string{
			ownTable + " PARTITION BY HASH (id)":                            "it is a partitioned table",
			strings.Replace(ownTable, "KEY (id)", "KEY (id) DEFERRABLE", 1): "its primary key is (), need (id)",
		} {
			table := newTable()
			run(t, db, e.in(create, table))
			e.refuses(t, db, table, "Options.Table", problem)
		}
	})
	t.Run("an index that is not valid is refused", func(t *testing.T) {
		db, table := e.open(t, e.where), newTable()
		e.store(t, db, table)
		run(t, db, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '"+table+"_owner'::regclass")
		if err := e.unmigrated(t, db, sqlstore.Options{Table: table}).Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "not valid") {
			t.Errorf("got %v, want an error that says that the index is not valid", err)
		}
	})
	t.Run("Migrate of an existing table needs no privilege to create and does not wait for writers", func(t *testing.T) {
		db := e.open(t, e.where)
		run(t, db, "CREATE USER plain")
		run(t, db, "GRANT SELECT, INSERT, UPDATE, DELETE ON sessions TO plain")
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(t.Context(), "UPDATE sessions SET version = version"); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), "LOCK TABLE sessions IN SHARE UPDATE EXCLUSIVE MODE"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		s, err := sqlstore.New(open(t, "pgx", "postgres://plain@"+e.where+"/postgres?sslmode=disable"), sqlstore.PostgreSQL, sqlstore.Options{})
		if err == nil {
			err = s.Migrate(ctx)
		}
		if err != nil {
			t.Error(err)
		}
	})
}

func TestSQLiteDialect(t *testing.T) {
	t.Parallel()
	t.Run("a connection without a busy timeout is refused", func(t *testing.T) {
		refused(t, "sqlite", "file:"+filepath.Join(t.TempDir(), "x.db"), sqlstore.SQLite, "busy_timeout")
	})
	t.Run("a database in memory is refused by Migrate", func(t *testing.T) {
		s, err := sqlstore.New(open(t, "sqlite", "file::memory:?_pragma=busy_timeout(5000)"), sqlstore.SQLite, sqlstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "wal") {
			t.Errorf("got %v, want an error that names the journal mode", err)
		}
	})
	t.Run("a table without rowids is refused", func(t *testing.T) {
		e := sqLite(t)
		db := e.open(t, e.where)
		run(t, db, e.in(ownTable+" WITHOUT ROWID", "sessions"))
		e.refuses(t, db, "sessions", "Options.Table", "it is a table WITHOUT ROWID")
	})
	t.Run("a table whose name differs in case only is looked at", func(t *testing.T) {
		e := sqLite(t)
		db := e.open(t, e.where)
		run(t, db, "CREATE TABLE Sessions (token CHAR(43) PRIMARY KEY, data BLOB NOT NULL)")
		e.refuses(t, db, "sessions", "Options.Table")
	})
	t.Run("a schema is refused", func(t *testing.T) { refusesSchema(t, sqLite(t), "open another file") })
	t.Run("Migrate leaves no transaction if its context ends when BEGIN has run", func(t *testing.T) {
		e := sqLite(t)
		fails := true
		db := sql.OpenDB(lateConnector{e.open(t, e.where).Driver(), e.dsn(e.where), &fails})
		defer db.Close()
		db.SetMaxOpenConns(1)
		s := e.unmigrated(t, db, sqlstore.Options{Labels: true})
		if err := s.Migrate(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the error of the context", err)
		}
		fails = false
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatalf("the next Migrate, over the same connection: %v", err)
		}
		worksWithLabels(t, s)
	})
	t.Run("Migrate switches the file to write-ahead logging", func(t *testing.T) {
		e := sqLite(t)
		db := e.open(t, e.where)
		e.store(t, db, "")
		var mode string
		if get(t, db, &mode, "PRAGMA journal_mode"); mode != "wal" {
			t.Errorf("got %q, want wal", mode)
		}
	})
}

func TestUnknownDialectIsRefused(t *testing.T) {
	for _, d := range []sqlstore.Dialect{0, 4, -1} {
		if _, err := sqlstore.New(nil, d, sqlstore.Options{}); err == nil {
			t.Errorf("%v: got no error", d)
		}
	}
}

func TestNoDriverIsImported(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, driver := range []string{"jackc", "go-sql-driver", "modernc", "testing"} {
		if strings.Contains(string(out), driver) {
			t.Errorf("the package imports %s", driver)
		}
	}
}

func TestReadmeShowsTheExamples(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(strings.Replace(string(examples), "package sqlstore_test", "package main", 1), "\nfunc ")
	if len(parts) != 6 {
		t.Fatalf("got %d parts, want 6: the imports and the type, 2 functions and 3 examples", len(parts))
	}
	for _, part := range parts {
		if name, body, ok := strings.Cut(part, "() {"); ok && strings.HasPrefix(name, "Example") {
			part = "main() {" + body
		}
		if !strings.Contains(string(readme), strings.TrimSpace(part)) {
			t.Errorf("README.md lacks\n%s", part)
		}
	}
}

// A lateConnector opens connections whose BEGIN IMMEDIATE returns an error after it
// has run, while fails is true.
type lateConnector struct {
	driver driver.Driver
	dsn    string
	fails  *bool
}

func (c lateConnector) Driver() driver.Driver { return c.driver }

func (c lateConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	return lateConn{conn, c.fails}, err
}

type lateConn struct {
	driver.Conn
	fails *bool
}

func (c lateConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	res, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	if err == nil && query == "BEGIN IMMEDIATE" && *c.fails {
		return nil, context.Canceled
	}
	return res, err
}
