package shape_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions/internal/shape"
)

type (
	// heavy is all that Check charges for, and as much of it as can be had for
	// a byte: empty lists of lists, and zero values of what is large in memory.
	heavy struct {
		Lists [][][]int64
		Wide  [][7]int64
		Ptrs  []*[9]string
		PP    [2]**inner
		Texts []string
		Raw   [][]byte
		In    []inner
		Arr   []([3]byte)
		Own   inner
	}
	timed struct {
		At    time.Time
		Inner struct{ At time.Time }
		Base2
	}
	Base2 struct{ Till time.Time }
)

func TestWhatFitsWithinItsBoundPassesCheck(t *testing.T) {
	t.Run("plain", bounded[plain])
	t.Run("heavy", bounded[heavy])
	t.Run("timed", bounded[timed])
}

func bounded[T any](t *testing.T) {
	n := 0
	property[T](func(t *testing.T, s *shape.Shape, r *rand.Rand) {
		p := randomOf[T](r)
		b := encode(t, p)
		if !s.FitsWithin(value(p), len(b)) {
			return
		}
		n++
		if err := s.Check(b); err != nil {
			t.Errorf("%+v fits within its bound, and Check says %v", p, err)
		}
	})(t)
	if n < rounds/2 {
		t.Errorf("%d of %d small values fit within their bound, want most", n, rounds)
	}
}

// Each is the costliest value of its kind that has its size.
func TestWhatTakesTooMuchMemoryFitsWithinNoBound(t *testing.T) {
	for name, grow := range map[string]func(h *heavy, n int){
		"empty lists":     func(h *heavy, n int) { h.Lists = repeated([][]int64{}, n) },
		"lists of lists":  func(h *heavy, n int) { h.Lists = [][][]int64{repeated([]int64{}, n)} },
		"arrays":          func(h *heavy, n int) { h.Wide = make([][7]int64, n) },
		"pointers":        func(h *heavy, n int) { h.Ptrs = repeated(new([9]string), n) },
		"texts":           func(h *heavy, n int) { h.Texts = make([]string, n) },
		"bytes":           func(h *heavy, n int) { h.Raw = make([][]byte, n) },
		"arrays of bytes": func(h *heavy, n int) { h.Arr = make([][3]byte, n) },
	} {
		t.Run(name, func(t *testing.T) {
			s := of[heavy](t)
			refused := false
			for n := 1; n <= 1<<17; n *= 2 {
				var h heavy
				grow(&h, n)
				b := encode(t, &h)
				err := s.Check(b)
				refused = refused || err != nil
				if s.FitsWithin(value(&h), len(b)) && err != nil {
					t.Errorf("%d of them in %d bytes fit within their bound, and Check says %v", n, len(b), err)
				}
			}
			if strings.Contains(name, "lists") && !refused {
				t.Error("Check refused none; the test shows nothing")
			}
		})
	}
}

func repeated[E any](e E, n int) []E { return slices.Repeat([]E{e}, n) }

func TestATimeThatCannotBeStoredFitsWithinNoBound(t *testing.T) {
	s := of[timed](t)
	far := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, put := range map[string]func(*timed){
		"in the struct":          func(x *timed) { x.At = far },
		"in a struct in it":      func(x *timed) { x.Inner.At = far },
		"in an embedded one":     func(x *timed) { x.Till = far },
		"before the year 1":      func(x *timed) { x.At = time.Time{}.Add(-time.Nanosecond) },
		"the last one is stored": func(x *timed) { x.At = far.Add(-time.Nanosecond) },
	} {
		var x timed
		put(&x)
		b := encode(t, &x)
		if got, want := s.FitsWithin(value(&x), len(b)), s.Check(b) == nil; got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestOnlyCheckJudgesMapsCodecsAndScatteredTimes(t *testing.T) {
	for name, s := range map[string]*shape.Shape{
		"a map":               of[struct{ M map[string]int }](t),
		"a codec":             of[struct{ A struct{ B all } }](t),
		"times in a list":     of[struct{ L []time.Time }](t),
		"a time by a pointer": of[struct{ P *time.Time }](t),
		"structs with times":  of[struct{ L []struct{ T time.Time } }](t),
	} {
		if s.FitsWithin(value(new(struct{})), 3) {
			t.Errorf("%s: within its bound without a check", name)
		}
	}
}
