package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// A user has three devices, one more than may be signed in. A user waits for the
// answers of a step before the next step, and so knows what the next answer must hold.
type user struct {
	name  string
	site  *site
	check *checker
	think time.Duration
	rand  *rand.Rand

	devices   []*device
	streams   []*openStream
	old       []oldCookie
	lastLogin time.Time
	changed   []time.Time // when sessions began, ended or got a new id, since the last recover
	doubt     bool        // such an operation failed: it may have been done or not
	writes    int
	history   []string
	cookieAge atomic.Int64 // when the oldest cookie of a live session came, in Unix nanoseconds
}

// newUser returns the user with a number, which is the seed of what the user does.
func newUser(number int, s *site, c *checker, think time.Duration) *user {
	u := &user{name: fmt.Sprintf("user%d", number), site: s, check: c, think: think, rand: rand.New(rand.NewPCG(uint64(number), 1))}
	for _, device := range []string{"laptop", "phone", "tablet"} {
		u.devices = append(u.devices, newDevice(device))
	}
	return u
}

func (u *user) note(format string, args ...any) {
	u.history = append(u.history, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	u.history = u.history[max(0, len(u.history)-60):]
}

// live does one step after another until living is done, and then checks everything
// once more, unless ctx is done too.
func (u *user) live(living, ctx context.Context) {
	for pause(living, time.Duration(float64(u.think)*(0.5+u.rand.Float64()))) {
		u.step(living)
		u.checkStreams()
		oldest := time.Now()
		for _, d := range u.devices {
			if d.signedIn && d.cookieAt.Before(oldest) {
				oldest = d.cookieAt
			}
		}
		u.cookieAge.Store(oldest.UnixNano())
	}
	u.finish(ctx)
}

// disturbed reports whether the user cannot know which sessions live: an operation
// failed, or the engine may have lost one that it acknowledged.
func (u *user) disturbed() bool {
	return u.doubt || slices.ContainsFunc(u.changed, u.check.mayBeLost)
}

func (u *user) step(ctx context.Context) {
	u.changed = slices.DeleteFunc(u.changed, func(at time.Time) bool { return time.Since(at) > 2*replicationLag && !u.check.mayBeLost(at) })
	if u.doubt || u.disturbed() && !u.check.losing() {
		u.recover(ctx)
		return
	}
	in := u.in()
	if len(in) == 0 {
		u.login(ctx, u.devices[u.rand.IntN(len(u.devices))])
		return
	}
	d := in[u.rand.IntN(len(in))]
	if d.hidden >= patience {
		u.giveUp(ctx, d)
		return
	}
	switch n := u.rand.IntN(100); {
	case n < 25:
		u.browse(d)
	case n < 40:
		u.browse(slices.MinFunc(in, func(a, b *device) int { return a.cookieAt.Compare(b.cookieAt) }))
	case n < 68:
		unsure := u.twoTabs(d)
		u.checkDiscarded(d, unsure, u.browse(d))
	case n < 74:
		u.open(d)
	case n < 79:
		u.rotate(d)
	case n < 84:
		u.logout(d)
	case n < 88:
		u.revokeOthers(d)
	case n < 94:
		out := slices.DeleteFunc(slices.Clone(u.devices), func(d *device) bool { return d.signedIn })
		u.login(ctx, out[u.rand.IntN(len(out))])
	default:
		if len(u.old) > 0 {
			u.tryOld(u.old[u.rand.IntN(len(u.old))])
		}
	}
}

// finish checks everything once more, signs out, and waits for the streams.
func (u *user) finish(ctx context.Context) {
	if !u.disturbed() && ctx.Err() == nil {
		for _, d := range u.in() {
			u.browse(d)
		}
		for _, old := range slices.Clone(u.old) {
			u.tryOld(old)
		}
		if in := u.in(); len(in) > 0 && !u.doubt {
			u.revokeOthers(in[0])
		}
		if in := u.in(); len(in) > 0 && !u.doubt {
			u.logout(in[0])
		}
	}
	for len(u.streams) > 0 {
		if u.disturbed() || ctx.Err() != nil {
			for _, s := range u.streams {
				s.cancel()
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
		u.checkStreams()
	}
}
