package benchmarks

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/typedsessions/sessions"
)

// ours returns an app with the session type T, which has the fields of a Shop. The
// function shop converts it.
func ours[T any](tb testing.TB, config sessions.Config[T], shop func(*T) *Shop) app {
	tb.Helper()
	keys, err := sessions.NewKeyring(secret)
	if err != nil {
		tb.Fatal(err)
	}
	config.Keys = keys
	config.Logger = slog.New(slog.DiscardHandler)
	m, err := sessions.New(config)
	if err != nil {
		tb.Fatal(err)
	}
	serve := func(h func(exchange)) http.Handler { return m.Middleware(serveHTTP(h)) }
	a := newHTTPApp(serve,
		func(x exchange) (Shop, bool) {
			s := sessions.Get[T](x.r.Context())
			return *shop(&s.Data), !s.IsNew()
		},
		func(x exchange, n int) { shop(&sessions.Get[T](x.r.Context()).Data).UserID = n },
		func(x exchange, data Shop) {
			s := sessions.Get[T](x.r.Context())
			s.RegenerateID()
			*shop(&s.Data) = data
		})
	a.forgets = config.Store != nil
	return a
}

func oursPlain(tb testing.TB, config sessions.Config[Shop]) app {
	return ours(tb, config, func(s *Shop) *Shop { return s })
}

func oursGenerated(tb testing.TB, config sessions.Config[Generated]) app {
	return ours(tb, config, func(s *Generated) *Shop { return (*Shop)(s) })
}

func oursUnruled(tb testing.TB, config sessions.Config[FreeShop]) app {
	return ours(tb, config, func(s *FreeShop) *Shop { return (*Shop)(s) })
}
