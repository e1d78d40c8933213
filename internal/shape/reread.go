package shape

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
)

// What a type's own codec wrote is read back before it is stored, since nobody
// else knows whether it can be: the Host of a url.URL may be one that url.Parse
// refuses, and a number may have no name. Plain kinds and times need no such
// trial, as Check knows what becomes of them.

// readsAll are the types of the standard library that read whatever they write,
// so that a trial would find nothing (TestTypesThatReadAllDo).
var readsAll = map[reflect.Type]bool{
	reflect.TypeFor[netip.Addr]():     true,
	reflect.TypeFor[netip.AddrPort](): true,
	reflect.TypeFor[netip.Prefix]():   true,
	reflect.TypeFor[big.Int]():        true,
	reflect.TypeFor[*big.Int]():       true,
	reflect.TypeFor[big.Rat]():        true,
	reflect.TypeFor[*big.Rat]():       true,
	reflect.TypeFor[slog.Level]():     true,
}

// Rereads reports whether Reread has work to do.
func (s *Shape) Rereads() bool { return s.root.rereads && !s.msgp }

// Reread reads back what the types with codecs of their own in v, a value of the
// shape's type, write. Its error has the path of the first one that cannot be
// loaded again, and no value. It is ErrCost where that would take too much memory.
func (s *Shape) Reread(v reflect.Value) error {
	r := rereader{shape: s}
	if r.value(s.root, v); r.first != nil {
		return r.first
	}
	return nil
}

// A rereader walks a value to those of its parts that have codecs of their own.
type rereader struct {
	shape *Shape
	steps []step
	first error
	all   func(path string, steps []step, n *node, err error) // is told of every part that fails, if it is set
}

// A step leads from a value into it.
type step struct {
	suffix string
	field  *field // nil for elements and keys
	from   *node
}

func (r *rereader) done() bool { return r.first != nil && r.all == nil }

func (s *Shape) path(steps []step) string {
	path := s.name
	for _, step := range steps {
		path += step.suffix
	}
	return path
}

func (r *rereader) step(s step, n *node, v reflect.Value) {
	if !n.rereads || r.done() {
		return
	}
	r.steps = append(r.steps, s)
	r.value(n, v)
	r.steps = r.steps[:len(r.steps)-1]
}

func (r *rereader) value(n *node, v reflect.Value) {
	switch n.kind {
	case record:
		for i := range n.fields {
			f := &n.fields[i]
			if !f.node.rereads {
				continue
			}
			if part := fieldOf(v, f.path); !f.omit || !isEmpty(part) {
				r.step(step{f.at, f, n}, f.node, part)
			}
		}
	case pointer:
		if !v.IsNil() {
			r.value(n.elem, v.Elem())
		}
	case list, array:
		for i := range v.Len() {
			r.step(step{"[]", nil, n}, n.elem, v.Index(i))
		}
	case mapping:
		for it := v.MapRange(); it.Next(); {
			r.step(step{"[key]", nil, n}, n.key, it.Key())
			r.step(step{"[]", nil, n}, n.elem, it.Value())
		}
	case custom:
		key := len(r.steps) > 0 && r.steps[len(r.steps)-1].suffix == "[key]"
		if err := reread(n, v, key); err != nil {
			if r.all != nil {
				r.all(r.shape.path(r.steps), r.steps, n, err)
			}
			r.first = cmp.Or(r.first, fmt.Errorf("%s: %w", r.shape.path(r.steps), err))
		}
	}
}

// isEmpty reports whether omitempty leaves v out. New refuses the option for the
// types of which msgpack asks IsZero.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false // unless all its fields are, which are asked one by one
	default:
		return v.IsZero()
	}
}

var rereads = sync.Pool{New: func() any { return new(trial) }}

// A trial writes a value and reads it.
type trial struct {
	buf bytes.Buffer
	enc *msgpack.Encoder
	src bytes.Reader
	dec *msgpack.Decoder
}

// write returns what msgpack makes of v, until the next call.
func (t *trial) write(v reflect.Value) ([]byte, error) {
	if t.enc == nil {
		t.enc = msgpack.NewEncoder(&t.buf)
	}
	t.buf.Reset()
	t.enc.Reset(&t.buf)
	t.enc.UseCompactInts(true)
	t.enc.SetSortMapKeys(true)
	err := t.enc.EncodeValue(v)
	return t.buf.Bytes(), err
}

var errMore = errors.New("bytes are left")

// read fills v from b.
func (t *trial) read(v reflect.Value, b []byte) error {
	if t.dec == nil {
		t.dec = msgpack.NewDecoder(&t.src)
	}
	t.src.Reset(b)
	t.dec.Reset(&t.src)
	err := t.dec.DecodeValue(v)
	if err == nil && t.src.Len() > 0 {
		err = errMore
	}
	return err
}

