package sessions

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-playground/validator/v10"
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

// A work is a request as DESIGN counts them: R read, W one field changed, N no
// cookie, U a cookie that nobody asks for, F a forged one, L a login.
type work struct {
	name   string
	cookie func(real string) string
	handle func(*http.Request)
	floor  func(*floor, *http.Request, *benchWriter)
}

func works() []work {
	var n int
	same := func(c string) string { return c }
	get := func(r *http.Request) { _ = Get[benchSession](r.Context()).Data.UserID }
	return []work{
		{"R", same, get, (*floor).read},
		{"W", same, func(r *http.Request) { n++; Get[benchSession](r.Context()).Data.UserID = n }, (*floor).write},
		{"N", func(string) string { return "" }, func(*http.Request) {}, (*floor).nothing},
		{"U", same, func(*http.Request) {}, (*floor).nothing},
		{"F", forged, get, (*floor).forged},
		{"L", func(string) string { return "" }, func(r *http.Request) {
			s := Get[benchSession](r.Context())
			s.RegenerateID()
			s.Data = benchSession{UserID: 123456, Name: "Ada Lovelace", Role: "user"}
		}, (*floor).login},
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
	rw := &benchWriter{header: http.Header{}}
	r := request(w.cookie(f.name + "=" + f.cookie(benchData())))
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { w.floor(f, r, rw) })
	serve(b, h, r)
}

// A floor does by hand what cannot be left out, and nothing else: it finds the
// cookie, decodes base64, checks an HMAC with a reused state or opens AES-GCM
// under a key of the message, decodes msgpack, validates, and for a read encodes
// once to see that nothing changed. It has no lifetimes, keys, conflicts or
// events.
type floor struct {
	name     string
	sealed   bool
	mac      hash.Hash
	block    cipher.Block
	validate *validator.Validate
	enc      *msgpack.Encoder
	out      floorBuffer
	raw      []byte
	body     []byte
	sum      [32]byte
	dec      *msgpack.Decoder
	in       *strings.Reader
}

type floorBuffer []byte

func (f *floorBuffer) Write(b []byte) (int, error) { *f = append(*f, b...); return len(b), nil }
func (f *floorBuffer) WriteByte(c byte) error      { *f = append(*f, c); return nil }

// floorFixed is the fixed part of our format: prefix, header and empty flashes.
const floorFixed = prefixSize + headerSize + 1

func newFloor(sealed bool) *floor {
	f := &floor{name: "__Host-session", sealed: sealed, validate: validator.New(validator.WithRequiredStructEnabled()), mac: hmac.New(sha256.New, make([]byte, 32))}
	f.enc, f.in = msgpack.NewEncoder(&f.out), strings.NewReader("")
	f.dec = msgpack.NewDecoder(f.in)
	f.block, _ = aes.NewCipher(make([]byte, 32))
	return f
}

func (f *floor) encode(v *benchSession) {
	f.out = f.out[:0]
	f.enc.Reset(&f.out)
	f.enc.UseCompactInts(true)
	if err := f.enc.Encode(v); err != nil {
		panic(err)
	}
}

// aead is that of a key for one message.
func (f *floor) aead() cipher.AEAD {
	var key [32]byte
	f.block.Encrypt(key[:16], key[:16])
	f.block.Encrypt(key[16:], key[16:])
	block, _ := aes.NewCipher(key[:])
	aead, _ := cipher.NewGCMWithRandomNonce(block)
	return aead
}

func (f *floor) cookie(v benchSession) string {
	f.encode(&v)
	f.raw = append(f.raw[:0], make([]byte, floorFixed)...)
	binary.BigEndian.PutUint32(f.raw, uint32(time.Now().Unix()))
	if f.sealed {
		f.body = append(append(f.body[:0], f.raw[prefixSize:]...), f.out...)
		f.raw = f.aead().Seal(append(f.raw[:prefixSize], make([]byte, nonceSize/2)...), nil, f.body, f.raw[:prefixSize])
	} else {
		f.raw = append(f.raw, f.out...)
		f.mac.Reset()
		f.mac.Write(f.raw)
		f.raw = f.mac.Sum(f.raw)
	}
	return base64.RawURLEncoding.EncodeToString(f.raw)
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
		body, err := f.aead().Open(nil, nil, raw[prefixSize+nonceSize/2:], raw[:prefixSize])
		if err != nil {
			return nil
		}
		return body[headerSize+1:]
	}
	f.mac.Reset()
	f.mac.Write(raw[:len(raw)-32])
	if !hmac.Equal(f.mac.Sum(f.sum[:0]), raw[len(raw)-32:]) {
		return nil
	}
	return raw[floorFixed : len(raw)-32]
}

