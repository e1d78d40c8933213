package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/typedsessions/sessions/benchmarks"
)

var works = []struct{ name, what string }{
	{"R", "the session is read"},
	{"W", "one field of it is changed"},
	{"N", "there is no cookie, and the handler does not ask for the session"},
	{"U", "the cookie is valid, and the handler does not ask for the session"},
	{"F", "the cookie is forged, and the handler asks for the session"},
	{"L", "a login: the session gets a new id, and its fields are set"},
}

// document returns the text of docs/BENCHMARKS.md.
func document(r *results) []byte {
	d := &writer{}
	d.line("# Benchmarks")
	d.line("")
	d.line("`go run ./benchmarks/report` writes this file. Every figure in it is measured. Do not edit it.")
	d.line("")
	d.line("![Time of a request, on a logarithmic scale](benchmarks.svg)")
	d.setting(r)
	d.targets(r)
	d.floors(r)
	d.peers(r)
	d.servers(r)
	d.processes(r)
	d.scale(r)
	d.cores(r)
	d.firstByte(r)
	d.footprint(r)
	d.profiles()
	d.figures(r)
	return d.Bytes()
}

type writer struct{ bytes.Buffer }

func (d *writer) line(format string, args ...any) {
	if len(args) == 0 {
		d.WriteString(format + "\n")
		return
	}
	fmt.Fprintf(d, format+"\n", args...)
}

// table writes the header of a table. The first column is left-aligned.
func (d *writer) table(titles ...string) {
	d.line("")
	d.row(titles...)
	d.row(append([]string{"---"}, slices.Repeat([]string{"--:"}, len(titles)-1)...)...)
}

func (d *writer) row(cells ...string) { d.line("| " + strings.Join(cells, " | ") + " |") }

func (d *writer) heading(title string) { d.line("\n## %s\n", title) }

func (d *writer) setting(r *results) {
	c := r.config
	d.heading("What was run, and on what")
	d.row("", "")
	d.row("---", "---")
	d.row("date", c["date"])
	d.row("revision", c["revision"])
	d.row("machine", fmt.Sprintf("%s processors, %s, %s/%s, kernel %s", c["cpus"], c["cpu"], c["goos"], c["goarch"], c["kernel"]))
	d.row("Go", c["go"])
	d.row("Go modules", strings.Join(r.versions("module-"), ", "))
	d.row("servers", strings.Join(r.versions("server-"), ", "))
	if c["node"] != "" {
		d.row("Node.js", c["node"]+" with "+strings.Join(r.versions("npm-"), ", "))
	}
	if later := r.versions(remeasured); later != nil {
		d.row("measured anew", strings.Join(later, ", "))
	}
	d.row("rounds", c["rounds"]+" of requests; fewer of benchmarks that take long (see All figures)")
	d.line("")
	if c["short"] != "" {
		d.line("This was a short run (`-short`). It is less exact.")
		d.line("")
	}
	d.line("To run it, call `go run ./benchmarks/report` in the root of the repository. It needs Redis and PostgreSQL, which it")
	d.line("starts itself, and uses Node.js if that is installed. With `-short` it takes a few minutes. With `-only core` it prints")
	d.line("ratios and writes no file. The raw results are in `benchmarks/results.txt`, for")
	d.line("[benchstat](https://pkg.go.dev/golang.org/x/perf/cmd/benchstat): `benchstat -col /by benchmarks/results.txt`.")
	d.line("")
	d.line("All contenders keep the same session: a user id, a name, a role, a cart of eight ids and a time. They set the same")
	d.line("cookie attributes. The handlers follow the documentation of each library. They are called in the process, on one")
	d.line("processor, with a ResponseWriter that costs nothing, so that the work of the garbage collector counts. The handlers of")
	d.line("Node.js are called without a socket too, 16 at once. The works are:")
	d.line("")
	for _, w := range works {
		d.line("- **%s**: %s", w.name, w.what)
	}
	d.line("")
	d.line("Everything runs in rounds. In each round every benchmark runs for a short while, so that other load on the machine")
	d.line("affects all of them alike. A ratio is the median of the ratios of the rounds. Beside it are its quartiles, or with fewer")
	d.line("than five rounds the least and the largest, and the ratio of the fastest rounds.")
	d.line("")
	d.line("The floor is a plain middleware, written by hand, without everything that can be left out. It puts the session into the")
	d.line("context. If the handler asks for the session, it finds the cookie, decodes base64, checks an HMAC with a reused state (or")
	d.line("opens AES-GCM with a key derived for the message), decodes, validates, and encodes once to see what changed. Its cookie")
	d.line("has as many bytes as that of this library. The floor is no lower bound: it wraps the request with the standard library")
	d.line("and lets validator check all fields. This library does both with fewer allocations, so the floor may be slower. The lean")
	d.line("floor has a generated codec and the rules as hand-written Go code. It shows how much is left to gain.")
}

