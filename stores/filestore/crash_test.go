package filestore_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/filestore"
)

// roleVariable names the environment variable with the folder of the store in
// the child process of a test.
const roleVariable = "FILESTORE_TEST_FOLDER"

// child starts the same test in another process. The reader returns its standard
// output.
func child(t *testing.T, dir string, env ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), append(env, roleVariable+"="+dir)...)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil { // for endWithParent
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(out)
}

// inProcessOfItsOwn runs the test that calls it in another process, for a test
// that sets a limit of its process. It returns false in the process that waits,
// and true and an empty folder in the other one.
func inProcessOfItsOwn(t *testing.T) (dir string, ok bool) {
	t.Helper()
	if dir := os.Getenv(roleVariable); dir != "" {
		return dir, true
	}
	cmd, out := child(t, t.TempDir())
	log, _ := io.ReadAll(out)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log)
	}
	return "", false
}

// endWithParent makes this process exit when its parent exits.
func endWithParent() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
}

// The operations on an id are numbered, and the state of its record shows the
// number of the last one: the record expires n seconds after epoch, and its data
// is dataOf the last operation that wrote data. Every seventh operation is a
// Delete, and the one before it is a Touch.
var epoch = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)

func deletes(n int) bool { return n%7 == 0 } // true for 0, the state at the start
func touches(n int) bool { return n%7 == 6 }

func dataOf(n int) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(n))
	return append(b, bytes.Repeat([]byte{byte(n)}, n*7919%50_000)...)
}

func operate(s *filestore.Store, id sessions.ID, n int) error {
	ctx := context.Background()
	end := epoch.Add(time.Duration(n) * time.Second)
	rec, err := s.Load(ctx, id)
	switch {
	case deletes(n):
		return s.Delete(ctx, id, rec.Version)
	case touches(n):
		return s.Touch(ctx, id, end)
	case errors.Is(err, sessions.ErrNotFound):
		_, err = s.Create(ctx, id, sessions.Record{Data: dataOf(n), Expires: end, Owner: "ada", Labels: []string{"red"}})
		return err
	case err == nil:
		labels := [][]string{{"red", "blue"}, nil, {"blue"}, {"green", "red"}}[n%4]
		_, err = s.Update(ctx, id, sessions.Record{Data: dataOf(n), Version: rec.Version, Expires: end, Owner: []string{"ada", "bob", ""}[n%3], Labels: labels})
	}
	return err
}

// stateOf returns the number of the last operation on the record. The test fails
// if that is neither the acknowledged operation nor the next one.
func stateOf(t *testing.T, s *filestore.Store, id sessions.ID, acknowledged int) int {
	t.Helper()
	rec, err := s.Load(t.Context(), id)
	if errors.Is(err, sessions.ErrNotFound) {
		for _, n := range []int{acknowledged, acknowledged + 1} {
			if deletes(n) {
				return n
			}
		}
		t.Fatalf("id %v is gone after operation %d", id, acknowledged)
	}
	if err != nil {
		t.Fatalf("id %v: %v", id, err)
	}
	n := int(rec.Expires.Sub(epoch) / time.Second)
	written := n
	if touches(n) {
		written--
	}
	if n != acknowledged && n != acknowledged+1 || deletes(n) || !bytes.Equal(rec.Data, dataOf(written)) {
		t.Fatalf("id %v is in state %d with %d bytes, operation %d was acknowledged", id, n, len(rec.Data), acknowledged)
	}
	return n
}

const crashIDs = 4

// crashID returns the i-th id. Two consecutive ids share a folder.
func crashID(i int) sessions.ID { return sessions.ID{byte(i / 2), byte(i)} }

// checkIndex fails the test unless the index lists the record of id for its owner
// and labels, and for no others. It returns the number of entries that it found.
func checkIndex(t *testing.T, s *filestore.Store, id sessions.ID) (found int) {
	t.Helper()
	rec, err := s.Load(t.Context(), id)
	if err != nil && !errors.Is(err, sessions.ErrNotFound) {
		t.Fatal(err)
	}
	for name, entry := range map[string]struct{ listed, want bool }{
		"owner ada":   {owned(t, s, "ada")[id], rec.Owner == "ada"},
		"owner bob":   {owned(t, s, "bob")[id], rec.Owner == "bob"},
		"label red":   {withLabel(t, s, "red")[id], slices.Contains(rec.Labels, "red")},
		"label blue":  {withLabel(t, s, "blue")[id], slices.Contains(rec.Labels, "blue")},
		"label green": {withLabel(t, s, "green")[id], slices.Contains(rec.Labels, "green")},
	} {
		if entry.listed != entry.want {
			t.Errorf("id %v is listed for %s: %t, want %t", id, name, entry.listed, entry.want)
		}
		if entry.listed {
			found++
		}
	}
	return found
}

