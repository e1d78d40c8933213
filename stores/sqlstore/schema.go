package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A table is one that the Store uses. [Store.Migrate] creates it with its indexes.
type table struct {
	suffix  string // of its name, after Options.Table
	create  string // may create the indexes too
	columns []column
	key     []string // the columns of the primary key
	indexes []index

	// follow, if not "", is how Migrate makes the server delete the rows of an
	// existing table together with the sessions that have their ids. It has a
	// statement, or some with ";\n" between them.
	follow string
}

type column struct {
	name, typ string
	null      bool
	add       string // if not "": how Migrate adds it to an existing table
}

type index struct {
	suffix  string // of its name, after Options.Table
	create  string
	columns []string
}

// names holds the identifiers of a Store.
type names struct {
	quote  string
	schema string // "" for a server without schemas, and before dialect.resolve
	table  string // Options.Table
}

func (n names) identifier(name string) string {
	return n.quote + strings.ReplaceAll(name, n.quote, n.quote+n.quote) + n.quote
}

// quoted returns the name of a table as in SQL.
func (n names) quoted(suffix string) string {
	if n.schema == "" {
		return n.identifier(n.table + suffix)
	}
	return n.identifier(n.schema) + "." + n.identifier(n.table+suffix)
}

var placeholder = regexp.MustCompile(`\{(table|index)(\w*)\}`)

// in returns sql with its placeholders replaced by quoted names: {table} is the
// table without a suffix, {table_x} the one with the suffix _x, and {index_x} an
// index with that suffix.
func (n names) in(sql string) string {
	return placeholder.ReplaceAllStringFunc(sql, func(s string) string {
		m := placeholder.FindStringSubmatch(s)
		if m[1] == "index" {
			return n.identifier(n.table + m[2])
		}
		return n.quoted(m[2])
	})
}

// A querier is a *sql.DB or a *sql.Tx.
type querier interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

// A found describes what the server has under the name of a table.
type found struct {
	kind    string // "table", something else, or "" if there is nothing
	hidden  bool   // the server does not show the columns to this user
	columns []foundColumn
	key     []string
	indexes map[string]foundIndex // of the table, by name
	taken   map[string]string     // what else has the name of one of our indexes, by name
	follows string                // the table together with whose rows the server deletes these, or ""
}

type foundColumn struct {
	column
	required bool // an INSERT must name it
}

type foundIndex struct {
	columns []string
	invalid bool
}

// setTaken notes that something has the name of one of our indexes. An index of
// our own table is one that another process has just created.
func (got *found) setTaken(name, kind, of, ours string) {
	switch {
	case kind != "index":
		got.taken[name] = "another " + kind
	case !strings.EqualFold(of, ours):
		got.taken[name] = "an index of table " + of
	}
}

// setFollows notes that the server deletes the rows of the table together with those of
// another. One that is not the table of sessions is kept before that.
func (got *found) setFollows(table string, n names) {
	if got.follows == "" || !strings.EqualFold(table, n.table) {
		got.follows = table
	}
}

// differs returns an error if got is not t. Columns that an INSERT need not name
// may be added.
func (t table) differs(n names, got found) error {
	var problems []string
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	switch {
	case got.kind != "table":
		problem("it is a %s", got.kind)
	case got.hidden:
		return fmt.Errorf("the columns of %s are not visible, need the privilege SELECT: GRANT SELECT ON %[1]s", n.quoted(t.suffix))
	default:
		var missing []string
		for _, want := range t.columns {
			i := slices.IndexFunc(got.columns, func(c foundColumn) bool { return c.name == want.name })
			switch {
			case i < 0 && want.add != "":
				// Migrate adds it.
			case i < 0:
				missing = append(missing, want.name)
			case got.columns[i].typ != want.typ:
				problem("column %s has type %s, need %s", want.name, got.columns[i].typ, want.typ)
			case want.null && !got.columns[i].null:
				problem("column %s is NOT NULL, need one that may be NULL", want.name)
			}
		}
		if missing != nil {
			problem("it lacks the columns %s", strings.Join(missing, ", "))
		}
		for _, c := range got.columns {
			if c.required && !slices.ContainsFunc(t.columns, func(want column) bool { return want.name == c.name }) {
				problem("its column %s needs a value, which sessions do not have", c.name)
			}
		}
		if t.follow != "" && got.follows != "" && !strings.EqualFold(got.follows, n.table) {
			problem("its rows are deleted with those of %s, need those of %s", got.follows, n.table)
		}
		if !slices.Equal(got.key, t.key) {
			problem("its primary key is (%s), need (%s)", strings.Join(got.key, ", "), strings.Join(t.key, ", "))
		}
	}
	if problems == nil {
		return nil
	}
	return fmt.Errorf("%s is not a table of sessions: %s: set Options.Table to a name that nothing else uses", n.quoted(t.suffix), strings.Join(problems, ", "))
}

// A part is a column or an index that Migrate adds to a table, or its table.follow.
type part struct{ name, create string }

