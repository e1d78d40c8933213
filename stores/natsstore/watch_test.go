package natsstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/natsstore"
)

// A feed reads the changes of a store.
type feed struct {
	t    testing.TB
	ids  chan sessions.ID
	err  chan error // the error of the last pair, or nil, when the loop has ended
	stop context.CancelFunc
}

func changesOf(t testing.TB, s *natsstore.Store) *feed {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &feed{t: t, ids: make(chan sessions.ID), err: make(chan error, 1), stop: cancel}
	go func() {
		var last error
		for id, err := range s.Changes(ctx) {
			if err != nil {
				last = err
				continue
			}
			select {
			case f.ids <- id:
			case <-ctx.Done():
			}
		}
		f.err <- last
		close(f.err)
	}()
	t.Cleanup(func() { cancel(); <-f.err })
	if first := f.next(); first != (sessions.ID{}) {
		t.Fatalf("the first id is %v, want the zero ID", first)
	}
	return f
}

func (f *feed) next() sessions.ID {
	f.t.Helper()
	select {
	case id := <-f.ids:
		return id
	case err := <-f.err:
		f.t.Fatalf("Changes has ended: %v", err)
	case <-time.After(time.Minute):
		f.t.Fatal("no change within a minute")
	}
	panic("unreachable")
}

// until reads ids up to the wanted one.
func (f *feed) until(want sessions.ID) (before []sessions.ID) {
	f.t.Helper()
	for {
		id := f.next()
		if id == want {
			return before
		}
		before = append(before, id)
	}
}

func TestChangesTellsOfUpdatesAndDeletionsByAnyStore(t *testing.T) {
	s, kv, conn := fresh(t, recommended)
	old := create(t, s, idOf(1), recordFor(time.Hour, "", ""))
	f := changesOf(t, s)
	other := open(t, kv, natsstore.Options{Conn: conn})
	version := update(t, other, idOf(1), old, recordFor(time.Hour, "", "ada"))
	if id := f.next(); id != idOf(1) {
		t.Errorf("after an Update: got %v, want its id", id)
	}
	if err := s.Delete(t.Context(), idOf(1), version); err != nil {
		t.Fatal(err)
	}
	if id := f.next(); id != idOf(1) {
		t.Errorf("after a Delete of a version: got %v, want its id", id)
	}
	create(t, s, idOf(2), recordFor(time.Hour, "", "ada", "red"))
	create(t, s, idOf(3), recordFor(time.Hour, "", "ada", "red")) // not told, nor is its index
	if err := other.Delete(t.Context(), idOf(2), 0); err != nil {
		t.Fatal(err)
	}
	if id := f.next(); id != idOf(2) {
		t.Errorf("after a Delete: got %v, want its id", id)
	}
	create(t, s, idOf(2), recordFor(time.Hour, "", "")) // under an id that was deleted
	if id := f.next(); id != idOf(2) {
		t.Errorf("after a Create of an id that was deleted: got %v, want its id", id)
	}
	f.stop()
	if err := <-f.err; err != nil {
		t.Errorf("after the end of its context, Changes yields %v, want no error", err)
	}
}

