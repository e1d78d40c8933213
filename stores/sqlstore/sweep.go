package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
)

// Sweep deletes the sessions that have expired when it begins, and returns how
// many it deleted. It reads the table once, in the order of the disk, with
// statements that take a few milliseconds. Other operations run concurrently. If
// a statement fails or ctx is done, Sweep returns the error; the next call deletes
// the rest.
//
// Call Sweep from a ticker, about every ten minutes, in one or in all of the
// processes of the application.
func (s *Store) Sweep(ctx context.Context) (int, error) {
	ops, err := s.operations(ctx)
	if err != nil {
		return 0, failure(ctx, fmt.Errorf("sweep: %w", err))
	}
	began := now()
	swept := 0
	for bounds, err := range s.dialect.ranges(ctx, s.db, ops.names) {
		if err != nil {
			return swept, failure(ctx, fmt.Errorf("sweep: %w", err))
		}
		n, err := ops.sweep.affected(ctx, bounds[0], bounds[1], began)
		if err != nil {
			return swept, failure(ctx, fmt.Errorf("sweep: %w", err))
		}
		swept += int(n)
	}
	return swept, nil
}

// sweepRows is the number of rows in a range of keyRanges.
const sweepRows = 500

// sweepBy returns the dialect.sweep of an engine that stores a table in the order
// of key.
func sweepBy(key string) string {
	return fmt.Sprintf(`DELETE FROM {table} WHERE %s > ? AND %[1]s <= ? AND expires <= ?`, key)
}

// keyRanges returns the dialect.ranges of an engine that stores a table in the
// order of key. All keys are greater than first and at most last.
func keyRanges(key string, first, last any) func(context.Context, *sql.DB, names) iter.Seq2[[2]any, error] {
	return func(ctx context.Context, db *sql.DB, n names) iter.Seq2[[2]any, error] {
		next := n.in(fmt.Sprintf(`SELECT %s FROM {table} WHERE %[1]s > ? ORDER BY %[1]s LIMIT 1 OFFSET %d`, key, sweepRows-1))
		return func(yield func([2]any, error) bool) {
			for from, more := first, true; more; {
				var to any
				err := db.QueryRowContext(ctx, next, from).Scan(&to)
				if errors.Is(err, sql.ErrNoRows) {
					to, more, err = last, false, nil
				}
				if !yield([2]any{from, to}, err) || err != nil {
					return
				}
				from = to
			}
		}
	}
}
