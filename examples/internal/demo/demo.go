// Package demo is the application that the examples for web frameworks have in
// common: the user, the data of the session, and the pages. Each program has only
// the code that connects its framework and the sessions.
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
	User     string `msgpack:"user" validate:"max=32"` // "" until the visitor signs in
	Seconds  int    `msgpack:"seconds"`                // for which the dashboard was open
	Messages int    `msgpack:"messages"`               // sent over the WebSocket
}

// The one user of the demo. A real application keeps hashes, as examples/login
// does.
const (
	User     = "ada"
	Password = "analytical engine"
)

// Authenticate reports whether there is a user of that name with that password.
func Authenticate(user, password string) bool {
	return subtle.ConstantTimeCompare([]byte(user), []byte(User))&
		subtle.ConstantTimeCompare([]byte(password), []byte(Password)) == 1
}

// NewManager returns the Manager of the demo. The store may be nil, for sessions
// in cookies. Streams and WebSockets can then read their session but not save it,
// since a cookie cannot be sent after the first byte.
func NewManager(keys *sessions.Keyring, store sessions.Store, secure bool) (*sessions.Manager[AppSession], error) {
	return sessions.New(sessions.Config[AppSession]{
		Keys:   keys,
		Store:  store,
		Cookie: sessions.Cookie{Insecure: !secure},
	})
}

// Start reads the flags and SESSION_KEYS, listens on the port and prints the
// address. Sessions are kept in the memory of the process.
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

// loadKeys returns the key ring of env, the value of SESSION_KEYS. If env is empty,
// it makes a new key, which is lost when the program ends.
func loadKeys(env string) (*sessions.Keyring, error) {
	if env == "" {
		fmt.Println("SESSION_KEYS is not set: all users are signed out when this program ends")
		return sessions.NewKeyring(sessions.NewSecret())
	}
	keys, err := sessions.ParseKeyring(env)
	if err != nil {
		return nil, fmt.Errorf("SESSION_KEYS: %w", err)
	}
	return keys, nil
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

// Serve serves h on ln until the program ends. It sets no WriteTimeout, which
// would end the streams.
func Serve(ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
	return srv.Serve(ln)
}
