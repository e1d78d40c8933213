package main

import (
	"slices"
	"time"
)

// see checks an answer: it must show the user's own session, with all changes.
func (u *user) see(d *device, r reply) {
	if r.view.User != u.name {
		u.check.violate(u, "a session of another user: %s", r.view.User)
		return
	}
	if r.view.ID != d.id {
		u.check.violate(u, "another session of the same user: %s, want %s", r.view.ID, d.id)
		return
	}
	for name := range r.view.Cart {
		if d.cart[name] == nil {
			d.cart[name] = &field{}
		}
	}
	for name, f := range d.cart {
		lost, ok := f.see(r.view.Cart[name], r.begun)
		if !ok {
			u.check.violate(u, "%s of the cart is %q, which was never written to this session, or long ago", name, r.view.Cart[name])
		}
		u.lostChanges("of the cart's "+name, lost)
	}
	if d.upgraded == yes && r.release != release20 {
		if !u.check.mayBeLost(d.upgradedAt) {
			u.check.violate(u, "release %s shows a session that release %s has stored", r.release, release20)
		}
		d.upgraded = maybe
	}
	if r.release != release10 {
		lost, ok := d.note.see(r.view.Note, r.begun)
		if !ok {
			u.check.violate(u, "the note is %q, which was never written to this session, or long ago", r.view.Note)
		}
		u.lostChanges("of the note", lost)
	}
	known := d.count
	lost, ok := d.count.see(r.view.Count, r.begun)
	if !ok {
		u.check.violate(u, "the count is %d, with %d acknowledged and %d without an answer", r.view.Count, known.sum, len(known.pending))
	}
	u.lostChanges("of the count", lost)
}

func (u *user) lostChanges(of string, acknowledged []time.Time) {
	if len(acknowledged) == 0 {
		return
	}
	for _, at := range acknowledged {
		if !u.check.mayBeLost(at) {
			u.check.violate(u, "%d acknowledged changes %s are lost, one of %s", len(acknowledged), of, at.Format("15:04:05.000"))
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
		u.check.violate(u, "%s is signed out, and nobody did that", d.name)
	}
	u.ended(d, "", time.Now(), nil)
}

// A change is a request that an older release acknowledged, though it may have
// discarded what the request was to change.
type change struct {
	op, field, value string
	at               time.Time
}

// checkDiscarded expects that a process told of each change that an answer does not
// show.
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
