// Package sqlstore stores sessions in PostgreSQL, MySQL, MariaDB or SQLite,
// through database/sql. It imports no driver. The application opens the database
// with a driver of its choice, for instance github.com/jackc/pgx/v5/stdlib,
// github.com/go-sql-driver/mysql or modernc.org/sqlite.
//
//	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL"))
//	store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Options{})
//	err = store.Migrate(ctx)
//	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: keys, Store: store})
//
// Each operation is one statement and one round trip. An Update or Delete that
// found no row to write takes another one to tell a conflict from absence. The
// first operation of a Store also looks at its table, unless [Store.Migrate] has.
//
// With [Options.Labels] the Store keeps the labels of sessions, for Config.Labels. It
// changes a record and its labels in one transaction. Only an operation that sets or
// changes labels takes more round trips for them; the README has the figures.
//
// A statement that the server rolled back because of a concurrent one, after
// a deadlock or at a strict isolation level, is executed again. After any other
// error the outcome of a write may be unknown, and it is not repeated.
//
// Sessions expire by the clock of the application; the clock and the time zone
// of the server do not matter. An operation uses the time at which it began, so
// that one that waited for a connection or a lock may prolong a session that
// expired meanwhile. The clocks of applications that share a table must agree:
// an application whose clock is fast ends sessions early, and its Sweep deletes
// them.
//
// Operations do not see expired sessions, but the rows stay in the table until
// [Store.Sweep] deletes them. Call Sweep from a ticker, about every ten minutes.
//
// The README lists the settings and the privileges that each engine needs.
package sqlstore
