// Package txn is what one request does to one session. A request holds a base
// and a journal; a commit folds the journal, plans one action and carries it
// out. The package knows no HTTP and no type of a session.
package txn

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/cookie"
	"github.com/typedsessions/sessions/internal/keys"
	"github.com/typedsessions/sessions/internal/wait"
	"github.com/typedsessions/sessions/internal/watch"
	"github.com/typedsessions/sessions/internal/wire"
)

// An ID is the SHA-256 of the secret in a cookie. Without a Store it is 16
// random bytes.
type ID [32]byte

func (id ID) half() [16]byte { return [16]byte(id[:16]) }

// A Record is what a Store keeps.
type Record struct {
	Data    []byte
	Version uint64
	Expires time.Time
	Owner   string
	Labels  []string
}

// A Store keeps records, as sessions.Store says. Newest is Load past a cache of
// the store.
type Store interface {
	Load(ctx context.Context, id ID) (Record, error)
	Newest(ctx context.Context, id ID) (Record, error)
	Create(ctx context.Context, id ID, rec Record) (uint64, error)
	Update(ctx context.Context, id ID, rec Record) (uint64, error)
	Touch(ctx context.Context, id ID, expires time.Time) error
	Delete(ctx context.Context, id ID, version uint64) error
}

// Errors of stores and sessions. Package sessions documents them.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	ErrConflict = errors.New("version conflict")
	ErrTooLate  = errors.New("response already started")
	ErrLimit    = errors.New("too many newer sessions of the owner")
)

// A StoreError says which operation of the Store failed.
type StoreError struct {
	Op  string
	ID  ID
	Err error
}

func (e *StoreError) Error() string { return fmt.Sprintf("%s session %x: %v", e.Op, e.ID, e.Err) }
func (e *StoreError) Unwrap() error { return e.Err }

// Timeout bounds the store operations of one load or one commit: a store that
// hangs must not hold a request for ever.
const Timeout = 5 * time.Second

// An Engine is the part of a Manager that concerns sessions as bytes. It is
// immutable, but for the ring, and safe for concurrent use.
type Engine struct {
	Codec       *codec.Codec
	Store       Store // nil: the whole session travels in the cookie
	NeverWait   bool  // the Store needs no time limit
	Encrypt     bool
	Ring        *atomic.Pointer[keys.Ring]
	Cookie      cookie.Spec
	Lifetime    time.Duration
	Anonymous   time.Duration // the lifetime without an owner; 0: Lifetime
	Idle        time.Duration
	MaxPerOwner int                     // sessions of one owner; 0: no bound
	Owner       func(data any) string   // nil: what the record has
	Labels      func(data any) []string // nil: what the record has
	Owned       func(ctx context.Context, owner string) iter.Seq2[ID, error]
	LoadMany    func(ctx context.Context, ids []ID) (map[ID]Record, error) // nil: Store.Newest, one by one
	Data        func(session any) any                                      // the data of a session
	Hears       func(e Event) bool                                         // whether anybody listens
	Watches     *watch.Set
	None        *Base // of a session that is kept nowhere yet

	signer  atomic.Pointer[keys.Signer]
	commits wait.Shared             // their time limit
	turns   wait.Turns[ID, *handed] // of those that met a conflict
}

// Limit gives ctx the time of one load or commit.
func (e *Engine) Limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if e.NeverWait {
		return ctx, func() {}
	}
	return wait.Limit(ctx, Timeout)
}

// Signer returns the keys that were derived from the ring as it is now.
func (e *Engine) Signer() *keys.Signer {
	r := e.Ring.Load()
	s := e.signer.Load()
	if s == nil || s.Ring != r {
		mode := keys.CookieMode
		if e.Store != nil {
			mode = keys.StoreMode
		}
		s = r.Signer(mode, e.Cookie.Name, e.Format())
		e.signer.Store(s)
	}
	return s
}

// sealer returns the signer that seals records, nil if they are not sealed.
func (e *Engine) sealer() *keys.Signer {
	if !e.Encrypt {
		return nil
	}
	return e.Signer()
}

// Format returns that of the cookie's value.
func (e *Engine) Format() wire.Format {
	switch {
	case e.Store != nil:
		return wire.SignedID
	case e.Encrypt:
		return wire.Sealed
	}
	return wire.Signed
}

// recordEnd returns Record.Expires: the absolute end, or the idle end if that
// is earlier, to the millisecond.
func (e *Engine) recordEnd(expires int64, now time.Time) time.Time {
	end := time.Unix(expires, 0)
	if idle := now.Add(e.Idle).Truncate(time.Millisecond); e.Idle > 0 && idle.Before(end) {
		return idle
	}
	return end
}

