package shape

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrCost is the error of Check where decoding would take more memory than
// [Budget] allows.
var ErrCost = errors.New("would take more memory than 1 MiB and 64 times its length")

// Budget is the memory that decoding an encoding of this size may take.
func Budget(size int) int64 { return 1<<20 + 64*int64(size) }

// maxDepth bounds the nesting of values that the shape does not know: msgpack
// skips them by recursion. Ten is more than anybody uses; goroutine stacks end
// at a few million.
const maxDepth = 100

// maxCustom bounds what a type with a codec of its own may be made of, since
// nobody knows what that does: parsing a number of 64,000 digits takes 11 MB
// (math/big), one of half as many a quarter.
const maxCustom = 32 << 10

// Check reports whether b may be handed to a decoder for the shape: one value,
// nothing after it, every length within b, every number within its field,
// no nil where a decoder would panic, no name twice in a struct, no extension in
// front of something else, nesting bounded, and memory within [Budget]. Fields
// that the shape does not know may be of any kind. It allocates nothing unless
// there are such fields or the shape has a struct of more than 64.
func (s *Shape) Check(b []byte) error {
	_, err := s.CheckUnknown(b)
	return err
}

// CheckUnknown is [Shape.Check], and reports whether b may have fields that
// [Shape.Unknown] returns.
func (s *Shape) CheckUnknown(b []byte) (found bool, err error) {
	r := reader{b: b, budget: Budget(len(b)), lenient: s.msgp}
	if len(b) == 0 || !isMap(b[0]) && !s.msgp {
		return false, errors.New("not a map, as a struct is")
	}
	if err := r.value(s.root); err != nil {
		return false, err
	}
	if r.i != len(b) {
		return false, fmt.Errorf("%d bytes after the value", len(b)-r.i)
	}
	return r.unknown, nil
}

type reader struct {
	b        []byte
	i        int
	budget   int64
	lenient  bool   // msgp: tuples, shims and its own extensions pass
	elements int    // lists, arrays and maps around i
	unknown  bool   // there was an unknown field outside of those
	names    []span // of the unknown fields of the structs around i
}

// A span is a part of the reader's bytes.
type span struct{ start, end int }

// unlimited returns a reader of bytes that Check takes, or that are our own.
func (s *Shape) unlimited(b []byte) *reader {
	return &reader{b: b, budget: math.MaxInt64, lenient: s.msgp}
}

var (
	errShort = errors.New("ends within a value")
	errNil   = errors.New("nil where the type has none")
	errExt   = errors.New("an extension where none is expected")
	errRange = errors.New("a number that does not fit its field")
	errKind  = errors.New("a value of another kind than its field")
	errTwice = errors.New("a field twice")
	errName  = errors.New("a field's name that is no string")
	errDepth = fmt.Errorf("nested deeper than %d", maxDepth)
)

func isMap(c byte) bool { return c&0xf0 == 0x80 || c == 0xde || c == 0xdf }

func (r *reader) charge(bytes int64) error {
	if r.budget -= bytes; r.budget < 0 {
		return ErrCost
	}
	return nil
}

func (r *reader) value(n *node) error {
	if r.i >= len(r.b) {
		return errShort
	}
	c := r.b[r.i]
	if c == 0xc0 {
		if !n.nilOK && !r.lenient {
			return errNil
		}
		r.i++
		return nil
	}
	var err error
	switch n.kind {
	case boolean:
		if c != 0xc2 && c != 0xc3 {
			return r.otherwise(errKind)
		}
		r.i++
	case signed, unsigned:
		if c <= 0x7f { // 0 to 127 fit every integer
			r.i++
			return nil
		}
		err = r.integer(n)
	case float32Kind, float64Kind:
		err = r.float(n)
	case text, bytesKind, byteArray:
		var l int
		if l, err = r.blob(); err == nil {
			if n.kind == byteArray && l > n.typ.Len() {
				return errRange
			}
			r.i += l
			return r.charge(int64(l))
		}
	case instant:
		if r.lenient {
			err = r.skip(false) // msgp's own extension, or the standard one
		} else {
			err = r.instant()
		}
	case list, array:
		err = r.list(n)
	case mapping:
		err = r.mapping(n)
	case pointer:
		if err = r.charge(n.elem.cost); err == nil {
			err = r.value(n.elem)
		}
	case record:
		err = r.record(n)
	case custom:
		start := r.i
		if err = r.charge(n.cost); err == nil {
			err = r.skip(false)
		}
		if r.i-start > maxCustom {
			err = ErrCost
		}
	}
	if err != nil {
		return r.otherwise(err)
	}
	return nil
}

