package natsstore_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/natsstore"
)

type anEntry struct {
	jetstream.KeyValueEntry
	value []byte
}

func (e anEntry) Key() string      { return "r.x" }
func (e anEntry) Value() []byte    { return e.value }
func (e anEntry) Revision() uint64 { return 1 }

func FuzzRecord(f *testing.F) {
	for _, rec := range []sessions.Record{recordFor(time.Hour, "data", "ada", "red", "blue"), recordFor(time.Hour, "", ""), {}} {
		f.Add(natsstore.Encode(rec))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, value []byte) {
		again, err := natsstore.Recode(anEntry{value: value})
		if err == nil && !bytes.Equal(again, value) {
			t.Errorf("%x is read as %x", value, again)
		}
	})
}
