package sessions_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"math/big"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// Fuzzing runs in processes of their own, again and again: what is fuzzed has to
// be the same in all of them. So the cookies are written here, with one secret,
// and end in the year 36812.

const fuzzName = "__Host-Http-session"

// fuzzWire is a cookie, or the record of the one session of these tests.
func fuzzWire(format byte, change func(*wire)) *wire {
	w := &wire{
		format: format, secret: testSecret, mode: "cookie", cookie: fuzzName, created: 1_700_000_000, used: 1_700_000_000,
		expires: 1<<40 - 1, shape: 0x0badcafe, flashes: "\x90", data: "\x82\xa3uid\x2a\xa4role\xa4user",
		id: [16]byte([]byte("sixteen bytes id")), secretID: [32]byte([]byte("thirty-two bytes of a secret id.")),
	}
	if format == 3 || format == 0x11 {
		w.mode, w.id = "store", [16]byte(fuzzID[:16])
	}
	if change != nil {
		change(w)
	}
	return w
}

var fuzzID = sessions.ID(sha256.Sum256([]byte("thirty-two bytes of a secret id.")))

func (w *wire) value() string { return base64.RawURLEncoding.EncodeToString(w.bytes()) }

// sealedValues are of fuzzWire(2, nil): written down, since a nonce is drawn for
// every value.
var sealedValues = []string{
	"Ao_Vf7URXOvJSTz_um8D1zKlUQwRMDgcv7Fhh2HFVA5f09Kl1ACvCkB2VOJH-zMe62uJMMxwP5cBYpno9ZkSsSY_9C9JB6_4sDoZ0RoQ3FBelfZTABiKfXRe1S6R_WL7bJCB-0O5p-Y",
	"Ao_Vf7Us61CmkpbN45fmKfVk-d1jEehAIx5TK6f0QBTty-yKunkZMBVT9UQiTPAcQRR7onTG1xh8Q8mklysCebTkcNDzVCQ5VUvHmpBkKrvjr8ebXMOWixc2HRxWgV6B8TUpNETPrAU",
}

// issuedValues are the only ones that a reader may take, by first byte.
func issuedValues() map[byte][]string {
	return map[byte][]string{
		1: {fuzzWire(1, nil).value(), fuzzWire(1, func(w *wire) { w.used, w.flashes = w.used+1, "\x92\xa1k\xa1m" }).value()},
		2: sealedValues,
		3: {fuzzWire(3, nil).value(), fuzzWire(3, func(w *wire) { w.created++ }).value()},
	}
}

// fuzzManager reads the cookies of a first byte. authentic reports whether the last
// visit took the cookie for one.
func fuzzManager(tb testing.TB, format byte) (m *sessions.Manager[AppSession], authentic func(reason sessions.Reason) bool) {
	tb.Helper()
	c := config{Keys: newKeys(tb), Encrypt: format == 2, Logger: slog.New(slog.DiscardHandler)}
	c.Cookie.BrowserSession = true // a cookie with a Max-Age would end before these sessions, and be sent anew
	authentic = func(reason sessions.Reason) bool {
		return reason != sessions.ReasonForged && reason != sessions.ReasonNoCookie
	}
	if format == 3 {
		store := newHookStore(newPlainStore())
		c.Store = store
		authentic = func(sessions.Reason) bool {
			defer store.resetCounts()
			return store.count("Load") > 0
		}
	}
	m, err := sessions.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	return m, authentic
}

