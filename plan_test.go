package sessions_test

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/txn"
)

// A planned request is one of those that the library and its plan are compared
// by.
type planned struct {
	store   bool
	exists  txn.Existence
	changed bool
	oldKey  bool
	due     bool
	reach   txn.Reach
	end     txn.Verb   // 0, Destroy or Reset
	verbs   []txn.Verb // of Flash, Regenerate and SetLifetime
}

func (p planned) String() string {
	return fmt.Sprintf("store=%t exists=%d changed=%t oldKey=%t due=%t reach=%d end=%d verbs=%v", p.store, p.exists, p.changed, p.oldKey, p.due, p.reach, p.end, p.verbs)
}

func plannedRequests() (all []planned) {
	both := []bool{false, true}
	for _, kind := range []struct {
		store  bool
		exists txn.Existence
	}{{false, txn.Fresh}, {false, txn.Loaded}, {true, txn.Fresh}, {true, txn.Loaded}, {true, txn.Lost}} {
		for _, changed := range both {
			for _, oldKey := range both {
				for _, due := range both {
					for _, reach := range []txn.Reach{txn.Whole, txn.Header, txn.Gone} {
						for _, end := range []txn.Verb{0, txn.Destroy, txn.Reset} {
							for set := range 8 {
								p := planned{store: kind.store, exists: kind.exists, changed: changed, oldKey: oldKey, due: due, reach: reach, end: end}
								for i, v := range []txn.Verb{txn.Flash, txn.Regenerate, txn.SetLifetime} {
									if set&(1<<i) != 0 {
										p.verbs = append(p.verbs, v)
									}
								}
								all = append(all, p)
							}
						}
					}
				}
			}
		}
	}
	return all
}

// An outcome is what can be seen of a request from outside.
type outcome struct {
	ops    string // of the store, in order
	cookie string // none, set or expired
	late   bool   // there was an EventLate
}

func TestTheLibraryDoesWhatIsPlannedForEachRequest(t *testing.T) {
	different := 0
	seen := map[outcome]bool{}
	requests := plannedRequests()
	for _, p := range requests {
		var got outcome
		_, _ = rand.Read(make([]byte, 1)) // in a bubble, FIPS 140-3's generator finds no entropy to begin with
		synctest.Test(t, func(t *testing.T) { got = p.run(t) })
		seen[got] = true
		if want := p.plan(); got != want {
			if different++; different < 20 {
				t.Errorf("%v:\ngot  %+v\nwant %+v", p, got, want)
			}
		}
	}
	t.Logf("%d requests, %d differ, %d outcomes", len(requests), different, len(seen))
}

// run sends the request.
func (p planned) run(t *testing.T) (o outcome) {
	m := modes[0] // signed
	if p.store {
		m = modes[2] // a plain store
	}
	keys := newKeys(t)
	s := newSite(t, m, func(c *config) { c.Keys, c.IdleTimeout = keys, time.Hour })
	b := s.browser()
	if p.exists != txn.Fresh {
		b.do(func(s *session) { s.Data.N = 1; s.Flash("info", "waits") })
		if p.oldKey {
			if err := keys.Replace(ringSecret(9), testSecret); err != nil {
				t.Fatal(err)
			}
		}
		if p.due {
			time.Sleep(10 * time.Minute)
		}
	}
	var ops []string
	record := func() {
		if s.store != nil {
			s.store.hook(func(op string, _ sessions.ID) error { ops = append(ops, op); return nil }, nil)
		}
	}
	r := httptest.NewRequest("GET", "https://example.com"+s.route(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if p.exists == txn.Lost {
			if err := s.mgr.Revoke(bg, sess.ID()); err != nil {
				t.Fatal(err)
			}
			if err := sess.Save(r.Context()); !errors.Is(err, sessions.ErrNotFound) {
				t.Fatalf("Save: got %v, want ErrNotFound", err)
			}
		}
		s.events.reset()
		record()
		if p.reach == txn.Gone {
			w.WriteHeader(http.StatusOK)
		}
		if p.end == txn.Destroy {
			sess.Destroy()
		}
		if p.end == txn.Reset {
			sess.Reset()
		}
		if p.changed {
			sess.Data.N = 2
		}
		for _, v := range p.verbs {
			switch v {
			case txn.Flash:
				sess.Flash("info", "added")
			case txn.Regenerate:
				sess.RegenerateID()
			case txn.SetLifetime:
				sess.SetLifetime(2 * time.Hour)
			}
		}
		if p.reach == txn.Header {
			_, _, _ = w.(http.Hijacker).Hijack()
		}
	}), nil)
	if value := b.cookie(); value != "" {
		r.AddCookie(&http.Cookie{Name: "__Host-Http-session", Value: value})
	}
	w := &hijackedRecorder{httptest.NewRecorder()}
	s.handler.ServeHTTP(w, r)
	o = outcome{ops: strings.Join(ops, " "), cookie: "none", late: len(s.events.of(sessions.EventLate)) > 0}
	for _, line := range w.Header()["Set-Cookie"] {
		o.cookie = "set"
		if strings.Contains(line, "Max-Age=0") {
			o.cookie = "expired"
		}
	}
	return o
}

type hijackedRecorder struct{ *httptest.ResponseRecorder }

func (h *hijackedRecorder) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, nil }

// plan says what [txn.Plan] makes of the same request.
func (p planned) plan() (o outcome) {
	o.cookie = "none"
	had := p.exists != txn.Fresh
	f := txn.Facts{Stored: p.store, Exists: p.exists, OldKey: had && p.oldKey, Due: had && p.due && p.exists == txn.Loaded}
	var ops []string
	carryOut := func(a txn.Action) {
		if a.End {
			if p.store && had {
				ops = append(ops, "Delete")
			}
			if had && f.Reach != txn.Gone {
				o.cookie = "expired"
			}
		}
		ops = append(ops, map[txn.Step][]string{
			txn.Touch: {"Touch"}, txn.Create: {"Create"}, txn.Replace: {"Update"}, txn.Move: {"Create", "Delete"},
		}[a.Step]...)
		if a.Step == txn.Touch && a.Cookie {
			ops = append(ops, "Load") // for the end that the session has now
		}
		set := a.Cookie || a.Step == txn.Seal || a.Step == txn.Reissue
		if set {
			o.cookie = "set"
		}
		stored := a.Step >= txn.Seal && a.Step <= txn.Move
		o.late = o.late || a.Late != txn.InTime || f.Reach == txn.Header && o.cookie != "none" && stored && a.Late == txn.InTime
	}
	journal := []txn.Op{}
	late := p.reach == txn.Gone
	if p.end != 0 {
		journal = append(journal, txn.Op{Verb: p.end, Late: late})
	}
	for _, v := range p.verbs {
		op := txn.Op{Verb: v, Late: late}
		if v == txn.Flash {
			op.Flashes = append(op.Flashes, struct{ Kind, Message string }{"info", "added"})
		}
		journal = append(journal, op)
	}
	if late { // the headers leave before anything was done
		f.Reach = txn.Whole
		a := txn.Plan(f, txn.View{})
		carryOut(a)
		f.Due, f.OldKey = false, false
	}
	f.Reach, f.Changed = p.reach, p.changed
	v := txn.Fold(journal, p.exists == txn.Loaded)
	switch p.end {
	case txn.Destroy:
		f.Exists = txn.Ended
	case txn.Reset:
		f.Exists, f.OldKey, f.Due = txn.Fresh, false, false
	}
	carryOut(txn.Plan(f, v))
	o.ops = strings.Join(ops, " ")
	return o
}
