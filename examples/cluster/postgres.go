package main

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A postgres is a server of PostgreSQL, behind a link.
type postgres struct {
	addr string // the server's own
	link string // address of the link
	dir  string // of its data
	cmd  *exec.Cmd
	db   *sql.DB // of its superuser
}

// startPostgres starts a primary, and a standby that has every acknowledged write.
func (e *engine) startPostgres(ctx context.Context) error {
	if err := giveToServerUser(e.dir); err != nil {
		return err
	}
	var hosts []string
	for i := range e.postgres {
		p := &postgres{addr: freeAddr()}
		db, err := sql.Open("pgx", "postgres://postgres@"+p.addr+"/postgres?sslmode=disable&connect_timeout=5")
		if err != nil {
			return err
		}
		db.SetMaxOpenConns(2)
		p.db, e.postgres[i] = db, p
		e.stops = append(e.stops, func() { _ = p.db.Close(); p.kill() })
		if p.link, err = e.addLink(p.addr); err != nil {
			return err
		}
		hosts = append(hosts, p.link)
	}
	primary, standby := e.postgres[0], e.postgres[1]
	primary.dir = filepath.Join(e.dir, "0")
	err := runServerProgram("initdb", "-D", primary.dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
	if err != nil {
		return err
	}
	if err := primary.start(ctx, e.dir); err != nil {
		return err
	}
	if err := e.addStandby(ctx, primary, standby); err != nil {
		return err
	}
	// A connection takes longer than a second when a busy machine opens many at once, and
	// a request has five seconds.
	e.connect = connection{Postgres: "postgres://postgres@" + strings.Join(hosts, ",") + "/postgres?sslmode=disable&target_session_attrs=read-write&connect_timeout=3"}
	failOver := func(name, commit string) engineFault {
		return engineFault{name: name, loses: commit == "off", do: func(ctx context.Context, _ int) (string, error) {
			return "synchronous_commit = " + commit, e.promote(ctx, commit)
		}}
	}
	e.faults = append(e.networkFaults(), failOver("primary", "on"), failOver("async", "off"))
	return nil
}

// start starts the server, and waits until it answers.
func (p *postgres) start(ctx context.Context, sockets string) error {
	host, port, _ := net.SplitHostPort(p.addr)
	path, err := findServerProgram("postgres")
	if err != nil {
		return err
	}
	// The files survive a server that is killed, also without fsync.
	p.cmd = exec.Command(path, "-D", p.dir, "-h", host, "-p", port, "-k", sockets, "-c", "fsync=off", "-c", "max_connections=200",
		"-c", "wal_keep_size=256MB", "-c", "wal_receiver_timeout=5s", "-c", "wal_retrieve_retry_interval=100ms")
	log, err := os.Create(p.dir + ".log")
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	asServerUser(p.cmd)
	if err := startProcess(p.cmd); err != nil {
		return err
	}
	err = eventually(ctx, "PostgreSQL does not answer at "+p.addr, func() bool { return p.db.PingContext(ctx) == nil })
	if err != nil {
		said, _ := os.ReadFile(p.dir + ".log")
		return fmt.Errorf("%w: %s", err, said)
	}
	return nil
}

// kill ends the server at once, without a checkpoint, as a crash does. Unlike after
// SIGKILL, its child processes and its shared memory go too.
func (p *postgres) kill() {
	if p.cmd == nil || p.cmd.Process == nil || p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	_ = p.cmd.Wait()
}

func (p *postgres) exec(ctx context.Context, statements ...string) error {
	for _, s := range statements {
		if _, err := p.db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// addStandby makes a standby with a copy of the primary, and has the primary wait for it.
func (e *engine) addStandby(ctx context.Context, primary, standby *postgres) error {
	host, port, _ := net.SplitHostPort(primary.addr)
	standby.dir = filepath.Join(e.dir, fmt.Sprint(time.Now().UnixNano()))
	err := runServerProgram("pg_basebackup", "-d", "postgres://postgres@"+net.JoinHostPort(host, port), "-D", standby.dir, "-R", "-X", "stream", "-c", "fast", "--no-sync")
	if err != nil {
		return err
	}
	if err := standby.start(ctx, e.dir); err != nil {
		return err
	}
	if err := primary.exec(ctx, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"); err != nil {
		return err
	}
	return eventually(ctx, "the standby does not follow", func() bool {
		var n int
		err := primary.db.QueryRowContext(ctx, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").Scan(&n)
		return err == nil && n == 1
	})
}

// promote kills the primary, promotes the standby, and makes a new standby in place of
// the old primary. Before that, commits wait for the standby (on) or for nothing (off)
// for two seconds.
func (e *engine) promote(ctx context.Context, commit string) error {
	primary, standby := e.postgres[0], e.postgres[1]
	err := primary.exec(ctx, "ALTER SYSTEM SET synchronous_commit = "+commit, "SELECT pg_reload_conf()")
	if err != nil {
		return err
	}
	pause(ctx, 2*time.Second)
	primary.kill()
	// The new primary has no standby for which it could wait.
	if err := standby.exec(ctx, "SELECT pg_promote()"); err != nil {
		return err
	}
	e.postgres = [2]*postgres{standby, primary}
	_ = os.RemoveAll(primary.dir)
	return e.addStandby(ctx, standby, primary)
}

func findServerProgram(name string) (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) > 0 {
		return found[len(found)-1], nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: install Debian's package postgresql", err)
	}
	return path, nil
}

func runServerProgram(name string, args ...string) error {
	path, err := findServerProgram(name)
	if err != nil {
		return err
	}
	cmd := exec.Command(path, args...)
	asServerUser(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}
