package sessions

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"time"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/txn"
)

// A Store keeps records under ids. It deals in bytes and knows nothing of the
// session inside. Write one for another engine by these comments.
//
// An expired record is absent, for every operation. Every operation is atomic,
// and a Store may be used by any number of goroutines, and, where it is shared,
// by any number of processes. An operation whose outcome is unknown (a cut
// connection) returns an error that is none of those below, and is not
// repeated: the Manager repeats on [ErrConflict] only. Operations obey their
// context, whose error shines through errors.Is.
//
// There is no operation that writes a record whether or not it exists: that is
// how a slow request would bring a logged-out session back.
type Store interface {
	// Load returns the record of id, or ErrNotFound. What it returned is
	// changed by nobody: the Store may return the same bytes again.
	//
	// A Store whose Load may return a record that is not the newest, as from
	// a cache, has a method LoadNewest with the same signature that asks the
	// engine. It is used for conflicts, and wherever the newest state is asked
	// for.
	//
	// A Store that can load many records by one command has a method LoadMany,
	// with a context and a slice of ids, that returns a map[ID]Record of those that
	// live, as the engine has them, or an error. Session.Watch then asks for up to
	// 500 sessions at once. A type that embeds a Store has these two methods of it
	// too: where it changes ids or records, it must change them there as well. One
	// that keeps a Store in a field hides them, unless it passes them on, with those of
	// OwnerStore, LabelStore and Watcher.
	Load(ctx context.Context, id ID) (Record, error)

	// Create stores a record that must not exist yet and returns the version
	// that it got, or ErrExists. It ignores rec.Version, and neither keeps nor
	// changes rec.Data's array.
	Create(ctx context.Context, id ID, rec Record) (uint64, error)

	// Update replaces the record of id if its version is still rec.Version, and
	// returns the new version. It returns ErrConflict if the record has another
	// version and ErrNotFound if there is none; nothing is written then. It neither
	// keeps nor changes rec.Data's array, which is used again.
	Update(ctx context.Context, id ID, rec Record) (uint64, error)

	// Touch moves the expiry of a record and leaves everything else, also its
	// version. An expiry that is not later than the stored one changes nothing
	// and is no error. It returns ErrNotFound if there is no record.
	Touch(ctx context.Context, id ID, expires time.Time) error

	// Delete removes the record of id. With version 0 it removes whatever is
	// there, and an absent record is no error. With another version it removes
	// that version only, and returns ErrConflict if the record has another one
	// and ErrNotFound if there is none.
	Delete(ctx context.Context, id ID, version uint64) error
}

// An OwnerStore is a Store with an index of records by Record.Owner, for
// [Manager.Sessions] and [Manager.RevokeOwner].
type OwnerStore interface {
	Store

	// Owned yields every live id of owner that was created before the call, and
	// none that moved to another owner. It may yield ids that are gone. An error
	// is yielded once, as the last pair.
	Owned(ctx context.Context, owner string) iter.Seq2[ID, error]
}

// A LabelStore is an OwnerStore with a further index of records by
// Record.Labels, for [Manager.Labelled] and [Manager.RevokeLabelled].
type LabelStore interface {
	OwnerStore

	// Labelled yields every live id with the label that was created before the
	// call and has had the label since, and none that lost it before. It may
	// yield ids that are gone. An error is yielded once, as the last pair.
	Labelled(ctx context.Context, label string) iter.Seq2[ID, error]
}

// A Watcher is a Store that can tell of changes without being asked, for
// [Session.Watch].
type Watcher interface {
	Store

	// Changes yields the ids of records that anybody has updated or deleted
	// since it began, soon after that happened. The zero ID says that some may
	// have been missed: whoever needs to know asks for all. Expiry and Touch
	// are not told. It ends with ctx, or with an error as the last pair; if that is
	// errors.ErrUnsupported, it is not called again.
	Changes(ctx context.Context) iter.Seq2[ID, error]
}

// A Record is what a Store keeps. It prints its sizes and times, never its data.
type Record struct {
	Data []byte

	// Version changes at every write and never comes back under the same ID,
	// not even after a Delete and a Create. 0 is never stored.
	Version uint64

	// Expires is when the record becomes absent, to the millisecond.
	Expires time.Time

	// Owner is whose record it is; "" is not indexed. Any bytes may occur.
	Owner string

	// Labels are further keys that the record is found by, none twice and none
	// empty. Any bytes may occur, and the order means nothing. A Store that is no
	// LabelStore does not need to keep them.
	Labels []string
}

// An ID is the SHA-256 of the secret id in the cookie, and all that a Store ever
// sees: nobody can sign in with what a store holds. It is safe to log.
type ID [32]byte

// String returns the ID as 64 hexadecimal digits, as [Session.ID] does.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

