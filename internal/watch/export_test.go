package watch

// Size returns how many sessions and watchers s holds, for tests.
func (s *Set) Size() (sessions, queued, watchers int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions), len(s.queue) + len(s.failing), int(s.count.Load())
}
