// Package codec turns a session's data into bytes and back: it encodes, decodes,
// upgrades, validates and merges. It sees data as any, so that a program has one
// of it however many session types there are.
//
// Two fast paths take the place of libraries: certain.go that of validator,
// direct.go that of msgpack. What is promised of data holds on them, too:
//
//	promise        what holds it on the fast path          the test that fails without it
//	validated      certain.go takes no value that           FuzzCertain, TestCertainRulesKnowTheTraps,
//	               validator refuses; validator decides     TestDataOfTheFastPathsAreValidatedBeforeASave
//	               about the others and makes the error
//	deterministic  direct.go writes what msgpack and Sort   FuzzDirect, TestTheFastPathDoesWhatMsgpackDoes,
//	               write, maps by their keys; New compares  TestDataOfTheFastPathsHaveOneEncoding
//	bounded        Append asks loadable of what direct.go   TestDataOfTheFastPathsAreBounded
//	               wrote, too; Decode asks CheckUnknown
//	               before any path reads untrusted bytes
//	read back      types with codecs of their own have no   TestWhatOnlyMsgpackKnowsIsLeftToIt,
//	               fast path; New decodes by both paths     TestDataOfTheFastPathsComeBack
//	               what it encoded, and compares
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
	tags     *validator.Validate      // nil if the type has no validate tags
	certain  func(reflect.Value) bool // reports whether tags is certain to take a value; may be nil
	validate func(any) error          // Config.Validate
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
	Rules    func(*validator.Validate) error
}

// Analyze makes the Codec of a struct type. Its error joins everything that
// could go wrong later, with the path of the field and the fix.
func Analyze(t reflect.Type, opt Options) (*Codec, error) {
	c := &Codec{plan: plan{typ: t}, Version: opt.Version, validate: opt.Validate, merge: opt.Merge}
	return c, errors.Join(c.analyze(opt.Rules), c.setUpgrades(opt.Upgrades))
}

// analyze walks the type, and checks that a zero and filled values of it come
// back as they were.
func (c *Codec) analyze(register func(*validator.Validate) error) error {
	tags, err := tagsOf(c.typ, register)
	c.tags = tags
	s, refused := shape.Of(c.typ)
	if refused != nil {
		return errors.Join(refused, err)
	}
	c.shape, c.Fingerprint = s, s.Fingerprint()
	c.certain = certainOf(c.typ, register != nil) // of a type that has an end
	return errors.Join(err, c.try())
}

// try stores values and loads them again.
func (c *Codec) try() error {
	if err := c.shape.Unstorable(); err != nil {
		return err
	}
	zero, filled := c.New(), c.New()
	shape.Fill(value(filled))
	values := []any{zero, filled}
	if !c.shape.IsMsgp() { // its codec may have bounds of its own, and checks for itself
		limits := c.New()
		shape.FillLimits(value(limits))
		values = append(values, limits)
	}
	var err error
	if c.zero, err = c.Append(nil, zero); err != nil {
		return fmt.Errorf("%v: its zero value %w; correct what encodes it", c.typ, err)
	}
	c.zeroHash = c.Hash(zero)
	var errs []error
	for _, data := range values {
		if failed := c.comesBack(data); failed != nil && errs == nil {
			errs = c.blamed(data, failed)
		}
	}
	c.direct = c.newDirect(values)
	return errors.Join(errs...)
}

// A changed is the error of data that could be loaded, and was other data then.
type changed struct{ again any }

func (changed) Error() string { return "comes back changed" }

// comesBack stores data and loads it again.
func (c *Codec) comesBack(data any) error {
	b, err := c.Append(nil, data)
	if err != nil {
		return err
	}
	again, err := c.decodeNew(b)
	if err == nil && c.Hash(again) != c.Hash(data) {
		err = changed{again}
	}
	return err
}

// blamed returns an error for each field that does not come back. All kinds that
// msgpack knows do, so it is the code of a type, generated or registered.
func (c *Codec) blamed(data any, failed error) (errs []error) {
	fix := "correct what encodes and decodes it, or leave it out with `msgpack:\"-\"`"
	if c.shape.IsMsgp() {
		fix = "generate its code again, or leave it out with `msg:\"-\"`"
	}
	again, isChanged := failed.(changed)
	for part := range c.shape.Parts() {
		if isChanged && !part.Same(value(data), value(again.again)) {
			errs = append(errs, fmt.Errorf("%s: a value of %v comes back changed; %s", part.Path, part.Type, fix))
		} else if !isChanged {
			if err := c.comesBack(part.Alone(value(data)).Interface()); err != nil {
				errs = append(errs, fmt.Errorf("%s: a value of %v %w; %s", part.Path, part.Type, err, fix))
			}
		}
	}
	if errs == nil {
		errs = append(errs, fmt.Errorf("%v: a value of it %w; correct what encodes and decodes it", c.typ, failed))
	}
	return errs
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

// Encode is Append of data that must be valid. It also reads back what types wrote
// by codecs of their own. The error is ErrInvalid if the data breaks a rule or
// could not be loaded again. It names the field, and no value.
func (c *Codec) Encode(b []byte, data any) ([]byte, error) {
	start := len(b)
	b, err := c.Append(b, data)
	if err != nil {
		return nil, c.located(data, err)
	}
	if bytes.Equal(b[start:], c.zero) {
		return b, nil
	}
	if err := c.Check(data, b[start:]); err != nil {
		return b, err
	}
	return b, c.reread(data, b[start:])
}

// reread reads back what the type's codec wrote, or those of the types in it.
func (c *Codec) reread(data any, encoded []byte) error {
	switch {
	case c.shape.IsMsgp():
		if err := c.decode(c.New(), encoded); err != nil {
			return c.located(data, fmt.Errorf("could not be loaded again: %w", err))
		}
	case c.shape.Rereads():
		switch err := c.shape.Reread(value(data)); {
		case errors.Is(err, shape.ErrCost):
			return fmt.Errorf("%w: loading it again: %w; keep less in the session", ErrTooLarge, err)
		case err != nil:
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return nil
}

// located adds to the error of data that cannot be stored which field it is.
func (c *Codec) located(data any, failed error) error {
	if errors.Is(failed, ErrTooLarge) {
		return failed
	}
	if c.shape.Rereads() {
		if err := c.shape.Reread(value(data)); err != nil && !errors.Is(err, shape.ErrCost) {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	for part := range c.shape.Parts() {
		alone := part.Alone(value(data)).Interface()
		b, err := c.Append(nil, alone)
		if err == nil {
			_, err = c.decodeNew(b)
		}
		if err != nil {
			return fmt.Errorf("%w: %s: a value of %v %w", ErrInvalid, part.Path, part.Type, failed)
		}
	}
	return fmt.Errorf("%w: %w", ErrInvalid, failed)
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
	return append(b[:start:start], carried...), nil
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
