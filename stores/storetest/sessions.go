package storetest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/typedsessions/sessions"
)

// A visit is a subject with two apps that use its store. They may be the same app,
// or run in two processes.
type visit struct {
	*subject
	apps [2]string
}

func (v *visit) browser() *browser { return &browser{t: v.tester, app: v.apps[0]} }

// signIn returns a browser with a stored session of the user.
func (v *visit) signIn(user string) (*browser, string) {
	v.Helper()
	b := v.browser()
	r := b.do("login", "value", user)
	if b.cookie == "" {
		v.Fatal("a login got no cookie")
	}
	return b, r.ID
}

// isTombstone reports whether a record stands for an id that another has replaced,
// as docs/FORMAT.md describes it.
func isTombstone(rec sessions.Record) bool { return len(rec.Data) == 6 && rec.Data[0] == 0x13 }

// stored returns the ID of a public id.
func (v *visit) stored(s string) (id sessions.ID) {
	v.Helper()
	if n, err := hex.Decode(id[:], []byte(s)); err != nil || n != len(id) {
		v.Fatalf("%q is not the id of a stored session", s)
	}
	return id
}

// live returns the public ids that have a session in the store.
func (v *visit) live(ids ...string) (live []string) {
	v.Helper()
	ids = slices.Sorted(slices.Values(ids))
	for _, s := range slices.Compact(ids) {
		if rec, ok := v.find(v.stored(s)); ok && !isTombstone(rec) {
			live = append(live, s)
		}
	}
	return live
}

