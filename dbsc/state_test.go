package dbsc_test

import (
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/typedsessions/sessions/dbsc"
)

// A thief's request that began before the session was bound learns of the binding
// by Reload, or by a Save that meets a conflict. That proves nothing.
func TestARequestIsBoundByItsOwnCookieAlone(t *testing.T) {
	for name, meet := range map[string]func(*session, *http.Request) error{
		"Reload":             func(sess *session, r *http.Request) error { return sess.Reload(r.Context()) },
		"Save on a conflict": func(sess *session, r *http.Request) error { sess.Data.Cart = "x"; return sess.Save(r.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, true)
				b := s.signIn(true)
				thief := newBrowser(t, b.rt)
				thief.plain = true
				b.copyTo(thief)
				s.handle("/slow", func(_ http.ResponseWriter, r *http.Request) {
					b.run()
					expect(t, b.get(home), 200, boundText)
					if err := meet(sessionOf(r), r); err != nil {
						t.Error(err)
					}
					if got := dbsc.StateOf(r.Context()); got != dbsc.Offered {
						t.Errorf("got %v without a bound cookie", got)
					}
				})
				thief.get(home + "slow")
				s.handle("/slow", func(_ http.ResponseWriter, r *http.Request) {
					if err := meet(sessionOf(r), r); err != nil {
						t.Error(err)
					}
					if got := dbsc.StateOf(r.Context()); got != dbsc.Bound {
						t.Errorf("got %v with a good bound cookie", got)
					}
				})
				b.get(home + "slow")
			})
		})
	}
}
