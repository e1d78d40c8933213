// Package shop is the program of examples/login and of examples/stores: its
// pages, its users and its server. The two differ in the stores that they know.
package shop

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/typedsessions/sessions"
)

// An OpenFunc returns the store that the flag -store names. What works for the
// store in the background ends when ctx is done.
type OpenFunc func(ctx context.Context, name string) (sessions.Store, error)

// Main is the main function of the program of that name. It reads the flags,
// opens the store that -store names, and serves the shop until an interrupt.
// The help of -store lists storeNames.
func Main(program, storeNames string, open OpenFunc) {
	var s Settings
	addr := flag.String("addr", "localhost:8080", "`address` to listen on")
	store := flag.String("store", "", "where sessions are kept: `"+storeNames+"` (default cookie, with -dbsc memory)")
	flag.BoolVar(&s.Secure, "secure", false, "send the cookie over https only")
	flag.BoolVar(&s.Bind, "dbsc", false, "serve https, and bind sessions to the device that signs in, where the browser can")
	flag.BoolVar(&s.Debug, "debug", false, "show everybody what happens to sessions, at /debug/sessions; development only")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	if *store == "" {
		*store = "cookie"
		if s.Bind {
			*store = "memory" // which keeps the whole promise, see package dbsc
		}
	}
	if err := run(ctx, os.Stdout, *addr, *store, open, s); err != nil {
		log.Fatalf("%s: %v", program, err)
	}
}

// Settings are what the flags say about the pages and the cookie.
type Settings struct {
	Secure bool // send the cookie over https only
	Bind   bool // bind sessions to devices, which needs https
	Debug  bool // serve /debug/sessions
}

// run serves until ctx is done, then lets the requests in flight finish.
func run(ctx context.Context, out io.Writer, addr, storeName string, open OpenFunc, s Settings) error {
	// A name may be a URL with a password.
	kind, _, _ := strings.Cut(storeName, ":")
	if host, _, _ := net.SplitHostPort(addr); s.Bind && host != "localhost" {
		return fmt.Errorf("-addr %s: with -dbsc need localhost and a port, since the certificate is for localhost alone", addr)
	}
	fmt.Fprintf(out, "Starting a demo shop that keeps its sessions in: %s\n", kind)
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w; -addr chooses another address", err)
	}
	defer ln.Close()
	keys, err := loadKeys(out, os.Getenv("SESSION_KEYS"))
	if err != nil {
		return err
	}
	store, err := open(ctx, storeName)
	if err != nil {
		return err
	}
	a, err := New(keys, store, bcrypt.DefaultCost, s)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Sign in as %q with the password %q\n", DemoUser, Passwords[DemoUser])
	at := "http://" + browsable(addr, ln.Addr())
	if s.Bind {
		at = strings.Replace(at, "http", "https", 1)
		authority, certificate, err := newCertificate(time.Now())
		if err != nil {
			return err
		}
		file, err := explainTrust(out, authority, at)
		defer os.Remove(file)
		if err != nil {
			return err
		}
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}})
	}
	if s.Debug {
		fmt.Fprintf(out, "See what happens to sessions on %s/debug/sessions\n", at)
	}
	fmt.Fprintf(out, "Open %s, stop with Ctrl-C\n", at)
	return serve(ctx, ln, a)
}

// loadKeys returns the key ring of env, the value of SESSION_KEYS. If env is empty,
// it makes a new key, which is lost when the program ends.
func loadKeys(out io.Writer, env string) (*sessions.Keyring, error) {
	if env != "" {
		keys, err := sessions.ParseKeyring(env)
		if err != nil {
			return nil, fmt.Errorf("SESSION_KEYS: %w", err)
		}
		return keys, nil
	}
	fmt.Fprintln(out, "SESSION_KEYS is not set: all users are signed out when this program ends")
	return sessions.NewKeyring(sessions.NewSecret())
}

func serve(ctx context.Context, ln net.Listener, a *App) error {
	srv := &http.Server{
		Handler:           a.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	srv.RegisterOnShutdown(a.Stop)
	closed := make(chan error, 1)
	go func() {
		<-ctx.Done()
		late, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		closed <- srv.Shutdown(late)
	}()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-closed // Serve returns at once, Shutdown when the last request is answered
}

// browsable returns addr with the port that the listener got, and with a name
// where addr means every interface.
func browsable(addr string, taken net.Addr) string {
	host, _, _ := net.SplitHostPort(addr)
	_, port, _ := net.SplitHostPort(taken.String())
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
