#!/usr/bin/env bash
# Why it matters here: a handler inside the middleware may send 103 Early Hints before its
# page, and Varnish is one of the proxies of docs/IN-PRACTICE.md. One would expect:
# Varnish drops the hint, as RFC 9110, section 15.2, lets a proxy do, and answers 200. It
# takes the 103 for a broken response and answers 503.
set -euo pipefail
version=7.1.1-2+deb12u1
expected='200'
recorded='503'

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q "varnish=$version" "libvarnishapi3=$version" libjemalloc2 >apt.log 2>&1 || { cat apt.log; exit 2; }
for package in *.deb; do dpkg-deb -x "$package" root; done
LD_LIBRARY_PATH=$(find "$dir/root" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd:)
export LD_LIBRARY_PATH
cat >main.go <<'END'
package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"time"
)

func main() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hint" {
			w.WriteHeader(http.StatusEarlyHints)
		}
		fmt.Fprint(w, "page")
	}))
	host, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		panic(err)
	}
	vcl := fmt.Sprintf("vcl 4.1;\nbackend default { .host = %q; .port = %q; }\n", host, port)
	if err := os.WriteFile("config.vcl", []byte(vcl), 0o600); err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command("root/usr/sbin/varnishd", "-F", "-j", "none", "-n", dir+"/work", "-s", "malloc,16m", "-a", addr, "-f", dir+"/config.vcl")
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Signal(os.Interrupt)
	for range 300 {
		if res, err := http.Get("http://" + addr + "/"); err == nil {
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				panic(res.Status)
			}
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	res, err := http.Get("http://" + addr + "/hint")
	if err != nil {
		panic(err)
	}
	fmt.Println(res.StatusCode)
}
END
seen=$(GOWORK=off GOTOOLCHAIN=go1.26.8 go run main.go)
printf 'version:  varnish %s\nexpected: %s\nseen:     %s\n' "$version" "$expected" "$seen"
[ "$seen" = "$recorded" ] || { echo "This is no longer what was seen: $recorded"; exit 1; }