func TestACrashAtAnyTimeLeavesTheOldRecordOrTheNew(t *testing.T) {
	if dir := os.Getenv(roleVariable); dir != "" {
		endWithParent()
		s := open(t, dir)
		var writers sync.WaitGroup
		for i, state := range strings.Fields(os.Getenv("FILESTORE_TEST_STATES")) {
			n, _ := strconv.Atoi(state)
			writers.Go(func() {
				for n++; ; n++ {
					if err := operate(s, crashID(i), n); err != nil {
						fmt.Fprintf(os.Stderr, "operation %d on id %d: %v\n", n, i, err)
						os.Exit(1)
					}
					fmt.Printf("done %d %d\n", i, n)
				}
			})
		}
		writers.Go(func() {
			for {
				if _, err := s.Sweep(context.Background()); err != nil {
					fmt.Fprintf(os.Stderr, "Sweep: %v\n", err)
					os.Exit(1)
				}
			}
		})
		writers.Wait()
	}

	const kills = 200
	dir := t.TempDir()
	s := open(t, dir)
	var states [crashIDs]int
	left := 0    // temporary files that killed writers left
	indexed := 0 // entries of the index that were checked
	for range kills {
		cmd, out := child(t, dir, "FILESTORE_TEST_STATES="+strings.Trim(fmt.Sprint(states), "[]"))
		acknowledged := states
		after := rand.IntN(40)
		for lines := 0; ; lines++ {
			if lines == after {
				_ = cmd.Process.Kill()
			}
			line, err := out.ReadString('\n')
			if err != nil {
				break
			}
			var i, n int
			if _, err := fmt.Sscanf(line, "done %d %d\n", &i, &n); err == nil {
				acknowledged[i] = n
			}
		}
		_ = cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
			t.Fatalf("the writer was not killed: %v", cmd.ProcessState)
		}
		for i := range states {
			states[i] = stateOf(t, s, crashID(i), acknowledged[i])
			indexed += checkIndex(t, s, crashID(i))
		}
		temps, _ := filepath.Glob(filepath.Join(dir, "records", "*", "new"))
		left += len(temps)
	}
	t.Logf("%d kills, %d temporary files left, operations per id: %v", kills, left, states)
	if left == 0 || indexed == 0 {
		t.Errorf("%d kills interrupted a write, %d entries of the index were checked, want some of both", left, indexed)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := s.Sweep(ctx); err != nil {
		t.Errorf("Sweep: %v", err)
	}
	if temps, _ := filepath.Glob(filepath.Join(dir, "records", "*", "new")); len(temps) > 0 {
		t.Errorf("Sweep left %v", temps)
	}
	for i := range states {
		id := crashID(i)
		checkIndex(t, s, id)
		if err := operate(s, id, states[i]+1); err != nil {
			t.Errorf("the next operation on id %d: %v", i, err)
		}
		if err := s.Delete(ctx, id, 0); err != nil {
			t.Errorf("Delete of id %d: %v", i, err)
		}
	}
	if n := len(indexPaths(t, dir, "owners", "labels")); n != 0 {
		t.Errorf("the index has %d entries after all sessions were deleted, want none", n)
	}
}