// OwnerOf returns whose session it is. A record that has been loaded says it
// where no Config.Owner does.
func (e *Engine) OwnerOf(data any, loaded string) (owner string, err error) {
	if e.Owner == nil {
		return loaded, nil
	}
	defer codec.Caught(&err, "Config.Owner")
	return e.Owner(data), nil
}

// maxLabels bounds what Config.Labels returns, since each costs the Store an
// entry.
const maxLabels = 8

// labelsOf returns the labels that Config.Labels gives data.
func (e *Engine) labelsOf(data any) (labels []string, err error) {
	defer codec.Caught(&err, "Config.Labels")
	labels = e.Labels(data)
	switch {
	case len(labels) > maxLabels:
		return nil, fmt.Errorf("%w: Config.Labels returned %d labels, a session has at most %d", codec.ErrInvalid, len(labels), maxLabels)
	case slices.Contains(labels, ""):
		return nil, fmt.Errorf("%w: Config.Labels returned an empty label", codec.ErrInvalid)
	}
	return labels, nil
}

// labels returns the labels of a record that is to hold data: those that other
// programs gave to the record it replaces, and those of Config.Labels. was is
// what this program has loaded from that record, nil for a new session.
func (e *Engine) labels(has []string, was, data any) ([]string, error) {
	if e.Labels == nil {
		return has, nil
	}
	now, err := e.labelsOf(data)
	if err != nil {
		return nil, err
	}
	var labels []string
	if was != nil && len(has) > 0 {
		mine, err := e.labelsOf(was)
		if err != nil {
			return nil, err
		}
		for _, l := range has {
			if !slices.Contains(mine, l) {
				labels = append(labels, l)
			}
		}
	}
	for _, l := range now {
		if !slices.Contains(labels, l) {
			labels = append(labels, l)
		}
	}
	slices.Sort(labels)
	return labels, nil
}

// A Life is when a session began and ends, in seconds since 1970, and the length
// that SetLifetime gave. It is zero until somebody asks.
type Life struct {
	Created, Expires int64
	Lifetime         uint32
}

func lifeOf(h *wire.Header) Life { return Life{h.Created, h.Expires, h.Lifetime} }

// An Identity is the secret in the cookie and its hash. Without a Store it is
// the first half of the hash alone. It is immutable.
type Identity struct {
	Secret [32]byte
	ID     ID
}

func (e *Engine) draw(i *Identity) {
	if e.Store == nil {
		_, _ = rand.Read(i.ID[:16]) // never fails: it ends the process instead
		return
	}
	_, _ = rand.Read(i.Secret[:])
	*i = identityOf(i.Secret)
}

func identityOf(secret [32]byte) Identity { return Identity{secret, sha256.Sum256(secret[:])} }

func (e *Engine) newIdentity() *Identity {
	i := new(Identity)
	e.draw(i)
	return i
}

// PublicID returns the id as it may be shown.
func (e *Engine) PublicID(id ID) string {
	if e.Store == nil {
		return hex.EncodeToString(id[:16])
	}
	return hex.EncodeToString(id[:])
}

// IDIn returns the public id of the session that an error of the Store is about, ""
// if there is none.
func (e *Engine) IDIn(err error) string {
	var failed *StoreError
	if errors.As(err, &failed) && failed.ID != (ID{}) {
		return e.PublicID(failed.ID)
	}
	return ""
}

// A Base is a session as the cookie or the store has it. It is immutable, and
// shared.
type Base struct {
	wire.Header
	ID      ID
	Version uint64
	Ends    int64  // Record.Expires, in milliseconds since 1970
	Owner   string // by Engine.Owner, or that of the record
	Flashes []wire.Flash
	Kept    []byte // with a Store the data in today's schema; else a body that may be re-issued
	Hash    uint64 // of the data

	Extensions []byte // their entries, as in wire.Body
	Foreign    *Foreign
}

// kept reports whether the session is kept anywhere.
func (b *Base) kept() bool { return b.ID != ID{} }

// Foreign is what else other programs have put into a session, nil if there is
// nothing. It is immutable.
type Foreign struct {
	Labels  []string // of the record
	Unknown []byte   // the fields that this program's type does not have, by codec.Decode

	// The data as they came, if another version of the program wrote them. They
	// are not written anew unless they change.
	Data   []byte
	Schema uint16
	Shape  uint32
}

// foreign returns what is not this program's in a session, to read it.
func (b *Base) foreign() Foreign {
	if b.Foreign == nil {
		return Foreign{}
	}
	return *b.Foreign
}

// foreignOf returns f, nil if there is nothing in it.
func foreignOf(f Foreign) *Foreign {
	if f.Labels == nil && f.Unknown == nil && f.Data == nil {
		return nil
	}
	kept := f // not f: it would be on the heap for those that have none
	return &kept
}
