package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// takeFlashes sends a request that asks for messages.
func takeFlashes(b *browser, kinds ...string) (got []sessions.Flash) {
	b.s.t.Helper()
	b.do(func(s *session) { got = s.Flashes(kinds...) })
	return got
}

// flashIn sends a request that leaves messages of the kind info.
func flashIn(b *browser, messages ...string) {
	b.s.t.Helper()
	b.do(func(s *session) {
		for _, m := range messages {
			s.Flash("info", m)
		}
	})
}

func wantMessages(t testing.TB, what string, got []sessions.Flash, want ...string) {
	t.Helper()
	messages := make([]string, len(got))
	for i, f := range got {
		messages[i] = f.Message
	}
	if !slices.Equal(messages, want) {
		t.Errorf("%s: got %q, want %q", what, messages, want)
	}
}

func numbered(from, to int) (messages []string) {
	for i := from; i <= to; i++ {
		messages = append(messages, fmt.Sprint(i))
	}
	return messages
}

// panicking sends a request whose handler panics at its end.
func panicking(b *browser, f func(*session)) {
	b.s.t.Helper()
	defer func() {
		if recover() == nil {
			b.s.t.Error("the panic did not pass through")
		}
	}()
	b.do(func(s *session) {
		f(s)
		panic("the handler's own")
	})
}

func TestFlashIsVisibleFromTheNextRequestOn(t *testing.T) {
	for _, then := range []struct {
		name string
		do   func(*session)
	}{
		{"alone", func(*session) {}},
		{"with an edit", func(s *session) { s.Data.N++ }},
		{"with an Update", func(s *session) { s.Update(func(d *AppSession) { d.N++ }) }},
		{"with a Save", func(s *session) { _ = s.Save(context.Background()) }},
		{"with RegenerateID", (*session).RegenerateID},
	} {
		t.Run(then.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				b := newSite(t, m, nil).browser()
				for _, visitor := range []string{"new", "known"} {
					b.do(func(s *session) {
						s.Flash("info", "hello")
						then.do(s)
						wantMessages(t, visitor+", in the same request", s.Flashes())
						wantMessages(t, visitor+", in the same request by its kind", s.Flashes("info"))
					})
					got := takeFlashes(b)
					if want := []sessions.Flash{{Kind: "info", Message: "hello"}}; !slices.Equal(got, want) {
						t.Errorf("%s, in the next request: got %v, want %v", visitor, got, want)
					}
				}
			})
		})
	}
}

func TestFlashIsGoneOnceRead(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		flashIn(b, "one", "two")
		b.do(func(s *session) {
			wantMessages(t, "the first time", s.Flashes(), "one", "two")
			wantMessages(t, "the second time in one request", s.Flashes())
		})
		wantMessages(t, "in the request after", takeFlashes(b))
		if !m.hasStore() {
			return
		}
		for _, id := range s.store.live() {
			if rec, err := s.store.Load(context.Background(), id); err != nil || strings.Contains(string(rec.Data), "two") {
				t.Errorf("the message is still in the record (%v)", err)
			}
		}
	})
}

