package otelsession_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/contrib/otelsession"
)

type visitor struct {
	Visits int `msgpack:"visits"`
}

func Example() {
	// Use any exporter; this one prints.
	exporter, err := stdoutmetric.New(stdoutmetric.WithPrettyPrint())
	if err != nil {
		log.Fatal(err)
	}
	provider := metric.NewMeterProvider(metric.WithReader(metric.NewPeriodicReader(exporter)))
	defer provider.Shutdown(context.Background())
	otel.SetMeterProvider(provider)

	inst, err := otelsession.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		log.Fatal(err)
	}
	mgr, err := sessions.New(sessions.Config[visitor]{
		Keys:    keys,
		Store:   inst.Store(&sessions.MemoryStore{}),
		OnEvent: inst.OnEvent,
		Cookie:  sessions.Cookie{Insecure: true}, // for plain http on this machine only
	})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/", mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[visitor](r.Context())
		sess.Data.Visits++
		fmt.Fprintf(w, "Visit %d\n", sess.Data.Visits)
	})))
	log.Print(http.ListenAndServe("localhost:8080", nil))
}
