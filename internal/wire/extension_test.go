package wire

import (
	"bytes"
	"testing"
)

func TestAppendWithoutIsWithExtensionOfNothing(t *testing.T) {
	var entries []byte
	for _, tag := range []byte{0x01, 0x02, 0x7f} {
		entries = WithExtension(entries, tag, bytes.Repeat([]byte{tag}, int(tag)+2))
	}
	for _, tag := range []byte{0x00, 0x01, 0x02, 0x7f} {
		got, want := AppendWithout(nil, entries, tag), WithExtension(entries, tag, nil)
		if !bytes.Equal(got, want) {
			t.Errorf("without %x: got %x, want %x", tag, got, want)
		}
	}
	one := WithExtension(nil, 1, []byte("a"))
	if got := AppendWithout(make([]byte, 0, 8), one, 1); got != nil {
		t.Errorf("of the only one: got %x, want nil", got)
	}
	room := make([]byte, 0, 8)
	if got := AppendWithout(room, one, 2); &got[0] != &room[:1][0] {
		t.Error("the room was not used")
	}
}
