// Package testserver starts the servers that tests talk to: on a loopback port
// that the system picks, in a temporary folder, as an unprivileged user where
// the server demands one. They stop with the test, and with the test's process,
// however that ends.
package testserver

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Server is a running server of a test.
type Server struct {
	Addr string // host:port
	Dir  string // its data and its log

	t      testing.TB
	engine engine
	args   []string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// An engine is how to run one kind of server.
type engine struct {
	command string   // looked for in folders, then in PATH
	folders []string // patterns; the last match wins
	debian  string   // the package that brings it

	// unprivileged engines refuse to run as root.
	unprivileged bool
	// stop ends the server at once, and so that it leaves nothing behind.
	stop syscall.Signal

	prepare func(s *Server) (*exec.Cmd, error) // makes the data folder; may be nil
	args    func(s *Server) []string
	ready   func(s *Server) error
}

// Where the system's own folders for servers are not in PATH.
var serverFolders = []string{"/usr/sbin", "/usr/local/sbin"}

const (
	startTimeout = time.Minute
	startTries   = 5 // another process may take the port before the server does
)

// start starts a server for the time of the test. Its log is shown if the test
// fails. In the arguments, {addr}, {host}, {port} and {dir} stand for the
// server's own.
func start(t testing.TB, e engine, args []string) *Server {
	t.Helper()
	if _, err := e.find(e.command); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v: install Debian's package %s", err, e.debian)
		}
		t.Skipf("%v: install Debian's package %s", err, e.debian)
	}
	dir, err := os.MkdirTemp("", "testserver-")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Dir: dir, t: t, engine: e, args: args}
	t.Cleanup(func() {
		s.signal(e.stop)
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", e.command, s.Log())
		}
		_ = os.RemoveAll(dir)
	})
	if uid, gid, ok := s.credential(); ok {
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	if e.prepare != nil {
		cmd, err := e.prepare(s)
		if err != nil {
			t.Fatal(err)
		}
		s.confine(cmd)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd.Path, err, out)
		}
	}
	for try := 1; ; try++ {
		s.Addr = FreeAddr(t)
		err := s.run()
		if err == nil {
			return s
		}
		if try == startTries {
			t.Fatal(err)
		}
	}
}

// Restart starts the server again after Kill or Stop, at the same address and
// with the data that is in its folder, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	// The address and the memory of the process before may take a moment to
	// become free.
	var err error
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		if err = s.run(); err == nil {
			return
		}
	}
	s.t.Fatal(err)
}

// Kill ends the server as a crash does, with SIGKILL.
func (s *Server) Kill() { s.signal(syscall.SIGKILL) }

// Stop ends the server as an operator does, with SIGTERM.
func (s *Server) Stop() { s.signal(syscall.SIGTERM) }

// Pause stops the server from doing anything, until Continue: it hangs.
func (s *Server) Pause() { _ = s.process().Signal(syscall.SIGSTOP) }

// Continue ends a Pause.
func (s *Server) Continue() { _ = s.process().Signal(syscall.SIGCONT) }

// Log returns the end of what the server wrote to its log.
func (s *Server) Log() string {
	log, err := os.ReadFile(filepath.Join(s.Dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-10_000):])
}

func (s *Server) process() *os.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd.Process
}

// signal sends the process a signal and waits for its end.
func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	cmd, done := s.cmd, s.done
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGCONT)
	_ = cmd.Process.Signal(sig)
	select {
	case <-done:
	case <-time.After(startTimeout):
		_ = cmd.Process.Kill()
		<-done
	}
}

// run starts the process once and waits until it answers.
func (s *Server) run() error {
	path, err := s.engine.find(s.engine.command)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	host, port, _ := net.SplitHostPort(s.Addr)
	args := slices.Concat(s.engine.args(s), s.args)
	for i := range args {
		args[i] = strings.NewReplacer("{addr}", s.Addr, "{host}", host, "{port}", port, "{dir}", s.Dir).Replace(args[i])
	}
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	s.confine(cmd)
	if err := startOnLastingThread(cmd); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	s.mu.Lock()
	s.cmd, s.done = cmd, done
	s.mu.Unlock()

	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		if err = s.engine.ready(s); err == nil {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("%s ended: %v\n%s", path, cmd.ProcessState, s.Log())
		case <-poll.C:
		}
	}
	s.signal(s.engine.stop)
	return fmt.Errorf("%s does not answer: %v\n%s", path, err, s.Log())
}

// find returns the path of a command of the engine.
func (e engine) find(command string) (string, error) {
	for _, folder := range e.folders {
		matches, _ := filepath.Glob(filepath.Join(folder, command))
		if len(matches) > 0 {
			return matches[len(matches)-1], nil
		}
	}
	return exec.LookPath(command)
}

// credential returns the user to run as, if that is not the one of the test.
func (s *Server) credential() (uid, gid int, ok bool) {
	if !s.engine.unprivileged || os.Getuid() != 0 {
		return 0, 0, false
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		s.t.Fatalf("%s refuses to run as root: %v", s.engine.command, err)
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid, true
}

// FreeAddr returns a loopback address that nothing listens at.
func FreeAddr(t testing.TB) string {
	t.Helper()
	// Not 127.0.0.1 where there is another one: clients get their own ports
	// there, and while the server is down one of them could take the server's,
	// or even connect to itself.
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
