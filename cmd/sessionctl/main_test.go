package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/typedsessions/sessions"
)

var update = flag.Bool("update", false, "update the outputs in testdata")

// program is the built command.
var program string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "sessionctl")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		program = filepath.Join(dir, "sessionctl.exe")
		if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// An output is the result of running the command.
type output struct {
	stdout, stderr string
	status         int
}

// call runs the built command.
func call(t *testing.T, keys, stdin string, args ...string) output {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "SESSION_KEYS="+keys)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// passing matches the distance of a time from now, which changes with each run.
var passing = regexp.MustCompile(`\((in )?\d+ \w+( ago)?\)`)

// sections splits a file at the lines "-- name --".
func sections(text string) map[string]string {
	parts := map[string]string{}
	name := ""
	for line := range strings.Lines(text) {
		if s, ok := strings.CutPrefix(line, "-- "); ok && strings.HasSuffix(s, " --\n") {
			name = strings.TrimSuffix(s, " --\n")
			continue
		}
		parts[name] += line
	}
	return parts
}

func TestOutputs(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 30 {
		t.Fatalf("found %d files, want at least 30", len(names))
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			in := sections(string(text))
			got := call(t, strings.TrimSpace(in["keys"]), in["stdin"], strings.Fields(in["command"])...)
			got.stdout = passing.ReplaceAllString(got.stdout, "(…)")
			again := fmt.Sprintf("-- command --\n%s-- keys --\n%s-- stdin --\n%s-- stdout --\n%s-- stderr --\n%s-- status --\n%d\n",
				in["command"], in["keys"], in["stdin"], got.stdout, got.stderr, got.status)
			if *update {
				if err := os.WriteFile(name, []byte(again), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if again != string(text) {
				t.Errorf("got\n%s\nwant\n%s", again, text)
			}
		})
	}
}

// lines splits an output into lines.
func lines(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }

func TestKeygenPrintsWhatAKeyringTakes(t *testing.T) {
	a, b := call(t, "", "", "keygen"), call(t, "", "", "keygen")
	if a.status != 0 || a.stderr != "" || len(lines(a.stdout)) != 1 {
		t.Errorf("got status %d, %d lines and %q, want one line", a.status, len(lines(a.stdout)), a.stderr)
	}
	if _, err := sessions.ParseKeyring(a.stdout + "," + b.stdout); err != nil {
		t.Errorf("two secrets are not a valid ring: %v", err)
	}
}

func TestRotateKeepsEverybodySignedIn(t *testing.T) {
	ring := lines(call(t, "", "", "keygen").stdout)
	c := newCookie(t, ring[0], func(*sessions.Config[AppSession]) {}).Value
	first := ring[0]
	for range 3 {
		got := call(t, strings.Join(ring, " , "), "", "rotate")
		next := strings.Split(lines(got.stdout)[0], ",")
		if got.status != 0 || len(next) != len(ring)+1 || !slices.Equal(next[1:], ring) {
			t.Fatalf("rotate: got status %d and %d secrets, want a new one before the %d old ones", got.status, len(next), len(ring))
		}
		ring = next
	}
	if strings.Contains(call(t, strings.Join(ring, ","), "", "rotate").stderr, first) {
		t.Error("rotate prints a secret to the standard error")
	}
	if got := call(t, strings.Join(ring, ","), c, "inspect"); got.status != 0 || !strings.Contains(got.stdout, "4 of 4, which is not the newest") {
		t.Errorf("a cookie signed with the first key: got status %d and\n%s", got.status, got.stdout)
	}
}

func TestRotateDropsTheOldest(t *testing.T) {
	var ring []string
	for range 16 {
		ring = append(ring, strings.TrimSpace(call(t, "", "", "keygen").stdout))
	}
	keys := strings.Join(ring, ",")
	for _, tt := range []struct {
		name    string
		args    []string
		kept    int
		dropped int
		fresh   int // index of the new secret
	}{
		{"beyond 16", nil, 15, 1, 0},
		{"beyond -keep", []string{"-keep", "3"}, 2, 14, 0},
		{"all", []string{"-keep", "1"}, 0, 16, 0},
		{"behind the others", []string{"-behind"}, 15, 1, 15},
		{"behind the one that signs", []string{"-behind", "-keep=2"}, 1, 15, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := call(t, keys, "", append([]string{"rotate"}, tt.args...)...)
			next := strings.Split(lines(got.stdout)[0], ",")
			if got.status != 0 || len(next) != tt.kept+1 {
				t.Fatalf("got status %d and %d secrets, want 0 and %d", got.status, len(next), tt.kept+1)
			}
			if slices.Contains(ring, next[tt.fresh]) || !slices.Equal(slices.Delete(slices.Clone(next), tt.fresh, tt.fresh+1), ring[:tt.kept]) {
				t.Error("want the newest of the old secrets, and the new one at its index")
			}
			if n := strings.Count(got.stderr, "dropped: key "); n != tt.dropped {
				t.Errorf("it reports %d dropped keys, want %d:\n%s", n, tt.dropped, got.stderr)
			}
			if _, err := sessions.ParseKeyring(got.stdout); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestVersionIsThatOfTheBuild(t *testing.T) {
	got := call(t, "", "", "version")
	if !regexp.MustCompile(`^sessionctl \S+ go\S+ ` + runtime.GOOS + "/" + runtime.GOARCH + "\n$").MatchString(got.stdout) {
		t.Errorf("got %q", got.stdout)
	}
}

func TestEveryFlagAndStatusIsInTheHelp(t *testing.T) {
	help := call(t, "", "", "help").stdout
	for _, want := range []string{"keygen", "inspect", "rotate", "version", "-name", "-behind", "-keep", "\t0  ", "\t1  ", "\t2  "} {
		if !strings.Contains(help, want) {
			t.Errorf("the help lacks %q", want)
		}
	}
}

// TestBuildIsReproducible builds the command in two directories.
func TestBuildIsReproducible(t *testing.T) {
	var built [2][]byte
	for i := range built {
		dir := t.TempDir()
		for _, name := range []string{"go.mod", "go.sum", "*.go", "internal/*/*.go", "cmd/sessionctl/*.go"} {
			copyFiles(t, dir, name)
		}
		out := filepath.Join(t.TempDir(), "sessionctl.exe")
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", out, "./cmd/sessionctl")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOWORK=off")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		var err error
		if built[i], err = os.ReadFile(out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(built[0], built[1]) {
		t.Error("two directories give two different programs")
	}
}

// copyFiles copies the files of the root module that match pattern, without tests,
// to dir.
func copyFiles(t *testing.T, dir, pattern string) {
	t.Helper()
	const root = "../.."
	names, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(names), err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, strings.TrimPrefix(filepath.ToSlash(name), root))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
