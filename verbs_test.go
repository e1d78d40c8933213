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

// scriptRules is the language of the scripts: in each line the name of a rule and one of
// its alternatives, a regular expression in which a name stands for its rule.
const scriptRules = `
LINE config(?: owner| labels| limit=\d+| idle=TIME| lifetime=TIME)+
LINE modes owner
LINE modes label
LINE modes cookie
LINE pass TIME
LINE keys rotate
LINE store works
LINE store has not failed
LINE store (?:fails|loses) next OP(?: as exists| as not found)?
LINE store (?:fails|loses) (?:2nd|3rd) OP(?: as not found)?
LINE store (?:fails|loses) every OP
LINE records \d+
LINE forget events
LINE events KIND \d+(?: reason=[a-z-]+| owner=\d*| id=WHO| names=WHO| err=[a-z-]+)*
LINE WHO copies WHO
LINE WHO sees (?:a session|HELD)
LINE WHO sees no session(?: \([a-z]+\))?
LINE WHO has the id of WHO
LINE WHO has another id than WHO
LINE WHO begin
LINE WHO (?:VERBS; )?end(?: => ANSWER)?
LINE WHO VERBS(?: => ANSWER)?
LINE WHO beside: VERBS
LINE WHO pauses (?:before|after) OP(?: of WHO)?(?:: VERBS(?:; end)?)?
LINE WHO goes on(?: => ANSWER)?
ANSWER (?:\d{3}|cookie|no cookie|expired cookie)(?:, no cookie)?
VERBS VERB(?:; VERB)*
VERB CHANGE
VERB read
VERB headers
VERB holds HELD
VERB update CHANGES
VERB edit WHO CHANGES(?: -> RESULT)?
VERB save(?: -> RESULT)?
VERB reload -> RESULT
VERB flashes(?: info| error)? -> RESULT
VERB revoke WHO(?: -> RESULT)?
VERB revoke-owner \d+(?: except WHO)?(?: -> RESULT)?
VERB revoke-label \S+ -> RESULT
VERB count \d+ -> RESULT
VERB lasts -> RESULT
VERB reason -> RESULT
VERB new -> RESULT
CHANGES (?:if FIELD=\w* )?CHANGE(?:, (?:if FIELD=\w* )?CHANGE)*
CHANGE N\+\+
CHANGE N[+*]?=\d+
CHANGE UserID=\d+
CHANGE (?:Name|Role|Local)=\w*
CHANGE Tags\+=(?:\w+|\$FIELD)
CHANGE Cart\.\w+=\d*
CHANGE Extra\.\w+=(?:\w*|\$FIELD)
CHANGE clear
CHANGE become \d+
CHANGE flash (?:info|error) TEXT
CHANGE flashnow (?:info|error) TEXT
CHANGE flashes
CHANGE regenerate
CHANGE rotate
CHANGE destroy
CHANGE reset
CHANGE lifetime TIME
HELD IS(?: IS)*
IS FIELD=(?:\w+(?:,\w+)*)?
FIELD (?:N|UserID|Name|Role|Local|Tags|Cart\.\w+|Extra\.\w+)
WHO (?:[A-Z]|admin|late|me|old|other|thief\d?)
OP (?:Load|Create|Update|Replace|Touch|Delete)
TIME -?\d+(?:ns|s|m|h)
TEXT \w[\w :]*
RESULT \w[\w:, ]*`

var (
	scriptRuleName = regexp.MustCompile(`\b[A-Z]{2,}\b`)
	scriptLanguage = regexp.MustCompile(`^` + scriptRule("LINE") + `$`)
)

// scriptRule returns a regular expression for a rule.
func scriptRule(name string) string {
	var alternatives []string
	if name == "KIND" {
		for _, kind := range apiEvents {
			alternatives = append(alternatives, strings.ReplaceAll(string(kind), " ", "-"))
		}
	}
	for line := range strings.SplitSeq(scriptRules, "\n") {
		if rule, ok := strings.CutPrefix(line, name+" "); ok {
			alternatives = append(alternatives, scriptRuleName.ReplaceAllStringFunc(rule, scriptRule))
		}
	}
	return `(?:` + strings.Join(alternatives, "|") + `)`
}

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

// edited makes of N=1, N++, N*=2, Tags+=a, Cart.tea=1 or Cart.tea= the edit of d that
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

func TestEveryRuleOfTheScriptsIsUsedAndDocumented(t *testing.T) {
	var text strings.Builder
	for _, sc := range scenarios(t) {
		sc.variants(func(_ string, lines []scriptLine) {
			for _, line := range lines {
				text.WriteString(line.text + "\n")
			}
		})
	}
	readme := fileText(t, "testdata/scenarios/README.md")
	word := regexp.MustCompile(`(?:^|[ (|])([a-z][a-z-]+)\b`)
	for line := range strings.SplitSeq(strings.TrimSpace(scriptRules), "\n") {
		_, rule, _ := strings.Cut(line, " ")
		if !regexp.MustCompile(`(?m)(?:^| )` + scriptRuleName.ReplaceAllStringFunc(rule, scriptRule) + `(?:$|[ ,;=])`).MatchString(text.String()) {
			t.Errorf("no script uses the rule %q", line)
		}
		for _, m := range word.FindAllStringSubmatch(rule, -1) {
			if !regexp.MustCompile(`\b` + m[1] + `\b`).MatchString(readme) {
				t.Errorf("README.md lacks %q of the rule %q", m[1], line)
			}
		}
	}
}