func parseID(s string) (id ID, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) || hex.EncodeToString(b) != s {
		return id, fmt.Errorf("sessions: %d characters are not the id of a stored session, need 64 hexadecimal digits as Session.ID and Info.ID have", len(s))
	}
	return ID(b), nil
}

// Errors of stores and sessions, for errors.Is.
var (
	// ErrNotFound is returned by a Store for an absent or expired record, and by
	// [Session.Save] and [Manager.Edit] for a session that was destroyed,
	// revoked, moved to another id or that expired meanwhile. Nothing is stored.
	ErrNotFound = txn.ErrNotFound

	// ErrExists is returned by Store.Create for an id that is taken.
	ErrExists = txn.ErrExists

	// ErrConflict is returned by a Store whose record has another version than
	// expected. The Manager then loads the newest and tries again, so that
	// a Session returns it only if that did not end within its time, or if the
	// newest cannot be read by this program.
	ErrConflict = txn.ErrConflict

	// ErrTooLarge is given to Config.ErrorHandler and returned by Save for
	// a session that does not fit into a cookie (RFC 6265bis: 4096 bytes) or
	// that could not be loaded again. Keep less in it, or use a Store.
	ErrTooLarge = codec.ErrTooLarge

	// ErrInvalid is given to Config.ErrorHandler and returned by Save and Edit
	// for a session that breaks its validation rules, or that holds a value which
	// its type's own codec cannot write and read again; the text names the field
	// and the rule. What is stored stays as it was.
	ErrInvalid = codec.ErrInvalid

	// ErrTooLate is returned by Save where a cookie would be needed and the
	// headers have left already, or the request has ended.
	ErrTooLate = txn.ErrTooLate

	// ErrLimit is given to Config.ErrorHandler and returned by Save for a login
	// that Config.MaxPerOwner does not admit, since that many newer sessions of
	// the owner live. Nothing is stored.
	ErrLimit = txn.ErrLimit
)

// An engineStore is a Store as package txn sees it.
type engineStore struct{ Store }

func (s engineStore) Load(ctx context.Context, id txn.ID) (txn.Record, error) {
	rec, err := s.Store.Load(ctx, ID(id))
	return txn.Record(rec), err
}

// A newestLoader is a Store whose Load may return a record that is not the newest.
type newestLoader interface {
	LoadNewest(ctx context.Context, id ID) (Record, error)
}

func (s engineStore) Newest(ctx context.Context, id txn.ID) (txn.Record, error) {
	if n, ok := s.Store.(newestLoader); ok {
		rec, err := n.LoadNewest(ctx, ID(id))
		return txn.Record(rec), err
	}
	return s.Load(ctx, id)
}

// A manyLoader is a Store that can load many records by one command.
type manyLoader interface {
	LoadMany(ctx context.Context, ids []ID) (map[ID]Record, error)
}

func engineLoadMany(s manyLoader) func(context.Context, []txn.ID) (map[txn.ID]txn.Record, error) {
	return func(ctx context.Context, ids []txn.ID) (map[txn.ID]txn.Record, error) {
		asked := make([]ID, len(ids))
		for i, id := range ids {
			asked[i] = ID(id)
		}
		found, err := s.LoadMany(ctx, asked)
		records := make(map[txn.ID]txn.Record, len(found))
		for id, rec := range found {
			records[txn.ID(id)] = txn.Record(rec)
		}
		return records, err
	}
}

func (s engineStore) Create(ctx context.Context, id txn.ID, rec txn.Record) (uint64, error) {
	return s.Store.Create(ctx, ID(id), Record(rec))
}

func (s engineStore) Update(ctx context.Context, id txn.ID, rec txn.Record) (uint64, error) {
	return s.Store.Update(ctx, ID(id), Record(rec))
}

func (s engineStore) Touch(ctx context.Context, id txn.ID, expires time.Time) error {
	return s.Store.Touch(ctx, ID(id), expires)
}

func (s engineStore) Delete(ctx context.Context, id txn.ID, version uint64) error {
	return s.Store.Delete(ctx, ID(id), version)
}

// engineIDs returns what a Store yields as package txn sees it.
func engineIDs(ids iter.Seq2[ID, error]) iter.Seq2[txn.ID, error] {
	return func(yield func(txn.ID, error) bool) {
		ids(func(id ID, err error) bool { return yield(txn.ID(id), err) })
	}
}

// summary is how a Record prints under every verb, in slog and in JSON.
func (r Record) summary() string {
	return fmt.Sprintf("Record(%d bytes, version %d, expires %s)", len(r.Data), r.Version, r.Expires.UTC().Format(time.RFC3339))
}

// Format prints the record without its data and its owner, under every verb.
func (r Record) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.summary()) }

// LogValue logs the record without its data and its owner.
func (r Record) LogValue() slog.Value { return slog.StringValue(r.summary()) }

// MarshalText, for JSON, gives the record without its data and its owner.
func (r Record) MarshalText() ([]byte, error) { return []byte(r.summary()), nil }
