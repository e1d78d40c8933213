package natsstore

import (
	"context"
	"errors"
	"sync"

	"github.com/nats-io/nats.go"
)

// errBroken is the error of an operation whose connection broke.
var errBroken = errors.New("the connection to NATS broke, the outcome is unknown")

// A connection tells when a connection to NATS breaks. The client does not tell
// that to requests that wait for an answer, which will not come.
type connection struct {
	conn   *nats.Conn
	status chan nats.Status

	mu     sync.Mutex
	intact context.Context // done when the connection breaks
	end    context.CancelCauseFunc
}

func watchConnection(conn *nats.Conn) *connection {
	c := &connection{conn: conn, status: conn.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)}
	c.intact, c.end = context.WithCancelCause(context.Background())
	go func() {
		for status := range c.status {
			c.broke()
			if status == nats.CLOSED {
				c.forget()
			}
		}
	}()
	return c
}

// forget ends the goroutine of c.
func (c *connection) forget() {
	if c != nil {
		c.conn.RemoveStatusListener(c.status)
	}
}

func (c *connection) broke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(errBroken)
	c.intact, c.end = context.WithCancelCause(context.Background())
}

// current returns a context that is done when the connection breaks the next time.
func (c *connection) current() context.Context {
	if c == nil {
		return context.Background()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.intact
}

// bind returns a context that is done when ctx is, or when the connection breaks.
// A request that is sent while the client reconnects is not affected: the client
// sends it when it is connected again.
func (c *connection) bind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.current(), func() { cancel(errBroken) })
	return ctx, func() { stop(); cancel(nil) }
}
