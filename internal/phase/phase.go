// Package phase says how far the response of a request is. It is the only clock
// of a request: the response writer moves it, and a session reads it to know
// what can still reach the browser.
package phase

import "sync/atomic"

// The phases of a response, in their order.
const (
	Open       = iota // nothing has left
	Committing        // the commit waits for an Update or a Save
	Sent              // the commit has begun, the handler's headers leave after it
	Answering         // the commit failed, Config.ErrorHandler writes
	Failed            // and has written; what the handler writes is discarded
)

// closed is added once the request is over.
const closed = 8

// A Phase is safe for concurrent use. Its zero value is Open.
type Phase struct{ v atomic.Int32 }

// Is reports whether the response is in the given phase.
func (p *Phase) Is(phase int32) bool { return p.v.Load()&^closed == phase }

// Set moves the response to a later phase.
func (p *Phase) Set(phase int32) {
	for v := p.v.Load(); !p.v.CompareAndSwap(v, phase|v&closed); v = p.v.Load() {
	}
}

// Left reports whether the headers have left, or are about to.
func (p *Phase) Left() bool { return p.v.Load() >= Sent }

// Close ends the request. A writer that was open lets everything pass from now
// on and commits nothing.
func (p *Phase) Close() {
	for v := p.v.Load(); !p.v.CompareAndSwap(v, max(v, Sent)|closed); v = p.v.Load() {
	}
}

// Closed reports whether the request is over.
func (p *Phase) Closed() bool { return p.v.Load()&closed != 0 }
