package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

const slots = 16384

// An engine is the servers that hold the sessions.
type engine struct {
	dir   string
	nodes []*node // of a cluster: three masters and three replicas
}

// A node is a Redis server, with a client for this server only.
type node struct {
	addr   string
	args   []string
	cmd    *exec.Cmd
	client rueidis.Client
	id     string // in the cluster
}

func startEngine(ctx context.Context, kind string) (*engine, error) {
	dir, err := os.MkdirTemp("", "cluster-")
	if err != nil {
		return nil, err
	}
	e := &engine{dir: dir}
	switch kind {
	case "redis":
		// No acknowledged write is lost, even if Redis is killed.
		_, err = e.addNode(ctx, "--appendonly", "yes", "--appendfsync", "always")
	case "cluster":
		err = e.startCluster(ctx)
	default:
		err = fmt.Errorf("-engine %s: want redis or cluster", kind)
	}
	if err != nil {
		e.stop()
		return nil, err
	}
	return e, nil
}

func (e *engine) stop() {
	for _, n := range e.nodes {
		if n.client != nil {
			n.client.Close()
		}
		n.kill()
	}
	_ = os.RemoveAll(e.dir)
}

func (e *engine) addrs() (addrs []string) {
	for _, n := range e.nodes {
		addrs = append(addrs, n.addr)
	}
	return addrs
}

func (e *engine) addNode(ctx context.Context, args ...string) (*node, error) {
	n, dir := &node{addr: freeAddr()}, filepath.Join(e.dir, strconv.Itoa(len(e.nodes)))
	host, port, _ := net.SplitHostPort(n.addr)
	n.args = append([]string{"--bind", host, "--port", port, "--dir", dir, "--save", "", "--daemonize", "no"}, args...)
	for i, arg := range n.args {
		n.args[i] = strings.ReplaceAll(arg, "{host}", host)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	e.nodes = append(e.nodes, n)
	return n, n.start(ctx)
}

// start starts the server, and waits until it answers.
func (n *node) start(ctx context.Context) error {
	n.cmd = exec.Command("redis-server", n.args...)
	if err := startProcess(n.cmd); err != nil {
		return fmt.Errorf("%w: install Debian's package redis-server", err)
	}
	if n.client != nil {
		return nil
	}
	return eventually(ctx, "Redis does not answer at "+n.addr, func() bool {
		opt := clientOption([]string{n.addr})
		opt.ForceSingleClient, opt.DisableCache = true, true
		client, err := rueidis.NewClient(opt)
		if err == nil {
			n.client = client
		}
		return err == nil
	})
}

// kill ends the server as a crash does.
func (n *node) kill() {
	if n.cmd == nil || n.cmd.Process == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
	n.cmd = nil
}

// do sends a command to this node.
func (n *node) do(ctx context.Context, command ...string) (rueidis.RedisResult, error) {
	r := n.client.Do(ctx, n.client.B().Arbitrary(command...).Build())
	if err := r.Error(); err != nil {
		return r, fmt.Errorf("%s: %w", strings.Join(command, " "), err)
	}
	return r, nil
}

// text returns the answer to a command, "" after an error.
func (n *node) text(ctx context.Context, command ...string) string {
	r, _ := n.do(ctx, command...)
	s, _ := r.ToString()
	return s
}

func (e *engine) startCluster(ctx context.Context) error {
	for i := range 6 {
		_, bus, _ := net.SplitHostPort(freeAddr())
		// The timeout is that of a machine that is busy with other things: only a
		// fault of the schedule makes a replica take over.
		n, err := e.addNode(ctx, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", bus,
			"--cluster-announce-ip", "{host}", "--cluster-node-timeout", "20000", "--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0",
			"--enable-debug-command", "local")
		if err != nil {
			return err
		}
		n.id = n.text(ctx, "CLUSTER", "MYID")
		if i > 0 {
			first := e.nodes[0]
			host, port, _ := net.SplitHostPort(n.addr)
			if _, err := first.do(ctx, "CLUSTER", "MEET", host, port, bus); err != nil {
				return err
			}
		}
	}
	for i, n := range e.nodes[:3] {
		if _, err := n.do(ctx, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*slots/3), strconv.Itoa((i+1)*slots/3-1)); err != nil {
			return err
		}
	}
	for i, n := range e.nodes[3:] {
		master := e.nodes[i].id
		err := eventually(ctx, "the nodes do not meet", func() bool { return strings.Contains(n.text(ctx, "CLUSTER", "NODES"), master) })
		if err != nil {
			return err
		}
		if _, err := n.do(ctx, "CLUSTER", "REPLICATE", master); err != nil {
			return err
		}
	}
	return eventually(ctx, "the cluster does not come up", func() bool {
		for i, n := range e.nodes {
			known := n.text(ctx, "CLUSTER", "NODES")
			if !strings.Contains(n.text(ctx, "CLUSTER", "INFO"), "cluster_state:ok") || strings.Count(known, "slave ") != 3 || strings.Contains(known, "handshake") ||
				i >= 3 && !strings.Contains(n.text(ctx, "INFO", "replication"), "master_link_status:up") {
				return false
			}
		}
		return true
	})
}