func FuzzOpen(f *testing.F) {
	issued := issuedValues()
	for format, values := range issued {
		for i, v := range values {
			for other := range issued {
				f.Add(other, v, uint16(7*i), byte('A'))
			}
			f.Add(format, v[:len(v)-1], uint16(len(v)-1), byte('='))
			f.Add(format, v+"=", uint16(0), byte('B'))
			f.Add(format, strings.ReplaceAll(strings.ReplaceAll(v, "-", "+"), "_", "/"), uint16(3), byte(0))
		}
	}
	type reader struct {
		*sessions.Manager[AppSession]
		authentic func(sessions.Reason) bool
	}
	readers := map[byte]reader{}
	for format := range issued {
		m, authentic := fuzzManager(f, format)
		readers[format] = reader{m, authentic}
	}
	f.Fuzz(func(t *testing.T, format byte, value string, at uint16, with byte) {
		format = format%3 + 1
		r := readers[format]
		values := []string{value}
		for _, v := range issued[format] { // and what is one step away from good ones
			i := int(at) % len(v)
			values = append(values, v, v[:i], v[:i]+string(rune(with))+v[i:], v[:i]+string([]byte{with})+v[i+1:], v[:i]+v[i+1:], v+value, value+v)
			token, err := base64.RawURLEncoding.DecodeString(v)
			if err != nil {
				t.Fatal(err)
			}
			token[int(at)%len(token)] ^= with
			values = append(values, base64.RawURLEncoding.EncodeToString(token))
		}
		for _, v := range values {
			if strings.Contains(v, ";") {
				continue // ends the value: FuzzCookieHeader
			}
			var reason sessions.Reason
			var data AppSession
			res := visit(r.Manager, fuzzName+"="+v, func(s *sessions.Session[AppSession]) { reason, data = s.Reason(), s.Data })
			if res.StatusCode != http.StatusOK || len(res.Cookies()) != 0 {
				t.Errorf("got status %d and cookies %v, want 200 and none", res.StatusCode, res.Cookies())
			}
			// Blanks at the end are those of the header, not of the value.
			ours := slices.Contains(issued[format], strings.TrimRight(v, " \t"))
			if got := r.authentic(reason); got != ours {
				t.Errorf("format %d: got authentic %v (%q) for %q, want %v", format, got, reason, v, ours)
			}
			if !ours && data.UserID != 0 {
				t.Errorf("format %d: got user %d of %q, want nothing", format, data.UserID, v)
			}
		}
	})
}

func FuzzCookieHeader(f *testing.F) {
	values := issuedValues()[1]
	older, newer := values[0], values[1]
	forged := older[:len(older)-1] + "A"
	// In a template A and B stand for the values, X for a forged one and N= for
	// the name, so that it stays short and what it is made of whole.
	fill := strings.NewReplacer("A", older, "B", newer, "X", forged, "N=", fuzzName+"=")
	for _, template := range []string{
		"", "N=A", "N=B; N=A", "N=A; N=B", "a=b;N=A;;c", "N=X; N=A", strings.Repeat("N=X; ", 15) + "N=B", strings.Repeat("N=X; ", 16) + "N=B",
		`N="A"`, "=N=A", "__host-session=A", "xN=A", "%5f%5fHost-session=A", "\u2000N=A", "\x85N=A", "\xa0N=A", "$Version=1; N=A; $Path=/",
		`a="; N=A"`, fuzzName, "N=", "N==A", "\tN=A \t", "a=b\nN=A", "N=A\nN=B", "N=A,b", "N=AA", "N=A; N=A", "N=A;N=Ax;N=B\t;",
	} {
		f.Add(template)
	}
	m, _ := fuzzManager(f, 1)
	keyID := wireKeyOf(testSecret, "", "").id
	f.Fuzz(func(t *testing.T, template string) {
		header := fill.Replace(template)
		lines := strings.Split(header, "\n")
		for _, line := range lines {
			if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return // net/http's server refuses these
			}
			for part := range strings.SplitSeq(line, ";") {
				name, _, _ := strings.Cut(strings.Trim(part, " \t"), "=")
				if strings.TrimRight(name, " \t") == fuzzName && name != fuzzName {
					return // a blank behind the name: net/http takes it, here only the exact name counts
				}
			}
		}
		if strings.Count(header, ";")+len(lines) > 3000 {
			return // net/http takes no cookie at all of so many
		}
		r := &http.Request{Header: http.Header{"Cookie": lines}}
		want, tried := "", map[string]bool{}
		for _, c := range r.CookiesNamed(fuzzName) {
			token, err := base64.RawURLEncoding.Strict().DecodeString(c.Value)
			if c.Quoted || err != nil || len(token) < 80 || len(c.Value) > 4096 || token[0] != 1 || !bytes.Equal(token[1:5], keyID) || strings.ContainsAny(c.Value, "\r\n") {
				continue
			}
			if tried[c.Value] = true; len(tried) > 16 {
				break
			}
			if c.Value == newer || c.Value == older && want == "" {
				want = c.Value
			}
		}
		var reason sessions.Reason
		got := ""
		m.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s := sessions.Get[AppSession](r.Context())
			reason = s.Reason()
			if !s.IsNew() {
				got = older
				if len(s.Flashes()) > 0 {
					got = newer
				}
			}
		})).ServeHTTP(discardWriter{http.Header{}}, r)
		if got != want {
			t.Errorf("got the session of %q (%q), want that of %q, as net/http reads it", got, reason, want)
		}
		for _, c := range r.CookiesNamed(fuzzName) {
			// A name alone is a cookie to net/http; browsers send none without "=".
			if reason == sessions.ReasonNoCookie && c.Value != "" {
				t.Errorf("got %q, want any other: net/http finds %v", reason, c)
			}
		}
		if !strings.Contains(header, fuzzName+"=") && reason != sessions.ReasonNoCookie {
			t.Errorf("got %q, want %q", reason, sessions.ReasonNoCookie)
		}
	})
}

