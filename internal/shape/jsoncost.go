package shape

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// affordable reports whether encoding/json reads b, which is JSON, into a t with
// no more memory than [Budget], and no deeper than maxDepth. It decodes on after
// a value that does not fit, so that two bytes may make an element of any size.
func affordable(b []byte, t reflect.Type) bool {
	c := jsonCost{b: b, left: Budget(len(b))}
	c.value(t)
	return c.left >= 0
}

// A jsonCost walks JSON beside the type that it is read into.
type jsonCost struct {
	b     []byte
	i     int
	depth int
	left  int64
}

var anyType = reflect.TypeFor[any]()

func (c *jsonCost) space() {
	for c.i < len(c.b) && strings.IndexByte(" \t\r\n", c.b[c.i]) >= 0 {
		c.i++
	}
}

// value reads over one value. With a nil t, nothing is made of it.
func (c *jsonCost) value(t reflect.Type) {
	c.space()
	for t != nil && t.Kind() == reflect.Pointer {
		if t = t.Elem(); c.b[c.i] != 'n' {
			c.left -= 16 + int64(t.Size())
		}
	}
	if t != nil && t != anyType {
		if _, reads := jsonMethods(t); reads {
			t = nil // it does what it wants
		}
	}
	switch c.b[c.i] {
	case '{', '[':
		if c.depth++; c.depth > maxDepth {
			c.i, c.left = len(c.b), -1
			return
		}
		if c.b[c.i] == '{' {
			c.object(t)
		} else {
			c.list(t)
		}
		c.depth--
	case '"':
		c.left -= int64(len(c.text())) + 16
	default:
		for c.i < len(c.b) && strings.IndexByte(",]} \t\r\n", c.b[c.i]) < 0 {
			c.i++
		}
		c.left -= 16
	}
}

// text reads over a string and returns it as it stands, with its quotes.
func (c *jsonCost) text() []byte {
	start := c.i
	for c.i++; c.b[c.i] != '"'; c.i++ {
		if c.b[c.i] == '\\' {
			c.i++
		}
	}
	c.i++
	return c.b[start:c.i]
}

// each calls f for each element, up to the end of a list or an object.
func (c *jsonCost) each(f func()) (l int64) {
	for c.i++; c.i < len(c.b); l++ {
		if c.space(); c.b[c.i] == ']' || c.b[c.i] == '}' {
			c.i++
			return l
		}
		f()
		if c.space(); c.i < len(c.b) && c.b[c.i] == ',' {
			c.i++
		}
	}
	return l
}

func (c *jsonCost) list(t reflect.Type) {
	var elem reflect.Type
	size := int64(0)
	switch {
	case t == nil:
	case t == anyType:
		elem, size = anyType, int64(anyType.Size())
	case t.Kind() == reflect.Slice:
		elem, size = t.Elem(), int64(t.Elem().Size())
	case t.Kind() == reflect.Array:
		elem = t.Elem()
	}
	l := c.each(func() { c.value(elem) })
	c.left -= 64 + 5*l*size // slices grow by a fourth
}

func (c *jsonCost) object(t reflect.Type) {
	member := func([]byte) (_ reflect.Type) { return nil }
	key, elem := int64(0), int64(0)
	switch {
	case t == nil:
	case t == anyType:
		member = func([]byte) reflect.Type { return anyType }
		key, elem = 16, 16
	case t.Kind() == reflect.Map:
		member = func([]byte) reflect.Type { return t.Elem() }
		key, elem = int64(t.Key().Size()), int64(t.Elem().Size())
	case t.Kind() == reflect.Struct:
		member = membersOf(t).find
	}
	l := c.each(func() {
		name := c.text()
		c.space()
		c.i++ // the colon
		c.value(member(name))
	})
	if key > 0 {
		c.left -= mapCost(l, key, elem)
	}
}

// members are the fields of a struct that encoding/json may fill.
type members []struct {
	name string
	typ  reflect.Type
}

var allMembers sync.Map // of members by type

func membersOf(t reflect.Type) members {
	if m, ok := allMembers.Load(t); ok {
		return m.(members)
	}
	var m members
	seen := map[reflect.Type]bool{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || seen[t] {
			return
		}
		seen[t] = true
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !jsonField(f) {
				continue
			}
			if f.Anonymous && name == "" {
				walk(f.Type)
			}
			if name == "" {
				name = f.Name
			}
			m = append(m, struct {
				name string
				typ  reflect.Type
			}{name, f.Type})
		}
	}
	walk(t)
	allMembers.Store(t, m)
	return m
}

// find returns the type of the member of a name, which is in quotes; of several
// that it may stand for, the largest.
func (m members) find(quoted []byte) (t reflect.Type) {
	name := string(quoted[1 : len(quoted)-1])
	if strings.Contains(name, `\`) && json.Unmarshal(quoted, &name) != nil {
		return nil
	}
	for _, f := range m {
		if strings.EqualFold(f.name, name) && (t == nil || f.typ.Size() > t.Size()) {
			t = f.typ
		}
	}
	return t
}
