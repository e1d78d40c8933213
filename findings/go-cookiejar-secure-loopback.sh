#!/usr/bin/env bash
# Why it matters here: our cookies are Secure, and tests use httptest servers without TLS.
# One would expect: net/http/cookiejar returns a Secure cookie to https URLs only (RFC
# 6265, section 5.4). It also returns it to http://localhost, to names under .localhost
# and to 127.0.0.0/8, as browsers do: tests need no Insecure cookie. To the other loopback
# address only with a port: http://[::1]:8080, but not http://[::1].
set -euo pipefail
export GOTOOLCHAIN=go1.26.8 GOWORK=off
expected='none of these'
recorded='http://localhost:8080 http://shop.localhost http://127.0.0.1:8080 http://127.8.8.8 http://[::1]:8080'

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
	"net/http/cookiejar"
	"net/url"
)

func main() {
	for _, address := range []string{
		"http://localhost:8080", "http://shop.localhost", "http://127.0.0.1:8080", "http://127.8.8.8",
		"http://[::1]:8080", "http://[::1]", "http://192.168.0.1", "http://example.com",
	} {
		u, err := url.Parse(address)
		if err != nil {
			panic(err)
		}
		back := func(c http.Cookie) bool {
			jar, err := cookiejar.New(nil)
			if err != nil {
				panic(err)
			}
			jar.SetCookies(u, []*http.Cookie{&c})
			return len(jar.Cookies(u)) == 1
		}
		if !back(http.Cookie{Name: "plain", Value: "1"}) {
			panic(address + " keeps no cookie at all")
		}
		if back(http.Cookie{Name: "secure", Value: "1", Secure: true}) {
			fmt.Print(address, " ")
		}
	}
}
END
seen=$(go run .)
seen=${seen% }
printf 'version:  %s\nexpected: %s\nseen:     %s\n' "$(go version)" "$expected" "$seen"
[ "$seen" = "$recorded" ] || { echo "This is no longer what was seen: $recorded"; exit 1; }
