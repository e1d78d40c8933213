package codec

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// basket has plain rules and plain kinds alone, so that both fast paths take it
// (promises_fast_test.go).
type basket struct {
	UserID int            `msgpack:"uid" validate:"gte=0"`
	Name   string         `msgpack:"name" validate:"max=100"`
	Role   string         `msgpack:"role" validate:"omitempty,oneof=admin user"`
	Cart   []int          `msgpack:"cart" validate:"max=100,dive,gt=0"`
	Level  int8           `msgpack:"level"`
	Counts map[string]int `msgpack:"counts" validate:"max=50,dive,min=1"`
	Rows   []row          `msgpack:"rows"`
	Seen   time.Time      `msgpack:"seen"`
}

// A row takes much memory, and few bytes if it is empty.
type row struct {
	A, B, C, D, E, F, G, H, I, J string `msgpack:",omitempty"`
	K, L, M, N, O, P, Q, R, S, T string `msgpack:",omitempty"`
}

func someBasket() *basket {
	return &basket{UserID: 7, Name: "Ada", Role: "user", Cart: []int{1, 22, 333}, Level: -3, Counts: map[string]int{"a": 1, "b": 2}, Seen: time.Unix(1_700_000_000, 0)}
}

func basketCodec(t *testing.T) *Codec {
	t.Helper()
	c, err := Analyze(reflect.TypeFor[basket](), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDataOfTheFastPathsAreValidatedBeforeASave(t *testing.T) {
	c := basketCodec(t)
	if _, err := c.Encode(nil, someBasket()); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*basket){
		"UserID":   func(s *basket) { s.UserID = -1 },
		"Name":     func(s *basket) { s.Name = strings.Repeat("é", 101) },
		"Role":     func(s *basket) { s.Role = "root" },
		"Cart":     func(s *basket) { s.Cart = make([]int, 101) },
		"Cart[]":   func(s *basket) { s.Cart[1] = 0 },
		"Counts[]": func(s *basket) { s.Counts["a"] = 0 },
	} {
		s := someBasket()
		change(s)
		if _, err := c.Encode(nil, s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: Encode: got %v, want ErrInvalid", field, err)
		}
		// And after a load: the rules may be newer than the bytes.
		b, err := c.Append(nil, s)
		if err != nil {
			t.Fatal(err)
		}
		loaded := c.New()
		if _, _, err := c.Decode(loaded, 0, b, true); err != nil {
			t.Fatal(err)
		}
		if err := c.Check(loaded, b); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: Check: got %v, want ErrInvalid", field, err)
		}
	}
}

func TestDataOfTheFastPathsHaveOneEncoding(t *testing.T) {
	c := basketCodec(t)
	var want []byte
	for i := range 20 {
		s := someBasket()
		s.Counts = map[string]int{}
		for j := range 40 {
			j = (j*7 + i) % 40
			s.Counts[fmt.Sprint(j)] = j + 1
		}
		b, err := c.Encode(nil, s)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = b
		}
		if !bytes.Equal(b, want) {
			t.Fatalf("got %x, want %x", b, want)
		}
	}
}

func TestDataOfTheFastPathsAreBounded(t *testing.T) {
	c := basketCodec(t)
	s := someBasket()
	s.Rows = make([]row, 20_000)
	if _, err := c.Encode(nil, s); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Encode of 20,000 rows: got %v, want ErrTooLarge", err)
	}

	// What is not trusted, such as a record, may have been made by anybody.
	entry := func(name string, value ...byte) []byte {
		return append(appendEntry([]byte{0x81}, name), value...)
	}
	for what, b := range map[string][]byte{
		"a number that does not fit":   entry("level", 0xcd, 1, 44),
		"a list of billions":           entry("cart", 0xdd, 0xff, 0xff, 0xff, 0xff),
		"20,000 rows":                  append(entry("rows", 0xdc, 78, 32), bytes.Repeat([]byte{0x80}, 20_000)...),
		"a map of billions":            entry("counts", 0xdf, 0xff, 0xff, 0xff, 0xff),
		"a string of billions":         entry("name", 0xdb, 0xff, 0xff, 0xff, 0xff),
		"a list in a list, a thousand": entry("cart", bytes.Repeat([]byte{0x91}, 1000)...),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := c.Decode(c.New(), 0, b, false)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: got no error", what)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
			t.Errorf("%s: took %d bytes of memory", what, got)
		}
	}
}

func appendEntry(b []byte, name string) []byte {
	return append(append(b, 0xa0|byte(len(name))), name...)
}

func TestDataOfTheFastPathsComeBack(t *testing.T) {
	c := basketCodec(t)
	for _, s := range []*basket{someBasket(), {Cart: []int{}}, {Counts: map[string]int{}}, {Level: -128, UserID: 1 << 62}, {Level: 127, Seen: time.Unix(0, 1)}} {
		b, err := c.Encode(nil, s)
		if err != nil {
			t.Fatal(err)
		}
		for _, trusted := range []bool{true, false} {
			got := new(basket)
			if _, _, err := c.Decode(got, 0, b, trusted); err != nil {
				t.Fatal(err)
			}
			if !got.Seen.Equal(s.Seen) {
				t.Errorf("got %v, want %v", got.Seen, s.Seen)
			}
			if got.Seen = s.Seen; !reflect.DeepEqual(got, s) {
				t.Errorf("trusted: %v: got %+v, want %+v", trusted, got, s)
			}
		}
	}
}
