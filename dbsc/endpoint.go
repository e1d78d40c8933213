package dbsc

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/seam"
)

// A config is what the browser is told about a session.
type config struct {
	Identifier  string       `json:"session_identifier"`
	RefreshURL  string       `json:"refresh_url,omitempty"`
	Continue    *bool        `json:"continue,omitempty"`
	Scope       *scope       `json:"scope,omitempty"`
	Credentials []credential `json:"credentials,omitempty"`
}

type scope struct {
	IncludeSite bool   `json:"include_site"`
	Rules       []rule `json:"scope_specification,omitempty"`
}

type rule struct {
	Type   string `json:"type"`
	Domain string `json:"domain"`
	Path   string `json:"path"`
}

type credential struct {
	Type       string `json:"type"`
	Name       string `json:"name"`
	Attributes string `json:"attributes"`
}

// identifier returns the name of the session in the browser. It is the same for
// all sessions of a Manager, so that a new login replaces the old one there, and
// another for every origin and cookie name, since a browser tells the sessions of
// a whole site apart by it.
func (d *Devices) identifier(r *http.Request) string {
	origin := d.options.Origin
	if origin == "" {
		origin = "https://" + strings.TrimSuffix(strings.ToLower(r.Host), ":443")
	}
	sum := sha256.Sum256([]byte(origin + "\x00" + d.site.Cookie.Name))
	return hex.EncodeToString(sum[:8])
}

// refuse answers a request to one of the two addresses without a word. Of the
// status codes, browsers end a session at 401, 404 and 429 too, and follow
// redirects.
func (d *Devices) refuse(w http.ResponseWriter, r *http.Request, s seam.Session, status int, why Reason, err error) {
	id := ""
	if s.HadCookie() {
		id = s.ID()
	}
	s.Withhold(false)
	d.tell(r.Context(), Event{Kind: EventRefused, Reason: why, ID: id, Err: err})
	w.WriteHeader(status)
}

// accepts reports whether a browser can have sent a request to one of the two
// addresses by itself. If not, it has answered. A script can set the headers of
// the draft only where the mode is cors.
func (d *Devices) accepts(w http.ResponseWriter, r *http.Request, s seam.Session) bool {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		d.refuse(w, r, s, http.StatusMethodNotAllowed, ReasonRequest, errors.New("the method is not POST"))
		return false
	}
	if mode := first(r.Header["Sec-Fetch-Mode"]); mode != "" && mode != "no-cors" {
		d.refuse(w, r, s, http.StatusBadRequest, ReasonRequest, errors.New("Sec-Fetch-Mode is not no-cors: a script or a form has sent it"))
		return false
	}
	return true
}

// proof reads the proof of a request, nil if there is none.
func readProof(r *http.Request) (*proof, error) {
	if len(r.Header[responseHeader]) == 0 {
		return nil, nil
	}
	jwt, ok := value(r.Header, responseHeader, maxProof)
	if !ok {
		return nil, errors.New(responseHeader + ": need one JWT of at most 4096 characters, quoted or not")
	}
	return parseProof(jwt)
}

// serveRegister takes the key of a browser that was asked for one.
func (d *Devices) serveRegister(w http.ResponseWriter, r *http.Request, s seam.Session) {
	if !d.accepts(w, r, s) {
		return
	}
	bad := func(why Reason, err error) { d.refuse(w, r, s, http.StatusBadRequest, why, err) }
	p, err := readProof(r)
	switch {
	case err != nil:
		bad(ReasonProof, err)
		return
	case p == nil || p.key == nil:
		bad(ReasonProof, errors.New("there is no proof with a key"))
		return
	case !s.HadCookie():
		bad(ReasonSession, nil)
		return
	case !p.verify(p.key):
		bad(ReasonProof, errors.New("another key than that of the proof has signed it"))
		return
	case d.mint.check(registerChallenge, p.challenge, []byte(s.ID()), time.Now()) != good:
		bad(ReasonChallenge, errors.New("the challenge has ended, or is of another session"))
		return
	}
	s.Extend(register(p.key, time.Now().Unix()))
	if stateOf(s).phase == registered {
		err = s.Save(r.Context())
	}
	switch st := stateOf(s); {
	case errors.Is(err, sessions.ErrNotFound):
		bad(ReasonSession, err)
	case err != nil:
		d.refuse(w, r, s, http.StatusServiceUnavailable, ReasonStore, err)
	case st.phase != registered || st.key != *p.key:
		bad(ReasonBound, nil)
	default:
		d.tell(r.Context(), Event{Kind: EventRegistered, ID: s.ID()})
		d.setCookie(w, p.key)
		d.answer(w, d.config(r))
	}
}

