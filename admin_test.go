package sessions_test

import (
	"context"
	"errors"
	"fmt"
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

// newOwnedSite makes a site whose sessions have their users as owners, unless
// they are in a store without an index.
func newOwnedSite(t testing.TB, m mode, change func(*config)) *site {
	t.Helper()
	return newSite(t, m, func(cfg *config) {
		if _, ok := cfg.Store.(sessions.OwnerStore); ok || cfg.Store == nil {
			cfg.Owner = ownerOfUser
		}
		if change != nil {
			change(cfg)
		}
	})
}

// eachOwnerStore runs f in the modes that can list by owner.
func eachOwnerStore(t *testing.T, f func(t *testing.T, m mode)) {
	for _, m := range modes {
		if m.hasStore() {
			if _, ok := m.store().(sessions.OwnerStore); ok {
				t.Run(m.name, func(t *testing.T) { f(t, m) })
			}
		}
	}
}

// eachOwnedMode runs f in the modes in which sessions can have owners.
func eachOwnedMode(t *testing.T, f func(t *testing.T, m mode)) {
	for _, m := range modes {
		if m.hasStore() {
			if _, ok := m.store().(sessions.OwnerStore); !ok {
				continue
			}
		}
		t.Run(m.name, func(t *testing.T) { f(t, m) })
	}
}

// signIn starts a session of the user and returns its browser and public id.
func signIn(s *site, user int) (b *browser, id string) {
	s.t.Helper()
	b = s.browser()
	b.do(func(s *session) {
		s.Data.UserID = user
		id = s.ID()
	})
	return b, id
}

func wantListed(t testing.TB, s *site, owner string, want ...string) {
	t.Helper()
	got := slices.Sorted(maps.Keys(listed(s, owner)))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("sessions of %q: got %v, want %v", owner, got, want)
	}
}

// wantUser checks whose session a browser is in, 0: none.
func wantUser(t testing.TB, what string, b *browser, want int) {
	t.Helper()
	if d, reason := b.peek(); d.UserID != want || want == 0 && reason == sessions.ReasonNone {
		t.Errorf("%s: got user %d, %q, want user %d", what, d.UserID, reason, want)
	}
}

var malformedIDs = []string{
	"", "x", "self", strings.Repeat("0", 63), strings.Repeat("0", 65), strings.Repeat("g", 64), strings.Repeat("A", 64),
	" " + strings.Repeat("0", 64), "0x" + strings.Repeat("0", 62), strings.Repeat("0", 63) + "\n", strings.Repeat("é", 32), strings.Repeat("0", 32),
}

func TestAdminNeedsAStoreThatCan(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		_, id := signIn(s, 42)
		_, isOwnerStore := any(nil).(sessions.OwnerStore)
		if m.hasStore() {
			_, isOwnerStore = m.store().(sessions.OwnerStore)
		}
		pairs, listErr := 0, error(nil)
		for _, err := range s.mgr.Sessions(bg, "42") {
			pairs++
			listErr = err
		}
		n, revokeErr := s.mgr.RevokeOwner(bg, "43")
		for _, got := range []struct {
			what    string
			err     error
			allowed bool
		}{
			{"Sessions", listErr, isOwnerStore},
			{"RevokeOwner", revokeErr, isOwnerStore},
			{"Edit", s.mgr.Edit(bg, id, func(d *AppSession) { d.N = 1 }), m.hasStore()},
			{"Revoke", s.mgr.Revoke(bg, id), m.hasStore()},
		} {
			if got.allowed && got.err != nil {
				t.Errorf("%s: %v", got.what, got.err)
			}
			if !got.allowed && !errors.Is(got.err, errors.ErrUnsupported) {
				t.Errorf("%s: got %v, want errors.ErrUnsupported", got.what, got.err)
			}
		}
		if pairs != 1 {
			t.Errorf("Sessions yields %d pairs, want the session or the error", pairs)
		}
		if n != 0 {
			t.Errorf("RevokeOwner: got %d sessions, want none", n)
		}
	})
}

