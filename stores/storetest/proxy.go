package storetest

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// A proxy stands before a server and cuts connections, or holds up what goes
// through them.
type proxy struct {
	addr   string // where it listens
	server string

	cutting atomic.Bool
	cuts    [3]atomic.Int64 // by cut

	mu    sync.Mutex
	held  chan struct{} // closed when a hold-up ends; nil: there is none
	waits chan struct{} // told when something is held up
}

// A cut is where a connection ends.
type cut int

const (
	beforeRequest cut = iota // the server never sees it
	beforeAnswer             // the server has carried it out
	amidAnswer
	noCut
)

// cutOneIn is how many chunks of a client's bytes go through to one that
// is cut: few enough that a connection can be set up, which takes up to a dozen.
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

// hold holds up all bytes from now on, until release.
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

// pass waits while bytes are held up.
func (p *proxy) pass() {
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

func (p *proxy) draw() cut {
	if !p.cutting.Load() || rand.IntN(cutOneIn) > 0 {
		return noCut
	}
	c := cut(rand.IntN(int(noCut)))
	p.cuts[c].Add(1)
	return c
}

// serve carries the bytes of one connection until an end closes it, or a cut.
func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	p.pass()
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	var due atomic.Int64 // the cut of the next answer
	due.Store(int64(noCut))
	var both sync.WaitGroup
	both.Go(func() {
		defer client.Close()
		defer server.Close()
		p.carry(server, client, func(b []byte) (n int, end bool) {
			switch c := p.draw(); c {
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
		p.carry(client, server, func(b []byte) (n int, end bool) {
			switch cut(due.Load()) {
			case beforeAnswer:
				return 0, true
			case amidAnswer:
				return len(b) / 2, true
			}
			return len(b), false
		})
	})
	both.Wait()
}

// carry copies from one to the other what through lets through.
func (p *proxy) carry(to, from net.Conn, through func(b []byte) (n int, end bool)) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			p.pass()
			m, end := through(b[:n])
			if _, err := to.Write(b[:m]); err != nil || end {
				return
			}
		}
		if err != nil {
			return // io.EOF, or the other direction has closed both
		}
	}
}
