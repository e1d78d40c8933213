package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain is the application process too: the test's own program is started again
// for it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == appFlag {
		if err := runApp(); err != nil {
			fmt.Fprintln(os.Stderr, "application process:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func needsRedis(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		lacks(t, fmt.Errorf("%w: install Debian's package redis-server", err))
	}
}

// lacks ends a test that needs a program. In CI that is a failure.
func lacks(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skip(err)
}

func TestNoUserIsWrongedWhileProcessesReleasesMastersAndKeysGo(t *testing.T) {
	needsRedis(t)
	var out bytes.Buffer
	// From release 1.0 over 1.1 to 2.0, and back.
	faults := []string{"deploy", "slots", "deploy", "process", "deploy", "master", "keys", "deploy"}
	violations, err := run(t.Context(), options{
		engine: "cluster", users: 20, processes: 3, think: 200 * time.Millisecond, duration: 80 * time.Second, faults: faults, out: &out,
	})
	if err != nil || violations > 0 {
		t.Errorf("got %d violations, %v", violations, err)
	}
	for _, fault := range faults[:7] {
		if !strings.Contains(out.String(), "fault: "+fault+"\n") {
			t.Errorf("the fault %s was not made", fault)
		}
	}
	for _, deployed := range []string{"1.0 to 1.1", "1.1 to 2.0", "2.0 to 1.1"} {
		if !strings.Contains(out.String(), deployed) {
			t.Errorf("there was no deployment %s", deployed)
		}
	}
	t.Log(out.String())
}

func TestOptionsThatMakeNoRunAreRefused(t *testing.T) {
	good := options{engine: "redis", users: 1, processes: 2, think: time.Second, duration: time.Second}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(o *options){
		"-engine etcd: want one of redis": func(o *options) { o.engine = "etcd" },
		"-break tooth: want one of merge": func(o *options) { o.fault = "tooth" },
		"want another -engine":            func(o *options) { o.engine, o.fault = "postgres", "touch" },
		"-minutes: want":                  func(o *options) { o.duration = 0 },
		"-users 0: want":                  func(o *options) { o.users = 0 },
		"-processes 1: want":              func(o *options) { o.processes = 1 },
		"-think 2s: want":                 func(o *options) { o.think = 2 * time.Second },
		"-plot run.txt: want":             func(o *options) { o.plot = "run.txt" },
	} {
		o := good
		change(&o)
		if _, err := run(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// The interrupt comes in the middle of a fault.
func TestAnInterruptIsNoErrorAndNoViolation(t *testing.T) {
	needsRedis(t)
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	out := &screen{out: new(bytes.Buffer)}
	lines := writerFunc(func(p []byte) (int, error) {
		if bytes.Contains(p, []byte("fault: deploy")) {
			time.AfterFunc(time.Second, interrupt)
		}
		return out.Write(p)
	})
	violations, err := run(ctx, options{
		engine: "redis", users: 15, processes: 2, think: 200 * time.Millisecond, duration: 8 * time.Second, faults: []string{"deploy"}, out: lines,
	})
	if err != nil || violations > 0 {
		t.Errorf("got %d violations, %v:\n%s", violations, err, out.out)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A checker that finds nothing in a broken application is worth nothing.
func TestTheCheckerFindsBrokenApplications(t *testing.T) {
	needsRedis(t)
	const soon = 200 * time.Millisecond
	const long, short = 40 * time.Second, 5 * time.Second // short: the checker finds it at the end
	process, deploy := []string{"process"}, []string{"deploy", "deploy"}
	for fault, tt := range map[string]struct {
		want     string // one of them, separated by |
		faults   []string
		users    int
		think    time.Duration
		duration time.Duration
	}{
		"versions": {"changes are lost", process, 10, soon, long},
		"merge":    {"changes are lost", process, 10, soon, long},
		"cache":    {"the session of another user", process, 10, soon, long},
		"limit":    {"nobody ended it", process, 10, soon, long},
		"revive":   {"a session lives that ended", process, 10, soon, long},
		// A use is stored once in two seconds.
		"touch":   {"a session lives that ended", process, 60, time.Second, long},
		"deaf":    {"after its session has ended", process, 10, soon, long},
		"streams": {"has ended without a fault", process, 10, soon, long},
		"silent":  {"no process reported the end of session", process, 10, soon, short},
		"exits":   {"ended, and nobody killed it", process, 10, soon, long},
		"panics":  {"requests failed without a fault", process, 60, soon, short},
		"abrupt":  {"requests failed in the fault deploy", deploy, 60, soon / 2, short},
		// Whichever comes first: release 2.0 answers without the count or the note, or 1.1 after it.
		"schema": {"changes are lost|release 1.1 shows a session that release 2.0 has stored", deploy, 10, soon, long / 2},
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			violations, err := run(t.Context(), options{
				engine: "redis", users: tt.users, processes: 2, think: tt.think, duration: tt.duration,
				faults: tt.faults, fault: fault, stopEarly: true, out: &out,
			})
			says := func(want string) bool { return strings.Contains(out.String(), want) }
			if err != nil || violations == 0 || !slices.ContainsFunc(strings.Split(tt.want, "|"), says) {
				t.Errorf("got %d violations, %v, want at least one that says %q:\n%s", violations, err, tt.want, out.String())
			}
		})
		if !slices.Contains(breaks, fault) {
			t.Errorf("-break has no %s", fault)
		}
	}
}

func needsPostgreSQL(t *testing.T) {
	t.Helper()
	if _, err := findServerProgram("initdb"); err != nil {
		lacks(t, err)
	}
}

func TestNoUserIsWrongedByAnEngine(t *testing.T) {
	for engine, tt := range map[string]struct {
		needs  func(*testing.T)
		faults []string
	}{
		"sentinel": {needsRedis, []string{"master", "full"}},
		"postgres": {needsPostgreSQL, []string{"primary", "answers", "async"}},
	} {
		t.Run(engine, func(t *testing.T) {
			tt.needs(t)
			t.Parallel()
			var out bytes.Buffer
			violations, err := run(t.Context(), options{
				engine: engine, users: 15, processes: 3, think: 200 * time.Millisecond, duration: 24 * time.Second, faults: tt.faults, out: &out,
			})
			if err != nil || violations > 0 {
				t.Errorf("got %d violations, %v", violations, err)
			}
			for _, fault := range tt.faults {
				if !strings.Contains(out.String(), "fault: "+fault+"\n") {
					t.Errorf("the fault %s was not made", fault)
				}
			}
			t.Log(out.String())
		})
	}
}
