package natsstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
)

// markerLifetime is how long the marker of a deletion stays if the bucket allows
// markers to expire.
var markerLifetime = time.Hour

// renewal is how often Changes starts again. A reader that was cut off for less than
// that gets what it missed from the bucket. The markers of deletions must be there
// for it, so renewal is less than markerLifetime.
const renewal = 30 * time.Minute

// bucketCheck is how often Changes asks whether the bucket is still the same. In another one,
// the client would wait for the revision after the last one that it has seen.
var bucketCheck = 10 * time.Second

// Changes implements [sessions.Watcher]. It has a consumer of the bucket to which the
// server sends each record that is written, with its data, and each deletion; those
// of Sweep too.
//
// It yields the zero ID when it has begun to listen, which is one round trip after
// the loop has started, and again when it starts anew: after the connection broke,
// within ten seconds after the bucket was created again or restored, and every half
// hour. Without Options.Conn it is not told that the connection broke. The client then
// notices after some 20 seconds that nothing arrives, and what was missed is yielded
// late. It asks the server every ten seconds whether the bucket is still the same, and
// with several replicas after each change whether the leader has it.
//
// If it cannot start, it yields an error. It ends without one when ctx is done.
func (s *Store) Changes(ctx context.Context) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		more := true
		for more && ctx.Err() == nil {
			var err error
			more, err = s.changes(ctx, yield)
			if err != nil && ctx.Err() == nil {
				yield(sessions.ID{}, fmt.Errorf("natsstore: listen for changes: %w", err))
				return
			}
		}
	}
}

// changes yields the changes until the connection breaks, the bucket is another one or
// renewal has passed, and reports whether more are wanted.
func (s *Store) changes(ctx context.Context, yield func(sessions.ID, error) bool) (more bool, err error) {
	broken := s.conn.current().Done()
	bucket, err := s.state(ctx)
	if err != nil {
		return false, err
	}
	seen := bucket.State.LastSeq // what comes before the zero ID is not news
	readable := seen             // the last revision that the leader has
	updates, end, err := s.watch(ctx, recordKeys, jetstream.UpdatesOnly())
	if err != nil {
		return false, err
	}
	defer end()
	if !yield(sessions.ID{}, nil) {
		return false, nil
	}
	renew := time.NewTimer(renewal)
	defer renew.Stop()
	check := time.NewTicker(bucketCheck)
	defer check.Stop()
	for {
		select {
		case entry, ok := <-updates:
			if !ok {
				return true, nil
			}
			// A replica may send what the leader does not yet answer to a reader.
			for bucket.Config.Replicas > 1 && entry.Revision() > readable {
				now, err := s.state(ctx)
				if err != nil || isAnother(now, bucket, readable) {
					return true, nil // no leader, or another bucket
				}
				readable = now.State.LastSeq
			}
			id, is := isNews(entry, seen)
			seen = entry.Revision()
			if is && !yield(id, nil) {
				return false, nil
			}
		case <-broken:
			return true, nil
		case <-renew.C:
			return true, nil
		case <-check.C:
			now, err := s.state(ctx)
			if err == nil && isAnother(now, bucket, seen) {
				return true, nil
			}
		case <-ctx.Done():
			return false, nil
		}
	}
}

// isAnother reports whether a bucket is not the one before, which had the given revision: it
// was deleted and created again, or restored from a backup.
func isAnother(now, before *jetstream.StreamInfo, revision uint64) bool {
	return !now.Created.Equal(before.Created) || now.State.LastSeq < revision
}

// state is info with the bounds of an operation.
func (s *Store) state(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, end := s.begin(ctx)
	defer end()
	info, err := s.info(ctx)
	return info, cause(ctx, err)
}

// isNews returns the id of an entry, and reports whether a reader that has seen all
// revisions up to seen is to be told of it.
func isNews(entry jetstream.KeyValueEntry, seen uint64) (sessions.ID, bool) {
	id, ok := parseID(strings.TrimPrefix(entry.Key(), recordPrefix))
	if !ok || entry.Operation() != jetstream.KeyValuePut {
		return id, ok
	}
	found, err := decode(entry)
	return id, err != nil || found.news > seen
}

// watchTimeout bounds the time in which the server creates a consumer.
const watchTimeout = 10 * time.Second

// watch is KeyValue.Watch with a bound for the wait for its answer. The caller must
// call end, which does not wait.
func (s *Store) watch(ctx context.Context, keys string, opts ...jetstream.WatchOpt) (updates <-chan jetstream.KeyValueEntry, end func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(watchTimeout, func() { cancel(errors.New("the server does not answer")) })
	intact := context.AfterFunc(s.conn.current(), func() { cancel(errBroken) })
	watcher, err := s.kv.Watch(ctx, keys, opts...)
	timer.Stop()
	intact()
	if err == nil && ctx.Err() != nil {
		discard(watcher)
		err = context.Cause(ctx)
	}
	if err != nil {
		err = cause(ctx, err)
		cancel(nil)
		return nil, nil, err
	}
	// The client deletes the consumer when the context of Watch is done.
	return watcher.Updates(), func() { cancel(nil); discard(watcher) }, nil
}

// discard empties the channel of a watcher until the client closes it, since the
// client may be waiting for room in it.
func discard(watcher jetstream.KeyWatcher) {
	go func() {
		// It does not close the channel of a consumer that ended while it was created.
		timer := time.NewTimer(time.Minute)
		defer timer.Stop()
		for {
			select {
			case _, ok := <-watcher.Updates():
				if !ok {
					return
				}
			case <-timer.C:
				return
			}
		}
	}()
}
