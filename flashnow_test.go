package sessions_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/typedsessions/sessions"
)

func TestFlashNowIsShownByThisResponseAlone(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		for name, b := range map[string]*browser{"a new visitor": s.browser(), "a known one": func() *browser { b, _ := signIn(s, 42); return b }()} {
			s.events.reset()
			if m.hasStore() {
				s.store.resetCounts()
			}
			res := b.do(func(s *session) {
				s.FlashNow("error", "one")
				s.FlashNow("info", "two")
				wantMessages(t, name, s.Flashes(), "one", "two")
				wantMessages(t, name+", asked again", s.Flashes())
			})
			if len(res.Header["Set-Cookie"]) > 0 || len(s.events.all) > 0 {
				t.Errorf("%s: got %q and the events %v, want nothing sent", name, res.Header["Set-Cookie"], s.events.all)
			}
			if m.hasStore() && s.store.count("Create")+s.store.count("Update") > 0 {
				t.Errorf("%s: got the operations %v, want no write", name, s.store.counts)
			}
			b.do(func(s *session) { s.FlashNow("info", "nobody asks") })
			wantMessages(t, name+", in the next request", takeFlashes(b))
		}
	})
}

func TestFlashNowComesAfterTheMessagesThatWaitAndTakesPartInKinds(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		b.do(func(s *session) { s.Data.N = 1; s.Flash("info", "waits"); s.Flash("error", "waits too") })
		b.do(func(s *session) {
			s.FlashNow("error", "now")
			s.FlashNow("info", "now too")
			s.Flash("info", "later")
			wantMessages(t, "of one kind", s.Flashes("error"), "waits too", "now")
			wantMessages(t, "of all kinds", s.Flashes(), "waits", "now too")
			s.FlashNow("error", "once more")
			wantMessages(t, "added after", s.Flashes(), "once more")
		})
		wantMessages(t, "in the next request", takeFlashes(b), "later")
	})
}

func TestAMessageThatWaitsAndIsShownNowIsShownTwice(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		flashIn(b, "same")
		b.do(func(s *session) {
			s.FlashNow("info", "same")
			s.FlashNow("info", "same")
			if n := len(s.Flashes()); n < 2 {
				t.Errorf("got %d messages, want what waits and what is shown now", n)
			}
		})
		wantMessages(t, "in the next request", takeFlashes(b))
	})
}

func TestFlashNowAndTheEndOfASession(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*session)
		want []string
	}{
		{"after RegenerateID", func(s *session) { s.RegenerateID(); s.FlashNow("info", "x") }, []string{"x"}},
		{"before RegenerateID", func(s *session) { s.FlashNow("info", "x"); s.RegenerateID() }, []string{"x"}},
		{"before Reset", func(s *session) { s.FlashNow("info", "x"); s.Reset() }, nil},
		{"after Reset", func(s *session) { s.Reset(); s.FlashNow("info", "x") }, []string{"x"}},
		{"before Destroy", func(s *session) { s.FlashNow("info", "x"); s.Destroy() }, nil},
		{"after Destroy", func(s *session) { s.Destroy(); s.FlashNow("info", "x") }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Data.N = 1 })
				b.do(func(s *session) {
					tt.do(s)
					wantMessages(t, "in the request", s.Flashes(), tt.want...)
				})
				wantMessages(t, "in the next one", takeFlashes(b))
			})
		})
	}
}

func TestFlashNowAfterTheHeadersIsShownAndNoEvent(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		s.browser().serve(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			x := sessions.Get[AppSession](r.Context())
			x.FlashNow("info", "x")
			wantMessages(t, "after the headers", x.Flashes(), "x")
		})
		if len(s.events.all) > 0 {
			t.Errorf("got the events %v, want none", s.events.all)
		}
	})
}

func TestFlashNowIsNotBoundedByWhatWaits(t *testing.T) {
	for _, m := range modes[:2] {
		b := newSite(t, m, nil).browser()
		res := b.do(func(s *session) {
			for i := range 100 {
				s.FlashNow("info", strings.Repeat("x", 100)+fmt.Sprint(i))
			}
			if n := len(s.Flashes()); n != 100 {
				t.Errorf("%s: got %d messages, want 100", m.name, n)
			}
		})
		if res.StatusCode != 200 || len(res.Header["Set-Cookie"]) > 0 {
			t.Errorf("%s: got %d with %q, want 200 and no cookie", m.name, res.StatusCode, res.Header["Set-Cookie"])
		}
	}
}

func TestAMessageThatIsEqualToAWaitingOneDoesNotWaitTwice(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		flashIn(b, "first", "second")
		cookie := b.cookie()
		if m.hasStore() {
			s.store.resetCounts()
		}
		for range 40 { // a page that polls
			if res := b.do(func(s *session) { s.Flash("info", "first") }); res.StatusCode != 200 {
				t.Fatalf("got %d, want 200", res.StatusCode)
			}
		}
		if b.cookie() != cookie || m.hasStore() && s.store.count("Update") > 0 {
			t.Error("the session was stored again, though nothing in it changed")
		}
		b.do(func(s *session) {
			s.Flash("info", "third")
			s.Flash("info", "third")
			s.Flash("error", "first") // of another kind
			s.Flash("info", "second")
		})
		wantMessages(t, "in the end", takeFlashes(b), "first", "second", "third", "first")
		if n := len(s.events.of(sessions.EventFlashDropped)); n > 0 {
			t.Errorf("got %d events of dropped messages, want none", n)
		}
	})
}

func TestAMessageThatWasTakenWaitsAgainAtTheEnd(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		flashIn(b, "first", "second")
		b.do(func(s *session) {
			s.Flashes()
			s.Flash("info", "second")
			s.Flash("info", "first")
		})
		wantMessages(t, "in the next request", takeFlashes(b), "second", "first")
	})
}
