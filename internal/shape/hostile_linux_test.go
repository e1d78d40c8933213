package shape_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/typedsessions/sessions/internal/shape"
	"github.com/vmihailenco/msgpack/v5"
)

type (
	field[V any] struct {
		A V `msgpack:"a"`
	}
	kib   struct{ N [128]int64 }
	kibN  struct{ N [64]int64 }
	named struct {
		M map[string]int `msgpack:"ma"`
		S string         `msgpack:"s"`
	}
	embeds struct{ Hidden }
	Hidden struct {
		N  uint8
		At time.Time
	}
)

// The corpus: bytes that kill, or deceive, a program that hands them to msgpack,
// and the types that they are meant for.
var corpus = []struct {
	name, hex string
	repeat    string // appended 5 million times
	types     []reflect.Type
}{
	{"top-level array of 4 G", "ddffffffff", "", anyType},
	{"top-level map of 4 G", "dfffffffff", "", anyType},
	{"array of 4 G", "81a161ddffffffff", "", []reflect.Type{typ[[]int](), typ[[]inner](), typ[[]kib](), typ[[]string](), typ[[][]int](), typ[[4]int]()}},
	{"map of 4 G", "81a161dfffffffff", "", []reflect.Type{typ[map[string]int](), typ[map[string]string](), typ[map[string]kib](), typ[inner](), typ[map[int]bool]()}},
	{"bytes of 4 G", "81a161c6ffffffff", "", []reflect.Type{typ[[]byte](), typ[netip.Addr](), typ[*big.Int](), typ[string]()}},
	{"string of 4 G", "81a161dbffffffff", "", []reflect.Type{typ[*url.URL](), typ[string](), typ[[]byte]()}},
	{"map of 65535", "81a161deffff", "", []reflect.Type{typ[map[string]kib](), typ[map[int8]int]()}},
	{"array of 65535", "81a161dcffff", "", []reflect.Type{typ[[]kib](), typ[[]*kib](), typ[[]int]()}},
	{"array of 16 M", "81a161dd01000000", "", []reflect.Type{typ[[]kib](), typ[[]int]()}},
	{"extension that hides a map", "81a26d61d7ffdfffffffff000000", "", []reflect.Type{reflect.TypeFor[named]()}},
	{"empty extension before a map", "81a161c7000581a16201", "", []reflect.Type{typ[map[string]int](), typ[inner]()}},
	{"unknown key, deep", "81a3756e6b", "91", anyType},
	{"unknown key, deep maps", "81a3756e6b", "81a0", anyType},
	{"custom type, deep", "81a161", "91", []reflect.Type{typ[*url.URL](), typ[netip.Addr]()}},
	{"nil time", "81a161c0", "", []reflect.Type{typ[time.Time]()}},
	{"300 in a uint8", "81a161cd012c", "", []reflect.Type{typ[uint8](), typ[int8]()}},
	{"-1 in an unsigned", "81a161ff", "", []reflect.Type{typ[uint64](), typ[uint8](), typ[uint]()}},
	{"-1 in an unsigned, long", "81a161d3ffffffffffffffff", "", []reflect.Type{typ[uint64](), typ[uint32]()}},
	{"2^64-1 in a signed", "81a161cfffffffffffffffff", "", []reflect.Type{typ[int64](), typ[int]()}},
	{"2^32 in an int32", "81a161cf0000000100000000", "", []reflect.Type{typ[int32](), typ[uint32]()}},
	{"duplicate key", "82a16101a16102", "", []reflect.Type{typ[int]()}},
	{"an embedded struct under its own name, with 300 in a uint8", "81a648696464656e81a14ecd012c", "", []reflect.Type{reflect.TypeFor[embeds]()}},
	{"an embedded struct under its own name, with a nil time", "81a648696464656e81a24174c0", "", []reflect.Type{reflect.TypeFor[embeds]()}},
	{"trailing bytes", "81a16105deadbeef", "", []reflect.Type{typ[int]()}},
	{"array for a struct", "9105", "", anyType},
	{"nil as a key", "81c005", "", anyType},
	{"bytes as a key", "81c4016105", "", anyType},
	{"number as a key", "810105", "", anyType},
	{"reserved code", "81a161c1", "", anyType},
	{"reserved code in what is skipped", "81a17891c1", "", anyType},
	{"too many nanoseconds", "81a161d7ffffffffff00000000", "", []reflect.Type{typ[time.Time]()}},
	{"year out of range", "81a161c70cff000000008000000000000000", "", []reflect.Type{typ[time.Time]()}},
	{"year 10000", "81a161c70cff000000000000003afff44180", "", []reflect.Type{typ[time.Time]()}},
	{"foreign extension", "81a161d60500000001", "", []reflect.Type{typ[int](), typ[[]int](), typ[map[string]int](), typ[inner](), typ[time.Time](), typ[*big.Int]()}},
	{"unknown key twice", "82a3756e6b01a3756e6b02", "", anyType},
	{"unknown key twice, apart", "83a3756e6b01a161c0a3756e6bc0", "", anyType},
	{"unknown key twice in a struct", "81a16182a3756e6b01a3756e6b02", "", []reflect.Type{typ[inner](), typ[*inner]()}},
	{"unknown key twice in a struct of a list", "81a1619182a3756e6b01a3756e6b02", "", []reflect.Type{typ[[]inner](), typ[[2]*inner]()}},
	{"unknown key twice in a struct of a map", "81a16181a0" + "82a3756e6b01a3756e6b02", "", []reflect.Type{typ[map[string]inner]()}},
	{"cut off in an unknown extension", "81a3756e6bc9ffffffff05", "", anyType},
	{"cut off in an unknown extension of fixed size", "81a3756e6bd805000000", "", anyType},
	{"extension for interned strings", "81a161d48000", "", []reflect.Type{typ[string](), typ[int](), typ[[]byte](), typ[time.Time]()}},
	{"timestamp where none is expected", "81a161d6ff00000001", "", []reflect.Type{typ[int](), typ[string](), typ[map[string]int]()}},
	{"nothing", "", "", anyType},
	{"nil", "c0", "", anyType},
}

