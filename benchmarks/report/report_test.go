package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/typedsessions/sessions/benchmarks"
)

// read returns the results in the output lines of benchmarks.
func read(t *testing.T, lines ...string) *results {
	t.Helper()
	r := newResults()
	if err := r.read(strings.NewReader(strings.Join(lines, "\n")+"\n"), "test"); err != nil {
		t.Fatal(err)
	}
	return r
}

// everything returns results for each contender and work, in two rounds. The second
// round is ten times as slow.
func everything(t *testing.T) *results {
	t.Helper()
	lines := []string{"goos: linux", "cpu: a processor", "date: 2026-01-02", "server-redis: 7.0.0"}
	for _, slow := range []int{1, 10} {
		ns := 1_000
		for _, w := range works {
			for _, c := range benchmarks.Contenders {
				ns += 100
				lines = append(lines, fmt.Sprintf("BenchmarkRequest/work=%s/by=%s-2 100 %d ns/op 640 B/op 2 allocs/op", w.name, c.Name, ns*slow))
			}
		}
		for _, by := range []string{"redis-ours", "redis-floor", "redis-scs"} {
			lines = append(lines, fmt.Sprintf("Benchmark%s-2 100 %d ns/op 1000000 p99-ns 20000 req/s", processes(by), 50_000*slow))
		}
		for _, w := range []string{"R", "W"} {
			for _, c := range benchmarks.Stored {
				lines = append(lines, fmt.Sprintf("BenchmarkStore/work=%s/by=%s-2 100 %d ns/op 1.5 commands/req 20000 req/s 300 wire-B/req", w, c.Name, 50_000*slow))
			}
			for _, n := range []int{fewSessions, shortSessions, manySessions} {
				for _, by := range []string{"memory", "scs", "redis-ours"} {
					lines = append(lines, fmt.Sprintf("Benchmark%s-2 100 %d ns/op", scaled(w, by, n), 3_000*slow))
				}
			}
		}
	}
	return read(t, lines...)
}

