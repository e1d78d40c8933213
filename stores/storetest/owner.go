package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/typedsessions/sessions"
)

// oddOwners are all different, but some of them are equal to a collation,
// a pattern, a C string or a truncated index.
var oddOwners = []string{
	"a", "ad", "ada", "adaa", "ADA", "Ada", " ada", "ada ", "ada  ", "ada\t", "ada\n", "ada\x00", "ada@example.com", "Ada Lovelace",
	"0", "00", "1", "1e0", "null", "NULL", "true",
	"*", "a*", "?", "%", "a%", "_", "__", "[a]", "a:b", "{a}", "{b}", "a/../b", "../a", "/", ".", "\\", "'", "\"", "`", "'; DROP TABLE sessions; --", "$1", ":a", "?1",
	"\x00", "\x00\x00", "a\x00b", "a\x00c", "\xff", "\xff\xfe", "\xc3", "é", "e\u0301", "ß", "ss", "İ", "i", "I", "ı", "🦫", "🦦", "\r\n", "a\r\nb",
	strings.Repeat("o", 1024), strings.Repeat("o", 1023) + "p", strings.Repeat("o", 1023), strings.Repeat("\xff", 1024),
}

func (s *subject) owners() sessions.OwnerStore { return s.Store.(sessions.OwnerStore) }

// idsOf returns the ids that an index yields. what names it in an error.
func (s *subject) idsOf(what string, index iter.Seq2[sessions.ID, error]) map[sessions.ID]bool {
	s.Helper()
	ids := map[sessions.ID]bool{}
	for id, err := range index {
		if err != nil {
			s.Fatalf("%s: %v", what, err)
		}
		ids[id] = true
	}
	return ids
}

// areListed fails the test unless an index, which what names, has the ids in want and
// no others that exist. describe says what is wrong with the record of another.
func (s *subject) areListed(what string, got map[sessions.ID]bool, want []sessions.ID, describe func(sessions.Record) string) {
	s.Helper()
	for _, id := range want {
		if !got[id] {
			s.Errorf("%s does not yield %v", what, id)
		}
	}
	for id := range got {
		if slices.Contains(want, id) {
			continue
		}
		if rec, ok := s.find(id); ok {
			s.Errorf("%s yields %v, which %s", what, id, describe(rec))
		}
	}
}

// owned returns the ids that Owned yields.
func (s *subject) owned(owner string) map[sessions.ID]bool {
	s.Helper()
	return s.idsOf("Owned", s.owners().Owned(s.ctx, owner))
}

// lists fails the test unless Owned yields the ids in want. It may also yield ids
// that no longer exist.
func (s *subject) lists(owner string, want ...sessions.ID) {
	s.Helper()
	s.areListed(fmt.Sprintf("Owned(%.40q)", owner), s.owned(owner), want, func(rec sessions.Record) string {
		return fmt.Sprintf("belongs to %.40q", rec.Owner)
	})
}

