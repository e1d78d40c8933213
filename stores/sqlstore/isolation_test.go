package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/sqlstore"
)

func TestPostgreSQLIsolation(t *testing.T) {
	t.Parallel()
	e := postgreSQL(t)
	for _, level := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			testOtherWriter(t, e, e.dsn(e.where)+"&default_transaction_isolation="+url.PathEscape(level),
				`SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'`)
		})
	}
	testRolledBack(t, e, "40001", "40P01", "P0001", func(table, when, code, limit string) []string {
		return []string{
			"CREATE SEQUENCE " + table + "_tries",
			fmt.Sprintf(`CREATE FUNCTION %s_fail() RETURNS trigger AS $$ BEGIN
				IF nextval('%[1]s_tries') <= %s THEN RAISE EXCEPTION 'no' USING ERRCODE = '%s'; END IF;
				IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$ LANGUAGE plpgsql`, table, limit, code),
			fmt.Sprintf("CREATE TRIGGER fail BEFORE %s ON %s FOR EACH ROW EXECUTE FUNCTION %[2]s_fail()", when, table),
		}
	}, "SELECT last_value FROM %s_tries")
}

// The table of transactions would be a copy that is up to 100 ms old.
const mariaDBBlocked = `SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'INNODB_ROW_LOCK_CURRENT_WAITS'`

func TestMariaDBIsolation(t *testing.T) {
	t.Parallel()
	e := mariaDB(t)
	for _, tt := range []struct{ level, snapshot string }{{"REPEATABLE-READ", "OFF"}, {"REPEATABLE-READ", "ON"}, {"SERIALIZABLE", "ON"}} {
		t.Run(tt.level+", innodb_snapshot_isolation="+tt.snapshot, func(t *testing.T) {
			dsn := e.dsn(e.where) + "&tx_isolation=" + url.QueryEscape("'"+tt.level+"'") + "&innodb_snapshot_isolation=" + tt.snapshot
			testOtherWriter(t, e, dsn, mariaDBBlocked)
		})
	}
	testRolledBack(t, e, "1020", "1213", "1644", func(table, when, code, limit string) []string {
		return []string{
			"CREATE SEQUENCE " + table + "_tries NOCACHE",
			fmt.Sprintf(`CREATE TRIGGER %s_fail BEFORE %s ON %[1]s FOR EACH ROW
				IF NEXTVAL(%[1]s_tries) <= %[3]s THEN SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = %[4]s; END IF`, table, when, limit, code),
		}
	}, "SELECT next_not_cached_value - 1 FROM %s_tries")
	t.Run("Sweep ends although the server rolled it back after a deadlock", func(t *testing.T) {
		db, table := e.open(t, e.where), newTable()
		s := e.store(t, db, table)
		create(t, s, sessions.ID{1}, nil, -time.Hour)
		create(t, s, sessions.ID{2}, nil, -time.Hour)
		for i := range 100 { // the server rolls back the transaction that changed less
			create(t, s, sessions.ID{3, byte(i)}, nil, time.Hour)
		}
		tx := begin(t, db)
		execute(t, tx, "UPDATE "+table+" SET version = version + 1 WHERE id >= ?", []byte{2})
		ended := make(chan error, 1)
		go func() { _, err := s.Sweep(t.Context()); ended <- err }()
		awaitBlocked(t, db, mariaDBBlocked)
		execute(t, tx, "UPDATE "+table+" SET version = version + 1 WHERE id < ?", []byte{2})
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("Sweep: got %v", err)
		}
	})
}

func begin(t *testing.T, db *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

func execute(t *testing.T, tx *sql.Tx, text string, args ...any) {
	t.Helper()
	if _, err := tx.ExecContext(t.Context(), text, args...); err != nil {
		t.Fatal(err)
	}
}

// awaitBlocked waits until the query counts a statement that waits for a lock.
func awaitBlocked(t *testing.T, db *sql.DB, query string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		var n int
		if get(t, db, &n, query); n > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("after a minute, no statement waits for a lock")
		}
	}
}

