package storetest

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// A proxy forwards connections to a server. It can cut them, or hold up all bytes.
type proxy struct {
	addr   string // the address at which it listens
	server string

	cutting atomic.Bool
	cuts    [3]atomic.Int64 // number of cuts of each kind

	mu    sync.Mutex
	held  chan struct{} // closed by release; nil if no bytes are held up
	waits chan struct{} // receives a value when bytes are held up
}

// A cut is the point at which a connection is closed.
type cut int

const (
	beforeRequest cut = iota // the server does not receive the request
	beforeAnswer             // the server has executed the request
	inAnswer
	noCut
)

// cutOneIn is the number of chunks from a client of which one is cut, on average.
// It is large enough to set up a connection, which takes up to a dozen chunks.
const cutOneIn = 25

func newProxy(t testing.TB, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), server: server, waits: make(chan struct{}, 1)}
	var conns sync.Map
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				conns.Store(c, true)
				p.serve(c)
				conns.Delete(c)
			})
		}
	})
	t.Cleanup(func() {
		p.release()
		_ = l.Close()
		conns.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
		running.Wait()
	})
	return p
}

// hold holds up all bytes until release is called.
func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = make(chan struct{})
	select {
	case <-p.waits:
	default:
	}
}

func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
}

// wait returns when no bytes are held up.
func (p *proxy) wait() {
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if held == nil {
		return
	}
	select {
	case p.waits <- struct{}{}:
	default:
	}
	<-held
}

// randomCut returns the cut for a request, and counts it.
func (p *proxy) randomCut() cut {
	if !p.cutting.Load() || rand.IntN(cutOneIn) > 0 {
		return noCut
	}
	c := cut(rand.IntN(int(noCut)))
	p.cuts[c].Add(1)
	return c
}

// serve forwards a connection until it is cut or one side closes it.
func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	p.wait()
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	var due atomic.Int64 // the cut for the next answer
	due.Store(int64(noCut))
	var both sync.WaitGroup
	both.Go(func() {
		defer client.Close()
		defer server.Close()
		p.forward(server, client, func(b []byte) (n int, end bool) {
			switch c := p.randomCut(); c {
			case beforeRequest:
				return 0, true
			default:
				if c != noCut {
					due.Store(int64(c))
				}
				return len(b), false
			}
		})
	})
	both.Go(func() {
		defer client.Close()
		defer server.Close()
		p.forward(client, server, func(b []byte) (n int, end bool) {
			switch cut(due.Load()) {
			case beforeAnswer:
				return 0, true
			case inAnswer:
				return len(b) / 2, true
			}
			return len(b), false
		})
	})
	both.Wait()
}

// forward copies bytes between two connections. For each chunk it calls limit,
// which returns how many bytes of it to copy, and whether to stop after them.
func (p *proxy) forward(to, from net.Conn, limit func(b []byte) (n int, end bool)) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			p.wait()
			m, end := limit(b[:n])
			if _, err := to.Write(b[:m]); err != nil || end {
				return
			}
		}
		if err != nil {
			return // io.EOF, or the other direction has closed both connections
		}
	}
}
