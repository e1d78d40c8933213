package sessions_test

import (
	"errors"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// eachLabelStore runs f in the modes that can list by label.
func eachLabelStore(t *testing.T, f func(t *testing.T, m mode)) {
	for _, m := range slices.Concat(indexModes, modes) {
		if m.hasStore() {
			if _, ok := m.store().(sessions.LabelStore); ok {
				t.Run(m.name, func(t *testing.T) { f(t, m) })
			}
		}
	}
}

func newLabelledSite(t testing.TB, m mode, change func(*config)) *site {
	t.Helper()
	return newOwnedSite(t, m, func(c *config) {
		c.Labels = labelsOf
		if change != nil {
			change(c)
		}
	})
}

// labelled returns the ids of the sessions with a label.
func labelled(s *site, label string) (ids []string) {
	s.t.Helper()
	for info, err := range s.mgr.Labelled(bg, label) {
		if err != nil {
			s.t.Errorf("Labelled: %v", err)
		}
		ids = append(ids, info.ID)
	}
	slices.Sort(ids)
	return ids
}

func wantLabelled(t testing.TB, s *site, label string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := labelled(s, label); !slices.Equal(got, want) {
		t.Errorf("sessions labelled %q: got %v, want %v", label, got, want)
	}
}

// wantLabels checks the labels of the record of the browser's session.
func wantLabels(t testing.TB, s *site, b *browser, want ...string) {
	t.Helper()
	id := idOf(b)
	for _, at := range s.store.created {
		if at.String() == id {
			rec, err := s.store.Store.Load(bg, at)
			if err != nil || !slices.Equal(rec.Labels, want) {
				t.Errorf("got the labels %q, %v, want %q", rec.Labels, err, want)
			}
			return
		}
	}
	t.Errorf("there is no record of %s", id)
}

func TestSessionsAreFoundByTheirLabels(t *testing.T) {
	eachLabelStore(t, func(t *testing.T, m mode) {
		s := newLabelledSite(t, m, nil)
		a, b, c := s.browser(), s.browser(), s.browser()
		a.do(func(s *session) { s.Data = AppSession{UserID: 42, Role: "admin", Tags: []string{"x", "y"}} })
		b.do(func(s *session) { s.Data = AppSession{UserID: 43, Role: "user", Tags: []string{"y"}} })
		c.do(func(s *session) { s.Data = AppSession{Name: "visitor", Tags: []string{"y"}} }) // of nobody
		wantLabelled(t, s, "role:admin", idOf(a))
		wantLabelled(t, s, "role:user", idOf(b))
		wantLabelled(t, s, "tag:y", idOf(a), idOf(b), idOf(c))
		wantLabelled(t, s, "tag:z")
		wantLabelled(t, s, "tag:")
		for info := range s.mgr.Labelled(bg, "role:admin") {
			if info.Data.UserID != 42 || info.CreatedAt.IsZero() || info.ExpiresAt.Before(time.Now()) {
				t.Errorf("got %+v, want the session", info)
			}
		}
		// They follow the data, by a request, an Update and an Edit.
		a.do(func(s *session) { s.Data.Role, s.Data.Tags = "user", nil })
		b.do(func(s *session) { s.Update(func(d *AppSession) { d.Tags = []string{"z"} }) })
		if err := s.mgr.Edit(bg, idOf(c), func(d *AppSession) { d.Tags = append(d.Tags, "z") }); err != nil {
			t.Fatal(err)
		}
		wantLabelled(t, s, "role:admin")
		wantLabelled(t, s, "role:user", idOf(a), idOf(b))
		wantLabelled(t, s, "tag:y", idOf(c))
		wantLabelled(t, s, "tag:z", idOf(b), idOf(c))
		c.do((*session).Destroy)
		wantLabelled(t, s, "tag:z", idOf(b))
	})
}

func TestLabelsGoToTheNewID(t *testing.T) {
	for _, move := range moves {
		t.Run(move.name, func(t *testing.T) {
			eachLabelStore(t, func(t *testing.T, m mode) {
				s := newLabelledSite(t, m, nil)
				b := s.browser()
				b.do(func(s *session) { s.Data = AppSession{Role: "admin", Tags: []string{"x"}} })
				b.do(func(s *session) { move.move(s); s.Data.Role = "user" })
				wantLabelled(t, s, "role:admin")
				wantLabelled(t, s, "role:user", idOf(b))
			})
		})
	}
}

func TestRevokeLabelledEndsTheSessionsOfALabel(t *testing.T) {
	eachLabelStore(t, func(t *testing.T, m mode) {
		s := newLabelledSite(t, m, nil)
		var browsers []*browser
		for i, tag := range []string{"x", "x", "y", "x"} {
			b := s.browser()
			b.do(func(s *session) { s.Data = AppSession{UserID: 42 + i%3, Tags: []string{tag}} })
			browsers = append(browsers, b)
		}
		ids := []string{idOf(browsers[0]), idOf(browsers[1]), idOf(browsers[3])}
		if n, err := s.mgr.RevokeLabelled(bg, "tag:x", ids[1]); n != 2 || err != nil {
			t.Errorf("got %d, %v, want 2 ended", n, err)
		}
		wantLabelled(t, s, "tag:x", ids[1])
		wantLabelled(t, s, "tag:y", idOf(browsers[2]))
		wantUser(t, "who was spared", browsers[1], 43)
		wantUser(t, "of another label", browsers[2], 44)
		wantUser(t, "the first", browsers[0], 0)
		wantUser(t, "the last", browsers[3], 0)
		ended := map[string]string{}
		for _, e := range s.events.of(sessions.EventEnded) {
			if ended[e.ID] = e.Owner; e.Reason != sessions.ReasonRevoked {
				t.Errorf("got %v, want revoked", e)
			}
		}
		if want := map[string]string{ids[0]: "42", ids[2]: "42"}; !maps.Equal(ended, want) {
			t.Errorf("got the ends %v, want %v", ended, want)
		}
	})
}

func TestRevokeLabelledEndsNothingWhereNoSessionOfExceptLives(t *testing.T) {
	eachLabelStore(t, func(t *testing.T, m mode) {
		s := newLabelledSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data = AppSession{UserID: 42, Tags: []string{"x"}} })
		current := b.clone()
		id := idOf(b)
		if err := s.mgr.Revoke(bg, id); err != nil {
			t.Fatal(err)
		}
		other := s.browser()
		other.do(func(s *session) { s.Data = AppSession{UserID: 42, Tags: []string{"x"}} })
		if n, err := s.mgr.RevokeLabelled(bg, "tag:x", id); n != 0 || !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("got %d, %v, want ErrNotFound", n, err)
		}
		wantUser(t, "the other session", other, 42)
		wantUser(t, "the one that was revoked", current, 0)
		for _, id := range malformedIDs {
			if n, err := s.mgr.RevokeLabelled(bg, "tag:x", id); n != 0 || err == nil {
				t.Errorf("except %q: got %d, %v, want an error", id, n, err)
			}
		}
		wantUser(t, "the other session", other, 42)
	})
}

