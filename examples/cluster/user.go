package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A user has three devices, one more than may be signed in. A user waits for the
// answers of a step before the next step, and so knows what the next answer must hold.
type user struct {
	name  string
	site  *site
	check *checker
	think time.Duration
	rand  *rand.Rand

	devices   []*device
	old       []oldCookie
	lastLogin time.Time
	changed   []time.Time // when sessions began, ended or got a new id, since the last recover
	doubt     bool        // such an operation failed: it may have been done or not
	writes    int
	history   []string
	cookieAge atomic.Int64 // when the oldest cookie of a live session came, in Unix nanoseconds
}

// A device is a browser with a cookie jar.
type device struct {
	name     string
	jar      *cookiejar.Jar
	signedIn bool
	id       string
	login    time.Time // of the last sign-in: the oldest session ends first
	stored   time.Time // when the session got its id: the record and the index were written
	used     time.Time // when a request last succeeded, and its use was stored
	cookie   string
	cookieAt time.Time // when the request began that brought it
	cart     map[string]*field
	count    counter
	note     field
	streams  []*openStream

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

type openStream struct {
	cancel context.CancelFunc
	done   chan struct{}
	told   atomic.Bool // the stream said that the session has ended

	mustEnd time.Time // zero: the session lives
	stored  time.Time
}

// A reply is the outcome of a request.
type reply struct {
	status      int    // 0: there was no answer
	release     string // that answered
	view        view
	begun, done time.Time
}

// ok reports whether the server acknowledged the request.
func (r reply) ok() bool { return r.status == http.StatusOK }

// unknown reports whether the request may have been carried out or not.
func (r reply) unknown() bool {
	return r.status != http.StatusOK && r.status != http.StatusUnauthorized
}

var transport = &http.Transport{MaxIdleConnsPerHost: 1000, DisableCompression: true}

func newUser(name string, s *site, c *checker, think time.Duration) *user {
	seed := uint64(0)
	for _, b := range []byte(name) {
		seed = seed*31 + uint64(b)
	}
	u := &user{name: name, site: s, check: c, think: think, rand: rand.New(rand.NewPCG(seed, 1))}
	for _, device := range []string{"laptop", "phone", "tablet"} {
		u.devices = append(u.devices, newDevice(device))
	}
	return u
}

func newDevice(name string) *device {
	jar, _ := cookiejar.New(nil)
	return &device{name: name, jar: jar}
}

func (u *user) note(format string, args ...any) {
	u.history = append(u.history, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	u.history = u.history[max(0, len(u.history)-60):]
}

// send sends a request. It does not change the user, so that two tabs can send at once.
func (u *user) send(jar http.CookieJar, op string, form url.Values) reply {
	r := reply{begun: time.Now()}
	method, path, _ := strings.Cut(op, " ")
	client := http.Client{Transport: transport, Jar: jar, Timeout: 20 * time.Second}
	req, err := http.NewRequest(method, u.site.url+path+"?"+form.Encode(), nil)
	if err != nil {
		panic(err)
	}
	res, err := client.Do(req)
	if err == nil {
		defer res.Body.Close()
		r.status, r.release = res.StatusCode, res.Header.Get(releaseHeader)
		if r.status == http.StatusOK && json.NewDecoder(res.Body).Decode(&r.view) != nil {
			r.status = 0
		}
	}
	r.done = time.Now()
	u.check.request(op, r.begun, r.status, r.unknown())
	return r
}

// do sends a request and notes the answer.
func (u *user) do(d *device, op string, form url.Values) reply {
	r := u.send(d.jar, op, form)
	u.noteReply(d, op, form, r)
	return r
}

func (u *user) noteReply(d *device, op string, form url.Values, r reply) {
	u.note("%s: %s %s: %d in %d ms by %s, id %.8s, user %s, cart %v, count %d, note %s", d.name, op, form.Encode(), r.status,
		r.done.Sub(r.begun).Milliseconds(), r.release, r.view.ID, r.view.User, r.view.Cart, r.view.Count, r.view.Note)
	if r.ok() {
		u.used(d, r.begun)
	}
	changes := op == "POST /set" || op == "POST /add" || op == "POST /note"
	switch {
	case d.upgraded == yes || !changes && op != "POST /rotate":
	case changes && r.ok() && r.release == release20:
		d.upgraded, d.upgradedAt = yes, r.done
	case r.ok() && r.release == release20 || r.unknown() && u.check.isReleased(release20):
		d.upgraded = maybe // a new id alone may leave the data as they are
	}
	if c := u.cookieOf(d); c != nil && c.Value != d.cookie {
		d.cookie, d.cookieAt = c.Value, r.begun
	}
}

// used notes that a request has used the session of a device, unless the engine may have
// refused to store the use, which costs no request.
func (u *user) used(d *device, begun time.Time) {
	d.hidden = 0
	if !u.check.usesMayBeLost(begun) {
		d.used = time.Now()
	}
}

func (u *user) cookieOf(d *device) *http.Cookie {
	at, _ := url.Parse(u.site.url)
	for _, c := range d.jar.Cookies(at) {
		return c
	}
	return nil
}

// live does one step after another until ctx is done.
func (u *user) live(ctx context.Context) {
	for u.wait(ctx, time.Duration(float64(u.think)*(0.5+u.rand.Float64()))) {
		u.step(ctx)
		u.checkStreams()
		oldest := time.Now()
		for _, d := range u.devices {
			if d.signedIn && d.cookieAt.Before(oldest) {
				oldest = d.cookieAt
			}
		}
		u.cookieAge.Store(oldest.UnixNano())
	}
	u.finish()
}

func (u *user) wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// disturbed reports whether the user cannot know which sessions live: an operation
// failed, or the engine may have lost one that it acknowledged.
func (u *user) disturbed() bool {
	return u.doubt || slices.ContainsFunc(u.changed, u.check.mayBeLost)
}

func (u *user) step(ctx context.Context) {
	u.changed = slices.DeleteFunc(u.changed, func(at time.Time) bool { return time.Since(at) > 2*replicationLag && !u.check.mayBeLost(at) })
	if u.doubt || u.disturbed() && !u.check.losing() {
		u.recover(ctx)
		return
	}
	in := u.in()
	if len(in) == 0 {
		u.login(ctx, u.devices[u.rand.IntN(len(u.devices))])
		return
	}
	d := in[u.rand.IntN(len(in))]
	if d.hidden >= patience {
		u.giveUp(ctx, d)
		return
	}
	switch n := u.rand.IntN(100); {
	case n < 25:
		u.browse(d)
	case n < 40:
		u.browse(slices.MinFunc(in, func(a, b *device) int { return a.cookieAt.Compare(b.cookieAt) }))
	case n < 68:
		unsure := u.twoTabs(d)
		u.checkDiscarded(d, unsure, u.browse(d))
	case n < 74:
		u.open(d)
	case n < 79:
		u.rotate(d)
	case n < 84:
		u.logout(d)
	case n < 88:
		u.revokeOthers(d)
	case n < 94:
		out := slices.DeleteFunc(slices.Clone(u.devices), func(d *device) bool { return d.signedIn })
		u.login(ctx, out[u.rand.IntN(len(out))])
	default:
		if len(u.old) > 0 {
			u.tryOld(u.old[u.rand.IntN(len(u.old))])
		}
	}
}

func (u *user) in() []*device {
	return slices.DeleteFunc(slices.Clone(u.devices), func(d *device) bool { return !d.signedIn })
}

// login signs in. The oldest session must end if there are too many.
func (u *user) login(ctx context.Context, d *device) bool {
	// The limit compares times in seconds: which of two sessions of the same second ends
	// is not known.
	for wait := true; wait; {
		apart := 1100*time.Millisecond + u.check.skew()
		if !u.wait(ctx, time.Until(u.lastLogin.Add(apart))) {
			return false
		}
		wait = apart < 1100*time.Millisecond+u.check.skew()
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
	return true
}

// ended notes that the session of a device has ended, or has got a new id. A process
// must have told the reason, unless it is "".
func (u *user) ended(d *device, reason string, at time.Time, cookie *http.Cookie) {
	if reason != "" && time.Since(d.used) < idleTimeout*3/4 {
		u.check.expectEnd(expectedEnd{u, d.id, reason, d.stored, at})
	}
	if cookie != nil {
		u.old = append(u.old, oldCookie{cookie, d.stored, at, reason == "" || reason == "limit" || reason == "revoked"})
		u.old = u.old[max(0, len(u.old)-10):]
	}
	for _, s := range d.streams {
		if s.mustEnd.IsZero() {
			s.mustEnd, s.stored = at, d.stored
		}
	}
	if reason != "renewed" {
		d.signedIn = false
	}
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
	case time.Since(d.used) > idleTimeout*3/4: // idle
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
	// Whether a change is stored can be told if nothing else may still be stored.
	certain := len(d.count.pending) == 0 && len(d.note.pending) == 0 && !slices.ContainsFunc(replies[:], reply.unknown)
	for _, f := range d.cart {
		certain = certain && len(f.pending) == 0
	}
	for i, r := range replies {
		if !r.ok() && !r.unknown() {
			continue // the session is missing: browse tells
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
		jar, _ := cookiejar.New(nil)
		at, _ := url.Parse(u.site.url)
		jar.SetCookies(at, []*http.Cookie{{Name: cookie.Name, Value: cookie.Value}})
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
	jar, _ := cookiejar.New(nil)
	at, _ := url.Parse(u.site.url)
	jar.SetCookies(at, []*http.Cookie{{Name: old.Name, Value: old.Value}})
	r := u.send(jar, "GET /me", nil)
	u.note("the cookie of a session that ended at %s: %d, id %.8s", old.ended.Format("15:04:05.000"), r.status, r.view.ID)
	if !r.ok() {
		return
	}
	if u.check.mayBeLost(old.ended) || old.byIndex && u.check.mayBeLost(old.stored) {
		u.check.countLost(lostEnd, 1)
	} else {
		u.check.violate(u, "a session lives that ended at %s", old.ended.Format("15:04:05.000"))
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
		if !u.wait(ctx, settleTime) {
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
		for _, d := range u.devices {
			for _, s := range d.streams {
				s.mustEnd = now
			}
		}
		return
	}
}

// open opens a stream, which must end soon after its session.
func (u *user) open(d *device) {
	if len(d.streams) >= 3 {
		return
	}
	begun := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	s := &openStream{cancel: cancel, done: make(chan struct{})}
	req, err := http.NewRequestWithContext(ctx, "GET", u.site.url+"/stream", nil)
	if err != nil {
		panic(err)
	}
	res, err := (&http.Client{Transport: transport, Jar: d.jar}).Do(req)
	status := 0
	if err == nil {
		status = res.StatusCode
	}
	u.check.request("GET /stream", begun, status, status != http.StatusOK && status != http.StatusUnauthorized)
	u.note("%s: GET /stream: %d", d.name, status)
	if status != http.StatusOK {
		cancel()
		if err == nil {
			res.Body.Close()
		}
		if status == http.StatusUnauthorized {
			u.missing(d, res.Header.Get(releaseHeader))
		}
		return
	}
	u.used(d, begun)
	d.streams = append(d.streams, s)
	go func() {
		defer close(s.done)
		defer res.Body.Close()
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if lines.Text() == streamEnded {
				s.told.Store(true)
			}
		}
	}()
}

func (u *user) checkStreams() {
	for _, d := range u.devices {
		d.streams = slices.DeleteFunc(d.streams, func(s *openStream) bool {
			select {
			case <-s.done:
				if s.told.Load() && s.mustEnd.IsZero() && !u.disturbed() && time.Since(d.used) < idleTimeout*3/4 {
					u.check.violate(u, "a stream of %s tells the end of a session that lives", d.name)
				}
				return true
			default:
			}
			if s.mustEnd.IsZero() {
				return false
			}
			if u.check.mayBeLost(s.mustEnd) || u.check.mayBeLost(s.stored) {
				s.cancel() // the end may be undone
				return true
			}
			if by, ok := u.check.streamsEndBy(s.mustEnd); ok && time.Now().After(by) {
				u.check.violate(u, "a stream of %s goes on %.1f s after its session has ended", d.name, time.Since(s.mustEnd).Seconds())
				s.cancel()
				return true
			}
			return false
		})
	}
}

// finish checks everything once more, signs out, and waits for the streams.
func (u *user) finish() {
	if !u.disturbed() && !u.check.stopped() {
		for _, d := range u.in() {
			u.browse(d)
		}
		for _, old := range slices.Clone(u.old) {
			u.tryOld(old)
		}
		if in := u.in(); len(in) > 0 && !u.doubt {
			u.revokeOthers(in[0])
		}
		if in := u.in(); len(in) > 0 && !u.doubt {
			u.logout(in[0])
		}
	}
	for open := true; open; {
		u.checkStreams()
		if u.disturbed() || u.check.stopped() {
			for _, d := range u.devices {
				for _, s := range d.streams {
					s.cancel()
				}
			}
		}
		open = false
		for _, d := range u.devices {
			open = open || len(d.streams) > 0
		}
		if open {
			time.Sleep(50 * time.Millisecond)
		}
	}
}
