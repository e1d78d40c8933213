package sessions_test

import (
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// A chaosStore takes its time, fails some operations, and of others that it has
// carried out it loses the answer.
type chaosStore struct {
	sessions.OwnerStore
	mu     sync.Mutex
	random *rand.Rand
	calm   bool
}

var errChaos = errors.New("the store is down")

func (c *chaosStore) draw(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calm {
		return n - 1
	}
	return c.random.IntN(n)
}

func (c *chaosStore) setCalm(calm bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calm = calm
}

func (c *chaosStore) wait(ctx context.Context) error {
	select {
	case <-time.After(time.Duration(c.draw(20)) * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answered is what comes of an operation of the store behind.
func answered[V any](ctx context.Context, c *chaosStore, operate func(context.Context) (V, error)) (v V, err error) {
	if err := c.wait(ctx); err != nil {
		return v, err
	}
	switch c.draw(12) {
	case 0:
		return v, errChaos
	case 1: // carried out, but nobody hears of it
		_, _ = operate(ctx)
		return v, errors.Join(errChaos, c.wait(ctx))
	case 2: // carried out later, when whoever asked has given up
		go func() {
			_ = c.wait(context.Background())
			_, _ = operate(context.WithoutCancel(ctx))
		}()
		return v, errChaos
	}
	v, err = operate(ctx)
	return v, errors.Join(err, c.wait(ctx))
}

func (c *chaosStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	return answered(ctx, c, func(ctx context.Context) (sessions.Record, error) { return c.OwnerStore.Load(ctx, id) })
}

func (c *chaosStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	rec.Data = bytes.Clone(rec.Data)
	return answered(ctx, c, func(ctx context.Context) (uint64, error) { return c.OwnerStore.Create(ctx, id, rec) })
}

func (c *chaosStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	rec.Data = bytes.Clone(rec.Data)
	return answered(ctx, c, func(ctx context.Context) (uint64, error) { return c.OwnerStore.Update(ctx, id, rec) })
}

func (c *chaosStore) Touch(ctx context.Context, id sessions.ID, expires time.Time) error {
	_, err := answered(ctx, c, func(ctx context.Context) (any, error) { return nil, c.OwnerStore.Touch(ctx, id, expires) })
	return err
}

func (c *chaosStore) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	_, err := answered(ctx, c, func(ctx context.Context) (any, error) { return nil, c.OwnerStore.Delete(ctx, id, version) })
	return err
}

// idIn returns the id that a cookie with one names.
func idIn(t testing.TB, value string) sessions.ID {
	t.Helper()
	token, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil || len(token) != 79 {
		t.Fatalf("got the value %q, want that of an id", value)
	}
	return hashOfSecret(token[15:47])
}

// Whatever a user, his other tabs and an administrator do at the same time, and
// however the store fails meanwhile: of one login there is never a second session
// that anybody has a cookie for, who was told that he is signed out is, and a
// page of an error brings no cookie.
func TestRequestsOfEveryKindAtOnceOnAFailingStore(t *testing.T) {
	for seed := range seeds() {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, seed) })
		})
	}
}

// seeds returns how many histories are tried: as many as a second has room for, or
// SEEDS. With the entropy source of FIPS 140-3 a few are enough, since they are bubbles:
// see init in helpers_test.go.
func seeds() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("SEEDS"), 10, 64); err == nil {
		return n
	}
	if fips140.Enforced() {
		return 20
	}
	return 300
}

