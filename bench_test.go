package sessions

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
	"hash"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-playground/validator/v10"
	"github.com/typedsessions/sessions/internal/keys"
	"github.com/typedsessions/sessions/internal/shape"
	"github.com/typedsessions/sessions/internal/wire"
	"github.com/vmihailenco/msgpack/v5"
)

// benchSession is what a shop keeps of a visitor.
type benchSession struct {
	UserID   int       `msgpack:"uid" validate:"gte=0"`
	Name     string    `msgpack:"name" validate:"max=100"`
	Role     string    `msgpack:"role" validate:"omitempty,oneof=admin user"`
	Cart     []int     `msgpack:"cart" validate:"max=100,dive,gt=0"`
	LastSeen time.Time `msgpack:"seen"`
}

func benchData() benchSession {
	return benchSession{
		UserID: 123456, Name: "Ada Lovelace", Role: "user",
		Cart:     []int{101, 2002, 30003, 404, 5005, 60006, 707, 8008},
		LastSeen: time.Unix(1_790_000_000, 0),
	}
}

// newBench makes a Manager whose log costs what a silent one costs.
func newBench(tb testing.TB, change func(*Config[benchSession])) *Manager[benchSession] {
	tb.Helper()
	keys, err := NewKeyring([]byte("0123456789abcdefghijklmnopqrstuv"))
	if err != nil {
		tb.Fatal(err)
	}
	cfg := Config[benchSession]{Keys: keys, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// A benchWriter is a ResponseWriter that costs nothing.
type benchWriter struct{ header http.Header }

func (w *benchWriter) Header() http.Header         { return w.header }
func (w *benchWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *benchWriter) WriteHeader(int)             {}

// cookieOf returns the cookie that a handler's session gets.
func cookieOf(tb testing.TB, m *Manager[benchSession], edit func(*Session[benchSession])) string {
	tb.Helper()
	w := httptest.NewRecorder()
	m.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		edit(Get[benchSession](r.Context()))
	})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	line := w.Header().Get("Set-Cookie")
	if line == "" {
		tb.Fatal("no Set-Cookie")
	}
	value, _, _ := strings.Cut(line, ";")
	return value
}

func request(cookie string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)")
	if cookie != "" {
		r.Header.Set("Cookie", "theme=dark; "+cookie+"; lang=en")
	}
	return r
}

// forged flips a bit in the last byte but ten of a cookie.
func forged(cookie string) string {
	b := []byte(cookie)
	at := len(b) - 10
	if b[at] == 'A' {
		b[at] = 'B'
	} else {
		b[at] = 'A'
	}
	return string(b)
}

// A work is one kind of request: R reads, W changes one field, N brings no
// cookie, U one that nobody asks for, F a forged one, and L is a login.
type work struct {
	name   string
	cookie func(real string) string
	handle func(*http.Request)
	floor  func(*http.Request)
}

func works() []work {
	var n int
	same := func(c string) string { return c }
	none := func(string) string { return "" }
	idle := func(*http.Request) {}
	get := func(r *http.Request) { _ = Get[benchSession](r.Context()).Data.UserID }
	floorGet := func(r *http.Request) { _ = floorOf(r).get().UserID }
	return []work{
		{"R", same, get, floorGet},
		{"W", same,
			func(r *http.Request) { n++; Get[benchSession](r.Context()).Data.UserID = n },
			func(r *http.Request) { n++; floorOf(r).get().UserID = n }},
		{"N", none, idle, idle},
		{"U", same, idle, idle},
		{"F", forged, get, floorGet},
		{"L", none, func(r *http.Request) {
			s := Get[benchSession](r.Context())
			s.RegenerateID()
			s.Data = benchSession{UserID: 123456, Name: "Ada Lovelace", Role: "user"}
		}, func(r *http.Request) {
			s := floorOf(r)
			*s.get() = benchSession{UserID: 123456, Name: "Ada Lovelace", Role: "user"}
			_, _ = rand.Read(s.id[:])
		}},
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, w := range works() {
		for _, mode := range []struct {
			name   string
			change func(*Config[benchSession])
		}{
			{"signed", nil},
			{"sealed", func(c *Config[benchSession]) { c.Encrypt = true }},
			{"memory", func(c *Config[benchSession]) { c.Store = new(MemoryStore) }},
		} {
			m := newBench(b, mode.change)
			cookie := w.cookie(cookieOf(b, m, func(s *Session[benchSession]) { s.Data = benchData() }))
			b.Run(w.name+"/"+mode.name, func(b *testing.B) {
				h := m.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { w.handle(r) }))
				serve(b, h, request(cookie))
			})
		}
		b.Run(w.name+"/floor", func(b *testing.B) { benchFloor(b, w, false) })
		b.Run(w.name+"/floor sealed", func(b *testing.B) { benchFloor(b, w, true) })
	}
}

