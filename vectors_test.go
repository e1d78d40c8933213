package sessions_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

var update = flag.Bool("update", false, "add the vectors that the newest file of testdata/vectors lacks; none that it has is changed")

// newestVectors is the file that today's code produces.
const newestVectors = "testdata/vectors/v1.json"

// A vectorSession is the T of all vectors, see "Vectors" in docs/FORMAT.md.
type vectorSession struct {
	UserID int64             `msgpack:"uid" json:"uid,string"`
	Role   string            `msgpack:"role" json:"role"`
	Admin  bool              `msgpack:"admin" json:"admin"`
	Level  int8              `msgpack:"level" json:"level"`
	Port   uint16            `msgpack:"port" json:"port"`
	Big    uint64            `msgpack:"big" json:"big,string"`
	Score  float64           `msgpack:"score" json:"score"`
	Ratio  float32           `msgpack:"ratio" json:"ratio"`
	Token  []byte            `msgpack:"token" json:"token"`
	Tags   []string          `msgpack:"tags" json:"tags"`
	Cart   map[string]uint32 `msgpack:"cart" json:"cart"`
	Rooms  map[int32]string  `msgpack:"rooms" json:"rooms"`
	Seen   time.Time         `msgpack:"seen" json:"seen"`
	Home   vectorAddress     `msgpack:"home" json:"home"`
	Work   *vectorAddress    `msgpack:"work" json:"work"`
}

type vectorAddress struct {
	City string `msgpack:"city" json:"city"`
	Zip  uint32 `msgpack:"zip" json:"zip"`
}

type vectorFile struct {
	Format  int      `json:"format"`
	About   string   `json:"about"`
	Vectors []vector `json:"vectors"`
}

// A vector is a cookie, or a record with the cookie that leads to it, and what
// a reader makes of it.
type vector struct {
	Name          string       `json:"name"`
	Mode          string       `json:"mode"` // what the reader expects: signed, sealed, id, record, sealed record
	Cookie        string       `json:"cookie"`
	Secrets       [][]byte     `json:"secrets"` // of the reader, the newest first
	Schema        int          `json:"schema"`  // of the reader
	Idle          int64        `json:"idle"`    // the reader's IdleTimeout, in seconds
	Clock         int64        `json:"clock"`
	Nanoseconds   int          `json:"nanoseconds"`
	Value         string       `json:"value"`
	SetCookie     string       `json:"set_cookie,omitempty"` // what brought it, if made on a full second
	ID            string       `json:"id,omitempty"`         // that the store keeps the record under
	Record        string       `json:"record,omitempty"`
	RecordExpires int64        `json:"record_expires,omitempty"` // in milliseconds
	Result        string       `json:"result"`
	Why           string       `json:"why,omitempty"`
	Holds         *vectorHolds `json:"holds,omitempty"` // if the result is ok
}

type vectorHolds struct {
	Created  int64  `json:"created"`
	Used     int64  `json:"used,omitempty"`
	Expires  int64  `json:"expires"`
	Lifetime uint32 `json:"lifetime,omitempty"`
	Schema   uint16 `json:"schema,omitempty"`
	ID       string `json:"id"`

	Extensions string         `json:"extensions,omitempty"` // their entries
	Device     *vectorDevice  `json:"device,omitempty"`     // what tag 01 says, if it can be read
	Flashes    [][2]string    `json:"flashes,omitempty"`
	Data       *vectorSession `json:"data,omitempty"`
}

// A vectorDevice is the device of package dbsc, see "Format" in docs/DBSC.md.
type vectorDevice struct {
	Phase string `json:"phase"` // offered, registered or bound
	Since int64  `json:"since"`
	Key   string `json:"key,omitempty"` // in hexadecimal
}

func TestEveryVectorOpensAsItSays(t *testing.T) {
	for file, vectors := range readVectors(t) {
		for _, v := range vectors {
			t.Run(filepath.Base(file)+"/"+v.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					passUntil(time.Unix(v.Clock, int64(v.Nanoseconds)))
					result, got := v.open(t)
					if result != v.Result {
						t.Fatalf("got %q, want %q (%s)", result, v.Result, v.Why)
					}
					if got, want := asJSON(t, got), asJSON(t, v.Holds); got != want {
						t.Errorf("got %s, want %s", got, want)
					}
				})
			})
		}
	}
}

func TestTodaysCodeProducesTheNewestVectors(t *testing.T) {
	stored := map[string]vector{}
	if f, err := readVectorFile(newestVectors); err == nil {
		for _, v := range f.Vectors {
			stored[v.Name] = v
		}
	} else if !*update || !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	specs := map[string]*vectorSpec{}
	all := vectorSpecs()
	for i := range all {
		if specs[all[i].name] != nil {
			t.Fatalf("two vectors are called %q", all[i].name)
		}
		specs[all[i].name] = &all[i]
	}
	produced := vectorFile{Format: 1, About: "Golden vectors of format 1. See docs/FORMAT.md, section Vectors. Entries are added, never changed."}
	for i := range all {
		s := &all[i]
		v := s.vector(t, specs)
		was, known := stored[s.name]
		delete(stored, s.name)
		switch {
		case known && asJSON(t, v) != asJSON(t, was):
			t.Errorf("%s: got %s, want %s; what is in the world stays readable: a new format needs a new file", s.name, asJSON(t, v), asJSON(t, was))
			v = was
		case !known && !*update:
			t.Errorf("%s: is not in %s; run this test with -update to add it", s.name, newestVectors)
		}
		produced.Vectors = append(produced.Vectors, v)
	}
	for name := range stored {
		t.Errorf("%s: is in %s, and no test makes it any more", name, newestVectors)
	}
	if *update && !t.Failed() {
		b, err := json.MarshalIndent(produced, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(newestVectors, append(b, '\n'), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnotherLanguageReadsEveryVector(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node is missing; install the package nodejs")
		}
		t.Skip("node is missing; install the package nodejs")
	}
	vectors := 0
	for _, vs := range readVectors(t) {
		vectors += len(vs)
	}
	out, err := exec.Command(node, "testdata/vectors/verify.mjs").CombinedOutput()
	if err != nil {
		t.Fatalf("got %v, want every vector read:\n%s", err, out)
	}
	if want := fmt.Sprintf("%d vectors", vectors); !strings.Contains(string(out), want) {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestTheOtherLanguageNoticesADifference(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node is missing; install the package nodejs")
		}
		t.Skip("node is missing; install the package nodejs")
	}
	program, err := os.ReadFile("testdata/vectors/verify.mjs")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(v *vector){
		"another result": func(v *vector) { v.Result, v.Holds = "expired", nil },
		"another user":   func(v *vector) { v.Holds.Data.UserID++ },
		"another end":    func(v *vector) { v.Holds.Expires++ },
		"another value":  func(v *vector) { v.Value = strings.ToLower(v.Value) },
		"another secret": func(v *vector) { v.Secrets = ringSecrets(1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := readVectorFile(newestVectors)
			if err != nil {
				t.Fatal(err)
			}
			f.Vectors = f.Vectors[:1]
			change(&f.Vectors[0])
			dir := t.TempDir()
			if err := errors.Join(
				os.WriteFile(filepath.Join(dir, "verify.mjs"), program, 0o666),
				os.WriteFile(filepath.Join(dir, "v1.json"), []byte(asJSON(t, f)), 0o666),
			); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(node, filepath.Join(dir, "verify.mjs")).CombinedOutput(); err == nil {
				t.Errorf("got %q and no error, want one", out)
			}
		})
	}
}

// readVectors returns the vectors of all versions; that there are none is
// a failure.
func readVectors(t testing.TB) map[string][]vector {
	t.Helper()
	files, err := filepath.Glob("testdata/vectors/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("got no files in testdata/vectors (%v), want one for each format", err)
	}
	all := map[string][]vector{}
	for _, file := range files {
		f, err := readVectorFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Vectors) == 0 {
			t.Fatalf("%s: got no vectors, want some", file)
		}
		all[file] = f.Vectors
	}
	return all
}

func readVectorFile(name string) (f vectorFile, err error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return f, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return f, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// passUntil lets the time of a synctest bubble pass.
func passUntil(end time.Time) { <-time.After(time.Until(end)) }

// visit sends one request with a Cookie header to a Manager.
func visit[T any](m *sessions.Manager[T], cookie string, f func(*sessions.Session[T])) *http.Response {
	r := httptest.NewRequest("GET", "https://example.com/", nil)
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	w := httptest.NewRecorder()
	m.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		f(sessions.Get[T](r.Context()))
	})).ServeHTTP(w, r)
	return w.Result()
}

