package natsstore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

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
