package filestore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"github.com/typedsessions/sessions"
)

// The kinds of index. Each has a folder of its own, so that an owner and a label
// of the same name are different.
const (
	owners = "owners"
	labels = "labels"
)

var indexes = []string{owners, labels}

// A term is what an index lists records by: an owner or a label.
type term struct{ index, name string }

// terms returns the terms of a record.
func terms(rec sessions.Record) []term {
	all := make([]term, 0, 1+len(rec.Labels))
	if rec.Owner != "" {
		all = append(all, term{owners, rec.Owner})
	}
	for _, label := range rec.Labels {
		all = append(all, term{labels, label})
	}
	return all
}

// Owned implements [sessions.OwnerStore]. It takes no lock.
func (s *Store) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	return s.listed(ctx, term{owners, owner})
}

// Labelled implements [sessions.LabelStore]. It takes no lock.
func (s *Store) Labelled(ctx context.Context, label string) iter.Seq2[sessions.ID, error] {
	return s.listed(ctx, term{labels, label})
}

func (s *Store) listed(ctx context.Context, x term) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(sessions.ID{}, err)
			return
		}
		ids, err := listIDs(s.termFolder(x))
		for _, id := range ids {
			if err = ctx.Err(); err != nil {
				break
			}
			// The index may list records that were deleted or lost the term.
			var rec sessions.Record
			rec, err = s.read(id)
			switch {
			case errors.Is(err, sessions.ErrNotFound):
				err = nil
				continue
			case err == nil && !slices.Contains(terms(rec), x):
				continue
			}
			if err != nil || !yield(id, nil) {
				break
			}
		}
		if err != nil {
			yield(sessions.ID{}, err)
		}
	}
}

// termFolder returns the folder with the ids of a term. It is named by a hash,
// since an owner or label may contain any bytes and be longer than a file name.
func (s *Store) termFolder(x term) string {
	hash := sha256.Sum256([]byte(x.name))
	name := hex.EncodeToString(hash[:])
	return filepath.Join(s.dir, x.index, name[:2], name)
}

func (s *Store) entry(x term, id sessions.ID) string {
	return filepath.Join(s.termFolder(x), id.String())
}

// indexTries bounds how often indexLocked creates the folder of a term. Each
// retry means that the last session of the term ended while the folder was
// created, which does not happen 100 times in a row. A dangling symbolic link in
// the place of the folder would otherwise retry forever.
const indexTries = 100

// indexLocked adds id to the index of all terms of rec. The caller holds the lock
// of id's folder in records.
func (s *Store) indexLocked(rec sessions.Record, id sessions.ID) error {
	for _, x := range terms(rec) {
		if err := s.addLocked(x, id); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) addLocked(x term, id sessions.ID) error {
	path := s.entry(x, id)
	for try := 1; ; try++ {
		f, err := open(path, os.O_WRONLY|os.O_CREATE)
		switch {
		case err == nil:
			if err := f.Close(); err != nil {
				return fmt.Errorf("filestore: %w", err)
			}
			return s.flush(filepath.Dir(path))
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("filestore: %w", err)
		}
		// The folder does not exist yet, or was removed with its last entry. It
		// may also be removed during MkdirAll, which then sees that it exists and
		// a moment later that it does not.
		err = s.makeFolder(filepath.Dir(path))
		if err != nil && (try == indexTries || !errors.Is(err, fs.ErrExist)) {
			return err
		}
	}
}

// unindexLocked removes id from the index of the terms that old has and rec does
// not, and the folder of each such term if it is then empty. It ignores errors:
// Owned and Labelled skip entries that are left behind and Sweep removes them.
// The caller holds the lock of id's folder in records.
func (s *Store) unindexLocked(old, rec sessions.Record, id sessions.ID) {
	kept := terms(rec)
	for _, x := range terms(old) {
		if slices.Contains(kept, x) {
			continue
		}
		path := s.entry(x, id)
		_ = os.Remove(path)
		_ = os.Remove(filepath.Dir(path)) // fails while other entries are in it
	}
}

// listIDs returns the ids that occur as file names in a folder.
func listIDs(folder string) ([]sessions.ID, error) {
	names, err := list(folder)
	if err != nil {
		return nil, err
	}
	ids := make([]sessions.ID, 0, len(names))
	for _, name := range names {
		if id, ok := parseID(name); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func parseID(name string) (sessions.ID, bool) {
	b, err := hex.DecodeString(name)
	if err != nil || len(b) != len(sessions.ID{}) || hex.EncodeToString(b) != name {
		return sessions.ID{}, false
	}
	return sessions.ID(b), true
}

// list returns the names in a folder. A folder that does not exist has none.
func list(folder string) ([]string, error) {
	f, err := os.Open(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("filestore: %w", err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty folder may be removed after Open
		return nil, fmt.Errorf("filestore: %w", err)
	}
	return names, nil
}
