package filestore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
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

// labelled returns rec with the labels.
func labelled(rec sessions.Record, labels ...string) sessions.Record {
	rec.Labels = labels
	return rec
}

// indexPaths returns the entries of the indexes in these folders.
func indexPaths(t testing.TB, dir string, indexes ...string) (paths []string) {
	t.Helper()
	for _, index := range indexes {
		more, err := filepath.Glob(filepath.Join(dir, index, "*", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, more...)
	}
	return paths
}

func owned(t testing.TB, s *filestore.Store, owner string) map[sessions.ID]bool {
	t.Helper()
	return collect(t, s.Owned(t.Context(), owner))
}

func withLabel(t testing.TB, s *filestore.Store, label string) map[sessions.ID]bool {
	t.Helper()
	return collect(t, s.Labelled(t.Context(), label))
}

func collect(t testing.TB, listed iter.Seq2[sessions.ID, error]) map[sessions.ID]bool {
	t.Helper()
	ids := map[sessions.ID]bool{}
	for id, err := range listed {
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
	rec := labelled(recordFor(time.Hour, "one", "ada"), "red", "blue")
	rec.Version = create(t, s, id, rec)
	rec.Data, rec.Owner, rec.Labels = []byte("two"), "bob", []string{"blue", "green"}
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
	if withLabel(t, s, "red")[id] || !withLabel(t, s, "blue")[id] || !withLabel(t, s, "green")[id] {
		t.Error("Labelled does not yield the session for its present labels alone")
	}
	if err := s.Delete(t.Context(), id, version); err != nil {
		t.Fatal(err)
	}
	if n := len(indexPaths(t, dir, "owners", "labels")); n != 0 {
		t.Errorf("%d entries are left in the index, want none", n)
	}
}

func TestFilesAreReadableByTheirOwnerOnly(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := filepath.Join(t.TempDir(), "var", "sessions")
	s := open(t, dir)
	create(t, s, sessions.ID{1}, labelled(recordFor(time.Hour, "data", "ada"), "red"))
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
	folders := map[string]func() string{
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
	}
	if os.Geteuid() == 0 { // only root can give a folder away
		folders["that another user owns"] = func() string {
			dir := t.TempDir()
			_ = os.Chown(dir, 12345, -1)
			return dir
		}
		folders["with labels that another user owns"] = func() string {
			dir := t.TempDir()
			_ = os.Mkdir(filepath.Join(dir, "labels"), 0o700)
			_ = os.Chown(filepath.Join(dir, "labels"), 12345, -1)
			return dir
		}
	}
	for name, dir := range folders {
		if _, err := filestore.New(dir()); err == nil || !strings.HasPrefix(err.Error(), "filestore: ") {
			t.Errorf("a folder %s: got %v, want an error", name, err)
		}
	}
}

func TestRecordsOutliveTheStoreThatWroteThem(t *testing.T) {
	dir := t.TempDir()
	rec := labelled(recordFor(time.Hour, "data", "ada"), "red", "", "\x00", strings.Repeat("l", 1000))
	version := create(t, open(t, dir), sessions.ID{1}, rec)
	got, err := open(t, dir).Load(t.Context(), sessions.ID{1})
	if err != nil || string(got.Data) != "data" || got.Version != version || got.Owner != "ada" || !slices.Equal(got.Labels, rec.Labels) || got.Expires.UnixMilli() != rec.Expires.UnixMilli() {
		t.Errorf("got %v of %q with labels %q, %v, want the record that was created", got, got.Owner, got.Labels, err)
	}
}

func TestFoldersMayBeRemovedWhileTheStoreIsInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sessions")
	s := open(t, dir)
	id := sessions.ID{1}
	for _, gone := range []string{"records", "owners", "labels", "."} {
		create(t, s, id, labelled(recordFor(time.Hour, "data", "ada"), "red"))
		if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
		indexed := gone == "owners" || gone == "labels"
		if _, err := s.Load(t.Context(), id); !indexed && !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("without %s: Load: got %v, want ErrNotFound", gone, err)
		}
		if n := len(owned(t, s, "ada")); gone != "labels" && n != 0 {
			t.Errorf("without %s: Owned yields %d ids, want none", gone, n)
		}
		if n := len(withLabel(t, s, "red")); gone != "owners" && n != 0 {
			t.Errorf("without %s: Labelled yields %d ids, want none", gone, n)
		}
		if _, err := s.Sweep(t.Context()); err != nil {
			t.Errorf("without %s: Sweep: %v", gone, err)
		}
		if err := s.Delete(t.Context(), id, 0); err != nil {
			t.Errorf("without %s: Delete: %v", gone, err)
		}
	}
}

