package sessions

import (
	"reflect"

	"github.com/typedsessions/sessions/internal/codec"
)

// An Upgrade turns data of one schema version into that of the next. [From]
// makes it.
type Upgrade struct {
	upgrade codec.Upgrade
}

// From returns the upgrade of data that was stored as an Old, when
// Config.Version was version, to New, the type of version+1. An error or a panic
// of f sets the session aside (ReasonUndecodable); a stored record is left alone.
func From[Old, New any](version int, f func(Old) (New, error)) Upgrade {
	return Upgrade{codec.Upgrade{
		Version: version,
		Old:     reflect.TypeFor[Old](),
		Next:    reflect.TypeFor[New](),
		Apply: func(old any) (any, error) {
			next, err := f(*old.(*Old))
			return &next, err
		},
	}}
}
