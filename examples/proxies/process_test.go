package proxies

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// endWithParent ends a server when the process of the test ends, on Linux.
var endWithParent *syscall.SysProcAttr

// A proxy is one kind of server in front of the program. Its configurations have
// the addresses of the files here, which start replaces.
type proxy struct {
	name    string // of the command, and of Debian's package
	command string
	file    string // the documented configuration
	args    func(dir, listen string, documented bool) []string
	// plain has nothing but the addresses, caching turns the cache on.
	plain, caching string
}

var nginx = proxy{
	name:    "nginx",
	command: "nginx",
	file:    "nginx.conf",
	args: func(dir, listen string, documented bool) []string {
		// One process, which runs as the user of the test, with its files in dir.
		global := "daemon off; master_process off; pid " + dir + "/pid; error_log stderr;"
		return []string{"-p", dir, "-c", dir + "/config", "-g", global}
	},
	plain: `
events {}
http { server {
	listen 127.0.0.1:8000;
	location / { proxy_pass http://127.0.0.1:8080; }
} }`,
	caching: `
events {}
http {
	proxy_cache_path cache keys_zone=zone:1m;
	server {
		listen 127.0.0.1:8000;
		proxy_cache zone;
		# By itself nginx keeps no response with Set-Cookie, whatever else it says.
		proxy_ignore_headers Set-Cookie;
		location / { proxy_pass http://127.0.0.1:8080; }
	}
}`,
}

var haproxy = proxy{
	name:    "haproxy",
	command: "haproxy",
	file:    "haproxy.cfg",
	args: func(dir, listen string, documented bool) []string {
		return []string{"-db", "-f", dir + "/config"}
	},
	plain: `
defaults
	mode http
	timeout connect 20s
	timeout client 20s
	timeout server 20s
listen web
	bind 127.0.0.1:8000
	server program 127.0.0.1:8080
`,
	caching: `
cache zone
	total-max-size 4
	max-age 60
	process-vary on
defaults
	mode http
	timeout connect 20s
	timeout client 20s
	timeout server 20s
listen web
	bind 127.0.0.1:8000
	http-request cache-use zone
	http-response cache-store zone
	server program 127.0.0.1:8080
`,
}

var varnish = proxy{
	name:    "varnish",
	command: "varnishd",
	file:    "varnish.vcl",
	args: func(dir, listen string, documented bool) []string {
		args := []string{"-F", "-j", "none", "-n", dir + "/work", "-s", "malloc,16m", "-a", listen, "-f", dir + "/config"}
		if documented {
			args = append(args, "-p", "http_req_hdr_len=16k")
		}
		return args
	},
	plain: `
vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "8080"; }
`,
	caching: `
vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "8080"; }
`,
}

var proxies = []proxy{nginx, haproxy, varnish}

// start runs the proxy in front of the program at addr until the test ends, and
// returns the URL of the proxy.
func (p proxy) start(t *testing.T, config, addr string) string {
	t.Helper()
	documented := config == ""
	if documented {
		b, err := os.ReadFile(p.file)
		if err != nil {
			t.Fatal(err)
		}
		config = string(b)
	}
	path, err := find(p.command)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v; Debian's package %s contains it", err, p.name)
		}
		t.Skipf("%v; Debian's package %s contains it", err, p.name)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	// Another process may take a free port before the proxy does.
	for range 5 {
		listen := freeAddr(t)
		text := strings.NewReplacer(
			"127.0.0.1:8000", listen,
			"127.0.0.1:8080", addr,
			`"127.0.0.1"`, `"`+host+`"`,
			`"8080"`, `"`+port+`"`,
		).Replace(config)
		if p.run(t, path, text, listen, documented) {
			return "http://" + listen
		}
	}
	t.Fatalf("%s did not start", p.name)
	return ""
}

// run reports whether the proxy accepts connections at listen.
func (p proxy) run(t *testing.T, path, config, listen string, documented bool) bool {
	t.Helper()
	dir := t.TempDir()
	if p.name == "nginx" {
		config = strings.Replace(config, "http {", "http {\n"+inFolder(), 1)
	}
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(path, p.args(dir, listen, documented)...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = endWithParent
	cmd.WaitDelay = patience // a child of the server may keep the log open
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s wrote:\n%s", p.name, log.String())
		}
	})
	// A try to connect is the only sign of readiness that the three have in common.
	try := time.NewTicker(10 * time.Millisecond)
	defer try.Stop()
	late := time.After(patience)
	for {
		select {
		case <-ended:
			t.Logf("%s ended:\n%s", p.name, log.String())
			return false
		case <-late:
			t.Fatalf("%s accepts no connection after %v", p.name, patience)
		case <-try.C:
			if c, err := net.Dial("tcp", listen); err == nil {
				c.Close()
				return true
			}
		}
	}
}

// inFolder keeps nginx's temporary files out of the folders of the system.
func inFolder() string {
	var b strings.Builder
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&b, "\t%s_temp_path %s;\n", name, name)
	}
	return b.String() + "\taccess_log off;\n"
}

// find returns the path of a command. Debian has servers in a folder that is not
// in the PATH of everybody.
func find(command string) (string, error) {
	path, err := exec.LookPath(command)
	if err == nil {
		return path, nil
	}
	if inSbin, err := exec.LookPath(filepath.Join("/usr/sbin", command)); err == nil {
		return inSbin, nil
	}
	return "", err
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
