package main

import "math"

// formula returns what simulate finds if no user gives up, with users as a fluid:
// users/back*exp(-t/back) come, and servers/hash are served.
func (r loginRush) formula() (queue, wait, end float64) {
	users, capacity := float64(r.users), float64(r.servers)/r.hash
	load := users / r.back / capacity // at first
	if load <= 1 {
		return 0, 0, 0
	}
	queue = users * (1 - (1+math.Log(load))/load)
	// Those who have come and were not served are as many as are served in a second.
	end = users / capacity
	for range 100 {
		end = users*(1-math.Exp(-end/r.back))/capacity - 1
	}
	return queue, queue / capacity, end
}

// conflicts returns how many compare-and-sets fail for each that succeeds, and how
// many succeed in a second, if there are always many requests.
//
// The first try of a request fails, since others succeed all the time. The process
// that succeeded last goes on with what it has stored, a window later, before anybody
// else who has loaded that. It loads after maxChain turns only, and a process that loads
// just before is the next. The processes that wait for that fail meanwhile, once in
// a cycle.
func (h hotUser) conflicts() (failed, rate float64) {
	window, load := h.trip+h.redis+h.work, h.trip+h.redis
	others := float64(min(h.requests, h.processes) - 1)
	chain := maxChain + 1.0
	gap := window + load/chain
	fails := 1 - load/(chain*gap) // the probability, for a process that loads at a random time
	cycle, again := load+window, 1-fails
	for try := range 200 {
		cycle += again * meanPause(try)
		again *= fails
	}
	return 1 + others*gap/cycle, 1 / gap
}

// touches returns the rate of Touches of a session whose requests come at random, at
// a rate: the first request after a tenth of the idle timeout moves it.
func touches(rate, idle float64) float64 { return 1 / (idle/10 + 1/rate) }

// processesSeen returns by how many of the processes a user was served after
// a number of requests that each go to any of them.
func processesSeen(processes, requests float64) float64 {
	return processes * (1 - math.Pow(1-1/processes, requests))
}