// config returns the Config that reads the vector.
func (v *vector) config(t testing.TB) (c sessions.Config[vectorSession], store *vectorStore) {
	t.Helper()
	c = sessions.Config[vectorSession]{
		Keys: newKeys(t, v.Secrets...), Cookie: sessions.Cookie{Name: v.Cookie}, Version: v.Schema,
		IdleTimeout: time.Duration(v.Idle) * time.Second, Logger: slog.New(slog.DiscardHandler),
	}
	switch v.Mode {
	case "signed":
		return c, nil
	case "sealed":
		c.Encrypt = true
		return c, nil
	case "id", "record", "sealed record":
		c.Encrypt = v.Mode == "sealed record"
		store = &vectorStore{plainStore: newPlainStore()}
		c.Store = store
		return c, store
	}
	t.Fatalf("got mode %q, want signed, sealed, id, record or sealed record", v.Mode)
	return c, nil
}

// A vectorStore keeps the ids that it was asked for.
type vectorStore struct {
	*plainStore
	asked []sessions.ID
}

func (r *vectorStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	r.asked = append(r.asked, id)
	return r.plainStore.Load(ctx, id)
}

// open gives the vector to the library.
func (v *vector) open(t testing.TB) (result string, h *vectorHolds) {
	t.Helper()
	c, store := v.config(t)
	m, err := sessions.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if v.Record != "" {
		id, err1 := hex.DecodeString(v.ID)
		rec, err2 := hex.DecodeString(v.Record)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		store.put(sessions.ID(id), sessions.Record{Data: rec, Expires: time.Now().Add(time.Hour)})
	}
	res := visit(m, v.Cookie+"="+v.Value, func(s *sessions.Session[vectorSession]) {
		result = string(s.Reason())
		if result == "" {
			result = "ok"
			data := s.Data
			data.Seen = data.Seen.UTC()
			h = &vectorHolds{Created: s.CreatedAt().Unix(), Expires: s.ExpiresAt().Unix(), ID: s.ID(), Data: &data}
			for _, f := range s.Flashes() {
				h.Flashes = append(h.Flashes, [2]string{f.Kind, f.Message})
			}
		} else if data := asJSON(t, s.Data); data != asJSON(t, vectorSession{}) {
			t.Errorf("got %s in a session that was refused, want nothing", data)
		}
	})
	if res.StatusCode != http.StatusOK {
		t.Errorf("got status %d, want 200", res.StatusCode)
	}
	if v.Mode == "id" && result == string(sessions.ReasonUnknown) && len(store.asked) == 1 {
		// There is no record: that the store was asked for it is the proof.
		result, h = "ok", &vectorHolds{ID: store.asked[0].String()}
	}
	if h != nil {
		v.raw(t, h)
	}
	return result, h
}

// raw fills in what the library does not show.
func (v *vector) raw(t testing.TB, h *vectorHolds) {
	t.Helper()
	token, err := base64.RawURLEncoding.DecodeString(v.Value)
	if err != nil {
		t.Fatal(err)
	}
	if v.Mode == "id" {
		h.Created, h.Expires = seconds(token[5:]), seconds(token[10:])
		return
	}
	body := token[5:]
	switch v.Mode {
	case "sealed":
		body = v.unseal(t, token, "cookie", nil)
	case "record", "sealed record":
		rec, _ := hex.DecodeString(v.Record)
		body = rec[1:]
		if v.Mode == "sealed record" {
			id, _ := hex.DecodeString(v.ID)
			body = v.unseal(t, rec, "store", id)
		}
	}
	h.Used = seconds(body[5:])
	h.Lifetime = binary.BigEndian.Uint32(body[15:])
	h.Schema = binary.BigEndian.Uint16(body[19:])
	n, size := binary.Uvarint(body[41:])
	entries := body[41+size:][:n]
	h.Extensions, h.Device = hex.EncodeToString(entries), deviceIn(entries)
}

// deviceIn returns what the entries say of a device, nil if nothing that is known.
func deviceIn(entries []byte) *vectorDevice {
	for len(entries) > 0 {
		tag := entries[0]
		n, size := binary.Uvarint(entries[1:])
		value := entries[1+size:][:n]
		entries = entries[1+size+int(n):]
		if tag != 0x01 || len(value) == 0 {
			continue
		}
		phase := map[byte]string{1: "offered", 2: "registered", 3: "bound"}[value[0]]
		if want := map[string]int{"offered": 6, "registered": 39, "bound": 39}[phase]; len(value) == want {
			return &vectorDevice{phase, seconds(value[1:]), hex.EncodeToString(value[6:])}
		}
	}
	return nil
}

func seconds(b []byte) int64 { return int64(b[0])<<32 | int64(binary.BigEndian.Uint32(b[1:])) }

func (v *vector) unseal(t testing.TB, token []byte, mode string, id []byte) []byte {
	t.Helper()
	for _, secret := range v.Secrets {
		k := wireKeyOf(secret, mode, v.Cookie)
		if body, err := xaes(k.seal, token[5:17]).Open(nil, nil, token[17:], slices.Concat(token[:5], id)); err == nil {
			return body
		}
	}
	t.Fatal("no secret of the vector opens it")
	return nil
}

