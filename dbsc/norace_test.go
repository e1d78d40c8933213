//go:build !race

package dbsc

const raceEnabled = false
