// Login is a small shop with a sign-in, and a place to start an application
// from. It shows the whole life of a session:
//
//   - a cart that belongs to a visitor before anybody knows who he is, and
//     that he keeps when he signs in;
//   - a sign-in form whose error is a flash message, shown exactly once;
//   - "remember me", signing out, and pages for signed-in visitors only;
//   - a page of everywhere that a person is signed in, to end it from there.
//
// Run it from the root of the repository, with nothing to set up, and open the
// address that it prints:
//
//	go run ./examples/login
//	go run ./examples/login -store memory
//
// Sessions travel in a signed cookie, or stay in a store with -store. To keep
// people signed in over a restart, give the program keys of your own:
//
//	export SESSION_KEYS=$(openssl rand -base64 32)
//
// The flag -secure is for serving behind TLS, as everything but a local
// experiment should be. With -debug, the page /debug/sessions shows what this
// browser's session holds, and the last events of all sessions with their
// reasons: why somebody was signed out, for instance.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/typedsessions/sessions"
)

func main() {
	var s settings
	flag.StringVar(&s.addr, "addr", "localhost:8080", "`address` to listen on")
	flag.StringVar(&s.store, "store", "cookie", "where sessions are kept: `"+storeNames+"`")
	flag.BoolVar(&s.secure, "secure", false, "send the cookie over https only")
	flag.BoolVar(&s.debug, "debug", false, "show everybody what happens to sessions, at /debug/sessions; development only")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	if err := run(ctx, s); err != nil {
		log.Fatalf("login: %v", err)
	}
}

// settings are what the flags say.
type settings struct {
	addr, store   string
	secure, debug bool
}

// run serves until ctx is done, then lets the requests in flight finish.
func run(ctx context.Context, s settings) error {
	store, err := openStore(ctx, s.store)
	if err != nil {
		return err
	}
	keys, err := loadKeys(os.Getenv("SESSION_KEYS"))
	if err != nil {
		return err
	}
	people, err := newUsers(demoUsers, bcrypt.DefaultCost)
	if err != nil {
		return err
	}
	a, err := newApp(keys, store, people, s)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("%w; -addr chooses another address", err)
	}
	fmt.Printf("Sessions are kept here: %s\n", s.store)
	fmt.Printf("Sign in as %q with the password %q\n", demoUser, demoUsers[demoUser])
	at := "http://" + browsable(s.addr, ln.Addr())
	if s.debug {
		fmt.Printf("See what happens to sessions on %s/debug/sessions\n", at)
	}
	fmt.Printf("Open %s, stop with Ctrl-C\n", at)
	return serve(ctx, ln, a.routes())
}

// loadKeys reads the key ring from SESSION_KEYS. Without one it makes a
// key that nobody else has, and that is gone when the program ends.
func loadKeys(env string) (*sessions.Keyring, error) {
	if env != "" {
		keys, err := sessions.ParseKeyring(env)
		if err != nil {
			return nil, fmt.Errorf("SESSION_KEYS: %w", err)
		}
		return keys, nil
	}
	fmt.Println("SESSION_KEYS is not set: sign-ins end when this program does")
	return sessions.NewKeyring(sessions.NewSecret())
}

func serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
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

// browsable is addr with the port that was really taken, and with a name where
// addr means every interface.
func browsable(addr string, taken net.Addr) string {
	host, _, _ := net.SplitHostPort(addr)
	_, port, _ := net.SplitHostPort(taken.String())
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
