package storetest

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/typedsessions/sessions"
)

// whereVariable tells a process that RunProcesses started which store to open.
const whereVariable = "STORETEST_WHERE"

// RunProcesses checks what sessions promise when two processes serve them from
// one store. It runs the test's binary twice, for the calling test alone, and
// sends requests to both; those processes return from the test when that is
// done.
//
// open returns the store that where names (an address and a prefix, a folder),
// the same in every process. It is called in this process and in both others.
// What the test does before RunProcesses is done there too; a test that starts
// a server may look at the environment variable STORETEST_WHERE first: it is set
// to where in the processes that RunProcesses started, and only there.
func RunProcesses(t *testing.T, where string, open func(t testing.TB, where string) sessions.Store) {
	if where, ok := os.LookupEnv(whereVariable); ok {
		serveParent(newApp(t, open(t, where)))
		return
	}
	apps := [2]string{startProcess(t, where), startProcess(t, where)}
	store := open(t, where)
	for _, c := range sessionClauses {
		t.Run("two processes: "+c.name, func(t *testing.T) {
			c.check(&visit{subject: newSubject(t, store), apps: apps})
		})
	}
}

// urlPrefix begins the line by which a process says where it serves.
const urlPrefix = "storetest serves at "

// serveParent serves until the parent closes the standard input, or ends.
func serveParent(a *app) {
	_, _ = os.Stdout.WriteString("\n" + urlPrefix + a.url + "\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startProcess runs this test in another process until the test ends, and
// returns where that serves.
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
		_ = stdin.Close() // the process ends
		output := <-rest
		if err := cmd.Wait(); err != nil {
			t.Errorf("the other process: %v\n%s", err, output)
		}
	})
	url, ok := <-urls
	if !ok {
		t.Fatal("the other process ended before it served")
	}
	return url
}
