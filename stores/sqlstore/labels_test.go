package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/sqlstore"
)

func recordWith(labels ...string) sessions.Record {
	return sessions.Record{Data: []byte("data"), Expires: time.Now().Add(time.Hour), Owner: "ada", Labels: labels}
}

// put creates a record with labels, or replaces the given version.
func put(t testing.TB, s *sqlstore.Store, id sessions.ID, version uint64, labels ...string) uint64 {
	t.Helper()
	rec := recordWith(labels...)
	var err error
	if rec.Version = version; version == 0 {
		version, err = s.Create(t.Context(), id, rec)
	} else {
		version, err = s.Update(t.Context(), id, rec)
	}
	if err != nil {
		t.Fatal(err)
	}
	return version
}

// hasLabels fails the test unless Load returns these labels, and Labelled yields the
// id for each of them and for none of the others.
func hasLabels(t testing.TB, s *sqlstore.Store, id sessions.ID, labels []string, others ...string) {
	t.Helper()
	rec, err := s.Load(t.Context(), id)
	if err != nil || !slices.Equal(rec.Labels, labels) {
		t.Errorf("Load: got labels %q, %v, want %q", rec.Labels, err, labels)
	}
	for _, label := range slices.Concat(labels, others) {
		n := 0
		for got, err := range s.Labelled(t.Context(), label) {
			if err != nil {
				t.Fatal(err)
			}
			if got == id {
				n++
			}
		}
		if want := slices.Contains(labels, label); n > 1 || (n == 1) != want {
			t.Errorf("Labelled(%q) yields the session %d times, and it having the label is %t", label, n, want)
		}
	}
}

// ddlOf returns the statements that an error names.
func ddlOf(t testing.TB, err error) string {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "Options.Labels") || !strings.Contains(err.Error(), "ALTER TABLE") {
		t.Fatalf("got %v, want an error that names Options.Labels and the statements to run", err)
	}
	return err.Error()[strings.Index(err.Error(), "ALTER TABLE"):]
}

