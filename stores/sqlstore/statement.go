package sqlstore

import (
	"context"
	"database/sql"
	"sync/atomic"
)

// A statement is the SQL of one operation. If prepared is false, the driver
// prepares it.
type statement struct {
	db       *sql.DB
	text     string
	prepared bool
	stmt     atomic.Pointer[sql.Stmt]
}

// prepare returns the prepared statement. It prepares it at the first use, since
// the table may be created after the Store. database/sql prepares it again on
// each new connection.
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

func (s *statement) query(ctx context.Context, args ...any) (*sql.Rows, error) {
	if !s.prepared {
		return s.db.QueryContext(ctx, s.text, args...)
	}
	stmt, err := s.prepare(ctx)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

// row scans the first row into dest. It returns sql.ErrNoRows if there is none.
func (s *statement) row(ctx context.Context, args []any, dest ...any) error {
	if !s.prepared {
		return s.db.QueryRowContext(ctx, s.text, args...).Scan(dest...)
	}
	stmt, err := s.prepare(ctx)
	if err != nil {
		return err
	}
	return stmt.QueryRowContext(ctx, args...).Scan(dest...)
}
