// Webtransport is a login with WebTransport sessions that end when the login does:
//
//	cd examples/webtransport && go run .
//
// Two things are special about WebTransport. The server of webtransport-go needs
// the ResponseWriter of package http3, which the middleware wraps: see upgrade.go,
// which is meant to be copied. And browsers send no cookies when they open a
// WebTransport session, and ignore those of the response. So there are two ways to
// the session here:
//
//   - A client that sends the cookie, such as a program, has its session as in any
//     other request. The handler may change it before it upgrades the request.
//   - A page in a browser asks for a ticket first, by an ordinary request, which
//     has the cookie. The ticket is good once, for half a minute.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"
	"github.com/typedsessions/sessions"
)

// AppSession is what the application remembers of a visitor.
type AppSession struct {
	User        string `msgpack:"user"`
	Connections int    `msgpack:"conns"`
}

func main() {
	addr := flag.String("addr", "localhost:8443", "where to listen, by TCP and by UDP")
	flag.Parse()
	log.Fatal(run(*addr))
}

func run(addr string) error {
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		return err
	}
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:  keys,
		Store: &sessions.MemoryStore{},
	})
	if err != nil {
		return err
	}
	cert, err := newCertificate()
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		return err
	}
	a := newApp(mgr, cert)
	go func() { log.Fatal(a.wt.Serve(udp)) }()
	log.Printf("https://%s/ (the browser will warn of a certificate that the program has made itself)", tcp.Addr())
	return (&http.Server{Handler: a.wt.H3.Handler, TLSConfig: a.wt.H3.TLSConfig}).ServeTLS(tcp, "", "")
}

// An app is what the handlers share.
type app struct {
	wt   *webtransport.Server
	cert tls.Certificate

	mu      sync.Mutex
	tickets map[string]ticket
}

// newApp returns the application, whose handler serves HTTP/3 and, for browsers,
// the versions before it.
func newApp(mgr *sessions.Manager[AppSession], cert tls.Certificate) *app {
	a := &app{cert: cert, tickets: make(map[string]ticket)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.page)
	mux.HandleFunc("POST /login", login)
	mux.HandleFunc("POST /logout", logout)
	mux.HandleFunc("POST /ticket", a.ticket)
	mux.HandleFunc("CONNECT /live", a.live)
	mux.HandleFunc("CONNECT /live/{ticket}", a.liveByTicket)
	a.wt = &webtransport.Server{H3: &http3.Server{
		Handler:   http.NewCrossOriginProtection().Handler(mgr.Middleware(mux)),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{http3.NextProtoH3, "h2", "http/1.1"}},
	}}
	return a
}

func login(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	sess.RegenerateID()
	sess.Data = AppSession{User: "ada"}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func logout(w http.ResponseWriter, r *http.Request) {
	sessions.Get[AppSession](r.Context()).Destroy()
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// live serves a client that sends the cookie. What the handler changes before
// upgrade is stored with the response, a new cookie included. What it changes
// later needs a Save, as in any stream.
func (a *app) live(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	if sess.Data.User == "" {
		http.Error(w, "sign in first", http.StatusUnauthorized)
		return
	}
	sess.Update(func(d *AppSession) { d.Connections++ })
	conn, err := upgrade(a.wt, w, r)
	if err != nil {
		http.Error(w, "this address is for WebTransport", http.StatusBadRequest)
		return
	}
	watched, stop := sess.Watch(conn.Context())
	defer stop()
	serve(watched, conn, sess.Data.User)
}

// A ticket stands for the session of a request that asked for it.
type ticket struct {
	user    string
	watched context.Context
	stop    context.CancelFunc
}

const ticketLife = 30 * time.Second

// ticket answers with a ticket for the session. The session is watched from here
// on, so that nothing is missed until the ticket is used.
func (a *app) ticket(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	if sess.Data.User == "" {
		http.Error(w, "sign in first", http.StatusUnauthorized)
		return
	}
	watched, stop := sess.Watch(context.WithoutCancel(r.Context()))
	key := rand.Text()
	a.mu.Lock()
	a.tickets[key] = ticket{sess.Data.User, watched, stop}
	a.mu.Unlock()
	time.AfterFunc(ticketLife, func() {
		if t, ok := a.take(key); ok {
			t.stop()
		}
	})
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, key)
}

func (a *app) take(key string) (ticket, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, ok := a.tickets[key]
	delete(a.tickets, key)
	return t, ok
}

// liveByTicket serves a page in a browser. It asks for no session: the browser has
// sent no cookie.
func (a *app) liveByTicket(w http.ResponseWriter, r *http.Request) {
	t, ok := a.take(r.PathValue("ticket"))
	if !ok {
		http.Error(w, "ask for a ticket first", http.StatusUnauthorized)
		return
	}
	defer t.stop()
	conn, err := upgrade(a.wt, w, r)
	if err != nil {
		http.Error(w, "this address is for WebTransport", http.StatusBadRequest)
		return
	}
	serve(t.watched, conn, t.user)
}

// endedCode tells the client that its session has ended, so that it does not try
// again.
const endedCode = 1

// serve greets the client on a stream, and then answers each of its streams, until
// the session has ended or the client is gone.
func serve(watched context.Context, conn *webtransport.Session, user string) {
	end := context.AfterFunc(watched, func() { _ = conn.CloseWithError(endedCode, "the session has ended") })
	defer end()
	if s, err := conn.OpenUniStream(); err == nil {
		_, _ = fmt.Fprintf(s, "hello %s", user)
		_ = s.Close()
	}
	for {
		s, err := conn.AcceptStream(context.Background())
		if err != nil {
			return // the client is gone, or the session has ended
		}
		go func() {
			_, _ = io.Copy(s, s)
			_ = s.Close()
		}()
	}
}

func (a *app) page(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if sess.Data.User == "" {
		_, _ = io.WriteString(w, loginPage)
		return
	}
	// A browser takes a certificate that nobody has signed only if the page names it.
	hash := sha256.Sum256(a.cert.Certificate[0])
	_, _ = fmt.Fprintf(w, livePage, base64.StdEncoding.EncodeToString(hash[:]))
}

const loginPage = `<!doctype html><title>WebTransport</title>
<form method="post" action="/login"><button>Sign in as ada</button></form>
`

const livePage = `<!doctype html><title>WebTransport</title>
<form method="post" action="/logout" target="other"><button>Sign out in another frame</button></form>
<iframe name="other" hidden></iframe><pre id="log"></pre>
<script type="module">
const log = (line) => document.getElementById('log').append(line + '\n')
const hash = Uint8Array.from(atob('%s'), (c) => c.charCodeAt(0))
try {
  const ticket = await (await fetch('/ticket', { method: 'POST' })).text()
  const wt = new WebTransport('https://' + location.host + '/live/' + ticket,
    { serverCertificateHashes: [{ algorithm: 'sha-256', value: hash }] })
  await wt.ready
  log('connected')
  wt.closed.then((info) => log('closed: ' + info.reason), (err) => log('closed: ' + err))
  for await (const stream of wt.incomingUnidirectionalStreams)
    log(await new Response(stream).text())
} catch (err) {
  log('' + err)
}
</script>
`

// newCertificate makes a certificate for localhost, as browsers demand it of a
// certificate that a page names: for no more than two weeks, and no RSA.
func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(10 * 24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
