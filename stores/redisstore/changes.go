package redisstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
)

const (
	// heartbeat is how often a node is asked whether it answers and still is
	// a master.
	heartbeat = 2 * time.Second

	// answerTimeout is how long a node may take for the answer.
	answerTimeout = 4 * time.Second

	// missedInterval is how often Changes yields the zero ID while it cannot listen
	// to all masters.
	missedInterval = 5 * time.Second

	// maxPending bounds the ids that wait for the caller, who gets the zero ID in
	// place of more.
	maxPending = 1 << 16
)

// Changes implements [sessions.Watcher]. Redis sends the ids of all records that
// change, one network latency later. It yields the zero ID first, when it listens
// to every master, again each time a connection was lost and is back or another
// node has become a master, and every five seconds while it cannot listen to all.
// It also yields the ids of records that were created, touched or expired. An id that
// changes several times before the caller asks for the next pair is yielded once.
//
// It takes a connection of its own to each master, and closes these when it ends.
// Over each it sends a command every two seconds; in a cluster, also over the
// client's connection to each replica. Writes cost Redis nothing without a caller
// of Changes, and little with one.
//
// It ends with an error that is errors.ErrUnsupported if Redis cannot tell this
// client of changes: the client has AlwaysRESP2, or its user may not send CLIENT
// TRACKING. DisableCache does not matter.
func (s *Store) Changes(ctx context.Context) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		f := &feed{
			store: s, pending: make(map[sessions.ID]struct{}), listening: make(map[*listener]bool), missed: true,
			since: time.Now(), wake: make(chan struct{}, 1),
		}
		defer f.running.Wait()
		defer cancel()
		f.follow(ctx)
		beat := time.NewTicker(heartbeat)
		defer beat.Stop()
		for ids := make(map[sessions.ID]struct{}); ; {
			select {
			case <-ctx.Done():
				return
			case <-f.wake:
			case <-beat.C:
				f.follow(ctx)
			}
			var missed bool
			var err error
			ids, missed, err = f.take(ids)
			if err != nil {
				yield(sessions.ID{}, err)
				return
			}
			if missed && !yield(sessions.ID{}, nil) {
				return
			}
			for id := range ids {
				if ctx.Err() != nil || !yield(id, nil) {
					return
				}
			}
		}
	}
}

// A feed collects what the listeners of one call of Changes receive. Server-assisted
// invalidation in broadcast mode was chosen over a message published by the scripts:
// BenchmarkUpdateWatched has the figures.
type feed struct {
	store   *Store
	nodes   map[string]*listener // by address; only Changes uses it
	running sync.WaitGroup
	wake    chan struct{}

	mu        sync.Mutex
	pending   map[sessions.ID]struct{}
	listening map[*listener]bool // whether each misses nothing from now on
	missed    bool               // whether the zero ID must be yielded
	since     time.Time          // of the last zero ID
	err       error
}

// follow starts a listener for each node that the client has come to know, and
// ends those of nodes that are gone. The client learns of new nodes when an
// operation is redirected or a connection breaks.
func (f *feed) follow(ctx context.Context) {
	nodes := f.store.client.Nodes()
	f.mu.Lock()
	defer f.mu.Unlock()
	for addr, l := range f.nodes {
		if _, ok := nodes[addr]; !ok {
			l.cancel()
			delete(f.nodes, addr)
			delete(f.listening, l)
			f.missed = true
		}
	}
	if f.nodes == nil {
		f.nodes = make(map[string]*listener)
	}
	for addr := range nodes {
		if f.nodes[addr] == nil {
			l := &listener{feed: f, addr: addr, flushed: make(chan struct{}, 1)}
			var own context.Context
			own, l.cancel = context.WithCancel(ctx)
			f.nodes[addr], f.listening[l] = l, false
			f.running.Go(func() { l.run(own) })
		}
	}
}

// take returns what Changes must yield. It keeps the given map, emptied, for the next
// ids.
func (f *feed) take(empty map[sessions.ID]struct{}) (ids map[sessions.ID]struct{}, missed bool, err error) {
	clear(empty)
	f.mu.Lock()
	defer f.mu.Unlock()
	ids, f.pending = f.pending, empty
	all := len(f.listening) > 0
	for _, listening := range f.listening {
		all = all && listening
	}
	if f.missed && (all || time.Since(f.since) >= missedInterval) {
		clear(ids)
		f.missed, f.since, missed = !all, time.Now(), true
	}
	return ids, missed, f.err
}

// notify makes Changes call take.
func (f *feed) notify() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// add notes the keys that have changed. Until it returns, rueidis reads nothing else
// from the connection, so it does not wait for the caller of Changes.
func (f *feed) add(keys []rueidis.RedisMessage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range keys {
		name, err := key.ToString()
		hash, ok := strings.CutPrefix(name, f.store.prefix+":")
		var id sessions.ID
		if err != nil || !ok || len(hash) != len(id) {
			continue
		}
		copy(id[:], hash)
		f.pending[id] = struct{}{}
	}
	if len(f.pending) > maxPending {
		clear(f.pending)
		f.missed = true
	}
	f.notify()
}

