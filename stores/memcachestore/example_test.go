package memcachestore_test

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/memcachestore"
)

// This program counts the visits of each visitor.
func Example() {
	type AppSession struct {
		User   string `msgpack:"user"`
		Visits int    `msgpack:"visits"`
	}

	keys, err := sessions.ParseKeyring(os.Getenv("SESSION_KEYS")) // openssl rand -base64 32 prints one
	if err != nil {
		log.Fatal(err)
	}
	client := memcache.New("127.0.0.1:11211")
	client.Timeout = time.Second
	client.MaxIdleConns = 100 // concurrent requests
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:  keys,
		Store: memcachestore.New(client, "shop:"),
	})
	if err != nil {
		log.Fatal(err)
	}

	count := func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		sess.Update(func(s *AppSession) { s.Visits++ })
		fmt.Fprintf(w, "You were here %d times.\n", sess.Data.Visits)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", mgr.Middleware(http.HandlerFunc(count))))
}
