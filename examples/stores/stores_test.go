package main

import (
	"database/sql"
	"net/http"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/internal/shoptest"
	"github.com/typedsessions/sessions/examples/login/shop"
	"github.com/typedsessions/sessions/internal/testserver"
)

func TestEveryStoreKeepsTheSessions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		open func(t *testing.T) (flag string)
	}{
		{"redis", func(t *testing.T) string { return "redis://" + testserver.Redis(t).Addr }},
		{"postgres", func(t *testing.T) string { return testserver.Postgres(t).PostgresURL() }},
		{"mysql", func(t *testing.T) string {
			addr := testserver.MariaDB(t).Addr
			config := mysql.NewConfig()
			config.User, config.Net, config.Addr = "root", "tcp", addr
			db, err := sql.Open("mysql", config.FormatDSN())
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.ExecContext(t.Context(), "CREATE DATABASE shop"); err != nil {
				t.Fatal(err)
			}
			return "mysql://root@" + addr + "/shop"
		}},
		{"sqlite", func(t *testing.T) string { return "sqlite:" + t.TempDir() + "/shop.db" }},
		{"file", func(t *testing.T) string { return "file:" + t.TempDir() + "/sessions" }},
		{"memcache", func(t *testing.T) string { return "memcache://" + testserver.Memcached(t).Addr }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store, err := openStore(t.Context(), tt.open(t))
			if err != nil {
				t.Fatal(err)
			}
			s := shoptest.NewSite(t, store, shop.Settings{})
			b := s.Browser(t, shoptest.OnLinux)
			b.Post("/login", "username", "ada", "password", "wrong").WantRedirect("/login")
			b.Get("/login").WantText("Invalid username or password")
			b.Get("/login").WantNoText("Invalid username or password")

			b.Post("/cart/add", "item", "field")
			planted := b.Cookie()
			b.SignIn("ada")
			b.Get("/dashboard").WantStatus(http.StatusOK).WantText("Hello, ada")
			if _, lists := store.(sessions.OwnerStore); lists {
				other := s.Browser(t, shoptest.OnIPhone)
				other.SignIn("ada")
				if ids := b.Get("/sessions").SessionIDs(); len(ids) != 2 {
					t.Errorf("got %d sessions in the list, want 2", len(ids))
				}
				b.Post("/sessions/revoke-others").WantRedirect("/sessions")
				other.Get("/dashboard").WantRedirect("/login")
			}

			stolen := b.Cookie()
			b.Post("/logout").WantRedirect("/login")
			for what, cookie := range map[string]*http.Cookie{"before signing in": planted, "before signing out": stolen} {
				thief := s.Browser(t, shoptest.OnIPhone)
				thief.SetCookie(cookie)
				if a := thief.Get("/dashboard"); a.Status != http.StatusSeeOther {
					t.Errorf("the cookie from %s still opens the dashboard: status %d", what, a.Status)
				}
			}
		})
	}
}

func TestUnknownStoreIsAClearError(t *testing.T) {
	_, err := openStore(t.Context(), "paper")
	if err == nil || !strings.Contains(err.Error(), `"paper"`) || !strings.Contains(err.Error(), storeNames) {
		t.Errorf("got %v, want an error with the name and the choices", err)
	}
}

func TestABrokenStoreURLShowsNoPassword(t *testing.T) {
	for _, flag := range []string{"redis://ada:hunter2@host:port:1/", "mysql://ada:hunter2@ho st/x", "memcache://ada:hunter2@%zz"} {
		_, err := openStore(t.Context(), flag)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want an error without the password", flag, err)
		}
	}
}

// Without its options, a session would cross the network in the clear.
func TestTheOptionsOfAMySQLURLReachTheDriver(t *testing.T) {
	dsn, err := mysqlDSN("mysql://ada:hunter2@db.example/shop?tls=true")
	if err != nil {
		t.Fatal(err)
	}
	config, err := mysql.ParseDSN(dsn)
	if err != nil || config.TLSConfig != "true" || !config.ClientFoundRows || config.User != "ada" || config.Passwd != "hunter2" || config.DBName != "shop" {
		t.Errorf("got %v, want a DSN of the same database with tls=true and clientFoundRows=true", err)
	}
	if _, err := mysqlDSN("mysql://ada:hunter2@db.example/shop?tls=unknown"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want an error without the password", err)
	}
}
