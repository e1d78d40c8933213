// Package benchmarks measures this library beside hand-written code that does
// only what cannot be left out, and beside the libraries that people use
// instead: the same works on the same data, in one run.
//
// The works are those of a shop: R reads the session, W changes one field of it,
// N is a visitor without a cookie, U one whose cookie nobody asks for, F one with
// a forged cookie, and L a login. "go test -bench ." runs them one after the
// other; "go run ./benchmarks/report", from the root of the repository, runs
// them in rounds, compares them and writes docs/BENCHMARKS.md.
package benchmarks

import "time"

// A Shop is what a shop keeps of a visitor, and the session of every contender.
type Shop struct {
	UserID   int       `msgpack:"uid" validate:"gte=0"`
	Name     string    `msgpack:"name" validate:"max=100"`
	Role     string    `msgpack:"role" validate:"omitempty,oneof=admin user"`
	Cart     []int     `msgpack:"cart" validate:"max=100,dive,gt=0"`
	LastSeen time.Time `msgpack:"seen"`
}

// A FreeShop is a Shop without rules to check, as the peers keep it.
type FreeShop struct {
	UserID   int       `msgpack:"uid"`
	Name     string    `msgpack:"name"`
	Role     string    `msgpack:"role"`
	Cart     []int     `msgpack:"cart"`
	LastSeen time.Time `msgpack:"seen"`
}
