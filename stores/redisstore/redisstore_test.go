package redisstore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/redisstore"
	"github.com/typedsessions/sessions/stores/storetest"
)

// connect returns a client with the options that the documentation recommends.
func connect(t testing.TB, opt rueidis.ClientOption) rueidis.Client {
	t.Helper()
	opt.DisableRetry = true
	opt.Dialer.Timeout = time.Second
	client, err := rueidis.NewClient(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func connectTo(t testing.TB, addr string) rueidis.Client {
	t.Helper()
	return connect(t, rueidis.ClientOption{InitAddress: []string{addr}})
}

// opened returns a function for storetest that opens a store with a prefix of its
// own for each test.
func opened(client rueidis.Client, opt redisstore.Options) func(t testing.TB) sessions.Store {
	return func(t testing.TB) sessions.Store {
		opt := opt
		opt.Prefix = t.Name()
		return redisstore.New(client, opt)
	}
}

func TestStoreKeepsItsPromises(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start func(t testing.TB) rueidis.ClientOption
		local time.Duration
	}{
		{name: "on Redis", start: plain},
		{name: "with a local cache", start: plain, local: time.Minute},
		{name: "with RESP2", start: func(t testing.TB) rueidis.ClientOption {
			opt := plain(t)
			opt.AlwaysRESP2, opt.DisableCache = true, true
			return opt
		}},
		{name: "with a password", start: func(t testing.TB) rueidis.ClientOption {
			opt := rueidis.ClientOption{Password: "correct horse"}
			opt.InitAddress = []string{testserver.Redis(t, "--requirepass", opt.Password).Addr}
			return opt
		}},
		{name: "over TLS", start: secured},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := connect(t, tt.start(t))
			storetest.Run(t, opened(client, redisstore.Options{LocalCache: tt.local}))
		})
	}
}

// Redis keeps a key until the end of the given millisecond.
func TestExpiryIsTheFirstMillisecondWithoutTheRecord(t *testing.T) {
	client := connectTo(t, testserver.Redis(t).Addr)
	store := redisstore.New(client, redisstore.Options{})
	id, rec := idOf(1), recordOf("", "")
	check := func(when string, expires time.Time) {
		t.Helper()
		last, err := client.Do(t.Context(), client.B().Pexpiretime().Key("session:"+string(id[:])).Build()).AsInt64()
		if err != nil || last != expires.UnixMilli()-1 {
			t.Errorf("after %s the key exists through %d (%v), want %d", when, last, err, expires.UnixMilli()-1)
		}
	}
	version := create(t, store, id, rec)
	check("Create", rec.Expires)
	rec.Expires = rec.Expires.Add(time.Minute)
	update(t, store, id, version, rec)
	check("Update", rec.Expires)
	if err := store.Touch(t.Context(), id, rec.Expires.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	check("Touch", rec.Expires.Add(time.Minute))
}

func plain(t testing.TB) rueidis.ClientOption {
	return rueidis.ClientOption{InitAddress: []string{testserver.Redis(t).Addr}}
}

// secured starts a Redis that also listens for TLS, with a self-signed
// certificate.
func secured(t testing.TB) rueidis.ClientOption {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	addr := testserver.FreeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		IPAddresses:  []net.IP{net.ParseIP(host)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert},
		keyFile:  {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	testserver.Redis(t, "--tls-port", port, "--tls-auth-clients", "no", "--tls-cert-file", certFile, "--tls-key-file", keyFile)
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return rueidis.ClientOption{InitAddress: []string{addr}, TLSConfig: &tls.Config{RootCAs: roots}}
}

func TestConnectionsThatBreak(t *testing.T) {
	for _, tt := range []struct {
		name string
		opt  redisstore.Options
	}{
		{"without a local cache", redisstore.Options{}},
		{"with a local cache", redisstore.Options{LocalCache: time.Minute}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			storetest.RunCut(t, testserver.Redis(t).Addr, func(t testing.TB, addr string) sessions.Store {
				return opened(connectTo(t, addr), tt.opt)(t)
			})
		})
	}
}

func TestTwoProcesses(t *testing.T) {
	storetest.RunProcesses(t, testserver.Redis(t).Addr, func(t testing.TB, addr string) sessions.Store {
		return redisstore.New(connectTo(t, addr), redisstore.Options{})
	})
}

func TestTwoProcessesWithLocalCaches(t *testing.T) {
	storetest.RunProcesses(t, testserver.Redis(t).Addr, func(t testing.TB, addr string) sessions.Store {
		return redisstore.New(connectTo(t, addr), redisstore.Options{LocalCache: time.Minute})
	})
}

func TestRedisThatCrashes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		durable bool
		args    []string
	}{
		{"loses nothing with appendfsync always", true, []string{"--appendonly", "yes", "--appendfsync", "always"}},
		{"loses everything without persistence", false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := testserver.Redis(t, tt.args...)
			storetest.RunCrash(t, server, tt.durable, opened(connectTo(t, server.Addr), redisstore.Options{}))
		})
	}
}

func TestRedisWithoutMemoryReadsAndSignsOutAndKeepsWhatItHas(t *testing.T) {
	client := connectTo(t, testserver.Redis(t).Addr)
	store := redisstore.New(client, redisstore.Options{})
	id, rec := idOf(1), recordOf("data", "ada")
	rec.Version = create(t, store, id, rec)
	other := create(t, store, idOf(2), rec)
	if err := client.Do(t.Context(), client.B().ConfigSet().ParameterValue().ParameterValue("maxmemory", "1").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	for name, operation := range map[string]func() error{
		"Create":                 func() error { _, err := store.Create(t.Context(), idOf(3), rec); return err },
		"Update":                 func() error { _, err := store.Update(t.Context(), id, rec); return err },
		"Touch":                  func() error { return store.Touch(t.Context(), id, rec.Expires.Add(time.Minute)) },
		"Touch to another month": func() error { return store.Touch(t.Context(), id, rec.Expires.AddDate(0, 1, 0)) },
	} {
		if _, isRedis := rueidis.IsRedisErr(operation()); !isRedis {
			t.Errorf("%s: got no error from Redis", name)
		}
	}
	got, err := store.Load(t.Context(), id)
	if err != nil || got.Version != rec.Version || !got.Expires.Equal(rec.Expires) || len(owned(t, store, "ada")) != 2 {
		t.Errorf("got %v, %v, want the record as it was", got, err)
	}
	if err := store.Delete(t.Context(), idOf(2), other); err != nil {
		t.Errorf("Delete of a version: %v", err)
	}
	if err := store.Delete(t.Context(), id, 0); err != nil {
		t.Errorf("Delete: %v", err)
	}
}

func TestCommandsOfARequest(t *testing.T) {
	client := connectTo(t, testserver.Redis(t).Addr)
	storetest.RunCost(t, opened(client, redisstore.Options{}), func() int { return served(t, client) })
}

// served returns the number of commands on keys that clients sent, by the
// statistics of Redis. The commands by which rueidis sets up a connection do not
// count. The statistics include the commands in scripts, which served subtracts:
// without conflicts, a script calls GETRANGE once, and then SET or DEL once.
func served(t testing.TB, client rueidis.Client) int {
	t.Helper()
	n := calls(t, client)
	return n["evalsha"] + n["eval"] + n["get"] + n["set"] + n["del"] - n["getrange"]
}