// missing returns the parts of t that got does not have. It returns an error if
// the names of indexes belong to something else.
func (t table) missing(n names, got found) ([]part, error) {
	missing := t.missingColumns(n, got)
	if t.missesFollow(got) {
		missing = append(missing, part{"the deletion of its rows with their sessions", n.in(t.follow)})
	}
	for _, want := range t.indexes {
		name := n.table + want.suffix
		i, ok := got.indexes[name]
		switch {
		case !ok && got.taken[name] != "":
			return nil, fmt.Errorf("the name of index %s belongs to %s: set Options.Table to another name", name, got.taken[name])
		case !ok:
			missing = append(missing, part{"index " + name, n.in(want.create)})
		case !slices.Equal(i.columns, want.columns):
			return nil, fmt.Errorf("index %s has the columns (%s), need (%s): drop it, and call Migrate, or set Options.Table to another name",
				name, strings.Join(i.columns, ", "), strings.Join(want.columns, ", "))
		case i.invalid:
			return nil, fmt.Errorf("index %s is not valid, its build failed or has not ended: drop it, and call Migrate", name)
		}
	}
	return missing, nil
}

func (t table) missesFollow(got found) bool {
	return t.follow != "" && got.kind != "" && got.follows == ""
}

func (t table) missingColumns(n names, got found) (missing []part) {
	for _, want := range t.columns {
		if want.add != "" && !slices.ContainsFunc(got.columns, func(c foundColumn) bool { return c.name == want.name }) {
			missing = append(missing, part{"column " + want.name, n.in(want.add)})
		}
	}
	return missing
}

// inspected reports whether t exists, and returns its missing parts. It returns an
// error if any of it is not ours.
func (d dialect) inspected(ctx context.Context, q querier, n names, t table) (exists bool, missing []part, err error) {
	got, err := d.inspect(ctx, q, n, t)
	if err != nil {
		return false, nil, err
	}
	exists = got.kind != ""
	if exists {
		if err := t.differs(n, got); err != nil {
			return false, nil, err
		}
	}
	missing, err = t.missing(n, got)
	return exists, missing, err
}

// complete reports whether all tables exist with all their parts. It returns an error if
// any of them is not ours.
func (d dialect) complete(ctx context.Context, q querier, n names) (bool, error) {
	complete := true
	for _, t := range d.tables {
		exists, missing, err := d.inspected(ctx, q, n, t)
		if err != nil {
			return false, err
		}
		complete = complete && exists && len(missing) == 0
	}
	return complete, nil
}

// migrate creates the tables that do not exist, and the parts that they lack.
func (d dialect) migrate(ctx context.Context, db *sql.DB, n names) error {
	// Creating needs privileges and locks even where it changes nothing.
	complete, err := d.complete(ctx, db, n)
	if err == nil && d.beforeMigrate != nil {
		err = d.beforeMigrate(ctx, db)
	}
	if err != nil || complete {
		return err
	}
	err = d.creating(ctx, db, n, func(q querier) error { return d.create(ctx, q, n) })
	if err == nil {
		return nil
	}
	// Another process may have created an index at the same time.
	if complete, lookErr := d.complete(ctx, db, n); lookErr == nil && complete {
		return nil
	}
	return err
}

func (d dialect) create(ctx context.Context, q querier, n names) error {
	for _, t := range d.tables {
		exists, missing, err := d.inspected(ctx, q, n, t)
		if err != nil {
			return err
		}
		if !exists {
			if _, err := q.ExecContext(ctx, n.in(t.create)); err != nil {
				return fmt.Errorf("create it: %w", err)
			}
			if _, missing, err = d.inspected(ctx, q, n, t); err != nil {
				return err
			}
		}
		for _, p := range missing {
			err := execEach(ctx, q, p.create)
			if err == nil {
				continue
			}
			// Another process may have created it at the same time.
			_, still, lookErr := d.inspected(ctx, q, n, t)
			if lookErr != nil || slices.Contains(still, p) {
				return fmt.Errorf("create %s: %w", p.name, err)
			}
		}
	}
	// CREATE … IF NOT EXISTS succeeds whatever has the name.
	complete, err := d.complete(ctx, q, n)
	if err == nil && !complete {
		err = errors.New("the table or its index was dropped while it was created")
	}
	return err
}

// execEach executes statements with ";\n" between them.
func execEach(ctx context.Context, q querier, texts string) error {
	for _, text := range strings.Split(texts, ";\n") {
		if _, err := q.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

// verify returns an error if a table does not exist or is not ours. It does not
// look at indexes, without which operations are slow but right.
func (d dialect) verify(ctx context.Context, q querier, n names) error {
	for _, t := range d.tables {
		got, err := d.inspect(ctx, q, n, t)
		if err != nil {
			return err
		}
		if got.kind == "" {
			if t.suffix != labelSuffix {
				return fmt.Errorf("table %s %s", n.quoted(t.suffix), n.in(d.absent))
			}
			return fmt.Errorf("table %s, which Options.Labels needs, does not exist, or this user has no privilege on it: "+
				"GRANT SELECT, INSERT, DELETE ON %[1]s, or call Migrate, or run: %[2]s", n.quoted(t.suffix), d.labelDDL(n))
		}
		if err := t.differs(n, got); err != nil {
			return err
		}
		if t.missingColumns(n, got) != nil {
			return fmt.Errorf("table %s has no column labels, which Options.Labels needs: call Migrate, or run: %s", n.quoted(t.suffix), d.labelDDL(n))
		}
		if t.missesFollow(got) {
			return fmt.Errorf("the server does not delete the rows of table %s with their sessions: call Migrate, or run: %s",
				n.quoted(t.suffix), strings.Join(strings.Fields(n.in(t.follow)), " "))
		}
	}
	return nil
}

// each calls f with the Scan method of each row.
func each(ctx context.Context, q querier, text string, args []any, f func(scan func(...any) error) error) error {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