func TestLabelledNeedsAStoreThatCan(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		if m.hasStore() {
			if _, ok := m.store().(sessions.LabelStore); ok {
				return
			}
		}
		s := newOwnedSite(t, m, nil)
		var listErr error
		pairs := 0
		for _, err := range s.mgr.Labelled(bg, "x") {
			listErr = err
			pairs++
		}
		_, revokeErr := s.mgr.RevokeLabelled(bg, "x")
		if pairs != 1 || !errors.Is(listErr, errors.ErrUnsupported) || !errors.Is(revokeErr, errors.ErrUnsupported) {
			t.Errorf("got %v and %v, want ErrUnsupported", listErr, revokeErr)
		}
	})
	eachLabelStore(t, func(t *testing.T, m mode) {
		s := newLabelledSite(t, m, nil)
		var listErr error
		for _, err := range s.mgr.Labelled(bg, "") {
			listErr = err
		}
		_, revokeErr := s.mgr.RevokeLabelled(bg, "")
		if listErr == nil || revokeErr == nil || errors.Is(listErr, errors.ErrUnsupported) {
			t.Errorf("of the empty label: got %v and %v, want errors", listErr, revokeErr)
		}
	})
}

func TestASessionHasAtMostEightLabelsAndNoEmptyOne(t *testing.T) {
	tags := strings.Split("a b c d e f g h i", " ")
	for _, tt := range []struct {
		name   string
		change func(*AppSession)
		ok     bool
	}{
		{"eight", func(d *AppSession) { d.Tags = tags[:8] }, true},
		{"nine", func(d *AppSession) { d.Tags = tags }, false},
		{"seven and a role", func(d *AppSession) { d.Tags, d.Role = tags[:7], "user" }, true},
		{"eight and a role", func(d *AppSession) { d.Tags, d.Role = tags[:8], "user" }, false},
		{"an empty one", func(d *AppSession) { d.Extra = map[string]string{"label": ""} }, false},
		{"none", func(*AppSession) {}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachLabelStore(t, func(t *testing.T, m mode) {
				var failed error
				s := newLabelledSite(t, m, func(c *config) {
					c.Labels = func(d *AppSession) []string {
						labels := labelsOf(d)
						if label, ok := d.Extra["label"]; ok {
							labels = append(labels, label)
						}
						return labels
					}
					c.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
						failed = err
						w.WriteHeader(http.StatusInternalServerError)
					}
				})
				b := s.browser()
				b.do(func(s *session) { s.Data.UserID = 42 })
				for name, store := range map[string]func() error{
					"a request": func() error {
						failed = nil
						b.do(func(s *session) { s.Data.N = 1; tt.change(&s.Data) })
						return failed
					},
					"a Save": func() (err error) {
						b.do(func(s *session) { s.Data.N = 1; tt.change(&s.Data); err = s.Save(bg) })
						return err
					},
					"a new session": func() error {
						failed = nil
						s.browser().do(func(s *session) { s.Data.UserID = 43; tt.change(&s.Data) })
						return failed
					},
					"an Edit": func() error {
						return s.mgr.Edit(bg, idOf(b), func(d *AppSession) { d.N = 1; tt.change(d) })
					},
				} {
					if err := store(); (err == nil) != tt.ok || err != nil && !errors.Is(err, sessions.ErrInvalid) {
						t.Errorf("%s: got %v, want ok=%t or ErrInvalid", name, err, tt.ok)
					}
					if d, _ := b.peek(); !tt.ok && d.N != 0 {
						t.Errorf("%s: got %+v, want the stored state unchanged", name, d)
					}
				}
			})
		})
	}
}

