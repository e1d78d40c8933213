package natsstore_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/natsstore"
	"github.com/typedsessions/sessions/stores/storetest"
)

// A mute dialer makes connections that lose what the server answers, from the moment
// that the client writes to a bucket, if it is set.
type mute struct {
	set    atomic.Bool
	closes bool // the connection breaks then, or else stays silent
}

func (m *mute) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	return &muteConn{Conn: conn, mute: m}, err
}

type muteConn struct {
	net.Conn
	mute   *mute
	silent atomic.Bool
}

func (c *muteConn) Write(b []byte) (int, error) {
	if c.mute.set.Load() && bytes.Contains(b, []byte("PUB $KV.")) && c.mute.set.CompareAndSwap(true, false) {
		c.silent.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *muteConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.silent.Load() {
			return n, err
		}
		if c.mute.closes {
			return 0, net.ErrClosed
		}
	}
}

func TestAWriteWithoutAnAnswerIsNotSentAgain(t *testing.T) {
	addr := start(t, "").Addr
	for _, tt := range []struct {
		name   string
		closes bool
	}{
		{"when the connection breaks", true},
		{"when the connection is silent until the caller gives up", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &mute{closes: tt.closes}
			watched := connect(t, addr)
			kv := newBucket(t, watched, recommended)
			steady := open(t, kv, natsstore.Options{Conn: watched})
			rec := recordFor(time.Hour, "old", "")
			versions := map[sessions.ID]uint64{}
			for i := range 4 {
				versions[idOf(i)] = create(t, steady, idOf(i), rec)
			}
			for name, write := range map[string]func(ctx context.Context, s *natsstore.Store) error{
				"Create": func(ctx context.Context, s *natsstore.Store) error {
					_, err := s.Create(ctx, idOf(9), rec)
					return err
				},
				"Update": func(ctx context.Context, s *natsstore.Store) error {
					rec := rec
					rec.Version = versions[idOf(0)]
					_, err := s.Update(ctx, idOf(0), rec)
					return err
				},
				"Touch": func(ctx context.Context, s *natsstore.Store) error {
					return s.Touch(ctx, idOf(1), time.Now().Add(2*time.Hour))
				},
				"Delete of a version": func(ctx context.Context, s *natsstore.Store) error {
					return s.Delete(ctx, idOf(2), versions[idOf(2)])
				},
				"Delete": func(ctx context.Context, s *natsstore.Store) error { return s.Delete(ctx, idOf(3), 0) },
			} {
				conn := connect(t, addr, nats.SetCustomDialer(m))
				js, err := jetstream.New(conn)
				if err != nil {
					t.Fatal(err)
				}
				same, err := js.KeyValue(t.Context(), kv.Bucket())
				if err != nil {
					t.Fatal(err)
				}
				s := open(t, same, natsstore.Options{Conn: conn})
				before := lastRevision(t, kv)
				ctx, cancel := context.WithCancel(t.Context())
				m.set.Store(true)
				written := make(chan error, 1)
				go func() { written <- write(ctx, s) }()
				eventually(t, name+": the server has not received the write", func() bool { return lastRevision(t, kv) > before })
				if !tt.closes {
					cancel()
				}
				if err := <-written; !isOtherError(err) || errors.Is(err, context.Canceled) == tt.closes {
					t.Errorf("%s: got %v, want an error with an unknown outcome", name, err)
				}
				cancel()
				if tt.closes {
					if _, err := s.Load(t.Context(), idOf(0)); err != nil { // after the client has connected again
						t.Errorf("Load: %v", err)
					}
				}
				conn.Close()
				if n := lastRevision(t, kv) - before; n != 1 {
					t.Errorf("%s: the server has received %d writes, want 1", name, n)
				}
			}
		})
	}
}

// lastRevision returns the number of writes that a bucket has accepted.
func lastRevision(t testing.TB, kv jetstream.KeyValue) uint64 {
	t.Helper()
	status, err := kv.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.(*jetstream.KeyValueBucketStatus).StreamInfo().State.LastSeq
}