// The index entries must be written first, since the index must never miss a live
// record.
func TestWithoutItsEntryInTheIndexNoRecordIsWritten(t *testing.T) {
	for _, index := range []string{"owners", "labels"} {
		dir := t.TempDir()
		s := open(t, dir)
		id, rec := sessions.ID{1}, recordFor(time.Hour, "data", "")
		rec.Version = create(t, s, id, rec)
		if err := os.Remove(filepath.Join(dir, index)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, index), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		rec.Owner, rec.Labels = "ada", []string{"red", "blue"}
		_, createErr := s.Create(t.Context(), sessions.ID{2}, rec)
		_, updateErr := s.Update(t.Context(), id, rec)
		for name, err := range map[string]error{"Create": createErr, "Update": updateErr} {
			if !isOtherError(err) {
				t.Errorf("without %s: %s: got %v, want an error about the index", index, name, err)
			}
		}
		if _, err := s.Load(t.Context(), sessions.ID{2}); !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("without %s: after Create, Load: got %v, want ErrNotFound", index, err)
		}
		if got, err := s.Load(t.Context(), id); err != nil || got.Version != rec.Version || got.Owner != "" || len(got.Labels) > 0 {
			t.Errorf("without %s: after Update: got %v of %q, %v, want the record as it was", index, got, got.Owner, err)
		}
	}
}

func TestAnOwnerAndALabelOfTheSameNameAreDifferent(t *testing.T) {
	s := open(t, t.TempDir())
	create(t, s, sessions.ID{1}, recordFor(time.Hour, "", "ada"))
	create(t, s, sessions.ID{2}, labelled(recordFor(time.Hour, "", ""), "ada"))
	if got := owned(t, s, "ada"); !maps.Equal(got, map[sessions.ID]bool{{1}: true}) {
		t.Errorf("Owned yields %v, want the session of the owner", got)
	}
	if got := withLabel(t, s, "ada"); !maps.Equal(got, map[sessions.ID]bool{{2}: true}) {
		t.Errorf("Labelled yields %v, want the session with the label", got)
	}
}

func TestLabelledYieldsTheSessionsThatHaveTheLabelNow(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	id := sessions.ID{1}
	all := []string{"red", "blue", "green", "re", "RED", "red ", "\xff", strings.Repeat("l", 1024)}
	rec := recordFor(time.Hour, "", "ada")
	rec.Version = create(t, s, id, rec)
	check := func(when string, want ...string) {
		t.Helper()
		for _, label := range all {
			if got := withLabel(t, s, label)[id]; got != slices.Contains(want, label) {
				t.Errorf("%s: listed for %.8q is %t", when, label, got)
			}
		}
		if got := len(indexPaths(t, dir, "labels")); got != len(want) {
			t.Errorf("%s: %d entries in the index, want %d", when, got, len(want))
		}
	}
	check("without labels")
	for _, labels := range [][]string{{"red"}, {"blue", "red"}, {"red", "blue"}, {"green"}, {}, all, {"RED", "red "}, nil, {"red"}} {
		rec.Labels = labels
		var err error
		if rec.Version, err = s.Update(t.Context(), id, rec); err != nil {
			t.Fatal(err)
		}
		check(fmt.Sprintf("after an Update to %.8q", labels), labels...)
	}
	stale := labelled(rec, "blue")
	stale.Version++
	if _, err := s.Update(t.Context(), id, stale); !errors.Is(err, sessions.ErrConflict) {
		t.Errorf("Update of another version: got %v, want ErrConflict", err)
	}
	if err := s.Touch(t.Context(), id, rec.Expires.Add(time.Hour)); err != nil {
		t.Error(err)
	}
	check("after a refused Update and a Touch", "red")
	if err := s.Delete(t.Context(), id, rec.Version); err != nil {
		t.Error(err)
	}
	check("after a Delete")
	create(t, s, id, labelled(recordFor(-time.Second, "", ""), "red"))
	if withLabel(t, s, "red")[id] {
		t.Error("Labelled yields a session that has expired")
	}
	create(t, s, id, labelled(recordFor(time.Hour, "", ""), "blue"))
	if withLabel(t, s, "red")[id] || !withLabel(t, s, "blue")[id] {
		t.Error("a session that was created over an expired one is not listed for its own label alone")
	}
	if n := len(withLabel(t, s, "")); n != 0 {
		t.Errorf(`Labelled(""): got %d ids, want none`, n)
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
	create(t, s, forgotten, labelled(recordFor(time.Hour, "", "ada"), "red", "blue"))
	for _, path := range indexPaths(t, dir, "owners", "labels") {
		_ = os.Remove(path) // as a power failure may
	}
	create(t, s, live, labelled(recordFor(time.Hour, "", "ada"), "red"))
	create(t, s, anonymous, recordFor(time.Hour, "", ""))
	create(t, s, sessions.ID{1, 4}, labelled(recordFor(-time.Second, "", "ada"), "red", "green"))
	create(t, s, sessions.ID{1, 5}, recordFor(-time.Second, "", "bob"))
	torn := write(recordPath(dir, sessions.ID{1, 6}))
	temp := write(filepath.Join(dir, "records", "01", "new"))
	var stale, foreign []string
	for _, index := range []string{"owners", "labels"} {
		folder := filepath.Dir(indexPaths(t, dir, index)[0])
		stale = append(stale, write(filepath.Join(folder, sessions.ID{9}.String())), write(filepath.Join(folder, anonymous.String())))
		foreign = append(foreign, write(filepath.Join(folder, "README")))
	}
	foreign = append(foreign,
		write(filepath.Join(dir, "README")),
		write(filepath.Join(dir, "records", "01", ".nfs0001")),
		write(filepath.Join(dir, "records", "01", strings.ToUpper(sessions.ID{1, 0xab}.String()))),
		write(filepath.Join(dir, "records", "01", sessions.ID{2}.String())),
	)
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
	if ids := withLabel(t, s, "red"); len(ids) != 2 || !ids[live] || !ids[forgotten] {
		t.Errorf("Labelled yields %v, want both live ids", ids)
	}
	if ids := withLabel(t, s, "blue"); len(ids) != 1 || !ids[forgotten] {
		t.Errorf("Labelled yields %v, want the id whose entry was lost", ids)
	}
	for _, path := range append(stale, torn, temp) {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	for _, path := range foreign {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("Sweep removed a file that is not of the store: %v", err)
		}
	}
	if got, want := len(indexPaths(t, dir, "owners", "labels")), 7; got != want { // including both READMEs
		t.Errorf("%d entries in the index, want %d", got, want)
	}
	if n, err := s.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("second Sweep: got %d, %v, want 0, nil", n, err)
	}
}