// afterEnd reads the session of a browser, which another process has ended. A store
// with a cache, which has a method LoadNewest, is told of that a moment later.
func (v *visit) afterEnd(b *browser) (r reply) {
	_, caches := v.bare.(interface {
		LoadNewest(ctx context.Context, id sessions.ID) (sessions.Record, error)
	})
	for range 100 {
		if r = b.do("read"); r.Reason == sessions.ReasonUnknown || !caches {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	return r
}

// conflicts returns the number of conflicts that the requests to the apps have met.
func (v *visit) conflicts() (sum int) {
	v.Helper()
	for _, app := range slices.Compact(slices.Clone(v.apps[:])) {
		var n int
		v.askAt(app, "conflicts", "", &n)
		sum += n
	}
	return sum
}

// ask sends the second app a request for an operation of its Manager.
func (v *visit) ask(what, value string, answer any, except ...string) {
	v.Helper()
	v.askAt(v.apps[1], what, value, answer, except...)
}

func (v *visit) askAt(app, what, value string, answer any, except ...string) {
	v.Helper()
	q := url.Values{"value": {value}, "except": except}
	w := v.patience.wait(aRequest)
	ctx, cancel := context.WithTimeoutCause(v.ctx, w.Duration, w.err())
	defer cancel()
	r, err := post(ctx, app+"/"+what+"?"+q.Encode(), "", answer)
	if err != nil {
		v.Fatalf("the request %s: %v", what, err)
	}
	if r.status != http.StatusOK {
		v.Fatalf("the request %s: %s", what, reply{Status: r.status, Text: r.text}.failure())
	}
}

// hasOwners reports whether the store has an index of owners.
func (v *visit) hasOwners() bool { return is[sessions.OwnerStore](v.Store) }

// newName returns a random name, which is unique even in a store that tests share.
func newName() string { return "user " + rand.Text() }

// A sessionClause is a promise of a Manager that depends on the store.
type sessionClause struct {
	name  string
	check func(v *visit)
}

// inOneApp returns the clauses for one app, which is both apps of a visit.
func inOneApp(all []sessionClause) (clauses []clause) {
	for _, c := range all {
		clauses = append(clauses, clause{c.name, func(s *subject) {
			app := newApp(s.tester, s.bare, false)
			c.check(&visit{subject: s, apps: [2]string{app.url, app.url}})
		}})
	}
	return clauses
}

var sessionClauses = []sessionClause{
	{"100 parallel Updates all count", func(v *visit) {
		const all, most = 100, 3 // conflicts of each, on average
		for tries := 3; ; tries-- {
			b, _ := v.signIn(newName())
			replies := make([]reply, all)
			before := v.conflicts()
			v.parallel(all, func(i int) { replies[i] = b.at(v.apps[i%2]).send(v.ctx, "add") })
			if got := v.conflicts() - before; got > most*all {
				v.Errorf("got %d conflicts, want at most %d for each request", got, most)
			}
			n, refused, text := b.do("read").Account.N, 0, ""
			for _, r := range replies {
				if r.Status != http.StatusOK {
					refused, text = refused+1, r.failure()
				}
			}
			if n == all && refused == 0 {
				return
			}
			// An engine that takes 50 ms for a write cannot take 100 within the 5 s
			// after which a request is refused, nor may one on a busy machine. In one
			// of three tries, all requests must succeed. It cannot be that all lost.
			if n > all || n < all-refused || refused == all || tries == 1 {
				v.patience.failed(v.patience.wait(aRequest), replies[0].Took)
				v.Fatalf("got N=%d and %d refused requests, want N=%d and none: %s", n, refused, all, text)
			}
		}
	}},
	{"parallel requests keep each other's fields and map keys", func(v *visit) {
		b, _ := v.signIn(newName())
		changes := [][2]string{{"name", "Ada"}, {"role", "admin"}, {"city", "London"}}
		for i := range 17 {
			changes = append(changes, [2]string{"cart", strconv.Itoa(i)})
		}
		// No request continues before all have loaded the session.
		var loaded atomic.Int64
		all := make(chan struct{})
		v.parallel(len(changes), func(i int) {
			b.at(v.apps[i%2]).slow(func() {
				if loaded.Add(1) == int64(len(changes)) {
					close(all)
				}
				v.await(all)
			}, changes[i][0], "value", changes[i][1])
		})
		if a := b.do("read").Account; a.Name != "Ada" || a.Role != "admin" || a.City != "London" || len(a.Cart) != 17 {
			v.Errorf("got %+v, want all of the %d changes", a, len(changes))
		}
	}},
	{"an ended session stays ended, whatever a slow request does", func(v *visit) {
		ends := map[string]func(other *browser, user, id string){
			"Destroy": func(other *browser, _, _ string) { other.do("destroy") },
			"Reset":   func(other *browser, _, _ string) { other.do("reset") },
			"Revoke":  func(_ *browser, _, id string) { v.ask("revoke", id, nil) },
		}
		if v.hasOwners() {
			ends["RevokeOwner"] = func(_ *browser, user, _ string) { v.ask("revokeowner", user, nil) }
		}
		for end, finish := range ends {
			for _, verb := range []string{"read", "name", "add", "flash", "flashes", "regenerate", "login", "prolong"} {
				user := newName()
				b, id := v.signIn(user)
				b.do("flash", "value", "hello")
				old, other := b.at(v.apps[0]), b.at(v.apps[1])
				r := b.slow(func() { finish(other, user, id) }, verb, "value", user)
				if live := v.live(id, r.ID); len(live) > 0 {
					v.Errorf("%s: %d live records after a slow request with the verb %s, want none", end, len(live), verb)
				}
				if b.cookie != old.cookie {
					v.Errorf("%s: a slow request with the verb %s got a cookie", end, verb)
				}
				if r := v.afterEnd(old); r.Reason != sessions.ReasonUnknown || r.Account.User != "" {
					v.Errorf("%s, then %s: the old cookie has a session of %q (%q), want an unknown one", end, verb, r.Account.User, r.Reason)
				}
				if v.Failed() {
					return
				}
			}
		}
	}},
	{"parallel requests do not undo a logout", func(v *visit) {
		for range 10 {
			b, id := v.signIn(newName())
			v.parallel(8, func(i int) {
				b := b.at(v.apps[i%2])
				if i == 4 {
					b.do("destroy")
					return
				}
				for range 3 {
					b.do([]string{"add", "flash", "cart", "name"}[i%4], "value", "x")
				}
			})
			if live := v.live(id); len(live) > 0 {
				v.Errorf("the session is live after a logout")
			}
			if r := b.do("read"); r.Reason != sessions.ReasonUnknown {
				v.Errorf("the old cookie has a session of %q (%q), want an unknown one", r.Account.User, r.Reason)
			}
		}
	}},
	{"two concurrent RegenerateIDs leave one live session", func(v *visit) {
		for range 10 {
			first, id := v.signIn(newName())
			second := first.at(v.apps[1])
			old := first.cookie
			var a, b reply
			var wait func()
			// The second request has loaded the session when the first one starts.
			b = second.slow(func() {
				wait = v.start(1, func(int) { a = first.do("regenerate") })
			}, "regenerate")
			wait()
			live := v.live(id, a.ID, b.ID)
			if len(live) != 1 || live[0] == id {
				v.Errorf("got live ids %v, want one new one", live)
			}
			moved := 0
			for _, b := range []*browser{first, second} {
				if b.cookie != old {
					moved++
				}
			}
			if moved != 1 {
				v.Errorf("%d requests got a cookie, want one", moved)
			}
		}
	}},
	{"a login concurrent with a logout leaves at most one live session, a new one", func(v *visit) {
		for range 10 {
			b, id := v.signIn(newName())
			out := b.at(v.apps[1])
			var r reply
			v.parallel(2, func(i int) {
				if i == 0 {
					r = b.do("login", "value", newName())
				} else {
					out.do("destroy")
				}
			})
			if live := v.live(id, r.ID); slices.Contains(live, id) || len(live) > 1 {
				v.Errorf("got live ids %v, want at most the new one", live)
			}
		}
	}},
	{"the sessions of an owner are listed, and revoked except for one", func(v *visit) {
		if !v.hasOwners() {
			return
		}
		user, other := newName(), newName()
		var browsers []*browser
		var want []string
		for i := range 6 {
			b, id := v.signIn(user)
			browsers, want = append(browsers, b.at(v.apps[i%2])), append(want, id)
		}
		stranger, _ := v.signIn(other)
		if r := browsers[5].do("login", "value", other); r.ID == want[5] {
			v.Error("a login kept the id")
		}
		browsers, want = browsers[:5], want[:5] // the sixth belongs to the other owner now
		for _, b := range browsers {
			b.do("add")
		}
		var got []string
		v.ask("sessions", user, &got)
		slices.Sort(got)
		sorted := slices.Sorted(slices.Values(want))
		if !slices.Equal(got, sorted) {
			v.Errorf("got sessions %v, want %v", got, sorted)
		}
		var n int
		v.ask("revokeowner", user, &n, want[0])
		if live := v.live(want...); n != 4 || !slices.Equal(live, want[:1]) {
			v.Errorf("revoked %d and left %v, want 4 and the first of %v", n, live, want)
		}
		for i, b := range browsers {
			if gone := b.do("read").Reason == sessions.ReasonUnknown; gone == (i == 0) {
				v.Errorf("session %d: revoked is %t", i, gone)
			}
		}
		if stranger.do("read").Reason != sessions.ReasonNone {
			v.Error("the session of another owner was revoked")
		}
	}},
	{"RevokeOwner ends all sessions of an owner under load", func(v *visit) {
		if !v.hasOwners() {
			return
		}
		user := newName()
		const n = 8
		var browsers []*browser
		var ids []string
		for range n {
			b, id := v.signIn(user)
			browsers, ids = append(browsers, b), append(ids, id)
		}
		var revoking, revoked atomic.Bool
		var begun atomic.Int64
		all := make(chan struct{})
		wait := v.start(n, func(i int) {
			b := browsers[i].at(v.apps[i%2])
			for k := 0; ; k++ {
				if k == 2 && begun.Add(1) == n {
					close(all)
				}
				late := revoked.Load()
				reason := b.do([]string{"add", "flash", "cart"}[k%3], "value", "x").Reason
				switch {
				case reason != sessions.ReasonNone && revoking.Load():
					return
				case reason != sessions.ReasonNone:
					v.Fatalf("a session is lost before RevokeOwner (%s)", reason)
				case late:
					v.Fatal("a session was not revoked")
				}
			}
		})
		v.await(all)
		revoking.Store(true)
		v.ask("revokeowner", user, nil)
		revoked.Store(true)
		if live := v.live(ids...); len(live) > 0 {
			v.Errorf("%d of %d sessions are live after RevokeOwner", len(live), n)
		}
		wait()
		if live := v.live(ids...); len(live) > 0 {
			v.Errorf("%d of %d sessions are live again after the load", len(live), n)
		}
	}},
	{"of 64 logins at once at most as many are left as MaxPerOwner allows", func(v *visit) {
		if !v.hasOwners() {
			return
		}
		user := newName()
		var replies [64]reply
		login := func(i int) {
			b := v.browser().at(v.apps[i%2] + limitedPath)
			replies[i] = b.send(v.ctx, "login", "value", user)
		}
		v.parallel(len(replies), login)
		for i := range replies {
			if replies[i].Status == http.StatusServiceUnavailable { // a slow engine has no time for all at once
				login(i)
			}
			if r := replies[i]; r.Status != http.StatusConflict && r.Status != http.StatusOK {
				v.Fatalf("a login: %s", r.failure())
			}
		}
		var got []string
		v.ask("sessions", user, &got)
		if len(got) < 1 || len(got) > maxPerOwner {
			v.Errorf("got %d sessions, want 1 to %d", len(got), maxPerOwner)
		}
	}},
}

// watchedClauses are for a store that is a Watcher.
var watchedClauses = []sessionClause{
	{"Changes yields the id of a session that the other app changes or ends", func(v *visit) {
		l := v.listen(sha256.Sum256([]byte(newName())))
		if l == nil {
			return
		}
		for _, end := range []string{"destroy", "reset", "regenerate"} {
			b, id := v.signIn(newName())
			b = b.at(v.apps[1])
			for _, verb := range []string{"add", "name", end} {
				l.told("a request with the verb "+verb, v.stored(id), func() { b.do(verb, "value", "x") })
			}
		}
		_, id := v.signIn(newName())
		l.told("Revoke", v.stored(id), func() { v.ask("revoke", id, nil) })
	}},
}
