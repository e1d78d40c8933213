package txn

// An Event says what happened to a session.
type Event struct {
	Kind                 EventKind
	Reason               Reason
	ID, Previous         string
	Owner, PreviousOwner string
	Err                  error
}

// An EventKind is one of package sessions.
type EventKind uint8

const (
	Started EventKind = iota + 1
	Refused
	Ambiguous
	Upgraded
	Merged
	Discarded
	Late
	FlashDropped
	Failed
	Renewed
	Finished // sessions.EventEnded
)

// A Reason says why a session is new.
type Reason uint8

const (
	NotNew Reason = iota
	NoCookie
	Forged
	Expired
	IdleTooLong
	Unknown
	Undecodable
	Invalid
	Newer
	WasReset
	Imported
	Replaced
	Destroyed
	Revoked
	OverLimit
	Spent
	Stale
)

// Gone reports whether a record, for this reason, is that of no session any more.
func (r Reason) Gone() bool { return r == Replaced || r == Unknown || r == Expired }

// String returns the reason as package sessions has it.
func (r Reason) String() string { return reasons[r] }

var reasons = [...]string{"", "no cookie", "forged", "expired", "idle", "unknown", "undecodable", "invalid", "newer", "reset", "imported",
	"replaced", "destroyed", "revoked", "limit", "spent", "stale"}
