package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"

	"github.com/typedsessions/sessions"
)

// A Ticker returns the clock of one stream. The stream ends when the channel is
// closed.
type Ticker func() <-chan time.Time

// EverySecond is the Ticker of the programs. The tests send the ticks themselves.
func EverySecond() <-chan time.Time { return time.Tick(time.Second) }

// Count counts the ticks in the session and sends each number as an event, until
// ctx is done, the clock stops, send fails or the session has ended. It saves
// the session between the events: other requests see the number at once. The
// stream ends as soon as the session does, wherever the user signs out.
func Count(ctx context.Context, sess *sessions.Session[AppSession], tick <-chan time.Time, send func(event, data string) error) {
	ctx, cancel := sess.Watch(ctx)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			if err := context.Cause(ctx); errors.Is(err, sessions.ErrNotFound) {
				_ = send("end", ending(err))
			}
			return
		case _, ok := <-tick:
			if !ok {
				return
			}
		}
		sess.Update(func(s *AppSession) { s.Seconds++ })
		if err := sess.Save(ctx); err != nil {
			_ = send("end", ending(err))
			return
		}
		if send("second", strconv.Itoa(sess.Data.Seconds)) != nil {
			return
		}
	}
}

// Events returns a handler that sends server-sent events with net/http alone, for
// the frameworks that take handlers of net/http.
func Events(tick Ticker) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if sess.Data.User == "" {
			http.Error(w, "Please sign in first", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		out := http.NewResponseController(w)
		if out.Flush() != nil {
			return
		}
		Count(r.Context(), sess, tick(), func(event, data string) error {
			fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data)
			return out.Flush()
		})
	}
}

// Chat answers each message over a WebSocket with the name of the user and the
// number of the message. The number is saved while the connection is open. The
// connection is closed as soon as the session ends, wherever the user signs out.
func Chat(w http.ResponseWriter, r *http.Request) {
	sess := sessions.Get[AppSession](r.Context())
	if sess.Data.User == "" {
		http.Error(w, "Please sign in first", http.StatusUnauthorized)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	ctx, cancel := sess.Watch(r.Context())
	defer cancel()
	context.AfterFunc(ctx, func() {
		if err := context.Cause(ctx); errors.Is(err, sessions.ErrNotFound) {
			_ = conn.Close(websocket.StatusPolicyViolation, ending(err))
		}
	})
	for {
		_, text, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		sess.Update(func(s *AppSession) { s.Messages++ })
		if err := sess.Save(r.Context()); err != nil {
			_ = conn.Close(websocket.StatusPolicyViolation, ending(err))
			return
		}
		answer := fmt.Appendf(nil, "%s %d: %s", sess.Data.User, sess.Data.Messages, text)
		if conn.Write(r.Context(), websocket.MessageText, answer) != nil {
			return
		}
	}
}

// ending returns the text that tells users why their stream ends.
func ending(err error) string {
	switch {
	case errors.Is(err, sessions.ErrNotFound):
		return "You have signed out"
	case errors.Is(err, sessions.ErrTooLate):
		return "A session in a cookie cannot be saved in the middle of a response"
	}
	return "The session could not be saved"
}
