package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/redisstore"
	"github.com/typedsessions/sessions/stores/storetest"
)

const slots = 16384

// A node is a Redis server of a cluster, with a client for this server only.
type node struct {
	*testserver.Server
	rueidis.Client
	id   string
	host string
	port string
}

// startCluster starts three masters, and then a replica of each.
func startCluster(t testing.TB) (nodes []*node) {
	t.Helper()
	for range 6 {
		nodes = append(nodes, startNode(t, nodes))
	}
	for i, n := range nodes[:3] {
		n.do(t, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*slots/3), strconv.Itoa((i+1)*slots/3-1))
	}
	for i, n := range nodes[3:] {
		eventually(t, "the nodes do not meet", func() bool { return strings.Contains(n.do(t, "CLUSTER", "NODES"), nodes[i].id) })
		n.do(t, "CLUSTER", "REPLICATE", nodes[i].id)
	}
	for _, n := range nodes {
		eventually(t, "the cluster does not come up", func() bool {
			known := n.do(t, "CLUSTER", "NODES")
			return strings.Contains(n.do(t, "CLUSTER", "INFO"), "cluster_state:ok") && strings.Count(known, "slave ") == 3 &&
				!strings.Contains(known, "handshake")
		})
	}
	for _, n := range nodes[3:] {
		eventually(t, "a replica does not follow", func() bool { return strings.Contains(n.do(t, "INFO", "replication"), "master_link_status:up") })
	}
	return nodes
}

// startNode starts a node that meets the others.
func startNode(t testing.TB, others []*node) *node {
	t.Helper()
	_, bus, _ := net.SplitHostPort(testserver.FreeAddr(t))
	n := &node{Server: testserver.Redis(t, "--cluster-enabled", "yes", "--cluster-config-file", "{dir}/nodes.conf",
		"--cluster-port", bus, "--cluster-announce-ip", "{host}", "--cluster-node-timeout", "20000", "--cluster-require-full-coverage", "no",
		"--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0")}
	n.Client = connect(t, rueidis.ClientOption{InitAddress: []string{n.Addr}, ForceSingleClient: true})
	n.host, n.port, _ = net.SplitHostPort(n.Addr)
	n.id = n.do(t, "CLUSTER", "MYID")
	if len(others) > 0 {
		others[0].do(t, "CLUSTER", "MEET", n.host, n.port, bus)
	}
	return n
}

// do sends a command to this node and returns the answer.
func (n *node) do(t testing.TB, command ...string) string {
	t.Helper()
	answer := n.Do(context.Background(), n.B().Arbitrary(command...).Build())
	if err := answer.Error(); err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	if n, err := answer.AsInt64(); err == nil {
		return strconv.FormatInt(n, 10)
	}
	s, _ := answer.ToString()
	return s
}

func clusterClient(t testing.TB, nodes []*node) rueidis.Client {
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.Addr)
	}
	// The limit turns an endless redirection between two nodes into an error.
	return connect(t, rueidis.ClientOption{InitAddress: addrs, ClusterOption: rueidis.ClusterOption{MaxMovedRedirections: 100}})
}

func TestCluster(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	client := clusterClient(t, nodes)
	t.Run("keeps the promises of a store", func(t *testing.T) {
		storetest.Run(t, opened(client, redisstore.Options{}))
	})
	t.Run("keeps them while the slot moves from node to node", func(t *testing.T) {
		const prefix = "{moving}"
		moves := moveAround(t, nodes[:3], prefix)
		storetest.Run(t, func(t testing.TB) sessions.Store {
			return redisstore.New(client, redisstore.Options{Prefix: prefix + t.Name()})
		})
		if moves.Load() < 10 {
			t.Errorf("the slot moved %d times, want at least 10", moves.Load())
		}
		t.Logf("the slot moved %d times", moves.Load())
	})
	t.Run("needs the rights that the README shows", func(t *testing.T) { rightsInACluster(t, nodes) })
	t.Run("tells of changes at every master, whichever nodes these are", func(t *testing.T) { changesOverNodes(t, nodes) })
	// Last, since it leaves the cluster with one node less.
	t.Run("goes on after a fail-over", func(t *testing.T) { failOver(t, nodes, client) })
}

