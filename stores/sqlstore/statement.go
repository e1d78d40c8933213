package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/typedsessions/sessions"
)

// A statement is the SQL of one operation. If prepared is false, the driver
// prepares it.
type statement struct {
	db         *sql.DB
	text       string
	prepared   bool
	rolledBack func(error) bool // as in dialect
	stmt       atomic.Pointer[sql.Stmt]
}

// mostTries bounds the number of times that a statement is executed. The pauses
// between them add up to about two seconds.
const (
	mostTries = 100
	mostPause = 50 * time.Millisecond
)

// again reports whether the statement is to be executed once more, after
// a random pause. A statement is a transaction of its own, so one that the server
// rolled back has done nothing. After any other error its outcome may be unknown,
// and it is not repeated.
func (s *statement) again(ctx context.Context, try int, err error) bool {
	if err == nil || s.rolledBack == nil || try == mostTries || !s.rolledBack(err) {
		return false
	}
	// PostgreSQL at SERIALIZABLE rolls back for as long as a concurrent
	// transaction lasts.
	pause := time.NewTimer(rand.N(min(time.Duration(try)*time.Millisecond, mostPause)))
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// prepare returns the prepared statement. It prepares it at the first use.
// database/sql prepares it again on each new connection.
func (s *statement) prepare(ctx context.Context) (*sql.Stmt, error) {
	if stmt := s.stmt.Load(); stmt != nil {
		return stmt, nil
	}
	stmt, err := s.db.PrepareContext(ctx, s.text)
	if err != nil {
		return nil, err
	}
	if !s.stmt.CompareAndSwap(nil, stmt) {
		_ = stmt.Close() // another goroutine prepared it first
	}
	return s.stmt.Load(), nil
}

func (s *statement) exec(ctx context.Context, args ...any) (sql.Result, error) {
	for try := 1; ; try++ {
		res, err := s.execOnce(ctx, args)
		if !s.again(ctx, try, err) {
			return res, err
		}
	}
}

func (s *statement) execOnce(ctx context.Context, args []any) (sql.Result, error) {
	if !s.prepared {
		return s.db.ExecContext(ctx, s.text, args...)
	}
	stmt, err := s.prepare(ctx)
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(ctx, args...)
}

// affected executes the statement and returns the number of rows that it found.
func (s *statement) affected(ctx context.Context, args ...any) (int64, error) {
	res, err := s.exec(ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// row scans the first row into dest. It returns sql.ErrNoRows if there is none.
func (s *statement) row(ctx context.Context, args []any, dest ...any) error {
	for try := 1; ; try++ {
		err := s.rowOnce(ctx, args, dest)
		if !s.again(ctx, try, err) {
			return err
		}
	}
}

func (s *statement) rowOnce(ctx context.Context, args, dest []any) error {
	if !s.prepared {
		return s.db.QueryRowContext(ctx, s.text, args...).Scan(dest...)
	}
	stmt, err := s.prepare(ctx)
	if err != nil {
		return err
	}
	return stmt.QueryRowContext(ctx, args...).Scan(dest...)
}

// ids returns the ids in the only column of the rows.
func (s *statement) ids(ctx context.Context, args ...any) ([]sessions.ID, error) {
	for try := 1; ; try++ {
		ids, err := s.idsOnce(ctx, args)
		if !s.again(ctx, try, err) {
			return ids, err
		}
	}
}

func (s *statement) idsOnce(ctx context.Context, args []any) ([]sessions.ID, error) {
	rows, err := s.query(ctx, args)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []sessions.ID
	for rows.Next() {
		id, err := scanID(rows)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// scanID scans the first column of a row, and the others into dest.
func scanID(rows *sql.Rows, dest ...any) (sessions.ID, error) {
	var id sql.RawBytes
	if err := rows.Scan(append([]any{&id}, dest...)...); err != nil {
		return sessions.ID{}, err
	}
	if len(id) != len(sessions.ID{}) {
		return sessions.ID{}, fmt.Errorf("an id has %d bytes, need %d", len(id), len(sessions.ID{}))
	}
	return sessions.ID(id), nil
}

// A labelledRow has the id of a record and its column labels.
type labelledRow struct {
	id     sessions.ID
	labels []byte
}

// labelled returns rows with these two columns.
func (s *statement) labelled(ctx context.Context, args ...any) ([]labelledRow, error) {
	for try := 1; ; try++ {
		found, err := s.labelledOnce(ctx, args)
		if !s.again(ctx, try, err) {
			return found, err
		}
	}
}

func (s *statement) labelledOnce(ctx context.Context, args []any) (found []labelledRow, err error) {
	rows, err := s.query(ctx, args)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var row labelledRow
		if row.id, err = scanID(rows, &row.labels); err != nil {
			return nil, err
		}
		found = append(found, row)
	}
	return found, rows.Err()
}

func (s *statement) query(ctx context.Context, args []any) (*sql.Rows, error) {
	if !s.prepared {
		return s.db.QueryContext(ctx, s.text, args...)
	}
	stmt, err := s.prepare(ctx)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}
