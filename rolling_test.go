package sessions_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"testing"

	"github.com/typedsessions/sessions"
)

// A rolling deployment of a new version: processes of both serve the same visitor.
func TestAnOlderProgramLeavesWhatANewerOneHasStored(t *testing.T) {
	type v1 struct{ N int }
	type v2 struct {
		N    int
		Note string
	}
	for _, tt := range []struct {
		name      string
		late      string // what the older program does, when the newer has stored the session
		during    string // what the newer program does during that
		want      string // that the newer program shows afterwards
		discarded int
	}{
		{"a read shows a new session", "/1/read", "", "N=2 note=two", 0},
		{"a change meanwhile is discarded, with an event", "/1/write", "/2/write", "N=2 note=two", 1},
		{"a message meanwhile is discarded, with an event", "/1/flash", "/2/write", "N=2 note=two", 1},
		{"a sign-out ends the session", "/1/destroy", "", "N=0 note=", 0},
		{"a sign-out meanwhile ends the session", "/1/destroy", "/2/write", "N=0 note=", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys, store, told := newKeys(t), new(sessions.MemoryStore), new(events)
			older, err := sessions.New(sessions.Config[v1]{Keys: keys, Store: store, OnEvent: told.add, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			newer, err := sessions.New(sessions.Config[v2]{Keys: keys, Store: store, Version: 1, Upgrades: []sessions.Upgrade{
				sessions.From(0, func(old v1) (v2, error) { return v2{N: old.N}, nil }),
			}})
			if err != nil {
				t.Fatal(err)
			}
			var visit func(string) string
			site := http.NewServeMux()
			site.Handle("/1/", older.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s := sessions.Get[v1](r.Context())
				if r.URL.Path != "/1/first" && tt.during != "" {
					visit(tt.during)
				}
				switch r.URL.Path {
				case "/1/first", "/1/write":
					s.Data.N++
				case "/1/flash":
					s.Flash("info", "hello")
				case "/1/destroy":
					s.Destroy()
				}
				fmt.Fprintf(w, "N=%d %s", s.Data.N, s.Reason())
			})))
			site.Handle("/2/", newer.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s := sessions.Get[v2](r.Context())
				if r.URL.Path == "/2/write" {
					s.Data.N, s.Data.Note = 2, "two"
				}
				fmt.Fprintf(w, "N=%d note=%s", s.Data.N, s.Data.Note)
			})))
			visit = visitor(site)
			visit("/1/first")
			if tt.during == "" {
				visit("/2/write")
			}
			got := visit(tt.late)
			if want := "N=0 " + string(sessions.ReasonNewer); tt.late == "/1/read" && got != want {
				t.Errorf("the older program shows %q, want %q", got, want)
			}
			if got := visit("/2/read"); got != tt.want {
				t.Errorf("the newer program shows %q, want %q", got, tt.want)
			}
			discarded := told.of(sessions.EventDiscarded)
			for _, e := range discarded {
				if e.Reason != sessions.ReasonNewer {
					t.Errorf("got the event %+v, want the reason %q", e, sessions.ReasonNewer)
				}
			}
			if len(discarded) != tt.discarded {
				t.Errorf("got the events %+v, want %d discarded", told.all, tt.discarded)
			}
		})
	}
}
