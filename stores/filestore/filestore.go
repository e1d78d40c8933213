package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/typedsessions/sessions"
)

// A Store is a [sessions.LabelStore] in a folder. It is safe for concurrent use
// by multiple goroutines, and its folder by multiple processes that run as the
// same user on the same machine. A Store starts no goroutines and keeps no files
// open between operations. Expired records are removed only by [Store.Sweep].
//
// An operation that is waiting for a lock returns when its context is done.
// Reading or writing a file is not interrupted.
type Store struct {
	// Sync makes every write reach the disk before the operation returns. Set
	// it before the first use.
	//
	// If Sync is false, a crash of the process loses nothing, but a power
	// failure or a crash of the kernel may undo the writes of the last seconds
	// (Linux writes back after 5 to 30 seconds). A new session may be lost, a
	// changed one may be lost or have its earlier content, and a destroyed one
	// may exist again. A session may also be missing from the index of its
	// owner or of a label, so that [sessions.Manager.RevokeOwner] or
	// [sessions.Manager.RevokeLabelled] does not find it, until it is next
	// changed or [Store.Sweep] runs. Call Sweep after the machine has restarted.
	//
	// If Sync is true, each write waits for the disk: for the record, and for
	// the index of its owner and of each of its labels.
	Sync bool

	dir   string
	turns [shards]chan struct{} // full while a goroutine of this process has the lock
}

// shards is the number of folders that records are spread over, by the first
// byte of the id. Each folder has a lock.
const shards = 256

var _ sessions.LabelStore = (*Store)(nil)

// New returns a store in dir and creates the folder if it does not exist. It
// returns an error if other users may write to the folder, since a user who can
// write records can sign in as anyone. The owner of the folder must therefore be
// the user of this process or root. New does not check the folders above dir. On
// a system without flock, such as Windows, the error is [errors.ErrUnsupported].
func New(dir string) (*Store, error) {
	if !supported {
		return nil, fmt.Errorf("filestore: this system has no flock, use another store: %w", errors.ErrUnsupported)
	}
	if dir == "" {
		return nil, errors.New("filestore: New needs the path of a folder, got an empty string")
	}
	// A later change of the working directory must not move the store.
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("filestore: %w", err)
	}
	s := &Store{dir: dir}
	for i := range s.turns {
		s.turns[i] = make(chan struct{}, 1)
	}
	folders := []string{dir, filepath.Join(dir, "records")}
	for _, index := range indexes {
		folders = append(folders, filepath.Join(dir, index))
	}
	for _, folder := range folders {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("filestore: %w", err)
		}
		info, err := os.Stat(folder)
		if err != nil {
			return nil, fmt.Errorf("filestore: %w", err)
		}
		if uid := ownerOf(info); uid != os.Geteuid() && uid != 0 {
			return nil, fmt.Errorf("filestore: user %d owns %s and may write to it: run chown -R %d on it, or run this program as that user", uid, folder, os.Geteuid())
		}
		if info.Mode().Perm()&0o022 != 0 {
			return nil, fmt.Errorf("filestore: other users may write to %s, which has mode %#o: run chmod 700 on it", folder, info.Mode().Perm())
		}
	}
	return s, nil
}

// Load implements [sessions.Store]. It takes no lock.
func (s *Store) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	if err := ctx.Err(); err != nil {
		return sessions.Record{}, err
	}
	return s.read(id)
}

// Create implements [sessions.Store].
func (s *Store) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	unlock, err := s.lock(ctx, id[0])
	if err != nil {
		return 0, err
	}
	defer unlock()
	switch _, err := s.read(id); {
	case err == nil:
		return 0, sessions.ErrExists
	case !errors.Is(err, sessions.ErrNotFound):
		return 0, err
	}
	return s.putLocked(id, rec)
}

