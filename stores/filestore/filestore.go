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

// A Store is a [sessions.OwnerStore] in a folder. It may be shared by any number
// of goroutines, and its folder by any number of processes of one user on one
// machine. It runs no goroutine, holds no file open between its operations, and
// removes expired records only in [Store.Sweep].
//
// An operation that waits for another process to finish its own ends with its
// context; one that is at work on the disk does not.
type Store struct {
	// Sync makes every write reach the disk before it is acknowledged. Set it
	// before the first use.
	//
	// Without it a crash of the process loses nothing, but a power failure or
	// a crash of the kernel may undo what happened in the last seconds (Linux
	// writes back after 5 to 30): a new session is gone, a changed one is as it
	// was before, or gone, and one that was destroyed may be there again. It may
	// also be missing from those of its owner, for [sessions.Manager.RevokeOwner]
	// too, until it is changed or [Store.Sweep] ran: run it when the machine is up
	// again. With it a write takes as long as the disk needs, twice for an id that
	// is new to its owner.
	Sync bool

	dir   string
	turns [shards]chan struct{} // full while a goroutine of this process has the lock
}

// shards is the number of folders, and of locks, that records are spread over,
// by the first byte of the id.
const shards = 256

var _ sessions.OwnerStore = (*Store)(nil)

// New returns the store in dir, which it makes if it is not there. It refuses
// a folder that others may write to, since who can write records is signed in as
// whomever he likes. On a system without flock, such as Windows, its error is
// [errors.ErrUnsupported].
func New(dir string) (*Store, error) {
	if !supported {
		return nil, fmt.Errorf("filestore: this system has no flock, use another store: %w", errors.ErrUnsupported)
	}
	if dir == "" {
		return nil, errors.New("filestore: the folder has no name")
	}
	// Absolute, so that a later change of the working directory moves nothing.
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("filestore: %w", err)
	}
	s := &Store{dir: dir}
	for i := range s.turns {
		s.turns[i] = make(chan struct{}, 1)
	}
	for _, folder := range []string{dir, filepath.Join(dir, "records"), filepath.Join(dir, "owners")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("filestore: %w", err)
		}
		info, err := os.Stat(folder)
		if err != nil {
			return nil, fmt.Errorf("filestore: %w", err)
		}
		if info.Mode().Perm()&0o022 != 0 {
			return nil, fmt.Errorf("filestore: others may write to %s, which has mode %#o: chmod 700 it", folder, info.Mode().Perm())
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
	return s.put(id, rec)
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
	version, err := s.put(id, rec)
	if err == nil && old.Owner != rec.Owner {
		s.unindex(old.Owner, id)
	}
	return version, err
}

// Touch implements [sessions.Store]. It writes the whole record.
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
	return s.write(id, rec)
}

// Delete implements [sessions.Store]. With version 0 it also removes what cannot
// be read.
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
	if _, err := s.remove(id); err != nil {
		return err
	}
	s.unindex(rec.Owner, id)
	return nil
}

// put stores rec under a new version. The index comes first, so that it never
// misses what lives. The lock is held.
func (s *Store) put(id sessions.ID, rec sessions.Record) (uint64, error) {
	if err := s.index(rec.Owner, id); err != nil {
		return 0, err
	}
	// Random, so that none comes back without a counter that outlives its record.
	rec.Version = 1 + rand.Uint64N(math.MaxUint64)
	return rec.Version, s.write(id, rec)
}

func (s *Store) folder(shard byte) string {
	return filepath.Join(s.dir, "records", fmt.Sprintf("%02x", shard))
}

func (s *Store) path(id sessions.ID) string {
	return filepath.Join(s.folder(id[0]), id.String())
}

// read returns the record of id, or ErrNotFound if there is none, or none that
// is whole and has not expired.
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

// write replaces the record of id. The lock of its folder is held, so that one
// name is enough for what is written aside.
func (s *Store) write(id sessions.ID, rec sessions.Record) error {
	folder := s.folder(id[0])
	aside := filepath.Join(folder, asideName)
	err := writeFile(aside, encode(id, rec), s.Sync)
	if err == nil {
		err = os.Rename(aside, s.path(id))
	}
	if err != nil {
		_ = os.Remove(aside)
		return fmt.Errorf("filestore: %w", err)
	}
	return s.flush(folder)
}

// remove says whether there was a record of id to remove. The lock is held.
func (s *Store) remove(id sessions.ID) (bool, error) {
	err := os.Remove(s.path(id))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("filestore: %w", err)
	}
	return true, s.flush(s.folder(id[0]))
}

// makeFolder makes a folder of the store and those above it.
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

// flush makes the names in a folder reach the disk, with Sync.
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
