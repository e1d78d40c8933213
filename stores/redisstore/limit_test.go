package redisstore_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/redisstore"
)

type visitor struct {
	User string `msgpack:"user"`
}

// loginsAtOnce signs a user in 64 times at once, at two Managers with their own
// connections, and checks that at most 3 sessions are left and at least one.
type loginsAtOnce struct {
	managers []*sessions.Manager[visitor]
}

const mostLogins = 3

func newLoginsAtOnce(t testing.TB, addr string) *loginsAtOnce {
	t.Helper()
	keys, err := sessions.NewKeyring(sessions.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	x := new(loginsAtOnce)
	for range 2 {
		mgr, err := sessions.New(sessions.Config[visitor]{
			Keys:        keys,
			Store:       redisstore.New(connectTo(t, addr), redisstore.Options{}),
			Owner:       func(s *visitor) string { return s.User },
			MaxPerOwner: mostLogins,
			Logger:      slog.New(slog.DiscardHandler),
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				status := http.StatusConflict
				if !errors.Is(err, sessions.ErrLimit) {
					t.Errorf("a login: %v", err)
					status = http.StatusInternalServerError
				}
				w.WriteHeader(status)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		x.managers = append(x.managers, mgr)
	}
	return x
}

// round returns how many sessions of the user are left and how many logins were
// refused.
func (x *loginsAtOnce) round(t testing.TB, user string) (live, refused int) {
	t.Helper()
	const logins = 64
	login := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s := sessions.Get[visitor](r.Context())
		s.RegenerateID()
		s.Data.User = user
	})
	statuses := make([]int, logins)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range logins {
		wg.Go(func() {
			w := httptest.NewRecorder()
			<-start
			x.managers[i%2].Middleware(login).ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
			statuses[i] = w.Code
		})
	}
	close(start)
	wg.Wait()
	for _, status := range statuses {
		if status == http.StatusConflict {
			refused++
		}
	}
	for _, err := range x.managers[0].Sessions(t.Context(), user) {
		if err != nil {
			t.Fatal(err)
		}
		live++
	}
	if live < 1 || live > mostLogins {
		t.Errorf("after %d logins at once, %d of them refused: %d sessions live, want 1 to %d", logins, refused, live, mostLogins)
	}
	return live, refused
}

func TestTheLimitOfAnOwnerHoldsForLoginsAtOnce(t *testing.T) {
	t.Parallel()
	x := newLoginsAtOnce(t, testserver.Redis(t).Addr)
	for n := range 10 {
		live, refused := x.round(t, fmt.Sprint("user ", n))
		t.Logf("%d sessions live, %d logins were refused", live, refused)
	}
}

// BenchmarkLoginsAtOnce has a round per operation: -benchtime=1000x.
func BenchmarkLoginsAtOnce(b *testing.B) {
	x := newLoginsAtOnce(b, testserver.Redis(b).Addr)
	all, none, n := 0, 0, 0
	for b.Loop() {
		live, refused := x.round(b, fmt.Sprint("user ", n))
		all, none, n = all+live, none+refused, n+1
	}
	b.ReportMetric(float64(all)/float64(n), "live/op")
	b.ReportMetric(float64(none)/float64(n), "refused/op")
}
