package main

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/stores/redisstore"
)

// breaks are the faults of the application that the flag -break makes. The package
// documentation has what each does.
var breaks = append([]string{"merge", "limit", "silent", "schema", "panics", "exits", "abrupt", "streams", "cache"}, storeBreaks...)

// storeBreaks are those of a brokenStore.
var storeBreaks = []string{"versions", "revive", "touch", "deaf"}

func breakConfig[T any](c *sessions.Config[T], fault string) {
	switch fault {
	case "merge":
		c.Merge = func(_, mine, _ T) (T, error) { return mine, nil }
	case "limit":
		c.MaxPerOwner--
	case "silent":
		report := c.OnEvent
		c.OnEvent = func(ctx context.Context, e sessions.Event) {
			if e.Kind != sessions.EventEnded {
				report(ctx, e)
			}
		}
	}
}

func breakHandler(h http.Handler, fault string) http.Handler {
	var cache answerCache
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case fault == "panics" && rand.IntN(50) == 0:
			panic(http.ErrAbortHandler)
		case fault == "exits" && rand.IntN(200) == 0:
			os.Exit(0)
		case fault == "streams" && r.URL.Path == "/stream":
			ctx, cancel := context.WithTimeout(r.Context(), time.Second)
			defer cancel()
			r = r.WithContext(ctx)
		case fault == "cache" && r.URL.Path == "/me":
			if answer := cache.last.Load(); answer != nil && rand.IntN(20) == 0 {
				_, _ = w.Write(*answer)
				return
			}
			w = cachedWriter{w, &cache}
		}
		h.ServeHTTP(w, r)
	})
}

// An answerCache has the last answer to any user, as has a proxy that ignores
// Cache-Control and Vary.
type answerCache struct{ last atomic.Pointer[[]byte] }

type cachedWriter struct {
	http.ResponseWriter
	cache *answerCache
}

func (w cachedWriter) Write(p []byte) (int, error) {
	if w.Header().Get("Content-Type") == "application/json" {
		answer := slices.Clone(p)
		w.cache.last.Store(&answer)
	}
	return w.ResponseWriter.Write(p)
}

// A brokenStore has one of the storeBreaks.
type brokenStore struct {
	*redisstore.Store
	fault  string
	loaded *sync.Map // records by id, for touch
}

// breakStore returns the store with a fault of storeBreaks, and else the store itself.
func breakStore(s sessions.Store, fault string) sessions.Store {
	if redis, ok := s.(*redisstore.Store); ok && slices.Contains(storeBreaks, fault) {
		return brokenStore{redis, fault, new(sync.Map)}
	}
	return s
}

func (s brokenStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	rec, err := s.Store.Load(ctx, id)
	if err == nil && s.fault == "touch" {
		s.loaded.Store(id, rec)
	}
	return rec, err
}

func (s brokenStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	version, err := s.Store.Update(ctx, id, rec)
	switch {
	case s.fault == "versions" && errors.Is(err, sessions.ErrConflict):
		// With the newest version, whichever the caller has loaded, changes are lost.
		newest, err := s.Store.LoadNewest(ctx, id)
		if err != nil {
			return 0, err
		}
		rec.Version = newest.Version
		return s.Store.Update(ctx, id, rec)
	case s.fault == "revive" && errors.Is(err, sessions.ErrNotFound):
		return s.Store.Create(ctx, id, rec)
	}
	return version, err
}

func (s brokenStore) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	err := s.Store.Touch(ctx, id, expires)
	if rec, ok := s.loaded.Load(id); ok && errors.Is(err, sessions.ErrNotFound) {
		_, err = s.Create(ctx, id, rec.(sessions.Record))
	}
	return err
}

func (s brokenStore) Changes(ctx context.Context) iter.Seq2[sessions.ID, error] {
	if s.fault != "deaf" {
		return s.Store.Changes(ctx)
	}
	return func(func(sessions.ID, error) bool) { <-ctx.Done() }
}
