package sessions_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// A dumper prints what it reaches by reflection, unexported fields included, and
// calls no method: what printers for debugging do.
type dumper struct {
	text []byte
	seen map[uintptr]bool
}

func (d *dumper) dump(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() || d.seen[v.Pointer()] {
			return
		}
		d.seen[v.Pointer()] = true
		d.dump(v.Elem())
	case reflect.Interface:
		if !v.IsNil() {
			d.dump(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			d.dump(v.Field(i))
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			for i := range v.Len() {
				d.text = append(d.text, byte(v.Index(i).Uint()))
			}
			return
		}
		for i := range v.Len() {
			d.dump(v.Index(i))
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			d.dump(it.Key())
			d.dump(it.Value())
		}
	case reflect.String:
		d.text = append(d.text, v.String()...)
	}
}

// Even a printer that walks through unexported fields finds neither a secret nor
// a key derived from one in a ring, a Config or a Manager.
func TestADumperFindsNoKey(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		keys := newKeys(t, ringSecrets(1, 2)...)
		var cfg config
		s := newSite(t, m, func(c *config) { c.Keys, c.Store = keys, nil; cfg = *c })
		if m.hasStore() {
			s = newSite(t, m, func(c *config) { c.Keys = keys; cfg = *c })
		}
		b := s.browser()
		b.do(func(s *session) { s.Data.UserID = 1 }) // the keys have been derived
		mode := "cookie"
		if m.hasStore() {
			mode = "store"
		}
		for what, v := range map[string]any{"*Keyring": keys, "Keyring": *keys, "Config": cfg, "*Manager": s.mgr, "Manager": *s.mgr} {
			d := &dumper{seen: map[uintptr]bool{}}
			d.dump(reflect.ValueOf(v))
			for n := range 2 {
				secret := ringSecret(n + 1)
				k := wireKeyOf(secret, mode, "__Host-Http-session")
				mustNotShow(t, string(d.text), secret, k.mac, k.seal)
			}
			if t.Failed() {
				t.Fatalf("found in %s", what)
			}
		}
	})
}

// A panic of the application's code may carry what it worked on: of those that
// are caught, logs, events and answers show the type alone.
func TestCaughtPanicsShowNoValue(t *testing.T) {
	type leak struct{ Secret string }
	boom := func() { panic(leak{secretName}) }
	for name, set := range map[string]func(c *config, armed *bool){
		"Validate": func(c *config, armed *bool) {
			c.Validate = func(*AppSession) error {
				if *armed {
					boom()
				}
				return nil
			}
		},
		"Owner": func(c *config, armed *bool) {
			c.Owner = func(*AppSession) string {
				if *armed {
					boom()
				}
				return secretOwner
			}
		},
		"Merge": func(c *config, armed *bool) {
			c.Merge = func(_, mine, _ AppSession) (AppSession, error) {
				if *armed {
					boom()
				}
				return mine, nil
			}
		},
		"OnEvent": func(c *config, armed *bool) {
			hear := c.OnEvent
			c.OnEvent = func(ctx context.Context, e sessions.Event) {
				hear(ctx, e)
				if *armed {
					boom()
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var text func() string
			armed := false
			s := newSite(t, modes[3], func(c *config) {
				var logger *slog.Logger
				logger, text = logged()
				c.Logger = logger
				set(c, &armed)
			})
			b := s.browser()
			b.do(fillSecrets)
			cookie := b.cookie()
			res := overlap(b, func(s *session) { s.Data.N = 7; s.RegenerateID() }, func() {
				b.clone().do(func(s *session) { s.Data.Seen = time.Unix(1, 0) })
				armed = true
			})
			b.do(func(s *session) { s.Data.N = 8 })
			b.clone().do((*session).Destroy)
			hidden(t, "the answer", res.body, cookie)
			hidden(t, "the log", text(), cookie)
			for _, e := range s.events.all {
				hidden(t, "an event", fmt.Sprintf("%v %+v %#v", e, e, e), cookie)
			}
		})
	}
}

// A blabber has an encoding of its own, whose errors show what it works on.
type blabber struct{ S string }

func (b blabber) MarshalText() ([]byte, error) {
	if strings.HasPrefix(b.S, "unwritable") {
		return nil, fmt.Errorf("cannot write %q", b.S)
	}
	return []byte(b.S), nil
}

func (b *blabber) UnmarshalText(text []byte) error {
	if b.S = string(text); strings.HasPrefix(b.S, "unreadable") {
		return fmt.Errorf("cannot read %q", b.S)
	}
	return nil
}

// What a type's own codec says of its value stays out of answers, events and logs,
// on the way into the store and out of it.
func TestErrorsOfATypesOwnCodecShowNoValue(t *testing.T) {
	type account struct{ B blabber }
	for _, value := range []string{"unwritable " + secretName, "unreadable " + secretName} {
		eachMode(t, func(t *testing.T, m mode) {
			logger, text := logged()
			var heard []error
			c := sessions.Config[account]{
				Keys: newKeys(t), Encrypt: m.encrypt, Logger: logger,
				OnEvent: func(_ context.Context, e sessions.Event) { heard = append(heard, e.Err) },
				ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
					http.Error(w, err.Error(), http.StatusInternalServerError)
				},
			}
			if m.hasStore() {
				c.Store = m.store()
			}
			mgr, err := sessions.New(c)
			if err != nil {
				t.Fatal(err)
			}
			handler := mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if s := sessions.Get[account](r.Context()); r.Method == "POST" {
					s.Data.B.S = value
				}
			}))
			post := httptest.NewRecorder()
			handler.ServeHTTP(post, httptest.NewRequest("POST", "/", nil))
			get := httptest.NewRequest("GET", "/", nil)
			for _, c := range post.Result().Cookies() {
				get.AddCookie(c)
			}
			handler.ServeHTTP(httptest.NewRecorder(), get)
			if len(heard) == 0 || heard[len(heard)-1] == nil {
				t.Fatalf("%q: got the events %v, want one that says why", value, heard)
			}
			hidden(t, "the answer", post.Body.String())
			hidden(t, "the log", text())
			hidden(t, "an event", fmt.Sprint(heard))
		})
	}
}

