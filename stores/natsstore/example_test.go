package natsstore_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/natsstore"
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
	conn, err := nats.Connect("nats://127.0.0.1:4222", nats.MaxReconnects(-1))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		log.Fatal(err)
	}
	kv, err := js.CreateOrUpdateKeyValue(context.Background(), jetstream.KeyValueConfig{
		Bucket:         "sessions",
		LimitMarkerTTL: time.Hour, // NATS Server 2.11
	})
	if err != nil {
		log.Fatal(err)
	}
	store, err := natsstore.New(kv, natsstore.Options{Conn: conn})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for range time.Tick(time.Hour) {
			n, err := store.Sweep(context.Background())
			log.Printf("%d expired sessions removed, errors: %v", n, err)
		}
	}()
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:  keys,
		Store: store,
		Owner: func(s *AppSession) string { return s.User },
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
