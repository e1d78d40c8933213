package main

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/typedsessions/sessions/internal/keys"
	"github.com/typedsessions/sessions/internal/wire"
)

// defaultNames are the default names of Config.Cookie.
var defaultNames = []string{"__Host-Http-session", "__Secure-session", "session"}

// maxInput bounds the input. It is large because a curl command line contains the
// body of the request.
const maxInput = 8 << 20

func (c *command) inspect(args []string) (status int, err error) {
	var x inspector
	args, err = parse("inspect", args, func(f *flag.FlagSet) { f.StringVar(&x.name, "name", "", "") })
	if err != nil {
		return wrong, err
	}
	if slices.ContainsFunc(args, func(s string) bool { return strings.HasPrefix(s, "-name") || strings.HasPrefix(s, "--name") }) {
		return wrong, errors.New("inspect: the flag -name stands after the cookie, need it before")
	}
	if _, x.ring, err = secrets(); err != nil {
		return wrong, err
	}
	var cookies []cookie
	switch {
	case len(args) > 1 && args[0] == "curl":
		cookies = cookiesOfCurl(args) // the shell has split the curl command line
	case len(args) > 0 && !slices.Equal(args, []string{"-"}):
		cookies, err = cookiesIn(strings.Join(args, " "))
	default:
		var text []byte
		if text, err = io.ReadAll(io.LimitReader(c.in, maxInput+1)); err == nil && len(text) > maxInput {
			err = fmt.Errorf("inspect: the input has more than %d bytes", maxInput)
		}
		if err == nil {
			cookies, err = cookiesIn(string(text))
		}
	}
	if err != nil {
		return wrong, err
	}
	return x.all(c.out, cookies), nil
}

// An inspector explains cookies.
type inspector struct {
	name  string     // from -name
	ring  *keys.Ring // nil: none
	names []string   // the cookie names to try, since the keys depend on the name
}

// all explains the cookies that may be sessions.
func (x *inspector) all(out io.Writer, cookies []cookie) (status int) {
	x.names = append([]string{x.name}, defaultNames...)
	for _, c := range cookies {
		x.names = append(x.names, c.name)
	}
	x.names = slices.DeleteFunc(x.names, func(name string) bool { return name == "" })
	chosen := x.choose(cookies)
	switch {
	case len(cookies) == 0:
		_, _ = fmt.Fprintln(out, "refused: there is no cookie in the input")
	case len(chosen) == 0:
		_, _ = fmt.Fprintf(out, "refused: none of the %d cookies has the format of a session\n", len(cookies))
	case len(cookies) > len(chosen):
		_, _ = fmt.Fprintf(out, "%d of %d cookies may be a session\n\n", len(chosen), len(cookies))
	}
	if len(chosen) == 0 {
		return refused
	}
	for i, c := range chosen {
		if i > 0 {
			_, _ = fmt.Fprintln(out)
		}
		r := x.explain(c)
		r.print(out)
		if r.fault != "" {
			status = refused
		}
	}
	return status
}

// choose returns the cookies to explain: the only one, or those with the name from
// -name, or those whose values begin like tokens of this library.
func (x *inspector) choose(cookies []cookie) []cookie {
	if len(cookies) == 1 {
		return cookies
	}
	keep := func(ok func(cookie) bool) (kept []cookie) {
		for _, c := range cookies {
			if ok(c) {
				kept = append(kept, c)
			}
		}
		return kept
	}
	if named := keep(func(c cookie) bool { return c.name == x.name }); x.name != "" && len(named) > 0 {
		return named
	}
	return keep(func(c cookie) bool {
		token, _ := decoded(respelled(c.value))
		_, ok := formatOf(token)
		return ok && len(token) >= 5
	})
}

// explain finds the first reason why a cookie is refused.
func (x *inspector) explain(c cookie) *report {
	r := &report{cookie: c}
	if c.value == "" {
		r.advice = "a response that ends a session sets an empty value to remove the cookie"
		return r.refuse("no session: the value is empty")
	}
	if what := misspelling(c.value); what != "" {
		r.refuse("not canonical: the value %s", what)
		if plain := respelled(c.value); misspelling(plain) == "" {
			r = x.explain(cookie{c.name, plain})
			several := r.fault != "" && len(strings.Fields(c.value)) > 1
			r.respell("not canonical: the value " + what)
			if several {
				r.advice = "if it is several values, pass each of them alone"
			}
		}
		return r
	}
	if len(c.value) > maxValue {
		return r.refuse("too long: %d characters, a cookie has at most %d", len(c.value), maxValue)
	}
	token, exact := decoded(c.value)
	format, ok := formatOf(token)
	if isBoundCookie(token) {
		r.advice = "the session is in the cookie whose name lacks -bound; nothing else is in this one"
		return r.refuse("no session: it is the bound cookie of package dbsc")
	}
	if !ok {
		r.advice = "it is the cookie of another program or of a newer version of the library, or no cookie but the name of a file"
		return r.refuse("no session: the value does not begin like a cookie of this library")
	}
	r.format = format
	if len(token) < format.least {
		return r.refuse("cut short: %d bytes, a %s has at least %d", len(token), modes[format.first], format.least)
	}
	if len(token) > format.most {
		return r.refuse("too long: %d bytes, a %s has %d", len(token), modes[format.first], format.most)
	}
	r.keyID = hex.EncodeToString(token[1:5])
	if !x.verify(r, token) {
		return x.blame(r, token)
	}
	x.judge(r)
	if !exact {
		r.respell("not canonical: the unused bits in the last character of the value are not zero")
	}
	return r
}

