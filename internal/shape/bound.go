package shape

import (
	"math"
	"reflect"
	"slices"
)

// A sizeBound makes it certain that encodings of a type pass Check, so that a save
// need not check what it has just written. That takes a fourth of the time of
// writing it (BenchmarkLayers/check and encode).
type sizeBound struct {
	weight   int64   // the most that Check charges for a byte
	instants [][]int // the paths of the times, which alone can be out of range
}

// unknown is the weight of a type that only Check can judge, and of one so heavy
// that no size is small enough.
const unknown = math.MaxInt32

// FitsWithin reports whether Check takes what msgpack makes of v, a value of the
// shape's type, in size bytes. False means that only Check can tell.
func (s *Shape) FitsWithin(v reflect.Value, size int) bool {
	if size > math.MaxInt32 || int64(size)*s.bound.weight > Budget(size) {
		return false
	}
	for _, path := range s.bound.instants {
		if !storable(timeOf(fieldOf(v, path)).Unix()) {
			return false
		}
	}
	return true
}

// add adds a value of n to the bound. place is what Check charges for its
// place in what holds it, and path leads to it through structs alone, unless it
// is many values or none.
func (v *sizeBound) add(n *node, place int64, path []int, many bool) {
	charge := place
	switch n.kind {
	case text, bytesKind, byteArray:
		charge = max(place, 1)
	case instant:
		if many {
			charge = unknown
			break
		}
		v.instants = append(v.instants, path)
	case list:
		charge += listCost(0, 0)
		v.add(n.elem, listCost(1, n.elem.cost)-listCost(0, 0), nil, true)
	case array:
		v.add(n.elem, 0, nil, true)
	case pointer:
		v.add(n.elem, place+n.elem.cost, nil, true)
	case record:
		for _, f := range n.fields {
			v.add(f.node, 0, slices.Concat(path, f.path), many)
		}
	case mapping, custom:
		charge = unknown
	}
	v.weight = min(max(v.weight, charge), unknown)
}
