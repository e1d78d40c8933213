// Package sqlstore keeps sessions in PostgreSQL, MySQL, MariaDB or SQLite,
// through database/sql. It imports no driver: the application opens the database
// with the one it likes, for instance github.com/jackc/pgx/v5/stdlib,
// github.com/go-sql-driver/mysql or modernc.org/sqlite.
//
//	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL"))
//	store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Options{})
//	err = store.Migrate(ctx)
//	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: keys, Store: store})
//
// Each operation is one statement, and one round trip; an Update or a Delete
// that found nothing to write takes a second one to tell why. Whether a session
// has expired is judged by the clock of the application, so that neither the
// clock nor the time zone of the server matters. An operation judges by the
// moment it began: one that waited for a connection or a lock may prolong
// a session that expired meanwhile. Clocks of applications that share a table
// must agree: one that is ahead ends sessions early, and its Sweep deletes them.
//
// Expired sessions are invisible, and stay in the table until [Store.Sweep] is
// called: call it from a ticker, about once in ten minutes.
//
// The README says what the operator of each engine has to set.
package sqlstore
