package main

// A loginRush is what happens after a shard has lost its sessions: its users find
// themselves signed out with their next request, sign in again, and the processors
// that check passwords are too few.
type loginRush struct {
	users   int
	back    float64 // the mean time until a user comes back
	hash    float64 // the time to check a password
	servers int     // processors that do it

	// Users who have waited for about so long, from half of it to half as much again,
	// give up and try again at once. Zero means that they wait.
	patience float64
	// With heeds, no password is checked for a user who has given up.
	heeds bool
	// With refuses, users who would wait for more than half of the patience are asked
	// to come back later.
	refuses bool
}

type loginResult struct {
	signedIn, refused int
	wasted            int     // passwords that were checked for users who gave up
	queue             int     // the longest
	wait              float64 // the longest
	end               float64 // when a user last waited for a second
}

// horizon is how long a rush is watched that may not end.
const horizon = 300

func (r loginRush) simulate(seed uint64) (result loginResult) {
	s := newSimulation(seed)
	cpus := &station{simulation: s, servers: r.servers}
	var try func()
	later := func() { s.after(s.exponential(r.back), try) }
	try = func() {
		if s.now > horizon {
			return
		}
		if r.refuses && float64(len(cpus.queue))*r.hash/float64(r.servers) > r.patience/2-r.hash {
			result.refused++
			later()
			return
		}
		began, answered, gone, checked := s.now, false, false, true
		if r.patience > 0 {
			s.after(r.patience*(0.5+s.rand.Float64()), func() {
				if gone = !answered; gone {
					try()
				}
			})
		}
		cpus.serve(func() float64 {
			if s.now-began > 1 && s.now <= horizon {
				result.end = s.now
			}
			if checked = !r.heeds || !gone; checked {
				return r.hash
			}
			return 0
		}, func() {
			answered = true
			switch {
			case s.now > horizon:
			case !gone:
				result.signedIn++
				result.wait = max(result.wait, s.now-began-r.hash)
			case checked:
				result.wasted++
			}
		})
	}
	for range r.users {
		later()
	}
	s.run()
	result.queue = cpus.peak
	return result
}
