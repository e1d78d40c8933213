package benchmarks

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/typedsessions/sessions/stores/redisstore"
)

// BenchmarkClient measures the options of clients that the READMEs of the stores
// speak of, with the requests of BenchmarkStore. The first option of each engine is
// what the others are compared with. Run it with -count, so that the options take
// turns, and divide the figures of each turn: a machine is not as fast all the time.
func BenchmarkClient(b *testing.B) {
	redis, postgres := startEngine(b, "Redis"), startEngine(b, "PostgreSQL")
	type client struct {
		name   string
		engine *engine
		app    app
	}
	var clients []client
	for _, c := range []struct {
		name   string
		change func(*rueidis.ClientOption)
	}{
		{"default", func(*rueidis.ClientOption) {}},
		{"MaxFlushDelay-20us", func(o *rueidis.ClientOption) { o.MaxFlushDelay = 20 * time.Microsecond }},
		{"MaxFlushDelay-100us", func(o *rueidis.ClientOption) { o.MaxFlushDelay = 100 * time.Microsecond }},
		{"PipelineMultiplex-0", func(o *rueidis.ClientOption) { o.PipelineMultiplex = -1 }}, // 1 connection; the default is 2 with two processors, then 4
		{"PipelineMultiplex-2", func(o *rueidis.ClientOption) { o.PipelineMultiplex = 2 }},  // 4
		{"PipelineMultiplex-4", func(o *rueidis.ClientOption) { o.PipelineMultiplex = 4 }},  // 16
		{"BlockingPoolSize-64", func(o *rueidis.ClientOption) { o.BlockingPoolSize = 64 }},
	} {
		clients = append(clients, client{"redis-" + c.name, redis, oursStored(b, redisstore.New(redis.rueidis(b, c.change), redisstore.Options{}))})
	}
	for _, n := range []int{20, 2, 4, 8, 16, 64} {
		clients = append(clients, client{fmt.Sprint("postgres-MaxOpenConns-", n), postgres, oursStored(b, postgres.sqlStore(b, n))})
	}
	for _, w := range works[:2] {
		rand.Shuffle(len(clients), func(i, j int) { clients[i], clients[j] = clients[j], clients[i] })
		for _, c := range clients {
			b.Run("work="+w.name+"/by="+c.name, func(b *testing.B) {
				load(b, c.engine, connect(b, w.handler(c.app), visitors(b, c.app, connections)))
			})
		}
	}
}
