package natsstore_test

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/natsstore"
)

func TestNewRefusesABucketThatWouldLoseSessionsOrKeepThem(t *testing.T) {
	conn := connect(t, start(t, "").Addr)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	origin := newBucket(t, conn, jetstream.KeyValueConfig{})
	edit := func(cfg jetstream.KeyValueConfig, f func(*jetstream.StreamConfig)) jetstream.KeyValue {
		kv := newBucket(t, conn, cfg)
		stream, err := js.Stream(t.Context(), "KV_"+kv.Bucket())
		if err != nil {
			t.Fatal(err)
		}
		info := stream.CachedInfo().Config
		f(&info)
		if _, err := js.UpdateStream(t.Context(), info); err != nil {
			t.Fatal(err)
		}
		return kv
	}
	for want, kv := range map[string]jetstream.KeyValue{
		"a bucket, got nil":  nil,
		"History":            newBucket(t, conn, jetstream.KeyValueConfig{History: 2}),
		"TTL":                newBucket(t, conn, jetstream.KeyValueConfig{TTL: time.Hour}),
		"other buckets":      newBucket(t, conn, jetstream.KeyValueConfig{Sources: []*jetstream.StreamSource{{Name: origin.Bucket()}}}),
		"the bucket that it": newBucket(t, conn, jetstream.KeyValueConfig{Mirror: &jetstream.StreamSource{Name: origin.Bucket()}}),
		"discard policy":     edit(jetstream.KeyValueConfig{}, func(cfg *jetstream.StreamConfig) { cfg.Discard = jetstream.DiscardOld }),
		"retention policy":   edit(jetstream.KeyValueConfig{}, func(cfg *jetstream.StreamConfig) { cfg.Retention = jetstream.InterestPolicy }),
		"allow_rollup_hdrs":  edit(jetstream.KeyValueConfig{}, func(cfg *jetstream.StreamConfig) { cfg.AllowRollup = false }),
	} {
		s, err := natsstore.New(kv, natsstore.Options{Conn: conn})
		if s != nil || err == nil || !strings.HasPrefix(err.Error(), "natsstore: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
		if kv != nil && err != nil && !strings.Contains(err.Error(), kv.Bucket()) {
			t.Errorf("the error does not name the bucket: %v", err)
		}
	}
	gone := newBucket(t, conn, jetstream.KeyValueConfig{})
	if err := js.DeleteKeyValue(t.Context(), gone.Bucket()); err != nil {
		t.Fatal(err)
	}
	if _, err := natsstore.New(gone, natsstore.Options{}); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("a bucket that was deleted: got %v, want the error of the server", err)
	}
}

func TestASessionThatDoesNotFitIsErrTooLargeAndLeavesTheOldOne(t *testing.T) {
	conn := connect(t, start(t, "max_payload: 64KB").Addr)
	for name, size := range map[string]int{"max_payload": 64 << 10, "MaxValueSize": 48 << 10} {
		s := open(t, newBucket(t, conn, jetstream.KeyValueConfig{MaxValueSize: 32 << 10}), natsstore.Options{Conn: conn})
		rec := recordFor(time.Hour, "old", "")
		version := create(t, s, idOf(1), rec)
		large := recordFor(time.Hour, strings.Repeat("x", size), "ada")
		_, createErr := s.Create(t.Context(), idOf(2), large)
		large.Version = version
		_, updateErr := s.Update(t.Context(), idOf(1), large)
		for operation, err := range map[string]error{"Create": createErr, "Update": updateErr} {
			if !errors.Is(err, sessions.ErrTooLarge) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: got %v, want ErrTooLarge that names %s", operation, err, name)
			}
		}
		if got, err := s.Load(t.Context(), idOf(1)); err != nil || string(got.Data) != "old" || got.Version != version {
			t.Errorf("got %v, %v, want the old record", got, err)
		}
		if _, err := s.Load(t.Context(), idOf(2)); !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	}
}

// The server allows a marker in place of a record that takes more bytes.
func TestAFullBucketRefusesWhatIsNewAndKeepsWhatItHasAndLetsUsersSignOut(t *testing.T) {
	s, _, _ := fresh(t, jetstream.KeyValueConfig{MaxBytes: 64 << 10})
	var ids []sessions.ID
	versions := map[sessions.ID]uint64{}
	for n, size := 0, 1000; size > 100; n++ {
		id := idOf(n)
		version, err := s.Create(t.Context(), id, recordFor(time.Hour, strings.Repeat("x", size), ""))
		switch {
		case err == nil:
			ids, versions[id] = append(ids, id), version
		case !isOtherError(err):
			t.Fatalf("Create: got %v, want the error of the server", err)
		default:
			size /= 2
		}
	}
	for id, version := range versions {
		if got, err := s.Load(t.Context(), id); err != nil || got.Version != version {
			t.Fatalf("Load: got %v, %v, want the record that was stored", got, err)
		}
	}
	if len(ids) < 50 {
		t.Fatalf("%d sessions fit, want more", len(ids))
	}
	rec := recordFor(time.Hour, strings.Repeat("x", 2000), "")
	rec.Version = versions[ids[0]]
	if _, err := s.Update(t.Context(), ids[0], rec); !isOtherError(err) {
		t.Errorf("Update: got %v, want the error of the server", err)
	}
	if err := s.Delete(t.Context(), ids[0], versions[ids[0]]); err != nil {
		t.Errorf("Delete of a version: %v", err)
	}
	create(t, s, ids[0], recordFor(time.Hour, strings.Repeat("x", 600), "")) // full again
	if err := s.Delete(t.Context(), ids[1], 0); err != nil {
		t.Errorf("Delete: %v", err)
	}
}

