package sessions_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/typedsessions/sessions"
)

func TestReloadShowsWhatAnEditHasStored(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(x *session) { x.Data = AppSession{UserID: 42, Name: "Ada", Cart: map[string]int{"tea": 1}} })
		b.do(func(x *session) {
			x.Data.Name = "Grace" // not stored yet
			if err := s.mgr.Edit(bg, x.ID(), func(d *AppSession) { d.Role = "admin"; d.Name = "Edit"; d.Cart["milk"] = 2 }); err != nil {
				t.Fatal(err)
			}
			if err := x.Reload(bg); err != nil {
				t.Fatal(err)
			}
			if x.Data.Role != "admin" || x.Data.Name != "Grace" || x.Data.Cart["milk"] != 2 {
				t.Errorf("got %+v, want the edit, and this request's name on it", x.Data)
			}
		})
		if got, _ := b.peek(); got.Role != "admin" || got.Name != "Grace" || got.Cart["milk"] != 2 {
			t.Errorf("stored: got %+v, want both changes", got)
		}
	})
}

func TestReloadRunsUpdatesAgainAndStoresThemOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(x *session) { x.Data.N = 10 })
		b.do(func(x *session) {
			x.Update(func(d *AppSession) { d.N++ })
			for range 2 {
				if err := s.mgr.Edit(bg, x.ID(), func(d *AppSession) { d.N += 100 }); err != nil {
					t.Fatal(err)
				}
				if err := x.Reload(bg); err != nil {
					t.Fatal(err)
				}
			}
			if x.Data.N != 211 {
				t.Errorf("after Reload: got N=%d, want 211", x.Data.N)
			}
			if err := s.mgr.Edit(bg, x.ID(), func(d *AppSession) { d.N += 100 }); err != nil {
				t.Fatal(err)
			}
		})
		if got, _ := b.peek(); got.N != 311 {
			t.Errorf("got N=%d, want 311: each change counts once", got.N)
		}
	})
}

func TestReloadOfWhatHasEndedIsErrNotFound(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(x *session) {
			if err := x.Reload(bg); err != nil {
				t.Errorf("of a new session: got %v, want nil", err)
			}
			x.Data.N = 1
		})
		b.do(func(x *session) {
			if err := s.mgr.Revoke(bg, x.ID()); err != nil {
				t.Fatal(err)
			}
			if err := x.Reload(bg); !errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("got %v, want ErrNotFound", err)
			}
		})
	})
}

func TestReloadIsNoUseAndStoresNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(x *session) { x.Data.N = 1 })
		b.do(func(x *session) {
			s.store.resetCounts()
			x.Data.N = 2
			if err := x.Reload(bg); err != nil {
				t.Fatal(err)
			}
			if n := s.store.count("Update") + s.store.count("Touch") + s.store.count("Create"); n != 0 {
				t.Errorf("got %d writes, want none", n)
			}
			if x.Data.N != 2 {
				t.Errorf("got N=%d, want the change kept", x.Data.N)
			}
		})
		if got, _ := b.peek(); got.N != 2 {
			t.Errorf("got N=%d, want the change stored in the end", got.N)
		}
	})
}

func TestAChangeBeforeAReloadAfterTheHeadersIsStored(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(x *session) { x.Data.N = 1 })
		b.serve(func(w http.ResponseWriter, r *http.Request) {
			x := sessions.Get[AppSession](r.Context())
			w.WriteHeader(http.StatusOK)
			x.Flash("info", "late")
			if err := x.Reload(context.WithoutCancel(r.Context())); err != nil {
				t.Fatal(err)
			}
		})
		if got := takeFlashes(b); len(got) != 1 {
			t.Errorf("got %v, want the message", got)
		}
	})
}
