package redisstore_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/redisstore"
)

func labelled(t testing.TB, store *redisstore.Store, label string) map[sessions.ID]int {
	t.Helper()
	times := make(map[sessions.ID]int)
	for id, err := range store.Labelled(t.Context(), label) {
		if err != nil {
			t.Fatal(err)
		}
		times[id]++
	}
	return times
}

// with returns rec with other labels.
func with(rec sessions.Record, labels ...string) sessions.Record {
	rec.Labels = labels
	return rec
}

// hasLabels fails the test unless Load returns these labels, in any order, and
// Labelled yields the id once for each of them and for none of the others.
func hasLabels(t testing.TB, when string, store *redisstore.Store, id sessions.ID, labels []string, others ...string) {
	t.Helper()
	rec, err := store.Load(t.Context(), id)
	if err != nil {
		t.Fatalf("Load %s: %v", when, err)
	}
	if got, want := slices.Sorted(slices.Values(rec.Labels)), slices.Sorted(slices.Values(labels)); !slices.Equal(got, want) {
		t.Errorf("%s: Load returns the labels %q, want %q", when, got, want)
	}
	for _, label := range labels {
		if got := labelled(t, store, label)[id]; got != 1 {
			t.Errorf("%s: Labelled(%.40q) yields the session %d times, want once", when, label, got)
		}
	}
	for _, label := range others {
		if slices.Contains(labels, label) {
			continue
		}
		if got := labelled(t, store, label)[id]; got != 0 {
			t.Errorf("%s: Labelled(%.40q) yields the session, which does not have the label", when, label)
		}
	}
}

func TestLabelledYieldsWhatHasTheLabelAndNoneThatLostIt(t *testing.T) {
	store := redisstore.New(connectTo(t, testserver.Redis(t).Addr), redisstore.Options{})
	id := idOf(1)
	all := []string{"sid:1", "tenant:a", "tenant:b"}
	version := create(t, store, id, with(recordOf("data", ""), "tenant:a", "sid:1"))
	hasLabels(t, "after Create", store, id, []string{"sid:1", "tenant:a"}, all...)
	version = update(t, store, id, version, with(recordOf("data", "ada"), "sid:1", "tenant:b"))
	hasLabels(t, "after one label was changed", store, id, []string{"sid:1", "tenant:b"}, all...)
	if got := owned(t, store, "ada"); got[id] != 1 {
		t.Errorf("Owned yields the session %d times, want once", got[id])
	}
	version = update(t, store, id, version, with(recordOf("data", "ada"), "tenant:b"))
	hasLabels(t, "after one label was removed", store, id, []string{"tenant:b"}, all...)
	version = update(t, store, id, version, with(recordOf("data", ""), "tenant:b"))
	hasLabels(t, "after the owner was removed", store, id, []string{"tenant:b"}, all...)
	if got := len(owned(t, store, "ada")); got != 0 {
		t.Errorf("Owned yields %d sessions that no longer have the owner", got)
	}
	version = update(t, store, id, version, recordOf("data", ""))
	hasLabels(t, "after all labels were removed", store, id, nil, all...)
	version = update(t, store, id, version, with(recordOf("data", ""), "tenant:a"))
	hasLabels(t, "after a label came back", store, id, []string{"tenant:a"}, all...)
	if err := store.Delete(t.Context(), id, version); err != nil {
		t.Fatal(err)
	}
	if got := len(labelled(t, store, "tenant:a")); got != 0 {
		t.Errorf("Labelled yields %d sessions, and none exists", got)
	}
	create(t, store, id, with(recordOf("data", ""), "tenant:b"))
	hasLabels(t, "after it was created again", store, id, []string{"tenant:b"}, all...)
}

func TestLabelsThatDifferInAnyByteAreDifferent(t *testing.T) {
	store := redisstore.New(connectTo(t, testserver.Redis(t).Addr), redisstore.Options{})
	odd := []string{
		"a", "A", "a ", " a", "a\x00", "\x00", "\xff", "*", "?", "[a]", "{a}", "{b}", "a:b", "@a", "#a", "é", "e\u0301", "\r\n",
		strings.Repeat("l", 127), strings.Repeat("l", 128), strings.Repeat("l", 235), strings.Repeat("l", 236), strings.Repeat("l", 4000),
	}
	for i, label := range odd {
		create(t, store, idOf(i), with(recordOf("data", label), label)) // an owner is no label, and no label an owner
	}
	create(t, store, idOf(len(odd)), with(recordOf("data", ""), odd...))
	for i, label := range odd {
		got := labelled(t, store, label)
		if len(got) != 2 || got[idOf(i)] != 1 || got[idOf(len(odd))] != 1 {
			t.Errorf("Labelled(%.40q) yields %d sessions, %d and %d times that with this label and that with all labels, want once each",
				label, len(got), got[idOf(i)], got[idOf(len(odd))])
		}
		if got := owned(t, store, label); len(got) != 1 || got[idOf(i)] != 1 {
			t.Errorf("Owned(%.40q) yields %d sessions, want only that of this owner", label, len(got))
		}
	}
	if got := len(labelled(t, store, "")); got != 0 {
		t.Errorf(`Labelled("") yields %d sessions, want none`, got)
	}
}

