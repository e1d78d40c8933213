package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// A usage is what an application process uses.
type usage struct {
	Heap        float64 // MiB that the last collection found in use
	Resident    float64 // MiB of the process in memory; 0 without /proc
	Goroutines  float64
	Descriptors float64 // open files; 0 without /proc
	Connections float64 // of them, sockets
}

// reportUsage reports what this process uses every few seconds, until ctx is done.
func reportUsage(ctx context.Context, tell func(message)) {
	tick := time.NewTicker(usageInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			u := readUsage()
			tell(message{Usage: &u})
		}
	}
}

const usageInterval = 3 * time.Second

func readUsage() (u usage) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(samples)
	u.Heap = float64(samples[0].Value.Uint64()) / (1 << 20)
	u.Goroutines = float64(samples[1].Value.Uint64())
	status, _ := os.ReadFile("/proc/self/status")
	if _, after, ok := strings.Cut(string(status), "VmRSS:"); ok {
		kib, _ := strconv.ParseFloat(strings.Fields(after)[0], 64)
		u.Resident = kib / 1024
	}
	files, _ := os.ReadDir("/proc/self/fd")
	for _, f := range files {
		to, err := os.Readlink("/proc/self/fd/" + f.Name())
		if err != nil {
			continue // the directory itself, which is closed now
		}
		u.Descriptors++
		if strings.HasPrefix(to, "socket:") {
			u.Connections++
		}
	}
	return u
}

// A resource is a figure of a usage that must not grow.
type resource struct {
	name string
	of   func(usage) float64
	room float64 // by which it may grow, beside a half
}

var resources = []resource{
	{"heap in use (MiB)", func(u usage) float64 { return u.Heap }, 8},
	{"resident memory (MiB)", func(u usage) float64 { return u.Resident }, 16},
	{"goroutines", func(u usage) float64 { return u.Goroutines }, 50},
	{"descriptors", func(u usage) float64 { return u.Descriptors }, 50},
	{"connections", func(u usage) float64 { return u.Connections }, 50},
}

// A sample is the usage of a process at some time.
type sample struct {
	pid int
	at  time.Time
	usage
}

const (
	// warmUp is how old a process is when it has what it needs.
	warmUp = time.Minute

	// leastLife is how long a process must be observed after that for its growth to mean
	// something.
	leastLife = time.Minute
)

// A growth compares the median of the first third of a process's life with that of the
// last third. The time until warmUp does not count.
type growth struct {
	pid         int
	life        time.Duration // that counts
	first, last float64
}

// grew returns the growth of a resource in each process that lived long enough.
func (r resource) grew(samples []sample) (all []growth) {
	byProcess := make(map[int][]sample)
	for _, s := range samples {
		byProcess[s.pid] = append(byProcess[s.pid], s)
	}
	for pid, life := range byProcess {
		begun := life[0].at
		life = slices.DeleteFunc(life, func(s sample) bool { return s.at.Sub(begun) < warmUp })
		if len(life) == 0 || life[len(life)-1].at.Sub(life[0].at) < leastLife {
			continue
		}
		third := len(life) / 3
		if third == 0 {
			continue
		}
		all = append(all, growth{
			pid, life[len(life)-1].at.Sub(life[0].at), r.median(life[:third]), r.median(life[len(life)-third:]),
		})
	}
	slices.SortFunc(all, func(a, b growth) int { return cmp.Compare(b.last-b.first, a.last-a.first) })
	return all
}

func (r resource) median(samples []sample) float64 {
	var all []float64
	for _, s := range samples {
		all = append(all, r.of(s.usage))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// bound returns what the last third may have.
func (r resource) bound(first float64) float64 { return first*1.5 + r.room }

// checkUsage checks that no process needs more and more of something.
func (c *checker) checkUsage() {
	for _, r := range resources {
		for _, g := range r.grew(c.samples) {
			if g.last > r.bound(g.first) {
				c.violate(nil, "process %d: %s grew from %.1f to %.1f in %.0f s, want at most %.1f", g.pid, r.name, g.first, g.last,
					g.life.Seconds(), r.bound(g.first))
			}
		}
	}
}

// reportUsage prints how much the processes used, and the largest growth of each
// resource.
func (c *checker) reportUsage(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\na process's\tmedian\tlargest\tlargest growth, from\tto\tat most\tin\tof processes\t")
	for _, r := range resources {
		if len(c.samples) == 0 {
			return
		}
		largest := slices.MaxFunc(c.samples, func(a, b sample) int { return cmp.Compare(r.of(a.usage), r.of(b.usage)) })
		fmt.Fprintf(t, "%s\t%.1f\t%.1f\t", r.name, r.median(c.samples), r.of(largest.usage))
		if all := r.grew(c.samples); len(all) == 0 {
			fmt.Fprintln(t, "-\t-\t-\t-\t0\t")
		} else {
			fmt.Fprintf(t, "%.1f\t%.1f\t%.1f\t%.0f s\t%d\t\n", all[0].first, all[0].last, r.bound(all[0].first), all[0].life.Seconds(), len(all))
		}
	}
	_ = t.Flush()
}
