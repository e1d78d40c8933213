#!/usr/bin/env bash
# Why it matters here: a session in NATS must end, and KeyTTL looks like the way. One
# would expect: a server older than 2.11, which has no TTL for a key, refuses a key with
# one. It takes the key and ignores the TTL, without an error: the key stays. (A server
# that has them refuses the key if the bucket does not allow a TTL.) So a record must hold
# its own end.
set -euo pipefail
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS=-mod=mod
client=v1.47.0
expected='2.10.29: refused; 2.12.0: refused'
recorded='2.10.29: taken, there after its TTL; 2.12.0: refused'

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'END'
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func main() {
	srv := must(server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: os.Args[1]}))
	srv.Start()
	defer srv.Shutdown()
	if !srv.ReadyForConnections(20 * time.Second) {
		panic("the server does not start")
	}
	conn := must(nats.Connect(srv.ClientURL()))
	fmt.Print(conn.ConnectedServerVersion(), ": ")
	ctx := context.Background()
	kv := must(must(jetstream.New(conn)).CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "sessions"}))
	if _, err := kv.Create(ctx, "id", []byte("record"), jetstream.KeyTTL(time.Second)); err != nil {
		fmt.Println("refused")
		return
	}
	time.Sleep(3 * time.Second)
	if _, err := kv.Get(ctx, "id"); err != nil {
		fmt.Println("taken, gone after its TTL")
		return
	}
	fmt.Println("taken, there after its TTL")
}
END
seen=
for version in v2.10.29 v2.12.0; do
	rm -f go.sum
	cat >go.mod <<END
module finding

go 1.26

require (
	github.com/nats-io/nats-server/v2 $version
	github.com/nats-io/nats.go $client
)
END
	line=$(go run . "$dir/$version" 2>build.log) || { cat build.log; exit 1; }
	seen="$seen${seen:+; }$line"
done
printf 'version:  nats-server 2.10.29 and 2.12.0, nats.go %s\nexpected: %s\nseen:     %s\n' "$client" "$expected" "$seen"
[ "$seen" = "$recorded" ] || { echo "This is no longer what was seen: $recorded"; exit 1; }
