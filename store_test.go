package sessions_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// storeID returns the n-th of the ids of a test: hashes, as real ones are.
func storeID(n int) sessions.ID { return sha256.Sum256(fmt.Append(nil, n)) }

// recordFor returns a record that lasts for d.
func recordFor(d time.Duration, data, owner string) sessions.Record {
	return sessions.Record{Data: []byte(data), Expires: time.Now().Add(d).Truncate(time.Millisecond), Owner: owner}
}

// A storeUnderTest fails the test where an operation does not do what it must.
type storeUnderTest struct {
	*testing.T
	sessions.OwnerStore
}

func (s storeUnderTest) create(id sessions.ID, rec sessions.Record) (version uint64) {
	s.Helper()
	version, err := s.Create(bg, id, rec)
	if err != nil || version == 0 {
		s.Fatalf("Create: got version %d, %v, want a version that is not 0", version, err)
	}
	return version
}

func (s storeUnderTest) update(id sessions.ID, version uint64, rec sessions.Record) (next uint64) {
	s.Helper()
	rec.Version = version
	next, err := s.Update(bg, id, rec)
	if err != nil || next == version || next == 0 {
		s.Fatalf("Update of version %d: got version %d, %v, want another one", version, next, err)
	}
	return next
}

func (s storeUnderTest) load(id sessions.ID) sessions.Record {
	s.Helper()
	rec, err := s.Load(bg, id)
	if err != nil {
		s.Fatalf("Load: got %v, want a record", err)
	}
	return rec
}

// holds fails unless the record of id is want, at that version.
func (s storeUnderTest) holds(id sessions.ID, version uint64, want sessions.Record) {
	s.Helper()
	got := s.load(id)
	if !bytes.Equal(got.Data, want.Data) {
		s.Errorf("got %d bytes of data, want the %d that were stored", len(got.Data), len(want.Data))
	}
	if got.Version != version {
		s.Errorf("got version %d, want %d", got.Version, version)
	}
	if end := want.Expires.Truncate(time.Millisecond); !got.Expires.Equal(end) {
		s.Errorf("got expiry %v, want %v", got.Expires, end)
	}
	if got.Owner != want.Owner {
		s.Errorf("got owner %q, want %q", got.Owner, want.Owner)
	}
}

func (s storeUnderTest) absent(id sessions.ID) {
	s.Helper()
	if rec, err := s.Load(bg, id); !errors.Is(err, sessions.ErrNotFound) {
		s.Errorf("Load: got %v, %v, want ErrNotFound", rec, err)
	}
}

func (s storeUnderTest) fails(what string, got, want error) {
	s.Helper()
	if !errors.Is(got, want) {
		s.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// owned returns how often Owned yields each id.
func (s storeUnderTest) owned(owner string) map[sessions.ID]int {
	s.Helper()
	ids := map[sessions.ID]int{}
	for id, err := range s.Owned(bg, owner) {
		if err != nil {
			s.Fatalf("Owned: %v", err)
		}
		ids[id]++
	}
	return ids
}

// storeOps are the operations of a Store on one id, for what all must do.
var storeOps = []struct {
	name string
	run  func(s sessions.Store, ctx context.Context, id sessions.ID, version uint64) error
}{
	{"Load", func(s sessions.Store, ctx context.Context, id sessions.ID, _ uint64) error {
		_, err := s.Load(ctx, id)
		return err
	}},
	{"Create", func(s sessions.Store, ctx context.Context, id sessions.ID, _ uint64) error {
		_, err := s.Create(ctx, id, recordFor(time.Hour, "new", "ada"))
		return err
	}},
	{"Update", func(s sessions.Store, ctx context.Context, id sessions.ID, version uint64) error {
		rec := recordFor(time.Hour, "new", "ada")
		rec.Version = version
		_, err := s.Update(ctx, id, rec)
		return err
	}},
	{"Touch", func(s sessions.Store, ctx context.Context, id sessions.ID, _ uint64) error {
		return s.Touch(ctx, id, time.Now().Add(2*time.Hour))
	}},
	{"Delete", func(s sessions.Store, ctx context.Context, id sessions.ID, _ uint64) error {
		return s.Delete(ctx, id, 0)
	}},
	{"Delete at its version", func(s sessions.Store, ctx context.Context, id sessions.ID, version uint64) error {
		return s.Delete(ctx, id, version)
	}},
}

var (
	oneID, otherID = storeID(1), storeID(2)

	oddOwners = []string{
		"a", "Ada Lovelace", "ada@example.com", "*", "a*", "%", "_", "a:b", "{a}", "a/../b", "'; DROP TABLE sessions; --",
		"\x00", "a\x00b", "\xff\xfe", "é", "e\u0301", "ADA", "ada", " ada", "ada ", "🦫", strings.Repeat("o", 300),
	}
)

// That MemoryStore does what a Store must is shown in stores/storetest. Here is
// what is its own.

func TestMemoryStoreExpiresToTheMillisecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storeUnderTest{t, new(sessions.MemoryStore)}
		time.Sleep(1234567 * time.Nanosecond)
		rec := recordFor(time.Minute, "data", "")
		s.create(oneID, rec)
		time.Sleep(time.Until(rec.Expires) - time.Millisecond)
		s.load(oneID)
		time.Sleep(time.Millisecond)
		s.absent(oneID)
	})
}

