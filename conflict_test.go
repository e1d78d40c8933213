package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// processes returns two browsers with one session. Each sends its requests to a Manager
// of its own, as in another process; both Managers use one store. An operation takes the
// time that latency returns before the store is asked, and again before its answer is
// there.
func processes(t *testing.T, latency func() time.Duration) [2]*browser {
	t.Helper()
	store := newPlainStore()
	var browsers [2]*browser
	for i := range browsers {
		s := newSite(t, mode{store: func() sessions.Store { return store }}, nil)
		wait := func(string, sessions.ID) error {
			time.Sleep(latency())
			return nil
		}
		s.store.hook(wait, wait)
		browsers[i] = s.browser()
	}
	browsers[0].do(func(s *session) { s.Data.Name = "start" })
	browsers[1].cookies = browsers[0].clone().cookies
	return browsers
}

func TestParallelUpdatesOfTwoProcessesConflictAtMostThreeTimesEach(t *testing.T) {
	const all, most = 64, 3
	for _, latency := range []time.Duration{0, 100 * time.Microsecond, time.Millisecond, 5 * time.Millisecond} {
		for _, each := range []int{1, 5} { // requests, one after the other
			t.Run(fmt.Sprintf("latency=%v/each=%d", latency, each), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					browsers := processes(t, func() time.Duration { return latency + rand.N(latency/2+1) })
					for _, b := range browsers {
						b.s.store.resetCounts()
					}
					var wg sync.WaitGroup
					for i := range all {
						b := browsers[i%2].clone()
						wg.Go(func() {
							for range each {
								began := time.Now()
								res := b.do(func(s *session) { s.Update(func(d *AppSession) { d.N++ }) })
								if res.StatusCode != http.StatusOK {
									t.Errorf("got %d after %v: %s", res.StatusCode, time.Since(began), res.body)
								}
							}
						})
					}
					wg.Wait()
					if d, _ := browsers[0].peek(); d.N != all*each {
						t.Errorf("got N=%d, want %d", d.N, all*each)
					}
					conflicts := -all * each
					for _, b := range browsers {
						conflicts += b.s.store.count("Update")
					}
					if conflicts > most*all*each {
						t.Errorf("%d Updates met %d conflicts, want at most %d each", all*each, conflicts, most)
					}
				})
			})
		}
	}
}

// overtaken returns a browser whose session another request has changed after each of
// these handlers has loaded it. A handler commits when its request is called for.
func overtaken(t *testing.T, handlers ...func(s *session)) (b *browser, commit []func() *reply) {
	t.Helper()
	return overtakenAt(newSite(t, modes[2], nil), handlers...)
}

func overtakenAt(s *site, handlers ...func(s *session)) (b *browser, commit []func() *reply) {
	s.t.Helper()
	b = s.browser()
	b.do(func(s *session) { s.Data.Name = "start" })
	for _, h := range handlers {
		goOn, replies := make(chan bool), make(chan *reply)
		go func() {
			replies <- b.clone().do(func(s *session) {
				<-goOn
				h(s)
			})
		}()
		commit = append(commit, func() *reply {
			close(goOn)
			return <-replies
		})
	}
	synctest.Wait()
	b.do(func(s *session) { s.Data.N++ })
	return b, commit
}

