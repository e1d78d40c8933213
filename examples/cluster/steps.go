package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"
)

// login signs in. The oldest session must end if there are too many.
func (u *user) login(ctx context.Context, d *device) bool {
	// The limit compares times in seconds: which of two sessions of the same second ends
	// is not known.
	for {
		wait := time.Until(u.lastLogin.Add(1100*time.Millisecond + u.check.skew()))
		if wait <= 0 {
			break // the fault clocks may have begun while the user waited
		}
		if !pause(ctx, wait) {
			return false
		}
	}
	r := u.do(d, "POST /login", url.Values{"user": {u.name}})
	u.lastLogin = r.done
	u.changed = append(u.changed, r.done)
	if !r.ok() {
		u.doubt = true
		return false
	}
	if in := u.in(); len(in) >= maxPerOwner && !u.doubt {
		oldest := slices.MinFunc(in, func(a, b *device) int { return a.login.Compare(b.login) })
		u.ended(oldest, "limit", r.done, u.cookieOf(oldest))
	}
	u.check.belongs(r.view.ID, u)
	d.signedIn, d.id, d.login, d.stored, d.used = true, r.view.ID, r.done, r.done, r.done
	d.cart, d.count, d.note = make(map[string]*field), counter{}, field{}
	d.upgraded = no
	if r.release == release20 {
		d.upgraded, d.upgradedAt = yes, r.done
	}
	u.see(d, r)
	return true
}

// browse reads the session.
func (u *user) browse(d *device) reply {
	r := u.do(d, "GET /me", nil)
	switch {
	case r.ok():
		u.see(d, r)
	case !r.unknown():
		u.missing(d, r.release)
	}
	return r
}

// twoTabs changes the session by two requests at once. It returns the changes that may
// be discarded.
func (u *user) twoTabs(d *device) (unsure []change) {
	var ops [2]string
	var forms [2]url.Values
	var replies [2]reply
	var tabs sync.WaitGroup
	for i, name := range []string{"left", "right"} {
		forms[i] = url.Values{"wait": {fmt.Sprintf("%dms", u.rand.IntN(20))}}
		switch ops[i] = "POST /set"; {
		case u.rand.IntN(2) == 0:
			ops[i] = "POST /add"
		case name == "right" && u.rand.IntN(2) == 0:
			ops[i] = "POST /note"
		}
		if ops[i] != "POST /add" {
			u.writes++
			forms[i].Set("field", name)
			forms[i].Set("value", fmt.Sprintf("%s-%d", u.name, u.writes))
		}
		tabs.Go(func() { replies[i] = u.send(d.jar, ops[i], forms[i]) })
	}
	tabs.Wait()
	for i, r := range replies {
		u.noteReply(d, ops[i], forms[i], r)
	}
	// The next answer shows whether a change was stored, if nothing else may still be
	// stored.
	certain := len(d.count.pending) == 0 && len(d.note.pending) == 0 && !slices.ContainsFunc(replies[:], reply.unknown)
	for _, f := range d.cart {
		certain = certain && len(f.pending) == 0
	}
	for i, r := range replies {
		if !r.ok() && !r.unknown() {
			continue // the session is missing: browse checks that
		}
		if r.ok() && !u.sees(d, r) {
			continue
		}
		// What an older release was about to change is discarded if the newest one has
		// stored the session meanwhile, which the older one cannot read.
		acknowledged := r.ok() && (r.release == release20 || d.upgraded == no)
		name, value := forms[i].Get("field"), forms[i].Get("value")
		if certain && !acknowledged && (ops[i] != "POST /note" || r.release != release10) {
			unsure = append(unsure, change{ops[i], name, value, r.done})
		}
		switch ops[i] {
		case "POST /add":
			d.count.add(r.done, acknowledged)
		case "POST /note":
			if r.release != release10 {
				d.note.wrote(value, r.done, acknowledged)
			}
		default:
			if d.cart[name] == nil {
				d.cart[name] = &field{}
			}
			d.cart[name].wrote(value, r.done, acknowledged)
		}
	}
	return unsure
}

// patience is how often in a row a user meets a release that does not show the session,
// before the user gives it up.
const patience = 4