func chaos(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1)) // what is asked for; how the store fails comes from another
	store := &chaosStore{OwnerStore: new(sessions.MemoryStore), random: rand.New(rand.NewPCG(seed, 2)), calm: true}
	s := newSite(t, mode{}, func(c *config) {
		c.Store, c.IdleTimeout, c.Encrypt = store, time.Hour, seed%2 == 0
		c.Owner = func(d *AppSession) string {
			if d.UserID == 0 {
				return ""
			}
			return fmt.Sprint(d.UserID)
		}
	})
	b := s.browser()
	b.do(func(s *session) { s.RegenerateID(); s.Data.UserID = 42 })
	first := idIn(t, b.cookie())
	time.Sleep(20 * time.Minute) // a touch is due

	var mu sync.Mutex
	handedOut := map[sessions.ID]*browser{first: b.clone()}
	ended := map[sessions.ID]string{}
	over := false // all of the user's sessions
	var log []string
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, fmt.Sprintf(format, args...))
	}
	verbs := []struct {
		name string
		do   func(s *session)
	}{
		{"read", func(*session) {}},
		{"edit", func(s *session) { s.Data.N++ }},
		{"update", func(s *session) { s.Update(func(d *AppSession) { d.N++ }) }},
		{"flash", func(s *session) { s.Flash("k", "m"); s.Flashes() }},
		{"regenerate", func(s *session) { s.RegenerateID(); s.Data.Role = "user" }},
		{"regenerate and save", func(s *session) { s.RegenerateID(); _ = s.Save(context.Background()); s.Data.N++ }},
		{"save twice", func(s *session) { s.Data.N++; _ = s.Save(context.Background()); _ = s.Save(context.Background()) }},
		{"prolong", func(s *session) { s.SetLifetime(100 * time.Hour) }},
		{"regenerate, save, regenerate", func(s *session) { s.RegenerateID(); _ = s.Save(context.Background()); s.RegenerateID() }},
		{"destroy", (*session).Destroy},
		{"regenerate, save, destroy", func(s *session) { s.RegenerateID(); _ = s.Save(context.Background()); s.Destroy() }},
		{"rotate", func(s *session) { s.RotateID(); s.Data.N++ }},
		{"rotate and save", func(s *session) { s.RotateID(); _ = s.Save(context.Background()); s.Data.N++ }},
		{"pass on", func(s *session) { passOn(&s.Data) }},
		{"pass on and save", func(s *session) { s.Update(passOn); _ = s.Save(context.Background()) }},
		{"clear", func(s *session) { s.Data = AppSession{}; s.Flashes() }},
		{"clear, save and edit", func(s *session) { s.Data = AppSession{}; _ = s.Save(context.Background()); s.Data.N = 1 }},
		{"reload and edit", func(s *session) { s.Data.N++; _ = s.Reload(context.Background()); s.Data.N++ }},
		{"save and panic", func(s *session) { s.RegenerateID(); _ = s.Save(context.Background()); panic(http.ErrAbortHandler) }},
	}
	store.setCalm(false)
	var wg sync.WaitGroup
	for range 2 + random.IntN(5) {
		verb := verbs[random.IntN(len(verbs))]
		start, think := time.Duration(random.IntN(60))*time.Millisecond, time.Duration(random.IntN(60))*time.Millisecond
		wg.Go(func() {
			tab := b.clone()
			time.Sleep(start)
			sentWith := idIn(t, tab.cookie())
			var res *reply
			func() {
				defer func() { _ = recover() }()
				res = tab.do(func(sess *session) {
					time.Sleep(think)
					verb.do(sess)
				})
			}()
			if res == nil {
				note("%s: panicked", verb.name)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			lines := res.setCookies()
			what := "no cookie"
			switch {
			case len(lines) > 1:
				t.Errorf("%s: got the cookies %q, want one at most", verb.name, lines)
			case len(lines) == 1 && strings.Contains(lines[0], "Max-Age=0"):
				what = "expired"
				if res.StatusCode == 200 {
					ended[sentWith] = verb.name
				}
			case len(lines) == 1:
				what = "cookie"
				id := idIn(t, tab.cookie())
				if res.StatusCode != 200 && verb.name != "save and panic" && !strings.Contains(verb.name, "save") {
					t.Errorf("%s: got status %d with a cookie", verb.name, res.StatusCode)
				}
				handedOut[id] = tab.clone()
			}
			log = append(log, fmt.Sprintf("%s: %d, %s", verb.name, res.StatusCode, what))
		})
	}
	if random.IntN(3) == 0 {
		at, all := time.Duration(random.IntN(120))*time.Millisecond, random.IntN(2) == 0
		wg.Go(func() {
			time.Sleep(at)
			if all {
				n, err := s.mgr.RevokeOwner(context.Background(), "42")
				note("RevokeOwner: %d, %v", n, err)
				mu.Lock()
				over = over || err == nil
				mu.Unlock()
				return
			}
			err := s.mgr.Revoke(context.Background(), first.String())
			note("Revoke: %v", err)
			if err == nil {
				mu.Lock()
				ended[first] = "Revoke"
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	time.Sleep(time.Second) // what the store carries out late
	store.setCalm(true)
	usable, of42 := 0, 0
	for id, holder := range handedOut {
		if data, _ := holder.peek(); data.UserID != 0 { // who comes after the end is a new visitor
			usable++
			if data.UserID == 42 {
				of42++
			}
			if how := ended[id]; how != "" {
				t.Errorf("the session that %s ended is live", how)
			}
		}
	}
	if usable > 1 || over && of42 > 0 {
		t.Errorf("got %d live sessions that somebody has a cookie for, all revoked: %t", usable, over)
	}
	told := map[string]int{}
	for _, e := range s.events.all {
		switch e.Kind {
		case sessions.EventEnded:
			told["end of "+e.ID]++
		case sessions.EventRenewed:
			told["move of "+e.Previous]++
		}
	}
	for what, n := range told {
		if n > 1 {
			t.Errorf("the %s was told %d times, want once", what, n)
		}
	}
	if t.Failed() {
		t.Logf("%q", log)
	}
}

// passOn gives a session that somebody has to another user. What is new is left
// alone: it would be a sign-in, which is never lost.
func passOn(d *AppSession) {
	if d.UserID != 0 {
		d.UserID = 43
	}
}

func hashOfSecret(secret []byte) sessions.ID { return sha256.Sum256(secret) }
