#!/usr/bin/env bash
# Why it matters here: a session may grow until it is larger than memcached's limit (-I,
# by default 1 MiB). One would expect: a store that is refused leaves the old value alone.
# So it is with add, replace, append and cas. A refused set deletes the old value. So the
# store must not use set for a change.
set -euo pipefail
version=1.6.18-1+deb12u1
expected='set: kept; add: kept; replace: kept; append: kept; cas: kept'
recorded='set: deleted; add: kept; replace: kept; append: kept; cas: kept'

dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid"; rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q "memcached=$version" libevent-2.1-7 libsasl2-2 >apt.log 2>&1 || { cat apt.log; exit 2; }
for package in *.deb; do dpkg-deb -x "$package" root; done
LD_LIBRARY_PATH=$(dirname "$(find root -name 'libevent-2.1.so.7' | head -n 1)") root/usr/bin/memcached \
	-u "$(id -un)" -s "$dir/socket" -t 1 &
pid=$!
cat >main.go <<'END'
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

func main() {
	var conn net.Conn
	var err error
	for range 100 {
		if conn, err = net.Dial("unix", os.Args[1]); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		panic(err)
	}
	r := bufio.NewReader(conn)
	ask := func(request string) string {
		if _, err := fmt.Fprint(conn, request); err != nil {
			panic(err)
		}
		line, err := r.ReadString('\n')
		if err != nil {
			panic(err)
		}
		return strings.TrimSpace(line)
	}
	large := strings.Repeat("x", 1<<20+1)
	var all []string
	for _, verb := range []string{"set", "add", "replace", "append", "cas"} {
		if got := ask("set id 0 0 3\r\nold\r\n"); got != "STORED" {
			panic(got)
		}
		unique := ""
		if verb == "cas" {
			unique = " 1"
		}
		if got := ask(fmt.Sprintf("%s id 0 0 %d%s\r\n%s\r\n", verb, len(large), unique, large)); got != "SERVER_ERROR object too large for cache" {
			panic(got)
		}
		state := "deleted"
		if ask("get id\r\n") != "END" {
			state = "kept"
			_, _ = r.ReadString('\n') // the value
			_, _ = r.ReadString('\n') // END
		}
		all = append(all, verb+": "+state)
	}
	fmt.Println(strings.Join(all, "; "))
}
END
seen=$(GOWORK=off GOTOOLCHAIN=go1.26.8 go run main.go "$dir/socket")
printf 'version:  memcached %s\nexpected: %s\nseen:     %s\n' "$version" "$expected" "$seen"
[ "$seen" = "$recorded" ] || { echo "This is no longer what was seen: $recorded"; exit 1; }
