package natsstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
)

// Options configure a [Store]. The zero value is valid.
type Options struct {
	// Conn is the connection that the bucket uses. Set it: an operation whose
	// connection breaks then returns at once, and Changes starts again as soon as
	// the connection is back. Without Conn, the answer of such an operation never
	// comes, and it returns when its context is done. If the server has no more space,
	// Conn is also needed to delete and list sessions, and to Sweep.
	Conn *nats.Conn
}

// A Store is a [sessions.LabelStore] and a [sessions.Watcher] in a key-value
// bucket of NATS JetStream. It is safe for concurrent use by multiple goroutines,
// and its bucket by multiple processes. Expired records are removed only by
// [Store.Sweep].
//
// Records expire by the clock of the process, which must not differ much from the
// clocks of the other processes.
//
// Operations return when their context is done, and after a minute at the latest.
// They never repeat a write whose outcome is unknown.
type Store struct {
	kv jetstream.KeyValue
	// markerOpts bound the life of the markers that deletions leave, if the bucket
	// allows that.
	markerOpts []jetstream.KVDeleteOpt
	conn       *connection // nil: unknown
	api        *api        // nil: unknown
	hints      hints
}

var (
	_ sessions.LabelStore = (*Store)(nil)
	_ sessions.Watcher    = (*Store)(nil)
)

// New returns a store in the bucket kv, which must be used for nothing else. It
// asks the server for the configuration of the bucket, and returns an error that
// names each setting with which sessions would be lost or come back. The package
// comment lists them.
//
// If opt.Conn is set, New starts a goroutine that ends when the connection is
// closed.
func New(kv jetstream.KeyValue, opt Options) (*Store, error) {
	if kv == nil {
		return nil, errors.New("natsstore: New needs a bucket, got nil")
	}
	s := &Store{kv: kv}
	if opt.Conn != nil {
		s.conn = watchConnection(opt.Conn)
	}
	ctx, end := s.begin(context.Background())
	defer end()
	info, err := s.info(ctx)
	if err == nil {
		err = check(info.Config)
	}
	if err != nil {
		s.conn.forget()
		return nil, fmt.Errorf("natsstore: bucket %s: %w", kv.Bucket(), err)
	}
	if info.Config.AllowMsgTTL {
		s.markerOpts = []jetstream.KVDeleteOpt{jetstream.PurgeTTL(markerLifetime)}
	}
	if opt.Conn != nil {
		s.api = apiOf(ctx, opt.Conn, kv, info)
	}
	return s, nil
}

// Load implements [sessions.Store]. It takes one round trip.
func (s *Store) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	op, end := s.begin(ctx)
	defer end()
	found, err := s.live(op, id)
	if err == nil {
		s.remember(id, found)
	}
	return found.Record, s.failed(ctx, op, "load", id, err)
}

// Create implements [sessions.Store]. It takes one round trip, and a second one
// before it if the record has an owner or labels.
func (s *Store) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	op, end := s.begin(ctx)
	defer end()
	version, err := s.create(op, id, rec)
	return version, s.failed(ctx, op, "create", id, err)
}

func (s *Store) create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	if err := s.index(ctx, id, terms(rec)); err != nil {
		return 0, err
	}
	rec.Version = newVersion()
	next := stored{Record: rec, news: newsToNobody}
	var err error
	next.revision, err = s.put(ctx, recordKey(id), encode(next), 0)
	for err == errMoved {
		// The key is taken, but its record may have expired.
		next.news = newsToReaders
		var found stored
		switch found, err = s.get(ctx, id); {
		case err == nil && !found.expired():
			return 0, sessions.ErrExists
		case err == nil:
			next.revision, err = s.put(ctx, recordKey(id), encode(next), found.revision)
		case err == sessions.ErrNotFound:
			next.revision, err = s.putOverMarker(ctx, recordKey(id), encode(next))
		}
	}
	if err != nil {
		return 0, err
	}
	s.remember(id, next)
	return rec.Version, nil
}

// Update implements [sessions.Store]. It takes one round trip if this process has just
// loaded or written the record, else two, and three if another process has touched it
// meanwhile. A change of the owner or a new label takes one more.
func (s *Store) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	op, end := s.begin(ctx)
	defer end()
	version, err := s.update(op, id, rec)
	return version, s.failed(ctx, op, "update", id, err)
}

func (s *Store) update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	loaded := rec.Version
	rec.Version = newVersion()
	next := stored{Record: rec, news: newsToReaders}
	value := encode(next)
	err := s.replaceVersion(ctx, id, loaded, func(found stored) error {
		// The bucket has an entry for each term of the record that is replaced:
		// see the comment of term.
		err := s.index(ctx, id, without(terms(rec), terms(found.Record)))
		if err == nil {
			next.revision, err = s.put(ctx, recordKey(id), value, found.revision)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	s.remember(id, next)
	return rec.Version, nil
}

// Touch implements [sessions.Store]. It takes two round trips, and rewrites the
// whole record.
func (s *Store) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	op, end := s.begin(ctx)
	defer end()
	err := s.replace(op, id, func(found stored) error {
		if expires.UnixMilli() <= found.Expires.UnixMilli() {
			return nil
		}
		found.Expires, found.news = expires, found.revision
		var err error
		if found.revision, err = s.put(op, recordKey(id), encode(found), found.revision); err == nil {
			s.remember(id, found)
		}
		return err
	})
	return s.failed(ctx, op, "touch", id, err)
}

// Delete implements [sessions.Store]. It takes one round trip with version 0, else as many
// as Update, and two more if the server has no space. It leaves a marker, which the server
// removes after an hour if the bucket has a LimitMarkerTTL, and Sweep otherwise.
func (s *Store) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	op, end := s.begin(ctx)
	defer end()
	var err error
	if version == 0 {
		err = s.purge(op, recordKey(id), 0)
	} else {
		err = s.replaceVersion(op, id, version, func(found stored) error {
			return s.purge(op, recordKey(id), found.revision)
		})
	}
	return s.failed(ctx, op, "delete", id, err)
}

