package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/perf/benchfmt"

	"github.com/typedsessions/sessions/benchmarks"
)

// A group is a part of a round: one process that runs some benchmarks.
type group struct {
	name  string
	bench string // pattern of the names of the benchmarks
	every int    // the group runs in every n-th round
	time  string // duration of each benchmark
	short string // duration with -short
	args  []string
	node  bool                                               // also run the contenders of Node.js
	once  func(dir, work string) ([]*benchfmt.Result, error) // called in the first round only, in place of a process
}

var groups = []group{
	// On one processor, so that the time includes the garbage collection, as on
	// a loaded server. Otherwise another, idle processor would do it.
	{name: "core", bench: "^BenchmarkRequest$", every: 1, time: "50ms", short: "20ms", args: []string{"-test.cpu", "1"}, node: true},
	{name: "store", bench: "^BenchmarkStore$", every: 2, time: "500ms", short: "200ms"},
	{name: "processes", bench: "^BenchmarkProcesses$", every: 2, time: "1s", short: "200ms"},
	{name: "scale", bench: "^Benchmark(Scale|Memory)$", every: 10, time: "300ms", short: "50ms"},
	{name: "cores", bench: "^BenchmarkParallel$", every: 8, time: "100ms", short: "20ms", args: []string{"-test.cpu", cpus()}},
	{name: "firstbyte", bench: "^BenchmarkFirstByte$", every: 10, time: "1s", short: "200ms"},
	{name: "footprint", once: footprint},
}

func groupNames() []string {
	var names []string
	for _, g := range groups {
		names = append(names, g.name)
	}
	return names
}

// cpus returns the numbers of processors to compare, for -test.cpu.
func cpus() string {
	n := []string{"1"}
	for c := 2; c <= runtime.NumCPU(); c *= 2 {
		n = append(n, fmt.Sprint(c))
	}
	return strings.Join(n, ",")
}

// Sizes of BenchmarkScale.
const (
	manySessions  = 1_000_000
	shortSessions = 100_000
	fewSessions   = 1_000
)

// measure runs the groups in rounds.
func measure(dir string, chosen []group, rounds int, short bool) (*results, error) {
	work, err := os.MkdirTemp("", "benchmarks-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	binary := filepath.Join(work, "benchmarks.test")
	if err := command(dir, "go", "test", "-c", "-trimpath", "-o", binary, ".").Run(); err != nil {
		return nil, fmt.Errorf("build the benchmarks: %w", err)
	}
	node := ""
	if slices.ContainsFunc(chosen, func(g group) bool { return g.node }) {
		node = nodePeers(dir)
	}
	r := newResults()
	if err := describe(r, dir, rounds, short, node); err != nil {
		return nil, err
	}
	for round := range rounds {
		for _, g := range chosen {
			if g.once != nil && round > 0 || g.every > 0 && round%g.every > 0 {
				continue
			}
			fmt.Fprintf(os.Stderr, "%s round %d of %d: %s\n", time.Now().Format("15:04:05"), round+1, rounds, g.name)
			if err := g.measure(r, dir, work, binary, node, short); err != nil {
				return nil, fmt.Errorf("%s: %w", g.name, err)
			}
		}
	}
	return r, nil
}

func (g group) measure(r *results, dir, work, binary, node string, short bool) error {
	if g.once != nil {
		all, err := g.once(dir, work)
		for _, one := range all {
			r.add(one)
		}
		return err
	}
	forHow, sessions := g.time, manySessions
	if short {
		forHow, sessions = g.short, shortSessions
	}
	args := append([]string{"-test.run", "^$", "-test.bench", g.bench, "-test.benchtime", forHow, "-sessions", fmt.Sprint(sessions)}, g.args...)
	if err := collect(r, command(dir, binary, args...)); err != nil {
		return err
	}
	if !g.node || node == "" {
		return nil
	}
	d, err := time.ParseDuration(forHow)
	if err != nil {
		return err
	}
	// Node.js also needs time for its just-in-time compiler.
	return collect(r, command(filepath.Join(dir, "node"), node, "bench.js", "-time", fmt.Sprint(2*d.Milliseconds())))
}

// collect runs cmd and adds the results that it prints.
func collect(r *results, cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w\n%s", err, out.Bytes())
	}
	return r.read(&out, cmd.Path)
}