func TestARatioComparesRoundsWithEachOther(t *testing.T) {
	r := read(t,
		"BenchmarkRequest/work=R/by=signed-2 1 100 ns/op", "BenchmarkRequest/work=R/by=floor-2 1 200 ns/op",
		"BenchmarkRequest/work=R/by=signed-2 1 9000 ns/op", "BenchmarkRequest/work=R/by=floor-2 1 18000 ns/op",
		"BenchmarkRequest/work=R/by=signed-2 1 50 ns/op", "BenchmarkRequest/work=R/by=floor-2 1 100 ns/op")
	got := r.ratio(request("R", "signed"), request("R", "floor"), "sec/op")
	if want := (summary{0.5, 0.5, 0.5, 0.5, 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestASummaryHasMedianLeastAndQuartiles(t *testing.T) {
	got := summarize([]float64{5, 1, 4, 2, 3})
	if want := (summary{median: 3, min: 1, lower: 2, upper: 4, n: 5}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	got = summarize([]float64{4, 1, 2}) // too few for quartiles
	if want := (summary{median: 2, min: 1, lower: 1, upper: 4, n: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestTheMedianDecidesWhetherATargetIsReached(t *testing.T) {
	within := target{a: request("R", "signed"), b: request("R", "floor"), unit: "sec/op", bound: 1.25}
	faster := target{a: request("R", "scs"), b: request("R", "signed"), unit: "sec/op", bound: 5, faster: true}
	alone := target{a: request("N", "signed"), unit: "allocs/op", bound: 2}
	for _, tt := range []struct {
		line string
		t    target
		want string
	}{
		{"BenchmarkRequest/work=R/by=signed 1 125 ns/op\nBenchmarkRequest/work=R/by=floor 1 100 ns/op", within, "reached"},
		{"BenchmarkRequest/work=R/by=signed 1 126 ns/op\nBenchmarkRequest/work=R/by=floor 1 100 ns/op", within, "not reached"},
		{"BenchmarkRequest/work=R/by=signed 1 100 ns/op\nBenchmarkRequest/work=R/by=scs 1 500 ns/op", faster, "reached"},
		{"BenchmarkRequest/work=R/by=signed 1 100 ns/op\nBenchmarkRequest/work=R/by=scs 1 499 ns/op", faster, "not reached"},
		{"BenchmarkRequest/work=N/by=signed 1 100 ns/op 2 allocs/op", alone, "reached"},
		{"BenchmarkRequest/work=N/by=signed 1 100 ns/op 3 allocs/op", alone, "not reached"},
		{"BenchmarkRequest/work=R/by=signed 1 100 ns/op", within, "not measured"},
	} {
		if got := tt.t.verdict(read(t, tt.line)); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.line, got, tt.want)
		}
	}
}

func TestTargetsNameContendersThatExist(t *testing.T) {
	all := targets()
	if len(all) == 0 {
		t.Fatal("there are no targets")
	}
	r := everything(t)
	for _, target := range all {
		if got := target.verdict(r); got == "not measured" {
			t.Errorf("%s is not measured, though every contender was", target.claim)
		}
	}
}

func TestResultsComeBackFromTheirFile(t *testing.T) {
	r := everything(t)
	file := filepath.Join(t.TempDir(), "results.txt")
	if err := r.writeFile(file); err != nil {
		t.Fatal(err)
	}
	again, err := readResults(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := document(again), document(r); !bytes.Equal(got, want) {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestGroupThatIsMeasuredAnewReplacesItsResultsOnly(t *testing.T) {
	r := everything(t)
	before := r.time(request("R", "signed"))
	anew := "cpu: a processor\ndate: 2026-02-03\nrevision: abc\nBenchmark" + processes("redis-ours") + "-2 100 7000 ns/op"
	if err := r.replace(read(t, anew), []group{{name: "processes"}}); err != nil {
		t.Fatal(err)
	}
	if got := r.time(processes("redis-ours")); got.n != 1 || duration(got) != "7.00 µs" {
		t.Errorf("got %+v, want what was measured anew only", got)
	}
	if got := r.time(request("R", "signed")); got != before {
		t.Errorf("got %+v for another group, want %+v", got, before)
	}
	if text := string(document(r)); !strings.Contains(text, "| measured anew | processes 2026-02-03 at abc |") {
		t.Error("the document does not say what was measured anew")
	}
	if err := r.replace(read(t, "cpu: another", anew[len("cpu: a processor\n"):]), nil); err == nil {
		t.Error("got no error for results of another machine")
	}
}

func TestTheDocumentHasEveryContender(t *testing.T) {
	text := string(document(everything(t)))
	for _, c := range slices.Concat(benchmarks.Contenders, benchmarks.Stored) {
		if !strings.Contains(text, "| "+c.Title+" | "+c.Keeps+" | ") || !strings.Contains(text, " | "+c.Lacks.String()+" |\n") {
			t.Errorf("the tables lack %s or its missing features", c.Title)
		}
	}
	for _, want := range []string{"a processor", "2026-01-02", "redis 7.0.0"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q", want)
		}
	}
}

func TestEveryRowOfATableHasAsManyCells(t *testing.T) {
	cells := 0
	for line := range strings.Lines(string(document(everything(t)))) {
		if !strings.HasPrefix(line, "|") {
			cells = 0
			continue
		}
		if n := strings.Count(line, "|"); cells > 0 && n != cells {
			t.Errorf("got %d cells, want %d: %s", n-1, cells-1, line)
		} else {
			cells = n
		}
	}
}

func TestThePlotIsAPictureOfEveryContender(t *testing.T) {
	b := plot(everything(t))
	text := ""
	for d := xml.NewDecoder(bytes.NewReader(b)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if chars, ok := token.(xml.CharData); ok {
			text += string(chars) + "\n"
		}
	}
	for _, c := range benchmarks.Contenders {
		if !strings.Contains(text, c.Title+"\n") {
			t.Errorf("the plot lacks %s", c.Title)
		}
	}
}

func TestNumbersAreShort(t *testing.T) {
	for got, want := range map[string]string{
		duration(summary{median: 512e-9, n: 1}):   "512 ns",
		duration(summary{median: 3.456e-6, n: 1}): "3.46 µs",
		duration(summary{median: 34.56e-3, n: 1}): "34.6 ms",
		duration(summary{}):                       "",
		thousands(1_234_567):                      "1,234,567",
		thousands(-1_234):                         "-1,234",
		thousands(-123):                           "-123",
		number(2):                                 "2",
		number(2.345):                             "2.35",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
