package sessions_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// Faults that failure_test.go and timeout_test.go do not have.

// A mendaciousStore lets a test replace what Load answers.
type mendaciousStore struct {
	sessions.Store
	mu  sync.Mutex
	lie func(id sessions.ID, rec sessions.Record) sessions.Record
}

func (m *mendaciousStore) tell(lie func(sessions.ID, sessions.Record) sessions.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lie = lie
}

func (m *mendaciousStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	rec, err := m.Store.Load(ctx, id)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && m.lie != nil {
		rec = m.lie(id, rec)
	}
	return rec, err
}

// A Store that answers with another user's record gives nobody his session: the
// id is inside the envelope. Nor does it come in through the merge that follows
// a conflict: the request's changes are discarded, with an event.
func TestStoreThatAnswersWithAnothersRecordMixesNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		liar := &mendaciousStore{Store: m.store()}
		s := newSite(t, mode{store: func() sessions.Store { return liar }, encrypt: m.encrypt}, nil)
		ada, bob := s.online(false), s.browser()
		ada.do(func(s *session) { s.Data = AppSession{UserID: 1, Name: "ada"} })
		bob.do(func(s *session) { s.Data = AppSession{UserID: 2, Name: "bob"} })
		adas := s.store.live()[0]
		bobs, err := liar.Store.Load(t.Context(), s.store.live()[1])
		if err != nil {
			t.Fatal(err)
		}
		others := func(id sessions.ID, rec sessions.Record) sessions.Record {
			if id == adas {
				rec.Data, rec.Owner = bobs.Data, bobs.Owner
			}
			return rec
		}
		t.Run("at first", func(t *testing.T) {
			liar.tell(others)
			defer liar.tell(nil)
			if data, reason := ada.peek(); data.UserID != 0 || data.Name != "" || reason != sessions.ReasonUndecodable {
				t.Errorf("got %+v (%q), want a new session", data, reason)
			}
		})
		t.Run("after a conflict", func(t *testing.T) {
			s.events.reset()
			res := overlap(ada, func(s *session) { s.Data.N = 7 }, func() {
				ada.clone().do(func(s *session) { s.Data.Role = "user" })
				liar.tell(others)
			})
			liar.tell(nil)
			if res.StatusCode != 200 || len(s.events.of(sessions.EventDiscarded)) != 1 {
				t.Errorf("got %d and the events %v, want the page and one event", res.StatusCode, s.events.all)
			}
			if data, _ := ada.peek(); data.UserID != 1 || data.Name != "ada" || data.Role != "user" || data.N != 0 {
				t.Errorf("got %+v, want ada's session with the change of the other request alone", data)
			}
		})
		if data, _ := bob.peek(); data.UserID != 2 || data.N != 0 || data.Role != "" {
			t.Errorf("got %+v, want bob's session untouched", data)
		}
	})
}

// A record that was cut anywhere is set aside; the user is a new visitor, and
// what is left of the record stays for whoever looks into it.
func TestStoreThatCutsARecordShowsNoPartOfIt(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		liar := &mendaciousStore{Store: m.store()}
		s := newSite(t, mode{store: func() sessions.Store { return liar }, encrypt: m.encrypt}, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data = AppSession{UserID: 1, Name: "ada"}; s.Flash("info", "hello") })
		whole, err := liar.Store.Load(t.Context(), s.store.live()[0])
		if err != nil {
			t.Fatal(err)
		}
		for n := range whole.Data {
			liar.tell(func(_ sessions.ID, rec sessions.Record) sessions.Record {
				rec.Data = bytes.Clone(rec.Data[:n])
				return rec
			})
			res := b.clone().do(func(s *session) {
				if s.Data.UserID != 0 || s.Data.Name != "" || len(s.Flashes()) > 0 || s.Reason() != sessions.ReasonUndecodable {
					t.Errorf("cut to %d bytes of %d: got %+v (%q), want a new session", n, len(whole.Data), s.Data, s.Reason())
				}
			})
			if res.StatusCode != 200 || len(res.setCookies()) > 0 {
				t.Errorf("cut to %d bytes: got %d with %q, want 200 and no cookie", n, res.StatusCode, res.setCookies())
			}
		}
	})
}