func typ[V any]() reflect.Type { return reflect.TypeFor[field[V]]() }

var anyType = []reflect.Type{typ[int](), typ[[]int](), typ[map[string]int](), reflect.TypeFor[named](), reflect.TypeFor[plain]()}

const corpusChild = "SESSIONS_TEST_CORPUS_CHILD"

// A child process runs the corpus, since what it is about ends processes.
func TestHostileBytesEndInAnError(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestHostileBytesInAChildProcess$", "-test.v")
	cmd.Env = append(os.Environ(), corpusChild+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), fmt.Sprintf("%d entries", len(corpus))) {
		if len(out) > 4000 {
			out = out[:4000]
		}
		t.Errorf("the child process: %v\n%s", err, out)
	}
}

func TestHostileBytesInAChildProcess(t *testing.T) {
	if os.Getenv(corpusChild) == "" {
		return // for the child process of TestHostileBytesEndInAnError
	}
	limitMemory(t, 256<<20)
	var every []reflect.Type
	for _, c := range corpus {
		every = append(every, c.types...)
	}
	for _, c := range corpus {
		b, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		if c.repeat != "" {
			unit, _ := hex.DecodeString(c.repeat)
			b = append(append(b, bytes.Repeat(unit, 5_000_000)...), 0)
		}
		for _, typ := range c.types {
			cost, err := openChecked(t, typ, b)
			if err == nil {
				t.Errorf("%s into %v: got no error", c.name, typ)
			}
			if cost > shape.Budget(len(b)) {
				t.Errorf("%s into %v: got %d bytes allocated, want at most %d", c.name, typ, cost, shape.Budget(len(b)))
			}
		}
		for _, typ := range every { // whatever they say, none may cost more
			if cost, _ := openChecked(t, typ, b); cost > shape.Budget(len(b)) {
				t.Errorf("%s into %v: got %d bytes allocated, want at most %d", c.name, typ, cost, shape.Budget(len(b)))
			}
		}
	}
	t.Logf("%d entries", len(corpus))
}

// limitMemory lets the process map this much more, and no more.
func limitMemory(t *testing.T, more uint64) {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var pages uint64
	if _, err := fmt.Sscan(string(statm), &pages); err != nil {
		t.Fatal(err)
	}
	limit := pages*uint64(os.Getpagesize()) + more
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		t.Fatal(err)
	}
}

// openChecked decodes b into a new value of the type if Check takes it, and
// returns what that allocated.
func openChecked(t testing.TB, typ reflect.Type, b []byte) (cost int64, err error) {
	s, err := shape.Of(typ)
	if err != nil {
		t.Fatal(err)
	}
	v := reflect.New(typ)
	d := msgpack.NewDecoder(bytes.NewReader(nil))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err = s.Check(b); err == nil {
		d.Reset(bytes.NewReader(b))
		err = d.Decode(v.Interface())
	}
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc), err
}

