package benchmarks

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-playground/validator/v10"
	"github.com/vmihailenco/msgpack/v5"
)

// A floor is a middleware written by hand for this one type, with only the necessary
// work. It puts the session into the context and sets the cookie before the first
// byte of the response. If the handler asks for the session, it finds the cookie,
// decodes base64, computes an HMAC with a reused state or opens AES-GCM with a key
// derived for the message, decodes, validates, and encodes once to detect a change.
//
// The cookie has as many bytes as that of this library. A floor has no lifetimes,
// key rotation, flash messages or events, and is not safe for concurrent use.
type floor struct {
	sealed   bool
	format   format
	mac      hash.Hash
	sum      [sha256.Size]byte
	block    cipher.Block
	validate *validator.Validate
	raw      []byte
	token    []byte
	body     []byte
	encoded  []byte
	opened   []byte
}

// A format is the encoding of a floor.
type format interface {
	append(b []byte, s *Shop) ([]byte, error)
	decode(b []byte, s *Shop) error
	validate(*validator.Validate, *Shop) error
}

// The sizes of the fixed parts of a cookie of this library: those before the body,
// and those in the body before the data. See docs/FORMAT.md.
const (
	floorPrefix = 1 + 4
	floorHeader = 5 + 5 + 5 + 4 + 2 + 4 + 16 + 1 + 1 // without extensions and flash messages
	floorNonce  = 24
)

func newFloor(sealed bool, f format) *floor {
	block, err := aes.NewCipher(secret)
	if err != nil {
		panic(err)
	}
	return &floor{
		sealed:   sealed,
		format:   f,
		mac:      hmac.New(sha256.New, secret),
		block:    block,
		validate: validator.New(validator.WithRequiredStructEnabled()),
	}
}

func (f *floor) app() app {
	return newHTTPApp(f.middleware,
		func(x exchange) (Shop, bool) {
			s := floorOf(x.r)
			return *s.get(), s.was != nil
		},
		func(x exchange, n int) { floorOf(x.r).get().UserID = n },
		func(x exchange, data Shop) {
			s := floorOf(x.r)
			*s.get() = data
			_, _ = rand.Read(s.id[:])
		})
}

// A floorSession is the session of a request to a floor.
type floorSession struct {
	f    *floor
	r    *http.Request
	data *Shop  // nil until get is called
	was  []byte // the encoding in the cookie; nil if there was none
	id   [16]byte
}

type floorKey struct{}

func floorOf(r *http.Request) *floorSession { return r.Context().Value(floorKey{}).(*floorSession) }

func (f *floor) middleware(h func(exchange)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &floorSession{f: f, r: r}
		fw := &floorWriter{ResponseWriter: w, s: s}
		h(exchange{fw, r.WithContext(context.WithValue(r.Context(), floorKey{}, s))})
		fw.commit()
	})
}

type floorWriter struct {
	http.ResponseWriter
	s    *floorSession
	done bool
}

func (w *floorWriter) WriteHeader(code int) {
	w.commit()
	w.ResponseWriter.WriteHeader(code)
}

func (w *floorWriter) Write(b []byte) (int, error) {
	w.commit()
	return w.ResponseWriter.Write(b)
}

func (w *floorWriter) commit() {
	s := w.s
	if w.done || s.data == nil {
		return
	}
	w.done = true
	addVary(w)
	if s.was == nil && reflect.ValueOf(s.data).Elem().IsZero() {
		return
	}
	f := s.f
	f.encoded = f.encode(f.encoded[:0], s.data)
	if bytes.Equal(f.encoded, s.was) {
		return
	}
	if err := f.format.validate(f.validate, s.data); err != nil {
		panic(err)
	}
	h := w.Header()
	h["Set-Cookie"] = append(h["Set-Cookie"], cookieName+"="+f.seal(&s.id)+"; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax")
	h["Cache-Control"] = []string{"private"}
}

func addVary(w http.ResponseWriter) {
	h := w.Header()
	h["Vary"] = append(h["Vary"], "Cookie")
}

// get loads the session if that has not happened yet.
func (s *floorSession) get() *Shop {
	if s.data == nil {
		f := s.f
		s.data = new(Shop)
		if s.was = f.open(find(s.r)); s.was != nil {
			if f.format.decode(s.was, s.data) != nil || f.format.validate(f.validate, s.data) != nil {
				panic("the floor's own cookie is not valid")
			}
		}
	}
	return s.data
}

func find(r *http.Request) string {
	for _, line := range r.Header["Cookie"] {
		for len(line) > 0 {
			var part string
			part, line, _ = strings.Cut(line, ";")
			if value, ok := strings.CutPrefix(strings.TrimLeft(part, " "), cookieName+"="); ok {
				return value
			}
		}
	}
	return ""
}

func (f *floor) encode(b []byte, s *Shop) []byte {
	b, err := f.format.append(b, s)
	if err != nil {
		panic(err)
	}
	return b
}

// seal returns the value of the cookie for f.encoded.
func (f *floor) seal(id *[16]byte) string {
	f.raw = append(f.raw[:0], make([]byte, floorPrefix)...)
	var header [floorHeader]byte
	binary.BigEndian.PutUint32(header[:], uint32(time.Now().Unix()))
	copy(header[floorHeader-1-len(id):], id[:])
	if f.sealed {
		f.body = append(append(f.body[:0], header[:]...), f.encoded...)
		var n [floorNonce - 12]byte
		_, _ = rand.Read(n[:])
		f.raw = f.aead(n[:]).Seal(append(f.raw, n[:]...), nil, f.body, f.raw[:floorPrefix])
	} else {
		f.raw = append(append(f.raw, header[:]...), f.encoded...)
		f.mac.Reset()
		f.mac.Write(f.raw)
		f.raw = f.mac.Sum(f.raw)
	}
	return base64.RawURLEncoding.EncodeToString(f.raw)
}