func TestFlashWaitsForARequestThatAsks(t *testing.T) {
	between := []struct {
		name    string
		serve   http.HandlerFunc
		changes bool
	}{
		{"an image", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("GIF89a")) }, false},
		{"a page that reads only", func(_ http.ResponseWriter, r *http.Request) { _ = sessions.Get[AppSession](r.Context()).Data }, false},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/next", http.StatusSeeOther) }, false},
		{"a page that fails", func(w http.ResponseWriter, r *http.Request) {
			_ = sessions.Get[AppSession](r.Context()).ID()
			http.Error(w, "broken", http.StatusInternalServerError)
		}, false},
		{"a page that asks for another kind", func(_ http.ResponseWriter, r *http.Request) {
			sessions.Get[AppSession](r.Context()).Flashes("error", "Info", "")
		}, false},
		{"a page that edits", func(_ http.ResponseWriter, r *http.Request) { sessions.Get[AppSession](r.Context()).Data.N++ }, true},
		{"a page that updates", func(_ http.ResponseWriter, r *http.Request) {
			sessions.Get[AppSession](r.Context()).Update(func(d *AppSession) { d.N++ })
		}, true},
		{"a page that prolongs", func(_ http.ResponseWriter, r *http.Request) { sessions.Get[AppSession](r.Context()).SetLifetime(1e15) }, true},
		{"a page that saves", func(_ http.ResponseWriter, r *http.Request) {
			_ = sessions.Get[AppSession](r.Context()).Save(r.Context())
		}, false},
		{"a login", func(_ http.ResponseWriter, r *http.Request) { sessions.Get[AppSession](r.Context()).RegenerateID() }, true},
	}
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		flashIn(b, "hello")
		for _, request := range between {
			if m.hasStore() {
				s.store.resetCounts()
			}
			res := b.serve(request.serve)
			if !request.changes && len(res.setCookies()) > 0 {
				t.Errorf("%s: got %q, want no cookie: nothing was read", request.name, res.setCookies())
			}
			if !request.changes && m.hasStore() && s.store.count("Update")+s.store.count("Create") > 0 {
				t.Errorf("%s: the session was written", request.name)
			}
		}
		wantMessages(t, "after all of them", takeFlashes(b), "hello")
	})
}

func TestFlashSurvivesRedirectsOverTheNetwork(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP2=%t", http2), func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				b := newSite(t, m, nil).online(http2)
				redirect := func(message string) {
					b.serve(func(w http.ResponseWriter, r *http.Request) {
						if message != "" {
							sessions.Get[AppSession](r.Context()).Flash("info", message)
						}
						http.Redirect(w, r, "/next", http.StatusSeeOther)
					})
				}
				redirect("one")
				redirect("")
				redirect("two")
				wantMessages(t, "on the page", takeFlashes(b), "one", "two")
				wantMessages(t, "on the page after", takeFlashes(b))
			})
		})
	}
}

func TestFlashesComeInTheOrderOfTheirAdding(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		flashIn(b, "1", "2")
		flashIn(b, "3")
		b.do(func(s *session) {
			s.Flash("error", "4")
			s.Flash("info", "5")
		})
		wantMessages(t, "all", takeFlashes(b), "1", "2", "3", "4", "5")
	})
}

func TestFlashesTakesTheGivenKindsOnly(t *testing.T) {
	type kinds = []string
	for _, tt := range []struct {
		name       string
		ask        []kinds
		want, left []string
	}{
		{"none given: all", []kinds{{}}, []string{"e1", "i1", "e2", "-", "i2"}, nil},
		{"one", []kinds{{"error"}}, []string{"e1", "e2"}, []string{"i1", "-", "i2"}},
		{"two, in the order of adding", []kinds{{"info", "error"}}, []string{"e1", "i1", "e2", "i2"}, []string{"-"}},
		{"the same twice", []kinds{{"info", "info"}}, []string{"i1", "i2"}, []string{"e1", "e2", "-"}},
		{"the empty kind", []kinds{{""}}, []string{"-"}, []string{"e1", "i1", "e2", "i2"}},
		{"another", []kinds{{"warning"}, {"err"}, {"ERROR"}}, nil, []string{"e1", "i1", "e2", "-", "i2"}},
		{"one after the other", []kinds{{"info"}, {"error"}}, []string{"i1", "i2", "e1", "e2"}, []string{"-"}},
		{"one and then all", []kinds{{"info"}, {}}, []string{"i1", "i2", "e1", "e2", "-"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				b := newSite(t, m, nil).browser()
				b.do(func(s *session) {
					for _, f := range []sessions.Flash{{Kind: "error", Message: "e1"}, {Kind: "info", Message: "i1"}, {Kind: "error", Message: "e2"}, {Message: "-"}, {Kind: "info", Message: "i2"}} {
						s.Flash(f.Kind, f.Message)
					}
				})
				b.do(func(s *session) {
					var got []sessions.Flash
					for _, kinds := range tt.ask {
						got = append(got, s.Flashes(kinds...)...)
					}
					wantMessages(t, "asked for", got, tt.want...)
				})
				wantMessages(t, "left for the next request", takeFlashes(b), tt.left...)
			})
		})
	}
}

