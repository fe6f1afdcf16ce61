//go:build !race

package runner

// raceEnabled is set where the tests run under the race detector.
const raceEnabled = false