func (f *floor) load(r *http.Request) *benchSession {
	body := f.open(f.find(r))
	if body == nil {
		return nil
	}
	v := new(benchSession)
	f.in.Reset(string(body))
	f.dec.Reset(f.in)
	if f.dec.Decode(v) != nil || f.validate.Struct(v) != nil {
		return nil
	}
	return v
}

func (f *floor) set(w *benchWriter, v *benchSession) {
	w.header["Set-Cookie"] = append(w.header["Set-Cookie"], f.name+"="+f.cookie(*v)+"; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax")
}

func (f *floor) read(r *http.Request, w *benchWriter) {
	v := f.load(r)
	if v == nil {
		panic("not authentic")
	}
	w.header["Vary"] = append(w.header["Vary"], "Cookie")
	f.encode(v)
}

func (f *floor) write(r *http.Request, w *benchWriter) {
	v := f.load(r)
	w.header["Vary"] = append(w.header["Vary"], "Cookie")
	v.UserID++
	if f.validate.Struct(v) != nil {
		panic("invalid")
	}
	f.set(w, v)
}

// nothing copies the request with a context, as any middleware of net/http that
// hands something to its handler must.
func (f *floor) nothing(r *http.Request, _ *benchWriter) {
	sink = r.WithContext(&floorContext{r.Context(), f, [8]uintptr{}})
}

type floorContext struct {
	ctx
	f   *floor
	pad [8]uintptr
}

func (f *floor) forged(r *http.Request, w *benchWriter) {
	if f.load(r) != nil {
		panic("authentic")
	}
	w.header["Vary"] = append(w.header["Vary"], "Cookie")
	sink = r.WithContext(&floorContext{r.Context(), f, [8]uintptr{}})
}

func (f *floor) login(r *http.Request, w *benchWriter) {
	v := &benchSession{UserID: 123456, Name: "Ada Lovelace", Role: "user"}
	w.header["Vary"] = append(w.header["Vary"], "Cookie")
	if f.validate.Struct(v) != nil {
		panic("invalid")
	}
	f.set(w, v)
}

type ctx = interface {
	Deadline() (time.Time, bool)
	Done() <-chan struct{}
	Err() error
	Value(any) any
}

var sink any

// BenchmarkLayers measures what a request is made of.
func BenchmarkLayers(b *testing.B) {
	m := newBench(b, nil).core
	s := m.signing()
	data := benchData()
	encoded, err := m.codec.encode(nil, &data)
	if err != nil {
		b.Fatal(err)
	}
	body := append(make([]byte, headerSize+1), encoded...)
	signed := s.appendMAC(append(s.appendPrefix(nil, formatSigned), body...))
	sealed := s.appendSealed(s.appendPrefix(nil, formatSealed), body, nil)
	buf := make([]byte, 0, 1024)
	for _, layer := range []struct {
		name string
		run  func()
	}{
		{"sign", func() { s.appendMAC(append(s.appendPrefix(buf[:0], formatSigned), body...)) }},
		{"open signed", func() { s.verify(signed) }},
		{"seal", func() { s.appendSealed(s.appendPrefix(buf[:0], formatSealed), body, nil) }},
		{"open sealed", func() { s.open(sealed, nil) }},
		{"check", func() { _ = m.codec.shape.Check(encoded) }},
		{"decode", func() { _ = m.codec.decode(new(benchSession), encoded, true) }},
		{"encode", func() { _, _ = m.codec.append(buf[:0], &data) }},
		{"hash", func() { m.codec.hash(&data) }},
		{"validate", func() { _ = m.codec.check(&data, encoded) }},
		{"cookie line", func() { _, _ = m.cookie.line(signed, 86400, false) }},
	} {
		b.Run(layer.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				layer.run()
			}
		})
	}
}
