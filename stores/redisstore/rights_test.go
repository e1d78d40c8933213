package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/redisstore"
)

// The rights that README.md shows, for the ACL of Redis.
var (
	storeRights   = strings.Fields("+get +set +del +eval +evalsha +getrange +setrange +pexpireat +pexpiretime +zadd +zrange +zremrangebyscore")
	cacheRight    = "+client|caching"
	changesRights = []string{"+client|tracking"}
	clusterRights = []string{"+cluster|slots", "+asking"}
	sentinelRight = "+role"
	keyPatterns   = []string{"~session:*", "~session@*", "~session#*"}
)

// everything uses each operation of a store, in each of its ways.
func everything(ctx context.Context, store *redisstore.Store, changes bool) error {
	var errs []error
	check := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	read := func(id sessions.ID) {
		_, err := store.Load(ctx, id)
		check(err)
		_, err = store.LoadNewest(ctx, id)
		check(err)
		for _, err := range store.Owned(ctx, "ada") {
			check(err)
		}
		for _, err := range store.Labelled(ctx, "tenant:a") {
			check(err)
		}
	}
	for n := range 30 { // in a cluster, at each master
		id, rec := idOf(n), with(recordOf("data", "ada"), "tenant:a", "tenant:b")
		check(store.Delete(ctx, id, 0))
		version, err := store.Create(ctx, id, rec)
		check(err)
		read(id)
		rec.Owner, rec.Version = "eve", version
		version, err = store.Update(ctx, id, rec)
		check(err)
		check(store.Touch(ctx, id, time.Now().AddDate(0, 0, 3)))
		check(store.Delete(ctx, id, version))
	}
	if changes {
		for _, err := range store.Changes(ctx) {
			check(err)
			break
		}
	}
	return errors.Join(errs...)
}

func TestAUserNeedsJustTheRightsThatTheREADMEShows(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	server := testserver.Redis(t)
	for _, tt := range []struct {
		name    string
		rights  []string
		opt     rueidis.ClientOption
		of      redisstore.Options
		changes bool
	}{
		{"with DisableCache", storeRights, rueidis.ClientOption{DisableCache: true}, redisstore.Options{}, false},
		{"with DisableCache and Changes", slices.Concat(storeRights, changesRights), rueidis.ClientOption{DisableCache: true}, redisstore.Options{}, true},
		{"without DisableCache", slices.Concat(storeRights, changesRights), rueidis.ClientOption{}, redisstore.Options{}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, right := range slices.Concat(tt.rights, keyPatterns) {
				if !strings.Contains(string(readme), right) {
					t.Errorf("README.md does not show %s", right)
				}
			}
			// as uses everything as a user with these rights.
			as := func(rights, keys []string) error {
				ask(t, server, "FLUSHALL")
				ask(t, server, "SCRIPT", "FLUSH")
				ask(t, server, slices.Concat([]string{"ACL", "SETUSER", "app", "reset", "on", ">pw", "-@all"}, keys, rights)...)
				opt := tt.opt
				opt.InitAddress, opt.Username, opt.Password, opt.DisableRetry = []string{server.Addr}, "app", "pw", true
				client, err := rueidis.NewClient(opt)
				if err != nil {
					return err
				}
				defer client.Close()
				return everything(t.Context(), redisstore.New(client, tt.of), tt.changes)
			}
			if err := as(tt.rights, keyPatterns); err != nil {
				t.Errorf("with all these rights: %v", err)
			}
			for i, right := range tt.rights {
				if err := as(slices.Delete(slices.Clone(tt.rights), i, i+1), keyPatterns); err == nil {
					t.Errorf("nothing fails without %s", right)
				}
			}
			for i, pattern := range keyPatterns {
				if err := as(tt.rights, slices.Delete(slices.Clone(keyPatterns), i, i+1)); err == nil {
					t.Errorf("nothing fails without %s", pattern)
				}
			}
		})
	}
}

