// Package benchmarks compares this library with other session libraries, and with
// hand-written code that does only the necessary work. All of them do the same work
// with the same data, in one run.
//
// The work is that of a shop. R reads the session, and W changes one field of it.
// N is a request without a cookie, and U one with a cookie whose session the handler
// does not ask for. F has a forged cookie, and L is a login.
//
// "go test -bench ." runs the benchmarks one after the other. In the root of the
// repository, "go run ./benchmarks/report" runs them in rounds, compares them and
// writes docs/BENCHMARKS.md.
package benchmarks

import "time"

// A Shop is the data of a shop about a visitor. It is the session of every
// contender.
type Shop struct {
	UserID   int       `msgpack:"uid" validate:"gte=0"`
	Name     string    `msgpack:"name" validate:"max=100"`
	Role     string    `msgpack:"role" validate:"omitempty,oneof=admin user"`
	Cart     []int     `msgpack:"cart" validate:"max=100,dive,gt=0"`
	LastSeen time.Time `msgpack:"seen"`
}

// A FreeShop is a Shop without validation rules, as the peers have it.
type FreeShop struct {
	UserID   int       `msgpack:"uid"`
	Name     string    `msgpack:"name"`
	Role     string    `msgpack:"role"`
	Cart     []int     `msgpack:"cart"`
	LastSeen time.Time `msgpack:"seen"`
}
