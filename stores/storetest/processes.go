package storetest

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/typedsessions/sessions"
)

// whereVariable names the environment variable that is set to where in the
// processes that RunProcesses starts.
const whereVariable = "STORETEST_WHERE"

// RunProcesses checks the promises of sessions when two processes serve them from
// one store. It starts the test binary twice, with only the calling test, and sends
// requests to both processes. In these processes, RunProcesses returns when the
// requests are done.
//
// The function open returns the store that where names, for instance an address
// and a prefix, or a folder. It is called in this process and in both others, and
// must return the same store in all of them.
//
// The other processes also execute the code of the test before the call of
// RunProcesses. A test that starts a server should do so only if the environment
// variable STORETEST_WHERE is not set. RunProcesses sets it to where in the
// processes that it starts.
func RunProcesses(t *testing.T, where string, open func(t testing.TB, where string) sessions.Store) {
	if where, ok := os.LookupEnv(whereVariable); ok {
		run(t, steady(), 0, func(s *tester) { serveParent(newApp(s, open(t, where), false)) })
		return
	}
	apps := [2]string{startProcess(t, where), startProcess(t, where)}
	store := open(t, where)
	p := steady()
	clauses := sessionClauses
	if is[sessions.Watcher](store) {
		clauses = slices.Concat(clauses, watchedClauses)
	}
	for _, c := range clauses {
		t.Run("two processes: "+c.name, func(t *testing.T) {
			run(t, p, testTimeout, func(s *tester) { c.check(&visit{subject: newSubject(s, store), apps: apps}) })
		})
	}
}

// urlPrefix is the beginning of the line by which a process tells its parent the
// URL of its app.
const urlPrefix = "storetest serves at "

// serveParent serves until the parent closes the standard input or exits.
func serveParent(a *app) {
	_, _ = os.Stdout.WriteString("\n" + urlPrefix + a.url + "\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startProcess runs this test in another process until the test ends. It returns
// the URL of the app in that process.
func startProcess(t *testing.T, where string) string {
	t.Helper()
	var pattern []string
	for _, part := range strings.Split(t.Name(), "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	cmd := exec.Command(os.Args[0], "-test.run="+strings.Join(pattern, "/"), "-test.v")
	cmd.Env = append(os.Environ(), whereVariable+"="+where)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	urls := make(chan string, 1)
	rest := make(chan string, 1)
	go func() {
		var output strings.Builder
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if url, ok := strings.CutPrefix(lines.Text(), urlPrefix); ok {
				urls <- url
			}
			output.WriteString(lines.Text() + "\n")
		}
		close(urls)
		rest <- output.String()
	}()
	t.Cleanup(func() {
		_ = stdin.Close() // ends the process
		output := <-rest
		if err := cmd.Wait(); err != nil {
			t.Errorf("the other process: %v\n%s", err, output)
		}
	})
	url, ok := <-urls
	if !ok {
		t.Fatal("the other process exited before it served")
	}
	return url
}
