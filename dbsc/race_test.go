//go:build race

package dbsc

// raceEnabled: sync.Pool drops at random under the race detector.
const raceEnabled = true