// fill creates sessions of ada, each with the same label, until the server has no space for
// one, and returns their versions. One of them expires at once.
func fill(t testing.TB, s *natsstore.Store) map[sessions.ID]uint64 {
	t.Helper()
	create(t, s, idOf(0), recordFor(-time.Second, "", "ada", "red"))
	versions := map[sessions.ID]uint64{}
	for n, size := 1, 1000; size > 0; n++ {
		id := idOf(n)
		version, err := s.Create(t.Context(), id, recordFor(time.Hour, strings.Repeat("x", size), "ada", "red"))
		switch {
		case err == nil:
			versions[id] = version
		case !isOtherError(err):
			t.Fatalf("Create: got %v, want the error of the server", err)
		default:
			size /= 2
		}
	}
	if len(versions) < 10 {
		t.Fatalf("%d sessions fit, want more", len(versions))
	}
	return versions
}

func TestWithoutSpaceSessionsAreListedAndEndedAndSwept(t *testing.T) {
	const size = 64 << 10
	limited := recommended
	limited.MaxBytes = size
	for _, tt := range []struct {
		name string
		open func(t testing.TB) (jetstream.KeyValue, *nats.Conn)
	}{
		{"in the bucket", func(t testing.TB) (jetstream.KeyValue, *nats.Conn) {
			conn := connect(t, start(t, "").Addr)
			return newBucket(t, conn, limited), conn
		}},
		{"in a bucket with replicas", func(t testing.TB) (jetstream.KeyValue, *nats.Conn) {
			conn := connect(t, startCluster(t)[0].Addr)
			return newReplicatedBucket(t, conn, limited), conn
		}},
		{"in the server", func(t testing.TB) (jetstream.KeyValue, *nats.Conn) {
			conn := connect(t, start(t, fmt.Sprintf("jetstream { max_file_store: %d }\n", size)).Addr)
			return newBucket(t, conn, recommended), conn
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			natsstore.SetGrace(t, 0)
			kv, conn := tt.open(t)
			s := open(t, kv, natsstore.Options{Conn: conn})
			versions := fill(t, s)
			fillUp := filler(t, kv)
			f := changesOf(t, s)
			for name, listed := range map[string]iter.Seq2[sessions.ID, error]{
				"Owned": s.Owned(t.Context(), "ada"), "Labelled": s.Labelled(t.Context(), "red"),
			} {
				if got := collect(t, listed); len(got) != len(versions) {
					t.Errorf("%s yields %d sessions, want %d", name, len(got), len(versions))
				}
			}
			n := 0
			for id, version := range versions {
				if err := s.Delete(t.Context(), id, version+1); err != sessions.ErrConflict {
					t.Fatalf("Delete of another version: got %v, want ErrConflict", err)
				}
				if n++; n%2 == 0 {
					version = 0
				}
				if err := s.Delete(t.Context(), id, version); err != nil {
					t.Fatalf("Delete: %v", err)
				}
				if err := s.Delete(t.Context(), id, versions[id]); err != sessions.ErrNotFound {
					t.Fatalf("Delete again: got %v, want ErrNotFound", err)
				}
				if _, err := s.Load(t.Context(), id); err != sessions.ErrNotFound {
					t.Fatalf("Load: got %v, want ErrNotFound", err)
				}
				f.until(id)
				fillUp()
			}
			if got := collect(t, s.Owned(t.Context(), "ada")); len(got) != 0 {
				t.Errorf("Owned yields %d sessions that have ended", len(got))
			}
			if n, err := s.Sweep(t.Context()); n != 1 || err != nil {
				t.Errorf("Sweep: got %d, %v, want 1", n, err)
			}
		})
	}
}

// Without space, Sweep must not remove a record that was touched since it was read.
func TestARevisionIsRemovedWithoutAMarkerOnlyIfItIsTheLastOne(t *testing.T) {
	s, kv, _ := fresh(t, recommended)
	create(t, s, idOf(1), recordFor(time.Hour, "data", ""))
	first := lastRevision(t, kv)
	if err := s.Touch(t.Context(), idOf(1), time.Now().Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := natsstore.Remove(t.Context(), s, idOf(1), first); err == nil {
		t.Error("the touched record: got no error")
	}
	if _, err := s.Load(t.Context(), idOf(1)); err != nil {
		t.Errorf("Load: %v", err)
	}
	if err := natsstore.Remove(t.Context(), s, idOf(1), lastRevision(t, kv)); err != nil {
		t.Error(err)
	}
	if _, err := s.Load(t.Context(), idOf(1)); err != sessions.ErrNotFound {
		t.Errorf("Load: got %v, want ErrNotFound", err)
	}
	if got := values(t, kv); got != 0 {
		t.Errorf("%d values are left, want none", got)
	}
}

// filler returns a function that writes keys that no store reads until there is no space for
// another.
func filler(t testing.TB, kv jetstream.KeyValue) func() {
	n := 0
	return func() {
		t.Helper()
		for {
			n++
			if _, err := kv.Create(t.Context(), fmt.Sprint("filler.", n), nil); err != nil {
				return
			}
		}
	}
}