// verify looks for the key and the cookie name that the token was made with, and
// reports whether it found them.
func (x *inspector) verify(r *report, token []byte) bool {
	ids := x.ring.IDs()
	for i, id := range ids {
		if keys.ID(token[1:]) != id {
			continue
		}
		for _, name := range x.expected(r.cookie) {
			if s, ok := r.format.verify(x.ring.Only(i), name, token); ok {
				r.session, r.madeFor, r.older = s, name, i > 0
				r.keyID += fmt.Sprintf(", %d of %d", i+1, len(ids))
				return true
			}
		}
	}
	return false
}

// blame reports why a token is not authentic, as far as that can be found out.
func (x *inspector) blame(r *report, token []byte) *report {
	var ids []string
	for _, id := range x.ring.IDs() {
		ids = append(ids, hex.EncodeToString(id[:]))
	}
	if !slices.Contains(ids, r.keyID) {
		r.advice = "its secret was removed from " + keysVariable + " or never in it, or the key id in the cookie was changed; the ring has " + strings.Join(ids, ", ")
		return r.refuse("unknown key: the cookie names key %s, which is not in the ring", r.keyID)
	}
	cut := " truncated,"
	if r.format.first == wire.Signed {
		cut = "" // the content of a truncated one is not whole
		switch err := contentFault(unverified(token).content); {
		case errors.Is(err, errShort):
			r.advice = "it was truncated, or a byte of a length was changed"
			return r.refuse("cut short: its data is incomplete")
		case errors.Is(err, errLong):
			r.advice = "bytes were added to it, or a byte of a length was changed"
			return r.refuse("forged: there are bytes after its data")
		}
	}
	var tried []string
	for _, name := range x.expected(r.cookie) {
		tried = append(tried, strconv.Quote(name))
	}
	r.advice = "it was changed," + cut + " or made for a cookie name that was not tried (see -name); tried: " + strings.Join(tried, ", ")
	return r.refuse("forged: key %s is in the ring, but the value was not made with it", r.keyID)
}

// expected returns the names that a cookie may have been made for, the most likely
// names first.
func (x *inspector) expected(c cookie) (names []string) {
	for _, name := range append([]string{x.name, c.name}, x.names...) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// contentFault returns what is wrong with unverified extensions, flashes and
// data, or nil.
func contentFault(content []byte) error {
	_, rest, err := wire.ReadExtensions(content)
	if err != nil && !errors.Is(err, wire.ErrNewer) {
		return err
	}
	r := &reader{in: rest}
	r.value(0) // the flashes
	if r.err != nil {
		return r.err
	}
	_, err = wholeJSON(r.in)
	return err
}

// judge finds the reason why an authentic cookie is refused, if any.
func (x *inspector) judge(r *report) {
	s := r.session
	if r.format.first != wire.SignedID {
		if r.damage = s.err; r.damage == nil {
			r.json, r.damage = dataJSON(s.Data)
		}
	}
	switch now := time.Now().Unix(); {
	case r.cookie.name != "" && r.cookie.name != r.madeFor:
		r.refuse("another name: it is authentic, but was made for the cookie %q and was sent as %q", r.madeFor, r.cookie.name)
	case x.name != "" && x.name != r.madeFor:
		r.refuse("another name: it is authentic, but was made for the cookie %q, not for %q", r.madeFor, x.name)
	case s.Expires <= now:
		r.refuse("expired: it is authentic, but ended at %s", at(s.Expires, now))
	case errors.Is(s.err, wire.ErrNewer):
		r.advice = "a newer version of the library, or a package with it, made it; use the sessionctl of that version"
		r.refuse("newer: it is authentic, but has an extension that a reader must know")
	case r.damage != nil:
		r.refuse("undecodable: it is authentic, but its data cannot be read")
	}
}
