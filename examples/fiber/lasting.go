package main

import (
	"context"
	"net/http"
)

// lasting gives a handler of net/http behind adaptor.HTTPHandler a context that
// stays its own. That of fasthttp goes to the next request while this one's
// connection, if it was taken over, or its stream still lasts, and a context
// derived from it reads it when the server shuts down.
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
