package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/typedsessions/sessions"
)

// Sweep removes records that have expired or are not whole, and returns how many
// it removed. It also removes the temporary files of processes that died, and
// repairs the indexes of owners and labels. Call it regularly, for instance
// hourly: nothing else frees the space of sessions that are no longer used.
//
// Sweep may run concurrently with all other operations, and in several processes
// at once. It reads every record, but holds a lock only while it changes
// something. It continues after a file that it cannot read or remove, and returns
// the first 10 such errors joined, with the number of the others.
func (s *Store) Sweep(ctx context.Context) (int, error) {
	removed := 0
	var failed failures
	for shard := range shards {
		removed += s.sweepShard(ctx, byte(shard), &failed)
	}
	for _, index := range indexes {
		s.sweepIndex(ctx, index, &failed)
	}
	if err := ctx.Err(); err != nil {
		return removed, err // instead of the same error for each file
	}
	return removed, failed.join()
}

// failures collects the errors of a Sweep. On a file system that became
// read-only, each of a million files fails, and their joined errors would be too
// long for a log.
type failures struct {
	first []error
	more  int
}

const maxFailures = 10

func (f *failures) add(err error) {
	switch {
	case err == nil:
	case len(f.first) < maxFailures:
		f.first = append(f.first, err)
	default:
		f.more++
	}
}

func (f *failures) join() error {
	if f.more > 0 {
		return errors.Join(append(f.first, fmt.Errorf("filestore: %d more files failed", f.more))...)
	}
	return errors.Join(f.first...)
}

func (s *Store) sweepShard(ctx context.Context, shard byte, failed *failures) (removed int) {
	names, err := list(s.folder(shard))
	failed.add(err)
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		id, ok := parseID(name)
		switch {
		case name == tempName:
			failed.add(s.sweepTemp(ctx, shard))
		case ok && id[0] == shard:
			was, err := s.sweepRecord(ctx, id)
			if was {
				removed++
			}
			failed.add(err)
		}
	}
	return removed
}

// sweepTemp removes the temporary file of a process that died. No live process
// is using it, since sweepTemp holds the lock.
func (s *Store) sweepTemp(ctx context.Context, shard byte) error {
	unlock, err := s.lock(ctx, shard)
	if err != nil {
		return err
	}
	defer unlock()
	err = os.Remove(filepath.Join(s.folder(shard), tempName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("filestore: %w", err)
	}
	return nil
}

// sweepRecord removes the record of id if it has expired or is not whole, and
// reports whether it did. If the record is live, it restores the index entries
// that a power failure may have removed.
func (s *Store) sweepRecord(ctx context.Context, id sessions.ID) (removed bool, err error) {
	rec, err := s.read(id)
	if err == nil && s.indexed(rec, id) || err != nil && !errors.Is(err, sessions.ErrNotFound) {
		return false, err
	}
	unlock, err := s.lock(ctx, id[0])
	if err != nil {
		return false, err
	}
	defer unlock()
	// The record may have changed before the lock was held.
	rec, err = s.read(id)
	switch {
	case err == nil:
		return false, s.indexLocked(rec, id)
	case errors.Is(err, sessions.ErrNotFound):
		return s.removeLocked(id)
	}
	return false, err
}

// indexed reports whether the index has an entry for each term of rec.
func (s *Store) indexed(rec sessions.Record, id sessions.ID) bool {
	for _, x := range terms(rec) {
		if _, err := os.Lstat(s.entry(x, id)); err != nil {
			return false
		}
	}
	return true
}

// sweepIndex removes the entries of an index whose record is gone or has lost the
// term, and the folders without entries.
func (s *Store) sweepIndex(ctx context.Context, index string, failed *failures) {
	for shard := range shards {
		prefix := fmt.Sprintf("%02x", shard)
		folder := filepath.Join(s.dir, index, prefix)
		names, err := list(folder)
		failed.add(err)
		for _, name := range names {
			// The hash of a term has the same form as an id.
			if _, ok := parseID(name); ok && strings.HasPrefix(name, prefix) {
				s.sweepTerm(ctx, filepath.Join(folder, name), failed)
			}
		}
	}
}

func (s *Store) sweepTerm(ctx context.Context, folder string, failed *failures) {
	ids, err := listIDs(folder)
	failed.add(err)
	left := 0
	for _, id := range ids {
		if ctx.Err() != nil {
			return
		}
		if s.belongs(id, folder) {
			left++
			continue
		}
		failed.add(s.sweepEntry(ctx, id, folder))
	}
	if left == 0 {
		_ = os.Remove(folder) // fails if an entry was added meanwhile
	}
}

func (s *Store) sweepEntry(ctx context.Context, id sessions.ID, folder string) error {
	unlock, err := s.lock(ctx, id[0])
	if err != nil {
		return err
	}
	defer unlock()
	if s.belongs(id, folder) {
		return nil // the record was being created
	}
	err = os.Remove(filepath.Join(folder, id.String()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("filestore: %w", err)
	}
	return nil
}

// belongs reports whether the record of id has the term with that folder. It also
// returns true if the record cannot be read.
func (s *Store) belongs(id sessions.ID, folder string) bool {
	rec, err := s.read(id)
	if err != nil {
		return !errors.Is(err, sessions.ErrNotFound)
	}
	return slices.ContainsFunc(terms(rec), func(x term) bool { return s.termFolder(x) == folder })
}
