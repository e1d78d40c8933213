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

// A JSON is a field of a type that another module owns, such as an OAuth token,
// kept as the JSON that the author of the type made for it:
//
//	type AppSession struct {
//		UserID int
//		Token  sessions.JSON[oauth2.Token]
//	}
//
// Read and change V as any field: sess.Data.Token.V.AccessToken. Changes in place
// are found, also through pointers and maps, and parallel changes are merged whole:
// the later one wins. Validation goes into V, if it has tags. The tags of a field
// whose V is no struct are about V: validate:"dive" goes into the elements of
// a JSON[[]Item].
//
// It keeps what [encoding/json] keeps of a V. Unexported fields, and those tagged
// json:"-", are lost. So are members that V does not know, which a newer version of
// the module stored, with the next change. What is in an interface comes back as
// one of JSON's own types: numbers as float64. A string comes back as UTF-8. A time
// keeps its offset, and loses the name of its zone.
//
// New refuses a V that encoding/json cannot carry both ways. A value that comes
// back as another JSON, such as an int64 above 2^53 in an interface, is ErrInvalid
// when it is saved. JSON costs more time and space than fields of the session's
// own: at most 32 kB of it are stored, and it is written twice in each request
// that asks for the session, to find changes.
type JSON[V any] struct{ V V }

// MarshalMsgpack returns V as a MessagePack string of JSON. It is "null" for the
// zero V.
func (j JSON[V]) MarshalMsgpack() ([]byte, error) { return codec.EncodeJSON(&j.V) }

// UnmarshalMsgpack sets V from a MessagePack string of JSON.
func (j *JSON[V]) UnmarshalMsgpack(b []byte) error {
	var v V
	err := codec.DecodeJSON(&v, b)
	j.V = v
	return err
}