func TestWithoutAnOwnerNothingIsListedOrRevokedInSilence(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		signIn(s, 42)
		if _, err := s.mgr.RevokeOwner(bg, "42"); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "Config.Owner") {
			t.Errorf("RevokeOwner: got %v, want an error that names Config.Owner", err)
		}
		for _, err := range s.mgr.Sessions(bg, "42") {
			if !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("Sessions: got %v, want errors.ErrUnsupported", err)
			}
		}
	})
}

func TestIDThatIsNoneIsAnErrorAndEndsNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b, id := signIn(s, 42)
		s.store.resetCounts()
		refused := func(what string, err error) {
			t.Helper()
			if err == nil || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("%s: got %v, want an error that says what an id is", what, err)
			}
		}
		for _, bad := range append([]string{b.cookie()}, malformedIDs...) {
			err := s.mgr.Revoke(bg, bad)
			refused(fmt.Sprintf("Revoke(%q)", bad), err)
			if len(bad) > 32 && err != nil && strings.Contains(err.Error(), bad) {
				t.Errorf("the error shows what may be a cookie: %v", err)
			}
			refused(fmt.Sprintf("Edit(%q)", bad), s.mgr.Edit(bg, bad, func(*AppSession) { t.Error("Edit runs its function") }))
			if _, ok := m.store().(sessions.OwnerStore); !ok {
				continue
			}
			for _, except := range [][]string{{bad}, {id, bad}, {bad, id}, {storeID(1).String(), bad}} {
				n, err := s.mgr.RevokeOwner(bg, "42", except...)
				refused(fmt.Sprintf("RevokeOwner with %q in except", bad), err)
				if n != 0 {
					t.Errorf("RevokeOwner with %q in except: got %d ended, want none", bad, n)
				}
			}
		}
		if n := s.store.count("Delete") + s.store.count("Update") + s.store.count("Load"); n > 0 {
			t.Errorf("got %d operations of the store, want none", n)
		}
		wantUser(t, "after all of it", b, 42)
	})
}

func TestIDThatIsGone(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b, id := signIn(s, 42)
		_, revoked := signIn(s, 42)
		if err := s.mgr.Revoke(bg, revoked); err != nil {
			t.Fatal(err)
		}
		for what, gone := range map[string]string{"never was": storeID(1).String(), "revoked": revoked} {
			if err := s.mgr.Revoke(bg, gone); err != nil {
				t.Errorf("Revoke of one that is %s: got %v, want nil", what, err)
			}
			if err := s.mgr.Edit(bg, gone, func(*AppSession) { t.Error("Edit runs its function") }); !errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("Edit of one that is %s: got %v, want ErrNotFound", what, err)
			}
			if _, ok := m.store().(sessions.OwnerStore); ok {
				if n, err := s.mgr.RevokeOwner(bg, "42", gone, id); n != 0 || err != nil {
					t.Errorf("RevokeOwner except one that is %s: got %d, %v, want none ended", what, n, err)
				}
			}
		}
		if s.store.count("Create") != 2 || len(s.store.live()) != 1 {
			t.Error("a session that was gone is back")
		}
		wantUser(t, "the other one", b, 42)
	})
}

func TestRevokeEndsOneSession(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b, id := signIn(s, 42)
		other, _ := signIn(s, 42)
		if err := s.mgr.Revoke(bg, id); err != nil {
			t.Fatal(err)
		}
		if d, reason := b.peek(); d.UserID != 0 || reason != sessions.ReasonUnknown {
			t.Errorf("got user %d, %q, want an unknown session", d.UserID, reason)
		}
		wantUser(t, "the other one", other, 42)
		if n := len(s.store.live()); n != 1 {
			t.Errorf("got %d records, want 1", n)
		}
	})
}

