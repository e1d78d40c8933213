package storetest_test

import (
	"context"
	"encoding/gob"
	"errors"
	"iter"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// A request is what a remoteStore sends to its server.
type request struct {
	Op      string
	ID      sessions.ID
	Data    []byte
	Version uint64
	Expires time.Time
	Owner   string
}

type response struct {
	Data    []byte
	Version uint64
	Expires time.Time
	Owner   string
	IDs     []sessions.ID
	Err     string
}

// A server serves a MemoryStore over TCP, with one request per connection.
type server struct {
	t        testing.TB
	addr     string
	volatile bool // it loses all data when it is killed

	store    atomic.Pointer[sessions.MemoryStore]
	listener net.Listener
	running  sync.WaitGroup
	conns    sync.Map
	commands atomic.Int64
}

func newServer(t testing.TB) *server {
	s := &server{t: t, addr: "127.0.0.1:0", volatile: true}
	s.Restart()
	s.volatile = false
	t.Cleanup(s.Kill)
	return s
}

func (s *server) Kill() {
	_ = s.listener.Close()
	s.conns.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
	s.running.Wait()
}

func (s *server) Restart() {
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.listener, s.addr = l, l.Addr().String()
	if s.volatile {
		s.store.Store(new(sessions.MemoryStore))
	}
	s.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.conns.Store(c, true)
			s.running.Go(func() {
				defer s.conns.Delete(c)
				defer c.Close()
				var q request
				if gob.NewDecoder(c).Decode(&q) == nil {
					s.commands.Add(1)
					_ = gob.NewEncoder(c).Encode(s.respond(q))
				}
			})
		}
	})
}

func (s *server) respond(q request) (r response) {
	ctx, store := context.Background(), s.store.Load()
	rec := sessions.Record{Data: q.Data, Version: q.Version, Expires: q.Expires, Owner: q.Owner}
	var err error
	switch q.Op {
	case "Load":
		rec, err = store.Load(ctx, q.ID)
		r = response{Data: rec.Data, Version: rec.Version, Expires: rec.Expires, Owner: rec.Owner}
	case "Create":
		r.Version, err = store.Create(ctx, q.ID, rec)
	case "Update":
		r.Version, err = store.Update(ctx, q.ID, rec)
	case "Touch":
		err = store.Touch(ctx, q.ID, q.Expires)
	case "Delete":
		err = store.Delete(ctx, q.ID, q.Version)
	case "Owned":
		for id := range store.Owned(ctx, q.Owner) {
			r.IDs = append(r.IDs, id)
		}
	}
	if err != nil {
		r.Err = err.Error()
	}
	return r
}

// A remoteStore is the client of a server, and may have a fault.
type remoteStore struct {
	addr  string
	fault fault
}

var errAnswers = map[string]error{}

func init() {
	for _, err := range []error{sessions.ErrNotFound, sessions.ErrExists, sessions.ErrConflict} {
		errAnswers[err.Error()] = err
	}
}

func (s *remoteStore) ask(ctx context.Context, q request) (response, error) {
	r, err := s.askOnce(ctx, q)
	if err == nil || errors.Is(err, errAnswers[r.Err]) {
		return r, err
	}
	switch s.fault {
	case "an operation of unknown outcome is repeated":
		for ctx.Err() == nil && err != nil && !errors.Is(err, errAnswers[r.Err]) {
			r, err = s.askOnce(ctx, q)
		}
	case "a cut is reported as a conflict":
		if ctx.Err() == nil && q.Op == "Update" {
			return r, sessions.ErrConflict
		}
	case "a cut is reported as absence":
		if ctx.Err() == nil {
			return r, sessions.ErrNotFound
		}
	case "a cut Update is reported as done":
		if ctx.Err() == nil && q.Op == "Update" {
			return response{Version: q.Version + 1<<32}, nil
		}
	case "it panics when there is no connection":
		panic(err)
	}
	return r, err
}

func (s *remoteStore) askOnce(ctx context.Context, q request) (r response, err error) {
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		if s.fault == "errors.Is does not find the error of the context" && err != nil {
			err = errors.New(err.Error())
		}
	}()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return r, err
	}
	defer c.Close()
	if s.fault != "the context is ignored" {
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		defer stop()
	}
	if err := gob.NewEncoder(c).Encode(q); err != nil {
		return r, err
	}
	if err := gob.NewDecoder(c).Decode(&r); err != nil {
		return response{}, err
	}
	if r.Err != "" {
		return r, errAnswers[r.Err]
	}
	return r, nil
}

func (s *remoteStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	if s.fault == "Load asks twice" {
		_, _ = s.ask(ctx, request{Op: "Load", ID: id})
	}
	r, err := s.ask(ctx, request{Op: "Load", ID: id})
	return sessions.Record{Data: r.Data, Version: r.Version, Expires: r.Expires, Owner: r.Owner}, err
}

func (s *remoteStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	r, err := s.ask(ctx, request{"Create", id, rec.Data, 0, rec.Expires, rec.Owner})
	return r.Version, err
}

func (s *remoteStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	if s.fault == "Update asks twice" {
		_, _ = s.ask(ctx, request{Op: "Load", ID: id})
	}
	r, err := s.ask(ctx, request{"Update", id, rec.Data, rec.Version, rec.Expires, rec.Owner})
	return r.Version, err
}

func (s *remoteStore) Touch(ctx context.Context, id sessions.ID, end time.Time) error {
	_, err := s.ask(ctx, request{Op: "Touch", ID: id, Expires: end})
	return err
}

func (s *remoteStore) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	_, err := s.ask(ctx, request{Op: "Delete", ID: id, Version: version})
	return err
}

func (s *remoteStore) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		r, err := s.ask(ctx, request{Op: "Owned", Owner: owner})
		for _, id := range r.IDs {
			if !yield(id, nil) {
				return
			}
		}
		if err != nil {
			yield(sessions.ID{}, err)
		}
	}
}
