package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// The Store does not prepare statements for PostgreSQL. pgx caches them per
// connection, and PgBouncer may need another mode, which is set in the URL.
var postgreSQL = dialect{
	quote:       `"`,
	numbered:    true,
	later:       `GREATEST(expires, ?)`,
	overExpired: onConflict,
	nows:        1,
	created:     storedOne,
	sweep:       `DELETE FROM {table} WHERE ctid >= CAST(CAST(? AS text) AS tid) AND ctid < CAST(CAST(? AS text) AS tid) AND expires <= ?`,
	ranges:      postgreSQLRanges,
	check:       func(context.Context, *sql.DB) error { return nil },
	tables:      []table{postgreSQLTable},
	labels:      postgreSQLLabels,
	absent:      `does not exist: call Migrate, or set Options.Schema if it is in another schema`,
	resolve:     postgreSQLSchema,
	inspect:     inspectPostgreSQL,
	creating:    creatingPostgreSQL,
	rolledBack:  rolledBackPostgreSQL,
}

// onConflict is the overExpired of PostgreSQL and SQLite.
const onConflict = `ON CONFLICT (id) DO UPDATE SET version = excluded.version, expires = excluded.expires,
	owner_hash = excluded.owner_hash, owner = excluded.owner, data = excluded.data
	WHERE {table}.expires <= ?`

// onConflictLabels is the same for labelDialect.
const onConflictLabels = `ON CONFLICT (id) DO UPDATE SET version = excluded.version, expires = excluded.expires,
	owner_hash = excluded.owner_hash, owner = excluded.owner, data = excluded.data, labels = excluded.labels
	WHERE {table}.expires <= ?`

// There is no index on expires, since every use of a session changes it. If no
// indexed column changes and the page has room, PostgreSQL updates a row within
// its page and writes no index entry (a heap-only tuple). The fillfactor leaves
// that room. Of 120,000 random updates of 50,000 rows with 800 bytes of data, 99 %
// were heap-only at fillfactor 80, 65 % at 90 and 66 % at 100. With an index on
// expires none were, the updates wrote 2.7 times as much log, and there were 0.36
// times as many per second.
//
// With autovacuum_vacuum_scale_factor at 0.02, vacuum runs when 1/50 of the rows
// are dead, for instance after Sweep; the default is 1/5.
var postgreSQLTable = table{
	create: `CREATE TABLE {table} (
	id         bytea  PRIMARY KEY,
	version    bigint NOT NULL,
	expires    bigint NOT NULL, -- milliseconds since 1970
	owner_hash bigint,
	owner      bytea,
	data       bytea  NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02)`,
	columns: []column{
		{name: "id", typ: "bytea"},
		{name: "version", typ: "bigint"},
		{name: "expires", typ: "bigint"},
		{name: "owner_hash", typ: "bigint", null: true},
		{name: "owner", typ: "bytea", null: true},
		{name: "data", typ: "bytea"},
	},
	key: []string{"id"},
	indexes: []index{{
		suffix:  "_owner",
		create:  `CREATE INDEX {index_owner} ON {table} (owner_hash, id) WHERE owner_hash IS NOT NULL`,
		columns: []string{"owner_hash", "id"},
	}},
}