func TestAUserWithoutTheRightToInvalidationsHasNoLocalCache(t *testing.T) {
	server := testserver.Redis(t)
	there := redisstore.New(connectTo(t, server.Addr), redisstore.Options{})
	version := create(t, there, idOf(1), recordOf("data", ""))
	reads := func() int {
		n := calls(t, connectTo(t, server.Addr))
		return n["get"] + n["getrange"]
	}
	for _, tt := range []struct {
		name   string
		rights []string
		want   int
	}{
		{"without it", nil, 100},
		{"with it", []string{cacheRight}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ask(t, server, slices.Concat([]string{"ACL", "SETUSER", "app", "reset", "on", ">pw", "-@all"}, keyPatterns, storeRights, changesRights, tt.rights)...)
			client := connect(t, rueidis.ClientOption{InitAddress: []string{server.Addr}, Username: "app", Password: "pw"})
			here := redisstore.New(client, redisstore.Options{LocalCache: time.Hour})
			before := reads()
			for range 100 {
				loads(t, "again", here, idOf(1), version)
			}
			if got := reads() - before; got != tt.want {
				t.Errorf("100 loads asked Redis %d times, want %d", got, tt.want)
			}
			version = update(t, there, idOf(1), version, recordOf("new", ""))
			eventually(t, "the change is never seen", func() bool {
				rec, err := here.Load(t.Context(), idOf(1))
				return err == nil && rec.Version == version
			})
		})
	}
}

// rightsInACluster is part of TestCluster.
func rightsInACluster(t *testing.T, nodes []*node) {
	for _, n := range nodes {
		ask(t, n.Server, slices.Concat([]string{"ACL", "SETUSER", "app", "reset", "on", ">pw", "-@all"}, keyPatterns, storeRights, changesRights, []string{cacheRight}, clusterRights)...)
	}
	client := connect(t, rueidis.ClientOption{InitAddress: []string{nodes[0].Addr}, Username: "app", Password: "pw"})
	if err := everything(t.Context(), redisstore.New(client, redisstore.Options{LocalCache: time.Hour}), true); err != nil {
		t.Error(err)
	}
}

func TestAUserNeedsOneMoreRightWithSentinel(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "`"+sentinelRight+"`") {
		t.Errorf("README.md does not show %s", sentinelRight)
	}
	master := testserver.Redis(t)
	sentinel := startSentinel(t, master)
	as := func(rights []string) error {
		ask(t, master, slices.Concat([]string{"ACL", "SETUSER", "app", "reset", "on", ">pw", "-@all"}, keyPatterns, rights)...)
		client, err := rueidis.NewClient(rueidis.ClientOption{
			InitAddress: []string{sentinel}, Sentinel: rueidis.SentinelOption{MasterSet: "m"}, Username: "app", Password: "pw", DisableRetry: true,
		})
		if err != nil {
			return err
		}
		defer client.Close()
		return everything(t.Context(), redisstore.New(client, redisstore.Options{LocalCache: time.Hour}), true)
	}
	rights := slices.Concat(storeRights, changesRights, []string{cacheRight})
	if err := as(append(rights, sentinelRight)); err != nil {
		t.Errorf("with all these rights: %v", err)
	}
	if err := as(rights); err == nil {
		t.Errorf("nothing fails without %s", sentinelRight)
	}
}

// startSentinel starts a sentinel of the master, which it calls m, and returns its address.
func startSentinel(t *testing.T, master *testserver.Server) string {
	t.Helper()
	host, port, _ := net.SplitHostPort(master.Addr)
	addr := testserver.FreeAddr(t)
	sentinelHost, sentinelPort, _ := net.SplitHostPort(addr)
	config := filepath.Join(t.TempDir(), "sentinel.conf") // which the sentinel writes to
	text := fmt.Sprintf("bind %s\nport %s\ndir %s\nsentinel monitor m %s %s 1\n", sentinelHost, sentinelPort, t.TempDir(), host, port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("redis-server", config, "--sentinel")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	eventually(t, "the sentinel does not answer", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return addr
}
