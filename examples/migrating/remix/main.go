// Remix is a site that was written with Remix or React Router until now, with
// createCookieSessionStorage. Visitors who are signed in stay signed in: the first
// visit adopts their __session cookie.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/typedsessions/sessions"
)

// AppSession is what used to be session.set("userId", 42) and so on.
type AppSession struct {
	UserID int      `msgpack:"uid" json:"userId" validate:"gte=0"`
	Name   string   `msgpack:"name" json:"name" validate:"max=64"`
	Cart   []string `msgpack:"cart" json:"cart" validate:"max=100"`
}

func main() {
	keys, err := sessions.ParseKeyring(os.Getenv("SESSION_KEYS"))
	if err != nil {
		log.Fatal(err)
	}
	old := strings.Split(os.Getenv("OLD_SECRETS"), ",") // the array secrets, as it was
	handler, err := newHandler(keys, old)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("localhost:8080", handler))
}

func newHandler(keys *sessions.Keyring, old []string) (http.Handler, error) {
	for i, secret := range old {
		if secret == "" {
			return nil, fmt.Errorf("old secret %d is empty: anybody could sign with it", i)
		}
	}
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:          keys,
		Lifetime:      7 * 24 * time.Hour, // as maxAge was
		Import:        func(r *http.Request) (AppSession, bool) { return adopt(r, old) },
		ImportCookies: []http.Cookie{{Name: "__session", Path: "/", Secure: true}},
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", home)
	mux.HandleFunc("POST /logout", logout)
	return http.NewCrossOriginProtection().Handler(mgr.Middleware(mux)), nil
}

// adopt reads the old cookie: percent-encoded JSON in base64, and its signature.
func adopt(r *http.Request, old []string) (data AppSession, ok bool) {
	cookie, err := r.Cookie("__session")
	if err != nil {
		return data, false
	}
	signed, err := url.PathUnescape(cookie.Value)
	if err != nil {
		return data, false
	}
	values, ok := verify(signed, old)
	if !ok {
		return data, false
	}
	// Remix 3 puts the end of the session beside it, since its session-middleware 0.5
	// and if the cookie has a maxAge.
	var timed struct {
		Value   *string  `json:"value"`
		Expires *float64 `json:"expires"` // in milliseconds
	}
	if json.Unmarshal(values, &timed) == nil && timed.Value != nil && timed.Expires != nil {
		if float64(time.Now().UnixMilli()) >= *timed.Expires {
			return data, false
		}
		values = []byte(*timed.Value)
	}
	// Remix 3 puts an id and the flash messages beside the values.
	var three struct {
		ID   string            `json:"i"`
		Data []json.RawMessage `json:"d"`
	}
	if json.Unmarshal(values, &three) == nil && three.ID != "" && len(three.Data) == 2 {
		values = three.Data[0]
	}
	// Without any field that is known here, data is zero. Then nothing is adopted and
	// the old cookie stays.
	err = json.Unmarshal(values, &data)
	return data, err == nil
}

// verify returns what one of the secrets has signed: the base64 before the last
// dot, whose HMAC-SHA256 stands behind it.
func verify(signed string, secrets []string) ([]byte, bool) {
	dot := strings.LastIndexByte(signed, '.')
	if dot < 0 {
		return nil, false
	}
	mac, err := base64.RawStdEncoding.DecodeString(signed[dot+1:])
	if err != nil {
		return nil, false
	}
	for _, secret := range secrets {
		h := hmac.New(sha256.New, []byte(secret))
		h.Write([]byte(signed[:dot]))
		if hmac.Equal(mac, h.Sum(nil)) {
			values, err := base64.StdEncoding.DecodeString(signed[:dot])
			return values, err == nil
		}
	}
	return nil, false
}

func home(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	for _, flash := range sess.Flashes() {
		fmt.Fprintln(w, flash.Message)
	}
	if sess.Data.UserID == 0 {
		fmt.Fprintln(w, "You are not signed in")
		return
	}
	fmt.Fprintf(w, "You are %s, user %d, with %q in the cart\n", sess.Data.Name, sess.Data.UserID, sess.Data.Cart)
}

func logout(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	sess.Reset()
	sess.Flash("info", "You have signed out")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
