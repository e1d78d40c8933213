// Package program is what the two versions of a program in a rolling deployment have
// in common. They are one program to their visitors: the same keys, the same store,
// the same cookies. They differ in the types of their sessions.
package program

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/redisstore"
)

// A Mode is a way to keep sessions. Each has a path of its name.
type Mode struct {
	Name           string
	Store, Encrypt bool
}

// Modes are all.
var Modes = []Mode{{"store", true, false}, {"sealed-store", true, true}, {"cookie", false, false}, {"sealed-cookie", false, true}}

// Serve serves HTTP on loopback until standard input ends. It prints the address.
// The argument of the program is the address of Redis. SESSION_KEYS has the keys.
//
// P is a plain type, and G one with a generated codec. A request changes both
// sessions, by change, and answers with what see tells of them as they came. n is
// the number of the request. Each seventh request leaves a message, and each 51st
// gives both sessions new ids.
func Serve[P, G any](change func(n int, p *P, g *G), see func(p P, g G) any) {
	if err := serve(change, see); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve[P, G any](change func(n int, p *P, g *G), see func(p P, g G) any) error {
	keys, err := sessions.ParseKeyring(os.Getenv("SESSION_KEYS"))
	if err != nil {
		return err
	}
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{os.Args[1]}, DisableRetry: true})
	if err != nil {
		return err
	}
	defer client.Close()
	handle := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.FormValue("n"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		p, g := sessions.Get[P](r.Context()), sessions.Get[G](r.Context())
		answer := struct {
			Reason   string
			Messages []sessions.Flash
			Seen     any
		}{fmt.Sprintf("%s, %s", p.Reason(), g.Reason()), p.Flashes(), see(p.Data, g.Data)}
		change(n, &p.Data, &g.Data)
		if n%7 == 0 {
			p.Flash("info", r.FormValue("n"))
		}
		if n%51 == 0 {
			p.RotateID()
			g.RotateID()
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	})
	mux := http.NewServeMux()
	for _, m := range Modes {
		var store sessions.Store
		if m.Store {
			store = redisstore.New(client, redisstore.Options{Prefix: m.Name})
		}
		plain, err := sessions.New(config[P](keys, store, m, "plain"))
		if err != nil {
			return err
		}
		generated, err := sessions.New(config[G](keys, store, m, "generated"))
		if err != nil {
			return err
		}
		mux.Handle("POST /"+m.Name, plain.Middleware(generated.Middleware(handle)))
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	server := http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	if err := server.Serve(ln); err != http.ErrServerClosed {
		return err
	}
	return nil
}

func config[T any](keys *sessions.Keyring, store sessions.Store, m Mode, cookie string) sessions.Config[T] {
	return sessions.Config[T]{
		Keys:    keys,
		Store:   store,
		Encrypt: m.Encrypt,
		Cookie:  sessions.Cookie{Name: m.Name + "-" + cookie, Insecure: true},
	}
}
