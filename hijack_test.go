package sessions_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/typedsessions/sessions"
)

func TestACookieOfASaveBeforeAHijackIsNoLoss(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, saved := range []bool{true, false} {
			s := newSite(t, m, nil)
			s.handler.ServeHTTP(hijackable{httptest.NewRecorder()}, httptest.NewRequest("GET", s.route(func(w http.ResponseWriter, r *http.Request) {
				x := sessions.Get[AppSession](r.Context())
				x.Data.N = 1
				if saved {
					if err := x.Save(r.Context()); err != nil {
						t.Fatal(err)
					}
				}
				_, _, _ = http.NewResponseController(w).Hijack()
				if lines := w.Header()["Set-Cookie"]; len(lines) != 1 {
					t.Errorf("got %q in the header, want the cookie for whoever writes the handshake", lines)
				}
			}), nil))
			if late := s.events.of(sessions.EventLate); (len(late) > 0) == saved {
				t.Errorf("Save before=%t: got the events %v, want one without Save only", saved, late)
			}
		}
	})
}

func TestAChangeAfterTheSaveBeforeAHijackIsReported(t *testing.T) {
	for _, m := range modes[:2] { // with a store, no new cookie is needed
		s := newSite(t, m, nil)
		s.handler.ServeHTTP(hijackable{httptest.NewRecorder()}, httptest.NewRequest("GET", s.route(func(w http.ResponseWriter, r *http.Request) {
			x := sessions.Get[AppSession](r.Context())
			x.Data.N = 1
			if err := x.Save(r.Context()); err != nil {
				t.Fatal(err)
			}
			x.Data.N = 2
			_, _, _ = http.NewResponseController(w).Hijack()
		}), nil))
		if late := s.events.of(sessions.EventLate); len(late) != 1 {
			t.Errorf("%s: got the events %v, want one", m.name, late)
		}
	}
}

func TestANewOwnerBeforeAHijackIsReportedOnce(t *testing.T) {
	s := newOwnedSite(t, modes[3], nil)
	b, _ := signIn(s, 42)
	s.handler.ServeHTTP(hijackable{httptest.NewRecorder()}, b.request(func(w http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Data = AppSession{UserID: 43}
		_, _, _ = http.NewResponseController(w).Hijack()
	}))
	if got := s.events.of(sessions.EventLate); len(got) != 1 {
		t.Errorf("got the events %v, want one", got)
	}
}

// A new id comes too late at the handshake, which is one event. What the connection
// changes afterwards is another.
func TestWhatAHijackedConnectionLosesIsTold(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		told := 0
		s.handler.ServeHTTP(hijackable{httptest.NewRecorder()}, b.request(func(w http.ResponseWriter, r *http.Request) {
			x := sessions.Get[AppSession](r.Context())
			x.RegenerateID()
			_, _, _ = http.NewResponseController(w).Hijack()
			told = len(s.events.of(sessions.EventLate))
			x.Data.N = 7 // an hour later, say
		}))
		d, _ := b.peek()
		if after := len(s.events.of(sessions.EventLate)); d.N != 7 && after == told {
			t.Errorf("got N=%d and no event after the %d of the handshake", d.N, told)
		}
	})
}
