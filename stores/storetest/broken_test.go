package storetest_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/storetest"
)

// A brokenStore is a MemoryStore whose operations break instead of giving a wrong
// answer: they fail, hang or panic.
type brokenStore struct {
	sessions.MemoryStore
	op    string // the operation that breaks, or "operation" for all
	how   string
	calls atomic.Int64 // of that operation
}

// newBrokenStore returns the store for a fault that names how an operation breaks
// and which, as in "panics: Load".
func newBrokenStore(f fault) *brokenStore {
	how, op, _ := strings.Cut(string(f), ": ")
	return &brokenStore{op: op, how: how}
}

// Ways in which an operation breaks.
const (
	fails          = "fails"
	failsSometimes = "fails every third time"
	hangs          = "hangs until its context ends"
	hangsForEver   = "hangs for ever"
	panics         = "panics"
	exits          = "ends its goroutine"
	conflicts      = "conflicts"
	otherVersion   = "returns another version"
	empty          = "returns an empty record"
	absent         = "finds nothing every third time"
	endless        = "does not end"
)

var errDisk = errors.New("the disk is full")

// is reports whether op is the operation that breaks, and breaks in this call.
func (s *brokenStore) is(op string) bool {
	if s.op != op && s.op != "operation" {
		return false
	}
	n := s.calls.Add(1)
	return n%3 == 0 || s.how != failsSometimes && s.how != absent
}

// breaks breaks op, or returns nil.
func (s *brokenStore) breaks(ctx context.Context, op string) error {
	if !s.is(op) {
		return nil
	}
	switch s.how {
	case fails, failsSometimes:
		return errDisk
	case hangs:
		<-ctx.Done()
		return ctx.Err()
	case hangsForEver:
		select {}
	case panics:
		panic(errDisk)
	case exits:
		runtime.Goexit()
	case conflicts:
		return sessions.ErrConflict
	case absent:
		return sessions.ErrNotFound
	}
	return nil
}

// version returns the version for the answer of an operation.
func (s *brokenStore) version(version uint64, err error) (uint64, error) {
	if err == nil && s.how == otherVersion {
		version += 1 << 32
	}
	return version, err
}

func (s *brokenStore) Load(ctx context.Context, id sessions.ID) (rec sessions.Record, err error) {
	if err := s.breaks(ctx, "Load"); err != nil {
		return rec, err
	}
	if rec, err = s.MemoryStore.Load(ctx, id); s.op == "Load" {
		rec.Version, err = s.version(rec.Version, err)
	}
	if s.how == empty {
		return sessions.Record{}, err
	}
	return rec, err
}

func (s *brokenStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	if err := s.breaks(ctx, "Create"); err != nil {
		return 0, err
	}
	version, err := s.MemoryStore.Create(ctx, id, rec)
	if s.op != "Create" {
		return version, err
	}
	return s.version(version, err)
}

func (s *brokenStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	if err := s.breaks(ctx, "Update"); err != nil {
		return 0, err
	}
	version, err := s.MemoryStore.Update(ctx, id, rec)
	if s.op != "Update" {
		return version, err
	}
	return s.version(version, err)
}

func (s *brokenStore) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	if err := s.breaks(ctx, "Touch"); err != nil {
		return err
	}
	return s.MemoryStore.Touch(ctx, id, expires)
}

func (s *brokenStore) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	if err := s.breaks(ctx, "Delete"); err != nil {
		return err
	}
	return s.MemoryStore.Delete(ctx, id, version)
}

func (s *brokenStore) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		if err := s.breaks(ctx, "Owned"); err != nil {
			yield(sessions.ID{}, err)
			return
		}
		for again := true; again; again = s.how == endless {
			for id, err := range s.MemoryStore.Owned(ctx, owner) {
				if !yield(id, err) {
					return
				}
			}
		}
	}
}

func (s *brokenStore) Labelled(ctx context.Context, label string) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		if err := s.breaks(ctx, "Labelled"); err != nil {
			yield(sessions.ID{}, err)
			return
		}
		for again := true; again; again = s.how == endless && s.op == "Labelled" {
			for id, err := range s.MemoryStore.Labelled(ctx, label) {
				if !yield(id, err) {
					return
				}
			}
		}
	}
}

// every names all operations as one.
const every = "operation"

// A recorder is a MemoryStore that notes its calls.
type recorder struct {
	sessions.MemoryStore
	note func(ctx context.Context, op string)
}

