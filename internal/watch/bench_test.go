package watch_test

import (
	"slices"
	"testing"
	"time"

	"github.com/typedsessions/sessions/internal/watch"
)

// BenchmarkWatch measures the time from an end to the end of the watcher's context,
// among 10,000 watchers. The tests log their memory, how long it takes until the
// store is asked for what nobody tells, and the loads at rest.
func BenchmarkWatch(b *testing.B) {
	const n = 10_000
	for _, by := range []struct {
		name string
		end  func(s *store, set *watch.Set, id watch.ID)
	}{
		{"this process", func(s *store, set *watch.Set, id watch.ID) {
			s.remove(id)
			set.Ended(id, errRevoked)
		}},
		{"the store", func(s *store, _ *watch.Set, id watch.ID) {
			s.remove(id)
			s.tell(id)
		}},
	} {
		b.Run("told by "+by.name, func(b *testing.B) {
			s := newStore()
			s.begin(n)
			set := told.set(s)
			all := make([]*watch.Watcher, n)
			for i := range n {
				all[i] = set.Watch(bg)
				all[i].Follow(idOf(i), alive(time.Hour))
				all[i].Context().Done()
			}
			ids := make([]watch.ID, n)
			for i := range ids {
				ids[i] = idOf(i)
			}
			var took []time.Duration
			b.ReportAllocs()
			for i := 0; b.Loop(); i = (i + 7919) % n {
				began := time.Now()
				by.end(s, set, ids[i])
				<-all[i].Context().Done()
				took = append(took, time.Since(began))
				b.StopTimer()
				s.set(ids[i], alive(time.Hour))
				all[i] = set.Watch(bg)
				all[i].Follow(ids[i], alive(time.Hour))
				b.StartTimer()
			}
			for _, w := range all {
				w.Cancel()
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "median-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-µs")
		})
	}
}