func TestACrashAtAnyByteLeavesTheOldRecord(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	id, other := sessions.ID{1, 1}, sessions.ID{1, 2}
	rec := recordFor(time.Hour, "old", "ada")
	rec.Version = create(t, s, id, rec)
	create(t, s, other, labelled(recordFor(time.Hour, "new", "ada"), "red", "blue"))
	whole, err := os.ReadFile(recordPath(dir, other))
	if err != nil {
		t.Fatal(err)
	}
	temp := filepath.Join(dir, "records", "01", "new")
	for n := range len(whole) + 1 {
		if err := os.WriteFile(temp, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Load(t.Context(), id); err != nil || got.Version != rec.Version {
			t.Fatalf("after %d bytes: got %v, %v, want the old record", n, got, err)
		}
		if rec.Version, err = s.Update(t.Context(), id, rec); err != nil {
			t.Fatalf("after %d bytes: the next write: %v", n, err)
		}
	}
}

func TestATornRecordIsAbsent(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	id := sessions.ID{1}
	create(t, s, id, labelled(recordFor(time.Hour, "data", "ada"), "red", "", "blue"))
	path := recordPath(dir, id)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := map[string][]byte{"all bytes zero": make([]byte, len(whole)), "one byte more": append(bytes.Clone(whole), 0)}
	for i := range whole {
		torn[fmt.Sprintf("cut at byte %d", i)] = whole[:i]
		if i == 3 {
			continue // the format: see TestARecordOfANewerProgramIsLeftAlone
		}
		flipped := bytes.Clone(whole)
		flipped[i] ^= 0x10
		torn[fmt.Sprintf("byte %d flipped", i)] = flipped
	}
	for name, b := range torn {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(t.Context(), id); !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", name, err)
		}
	}
	create(t, s, id, recordFor(time.Hour, "new", ""))
}

// A file of this size would end the process if the store tried to read it.
func TestAFileThatDoesNotFitIntoMemoryIsAbsent(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	id := sessions.ID{1}
	create(t, s, id, recordFor(time.Hour, "data", "ada"))
	if err := os.Truncate(recordPath(dir, id), 1<<40); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), id); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("Load: got %v, want ErrNotFound", err)
	}
	if n, err := s.Sweep(t.Context()); n != 1 || err != nil {
		t.Errorf("Sweep: got %d, %v, want 1 removed", n, err)
	}
}

func TestARecordThatIsTooLargeIsRefusedAndTheOldOneStays(t *testing.T) {
	s := open(t, t.TempDir())
	id := sessions.ID{1}
	const limit = 16 << 20
	large := recordFor(time.Hour, strings.Repeat("x", limit-100), strings.Repeat("o", 200))
	if _, err := s.Create(t.Context(), id, large); !errors.Is(err, sessions.ErrTooLarge) || !strings.HasPrefix(err.Error(), "filestore: ") {
		t.Errorf("Create: got %v, want ErrTooLarge", err)
	}
	large.Owner = ""
	version := create(t, s, id, large)
	large.Version, large.Owner = version, strings.Repeat("o", 200)
	if _, err := s.Update(t.Context(), id, large); !errors.Is(err, sessions.ErrTooLarge) {
		t.Errorf("Update: got %v, want ErrTooLarge", err)
	}
	if got, err := s.Load(t.Context(), id); err != nil || got.Version != version || len(got.Data) != limit-100 {
		t.Errorf("got %v, %v, want the old record", got, err)
	}
}

func TestARecordOfANewerProgramIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	id := sessions.ID{1}
	version := create(t, s, id, recordFor(time.Hour, "data", "ada"))
	path := recordPath(dir, id)
	newer, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	newer[3]++
	if err := os.WriteFile(path, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	rec := recordFor(time.Hour, "mine", "")
	rec.Version = version
	_, loadErr := s.Load(t.Context(), id)
	_, createErr := s.Create(t.Context(), id, rec)
	_, updateErr := s.Update(t.Context(), id, rec)
	_, sweepErr := s.Sweep(t.Context())
	for name, err := range map[string]error{"Load": loadErr, "Create": createErr, "Update": updateErr, "Sweep": sweepErr} {
		if !isOtherError(err) {
			t.Errorf("%s: got %v, want an error about the format", name, err)
		}
	}
	if got, err := os.ReadFile(path); !bytes.Equal(got, newer) {
		t.Errorf("the file has changed: %v", err)
	}
	if n := len(indexPaths(t, dir, "owners", "labels")); n != 1 {
		t.Errorf("%d entries in the index, want 1", n)
	}
}

