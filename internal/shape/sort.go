package shape

import (
	"bytes"
	"slices"
)

// Sort returns b, an encoding that Check takes, with the entries of every map
// in ascending order of their encoded keys, so that equal values have equal
// encodings. Inside of types with codecs of their own, and of fields that the
// shape does not know, nothing moves.
func (s *Shape) Sort(b []byte) []byte {
	return s.unlimited(b).sorted(make([]byte, 0, len(b)), s.root)
}

func (r *reader) sorted(out []byte, n *node) []byte {
	start := r.i
	if r.b[start] == 0xc0 {
		r.i++
		return append(out, 0xc0)
	}
	switch n.kind {
	case pointer:
		return r.sorted(out, n.elem)
	case list, array:
		l, _ := r.count(0x90, 0xdc, 1)
		out = append(out, r.b[start:r.i]...)
		for range l {
			out = r.sorted(out, n.elem)
		}
		return out
	case record:
		l, _ := r.count(0x80, 0xde, 2)
		out = append(out, r.b[start:r.i]...)
		for range l {
			at := r.i
			name, _ := r.name()
			k, known := n.names[string(name)]
			if !known {
				_ = r.skip(true)
			}
			out = append(out, r.b[at:r.i]...)
			if known {
				out = r.sorted(out, n.fields[k].node)
			}
		}
		return out
	case mapping:
		l, _ := r.count(0x80, 0xde, 2)
		out = append(out, r.b[start:r.i]...)
		return r.sortedEntries(out, n, l)
	case instant:
		_ = r.instant()
	default:
		_ = r.skip(false)
	}
	return append(out, r.b[start:r.i]...)
}

func (r *reader) sortedEntries(out []byte, n *node, l int) []byte {
	type entry struct{ start, value, end int }
	entries := make([]entry, l)
	first := len(out)
	for i := range entries {
		entries[i].start = len(out)
		out = r.sorted(out, n.key)
		entries[i].value = len(out)
		out = r.sorted(out, n.elem)
		entries[i].end = len(out)
	}
	byKey := func(a, b entry) int { return bytes.Compare(out[a.start:a.value], out[b.start:b.value]) }
	if slices.IsSortedFunc(entries, byKey) {
		return out
	}
	slices.SortFunc(entries, byKey)
	moved := make([]byte, 0, len(out)-first)
	for _, e := range entries {
		moved = append(moved, out[e.start:e.end]...)
	}
	return append(out[:first], moved...)
}
