package shape

import (
	"iter"
	"reflect"
	"slices"
)

// A Part is a field of a session type, or of a struct in it that the application
// can change.
type Part struct {
	Path  string // from the name of the session type on
	Type  reflect.Type
	index []int
	node  *node
}

// Parts yields the parts of the type. It is for errors, which name them.
func (s *Shape) Parts() iter.Seq[Part] {
	return func(yield func(Part) bool) { yieldParts(s.root, s.name, nil, yield) }
}

func yieldParts(n *node, path string, index []int, yield func(Part) bool) bool {
	for _, f := range n.fields {
		at, path := slices.Concat(index, f.path), path+f.at
		switch {
		case f.node.kind == record && !f.node.foreign:
			if !yieldParts(f.node, path, at, yield) {
				return false
			}
		case !yield(Part{path, f.node.typ, at, f.node}):
			return false
		}
	}
	return true
}

// Alone returns a pointer to a value of the session type in which only this part
// is that of v.
func (p Part) Alone(v reflect.Value) reflect.Value {
	alone := reflect.New(v.Type())
	fieldOf(alone.Elem(), p.index).Set(fieldOf(v, p.index))
	return alone
}

// Same reports whether what is stored of this part is the same in both values.
func (p Part) Same(a, b reflect.Value) bool {
	return equal(p.node, fieldOf(a, p.index), fieldOf(b, p.index))
}
