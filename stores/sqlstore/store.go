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
	"sync/atomic"
	"time"

	"github.com/typedsessions/sessions"
)

// Options configure a [Store]. The zero value is valid.
type Options struct {
	// Table is the name of the table. The default is "sessions". A name consists
	// of ASCII letters, digits and underscores, does not begin with a digit, and
	// has at most 48 bytes. It is always quoted, so it is case-sensitive and may
	// be a reserved word.
	Table string

	// Schema is the name of the schema of the table in PostgreSQL, quoted like
	// Table and with at most 63 bytes. The default is the first schema of the
	// search path, which must exist. For MySQL and SQLite, New refuses a Schema.
	Schema string

	// Labels makes the Store keep the labels of sessions, for Config.Labels. It
	// adds a column and a second table, which Migrate creates. All processes that
	// share the table must set it. Without it, the Store does not read or write
	// labels, and returns an error for a session that has any.
	Labels bool
}

// A Store is a [sessions.LabelStore] in a table of a database, with a second
// table for Options.Labels. It is safe for concurrent use by multiple goroutines,
// and its table by multiple processes. A Store need not be closed: its prepared
// statements end with the connections of the database.
//
// Before its first operation, a Store looks at its table, unless Migrate has done
// so. The operation returns an error if the table does not exist, or if it is not
// one that Migrate would create, as when another library uses the name.
type Store struct {
	db      *sql.DB
	dialect dialect
	names   names // as in Options
	labels  bool  // the same

	ops         atomic.Pointer[operations]
	countsFound atomic.Bool // RowsAffected is known to be the number of found rows
}

var _ sessions.LabelStore = (*Store)(nil)

// operations holds the statements of a Store whose table was found to be its own.
type operations struct {
	names                         names
	load, create, update, touch   *statement
	remove, removeVersion, exists *statement
	owned, sweep                  *statement

	labels *labelOperations // nil without Options.Labels
}

// New returns a Store in a table of db, which [Store.Migrate] creates. The
// dialect must be that of the database server.
//
// For MySQL and SQLite, New checks the settings of a connection, for at most
// 5 seconds, and returns an error if operations would fail or give wrong answers
// with them. MySQL needs clientFoundRows and autocommit, SQLite a busy timeout.
// The error says what to add. The check needs no privilege that operations do not
// need. On MySQL, if the table does not exist yet, a user that may not create
// temporary tables gets the error about clientFoundRows from Migrate or from an
// operation.
func New(db *sql.DB, d Dialect, opt Options) (*Store, error) {
	dialect, ok := dialects[d]
	if !ok {
		return nil, fmt.Errorf("sqlstore: unknown Dialect(%d), need PostgreSQL, MySQL or SQLite", d)
	}
	names, err := dialect.names(opt)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	if err := dialect.check(ctx, db); err != nil {
		return nil, failure(ctx, err)
	}
	if opt.Labels {
		dialect = dialect.withLabels()
	}
	s := &Store{db: db, dialect: dialect, names: names, labels: opt.Labels}
	if err := s.checkCounts(ctx); err != nil {
		return nil, failure(ctx, err)
	}
	return s, nil
}

// checkTimeout bounds the check of the connection in New.
const checkTimeout = 5 * time.Second

// checkCounts returns an error if RowsAffected is known to be the number of
// changed rows.
func (s *Store) checkCounts(ctx context.Context) error {
	if s.dialect.countsFound == nil {
		s.countsFound.Store(true)
	}
	if s.countsFound.Load() {
		return nil
	}
	known, err := s.dialect.countsFound(ctx, s.db, s.names)
	if known {
		s.countsFound.Store(true)
	}
	return err
}

// Migrate creates the table and its index if they do not exist. With
// Options.Labels it also creates the table of labels, and adds the column labels
// to a table that lacks it. If the table of sessions was created anew, it ties the
// table of labels to the new one. In PostgreSQL it also creates the schema. Multiple
// processes may call it at the same time, also while others use the table. If all
// of it exists, Migrate needs no privilege to create it.
//
// Migrate does not change an existing table otherwise. It returns an error if the columns,
// their types, the primary key or the index of the table are not those that it
// would create, as when another library uses the name. Further columns are
// allowed if they may be NULL or have a default.
//
// For SQLite it also switches the file to write-ahead logging. It returns an error
// if that is not possible, as for a database in memory.
func (s *Store) Migrate(ctx context.Context) error {
	if err := s.migrate(ctx); err != nil {
		return failure(ctx, fmt.Errorf("migrate table %s: %w", s.names.quoted(""), err))
	}
	return nil
}

func (s *Store) migrate(ctx context.Context) error {
	names, err := s.dialect.resolve(ctx, s.db, s.names)
	if err != nil {
		return err
	}
	if err := s.dialect.migrate(ctx, s.db, names); err != nil {
		return err
	}
	_, err = s.use(ctx, names)
	return err
}