func TestFlashesLiveApartFromData(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		b.do(func(s *session) {
			s.Data.Name, s.Data.Extra = "Ada", map[string]string{"name": "kept"}
			s.SetLifetime(time.Hour) // so that the session outlives its last message
			s.Flash("name", "a flash")
			s.Flash("Extra", "another")
		})
		b.do(func(s *session) {
			wantMessages(t, "flashes", s.Flashes(), "a flash", "another")
			if s.Data.Name != "Ada" || len(s.Data.Extra) != 1 || s.Data.Extra["name"] != "kept" {
				t.Errorf("got %+v, want what was stored", s.Data)
			}
			s.Data = AppSession{}
			s.Flash("info", "stays")
		})
		b.do(func(s *session) {
			wantMessages(t, "beside an empty T", s.Flashes(), "stays")
		})
		if d, reason := b.peek(); reason != sessions.ReasonNone || d.Name != "" {
			t.Errorf("got %q, %q, want the session with an empty T", d.Name, reason)
		}
	})
}

// A visitor of whom nothing is known may carry a message, whatever is required
// of one who signed in.
func TestFlashNeedsNoValidData(t *testing.T) {
	type account struct {
		UserID int            `msgpack:"uid" validate:"required"`
		Prefs  map[string]int `msgpack:"prefs"`
	}
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			cfg := sessions.Config[account]{Keys: newKeys(t), Encrypt: m.encrypt}
			if m.hasStore() {
				cfg.Store = m.store()
			}
			mgr, err := sessions.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			var got []sessions.Flash
			open := visitor(mgr.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				s := sessions.Get[account](r.Context())
				if s.Data.Prefs == nil && r.URL.Path == "/with-a-map" {
					s.Data.Prefs = map[string]int{}
				}
				if r.URL.Path == "/" {
					got = s.Flashes()
				} else {
					s.Flash("error", "Invalid username or password")
				}
			})))
			for _, path := range []string{"/leave", "/with-a-map"} {
				open(path)
				open("/")
				wantMessages(t, "of a visitor who did not sign in, from "+path, got, "Invalid username or password")
				got = nil
			}
		})
	}
}

func TestThe33rdFlashDropsTheOldest(t *testing.T) {
	for _, tt := range []struct {
		name    string
		adding  []int // by each request
		dropped []int // events expected of it
		want    []string
	}{
		{"32 are kept", []int{32}, []int{0}, numbered(1, 32)},
		{"33 in one request", []int{33}, []int{1}, numbered(2, 33)},
		{"32, and one more", []int{32, 1}, []int{0, 1}, numbered(2, 33)},
		{"20 and 20", []int{20, 20}, []int{0, 1}, numbered(9, 40)},
		{"1000 in one request", []int{1000}, []int{1}, numbered(969, 1000)},
		{"40, 0 and 2", []int{40, 0, 2}, []int{1, 0, 1}, numbered(11, 42)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				s := newSite(t, m, nil)
				b := s.browser()
				next := 0
				for i, n := range tt.adding {
					s.events.reset()
					b.do(func(s *session) {
						for range n {
							next++
							s.Flash("info", fmt.Sprint(next))
						}
					})
					if got := s.events.of(sessions.EventFlashDropped); len(got) != tt.dropped[i] {
						t.Errorf("request %d: got %d events, want %d", i, len(got), tt.dropped[i])
					}
					for _, e := range s.events.of(sessions.EventFlashDropped) {
						if e.ID == "" || e.Err == nil {
							t.Errorf("got %+v, want an event with the public id and an explanation", e)
						}
					}
				}
				wantMessages(t, "waiting", takeFlashes(b), tt.want...)
			})
		})
	}
}

func TestReadFlashesMakeRoomForOthers(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		flashIn(b, numbered(1, 31)...)
		b.do(func(s *session) {
			s.Flash("error", "32")
		})
		b.do(func(s *session) {
			for i := 33; i <= 35; i++ {
				s.Flash("info", fmt.Sprint(i))
			}
			wantMessages(t, "of a kind", s.Flashes("error"), "32")
		})
		if n := len(s.events.of(sessions.EventFlashDropped)); n != 1 {
			t.Errorf("got %d events, want one for the two that had to go", n)
		}
		wantMessages(t, "waiting", takeFlashes(b), append(numbered(3, 31), numbered(33, 35)...)...)
	})
}