func TestConflictsThatHangDoNotHoldUpTheOthers(t *testing.T) {
	for _, bare := range []bool{false, true} { // a MemoryStore alone, for which operations have no time limit
		t.Run(fmt.Sprintf("bare=%v", bare), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const hanging = 20 // half a second each would be more than a commit has
				hang := make(chan bool)
				add := func(s *session) { s.Update(func(d *AppSession) { d.N++ }) }
				handlers := append(slices.Repeat([]func(*session){func(s *session) {
					runs := 0
					s.Update(func(d *AppSession) {
						if runs++; runs == 2 {
							<-hang
						}
						d.N++
					})
				}}, hanging), func(s *session) {
					add(s)
					ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
					defer cancel()
					if err := s.Save(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, sessions.ErrConflict) {
						t.Errorf("Save without time: got %v, want an error that is DeadlineExceeded and ErrConflict", err)
					}
				}, add, add)
				b, commit := overtakenAt(newSite(t, modes[2], func(c *config) {
					if bare {
						c.Store = new(sessions.MemoryStore)
					}
				}), handlers...)
				id := idOf(b)
				var hung, others sync.WaitGroup
				for i, c := range commit {
					wg := &others
					if i < hanging {
						wg = &hung
					}
					wg.Go(func() {
						if res := c(); res.StatusCode != http.StatusOK {
							t.Errorf("request %d: got %d: %s", i, res.StatusCode, res.body)
						}
					})
					synctest.Wait()
				}
				others.Go(func() {
					runs := 0
					err := b.s.mgr.Edit(bg, id, func(d *AppSession) {
						if runs++; runs == 1 {
							b.clone().do(add) // a conflict
						}
						d.N++
					})
					if err != nil {
						t.Error(err)
					}
				})
				began := time.Now()
				others.Wait()
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("it took %v, want 5 seconds at most", took)
				}
				close(hang)
				hung.Wait()
				if d, _ := b.peek(); d.N != len(handlers)+3 {
					t.Errorf("got N=%d, want %d", d.N, len(handlers)+3)
				}
			})
		})
	}
}

func TestWhatEndsASessionDoesNotWaitForTheRequestsThatConflict(t *testing.T) {
	for _, how := range []string{"Destroy", "Revoke"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang := make(chan bool)
				b, commit := overtaken(t, func(s *session) {
					s.Update(func(d *AppSession) {
						if d.Name == "start" && d.N == 1 { // the newest state
							<-hang
						}
					})
					s.Data.Name = "late"
				}, (*session).Destroy)
				id := idOf(b)
				var wg sync.WaitGroup
				wg.Go(func() { commit[0]() })
				synctest.Wait() // it has its turn
				began := time.Now()
				if how == "Revoke" {
					b.s.store.onceBefore("Delete", func() { b.clone().do(func(s *session) { s.Data.N++ }) })
					if err := b.s.mgr.Revoke(bg, id); err != nil {
						t.Error(err)
					}
				}
				if res := commit[1](); res.StatusCode != http.StatusOK {
					t.Errorf("the logout: got %d: %s", res.StatusCode, res.body)
				}
				if took := time.Since(began); took > 10*time.Millisecond {
					t.Errorf("it took %v while a request that hangs had its turn", took)
				}
				close(hang)
				wg.Wait()
				if live := len(b.s.store.live()); live != 0 {
					t.Errorf("%d records are left, want none", live)
				}
			})
		})
	}
}

func TestConflictingRequestsTryAgainWithWhatTheOneBeforeHasStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const all = 20
		b, commit := overtaken(t, slices.Repeat([]func(*session){func(s *session) {
			s.Update(func(d *AppSession) { d.N++ })
		}}, all)...)
		b.s.store.resetCounts()
		b.s.store.hook(func(string, sessions.ID) error {
			time.Sleep(time.Millisecond)
			return nil
		}, nil)
		var wg sync.WaitGroup
		for _, c := range commit {
			wg.Go(func() { c() })
		}
		wg.Wait()
		// Nine turns share a Load, so that other processes get in between.
		if loads, updates := b.s.store.count("Load"), b.s.store.count("Update"); loads != 3 || updates != 2*all {
			t.Errorf("%d requests in conflict took %d Loads and %d Updates, want 3 and %d", all, loads, updates, 2*all)
		}
		if d, _ := b.peek(); d.N != all+1 {
			t.Errorf("got N=%d, want %d", d.N, all+1)
		}
	})
}

