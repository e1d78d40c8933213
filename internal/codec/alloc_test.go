//go:build !race

package codec_test

import (
	"bytes"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

func TestDecodingWhatIsKnownAllocatesNothingMore(t *testing.T) {
	p := program{t, of[newProfile](t)}
	b := p.write(someProfile(), nil)
	reader := bytes.NewReader(nil)
	d := msgpack.NewDecoder(reader)
	want := testing.AllocsPerRun(100, func() {
		reader.Reset(b)
		d.Reset(reader)
		if err := d.Decode(new(newProfile)); err != nil {
			t.Fatal(err)
		}
	})
	for _, trusted := range []bool{true, false} {
		if got := testing.AllocsPerRun(100, func() {
			if _, unknown, err := p.Decode(new(newProfile), 0, b, trusted); err != nil || unknown != nil {
				t.Fatal(unknown, err)
			}
		}); got > want {
			t.Errorf("trusted %t: got %v allocations, want msgpack's %v at most", trusted, got, want)
		}
	}
}