func TestFlashAndTheEndOfASession(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*session) // in a session with the message "old" waiting
		want []string
	}{
		{"it survives RegenerateID", (*session).RegenerateID, []string{"old"}},
		{"added before RegenerateID", func(s *session) { s.Flash("info", "new"); s.RegenerateID() }, []string{"old", "new"}},
		{"added after RegenerateID", func(s *session) { s.RegenerateID(); s.Flash("info", "new") }, []string{"old", "new"}},
		{"read before RegenerateID", func(s *session) { s.Flashes(); s.RegenerateID() }, nil},
		{"read after RegenerateID", func(s *session) { s.RegenerateID(); s.Flashes() }, nil},
		{"read and added beside two RegenerateID", func(s *session) { s.RegenerateID(); s.Flashes(); s.Flash("info", "new"); s.RegenerateID() }, []string{"new"}},
		{"it survives SetLifetime", func(s *session) { s.SetLifetime(1e15) }, []string{"old"}},
		{"Destroy", (*session).Destroy, nil},
		{"added before Destroy", func(s *session) { s.Flash("info", "new"); s.Destroy() }, nil},
		{"added after Destroy", func(s *session) { s.Destroy(); s.Flash("info", "new") }, nil},
		{"Reset", (*session).Reset, nil},
		{"added before Reset", func(s *session) { s.Flash("info", "new"); s.Reset() }, nil},
		{"added after Reset", func(s *session) { s.Reset(); s.Flash("info", "new") }, []string{"new"}},
		{"added after Reset with data", func(s *session) { s.Reset(); s.Data.N = 1; s.Flash("info", "new") }, []string{"new"}},
		{"added after two Resets", func(s *session) {
			s.Reset()
			s.Flash("info", "gone")
			s.Reset()
			s.Flash("info", "new")
		}, []string{"new"}},
		{"added after Destroy and Reset", func(s *session) { s.Destroy(); s.Reset(); s.Flash("info", "new") }, []string{"new"}},
		{"added after Reset, before Destroy", func(s *session) { s.Reset(); s.Flash("info", "new"); s.Destroy() }, nil},
		{"added after Reset and RegenerateID", func(s *session) { s.Reset(); s.RegenerateID(); s.Flash("info", "new") }, []string{"new"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				b := newSite(t, m, nil).browser()
				flashIn(b, "old")
				old := b.clone()
				b.do(func(s *session) {
					tt.do(s)
					if strings.Contains(tt.name, "Destroy") && !strings.Contains(tt.name, "and Reset") || strings.Contains(tt.name, "Reset") {
						wantMessages(t, "at once", s.Flashes())
					}
				})
				wantMessages(t, "in the next request", takeFlashes(b), tt.want...)
				moved := strings.Contains(tt.name, "RegenerateID") || strings.Contains(tt.name, "Destroy") || strings.Contains(tt.name, "Reset")
				if m.hasStore() && moved {
					wantMessages(t, "with the old cookie", takeFlashes(old))
				}
			})
		})
	}
}

func TestFlashAfterResetIsUnderANewID(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		b.do(func(s *session) { s.Data.UserID = 42 })
		var old, promised string
		b.do(func(s *session) {
			old = s.ID()
			s.Reset()
			s.Flash("info", "You have signed out")
			promised = s.ID()
		})
		b.do(func(s *session) {
			if s.ID() == old || s.ID() != promised || s.IsNew() || s.Data.UserID != 0 {
				t.Errorf("got id %s, new %t, user %d, want the id %s that Reset drew and no user", s.ID(), s.IsNew(), s.Data.UserID, promised)
			}
			wantMessages(t, "after signing out", s.Flashes(), "You have signed out")
		})
	})
}