func TestLabelOfThousandsOfSessions(t *testing.T) {
	const n = 1700
	store := redisstore.New(connectTo(t, testserver.Redis(t).Addr), redisstore.Options{})
	long := strings.Repeat("x", 300)
	var wg sync.WaitGroup
	for worker := range 10 {
		wg.Go(func() {
			for i := worker; i < n; i += 10 {
				rec := with(recordOf(strings.Repeat("d", i%700), ""), "tenant:a")
				if i%3 == 0 {
					rec = with(rec, "tenant:a", "a"+long) // before it, in ascending order
				}
				if _, err := store.Create(context.Background(), idOf(i), rec); err != nil {
					t.Errorf("Create: %v", err)
				}
			}
		})
	}
	wg.Wait()
	got := labelled(t, store, "tenant:a")
	for i := range n {
		if got[idOf(i)] != 1 {
			t.Fatalf("Labelled yields session %d %d times, want once", i, got[idOf(i)])
		}
	}
	if len(got) != n {
		t.Errorf("Labelled yields %d sessions, want %d", len(got), n)
	}
}

func TestWithoutItsEntriesInTheIndexesOfItsLabelsNoRecordIsWritten(t *testing.T) {
	client := connectTo(t, testserver.Redis(t).Addr)
	store := redisstore.New(client, redisstore.Options{})
	rec := with(recordOf("data", "ada"), "good", "old")
	rec.Version = create(t, store, idOf(1), rec)
	for _, label := range []string{"bad", "old"} { // make writes to the index fail
		if err := client.Do(t.Context(), client.B().Set().Key("session#"+label).Value("").Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	_, createErr := store.Create(t.Context(), idOf(2), with(rec, "bad", "good"))
	_, updateErr := store.Update(t.Context(), idOf(1), with(rec, "bad", "good"))
	for name, err := range map[string]error{
		"Create": createErr, "Update": updateErr, "Touch": store.Touch(t.Context(), idOf(1), rec.Expires.AddDate(0, 0, 2)),
	} {
		if _, isRedis := rueidis.IsRedisErr(err); !isRedis {
			t.Errorf("%s: got %v, want the error of Redis", name, err)
		}
	}
	loads(t, "after Create", store, idOf(2), 0)
	got, err := store.Load(t.Context(), idOf(1))
	if err != nil || got.Version != rec.Version || !slices.Equal(got.Labels, rec.Labels) || !got.Expires.Equal(rec.Expires) {
		t.Errorf("got %v with %q, %v, want the record as it was", got, got.Labels, err)
	}
}

// The test reads the expiries in Redis, since it cannot wait for days.
func TestIndexesOfLabelsOutliveTheRecord(t *testing.T) {
	client := connectTo(t, testserver.Redis(t).Addr)
	store := redisstore.New(client, redisstore.Options{})
	id := idOf(1)
	check := func(when string, owner string, labels ...string) {
		t.Helper()
		rec, err := store.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		keys := []string{"session@" + owner}
		for _, label := range labels {
			keys = append(keys, "session#"+label)
		}
		least := rec.Expires.Add(24 * time.Hour).UnixMilli()
		for _, key := range keys {
			score, err := client.Do(t.Context(), client.B().Zscore().Key(key).Member(string(id[:])).Build()).AsFloat64()
			if err != nil || int64(score) < least {
				t.Errorf("after %s the entry in %s lasts until %v (%v), want at least a day longer than the record, %v", when, key, int64(score), err, least)
			}
			end, err := client.Do(t.Context(), client.B().Pexpiretime().Key(key).Build()).AsInt64()
			if err != nil || end < int64(score) {
				t.Errorf("after %s the index %s lasts until %v (%v), want as long as its last entry, %v", when, key, end, err, int64(score))
			}
		}
		hasLabels(t, "after "+when, store, id, labels)
	}
	lasting := func(days int, owner string, labels ...string) sessions.Record {
		rec := with(recordOf("", owner), labels...)
		rec.Expires = rec.Expires.AddDate(0, 0, days)
		return rec
	}
	touch := func(days int) {
		t.Helper()
		if err := store.Touch(t.Context(), id, time.Now().AddDate(0, 0, days)); err != nil {
			t.Fatal(err)
		}
	}
	version := create(t, store, id, lasting(0, "ada", "a", "b"))
	check("Create", "ada", "a", "b")
	touch(10)
	check("Touch", "ada", "a", "b")
	version = update(t, store, id, version, lasting(50, "ada", "b", "a"))
	check("an Update that prolongs it", "ada", "a", "b")
	version = update(t, store, id, version, lasting(1, "ada", "a", "b"))
	touch(60)
	check("an Update that shortens it and a Touch", "ada", "a", "b")
	version = update(t, store, id, version, lasting(1, "ada", "b", "c"))
	touch(70)
	check("a change of labels and a Touch", "ada", "b", "c")
	version = update(t, store, id, version, lasting(80, "eve", "b", "c"))
	touch(90)
	check("a change of owner and a Touch", "eve", "b", "c")
	version = update(t, store, id, version, lasting(1, "eve"))
	version = update(t, store, id, version, lasting(1, "eve", "a"))
	touch(100)
	check("a label that it once had and a Touch", "eve", "a")
	for n := range 300 { // more than there are tags
		version = update(t, store, id, version, lasting(100+n, "eve", fmt.Sprint(n)))
		check("one change of many", "eve", fmt.Sprint(n))
	}
}

// tripsTo returns a client, and a function that returns how many round trips f takes
// over its connection.
func tripsTo(t *testing.T, addr string) (rueidis.Client, func(f func()) int) {
	var trips atomic.Int64
	client := connect(t, rueidis.ClientOption{
		InitAddress: []string{addr}, PipelineMultiplex: -1, DisableCache: true,
		Dialer: net.Dialer{KeepAlive: time.Hour}, // and no PING for as long
		DialCtxFn: func(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			conn, err := d.DialContext(ctx, "tcp", addr)
			return &turns{Conn: conn, trips: &trips}, err
		},
	})
	return client, func(f func()) int {
		before := trips.Load()
		f()
		return int(trips.Load() - before)
	}
}

// turns counts the writes that follow a read.
type turns struct {
	net.Conn
	trips *atomic.Int64
	asked atomic.Bool
}

func (c *turns) Write(b []byte) (int, error) {
	if !c.asked.Swap(true) {
		c.trips.Add(1)
	}
	return c.Conn.Write(b)
}

func (c *turns) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.asked.Store(false)
	return n, err
}

func TestLabelsThatChangeTakeOneMoreRoundTripAndOthersNone(t *testing.T) {
	client, trips := tripsTo(t, testserver.Redis(t).Addr)
	store := redisstore.New(client, redisstore.Options{})
	version := create(t, store, idOf(0), with(recordOf("", "ada"), "x", "y"))
	update(t, store, idOf(0), version, recordOf("", "")) // loads the scripts into Redis
	if err := store.Touch(t.Context(), idOf(0), time.Now()); err != nil {
		t.Fatal(err)
	}

	eight := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	swapped := slices.Clone(eight)
	slices.Reverse(swapped)
	id := idOf(1)
	for _, tt := range []struct {
		what string
		want int
		run  func()
	}{
		{"Create without labels", 1, func() { version = create(t, store, id, recordOf("", "")) }},
		{"eight labels and an owner are set", 2, func() { version = update(t, store, id, version, with(recordOf("", "ada"), eight...)) }},
		{"the labels stay", 1, func() { version = update(t, store, id, version, with(recordOf("new", "ada"), eight...)) }},
		{"the labels stay, in another order", 1, func() { version = update(t, store, id, version, with(recordOf("new", "ada"), swapped...)) }},
		{"one label goes", 2, func() { version = update(t, store, id, version, with(recordOf("", "ada"), eight[1:]...)) }},
		{"all labels go", 2, func() { version = update(t, store, id, version, recordOf("", "ada")) }},
		{"the owner goes too", 1, func() { version = update(t, store, id, version, recordOf("", "")) }},
		{"one label is set", 2, func() { version = update(t, store, id, version, with(recordOf("", ""), "a")) }},
		{"it stays", 1, func() { version = update(t, store, id, version, with(recordOf("", ""), "a")) }},
		{"Create with eight labels", 2, func() { create(t, store, idOf(2), with(recordOf("", "ada"), eight...)) }},
		{"Touch that does not move the expiry", 1, func() {
			if err := store.Touch(t.Context(), idOf(2), time.Now()); err != nil {
				t.Fatal(err)
			}
		}},
		{"Touch to a later day", 3, func() {
			if err := store.Touch(t.Context(), idOf(2), time.Now().AddDate(0, 0, 2)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		if got := trips(tt.run); got != tt.want {
			t.Errorf("%s: got %d round trips, want %d", tt.what, got, tt.want)
		}
	}
	hasLabels(t, "at the end", store, id, []string{"a"}, eight...)

	// Before it asks Redis, Update compares only one byte of a checksum.
	twin := ""
	for n := 0; twin == "" || tagOf("", twin) != tagOf("", "a"); n++ {
		twin = strconv.Itoa(n)
	}
	if got := trips(func() { update(t, store, id, version, with(recordOf("", ""), twin)) }); got != 3 {
		t.Errorf("a change to a label with the same tag: got %d round trips, want 3", got)
	}
	hasLabels(t, "with the twin", store, id, []string{twin}, eight...)
}

// Each session has one goroutine that changes it, and one that touches it: to days
// up to a month later, so that the index has to follow. All share a few labels.
func TestIndexNeverMissesALabelThatLivesWhileLabelsChangeInParallel(t *testing.T) {
	addr := testserver.Redis(t).Addr
	store := redisstore.New(connectTo(t, addr), redisstore.Options{})
	other := redisstore.New(connectTo(t, addr), redisstore.Options{}) // as of another process
	labels := []string{"tenant:a", "tenant:b", "sid:1", "sid:2", "by:eve", strings.Repeat("long", 80)}
	some := func() (chosen []string) {
		for _, label := range labels {
			if rand.N(2) == 0 {
				chosen = append(chosen, label)
			}
		}
		rand.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
		return chosen
	}
	owners := []string{"", "ada", "eve"}
	var wg, touching sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for n := range 12 {
		id := idOf(n)
		touching.Go(func() {
			for ctx.Err() == nil {
				err := other.Touch(ctx, id, time.Now().AddDate(0, 0, rand.N(30)))
				if err != nil && !errors.Is(err, sessions.ErrNotFound) && ctx.Err() == nil {
					t.Errorf("Touch: %v", err)
				}
			}
		})
		wg.Go(func() {
			var version uint64
			var rec sessions.Record
			for range 60 {
				var err error
				rec = with(recordOf("data", owners[rand.N(3)]), some()...)
				switch {
				case version == 0:
					version, err = store.Create(t.Context(), id, rec)
				case rand.N(5) == 0:
					err, version, rec.Labels = store.Delete(t.Context(), id, version), 0, nil
				default:
					rec.Version = version
					version, err = store.Update(t.Context(), id, rec)
				}
				if err != nil {
					t.Error(err)
					return
				}
				for _, label := range labels {
					if got, want := labelled(t, other, label)[id] == 1, slices.Contains(rec.Labels, label); got != want {
						t.Errorf("Labelled(%.40q) yields the session: %v, want %v", label, got, want)
					}
				}
			}
		})
	}
	wg.Wait()
	cancel()
	touching.Wait()
}

func TestOfTwoParallelChangesOfLabelsTheIndexHasTheOneThatWasStored(t *testing.T) {
	addr := testserver.Redis(t).Addr
	stores := []*redisstore.Store{
		redisstore.New(connectTo(t, addr), redisstore.Options{}), redisstore.New(connectTo(t, addr), redisstore.Options{}),
	}
	id := idOf(1)
	version := create(t, stores[0], id, with(recordOf("", ""), "start"))
	for round := range 100 {
		mine := []string{fmt.Sprint("left:", round), fmt.Sprint("right:", round)}
		var versions [2]uint64
		var wg sync.WaitGroup
		for i, store := range stores {
			wg.Go(func() {
				rec := with(recordOf("", ""), mine[i], "both")
				rec.Version = version
				v, err := store.Update(t.Context(), id, rec)
				if err != nil && !errors.Is(err, sessions.ErrConflict) {
					t.Errorf("Update: %v", err)
				}
				versions[i] = v
			})
		}
		wg.Wait()
		won := 0
		if versions[1] != 0 {
			won = 1
		}
		if versions[0] != 0 && versions[1] != 0 || versions[won] == 0 {
			t.Fatal("not exactly one of two parallel updates succeeded")
		}
		version = versions[won]
		hasLabels(t, "after a conflict", stores[won], id, []string{"both", mine[won]}, mine[1-won], "start")
	}
}