func (d *writer) targets(r *results) {
	d.heading("Targets")
	d.line("The median decides whether a target is reached. In targets about another library, the column \"by hand\" has the floor in")
	d.line("place of this library: what its encoder and the server leave to anybody. The column \"no rules\" has this library with")
	d.line("a session type without `validate` tags, since the peers check no rules.")
	d.table("ratio", "median", "quartiles", "of minima", "by hand", "no rules", "target", "")
	for _, t := range targets() {
		m := t.measured(r)
		if m.n == 0 {
			d.row(t.claim, "", "", "", "", "", t.goal(), t.verdict(r))
			continue
		}
		d.row(t.claim, number(m.median), number(m.lower)+" to "+number(m.upper), number(t.minima(r)), t.byHand(r), t.unruled(r), t.goal(), t.verdict(r))
	}
}

func (d *writer) floors(r *results) {
	d.heading("This library beside the floor")
	d.line("The time of a request, and its ratio to the floor of the same kind.")
	for _, p := range []struct{ title, ours, floor string }{
		{"A signed cookie", "signed", "floor"},
		{"A sealed cookie", "sealed", "floor-sealed"},
		{"A signed cookie and a generated codec", "generated", "floor-generated"},
		{"A signed cookie, and the lean floor", "signed", "floor-lean"},
	} {
		d.line("")
		d.line(p.title + ":")
		d.table("work", p.ours, p.floor, "ratio", "allocations", "of the floor")
		for _, w := range works {
			ours, floor := request(w.name, p.ours), request(w.name, p.floor)
			d.row(w.name, duration(r.time(ours)), duration(r.time(floor)), count(r.ratio(ours, floor, "sec/op")),
				count(r.of(ours, "allocs/op")), count(r.of(floor, "allocs/op")))
		}
	}
}

func (d *writer) peers(r *results) {
	d.heading("This library beside its peers")
	d.line("The time of a request, and its ratio to that of this library with a signed cookie. A peer that runs no code unless")
	d.line("a handler calls it has no figures for N and U. The times of gin and echo include their routers. The last column lists")
	d.line("what a contender leaves out, as it is set up here. The ratio is the median of the ratios of the rounds, which is not")
	d.line("exactly the ratio of the medians.")
	titles := []string{"", "session in"}
	for _, w := range works {
		titles = append(titles, w.name)
	}
	d.table(append(titles, "leaves out")...)
	for _, c := range benchmarks.Contenders {
		cells := []string{c.Title, c.Keeps}
		for _, w := range works {
			name := request(w.name, c.Name)
			cell := duration(r.time(name))
			if m := r.ratio(name, request(w.name, "signed"), "sec/op"); m.n > 0 && c.Name != "signed" {
				cell += ", " + number(m.median) + " ×"
			}
			cells = append(cells, cell)
		}
		d.row(append(cells, c.Lacks.String())...)
	}
}

func (d *writer) servers(r *results) {
	d.heading("Sessions in a server")
	d.line("Requests per second of 64 visitors at once. Each has a connection of its own to a net/http server, which has up to 64")
	d.line("connections to Redis or PostgreSQL. Everything runs on the machine above. The floor asks its client for the record and")
	d.line("decodes it. For W it replaces the record if that still has the same version. Redis counts commands and bytes itself,")
	d.line("including the commands inside scripts. Those of PostgreSQL are counted at the connections. PostgreSQL does not wait for")
	d.line("the disk (`synchronous_commit=off`).")
	d.table("", "in", "R, requests/s", "× scs", "W, requests/s", "× scs", "commands, R", "commands, W", "bytes, R", "bytes, W", "leaves out")
	for _, c := range benchmarks.Stored {
		engine, _, _ := strings.Cut(c.Name, "-")
		cells := []string{c.Title, c.Keeps}
		for _, w := range []string{"R", "W"} {
			name, scs := stored(w, c.Name), stored(w, engine+"-scs")
			cells = append(cells, whole(r.of(name, "req/s")), count(r.ratio(scs, name, "sec/op")))
		}
		for _, unit := range []string{"commands/req", "wire-B/req"} {
			for _, w := range []string{"R", "W"} {
				m := r.of(stored(w, c.Name), unit)
				if unit == "wire-B/req" {
					cells = append(cells, whole(m))
				} else {
					cells = append(cells, count(m))
				}
			}
		}
		d.row(append(cells, c.Lacks.String())...)
	}
}

