package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/typedsessions/sessions"
)

// A schedule makes the faults, one after another.
type schedule struct {
	engine *engine
	site   *site
	users  []*user
	check  *checker
	out    io.Writer

	deployed int // deployments so far
}

// run makes the faults in turn, each of them about once a minute, five times in a run
// of more than five minutes, and once in one of less than a minute. It begins no fault
// after living is done, and ends the one that it has begun unless ctx is done.
func (s *schedule) run(living, ctx context.Context, faults []string, d time.Duration) error {
	begun := time.Now()
	// A longer run has as few faults as one of five minutes, so that processes grow old.
	interval := min(d*3/4, max(time.Minute, d/5)) / time.Duration(len(faults))
	for i := 0; ; i++ {
		next := begun.Add(interval/2 + time.Duration(i)*interval)
		if next.Sub(begun) > d*4/5 {
			return nil
		}
		if !pause(living, max(time.Until(next), min(3*time.Second, interval/2))) {
			return nil
		}
		if err := s.do(living, ctx, faults[i%len(faults)], i); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// notMade returns the faults that were never made.
func (s *schedule) notMade(faults []string) []string {
	return slices.DeleteFunc(slices.Clone(faults), func(name string) bool {
		return slices.ContainsFunc(s.check.faults, func(f *fault) bool { return f.name == name })
	})
}

func (s *schedule) do(living, ctx context.Context, name string, i int) (err error) {
	var ofEngine engineFault
	if at := slices.IndexFunc(s.engine.faults, func(f engineFault) bool { return f.name == name }); at >= 0 {
		ofEngine = s.engine.faults[at]
	}
	f := s.check.begin(fault{name: name, engine: ofEngine.do != nil, loses: ofEngine.loses})
	fmt.Fprintf(s.out, "%s fault: %s\n", time.Now().Format("15:04:05.000"), name)
	note := ""
	defer func() { s.check.end(f, note) }()
	switch name {
	case "process":
		s.site.killProcess()
		return s.site.addProcess(ctx)
	case "keys":
		note, err = s.rotateKeys(living, ctx)
		return err
	case "deploy":
		note, err = s.deploy(ctx)
		return err
	case "clocks":
		return s.skewClocks(ctx)
	}
	note, err = ofEngine.do(ctx, i)
	return err
}

// rotateKeys replaces the secret of the key ring in the three steps of
// docs/OPERATIONS.md.
func (s *schedule) rotateKeys(living, ctx context.Context) (note string, err error) {
	old, fresh := s.site.secrets[0], sessions.NewSecret()
	if err := s.site.setSecrets(ctx, old, fresh); err != nil {
		return "", err
	}
	if err := s.site.setSecrets(ctx, fresh, old); err != nil {
		return "", err
	}
	// The old secret can be removed when no live session has a cookie that it signed.
	// Here, that is when every user has used every session since the second step.
	signs := time.Now()
	err = eventually(living, "some sessions were not used", func() bool {
		for _, u := range s.users {
			if u.cookieAge.Load() < signs.UnixNano() {
				return false
			}
		}
		return true
	})
	if err != nil {
		return "the old secret stays, since some sessions were not used meanwhile", nil
	}
	return "all three steps", s.site.setSecrets(ctx, fresh)
}
