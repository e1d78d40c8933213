package redisstore_test

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/redisstore"
)

// The example has no output to check, since it needs a Redis at localhost:6379.
func Example() {
	type AppSession struct {
		UserID int `msgpack:"uid" validate:"gte=0"`
	}
	keys, err := sessions.ParseKeyring(os.Getenv("SESSION_KEYS")) // openssl rand -base64 32 prints one
	if err != nil {
		log.Fatal(err)
	}
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress:  []string{"localhost:6379"}, // any nodes of a Redis Cluster
		DisableRetry: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:        keys,
		Store:       redisstore.New(client, redisstore.Options{}),
		IdleTimeout: time.Hour,
		Owner: func(s *AppSession) string {
			if s.UserID == 0 {
				return ""
			}
			return fmt.Sprint(s.UserID)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		sess.RegenerateID()
		sess.Data.UserID = 42 // after checking the password
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "You are user %d\n", sessions.Get[AppSession](r.Context()).Data.UserID)
	})
	log.Fatal(http.ListenAndServe("localhost:8080", mgr.Middleware(mux)))
}
