package main

import (
	"fmt"

	"github.com/typedsessions/sessions"
)

const storeNames = "cookie or memory"

// openStore returns the store that the flag -store names. No store at all, for
// "cookie", means that each visitor's browser carries his whole session.
func openStore(name string) (sessions.Store, error) {
	switch name {
	case "cookie":
		return nil, nil
	case "memory":
		// Anybody can start a session by filling a cart, so there is a bound.
		return &sessions.MemoryStore{Max: 100_000}, nil
	}
	return nil, fmt.Errorf("-store %q is not known, need %s", name, storeNames)
}
