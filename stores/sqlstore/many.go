package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/typedsessions/sessions"
)

// manySizes are the numbers of parameters of the statements of LoadMany, so that
// a server sees few different ones. A statement with more parameters than ids gets
// the last id repeatedly.
var manySizes = []int{16, 128, 512}

// LoadMany returns the records of those ids that exist. It executes one statement
// for 512 ids. [sessions.Session.Watch] uses it.
func (s *Store) LoadMany(ctx context.Context, ids []sessions.ID) (map[sessions.ID]sessions.Record, error) {
	ops, err := s.operations(ctx)
	if err != nil {
		return nil, failure(ctx, err)
	}
	found := make(map[sessions.ID]sessions.Record, len(ids))
	for len(ids) > 0 {
		var some []sessions.ID
		some, ids = ids[:min(len(ids), manySizes[len(manySizes)-1])], ids[min(len(ids), manySizes[len(manySizes)-1]):]
		for try := 1; ; try++ {
			err := s.loadSome(ctx, ops, some, found)
			if !ops.load.again(ctx, try, err) {
				if err != nil {
					return nil, failure(ctx, err)
				}
				break
			}
		}
	}
	return found, nil
}

func (s *Store) loadSome(ctx context.Context, ops *operations, ids []sessions.ID, found map[sessions.ID]sessions.Record) error {
	size := manySizes[0]
	for _, size = range manySizes {
		if size >= len(ids) {
			break
		}
	}
	args := []any{now()}
	for i := range size {
		args = append(args, ids[min(i, len(ids)-1)][:])
	}
	columns := "id, version, expires, owner, data"
	if ops.labels != nil {
		columns += ", labels"
	}
	text := fmt.Sprintf(`SELECT %s FROM {table} WHERE expires > ? AND id IN (?%s)`, columns, strings.Repeat(", ?", size-1))
	rows, err := s.db.QueryContext(ctx, ops.names.in(s.dialect.text(text)), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scanRecord(rows, ops.labels != nil, found); err != nil {
			return err
		}
	}
	return rows.Err()
}

func scanRecord(rows *sql.Rows, labelled bool, found map[sessions.ID]sessions.Record) error {
	var rec sessions.Record
	var version, expires int64
	var owner, labels []byte
	columns := []any{&version, &expires, &owner, &rec.Data}
	if labelled {
		columns = append(columns, &labels)
	}
	id, err := scanID(rows, columns...)
	if err != nil {
		return err
	}
	if rec.Labels, err = decodeLabels(labels); err != nil {
		return err
	}
	rec.Version, rec.Expires, rec.Owner = uint64(version), time.UnixMilli(expires), string(owner)
	found[id] = rec
	return nil
}
