package storetest

import (
	"testing"
	"time"
)

// An Option changes what [Run] checks.
type Option struct{ set func(o *options) }

// options are what the Options of a call of Run amount to.
type options struct {
	limited bool // by MaxData
	maxData int
	wait    time.Duration // for an operation
}

// minMaxData is the least limit: what a cookie holds.
const minMaxData = 4096

func newOptions(t *testing.T, opts []Option) options {
	t.Helper()
	o := options{maxData: fullSize, wait: opTimeout}
	for _, opt := range opts {
		opt.set(&o)
	}
	if o.maxData < minMaxData {
		t.Fatalf("MaxData(%d): a store must take at least %d bytes of data, as much as a cookie holds", o.maxData, minMaxData)
	}
	return o
}

// MaxData gives the limit of the store's engine: n bytes of Record.Data, at least
// 4096. Without this option, [Run] demands that data of up to 1 MiB can be stored.
// With a lower limit, it demands that of data of up to n bytes.
//
// With any limit, Run also stores larger records, of more than n and of more than
// 2n bytes. Create and Update must return an error for them that is none of
// [sessions.ErrNotFound], [sessions.ErrExists] and [sessions.ErrConflict], and must
// leave the old record whole. Since the limit of many engines includes the key and
// the owner, a record of up to 2n bytes may be stored instead, as a whole.
func MaxData(n int) Option {
	return Option{func(o *options) { o.limited, o.maxData = true, n }}
}
