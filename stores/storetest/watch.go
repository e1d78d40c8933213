package storetest

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"
)

// A watch bounds a call of an operation. If the call hangs, the test is lost, and the
// goroutine of the call is given up.
type watch struct {
	t      *tester
	wait   wait
	cancel func() // ends the context of the call

	mu       sync.Mutex
	timer    *time.Timer
	began    time.Time
	ended    bool
	stack    string // where the call was shortly before the end of its time
	canceled bool
}

// watchCall watches a call.
func watchCall(t *tester, w wait, began time.Time, cancel func()) *watch {
	a := &watch{t: t, wait: w, cancel: cancel}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.began, a.timer = began, time.AfterFunc(a.wait.Duration*9/10, a.expired)
	return a
}

// begin gives the call its time again, after end.
func (a *watch) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.began, a.ended, a.stack = time.Now(), false, ""
	a.timer.Reset(a.wait.Duration * 9 / 10)
}

// expired is called by the timer.
func (a *watch) expired() {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.ended:
	case time.Since(a.began) < a.wait.Duration/2: // begin was called meanwhile
	case a.stack == "":
		a.stack = a.t.stackOf(a.wait.op)
		a.timer.Reset(a.wait.Duration / 10)
	case !a.canceled:
		a.canceled = true
		a.cancel()
		a.timer.Reset(a.wait.grace())
	default:
		a.ended = true
		if a.t.over() {
			return // another call hung first
		}
		a.t.patience.failed(a.wait, time.Since(a.began))
		giveUp()
		a.t.lose("%s: %v, nor within %v after its context ended. It is here:\n%s", a.wait.op, a.wait.err(), a.wait.grace(), a.stack)
	}
}

// end notes that the call returned err. The result is what is wrong with that, "" if
// the call returned in time.
func (a *watch) end(err error) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.timer.Stop()
	if a.ended {
		return ""
	}
	a.ended = true
	took := time.Since(a.began)
	if unexpected(err) {
		a.t.patience.failed(a.wait, took)
	}
	if took < a.wait.Duration || a.stack == "" && !unexpected(err) {
		return ""
	}
	a.t.patience.failed(a.wait, took)
	text := fmt.Sprintf("%v; when its context ended, it returned the error %v", a.wait.err(), err)
	if a.stack != "" {
		text += ". Before, it was here:\n" + a.stack
	}
	return text
}

// givenUp has the numbers of the goroutines that hung in earlier tests.
var givenUp sync.Map

// stacks returns the stacks of the goroutines that call a store, by number, without
// those that were given up before.
func stacks() map[string][]byte {
	b := make([]byte, 1<<20)
	n := runtime.Stack(b, true)
	for n == len(b) && n < 1<<26 {
		b = make([]byte, 2*n)
		n = runtime.Stack(b, true)
	}
	found := map[string][]byte{}
	for stack := range bytes.SplitSeq(b[:n], []byte("\n\n")) {
		number, _, _ := bytes.Cut(bytes.TrimPrefix(stack, []byte("goroutine ")), []byte(" "))
		if _, ok := givenUp.Load(string(number)); !ok && bytes.Contains(stack, []byte("/storetest.protect(")) {
			found[string(number)] = stack
		}
	}
	return found
}

// stackOf returns the stack of a goroutine that calls op. All calls of op in the test
// get the same one, since a dump stops all goroutines, and a hundred may hang.
func (t *tester) stackOf(op string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hanging[op] != "" {
		return t.hanging[op]
	}
	if t.hanging == nil {
		t.hanging = map[string]string{}
	}
	t.hanging[op] = "(its goroutine is not found)"
	for _, stack := range stacks() {
		if bytes.Contains(stack, []byte(")."+op+"(")) {
			t.hanging[op] = ofStore(stack)
		}
	}
	return t.hanging[op]
}

// giveUp notes that the goroutines that call a store now are those of a test that is
// lost.
func giveUp() {
	for number := range stacks() {
		givenUp.Store(number, true)
	}
}

// ofStore returns a stack without the calls of the guard, before a panic, and above
// the test or a server.
func ofStore(stack []byte) string {
	if _, after, ok := bytes.Cut(stack, []byte("\npanic(")); ok {
		_, after, _ = bytes.Cut(after, []byte("\n"))
		_, stack, _ = bytes.Cut(after, []byte("\n"))
	}
	var kept []string
	for lines := strings.Split(string(stack), "\n"); len(lines) > 1; {
		if strings.HasPrefix(lines[0], "goroutine ") {
			kept, lines = append(kept, lines[0]), lines[1:]
			continue
		}
		call, place := lines[0], lines[1]
		if strings.HasPrefix(call, "created by ") || strings.HasPrefix(call, "net/http.") || strings.Contains(place, "/storetest/tester.go:") {
			break
		}
		if !strings.Contains(place, "/storetest/guard.go:") {
			kept = append(kept, call, place)
		}
		lines = lines[2:]
	}
	return strings.Join(kept, "\n")
}