func (f *floor) open(value string) []byte {
	raw, err := base64.RawURLEncoding.AppendDecode(f.token[:0], []byte(value))
	f.token = raw
	if err != nil || len(raw) < floorPrefix+floorHeader+sha256.Size {
		return nil
	}
	if f.sealed {
		body, err := f.aead(raw[floorPrefix:floorPrefix+floorNonce-12]).Open(f.opened[:0], nil, raw[floorPrefix+floorNonce-12:], raw[:floorPrefix])
		if err != nil {
			return nil
		}
		f.opened = body
		return body[floorHeader:]
	}
	f.mac.Reset()
	f.mac.Write(raw[:len(raw)-sha256.Size])
	if !hmac.Equal(f.mac.Sum(f.sum[:0]), raw[len(raw)-sha256.Size:]) {
		return nil
	}
	return raw[floorPrefix+floorHeader : len(raw)-sha256.Size]
}

// aead returns the AEAD for a message whose nonce begins with n. It derives the key
// with two AES blocks.
func (f *floor) aead(n []byte) cipher.AEAD {
	var key [32]byte
	copy(key[:16], n)
	copy(key[16:], n)
	key[0] ^= 1
	f.block.Encrypt(key[:16], key[:16])
	f.block.Encrypt(key[16:], key[16:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// reflected encodes with msgpack and reflection.
type reflected struct {
	enc *msgpack.Encoder
	out buffer
	dec *msgpack.Decoder
	in  bytes.Reader
}

type buffer []byte

func (b *buffer) Write(p []byte) (int, error) { *b = append(*b, p...); return len(p), nil }
func (b *buffer) WriteByte(c byte) error      { *b = append(*b, c); return nil }

func newReflected() *reflected {
	f := new(reflected)
	f.enc, f.dec = msgpack.NewEncoder(&f.out), msgpack.NewDecoder(&f.in)
	return f
}

func (f *reflected) append(b []byte, s *Shop) ([]byte, error) {
	f.out = b
	f.enc.Reset(&f.out)
	f.enc.UseCompactInts(true)
	err := f.enc.Encode(s)
	return f.out, err
}

func (f *reflected) decode(b []byte, s *Shop) error {
	f.in.Reset(b)
	f.dec.Reset(&f.in)
	return f.dec.Decode(s)
}

func (*reflected) validate(v *validator.Validate, s *Shop) error { return v.Struct(s) }

// generated encodes with the methods that msgp has generated.
type generated struct{}

func (generated) append(b []byte, s *Shop) ([]byte, error) { return (*Generated)(s).MarshalMsg(b) }

func (generated) decode(b []byte, s *Shop) error {
	_, err := (*Generated)(s).UnmarshalMsg(b)
	return err
}

func (generated) validate(v *validator.Validate, s *Shop) error {
	return v.Struct((*Generated)(s))
}

// lean has the rules of a Shop by hand, too. It is where the end is: what is left are
// a MAC, base64, the encoding and the header.
type lean struct{ generated }

var errRules = errors.New("the session breaks a rule of Shop")

func (lean) validate(_ *validator.Validate, s *Shop) error {
	if s.UserID < 0 || utf8.RuneCountInString(s.Name) > 100 || s.Role != "" && s.Role != "admin" && s.Role != "user" || len(s.Cart) > 100 {
		return errRules
	}
	for _, id := range s.Cart {
		if id <= 0 {
			return errRules
		}
	}
	return nil
}

func TestTheRulesOfTheLeanFloorAreThoseOfShop(t *testing.T) {
	v := validator.New(validator.WithRequiredStructEnabled())
	for _, change := range []func(*Shop){
		func(*Shop) {},
		func(s *Shop) { *s = Shop{} },
		func(s *Shop) { s.UserID = -1 },
		func(s *Shop) { s.Name = strings.Repeat("é", 100) },
		func(s *Shop) { s.Name = strings.Repeat("é", 101) },
		func(s *Shop) { s.Role = "admin" },
		func(s *Shop) { s.Role = "root" },
		func(s *Shop) { s.Cart = slices.Repeat(s.Cart[:1], 100) },
		func(s *Shop) { s.Cart = slices.Repeat(s.Cart[:1], 101) },
		func(s *Shop) { s.Cart = []int{1, 0} },
	} {
		s := visitor()
		change(&s)
		if got, want := new(lean).validate(nil, &s), v.Struct(&s); (got == nil) != (want == nil) {
			t.Errorf("%+v: got %v, validator has %v", s, got, want)
		}
	}
}

func TestTheFloorsCookieIsAsLongAsOurs(t *testing.T) {
	for floor, ours := range map[string]string{"floor": "signed", "floor-sealed": "sealed", "floor-generated": "generated", "floor-lean": "generated"} {
		t.Run(floor, func(t *testing.T) {
			got, want := signIn(t, apps[floor](t), visitor()), signIn(t, apps[ours](t), visitor())
			if len(got) != len(want) {
				t.Errorf("got %d bytes, want %d", len(got), len(want))
			}
		})
	}
}