func (s *recorder) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	s.note(ctx, "Load")
	return s.MemoryStore.Load(ctx, id)
}

func (s *recorder) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	s.note(ctx, "Create")
	return s.MemoryStore.Create(ctx, id, rec)
}

func (s *recorder) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	s.note(ctx, "Update")
	return s.MemoryStore.Update(ctx, id, rec)
}

func (s *recorder) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	s.note(ctx, "Touch")
	return s.MemoryStore.Touch(ctx, id, expires)
}

func (s *recorder) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	s.note(ctx, "Delete")
	return s.MemoryStore.Delete(ctx, id, version)
}

func (s *recorder) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	s.note(ctx, "Owned")
	return s.MemoryStore.Owned(ctx, owner)
}

func (s *recorder) Labelled(ctx context.Context, label string) iter.Seq2[sessions.ID, error] {
	s.note(ctx, "Labelled")
	return s.MemoryStore.Labelled(ctx, label)
}

// waitVariable names the environment variable with the time that the suite waits
// for an operation.
const waitVariable = "STORETEST_WAIT"

// TestBroken runs the suite on the broken store in faultVariable, if any.
func TestBroken(t *testing.T) {
	f := fault(os.Getenv(faultVariable))
	var opts []storetest.Option
	if d, err := time.ParseDuration(os.Getenv(waitVariable)); err == nil {
		opts = append(opts, storetest.Wait(d))
	}
	storetest.Run(t, func(testing.TB) sessions.Store {
		switch f {
		case "open panics":
			panic(errDisk)
		case "open returns nil":
			return nil
		}
		return newBrokenStore(f)
	}, opts...)
}

// A broken is what TestBroken did in another process.
type broken struct {
	err    error
	output string
	status map[string]string // "PASS" or "FAIL", by subtest
	text   map[string]string // the output of each subtest
}

var (
	subtestBegins = regexp.MustCompile(`^=== RUN +TestBroken/(.*)$`)
	subtestEnded  = regexp.MustCompile(`^    --- (PASS|FAIL): TestBroken/(.*) \(.*\)$`)
	processBroke  = regexp.MustCompile(`(?m)^(panic:|fatal error:|WARNING: DATA RACE).*`)
)

// runBroken runs TestBroken with an operation that breaks in some way.
func runBroken(t *testing.T, op, how string) *broken {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestBroken$", "-test.v", "-test.timeout=100s", "-rapid.nofailfile")
	cmd.Env = append(os.Environ(), faultVariable+"="+how+": "+op, "TMPDIR="+t.TempDir())
	if how == hangs || how == hangsForEver || how == endless {
		cmd.Env = append(cmd.Env, waitVariable+"=8s") // 2 s for the operations that work
	}
	began := time.Now()
	out, err := cmd.CombinedOutput()
	r := &broken{err: err, output: string(out), status: map[string]string{}, text: map[string]string{}}
	subtest := ""
	for line := range strings.Lines(r.output) {
		line = strings.TrimSuffix(line, "\n")
		if m := subtestBegins.FindStringSubmatch(line); m != nil {
			subtest = m[1]
			r.text[subtest] = ""
		} else if m := subtestEnded.FindStringSubmatch(line); m != nil {
			r.status[m[2]] = m[1]
		} else {
			r.text[subtest] += line + "\n"
		}
	}
	t.Logf("%d of %d subtests failed, %.1f s, %d bytes of output", len(r.failed(t)), len(r.status), time.Since(began).Seconds(), len(out))
	return r
}

// complete fails the test unless the process failed as a test does, and each of the
// subtests ended.
func (r *broken) complete(t *testing.T, subtests []string) {
	t.Helper()
	var exit *exec.ExitError
	if line := processBroke.FindString(r.output); line != "" || !errors.As(r.err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("got %v and %q, want status 1 and no panic:\n%s", r.err, line, r.output)
	}
	for _, name := range subtests {
		if r.status[name] == "" {
			t.Errorf("%q did not end", name)
		}
	}
	if len(r.status) != len(subtests) {
		t.Errorf("got %d subtests, want %d", len(r.status), len(subtests))
	}
}

// failed returns the subtests that failed, of which there must be some.
func (r *broken) failed(t *testing.T) (names []string) {
	t.Helper()
	for name, status := range r.status {
		if status == "FAIL" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		t.Error("no subtest failed")
	}
	return names
}

