//go:build !race && !sessions_slow

package codec

import (
	"reflect"
	"testing"
)

func TestAllocationsOfTheFastPath(t *testing.T) {
	fast, slow, _ := bothWays(reflect.TypeFor[visit]())
	data := someVisit()
	buf := make([]byte, 0, 256)
	if got := testing.AllocsPerRun(100, func() { _, _ = fast.Append(buf, data) }); got != 0 {
		t.Errorf("Append: got %v, want none", got)
	}
	b, _ := slow.Append(nil, data)
	into := fast.New()
	// Two strings and a list.
	if got := testing.AllocsPerRun(100, func() { _ = fast.decode(into, b) }); got != 3 {
		t.Errorf("decode: got %v, want 3", got)
	}
}

// Whoever made the bytes pays for one decoding of them, not for two.
func TestBytesInAnotherFormCostTheFastPathNothing(t *testing.T) {
	fast, slow, _ := bothWays(reflect.TypeFor[mixed]())
	b, _ := slow.Append(nil, &mixed{Raw: make(raw, 1000), Words: map[label]label{"a": "b"}, PP: new(*Part)})
	into := value(fast.New())
	if got := testing.AllocsPerRun(100, func() {
		if fast.direct.decode(into, append(b, 0)) || fast.direct.decode(into, b[:len(b)-1]) {
			t.Error("got decoded")
		}
	}); got != 0 || !into.IsZero() {
		t.Errorf("got %v allocations, %+v", got, into)
	}
}
