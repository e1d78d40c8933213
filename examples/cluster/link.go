package main

import (
	"io"
	"net"
	"sync"
	"time"
)

// A link is the network between the applications and a server: a proxy that can be
// slow, or cut.
type link struct {
	net.Listener
	server string

	mu    sync.Mutex
	delay time.Duration
	cut   [2]chan struct{} // of requests and of answers: nil, or closed when they go on
}

func newLink(server string) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{Listener: l, server: server}
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

// setCut stops the requests, the answers, or both. Afterwards they go on, as TCP does.
func (k *link) setCut(requests, answers bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, cut := range [2]bool{requests, answers} {
		switch {
		case cut && k.cut[i] == nil:
			k.cut[i] = make(chan struct{})
		case !cut && k.cut[i] != nil:
			close(k.cut[i])
			k.cut[i] = nil
		}
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
	go func() { k.carry(client, server, 0); done <- struct{}{} }()
	go func() { k.carry(server, client, 1); done <- struct{}{} }()
	<-done
}

type packet struct {
	data []byte
	at   time.Time // when it arrives
}

// carry copies with the delay, which does not bound the throughput. The index of cut
// is that of the direction.
func (k *link) carry(from io.Reader, to io.Writer, direction int) {
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
		cut := k.cut[direction]
		k.mu.Unlock()
		if cut != nil {
			<-cut
		}
		if _, err := to.Write(p.data); err != nil {
			return
		}
	}
}
