package storetest_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/storetest"
)

// A labelledStore is a MemoryStore with an index of labels of its own, and one fault
// in that or in Changes.
type labelledStore struct {
	sessions.MemoryStore
	fault fault
	told  chan sessions.ID // for some faults of Changes

	mu      sync.Mutex
	ids     []sessions.ID // none twice
	index   map[string]map[sessions.ID]bool
	touched map[sessions.ID]bool
	listens atomic.Bool // a loop over Changes runs, for the fault that only one is told
}

func newLabelledStore(f fault) *labelledStore {
	return &labelledStore{fault: f, told: make(chan sessions.ID, 100_000), index: map[string]map[sessions.ID]bool{}, touched: map[sessions.ID]bool{}}
}

// setIndex writes the entries of id.
func (s *labelledStore) setIndex(id sessions.ID, labels []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != "the index of labels keeps former labels" {
		for _, ids := range s.index {
			delete(ids, id)
		}
	}
	if s.fault == "labels leave the index while they change" {
		s.mu.Unlock()
		for range 2000 {
			runtime.Gosched()
		}
		s.mu.Lock()
	}
	for _, label := range labels {
		if s.index[label] == nil {
			s.index[label] = map[sessions.ID]bool{}
		}
		s.index[label][id] = true
	}
}

func (s *labelledStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	rec, err := s.MemoryStore.Load(ctx, id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == "Load returns no labels" || s.touched[id] {
		rec.Labels = nil
	}
	return rec, err
}

func (s *labelledStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	s.mu.Lock()
	if !slices.Contains(s.ids, id) { // before others can load the record
		s.ids = append(s.ids, id)
	}
	s.mu.Unlock()
	version, err := s.MemoryStore.Create(ctx, id, rec)
	if err == nil || s.fault == "a refused Create changes the index of labels" {
		s.setIndex(id, rec.Labels)
	}
	return version, err
}

func (s *labelledStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	if s.fault == "labels are set by Create only" {
		if old, err := s.MemoryStore.Load(ctx, id); err == nil {
			rec.Labels = old.Labels
		}
	}
	if s.fault == "Changes tells before it is so" {
		s.told <- id
		time.Sleep(time.Millisecond)
	}
	version, err := s.MemoryStore.Update(ctx, id, rec)
	if s.fault == "labels reach the index after the record" {
		for range 100 {
			runtime.Gosched()
		}
	}
	if err == nil || s.fault == "an Update that conflicts changes the index of labels" {
		s.setIndex(id, rec.Labels)
	}
	if s.fault == "only one loop is told of changes" {
		s.told <- id
	}
	return version, err
}

func (s *labelledStore) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	err := s.MemoryStore.Touch(ctx, id, expires)
	if s.fault == "Touch drops the labels" {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.touched[id] = true
	}
	return err
}

func (s *labelledStore) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	err := s.MemoryStore.Delete(ctx, id, version)
	if err == nil && s.fault != "the index of labels keeps what was deleted" {
		s.setIndex(id, nil)
	}
	return err
}

// matches reports whether the index has label for a record.
func (s *labelledStore) matches(rec sessions.Record, label string) bool {
	return slices.ContainsFunc(rec.Labels, func(other string) bool {
		switch s.fault {
		case "labels are compared without case":
			return strings.EqualFold(label, other)
		case "labels are compared without trailing spaces":
			return strings.TrimRight(label, " ") == strings.TrimRight(other, " ")
		case "a label is a prefix":
			return strings.HasPrefix(other, label)
		case "the index compares only 255 bytes of a label":
			return label[:min(len(label), 255)] == other[:min(len(other), 255)]
		case "labels are text":
			return strings.ToValidUTF8(label, "?") == strings.ToValidUTF8(other, "?")
		}
		return label == other
	}) || s.fault == "owners and labels share an index" && rec.Owner == label && label != ""
}

// list returns the ids that have the label, by the index or by the records.
func (s *labelledStore) list(label string) (ids []sessions.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(string(s.fault), "index of labels") || strings.Contains(string(s.fault), "the index while") || strings.Contains(string(s.fault), "reach the index") {
		for id := range s.index[label] {
			ids = append(ids, id)
		}
		return ids
	}
	for _, id := range s.ids {
		rec, err := s.MemoryStore.Load(context.Background(), id)
		if err == nil && s.matches(rec, label) && (len(ids) < 1000 || s.fault != "Labelled yields a thousand at most") {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *labelledStore) Labelled(ctx context.Context, label string) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		err := ctx.Err()
		if s.fault == "Labelled ignores the context" {
			err = nil
		}
		if err != nil {
			yield(sessions.ID{}, err)
			return
		}
		if s.fault == "Labelled holds a lock while it yields" {
			s.mu.Lock()
			defer s.mu.Unlock()
			for id := range s.MemoryStore.Labelled(ctx, label) {
				if !yield(id, nil) {
					return
				}
			}
			return
		}
		for _, id := range s.list(label) {
			if !yield(id, nil) && s.fault != "Labelled continues after the loop breaks" {
				return
			}
		}
	}
}