func TestSessionsListsTheLiveOnesOfTheOwner(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, nil)
			laptop, laptopID := signIn(s, 42)
			phone, phoneID := signIn(s, 42)
			_, otherID := signIn(s, 43)
			s.browser().do(func(s *session) { s.Flash("info", "nobody's") })
			wantListed(t, s, "42", laptopID, phoneID)
			wantListed(t, s, "43", otherID)
			wantListed(t, s, "4")
			wantListed(t, s, "nobody")

			laptop.do(func(s *session) { s.Data.Name, s.Data.Cart = "laptop", map[string]int{"tea": 2} })
			if info := listed(s, "42")[laptopID]; info.Data.Name != "laptop" || info.Data.UserID != 42 || info.Data.Cart["tea"] != 2 {
				t.Errorf("got %+v, want what the session holds", info.Data)
			}

			phone.do(func(s *session) { s.RegenerateID(); phoneID = s.ID() })
			wantListed(t, s, "42", laptopID, phoneID)
			laptop.do((*session).Destroy)
			wantListed(t, s, "42", phoneID)
			time.Sleep(24 * time.Hour)
			wantListed(t, s, "42")
			wantListed(t, s, "43")
		})
	})
}

func TestAnInfoIsACopy(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b, id := signIn(s, 42)
		b.do(func(s *session) { s.Data.Cart = map[string]int{"tea": 2} })
		listed(s, "42")[id].Data.Cart["tea"] = 100
		if d, _ := b.peek(); d.Cart["tea"] != 2 {
			t.Errorf("got %d in the session, want the 2 that were stored", d.Cart["tea"])
		}
	})
}

func TestListingFollowsTheOwner(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b := s.browser()
		var id string
		b.do(func(s *session) { s.Data.Name = "visitor" })
		for _, user := range []int{42, 43, 0, 42} {
			b.do(func(s *session) { s.Data.UserID = user })
			b.do(func(s *session) { id = s.ID() }) // each owner has one of their own
			for _, owner := range []int{42, 43} {
				if owner == user {
					wantListed(t, s, fmt.Sprint(owner), id)
				} else {
					wantListed(t, s, fmt.Sprint(owner))
				}
			}
		}
		if err := s.mgr.Edit(bg, id, func(d *AppSession) { d.UserID = 43 }); !errors.Is(err, sessions.ErrInvalid) {
			t.Errorf("Edit that changes the owner: got %v, want ErrInvalid", err)
		}
		wantListed(t, s, "42", id)
		wantListed(t, s, "43")
	})
}

func TestOwnersMayBeAnyText(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, func(cfg *config) { cfg.Owner = func(d *AppSession) string { return d.Name } })
		ids := map[string]string{}
		for _, owner := range oddOwners {
			s.browser().do(func(s *session) { s.Data.Name, ids[owner] = owner, s.ID() })
		}
		for _, owner := range oddOwners {
			wantListed(t, s, owner, ids[owner])
		}
		for _, owner := range oddOwners {
			if n, err := s.mgr.RevokeOwner(bg, owner); n != 1 || err != nil {
				t.Errorf("RevokeOwner(%q): got %d, %v, want the one that there is", owner, n, err)
			}
		}
	})
}

func TestListedTimes(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			const idle = 30 * time.Minute
			s := newOwnedSite(t, m, func(cfg *config) { cfg.IdleTimeout = idle })
			time.Sleep(123 * time.Millisecond)
			begun := time.Now().Truncate(time.Second)
			b, id := signIn(s, 42)
			check := func(what string, lastUse time.Time, created, expires time.Time) {
				t.Helper()
				info := listed(s, "42")[id]
				if !info.CreatedAt.Equal(created) {
					t.Errorf("%s: created at %v, want %v", what, info.CreatedAt, created)
				}
				if !info.ExpiresAt.Equal(expires) {
					t.Errorf("%s: expires at %v, want %v", what, info.ExpiresAt, expires)
				}
				if late := lastUse.Sub(info.LastUsedAt); late < 0 || late > idle/10 {
					t.Errorf("%s: last used at %v, want %v or up to %v before", what, info.LastUsedAt, lastUse, idle/10)
				}
			}
			end := begun.Add(24*time.Hour + time.Second) // rounded up
			check("new", time.Now(), begun, end)
			for range 100 {
				time.Sleep(47 * time.Second)
				b.do(func(s *session) { _ = s.Data })
				check("read", time.Now(), begun, end)
			}
			last := time.Now()
			time.Sleep(20 * time.Minute)
			b.serve(func(http.ResponseWriter, *http.Request) {})
			listed(s, "42")
			check("not asked for, only listed", last, begun, end)
			b.do(func(s *session) { s.Data.N++ })
			check("written", time.Now(), begun, end)

			time.Sleep(10*time.Minute + 300*time.Millisecond)
			b.do(func(s *session) { s.RegenerateID(); id = s.ID() })
			begun = time.Now().Truncate(time.Second)
			check("regenerated", time.Now(), begun, begun.Add(24*time.Hour+time.Second))
			b.do(func(s *session) { s.SetLifetime(72 * time.Hour) })
			check("prolonged", time.Now(), begun, begun.Add(72*time.Hour+time.Second))
			b.do(func(s *session) {
				if !s.CreatedAt().Equal(begun) || !s.ExpiresAt().Equal(begun.Add(72*time.Hour+time.Second)) {
					t.Errorf("the session says %v to %v, the list %v to %v", s.CreatedAt(), s.ExpiresAt(), begun, begun.Add(72*time.Hour+time.Second))
				}
			})
		})
	})
}

