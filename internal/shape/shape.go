// Package shape knows a session type from the inside. It walks the type once,
// when a Manager is made, and what it finds serves every request: which fields
// cannot be stored, which bytes may be handed to a decoder, in which order the
// keys of a map stand, whether a value changed, and how two changes merge.
//
// Its rules for names, embedding and custom encodings are those of
// github.com/vmihailenco/msgpack/v5, since it answers for what that package
// does with the bytes.
package shape

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// A Shape is the plan of one struct type. It is immutable and may be shared by
// any number of goroutines.
type Shape struct {
	root        *node
	name        string // of the type
	home        Home
	msgp        bool // the type has msgp's generated methods and is named by their tags
	hasMaps     bool
	hasCodecs   bool
	fingerprint uint32
	bound       sizeBound
}

type kind uint8

const (
	boolean kind = iota
	signed
	unsigned
	float32Kind
	float64Kind
	text
	bytesKind
	byteArray
	instant
	list  // slice
	array // of fixed length
	mapping
	pointer
	record // struct
	custom // a type with a codec of its own
)

type node struct {
	kind   kind
	typ    reflect.Type
	bits   int // of integers
	elem   *node
	key    *node
	fields []field
	names  map[string]int // wire name, or alias, to the index in fields
	nilOK  bool           // a decoder takes nil for it
	cost   int64          // memory of one value, without what it points to

	json    bool // sessions.JSON, or a pointer to it
	rereads bool // it holds types with codecs of their own that are read back before a save
	foreign bool // the application cannot change the type
}

type field struct {
	name string // on the wire
	path []int
	node *node

	at   string // the path in Go's names, from a dot on
	tag  string // of msgpack
	omit bool   // left out if it is empty
}

// Msgp is what github.com/tinylib/msgp generates, known by its methods so that
// nobody has to import it.
type Msgp interface {
	MarshalMsg([]byte) ([]byte, error)
	UnmarshalMsg([]byte) ([]byte, error)
}

var (
	timeType = reflect.TypeFor[time.Time]()
	msgpType = reflect.TypeFor[Msgp]()
)

// Of walks the struct type t. Its error joins one error per field that cannot
// be stored or cannot come back, each with the field's path and how to fix it.
// The fields are those that the application can change: what is wrong inside of
// another module's type is one error, that of the field which holds it.
func Of(t reflect.Type) (*Shape, error) {
	name := cmp.Or(t.Name(), "T")
	if t.Kind() != reflect.Struct || t == timeType {
		return nil, fmt.Errorf("%v: a session is a struct; put the value into a field of one", t)
	}
	s := &Shape{name: name, home: HomeOf(t), msgp: reflect.PointerTo(t).Implements(msgpType)}
	if enc, dec := codecOf(t); enc != "" || dec != "" {
		return nil, fmt.Errorf("%s: has an encoding of its own (%s); a session's struct is stored field by field: remove the method, or wrap the type in a field", name, cmp.Or(enc, dec))
	}
	w := walker{shape: s, done: map[reflect.Type]*node{}, open: map[reflect.Type]bool{}}
	s.root = w.structNode(t, name)
	if len(w.problems) > 0 {
		return nil, joined(w.problems)
	}
	h := sha256.New()
	describe(h.Write, s.root)
	s.fingerprint = max(binary.BigEndian.Uint32(h.Sum(nil)), 1) // 0 is data that no program may trust
	if s.bound.add(s.root, 0, nil, false); s.msgp {
		s.bound.weight = unknown
	}
	return s, nil
}

// Fingerprint is equal for types with the same fields of the same kinds, and
// differs for others but for one in four billion.
func (s *Shape) Fingerprint() uint32 { return s.fingerprint }

// HasMaps reports whether Sort has work to do.
func (s *Shape) HasMaps() bool { return s.hasMaps && !s.msgp }

// HasCodecs reports whether there are types with codecs of their own in it.
func (s *Shape) HasCodecs() bool { return s.hasCodecs }

// IsMsgp reports whether the type brings msgp's generated methods.
func (s *Shape) IsMsgp() bool { return s.msgp }

type walker struct {
	shape    *Shape
	done     map[reflect.Type]*node
	open     map[reflect.Type]bool
	problems []problem
	field    reflect.Type // of the application's field that the walk is in
	inside   bool         // of a type that the application cannot change
}