// serveRefresh gives a browser that has the key of the session a new bound cookie.
// It is no use of the session, which is withheld before the answer.
func (d *Devices) serveRefresh(w http.ResponseWriter, r *http.Request, s seam.Session) {
	if !d.accepts(w, r, s) {
		return
	}
	identifier := d.identifier(r)
	asked, ok := identifier, true
	if len(r.Header[idHeader]) > 0 {
		asked, ok = value(r.Header, idHeader, 64)
	}
	var st state
	id := ""
	if s.HadCookie() {
		st, id = stateOf(s), s.ID()
	}
	// A refusal ends the session in the browser, whose user must then sign in again.
	// So it has to be certain.
	later := func(why Reason, text string) {
		d.refuse(w, r, s, http.StatusServiceUnavailable, why, errors.New(text+"; the browser is asked to come again"))
	}
	p, err := readProof(r)
	switch {
	case !ok:
		d.refuse(w, r, s, http.StatusBadRequest, ReasonRequest, errors.New(idHeader+": need one identifier, quoted or not"))
	case id != "" && s.Elsewhere():
		later(ReasonSession, "the session has moved to another id, or this program cannot read it")
	case st.unknown():
		later(ReasonSession, "this program cannot read how the session is bound")
	case st.phase == offered && asked == identifier && st.mayRegister(time.Now()):
		later(ReasonSession, "the browser refreshes a former session while it registers this one")
	case st.phase < registered || asked != identifier:
		s.Withhold(false)
		d.tell(r.Context(), Event{Kind: EventRefused, Reason: ReasonSession, ID: id})
		d.answer(w, &config{Identifier: asked, Continue: new(bool)})
	case err != nil:
		d.refuse(w, r, s, http.StatusBadRequest, ReasonProof, err)
	case p == nil: // as every refresh begins
		s.Withhold(false)
		d.challenge(w, identifier, &st.key)
	case !p.verify(&st.key):
		const text = "another key than that of the session has signed it"
		if st.mayRegister(time.Now()) {
			later(ReasonProof, text+", perhaps that of a former session")
			return
		}
		d.refuse(w, r, s, http.StatusBadRequest, ReasonProof, errors.New(text))
	case d.mint.check(refreshChallenge, p.challenge, st.key[:], time.Now()) != good:
		// The holder of the key, late: a slow device, a ring that was replaced.
		s.Withhold(false)
		d.tell(r.Context(), Event{Kind: EventRefused, Reason: ReasonChallenge, ID: id})
		d.challenge(w, identifier, &st.key)
	default:
		s.Withhold(false)
		d.tell(r.Context(), Event{Kind: EventRefreshed, ID: id})
		d.setCookie(w, &st.key)
		w.WriteHeader(http.StatusOK)
	}
}

// challenge asks the browser to sign.
func (d *Devices) challenge(w http.ResponseWriter, identifier string, key *publicKey) {
	w.Header()[challengeHeader] = []string{`"` + d.mint.challenge(refreshChallenge, refreshWithin, key[:]) + `";id="` + identifier + `"`}
	w.WriteHeader(http.StatusForbidden)
}

func (d *Devices) setCookie(w http.ResponseWriter, key *publicKey) {
	token := d.mint.make(boundCookie, time.Now().Add(d.options.Every+grace), key[:])
	line, err := d.cookie.Line(&token, 0, d.maxAge, true)
	if err != nil {
		panic(err) // the cookie of an id is longer, and Config.Cookie has room for it
	}
	w.Header().Add("Set-Cookie", line)
}

// config returns what a browser is told at registration.
func (d *Devices) config(r *http.Request) *config {
	c := &config{
		Identifier:  d.identifier(r),
		RefreshURL:  d.refresh,
		Scope:       &scope{},
		Credentials: []credential{{"cookie", d.cookie.Name, d.cookie.Attributes()}},
	}
	for _, p := range d.options.Exclude {
		c.Scope.Rules = append(c.Scope.Rules, rule{"exclude", "*", p})
	}
	return c
}

func (d *Devices) answer(w http.ResponseWriter, c *config) {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // it holds strings only
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}
