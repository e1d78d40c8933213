package dbsc

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/typedsessions/sessions/internal/cookie"
	"github.com/typedsessions/sessions/internal/keys"
	"github.com/typedsessions/sessions/internal/seam"
	"github.com/typedsessions/sessions/internal/wire"
)

func newMint(t testing.TB, mode keys.Mode, name string, secrets ...string) *mint {
	t.Helper()
	var all [][]byte
	for _, s := range secrets {
		all = append(all, []byte(s))
	}
	ring, err := keys.NewRing(all)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := cookie.Attributes{Name: name}.Spec(100)
	if err != nil {
		t.Fatal(err)
	}
	site := &seam.Site{Cookie: spec, Mode: mode, Ring: new(atomic.Pointer[keys.Ring])}
	site.Ring.Store(ring)
	return &mint{site: site}
}

const (
	secretA = "0123456789abcdefghijklmnopqrstuv"
	secretB = "vutsrqponmlkjihgfedcba9876543210"
)

func TestATokenIsWorthNothingElsewhere(t *testing.T) {
	m := newMint(t, keys.CookieMode, "__Host-a", secretA)
	subject := []byte("subject")
	value := m.challenge(boundCookie, time.Minute, subject)
	now := time.Now()
	if got := m.check(boundCookie, value, subject, now); got != good {
		t.Fatalf("got %v", got)
	}
	raw, _ := base64.RawURLEncoding.DecodeString(value)
	flipped := func(i int) string {
		b := bytes.Clone(raw)
		b[i] ^= 1
		return base64.RawURLEncoding.EncodeToString(b)
	}
	for i := range raw {
		if m.check(boundCookie, flipped(i), subject, now) != foreign {
			t.Errorf("with another byte %d", i)
		}
	}
	for _, tt := range []struct {
		name    string
		m       *mint
		k       kind
		value   string
		subject []byte
	}{
		{"as another kind", m, refreshChallenge, value, subject},
		{"for another subject", m, boundCookie, value, []byte("subjecu")},
		{"for a longer subject", m, boundCookie, value, []byte("subject0")},
		{"for no subject", m, boundCookie, value, nil},
		{"of another mode", newMint(t, keys.StoreMode, "__Host-a", secretA), boundCookie, value, subject},
		{"of another cookie", newMint(t, keys.CookieMode, "__Host-b", secretA), boundCookie, value, subject},
		{"of another ring", newMint(t, keys.CookieMode, "__Host-a", secretB), boundCookie, value, subject},
		{"empty", m, boundCookie, "", subject},
		{"cut", m, boundCookie, value[:55], subject},
		{"padded", m, boundCookie, value + "=", subject},
		{"with a blank", m, boundCookie, value[:55] + " ", subject},
		{"a megabyte", m, boundCookie, string(make([]byte, 1<<20)), subject},
	} {
		if got := tt.m.check(tt.k, tt.value, tt.subject, now); got != foreign {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
	if got := m.check(boundCookie, value, subject, now.Add(time.Minute+time.Second)); got != ended {
		t.Errorf("after its end: got %v", got)
	}
	rotated := newMint(t, keys.CookieMode, "__Host-a", secretB, secretA)
	if got := rotated.check(boundCookie, value, subject, now); got != good {
		t.Errorf("under a ring with the secret behind: got %v", got)
	}
}

func TestClocksTwoSecondsApart(t *testing.T) {
	m := newMint(t, keys.StoreMode, "__Host-a", secretA)
	d := &Devices{options: Options{Every: 10 * time.Minute}}
	key := []byte("key")
	now := time.Unix(1e9, 0)
	for _, ahead := range []time.Duration{-2 * time.Second, 0, 2 * time.Second} { // of the process that makes the tokens
		spell := func(k kind, d time.Duration) string {
			return base64.RawURLEncoding.EncodeToString(m.make(k, now.Add(ahead+d), key))
		}
		// The browser drops the cookie by a clock of its own, after Every.
		value := spell(boundCookie, d.options.Every+grace)
		for _, at := range []time.Duration{0, time.Second, d.options.Every} {
			if got := m.check(boundCookie, value, key, now.Add(at)); got != good {
				t.Errorf("%v ahead: a bound cookie after %v: got %v", ahead, at, got)
			}
		}
		if got := m.check(boundCookie, value, key, now.Add(d.options.Every+grace+2*time.Second)); got != ended {
			t.Errorf("%v ahead: a bound cookie after its end: got %v", ahead, got)
		}
		for _, at := range []time.Duration{0, time.Second, time.Minute} {
			if got := m.check(refreshChallenge, spell(refreshChallenge, refreshWithin), key, now.Add(at)); got != good {
				t.Errorf("%v ahead: a challenge after %v: got %v", ahead, at, got)
			}
		}
		s := readState(offer(now.Add(ahead).Unix())(nil))
		if s.toBeOffered(now) || !s.toBeOffered(now.Add(offerAgain+2*time.Second)) {
			t.Errorf("%v ahead: the next offer", ahead)
		}
	}
}

// TestKnownToken compares a token with one that a program in another language made
// from docs/DBSC.md.
func TestKnownToken(t *testing.T) {
	m := newMint(t, keys.StoreMode, "__Host-Http-session", secretA)
	got := base64.RawURLEncoding.EncodeToString(m.make(boundCookie, time.Unix(1_800_000_000, 0), bytes.Repeat([]byte{7}, 33)))
	if got != knownToken {
		t.Errorf("got %s, want %s", got, knownToken)
	}
}

const knownToken = "I4_Vf7UAa0nSAGsbD33VzvlQNohmMBY8quOKYS8SYv02-Xn-yx00rxc1"

func TestStatesMerge(t *testing.T) {
	a, b := &publicKey{1}, &publicKey{2}
	as := func(p phase, at int64, k *publicKey) []byte {
		s := state{phase: p, since: at}
		if k != nil {
			s.key = *k
		}
		return s.append(nil)
	}
	for _, tt := range []struct {
		name      string
		change    func([]byte) []byte
		now, want []byte
	}{
		{"an offer of nothing", offer(5), nil, as(offered, 5, nil)},
		{"an offer of what was offered", offer(5), as(offered, 1, nil), as(offered, 5, nil)},
		{"an offer of what is registered keeps the key", offer(5), as(registered, 1, a), as(registered, 5, a)},
		{"an offer of what is bound", offer(5), as(bound, 1, a), as(bound, 1, a)},
		{"a registration of what was offered", register(a, 5), as(offered, 1, nil), as(registered, 5, a)},
		{"a registration where a parallel response has lost the offer", register(a, 5), nil, as(registered, 5, a)},
		{"a second registration replaces one that is not bound", register(b, 5), as(registered, 1, a), as(registered, 5, b)},
		{"a registration of what is bound", register(b, 5), as(bound, 1, a), as(bound, 1, a)},
		{"the first cookie", bind(*a, 5), as(registered, 1, a), as(bound, 5, a)},
		{"the first cookie of a key that another has replaced", bind(*a, 5), as(registered, 1, b), as(registered, 1, b)},
		{"the first cookie, twice", bind(*a, 5), as(bound, 1, a), as(bound, 1, a)},
		{"the first cookie of a new login", bind(*a, 5), as(offered, 1, nil), as(offered, 1, nil)},
		{"an offer of what a newer program wrote", offer(5), []byte{9}, []byte{9}},
		{"a registration of what a newer program wrote", register(a, 5), []byte{9}, []byte{9}},
	} {
		if got := tt.change(bytes.Clone(tt.now)); !bytes.Equal(got, tt.want) {
			t.Errorf("%s: got %x, want %x", tt.name, got, tt.want)
		}
	}
	if s := readState([]byte{9}); s.phase != bound {
		t.Errorf("what a newer program wrote is read as %v", s.phase)
	}
}

// TestKnownStates compares states with those that another writer has made from
// docs/DBSC.md.
func TestKnownStates(t *testing.T) {
	b, err := os.ReadFile("../testdata/vectors/v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Name  string `json:"name"`
			Holds struct {
				Extensions string `json:"extensions"`
				Device     *struct {
					Phase string `json:"phase"`
					Since int64  `json:"since"`
					Key   string `json:"key"`
				} `json:"device"`
			} `json:"holds"`
		} `json:"vectors"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	phases := map[string]phase{"offered": offered, "registered": registered, "bound": bound}
	seen := 0
	for _, v := range file.Vectors {
		want := v.Holds.Device
		if want == nil {
			continue
		}
		seen++
		entries, err := hex.DecodeString(v.Holds.Extensions)
		if err != nil {
			t.Fatal(err)
		}
		value := wire.Extension(entries, wire.DeviceTag)
		got, key := readState(value), ""
		if got.phase != offered {
			key = hex.EncodeToString(got.key[:])
		}
		if got.phase != phases[want.Phase] || got.since != want.Since || key != want.Key || !bytes.Equal(got.append(nil), value) {
			t.Errorf("%s: got %+v, want %+v", v.Name, got, *want)
		}
	}
	if seen < 6 {
		t.Errorf("got %d vectors with a device, want at least 6", seen)
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte{})
	f.Add(offer(1)(nil))
	f.Add(register(&publicKey{1}, 1)(nil))
	f.Add(bytes.Repeat([]byte{3}, keySize))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := readState(b)
		if again := s.append(nil); s.phase != none && len(b) == len(again) && s.phase == phase(b[0]) && !bytes.Equal(again, b) {
			t.Errorf("%x is read as %x", b, again)
		}
		if len(b) > 0 && s.phase == none {
			t.Errorf("%x is no state", b)
		}
	})
}

func FuzzToken(f *testing.F) {
	m := newMint(f, keys.CookieMode, "__Host-a", secretA)
	real := m.challenge(boundCookie, time.Hour, []byte("key"))
	f.Add(real)
	f.Add("")
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, tokenSize)))
	f.Fuzz(func(t *testing.T, value string) {
		if m.check(boundCookie, value, []byte("key"), time.Now()) != foreign {
			raw, ok := wire.AppendToken(nil, value)
			if !ok || base64.RawURLEncoding.EncodeToString(raw) != value {
				t.Errorf("%q is a second spelling", value)
			}
		}
	})
}

func TestTheCheckOfABoundCookieAllocatesNothing(t *testing.T) {
	m := newMint(t, keys.CookieMode, "__Host-a", secretA)
	key, now := make([]byte, 33), time.Now()
	value := m.challenge(boundCookie, time.Hour, key)
	if n := testing.AllocsPerRun(100, func() { m.check(boundCookie, value, key, now) }); n > 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	m := newMint(b, keys.CookieMode, "__Host-a", secretA)
	key, now := make([]byte, 33), time.Now()
	value := m.challenge(boundCookie, time.Hour, key)
	b.ReportAllocs()
	for b.Loop() {
		if m.check(boundCookie, value, key, now) != good {
			b.Fatal("not good")
		}
	}
}

func BenchmarkProof(b *testing.B) {
	p, err := parseProof(v1)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("ECDSA alone", func(b *testing.B) {
		for b.Loop() {
			p.verify(p.key)
		}
	})
	b.Run("parsed", func(b *testing.B) {
		for b.Loop() {
			q, _ := parseProof(v1)
			q.verify(q.key)
		}
	})
}