// p99Unit is the unit to which benchfmt converts p99-ns.
const p99Unit = "p99-sec"

func (d *writer) processes(r *results) {
	d.heading("Two processes")
	d.line("Requests of 64 visitors at once, 32 at each of two processes with one Redis. Each visitor has a session and a connection of")
	d.line("its own, and sends the next request when it has the answer. Of 20 requests 19 are R and one is W, at random. The handlers and")
	d.line("the net/http servers are those above. rueidis has its default options but for `DisableRetry`: it sends the commands of")
	d.line("parallel requests over a few connections. go-redis has its default options but for a pool of up to 64 connections in each")
	d.line("process, so that no request waits for one. The processes, Redis and the visitors share the processors of the machine.")
	d.table("", "requests/s", "× scs", "99th percentile", "of that of scs")
	scs := processes("redis-scs")
	for _, c := range benchmarks.Stored {
		name := processes(c.Name)
		if r.time(name).n == 0 {
			continue
		}
		d.row(c.Title, whole(r.of(name, "req/s")), count(r.ratio(scs, name, "sec/op")), duration(r.of(name, p99Unit)), count(r.ratio(name, scs, p99Unit)))
	}
}

func (d *writer) scale(r *results) {
	d.heading("Live sessions")
	d.line("The time of a request for a session that is picked at random from the given number of live sessions. In Redis the other")
	d.line("sessions are keys of the same size.")
	sizes := []int{fewSessions, shortSessions, manySessions}
	titles := []string{"", "work"}
	for _, n := range sizes {
		titles = append(titles, thousands(n))
	}
	d.table(append(titles, "last ÷ first")...)
	for _, by := range []string{"memory", "scs", "redis-ours"} {
		for _, w := range []string{"R", "W"} {
			cells := []string{title(by), w}
			last := ""
			for _, n := range sizes {
				name := scaled(w, by, n)
				m := r.time(name)
				if m.n > 0 {
					last = name
				}
				cells = append(cells, duration(m))
			}
			d.row(append(cells, count(r.ratio(last, scaled(w, by, fewSessions), "sec/op")))...)
		}
	}
	d.line("")
	d.line("The memory of a live session:")
	d.table("", "bytes")
	for _, by := range []string{"memory", "scs"} {
		d.row(title(by), whole(r.of("Memory/by="+by, "B/session")))
	}
}

