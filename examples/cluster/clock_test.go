package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The fault clocks means nothing if the clocks are right.
func TestASkewedProgramHasAnotherClock(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module clock\n\ngo 1.26.0\n",
		"main.go": `package main

import "time"

func main() {
	begun := time.Now()
	<-time.After(time.Millisecond)
	println(time.Now().UnixNano(), time.Since(begun))
}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOWORK", "off")
	program, err := buildSkewed(t.Context(), t.TempDir(), dir, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, ahead := range []time.Duration{0, 90 * time.Minute, -90*time.Minute - 700*time.Millisecond} {
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", clockVariable, ahead))
		var out strings.Builder
		cmd.Stderr = &out // println writes there
		before := time.Now()
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		after := time.Now()
		fields := strings.Fields(out.String())
		if len(fields) != 2 {
			t.Fatalf("got %q, want two numbers", out.String())
		}
		at, _ := strconv.ParseInt(fields[0], 10, 64)
		if got := time.Unix(0, at).Add(-ahead); got.Before(before) || got.After(after) {
			t.Errorf("ahead by %v: got %v, want it from %v to %v", ahead, got, before, after)
		}
		if took, _ := strconv.ParseInt(fields[1], 10, 64); time.Duration(took) < time.Millisecond || time.Duration(took) > after.Sub(before) {
			t.Errorf("ahead by %v: a millisecond took %v", ahead, time.Duration(took))
		}
	}
}