// Update implements [sessions.Store].
func (s *Store) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	unlock, err := s.lock(ctx, id[0])
	if err != nil {
		return 0, err
	}
	defer unlock()
	old, err := s.read(id)
	switch {
	case err != nil:
		return 0, err
	case old.Version != rec.Version:
		return 0, sessions.ErrConflict
	}
	version, err := s.putLocked(id, rec)
	if err == nil {
		s.unindexLocked(old, rec, id)
	}
	return version, err
}

// Touch implements [sessions.Store]. It rewrites the whole record.
func (s *Store) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	unlock, err := s.lock(ctx, id[0])
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := s.read(id)
	if err != nil || expires.UnixMilli() <= rec.Expires.UnixMilli() {
		return err
	}
	rec.Expires = expires
	return s.writeLocked(id, rec)
}

// Delete implements [sessions.Store]. With version 0 it also removes a file that
// cannot be read as a record.
func (s *Store) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	unlock, err := s.lock(ctx, id[0])
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := s.read(id)
	switch {
	case version == 0:
	case err != nil:
		return err
	case rec.Version != version:
		return sessions.ErrConflict
	}
	if _, err := s.removeLocked(id); err != nil {
		return err
	}
	s.unindexLocked(rec, sessions.Record{}, id)
	return nil
}

// putLocked stores rec under a new version. It writes the index entries first, so
// that the index never misses a live record.
func (s *Store) putLocked(id sessions.ID, rec sessions.Record) (uint64, error) {
	if err := s.indexLocked(rec, id); err != nil {
		return 0, err
	}
	// A version must not be used again after a Delete and a Create. A counter
	// would have to outlive its record; a random number need not.
	rec.Version = 1 + rand.Uint64N(math.MaxUint64)
	return rec.Version, s.writeLocked(id, rec)
}

func (s *Store) folder(shard byte) string {
	return filepath.Join(s.dir, "records", fmt.Sprintf("%02x", shard))
}

func (s *Store) path(id sessions.ID) string {
	return filepath.Join(s.folder(id[0]), id.String())
}

// read returns the record of id. It returns ErrNotFound if the record does not
// exist, is not whole, or has expired.
func (s *Store) read(id sessions.ID) (sessions.Record, error) {
	rec, err := readRecord(s.path(id), id)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errTorn):
		return sessions.Record{}, sessions.ErrNotFound
	case err != nil:
		return sessions.Record{}, fmt.Errorf("filestore: %w", err)
	case rec.Expires.UnixMilli() <= time.Now().UnixMilli():
		return sessions.Record{}, sessions.ErrNotFound
	}
	return rec, nil
}

// writeLocked replaces the record of id. Only one goroutine holds the lock of
// the folder, so a fixed name is enough for the temporary file.
func (s *Store) writeLocked(id sessions.ID, rec sessions.Record) error {
	folder := s.folder(id[0])
	temp := filepath.Join(folder, tempName)
	b, err := encode(id, rec)
	if err != nil {
		return fmt.Errorf("filestore: %w", err)
	}
	err = writeFile(temp, b, s.Sync)
	if err == nil {
		err = os.Rename(temp, s.path(id))
	}
	if err != nil {
		_ = os.Remove(temp)
		return fmt.Errorf("filestore: %w", err)
	}
	return s.flush(folder)
}

// removeLocked removes the record of id and reports whether there was one. If
// there was none, it may have been removed by an operation that failed, or whose
// process died, before the folder was flushed.
func (s *Store) removeLocked(id sessions.ID) (bool, error) {
	err := os.Remove(s.path(id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("filestore: %w", err)
	}
	return err == nil, s.flush(s.folder(id[0]))
}

// makeFolder creates a folder of the store and its missing parents.
func (s *Store) makeFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("filestore: %w", err)
	}
	for path != s.dir {
		path = filepath.Dir(path)
		if err := s.flush(path); err != nil {
			return err
		}
	}
	return nil
}

// flush makes the file names in a folder reach the disk if s.Sync is set.
func (s *Store) flush(folder string) error {
	if !s.Sync {
		return nil
	}
	f, err := os.Open(folder)
	if err != nil {
		return fmt.Errorf("filestore: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("filestore: %w", err)
	}
	return nil
}
