package main

import (
	"io"
	"net"
	"sync"
	"time"
)

// A link is the network between the applications and a server: a proxy that can be
// slow, or cut. A Redis Cluster cannot be behind it, since its nodes announce their
// own addresses.
type link struct {
	net.Listener
	server string

	mu    sync.Mutex
	delay time.Duration
	cut   chan struct{} // closed: not cut
}

func newLink(server string) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{Listener: l, server: server, cut: make(chan struct{})}
	close(k.cut)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go k.serve(c)
		}
	}()
	return k, nil
}

// setDelay makes everything take d longer, in each direction.
func (k *link) setDelay(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.delay = d
}

// setCut stops everything in both directions. Afterwards it goes on, as TCP does.
func (k *link) setCut(cut bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if cut {
		k.cut = make(chan struct{})
	} else {
		close(k.cut)
	}
}

func (k *link) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", k.server)
	if err != nil {
		return
	}
	defer server.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		go func() { k.carry(way[0], way[1]); done <- struct{}{} }()
	}
	<-done
}

type packet struct {
	data []byte
	at   time.Time // when it arrives
}

// carry copies with the delay, which does not bound the throughput.
func (k *link) carry(from io.Reader, to io.Writer) {
	packets, gone := make(chan packet, 1024), make(chan struct{})
	go func() {
		defer close(packets)
		for {
			buf := make([]byte, 32<<10)
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			k.mu.Lock()
			p := packet{buf[:n], time.Now().Add(k.delay)}
			k.mu.Unlock()
			select {
			case packets <- p:
			case <-gone:
				return
			}
		}
	}()
	defer close(gone)
	for p := range packets {
		time.Sleep(time.Until(p.at))
		k.mu.Lock()
		cut := k.cut
		k.mu.Unlock()
		<-cut
		if _, err := to.Write(p.data); err != nil {
			return
		}
	}
}
