package testserver_test

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions/internal/testserver"
)

var engines = []struct {
	name  string
	start func(t testing.TB, args ...string) *testserver.Server
}{
	{"redis", testserver.Redis},
	{"memcached", testserver.Memcached},
	{"postgres", testserver.Postgres},
	{"mariadb", testserver.MariaDB},
}

// answers reports whether something accepts connections there.
func answers(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

// falls waits until nothing answers there any more.
func falls(t *testing.T, addr string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); answers(addr); {
		if time.Now().After(deadline) {
			t.Fatal("it still answers after a minute")
		}
	}
}

func TestServersStartDieAndComeBack(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			var addr, dir string
			t.Run("while its test runs", func(t *testing.T) {
				s := e.start(t)
				addr, dir = s.Addr, s.Dir
				if !answers(s.Addr) {
					t.Error("it does not answer")
				}
				s.Kill()
				falls(t, s.Addr) // a child of it may have the socket for a moment
				s.Restart()
				if !answers(s.Addr) {
					t.Error("it does not answer after Restart")
				}
			})
			if addr == "" {
				return // skipped
			}
			falls(t, addr)
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("its folder is left: %v", err)
			}
		})
	}
}

func TestServersEndWithAProcessThatPanics(t *testing.T) {
	if addrs := os.Getenv("TESTSERVER_PANIC"); addrs != "" {
		s := testserver.Redis(t)
		if err := os.WriteFile(addrs, []byte(s.Addr), 0o600); err != nil {
			t.Fatal(err)
		}
		go func() { panic("as a test may") }()
		select {}
	}
	file := t.TempDir() + "/addr"
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "TESTSERVER_PANIC="+file)
	out, err := cmd.CombinedOutput()
	addr, fileErr := os.ReadFile(file)
	if fileErr != nil {
		if os.Getenv("CI") != "true" {
			t.Skipf("no server was started: %s", out)
		}
		t.Fatalf("no server was started: %s", out)
	}
	if err == nil {
		t.Error("the process did not panic")
	}
	falls(t, string(addr))
}

func TestAMissingServerIsASkipThatNamesThePackageAndAFailureInCI(t *testing.T) {
	if os.Getenv("TESTSERVER_MISSING") != "" {
		testserver.Memcached(t)
		return
	}
	for ci, want := range map[string]string{"": "--- SKIP: ", "true": "--- FAIL: "} {
		cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "TESTSERVER_MISSING=yes", "PATH="+t.TempDir(), "CI="+ci)
		out, _ := cmd.CombinedOutput()
		for _, part := range []string{want, "install Debian's package memcached"} {
			if !strings.Contains(string(out), part) {
				t.Errorf("CI=%s: got\n%s\nwant %q in it", ci, out, part)
			}
		}
	}
}

func TestAPausedServerHangs(t *testing.T) {
	s := testserver.Redis(t)
	s.Pause()
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 7)
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := c.Read(answer); !os.IsTimeout(err) {
		t.Errorf("a paused server answers: %v", err)
	}
	s.Continue()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(answer); err != nil || string(answer) != "+PONG\r\n" {
		t.Errorf("got %q, %v after Continue, want +PONG", answer, err)
	}
}
