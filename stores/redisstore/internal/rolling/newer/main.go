// Newer is the newer version of the program of a rolling deployment.
package main

import (
	"strconv"
	"time"

	"github.com/typedsessions/sessions/stores/redisstore/internal/rolling/program"
)

type profile struct {
	City  string    `msgpack:"city"`
	Since time.Time `msgpack:"since"`
}

type appSession struct {
	N       int     `msgpack:"n"`
	Plan    string  `msgpack:"plan"`
	Profile profile `msgpack:"profile"`
}

func main() {
	program.Serve(
		func(n int, p *appSession, b *badges) {
			p.N++
			b.N++
			if n%5 == 0 {
				p.Plan = "plan " + strconv.Itoa(n)
				p.Profile.Since = time.Unix(int64(n), 0)
				b.Trial = time.Unix(int64(n), 1)
			}
		},
		func(p appSession, b badges) any {
			return map[string]any{
				"N": p.N, "City": p.Profile.City, "BadgesN": b.N, "Name": b.Name,
				"Plan": p.Plan, "Since": p.Profile.Since.Unix(), "Trial": b.Trial.UnixNano(),
			}
		})
}
