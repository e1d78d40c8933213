package benchmarks

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/redis/rueidis"
)

// live is small by default, so that all benchmarks run once within seconds.
var live = flag.Int("sessions", 1_000, "the largest `number` of live sessions that BenchmarkScale and BenchmarkMemory prepare")

// sizes returns the numbers of live sessions to compare.
func sizes() []int {
	var some []int
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		if n <= *live {
			some = append(some, n)
		}
	}
	return some
}

// maxAsked bounds the number of live sessions that are requested. It is so large
// that their records do not fit into the caches of the processor.
const maxAsked = 1 << 17

// BenchmarkScale measures requests for randomly selected live sessions.
func BenchmarkScale(b *testing.B) {
	for _, by := range []string{"memory", "scs"} {
		for _, n := range sizes() {
			a := apps[by](b)
			cookies := populate(b, a, n)
			for _, w := range works[:2] {
				b.Run(fmt.Sprintf("work=%s/by=%s/sessions=%d", w.name, by, n), func(b *testing.B) {
					serveAny(b, w.handler(a), cookies)
				})
			}
		}
	}
	engines := map[int]*engine{}
	for _, n := range sizes() {
		engines[n] = startEngine(b, "Redis")
		a := storedApps["redis-ours"](b, engines[n])
		fill(b, engines[n].rueidis(b), n-connections)
		for _, w := range works[:2] {
			b.Run(fmt.Sprintf("work=%s/by=redis-ours/sessions=%d", w.name, n), func(b *testing.B) {
				load(b, engines[n], connect(b, w.handler(a), visitors(b, a, connections)))
			})
		}
	}
}

// populate creates n sessions and returns the cookies of those to request, in
// random order.
func populate(tb testing.TB, a app, n int) []string {
	tb.Helper()
	asked := make([]string, 0, min(n, maxAsked))
	every := n / cap(asked)
	create(a, n, func(i int, cookie string) {
		if i%every == 0 && len(asked) < cap(asked) {
			asked = append(asked, cookie)
		}
	})
	rand.Shuffle(len(asked), func(i, j int) { asked[i], asked[j] = asked[j], asked[i] })
	return asked
}

func create(a app, n int, each func(i int, cookie string)) {
	h, w, r := a.login(visitor()), &lightWriter{header: http.Header{}}, new(http.Request)
	fresh := request("")
	for i := range n {
		clear(w.header)
		*r = *fresh
		h.ServeHTTP(w, r)
		cookie, _, _ := strings.Cut(w.header.Get("Set-Cookie"), ";")
		each(i, cookie)
	}
}

// serveAny is like serve, but uses the cookies in turn.
func serveAny(b *testing.B, h http.Handler, cookies []string) {
	w, r, fresh := &lightWriter{header: http.Header{}}, new(http.Request), request("")
	lines := make([]string, len(cookies))
	for i, cookie := range cookies {
		lines[i] = around(cookie)
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		*r = *fresh
		fresh.Header["Cookie"] = lines[i : i+1]
		if i++; i == len(lines) {
			i = 0
		}
		h.ServeHTTP(w, r)
	}
}

// fill stores n keys in Redis with values of the size of a session.
func fill(tb testing.TB, client rueidis.Client, n int) {
	tb.Helper()
	const batch = 1_000
	value := strings.Repeat("x", 200)
	for i := 0; i < n; i += batch {
		var commands rueidis.Commands
		for j := i; j < min(i+batch, n); j++ {
			commands = append(commands, client.B().Set().Key(fmt.Sprint("filler:", j)).Value(value).Ex(lifetime).Build())
		}
		for _, result := range client.DoMulti(context.Background(), commands...) {
			if err := result.Error(); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// BenchmarkMemory measures the memory of a live session, and the time to create
// one.
func BenchmarkMemory(b *testing.B) {
	n := min(*live, 100_000)
	for _, by := range []string{"memory", "scs"} {
		b.Run("by="+by, func(b *testing.B) {
			var bytes uint64
			for b.Loop() {
				before := heap()
				a := apps[by](b)
				create(a, n, func(int, string) {})
				bytes = heap() - before
				runtime.KeepAlive(a)
			}
			b.ReportMetric(float64(bytes)/float64(n), "B/session")
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // the objects in a sync.Pool survive one collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkParallel measures requests in as many goroutines as there are processors,
// each with its own session.
func BenchmarkParallel(b *testing.B) {
	for _, w := range works[:2] {
		for _, by := range []string{"signed", "memory", "scs", "gorilla"} {
			a := apps[by](b)
			h := w.handler(a)
			b.Run("work="+w.name+"/by="+by, func(b *testing.B) {
				b.RunParallel(func(pb *testing.PB) {
					fresh := request(signIn(b, a, visitor()))
					rw, r := &lightWriter{header: http.Header{}}, new(http.Request)
					for pb.Next() {
						clear(rw.header)
						*r = *fresh
						h.ServeHTTP(rw, r)
					}
				})
			})
		}
	}
}
