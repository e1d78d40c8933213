// Package seam is how package dbsc reaches the session of a request, for which
// package sessions has no exported names. The handler that Manager.Middleware
// returns is a [Handler]; the context of a request finds a [Session] by a [Key].
package seam

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/typedsessions/sessions/internal/cookie"
	"github.com/typedsessions/sessions/internal/keys"
)

// A Handler is what Manager.Middleware returns.
type Handler interface {
	http.Handler
	Site() *Site // the same for all handlers of a Manager
}

// A Site is what does not change from request to request. It is safe for
// concurrent use.
type Site struct {
	Cookie cookie.Spec
	Mode   keys.Mode
	Ring   *atomic.Pointer[keys.Ring]

	device atomic.Pointer[Device]
}

// A Device is package dbsc, as package sessions sees it.
type Device interface {
	// Announce adds to the header of a response whose session was announced and
	// is stored by now. Nothing but the leaving of the header follows.
	Announce(s Session, h http.Header)
}

// Attach makes d the device of the site. It reports false if there is one.
func (s *Site) Attach(d Device) bool { return s.device.CompareAndSwap(nil, &d) }

// Device returns what was attached, nil if nothing was.
func (s *Site) Device() Device {
	if s == nil {
		return nil
	}
	if d := s.device.Load(); d != nil {
		return *d
	}
	return nil
}

// A Key finds the Session of a site in the context of a request, and the zero Key
// the innermost that has a device.
type Key struct{ Of *Site }

// A Session is the session of one request. It is safe for concurrent use.
type Session interface {
	Site() *Site

	// Header is that of the request.
	Header() http.Header

	// HadCookie reports whether the request brought a cookie of the session's
	// name. It does not open the session, as all that follow do.
	HadCookie() bool

	// ID is the public id.
	ID() string

	// Elsewhere reports whether the session that the cookies ask for may live although
	// it was not found: it has just moved to another id, or this program cannot read
	// it and another one may.
	Elsewhere() bool

	// Extension returns what a device keeps in the session, nil if that is
	// nothing, and when the request opened the session, now if that is new. The
	// value must not be changed.
	Extension() (value []byte, opened time.Time)

	// Extend changes the extension. change may run again, on what another request
	// has stored, and must not call the session.
	Extend(change func(now []byte) []byte)

	// Save stores the session now, as Session.Save does.
	Save(ctx context.Context) error

	// Announce asks for Device.Announce once the session is stored.
	Announce()

	// Withhold shows a new session from now on, and forgets what the request did
	// to the one that it found, which stays as it is: nothing notes its use. What
	// is put into the new session is discarded, unless it begins by RegenerateID,
	// Reset or an owner; with begin it is stored in any case. Destroy and Reset end
	// the session that was found.
	Withhold(begin bool)
}