func TestMisspeltScriptsAreRefused(t *testing.T) {
	const good = "== title\neach VERB | THEN\n\tN=1 | N=1\n\tN=2 | N=2\nA VERB\nA sees THEN\n"
	if _, err := parseScripts("good.txt", good); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"A N=1",                                // no title
		"== title",                             // no lines
		"==title\nA N=1",                       // a title without a space
		"== title\nA N=1\n\tN=2",               // a row without a table
		"== title\neach VERB\nA N=1",           // a table without rows
		strings.Replace(good, "N=1 | ", "", 1), // a row that lacks a cell
		strings.Replace(good, "\tN=2", "    N=2", 1),
		strings.Replace(good, "each VERB", "each VREB", 1),
		strings.Replace(good, "A VERB", "A VREB", 1),
		strings.Replace(good, "sees THEN", "sees THNE", 1),
		strings.Replace(good, "sees THEN", "sees N=1", 1),
	} {
		if _, err := parseScripts("misspelt.txt", text); err == nil {
			t.Errorf("a script was accepted:\n%s", text)
		}
	}
	for _, line := range []string{
		"confg owner", "config", "config ownr", "config limit", "config idle=1", "config owner=1", "modes owners", "modes  owner", "mode cookie",
		"pass", "pass 1", "pass 1h 2h", "keys", "keys rotat", "key rotate", "keys rotate now", "store work", "store fails", "store failz next Update",
		"store fails nxt Update", "store fails 4th Load", "store fails next Updat", "store fails next Update as lost", "store fails next Update not found",
		"records", "records one", "records 1 2", "forget", "forget event", "event late 0", "events", "events late", "events lat 0", "events late none",
		"events ended 0 reasn=spent", "events ended 1 reason", "events ended 1 id=", "events ended 1 spent",
		"a N=1", "A", "A copy B", "A copies", "A copies B C", "A see N=1", "A sees", "A sees N", "A sees n=1", "A sees M=1", "A sees N=1 =>", "A sees a sesion",
		"A sees no sesion", "A sees no session unknown", "A sees no session (un known)", "A has the id", "A has teh id of B", "A has another id of B",
		"A beside destroy", "A pause before Update: N=1", "A pauses befor Update: N=1", "A pauses before Updat: N=1", "A pauses before Update of: N=1",
		"A pauses before Update of B N=1", "A pauses before Update:", "A goes", "A goes onn", "A goes on => cookies", "A N=1 => ", "A N=1 =>cookie", "A N=1 => 2000",
		"A N=1 => cookie, cookies", "A begin now", "A begin; N=1", "A ends", "A N=1; ends", "A end; N=1", "A N=1;", "A N=1,N=2", "A N=1;N=2", "A Name=Ada;N=2",
		"A M=1", "A N", "A N=", "A N=x", "A N++1", "A N+++", "A N-=1", "A N=$N", "A UserID++", "A Name+=x", "A Name=Ada Lovelace", "A Tags=x", "A Tags+=$M", "A Cart=1",
		"A Cart.tea++", "A Cart.tea=x", "A Extra=x", "A Extra.name=$Nme", "A Seen=1", "A claer", "A clear N", "A become", "A become Ada", "A reads", "A read N",
		"A regenerate id", "A rotated", "A destroy B", "A reset now", "A lifetime", "A lifetime 1", "A lifetime long", "A flash", "A flash info", "A flash inf text",
		"A flashnow text", "A flashes inf -> x", "A flashes ->", "A save now", "A save ->ok", "A save -> ", "A saves -> ok", "A reload", "A headers 200", "A holds",
		"A holds N", "A holds M=1", "A holds N=1, N=2", "A lasts", "A lasts 1h", "A reason", "A new", "A new -> ", "A count 42", "A count -> 1", "A N=1 -> 1",
		"A update", "A update M++", "A update N++; if N=1 destroy", "A update if N:1 destroy", "A update if N=1, destroy", "A update if M=1 destroy", "A update fi N=1 destroy",
		"A update N++,destroy", "A update save", "A if N=1 destroy", "admin edit N++", "admin edit A", "admin edit A N++, M++", "admin edit A N++ ->ok", "admin edit A save",
		"admn revoke A", "admin revoke", "admin revoke A B", "admin revoke-owner", "admin revoke-owner A", "admin revoke-owner 42 B", "admin revoke-owner 42 excpt B",
		"admin revoke-owner 42 except B C", "admin revoke-owners 42", "admin revoke-label", "admin revoke-label a b -> 1 ok", "admin count 42 => 1",
	} {
		if _, err := parseScripts("misspelt.txt", "== title\n"+line); err == nil {
			t.Errorf("the line %q was accepted", line)
		}
	}
}
