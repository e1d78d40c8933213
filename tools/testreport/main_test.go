package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func run(t *testing.T, input string, noskip bool) (*report, string, error) {
	t.Helper()
	var out bytes.Buffer
	r := newReport(&out)
	if err := r.read(strings.NewReader(input)); err != nil {
		t.Fatal(err)
	}
	err := r.finish("tests", noskip)
	return r, out.String(), err
}

const passing = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"chatter\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- PASS: TestA (0.00s)\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.003s\n"}
{"Action":"pass","Package":"p"}
{"Action":"output","Package":"q","Output":"?   \tq\t[no test files]\n"}
{"Action":"skip","Package":"q"}
`

func TestPassing(t *testing.T) {
	_, out, err := run(t, passing, true)
	if err != nil {
		t.Error(err)
	}
	want := "ok  \tp\t0.003s\n?   \tq\t[no test files]\ntests: 1 passed, 0 failed, 0 skipped\n"
	if out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestSkipped(t *testing.T) {
	const input = passing + `{"Action":"run","Package":"p","Test":"TestB/sub"}
{"Action":"output","Package":"p","Test":"TestB/sub","Output":"    b_test.go:6: no server\n"}
{"Action":"output","Package":"p","Test":"TestB/sub","Output":"--- SKIP: TestB/sub (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestB/sub"}
`
	for _, noskip := range []bool{false, true} {
		_, out, err := run(t, input, noskip)
		if (err != nil) != noskip {
			t.Errorf("noskip %v: error %v", noskip, err)
		}
		for _, want := range []string{"--- SKIPPED: p TestB/sub\n", "no server", "tests: 1 passed, 0 failed, 1 skipped\n"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in %q", want, out)
			}
		}
	}
}

func TestFailing(t *testing.T) {
	_, out, err := run(t, `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:6: wrong\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- FAIL: TestA (0.00s)\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestExit"}
{"Action":"output","Package":"p","Test":"TestExit","Output":"leaving\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.003s\n"}
{"Action":"fail","Package":"p"}
`, false)
	if err == nil || !strings.Contains(err.Error(), "failed: p") {
		t.Errorf("error %v", err)
	}
	for _, want := range []string{"a_test.go:6: wrong", "UNFINISHED: p TestExit\nleaving\n", "FAIL\tp", "tests: 0 passed, 2 failed, 0 skipped\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
}

func TestBuildFailure(t *testing.T) {
	_, out, err := run(t, `{"ImportPath":"p","Action":"build-output","Output":"p.go:1:2: undefined: x\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","FailedBuild":"p"}
`, false)
	if err == nil {
		t.Error("no error")
	}
	if !strings.HasPrefix(out, "p.go:1:2: undefined: x\nFAIL\tp [build failed]\n") {
		t.Errorf("got %q", out)
	}
}

func TestBenchmarksCount(t *testing.T) {
	r, out, err := run(t, `{"Action":"output","Package":"p","Output":"goos: linux\n"}
{"Action":"run","Package":"p","Test":"BenchmarkA"}
{"Action":"output","Package":"p","Test":"BenchmarkA","Output":"BenchmarkA-2 \t 1\t 180.0 ns/op\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.003s\n"}
{"Action":"pass","Package":"p"}
`, true)
	if err != nil || r.passed != 1 || strings.Contains(out, "goos") {
		t.Errorf("error %v, %d passed, output %q", err, r.passed, out)
	}
}

func TestNothingTested(t *testing.T) {
	_, out, err := run(t, "plain text\n", false)
	if err == nil || !strings.HasPrefix(out, "plain text\n") {
		t.Errorf("error %v, output %q", err, out)
	}
}

func TestAppendCounts(t *testing.T) {
	name := filepath.Join(t.TempDir(), "counts")
	for range 2 {
		r, _, _ := run(t, passing, false)
		if err := r.appendCounts(name); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil || string(got) != "1 0 0\n1 0 0\n" {
		t.Errorf("%q, %v", got, err)
	}
}
