package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

const slots = 16384

// A node is a Redis server, with a client for this server only.
type node struct {
	addr   string
	dir    string
	args   []string
	cmd    *exec.Cmd
	client rueidis.Client
	id     string // in the cluster
}

// addNode starts a server. The text {host} in its arguments stands for its address.
func (e *engine) addNode(ctx context.Context, args ...string) (*node, error) {
	n, err := e.newNode(args...)
	if err != nil {
		return nil, err
	}
	e.nodes = append(e.nodes, n)
	return n, n.start(ctx)
}

func (e *engine) newNode(args ...string) (*node, error) {
	n := &node{addr: freeAddr()}
	host, port, _ := net.SplitHostPort(n.addr)
	n.dir = filepath.Join(e.dir, port)
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		return nil, err
	}
	for _, arg := range args {
		n.args = append(n.args, strings.ReplaceAll(arg, "{host}", host))
	}
	n.args = append(n.args, "--bind", host, "--port", port, "--dir", n.dir, "--daemonize", "no")
	e.stops = append(e.stops, func() {
		if n.client != nil {
			n.client.Close()
		}
		kill(n.cmd)
	})
	return n, nil
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
		opt := connection{Redis: []string{n.addr}}.redisOption()
		opt.ForceSingleClient, opt.DisableCache = true, true
		client, err := rueidis.NewClient(opt)
		if err == nil {
			n.client = client
		}
		return err == nil
	})
}