// What a store keeps of a use is the expiry; where that stands at the absolute
// end, nothing is left of it. What is listed then is too early, never too late.
func TestLastUseIsNeverListedTooLate(t *testing.T) {
	for _, idle := range []time.Duration{0, time.Hour, 24 * time.Hour} {
		t.Run(fmt.Sprintf("IdleTimeout %v", idle), func(t *testing.T) {
			eachOwnerStore(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newOwnedSite(t, m, func(cfg *config) { cfg.IdleTimeout = idle })
					b, id := signIn(s, 42)
					written := time.Now()
					for range 143 { // to 10 minutes before the end
						time.Sleep(10 * time.Minute)
						b.do(func(s *session) { _ = s.Data })
						used := listed(s, "42")[id].LastUsedAt
						if used.After(time.Now()) || used.Before(written) {
							t.Fatalf("last used at %v, want at most %v, and at least %v", used, time.Now(), written)
						}
						if end := written.Add(24 * time.Hour); idle > 0 && time.Now().Add(idle).Before(end) && time.Since(used) > idle/10 {
							t.Fatalf("last used at %v, want up to %v before %v", used, idle/10, time.Now())
						}
					}
				})
			})
		})
	}
}

func TestSessionsGoesOnAfterOneThatCannotBeRead(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		_, id := signIn(s, 42)
		newer, err := sessions.New(config{Keys: newKeys(t), Encrypt: m.encrypt, Store: s.store.asStore(), Owner: ownerOfUser, Version: 2, Upgrades: []sessions.Upgrade{
			sessions.From(0, func(old AppSession) (AppSession, error) { return old, nil }),
			sessions.From(1, func(old AppSession) (AppSession, error) { return old, nil }),
		}})
		if err != nil {
			t.Fatal(err)
		}
		var newerID string
		visitor(newer.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s := sessions.Get[AppSession](r.Context())
			s.Data.UserID, newerID = 42, s.ID()
		})))("/")
		garbage := storeID(1)
		if _, err := s.store.Create(bg, garbage, recordFor(time.Hour, "garbage", "42")); err != nil {
			t.Fatal(err)
		}

		read, failed := 0, map[string]error{}
		for info, err := range s.mgr.Sessions(bg, "42") {
			if err == nil {
				read++
				continue
			}
			if info.ID == "" || info.Data.UserID != 0 || !info.CreatedAt.IsZero() {
				t.Errorf("got an Info of %q with data or times, want the id alone", info.ID)
			}
			failed[info.ID] = err
		}
		if read != 1 || len(failed) != 2 || failed[newerID] == nil || failed[garbage.String()] == nil {
			t.Errorf("got %d sessions and the errors %v, want one and two", read, failed)
		}
		for _, bad := range []string{newerID, garbage.String()} {
			if err := s.mgr.Edit(bg, bad, func(*AppSession) { t.Error("Edit runs its function") }); err == nil || errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("Edit of one that cannot be read: got %v, want an error that says so", err)
			}
		}
		if n := len(s.store.live()); n != 3 {
			t.Errorf("got %d records, want all 3 left alone", n)
		}
		if n, err := s.mgr.RevokeOwner(bg, "42", id); n != 2 || err != nil {
			t.Errorf("RevokeOwner: got %d, %v, want the two that cannot be read ended too", n, err)
		}
	})
}

