package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/typedsessions/sessions"
)

// The labels of a record are in a column of its row, which Load reads and which
// decides. A second table is the index by which Labelled finds the rows. It has an
// entry for each label of each record, and is changed in the same transaction. The
// server deletes the entries of a record together with its row, by a foreign key or
// by a trigger. An entry without its label in the row can stay until then, after
// Create has replaced an expired record. Labelled does not yield it.

// labelSuffix ends the name of the index table.
const labelSuffix = "_labels"

// A labelDialect is the part of a dialect for Stores with Options.Labels.
type labelDialect struct {
	column column // of the table of sessions
	table  table  // the index

	// overExpired and nows are as in dialect.
	overExpired string
	nows        int

	// same is a condition on a row: its labels are those of a parameter.
	same string

	// create and update are statements that write a record and its entries, where
	// the server has such statements. After the parameters of the statements
	// without entries they have the hashes of all labels as a bigint[]. They
	// return the number of written records.
	create, update string

	// add is an INSERT of entries, without its rows, that skips those that exist.
	add string
}

// withLabels returns the dialect for Options.Labels.
func (d dialect) withLabels() dialect {
	t := d.tables[0]
	t.columns = append(slices.Clip(t.columns), d.labels.column)
	d.tables = []table{t, d.labels.table}
	d.overExpired, d.nows = d.labels.overExpired, d.labels.nows
	return d
}

// labelDDL returns the statements that Migrate executes for the labels of an
// existing table.
func (d dialect) labelDDL(n names) string {
	text := d.labels.column.add + "; " + d.labels.table.create
	for _, i := range d.labels.table.indexes {
		if !strings.Contains(text, "{index"+i.suffix+"}") {
			text += "; " + i.create
		}
	}
	return strings.Join(strings.Fields(n.in(text)), " ")
}

// errNoLabels returns the error for a Store without Options.Labels that needs them.
func (s *Store) errNoLabels(what string, n names) error {
	return fmt.Errorf("sqlstore: %s needs Options.Labels: set it, and call Migrate or run: %s", what, s.dialect.labelDDL(n))
}

// labelOperations holds the statements of a Store with Options.Labels.
type labelOperations struct {
	create, update    *statement // write the record and its entries, or only the record if entries is false
	entries           bool
	labelsOf, ofLabel *statement
	add, remove       string
}

const (
	insertLabelled = `INSERT INTO {table} (id, version, expires, owner_hash, owner, data, labels) VALUES (?, ?, ?, ?, ?, ?, ?) `
	updateLabelled = `UPDATE {table} SET version = ?, expires = ?, owner_hash = ?, owner = ?, data = ?, labels = ? WHERE id = ? AND version = ? AND expires > ?`
)

func (d dialect) labelOperations(n names, prepare func(string) *statement) *labelOperations {
	return &labelOperations{
		create:   prepare(cmp.Or(d.labels.create, insertLabelled+d.overExpired)),
		update:   prepare(cmp.Or(d.labels.update, updateLabelled)),
		entries:  d.labels.update != "",
		labelsOf: prepare(`SELECT version, labels FROM {table} WHERE id = ? AND expires > ?`),
		ofLabel: prepare(fmt.Sprintf(`SELECT l.id, s.labels FROM {table_labels} l JOIN {table} s ON s.id = l.id
			WHERE l.label_hash = ? AND l.id > ? AND s.expires > ? ORDER BY l.id LIMIT %d`, ownedPage)),
		add:    n.in(d.labels.add),
		remove: n.in(`DELETE FROM {table_labels}`),
	}
}

// createLabelled stores a record with labels, and reports whether it did.
func (s *Store) createLabelled(ctx context.Context, ops *operations, id sessions.ID, args []any, labels []string) (bool, error) {
	x := ops.labels
	if x.entries {
		n, err := x.count(ctx, x.create, append(args, hashList(labels))...)
		return n == 1, err
	}
	return x.inTransaction(ctx, x.create, args, s.dialect.created, x.addition(id, hashes(labels)))
}

// updateLabelled replaces a record. It tries with the labels as they are first, which
// takes one statement, since they seldom change.
func (s *Store) updateLabelled(ctx context.Context, ops *operations, id sessions.ID, rec sessions.Record, version int64, owner owner) error {
	labels := encodeLabels(rec.Labels)
	values := []any{version, rec.Expires.UnixMilli(), owner.hash, owner.name, dataOf(rec)}
	which := []any{id[:], int64(rec.Version), now()}
	n, err := ops.update.affected(ctx, slices.Concat(values, which, []any{labels})...)
	if err != nil {
		return failure(ctx, err)
	}
	if n > 0 {
		return nil
	}
	return s.updateLabels(ctx, ops, id, slices.Concat(values, []any{labels}, which), rec)
}

// updateLabels replaces a record whose labels change, with their entries.
func (s *Store) updateLabels(ctx context.Context, ops *operations, id sessions.ID, args []any, rec sessions.Record) error {
	x := ops.labels
	if x.entries {
		n, err := x.count(ctx, x.update, append(args, hashList(rec.Labels))...)
		if err != nil {
			return failure(ctx, err)
		}
		if n == 0 {
			return ops.conflictOrAbsence(ctx, id)
		}
		return nil
	}
	// Entries are deleted by their whole key: a DELETE by the id would lock a gap
	// of the index in MySQL, and transactions that insert into it would deadlock.
	// The labels of a version do not change.
	var version int64
	var stored []byte
	err := x.labelsOf.row(ctx, []any{id[:], now()}, &version, &stored)
	if errors.Is(err, sql.ErrNoRows) {
		return sessions.ErrNotFound
	}
	if err != nil {
		return failure(ctx, err)
	}
	if version != int64(rec.Version) {
		return sessions.ErrConflict
	}
	old, err := decodeLabels(stored)
	if err != nil {
		return failure(ctx, err)
	}
	had, has := hashes(old), hashes(rec.Labels)
	written, err := x.inTransaction(ctx, x.update, args, foundOne, x.removal(id, without(had, has)), x.addition(id, without(has, had)))
	if err != nil {
		return failure(ctx, err)
	}
	if !written {
		return ops.conflictOrAbsence(ctx, id)
	}
	return nil
}