// A statement that writes a record and its entries takes one round trip. It deletes
// entries as of its begin, which are those of the version that it replaces: they
// change together.
var postgreSQLLabels = labelDialect{
	column: column{name: "labels", typ: "bytea", null: true, add: `ALTER TABLE {table} ADD COLUMN IF NOT EXISTS labels bytea`},
	table: table{
		suffix: labelSuffix,
		create: `CREATE TABLE {table_labels} (
	label_hash bigint NOT NULL,
	id         bytea  NOT NULL REFERENCES {table} (id) ON DELETE CASCADE,
	PRIMARY KEY (label_hash, id)
) WITH (autovacuum_vacuum_scale_factor = 0.02)`,
		columns: []column{{name: "label_hash", typ: "bigint"}, {name: "id", typ: "bytea"}},
		key:     []string{"label_hash", "id"},
		indexes: []index{{
			suffix:  "_labels_id",
			create:  `CREATE INDEX {index_labels_id} ON {table_labels} (id)`,
			columns: []string{"id"},
		}},
		// The locks are taken in the order in which a write takes them.
		follow: `LOCK TABLE {table}, {table_labels} IN SHARE ROW EXCLUSIVE MODE;
DELETE FROM {table_labels} l WHERE NOT EXISTS (SELECT FROM {table} s WHERE s.id = l.id);
ALTER TABLE {table_labels} ADD FOREIGN KEY (id) REFERENCES {table} (id) ON DELETE CASCADE`,
	},
	overExpired: onConflictLabels,
	nows:        1,
	same:        `labels IS NOT DISTINCT FROM ?`,
	create: `WITH written AS (` + insertLabelled + onConflictLabels + ` RETURNING id),
	added AS (INSERT INTO {table_labels} (label_hash, id)
		SELECT hash, id FROM unnest(CAST(CAST(? AS text) AS bigint[])) hash, written ON CONFLICT DO NOTHING)
	SELECT COUNT(*) FROM written`,
	update: `WITH written AS (` + updateLabelled + ` RETURNING id),
	given AS (SELECT CAST(CAST(? AS text) AS bigint[]) AS hashes),
	removed AS (DELETE FROM {table_labels} l USING written, given WHERE l.id = written.id AND l.label_hash <> ALL (given.hashes)),
	added AS (INSERT INTO {table_labels} (label_hash, id)
		SELECT hash, id FROM given, unnest(hashes) hash, written ON CONFLICT DO NOTHING)
	SELECT COUNT(*) FROM written`,
}

// postgreSQLSchema adds to n the schema of the tables. Without Options.Schema it is the
// first one of the search path. A table with the name in a later one may be that
// of another application, so statements name the schema.
func postgreSQLSchema(ctx context.Context, q querier, n names) (names, error) {
	if n.schema != "" {
		return n, nil
	}
	var schema sql.Null[string]
	var path, user string
	err := q.QueryRowContext(ctx, `SELECT CAST(current_schema() AS text), current_setting('search_path'), CAST(current_user AS text)`).Scan(&schema, &path, &user)
	if err != nil {
		return n, err
	}
	const remedy = "create it, GRANT USAGE on it, or set Options.Schema"
	if !schema.Valid {
		return n, fmt.Errorf("no schema of the search path %q exists that this user may use: %s", path, remedy)
	}
	// The server skips the schemas of the search path that do not exist. The
	// default begins with one that seldom exists, that of the user.
	for _, name := range splitPath(path) {
		if name == schema.V {
			break
		}
		if name != "$user" {
			return n, fmt.Errorf("schema %q of the search path %q does not exist, or this user may not use it: %s", name, path, remedy)
		}
		if user == schema.V {
			break
		}
	}
	n.schema = schema.V
	return n, nil
}

// splitPath returns the names in a search_path.
func splitPath(path string) []string {
	var names []string
	for path != "" {
		var name string
		path = strings.TrimLeft(path, ", ")
		if rest, quoted := strings.CutPrefix(path, `"`); quoted {
			for {
				part, after, _ := strings.Cut(rest, `"`)
				name += part
				if rest, quoted = strings.CutPrefix(after, `"`); !quoted {
					path = after
					break
				}
				name += `"`
			}
		} else {
			name, path, _ = strings.Cut(path, ",")
			name = strings.ToLower(strings.TrimSpace(name))
		}
		names = append(names, name)
	}
	return names
}

// relationKinds has the values of pg_class.relkind.
var relationKinds = map[string]string{
	"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table",
	"i": "index", "I": "partitioned index", "S": "sequence", "c": "composite type",
}

