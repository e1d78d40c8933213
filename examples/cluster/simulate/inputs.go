package main

import "math"

// An engine is what was measured of one, for sessions with 200 bytes of data. The
// machine is that of docs/BENCHMARKS.md. In a test of the same size on another
// machine, bytes are the same and times are not.
type engine struct {
	name string

	// bytes that a session takes: without an owner, with one, with a label too.
	anonymous, owner, label float64

	// What a request costs, whose session has an owner. That of MemoryStore is in
	// docs/BENCHMARKS.md.
	read, write, login, touch cost
}

// A cost is the processor time of the server and of the application (Manager, store
// and client; not HTTP and not the handler), in microseconds, and the bytes between
// them.
type cost struct{ server, application, wire float64 }

// By "go test ./benchmarks/scale", see docs/SCALE.md.
var (
	memory = engine{name: "MemoryStore", anonymous: 410, owner: 460, label: 527}
	redis  = engine{
		name: "Redis", anonymous: 372, owner: 601, label: 819,
		read: cost{4.5, 15, 215}, write: cost{14, 28, 553}, login: cost{15, 22, 433}, touch: cost{4.7, 4.6, 182},
	}
	postgresql = engine{
		name: "PostgreSQL", anonymous: 486, owner: 735, label: 957,
		read: cost{27, 36, 342}, write: cost{110, 67, 716}, login: cost{75, 34, 364}, touch: cost{66, 22, 189},
	}
)

// Engines of which the tests of their stores measure the bytes alone, with 200 bytes
// of data: "go test -run '^$' -bench Size -benchtime 1x" in their folders. Zero: not
// measured, or not possible.
var others = []engine{
	{name: "NATS, in files", anonymous: 385, owner: 567},
	{name: "memcached", anonymous: 384},
	{name: "files", anonymous: 4096, owner: 8192},
}

// What the load is taken to be. A reader has other numbers.
const (
	active    = 0.1    // the share of live sessions whose user is there at the peak
	think     = 10.0   // seconds between two requests of such a user
	writes    = 0.05   // the share of requests that change the session
	logins    = 0.001  // and of those that sign in
	idle      = 3600.0 // Config.IdleTimeout, in seconds
	busy      = 0.5    // the share of a processor that is planned with
	usable    = 0.75   // the share of memory that is planned with: the rest is for forks, buffers and fragmentation
	meanLoad  = 1.0 / 3
	perSecond = 10_000.0 // requests that an application process serves
)

// requests returns how many there are in a second at the peak.
func requests(sessions float64) float64 { return sessions * active / think }

// mean returns the cost of a request, with the Touches of the idle timeout.
func (e engine) mean() (c cost) {
	touched := touches(1/think, idle) * think
	for _, part := range []struct {
		share float64
		cost  cost
	}{{1 - writes - logins, e.read}, {writes, e.write}, {logins, e.login}, {touched, e.touch}} {
		c.server += part.share * part.cost.server
		c.application += part.share * part.cost.application
		c.wire += part.share * part.cost.wire
	}
	return c
}

// cores returns how many processors of the engine the sessions keep busy at the peak.
func (e engine) cores(sessions float64) float64 { return requests(sessions) * e.mean().server / 1e6 }

// Prices in US dollars, of us-east-1 of AWS, on demand. docs/SCALE.md has their
// sources.
const (
	redisNode    = 0.437 // an hour of cache.r7g.xlarge; assumed, unlike the others
	redisMemory  = 26.32 // GiB
	sqlNode      = 0.478 // an hour of db.r8g.xlarge; a standby costs the same again
	sqlCores     = 4.0
	sqlDisk      = 0.115 // a month of a GB
	betweenZones = 0.02  // a GB, both directions together
	toInternet   = 0.09  // a GB
	hours        = 730.0 // a month
	cookieBytes  = 400.0 // of a Set-Cookie with a session in it
)

const gib = 1 << 30

// redisShards returns how many masters hold the sessions and serve their requests.
// Each uses one processor for commands.
func redisShards(sessions float64) (byMemory, byTime float64) {
	return math.Ceil(sessions * redis.owner / (redisMemory * usable * gib)), math.Ceil(redis.cores(sessions) / busy)
}

// What an update costs Redis more while some processes watch: "go test -bench
// UpdateWatched" in stores/redisstore, with 1 and with 16.
const (
	firstWatcher  = 0.8
	eachWatcher   = 0.085
	changeMessage = 70.0 // bytes of a change that is told: its key, and the frame
)

// exampleRush has twice the users that the processors can serve at first.
var exampleRush = loginRush{users: 5000, back: 60, hash: 0.05, servers: 2}

// exampleHot is in another zone than its Redis.
var exampleHot = hotUser{trip: 0.0005, redis: 5e-6, work: 30e-6}

// exampleFlood is a crawler of twenty pages in a second that keeps no cookies.
var exampleFlood = flood{rate: 20, keeps: 1, lifetime: 3600, time: 3 * 3600}
