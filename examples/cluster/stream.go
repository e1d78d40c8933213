package main

import (
	"bufio"
	"context"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// An openStream is a stream of a device, which must end soon after its session, and not
// before.
type openStream struct {
	device *device
	opened time.Time
	cancel context.CancelFunc
	done   chan struct{} // is closed when the stream has ended
	told   atomic.Bool   // the stream reported that the session has ended

	mustEnd time.Time // when the session ended; zero while it lives
	stored  time.Time // when that session got its id
}

// open opens a stream, unless there are many.
func (u *user) open(d *device) {
	if len(u.streams) >= 6 {
		return
	}
	r := reply{begun: time.Now()}
	ctx, cancel := context.WithCancel(context.Background())
	s := &openStream{device: d, opened: r.begun, cancel: cancel, done: make(chan struct{})}
	req, err := http.NewRequestWithContext(ctx, "GET", u.site.url+"/stream", nil)
	if err != nil {
		panic(err)
	}
	res, err := (&http.Client{Transport: transport, Jar: d.jar}).Do(req)
	if err == nil {
		r.status, r.release = res.StatusCode, res.Header.Get(releaseHeader)
	}
	u.check.request("GET /stream", r.begun, r.status, r.unknown())
	u.note("%s: GET /stream: %d", d.name, r.status)
	if !r.ok() {
		cancel()
		if err == nil {
			res.Body.Close()
		}
		if !r.unknown() {
			u.missing(d, r.release)
		}
		return
	}
	u.used(d, r.begun)
	u.streams = append(u.streams, s)
	go func() {
		defer close(s.done)
		defer res.Body.Close()
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if lines.Text() == streamEnded {
				s.told.Store(true)
			}
		}
	}()
}

// checkStreams forgets the streams that have ended. It checks that a stream ends if its
// session has ended, and only then, but for faults.
func (u *user) checkStreams() {
	u.streams = slices.DeleteFunc(u.streams, func(s *openStream) bool {
		select {
		case <-s.done:
			if !s.mustEnd.IsZero() || u.disturbed() || s.device.mayBeIdle() {
				return true
			}
			if s.told.Load() {
				u.check.violate(u, "a stream of %s reports the end of a session that lives, want it to go on", s.device.name)
			} else if !u.check.mayEndStreams(s.opened) {
				u.check.violate(u, "a stream of %s has ended without a fault, want it to go on", s.device.name)
			}
			return true
		default:
		}
		if s.mustEnd.IsZero() {
			return false
		}
		if u.check.mayBeLost(s.mustEnd) || u.check.mayBeLost(s.stored) {
			s.cancel() // the end may be undone
			return true
		}
		if by, ok := u.check.streamsEndBy(s.mustEnd); ok && time.Now().After(by) {
			u.check.violate(u, "a stream of %s goes on %.1f s after its session has ended, want it to end by %s", s.device.name,
				time.Since(s.mustEnd).Seconds(), by.Format("15:04:05.000"))
			s.cancel()
			return true
		}
		return false
	})
}
