package sqlstore_test

import (
	"database/sql"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/sqlstore"
)

// grants returns the GRANT statements in a section of the README, or in a part of it:
// those for the user migrator and those for the user app.
func grants(t *testing.T, section, part string) (migrator, app []string) {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(readme), "\n## "+section+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	if part != "" {
		_, text, _ = strings.Cut(text, "\n### "+part+"\n")
		text, _, _ = strings.Cut(text, "\n### ")
	}
	for _, line := range regexp.MustCompile(`(?m)^ *GRANT .* TO (\w+);$`).FindAllStringSubmatch(text, -1) {
		grant := strings.TrimSuffix(strings.TrimSpace(line[0]), ";")
		switch line[1] {
		case "migrator":
			migrator = append(migrator, grant)
		case "app":
			app = append(app, grant)
		default:
			t.Errorf("%s: the test does not know this user", grant)
		}
	}
	if migrator == nil || app == nil {
		t.Fatalf("section %s %s of the README has %d grants to migrator and %d to app, want some of both", section, part, len(migrator), len(app))
	}
	return migrator, app
}

// singly calls f with each of the privileges of the grants, as the statements that
// revoke and grant it.
func singly(grants []string, f func(revoke, grant string)) {
	for _, grant := range grants {
		list, rest, _ := strings.Cut(strings.TrimPrefix(grant, "GRANT "), " ON ")
		for _, privilege := range strings.Split(list, ", ") {
			on, user, _ := strings.Cut(rest, " TO ")
			f("REVOKE "+privilege+" ON "+on+" FROM "+user, "GRANT "+privilege+" ON "+on+" TO "+user)
		}
	}
}

