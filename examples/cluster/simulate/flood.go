package main

// A flood is anonymous visitors, such as bots, none of whom sends a cookie back.
type flood struct {
	rate     float64 // visitors in a second
	keeps    float64 // the share of them for whom the handler changes Data
	lifetime float64 // Config.AnonymousLifetime
	max      int     // MemoryStore.Max, less the sessions with an owner; 0: no bound
	time     float64
}

type floodResult struct {
	live    float64 // the mean, after the first lifetime
	most    int
	evicted int
	age     float64 // the mean age of those that were evicted
}

func (f flood) simulate(seed uint64) (result floodResult) {
	s := newSimulation(seed)
	var births []float64 // of the sessions that live, the oldest first
	var crowd, since float64
	count := func() {
		if from := max(since, f.lifetime); s.now > from {
			crowd += float64(len(births)) * (s.now - from)
		}
		since = s.now
	}
	var visit func()
	visit = func() {
		if s.now >= f.time {
			return
		}
		s.after(s.exponential(1/f.rate), visit)
		count()
		for len(births) > 0 && births[0]+f.lifetime <= s.now {
			births = births[1:]
		}
		if s.rand.Float64() >= f.keeps {
			return // nothing is stored, and no cookie is sent
		}
		if f.max > 0 && len(births) == f.max {
			result.evicted++
			result.age += s.now - births[0]
			births = births[1:]
		}
		births = append(births, s.now)
		result.most = max(result.most, len(births))
	}
	visit()
	s.run()
	result.live = crowd / (since - f.lifetime)
	result.age /= float64(max(result.evicted, 1))
	return result
}

// formula returns the mean number of live sessions by Little's law, and the age at
// which a session gives way, 0 if none has to.
func (f flood) formula() (live, age float64) {
	live = f.rate * f.keeps * f.lifetime
	if f.max > 0 && live > float64(f.max) {
		return float64(f.max), float64(f.max) / (f.rate * f.keeps)
	}
	return live, 0
}