func TestPanickingRequestReadsAndLeavesNoFlash(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		flashIn(b, "one", "two")
		panicking(b, func(s *session) { wantMessages(t, "in the request that panics", s.Flashes(), "one", "two") })
		panicking(b, func(s *session) { s.Flash("info", "from a panic") })
		panicking(b, func(s *session) { s.Flashes(); s.RegenerateID(); s.Flash("info", "from a panic") })
		wantMessages(t, "in the request after", takeFlashes(b), "one", "two")
	})
}

func TestFlashBeforeADestroyAndAPanicIsGone(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		flashIn(b, "old")
		panicking(b, func(s *session) {
			s.Reset()
			s.Flash("info", "new")
		})
		if m.hasStore() {
			wantMessages(t, "in the request after", takeFlashes(b))
		}
	})
}

// A commit that fails has shown nothing: what was read is shown again.
func TestFlashIsShownAgainIfTheReadCouldNotBeStored(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		flashIn(b, "hello")
		read := func(what string, spoil func(*session)) {
			res := b.do(func(s *session) {
				wantMessages(t, what, s.Flashes(), "hello")
				spoil(s)
			})
			if res.StatusCode < 500 || len(res.setCookies()) > 0 {
				t.Errorf("%s: got status %d and cookies %q, want an error page and no cookie", what, res.StatusCode, res.setCookies())
			}
		}
		read("with data that is not valid", func(s *session) { s.Data.UserID = -1 })
		if !m.hasStore() {
			read("with data that does not fit", func(s *session) { s.Data.Name = strings.Repeat("x", 5000) })
		} else {
			broken := errors.New("the disk is full")
			s.store.hook(func(op string, _ sessions.ID) error {
				if op == "Delete" { // of what is spent
					return broken
				}
				return nil
			}, nil)
			read("with a store that fails", func(*session) {})
			s.store.hook(nil, nil)
		}
		wantMessages(t, "in the end", takeFlashes(b), "hello")
	})
}

func TestParallelRequestsDropTheOldestOfAllFlashes(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		flashIn(b, numbered(1, 20)...)
		first := b.clone()
		overlap(b, func(s *session) {
			for i := 31; i <= 40; i++ {
				s.Flash("info", fmt.Sprint(i))
			}
		}, func() { flashIn(first, numbered(21, 30)...) })
		if n := len(s.events.of(sessions.EventFlashDropped)); n != 1 {
			t.Errorf("got %d events, want one", n)
		}
		wantMessages(t, "left", takeFlashes(b), numbered(9, 40)...)
	})
}

func TestHundredParallelRequestsDropNoFlashSilently(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		flashIn(b, "0")
		parallel(30, func(i int) { flashIn(b.clone(), fmt.Sprint(i+1)) })
		got := map[string]bool{}
		for _, f := range takeFlashes(b) {
			got[f.Message] = true
		}
		for _, want := range numbered(0, 30) {
			if !got[want] {
				t.Errorf("message %s is lost", want)
			}
		}
	})
}

func TestAskingForFlashesThatAreNotThereSendsAndStoresNothing(t *testing.T) {
	ask := func(s *session) {
		for _, kinds := range [][]string{nil, {"info"}, {""}, {"info", "error"}} {
			if got := s.Flashes(kinds...); got != nil {
				panic(fmt.Sprintf("got %v, want nil", got))
			}
		}
	}
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		check := func(what string, b *browser, loads int) {
			t.Helper()
			if m.hasStore() {
				s.store.resetCounts()
			}
			if res := b.do(ask); len(res.Header["Set-Cookie"]) > 0 {
				t.Errorf("%s: got %q, want no cookie", what, res.Header["Set-Cookie"])
			}
			if !m.hasStore() {
				return
			}
			for _, op := range []string{"Load", "Create", "Update", "Replace", "Touch", "Delete"} {
				if n := s.store.count(op); n > 0 && (op != "Load" || n > loads) {
					t.Errorf("%s: got %d calls of %s, want none", what, n, op)
				}
			}
		}
		b := s.browser()
		check("an anonymous visitor", b, 0)
		if b.cookie() != "" || len(s.events.of(sessions.EventStarted)) > 0 {
			t.Error("a session was made")
		}
		b.do(func(s *session) { s.Data.UserID = 42 })
		check("a known visitor", b, 1)
	})
}