// testPrivileges runs Migrate as a user with the privileges that the README gives
// to migrator, and the operations as one with those of app, and shows that each
// privilege is needed.
func testPrivileges(t *testing.T, e engine, section string, dsn func(user string) string) {
	migratorGrants, appGrants := grants(t, section, "")
	admin := e.open(t, e.where)
	if e.dialect == sqlstore.PostgreSQL {
		run(t, admin, "CREATE DATABASE app")
		admin = open(t, e.driver, dsn("postgres"))
		run(t, admin, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
	}
	run(t, admin, "CREATE USER migrator")
	run(t, admin, "CREATE USER app")
	for _, grant := range migratorGrants {
		run(t, admin, grant)
	}
	migrate := func() error {
		db := open(t, e.driver, dsn("migrator"))
		defer db.Close()
		s, err := sqlstore.New(db, e.dialect, sqlstore.Options{})
		if err == nil {
			err = s.Migrate(t.Context())
		}
		return err
	}
	singly(migratorGrants, func(revoke, grant string) {
		run(t, admin, revoke)
		if err := migrate(); err == nil {
			t.Errorf("Migrate works after %s", revoke)
		}
		run(t, admin, grant) // before the table is gone: MySQL grants on tables that exist, or CREATE
		run(t, admin, "DROP TABLE IF EXISTS sessions")
	})
	for range 2 {
		if err := migrate(); err != nil {
			t.Fatalf("Migrate: %v", err)
		}
	}
	for _, grant := range appGrants {
		run(t, admin, grant)
	}
	work := func() error {
		db := open(t, e.driver, dsn("app"))
		defer db.Close()
		s, err := sqlstore.New(db, e.dialect, sqlstore.Options{})
		if err != nil {
			return err
		}
		if err := s.Migrate(t.Context()); err != nil {
			return err
		}
		for name, operation := range operations {
			if err := operation(t.Context(), s); err != nil && !errors.Is(err, sessions.ErrNotFound) && !errors.Is(err, sessions.ErrConflict) && !errors.Is(err, sessions.ErrExists) {
				return errors.Join(errors.New(name), err)
			}
		}
		return nil
	}
	if err := work(); err != nil {
		t.Fatal(err)
	}
	singly(appGrants, func(revoke, grant string) {
		run(t, admin, revoke)
		if err := work(); err == nil {
			t.Errorf("all operations work after %s", revoke)
		}
		run(t, admin, grant)
	})
	testLabelPrivileges(t, e, admin, section, dsn)
}

// testLabelPrivileges goes on with the further privileges for Options.Labels, on the
// table that has no labels yet.
func testLabelPrivileges(t *testing.T, e engine, admin *sql.DB, section string, dsn func(user string) string) {
	migratorGrants, appGrants := grants(t, "Labels", section)
	as := func(user string, f func(s *sqlstore.Store) error) error {
		db := open(t, e.driver, dsn(user))
		defer db.Close()
		s, err := sqlstore.New(db, e.dialect, sqlstore.Options{Labels: true})
		if err == nil {
			err = s.Migrate(t.Context())
		}
		if err != nil {
			return err
		}
		return f(s)
	}
	migrate := func() error { return as("migrator", func(*sqlstore.Store) error { return nil }) }
	for _, grant := range migratorGrants {
		run(t, admin, grant)
	}
	singly(migratorGrants, func(revoke, grant string) {
		run(t, admin, revoke)
		if err := migrate(); err == nil {
			t.Errorf("Migrate works after %s", revoke)
		}
		run(t, admin, grant)
		run(t, admin, "DROP TABLE IF EXISTS sessions_labels")
		_, _ = admin.ExecContext(t.Context(), "ALTER TABLE sessions DROP COLUMN labels")
	})
	for range 2 {
		if err := migrate(); err != nil {
			t.Fatalf("Migrate: %v", err)
		}
	}
	for _, grant := range appGrants {
		run(t, admin, grant)
	}
	work := func() error {
		return as("app", func(s *sqlstore.Store) error {
			if err := s.Delete(t.Context(), sessions.ID{1}, 0); err != nil {
				return err
			}
			rec := recordWith("red", "blue")
			var err error
			if rec.Version, err = s.Create(t.Context(), sessions.ID{1}, rec); err != nil {
				return err
			}
			rec.Labels = []string{"green"}
			if _, err = s.Update(t.Context(), sessions.ID{1}, rec); err != nil {
				return err
			}
			for _, err := range s.Labelled(t.Context(), "green") {
				if err != nil {
					return err
				}
			}
			return s.Delete(t.Context(), sessions.ID{1}, 0)
		})
	}
	if err := work(); err != nil {
		t.Fatal(err)
	}
	singly(appGrants, func(revoke, grant string) {
		run(t, admin, revoke)
		if err := work(); err == nil {
			t.Errorf("labels work after %s", revoke)
		}
		run(t, admin, grant)
	})
}

// testCountsChanged uses a user without the privilege to create temporary tables.
func testCountsChanged(t *testing.T, e engine) {
	root := e.open(t, e.where)
	run(t, root, "CREATE USER plain")
	run(t, root, "GRANT SELECT, INSERT, UPDATE, DELETE ON app.* TO plain")
	db := open(t, "mysql", "plain@tcp("+e.where+")/app")
	const remedy = "clientFoundRows=true"
	refused := func(when string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), remedy) {
			t.Errorf("%s: got %v, want an error that contains %q", when, err, remedy)
		}
	}
	table := newTable()
	before := e.unmigrated(t, db, sqlstore.Options{Table: table}) // there is no table yet
	s := e.store(t, root, table)
	_, err := before.Load(t.Context(), sessions.ID{1})
	refused("the first operation, if the table was created after New", err)
	refused("Migrate, if the table was created after New", before.Migrate(t.Context()))
	_, err = sqlstore.New(db, sqlstore.MySQL, sqlstore.Options{Table: table})
	refused("New, if the table is empty", err)
	var n int
	if get(t, root, &n, "SELECT COUNT(*) FROM "+table); n != 0 {
		t.Errorf("the check left %d rows", n)
	}
	create(t, s, sessions.ID{1}, nil, time.Hour)
	_, err = sqlstore.New(db, sqlstore.MySQL, sqlstore.Options{Table: table})
	refused("New, if the table has a row", err)

	// While another user has locked all rows, the check cannot tell and does not
	// wait.
	tx, err := root.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), "UPDATE "+table+" SET version = version + 1"); err != nil {
		t.Fatal(err)
	}
	late := e.unmigrated(t, db, sqlstore.Options{Table: table})
	rec, err := late.Load(t.Context(), sessions.ID{1})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	refused("a Touch that changes nothing", late.Touch(t.Context(), sessions.ID{1}, rec.Expires))
	if err := late.Touch(t.Context(), sessions.ID{2}, rec.Expires); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("a Touch of an absent session: got %v, want not found", err)
	}
	if err := late.Touch(t.Context(), sessions.ID{1}, rec.Expires.Add(time.Hour)); err != nil {
		t.Errorf("a Touch that changes something: got %v", err)
	}
}

func refusesSchema(t *testing.T, e engine, remedy string) {
	t.Helper()
	if _, err := sqlstore.New(e.open(t, e.where), e.dialect, sqlstore.Options{Schema: "shop"}); err == nil || !strings.Contains(err.Error(), remedy) {
		t.Errorf("got %v, want an error that contains %q", err, remedy)
	}
}
