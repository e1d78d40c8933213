package main

import (
	"fmt"
	"math"
	"strconv"
)

const (
	million = 1e6
	billion = 1e9
)

// tables returns all tables of docs/SCALE.md. The seed is that of the simulations.
func tables(seed uint64) []table {
	return []table{
		bytesTable(), requestsTable(), shardsTable(), touchTable(), watchTable(), cacheTable(),
		loginTable(seed), hotTable(seed), floodTable(seed), costTable(),
	}
}

func bytesTable() table {
	t := table{"bytes", [][]string{{"200 bytes of data, in", "bytes", "with an owner", "with an owner and a label", "sessions in a GiB", "sessions with an owner in a GiB"}}}
	for _, e := range append([]engine{memory, redis, postgresql}, others...) {
		t.rows = append(t.rows, []string{e.name, number(e.anonymous), number(e.owner), number(e.label), perGiB(e.anonymous), perGiB(e.owner)})
	}
	return t
}

func perGiB(bytes float64) string {
	if bytes == 0 {
		return ""
	}
	return short(gib / bytes)
}

func requestsTable() table {
	t := table{"requests", [][]string{{
		"a request that", "Redis, µs", "application, µs", "bytes", "requests per second and core of Redis",
		"PostgreSQL, µs", "application, µs", "bytes", "requests per second and core of PostgreSQL",
	}}}
	for _, row := range []struct {
		what string
		of   func(engine) cost
	}{
		{"reads", func(e engine) cost { return e.read }},
		{"changes a field", func(e engine) cost { return e.write }},
		{"signs in", func(e engine) cost { return e.login }},
		{"moves the idle end, in addition", func(e engine) cost { return e.touch }},
		{"is the mean of the load below", engine.mean},
	} {
		cells := []string{row.what}
		for _, e := range []engine{redis, postgresql} {
			c := row.of(e)
			cells = append(cells, decimal(c.server), decimal(c.application), number(c.wire), short(1e6/c.server))
		}
		t.rows = append(t.rows, cells)
	}
	return t
}

func shardsTable() table {
	t := table{"shards", [][]string{{"live sessions", "10 million", "1 billion"}}}
	row := func(what string, of func(sessions float64) string) {
		t.rows = append(t.rows, []string{what, of(10 * million), of(billion)})
	}
	row("requests per second, at the peak", func(n float64) string { return short(requests(n)) })
	row("processes of the application", func(n float64) string { return number(requests(n) / perSecond) })
	row("processors that the sessions keep busy in them, with Redis", func(n float64) string { return decimal(requests(n) * redis.mean().application / 1e6) })
	row("Redis: memory, GiB", func(n float64) string { return number(n * redis.owner / gib) })
	row("Redis: masters by memory", func(n float64) string { m, _ := redisShards(n); return number(m) })
	row("Redis: masters by processor time", func(n float64) string { _, p := redisShards(n); return number(p) })
	row("PostgreSQL: disk, GiB", func(n float64) string { return number(n * postgresql.owner / gib) })
	row("PostgreSQL: processors", func(n float64) string { return number(math.Ceil(postgresql.cores(n) / busy)) })
	row("network of all Redis masters, Gbit/s", func(n float64) string { return decimal(requests(n) * redis.mean().wire * 8 / 1e9) })
	row("the same with PostgreSQL", func(n float64) string { return decimal(requests(n) * postgresql.mean().wire * 8 / 1e9) })
	return t
}

func touchTable() table {
	t := table{"touch", [][]string{{"IdleTimeout", "a Touch every", "share of the requests", "more processor time of Redis", "more processor time of PostgreSQL"}}}
	for _, minutes := range []float64{15, 60, 24 * 60} {
		rate := touches(1/think, minutes*60)
		more := func(e engine) string {
			base := (1-writes-logins)*e.read.server + writes*e.write.server + logins*e.login.server
			return percent(rate * think * e.touch.server / base)
		}
		t.rows = append(t.rows, []string{
			number(minutes) + " min", number(1/rate) + " s", percent(rate * think), more(redis), more(postgresql),
		})
	}
	return t
}

func watchTable() table {
	t := table{"watch", [][]string{{"live sessions, processes", "changes per second", "more µs of Redis for a change", "share of a master's processor", "bytes per second to a process"}}}
	for _, n := range []float64{10 * million, billion} {
		processes := requests(n) / perSecond
		changes := requests(n) * (writes + logins + touches(1/think, idle)*think)
		more := firstWatcher + eachWatcher*(processes-1)
		t.rows = append(t.rows, []string{
			fmt.Sprintf("%s, %s", short(n), number(processes)), short(changes), decimal(more),
			percent(changes / mastersOf(n) * more / 1e6), short(changes * changeMessage),
		})
	}
	return t
}

func mastersOf(sessions float64) float64 { return math.Max(redisShards(sessions)) }

func cacheTable() table {
	t := table{"cache", [][]string{{"processes", "loads that miss, any process", "loads that miss, always the same process"}}}
	const visit = 20 // requests
	for _, processes := range []float64{2, 10, 1000} {
		t.rows = append(t.rows, []string{
			number(processes), percent(processesSeen(processes, visit) / visit), percent(1.0 / visit),
		})
	}
	return t
}