func (x *labelOperations) count(ctx context.Context, s *statement, args ...any) (n int, err error) {
	err = s.row(ctx, args, &n)
	return n, err
}

// inTransaction executes write, and the others if wrote reports that it has written
// the record. Statements that are "" are left out.
func (x *labelOperations) inTransaction(ctx context.Context, write *statement, args []any, wrote func(sql.Result) (bool, error), others ...string) (bool, error) {
	for try := 1; ; try++ {
		written, err := x.transaction(ctx, write, args, wrote, others)
		if !write.again(ctx, try, err) {
			return written, err
		}
	}
}

func (x *labelOperations) transaction(ctx context.Context, write *statement, args []any, wrote func(sql.Result) (bool, error), others []string) (bool, error) {
	// Before the transaction, which may hold the only connection.
	stmt, err := write.prepare(ctx)
	if err != nil {
		return false, err
	}
	tx, err := write.db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }()
	// The first statement writes, so that SQLite waits for other writers.
	res, err := tx.StmtContext(ctx, stmt).ExecContext(ctx, args...)
	if err != nil {
		return false, err
	}
	if written, err := wrote(res); err != nil || !written {
		return false, err
	}
	for _, text := range others {
		if text == "" {
			continue
		}
		if _, err := tx.ExecContext(ctx, text); err != nil {
			return false, err
		}
	}
	return true, tx.Commit()
}

// foundOne reports whether a statement found its row.
func foundOne(res sql.Result) (bool, error) {
	n, err := res.RowsAffected()
	return n > 0, err
}

// addition and removal return a statement without parameters, which takes one round
// trip, or "" if there are no hashes.
func (x *labelOperations) addition(id sessions.ID, hashes []int64) string {
	if len(hashes) == 0 {
		return ""
	}
	rows := make([]string, len(hashes))
	for i, h := range hashes {
		rows[i] = fmt.Sprintf("(%d, X'%x')", h, id[:])
	}
	return x.add + " VALUES " + strings.Join(rows, ", ")
}

func (x *labelOperations) removal(id sessions.ID, hashes []int64) string {
	if len(hashes) == 0 {
		return ""
	}
	return fmt.Sprintf("%s WHERE id = X'%x' AND label_hash IN (%s)", x.remove, id[:], joined(hashes))
}

// Labelled implements [sessions.LabelStore]. Like Owned, it holds no connection
// while it yields. Without Options.Labels it yields an error.
func (s *Store) Labelled(ctx context.Context, label string) iter.Seq2[sessions.ID, error] {
	return pages(func(last []byte) (page []sessions.ID, next []byte, err error) {
		ops, err := s.operations(ctx)
		if err != nil {
			return nil, nil, failure(ctx, err)
		}
		if ops.labels == nil {
			return nil, nil, s.errNoLabels("Labelled", ops.names)
		}
		rows, err := ops.labels.ofLabel.labelled(ctx, hashOf(label), last, now())
		if err != nil {
			return nil, nil, failure(ctx, err)
		}
		for _, row := range rows {
			labels, err := decodeLabels(row.labels)
			if err != nil {
				return nil, nil, failure(ctx, err)
			}
			if slices.Contains(labels, label) {
				page = append(page, row.id)
			}
		}
		if len(rows) == ownedPage {
			next = rows[len(rows)-1].id[:]
		}
		return page, next, nil
	})
}

// encodeLabels returns the column labels: the labels in ascending order, each after
// its length. It is NULL for a record without labels.
func encodeLabels(labels []string) []byte {
	if len(labels) == 0 {
		return nil
	}
	if !slices.IsSorted(labels) {
		labels = slices.Sorted(slices.Values(labels))
	}
	var b []byte
	for _, label := range labels {
		b = binary.AppendUvarint(b, uint64(len(label)))
		b = append(b, label...)
	}
	return b
}

func decodeLabels(b []byte) (labels []string, err error) {
	for len(b) > 0 {
		length, n := binary.Uvarint(b)
		if n <= 0 || length > uint64(len(b)-n) {
			return nil, errors.New("the column labels of a session cannot be read, since its lengths do not fit: has another program written it?")
		}
		b = b[n:]
		labels = append(labels, string(b[:length]))
		b = b[length:]
	}
	return labels, nil
}

// hashes returns the hashes of labels, none twice.
func hashes(labels []string) []int64 {
	all := make([]int64, 0, len(labels))
	for _, label := range labels {
		if h := hashOf(label); !slices.Contains(all, h) {
			all = append(all, h)
		}
	}
	return all
}

// hashList returns the hashes of labels as the text of an array in PostgreSQL.
func hashList(labels []string) string { return "{" + joined(hashes(labels)) + "}" }

func joined(hashes []int64) string {
	texts := make([]string, len(hashes))
	for i, h := range hashes {
		texts[i] = strconv.FormatInt(h, 10)
	}
	return strings.Join(texts, ",")
}

func without(all, others []int64) []int64 {
	return slices.DeleteFunc(slices.Clone(all), func(h int64) bool { return slices.Contains(others, h) })
}
