package txn

// A Life is when a session began and ends, in seconds since 1970, and the length
// that SetLifetime gave.
type Life struct {
	Created, Expires int64
	Lifetime         uint32
}