// operations returns the statements. It looks at the table if nothing has yet.
func (s *Store) operations(ctx context.Context) (*operations, error) {
	if ops := s.ops.Load(); ops != nil {
		return ops, nil
	}
	names, err := s.dialect.resolve(ctx, s.db, s.names)
	if err != nil {
		return nil, err
	}
	if err := s.dialect.verify(ctx, s.db, names); err != nil {
		return nil, err
	}
	return s.use(ctx, names)
}

const updateRecord = `UPDATE {table} SET version = ?, expires = ?, owner_hash = ?, owner = ?, data = ? WHERE id = ? AND version = ? AND expires > ?`

// use makes the Store work on the table of names.
func (s *Store) use(ctx context.Context, names names) (*operations, error) {
	if err := s.checkCounts(ctx); err != nil {
		return nil, err
	}
	d := s.dialect
	prepare := func(text string) *statement {
		return &statement{db: s.db, text: names.in(d.text(text)), prepared: d.prepared, rolledBack: d.rolledBack}
	}
	ops := &operations{
		names:         names,
		load:          prepare(`SELECT version, expires, owner, data FROM {table} WHERE id = ? AND expires > ?`),
		create:        prepare(`INSERT INTO {table} (id, version, expires, owner_hash, owner, data) VALUES (?, ?, ?, ?, ?, ?) ` + d.overExpired),
		update:        prepare(updateRecord),
		touch:         prepare(`UPDATE {table} SET expires = ` + d.later + ` WHERE id = ? AND expires > ?`),
		remove:        prepare(`DELETE FROM {table} WHERE id = ?`),
		removeVersion: prepare(`DELETE FROM {table} WHERE id = ? AND version = ? AND expires > ?`),
		exists:        prepare(`SELECT 1 FROM {table} WHERE id = ? AND expires > ?`),
		owned:         prepare(fmt.Sprintf(`SELECT id FROM {table} WHERE owner_hash = ? AND owner = ? AND expires > ? AND id > ? ORDER BY id LIMIT %d`, ownedPage)),
		sweep:         prepare(d.sweep),
	}
	if s.labels {
		ops.labels = d.labelOperations(names, prepare)
		ops.load = prepare(`SELECT version, expires, owner, data, labels FROM {table} WHERE id = ? AND expires > ?`)
		ops.create = prepare(insertLabelled + d.overExpired)
		ops.update = prepare(updateRecord + ` AND ` + d.labels.same)
	}
	s.ops.CompareAndSwap(nil, ops)
	return s.ops.Load(), nil
}

// Load implements [sessions.Store].
func (s *Store) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	ops, err := s.operations(ctx)
	if err != nil {
		return sessions.Record{}, failure(ctx, err)
	}
	var rec sessions.Record
	var version, expires int64
	var owner []byte
	var labels *[]byte
	columns := []any{&version, &expires, &owner, &rec.Data}
	if ops.labels != nil {
		labels = new([]byte)
		columns = append(columns, labels)
	}
	err = ops.load.row(ctx, []any{id[:], now()}, columns...)
	if err == nil && labels != nil {
		rec.Labels, err = decodeLabels(*labels)
	}
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
	ops, err := s.operations(ctx)
	if err != nil {
		return 0, failure(ctx, err)
	}
	if ops.labels == nil && len(rec.Labels) > 0 {
		return 0, s.errNoLabels("a session with labels", ops.names)
	}
	version := newVersion()
	owner := ownerOf(rec)
	args := []any{id[:], version, rec.Expires.UnixMilli(), owner.hash, owner.name, dataOf(rec)}
	if ops.labels != nil {
		args = append(args, encodeLabels(rec.Labels))
	}
	args = append(args, slices.Repeat([]any{now()}, s.dialect.nows)...)
	var created bool
	if len(rec.Labels) > 0 {
		created, err = s.createLabelled(ctx, ops, id, args, rec.Labels)
	} else {
		created, err = s.create(ctx, ops, args)
	}
	if err != nil {
		return 0, failure(ctx, err)
	}
	if !created {
		return 0, sessions.ErrExists
	}
	return uint64(version), nil
}

func (s *Store) create(ctx context.Context, ops *operations, args []any) (bool, error) {
	res, err := ops.create.exec(ctx, args...)
	if err != nil {
		return false, err
	}
	return s.dialect.created(res)
}

// Update implements [sessions.Store].
func (s *Store) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	ops, err := s.operations(ctx)
	if err != nil {
		return 0, failure(ctx, err)
	}
	if ops.labels == nil && len(rec.Labels) > 0 {
		return 0, s.errNoLabels("a session with labels", ops.names)
	}
	version := newVersion()
	owner := ownerOf(rec)
	if ops.labels != nil {
		if err := s.updateLabelled(ctx, ops, id, rec, version, owner); err != nil {
			return 0, err
		}
		return uint64(version), nil
	}
	n, err := ops.update.affected(ctx, version, rec.Expires.UnixMilli(), owner.hash, owner.name, dataOf(rec), id[:], int64(rec.Version), now())
	if err != nil {
		return 0, failure(ctx, err)
	}
	if n == 0 {
		return 0, ops.conflictOrAbsence(ctx, id)
	}
	return uint64(version), nil
}