func command(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	return cmd
}

// nodePeers installs the contenders of Node.js and returns the path of node, or ""
// if they cannot be run.
func nodePeers(dir string) string {
	node, err := exec.LookPath("node")
	if err != nil {
		fmt.Fprintln(os.Stderr, "There is no node: its contenders are left out.")
		return ""
	}
	dir = filepath.Join(dir, "node")
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
		if err := command(dir, "npm", "ci", "--ignore-scripts").Run(); err != nil {
			fmt.Fprintln(os.Stderr, "npm ci:", err, "- the contenders of Node.js are left out.")
			return ""
		}
	}
	return node
}

// footprint builds the minimal programs and returns their sizes.
func footprint(dir, work string) ([]*benchfmt.Result, error) {
	mains, err := filepath.Glob(filepath.Join(dir, "footprint", "*", "main.go"))
	if err != nil {
		return nil, err
	}
	var all []*benchfmt.Result
	for _, main := range mains {
		name := filepath.Base(filepath.Dir(main))
		binary := filepath.Join(work, name)
		if err := command(dir, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./footprint/"+name).Run(); err != nil {
			return nil, err
		}
		file, err := os.Stat(binary)
		if err != nil {
			return nil, err
		}
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			return nil, err
		}
		all = append(all, &benchfmt.Result{
			Name:  benchfmt.Name("Footprint/by=" + name),
			Iters: 1,
			Values: []benchfmt.Value{
				{Value: float64(file.Size()), Unit: "binary-B"},
				{Value: float64(len(info.Deps)), Unit: "modules"},
			},
		})
	}
	return all, nil
}

// describe adds the configuration on which the results depend.
func describe(r *results, dir string, rounds int, short bool, node string) error {
	r.config["date"] = time.Now().UTC().Format("2006-01-02")
	r.config["go"] = runtime.Version()
	r.config["cpus"] = fmt.Sprint(runtime.NumCPU())
	r.config["rounds"] = fmt.Sprint(rounds)
	if short {
		r.config["short"] = "true"
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		r.config["kernel"] = strings.TrimSpace(string(b))
	}
	if b, err := exec.Command("git", "-C", dir, "describe", "--always", "--dirty").Output(); err == nil {
		r.config["revision"] = strings.TrimSpace(string(b))
	}
	// The binary of a test has no list of its modules.
	b, err := exec.Command("go", "list", "-C", dir, "-test", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Version}}{{end}}", ".").Output()
	if err != nil {
		return fmt.Errorf("list the modules: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		path, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		if version != "" && (interesting[path] || named(path)) {
			r.config["module-"+path] = version
		}
	}
	if node == "" {
		return nil
	}
	b, err = exec.Command(node, "--version").Output()
	if err != nil {
		return err
	}
	r.config["node"] = strings.TrimSpace(string(b))
	return npmVersions(r, filepath.Join(dir, "node", "package-lock.json"))
}

// interesting are the modules to list that are not the Module of a contender.
var interesting = map[string]bool{
	"github.com/vmihailenco/msgpack/v5":      true,
	"github.com/go-playground/validator/v10": true,
	"github.com/tinylib/msgp":                true,
	"github.com/redis/go-redis/v9":           true,
	"github.com/gin-gonic/gin":               true,
	"github.com/labstack/echo/v4":            true,
}

func named(module string) bool {
	is := func(c benchmarks.Contender) bool { return c.Module == module }
	return slices.ContainsFunc(benchmarks.Contenders, is) || slices.ContainsFunc(benchmarks.Stored, is)
}

func npmVersions(r *results, lockfile string) error {
	b, err := os.ReadFile(lockfile)
	if err != nil {
		return err
	}
	var lock struct {
		Packages map[string]struct{ Version string }
	}
	if err := json.Unmarshal(b, &lock); err != nil {
		return fmt.Errorf("%s: %w", lockfile, err)
	}
	for path, p := range lock.Packages {
		if name, ok := strings.CutPrefix(path, "node_modules/"); ok && (named(name) || strings.HasPrefix(name, "@remix-run/")) {
			r.config["npm-"+name] = p.Version
		}
	}
	return nil
}
