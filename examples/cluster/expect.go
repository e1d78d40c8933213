package main

import (
	"slices"
	"time"
)

// sees checks whose session an answer shows, and reports whether it is that of the
// device.
func (u *user) sees(d *device, r reply) bool {
	switch {
	case r.view.User != u.name:
		u.check.violate(u, "an answer shows the session of another user: %s, want %s", r.view.User, u.name)
	case r.view.ID != d.id:
		u.check.violate(u, "an answer shows another session of the same user: %s, want %s", r.view.ID, d.id)
	default:
		return true
	}
	return false
}

// see checks an answer to the only request under way: it must show the session of the
// device, with all changes.
func (u *user) see(d *device, r reply) {
	if !u.sees(d, r) {
		return
	}
	for name := range r.view.Cart {
		if d.cart[name] == nil {
			d.cart[name] = &field{}
		}
	}
	for name, f := range d.cart {
		u.seeField("the cart's "+name, f, r.view.Cart[name], r.begun)
	}
	if d.upgraded == yes && r.release != release20 {
		if !u.check.mayBeLost(d.upgradedAt) {
			u.check.violate(u, "release %s shows a session that release %s has stored, want it hidden", r.release, release20)
		}
		d.upgraded = maybe
	}
	if r.release != release10 {
		u.seeField("the note", &d.note, r.view.Note, r.begun)
	}
	want, unknown := d.count.sum, len(d.count.pending)
	lost, ok := d.count.see(r.view.Count, r.begun)
	if !ok {
		u.check.violate(u, "the count is %d, want %d, and at most %d more, which had no answer", r.view.Count, want, unknown)
	}
	u.lostChanges("the count", r.view.Count, want, lost)
}

func (u *user) seeField(what string, f *field, value string, begun time.Time) {
	want := f.last()
	lost, ok := f.see(value, begun)
	if !ok {
		u.check.violate(u, "%s is %q, want %q: it was never written to this session, or long ago", what, value, want)
	}
	u.lostChanges(what, value, want, lost)
}

// lostChanges notes that acknowledged changes are lost, and checks whether that may be.
func (u *user) lostChanges(what string, got, want any, acknowledged []time.Time) {
	if len(acknowledged) == 0 {
		return
	}
	for _, at := range acknowledged {
		if !u.check.mayBeLost(at) {
			u.check.violate(u, "%s is %#v, want %#v: %d acknowledged changes are lost, one of %s", what, got, want, len(acknowledged), at.Format("15:04:05.000"))
			return
		}
	}
	u.check.countLost(lostChange, len(acknowledged))
}

// missing notes that a release answered a device as one that is not signed in, and
// checks whether that may be.
func (u *user) missing(d *device, release string) {
	switch {
	case d.upgraded != no && release != release20:
		// An older release leaves the session alone, for the newer one to find it again.
		d.hidden++
		u.check.hid()
		return
	case d.mayBeIdle():
	case u.disturbed():
		u.check.countLost(lostSession, 1)
	default:
		u.check.violate(u, "%s is signed out, want session %s: nobody ended it", d.name, d.id)
	}
	u.ended(d, "", time.Now(), nil)
}

// A change is a request that an older release acknowledged, though it may have
// discarded what the request was to change.
type change struct {
	op, field, value string
	at               time.Time
}

// checkDiscarded expects that a process reported each change as discarded that an answer
// does not show.
func (u *user) checkDiscarded(d *device, changes []change, r reply) {
	if !r.ok() || r.release == release10 {
		return
	}
	for _, c := range changes {
		stored := false
		switch c.op {
		case "POST /set":
			stored = r.view.Cart[c.field] == c.value
		case "POST /note":
			stored = r.view.Note == c.value
		case "POST /add":
			stored = !slices.Contains(d.count.pending, c.at)
		}
		if !stored && !u.check.mayBeLost(c.at) {
			u.check.expectDiscard(u, d.id)
		}
	}
}
