package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
)

// Sweep deletes the sessions that are expired when it begins, and returns how
// many it deleted. It goes through the table once, in the order of the disk,
// by statements of a few milliseconds, and waits for its context between them;
// other operations go on meanwhile. An error leaves the rest for the next time,
// as the end of the context does.
//
// Call it from a ticker, about once in ten minutes, in one or in all of the
// processes of the application.
func (s *Store) Sweep(ctx context.Context) (int, error) {
	began := now()
	swept := 0
	for places, err := range s.dialect.ranges(ctx, s.db, s.names) {
		if err != nil {
			return swept, failure(ctx, fmt.Errorf("sweep: %w", err))
		}
		n, err := s.sweep.affected(ctx, places[0], places[1], began)
		if err != nil {
			return swept, failure(ctx, fmt.Errorf("sweep: %w", err))
		}
		swept += int(n)
	}
	return swept, nil
}

// sweepRows is how many rows a statement of Sweep looks at where it goes by a key.
const sweepRows = 500

// sweepBy is the sweep, and keyRanges the ranges, of engines that keep a table in
// the order of this key, all of which are above the first and at most the last.
func sweepBy(key string) string {
	return fmt.Sprintf(`DELETE FROM {table} WHERE %s > ? AND %[1]s <= ? AND expires <= ?`, key)
}

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