func (s *labelledStore) Changes(ctx context.Context) iter.Seq2[sessions.ID, error] {
	if s.fault == "Changes tells before it is so" || s.fault == "only one loop is told of changes" {
		return func(yield func(sessions.ID, error) bool) {
			if s.fault == "only one loop is told of changes" {
				if !s.listens.CompareAndSwap(false, true) {
					<-ctx.Done()
					return
				}
				defer s.listens.Store(false)
			}
			for {
				select {
				case id := <-s.told:
					if !yield(id, nil) {
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}
	}
	if s.fault == "Changes does not end" {
		ctx = context.WithoutCancel(ctx)
	}
	return func(yield func(sessions.ID, error) bool) {
		n := 0
		for id, err := range s.MemoryStore.Changes(ctx) {
			_, loadErr := s.MemoryStore.Load(context.Background(), id)
			deleted := errors.Is(loadErr, sessions.ErrNotFound)
			n++
			switch {
			case s.fault == "Changes does not tell of deletions" && deleted, s.fault == "Changes does not tell of updates" && !deleted:
				continue
			case s.fault == "Changes misses some silently" && (n%100 == 99 || id == sessions.ID{}):
				continue
			case s.fault == "Changes ends early" && n == 2:
				return
			}
			if !yield(id, err) && s.fault != "Changes continues after the loop breaks" {
				return
			}
		}
		if s.fault == "Changes ends with an error of its own" {
			yield(sessions.ID{}, errDisk)
		}
	}
}

// TestRunWithLabels runs the suite on a store with the fault in faultVariable, if any.
func TestRunWithLabels(t *testing.T) {
	f := fault(os.Getenv(faultVariable))
	var opts []storetest.Option
	if f != "" {
		opts = append(opts, storetest.Wait(2*time.Second))
	}
	storetest.Run(t, func(testing.TB) sessions.Store { return newLabelledStore(f) }, opts...)
}

// An untellable is a Watcher whose engine cannot tell of changes.
type untellable struct{ sessions.Store }

func (s untellable) Changes(context.Context) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) { yield(sessions.ID{}, errors.ErrUnsupported) }
}

func TestAWatcherThatCannotTellPasses(t *testing.T) {
	storetest.Run(t, func(testing.TB) sessions.Store { return untellable{new(sessions.MemoryStore)} })
}

func TestEveryFaultOfLabelsAndChangesIsFound(t *testing.T) {
	t.Parallel()
	for f, subtests := range map[fault][]string{
		"Load returns no labels":                               {"Load returns the labels of the record", sequences, histories},
		"labels are set by Create only":                        {"Labelled yields no id that lost the label by an Update", "Load returns the labels of the record", sequences},
		"Touch drops the labels":                               {"a Touch and a refused operation do not change the labels of an id", sequences, histories},
		"a refused Create changes the index of labels":         {"a Touch and a refused operation do not change the labels of an id", sequences, histories},
		"an Update that conflicts changes the index of labels": {"a Touch and a refused operation do not change the labels of an id", sequences, histories},
		"the index of labels keeps former labels":              {"Labelled yields no id that lost the label by an Update", "labels and the owner change independently", sequences, histories},
		"labels leave the index while they change":             {"Labelled yields an id that keeps the label while its other labels change"},
		"labels reach the index after the record":              {histories},
		"labels are compared without case":                     {"labels that differ in any byte are different", "Labelled yields nothing for a label without sessions", sequences},
		"labels are compared without trailing spaces":          {"labels that differ in any byte are different", "Labelled yields nothing for a label without sessions"},
		"a label is a prefix":                                  {"labels that differ in any byte are different", "Labelled yields nothing for a label without sessions"},
		"the index compares only 255 bytes of a label":         {"labels that differ in any byte are different", "a label may have any length up to 4096 bytes"},
		"labels are text":                                      {"labels that differ in any byte are different"},
		"owners and labels share an index":                     {"Labelled yields every id with the label and no others", "Labelled yields nothing for a label without sessions"},
		"Labelled yields a thousand at most":                   {"Labelled yields more than a thousand ids"},
		"Labelled ignores the context":                         {"Labelled yields the error of a context that is done"},
		"Labelled continues after the loop breaks":             {"a loop over Labelled may break, start again, and change the ids that it yields"},
		"Labelled holds a lock while it yields":                {"a loop over Labelled may break, start again, and change the ids that it yields"},
		"Changes does not tell of deletions":                   {"Changes yields the id of a record that is updated or deleted"},
		"Changes does not tell of updates":                     {"Changes yields the id of a record that is updated or deleted"},
		"Changes tells before it is so":                        {"whoever reads the record of each id that Changes yields ends with the newest"},
		"Changes misses some silently":                         {"Changes tells of each of thousands of changes, or that some were missed"},
		"Changes ends early":                                   {"Changes yields the id of a record that is updated or deleted"},
		"Changes does not end":                                 {"Changes ends with its context"},
		"Changes ends with an error of its own":                {"Changes ends with its context"},
		"Changes continues after the loop breaks":              {"a loop over Changes may break and start again"},
		"only one loop is told of changes":                     {"several loops over Changes are all told"},
	} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			for _, subtest := range subtests {
				mustFail(t, f, "TestRunWithLabels", subtest)
			}
		})
	}
}
