#!/usr/bin/env bash
# Why it matters here: a session is validated in every request that loads or changes it.
# One would expect: two patch versions of validator allocate alike for a struct of five
# plain fields. From v10.30.2 on it is three times as much: 12 in place of 4.
set -euo pipefail
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS=-mod=mod
expected='v10.30.1: 4; v10.30.2: 4; v10.30.6: 4'
recorded='v10.30.1: 4; v10.30.2: 12; v10.30.6: 12'

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'END'
package main

import (
	"fmt"
	"testing"

	"github.com/go-playground/validator/v10"
)

type Data struct {
	A int      `validate:"gte=0"`
	B string   `validate:"omitempty,oneof=a b"`
	C []string `validate:"max=3,dive,max=8"`
	D string   `validate:"max=64"`
	E int      `validate:"min=0,max=10"`
}

func main() {
	validate := validator.New()
	data := &Data{B: "a", C: []string{"x", "y", "z"}, D: "d"}
	fmt.Println(testing.AllocsPerRun(1000, func() {
		if err := validate.Struct(data); err != nil {
			panic(err)
		}
	}))
}
END
seen=
for version in v10.30.1 v10.30.2 v10.30.6; do
	rm -f go.sum
	cat >go.mod <<END
module finding

go 1.26

require github.com/go-playground/validator/v10 $version
END
	allocations=$(go run . 2>build.log) || { cat build.log; exit 1; }
	seen="$seen${seen:+; }$version: $allocations"
done
printf 'version:  %s\nexpected: %s\nseen:     %s\n' "$(go version)" "$expected" "$seen"
[ "$seen" = "$recorded" ] || { echo "This is no longer what was seen: $recorded"; exit 1; }