// reread tries one value of a type with a codec of its own. Its error says what
// its methods did, without the value.
func reread(n *node, v reflect.Value, key bool) (err error) {
	// The methods are looked up for an error only: it takes longer than the trial.
	says := func(format string, args ...any) error {
		enc, dec := codecOf(n.typ)
		names := strings.NewReplacer("ENC", enc, "DEC", dec, "TYPE", n.typ.String())
		return fmt.Errorf(names.Replace(format), args...)
	}
	defer func() {
		if p := recover(); p != nil {
			err = says("ENC or DEC of TYPE panicked (%T)", p)
		}
	}()
	x := rereads.Get().(*trial)
	if !v.CanAddr() {
		c := reflect.New(n.typ).Elem()
		c.Set(v)
		v = c
	}
	written, err := x.write(v)
	if err != nil {
		return says("ENC of TYPE failed (%T)", err)
	}
	written = bytes.Clone(written)
	if err := n.one(written); err != nil {
		if errors.Is(err, ErrCost) {
			return ErrCost
		}
		return says("ENC of TYPE wrote what cannot be loaded (%v)", err)
	}
	got := reflect.New(n.typ).Elem()
	if err := x.read(got, written); err != nil {
		if errors.Is(err, ErrCost) {
			return ErrCost
		}
		return says("DEC of TYPE refuses what its ENC wrote (%T)", err)
	}
	if lost, err := x.loses(n, v, got, written, key); err != nil || lost {
		return says("DEC of TYPE makes another value of what its ENC wrote")
	}
	rereads.Put(x) // not after an error or a panic, which may have left anything in it
	return nil
}

// one reports whether b is one value, of the kinds that Check takes.
func (n *node) one(b []byte) error {
	r := reader{b: b, budget: Budget(len(b))}
	if err := r.value(n); err != nil {
		return err
	}
	if r.i < len(b) {
		return errors.New("more than one value")
	}
	return nil
}

type zeroer interface{ IsZero() bool }

// loses reports whether got, which was read from what was written of v, is
// another value. A type may keep less than the value, such as the instant of
// a time without its zone, or a name in lower case. But a value is not to become
// none, nor a number or a key another one.
func (x *trial) loses(n *node, v, got reflect.Value, written []byte, key bool) (bool, error) {
	switch k := v.Kind(); {
	case key:
		return !v.Equal(got), nil
	case k == reflect.Pointer && got.IsNil():
		return false, nil // by msgpack, of a nil pointer and of a nil text; the doc of Data says so
	case n.json, k >= reflect.Bool && k <= reflect.Uint64:
		again, err := x.write(got)
		return !bytes.Equal(again, written), err
	}
	if was, ok := v.Addr().Interface().(zeroer); ok && !was.IsZero() {
		return got.Addr().Interface().(zeroer).IsZero(), nil
	}
	if v.IsZero() || !got.IsZero() {
		return false, nil
	}
	// It came back zero. It may have been no more than that, to its type.
	zero, err := x.write(got)
	return err == nil && !bytes.Equal(zero, written), nil
}

// Unstorable returns an error for each field of the zero value whose codec does
// not bring it back, with a fix: every session begins with it.
func (s *Shape) Unstorable() error {
	var problems []problem
	r := rereader{shape: s}
	r.all = func(path string, steps []step, n *node, err error) {
		p := s.unstorable(path, steps, n, err)
		if !slices.ContainsFunc(problems, func(q problem) bool { return q.path == p.path }) {
			problems = append(problems, p)
		}
	}
	if s.Rereads() {
		r.value(s.root, reflect.New(s.root.typ).Elem())
	}
	return joined(problems)
}

func (s *Shape) unstorable(path string, steps []step, n *node, err error) problem {
	p := problem{path: path, reason: fmt.Sprintf("the zero value, with which every session begins, cannot be stored: %v", err)}
	// The fix is about the last field that the application can change.
	var f *field
	for i, step := range steps {
		if step.from.foreign {
			break
		}
		if step.field != nil {
			f, p.path = step.field, s.path(steps[:i+1])
		}
	}
	text := ", or give zero a text"
	if n.foreign {
		text = orJSON(f.node.typ)
	}
	switch {
	case f.node != n && f.node.kind == array && f.node.elem == n:
		p.fix = "use a slice" + text
	case f.node != n:
		p.fix = "use a pointer" + text
	case losesByOmitting(n.typ) || n.typ.Kind() == reflect.Array || n.typ.Kind() == reflect.Struct:
		p.fix = "use a pointer" + text
	default:
		name, options, _ := strings.Cut(f.tag, ",")
		if options != "" {
			options += ","
		}
		p.fix = fmt.Sprintf("tag it `msgpack:\"%s,%somitempty\"`%s", name, options, text)
	}
	return p
}
