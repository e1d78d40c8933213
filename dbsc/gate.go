package dbsc

import (
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/typedsessions/sessions/internal/cookie"
	"github.com/typedsessions/sessions/internal/seam"
)

// admits reports whether the handler may see the request. If not, it has
// answered.
func (d *Devices) admits(w http.ResponseWriter, r *http.Request, s seam.Session) bool {
	if !s.HadCookie() {
		return true
	}
	extension, now := s.Extension() // when the session was opened: BenchmarkBoundRatio, 40 ns
	st := readState(extension)
	if st.phase == none {
		return true
	}
	if st.phase == offered {
		d.offerAgain(r, s, &st, now)
		return true
	}
	switch v := d.verdict(s.Header(), &st.key, now); {
	case st.phase == bound && v == good:
		return true
	case st.phase == bound:
		return d.stale(w, r, s, v)
	case v == good: // the first that comes
		s.Extend(bind(st.key, now.Unix()))
		d.tell(r.Context(), Event{Kind: EventBound, ID: s.ID()})
	default: // the answer to the registration may be lost, which must not lock anybody out
		d.offerAgain(r, s, &st, now)
	}
	return true
}

func (d *Devices) offerAgain(r *http.Request, s seam.Session, st *state, now time.Time) {
	if st.toBeOffered(now) && isDocument(r) {
		askToRegister(s)
	}
}

// verdict says what the best bound cookie of a request is worth for a key.
func (d *Devices) verdict(h http.Header, key *publicKey, now time.Time) (best verdict) {
	tried := 0
	for _, line := range h["Cookie"] {
		for tried < cookie.MaxCandidates && best < good {
			value, rest, ok := d.cookie.Next(line)
			if !ok {
				break
			}
			line, tried = rest, tried+1
			best = max(best, d.mint.check(boundCookie, value, key[:], now))
		}
	}
	return best
}

// stale handles a request of a bound session that brought no good bound cookie.
// The session is withheld. It reports whether the handler may see the request.
func (d *Devices) stale(w http.ResponseWriter, r *http.Request, s seam.Session, v verdict) bool {
	event := Event{Kind: EventRefused, Reason: map[verdict]Reason{missing: ReasonMissing, ended: ReasonEnded, foreign: ReasonForeign}[v], ID: s.ID()}
	login := among(d.options.Login, r.URL.Path)
	excluded := !login && within(d.options.Exclude, r.URL.Path)
	s.Withhold(login)
	if excluded {
		return true // as many as a page has files: no event
	}
	reload := !d.options.NoReload && comesFromOutside(r)
	why := skipped(r.Header, d.identifier(r))
	h := w.Header()
	if v != missing && (reload || !login) {
		// The browser thinks that it lasts, and would not refresh before the next
		// request: its clock was set back, or the secret of the cookie is gone.
		h.Add("Set-Cookie", d.cookie.Expire())
	}
	switch {
	case reload:
		d.tell(r.Context(), Event{Kind: EventReloaded, ID: event.ID})
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Refresh", "0")
		w.WriteHeader(http.StatusOK)
	case login:
		d.tell(r.Context(), event)
		return true
	case why != "":
		event.Reason, event.Err = ReasonSkipped, skipError(why)
		d.tell(r.Context(), event)
		h.Set("Cache-Control", "no-store")
		h.Set("Retry-After", "60")
		if isDocument(r) {
			http.Error(w, "Your browser could not prove that this session is its own. Try again in a minute.", http.StatusServiceUnavailable)
		} else {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	case isDocument(r):
		d.tell(r.Context(), event)
		h.Set("Cache-Control", "no-store")
		d.options.OnStale.ServeHTTP(w, r)
	default:
		d.tell(r.Context(), event)
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusForbidden)
	}
	return false
}

type skipError string

func (e skipError) Error() string { return "the browser did not refresh: " + string(e) }

// stalePage offers to load the page again: that is a navigation from the page
// itself, before which the browser sends a proof if it can.
func stalePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusForbidden)
	_, _ = io.WriteString(w, `<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>Session not confirmed</title>
<p>This session belongs to another device, or your browser could not confirm that it is yours.
<p><a href="">Try again</a>, or sign in again.
`)
}

// among reports whether a path is one of the paths, or below one that ends with
// a slash.
func among(paths []string, path string) bool {
	for _, p := range paths {
		if path == p || strings.HasSuffix(p, "/") && strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}

// within reports whether a path is one of the paths or below one, as browsers
// compare the paths of scope rules.
func within(paths []string, path string) bool {
	for _, p := range paths {
		if path == p || strings.HasPrefix(path, strings.TrimSuffix(p, "/")+"/") {
			return true
		}
	}
	return false
}