// testOtherWriter runs each write while another transaction has changed the row
// and not committed. It must answer as if it had begun after the commit.
func testOtherWriter(t *testing.T, e engine, dsn, blocked string) {
	db, watcher := open(t, e.driver, dsn), e.open(t, e.where)
	later := time.Now().Add(2 * time.Hour).Truncate(time.Millisecond)
	for _, tt := range []struct {
		name  string
		other string // statement
		write func(ctx context.Context, s *sqlstore.Store, id sessions.ID, rec sessions.Record) error
		want  error
	}{
		{"Update after another Update", "SET version = 1", update, sessions.ErrConflict},
		{"Update after a Touch", "SET expires = expires + 1", update, nil},
		{"Update after a Delete", "", update, sessions.ErrNotFound},
		{"Touch after an Update", "SET version = 1", touch(later), nil},
		{"Touch after another Touch", "SET expires = expires + 1", touch(later), nil},
		{"Touch after a Delete", "", touch(later), sessions.ErrNotFound},
		{"Delete after an Update", "SET version = 1", func(ctx context.Context, s *sqlstore.Store, id sessions.ID, _ sessions.Record) error {
			return s.Delete(ctx, id, 0)
		}, nil},
		{"Delete of a version after an Update", "SET version = 1", remove, sessions.ErrConflict},
		{"Delete of a version after a Touch", "SET expires = expires + 1", remove, nil},
		{"Create after an Update", "SET version = 1", func(ctx context.Context, s *sqlstore.Store, id sessions.ID, rec sessions.Record) error {
			_, err := s.Create(ctx, id, rec)
			return err
		}, sessions.ErrExists},
	} {
		check := func(t *testing.T, labels ...string) {
			table, id := newTable(), sessions.ID{1}
			s := e.storeWith(t, db, sqlstore.Options{Table: table, Labels: labels != nil})
			create(t, s, id, []byte("old"), time.Hour)
			rec, err := s.Load(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			rec.Labels = labels
			tx := begin(t, db)
			if tt.other == "" {
				execute(t, tx, "DELETE FROM "+table)
			} else {
				execute(t, tx, "UPDATE "+table+" "+tt.other)
			}
			ended := make(chan error, 1)
			go func() { ended <- tt.write(t.Context(), s, id, rec) }()
			awaitBlocked(t, watcher, blocked)
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		}
		t.Run(tt.name, func(t *testing.T) { check(t) })
		t.Run(tt.name+", with new labels", func(t *testing.T) { check(t, "red", "blue") })
	}
}

func update(ctx context.Context, s *sqlstore.Store, id sessions.ID, rec sessions.Record) error {
	_, err := s.Update(ctx, id, rec)
	return err
}

func touch(expires time.Time) func(context.Context, *sqlstore.Store, sessions.ID, sessions.Record) error {
	return func(ctx context.Context, s *sqlstore.Store, id sessions.ID, _ sessions.Record) error {
		return s.Touch(ctx, id, expires)
	}
}

func remove(ctx context.Context, s *sqlstore.Store, id sessions.ID, rec sessions.Record) error {
	return s.Delete(ctx, id, rec.Version)
}

// testRolledBack makes a trigger fail the first tries of an Update with a code of
// a rollback, or with another one.
func testRolledBack(t *testing.T, e engine, rollback, deadlock, other string, trigger func(table, when, code, limit string) []string, tries string) {
	db := e.open(t, e.where)
	failing := func(t *testing.T, code, limit string) (update func(context.Context) error, count func() int) {
		table, id := newTable(), sessions.ID{1}
		s := e.store(t, db, table)
		create(t, s, id, nil, time.Hour)
		rec, err := s.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range trigger(table, "UPDATE", code, limit) {
			run(t, db, text)
		}
		update = func(ctx context.Context) error { _, err := s.Update(ctx, id, rec); return err }
		return update, func() (n int) { get(t, db, &n, fmt.Sprintf(tries, table)); return n }
	}
	for _, code := range []string{rollback, deadlock} {
		t.Run("a statement that the server rolled back is repeated: "+code, func(t *testing.T) {
			update, count := failing(t, code, "3")
			if err := update(t.Context()); err != nil || count() != 4 {
				t.Errorf("got %v after %d tries, want success after 4", err, count())
			}
		})
		t.Run("a change of labels that the server rolled back is repeated as a whole: "+code, func(t *testing.T) {
			table, id := newTable(), sessions.ID{1}
			s := e.storeWith(t, db, sqlstore.Options{Table: table, Labels: true})
			version := put(t, s, id, 0, "red")
			for _, text := range trigger(table+"_labels", "INSERT", code, "3") {
				run(t, db, text)
			}
			put(t, s, id, version, "blue")
			var n int
			if get(t, db, &n, fmt.Sprintf(tries, table+"_labels")); n != 4 {
				t.Errorf("got %d tries, want 4", n)
			}
			hasLabels(t, s, id, []string{"blue"}, "red")
			if n := entries(t, e, table); n != 1 {
				t.Errorf("got %d entries, want 1", n)
			}
		})
	}
	t.Run("a statement that failed otherwise is not repeated", func(t *testing.T) {
		update, count := failing(t, other, "3")
		if err := update(t.Context()); err == nil || count() != 1 {
			t.Errorf("got %v after %d tries, want an error after 1", err, count())
		}
	})
	t.Run("a statement that is always rolled back returns the error of the server", func(t *testing.T) {
		update, count := failing(t, rollback, "1000000")
		if err := update(t.Context()); err == nil || !strings.Contains(err.Error(), rollback) || count() != 100 {
			t.Errorf("got %v after %d tries, want error %s after 100", err, count(), rollback)
		}
	})
	t.Run("a statement is not repeated after its context has ended", func(t *testing.T) {
		update, count := failing(t, rollback, "1000000")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := update(ctx); !errors.Is(err, context.DeadlineExceeded) || count() >= 100 {
			t.Errorf("got %v after %d tries, want the deadline's error before the last", err, count())
		}
	})
}