// replace calls write with the live record of id. If the record was written meanwhile,
// so that write returns errMoved, replace starts again.
func (s *Store) replace(ctx context.Context, id sessions.ID, write func(found stored) error) error {
	for {
		found, err := s.live(ctx, id)
		if err != nil {
			return err
		}
		if err := write(found); err != errMoved {
			return err
		}
	}
}

// replaceVersion is replace for a record with the given version. It first calls write with
// what the process remembers of it, which has no data.
func (s *Store) replaceVersion(ctx context.Context, id sessions.ID, version uint64, write func(found stored) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if found, ok := s.recall(id, version); ok {
		if err := write(found); err != errMoved {
			return err
		}
	}
	return s.replace(ctx, id, func(found stored) error {
		if found.Version != version {
			return sessions.ErrConflict
		}
		return write(found)
	})
}

// newVersion returns the version of a write. A version must not be used again after
// a Delete and a Create. A counter would have to outlive its record; a random number
// need not. The revision of the bucket cannot serve, since Touch changes it.
func newVersion() uint64 { return 1 + rand.Uint64N(math.MaxUint64) }

// live returns the record of id, or ErrNotFound if there is none or it has expired.
func (s *Store) live(ctx context.Context, id sessions.ID) (stored, error) {
	found, err := s.get(ctx, id)
	if err == nil && found.expired() {
		return stored{}, sessions.ErrNotFound
	}
	return found, err
}

// get returns the record of id, live or expired, or ErrNotFound.
func (s *Store) get(ctx context.Context, id sessions.ID) (stored, error) {
	entry, err := s.kv.Get(ctx, recordKey(id))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return stored{}, sessions.ErrNotFound
	}
	if err != nil {
		return stored{}, err
	}
	return decode(entry)
}

// errMoved is returned for a write that the server has refused, since the key has
// another revision than expected.
var errMoved = errors.New("the key has another revision")

// put writes a value if the key has the given revision, and returns the new one.
// Revision 0 stands for a key that has never been written.
func (s *Store) put(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	next, err := s.kv.Update(ctx, key, value, revision)
	return next, refusal(err)
}

// putOverMarker writes a value if the key has a marker or has never been written.
//
// KeyValue.Create writes a second time if its first write failed for any reason and
// the key has a marker. If the outcome of the first write were unknown, that could
// bring a deleted record back. But an unknown outcome means that ctx is done, since
// it has a deadline before which KeyValue.Create does not give up waiting, and then
// it cannot read the marker.
func (s *Store) putOverMarker(ctx context.Context, key string, value []byte) (uint64, error) {
	next, err := s.kv.Create(ctx, key, value)
	return next, refusal(err)
}

// purge replaces the given revision of a key by a marker, or any revision if it is 0. If there
// is no space for a marker, it removes the key.
func (s *Store) purge(ctx context.Context, key string, revision uint64) error {
	opts := append([]jetstream.KVDeleteOpt{jetstream.LastRevision(revision)}, s.markerOpts...)
	err := refusal(s.kv.Purge(ctx, key, opts...))
	if !isFull(err) || s.api == nil {
		return err
	}
	if err = s.api.remove(ctx, key, revision); err == nil && strings.HasPrefix(key, recordPrefix) {
		life := markerLifetime
		if s.markerOpts == nil {
			life = 0 // until Sweep removes it
		}
		s.api.mark(ctx, key, life)
	}
	return err
}

// refusal returns errMoved for the error of a write that was refused since the key
// has another revision, and other errors as they are.
func refusal(err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		return errMoved
	}
	return err
}

// opTimeout bounds an operation whose context has no deadline, or a later one. The
// index relies on it, see grace.
const opTimeout = time.Minute

// begin returns the context for the requests of an operation. It ends with ctx,
// after opTimeout, and if the connection breaks.
func (s *Store) begin(ctx context.Context) (context.Context, context.CancelFunc) {
	cancel := context.CancelFunc(func() {})
	if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > opTimeout {
		ctx, cancel = context.WithTimeout(ctx, opTimeout)
	}
	if s.conn == nil {
		return ctx, cancel
	}
	ctx, end := s.conn.bind(ctx)
	return ctx, func() { end(); cancel() }
}

// failed returns the error of an operation on id. Its context is ctx, and that of
// its requests is op.
func (s *Store) failed(ctx, op context.Context, what string, id sessions.ID, err error) error {
	switch {
	case err == nil, err == sessions.ErrNotFound, err == sessions.ErrConflict, err == sessions.ErrExists:
		return err
	case ctx.Err() != nil:
		err = ctx.Err()
	case op.Err() != nil:
		err = context.Cause(op)
	case errors.Is(err, nats.ErrMaxPayload):
		err = fmt.Errorf("%w: %w: raise max_payload of the NATS server, or keep less in the session", sessions.ErrTooLarge, err)
	case errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum):
		err = fmt.Errorf("%w: %w: raise MaxValueSize of the bucket, or keep less in the session", sessions.ErrTooLarge, err)
	}
	return fmt.Errorf("natsstore: %s %v: %w", what, id, err)
}