// changesOverNodes moves slots to a new node and promotes a replica while a client
// waits for changes that another makes.
func changesOverNodes(t *testing.T, nodes []*node) {
	store, there := redisstore.New(clusterClient(t, nodes), redisstore.Options{Prefix: "{moving}"}), redisstore.New(clusterClient(t, nodes), redisstore.Options{Prefix: "{moving}"})
	moving := startWatching(t, store)
	spread := startWatching(t, redisstore.New(clusterClient(t, nodes), redisstore.Options{}))
	everywhere := redisstore.New(clusterClient(t, nodes), redisstore.Options{})
	versions := make(map[sessions.ID]uint64)
	for i := range 30 {
		versions[idOf(i)] = create(t, everywhere, idOf(i), with(recordOf("", "ada"), "tenant:a"))
	}
	all := func(when string) {
		t.Helper()
		for id := range versions {
			spread.tells(t, "an Update "+when, id, func() { versions[id] = update(t, everywhere, id, versions[id], with(recordOf("", "ada"), "tenant:a")) })
		}
		if got := len(labelled(t, everywhere, "tenant:a")); got != len(versions) {
			t.Errorf("%s: Labelled yields %d sessions, want %d", when, got, len(versions))
		}
	}
	all("over three masters")
	for i, n := range nodes {
		want := 0
		if i < 3 {
			want = 2
		}
		if got := len(listeners(t, n.Server)); got != want {
			t.Errorf("%d connections listen to node %d, want %d", got, i, want)
		}
	}

	id := idOf(100)
	version := create(t, there, id, recordOf("", ""))
	slot := nodes[0].do(t, "CLUSTER", "KEYSLOT", "{moving}")
	from := slices.IndexFunc(nodes[:3], func(n *node) bool {
		_, elsewhere := errMoved(n.Do(t.Context(), n.B().Arbitrary("GET", "{moving}").Build()).Error())
		return !elsewhere
	})
	joined := startNode(t, nodes)
	eventually(t, "the new node does not join", func() bool {
		for _, n := range nodes[:3] { // moveSlot tells all of them
			if !strings.Contains(n.do(t, "CLUSTER", "NODES"), joined.id) {
				return false
			}
		}
		return strings.Contains(joined.do(t, "CLUSTER", "INFO"), "cluster_state:ok")
	})
	// The client does not know the new node. The move itself is told as a change, and
	// the caller then asks for the record, which is redirected.
	moving.tellsOrMissed(t, "the move", id, func() {
		if err := moveSlot(slot, nodes[from], joined, nodes[:3]); err != nil {
			t.Fatal(err)
		}
	})
	loads(t, "after the move", store, id, version)
	eventually(t, "no connection listens to the new node", func() bool { return len(listeners(t, joined.Server)) > 0 })
	moving.tells(t, "an Update at the new node", id, func() { version = update(t, there, id, version, recordOf("", "")) })
	moving.noErrors(t)
	moving.stop()
	if err := moveSlot(slot, joined, nodes[from], nodes[:3]); err != nil {
		t.Fatal(err)
	}

	spread.tells(t, "the new master", sessions.ID{}, func() {
		nodes[5].do(t, "CLUSTER", "FAILOVER")
		eventually(t, "the replica is not promoted", func() bool { return strings.Contains(nodes[5].do(t, "INFO", "replication"), "role:master") })
	})
	eventually(t, "not one connection listens to the new master, or one to the old", func() bool {
		return len(listeners(t, nodes[5].Server)) == 1 && len(listeners(t, nodes[2].Server)) == 0
	})
	all("after the fail-over")
	spread.noErrors(t)
	spread.stop()
	for i, n := range nodes {
		eventually(t, "a connection still listens to node "+strconv.Itoa(i), func() bool { return len(listeners(t, n.Server)) == 0 })
	}
}

// moveAround moves the slot of a key from master to master until the test ends.
// It returns the number of moves.
func moveAround(t *testing.T, masters []*node, key string) *atomic.Int64 {
	var moves atomic.Int64
	slot := masters[0].do(t, "CLUSTER", "KEYSLOT", key)
	from := slices.IndexFunc(masters, func(n *node) bool {
		r := n.Do(context.Background(), n.B().Arbitrary("GET", key).Build())
		_, elsewhere := errMoved(r.Error())
		return !elsewhere
	})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for ; ; from = (from + 1) % len(masters) {
			select {
			case <-stop:
				return
			default:
			}
			source, target := masters[from], masters[(from+1)%len(masters)]
			if err := moveSlot(slot, source, target, masters); err != nil {
				t.Error(err)
				return
			}
			moves.Add(1)
			if !sameEpoch(masters, stop) {
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
	return &moves
}

// sameEpoch waits until all masters have the newest configuration epoch. If
// a master takes a slot without knowing the epoch of the former master, its own
// epoch may not be higher. A late message of the former master then moves the
// slot back, and each master keeps redirecting to the other.
func sameEpoch(masters []*node, stop <-chan struct{}) bool {
	for {
		epochs := make(map[string]bool)
		for _, n := range masters {
			info, _ := n.Do(context.Background(), n.B().Arbitrary("CLUSTER", "INFO").Build()).ToString()
			_, epoch, _ := strings.Cut(info, "cluster_current_epoch:")
			epoch, _, _ = strings.Cut(epoch, "\r\n")
			epochs[epoch] = true
		}
		if len(epochs) == 1 {
			return true
		}
		select {
		case <-stop:
			return false
		case <-time.After(time.Millisecond):
		}
	}
}

func errMoved(err error) (string, bool) {
	if re, ok := rueidis.IsRedisErr(err); ok {
		return re.IsMoved()
	}
	return "", false
}

// moveSlot does what redis-cli --cluster reshard does.
func moveSlot(slot string, source, target *node, masters []*node) error {
	ctx := context.Background()
	do := func(n *node, command ...string) ([]string, error) {
		r := n.Do(ctx, n.B().Arbitrary(command...).Build())
		if err := r.Error(); err != nil {
			return nil, fmt.Errorf("%v: %w", command, err)
		}
		keys, _ := r.AsStrSlice()
		return keys, nil
	}
	if _, err := do(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source.id); err != nil {
		return err
	}
	if _, err := do(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target.id); err != nil {
		return err
	}
	for {
		keys, err := do(source, "CLUSTER", "GETKEYSINSLOT", slot, "10")
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			break
		}
		if _, err := do(source, append([]string{"MIGRATE", target.host, target.port, "", "0", "5000", "KEYS"}, keys...)...); err != nil {
			return err
		}
	}
	for _, n := range append([]*node{target, source}, masters...) {
		if _, err := do(n, "CLUSTER", "SETSLOT", slot, "NODE", target.id); err != nil {
			return err
		}
	}
	return nil
}

// A tally is a record that holds a count, with the known bounds of the count.
type tally struct {
	id           sessions.ID
	acknowledged int
	unknown      int // updates without an answer
}

// count repeatedly adds one to each of the tallies until stop is closed. No other
// goroutine may change the same tallies.
func count(t *testing.T, store sessions.Store, tallies []*tally, stop <-chan struct{}, rounds *atomic.Int64) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		for _, y := range tallies {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			rec, err := store.Load(ctx, y.id)
			if err == nil {
				n, _ := strconv.Atoi(string(rec.Data))
				rec.Data = strconv.AppendInt(nil, int64(n+1), 10)
				_, err = store.Update(ctx, y.id, rec)
				switch {
				case err == nil:
					y.acknowledged++
				case errors.Is(err, sessions.ErrConflict): // an unanswered update was executed late
				case errors.Is(err, sessions.ErrNotFound):
					t.Errorf("Update: got %v", err)
				default:
					y.unknown++
				}
			} else if errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("Load: got %v", err)
			}
			cancel()
		}
		rounds.Add(1)
	}
}

