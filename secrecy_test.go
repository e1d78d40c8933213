package sessions_test

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// A dumper prints what it reaches by reflection, unexported fields included, and
// calls no method: what printers for debugging do.
type dumper struct {
	text []byte
	seen map[uintptr]bool
}

func (d *dumper) dump(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() || d.seen[v.Pointer()] {
			return
		}
		d.seen[v.Pointer()] = true
		d.dump(v.Elem())
	case reflect.Interface:
		if !v.IsNil() {
			d.dump(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			d.dump(v.Field(i))
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			for i := range v.Len() {
				d.text = append(d.text, byte(v.Index(i).Uint()))
			}
			return
		}
		for i := range v.Len() {
			d.dump(v.Index(i))
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			d.dump(it.Key())
			d.dump(it.Value())
		}
	case reflect.String:
		d.text = append(d.text, v.String()...)
	}
}

// Even a printer that walks through unexported fields finds neither a secret nor
// a key derived from one in a ring, a Config or a Manager.
func TestADumperFindsNoKey(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		keys := newKeys(t, ringSecrets(1, 2)...)
		var cfg config
		s := newSite(t, m, func(c *config) { c.Keys, c.Store = keys, nil; cfg = *c })
		if m.hasStore() {
			s = newSite(t, m, func(c *config) { c.Keys = keys; cfg = *c })
		}
		b := s.browser()
		b.do(func(s *session) { s.Data.UserID = 1 }) // the keys have been derived
		mode := "cookie"
		if m.hasStore() {
			mode = "store"
		}
		for what, v := range map[string]any{"*Keyring": keys, "Keyring": *keys, "Config": cfg, "*Manager": s.mgr, "Manager": *s.mgr} {
			d := &dumper{seen: map[uintptr]bool{}}
			d.dump(reflect.ValueOf(v))
			for n := range 2 {
				secret := ringSecret(n + 1)
				k := wireKeyOf(secret, mode, "__Host-session")
				mustNotShow(t, string(d.text), secret, k.mac, k.seal)
			}
			if t.Failed() {
				t.Fatalf("found in %s", what)
			}
		}
	})
}

// A panic of the application's code may carry what it worked on: of those that
// are caught, logs, events and answers show the type alone.
func TestCaughtPanicsShowNoValue(t *testing.T) {
	type leak struct{ Secret string }
	boom := func() { panic(leak{secretName}) }
	for name, set := range map[string]func(c *config, armed *bool){
		"Validate": func(c *config, armed *bool) {
			c.Validate = func(*AppSession) error {
				if *armed {
					boom()
				}
				return nil
			}
		},
		"Owner": func(c *config, armed *bool) {
			c.Owner = func(*AppSession) string {
				if *armed {
					boom()
				}
				return secretOwner
			}
		},
		"Merge": func(c *config, armed *bool) {
			c.Merge = func(_, mine, _ AppSession) (AppSession, error) {
				if *armed {
					boom()
				}
				return mine, nil
			}
		},
		"OnEvent": func(c *config, armed *bool) {
			hear := c.OnEvent
			c.OnEvent = func(ctx context.Context, e sessions.Event) {
				hear(ctx, e)
				if *armed {
					boom()
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var text func() string
			armed := false
			s := newSite(t, modes[3], func(c *config) {
				var logger *slog.Logger
				logger, text = logged()
				c.Logger = logger
				set(c, &armed)
			})
			b := s.browser()
			b.do(fillSecrets)
			cookie := b.cookie()
			res := overlap(b, func(s *session) { s.Data.N = 7; s.RegenerateID() }, func() {
				b.clone().do(func(s *session) { s.Data.Seen = time.Unix(1, 0) })
				armed = true
			})
			b.do(func(s *session) { s.Data.N = 8 })
			b.clone().do((*session).Destroy)
			hidden(t, "the answer", res.body, cookie)
			hidden(t, "the log", text(), cookie)
			for _, e := range s.events.all {
				hidden(t, "an event", fmt.Sprintf("%v %+v %#v", e, e, e), cookie)
			}
		})
	}
}
