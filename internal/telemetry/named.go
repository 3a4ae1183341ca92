package telemetry

import "time"

// Since adds the time since start to the samples of a declared name, which is given
// in parts.
func Since(name []string, start time.Time) {
	n := process.find(name, KindSample, nil)
	n.add(float64(time.Since(start))/float64(time.Millisecond), &n.in)
}
