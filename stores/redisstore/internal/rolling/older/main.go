// Older is the older version of the program of a rolling deployment. It lacks the fields
// Plan, Profile.Since and Badges.Trial.
package main

import (
	"strconv"

	"github.com/typedsessions/sessions/stores/redisstore/internal/rolling/program"
)

type profile struct {
	City string `msgpack:"city"`
}

type appSession struct {
	N       int     `msgpack:"n"`
	Profile profile `msgpack:"profile"`
}

func main() {
	program.Serve(
		func(n int, p *appSession, b *badges) {
			p.N++
			b.N++
			if n%3 == 0 {
				p.Profile.City = "city " + strconv.Itoa(n)
				b.Name = "name " + strconv.Itoa(n)
			}
		},
		func(p appSession, b badges) any {
			return map[string]any{"N": p.N, "City": p.Profile.City, "BadgesN": b.N, "Name": b.Name}
		})
}