// A discardWriter is a ResponseWriter for those who look at nothing.
type discardWriter struct{ header http.Header }

func (d discardWriter) Header() http.Header         { return d.header }
func (d discardWriter) Write(b []byte) (int, error) { return len(b), nil }
func (d discardWriter) WriteHeader(int)             {}

// Types whose decoding is the most dangerous.
type (
	deepSession struct {
		Lists [][]string                       `msgpack:"lists"`
		Maps  map[string]map[int][]bool        `msgpack:"maps"`
		Ptr   **deepLeaf                       `msgpack:"ptr"`
		Ptrs  []*deepLeaf                      `msgpack:"ptrs"`
		Array [3]deepLeaf                      `msgpack:"array"`
		Wide  map[deepKey]struct{ A [64]byte } `msgpack:"wide"`
		Empty []struct{}                       `msgpack:"empty"`
		Times []time.Time                      `msgpack:"times"`
	}
	deepLeaf struct {
		Bytes []byte            `msgpack:"bytes"`
		More  map[string][]byte `msgpack:"more"`
	}
	deepKey struct {
		A int8
		B string
	}
	codecSession struct {
		Addr  netip.Addr            `msgpack:"addr"`
		URL   *url.URL              `msgpack:"url"`
		Addrs map[netip.Addr]string `msgpack:"addrs"`
	}
	bigSession struct {
		Int big.Int `msgpack:"int"`
	}
	smallSession struct {
		N int8 `msgpack:"n" validate:"gte=0"`
		F float32
		deepLeaf
	}
)

// A recordReader opens records as sessions of some T.
type recordReader func(rec []byte) (reason sessions.Reason, status int, err error)

