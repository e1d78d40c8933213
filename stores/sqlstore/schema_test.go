package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/sqlstore"
)

const ownTable = `CREATE TABLE {table} (
	id {id} NOT NULL, version {int} NOT NULL, expires {int} NOT NULL, owner_hash {int}, owner {blob}, data {blob} NOT NULL,
	PRIMARY KEY (id))`

// in replaces the placeholders of text by a table and by the types of the engine.
func (e engine) in(text, table string) string {
	return strings.NewReplacer("{table}", table, "{id}", e.idType, "{int}", e.intType, "{blob}", e.blobType).Replace(text)
}

// unmigrated returns a Store without calling Migrate.
func (e engine) unmigrated(t testing.TB, db *sql.DB, opt sqlstore.Options) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.New(db, e.dialect, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// operations calls every operation of a Store.
var operations = map[string]func(ctx context.Context, s *sqlstore.Store) error{
	"Load": func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.Load(ctx, sessions.ID{1})
		return err
	},
	"Create": func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.Create(ctx, sessions.ID{1}, sessions.Record{Expires: time.Now().Add(time.Hour)})
		return err
	},
	"Update": func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.Update(ctx, sessions.ID{1}, sessions.Record{Version: 1, Expires: time.Now().Add(time.Hour)})
		return err
	},
	"Touch": func(ctx context.Context, s *sqlstore.Store) error {
		return s.Touch(ctx, sessions.ID{1}, time.Now().Add(time.Hour))
	},
	"Delete":              func(ctx context.Context, s *sqlstore.Store) error { return s.Delete(ctx, sessions.ID{1}, 0) },
	"Delete of a version": func(ctx context.Context, s *sqlstore.Store) error { return s.Delete(ctx, sessions.ID{1}, 1) },
	"Owned": func(ctx context.Context, s *sqlstore.Store) error {
		for _, err := range s.Owned(ctx, "ada") {
			return err
		}
		return nil
	},
	"Sweep": func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.Sweep(ctx)
		return err
	},
}

// refuses checks that Migrate, and the first operation of a Store, return an
// error that contains each of the parts.
func (e engine) refuses(t *testing.T, db *sql.DB, table string, parts ...string) {
	t.Helper()
	check := func(name string, err error) {
		t.Helper()
		for _, part := range parts {
			if err == nil || errors.Is(err, sessions.ErrNotFound) || errors.Is(err, sessions.ErrConflict) || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: got %v, want an error with %q", name, err, part)
			}
		}
	}
	check("Migrate", e.unmigrated(t, db, sqlstore.Options{Table: table}).Migrate(t.Context()))
	for name, operation := range operations {
		check("a first "+name, operation(t.Context(), e.unmigrated(t, db, sqlstore.Options{Table: table})))
	}
}