func TestZeroMemoryStoreIsReady(t *testing.T) {
	for _, op := range storeOps {
		t.Run(op.name, func(t *testing.T) {
			var m sessions.MemoryStore
			if err := op.run(&m, bg, oneID, 1); err != nil && !errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("got %v, want nil or ErrNotFound", err)
			}
		})
	}
	var m sessions.MemoryStore
	for range m.Owned(bg, "ada") {
		t.Error("Owned of an empty store yields something")
	}
}

// parallel runs f in n goroutines that begin together, and waits for them.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// The bound.

func TestAtMaxTheRightRecordGoes(t *testing.T) {
	type rec struct {
		ends  time.Duration
		owner string
	}
	for _, tt := range []struct {
		name string
		have []rec // before two minutes pass
		add  rec
		gone int
	}{
		{"the expired one first, whatever its owner", []rec{{time.Hour, ""}, {time.Minute, "ada"}, {2 * time.Hour, ""}}, rec{time.Hour, ""}, 1},
		{"else the one without an owner", []rec{{time.Hour, "ada"}, {10 * time.Hour, ""}, {2 * time.Hour, "bob"}}, rec{time.Hour, ""}, 1},
		{"of those without an owner the nearest to its expiry", []rec{{9 * time.Hour, ""}, {8 * time.Hour, ""}, {3 * time.Hour, "ada"}}, rec{time.Hour, "bob"}, 1},
		{"else the nearest to its expiry", []rec{{9 * time.Hour, "ada"}, {8 * time.Hour, "bob"}, {7 * time.Hour, "carl"}}, rec{time.Hour, "dora"}, 2},
		{"also for one without an owner", []rec{{7 * time.Hour, "ada"}, {8 * time.Hour, "bob"}, {9 * time.Hour, "carl"}}, rec{time.Hour, ""}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// The ids decide where the records lie, which must not matter.
			for shift := range 20 {
				synctest.Test(t, func(t *testing.T) {
					s := storeUnderTest{t, &sessions.MemoryStore{Max: 3}}
					for i, r := range tt.have {
						s.create(storeID(10*shift+i), recordFor(r.ends, "", r.owner))
					}
					time.Sleep(2 * time.Minute)
					s.create(storeID(10*shift+9), recordFor(tt.add.ends, "", tt.add.owner))
					for i := range tt.have {
						if i == tt.gone {
							s.absent(storeID(10*shift + i))
						} else {
							s.load(storeID(10*shift + i))
						}
					}
					s.load(storeID(10*shift + 9))
				})
			}
		})
	}
}

func TestAtMaxTouchAndUpdateCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storeUnderTest{t, &sessions.MemoryStore{Max: 3}}
		var versions [3]uint64
		for i := range versions {
			versions[i] = s.create(storeID(i), recordFor(time.Duration(i+1)*time.Hour, "", ""))
		}
		s.fails("Touch", s.Touch(bg, storeID(0), time.Now().Add(9*time.Hour)), nil)
		s.update(storeID(1), versions[1], recordFor(time.Hour, "", "ada")) // signed in: worth more now
		s.create(storeID(3), recordFor(8*time.Hour, "", ""))
		s.absent(storeID(2))
		s.create(storeID(4), recordFor(8*time.Hour, "", ""))
		s.absent(storeID(3))
		s.load(storeID(0))
		s.load(storeID(1))
	})
}

