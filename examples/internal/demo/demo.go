// Package demo is the application that the examples for web frameworks have in
// common: who may sign in, what a session holds, what the pages say. What is
// left in each program is how its framework and the sessions meet.
package demo

import (
	"crypto/subtle"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/typedsessions/sessions"
)

// AppSession is all that the application remembers of a visitor.
type AppSession struct {
	User     string `msgpack:"user" validate:"max=32"` // "" until he signs in
	Seconds  int    `msgpack:"seconds"`                // that he had the dashboard open
	Messages int    `msgpack:"messages"`               // that he sent over the WebSocket
}

// The one user of the demo. A real application keeps hashes, as examples/login
// does.
const (
	User     = "ada"
	Password = "analytical engine"
)

// Authenticate says whether there is such a user with such a password.
func Authenticate(user, password string) bool {
	return subtle.ConstantTimeCompare([]byte(user), []byte(User))&
		subtle.ConstantTimeCompare([]byte(password), []byte(Password)) == 1
}

// NewManager returns the Manager of the demo. The store may be nil, for sessions
// in cookies; streams and WebSockets can then read their session but not save
// it, since the cookie would have had to leave before.
func NewManager(keys *sessions.Keyring, store sessions.Store, secure bool) (*sessions.Manager[AppSession], error) {
	return sessions.New(sessions.Config[AppSession]{
		Keys:   keys,
		Store:  store,
		Cookie: sessions.Cookie{Insecure: !secure},
	})
}

// Start reads the flags and SESSION_KEYS, opens the port and says where to look.
// Sessions are kept in the memory of the process.
func Start() (*sessions.Manager[AppSession], net.Listener, error) {
	addr := flag.String("addr", "localhost:8080", "`address` to listen on")
	secure := flag.Bool("secure", false, "send the cookie over https only, behind TLS")
	flag.Parse()
	keys, err := loadKeys(os.Getenv("SESSION_KEYS"))
	if err != nil {
		return nil, nil, err
	}
	mgr, err := NewManager(keys, &sessions.MemoryStore{Max: 100_000}, *secure)
	if err != nil {
		return nil, nil, err
	}
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		return nil, nil, fmt.Errorf("%w; -addr chooses another address", err)
	}
	fmt.Println("Starting a demo that keeps its sessions in the memory of this program")
	fmt.Printf("Sign in as %q with the password %q\n", User, Password)
	fmt.Printf("Open http://%s, stop with Ctrl-C\n", browsable(*addr, ln.Addr()))
	return mgr, ln, nil
}

// loadKeys reads the key ring from SESSION_KEYS. Without one it makes a
// key that nobody else has, and that is gone when the program ends.
func loadKeys(env string) (*sessions.Keyring, error) {
	if env == "" {
		fmt.Println("SESSION_KEYS is not set: a fresh key is used, and cookies end with this program")
		return sessions.NewKeyring(sessions.NewSecret())
	}
	keys, err := sessions.ParseKeyring(env)
	if err != nil {
		return nil, fmt.Errorf("SESSION_KEYS: %w", err)
	}
	return keys, nil
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

// Serve answers the connections of ln with h until the program ends. It sets no
// WriteTimeout, which would cut the streams.
func Serve(ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
	return srv.Serve(ln)
}