// Touch implements [sessions.Store].
func (s *Store) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	ops, err := s.operations(ctx)
	if err != nil {
		return failure(ctx, err)
	}
	n, err := ops.touch.affected(ctx, expires.UnixMilli(), id[:], now())
	if err == nil && n == 0 && !s.countsFound.Load() {
		err = s.dialect.countsFoundOf(ctx, s.db, ops.names, id)
	}
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
	ops, err := s.operations(ctx)
	if err != nil {
		return failure(ctx, err)
	}
	if version == 0 {
		if _, err := ops.remove.exec(ctx, id[:]); err != nil {
			return failure(ctx, err)
		}
		return nil
	}
	n, err := ops.removeVersion.affected(ctx, id[:], int64(version), now())
	if err != nil {
		return failure(ctx, err)
	}
	if n == 0 {
		return ops.conflictOrAbsence(ctx, id)
	}
	return nil
}

// conflictOrAbsence returns the error for a conditional write that found no row:
// ErrConflict if the record exists, else ErrNotFound. The record may have changed
// since that write, but it cannot have the expected version, since a version is
// never used again.
func (ops *operations) conflictOrAbsence(ctx context.Context, id sessions.ID) error {
	var one int
	err := ops.exists.row(ctx, []any{id[:], now()}, &one)
	if errors.Is(err, sql.ErrNoRows) {
		return sessions.ErrNotFound
	}
	if err != nil {
		return failure(ctx, err)
	}
	return sessions.ErrConflict
}

// ownedPage is the number of ids that Owned reads at a time, 32 kB.
const ownedPage = 1000

// Owned implements [sessions.OwnerStore]. It holds no connection while it yields,
// so the body of the loop may use the Store even if db has only one connection.
func (s *Store) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	return pages(func(last []byte) (page []sessions.ID, next []byte, err error) {
		page, err = s.ownedAfter(ctx, owner, last)
		if err != nil {
			return nil, nil, failure(ctx, err)
		}
		if len(page) == ownedPage {
			next = page[len(page)-1][:]
		}
		return page, next, nil
	})
}

// pages yields the ids of pages. The function after returns the page after an id,
// and the last id that the page covers, or nil if there is no further page.
func pages(after func(last []byte) (page []sessions.ID, next []byte, err error)) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		for last := []byte{}; last != nil; { // before every id
			page, next, err := after(last)
			if err != nil {
				yield(sessions.ID{}, err)
				return
			}
			for _, id := range page {
				if !yield(id, nil) {
					return
				}
			}
			last = next
		}
	}
}

func (s *Store) ownedAfter(ctx context.Context, owner string, last []byte) ([]sessions.ID, error) {
	ops, err := s.operations(ctx)
	if err != nil {
		return nil, err
	}
	return ops.owned.ids(ctx, hashOf(owner), []byte(owner), now(), last)
}

// An owner holds the columns for Record.Owner: the owner itself and its hash. The
// hash is indexed, since an index does not take long keys nor, in MySQL, columns
// of unlimited size. Both columns are NULL for a record without an owner.
type owner struct {
	hash sql.Null[int64]
	name []byte
}

func ownerOf(rec sessions.Record) owner {
	if rec.Owner == "" {
		return owner{}
	}
	return owner{sql.Null[int64]{V: hashOf(rec.Owner), Valid: true}, []byte(rec.Owner)}
}

// hashOf returns 64 bits of the SHA-256 of an owner or a label. Those with the same
// hash do not get each other's sessions, since Owned and Labelled compare the
// owners and the labels too.
func hashOf(name string) int64 {
	sum := sha256.Sum256([]byte(name))
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// dataOf returns rec.Data, never nil, since drivers bind a nil slice as NULL.
func dataOf(rec sessions.Record) []byte {
	if rec.Data == nil {
		return []byte{}
	}
	return rec.Data
}

// newVersion returns a random version. A counter in the record would start again
// after a Delete and a Create. With 63 bits, a version is repeated only after
// about 10^18 writes.
func newVersion() int64 { return 1 + rand.Int64N(math.MaxInt64) }

// now returns the time with which expiries are compared, in Unix milliseconds.
func now() int64 { return time.Now().UnixMilli() }

// failure adds the name of this package to err, and the error of ctx if ctx is
// done, since some drivers return errors of their own then.
func failure(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		return fmt.Errorf("sqlstore: %w: %w", ended, err)
	}
	return fmt.Errorf("sqlstore: %w", err)
}
