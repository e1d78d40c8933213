package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A reply is the outcome of a request.
type reply struct {
	status      int    // 0: there was no answer
	release     string // that answered
	view        view
	begun, done time.Time
}

// ok reports whether the server acknowledged the request.
func (r reply) ok() bool { return r.status == http.StatusOK }

// unknown reports whether the request may have been carried out or not.
func (r reply) unknown() bool {
	return r.status != http.StatusOK && r.status != http.StatusUnauthorized
}

var transport = &http.Transport{MaxIdleConnsPerHost: 1000, DisableCompression: true}

// send sends a request. It does not change the user, so that two tabs can send at once.
func (u *user) send(jar http.CookieJar, op string, form url.Values) reply {
	r := reply{begun: time.Now()}
	method, path, _ := strings.Cut(op, " ")
	client := http.Client{Transport: transport, Jar: jar, Timeout: 20 * time.Second}
	req, err := http.NewRequest(method, u.site.url+path+"?"+form.Encode(), nil)
	if err != nil {
		panic(err)
	}
	res, err := client.Do(req)
	if err == nil {
		defer res.Body.Close()
		r.status, r.release = res.StatusCode, res.Header.Get(releaseHeader)
		if r.status == http.StatusOK && json.NewDecoder(res.Body).Decode(&r.view) != nil {
			r.status = 0
		}
	}
	r.done = time.Now()
	u.check.request(op, r.begun, r.status, r.unknown())
	return r
}

// do sends a request and notes the answer.
func (u *user) do(d *device, op string, form url.Values) reply {
	r := u.send(d.jar, op, form)
	u.noteReply(d, op, form, r)
	return r
}

func (u *user) noteReply(d *device, op string, form url.Values, r reply) {
	u.note("%s: %s %s: %d in %d ms by %s, id %.8s, user %s, cart %v, count %d, note %s", d.name, op, form.Encode(), r.status,
		r.done.Sub(r.begun).Milliseconds(), r.release, r.view.ID, r.view.User, r.view.Cart, r.view.Count, r.view.Note)
	if r.ok() {
		u.used(d, r.begun)
	}
	changes := op == "POST /set" || op == "POST /add" || op == "POST /note"
	switch {
	case d.upgraded == yes || !changes && op != "POST /rotate":
	case changes && r.ok() && r.release == release20:
		d.upgraded, d.upgradedAt = yes, r.done
	case r.ok() && r.release == release20 || r.unknown() && u.check.isReleased(release20):
		d.upgraded = maybe // a new id alone may leave the data as they are
	}
	if c := u.cookieOf(d); c != nil && c.Value != d.cookie {
		d.cookie, d.cookieAt = c.Value, r.begun
	}
}
