package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/sqlstore"

	// One of the drivers is enough.
	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"
)

type AppSession struct {
	User string `msgpack:"user"`
}

func serve(db *sql.DB, dialect sqlstore.Dialect) error {
	store, err := sqlstore.New(db, dialect, sqlstore.Options{})
	if err != nil {
		return err
	}
	if err := store.Migrate(context.Background()); err != nil {
		return err
	}
	go func() {
		for range time.Tick(10 * time.Minute) {
			if _, err := store.Sweep(context.Background()); err != nil {
				log.Print(err)
			}
		}
	}()
	keys, err := sessions.ParseKeyring(os.Getenv("SESSION_KEYS"))
	if err != nil {
		return err
	}
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:  keys,
		Store: store,
		Owner: func(s *AppSession) string { return s.User },
	})
	if err != nil {
		return err
	}
	return http.ListenAndServe("localhost:8080", mgr.Middleware(http.HandlerFunc(hello)))
}

func hello(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	if user := r.FormValue("user"); r.Method == http.MethodPost {
		sess.RegenerateID()
		sess.Data.User = user
	}
	fmt.Fprintf(w, "Hello, %q\n", sess.Data.User)
}

func ExampleNew_postgreSQL() {
	db, err := sql.Open("pgx", "postgres://app:secret@localhost/app")
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20)
	log.Fatal(serve(db, sqlstore.PostgreSQL))
}

func ExampleNew_mySQL() {
	db, err := sql.Open("mysql", "app:secret@tcp(localhost)/app?clientFoundRows=true&rejectReadOnly=true")
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20)
	db.SetConnMaxLifetime(3 * time.Minute)
	log.Fatal(serve(db, sqlstore.MySQL))
}

func ExampleNew_sQLite() {
	db, err := sql.Open("sqlite", "file:sessions.db?_pragma=busy_timeout(5000)&_pragma=synchronous(NORMAL)")
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(2)
	log.Fatal(serve(db, sqlstore.SQLite))
}
