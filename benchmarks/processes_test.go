package benchmarks

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/typedsessions/sessions/internal/testserver"
)

// writes is the percentage of the requests of BenchmarkProcesses that change their
// session.
const writes = 5

// inProcesses returns the contenders of BenchmarkProcesses.
func inProcesses() (some []Contender) {
	for _, c := range Stored {
		if c.Keeps == "Redis" && !strings.HasSuffix(c.Name, Unruled) && c.Name != "redis-floor-cached" {
			some = append(some, c)
		}
	}
	return some
}

// BenchmarkProcesses measures requests of 64 concurrent visitors, each over its own
// connection to one of two processes that keep the sessions in one Redis. Of 20
// requests 19 read the session, and one changes it, at random.
func BenchmarkProcesses(b *testing.B) {
	e := startEngine(b, "Redis")
	fmt.Println(e.version())
	for _, c := range shuffled(inProcesses()) {
		b.Run("by="+c.Name, func(b *testing.B) {
			visitors := visitProcesses(b, e, c.Name)
			shop(b, visitors, warmUp*len(visitors))
			b.ResetTimer()
			took := shop(b, visitors, b.N)
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
		})
	}
}

// A processVisitor sends requests to one process, over one connection.
type processVisitor struct{ read, write *client }

// visitProcesses starts two processes with an app and returns visitors who have
// signed in, half of them in each process.
func visitProcesses(tb testing.TB, e *engine, name string) (all []processVisitor) {
	tb.Helper()
	addrs := [2]string{startProcess(tb, e, name), startProcess(tb, e, name)}
	for i := range connections {
		addr := addrs[i%2]
		cookie := signInAt(tb, addr)
		read := dial(tb, addr, "/R", cookie)
		write := *read
		write.request = requestBytes("/W", cookie)
		all = append(all, processVisitor{read, &write})
	}
	return all
}

func signInAt(tb testing.TB, addr string) (cookie string) {
	tb.Helper()
	res, err := http.Get("http://" + addr + "/L")
	if err != nil {
		tb.Fatal(err)
	}
	_ = res.Body.Close()
	cookie, _, ok := strings.Cut(res.Header.Get("Set-Cookie"), ";")
	if !ok {
		tb.Fatalf("a login at a process: got status %d and no cookie", res.StatusCode)
	}
	return cookie
}

// shop sends n requests and returns how long each took.
func shop(tb testing.TB, visitors []processVisitor, n int) []time.Duration {
	var sent atomic.Int64
	var wg sync.WaitGroup
	took := make([]time.Duration, n)
	for _, v := range visitors {
		wg.Go(func() {
			for i := sent.Add(1); i <= int64(n); i = sent.Add(1) {
				c := v.read
				if rand.N(100) < writes {
					c = v.write
				}
				began := time.Now()
				if err := c.get(); err != nil {
					tb.Error(err)
					return
				}
				took[i-1] = time.Since(began)
			}
		})
	}
	wg.Wait()
	return took
}

// These environment variables are set in the processes that startProcess starts.
const (
	appVariable   = "BENCHMARKS_APP"   // name of the contender
	redisVariable = "BENCHMARKS_REDIS" // address
)

// urlPrefix is the beginning of the line by which a process tells its parent where it
// listens.
const urlPrefix = "a process of the benchmarks serves at "

// startProcess runs this test binary in another process, which serves the app of
// a contender until the test ends. It returns the address.
func startProcess(tb testing.TB, e *engine, name string) (addr string) {
	tb.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestProcessesShareTheirSessions$", "-test.v")
	cmd.Env = append(os.Environ(), appVariable+"="+name, redisVariable+"="+e.server.Addr)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	output := bufio.NewReader(stdout)
	tb.Cleanup(func() {
		_ = stdin.Close() // ends the process
		rest, _ := io.ReadAll(output)
		if err := cmd.Wait(); err != nil {
			tb.Errorf("the process of %s: %v\n%s", name, err, rest)
		}
	})
	for {
		line, err := output.ReadString('\n')
		if err != nil {
			tb.Fatalf("the process of %s does not serve: %v", name, err)
		}
		if addr, ok := strings.CutPrefix(strings.TrimSpace(line), urlPrefix); ok {
			return addr
		}
	}
}

// serveParent serves the app of a contender until the parent closes the standard
// input or exits.
func serveParent(t *testing.T, name string) {
	a := storedApps[name](t, &engine{server: &testserver.Server{Addr: os.Getenv(redisVariable)}})
	mux := http.NewServeMux()
	mux.Handle("/R", a.read(expect(true)))
	mux.Handle("/W", a.write(counter()))
	mux.Handle("/L", a.login(visitor()))
	server := httptest.NewServer(mux)
	defer server.Close()
	fmt.Println("\n" + urlPrefix + server.Listener.Addr().String())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// In a process that startProcess has started, this test serves.
func TestProcessesShareTheirSessions(t *testing.T) {
	if name, ok := os.LookupEnv(appVariable); ok {
		serveParent(t, name)
		return
	}
	e := startEngine(t, "Redis")
	for _, c := range inProcesses() {
		t.Run(c.Name, func(t *testing.T) {
			here, there := startProcess(t, e, c.Name), startProcess(t, e, c.Name)
			cookie := signInAt(t, here)
			for _, addr := range []string{here, there} {
				for _, path := range []string{"/R", "/W", "/R"} {
					if err := dial(t, addr, path, cookie).get(); err != nil {
						t.Errorf("%s: %v", path, err)
					}
				}
			}
			if err := dial(t, there, "/R", forged(cookie)).get(); err == nil {
				t.Error("a process reads the session of a forged cookie")
			}
		})
	}
}
