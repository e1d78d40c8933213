package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A lock that another process holds is tried again after a pause, since a
// blocking flock would not return when the context is done. The pause grows from
// firstWait, which is longer than most locks are held, to lastWait.
const (
	firstWait = 100 * time.Microsecond
	lastWait  = 5 * time.Millisecond
)

// lock locks the folder of a shard for writing. Goroutines of this process queue
// in memory, so at most one of them polls for a lock of another process.
func (s *Store) lock(ctx context.Context, shard byte) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	turn := s.turns[shard]
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f, err := s.lockFolder(ctx, s.folder(shard))
	if err != nil {
		<-turn
		return nil, err
	}
	return func() {
		_ = f.Close() // releases the flock
		<-turn
	}, nil
}

func (s *Store) lockFolder(ctx context.Context, folder string) (*os.File, error) {
	path := filepath.Join(folder, "lock")
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		f, err := open(path, os.O_RDWR|os.O_CREATE)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := s.makeFolder(folder); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, fmt.Errorf("filestore: %w", err)
		default:
			locked, err := tryLock(f)
			if err != nil {
				_ = f.Close()
				return nil, fmt.Errorf("filestore: lock %s: %w", path, err)
			}
			if locked && isAt(f, path) {
				return f, nil
			}
			_ = f.Close()
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

// isAt reports whether f is still the file at path. If the folders were removed,
// another process may have created and locked a new file there.
func isAt(f *os.File, path string) bool {
	locked, err := f.Stat()
	if err != nil {
		return false
	}
	current, err := os.Lstat(path)
	return err == nil && os.SameFile(locked, current)
}
