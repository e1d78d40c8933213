#!/usr/bin/env bash
# Why it matters here: validate tags of a session's fields are validator's. One would
# expect: its omitempty and omitzero differ as those of encoding/json do, so that
# omitempty skips an empty, non-nil list, and omitzero checks it. It is the other way
# round: omitempty checks the list, omitzero skips it.
set -euo pipefail
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS=-mod=mod
version=v10.30.6
expected='encoding/json leaves out: omitempty; validator skips: omitempty'
recorded='encoding/json leaves out: omitempty; validator skips: omitzero'

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<END
module finding

go 1.26

require github.com/go-playground/validator/v10 $version
END
cat >main.go <<'END'
package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-playground/validator/v10"
)

type Data struct {
	A []string `json:"omitempty,omitempty" validate:"omitempty,min=1"`
	B []string `json:"omitzero,omitzero" validate:"omitzero,min=1"`
}

func main() {
	data := Data{A: []string{}, B: []string{}} // neither has the one element that min asks for
	text, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	left, skipped := "", ""
	for field, name := range map[string]string{"A": "omitempty", "B": "omitzero"} {
		if !strings.Contains(string(text), name) {
			left += name
		}
		if validator.New().StructPartial(data, field) == nil {
			skipped += name
		}
	}
	fmt.Printf("encoding/json leaves out: %s; validator skips: %s\n", left, skipped)
}
END
seen=$(go run . 2>build.log) || { cat build.log; exit 1; }
printf 'version:  validator %s\nexpected: %s\nseen:     %s\n' "$version" "$expected" "$seen"
[ "$seen" = "$recorded" ] || { echo "This is no longer what was seen: $recorded"; exit 1; }