func TestChangesDoesNotTellOfTouches(t *testing.T) {
	s, _, _ := fresh(t, recommended)
	create(t, s, idOf(1), recordFor(time.Minute, "", ""))
	version := create(t, s, idOf(2), recordFor(time.Minute, "", ""))
	f := changesOf(t, s)
	for i := range 10 {
		if err := s.Touch(t.Context(), idOf(1), time.Now().Add(time.Hour+time.Duration(i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
		// The reader has the Touch before the next one replaces it.
		version = update(t, s, idOf(2), version, recordFor(time.Hour, "", ""))
		if before := f.until(idOf(2)); len(before) > 0 {
			t.Fatalf("got %d ids before that of the Update, want none", len(before))
		}
	}
}

// The bucket keeps only the last value of a key. A reader that is behind gets the
// Touch, and must be told of the Update before it.
func TestAnUpdateThatATouchHasReplacedIsTold(t *testing.T) {
	s, kv, _ := fresh(t, recommended)
	version := create(t, s, idOf(1), recordFor(time.Minute, "", ""))
	for _, read := range []bool{true, false} {
		version = update(t, s, idOf(1), version, recordFor(time.Minute, "", ""))
		entry, err := kv.Get(t.Context(), natsstore.RecordKey(idOf(1)))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Touch(t.Context(), idOf(1), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		touched, err := kv.Get(t.Context(), natsstore.RecordKey(idOf(1)))
		if err != nil {
			t.Fatal(err)
		}
		seen := entry.Revision()
		if !read {
			seen--
		}
		if id, told := natsstore.IsNews(touched, seen); id != idOf(1) || told == read {
			t.Errorf("a reader that has read the Update: %t; it is told: %t of %v", read, told, id)
		}
	}
}

func TestABrokenConnectionYieldsTheZeroID(t *testing.T) {
	server := start(t, "")
	conn, writing := connect(t, server.Addr), connect(t, server.Addr)
	kv := newBucket(t, conn, recommended)
	js, err := jetstream.New(writing)
	if err != nil {
		t.Fatal(err)
	}
	same, err := js.KeyValue(t.Context(), kv.Bucket())
	if err != nil {
		t.Fatal(err)
	}
	writer := open(t, same, natsstore.Options{Conn: writing})
	version := create(t, writer, idOf(1), recordFor(time.Hour, "", ""))
	f := changesOf(t, open(t, kv, natsstore.Options{Conn: conn}))
	for range 3 {
		if err := conn.ForceReconnect(); err != nil {
			t.Fatal(err)
		}
		if before := f.until(sessions.ID{}); len(before) > 0 {
			t.Errorf("got ids %v, want none", before)
		}
		version = update(t, writer, idOf(1), version, recordFor(time.Hour, "", ""))
		f.until(idOf(1))
	}
}

// The client waits for the revision after the last one that it has seen, which such a bucket
// will not have for long.
func TestABucketThatWasCreatedAgainOrRestoredYieldsTheZeroID(t *testing.T) {
	natsstore.SetBucketCheck(t, 20*time.Millisecond)
	for _, tt := range []struct {
		name  string
		again func(t testing.TB, conn *nats.Conn, bucket string) (again func())
	}{
		{"created again", func(t testing.TB, conn *nats.Conn, bucket string) func() {
			cfg := recommended
			cfg.Bucket = bucket
			return func() { newBucket(t, conn, cfg) }
		}},
		{"restored from a backup", backUp},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, kv, conn := fresh(t, recommended)
			version := create(t, s, idOf(1), recordFor(time.Hour, "data", ""))
			again := tt.again(t, conn, kv.Bucket())
			f := changesOf(t, s)
			for range 10 {
				version = update(t, s, idOf(1), version, recordFor(time.Hour, "data", ""))
				f.until(idOf(1))
			}
			js, err := jetstream.New(conn)
			if err != nil {
				t.Fatal(err)
			}
			if err := js.DeleteKeyValue(t.Context(), kv.Bucket()); err != nil {
				t.Fatal(err)
			}
			again()
			f.until(sessions.ID{})
			update(t, s, idOf(2), create(t, s, idOf(2), recordFor(time.Hour, "data", "")), recordFor(time.Hour, "data", ""))
			f.until(idOf(2))
		})
	}
}

// backUp makes a backup of a bucket and returns a function that restores it, as nats stream
// backup and restore do.
func backUp(t testing.TB, conn *nats.Conn, bucket string) (restore func()) {
	t.Helper()
	api := func(what string, request, answer any) {
		t.Helper()
		b, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		msg, err := conn.Request("$JS.API.STREAM."+what+".KV_"+bucket, b, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(msg.Data, answer); err != nil || strings.Contains(string(msg.Data), `"error"`) {
			t.Fatalf("%s: %s, %v", what, msg.Data, err)
		}
	}
	inbox := nats.NewInbox()
	sub, err := conn.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	var snapshot struct {
		Config json.RawMessage `json:"config"`
		State  json.RawMessage `json:"state"`
	}
	api("SNAPSHOT", map[string]any{"deliver_subject": inbox}, &snapshot)
	var chunks [][]byte
	for {
		msg, err := sub.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if len(msg.Data) == 0 {
			break
		}
		chunks = append(chunks, msg.Data)
		if msg.Reply != "" { // flow control
			if err := msg.Respond(nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	return func() {
		var to struct {
			Subject string `json:"deliver_subject"`
		}
		api("RESTORE", snapshot, &to)
		for _, chunk := range append(chunks, nil) {
			if _, err := conn.Request(to.Subject, chunk, 10*time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestChangesThatCannotBeReadEndWithAnError(t *testing.T) {
	s, _, conn := fresh(t, recommended)
	f := changesOf(t, s)
	conn.Close()
	if err := <-f.err; err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("after the connection was closed: got %v, want an error", err)
	}
}

func TestALoopOverChangesMayBreak(t *testing.T) {
	s, _, _ := fresh(t, recommended)
	for range 3 {
		for id, err := range s.Changes(t.Context()) {
			if id != (sessions.ID{}) || err != nil {
				t.Errorf("got %v, %v, want the zero ID first", id, err)
			}
			break
		}
	}
}

// Changes waits for a slow reader, and the client does not drop what it has received.
func TestASlowReaderIsToldOfAllChanges(t *testing.T) {
	s, _, _ := fresh(t, recommended)
	const n = 2000
	versions := make([]uint64, n)
	for i := range n {
		versions[i] = create(t, s, idOf(i), recordFor(time.Hour, "", ""))
	}
	f := changesOf(t, s)
	for i := range n {
		update(t, s, idOf(i), versions[i], recordFor(time.Hour, "", ""))
	}
	for i := range n {
		if id := f.next(); id != idOf(i) {
			t.Fatalf("change %d: got %v, want %v", i, id, idOf(i))
		}
	}
}
