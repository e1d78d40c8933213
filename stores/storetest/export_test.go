package storetest

import "time"

// Wait sets how long Run waits for the first operation that hangs.
func Wait(d time.Duration) Option { return Option{func(o *options) { o.wait = d }} }
