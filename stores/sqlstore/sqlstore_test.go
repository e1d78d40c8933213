package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/sqlstore"
	"github.com/typedsessions/sessions/stores/storetest"
)

func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	testEngine(t, postgreSQL(t))
}

func TestMariaDB(t *testing.T) {
	t.Parallel()
	testEngine(t, mariaDB(t))
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	testEngine(t, sqLite(t))
}

func testEngine(t *testing.T, e engine) {
	t.Run("it is a store", func(t *testing.T) { storetest.Run(t, e.freshWithLabels) })
	t.Run("without labels it is a store", func(t *testing.T) {
		storetest.Run(t, func(t testing.TB) sessions.Store { return unlabelled{e.fresh(t).(sessions.OwnerStore)} })
	})
	t.Run("two processes share it", func(t *testing.T) { testProcesses(t, e) })
	t.Run("ten processes migrate it at once", func(t *testing.T) { testMigrations(t, e) })
	for _, claim := range slices.Concat(claims, schemaClaims, labelClaims) {
		t.Run(claim.name, func(t *testing.T) { claim.check(t, e) })
	}
	if e.server == nil {
		return
	}
	t.Run("a request costs one statement to read and two to change", func(t *testing.T) {
		commands := e.commands(t, e.open(t, e.where))
		for _, open := range []func(testing.TB) sessions.Store{e.fresh, e.freshWithLabels} {
			storetest.RunCost(t, open, commands)
		}
		testLabelTrips(t, e, commands)
	})
	t.Run("connections are cut", func(t *testing.T) {
		storetest.RunCut(t, e.where, func(t testing.TB, addr string) sessions.Store {
			// Create the table over a connection that is not cut.
			opt := sqlstore.Options{Table: newTable(), Labels: true}
			e.storeWith(t, e.open(t, e.where), opt)
			return e.storeWith(t, e.open(t, addr), opt)
		})
	})
	// Last, since the other tests need the server.
	t.Run("the server is killed", func(t *testing.T) { storetest.RunCrash(t, e.server, true, e.fresh) })
}

// An unlabelled is a Store whose Labelled, which needs Options.Labels, is hidden.
type unlabelled struct{ sessions.OwnerStore }

func testProcesses(t *testing.T, e engine) {
	storetest.RunProcesses(t, e.where+" "+newTable(), func(t testing.TB, where string) sessions.Store {
		where, table, _ := strings.Cut(where, " ")
		return e.store(t, e.open(t, where), table)
	})
}