// otherwise refuses a value that does not fit its field, or for msgp's own
// codecs, which may write a type as another and check for themselves, reads
// over it.
func (r *reader) otherwise(err error) error {
	if r.lenient && err == errKind {
		return r.skip(false)
	}
	return err
}

// number reads the big-endian unsigned integer of size bytes that follows the
// code at i, without moving.
func (r *reader) number(size int) (uint64, error) {
	at := r.i + 1
	if len(r.b)-at < size {
		return 0, errShort
	}
	switch b := r.b[at:]; size {
	case 1:
		return uint64(b[0]), nil
	case 2:
		return uint64(binary.BigEndian.Uint16(b)), nil
	case 4:
		return uint64(binary.BigEndian.Uint32(b)), nil
	default:
		return binary.BigEndian.Uint64(b), nil
	}
}

func (r *reader) integer(n *node) error {
	c := r.b[r.i]
	if c >= 0xe0 {
		if n.kind == unsigned {
			return errRange
		}
		r.i++
		return nil
	}
	if c < 0xcc || c > 0xd3 {
		return errKind
	}
	size := 1 << ((c - 0xcc) & 3)
	u, err := r.number(size)
	if err != nil {
		return err
	}
	if c >= 0xd0 { // int8 to int64
		shift := 64 - 8*size
		v := int64(u<<shift) >> shift
		if n.kind == unsigned && (v < 0 || n.bits < 64 && uint64(v)>>n.bits != 0) {
			return errRange
		}
		if n.kind == signed && v != v<<(64-n.bits)>>(64-n.bits) {
			return errRange
		}
	} else if n.kind == unsigned && n.bits < 64 && u>>n.bits != 0 || n.kind == signed && u>>(n.bits-1) != 0 {
		return errRange
	}
	r.i += 1 + size
	return nil
}

// float accepts what msgpack reads as a float: both widths into float64, any
// integer. It reads no float64 into a float32.
func (r *reader) float(n *node) error {
	switch c := r.b[r.i]; {
	case c <= 0x7f || c >= 0xe0:
		r.i++
		return nil
	case c == 0xca, c == 0xcb && n.kind == float64Kind:
		return r.skip(false)
	case c >= 0xcc && c <= 0xd3:
		return r.skip(false)
	}
	return errKind
}

// blob reads the header of a string or of bytes and returns the length; the
// content is within b.
func (r *reader) blob() (int, error) {
	c := r.b[r.i]
	size, l := 0, uint64(0)
	switch {
	case c&0xe0 == 0xa0:
		l = uint64(c & 0x1f)
	case c >= 0xc4 && c <= 0xc6:
		size = 1 << (c - 0xc4)
	case c >= 0xd9 && c <= 0xdb:
		size = 1 << (c - 0xd9)
	default:
		return 0, errKind
	}
	if size > 0 {
		var err error
		if l, err = r.number(size); err != nil {
			return 0, err
		}
	}
	if l > uint64(len(r.b)-r.i-1-size) {
		return 0, errShort
	}
	r.i += 1 + size
	return int(l), nil
}

// count reads the header of an array (fix 0x90, wide 0xdc) or a map (0x80,
// 0xde); each element takes at least perElem bytes.
func (r *reader) count(fix, wide byte, perElem int) (int, error) {
	c := r.b[r.i]
	size, l := 0, uint64(0)
	switch {
	case c&0xf0 == fix:
		l = uint64(c & 0x0f)
	case c == wide:
		size = 2
	case c == wide+1:
		size = 4
	default:
		return 0, errKind
	}
	if size > 0 {
		var err error
		if l, err = r.number(size); err != nil {
			return 0, err
		}
	}
	if l > uint64(len(r.b)-r.i-1-size)/uint64(perElem) {
		return 0, errShort
	}
	r.i += 1 + size
	return int(l), nil
}

func (r *reader) list(n *node) error {
	l, err := r.count(0x90, 0xdc, 1)
	if err != nil {
		return err
	}
	if n.kind == array {
		if l > n.typ.Len() {
			return errRange
		}
	} else if err := r.charge(listCost(int64(l), n.elem.cost)); err != nil {
		return err
	}
	r.elements++
	for range l {
		if err := r.value(n.elem); err != nil {
			return err
		}
	}
	r.elements--
	return nil
}

