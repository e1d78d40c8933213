package dbsc_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A walk is a browser that does what users and faults do, in any order. Its promises
// are those of docs/DBSC.md: once the faults are over, no owner of a key is refused,
// and a copied pair of cookies shows nothing after its end.
type walk struct {
	*site
	b      *browser
	thief  *browser
	stolen time.Time // when the thief last took a pair of a bound session
	ring   [][]byte
	did    []string
}

func (w *walk) do(what string, f func()) {
	w.did = append(w.did, what)
	f()
}

// page asks for a page, which may fail while there are faults.
func (w *walk) page(path string) *answer {
	a := w.b.visit(visit{url: home + path, from: "https://app.test"})
	w.did[len(w.did)-1] += fmt.Sprintf(" (%d %.45s %q)", a.StatusCode, a.text, w.b.took())
	if a.StatusCode == http.StatusForbidden {
		w.t.Errorf("the owner is refused:\n%s", strings.Join(w.did, "\n"))
	}
	return a
}

func (w *walk) signIn(user string) {
	w.b.visit(visit{method: "POST", url: home + "login", from: "https://app.test", body: "user=" + user, header: form})
}

func (w *walk) step(r *rand.Rand) {
	switch r.IntN(16) {
	case 0, 1, 2:
		w.do("page", func() { w.page("") })
	case 3:
		w.do("edit", func() { w.page("edit") })
	case 4:
		w.do("rotate", func() { w.page("rotate") })
	case 5:
		w.do("sign in", func() { w.signIn("ada") })
	case 6:
		w.do("sign in as eve", func() { w.signIn("eve") })
	case 7:
		w.do("sign out", func() { w.b.visit(visit{method: "POST", url: home + "logout", from: "https://app.test"}) })
	case 8, 9, 10:
		d := time.Duration(r.IntN(14*60)) * time.Second
		w.do("wait "+d.String(), func() { pass(d) })
	case 11:
		path := []string{"/dbsc/register", "/dbsc/refresh", "/"}[r.IntN(3)]
		once := true
		w.do("lose an answer of "+path, func() {
			w.b.lose = func(r *http.Request) bool {
				lost := once && r.URL.Path == path && strings.HasPrefix(path, "/dbsc/")
				once = once && !lost
				return lost
			}
		})
	case 12:
		if w.store != nil {
			op := []string{"load", "update", "create", "delete", "touch", "all"}[r.IntN(6)]
			w.do("the store fails: "+op, func() {
				w.store.set(op)
				w.page("edit")
				w.store.set("")
			})
		}
	case 13:
		w.do("rotate the ring", func() {
			w.ring = append([][]byte{fmt.Appendf(nil, "0123456789abcdefghij%12d", r.Uint32())}, w.ring...)
			w.ring = w.ring[:min(len(w.ring), 16)]
			if err := w.keys.Replace(w.ring...); err != nil {
				w.t.Fatal(err)
			}
		})
	case 14:
		path := []string{"rotate", "edit", "other", "login?user=ada", "login?user=eve", "logout"}[r.IntN(6)]
		run := r.IntN(2) == 0
		w.do(fmt.Sprintf("a refresh beside /%s, and then a registration %v", path, run), func() {
			if a := w.page(""); strings.Contains(a.text, "user= ") {
				return // a refresh without a session is refused, and nobody knows what comes meanwhile
			}
			w.b.shorten("-bound", time.Minute)
			w.b.on = func(r *http.Request) {
				if r.URL.Path != "/dbsc/refresh" {
					return
				}
				w.b.on = nil
				method := "GET"
				if strings.HasPrefix(path, "log") {
					method = "POST"
				}
				w.b.receive(w.ask(w.b, method, home+path).Result(), parse(w.t, home), visit{})
				if run {
					w.b.run()
				}
			}
			w.page("")
			w.b.on = nil
		})
	case 15:
		w.do("a theft", func() {
			if a := w.page(""); strings.Contains(a.text, "state=bound") {
				w.thief.jar = nil
				w.b.copyTo(w.thief)
				for _, c := range w.thief.jar {
					c.ends = time.Time{}
				}
				w.stolen = time.Now()
			}
		})
	}
	w.check()
}

func (w *walk) check() {
	if w.stolen.IsZero() || time.Since(w.stolen) < 10*time.Minute+31*time.Second {
		return
	}
	for _, path := range []string{"", "edit", "login", "static/x"} {
		loot := slices.Clone(w.thief.jar) // a thief lets no server take them back
		a := w.thief.visit(visit{url: home + path})
		w.thief.jar = loot
		if strings.Contains(a.text, "user=ada") || strings.Contains(a.text, "user=eve") {
			w.t.Errorf("the thief sees %q:\n%s", a.text, strings.Join(w.did, "\n"))
		}
	}
}

func TestNoOwnerIsRefusedAndNoThiefServedWhateverHappens(t *testing.T) {
	const walks = 60
	for _, mode := range []struct {
		name  string
		store bool
	}{{"cookie", false}, {"store", true}} {
		t.Run(mode.name, func(t *testing.T) {
			for seed := range walks {
				synctest.Test(t, func(t *testing.T) {
					r := rand.New(rand.NewPCG(1, uint64(seed)))
					s := newSite(t, mode.store)
					w := &walk{site: s, ring: [][]byte{secret}}
					s.on("/edit", func(sess *session) { sess.Data.Count++ })
					s.on("/rotate", func(sess *session) { sess.RotateID() })
					s.on("/other", func(sess *session) { sess.Flash("info", "x"); sess.Flashes() })
					w.b = newBrowser(t, online(t, s.handler))
					w.thief = newBrowser(t, w.b.rt)
					w.thief.plain = true
					for range 40 {
						w.step(r)
						if t.Failed() {
							t.Fatalf("seed %d", seed)
						}
					}
					w.b.lose = nil
					w.do("no more faults", func() {})
					for range 3 {
						pass(9 * time.Minute)
						w.do("page", func() {
							if a := w.page(""); a.StatusCode != 200 {
								t.Errorf("seed %d: got %d:\n%s", seed, a.StatusCode, strings.Join(w.did, "\n"))
							}
						})
					}
				})
			}
		})
	}
}
