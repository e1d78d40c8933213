package main

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/typedsessions/sessions"
)

// maxEvents is how many events the page /debug/sessions goes back.
const maxEvents = 50

// An eventLog keeps the last events of all sessions. Its zero value is empty
// and ready, and any number of requests may note events at once.
type eventLog struct {
	mu     sync.Mutex
	events [maxEvents]loggedEvent
	count  int // of all that were ever noted
}

type loggedEvent struct {
	sessions.Event
	At time.Time
}

// Time is to the millisecond, since what belongs together happens at once.
func (e loggedEvent) Time() string { return e.At.UTC().Format("15:04:05.000") }

// ShortID is enough of the id to find it in a log.
func (e loggedEvent) ShortID() string { return e.ID[:min(len(e.ID), 10)] }

// note is made for Config.OnEvent.
func (l *eventLog) note(_ context.Context, e sessions.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events[l.count%maxEvents] = loggedEvent{e, time.Now()}
	l.count++
}

// last returns the events that are kept, the newest first.
func (l *eventLog) last() []loggedEvent {
	l.mu.Lock()
	defer l.mu.Unlock()
	var events []loggedEvent
	for i := l.count; i > max(0, l.count-maxEvents); i-- {
		events = append(events, l.events[(i-1)%maxEvents])
	}
	return events
}

// debug shows what the session of this browser holds and what happened to all
// of them of late. It asks nobody who he is, so it is for development only.
func (a *app) debug(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	data, err := json.MarshalIndent(sess.Data, "", "  ")
	if err != nil {
		fail(w, r, err)
		return
	}
	a.render(w, r, "debug", "Sessions, from inside", struct {
		Session *sessions.Session[AppSession]
		Data    string
		Events  []loggedEvent
	}{sess, string(data), a.events.last()})
}
