package sessions

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"sync"
	"time"

	"github.com/go-playground/validator/v10"
	"github.com/typedsessions/sessions/internal/shape"
	"github.com/vmihailenco/msgpack/v5"
)

// secondsTo counts the whole seconds from now until then.
func secondsTo(then int64, now time.Time) int64 {
	left := then - now.Unix()
	if now.Nanosecond() > 0 {
		left--
	}
	return left
}

// A codec turns a *T into bytes and back. It sees T as any, so that there is one
// of it in a program, however many session types.
type codec struct {
	plan
	version  int
	upgrades []Upgrade // that of version v is at v-first
	first    int
	tags     *validator.Validate // nil if T has no validate tags
	validate func(any) error     // Config.Validate
	merge    func(base, mine, theirs any) (any, error)
	zero     []byte // encoding of T{}
	zeroHash uint64
}

// A plan is what there is to know of one struct type.
type plan struct {
	typ   reflect.Type
	shape *shape.Shape
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

// append appends the encoding of data, a pointer to the plan's type, in its one
// deterministic form, and makes sure that it could be loaded again.
func (p *plan) append(b []byte, data any) (_ []byte, err error) {
	defer caught(&err, "encoding")
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

// loadable says whether encoded, which was made of data, could be loaded again.
func (p *plan) loadable(data any, encoded []byte) error {
	if p.shape.Vouches(value(data), len(encoded)) {
		return nil
	}
	switch err := p.shape.Check(encoded); {
	case err == nil:
		return nil
	case errors.Is(err, shape.ErrCost):
		return fmt.Errorf("%w: loading it again %v; keep less in the session", ErrTooLarge, err)
	default:
		return fmt.Errorf("could not be loaded again: %w", err)
	}
}

// decode fills data, a pointer to a zero value of the plan's type. Bytes that
// come from an authenticated value of the same shape were made by append; all
// others are checked before msgpack sees them.
func (p *plan) decode(data any, b []byte, trusted bool) (err error) {
	if !trusted {
		if err := p.shape.Check(b); err != nil {
			return err
		}
	}
	defer caught(&err, "decoding")
	if p.shape.IsMsgp() {
		// A copy: what it fills may keep parts of its argument.
		rest, err := data.(shape.Msgp).UnmarshalMsg(bytes.Clone(b))
		if err != nil || len(rest) > 0 {
			return fmt.Errorf("does not fit its type (%T)", err)
		}
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

func (p *plan) decodeNew(b []byte) (any, error) {
	data := p.new()
	return data, p.decode(data, b, false)
}

func (p *plan) new() any { return reflect.New(p.typ).Interface() }

func value(data any) reflect.Value { return reflect.ValueOf(data).Elem() }

// hash is that of what is stored of data. Of a type with a generated codec it is
// that of the encoding: it takes half the instructions of a walk, twice in each
// request (benchmarks, BenchmarkRequest/work=R/by=generated). Maps have no order
// in it. What was loaded is encoded for it too: other code may have spelled the bytes
// that came, such as an older generator, or msgpack before there was any.
func (p *plan) hash(data any) uint64 {
	if !p.shape.HashesEncoding() {
		return p.shape.Hash(value(data))
	}
	e := encoders.Get().(*encoder)
	defer e.recycle()
	return e.hashMsgp(data.(shape.Msgp))
}

// hashMsgp is the same for each value that cannot be encoded: if it was there
// before, it is no change, and if it is new, the save says so.
func (e *encoder) hashMsgp(data shape.Msgp) (sum uint64) {
	defer func() { _ = recover() }()
	b, err := data.MarshalMsg(e.buf[:0])
	if err != nil {
		return 0
	}
	e.buf = b
	return shape.HashBytes(b)
}

// encode appends the encoding of data if it is valid.
func (c *codec) encode(b []byte, data any) ([]byte, error) {
	start := len(b)
	b, err := c.append(b, data)
	if err != nil {
		return nil, err
	}
	return b, c.check(data, b[start:])
}

// check validates data, whose encoding is b. What is stored as T{}, a visitor of
// whom nothing is known, is always valid, also with an empty map in place of nil.
func (c *codec) check(data any, b []byte) error {
	if bytes.Equal(b, c.zero) {
		return nil
	}
	err := c.validated(data)
	if err == nil || c.hash(data) != c.zeroHash {
		return err
	}
	if c.shape.IsMsgp() { // its methods may store what the hash does not see
		again, failed := c.append(nil, data)
		if failed != nil || !bytes.Equal(again, c.zero) {
			return err
		}
	}
	return nil
}

func (c *codec) validated(data any) (err error) {
	defer caught(&err, "validation")
	if c.tags != nil {
		if err := c.tags.Struct(data); err != nil {
			return invalid(err)
		}
	}
	if c.validate != nil {
		if err := c.validate(data); err != nil {
			return fmt.Errorf("%w: Config.Validate: %w", ErrInvalid, err)
		}
	}
	return nil
}

// load fills data, a pointer to a zero T, from the part of a body behind the
// flashes, which has a schema no newer than T's. The encoding that it returns is
// that of T's own.
func (c *codec) load(data any, schema int, b []byte, trusted bool) (encoded []byte, reason Reason, err error) {
	if schema < c.version {
		b, err = c.upgrade(data, schema, b)
	} else {
		err = c.decode(data, b, trusted)
	}
	if err != nil {
		return nil, ReasonUndecodable, err
	}
	if err := c.check(data, b); err != nil {
		return nil, ReasonInvalid, err
	}
	return b, ReasonNone, nil
}

func (c *codec) upgrade(data any, version int, b []byte) (_ []byte, err error) {
	if version < c.first || len(c.upgrades) == 0 {
		return nil, fmt.Errorf("it has schema version %d, and Config.Upgrades has none from there", version)
	}
	defer caught(&err, "an upgrade")
	u := &c.upgrades[version-c.first]
	old, err := u.old.decodeNew(b)
	if err != nil {
		return nil, err
	}
	for i := version - c.first; i < len(c.upgrades); i++ {
		if old, err = c.upgrades[i].apply(old); err != nil {
			return nil, fmt.Errorf("upgrade from version %d: %w", c.first+i, err)
		}
	}
	value(data).Set(value(old))
	return c.append(nil, data)
}

// An Upgrade turns data of one schema version into that of the next. [From]
// makes it.
type Upgrade struct {
	version int
	old     plan
	next    reflect.Type
	apply   func(any) (any, error)
}

// From returns the upgrade of data that was stored as an Old, when
// Config.Version was version, to New, the type of version+1. An error or a panic
// of f sets the session aside (ReasonUndecodable); a stored record is left alone.
func From[Old, New any](version int, f func(Old) (New, error)) Upgrade {
	return Upgrade{
		version: version,
		old:     plan{typ: reflect.TypeFor[Old]()},
		next:    reflect.TypeFor[New](),
		apply: func(old any) (any, error) {
			next, err := f(*old.(*Old))
			return &next, err
		},
	}
}

// setUpgrades checks the chain and puts it in order.
func (c *codec) setUpgrades(upgrades []Upgrade) (errs []error) {
	if c.version < 0 || c.version > math.MaxUint16 {
		errs = append(errs, fmt.Errorf("Config.Version: %d, need 0 to %d", c.version, math.MaxUint16))
	}
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("Config.Upgrades: "+format, args...))
	}
	byVersion := map[int]Upgrade{}
	c.first = c.version
	for _, u := range upgrades {
		switch _, twice := byVersion[u.version]; {
		case u.apply == nil:
			refuse("one was not made by From; use From")
			continue
		case twice:
			refuse("two from version %d; remove one", u.version)
			continue
		case u.version < 0 || u.version >= c.version:
			refuse("one from version %d, need 0 to %d, below Config.Version", u.version, c.version-1)
			continue
		}
		s, err := shape.Of(u.old.typ)
		if err != nil {
			refuse("from version %d: %w", u.version, err)
			continue
		}
		u.old.shape = s
		byVersion[u.version] = u
		c.first = min(c.first, u.version)
	}
	for v := c.first; v < min(c.version, math.MaxUint16); v++ {
		u, ok := byVersion[v]
		if !ok {
			refuse("none from version %d, though one from version %d must lead to Config.Version %d; add one", v, c.first, c.version)
			continue
		}
		want := c.typ
		if next, ok := byVersion[v+1]; ok {
			want = next.old.typ
		}
		if u.next != want {
			refuse("that from version %d gives %v, need %v, the type of version %d", v, u.next, want, v+1)
		}
		c.upgrades = append(c.upgrades, u)
	}
	return errs
}

// mergeInto brings into cur, a *T, what changed between two encodings.
func (c *codec) mergeInto(cur any, from, to []byte) (err error) {
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
	defer caught(&err, "Config.Merge")
	merged, err := c.merge(base, mine, cur)
	if err != nil {
		return fmt.Errorf("Config.Merge: %w", err)
	}
	c.shape.Adopt(value(cur), value(merged))
	return nil
}

// onto returns a copy of data, with what is not stored, that holds what is
// stored in b.
func (c *codec) onto(data any, b []byte) (any, error) {
	stored, err := c.decodeNew(b)
	if err != nil {
		return nil, err
	}
	cur := c.new()
	value(cur).Set(value(data))
	c.shape.Adopt(value(cur), value(stored))
	return cur, nil
}