// A Store that is slow but answers within its five seconds is only slow.
func TestStoreThatAnswersLateIsWaitedFor(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, m, nil)
			s.store.hook(nil, func(string, sessions.ID) error { time.Sleep(2 * time.Second); return nil })
			b := s.browser()
			for n := range 3 {
				if res := b.do(func(s *session) { s.Data.N++; s.RegenerateID() }); res.StatusCode != 200 {
					t.Errorf("request %d: got %d, want 200", n, res.StatusCode)
				}
			}
			if data, _ := b.peek(); data.N != 3 || len(s.store.live()) != 1 {
				t.Errorf("got N=%d and %d records, want 3 in one", data.N, len(s.store.live()))
			}
		})
	})
}

// A clock that jumps back an hour (or another process whose clock is an hour
// behind) finds sessions from its future. They are valid, may be changed, and
// end when they say: a wrong clock signs nobody out, and lets nobody stay longer
// than the lifetime after the moment that it believes in.
func TestClockThatJumpsBackAnHourSignsNobodyOut(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		var shared sessions.Store
		if m.hasStore() {
			shared = m.store()
		}
		at := func(after time.Duration, cookies map[string]string, f func(b *browser)) {
			// Every bubble begins at the same midnight.
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(after)
				s := newSite(t, m, func(c *config) { c.Store = shared; c.Lifetime, c.IdleTimeout = 10*time.Hour, 2*time.Hour })
				b := s.browser()
				b.cookies = cookies
				f(b)
			})
		}
		wantUser := func(b *browser, when string, want int) {
			t.Helper()
			if data, reason := b.peek(); data.UserID != want {
				t.Errorf("%s: got user %d (%q), want %d", when, data.UserID, reason, want)
			}
		}
		cookies := map[string]string{}
		at(time.Hour, cookies, func(b *browser) { b.do(func(s *session) { s.Data.UserID = 42 }) })
		at(0, cookies, func(b *browser) {
			wantUser(b, "an hour back", 42)
			b.do(func(s *session) { s.Data.N++ })
			wantUser(b, "changed an hour back", 42)
			b.do((*session).RegenerateID)
			wantUser(b, "regenerated an hour back", 42)
			for range 9 {
				time.Sleep(time.Hour)
				b.do(func(*session) {}) // in use, so never idle
			}
			wantUser(b, "nine hours on", 42)
			time.Sleep(time.Hour)
			wantUser(b, "at its absolute end", 0)
		})
	})
}

// A clock that jumps forward a day ends what ends within that day and nothing
// else; new sessions work at once. Back again, a cookie session that had ended
// is valid as if nothing had happened, and so is one in a store that has not
// removed it: the end is a time, not an event.
func TestClockThatJumpsForwardADayEndsWhatEndsInIt(t *testing.T) {
	for _, tt := range []struct {
		name           string
		lifetime, idle time.Duration
		lives          bool
	}{
		{"a lifetime of a day", 24 * time.Hour, 0, false},
		{"a lifetime of two", 48 * time.Hour, 0, true},
		{"an idle timeout of an hour", 48 * time.Hour, time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				var shared sessions.Store
				if m.hasStore() {
					shared = m.store()
				}
				cookies := map[string]string{}
				visit := func(b *browser) int { data, _ := b.peek(); return data.UserID }
				bubble := func(f func(b *browser)) {
					synctest.Test(t, func(t *testing.T) {
						b := newSite(t, m, func(c *config) { c.Store, c.Lifetime, c.IdleTimeout = shared, tt.lifetime, tt.idle }).browser()
						b.cookies = cookies
						f(b)
					})
				}
				bubble(func(b *browser) {
					b.do(func(s *session) { s.Data.UserID = 42 })
					time.Sleep(24 * time.Hour)
					if got := visit(b) == 42; got != tt.lives {
						t.Errorf("a day ahead: got a live session %t, want %t", got, tt.lives)
					}
					fresh := b.s.browser()
					fresh.do(func(s *session) { s.Data.UserID = 7 })
					if got := visit(fresh); got != 7 {
						t.Errorf("a day ahead: got user %d for who signs in, want 7", got)
					}
				})
				bubble(func(b *browser) {
					if _, removes := shared.(*sessions.MemoryStore); removes && !tt.lives {
						return
					}
					if got := visit(b); got != 42 {
						t.Errorf("back again: got user %d, want 42", got)
					}
				})
			})
		})
	}
}

