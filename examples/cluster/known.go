package main

import (
	"slices"
	"time"
)

// A field is what a user knows of a field of the cart.
type field struct {
	values  []written // acknowledged; it holds the last one
	pending []written // each may be stored once, since its outcome is unknown
}

type written struct {
	value string
	at    time.Time
}

const remembered = 50

func (f *field) wrote(value string, at time.Time, acknowledged bool) {
	if acknowledged {
		f.values = append(f.values, written{value, at})
		f.values = f.values[max(0, len(f.values)-remembered):]
	} else {
		f.pending = append(f.pending, written{value, at})
	}
}

// last returns the last acknowledged value.
func (f *field) last() string {
	if len(f.values) == 0 {
		return ""
	}
	return f.values[len(f.values)-1].value
}

// see takes the value that a request has read; begun is when the request began. It
// returns the times of the acknowledged changes that are lost; ok is false if the field
// cannot hold the value.
func (f *field) see(value string, begun time.Time) (lost []time.Time, ok bool) {
	ok = true
	last := len(f.values) - 1
	at := slices.IndexFunc(f.values, func(w written) bool { return w.value == value })
	pending := slices.IndexFunc(f.pending, func(w written) bool { return w.value == value })
	switch {
	case value == "" && last < 0, at >= 0 && at == last:
	case pending >= 0:
		f.values = append(f.values, f.pending[pending])
		f.pending = slices.Delete(f.pending, pending, pending+1)
	case at >= 0 || value == "":
		for _, w := range f.values[at+1:] {
			lost = append(lost, w.at)
		}
		f.values = f.values[:at+1]
	default:
		ok = false
	}
	f.pending = slices.DeleteFunc(f.pending, func(w written) bool { return begun.After(w.at.Add(settleTime)) })
	return lost, ok
}

// A counter is what a user knows of the count.
type counter struct {
	sum     int
	added   []time.Time // when the last additions were acknowledged
	pending []time.Time // each may count once, since its outcome is unknown
}

func (n *counter) add(at time.Time, acknowledged bool) {
	if acknowledged {
		n.sum++
		n.added = append(n.added, at)
		n.added = n.added[max(0, len(n.added)-remembered):]
	} else {
		n.pending = append(n.pending, at)
	}
}

// see takes the count that a request has read, as field.see does.
func (n *counter) see(count int, begun time.Time) (lost []time.Time, ok bool) {
	ok = count <= n.sum+len(n.pending) && n.sum-count <= len(n.added)
	switch {
	case !ok:
	case count > n.sum:
		n.added = append(n.added, n.pending[:count-n.sum]...)
		n.pending = n.pending[count-n.sum:]
	case count < n.sum:
		lost = slices.Clone(n.added[len(n.added)-(n.sum-count):])
		n.added = n.added[:len(n.added)-len(lost)]
	}
	n.sum = count
	n.pending = slices.DeleteFunc(n.pending, func(at time.Time) bool { return begun.After(at.Add(settleTime)) })
	return lost, ok
}
