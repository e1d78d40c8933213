package main

import "time"

// A series counts the requests of each second.
type series struct{ sent, failed []float64 }

func (s *series) add(at time.Duration, failed bool) {
	for i := int(at.Seconds()); len(s.sent) <= i; {
		s.sent, s.failed = append(s.sent, 0), append(s.failed, 0)
	}
	i := int(at.Seconds())
	s.sent[i]++
	if failed {
		s.failed[i]++
	}
}