var schemaClaims = []claim{
	{"a table that is not of this package is refused, and the error names Options.Table", func(t *testing.T, e engine) {
		db := e.open(t, e.where)
		for _, tt := range []struct{ name, create, problem string }{
			{"that of scs", "CREATE TABLE {table} (token CHAR(43) PRIMARY KEY, data {blob} NOT NULL, expiry {int} NOT NULL)", "it lacks the columns id, version, expires, owner_hash, owner"},
			{"one with the same columns and another key", strings.Replace(ownTable, "KEY (id)", "KEY (id, version)", 1), "its primary key is (id, version), need (id)"},
			{"one without a key", strings.Replace(ownTable, ",\n\tPRIMARY KEY (id)", "", 1), "its primary key is (), need (id)"},
			{"one with a key of another column", strings.Replace(ownTable, "KEY (id)", "KEY (version)", 1), "its primary key is (version), need (id)"},
			{"one whose id is text", strings.Replace(ownTable, "id {id}", "id CHAR(32)", 1), "column id has type"},
			{"one whose data is text", strings.Replace(ownTable, "data {blob}", "data TEXT", 1), "column data has type"},
			{"one whose expiry is a time", strings.Replace(ownTable, "expires {int}", "expires TIMESTAMP", 1), "column expires has type"},
			{"one whose version is small", strings.Replace(ownTable, "version {int}", "version SMALLINT", 1), "column version has type"},
			{"one without an owner", strings.Replace(ownTable, "owner {blob},", "", 1), "it lacks the columns owner"},
			{"one where every session has an owner", strings.Replace(ownTable, "owner {blob}", "owner {blob} NOT NULL", 1), "column owner is NOT NULL"},
			{"one with a further column that needs a value", strings.Replace(ownTable, "id {id}", "tenant {int} NOT NULL, id {id}", 1), "its column tenant needs a value"},
			{"a view", "CREATE VIEW {table} AS SELECT 1 AS id, 2 AS version, 3 AS expires, 4 AS owner_hash, 5 AS owner, 6 AS data", "it is a view"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				table := newTable()
				run(t, db, e.in(tt.create, table))
				e.refuses(t, db, table, "Options.Table", tt.problem)
			})
		}
	}},
	{"a refused table stays as it is", func(t *testing.T, e engine) {
		// A file of its own for SQLite, since Migrate changes the whole file.
		if e.dialect == sqlstore.SQLite {
			e = sqLite(t)
		}
		db, table := e.open(t, e.where), newTable()
		run(t, db, e.in("CREATE TABLE {table} (token CHAR(43) PRIMARY KEY, owner_hash {int}, id CHAR(43), data {blob} NOT NULL, expiry {int} NOT NULL)", table))
		run(t, db, "INSERT INTO "+table+" (token, data, expiry) VALUES ('x', 'y', 1)")
		s := e.unmigrated(t, db, sqlstore.Options{Table: table})
		if err := s.Migrate(t.Context()); err == nil {
			t.Error("Migrate got no error")
		}
		for name, operation := range operations {
			if err := operation(t.Context(), s); err == nil || errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("%s got %v, want an error", name, err)
			}
		}
		var n int
		if get(t, db, &n, "SELECT COUNT(*) FROM "+table); n != 1 {
			t.Errorf("it has %d rows, want 1", n)
		}
		indexes := map[sqlstore.Dialect]string{
			sqlstore.PostgreSQL: "SELECT COUNT(*) FROM pg_indexes WHERE tablename = '" + table + "'",
			sqlstore.MySQL:      "SELECT COUNT(*) FROM information_schema.STATISTICS WHERE TABLE_NAME = '" + table + "'",
			sqlstore.SQLite:     "SELECT COUNT(*) FROM sqlite_master WHERE type = 'index' AND tbl_name = '" + table + "'",
		}
		if get(t, db, &n, indexes[e.dialect]); n != 1 {
			t.Errorf("it has %d indexes, want that of its key", n)
		}
		if e.dialect == sqlstore.SQLite {
			var mode string
			if get(t, db, &mode, "PRAGMA journal_mode"); mode != "delete" {
				t.Errorf("the file of another library has journal mode %q now, want delete", mode)
			}
		}
	}},
	{"a table that was created by hand is used, and Migrate adds its index", func(t *testing.T, e engine) {
		db := e.open(t, e.where)
		for name, create := range map[string]string{
			"with the same definition":          ownTable,
			"with a further column":             strings.Replace(ownTable, "id {id}", "note {blob}, id {id}", 1),
			"with a further column and default": strings.Replace(ownTable, "id {id}", "shard {int} DEFAULT 7 NOT NULL, id {id}", 1),
			"with columns in another order":     strings.Replace(ownTable, "id {id} NOT NULL, version {int} NOT NULL", "version {int} NOT NULL, id {id} NOT NULL", 1),
		} {
			t.Run(name, func(t *testing.T) {
				table := newTable()
				run(t, db, e.in(create, table))
				s := e.unmigrated(t, db, sqlstore.Options{Table: table})
				works(t, s)
				if err := s.Migrate(t.Context()); err != nil {
					t.Fatal(err)
				}
				works(t, e.unmigrated(t, db, sqlstore.Options{Table: table}))
				var n int
				index := map[sqlstore.Dialect]string{
					sqlstore.PostgreSQL: "SELECT COUNT(*) FROM pg_indexes WHERE tablename = '{table}' AND indexname = '{table}_owner'",
					sqlstore.MySQL:      "SELECT COUNT(*) FROM information_schema.STATISTICS WHERE TABLE_NAME = '{table}' AND INDEX_NAME = '{table}_owner'",
					sqlstore.SQLite:     "SELECT COUNT(*) FROM sqlite_master WHERE type = 'index' AND tbl_name = '{table}' AND name = '{table}_owner'",
				}[e.dialect]
				if get(t, db, &n, e.in(index, table)); n != 1 {
					t.Errorf("got %d indexes of the owner, want 1", n)
				}
			})
		}
	}},
	{"an index of that name with other columns is refused", func(t *testing.T, e engine) {
		db, table := e.open(t, e.where), newTable()
		run(t, db, e.in(ownTable, table))
		run(t, db, e.in("CREATE INDEX {table}_owner ON {table} (expires)", table))
		err := e.unmigrated(t, db, sqlstore.Options{Table: table}).Migrate(t.Context())
		if err == nil || !strings.Contains(err.Error(), "drop it") {
			t.Errorf("got %v, want an error that says to drop it", err)
		}
		// Operations are right without an index.
		works(t, e.unmigrated(t, db, sqlstore.Options{Table: table}))
	}},
	{"an index of that name on another table is not taken for ours", func(t *testing.T, e engine) {
		db, table := e.open(t, e.where), newTable()
		run(t, db, e.in("CREATE TABLE orders_{table} (owner_hash {int}, id {int})", table))
		run(t, db, e.in("CREATE INDEX {table}_owner ON orders_{table} (owner_hash, id)", table))
		s := e.unmigrated(t, db, sqlstore.Options{Table: table})
		err := s.Migrate(t.Context())
		if e.dialect == sqlstore.MySQL { // index names belong to their table
			if err != nil {
				t.Error(err)
			}
			works(t, s)
			return
		}
		if err == nil || !strings.Contains(err.Error(), "Options.Table") || !strings.Contains(err.Error(), "table orders_"+table) {
			t.Errorf("got %v, want an error that names Options.Table and the other table", err)
		}
		if _, err := s.Load(t.Context(), sessions.ID{1}); err == nil || !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("Load: got %v, want that the table does not exist", err)
		}
	}},
	{"an operation without the table says to call Migrate", func(t *testing.T, e engine) {
		db := e.open(t, e.where)
		for name, operation := range operations {
			err := operation(t.Context(), e.unmigrated(t, db, sqlstore.Options{Table: newTable()}))
			if err == nil || !strings.Contains(err.Error(), "does not exist") || !strings.Contains(err.Error(), "Migrate") {
				t.Errorf("%s: got %v, want an error that names Migrate", name, err)
			}
		}
	}},
	{"Migrate and the first operation need one connection", func(t *testing.T, e engine) {
		db := e.open(t, e.where)
		db.SetMaxOpenConns(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		table := newTable()
		if err := e.unmigrated(t, db, sqlstore.Options{Table: table}).Migrate(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := e.unmigrated(t, db, sqlstore.Options{Table: table}).Sweep(ctx); err != nil {
			t.Error(err)
		}
	}},
}

// works stores a session, reads it and deletes it.
func works(t *testing.T, s *sqlstore.Store) {
	t.Helper()
	id := sessions.ID{1}
	create(t, s, id, []byte("x"), time.Hour)
	rec, err := s.Load(t.Context(), id)
	if err == nil && string(rec.Data) != "x" {
		err = fmt.Errorf("got data %q, want x", rec.Data)
	}
	if err == nil {
		err = s.Delete(t.Context(), id, rec.Version)
	}
	if err != nil {
		t.Error(err)
	}
}
