package shape

import (
	"encoding/binary"
	"math"
)

// Unknown returns the fields in b, an encoding that Check takes, that the shape
// does not know: those of the struct itself and of the structs in it by field or
// pointer, but not of elements of lists and maps, where nothing tells which
// element is which. It returns nil if there are none. The form is for
// [Shape.Carry] alone.
//
// Code that msgp generated may know more names than the fields have. written is
// what it makes of the value in b, and a name in it is known. It is nil for other
// types.
func (s *Shape) Unknown(b, written []byte) ([]byte, error) {
	unknown, err := s.unlimited(b).unknownOf(nil, s.root, written)
	if err != nil || len(unknown) == 0 {
		return nil, err
	}
	return unknown, nil
}

// Carry appends b, an encoding of a value of the shape's type, to out, with the
// unknown fields of an earlier one: in each struct behind the fields that it has.
// Those of a struct behind a pointer that is nil now are left out.
func (s *Shape) Carry(out, b, unknown []byte) ([]byte, error) {
	return s.unlimited(b).carried(out, s.root, unknown)
}

// The unknown fields of a struct are kept as they came, names and values, one
// after the other. Among them stand the names of its fields that are structs
// with unknown fields, and those as bytes.

// An entry is a field on the wire.
type entry struct {
	start int // of the name
	name  []byte
	field int // in the node's fields, -1 if it is unknown
}

// entry reads up to the value of a field of n.
func (r *reader) entry(n *node) (e entry, err error) {
	e.start, e.field = r.i, -1
	if e.name, err = r.name(); err != nil {
		return e, err
	}
	k, known := n.names[string(e.name)]
	if known {
		if k < 0 {
			return e, errKind
		}
		e.field = k
	}
	return e, nil
}

// over reads over the value of a field of n.
func (r *reader) over(n *node, e entry) error {
	if e.field < 0 {
		return r.skip(true)
	}
	return r.value(n.fields[e.field].node)
}

// structOf returns the struct that n is or points to, nil if it is another kind.
func structOf(n *node) *node {
	for n.kind == pointer {
		n = n.elem
	}
	if n.kind != record {
		return nil
	}
	return n
}

// atMap reports whether a map follows. A struct is one, unless it is behind a
// pointer that is nil, or msgp's code writes it as something else.
func (r *reader) atMap() bool { return r.i < len(r.b) && isMap(r.b[r.i]) }

// unknownOf reads over a value of n and appends its unknown fields to out.
func (r *reader) unknownOf(out []byte, n *node, written []byte) ([]byte, error) {
	rec := structOf(n)
	if rec == nil || !r.atMap() {
		return out, r.value(n)
	}
	own := r.valuesIn(written, rec)
	l, err := r.count(0x80, 0xde, 2)
	if err != nil {
		return out, err
	}
	for range l {
		e, err := r.entry(rec)
		if err != nil {
			return out, err
		}
		value, isOwn := own[string(e.name)]
		if e.field < 0 {
			if err := r.skip(true); err != nil {
				return out, err
			}
			if !isOwn {
				out = append(out, r.b[e.start:r.i]...)
			}
			continue
		}
		before := len(out)
		out = append(append(out, r.b[e.start:r.i]...), 0xc6, 0, 0, 0, 0)
		first := len(out)
		if out, err = r.unknownOf(out, rec.fields[e.field].node, value); err != nil {
			return out, err
		}
		if len(out) == first {
			out = out[:before]
			continue
		}
		binary.BigEndian.PutUint32(out[first-4:], uint32(len(out)-first))
	}
	return out, nil
}

// valuesIn returns the values in written, a struct, by their names, as far as it
// can be read.
func (r *reader) valuesIn(written []byte, rec *node) map[string][]byte {
	w := reader{b: written, budget: math.MaxInt64, lenient: r.lenient}
	if !w.atMap() {
		return nil
	}
	values := map[string][]byte{}
	l, err := w.count(0x80, 0xde, 2)
	for i := 0; i < l && err == nil; i++ {
		var e entry
		if e, err = w.entry(rec); err != nil {
			break
		}
		start := w.i
		if err = w.over(rec, e); err == nil {
			values[string(e.name)] = written[start:w.i]
		}
	}
	return values
}

