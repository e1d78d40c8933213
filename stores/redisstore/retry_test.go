package redisstore_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/redisstore"
)

// The client of this test has no DisableRetry.
func TestWriteWithoutAnAnswerIsNotSentAgain(t *testing.T) {
	server := testserver.Redis(t)
	direct := connectTo(t, server.Addr)
	p := newProxy(t, server.Addr)
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{p.addr}, PipelineMultiplex: -1, Dialer: net.Dialer{Timeout: time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	store := redisstore.New(client, redisstore.Options{})

	// Load the scripts into Redis.
	warm := idOf(0)
	update(t, store, warm, create(t, store, warm, recordOf("", "ada")), recordOf("", "eve"))
	if err := store.Touch(t.Context(), warm, time.Now().Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), warm, 1); !errors.Is(err, sessions.ErrConflict) {
		t.Fatal(err)
	}

	for i, tt := range []struct {
		name    string
		command string
		want    int // executions
		run     func(ctx context.Context, id sessions.ID, version uint64) error
	}{
		{"Create", "set", 1, func(ctx context.Context, _ sessions.ID, _ uint64) error {
			_, err := store.Create(ctx, idOf(1000), recordOf("", ""))
			return err
		}},
		{"the index of Create", "zadd", 1, func(ctx context.Context, _ sessions.ID, _ uint64) error {
			_, err := store.Create(ctx, idOf(1001), recordOf("", "ada"))
			return err
		}},
		{"Update", "evalsha", 1, func(ctx context.Context, id sessions.ID, version uint64) error {
			rec := recordOf("new", "")
			rec.Version = version
			_, err := store.Update(ctx, id, rec)
			return err
		}},
		{"Touch", "evalsha", 1, func(ctx context.Context, id sessions.ID, _ uint64) error {
			return store.Touch(ctx, id, time.Now().Add(3*time.Hour))
		}},
		{"Delete of a version", "evalsha", 1, store.Delete},
		{"Delete of any version", "del", 1, func(ctx context.Context, id sessions.ID, _ uint64) error { return store.Delete(ctx, id, 0) }},
		// This shows that the client does repeat a read.
		{"Load, which may be sent again,", "get", 2, func(ctx context.Context, id sessions.ID, _ uint64) error {
			if _, err := store.Load(ctx, id); err != nil {
				return err
			}
			return errors.New("answered at last")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := idOf(1 + i)
			version := create(t, store, id, recordOf("", ""))
			before := calls(t, direct)[tt.command]
			cut := func([]byte) bool {
				p.answers.Store(nil)
				return false
			}
			p.answers.Store(&cut)
			err := tt.run(t.Context(), id, version)
			if p.answers.Load() != nil {
				t.Fatal("no answer was cut off")
			}
			if err == nil || errors.Is(err, sessions.ErrConflict) || errors.Is(err, sessions.ErrExists) || errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("got %v, want an error that does not stand for a known outcome", err)
			}
			if got := calls(t, direct)[tt.command] - before; got != tt.want {
				t.Errorf("Redis executed %s %d times, want %d", tt.command, got, tt.want)
			}
		})
	}
}
