package sessions

import (
	"context"
	"net/http"
	"time"

	"github.com/typedsessions/sessions/internal/keys"
	"github.com/typedsessions/sessions/internal/seam"
	"github.com/typedsessions/sessions/internal/txn"
	"github.com/typedsessions/sessions/internal/wire"
)

// Site implements [seam.Handler].
func (h *handler) Site() *seam.Site {
	if h.m.site.Load() == nil {
		site := &seam.Site{Cookie: h.m.engine.Cookie, Mode: keys.CookieMode, Ring: h.m.engine.Ring}
		if h.m.engine.Store != nil {
			site.Mode = keys.StoreMode
		}
		h.m.site.CompareAndSwap(nil, site)
	}
	return h.m.site.Load()
}

// found reports whether k asks for the session of x.
func (x *exchange) found(k seam.Key) bool {
	site := x.m.site.Load()
	if k.Of == nil {
		return site.Device() != nil
	}
	return k.Of == site
}

// A deviceSession is the session of a request as package dbsc sees it. It
// implements [seam.Session].
type deviceSession struct{ x *exchange }

func (s deviceSession) Site() *seam.Site    { return s.x.m.site.Load() }
func (s deviceSession) Header() http.Header { return s.x.req.Header }
func (s deviceSession) ID() string          { return s.x.session().ID() }
func (s deviceSession) Announce()           { s.x.session().Announce() }

func (s deviceSession) Extension() (value []byte, opened time.Time) {
	return s.x.session().Extension(wire.DeviceTag)
}

func (s deviceSession) Extend(change func(now []byte) []byte) {
	s.x.session().Extend(wire.DeviceTag, change)
}

func (s deviceSession) Save(ctx context.Context) error { return s.x.session().Save(ctx) }
func (s deviceSession) Withhold(begin bool)            { s.x.session().Withhold(begin) }

func (s deviceSession) Elsewhere() bool {
	switch s.x.session().Reason() {
	case txn.Replaced, txn.Newer, txn.Undecodable, txn.Invalid:
		return true
	}
	return false
}

func (s deviceSession) HadCookie() bool {
	x := s.x
	if x.m.engine.Store != nil {
		return x.shared.HadCookie
	}
	for _, line := range x.req.Header["Cookie"] {
		if _, _, ok := x.m.engine.Cookie.Next(line); ok {
			return true
		}
	}
	return false
}