// carried reads over a value of n and appends it to out, with the unknown fields.
func (r *reader) carried(out []byte, n *node, unknown []byte) ([]byte, error) {
	start := r.i
	rec := structOf(n)
	if rec == nil || !r.atMap() {
		err := r.value(n)
		return append(out, r.b[start:r.i]...), err
	}
	m := merged{reader: r, rec: rec, head: len(out), out: append(out, make([]byte, maxHeader)...)}
	if err := m.split(unknown); err != nil {
		return out, err
	}
	l, err := r.count(0x80, 0xde, 2)
	if err != nil {
		return out, err
	}
	for range l {
		if err := m.known(); err != nil {
			return out, err
		}
	}
	if err := m.omitted(len(rec.fields)); err != nil {
		return out, err
	}
	for _, f := range m.loose {
		if !m.own[string(f.name)] {
			m.out = append(m.out, f.bytes...)
			m.count++
		}
	}
	return m.finish(), nil
}

// A merged is the encoding of a struct with its unknown fields, as it is built.
type merged struct {
	*reader
	rec    *node
	out    []byte
	head   int // where the map begins in out; its header takes maxHeader bytes
	count  int
	next   int             // the first field that omitted has not seen
	nested [][]byte        // unknown fields of the structs in this one, by field, that are not in out
	loose  []looseField    // its own
	own    map[string]bool // names that msgp's code writes beside the fields
}

type looseField struct{ name, bytes []byte }

// maxHeader is the size of the longest header of a map.
const maxHeader = 5

// split takes the unknown fields apart.
func (m *merged) split(unknown []byte) error {
	m.nested = make([][]byte, len(m.rec.fields))
	u := reader{b: unknown, budget: math.MaxInt64, lenient: m.lenient}
	for u.i < len(unknown) {
		e, err := u.entry(m.rec)
		if err != nil {
			return err
		}
		if e.field < 0 {
			if err := u.skip(true); err != nil {
				return err
			}
			m.loose = append(m.loose, looseField{e.name, unknown[e.start:u.i]})
			continue
		}
		size, err := u.blob()
		if err != nil {
			return err
		}
		m.nested[e.field] = unknown[u.i : u.i+size]
		u.i += size
	}
	return nil
}

// known copies a field that the encoding has.
func (m *merged) known() error {
	e, err := m.entry(m.rec)
	if err != nil {
		return err
	}
	if e.field < 0 {
		if m.own == nil {
			m.own = map[string]bool{}
		}
		m.own[string(e.name)] = true
	} else if !m.lenient { // msgp's code may have an order of its own
		if err := m.omitted(e.field); err != nil {
			return err
		}
	}
	m.count++
	if e.field >= 0 && len(m.nested[e.field]) > 0 {
		m.out = append(m.out, m.b[e.start:m.i]...)
		m.out, err = m.carried(m.out, m.rec.fields[e.field].node, m.nested[e.field])
		m.nested[e.field] = nil
		return err
	}
	if err := m.over(m.rec, e); err != nil {
		return err
	}
	m.out = append(m.out, m.b[e.start:m.i]...)
	return nil
}

// omitted adds the structs up to a field that the encoding leaves out, since
// they are empty but for their unknown fields.
func (m *merged) omitted(end int) error {
	for ; m.next < end; m.next++ {
		f := &m.rec.fields[m.next]
		if len(m.nested[m.next]) == 0 || f.node.kind != record {
			continue // it is there, or a pointer that is nil
		}
		before := len(m.out)
		m.out = appendName(m.out, f.name)
		first := len(m.out)
		empty := reader{b: []byte{0x80}, budget: math.MaxInt64, lenient: m.lenient}
		var err error
		if m.out, err = empty.carried(m.out, f.node, m.nested[m.next]); err != nil {
			return err
		}
		m.nested[m.next] = nil
		if m.out[first] == 0x80 { // all of it was behind pointers
			m.out = m.out[:before]
			continue
		}
		m.count++
	}
	return nil
}

// finish puts the header in front, and returns all that was built.
func (m *merged) finish() []byte {
	var header [maxHeader]byte
	h := header[:1]
	switch {
	case m.count < 16:
		h[0] = 0x80 | byte(m.count)
	case m.count <= math.MaxUint16:
		h = header[:3]
		h[0] = 0xde
		binary.BigEndian.PutUint16(h[1:], uint16(m.count))
	default:
		h = header[:5]
		h[0] = 0xdf
		binary.BigEndian.PutUint32(h[1:], uint32(m.count))
	}
	body := m.out[m.head+maxHeader:]
	return append(append(m.out[:m.head], h...), body...)
}

func appendName(out []byte, name string) []byte {
	switch l := len(name); {
	case l < 32:
		out = append(out, 0xa0|byte(l))
	case l <= math.MaxUint8:
		out = append(out, 0xd9, byte(l))
	case l <= math.MaxUint16:
		out = binary.BigEndian.AppendUint16(append(out, 0xda), uint16(l))
	default:
		out = binary.BigEndian.AppendUint32(append(out, 0xdb), uint32(l))
	}
	return append(out, name...)
}