// refuse adds a problem: a reason, what cannot be done or would be lost, and
// a fix.
func (w *walker) refuse(path, reason, fix string, args ...any) {
	w.problems = append(w.problems, problem{path: path, reason: fmt.Sprintf(reason, args...), fix: fix})
}

// node plans one type. It returns nil where it has refused it.
func (w *walker) node(t reflect.Type, path string) (n *node) {
	if n, ok := w.done[t]; ok {
		return n
	}
	if w.open[t] {
		w.refuse(path, "%v contains itself, and could hold a cycle, which never ends", "keep the ids of the others, or give the type a codec of its own", t)
		return nil
	}
	w.open[t] = true
	w.enter(t, path, func() { n = w.plan(t, path) })
	delete(w.open, t)
	if n != nil {
		n.foreign = w.shape.home.Foreign(t)
		w.done[t] = n
	}
	return n
}

// enter runs walk, which is to walk t. If the application cannot change t, and
// what it finds is inside of it, it becomes one problem: of the application's
// field, with a fix that the application can make.
func (w *walker) enter(t reflect.Type, path string, walk func()) {
	switch t.Kind() {
	case reflect.Interface, reflect.Func, reflect.Chan, reflect.UnsafePointer: // nothing is inside
		walk()
		return
	}
	if w.inside || !w.shape.home.Foreign(t) {
		walk()
		return
	}
	before := len(w.problems)
	w.inside = true
	walk()
	w.inside = false
	if found := w.problems[before:]; len(found) > 0 {
		w.problems = append(w.problems[:before], outside(found, t, w.field, path))
	}
}

func (w *walker) plan(t reflect.Type, path string) *node {
	n := &node{typ: t, cost: int64(t.Size())}
	if t == timeType {
		n.kind = instant
		return n
	}
	if enc, dec := codecOf(t); enc != "" || dec != "" {
		return w.customNode(n, enc, dec, path)
	}
	n.nilOK = true
	switch t.Kind() {
	case reflect.Bool:
		n.kind = boolean
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n.kind, n.bits = signed, t.Bits()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n.kind, n.bits = unsigned, t.Bits()
	case reflect.Float32:
		n.kind = float32Kind
	case reflect.Float64:
		n.kind = float64Kind
	case reflect.String:
		n.kind = text
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			n.kind = bytesKind
			return n
		}
		n.kind = list
		n.elem = w.node(t.Elem(), path+"[]")
		return holding(n, n.elem)
	case reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			n.kind = byteArray
			return n
		}
		n.kind = array
		n.elem = w.node(t.Elem(), path+"[]")
		return holding(n, n.elem)
	case reflect.Map:
		return w.mapNode(n, path)
	case reflect.Pointer:
		n.kind = pointer
		n.elem = w.node(t.Elem(), path)
		return holding(n, n.elem)
	case reflect.Struct:
		return w.structNode(t, path)
	case reflect.Interface:
		w.refuse(path, "%v cannot come back as the type that was stored in it", "use a concrete type", t)
		return nil
	default: // func, chan, complex, uintptr, unsafe.Pointer
		w.refuse(path, "%v cannot be stored", "leave it out with `msgpack:\"-\"`, or store what it is made from", t)
		return nil
	}
	return n
}

// customNode plans a type that msgpack encodes by methods of the type itself.
func (w *walker) customNode(n *node, enc, dec, path string) *node {
	n.kind = custom
	w.shape.hasCodecs = true
	if codecPairs[enc] != dec {
		w.refuse(path, "%v has %s and no %s that fits it", "add the method, or remove the other one", n.typ, cmp.Or(enc, dec), cmp.Or(codecPairs[enc], codecHalf(dec)))
		return nil
	}
	n.nilOK = true // some encode their zero value so
	if n.typ.Kind() == reflect.Interface {
		w.refuse(path, "%v cannot come back as the type that was stored in it", "use a concrete type", n.typ)
		return nil
	}
	if lost := lostBeside(n.typ, enc); lost != "" {
		w.refuse(path, "%v takes %s from an embedded field, so that its field %s would be lost", "give the embedded field a name", n.typ, enc, lost)
		return nil
	}
	if v := jsonValue(n.typ); v != nil {
		n.json = true
		if problem := notJSON(v); problem != "" {
			w.refuse(path, "encoding/json cannot carry %v both ways (%s)", "leave it out with `msgpack:\"-\"`, or keep what the value is made from", v, problem)
			return nil
		}
	} else if isValidEmptyLost(n.typ) {
		w.refuse(path, "%v writes a valid empty value as it writes an invalid one (%s), so that it would come back invalid", keepsValidEmpty(n.typ), n.typ, enc)
		w.problems[len(w.problems)-1].held = true
		return nil
	}
	if n.typ.Kind() == reflect.Pointer {
		n.cost += int64(n.typ.Elem().Size())
	}
	n.rereads = !readsAll[n.typ]
	return n
}

