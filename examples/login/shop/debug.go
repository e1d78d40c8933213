package shop

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/dbsc"
)

// maxEvents is how many events the page /debug/sessions shows.
const maxEvents = 50

// An eventLog keeps the last events of all sessions. Its zero value is empty and
// ready to use. It is safe for concurrent use.
type eventLog struct {
	mu     sync.Mutex
	events [maxEvents]loggedEvent
	count  int // events since the start, also those that are no longer kept
}

type loggedEvent struct {
	sessions.Event
	At time.Time
}

// Time formats At with milliseconds, since events that belong together have the
// same second.
func (e loggedEvent) Time() string { return e.At.UTC().Format("15:04:05.000") }

// ShortID returns the beginning of the id, which is enough to find it in a log.
func (e loggedEvent) ShortID() string { return e.ID[:min(len(e.ID), 10)] }

// note adds an event. It is a value for Config.OnEvent.
func (l *eventLog) note(_ context.Context, e sessions.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events[l.count%maxEvents] = loggedEvent{e, time.Now()}
	l.count++
}

// noteDevice adds an event of a device, as one of its session. It is a value for
// dbsc.Options.OnEvent.
func (l *eventLog) noteDevice(ctx context.Context, e dbsc.Event) {
	l.note(ctx, sessions.Event{
		Kind: "device " + sessions.EventKind(e.Kind), Reason: sessions.Reason(e.Reason), ID: e.ID, Err: e.Err,
	})
}

// last returns the last events, the newest first.
func (l *eventLog) last() []loggedEvent {
	l.mu.Lock()
	defer l.mu.Unlock()
	var events []loggedEvent
	for i := l.count; i > max(0, l.count-maxEvents); i-- {
		events = append(events, l.events[(i-1)%maxEvents])
	}
	return events
}

// debug shows what the session of this browser holds, and the last events of all
// sessions. It is for development only, since it does not ask for a sign-in.
func (a *App) debug(w http.ResponseWriter, r *http.Request) {
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
