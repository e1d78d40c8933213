package filestore_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/filestore"
	"github.com/typedsessions/sessions/stores/storetest"
)

func open(t testing.TB, dir string) *filestore.Store {
	t.Helper()
	s, err := filestore.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStoreKeepsItsPromises(t *testing.T) {
	storetest.Run(t, func(t testing.TB) sessions.Store { return open(t, t.TempDir()) })
}

func TestStoreKeepsItsPromisesToTwoProcesses(t *testing.T) {
	storetest.RunProcesses(t, t.TempDir(), func(t testing.TB, dir string) sessions.Store { return open(t, dir) })
}

func recordFor(d time.Duration, data, owner string) sessions.Record {
	return sessions.Record{Data: []byte(data), Expires: time.Now().Add(d), Owner: owner}
}

func create(t testing.TB, s *filestore.Store, id sessions.ID, rec sessions.Record) uint64 {
	t.Helper()
	version, err := s.Create(t.Context(), id, rec)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func recordPath(dir string, id sessions.ID) string {
	return filepath.Join(dir, "records", id.String()[:2], id.String())
}

// ownerPaths returns the files of the index.
func ownerPaths(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "owners", "*", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func owned(t testing.TB, s *filestore.Store, owner string) map[sessions.ID]bool {
	t.Helper()
	ids := map[sessions.ID]bool{}
	for id, err := range s.Owned(t.Context(), owner) {
		if err != nil {
			t.Fatal(err)
		}
		ids[id] = true
	}
	return ids
}

// isOtherError reports whether err is an error other than those that the Store
// interface documents.
func isOtherError(err error) bool {
	return err != nil && !errors.Is(err, sessions.ErrNotFound) && !errors.Is(err, sessions.ErrExists) && !errors.Is(err, sessions.ErrConflict)
}

func TestSyncedStoreWorksTheSame(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	s.Sync = true
	id := sessions.ID{1}
	rec := recordFor(time.Hour, "one", "ada")
	rec.Version = create(t, s, id, rec)
	rec.Data, rec.Owner = []byte("two"), "bob"
	version, err := s.Update(t.Context(), id, rec)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Touch(t.Context(), id, rec.Expires.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	got, err := s.Load(t.Context(), id)
	if err != nil || string(got.Data) != "two" || got.Version != version || !owned(t, s, "bob")[id] || owned(t, s, "ada")[id] {
		t.Errorf("got %q of %q, %v, want two of bob", got.Data, got.Owner, err)
	}
	if err := s.Delete(t.Context(), id, version); err != nil {
		t.Fatal(err)
	}
	if n := len(ownerPaths(t, dir)); n != 0 {
		t.Errorf("%d entries are left in the index, want none", n)
	}
}

func TestFilesAreReadableByTheirOwnerOnly(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := filepath.Join(t.TempDir(), "var", "sessions")
	s := open(t, dir)
	create(t, s, sessions.ID{1}, recordFor(time.Hour, "data", "ada"))
	err := filepath.WalkDir(filepath.Dir(dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: got mode %o, want %o", path, got, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNewRefusesAFolderThatIsNotSafe(t *testing.T) {
	for name, dir := range map[string]func() string{
		"that all may write to": func() string {
			dir := t.TempDir()
			_ = os.Chmod(dir, 0o777)
			return dir
		},
		"that a group may write to": func() string {
			dir := t.TempDir()
			_ = os.Chmod(dir, 0o770)
			return dir
		},
		"with records that all may write to": func() string {
			dir := t.TempDir()
			_ = os.Mkdir(filepath.Join(dir, "records"), 0o700)
			_ = os.Chmod(filepath.Join(dir, "records"), 0o777)
			return dir
		},
		"that is a file": func() string {
			file := filepath.Join(t.TempDir(), "file")
			_ = os.WriteFile(file, nil, 0o600)
			return file
		},
		"without a name": func() string { return "" },
	} {
		if _, err := filestore.New(dir()); err == nil || !strings.HasPrefix(err.Error(), "filestore: ") {
			t.Errorf("a folder %s: got %v, want an error", name, err)
		}
	}
}

func TestRecordsOutliveTheStoreThatWroteThem(t *testing.T) {
	dir := t.TempDir()
	rec := recordFor(time.Hour, "data", "ada")
	version := create(t, open(t, dir), sessions.ID{1}, rec)
	got, err := open(t, dir).Load(t.Context(), sessions.ID{1})
	if err != nil || string(got.Data) != "data" || got.Version != version || got.Owner != "ada" || got.Expires.UnixMilli() != rec.Expires.UnixMilli() {
		t.Errorf("got %v of %q, %v, want the record that was created", got, got.Owner, err)
	}
}

func TestFoldersMayBeRemovedWhileTheStoreIsInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sessions")
	s := open(t, dir)
	id := sessions.ID{1}
	for _, gone := range []string{"records", "owners", "."} {
		create(t, s, id, recordFor(time.Hour, "data", "ada"))
		if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(t.Context(), id); gone != "owners" && !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("without %s: Load: got %v, want ErrNotFound", gone, err)
		}
		if n := len(owned(t, s, "ada")); n != 0 {
			t.Errorf("without %s: Owned yields %d ids, want none", gone, n)
		}
		if _, err := s.Sweep(t.Context()); err != nil {
			t.Errorf("without %s: Sweep: %v", gone, err)
		}
		if err := s.Delete(t.Context(), id, 0); err != nil {
			t.Errorf("without %s: Delete: %v", gone, err)
		}
	}
}

// The index entry must be written first, since the index must never miss a live
// record.
func TestWithoutItsEntryInTheIndexNoRecordIsWritten(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	id, rec := sessions.ID{1}, recordFor(time.Hour, "data", "")
	rec.Version = create(t, s, id, rec)
	if err := os.Remove(filepath.Join(dir, "owners")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "owners"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	rec.Owner = "ada"
	_, createErr := s.Create(t.Context(), sessions.ID{2}, rec)
	_, updateErr := s.Update(t.Context(), id, rec)
	for name, err := range map[string]error{"Create": createErr, "Update": updateErr} {
		if !isOtherError(err) {
			t.Errorf("%s: got %v, want an error about the index", name, err)
		}
	}
	if _, err := s.Load(t.Context(), sessions.ID{2}); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("after Create, Load: got %v, want ErrNotFound", err)
	}
	if got, err := s.Load(t.Context(), id); err != nil || got.Version != rec.Version || got.Owner != "" {
		t.Errorf("after Update: got %v of %q, %v, want the record as it was", got, got.Owner, err)
	}
}

func TestLinksAndFoldersInPlaceOfARecordAreRefused(t *testing.T) {
	for name, plant := range map[string]func(path, victim string) error{
		"a symbolic link": func(path, victim string) error { return os.Symlink(victim, path) },
		"a folder":        func(path, _ string) error { return os.Mkdir(path, 0o700) },
		"a pipe":          func(path, _ string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			create(t, s, sessions.ID{1, 1}, recordFor(time.Hour, "data", ""))
			victim := recordPath(dir, sessions.ID{1, 1})
			id := sessions.ID{1, 2}
			if err := plant(recordPath(dir, id), victim); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Load(t.Context(), id); !isOtherError(err) {
				t.Errorf("Load: got %v, want an error about the file", err)
			}
			if _, err := s.Create(t.Context(), id, recordFor(time.Hour, "", "")); !isOtherError(err) {
				t.Errorf("Create: got %v, want an error about the file", err)
			}
			if n, err := s.Sweep(t.Context()); n != 0 || !isOtherError(err) {
				t.Errorf("Sweep: got %d, %v, want 0 and an error about the file", n, err)
			}
			if err := s.Delete(t.Context(), id, 0); err != nil {
				t.Errorf("Delete: got %v, want nil: it removes whatever is there", err)
			}
			if _, err := s.Load(t.Context(), sessions.ID{1, 1}); err != nil {
				t.Errorf("the target of the link: %v", err)
			}
		})
	}
}

func TestAWriteDoesNotFollowALink(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	create(t, s, sessions.ID{1, 1}, recordFor(time.Hour, "data", ""))
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(dir, "records", "01", "new")); err != nil {
		t.Fatal(err)
	}
	create(t, s, sessions.ID{1, 2}, recordFor(time.Hour, "data", ""))
	if got, err := os.ReadFile(victim); string(got) != "precious" {
		t.Errorf("got %q, %v, want the file as it was", got, err)
	}
}

func TestSweepRemovesExpiredAndBrokenFilesAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	write := func(path string) string {
		t.Helper()
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	live, anonymous, forgotten := sessions.ID{1, 1}, sessions.ID{1, 2}, sessions.ID{1, 3}
	create(t, s, forgotten, recordFor(time.Hour, "", "ada"))
	for _, path := range ownerPaths(t, dir) {
		_ = os.Remove(path) // as a power failure may
	}
	create(t, s, live, recordFor(time.Hour, "", "ada"))
	create(t, s, anonymous, recordFor(time.Hour, "", ""))
	create(t, s, sessions.ID{1, 4}, recordFor(-time.Second, "", "ada"))
	create(t, s, sessions.ID{1, 5}, recordFor(-time.Second, "", "bob"))
	torn := write(recordPath(dir, sessions.ID{1, 6}))
	temp := write(filepath.Join(dir, "records", "01", "new"))
	index := filepath.Dir(ownerPaths(t, dir)[0])
	stale := write(filepath.Join(index, sessions.ID{9}.String()))
	moved := write(filepath.Join(index, anonymous.String()))
	foreign := []string{
		write(filepath.Join(dir, "README")),
		write(filepath.Join(dir, "records", "01", ".nfs0001")),
		write(filepath.Join(dir, "records", "01", strings.ToUpper(sessions.ID{1, 0xab}.String()))),
		write(filepath.Join(dir, "records", "01", sessions.ID{2}.String())),
		write(filepath.Join(index, "README")),
	}
	n, err := s.Sweep(t.Context())
	if n != 3 || err != nil {
		t.Errorf("got %d removed, %v, want 3", n, err)
	}
	for _, id := range []sessions.ID{live, anonymous, forgotten} {
		if _, err := s.Load(t.Context(), id); err != nil {
			t.Errorf("record %v: %v", id, err)
		}
	}
	if ids := owned(t, s, "ada"); len(ids) != 2 || !ids[live] || !ids[forgotten] {
		t.Errorf("Owned yields %v, want both live ids", ids)
	}
	for _, path := range []string{torn, temp, stale, moved} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	for _, path := range foreign {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("Sweep removed a file that is not of the store: %v", err)
		}
	}
	if got, want := len(ownerPaths(t, dir)), 3; got != want { // including README
		t.Errorf("%d entries in the index, want %d", got, want)
	}
	if n, err := s.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("second Sweep: got %d, %v, want 0, nil", n, err)
	}
}

func TestSweepEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := open(t, t.TempDir())
	create(t, s, sessions.ID{1}, recordFor(-time.Second, "", "ada"))
	if n, err := s.Sweep(ctx); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("got %d, %v, want the error of the context", n, err)
	}
}

// An askedContext reports each call of Done, which precedes a wait for the end
// of the context.
type askedContext struct {
	context.Context
	asked chan struct{}
}

func (c askedContext) Done() <-chan struct{} {
	c.asked <- struct{}{}
	return c.Context.Done()
}

func TestSweepLeavesTheEntryOfARecordThatIsBeingWritten(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	id := sessions.ID{1}
	create(t, s, id, recordFor(time.Hour, "", "ada"))
	// Simulate another process in Create: it holds the lock and has written the
	// index entry but not the record.
	path, aside := recordPath(dir, id), filepath.Join(dir, "aside")
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Open(filepath.Join(dir, "records", "01", "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx := askedContext{t.Context(), make(chan struct{}, 1<<20)}
	swept := make(chan error, 1)
	go func() {
		_, err := s.Sweep(ctx)
		swept <- err
	}()
	for range 2 { // the wait within this process, then the wait for the flock
		<-ctx.asked
	}
	if err := os.Rename(aside, path); err != nil {
		t.Fatal(err)
	}
	_ = lock.Close()
	if err := <-swept; err != nil {
		t.Fatal(err)
	}
	if !owned(t, s, "ada")[id] {
		t.Error("Owned does not yield the session")
	}
}

// If the last session of an owner ends while another begins, an index entry
// could be lost with the folder of the owner, or because its record does not
// exist yet.
func TestConcurrentSweepLosesNoSession(t *testing.T) {
	dir := t.TempDir()
	ended := make(chan struct{})
	var sweepers, users sync.WaitGroup
	for range 2 {
		s := open(t, dir) // a Store of its own, as another process would have
		sweepers.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
					if _, err := s.Sweep(context.Background()); err != nil {
						t.Errorf("Sweep: %v", err)
						return
					}
				}
			}
		})
	}
	for i := range 4 {
		s := open(t, dir)
		users.Go(func() {
			for n := range 100 {
				id := sessions.ID{byte(i % 2), byte(i), byte(n)}
				version, err := s.Create(context.Background(), id, recordFor(time.Hour, "", "ada"))
				if err != nil {
					t.Errorf("Create: %v", err)
					return
				}
				found := false
				for got, err := range s.Owned(context.Background(), "ada") {
					if err != nil {
						t.Errorf("Owned: %v", err)
					}
					found = found || got == id
				}
				if !found {
					t.Errorf("Owned does not yield a session that was just created")
					return
				}
				if err := s.Delete(context.Background(), id, version); err != nil {
					t.Errorf("Delete: %v", err)
					return
				}
			}
		})
	}
	users.Wait()
	close(ended)
	sweepers.Wait()
}

func TestAFileUnderAnotherNameIsNobodysRecord(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	mine, other := sessions.ID{1, 1}, sessions.ID{1, 2}
	create(t, s, mine, recordFor(time.Hour, "mine", "ada"))
	create(t, s, other, recordFor(time.Hour, "other", "bob"))
	path := func(id sessions.ID) (found string) {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && strings.Contains(path, "records") && strings.HasSuffix(filepath.Base(path), id.String()[2:]) {
				found = path
			}
			return err
		})
		if err != nil || found == "" {
			t.Fatalf("no file of %v: %v", id, err)
		}
		return found
	}
	if err := os.Rename(path(mine), path(other)); err != nil {
		t.Fatal(err)
	}
	if rec, err := s.Load(t.Context(), other); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("got %v, %v, want ErrNotFound since the file belongs to another id", rec, err)
	}
}
