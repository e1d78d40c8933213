package sessions_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// A scenario is one script of testdata/scenarios, whose README.md has the language.
type scenario struct {
	title string
	at    string // file:line
	lines []scriptLine
	each  []scriptTable
}

type scriptLine struct{ at, text string }

// A scriptTable has the names that stand in a script for the cells of each row.
type scriptTable struct {
	names []string
	rows  [][]string
}

// scenarios reads all scripts.
func scenarios(t testing.TB) (all []*scenario) {
	t.Helper()
	files, err := filepath.Glob("testdata/scenarios/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("got the scripts %q, %v, want some", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parseScripts(file, string(text))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, parsed...)
	}
	return all
}

// parseScripts returns the scripts of a file. An unknown word is an error, since a line
// that does nothing would test nothing.
func parseScripts(file, text string) (all []*scenario, err error) {
	cells := regexp.MustCompile(`\s*\|\s*`)
	var sc *scenario
	inTable := false
	for i, line := range strings.Split(text, "\n") {
		at, indented := fmt.Sprintf("%s:%d", file, i+1), strings.HasPrefix(line, "\t")
		spaces := strings.HasPrefix(line, " ")
		line = strings.TrimSpace(line)
		title, isTitle := strings.CutPrefix(line, "== ")
		head, isTable := strings.CutPrefix(line, "each ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case spaces:
			return nil, fmt.Errorf("%s: %q is indented with spaces, need a tab", at, line)
		case isTitle:
			sc = &scenario{title: title, at: at}
			all = append(all, sc)
		case sc == nil || indented && !inTable:
			return nil, fmt.Errorf("%s: %q belongs to nothing", at, line)
		case isTable:
			sc.each = append(sc.each, scriptTable{names: cells.Split(head, -1)})
		case indented:
			table := &sc.each[len(sc.each)-1]
			row := cells.Split(line, -1)
			if len(row) != len(table.names) {
				return nil, fmt.Errorf("%s: got %d cells, want %d", at, len(row), len(table.names))
			}
			table.rows = append(table.rows, row)
		default:
			sc.lines = append(sc.lines, scriptLine{at, line})
		}
		inTable = isTable || indented
	}
	for _, sc := range all {
		if err := sc.check(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// check returns an error if the script has a line that is not of the language, or a
// table that changes nothing.
func (sc *scenario) check() (err error) {
	text := fmt.Sprint(sc.lines, sc.each)
	for _, table := range sc.each {
		if len(table.rows) == 0 {
			return fmt.Errorf("%s: the table %q has no rows", sc.at, table.names)
		}
		for _, name := range table.names {
			if len(regexp.MustCompile(`\b`+name+`\b`).FindAllString(text, 2)) < 2 {
				return fmt.Errorf("%s: nothing uses %s of the table %q", sc.at, name, table.names)
			}
		}
	}
	sc.variants(func(_ string, lines []scriptLine) {
		if len(lines) == 0 && err == nil {
			err = fmt.Errorf("%s: the script has no lines", sc.at)
		}
		for _, line := range lines {
			if err == nil && !scriptLanguage.MatchString(line.text) {
				err = fmt.Errorf("%s: %q is not of the language in README.md", line.at, line.text)
			}
		}
	})
	return err
}

// name returns the name of the scenario's subtest.
func (sc *scenario) name() string { return strings.ReplaceAll(sc.title, " ", "_") }

// variants calls f with the script for each combination of the rows of its tables.
func (sc *scenario) variants(f func(name string, lines []scriptLine)) {
	var fill func(name []string, tables []scriptTable, lines []scriptLine)
	fill = func(name []string, tables []scriptTable, lines []scriptLine) {
		if len(tables) == 0 {
			f(strings.Join(name, ", "), lines)
			return
		}
		for _, row := range tables[0].rows {
			filled := slices.Clone(lines)
			for i, cell := range row {
				word := regexp.MustCompile(`\b` + tables[0].names[i] + `\b`)
				for j := range filled {
					filled[j].text = word.ReplaceAllLiteralString(filled[j].text, cell)
				}
			}
			fill(append(slices.Clip(name), row[0]), tables[1:], filled)
		}
	}
	fill(nil, sc.each, sc.lines)
}

// TestScenarios runs what testdata/scenarios says of requests that overlap, by HTTP.
func TestScenarios(t *testing.T) {
	titles := map[string]string{}
	for _, sc := range scenarios(t) {
		if before := titles[sc.title]; before != "" {
			t.Fatalf("%s: the title stands at %s too", sc.at, before)
		}
		titles[sc.title] = sc.at
		t.Run(sc.name(), func(t *testing.T) {
			played := false
			sc.variants(func(name string, lines []scriptLine) {
				for _, m := range slices.Concat(modes, indexModes) {
					if applies(lines, m) {
						played = true
						t.Run(name+" in "+m.name, func(t *testing.T) {
							newKeys(t) // outside of the bubble: see init in helpers_test.go
							synctest.Test(t, func(t *testing.T) { play(t, m, lines) })
						})
					}
				}
			})
			if !played {
				t.Error("the script runs in no mode")
			}
		})
	}
}

// applies reports whether a script runs in the mode. It names those by "modes owner",
// "modes label" or "modes cookie"; else they are those of eachStore.
func applies(lines []scriptLine, m mode) bool {
	if !m.hasStore() {
		return slices.ContainsFunc(lines, func(l scriptLine) bool { return l.text == "modes cookie" })
	}
	_, owned := m.store().(sessions.OwnerStore)
	_, labelled := m.store().(sessions.LabelStore)
	for _, line := range lines {
		switch line.text {
		case "modes cookie":
			return false
		case "modes owner":
			return owned
		case "modes label":
			return labelled
		}
	}
	return !slices.ContainsFunc(indexModes, func(i mode) bool { return i.name == m.name })
}

// A player plays one script in one mode.
type player struct {
	t       *testing.T
	at      atomic.Value // the line that runs
	s       *site
	keys    *sessions.Keyring
	visitor *browser // without a cookie
	actors  map[string]*actor
	paused  chan chan bool // an operation of the store waits until it can send

	mu     sync.Mutex
	pause  string // "before Update": the next one of the store waits there
	faults []*fault
}

// A fault is what an operation of the store gives, before or after it is carried out.
type fault struct {
	at    string // as pause
	skip  int    // how many pass first
	every bool
	met   bool
	err   error
}

// An actor is a browser, or an administrator.
type actor struct {
	*browser
	id      string // the public id of its session, as its own requests know it
	s       *session
	w       http.ResponseWriter
	open    bool        // a request is under way
	ends    bool        // the handler has got its last step
	steps   chan func() // what the handler is to do
	idle    chan bool   // it has done that
	replies chan *reply // the answer to the request
	waits   chan bool   // it is paused until this is received from
}

func play(t *testing.T, m mode, lines []scriptLine) {
	p := &player{t: t, keys: newKeys(t), actors: map[string]*actor{}, paused: make(chan chan bool)}
	p.s = newSite(t, m, func(c *config) {
		c.Keys = p.keys
		for _, line := range lines {
			if words := strings.Fields(line.text); words[0] == "config" {
				configure(t, c, words[1:])
			}
		}
	})
	if p.s.store != nil {
		p.s.store.hook(func(op string, id sessions.ID) error { return p.meet("before "+op, id) },
			func(op string, id sessions.ID) error { return p.meet("after "+op, id) })
	}
	p.visitor = p.s.piped()
	t.Cleanup(p.release)
	for _, line := range lines {
		p.at.Store(line.at)
		p.line(line.text)
	}
	p.met(true)
}

// met checks whether the store has failed as the script says, and makes it work.
func (p *player) met(want bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		p.want("the store has failed "+f.at, f.every && f.met, want)
	}
	p.faults = nil
}

// release ends what a script that failed has left under way.
func (p *player) release() {
	p.mu.Lock()
	p.pause = ""
	p.mu.Unlock()
	for _, a := range p.actors {
		if a.waits != nil {
			<-a.waits
		}
		if a.open && !a.ends {
			close(a.steps)
		}
	}
}

func configure(t *testing.T, c *config, settings []string) {
	for _, setting := range settings {
		switch name, value, _ := strings.Cut(setting, "="); name {
		case "owner":
			if _, ok := c.Store.(sessions.OwnerStore); ok || c.Store == nil {
				c.Owner = ownerOfUser
			}
		case "labels":
			c.Labels = labelsOf
		case "limit":
			c.MaxPerOwner = number(t, value)
		case "idle":
			c.IdleTimeout = duration(t, value)
		case "lifetime":
			c.Lifetime = duration(t, value)
		default:
			t.Fatalf("there is no setting %q", setting)
		}
	}
}

func number(t testing.TB, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func duration(t testing.TB, text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// meet is called before and after each operation of the store.
func (p *player) meet(at string, id sessions.ID) error {
	if p.reached(at, id.String()) {
		waits := make(chan bool)
		p.paused <- waits
		waits <- true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, f := range p.faults {
		if f.at != at {
			continue
		}
		if f.skip--; f.skip >= 0 {
			continue
		}
		if f.met = true; !f.every {
			p.faults = slices.Delete(p.faults, i, i+1)
		}
		return f.err
	}
	return nil
}

// reached reports whether the operation is to pause there, once.
func (p *player) reached(at, id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pause != at && p.pause != at+" of "+id {
		return false
	}
	p.pause = ""
	return true
}

func (p *player) want(what string, got, want any) {
	p.t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		p.t.Errorf("%s: %s: got %s, want %s", p.at.Load(), what, g, w)
	}
}

// line plays a line of the script.
func (p *player) line(line string) {
	words := strings.Fields(line)
	switch words[0] {
	case "config", "modes": // before the first line
	case "pass":
		time.Sleep(duration(p.t, words[1]))
	case "keys": // rotate
		p.want("keys", p.keys.Replace(sessions.NewSecret(), testSecret), nil)
	case "store":
		p.fault(words[1:])
	case "records":
		p.want("the records in the store", len(p.s.store.live()), words[1])
	case "forget": // events
		p.s.events.reset()
	case "events":
		p.events(words[1], words[2], words[3:])
	default:
		name, rest, _ := strings.Cut(line, " ")
		if p.actors[name] == nil && words[1] != "sees" && words[1] != "has" {
			p.actors[name] = &actor{browser: p.visitor.clone(), idle: make(chan bool, 1), replies: make(chan *reply, 1)}
		}
		p.act(name, p.known(name), rest)
	}
}

// known returns an actor that has done something.
func (p *player) known(name string) *actor {
	a := p.actors[name]
	if a == nil {
		p.t.Fatalf("%s: nobody of the name %q has done anything yet", p.at.Load(), name)
	}
	return a
}

// fault plays "fails next Update", "loses 2nd Update", "fails every Delete as not found",
// "has not failed" and "works".
func (p *player) fault(words []string) {
	if words[0] == "has" || words[0] == "works" {
		p.met(words[0] == "works")
		return
	}
	f := &fault{at: "before " + words[2], every: words[1] == "every", skip: max(slices.Index([]string{"next", "2nd", "3rd"}, words[1]), 0), err: errLost}
	if words[0] == "loses" {
		f.at = "after " + words[2]
	}
	for _, err := range []error{sessions.ErrNotFound, sessions.ErrExists} {
		if strings.Join(words[3:], " ") == "as "+result(err) {
			f.err = err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, f)
}

// events compares the number of events of a kind, and what each of them says.
func (p *player) events(kind, n string, says []string) {
	found := p.s.events.of(sessions.EventKind(strings.ReplaceAll(kind, "-", " ")))
	p.want(fmt.Sprintf("the events %q of %v", kind, p.s.events.all), len(found), n)
	for _, e := range found {
		for _, say := range says {
			switch name, value, _ := strings.Cut(say, "="); name {
			case "reason":
				p.want("the reason of an event", e.Reason, value)
			case "owner":
				p.want("the owner of an event", e.Owner, value)
			case "id":
				p.want("the id of an event", e.ID, p.known(value).id)
			case "previous":
				p.want("the previous id of an event", e.Previous, p.known(value).id)
			case "names":
				p.want("an event's error names the session", strings.Contains(e.Err.Error(), p.known(value).id), true)
			case "err":
				p.want("the error of an event", strings.ReplaceAll(result(e.Err), " ", "-"), value)
			default:
				p.t.Fatalf("%s: events have no %q", p.at.Load(), say)
			}
		}
	}
}

// act plays what follows the name of an actor.
func (p *player) act(name string, a *actor, rest string) {
	before, other, _ := strings.Cut(rest, " ")
	switch before {
	case "copies":
		a.browser, a.id = p.known(other).clone(), p.known(other).id
		return
	case "sees":
		p.sees(name, a, other)
		return
	case "has": // the id of B; another id than B
		words := strings.Fields(other)
		p.want(rest, idOf(a.browser) == p.known(words[3]).id, words[0] == "the")
		return
	case "beside:":
		goroutine := *a // so that what both note of the actor is no data race
		go p.verbs(&goroutine, other)
		synctest.Wait() // until it has ended, or waits for a lock
		return
	}
	rest, answer, answered := strings.Cut(rest, " => ")
	steps, pauses := strings.CutPrefix(rest, "pauses ")
	if pauses {
		var at string
		at, steps, _ = strings.Cut(steps, ": ")
		if op, of, one := strings.Cut(at, " of "); one {
			at = op + " of " + p.known(of).id
		}
		p.mu.Lock()
		p.pause = at
		p.mu.Unlock()
	}
	switch {
	case steps == "goes on" || steps == "":
		if a.waits == nil {
			p.t.Fatalf("%s: %s is not paused", p.at.Load(), name)
		}
		<-a.waits
		a.waits = nil
	case name == "admin":
		go func() {
			p.verbs(a, steps)
			a.idle <- true
		}()
	default:
		p.request(a, steps)
	}
	select {
	case a.waits = <-p.paused:
		p.want("paused", true, pauses)
	case <-a.idle:
		p.want("paused, or answered", false, pauses || answered)
	case res := <-a.replies:
		a.open = false
		p.want("paused", false, pauses)
		p.answer(a, res, answer)
	}
	synctest.Wait() // for who is beside it
}

// request gives steps to the handler of the actor's request, which it begins if there
// is none.
func (p *player) request(a *actor, steps string) {
	begins, ends := steps == "begin", steps == "end" || strings.HasSuffix(steps, "; end")
	if begins && a.open || ends && !a.open {
		p.t.Fatalf("%s: a request begins that is under way, or ends that has not begun", p.at.Load())
	}
	ends = ends || !a.open && !begins
	a.ends = ends
	step := func() {
		if p.verbs(a, steps); !ends {
			a.idle <- true
		}
	}
	if a.open {
		a.steps <- step
	} else {
		a.open, a.steps = true, make(chan func(), 1)
		a.steps <- step // a load that fails or waits leaves it there
		steps := a.steps
		go func() {
			a.replies <- a.serve(func(w http.ResponseWriter, r *http.Request) {
				a.s, a.w = sessions.Get[AppSession](r.Context()), w
				for step := range steps {
					step()
				}
			})
		}()
	}
	if ends {
		close(a.steps)
	}
}

// answer checks an answer: "200" unless another status is named, "cookie", "no cookie"
// or "expired cookie".
func (p *player) answer(a *actor, res *reply, want string) {
	status, lines := "200", res.setCookies()
	for _, what := range strings.Split(want, ", ") {
		switch what {
		case "":
		case "cookie", "expired cookie":
			p.want("the cookies "+strings.Join(lines, "; "), len(lines) == 1 && (a.cookie() == "") == (what != "cookie"), true)
		case "no cookie":
			p.want("the cookies", res.Header["Set-Cookie"], []string{})
		default:
			status = what
		}
	}
	p.want("the status", res.StatusCode, status)
}

// sees compares the session of the actor's cookie: its fields, or "no session", with
// the reason.
func (p *player) sees(name string, a *actor, want string) {
	d, reason := a.peek()
	if why, none := strings.CutPrefix(want, "no session"); none {
		p.want(fmt.Sprintf("a session of %s, %+v", name, d), reason == sessions.ReasonNone, false)
		if why != "" {
			p.want("the reason", reason, strings.Trim(why, " ()"))
		}
		return
	}
	p.want("why "+name+" has no session", reason, "")
	p.fields(&d, want)
}

func (p *player) fields(d *AppSession, want string) {
	if want == "a session" {
		return
	}
	for _, f := range strings.Fields(want) {
		name, value, _ := strings.Cut(f, "=")
		p.want(name, field(d, name), value)
	}
}