// newRecordReader returns one that reads the session, and one that changes it.
func newRecordReader[T any](tb testing.TB, version int, upgrades ...sessions.Upgrade) (read recordReader, data func() *T, change recordReader) {
	tb.Helper()
	store := newPlainStore()
	var failed error
	m, err := sessions.New(sessions.Config[T]{
		Keys: newKeys(tb), Store: store, Version: version, Upgrades: upgrades, Logger: slog.New(slog.DiscardHandler),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			failed = err
			w.WriteHeader(http.StatusInternalServerError)
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	cookie := fuzzName + "=" + fuzzWire(3, nil).value()
	var last *T
	serve := func(rec []byte, f func(*sessions.Session[T])) (reason sessions.Reason, status int, err error) {
		failed = nil
		if rec != nil {
			clear(store.records)
			store.put(fuzzID, sessions.Record{Data: rec, Expires: time.Now().Add(time.Hour)})
		}
		res := visit(m, cookie, func(s *sessions.Session[T]) {
			reason, last = s.Reason(), &s.Data
			if f != nil && reason == sessions.ReasonNone {
				f(s)
			}
		})
		return reason, res.StatusCode, failed
	}
	read = func(rec []byte) (sessions.Reason, int, error) { return serve(rec, nil) }
	change = func(rec []byte) (sessions.Reason, int, error) {
		return serve(rec, func(s *sessions.Session[T]) { s.Flash("k", "m") })
	}
	return read, func() *T { return last }, change
}

func recordHead(schema uint16) []byte {
	return fuzzWire(0x11, func(w *wire) { w.schema, w.flashes, w.data = schema, "", "" }).bytes()
}

func FuzzRecord(f *testing.F) {
	type kind struct {
		read, change recordReader
		bounded      bool // in memory: not where a type's own codec takes what it likes, as that of big.Int
	}
	var kinds []kind
	add := func(read, change recordReader, bounded bool) { kinds = append(kinds, kind{read, change, bounded}) }
	r1, _, c1 := newRecordReader[AppSession](f, 0)
	r2, _, c2 := newRecordReader[vectorSession](f, 0)
	r3, _, c3 := newRecordReader[deepSession](f, 0)
	r4, _, c4 := newRecordReader[codecSession](f, 0)
	r5, _, c5 := newRecordReader[smallSession](f, 0)
	r6, _, c6 := newRecordReader[bigSession](f, 0)
	add(r1, c1, true)
	add(r2, c2, true)
	add(r3, c3, true)
	add(r4, c4, true)
	add(r5, c5, true)
	add(r6, c6, false)
	for i := range kinds {
		for _, seed := range []struct {
			data   string
			repeat uint16
		}{
			{"\x90\x80", 0}, {"\x90\x82\xa3uid\x2a\xa4role\xa4user", 0}, {"\x92\xa1k\xa1m\x80", 0}, {"\x90\xc0", 0}, {"\x90\xdf\xff\xff\xff\xff", 0},
			{"\x90\x91", 2000}, {"\x90\x81\xa3new\x91", 60000}, {"\x90\x81\xa4cart\xdf\x00\xff\xff\xff", 0}, {"\x90\x81\xa5lists\xdd\x00\x00\xff\x00\xc0", 0xfeff},
			{"\x90\x81\xa3url\xc4\x04http", 0}, {"\x90\x82\xa4seen\xd6\xff\x00\x00\x00\x01\xa3uid\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 0},
			{"\x90\x81\xa3new\xc7\x03\x01\x81\xa1a", 0}, {"\x90\x81\xa4ptrs\xdc\x10\x00\x80", 0x0fff}, {"\x90\x81\xa5empty\xdd\x00\x00\xff\x00\x80", 0xfeff},
			{"\x90\x81\xa5times\xdc\x01\x00\xd6", 300}, {"\x90\x81\xa4addr\xc4\x04\x7f\x00\x00\x01", 0}, {"\x90\x81\xa3int\xc4\x0212", 0}, {"\x90\x81\xa3int\xc5\xff\x00\x39", 0xfeff},
			{"\x90\x81\xa1n\xd0\xff", 0}, {"\xdc\x00\x40" + strings.Repeat("\xa1k", 64) + "\x80", 0}, {"\x90\x81\xa4name\xda\xff\x00x", 0xfeff},
		} {
			f.Add(uint8(i), false, []byte(seed.data), seed.repeat)
		}
		f.Add(uint8(i), true, fuzzWire(0x11, nil).bytes(), uint16(0))
		f.Add(uint8(i), true, []byte{0x11}, uint16(50))
		f.Add(uint8(i), true, []byte{}, uint16(0))
	}
	// What the first request of a type costs is not the record's.
	for _, k := range kinds {
		_, _, _ = k.read(append(recordHead(0), "\x90\x80"...))
	}
	// Everything else of a request: the recorder, the context, what is logged;
	// and the record is copied into the store.
	const slack = 256 << 10
	f.Fuzz(func(t *testing.T, which uint8, whole bool, rec []byte, repeat uint16) {
		// Large records are made of small inputs, by repeating their last byte.
		if len(rec) > 0 {
			rec = slices.Concat(rec, bytes.Repeat(rec[len(rec)-1:], int(repeat)))
		}
		if !whole {
			rec = append(recordHead(0), rec...)
		}
		k := kinds[int(which)%len(kinds)]
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		reason, status, err := k.read(rec)
		runtime.ReadMemStats(&after)
		if status != http.StatusOK {
			t.Errorf("got status %d (%v), want 200", status, err)
		}
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+64*len(rec)+len(rec)+slack); k.bounded && got > most {
			t.Errorf("got %d bytes of memory for a record of %d bytes (%q), want at most %d", got, len(rec), reason, most)
		}
		if reason != sessions.ReasonNone {
			return
		}
		// What could be loaded can be stored, and loaded again.
		if _, status, err := k.change(rec); status != http.StatusOK && !errors.Is(err, sessions.ErrTooLarge) {
			t.Errorf("got status %d (%v) from a change, want 200", status, err)
		}
		if reason, _, _ := k.read(nil); reason != sessions.ReasonNone {
			t.Errorf("got %q from what was stored, want it back", reason)
		}
	})
}

// A fuzzSession has every kind of field that merges in its own way. Nil and
// empty are the same, hence omitempty.
type fuzzSession struct {
	Kept  int                  `json:"-"` // makes a session of what is zero otherwise
	N     int                  `json:"n,omitempty"`
	S     string               `json:"s,omitempty"`
	F     float64              `json:"f,omitempty"`
	B     bool                 `json:"b,omitempty"`
	List  []string             `json:"list,omitempty"`
	Bytes []byte               `json:"bytes,omitempty"`
	Pair  [2]int               `json:"pair"`
	Map   map[string]int       `json:"map,omitempty"`
	Deep  map[string]fuzzInner `json:"deep,omitempty"`
	In    fuzzInner            `json:"in"`
	Ptr   *fuzzInner           `json:"ptr,omitempty"`
	fuzzEmbedded
}

type fuzzInner struct {
	X int            `json:"x,omitempty"`
	Y []int          `json:"y,omitempty"`
	Z map[string]int `json:"z,omitempty"`
}

type fuzzEmbedded struct {
	E string `json:"e,omitempty"`
}

// pick is mine if this request changed it, and theirs if not.
func pick[V any](base, mine, theirs V) V {
	if alike(base, mine) {
		return theirs
	}
	return mine
}

func alike(a, b any) bool {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	switch va.Kind() {
	case reflect.Slice, reflect.Map:
		if va.Len() == 0 && vb.Len() == 0 {
			return true
		}
	case reflect.Pointer:
		if va.IsNil() || vb.IsNil() {
			return va.IsNil() && vb.IsNil()
		}
	}
	ja, err1 := json.Marshal(a)
	jb, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(ja, jb)
}

func pickKeys[V any](base, mine, theirs map[string]V) map[string]V {
	merged := map[string]V{}
	for k, v := range theirs {
		merged[k] = v
	}
	for k, v := range mine {
		if was, ok := base[k]; !ok || !alike(was, v) {
			merged[k] = v
		}
	}
	for k := range base {
		if _, ok := mine[k]; !ok {
			delete(merged, k)
		}
	}
	return merged
}

// mergedPlainly is the merge that the library promises, written for one type: structs by
// field, maps by key, everything else whole; mine where both changed.
func mergedPlainly(base, mine, theirs fuzzSession) fuzzSession {
	return fuzzSession{
		Kept: 1, N: pick(base.N, mine.N, theirs.N), S: pick(base.S, mine.S, theirs.S), F: pick(base.F, mine.F, theirs.F),
		B: pick(base.B, mine.B, theirs.B), List: pick(base.List, mine.List, theirs.List), Bytes: pick(base.Bytes, mine.Bytes, theirs.Bytes),
		Pair: pick(base.Pair, mine.Pair, theirs.Pair), Map: pickKeys(base.Map, mine.Map, theirs.Map),
		Deep: pickKeys(base.Deep, mine.Deep, theirs.Deep),
		In: fuzzInner{
			X: pick(base.In.X, mine.In.X, theirs.In.X), Y: pick(base.In.Y, mine.In.Y, theirs.In.Y), Z: pickKeys(base.In.Z, mine.In.Z, theirs.In.Z),
		},
		Ptr:          pick(base.Ptr, mine.Ptr, theirs.Ptr),
		fuzzEmbedded: fuzzEmbedded{E: pick(base.E, mine.E, theirs.E)},
	}
}

func FuzzMerge(f *testing.F) {
	for _, s := range [][3]string{
		{`{}`, `{"n":1}`, `{"s":"x"}`},
		{`{"n":1}`, `{"n":2}`, `{"n":3}`},
		{`{"map":{"a":1,"b":2}}`, `{"map":{"a":1,"c":3}}`, `{"map":{"a":9,"b":9,"d":4}}`},
		{`{"map":{"a":1}}`, `{}`, `{"map":{"a":1,"b":2}}`},
		{`{"map":{"a":1}}`, `{"map":{"a":2}}`, `{}`},
		{`{"map":{}}`, `{"map":{"a":0}}`, `{"map":null}`},
		{`{"deep":{"a":{"x":1},"b":{"y":[1]}}}`, `{"deep":{"a":{"x":2},"b":{"y":[1],"z":{}}}}`, `{"deep":{"b":{"y":[2]}}}`},
		{`{"in":{"x":1,"y":[1,2],"z":{"k":1}}}`, `{"in":{"x":2,"y":[1,2]}}`, `{"in":{"x":1,"y":[],"z":{"k":1,"l":2}}}`},
		{`{"ptr":{"x":1}}`, `{}`, `{"ptr":{"x":1,"y":[1]}}`},
		{`{}`, `{"ptr":{}}`, `{"ptr":{"x":5}}`},
		{`{"list":["a"],"bytes":"AAEC","pair":[1,2],"f":0.5,"b":true,"e":"e"}`, `{"list":["a","b"],"bytes":"","pair":[1,3],"f":-0.0,"e":"e"}`, `{"list":[],"bytes":"AAEC","pair":[0,2],"f":0.5,"b":true,"e":"f"}`},
		{`{"n":1,"s":"x"}`, `{"n":1,"s":"x"}`, `{"n":2}`},
	} {
		f.Add([]byte(s[0]), []byte(s[1]), []byte(s[2]))
	}
	f.Fuzz(func(t *testing.T, jsonBase, jsonMine, jsonTheirs []byte) {
		sound := true
		parse := func(b []byte) fuzzSession {
			var m fuzzSession
			sound = json.Unmarshal(b, &m) == nil && sound
			m.Kept = 1
			return m
		}
		base, mine, theirs := parse(jsonBase), parse(jsonMine), parse(jsonTheirs)
		if !sound {
			return // not sessions in JSON
		}
		want := mergedPlainly(base, mine, theirs)
		again := func(b []byte) fuzzSession { return parse(b) } // the handlers keep what they are given

		var failed error
		m, err := sessions.New(sessions.Config[fuzzSession]{
			Keys: newKeys(t), Store: new(sessions.MemoryStore), Logger: slog.New(slog.DiscardHandler),
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { failed = err; w.WriteHeader(500) },
		})
		if err != nil {
			t.Fatal(err)
		}
		res := visit(m, "", func(s *sessions.Session[fuzzSession]) { s.Data = again(jsonBase) })
		if failed != nil || len(res.Cookies()) != 1 {
			t.Fatalf("got %v and %d cookies, want one", failed, len(res.Cookies()))
		}
		cookie := fuzzName + "=" + res.Cookies()[0].Value
		visit(m, cookie, func(s *sessions.Session[fuzzSession]) {
			visit(m, cookie, func(s *sessions.Session[fuzzSession]) { s.Data = again(jsonTheirs) })
			s.Data = again(jsonMine)
		})
		if failed != nil {
			t.Fatalf("got %v, want both stored", failed)
		}
		visit(m, cookie, func(s *sessions.Session[fuzzSession]) {
			if got, want := asJSON(t, s.Data), asJSON(t, want); got != want || s.Data.Kept != 1 {
				t.Errorf("got %s (%q), want %s", got, s.Reason(), want)
			}
		})
	})
}

// Three versions of a struct.
type (
	upgrade0 struct {
		Name string   `msgpack:"name"`
		Age  string   `msgpack:"age"`
		Tags []string `msgpack:"tags"`
	}
	upgrade1 struct {
		Name string          `msgpack:"name"`
		Age  int             `msgpack:"age"`
		Tags map[string]bool `msgpack:"tags"`
	}
	upgrade2 struct {
		First string          `msgpack:"first"`
		Last  string          `msgpack:"last"`
		Age   uint8           `msgpack:"age"`
		Tags  map[string]bool `msgpack:"tags"`
	}
)

func from0(o upgrade0) (n upgrade1, err error) {
	n.Name, n.Tags = o.Name, map[string]bool{}
	if o.Age != "" {
		if n.Age, err = strconv.Atoi(o.Age); err != nil {
			return n, err
		}
	}
	for _, tag := range o.Tags {
		n.Tags[tag] = true
	}
	return n, nil
}

func from1(o upgrade1) (n upgrade2, err error) {
	if o.Age < 0 || o.Age > 255 {
		return n, errors.New("nobody is that old")
	}
	n.First, n.Last, _ = strings.Cut(o.Name, " ")
	if n.First == "panic" {
		panic("an upgrade that did not expect this")
	}
	n.Age, n.Tags = uint8(o.Age), o.Tags
	return n, nil
}

func FuzzUpgrade(f *testing.F) {
	for version := range uint8(4) {
		for _, data := range []string{
			"\x80", "\x83\xa4name\xacAda Lovelace\xa3age\xa236\xa4tags\x92\xa1a\xa1b", "\x83\xa4name\xacAda Lovelace\xa3age\x24\xa4tags\x81\xa1a\xc3",
			"\x82\xa4name\xa1x\xa3age\xa3old", "\x82\xa4name\xa1x\xa3age\xcd\x01\x00", "\x81\xa4name\xa5panic", "\x81\xa3age\xff", "\xc0", "\x81\xa4tags\xdd\xff\xff\xff\xff",
			"\x84\xa5first\xa3Ada\xa4last\xa1L\xa3age\x24\xa4tags\x81\xa1a\xc3", "\x81\xa4tags\xc0", "\x81\xa4tags\x92\xc0\xc0",
		} {
			f.Add(version, []byte(data))
		}
	}
	read0, data0, _ := newRecordReader[upgrade0](f, 0)
	read1, data1, _ := newRecordReader[upgrade1](f, 1, sessions.From(0, from0))
	read2, data2, change2 := newRecordReader[upgrade2](f, 2, sessions.From(1, from1), sessions.From(0, from0))
	f.Fuzz(func(t *testing.T, version uint8, data []byte) {
		version %= 4
		rec := append(append(recordHead(uint16(version)), 0x90), data...)
		reason, status, err := read2(rec)
		if status != http.StatusOK {
			t.Fatalf("got status %d (%v), want 200", status, err)
		}
		got := *data2()
		want := upgrade2{}
		wantReason := sessions.ReasonUndecodable
		switch version {
		case 0:
			if r, _, _ := read0(rec); r == sessions.ReasonNone {
				if middle, err := from0(*data0()); err == nil {
					want, wantReason = upgradedPlainly(middle)
				}
			}
		case 1:
			if r, _, _ := read1(rec); r == sessions.ReasonNone {
				want, wantReason = upgradedPlainly(*data1())
			}
		case 2:
			want, wantReason = got, reason // FuzzRecord
		case 3:
			wantReason = sessions.ReasonNewer
		}
		if reason != wantReason || asJSON(t, got) != asJSON(t, want) {
			t.Fatalf("version %d: got %s (%q), want %s (%q)", version, asJSON(t, got), reason, asJSON(t, want), wantReason)
		}
		if reason != sessions.ReasonNone {
			return
		}
		// The next change stores it as version 2, from which nothing is upgraded.
		if _, status, err := change2(rec); status != http.StatusOK {
			t.Fatalf("got status %d (%v) from a change, want 200", status, err)
		}
		if reason, _, _ := read2(nil); reason != sessions.ReasonNone || !alike(got, *data2()) && asJSON(t, got) != asJSON(t, *data2()) {
			t.Errorf("got %s (%q) from what was stored, want %s", asJSON(t, *data2()), reason, asJSON(t, got))
		}
	})
}

func upgradedPlainly(o upgrade1) (n upgrade2, reason sessions.Reason) {
	defer func() {
		if recover() != nil {
			n, reason = upgrade2{}, sessions.ReasonUndecodable
		}
	}()
	n, err := from1(o)
	if err != nil {
		return upgrade2{}, sessions.ReasonUndecodable
	}
	return n, sessions.ReasonNone
}

func FuzzKeyring(f *testing.F) {
	const a, b = "MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY=", "dnV0c3JxcG9ubWxramloZ2ZlZGNiYTk4NzY1NDMyMTA="
	for _, list := range []string{a, b + "," + a, " " + a + " ,\t" + b, a + "," + a, a[:40], a + ",", "", strings.Repeat("A", 43), strings.Repeat(a+",", 17)} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		keys, err := sessions.ParseKeyring(list)
		if (keys == nil) != (err != nil) {
			t.Fatalf("got %v and the error %v, want one of them", keys, err)
		}
		told := fmt.Sprintf("%v %+v %#v %v", keys, keys, keys, err)
		for _, part := range strings.Split(list, ",") {
			if part = strings.TrimSpace(part); len(part) >= 20 && !strings.Contains(part, " ") && strings.Contains(told, part[4:16]) {
				t.Fatalf("what is told shows part of a secret: %s", told)
			}
		}
		if err != nil {
			return
		}
		// The other spellings of the list are the same ring.
		other := strings.NewReplacer("+", "-", "/", "_", "=", "", ",", " , ").Replace(list)
		again, err := sessions.ParseKeyring(other)
		if err != nil || fmt.Sprint(again) != fmt.Sprint(keys) {
			t.Fatalf("in another spelling: got %v, %v, want %v", again, err, keys)
		}
		// And it signs what it opens.
		m, err := sessions.New(config{Keys: keys, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		s := &site{t: t, mgr: m, events: new(events), runs: map[string]http.HandlerFunc{}}
		s.handler = m.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.runs[r.URL.Path](w, r) }))
		visitor := s.browser()
		visitor.do(func(sess *session) { sess.Data.N = 7 })
		visitor.do(func(sess *session) {
			if sess.Data.N != 7 {
				t.Errorf("got N=%d from its own cookie, want 7", sess.Data.N)
			}
		})
	})
}

func TestEveryFuzzTargetHasSeeds(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]int{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Fuzz") {
				continue
			}
			targets[fn.Name.Name] += 0
			ast.Inspect(fn, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Add" {
					if x, ok := sel.X.(*ast.Ident); ok && x.Name == "f" {
						targets[fn.Name.Name]++
					}
				}
				return true
			})
		}
	}
	if len(targets) < 6 {
		t.Errorf("got the targets %v, want at least 6", targets)
	}
	for name, adds := range targets {
		if adds == 0 {
			t.Errorf("%s: got no f.Add, want seeds", name)
		}
		corpus, err := filepath.Glob(filepath.Join("testdata", "fuzz", name, "*"))
		if err != nil || len(corpus) == 0 {
			t.Errorf("%s: got no file in testdata/fuzz/%s (%v), want a corpus", name, name, err)
		}
	}
	for format, values := range issuedValues() {
		if len(values) == 0 {
			t.Errorf("got no issued value of format %d, want some", format)
		}
	}
}