func TestAtMaxACreateThatFailsEvictsNothing(t *testing.T) {
	s := storeUnderTest{t, &sessions.MemoryStore{Max: 2}}
	rec := recordFor(time.Hour, "data", "")
	other := recordFor(2*time.Hour, "other", "")
	version, otherVersion := s.create(oneID, rec), s.create(otherID, other)
	for _, id := range []sessions.ID{oneID, otherID} {
		_, err := s.Create(bg, id, recordFor(3*time.Hour, "late", ""))
		s.fails("Create of an id that is taken", err, sessions.ErrExists)
	}
	canceled, cancel := context.WithCancel(bg)
	cancel()
	_, err := s.Create(canceled, storeID(3), recordFor(3*time.Hour, "late", ""))
	s.fails("Create", err, context.Canceled)
	s.holds(oneID, version, rec)
	s.holds(otherID, otherVersion, other)
}

func TestOwnedSessionsSurviveTenThousandAnonymousOnes(t *testing.T) {
	for _, goroutines := range []int{1, 64} {
		t.Run(fmt.Sprintf("of %d goroutines", goroutines), func(t *testing.T) {
			const bound, owned, anonymous = 100, 99, 10_000
			s := storeUnderTest{t, &sessions.MemoryStore{Max: bound}}
			for i := range owned {
				s.create(storeID(-1-i), recordFor(time.Hour, "", "ada"))
			}
			var next atomic.Int64
			parallel(goroutines, func(int) {
				for i := int(next.Add(1)); i <= anonymous; i = int(next.Add(1)) {
					if _, err := s.Create(bg, storeID(i), recordFor(24*time.Hour, "", "")); err != nil {
						t.Error(err)
					}
				}
			})
			left := 0
			for i := range owned {
				if _, err := s.Load(bg, storeID(-1-i)); err == nil {
					left++
				}
			}
			if left != owned {
				t.Errorf("%d of %d sessions with an owner are left, want all: there was always one without to evict", left, owned)
			}
		})
	}
}

func TestThereAreNeverMoreThanMax(t *testing.T) {
	for _, bound := range []int{1, 10, 100} {
		t.Run(fmt.Sprint(bound), func(t *testing.T) {
			m := &sessions.MemoryStore{Max: bound}
			s := storeUnderTest{t, m}
			// All of one owner, so that Owned tells how many there are at a moment.
			most := 0
			stop, watched := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(watched)
				for {
					n := 0
					for range m.Owned(bg, "ada") {
						n++
					}
					most = max(most, n)
					select {
					case <-stop:
						return
					default:
					}
				}
			}()
			parallel(64, func(g int) {
				for i := range 100 {
					if _, err := m.Create(bg, storeID(1000*g+i), recordFor(time.Hour, "", "ada")); err != nil {
						t.Error(err)
					}
				}
			})
			close(stop)
			<-watched
			if most > bound {
				t.Errorf("got %d records at one moment, want at most %d", most, bound)
			}
			if n := len(s.owned("ada")); n > bound || m.Len() > bound {
				t.Errorf("got %d records and Len %d in the end, want at most %d", n, m.Len(), bound)
			}
			// And what is there stays: nothing is evicted below the bound.
			if n := len(s.owned("ada")); n < bound {
				t.Errorf("got %d records in the end, want %d: there was room", n, bound)
			}
		})
	}
}

// The sweep.

func TestExpiredRecordsGoAwayAsTheStoreIsUsed(t *testing.T) {
	for _, owner := range []string{"", "ada"} {
		t.Run(fmt.Sprintf("owner %q", owner), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // which would find a goroutine left behind
				const expired = 100_000
				m := new(sessions.MemoryStore)
				s := storeUnderTest{t, m}
				rec := recordFor(time.Minute, "", owner)
				for i := range expired {
					s.create(storeID(i), rec)
				}
				time.Sleep(time.Hour)
				if m.Len() != expired {
					t.Fatalf("got %d records before any use, want %d", m.Len(), expired)
				}
				used := 0
				for ; m.Len() > used && used < expired; used++ {
					s.create(storeID(-1-used), recordFor(time.Hour, "", ""))
				}
				if m.Len() > used {
					t.Errorf("%d expired records are left after %d new ones", m.Len()-used, used)
				}
				if n := len(s.owned("ada")); n > 0 {
					t.Errorf("%d expired records are left in the index of owners", n)
				}
			})
		})
	}
}