// giveUp signs out from a session that the present release cannot read, or signs in
// again and out everywhere else.
func (u *user) giveUp(ctx context.Context, d *device) {
	u.note("%s does not see its session", d.name)
	if u.rand.IntN(2) == 0 {
		u.logout(d)
		return
	}
	u.recover(ctx)
}

func (u *user) rotate(d *device) {
	cookie := u.cookieOf(d)
	r := u.do(d, "POST /rotate", nil)
	switch {
	case r.ok():
		u.changed = append(u.changed, r.done)
		u.ended(d, "renewed", r.done, cookie)
		u.check.belongs(r.view.ID, u)
		d.id, d.stored = r.view.ID, r.done
		u.see(d, r)
	case r.unknown():
		u.doubt = true
	default:
		u.missing(d, r.release)
	}
}

// logout signs out. Half of the time, another tab changes or uses the session meanwhile.
func (u *user) logout(d *device) {
	cookie := u.cookieOf(d)
	var tab sync.WaitGroup
	if cookie != nil && u.rand.IntN(2) == 0 {
		form := url.Values{"wait": {fmt.Sprintf("%dms", 10+u.rand.IntN(20))}, "field": {"late"}, "value": {u.name + "-late"}}
		// The other tab sent its request before the logout, so its answer must not count:
		// it has a jar of its own.
		jar := u.jarWith(cookie)
		op := []string{"POST /set", "GET /me"}[u.rand.IntN(2)]
		u.note("%s: another tab is sending %s", d.name, op)
		tab.Go(func() { u.send(jar, op, form) })
		time.Sleep(time.Duration(u.rand.IntN(15)) * time.Millisecond)
	}
	r := u.do(d, "POST /logout", nil)
	tab.Wait()
	u.changed = append(u.changed, r.done)
	if !r.ok() {
		u.doubt = true
		return
	}
	u.ended(d, "destroyed", r.done, cookie)
	if cookie != nil {
		u.tryOld(u.old[len(u.old)-1])
	}
}

func (u *user) revokeOthers(d *device) bool {
	r := u.do(d, "POST /revoke-others", nil)
	u.changed = append(u.changed, r.done)
	switch {
	case r.ok():
		for _, other := range u.in() {
			if other != d {
				u.ended(other, "revoked", r.done, u.cookieOf(other))
			}
		}
		u.see(d, r)
		return true
	case r.unknown():
		u.doubt = true
	default:
		u.missing(d, r.release)
	}
	return false
}

// tryOld sends the cookie of a session that has ended, which must be of no use.
func (u *user) tryOld(old oldCookie) {
	r := u.send(u.jarWith(old.Cookie), "GET /me", nil)
	u.note("the cookie of a session that ended at %s: %d, id %.8s", old.ended.Format("15:04:05.000"), r.status, r.view.ID)
	if !r.ok() {
		return
	}
	if u.check.mayBeLost(old.ended) || old.byIndex && u.check.mayBeLost(old.stored) {
		u.check.countLost(lostEnd, 1)
	} else {
		u.check.violate(u, "a session lives that ended at %s: got status %d, want 401", old.ended.Format("15:04:05.000"), r.status)
	}
	u.old = slices.DeleteFunc(u.old, func(o oldCookie) bool { return o.Value == old.Value })
}

// recover signs in again and signs out everywhere else, as users do who saw an error.
// Afterwards it is known which sessions live.
func (u *user) recover(ctx context.Context) {
	u.note("something went wrong: sign in again, and out everywhere else")
	u.doubt = true
	d := u.devices[0]
	for {
		if !pause(ctx, settleTime) {
			return
		}
		for _, d := range u.devices {
			u.ended(d, "", time.Now(), nil)
		}
		var old []oldCookie
		for _, d := range u.devices {
			if c := u.cookieOf(d); c != nil {
				old = append(old, oldCookie{c, d.stored, time.Time{}, true})
			}
		}
		if !u.login(ctx, d) {
			continue
		}
		u.doubt, u.changed = false, []time.Time{d.stored} // nothing but the new session counts
		if !u.revokeOthers(d) {
			u.doubt = true
			continue
		}
		now := time.Now()
		for _, o := range old {
			o.ended = now
			u.old = append(u.old, o)
		}
		for _, s := range u.streams {
			s.mustEnd = now
		}
		return
	}
}
