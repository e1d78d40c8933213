package sessions_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
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
	store  bool
	exists txn.Existence
	data   dataEdit
	oldKey bool
	due    bool
	reach  txn.Reach
	end    txn.Verb   // 0, Destroy or Reset
	verbs  []txn.Verb // of Flash, Regenerate, Rotate and SetLifetime
}

// A dataEdit is what a planned request does to Data.
type dataEdit uint8

const (
	dataLeft dataEdit = iota
	dataChanged
	dataPassed  // to another owner
	dataCleared // and the messages taken
)

func (p planned) String() string {
	return fmt.Sprintf("store=%t exists=%d data=%d oldKey=%t due=%t reach=%d end=%d verbs=%v", p.store, p.exists, p.data, p.oldKey, p.due, p.reach, p.end, p.verbs)
}

func plannedRequests() (all []planned) {
	both := []bool{false, true}
	sets := [][]txn.Verb{nil, {txn.Regenerate}, {txn.Rotate}}
	for _, v := range []txn.Verb{txn.Flash, txn.SetLifetime} {
		for _, set := range sets {
			sets = append(sets, append([]txn.Verb{v}, set...))
		}
	}
	for _, kind := range []struct {
		store  bool
		exists txn.Existence
	}{{false, txn.Fresh}, {false, txn.Loaded}, {true, txn.Fresh}, {true, txn.Behind}, {true, txn.Loaded}, {true, txn.Lost}} {
		for _, data := range []dataEdit{dataLeft, dataChanged, dataPassed, dataCleared} {
			for _, oldKey := range both {
				for _, due := range both {
					if (oldKey || due) && kind.exists != txn.Loaded {
						continue // it makes no difference to what is not loaded
					}
					for _, reach := range []txn.Reach{txn.Whole, txn.Header, txn.Overdue, txn.Gone} {
						for _, end := range []txn.Verb{0, txn.Destroy, txn.Reset} {
							for _, verbs := range sets {
								all = append(all, planned{kind.store, kind.exists, data, oldKey, due, reach, end, verbs})
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
	status int
	told   string // the kinds of events that say what was not stored
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
		m = modes[3] // a MemoryStore
	}
	keys := newKeys(t)
	s := newSite(t, m, func(c *config) { c.Keys, c.IdleTimeout, c.Owner = keys, time.Hour, ownerOfUser })
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
	if p.exists == txn.Behind {
		b.clone().do(func(s *session) { s.RegenerateID() })
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
		switch p.reach {
		case txn.Gone:
			w.WriteHeader(http.StatusOK)
		case txn.Overdue:
			<-r.Context().Done()
		}
		if p.end == txn.Destroy {
			sess.Destroy()
		}
		if p.end == txn.Reset {
			sess.Reset()
		}
		switch p.data {
		case dataChanged:
			sess.Data.N = 2
		case dataPassed:
			sess.Data.UserID = 42
		case dataCleared:
			sess.Data = AppSession{}
			sess.Flashes()
		}
		for _, v := range p.verbs {
			switch v {
			case txn.Flash:
				sess.Flash("info", "added")
			case txn.Regenerate:
				sess.RegenerateID()
			case txn.Rotate:
				sess.RotateID()
			case txn.SetLifetime:
				sess.SetLifetime(2 * time.Hour)
			}
		}
		if p.reach == txn.Header {
			_, _, _ = w.(http.Hijacker).Hijack()
		}
	}), nil)
	if p.reach == txn.Overdue {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		r = r.WithContext(ctx)
	}
	if value := b.cookie(); value != "" {
		r.AddCookie(&http.Cookie{Name: "__Host-Http-session", Value: value})
	}
	w := &hijackedRecorder{httptest.NewRecorder()}
	s.handler.ServeHTTP(w, r)
	o = outcome{ops: strings.Join(ops, " "), cookie: "none", status: w.Code}
	for _, kind := range []sessions.EventKind{sessions.EventDiscarded, sessions.EventLate} {
		if len(s.events.of(kind)) > 0 {
			o.told += string(kind) + " "
		}
	}
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
	o.cookie, o.status = "none", http.StatusOK
	brought := p.exists != txn.Fresh // a cookie
	kept := p.exists == txn.Loaded || p.exists == txn.Lost
	f := txn.Facts{Stored: p.store, Exists: p.exists, OldCookie: p.oldKey, Due: p.due}
	var ops []string
	discarded, late := false, false
	carryOut := func(a txn.Action) {
		if a.End {
			switch {
			case p.store && p.exists == txn.Behind:
				ops = append(ops, "Load") // and the tombstone stays
			case p.store && kept:
				ops = append(ops, "Delete")
			}
			if brought && f.Reach != txn.Gone {
				o.cookie = "expired"
			}
		}
		switch {
		case !p.store:
		case a.Step == txn.Touch && f.Due && a.Cookie:
			ops = append(ops, "Touch", "Load") // which proves that it lives
		case a.Step == txn.Touch && a.Cookie:
			ops = append(ops, "Load")
		case a.Step == txn.Touch:
			ops = append(ops, "Touch")
		case a.Step == txn.Create:
			ops = append(ops, "Create")
		case a.Step == txn.Replace:
			ops = append(ops, "Update")
		case a.Step == txn.Move:
			ops = append(ops, "Create", "Replace")
		case a.Step == txn.Spend:
			ops = append(ops, "Delete")
		}
		if a.Cookie || a.Step == txn.Seal || a.Step == txn.Reissue {
			o.cookie = "set"
		}
		if a.Step == txn.Spend && f.Reach != txn.Gone {
			o.cookie = "expired"
		}
		discarded = discarded || a.Step == txn.Discard
		stored := a.Step >= txn.Seal && a.Step <= txn.Spend
		late = late || a.Late != txn.InTime || f.Reach == txn.Header && o.cookie != "none" && stored
		if a.Late != txn.InTime && f.Reach == txn.Overdue {
			o.status = http.StatusServiceUnavailable
		}
	}
	journal := []txn.Op{}
	gone := p.reach == txn.Gone
	if p.end != 0 {
		journal = append(journal, txn.Op{Verb: p.end, Late: gone})
	}
	for _, v := range p.verbs {
		op := txn.Op{Verb: v, Late: gone}
		if v == txn.Flash {
			op.Flashes = append(op.Flashes, struct{ Kind, Message string }{"info", "added"})
		}
		journal = append(journal, op)
	}
	if gone { // the headers leave before anything was done
		carryOut(txn.Plan(f, txn.View{}))
		f.Due, f.OldCookie = false, false
	}
	f.Reach = p.reach
	v := txn.Fold(journal, kept)
	loaded := kept && p.end == 0
	switch p.end {
	case txn.Destroy:
		f.Exists = txn.Ended
	case txn.Reset:
		f.Exists, f.OldCookie, f.Due = txn.Fresh, false, false
	}
	zero := p.data == dataCleared || p.data == dataLeft && !loaded
	f.Changed = p.data == dataChanged || p.data == dataPassed || zero && loaded
	f.Beside = len(v.Added) > 0 || p.data == dataCleared && loaded
	f.Owned = p.data == dataPassed
	f.Passed = f.Owned && f.Exists == txn.Loaded
	lasts := slices.Contains(p.verbs, txn.SetLifetime) && !gone
	f.Empty = zero && len(v.Added) == 0 && !lasts
	carryOut(txn.Plan(f, v))
	o.ops = strings.Join(ops, " ")
	if discarded {
		o.told += "discarded "
	}
	if late {
		o.told += "late "
	}
	return o
}
