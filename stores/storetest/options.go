package storetest

import "time"

// An Option changes what [Run] checks.
type Option struct{ set func(o *options) }

// options are what the Options of a call of Run amount to.
type options struct {
	wait time.Duration // for an operation
}

func newOptions(opts []Option) options {
	o := options{wait: opTimeout}
	for _, opt := range opts {
		opt.set(&o)
	}
	return o
}
