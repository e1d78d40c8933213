package main

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"time"
)

// A device is a browser with a cookie jar.
type device struct {
	name     string
	jar      *cookiejar.Jar
	signedIn bool
	id       string
	login    time.Time // of the last sign-in: the oldest session ends first
	stored   time.Time // when the session got its id, and its record and index were written
	used     time.Time // when a request last succeeded, and its use was stored
	cookie   string
	cookieAt time.Time // when the request began that brought it
	cart     map[string]*field
	count    counter
	note     field

	upgraded   certainty // that the newest release has stored the session
	upgradedAt time.Time // if that is certain
	hidden     int       // how many answers of older releases in a row did not show it
}

// A certainty says what a user knows of something.
type certainty int

const (
	no certainty = iota
	maybe
	yes
)

// An oldCookie belongs to a session that has ended.
type oldCookie struct {
	*http.Cookie
	stored, ended time.Time
	byIndex       bool // the index of the owner was needed to end it
}

func newDevice(name string) *device {
	jar, _ := cookiejar.New(nil)
	return &device{name: name, jar: jar}
}

// used notes that a request has used the session of a device, unless the engine may have
// refused to store the use, which costs no request.
func (u *user) used(d *device, begun time.Time) {
	d.hidden = 0
	if !u.check.usesMayBeLost(begun) {
		d.used = time.Now()
	}
}

// mayBeIdle reports whether the session may have ended because it was not used.
func (d *device) mayBeIdle() bool { return time.Since(d.used) >= idleTimeout*3/4 }

func (u *user) cookieOf(d *device) *http.Cookie {
	at, _ := url.Parse(u.site.url)
	for _, c := range d.jar.Cookies(at) {
		return c
	}
	return nil
}

// jarWith returns a jar with a copy of a cookie.
func (u *user) jarWith(c *http.Cookie) *cookiejar.Jar {
	jar, _ := cookiejar.New(nil)
	at, _ := url.Parse(u.site.url)
	jar.SetCookies(at, []*http.Cookie{{Name: c.Name, Value: c.Value}})
	return jar
}

func (u *user) in() []*device {
	return slices.DeleteFunc(slices.Clone(u.devices), func(d *device) bool { return !d.signedIn })
}

// ended notes that the session of a device has ended, or has got a new id. A process
// must have reported the reason, unless it is "".
func (u *user) ended(d *device, reason string, at time.Time, cookie *http.Cookie) {
	if reason != "" && !d.mayBeIdle() {
		u.check.expectEnd(expectedEnd{u, d.id, reason, d.stored, at})
	}
	if cookie != nil {
		u.old = append(u.old, oldCookie{cookie, d.stored, at, reason == "" || reason == "limit" || reason == "revoked"})
		u.old = u.old[max(0, len(u.old)-10):]
	}
	for _, s := range u.streams {
		if s.device == d && s.mustEnd.IsZero() {
			s.mustEnd, s.stored = at, d.stored
		}
	}
	if reason != "renewed" {
		d.signedIn = false
	}
}
