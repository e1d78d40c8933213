package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// clockSkew is how far apart the clocks of two processes are during the fault clocks.
const clockSkew = 2 * time.Second

// clockVariable has the nanoseconds by which the clock of a process that buildSkewed
// has built is ahead.
const clockVariable = "CLUSTER_CLOCK_AHEAD"

// skewedNow is what buildSkewed adds to package time. A time's monotonic reading, and
// so timers and durations, stay as they are.
const skewedNow = `
var ahead = func() (n int64) {
	s, _ := syscall.Getenv("` + clockVariable + `")
	digits, negative := s, false
	if len(s) > 0 && s[0] == '-' {
		digits, negative = s[1:], true
	}
	for _, d := range []byte(digits) {
		n = n*10 + int64(d-'0')
	}
	if negative {
		return -n
	}
	return n
}()

func skewedNow() (sec int64, nsec int32, mono int64) {
	sec, nsec, mono = runtimeNow()
	at := int64(nsec) + ahead%1e9
	sec += ahead/1e9 + at/1e9
	if at %= 1e9; at < 0 {
		at, sec = at+1e9, sec-1
	}
	return sec, int32(at), mono
}
`

// buildSkewed builds a program whose clock can be set, and returns its file in dir:
// with another package time, in which Now adds an offset. pkg is a package of the
// module in the directory at.
func buildSkewed(ctx context.Context, dir, at, pkg string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("the fault clocks needs the command go, or name the -faults without clocks: %w", err)
	}
	file := filepath.Join(strings.TrimSpace(string(out)), "src", "time", "time.go")
	source, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	text := strings.Replace(string(source), "sec, nsec, mono := runtimeNow()", "sec, nsec, mono := skewedNow()", 1)
	text = strings.Replace(text, "import (\n", "import (\n\t\"syscall\"\n", 1)
	if strings.Count(text, "skewedNow") != 1 || strings.Count(text, `"syscall"`) != 1 {
		return "", fmt.Errorf("%s has another form than that of Go 1.26: name the -faults without clocks", file)
	}
	changed, overlay, program := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "skewed")
	if err := os.WriteFile(changed, []byte(text+skewedNow), 0o600); err != nil {
		return "", err
	}
	replaced, err := json.Marshal(map[string]map[string]string{"Replace": {file: changed}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, replaced, 0o600); err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", program, pkg)
	build.Dir = at
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build a program whose clock can be set: %w\n%s", err, out)
	}
	return program, nil
}

// sourceDir returns the directory of this package's source.
func sourceDir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// skewClocks replaces two processes by ones whose clocks are two seconds apart, and
// after a while these by ordinary ones.
func (s *schedule) skewClocks(ctx context.Context) error {
	var skewed []*process
	for i, p := range s.site.processes()[:2] {
		ahead := clockSkew * time.Duration(2*i-1) / 2
		cmd := exec.Command(s.site.skewed, appFlag)
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", clockVariable, ahead))
		if err := s.site.startApp(ctx, cmd); err != nil {
			return err
		}
		if err := s.site.retireProcess(ctx, p); err != nil {
			return err
		}
		apps := s.site.processes()
		skewed = append(skewed, apps[len(apps)-1])
	}
	if !pause(ctx, 5*time.Second) {
		return ctx.Err()
	}
	for _, p := range skewed {
		if err := s.site.addProcess(ctx); err != nil {
			return err
		}
		if err := s.site.retireProcess(ctx, p); err != nil {
			return err
		}
	}
	return nil
}