func TestSessionsEndsWithAnErrorOfTheStore(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		for range 5 {
			signIn(s, 42)
		}
		broken := errors.New("the network is down")
		loads := 0
		s.store.hook(func(op string, _ sessions.ID) error {
			if op == "Load" {
				if loads++; loads > 2 {
					return broken
				}
			}
			return nil
		}, nil)
		read, failed := 0, 0
		for _, err := range s.mgr.Sessions(bg, "42") {
			if err == nil {
				read++
			} else if failed++; !errors.Is(err, broken) {
				t.Errorf("got %v, want the store's error", err)
			}
		}
		if read != 2 || failed != 1 {
			t.Errorf("got %d sessions and %d errors, want 2 and then one", read, failed)
		}

		s.store.hook(nil, nil)
		n := 0
		for range s.mgr.Sessions(bg, "42") {
			if n++; n == 2 {
				break
			}
		}
		ctx, cancel := context.WithCancel(bg)
		cancel()
		err := error(nil)
		for _, err = range s.mgr.Sessions(ctx, "42") {
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("with a cancelled context: got %v, want context.Canceled", err)
		}
	})
}

// A laggingStore has an index that is behind: it lists, for every owner, ids
// that are gone, and those that extra names.
type laggingStore struct {
	sessions.OwnerStore
	extra []sessions.ID
}

func (l *laggingStore) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		for _, id := range append([]sessions.ID{storeID(1)}, l.extra...) {
			if !yield(id, nil) {
				return
			}
		}
		l.OwnerStore.Owned(ctx, owner)(yield)
	}
}

func TestIndexThatLagsIsCheckedAgainstTheRecords(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted %t", encrypt), func(t *testing.T) {
			lagging := &laggingStore{OwnerStore: new(sessions.MemoryStore)}
			s := newOwnedSite(t, mode{"lagging", func() sessions.Store { return lagging }, encrypt}, nil)
			ada, adaID := signIn(s, 42)
			bob, bobID := signIn(s, 43)
			nobody := s.browser()
			nobody.do(func(s *session) { s.Data.Name = "visitor" })
			_, gone := signIn(s, 42)
			if err := s.mgr.Revoke(bg, gone); err != nil {
				t.Fatal(err)
			}
			lagging.extra = s.store.created // of all owners, and the one that is gone

			got := []string{}
			for info, err := range s.mgr.Sessions(bg, "42") {
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Contains(got, info.ID) {
					got = append(got, info.ID)
				}
			}
			if !slices.Equal(got, []string{adaID}) {
				t.Errorf("got %v, want %s alone", got, adaID)
			}
			if n, err := s.mgr.RevokeOwner(bg, "42"); n != 1 || err != nil {
				t.Errorf("RevokeOwner: got %d, %v, want 1 ended", n, err)
			}
			wantUser(t, "ada", ada, 0)
			wantUser(t, "bob", bob, 43)
			wantListed(t, s, "42")
			if d, _ := nobody.peek(); d.Name != "visitor" {
				t.Error("the session without an owner is gone")
			}
			if err := s.mgr.Edit(bg, bobID, func(d *AppSession) { d.N++ }); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRevokeOwnerBesideParallelSignIns(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		var early []*browser
		for range 20 {
			b, _ := signIn(s, 42)
			early = append(early, b)
		}
		counts := make(chan int, 4)
		parallel(8, func(i int) {
			if i%2 == 0 {
				for range 10 {
					signIn(s, 42)
				}
				return
			}
			n, err := s.mgr.RevokeOwner(bg, "42")
			if err != nil {
				t.Error(err)
			}
			counts <- n
		})
		close(counts)
		total := 0
		for n := range counts {
			total += n
		}
		for _, b := range early {
			wantUser(t, "who signed in before", b, 0)
		}
		if left := len(listed(s, "42")); total+left != 60 {
			t.Errorf("%d sessions were ended and %d are left, want 60 together: each is counted once", total, left)
		}
	})
}

