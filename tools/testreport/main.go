// Testreport reads the output of "go test -json" from the standard input and
// prints a summary: build errors, the result of each package, and the whole output
// of each test that failed. At the end it prints the skipped tests and the number
// of tests and subtests that ran.
//
// The exit status is 1 if a test or a package failed, if the input names no
// package at all, or, with -noskip, if a test, subtest or benchmark was
// skipped.
//
//	go test -json ./... | testreport -noskip
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

func main() {
	label := flag.String("label", "tests", "the word before the counts in the last line")
	noskip := flag.Bool("noskip", false, "fail if a test was skipped")
	counts := flag.String("counts", "", "append the numbers of passed, failed and skipped tests to this `file`")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "testreport: unexpected argument", flag.Arg(0))
		os.Exit(2)
	}

	r := newReport(os.Stdout)
	err := r.read(os.Stdin)
	if err == nil {
		err = r.finish(*label, *noskip)
	}
	if *counts != "" {
		err = errors.Join(err, r.appendCounts(*counts))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
}

// event is one line of "go test -json"; see "go doc test2json" and
// "go help buildjson".
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// report collects the events of one run of "go test".
type report struct {
	w        io.Writer
	packages map[string]*pkg

	passed, failed int
	failedPackages []string
	skipped        []string
}

// pkg holds the output of each test of a package that has started and not ended.
type pkg struct {
	running map[string]*strings.Builder
}

func newReport(w io.Writer) *report {
	return &report{w: w, packages: make(map[string]*pkg)}
}

func (r *report) read(in io.Reader) error {
	br := bufio.NewReader(in)
	for {
		line, err := br.ReadBytes('\n')
		if len(line) > 0 {
			var ev event
			if json.Unmarshal(line, &ev) == nil && ev.Action != "" {
				r.handle(ev)
			} else {
				r.w.Write(line) // not an event, but output of another program
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) handle(ev event) {
	switch {
	case ev.Action == "build-output":
		io.WriteString(r.w, ev.Output)
	case ev.Package == "":
		// build-fail: the package's own events follow
	case ev.Test == "":
		r.handlePackage(ev)
	default:
		r.handleTest(ev)
	}
}

func (r *report) pkg(path string) *pkg {
	p := r.packages[path]
	if p == nil {
		p = &pkg{running: make(map[string]*strings.Builder)}
		r.packages[path] = p
	}
	return p
}

func (r *report) handlePackage(ev event) {
	p := r.pkg(ev.Package)
	switch ev.Action {
	case "output":
		if !boring(ev.Output) {
			io.WriteString(r.w, ev.Output)
		}
	case "pass":
		// A benchmark that ran has no final event.
		r.passed += len(p.running)
		clear(p.running)
	case "fail":
		r.failedPackages = append(r.failedPackages, ev.Package)
		// A test that has not ended was interrupted, for instance by os.Exit or by
		// the timeout.
		for _, test := range sortedKeys(p.running) {
			r.failed++
			fmt.Fprintf(r.w, "--- UNFINISHED: %s %s\n%s", ev.Package, test, p.running[test])
		}
		clear(p.running)
	}
}

func (r *report) handleTest(ev event) {
	p := r.pkg(ev.Package)
	out := p.running[ev.Test]
	if out == nil {
		out = new(strings.Builder)
		p.running[ev.Test] = out
	}
	switch ev.Action {
	case "output":
		if !strings.HasPrefix(ev.Output, "=== ") {
			out.WriteString(ev.Output)
		}
		return
	case "pass", "bench":
		r.passed++
	case "fail":
		r.failed++
		fmt.Fprintf(r.w, "--- FAIL: %s %s\n%s", ev.Package, ev.Test, out)
	case "skip":
		r.skipped = append(r.skipped, ev.Package+" "+ev.Test+"\n"+out.String())
	default: // run, pause, cont
		return
	}
	delete(p.running, ev.Test)
}

// finish prints the final lines and returns an error if the run failed.
func (r *report) finish(label string, noskip bool) error {
	for _, s := range r.skipped {
		fmt.Fprint(r.w, "--- SKIPPED: ", s)
	}
	fmt.Fprintf(r.w, "%s: %d passed, %d failed, %d skipped\n", label, r.passed, r.failed, len(r.skipped))
	switch {
	case len(r.packages) == 0:
		return errors.New("no package was tested")
	case len(r.failedPackages) > 0:
		return fmt.Errorf("failed: %s", strings.Join(r.failedPackages, ", "))
	case r.failed > 0:
		return fmt.Errorf("%d tests failed", r.failed)
	case noskip && len(r.skipped) > 0:
		return fmt.Errorf("%d tests were skipped, which is a failure with -noskip", len(r.skipped))
	}
	return nil
}

func (r *report) appendCounts(name string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, r.passed, r.failed, len(r.skipped))
	return errors.Join(err, f.Close())
}

// boring reports whether a line of a package's output adds nothing to the last
// line of the package.
func boring(line string) bool {
	switch line {
	case "PASS\n", "FAIL\n", "testing: warning: no tests to run\n":
		return true
	}
	for _, prefix := range []string{"goos: ", "goarch: ", "pkg: ", "cpu: "} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

func sortedKeys(m map[string]*strings.Builder) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
