package redisstore_test

import (
	"context"
	"errors"
	"hash/crc32"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/redisstore"
)

func owned(t testing.TB, store *redisstore.Store, owner string) map[sessions.ID]int {
	t.Helper()
	times := make(map[sessions.ID]int)
	for id, err := range store.Owned(t.Context(), owner) {
		if err != nil {
			t.Fatal(err)
		}
		times[id]++
	}
	return times
}

func TestOwnerOfThousandsOfSessions(t *testing.T) {
	const n = 2300
	client := connectTo(t, testserver.Redis(t).Addr)
	store := redisstore.New(client, redisstore.Options{})
	var wg sync.WaitGroup
	for worker := range 10 {
		wg.Go(func() {
			for i := worker; i < n; i += 10 {
				if _, err := store.Create(context.Background(), idOf(i), recordOf("", "ada")); err != nil {
					t.Errorf("Create: %v", err)
				}
			}
		})
	}
	wg.Wait()
	check := func(t *testing.T) {
		got := owned(t, store, "ada")
		for i := range n {
			if got[idOf(i)] != 1 {
				t.Fatalf("Owned yields session %d %d times, want once", i, got[idOf(i)])
			}
		}
		if len(got) != n {
			t.Errorf("Owned yields %d sessions, want %d", len(got), n)
		}
	}
	t.Run("are all listed once", check)
	t.Run("are all listed once if their entries have the same score", func(t *testing.T) {
		score := float64(time.Now().Add(72 * time.Hour).UnixMilli())
		add := client.B().Zadd().Key("session@ada").Xx().ScoreMember()
		for i := range n {
			id := idOf(i)
			add = add.ScoreMember(score, string(id[:]))
		}
		if err := client.Do(t.Context(), add.Build()).Error(); err != nil {
			t.Fatal(err)
		}
		check(t)
	})
	t.Run("are all listed once while their entries move", func(t *testing.T) {
		next := n - 1
		got := make(map[sessions.ID]int)
		for id, err := range store.Owned(t.Context(), "ada") {
			if err != nil {
				t.Fatal(err)
			}
			got[id]++
			// Move an entry from the end of the index to a score beyond it.
			if err := store.Touch(t.Context(), idOf(next), time.Now().AddDate(0, 0, 30)); err != nil {
				t.Fatal(err)
			}
			next--
		}
		for i := range n {
			if got[idOf(i)] != 1 {
				t.Fatalf("Owned yields session %d %d times, want once", i, got[idOf(i)])
			}
		}
	})
}