// A wire is a cookie or a record, written by what docs/FORMAT.md says and not by
// the library. It may say what the library would never write.
type wire struct {
	format                 byte
	secret                 []byte
	mode, cookie           string // of the key
	created, used, expires int64
	lifetime               uint32
	schema                 uint16
	shape                  uint32
	id                     [16]byte // in the body
	extensions             string   // "": none
	flashes, data          string   // in msgpack
	bound                  []byte   // ID in the associated data
	secretID               [32]byte
	tail                   string // after the data
}

type wireKey struct{ id, mac, seal []byte }

func wireKeyOf(secret []byte, mode, cookie string) (k wireKey) {
	prk, err := hkdf.Extract(sha256.New, secret, nil)
	if err != nil {
		panic(err)
	}
	expand := func(n int, info string) []byte {
		key, err := hkdf.Expand(sha256.New, prk, "typedsessions v1\x00"+info, n)
		if err != nil {
			panic(err)
		}
		return key
	}
	return wireKey{
		id:   expand(4, "key id"),
		mac:  expand(32, "sign\x00"+mode+"\x00"+cookie),
		seal: expand(32, "seal\x00"+mode+"\x00"+cookie),
	}
}

// xaes is XAES-256-GCM for a nonce that begins with n; it draws the rest of the
// nonce and puts it in front.
func xaes(key, n []byte) cipher.AEAD { return xaesWith(cipher.NewGCMWithRandomNonce, key, n) }

// xaesWith is xaes with a way to make AES-GCM.
func xaesWith(gcm func(cipher.Block) (cipher.AEAD, error), key, n []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	var k1, m1, m2 [16]byte
	block.Encrypt(k1[:], k1[:])
	carry := byte(0)
	for i := 15; i >= 0; i-- {
		k1[i], carry = k1[i]<<1|carry, k1[i]>>7
	}
	if carry == 1 {
		k1[15] ^= 0x87
	}
	copy(m1[:], "\x00\x01X\x00"+string(n))
	copy(m2[:], "\x00\x02X\x00"+string(n))
	for i := range k1 {
		m1[i] ^= k1[i]
		m2[i] ^= k1[i]
	}
	block.Encrypt(m1[:], m1[:])
	block.Encrypt(m2[:], m2[:])
	derived, err := aes.NewCipher(slices.Concat(m1[:], m2[:]))
	if err != nil {
		panic(err)
	}
	aead, err := gcm(derived)
	if err != nil {
		panic(err)
	}
	return aead
}

func appendSeconds(b []byte, t int64) []byte {
	return append(b, byte(t>>32), byte(t>>24), byte(t>>16), byte(t>>8), byte(t))
}

func (w *wire) body() []byte {
	b := appendSeconds(appendSeconds(appendSeconds(nil, w.created), w.used), w.expires)
	b = binary.BigEndian.AppendUint32(b, w.lifetime)
	b = binary.BigEndian.AppendUint16(b, w.schema)
	b = binary.BigEndian.AppendUint32(b, w.shape)
	return slices.Concat(b, w.id[:], []byte(cmp.Or(w.extensions, "\x00")+w.flashes+w.data+w.tail))
}

// bytes returns the token, or the record.
func (w *wire) bytes() []byte {
	k := wireKeyOf(w.secret, w.mode, w.cookie)
	prefix := append([]byte{w.format}, k.id...)
	switch w.format {
	case 0x02, 0x12:
		n := make([]byte, 12)
		_, _ = rand.Read(n)
		return xaes(k.seal, n).Seal(slices.Concat(prefix, n), nil, w.body(), append(prefix, w.bound...))
	case 0x11:
		return append([]byte{w.format}, w.body()...)
	}
	b := slices.Concat(prefix, w.body())
	if w.format == 0x03 {
		b = slices.Concat(appendSeconds(appendSeconds(prefix, w.created), w.expires), w.secretID[:], []byte(w.tail))
	}
	mac := hmac.New(sha256.New, k.mac)
	mac.Write(b)
	return mac.Sum(b)
}

// A vectorSpec says how a vector comes about.
type vectorSpec struct {
	name    string
	mode    string
	cookie  string // "": the default
	secrets []int  // of the reader; nil: the first
	schema  int
	idle    time.Duration
	at      time.Duration // of the writing, after vectorStart
	read    time.Duration // after the writing
	result  string        // "": ok
	why     string
	make    func(t *testing.T, s *vectorSpec, all map[string]*vectorSpec) vector // value, id and record
}

// vectorStart is the usual time of a vector.
var vectorStart = time.Unix(1_700_000_000, 0)

func vectorSecret(n int) []byte {
	s := sha256.Sum256(fmt.Appendf(nil, "vector secret %d", n))
	if n >= 1000 { // two of these have the same key id
		s = sha256.Sum256(fmt.Appendf(nil, "colliding secret %d", n))
	}
	return s[:]
}

func (s *vectorSpec) vector(t *testing.T, all map[string]*vectorSpec) vector {
	t.Helper()
	made := s.make(t, s, all)
	v := s.reader()
	v.Value, v.ID, v.Record, v.RecordExpires = made.Value, made.ID, made.Record, made.RecordExpires
	if s.at%time.Second == 0 {
		v.SetCookie = made.SetCookie // else it depends on a fraction that the vector does not show
	}
	if len(v.SetCookie) > 4096 {
		t.Errorf("%s: got a Set-Cookie of %d bytes, want at most 4096", s.name, len(v.SetCookie))
	}
	if v.Result == "ok" {
		synctest.Test(t, func(t *testing.T) {
			passUntil(time.Unix(v.Clock, int64(v.Nanoseconds)))
			_, v.Holds = v.open(t)
		})
	}
	return v
}

func (s *vectorSpec) reader() vector {
	now := vectorStart.Add(s.at + s.read)
	v := vector{
		Name: s.name, Mode: s.mode, Cookie: "__Host-Http-session", Schema: s.schema, Idle: int64(s.idle / time.Second),
		Clock: now.Unix(), Nanoseconds: now.Nanosecond(), Result: "ok", Why: s.why,
	}
	if s.cookie != "" {
		v.Cookie = s.cookie
	}
	if s.result != "" {
		v.Result = s.result
	}
	secrets := s.secrets
	if secrets == nil {
		secrets = []int{1}
	}
	for _, n := range secrets {
		v.Secrets = append(v.Secrets, vectorSecret(n))
	}
	return v
}

// seed makes the random bytes of a vector depend on nothing but its name.
func (s *vectorSpec) seed(t *testing.T) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.name))
	cryptotest.SetGlobalRandom(t, h.Sum64())
}