// ownerClauses are the clauses of the comment of OwnerStore.
var ownerClauses = []clause{
	{"Owned yields every id of the owner and no others", func(s *subject) {
		s.create(idOf(0), recordFor(time.Hour, "", "ada"))
		s.create(idOf(1), recordFor(time.Hour, "", "bob"))
		s.create(idOf(2), recordFor(time.Hour, "", "ada"))
		s.create(idOf(3), recordFor(time.Hour, "", ""))
		s.lists("ada", idOf(0), idOf(2))
		s.lists("bob", idOf(1))
		s.lists("carl")
	}},
	{"Owned yields nothing for an owner without sessions", func(s *subject) {
		s.lists("ada")
		s.create(oneID, recordFor(time.Hour, "", "ada"))
		for _, nobody := range []string{"carl", "ad", "adaa", "ADA", "ada ", " ada", "%", "*", "ad_"} {
			if n := len(s.owned(nobody)); n > 0 {
				s.Errorf("Owned(%q): got %d ids, want none", nobody, n)
			}
		}
	}},
	{"owners that differ in any byte are different", func(s *subject) {
		for i, owner := range oddOwners {
			s.create(idOf(i), recordFor(time.Hour, "data", owner))
		}
		for i, owner := range oddOwners {
			got := s.owned(owner)
			if !got[idOf(i)] {
				s.Errorf("Owned(%.40q) does not yield its id", owner)
			}
			delete(got, idOf(i))
			for j, other := range oddOwners {
				if got[idOf(j)] {
					s.Errorf("Owned(%.40q) yields the id of %.40q", owner, other)
				}
			}
		}
		// Deleting the session of one owner must not affect the others.
		for i := range oddOwners {
			s.delete(idOf(i), 0)
			for j := i + 1; j < len(oddOwners); j += 7 {
				if !s.owned(oddOwners[j])[idOf(j)] {
					s.Errorf("Owned(%.40q) does not yield its id after a Delete for %.40q", oddOwners[j], oddOwners[i])
				}
			}
		}
	}},
	{"a record without an owner is not indexed", func(s *subject) {
		version := s.create(oneID, recordFor(time.Hour, "", ""))
		s.update(otherID, s.create(otherID, recordFor(time.Hour, "", "ada")), recordFor(time.Hour, "", ""))
		s.update(oneID, version, recordFor(time.Hour, "", ""))
		if n := len(s.owned("")); n > 0 {
			s.Errorf(`Owned(""): got %d ids, want none`, n)
		}
	}},
	{"an Update, a Touch and a refused operation do not change the owner of an id", func(s *subject) {
		rec := recordFor(time.Hour, "", "ada")
		first := s.create(oneID, rec)
		version := s.update(oneID, first, rec)
		s.lists("ada", oneID)
		s.touch(oneID, time.Now().Add(2*time.Hour))
		s.lists("ada", oneID)
		late := recordFor(time.Hour, "", "bob")
		_, err := s.Create(s.ctx, oneID, late)
		s.fails("Create", err, sessions.ErrExists)
		late.Version = first
		_, err = s.Update(s.ctx, oneID, late)
		s.fails("Update", err, sessions.ErrConflict)
		s.fails("Delete", s.Delete(s.ctx, oneID, first), sessions.ErrConflict)
		late.Owner = ""
		_, err = s.Update(s.ctx, oneID, late)
		s.fails("Update", err, sessions.ErrConflict)
		s.lists("ada", oneID)
		s.lists("bob")
		s.update(oneID, version, rec)
		s.lists("ada", oneID)
	}},
	{"an Update of an absent id does not add it to an index", func(s *subject) {
		rec := recordFor(time.Hour, "", "ada")
		rec.Version = 1
		_, err := s.Update(s.ctx, oneID, rec)
		s.fails("Update", err, sessions.ErrNotFound)
		s.lists("ada")
		s.create(oneID, recordFor(time.Hour, "", "bob"))
		s.lists("ada")
		s.lists("bob", oneID)
	}},
	{"Owned yields no id that moved to another owner", func(s *subject) {
		version := s.create(oneID, recordFor(time.Hour, "", "ada"))
		for _, owner := range []string{"bob", "", "ada", "ada", "bob", "carl", "", "", "carl", "ada"} {
			version = s.update(oneID, version, recordFor(time.Hour, "", owner))
			for _, other := range []string{"ada", "bob", "carl"} {
				if listed := s.owned(other)[oneID]; listed != (other == owner) {
					s.Errorf("after the move to %q: listed for %q is %t", owner, other, listed)
				}
			}
		}
	}},
	{"Owned yields no id that was deleted and created again for another owner", func(s *subject) {
		for i, end := range []func(id sessions.ID, version uint64){
			func(id sessions.ID, _ uint64) { s.delete(id, 0) },
			func(id sessions.ID, version uint64) { s.delete(id, version) },
			func(id sessions.ID, version uint64) { s.update(id, version, recordFor(-time.Second, "", "ada")) },
		} {
			id := idOf(i)
			end(id, s.create(id, recordFor(time.Hour, "", "ada")))
			version := s.create(id, recordFor(time.Hour, "", "bob"))
			s.lists("ada")
			s.lists("bob", id)
			end(id, s.update(id, version, recordFor(time.Hour, "", "ada")))
			s.create(id, recordFor(time.Hour, "", ""))
			s.lists("ada")
			s.lists("bob")
			s.delete(id, 0)
			s.create(id, recordFor(time.Hour, "", "ada"))
			s.lists("ada", id)
			s.delete(id, 0)
		}
	}},
	{"an id that expired and was created again is listed for its new owner only", func(s *subject) {
		end := time.Now().Add(50 * time.Millisecond)
		s.create(oneID, sessions.Record{Expires: end, Owner: "ada"})
		s.create(otherID, sessions.Record{Expires: end, Owner: "ada"})
		s.waitUntil(end)
		s.create(oneID, recordFor(time.Hour, "", "bob"))
		s.create(otherID, recordFor(time.Hour, "", "ada"))
		s.lists("ada", otherID)
		s.lists("bob", oneID)
	}},
	{"Owned yields an id whose expiry was moved by Touch", func(s *subject) {
		id, end := s.beforeExpiry(s.touched)
		s.waitUntil(end)
		s.lists("ada", id)
	}},
	{"Owned yields an id whose expiry was moved by Update", func(s *subject) {
		id, end := s.beforeExpiry(s.updated)
		s.waitUntil(end)
		s.lists("ada", id)
	}},
	{"Owned yields the live ids of an owner when another one has expired", func(s *subject) {
		// The index of an owner must not expire with one of its sessions.
		end := time.Now().Add(50 * time.Millisecond)
		s.create(idOf(0), sessions.Record{Expires: time.Now().AddDate(100, 0, 0), Owner: "ada"})
		s.create(idOf(1), recordFor(time.Hour, "", "ada"))
		s.create(idOf(2), sessions.Record{Expires: end, Owner: "ada"})
		s.create(idOf(3), sessions.Record{Expires: end, Owner: "bob"})
		s.create(idOf(4), recordFor(time.Hour, "", "bob"))
		s.waitUntil(end)
		s.lists("ada", idOf(0), idOf(1))
		s.lists("bob", idOf(4))
	}},
	{"Owned yields more than a thousand ids", func(s *subject) {
		const n = 1500 // more than a page of any store
		want := make(map[sessions.ID]bool, n)
		for i := range n {
			want[idOf(i)] = true
		}
		s.parallel(8, func(g int) {
			for i := g; i < n; i += 8 {
				s.create(idOf(i), recordFor(time.Hour, "", "ada"))
			}
		})
		s.create(idOf(n), recordFor(time.Hour, "", "bob"))
		got := s.owned("ada")
		for id := range got {
			if !want[id] {
				s.Errorf("got %v, which does not belong to ada", id)
			}
		}
		if len(got) != n {
			s.Errorf("got %d ids, want %d", len(got), n)
		}
		s.lists("bob", idOf(n))
	}},
	{"a loop over Owned may break, start again, and change the ids that it yields", func(s *subject) {
		const n = 300
		for i := range n {
			s.create(idOf(i), recordFor(time.Hour, "", "ada"))
		}
		all := s.owners().Owned(s.ctx, "ada")
		for range 3 {
			left := 10
			for id, err := range all {
				if err != nil {
					s.Fatalf("Owned: %v", err)
				}
				if _, ok := s.find(id); !ok {
					continue // deleted, but still in the index
				}
				s.delete(id, 0) // Owned must not hold a lock while it yields
				if left--; left == 0 {
					break
				}
			}
		}
		live := 0
		for id := range s.owned("ada") {
			if _, ok := s.find(id); ok {
				live++
			}
		}
		if live != n-30 {
			s.Errorf("got %d live ids, want the %d that were not deleted", live, n-30)
		}
	}},
	{"Owned yields the error of a context that is done", func(s *subject) {
		s.create(oneID, recordFor(time.Hour, "", "ada"))
		canceled, cancel := context.WithCancel(context.Background())
		cancel()
		late, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
		defer cancel()
		for _, owner := range []string{"ada", "nobody"} {
			for ctx, want := range map[context.Context]error{canceled: context.Canceled, late: context.DeadlineExceeded} {
				var errs []error
				for _, err := range s.owners().Owned(ctx, owner) {
					errs = append(errs, err)
				}
				if len(errs) != 1 || !errors.Is(errs[0], want) {
					s.Errorf("Owned(%q): got errors %v, want %v once", owner, errs, want)
				}
			}
		}
	}},
	{"Owned yields the error if it is canceled before it has yielded all ids", func(s *subject) {
		const n = 1000
		for i := range n {
			s.create(idOf(i), recordFor(time.Hour, "", "ada"))
		}
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		ids := map[sessions.ID]bool{}
		var failed error
		for id, err := range s.owners().Owned(ctx, "ada") {
			if failed != nil {
				s.Fatal("Owned: got a pair after the error")
			}
			if failed = err; err == nil {
				ids[id] = true
			}
			cancel()
		}
		if failed == nil && len(ids) != n {
			s.Errorf("got %d of %d ids and no error", len(ids), n)
		}
		if failed != nil {
			s.fails("Owned", failed, context.Canceled)
		}
	}},
	{"Owned yields every live id while other ids are created, moved and deleted", func(s *subject) {
		const lasting = 100
		for i := range lasting {
			s.create(idOf(i), recordFor(time.Hour, "", "ada"))
		}
		const writers = 4
		var written atomic.Int64
		var enough atomic.Bool
		begun := make(chan struct{})
		wait := s.start(writers, func(w int) {
			for i := 0; !enough.Load(); i++ {
				id := idOf(1000 + 1000*w + i%50)
				version := s.create(id, recordFor(time.Hour, "", "ada"))
				if i%2 == 0 {
					s.update(id, version, recordFor(time.Hour, "", "bob"))
				}
				s.delete(id, 0)
				if written.Add(1) == writers {
					close(begun)
				}
			}
		})
		s.await(begun)
		missing := 0
		for range 20 {
			got := s.owned("ada")
			for i := range lasting {
				if !got[idOf(i)] {
					missing++
				}
			}
		}
		enough.Store(true)
		wait()
		if missing > 0 {
			s.Errorf("Owned missed ids that existed all the time, %d times", missing)
		}
	}},
	{"Owned yields an id for the owner that it has after parallel Updates", func(s *subject) {
		owners := []string{"ada", "bob", "carl", ""}
		for round := range 20 {
			id := idOf(round)
			s.create(id, recordFor(time.Hour, "", "ada"))
			s.parallel(len(owners), func(i int) {
				for range 5 {
					rec := s.load(id)
					rec.Owner = owners[i]
					if _, err := s.Update(s.ctx, id, rec); err != nil && !errors.Is(err, sessions.ErrConflict) {
						s.Fatalf("Update: got error %v, want nil or %v", err, sessions.ErrConflict)
					}
				}
			})
			now := s.load(id).Owner
			for _, owner := range owners[:3] {
				if listed := s.owned(owner)[id]; listed != (owner == now) {
					s.Errorf("id %d belongs to %q, but listed for %q is %t", round, now, owner, listed)
				}
			}
		}
	}},
}
