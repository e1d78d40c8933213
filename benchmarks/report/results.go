package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// results holds the measured values and the configuration in which they were
// measured. They are stored in a file in benchstat's format. The report has no other
// source.
type results struct {
	config map[string]string
	all    []*benchfmt.Result

	// values has the values by benchmark and unit, one for each round in which the
	// benchmark ran.
	values map[key][]float64
}

type key struct{ name, unit string }

func newResults() *results {
	return &results{config: map[string]string{}, values: map[key][]float64{}}
}

func readResults(file string) (*results, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := newResults()
	return r, r.read(bytes.NewReader(b), file)
}

// read adds the results in the output of "go test -bench".
func (r *results) read(in io.Reader, name string) error {
	reader := benchfmt.NewReader(in, name)
	for reader.Scan() {
		switch record := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			return record
		case *benchfmt.Result:
			for _, c := range record.Config {
				r.config[c.Key] = string(c.Value)
			}
			r.add(record.Clone())
		}
	}
	return reader.Err()
}

func (r *results) add(one *benchfmt.Result) {
	one.Config = nil
	r.all = append(r.all, one)
	name := nameOf(one)
	for _, v := range one.Values {
		k := key{name, v.Unit}
		r.values[k] = append(r.values[k], v.Value)
	}
}

// remeasured is the prefix of the names, in the configuration, of the groups that
// were measured later than the others.
const remeasured = "remeasured-"

// replace takes the results of the groups from later, in place of those that r has.
func (r *results) replace(later *results, groups []group) error {
	for k, v := range later.config {
		if k != "date" && k != "revision" && k != "rounds" && k != "short" && r.config[k] != v {
			return fmt.Errorf("the other results are of %s %q, these are of %q: measure all anew", k, r.config[k], v)
		}
	}
	measured := map[string]bool{}
	for _, one := range later.all {
		measured[nameOf(one)] = true
	}
	kept := newResults()
	kept.config = r.config
	for _, one := range r.all {
		if !measured[nameOf(one)] {
			kept.add(one)
		}
	}
	for _, one := range later.all {
		kept.add(one)
	}
	for _, g := range groups {
		kept.config[remeasured+g.name] = later.config["date"] + " at " + later.config["revision"]
	}
	*r = *kept
	return nil
}

// nameOf returns the name of a result. It has the number of processors only for
// BenchmarkParallel, which compares them.
func nameOf(one *benchfmt.Result) string {
	base, parts := one.Name.Parts()
	cpus := "1"
	if n := len(parts); n > 0 && parts[n-1][0] == '-' {
		cpus, parts = string(parts[n-1][1:]), parts[:n-1]
	}
	name := string(base) + string(bytes.Join(parts, nil))
	if string(base) == "Parallel" {
		name += "/cpus=" + cpus
	}
	return name
}

func (r *results) writeFile(file string) error {
	var b bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(r.config)) {
		fmt.Fprintf(&b, "%s: %s\n", k, r.config[k])
	}
	b.WriteString("\n")
	w := benchfmt.NewWriter(&b)
	for _, one := range r.all {
		if err := w.Write(one); err != nil {
			return err
		}
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// A summary has the statistics of several values.
type summary struct {
	median, min  float64
	lower, upper float64 // quartiles; of fewer than five values, the least and the largest
	n            int
}

func summarize(values []float64) summary {
	if len(values) == 0 {
		return summary{}
	}
	v := slices.Sorted(slices.Values(values))
	s := summary{median: quantile(v, 0.5), min: v[0], lower: v[0], upper: v[len(v)-1], n: len(v)}
	if len(v) >= 5 {
		s.lower, s.upper = quantile(v, 0.25), quantile(v, 0.75)
	}
	return s
}

// quantile interpolates linearly between the two nearest values.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

func (r *results) of(name, unit string) summary { return summarize(r.values[key{name, unit}]) }

// time returns the duration of an operation of a benchmark, in seconds.
func (r *results) time(name string) summary { return r.of(name, "sec/op") }

// ratio compares two benchmarks, round by round.
func (r *results) ratio(a, b, unit string) summary {
	va, vb := r.values[key{a, unit}], r.values[key{b, unit}]
	var ratios []float64
	for i := range min(len(va), len(vb)) {
		if vb[i] > 0 {
			ratios = append(ratios, va[i]/vb[i])
		}
	}
	return summarize(ratios)
}

// ofMinima returns the ratio of the fastest rounds, which noise affects least.
func (r *results) ofMinima(a, b, unit string) float64 {
	ma, mb := r.of(a, unit), r.of(b, unit)
	if ma.n == 0 || mb.n == 0 || mb.min == 0 {
		return 0
	}
	return ma.min / mb.min
}

// versions lists the entries of config with a prefix, without the prefix.
func (r *results) versions(prefix string) []string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(r.config)) {
		if name, ok := strings.CutPrefix(k, prefix); ok {
			list = append(list, name+" "+r.config[k])
		}
	}
	return list
}