func serve(b *testing.B, h http.Handler, r *http.Request) {
	w := &benchWriter{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		h.ServeHTTP(w, r)
	}
}

func benchFloor(b *testing.B, w work, sealed bool) {
	f := newFloor(sealed)
	v := benchData()
	f.encode(&v)
	cookie := w.cookie(f.name + "=" + f.value(new([16]byte)))
	serve(b, f.middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { w.floor(r) })), request(cookie))
}

// A floor is the middleware that somebody would write by hand for this one type,
// with what cannot be left out: the session in the context, the writer that adds
// the cookie before the first byte; and where the handler asks for the session,
// the scan for the cookie, base64, an HMAC with a reused state or AES-GCM under
// a key of the message, msgpack and validator, and one encoding to see what
// changed. It has no lifetimes, key ring, stores, flashes, conflicts or events,
// and serves one request at a time.
type floor struct {
	name     string
	sealed   bool
	mac      hash.Hash
	block    cipher.Block
	validate *validator.Validate
	enc      *msgpack.Encoder
	out      floorBuffer
	dec      *msgpack.Decoder
	in       *bytes.Reader
	raw      []byte
	line     []byte
	body     []byte
	sum      [32]byte
}

type floorBuffer []byte

func (f *floorBuffer) Write(b []byte) (int, error) { *f = append(*f, b...); return len(b), nil }
func (f *floorBuffer) WriteByte(c byte) error      { *f = append(*f, c); return nil }

// floorFixed is the fixed part of our format: prefix, header, no extensions and
// empty flashes.
const floorFixed = keys.PrefixSize + wire.HeaderSize + 2

func newFloor(sealed bool) *floor {
	f := &floor{name: "__Host-Http-session", sealed: sealed, validate: validator.New(validator.WithRequiredStructEnabled()), mac: hmac.New(sha256.New, make([]byte, 32))}
	f.enc, f.in = msgpack.NewEncoder(&f.out), bytes.NewReader(nil)
	f.dec = msgpack.NewDecoder(f.in)
	f.block, _ = aes.NewCipher(make([]byte, 32))
	return f
}

type floorKey struct{}

// A floorSession is what a handler of the floor gets.
type floorSession struct {
	f    *floor
	r    *http.Request
	data *benchSession // nil until it is asked for
	was  []byte        // as it came
	id   [16]byte
}

func floorOf(r *http.Request) *floorSession { return r.Context().Value(floorKey{}).(*floorSession) }

func (f *floor) middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &floorSession{f: f, r: r}
		fw := &floorWriter{ResponseWriter: w, s: s}
		next.ServeHTTP(fw, r.WithContext(context.WithValue(r.Context(), floorKey{}, s)))
		fw.commit()
	})
}

type floorWriter struct {
	http.ResponseWriter
	s    *floorSession
	done bool
}

func (w *floorWriter) WriteHeader(code int) { w.commit(); w.ResponseWriter.WriteHeader(code) }
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
	h := w.Header()
	h["Vary"] = append(h["Vary"], "Cookie")
	if s.was == nil && reflect.ValueOf(s.data).Elem().IsZero() {
		return
	}
	s.f.encode(s.data)
	if bytes.Equal(s.f.out, s.was) {
		return
	}
	if s.f.validate.Struct(s.data) != nil {
		panic("invalid")
	}
	b := append(append(s.f.line[:0], s.f.name...), '=')
	b = append(b, s.f.value(&s.id)...)
	b = strconv.AppendInt(append(b, "; Path=/; Max-Age="...), 86400, 10)
	s.f.line = append(b, "; HttpOnly; Secure; SameSite=Lax"...)
	h["Set-Cookie"] = append(h["Set-Cookie"], string(s.f.line))
	h["Cache-Control"] = []string{"private"}
}

// get loads the session.
func (s *floorSession) get() *benchSession {
	if s.data == nil {
		s.data = new(benchSession)
		if s.was = s.f.open(s.f.find(s.r)); s.was != nil {
			s.f.in.Reset(s.was)
			s.f.dec.Reset(s.f.in)
			if s.f.dec.Decode(s.data) != nil || s.f.validate.Struct(s.data) != nil {
				panic("not valid")
			}
		}
	}
	return s.data
}

func (f *floor) encode(v *benchSession) {
	f.out = f.out[:0]
	f.enc.Reset(&f.out)
	f.enc.UseCompactInts(true)
	if err := f.enc.Encode(v); err != nil {
		panic(err)
	}
}