func TestALabelThatIsGivenTwiceIsStoredOnce(t *testing.T) {
	eachLabelStore(t, func(t *testing.T, m mode) {
		s := newLabelledSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.Tags = []string{"y", "x", "y"} })
		wantLabels(t, s, b, "tag:x", "tag:y")
		wantLabelled(t, s, "tag:y", idOf(b))
	})
}

// Another program, which knows other fields, shares the store.
func TestLabelsOfAnotherProgramStayUntilANewAuthentication(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(s *site, b *browser)
		want []string
	}{
		{"a read", func(_ *site, b *browser) { b.do(func(s *session) { _ = s.Data }) }, []string{"device:1", "role:user"}},
		{"an edit", func(_ *site, b *browser) { b.do(func(s *session) { s.Data.N++ }) }, []string{"device:1", "role:user"}},
		{"an edit of a label", func(_ *site, b *browser) { b.do(func(s *session) { s.Data.Role = "admin" }) }, []string{"device:1", "role:admin"}},
		{"a label less", func(_ *site, b *browser) { b.do(func(s *session) { s.Data.Role = "" }) }, []string{"device:1"}},
		{"a message", func(_ *site, b *browser) { b.do(func(s *session) { s.Flash("info", "x") }) }, []string{"device:1", "role:user"}},
		{"an Edit", func(s *site, b *browser) {
			if err := s.mgr.Edit(bg, idOf(b), func(d *AppSession) { d.Tags = []string{"x"} }); err != nil {
				s.t.Error(err)
			}
		}, []string{"device:1", "role:user", "tag:x"}},
		{"a conflict", func(s *site, b *browser) {
			other := b.clone()
			overlap(b, func(s *session) { s.Data.Tags = []string{"x"} }, func() { other.do(func(s *session) { s.Data.Role = "admin" }) })
		}, []string{"device:1", "role:admin", "tag:x"}},
		{"RotateID", func(_ *site, b *browser) { b.do((*session).RotateID) }, []string{"device:1", "role:user"}},
		{"RegenerateID", func(_ *site, b *browser) { b.do((*session).RegenerateID) }, []string{"role:user"}},
		{"another owner", func(_ *site, b *browser) { b.do(func(s *session) { s.Data.UserID = 43 }) }, []string{"role:user"}},
		{"another owner and RotateID", func(_ *site, b *browser) { b.do(func(s *session) { s.RotateID(); s.Data.UserID = 43 }) }, []string{"role:user"}},
		{"Reset", func(_ *site, b *browser) { b.do(func(s *session) { s.Reset(); s.Data.Role = "user" }) }, []string{"role:user"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachLabelStore(t, func(t *testing.T, m mode) {
				s := newLabelledSite(t, m, nil)
				another := newOwnedSite(t, m, func(c *config) {
					c.Store = s.store.asStore()
					c.Labels = func(d *AppSession) []string { return append(labelsOf(d), "device:1") }
				})
				b := another.browser()
				b.do(func(s *session) { s.Data = AppSession{UserID: 42, Role: "user"} })
				b.s = s
				wantLabels(t, s, b, "device:1", "role:user")
				tt.do(s, b)
				wantLabels(t, s, b, tt.want...)
			})
		})
	}
}

