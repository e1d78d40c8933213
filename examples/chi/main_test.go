package main

import (
	"net/http"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/internal/demo"
	"github.com/typedsessions/sessions/examples/internal/demotest"
)

func TestProgram(t *testing.T) { demotest.Run(t, demotest.HTTP(newHandler)) }

func TestWrappersOfChiMayStandOnEitherSide(t *testing.T) {
	wrappers := chi.Middlewares{
		middleware.Compress(5),
		middleware.RequestLogger(&middleware.DefaultLogFormatter{Logger: quiet{}}),
	}
	t.Run("outside", func(t *testing.T) {
		demotest.Run(t, demotest.HTTP(func(mgr *sessions.Manager[AppSession], tick demo.Ticker) http.Handler {
			return wrappers.Handler(newHandler(mgr, tick))
		}))
	})
	t.Run("inside", func(t *testing.T) {
		demotest.Run(t, demotest.HTTP(func(mgr *sessions.Manager[AppSession], tick demo.Ticker) http.Handler {
			return mgr.Middleware(wrappers.Handler(newHandler(mgr, tick)))
		}))
	})
}

type quiet struct{}

func (quiet) Print(...any) {}

func TestPanicStoresNothingIfTheRecovererIsOutside(t *testing.T) {
	mgr := demotest.NewManager(t)
	for _, tt := range []struct {
		name   string
		use    chi.Middlewares
		stored bool
	}{
		{"outside", chi.Middlewares{middleware.Recoverer, mgr.Middleware}, false},
		{"inside", chi.Middlewares{mgr.Middleware, middleware.Recoverer}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := demotest.Get(t, tt.use.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				sessions.Get[AppSession](r.Context()).Data.Messages = 1
				panic("half done")
			}))
			if stored := len(res.Cookies()) > 0; res.StatusCode != http.StatusInternalServerError || stored != tt.stored {
				t.Errorf("got status %d and stored: %t, want 500 and %t", res.StatusCode, stored, tt.stored)
			}
		})
	}
}