func TestEveryUseSweeps(t *testing.T) {
	for _, op := range storeOps[:4] {
		for _, found := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, found %t", op.name, found), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const expired, live, uses = 2000, 500, 20_000
					m := new(sessions.MemoryStore)
					s := storeUnderTest{t, m}
					for i := range expired {
						s.create(storeID(i), recordFor(time.Minute, "", ""))
					}
					time.Sleep(time.Hour)
					before := m.Len()
					versions := map[sessions.ID]uint64{}
					for i := range live {
						versions[storeID(-1-i)] = s.create(storeID(-1-i), recordFor(time.Hour, "", ""))
					}
					if m.Len() >= before+live {
						t.Fatal("Create swept nothing")
					}
					for i := range uses {
						id := storeID(-1 - i%live)
						if !found {
							id = storeID(-10_000 - i)
						}
						_ = op.run(m, bg, id, versions[id])
						if op.name == "Update" && found {
							versions[id] = s.load(id).Version
						}
						if op.name == "Create" && !found {
							_ = m.Delete(bg, id, 0)
						}
					}
					if m.Len() != live {
						t.Errorf("got %d records after %d uses, want the %d live ones", m.Len(), uses, live)
					}
				})
			})
		}
	}
}

func TestAStreamOfShortSessionsStaysSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(sessions.MemoryStore)
		s := storeUnderTest{t, m}
		most := 0
		for i := range 50_000 { // 1,000 are alive at a time
			s.create(storeID(i), recordFor(time.Second, "", ""))
			most = max(most, m.Len())
			time.Sleep(time.Millisecond)
		}
		if most > 1500 {
			t.Errorf("got %d records at a time, want about the 1,000 live ones", most)
		}
	})
}

// The cost of an operation must not grow with the number of records.
func BenchmarkMemoryStore(b *testing.B) {
	for _, n := range []int{1_000, 200_000} {
		for _, bound := range []int{0, n} {
			m := &sessions.MemoryStore{Max: bound}
			ids := make([]sessions.ID, n)
			versions, owners := make([]uint64, n), make([]string, n)
			data := string(make([]byte, 200))
			for i := range ids {
				ids[i], owners[i] = storeID(i), fmt.Sprint(i/3)
				versions[i], _ = m.Create(bg, ids[i], recordFor(time.Hour+time.Duration(i)*time.Millisecond, data, owners[i]))
			}
			name := fmt.Sprintf("%d records", n)
			if bound > 0 {
				name += " at Max"
				fresh := n
				b.Run(name+"/Create", func(b *testing.B) {
					b.ReportAllocs()
					rec := recordFor(time.Hour, data, "")
					for b.Loop() {
						fresh++
						_, _ = m.Create(bg, storeID(fresh), rec)
					}
				})
				continue
			}
			i := 0
			next := func() int { i = (i + 7919) % n; return i }
			b.Run(name+"/Load", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := m.Load(bg, ids[next()]); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+"/Load of an absent id", func(b *testing.B) {
				b.ReportAllocs()
				absent := storeID(-1)
				for b.Loop() {
					_, _ = m.Load(bg, absent)
				}
			})
			b.Run(name+"/Update", func(b *testing.B) {
				b.ReportAllocs()
				rec := recordFor(3*time.Hour, data, "")
				for b.Loop() {
					i := next()
					rec.Owner, rec.Version, rec.Expires = owners[i], versions[i], rec.Expires.Add(time.Millisecond)
					var err error
					if versions[i], err = m.Update(bg, ids[i], rec); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+"/Touch", func(b *testing.B) {
				b.ReportAllocs()
				end := time.Now().Add(30 * 24 * time.Hour)
				for b.Loop() {
					end = end.Add(time.Millisecond)
					if err := m.Touch(bg, ids[next()], end); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+"/Create and Delete", func(b *testing.B) {
				b.ReportAllocs()
				rec, id := recordFor(time.Hour, data, "bob"), storeID(-1)
				for b.Loop() {
					version, _ := m.Create(bg, id, rec)
					if err := m.Delete(bg, id, version); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+"/Load in parallel", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for i := 0; pb.Next(); i = (i + 7919) % n {
						_, _ = m.Load(bg, ids[i])
					}
				})
			})
		}
	}
}

func TestMemoryStoreCreatesNoIDTwice(t *testing.T) {
	for _, bound := range []int{0, 10} {
		t.Run(fmt.Sprintf("Max %d", bound), func(t *testing.T) {
			store := &sessions.MemoryStore{Max: bound}
			version, err := store.Create(t.Context(), oneID, recordFor(time.Minute, "first", ""))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := store.Create(t.Context(), oneID, recordFor(time.Minute, "second", "")); !errors.Is(err, sessions.ErrExists) {
				t.Errorf("got %v, want %v", err, sessions.ErrExists)
			}
			if rec, err := store.Load(t.Context(), oneID); err != nil || string(rec.Data) != "first" || rec.Version != version || store.Len() != 1 {
				t.Errorf("got %q at version %d (%v), %d records, want the first one alone", rec.Data, rec.Version, err, store.Len())
			}
		})
	}
}

// Labels.

func storedWith(t *testing.T, s sessions.LabelStore, label string) map[sessions.ID]bool {
	t.Helper()
	ids := map[sessions.ID]bool{}
	for id, err := range s.Labelled(bg, label) {
		if err != nil || ids[id] {
			t.Fatalf("Labelled(%q): got %v, %v, want each id once", label, id, err)
		}
		ids[id] = true
	}
	return ids
}

func TestMemoryStoreIndexesWhatTheRecordsHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &sessions.MemoryStore{Max: 30}
		rnd := rand.New(rand.NewPCG(1, 2))
		keys := []string{"", "a", "b", "c", "d"}
		pick := func() (labels []string) {
			for _, i := range rnd.Perm(len(keys) - 1)[:rnd.IntN(len(keys))] {
				labels = append(labels, keys[1+i])
			}
			return labels
		}
		for step := range 5000 {
			id := storeID(rnd.IntN(40))
			rec, err := m.Load(bg, id)
			next := recordFor(time.Duration(1+rnd.IntN(100))*time.Minute, "", keys[rnd.IntN(len(keys))])
			next.Version, next.Labels = rec.Version, pick()
			switch op := rnd.IntN(10); {
			case err != nil:
				_, err = m.Create(bg, id, next)
			case op == 0:
				err = m.Delete(bg, id, rec.Version)
			case op == 1:
				time.Sleep(time.Minute)
				err = nil
			default:
				_, err = m.Update(bg, id, next)
			}
			if err != nil && !errors.Is(err, sessions.ErrNotFound) {
				t.Fatal(err)
			}
			owned, tagged := map[string]int{}, map[string]int{}
			for n := range 40 {
				rec, err := m.Load(bg, storeID(n))
				if err != nil {
					continue
				}
				owned[rec.Owner]++
				for _, label := range rec.Labels {
					tagged[label]++
				}
			}
			// All that is expired was just asked for, so that the indexes hold what lives.
			for _, key := range keys[1:] {
				ids := storeUnderTest{t, m}.owned(key)
				for id := range ids {
					if rec, err := m.Load(bg, id); err != nil || rec.Owner != key {
						t.Fatalf("step %d: Owned(%q) yields %v of %q (%v)", step, key, id, rec.Owner, err)
					}
				}
				if len(ids) != owned[key] {
					t.Fatalf("step %d: Owned(%q) yields %d ids, want %d", step, key, len(ids), owned[key])
				}
				found := storedWith(t, m, key)
				for id := range found {
					if rec, err := m.Load(bg, id); err != nil || !slices.Contains(rec.Labels, key) {
						t.Fatalf("step %d: Labelled(%q) yields %v with %q (%v)", step, key, id, rec.Labels, err)
					}
				}
				if len(found) != tagged[key] {
					t.Fatalf("step %d: Labelled(%q) yields %d ids, want %d", step, key, len(found), tagged[key])
				}
			}
			if len(storedWith(t, m, "")) > 0 {
				t.Fatal("Labelled(\"\") yields something")
			}
		}
	})
}

