package sessions_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// A replica is one of several processes that serve the same site: a Manager and
// a ring of its own, behind a real server.
type replica struct {
	keys  *sessions.Keyring
	front *browser
}

// replicas starts n of them, which share a store if the mode has one.
func replicas(t *testing.T, m mode, n int, secrets ...int) []replica {
	t.Helper()
	var shared sessions.Store
	if m.hasStore() {
		shared = m.store()
	}
	var all []replica
	for range n {
		keys := newKeys(t, ringSecrets(secrets...)...)
		s := newSite(t, m, func(c *config) { c.Keys, c.Store = keys, shared })
		all = append(all, replica{keys, s.online(false)})
	}
	return all
}

// visitor returns the browser of a user who comes to this replica now.
func (r replica) visitor(cookies map[string]string) *browser {
	return &browser{s: r.front.s, client: r.front.client, url: r.front.url, cookies: cookies}
}

// TestRotationDrill rolls three replicas from key A to A and B, to B and A, to B,
// one after the other, while users go on working: each request of a user goes to
// any of the replicas, whichever ring that has by then.
func TestRotationDrill(t *testing.T) {
	const users, each = 8, 4 // and the requests of each user between two steps, at least
	const a, b = 1, 2
	eachMode(t, func(t *testing.T, m mode) {
		fleet := replicas(t, m, 3, a)
		var requests, refused, signedOut, mixed atomic.Int64
		var mu sync.Mutex
		done := sync.NewCond(&mu)
		var counts [users]int
		signers := map[string]int{} // of the cookies that were set, by phase and key
		phase := "A"
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var working sync.WaitGroup
		for user := range users {
			working.Go(func() {
				cookies := map[string]string{}
				random := rand.New(rand.NewPCG(uint64(user), 0))
				for n := 0; ctx.Err() == nil; n++ {
					v := fleet[random.IntN(len(fleet))].visitor(cookies)
					res := v.do(func(s *session) {
						switch {
						case n > 0 && s.IsNew():
							signedOut.Add(1)
						case n > 0 && (s.Data.UserID != user+1 || s.Data.N != n):
							mixed.Add(1)
						}
						s.Data.UserID, s.Data.N = user+1, n+1
					})
					requests.Add(1)
					if res.StatusCode != http.StatusOK {
						refused.Add(1)
					}
					mu.Lock()
					if len(res.setCookies()) == 1 {
						signers[phase+" signed by "+keyIDOf(t, v.cookie())]++
					}
					counts[user]++
					mu.Unlock()
					done.Broadcast()
				}
			})
		}
		settle := func() {
			mu.Lock()
			defer mu.Unlock()
			from := counts
			for user := range users {
				for counts[user] < from[user]+each {
					done.Wait()
				}
			}
		}
		roll := func(name string, secrets ...int) {
			began, before := time.Now(), requests.Load()
			mu.Lock()
			phase = name
			mu.Unlock()
			for _, r := range fleet {
				if err := r.keys.Replace(ringSecrets(secrets...)...); err != nil {
					t.Error(err)
				}
				settle() // with replicas on both sides of the step
			}
			t.Logf("%-5s: %4d requests in %v", name, requests.Load()-before, time.Since(began).Round(time.Millisecond))
		}
		settle()
		roll("A, B", a, b)
		roll("B, A", b, a)
		settle() // every user has come back: what A signed is re-issued, what it sealed is written again
		roll("B", b)
		stop()
		working.Wait()
		t.Logf("%d users, 3 replicas: %d requests, %d refused, %d signed out, %d with another state; cookies by phase and key: %v",
			users, requests.Load(), refused.Load(), signedOut.Load(), mixed.Load(), signers)
		if refused.Load()+signedOut.Load()+mixed.Load() > 0 {
			t.Errorf("got %d refused, %d signed out, %d with another state, want none", refused.Load(), signedOut.Load(), mixed.Load())
		}
		old := keyIDOfSecret(ringSecret(a))
		if n := signers["B signed by "+old]; n > 0 {
			t.Errorf("got %d cookies signed by A after it was dropped, want none", n)
		}
		if n := signers["A, B signed by "+keyIDOfSecret(ringSecret(b))]; n > 0 {
			t.Errorf("got %d cookies signed by B before it was in front, want none", n)
		}
	})
}

// TestLeakedKeyRemovedAtOnceSignsOutExactlyThoseItSigned: what the key signed or
// sealed is refused, what the other one did is not, and the thief of the key can
// make nothing with it.
func TestLeakedKeyRemovedAtOnceSignsOutExactlyThoseItSigned(t *testing.T) {
	const leaked, good = 1, 2
	eachMode(t, func(t *testing.T, m mode) {
		fleet := replicas(t, m, 3, leaked)
		signIn := func(n, of int) (all []map[string]string) {
			for i := range of {
				cookies := map[string]string{}
				fleet[i%len(fleet)].visitor(cookies).do(func(s *session) { s.Data.UserID = n })
				all = append(all, cookies)
			}
			return all
		}
		replace := func(secrets ...int) {
			for _, r := range fleet {
				if err := r.keys.Replace(ringSecrets(secrets...)...); err != nil {
					t.Error(err)
				}
			}
		}
		live := func(all []map[string]string) (n int) {
			for i, cookies := range all {
				if data, _ := fleet[(i+1)%len(fleet)].visitor(cookies).peek(); data.UserID != 0 {
					n++
				}
			}
			return n
		}
		asleep, awake, readers := signIn(1, 5), signIn(2, 5), signIn(3, 5)
		replace(good, leaked)
		fresh := signIn(4, 5)
		for i := range 5 { // on some replica each
			fleet[i%3].visitor(awake[i]).do(func(s *session) { s.Data.N++ })
			fleet[i%3].visitor(readers[i]).do(func(*session) {})
		}
		replace(good)
		wantReaders := 5
		if m.encrypt && m.hasStore() {
			wantReaders = 0 // a record is sealed anew when it is written
		}
		gone, stay, read, later := live(asleep), live(awake), live(readers), live(fresh)
		t.Logf("live after the removal: %d of 5 that the leaked key signed, %d of 5 that wrote since, %d of 5 that read since, %d of 5 that signed in since", gone, stay, read, later)
		if gone != 0 || stay != 5 || read != wantReaders || later != 5 {
			t.Errorf("got %d, %d, %d, %d, want 0, 5, %d, 5", gone, stay, read, later, wantReaders)
		}
		for _, format := range []byte{1, 2, 3} { // forged by whoever has the key
			forged := fuzzWire(format, func(w *wire) { w.secret = ringSecret(leaked) }).value()
			if data, reason := fleet[0].visitor(map[string]string{"__Host-Http-session": forged}).peek(); data.UserID != 0 || reason != sessions.ReasonForged {
				t.Errorf("format %d forged with the leaked key: got user %d (%q), want nobody", format, data.UserID, reason)
			}
		}
		res := fleet[0].visitor(asleep[0]).do(func(s *session) { s.Data.UserID = 1 })
		if len(res.setCookies()) != 1 || fmt.Sprint(live(asleep)) != "1" {
			t.Errorf("got %q, want who was signed out to sign in again", res.setCookies())
		}
	})
}
