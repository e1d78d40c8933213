package main

import (
	"context"
	"net/http"
)

// lasting gives a handler of net/http behind adaptor.HTTPHandler a context of its
// own. fasthttp reuses its context for the next request while the stream or the
// hijacked connection of this one is still open, and a context derived from it
// would read it when the server shuts down.
func lasting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shutdown := r.Context().Done()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			select {
			case <-shutdown:
				cancel()
			case <-ctx.Done():
			}
		}()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
