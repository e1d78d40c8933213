package shop

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/filestore"
)

// StoreNames are the values of the flag -store that [OpenStore] knows.
const StoreNames = "cookie, memory or file:FOLDER"

// OpenStore returns the store that the flag -store names. It is nil for
// "cookie": the browser of each visitor then carries the whole session. A store
// of files is swept until ctx is done.
func OpenStore(ctx context.Context, name string) (sessions.Store, error) {
	kind, rest, _ := strings.Cut(name, ":")
	switch kind {
	case "cookie":
		return nil, nil
	case "memory":
		// Anybody can start a session by filling a cart, so there is a bound.
		return &sessions.MemoryStore{Max: 100_000}, nil
	case "file":
		store, err := filestore.New(rest)
		if err != nil {
			return nil, fmt.Errorf("-store: %w", err)
		}
		go Sweep(ctx, store)
		return store, nil
	}
	// The name may be a URL with a password, so the error has only its kind.
	return nil, fmt.Errorf("-store %q is not known here, need %s; examples/stores has the others", kind, StoreNames)
}

// Sweep removes expired sessions from store every ten minutes until ctx is done.
// It is for the stores whose engine does not remove them by itself.
func Sweep(ctx context.Context, store interface {
	Sweep(context.Context) (int, error)
}) {
	for tick := time.Tick(10 * time.Minute); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			if _, err := store.Sweep(ctx); err != nil {
				log.Printf("sweep expired sessions: %v", err)
			}
		}
	}
}
