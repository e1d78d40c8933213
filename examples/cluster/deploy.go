package main

import (
	"context"
	"fmt"
	"time"
)

// deployments are the releases that follow each other, forward and back.
var deployments = []string{release10, release11, release20, release11}

// deploy replaces all processes, one after another, by those of the next release.
func (s *schedule) deploy(ctx context.Context) (note string, err error) {
	old := s.site.release()
	s.deployed++
	next := deployments[s.deployed%len(deployments)]
	s.check.release(next)
	s.site.setRelease(next)
	begun := time.Now()
	for _, p := range s.site.processes() {
		if err := s.site.addProcess(ctx); err != nil {
			return "", err
		}
		if err := s.site.retireProcess(ctx, p); err != nil {
			return "", err
		}
		// The users meet both releases for a while.
		if !pause(ctx, time.Second) {
			return "", ctx.Err()
		}
	}
	return fmt.Sprintf("%s to %s in %.1f s", old, next, time.Since(begun).Seconds()), nil
}
