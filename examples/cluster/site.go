package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/typedsessions/sessions"
)

// A site has the application processes and the proxy in front of them.
type site struct {
	url      string
	settings settings
	heard    func(message) // gets the messages of the processes
	skewed   string        // the application as a program whose clock can be set

	secrets  [][]byte // of the key ring
	server   *http.Server
	mu       sync.Mutex
	apps     []*process
	draining sync.WaitGroup
}

// A process is an application process.
type process struct {
	addr  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	keys  chan struct{} // gets a value when the process has replaced its key ring

	dials  sync.WaitGroup // connections that are being made to it
	ending atomic.Bool    // the site ends it
}

func startSite(ctx context.Context, c connection, fault string, processes int, heard func(message)) (*site, error) {
	s := &site{settings: settings{Connection: c, Release: release10, Break: fault}, heard: heard, secrets: [][]byte{sessions.NewSecret()}}
	for range processes {
		if err := s.addProcess(ctx); err != nil {
			s.stop()
			return nil, err
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.stop()
		return nil, err
	}
	s.url = "http://" + listener.Addr().String()
	proxy := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "application" },
		Transport:    &http.Transport{DialContext: s.dial, DisableCompression: true, MaxIdleConnsPerHost: -1, DisableKeepAlives: true},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		ErrorLog:     log.New(io.Discard, "", 0),
	}
	s.server = &http.Server{Handler: proxy, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = s.server.Serve(listener) }()
	return s, nil
}

// dial connects to one of the processes. Each request has a connection of its own,
// so that it may reach any process.
func (s *site) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	s.mu.Lock()
	apps := slices.Clone(s.apps)
	for _, p := range apps {
		p.dials.Add(1)
		defer p.dials.Done()
	}
	s.mu.Unlock()
	err := errors.New("no application process")
	for _, i := range rand.Perm(len(apps)) {
		var c net.Conn
		if c, err = new(net.Dialer).DialContext(ctx, network, apps[i].addr); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// addProcess starts this program again as an application process.
func (s *site) addProcess(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return s.startApp(ctx, exec.Command(self, appFlag))
}

func (s *site) startApp(ctx context.Context, cmd *exec.Cmd) error {
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, out, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout = out
	err = startProcess(cmd)
	out.Close()
	if err != nil {
		stdout.Close()
		return err
	}
	p := &process{cmd: cmd, stdin: stdin, keys: make(chan struct{}, 1)}
	serves := make(chan string, 1)
	s.draining.Go(func() {
		defer stdout.Close()
		defer close(serves)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var m message
			if json.Unmarshal(lines.Bytes(), &m) != nil {
				continue // a line that the end of the process has cut
			}
			switch {
			case m.Addr != "":
				serves <- m.Addr
			case m.Keys:
				p.keys <- struct{}{}
			default:
				m.Pid, m.At = cmd.Process.Pid, time.Now()
				s.heard(m)
			}
		}
		if !p.ending.Load() {
			s.heard(message{Kind: crashed, Pid: cmd.Process.Pid, At: time.Now()})
		}
	})
	s.mu.Lock()
	set := s.settings
	set.Keys = ring(s.secrets)
	s.mu.Unlock()
	if err := json.NewEncoder(stdin).Encode(set); err != nil {
		return err
	}
	select {
	case addr, ok := <-serves:
		if !ok {
			return fmt.Errorf("the application process ended: %w", cmd.Wait())
		}
		p.addr = addr
	case <-ctx.Done():
		p.kill()
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps = append(s.apps, p)
	return nil
}

// killProcess ends the oldest process as a crash does.
func (s *site) killProcess() {
	s.mu.Lock()
	p := s.apps[0]
	s.mu.Unlock()
	p.kill()
	s.mu.Lock()
	s.apps = s.apps[1:]
	s.mu.Unlock()
}

// retireProcess ends a process as a deployment does, so that no request fails: the
// process gets no new requests, answers those that it has, and ends.
func (s *site) retireProcess(ctx context.Context, p *process) error {
	s.mu.Lock()
	s.apps = slices.DeleteFunc(s.apps, func(x *process) bool { return x == p })
	s.mu.Unlock()
	p.dials.Wait()
	// Closing a listener resets the connections that it has not accepted. Connections
	// are accepted in their order, so that after this answer there are none.
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+p.addr+alivePath, nil)
	if err != nil {
		return err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("the application process does not answer: %w", err)
	}
	res.Body.Close()
	p.ending.Store(true)
	_ = p.stdin.Close()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("the application process does not end in order: %w", err)
	}
	return nil
}

func (p *process) kill() {
	p.ending.Store(true)
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	_ = p.stdin.Close()
}

// setSecrets gives all processes a new key ring, and waits until they use it.
func (s *site) setSecrets(ctx context.Context, secrets ...[]byte) error {
	s.mu.Lock()
	s.secrets = secrets
	s.mu.Unlock()
	for _, p := range s.processes() {
		if err := json.NewEncoder(p.stdin).Encode(secrets); err != nil {
			return err
		}
		select {
		case <-p.keys:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// stop ends all processes, and returns when all of their messages were heard.
func (s *site) stop() {
	if s.server != nil {
		_ = s.server.Close()
	}
	s.mu.Lock()
	apps := s.apps
	s.apps = nil
	s.mu.Unlock()
	for _, p := range apps {
		p.kill()
	}
	s.draining.Wait()
}

func ring(secrets [][]byte) string {
	var all []string
	for _, s := range secrets {
		all = append(all, base64.StdEncoding.EncodeToString(s))
	}
	return strings.Join(all, ",")
}

func (s *site) release() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings.Release
}

// setRelease sets the release of the processes that are started from now on.
func (s *site) setRelease(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings.Release = name
}

func (s *site) processes() []*process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.apps)
}