// The README and the comments of the methods have these numbers.
func TestOperationsTakeTheMessagesThatTheirCommentsSay(t *testing.T) {
	s, kv, conn := fresh(t, recommended)
	other := open(t, kv, natsstore.Options{})
	var version uint64
	rec := recordFor(time.Hour, "data", "")
	owned := recordFor(time.Hour, "data", "ada", "red", "blue")
	for _, tt := range []struct {
		operation string
		want      uint64
		run       func() error
	}{
		{"Create", 1, func() (err error) { version, err = s.Create(t.Context(), idOf(1), rec); return }},
		{"Load", 1, func() error { _, err := s.Load(t.Context(), idOf(1)); return err }},
		{"Update of what was loaded", 1, func() (err error) { rec.Version = version; version, err = s.Update(t.Context(), idOf(1), rec); return }},
		{"Update with a new owner and two new labels", 4, func() (err error) {
			owned.Version = version
			version, err = s.Update(t.Context(), idOf(1), owned)
			return
		}},
		{"Update of a record with an owner and labels", 1, func() (err error) {
			owned.Version = version
			version, err = s.Update(t.Context(), idOf(1), owned)
			return
		}},
		{"Touch", 2, func() error { return s.Touch(t.Context(), idOf(1), time.Now().Add(2*time.Hour)) }},
		{"Update of what was touched", 1, func() (err error) {
			owned.Version = version
			version, err = s.Update(t.Context(), idOf(1), owned)
			return
		}},
		{"Delete of a version", 1, func() error { return s.Delete(t.Context(), idOf(1), version) }},
		{"Delete", 1, func() error { return s.Delete(t.Context(), idOf(1), 0) }},
		{"Create", 1, func() (err error) { version, err = s.Create(t.Context(), idOf(3), rec); return }},
		{"Update of what another process has loaded", 2, func() (err error) {
			rec.Version = version
			version, err = other.Update(t.Context(), idOf(3), rec)
			return
		}},
		{"Touch by that process", 2, func() error { return other.Touch(t.Context(), idOf(3), time.Now().Add(2*time.Hour)) }},
		{"Load", 1, func() error { _, err := s.Load(t.Context(), idOf(3)); return err }},
		{"Touch by that process", 2, func() error { return other.Touch(t.Context(), idOf(3), time.Now().Add(3*time.Hour)) }},
		{"Update of what was touched by another process", 3, func() error {
			rec.Version = version
			_, err := s.Update(t.Context(), idOf(3), rec)
			return err
		}},
		{"Create with an owner and two labels", 4, func() (err error) { version, err = s.Create(t.Context(), idOf(2), owned); return }},
	} {
		before := conn.Stats().OutMsgs
		if err := tt.run(); err != nil {
			t.Errorf("%s: %v", tt.operation, err)
		}
		if got := conn.Stats().OutMsgs - before; got != tt.want {
			t.Errorf("%s: %d messages to the server, want %d", tt.operation, got, tt.want)
		}
	}
}

// rights are the permissions of a user of NATS for the bucket sessions.
const rights = `publish: [
	"$KV.sessions.>"
	"$JS.API.STREAM.INFO.KV_sessions"
	"$JS.API.STREAM.MSG.GET.KV_sessions"
	"$JS.API.STREAM.PURGE.KV_sessions"
	"$JS.API.DIRECT.GET.KV_sessions.>"
	"$JS.API.CONSUMER.CREATE.KV_sessions.>"
	"$JS.API.CONSUMER.DELETE.KV_sessions.>"
	"$JS.FC.KV_sessions.>"
]
subscribe: "_INBOX.>"
`

func TestTheRightsThatTheREADMEListsAreEnough(t *testing.T) {
	natsstore.SetMarkerLifetime(t, -1)
	server := start(t, `authorization { users: [
		{ user: admin, password: admin }
		{ user: shop, password: shop, permissions: {
			`+rights+`
		} }
	] }`)
	admin := connect(t, server.Addr, nats.UserInfo("admin", "admin"))
	newBucket(t, admin, jetstream.KeyValueConfig{Bucket: "sessions"})
	var denied atomic.Value
	conn := connect(t, server.Addr, nats.UserInfo("shop", "shop"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied.Store(err.Error()) }))
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), "sessions")
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, kv, natsstore.Options{Conn: conn})
	f := changesOf(t, s)
	for i := range 300 { // enough for flow control
		update(t, s, idOf(i), create(t, s, idOf(i), recordFor(time.Hour, "data", "ada", "red")), recordFor(-time.Second, "", "ada"))
		f.until(idOf(i))
	}
	create(t, s, idOf(300), recordFor(time.Hour, "data", "ada"))
	if !collect(t, s.Owned(t.Context(), "ada"))[idOf(300)] {
		t.Error("Owned does not yield the session")
	}
	if n, err := s.Sweep(t.Context()); n != 300 || err != nil {
		t.Errorf("Sweep: got %d, %v, want 300", n, err)
	}
	if err := s.Delete(t.Context(), idOf(300), 0); err != nil {
		t.Error(err)
	}
	if err := conn.Flush(); err != nil {
		t.Error(err)
	}
	if err := denied.Load(); err != nil {
		t.Errorf("the server has denied something: %v", err)
	}
}

// A server that has restarted may have lost its last writes and use a revision again.
func TestRevisionsAreNotRememberedWhenTheConnectionHasBroken(t *testing.T) {
	s, _, conn := fresh(t, recommended)
	version := create(t, s, idOf(1), recordFor(time.Hour, "data", ""))
	if !natsstore.Recalls(s, idOf(1), version) || natsstore.Recalls(s, idOf(1), version+1) || natsstore.Recalls(s, idOf(2), version) {
		t.Error("the revision of a record that was just created is not remembered for this version alone")
	}
	if err := conn.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the revision is remembered", func() bool { return !natsstore.Recalls(s, idOf(1), version) })
}

func TestARequestTakesOneMessageToLoadAndOneToStore(t *testing.T) {
	conn := connect(t, start(t, "").Addr)
	kv := newBucket(t, conn, recommended)
	storetest.RunCost(t, func(t testing.TB) sessions.Store {
		return open(t, kv, natsstore.Options{Conn: conn})
	}, func() int { return int(conn.Stats().OutMsgs) })
}