func (r *reader) mapping(n *node) error {
	l, err := r.count(0x80, 0xde, 2)
	if err != nil {
		return err
	}
	if err := r.charge(mapCost(int64(l), n.key.cost, n.elem.cost)); err != nil {
		return err
	}
	r.elements++
	for range l {
		if err := r.value(n.key); err != nil {
			return err
		}
		if err := r.value(n.elem); err != nil {
			return err
		}
	}
	r.elements--
	return nil
}

// listCost is the memory of a slice of l elements: msgpack makes one beside the
// one that it appends to, whose capacity is rounded up, and a header of each.
func listCost(l, elem int64) int64 { return 64 + 3*l*elem }

// mapCost is the memory of a map of l entries: groups of eight slots, at most
// 7/8 and at least 7/16 of them full, with what is above 128 bytes behind
// a pointer; each key and each value once more, since msgpack makes it outside
// first; and an eighth on top, since the allocator rounds up.
func mapCost(l, key, elem int64) int64 {
	slot, boxes := int64(0), int64(0)
	for _, size := range []int64{key, elem} {
		size = (size + 7) &^ 7
		boxes += size + 8
		if size > 128 {
			boxes += size
			size = 8
		}
		slot += size
	}
	slots := 3 * l
	if l > 0 && l <= 8 {
		slots = 8
	}
	return 96 + slots*(slot+1)*9/8 + l*boxes
}

func (r *reader) record(n *node) error {
	l, err := r.count(0x80, 0xde, 2)
	if err == errKind && r.lenient {
		return r.tuple(n)
	}
	if err != nil {
		return err
	}
	var seen uint64
	var more []bool
	if len(n.fields) > 64 {
		more = make([]bool, len(n.fields))
	}
	next := 0
	outer := len(r.names)
	for range l {
		k := next // fields come in the order of the struct, if we wrote them
		if k >= len(n.fields) || !r.isNamed(n.fields[k].name) {
			name, err := r.name()
			if err != nil {
				return err
			}
			var known bool
			if k, known = n.names[string(name)]; !known {
				if err := r.unknownField(len(name)); err != nil {
					return err
				}
				continue
			}
			if k < 0 {
				return errKind // an embedded struct, which is stored by its fields
			}
		}
		if more != nil {
			if more[k] {
				return errTwice
			}
			more[k] = true
		} else {
			if seen>>k&1 != 0 {
				return errTwice
			}
			seen |= 1 << k
		}
		next = k + 1
		if err := r.value(n.fields[k].node); err != nil {
			return fmt.Errorf("%s: %w", n.fields[k].name, err)
		}
	}
	if len(r.names) == outer {
		return nil
	}
	return r.distinct(outer)
}

// isNamed reads the name of a field if it is this one, in its shortest form.
func (r *reader) isNamed(name string) bool {
	end := r.i + 1 + len(name)
	if len(name) > 31 || end > len(r.b) || r.b[r.i] != 0xa0|byte(len(name)) || string(r.b[r.i+1:end]) != name {
		return false
	}
	r.i = end
	return true
}

// name reads the name of a field. Bytes are none, though msgpack takes them.
func (r *reader) name() ([]byte, error) {
	if r.i >= len(r.b) {
		return nil, errShort
	}
	if c := r.b[r.i]; c >= 0xc4 && c <= 0xc6 {
		return nil, errName
	}
	size, err := r.blob()
	if err == errKind {
		err = errName
	}
	if err != nil {
		return nil, err
	}
	r.i += size
	return r.b[r.i-size : r.i], nil
}

// unknownField reads over the value of a field that the shape does not know. Its
// name, of this size, is before i. The field costs the buffer that msgpack skips
// it through, the copy that [Shape.Unknown] makes, and its part of r.names, each
// up to five times, since they grow.
func (r *reader) unknownField(size int) error {
	start := r.i
	if err := r.skip(true); err != nil {
		return err
	}
	r.unknown = r.unknown || r.elements == 0
	r.names = append(r.names, span{start - size, start})
	return r.charge(96 + 16*int64(size+r.i-start))
}

// distinct takes the names from the first one on out of r.names. It reports an
// error if two are equal. To sort them takes no more time than their number
// allows, whoever has chosen them.
func (r *reader) distinct(first int) error {
	names := r.names[first:]
	r.names = r.names[:first]
	of := func(s span) []byte { return r.b[s.start:s.end] }
	slices.SortFunc(names, func(a, b span) int { return bytes.Compare(of(a), of(b)) })
	for i := range len(names) - 1 {
		if bytes.Equal(of(names[i]), of(names[i+1])) {
			return errTwice
		}
	}
	return nil
}