func TestFlashOfAnAnonymousVisitorMakesASession(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		res := b.do(func(s *session) { s.Flash("error", "Invalid username or password") })
		if len(res.setCookies()) != 1 {
			t.Errorf("got cookies %q, want one", res.setCookies())
		}
		if n := len(s.events.of(sessions.EventStarted)); n != 1 {
			t.Errorf("got %d sessions begun, want 1", n)
		}
		wantMessages(t, "in the next request", takeFlashes(b), "Invalid username or password")
	})
}

func TestFlashIsKeptToTheByte(t *testing.T) {
	messages := []string{
		"", " ", "<b>bold</b> & \"quoted\"", "two\nlines\r\n", "\x00", "\xff\xfe invalid \xc3", "é e\u0301 日本語 🦫", "%s %d %%", `\u0041`, "\u202e",
		strings.Repeat("x", 31), strings.Repeat("y", 32), strings.Repeat("z", 300), // where msgpack changes its spelling
	}
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		b.do(func(s *session) {
			for _, message := range messages {
				s.Flash(message, message)
			}
		})
		got := takeFlashes(b)
		if len(got) != len(messages) {
			t.Fatalf("got %d messages, want %d", len(got), len(messages))
		}
		for i, f := range got {
			if f.Message != messages[i] || f.Kind != messages[i] {
				t.Errorf("got %q and %q, want %q twice", f.Kind, f.Message, messages[i])
			}
		}
	})
}

func TestLongFlashesAreKeptInAStore(t *testing.T) {
	for _, n := range []int{255, 256, 300, 1<<16 - 1, 1 << 16, 70_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				b := newSite(t, m, nil).browser()
				long := strings.Repeat("long ", n/5+1)[:n]
				flashIn(b, "before", long, "after")
				wantMessages(t, "in the next request", takeFlashes(b), "before", long, "after")
			})
		})
	}
}

func TestOldestFlashesGiveWayInACookieThatWouldBeTooLarge(t *testing.T) {
	long := func(s string) string { return strings.Repeat(s, 1000) }
	for _, tt := range []struct {
		name    string
		waiting []string
		added   string
		want    []string
		dropped string // how many
	}{
		{"one of two", []string{long("a"), long("b")}, long("c"), []string{long("b"), long("c")}, "1"},
		{"all that waited", []string{long("a"), long("b")}, long("ccc")[:2500], []string{long("ccc")[:2500]}, "2"},
		{"short ones before", []string{"1", "2", long("a"), long("b")}, "3" + long("c"), []string{long("b"), "3" + long("c")}, "3"},
	} {
		for _, m := range modes[:2] {
			t.Run(tt.name+"/"+m.name, func(t *testing.T) {
				s := newSite(t, m, nil)
				b := s.browser()
				flashIn(b, tt.waiting...)
				s.events.reset()
				if res := b.do(func(x *session) {
					x.Flash("info", tt.added)
					if err := x.Save(bg); err != nil {
						t.Errorf("Save: got %v, want nil as by the commit", err)
					}
				}); res.StatusCode != http.StatusOK {
					t.Errorf("got status %d, want 200", res.StatusCode)
				}
				got := s.events.of(sessions.EventFlashDropped)
				if len(got) != 1 || !strings.HasPrefix(got[0].Err.Error(), tt.dropped+" ") || strings.Contains(got[0].Err.Error(), "aaa") {
					t.Errorf("got the events %v, want one of %s dropped messages, without their text", got, tt.dropped)
				}
				wantMessages(t, "in the next request", takeFlashes(b), tt.want...)
			})
		}
	}
}

