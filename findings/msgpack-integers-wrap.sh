#!/usr/bin/env bash
# Why it matters here: the type of a session's field may be narrowed between two
# deployments, and records are written by other programs too. The guess, before the run:
# msgpack refuses a number that the field's type cannot hold, as encoding/json does.
# It keeps the lowest bits without an error: 300 becomes 44 in an int8, and -1 the
# largest uint. (It does refuse a float that is read into an integer, also 1.0.) So the
# range of each number has to be checked before msgpack reads it.
set -euo pipefail
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS=-mod=mod
version=v5.4.1
expected='300 as int8: error; -1 as uint: error; 9223372036854775808 as int64: error'
recorded='300 as int8: 44; -1 as uint: 18446744073709551615; 9223372036854775808 as int64: -9223372036854775808'

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<END
module finding

go 1.26

require github.com/vmihailenco/msgpack/v5 $version
END
cat >main.go <<'END'
package main

import (
	"encoding/json"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

func as[T any](v any) string {
	var fromJSON, fromMsgpack T
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	if json.Unmarshal(b, &fromJSON) == nil {
		panic("encoding/json gives no error")
	}
	if b, err = msgpack.Marshal(v); err != nil {
		panic(err)
	}
	if msgpack.Unmarshal(b, &fromMsgpack) != nil {
		return fmt.Sprintf("%v as %T: error", v, fromMsgpack)
	}
	return fmt.Sprintf("%v as %T: %v", v, fromMsgpack, fromMsgpack)
}

func main() {
	fmt.Printf("%s; %s; %s\n", as[int8](300), as[uint](-1), as[int64](uint64(1<<63)))
}
END
seen=$(go run . 2>build.log) || { cat build.log; exit 1; }
printf 'version:  msgpack %s\nexpected: %s\nseen:     %s\n' "$version" "$expected" "$seen"
[ "$seen" = "$recorded" ] || { echo "This is no longer what was seen: $recorded"; exit 1; }
