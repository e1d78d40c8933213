#!/usr/bin/env bash
# Why it matters here: the session's cookie must be found among the cookies of others.
# The guess, before the run: of more than 3,000 cookies in a request, Request.Cookie
# finds those among the first 3,000. It finds none at all, also not the first, and its
# error is that of a cookie that is not there. So our middleware searches the header
# itself.
set -euo pipefail
export GOTOOLCHAIN=go1.26.8 GOWORK=off
expected='3000 cookies: found; 3001 cookies: found'
recorded='3000 cookies: found; 3001 cookies: http: named cookie not present'

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
	"fmt"
	"net/http"
	"strings"
)

func find(n int) string {
	r := &http.Request{Header: http.Header{"Cookie": {"session=1" + strings.Repeat("; a=1", n-1)}}}
	if _, err := r.Cookie("session"); err != nil {
		return err.Error()
	}
	return "found"
}

func main() { fmt.Printf("3000 cookies: %s; 3001 cookies: %s\n", find(3000), find(3001)) }
END
seen=$(go run .)
printf 'version:  %s\nexpected: %s\nseen:     %s\n' "$(go version)" "$expected" "$seen"
[ "$seen" = "$recorded" ] || { echo "This is no longer what was seen: $recorded"; exit 1; }