func TestAnOddLabelFindsItsOwnRecordOnly(t *testing.T) {
	m := new(sessions.MemoryStore)
	for i, label := range oddOwners {
		rec := recordFor(time.Hour, "", "ada")
		rec.Labels = []string{label, "all"}
		storeUnderTest{t, m}.create(storeID(i), rec)
	}
	for i, label := range oddOwners {
		if ids := storedWith(t, m, label); len(ids) != 1 || !ids[storeID(i)] {
			t.Errorf("Labelled(%.20q): got %d ids, want its own", label, len(ids))
		}
	}
	if ids := storedWith(t, m, "all"); len(ids) != len(oddOwners) {
		t.Errorf("got %d ids with the label that all have, want %d", len(ids), len(oddOwners))
	}
}

func TestALabelThatStaysIsNeverMissed(t *testing.T) {
	m := new(sessions.MemoryStore)
	s := storeUnderTest{t, m}
	with := func(labels ...string) sessions.Record {
		rec := recordFor(time.Hour, "", "")
		rec.Labels = labels
		return rec
	}
	version := s.create(oneID, with("stays", "old"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 2000 {
			version = s.update(oneID, version, [...]sessions.Record{with("new", "stays"), with("stays", "old")}[i%2])
		}
	}()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		if !storedWith(t, m, "stays")[oneID] {
			t.Fatal("Labelled missed a record that has the label all the time")
		}
	}
}

