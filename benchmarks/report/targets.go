package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/typedsessions/sessions/benchmarks"
)

// A target is a bound on the ratio of two benchmarks, or on one value.
type target struct {
	claim  string
	a, b   string // the ratio is a/b; if b is empty, it is the value of a
	unit   string
	bound  float64
	faster bool   // the bound is the least ratio, instead of the largest
	floor  string // the floor to compare with in place of b; may be empty
}

func request(work, by string) string { return "Request/work=" + work + "/by=" + by }
func stored(work, by string) string  { return "Store/work=" + work + "/by=" + by }
func processes(by string) string     { return "Processes/by=" + by }
func scaled(work, by string, n int) string {
	return fmt.Sprintf("Scale/work=%s/by=%s/sessions=%d", work, by, n)
}

// targets returns the performance targets of this library.
func targets() []target {
	var all []target
	within := func(bound float64, claim, ours, theirs string) {
		all = append(all, target{claim: claim, a: ours, b: theirs, unit: "sec/op", bound: bound})
	}
	faster := func(bound float64, claim, ours, theirs, floor string) {
		all = append(all, target{claim: claim, a: theirs, b: ours, unit: "sec/op", bound: bound, faster: true, floor: floor})
	}

	atMost := func(bound float64, claim, ours, unit string) {
		all = append(all, target{claim: claim, a: ours, unit: unit, bound: bound})
	}

	for _, w := range []struct {
		work  string
		bound float64
	}{{"R", 0.55}, {"W", 0.6}, {"F", 1.35}, {"L", 1}} {
		within(w.bound, w.work+", signed ÷ floor", request(w.work, "signed"), request(w.work, "floor"))
	}
	for _, work := range []string{"R", "W"} {
		within(0.6, work+", sealed ÷ floor", request(work, "sealed"), request(work, "floor-sealed"))
		within(0.85, work+", generated codec ÷ floor", request(work, "generated"), request(work, "floor-generated"))
	}
	for _, work := range []string{"N", "U"} {
		within(0.9, work+", signed ÷ floor", request(work, "signed"), request(work, "floor"))
		atMost(1, work+", signed, allocations", request(work, "signed"), "allocs/op")
	}
	atMost(7, "R, signed, allocations", request("R", "signed"), "allocs/op")
	atMost(960, "R, signed, bytes", request("R", "signed"), "B/op")
	atMost(11, "W, signed, allocations", request("W", "signed"), "allocs/op")
	atMost(1450, "W, signed, bytes", request("W", "signed"), "B/op")

	for _, work := range []string{"R", "W"} {
		scs, gorilla := 9.0, 10.0
		if work == "W" {
			scs, gorilla = 8, 9
		}
		faster(scs, work+", scs ÷ signed", request(work, "signed"), request(work, "scs"), request(work, "floor"))
		faster(scs, work+", scs ÷ MemoryStore", request(work, "memory"), request(work, "scs"), "")
		faster(gorilla, work+", gorilla ÷ signed", request(work, "signed"), request(work, "gorilla"), request(work, "floor"))
		faster(80, work+", Remix ÷ signed", request(work, "signed"), request(work, "remix"), request(work, "floor"))
	}
	faster(4, "R, golang-jwt HS256 ÷ signed", request("R", "signed"), request("R", "jwt"), request("R", "floor"))
	faster(35, "R, golang-jwt EdDSA ÷ signed", request("R", "signed"), request("R", "jwt-eddsa"), request("R", "floor"))

	faster(1.75, "Redis R, scs ÷ ours", stored("R", "redis-ours"), stored("R", "redis-scs"), stored("R", "redis-floor"))
	faster(1.75, "Redis W, scs ÷ ours", stored("W", "redis-ours"), stored("W", "redis-scs"), stored("W", "redis-floor"))
	faster(3, "Redis R, scs ÷ ours with LocalCache", stored("R", "redis-ours-cached"), stored("R", "redis-scs"), stored("R", "redis-floor-cached"))
	faster(1.15, "PostgreSQL R, scs ÷ ours", stored("R", "postgres-ours"), stored("R", "postgres-scs"), stored("R", "postgres-floor"))
	faster(1.1, "PostgreSQL W, scs ÷ ours", stored("W", "postgres-ours"), stored("W", "postgres-scs"), stored("W", "postgres-floor"))

	faster(1.6, "Redis, two processes, scs ÷ ours", processes("redis-ours"), processes("redis-scs"), processes("redis-floor"))
	all = append(all, target{claim: "Redis, two processes, p99, ours ÷ scs", a: processes("redis-ours"), b: processes("redis-scs"), unit: p99Unit, bound: 0.7})

	for _, work := range []string{"R", "W"} {
		for _, by := range []string{"memory", "redis-ours"} {
			within(1.3, fmt.Sprintf("%s, %s, 1,000,000 ÷ 1,000 sessions", work, by), scaled(work, by, manySessions), scaled(work, by, fewSessions))
		}
	}
	return all
}

// measured returns the measured value or ratio. Its n is 0 if it was not measured.
func (t target) measured(r *results) summary {
	if t.b == "" {
		return r.of(t.a, t.unit)
	}
	return r.ratio(t.a, t.b, t.unit)
}

// byHand returns the ratio with the floor in place of this library, or "".
func (t target) byHand(r *results) string { return count(r.ratio(t.a, t.floor, t.unit)) }

// unruled returns the ratio with a session type without rules, or "".
func (t target) unruled(r *results) string {
	return count(r.ratio(t.a, t.b+benchmarks.Unruled, t.unit))
}

func (t target) minima(r *results) float64 {
	if t.b == "" {
		return r.of(t.a, t.unit).min
	}
	return r.ofMinima(t.a, t.b, t.unit)
}

func (t target) reached(figure float64) bool {
	if t.faster {
		return figure >= t.bound
	}
	return figure <= t.bound
}

func (t target) goal() string {
	if t.faster {
		return fmt.Sprintf("≥ %g", t.bound)
	}
	return fmt.Sprintf("≤ %g", t.bound)
}

func (t target) verdict(r *results) string {
	switch m := t.measured(r); {
	case m.n == 0:
		return "not measured"
	case t.reached(m.median):
		return "reached"
	default:
		return "not reached"
	}
}

// printTargets prints the targets that were measured.
func printTargets(w io.Writer, r *results) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "ratio\tmedian\tquartiles\tof minima\tby hand\tno rules\ttarget\t")
	for _, t := range targets() {
		if m := t.measured(r); m.n > 0 {
			fmt.Fprintf(tw, "%s\t%.2f\t%.2f to %.2f\t%.2f\t%s\t%s\t%s\t%s\n", t.claim, m.median, m.lower, m.upper, t.minima(r), t.byHand(r), t.unruled(r), t.goal(), t.verdict(r))
		}
	}
	_ = tw.Flush()
}
