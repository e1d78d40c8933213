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
			// The index may point to what is gone, or moved.
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

// ownerFolder is where the ids of an owner are. A name of any bytes and length
// becomes one that a file may have.
func (s *Store) ownerFolder(owner string) string {
	hash := sha256.Sum256([]byte(owner))
	name := hex.EncodeToString(hash[:])
	return filepath.Join(s.dir, "owners", name[:2], name)
}

func (s *Store) entry(owner string, id sessions.ID) string {
	return filepath.Join(s.ownerFolder(owner), id.String())
}

// indexTries is more often than the last session of an owner ends in the time
// that it takes to make a folder, but ends where a link leads nowhere.
const indexTries = 100

// index adds id to those of owner. The lock of id's folder is held, here and
// wherever an entry is removed.
func (s *Store) index(owner string, id sessions.ID) error {
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
		// There is no folder yet, or it went with its last entry just now. It may
		// go while it is being made too: then MkdirAll finds that it exists, and
		// next that it does not.
		err = s.makeFolder(filepath.Dir(path))
		if err != nil && (try == indexTries || !errors.Is(err, fs.ErrExist)) {
			return err
		}
	}
}

// unindex removes id from those of owner, and the folder with the last of them,
// as far as it can: what it leaves is skipped by Owned and removed by Sweep.
func (s *Store) unindex(owner string, id sessions.ID) {
	if owner == "" {
		return
	}
	path := s.entry(owner, id)
	_ = os.Remove(path)
	_ = os.Remove(filepath.Dir(path)) // not while there are others in it
}

// listIDs returns the ids that files in a folder are named after.
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

// list returns the names in a folder. One that is not there has none.
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
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // removed meanwhile, as it was empty
		return nil, fmt.Errorf("filestore: %w", err)
	}
	return names, nil
}