func testMigrations(t *testing.T, e engine) {
	if where, ok := inChild(); ok {
		where, table, _ := strings.Cut(where, " ")
		stores := make([]*sqlstore.Store, 20) // each may be migrated by two processes at once
		db := e.open(t, where)
		for i := range stores {
			if e.dialect == sqlstore.SQLite {
				db = e.open(t, fmt.Sprint(where, i)) // a file that does not exist yet
			}
			var err error
			if stores[i], err = sqlstore.New(db, e.dialect, sqlstore.Options{Table: fmt.Sprintf("%s_%d", table, i), Labels: i%2 == 0}); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = os.Stdout.WriteString("ready\n")
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent closes it
		for _, s := range stores {
			if err := s.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Load(t.Context(), sessions.ID{}); !errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("after Migrate, Load: got %v, want not found", err)
			}
		}
		return
	}
	table := newTable()
	var pattern []string
	for _, part := range strings.Split(t.Name(), "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	start := make(chan struct{})
	var ready, ended sync.WaitGroup
	for range 10 {
		cmd := exec.Command(os.Args[0], "-test.run="+strings.Join(pattern, "/"))
		cmd.Env = append(os.Environ(), "STORETEST_WHERE="+e.where+" "+table)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ready.Add(1)
		ended.Go(func() {
			_, _ = io.ReadFull(stdout, make([]byte, len("ready\n")))
			ready.Done()
			<-start
			_ = stdin.Close()
			out, _ := io.ReadAll(stdout)
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	ready.Wait()
	close(start)
	ended.Wait()
}

type claim struct {
	name  string
	check func(t *testing.T, e engine)
}

var claims = []claim{
	{"Sweep deletes expired sessions and nothing else, under load", testSweep},
	{"Sweep obeys its context", func(t *testing.T, e engine) {
		s := e.store(t, e.open(t, e.where), newTable())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Sweep(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context canceled", err)
		}
	}},
	{"Sweep deletes in parts, so that an error does not undo the earlier parts", testSweepInParts},
	{"an operation that waits for another writer ends with its context", testWait},
	{"stores in different tables of a database are separate, whatever the names", func(t *testing.T, e engine) {
		db := e.open(t, e.where)
		stores := []*sqlstore.Store{e.store(t, db, ""), e.store(t, db, "Order"), e.store(t, db, "user"), e.store(t, db, "_2"+strings.Repeat("x", 46))}
		id := sessions.ID{1}
		for i, s := range stores {
			create(t, s, id, []byte{byte(i)}, time.Hour)
		}
		for i, s := range stores {
			rec, err := s.Load(t.Context(), id)
			if err != nil || len(rec.Data) != 1 || rec.Data[0] != byte(i) {
				t.Errorf("table %d: got data %v, %v, want %d", i, rec.Data, err, i)
			}
		}
	}},
	{"names that could be SQL are refused", func(t *testing.T, e engine) {
		db := e.open(t, e.where)
		for _, name := range []string{`a"b`, "a`b", "a b", "a;b", "app.sessions", "1st", "é", "a\x00", "a'", "a?", "{table}", strings.Repeat("x", 49)} {
			if _, err := sqlstore.New(db, e.dialect, sqlstore.Options{Table: name}); err == nil {
				t.Errorf("%q: got no error", name)
			}
		}
	}},
	{"the table may be created after the Store", func(t *testing.T, e engine) {
		s, err := sqlstore.New(e.open(t, e.where), e.dialect, sqlstore.Options{Table: newTable()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(t.Context(), sessions.ID{}); err == nil || errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("without a table: got %v, want an error from the database", err)
		}
		for range 2 {
			if err := s.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		create(t, s, sessions.ID{}, nil, time.Hour)
		if _, err := s.Load(t.Context(), sessions.ID{}); err != nil {
			t.Errorf("after Migrate: got %v", err)
		}
	}},
	{"a loop over Owned may use the Store over one connection", func(t *testing.T, e engine) {
		db := e.open(t, e.where)
		db.SetMaxOpenConns(1)
		s := e.store(t, db, newTable())
		const n = 20
		for i := range n {
			create(t, s, sessions.ID{byte(i)}, nil, time.Hour)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		deleted := 0
		for id, err := range s.Owned(ctx, "ada") {
			if err == nil {
				err = s.Delete(ctx, id, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			deleted++
		}
		if deleted != n {
			t.Errorf("deleted %d, want %d", deleted, n)
		}
	}},
	{"of many concurrent Creates over an expired record one succeeds", func(t *testing.T, e engine) {
		s := e.store(t, e.open(t, e.where), newTable())
		id := sessions.ID{1}
		create(t, s, id, []byte("old"), -time.Hour)
		var wg sync.WaitGroup
		errs := make([]error, 8)
		versions := make([]uint64, len(errs))
		for i := range errs {
			wg.Go(func() {
				versions[i], errs[i] = s.Create(t.Context(), id, sessions.Record{Data: []byte{byte(i)}, Expires: time.Now().Add(time.Hour)})
			})
		}
		wg.Wait()
		rec, err := s.Load(t.Context(), id)
		if err != nil || len(rec.Data) != 1 || rec.Owner != "" {
			t.Fatalf("got %v, %v, want a new record", rec, err)
		}
		for i, err := range errs {
			won := i == int(rec.Data[0])
			if won && (err != nil || versions[i] != rec.Version) || !won && !errors.Is(err, sessions.ErrExists) {
				t.Errorf("Create %d: got version %d, %v; the record is from Create %d, version %d", i, versions[i], err, rec.Data[0], rec.Version)
			}
		}
	}},
}

// A single statement for the whole table would hold its locks until the end. In
// this test it would fail and delete nothing.
func testSweepInParts(t *testing.T, e engine) {
	dsn := e.dsn(e.where)
	if e.dialect == sqlstore.SQLite {
		dsn += "&_pragma=foreign_keys(1)"
	}
	db, table := open(t, e.driver, dsn), newTable()
	s := e.store(t, db, table)
	const expired, most = 2400, 1500 // a part is 500 rows, or 1 MiB
	data := make([]byte, 1000)
	for i := range expired {
		create(t, s, sessions.ID{byte(i >> 8), byte(i)}, data, -time.Second)
	}
	// A foreign key makes the deletion of the last row fail.
	run(t, db, "CREATE TABLE keeps_"+table+" (id "+e.idType+", FOREIGN KEY (id) REFERENCES "+table+" (id))")
	run(t, db, fmt.Sprintf("INSERT INTO keeps_%s SELECT id FROM %[1]s ORDER BY id DESC LIMIT 1", table))
	n, err := s.Sweep(t.Context())
	left := 0
	get(t, db, &left, "SELECT COUNT(*) FROM "+table)
	if err == nil || n != expired-left || left == 0 || left > most {
		t.Errorf("got %d deleted, %v, and %d left, want an error and at most %d left", n, err, left, most)
	}
	run(t, db, "DROP TABLE keeps_"+table)
	if n, err := s.Sweep(t.Context()); err != nil || n != left {
		t.Errorf("second Sweep: got %d deleted, %v, want %d", n, err, left)
	}
}

func testWait(t *testing.T, e engine) {
	db, table := e.open(t, e.where), newTable()
	s := e.store(t, db, table)
	id := sessions.ID{1}
	create(t, s, id, []byte("old"), time.Hour)
	rec, err := s.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), "UPDATE "+table+" SET version = version"); err != nil {
		t.Fatal(err)
	}
	for name, operation := range map[string]func(ctx context.Context) error{
		"Update":              func(ctx context.Context) error { _, err := s.Update(ctx, id, rec); return err },
		"Touch":               func(ctx context.Context) error { return s.Touch(ctx, id, rec.Expires.Add(time.Hour)) },
		"Delete":              func(ctx context.Context) error { return s.Delete(ctx, id, 0) },
		"Delete of a version": func(ctx context.Context) error { return s.Delete(ctx, id, rec.Version) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := operation(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want the deadline's error", name, err)
		}
		cancel()
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		if err := operation(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want the error of a canceled context", name, err)
		}
	}
}

func create(t testing.TB, s sessions.Store, id sessions.ID, data []byte, lasts time.Duration) {
	t.Helper()
	if _, err := s.Create(t.Context(), id, sessions.Record{Data: data, Expires: time.Now().Add(lasts), Owner: "ada"}); err != nil {
		t.Fatal(err)
	}
}

func testSweep(t *testing.T, e engine) {
	db := e.open(t, e.where)
	s := e.store(t, db, newTable())
	const each = 1200 // live ones, and as many expired; together more than a statement reads
	data := make([]byte, 1000)
	for i := range each {
		create(t, s, sessions.ID{byte(i), byte(i >> 8), 1}, data, -time.Second)
		create(t, s, sessions.ID{byte(i), byte(i >> 8), 2}, data, time.Hour)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	working := make(chan struct{}, 4)
	for g := range cap(working) {
		wg.Go(func() {
			for i := g; ctx.Err() == nil; i = (i + cap(working)) % each {
				id := sessions.ID{byte(i), byte(i >> 8), 2}
				rec, err := s.Load(t.Context(), id)
				if err == nil {
					_, err = s.Update(t.Context(), id, rec)
				}
				if err == nil {
					err = s.Touch(t.Context(), id, time.Now().Add(2*time.Hour))
				}
				if err != nil {
					t.Errorf("a live record, while Sweep runs: %v", err)
					return
				}
				select {
				case working <- struct{}{}:
				default:
				}
			}
		})
	}
	<-working
	n, err := s.Sweep(t.Context())
	stop()
	wg.Wait()
	if err != nil || n != each {
		t.Errorf("got %d, %v, want %d", n, err, each)
	}
	for i := range each {
		if _, err := s.Load(t.Context(), sessions.ID{byte(i), byte(i >> 8), 2}); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	if n, err := s.Sweep(t.Context()); err != nil || n != 0 {
		t.Errorf("second Sweep: got %d, %v, want 0", n, err)
	}
}