// failOver promotes a replica twice: first by a manual fail-over, in which Redis
// loses no write, then by killing a master, in which the last acknowledged writes
// may be lost.
func failOver(t *testing.T, nodes []*node, client rueidis.Client) {
	store := redisstore.New(client, redisstore.Options{Prefix: "failing"})
	w := startWatching(t, store)
	ctx := context.Background()
	var tallies []*tally
	for n := range 60 {
		y := &tally{id: idOf(n)}
		if _, err := store.Create(ctx, y.id, sessions.Record{Data: []byte("0"), Expires: time.Now().Add(time.Hour), Owner: "ada"}); err != nil {
			t.Fatal(err)
		}
		tallies = append(tallies, y)
	}
	load := func(during func(pass func())) {
		stop := make(chan struct{})
		var running sync.WaitGroup
		var rounds [6]atomic.Int64
		for i := range rounds {
			running.Go(func() { count(t, store, tallies[i*10:(i+1)*10], stop, &rounds[i]) })
		}
		during(func() {
			for i := range rounds {
				before := rounds[i].Load()
				eventually(t, "the load does not continue", func() bool { return rounds[i].Load() > before+5 })
			}
		})
		close(stop)
		running.Wait()
	}
	check := func(floor bool) (lost int) {
		for _, y := range tallies {
			rec, err := store.Load(ctx, y.id)
			if err != nil {
				t.Fatalf("after the fail-over: %v", err)
			}
			n, _ := strconv.Atoi(string(rec.Data))
			if n > y.acknowledged+y.unknown || floor && n < y.acknowledged {
				t.Errorf("got count %d, with %d updates acknowledged and %d unanswered", n, y.acknowledged, y.unknown)
			}
			lost += max(0, y.acknowledged-n)
			y.acknowledged, y.unknown = n, 0
		}
		owned := 0
		for _, err := range store.Owned(ctx, "ada") {
			if err != nil {
				t.Fatal(err)
			}
			owned++
		}
		if owned != len(tallies) {
			t.Errorf("the index lists %d sessions, want %d", owned, len(tallies))
		}
		return lost
	}

	load(func(pass func()) {
		pass()
		nodes[3].do(t, "CLUSTER", "FAILOVER")
		eventually(t, "the replica is not promoted", func() bool { return strings.Contains(nodes[3].do(t, "INFO", "replication"), "role:master") })
		pass()
	})
	check(true)

	load(func(pass func()) {
		pass()
		for _, n := range nodes {
			n.do(t, "CONFIG", "SET", "cluster-node-timeout", "1000")
		}
		nodes[1].Kill()
		eventually(t, "the replica is not promoted", func() bool { return strings.Contains(nodes[4].do(t, "INFO", "replication"), "role:master") })
		pass()
	})
	eventually(t, "the store does not recover", func() bool {
		for _, y := range tallies {
			if _, err := store.Load(ctx, y.id); err != nil {
				return false
			}
		}
		return true
	})
	for _, y := range tallies {
		w.tellsOrMissed(t, "an Update after the fail-over", y.id, func() {
			rec, err := store.Load(ctx, y.id)
			if err != nil {
				t.Fatal(err)
			}
			update(t, store, y.id, rec.Version, rec)
		})
	}
	w.noErrors(t)
	t.Logf("%d acknowledged updates were lost with the killed master", check(false))
}