func loginTable(seed uint64) table {
	t := table{"logins", [][]string{{"users who wait", "signed in after 5 min", "passwords checked in vain", "asked to come later", "longest queue", "longest wait, s", "over after, s"}}}
	add := func(what string, r loginRush) {
		got := r.simulate(seed)
		end := number(got.end)
		if got.end > horizon-1 {
			end = "never"
		}
		t.rows = append(t.rows, []string{what, number(float64(got.signedIn)), number(float64(got.wasted)), number(float64(got.refused)), number(float64(got.queue)), number(got.wait), end})
	}
	r := exampleRush
	add("for ever", r)
	queue, wait, end := r.formula()
	t.rows = append(t.rows, []string{"for ever, by the formula", "", "", "", number(queue), number(wait), number(end)})
	r.patience = 10
	add("for 10 s", r)
	heeds, refuses := r, r
	heeds.heeds, refuses.refuses = true, true
	add("for 10 s; the handler looks at the context before it checks", heeds)
	add("for 10 s; a 503 with Retry-After for those who would wait for 5 s", refuses)
	return t
}

func hotTable(seed uint64) table {
	t := table{"hot", [][]string{{"requests at once, processes", "failed tries for each that succeeds", "the same if requests never cease", "that by the formula", "last one stored after, ms", "answered with an error"}}}
	for _, row := range []struct{ requests, processes int }{{8, 2}, {64, 2}, {64, 16}, {1000, 4}, {1000, 100}, {10_000, 4}} {
		h := exampleHot
		h.requests, h.processes = row.requests, row.processes
		got := h.simulate(seed)
		h.forever = 1
		steady := h.simulate(seed)
		failed, _ := h.conflicts()
		t.rows = append(t.rows, []string{
			fmt.Sprintf("%s, %d", number(float64(h.requests)), h.processes), decimal(ratio(got.conflicts, got.stored)),
			decimal(ratio(steady.conflicts, steady.stored)), decimal(failed), number(got.end * 1000), count(got.failed),
		})
	}
	return t
}

func ratio(a, b int) float64 { return float64(a) / float64(b) }

func floodTable(seed uint64) table {
	t := table{"flood", [][]string{{"20 visitors per second, who", "records, mean", "by Little's law", "most", "MiB of MemoryStore", "MiB of Redis", "age of a session that gives way, s"}}}
	add := func(what string, change func(f *flood)) {
		f := exampleFlood
		change(&f)
		got := f.simulate(seed)
		live, _ := f.formula()
		age := ""
		if got.evicted > 0 {
			age = number(got.age)
		}
		t.rows = append(t.rows, []string{what, number(got.live), number(live), number(float64(got.most)),
			decimal(got.live * memory.anonymous / (1 << 20)), decimal(got.live * redis.anonymous / (1 << 20)), age})
	}
	add("only look", func(f *flood) { f.keeps = 0 })
	add("fill a cart, one in ten; AnonymousLifetime 1 h", func(f *flood) { f.keeps = 0.1 })
	add("get a record each; AnonymousLifetime 1 h", func(*flood) {})
	add("the same; AnonymousLifetime 10 min", func(f *flood) { f.lifetime = 600 })
	add("get a record each; MemoryStore with room for 20,000", func(f *flood) { f.max = 20_000 })
	return t
}

func costTable() table {
	t := table{"cost", [][]string{{"US dollars a month", "10 million", "1 billion", "1,000 sessions of a billion"}}}
	add := func(what string, of func(sessions float64) float64) {
		t.rows = append(t.rows, []string{what, number(of(10 * million)), number(of(billion)), strconv.FormatFloat(of(billion)/million, 'f', 3, 64)})
	}
	month := func(rate float64) float64 { return rate * meanLoad * 3600 * hours / 1e9 } // GB of bytes in a second at the peak
	add("Redis, each master with a replica, at an assumed price", func(n float64) float64 { return mastersOf(n) * 2 * redisNode * hours })
	add("PostgreSQL with a synchronous standby", func(n float64) float64 {
		return math.Ceil(postgresql.cores(n)/busy/sqlCores)*2*sqlNode*hours + n*postgresql.owner/1e9*2*2*sqlDisk
	})
	add("network between zones, Redis", func(n float64) float64 { return 2.0 / 3 * month(requests(n)*redis.mean().wire) * betweenZones })
	add("cookies only: Set-Cookie to the internet", func(n float64) float64 {
		return month(requests(n)*(writes+logins+touches(1/think, idle)*think)*cookieBytes) * toInternet
	})
	return t
}

// number returns a whole number with commas, "" for zero, which is not measured or
// does not apply.
func number(x float64) string {
	if x == 0 {
		return ""
	}
	s := strconv.FormatFloat(math.Round(x), 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// count returns a whole number of which zero is one too.
func count(n int) string {
	if n == 0 {
		return "0"
	}
	return number(float64(n))
}

func decimal(x float64) string {
	if x >= 100 {
		return number(x)
	}
	return strconv.FormatFloat(x, 'f', 1, 64)
}

func percent(x float64) string { return decimal(100*x) + " %" }

// short returns a number with three digits that count.
func short(x float64) string {
	switch {
	case x >= billion:
		return strconv.FormatFloat(x/billion, 'g', 3, 64) + " billion"
	case x >= million:
		return strconv.FormatFloat(x/million, 'g', 3, 64) + " million"
	}
	digits := math.Pow(10, math.Floor(math.Log10(x))-2)
	return number(math.Round(x/digits) * digits)
}
