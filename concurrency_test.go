package sessions_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// overlap sends a request that loads the session, waits until during has run,
// and then runs late.
func overlap(b *browser, late func(*session), during func()) *reply {
	loaded, goOn := make(chan bool), make(chan bool)
	replies := make(chan *reply)
	go func() {
		replies <- b.do(func(s *session) {
			close(loaded)
			<-goOn
			late(s)
		})
	}()
	<-loaded
	during()
	close(goOn)
	return <-replies
}

func TestRegenerateIDInAFullMemoryStoreKeepsTheSession(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(*session)
		user   int
	}{
		{"of a visitor, the one without an owner", func(s *session) { s.Flash("info", "welcome") }, 42},
		{"of a user, the nearest to its end", func(s *session) { s.Data.UserID = 42; s.SetLifetime(time.Hour) }, 42},
	} {
		for wrapped, wrap := range map[string]func(*sessions.MemoryStore) sessions.Store{
			"":          func(m *sessions.MemoryStore) sessions.Store { return m },
			", wrapped": func(m *sessions.MemoryStore) sessions.Store { return newHookStore(m).asStore() },
		} {
			t.Run(tt.name+wrapped, func(t *testing.T) {
				const bound = 3
				memory := &sessions.MemoryStore{Max: bound}
				s := newSite(t, modes[3], func(c *config) { c.Store, c.Owner = wrap(memory), ownerOfUser })
				var others []*browser
				for user := range bound - 1 {
					b, _ := signIn(s, 1+user)
					others = append(others, b)
				}
				b := s.browser()
				b.do(tt.before)
				b.do(func(s *session) { s.RegenerateID(); s.Data.UserID = tt.user })
				wantUser(t, "who signed in", b, tt.user)
				for user, other := range others {
					wantUser(t, "somebody else", other, 1+user)
				}
				if n := memory.Len(); n != bound+1 {
					t.Errorf("got %d records, want %d and the tombstone", n, bound)
				}
				signIn(s, 9)
				if n := memory.Len(); n != bound {
					t.Errorf("got %d records after one more, want %d", n, bound)
				}
			})
		}
	}
}

func TestHundredParallelUpdatesAllCount(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP2=%t", http2), func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b := s.online(http2)
				b.do(func(s *session) { s.Data.Name = "start" })
				var wg sync.WaitGroup
				for range 100 {
					wg.Go(func() {
						res := b.do(func(s *session) { s.Update(func(d *AppSession) { d.N++ }) })
						if res.StatusCode != http.StatusOK {
							t.Errorf("got status %d", res.StatusCode)
						}
					})
				}
				wg.Wait()
				if d, _ := b.peek(); d.N != 100 {
					t.Errorf("got N=%d, want exactly 100", d.N)
				}
			})
		})
	}
}

func TestParallelRequestsKeepEachOthersFieldsAndMapKeys(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.online(false)
		b.do(func(s *session) { s.Data.N = 1 })
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				b.do(func(s *session) {
					switch i {
					case 0:
						s.Data.Name = "Ada"
					case 1:
						s.Data.Role = "admin"
					default:
						if s.Data.Cart == nil {
							s.Data.Cart = map[string]int{}
						}
						s.Data.Cart[fmt.Sprint(i)] = i
					}
				})
			})
		}
		wg.Wait()
		d, _ := b.peek()
		if d.Name != "Ada" || d.Role != "admin" || d.N != 1 || len(d.Cart) != 18 {
			t.Errorf("got %+v, want all of the 20 changes", d)
		}
	})
}

func TestConflictsEndWithTheTimeOfTheCommit(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.N = 1 })
			s.store.hook(func(op string, _ sessions.ID) error {
				if op == "Update" {
					return sessions.ErrConflict
				}
				return nil
			}, nil)
			start := time.Now()
			res := b.do(func(s *session) { s.Data.N = 2 })
			if res.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("got %d, want 503", res.StatusCode)
			}
			if took := time.Since(start); took != 5*time.Second {
				t.Errorf("took %v, want 5s", took)
			}
			if n := s.store.count("Update"); n < 100 || n > 2000 {
				t.Errorf("got %d tries, want some hundred", n)
			}
		})
	})
}