// saved makes a vector by a request, or several that a duration parts.
func saved(lifetime time.Duration, secret int, steps ...any) func(*testing.T, *vectorSpec, map[string]*vectorSpec) vector {
	return func(t *testing.T, s *vectorSpec, _ map[string]*vectorSpec) (v vector) {
		s.seed(t)
		synctest.Test(t, func(t *testing.T) {
			passUntil(vectorStart.Add(s.at))
			writer := s.reader()
			writer.Secrets = [][]byte{vectorSecret(secret)}
			c, store := writer.config(t)
			c.Lifetime = lifetime
			m, err := sessions.New(c)
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range steps {
				if d, ok := step.(time.Duration); ok {
					passUntil(time.Now().Add(d))
					continue
				}
				cookie := ""
				if v.Value != "" {
					cookie = writer.Cookie + "=" + v.Value
				}
				res := visit(m, cookie, step.(func(*sessions.Session[vectorSession])))
				for _, c := range res.Cookies() {
					v.Value, v.SetCookie = c.Value, c.Raw
				}
			}
			if store != nil && s.mode != "id" {
				for id, rec := range store.records {
					v.ID, v.Record, v.RecordExpires = id.String(), hex.EncodeToString(rec.Data), rec.Expires.UnixMilli()
				}
			}
		})
		return v
	}
}

// altered makes a vector of another one's bytes: of its record where it has one.
func altered(base string, f func(b []byte) []byte) func(*testing.T, *vectorSpec, map[string]*vectorSpec) vector {
	return func(t *testing.T, s *vectorSpec, all map[string]*vectorSpec) vector {
		v := all[base].make(t, all[base], all)
		v.SetCookie, v.RecordExpires = "", 0
		if v.Record != "" {
			b, _ := hex.DecodeString(v.Record)
			v.Record = hex.EncodeToString(f(b))
			return v
		}
		b, _ := base64.RawURLEncoding.DecodeString(v.Value)
		v.Value = base64.RawURLEncoding.EncodeToString(f(b))
		return v
	}
}

// respelled makes a vector of the value of another one.
func respelled(base string, f func(value string) string) func(*testing.T, *vectorSpec, map[string]*vectorSpec) vector {
	return func(t *testing.T, s *vectorSpec, all map[string]*vectorSpec) vector {
		v := all[base].make(t, all[base], all)
		return vector{Value: f(v.Value), ID: v.ID, Record: v.Record}
	}
}

func same(b []byte) []byte { return b }

// flip returns a change of one bit, at an offset from the start or the end.
func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[(at+len(b))%len(b)] ^= 1
		return b
	}
}

// written makes a vector by the test's own writer, after change.
func written(change func(w *wire)) func(*testing.T, *vectorSpec, map[string]*vectorSpec) vector {
	return func(t *testing.T, s *vectorSpec, _ map[string]*vectorSpec) (v vector) {
		s.seed(t)
		r := s.reader()
		now := vectorStart.Add(s.at).Unix()
		w := wire{
			format: map[string]byte{"signed": 1, "sealed": 2, "id": 3, "record": 0x11, "sealed record": 0x12}[s.mode],
			secret: r.Secrets[0], mode: "cookie", cookie: r.Cookie, created: now, used: now, expires: now + 3600, shape: 0x0badcafe,
			id: [16]byte([]byte("sixteen bytes id")), flashes: "\x90", data: "\x82\xa3uid\x07\xa4role\xa4user",
			secretID: [32]byte([]byte("thirty-two bytes of a secret id.")),
		}
		id := sha256.Sum256(w.secretID[:])
		if s.mode == "record" || s.mode == "sealed record" || s.mode == "id" {
			w.mode, w.id = "store", [16]byte(id[:])
		}
		if s.mode == "sealed record" {
			w.bound = id[:]
		}
		if change != nil {
			change(&w)
		}
		b := w.bytes()
		if s.mode == "record" || s.mode == "sealed record" {
			v.ID, v.Record = hex.EncodeToString(id[:]), hex.EncodeToString(b)
			w.format, w.mode, w.secret, w.tail, w.expires = 3, "store", r.Secrets[0], "", now+3600
			b = w.bytes()
		}
		v.Value = base64.RawURLEncoding.EncodeToString(b)
		return v
	}
}

// vectorData has every kind of field filled.
func vectorData() vectorSession {
	return vectorSession{
		UserID: 42, Role: "admin", Admin: true, Level: -7, Port: 8443, Big: math.MaxUint64, Score: 0.1, Ratio: 1.5,
		Token: []byte{0, 1, 2, 0xff}, Tags: []string{"a", "", "ü €"},
		Cart:  map[string]uint32{"tea": 2, "b": 1, "aa": math.MaxUint32, "": 0},
		Rooms: map[int32]string{-1: "minus one", 0: "zero", 300: "three hundred", 7: "seven", -40000: "low"},
		Seen:  time.Date(2023, 11, 14, 22, 13, 20, 123456789, time.UTC),
		Home:  vectorAddress{City: "Zürich", Zip: 8001}, Work: &vectorAddress{City: "Bern", Zip: 3011},
	}
}