func TestRevokeOwnerKeepsWhatExceptNames(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b1, id1 := signIn(s, 42)
		b2, id2 := signIn(s, 42)
		b3, _ := signIn(s, 42)
		other, otherID := signIn(s, 43)
		for _, tt := range []struct {
			except []string
			ended  int
		}{{[]string{id1, otherID, id2, id1}, 1}, {[]string{id1, id2}, 0}, {[]string{id1}, 1}, {nil, 1}, {nil, 0}} {
			if n, err := s.mgr.RevokeOwner(bg, "42", tt.except...); n != tt.ended || err != nil {
				t.Errorf("except %d sessions: got %d, %v, want %d ended", len(tt.except), n, err, tt.ended)
			}
			for _, b := range []*browser{b1, b2} {
				want := 0
				if id := map[*browser]string{b1: id1, b2: id2}[b]; slices.Contains(tt.except, id) {
					want = 42
				}
				wantUser(t, fmt.Sprintf("except %d sessions", len(tt.except)), b, want)
			}
			wantUser(t, "the one that is never spared", b3, 0)
			wantUser(t, "somebody else", other, 43)
		}
	})
}

// The one who changes his password keeps his session, which ID names also when
// it is the new one already.
func TestRevokeOwnerInTheRequestThatKeepsItsSession(t *testing.T) {
	for _, first := range []bool{false, true} {
		t.Run(fmt.Sprintf("RegenerateID before it %t", first), func(t *testing.T) {
			eachOwnerStore(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, nil)
				b, _ := signIn(s, 42)
				other, _ := signIn(s, 42)
				res := b.serve(func(_ http.ResponseWriter, r *http.Request) {
					sess := sessions.Get[AppSession](r.Context())
					if first {
						sess.RegenerateID()
					}
					if n, err := s.mgr.RevokeOwner(r.Context(), "42", sess.ID()); n != 1 || err != nil {
						t.Errorf("got %d, %v, want 1 ended", n, err)
					}
					if !first {
						sess.RegenerateID()
					}
					sess.Flash("info", "Your password is changed")
				})
				if res.StatusCode != http.StatusOK {
					t.Errorf("got status %d, want 200", res.StatusCode)
				}
				wantUser(t, "the current session", b, 42)
				wantUser(t, "the other session", other, 0)
				wantMessages(t, "in the current session", takeFlashes(b), "Your password is changed")
			})
		})
	}
}

func TestRevokeOwnerSaysHowManyItEndedBeforeTheStoreFailed(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		for range 5 {
			signIn(s, 42)
		}
		broken := errors.New("the network is down")
		deletes := 0
		s.store.hook(func(op string, _ sessions.ID) error {
			if op == "Delete" {
				if deletes++; deletes > 2 {
					return broken
				}
			}
			return nil
		}, nil)
		if n, err := s.mgr.RevokeOwner(bg, "42"); n != 2 || !errors.Is(err, broken) {
			t.Errorf("got %d, %v, want 2 and the store's error", n, err)
		}
		_, id := signIn(s, 42)
		if err := s.mgr.Revoke(bg, id); !errors.Is(err, broken) {
			t.Errorf("Revoke: got %v, want the store's error", err)
		}
		s.store.hook(nil, nil)
		if n, err := s.mgr.RevokeOwner(bg, "42"); n != 4 || err != nil {
			t.Errorf("got %d, %v, want the 4 that were left", n, err)
		}
		ctx, cancel := context.WithCancel(bg)
		cancel()
		b, id := signIn(s, 42)
		if _, err := s.mgr.RevokeOwner(ctx, "42"); !errors.Is(err, context.Canceled) {
			t.Errorf("RevokeOwner with a cancelled context: got %v", err)
		}
		if err := s.mgr.Revoke(ctx, id); !errors.Is(err, context.Canceled) {
			t.Errorf("Revoke with a cancelled context: got %v", err)
		}
		wantUser(t, "after the cancelled ones", b, 42)
	})
}