func TestNobodyChangesLabelsThatWereStored(t *testing.T) {
	m := new(sessions.MemoryStore)
	s := storeUnderTest{t, m}
	rec := recordFor(time.Hour, "", "")
	rec.Labels = []string{"a", "b"}
	version := s.create(oneID, rec)
	rec.Labels[0] = "mine"
	first := s.load(oneID)
	rec.Labels = []string{"c"}
	s.update(oneID, version, rec)
	rec.Labels[0] = "mine"
	second := s.load(oneID)
	if !slices.Equal(first.Labels, []string{"a", "b"}) || !slices.Equal(second.Labels, []string{"c"}) {
		t.Errorf("got labels %q, then %q, want those at the time of the writes", first.Labels, second.Labels)
	}
	if n := len(storedWith(t, m, "mine")); n > 0 {
		t.Error("the index has a label that was never stored")
	}
}

// Changes.

// A listener collects what Changes yields.
type listener struct {
	mu     sync.Mutex
	ids    []sessions.ID
	ended  bool
	cancel context.CancelFunc
}

// listen begins to listen, within a synctest bubble.
func listen(t *testing.T, m *sessions.MemoryStore) *listener {
	ctx, cancel := context.WithCancel(bg)
	t.Cleanup(cancel)
	l := &listener{cancel: cancel}
	go func() {
		for id, err := range m.Changes(ctx) {
			if err != nil {
				t.Error(err)
			}
			l.mu.Lock()
			l.ids = append(l.ids, id)
			l.mu.Unlock()
		}
		l.mu.Lock()
		l.ended = true
		l.mu.Unlock()
	}()
	synctest.Wait()
	return l
}

// take returns what was yielded since the last time.
func (l *listener) take() []sessions.ID {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := l.ids
	l.ids = nil
	return ids
}

func TestChangesYieldsUpdatesAndEndsAtOnceAndNothingElse(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(m *sessions.MemoryStore, version uint64) error
		want []sessions.ID
	}{
		{"an Update", func(m *sessions.MemoryStore, version uint64) error {
			rec := recordFor(time.Hour, "new", "")
			rec.Version = version
			_, err := m.Update(bg, oneID, rec)
			return err
		}, []sessions.ID{oneID}},
		{"a Delete", func(m *sessions.MemoryStore, _ uint64) error { return m.Delete(bg, oneID, 0) }, []sessions.ID{oneID}},
		{"a Delete at its version", func(m *sessions.MemoryStore, version uint64) error { return m.Delete(bg, oneID, version) }, []sessions.ID{oneID}},
		{"an eviction at Max", func(m *sessions.MemoryStore, _ uint64) error {
			_, err := m.Create(bg, otherID, recordFor(time.Hour, "", ""))
			return err
		}, []sessions.ID{oneID}},
		{"a Create", func(m *sessions.MemoryStore, _ uint64) error {
			m.Max = 2
			_, err := m.Create(bg, otherID, recordFor(time.Hour, "", ""))
			return err
		}, nil},
		{"a Touch", func(m *sessions.MemoryStore, _ uint64) error {
			return m.Touch(bg, oneID, time.Now().Add(2*time.Hour))
		}, nil},
		{"a Load", func(m *sessions.MemoryStore, _ uint64) error {
			_, err := m.Load(bg, oneID)
			return err
		}, nil},
		{"expiry", func(m *sessions.MemoryStore, _ uint64) error {
			time.Sleep(2 * time.Hour)
			return m.Delete(bg, oneID, 0)
		}, nil},
		{"expiry, at Max", func(m *sessions.MemoryStore, _ uint64) error {
			time.Sleep(2 * time.Hour)
			_, err := m.Create(bg, otherID, recordFor(time.Hour, "", ""))
			return err
		}, nil},
		{"an Update that conflicts", func(m *sessions.MemoryStore, version uint64) error {
			rec := recordFor(time.Hour, "new", "")
			rec.Version = version + 100
			if _, err := m.Update(bg, oneID, rec); !errors.Is(err, sessions.ErrConflict) {
				return fmt.Errorf("got %v, want a conflict", err)
			}
			return nil
		}, nil},
		{"a Delete that conflicts", func(m *sessions.MemoryStore, version uint64) error {
			if err := m.Delete(bg, oneID, version+100); !errors.Is(err, sessions.ErrConflict) {
				return fmt.Errorf("got %v, want a conflict", err)
			}
			return nil
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &sessions.MemoryStore{Max: 1}
				version := storeUnderTest{t, m}.create(oneID, recordFor(time.Hour, "data", ""))
				l, second := listen(t, m), listen(t, m)
				if err := tt.do(m, version); err != nil {
					t.Fatal(err)
				}
				for i, got := range [][]sessions.ID{l.take(), second.take()} {
					if !slices.Equal(got, tt.want) {
						t.Errorf("listener %d: got %v, want %v", i, got, tt.want)
					}
				}
			})
		})
	}
}

func TestWhoIsToldOfAChangeFindsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const updates = 1000 // fewer than the buffer has room for
		m := new(sessions.MemoryStore)
		s := storeUnderTest{t, m}
		version := s.create(oneID, recordFor(time.Hour, "", ""))
		ctx, cancel := context.WithCancel(bg)
		defer cancel()
		var found []uint64
		go func() {
			for range m.Changes(ctx) {
				rec, _ := m.Load(bg, oneID)
				found = append(found, rec.Version)
			}
		}()
		synctest.Wait()
		var stored []uint64
		for range updates {
			version = s.update(oneID, version, recordFor(time.Hour, "", ""))
			stored = append(stored, version)
		}
		synctest.Wait()
		if len(found) != updates {
			t.Fatalf("got %d ids, want %d", len(found), updates)
		}
		for i := range found {
			if found[i] < stored[i] {
				t.Fatalf("who was told of version %d found version %d", stored[i], found[i])
			}
		}
	})
}

func TestASlowListenerHearsOnceThatItMissedSome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(sessions.MemoryStore)
		s := storeUnderTest{t, m}
		slow, goOn := make(chan struct{}), make(chan struct{})
		var got []sessions.ID
		ctx, cancel := context.WithCancel(bg)
		defer cancel()
		go func() {
			for id := range m.Changes(ctx) {
				if got = append(got, id); len(got) == 1 {
					close(slow)
					<-goOn
				}
			}
		}()
		synctest.Wait()
		quick := listen(t, m)
		change := func(id sessions.ID) {
			s.create(id, recordFor(time.Hour, "", ""))
			s.fails("Delete", m.Delete(bg, id, 0), nil)
		}
		change(oneID)
		<-slow
		for i := range 100_000 { // and none of them waits
			change(storeID(i))
			if i%100 == 0 {
				synctest.Wait() // for the quick one
			}
		}
		close(goOn)
		synctest.Wait()
		if !slices.Equal(got, []sessions.ID{oneID, {}}) {
			t.Errorf("got %d ids, the last %v, want the first and the zero ID", len(got), got[len(got)-1])
		}
		change(otherID)
		synctest.Wait()
		if len(got) != 3 || got[2] != otherID {
			t.Errorf("got %d ids, the last %v, want one more: %v", len(got), got[len(got)-1], otherID)
		}
		if ids := quick.take(); len(ids) != 100_002 || slices.Contains(ids, sessions.ID{}) {
			t.Errorf("the quick one got %d ids, want all 100,002", len(ids))
		}
	})
}

func TestChangesEndsWithItsContextOrItsLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(sessions.MemoryStore)
		s := storeUnderTest{t, m}
		l := listen(t, m)
		stays := listen(t, m)
		broke := false
		go func() {
			for range m.Changes(bg) {
				break
			}
			broke = true
		}()
		synctest.Wait()
		l.cancel()
		s.create(oneID, recordFor(time.Hour, "", ""))
		s.fails("Delete", m.Delete(bg, oneID, 0), nil)
		if got := l.take(); !l.ended || len(got) > 1 {
			t.Errorf("ended: %t after %d ids, want an end with the context", l.ended, len(got))
		}
		if !broke {
			t.Error("the loop that breaks has not ended")
		}
		if got := stays.take(); len(got) != 1 {
			t.Errorf("the listener that stays got %d ids, want 1", len(got))
		}
		canceled, cancel := context.WithCancel(bg)
		cancel()
		for id, err := range m.Changes(canceled) {
			t.Errorf("got %v, %v of a context that has ended, want nothing", id, err)
		}
	})
}

func TestLoopsOverChangesThatEndedLeaveNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(sessions.MemoryStore)
		used := func(loops int) uint64 {
			for range loops {
				listen(t, m).cancel()
				synctest.Wait()
			}
			runtime.GC()
			var mem runtime.MemStats
			runtime.ReadMemStats(&mem)
			return mem.HeapAlloc
		}
		before := used(10)
		if after := used(500); after > before+4<<20 {
			t.Errorf("got %d bytes in use after 500 loops, %d before, want no growth", after, before)
		}
		runtime.KeepAlive(m)
	})
}