// The errors of a million files would be too long for a log.
func TestSweepReturnsTheFirstErrorsAndTheNumberOfTheOthers(t *testing.T) {
	for files, want := range map[int]string{1: "", 10: "", 11: "filestore: 1 more files failed", 100: "filestore: 90 more files failed"} {
		dir := t.TempDir()
		s := open(t, dir)
		create(t, s, sessions.ID{1}, recordFor(-time.Second, "", ""))
		for i := range files {
			if err := os.Mkdir(recordPath(dir, sessions.ID{1, 1, byte(i)}), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		n, err := s.Sweep(t.Context())
		if n != 1 || err == nil {
			t.Fatalf("%d files that fail: got %d, %v, want 1 and their errors", files, n, err)
		}
		lines := strings.Split(err.Error(), "\n")
		last := lines[len(lines)-1]
		if len(lines) != min(files, 11) || want != "" && last != want {
			t.Errorf("%d files that fail: got %d errors and at the end %q, want %d and %q", files, len(lines), last, min(files, 11), want)
		}
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

func TestSweepLeavesARecordThatIsBeingWrittenAndItsEntry(t *testing.T) {
	id := sessions.ID{1}
	for name, prepare := range map[string]func(*filestore.Store){
		"where there was none":          func(*filestore.Store) {},
		"where there is an expired one": func(s *filestore.Store) { create(t, s, id, recordFor(-time.Second, "", "ada")) },
	} {
		dir := t.TempDir()
		s := open(t, dir)
		create(t, s, id, recordFor(time.Hour, "", "ada"))
		// Simulate another process in Create: it holds the lock and has written
		// the index entry but not the record.
		path, aside := recordPath(dir, id), filepath.Join(dir, "aside")
		if err := os.Rename(path, aside); err != nil {
			t.Fatal(err)
		}
		prepare(s)
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
		if _, err := s.Load(t.Context(), id); err != nil {
			t.Errorf("%s: Load: %v", name, err)
		}
		if !owned(t, s, "ada")[id] {
			t.Errorf("%s: Owned does not yield the session", name)
		}
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
				version, err := s.Create(context.Background(), id, labelled(recordFor(time.Hour, "", "ada"), "red"))
				if err != nil {
					t.Errorf("Create: %v", err)
					return
				}
				for name, list := range map[string]iter.Seq2[sessions.ID, error]{
					"Owned":    s.Owned(context.Background(), "ada"),
					"Labelled": s.Labelled(context.Background(), "red"),
				} {
					found := false
					for got, err := range list {
						if err != nil {
							t.Errorf("%s: %v", name, err)
						}
						found = found || got == id
					}
					if !found {
						t.Errorf("%s does not yield a session that was just created", name)
						return
					}
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
