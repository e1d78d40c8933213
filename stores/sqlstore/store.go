package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/typedsessions/sessions"
)

// Options are those of [New]. The zero value is ready.
type Options struct {
	// Table is the name of the table; zero: "sessions". It has letters of ASCII,
	// digits and underscores, begins with no digit, and is at most 48 bytes
	// long. Letters keep their case, and a reserved word is no problem: the name
	// is always quoted.
	Table string
}

// A Store is a [sessions.OwnerStore] in one table of a database. Any number of
// goroutines and processes may share it. It has nothing to close: what it
// prepares on the connections ends with them.
type Store struct {
	db      *sql.DB
	dialect dialect
	names   names

	load, create, update, touch   *statement
	remove, removeVersion, exists *statement
	owned, sweep                  *statement
}

var _ sessions.OwnerStore = (*Store)(nil)

// New returns a Store in a table of db; see [Store.Migrate] for the table. The
// dialect is that of the server behind db.
//
// New asks a server other than PostgreSQL, for 5 seconds at most, how the
// connections of db are set up, and refuses those on which operations would
// fail or give wrong answers: for MySQL those without clientFoundRows or
// autocommit, for SQLite those without a busy timeout. The text of the error says what to add.
// The user of MySQL needs the privilege CREATE TEMPORARY TABLES for that.
func New(db *sql.DB, d Dialect, opt Options) (*Store, error) {
	dialect, ok := dialects[d]
	if !ok {
		return nil, fmt.Errorf("sqlstore: Dialect(%d) is not known, need PostgreSQL, MySQL or SQLite", d)
	}
	names, err := dialect.names(opt.Table)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	if err := dialect.check(ctx, db); err != nil {
		return nil, failure(ctx, err)
	}
	s := &Store{db: db, dialect: dialect, names: names}
	prepare := func(text string) *statement {
		return &statement{db: db, text: dialect.text(names.in(text)), prepared: dialect.prepared}
	}
	s.load = prepare(`SELECT version, expires, owner, data FROM {table} WHERE id = ? AND expires > ?`)
	s.create = prepare(`INSERT INTO {table} (id, version, expires, owner_hash, owner, data) VALUES (?, ?, ?, ?, ?, ?) ` + dialect.overExpired)
	s.update = prepare(`UPDATE {table} SET version = ?, expires = ?, owner_hash = ?, owner = ?, data = ? WHERE id = ? AND version = ? AND expires > ?`)
	s.touch = prepare(`UPDATE {table} SET expires = ` + dialect.later + ` WHERE id = ? AND expires > ?`)
	s.remove = prepare(`DELETE FROM {table} WHERE id = ?`)
	s.removeVersion = prepare(`DELETE FROM {table} WHERE id = ? AND version = ? AND expires > ?`)
	s.exists = prepare(`SELECT 1 FROM {table} WHERE id = ? AND expires > ?`)
	s.owned = prepare(fmt.Sprintf(`SELECT id FROM {table} WHERE owner_hash = ? AND owner = ? AND expires > ? AND id > ? ORDER BY id LIMIT %d`, ownedPage))
	s.sweep = prepare(dialect.sweep)
	return s, nil
}

// checkTimeout bounds what New asks of the server.
const checkTimeout = 5 * time.Second

// Migrate creates what is missing of the table and its index, and leaves alone
// what is there. Any number of processes may run it at once, also while others
// use the table. Where nothing is missing it needs no right to create.
//
// For SQLite it also turns the file to write-ahead logging, and refuses one that
// cannot be, such as a database in memory.
func (s *Store) Migrate(ctx context.Context) error {
	if err := s.dialect.migrate(ctx, s.db, s.names); err != nil {
		return failure(ctx, fmt.Errorf("migrate table %s: %w", s.names.quoted, err))
	}
	return nil
}

// Load implements [sessions.Store].
func (s *Store) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	var rec sessions.Record
	var version, expires int64
	var owner []byte
	err := s.load.row(ctx, []any{id[:], now()}, &version, &expires, &owner, &rec.Data)
	if errors.Is(err, sql.ErrNoRows) {
		return sessions.Record{}, sessions.ErrNotFound
	}
	if err != nil {
		return sessions.Record{}, failure(ctx, err)
	}
	rec.Version, rec.Expires, rec.Owner = uint64(version), time.UnixMilli(expires), string(owner)
	return rec, nil
}

