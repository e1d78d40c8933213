// Package codec turns a session's data into bytes and back: it encodes, decodes,
// upgrades, validates and merges. It sees data as any, so that a program has one
// of it however many session types there are.
package codec

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"

	"github.com/go-playground/validator/v10"
	"github.com/typedsessions/sessions/internal/shape"
)

var (
	// ErrTooLarge is the error of data that is valid and cannot be stored.
	ErrTooLarge = errors.New("too large")

	// ErrInvalid is the error of data that breaks its validation rules.
	ErrInvalid = errors.New("invalid")
)

// A Codec knows one struct type. "Data" is always a pointer to a value of it. A
// Codec is immutable and safe for concurrent use.
type Codec struct {
	plan
	Version     int
	Fingerprint uint32 // tells this type from one with other fields or kinds

	upgrades []Upgrade // that of version v is at v-first
	first    int
	tags     *validator.Validate // nil if the type has no validate tags
	validate func(any) error     // Config.Validate
	merge    func(base, mine, theirs any) (any, error)
	zero     []byte // encoding of the zero value
	zeroHash uint64
}

// Options are the parts of a Config that are about the data.
type Options struct {
	Version  int
	Upgrades []Upgrade
	Validate func(any) error
	Merge    func(base, mine, theirs any) (any, error)
}

// Analyze makes the Codec of a struct type. Its error joins everything that
// could go wrong later, with the path of the field and the fix.
func Analyze(t reflect.Type, opt Options) (*Codec, error) {
	c := &Codec{plan: plan{typ: t}, Version: opt.Version, validate: opt.Validate, merge: opt.Merge}
	return c, errors.Join(c.analyze(), c.setUpgrades(opt.Upgrades))
}

// analyze walks the type, and checks that a zero and filled values of it come
// back as they were.
func (c *Codec) analyze() error {
	rules := rulesOf(c.typ)
	errs := rules.probe()
	s, err := shape.Of(c.typ)
	if err != nil {
		return errors.Join(append([]error{err}, errs...)...)
	}
	c.shape, c.Fingerprint = s, s.Fingerprint()
	c.tags = rules.validator()
	zero, filled := c.New(), c.New()
	shape.Fill(value(filled))
	values := []any{zero, filled}
	if !s.IsMsgp() { // its codec may have bounds of its own, and checks for itself
		limits := c.New()
		shape.FillLimits(value(limits))
		values = append(values, limits)
	}
	if c.zero, err = c.Append(nil, zero); err != nil {
		return errors.Join(append(errs, fmt.Errorf("%v: its zero value %w", c.typ, err))...)
	}
	c.zeroHash = c.Hash(zero)
	for _, data := range values {
		b, err := c.Append(nil, data)
		if err != nil {
			errs = append(errs, fmt.Errorf("%v: a value %w", c.typ, err))
			continue
		}
		again, err := c.decodeNew(b)
		if err == nil && c.Hash(again) != c.Hash(data) {
			err = errors.New("comes back changed")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%v: a value that was stored %w; is an extension for one of its types registered with msgpack?", c.typ, err))
		}
	}
	return errors.Join(errs...)
}

// ZeroHash returns the hash of data that is zero.
func (c *Codec) ZeroHash() uint64 { return c.zeroHash }

// IsZero reports whether everything that is stored of data is zero.
func (c *Codec) IsZero(data any) bool { return c.shape.IsZero(value(data)) }

// Clear makes data zero, also what is not stored of it.
func Clear(data any) { value(data).SetZero() }

// Set makes data what from is, also what is not stored of it. It copies no
// memory that either points to.
func Set(data, from any) { value(data).Set(value(from)) }

func value(data any) reflect.Value { return reflect.ValueOf(data).Elem() }

// Encode is Append of data that must be valid: else the error is ErrInvalid.
func (c *Codec) Encode(b []byte, data any) ([]byte, error) {
	start := len(b)
	b, err := c.Append(b, data)
	if err != nil {
		return nil, err
	}
	return b, c.Check(data, b[start:])
}

// Decode fills data, which is zero, from b, the encoding of a schema version that
// is not newer than c's. It returns the encoding in c's own version. Bytes are
// trusted if they are authentic and have c's fingerprint.
//
// It also returns the fields that the type does not know, in a form for [Codec.Carry],
// nil if there are none. Trusted bytes have none, and an upgrade drops them.
func (c *Codec) Decode(data any, version int, b []byte, trusted bool) (kept, unknown []byte, err error) {
	if version < c.Version {
		kept, err = c.upgrade(data, version, b)
		return kept, nil, err
	}
	found := false
	if !trusted {
		if found, err = c.shape.CheckUnknown(b); err != nil {
			return b, nil, err
		}
	}
	if err = c.decode(data, b); err == nil && found {
		unknown, err = c.unknownOf(data, b)
	}
	return b, unknown, err
}

// Carry puts the unknown fields of an earlier encoding into the one that begins at
// start in b, which is Append's. In each struct they stand behind its own fields,
// as they came. Those of a struct behind a pointer that is nil now are dropped. The
// error is ErrTooLarge if the whole could not be loaded again because of its size.
func (c *Codec) Carry(b []byte, start int, unknown []byte) ([]byte, error) {
	if len(unknown) == 0 {
		return b, nil
	}
	e := encoders.Get().(*encoder)
	defer e.recycle()
	carried, err := c.shape.Carry(e.buf[:0], b[start:], unknown)
	if err != nil {
		return nil, fmt.Errorf("unknown fields cannot be put into it: %w", err)
	}
	e.buf = carried
	if err := c.canLoad(carried); err != nil {
		return nil, err
	}
	return append(b[:start], carried...), nil
}

// MergeInto brings into cur what changed between two encodings.
func (c *Codec) MergeInto(cur any, from, to []byte) (err error) {
	if bytes.Equal(from, to) {
		return nil
	}
	base, err := c.decodeNew(from)
	if err != nil {
		return err
	}
	mine, err := c.decodeNew(to)
	if err != nil {
		return err
	}
	if c.merge == nil {
		c.shape.Merge(value(base), value(mine), value(cur))
		return nil
	}
	defer Caught(&err, "Config.Merge")
	merged, err := c.merge(base, mine, cur)
	if err != nil {
		return fmt.Errorf("Config.Merge: %w", err)
	}
	c.shape.Adopt(value(cur), value(merged))
	return nil
}

// With returns a copy of data, with what is not stored of it, that holds what is
// stored in b.
func (c *Codec) With(data any, b []byte) (any, error) {
	stored, err := c.decodeNew(b)
	if err != nil {
		return nil, err
	}
	cur := c.New()
	Set(cur, data)
	c.shape.Adopt(value(cur), value(stored))
	return cur, nil
}

// Caught, deferred, turns a panic of the application's code into an error. It
// names the type of the panic's value only, since the value may hold data.
func Caught(err *error, what string) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%s panicked (%T)", what, p)
	}
}