// byChance is a subtest that does not delete if the login is first in each of its
// rounds, since a logout finds nothing to delete then.
const byChance = "sessions:_a_login_concurrent_with_a_logout_leaves_at_most_one_live_session,_a_new_one"

// fails fails the test unless the subtests that failed are these.
func (r *broken) fails(t *testing.T, want []string) {
	t.Helper()
	got := r.failed(t)
	for _, name := range want {
		if !slices.Contains(got, name) && name != byChance {
			t.Errorf("%q passed", name)
		}
	}
	for _, name := range got {
		if !slices.Contains(want, name) && name != byChance {
			t.Errorf("%q failed, but does not call the operation:\n%s", name, r.text[name])
		}
	}
}

// names fails the test unless the output of every subtest that failed names the
// operation and has the text.
func (r *broken) names(t *testing.T, op, text string) {
	t.Helper()
	if op == every {
		op = ""
	}
	for _, name := range r.failed(t) {
		if op == "Delete" && strings.Contains(name, "two_concurrent_RegenerateIDs") {
			continue // the record that one of them cannot take back is no error of its request
		}
		if got := r.text[name]; !strings.Contains(got, op) || !strings.Contains(got, text) {
			t.Errorf("%q: want %q and %q in the output, got:\n%s", name, op, text, got)
		}
	}
}

// uses returns the subtests that call each operation of a store that works, and
// those that call it with a context that is not done.
func uses(t *testing.T) (all, live map[string][]string) {
	t.Helper()
	var mu sync.Mutex
	all, live = map[string][]string{}, map[string][]string{}
	add := func(m map[string][]string, op, name string) {
		if !slices.Contains(m[op], name) {
			m[op] = append(m[op], name)
		}
	}
	ok := t.Run("on a store that works", func(parent *testing.T) {
		storetest.Run(parent, func(t testing.TB) sessions.Store {
			name := strings.TrimPrefix(t.Name(), parent.Name()+"/")
			return &recorder{note: func(ctx context.Context, op string) {
				mu.Lock()
				defer mu.Unlock()
				for _, op := range []string{op, every} {
					add(all, op, name)
					if ctx.Err() == nil {
						add(live, op, name)
					}
				}
			}}
		})
	})
	if !ok {
		t.FailNow()
	}
	return all, live
}

// TestBrokenStoresFailTheSubtestsThatCallThem also bounds the time of the suite, by
// the timeout of runBroken. With -v, it logs the times.
func TestBrokenStoresFailTheSubtestsThatCallThem(t *testing.T) {
	t.Parallel()
	all, live := uses(t)
	const noAnswer = "no answer within"
	var running sync.WaitGroup
	slots := make(chan struct{}, 6) // more than processors: the processes wait most of the time
	for _, b := range []struct {
		how   string
		wants string // in the output of every subtest that fails; "": which subtests fail is not known
		ops   []string
	}{
		{otherVersion, "", []string{"Load", "Create", "Update"}},
		{conflicts, "", []string{"Update", "Delete"}},
		{endless, "", []string{"Owned"}},
		{empty, "", []string{"Load"}},
		{absent, "", []string{"Load"}},
		{hangs, noAnswer, []string{"Create", "Delete", "Owned", "Labelled", every}},
		{hangsForEver, noAnswer, []string{"Load", "Update", "Touch", every}},
		{fails, errDisk.Error(), []string{"Load", "Create", "Update", "Touch", "Delete", "Owned", "Labelled", every}},
		{failsSometimes, errDisk.Error(), []string{"Load", "Delete", every}},
		{panics, "panic: " + errDisk.Error(), []string{"Load", "Update", "Owned", "Labelled", every}},
		{exits, "ended its goroutine", []string{"Delete"}},
	} {
		for _, op := range b.ops {
			slots <- struct{}{}
			running.Go(func() {
				defer func() { <-slots }()
				t.Run(op+" "+b.how, func(t *testing.T) {
					r := runBroken(t, op, b.how)
					r.complete(t, all[every])
					switch b.how {
					case fails, panics, exits, hangsForEver:
						r.fails(t, all[op])
					case hangs:
						r.fails(t, live[op]) // with another context, it does not hang
					}
					if b.wants != "" {
						r.names(t, op, b.wants)
					}
				})
			})
		}
	}
	running.Wait()
}