// tuple reads a struct that msgp wrote as an array of its fields.
func (r *reader) tuple(n *node) error {
	l, err := r.count(0x90, 0xdc, 1)
	if err != nil {
		return err
	}
	for k := range l {
		if k < len(n.fields) {
			err = r.value(n.fields[k].node)
		} else {
			err = r.skip(false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// instant reads a timestamp: extension -1 of 4, 8 or 12 bytes, with a year
// from 1 to 9999, so that every later encoding of it works.
func (r *reader) instant() error {
	var size int
	switch r.b[r.i] {
	case 0xd6:
		size = 4
	case 0xd7:
		size = 8
	case 0xc7:
		if r.i+1 >= len(r.b) {
			return errShort
		}
		if r.b[r.i+1] != 12 {
			return errKind
		}
		r.i++
		size = 12
	default:
		return errKind
	}
	if len(r.b)-r.i-2 < size {
		return errShort
	}
	if r.b[r.i+1] != 0xff {
		return errExt
	}
	b := r.b[r.i+2 : r.i+2+size]
	var nanos, secs uint64
	switch size {
	case 4:
		secs = uint64(binary.BigEndian.Uint32(b))
	case 8:
		u := binary.BigEndian.Uint64(b)
		nanos, secs = u>>34, u&(1<<34-1)
	case 12:
		nanos, secs = uint64(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint64(b[4:])
	}
	if nanos > 999_999_999 || !storable(int64(secs)) {
		return errRange
	}
	r.i += 2 + size
	return nil
}

// storable reports whether a time, in seconds since 1970, is of the years 1 to 9999.
func storable(secs int64) bool { return secs >= -62135596800 && secs <= 253402300799 }

// skip reads over one value of any kind without recursion. Where somebody will
// decode it, its elements have a cost and extensions are refused, since msgpack
// drops the header of one in front of a map and reads its content as the map;
// msgp's own (3 to 5) and timestamps pass for a type with its methods. Of a
// field that is not known, any extension passes.
func (r *reader) skip(unknown bool) error {
	var counts [maxDepth]int
	depth := 0
	for {
		if r.i >= len(r.b) {
			return errShort
		}
		c := r.b[r.i]
		width, elems := 1, 0
		var err error
		switch {
		case c <= 0x7f || c >= 0xe0 || c == 0xc0 || c == 0xc2 || c == 0xc3:
		case c&0xf0 == 0x80 || c == 0xde || c == 0xdf:
			elems, err = r.count(0x80, 0xde, 2)
			elems, width = 2*elems, 0
		case c&0xf0 == 0x90 || c == 0xdc || c == 0xdd:
			elems, err = r.count(0x90, 0xdc, 1)
			width = 0
		case c == 0xca:
			width = 5
		case c == 0xcb:
			width = 9
		case c >= 0xcc && c <= 0xd3:
			width = 1 + 1<<((c-0xcc)&3)
		case c == 0xc1:
			err = errKind
		case c >= 0xc7 && c <= 0xc9 || c >= 0xd4 && c <= 0xd8:
			width, err = r.extension(unknown)
		default:
			width, err = r.blob()
		}
		if err != nil {
			return err
		}
		if width > len(r.b)-r.i {
			return errShort
		}
		r.i += width
		if elems > 0 {
			// What a type's own decoder makes of an element is at most this.
			if !unknown {
				if err := r.charge(32 * int64(elems)); err != nil {
					return err
				}
			}
			if depth == maxDepth {
				return errDepth
			}
			counts[depth] = elems
			depth++
			continue
		}
		for depth > 0 {
			if counts[depth-1]--; counts[depth-1] > 0 {
				break
			}
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

// extension returns the width of the one at i.
func (r *reader) extension(unknown bool) (int, error) {
	if !r.lenient && !unknown {
		return 0, errExt
	}
	c := r.b[r.i]
	head, size := 2, uint64(0)
	if c >= 0xd4 {
		size = 1 << (c - 0xd4)
	} else {
		n := 1 << (c - 0xc7)
		var err error
		if size, err = r.number(n); err != nil {
			return 0, err
		}
		head += n
	}
	if size > math.MaxInt32 || len(r.b)-r.i < head+int(size) {
		return 0, errShort
	}
	switch r.b[r.i+head-1] {
	case 3, 4, 5, 0xff:
	default:
		if !unknown {
			return 0, errExt
		}
	}
	return head + int(size), nil
}