// Create implements [sessions.Store].
func (s *Store) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	version := newVersion()
	owner := ownerOf(rec)
	args := []any{id[:], version, rec.Expires.UnixMilli(), owner.hash, owner.name, dataOf(rec)}
	args = append(args, slices.Repeat([]any{now()}, s.dialect.nows)...)
	res, err := s.create.exec(ctx, args...)
	if err != nil {
		return 0, failure(ctx, err)
	}
	created, err := s.dialect.created(res)
	if err != nil {
		return 0, failure(ctx, err)
	}
	if !created {
		return 0, sessions.ErrExists
	}
	return uint64(version), nil
}

// Update implements [sessions.Store].
func (s *Store) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	version := newVersion()
	owner := ownerOf(rec)
	n, err := s.update.affected(ctx, version, rec.Expires.UnixMilli(), owner.hash, owner.name, dataOf(rec), id[:], int64(rec.Version), now())
	if err != nil {
		return 0, failure(ctx, err)
	}
	if n == 0 {
		return 0, s.conflictOrAbsence(ctx, id)
	}
	return uint64(version), nil
}

// Touch implements [sessions.Store].
func (s *Store) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	n, err := s.touch.affected(ctx, expires.UnixMilli(), id[:], now())
	if err != nil {
		return failure(ctx, err)
	}
	if n == 0 {
		return sessions.ErrNotFound
	}
	return nil
}

// Delete implements [sessions.Store].
func (s *Store) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	if version == 0 {
		if _, err := s.remove.exec(ctx, id[:]); err != nil {
			return failure(ctx, err)
		}
		return nil
	}
	n, err := s.removeVersion.affected(ctx, id[:], int64(version), now())
	if err != nil {
		return failure(ctx, err)
	}
	if n == 0 {
		return s.conflictOrAbsence(ctx, id)
	}
	return nil
}

// conflictOrAbsence says why a write at a version found nothing. Versions never
// come back, so what it finds is as good an answer as what the write had seen.
func (s *Store) conflictOrAbsence(ctx context.Context, id sessions.ID) error {
	var one int
	err := s.exists.row(ctx, []any{id[:], now()}, &one)
	if errors.Is(err, sql.ErrNoRows) {
		return sessions.ErrNotFound
	}
	if err != nil {
		return failure(ctx, err)
	}
	return sessions.ErrConflict
}

// ownedPage is how many ids Owned reads at a time: 32 kB.
const ownedPage = 1000

// Owned implements [sessions.OwnerStore]. It holds no connection while it yields,
// so that the loop may use the Store, also over a pool of one connection.
func (s *Store) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		last := []byte{} // before every id
		for {
			page, err := s.ownedAfter(ctx, owner, last)
			if err != nil {
				yield(sessions.ID{}, failure(ctx, err))
				return
			}
			for _, id := range page {
				if !yield(id, nil) {
					return
				}
			}
			if len(page) < ownedPage {
				return
			}
			last = page[len(page)-1][:]
		}
	}
}

func (s *Store) ownedAfter(ctx context.Context, owner string, last []byte) ([]sessions.ID, error) {
	rows, err := s.owned.query(ctx, ownerHash(owner), []byte(owner), now(), last)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []sessions.ID
	for rows.Next() {
		var id sql.RawBytes
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		if len(id) != len(sessions.ID{}) {
			return nil, fmt.Errorf("an id has %d bytes, need %d", len(id), len(sessions.ID{}))
		}
		page = append(page, sessions.ID(id))
	}
	return page, rows.Err()
}

// An owner is how the table holds Record.Owner: whole, and as a hash to find it
// by, since an index takes neither long keys nor, in MySQL, bytes without a limit.
// Both are NULL for a record without an owner.
type owner struct {
	hash sql.Null[int64]
	name []byte
}

func ownerOf(rec sessions.Record) owner {
	if rec.Owner == "" {
		return owner{}
	}
	return owner{sql.Null[int64]{V: ownerHash(rec.Owner), Valid: true}, []byte(rec.Owner)}
}

// ownerHash is 64 bits of SHA-256. Two owners that share it share no session:
// the statement compares the whole owner, too.
func ownerHash(owner string) int64 {
	sum := sha256.Sum256([]byte(owner))
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// dataOf returns the data to bind. Drivers bind a nil slice as NULL.
func dataOf(rec sessions.Record) []byte {
	if rec.Data == nil {
		return []byte{}
	}
	return rec.Data
}

// newVersion is random: a counter in the record would begin again with a Delete
// and a Create. With 63 bits, one that comes back is a matter of 10^18 writes.
func newVersion() int64 { return 1 + rand.Int64N(math.MaxInt64) }

// now is the moment that expiries are compared with.
func now() int64 { return time.Now().UnixMilli() }

// failure makes err one of this package. Drivers have errors of their own for
// a context that ended.
func failure(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		return fmt.Errorf("sqlstore: %w: %w", ended, err)
	}
	return fmt.Errorf("sqlstore: %w", err)
}