func (d *writer) cores(r *results) {
	d.heading("Processors")
	d.line("The throughput as a multiple of that of one processor. Each processor has sessions of its own.")
	by := map[string]bool{}
	cpus := map[string]bool{}
	for k := range r.values {
		if rest, ok := strings.CutPrefix(k.name, "Parallel/work=R/by="); ok {
			name, n, _ := strings.Cut(rest, "/cpus=")
			by[name], cpus[n] = true, true
		}
	}
	counts := slices.SortedFunc(maps.Keys(cpus), func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	d.table(append([]string{"", "work"}, counts...)...)
	for _, c := range benchmarks.Contenders {
		if !by[c.Name] {
			continue
		}
		for _, w := range []string{"R", "W"} {
			name := "Parallel/work=" + w + "/by=" + c.Name + "/cpus="
			cells := []string{c.Title, w}
			for _, n := range counts {
				cells = append(cells, count(r.ratio(name+"1", name+n, "sec/op")))
			}
			d.row(cells...)
		}
	}
}

// firstByteUnit is the unit to which benchfmt converts first-byte-ns.
const firstByteUnit = "first-byte-sec"

func (d *writer) firstByte(r *results) {
	d.heading("The first byte")
	d.line("The time from the request to the first byte of the body over a loopback connection, when the handler has changed the")
	d.line("session, and its ratio to that of a handler without a session. It shows whether a middleware holds back the body.")
	d.table("", "1 kB", "ratio", "100 MB", "ratio", "100 MB, all of it", "ratio")
	for _, by := range []string{"bare", "signed", "memory", "scs"} {
		cells := []string{title(by)}
		for _, of := range []struct{ size, unit string }{{"1kB", firstByteUnit}, {"100MB", firstByteUnit}, {"100MB", "sec/op"}} {
			name := func(by string) string { return "FirstByte/by=" + by + "/size=" + of.size }
			cells = append(cells, duration(r.of(name(by), of.unit)), count(r.ratio(name(by), name("bare"), of.unit)))
		}
		d.row(cells...)
	}
}

func (d *writer) footprint(r *results) {
	d.heading("Footprint")
	d.line("The size of a minimal program with a login (`benchmarks/footprint`), built with `-trimpath -ldflags '-s -w'`, and the")
	d.line("number of modules in it besides its own.")
	d.table("", "bytes", "more than net/http", "modules")
	base := r.of("Footprint/by=nethttp", "binary-B").median
	var names []string
	for k := range r.values {
		if name, ok := strings.CutPrefix(k.name, "Footprint/by="); ok && k.unit == "binary-B" {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return int(r.of("Footprint/by="+a, "binary-B").median - r.of("Footprint/by="+b, "binary-B").median)
	})
	for _, name := range names {
		size := r.of("Footprint/by="+name, "binary-B")
		d.row(name, thousands(int(size.median)), thousands(int(size.median-base)), thousands(int(r.of("Footprint/by="+name, "modules").median)))
	}
}

// profiles writes where the time goes. It was not measured in this run: a profile
// slows down what it measures.
func (d *writer) profiles() {
	d.heading("Where the time goes")
	d.line("The share of the samples of a CPU profile with the given code in their stack, before the fast paths (commit 12e0c71) and")
	d.line("with them (04dd079), both on 2026-11-30. Rows overlap: what validator allocates counts twice. With Redis, the process")
	d.line("includes the HTTP server and the clients. In `benchmarks`, with `work=W` and `by=redis-ours` as wanted:")
	d.line("")
	d.line("```")
	d.line("go test -run '^$' -bench '^BenchmarkStore$/^work=W$/^by=redis-ours$' -benchtime 5s -cpuprofile cpu.out")
	d.line("go tool pprof -top -focus go-playground/validator benchmarks.test cpu.out")
	d.line("```")
	d.table("%, before → with the fast paths", "R, signed", "W, signed", "R, Redis", "W, Redis")
	d.row("validator → `certain.go`", "30 → 4", "35 → 3", "5 → 1", "11 → 1")
	d.row("msgpack → `direct.go`", "22 → 23", "25 → 17", "4 → 2", "4 → 3")
	d.row("allocation", "23 → 20", "23 → 22", "10 → 9", "11 → 8")
	d.row("HMAC-SHA-256", "6 → 13", "7 → 13", "1 → 1", "1 → 1")
	d.row("base64", "3 → 8", "4 → 7", "0 → 1", "1 → 0")
	d.row("system calls", "0 → 0", "0 → 0", "29 → 36", "25 → 31")
	d.row("rueidis", "", "", "20 → 32", "28 → 29")
	d.line("")
	d.line("Of a cookie session, a fifth is now the decoding of the fields, and another the HMAC and base64, which nobody can leave")
	d.line("out. With Redis, most of the time is that of the network on both sides, and the session's own code is a few percent.")
}

func (d *writer) figures(r *results) {
	d.heading("All figures")
	d.line("The spread is the distance of the quartiles, relative to the median. The time of a FirstByte here ends with the last byte.")
	d.table("benchmark", "median", "least", "spread", "bytes", "allocations", "rounds")
	for _, k := range slices.SortedFunc(maps.Keys(r.values), func(a, b key) int { return strings.Compare(a.name, b.name) }) {
		if k.unit != "sec/op" {
			continue
		}
		name, m := k.name, r.time(k.name)
		d.row(name, duration(m), duration(summary{median: m.min, n: m.n}), fmt.Sprintf("%.0f %%", 100*(m.upper-m.lower)/m.median),
			whole(r.of(name, "B/op")), whole(r.of(name, "allocs/op")), fmt.Sprint(m.n))
	}
}

// title returns the title of a contender in either list.
func title(name string) string {
	for _, c := range slices.Concat(benchmarks.Contenders, benchmarks.Stored) {
		if c.Name == name {
			return c.Title
		}
	}
	return "no session"
}

// duration formats seconds. It returns "" if nothing was measured.
func duration(m summary) string {
	s := m.median
	switch {
	case m.n == 0:
		return ""
	case s < 1e-6:
		return figures(s*1e9) + " ns"
	case s < 1e-3:
		return figures(s*1e6) + " µs"
	case s < 1:
		return figures(s*1e3) + " ms"
	}
	return figures(s) + " s"
}

// figures formats x with three significant figures.
func figures(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

func count(m summary) string {
	if m.n == 0 {
		return ""
	}
	return number(m.median)
}

func whole(m summary) string {
	if m.n == 0 {
		return ""
	}
	return thousands(int(m.median + 0.5))
}

func number(x float64) string {
	if x == float64(int(x)) {
		return thousands(int(x))
	}
	return figures(x)
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