// vectorSpecs lists the vectors of the newest format. New ones go anywhere; what
// the file has already must come out as it is there.
func vectorSpecs() []vectorSpec {
	type vs = sessions.Session[vectorSession]
	set := func(d vectorSession) func(*vs) { return func(s *vs) { s.Data = d } }
	few := set(vectorSession{UserID: 7, Role: "user"})
	flash := func(kind, message string) func(*vs) { return func(s *vs) { s.Flash(kind, message) } }
	flashes := func(n int) func(*vs) {
		return func(s *vs) {
			for i := range n {
				s.Flash("info", fmt.Sprintf("message %d", i))
			}
		}
	}
	look := func(*vs) {}
	const day = 24 * time.Hour

	specs := []vectorSpec{
		{name: "signed: a few fields", make: saved(day, 1, few)},
		{name: "signed: every kind of field", make: saved(day, 1, set(vectorData()))},
		{name: "signed: no data, one flash", make: saved(day, 1, flash("info", "hello"))},
		{name: "signed: seven flashes, the most in a fixarray", make: saved(day, 1, flashes(7))},
		{name: "signed: eight flashes, the fewest in an array 16", make: saved(day, 1, flashes(8))},
		{name: "signed: thirty-two flashes, the most there are", make: saved(day, 1, flashes(40))},
		{name: "signed: flashes of every length", make: saved(day, 1, func(s *vs) {
			for _, n := range []int{0, 31, 32, 255, 256, 1000} {
				s.Flash("", strings.Repeat("x", n))
			}
			s.Flash("ü", "<b>\"\x00\n")
		})},
		{name: "signed: flashes beside data", make: saved(day, 1, func(s *vs) { few(s); flashes(2)(s) })},
		{name: "signed: a fraction of a second", at: 250 * time.Millisecond, make: saved(1500*time.Millisecond, 1, few)},
		{name: "signed: whole seconds after a fraction", at: 999_999_999, make: saved(time.Second, 1, few)},
		{name: "signed: SetLifetime", make: saved(day, 1, func(s *vs) { few(s); s.SetLifetime(30 * day) })},
		{name: "signed: SetLifetime of a fraction, rounded up", make: saved(day, 1, func(s *vs) { few(s); s.SetLifetime(1500 * time.Millisecond) })},
		{name: "signed: SetLifetime above four bytes, clamped", make: saved(day, 1, func(s *vs) { few(s); s.SetLifetime(math.MaxInt64) })},
		{name: "signed: unused bits in the last character", make: saved(day, 1, func(s *vs) { s.Data = vectorSession{UserID: 7, Role: "admin"}; s.SetLifetime(math.MaxInt64) })},
		{name: "signed: Max-Age ends at 400 days", make: saved(500*day, 1, few)},
		{name: "signed: an unrelated flash keeps the lifetime", make: saved(day, 1, func(s *vs) { few(s); s.SetLifetime(2 * day) }, 3*time.Hour, flash("k", "m")), read: 3 * time.Hour},
		{name: "signed: a new id begins the lifetime again", make: saved(day, 1, few, 3*time.Hour, (*vs).RegenerateID), read: 3 * time.Hour},
		{name: "signed: used later, by a request that only reads", idle: time.Hour, make: saved(day, 1, few, 30*time.Minute, look), read: 80 * time.Minute},
		{name: "signed: schema 7", schema: 7, make: saved(day, 1, few)},
		{name: "signed: schema 65535", schema: 65535, make: saved(day, 1, few)},
		{name: "signed: a cookie of another name", cookie: "app", make: saved(day, 1, few)},
		{name: "signed: with the second of three secrets", secrets: []int{3, 1, 2}, make: saved(day, 1, few)},
		{name: "signed: with one of two secrets that share a key id", secrets: []int{29564, 69982}, make: saved(day, 69982, few)},
		{name: "signed: numbers at their bounds, low", make: saved(day, 1, set(vectorSession{UserID: math.MinInt64, Level: -128, Score: -math.MaxFloat64, Ratio: -0.5, Rooms: map[int32]string{math.MinInt32: "", -1: "", -32: "", -33: "", -128: "", -129: "", -32768: "", -32769: ""}}))},
		{name: "signed: numbers at their bounds, high", make: saved(day, 1, set(vectorSession{UserID: math.MaxInt64, Level: 127, Port: 65535, Score: math.SmallestNonzeroFloat64, Rooms: map[int32]string{127: "", 128: "", 255: "", 256: "", 65535: "", 65536: "", math.MaxInt32: ""}}))},
		{name: "signed: empty lists and maps, not nil", make: saved(day, 1, set(vectorSession{UserID: 1, Token: []byte{}, Tags: []string{}, Cart: map[string]uint32{}, Rooms: map[int32]string{}, Work: &vectorAddress{}}))},
		{name: "signed: strings and bytes of every length", make: saved(day, 1, set(vectorSession{Tags: []string{strings.Repeat("a", 31), strings.Repeat("b", 32), strings.Repeat("c", 255), strings.Repeat("d", 256)}, Token: bytes.Repeat([]byte{0xee}, 300)}))},
		{name: "signed: sixteen in a list and in a map", make: saved(day, 1, set(vectorSession{Tags: make([]string, 16), Cart: map[string]uint32{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7, "h": 8, "i": 9, "j": 10, "k": 11, "l": 12, "m": 13, "n": 14, "o": 15, "longer than the others": 16}}))},
		{name: "signed: a time in 4 bytes", make: saved(day, 1, set(vectorSession{Seen: time.Unix(1<<32-1, 0).UTC()}))},
		{name: "signed: a time in 8 bytes", make: saved(day, 1, set(vectorSession{Seen: time.Unix(1<<34-1, 999_999_999).UTC()}))},
		{name: "signed: a time in 12 bytes, before 1970", make: saved(day, 1, set(vectorSession{Seen: time.Unix(-1, 1).UTC()}))},
		{name: "signed: the last second of the year 9999", make: saved(day, 1, set(vectorSession{Seen: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}))},
		{name: "signed: as large as a cookie may be, 4096 bytes", cookie: "__Host-Http-sessions", make: saved(day, 1, set(vectorSession{Role: strings.Repeat("x", largestRole)}))},
		{name: "signed: the second before it expires", read: day - time.Second, make: saved(day, 1, few)},
		{name: "signed: the moment before it is idle", idle: time.Hour, read: time.Hour - 1, make: saved(day, 1, few)},

		{name: "sealed: a few fields", mode: "sealed", make: saved(day, 1, few)},
		{name: "sealed: every kind of field", mode: "sealed", make: saved(day, 1, set(vectorData()))},
		{name: "sealed: no data, one flash", mode: "sealed", make: saved(day, 1, flash("info", "hello"))},
		{name: "sealed: SetLifetime", mode: "sealed", make: saved(day, 1, func(s *vs) { few(s); s.SetLifetime(30 * day) })},
		{name: "sealed: a cookie of another name", mode: "sealed", cookie: "app", make: saved(day, 1, few)},
		{name: "sealed: with the third of three secrets", mode: "sealed", secrets: []int{3, 2, 1}, make: saved(day, 1, few)},
		{name: "sealed: with one of two secrets that share a key id", mode: "sealed", secrets: []int{29564, 69982}, make: saved(day, 69982, few)},
		{name: "sealed: used later, by a request that only reads", mode: "sealed", idle: time.Hour, make: saved(day, 1, few, 30*time.Minute, look), read: 80 * time.Minute},

		{name: "id: of a session", mode: "id", make: saved(day, 1, few)},
		{name: "id: SetLifetime", mode: "id", make: saved(day, 1, func(s *vs) { few(s); s.SetLifetime(30 * day) })},
		{name: "id: a cookie of another name", mode: "id", cookie: "app", make: saved(day, 1, few)},
		{name: "id: with the second of two secrets", mode: "id", secrets: []int{2, 1}, make: saved(day, 1, few)},
		{name: "id: a fraction of a second", mode: "id", at: 250 * time.Millisecond, make: saved(1500*time.Millisecond, 1, few)},
		{name: "id: the second before it expires", mode: "id", read: day - time.Second, make: saved(day, 1, few)},

		{name: "record: a few fields", mode: "record", make: saved(day, 1, few)},
		{name: "record: every kind of field", mode: "record", make: saved(day, 1, set(vectorData()))},
		{name: "record: flashes beside data", mode: "record", make: saved(day, 1, func(s *vs) { few(s); flashes(2)(s) })},
		{name: "record: more than a cookie holds", mode: "record", make: saved(day, 1, set(vectorSession{Role: strings.Repeat("x", 5_000)}))},
		{name: "record: the idle end comes before the absolute one", mode: "record", idle: time.Hour, at: 123_456_789, make: saved(day, 1, few)},
		{name: "record: the absolute end comes before the idle one", mode: "record", idle: 10 * time.Hour, at: 123_456_789, make: saved(day, 1, few, 9*time.Hour, look, 9*time.Hour, flash("k", "m")), read: 18 * time.Hour},
		{name: "record: a change later", mode: "record", idle: 10 * time.Hour, make: saved(day, 1, few, 5*time.Hour, flash("k", "m")), read: 5 * time.Hour},
		{name: "record: schema 7, SetLifetime", mode: "record", schema: 7, make: saved(day, 1, func(s *vs) { few(s); s.SetLifetime(30 * day) })},
		{name: "sealed record: a few fields", mode: "sealed record", make: saved(day, 1, few)},
		{name: "sealed record: every kind of field", mode: "sealed record", make: saved(day, 1, set(vectorData()))},
		{name: "sealed record: with the second of two secrets", mode: "sealed record", secrets: []int{2, 1}, make: saved(day, 1, few)},
		{name: "sealed record: a cookie of another name", mode: "sealed record", cookie: "app", make: saved(day, 1, few)},

		{name: "by another writer: signed", make: written(nil)},
		{name: "by another writer: sealed", mode: "sealed", make: written(nil)},
		{name: "by another writer: id", mode: "id", make: written(nil)},
		{name: "by another writer: record", mode: "record", make: written(nil)},
		{name: "by another writer: sealed record", mode: "sealed record", make: written(nil)},
		{name: "by another writer: no field at all", make: written(func(w *wire) { w.data = "\x80" })},
		{name: "by another writer: an extension that this program does not know", make: written(func(w *wire) { w.extensions = "\x05\x7f\x03abc" })},
		{name: "by another writer: two extensions, one of them empty", make: written(func(w *wire) { w.extensions = "\x05\x00\x00\x01\x01a" })},
		{name: "by another writer: an extension of more than 127 bytes", make: written(func(w *wire) { w.extensions = "\xcb\x01\x05\xc8\x01" + strings.Repeat("x", 200) })},
		{name: "by another writer: record, an extension", mode: "record", make: written(func(w *wire) { w.extensions = "\x05\x7f\x03abc" })},
		{name: "by another writer: sealed record, an extension", mode: "sealed record", make: written(func(w *wire) { w.extensions = "\x05\x7f\x03abc" })},
		{name: "by another writer: a session that was offered to be bound to its device", make: written(func(w *wire) { w.extensions = "\x08\x01\x06\x01" + vectorSince })},
		{name: "by another writer: a session whose device has registered a key", make: written(func(w *wire) { w.extensions = "\x29\x01\x27\x02" + vectorSince + vectorKey })},
		{name: "by another writer: a session that is bound to its device", make: written(func(w *wire) { w.expires, w.extensions = 1<<40-1, "\x29\x01\x27\x03"+vectorSince+vectorKey })},
		{name: "by another writer: sealed, bound to its device, beside another extension", mode: "sealed", make: written(func(w *wire) { w.extensions = "\x2e\x01\x27\x03" + vectorSince + vectorKey + "\x7f\x03abc" })},
		{name: "by another writer: record, bound to its device", mode: "record", make: written(func(w *wire) { w.extensions = "\x29\x01\x27\x03" + vectorSince + vectorKey })},
		{name: "by another writer: sealed record, bound to its device", mode: "sealed record", make: written(func(w *wire) { w.extensions = "\x29\x01\x27\x03" + vectorSince + vectorKey })},
		{name: "by another writer: a device in a phase that is not known", make: written(func(w *wire) { w.expires, w.extensions = 1<<40-1, "\x29\x01\x27\x04"+vectorSince+vectorKey })},
		{name: "by another writer: a device that is bound without a key", make: written(func(w *wire) { w.extensions = "\x08\x01\x06\x03" + vectorSince })},
		{name: "by another writer: created and used in the future", make: written(func(w *wire) { w.created += 600; w.used += 600 })},
		{name: "by another writer: every time at its end", make: written(func(w *wire) { w.created, w.used, w.expires, w.lifetime = 0, 1<<40-1, 1<<40-1, math.MaxUint32 })},
		{name: "by another writer: a field that this program does not know", make: written(func(w *wire) { w.data = "\x82\xa3new\x93\x01\x81\xa1k\xc4\x01x\xc0\xa3uid\x09" })},
		{name: "by another writer: an unknown field 100 deep", make: written(func(w *wire) { w.data = "\x81\xa3new" + strings.Repeat("\x91", 100) + "\xc0" })},
		{name: "by another writer: fields in another order, map keys unsorted", make: written(func(w *wire) { w.data = "\x83\xa4role\xa1r\xa4cart\x82\xa1b\x01\xa1a\x02\xa3uid\x09" })},
		{name: "by another writer: numbers in more bytes than they need", make: written(func(w *wire) {
			w.data = "\x84\xa3uid\xd3\x00\x00\x00\x00\x00\x00\x00\x07\xa4port\xce\x00\x00\x00\x07\xa5level\xd1\xff\xff\xa5score\x03"
		})},
		{name: "by another writer: nil where it is taken", make: written(func(w *wire) { w.data = "\x84\xa3uid\xc0\xa4role\xc0\xa4home\xc0\xa4tags\xc0" })},
		{name: "by another writer: str where bin is usual, and bin for str", make: written(func(w *wire) { w.data = "\x82\xa5token\xa2ab\xa4role\xc4\x01r" })},

		{name: "refused: nothing", result: "forged", why: "empty", make: respelled("signed: a few fields", func(string) string { return "" })},
		{name: "refused: padding", result: "forged", why: "not the canonical spelling", make: respelled("by another writer: signed", func(v string) string { return v + "=" })},
		{name: "refused: stray bits in the last character", result: "forged", why: "not the canonical spelling", make: respelled("by another writer: signed", func(v string) string { return strayBits(v) })},
		{name: "refused: the other alphabet of base64", result: "forged", why: "not the canonical spelling", make: respelled("signed: every kind of field", func(v string) string { return strings.NewReplacer("-", "+", "_", "/").Replace(v) })},
		{name: "refused: in quotes", result: "forged", why: "not the canonical spelling", make: respelled("signed: a few fields", func(v string) string { return `"` + v + `"` })},
		{name: "refused: a line break in front", result: "forged", why: "not the canonical spelling", make: respelled("signed: a few fields", func(v string) string { return v[:8] + "\n" + v[8:] })},
		{name: "refused: percent coding", result: "forged", why: "not the canonical spelling", make: respelled("signed: a few fields", func(v string) string { return "%41" + v[1:] })},
		{name: "refused: one character short", result: "forged", why: "truncated", make: respelled("signed: a few fields", func(v string) string { return v[:len(v)-1] })},
		{name: "refused: four characters more", result: "forged", why: "extended", make: respelled("signed: a few fields", func(v string) string { return v + "AAAA" })},
		{name: "refused: sealed, one byte short", mode: "sealed", result: "forged", why: "truncated", make: altered("sealed: a few fields", func(b []byte) []byte { return b[:len(b)-1] })},
		{name: "refused: id, one byte short", mode: "id", result: "forged", why: "truncated", make: altered("id: of a session", func(b []byte) []byte { return b[:len(b)-1] })},
		{name: "refused: id, longer than an id is", mode: "id", result: "forged", why: "authentic, but not 79 bytes", make: written(func(w *wire) { w.tail = "\x00" })},
		{name: "refused: another created time", result: "forged", why: "one bit of the body", make: altered("signed: a few fields", flip(9))},
		{name: "refused: another end", result: "forged", why: "one bit of the body", make: altered("signed: a few fields", flip(19))},
		{name: "refused: other data", result: "forged", why: "one bit of the body", make: altered("signed: a few fields", flip(-33))},
		{name: "refused: another MAC", result: "forged", why: "one bit of the MAC", make: altered("signed: a few fields", flip(-1))},
		{name: "refused: another key id", result: "forged", why: "unknown key", make: altered("signed: a few fields", flip(1))},
		{name: "refused: sealed, another nonce", mode: "sealed", result: "forged", why: "one bit of the nonce", make: altered("sealed: a few fields", flip(5))},
		{name: "refused: sealed, another second half of the nonce", mode: "sealed", result: "forged", why: "one bit of the nonce", make: altered("sealed: a few fields", flip(28))},
		{name: "refused: sealed, other data", mode: "sealed", result: "forged", why: "one bit of the body", make: altered("sealed: a few fields", flip(29))},
		{name: "refused: sealed, another tag", mode: "sealed", result: "forged", why: "one bit of the tag", make: altered("sealed: a few fields", flip(-1))},
		{name: "refused: id, another secret id", mode: "id", result: "forged", why: "one bit of the secret id", make: altered("id: of a session", flip(20))},
		{name: "refused: a retired secret", secrets: []int{2, 3}, result: "forged", why: "unknown key", make: altered("signed: a few fields", same)},
		{name: "refused: made for another cookie name", cookie: "app", result: "forged", why: "other cookie name", make: altered("signed: a few fields", same)},
		{name: "refused: sealed, made for another cookie name", mode: "sealed", cookie: "app", result: "forged", why: "other cookie name", make: altered("sealed: a few fields", same)},
		{name: "refused: id, made for another cookie name", mode: "id", cookie: "app", result: "forged", why: "other cookie name", make: altered("id: of a session", same)},
		{name: "refused: sealed, where signed is expected", result: "forged", why: "sealed as signed", make: altered("sealed: a few fields", same)},
		{name: "refused: signed, where sealed is expected", mode: "sealed", result: "forged", why: "signed as sealed", make: altered("signed: a few fields", same)},
		{name: "refused: signed, where an id is expected", mode: "id", result: "forged", why: "cookie mode as store mode", make: altered("signed: a few fields", same)},
		{name: "refused: an id, where signed is expected", result: "forged", why: "store mode as cookie mode", make: altered("id: of a session", same)},
		{name: "refused: an id with the format byte of signed data", result: "forged", why: "format byte", make: altered("id: of a session", func(b []byte) []byte { b[0] = 1; return b })},
		{name: "refused: signed, with the format byte of the future", result: "forged", why: "format byte", make: written(func(w *wire) { w.format = 0x04 })},
		{name: "refused: signed with the key of store mode", result: "forged", why: "other mode", make: written(func(w *wire) { w.mode = "store" })},
		{name: "refused: an id signed with the key of cookie mode", mode: "id", result: "forged", why: "other mode", make: written(func(w *wire) { w.mode = "cookie" })},

		{name: "refused: the second in which it expires", read: day, result: "expired", make: altered("signed: a few fields", same)},
		{name: "refused: sealed, expired", mode: "sealed", read: 30 * day, result: "expired", make: altered("sealed: a few fields", same)},
		{name: "refused: id, expired", mode: "id", read: day, result: "expired", make: altered("id: of a session", same)},
		{name: "refused: the moment in which it is idle", idle: time.Hour, read: time.Hour, result: "idle", make: altered("signed: a few fields", same)},
		{name: "refused: a newer schema", schema: 6, result: "newer", make: altered("signed: schema 7", same)},
		{name: "refused: record, a newer schema", mode: "record", schema: 6, result: "newer", make: altered("record: schema 7, SetLifetime", same)},
		{name: "refused: an older schema without an upgrade", schema: 8, result: "undecodable", make: altered("signed: schema 7", same)},

		{name: "refused: record, of another session", mode: "record", result: "undecodable", why: "the id is not the first half of its ID", make: written(func(w *wire) { w.id[15] ^= 1 })},
		{name: "refused: sealed record, of another session", mode: "sealed record", result: "undecodable", why: "the ID in the associated data", make: written(func(w *wire) { w.bound = make([]byte, 32) })},
		{name: "refused: sealed record, without an ID", mode: "sealed record", result: "undecodable", why: "no ID in the associated data", make: written(func(w *wire) { w.bound = nil })},
		{name: "refused: sealed record, with the key of cookie mode", mode: "sealed record", result: "undecodable", why: "other mode", make: written(func(w *wire) { w.mode = "cookie" })},
		{name: "refused: record, where a sealed one is expected", mode: "sealed record", result: "undecodable", why: "format byte", make: altered("record: a few fields", same)},
		{name: "refused: sealed record, where a plain one is expected", mode: "record", result: "undecodable", why: "format byte", make: altered("sealed record: a few fields", same)},
		{name: "refused: sealed record, of a retired secret", mode: "sealed record", secrets: []int{1}, result: "undecodable", why: "unknown key", make: written(func(w *wire) { w.secret = vectorSecret(2) })},
		{name: "refused: record, expired inside", mode: "record", result: "expired", make: written(func(w *wire) { w.expires = w.created })},
		{name: "refused: record, cut within the header", mode: "record", result: "undecodable", why: "truncated", make: altered("record: a few fields", func(b []byte) []byte { return b[:41] })},
		{name: "refused: record, empty", mode: "record", result: "undecodable", why: "truncated", make: altered("record: a few fields", func(b []byte) []byte { return b[:1] })},

		{name: "refused: flashes that are no array", result: "undecodable", make: written(func(w *wire) { w.flashes = "\xc0" })},
		{name: "refused: an odd number of strings in the flashes", result: "undecodable", make: written(func(w *wire) { w.flashes = "\x91\xa1k" })},
		{name: "refused: 33 flashes", result: "undecodable", make: written(func(w *wire) { w.flashes = "\xdc\x00\x42" + strings.Repeat("\xa1k\xa1m", 33) })},
		{name: "refused: flashes in an array 16 that fit a fixarray", result: "undecodable", why: "not the canonical spelling", make: written(func(w *wire) { w.flashes = "\xdc\x00\x02\xa1k\xa1m" })},
		{name: "refused: flashes in an array 32", result: "undecodable", why: "not the canonical spelling", make: written(func(w *wire) { w.flashes = "\xdd\x00\x00\x00\x02\xa1k\xa1m" })},
		{name: "refused: a flash in a str 8 that fits a fixstr", result: "undecodable", why: "not the canonical spelling", make: written(func(w *wire) { w.flashes = "\x92\xd9\x01k\xa1m" })},
		{name: "refused: a flash in a bin", result: "undecodable", make: written(func(w *wire) { w.flashes = "\x92\xc4\x01k\xa1m" })},
		{name: "refused: a flash that ends too late", result: "undecodable", make: written(func(w *wire) { w.flashes = "\x92\xa1k\xda\xff\xffm" })},

		{name: "refused: data that is missing", result: "forged", why: "shorter than any", make: written(func(w *wire) { w.data = "" })},
		{name: "refused: record, data that is missing", mode: "record", result: "undecodable", make: written(func(w *wire) { w.data = "" })},
		{name: "refused: data that is nil", result: "undecodable", make: written(func(w *wire) { w.data = "\xc0" })},
		{name: "refused: data that is an array", result: "undecodable", make: written(func(w *wire) { w.data = "\x91\x07" })},
		{name: "refused: a byte after the data", result: "undecodable", make: written(func(w *wire) { w.tail = "\x00" })},
		{name: "refused: data that ends too early", result: "undecodable", make: written(func(w *wire) { w.data = "\x82\xa3uid\x07" })},
		{name: "refused: a string that ends too late", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xa4role\xdb\xff\xff\xff\xffx" })},
		{name: "refused: a list of four billion", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xa4tags\xdd\xff\xff\xff\xff" })},
		{name: "refused: a field twice", result: "undecodable", make: written(func(w *wire) { w.data = "\x82\xa3uid\x07\xa3uid\x08" })},
		{name: "refused: a name in a bin", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xc4\x03uid\x07" })},
		{name: "refused: a number above its field", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xa4port\xce\x00\x01\x00\x00" })},
		{name: "refused: a number below its field", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xa5level\xd1\xff\x7f" })},
		{name: "refused: a negative number without a sign", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xa3big\xff" })},
		{name: "refused: a string for a number", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xa3uid\xa17" })},
		{name: "refused: a float for an integer", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xa3uid\xca\x40\xe0\x00\x00" })},
		{name: "refused: a double for a single", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xa5ratio\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00" })},
		{name: "refused: a number for a bool", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xa5admin\x01" })},
		{name: "refused: nil for a time", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xa4seen\xc0" })},
		{name: "refused: a string for a time", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xa4seen\xb42023-11-14T22:13:20Z" })},
		{name: "refused: a time with 1,000,000,000 nanoseconds", result: "undecodable", make: written(func(w *wire) {
			w.data = "\x81\xa4seen\xd7\xff" + string(binary.BigEndian.AppendUint64(nil, 1_000_000_000<<34|1))
		})},
		{name: "refused: an extension that a reader must know", result: "newer", make: written(func(w *wire) { w.extensions = "\x03\x80\x01a" })},
		{name: "refused: sealed record, an extension that a reader must know", mode: "sealed record", result: "newer", make: written(func(w *wire) { w.extensions = "\x03\xff\x01a" })},
		{name: "refused: extensions out of order", result: "undecodable", make: written(func(w *wire) { w.extensions = "\x04\x02\x00\x01\x00" })},
		{name: "refused: an extension twice", result: "undecodable", make: written(func(w *wire) { w.extensions = "\x04\x01\x00\x01\x00" })},
		{name: "refused: an extension that is longer than all of them", result: "undecodable", make: written(func(w *wire) { w.extensions = "\x03\x01\x05a" })},
		{name: "refused: extensions that are longer than the body", result: "undecodable", make: written(func(w *wire) { w.extensions = "\x7f\x01\x00" })},
		{name: "refused: a length of extensions in two bytes that fits in one", result: "undecodable", make: written(func(w *wire) { w.extensions = "\x83\x00\x01\x01a" })},
		{name: "refused: a length of an extension in two bytes that fits in one", result: "undecodable", make: written(func(w *wire) { w.extensions = "\x04\x01\x81\x00a" })},
		{name: "refused: a time after the year 9999", result: "undecodable", make: written(func(w *wire) {
			w.data = "\x81\xa4seen\xc7\x0c\xff\x00\x00\x00\x00" + string(binary.BigEndian.AppendUint64(nil, 253402300800))
		})},
		{name: "refused: a time of another extension", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xa4seen\xd6\x0d\x00\x00\x00\x01" })},
		{name: "by another writer: an extension in a field that is not known", make: written(func(w *wire) { w.data = "\x81\xa3new\xd4\x01\x00" })},
		{name: "refused: an unknown field twice", result: "undecodable", make: written(func(w *wire) { w.data = "\x82\xa3new\x01\xa3new\x01" })},
		{name: "refused: an unknown field twice in a struct of a field", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xa4home\x82\xa3new\x01\xa3new\x01" })},
		{name: "refused: a tombstone before its end", mode: "record", result: "replaced", make: altered("record: a few fields", func([]byte) []byte { return appendSeconds([]byte{0x13}, vectorStart.Unix()+60) })},
		{name: "refused: a tombstone at its end", mode: "record", read: time.Minute, result: "unknown", make: altered("record: a few fields", func([]byte) []byte { return appendSeconds([]byte{0x13}, vectorStart.Unix()+60) })},
		{name: "refused: a tombstone where records are sealed", mode: "sealed record", result: "replaced", make: altered("sealed record: a few fields", func([]byte) []byte { return appendSeconds([]byte{0x13}, vectorStart.Unix()+60) })},
		{name: "refused: a tombstone that is too long", mode: "record", result: "undecodable", make: altered("record: a few fields", func([]byte) []byte { return append(appendSeconds([]byte{0x13}, vectorStart.Unix()+60), 0) })},
		{name: "refused: an unknown field 101 deep", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xa3new" + strings.Repeat("\x91", 101) + "\xc0" })},
		{name: "refused: the byte c1, which msgpack never uses", result: "undecodable", make: written(func(w *wire) { w.data = "\x81\xa3new\xc1" })},
		{name: "refused: sealed, a byte after the data", mode: "sealed", result: "undecodable", make: written(func(w *wire) { w.tail = "\x00" })},
		{name: "refused: record, a byte after the data", mode: "record", result: "undecodable", make: written(func(w *wire) { w.tail = "\x00" })},
	}
	for i := range specs {
		if specs[i].mode == "" {
			specs[i].mode = "signed"
		}
	}
	return specs
}

// vectorSince is ten seconds after vectorStart, and vectorKey the key of RFC 6979,
// appendix A.2.5, in its compressed form.
const (
	vectorSince = "\x00\x65\x53\xf1\x0a"
	vectorKey   = "\x03" +
		"\x60\xfe\xd4\xba\x25\x5a\x9d\x31\xc9\x61\xeb\x74\xc6\x35\x6d\x68" +
		"\xc0\x49\xb8\x92\x3b\x61\xfa\x6c\xe6\x69\x62\x2e\x60\xf2\x9f\xb6"
)

// largestRole makes the Set-Cookie line of a vector 4096 bytes long.
const largestRole = 2801

// strayBits sets the unused bits of the last character.
func strayBits(v string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return v[:len(v)-1] + string(alphabet[strings.IndexByte(alphabet, v[len(v)-1])|1])
}
