package shape_test

import (
	"log/slog"
	"math"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions/internal/shape"
	"github.com/vmihailenco/msgpack/v5"
)

func TestTypesThatReadAllDo(t *testing.T) {
	type addresses struct {
		Addr   netip.Addr
		Port   netip.AddrPort
		Prefix netip.Prefix
		Keys   map[netip.Addr]int
	}
	type numbers struct {
		Int   big.Int
		To    *big.Int
		Rat   *big.Rat
		Level slog.Level
	}
	zone := netip.MustParseAddr("fe80::1").WithZone("\x00\xff%")
	large := new(big.Int).Lsh(big.NewInt(-7), 20_000)
	for _, p := range []any{
		&addresses{},
		&addresses{zone, netip.AddrPortFrom(zone, 65535), netip.PrefixFrom(zone, 200), map[netip.Addr]int{zone: 1, {}: 2}},
		&addresses{Port: netip.AddrPortFrom(netip.Addr{}, 80), Prefix: netip.PrefixFrom(netip.Addr{}, 8)},
		&addresses{Prefix: netip.PrefixFrom(netip.MustParseAddr("::ffff:192.0.2.1"), 128)},
		&numbers{},
		&numbers{*large, large, new(big.Rat).SetFrac(large, big.NewInt(3)), math.MinInt64},
		&numbers{Rat: new(big.Rat), Level: math.MaxInt64},
	} {
		s, err := shape.Of(reflect.TypeOf(p).Elem())
		if err != nil {
			t.Fatal(err)
		}
		if s.Rereads() {
			t.Errorf("%T is read back before a save, want it trusted", p)
		}
		again := reflect.New(value(p).Type())
		if err := msgpack.Unmarshal(encode(t, p), again.Interface()); err != nil {
			t.Fatalf("%+v: %v", p, err)
		}
		if s.Hash(again.Elem()) != s.Hash(value(p)) {
			t.Errorf("got %+v, want %+v", again, p)
		}
	}
}

func TestOnlyTypesWithCodecsOfTheirOwnAreReadBack(t *testing.T) {
	type own struct {
		Deep []map[string]*struct{ URL *url.URL }
	}
	for want, s := range map[bool]*shape.Shape{false: of[plain](t), true: of[own](t)} {
		if got := s.Rereads(); got != want {
			t.Errorf("got %t, want %t", got, want)
		}
	}
}

func BenchmarkReread(b *testing.B) {
	type session struct {
		ID   int
		Seen time.Time
		Cart []string
		Back *url.URL
	}
	u, err := url.Parse("https://example.com/a?b=c")
	if err != nil {
		b.Fatal(err)
	}
	s := of[session](b)
	p := &session{1, time.Now(), strings.Fields("a b c d e f g h"), u}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Reread(value(p)); err != nil {
			b.Fatal(err)
		}
	}
}
