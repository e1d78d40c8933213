package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/typedsessions/sessions/internal/wire"
)

// A report describes a cookie. Fields that are not known are zero.
type report struct {
	cookie  cookie
	fault   string // why it is refused; "" if it is good
	advice  string
	madeFor string // the name that the cookie was made for
	format  format
	keyID   string
	older   bool // the key is not the newest
	session *session
	json    []byte
	damage  error // why the data cannot be read
}

func (r *report) refuse(format string, args ...any) *report {
	r.fault = fmt.Sprintf(format, args...)
	return r
}

// respell turns the report on the canonical form of a value into the report on the
// value itself, which is refused for fault.
func (r *report) respell(fault string) {
	r.advice = "in its canonical form it would be good: something has re-encoded it on its way"
	if r.fault != "" {
		r.advice = "in its canonical form it would also be refused: " + r.fault
	}
	r.fault = fault
}

// print writes the verdict, and then the content as far as it is known.
func (r *report) print(out io.Writer) {
	if r.fault == "" {
		_, _ = fmt.Fprintln(out, "good: authentic, and not expired")
	} else {
		_, _ = fmt.Fprintf(out, "refused: %s\n", r.fault)
	}
	if r.advice != "" {
		_, _ = fmt.Fprintf(out, "         %s\n", r.advice)
	}
	line := func(label, text string) {
		if text != "" {
			_, _ = fmt.Fprintf(out, "%-10s %s\n", label, text)
		}
	}
	if name := cmp.Or(r.madeFor, r.cookie.name); name != "" {
		line("cookie", string(appendString(nil, name)))
	}
	s := r.session
	if s == nil {
		if r.keyID != "" {
			line("unverified", modes[r.format.first]+", key "+r.keyID)
		}
		return
	}
	line("mode", modes[r.format.first]+explanations[r.format.first])
	if r.older && r.fault == "" {
		r.keyID += ", which is not the newest: the cookie is re-issued at its next use"
	}
	line("key", r.keyID)
	now := time.Now().Unix()
	line("id", s.id)
	line("created", at(s.Created, now))
	if r.format.first != wire.SignedID {
		line("last used", at(s.Used, now))
	}
	line("expires", at(s.Expires, now))
	if r.format.first == wire.SignedID {
		return
	}
	if s.Lifetime > 0 {
		line("lifetime", roughly(int64(s.Lifetime))+", from SetLifetime")
	} else {
		line("lifetime", "from Config.Lifetime")
	}
	line("schema", fmt.Sprintf("version %d", s.Schema))
	for entries := s.Extensions; len(entries) > 0; {
		tag, value, rest := wire.NextExtension(entries)
		entries = rest
		if tag == wire.DeviceTag {
			binding, key := deviceWords(value, now)
			line("device", binding)
			line("", key)
			continue
		}
		line("extension", fmt.Sprintf("%02x, %d bytes", tag, len(value)))
	}
	if len(s.Flashes) == 0 {
		line("flashes", "none")
	}
	for i, f := range s.Flashes {
		label := ""
		if i == 0 {
			label = "flashes"
		}
		line(label, fmt.Sprintf("%s %s", appendString(nil, f.Kind), appendString(nil, f.Message)))
	}
	if r.damage != nil {
		line("data", fmt.Sprintf("cannot be read: %v", r.damage))
	} else {
		line("data", indented(r.json, strings.Repeat(" ", 11)))
	}
}

var (
	modes = map[wire.Format]string{wire.Signed: "signed session", wire.Sealed: "sealed session", wire.SignedID: "signed id"}

	explanations = map[wire.Format]string{
		wire.Signed:   ": the whole session is in the cookie, and the user can read it",
		wire.Sealed:   ": the whole session is in the cookie, encrypted",
		wire.SignedID: ": the session is in a store; only the store knows whether it still exists",
	}
)

// at formats a time, and its distance from now.
func at(seconds, now int64) string {
	t := time.Unix(seconds, 0).UTC().Format("2006-01-02 15:04:05 UTC")
	ago := now - seconds
	if ago < 0 {
		return fmt.Sprintf("%s (in %s)", t, roughly(-ago))
	}
	return fmt.Sprintf("%s (%s ago)", t, roughly(ago))
}

// roughly formats seconds in the largest unit that fits, rounded down.
func roughly(seconds int64) string {
	n, unit := seconds, "second"
	for _, u := range []struct {
		seconds int64
		name    string
	}{{365 * 24 * 3600, "year"}, {24 * 3600, "day"}, {3600, "hour"}, {60, "minute"}} {
		if seconds >= u.seconds {
			n, unit = seconds/u.seconds, u.name
			break
		}
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}
