package codec

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/typedsessions/sessions/internal/shape"
	"github.com/vmihailenco/msgpack/v5"
)

// A plan is what there is to know of one struct type.
type plan struct {
	typ    reflect.Type
	shape  *shape.Shape
	direct *direct // nil if msgpack encodes and decodes the type
}

// encoders and decoders are our own: those of msgpack's pools may have been
// left in a bad state by a failure elsewhere.
var (
	encoders = sync.Pool{New: func() any { return new(encoder) }}
	decoders = sync.Pool{New: func() any { return new(decoder) }}
)

// maxPooled keeps one large session from holding its memory for ever.
const maxPooled = 64 << 10

type encoder struct {
	msgpack *msgpack.Encoder
	buf     []byte
}

// recycle puts e back, unless it is large.
func (e *encoder) recycle() {
	if cap(e.buf) <= maxPooled {
		encoders.Put(e)
	}
}

func (e *encoder) Write(b []byte) (int, error) {
	e.buf = append(e.buf, b...)
	return len(b), nil
}

func (e *encoder) WriteByte(c byte) error {
	e.buf = append(e.buf, c)
	return nil
}

type decoder struct {
	msgpack *msgpack.Decoder
	reader  bytes.Reader
}

// Append appends the encoding of data in its one deterministic form. Whether data
// is valid does not matter. The error is ErrTooLarge if the data could not be
// loaded again because of its size.
func (p *plan) Append(b []byte, data any) (_ []byte, err error) {
	defer Caught(&err, "encoding")
	if all, ok := p.direct.append(b, value(data)); ok {
		if err := p.loadable(data, all[len(b):]); err != nil {
			return nil, err
		}
		return all, nil
	}
	e := encoders.Get().(*encoder)
	e.buf = e.buf[:0]
	if p.shape.IsMsgp() {
		e.buf, err = data.(shape.Msgp).MarshalMsg(e.buf)
	} else {
		if e.msgpack == nil {
			e.msgpack = msgpack.NewEncoder(e)
		}
		e.msgpack.Reset(e)
		e.msgpack.UseCompactInts(true)
		e.msgpack.SetSortMapKeys(p.shape.HasCodecs()) // Sort does not reach into those
		err = e.msgpack.Encode(data)
	}
	if err != nil {
		// What a type's own codec says may hold the value.
		return nil, fmt.Errorf("cannot be encoded (%T)", err)
	}
	encoded := e.buf
	if err := p.loadable(data, encoded); err != nil {
		return nil, err
	}
	if p.shape.HasMaps() {
		encoded = p.shape.Sort(encoded)
	}
	b = append(b, encoded...)
	e.recycle()
	return b, nil
}

// loadable reports whether encoded, which was made of data, could be loaded again.
func (p *plan) loadable(data any, encoded []byte) error {
	if p.shape.FitsWithin(value(data), len(encoded)) {
		return nil
	}
	return p.canLoad(encoded)
}

// canLoad reports whether Check takes encoded.
func (p *plan) canLoad(encoded []byte) error {
	switch err := p.shape.Check(encoded); {
	case err == nil:
		return nil
	case errors.Is(err, shape.ErrCost):
		return fmt.Errorf("%w: loading it again %v; keep less in the session", ErrTooLarge, err)
	default:
		return fmt.Errorf("could not be loaded again: %w", err)
	}
}

// decode fills data, a pointer to a zero value of the plan's type. b is bytes that
// the shape's Check takes, or that are from an authenticated value of the same
// shape: those were made by Append.
func (p *plan) decode(data any, b []byte) (err error) {
	defer Caught(&err, "decoding")
	if p.shape.IsMsgp() {
		// A copy: what it fills may keep parts of its argument.
		rest, err := data.(shape.Msgp).UnmarshalMsg(bytes.Clone(b))
		if err != nil || len(rest) > 0 {
			return fmt.Errorf("does not fit its type (%T)", err)
		}
		return nil
	}
	if p.direct.decode(value(data), b) {
		return nil
	}
	d := decoders.Get().(*decoder)
	if d.msgpack == nil {
		d.msgpack = msgpack.NewDecoder(&d.reader)
	}
	d.reader.Reset(b)
	d.msgpack.Reset(&d.reader)
	if err := d.msgpack.Decode(data); err != nil || d.reader.Len() > 0 {
		return fmt.Errorf("does not fit its type (%T)", err) // d is not used again: it may have kept what it read
	}
	d.reader.Reset(nil)
	decoders.Put(d)
	return nil
}

// decodeNew returns data from bytes that anybody may have made, without the fields
// that its type does not know.
func (p *plan) decodeNew(b []byte) (any, error) {
	if err := p.shape.Check(b); err != nil {
		return nil, err
	}
	data := p.New()
	return data, p.decode(data, b)
}

// unknownOf returns the fields in b that data, which was decoded from it, does not
// have.
func (p *plan) unknownOf(data any, b []byte) ([]byte, error) {
	if !p.shape.IsMsgp() {
		return p.shape.Unknown(b, nil)
	}
	e := encoders.Get().(*encoder)
	defer e.recycle()
	if !e.marshal(data.(shape.Msgp)) {
		e.buf = e.buf[:0] // nothing of it can be saved either
	}
	return p.shape.Unknown(b, e.buf)
}

// New returns data that is zero.
func (p *plan) New() any { return reflect.New(p.typ).Interface() }

// Hash returns a fingerprint of what is stored of data, valid within this
// process. Of a type with a generated codec it is
// that of the encoding: it takes half the instructions of a walk, twice in each
// request (benchmarks, BenchmarkRequest/work=R/by=generated). Maps have no order
// in it. What was loaded is encoded for it too: other code may have spelled the bytes
// that came, such as an older generator, or msgpack before there was any.
func (p *plan) Hash(data any) uint64 {
	if !p.shape.HashesEncoding() {
		return p.shape.Hash(value(data))
	}
	e := encoders.Get().(*encoder)
	defer e.recycle()
	if !e.marshal(data.(shape.Msgp)) {
		// The same for each value that cannot be encoded: if it was there before,
		// it is no change, and if it is new, the save says so.
		return 0
	}
	return shape.HashBytes(e.buf)
}

// marshal makes the encoding of data by its generated code the content of e. It
// reports whether that worked.
func (e *encoder) marshal(data shape.Msgp) (ok bool) {
	defer func() { _ = recover() }()
	b, err := data.MarshalMsg(e.buf[:0])
	if err != nil {
		return false
	}
	e.buf = b
	return true
}
