package node

import (
	"testing"
	"time"
)

// TestCoordinatesAreToldMoreSeldomInALargePool reckons with the rate that servers
// take.
func TestCoordinatesAreToldMoreSeldomInALargePool(t *testing.T) {
	for nodes, least := range map[int]time.Duration{1: 15 * time.Second, 960: 15 * time.Second, 6400: 100 * time.Second} {
		for range 100 {
			if got := coordinateWait(nodes); got < least || got > 2*least {
				t.Fatalf("%d nodes: got %s, want %s to twice that", nodes, got, least)
			}
		}
	}
}
