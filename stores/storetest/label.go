package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/typedsessions/sessions"
)

// labelledAs returns rec with other labels.
func labelledAs(rec sessions.Record, labels ...string) sessions.Record {
	rec.Labels = labels
	return rec
}

// sameLabels reports whether a and b are the same labels, in any order.
func sameLabels(a, b []string) bool { return labelSet(a) == labelSet(b) }

// labelSet returns a text that is equal for the same labels in any order.
func labelSet(labels []string) string {
	return fmt.Sprintf("%q", slices.Sorted(slices.Values(labels)))
}

func (s *subject) labels() sessions.LabelStore { return s.Store.(sessions.LabelStore) }

// labelled returns the ids that Labelled yields.
func (s *subject) labelled(label string) map[sessions.ID]bool {
	s.Helper()
	return s.idsOf("Labelled", s.labels().Labelled(s.ctx, label))
}

// listsLabelled fails the test unless Labelled yields the ids in want. It may also
// yield ids that no longer exist.
func (s *subject) listsLabelled(label string, want ...sessions.ID) {
	s.Helper()
	s.areListed(fmt.Sprintf("Labelled(%.40q)", label), s.labelled(label), want, func(rec sessions.Record) string {
		return fmt.Sprintf("has the labels %.80q", rec.Labels)
	})
}

// hasLabels fails the test unless the record of id has these labels, and is listed
// for each of them and for none of the others.
func (s *subject) hasLabels(when string, id sessions.ID, labels []string, others ...string) {
	s.Helper()
	if got := s.load(id).Labels; !sameLabels(got, labels) {
		s.Errorf("%s: Load returns the labels %.80q, want %.80q", when, got, labels)
	}
	for _, label := range slices.Concat(labels, others) {
		if listed, want := s.labelled(label)[id], slices.Contains(labels, label); listed != want {
			s.Errorf("%s: the record with %.80q is listed for %.40q: %t, want %t", when, labels, label, listed, want)
		}
	}
}

