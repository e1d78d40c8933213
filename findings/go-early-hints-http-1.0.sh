#!/usr/bin/env bash
# Why it matters here: a handler inside the middleware may send 103 Early Hints
# (WriteHeader(103)), and nginx speaks HTTP/1.0 to the program unless
# proxy_http_version is set. The guess, before the run: net/http sends no 1xx response
# to a client of HTTP/1.0, since RFC 9110, section 15.2, forbids it.
# It does send it. nginx 1.22 then takes the 103 for the response.
set -euo pipefail
export GOTOOLCHAIN=go1.26.8 GOWORK=off
expected='HTTP/1.0 200 OK'
recorded='HTTP/1.0 103 Early Hints'

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'END'
module finding

go 1.26
END
cat >main.go <<'END'
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
)

func main() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		fmt.Fprint(w, "page")
	}))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		panic(err)
	}
	fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		panic(err)
	}
	fmt.Print(line)
}
END
seen=$(go run . | tr -d '\r')
printf 'version:  %s\nexpected: %s\nseen:     %s\n' "$(go version)" "$expected" "$seen"
[ "$seen" = "$recorded" ] || { echo "This is no longer what was seen: $recorded"; exit 1; }