func TestAWriteForWhichThereIsNoRoomLeavesTheOldRecord(t *testing.T) {
	dir, ok := inProcessOfItsOwn(t)
	if !ok {
		return
	}
	const room = 8 << 10 // bytes per file
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: room, Max: room}); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	id := sessions.ID{1}
	rec := recordFor(time.Hour, "old", "ada")
	rec.Version = create(t, s, id, rec)
	large := labelled(recordFor(time.Hour, strings.Repeat("x", 2*room), "bob"), "red")
	large.Version = rec.Version
	_, updateErr := s.Update(t.Context(), id, large)
	_, createErr := s.Create(t.Context(), sessions.ID{1, 1}, large)
	for name, err := range map[string]error{"Update": updateErr, "Create": createErr} {
		if !errors.Is(err, syscall.EFBIG) || !strings.HasPrefix(err.Error(), "filestore: write ") {
			t.Errorf("%s: got %v, want the error of the system", name, err)
		}
	}
	if got, err := s.Load(t.Context(), id); err != nil || string(got.Data) != "old" || got.Version != rec.Version {
		t.Errorf("got %q at version %d, %v, want the old record", got.Data, got.Version, err)
	}
	if !owned(t, s, "ada")[id] || owned(t, s, "bob")[id] {
		t.Error("Owned no longer yields the session for ada alone")
	}
	if n := len(withLabel(t, s, "red")); n != 0 {
		t.Errorf("Labelled yields %d sessions for a label that none has", n)
	}
	if _, err := os.Lstat(filepath.Join(dir, "records", "01", "new")); err == nil {
		t.Error("the temporary file of the failed write is left")
	}
	if _, err := s.Update(t.Context(), id, rec); err != nil {
		t.Errorf("an Update that fits: %v", err)
	}
}

func TestADeleteThatFailedToReachTheDiskIsNotDoneWhenRepeated(t *testing.T) {
	dir, ok := inProcessOfItsOwn(t)
	if !ok {
		return
	}
	s := open(t, dir)
	s.Sync = true
	id := sessions.ID{1}
	create(t, s, id, recordFor(time.Hour, "data", ""))
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = 100
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var held []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		held = append(held, f)
	}
	if _, err := s.Load(t.Context(), id); !isOtherError(err) {
		t.Errorf("Load without files to open: got %v, want the error of the system", err)
	}
	// Room for the lock, but not for the folder that is to be flushed.
	_ = held[0].Close()
	for _, try := range []string{"first", "second"} {
		if err := s.Delete(t.Context(), id, 0); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%s Delete without files to open: got %v, want the error of the system", try, err)
		}
		if _, err := os.Lstat(recordPath(dir, id)); err == nil {
			t.Errorf("%s Delete: the record exists", try)
		}
	}
	for _, f := range held[1:] {
		_ = f.Close()
	}
	if err := s.Delete(t.Context(), id, 0); err != nil {
		t.Errorf("Delete: %v", err)
	}
}

func TestWaitingForAnotherProcessEndsWithTheContextOrTheProcess(t *testing.T) {
	id := sessions.ID{1}
	if dir := os.Getenv(roleVariable); dir != "" {
		endWithParent()
		f, err := os.Open(filepath.Join(dir, "records", "01", "lock"))
		if err == nil {
			err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("locked")
		select {}
	}
	dir := t.TempDir()
	s := open(t, dir)
	version := create(t, s, id, recordFor(time.Hour, "old", ""))
	cmd, out := child(t, dir)
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if line, err := out.ReadString('\n'); line != "locked\n" {
		t.Fatalf("got %q, %v from the other process", line, err)
	}

	if _, err := s.Load(t.Context(), id); err != nil {
		t.Errorf("Load: got %v, want the record: it takes no lock", err)
	}
	create(t, s, sessions.ID{2}, recordFor(time.Hour, "", "")) // has another lock
	var waiting sync.WaitGroup
	for range 3 { // one waits for the other process, the others wait in memory
		waiting.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			defer cancel()
			if err := s.Delete(ctx, id, version); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Delete: got %v, want the deadline's error", err)
			}
		})
		waiting.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(20*time.Millisecond, cancel)
			if err := s.Touch(ctx, id, time.Now().Add(2*time.Hour)); !errors.Is(err, context.Canceled) {
				t.Errorf("Touch: got %v, want the error of a canceled context", err)
			}
		})
	}
	waiting.Wait()

	deleted := make(chan error, 1)
	go func() { deleted <- s.Delete(t.Context(), id, version) }()
	select {
	case err := <-deleted:
		t.Fatalf("Delete: got %v while another process had the lock", err)
	case <-time.After(20 * time.Millisecond):
	}
	_ = cmd.Process.Kill()
	if err := <-deleted; err != nil {
		t.Errorf("Delete after the other process died: %v", err)
	}
}
