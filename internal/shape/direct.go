package shape

import "reflect"

// A Plain is a type that msgpack stores by rules of its own alone: there is no
// codec of a type, generated or written, in it.
type Plain struct {
	Type   reflect.Type
	Key    *Plain // of a map
	Elem   *Plain // of a slice, an array, a map or a pointer; nil if the elements are bytes
	Fields []PlainField
}

// A PlainField is a field of a struct, also one that an embedded struct has.
type PlainField struct {
	Name      string // on the wire
	Path      []int  // of indexes, through embedded structs
	OmitEmpty bool
	*Plain
}

// Plain returns what the shape's type is made of, or nil if there is a type with
// a codec of its own in it.
func (s *Shape) Plain() *Plain {
	if s.msgp || s.hasCodecs {
		return nil
	}
	return plainOf(s.root, map[*node]*Plain{})
}

// plainOf uses done so that a type which many fields have is described once.
func plainOf(n *node, done map[*node]*Plain) *Plain {
	if n == nil || done[n] != nil {
		return done[n]
	}
	p := &Plain{Type: n.typ, Key: plainOf(n.key, done), Elem: plainOf(n.elem, done)}
	for _, f := range n.fields {
		p.Fields = append(p.Fields, PlainField{f.name, f.path, f.omit, plainOf(f.node, done)})
	}
	done[n] = p
	return p
}
