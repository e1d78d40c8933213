package sessions_test

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// verbs carries out what stands between semicolons, on the session of the actor.
func (p *player) verbs(a *actor, steps string) {
	for verb := range strings.SplitSeq(steps, "; ") {
		var d *AppSession
		if a.s != nil {
			d = &a.s.Data
		}
		verb, want, asked := strings.Cut(verb, " -> ")
		if got := p.verb(a, d, verb); asked {
			p.want(verb, got, want)
		}
		if a.s != nil && !strings.HasPrefix(verb, "update") {
			a.id = a.s.ID()
		}
	}
}

// verb carries out one verb, of which d is the Data, and returns what it gives.
func (p *player) verb(a *actor, d *AppSession, verb string) string {
	if edited(p.t, d, verb) {
		return ""
	}
	name, arg, _ := strings.Cut(verb, " ")
	words := strings.Fields(arg)
	switch name {
	case "begin", "end", "read":
	case "if": // Role=admin VERB
		condition, then, _ := strings.Cut(arg, " ")
		if name, value, _ := strings.Cut(condition, "="); field(d, name) == value {
			return p.verb(a, d, then)
		}
	case "update":
		a.s.Update(func(d *AppSession) { p.each(a, d, arg) })
	case "clear":
		*d = AppSession{}
	case "become":
		*d = AppSession{UserID: number(p.t, arg)}
	case "flash":
		a.s.Flash(words[0], strings.Join(words[1:], " "))
	case "flashnow":
		a.s.FlashNow(words[0], strings.Join(words[1:], " "))
	case "flashes":
		var messages []string
		for _, f := range a.s.Flashes(words...) {
			messages = append(messages, f.Message)
		}
		if messages == nil {
			return "none"
		}
		return strings.Join(messages, ", ")
	case "regenerate":
		a.s.RegenerateID()
	case "rotate":
		a.s.RotateID()
	case "destroy":
		a.s.Destroy()
	case "reset":
		a.s.Reset()
	case "lifetime":
		a.s.SetLifetime(duration(p.t, arg))
	case "save":
		return result(a.s.Save(bg))
	case "reload":
		return result(a.s.Reload(bg))
	case "headers":
		a.w.WriteHeader(http.StatusOK)
	case "holds":
		p.fields(d, arg)
	case "reason":
		return string(a.s.Reason())
	case "new":
		return strconv.FormatBool(a.s.IsNew())
	case "lasts":
		return time.Until(a.s.ExpiresAt()).Round(time.Minute).String() // conflicts take time
	case "edit": // B N++, Role=admin
		who, edits, _ := strings.Cut(arg, " ")
		return result(p.s.mgr.Edit(bg, p.known(who).id, func(d *AppSession) { p.each(a, d, edits) }))
	case "revoke":
		return result(p.s.mgr.Revoke(bg, p.known(arg).id))
	case "revoke-owner": // 42 except B
		var except []string
		if len(words) > 1 {
			except = append(except, p.known(words[2]).id)
		}
		n, err := p.s.mgr.RevokeOwner(bg, words[0], except...)
		return fmt.Sprint(n, " ", result(err))
	case "revoke-label":
		n, err := p.s.mgr.RevokeLabelled(bg, arg)
		return fmt.Sprint(n, " ", result(err))
	case "count":
		return strconv.Itoa(len(listed(p.s, arg)))
	default:
		p.t.Errorf("%s: there is no verb %q", p.at.Load(), verb)
	}
	return ""
}

// each carries out what stands between commas.
func (p *player) each(a *actor, d *AppSession, verbs string) {
	for verb := range strings.SplitSeq(verbs, ", ") {
		p.verb(a, d, verb)
	}
}

// result is the name of an error in scripts.
func result(err error) string {
	for name, is := range map[string]error{"not found": sessions.ErrNotFound, "exists": sessions.ErrExists, "conflict": sessions.ErrConflict,
		"too late": sessions.ErrTooLate, "limit": sessions.ErrLimit, "invalid": sessions.ErrInvalid, "lost": errLost} {
		if errors.Is(err, is) {
			return name
		}
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}

// field returns the field of a name, or of Cart.tea the value of the key.
func field(d *AppSession, name string) string {
	name, key, inMap := strings.Cut(name, ".")
	v := reflect.ValueOf(d).Elem().FieldByName(name)
	if inMap {
		v = v.MapIndex(reflect.ValueOf(key))
	}
	switch {
	case !v.IsValid():
		return "" // no such key
	case v.Kind() == reflect.Slice:
		return strings.Join(v.Interface().([]string), ",")
	}
	return fmt.Sprint(v)
}

var edits = regexp.MustCompile(`^([A-Z]\w*)(?:\.(\w+))?(\+\+|[+*]?=)(.*)$`)

// edited makes of N=1, N++, N*=2, Tags+=a, Cart.tea++ or Cart.tea= the edit of d that
// this is in Go, and reports whether it is one. The value $Name is that of a field.
func edited(t testing.TB, d *AppSession, text string) bool {
	m := edits.FindStringSubmatch(text)
	if m == nil {
		return false
	}
	key, op, value := m[2], m[3], m[4]
	if name, refers := strings.CutPrefix(value, "$"); refers {
		value = field(d, name)
	}
	count := func(n int) int {
		switch op {
		case "++":
			return n + 1
		case "+=":
			return n + number(t, value)
		case "*=":
			return n * number(t, value)
		}
		return number(t, value)
	}
	switch f := reflect.ValueOf(d).Elem().FieldByName(m[1]).Addr().Interface().(type) {
	case *int:
		*f = count(*f)
	case *string:
		*f = value
	case *[]string:
		*f = append(*f, value)
	case *map[string]string:
		*f = map[string]string{key: value}
	case *map[string]int:
		if *f == nil {
			*f = map[string]int{}
		}
		if delete(*f, key); value != "" {
			(*f)[key] = number(t, value)
		}
	}
	return true
}