func TestEditChangesTheLiveSession(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, nil)
			b, id := signIn(s, 42)
			b.do(func(s *session) {
				s.Data.Role, s.Data.Cart = "admin", map[string]int{"tea": 2}
				s.SetLifetime(72 * time.Hour)
				s.Flash("info", "waiting")
			})
			begun, cookie := time.Now(), b.cookie()
			time.Sleep(time.Hour)
			runs := 0
			err := s.mgr.Edit(bg, id, func(d *AppSession) {
				if runs++; d.UserID != 42 || d.Role != "admin" || d.Cart["tea"] != 2 {
					t.Errorf("got %+v, want what the session holds", *d)
				}
				d.Role = "user"
				d.Cart["milk"] = 1
			})
			if err != nil || runs != 1 {
				t.Fatalf("got %v after %d runs, want nil after one", err, runs)
			}
			res := b.do(func(s *session) {
				if d := s.Data; d.Role != "user" || d.Cart["milk"] != 1 || d.Cart["tea"] != 2 || d.UserID != 42 {
					t.Errorf("got %+v, want it edited", d)
				}
				if s.ID() != id || s.IsNew() || !s.CreatedAt().Equal(begun) || !s.ExpiresAt().Equal(begun.Add(72*time.Hour)) {
					t.Errorf("got id %s from %v to %v, want the same session as before", s.ID(), s.CreatedAt(), s.ExpiresAt())
				}
				wantMessages(t, "waiting", s.Flashes(), "waiting")
			})
			if b.cookie() != cookie || len(res.setCookies()) > 0 {
				t.Error("the cookie has changed")
			}
			b.do((*session).RegenerateID)
			b.do(func(s *session) {
				if want := time.Now().Add(72 * time.Hour); !s.ExpiresAt().Equal(want) {
					t.Errorf("expires at %v after RegenerateID, want %v: Edit forgot what SetLifetime gave", s.ExpiresAt(), want)
				}
			})
		})
	})
}

func TestParallelEditsAllCount(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b, id := signIn(s, 42)
		parallel(30, func(i int) {
			if i%2 == 0 {
				b.clone().do(func(s *session) { s.Update(func(d *AppSession) { d.N++ }) })
			} else if err := s.mgr.Edit(bg, id, func(d *AppSession) { d.N++ }); err != nil {
				t.Error(err)
			}
		})
		if d, _ := b.peek(); d.N != 30 {
			t.Errorf("got N=%d, want 30", d.N)
		}
	})
}

func TestEditThatNeverGetsThroughEndsWithItsTime(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, nil)
			b, id := signIn(s, 42)
			s.store.hook(func(op string, _ sessions.ID) error {
				if op == "Update" {
					return sessions.ErrConflict
				}
				return nil
			}, nil)
			began := time.Now()
			err := s.mgr.Edit(bg, id, func(d *AppSession) { d.N++ })
			if !errors.Is(err, sessions.ErrConflict) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want ErrConflict and context.DeadlineExceeded", err)
			}
			if took := time.Since(began); took != 5*time.Second {
				t.Errorf("took %v, want 5s", took)
			}
			wantUser(t, "afterwards", b, 42)
		})
	})
}

func TestEditCountsAsAUse(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*AppSession)
	}{
		{"that changes something", func(d *AppSession) { d.N++ }},
		{"that changes nothing", func(*AppSession) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				synctest.Test(t, func(t *testing.T) {
					s := newOwnedSite(t, m, func(cfg *config) { cfg.IdleTimeout = 30 * time.Minute })
					b, id := signIn(s, 42)
					for range 3 {
						time.Sleep(29 * time.Minute)
						if err := s.mgr.Edit(bg, id, tt.edit); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(29 * time.Minute)
					wantUser(t, "29 minutes after the last Edit", b, 42)
					time.Sleep(31 * time.Minute)
					if err := s.mgr.Edit(bg, id, tt.edit); !errors.Is(err, sessions.ErrNotFound) {
						t.Errorf("Edit of an idle session: got %v, want ErrNotFound", err)
					}
					wantUser(t, "31 minutes after the last use", b, 0)
				})
			})
		})
	}
}