// set notes whether l misses nothing from now on.
func (f *feed) set(l *listener, listening bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if was, ok := f.listening[l]; ok && was != listening {
		f.listening[l], f.missed = listening, true
		f.notify()
	}
}

func (f *feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
	f.notify()
}

// A listener receives the changes at one node.
type listener struct {
	feed    *feed
	addr    string
	cancel  context.CancelFunc
	flushed chan struct{} // has a value after Redis dropped all keys, or the connection broke
}

func (l *listener) run(ctx context.Context) {
	defer l.cancel()
	const first, longest = 20 * time.Millisecond, time.Second
	for wait := first; ; wait = min(2*wait, longest) {
		began := time.Now()
		err := l.listen(ctx)
		l.feed.set(l, false)
		if errors.Is(err, errors.ErrUnsupported) {
			l.feed.fail(err)
			return
		}
		if time.Since(began) > heartbeat {
			wait = first
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// listen receives changes until the context is done, the connection breaks or the
// node becomes a replica. It ignores a replica, whose changes are those of its master.
func (l *listener) listen(ctx context.Context) error {
	node, ok := l.feed.store.client.Nodes()[l.addr]
	if !ok {
		return errNotMaster
	}
	for {
		err := l.hello(ctx, node)
		if err == nil {
			break
		}
		if err != errNotMaster {
			return err
		}
		l.feed.set(l, true)
		if !pause(ctx, heartbeat) {
			return ctx.Err()
		}
	}
	l.feed.set(l, false)
	conn, _ := node.Dedicate()
	// Close, so that the connection does not stay in the client's pool.
	defer conn.Close()
	lost := conn.SetOnInvalidations(l.changed)
	if err := l.track(ctx, conn); err != nil {
		return err
	}
	l.feed.set(l, true)
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-lost:
			return err
		case <-l.flushed:
		case <-beat.C:
		}
		if err := l.hello(ctx, conn); err != nil {
			return err
		}
		l.feed.set(l, true)
	}
}

// changed is called by rueidis with the keys that have changed. It is called with nil
// after FLUSHALL, and when the connection has broken. The next hello shows which of
// both it was: the zero ID has no use while Redis cannot be asked.
func (l *listener) changed(keys []rueidis.RedisMessage) {
	if keys != nil {
		l.feed.add(keys)
		return
	}
	l.feed.set(l, false)
	select {
	case l.flushed <- struct{}{}:
	default:
	}
}

// track turns on the invalidation messages for the keys of all records. Redis
// refuses to change the mode of a connection that already tracks keys.
func (l *listener) track(ctx context.Context, conn rueidis.DedicatedClient) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	answers := conn.DoMulti(undated{ctx},
		conn.B().Arbitrary("HELLO").Build(), // its error, if any, is that of the connection
		conn.B().ClientTracking().Off().Build(),
		conn.B().ClientTracking().On().Prefix().Prefix(l.feed.store.prefix+":").Bcast().Build())
	if err := l.isMaster(answers[0]); err != nil {
		return err
	}
	for _, answer := range answers[1:] {
		err := answer.Error()
		if _, ok := rueidis.IsRedisErr(err); ok && (hasCode(err, "NOPERM") || hasCode(err, "ERR")) {
			return fmt.Errorf("redisstore: CLIENT TRACKING at %s for Changes (the user needs the right +client|tracking): %w: %w", l.addr, errors.ErrUnsupported, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var errNotMaster = errors.New("redisstore: the node is not a master")

// hello asks whether the node answers and is a master. No user needs a right for
// HELLO.
func (l *listener) hello(ctx context.Context, conn rueidis.CommandClient) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return l.isMaster(conn.Do(undated{ctx}, conn.B().Arbitrary("HELLO").Build()))
}

func (l *listener) isMaster(answer rueidis.RedisResult) error {
	fields, err := answer.AsMap()
	if _, ok := rueidis.IsRedisErr(err); ok && strings.Contains(err.Error(), "unknown command") {
		return fmt.Errorf("redisstore: Changes needs RESP3, which the server at %s does not have: %w: %w", l.addr, errors.ErrUnsupported, err)
	}
	if err != nil {
		return err
	}
	proto, role := fields["proto"], fields["role"]
	if n, err := proto.AsInt64(); err == nil && n < 3 {
		return fmt.Errorf("redisstore: Changes needs RESP3, and the client's option AlwaysRESP2 excludes it: %w", errors.ErrUnsupported)
	}
	if s, err := role.ToString(); err == nil && (s == "replica" || s == "slave") {
		return errNotMaster
	}
	return nil
}

func hasCode(err error, code string) bool { return strings.HasPrefix(err.Error(), code+" ") }

// pause waits for d and reports whether the context is not done.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
