package benchmarks

import "time"

//go:generate go tool msgp -io=false -tests=false
//msgp:ignore GeneratedFree

// A Generated is a Shop whose encoding github.com/tinylib/msgp has generated.
type Generated struct {
	UserID   int       `msg:"uid" msgpack:"uid" validate:"gte=0"`
	Name     string    `msg:"name" msgpack:"name" validate:"max=100"`
	Role     string    `msg:"role" msgpack:"role" validate:"omitempty,oneof=admin user"`
	Cart     []int     `msg:"cart" msgpack:"cart" validate:"max=100,dive,gt=0"`
	LastSeen time.Time `msg:"seen" msgpack:"seen"`
}

// A GeneratedFree is the same without rules to check, and has the same encoding.
type GeneratedFree struct {
	UserID   int       `msg:"uid" msgpack:"uid"`
	Name     string    `msg:"name" msgpack:"name"`
	Role     string    `msg:"role" msgpack:"role"`
	Cart     []int     `msg:"cart" msgpack:"cart"`
	LastSeen time.Time `msg:"seen" msgpack:"seen"`
}

func (s *GeneratedFree) MarshalMsg(b []byte) ([]byte, error) { return (*Generated)(s).MarshalMsg(b) }

func (s *GeneratedFree) UnmarshalMsg(b []byte) ([]byte, error) {
	return (*Generated)(s).UnmarshalMsg(b)
}

func (s *GeneratedFree) Msgsize() int { return (*Generated)(s).Msgsize() }