// labelClauses are the clauses of the comment of LabelStore, and of Record.Labels.
var labelClauses = []clause{
	{"Labelled yields every id with the label and no others", func(s *subject) {
		s.create(idOf(0), labelledAs(recordFor(time.Hour, "", "ada"), "red"))
		s.create(idOf(1), labelledAs(recordFor(time.Hour, "", ""), "blue", "red"))
		s.create(idOf(2), labelledAs(recordFor(time.Hour, "", "ada"), "blue"))
		s.create(idOf(3), recordFor(time.Hour, "", "red"))
		s.listsLabelled("red", idOf(0), idOf(1))
		s.listsLabelled("blue", idOf(1), idOf(2))
		s.listsLabelled("green")
		s.lists("ada", idOf(0), idOf(2))
		s.lists("red", idOf(3))
	}},
	{"Labelled yields nothing for a label without sessions", func(s *subject) {
		s.listsLabelled("red")
		s.create(oneID, labelledAs(recordFor(time.Hour, "", "ada"), "red"))
		s.create(otherID, recordFor(time.Hour, "", ""))
		for _, none := range []string{"green", "re", "redd", "RED", "red ", " red", "%", "*", "re_", "ada", ""} {
			if n := len(s.labelled(none)); n > 0 {
				s.Errorf("Labelled(%q): got %d ids, want none", none, n)
			}
		}
	}},
	{"Load returns the labels of the record", func(s *subject) {
		eight := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
		rec := labelledAs(recordFor(time.Hour, "data", "ada"), eight...)
		version := s.create(oneID, rec)
		s.holds(oneID, version, rec)
		for _, labels := range [][]string{{"a"}, nil, {"z", "a", "b"}, eight, {}} {
			rec.Labels = labels
			version = s.update(oneID, version, rec)
			s.holds(oneID, version, rec)
		}
	}},
	{"labels that differ in any byte are different", func(s *subject) {
		for i, label := range oddOwners {
			rec := labelledAs(recordFor(time.Hour, "data", label), label) // an owner is no label
			s.holds(idOf(i), s.create(idOf(i), rec), rec)
		}
		all := labelledAs(recordFor(time.Hour, "data", ""), oddOwners[:8]...)
		s.holds(oneID, s.create(oneID, all), all)
		for i, label := range oddOwners {
			want := []sessions.ID{idOf(i)}
			if i < 8 {
				want = append(want, oneID)
			}
			got := s.labelled(label)
			if len(got) != len(want) || !got[want[0]] || !got[want[len(want)-1]] {
				s.Errorf("Labelled(%.40q): got %d ids, want the %d with this label", label, len(got), len(want))
			}
		}
	}},
	{"Labelled yields no id that lost the label by an Update", func(s *subject) {
		all := []string{"red", "green", "blue"}
		version := s.create(oneID, labelledAs(recordFor(time.Hour, "", "ada"), "red"))
		s.hasLabels("after Create", oneID, []string{"red"}, all...)
		for _, labels := range [][]string{{"red", "blue"}, {"blue", "red"}, {"blue"}, {"green"}, {}, all, {"RED", "red "}, nil, {"red"}, {"red"}} {
			version = s.update(oneID, version, labelledAs(recordFor(time.Hour, "", "ada"), labels...))
			s.hasLabels(fmt.Sprintf("after an Update to %q", labels), oneID, labels, all...)
		}
	}},
	{"labels and the owner change independently", func(s *subject) {
		version := s.create(oneID, labelledAs(recordFor(time.Hour, "", "ada"), "red"))
		version = s.update(oneID, version, labelledAs(recordFor(time.Hour, "", "bob"), "red"))
		s.listsLabelled("red", oneID)
		s.lists("ada")
		s.lists("bob", oneID)
		version = s.update(oneID, version, labelledAs(recordFor(time.Hour, "", "bob"), "blue"))
		s.listsLabelled("red")
		s.lists("bob", oneID)
		version = s.update(oneID, version, labelledAs(recordFor(time.Hour, "", ""), "blue"))
		s.listsLabelled("blue", oneID)
		s.lists("bob")
		s.update(oneID, version, recordFor(time.Hour, "", "ada"))
		s.listsLabelled("blue")
		s.lists("ada", oneID)
	}},
	{"a Touch and a refused operation do not change the labels of an id", func(s *subject) {
		rec := labelledAs(recordFor(time.Hour, "", "ada"), "red", "blue")
		first := s.create(oneID, rec)
		version := s.update(oneID, first, rec)
		s.touch(oneID, time.Now().Add(2*time.Hour))
		s.hasLabels("after a Touch", oneID, rec.Labels, "green")
		for _, labels := range [][]string{{"green"}, nil, {"red"}} {
			late := labelledAs(recordFor(time.Hour, "", "bob"), labels...)
			_, err := s.Create(s.ctx, oneID, late)
			s.fails("Create", err, sessions.ErrExists)
			late.Version = first
			_, err = s.Update(s.ctx, oneID, late)
			s.fails("Update", err, sessions.ErrConflict)
			s.fails("Delete", s.Delete(s.ctx, oneID, first), sessions.ErrConflict)
			s.hasLabels("after refused operations", oneID, rec.Labels, "green")
		}
		s.update(oneID, version, labelledAs(rec, "green"))
		s.hasLabels("after an Update", oneID, []string{"green"}, "red", "blue")
	}},
	{"an Update of an absent id does not add it to an index of labels", func(s *subject) {
		rec := labelledAs(recordFor(time.Hour, "", ""), "red")
		rec.Version = 1
		_, err := s.Update(s.ctx, oneID, rec)
		s.fails("Update", err, sessions.ErrNotFound)
		s.listsLabelled("red")
		s.create(oneID, labelledAs(rec, "blue"))
		s.hasLabels("after Create", oneID, []string{"blue"}, "red")
	}},
	{"Labelled yields no id that was deleted and created again with other labels", func(s *subject) {
		for i, end := range []func(id sessions.ID, version uint64){
			func(id sessions.ID, _ uint64) { s.delete(id, 0) },
			func(id sessions.ID, version uint64) { s.delete(id, version) },
			func(id sessions.ID, version uint64) {
				s.update(id, version, labelledAs(recordFor(-time.Second, "", ""), "red"))
			},
		} {
			id := idOf(i)
			end(id, s.create(id, labelledAs(recordFor(time.Hour, "", ""), "red", "blue")))
			version := s.create(id, labelledAs(recordFor(time.Hour, "", ""), "blue"))
			s.hasLabels("after it was created again", id, []string{"blue"}, "red")
			end(id, version)
			s.create(id, recordFor(time.Hour, "", ""))
			s.hasLabels("after it was created without labels", id, nil, "red", "blue")
			s.delete(id, 0)
			s.create(id, labelledAs(recordFor(time.Hour, "", ""), "red"))
			s.hasLabels("after it was created with a label that it once had", id, []string{"red"}, "blue")
			s.delete(id, 0)
		}
	}},
	{"an id that expired and was created again is listed for its new labels only", func(s *subject) {
		end := time.Now().Add(50 * time.Millisecond)
		s.create(oneID, labelledAs(sessions.Record{Expires: end}, "red"))
		s.create(otherID, labelledAs(sessions.Record{Expires: end}, "red", "blue"))
		s.waitUntil(end)
		s.create(oneID, labelledAs(recordFor(time.Hour, "", ""), "blue"))
		s.create(otherID, labelledAs(recordFor(time.Hour, "", ""), "red"))
		s.hasLabels("created again", oneID, []string{"blue"}, "red")
		s.hasLabels("created again", otherID, []string{"red"}, "blue")
	}},
	{"Labelled yields an id whose expiry was moved by Touch", func(s *subject) {
		id, end := s.beforeExpiry(func(id sessions.ID, end time.Time) error {
			if _, err := s.Create(s.ctx, id, labelledAs(sessions.Record{Expires: end}, "red")); err != nil {
				return fmt.Errorf("Create: got error %w, want nil", err)
			}
			if err := s.Touch(s.ctx, id, time.Now().Add(time.Hour)); err != nil {
				return fmt.Errorf("Touch: got error %w, want nil", err)
			}
			return nil
		})
		s.waitUntil(end)
		s.listsLabelled("red", id)
	}},
	{"Labelled yields an id whose expiry was moved by Update", func(s *subject) {
		id, end := s.beforeExpiry(func(id sessions.ID, end time.Time) (err error) {
			rec := labelledAs(recordFor(time.Hour, "", ""), "red")
			if rec.Version, err = s.Create(s.ctx, id, labelledAs(sessions.Record{Expires: end}, "red")); err != nil {
				return fmt.Errorf("Create: got error %w, want nil", err)
			}
			if _, err = s.Update(s.ctx, id, rec); err != nil {
				return fmt.Errorf("Update: got error %w, want nil", err)
			}
			return nil
		})
		s.waitUntil(end)
		s.listsLabelled("red", id)
	}},
	{"Labelled yields the live ids with a label when another one has expired", func(s *subject) {
		end := time.Now().Add(50 * time.Millisecond)
		s.create(idOf(0), labelledAs(sessions.Record{Expires: time.Now().AddDate(100, 0, 0)}, "red"))
		s.create(idOf(1), labelledAs(recordFor(time.Hour, "", ""), "red", "blue"))
		s.create(idOf(2), labelledAs(sessions.Record{Expires: end}, "red", "blue"))
		s.waitUntil(end)
		s.listsLabelled("red", idOf(0), idOf(1))
		s.listsLabelled("blue", idOf(1))
	}},
	{"Labelled yields more than a thousand ids", func(s *subject) {
		const n = 1500 // more than a page of any store
		s.parallel(8, func(g int) {
			for i := g; i < n; i += 8 {
				s.create(idOf(i), labelledAs(recordFor(time.Hour, "", ""), "red"))
			}
		})
		s.create(idOf(n), labelledAs(recordFor(time.Hour, "", ""), "blue"))
		got := s.labelled("red")
		for i := range n {
			if !got[idOf(i)] {
				s.Fatalf("Labelled does not yield id %d", i)
			}
		}
		if len(got) != n {
			s.Errorf("got %d ids, want %d", len(got), n)
		}
		s.listsLabelled("blue", idOf(n))
	}},
	{"a loop over Labelled may break, start again, and change the ids that it yields", func(s *subject) {
		const n = 100
		for i := range n {
			s.create(idOf(i), labelledAs(recordFor(time.Hour, "", ""), "red"))
		}
		all := s.labels().Labelled(s.ctx, "red")
		for range 3 {
			left := 10
			for id, err := range all {
				if err != nil {
					s.Fatalf("Labelled: %v", err)
				}
				rec, ok := s.find(id)
				if !ok || !slices.Contains(rec.Labels, "red") {
					continue
				}
				if left%2 == 0 { // Labelled must not hold a lock while it yields
					s.delete(id, 0)
				} else {
					s.update(id, rec.Version, labelledAs(recordFor(time.Hour, "", ""), "blue"))
				}
				if left--; left == 0 {
					break
				}
			}
		}
		live := 0
		for id := range s.labelled("red") {
			if _, ok := s.find(id); ok {
				live++
			}
		}
		if live != n-30 {
			s.Errorf("got %d live ids, want the %d that still have the label", live, n-30)
		}
	}},
	{"Labelled yields the error of a context that is done", func(s *subject) {
		s.create(oneID, labelledAs(recordFor(time.Hour, "", ""), "red"))
		canceled, cancel := context.WithCancel(context.Background())
		cancel()
		late, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
		defer cancel()
		for _, label := range []string{"red", "none"} {
			for ctx, want := range map[context.Context]error{canceled: context.Canceled, late: context.DeadlineExceeded} {
				var errs []error
				for _, err := range s.labels().Labelled(ctx, label) {
					errs = append(errs, err)
				}
				if len(errs) != 1 || !errors.Is(errs[0], want) {
					s.Errorf("Labelled(%q): got errors %v, want %v once", label, errs, want)
				}
			}
		}
	}},
	{"Labelled yields every live id while other ids are created, changed and deleted", func(s *subject) {
		const lasting = 100
		for i := range lasting {
			s.create(idOf(i), labelledAs(recordFor(time.Hour, "", ""), "red"))
		}
		const writers = 4
		var written atomic.Int64
		var enough atomic.Bool
		begun := make(chan struct{})
		wait := s.start(writers, func(w int) {
			for i := 0; !enough.Load(); i++ {
				id := idOf(1000 + 1000*w + i%50)
				version := s.create(id, labelledAs(recordFor(time.Hour, "", ""), "red"))
				if i%2 == 0 {
					s.update(id, version, labelledAs(recordFor(time.Hour, "", ""), "blue"))
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
			got := s.labelled("red")
			for i := range lasting {
				if !got[idOf(i)] {
					missing++
				}
			}
		}
		enough.Store(true)
		wait()
		if missing > 0 {
			s.Errorf("Labelled missed ids that had the label all the time, %d times", missing)
		}
	}},
	{"Labelled yields an id that keeps the label while its other labels change", func(s *subject) {
		version := s.create(oneID, labelledAs(recordFor(time.Hour, "", ""), "red"))
		var updates, lists atomic.Int64
		const enough = 200
		wait := s.start(1, func(int) {
			for i := 0; i < enough || lists.Load() < enough; i++ {
				labels := [][]string{{"blue", "red"}, {"red"}, {"a", "b", "red", "x"}, {"red", "green"}}[i%4]
				version = s.update(oneID, version, labelledAs(recordFor(time.Hour, "", ""), labels...))
				updates.Add(1)
			}
		})
		for !s.Failed() && (updates.Load() < enough || lists.Load() < enough) {
			if !s.labelled("red")[oneID] {
				s.Errorf("Labelled does not yield an id that has the label all the time")
			}
			lists.Add(1)
		}
		lists.Add(enough)
		wait()
	}},
	{"Labelled yields an id for the labels that it has after parallel Updates", func(s *subject) {
		sets := [][]string{{"red"}, {"blue", "red"}, {"green"}, nil}
		all := []string{"red", "green", "blue"}
		for round := range 20 {
			id := idOf(round)
			s.create(id, labelledAs(recordFor(time.Hour, "", "ada"), "red"))
			s.parallel(len(sets), func(i int) {
				for range 5 {
					rec := s.load(id)
					rec.Labels = sets[i]
					if _, err := s.Update(s.ctx, id, rec); err != nil && !errors.Is(err, sessions.ErrConflict) {
						s.Fatalf("Update: got error %v, want nil or %v", err, sessions.ErrConflict)
					}
				}
			})
			s.hasLabels(fmt.Sprintf("id %d", round), id, s.load(id).Labels, all...)
			if s.Failed() {
				return
			}
		}
	}},
	{"a label may have any length up to 4096 bytes", func(s *subject) {
		for i, n := range []int{1, 255, 256, 1024, 4096} {
			long := strings.Repeat("l", n-1)
			rec := labelledAs(recordFor(time.Hour, "", ""), long+"a")
			version := s.create(idOf(i), rec)
			s.hasLabels(size(n), idOf(i), rec.Labels, long+"b", long)
			version = s.update(idOf(i), version, labelledAs(rec, long+"b"))
			s.hasLabels(size(n), idOf(i), []string{long + "b"}, long+"a")
			s.delete(idOf(i), version)
		}
	}},
}