// startAsReplicaOf makes the next start that of a replica of a master. The returned function
// ends that.
func (n *node) startAsReplicaOf(master *node) func() {
	args := n.args
	host, port, _ := net.SplitHostPort(master.addr)
	n.args = append(slices.Clone(args), "--replicaof", host+" "+port)
	return func() { n.args = args }
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

// startRedis starts a single server behind a link.
func (e *engine) startRedis(ctx context.Context) error {
	// No acknowledged write is lost, even if Redis is killed.
	n, err := e.addNode(ctx, "--save", "", "--appendonly", "yes", "--appendfsync", "always")
	if err != nil {
		return err
	}
	addr, err := e.addLink(n.addr)
	e.connect = connection{Redis: []string{addr}}
	e.faults = append(e.networkFaults(),
		engineFault{name: "restart", do: func(ctx context.Context, _ int) (string, error) { return "", e.restart(ctx) }},
		engineFault{name: "full", do: e.fill},
	)
	return err
}

// startCluster starts three masters and three replicas. They are not behind links,
// since they announce their own addresses.
func (e *engine) startCluster(ctx context.Context) error {
	for i := range 6 {
		_, bus, _ := net.SplitHostPort(freeAddr())
		// The timeout is that of a machine that is busy with other things: only a
		// fault of the schedule makes a replica take over.
		n, err := e.addNode(ctx, "--save", "", "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", bus,
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
	err := eventually(ctx, "the cluster does not come up", func() bool {
		for i, n := range e.nodes {
			known := n.text(ctx, "CLUSTER", "NODES")
			if !strings.Contains(n.text(ctx, "CLUSTER", "INFO"), "cluster_state:ok") || strings.Count(known, "slave ") != 3 || strings.Contains(known, "handshake") ||
				i >= 3 && !strings.Contains(n.text(ctx, "INFO", "replication"), "master_link_status:up") {
				return false
			}
		}
		return true
	})
	for _, n := range e.nodes {
		e.connect.Redis = append(e.connect.Redis, n.addr)
	}
	timeout := func(ctx context.Context, ms string) {
		for _, n := range e.nodes {
			_, _ = n.do(ctx, "CONFIG", "SET", "cluster-node-timeout", ms)
		}
	}
	e.faults = append(e.failOvers(timeout),
		engineFault{name: "slots", do: func(ctx context.Context, i int) (string, error) {
			moved, err := e.moveSlots(ctx, i, 5)
			return fmt.Sprintf("%d slots moved", moved), err
		}},
		engineFault{name: "full", do: e.fill},
	)
	return err
}

const masterName = "sessions"

// startSentinel starts a master, two replicas, and three sentinels that watch them.
func (e *engine) startSentinel(ctx context.Context) error {
	for i := range 3 {
		// A killed master that comes back still gets the requests of applications that
		// have not heard of the new one. Until it has the data, it must answer none.
		n, err := e.newNode("--save", "", "--repl-diskless-sync-delay", "0", "--enable-debug-command", "local", "--replica-announce-ip", "{host}",
			"--replica-serve-stale-data", "no")
		if err != nil {
			return err
		}
		e.nodes = append(e.nodes, n)
		restore := func() {}
		if i > 0 {
			restore = n.startAsReplicaOf(e.nodes[0])
		}
		err = n.start(ctx)
		restore()
		if err != nil {
			return err
		}
	}
	host, port, _ := net.SplitHostPort(e.nodes[0].addr)
	var sentinels []*node
	for range 3 {
		// As in a cluster, only a fault of the schedule makes a replica take over.
		config := fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s 2\nsentinel down-after-milliseconds %[1]s 20000\nsentinel failover-timeout %[1]s 5000\nsentinel announce-ip %[2]s\n",
			masterName, host, port)
		n, err := e.newNode("--sentinel")
		if err != nil {
			return err
		}
		file := filepath.Join(n.dir, "sentinel.conf")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return err
		}
		n.args = append([]string{file}, n.args...)
		if err := n.start(ctx); err != nil {
			return err
		}
		sentinels = append(sentinels, n)
		e.connect.Redis = append(e.connect.Redis, n.addr)
	}
	e.connect.Master = masterName
	timeout := func(ctx context.Context, ms string) {
		for _, n := range sentinels {
			_, _ = n.do(ctx, "SENTINEL", "SET", masterName, "down-after-milliseconds", ms)
		}
	}
	e.faults = append(e.failOvers(timeout), engineFault{name: "full", do: e.fill})
	return eventually(ctx, "the sentinels do not find each other", func() bool {
		for _, n := range sentinels {
			if known := n.text(ctx, "INFO", "sentinel"); !strings.Contains(known, "slaves=2,sentinels=3") {
				return false
			}
		}
		for _, n := range e.nodes[1:] {
			if !strings.Contains(n.text(ctx, "INFO", "replication"), "master_link_status:up") {
				return false
			}
		}
		return true
	})
}

// fill makes the servers refuse writes for three seconds, as they do when their memory
// is full and maxmemory-policy is noeviction.
func (e *engine) fill(ctx context.Context, _ int) (string, error) {
	limit := func(bytes string) error {
		var failed error
		for _, n := range e.masters(ctx) {
			if _, err := n.do(ctx, "CONFIG", "SET", "maxmemory", bytes); err != nil {
				failed = err
			}
		}
		return failed
	}
	if err := limit("1"); err != nil {
		return "", err
	}
	pause(ctx, 3*time.Second)
	return "", limit("0")
}

// failOvers are the faults in which a replica takes the place of a master. The function
// timeout sets how long a server must be silent before that.
func (e *engine) failOvers(timeout func(ctx context.Context, ms string)) []engineFault {
	failOver := func(name string, lag bool) engineFault {
		return engineFault{name: name, loses: true, do: func(ctx context.Context, i int) (string, error) {
			timeout(ctx, "1000")
			defer timeout(ctx, "20000")
			return "", e.failOver(ctx, i, lag)
		}}
	}
	return []engineFault{failOver("master", false), failOver("lag", true)}
}

// restart kills the only server, and starts it again with what is on its disk.
func (e *engine) restart(ctx context.Context) error {
	n := e.nodes[0]
	kill(n.cmd)
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
	masters := e.masters(ctx)
	killed := masters[i%len(masters)]
	if lag {
		if err := e.holdUp(ctx, killed); err != nil {
			return err
		}
	}
	kill(killed.cmd)
	err := eventually(ctx, "the replica does not take over", func() bool { return len(e.masters(ctx)) == len(masters) })
	if err != nil {
		return err
	}
	if e.connect.Master != "" {
		// As a master, it would acknowledge writes, and lose them.
		defer killed.startAsReplicaOf(e.masters(ctx)[0])()
	}
	if err := killed.start(ctx); err != nil {
		return err
	}
	return eventually(ctx, "the killed master does not come back as a replica", func() bool {
		return strings.Contains(killed.text(ctx, "INFO", "replication"), "master_link_status:up") && len(e.masters(ctx)) == len(masters) && e.sameEpoch(ctx)
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
	pause(ctx, time.Second)
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
