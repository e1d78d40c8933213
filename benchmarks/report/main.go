// Report runs the benchmarks of this library and its peers and writes the report.
//
//	go run ./benchmarks/report                 writes docs/BENCHMARKS.md,
//	                                           docs/benchmarks.svg and
//	                                           benchmarks/results.txt
//	go run ./benchmarks/report -short          does this in a few minutes, less exactly
//	go run ./benchmarks/report -only core -rounds 5 -short
//	                                           prints ratios and writes no file
//	go run ./benchmarks/report -from benchmarks/results.txt
//	                                           writes the report without measuring
//	go run ./benchmarks/report -from benchmarks/results.txt -only processes -rounds 20
//	                                           measures one group anew and writes all
//
// It runs all benchmarks in rounds, each for a short time, so that other load of the
// machine affects all of them alike. A ratio is the median of the ratios of the
// rounds. Its two values are measured within seconds of each other.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const module = "github.com/typedsessions/sessions/benchmarks"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run() error {
	rounds := flag.Int("rounds", 0, "how often everything is measured (40, with -short 3)")
	short := flag.Bool("short", false, "measure everything for a short while, with at most 100,000 live sessions")
	only := flag.String("only", "", "measure only these `groups`, and without -from print ratios and write no report: "+strings.Join(groupNames(), ", "))
	out := flag.String("out", "", "where the raw results go, in benchstat's format (benchmarks/results.txt; with -only nowhere, with both -from and -only the file of -from)")
	from := flag.String("from", "", "take the results from this `file` instead of measuring, but for the groups of -only")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if *rounds == 0 {
		*rounds = 40
		if *short {
			*rounds = 3
		}
	}
	dir, err := moduleDir()
	if err != nil {
		return err
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	complete := *only == "" || *from != ""
	if *out == "" && *only == "" && *from == "" {
		*out = filepath.Join(dir, "results.txt")
	}

	r := newResults()
	if *from != "" {
		if r, err = readResults(*from); err != nil {
			return err
		}
	}
	switch {
	case *from == "":
		r, err = measure(dir, chosen, *rounds, *short)
	case *only != "":
		var later *results
		if later, err = measure(dir, chosen, *rounds, *short); err == nil {
			err = r.replace(later, chosen)
		}
		if *out == "" {
			*out = *from
		}
	}
	if err != nil {
		return err
	}
	if *out != "" {
		if err := r.writeFile(*out); err != nil {
			return err
		}
	}
	printTargets(os.Stdout, r)
	if !complete {
		return nil
	}
	docs := filepath.Join(dir, "..", "docs")
	if err := os.WriteFile(filepath.Join(docs, "BENCHMARKS.md"), document(r), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(docs, "benchmarks.svg"), plot(r), 0o644)
}

// moduleDir returns the directory of the benchmarks, which does not depend on the
// working directory.
func moduleDir() (string, error) {
	b, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("find %s: %w; start this in the repository", module, err)
	}
	return strings.TrimSpace(string(b)), nil
}

func choose(only string) ([]group, error) {
	if only == "" {
		return groups, nil
	}
	var chosen []group
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(groups, func(g group) bool { return g.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only %q, need some of %s", name, strings.Join(groupNames(), ", "))
		}
		chosen = append(chosen, groups[i])
	}
	return chosen, nil
}
