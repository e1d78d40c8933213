package shape

import "reflect"

// Merge brings into theirs what changed from base to mine: field by field,
// structs by their fields and maps by their keys, everything else whole. Where
// both sides changed the same, mine stands. All three are addressable values of
// the shape's type that share no memory; mine is not to be used afterwards.
func (s *Shape) Merge(base, mine, theirs reflect.Value) { merge(s.root, base, mine, theirs) }

func merge(n *node, base, mine, theirs reflect.Value) {
	switch n.kind {
	case record:
		for i := range n.fields {
			f := &n.fields[i]
			merge(f.node, fieldOf(base, f.path), fieldOf(mine, f.path), fieldOf(theirs, f.path))
		}
	case mapping:
		mergeMaps(n, base, mine, theirs)
	default:
		if !equal(n, base, mine) {
			adopt(n, theirs, mine)
		}
	}
}

func mergeMaps(n *node, base, mine, theirs reflect.Value) {
	for it := mine.MapRange(); it.Next(); {
		was := base.MapIndex(it.Key())
		if was.IsValid() && equal(n.elem, was, it.Value()) {
			continue
		}
		if theirs.IsNil() {
			theirs.Set(reflect.MakeMap(n.typ))
		}
		theirs.SetMapIndex(it.Key(), it.Value())
	}
	for it := base.MapRange(); it.Next(); {
		if !mine.MapIndex(it.Key()).IsValid() && !theirs.IsNil() {
			theirs.SetMapIndex(it.Key(), reflect.Value{})
		}
	}
}

func equal(n *node, a, b reflect.Value) bool { return hash(n, a, k2) == hash(n, b, k2) }

// Adopt brings what is stored of from into to, and leaves everything else of to
// as it is, also behind pointers. It follows no pointer of to in place: what
// else points there does not change.
func (s *Shape) Adopt(to, from reflect.Value) { adopt(s.root, to, from) }

func adopt(n *node, to, from reflect.Value) {
	switch {
	case n.kind == record:
		for i := range n.fields {
			f := &n.fields[i]
			adopt(f.node, fieldOf(to, f.path), fieldOf(from, f.path))
		}
	case n.kind == pointer && !to.IsNil() && !from.IsNil():
		fresh := reflect.New(n.elem.typ)
		fresh.Elem().Set(to.Elem())
		adopt(n.elem, fresh.Elem(), from.Elem())
		to.Set(fresh)
	default:
		to.Set(from)
	}
}
