package main

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/redisstore"
	"github.com/typedsessions/sessions/stores/sqlstore"
)

// An engine is the servers that hold the sessions.
type engine struct {
	dir     string
	connect connection // how the application processes reach it
	links   []*link    // the network between the processes and the servers, if it can fail
	faults  []engineFault
	stops   []func() // stop the servers

	nodes    []*node // of Redis
	postgres [2]*postgres
}

// An engineFault is a fault of the engine, or of the network in front of it.
type engineFault struct {
	name  string
	loses bool // the engine may lose acknowledged writes

	// do makes the fault, and returns when it is over. The schedule has made i faults
	// before.
	do func(ctx context.Context, i int) (note string, err error)
}

// engines are the kinds that startEngine knows.
var engines = []string{"redis", "cluster", "sentinel", "postgres"}

func startEngine(ctx context.Context, kind string) (*engine, error) {
	dir, err := os.MkdirTemp("", "cluster-")
	if err != nil {
		return nil, err
	}
	e := &engine{dir: dir}
	switch kind {
	case "redis":
		err = e.startRedis(ctx)
	case "cluster":
		err = e.startCluster(ctx)
	case "sentinel":
		err = e.startSentinel(ctx)
	case "postgres":
		err = e.startPostgres(ctx)
	}
	if err != nil {
		e.stop()
		return nil, err
	}
	return e, nil
}

func (e *engine) stop() {
	for _, k := range e.links {
		_ = k.Close()
	}
	for _, stop := range e.stops {
		stop()
	}
	_ = os.RemoveAll(e.dir)
}

// addLink returns the address at which the applications reach a server over a network
// that can fail.
func (e *engine) addLink(server string) (addr string, err error) {
	k, err := newLink(server)
	if err != nil {
		return "", err
	}
	e.links = append(e.links, k)
	return k.Addr().String(), nil
}

// networkFaults are the faults of an engine behind links. Each of them takes three
// seconds.
func (e *engine) networkFaults() []engineFault {
	disturb := func(name string, set func(k *link, on bool)) engineFault {
		return engineFault{name: name, do: func(ctx context.Context, _ int) (string, error) {
			for _, k := range e.links {
				set(k, true)
				defer set(k, false)
			}
			pause(ctx, 3*time.Second)
			return "", nil
		}}
	}
	return []engineFault{
		disturb("slow", func(k *link, on bool) {
			if on {
				k.setDelay(200 * time.Millisecond)
			} else {
				k.setDelay(0)
			}
		}),
		disturb("cut", func(k *link, on bool) { k.setCut(on, on) }),
		disturb("answers", func(k *link, on bool) { k.setCut(false, on) }),
		disturb("requests", func(k *link, on bool) { k.setCut(on, false) }),
	}
}

// A connection says how an application process reaches the engine.
type connection struct {
	Redis    []string `json:",omitempty"` // addresses of servers, or of sentinels
	Master   string   `json:",omitempty"` // the name that the sentinels know
	Postgres string   `json:",omitempty"` // a URL
}

// open returns the store.
func (c connection) open(ctx context.Context) (store sessions.Store, closeStore func(), err error) {
	if c.Postgres == "" {
		client, err := rueidis.NewClient(c.redisOption())
		if err != nil {
			return nil, nil, err
		}
		return redisstore.New(client, redisstore.Options{}), client.Close, nil
	}
	db, err := sql.Open("pgx", c.Postgres)
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(10)
	db.SetMaxIdleConns(10)
	s, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Options{})
	if err == nil {
		err = s.Migrate(ctx)
	}
	if err != nil {
		_ = db.Close()
		return nil, nil, err
	}
	return s, func() { _ = db.Close() }, nil
}

func (c connection) redisOption() rueidis.ClientOption {
	dialer := net.Dialer{Timeout: time.Second}
	return rueidis.ClientOption{
		InitAddress:   c.Redis,
		DisableRetry:  true,
		Dialer:        dialer,
		ClusterOption: rueidis.ClusterOption{MaxMovedRedirections: 16},
		Sentinel:      rueidis.SentinelOption{MasterSet: c.Master, Dialer: dialer, TopologyRefreshInterval: 5 * time.Second},
	}
}

// kill ends a server as a crash does.
func kill(cmd *exec.Cmd) {
	if cmd == nil || cmd.Process == nil || cmd.ProcessState != nil {
		return
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// pause waits for d, and reports whether ctx lasted so long.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func freeAddr() string {
	// Not 127.0.0.1: clients get their own ports there, and one of them could take
	// the port of a server that is down.
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "127.0.0.1:0"
	}
	defer l.Close()
	return l.Addr().String()
}

func eventually(ctx context.Context, otherwise string, f func() bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", otherwise, ctx.Err())
		case <-end.C:
			return fmt.Errorf("%s within a minute", otherwise)
		}
	}
	return nil
}