// restart kills the only server, and starts it again with what is on its disk.
func (e *engine) restart(ctx context.Context) error {
	n := e.nodes[0]
	n.kill()
	if err := n.start(ctx); err != nil {
		return err
	}
	return eventually(ctx, "Redis does not come back", func() bool { return n.text(ctx, "PING") == "PONG" })
}

// masters returns the nodes that are masters now.
func (e *engine) masters(ctx context.Context) (masters []*node) {
	for _, n := range e.nodes {
		if strings.Contains(n.text(ctx, "INFO", "replication"), "role:master") {
			masters = append(masters, n)
		}
	}
	return masters
}

// failOver kills a master, waits until its replica has taken over, and starts it
// again as a replica of the former replica. With lag, the replica lacks the last
// writes that the master has acknowledged.
func (e *engine) failOver(ctx context.Context, i int, lag bool) error {
	timeout := func(ms string) {
		for _, n := range e.nodes {
			_, _ = n.do(ctx, "CONFIG", "SET", "cluster-node-timeout", ms)
		}
	}
	masters := e.masters(ctx)
	killed := masters[i%len(masters)]
	timeout("1000")
	defer timeout("20000")
	if lag {
		if err := e.holdUp(ctx, killed); err != nil {
			return err
		}
	}
	killed.kill()
	err := eventually(ctx, "the replica does not take over", func() bool { return len(e.masters(ctx)) == len(masters) })
	if err != nil {
		return err
	}
	if err := killed.start(ctx); err != nil {
		return err
	}
	return eventually(ctx, "the killed master does not come back as a replica", func() bool {
		return strings.Contains(killed.text(ctx, "INFO", "replication"), "master_link_status:up") && e.sameEpoch(ctx)
	})
}

// holdUp makes the replica of a master hang and lose its connection. It returns after
// a second, in which the replica got nothing and the master went on alone.
func (e *engine) holdUp(ctx context.Context, master *node) error {
	_, port, _ := net.SplitHostPort(master.addr)
	for _, n := range e.nodes {
		if strings.Contains(n.text(ctx, "INFO", "replication"), "master_port:"+port+"\r\n") {
			go func() { _, _ = n.do(ctx, "DEBUG", "SLEEP", "2") }()
		}
	}
	// Without a new connection, the replica would still get what waits in its socket.
	if _, err := master.do(ctx, "CLIENT", "KILL", "TYPE", "replica"); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
	}
	_, err := master.do(ctx, "CLIENT", "KILL", "TYPE", "replica")
	return err
}

// moveSlots moves a few slots with sessions from a master to another.
func (e *engine) moveSlots(ctx context.Context, i, count int) (moved int, err error) {
	masters := e.masters(ctx)
	source, target := masters[i%len(masters)], masters[(i+1)%len(masters)]
	for slot := range slots {
		if moved == count || ctx.Err() != nil {
			break
		}
		if keys, err := source.keysIn(ctx, strconv.Itoa(slot)); err != nil || len(keys) == 0 {
			continue
		}
		if err := moveSlot(ctx, strconv.Itoa(slot), source, target, masters); err != nil {
			return moved, err
		}
		moved++
		// A master that takes a slot without knowing the newest epoch may lose it again.
		if err := eventually(ctx, "the masters do not agree about a slot", func() bool { return e.sameEpoch(ctx) }); err != nil {
			return moved, err
		}
	}
	return moved, nil
}

func (n *node) keysIn(ctx context.Context, slot string) ([]string, error) {
	r, err := n.do(ctx, "CLUSTER", "GETKEYSINSLOT", slot, "10")
	if err != nil {
		return nil, err
	}
	return r.AsStrSlice()
}

// moveSlot does what redis-cli --cluster reshard does.
func moveSlot(ctx context.Context, slot string, source, target *node, masters []*node) error {
	if _, err := target.do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", source.id); err != nil {
		return err
	}
	if _, err := source.do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", target.id); err != nil {
		return err
	}
	host, port, _ := net.SplitHostPort(target.addr)
	for {
		keys, err := source.keysIn(ctx, slot)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			break
		}
		if _, err := source.do(ctx, append([]string{"MIGRATE", host, port, "", "0", "5000", "KEYS"}, keys...)...); err != nil {
			return err
		}
	}
	for _, n := range append([]*node{target, source}, masters...) {
		if _, err := n.do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", target.id); err != nil {
			return err
		}
	}
	return nil
}

// sameEpoch reports whether all nodes know the same configuration epoch.
func (e *engine) sameEpoch(ctx context.Context) bool {
	epochs := make(map[string]bool)
	for _, n := range e.nodes {
		_, epoch, _ := strings.Cut(n.text(ctx, "CLUSTER", "INFO"), "cluster_current_epoch:")
		epoch, _, _ = strings.Cut(epoch, "\r\n")
		epochs[epoch] = true
	}
	return len(epochs) == 1
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