// The index entry must be written first, since the index must never miss a live
// record.
func TestWithoutItsEntryInTheIndexNoRecordIsWritten(t *testing.T) {
	client := connectTo(t, testserver.Redis(t).Addr)
	store := redisstore.New(client, redisstore.Options{})
	id, rec := idOf(1), recordOf("data", "eve")
	rec.Version = create(t, store, id, rec)
	for _, owner := range []string{"ada", "eve"} { // make writes to the index fail
		if err := client.Do(t.Context(), client.B().Set().Key("session@"+owner).Value("").Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	moved := rec
	moved.Owner = "ada"
	_, createErr := store.Create(t.Context(), idOf(2), moved)
	_, updateErr := store.Update(t.Context(), id, moved)
	for name, err := range map[string]error{
		"Create": createErr, "Update": updateErr, "Touch": store.Touch(t.Context(), id, rec.Expires.AddDate(0, 0, 2)),
	} {
		if _, isRedis := rueidis.IsRedisErr(err); !isRedis {
			t.Errorf("%s: got %v, want the error of Redis", name, err)
		}
	}
	loads(t, "after Create", store, idOf(2), 0)
	if got, err := store.Load(t.Context(), id); err != nil || got.Version != rec.Version || got.Owner != "eve" || !got.Expires.Equal(rec.Expires) {
		t.Errorf("got %v of %q, %v, want the record as it was", got, got.Owner, err)
	}
}

// The test reads the expiries in Redis, since it cannot wait for days.
func TestIndexOutlivesTheRecord(t *testing.T) {
	client := connectTo(t, testserver.Redis(t).Addr)
	store := redisstore.New(client, redisstore.Options{})
	id := idOf(1)
	check := func(when, owner string) {
		t.Helper()
		rec, err := store.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		least := rec.Expires.Add(24 * time.Hour).UnixMilli()
		score, err := client.Do(t.Context(), client.B().Zscore().Key("session@"+owner).Member(string(id[:])).Build()).AsFloat64()
		if err != nil || int64(score) < least {
			t.Errorf("after %s the entry lasts until %v (%v), want at least a day longer than the record, %v", when, int64(score), err, least)
		}
		end, err := client.Do(t.Context(), client.B().Pexpiretime().Key("session@"+owner).Build()).AsInt64()
		if err != nil || end < int64(score) {
			t.Errorf("after %s the index lasts until %v (%v), want as long as its last entry, %v", when, end, err, int64(score))
		}
		if got := owned(t, store, owner); got[id] != 1 {
			t.Errorf("after %s Owned yields the session %d times, want once", when, got[id])
		}
	}
	lasting := func(days int, owner string) sessions.Record {
		rec := recordOf("", owner)
		rec.Expires = rec.Expires.AddDate(0, 0, days)
		return rec
	}
	version := create(t, store, id, lasting(0, "ada"))
	check("Create", "ada")
	if err := store.Touch(t.Context(), id, time.Now().AddDate(0, 0, 10)); err != nil {
		t.Fatal(err)
	}
	check("Touch", "ada")
	version = update(t, store, id, version, lasting(100, "ada"))
	check("an Update that prolongs it", "ada")
	version = update(t, store, id, version, lasting(1, "ada"))
	check("an Update that shortens it", "ada")
	version = update(t, store, id, version, lasting(200, "eve"))
	check("a change of owner", "eve")
	version = update(t, store, id, version, lasting(200, ""))
	if got := len(owned(t, store, "ada")) + len(owned(t, store, "eve")); got != 0 {
		t.Errorf("Owned yields %d sessions that no longer have an owner", got)
	}
	if err := store.Touch(t.Context(), id, time.Now().AddDate(0, 0, 300)); err != nil {
		t.Fatal(err)
	}
	update(t, store, id, version, lasting(300, "ada"))
	check("it has an owner again", "ada")

	// An operation with an earlier expiry, here a Create, may come between the
	// writes of the entry and of the record by another process.
	score := func() float64 {
		score, err := client.Do(t.Context(), client.B().Zscore().Key("session@ada").Member(string(id[:])).Build()).AsFloat64()
		if err != nil {
			t.Fatal(err)
		}
		return score
	}
	before := score()
	if _, err := store.Create(t.Context(), id, lasting(1, "ada")); !errors.Is(err, sessions.ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
	if got := score(); got < before {
		t.Errorf("an entry that lasted until %v now ends at %v", before, got)
	}
}

func TestIndexDropsEntriesOfExpiredRecords(t *testing.T) {
	client := connectTo(t, testserver.Redis(t).Addr)
	store := redisstore.New(client, redisstore.Options{})
	dead := client.B().Zadd().Key("session@ada").ScoreMember().ScoreMember(float64(time.Now().UnixMilli()-1), "the id of a dead session").Build()
	if err := client.Do(t.Context(), dead).Error(); err != nil {
		t.Fatal(err)
	}
	create(t, store, idOf(1), recordOf("", "ada"))
	if n, err := client.Do(t.Context(), client.B().Zcard().Key("session@ada").Build()).AsInt64(); err != nil || n != 1 {
		t.Errorf("the index has %d entries (%v), want 1", n, err)
	}
}

// Redis does nothing else while a script runs.
func TestIndexDropsThousandsOfEntriesAFewAtATime(t *testing.T) {
	const n = 5000
	client := connectTo(t, testserver.Redis(t).Addr)
	store := redisstore.New(client, redisstore.Options{})
	old := client.B().Zadd().Key("session@ada").ScoreMember()
	for i := range n {
		id := idOf(i)
		old = old.ScoreMember(float64(1000+i), string(id[:]))
	}
	if err := client.Do(t.Context(), old.Build()).Error(); err != nil {
		t.Fatal(err)
	}
	for left, created := n, 1; ; created++ {
		create(t, store, idOf(n+created), recordOf("", "ada"))
		entries, err := client.Do(t.Context(), client.B().Zcard().Key("session@ada").Build()).AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		before := left
		left = int(entries) - created
		if left == 0 {
			break
		}
		if dropped := before - left; dropped < 1000 || dropped > 1100 {
			t.Fatalf("one Create dropped %d of %d old entries, want about a thousand", dropped, before)
		}
	}
	if got := owned(t, store, "ada"); len(got) < 2 {
		t.Errorf("Owned yields %d sessions, want those that were created", len(got))
	}
}

func TestRoundTripsOfAnOwner(t *testing.T) {
	client := connectTo(t, testserver.Redis(t).Addr)
	store := redisstore.New(client, redisstore.Options{})
	version := create(t, store, idOf(0), recordOf("", "ada"))
	update(t, store, idOf(0), version, recordOf("", "eve")) // loads the scripts into Redis

	scripts := func(what string, want int, run func()) {
		t.Helper()
		before := calls(t, client)["evalsha"]
		run()
		if got := calls(t, client)["evalsha"] - before; got != want {
			t.Errorf("%s: got %d scripts, want %d", what, got, want)
		}
	}
	id := idOf(1)
	scripts("Create, which is a SET, without an owner", 0, func() { version = create(t, store, id, recordOf("", "")) })
	scripts("an owner is set", 2, func() { version = update(t, store, id, version, recordOf("", "ada")) })
	scripts("the owner stays", 1, func() { version = update(t, store, id, version, recordOf("new", "ada")) })
	scripts("the owner changes", 2, func() { version = update(t, store, id, version, recordOf("", "eve")) })
	scripts("the owner goes", 1, func() { version = update(t, store, id, version, recordOf("", "")) })
	scripts("Create with an owner", 1, func() { version = create(t, store, idOf(2), recordOf("", "ada")) })

	// Before it asks Redis, Update compares only one byte of a checksum.
	twin := ""
	for n := 0; twin == "" || tagOf(twin) != tagOf("ada"); n++ {
		twin = strconv.Itoa(n)
	}
	scripts("the owner changes to one with the same tag", 3, func() { update(t, store, idOf(2), version, recordOf("", twin)) })
	if got := owned(t, store, twin); got[idOf(2)] != 1 {
		t.Errorf("Owned yields the session %d times, want once", got[idOf(2)])
	}
}

// tagOf returns the lowest byte of the versions of a record with these owner and
// labels, each of fewer than 128 bytes.
func tagOf(terms ...string) byte {
	var b []byte
	for _, term := range terms {
		b = append(append(b, byte(len(term))), term...)
	}
	return byte(crc32.ChecksumIEEE(b))
}
