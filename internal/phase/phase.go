// Package phase says how far the response of a request is. It is the only clock
// of a request: the response writer moves it, and a session reads it to know
// what can still reach the browser.
package phase

import "sync/atomic"

// The phases of a response, in their order.
const (
	Open      = iota // nothing has left
	Sent             // the session is committed, the handler's headers may leave
	Answering        // the commit failed, Config.ErrorHandler writes
	Failed           // and has written; what the handler writes is discarded
)

// closed is added once the request is over.
const closed = 4

// A Phase is safe for concurrent use. Its zero value is Open.
type Phase struct{ v atomic.Int32 }

// Is reports whether the response is in the given phase.
func (p *Phase) Is(phase int32) bool { return p.v.Load()&^closed == phase }

// Set moves the response to a later phase.
func (p *Phase) Set(phase int32) { p.v.Store(phase | p.v.Load()&closed) }

// Left reports whether the headers have left.
func (p *Phase) Left() bool { return p.v.Load() != Open }

// Close ends the request. A writer that was open lets everything pass from now
// on and commits nothing.
func (p *Phase) Close() {
	if v := p.v.Load(); v == Open {
		p.v.Store(Sent | closed)
	} else {
		p.v.Store(v | closed)
	}
}

// Closed reports whether the request is over.
func (p *Phase) Closed() bool { return p.v.Load()&closed != 0 }
