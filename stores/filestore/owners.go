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

	"github.com/typedsessions/sessions"
)

// Owned implements [sessions.OwnerStore]. It takes no lock.
func (s *Store) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(sessions.ID{}, err)
			return
		}
		ids, err := listIDs(s.ownerFolder(owner))
		for _, id := range ids {
			if err = ctx.Err(); err != nil {
				break
			}
			// The index may list records that were deleted or have another owner.
			var rec sessions.Record
			rec, err = s.read(id)
			switch {
			case errors.Is(err, sessions.ErrNotFound):
				err = nil
				continue
			case err == nil && rec.Owner != owner:
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

// ownerFolder returns the folder with the ids of owner. It is named by a hash,
// since an owner may contain any bytes and be longer than a file name.
func (s *Store) ownerFolder(owner string) string {
	hash := sha256.Sum256([]byte(owner))
	name := hex.EncodeToString(hash[:])
	return filepath.Join(s.dir, "owners", name[:2], name)
}

func (s *Store) entry(owner string, id sessions.ID) string {
	return filepath.Join(s.ownerFolder(owner), id.String())
}

// indexTries bounds how often indexLocked creates the folder of an owner. Each
// retry means that the last session of the owner ended while the folder was
// created, which does not happen 100 times in a row. A dangling symbolic link in
// the place of the folder would otherwise retry forever.
const indexTries = 100

// indexLocked adds id to the index of owner. The caller holds the lock of id's
// folder in records.
func (s *Store) indexLocked(owner string, id sessions.ID) error {
	if owner == "" {
		return nil
	}
	path := s.entry(owner, id)
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

// unindexLocked removes id from the index of owner, and the folder of owner if
// it is then empty. It ignores errors: Owned skips entries that are left behind
// and Sweep removes them. The caller holds the lock of id's folder in records.
func (s *Store) unindexLocked(owner string, id sessions.ID) {
	if owner == "" {
		return
	}
	path := s.entry(owner, id)
	_ = os.Remove(path)
	_ = os.Remove(filepath.Dir(path)) // fails while other entries are in it
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