func (w *walker) mapNode(n *node, path string) *node {
	n.kind = mapping
	w.shape.hasMaps = true
	key, elem := n.typ.Key(), n.typ.Elem()
	refused := false
	if holdsPointer(key) {
		w.refuse(path, "a key of %v is compared by address and cannot come back", "use a value as the key, such as an id or Unix seconds", n.typ)
		refused = true
	}
	for _, t := range []reflect.Type{key, elem} {
		if needsAddress(t, 0) {
			w.refuse(path, "%v cannot be encoded in a map, since it or a part of it needs an address", fmt.Sprintf("use *%v", t), t)
			refused = true
		}
	}
	n.key = w.node(key, path+"[key]")
	n.elem = w.node(elem, path+"[]")
	if refused {
		return nil
	}
	return holding(n, n.key, n.elem)
}

func (w *walker) structNode(t reflect.Type, path string) *node {
	n := &node{kind: record, typ: t, names: map[string]int{}, nilOK: true, cost: int64(t.Size())}
	before := len(w.problems)
	w.open[t] = true
	w.addFields(n, t, nil, path)
	delete(w.open, t)
	if len(w.problems) > before {
		return nil
	}
	return n
}

// addFields plans the fields of t as fields of n, which is t itself or a struct
// that t is embedded in.
func (w *walker) addFields(n *node, t reflect.Type, prefix []int, path string) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := w.tagOf(f)
		if tag.odd && tag.name != "-" {
			w.refuse(path+"."+f.Name, "msgpack takes the tag %q apart in ways of its own", "use a name without quotes, colons, brackets and backslashes", f.Tag.Get("msgpack"))
			continue
		}
		if f.Name == "_msgpack" && (tag.has("as_array") || tag.has("asArray")) {
			w.refuse(path+"."+f.Name, "as_array loses everything as soon as a field is added", "remove the option")
		}
		if tag.name == "-" || f.Name == "_" || f.Name == "_msgpack" {
			continue
		}
		at := path + "." + f.Name
		index := append(slices.Clone(prefix), i)
		if !w.inside {
			w.field = f.Type
		}
		omit := tag.has("omitempty") || !w.shape.msgp && omitsAll(t, i)
		switch {
		case f.Anonymous && f.Type.Kind() == reflect.Pointer:
			w.refuse(at, "an embedded pointer comes back non-nil where it was nil", "embed the struct, or give the field a name")
		case f.Anonymous && !f.IsExported() && f.Type.Kind() != reflect.Struct, !f.Anonymous && !f.IsExported():
			w.refuse(at, "is not exported and would be lost", "export it, or tag it `msgpack:\"-\"`")
		case omit && !(f.Anonymous && w.inlines(f, tag)) && !w.shape.msgp && losesByOmitting(f.Type):
			w.refuse(at, "omitempty leaves out values of %v that are not empty, by what msgpack sees of them", "remove the option", f.Type)
		case tag.has("intern"):
			w.refuse(at, "the option intern breaks on hostile bytes", "remove the option")
		case f.Anonymous && w.inlines(f, tag):
			w.enter(f.Type, at, func() { w.embed(n, f, tag, index, at) })
		case f.Anonymous && !f.IsExported():
			w.refuse(at, "is not exported and would be lost", "give the field a name that is, or tag it `msgpack:\"-\"`")
		default:
			name := cmp.Or(tag.name, f.Name)
			child := w.node(f.Type, at)
			if child == nil {
				continue
			}
			k := len(n.fields)
			n.fields = append(n.fields, field{
				name: name, path: index, node: child,
				at: goPath(n.typ, index), tag: f.Tag.Get("msgpack"), omit: omit && !w.shape.msgp,
			})
			n.rereads = n.rereads || child.rereads
			w.claim(n, name, k, at)
			if tag.alias != "" {
				w.claim(n, tag.alias, k, at)
			}
		}
	}
}

// goPath is the path to a field of t in Go's names, from a dot on.
func goPath(t reflect.Type, index []int) (path string) {
	for _, i := range index {
		f := t.Field(i)
		path += "." + f.Name
		t = f.Type
	}
	return path
}