var labelClaims = []claim{
	{"without Options.Labels there is no table of labels, and a session with labels is refused", func(t *testing.T, e engine) {
		db, table := e.open(t, e.where), newTable()
		s := e.store(t, db, table)
		if _, err := db.ExecContext(t.Context(), "SELECT labels FROM "+table); err == nil {
			t.Error("the table has a column labels")
		}
		if _, err := db.ExecContext(t.Context(), "SELECT id FROM "+table+"_labels"); err == nil {
			t.Error("there is a table of labels")
		}
		_, err := s.Create(t.Context(), sessions.ID{1}, recordWith("red"))
		ddlOf(t, err)
		rec := recordWith()
		if rec.Version, err = s.Create(t.Context(), sessions.ID{1}, rec); err != nil {
			t.Fatalf("after a Create with labels, one without: %v", err)
		}
		rec.Labels = []string{"red"}
		_, err = s.Update(t.Context(), sessions.ID{1}, rec)
		ddlOf(t, err)
		if got, err := s.Load(t.Context(), sessions.ID{1}); err != nil || got.Version != rec.Version {
			t.Errorf("after an Update with labels: got version %d, %v, want %d", got.Version, err, rec.Version)
		}
		pairs := 0
		for id, err := range s.Labelled(t.Context(), "red") {
			ddlOf(t, err)
			if pairs++; id != (sessions.ID{}) {
				t.Errorf("Labelled yields %v with an error", id)
			}
		}
		if pairs != 1 {
			t.Errorf("Labelled yields %d pairs, want an error", pairs)
		}
	}},
	{"LoadMany returns what Load does", func(t *testing.T, e engine) {
		db := e.open(t, e.where)
		plain := e.store(t, db, newTable())
		labelled := e.storeWith(t, db, sqlstore.Options{Table: newTable(), Labels: true})
		for _, s := range []*sqlstore.Store{plain, labelled} {
			var ids []sessions.ID
			for i := range 600 {
				id := sessions.ID{byte(i), byte(i >> 8), 9}
				ids = append(ids, id)
				rec := recordWith()
				switch {
				case i%7 == 0:
					continue
				case i%7 == 1:
					rec.Expires = time.Now().Add(-time.Second)
				case i%7 == 2 && s == labelled:
					rec.Labels = []string{"red", "green"}
				}
				if _, err := s.Create(t.Context(), id, rec); err != nil {
					t.Fatal(err)
				}
			}
			for _, n := range []int{0, 1, 16, 17, 600} {
				found, err := s.LoadMany(t.Context(), ids[:n])
				if err != nil {
					t.Fatal(err)
				}
				live := 0
				for _, id := range ids[:n] {
					rec, err := s.Load(t.Context(), id)
					got, ok := found[id]
					if ok != (err == nil) || ok && !reflect.DeepEqual(got, rec) {
						t.Fatalf("of %d ids: got %v, %t, want %v, %v as from Load", n, got, ok, rec, err)
					}
					if ok {
						live++
					}
				}
				if len(found) != live {
					t.Errorf("of %d ids: got %d records, want %d", n, len(found), live)
				}
			}
		}
	}},
	{"a table of an earlier version gets labels from Migrate, or from the statements in the error", func(t *testing.T, e engine) {
		db := e.open(t, e.where)
		for _, way := range []string{"Migrate", "the statements"} {
			table := newTable()
			old := put(t, e.store(t, db, table), sessions.ID{1}, 0)
			for name, operation := range operations {
				if err := operation(t.Context(), e.unmigrated(t, db, sqlstore.Options{Table: table, Labels: true})); err == nil || !strings.Contains(err.Error(), "Migrate") {
					t.Errorf("%s: got %v, want an error that names Migrate", name, err)
				} else {
					ddlOf(t, err)
				}
			}
			s := e.unmigrated(t, db, sqlstore.Options{Table: table, Labels: true})
			_, err := s.Load(t.Context(), sessions.ID{1})
			ddl := ddlOf(t, err)
			switch {
			case way == "Migrate":
				for range 2 {
					if err := s.Migrate(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			case e.dialect == sqlstore.MySQL:
				for _, text := range strings.Split(ddl, "; ") {
					run(t, db, text)
				}
			default:
				run(t, db, ddl)
			}
			hasLabels(t, s, sessions.ID{1}, nil, "red")
			put(t, s, sessions.ID{1}, old, "blue", "red")
			hasLabels(t, s, sessions.ID{1}, []string{"blue", "red"}, "green")
			if err := e.unmigrated(t, db, sqlstore.Options{Table: table, Labels: true}).Migrate(t.Context()); err != nil {
				t.Errorf("after %s, Migrate: %v", way, err)
			}
			if n := entries(t, e, table); n != 2 {
				t.Errorf("after %s: got %d entries, want 2", way, n)
			}
			if err := s.Delete(t.Context(), sessions.ID{1}, 0); err != nil {
				t.Fatal(err)
			}
			if n := entries(t, e, table); n != 0 {
				t.Errorf("after %s and Delete: got %d entries, want none", way, n)
			}
		}
	}},
	{"a table of labels that is missing or not ours is refused", func(t *testing.T, e engine) {
		db := e.open(t, e.where)
		for name, create := range map[string]string{
			"it lacks the columns label_hash":     "CREATE TABLE {table}_labels (id {id} NOT NULL PRIMARY KEY, label {blob})",
			"its primary key is (id, label_hash)": "CREATE TABLE {table}_labels (label_hash {int} NOT NULL, id {id} NOT NULL, PRIMARY KEY (id, label_hash))",
			"it is a view":                        "CREATE VIEW {table}_labels AS SELECT 1 AS label_hash, 2 AS id",
			"call Migrate":                        "",
		} {
			table := newTable()
			e.storeWith(t, db, sqlstore.Options{Table: table, Labels: true})
			run(t, db, "DROP TABLE "+table+"_labels")
			if e.dialect == sqlstore.SQLite {
				run(t, db, "DROP TRIGGER "+table+"_labels_delete")
			}
			s := e.unmigrated(t, db, sqlstore.Options{Table: table, Labels: true})
			if create != "" {
				run(t, db, e.in(create, table))
				if err := s.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), name) {
					t.Errorf("Migrate: got %v, want an error with %q", err, name)
				}
			}
			_, err := s.Load(t.Context(), sessions.ID{1})
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), table+"_labels") {
				t.Errorf("Load: got %v, want an error with %q", err, name)
			}
		}
	}},
	{"the entries of a record end with it", func(t *testing.T, e engine) {
		db, table := e.open(t, e.where), newTable()
		s := e.storeWith(t, db, sqlstore.Options{Table: table, Labels: true})
		holds := func(when string, want int) {
			t.Helper()
			if n := entries(t, e, table); n != want {
				t.Errorf("%s: got %d entries, want %d", when, n, want)
			}
		}
		version := put(t, s, sessions.ID{1}, 0, "red", "blue")
		holds("after Create", 2)
		version = put(t, s, sessions.ID{1}, version, "green", "blue", "red")
		holds("after an Update", 3)
		version = put(t, s, sessions.ID{1}, version, "red")
		holds("after an Update that removes labels", 1)
		version = put(t, s, sessions.ID{1}, version)
		holds("after an Update without labels", 0)
		version = put(t, s, sessions.ID{1}, version, "red", "blue")
		if err := s.Delete(t.Context(), sessions.ID{1}, version); err != nil {
			t.Fatal(err)
		}
		holds("after a Delete of a version", 0)
		put(t, s, sessions.ID{1}, 0, "red", "blue")
		if err := s.Delete(t.Context(), sessions.ID{1}, 0); err != nil {
			t.Fatal(err)
		}
		holds("after a Delete", 0)
		for i := range 10 {
			rec := recordWith("red", fmt.Sprint(i))
			rec.Expires = time.Now().Add(time.Duration(i%2)*time.Hour - time.Minute)
			if _, err := s.Create(t.Context(), sessions.ID{byte(i)}, rec); err != nil {
				t.Fatal(err)
			}
		}
		listed := 0
		for _, err := range s.Labelled(t.Context(), "red") {
			if err != nil {
				t.Fatal(err)
			}
			listed++
		}
		if listed != 5 {
			t.Errorf("Labelled yields %d ids before Sweep, want the 5 of live records", listed)
		}
		if n, err := s.Sweep(t.Context()); err != nil || n != 5 {
			t.Errorf("Sweep: got %d, %v, want 5", n, err)
		}
		holds("after Sweep", 10)
	}},
	{"the entries of a record end with it after the table of sessions was created anew", func(t *testing.T, e engine) {
		db, table := e.open(t, e.where), newTable()
		opt := sqlstore.Options{Table: table, Labels: true}
		put(t, e.storeWith(t, db, opt), sessions.ID{1}, 0, "red")
		switch e.dialect {
		case sqlstore.PostgreSQL:
			run(t, db, "DROP TABLE "+table+" CASCADE")
		case sqlstore.MySQL:
			run(t, db, "ALTER TABLE "+table+"_labels DROP FOREIGN KEY "+table+"_labels_ibfk_1")
			run(t, db, "DROP TABLE "+table)
		case sqlstore.SQLite:
			run(t, db, "DROP TABLE "+table)
		}
		e.store(t, db, table)
		run(t, db, "ALTER TABLE "+table+" ADD COLUMN labels "+e.blobType)
		s := e.unmigrated(t, db, opt)
		if _, err := s.Load(t.Context(), sessions.ID{1}); err == nil || !strings.Contains(err.Error(), "call Migrate") {
			t.Errorf("Load before Migrate: got %v, want an error that names Migrate", err)
		}
		for range 2 {
			if err := s.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := entries(t, e, table); n != 0 {
			t.Errorf("after Migrate: got %d entries of no record, want none", n)
		}
		worksWithLabels(t, s)
		put(t, s, sessions.ID{1}, 0, "red")
		if err := s.Delete(t.Context(), sessions.ID{1}, 0); err != nil {
			t.Fatal(err)
		}
		if n := entries(t, e, table); n != 0 {
			t.Errorf("after a Delete: got %d entries, want none", n)
		}
	}},
	{"a table of labels that belongs to another table of sessions is refused", func(t *testing.T, e engine) {
		db, table := e.open(t, e.where), newTable()
		opt := sqlstore.Options{Table: table, Labels: true}
		e.storeWith(t, db, opt)
		run(t, db, "ALTER TABLE "+table+" RENAME TO old_"+table)
		if e.dialect != sqlstore.MySQL { // where each table has its own names of indexes
			run(t, db, "DROP INDEX "+table+"_owner")
		}
		e.store(t, db, table)
		run(t, db, "ALTER TABLE "+table+" ADD COLUMN labels "+e.blobType)
		s := e.unmigrated(t, db, opt)
		_, err := s.Create(t.Context(), sessions.ID{1}, recordWith("red"))
		for _, err := range []error{err, s.Migrate(t.Context())} {
			if err == nil || !strings.Contains(err.Error(), "old_"+table) {
				t.Errorf("got %v, want an error that names the other table", err)
			}
		}
	}},
	{"a Store without Options.Labels leaves the labels of a record alone", func(t *testing.T, e engine) {
		db, table := e.open(t, e.where), newTable()
		s := e.storeWith(t, db, sqlstore.Options{Table: table, Labels: true})
		version := put(t, s, sessions.ID{1}, 0, "red")
		other := e.store(t, db, table)
		version = put(t, other, sessions.ID{1}, version)
		hasLabels(t, s, sessions.ID{1}, []string{"red"}, "blue")
		if err := other.Delete(t.Context(), sessions.ID{1}, version); err != nil {
			t.Fatal(err)
		}
		if n := entries(t, e, table); n != 0 {
			t.Errorf("after its Delete: got %d entries, want none", n)
		}
	}},
	{"a record and its entries are written both or not at all", func(t *testing.T, e engine) {
		db, table := e.open(t, e.where), newTable()
		s := e.storeWith(t, db, sqlstore.Options{Table: table, Labels: true})
		version := put(t, s, sessions.ID{1}, 0, "red")
		run(t, db, "ALTER TABLE "+table+"_labels RENAME TO away_"+table)
		rec := recordWith("blue")
		rec.Version = version
		if _, err := s.Update(t.Context(), sessions.ID{1}, rec); err == nil {
			t.Error("Update without the table of labels: got no error")
		}
		if _, err := s.Create(t.Context(), sessions.ID{2}, rec); err == nil {
			t.Error("Create without the table of labels: got no error")
		}
		run(t, db, "ALTER TABLE away_"+table+" RENAME TO "+table+"_labels")
		hasLabels(t, s, sessions.ID{1}, []string{"red"}, "blue")
		if rec, err := s.Load(t.Context(), sessions.ID{1}); err != nil || rec.Version != version {
			t.Errorf("got version %d, %v, want %d", rec.Version, err, version)
		}
		if _, err := s.Load(t.Context(), sessions.ID{2}); !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("Load of what was not created: got %v, want not found", err)
		}
		put(t, s, sessions.ID{1}, version, "blue")
		hasLabels(t, s, sessions.ID{1}, []string{"blue"}, "red")
	}},
	{"labels change over one connection, also in a loop over Labelled", func(t *testing.T, e engine) {
		db := e.open(t, e.where)
		db.SetMaxOpenConns(1)
		s := e.storeWith(t, db, sqlstore.Options{Table: newTable(), Labels: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		const n = 20
		for i := range n {
			put(t, s, sessions.ID{byte(i)}, 0, "red")
		}
		changed := 0
		for id, err := range s.Labelled(ctx, "red") {
			if err != nil {
				t.Fatal(err)
			}
			rec, err := s.Load(ctx, id)
			if err == nil {
				rec.Labels = []string{"blue", "green"}
				_, err = s.Update(ctx, id, rec)
			}
			if err != nil {
				t.Fatal(err)
			}
			changed++
		}
		if changed != n {
			t.Errorf("changed %d, want %d", changed, n)
		}
	}},
	{"many sessions change their labels at once", func(t *testing.T, e engine) {
		table := newTable()
		db := e.open(t, e.where)
		s := e.storeWith(t, db, sqlstore.Options{Table: table, Labels: true})
		all := []string{"tenant:a", "tenant:b", "sid:1", "sid:2"}
		const clients, each = 8, 25
		var wg sync.WaitGroup
		var mu sync.Mutex
		want := 0
		for c := range clients {
			wg.Go(func() {
				id := sessions.ID{byte(c), 7}
				var version uint64
				var labels []string
				for i := range each {
					labels = nil
					for _, label := range all {
						if rand.N(2) == 0 {
							labels = append(labels, label)
						}
					}
					rec := recordWith(labels...)
					var err error
					if rec.Version = version; version == 0 {
						version, err = s.Create(t.Context(), id, rec)
					} else if i%7 == 0 {
						labels, err, version = nil, s.Delete(t.Context(), id, version), 0
					} else {
						version, err = s.Update(t.Context(), id, rec)
					}
					if err != nil {
						t.Errorf("session %d: %v", c, err)
						return
					}
				}
				mu.Lock()
				defer mu.Unlock()
				want += len(labels)
			})
		}
		wg.Wait()
		if n := entries(t, e, table); n != want && !t.Failed() {
			t.Errorf("got %d entries, want %d, one for each label of a record", n, want)
		}
	}},
}

// entries returns the number of entries in the table of labels.
func entries(t testing.TB, e engine, table string) (n int) {
	t.Helper()
	get(t, e.open(t, e.where), &n, "SELECT COUNT(*) FROM "+table+"_labels")
	return n
}

// testLabelTrips counts the statements of each operation. A transaction has one to
// begin, one to commit, and one for the entries.
func testLabelTrips(t *testing.T, e engine, commands func() int) {
	creates, changes, conflict := 1, 2, 3
	if e.dialect == sqlstore.MySQL {
		creates, changes, conflict = 4, 6, 2
	}
	s := e.storeWith(t, e.open(t, e.where), sqlstore.Options{Table: newTable(), Labels: true})
	var version uint64
	id := sessions.ID{1}
	for range 2 { // the second time, the statements are prepared
		for _, tt := range []struct {
			what string
			want int
			run  func()
		}{
			{"Create without labels", 1, func() { version = put(t, s, id, 0) }},
			{"Update without labels", 1, func() { version = put(t, s, id, version) }},
			{"Update that adds labels", changes, func() { version = put(t, s, id, version, "red", "blue") }},
			{"Update that keeps the labels", 1, func() { version = put(t, s, id, version, "blue", "red") }},
			{"Load", 1, func() { load(t, s, id) }},
			{"Touch", 1, func() {
				if err := s.Touch(t.Context(), id, time.Now().Add(2*time.Hour)); err != nil {
					t.Fatal(err)
				}
			}},
			{"Update that removes labels", changes, func() { version = put(t, s, id, version) }},
			{"Update that conflicts", conflict, func() {
				rec := recordWith("red")
				rec.Version = version + 1
				if _, err := s.Update(t.Context(), id, rec); !errors.Is(err, sessions.ErrConflict) {
					t.Fatalf("got %v, want a conflict", err)
				}
			}},
			{"Delete", 1, func() {
				if err := s.Delete(t.Context(), id, version); err != nil {
					t.Fatal(err)
				}
			}},
			{"Create with labels", creates, func() { put(t, s, sessions.ID{2}, 0, "red", "blue") }},
			{"Labelled", 1, func() {
				for _, err := range s.Labelled(t.Context(), "red") {
					if err != nil {
						t.Fatal(err)
					}
				}
			}},
			{"Delete of version 0", 1, func() {
				if err := s.Delete(t.Context(), sessions.ID{2}, 0); err != nil {
					t.Fatal(err)
				}
			}},
		} {
			before := commands()
			tt.run()
			if n := commands() - before; n != tt.want {
				t.Errorf("%s: got %d statements, want %d", tt.what, n, tt.want)
			}
		}
	}
}

func load(t testing.TB, s *sqlstore.Store, id sessions.ID) {
	t.Helper()
	if _, err := s.Load(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

// worksWithLabels stores a session, changes its labels and deletes it.
func worksWithLabels(t *testing.T, s *sqlstore.Store) {
	t.Helper()
	id := sessions.ID{1}
	version := put(t, s, id, 0, "blue", "red")
	hasLabels(t, s, id, []string{"blue", "red"}, "green")
	version = put(t, s, id, version, "green", "red")
	hasLabels(t, s, id, []string{"green", "red"}, "blue")
	version = put(t, s, id, version)
	hasLabels(t, s, id, nil, "green", "red", "blue")
	if err := s.Delete(t.Context(), id, version); err != nil {
		t.Error(err)
	}
}