// A client may hang up at any step; the server goes on, and what the handler did
// is stored, or was never begun.
func TestClientThatHangsUpAtAnyStepBreaksNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, tt := range []struct {
			name string
			say  func(path, cookie string) string
			runs bool
		}{
			{"within the request line", func(path, _ string) string { return "GET " + path }, false},
			{"within the header", func(path, c string) string {
				return "POST " + path + " HTTP/1.1\r\nHost: x\r\nCookie: __Host-Http-session=" + c[:40]
			}, false},
			{"within the body", func(path, c string) string {
				return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nCookie: __Host-Http-session=" + c + "\r\n\r\nhalf"
			}, true},
			{"before the answer", func(path, c string) string {
				return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nCookie: __Host-Http-session=" + c + "\r\n\r\n"
			}, true},
		} {
			t.Run(tt.name, func(t *testing.T) {
				s := newSite(t, m, nil)
				returned := make(chan struct{}, 2)
				next := s.handler
				s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					next.ServeHTTP(w, r)
					returned <- struct{}{}
				})
				b := s.browser()
				b.do(func(s *session) { s.Data.UserID = 42 })
				<-returned
				started, hungUp := make(chan struct{}), make(chan struct{})
				path := s.route(func(w http.ResponseWriter, r *http.Request) {
					close(started)
					<-hungUp
					_, _ = io.ReadAll(r.Body)
					sess := sessions.Get[AppSession](r.Context())
					sess.Data.N = 7
					for range 1000 { // more than any buffer of the connection
						if _, err := fmt.Fprintf(w, "%01024d", 0); err != nil {
							break
						}
					}
					sess.Update(func(d *AppSession) { d.Role = "user" })
				})
				c := dialSite(t, s)
				c.say("%s", tt.say(path, b.cookie()))
				if tt.runs {
					<-started // a client who is gone before the load is no visitor
				}
				_ = c.Conn.Close()
				close(hungUp)
				if tt.runs {
					<-returned
				}
				data, reason := b.peek()
				<-returned
				want := AppSession{UserID: 42}
				if tt.runs && m.hasStore() {
					want.N, want.Role = 7, "user"
				}
				if data.UserID != 42 || data.N != want.N || data.Role != want.Role {
					t.Errorf("got %+v (%q), want %+v", data, reason, want)
				}
				if n := len(s.events.of(sessions.EventFailed)); n > 0 {
					t.Errorf("got the events %v, want no failure", s.events.all)
				}
				if s.store != nil && len(s.store.live()) != 1 {
					t.Errorf("got %d records, want 1", len(s.store.live()))
				}
			})
		}
	})
}

// A hoardingStore keeps every record a year too long.
type hoardingStore struct{ sessions.Store }

func (h hoardingStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	rec.Expires = rec.Expires.AddDate(1, 0, 0)
	return h.Store.Create(ctx, id, rec)
}

func (h hoardingStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	rec.Expires = rec.Expires.AddDate(1, 0, 0)
	return h.Store.Update(ctx, id, rec)
}

// A Store that keeps a record beyond its end prolongs nobody's session: the end
// is inside the envelope too. The older of two cookies of one id says a later one.
func TestStoreThatKeepsAnEndedRecordProlongsNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, mode{store: func() sessions.Store { return hoardingStore{m.store()} }, encrypt: m.encrypt}, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.UserID = 42 })
			older := b.clone()
			b.do(func(s *session) { s.SetLifetime(time.Hour) })
			time.Sleep(time.Hour - time.Nanosecond)
			if data, reason := older.clone().peek(); data.UserID != 42 {
				t.Errorf("got user %d (%q) just before the end, want 42", data.UserID, reason)
			}
			time.Sleep(time.Nanosecond)
			if data, reason := older.peek(); data.UserID != 0 || reason != sessions.ReasonExpired {
				t.Errorf("got user %d (%q) at the end, want nobody (%q)", data.UserID, reason, sessions.ReasonExpired)
			}
		})
	})
}