func TestFlashThatNoCookieHasRoomForIsDropped(t *testing.T) {
	tooLong := strings.Repeat("long ", 800)
	for _, m := range modes[:2] {
		t.Run(m.name, func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			if res := b.do(func(s *session) { s.Flash("info", tooLong) }); res.StatusCode != http.StatusOK || len(res.Header["Set-Cookie"]) > 0 {
				t.Errorf("of a new visitor: got %d with %q, want 200 and no cookie for nothing", res.StatusCode, res.Header["Set-Cookie"])
			}
			if n := len(s.events.of(sessions.EventStarted)); n > 0 {
				t.Errorf("got %d sessions begun, want none", n)
			}
			b.do(func(s *session) { s.Data.N = 7 })
			if res := b.do(func(s *session) { s.Flash("info", tooLong) }); res.StatusCode != http.StatusOK {
				t.Errorf("of a known visitor: got %d, want 200", res.StatusCode)
			}
			if d, _ := b.peek(); d.N != 7 {
				t.Errorf("got N=%d, want 7", d.N)
			}
			wantMessages(t, "in the next request", takeFlashes(b))
			if n := len(s.events.of(sessions.EventFlashDropped)); n != 2 {
				t.Errorf("got %d events of dropped messages, want 2", n)
			}
		})
	}
}

func TestOnlyDataCanMakeASessionTooLarge(t *testing.T) {
	for _, m := range modes[:2] {
		t.Run(m.name, func(t *testing.T) {
			s := newSite(t, m, nil)
			b := s.browser()
			flashIn(b, "waits")
			res := b.do(func(s *session) { s.Data.Name = strings.Repeat("x", 5000); s.Flash("info", "more") })
			if res.StatusCode != http.StatusInternalServerError || len(res.setCookies()) > 0 {
				t.Errorf("got %d with %q, want 500 and no cookie", res.StatusCode, res.setCookies())
			}
			if n := len(s.events.of(sessions.EventFlashDropped)); n > 0 {
				t.Errorf("got %d events of dropped messages, want none: nothing was stored", n)
			}
			wantMessages(t, "in the next request", takeFlashes(b), "waits")
		})
	}
}

func TestSaveBetweenFlashes(t *testing.T) {
	save := func(t *testing.T, s *session) {
		t.Helper()
		if err := s.Save(context.Background()); err != nil {
			t.Error(err)
		}
	}
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) {
			s.Flash("info", "1")
			save(t, s)
			wantMessages(t, "after Save in the same request", s.Flashes())
			save(t, s)
			s.Flash("info", "2")
			save(t, s)
			wantMessages(t, "after another Save", s.Flashes())
			s.Flash("info", "3")
		})
		b.do(func(s *session) {
			wantMessages(t, "in the next request, each once", s.Flashes(), "1", "2", "3")
			s.Flash("info", "4")
			save(t, s)
			wantMessages(t, "read, and saved", s.Flashes())
			s.Flash("info", "5")
			s.RegenerateID()
			save(t, s)
			s.Flash("info", "4") // it waits already
			s.Data.N++
		})
		wantMessages(t, "in the request after", takeFlashes(b), "4", "5")
		wantMessages(t, "in the end", takeFlashes(b))

		flashIn(b, "kept")
		b.do(func(s *session) {
			s.Flash("info", "gone")
			save(t, s)
			s.Reset()
			s.Flash("info", "new")
			save(t, s)
		})
		wantMessages(t, "after Save, Reset and Save", takeFlashes(b), "new")
		if n := len(s.events.of(sessions.EventFlashDropped)) + len(s.events.of(sessions.EventLate)); n > 0 {
			t.Errorf("got %d events of dropped or late messages, want none", n)
		}
	})
}

func TestSaveOfAReadFlashOutlivesAPanic(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		flashIn(b, "one", "two")
		panicking(b, func(s *session) {
			s.Flashes()
			if err := s.Save(context.Background()); err != nil {
				t.Error(err)
			}
		})
		wantMessages(t, "in the next request", takeFlashes(b))
	})
}

func TestHeadRequestReadsFlashesAsGetDoes(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP2=%t", http2), func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				b := newSite(t, m, nil).online(http2)
				flashIn(b, "hello")
				head := func(r *http.Request) { r.Method = http.MethodHead }
				res := b.send(func(w http.ResponseWriter, r *http.Request) {
					wantMessages(t, "by HEAD", sessions.Get[AppSession](r.Context()).Flashes(), "hello")
					_, _ = w.Write([]byte("a page"))
				}, head)
				if res.body != "" || res.StatusCode != http.StatusOK {
					t.Errorf("got %d, %q, want 200 without a body", res.StatusCode, res.body)
				}
				wantMessages(t, "by GET after it", takeFlashes(b))
				b.send(func(_ http.ResponseWriter, r *http.Request) {
					sessions.Get[AppSession](r.Context()).Flash("info", "by HEAD")
				}, head)
				wantMessages(t, "left by HEAD", takeFlashes(b), "by HEAD")
			})
		})
	}
}

