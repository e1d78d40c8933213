package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/typedsessions/sessions"
)

// Sweep removes the records that have expired or are not whole, and says how
// many. It also removes what processes left that died while they wrote, and puts
// the index of owners right. Call it now and then, for instance hourly: nothing
// else frees the space of sessions that nobody comes back to.
//
// It may run beside everything else, in several processes at once too, and holds
// a lock only while it changes something. It reads every record, goes on after
// a file that it cannot read or remove, and returns the errors of all of them.
func (s *Store) Sweep(ctx context.Context) (int, error) {
	removed := 0
	var errs []error
	for shard := range shards {
		n, err := s.sweepShard(ctx, byte(shard))
		removed += n
		errs = append(errs, err)
	}
	errs = append(errs, s.sweepOwners(ctx))
	if err := ctx.Err(); err != nil {
		return removed, err // once, not for each file
	}
	return removed, errors.Join(errs...)
}

func (s *Store) sweepShard(ctx context.Context, shard byte) (removed int, err error) {
	names, err := list(s.folder(shard))
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		id, ok := parseID(name)
		switch {
		case name == asideName:
			errs = append(errs, s.sweepAside(ctx, shard))
		case ok && id[0] == shard:
			was, err := s.sweepRecord(ctx, id)
			if was {
				removed++
			}
			errs = append(errs, err)
		}
	}
	return removed, errors.Join(errs...)
}

// sweepAside removes what a process left that died while it wrote: under the
// lock, nobody is writing.
func (s *Store) sweepAside(ctx context.Context, shard byte) error {
	unlock, err := s.lock(ctx, shard)
	if err != nil {
		return err
	}
	defer unlock()
	err = os.Remove(filepath.Join(s.folder(shard), asideName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("filestore: %w", err)
	}
	return nil
}

// sweepRecord says whether it removed the record of id. One that lives gets the
// entry in the index that a power failure may have taken.
func (s *Store) sweepRecord(ctx context.Context, id sessions.ID) (removed bool, err error) {
	rec, err := s.read(id)
	if err == nil && s.indexed(rec.Owner, id) || err != nil && !errors.Is(err, sessions.ErrNotFound) {
		return false, err
	}
	unlock, err := s.lock(ctx, id[0])
	if err != nil {
		return false, err
	}
	defer unlock()
	// Again, since another may have written before the lock was held.
	rec, err = s.read(id)
	switch {
	case err == nil:
		return false, s.index(rec.Owner, id)
	case errors.Is(err, sessions.ErrNotFound):
		return s.remove(id)
	}
	return false, err
}

func (s *Store) indexed(owner string, id sessions.ID) bool {
	if owner == "" {
		return true
	}
	_, err := os.Lstat(s.entry(owner, id))
	return err == nil
}

// sweepOwners removes the entries of what is gone, and the folders of owners
// that have none.
func (s *Store) sweepOwners(ctx context.Context) error {
	var errs []error
	for shard := range shards {
		prefix := fmt.Sprintf("%02x", shard)
		folder := filepath.Join(s.dir, "owners", prefix)
		names, err := list(folder)
		errs = append(errs, err)
		for _, name := range names {
			// An owner's name is hashed to as many bytes as an id has.
			if _, ok := parseID(name); ok && strings.HasPrefix(name, prefix) {
				errs = append(errs, s.sweepOwner(ctx, filepath.Join(folder, name)))
			}
		}
	}
	return errors.Join(errs...)
}

func (s *Store) sweepOwner(ctx context.Context, folder string) error {
	ids, err := listIDs(folder)
	errs := []error{err}
	left := 0
	for _, id := range ids {
		if ctx.Err() != nil {
			return nil
		}
		if s.belongs(id, folder) {
			left++
			continue
		}
		err := s.sweepEntry(ctx, id, folder)
		errs = append(errs, err)
	}
	if left == 0 {
		_ = os.Remove(folder) // not while there is something in it
	}
	return errors.Join(errs...)
}

func (s *Store) sweepEntry(ctx context.Context, id sessions.ID, folder string) error {
	unlock, err := s.lock(ctx, id[0])
	if err != nil {
		return err
	}
	defer unlock()
	if s.belongs(id, folder) {
		return nil // it was being created
	}
	err = os.Remove(filepath.Join(folder, id.String()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("filestore: %w", err)
	}
	return nil
}

// belongs reports whether the record of id is of the owner with that folder, or
// may be.
func (s *Store) belongs(id sessions.ID, folder string) bool {
	rec, err := s.read(id)
	if err != nil {
		return !errors.Is(err, sessions.ErrNotFound)
	}
	return rec.Owner != "" && s.ownerFolder(rec.Owner) == folder
}
