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

// How long to wait before a lock that another process holds is tried again:
// flock has no wait that ends with a context. Most are held for less than the
// first; the last bounds the time between two tries.
const (
	firstWait = 100 * time.Microsecond
	lastWait  = 5 * time.Millisecond
)

// lock gives the caller the folder of a shard to write in. Goroutines of this
// process queue in memory, so that one of them at most is waiting for another
// process.
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
		_ = f.Close() // and so unlocks
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

// isAt reports whether f still is the file at path. If somebody removed the
// folders, others may have made and locked a new one.
func isAt(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(mine, there)
}