func TestFlashesReadAfterTheFirstByte(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		flashIn(b, "hello")
		b.serve(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte("<!doctype html>"))
			wantMessages(t, "late", sessions.Get[AppSession](r.Context()).Flashes(), "hello")
		})
		late := len(s.events.of(sessions.EventLate))
		if m.hasStore() { // which can still hold that it was read
			if late > 0 {
				t.Errorf("got %d events of late changes, want none", late)
			}
			wantMessages(t, "in the next request", takeFlashes(b))
			return
		}
		if late != 1 {
			t.Errorf("got %d events of late changes, want 1", late)
		}
		wantMessages(t, "in the next request, again", takeFlashes(b), "hello")
	})
}

func TestFlashLeftAfterTheFirstByte(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		late := func(message string) {
			s.events.reset()
			b.serve(func(w http.ResponseWriter, r *http.Request) {
				sess := sessions.Get[AppSession](r.Context())
				_, _ = w.Write([]byte("<!doctype html>"))
				sess.Flash("info", message)
			})
		}
		late("of a new visitor, whose cookie cannot be sent")
		if n := len(s.events.of(sessions.EventLate)); n != 1 {
			t.Errorf("new visitor: got %d events of late changes, want 1", n)
		}
		b.do(func(s *session) { s.Data.N = 1 })
		late("of a known one")
		if m.hasStore() {
			wantMessages(t, "in the next request", takeFlashes(b), "of a known one")
		} else {
			if n := len(s.events.of(sessions.EventLate)); n != 1 {
				t.Errorf("known visitor: got %d events of late changes, want 1", n)
			}
			wantMessages(t, "in the next request", takeFlashes(b))
		}
	})
}

func TestFlashAfterTheRequestIsAnEventAndNothingElse(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		flashIn(b, "hello")
		var kept *session
		b.do(func(s *session) { kept = s })
		kept.Flash("info", "too late")
		if n := len(s.events.of(sessions.EventLate)); n != 1 {
			t.Errorf("got %d events of late changes, want 1", n)
		}
		wantMessages(t, "in the next request", takeFlashes(b), "hello")
	})
}

func TestFlashThatIsReadAndLeftAgainStays(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		flashIn(b, "one", "two", "three")
		for range 3 { // a page that cannot show them and passes them on
			b.do(func(s *session) {
				for _, f := range s.Flashes() {
					s.Flash(f.Kind, f.Message)
				}
			})
		}
		wantMessages(t, "in the end", takeFlashes(b), "one", "two", "three")
	})
}

func TestWhoGotFlashesMayEditThem(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		b.do(func(s *session) {
			s.Flash("info", "i1")
			s.Flash("error", "e1")
		})
		b.do(func(s *session) {
			got := s.Flashes("info")
			got[0] = sessions.Flash{Kind: "edited", Message: "edited"}
			_ = append(got, sessions.Flash{Kind: "error", Message: "appended"})
		})
		wantMessages(t, "left", takeFlashes(b), "e1")
	})
}

func TestFlashesOfManyGoroutinesOfOneRequest(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		b := newSite(t, m, nil).browser()
		flashIn(b, numbered(1, 8)...)
		var mu sync.Mutex
		taken := map[string]int{}
		b.do(func(s *session) {
			parallel(8, func(i int) {
				s.Flash("info", fmt.Sprint("new ", i))
				for _, f := range s.Flashes() {
					mu.Lock()
					taken[f.Message]++
					mu.Unlock()
				}
			})
		})
		for _, message := range numbered(1, 8) {
			if taken[message] != 1 {
				t.Errorf("message %s was given to %d goroutines, want one", message, taken[message])
			}
		}
		if n := len(takeFlashes(b)); len(taken) != 8 || n != 8 {
			t.Errorf("got %d messages at once and %d in the next request, want 8 and 8", len(taken), n)
		}
	})
}