// inspectPostgreSQL reads the catalog, which needs no privilege.
func inspectPostgreSQL(ctx context.Context, q querier, n names, t table) (found, error) {
	got := found{indexes: map[string]foundIndex{}, taken: map[string]string{}}
	const relation = `FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid `
	const named = `WHERE n.nspname = $1 AND c.relname = $2 `
	where := []any{n.schema, n.table + t.suffix}
	err := each(ctx, q, `SELECT CAST(c.relkind AS text), CAST(a.attname AS text), pg_catalog.format_type(a.atttypid, a.atttypmod),
			a.attnotnull, a.atthasdef OR a.attidentity <> '' `+relation+`
		LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped `+named,
		where, func(scan func(...any) error) error {
			var kind string
			var name, typ sql.Null[string]
			var notNull, filled sql.Null[bool]
			if err := scan(&kind, &name, &typ, &notNull, &filled); err != nil {
				return err
			}
			got.kind = relationKinds[kind]
			if name.Valid {
				got.columns = append(got.columns, foundColumn{column{name: name.V, typ: typ.V, null: !notNull.V}, notNull.V && !filled.V})
			}
			return nil
		})
	if err != nil {
		return got, err
	}
	// A deferrable key is not enough for ON CONFLICT.
	err = each(ctx, q, `SELECT CAST(i.relname AS text), x.indisprimary, x.indisvalid, x.indimmediate, coalesce(CAST(a.attname AS text), '') `+relation+`
		JOIN pg_catalog.pg_index x ON x.indrelid = c.oid
		JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
		CROSS JOIN LATERAL unnest(CAST(x.indkey AS int2[])) WITH ORDINALITY AS k (attnum, place)
		LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum AND k.attnum > 0 `+named+`ORDER BY i.relname, k.place`,
		where, func(scan func(...any) error) error {
			var name, column string
			var primary, valid, immediate bool
			if err := scan(&name, &primary, &valid, &immediate, &column); err != nil {
				return err
			}
			if primary && immediate {
				got.key = append(got.key, column)
			}
			got.indexes[name] = foundIndex{append(got.indexes[name].columns, column), !valid}
			return nil
		})
	if err != nil {
		return got, err
	}
	if t.follow != "" {
		err := each(ctx, q, `SELECT CASE WHEN o.relnamespace = n.oid THEN '' ELSE p.nspname || '.' END || o.relname `+relation+`
			JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f' AND k.confdeltype = 'c'
			JOIN pg_catalog.pg_class o ON o.oid = k.confrelid
			JOIN pg_catalog.pg_namespace p ON p.oid = o.relnamespace `+named, where, func(scan func(...any) error) error {
			var other string
			err := scan(&other)
			got.setFollows(other, n)
			return err
		})
		if err != nil {
			return got, err
		}
	}
	for _, i := range t.indexes {
		name := n.table + i.suffix
		err := each(ctx, q, `SELECT CAST(c.relkind AS text), coalesce(CAST(o.relname AS text), '') `+relation+`
			LEFT JOIN pg_catalog.pg_index x ON x.indexrelid = c.oid
			LEFT JOIN pg_catalog.pg_class o ON o.oid = x.indrelid `+named, []any{n.schema, name}, func(scan func(...any) error) error {
			var kind, of string
			err := scan(&kind, &of)
			got.setTaken(name, relationKinds[kind], of, n.table+t.suffix)
			return err
		})
		if err != nil {
			return got, err
		}
	}
	return got, nil
}

// creatingPostgreSQL calls f in a transaction. It creates the schema if it does not exist.
func creatingPostgreSQL(ctx context.Context, db *sql.DB, n names, f func(querier) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	// Without the lock, one of two concurrent calls could fail with a duplicate
	// key in the catalog.
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext($1))`, n.quoted("")); err != nil {
		return err
	}
	var exists bool
	if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)`, n.schema).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		if _, err := tx.ExecContext(ctx, `CREATE SCHEMA `+n.identifier(n.schema)); err != nil {
			return fmt.Errorf("create its schema: %w", err)
		}
	}
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// rolledBackPostgreSQL reports whether err has the code of a serialization failure
// or a deadlock. Drivers for PostgreSQL have this method.
func rolledBackPostgreSQL(err error) bool {
	var coded interface{ SQLState() string }
	if !errors.As(err, &coded) {
		return false
	}
	code := coded.SQLState()
	return code == "40001" || code == "40P01"
}

// sweepPages is the number of pages that a statement of Sweep reads, 1 MiB.
const sweepPages = 128

// postgreSQLRanges yields ranges of pages. Rows are not stored in the order of
// their ids.
func postgreSQLRanges(ctx context.Context, db *sql.DB, n names) iter.Seq2[[2]any, error] {
	return func(yield func([2]any, error) bool) {
		var pages int64
		err := db.QueryRowContext(ctx, `SELECT pg_relation_size(CAST(CAST($1 AS text) AS regclass)) / CAST(current_setting('block_size') AS bigint)`, n.quoted("")).Scan(&pages)
		if err != nil {
			yield([2]any{}, err)
			return
		}
		place := func(page int64) string { return fmt.Sprintf("(%d,0)", page) }
		for page := int64(0); page < pages; page += sweepPages {
			if !yield([2]any{place(page), place(page + sweepPages)}, nil) {
				return
			}
		}
	}
}