// Of bytes that Check takes, the dearest are tried: as many elements as it lets
// pass, each as short on the wire and as large in memory as can be.
func TestDecodingCostsWhatTheBudgetAllows(t *testing.T) {
	str := func(s string) string { return string(append([]byte{0xa0 | byte(len(s))}, s...)) }
	for _, tt := range []struct {
		name string
		typ  reflect.Type
		elem string // repeated
		pair bool   // as the entries of a map, under keys that differ
	}{
		{"numbers", typ[[]int](), "\x00", false},
		{"bytes of a kind of their own", typ[[]int8](), "\x00", false},
		{"strings", typ[[]string](), str("ab"), false},
		{"empty strings", typ[[]string](), "\xa0", false},
		{"short bytes", typ[[][]byte](), str("x"), false},
		{"empty bytes", typ[[][]byte](), "\xc4\x00", false},
		{"slices", typ[[][]int](), "\x91\x00", false},
		{"empty slices", typ[[][]int](), "\x90", false},
		{"slices of slices", typ[[][][]int64](), "\x91\x91\x00", false},
		{"structs of a KiB", typ[[]kib](), "\x80", false},
		{"nil structs of a KiB", typ[[]kib](), "\xc0", false},
		{"pointers to a KiB", typ[[]*kib](), "\x80", false},
		{"pointers to numbers", typ[[]*int8](), "\x00", false},
		{"pointers to pointers", typ[[]**int](), "\x00", false},
		{"pointers to large arrays", typ[[]*[4096]int](), "\x90", false},
		{"arrays", typ[[][64]int8](), "\x90", false},
		{"byte arrays", typ[[][64]byte](), "\xa0", false},
		{"times", typ[[]time.Time](), "\xd6\xff\x00\x00\x00\x01", false},
		{"pointers to times", typ[[]*time.Time](), "\xd6\xff\x00\x00\x00\x01", false},
		{"empty maps", typ[[]map[string]int](), "\x80", false},
		{"maps of one entry", typ[[]map[string]int](), "\x81\xa0\x00", false},
		{"maps of one small entry", typ[[]map[int8]int8](), "\x81\x00\x00", false},
		{"maps of one entry of 128 bytes", typ[[]map[string][128]byte](), "\x81\xa0\xc0", false},
		{"maps of one entry of 512 bytes", typ[[]map[string]kibN](), "\x81\xa0\x80", false},
		{"maps of one entry of 8 strings", typ[[]map[string][8]string](), "\x81\xa0\x90", false},
		{"maps of strings", typ[[]map[string]string](), "\x81\xa0\xa0", false},
		{"maps of nine entries", typ[[]map[int8][16]int64](), "\x89\x00\xc0\x01\xc0\x02\xc0\x03\xc0\x04\xc0\x05\xc0\x06\xc0\x07\xc0\x08\xc0", false},
		{"maps in maps", typ[[]map[int8]map[int8]int8](), "\x81\x00\x81\x00\x00", false},
		{"maps behind pointers", typ[[]*map[int8]int](), "\x81\x00\x00", false},
		{"structs with a map", typ[[]struct{ M map[int8]int }](), "\x81\xa1M\x81\x00\x00", false},
		{"addresses", typ[[]netip.Addr](), str("abcd"), false},
		{"empty addresses", typ[[]netip.Addr](), "\xa0", false},
		{"entries of a map of numbers", typ[map[uint32]int](), "\x00", true},
		{"entries of a map of a KiB", typ[map[uint32]kib](), "\x80", true},
		{"entries of a map of 128 bytes", typ[map[uint32][16]int64](), "\x90", true},
		{"entries of a map of strings", typ[map[uint32]string](), "\xa0", true},
		{"entries of a map of pointers", typ[map[uint32]*kib](), "\xc0", true},
		{"entries of a set", typ[map[uint32]struct{}](), "\x80", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := shape.Of(tt.typ)
			if err != nil {
				t.Fatal(err)
			}
			make1 := func(n int) []byte {
				code := byte(0xdd)
				if tt.pair {
					code = 0xdf
				}
				b := binary.BigEndian.AppendUint32(append([]byte("\x81\xa1a"), code), uint32(n))
				for i := range n {
					if tt.pair {
						b = binary.BigEndian.AppendUint32(append(b, 0xce), uint32(i))
					}
					b = append(b, tt.elem...)
				}
				return b
			}
			low, high := 0, 1<<16
			if s.Check(make1(high)) == nil {
				low = high
			}
			for low < high { // the largest that passes
				if mid := (low + high + 1) / 2; s.Check(make1(mid)) == nil {
					low = mid
				} else {
					high = mid - 1
				}
			}
			if low == 0 {
				t.Fatal("Check takes none of them; the test shows nothing")
			}
			for _, n := range []int{low, low/3 + 1} {
				b := make1(n)
				cost, err := openChecked(t, tt.typ, b)
				if err != nil {
					t.Fatalf("%d elements: %v", n, err)
				}
				if limit := shape.Budget(len(b)) + 4096; cost > limit { // and the decoder
					t.Errorf("%d elements from %d bytes: got %d bytes allocated, want at most %d (%.2f times as much)", n, len(b), cost, limit, float64(cost)/float64(limit))
				}
			}
		})
	}
}
