package codec

import (
	"errors"
	"fmt"
	"math"
	"reflect"

	"github.com/typedsessions/sessions/internal/shape"
)

// An Upgrade turns data of one schema version into data of the next.
type Upgrade struct {
	Version   int // of Old
	Old, Next reflect.Type
	Apply     func(old any) (any, error) // of pointers

	plan plan // of Old
}

func (c *Codec) upgrade(data any, version int, b []byte) (_ []byte, err error) {
	if version < c.first || len(c.upgrades) == 0 {
		return nil, fmt.Errorf("it has schema version %d, and Config.Upgrades has none from there", version)
	}
	defer Caught(&err, "an upgrade")
	u := &c.upgrades[version-c.first]
	old, err := u.plan.decodeNew(b)
	if err != nil {
		return nil, err
	}
	for i := version - c.first; i < len(c.upgrades); i++ {
		if old, err = c.upgrades[i].Apply(old); err != nil {
			return nil, fmt.Errorf("upgrade from version %d: %w", c.first+i, err)
		}
	}
	Set(data, old)
	return c.Append(nil, data)
}

// setUpgrades checks the chain and puts it in order.
func (c *Codec) setUpgrades(upgrades []Upgrade) error {
	var errs []error
	if c.Version < 0 || c.Version > math.MaxUint16 {
		errs = append(errs, fmt.Errorf("Config.Version: %d, need 0 to %d", c.Version, math.MaxUint16))
	}
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("Config.Upgrades: "+format, args...))
	}
	byVersion := map[int]Upgrade{}
	c.first = c.Version
	for _, u := range upgrades {
		switch _, twice := byVersion[u.Version]; {
		case u.Apply == nil:
			refuse("one was not made by From; use From")
			continue
		case twice:
			refuse("two from version %d; remove one", u.Version)
			continue
		case u.Version < 0 || u.Version >= c.Version:
			refuse("one from version %d, need 0 to %d, below Config.Version", u.Version, c.Version-1)
			continue
		}
		s, err := shape.Of(u.Old)
		if err != nil {
			refuse("from version %d: %w", u.Version, err)
			continue
		}
		u.plan = plan{typ: u.Old, shape: s}
		byVersion[u.Version] = u
		c.first = min(c.first, u.Version)
	}
	for v := c.first; v < min(c.Version, math.MaxUint16); v++ {
		u, ok := byVersion[v]
		if !ok {
			refuse("none from version %d, though one from version %d must lead to Config.Version %d; add one", v, c.first, c.Version)
			continue
		}
		want := c.typ
		if next, ok := byVersion[v+1]; ok {
			want = next.Old
		}
		if u.Next != want {
			refuse("that from version %d gives %v, need %v, the type of version %d", v, u.Next, want, v+1)
		}
		c.upgrades = append(c.upgrades, u)
	}
	return errors.Join(errs...)
}
