package sqlstore_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/sqlstore"
)

func TestPostgreSQLSchema(t *testing.T) {
	t.Parallel()
	e := postgreSQL(t)
	root := e.open(t, e.where)
	public := e.store(t, root, "") // search_path is "$user", public
	id := sessions.ID{1}
	create(t, public, id, []byte("public"), time.Hour)
	// along returns a Store of connections with the search path.
	along := func(t *testing.T, path string, opt sqlstore.Options) *sqlstore.Store {
		t.Helper()
		return e.unmigrated(t, open(t, e.driver, e.dsn(e.where)+"&search_path="+url.PathEscape(path)), opt)
	}
	exists := func(t *testing.T, relation string) (ok bool) {
		t.Helper()
		get(t, root, &ok, "SELECT to_regclass($1) IS NOT NULL", relation)
		return ok
	}
	publicIsUntouched := func(t *testing.T) {
		t.Helper()
		if rec, err := public.Load(t.Context(), id); err != nil || string(rec.Data) != "public" {
			t.Errorf("the session in public: got %q, %v", rec.Data, err)
		}
	}

	t.Run("a table in a later schema of the search path is not used", func(t *testing.T) {
		run(t, root, "CREATE SCHEMA shop")
		s := along(t, "shop,public", sqlstore.Options{})
		for name, operation := range operations {
			err := operation(t.Context(), along(t, "shop,public", sqlstore.Options{}))
			if err == nil || !strings.Contains(err.Error(), `"shop"."sessions" does not exist`) || !strings.Contains(err.Error(), "Options.Schema") {
				t.Errorf("%s: got %v, want an error that names Options.Schema", name, err)
			}
		}
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, relation := range []string{"shop.sessions", "shop.sessions_owner"} {
			if !exists(t, relation) {
				t.Errorf("Migrate did not create %s", relation)
			}
		}
		works(t, s)
		publicIsUntouched(t)
		run(t, root, "DROP TABLE shop.sessions")
		if _, err := s.Load(t.Context(), id); err == nil || errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("after the table was dropped: Load got %v, want an error", err)
		}
		if err := s.Delete(t.Context(), id, 0); err == nil {
			t.Error("after the table was dropped: Delete got no error")
		}
		publicIsUntouched(t)
	})
	t.Run("an index of that name in another schema is not taken for ours", func(t *testing.T) {
		run(t, root, "CREATE SCHEMA crm")
		run(t, root, "CREATE TABLE crm.people (owner_hash bigint, id bytea)")
		run(t, root, "CREATE INDEX visits_owner ON crm.people (owner_hash, id)")
		s := along(t, "public,crm", sqlstore.Options{Table: "visits"})
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !exists(t, "public.visits") || !exists(t, "public.visits_owner") {
			t.Error("Migrate did not create the table and its index")
		}
		works(t, s)
	})
	t.Run("a search path that begins with a schema that does not exist is refused", func(t *testing.T) {
		for _, path := range []string{"nowhere,public", "nowhere", `"$user",nowhere,public`, `"Public",public`} {
			if err := along(t, path, sqlstore.Options{}).Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "Options.Schema") {
				t.Errorf("%s: Migrate got %v, want an error that names Options.Schema", path, err)
			}
			if _, err := along(t, path, sqlstore.Options{}).Load(t.Context(), id); err == nil || !strings.Contains(err.Error(), "Options.Schema") {
				t.Errorf("%s: Load got %v, want an error that names Options.Schema", path, err)
			}
		}
		publicIsUntouched(t)
	})
	t.Run("the first schema of the search path is used, whatever its name", func(t *testing.T) {
		for path, schema := range map[string]string{
			"a1":                  "a1",
			"A2, public":          "a2",
			`"$user", a3,public`:  "a3",
			`"A b?",public`:       "A b?",
			`"{table}""x,y",a1`:   `{table}"x,y`,
			`$user,"a4"`:          "a4",
			`"a5" , nowhere , a1`: "a5",
		} {
			run(t, root, `CREATE SCHEMA IF NOT EXISTS "`+strings.ReplaceAll(schema, `"`, `""`)+`"`)
			s := along(t, path, sqlstore.Options{Table: "t"})
			if err := s.Migrate(t.Context()); err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			works(t, s)
			if _, err := s.Sweep(t.Context()); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			var n int
			if get(t, root, &n, "SELECT COUNT(*) FROM pg_tables WHERE tablename = 't' AND schemaname = $1", schema); n != 1 {
				t.Errorf("%s: the table is not in schema %s", path, schema)
			}
		}
		run(t, root, "CREATE ROLE owner LOGIN")
		run(t, root, "CREATE SCHEMA AUTHORIZATION owner")
		s := e.unmigrated(t, open(t, e.driver, "postgres://owner@"+e.where+"/postgres?sslmode=disable"), sqlstore.Options{})
		if err := s.Migrate(t.Context()); err != nil || !exists(t, "owner.sessions") {
			t.Errorf("the schema of the user: Migrate got %v, the table exists: %v", err, exists(t, "owner.sessions"))
		}
		publicIsUntouched(t)
	})
	t.Run("Options.Schema names a schema outside of the search path", func(t *testing.T) {
		run(t, root, `CREATE SCHEMA "Shop"`)
		for _, opt := range []sqlstore.Options{{Schema: "Shop"}, {Schema: "created_by_migrate"}, {Schema: "select", Table: "order"}, {Schema: strings.Repeat("x", 63), Table: strings.Repeat("y", 48)}} {
			if _, err := e.unmigrated(t, root, opt).Load(t.Context(), id); err == nil || !strings.Contains(err.Error(), `"`+opt.Schema+`"."`) {
				t.Errorf("before Migrate: got %v, want an error that names the schema", err)
			}
			for range 2 {
				if err := e.unmigrated(t, root, opt).Migrate(t.Context()); err != nil {
					t.Errorf("%v: Migrate got %v", opt, err)
				}
			}
			works(t, e.unmigrated(t, root, opt))
			opt.Labels = true
			worksWithLabels(t, e.storeWith(t, root, opt))
		}
		// "public" says so.
		s := along(t, "shop,public", sqlstore.Options{Schema: "public"})
		if rec, err := s.Load(t.Context(), id); err != nil || string(rec.Data) != "public" {
			t.Errorf("got %q, %v", rec.Data, err)
		}
		publicIsUntouched(t)
	})
	t.Run("stores in different schemas are separate", func(t *testing.T) {
		a, b := e.unmigrated(t, root, sqlstore.Options{Schema: "one"}), e.unmigrated(t, root, sqlstore.Options{Schema: "two"})
		for _, s := range []*sqlstore.Store{a, b} {
			if err := s.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		create(t, a, id, []byte("one"), time.Hour)
		if _, err := b.Load(t.Context(), id); !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("got %v, want not found", err)
		}
		for range b.Owned(t.Context(), "ada") {
			t.Error("Owned lists a session of another schema")
		}
	})
	t.Run("names of schemas that could be SQL are refused", func(t *testing.T) {
		for _, name := range []string{`a"b`, "a b", "a;b", "a.b", "1st", "é", "a\x00", "a'", "a?", "{table}", strings.Repeat("x", 64)} {
			if _, err := sqlstore.New(root, sqlstore.PostgreSQL, sqlstore.Options{Schema: name}); err == nil || !strings.Contains(err.Error(), "schema") {
				t.Errorf("%q: got %v, want an error that names the schema", name, err)
			}
		}
	})
}