// What the turn before has stored may not be the newest state any more.
func TestOnlyTheNewestStateCanRefuseAChange(t *testing.T) {
	for _, tt := range []struct {
		name          string
		left          time.Duration // of the session's life
		change, other func(s *session)
		want          AppSession
	}{
		{"as invalid", time.Hour, func(s *session) {
			s.Update(func(d *AppSession) {
				if d.UserID++; d.Name == "before" {
					d.UserID = -1
				}
			})
		}, func(s *session) {
			s.Data.Name = "other"
		}, AppSession{Name: "other", N: 1, UserID: 1}},
		{"as one of a session that has ended", 100 * time.Millisecond, func(s *session) {
			s.Data.UserID = 1
		}, func(s *session) {
			s.SetLifetime(time.Hour)
		}, AppSession{Name: "before", N: 1, UserID: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, commit := overtaken(t, func(s *session) { s.Data.Name = "before" }, tt.change)
				another := newSite(t, mode{store: func() sessions.Store { return b.s.store.Store }}, nil).browser()
				another.cookies = b.clone().cookies
				time.Sleep(24*time.Hour - tt.left)
				updates := 0
				b.s.store.hook(nil, func(op string, _ sessions.ID) error {
					if op == "Update" {
						if updates++; updates == 2 { // the first one had a conflict
							time.Sleep(200 * time.Millisecond)
						}
					}
					return nil
				})
				var wg sync.WaitGroup
				for _, c := range commit {
					wg.Go(func() {
						if res := c(); res.StatusCode != http.StatusOK {
							t.Errorf("got %d: %s", res.StatusCode, res.body)
						}
					})
					synctest.Wait()
				}
				another.do(tt.other)
				wg.Wait()
				if d, reason := another.peek(); d.Name != tt.want.Name || d.N != tt.want.N || d.UserID != tt.want.UserID {
					t.Errorf("got %+v, %v, want %+v", d, reason, tt.want)
				}
			})
		})
	}
}

func TestWhatSeveralProcessesAddToASessionCountsOnceOnAStoreThatFails(t *testing.T) {
	for range seeds() / 10 {
		synctest.Test(t, func(t *testing.T) {
			store := newPlainStore()
			var tabs []*browser
			for range 3 {
				// Encrypted records are never equal: see Session.Save.
				tabs = append(tabs, newSite(t, mode{store: func() sessions.Store { return store }, encrypt: true}, nil).browser())
			}
			tabs[0].do(func(s *session) { s.Data.Name = "start" })
			id := idOf(tabs[0])
			for _, b := range tabs {
				b.cookies = tabs[0].clone().cookies
				latency := time.Millisecond << rand.N(6)
				b.s.store.hook(func(string, sessions.ID) error {
					time.Sleep(rand.N(latency))
					switch rand.N(60) {
					case 0:
						return errLost // not carried out, and nobody knows
					case 1:
						time.Sleep(700 * time.Millisecond) // longer than a turn
					case 2:
						panic(http.ErrAbortHandler)
					}
					return nil
				}, func(string, sessions.ID) error {
					time.Sleep(rand.N(latency))
					if rand.N(60) == 0 {
						time.Sleep(700 * time.Millisecond)
					}
					return nil
				})
			}
			var added atomic.Int64
			add := func(d *AppSession) { d.N++ }
			var wg sync.WaitGroup
			for i := range 60 {
				b := tabs[i%3].clone()
				wg.Go(func() {
					for range 3 {
						if addOnce(t, b, id, add) {
							added.Add(1)
						}
					}
				})
			}
			wg.Wait()
			for _, b := range tabs {
				b.s.store.hook(nil, nil)
			}
			if d, _ := tabs[0].peek(); d.N != int(added.Load()) {
				t.Errorf("got N=%d, want %d", d.N, added.Load())
			}
		})
	}
}

// addOnce changes a session in one of several ways, and reports whether it was told
// that this is stored.
func addOnce(t *testing.T, b *browser, id string, add func(*AppSession)) (stored bool) {
	defer func() {
		if r := recover(); r != nil && r != any(http.ErrAbortHandler) {
			t.Error(r)
		}
	}()
	way := rand.N(4)
	if way == 0 {
		return b.s.mgr.Edit(bg, id, add) == nil
	}
	return b.do(func(s *session) {
		runs := 0
		s.Update(func(d *AppSession) {
			if runs++; runs > 1 && way == 1 && rand.N(3) == 0 {
				panic("a repeated function")
			}
			add(d)
		})
		if way == 2 {
			ctx, cancel := context.WithTimeout(bg, rand.N(20*time.Millisecond))
			defer cancel()
			_ = s.Save(ctx) // else the commit
		}
	}).StatusCode == http.StatusOK
}