// omitsAll reports whether the option stands for all fields of t, up to the i-th.
func omitsAll(t reflect.Type, i int) bool {
	f, ok := t.FieldByName("_msgpack")
	return ok && len(f.Index) == 1 && f.Index[0] < i && parseTag(f.Tag.Get("msgpack")).has("omitempty")
}

var zeroerType = reflect.TypeFor[interface{ IsZero() bool }]()

// losesByOmitting reports whether msgpack takes more than the zero value of t for
// empty: it asks IsZero, which may look at a part or behind a pointer, and a struct
// with a codec of its own is empty to it if no field is exported.
func losesByOmitting(t reflect.Type) bool {
	if t == timeType {
		return false
	}
	return t.Implements(zeroerType) || t.Kind() == reflect.Struct && hasCodec(t)
}

// inlines reports whether the fields of the embedded f stand among those of the
// outer struct on the wire. Code that msgp generated nests them instead.
func (w *walker) inlines(f reflect.StructField, tag tag) bool {
	return f.Type.Kind() == reflect.Struct && f.Type != timeType && !tag.has("noinline") && !hasCodec(f.Type) && !w.shape.msgp
}

// embed plans the fields of an embedded struct as msgpack inlines them.
func (w *walker) embed(n *node, f reflect.StructField, tag tag, index []int, at string) {
	if w.open[f.Type] {
		w.refuse(at, "%v contains itself, and could hold a cycle, which never ends", "keep the ids of the others", f.Type)
		return
	}
	w.open[f.Type] = true
	w.addFields(n, f.Type, index, at)
	delete(w.open, f.Type)
	// msgpack also decodes the embedded struct as a whole under its own name.
	name := cmp.Or(tag.name, f.Name)
	if _, taken := n.names[name]; taken {
		w.refuse(at, "shares the msgpack name %q with another field, so that one of them would be lost", "rename one", name)
		return
	}
	n.names[name] = -1
}

func (w *walker) claim(n *node, name string, k int, at string) {
	if _, taken := n.names[name]; taken {
		w.refuse(at, "shares the msgpack name %q with another field, so that one of them would be lost", "rename one", name)
		return
	}
	n.names[name] = k
}

type tag struct {
	name, alias string
	options     []string
	odd         bool // more than a name and options, as msgpack's grammar has them
}

func (t tag) has(option string) bool { return slices.Contains(t.options, option) }

// tagOf reads the field's msgpack tag, or for a type with msgp's methods the
// msg tag that they were generated by.
func (w *walker) tagOf(f reflect.StructField) tag {
	value := f.Tag.Get("msgpack")
	if w.shape.msgp {
		if value != "-" {
			value = f.Tag.Get("msg")
		}
	}
	return parseTag(value)
}

func parseTag(value string) tag {
	name, rest, _ := strings.Cut(value, ",")
	t := tag{name: strings.TrimSpace(name), odd: strings.ContainsAny(name, `':\()`) || strings.ContainsAny(rest, `'\()`) || strings.TrimSpace(value) != value}
	for _, o := range strings.Split(rest, ",") {
		o = strings.TrimSpace(o)
		if alias, ok := strings.CutPrefix(o, "alias:"); ok {
			t.alias = strings.Trim(alias, "'")
		}
		o, _, _ = strings.Cut(o, ":") // msgpack takes omitempty:1 for omitempty
		t.options = append(t.options, o)
	}
	return t
}

// describe writes what the fingerprint is made of: names and kinds, in order.
func describe(write func([]byte) (int, error), n *node) {
	put := func(s string) { _, _ = write(append([]byte(s), 0)) }
	put(fmt.Sprint(n.kind, n.bits))
	if n.kind == array || n.kind == byteArray {
		put(fmt.Sprint(n.typ.Len()))
	}
	if n.kind == custom {
		put(n.typ.String())
	}
	if n.key != nil {
		describe(write, n.key)
	}
	if n.elem != nil {
		describe(write, n.elem)
	}
	put(fmt.Sprint(len(n.fields)))
	for _, f := range n.fields {
		put(f.name)
		describe(write, f.node)
	}
}

// holding returns n, which holds values of its children, or nil if one of them
// was refused.
func holding(n *node, children ...*node) *node {
	if slices.Contains(children, nil) {
		return nil
	}
	for _, c := range children {
		n.rereads = n.rereads || c.rereads
	}
	return n
}