func TestAProgramWithoutOwnerOrLabelsWritesBackWhatTheRecordHas(t *testing.T) {
	for _, tt := range []struct {
		name   string
		do     func(*session)
		labels []string
	}{
		{"an edit", func(s *session) { s.Data.N++ }, []string{"role:user"}},
		{"an edit of what both depend on", func(s *session) { s.Data.UserID, s.Data.Role = 43, "admin" }, []string{"role:user"}},
		{"a message", func(s *session) { s.Flash("info", "x") }, []string{"role:user"}},
		{"RotateID", func(s *session) { s.RotateID(); s.Data.N++ }, []string{"role:user"}},
		{"RegenerateID", func(s *session) { s.RegenerateID(); s.Data.N++ }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachLabelStore(t, func(t *testing.T, m mode) {
				s := newLabelledSite(t, m, nil)
				plain := newSite(t, m, func(c *config) { c.Store = s.store.asStore() })
				b := s.browser()
				b.do(func(s *session) { s.Data = AppSession{UserID: 42, Role: "user"} })
				b.s = plain
				b.do(tt.do)
				wantLabels(t, s, b, tt.labels...)
				for _, id := range s.store.live() {
					if rec, err := s.store.Store.Load(bg, id); err != nil || rec.Owner != "42" {
						t.Errorf("got the owner %q, %v, want 42", rec.Owner, err)
					}
				}
			})
		})
	}
}

