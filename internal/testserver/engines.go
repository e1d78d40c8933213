package testserver

import (
	"bufio"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Redis starts a Redis server that keeps nothing on disk, unless the arguments
// ("--appendonly", "yes") say so.
func Redis(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, engine{
		command: "redis-server",
		debian:  "redis-server",
		stop:    syscall.SIGKILL,
		args: func(s *Server) []string {
			return []string{"--bind", "{host}", "--port", "{port}", "--dir", "{dir}", "--save", "", "--daemonize", "no"}
		},
		ready: func(s *Server) error {
			answer, err := ask(s.Addr, "PING\r\n")
			if err == nil && strings.HasPrefix(answer, "-LOADING") {
				err = fmt.Errorf("it answers %q", answer)
			}
			return err
		},
	}, args)
}

// Program starts the program at path, for instance one that the test has built. It
// must greet those who connect.
func Program(t testing.TB, path string, args ...string) *Server {
	t.Helper()
	return start(t, engine{
		command: path,
		stop:    syscall.SIGKILL,
		args:    func(*Server) []string { return nil },
		ready: func(s *Server) error {
			_, err := ask(s.Addr, "")
			return err
		},
	}, args)
}

// Memcached starts a memcached.
func Memcached(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, engine{
		command:      "memcached",
		debian:       "memcached",
		unprivileged: true,
		stop:         syscall.SIGKILL,
		args: func(s *Server) []string {
			return []string{"-l", "{host}", "-p", "{port}", "-U", "0"}
		},
		ready: func(s *Server) error {
			_, err := ask(s.Addr, "version\r\n")
			return err
		},
	}, args)
}

// Postgres starts a PostgreSQL server; see [Server.PostgresURL]. Settings are
// "name=value".
func Postgres(t testing.TB, settings ...string) *Server {
	t.Helper()
	e := engine{
		command:      "postgres",
		folders:      []string{"/usr/lib/postgresql/*/bin"},
		debian:       "postgresql",
		unprivileged: true,
		// At once, but its children and its shared memory go too.
		stop: syscall.SIGQUIT,
		args: func(s *Server) []string {
			host, port, _ := net.SplitHostPort(s.Addr)
			return []string{"-D", filepath.Join(s.Dir, "data"), "-h", host, "-p", port, "-k", s.Dir}
		},
	}
	e.prepare = func(s *Server) (*exec.Cmd, error) {
		initdb, err := e.find("initdb")
		if err != nil {
			return nil, err
		}
		return exec.Command(initdb, "-D", filepath.Join(s.Dir, "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"), nil
	}
	e.ready = func(s *Server) error {
		isReady, err := e.find("pg_isready")
		if err != nil {
			return err
		}
		host, port, _ := net.SplitHostPort(s.Addr)
		if out, err := exec.Command(isReady, "-h", host, "-p", port, "-U", "postgres").CombinedOutput(); err != nil {
			return fmt.Errorf("%s%w", out, err)
		}
		return nil
	}
	var args []string
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	return start(t, e, args)
}

// PostgresURL returns the URL of the database postgres of a server that
// Postgres started, for its superuser.
func (s *Server) PostgresURL() string {
	return "postgres://postgres@" + s.Addr + "/postgres?sslmode=disable"
}

// MariaDB starts a MariaDB server with the user root, who has no password.
// Options are "--name=value".
func MariaDB(t testing.TB, options ...string) *Server {
	t.Helper()
	e := engine{
		command:      "mariadbd",
		folders:      serverFolders,
		debian:       "mariadb-server",
		unprivileged: true,
		stop:         syscall.SIGKILL,
		args: func(s *Server) []string {
			return []string{
				"--no-defaults", "--datadir={dir}/data", "--bind-address={host}", "--port={port}",
				"--socket={dir}/socket", "--pid-file={dir}/pid",
			}
		},
		ready: func(s *Server) error {
			_, err := ask(s.Addr, "") // it greets
			return err
		},
	}
	e.prepare = func(s *Server) (*exec.Cmd, error) {
		install, err := e.find("mariadb-install-db")
		if err != nil {
			return nil, err
		}
		return exec.Command(install, "--no-defaults", "--datadir="+filepath.Join(s.Dir, "data"), "--auth-root-authentication-method=normal", "--skip-test-db"), nil
	}
	return start(t, e, options)
}

// ask connects, sends a question and returns the first line of the answer.
func ask(addr, question string) (string, error) {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte(question)); err != nil {
		return "", err
	}
	if question == "" {
		_, err := bufio.NewReader(c).ReadByte()
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}