func TestEditDoesNotProlongTheLifetime(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := newOwnedSite(t, m, func(cfg *config) { cfg.IdleTimeout = 2 * time.Hour })
			b, id := signIn(s, 42)
			for range 23 {
				time.Sleep(time.Hour)
				if err := s.mgr.Edit(bg, id, func(d *AppSession) { d.N++ }); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Hour)
			wantUser(t, "after 24 hours", b, 0)
			if err := s.mgr.Edit(bg, id, func(d *AppSession) { d.N++ }); !errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("Edit of an expired session: got %v, want ErrNotFound", err)
			}
		})
	})
}

func TestEditThatFailsLeavesTheRecordAlone(t *testing.T) {
	broken := errors.New("the disk is full")
	own := errors.New("a rule of the application")
	for _, tt := range []struct {
		name string
		edit func(*AppSession)
		want error
	}{
		{"by a tag", func(d *AppSession) { d.UserID = -1 }, sessions.ErrInvalid},
		{"by another tag", func(d *AppSession) { d.Role = "secret-role" }, sessions.ErrInvalid},
		{"by Config.Validate", func(d *AppSession) { d.N = 13 }, own},
		{"by the store", func(d *AppSession) { d.Name = "store" }, broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, m mode) {
				s := newOwnedSite(t, m, func(cfg *config) {
					cfg.Validate = func(d *AppSession) error {
						if d.N == 13 {
							return own
						}
						return nil
					}
				})
				b, id := signIn(s, 42)
				at := s.store.live()[0]
				before, err := s.store.Load(bg, at)
				if err != nil {
					t.Fatal(err)
				}
				if tt.want == broken {
					s.store.hook(func(op string, _ sessions.ID) error {
						if op == "Update" {
							return broken
						}
						return nil
					}, nil)
				}
				err = s.mgr.Edit(bg, id, tt.edit)
				if !errors.Is(err, tt.want) || tt.want == own && !errors.Is(err, sessions.ErrInvalid) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if err != nil && (strings.Contains(err.Error(), "secret-role") || !strings.HasPrefix(err.Error(), "sessions: ")) {
					t.Errorf("got %q, want it prefixed and without the value", err)
				}
				after, err := s.store.Load(bg, at)
				if err != nil || after.Version != before.Version || string(after.Data) != string(before.Data) || !after.Expires.Equal(before.Expires) {
					t.Errorf("the record has changed (%v)", err)
				}
				wantUser(t, "afterwards", b, 42)
			})
		})
	}
}

func TestEditWhoseFunctionPanicsLeavesTheRecordAlone(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b, id := signIn(s, 42)
		func() {
			defer func() {
				if p := recover(); p != "the function's own" {
					t.Errorf("got panic %v, want the function's own", p)
				}
			}()
			_ = s.mgr.Edit(bg, id, func(d *AppSession) {
				d.UserID = 43
				panic("the function's own")
			})
		}()
		wantUser(t, "afterwards", b, 42)
		if err := s.mgr.Edit(bg, id, func(d *AppSession) { d.N++ }); err != nil {
			t.Errorf("the next Edit: %v", err)
		}
	})
}

func TestEditWithACancelledContextChangesNothing(t *testing.T) {
	eachOwnerStore(t, func(t *testing.T, m mode) {
		s := newOwnedSite(t, m, nil)
		b, id := signIn(s, 42)
		ctx, cancel := context.WithCancel(bg)
		cancel()
		if err := s.mgr.Edit(ctx, id, func(d *AppSession) { d.UserID = 43 }); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		wantUser(t, "afterwards", b, 42)
	})
}

// Whoever takes everything away from a session does not end it.
func TestEditMayClearTheData(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil) // with an Owner, the session would pass to another
		b, id := signIn(s, 42)
		flashIn(b, "waiting")
		if err := s.mgr.Edit(bg, id, func(d *AppSession) { *d = AppSession{} }); err != nil {
			t.Fatal(err)
		}
		if d, reason := b.peek(); d.UserID != 0 || reason != sessions.ReasonNone {
			t.Errorf("got user %d, %q, want the session with an empty T", d.UserID, reason)
		}
		wantMessages(t, "waiting", takeFlashes(b), "waiting")
	})
}
