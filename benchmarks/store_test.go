package benchmarks

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkStore measures requests of 64 concurrent visitors, each over its own
// connection to a net/http server, with the sessions in Redis or PostgreSQL.
func BenchmarkStore(b *testing.B) {
	engines, apps := map[string]*engine{}, map[string]app{}
	for _, c := range Stored {
		if engines[c.Keeps] == nil {
			engines[c.Keeps] = startEngine(b, c.Keeps)
			fmt.Println(engines[c.Keeps].version())
		}
		apps[c.Name] = storedApps[c.Name](b, engines[c.Keeps])
	}
	for _, w := range works[:2] {
		for _, c := range shuffled(Stored) {
			a := apps[c.Name]
			b.Run("work="+w.name+"/by="+c.Name, func(b *testing.B) {
				load(b, engines[c.Keeps], connect(b, w.handler(a), visitors(b, a, connections)))
			})
		}
	}
}

// visitors returns the cookies of n sessions.
func visitors(tb testing.TB, a app, n int) []string {
	tb.Helper()
	cookies := make([]string, n)
	for i := range cookies {
		cookies[i] = signIn(tb, a, visitor())
	}
	return cookies
}

// A client repeatedly sends the same request over one connection. It uses little
// CPU time, since it shares the processors with the server.
type client struct {
	conn    net.Conn
	answers *bufio.Reader
	request []byte
}

// connect starts a server with h and returns a connected client for each cookie.
func connect(tb testing.TB, h http.Handler, cookies []string) []*client {
	tb.Helper()
	server := httptest.NewServer(h)
	tb.Cleanup(server.Close)
	var clients []*client
	for _, cookie := range cookies {
		clients = append(clients, dial(tb, server.Listener.Addr().String(), "/", cookie)) // closed before the server, which waits for connections
	}
	return clients
}

// dial returns a client that is connected to the server at addr.
func dial(tb testing.TB, addr, path, cookie string) *client {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return &client{conn: conn, answers: bufio.NewReader(conn), request: requestBytes(path, cookie)}
}

func requestBytes(path, cookie string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nCookie: %s\r\n\r\n", path, around(cookie))
}

// get sends the request and reads an answer without a body.
func (c *client) get() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	line, err := c.answers.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("the server answers %q", line)
	}
	for len(line) > len("\r\n") {
		if line, err = c.answers.ReadSlice('\n'); err != nil {
			return err
		}
	}
	return nil
}

// load measures b.N requests from all clients together, and the load of e.
func load(b *testing.B, e *engine, clients []*client) {
	b.ReportAllocs()
	send(b, clients, warmUp*len(clients))
	before := e.used()
	b.ResetTimer()
	send(b, clients, b.N)
	b.StopTimer()
	after := e.used()
	n := float64(b.N)
	b.ReportMetric(n/b.Elapsed().Seconds(), "req/s")
	b.ReportMetric(float64(after.commands-before.commands)/n, "commands/req")
	b.ReportMetric(float64(after.received-before.received+after.sent-before.sent)/n, "wire-B/req")
}

// warmUp is the number of requests per client that are not measured. The first
// requests open the connections to the server.
const warmUp = 4

func send(b *testing.B, clients []*client, n int) {
	var sent atomic.Int64
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			for sent.Add(1) <= int64(n) {
				if err := c.get(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestStoredHandlersDoTheirWork(t *testing.T) {
	engines := map[string]*engine{}
	for _, c := range Stored {
		if engines[c.Keeps] == nil {
			engines[c.Keeps] = startEngine(t, c.Keeps)
		}
		t.Run(c.Name, func(t *testing.T) {
			e := engines[c.Keeps]
			before := e.used()
			wantWork(t, storedApps[c.Name](t, e))
			after := e.used()
			if after.commands-before.commands < 5 || after.received <= before.received || after.sent <= before.sent {
				t.Errorf("the server counted %+v before and %+v after, want at least 5 commands more", before, after)
			}
		})
	}
}