// A recordedSource is a source of randomness that keeps what it gave.
type recordedSource struct {
	io.Reader
	given []byte
}

func (r *recordedSource) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.given = append(r.given, b[:n]...)
	return n, err
}

// Not parallel: crypto/rand has one source for the whole process. The second half
// of a nonce is crypto/cipher's own.
func TestIDsAndNoncesAreWhollyFromCryptoRand(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		store := newPlainStore()
		if m.hasStore() {
			m.store = func() sessions.Store { return store }
		}
		b := newSite(t, m, nil).browser()
		source := &recordedSource{Reader: rand.Reader}
		defer func(was io.Reader) { rand.Reader = was }(rand.Reader)
		rand.Reader = source
		var id string
		b.do(func(s *session) { s.Data.UserID, id = 42, s.ID() })
		token, err := base64.RawURLEncoding.DecodeString(b.cookie())
		if err != nil {
			t.Fatal(err)
		}
		public, err := hex.DecodeString(id)
		if err != nil {
			t.Fatal(err)
		}
		drawn := map[string][]byte{"the id": public}
		if m.hasStore() {
			drawn = map[string][]byte{"the secret of the id": token[15:47]}
		}
		if m.encrypt && m.hasStore() {
			for _, rec := range store.records {
				drawn["the nonce"] = rec.Data[5:17]
			}
		} else if m.encrypt {
			drawn["the nonce"] = token[5:17]
		}
		for what, bytesOf := range drawn {
			if !bytes.Contains(source.given, bytesOf) {
				t.Errorf("got %s with bytes that are not from crypto/rand", what)
			}
		}
	})
}

// Whoever reads the store, or a copy of it, has no cookie: a record and its id
// hold nothing of the secret.
func TestWhoReadsTheStoreCannotMakeACookie(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		s := newSite(t, m, nil)
		b := s.browser()
		b.do(func(s *session) { s.Data.UserID = 42 })
		token, err := base64.RawURLEncoding.DecodeString(b.cookie())
		if err != nil {
			t.Fatal(err)
		}
		secret, id := token[15:47], s.store.live()[0]
		if want := sha256.Sum256(secret); id != want {
			t.Error("the id in the store is not the hash of the secret in the cookie")
		}
		rec, err := s.store.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(rec.Data, secret[:16]) || bytes.Contains(rec.Data, secret[16:]) || bytes.Equal(id[:], secret) {
			t.Error("the store holds the secret of the cookie")
		}
	})
}

// No clock can show it reliably, so the source is read: a comparison that stops
// at the first difference tells a forger how far they got.
func TestAMACIsComparedInConstantTimeOnly(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "internal/keys/signer.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constant := 0
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Name.Name != "Verify" {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			switch pkg, _ := call.X.(*ast.Ident); {
			case pkg == nil:
			case pkg.Name == "hmac" && call.Sel.Name == "Equal":
				constant++
			case pkg.Name == "bytes" || pkg.Name == "slices" || pkg.Name == "strings":
				t.Errorf("Verify calls %s.%s, want hmac.Equal alone", pkg.Name, call.Sel.Name)
			}
			return true
		})
	}
	if constant != 1 {
		t.Errorf("got %d calls of hmac.Equal in Verify, want 1", constant)
	}
}
