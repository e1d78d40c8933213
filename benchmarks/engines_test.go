package benchmarks

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"
	"github.com/typedsessions/sessions/internal/testserver"
)

// connections is the number of clients that send requests. It is also the maximum
// of connections in a pool, so that no request waits for one.
const connections = 64

// An engine is a running server with the load that it has had so far.
type engine struct {
	server *testserver.Server
	traffic
	used    func() usage
	version func() string // a line in benchstat's format
}

// A usage is the load of a server, in commands and bytes.
type usage struct{ commands, received, sent int64 }

// startEngine starts the server in which a contender of Stored keeps sessions.
func startEngine(tb testing.TB, keeps string) *engine {
	tb.Helper()
	if keeps == "Redis" {
		e := &engine{server: testserver.Redis(tb)}
		client := e.rueidis(tb)
		e.used = func() usage { return redisUsage(tb, client) }
		e.version = func() string { return "server-redis: " + redisInfo(tb, client, "server")["redis_version"] }
		return e
	}
	// If commits waited for the disk, the benchmark would measure the disk.
	e := &engine{server: testserver.Postgres(tb, "synchronous_commit=off", fmt.Sprint("max_connections=", 10*connections))}
	e.used = e.traffic.usage
	e.version = func() string {
		var version string
		if err := e.pool(tb).QueryRow(tb.Context(), `SHOW server_version`).Scan(&version); err != nil {
			tb.Fatal(err)
		}
		return "server-postgresql: " + version
	}
	return e
}

func (e *engine) rueidis(tb testing.TB, changes ...func(*rueidis.ClientOption)) rueidis.Client {
	tb.Helper()
	option := rueidis.ClientOption{InitAddress: []string{e.server.Addr}, DisableRetry: true}
	for _, change := range changes {
		change(&option)
	}
	client, err := rueidis.NewClient(option)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return client
}

// redisUsage returns the statistics of Redis, which include commands in scripts.
func redisUsage(tb testing.TB, client rueidis.Client) usage {
	tb.Helper()
	stats := redisInfo(tb, client, "stats")
	count := func(name string) int64 {
		n, err := strconv.ParseInt(stats[name], 10, 64)
		if err != nil {
			tb.Fatal(err)
		}
		return n
	}
	return usage{count("total_commands_processed"), count("total_net_input_bytes"), count("total_net_output_bytes")}
}

func redisInfo(tb testing.TB, client rueidis.Client, section string) map[string]string {
	tb.Helper()
	info, err := client.Do(context.Background(), client.B().Info().Section(section).Build()).ToString()
	if err != nil {
		tb.Fatal(err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

// pgx returns a configuration of pgx whose connections count their traffic.
func (e *engine) pgx(tb testing.TB) *pgxpool.Config {
	tb.Helper()
	config, err := pgxpool.ParseConfig(e.server.PostgresURL())
	if err != nil {
		tb.Fatal(err)
	}
	config.MaxConns = connections
	config.ConnConfig.DialFunc = e.traffic.dial
	return config
}

// traffic counts the commands and bytes of connections to PostgreSQL. The
// statistics of PostgreSQL itself are delayed and do not count bytes.
type traffic struct{ commands, received, sent atomic.Int64 }

func (t *traffic) usage() usage {
	return usage{t.commands.Load(), t.received.Load(), t.sent.Load()}
}

func (t *traffic) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	return &countedConn{Conn: c, traffic: t}, err
}

type countedConn struct {
	net.Conn
	*traffic
	mu   sync.Mutex
	rest []byte // the beginning of an incomplete message
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.sent.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.received.Add(int64(len(b)))
	c.count(b)
	return c.Conn.Write(b)
}

// count counts the statements in b. A message has one byte for its kind, then four
// bytes for the length (PostgreSQL, "Message Formats"). Only the first message of
// a connection has no kind; its length begins with 0.
func (c *countedConn) count(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest = append(c.rest, b...)
	for len(c.rest) >= 5 {
		kind, header := c.rest[0], c.rest[1:5]
		size := 1
		if kind == 0 {
			header, size = c.rest[:4], 0
		}
		size += int(binary.BigEndian.Uint32(header))
		if len(c.rest) < size {
			return
		}
		if kind == 'E' || kind == 'Q' {
			c.commands.Add(1)
		}
		c.rest = c.rest[size:]
	}
	c.rest = append([]byte(nil), c.rest...)
}