// aead is that of the key for the message whose nonce begins with n.
func (f *floor) aead(n []byte) cipher.AEAD {
	var key [32]byte
	copy(key[:16], n)
	copy(key[16:], n)
	key[0] ^= 1
	f.block.Encrypt(key[:16], key[:16])
	f.block.Encrypt(key[16:], key[16:])
	block, _ := aes.NewCipher(key[:])
	aead, _ := cipher.NewGCMWithRandomNonce(block)
	return aead
}

// value returns the cookie's value for what was encoded last.
func (f *floor) value(id *[16]byte) string {
	f.body = append(f.body[:0], make([]byte, floorFixed)...)
	binary.BigEndian.PutUint32(f.body, uint32(time.Now().Unix()))
	copy(f.body[keys.PrefixSize:], id[:])
	f.body = append(f.body, f.out...)
	if f.sealed {
		var n [keys.NonceSize / 2]byte
		_, _ = rand.Read(n[:])
		f.body = f.aead(n[:]).Seal(append(f.body[:keys.PrefixSize], n[:]...), nil, slices.Clone(f.body[keys.PrefixSize:]), f.body[:keys.PrefixSize])
	} else {
		f.mac.Reset()
		f.mac.Write(f.body)
		f.body = f.mac.Sum(f.body)
	}
	return base64.RawURLEncoding.EncodeToString(f.body)
}

func (f *floor) find(r *http.Request) string {
	for _, line := range r.Header["Cookie"] {
		for len(line) > 0 {
			var part string
			part, line, _ = strings.Cut(line, ";")
			if part = strings.TrimLeft(part, " "); strings.HasPrefix(part, f.name) && len(part) > len(f.name) && part[len(f.name)] == '=' {
				return part[len(f.name)+1:]
			}
		}
	}
	return ""
}

func (f *floor) open(value string) []byte {
	raw, err := base64.RawURLEncoding.AppendDecode(f.raw[:0], []byte(value))
	f.raw = raw
	if err != nil || len(raw) < floorFixed+32 {
		return nil
	}
	if f.sealed {
		body, err := f.aead(raw[keys.PrefixSize:keys.PrefixSize+keys.NonceSize/2]).Open(nil, nil, raw[keys.PrefixSize+keys.NonceSize/2:], raw[:keys.PrefixSize])
		if err != nil {
			return nil
		}
		return body[wire.HeaderSize+2:]
	}
	f.mac.Reset()
	f.mac.Write(raw[:len(raw)-32])
	if !hmac.Equal(f.mac.Sum(f.sum[:0]), raw[len(raw)-32:]) {
		return nil
	}
	return raw[floorFixed : len(raw)-32]
}

// BenchmarkLayers measures what a request is made of.
func BenchmarkLayers(b *testing.B) {
	m := &newBench(b, nil).core.engine
	s := m.Signer()
	sc := s.Scratch()
	data := benchData()
	checked, err := shape.Of(reflect.TypeFor[benchSession]())
	if err != nil {
		b.Fatal(err)
	}
	encoded, err := m.Codec.Encode(nil, &data)
	if err != nil {
		b.Fatal(err)
	}
	body := append(make([]byte, wire.HeaderSize+2), encoded...)
	signed := s.AppendMAC(sc, append(s.AppendPrefix(nil, wire.Signed), body...))
	sealed := s.AppendSealed(s.AppendPrefix(nil, wire.Sealed), body, nil)
	buf := make([]byte, 0, 1024)
	for _, layer := range []struct {
		name string
		run  func()
	}{
		{"sign", func() { s.AppendMAC(sc, append(s.AppendPrefix(buf[:0], wire.Signed), body...)) }},
		{"open signed", func() { s.Verify(sc, signed) }},
		{"seal", func() { s.AppendSealed(s.AppendPrefix(buf[:0], wire.Sealed), body, nil) }},
		{"open sealed", func() { s.Open(buf[:0], sealed, nil) }},
		{"check", func() { _ = checked.Check(encoded) }},
		{"decode", func() { _, _, _ = m.Codec.Decode(new(benchSession), 0, encoded, true) }},
		{"encode", func() { _, _ = m.Codec.Append(buf[:0], &data) }},
		{"hash", func() { m.Codec.Hash(&data) }},
		{"validate", func() { _ = m.Codec.Check(&data, encoded) }},
		{"cookie line", func() { line := append(buf[:0], signed...); _, _ = m.Cookie.Line(&line, 0, 86400, false) }},
	} {
		b.Run(layer.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				layer.run()
			}
		})
	}
}