// A new id leaves a record that says replaced, for a minute.
func TestNewIDsInARowDoNotFillAMemoryStoreBeyondMax(t *testing.T) {
	memory := &sessions.MemoryStore{Max: 3}
	s := newSite(t, modes[3], func(c *config) { c.Store = memory })
	b := s.browser()
	b.do(func(s *session) { s.Data.N = 1 })
	for range 20 {
		b.do((*session).RotateID)
	}
	if n := memory.Len(); n > 4 {
		t.Errorf("got %d records, want 3 and a tombstone at most", n)
	}
	if d, _ := b.peek(); d.N != 1 {
		t.Errorf("got N=%d, want the session", d.N)
	}
}

// A tombstoneRecord is what a new id leaves under the old one.
func tombstoneRecord(d time.Duration) sessions.Record {
	end := time.Now().Add(d).Unix()
	data := append([]byte{0x13}, binary.BigEndian.AppendUint64(nil, uint64(end))[3:]...)
	return sessions.Record{Data: data, Expires: time.Unix(end, 0)}
}

// shardID returns an id of the shard of MemoryStore that all ids with n = 0 mod 64
// in their first byte are in.
func shardID(first, n byte) (id sessions.ID) { id[0], id[1] = first, n; return id }

// A record that a new id has replaced is worth less than any session.
func TestAtMaxATombstoneGoesBeforeASessionThatEndsSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &sessions.MemoryStore{Max: 2}
		s := storeUnderTest{t, m}
		live, old, third := shardID(0, 1), shardID(0, 2), shardID(1, 3)
		s.create(live, recordFor(30*time.Second, "visitor", ""))
		v := s.create(old, recordFor(time.Hour, "moved", ""))
		s.update(old, v, tombstoneRecord(time.Minute))
		s.create(third, recordFor(time.Hour, "new", ""))
		if _, err := m.Load(bg, live); err != nil {
			t.Errorf("got %v: the session was evicted, and the tombstone stays", err)
		}
	})
}

// Each shard has one session that ends within the minute of a tombstone, as with an
// IdleTimeout of less than a minute.
func TestMovesInARowDoNotFillAMemoryStoreWhoseSessionsEndSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := &sessions.MemoryStore{Max: 65}
		s := newSite(t, modes[3], func(c *config) { c.Store = memory })
		for i := range byte(64) {
			if _, err := memory.Create(bg, shardID(i, 0), recordFor(50*time.Second, "x", "")); err != nil {
				t.Fatal(err)
			}
		}
		b := s.browser()
		b.do(func(s *session) { s.Data.N = 1 })
		for range 1000 {
			b.do((*session).RotateID)
		}
		if n := memory.Len(); n > 66 {
			t.Errorf("got %d records, want 65 and one tombstone", n)
		}
		if d, _ := b.peek(); d.N != 1 {
			t.Errorf("got N=%d, want the session", d.N)
		}
	})
}

// There are no more records than Max and one for each session that moves, and who
// watches what is evicted is told.
func TestParallelMovesAtMaxLoseNobody(t *testing.T) {
	const sessionsAtOnce, most = 8, 10
	memory := &sessions.MemoryStore{Max: most}
	s := newSite(t, modes[3], func(c *config) { c.Store = memory; c.Owner = ownerOfUser })
	var browsers []*browser
	for i := range sessionsAtOnce {
		b, _ := signIn(s, i+1)
		browsers = append(browsers, b)
	}
	visitor := s.browser()
	visitor.do(func(s *session) { s.Data.N = 1; s.SetLifetime(time.Hour) }) // the first to end
	var ended context.Context
	visitor.do(func(s *session) {
		var cancel context.CancelFunc
		ended, cancel = s.Watch(bg)
		t.Cleanup(cancel)
	})
	var wg sync.WaitGroup
	for _, b := range browsers {
		wg.Go(func() {
			for range 200 {
				b.do((*session).RotateID)
				if n := memory.Len(); n > most+sessionsAtOnce {
					t.Errorf("got %d records", n)
				}
			}
		})
	}
	wg.Wait()
	for i, b := range browsers {
		if d, reason := b.peek(); d.UserID != i+1 {
			t.Errorf("session %d is gone: %q", i, reason)
		}
	}
	for range 3 {
		s.browser().do(func(s *session) { s.Data.N = 2 })
	}
	if d, _ := visitor.peek(); d.N == 1 {
		t.Error("the visitor was not evicted")
		return
	}
	select {
	case <-ended.Done():
	case <-time.After(10 * time.Second):
		t.Error("who watches the evicted session was not told")
	}
}
