package dbsc_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/dbsc"
)

// benchSession is that of the root's BenchmarkRequest.
type benchSession struct {
	UserID   int    `msgpack:"uid" validate:"gte=0"`
	Name     string `msgpack:"name" validate:"max=64"`
	Role     string `msgpack:"role" validate:"omitempty,oneof=admin user"`
	Cart     []int  `msgpack:"cart" validate:"max=32"`
	LastSeen int64  `msgpack:"seen" validate:"gte=0"`
}

type benchWriter struct{ header http.Header }

func (w *benchWriter) Header() http.Header         { return w.header }
func (w *benchWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *benchWriter) WriteHeader(int)             {}

// A bench is an application and the Cookie headers of its sessions.
type bench struct {
	alone, handler http.Handler // without and with Devices
	unbound, bound string
	refresh        *http.Request
}

func newBench(tb testing.TB, store sessions.Store) *bench {
	tb.Helper()
	keys, err := sessions.NewKeyring(secret)
	if err != nil {
		tb.Fatal(err)
	}
	mgr, err := sessions.New(sessions.Config[benchSession]{Keys: keys, Store: store})
	if err != nil {
		tb.Fatal(err)
	}
	devices, err := dbsc.New(mgr, dbsc.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	app := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[benchSession](r.Context())
		if strings.HasPrefix(r.URL.Path, "/login") {
			sess.RegenerateID()
			sess.Data = benchSession{123456, "Ada Lovelace", "user", []int{1, 2, 3, 4, 5, 6, 7, 8}, 1_700_000_000}
		}
		if r.URL.Path == "/login/offer" {
			dbsc.Offer(r.Context())
		}
		_ = sess.Data.UserID
	})
	h := &bench{alone: mgr.Middleware(app), handler: mgr.Middleware(devices.Middleware(app))}
	b := newBrowser(tb, inProcess{h.handler})
	b.get("https://app.test/login")
	h.unbound = cookies(b)
	b = newBrowser(tb, inProcess{h.handler})
	b.get("https://app.test/login/offer")
	b.get("https://app.test/")
	h.bound = cookies(b)
	var proof string
	b.on = func(r *http.Request) {
		if p := r.Header.Get("Secure-Session-Response"); p != "" {
			proof = p
		}
	}
	b.drop("-bound")
	b.get("https://app.test/")
	h.refresh = httptest.NewRequest("POST", "https://app.test/dbsc/refresh", nil)
	h.refresh.Header.Set("Cookie", h.bound)
	h.refresh.Header.Set("Sec-Secure-Session-Id", b.bindings[0].id)
	h.refresh.Header.Set("Secure-Session-Response", proof)
	return h
}

type inProcess struct{ http.Handler }

func (h inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}

func cookies(b *browser) string {
	var pairs []string
	for _, c := range b.jar {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return "theme=dark; " + strings.Join(pairs, "; ") + "; lang=en"
}

func page(cookie string) *http.Request {
	r := httptest.NewRequest("GET", "https://app.test/", nil)
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)")
	r.Header.Set("Cookie", cookie)
	return r
}

// BenchmarkBound compares a request of a bound session with one of an unbound
// session, and a refresh with the verification of a signature
// (BenchmarkProof/ECDSA_alone).
func BenchmarkBound(b *testing.B) {
	for _, mode := range []struct {
		name  string
		store sessions.Store
	}{{"signed", nil}, {"memory", new(sessions.MemoryStore)}} {
		h := newBench(b, mode.store)
		for _, work := range []struct {
			name string
			h    http.Handler
			r    *http.Request
		}{
			{"unbound, no Devices", h.alone, page(h.unbound)},
			{"unbound", h.handler, page(h.unbound)},
			{"bound", h.handler, page(h.bound)},
			{"refresh", h.handler, h.refresh},
		} {
			b.Run(mode.name+"/"+work.name, func(b *testing.B) {
				w := &benchWriter{http.Header{}}
				b.ReportAllocs()
				for b.Loop() {
					clear(w.header)
					work.h.ServeHTTP(w, work.r)
				}
			})
		}
	}
}

// BenchmarkBoundRatio measures in turns, so that a busy machine slows all of it
// alike, and reports the least of many short runs. What a bound session costs more
// has a floor, which it reports too: the session cookie is longer by the key, and
// the bound cookie has a MAC.
func BenchmarkBoundRatio(b *testing.B) {
	h := newBench(b, nil)
	w := &benchWriter{http.Header{}}
	run := func(handler http.Handler, r *http.Request, n int) func() time.Duration {
		return func() time.Duration {
			began := time.Now()
			for range n {
				clear(w.header)
				handler.ServeHTTP(w, r)
			}
			return time.Since(began) / time.Duration(n)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	hash := make([]byte, 32)
	signature, err := key.Sign(nil, hash, crypto.SHA256)
	if err != nil {
		b.Fatal(err)
	}
	mac, token, sum := hmac.New(sha256.New, secret), make([]byte, 5+5+33), [sha256.Size]byte{}
	works := []func() time.Duration{
		run(h.alone, page(h.unbound), 50),
		run(h.handler, page(h.unbound), 50),
		run(h.handler, page(h.bound), 50),
		run(h.handler, h.refresh, 5),
		func() time.Duration {
			began := time.Now()
			for range 5 {
				ecdsa.VerifyASN1(&key.PublicKey, hash, signature)
			}
			return time.Since(began) / 5
		},
		run(h.alone, page(h.bound), 50),
		func() time.Duration {
			began := time.Now()
			for range 50 {
				mac.Reset()
				mac.Write(token)
				mac.Sum(sum[:0])
			}
			return time.Since(began) / 50
		},
	}
	least := make([]time.Duration, len(works))
	for b.Loop() {
		for _, i := range mathrand.Perm(len(works)) {
			if d := works[i](); least[i] == 0 || d < least[i] {
				least[i] = d
			}
		}
	}
	b.ReportMetric(float64(least[0]), "ns/alone")
	b.ReportMetric(float64(least[1]), "ns/unbound")
	b.ReportMetric(float64(least[2]-least[1]), "ns/more-if-bound")
	b.ReportMetric(float64(least[3])/float64(least[4]), "refresh÷ECDSA")
	b.ReportMetric(float64(least[5]-least[0]), "ns/longer-cookie")
	b.ReportMetric(float64(least[6]), "ns/HMAC")
}