// An index may lag, or list what somebody has written into the store.
func TestLabelledChecksTheRecord(t *testing.T) {
	for _, m := range indexModes {
		index := m.store().(*indexStore)
		m.store = func() sessions.Store { return index }
		s := newLabelledSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data = AppSession{UserID: 42, Role: "user"} })
		index.lags = append(s.store.live(), sessions.ID{1}) // for every label, one of them is gone
		wantLabelled(t, s, "role:admin")
		wantLabelled(t, s, "role:user", idOf(b))
		if n, err := s.mgr.RevokeLabelled(bg, "role:admin"); n != 0 || err != nil {
			t.Errorf("RevokeLabelled: got %d, %v, want none", n, err)
		}
		wantUser(t, "of another label", b, 42)
		if n, err := s.mgr.RevokeLabelled(bg, "role:user"); n != 1 || err != nil {
			t.Errorf("RevokeLabelled: got %d, %v, want 1", n, err)
		}
	}
}

func TestLabelsThatPanicAreAnError(t *testing.T) {
	eachLabelStore(t, func(t *testing.T, m mode) {
		broken := false
		s := newLabelledSite(t, m, func(c *config) {
			c.Labels = func(*AppSession) []string {
				if broken {
					panic("Labels is broken")
				}
				return []string{"x"}
			}
		})
		b, id := signIn(s, 42)
		broken = true
		if res := b.do(func(s *session) { s.Data.N++ }); res.StatusCode != http.StatusInternalServerError {
			t.Errorf("got %d, want 500", res.StatusCode)
		}
		if err := s.mgr.Edit(bg, id, func(d *AppSession) { d.N++ }); err == nil {
			t.Error("Edit: got no error")
		}
		if d, _ := b.peek(); d.UserID != 42 || d.N != 0 {
			t.Errorf("got %+v, want the stored state", d)
		}
		b.do(func(s *session) { s.Data.N++; s.Destroy() })
		if n := len(s.store.live()); n != 0 || b.cookie() != "" {
			t.Errorf("got %d records, want the session destroyed", n)
		}
	})
}

func TestATombstoneHasNoLabels(t *testing.T) {
	eachLabelStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newLabelledSite(t, m, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data = AppSession{UserID: 42, Role: "user"} })
			b.do((*session).RotateID)
			for label, listing := range map[string]iter.Seq2[sessions.ID, error]{
				"owner": s.store.Store.(sessions.LabelStore).Owned(bg, "42"), "label": s.store.Store.(sessions.LabelStore).Labelled(bg, "role:user"),
			} {
				for id := range listing {
					if id.String() != idOf(b) {
						t.Errorf("the index of the %s lists %v, a tombstone", label, id)
					}
				}
			}
			if n, err := s.mgr.RevokeLabelled(bg, "role:user"); n != 1 || err != nil {
				t.Errorf("RevokeLabelled: got %d, %v, want 1", n, err)
			}
			wantUser(t, "under the new id", b, 0)
			if n := len(s.events.of(sessions.EventEnded)); n != 1 {
				t.Errorf("got %d ends, want 1", n)
			}
		})
	})
}

func TestListingByLabelGoesOnPastWhatCannotBeRead(t *testing.T) {
	eachLabelStore(t, func(t *testing.T, m mode) {
		s := newLabelledSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data = AppSession{UserID: 42, Role: "user"} })
		bad := sessions.ID{7}
		rec := sessions.Record{Data: []byte{0xff, 1, 2}, Expires: time.Now().Add(time.Hour), Labels: []string{"role:user"}}
		if _, err := s.store.Store.Create(bg, bad, rec); err != nil {
			t.Fatal(err)
		}
		found := map[string]error{}
		for info, err := range s.mgr.Labelled(bg, "role:user") {
			found[info.ID] = err
		}
		if err := found[idOf(b)]; len(found) != 2 || err != nil || found[bad.String()] == nil {
			t.Errorf("got %v, want the session, and an error with the id of the other", found)
		}
		if n, err := s.mgr.RevokeLabelled(bg, "role:user"); n != 2 || err != nil {
			t.Errorf("RevokeLabelled: got %d, %v, want both", n, err)
		}
		if _, err := s.mgr.Find(bg, bad.String()); !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("Find: got %v, want ErrNotFound: it was revoked", err)
		}
	})
}
